//! Urgent data (RFC 9293 3.8.5, RFC 6093): the pointer, both ways. The bytes are part of the stream;
//! what a program makes of the marked one is its own affair (`userland`: taken out of the stream, or not).

use super::{Conn, Outcome, Segment};
use crate::record;
use crate::wire::tcp::{Flags, Seq};
use core::sync::atomic::Ordering::Relaxed;
use libipc::sock::{event, option};

impl Conn {
    /// A segment says URG. Before its text is looked at: what it names must not have arrived.
    #[cold]
    pub(super) fn urgent_in(&mut self, seg: &Segment) -> Outcome {
        // The pointer is to the byte after the urgent one, like everybody has it (RFC 6093 3.1).
        let at = seg.seq + (seg.urgent as u32).saturating_sub(1);
        if self.fin_taken || self.orphan || at.lt(self.rcv_nxt) {
            return Outcome::empty();
        }
        let count = at - (self.irs + 1);
        let known = self.rec.events.load(Relaxed) & event::URGENT != 0;
        let old = self.irs + 1 + self.rec.pending.load(Relaxed);
        if known && self.head.le(old) && at.le(old) {
            return Outcome::empty();
        }
        record::set_urgent(self.rec, count);
        Outcome::READY
    }

    /// The program has named an urgent byte; `word` is the count after it.
    pub(super) fn urgent_until(&mut self, word: u32) {
        let end = self.iss + 1 + word;
        self.urgent = self.una.lt(end).then_some(end);
    }

    /// Takes over from the program's words, for a connection that was rebuilt.
    pub(super) fn recover_urgent(&mut self) {
        let opts = *self.opts();
        if opts.has(option::URGENT) {
            self.urgent_until(opts.urgent);
            // Long ago, or nonsense.
            self.urgent = self.urgent.filter(|end| end.le(self.tail));
        }
    }

    /// What a segment from `seq` on says of it: URG and the pointer.
    #[cold]
    pub(super) fn urgent_out(&mut self, seq: Seq, end: Seq) -> Option<(Flags, u16)> {
        if end.le(self.una) {
            self.urgent = None;
        }
        let ahead = end - seq;
        if end.le(self.una) || !seq.lt(end) {
            return None;
        }
        match u16::try_from(ahead) {
            Ok(pointer) => Some((Flags::URG, pointer)),
            // Further than can be said: as far as can be, if that is beyond all that was sent.
            Err(_) if self.max.lt(seq + 0xffff) => Some((Flags::URG, 0xffff)),
            Err(_) => None,
        }
    }
}
