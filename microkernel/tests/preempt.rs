//! Long operations that stop half way: what others see meanwhile, and who ends them.

mod common;

use abi::{Error, Label, ObjType, Rights, Syscall, UserRegs};
use common::*;
use microkernel::Obj;
use microkernel::thread::{State, Tcb};

const INIT: u64 = FREE + 10;

/// A world in which every step is preempted.
fn world() -> World {
    let mut w = World::new();
    w.k.hw.preempts = None;
    w
}

/// Makes the first `parts` of a call; whether it ended before.
fn parts(w: &mut World, t: Obj<Tcb>, regs: UserRegs, parts: usize) -> bool {
    w.k.hw.always = true;
    t.regs.set(regs);
    let ended = (0..parts).any(|_| {
        let ended = w.attempt(t);
        w.check();
        ended
    });
    w.k.hw.always = false;
    ended
}

#[test]
#[cfg_attr(miri, ignore = "megabytes, byte by byte")]
fn a_large_frame_is_cleared_in_parts_and_the_clear_part_serves_others() {
    let mut w = world();
    let root = w.root;
    w.retype(ObjType::Frame, 21, FREE, 2).unwrap();
    for at in 0..2 {
        let frame = w.slot(FREE + at).cap().addr() as *mut u8;
        // SAFETY: a frame of the arena; nobody else looks at it.
        unsafe { frame.write_bytes(0xa5, 1 << 21) };
    }
    w.revoke(UNTYPED).unwrap();
    let make = |count| {
        let w = [ObjType::Frame as u64, 21, CNODE, FREE, count, 0];
        invocation(UNTYPED, Label::UntypedRetype, w)
    };
    assert!(!parts(&mut w, root, make(2), 600), "600 of 1024 pages");
    assert_eq!(w.free_bytes(), 1 << UNTYPED_BITS, "nothing was made yet");
    assert!(w.slot(FREE).is_empty());
    // Something else is made from the part that is clear, and the rest of that is not cleared again.
    w.retype(ObjType::Frame, 12, FREE + 5, 3).unwrap();
    assert!(!parts(&mut w, root, make(1), 512 - (600 - 512)));
    assert!(parts(&mut w, root, make(1), 1), "the last step makes it");
    for (slot, bytes) in [(FREE, 1usize << 21), (FREE + 5, 4096), (FREE + 7, 4096)] {
        let frame = w.slot(slot).cap().addr() as *const u8;
        // SAFETY: as above.
        let frame = unsafe { std::slice::from_raw_parts(frame, bytes) };
        assert!(frame.iter().all(|b| *b == 0), "slot {slot} is not clear");
    }
}

#[test]
fn a_half_emptied_cnode_cannot_be_used_and_revocation_ends_it() {
    let mut w = world();
    let (root, before) = (w.root, w.free_bytes());
    w.retype(ObjType::Untyped, 16, INIT, 1).unwrap();
    let words = [ObjType::CNode as u64, 4, CNODE, FREE, 1, 0];
    w.invoke(INIT, Label::UntypedRetype, words).unwrap();
    w.retype(ObjType::Endpoint, 0, FREE + 1, 1).unwrap();
    for i in 0..16 {
        w.invoke(FREE, Label::CNodeMint, [i, CNODE, FREE + 1, 7, i + 1, 0]).unwrap();
    }
    let delete = invocation(CNODE, Label::CNodeDelete, [FREE, 0, 0, 0, 0, 0]);
    assert!(!parts(&mut w, root, delete, 9));
    let words = [0, CNODE, FREE + 1, 7, 0, 0];
    assert_eq!(w.invoke(FREE, Label::CNodeCopy, words), Err(Error::WrongType));
    assert_eq!(w.copy(FREE + 2, FREE, Rights::all()), Err(Error::WrongType));
    let moved = w.invoke(CNODE, Label::CNodeMove, [FREE + 2, CNODE, FREE, 0, 0, 0]);
    assert_eq!(moved, Err(Error::InvalidCap));
    assert_eq!(w.invoke(INIT, Label::UntypedInfo, [0; 6]), Ok((1 << 16) - 512), "not free yet");
    // Whoever called is gone; the owner of the memory takes it back.
    w.revoke(INIT).unwrap();
    assert!(w.slot(FREE).is_empty());
    assert_eq!(w.invoke(INIT, Label::UntypedInfo, [0; 6]), Ok(1 << 16));
    w.revoke(UNTYPED).unwrap();
    assert_eq!(w.free_bytes(), before);
}

