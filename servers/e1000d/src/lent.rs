//! Region `nic.rings`: both descriptor rings, and the notes by which a restarted driver knows what
//! its dead predecessor had done. Lent by init, so it outlives the process; the NIC goes on
//! reading and writing its descriptors while no driver runs.
//!
//! Each descriptor that ends something (every receive descriptor, the last transmit descriptor of
//! a frame) has a [`Note`]: the index *after* the entry it came from in netd's ring (`taken`), and
//! the index *after* the entry that will report it in ours (`given`). A note is written before the
//! tail register moves past its descriptor, and its slot is used again only after the report was
//! published. Hence:
//!
//! - the note before the tail register says what has been taken from netd, exactly: entries taken
//!   later have not reached the NIC, and are simply taken again;
//! - the published index of our own ring says what has been reported, exactly: descriptors whose
//!   `given` lies above it are still owed.
//!
//! Both sides of each question are single words that change at once, so there is no moment at
//! which a crash loses or repeats a frame. The rest of a note is only there to check it.

use crate::hardware::Hardware;
use heapless::Vec;

/// Places for descriptors in the region, and for notes, on each side: what the largest ring takes.
/// A smaller ring uses the first ones, so that all drivers look for the same thing at one place.
pub const MAX_DESCS: usize = RingSize::MAX as usize;

/// How many descriptors a ring has: a power of two. One always stays empty, because RDT = RDH (TDT
/// = TDH) means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize(u16);

impl RingSize {
    /// Least: a frame takes up to seven descriptors. RDLEN and TDLEN are multiples of 128 bytes
    /// (manual 13.4.27).
    pub const MIN: u16 = 32;
    /// Most: netd has no more receive buffers.
    pub const MAX: u16 = 512;
    /// What every driver of these NICs has by default.
    pub const DEFAULT: Self = Self(256);

    /// A ring of this size, if there is one.
    pub const fn new(descriptors: u32) -> Option<Self> {
        if descriptors.is_power_of_two()
            && descriptors >= Self::MIN as u32
            && descriptors <= Self::MAX as u32
        {
            Some(Self(descriptors as u16))
        } else {
            None
        }
    }
    /// Descriptors.
    pub const fn get(self) -> u16 {
        self.0
    }
    /// Most of them that can be with the NIC.
    pub const fn usable(self) -> u16 {
        self.0 - 1
    }
    /// `slot` moved by `by`, round the ring.
    pub const fn step(self, slot: u16, by: i32) -> u16 {
        ((slot as i32 + by) & (self.0 as i32 - 1)) as u16
    }
    /// How many slots lie from `from` up to `to`.
    pub const fn distance(self, from: u16, to: u16) -> u16 {
        to.wrapping_sub(from) & (self.0 - 1)
    }
}

/// Which of the two rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Receive.
    Rx,
    /// Transmit.
    Tx,
}

const NOTE_WORDS: usize = 4;
const RX_RING: usize = 0;
const TX_RING: usize = RX_RING + 2 * MAX_DESCS;
const RX_NOTES: usize = TX_RING + 2 * MAX_DESCS;
const TX_NOTES: usize = RX_NOTES + NOTE_WORDS * MAX_DESCS;
const REFUSALS: usize = TX_NOTES + NOTE_WORDS * MAX_DESCS;
const TALLIES: usize = REFUSALS + 2 * NOTE_WORDS;
const HEADER: usize = TALLIES + 4 * NOTE_WORDS;

/// Bytes that region `nic.rings` must have.
pub const BYTES: usize = (HEADER + NOTE_WORDS) * 8;

/// Byte offset of a side's descriptor ring in the region.
pub const fn ring_offset(side: Side) -> u64 {
    match side {
        Side::Rx => RX_RING as u64 * 8,
        Side::Tx => TX_RING as u64 * 8,
    }
}

/// Number of the word that holds half `half` of descriptor `slot`.
pub const fn desc_word(side: Side, slot: u16, half: usize) -> usize {
    let ring = match side {
        Side::Rx => RX_RING,
        Side::Tx => TX_RING,
    };
    ring + 2 * (slot as usize % MAX_DESCS) + half
}

// The bases lie on 16 bytes (manual 13.4.25); neither ring crosses into the other's page.
const _: () = assert!(MAX_DESCS.is_multiple_of(256) && BYTES <= 64 * 1024);

/// What a descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// Index after its entry in the ring that netd produces.
    pub taken: u64,
    /// Index after its entry in the ring that this driver produces.
    pub given: u64,
    /// Receive: the buffer. Transmit: cookie, descriptors, bytes (see `tx`).
    pub info: u64,
}

