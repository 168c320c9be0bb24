//! Budgets, time-out faults, and servers that run on their clients' time.

use abi::{CPtr, Error, FaultKind, Label, MsgInfo, NO_CONTEXT, ObjType, Rights};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use libipc::sys;
use userland::own::Thread;

use super::Test;
use crate::env::{Env, Told, Why, equal, refused, why, works};

pub const ALL: &[(&str, Test)] = &[
    ("budget-refused", budget_refused),
    ("budget-holds", budget_holds),
    ("time-out-told", time_out_told),
    ("passive-server", passive_server),
    ("passive-server-pays-nothing", pays_nothing),
    ("passive-server-loses-context", loses_context),
];

const INFO: MsgInfo = MsgInfo::new(9, 1, 1, 0);
const MS: u64 = 1_000_000;

/// What servers and clients are told of: endpoint, reply object.
static EP: AtomicU64 = AtomicU64::new(0);
static REPLY: AtomicU64 = AtomicU64::new(0);
/// Servers work as long as this is set.
static BUSY: AtomicBool = AtomicBool::new(false);

fn invoke(cap: CPtr, label: Label, words: [u64; 4]) -> Result<u64, Error> {
    sys::invoke(cap, label, words, [0; 2]).map(|r| r.words[0])
}

/// ns that a context was charged.
fn consumed(sched: CPtr) -> Result<u64, Why> {
    works(invoke(sched, Label::SchedConsumed, [0; 4]))
}

/// Lets `ns` pass, in which no thread is to fault.
fn pass(e: &Env, ns: u64) -> Told {
    match e.fault_within(ns)? {
        None => Ok(()),
        Some(fault) => why(format_args!("{fault:x?}")),
    }
}

extern "C" fn spins(_: u64) -> u64 {
    loop {
        core::hint::spin_loop();
    }
}

/// A thread that spins, with so much of 10 ms, and a badge.
fn spinner(e: &Env, budget: u64, badge: u64) -> Result<Thread, Why> {
    let thread = e.thread(50)?;
    works(invoke(thread.sched, Label::SchedConfigure, [budget, 10 * MS, badge, 0]))?;
    works(e.own.start(&thread, spins, 0))?;
    Ok(thread)
}

fn budget_refused(e: &mut Env) -> Told {
    let sched = e.make(ObjType::SchedContext)?;
    for (budget, period) in
        [(0, 0), (0, MS), (9_999, MS), (MS, MS - 1), (MS, u64::MAX), (u64::MAX - 1, u64::MAX)]
    {
        refused(invoke(sched, Label::SchedConfigure, [budget, period, 0, 0]), Error::Range)?;
    }
    works(invoke(sched, Label::SchedConfigure, [10_000, 10_000, 0, 0]))?;
    let thread = e.thread(1)?;
    let sets = |cap| invoke(thread.tcb, Label::ThreadSetTimeout, [cap, 0, 0, 0]);
    refused(sets(sched), Error::WrongType)?;
    refused(sets(e.own.slots(1)), Error::InvalidCap)?;
    refused(invoke(thread.tcb, Label::ThreadBindSched, [sched, 0, 0, 0]), Error::Busy)?;
    works(invoke(thread.sched, Label::SchedUnbind, [0; 4]))?;
    refused(invoke(thread.tcb, Label::ThreadBindSched, [sched, 2, 0, 0]), Error::Range)?;
    works(invoke(thread.tcb, Label::ThreadBindSched, [sched, 1, 0, 0])).map(drop)
}

/// Two spin at the same priority: each has its share and no more. Time that the host takes from the
/// machine is charged to whoever runs, so a look may have to be repeated.
fn budget_holds(e: &mut Env) -> Told {
    let threads = [spinner(e, 2 * MS, 0)?, spinner(e, 5 * MS, 0)?];
    let look = || -> Result<[u64; 3], Why> {
        let ran = [consumed(threads[0].sched)?, consumed(threads[1].sched)?];
        Ok([e.start.now_ns(), ran[0], ran[1]])
    };
    let mut seen = [0; 3];
    for _ in 0..10 {
        let before = look()?;
        pass(e, 200 * MS)?;
        let after = look()?;
        seen = [0, 1, 2].map(|i| after[i] - before[i]);
        // Of each period that it touches.
        let most = |tenths| (seen[0] / 10 + 10 * MS) * tenths;
        let fits = |ran, tenths| ran <= most(tenths) && ran >= most(tenths) / 4;
        if fits(seen[1], 2) && fits(seen[2], 5) {
            return Ok(());
        }
    }
    why(format_args!("of {} ns {} and {}, not two and five tenths", seen[0], seen[1], seen[2]))
}

