//! Messages, replies, notifications, faults, scheduling, address spaces.

mod common;

use abi::{
    Error, FaultKind, Label, MapAttr, MsgInfo, ObjType, Rights, Syscall, UserRegs, ipc_buffer,
};
use common::*;
use microkernel::thread::State;

/// Endpoint, reply object and a server and client thread; the client's capability has a badge.
const EP: u64 = FREE;
const REPLY: u64 = FREE + 1;
const CLIENT_EP: u64 = FREE + 2;
const SERVER: u64 = FREE + 10;
const CLIENT: u64 = FREE + 20;
const BADGE: u64 = 0x77;

fn pair()
-> (World, microkernel::Obj<microkernel::thread::Tcb>, microkernel::Obj<microkernel::thread::Tcb>) {
    let mut w = World::new();
    w.retype(ObjType::Endpoint, 0, EP, 1).unwrap();
    w.retype(ObjType::Reply, 0, REPLY, 1).unwrap();
    w.mint(CLIENT_EP, EP, BADGE).unwrap();
    let server = w.thread(SERVER, 50);
    let client = w.thread(CLIENT, 40);
    (w, server, client)
}

fn recv() -> UserRegs {
    UserRegs { rdi: EP, r14: REPLY, ..UserRegs::default() }
}

fn message(len: usize) -> UserRegs {
    let info = MsgInfo::new(9, 1, 3, len);
    UserRegs { rdi: CLIENT_EP, rsi: info.0, rdx: 1, r10: 2, r8: 3, r9: 4, ..UserRegs::default() }
}

#[test]
fn a_call_reaches_the_server_and_the_reply_comes_back() {
    for server_first in [true, false] {
        let (mut w, server, client) = pair();
        w.buffer(client)[..5].copy_from_slice(b"hello");
        if server_first {
            w.syscall(server, Syscall::Recv, recv());
            assert_eq!(server.state.get(), State::Receiving);
            w.syscall(client, Syscall::Call, message(5));
        } else {
            w.syscall(client, Syscall::Call, message(5));
            assert_eq!(client.state.get(), State::Sending);
            w.syscall(server, Syscall::Recv, recv());
        }
        assert_eq!(server.state.get(), State::Running);
        assert_eq!(client.state.get(), State::AwaitingReply);
        let r = server.regs.get();
        assert_eq!((r.rax, r.rdi, r.rdx, r.r10, r.r8, r.r9), (0, BADGE, 1, 2, 3, 4));
        let info = MsgInfo(r.rsi);
        assert_eq!((info.interface(), info.method(), info.len()), (9, 3, 5));
        assert_eq!(&w.buffer(server)[..5], b"hello");

        w.buffer(server)[..3].copy_from_slice(b"yes");
        let reply = UserRegs { rsi: MsgInfo::new(9, 1, 0, 3).0, rdx: 42, ..recv() };
        w.syscall(server, Syscall::ReplyRecv, reply);
        assert_eq!(server.state.get(), State::Receiving);
        assert_eq!(client.state.get(), State::Running);
        let c = client.regs.get();
        assert_eq!((c.rax, c.rdx, MsgInfo(c.rsi).len()), (0, 42, 3));
        assert_eq!(&w.buffer(client)[..3], b"yes");
    }
}

#[test]
fn kernel_bits_cannot_be_forged() {
    let (mut w, server, client) = pair();
    w.syscall(server, Syscall::Recv, recv());
    let mut m = message(0);
    m.rsi |= MsgInfo::SIGNAL | MsgInfo::FAULT;
    w.syscall(client, Syscall::Call, m);
    let info = MsgInfo(server.regs.get().rsi);
    assert!(!info.is_signal() && !info.is_fault());
}

