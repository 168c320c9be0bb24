//! Budgets, time-out faults, and each rule of lending contexts, one by one.

mod common;

use abi::{Error, FaultKind, Label, MsgInfo, NO_CONTEXT, ObjType, Syscall, UserRegs};
use common::*;
use microkernel::Obj;
use microkernel::sched::SchedContext;
use microkernel::thread::{State, Tcb};

const US: u64 = 1000;
const CLIENT: u64 = FREE;
const MIDDLE: u64 = FREE + 4;
const LAST: u64 = FREE + 8;
const HANDLER: u64 = FREE + 12;
/// Endpoints: of the middle server, of the last one, of the handler.
const EP: u64 = FREE + 20;
const REPLY: u64 = FREE + 24;

/// A client, two servers that are passive and wait, and a handler of the last one's time-outs.
struct Chain {
    w: World,
    client: Obj<Tcb>,
    middle: Obj<Tcb>,
    last: Obj<Tcb>,
    handler: Obj<Tcb>,
    sched: Obj<SchedContext>,
}

fn at(cap: u64, reply: u64) -> UserRegs {
    let info = MsgInfo::new(3, 1, 0, 0).0;
    UserRegs { rdi: cap, rsi: info, r14: reply, ..UserRegs::default() }
}

impl Chain {
    fn new() -> Self {
        let mut w = World::new();
        w.retype(ObjType::Endpoint, 0, EP, 3).unwrap();
        w.retype(ObjType::Reply, 0, REPLY, 3).unwrap();
        let client = w.thread(CLIENT, 10);
        w.invoke(CLIENT + 1, Label::SchedConfigure, [100 * US, 1000 * US, 7, 0, 0, 0]).unwrap();
        let [middle, last, handler] =
            [(MIDDLE, 20), (LAST, 30), (HANDLER, 40)].map(|(slot, p)| w.thread(slot, p));
        w.mint(EP + 3, EP + 2, 5).unwrap();
        for t in [MIDDLE, LAST] {
            w.invoke(t, Label::ThreadSetTimeout, [EP + 3, 0, 0, 0, 0, 0]).unwrap();
            // Its start: on a context that is taken from it as soon as it waits.
            w.invoke(t + 1, Label::SchedUnbind, [0; 6]).unwrap();
            w.invoke(t, Label::ThreadBindSched, [t + 1, 1, 0, 0, 0, 0]).unwrap();
        }
        let root = w.root;
        let sched = w.slot(CLIENT + 1).cap().sched_context().unwrap();
        w.k.suspend(root);
        let mut chain = Self { w, client, middle, last, handler, sched };
        for (t, i) in [(handler, 2), (last, 1), (middle, 0)] {
            chain.runs(t);
            chain.call(t, Syscall::Recv, at(EP + i, REPLY + i));
        }
        for t in [middle, last] {
            assert!(t.sched.get().is_none(), "it waits, so it is passive");
        }
        chain.runs(client);
        chain
    }
    /// Who runs now.
    #[track_caller]
    fn runs(&mut self, t: Obj<Tcb>) {
        let now = self.w.k.schedule();
        let name = |t| {
            [self.client, self.middle, self.last, self.handler, self.w.root]
                .iter()
                .position(|x| *x == t)
        };
        assert_eq!(now.and_then(name), name(t), "who runs");
    }
    #[track_caller]
    fn nobody_runs(&mut self) {
        assert!(self.w.k.schedule().is_none());
    }
    fn call(&mut self, t: Obj<Tcb>, call: Syscall, regs: UserRegs) -> UserRegs {
        let regs = self.w.syscall(t, call, regs);
        self.w.k.schedule();
        regs
    }
    /// The supervisor does something; whoever ran goes on afterwards.
    fn root(&mut self, cap: u64, label: Label, w: [u64; 6]) {
        let root = self.w.root;
        self.w.k.resume(root);
        assert!(self.w.k.schedule() == Some(root));
        self.w.invoke(cap, label, w).unwrap();
        self.w.k.suspend(root);
        self.w.k.schedule();
    }
    /// Time passes; the timer interrupts when it was told to.
    fn pass(&mut self, ns: u64) {
        let end = self.w.k.hw.now + ns;
        while self.w.k.hw.deadline <= end {
            self.w.k.hw.now = self.w.k.hw.deadline;
            self.w.k.hw.deadline = u64::MAX;
            self.w.k.timer_interrupt();
            self.w.k.schedule();
        }
        self.w.k.hw.now = end;
    }
    /// The client calls the middle server.
    fn first(&mut self) {
        self.call(self.client, Syscall::Call, at(EP, 0));
        self.runs(self.middle);
    }
    /// And that one the last.
    fn both(&mut self) {
        self.first();
        self.call(self.middle, Syscall::Call, at(EP + 1, 0));
        self.runs(self.last);
    }
    #[track_caller]
    fn on(&self, t: Obj<Tcb>) {
        assert!(self.sched.thread.get() == Some(t), "the client's context is elsewhere");
    }
    /// The last server finishes.
    fn finish(&mut self) {
        self.call(self.last, Syscall::ReplyRecv, at(EP + 1, REPLY + 1));
    }
}

