//! How much of the window is used. What is not used has not been tried and says nothing about the
//! network: it must not grow (RFC 9438 5.8, RFC 7661).

use crate::tcp::rtt::LEAST_RTO;
use crate::wire::tcp::Seq;

/// The measure, by flights: like Linux's `tcp_cwnd_validate`.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// The measure holds until this is acknowledged.
    until: Seq,
    /// Most bytes in flight in that time.
    most: u32,
    /// The window was what held the sender back.
    limited: bool,
    /// Most bytes in flight since `used_at`.
    used: u32,
    /// When the window was last used up, ms.
    used_at: u32,
}

impl Usage {
    pub const fn new(iss: Seq) -> Self {
        Self { until: iss, most: 0, limited: false, used: 0, used_at: 0 }
    }

    /// A turn of sending has left `flight` bytes in flight.
    pub fn sent(&mut self, flight: u32, limited: bool, una: Seq, nxt: Seq) {
        if limited || self.until.le(una) || (!self.limited && flight > self.most) {
            (self.until, self.most, self.limited) = (nxt, flight, limited);
        }
    }

    /// Whether the window may grow: it held the sender back, or slow start has not come to twice
    /// of what was in flight.
    pub fn allows_growth(&self, cwnd: u32, slow_start: bool) -> bool {
        self.limited || (slow_start && cwnd / 2 < self.most)
    }

    /// The window is used.
    pub fn used_up(&mut self, now: u64) {
        (self.used, self.used_at) = (0, super::ms(now));
    }

    /// It is not; yields how much was, once an RTO.
    pub fn unused(&mut self, flight: u32, rto: impl Fn() -> u64, now: u64) -> Option<u32> {
        self.used = self.used.max(flight);
        let since = super::ms(now).wrapping_sub(self.used_at);
        if since < super::ms(LEAST_RTO) || (since as u64) < rto() / 1_000_000 {
            return None;
        }
        let used = self.used;
        self.used_up(now);
        Some(used)
    }
}
