//! Untyped memory: the only source of objects.
//!
//! Objects are made from low to high addresses: all of them, and all that is derived, lies below the
//! watermark, and nothing above. Memory is cleared when it becomes an object, page by page; since that can be
//! interrupted, an untyped also remembers how much directly above its watermark is clear. Only the kernel can
//! reach that memory, so it stays clear, whoever makes the next object from it.

use abi::{Error, ObjType, RETYPE_MAX, SLOT_BITS};

use crate::cap::{Cap, Slot};
use crate::preempt::Preempted;
use crate::{Kernel, Obj, Platform, cspace, mdb, obj};

/// Bytes cleared in one step, and about as many instructions as that takes.
const STEP: u64 = 4096;
const CLEAR: u32 = 600;
/// Instructions, about, of making an object, apart from clearing its memory.
const MAKE: u32 = 75;
/// In word 1 of an untyped capability: bits of the watermark, in units of the smallest object. What
/// is clear behind it stands above.
const USED_BITS: u8 = abi::UNTYPED_BITS_MAX - SLOT_BITS + 1;

/// What the kernel remembers about an untyped. Bytes from its start.
#[derive(Clone, Copy)]
pub struct Memory {
    /// The watermark.
    pub used: u64,
    /// How many bytes from there are clear.
    pub clean: u64,
}

impl Memory {
    /// As it stands in a capability.
    pub fn of(untyped: Cap) -> Self {
        let unit = |n: u64| n << SLOT_BITS;
        Self {
            used: unit(untyped.data() & ((1 << USED_BITS) - 1)),
            clean: unit(untyped.data() >> USED_BITS),
        }
    }
    /// As it is for the next object: without children all of it is free again.
    fn now(slot: Obj<Slot>) -> Self {
        match Self::of(slot.cap()) {
            m if m.used == 0 || mdb::has_children(slot) => m,
            _ => Self { used: 0, clean: 0 },
        }
    }
    fn store(self, slot: Obj<Slot>) {
        let word = self.used >> SLOT_BITS | (self.clean >> SLOT_BITS) << USED_BITS;
        slot.set_cap(slot.cap().with_data(word));
    }
    /// With the watermark at `used`, which is not lower.
    fn moved(self, used: u64) -> Self {
        Self { used, clean: self.clean.saturating_sub(used - self.used) }
    }
}

// At most the objects of one retype are clear in advance.
const _: () = assert!((RETYPE_MAX << abi::LARGE_BITS) >> SLOT_BITS < 1 << (64 - USED_BITS));

/// A checked retype.
pub struct Retype {
    untyped: Obj<Slot>,
    ty: ObjType,
    size_bits: u8,
    object_bits: u8,
    last: Obj<Slot>,
    count: u64,
    start: u64,
    end: u64,
}

/// Checks a retype of `untyped` into `count` objects in slots `index..` of `cnode`, placed at
/// `offset` in device memory.
///
/// # Errors
/// [`Error::Range`], [`Error::Occupied`], [`Error::NoMemory`], [`Error::Alignment`],
/// [`Error::WrongType`] (a type that is not made from memory, or not from device memory).
pub fn decode(
    untyped: Obj<Slot>,
    ty: u64,
    size_bits: u64,
    cnode: Cap,
    index: u64,
    count: u64,
    offset: u64,
) -> Result<Retype, Error> {
    let cap = untyped.cap();
    let ty = ObjType::from_raw(ty).ok_or(Error::WrongType)?;
    let size_bits = u8::try_from(size_bits).map_err(|_| Error::Range)?;
    let object_bits = ty.bits(size_bits).ok_or(Error::Range)?;
    // Types of one size ignore it, and must not carry it along.
    let sized = matches!(ty, ObjType::Untyped | ObjType::CNode | ObjType::Frame);
    let size_bits = if sized { size_bits } else { 0 };
    if cap.device() && !matches!(ty, ObjType::Frame | ObjType::Untyped) {
        return Err(Error::WrongType);
    }
    if count == 0 || count > RETYPE_MAX {
        return Err(Error::Range);
    }
    if !cnode.is(ObjType::CNode) {
        return Err(Error::WrongType);
    }
    let last = index.checked_add(count - 1).and_then(|at| cnode.cnode_slot(at));
    let last = last.ok_or(Error::Range)?;
    if (0..count as u16).any(|n| !last.before(n).is_empty()) {
        return Err(Error::Occupied);
    }
    let watermark = Memory::now(untyped).used;
    let wanted = if cap.device() && offset != 0 { offset } else { watermark };
    let size = 1u64 << object_bits;
    if wanted < watermark {
        return Err(Error::Range);
    }
    if cap.device() && !offset.is_multiple_of(size) {
        return Err(Error::Alignment);
    }
    let total = 1u64 << cap.size_bits();
    let start = wanted.checked_next_multiple_of(size).ok_or(Error::NoMemory)?;
    let end = start.checked_add(count * size).filter(|e| *e <= total).ok_or(Error::NoMemory)?;
    Ok(Retype { untyped, ty, size_bits, object_bits, last, count, start, end })
}

impl<P: Platform> Kernel<P> {
    /// Makes the objects.
    ///
    /// # Errors
    /// [`Preempted`]: decode and call it again. Nothing was made, but memory was cleared.
    pub(crate) fn retype(&mut self, r: Retype) -> Result<(), Preempted> {
        let cap = r.untyped.cap();
        let mut memory = Memory::now(r.untyped).moved(r.start);
        let bytes = if cap.device() || r.ty == ObjType::Untyped { 0 } else { r.end - r.start };
        while memory.clean < bytes {
            self.work(CLEAR)?;
            let part = STEP.min(bytes - memory.clean);
            // SAFETY: above the watermark of an untyped, so no object or mapping uses it.
            unsafe { obj::clear(cap.addr() + memory.used + memory.clean, part) };
            memory.clean += part;
            memory.store(r.untyped);
        }
        self.work(MAKE * r.count as u32)?;
        // Children go right behind the parent: the watermark must hold before they are visible.
        memory.moved(r.end).store(r.untyped);
        let mut new = Cap::new(r.ty, 0, r.size_bits).with_device(cap.device());
        if r.ty == ObjType::CNode {
            new = new.with_data(cspace::flat_guard(r.size_bits));
        }
        let mut at = cap.addr() + r.start;
        for i in (0..r.count as u16).rev() {
            mdb::insert(new.with_addr(at), r.untyped, r.last.before(i), true);
            at += 1 << r.object_bits;
        }
        Ok(())
    }
}

/// Bytes above the watermark, and log2 of the size.
pub fn info(untyped: Obj<Slot>) -> (u64, u64) {
    let bits = untyped.cap().size_bits();
    ((1 << bits) - Memory::now(untyped).used, bits as u64)
}
