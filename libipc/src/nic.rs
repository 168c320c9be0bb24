//! The contract between a NIC driver and netd: four rings, a status page, two notifications.
//!
//! | ring | producer | entry | meaning |
//! |---|---|---|---|
//! | rx free | netd | [`RxFree`] | an empty receive buffer for the NIC |
//! | rx used | driver | [`RxUsed`] | a received frame |
//! | tx used | netd | [`TxDesc`] | a piece of a frame to send; the last piece has [`TxDesc::EOP`] |
//! | tx free | driver | [`TxFree`] | a frame has left; its memory may be used again |
//!
//! Frames leave, and come back on tx free, in the order in which they were given. Buffers are
//! named by (region, offset, length), never by address: the driver knows the bus address of each
//! region from its start information and checks every range against it.
//!
//! Memory: region `nic.drv` is written by the driver, `nic.net` by netd (offsets below), `nic.rx`
//! holds [`RX_BUFFERS`] receive buffers, `nic.tx` frame headers and small frames of netd. Session
//! send regions come after (see [`crate::sock`]).

use crate::ring::{ConsumerSide, Entry, ProducerSide, producer_bytes};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// Entries of each ring.
pub const RING: u32 = 1024;
/// Receive buffers in region `nic.rx`.
pub const RX_BUFFERS: u32 = 512;
/// Bytes of a receive buffer: the smallest size the 8254x is set to, with long packets off.
pub const RX_BUFFER_SIZE: u32 = 2048;
/// DMA window number of the receive pool (the device writes it).
pub const WINDOW_RX: u8 = 0;
/// DMA window number of netd's header memory (the device reads it).
pub const WINDOW_TX: u8 = 1;
/// DMA window of the NIC's descriptor rings; never named in a [`TxDesc`].
pub const WINDOW_RINGS: u8 = 2;
/// DMA window number of the first session's send region; session `i` has `WINDOW_SESSION + i`.
pub const WINDOW_SESSION: u8 = 8;
/// Pieces that one frame may have.
pub const MAX_PIECES: usize = 6;
/// Most bytes in one of them (the 8254x's limit).
pub const MAX_PIECE: u32 = 16_384;

/// Byte offsets in `nic.drv` (written by the driver) and `nic.net` (written by netd).
pub mod offset {
    use super::*;
    /// `nic.drv`: [`Status`].
    pub const STATUS: usize = 0;
    /// `nic.drv`: consumer side of rx free.
    pub const RX_FREE_CONSUMER: usize = 2048;
    /// `nic.drv`: consumer side of tx used.
    pub const TX_USED_CONSUMER: usize = RX_FREE_CONSUMER + size_of::<ConsumerSide>();
    /// `nic.drv`: producer side of rx used.
    pub const RX_USED_PRODUCER: usize = 4096;
    /// `nic.drv`: producer side of tx free.
    pub const TX_FREE_PRODUCER: usize = RX_USED_PRODUCER + 3 * 4096;
    /// `nic.drv`: bytes.
    pub const DRV_BYTES: usize = TX_FREE_PRODUCER + 3 * 4096;
    /// `nic.net`: consumer side of rx used.
    pub const RX_USED_CONSUMER: usize = 0;
    /// `nic.net`: consumer side of tx free.
    pub const TX_FREE_CONSUMER: usize = size_of::<ConsumerSide>();
    /// `nic.net`: [`Groups`].
    pub const GROUPS: usize = 2048;
    /// `nic.net`: producer side of rx free.
    pub const RX_FREE_PRODUCER: usize = 4096;
    /// `nic.net`: producer side of tx used.
    pub const TX_USED_PRODUCER: usize = RX_FREE_PRODUCER + 3 * 4096;
    /// `nic.net`: bytes.
    pub const NET_BYTES: usize = TX_USED_PRODUCER + 5 * 4096;

    const _: () = assert!(producer_bytes::<RxUsed>(RING) <= 3 * 4096);
    const _: () = assert!(producer_bytes::<TxDesc>(RING) <= 5 * 4096);
    const _: () = assert!(size_of::<ProducerSide>() == 64 && size_of::<Status>() <= 2048);
    const _: () = assert!(TX_FREE_CONSUMER + size_of::<ConsumerSide>() <= GROUPS);
    const _: () = assert!(GROUPS + size_of::<Groups>() <= RX_FREE_PRODUCER);
}

