//! Loss recovery: NewReno (RFC 6582) with limited transmit (RFC 3042). What happens to the window
//! is asked of [`Congestion`].

use super::congestion::Congestion;
use crate::wire::tcp::Seq;

/// What a duplicate ACK calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDuplicate {
    /// Nothing, or what the window now allows.
    Send,
    /// The third one: send the first unacknowledged segment again.
    Retransmit,
}

/// What an ACK of new data calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAck {
    /// Not recovering: the window may grow.
    Grow,
    /// A partial ACK: send the segment at `una` again.
    Partial,
    /// Recovery is over.
    Full,
}

/// The state.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    duplicates: u8,
    recovering: bool,
    /// RFC 6582: highest number sent when loss was last noticed.
    recover: Seq,
}

impl Recovery {
    /// For a connection that begins at `iss`.
    pub fn new(iss: Seq) -> Self {
        Self { duplicates: 0, recovering: false, recover: iss }
    }

    /// RFC 3042: bytes beyond the window that the first two duplicates release.
    pub fn limited(&self, mss: u32) -> u32 {
        if self.recovering { 0 } else { self.duplicates.min(2) as u32 * mss }
    }

    /// `acked` new bytes up to `una`, with `flight` in flight before.
    pub fn on_ack(
        &mut self,
        cc: &mut Congestion,
        acked: u32,
        una: Seq,
        flight: u32,
        mss: u32,
    ) -> OnAck {
        self.duplicates = 0;
        if !self.recovering {
            return OnAck::Grow;
        }
        if self.recover.le(una) {
            // RFC 6582 3.2, step 3, full acknowledgment, option 1.
            let left = flight.saturating_sub(acked);
            cc.set_window(cc.ssthresh().unwrap_or(u32::MAX).min(left.max(mss) + mss));
            self.recovering = false;
            return OnAck::Full;
        }
        // Partial: deflate by what was acknowledged, add back one segment.
        let back = if acked >= mss { mss } else { 0 };
        cc.set_window(cc.window().saturating_sub(acked) + back);
        OnAck::Partial
    }

    /// A duplicate ACK at `una`, with data in flight up to `max`.
    pub fn on_duplicate(
        &mut self,
        cc: &mut Congestion,
        una: Seq,
        max: Seq,
        mss: u32,
    ) -> OnDuplicate {
        if self.recovering {
            cc.set_window(cc.window().saturating_add(mss));
            return OnDuplicate::Send;
        }
        self.duplicates = self.duplicates.saturating_add(1);
        // RFC 6582 3.2, step 2: duplicates of what a time-out sent again prove nothing new.
        if self.duplicates != 3 || !self.recover.lt(una) {
            return OnDuplicate::Send;
        }
        cc.on_loss();
        (self.recover, self.recovering) = (max, true);
        cc.set_window(cc.ssthresh().unwrap_or(u32::MAX).saturating_add(3 * mss));
        OnDuplicate::Retransmit
    }

    /// The retransmission timer fired.
    pub fn on_timeout(&mut self, max: Seq) {
        *self = Self { duplicates: 0, recovering: false, recover: max };
    }
}

#[cfg(test)]
mod tests {
    use super::super::congestion::Algorithm;
    use super::*;

    const MSS: u32 = 1000;

    #[test]
    fn new_reno_recovers_segment_by_segment() {
        let mut c = Congestion::new(Algorithm::Reno, MSS, Seq(0));
        let mut r = Recovery::new(Seq(0));
        let (una, max) = (Seq(1000), Seq(11_000));
        assert_eq!(r.on_duplicate(&mut c, una, max, MSS), OnDuplicate::Send);
        assert_eq!(r.limited(MSS), 1000);
        assert_eq!(r.on_duplicate(&mut c, una, max, MSS), OnDuplicate::Send);
        assert_eq!(r.on_duplicate(&mut c, una, max, MSS), OnDuplicate::Retransmit);
        assert_eq!((c.ssthresh(), c.window()), (Some(5000), 8000));
        r.on_duplicate(&mut c, una, max, MSS);
        assert_eq!(c.window(), 9000);
        assert_eq!(r.on_ack(&mut c, 2000, Seq(3000), 10_000, MSS), OnAck::Partial);
        assert_eq!(c.window(), 8000);
        assert_eq!(r.on_ack(&mut c, 8000, Seq(11_000), 8000, MSS), OnAck::Full);
        assert_eq!(c.window(), 2000);
        for _ in 0..3 {
            let at = r.on_duplicate(&mut c, Seq(11_000), Seq(12_000), MSS);
            assert_eq!(at, OnDuplicate::Send, "recover is not passed");
        }
    }
}