#[test]
fn a_budget_ends_and_comes_back() {
    let mut c = Chain::new();
    let idle = c.w.k.hw.now;
    c.pass(99 * US);
    c.runs(c.client);
    c.pass(US);
    c.nobody_runs();
    c.pass(899 * US);
    c.nobody_runs();
    c.pass(US);
    c.runs(c.client);
    assert_eq!(c.w.k.hw.now - idle, 1000 * US);
}

#[test]
fn who_spins_leaves_the_others_their_share() {
    let mut c = Chain::new();
    // The client is the more urgent of two that always run.
    c.root(HANDLER, Label::ThreadSuspend, [0; 6]);
    c.root(HANDLER, Label::ThreadSetPriority, [5, 0, 0, 0, 0, 0]);
    c.root(HANDLER, Label::ThreadResume, [0; 6]);
    let mut ran = [0, 0];
    for _ in 0..10_000 {
        let who = c.w.k.cpu.current == Some(c.handler);
        ran[who as usize] += 1;
        c.pass(US);
    }
    assert_eq!(ran, [1000, 9000], "µs of both in 10 ms");
}

#[test]
fn a_call_and_its_answer_take_the_context_along() {
    let mut c = Chain::new();
    c.both();
    c.on(c.last);
    c.pass(30 * US);
    c.finish();
    c.runs(c.middle);
    c.on(c.middle);
    c.pass(20 * US);
    c.call(c.middle, Syscall::ReplyRecv, at(EP, REPLY));
    c.runs(c.client);
    c.on(c.client);
    // The servers' time was the client's.
    c.pass(49 * US);
    c.runs(c.client);
    c.pass(US);
    c.nobody_runs();
}

#[test]
fn a_send_lends_until_the_receiver_waits_again() {
    let mut c = Chain::new();
    c.call(c.client, Syscall::Send, at(EP, 0));
    c.runs(c.middle);
    c.call(c.middle, Syscall::Recv, at(EP, REPLY));
    c.runs(c.client);
    c.on(c.client);
}

#[test]
fn who_waits_gives_back_before_it_answers() {
    let mut c = Chain::new();
    c.first();
    // Another reply object: the first call is answered later.
    c.w.k.suspend(c.last);
    c.call(c.middle, Syscall::Recv, at(EP, REPLY + 1));
    c.on(c.client);
    assert_eq!(c.client.state.get(), State::AwaitingReply);
    c.nobody_runs();
}

#[test]
fn a_time_out_is_told_and_a_reply_lets_it_go_on() {
    let mut c = Chain::new();
    c.both();
    c.pass(100 * US);
    c.runs(c.handler);
    let regs = c.handler.regs.get();
    let info = MsgInfo(regs.rsi);
    assert!(info.is_fault() && info.method() == FaultKind::Budget as u16);
    // Badge of the endpoint; time used, badge of the context.
    assert_eq!((regs.rdi, regs.r10, regs.r8), (5, 100 * US, 7));
    // The handler does nothing: it goes on when there is budget again.
    c.call(c.handler, Syscall::ReplyRecv, at(EP + 2, REPLY + 2));
    c.nobody_runs();
    c.pass(900 * US);
    c.runs(c.last);
    // This time it gets more.
    c.pass(100 * US);
    c.runs(c.handler);
    c.root(CLIENT + 1, Label::SchedConfigure, [200 * US, 1000 * US, 7, 0, 0, 0]);
    c.call(c.handler, Syscall::ReplyRecv, at(EP + 2, REPLY + 2));
    c.runs(c.last);
    c.pass(199 * US);
    c.runs(c.last);
}