/// An empty receive buffer: its index in region `nic.rx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxFree {
    /// Buffer index, below [`RX_BUFFERS`].
    pub buffer: u32,
}

/// A received frame, without its FCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxUsed {
    /// Buffer index.
    pub buffer: u32,
    /// Bytes of the frame.
    pub len: u16,
    /// [`RxUsed::CSUM_OK`].
    pub flags: u16,
}

impl RxUsed {
    /// The NIC checked the transport checksum.
    pub const CSUM_OK: u16 = 1;
    /// The buffer comes back without a frame (receive error, or the driver shut down).
    pub const EMPTY: u16 = 2;
}

/// Transport checksum to fill in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Csum {
    /// None: the frame is complete.
    #[default]
    None = 0,
    /// TCP: the field holds the folded pseudo-header sum (not inverted).
    Tcp = 1,
    /// UDP: likewise.
    Udp = 2,
}

/// One piece of a frame to send. Offloads and cookie count in the first piece only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TxDesc {
    /// DMA window the bytes lie in.
    pub window: u8,
    /// [`TxDesc::EOP`].
    pub flags: u8,
    /// Bytes of this piece, 1 to [`MAX_PIECE`].
    pub len: u16,
    /// Offset in the window.
    pub offset: u32,
    /// Comes back in [`TxFree`].
    pub cookie: u16,
    /// Offset of the IP header in the frame.
    pub l3_start: u8,
    /// Offset of the transport header.
    pub l4_start: u8,
    /// Checksum to compute.
    pub csum: Csum,
    /// Bytes of all headers, when `mss` is not 0.
    pub hdr_len: u8,
    /// Segment the payload of this TCP frame into so many bytes each (TSO, [`caps::TSO`]); 0: one
    /// frame. The headers are the first piece; IP length and checksum are the driver's, and the
    /// TCP checksum field holds the pseudo-header's sum without the length.
    pub mss: u16,
}

impl TxDesc {
    /// The last piece of a frame.
    pub const EOP: u8 = 1;
}

/// A frame whose memory is free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxFree {
    /// Cookie of the frame's first piece.
    pub cookie: u16,
    /// 1: refused as malformed, 0: sent.
    pub refused: u16,
}

impl Entry for RxFree {
    const WORDS: usize = 1;
    fn store(self, out: &[AtomicU64]) {
        out[0].store(self.buffer as u64, Relaxed);
    }
    fn load(from: &[AtomicU64]) -> Self {
        Self { buffer: from[0].load(Relaxed) as u32 }
    }
}

impl Entry for RxUsed {
    const WORDS: usize = 1;
    fn store(self, out: &[AtomicU64]) {
        let w = self.buffer as u64 | (self.len as u64) << 32 | (self.flags as u64) << 48;
        out[0].store(w, Relaxed);
    }
    fn load(from: &[AtomicU64]) -> Self {
        let w = from[0].load(Relaxed);
        Self { buffer: w as u32, len: (w >> 32) as u16, flags: (w >> 48) as u16 }
    }
}

impl Entry for TxDesc {
    const WORDS: usize = 2;
    fn store(self, out: &[AtomicU64]) {
        let w0 = self.window as u64
            | (self.flags as u64) << 8
            | (self.len as u64) << 16
            | (self.offset as u64) << 32;
        let w1 = self.cookie as u64
            | (self.l3_start as u64) << 16
            | (self.l4_start as u64) << 24
            | (self.csum as u64) << 32
            | (self.hdr_len as u64) << 40
            | (self.mss as u64) << 48;
        out[0].store(w0, Relaxed);
        out[1].store(w1, Relaxed);
    }
    fn load(from: &[AtomicU64]) -> Self {
        let (w0, w1) = (from[0].load(Relaxed), from[1].load(Relaxed));
        Self {
            window: w0 as u8,
            flags: (w0 >> 8) as u8,
            len: (w0 >> 16) as u16,
            offset: (w0 >> 32) as u32,
            cookie: w1 as u16,
            l3_start: (w1 >> 16) as u8,
            l4_start: (w1 >> 24) as u8,
            csum: match (w1 >> 32) as u8 {
                1 => Csum::Tcp,
                2 => Csum::Udp,
                _ => Csum::None,
            },
            hdr_len: (w1 >> 40) as u8,
            mss: (w1 >> 48) as u16,
        }
    }
}

