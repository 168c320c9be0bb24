//! Zombies: what stands in a slot whose last capability to something was deleted, while it is
//! being emptied.
//!
//! CNodes, threads, timers and interrupt lines hold capabilities, endpoints and notifications a
//! queue of threads. Deleting the last capability to one replaces it by a zombie, which keeps its place in
//! the derivation list (so the memory cannot be retyped yet, and revoking it finds the zombie) and
//! remembers how far the emptying has come. No system call names the object any more.
//!
//! A dying CNode may hold the last capability to another one, and that again. Such a zombie is
//! *buried*: it moves into a slot of the container that it stands for, and what was in that slot
//! takes its place. Nobody has to come back to the outer container with it, so chains of any
//! depth need no stack and each step takes the same time. What was buried on behalf of a slot is
//! in a list that begins there, so that the deletion of that slot ends with all of it:
//!
//! ```text
//! exposed  word 0: address of the object (interrupt: line)   word 1: first of its list, index
//! buried   word 0: previous in the list, or its beginning    word 1: next in the list, index
//! ```
//!
//! A buried zombie needs no address: containers are aligned to their size. `index` is the next
//! inner slot to empty; those behind it are empty, but for the zombie's own.

use crate::Obj;
use crate::cap::{BURIED, Cap, Slot, ZOMBIE};
use crate::irq::Irq;
use crate::mdb;
use crate::thread::Tcb;
use crate::timer::Timer;

/// Kinds of zombies; those up to 16 are CNodes of that radix. An endpoint that is waited on.
pub const ENDPOINT: u8 = 58;
/// A notification that is waited on.
pub const NOTIFICATION: u8 = 59;
/// An interrupt line.
pub const IRQ: u8 = 60;
/// A thread.
pub const THREAD: u8 = 61;
/// A timer.
pub const TIMER: u8 = 62;

/// Index of the last inner slot of a container of `kind`.
pub fn last_slot(kind: u8) -> u16 {
    match kind {
        THREAD => Tcb::SLOTS as u16 - 1,
        0..=16 => ((1u32 << kind) - 1) as u16,
        _ => 0,
    }
}

/// Whether an object of `kind` may hold the last capability to another one of such a kind.
pub fn is_deep(kind: u8) -> bool {
    kind == THREAD || kind <= 16
}

/// Whether `cap` is a zombie.
pub fn is_zombie(cap: Cap) -> bool {
    matches!(cap.raw_type(), ZOMBIE | BURIED)
}

/// The next inner slot to empty.
pub fn index(zombie: Cap) -> u16 {
    zombie.data() as u16
}

/// Next in the list: of an exposed zombie, the first.
pub fn next(zombie: Obj<Slot>) -> Option<Obj<Slot>> {
    Slot::link(zombie.cap().data() >> 16)
}

fn set_next(zombie: Obj<Slot>, next: Option<Obj<Slot>>) {
    let cap = zombie.cap();
    zombie.set_cap(cap.with_data(address(next) << 16 | index(cap) as u64));
}

/// Sets the next inner slot to empty.
pub fn set_index(zombie: Obj<Slot>, index: u16) {
    let cap = zombie.cap();
    zombie.set_cap(cap.with_data(cap.data() & !0xffff | index as u64));
}

fn address(slot: Option<Obj<Slot>>) -> u64 {
    slot.map_or(0, |s| s.phys() & ((1 << 48) - 1))
}

/// Inner slot `index` of the container that the zombie in `slot` stands for.
pub fn inner_slot(slot: Obj<Slot>, irqs: &[Irq], index: u16) -> Obj<Slot> {
    let cap = slot.cap();
    let kind = cap.size_bits();
    let object = |bits: u8| match cap.raw_type() {
        BURIED => slot.phys() & !((1 << bits) - 1),
        _ => cap.addr(),
    };
    match kind {
        // SAFETY: the zombie keeps the object's memory from being reused.
        THREAD => unsafe { Obj::<Tcb>::from_phys(object(11)) }.slot(index as usize),
        // SAFETY: as above.
        TIMER => Obj::of(&unsafe { Obj::<Timer>::from_phys(cap.addr()) }.target),
        IRQ => Obj::of(irqs[cap.addr() as usize].slot()),
        // SAFETY: as above; `index` counts down from the last slot of a CNode.
        _ => unsafe {
            let node = object(kind + abi::SLOT_BITS);
            Obj::from_phys(node + ((index as u64) << abi::SLOT_BITS))
        },
    }
}

/// Whether nothing is to be done about an inner slot of the container that the zombie in `slot`
/// stands for: its own slot, if it is buried or the container holds itself, goes last.
pub fn passes(slot: Obj<Slot>, inner: Obj<Slot>) -> bool {
    inner == slot || inner.is_empty()
}

/// Moves the exposed zombie of a deep container from `slot`, which dies as part of `walk`, into
/// the container itself, at `place`, and into the list of `walk`. What was at `place` is then in `slot`.
pub fn bury(slot: Obj<Slot>, place: Obj<Slot>, walk: Obj<Slot>) {
    let aside = Slot::new();
    let aside = Obj::of(&aside);
    mdb::transfer(slot, aside);
    if !place.is_empty() {
        mdb::transfer(place, slot);
        // It may be a zombie whose emptying somebody has left unfinished, with a list.
        if slot.cap().raw_type() == ZOMBIE
            && let Some(first) = next(slot)
        {
            set_prev(first, Some(slot));
        }
    }
    mdb::transfer(aside, place);
    let zombie = place.cap();
    place.set_cap(Cap::buried(zombie.size_bits(), index(zombie)));
    link(place, walk);
}

/// Puts a buried zombie into the list of `walk`, behind it.
fn link(node: Obj<Slot>, walk: Obj<Slot>) {
    let after = next(walk);
    set_prev(node, Some(walk));
    set_next(node, after);
    set_next(walk, Some(node));
    if let Some(after) = after {
        set_prev(after, Some(node));
    }
}

fn set_prev(node: Obj<Slot>, prev: Option<Obj<Slot>>) {
    node.set_cap(node.cap().with_addr(address(prev)));
}

/// Takes a buried zombie out of its list.
pub fn unlink(node: Obj<Slot>) {
    let after = next(node);
    let before = Slot::link(node.cap().addr());
    if let Some(before) = before {
        set_next(before, after);
    }
    if let Some(after) = after {
        set_prev(after, before);
    }
}

/// Moves the first in the list of `from`, an exposed zombie inside a dying container, to the list of
/// `walk`, which empties that container. `false`: the list is empty.
pub fn take_over(from: Obj<Slot>, walk: Obj<Slot>) -> bool {
    let Some(first) = next(from) else { return false };
    if first == walk {
        // The container holds the slot that its own emptying began from: a cycle that nothing outside
        // names. The list goes on without its beginning.
        set_next(from, None);
        set_prev(first, None);
    } else {
        unlink(first);
        link(first, walk);
    }
    true
}
