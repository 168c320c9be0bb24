//! Untyped memory: the only source of objects.

use abi::{Error, ObjType, RETYPE_BYTES_MAX, RETYPE_MAX};

use crate::cap::{Cap, Slot};
use crate::{Obj, cspace, mdb, obj};

/// A checked retype.
pub struct Retype {
    untyped: Obj<Slot>,
    ty: ObjType,
    size_bits: u8,
    object_bits: u8,
    cnode: Cap,
    index: u64,
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
    let clears = !cap.device() && ty != ObjType::Untyped;
    if clears && count << object_bits > RETYPE_BYTES_MAX {
        return Err(Error::Range);
    }
    if !cnode.is(ObjType::CNode) {
        return Err(Error::WrongType);
    }
    for i in 0..count {
        let at = index.checked_add(i).ok_or(Error::Range)?;
        if !cnode.cnode_slot(at).ok_or(Error::Range)?.is_empty() {
            return Err(Error::Occupied);
        }
    }
    // Without children all of it is free again.
    let watermark = if mdb::has_children(untyped) { cap.data() } else { 0 };
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
    Ok(Retype { untyped, ty, size_bits, object_bits, cnode, index, count, start, end })
}

impl Retype {
    /// Makes the objects.
    pub fn invoke(self) {
        let cap = self.untyped.cap();
        if !cap.device() && self.ty != ObjType::Untyped {
            // SAFETY: above the watermark of an untyped, so no object or mapping uses it.
            unsafe { obj::clear(cap.addr() + self.start, self.end - self.start) };
        }
        // Children go right behind the parent: the watermark must hold before they are visible.
        self.untyped.set_cap(cap.with_data(self.end));
        for i in 0..self.count {
            let addr = cap.addr() + self.start + (i << self.object_bits);
            let mut new = Cap::new(self.ty, addr, self.size_bits).with_device(cap.device());
            if self.ty == ObjType::CNode {
                new = new.with_data(cspace::flat_guard(self.size_bits));
            }
            if let Some(dest) = self.cnode.cnode_slot(self.index + i) {
                mdb::insert(new, self.untyped, dest, true);
            }
        }
    }
}

/// Bytes above the watermark, and log2 of the size.
pub fn info(untyped: Obj<Slot>) -> (u64, u64) {
    let cap = untyped.cap();
    let watermark = if mdb::has_children(untyped) { cap.data() } else { 0 };
    ((1 << cap.size_bits()) - watermark, cap.size_bits() as u64)
}
