//! netd's words of one socket.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::*};

use super::{Error, State};

/// netd's words of one socket: its hard state, 128 bytes. Written by netd only.
///
/// The first part is fixed when the socket is opened or its handshake begins, and sealed by
/// `check`; the second is kept in the order that recovery needs (see ARCHITECTURE.md): `rcv` after
/// the payload is in the ring and before the ACK leaves, `snd_max` before the segment leaves,
/// `snd_una` before space is freed.
#[repr(C, align(128))]
pub struct Record {
    /// Seal over the words up to `rcv` (see [`Record::seal`]).
    pub check: AtomicU32,
    /// Counts uses of this record; changes whenever the id gets a new socket.
    pub generation: AtomicU32,
    /// [`Kind`](super::Kind).
    pub kind: AtomicU16,
    /// Layout version, 1.
    pub version: AtomicU16,
    /// Stack id (several stacks may share a netd), 0 for now.
    pub stack: AtomicU16,
    /// Number of the interface that it is bound to (SO_BINDTODEVICE, or a peer that only a link knows); 0: to none.
    pub interface: AtomicU16,
    /// Local address; IPv4 in its mapped form (::ffff:a.b.c.d), big-endian halves.
    pub local_ip: [AtomicU64; 2],
    /// Remote address, likewise.
    pub remote_ip: [AtomicU64; 2],
    /// Local port.
    pub local_port: AtomicU16,
    /// Remote port.
    pub remote_port: AtomicU16,
    /// Socket id of the listener until accepted, else `u16::MAX`.
    pub listener: AtomicU16,
    /// [`flags`] bits.
    pub flags: AtomicU16,
    /// Offset of the send ring in `tx`.
    pub tx_off: AtomicU32,
    /// Offset of the receive ring in `rx`.
    pub rx_off: AtomicU32,
    /// log2 of the send ring's size (low byte) and of the receive ring's (high byte).
    pub ring_bits: AtomicU16,
    /// Peer's MSS.
    pub peer_mss: AtomicU16,
    /// Our window scale (low byte) and the peer's (high byte).
    pub window_scale: AtomicU16,
    _reserved: AtomicU16,
    /// Initial send sequence number.
    pub iss: AtomicU32,
    /// Initial receive sequence number.
    pub irs: AtomicU32,
    /// Added to our timestamps.
    pub ts_offset: AtomicU32,
    /// Latest timestamp of the peer (`TS.Recent`). Not sealed.
    pub ts_recent: AtomicU32,
    /// Streams: `rcv_nxt` (low half) and `rcv_adv`, the advertised right edge (high half), stored
    /// together. When the peer's FIN has been taken, `rcv_adv` is `rcv_nxt - 1`, which is
    /// impossible otherwise: one store tells both, so that a crash in between cannot make a byte
    /// of the FIN. Datagrams: bytes ever put into the receive ring.
    pub rcv: AtomicU64,
    /// Streams: `snd_una` (low half) and `snd_max`, the highest sequence number sent plus one
    /// (high half). Datagrams: bytes ever taken from the send ring.
    pub snd: AtomicU64,
    /// Own FIN's sequence number, valid with [`event::FIN_QUEUED`]. Before, of streams: how many bytes the program
    /// should have written and not acknowledged unless it knows better, 0: as many as the ring holds.
    pub fin_seq: AtomicU32,
    /// Streams: [`event`] bits. Datagrams: errors reported in all; the last is in `error`.
    pub events: AtomicU32,
    /// [`State`].
    pub state: AtomicU16,
    /// [`Error`] that ended the socket, 0: none.
    pub error: AtomicU16,
    /// Listener: connections that wait to be accepted. Datagrams: datagrams dropped for lack of
    /// room (saturating). Streams, with [`event::URGENT`]: the count (as `rx_head`, modulo 2^32) of the
    /// last urgent byte that the peer announced; it may not have arrived yet.
    pub pending: AtomicU32,
}

const _: () = assert!(size_of::<Record>() == 128);

