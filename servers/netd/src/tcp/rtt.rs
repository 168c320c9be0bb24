//! Round-trip time and the retransmission time-out (RFC 6298).
//!
//! With a sample for nearly every segment the deviation is followed as Linux does: the largest of a round trip counts
//! at once, and falls by a quarter from one round trip to the next (RFC 6298 4 and RFC 7323's appendix G
//! warn of what many samples do to RFC 6298's own formula).

use crate::wire::tcp::Seq;

const MS: u64 = 1_000_000;
/// RTO before the first sample, RFC 6298 (2.1).
const INITIAL: u64 = 1000 * MS;
/// Least distance of the RTO from SRTT. RFC 6298 (2.4) asks for an RTO of at least a second; like
/// other stacks we take 200 ms, which covers a peer's delayed ACK, but on top of SRTT.
pub const MIN_VARIANCE: u64 = 200 * MS;
/// No time-out is less: what is added to the round-trip time is at least that.
pub const LEAST_RTO: u64 = MIN_VARIANCE;
/// Upper bound, RFC 6298 (2.5).
pub const MAX: u64 = 120_000 * MS;
/// For how long the least RTT counts.
const MIN_RTT_FOR: u64 = 300_000 * MS;
/// No sample yet.
const NONE: Span = Span(u32::MAX);

/// A time of up to nine minutes, in 128 ns: every connection has a few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(u32);

impl Span {
    pub const ZERO: Self = Self(0);
    /// Rounded down; of what is longer the longest.
    pub const fn of(ns: u64) -> Self {
        let units = ns >> 7;
        Self(if units < u32::MAX as u64 { units as u32 } else { u32::MAX })
    }
    /// In nanoseconds.
    pub const fn ns(self) -> u64 {
        (self.0 as u64) << 7
    }
}

/// The estimator.
#[derive(Clone, Copy, Debug)]
pub struct Rtt {
    srtt: Span,
    /// Smoothed deviation, and the largest in this round trip, four times over.
    deviation: Span,
    largest: Span,
    rttvar: Span,
    /// End of this round trip.
    round: Seq,
    backoff: u8,
    lossy_handshake: bool,
    least: Span,
    /// When that was, in 2^30 ns.
    least_at: u32,
}

