//! Nothing of another thread, or of the kernel, is ever seen in any register.
//!
//! A *client* fills all of its registers and does one thing; whenever it has stopped, *dirt* fills
//! all of its own with other values, selectors included. What the client then finds must be its own,
//! or what the interface says that it gets.

use abi::{CPtr, Error, FaultKind, Label, MsgInfo, ObjType, Rights, SUPERVISOR_EXIT, Syscall};
use libipc::sys;

use super::Test;
use crate::env::{Env, Told, Why, equal, why, works};
use crate::pair::{
    ABOVE, BELOW, CLIENT, FLAGS, Pair, USER_DATA, Vectors, each_space, judge, native,
};
use crate::probe::{Probe, Registers, r};
use crate::raw::{self, Place};

pub const ALL: &[(&str, Test)] = &[
    ("registers-first", first),
    ("registers-signal", |e| each_space(e, wait_for_signal)),
    ("registers-signal-ready", |e| each_space(e, signal_is_there)),
    ("registers-nothing-there", |e| each_space(e, nothing_there)),
    ("registers-receive", |e| each_space(e, receive)),
    ("registers-send", |e| each_space(e, send)),
    ("registers-call", |e| each_space(e, call)),
    ("registers-serve", |e| each_space(e, serve)),
    ("registers-serve-less-urgent", |e| each_space(e, serve_less_urgent)),
    ("registers-reply", |e| each_space(e, reply)),
    ("registers-reply-receive", |e| each_space(e, reply_receive)),
    ("registers-signal-wait", |e| each_space(e, signal_wait)),
    ("registers-yield", |e| each_space(e, yields)),
    ("registers-server-died", |e| each_space(e, server_died)),
    ("registers-cancelled", |e| each_space(e, cancelled)),
    ("registers-refused", |e| each_space(e, refusals)),
    ("registers-invocation", |e| each_space(e, invocations)),
    ("registers-unknown-call", |e| each_space(e, unknown_call)),
    ("registers-fault", |e| each_space(e, fault)),
    ("registers-preempted", |e| each_space(e, preempted)),
    ("registers-time-slices", |e| each_space(e, time_slices)),
    ("registers-read", read),
];

const INTERFACE: u16 = 0x55;

/// A thread begins with nothing in its registers but what it was given.
fn first(env: &mut Env) -> Told {
    for space in [Probe::new, Probe::here] {
        let p = Pair::new(env, space(env, CLIENT)?, space(env, BELOW)?)?;
        p.pollute()?;
        let at = p.client.code + Place::After.offset();
        works(env.own.start_at(&p.client.thread, at, 11, 12))?;
        p.ends(&p.client)?;
        let mut none = Registers::pattern(0, FLAGS, 0x1f80, 0x37f);
        (none.gpr, none.mm, none.xmm) = ([0; 16], [0; 8], [0; 16]);
        let changes = [(r::RDI, 11), (r::RSI, 12), (r::RSP, p.client.thread.stack)];
        judge("client", &none, &p.client.seen(), &changes, Vectors::Kept, 0, 0xf5f5_0001)?;
    }
    Ok(())
}

fn wait_for_signal(p: &Pair<'_>) -> Told {
    let ntfn = p.make(ObjType::Notification)?;
    let badged = works(p.env.own.mint(ntfn, Rights::WRITE, 0x4242))?;
    let got = [(r::RAX, 0), (r::RDI, 0x4242), (r::RSI, MsgInfo::SIGNAL)];
    let signal = || {
        sys::signal(badged);
        Ok(())
    };
    p.stopped(Syscall::Recv, &[(r::RDI, ntfn)], signal, &got)
}

fn signal_is_there(p: &Pair<'_>) -> Told {
    let ntfn = p.make(ObjType::Notification)?;
    let badged = works(p.env.own.mint(ntfn, Rights::WRITE, 0x4242))?;
    let got = [(r::RAX, 0), (r::RDI, 0x4242), (r::RSI, MsgInfo::SIGNAL)];
    for call in [Syscall::Recv, Syscall::NbRecv] {
        sys::signal(badged);
        p.at_once(call, &[(r::RDI, ntfn)], &got)?;
    }
    p.at_once(Syscall::Send, &[(r::RDI, badged)], &[(r::RAX, 0)])?;
    let with = [(r::RDI, badged), (r::R14, ntfn)];
    let both = [(r::RAX, 0), (r::RDI, 0x4242), (r::RSI, MsgInfo::SIGNAL)];
    p.at_once(Syscall::SignalWait, &with, &both)
}

