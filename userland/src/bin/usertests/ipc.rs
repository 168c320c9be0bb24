//! Endpoints, replies, badges, and capabilities in messages.

use abi::{CPtr, Error, Label, MsgInfo, ObjType, Rights, Syscall, ipc_buffer};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use libipc::sys;
use userland::own::Thread;

use super::Test;
use crate::env::{Env, Told, Why, equal, refused, works};
use crate::raw::{self, Call};

pub const ALL: &[(&str, Test)] = &[
    ("call-self", call_self),
    ("call-no-reply-object", call_no_reply),
    ("call-dead-server", dead_server),
    ("call-out-of-service", out_of_service),
    ("close-refused", close_refused),
    ("reply-twice", reply_twice),
    ("reply-in-use", reply_in_use),
    ("reply-given-up", reply_given_up),
    ("reply-caller-died", caller_died),
    ("send-order", send_order),
    ("send-cancelled", send_cancelled),
    ("send-non-blocking", non_blocking),
    ("endpoint-deleted", endpoint_deleted),
    ("badge-forged", badge_forged),
    ("badge-revoked", badge_revoked),
    ("caps-arrive", caps_arrive),
    ("caps-no-grant", caps_no_grant),
    ("caps-nowhere-to-go", caps_nowhere),
    ("caps-nothing-there", caps_nothing),
];

/// A thread's result: 0, or the error.
fn code<T>(got: Result<T, Error>) -> u64 {
    got.map_or_else(|e| e as u64, |_| 0)
}

const INFO: MsgInfo = MsgInfo::new(9, 1, 1, 0);

extern "C" fn calls(ep: u64) -> u64 {
    match sys::call(ep, INFO, [1, 2, 3, 4]) {
        Ok(got) => got.words[0],
        Err(e) => e as u64,
    }
}

extern "C" fn sends(ep: u64) -> u64 {
    code(sys::send(ep, INFO, [ep, 0, 0, 0]))
}

extern "C" fn receives(ep: u64) -> u64 {
    match sys::recv(ep, 0) {
        Ok(got) => 1000 + got.words[0],
        Err(e) => e as u64,
    }
}

/// A thread has called and waits for the answer; `reply` holds it.
fn called(e: &Env) -> Result<(Thread, CPtr, CPtr), Why> {
    let (ep, reply) = (e.make(ObjType::Endpoint)?, e.make(ObjType::Reply)?);
    let thread = e.spawn(1, calls, ep)?;
    equal(works(sys::recv(ep, reply))?.words, [1, 2, 3, 4])?;
    Ok((thread, ep, reply))
}

/// Who calls an endpoint that only it could answer waits, and can be woken.
fn call_self(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let thread = e.spawn(1, calls, ep)?;
    e.settle()?;
    works(sys::invoke(thread.tcb, Label::ThreadSuspend, [0; 4], [0; 2]))?;
    refused(sys::nb_recv(ep, 0), Error::WouldBlock)?;
    works(sys::invoke(thread.tcb, Label::ThreadResume, [0; 4], [0; 2]))?;
    equal(e.end(&thread)?, Error::Cancelled as u64)
}

/// Nobody could ever answer it.
fn call_no_reply(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let thread = e.spawn(1, calls, ep)?;
    works(sys::recv(ep, 0))?;
    equal(e.end(&thread)?, Error::Cancelled as u64)
}

fn dead_server(e: &mut Env) -> Told {
    let (thread, ep, reply) = called(e)?;
    works(sys::delete(e.own.cspace, reply))?;
    equal(e.end(&thread)?, Error::ServerDied as u64)?;
    // Without one, callers wait for its successor.
    works(e.own.start(&thread, calls, ep))?;
    e.settle()?;
    let reply = e.make(ObjType::Reply)?;
    works(sys::recv(ep, reply))?;
    works(sys::reply(reply, INFO, [5, 0, 0, 0]))?;
    equal(e.end(&thread)?, 5)
}

