//! Scheduling: 256 fixed priorities, round robin within one.

use core::cell::Cell;

use crate::thread::Tcb;
use crate::trace::event;
use crate::{Kernel, Obj, Platform};

/// How long a thread runs while others of its priority wait, ns.
const SLICE_NS: u64 = 5_000_000;

/// The right to run. Budgets are recorded; `u64::MAX` (unlimited) is what is enforced so far.
#[repr(C, align(32))]
pub struct SchedContext {
    /// The thread it is bound to.
    pub(crate) thread: Cell<Option<Obj<Tcb>>>,
    /// ns it may run in a period.
    pub budget: Cell<u64>,
    /// Length of a period, ns.
    pub period: Cell<u64>,
}

/// A queue of threads, linked through their TCBs.
pub struct Queue {
    /// First.
    pub head: Cell<Option<Obj<Tcb>>>,
    /// Last.
    pub tail: Cell<Option<Obj<Tcb>>>,
}

impl Queue {
    const fn new() -> Self {
        Self { head: Cell::new(None), tail: Cell::new(None) }
    }
    /// Appends.
    pub fn push_back(&self, t: Obj<Tcb>) {
        t.next.set(None);
        t.prev.set(self.tail.get());
        match self.tail.replace(Some(t)) {
            Some(last) => last.next.set(Some(t)),
            None => self.head.set(Some(t)),
        }
    }
    /// Puts in front.
    pub fn push_front(&self, t: Obj<Tcb>) {
        t.prev.set(None);
        t.next.set(self.head.get());
        match self.head.replace(Some(t)) {
            Some(first) => first.prev.set(Some(t)),
            None => self.tail.set(Some(t)),
        }
    }
    /// Takes out a member.
    pub fn remove(&self, t: Obj<Tcb>) {
        let (next, prev) = (t.next.take(), t.prev.take());
        match prev {
            Some(p) => p.next.set(next),
            None => self.head.set(next),
        }
        match next {
            Some(n) => n.prev.set(prev),
            None => self.tail.set(prev),
        }
    }
    /// Takes the first.
    pub fn pop_front(&self) -> Option<Obj<Tcb>> {
        let first = self.head.get()?;
        self.remove(first);
        Some(first)
    }
    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }
}

/// Runnable threads, but for the running one.
pub struct ReadyQueues {
    queues: [Queue; 256],
    /// Bit `p % 64` of word `p / 64`: queue `p` is not empty.
    bitmap: [u64; 4],
    /// The highest priority of a queue that is not empty, plus one; 0: all are empty.
    above: u16,
}

impl ReadyQueues {
    pub(crate) const fn new() -> Self {
        Self { queues: [const { Queue::new() }; 256], bitmap: [0; 4], above: 0 }
    }
    fn highest(&self) -> Option<u8> {
        self.above.checked_sub(1).map(|p| p as u8)
    }
    fn mark(&mut self, priority: u8) {
        let (word, bit) = ((priority / 64) as usize, 1 << (priority % 64));
        if !self.queues[priority as usize].is_empty() {
            self.bitmap[word] |= bit;
            self.above = self.above.max(priority as u16 + 1);
        } else {
            self.bitmap[word] &= !bit;
            if self.above == priority as u16 + 1 {
                let top = (0..4).rev().find(|i| self.bitmap[*i] != 0);
                let above = |i: usize| i as u16 * 64 + 64 - self.bitmap[i].leading_zeros() as u16;
                self.above = top.map_or(0, above);
            }
        }
    }
}

impl<P: Platform> Kernel<P> {
    /// Puts a thread that became runnable into its queue; asks for a switch if it is more urgent
    /// than the running one.
    pub(crate) fn enqueue(&mut self, t: Obj<Tcb>) {
        if t.queued.get() || !t.runnable() || self.cpu.current == Some(t) {
            return;
        }
        let priority = t.priority.get();
        self.ready.queues[priority as usize].push_back(t);
        t.queued.set(true);
        self.ready.mark(priority);
        match self.cpu.current {
            // An equal one waits for the slice to end, which has to be timed from now on.
            Some(c) if c.priority.get() >= priority => {
                if c.priority.get() == priority && self.cpu.slice_end == u64::MAX {
                    self.cpu.slice_end = self.hw.now() + SLICE_NS;
                }
            }
            _ => self.cpu.reschedule = true,
        }
    }

    /// Takes a thread out of its ready queue.
    pub(crate) fn dequeue(&mut self, t: Obj<Tcb>) {
        if t.queued.replace(false) {
            let priority = t.priority.get();
            self.ready.queues[priority as usize].remove(t);
            self.ready.mark(priority);
        }
    }

    /// Changes a priority.
    pub(crate) fn set_priority(&mut self, t: Obj<Tcb>, priority: u8) {
        let queued = t.queued.get();
        self.dequeue(t);
        t.priority.set(priority);
        if queued {
            self.enqueue(t);
        }
        self.cpu.reschedule = true;
    }