fn nothing_there(p: &Pair<'_>) -> Told {
    let none = [(r::RAX, Error::WouldBlock as u64)];
    p.at_once(Syscall::NbRecv, &[(r::RDI, p.make(ObjType::Notification)?)], &none)?;
    let (ep, reply) = (p.make(ObjType::Endpoint)?, p.make(ObjType::Reply)?);
    p.at_once(Syscall::NbRecv, &[(r::RDI, ep), (r::R14, reply)], &none)?;
    p.at_once(Syscall::NbSend, &[(r::RDI, ep), (r::RSI, 0)], &[(r::RAX, 0)])
}

fn receive(p: &Pair<'_>) -> Told {
    let (ep, reply) = (p.make(ObjType::Endpoint)?, p.make(ObjType::Reply)?);
    let badged = works(p.env.own.mint(ep, Rights::WRITE, 77))?;
    let info = MsgInfo::new(INTERFACE, 1, 9, 0);
    let got = message(77, info, [1, 2, 3, 4]);
    let send = || works(sys::send(badged, info, [1, 2, 3, 4]));
    p.stopped(Syscall::Recv, &[(r::RDI, ep), (r::R14, reply)], send, &got)
}

/// What a receiver gets.
fn message(badge: u64, info: MsgInfo, words: [u64; 4]) -> [(usize, u64); 7] {
    let [a, b, c, d] = words;
    [
        (r::RAX, 0),
        (r::RDI, badge),
        (r::RSI, info.0),
        (r::RDX, a),
        (r::R10, b),
        (r::R8, c),
        (r::R9, d),
    ]
}

fn send(p: &Pair<'_>) -> Told {
    let ep = p.make(ObjType::Endpoint)?;
    let info = MsgInfo::new(INTERFACE, 1, 9, 0);
    let words = [p.own.gpr[r::RDX], p.own.gpr[r::R10], p.own.gpr[r::R8], p.own.gpr[r::R9]];
    let take = || {
        let got = works(sys::recv(ep, p.env.reply))?;
        equal((got.badge, got.info.0, got.words), (0, info.0, words))
    };
    p.stopped(Syscall::Send, &[(r::RDI, ep), (r::RSI, info.0)], take, &[(r::RAX, 0)])
}

fn call(p: &Pair<'_>) -> Told {
    let ep = p.make(ObjType::Endpoint)?;
    let info = MsgInfo::new(INTERFACE, 1, 9, 0);
    let answer = MsgInfo::new(INTERFACE, 2, 8, 0);
    let reply = works(p.env.own.make(ObjType::Reply, 0))?;
    let serve = || {
        works(sys::recv(ep, reply))?;
        works(sys::reply(reply, answer, [5, 6, 7, 8]))
    };
    let got = message(0, answer, [5, 6, 7, 8]);
    p.stopped(Syscall::Call, &[(r::RDI, ep), (r::RSI, info.0)], serve, &got)
}

/// Dirt itself is the server: neither sees more of the other than the message.
fn serve(p: &Pair<'_>) -> Told {
    p.urgency(&p.dirt, ABOVE)?;
    server(p)
}

fn serve_less_urgent(p: &Pair<'_>) -> Told {
    server(p)
}