/// A deletion that was left half way inside a CNode that is deleted next, with much already buried:
/// the second takes all of it over.
#[test]
fn deletions_nest() {
    let mut w = world();
    let (root, before) = (w.root, w.free_bytes());
    w.retype(ObjType::CNode, 3, FREE, 1).unwrap();
    for depth in 0..if cfg!(miri) { 12 } else { 120 } {
        // Slots 0..4 of a new CNode: the last one (depth 0) or four of one slot pair each, half deleted.
        w.retype(ObjType::CNode, 3, FREE + 1, 1).unwrap();
        w.retype(ObjType::CNode, 1, FREE + 2, 4).unwrap();
        for i in 0..4 {
            let words = [i, CNODE, FREE + 2 + i, 0, 0, 0];
            w.invoke(FREE + 1, Label::CNodeMove, words).unwrap();
        }
        w.invoke(FREE + 1, Label::CNodeMove, [7, CNODE, FREE, 0, 0, 0]).unwrap();
        // An outer one, in which the deletion of the inner one stops after a few steps.
        w.retype(ObjType::CNode, 3, FREE, 1).unwrap();
        w.invoke(FREE, Label::CNodeMove, [5, CNODE, FREE + 1, 0, 0, 0]).unwrap();
        w.mint(FREE + 1, FREE, 61).unwrap();
        let delete = invocation(FREE, Label::CNodeDelete, [5, 0, 0, 0, 0, 0]);
        assert!(!parts(&mut w, root, delete, 1 + depth % 17));
        w.delete(FREE + 1).unwrap();
        // Now and then part of the outer one goes as well, and lies in the next.
        if depth % 3 == 0 {
            w.retype(ObjType::CNode, 3, FREE + 1, 1).unwrap();
            w.invoke(FREE + 1, Label::CNodeMove, [7, CNODE, FREE, 0, 0, 0]).unwrap();
            let delete = invocation(FREE + 1, Label::CNodeDelete, [7, 0, 0, 0, 0, 0]);
            parts(&mut w, root, delete, depth % 23);
            w.invoke(CNODE, Label::CNodeMove, [FREE, CNODE, FREE + 1, 0, 0, 0]).unwrap();
        }
    }
    w.delete(FREE).unwrap();
    assert_eq!(w.free_bytes(), before);
}

/// The thread that deletes is itself among what is deleted.
#[test]
fn suicide_in_parts() {
    for steps in (0..40).step_by(if cfg!(miri) { 8 } else { 1 }) {
        let mut w = world();
        let before = w.free_bytes();
        w.retype(ObjType::Untyped, 18, INIT, 1).unwrap();
        let t = w.thread(FREE, 50);
        w.delete(FREE).unwrap();
        assert_eq!(t.state.get(), State::Inactive);
        let mut make = |ty: ObjType, bits, at| {
            let words = [ty as u64, bits, CNODE, at, 1, 0];
            w.invoke(INIT, Label::UntypedRetype, words).unwrap();
        };
        make(ObjType::Thread, 0, FREE + 5);
        make(ObjType::CNode, 4, FREE + 6);
        make(ObjType::CNode, 4, FREE + 7);
        w.mint(FREE + 8, FREE + 6, 60).unwrap();
        w.invoke(FREE + 5, Label::ThreadConfigure, [FREE + 8, VSPACE, 0, 0, 0, 0]).unwrap();
        w.invoke(FREE + 5, Label::ThreadBindSched, [FREE + 1, 0, 0, 0, 0, 0]).unwrap();
        let t = w.slot(FREE + 5).cap().thread().unwrap();
        // Its CSpace: itself as CNode, and in slot 3 a CNode that holds the thread.
        w.invoke(FREE + 7, Label::CNodeMove, [9, CNODE, FREE + 5, 0, 0, 0]).unwrap();
        w.invoke(FREE + 6, Label::CNodeMove, [3, CNODE, FREE + 7, 0, 0, 0]).unwrap();
        w.invoke(FREE + 6, Label::CNodeMove, [1, CNODE, FREE + 8, 0, 0, 0]).unwrap();
        w.delete(FREE + 6).unwrap();
        t.state.set(State::Running);
        let delete = invocation(1, Label::CNodeDelete, [3, 0, 0, 0, 0, 0]);
        parts(&mut w, t, delete, steps);
        w.revoke(INIT).unwrap();
        w.revoke(UNTYPED).unwrap();
        assert_eq!(w.free_bytes(), before, "after {steps} steps");
        assert!(w.k.cpu.current != Some(t));
    }
}