impl Entry for TxFree {
    const WORDS: usize = 1;
    fn store(self, out: &[AtomicU64]) {
        out[0].store(self.cookie as u64 | (self.refused as u64) << 16, Relaxed);
    }
    fn load(from: &[AtomicU64]) -> Self {
        let w = from[0].load(Relaxed);
        Self { cookie: w as u16, refused: (w >> 16) as u16 }
    }
}

/// What the driver says about the NIC, at [`offset::STATUS`] of `nic.drv`.
#[repr(C)]
pub struct Status {
    /// Bumped after each change of the fields below; 0: the driver has not started yet.
    pub version: AtomicU32,
    /// 1: link up.
    pub link: AtomicU32,
    /// Speed in Mbit/s.
    pub speed: AtomicU32,
    /// Bytes of the largest frame, without FCS.
    pub max_frame: AtomicU32,
    /// MAC address, first byte lowest.
    pub mac: AtomicU64,
    /// [`caps`] bits.
    pub caps: AtomicU64,
    /// Counters; see [`Counter`].
    pub counters: [AtomicU64; 32],
}

/// Groups that are named one by one ([`Groups`]).
pub const GROUPS: usize = 64;

/// The multicast groups whose frames the NIC is to take, at [`offset::GROUPS`] of `nic.net`; netd
/// signals the driver when they change. Broadcasts are taken in any case.
#[repr(C)]
pub struct Groups {
    /// One more before a change and after it: while it is odd, the rest means nothing. 0: netd has
    /// not said anything yet.
    pub version: AtomicU32,
    /// How many of `macs` count; more than there are: every group.
    pub count: AtomicU32,
    /// MAC addresses, first byte lowest.
    pub macs: [AtomicU64; GROUPS],
}

impl Groups {
    /// Says which groups there are. Only netd writes.
    pub fn set(&self, groups: impl Iterator<Item = [u8; 6]>) {
        let begun = self.version.load(Relaxed) | 1;
        self.version.store(begun, SeqCst);
        let mut count = 0;
        for [a, b, c, d, e, f] in groups {
            if let Some(word) = self.macs.get(count) {
                word.store(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]), Relaxed);
            }
            count = (count + 1).min(GROUPS + 1);
        }
        self.count.store(count as u32, Relaxed);
        self.version.store(begun.wrapping_add(1).max(2), SeqCst);
    }
    /// The groups as version `version` has them; `None`: every group.
    pub fn get(&self) -> Option<impl Iterator<Item = [u8; 6]>> {
        let count = self.count.load(Acquire) as usize;
        let macs = self.macs.get(..count)?.iter();
        Some(macs.map(|m| {
            let [a, b, c, d, e, f, ..] = m.load(Relaxed).to_le_bytes();
            [a, b, c, d, e, f]
        }))
    }
}

/// Bits of [`Status::caps`].
pub mod caps {
    /// TCP and UDP checksums on send.
    pub const TX_CSUM: u64 = 1;
    /// TCP segmentation on send.
    pub const TSO: u64 = 2;
}

/// Indices of [`Status::counters`]. They survive restarts of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Frames received.
    RxFrames,
    /// Bytes received.
    RxBytes,
    /// Frames sent.
    TxFrames,
    /// Bytes sent.
    TxBytes,
    /// Frames with receive errors.
    RxErrors,
    /// Malformed requests of netd (bad buffer, range, length, order).
    PeerErrors,
    /// Interrupts taken.
    Interrupts,
    /// Times the link changed.
    LinkChanges,
    /// Warm re-attachments to running rings.
    Reattached,
    /// Cold starts of the NIC (reset, empty rings).
    ColdStarts,
}

impl Status {
    /// Adds to a counter. Only the driver writes, so no read-modify-write is needed.
    pub fn count(&self, counter: Counter, n: u64) {
        let c = &self.counters[counter as usize];
        c.store(c.load(Relaxed).wrapping_add(n), Relaxed);
    }
    /// The MAC address.
    pub fn mac(&self) -> [u8; 6] {
        let b = self.mac.load(Relaxed).to_le_bytes();
        [b[0], b[1], b[2], b[3], b[4], b[5]]
    }
}
