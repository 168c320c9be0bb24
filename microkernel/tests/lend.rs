//! Lending of scheduling contexts: random calls, answers, deaths, bindings and unbindings, while time
//! passes. After each step contexts, threads and stacks of lenders fit together, and nobody who may
//! run is forgotten; in no period has anybody run for longer than his context allows.
//!
//! `KERNEL_LEND_SEEDS` (how many) makes it longer.

mod common;

use abi::{Label, MsgInfo, ObjType, Syscall, UserRegs};
use common::*;
use microkernel::Obj;
use microkernel::sched::{SchedContext, Supply};
use microkernel::thread::{State, Tcb};

const ENDPOINTS: u64 = FREE;
const REPLIES: u64 = FREE + 4;
const NOTIFICATION: u64 = FREE + 9;
const SCHEDS: u64 = FREE + 10;
const THREADS: u64 = FREE + 20;
const T: u64 = 6;
const S: u64 = 4;
const R: u64 = 5;

/// What a context is configured to, and when it ran since.
struct Meter {
    budget: u64,
    period: u64,
    stretches: Vec<(u64, u64)>,
    consumed: u64,
}

impl Meter {
    fn check(&self) {
        for (i, (start, _)) in self.stretches.iter().enumerate() {
            let window = start + self.period;
            let inside = self.stretches[i..].iter().take_while(|s| s.0 < window);
            let used: u64 = inside.map(|(s, e)| e.min(&window) - s).sum();
            assert!(used <= self.budget, "{used} of {} ns in a period", self.budget);
        }
    }
}