fn out_of_service(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let waits = e.spawn(1, calls, ep)?;
    e.settle()?;
    let close = || sys::invoke(e.own.cspace, Label::CNodeCloseEndpoint, [ep, 0, 0, 0], [0; 2]);
    works(close())?;
    equal(e.end(&waits)?, Error::OutOfService as u64)?;
    for f in [calls, sends] {
        let thread = e.spawn(1, f, ep)?;
        equal(e.end(&thread)?, Error::OutOfService as u64)?;
    }
    refused(sys::nb_recv(ep, 0), Error::WouldBlock)?;
    // Somebody receives: it is in service again.
    let server = e.spawn(1, receives, ep)?;
    e.settle()?;
    works(sys::send(ep, INFO, [7, 0, 0, 0]))?;
    equal(e.end(&server)?, 1007)
}

fn close_refused(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let badged = e.mint(ep, 3)?;
    let sender = e.copy(ep, Rights::WRITE | Rights::GRANT)?;
    let empty = e.own.slots(1);
    let close = |slot: u64| {
        let words = [slot, 0, 0, 0];
        sys::invoke(e.own.cspace, Label::CNodeCloseEndpoint, words, [0; 2]).map(drop)
    };
    refused(close(badged), Error::NoRights)?;
    refused(close(sender), Error::NoRights)?;
    refused(close(e.own.thread), Error::WrongType)?;
    refused(close(empty), Error::WrongType)?;
    refused(close(1024), Error::Range)?;
    let thread = e.spawn(1, receives, ep)?;
    e.settle()?;
    works(sys::send(badged, INFO, [1, 0, 0, 0]))?;
    equal(e.end(&thread)?, 1001)
}

fn reply_twice(e: &mut Env) -> Told {
    let (thread, _, reply) = called(e)?;
    for word in [11, 12, 13] {
        works(sys::reply(reply, INFO, [word, 0, 0, 0]))?;
    }
    equal(e.end(&thread)?, 11)
}

extern "C" fn receives_with(both: u64) -> u64 {
    match sys::recv(both & 0xffff, both >> 16) {
        Ok(got) => 1000 + got.words[0],
        Err(e) => e as u64,
    }
}

fn reply_in_use(e: &mut Env) -> Told {
    let (ep, reply) = (e.make(ObjType::Endpoint)?, e.make(ObjType::Reply)?);
    let first = e.spawn(1, receives_with, ep | reply << 16)?;
    e.settle()?;
    refused(sys::recv(ep, reply), Error::Busy)?;
    refused(sys::nb_recv(ep, reply), Error::Busy)?;
    refused(sys::reply_recv(ep, reply, INFO, [0; 4]), Error::Busy)?;
    works(sys::send(ep, INFO, [3, 0, 0, 0]))?;
    equal(e.end(&first)?, 1003)
}

fn reply_given_up(e: &mut Env) -> Told {
    let (thread, ep, reply) = called(e)?;
    refused(sys::nb_recv(ep, reply), Error::WouldBlock)?;
    let other = e.spawn(2, sends, ep)?;
    e.settle()?;
    works(sys::recv(ep, reply))?;
    equal(e.end(&other)?, 0)?;
    equal(e.end(&thread)?, Error::ServerDied as u64)
}

fn caller_died(e: &mut Env) -> Told {
    let (thread, ep, reply) = called(e)?;
    works(sys::delete(e.own.cspace, thread.tcb))?;
    works(sys::reply(reply, INFO, [0; 4]))?;
    // The reply object serves others.
    let other = e.spawn(1, calls, ep)?;
    works(sys::recv(ep, reply))?;
    works(sys::reply(reply, INFO, [6, 0, 0, 0]))?;
    equal(e.end(&other)?, 6)
}

/// First come, first served.
fn send_order(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let mut threads = heapless::Vec::<_, 4>::new();
    for badge in 1..=4 {
        let badged = e.mint(ep, badge)?;
        let _ = threads.push((e.spawn(badge as u8, sends, badged)?, badged));
        e.settle()?;
    }
    for (i, (thread, badged)) in threads.iter().enumerate() {
        let got = works(sys::recv(ep, 0))?;
        equal((got.badge, got.words[0]), (i as u64 + 1, *badged))?;
        equal(e.end(thread)?, 0)?;
    }
    Ok(())
}

