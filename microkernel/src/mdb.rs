//! The derivation list: which capability came from which.
//!
//! All capabilities stand in doubly linked lists in the order of a tree walk, parents before their
//! descendants. The tree is not stored: whether one entry is the parent of a later one follows
//! from the two capabilities (region, badge) and two flags, as in seL4. The descendants of a slot
//! are the entries right after it of which it is a parent.

use abi::ObjType;

use crate::cap::{BURIED, Cap, Slot, ZOMBIE};
use crate::{Obj, zombie};

/// Where the memory is that the capability in `slot` stands for.
fn region(slot: &Slot) -> Option<u64> {
    let cap = slot.cap();
    match (cap.raw_type(), cap.size_bits()) {
        (BURIED, _) => Some(Obj::of(slot).phys()),
        // Interrupt lines and ports have none.
        (ZOMBIE, zombie::IRQ) => None,
        (ZOMBIE, _) => Some(cap.addr()),
        _ => cap.object_bits().map(|_| cap.addr()),
    }
}

/// Whether what is in `slot` names what lies in, or is, what `a` names.
fn same_region(a: Cap, slot: &Slot) -> bool {
    let b = slot.cap();
    match a.ty() {
        Some(ObjType::Untyped) => {
            let inside = |at: u64| at >= a.addr() && at - a.addr() < 1 << a.size_bits();
            region(slot).is_some_and(inside) && a.device() == b.device()
        }
        Some(ObjType::IrqControl) => {
            let line = b.raw_type() == ZOMBIE && b.size_bits() == zombie::IRQ;
            line || b.is(ObjType::IrqHandler) || b.is(ObjType::IrqControl)
        }
        Some(ObjType::IoPort) => {
            let (first, last) = (a.data() >> 16, a.data() & 0xffff);
            b.is(ObjType::IoPort) && b.data() >> 16 >= first && b.data() & 0xffff <= last
        }
        Some(_) => a.raw_type() == b.raw_type() && a.addr() == b.addr(),
        None => false,
    }
}

/// Whether both name the same object, so that neither is its last capability.
fn same_object(a: Cap, b: Cap) -> bool {
    match a.ty() {
        None | Some(ObjType::Untyped | ObjType::IrqControl | ObjType::IoPort | ObjType::Trace) => {
            false
        }
        Some(_) => a.raw_type() == b.raw_type() && a.addr() == b.addr(),
    }
}

/// Whether `child` was derived from `parent`, given that it comes after it.
pub fn is_parent(parent: &Slot, child: &Slot) -> bool {
    let (p, c) = (parent.cap(), child.cap());
    if !parent.revocable() || !same_region(p, child) {
        return false;
    }
    match p.ty() {
        Some(ObjType::Endpoint | ObjType::Notification) if p.data() != 0 => {
            p.data() == c.data() && !child.first_badged()
        }
        _ => true,
    }
}

/// Whether anything was derived from `slot`.
pub fn has_children(slot: Obj<Slot>) -> bool {
    slot.next().is_some_and(|n| is_parent(&slot, &n))
}

/// Whether `slot` holds the last capability of its object.
pub fn is_final(slot: Obj<Slot>) -> bool {
    let cap = slot.cap();
    !slot.prev().is_some_and(|p| same_object(p.cap(), cap))
        && !slot.next().is_some_and(|n| same_object(cap, n.cap()))
}

/// Puts `cap` into the empty slot `dest`, derived from `source`. `revocable`: others may be
/// derived from it and taken back through it.
pub fn insert(cap: Cap, source: Obj<Slot>, dest: Obj<Slot>, revocable: bool) {
    debug_assert!(dest.is_empty());
    let next = source.next();
    dest.fill(cap, source, next, revocable);
    if let Some(n) = next {
        n.set_prev(Some(dest));
    }
    source.set_next(Some(dest));
}

/// Puts a first capability, derived from none, into a slot (boot only).
pub fn insert_root(cap: Cap, dest: Obj<Slot>) {
    dest.set_cap(cap);
    dest.set_next(None);
    dest.set_prev(None);
    dest.set_flags(true, true);
}

/// Moves a capability with its place in the list to the empty slot `dest`.
pub fn transfer(source: Obj<Slot>, dest: Obj<Slot>) {
    debug_assert!(dest.is_empty());
    let (next, prev) = (source.next(), source.prev());
    dest.set_cap(source.cap());
    dest.set_next(next);
    dest.set_prev(prev);
    dest.set_flags(source.revocable(), source.first_badged());
    if let Some(n) = next {
        n.set_prev(Some(dest));
    }
    if let Some(p) = prev {
        p.set_next(Some(dest));
    }
    forget(source);
}

/// Empties a slot and closes the list over it.
pub fn remove(slot: Obj<Slot>) {
    let (next, prev) = (slot.next(), slot.prev());
    if let Some(n) = next {
        n.set_prev(prev);
        if slot.first_badged() {
            n.set_flags(n.revocable(), true);
        }
    }
    if let Some(p) = prev {
        p.set_next(next);
    }
    forget(slot);
}

fn forget(slot: Obj<Slot>) {
    slot.set_cap(Cap::NULL);
    slot.set_next(None);
    slot.set_prev(None);
    slot.set_flags(false, false);
}