/// Bits of [`Record::flags`]: fixed at the handshake.
pub mod flags {
    /// The connection was accepted, not opened by us.
    pub const PASSIVE: u16 = 1;
    /// Timestamps are in use (RFC 7323).
    pub const TIMESTAMPS: u16 = 2;
    /// SACK is in use (RFC 2018).
    pub const SACK: u16 = 4;
    /// Both sides scale windows (RFC 7323).
    pub const WINDOW_SCALE: u16 = 8;
    /// ECN is in use (RFC 3168).
    pub const ECN: u16 = 16;
    /// The program closed it; it goes on until its data and FIN are acknowledged.
    pub const ORPHAN: u16 = 32;
    /// Bound to any address of IPv6, it takes that family only.
    pub const V6ONLY: u16 = 1 << 15;
}

/// Bits of [`Record::events`].
pub mod event {
    /// The peer's FIN has arrived; it occupies the number before `rcv_nxt`. Set after `rcv` has
    /// passed it.
    pub const PEER_FIN: u32 = 1;
    /// The program shut down its sending half; `fin_seq` is valid.
    pub const FIN_QUEUED: u32 = 2;
    /// The handshake was completed.
    pub const ESTABLISHED: u32 = 4;
    /// The peer has sent urgent data; [`Record::pending`](super::Record::pending) says where it ends.
    pub const URGENT: u32 = 8;
    /// The program shut down its receiving half.
    pub const SHUT_READ: u32 = 16;
    /// Data may go both ways before the handshake is complete (RFC 7413).
    pub const FAST_OPEN: u32 = 32;
    /// The data of the SYN, ours or the peer's, was taken.
    pub const SYN_DATA: u32 = 64;
    /// Bytes of the stream count from either on.
    pub const FLOWS: u32 = ESTABLISHED | FAST_OPEN;
}

impl Default for Record {
    fn default() -> Self {
        Self::new()
    }
}

impl Record {
    /// How many bytes the program should have written and not acknowledged; 0: as many as the ring holds.
    #[inline]
    pub fn send_limit(&self) -> u32 {
        match self.events.load(Acquire) & event::FIN_QUEUED {
            0 => self.fin_seq.load(Relaxed),
            _ => 0,
        }
    }

