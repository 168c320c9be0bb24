//! Capabilities and objects: derivation, deletion, accounting.

mod common;

use abi::{Error, Label, MsgInfo, ObjType, RETYPE_MAX, Rights, Syscall, UserRegs};
use common::*;
use microkernel::thread::State;

#[test]
fn revoke_gives_everything_back() {
    let mut w = World::new();
    let before = w.free_bytes();
    for round in 0..3 {
        w.retype(ObjType::CNode, 4, FREE, 1).unwrap();
        w.retype(ObjType::Endpoint, 0, FREE + 1, 8).unwrap();
        w.retype(ObjType::Frame, 12, FREE + 20, 4).unwrap();
        w.thread(FREE + 40, 50);
        w.mint(FREE + 60, FREE + 1, 7).unwrap();
        // Into the CNode, so that its destruction has something to delete.
        let words = [3, CNODE, FREE + 60, 7, 0, 0];
        w.invoke(FREE, Label::CNodeCopy, words).unwrap();
        assert!(w.free_bytes() < before, "round {round}");
        w.revoke(UNTYPED).unwrap();
        assert_eq!(w.free_bytes(), before, "round {round}");
        for slot in FREE..FREE + 64 {
            assert!(w.slot(slot).is_empty(), "slot {slot} after revoke");
        }
    }
}

#[test]
fn rights_only_shrink_and_badges_stay() {
    let mut w = World::new();
    w.retype(ObjType::Endpoint, 0, FREE, 1).unwrap();
    w.copy(FREE + 1, FREE, Rights::READ).unwrap();
    w.copy(FREE + 2, FREE + 1, Rights::all()).unwrap();
    assert_eq!(w.slot(FREE + 2).cap().rights(), Rights::READ);
    w.mint(FREE + 3, FREE, 5).unwrap();
    assert_eq!(w.mint(FREE + 4, FREE + 3, 6), Err(Error::NoRights));
    assert_eq!(w.copy(FREE + 3, FREE, Rights::all()), Err(Error::Occupied));
}

#[test]
fn revoking_a_badge_leaves_other_badges() {
    let mut w = World::new();
    w.retype(ObjType::Endpoint, 0, FREE, 1).unwrap();
    w.mint(FREE + 1, FREE, 1).unwrap();
    w.mint(FREE + 2, FREE, 2).unwrap();
    w.copy(FREE + 3, FREE + 1, Rights::all()).unwrap();
    w.revoke(FREE + 1).unwrap();
    assert!(w.slot(FREE + 3).is_empty(), "a copy of the badge is gone");
    assert!(!w.slot(FREE + 1).is_empty() && !w.slot(FREE + 2).is_empty());
    w.revoke(FREE).unwrap();
    assert!(w.slot(FREE + 1).is_empty() && w.slot(FREE + 2).is_empty());
}

#[test]
fn a_cnode_that_holds_itself_can_be_destroyed() {
    let mut w = World::new();
    let before = w.free_bytes();
    w.retype(ObjType::CNode, 3, FREE, 2).unwrap();
    // A holds itself and B, B holds A: deleting the outer capabilities leaves a cycle.
    for (node, index, what) in [(FREE, 0, FREE), (FREE, 5, FREE + 1), (FREE + 1, 2, FREE)] {
        w.invoke(node, Label::CNodeCopy, [index, CNODE, what, 7, 0, 0]).unwrap();
    }
    w.delete(FREE + 1).unwrap();
    w.delete(FREE).unwrap();
    w.revoke(UNTYPED).unwrap();
    assert_eq!(w.free_bytes(), before);
}

#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn deep_chains_of_cnodes_need_no_stack() {
    let mut w = World::new();
    let before = w.free_bytes();
    w.retype(ObjType::CNode, 1, FREE, 1).unwrap();
    for _ in 0..20_000 {
        // A new CNode takes the last one into its slot 0.
        w.retype(ObjType::CNode, 1, FREE + 1, 1).unwrap();
        w.invoke(FREE + 1, Label::CNodeMove, [0, CNODE, FREE, 0, 0, 0]).unwrap();
        w.invoke(CNODE, Label::CNodeMove, [FREE, CNODE, FREE + 1, 0, 0, 0]).unwrap();
    }
    w.delete(FREE).unwrap();
    assert_eq!(w.free_bytes(), before);
}

