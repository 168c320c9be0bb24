//! The segment out that nearly every one is: text in order as far as the window goes, or an ACK, while nothing is
//! lost and nothing else is owed.
//!
//! [`Conn::next_plain`] does what [`Conn::next_segment`] would, by the same functions in the same order, past all the
//! questions whose answers [`Conn::sends_plain`] knows. Whoever adds one there that can apply to such a segment says so here.

use super::output::MIN_SEGMENTS;
use super::{Conn, Need};
use crate::wire::tcp::{Flags, Seq, Timestamps};
use libipc::sock::{State, option};

/// Text shorter than this makes a frame that has to be padded.
pub const MIN_TEXT: u32 = 6;

/// What such a segment says. Its payload is `len` bytes of the send ring from position `at` on.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Sequence number.
    pub seq: Seq,
    /// Acknowledgment number.
    pub ack: Seq,
    /// [`Flags::ACK`], perhaps [`Flags::PSH`].
    pub flags: Flags,
    /// Window field.
    pub window: u16,
    /// Options.
    pub timestamps: Option<Timestamps>,
    /// Position of the payload in the stream, modulo 2^32.
    pub at: u32,
    /// Bytes of payload.
    pub len: u32,
}

/// What [`Conn::next_plain`] has.
pub enum Next {
    /// A segment, already counted as sent (in the record, too).
    Text(Text),
    /// Nothing now.
    Nothing,
    /// Something that is not of this form.
    Other,
}

impl Conn {
    /// Whether what leaves next is of this form, if it is not too long or too short for that.
    #[inline(always)]
    pub fn sends_plain(&self) -> bool {
        self.state == State::Established
            && (self.need - Need::ACK).is_empty()
            && self.duplicate_acks == 0
            && self.board.lost.bytes == 0
            && self.ooo.is_empty()
            && !self.recovery.reduces()
            && !(self.ecn() || self.paces() || self.search.is_on())
            && self.fin.is_none()
            && self.urgent.is_none()
            && self.twice.is_none()
            && !self.opts().may_be_cut()
    }

    /// The next segment of a connection that [`Self::sends_plain`]. With `burst` text may go as one piece of so many
    /// bytes, which is none of these.
    #[inline(always)]
    pub fn next_plain(&mut self, now: u64, burst: u32) -> Next {
        let avail = if self.max.lt(self.tail) { self.tail - self.max } else { 0 };
        let size = self.mss;
        if avail > 0 {
            // What is not of this form is seen before the pause is noted, which must happen once.
            let large = avail.min(burst) >= MIN_SEGMENTS * size;
            if self.una == self.max && (large || avail.min(self.wnd) < MIN_TEXT) {
                return Next::Other;
            }
            self.note_idle(now);
            let (_, room) = self.room();
            let len = avail.min(room).min(size);
            let long = avail.min(room).min(burst) >= MIN_SEGMENTS * size;
            if long || (len > 0 && len < MIN_TEXT) {
                return Next::Other;
            }
            if len == size || (len > 0 && self.small_goes(len, len == avail)) {
                return Next::Text(self.plain(len, now));
            }
            self.arm_persist(now);
        }
        if self.need.contains(Need::ACK) { Next::Text(self.plain(0, now)) } else { Next::Nothing }
    }

    #[inline(always)]
    fn plain(&mut self, len: u32, now: u64) -> Text {
        let window = self.window();
        let size = self.mss;
        self.figures.sent(len, size, false);
        let mut seq = self.max;
        let mut flags = Flags::ACK;
        if len > 0 {
            let end = seq + len;
            if end == self.tail && !self.opts().has(option::MORE) {
                flags |= Flags::PSH;
            }
            flags |= self.text_leaves(end, len, size, false, now);
            self.text_left(false, now);
        } else {
            seq = self.ack_seq();
        }
        self.ack_leaves();
        Text {
            seq,
            ack: self.rcv_nxt,
            flags,
            window,
            timestamps: self.timestamps(now),
            at: self.send_position(seq),
            len,
        }
    }
}
