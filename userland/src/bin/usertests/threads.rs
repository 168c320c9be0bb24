//! Threads: their making, their faults, their turns and their ends.

use abi::{CPtr, Error, FaultKind, Label, MsgInfo, ObjType, Rights, SUPERVISOR_EXIT, USER_END};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use libipc::sys;

use super::Test;
use crate::env::{Env, Told, equal, refused, why, works};

pub const ALL: &[(&str, Test)] = &[
    ("thread-configure-refused", configure_refused),
    ("thread-registers-refused", registers_refused),
    ("thread-priority-refused", priority_refused),
    ("thread-sched-refused", sched_refused),
    ("thread-suspended", suspended),
    ("thread-ends-itself", ends_itself),
    ("thread-ends-its-world", ends_its_world),
    ("thread-revokes-itself", revokes_itself),
    ("priority-order", priority_order),
    ("priority-inversion", inversion),
    ("priority-changed", priority_changed),
    ("yield-takes-turns", takes_turns),
    ("no-sched-context", no_sched),
    ("sched-context-deleted", sched_deleted),
    ("revoke-under-load", under_load),
];

const INFO: MsgInfo = MsgInfo::new(9, 1, 1, 0);

/// Words between this thread and those it starts.
static LOG: [AtomicU64; 32] = [const { AtomicU64::new(0) }; 32];
static LOGGED: AtomicU64 = AtomicU64::new(0);

fn log(what: u64) {
    let at = LOGGED.fetch_add(1, SeqCst) as usize;
    if let Some(word) = LOG.get(at) {
        word.store(what, SeqCst);
    }
}

/// What was logged since the last call.
fn logged() -> heapless::Vec<u64, 32> {
    let n = (LOGGED.swap(0, SeqCst) as usize).min(LOG.len());
    LOG[..n].iter().map(|w| w.load(SeqCst)).collect()
}

fn invoke(cap: CPtr, label: Label, words: [u64; 4]) -> Result<(), Error> {
    sys::invoke(cap, label, words, [0; 2]).map(drop)
}

fn configure_refused(e: &mut Env) -> Told {
    let tcb = e.make(ObjType::Thread)?;
    let empty = e.own.slots(1);
    let (cspace, vspace) = (e.own.cspace, e.own.vspace);
    for (words, error) in [
        ([0, vspace, 0, 0], Error::InvalidCap),
        ([empty, vspace, 0, 0], Error::InvalidCap),
        ([cspace, 0, 0, 0], Error::InvalidCap),
        ([cspace, empty, 0, 0], Error::InvalidCap),
        ([cspace, vspace, empty, 0], Error::InvalidCap),
        ([cspace, vspace, 0, empty], Error::InvalidCap),
        ([vspace, vspace, 0, 0], Error::WrongType),
        ([cspace, cspace, 0, 0], Error::WrongType),
        ([cspace, vspace, cspace, 0], Error::WrongType),
        ([cspace, vspace, 0, cspace], Error::WrongType),
    ] {
        refused(invoke(tcb, Label::ThreadConfigure, words), error)?;
    }
    works(invoke(tcb, Label::ThreadConfigure, [cspace, vspace, 0, 0]))
}

fn registers_refused(e: &mut Env) -> Told {
    let thread = e.thread(1)?;
    for words in [
        [USER_END, 0, 0, 0],
        [u64::MAX, 0, 0, 0],
        [1 << 47, 0, 0, 0],
        [0, USER_END + 1, 0, 0],
        [0, 1 << 63, 0, 0],
    ] {
        refused(invoke(thread.tcb, Label::ThreadWriteRegisters, words), Error::Range)?;
    }
    for resume in [2, 256, u64::MAX] {
        let got = sys::invoke(thread.tcb, Label::ThreadWriteRegisters, [0; 4], [resume, 0]);
        refused(got, Error::Range)?;
    }
    // Nobody rewrites the registers that it is running on.
    refused(invoke(e.own.thread, Label::ThreadWriteRegisters, [0; 4]), Error::Busy)
}

/// No thread makes itself or others more urgent than it is.
fn priority_refused(e: &mut Env) -> Told {
    let thread = e.thread(1)?;
    for priority in [256, 1 << 32, u64::MAX] {
        let words = [priority, 0, 0, 0];
        refused(invoke(thread.tcb, Label::ThreadSetPriority, words), Error::Range)?;
        refused(invoke(e.own.thread, Label::ThreadSetPriority, words), Error::Range)?;
    }
    for priority in [101, 180, 250, 255] {
        let words = [priority, 0, 0, 0];
        refused(invoke(thread.tcb, Label::ThreadSetPriority, words), Error::NoRights)?;
        refused(invoke(e.own.thread, Label::ThreadSetPriority, words), Error::NoRights)?;
    }
    let child = e.spawn(20, raises, thread.tcb)?;
    equal(e.end(&child)?, Error::NoRights as u64)
}