#[test]
fn a_time_out_reaches_its_handler_although_another_switch_ended_the_budget() {
    let mut c = Chain::new();
    c.both();
    // The budget ends while the interrupt is late, and something more urgent runs first.
    c.w.k.hw.now += 120 * US;
    c.w.k.resume(c.w.root);
    c.runs(c.w.root);
    c.w.k.suspend(c.w.root);
    c.runs(c.handler);
    assert!(MsgInfo(c.handler.regs.get().rsi).is_fault());
}

#[test]
fn a_time_out_lends_nothing() {
    let mut c = Chain::new();
    c.root(HANDLER + 1, Label::SchedUnbind, [0; 6]);
    c.first();
    c.root(MIDDLE, Label::ThreadSetTimeout, [EP + 3, 0, 0, 0, 0, 0]);
    c.pass(100 * US);
    assert_eq!(c.middle.state.get(), State::AwaitingReply);
    c.on(c.middle);
    assert!(c.handler.sched.get().is_none());
    c.nobody_runs();
}

#[test]
fn a_call_given_up_takes_the_context_from_whoever_answers_it() {
    let mut c = Chain::new();
    c.both();
    c.finish();
    c.on(c.middle);
    c.root(CNODE, Label::CNodeDelete, [REPLY, 0, 0, 0, 0, 0]);
    c.on(c.client);
}

#[test]
fn the_client_has_its_context_back_when_the_server_dies() {
    let mut c = Chain::new();
    c.both();
    c.root(CNODE, Label::CNodeDelete, [LAST, 0, 0, 0, 0, 0]);
    c.on(c.middle);
    // It still waits for an answer that nobody will give: destroying the reply object tells it.
    c.root(CNODE, Label::CNodeDelete, [REPLY + 1, 0, 0, 0, 0, 0]);
    c.runs(c.middle);
    assert_eq!(Error::from_raw(c.middle.regs.get().rax), Some(Error::ServerDied));
}

#[test]
fn destroying_the_reply_object_takes_the_context_back() {
    let mut c = Chain::new();
    c.both();
    c.root(CNODE, Label::CNodeDelete, [REPLY + 1, 0, 0, 0, 0, 0]);
    c.on(c.middle);
    // Whom it was taken from is in the midst of something: its handler is told.
    c.runs(c.handler);
    let regs = c.handler.regs.get();
    assert_eq!((MsgInfo(regs.rsi).method(), regs.r8), (FaultKind::Budget as u16, NO_CONTEXT));
    assert_eq!(c.last.state.get(), State::AwaitingReply);
    // The handler lends it one to finish on, which is free again when it waits.
    c.root(LAST, Label::ThreadBindSched, [LAST + 1, 1, 0, 0, 0, 0]);
    c.call(c.handler, Syscall::ReplyRecv, at(EP + 2, REPLY + 2));
    c.runs(c.last);
    c.w.retype(ObjType::Reply, 0, REPLY + 1, 1).unwrap();
    c.w.k.cpu.current = Some(c.last);
    c.call(c.last, Syscall::Recv, at(EP + 1, REPLY + 1));
    assert!(c.last.sched.get().is_none());
    c.runs(c.middle);
}

#[test]
fn a_server_that_dies_between_leaves_the_last_one_to_finish() {
    let mut c = Chain::new();
    c.both();
    c.root(CNODE, Label::CNodeDelete, [MIDDLE, 0, 0, 0, 0, 0]);
    c.root(CNODE, Label::CNodeDelete, [REPLY, 0, 0, 0, 0, 0]);
    // The client knows, and the last server goes on with its context.
    assert_eq!(Error::from_raw(c.client.regs.get().rax), Some(Error::ServerDied));
    c.on(c.last);
    c.runs(c.last);
    c.finish();
    c.on(c.client);
    c.runs(c.client);
}

#[test]
fn a_suspended_client_gets_its_context_when_the_server_is_done() {
    let mut c = Chain::new();
    c.first();
    c.root(CLIENT, Label::ThreadSuspend, [0; 6]);
    c.runs(c.middle);
    c.root(CLIENT, Label::ThreadResume, [0; 6]);
    c.runs(c.middle);
    c.call(c.middle, Syscall::ReplyRecv, at(EP, REPLY));
    c.runs(c.client);
    assert_eq!(Error::from_raw(c.client.regs.get().rax), Some(Error::Cancelled));
}