    /// All zero: no socket, not sealed.
    pub const fn new() -> Self {
        Self {
            check: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            kind: AtomicU16::new(0),
            version: AtomicU16::new(0),
            stack: AtomicU16::new(0),
            interface: AtomicU16::new(0),
            local_ip: [const { AtomicU64::new(0) }; 2],
            remote_ip: [const { AtomicU64::new(0) }; 2],
            local_port: AtomicU16::new(0),
            remote_port: AtomicU16::new(0),
            listener: AtomicU16::new(0),
            flags: AtomicU16::new(0),
            tx_off: AtomicU32::new(0),
            rx_off: AtomicU32::new(0),
            ring_bits: AtomicU16::new(0),
            peer_mss: AtomicU16::new(0),
            window_scale: AtomicU16::new(0),
            _reserved: AtomicU16::new(0),
            iss: AtomicU32::new(0),
            irs: AtomicU32::new(0),
            ts_offset: AtomicU32::new(0),
            ts_recent: AtomicU32::new(0),
            rcv: AtomicU64::new(0),
            snd: AtomicU64::new(0),
            fin_seq: AtomicU32::new(0),
            events: AtomicU32::new(0),
            state: AtomicU16::new(0),
            error: AtomicU16::new(0),
            pending: AtomicU32::new(0),
        }
    }
    /// Words of the fixed part.
    pub const WORDS: usize = 11;
    /// The fixed part.
    pub fn words(&self) -> [u64; Self::WORDS] {
        [
            self.generation.load(Relaxed) as u64,
            self.kind.load(Relaxed) as u64
                | (self.version.load(Relaxed) as u64) << 16
                | (self.stack.load(Relaxed) as u64) << 32
                | (self.interface.load(Relaxed) as u64) << 48,
            self.local_ip[0].load(Relaxed),
            self.local_ip[1].load(Relaxed),
            self.remote_ip[0].load(Relaxed),
            self.remote_ip[1].load(Relaxed),
            self.local_port.load(Relaxed) as u64
                | (self.remote_port.load(Relaxed) as u64) << 16
                | (self.listener.load(Relaxed) as u64) << 32
                | (self.flags.load(Relaxed) as u64) << 48,
            self.tx_off.load(Relaxed) as u64 | (self.rx_off.load(Relaxed) as u64) << 32,
            self.ring_bits.load(Relaxed) as u64
                | (self.peer_mss.load(Relaxed) as u64) << 16
                | (self.window_scale.load(Relaxed) as u64) << 32,
            self.iss.load(Relaxed) as u64 | (self.irs.load(Relaxed) as u64) << 32,
            self.ts_offset.load(Relaxed) as u64,
        ]
    }
    /// Seal over the fixed part: a 32-bit mix, against torn and stray writes, not against malice.
    pub fn seal(&self) -> u32 {
        Self::seal_of(&self.words())
    }
    /// The seal of a fixed part.
    pub fn seal_of(words: &[u64; Self::WORDS]) -> u32 {
        let mut h: u64 = 0x9e37_79b9_7f4a_7c15;
        for w in words {
            h = (h ^ w).wrapping_mul(0xff51_afd7_ed55_8ccd);
            h ^= h >> 32;
        }
        (h as u32) | 1
    }
    /// Whether the seal holds.
    pub fn is_sealed(&self) -> bool {
        self.check.load(Acquire) == self.seal()
    }
    /// The state, [`State::Closed`] if the word is none.
    pub fn state(&self) -> State {
        State::from_raw(self.state.load(Acquire)).unwrap_or(State::Closed)
    }
    /// The error that ended the socket.
    pub fn error(&self) -> Option<Error> {
        Error::from_raw(self.error.load(Acquire))
    }
    /// Stream bytes that have arrived in all, as a 32-bit count (0 before the handshake): the
    /// program subtracts `rx_head` modulo 2^32.
    pub fn received(&self) -> u32 {
        if self.events.load(Acquire) & event::FLOWS == 0 {
            return 0;
        }
        let rcv = self.rcv.load(Acquire);
        let (nxt, adv) = (rcv as u32, (rcv >> 32) as u32);
        let fin = adv == nxt.wrapping_sub(1);
        nxt.wrapping_sub(self.irs.load(Relaxed)).wrapping_sub(1).wrapping_sub(fin as u32)
    }
    /// Stream bytes acknowledged by the peer in all, as a 32-bit count, not counting SYN and FIN.
    pub fn acknowledged(&self) -> u32 {
        if self.events.load(Acquire) & event::FLOWS == 0 {
            return 0;
        }
        let una = self.snd.load(Acquire) as u32;
        let past_syn = una.wrapping_sub(self.iss.load(Relaxed)).wrapping_sub(1);
        let fin = self.events.load(Acquire) & event::FIN_QUEUED != 0
            && una == self.fin_seq.load(Acquire).wrapping_add(1);
        past_syn.wrapping_sub(fin as u32)
    }
    /// Stream bytes sent at least once, as a 32-bit count, not counting SYN and FIN.
    pub fn sent(&self) -> u32 {
        if self.events.load(Acquire) & event::FLOWS == 0 {
            return 0;
        }
        let max = (self.snd.load(Acquire) >> 32) as u32;
        let past_syn = max.wrapping_sub(self.iss.load(Relaxed)).wrapping_sub(1);
        let fin = self.events.load(Acquire) & event::FIN_QUEUED != 0
            && max == self.fin_seq.load(Acquire).wrapping_add(1);
        past_syn.wrapping_sub(fin as u32)
    }
    /// Datagrams: bytes ever put into the receive ring.
    pub fn dgram_rx_tail(&self) -> u64 {
        self.rcv.load(Acquire)
    }
    /// Datagrams: bytes ever taken from the send ring.
    pub fn dgram_tx_head(&self) -> u64 {
        self.snd.load(Acquire)
    }
}