extern "C" fn raises(tcb: u64) -> u64 {
    let set = |p| invoke(tcb, Label::ThreadSetPriority, [p, 0, 0, 0]);
    set(20).and_then(|()| set(21)).map_or_else(|e| e as u64, |()| 0)
}

fn sched_refused(e: &mut Env) -> Told {
    let (one, two) = (e.thread(1)?, e.thread(1)?);
    let free = e.make(ObjType::SchedContext)?;
    let bare = e.make(ObjType::Thread)?;
    let bind = |tcb, sched: u64| invoke(tcb, Label::ThreadBindSched, [sched, 0, 0, 0]);
    refused(bind(one.tcb, free), Error::Busy)?;
    refused(bind(bare, two.sched), Error::Busy)?;
    refused(bind(bare, 0), Error::InvalidCap)?;
    refused(bind(bare, e.faults), Error::WrongType)?;
    works(bind(bare, free))
}

extern "C" fn counts(at: u64) -> u64 {
    loop {
        LOG[at as usize].fetch_add(1, SeqCst);
    }
}

/// Waits until somebody has counted further.
fn runs(e: &Env, count: &AtomicU64) -> Told {
    let before = count.load(SeqCst);
    for _ in 0..10_000 {
        e.pass()?;
        if count.load(SeqCst) != before {
            return Ok(());
        }
    }
    why(format_args!("it does not run"))
}

fn suspended(e: &mut Env) -> Told {
    LOG[0].store(0, SeqCst);
    let thread = e.spawn(1, counts, 0)?;
    let count = || LOG[0].load(SeqCst);
    for _ in 0..3 {
        runs(e, &LOG[0])?;
        works(invoke(thread.tcb, Label::ThreadSuspend, [0; 4]))?;
        works(invoke(thread.tcb, Label::ThreadSuspend, [0; 4]))?;
        let before = count();
        e.pass()?;
        equal(count(), before)?;
        works(invoke(thread.tcb, Label::ThreadResume, [0; 4]))?;
        works(invoke(thread.tcb, Label::ThreadResume, [0; 4]))?;
    }
    Ok(())
}

/// Deletes what is in a slot: this thread, or something that it stands on.
extern "C" fn deletes(both: u64) -> u64 {
    let (cnode, slot) = (both & 0xffff, both >> 16);
    sys::delete(cnode, slot).map_or_else(|e| e as u64, |()| 0)
}

fn ends_itself(e: &mut Env) -> Told {
    let thread = e.thread(1)?;
    works(e.own.start(&thread, deletes, e.own.cspace | thread.tcb << 16))?;
    e.settle()?;
    refused(invoke(thread.tcb, Label::ThreadResume, [0; 4]), Error::InvalidCap)?;
    // A suspended one does not come back from the call.
    let thread = e.thread(1)?;
    works(e.own.start(&thread, suspends, thread.tcb))?;
    e.settle()?;
    works(invoke(thread.tcb, Label::ThreadResume, [0; 4]))?;
    equal(e.end(&thread)?, 0)?;
    // Without the right to run it does not either.
    let thread = e.thread(1)?;
    works(e.own.start(&thread, deletes, e.own.cspace | thread.sched << 16))?;
    e.settle()
}

extern "C" fn suspends(tcb: u64) -> u64 {
    invoke(tcb, Label::ThreadSuspend, [0; 4]).map_or_else(|e| e as u64, |()| 0)
}