fn waiting(w: &mut World, count: u64, call: Syscall, cap: u64) -> Vec<Obj<Tcb>> {
    let threads: Vec<_> = (0..count).map(|i| w.thread(FREE + 100 + 3 * i, 50)).collect();
    for t in &threads {
        w.syscall(*t, call, UserRegs { rdi: cap, rip: 0x40_0002, ..Default::default() });
    }
    w.k.cpu.current = Some(w.root);
    threads
}

#[test]
fn an_endpoint_closes_in_parts_and_lets_nobody_in_meanwhile() {
    let mut w = world();
    let root = w.root;
    w.retype(ObjType::Endpoint, 0, FREE, 1).unwrap();
    let late = w.thread(FREE + 300, 50);
    let threads = waiting(&mut w, 20, Syscall::Send, FREE);
    let close = invocation(CNODE, Label::CNodeCloseEndpoint, [FREE, 0, 0, 0, 0, 0]);
    assert!(!parts(&mut w, root, close, 8));
    let send = UserRegs { rdi: FREE, ..Default::default() };
    let out = w.syscall(late, Syscall::Send, send);
    assert_eq!(Error::from_raw(out.rax), Some(Error::OutOfService));
    // One that waits is killed, and a server comes up: those who still wait are served.
    w.delete(FREE + 100 + 3 * 19).unwrap();
    let receive = UserRegs { rdi: FREE, rip: 0x40_0002, ..Default::default() };
    let out = w.syscall(late, Syscall::NbRecv, receive);
    assert_eq!(out.rax, 0);
    // The call is made again: what still waits goes.
    assert!(!parts(&mut w, root, close, 3));
    w.invoke(CNODE, Label::CNodeCloseEndpoint, [FREE, 0, 0, 0, 0, 0]).unwrap();
    for (i, t) in threads[..19].iter().enumerate() {
        let expected = if i == 8 { None } else { Some(Error::OutOfService) };
        assert_eq!(t.state.get(), State::Running, "thread {i}");
        assert_eq!(Error::from_raw(t.regs.get().rax), expected, "thread {i}");
    }
}

#[test]
fn deleting_what_many_wait_on_wakes_them_in_parts() {
    for (ty, call) in [(ObjType::Endpoint, Syscall::Call), (ObjType::Notification, Syscall::Recv)] {
        let mut w = world();
        let root = w.root;
        w.retype(ty, 0, FREE, 1).unwrap();
        let threads = waiting(&mut w, 20, call, FREE);
        let delete = invocation(CNODE, Label::CNodeDelete, [FREE, 0, 0, 0, 0, 0]);
        assert!(!parts(&mut w, root, delete, 6));
        let late = w.thread(FREE + 300, 50);
        let out = w.syscall(late, call, UserRegs { rdi: FREE, ..Default::default() });
        assert!(out.rax != 0 && late.state.get() == State::Running, "nobody joins");
        w.delete(FREE + 100 + 3 * 10).unwrap();
        w.invoke(FREE + 100 + 3 * 12, Label::ThreadSuspend, [0; 6]).unwrap();
        w.delete(FREE).unwrap();
        for (i, t) in threads.iter().enumerate().filter(|(i, _)| *i != 10) {
            assert_eq!(t.state.get() == State::Running, i != 12, "thread {i}");
            assert_eq!(Error::from_raw(t.regs.get().rax), Some(Error::Cancelled), "thread {i}");
        }
    }
}
