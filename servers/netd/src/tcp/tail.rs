//! The retransmission timer and what comes before it: the look for reordered segments and the probe of the
//! tail (RFC 8985 6.3, 7).

use super::recovery::{News, Phase, Probe};
use super::rtt;
use super::{Conn, NEVER, Need};

/// A timer is not set for less: two ticks of other stacks' clocks.
const LEAST_NS: u64 = 2_000_000;

impl Conn {
    /// Looks for losses again at `at`.
    #[cold]
    pub(super) fn look_for_loss(&mut self, at: u64) {
        (self.look_at, self.probing) = (at + LEAST_NS, false);
    }

    /// RFC 8985 7.2: when the tail is probed, if nothing is heard. All is well and something is in
    /// flight.
    pub(super) fn arm_probe(&mut self, now: u64) {
        let well = matches!(self.recovery.phase, Phase::Open | Phase::Reduced);
        if !self.sacks() || !well || self.una == self.max || self.is_fast_child() {
            return;
        }
        let small = self.max - self.una <= self.mss;
        let wait = match self.rtt.srtt() {
            0 => 1_000_000_000,
            // The ACK of one segment may be delayed.
            srtt if small && self.board.is_one() => 2 * srtt + rtt::MIN_VARIANCE,
            srtt => 2 * srtt + LEAST_NS,
        };
        (self.look_at, self.probing) = ((now + wait).min(self.rto_at), true);
    }

    /// [`Conn::look_at`] has come.
    #[cold]
    pub(super) fn look(&mut self, now: u64) {
        self.look_at = NEVER;
        if self.una == self.max {
            return;
        }
        if self.probing {
            return self.probe_tail(now);
        }
        let before = self.board.lost;
        let (again, look) = self.detect_now(now);
        let found = self.board.lost != before || again > 0;
        if found && self.recovery.phase < Phase::Recovery {
            self.enter_recovery();
            self.lead_window(self.mss, true, false);
        }
        if let Some(at) = look {
            self.look_for_loss(at);
        }
    }

    /// RFC 8985 7.3: new data, or the last segment again. One at a time.
    fn probe_tail(&mut self, now: u64) {
        // Recovery has begun since it was armed: what is retransmitted brings ACKs, and has its timer.
        if self.recovery.phase >= Phase::Recovery {
            return;
        }
        if self.recovery.probe.is_none() {
            self.need |= Need::TAIL;
            self.rto_at = now + self.rtt.rto();
        }
    }

    /// The probe has left.
    pub(super) fn probed(&mut self, again: bool) {
        self.need.remove(Need::TAIL);
        self.recovery.probe = Some(Probe { high: self.max, again });
    }

    /// RFC 8985 7.4: whether the probe repaired a loss.
    #[cold]
    pub(super) fn probe_answered(&mut self, news: &News<'_>) {
        let Some(probe) = self.recovery.probe else { return };
        if news.seg.ack.lt(probe.high) {
            return;
        }
        let over = !probe.again
            || news.said.duplicate_probe
            // The original and the probe arrived.
            || (news.repeats && !news.said.sacked);
        if over {
            self.recovery.probe = None;
        } else if probe.high.lt(news.seg.ack) {
            // More has arrived, and nothing twice: the probe repaired a loss.
            self.recovery.probe = None;
            self.reduce(false);
            self.cc.end_reduction();
            self.recovery.phase = Phase::Open;
            self.keep_open();
        }
    }

    /// The retransmission timer has fired; something is in flight.
    #[cold]
    pub(super) fn enter_loss(&mut self, now: u64) {
        let was = self.recovery.phase;
        self.recovery.tally.timeouts = self.recovery.tally.timeouts.saturating_add(1);
        let reneged =
            self.board.first().is_some_and(|n| n.marks.contains(super::pool::Marks::SACKED));
        if reneged {
            self.board.renege();
        }
        let disordered = self.board.sacked.segments;
        self.forget_duplicates();
        let (rack, una) = (self.recovery.rack, self.una);
        self.board.judge(|n| reneged || n.start == una || !rack.is_recent(n, now));
        // RFC 5681 3.1: what is lost again does not lower the threshold again.
        let first = was <= Phase::Disorder
            || self.recovery.high.le(una)
            || (was == Phase::Loss && self.retries <= 1);
        self.model_told(|bbr, window| {
            bbr.save(window);
            bbr.on_rto();
        });
        self.cc.on_rto(self.pipe(), first);
        self.ecn_fell();
        if first {
            self.mark_undo();
        }
        let rack = &mut self.recovery.rack;
        if was <= Phase::Disorder && disordered >= rack.reordering as u32 {
            rack.reordering = rack.reordering.min(super::rack::REORDERING);
        }
        let r = &mut self.recovery;
        (r.phase, r.high, r.probe, r.new_first) = (Phase::Loss, self.max, None, false);
        r.forward = was < Phase::Recovery || self.retries > 1;
        self.look_at = NEVER;
        self.need.remove(Need::TAIL);
    }
}
