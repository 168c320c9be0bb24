//! Round-trip time and the retransmission time-out (RFC 6298), in nanoseconds.

use crate::wire::tcp::Seq;

const MS: u64 = 1_000_000;
/// RTO before the first sample, RFC 6298 (2.1).
const INITIAL: u64 = 1000 * MS;
/// Least distance of the RTO from SRTT. RFC 6298 (2.4) asks for an RTO of at least a second; like
/// other stacks we take 200 ms, which covers a peer's delayed ACK, but on top of SRTT.
const MIN_VARIANCE: u64 = 200 * MS;
/// Upper bound, RFC 6298 (2.5).
pub const MAX: u64 = 60_000 * MS;

/// The estimator.
#[derive(Clone, Copy, Debug)]
pub struct Rtt {
    srtt: u64,
    rttvar: u64,
    rto: u64,
    backoff: u8,
    /// The segment being timed: its end, and when it left. Karn's algorithm: never one that was
    /// sent twice.
    timed: Option<(Seq, u64)>,
}

impl Rtt {
    /// No sample yet.
    pub const fn new() -> Self {
        Self { srtt: 0, rttvar: 0, rto: INITIAL, backoff: 0, timed: None }
    }
    /// The time-out, backed off.
    pub fn rto(&self) -> u64 {
        (self.rto << self.backoff.min(16)).min(MAX)
    }
    /// Smoothed round-trip time; 0 without a sample.
    pub fn srtt(&self) -> u64 {
        self.srtt
    }
    /// RFC 6298 (5.5): doubles the time-out until there is a new sample.
    pub fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(16);
    }
    /// New data up to `end` leaves.
    pub fn sent(&mut self, end: Seq, now: u64) {
        if self.timed.is_none() {
            self.timed = Some((end, now));
        }
    }
    /// Something is sent again: what is being timed does not count.
    pub fn sent_again(&mut self) {
        self.timed = None;
    }
    /// Everything up to `una` is acknowledged. Yields the sample that this gives; 0: none.
    pub fn acked(&mut self, una: Seq, now: u64) -> u64 {
        if let Some((end, at)) = self.timed
            && end.le(una)
        {
            self.timed = None;
            return self.sample(now.saturating_sub(at));
        }
        0
    }
    /// A sample, RFC 6298 (2.2) and (2.3).
    fn sample(&mut self, r: u64) -> u64 {
        let r = r.clamp(1, MAX);
        if self.srtt == 0 {
            (self.srtt, self.rttvar) = (r, r / 2);
        } else {
            self.rttvar = self.rttvar - self.rttvar / 4 + self.srtt.abs_diff(r) / 4;
            self.srtt = self.srtt - self.srtt / 8 + r / 8;
        }
        self.rto = (self.srtt + (4 * self.rttvar).max(MIN_VARIANCE)).min(MAX);
        self.backoff = 0;
        r
    }
    /// The handshake lost its SYN or SYN-ACK: RFC 6298 (5.7) begins data with 3 seconds.
    pub fn handshake_was_lossy(&mut self) {
        if self.srtt == 0 {
            (self.rto, self.backoff) = (3 * INITIAL, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_rfc_6298() {
        let mut rtt = Rtt::new();
        assert_eq!(rtt.rto(), 1000 * MS);
        rtt.sent(Seq(10), 0);
        rtt.sent(Seq(20), 5 * MS);
        rtt.acked(Seq(9), 50 * MS);
        assert_eq!(rtt.srtt(), 0, "not yet acknowledged");
        rtt.acked(Seq(10), 400 * MS);
        assert_eq!((rtt.srtt(), rtt.rto()), (400 * MS, 1200 * MS), "R + 4 * R/2");
        rtt.sent(Seq(30), 500 * MS);
        rtt.acked(Seq(30), 900 * MS);
        assert_eq!(rtt.rto(), (400 + 600) * MS, "variance decays by a quarter");
    }

    #[test]
    fn backs_off_until_a_sample_that_karn_allows() {
        let mut rtt = Rtt::new();
        rtt.sent(Seq(10), 0);
        rtt.back_off();
        rtt.back_off();
        rtt.sent_again();
        assert_eq!(rtt.rto(), 4000 * MS);
        rtt.acked(Seq(10), 4100 * MS);
        assert_eq!(rtt.rto(), 4000 * MS, "the ACK of a segment sent twice says nothing");
        rtt.sent(Seq(20), 5000 * MS);
        rtt.acked(Seq(20), 5010 * MS);
        assert_eq!(rtt.rto(), 210 * MS);
        for _ in 0..40 {
            rtt.back_off();
        }
        assert_eq!(rtt.rto(), MAX);
    }
}