#[test]
#[cfg_attr(miri, ignore = "needs frames of 2 MiB")]
fn retype_refuses_what_it_cannot_make() {
    let mut w = World::new();
    assert_eq!(w.retype(ObjType::Frame, 13, FREE, 1), Err(Error::Range));
    assert_eq!(w.retype(ObjType::IrqHandler, 0, FREE, 1), Err(Error::Range));
    assert_eq!(w.retype(ObjType::Frame, 12, FREE, 0), Err(Error::Range));
    assert_eq!(w.retype(ObjType::Frame, 12, FREE, RETYPE_MAX + 1), Err(Error::Range));
    assert_eq!(w.retype(ObjType::Frame, 12, (1 << RADIX) - 1, 2), Err(Error::Range));
    assert_eq!(w.retype(ObjType::Frame, 12, u64::MAX, 2), Err(Error::Range));
    assert_eq!(w.retype(ObjType::Frame, 12, UNTYPED, 1), Err(Error::Occupied));
    assert_eq!(w.retype(ObjType::Frame, 21, FREE, 9), Err(Error::NoMemory));
    w.retype(ObjType::Frame, 21, FREE, 5).unwrap();
    for at in 5..8 {
        w.retype(ObjType::Frame, 21, FREE + at, 1).unwrap();
    }
    assert_eq!(w.retype(ObjType::Frame, 12, FREE + 8, 1), Err(Error::NoMemory));
    let words = [99, 0, CNODE, FREE + 9, 1, 0];
    assert_eq!(w.invoke(UNTYPED, Label::UntypedRetype, words), Err(Error::WrongType));
    assert_eq!(w.copy(FREE + 9, UNTYPED, Rights::all()), Err(Error::WrongType));
}

#[test]
fn bad_capability_pointers_are_errors() {
    let mut w = World::new();
    for cptr in [0, FREE, 1 << RADIX, u64::MAX, UNTYPED << 12] {
        assert_eq!(w.invoke(cptr, Label::UntypedInfo, [0; 6]), Err(Error::InvalidCap), "{cptr:#x}");
    }
    assert_eq!(w.invoke(CNODE, Label::UntypedInfo, [0; 6]), Err(Error::WrongType));
}

