//! CSpace: finding capabilities, and the methods of CNodes.

use abi::{CPtr, CSPACE_DEPTH_MAX as DEPTH_MAX, Error, ObjType, Rights};

use crate::cap::{Cap, Slot};
use crate::preempt::Preempted;
use crate::thread::Tcb;
use crate::{Kernel, Obj, Platform, mdb};

/// Bits of a capability pointer.
const CPTR_BITS: u32 = 64;

/// The slot at `cptr` in the CSpace under `root`: at each CNode the guard must match, then the
/// radix bits select a slot; all 64 bits must be used up, at [`DEPTH_MAX`] levels at most: a message
/// with capabilities takes up to ten look-ups.
///
/// # Errors
/// [`Error::InvalidCap`].
pub fn lookup(root: Cap, cptr: CPtr) -> Result<Obj<Slot>, Error> {
    let mut node = root;
    // What is left of the pointer, from the top bit on, and how many bits those are.
    let (mut rest, mut left) = (cptr, CPTR_BITS);
    for _ in 0..DEPTH_MAX {
        let (guard, guard_bits) = (node.data() >> 8, (node.data() & 0xff) as u32);
        let radix = node.size_bits() as u32;
        if radix == 0 || guard_bits + radix > left {
            break;
        }
        // (Radix and guard together are at most 64 bits, the radix at least one.)
        if guard_bits > 0
            && (rest ^ guard << (CPTR_BITS - guard_bits)) >> (CPTR_BITS - guard_bits) != 0
        {
            break;
        }
        rest <<= guard_bits;
        // (No slot: it is no CNode.)
        let Some(slot) = node.cnode_slot(rest >> (CPTR_BITS - radix)) else { break };
        left -= guard_bits + radix;
        if left == 0 {
            return Ok(slot);
        }
        rest <<= radix;
        node = slot.cap();
    }
    Err(Error::InvalidCap)
}

/// The guard word of a CNode of 2^`radix` slots by which pointers are plain slot numbers.
pub const fn flat_guard(radix: u8) -> u64 {
    (CPTR_BITS - radix as u32) as u64
}

/// The capability at `cptr` in a thread's CSpace.
///
/// # Errors
/// [`Error::InvalidCap`] if there is none.
pub fn lookup_cap(thread: &Tcb, cptr: CPtr) -> Result<Cap, Error> {
    Ok(lookup_slot(thread, cptr)?.cap())
}

/// The non-empty slot at `cptr` in a thread's CSpace.
///
/// # Errors
/// [`Error::InvalidCap`] if there is none.
#[inline]
pub fn lookup_slot(thread: &Tcb, cptr: CPtr) -> Result<Obj<Slot>, Error> {
    if cptr == 0 {
        return Err(Error::InvalidCap);
    }
    let root = thread.cspace().cap();
    let slot = match flat(root, cptr) {
        Some(slot) => slot,
        None => lookup(root, cptr)?,
    };
    if slot.is_empty() { Err(Error::InvalidCap) } else { Ok(slot) }
}

/// The slot at `cptr` if `root` is a flat CSpace: one CNode whose guard is zeroes.
#[inline(always)]
pub fn flat(root: Cap, cptr: CPtr) -> Option<Obj<Slot>> {
    let is_flat = root.data() == flat_guard(root.size_bits());
    if is_flat { root.cnode_slot(cptr) } else { None }
}

/// What a copy of `cap` is: a frame or page table copy is not mapped; some objects have only one
/// capability.
fn derive(cap: Cap) -> Result<Cap, Error> {
    match cap.ty() {
        // An untyped's watermark must exist once; a table's mapping must be its only one.
        None | Some(ObjType::Untyped | ObjType::PageTable) => Err(Error::WrongType),
        Some(ObjType::Frame) => Ok(cap.with_data(0)),
        Some(_) => Ok(cap),
    }
}

/// Applies a badge (guard, port range) to a capability.
fn mint(cap: Cap, badge: u64) -> Result<Cap, Error> {
    match cap.ty() {
        Some(ObjType::Endpoint | ObjType::Notification) => {
            // A badge, once given, stays: it identifies the holder.
            if cap.data() == 0 { Ok(cap.with_data(badge)) } else { Err(Error::NoRights) }
        }
        Some(ObjType::CNode) => {
            let fits = (badge & 0xff) as u32 + cap.size_bits() as u32 <= CPTR_BITS;
            if fits { Ok(cap.with_data(badge)) } else { Err(Error::Range) }
        }
        Some(ObjType::IoPort) => {
            let (first, last) = (badge >> 16, badge & 0xffff);
            let inside = first >= cap.data() >> 16 && last <= cap.data() & 0xffff;
            if first <= last && inside { Ok(cap.with_data(badge)) } else { Err(Error::Range) }
        }
        _ => Err(Error::WrongType),
    }
}

/// Copies a capability, with fewer rights and perhaps a badge, into an empty slot.
///
/// # Errors
/// [`Error::Occupied`], [`Error::WrongType`], [`Error::NoRights`], [`Error::Range`].
pub fn copy(
    source: Obj<Slot>,
    dest: Obj<Slot>,
    rights: Rights,
    badge: Option<u64>,
) -> Result<(), Error> {
    if !dest.is_empty() {
        return Err(Error::Occupied);
    }
    let cap = source.cap();
    let mut new = derive(cap)?.masked(rights);
    if let Some(badge) = badge {
        new = mint(new, badge)?;
    }
    let revocable = match new.ty() {
        Some(ObjType::Endpoint | ObjType::Notification | ObjType::IoPort) => {
            new.data() != cap.data()
        }
        _ => false,
    };
    mdb::insert(new, source, dest, revocable);
    Ok(())
}

/// Moves a capability into an empty slot.
///
/// # Errors
/// [`Error::Occupied`], [`Error::InvalidCap`].
pub fn move_cap(source: Obj<Slot>, dest: Obj<Slot>) -> Result<(), Error> {
    if source.is_empty() || source.cap().ty().is_none() {
        return Err(Error::InvalidCap);
    }
    if !dest.is_empty() {
        return Err(Error::Occupied);
    }
    mdb::transfer(source, dest);
    Ok(())
}

impl<P: Platform> Kernel<P> {
    /// Deletes everything derived from `slot`. When it returns, an untyped can be retyped anew.
    ///
    /// # Errors
    /// [`Preempted`]: call it again.
    pub fn revoke(&mut self, slot: Obj<Slot>) -> Result<(), Preempted> {
        let cap = slot.cap();
        while let Some(next) = slot.next() {
            // The CNode that holds the slot may be among what is deleted. Then the slot is empty,
            // or holds what was moved there to be deleted next.
            if slot.cap() != cap || !mdb::is_parent(&slot, &next) {
                break;
            }
            self.delete(next)?;
        }
        Ok(())
    }
}