    /// Lets the next thread of the same priority run.
    pub(crate) fn yield_current(&mut self) {
        if let Some(t) = self.cpu.current.take() {
            self.enqueue(t);
            self.cpu.reschedule = true;
        }
    }

    /// Chooses who runs next, loads its address space, and sets the timer. Called before every
    /// return to user mode.
    pub fn schedule(&mut self) -> Option<Obj<Tcb>> {
        let still = self.cpu.current.filter(|t| t.runnable());
        if self.cpu.reschedule || still.is_none() {
            self.choose(still);
        }
        event!(self, trace_switch());
        self.arm();
        self.cpu.current
    }

    /// The end of a straight line ([`crate::fastpath`]), which has switched by itself if it could.
    #[inline(always)]
    pub fn settle(&mut self) -> Option<Obj<Tcb>> {
        if self.cpu.reschedule {
            return self.schedule();
        }
        self.arm();
        self.cpu.current
    }

    /// Sees to it that the timer's interrupt comes in time. It may come early, and finds nothing to
    /// do then: that is rarer than a change of the deadline, and the timer costs more to set.
    #[inline(always)]
    pub(crate) fn arm(&mut self) {
        let deadline = self.cpu.slice_end.min(self.timers.next_deadline());
        if deadline < self.cpu.armed {
            self.cpu.armed = deadline;
            self.hw.set_deadline(deadline);
        }
    }

    /// Puts the running thread back: in front of its equals with the rest of its slice, so that
    /// interruptions cost it nothing; behind them with a new one if there is no rest, so that
    /// interruptions cost them nothing either.
    pub(crate) fn preempt(&mut self, t: Obj<Tcb>) {
        let priority = t.priority.get();
        let queue = &self.ready.queues[priority as usize];
        let left = match self.cpu.slice_end {
            u64::MAX => SLICE_NS,
            end => end.saturating_sub(self.hw.now()),
        };
        t.slice_left.set(left);
        if left == 0 {
            queue.push_back(t)
        } else {
            queue.push_front(t)
        }
        t.queued.set(true);
        self.ready.mark(priority);
    }

    fn choose(&mut self, still: Option<Obj<Tcb>>) {
        self.cpu.reschedule = false;
        match still {
            // Its address space may have been configured anew.
            Some(t) if self.ready.highest().is_none_or(|b| b <= t.priority.get()) => self.load(t),
            Some(t) => {
                self.preempt(t);
                self.run_best();
            }
            None => self.run_best(),
        }
    }

    /// Runs the most urgent ready thread in place of the current one, or nobody.
    pub(crate) fn run_best(&mut self) {
        let best = self.ready.highest().and_then(|b| self.ready.queues[b as usize].pop_front());
        match best {
            Some(t) => {
                t.queued.set(false);
                self.ready.mark(t.priority.get());
                self.begin_slice(t);
                self.run(t);
            }
            None => {
                self.cpu.slice_end = u64::MAX;
                self.cpu.current = None;
            }
        }
    }

    /// Times the slice of a thread that begins to run, if equals of it wait.
    fn begin_slice(&mut self, t: Obj<Tcb>) {
        let left = t.slice_left.take();
        self.cpu.slice_end = if self.ready.queues[t.priority.get() as usize].is_empty() {
            u64::MAX
        } else {
            self.hw.now() + if left == 0 { SLICE_NS } else { left }
        };
    }

    /// Makes `t`, which is in no queue, the running thread.
    #[inline(always)]
    pub(crate) fn run(&mut self, t: Obj<Tcb>) {
        self.cpu.current = Some(t);
        self.load(t);
        self.hw.load_segments(t.fs_base.get());
    }

    #[inline(always)]
    fn load(&mut self, t: Obj<Tcb>) {
        let pml4 = t.vspace().cap().addr();
        if pml4 != self.cpu.loaded {
            self.cpu.loaded = pml4;
            self.hw.load_vspace(pml4);
        }
    }

    /// Whether `t` is more urgent than every ready thread.
    #[inline(always)]
    pub(crate) fn most_urgent(&self, t: &Tcb) -> bool {
        self.ready.above <= t.priority.get() as u16
    }

    /// The timer interrupt: fires due timers, ends a used-up slice.
    pub fn timer_interrupt(&mut self) {
        self.cpu.armed = u64::MAX;
        let now = self.hw.now();
        self.timers_expire(now);
        if self.cpu.slice_end <= now {
            self.cpu.slice_end = u64::MAX;
            self.yield_current();
        }
    }

    pub(crate) fn end_sched_context(&mut self, sched: Obj<SchedContext>) {
        if let Some(t) = sched.thread.take() {
            self.dequeue(t);
            t.sched.set(None);
            self.cpu.reschedule = true;
        }
    }
}

impl<P: Platform> Kernel<P> {
    /// For the boot code: makes the root task's thread run.
    pub fn start_root(&mut self, t: Obj<Tcb>, sched: Obj<SchedContext>) {
        self.root = Some(t);
        sched.budget.set(u64::MAX);
        sched.thread.set(Some(t));
        t.sched.set(Some(sched));
        self.make_running(t);
    }
}