fn send_cancelled(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let mut threads = heapless::Vec::<_, 3>::new();
    for badge in 1..=3 {
        let badged = e.mint(ep, badge)?;
        let _ = threads.push(e.spawn(1, sends, badged)?);
        e.settle()?;
    }
    // One is stopped, one dies, as they wait.
    works(sys::invoke(threads[0].tcb, Label::ThreadSuspend, [0; 4], [0; 2]))?;
    works(sys::delete(e.own.cspace, threads[1].tcb))?;
    equal(works(sys::recv(ep, 0))?.badge, 3)?;
    equal(e.end(&threads[2])?, 0)?;
    refused(sys::nb_recv(ep, 0), Error::WouldBlock)?;
    works(sys::invoke(threads[0].tcb, Label::ThreadResume, [0; 4], [0; 2]))?;
    equal(e.end(&threads[0])?, Error::Cancelled as u64)
}

fn non_blocking(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let call = Call { rax: Syscall::NbSend as u64, rdi: ep, rsi: INFO.0, ..Call::default() };
    equal(raw::syscall(call).rax, 0)?;
    refused(sys::nb_recv(ep, 0), Error::WouldBlock)?;
    let thread = e.spawn(1, receives, ep)?;
    e.settle()?;
    equal(raw::syscall(Call { words: [8, 0, 0, 0, 0, 0], ..call }).rax, 0)?;
    equal(e.end(&thread)?, 1008)
}

fn endpoint_deleted(e: &mut Env) -> Told {
    for f in [calls, sends, receives] {
        let ep = e.make(ObjType::Endpoint)?;
        let threads = [e.spawn(2, f, ep)?, e.spawn(1, f, ep)?];
        e.settle()?;
        works(sys::delete(e.own.cspace, ep))?;
        for thread in &threads {
            equal(e.end(thread)?, Error::Cancelled as u64)?;
        }
    }
    Ok(())
}

/// Who holds a badge has no way to another one.
fn badge_forged(e: &mut Env) -> Told {
    for ty in [ObjType::Endpoint, ObjType::Notification] {
        let object = e.make(ty)?;
        let badged = e.mint(object, 5)?;
        for badge in [0, 5, 6, u64::MAX] {
            refused(e.own.mint(badged, Rights::all(), badge), Error::NoRights)?;
        }
        let copy = e.copy(badged, Rights::all())?;
        if ty == ObjType::Notification {
            sys::signal(copy);
            equal(sys::poll(object), 5)?;
        } else {
            let thread = e.spawn(1, sends, copy)?;
            equal(works(sys::recv(object, 0))?.badge, 5)?;
            equal(e.end(&thread)?, 0)?;
        }
    }
    Ok(())
}

fn badge_revoked(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let (one, two) = (e.mint(ep, 1)?, e.mint(ep, 2)?);
    let (one_copy, two_copy) = (e.copy(one, Rights::WRITE)?, e.copy(two, Rights::WRITE)?);
    works(sys::revoke(e.own.cspace, one))?;
    refused(sys::send(one_copy, INFO, [0; 4]), Error::InvalidCap)?;
    let thread = e.spawn(1, sends, two_copy)?;
    equal(works(sys::recv(ep, 0))?.badge, 2)?;
    equal(e.end(&thread)?, 0)?;
    let thread = e.spawn(1, sends, one)?;
    equal(works(sys::recv(ep, 0))?.badge, 1)?;
    equal(e.end(&thread)?, 0)?;
    works(sys::revoke(e.own.cspace, ep))?;
    for gone in [one, two, two_copy] {
        refused(sys::send(gone, INFO, [0; 4]), Error::InvalidCap)?;
    }
    refused(sys::nb_recv(ep, 0), Error::WouldBlock)
}

/// The message of [`sends_caps`].
static CAPS_INFO: AtomicU64 = AtomicU64::new(0);

extern "C" fn sends_caps(ep: u64) -> u64 {
    code(sys::send(ep, MsgInfo(CAPS_INFO.load(Relaxed)), [0; 4]))
}

