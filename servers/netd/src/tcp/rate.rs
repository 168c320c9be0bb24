//! How fast a path delivers (draft-cheng-iccrg-delivery-rate-estimation): between sending a segment and hearing that it
//! has arrived, so much was delivered. What was so when a segment left is remembered by the time it left.

use super::pool::moment;

/// Departures that are remembered; what leaves beyond them counts as the one before.
const DEPARTURES: usize = 64;

/// What was so when something left.
#[derive(Clone, Copy, Debug)]
struct Departure {
    /// When.
    at: u64,
    /// Bytes delivered by then, and when the last of them were.
    delivered: u64,
    delivered_at: u64,
    /// When what had been delivered last had left.
    first_at: u64,
    /// The program had not enough to send.
    app_limited: bool,
}

/// What one ACK says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Bytes delivered in `interval` ns.
    pub delivered: u64,
    pub interval: u64,
    /// Bytes delivered in all when it was sent.
    pub prior: u64,
    /// The program had not enough to send.
    pub app_limited: bool,
}

/// The sampler.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    departures: [Departure; DEPARTURES],
    next: usize,
    len: usize,
    delivered: u64,
    delivered_at: u64,
    first_at: u64,
    /// What is in flight until so much is delivered was sent with too little to send; 0: it was not.
    limited_until: u64,
    /// The last that could be measured: bytes a second, and whether the program limited it.
    last: (u64, bool),
}

impl Rate {
    /// Nothing was sent.
    pub const fn new(now: u64) -> Self {
        let none =
            Departure { at: 0, delivered: 0, delivered_at: 0, first_at: 0, app_limited: false };
        Self {
            departures: [none; DEPARTURES],
            next: 0,
            len: 0,
            delivered: 0,
            delivered_at: now,
            first_at: now,
            limited_until: 0,
            last: (0, false),
        }
    }
    /// Bytes delivered.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }
    /// Bytes a second, as measured last; and whether the program limited that.
    pub fn last(&self) -> (u64, bool) {
        self.last
    }
    /// Whether the program has too little to send.
    pub fn is_limited(&self) -> bool {
        self.limited_until != 0
    }
    /// `flight` bytes are in flight, and nothing waits that might be.
    pub fn limited(&mut self, flight: u32) {
        self.limited_until = (self.delivered + flight as u64).max(1);
    }

    /// Something leaves; nothing was in flight if it is the `first`.
    pub fn sent(&mut self, first: bool, now: u64) {
        if first {
            (self.first_at, self.delivered_at) = (now, now);
        }
        let at = moment(now);
        let newest = (self.next + DEPARTURES - 1) % DEPARTURES;
        if self.len > 0 && self.departures[newest].at == at {
            return;
        }
        self.departures[self.next] = Departure {
            at,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_at: self.first_at,
            app_limited: self.limited_until != 0,
        };
        self.next = (self.next + 1) % DEPARTURES;
        self.len = (self.len + 1).min(DEPARTURES);
    }

    /// `bytes` were delivered, of which the last to leave did so at `sent`. `None`: that tells no rate.
    pub fn acked(
        &mut self,
        bytes: u32,
        sent: Option<u64>,
        least: u64,
        now: u64,
    ) -> Option<Measured> {
        self.delivered += bytes as u64;
        let found = sent.and_then(|at| self.departure(at));
        self.delivered_at = now;
        if self.limited_until != 0 && self.delivered > self.limited_until {
            self.limited_until = 0;
        }
        let (at, d) = found?;
        self.first_at = at;
        let interval = at.saturating_sub(d.first_at).max(now.saturating_sub(d.delivered_at));
        // Faster than any round trip (which is known to a µs): the ACKs were squeezed together.
        if interval == 0 || interval.saturating_add(1000) < least.min(u64::MAX - 1) {
            return None;
        }
        let delivered = self.delivered - d.delivered;
        let rate = (delivered as u128 * 1_000_000_000 / interval as u128) as u64;
        if !d.app_limited || rate >= self.last.0 {
            self.last = (rate, d.app_limited);
        }
        Some(Measured { delivered, interval, prior: d.delivered, app_limited: d.app_limited })
    }

    /// What was so at `at`: a few steps back from the newest, as what is acknowledged left a round trip ago.
    fn departure(&self, at: u64) -> Option<(u64, Departure)> {
        let nth = |i: usize| self.departures[(self.next + DEPARTURES - 1 - i) % DEPARTURES];
        // The newest come first: halves of a falling row.
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = (low + high) / 2;
            if nth(middle).at > at { low = middle + 1 } else { high = middle }
        }
        (low < self.len).then(|| (at, nth(low)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1 << 20;

    #[test]
    fn a_steady_stream_has_its_rate_and_a_pause_is_the_programs() {
        let mut r = Rate::new(0);
        for i in 0..100u64 {
            r.sent(i == 0, i * MS);
            if i >= 10 {
                let m = r.acked(1000, Some((i - 10) * MS), MS, i * MS).unwrap();
                // What left in the same moment as an ACK came did so before it.
                if i >= 40 {
                    assert_eq!((m.delivered, m.interval, m.app_limited), (11_000, 11 * MS, false));
                }
            }
        }
        r.limited(10_000);
        r.sent(false, 100 * MS);
        assert_eq!(r.acked(1000, Some(90 * MS), MS, 100 * MS).map(|m| m.app_limited), Some(false));
        assert_eq!(r.acked(1000, Some(100 * MS), MS, 110 * MS).map(|m| m.app_limited), Some(true));
        assert_eq!(r.acked(1000, Some(100 * MS), 60 * MS, 111 * MS), None, "too fast to be true");
    }

    #[test]
    fn what_was_forgotten_is_not_made_up() {
        let mut r = Rate::new(0);
        for i in 10..200u64 {
            r.sent(i == 10, i * MS);
        }
        assert_eq!(r.acked(1, Some(20 * MS), 1, 200 * MS), None);
        assert!(r.acked(1, Some(150 * MS), 1, 200 * MS).is_some());
    }
}
