//! Header prediction (Van Jacobson, 1990): the segment that was expected, which is nearly every one, goes past
//! all the questions of RFC 9293 3.10.7.4 whose answers are known beforehand.
//!
//! What is done for it is what `input` does, by the same functions in the same order. Whoever adds a rule there that
//! can apply to such a segment says so in [`Conn::predicts`].

use super::{Conn, Outcome, Segment};
use crate::wire::tcp::{Flags, Seq};
use libipc::sock::State;

impl Conn {
    /// Whether `seg` is the next in order, within the window, with an ACK of what was sent, and nothing
    /// else has to be looked at. Its flags are ACK and perhaps PSH.
    #[inline]
    pub fn predicts(&self, seg: &Segment, now: u64) -> bool {
        debug_assert!(seg.flags - Flags::PSH == Flags::ACK && seg.options.sack.is_empty());
        self.state == State::Established
            && seg.seq == self.rcv_nxt
            && seg.len <= self.rcv_adv - self.rcv_nxt
            && self.una.le(seg.ack)
            && seg.ack.le(self.max)
            && self.ooo.is_empty()
            && self.peer_fin.is_none()
            && !(self.orphan || self.deaf || self.ecn())
            && !self.is_outdated(seg, now)
    }

    /// Position in the stream of the next byte that is expected, modulo 2^32.
    pub fn receive_position(&self) -> u32 {
        self.rcv_nxt - (self.irs + 1)
    }

    /// The segment that [`Conn::predicts`] has arrived, its payload is in the ring.
    #[inline]
    pub fn predicted(&mut self, seg: &Segment, now: u64) -> Outcome {
        self.figures.received(seg.len);
        self.heard(now);
        self.note_timestamp(seg, now);
        let plain = self.una.lt(seg.ack).then(|| self.plain_acknowledgment(seg, now)).flatten();
        let outcome = match plain {
            Some(outcome) => outcome,
            None => self.acknowledgment(seg, now),
        };
        if seg.len == 0 {
            return outcome;
        }
        let end: Seq = seg.seq + seg.len;
        outcome | self.text_until(end, seg, now)
    }
}