#[test]
fn destroying_the_reply_object_wakes_the_caller_and_queued_callers_stay() {
    let (mut w, server, client) = pair();
    let other = w.thread(FREE + 30, 40);
    w.syscall(server, Syscall::Recv, recv());
    w.syscall(client, Syscall::Call, message(0));
    w.syscall(other, Syscall::Call, message(0));
    w.delete(REPLY).unwrap();
    assert_eq!(Error::from_raw(client.regs.get().rax), Some(Error::ServerDied));
    assert_eq!(client.state.get(), State::Running);
    assert_eq!(other.state.get(), State::Sending, "the endpoint outlives the server");
    w.delete(SERVER).unwrap();
    w.retype(ObjType::Reply, 0, REPLY, 1).unwrap();
    let server = w.thread(FREE + 50, 50);
    w.syscall(server, Syscall::Recv, recv());
    assert_eq!(other.state.get(), State::AwaitingReply);
}

#[test]
fn a_dead_caller_leaves_the_reply_object_free() {
    let (mut w, server, client) = pair();
    w.syscall(server, Syscall::Recv, recv());
    w.syscall(client, Syscall::Call, message(0));
    w.delete(CLIENT).unwrap();
    let out = w.syscall(server, Syscall::ReplyRecv, recv());
    assert_eq!(out.rax, Syscall::ReplyRecv as u64, "blocked: nothing returned yet");
    assert_eq!(server.state.get(), State::Receiving);
}

#[test]
fn capabilities_travel_only_with_the_grant_right() {
    let (mut w, server, client) = pair();
    w.retype(ObjType::Notification, 0, FREE + 60, 1).unwrap();
    for (grant, expected) in [(true, 1), (false, 0)] {
        let target: u64 = 200 + grant as u64;
        let buffer = w.buffer(server);
        buffer[ipc_buffer::RECV_CNODE..][..8].copy_from_slice(&CNODE.to_le_bytes());
        buffer[ipc_buffer::RECV_INDEX..][..8].copy_from_slice(&target.to_le_bytes());
        let cap: u64 = FREE + 60;
        w.buffer(client)[ipc_buffer::SEND_CAPS..][..8].copy_from_slice(&cap.to_le_bytes());
        let ep = FREE + 61 + grant as u64;
        let rights = if grant { Rights::all() } else { Rights::WRITE };
        w.copy(ep, EP, rights).unwrap();
        w.syscall(server, Syscall::Recv, recv());
        let m = message(0);
        let info = MsgInfo(m.rsi).with_caps(1).0;
        w.syscall(client, Syscall::Call, UserRegs { rdi: ep, rsi: info, ..m });
        assert_eq!(MsgInfo(server.regs.get().rsi).caps(), expected);
        assert_eq!(w.slot(target).is_empty(), !grant);
        w.syscall(server, Syscall::Reply, UserRegs { rdi: REPLY, ..UserRegs::default() });
    }
}

#[test]
fn sending_needs_the_write_right_and_receiving_the_read_right() {
    let (mut w, server, client) = pair();
    w.copy(FREE + 60, EP, Rights::READ).unwrap();
    w.copy(FREE + 61, EP, Rights::WRITE).unwrap();
    let out = w.syscall(client, Syscall::Call, UserRegs { rdi: FREE + 60, ..message(0) });
    assert_eq!(Error::from_raw(out.rax), Some(Error::NoRights));
    let out = w.syscall(server, Syscall::Recv, UserRegs { rdi: FREE + 61, ..recv() });
    assert_eq!(Error::from_raw(out.rax), Some(Error::NoRights));
    let out = w.syscall(client, Syscall::Call, message(abi::MSG_MAX + 1));
    assert_eq!(Error::from_raw(out.rax), Some(Error::Range));
    let out = w.syscall(server, Syscall::NbRecv, recv());
    assert_eq!(Error::from_raw(out.rax), Some(Error::WouldBlock));
}