/// A thread deletes what it stands on: its fault endpoint, its buffer, its CSpace, its stack.
fn ends_its_world(e: &mut Env) -> Told {
    let faults = e.make(ObjType::Endpoint)?;
    let thread = works(e.own.thread(faults, 1))?;
    works(e.own.start(&thread, deletes, e.own.cspace | faults << 16))?;
    e.settle()?;
    let thread = e.thread(1)?;
    works(e.own.start(&thread, deletes, e.own.cspace | thread.buffer << 16))?;
    equal(e.end(&thread)?, 0)?;
    // Its CSpace has one name, in itself.
    let cnode = e.cnode(8)?;
    let thread = e.thread(1)?;
    let fault = e.mint(e.faults, thread.badge)?;
    let words = [cnode, e.own.vspace, fault, thread.buffer];
    works(invoke(thread.tcb, Label::ThreadConfigure, words))?;
    works(sys::copy(cnode, 5, e.own.cspace, cnode, Rights::all()))?;
    works(sys::delete(e.own.cspace, cnode))?;
    works(e.own.start(&thread, deletes, 5 | 5 << 16))?;
    equal(e.end(&thread)?, 0)?;
    // Its stack: gone when it returns.
    let thread = e.thread(1)?;
    works(e.own.start(&thread, deletes, e.own.cspace | (thread.buffer - 1) << 16))?;
    let f = e.fault()?;
    if f.badge != thread.badge {
        return why(format_args!("{f:x?}"));
    }
    Ok(())
}

/// Revokes the untyped from which everything of this thread was made.
extern "C" fn revokes(both: u64) -> u64 {
    let (cnode, slot) = (both & 0xffff, both >> 16);
    sys::revoke(cnode, slot).map_or_else(|e| e as u64, |()| 0)
}

fn revokes_itself(e: &mut Env) -> Told {
    for _ in 0..20 {
        let inner = works(e.own.make(ObjType::Untyped, 14))?;
        let slots = e.own.slots(8);
        let root = e.own.cspace;
        for (i, (ty, bits)) in
            [(ObjType::CNode, 7), (ObjType::Thread, 0), (ObjType::SchedContext, 0)]
                .into_iter()
                .enumerate()
        {
            works(sys::retype(inner, ty, bits, root, slots + i as u64, 1))?;
        }
        let [cnode, tcb, sched] = [0, 1, 2].map(|i| slots + i);
        // The copy of the CNode that the thread uses lies in that CNode, and the untyped too.
        works(sys::copy(cnode, 3, root, cnode, Rights::all()))?;
        let (_, stack) = works(e.own.page())?;
        works(invoke(tcb, Label::ThreadConfigure, [root, e.own.vspace, 0, 0]))?;
        works(invoke(tcb, Label::ThreadSetPriority, [1, 0, 0, 0]))?;
        works(sys::invoke(sched, Label::SchedConfigure, [u64::MAX, 0, 0, 0], [0; 2]))?;
        works(invoke(tcb, Label::ThreadBindSched, [sched, 0, 0, 0]))?;
        let thread = userland::own::Thread {
            tcb,
            sched,
            buffer: 0,
            buffer_at: 0,
            stack: stack + abi::PAGE_SIZE,
            badge: 0,
        };
        works(e.own.start(&thread, revokes, root | inner << 16))?;
        e.settle()?;
        // It died in the middle; somebody else ends what it began.
        works(sys::revoke(root, inner))?;
        for gone in [cnode, tcb, sched] {
            refused(sys::delete(gone, 0), Error::InvalidCap)?;
        }
        let left = sys::invoke(inner, Label::UntypedInfo, [0; 4], [0; 2]);
        equal(works(left)?.words[0], 1 << 14)?;
    }
    Ok(())
}

extern "C" fn logs(what: u64) -> u64 {
    log(what);
    0
}

fn priority_order(e: &mut Env) -> Told {
    logged();
    for priority in [3, 7, 1, 5, 7] {
        e.spawn(priority, logs, priority as u64)?;
    }
    for _ in 0..5 {
        e.fault()?;
    }
    equal(&logged()[..], &[7, 7, 5, 3, 1][..])
}

/// A server for [`inversion`]: answers, and logs.
extern "C" fn serves(both: u64) -> u64 {
    let (ep, reply) = (both & 0xffff, both >> 16);
    let Ok(mut got) = sys::recv(ep, reply) else { return 1 };
    for _ in 0..3 {
        log(100 + got.words[0]);
        match sys::reply_recv(ep, reply, INFO, got.words) {
            Ok(next) => got = next,
            Err(_) => return 2,
        }
    }
    0
}

extern "C" fn calls_thrice(ep: u64) -> u64 {
    for i in 0..3 {
        if sys::call(ep, INFO, [i, 0, 0, 0]).map(|got| got.words[0]) != Ok(i) {
            return 1;
        }
        log(200 + i);
    }
    0
}

extern "C" fn spins(_: u64) -> u64 {
    log(300);
    loop {
        core::hint::spin_loop();
    }
}