fn time_out_told(e: &mut Env) -> Told {
    let thread = spinner(e, 2 * MS, 77)?;
    let to = works(e.own.mint(e.faults, Rights::WRITE, 5))?;
    works(invoke(thread.tcb, Label::ThreadSetTimeout, [to, 0, 0, 0]))?;
    let mut before = 0;
    for _ in 0..3 {
        let f = e.fault()?;
        equal((f.kind, f.badge, f.code), (FaultKind::Budget, 5, 77))?;
        if f.addr < before + 2 * MS - 10_000 {
            return why(format_args!("it ran for {} ns, before for {before}", f.addr));
        }
        before = f.addr;
        works(sys::reply(e.reply, MsgInfo(0), [0; 4]))?;
    }
    // Without anybody who is told, it just waits.
    works(invoke(thread.tcb, Label::ThreadSetTimeout, [0; 4]))?;
    if e.fault_within(MS)?.is_some() {
        works(sys::reply(e.reply, MsgInfo(0), [0; 4]))?;
    }
    pass(e, 30 * MS)
}

/// Answers with one more than the first word, after its work.
extern "C" fn serves(_: u64) -> u64 {
    let (ep, reply) = (EP.load(SeqCst), REPLY.load(SeqCst));
    let mut got = sys::recv(ep, reply);
    while let Ok(message) = got {
        while BUSY.load(SeqCst) {
            core::hint::spin_loop();
        }
        let [n, ..] = message.words;
        got = sys::reply_recv(ep, reply, INFO, [n + 1, 0, 0, 0]);
    }
    0
}

extern "C" fn calls(n: u64) -> u64 {
    match sys::call(EP.load(SeqCst), INFO, [n, 0, 0, 0]) {
        Ok(got) => got.words[0],
        Err(e) => e as u64,
    }
}

/// A server that starts on its context, and gives it up when it waits.
fn server(e: &Env) -> Result<Thread, Why> {
    EP.store(e.make(ObjType::Endpoint)?, SeqCst);
    REPLY.store(e.make(ObjType::Reply)?, SeqCst);
    let thread = e.thread(60)?;
    works(invoke(thread.sched, Label::SchedUnbind, [0; 4]))?;
    works(invoke(thread.tcb, Label::ThreadBindSched, [thread.sched, 1, 0, 0]))?;
    works(e.own.start(&thread, serves, 0))?;
    pass(e, 5 * MS)?;
    Ok(thread)
}

fn passive_server(e: &mut Env) -> Told {
    let server = server(e)?;
    for n in [1, 10, 100] {
        equal(calls(n), n + 1)?;
    }
    let client = e.spawn(50, calls, 41)?;
    equal(e.end(&client)?, 42)?;
    // Its context is free again.
    works(invoke(server.tcb, Label::ThreadBindSched, [server.sched, 0, 0, 0]))?;
    equal(calls(5), 6)
}

fn pays_nothing(e: &mut Env) -> Told {
    server(e)?;
    BUSY.store(true, SeqCst);
    let client = e.thread(50)?;
    works(invoke(client.sched, Label::SchedConfigure, [5 * MS, 10 * MS, 0, 0]))?;
    works(e.own.start(&client, calls, 1))?;
    pass(e, 50 * MS)?;
    let ran = consumed(client.sched)?;
    BUSY.store(false, SeqCst);
    equal(e.end(&client)?, 2)?;
    // The client only called; the work was the server's.
    if ran < 5 * MS { why(format_args!("charged {ran} ns")) } else { Ok(()) }
}

fn loses_context(e: &mut Env) -> Told {
    let server = server(e)?;
    let to = works(e.own.mint(e.faults, Rights::WRITE, 5))?;
    works(invoke(server.tcb, Label::ThreadSetTimeout, [to, 0, 0, 0]))?;
    BUSY.store(true, SeqCst);
    let client = e.spawn(50, calls, 1)?;
    pass(e, 5 * MS)?;
    // The client's time is taken away in the midst of the call.
    works(sys::delete(e.own.cspace, client.sched))?;
    let f = e.fault()?;
    equal((f.kind, f.badge, f.code), (FaultKind::Budget, 5, NO_CONTEXT))?;
    // It finishes on another context, and serves others.
    BUSY.store(false, SeqCst);
    works(invoke(server.tcb, Label::ThreadBindSched, [server.sched, 1, 0, 0]))?;
    works(sys::reply(e.reply, MsgInfo(0), [0; 4]))?;
    equal(calls(7), 8)
}
