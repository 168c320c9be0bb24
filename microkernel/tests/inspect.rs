//! What the kernel tells of capabilities, and what it does not.

mod common;

use abi::{CapInfo, Error, INSPECT_SLOTS, Label, MapAttr, ObjType, Rights, UserRegs, thread_slot};
use common::*;

const EP: u64 = FREE;
const THREAD: u64 = FREE + 8;
const TABLES: u64 = FREE + 16;

fn ask(w: &mut World, cap: u64, label: Label, word: u64) -> Result<[u64; 4], Error> {
    w.invoke(cap, label, [word, 0, 0, 0, 0, 0])?;
    let UserRegs { rdx, r10, r8, r9, .. } = w.root.regs.get();
    Ok([rdx, r10, r8, r9])
}

/// Everything in a CNode.
fn all(w: &mut World, cnode: u64, slots: u64) -> Vec<CapInfo> {
    let (mut at, mut found) = (0, Vec::new());
    while at < slots {
        let words = ask(w, cnode, Label::CNodeInspect, at).unwrap();
        at = words[0] >> 32;
        if let Some(info) = CapInfo::from_words(words) {
            found.push(info);
            at += 1;
        }
    }
    found
}

#[test]
fn a_cnode_is_told_slot_by_slot() {
    let mut w = World::new();
    w.k.secret = 0x1234_5678_9abc_def0;
    w.retype(ObjType::Endpoint, 0, EP, 2).unwrap();
    w.mint(EP + 2, EP, 77).unwrap();
    w.copy(EP + 3, EP, Rights::READ).unwrap();
    // A far slot, behind a gap longer than one look.
    let far = FREE + 3 * INSPECT_SLOTS;
    w.copy(far, EP + 1, Rights::WRITE).unwrap();
    let found = all(&mut w, CNODE, 1 << RADIX);
    let filled: Vec<u64> = (0..1 << RADIX).filter(|i| !w.slot(*i).is_empty()).collect();
    assert_eq!(found.iter().map(|i| i.slot as u64).collect::<Vec<_>>(), filled);
    let at = |slot: u64| *found.iter().find(|i| i.slot as u64 == slot).unwrap();
    assert_eq!((at(EP + 2).data, at(EP + 2).ty), (77, ObjType::Endpoint));
    assert_eq!((at(EP + 3).rights, at(far).rights), (Rights::READ, Rights::WRITE));
    // One number an object, and no address.
    assert_eq!(at(EP).object, at(EP + 2).object);
    assert_eq!(at(EP + 1).object, at(far).object);
    assert_ne!(at(EP).object, at(EP + 1).object);
    for info in &found {
        let addr = w.slot(info.slot as u64).cap().addr();
        assert!(addr == 0 || info.object & 0xffff_ffff != addr & 0xffff_ffff);
    }
    assert!(at(UNTYPED).data > 0, "bytes in use");
    for past in [1 << RADIX, u64::MAX - 5] {
        assert_eq!(ask(&mut w, CNODE, Label::CNodeInspect, past), Err(Error::Range));
    }
}

#[test]
fn mappings_are_told_as_the_page_tables_have_them() {
    let mut w = World::new();
    let t = w.thread(THREAD, 10);
    assert!(t.runnable());
    w.retype(ObjType::PageTable, 0, TABLES, 3).unwrap();
    for i in 0..3 {
        w.invoke(TABLES + i, Label::TableMap, [VSPACE, 0x40_0000, 0, 0, 0, 0]).unwrap();
    }
    w.retype(ObjType::Frame, 12, EP, 2).unwrap();
    let r = Rights::READ.bits() as u64;
    w.invoke(EP, Label::FrameMap, [VSPACE, 0x40_0000, r | 2, 0, 0, 0]).unwrap();
    w.copy(EP + 2, EP, Rights::all()).unwrap();
    let exec = MapAttr::EXEC.bits() as u64;
    w.invoke(EP + 2, Label::FrameMap, [VSPACE, 0x40_1000, r | 4, exec, 0, 0]).unwrap();
    let found = all(&mut w, CNODE, 1 << RADIX);
    let at = |slot: u64| *found.iter().find(|i| i.slot as u64 == slot).unwrap();
    let (rw, rx, un) = (at(EP), at(EP + 2), at(EP + 1));
    assert_eq!((rw.data, rw.write, rw.attr), (0x40_0000, true, MapAttr::empty()));
    assert_eq!((rx.data, rx.write, rx.attr), (0x40_1000, false, MapAttr::EXEC));
    assert_eq!((un.data, un.link), (0, 0));
    assert_eq!((rw.link, rx.link), (at(VSPACE).object, at(VSPACE).object));
    assert_eq!(at(TABLES).link, at(VSPACE).object);

    w.retype(ObjType::Notification, 0, EP + 4, 1).unwrap();
    w.invoke(THREAD, Label::ThreadBindNotification, [EP + 4, 0, 0, 0, 0, 0]).unwrap();
    let mut slot =
        |which| CapInfo::from_words(ask(&mut w, THREAD, Label::ThreadInspect, which).unwrap());
    assert_eq!(slot(thread_slot::VSPACE).unwrap().object, at(VSPACE).object);
    assert_eq!(slot(thread_slot::CSPACE).unwrap().object, at(CNODE).object);
    assert_eq!(slot(thread_slot::BUFFER).unwrap().object, at(THREAD + 2).object);
    assert_eq!(slot(thread_slot::SCHED).unwrap().object, at(THREAD + 1).object);
    assert_eq!(slot(thread_slot::FAULT), None);
    let bound = slot(thread_slot::BOUND).unwrap();
    let found = all(&mut w, CNODE, 1 << RADIX);
    assert_eq!(bound.object, found.iter().find(|i| i.slot as u64 == EP + 4).unwrap().object);
    assert_eq!(ask(&mut w, THREAD, Label::ThreadInspect, 7), Err(Error::Range));
    assert_eq!(ask(&mut w, CNODE, Label::ThreadInspect, 0), Err(Error::WrongType));
}

#[test]
fn interrupts_and_timers_tell_whom_they_signal() {
    let mut w = World::new();
    w.retype(ObjType::Notification, 0, EP, 1).unwrap();
    w.mint(EP + 1, EP, 5).unwrap();
    w.retype(ObjType::Timer, 0, EP + 2, 1).unwrap();
    w.invoke(EP + 2, Label::TimerSetNotification, [EP + 1, 0, 0, 0, 0, 0]).unwrap();
    w.invoke(IRQ_CONTROL, Label::IrqGet, [9, 1, CNODE, EP + 3, 0, 0]).unwrap();
    w.invoke(EP + 3, Label::IrqSetNotification, [EP + 1, 0, 0, 0, 0, 0]).unwrap();
    let found = all(&mut w, CNODE, 1 << RADIX);
    let at = |slot: u64| *found.iter().find(|i| i.slot as u64 == slot).unwrap();
    assert_eq!((at(EP + 2).data, at(EP + 2).link), (5, at(EP).object));
    assert_eq!((at(EP + 3).data, at(EP + 3).link, at(EP + 3).object), (5, at(EP).object, 9));
    assert_eq!((at(IO_PORTS).data, at(IO_PORTS).object), (0xffff, 0));
}
