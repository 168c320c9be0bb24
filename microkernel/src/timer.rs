//! One-shot timers, in a list sorted by deadline.
//!
//! There are as many timers as the supervisor made, about one a process; arming walks past those
//! that fire earlier.

use core::cell::Cell;

use crate::cap::Slot;
use crate::trace::event;
use crate::{Kernel, Obj, Platform, mdb};

/// A timer.
#[repr(C)]
pub struct Timer {
    /// Notification to signal.
    pub(crate) target: Slot,
    next: Cell<Option<Obj<Timer>>>,
    prev: Cell<Option<Obj<Timer>>>,
    armed: Cell<bool>,
    deadline: Cell<u64>,
}

const _: () = assert!(size_of::<Timer>() <= 128);

/// Armed timers, earliest first.
pub struct TimerQueue {
    head: Cell<Option<Obj<Timer>>>,
}

impl TimerQueue {
    pub(crate) const fn new() -> Self {
        Self { head: Cell::new(None) }
    }
    /// Earliest deadline, `u64::MAX` if none.
    pub(crate) fn next_deadline(&self) -> u64 {
        self.head.get().map_or(u64::MAX, |t| t.deadline.get())
    }
    fn insert(&self, t: Obj<Timer>) {
        let (mut prev, mut next) = (None, self.head.get());
        while let Some(n) = next.filter(|n| n.deadline.get() <= t.deadline.get()) {
            prev = Some(n);
            next = n.next.get();
        }
        t.prev.set(prev);
        t.next.set(next);
        match prev {
            Some(p) => p.next.set(Some(t)),
            None => self.head.set(Some(t)),
        }
        if let Some(n) = next {
            n.prev.set(Some(t));
        }
    }
    fn remove(&self, t: Obj<Timer>) {
        let (next, prev) = (t.next.take(), t.prev.take());
        match prev {
            Some(p) => p.next.set(next),
            None => self.head.set(next),
        }
        if let Some(n) = next {
            n.prev.set(prev);
        }
    }
}

impl<P: Platform> Kernel<P> {
    /// Arms `t` for `deadline` (ns since boot).
    pub(crate) fn timer_arm(&mut self, t: Obj<Timer>, deadline: u64) {
        self.timer_cancel(t);
        if deadline <= self.hw.now() {
            return self.timer_fire(t);
        }
        t.deadline.set(deadline);
        t.armed.set(true);
        self.timers.insert(t);
    }

    /// Disarms `t`.
    pub(crate) fn timer_cancel(&mut self, t: Obj<Timer>) {
        if t.armed.replace(false) {
            self.timers.remove(t);
        }
    }

    /// Names the notification that `t` signals.
    pub(crate) fn timer_bind(&mut self, t: Obj<Timer>, source: Obj<Slot>) {
        let target = Obj::of(&t.target);
        self.delete(target);
        mdb::insert(source.cap(), source, target, false);
    }

    /// Fires all timers due at `now`.
    pub(crate) fn timers_expire(&mut self, now: u64) {
        while let Some(t) = self.timers.head.get().filter(|t| t.deadline.get() <= now) {
            self.timer_cancel(t);
            self.timer_fire(t);
        }
    }

    fn timer_fire(&mut self, t: Obj<Timer>) {
        event!(self, trace_timer(t));
        let cap = t.target.cap();
        if let Some(ntfn) = cap.notification() {
            self.signal(ntfn, cap.data());
        }
    }
}