#[test]
fn a_client_that_dies_leaves_its_context_to_the_server_until_that_waits() {
    let mut c = Chain::new();
    c.both();
    c.root(CNODE, Label::CNodeDelete, [CLIENT, 0, 0, 0, 0, 0]);
    c.runs(c.last);
    c.finish();
    c.runs(c.middle);
    c.call(c.middle, Syscall::ReplyRecv, at(EP, REPLY));
    assert!(c.sched.thread.get().is_none() && c.middle.sched.get().is_none());
    c.nobody_runs();
}

#[test]
fn a_context_that_is_destroyed_or_unbound_leaves_nobody_with_it() {
    for label in [Label::CNodeDelete, Label::SchedUnbind] {
        let mut c = Chain::new();
        c.both();
        match label {
            Label::CNodeDelete => c.root(CNODE, label, [CLIENT + 1, 0, 0, 0, 0, 0]),
            _ => c.root(CLIENT + 1, label, [0; 6]),
        }
        c.runs(c.handler);
        assert_eq!(c.handler.regs.get().r8, NO_CONTEXT);
        assert!([c.client, c.middle, c.last].iter().all(|t| t.sched.get().is_none()));
        // Finished on another one, the answers arrive; who waits for them needs one of his own.
        c.root(LAST, Label::ThreadBindSched, [LAST + 1, 1, 0, 0, 0, 0]);
        c.call(c.handler, Syscall::ReplyRecv, at(EP + 2, REPLY + 2));
        c.runs(c.last);
        c.finish();
        assert_eq!(c.middle.state.get(), State::Running);
        c.nobody_runs();
        c.root(MIDDLE, Label::ThreadBindSched, [LAST + 1, 1, 0, 0, 0, 0]);
        c.runs(c.middle);
        c.call(c.middle, Syscall::ReplyRecv, at(EP, REPLY));
        assert_eq!(c.client.state.get(), State::Running);
    }
}

#[test]
fn a_lender_bound_to_another_context_gives_up_its_claim() {
    let mut c = Chain::new();
    c.first();
    c.root(CLIENT, Label::ThreadSuspend, [0; 6]);
    c.root(CLIENT, Label::ThreadBindSched, [LAST + 1, 0, 0, 0, 0, 0]);
    c.call(c.middle, Syscall::ReplyRecv, at(EP, REPLY));
    assert!(c.sched.thread.get().is_none(), "free");
    c.root(CLIENT, Label::ThreadResume, [0; 6]);
    c.runs(c.client);
}

#[test]
fn a_fault_takes_the_context_to_a_passive_handler() {
    let mut c = Chain::new();
    c.root(CLIENT, Label::ThreadConfigure, [CNODE, VSPACE, EP, CLIENT + 2, 0, 0]);
    c.runs(c.client);
    assert!(c.w.k.fault(c.client, FaultKind::Page, 0x10, 4).is_ok());
    c.runs(c.middle);
    c.on(c.middle);
    c.call(c.middle, Syscall::ReplyRecv, at(EP, REPLY));
    c.runs(c.client);
    c.on(c.client);
}

#[test]
fn budgets_are_checked() {
    let mut c = Chain::new();
    let root = c.w.root;
    c.w.k.resume(root);
    c.w.k.schedule();
    for (budget, period) in [(9 * US, 100 * US), (0, 0), (101 * US, 100 * US), (1 << 50, 1 << 50)] {
        let words = [budget, period, 0, 0, 0, 0];
        let result = c.w.invoke(CLIENT + 1, Label::SchedConfigure, words);
        assert_eq!(result, Err(Error::Range), "{budget} in {period}");
    }
    let both = [CLIENT + 1, 0, 0, 0, 0, 0];
    assert_eq!(c.w.invoke(MIDDLE, Label::ThreadBindSched, both), Err(Error::Busy));
    let both = [MIDDLE + 1, 0, 0, 0, 0, 0];
    assert_eq!(c.w.invoke(CLIENT, Label::ThreadBindSched, both), Err(Error::Busy));
}