/// Spreads the words of a note; a note that is torn, or hit by a stray store, does not match.
fn seal(place: usize, n: Note) -> u64 {
    let mut h = 0x9e37_79b9_7f4a_7c15 ^ place as u64;
    for w in [n.taken, n.given, n.info] {
        h = (h ^ w).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h ^= h >> 32;
    }
    h
}

fn read_note<H: Hardware>(hw: &H, place: usize) -> Option<Note> {
    let n = Note { taken: hw.load(place), given: hw.load(place + 1), info: hw.load(place + 2) };
    (hw.load(place + 3) == seal(place, n)).then_some(n)
}

fn write_note<H: Hardware>(hw: &mut H, place: usize, n: Note) {
    hw.store(place, n.taken);
    hw.store(place + 1, n.given);
    hw.store(place + 2, n.info);
    hw.store(place + 3, seal(place, n));
}

const fn note_place(side: Side, slot: u16) -> usize {
    let base = match side {
        Side::Rx => RX_NOTES,
        Side::Tx => TX_NOTES,
    };
    base + NOTE_WORDS * (slot as usize % MAX_DESCS)
}

/// The note of a slot, if it holds.
pub fn note<H: Hardware>(hw: &H, side: Side, slot: u16) -> Option<Note> {
    read_note(hw, note_place(side, slot))
}

/// Writes the note of a slot.
pub fn set_note<H: Hardware>(hw: &mut H, side: Side, slot: u16, note: Note) {
    write_note(hw, note_place(side, slot), note);
}

/// What a side whose tail register or notes do not hold still owes for certain: descriptors with
/// a note of their own whose entry was `taken` and is not among the `given` ones. Their slots,
/// oldest first.
pub fn owed<H: Hardware>(hw: &H, side: Side, given: u64, taken: u64) -> Vec<u16, MAX_DESCS> {
    // By age first, to sort by it; in two bytes each, because stacks are short.
    let mut found: Vec<(u16, u16), MAX_DESCS> = Vec::new();
    for slot in 0..RingSize::MAX {
        let Some(n) = note(hw, side, slot).filter(|n| n.taken <= taken) else { continue };
        let age = n.given.wrapping_sub(given);
        if (1..MAX_DESCS as u64).contains(&age) {
            // A slot each: there is room.
            let _ = found.push((age as u16, slot));
        }
    }
    found.sort_unstable();
    found.into_iter().map(|(_, slot)| slot).collect()
}

/// The note of the frame that was refused under number `given - 1`. A refused frame has no
/// descriptor, so these notes have a place of their own: two, used in turn, because the older one
/// counts until the newer is published.
pub fn refusal<H: Hardware>(hw: &H, given: u64) -> Option<Note> {
    read_note(hw, refusal_place(given)).filter(|n| n.given == given)
}

/// Writes the note of a refused frame, before it is reported.
pub fn set_refusal<H: Hardware>(hw: &mut H, note: Note) {
    write_note(hw, refusal_place(note.given), note);
}

/// Word at which that note begins.
pub const fn refusal_place(given: u64) -> usize {
    REFUSALS + NOTE_WORDS * (given % 2) as usize
}

const fn tally_place(side: Side, place: usize) -> usize {
    let first = match side {
        Side::Rx => 0,
        Side::Tx => 2,
    };
    TALLIES + NOTE_WORDS * (first + place % 2)
}

/// Totals of one side, in one of two places: `taken` frames and `info` bytes when `given` was
/// published (see [`crate::tally`]).
pub fn tally<H: Hardware>(hw: &H, side: Side, place: usize) -> Option<Note> {
    read_note(hw, tally_place(side, place))
}

/// Writes them.
pub fn set_tally<H: Hardware>(hw: &mut H, side: Side, place: usize, note: Note) {
    write_note(hw, tally_place(side, place), note);
}

const MAGIC: u64 = u64::from_le_bytes(*b"e1000d 1");

/// What the header says while the rings are in use: which memory they were made for.
fn header_note(rings_bus: u64, pool_bus: u64) -> Note {
    Note { taken: MAGIC, given: rings_bus, info: pool_bus }
}

/// Whether the rings were set up by this driver for these bus addresses.
pub fn is_set_up<H: Hardware>(hw: &H, rings_bus: u64, pool_bus: u64) -> bool {
    read_note(hw, HEADER) == Some(header_note(rings_bus, pool_bus))
}

/// Says that the rings are in use.
pub fn set_up<H: Hardware>(hw: &mut H, rings_bus: u64, pool_bus: u64) {
    write_note(hw, HEADER, header_note(rings_bus, pool_bus));
}

/// Says that they are not.
pub fn tear_down<H: Hardware>(hw: &mut H) {
    hw.store(HEADER, 0);
}