/// A thread sends `caps` by `ep`; this one receives them into `cnode` from `index` on. Returns how
/// many the message says, and the count in the buffer.
fn passes(e: &Env, ep: CPtr, caps: &[CPtr], cnode: CPtr, index: u64) -> Result<(usize, u64), Why> {
    let thread = e.thread(1)?;
    for (i, cap) in caps.iter().enumerate() {
        raw::write(thread.buffer_at + (ipc_buffer::SEND_CAPS + 8 * i) as u64, *cap);
    }
    CAPS_INFO.store(INFO.with_caps(caps.len()).0, Relaxed);
    works(e.own.start(&thread, sends_caps, ep))?;
    raw::write(raw::buffer(ipc_buffer::RECV_CNODE), cnode);
    raw::write(raw::buffer(ipc_buffer::RECV_INDEX), index);
    let got = works(sys::recv(ep, 0));
    raw::write(raw::buffer(ipc_buffer::RECV_CNODE), 0);
    let got = got?;
    equal(e.end(&thread)?, 0)?;
    Ok((got.info.caps(), raw::read(raw::buffer(ipc_buffer::RECEIVED))))
}

fn caps_arrive(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let ntfn = e.make(ObjType::Notification)?;
    let badged = e.mint(ntfn, 4)?;
    let reads = e.copy(badged, Rights::READ)?;
    let cnode = e.cnode(3)?;
    equal(passes(e, ep, &[badged, reads, ep], cnode, 2)?, (3, 3))?;
    // With the rights that they had, and no more.
    let to = e.own.slots(3);
    for i in 0..3 {
        works(sys::copy(e.own.cspace, to + i, cnode, 2 + i, Rights::all()))?;
    }
    sys::signal(to);
    equal(sys::poll(ntfn), 4)?;
    refused(sys::invoke(to + 1, Label::ThreadResume, [0; 4], [0; 2]), Error::NoRights)?;
    refused(sys::nb_recv(to + 1, 0), Error::WouldBlock)?;
    refused(sys::nb_recv(to + 2, 0), Error::WouldBlock)
}

fn caps_no_grant(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let no_grant = e.copy(ep, Rights::READ | Rights::WRITE)?;
    let cnode = e.cnode(3)?;
    equal(passes(e, no_grant, &[ep, ep, ep], cnode, 0)?, (0, 0))?;
    for i in 0..8 {
        works(sys::retype(e.own.untyped, ObjType::Endpoint, 0, cnode, i, 1))?;
    }
    Ok(())
}

fn caps_nowhere(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let cnode = e.cnode(2)?;
    works(sys::copy(cnode, 1, e.own.cspace, ep, Rights::all()))?;
    let empty = e.own.slots(1);
    // The second slot is in use; a slot behind the last; no CNode at all.
    for (node, index, arrive) in [
        (cnode, 0, 1),
        (cnode, 1, 0),
        (cnode, 2, 2),
        (cnode, 3, 0),
        (cnode, 4, 0),
        (cnode, 1 << 32, 0),
        (cnode, u64::MAX, 0),
        (0, 0, 0),
        (empty, 0, 0),
        (ep, 0, 0),
        (u64::MAX, 0, 0),
    ] {
        equal(passes(e, ep, &[ep, ep, ep], node, index)?, (arrive, arrive as u64))?;
    }
    Ok(())
}

fn caps_nothing(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let cnode = e.cnode(3)?;
    let untyped = works(e.own.make(ObjType::Untyped, 12))?;
    let table = e.make(ObjType::PageTable)?;
    let empty = e.own.slots(1);
    // What comes first and can be copied arrives; the rest does not.
    for (caps, arrive) in [
        ([ep, empty, ep], 1),
        ([0, ep, ep], 0),
        ([u64::MAX, ep, ep], 0),
        ([ep, ep, untyped], 2),
        ([table, ep, ep], 0),
    ] {
        equal(passes(e, ep, &caps, cnode, 0)?, (arrive, arrive as u64))?;
        works(sys::revoke(e.own.cspace, ep))?;
        for i in 0..8 {
            works(sys::delete(cnode, i))?;
        }
    }
    Ok(())
}
