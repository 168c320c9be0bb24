//! Capabilities and the slots that hold them.
//!
//! A capability is two words, a slot two more for the derivation list ([`crate::mdb`]):
//!
//! ```text
//! word 0  bits 0..48 physical address (IRQ handler: line)   48..54 type   54..60 size bits
//!         60..63 rights   63 device memory
//! word 1  untyped: watermark     endpoint, notification: badge     I/O ports: first << 16 | last
//!         CNode: guard << 8 | guard bits     VSpace: ASID     IoSpace: number of its domain
//!         frame, page table: address >> 12 (36 bits), ASID (12 bits), ASID generation (16 bits)
//!         zombie: see [`crate::zombie`]
//! word 2  next in the derivation list (48 bits)   bit 48 revocable   bit 49 first of its badge
//! word 3  previous in the derivation list
//! ```

use abi::{ObjType, Rights};
use core::cell::Cell;

use crate::Obj;
use crate::ipc::{Endpoint, Reply};
use crate::notification::Notification;
use crate::sched::SchedContext;
use crate::thread::Tcb;
use crate::timer::Timer;

const ADDR: u64 = (1 << 48) - 1;
/// Type numbers of zombies ([`crate::zombie`]). No system call makes or uses one.
pub const ZOMBIE: u8 = 63;
/// One that lies inside the object it stands for.
pub const BURIED: u8 = 62;

/// A capability. `Cap::NULL` is none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cap {
    w0: u64,
    w1: u64,
}

impl Cap {
    /// No capability.
    pub const NULL: Self = Self { w0: 0, w1: 0 };

    /// A capability with all rights.
    pub const fn new(ty: ObjType, addr: u64, size_bits: u8) -> Self {
        Self::raw(ty as u8, addr, size_bits)
    }
    const fn raw(ty: u8, addr: u64, size_bits: u8) -> Self {
        Self { w0: (addr & ADDR) | (ty as u64) << 48 | (size_bits as u64) << 54 | 7 << 60, w1: 0 }
    }
    /// A zombie of the object at `addr`, with nothing in its list.
    pub const fn zombie(addr: u64, kind: u8, index: u16) -> Self {
        Self::raw(ZOMBIE, addr, kind).with_data(index as u64)
    }
    /// A zombie inside its object, in no list.
    pub const fn buried(kind: u8, index: u16) -> Self {
        Self::raw(BURIED, 0, kind).with_data(index as u64)
    }
    /// Whether this is none.
    pub const fn is_null(self) -> bool {
        self.w0 == 0
    }
    /// Type number.
    pub const fn raw_type(self) -> u8 {
        (self.w0 >> 48 & 63) as u8
    }
    /// Object type; `None` for none and zombies.
    pub const fn ty(self) -> Option<ObjType> {
        ObjType::from_raw(self.raw_type() as u64)
    }
    /// Whether it is of type `ty`.
    pub fn is(self, ty: ObjType) -> bool {
        self.raw_type() == ty as u8
    }
    /// Physical address of the object, or the IRQ line.
    pub const fn addr(self) -> u64 {
        self.w0 & ADDR
    }
    /// With another address.
    pub const fn with_addr(mut self, addr: u64) -> Self {
        self.w0 = self.w0 & !ADDR | addr & ADDR;
        self
    }
    /// Size bits: as given to retype; level of a mapped page table; kind of a zombie.
    pub const fn size_bits(self) -> u8 {
        (self.w0 >> 54 & 63) as u8
    }
    /// With other size bits.
    pub const fn with_size_bits(mut self, bits: u8) -> Self {
        self.w0 = self.w0 & !(63 << 54) | (bits as u64) << 54;
        self
    }
    /// Rights.
    pub const fn rights(self) -> Rights {
        Rights::from_bits_truncate((self.w0 >> 60 & 7) as u8)
    }
    /// With at most these rights.
    pub const fn masked(mut self, rights: Rights) -> Self {
        self.w0 &= !(7 << 60) | (rights.bits() as u64) << 60;
        self
    }
    /// Whether it is device memory.
    pub const fn device(self) -> bool {
        self.w0 >> 63 != 0
    }
    /// With the device bit.
    pub const fn with_device(mut self, device: bool) -> Self {
        self.w0 = self.w0 & !(1 << 63) | (device as u64) << 63;
        self
    }
    /// Word 1: badge, guard, watermark, ports, mapping, by type.
    pub const fn data(self) -> u64 {
        self.w1
    }
    /// With another word 1.
    pub const fn with_data(mut self, data: u64) -> Self {
        self.w1 = data;
        self
    }
    /// Bytes of memory the object takes, log2; `None`: it is no memory object.
    pub fn object_bits(self) -> Option<u8> {
        self.ty()?.bits(self.size_bits())
    }

