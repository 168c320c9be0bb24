//! Who holds what, as it leaves the system: init walks through all CNodes and threads with the kernel's
//! help, the shell passes on what it says.
//!
//! The form is [`MAGIC`], the length of the header as a little-endian u32, a postcard [`Header`], and
//! [`Entry`]s of [`ENTRY`] bytes until the end.

use abi::CapInfo;
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::Name;

/// First bytes.
pub const MAGIC: [u8; 8] = *b"BWAUTHO1";
/// Bytes of an entry.
pub const ENTRY: usize = 40;
/// Entries in one reply of init.
pub const PAGE: usize = 20;

/// Where a capability is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// In init's CNode.
    Init,
    /// In the CNode of process `n`.
    CNode(u16),
    /// In the thread of process `n`; the slot is a number of [`abi::thread_slot`].
    Thread(u16),
}

impl Place {
    /// The place after this one, of a system with so many processes.
    pub const fn next(self, processes: u16) -> Option<Self> {
        match self {
            Self::Init if processes > 0 => Some(Self::CNode(0)),
            Self::CNode(n) if n + 1 < processes => Some(Self::CNode(n + 1)),
            Self::CNode(_) => Some(Self::Thread(0)),
            Self::Thread(n) if n + 1 < processes => Some(Self::Thread(n + 1)),
            _ => None,
        }
    }
    const fn to_raw(self) -> u32 {
        match self {
            Self::Init => 0,
            Self::CNode(n) => 1 << 16 | n as u32,
            Self::Thread(n) => 2 << 16 | n as u32,
        }
    }
    const fn from_raw(raw: u32) -> Option<Self> {
        match raw >> 16 {
            0 => Some(Self::Init),
            1 => Some(Self::CNode(raw as u16)),
            2 => Some(Self::Thread(raw as u16)),
            _ => None,
        }
    }
}

/// For what init made what is in one of its slots: its word, by which objects get names. The numbers
/// are indices of the system description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Purpose {
    /// For itself.
    #[default]
    Own,
    /// A lent region.
    Region(u16),
    /// Read-only parts of a program: by the first process that runs it.
    Program(u16),
    /// Registers of a device.
    Device(u16),
    /// An endpoint.
    Endpoint(u16),
    /// A notification.
    Notification(u16),
    /// The memory that a process's lives are made of.
    Private(u16),
    /// What of a process outlives its lives: address space, mappings, log page, start information.
    Standing(u16),
    /// One life of a process: its own memory, thread, CNode.
    Life(u16),
}

impl Purpose {
    const fn to_raw(self) -> u32 {
        match self {
            Self::Own => 0,
            Self::Region(n) => 1 << 16 | n as u32,
            Self::Program(n) => 2 << 16 | n as u32,
            Self::Device(n) => 3 << 16 | n as u32,
            Self::Endpoint(n) => 4 << 16 | n as u32,
            Self::Notification(n) => 5 << 16 | n as u32,
            Self::Private(n) => 6 << 16 | n as u32,
            Self::Standing(n) => 7 << 16 | n as u32,
            Self::Life(n) => 8 << 16 | n as u32,
        }
    }
    const fn from_raw(raw: u32) -> Option<Self> {
        let n = raw as u16;
        Some(match raw >> 16 {
            0 => Self::Own,
            1 => Self::Region(n),
            2 => Self::Program(n),
            3 => Self::Device(n),
            4 => Self::Endpoint(n),
            5 => Self::Notification(n),
            6 => Self::Private(n),
            7 => Self::Standing(n),
            8 => Self::Life(n),
            _ => return None,
        })
    }
}

/// A capability and where it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub place: Place,
    /// In a slot of init's: what for. Elsewhere [`Purpose::Own`].
    pub purpose: Purpose,
    /// What the kernel tells of it.
    pub cap: CapInfo,
}

impl Entry {
    /// As bytes.
    pub fn to_bytes(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..4].copy_from_slice(&self.place.to_raw().to_le_bytes());
        bytes[4..8].copy_from_slice(&self.purpose.to_raw().to_le_bytes());
        for (to, word) in bytes[8..].chunks_exact_mut(8).zip(self.cap.to_words()) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
    /// From bytes; `None`: they are none.
    pub fn from_bytes(bytes: &[u8; ENTRY]) -> Option<Self> {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let head = word(0);
        Some(Self {
            place: Place::from_raw(head as u32)?,
            purpose: Purpose::from_raw((head >> 32) as u32)?,
            cap: CapInfo::from_words([word(8), word(16), word(24), word(32)])?,
        })
    }
}

/// What a reader of the entries needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Processes by number.
    pub names: Vec<Name, 64>,
    /// Bytes of RAM that the machine has, as its firmware says.
    pub machine: u64,
}

/// Some entries, as init answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Purpose and the kernel's words.
    pub caps: Vec<(Purpose, [u64; 4]), PAGE>,
    /// The slot to ask for next; `None`: there are no more in this place.
    pub next: Option<u32>,
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn entries_are_read_back() {
        let cap =
            CapInfo::from_words([10 | 12 << 8 | 3 << 16 | 1 << 20 | 7 << 32, 1, 2, 3]).unwrap();
        let entry = Entry { place: Place::Thread(5), purpose: Purpose::Life(9), cap };
        assert_eq!(Entry::from_bytes(&entry.to_bytes()), Some(entry));
        assert_eq!((cap.slot, cap.write, cap.size_bits), (7, true, 12));
        assert_eq!(Entry::from_bytes(&[0; ENTRY]), None);
    }

    #[test]
    fn every_place_comes_once() {
        let all: Vec<_> = core::iter::successors(Some(Place::Init), |p| p.next(2)).collect();
        let [a, b] = [Place::CNode, Place::Thread];
        assert_eq!(all, [Place::Init, a(0), a(1), b(0), b(1)]);
        assert_eq!(Place::Init.next(0), None);
    }
}
