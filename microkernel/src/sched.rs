//! Scheduling: 256 fixed priorities, round robin within one, for threads whose scheduling context
//! has budget left.
//!
//! A context with a budget is charged when the processor goes from it to another one
//! ([`Kernel::meter`]); going from thread to thread on the same context costs nothing, and so do
//! contexts without a limit. No thread in a ready queue is on a context whose budget is used up: it
//! waits in the heap of events for its refill. The timer is only ever set to an earlier time than
//! it is set to; one that comes too early is cheaper than setting it at every switch.

use abi::Error;
use core::cell::Cell;

use crate::heap::Event;
use crate::refill::{Refills, SHORTEST_NS};
use crate::thread::Tcb;
use crate::trace::event;
use crate::{Kernel, Obj, Platform};

/// How long a thread runs while others of its priority wait, ns.
const SLICE_NS: u64 = 5_000_000;

/// Longest period, ns: an hour.
const PERIOD_MAX: u64 = 3_600_000_000_000;

/// Events handled in one entry of the kernel; the timer comes back at once for more.
const EVENTS_PER_ENTRY: usize = 4;

/// How a context may run now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Supply {
    /// Without a limit: it is not charged.
    #[default]
    Unlimited,
    /// It has budget left.
    Limited,
    /// Its budget is used up: whoever is on it waits for the refill.
    Empty,
}

/// The right to run.
#[repr(C, align(32))]
pub struct SchedContext {
    /// The thread that is on it: the one it is bound to, or the one it was lent to.
    pub thread: Cell<Option<Obj<Tcb>>>,
    /// Who lent it last, while it is lent (see `lend.rs`).
    pub lender: Cell<Option<Obj<Tcb>>>,
    /// Whether it is charged.
    pub supply: Cell<Supply>,
    /// Named in time-out faults.
    pub(crate) badge: Cell<u64>,
    /// ns charged so far.
    pub(crate) consumed: Cell<u64>,
    pub(crate) refills: Refills,
    /// Waits for the refill.
    event: Event,
}

const _: () = assert!(size_of::<SchedContext>() <= 256);

impl SchedContext {
    /// Whether it has no budget, but all time that there is.
    pub fn is_unlimited(&self) -> bool {
        self.supply.get() == Supply::Unlimited
    }
    /// Whether a thread waits for its refill.
    pub fn awaits_refill(&self) -> bool {
        self.event.is_queued()
    }
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
    #[inline(always)]
    pub fn pop_front(&self) -> Option<Obj<Tcb>> {
        let first = self.head.get()?;
        let next = first.next.take();
        self.head.set(next);
        match next {
            Some(next) => next.prev.set(None),
            None => self.tail.set(None),
        }
        Some(first)
    }
    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }
}

/// Runnable threads, but for the running one.
#[repr(C)]
pub struct ReadyQueues {
    /// The highest priority of a queue that is not empty, plus one; 0: all are empty.
    above: u16,
    /// Bit `p % 64` of word `p / 64`: queue `p` is not empty.
    bitmap: [u64; 4],
    queues: [Queue; 256],
}

