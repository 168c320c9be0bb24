//! Notifications and timers.

use abi::{CPtr, Error, Label, MsgInfo, ObjType, Rights};
use libipc::sys;

use super::Test;
use crate::env::{Env, Told, Why, equal, refused, why, works};

pub const ALL: &[(&str, Test)] = &[
    ("signals-add-up", add_up),
    ("signal-wakes-one", wakes_one),
    ("signal-ends-receive", ends_receive),
    ("signal-bind-refused", bind_refused),
    ("signal-bound-thread-died", bound_died),
    ("signal-race", race),
    ("notification-deleted", deleted),
    ("timer-refused", timer_refused),
    ("timer-order", timer_order),
    ("timer-past-and-never", timer_past),
    ("timer-deleted", timer_deleted),
    ("timer-many", timer_many),
];

fn bind(tcb: CPtr, ntfn: CPtr) -> Result<(), Error> {
    sys::invoke(tcb, Label::ThreadBindNotification, [ntfn, 0, 0, 0], [0; 2]).map(drop)
}

fn target(timer: CPtr, ntfn: CPtr) -> Result<(), Error> {
    sys::invoke(timer, Label::TimerSetNotification, [ntfn, 0, 0, 0], [0; 2]).map(drop)
}

extern "C" fn waits(ntfn: u64) -> u64 {
    sys::wait(ntfn).unwrap_or_else(|e| 1 << 32 | e as u64)
}

extern "C" fn receives(ep: u64) -> u64 {
    match sys::recv(ep, 0) {
        Ok(got) if got.info == MsgInfo(MsgInfo::SIGNAL) => got.badge,
        Ok(got) => 1 << 33 | got.badge,
        Err(e) => 1 << 32 | e as u64,
    }
}

fn add_up(e: &mut Env) -> Told {
    let ntfn = e.make(ObjType::Notification)?;
    equal(sys::poll(ntfn), 0)?;
    for badge in [1, 1 << 63, 6, 1] {
        let badged = e.mint(ntfn, badge)?;
        sys::signal(badged);
    }
    equal(works(sys::wait(ntfn))?, 1 << 63 | 7)?;
    refused(sys::nb_recv(ntfn, 0), Error::WouldBlock)?;
    // A signal without bits is one all the same.
    sys::signal(ntfn);
    equal(works(sys::wait(ntfn))?, 0)
}

fn wakes_one(e: &mut Env) -> Told {
    let ntfn = e.make(ObjType::Notification)?;
    let badged = e.mint(ntfn, 9)?;
    let first = e.spawn(1, waits, ntfn)?;
    e.settle()?;
    let second = e.spawn(2, waits, ntfn)?;
    e.settle()?;
    sys::signal(badged);
    equal(e.end(&first)?, 9)?;
    e.settle()?;
    equal(sys::poll(ntfn), 0)?;
    sys::signal(badged);
    equal(e.end(&second)?, 9)
}

fn ends_receive(e: &mut Env) -> Told {
    let (ep, ntfn) = (e.make(ObjType::Endpoint)?, e.make(ObjType::Notification)?);
    let badged = e.mint(ntfn, 16)?;
    let thread = e.thread(1)?;
    works(bind(thread.tcb, ntfn))?;
    for before in [true, false] {
        if before {
            sys::signal(badged);
        }
        works(e.own.start(&thread, receives, ep))?;
        if !before {
            e.settle()?;
            sys::signal(badged);
        }
        equal(e.end(&thread)?, 16)?;
    }
    // Unbound, it no longer ends anything.
    works(bind(thread.tcb, 0))?;
    works(e.own.start(&thread, receives, ep))?;
    e.settle()?;
    sys::signal(badged);
    e.settle()?;
    equal(sys::poll(ntfn), 16)
}