/// A server at its clients' priority or above serves the urgent one while a less urgent one spins.
fn inversion(e: &mut Env) -> Told {
    logged();
    let (ep, reply) = (e.make(ObjType::Endpoint)?, e.make(ObjType::Reply)?);
    e.spawn(20, serves, ep | reply << 16)?;
    e.spawn(10, spins, 0)?;
    let client = e.spawn(20, calls_thrice, ep)?;
    equal(e.end(&client)?, 0)?;
    let mut seen = logged();
    // The spinning one may have had its turn before, never in between.
    seen.retain(|what| *what != 300);
    equal(&seen[..], &[100, 200, 101, 201, 102, 202][..])
}

fn priority_changed(e: &mut Env) -> Told {
    logged();
    let (one, two) = (e.spawn(3, logs, 1)?, e.spawn(4, logs, 2)?);
    works(invoke(one.tcb, Label::ThreadSetPriority, [5, 0, 0, 0]))?;
    for thread in [&one, &two] {
        equal(e.end(thread)?, 0)?;
    }
    equal(&logged()[..], &[1, 2][..])?;
    // One that waits for a turn moves as well.
    let spinner = e.spawn(5, spins, 0)?;
    let low = e.spawn(4, logs, 9)?;
    runs(e, &LOGGED)?;
    equal(&logged()[..], &[300][..])?;
    works(invoke(spinner.tcb, Label::ThreadSetPriority, [1, 0, 0, 0]))?;
    equal(e.end(&low)?, 0)
}

extern "C" fn yields(what: u64) -> u64 {
    for _ in 0..4 {
        log(what);
        sys::yield_now();
    }
    0
}

fn takes_turns(e: &mut Env) -> Told {
    logged();
    for what in [1, 2, 3] {
        e.spawn(6, yields, what)?;
    }
    for _ in 0..3 {
        e.fault()?;
    }
    equal(&logged()[..], &[1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3][..])
}

fn no_sched(e: &mut Env) -> Told {
    logged();
    let thread = e.thread(5)?;
    works(sys::delete(e.own.cspace, thread.sched))?;
    works(e.own.start(&thread, logs, 4))?;
    e.settle()?;
    equal(logged().len(), 0)?;
    let sched = e.make(ObjType::SchedContext)?;
    works(sys::invoke(sched, Label::SchedConfigure, [u64::MAX, 0, 0, 0], [0; 2]))?;
    works(invoke(thread.tcb, Label::ThreadBindSched, [sched, 0, 0, 0]))?;
    equal(e.end(&thread)?, 0)?;
    equal(&logged()[..], &[4][..])
}

fn sched_deleted(e: &mut Env) -> Told {
    LOG[0].store(0, SeqCst);
    let thread = e.spawn(1, counts, 0)?;
    runs(e, &LOG[0])?;
    works(sys::delete(e.own.cspace, thread.sched))?;
    let before = LOG[0].load(SeqCst);
    e.pass()?;
    equal(LOG[0].load(SeqCst), before)
}

extern "C" fn serves_for_ever(both: u64) -> u64 {
    let (ep, reply) = (both & 0xffff, both >> 16);
    let mut got = sys::recv(ep, reply);
    while let Ok(m) = got {
        got = sys::reply_recv(ep, reply, m.info, m.words);
    }
    1
}

extern "C" fn calls_for_ever(ep: u64) -> u64 {
    while sys::call(ep, INFO, [0; 4]).is_ok() {}
    1
}

/// Everything goes while threads are in the middle of calls: at whatever instruction, every time.
fn under_load(e: &mut Env) -> Told {
    for round in 0..40u64 {
        // The badges tell rounds apart: nothing of an earlier one may come.
        let (ep, reply) = (e.make(ObjType::Endpoint)?, e.make(ObjType::Reply)?);
        let server = e.spawn(2 + (round % 2) as u8, serves_for_ever, ep | reply << 16)?;
        let clients = [e.spawn(2, calls_for_ever, ep)?, e.spawn(1, calls_for_ever, ep)?];
        if let Some(f) = e.fault_within(20_000 + 7919 * round)? {
            return why(format_args!("{f:x?}"));
        }
        match round % 4 {
            0 => works(sys::delete(e.own.cspace, reply))?,
            1 => works(sys::delete(e.own.cspace, ep))?,
            2 => works(sys::delete(e.own.cspace, server.tcb))?,
            _ => {}
        }
        if let Some(f) = e.fault_within(50_000)? {
            equal((f.kind, f.addr), (FaultKind::Syscall, SUPERVISOR_EXIT))?;
        }
        let _ = clients;
        works(e.own.reset())?;
        e.prepare()?;
    }
    Ok(())
}