fn server(p: &Pair<'_>) -> Told {
    let (ep, reply) = (p.make(ObjType::Endpoint)?, p.make(ObjType::Reply)?);
    let badged = works(p.env.own.mint(ep, Rights::WRITE, 31))?;
    let info = MsgInfo::new(INTERFACE, 1, 9, 0);
    let mut serving = p.alien;
    (serving.gpr[r::RAX], serving.gpr[r::RDI]) = (Syscall::Recv as u64, ep);
    serving.gpr[r::R14] = reply;
    p.dirt.load(&serving, Place::Syscall);
    p.dirt.run(p.env)?;
    for round in 0..3 {
        let before = p.begins(Syscall::Call as u64, &[(r::RDI, badged), (r::RSI, info.0)])?;
        p.ends(&p.dirt)?;
        let words = [r::RDX, r::R10, r::R8, r::R9].map(|i| before.gpr[i]);
        let got = message(31, info, words);
        native("server", &p.dirt, &serving, &p.dirt.seen(), &got)?;
        // Answers, and waits for the next call.
        serving.gpr[r::RAX] = Syscall::ReplyRecv as u64;
        serving.gpr[r::RSI] = MsgInfo::new(INTERFACE, 3, round, 0).0;
        p.dirt.load(&serving, Place::Syscall);
        p.dirt.run(p.env)?;
        let words = [r::RDX, r::R10, r::R8, r::R9].map(|i| serving.gpr[i]);
        p.has(&before, &message(0, MsgInfo::new(INTERFACE, 3, round, 0), words))?;
    }
    Ok(())
}

extern "C" fn caller(ep: u64) -> u64 {
    match sys::call(ep, MsgInfo::new(INTERFACE, 1, 1, 0), [21, 22, 23, 24]) {
        Ok(got) => got.words[0],
        Err(e) => e as u64,
    }
}

/// A thread waits in a call that `reply` holds.
fn called(p: &Pair<'_>) -> Result<(userland::own::Thread, CPtr), Why> {
    let (ep, reply) = (p.make(ObjType::Endpoint)?, p.make(ObjType::Reply)?);
    let thread = p.env.spawn(CLIENT, caller, ep)?;
    works(sys::recv(ep, reply))?;
    Ok((thread, reply))
}

fn reply(p: &Pair<'_>) -> Told {
    let (thread, reply) = called(p)?;
    p.urgency(&p.client, ABOVE)?;
    let words = [(r::RDI, reply), (r::RSI, 0), (r::RDX, 99)];
    p.at_once(Syscall::Reply, &words, &[(r::RAX, 0)])?;
    equal(p.env.end(&thread)?, 99)?;
    // To nobody.
    p.at_once(Syscall::Reply, &words, &[(r::RAX, 0)])
}

fn reply_receive(p: &Pair<'_>) -> Told {
    let (thread, reply) = called(p)?;
    let ep = p.make(ObjType::Endpoint)?;
    let info = MsgInfo::new(INTERFACE, 1, 9, 0);
    let send = || works(sys::send(ep, info, [1, 2, 3, 4]));
    let got = message(0, info, [1, 2, 3, 4]);
    let with = [(r::RDI, ep), (r::RSI, 0), (r::RDX, 98), (r::R14, reply)];
    p.urgency(&p.client, ABOVE)?;
    let before = p.begins(Syscall::ReplyRecv as u64, &with)?;
    equal(p.env.end(&thread)?, 98)?;
    p.pollute()?;
    send()?;
    p.has(&before, &got)
}

fn signal_wait(p: &Pair<'_>) -> Told {
    let (own, other) = (p.make(ObjType::Notification)?, p.make(ObjType::Notification)?);
    let badged = works(p.env.own.mint(other, Rights::WRITE, 6))?;
    let wakes = works(p.env.own.mint(own, Rights::WRITE, 7))?;
    let wake = || {
        equal(sys::poll(other), 6)?;
        sys::signal(wakes);
        Ok(())
    };
    let got = [(r::RAX, 0), (r::RDI, 7), (r::RSI, MsgInfo::SIGNAL)];
    p.stopped(Syscall::SignalWait, &[(r::RDI, badged), (r::R14, own)], wake, &got)
}

fn yields(p: &Pair<'_>) -> Told {
    p.at_once(Syscall::Yield, &[], &[(r::RAX, 0)])?;
    // To dirt, which has the same priority and waits.
    p.urgency(&p.dirt, CLIENT)?;
    let before = p.begins(Syscall::Yield as u64, &[])?;
    p.dirt.load(&p.alien, Place::After);
    p.dirt.run(p.env)?;
    p.ends(&p.dirt)?;
    p.has(&before, &[(r::RAX, 0)])
}

