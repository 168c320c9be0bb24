//! What a capability is, as [`crate::Label::CNodeInspect`] and [`crate::Label::ThreadInspect`] tell it.

use crate::{MapAttr, ObjType, Rights};

/// A capability, described in four words: type (8 bits), size bits (8), rights (3), device memory
/// (1), how it is mapped (4), and slot << 32; object; data; link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapInfo {
    /// Its slot.
    pub slot: u32,
    /// Type of the object.
    pub ty: ObjType,
    /// Size, as given to retype.
    pub size_bits: u8,
    /// Rights.
    pub rights: Rights,
    /// Whether it is device memory.
    pub device: bool,
    /// A mapped frame: whether it can be written.
    pub write: bool,
    /// A mapped frame: how, besides.
    pub attr: MapAttr,
    /// Number of the object: the same in every capability to it as long as it lives, and no address.
    /// Of an interrupt handler: the line. 0: there is no object behind it.
    pub object: u64,
    /// Badge (endpoint, notification, and of what an interrupt or a timer signals); first << 16 |
    /// last (ports); bytes used (untyped); address (mapped frame or table).
    pub data: u64,
    /// Number of another object: the address space of a mapping, the notification that an
    /// interrupt or a timer signals; 0: none.
    pub link: u64,
}

impl CapInfo {
    /// As words.
    pub const fn to_words(&self) -> [u64; 4] {
        let head = self.ty as u64
            | (self.size_bits as u64) << 8
            | (self.rights.bits() as u64) << 16
            | (self.device as u64) << 19
            | (self.write as u64) << 20
            | (self.attr.bits() as u64) << 21
            | (self.slot as u64) << 32;
        [head, self.object, self.data, self.link]
    }
    /// From words; `None`: the slot is empty.
    pub const fn from_words([head, object, data, link]: [u64; 4]) -> Option<Self> {
        let Some(ty) = ObjType::from_raw(head & 0xff) else { return None };
        Some(Self {
            slot: (head >> 32) as u32,
            ty,
            size_bits: (head >> 8) as u8,
            rights: Rights::from_bits_truncate((head >> 16) as u8 & 7),
            device: head >> 19 & 1 != 0,
            write: head >> 20 & 1 != 0,
            attr: MapAttr::from_bits_truncate((head >> 21) as u8 & 7),
            object,
            data,
            link,
        })
    }
}

/// What [`crate::Label::ThreadInspect`] tells of a thread, by number.
pub mod thread_slot {
    /// Its CNode.
    pub const CSPACE: u64 = 0;
    /// Its address space.
    pub const VSPACE: u64 = 1;
    /// The endpoint of its faults.
    pub const FAULT: u64 = 2;
    /// The frame of its IPC buffer.
    pub const BUFFER: u64 = 3;
    /// The endpoint of its time-outs.
    pub const TIMEOUT: u64 = 4;
    /// The notification bound to it.
    pub const BOUND: u64 = 5;
    /// Its scheduling context.
    pub const SCHED: u64 = 6;
}

/// Most slots that one [`crate::Label::CNodeInspect`] looks at.
pub const INSPECT_SLOTS: u64 = 64;
