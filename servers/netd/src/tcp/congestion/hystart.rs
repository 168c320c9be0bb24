//! HyStart++ (RFC 9406): the end of slow start before there is loss, from round-trip times that
//! grow.

use super::Ack;
use crate::wire::tcp::Seq;

/// RFC 9406 4.3.
const MIN_RTT_THRESH: u32 = 4_000;
const MAX_RTT_THRESH: u32 = 16_000;
const MIN_RTT_DIVISOR: u32 = 8;
const N_RTT_SAMPLE: u8 = 8;
const CSS_GROWTH_DIVISOR: u32 = 4;
const CSS_ROUNDS: u8 = 5;
/// No round-trip time yet.
const NONE: u32 = u32::MAX;

/// The state. Times in µs: there are many connections.
#[derive(Clone, Copy, Debug)]
pub struct HyStart {
    /// The round is over when this is acknowledged.
    window_end: Seq,
    /// Samples in this round.
    samples: u8,
    /// Rounds of conservative slow start so far; 0: not in it.
    css_rounds: u8,
    /// Slow start has ended: this was for the first one only (RFC 9406 4.3).
    over: bool,
    last_min: u32,
    current_min: u32,
    css_baseline: u32,
}

impl HyStart {
    pub const fn new(iss: Seq) -> Self {
        Self {
            window_end: iss,
            samples: 0,
            css_rounds: 0,
            over: false,
            last_min: NONE,
            current_min: NONE,
            css_baseline: NONE,
        }
    }

    /// Slow start has ended, by loss or by this.
    pub fn leave(&mut self) {
        (self.over, self.css_rounds) = (true, 0);
    }

    /// By how much growth is divided.
    pub fn divisor(&self) -> u32 {
        if self.css_rounds > 0 { CSS_GROWTH_DIVISOR } else { 1 }
    }

    /// An ACK in slow start; `true`: slow start ends.
    pub fn on_ack(&mut self, ack: &Ack) -> bool {
        if self.over {
            return false;
        }
        if self.window_end.le(ack.una) && self.round(ack) {
            return true;
        }
        if ack.rtt == 0 {
            return false;
        }
        self.current_min = self.current_min.min((ack.rtt / 1000).min(NONE as u64 - 1) as u32);
        self.samples = self.samples.saturating_add(1);
        if self.samples < N_RTT_SAMPLE {
            return false;
        }
        if self.css_rounds > 0 {
            if self.current_min < self.css_baseline {
                // It was not the queue: slow start goes on.
                (self.css_rounds, self.css_baseline) = (0, NONE);
            }
        } else if self.last_min != NONE {
            let thresh = (self.last_min / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
            if self.current_min >= self.last_min + thresh {
                (self.css_rounds, self.css_baseline) = (1, self.current_min);
            }
        }
        false
    }

    /// A round is over; `true`: it was the last of conservative slow start.
    fn round(&mut self, ack: &Ack) -> bool {
        self.window_end = ack.max;
        (self.last_min, self.current_min, self.samples) = (self.current_min, NONE, 0);
        if self.css_rounds > 0 {
            if self.css_rounds == CSS_ROUNDS {
                self.leave();
                return true;
            }
            self.css_rounds += 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A round of `n` ACKs of one byte each with round-trip time `rtt`; whether slow start ended.
    fn round(h: &mut HyStart, una: &mut Seq, n: u32, rtt: u64) -> bool {
        let mut over = false;
        for _ in 0..n {
            *una = *una + 1;
            let ack = Ack { acked: 1, una: *una, max: *una + n, rtt, srtt: rtt, now: 0 };
            over |= h.on_ack(&ack);
        }
        over
    }

    #[test]
    fn growing_delay_ends_slow_start_after_five_careful_rounds() {
        let (mut h, mut una) = (HyStart::new(Seq(0)), Seq(0));
        for _ in 0..5 {
            assert!(!round(&mut h, &mut una, 10, 40 * MS));
        }
        assert!(!round(&mut h, &mut una, 10, 44 * MS));
        assert_eq!(h.divisor(), 1, "4 ms more is less than an eighth of 40 ms");
        assert!(!round(&mut h, &mut una, 10, 50 * MS));
        assert_eq!(h.divisor(), 4);
        let rounds = (1..10).find(|_| round(&mut h, &mut una, 10, 55 * MS));
        assert_eq!(rounds, Some(5));
        assert_eq!(h.divisor(), 1);
    }

    #[test]
    fn delay_that_goes_away_was_no_queue() {
        let (mut h, mut una) = (HyStart::new(Seq(0)), Seq(0));
        round(&mut h, &mut una, 10, 40 * MS);
        round(&mut h, &mut una, 10, 40 * MS);
        round(&mut h, &mut una, 10, 60 * MS);
        assert_eq!(h.divisor(), 4);
        round(&mut h, &mut una, 10, 41 * MS);
        assert_eq!(h.divisor(), 1);
    }

    #[test]
    fn few_samples_prove_nothing() {
        let (mut h, mut una) = (HyStart::new(Seq(0)), Seq(0));
        round(&mut h, &mut una, 10, 40 * MS);
        round(&mut h, &mut una, 7, 400 * MS);
        assert_eq!(h.divisor(), 1);
    }
}