fn server_died(p: &Pair<'_>) -> Told {
    let (ep, reply) = (p.make(ObjType::Endpoint)?, p.make(ObjType::Reply)?);
    let die = || {
        works(sys::recv(ep, reply))?;
        works(sys::delete(p.env.own.cspace, reply))
    };
    let died = [(r::RAX, Error::ServerDied as u64)];
    p.stopped(Syscall::Call, &[(r::RDI, ep), (r::RSI, 0)], die, &died)
}

fn cancelled(p: &Pair<'_>) -> Told {
    let got = [(r::RAX, Error::Cancelled as u64)];
    let (ep, ntfn) = (p.make(ObjType::Endpoint)?, p.make(ObjType::Notification)?);
    let delete = |slot| works(sys::delete(p.env.own.cspace, slot));
    p.stopped(Syscall::Recv, &[(r::RDI, ep), (r::R14, 0)], || delete(ep), &got)?;
    p.stopped(Syscall::Recv, &[(r::RDI, ntfn)], || delete(ntfn), &got)?;
    let ntfn = p.make(ObjType::Notification)?;
    let resume = || {
        let tcb = p.client.thread.tcb;
        works(sys::invoke(tcb, Label::ThreadSuspend, [0; 4], [0; 2]))?;
        p.pollute()?;
        works(sys::invoke(tcb, Label::ThreadResume, [0; 4], [0; 2])).map(drop)
    };
    p.stopped(Syscall::Recv, &[(r::RDI, ntfn)], resume, &got)
}

fn refusals(p: &Pair<'_>) -> Told {
    let no_cap = [(r::RAX, Error::InvalidCap as u64)];
    for call in [
        Syscall::Call,
        Syscall::Send,
        Syscall::NbSend,
        Syscall::Recv,
        Syscall::NbRecv,
        Syscall::Reply,
        Syscall::ReplyRecv,
        Syscall::SignalWait,
        Syscall::AckWait,
    ] {
        p.at_once(call, &[(r::RDI, 0), (r::RSI, 0)], &no_cap)?;
    }
    let wrong = [(r::RAX, Error::WrongType as u64)];
    let tcb = p.client.thread.tcb;
    p.at_once(Syscall::Call, &[(r::RDI, tcb), (r::RSI, u64::MAX >> 8)], &wrong)?;
    p.at_once(Syscall::Recv, &[(r::RDI, tcb)], &wrong)
}

fn invocations(p: &Pair<'_>) -> Told {
    let info = MsgInfo::invoke(Label::TimerCancel).0;
    let done = [(r::RAX, 0), (r::RSI, 0), (r::RDX, 0), (r::R10, 0)];
    p.at_once(Syscall::Call, &[(r::RDI, p.make(ObjType::Timer)?), (r::RSI, info)], &done)?;
    let untyped = works(p.env.own.make(ObjType::Untyped, 12))?;
    let info = MsgInfo::invoke(Label::UntypedInfo).0;
    let done = [(r::RAX, 0), (r::RSI, 0), (r::RDX, 4096), (r::R10, 12)];
    p.at_once(Syscall::Call, &[(r::RDI, untyped), (r::RSI, info)], &done)
}

/// A system call that does not exist changes nothing.
fn unknown_call(p: &Pair<'_>) -> Told {
    for number in [10, 999, 1 << 63, SUPERVISOR_EXIT + 1] {
        let before = p.begins(number, &[])?;
        let f = p.env.fault()?;
        equal((f.badge, f.kind, f.addr), (p.client.thread.badge, FaultKind::Syscall, number))?;
        // The reply object holds the client meanwhile: dirt ends with another one.
        let reply = p.make(ObjType::Reply)?;
        p.dirt.load(&p.alien, Place::After);
        p.dirt.run(p.env)?;
        equal(works(sys::recv(p.env.faults, reply))?.badge, p.dirt.thread.badge)?;
        p.env.go_on()?;
        p.has(&before, &[])?;
    }
    Ok(())
}

