//! Which segments may speak: RFC 9293 3.10.7.4, first to fourth, with the defences of RFC 5961 and the
//! limits that Linux puts on answers.

use super::{Conn, Need, Outcome, Segment, ticks};
use crate::wire::tcp::{Flags, Seq};
use libipc::sock::{Error, State};

/// A connection answers at most one segment out of place in this time (RFC 5961 7; what keeps two
/// sides from answering each other for ever). The value is Linux's.
pub const CHALLENGE_NS: u64 = 500_000_000;
/// In [`ticks`].
pub(super) const CHALLENGE: u32 = ticks(CHALLENGE_NS);

impl Conn {
    /// Whether `seg` may be processed further. `Err`: it has been dealt with.
    pub(super) fn validate(&mut self, seg: &Segment, now: u64) -> Result<(), Outcome> {
        if !seg.flags.intersects(Flags::ACK | Flags::RST | Flags::SYN) {
            return Err(Outcome::NO_ACK);
        }
        if self.state == State::SynReceived && self.passive && self.repeats_syn(seg) {
            self.need |= Need::SYN;
            return Err(Outcome::empty());
        }
        if self.is_outdated(seg, now) || !self.acceptable(seg) {
            return Err(self.not_acceptable(seg, now));
        }
        if seg.flags.contains(Flags::RST) {
            return Err(self.reset_by(seg, now));
        }
        if seg.flags.contains(Flags::SYN) && self.state == State::SynReceived && self.passive {
            if self.is_fast_child() {
                // The program may have it already: a SYN from anywhere must not end it.
                return Err(Outcome::REFUSE);
            }
            // RFC 9293 3.10.7.4: back to LISTEN. Linux tells whoever sent it.
            return Err(self.end(None) | Outcome::REFUSE);
        }
        if seg.flags.contains(Flags::SYN) && self.orphan && self.state == State::FinWait2 {
            // Nobody is there to lose anything, and the peer begins anew.
            return Err(if self.rcv_nxt.le(seg.seq) {
                self.end(None) | Outcome::REFUSE
            } else {
                Outcome::UNACCEPTABLE
            });
        }
        // RFC 5961 4.2, but for the SYN-ACK of a simultaneous open.
        if seg.flags.contains(Flags::SYN) && !self.crosses(seg) {
            self.challenge(now);
            return Err(Outcome::CHALLENGED);
        }
        Ok(())
    }

    /// The four cases of RFC 9293 3.10.7.4 in one: it begins at the window's right edge at the latest,
    /// and ends at `rcv_nxt` at the earliest. What ends there exactly is old, but its ACK is not.
    fn acceptable(&self, seg: &Segment) -> bool {
        self.rcv_nxt.le(seg.seq + seg.space()) && seg.seq.le(self.rcv_adv)
    }

    #[cold]
    fn not_acceptable(&mut self, seg: &Segment, now: u64) -> Outcome {
        if seg.flags.contains(Flags::RST) {
            return if self.resets_before_fin(seg) { self.reset() } else { Outcome::UNACCEPTABLE };
        }
        // Repeated data, or a FIN, is answered always, since its sender waits.
        if seg.space() > 0 && !seg.flags.contains(Flags::SYN) {
            self.note_duplicate(seg);
            self.need |= Need::ACK;
        } else {
            self.challenge(now);
        }
        Outcome::UNACCEPTABLE
    }

    /// An RST within the window: RFC 5961 3.2.
    #[cold]
    fn reset_by(&mut self, seg: &Segment, now: u64) -> Outcome {
        // A peer that has sent more than has arrived resets at the end of that.
        let end = self.ooo.end(self.board.pool()).unwrap_or(self.rcv_nxt);
        let forgotten = self.orphan && self.state == State::FinWait2;
        if forgotten || seg.seq == self.rcv_nxt || seg.seq == end || self.resets_before_fin(seg) {
            return self.reset();
        }
        self.challenge(now);
        Outcome::CHALLENGED
    }

    /// Some stacks number an RST after their FIN as if the FIN took no number.
    fn resets_before_fin(&self, seg: &Segment) -> bool {
        self.fin_taken && seg.seq == self.rcv_nxt - 1
    }

    /// Our SYN-ACK was lost.
    fn repeats_syn(&self, seg: &Segment) -> bool {
        seg.seq == self.irs && seg.flags & (Flags::SYN | Flags::ACK | Flags::RST) == Flags::SYN
    }

    /// The peer's SYN-ACK, or its ACK repeated with a SYN, in a simultaneous open.
    fn crosses(&self, seg: &Segment) -> bool {
        self.state == State::SynReceived
            && seg.flags.contains(Flags::ACK)
            && seg.ack == self.max
            && seg.seq == self.irs
            && seg.space() == 1
    }

    /// RFC 5961 5.2: whether an ACK is of what was not sent, or of long ago.
    pub(super) fn is_stray_ack(&self, ack: Seq) -> bool {
        // What has been acknowledged at all bounds what an old segment can acknowledge. The count is
        // modulo 2^32, so once in 4 GiB it errs on the side of an answer too many.
        let reach = self.max_wnd.min(self.una - (self.iss + 1));
        !ack.le(self.max) || ack.lt(self.una - reach)
    }

    /// Queues an ACK that lets an honest peer find its place, unless one was sent a moment ago.
    pub(super) fn challenge(&mut self, now: u64) {
        let now = ticks(now);
        if now.wrapping_sub(self.challenged_at) >= CHALLENGE {
            self.challenged_at = now;
            self.need |= Need::ACK;
        }
    }

    fn reset(&mut self) -> Outcome {
        let error = match self.state {
            // The program may write yet, and learns why it must not.
            State::CloseWait => Error::BrokenPipe,
            _ => Error::ConnectionReset,
        };
        self.end(Some(error))
    }
}