#[test]
fn one_wait_serves_messages_and_signals() {
    let (mut w, server, client) = pair();
    w.retype(ObjType::Notification, 0, FREE + 60, 1).unwrap();
    w.mint(FREE + 61, FREE + 60, 4).unwrap();
    w.invoke(SERVER, Label::ThreadBindNotification, [FREE + 60, 0, 0, 0, 0, 0]).unwrap();
    w.syscall(server, Syscall::Recv, recv());
    w.syscall(client, Syscall::Send, UserRegs { rdi: FREE + 61, ..UserRegs::default() });
    let r = server.regs.get();
    assert!(MsgInfo(r.rsi).is_signal());
    assert_eq!((r.rax, r.rdi, server.state.get()), (0, 4, State::Running));
    // Pending while it does not wait; then delivered first, the message stays queued.
    w.syscall(client, Syscall::Send, UserRegs { rdi: FREE + 61, ..UserRegs::default() });
    w.syscall(client, Syscall::Call, message(0));
    w.syscall(server, Syscall::Recv, recv());
    assert!(MsgInfo(server.regs.get().rsi).is_signal());
    w.syscall(server, Syscall::Recv, recv());
    assert_eq!(server.regs.get().rdi, BADGE);
}

#[test]
fn faults_arrive_as_messages_and_a_reply_resumes() {
    let (mut w, server, client) = pair();
    w.invoke(CLIENT, Label::ThreadConfigure, [CNODE, VSPACE, CLIENT_EP, CLIENT + 2, 0, 0]).unwrap();
    w.syscall(server, Syscall::Recv, recv());
    w.k.cpu.current = Some(client);
    w.k.hw.now = 1234;
    assert!(w.k.fault(client, FaultKind::Page, 0xdead_beef, 6).is_ok());
    let r = server.regs.get();
    assert!(MsgInfo(r.rsi).is_fault());
    assert_eq!(MsgInfo(r.rsi).method(), FaultKind::Page as u16);
    assert_eq!((r.rdi, r.r10, r.r8, r.r9), (BADGE, 0xdead_beef, 6, 1234));
    w.syscall(server, Syscall::Reply, UserRegs { rdi: REPLY, ..UserRegs::default() });
    assert_eq!(client.state.get(), State::Running);
    w.invoke(CLIENT, Label::ThreadConfigure, [CNODE, VSPACE, 0, 0, 0, 0]).unwrap();
    assert!(w.k.fault(client, FaultKind::Undefined, 0, 0).is_err(), "nobody handles it");
}

#[test]
fn suspending_cancels_a_wait() {
    let (mut w, server, client) = pair();
    w.syscall(server, Syscall::Recv, recv());
    w.invoke(SERVER, Label::ThreadSuspend, [0; 6]).unwrap();
    w.invoke(SERVER, Label::ThreadResume, [0; 6]).unwrap();
    assert_eq!(Error::from_raw(server.regs.get().rax), Some(Error::Cancelled));
    w.syscall(client, Syscall::Call, message(0));
    assert_eq!(client.state.get(), State::Sending, "the server no longer waits");
    w.syscall(server, Syscall::Recv, recv());
    assert_eq!(client.state.get(), State::AwaitingReply);
}

#[test]
fn the_most_urgent_thread_runs_and_equals_take_turns() {
    let (mut w, server, client) = pair();
    let (root, equal) = (w.root, w.thread(FREE + 30, 100));
    w.k.cpu.current = Some(root);
    w.invoke(CNODE, Label::CNodeDelete, [4000, 0, 0, 0, 0, 0]).unwrap();
    assert!(w.k.schedule() == Some(root));
    assert!(w.k.hw.deadline != u64::MAX, "an equal waits, so the slice ends");
    w.k.hw.now = w.k.hw.deadline;
    w.k.timer_interrupt();
    assert!(w.k.schedule() == Some(equal));
    w.invoke(FREE + 30, Label::ThreadSuspend, [0; 6]).unwrap();
    w.k.cpu.current = None;
    w.invoke(TCB, Label::ThreadSuspend, [0; 6]).unwrap();
    assert!(w.k.schedule() == Some(server), "50 before 40");
    w.k.suspend(server);
    assert!(w.k.schedule() == Some(client));
    w.k.suspend(client);
    assert!(w.k.schedule().is_none());
}