    fn object<T>(self, ty: ObjType) -> Option<Obj<T>> {
        // SAFETY: a capability of this type exists only while the object lives: retype makes both
        // together, and `destroy` ends the object only with its last capability.
        self.is(ty).then(|| unsafe { Obj::from_phys(self.addr()) })
    }
    /// The thread it names.
    pub fn thread(self) -> Option<Obj<Tcb>> {
        self.object(ObjType::Thread)
    }
    /// The endpoint it names.
    pub fn endpoint(self) -> Option<Obj<Endpoint>> {
        self.object(ObjType::Endpoint)
    }
    /// The notification it names.
    pub fn notification(self) -> Option<Obj<Notification>> {
        self.object(ObjType::Notification)
    }
    /// The reply object it names.
    pub fn reply(self) -> Option<Obj<Reply>> {
        self.object(ObjType::Reply)
    }
    /// The scheduling context it names.
    pub fn sched_context(self) -> Option<Obj<SchedContext>> {
        self.object(ObjType::SchedContext)
    }
    /// The timer it names.
    pub fn timer(self) -> Option<Obj<Timer>> {
        self.object(ObjType::Timer)
    }
    /// Slot `index` of the CNode it names.
    pub fn cnode_slot(self, index: u64) -> Option<Obj<Slot>> {
        (self.is(ObjType::CNode) && index < 1 << self.size_bits())
            // SAFETY: as in `object`; the index is inside the CNode.
            .then(|| unsafe { Obj::from_phys(self.addr() + index * size_of::<Slot>() as u64) })
    }
}

/// A place for a capability.
#[repr(C, align(32))]
pub struct Slot {
    cap: Cell<Cap>,
    next: Cell<u64>,
    prev: Cell<u64>,
}

const _: () = assert!(size_of::<Slot>() == 1 << abi::SLOT_BITS);
const REVOCABLE: u64 = 1 << 48;
const FIRST_BADGED: u64 = 1 << 49;

impl Obj<Slot> {
    /// The slot `n` before it in the same container, where there are as many.
    pub(crate) fn before(self, n: u16) -> Self {
        // SAFETY: the container lives; callers count its slots down.
        unsafe { Self::from_phys(self.phys() - ((n as u64) << abi::SLOT_BITS)) }
    }
}

impl Slot {
    /// An empty slot.
    pub const fn new() -> Self {
        Self { cap: Cell::new(Cap::NULL), next: Cell::new(0), prev: Cell::new(0) }
    }
    /// Its capability.
    pub fn cap(&self) -> Cap {
        self.cap.get()
    }
    /// Changes the capability, not its place in the derivation list.
    pub fn set_cap(&self, cap: Cap) {
        self.cap.set(cap);
    }
    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.cap.get().is_null()
    }
    /// The slot that a link of the derivation list, or of a list of zombies, names.
    pub(crate) fn link(pa: u64) -> Option<Obj<Slot>> {
        // SAFETY: the lists hold only slots with capabilities, which live; `mdb` and `zombie`
        // unlink a slot when it is emptied.
        (pa & ADDR != 0).then(|| unsafe { Obj::from_phys(pa & ADDR) })
    }
    /// Next in the derivation list.
    pub fn next(&self) -> Option<Obj<Slot>> {
        Self::link(self.next.get())
    }
    /// Previous in the derivation list.
    pub fn prev(&self) -> Option<Obj<Slot>> {
        Self::link(self.prev.get())
    }
    pub(crate) fn set_next(&self, slot: Option<Obj<Slot>>) {
        self.next.set(self.next.get() & !ADDR | slot.map_or(0, Obj::phys) & ADDR);
    }
    pub(crate) fn set_prev(&self, slot: Option<Obj<Slot>>) {
        self.prev.set(slot.map_or(0, Obj::phys) & ADDR);
    }
    pub(crate) fn set_flags(&self, revocable: bool, first_badged: bool) {
        let flags = (revocable as u64 * REVOCABLE) | (first_badged as u64 * FIRST_BADGED);
        self.next.set(self.next.get() & ADDR | flags);
    }
    /// Puts a capability into an empty slot between these two; `revocable` stands for both flags.
    pub(crate) fn fill(&self, cap: Cap, prev: Obj<Slot>, next: Option<Obj<Slot>>, revocable: bool) {
        let flags = if revocable { REVOCABLE | FIRST_BADGED } else { 0 };
        self.cap.set(cap);
        self.next.set(next.map_or(0, Obj::phys) & ADDR | flags);
        self.prev.set(prev.phys() & ADDR);
    }
    /// Whether revoking it can reach others.
    pub fn revocable(&self) -> bool {
        self.next.get() & REVOCABLE != 0
    }
    /// Whether it was the first with its badge.
    pub fn first_badged(&self) -> bool {
        self.next.get() & FIRST_BADGED != 0
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}