struct Run {
    w: World,
    rng: fastrand::Rng,
    meters: Vec<Meter>,
    lent: u64,
    deepest: usize,
    emptied: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut w = World::new();
        w.retype(ObjType::Endpoint, 0, ENDPOINTS, 3).unwrap();
        w.retype(ObjType::Reply, 0, REPLIES, R).unwrap();
        w.retype(ObjType::Notification, 0, NOTIFICATION, 1).unwrap();
        w.root.priority.set(255);
        let rng = fastrand::Rng::with_seed(seed);
        let mut run = Self { w, rng, meters: Vec::new(), lent: 0, deepest: 0, emptied: 0 };
        for j in 0..S {
            run.w.retype(ObjType::SchedContext, 0, SCHEDS + j, 1).unwrap();
            let unlimited = Meter { budget: u64::MAX, period: 1, stretches: vec![], consumed: 0 };
            run.meters.push(unlimited);
            run.configure(j);
        }
        for i in 0..T {
            run.make_thread(i);
        }
        run
    }
    fn root(&mut self, cap: u64, label: Label, w: [u64; 6]) {
        let _ = self.w.invoke(cap, label, w);
    }
    fn thread(&self, i: u64) -> Obj<Tcb> {
        self.w.slot(THREADS + 2 * i).cap().thread().unwrap()
    }
    fn sched(&self, j: u64) -> Obj<SchedContext> {
        self.w.slot(SCHEDS + j).cap().sched_context().unwrap()
    }
    fn make_thread(&mut self, i: u64) {
        let at = THREADS + 2 * i;
        self.w.retype(ObjType::Thread, 0, at, 1).unwrap();
        if self.w.slot(at + 1).is_empty() {
            self.w.retype(ObjType::Frame, 12, at + 1, 1).unwrap();
        }
        let fault = ENDPOINTS + self.rng.u64(..3);
        self.root(at, Label::ThreadConfigure, [CNODE, VSPACE, fault, at + 1, 0, 0]);
        let priority = self.rng.u64(10..14);
        self.root(at, Label::ThreadSetPriority, [priority, 0, 0, 0, 0, 0]);
        self.root(at, Label::ThreadWriteRegisters, [0x1000, 0x2000, 0, 0, 1, 0]);
    }
    fn configure(&mut self, j: u64) {
        let (budget, period) = match self.rng.u8(..4) {
            0 => (u64::MAX, 1),
            _ => {
                let period = self.rng.u64(20_000..400_000);
                (self.rng.u64(10_000..=period), period)
            }
        };
        self.root(SCHEDS + j, Label::SchedConfigure, [budget, period, j, 0, 0, 0]);
        let meter = &mut self.meters[j as usize];
        meter.check();
        (meter.budget, meter.period) = (budget, period);
        meter.stretches.clear();
    }

    /// The supervisor does something.
    fn control(&mut self) {
        let root = self.w.root;
        self.w.k.resume(root);
        assert!(self.w.k.schedule() == Some(root));
        let (i, j, r) = (self.rng.u64(..T), self.rng.u64(..S), self.rng.u64(..R));
        let thread = THREADS + 2 * i;
        match self.rng.u8(..32) {
            0..4 => self.root(thread, Label::ThreadSuspend, [0; 6]),
            4..10 => self.root(thread, Label::ThreadResume, [0; 6]),
            10..18 => {
                // Most are servers: they have a context until they wait.
                let once = (i >= 2 && self.rng.u8(..8) > 0) as u64;
                self.root(thread, Label::ThreadBindSched, [SCHEDS + j, once, 0, 0, 0, 0]);
            }
            18..20 => self.root(SCHEDS + j, Label::SchedUnbind, [0; 6]),
            20..22 => self.configure(j),
            22 => {
                self.w.delete(SCHEDS + j).unwrap();
                self.w.retype(ObjType::SchedContext, 0, SCHEDS + j, 1).unwrap();
                self.meters[j as usize].consumed = 0;
                self.configure(j);
            }
            23 => {
                self.w.delete(thread).unwrap();
                self.make_thread(i);
            }
            24..26 => {
                self.w.delete(REPLIES + r).unwrap();
                self.w.retype(ObjType::Reply, 0, REPLIES + r, 1).unwrap();
            }
            26 => {
                let ep = ENDPOINTS + self.rng.u64(..3);
                self.w.delete(ep).unwrap();
                self.w.retype(ObjType::Endpoint, 0, ep, 1).unwrap();
            }
            27 => {
                let at = [0, ENDPOINTS + 2][self.rng.usize(..2)];
                self.root(thread, Label::ThreadSetTimeout, [at, 0, 0, 0, 0, 0]);
            }
            28 => self.root(thread, Label::ThreadWriteRegisters, [0x1000, 0x2000, 0, 0, 1, 0]),
            29 => {
                let priority = self.rng.u64(10..14);
                self.root(thread, Label::ThreadSetPriority, [priority, 0, 0, 0, 0, 0]);
            }
            _ => {
                let at = if self.rng.bool() { NOTIFICATION } else { 0 };
                self.root(thread, Label::ThreadBindNotification, [at, 0, 0, 0, 0, 0]);
            }
        }
        self.w.k.suspend(root);
        self.w.k.schedule();
    }

    /// The running thread calls the kernel.
    fn act(&mut self, t: Obj<Tcb>) {
        // Who serves at an endpoint mostly calls the others.
        let number = (0..T).find(|i| self.thread(*i) == t).unwrap_or(0);
        let serves = ENDPOINTS + number % 3;
        let endpoint = ENDPOINTS + self.rng.u64(..3);
        let own = if self.rng.u8(..4) > 0 { serves } else { endpoint };
        let reply = REPLIES + self.rng.u64(..R);
        let (call, cap) = match self.rng.u8(..24) {
            0..7 => (Syscall::Call, endpoint),
            7..13 => (Syscall::Recv, own),
            13..18 => (Syscall::ReplyRecv, own),
            18 => (Syscall::Reply, reply),
            19 => (Syscall::Send, endpoint),
            20 => (Syscall::NbRecv, endpoint),
            21 => (Syscall::Send, NOTIFICATION),
            22 => (Syscall::Recv, NOTIFICATION),
            _ => (Syscall::Yield, 0),
        };
        let info = MsgInfo::new(3, 1, 0, 0).0;
        let regs = UserRegs { rdi: cap, rsi: info, r14: reply, ..UserRegs::default() };
        if self.rng.u8(..30) == 0 {
            let _ = self.w.k.fault(t, abi::FaultKind::Page, 0, 0);
        } else {
            t.regs.set(UserRegs { rax: call as u64, ..regs });
            if self.rng.bool() || !self.w.k.fast_path(t) {
                assert!(self.w.k.syscall(t).is_ok());
            }
        }
        self.w.k.schedule();
    }

    /// Time passes, and the timer interrupts when it was told to.
    fn pass(&mut self, ns: u64) {
        let end = self.w.k.hw.now + ns;
        for _ in 0..1000 {
            let from = self.w.k.hw.now;
            let to = self.w.k.hw.deadline.clamp(from, end);
            let on = self.w.k.cpu.current.and_then(|t| t.sched.get());
            if let Some(j) = on.and_then(|s| (0..S).find(|j| self.sched(*j) == s)) {
                let meter = &mut self.meters[j as usize];
                if meter.budget != u64::MAX && to > from {
                    meter.stretches.push((from, to));
                    meter.consumed += to - from;
                }
            }
            self.w.k.hw.now = to;
            if self.w.k.hw.deadline > to {
                return;
            }
            self.w.k.hw.deadline = u64::MAX;
            self.w.k.timer_interrupt();
            self.w.k.schedule();
        }
        panic!("the timer never rests");
    }

    fn check(&mut self) {
        let current = self.w.k.cpu.current;
        assert!(current.is_none_or(|t| t.runnable() && !t.queued.get()));
        for t in (0..T).map(|i| self.thread(i)) {
            let on = t.sched.get();
            assert!(on.is_none_or(|s| s.thread.get() == Some(t)), "on a context that is elsewhere");
            let lends = t.lent.get().is_some() || t.above.get().is_some();
            assert!(!(on.is_some() && lends), "lends what it has");
            let waits = on.is_some_and(|s| s.supply.get() == Supply::Empty);
            if t.queued.get() {
                assert!(t.runnable() && !waits, "in a ready queue, and cannot run");
            } else if t.runnable() && current != Some(t) {
                assert!(waits && on.unwrap().awaits_refill(), "forgotten");
            }
            assert!(t.state.get() != State::Running || t.fault_is_none(), "runs with a fault");
        }
        for j in 0..S {
            let s = self.sched(j);
            let lives = |t| (0..T).any(|i| self.thread(i) == t);
            assert!(s.thread.get().is_none_or(|t| lives(t) && t.sched.get() == Some(s)));
            let (mut above, mut at, mut depth) = (None, s.lender.get(), 0);
            while let Some(t) = at {
                assert!(lives(t) && t.above.get() == above && t.sched.get().is_none());
                assert!(t.lent.get() == if above.is_none() { Some(s) } else { None });
                (above, at, depth) = (at, t.below.get(), depth + 1);
                assert!(depth <= T as usize, "a circle of lenders");
            }
            assert!(depth == 0 || s.thread.get().is_some_and(|t| t.borrows.get()));
            self.lent += (depth > 0) as u64;
            self.deepest = self.deepest.max(depth);
            self.emptied += s.awaits_refill() as u64;
        }
    }

    fn check_time(&mut self) {
        let root = self.w.root;
        self.w.k.resume(root);
        self.w.k.schedule();
        for j in 0..S {
            let consumed = self.w.invoke(SCHEDS + j, Label::SchedConsumed, [0; 6]).unwrap();
            assert_eq!(consumed, self.meters[j as usize].consumed, "context {j}");
            self.meters[j as usize].check();
        }
    }
}

#[test]
fn random_lending_keeps_everything_together_and_budgets() {
    let seeds = std::env::var("KERNEL_LEND_SEEDS").ok().and_then(|v| v.parse().ok()).unwrap_or(80);
    let (mut lent, mut deepest, mut emptied) = (0, 0, 0);
    for seed in 0..seeds {
        let run = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..2000 {
                match run.w.k.cpu.current {
                    Some(t) if run.rng.u8(..4) > 0 && t != run.w.root => run.act(t),
                    _ => run.control(),
                }
                run.check();
                let ns = run.rng.u64(..20_000);
                run.pass(ns);
                run.check();
            }
            run.check_time();
            (run.lent, run.deepest, run.emptied)
        });
        let (l, d, e) = run.unwrap_or_else(|_| panic!("seed {seed} fails"));
        (lent, deepest, emptied) = (lent + l, deepest.max(d), emptied + e);
    }
    assert!(lent > 10_000 && deepest >= 3, "lent {lent} times, {deepest} deep: too few");
    assert!(emptied > 10_000, "budgets ended {emptied} times: too few");
}