fn fault(p: &Pair<'_>) -> Told {
    let page = p.client.page(p.env)?.0;
    for i in 1..4 {
        // Right behind a page: its table is there.
        let vaddr = page + i * abi::PAGE_SIZE;
        let mut before = p.own;
        before.gpr[r::RBX] = vaddr;
        p.client.load(&before, Place::Store);
        p.client.run(p.env)?;
        let f = p.env.fault()?;
        let want = (p.client.thread.badge, FaultKind::Page, vaddr, 6);
        equal((f.badge, f.kind, f.addr, f.code), want)?;
        let reply = p.make(ObjType::Reply)?;
        p.dirt.load(&p.alien, Place::After);
        p.dirt.run(p.env)?;
        equal(works(sys::recv(p.env.faults, reply))?.badge, p.dirt.thread.badge)?;
        let frame = works(p.env.own.make(ObjType::Frame, abi::PAGE_BITS))?;
        let (rights, attr) = (Rights::READ | Rights::WRITE, abi::MapAttr::empty());
        works(p.env.own.map(frame, p.client.vspace, vaddr, rights, attr))?;
        p.env.go_on()?;
        p.ends(&p.client)?;
        let seen = p.client.seen();
        judge("client", &before, &seen, &[], Vectors::Kept, 0, 0xf5f5_0001)?;
    }
    Ok(())
}

/// An interrupt at any instruction: this program's timer.
fn preempted(p: &Pair<'_>) -> Told {
    p.urgency(&p.dirt, ABOVE)?;
    for _ in 0..3 {
        p.client.load(&p.own, Place::Spin);
        p.client.run(p.env)?;
        p.client.wait_spin(p.env)?;
        p.pollute()?;
        p.client.end_spin();
        p.ends(&p.client)?;
        let changes = [(r::RCX, 1)];
        judge("client", &p.own, &p.client.seen(), &changes, Vectors::Kept, 0, 0xf5f5_0001)?;
    }
    Ok(())
}

/// Equals take turns.
fn time_slices(p: &Pair<'_>) -> Told {
    p.urgency(&p.dirt, CLIENT)?;
    p.client.load(&p.own, Place::Spin);
    p.dirt.load(&p.alien, Place::Spin);
    p.client.run(p.env)?;
    p.dirt.run(p.env)?;
    p.client.wait_spin(p.env)?;
    p.dirt.wait_spin(p.env)?;
    equal(p.env.fault_within(15_000_000)?, None)?;
    p.client.end_spin();
    p.ends(&p.client)?;
    p.dirt.end_spin();
    p.ends(&p.dirt)?;
    let changes = [(r::RCX, 1)];
    judge("client", &p.own, &p.client.seen(), &changes, Vectors::Kept, 0, 0xf5f5_0001)?;
    judge("dirt", &p.alien, &p.dirt.seen(), &changes, Vectors::Kept, USER_DATA, 0)
}

/// Reading the registers of a stopped thread gives its own, nobody else's.
fn read(env: &mut Env) -> Told {
    let p = Pair::new(env, Probe::new(env, CLIENT)?, Probe::new(env, BELOW)?)?;
    p.client.load(&p.own, Place::Spin);
    p.client.run(env)?;
    p.client.wait_spin(env)?;
    let tcb = p.client.thread.tcb;
    works(sys::invoke(tcb, Label::ThreadSuspend, [0; 4], [0; 2]))?;
    p.pollute()?;
    works(sys::invoke(tcb, Label::ThreadReadRegisters, [0; 4], [0; 2]))?;
    let dump: [u64; 20] =
        core::array::from_fn(|i| raw::read(raw::buffer(abi::ipc_buffer::REGS + 8 * i)));
    let order = [
        r::RAX,
        r::RBX,
        r::RCX,
        r::RDX,
        r::RSI,
        r::RDI,
        r::RBP,
        r::R8,
        r::R9,
        r::R10,
        r::R11,
        r::R12,
        r::R13,
        r::R14,
        r::R15,
    ];
    for (got, i) in dump.into_iter().zip(order) {
        // The loop keeps its condition in rcx.
        equal(got, if i == r::RCX { 0 } else { p.own.gpr[i] })?;
    }
    let [.., rip, cs, rflags, rsp, ss] = dump;
    equal([cs, rflags, rsp, ss], [0x23, p.own.rflags, p.own.gpr[r::RSP], 0x1b])?;
    let spin = p.client.code + Place::Spin.offset();
    if !(spin..spin + 24).contains(&rip) {
        return why(format_args!("rip {rip:#x} is not in the loop at {spin:#x}"));
    }
    Ok(())
}
