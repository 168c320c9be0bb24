//! What is to happen at a time: armed timers, and scheduling contexts that wait for their refill.
//!
//! A leftist heap, linked through the objects themselves. The way from any node to the end by right
//! links is at most log2(n + 1) long, so that every operation takes O(log n) steps at worst, needs
//! no memory and no recursion.

use core::cell::Cell;

use crate::Obj;
use crate::sched::SchedContext;
use crate::timer::Timer;

type Link = Cell<Option<Obj<Event>>>;

/// A place in the heap, inside the object that waits.
#[repr(C)]
pub struct Event {
    at: Cell<u64>,
    left: Link,
    right: Link,
    up: Link,
    /// Length of the way to the end by right links; 0: not in the heap.
    rank: Cell<u64>,
    /// Whose it is: a timer's,
    pub(crate) timer: Cell<Option<Obj<Timer>>>,
    /// or a scheduling context's.
    pub(crate) sched: Cell<Option<Obj<SchedContext>>>,
}

impl Event {
    /// Whether it waits.
    pub(crate) fn is_queued(&self) -> bool {
        self.rank.get() != 0
    }
}

fn rank(link: &Link) -> u64 {
    link.get().map_or(0, |e| e.rank.get())
}

/// The heap.
pub struct Heap {
    root: Link,
}

impl Heap {
    pub(crate) const fn new() -> Self {
        Self { root: Cell::new(None) }
    }
    /// Time of the earliest, `u64::MAX` if there is none.
    pub(crate) fn next(&self) -> u64 {
        self.root.get().map_or(u64::MAX, |e| e.at.get())
    }
    /// The earliest, if it is due.
    pub(crate) fn due(&self, now: u64) -> Option<Obj<Event>> {
        self.root.get().filter(|e| e.at.get() <= now)
    }
    /// Puts in an event that is not in it.
    pub(crate) fn insert(&self, e: Obj<Event>, at: u64) {
        e.at.set(at);
        e.left.set(None);
        e.right.set(None);
        e.rank.set(1);
        let root = merge(self.root.get(), Some(e));
        self.set_child(None, &self.root, root);
    }
    /// Takes an event out, if it is in.
    pub(crate) fn remove(&self, e: Obj<Event>) {
        if e.rank.replace(0) == 0 {
            return;
        }
        let rest = merge(e.left.take(), e.right.take());
        let up = e.up.take();
        let Some(parent) = up else { return self.set_child(None, &self.root, rest) };
        let link = if parent.left.get() == Some(e) { &parent.left } else { &parent.right };
        self.set_child(up, link, rest);
        settle(up, false);
    }
    fn set_child(&self, up: Option<Obj<Event>>, link: &Link, child: Option<Obj<Event>>) {
        link.set(child);
        if let Some(c) = child {
            c.up.set(up);
        }
    }
}

/// Makes one heap of two; the link up from its root is for the caller to set.
fn merge(a: Option<Obj<Event>>, b: Option<Obj<Event>>) -> Option<Obj<Event>> {
    let (Some(mut a), Some(mut b)) = (a, b) else { return a.or(b) };
    if b.at.get() < a.at.get() {
        core::mem::swap(&mut a, &mut b);
    }
    let root = a;
    // Down the right sides, the earlier one above,
    while let Some(right) = a.right.get() {
        let (above, below) = if b.at.get() < right.at.get() { (b, right) } else { (right, b) };
        a.right.set(Some(above));
        above.up.set(Some(a));
        (a, b) = (above, below);
    }
    a.right.set(Some(b));
    b.up.set(Some(a));
    // and up again.
    root.up.set(None);
    settle(Some(a), true);
    Some(root)
}

/// From `e` upwards puts the longer way left and corrects ranks: to the top if `all`, else until
/// nothing changes. A rank that changes is one more than the one below it, and none is above
/// log2(n + 1): so long is the way.
fn settle(e: Option<Obj<Event>>, all: bool) {
    let mut at = e;
    while let Some(e) = at {
        if rank(&e.left) < rank(&e.right) {
            e.left.swap(&e.right);
        }
        let new = rank(&e.right) + 1;
        if e.rank.replace(new) == new && !all {
            return;
        }
        at = e.up.get();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn event() -> Event {
        let link = || Cell::new(None);
        let (timer, sched) = (Cell::new(None), Cell::new(None));
        let (at, rank) = (Cell::new(0), Cell::new(0));
        Event { at, left: link(), right: link(), up: link(), rank, timer, sched }
    }

    /// Number of events below `link`, whose links, order and ranks are right.
    fn check(link: &Link, up: Option<Obj<Event>>) -> usize {
        let Some(e) = link.get() else { return 0 };
        assert!(e.up.get() == up);
        assert!(up.is_none_or(|u| u.at.get() <= e.at.get()));
        assert!(rank(&e.left) >= rank(&e.right));
        assert_eq!(e.rank.get(), rank(&e.right) + 1);
        1 + check(&e.left, Some(e)) + check(&e.right, Some(e))
    }

    #[test]
    fn random_events_leave_in_order_by_short_ways() {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let events: Vec<Event> = (0..200).map(|_| event()).collect();
            let (heap, mut model) = (Heap::new(), BTreeSet::new());
            for step in 0..3000 {
                let i = rng.usize(..events.len());
                let e = Obj::of(&events[i]);
                if rng.u8(..4) == 0 && !model.is_empty() {
                    let due = heap.due(u64::MAX).expect("the model has one");
                    assert!(model.remove(&(heap.next(), due.phys())));
                    heap.remove(due);
                } else if e.is_queued() {
                    assert!(model.remove(&(e.at.get(), e.phys())));
                    heap.remove(e);
                } else {
                    // Many at the same time, and many in order.
                    let at = if seed % 2 == 0 { rng.u64(..50) } else { step };
                    heap.insert(e, at);
                    model.insert((at, e.phys()));
                }
                assert_eq!(heap.next(), model.first().map_or(u64::MAX, |m| m.0));
                assert_eq!(check(&heap.root, None), model.len());
                let longest = rank(&heap.root);
                assert!(1 << longest <= model.len() + 1, "{longest} of {}", model.len());
            }
        }
    }
}