#[test]
fn one_timer_interrupt_does_a_few_things_and_comes_back_for_the_rest() {
    let mut w = World::new();
    w.retype(ObjType::Notification, 0, FREE, 1).unwrap();
    for half in 0..2 {
        w.retype(ObjType::Timer, 0, FREE + 100 + 25 * half, 25).unwrap();
    }
    for i in 0..50 {
        w.mint(FREE + 1 + i, FREE, 1 << i).unwrap();
        w.invoke(FREE + 100 + i, Label::TimerSetNotification, [FREE + 1 + i, 0, 0, 0, 0, 0])
            .unwrap();
        w.invoke(FREE + 100 + i, Label::TimerArm, [1000 + i % 7, 0, 0, 0, 0, 0]).unwrap();
    }
    w.k.hw.now = 2000;
    let (root, mut fired, mut most) = (w.root, 0u64, 0);
    for _ in 0..13 {
        assert!(w.k.hw.deadline <= 2000, "the timer comes back at once");
        w.k.hw.deadline = u64::MAX;
        w.k.timer_interrupt();
        w.k.schedule();
        let bits = w.syscall(root, Syscall::NbRecv, at(FREE, 0)).rdi;
        assert_eq!(fired & bits, 0);
        fired |= bits;
        most = most.max(bits.count_ones());
    }
    assert_eq!((fired, most, w.k.hw.deadline), ((1 << 50) - 1, 4, u64::MAX));
}

#[test]
fn a_server_that_gives_up_its_call_runs_no_more() {
    // Who is told of it is less urgent than the server, or nobody is told.
    for told in [true, false] {
        let mut c = Chain::new();
        c.root(HANDLER, Label::ThreadSetPriority, [15, 0, 0, 0, 0, 0]);
        if !told {
            c.root(MIDDLE, Label::ThreadSetTimeout, [0; 6]);
        }
        c.first();
        // It deletes the reply object that holds its client, as the entry code would have it done.
        let regs = UserRegs {
            rax: Syscall::Call as u64,
            rsi: MsgInfo::invoke(Label::CNodeDelete).0,
            rdx: REPLY,
            ..at(CNODE, 0)
        };
        c.middle.regs.set(regs);
        c.w.k.hw.preempts = None;
        assert!(c.w.k.fast_path(c.middle));
        assert!(c.w.slot(REPLY).is_empty() && c.middle.sched.get().is_none());
        let next = if told { c.handler } else { c.client };
        assert!(c.w.k.cpu.current == Some(next), "told: {told}");
        assert_eq!(c.client.regs.get().rax, Error::ServerDied as u64);
    }
}

/// A thread with a budget cannot get more: neither by configuring a context, nor by a fresh one, which
/// is unlimited, for another thread.
#[test]
fn time_comes_from_who_has_all_of_it() {
    let mut w = World::new();
    let limited = w.thread(CLIENT, 10);
    w.thread(MIDDLE, 10);
    w.invoke(CLIENT + 1, Label::SchedConfigure, [100 * US, 1000 * US, 7, 0, 0, 0]).unwrap();
    w.retype(ObjType::SchedContext, 0, LAST, 1).unwrap();
    w.invoke(MIDDLE + 1, Label::SchedUnbind, [0; 6]).unwrap();
    let asks = |w: &mut World, cap, label, words: [u64; 3]| {
        let [rdx, r10, r8] = words;
        let rsi = MsgInfo::invoke(label).0;
        let regs = UserRegs { rdi: cap, rsi, rdx, r10, r8, ..UserRegs::default() };
        Error::from_raw(w.syscall(limited, Syscall::Call, regs).rax)
    };
    let refused = Some(Error::NoRights);
    let more = [u64::MAX, 0, 0];
    assert_eq!(asks(&mut w, CLIENT + 1, Label::SchedConfigure, more), refused);
    assert_eq!(asks(&mut w, LAST, Label::SchedConfigure, [900 * US, 1000 * US, 0]), refused);
    assert_eq!(asks(&mut w, MIDDLE, Label::ThreadBindSched, [LAST, 0, 0]), refused);
    // What it was given it may pass on.
    w.invoke(LAST, Label::SchedConfigure, [100 * US, 1000 * US, 0, 0, 0, 0]).unwrap();
    assert_eq!(asks(&mut w, MIDDLE, Label::ThreadBindSched, [LAST, 0, 0]), None);
}
