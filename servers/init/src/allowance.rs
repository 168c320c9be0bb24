//! How much of a process's log is printed: a burst at once, then so much a second.
//!
//! Printing is init's work, at init's priority, a port write a byte: a process that logs without end
//! would have it print without end, and nobody else would run. What is not taken in time does not fit
//! into the process's log page, and is counted there as lost.

use libipc::log::RING;

/// Bytes at once.
const BURST: u64 = 4 * RING as u64;
/// Bytes a second.
const RATE: u64 = 2 * RING as u64;
const SECOND: u64 = 1_000_000_000;

/// What a process may still have printed.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    bytes: u64,
    /// Up to when it was counted, ns.
    at_ns: u64,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { bytes: BURST, at_ns: 0 }
    }
}

impl Allowance {
    /// Bytes that may be printed at `now_ns`.
    pub fn left(&mut self, now_ns: u64) -> usize {
        let full_ns = self.at_ns.saturating_add(BURST * SECOND / RATE);
        if now_ns >= full_ns {
            (self.bytes, self.at_ns) = (BURST, now_ns);
        } else {
            let more = now_ns.saturating_sub(self.at_ns) * RATE / SECOND;
            self.bytes = (self.bytes + more).min(BURST);
            // No further than what was counted: fractions add up.
            self.at_ns += more * SECOND / RATE;
        }
        self.bytes as usize
    }

    /// So much was printed.
    pub fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes as u64);
    }

    /// When there will be a good part of a page again.
    pub fn due(&self) -> u64 {
        self.at_ns + RING as u64 / 2 * SECOND / RATE
    }
}

/// How often the budget of a process ended lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrun {
    /// Counted since then, ns.
    since_ns: u64,
    times: u64,
    /// Not told again before.
    quiet_ns: u64,
}

impl Overrun {
    /// Between two lines about a process.
    const GAP_NS: u64 = 10 * SECOND;

    /// It ended at `now_ns`. Whether to tell: it did in most periods of half a second.
    pub fn admit(&mut self, now_ns: u64, period_us: u32) -> bool {
        if now_ns >= self.since_ns + SECOND {
            (self.since_ns, self.times) = (now_ns, 0);
        }
        self.times += 1;
        let tell = self.times * period_us as u64 * 1000 >= SECOND / 2 && now_ns >= self.quiet_ns;
        if tell {
            self.quiet_ns = now_ns + Self::GAP_NS;
        }
        tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_rate() {
        let mut a = Allowance::default();
        let (mut printed, mut now) = (0, 0);
        while now < 10 * SECOND {
            let n = a.left(now).min(256);
            a.spend(n);
            printed += n as u64;
            now += 100_000;
        }
        let most = BURST + 10 * RATE;
        assert!((most - 300..=most).contains(&printed), "{printed}");
        assert!(a.due() <= now + SECOND / 2);
        assert_eq!(a.left(u64::MAX), BURST as usize);
    }
}
