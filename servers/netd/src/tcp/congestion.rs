//! Congestion control: RFC 5681 with the NewReno recovery of RFC 6582, limited transmit
//! (RFC 3042), appropriate byte counting (RFC 3465) and the initial window of RFC 6928.

use crate::wire::tcp::Seq;

/// What a duplicate ACK calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDuplicate {
    /// Nothing, or what the window now allows.
    Send,
    /// The third one: send the first unacknowledged segment again.
    Retransmit,
}

/// The state. All amounts in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Congestion {
    cwnd: u32,
    ssthresh: u32,
    mss: u32,
    /// Bytes acknowledged since the window last grew in congestion avoidance.
    counted: u32,
    duplicates: u8,
    recovering: bool,
    /// RFC 6582: highest number sent when loss was last noticed.
    recover: Seq,
}

impl Congestion {
    /// For a connection that begins at `iss`.
    pub fn new(mss: u32, iss: Seq) -> Self {
        // RFC 6928 (1).
        let initial = (10 * mss).min((2 * mss).max(14600));
        Self {
            cwnd: initial,
            ssthresh: u32::MAX,
            mss,
            counted: 0,
            duplicates: 0,
            recovering: false,
            recover: iss,
        }
    }
    /// Bytes that may be in flight.
    pub fn window(&self) -> u32 {
        // RFC 3042: the first two duplicates each release a segment.
        let limited = if self.recovering { 0 } else { self.duplicates.min(2) as u32 * self.mss };
        self.cwnd.saturating_add(limited)
    }
    /// Slow-start threshold.
    #[cfg(test)]
    pub fn ssthresh(&self) -> u32 {
        self.ssthresh
    }
    /// The segment size has become smaller.
    pub fn set_mss(&mut self, mss: u32) {
        self.mss = mss;
    }

    /// `acked` new bytes up to `una`, with `flight` in flight before. `true`: a partial ACK in
    /// recovery, send the segment at `una` again.
    pub fn on_ack(&mut self, acked: u32, una: Seq, flight: u32) -> bool {
        self.duplicates = 0;
        if self.recovering {
            if self.recover.le(una) {
                // RFC 6582 3.2, step 3, full acknowledgment, option 1.
                let left = flight.saturating_sub(acked);
                self.cwnd = self.ssthresh.min(left.max(self.mss) + self.mss);
                self.recovering = false;
                return false;
            }
            // Partial: deflate by what was acknowledged, add back one segment.
            self.cwnd = self.cwnd.saturating_sub(acked);
            if acked >= self.mss {
                self.cwnd += self.mss;
            }
            self.cwnd = self.cwnd.max(self.mss);
            return true;
        }
        // A window that is not used does not grow (RFC 7661).
        if flight.saturating_mul(2) < self.cwnd {
            return false;
        }
        if self.cwnd < self.ssthresh {
            self.cwnd = self.cwnd.saturating_add(acked.min(2 * self.mss));
        } else {
            self.counted = self.counted.saturating_add(acked);
            if self.counted >= self.cwnd {
                self.counted -= self.cwnd;
                self.cwnd = self.cwnd.saturating_add(self.mss);
            }
        }
        false
    }

    /// A duplicate ACK at `una`, with `flight` bytes in flight up to `max`.
    pub fn on_duplicate(&mut self, una: Seq, max: Seq, flight: u32) -> OnDuplicate {
        if self.recovering {
            self.cwnd = self.cwnd.saturating_add(self.mss);
            return OnDuplicate::Send;
        }
        self.duplicates = self.duplicates.saturating_add(1);
        // RFC 6582 3.2, step 2: duplicates of what a time-out sent again prove nothing new.
        if self.duplicates != 3 || !self.recover.lt(una) {
            return OnDuplicate::Send;
        }
        self.ssthresh = (flight / 2).max(2 * self.mss);
        self.recover = max;
        self.recovering = true;
        self.cwnd = self.ssthresh + 3 * self.mss;
        OnDuplicate::Retransmit
    }

    /// The retransmission timer fired; `first`: for the first time for this segment.
    pub fn on_timeout(&mut self, max: Seq, flight: u32, first: bool) {
        // RFC 5681 (4), and its 3.1: a segment lost again does not lower ssthresh again.
        if first {
            self.ssthresh = (flight / 2).max(2 * self.mss);
        }
        self.cwnd = self.mss;
        self.counted = 0;
        self.duplicates = 0;
        self.recovering = false;
        self.recover = max;
    }

    /// Nothing was sent for longer than the time-out (RFC 5681 4.1).
    pub fn on_idle(&mut self) {
        self.cwnd = self.cwnd.min((10 * self.mss).min((2 * self.mss).max(14600)));
    }

    /// The SYN was lost: RFC 6928 falls back to one segment.
    pub fn handshake_was_lossy(&mut self) {
        self.cwnd = self.mss;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    #[test]
    fn slow_start_then_avoidance() {
        let mut c = Congestion::new(MSS, Seq(0));
        assert_eq!(c.window(), 10_000);
        c.on_ack(2000, Seq(2000), 10_000);
        assert_eq!(c.window(), 12_000);
        c.on_timeout(Seq(12_000), 10_000, true);
        assert_eq!((c.window(), c.ssthresh()), (1000, 5000));
        for i in 0..4 {
            c.on_ack(1000, Seq(3000 + i * 1000), c.window());
        }
        assert_eq!(c.window(), 5000);
        c.on_ack(4000, Seq(10_000), 5000);
        assert_eq!(c.window(), 5000);
        c.on_ack(1000, Seq(11_000), 5000);
        assert_eq!(c.window(), 6000, "one segment a round trip");
    }

    #[test]
    fn new_reno_recovers_segment_by_segment() {
        let mut c = Congestion::new(MSS, Seq(0));
        let (una, max) = (Seq(1000), Seq(11_000));
        assert_eq!(c.on_duplicate(una, max, 10_000), OnDuplicate::Send);
        assert_eq!(c.window(), 11_000, "limited transmit");
        assert_eq!(c.on_duplicate(una, max, 10_000), OnDuplicate::Send);
        assert_eq!(c.on_duplicate(una, max, 10_000), OnDuplicate::Retransmit);
        assert_eq!((c.ssthresh(), c.window()), (5000, 8000));
        c.on_duplicate(una, max, 10_000);
        assert_eq!(c.window(), 9000);
        assert!(c.on_ack(2000, Seq(3000), 10_000), "partial");
        assert_eq!(c.window(), 8000);
        assert!(!c.on_ack(8000, Seq(11_000), 8000), "full");
        assert_eq!(c.window(), 2000);
        for _ in 0..3 {
            assert_eq!(
                c.on_duplicate(Seq(11_000), Seq(12_000), 1000),
                OnDuplicate::Send,
                "recover is not passed"
            );
        }
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut c = Congestion::new(MSS, Seq(0));
        for i in 0..50 {
            c.on_ack(1000, Seq(i * 1000), 1000);
        }
        assert_eq!(c.window(), 10_000);
    }
}