fn bind_refused(e: &mut Env) -> Told {
    let ntfn = e.make(ObjType::Notification)?;
    let (one, two) = (e.thread(1)?.tcb, e.thread(1)?.tcb);
    let writes = e.copy(ntfn, Rights::WRITE | Rights::GRANT)?;
    refused(bind(one, writes), Error::NoRights)?;
    refused(bind(one, e.faults), Error::WrongType)?;
    refused(bind(one, u64::MAX), Error::InvalidCap)?;
    works(bind(one, ntfn))?;
    refused(bind(two, ntfn), Error::Busy)?;
    refused(bind(one, ntfn), Error::Busy)?;
    works(bind(one, 0))?;
    works(bind(one, 0))?;
    works(bind(two, ntfn))
}

fn bound_died(e: &mut Env) -> Told {
    let (ep, ntfn) = (e.make(ObjType::Endpoint)?, e.make(ObjType::Notification)?);
    let badged = e.mint(ntfn, 2)?;
    let thread = e.thread(1)?;
    works(bind(thread.tcb, ntfn))?;
    works(e.own.start(&thread, receives, ep))?;
    e.settle()?;
    works(sys::delete(e.own.cspace, thread.tcb))?;
    sys::signal(badged);
    equal(sys::poll(ntfn), 2)?;
    // The other way round: the thread outlives the notification.
    let thread = e.thread(1)?;
    works(bind(thread.tcb, ntfn))?;
    works(e.own.start(&thread, receives, ep))?;
    e.settle()?;
    works(sys::revoke(e.own.cspace, ntfn))?;
    works(sys::delete(e.own.cspace, ntfn))?;
    e.settle()?;
    works(sys::send(ep, MsgInfo(0), [0; 4]))?;
    equal(e.end(&thread)?, 1 << 33)
}

const ROUNDS: u64 = 10_000;

extern "C" fn ping_pong(both: u64) -> u64 {
    let (other, own) = (both & 0xffff, both >> 16);
    for _ in 0..ROUNDS {
        if sys::signal_wait(other, own) != Ok(1) {
            return 1;
        }
    }
    sys::signal(other);
    0
}

/// Neither loses a signal, whoever is more urgent.
fn race(e: &mut Env) -> Told {
    for (one, two) in [(1, 1), (1, 2), (2, 1)] {
        let (a, b) = (e.make(ObjType::Notification)?, e.make(ObjType::Notification)?);
        let (to_a, to_b) = (e.mint(a, 1)?, e.mint(b, 1)?);
        let first = e.spawn(one, ping_pong, to_b | a << 16)?;
        let second = e.spawn(two, ping_pong, to_a | b << 16)?;
        for _ in 0..2 {
            let f = e.fault()?;
            let known = [first.badge, second.badge].contains(&f.badge);
            if !known || f.addr != abi::SUPERVISOR_EXIT || f.code != 0 {
                return why(format_args!("{f:x?}"));
            }
        }
    }
    Ok(())
}

fn deleted(e: &mut Env) -> Told {
    let ntfn = e.make(ObjType::Notification)?;
    let threads = [e.spawn(2, waits, ntfn)?, e.spawn(1, waits, ntfn)?];
    e.settle()?;
    works(sys::delete(e.own.cspace, ntfn))?;
    for thread in &threads {
        equal(e.end(thread)?, 1 << 32 | Error::Cancelled as u64)?;
    }
    Ok(())
}

/// A timer and the notification that it signals with the badge 1.
fn timer(e: &Env) -> Result<(CPtr, CPtr), Why> {
    let (timer, ntfn) = (e.make(ObjType::Timer)?, e.make(ObjType::Notification)?);
    let badged = e.mint(ntfn, 1)?;
    works(target(timer, badged))?;
    Ok((timer, ntfn))
}

fn timer_refused(e: &mut Env) -> Told {
    let (timer, ntfn) = timer(e)?;
    let reads = e.copy(ntfn, Rights::READ)?;
    refused(target(timer, reads), Error::NoRights)?;
    refused(target(timer, e.faults), Error::WrongType)?;
    refused(target(timer, 0), Error::InvalidCap)?;
    refused(target(timer, 1 << 40), Error::InvalidCap)?;
    // What was set before stands.
    works(sys::arm(timer, 0))?;
    equal(sys::poll(ntfn), 1)
}

