//! Everything that is made comes back, however often; and quotas hold.

use abi::{CPtr, Error, Label, MapAttr, ObjType, PAGE_BITS, Rights};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use libipc::sys;

use super::Test;
use crate::env::{Env, Told, equal, why, works};

pub const ALL: &[(&str, Test)] = &[
    ("10000-endpoints", |e| cycle(e, ObjType::Endpoint, 0)),
    ("10000-notifications", |e| cycle(e, ObjType::Notification, 0)),
    ("10000-replies", |e| cycle(e, ObjType::Reply, 0)),
    ("10000-cnodes", |e| cycle(e, ObjType::CNode, 4)),
    ("10000-timers", |e| cycle(e, ObjType::Timer, 0)),
    ("10000-sched-contexts", |e| cycle(e, ObjType::SchedContext, 0)),
    ("10000-address-spaces", |e| cycle(e, ObjType::VSpace, 0)),
    ("10000-page-tables", tables),
    ("10000-frames", frames),
    ("10000-threads", threads),
    ("address-spaces-run-out", vspaces_run_out),
    ("fork-bomb", fork_bomb),
];

const ROUNDS: u64 = 10_000;
const BOTH: Rights = Rights::READ.union(Rights::WRITE);

/// Makes and deletes, one at a time; the memory is as before in every round.
fn cycle(e: &mut Env, ty: ObjType, bits: u8) -> Told {
    let slot = e.own.slots(2);
    let small = works(e.own.make(ObjType::Untyped, 13))?;
    for round in 0..ROUNDS {
        works(sys::retype(small, ty, bits, e.own.cspace, slot, 1))?;
        if round % 8 == 0 {
            works(sys::copy(e.own.cspace, slot + 1, e.own.cspace, slot, Rights::all()))?;
            works(sys::delete(e.own.cspace, slot + 1))?;
        }
        match round % 2 {
            0 => works(sys::delete(e.own.cspace, slot))?,
            _ => works(sys::revoke(e.own.cspace, small))?,
        }
    }
    let left = sys::invoke(small, Label::UntypedInfo, [0; 4], [0; 2]);
    equal(works(left)?.words[0], 1 << 13)
}

fn tables(e: &mut Env) -> Told {
    let (slot, small) = (e.own.slots(1), works(e.own.make(ObjType::Untyped, 12))?);
    for _ in 0..ROUNDS {
        works(sys::retype(small, ObjType::PageTable, 0, e.own.cspace, slot, 1))?;
        works(sys::map_table(slot, e.own.vspace, 1 << 45))?;
        works(sys::delete(e.own.cspace, slot))?;
    }
    Ok(())
}

fn frames(e: &mut Env) -> Told {
    // The tables are there.
    let (page, at) = works(e.own.page())?;
    works(sys::delete(e.own.cspace, page))?;
    let (slot, small) = (e.own.slots(1), works(e.own.make(ObjType::Untyped, 12))?);
    for round in 0..ROUNDS {
        works(sys::retype(small, ObjType::Frame, PAGE_BITS, e.own.cspace, slot, 1))?;
        works(sys::map(slot, e.own.vspace, at, BOTH, MapAttr::empty()))?;
        equal(crate::raw::read(at), 0)?;
        crate::raw::write(at, round + 1);
        match round % 2 {
            0 => works(sys::delete(e.own.cspace, slot))?,
            _ => works(sys::revoke(e.own.cspace, small))?,
        }
    }
    Ok(())
}

/// Each runs, once in a while to its end.
fn threads(e: &mut Env) -> Told {
    let usual = e.thread(1)?;
    let small = works(e.own.make(ObjType::Untyped, 12))?;
    let slots = e.own.slots(2);
    let fault = e.mint(e.faults, 7)?;
    for round in 0..ROUNDS {
        works(sys::retype(small, ObjType::Thread, 0, e.own.cspace, slots, 1))?;
        works(sys::retype(small, ObjType::SchedContext, 0, e.own.cspace, slots + 1, 1))?;
        let set = |label, words| sys::invoke(slots, label, words, [0; 2]);
        works(set(Label::ThreadConfigure, [e.own.cspace, e.own.vspace, fault, usual.buffer]))?;
        works(set(Label::ThreadSetPriority, [1, 0, 0, 0]))?;
        let time = [u64::MAX, 0, 0, 0];
        works(sys::invoke(slots + 1, Label::SchedConfigure, time, [0; 2]))?;
        works(set(Label::ThreadBindSched, [slots + 1, 0, 0, 0]))?;
        let thread = userland::own::Thread { tcb: slots, sched: slots + 1, badge: 7, ..usual };
        works(e.own.start(&thread, squares, round))?;
        if round % 100 == 0 {
            equal(e.end(&thread)?, round * round)?;
        }
        works(sys::revoke(e.own.cspace, small))?;
    }
    Ok(())
}

extern "C" fn squares(x: u64) -> u64 {
    x * x
}