#[test]
fn timers_fire_in_order_of_their_deadlines() {
    let mut w = World::new();
    w.retype(ObjType::Timer, 0, FREE, 3).unwrap();
    w.retype(ObjType::Notification, 0, FREE + 10, 1).unwrap();
    for (i, at) in [300u64, 100, 200].into_iter().enumerate() {
        let i = i as u64;
        w.mint(FREE + 11 + i, FREE + 10, 1 << i).unwrap();
        w.invoke(FREE + i, Label::TimerSetNotification, [FREE + 11 + i, 0, 0, 0, 0, 0]).unwrap();
        w.invoke(FREE + i, Label::TimerArm, [at, 0, 0, 0, 0, 0]).unwrap();
    }
    w.k.schedule();
    let poll = UserRegs { rdi: FREE + 10, ..UserRegs::default() };
    let root = w.root;
    for (now, bits) in [(100, 2), (200, 4), (300, 1)] {
        assert_eq!(w.k.hw.deadline, now);
        w.k.hw.now = now;
        w.k.timer_interrupt();
        w.k.schedule();
        assert_eq!(w.syscall(root, Syscall::NbRecv, poll).rdi, bits);
    }
    w.invoke(FREE, Label::TimerArm, [50, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(w.syscall(root, Syscall::NbRecv, poll).rdi, 1, "a past deadline fires at once");
}

const VADDR: u64 = 0x40_0000;

fn map(w: &mut World, frame: u64, vaddr: u64, rights: Rights, attr: MapAttr) -> Result<u64, Error> {
    let words = [VSPACE, vaddr, rights.bits() as u64, attr.bits() as u64, 0, 0];
    w.invoke(frame, Label::FrameMap, words)
}

#[test]
fn mappings_follow_the_capability() {
    let mut w = World::new();
    let rw = Rights::READ | Rights::WRITE;
    w.retype(ObjType::Frame, 12, FREE, 2).unwrap();
    w.retype(ObjType::PageTable, 0, FREE + 10, 4).unwrap();
    for level in [3, 2, 1] {
        assert_eq!(map(&mut w, FREE, VADDR, rw, MapAttr::empty()), Err(Error::NoTable));
        let table = FREE + 9 + level;
        assert_eq!(w.invoke(table, Label::TableMap, [VSPACE, VADDR, 0, 0, 0, 0]), Ok(level));
    }
    assert_eq!(map(&mut w, FREE, VADDR, rw, MapAttr::EXEC), Err(Error::Range), "W^X");
    map(&mut w, FREE, VADDR, rw, MapAttr::empty()).unwrap();
    assert_eq!(map(&mut w, FREE, VADDR + 4096, rw, MapAttr::empty()), Err(Error::Busy));
    assert_eq!(map(&mut w, FREE + 1, VADDR, rw, MapAttr::empty()), Err(Error::Occupied));
    assert_eq!(map(&mut w, FREE + 1, VADDR + 1, rw, MapAttr::empty()), Err(Error::Alignment));
    for bad in [0, abi::USER_END, 1 << 47, !0xfff] {
        assert_eq!(map(&mut w, FREE + 1, bad, rw, MapAttr::empty()), Err(Error::Range), "{bad:#x}");
    }
    w.copy(FREE + 3, FREE + 1, Rights::READ).unwrap();
    assert_eq!(map(&mut w, FREE + 3, VADDR + 4096, rw, MapAttr::empty()), Err(Error::NoRights));
    assert_eq!(
        map(&mut w, FREE + 3, VADDR + 4096, Rights::READ, MapAttr::EXEC),
        Err(Error::NoRights),
        "executing needs the grant right"
    );
    w.delete(FREE).unwrap();
    assert_eq!(w.k.hw.flushed, [VADDR], "no cached translation stays");
    map(&mut w, FREE + 1, VADDR, rw, MapAttr::empty()).unwrap();
    w.revoke(UNTYPED).unwrap();
    assert!(w.k.hw.flushed.len() > 1, "page or table: its translation is forgotten");
}

#[test]
fn an_address_space_that_is_gone_is_not_the_next_one() {
    let mut w = World::new();
    w.retype(ObjType::VSpace, 0, FREE, 1).unwrap();
    w.retype(ObjType::PageTable, 0, FREE + 1, 3).unwrap();
    for i in 1..=3 {
        w.invoke(FREE + i, Label::TableMap, [FREE, VADDR, 0, 0, 0, 0]).unwrap();
    }
    w.retype(ObjType::Frame, 12, FREE + 5, 1).unwrap();
    w.invoke(FREE + 5, Label::FrameMap, [FREE, VADDR, 3, 0, 0, 0]).unwrap();
    w.delete(FREE).unwrap();
    w.retype(ObjType::VSpace, 0, FREE, 1).unwrap();
    w.invoke(FREE + 5, Label::FrameUnmap, [0; 6]).unwrap();
    assert!(w.k.hw.flushed.is_empty());
    assert_eq!(w.invoke(FREE + 5, Label::FrameMap, [FREE, VADDR, 3, 0, 0, 0]), Err(Error::NoTable));
}

#[test]
fn nobody_makes_a_thread_more_urgent_than_itself() {
    let mut w = World::new();
    w.thread(FREE, 50);
    let mut set =
        |tcb, priority| w.invoke(tcb, Label::ThreadSetPriority, [priority, 0, 0, 0, 0, 0]);
    for tcb in [FREE, TCB] {
        assert_eq!(set(tcb, 101), Err(Error::NoRights));
        assert_eq!(set(tcb, 255), Err(Error::NoRights));
        assert_eq!(set(tcb, 256), Err(Error::Range));
    }
    set(FREE, 100).unwrap();
    set(TCB, 40).unwrap();
    assert_eq!(set(TCB, 41), Err(Error::NoRights));
}

#[test]
fn nothing_fits_inside_a_large_frame() {
    let mut w = World::new();
    w.retype(ObjType::PageTable, 0, FREE, 3).unwrap();
    w.retype(ObjType::Frame, 21, FREE + 3, 1).unwrap();
    w.retype(ObjType::Frame, 12, FREE + 4, 1).unwrap();
    for i in 0..2 {
        w.invoke(FREE + i, Label::TableMap, [VSPACE, VADDR, 0, 0, 0, 0]).unwrap();
    }
    let map = |w: &mut World, at| w.invoke(at, Label::FrameMap, [VSPACE, VADDR, 3, 0, 0, 0]);
    assert_eq!(map(&mut w, FREE + 4), Err(Error::NoTable));
    map(&mut w, FREE + 3).unwrap();
    assert_eq!(map(&mut w, FREE + 4), Err(Error::Occupied));
    let table = w.invoke(FREE + 2, Label::TableMap, [VSPACE, VADDR, 0, 0, 0, 0]);
    assert_eq!(table, Err(Error::Occupied));
}

#[test]
fn a_failed_reply_recv_has_no_effect() {
    let mut w = World::new();
    let s = w.thread(FREE, 50);
    let c = w.thread(FREE + 4, 50);
    let (ep, rep) = (FREE + 8, FREE + 9);
    w.retype(ObjType::Endpoint, 0, ep, 1).unwrap();
    w.retype(ObjType::Reply, 0, rep, 1).unwrap();
    w.syscall(s, Syscall::Recv, UserRegs { rdi: ep, r14: rep, ..Default::default() });
    w.syscall(c, Syscall::Call, UserRegs { rdi: ep, ..Default::default() });
    assert_eq!(c.state.get(), State::AwaitingReply);
    let out =
        w.syscall(s, Syscall::ReplyRecv, UserRegs { rdi: UNTYPED, r14: rep, ..Default::default() });
    assert!(Error::from_raw(out.rax).is_some());
    assert_eq!(c.state.get(), State::AwaitingReply, "it was answered");
}

#[test]
fn equals_take_turns_although_interrupted() {
    let mut w = World::new();
    let a = w.thread(FREE, 50);
    let b = w.thread(FREE + 4, 50);
    let root = w.root;
    w.k.suspend(root);
    let first = w.k.schedule().unwrap();
    let other = if first == a { b } else { a };
    let mut ran = false;
    for _ in 0..1000 {
        w.k.hw.now += 4_000_000;
        // a more urgent thread runs for a moment
        w.k.resume(root);
        w.k.schedule();
        w.k.timer_interrupt();
        w.k.schedule();
        w.k.suspend(root);
        ran |= w.k.schedule() == Some(other);
    }
    assert!(ran, "starved for 4 s");
}

#[test]
fn replies_carry_capabilities_only_with_the_grant_right() {
    for grant in [true, false] {
        let (mut w, server, client) = pair();
        w.retype(ObjType::Notification, 0, FREE + 60, 1).unwrap();
        let rights = if grant { Rights::all() } else { Rights::WRITE };
        w.copy(FREE + 61, REPLY, rights).unwrap();
        let buffer = w.buffer(client);
        buffer[ipc_buffer::RECV_CNODE..][..8].copy_from_slice(&CNODE.to_le_bytes());
        buffer[ipc_buffer::RECV_INDEX..][..8].copy_from_slice(&200u64.to_le_bytes());
        let cap: u64 = FREE + 60;
        w.buffer(server)[ipc_buffer::SEND_CAPS..][..8].copy_from_slice(&cap.to_le_bytes());
        w.syscall(server, Syscall::Recv, recv());
        w.syscall(client, Syscall::Call, message(0));
        let info = MsgInfo::new(9, 1, 0, 0).with_caps(1).0;
        w.syscall(
            server,
            Syscall::Reply,
            UserRegs { rdi: FREE + 61, rsi: info, ..UserRegs::default() },
        );
        assert_eq!(client.state.get(), State::Running);
        assert_eq!(w.slot(200).is_empty(), !grant);
    }
}

#[test]
fn a_closed_endpoint_refuses_until_somebody_receives() {
    let (mut w, server, client) = pair();
    let call = |w: &mut World| {
        w.k.cpu.current = Some(client);
        w.syscall(client, Syscall::Call, message(0));
        Error::from_raw(client.regs.get().rax)
    };
    // Who waits is told, who comes later as well.
    call(&mut w);
    assert_eq!(client.state.get(), State::Sending);
    w.k.cpu.current = Some(server);
    w.invoke(CNODE, Label::CNodeCloseEndpoint, [EP, 0, 0, 0, 0, 0]).unwrap();
    assert_ne!(client.state.get(), State::Sending);
    assert_eq!(Error::from_raw(client.regs.get().rax), Some(Error::OutOfService));
    assert_eq!(call(&mut w), Some(Error::OutOfService));
    assert_eq!(client.state.get(), State::Running);
    // A server receives again, and is called.
    w.k.cpu.current = Some(server);
    w.syscall(server, Syscall::Recv, recv());
    assert_eq!(server.state.get(), State::Receiving);
    call(&mut w);
    assert_eq!(client.state.get(), State::AwaitingReply);
    // Not with a badge, not what is no endpoint.
    w.k.cpu.current = Some(server);
    for (slot, error) in [(CLIENT_EP, Error::NoRights), (VSPACE, Error::WrongType)] {
        let result = w.invoke(CNODE, Label::CNodeCloseEndpoint, [slot, 0, 0, 0, 0, 0]);
        assert_eq!(result.map(drop), Err(error));
    }
}