fn timer_order(e: &mut Env) -> Told {
    let ntfn = e.make(ObjType::Notification)?;
    let now = e.start.now_ns();
    for (i, us) in [(0, 900), (1, 300), (2, 600), (3, 300)] {
        let timer = e.make(ObjType::Timer)?;
        works(target(timer, e.mint(ntfn, 1 << i)?))?;
        works(sys::arm(timer, now + us * 1000))?;
    }
    let mut seen = 0;
    for (after, first) in [(300, 0b1010), (600, 0b100), (900, 1)] {
        // Late is possible, early is not.
        while seen & first != first {
            seen |= works(sys::wait(ntfn))?;
        }
        if e.start.now_ns() < now + after * 1000 {
            return why(format_args!("{seen:#b} too early"));
        }
    }
    equal(seen, 0b1111)
}

fn timer_past(e: &mut Env) -> Told {
    let (timer, ntfn) = timer(e)?;
    for past in [0, 1, e.start.now_ns()] {
        works(sys::arm(timer, past))?;
        equal(sys::poll(ntfn), 1)?;
    }
    for never in [u64::MAX, u64::MAX - 1, 1 << 63] {
        works(sys::arm(timer, never))?;
        e.pass()?;
        equal(sys::poll(ntfn), 0)?;
    }
    works(sys::cancel(timer))?;
    works(sys::cancel(timer))?;
    // Without a notification nothing comes of it.
    let bare = e.make(ObjType::Timer)?;
    works(sys::arm(bare, 0))?;
    works(sys::arm(bare, e.start.now_ns() + 100_000))?;
    e.pass()
}

/// Later than what is done meanwhile takes, however busy the host is.
const SOON_NS: u64 = 10_000_000;

/// Waits until that has passed.
fn later(e: &Env) -> Told {
    match e.fault_within(2 * SOON_NS)? {
        None => Ok(()),
        Some(f) => why(format_args!("{f:x?}")),
    }
}

fn timer_deleted(e: &mut Env) -> Told {
    let (timer, ntfn) = timer(e)?;
    works(sys::arm(timer, e.start.now_ns() + SOON_NS))?;
    works(sys::delete(e.own.cspace, timer))?;
    later(e)?;
    equal(sys::poll(ntfn), 0)?;
    // Another one in the same memory has nothing to do with it.
    let small = works(e.own.make(ObjType::Untyped, 7))?;
    let (badged, slot) = (e.mint(ntfn, 1)?, e.own.slots(1));
    for _ in 0..2 {
        works(sys::retype(small, ObjType::Timer, 0, e.own.cspace, slot, 1))?;
        works(target(slot, badged))?;
        e.pass()?;
        equal(sys::poll(ntfn), 0)?;
        works(sys::arm(slot, e.start.now_ns() + 100_000))?;
        works(sys::revoke(e.own.cspace, small))?;
    }
    // Its notification goes first.
    let (timer, ntfn) = self::timer(e)?;
    works(sys::revoke(e.own.cspace, ntfn))?;
    works(sys::delete(e.own.cspace, ntfn))?;
    works(sys::arm(timer, e.start.now_ns() + SOON_NS))?;
    later(e)
}

/// Armed in any order, cancelled in any order, each fires once.
fn timer_many(e: &mut Env) -> Told {
    const TIMERS: u64 = abi::RETYPE_MAX;
    let ntfn = e.make(ObjType::Notification)?;
    let badged = e.mint(ntfn, 1)?;
    let first = e.own.slots(TIMERS);
    works(sys::retype(e.own.untyped, ObjType::Timer, 0, e.own.cspace, first, TIMERS))?;
    let now = e.start.now_ns();
    for i in 0..TIMERS {
        let timer = first + i * 37 % TIMERS;
        works(target(timer, badged))?;
        works(sys::arm(timer, now + 1_000_000_000_000 + i * 53 % 7))?;
    }
    for i in 0..TIMERS {
        works(sys::cancel(first + i * 61 % TIMERS))?;
        works(sys::arm(first + i * 61 % TIMERS, 1))?;
        equal(sys::poll(ntfn), 1)?;
    }
    Ok(())
}
