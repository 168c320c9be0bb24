//! Explicit congestion notification (RFC 3168), as Linux does it by default: a SYN that offers it
//! is answered, ours offers it only if the program asks ([`option::ECN`]).
//!
//! The agreement is in the record, since the peer goes on to mark its packets. What is owed (an
//! echo, a CWR) is soft: a mark that a crash forgets comes again while the queue is long.

use super::{Conn, Need, Segment};
use crate::wire::tcp::Flags;
use bitflags::bitflags;
use libipc::sock::{flags, option};

/// The ECN field of an IP header.
pub mod field {
    /// Its bits in the type of service.
    pub const MASK: u8 = 3;
    /// ECN-capable transport.
    pub const ECT_0: u8 = 2;
    /// Congestion experienced.
    pub const CE: u8 = 3;
}

bitflags! {
    /// What is owed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Owed: u8 {
        /// The peer's packets were marked: ECE until it says CWR.
        const ECHO = 1;
        /// The window has fallen: CWR with the next new data.
        const CWR = 2;
    }
}

impl Conn {
    /// Whether both sides speak ECN.
    pub(super) fn ecn(&self) -> bool {
        self.agreed & flags::ECN != 0
    }

    /// What a SYN means for the agreement (RFC 3168 6.1.1): of `before`, what our SYN asked for.
    pub(super) fn ecn_agreed(before: u16, syn: &Segment) -> bool {
        let (ece, cwr) = (syn.flags.contains(Flags::ECE), syn.flags.contains(Flags::CWR));
        let asked = before & flags::ECN != 0;
        if syn.flags.contains(Flags::ACK) {
            // A peer that reflects all bits has not understood.
            return asked && ece && !cwr;
        }
        // RFC 3168 6.1.1: a SYN is not marked itself; Linux does not believe one that is.
        ece && cwr && syn.ecn & field::MASK == 0 && (asked || before & flags::PASSIVE != 0)
    }

    /// The bits of our SYN or SYN-ACK. One that is sent again does not ask: something on the way
    /// may drop those that do (RFC 3168 6.1.1.1).
    pub(super) fn ecn_of_syn(&mut self, answer: bool, again: bool) -> Flags {
        if answer {
            return if self.ecn() { Flags::ECE } else { Flags::empty() };
        }
        if !self.opts().has(option::ECN) || again {
            return Flags::empty();
        }
        self.agreed |= flags::ECN;
        Flags::ECE | Flags::CWR
    }

    /// A segment with text has arrived: RFC 3168 6.1.3.
    #[cold]
    pub(super) fn ecn_in(&mut self, seg: &Segment) {
        if seg.flags.contains(Flags::CWR) {
            self.owed.remove(Owed::ECHO);
            // Its window may be down to a segment.
            self.need |= Need::ACK;
        }
        if seg.ecn & field::MASK == field::CE {
            if !self.owed.contains(Owed::ECHO) {
                self.need |= Need::ACK;
            }
            self.owed |= Owed::ECHO;
        }
    }

    /// Bits and ECN field of a segment; `new`: it has data that was never sent.
    #[cold]
    pub(super) fn ecn_out(&mut self, new: bool) -> (Flags, u8) {
        let mut bits = Flags::empty();
        if self.owed.contains(Owed::ECHO) {
            bits |= Flags::ECE;
        }
        if !new {
            // RFC 3168 6.1.4, 6.1.5: neither ACKs nor what is sent again.
            return (bits, 0);
        }
        if self.owed.contains(Owed::CWR) {
            self.owed.remove(Owed::CWR);
            bits |= Flags::CWR;
        }
        (bits, field::ECT_0)
    }

    /// Whether new data must go as one segment: a NIC that cuts would say CWR with each.
    pub(super) fn ecn_single(&self) -> bool {
        self.owed.contains(Owed::CWR)
    }

    /// The window has fallen, for whatever reason (RFC 3168 6.1.2).
    pub(super) fn ecn_fell(&mut self) {
        self.owed.set(Owed::CWR, self.ecn());
    }

    /// It was for nothing.
    pub(super) fn ecn_undone(&mut self) {
        self.owed.remove(Owed::CWR);
    }
}