impl Rtt {
    /// No sample yet.
    pub const fn new() -> Self {
        Self {
            srtt: Span::ZERO,
            deviation: Span::ZERO,
            largest: Span::ZERO,
            rttvar: Span::ZERO,
            round: Seq(0),
            backoff: 0,
            lossy_handshake: false,
            least: NONE,
            least_at: 0,
        }
    }
    fn base(&self) -> u64 {
        match self.srtt {
            // RFC 6298 (5.7): a handshake that lost its SYN begins data with 3 seconds.
            Span::ZERO if self.lossy_handshake => 3 * INITIAL,
            Span::ZERO => INITIAL,
            srtt => srtt.ns() + self.rttvar.ns(),
        }
    }
    /// The time-out, backed off.
    pub fn rto(&self) -> u64 {
        (self.base() << self.backoff).min(MAX)
    }
    /// How often the time-out was doubled.
    pub fn backoff(&self) -> u8 {
        self.backoff
    }
    /// Smoothed round-trip time; 0 without a sample.
    pub fn srtt(&self) -> u64 {
        self.srtt.ns()
    }
    /// Mean deviation.
    pub fn variance(&self) -> u64 {
        self.deviation.ns() / 4
    }
    /// The least round-trip time of some minutes; `u64::MAX` without a sample.
    pub fn least(&self) -> u64 {
        if self.least == NONE { u64::MAX } else { self.least.ns() }
    }
    /// RFC 6298 (5.5): doubles the time-out until there is a new sample.
    pub fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(16);
    }
    /// What was sent is gone: a time-out that was doubled means nothing for what follows.
    pub fn restart(&mut self) {
        self.backoff = 0;
    }
    /// A sample, RFC 6298 (2.2) and (2.3), by an ACK up to `una` while up to `max` was sent.
    pub fn sample(&mut self, r: u64, una: Seq, max: Seq, now: u64) {
        let Span(r) = Span::of(r.clamp(1 << 7, MAX));
        let at = (now >> 30) as u32;
        if r <= self.least.0 || at.wrapping_sub(self.least_at) > (MIN_RTT_FOR >> 30) as u32 {
            (self.least, self.least_at) = (Span(r), at);
        }
        self.backoff = 0;
        let [srtt, deviation, largest, rttvar] =
            [self.srtt, self.deviation, self.largest, self.rttvar].map(|span| span.0);
        let Span(least_variance) = const { Span::of(MIN_VARIANCE) };
        if srtt == 0 {
            (self.srtt, self.deviation) = (Span(r), Span(2 * r));
            self.rttvar = Span((2 * r).max(least_variance));
            (self.largest, self.round) = (self.rttvar, max);
            return;
        }
        let error = srtt.abs_diff(r);
        let above = r >= srtt;
        self.srtt = Span(if above { srtt + error / 8 } else { srtt - error / 8 });
        let (grows, by) = (error * 4 >= deviation, (error * 4).abs_diff(deviation) / 4);
        let deviation = match (grows, above) {
            (true, true) => deviation + by,
            // A path that becomes shorter is no reason to wait longer.
            (true, false) => deviation + by / 8,
            (false, _) => deviation - by,
        };
        self.deviation = Span(deviation);
        let largest = largest.max(deviation);
        let rttvar = rttvar.max(largest);
        (self.largest, self.rttvar) = (Span(largest), Span(rttvar));
        if self.round.lt(una) {
            self.rttvar = Span(rttvar - (rttvar - largest) / 4);
            (self.largest, self.round) = (Span(least_variance), max);
        }
    }
    /// The handshake lost its SYN or SYN-ACK.
    pub fn handshake_was_lossy(&mut self) {
        self.lossy_handshake = true;
        self.backoff = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_rfc_6298() {
        let mut rtt = Rtt::new();
        assert_eq!(rtt.rto(), 1000 * MS);
        rtt.sample(400 * MS, Seq(10), Seq(20), 0);
        assert_eq!((rtt.srtt(), rtt.rto()), (400 * MS, 1200 * MS), "R + 4 * R/2");
        rtt.sample(400 * MS, Seq(15), Seq(30), 1);
        assert_eq!(rtt.rto(), 1200 * MS, "the same round trip");
        rtt.sample(400 * MS, Seq(25), Seq(40), 2);
        let second = rtt.rto();
        assert!((1000 * MS..=1200 * MS).contains(&second), "{second}");
        for i in 3..40 {
            rtt.sample(400 * MS, Seq(10 * i), Seq(10 * i + 5), 2);
        }
        assert!(rtt.rto() < 610 * MS, "down to the least: {}", rtt.rto());
    }

    #[test]
    fn the_largest_deviation_of_a_round_trip_counts() {
        let mut rtt = Rtt::new();
        rtt.sample(100 * MS, Seq(1), Seq(100), 0);
        for i in 0..50 {
            rtt.sample(100 * MS, Seq(2 + i), Seq(100), 0);
        }
        rtt.sample(900 * MS, Seq(60), Seq(100), 0);
        let high = rtt.rto();
        for i in 0..30 {
            rtt.sample(rtt.srtt(), Seq(61 + i), Seq(100), 0);
        }
        assert_eq!(rtt.rto(), high, "samples do not wear it away within a round trip");
        let low = rtt.srtt();
        rtt.sample(low / 128, Seq(95), Seq(100), 0);
        assert!(rtt.rto() <= high, "a shorter path does not lengthen it");
        assert_eq!(rtt.least(), Span::of(low / 128).ns());
    }

    #[test]
    fn backs_off_until_a_sample() {
        let mut rtt = Rtt::new();
        rtt.back_off();
        rtt.back_off();
        assert_eq!(rtt.rto(), 4000 * MS);
        rtt.sample(10 * MS, Seq(1), Seq(2), 0);
        assert_eq!(rtt.rto(), 210 * MS);
        for _ in 0..40 {
            rtt.back_off();
        }
        assert_eq!(rtt.rto(), MAX);
        rtt.restart();
        assert_eq!(rtt.rto(), 210 * MS);
    }
}