impl ReadyQueues {
    pub(crate) const fn new() -> Self {
        Self { queues: [const { Queue::new() }; 256], bitmap: [0; 4], above: 0 }
    }
    fn highest(&self) -> Option<u8> {
        self.above.checked_sub(1).map(|p| p as u8)
    }
    /// Somebody was put into a queue.
    #[inline(always)]
    fn filled(&mut self, priority: u8) {
        self.bitmap[(priority / 64) as usize] |= 1 << (priority % 64);
        self.above = self.above.max(priority as u16 + 1);
    }
    /// Somebody was taken out of a queue.
    #[inline(always)]
    fn drained(&mut self, priority: u8) {
        if self.queues[priority as usize].is_empty() {
            self.emptied(priority);
        }
    }
    fn emptied(&mut self, priority: u8) {
        self.bitmap[(priority / 64) as usize] &= !(1 << (priority % 64));
        if self.above == priority as u16 + 1 {
            let top = (0..4).rev().find(|i| self.bitmap[*i] != 0);
            let above = |i: usize| i as u16 * 64 + 64 - self.bitmap[i].leading_zeros() as u16;
            self.above = top.map_or(0, above);
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
        if let Some(s) = t.sched.get().filter(|s| s.supply.get() == Supply::Empty) {
            if s.refills.begin(self.hw.now()) == 0 {
                return self.await_refill(s);
            }
            s.supply.set(Supply::Limited);
        }
        let priority = t.priority.get();
        self.ready.queues[priority as usize].push_back(t);
        t.queued.set(true);
        self.ready.filled(priority);
        match self.cpu.current {
            // An equal one waits for the slice to end, which has to be timed from now on.
            Some(c) if c.priority.get() >= priority => {
                if c.priority.get() == priority && self.cpu.slice_end == u64::MAX {
                    self.cpu.slice_end = self.hw.now() + SLICE_NS;
                    self.arm(self.cpu.slice_end);
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
            self.ready.drained(priority);
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

    /// Chooses who runs next, and loads its address space. Called before every return to user mode.
    pub fn schedule(&mut self) -> Option<Obj<Tcb>> {
        let still = self.cpu.current.filter(|t| t.runnable());
        if self.cpu.reschedule || still.is_none() {
            self.choose(still);
            // The switch may have ended a budget, and its time-out fault woken a more urgent
            // handler. That one begins with budget, so there is no third time.
            if self.cpu.reschedule {
                self.choose(self.cpu.current);
            }
        }
        event!(self, trace_switch());
        self.cpu.current
    }

    /// The end of a straight line ([`crate::fastpath`]), which has switched by itself if it could.
    #[inline(always)]
    pub fn settle(&mut self) -> Option<Obj<Tcb>> {
        if self.cpu.reschedule | self.cpu.tracing {
            return self.schedule();
        }
        self.cpu.current
    }

    /// Sees to it that the timer's interrupt comes at `at`, or sooner. When it comes early it finds
    /// nothing to do: that is rarer than a change of the deadline, and the timer costs more to set.
    #[inline(always)]
    pub(crate) fn arm(&mut self, at: u64) {
        if at < self.cpu.armed {
            self.cpu.armed = at;
            self.hw.set_deadline(at);
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
        self.ready.filled(priority);
    }

    fn choose(&mut self, still: Option<Obj<Tcb>>) {
        self.cpu.reschedule = false;
        match still {
            // Its address space or its context may have been configured anew.
            Some(t) if self.ready.highest().is_none_or(|b| b <= t.priority.get()) => {
                self.load(t);
                self.meter(t.sched.get());
            }
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
                self.ready.drained(t.priority.get());
                self.begin_slice(t);
                self.run(t);
            }
            None => {
                self.cpu.slice_end = u64::MAX;
                self.cpu.current = None;
                self.meter(None);
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
        self.arm(self.cpu.slice_end);
    }

    /// Makes `t`, which is in no queue, the running thread.
    #[inline(always)]
    pub(crate) fn run(&mut self, t: Obj<Tcb>) {
        self.cpu.current = Some(t);
        self.load(t);
        self.hw.load_segments(t.fs_base.get());
        self.meter(t.sched.get());
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

    /// The timer interrupt: handles what is due, ends a used-up budget or slice.
    pub fn timer_interrupt(&mut self) {
        self.cpu.armed = u64::MAX;
        let now = self.hw.now();
        for _ in 0..EVENTS_PER_ENTRY {
            let Some(event) = self.events.due(now) else { break };
            self.events.remove(event);
            if let Some(t) = event.timer.get() {
                self.timer_fire(t);
            } else if let Some(t) = event.sched.get().and_then(|s| s.thread.get()) {
                self.enqueue(t);
            }
        }
        if self.cpu.budget_end <= now {
            self.meter(None);
            self.cpu.reschedule = true;
            if let Some(t) = self.cpu.current.take_if(|t| t.is_out()) {
                self.out_of_budget(t);
            }
        } else if self.cpu.slice_end <= now {
            self.cpu.slice_end = u64::MAX;
            self.yield_current();
        }
        self.arm(self.cpu.slice_end.min(self.cpu.budget_end).min(self.events.next()));
    }

    /// The processor goes to context `next`: charges the one it was on, if that is another one.
    #[inline]
    pub(crate) fn meter(&mut self, next: Option<Obj<SchedContext>>) {
        let next = next.filter(|s| s.supply.get() != Supply::Unlimited);
        if next != self.cpu.charged {
            self.charge(next);
        }
    }

    #[inline(never)]
    fn charge(&mut self, next: Option<Obj<SchedContext>>) {
        let now = self.hw.now();
        let old = core::mem::replace(&mut self.cpu.charged, next);
        let ns = now.saturating_sub(core::mem::replace(&mut self.cpu.charged_since, now));
        self.cpu.budget_end = match next {
            Some(s) => now + s.refills.begin(now),
            None => u64::MAX,
        };
        self.arm(self.cpu.budget_end);
        if let Some(s) = old {
            s.consumed.set(s.consumed.get() + ns);
            if s.refills.spend(ns, now) {
                self.emptied(s);
            }
        }
    }

    /// The budget of `s` has come to an end.
    #[cold]
    fn emptied(&mut self, s: Obj<SchedContext>) {
        s.supply.set(Supply::Empty);
        if let Some(t) = s.thread.get().filter(|t| t.queued.get()) {
            self.dequeue(t);
            self.out_of_budget(t);
        }
    }

    /// The budget of `t`, which is in no queue, ended while it ran: its time-out endpoint is told; if
    /// there is none, it waits.
    fn out_of_budget(&mut self, t: Obj<Tcb>) {
        let Some(s) = t.sched.get() else { return };
        if self.time_out(t, s.consumed.get(), s.badge.get()).is_err() {
            self.await_refill(s);
        }
    }

    fn await_refill(&mut self, s: Obj<SchedContext>) {
        if !s.awaits_refill() {
            s.event.sched.set(Some(s));
            self.events.insert(Obj::of(&s.event), s.refills.next());
            self.arm(s.refills.next());
        }
    }

    /// Gives a context a full budget from now on.
    ///
    /// # Errors
    /// [`Error::Range`]: not `SHORTEST_NS <= budget <= period <= PERIOD_MAX`.
    pub(crate) fn configure(
        &mut self,
        s: Obj<SchedContext>,
        budget: u64,
        period: u64,
        badge: u64,
    ) -> Result<(), Error> {
        let limited = budget != u64::MAX;
        if limited && !(SHORTEST_NS <= budget && budget <= period && period <= PERIOD_MAX) {
            return Err(Error::Range);
        }
        self.settle_account(s);
        s.badge.set(badge);
        s.supply.set(if limited { Supply::Limited } else { Supply::Unlimited });
        if limited {
            s.refills.reset(budget, period, self.hw.now());
        }
        if let Some(t) = s.thread.get() {
            self.enqueue(t);
        }
        self.cpu.reschedule = true;
        Ok(())
    }

    /// ns that a context was charged so far.
    pub(crate) fn consumed(&self, s: Obj<SchedContext>) -> u64 {
        let runs = self.cpu.charged == Some(s);
        let open = if runs { self.hw.now().saturating_sub(self.cpu.charged_since) } else { 0 };
        s.consumed.get() + open
    }

    /// Charges a context up to now, and stops waiting for its refill.
    pub(crate) fn settle_account(&mut self, s: Obj<SchedContext>) {
        if self.cpu.charged == Some(s) {
            self.meter(None);
        }
        self.events.remove(Obj::of(&s.event));
    }

    /// For the boot code: makes the root task's thread run.
    pub fn start_root(&mut self, t: Obj<Tcb>, sched: Obj<SchedContext>) {
        self.root = Some(t);
        sched.thread.set(Some(t));
        t.sched.set(Some(sched));
        self.make_running(t);
    }
}
