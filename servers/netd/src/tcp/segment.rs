//! What goes into a connection, and what comes of it.

use crate::wire::tcp::{Flags, Options, Seq};
use bitflags::bitflags;

bitflags! {
    /// What a step led to, besides segments to send (ask [`Conn::next_segment`]).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Outcome: u16 {
        /// The program should look at the record.
        const READY = 1;
        /// The handshake has completed.
        const ESTABLISHED = 2;
        /// The connection is over; the record says how.
        const ENDED = 4;
        /// TIME-WAIT began.
        const TIME_WAIT = 8;
        /// Answer with an RST for the segment (RFC 9293 3.10.7.1 says which numbers).
        const REFUSE = 16;
        /// Tell the peer by an RST of our own.
        const RESET = 32;
        /// The path may swallow what Fast Open sends.
        const SWALLOWED = 64;
        /// Dropped: neither ACK nor SYN nor RST.
        const NO_ACK = 1 << 8;
        /// Dropped: outside the window.
        const UNACCEPTABLE = 1 << 9;
        /// Dropped: a SYN, RST or ACK that RFC 5961 wants questioned.
        const CHALLENGED = 1 << 10;
        /// Dropped: text after the peer's FIN.
        const AFTER_FIN = 1 << 11;
        /// All that say why the segment was dropped.
        const DROPPED = 0xff << 8;
    }
}

/// A segment as it arrived, checksum verified.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Sequence number.
    pub seq: Seq,
    /// Acknowledgment number.
    pub ack: Seq,
    /// Control bits.
    pub flags: Flags,
    /// Window, unscaled.
    pub window: u16,
    /// Urgent pointer; meaningful with [`Flags::URG`].
    pub urgent: u16,
    /// Options.
    pub options: Options,
    /// ECN field of its IP header ([`ecn::field`]).
    pub ecn: u8,
    /// Bytes of payload.
    pub len: u32,
}

impl Segment {
    /// Sequence numbers it takes.
    pub fn space(&self) -> u32 {
        self.len + self.flags.contains(Flags::SYN) as u32 + self.flags.contains(Flags::FIN) as u32
    }
}

/// Which part of a segment's payload belongs in the receive ring, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of payload before it.
    pub skip: u32,
    /// Bytes to store; 0: none.
    pub len: u32,
    /// Position in the stream, modulo 2^32.
    pub at: u32,
}