/// There is a number for each address space, and no more than that many; they come back.
fn vspaces_run_out(e: &mut Env) -> Told {
    const MOST: u64 = 700;
    let pool = works(e.own.make(ObjType::Untyped, 21))?;
    let first = e.own.slots(MOST);
    let mut made = 0;
    for round in 0..2 {
        let mut now = 0;
        while now < MOST {
            match sys::retype(pool, ObjType::VSpace, 0, e.own.cspace, first + now, 1) {
                Ok(()) => now += 1,
                Err(Error::NoMemory) => break,
                Err(error) => return why(format_args!("after {now}: {error:?}")),
            }
        }
        if now < 500 || round > 0 && now != made {
            return why(format_args!("{now} address spaces, {made} before"));
        }
        made = now;
        works(sys::revoke(e.own.cspace, pool))?;
    }
    Ok(())
}

/// What the threads of the fork bomb share: slots, the quota, how many there are, how many failed.
static NEXT: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicU64 = AtomicU64::new(0);
static QUOTA: AtomicU64 = AtomicU64::new(0);
static CSPACE: AtomicU64 = AtomicU64::new(0);
static VSPACE: AtomicU64 = AtomicU64::new(0);
static STACK: AtomicU64 = AtomicU64::new(0);
static CODE: AtomicU64 = AtomicU64::new(0);
static THREADS: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Makes a thread like the caller from the quota.
fn fork() -> Result<(), Error> {
    let (cspace, slot) = (CSPACE.load(SeqCst), NEXT.fetch_add(2, SeqCst));
    if slot + 1 >= LAST.load(SeqCst) {
        return Err(Error::Occupied);
    }
    let quota: CPtr = QUOTA.load(SeqCst);
    sys::retype(quota, ObjType::Thread, 0, cspace, slot, 1)?;
    sys::retype(quota, ObjType::SchedContext, 0, cspace, slot + 1, 1)?;
    let set = |label, words, more| sys::invoke(slot, label, words, more).map(drop);
    set(Label::ThreadConfigure, [cspace, VSPACE.load(SeqCst), 0, 0], [0; 2])?;
    set(Label::ThreadSetPriority, [5, 0, 0, 0], [0; 2])?;
    sys::invoke(slot + 1, Label::SchedConfigure, [u64::MAX, 0, 0, 0], [0; 2])?;
    set(Label::ThreadBindSched, [slot + 1, 0, 0, 0], [0; 2])?;
    let stack = STACK.fetch_sub(512, SeqCst);
    set(
        Label::ThreadWriteRegisters,
        [CODE.load(SeqCst), stack, bomb as *const () as u64, 0],
        [1, 0],
    )
}

extern "C" fn bomb(_: u64) -> u64 {
    THREADS.fetch_add(1, SeqCst);
    loop {
        if fork().is_err() {
            REFUSED.fetch_add(1, SeqCst);
            sys::yield_now();
        }
    }
}

/// Threads that make threads, all of them, take what they were given, and nothing else.
fn fork_bomb(e: &mut Env) -> Told {
    const QUOTA_BITS: u8 = 17;
    let quota = works(e.own.make(ObjType::Untyped, QUOTA_BITS))?;
    let stacks = works(e.own.make(ObjType::Frame, abi::LARGE_BITS))?;
    let at = 1 << 44;
    works(e.own.map(stacks, e.own.vspace, at, BOTH, MapAttr::empty()))?;
    // mov rax, rdi; call rax; nobody returns
    let code = e.code(&[0x48, 0x89, 0xf8, 0xff, 0xd0])?;
    let before = works(e.own.left())?;
    let slots = e.own.slots(400);
    for (word, value) in [
        (&NEXT, slots),
        (&LAST, slots + 400),
        (&QUOTA, quota),
        (&CSPACE, e.own.cspace),
        (&VSPACE, e.own.vspace),
        (&STACK, at + (1 << 21)),
        (&CODE, code),
        (&THREADS, 0),
        (&REFUSED, 0),
    ] {
        word.store(value, SeqCst);
    }
    works(fork())?;
    for _ in 0..200 {
        e.pass()?;
        if REFUSED.load(SeqCst) > 100 {
            break;
        }
    }
    let threads = THREADS.load(SeqCst);
    let most = (1 << QUOTA_BITS) / 2048;
    if !(most / 2..=most).contains(&threads) || REFUSED.load(SeqCst) <= 100 {
        return why(format_args!("{threads} threads, {} refused", REFUSED.load(SeqCst)));
    }
    // Nothing was taken from elsewhere, and all of it comes back at once.
    equal(works(e.own.left())?, before)?;
    works(sys::revoke(e.own.cspace, quota))?;
    let left = sys::invoke(quota, Label::UntypedInfo, [0; 4], [0; 2]);
    equal(works(left)?.words[0], 1 << QUOTA_BITS)?;
    let stopped = REFUSED.load(SeqCst);
    e.pass()?;
    equal(REFUSED.load(SeqCst), stopped)
}
