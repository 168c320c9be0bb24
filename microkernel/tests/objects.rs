//! Capabilities and objects: derivation, deletion, accounting.

mod common;

use abi::{Error, Label, ObjType, Rights};
use common::*;

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
fn retype_refuses_what_it_cannot_make() {
    let mut w = World::new();
    assert_eq!(w.retype(ObjType::Frame, 13, FREE, 1), Err(Error::Range));
    assert_eq!(w.retype(ObjType::IrqHandler, 0, FREE, 1), Err(Error::Range));
    assert_eq!(w.retype(ObjType::Frame, 12, FREE, 0), Err(Error::Range));
    assert_eq!(w.retype(ObjType::Frame, 12, FREE, 257), Err(Error::Range));
    assert_eq!(w.retype(ObjType::Frame, 12, (1 << RADIX) - 1, 2), Err(Error::Range));
    assert_eq!(w.retype(ObjType::Frame, 12, u64::MAX, 2), Err(Error::Range));
    assert_eq!(w.retype(ObjType::Frame, 12, UNTYPED, 1), Err(Error::Occupied));
    assert_eq!(w.retype(ObjType::Frame, 21, FREE, 64), Err(Error::NoMemory));
    let words = [99, 0, CNODE, FREE, 1, 0];
    assert_eq!(w.invoke(UNTYPED, Label::UntypedRetype, words), Err(Error::WrongType));
    assert_eq!(w.copy(FREE, UNTYPED, Rights::all()), Err(Error::WrongType));
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