#[test]
fn irq_handlers_exist_once_and_mask_when_they_go() {
    let mut w = World::new();
    w.invoke(IRQ_CONTROL, Label::IrqGet, [4, 1, CNODE, FREE, 0, 0]).unwrap();
    assert_eq!(
        w.invoke(IRQ_CONTROL, Label::IrqGet, [4, 1, CNODE, FREE + 1, 0, 0]),
        Err(Error::Busy)
    );
    w.retype(ObjType::Notification, 0, FREE + 2, 1).unwrap();
    w.mint(FREE + 3, FREE + 2, 8).unwrap();
    w.invoke(FREE, Label::IrqSetNotification, [FREE + 3, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(w.k.hw.masked.last(), Some(&(4, false)));
    w.k.irq_fired(4);
    assert_eq!(w.k.hw.masked.last(), Some(&(4, true)), "level: masked until acknowledged");
    w.invoke(FREE, Label::IrqAck, [0; 6]).unwrap();
    assert_eq!(w.k.hw.masked.last(), Some(&(4, false)));
    w.delete(FREE).unwrap();
    assert_eq!(w.k.hw.masked.last(), Some(&(4, true)));
    w.invoke(IRQ_CONTROL, Label::IrqGet, [4, 1, CNODE, FREE + 1, 0, 0]).unwrap();
    w.k.irq_fired(4);
    assert_eq!(w.invoke(IRQ_CONTROL, Label::IrqGet, [64, 1, CNODE, FREE, 0, 0]), Err(Error::Range));
}

#[test]
fn ports_stay_in_their_range() {
    let mut w = World::new();
    w.mint(FREE, IO_PORTS, 0x3f8 << 16 | 0x3ff).unwrap();
    assert_eq!(w.invoke(FREE, Label::PortIn, [0x3f8, 1, 0, 0, 0, 0]), Ok(0x3f9));
    for (port, bytes) in [(0x3f7, 1), (0x400, 1), (0x3ff, 2), (0x3fd, 4), (0x3f8, 3), (0x3f8, 0)] {
        let got = w.invoke(FREE, Label::PortIn, [port, bytes, 0, 0, 0, 0]);
        assert_eq!(got, Err(Error::Range), "{port:#x} {bytes}");
    }
    assert_eq!(w.mint(FREE + 1, FREE, 0x3f0 << 16 | 0x3ff), Err(Error::Range));
    w.revoke(IO_PORTS).unwrap();
    assert!(w.slot(FREE).is_empty());
}

#[test]
fn size_bits_do_not_reach_other_fields() {
    let mut w = World::new();
    w.retype(ObjType::Endpoint, 255, FREE, 1).unwrap();
    assert_eq!(w.slot(FREE).cap().ty(), Some(ObjType::Endpoint));
    assert_eq!(w.slot(FREE).cap().size_bits(), 0);
}

/// A thread's CSpace may hold the last capability to the thread itself, and the thread the last one to
/// its CSpace. Then it cannot give that up by configuring itself anew: half way, nobody would be left to
/// go on.
#[test]
fn configure_of_a_thread_that_would_die_in_it() {
    let mut w = World::new();
    let (x, c, e1, e2) = (FREE, FREE + 10, FREE + 11, FREE + 12);
    w.retype(ObjType::Thread, 0, x, 1).unwrap();
    w.retype(ObjType::CNode, 4, c, 3).unwrap();
    let d = FREE + 20;
    w.retype(ObjType::CNode, 4, d, 1).unwrap();
    let t = w.slot(x).cap().thread().unwrap();
    // E1, E2: no guard; C: guard of 56 bits.
    for (at, from, guard) in [(FREE + 30, c, 56), (FREE + 31, e1, 0), (FREE + 32, e2, 0)] {
        w.mint(at, from, guard).unwrap();
    }
    // D and VSpace into E2, E1 and E2 into C.
    w.invoke(e2, Label::CNodeCopy, [1, CNODE, d, 7, 0, 0]).unwrap();
    w.invoke(e2, Label::CNodeCopy, [2, CNODE, VSPACE, 7, 0, 0]).unwrap();
    w.invoke(c, Label::CNodeMove, [1, CNODE, FREE + 31, 0, 0, 0]).unwrap();
    w.invoke(c, Label::CNodeMove, [2, CNODE, FREE + 32, 0, 0, 0]).unwrap();
    w.invoke(x, Label::ThreadConfigure, [FREE + 30, VSPACE, 0, 0, 0, 0]).unwrap();
    w.invoke(e1, Label::CNodeMove, [1, CNODE, x, 0, 0, 0]).unwrap();
    w.delete(e1).unwrap();
    w.delete(FREE + 30).unwrap();
    w.delete(c).unwrap();
    t.state.set(State::Running);
    let regs = UserRegs {
        rdi: 0x11,
        rsi: MsgInfo::invoke(Label::ThreadConfigure).0,
        rdx: 0x21,
        r10: 0x22,
        ..Default::default()
    };
    let out = w.syscall(t, Syscall::Call, regs);
    assert_eq!(Error::from_raw(out.rax), Some(Error::Busy));
    assert!(!t.cspace().is_empty() && !t.vspace().is_empty());
}

#[test]
fn a_driver_cannot_redirect_its_interrupt() {
    let mut w = World::new();
    w.invoke(IRQ_CONTROL, Label::IrqGet, [4, 1, CNODE, FREE, 0, 0]).unwrap();
    w.retype(ObjType::Notification, 0, FREE + 2, 1).unwrap();
    w.copy(FREE + 1, FREE, Rights::READ | Rights::WRITE).unwrap();
    for label in [Label::IrqClear, Label::IrqSetNotification] {
        let got = w.invoke(FREE + 1, label, [FREE + 2, 0, 0, 0, 0, 0]);
        assert_eq!(got, Err(Error::NoRights));
    }
    w.invoke(FREE + 1, Label::IrqAck, [0; 6]).unwrap();
}
