//! Untyped memory, and what is made of it.

use abi::{CPtr, Error, Label, MapAttr, ObjType, PAGE_SIZE, RETYPE_MAX, Rights, UNTYPED_BITS_MAX};
use libipc::sys;

use super::Test;
use crate::env::{Env, Told, equal, refused, why, works};
use crate::raw;

pub const ALL: &[(&str, Test)] = &[
    ("retype-type", retype_type),
    ("retype-size", retype_size),
    ("retype-count", retype_count),
    ("retype-slots", retype_slots),
    ("retype-no-memory", retype_no_memory),
    ("retype-no-cnode", retype_no_cnode),
    ("retype-clears", retype_clears),
    ("untyped-in-use", untyped_in_use),
    ("untyped-nested", untyped_nested),
    ("objects-apart", objects_apart),
];

const BOTH: Rights = Rights::READ.union(Rights::WRITE);
const PLAIN: MapAttr = MapAttr::empty();

/// Retypes with any numbers at all.
fn retype(e: &Env, untyped: CPtr, ty: u64, bits: u64, at: u64, count: u64) -> Result<(), Error> {
    let words = [ty, bits, e.own.cspace, at];
    sys::invoke(untyped, Label::UntypedRetype, words, [count, 0]).map(drop)
}

fn retype_type(e: &mut Env) -> Told {
    let to = e.own.slots(1);
    for ty in [0, 12, 13, 14, 60, 63, 64, 255, 256, 256 + 5, 1 << 32 | 5, u64::MAX] {
        let got = retype(e, e.own.untyped, ty, 0, to, 1);
        if !matches!(got, Err(Error::WrongType | Error::Range)) {
            return why(format_args!("type {ty}: {got:?}"));
        }
    }
    refused(sys::delete(to, 0), Error::InvalidCap)
}

fn retype_size(e: &mut Env) -> Told {
    let to = e.own.slots(1);
    let (untyped, cnode, frame) = (ObjType::Untyped, ObjType::CNode, ObjType::Frame);
    for (ty, sizes) in [
        (
            untyped,
            &[0, 4, UNTYPED_BITS_MAX as u64 + 1, 63, 64, 255, 256, 256 + 12, 1 << 32, u64::MAX][..],
        ),
        (cnode, &[0, 17, 63, 64, 255, 256 + 2, u64::MAX]),
        (frame, &[0, 11, 13, 20, 22, 30, 64, 256 + 12, u64::MAX]),
    ] {
        for bits in sizes {
            let got = retype(e, e.own.untyped, ty as u64, *bits, to, 1);
            equal((ty, bits, got), (ty, bits, Err(Error::Range)))?;
        }
    }
    // Those of one size take none.
    for (ty, bits) in [(ObjType::Endpoint, 0), (ObjType::Thread, 12), (ObjType::VSpace, 46)] {
        let slot = e.own.slots(1);
        works(retype(e, e.own.untyped, ty as u64, bits, slot, 1))?;
    }
    Ok(())
}

fn retype_count(e: &mut Env) -> Told {
    let before = works(e.own.left())?;
    let to = e.own.slots(300);
    let (ep, vspace) = (ObjType::Endpoint as u64, ObjType::VSpace as u64);
    for count in [0, RETYPE_MAX + 1, 1 << 16, 1 << 32, 1 << 59, 1 << 63, u64::MAX] {
        refused(retype(e, e.own.untyped, ep, 0, to, count), Error::Range)?;
    }
    for count in [0, 2, 256, u64::MAX] {
        refused(retype(e, e.own.untyped, vspace, 0, to, count), Error::Range)?;
    }
    equal(works(e.own.left())?, before)?;
    works(retype(e, e.own.untyped, ep, 0, to, RETYPE_MAX))?;
    equal(works(e.own.left())?, before - RETYPE_MAX * 32)?;
    // What takes long to clear is cleared all the same.
    works(retype(e, e.own.untyped, ObjType::Frame as u64, 21, to + 100, 3))
}

fn retype_slots(e: &mut Env) -> Told {
    let before = works(e.own.left())?;
    let ep = ObjType::Endpoint as u64;
    for at in [1024, 1 << 16, 1 << 59, u64::MAX] {
        refused(retype(e, e.own.untyped, ep, 0, at, 1), Error::Range)?;
    }
    for at in [1023, 1000, u64::MAX - 1] {
        refused(retype(e, e.own.untyped, ep, 0, at, 100), Error::Range)?;
    }
    // One of them is in use: none is made.
    let first = e.own.slots(10);
    works(sys::copy(e.own.cspace, first + 9, e.own.cspace, e.faults, Rights::all()))?;
    refused(retype(e, e.own.untyped, ep, 0, first, 10), Error::Occupied)?;
    refused(retype(e, e.own.untyped, ep, 0, e.own.untyped, 1), Error::Occupied)?;
    refused(sys::nb_recv(first, 0), Error::InvalidCap)?;
    equal(works(e.own.left())?, before)?;
    works(retype(e, e.own.untyped, ep, 0, first, 9))
}

fn retype_no_memory(e: &mut Env) -> Told {
    let small = works(e.own.make(ObjType::Untyped, 14))?;
    let left = || sys::invoke(small, Label::UntypedInfo, [0; 4], [0; 2]).map(|r| r.words[0]);
    let (page, slots) = (ObjType::Frame as u64, e.own.slots(80));
    refused(retype(e, small, page, 21, slots, 1), Error::NoMemory)?;
    refused(retype(e, small, page, 12, slots, 5), Error::NoMemory)?;
    works(retype(e, small, page, 12, slots, 3))?;
    refused(retype(e, small, page, 12, slots + 3, 2), Error::NoMemory)?;
    equal(works(left())?, 4096)?;
    // A small object moves the next page beyond the end.
    works(retype(e, small, ObjType::Reply as u64, 0, slots + 3, 1))?;
    refused(retype(e, small, page, 12, slots + 4, 1), Error::NoMemory)?;
    works(retype(e, small, ObjType::Reply as u64, 0, slots + 4, 10))?;
    equal(works(left())?, 4096 - 11 * 32)?;
    works(sys::revoke(e.own.cspace, small))?;
    works(retype(e, small, page, 12, slots, 4))?;
    equal(works(left())?, 0)?;
    refused(retype(e, small, ObjType::Reply as u64, 0, slots + 4, 1), Error::NoMemory)
}

fn retype_no_cnode(e: &mut Env) -> Told {
    let empty = e.own.slots(1);
    for (cnode, error) in [
        (0, Error::InvalidCap),
        (empty, Error::InvalidCap),
        (u64::MAX, Error::InvalidCap),
        (e.faults, Error::WrongType),
        (e.own.untyped, Error::WrongType),
    ] {
        let words = [ObjType::Endpoint as u64, 0, cnode, 0];
        let got = sys::invoke(e.own.untyped, Label::UntypedRetype, words, [1, 0]);
        refused(got, error)?;
    }
    Ok(())
}

/// Nothing of an object's earlier life is left in it.
fn retype_clears(e: &mut Env) -> Told {
    let small = works(e.own.make(ObjType::Untyped, 12))?;
    let (slot, at) = (e.own.slots(1), e.own.addresses(1));
    for round in 0..3 {
        works(retype(e, small, ObjType::Frame as u64, 12, slot, 1))?;
        works(e.own.map(slot, e.own.vspace, at, BOTH, PLAIN))?;
        for i in 0..512 {
            equal((round, i, raw::read(at + 8 * i)), (round, i, 0))?;
            raw::write(at + 8 * i, u64::MAX);
        }
        works(sys::delete(e.own.cspace, slot))?;
        // What was a page becomes objects, which are empty as well.
        works(retype(e, small, ObjType::CNode as u64, 7, slot, 1))?;
        for i in 0..128 {
            refused(sys::copy(slot, 0, slot, i, Rights::all()), Error::InvalidCap)?;
        }
        works(sys::delete(e.own.cspace, slot))?;
    }
    Ok(())
}

/// Memory comes back with the last child, not before.
fn untyped_in_use(e: &mut Env) -> Told {
    let small = works(e.own.make(ObjType::Untyped, 13))?;
    let info =
        || sys::invoke(small, Label::UntypedInfo, [0; 4], [0; 2]).map(|r| [r.words[0], r.words[1]]);
    equal(works(info())?, [8192, 13])?;
    let slots = e.own.slots(3);
    works(retype(e, small, ObjType::Frame as u64, 12, slots, 2))?;
    equal(works(info())?[0], 0)?;
    works(sys::delete(e.own.cspace, slots))?;
    equal(works(info())?[0], 0)?;
    refused(retype(e, small, ObjType::Frame as u64, 12, slots, 1), Error::NoMemory)?;
    // A copy keeps it alive.
    works(sys::copy(e.own.cspace, slots + 2, e.own.cspace, slots + 1, Rights::READ))?;
    works(sys::delete(e.own.cspace, slots + 1))?;
    equal(works(info())?[0], 0)?;
    works(sys::delete(e.own.cspace, slots + 2))?;
    equal(works(info())?, [8192, 13])
}

fn untyped_nested(e: &mut Env) -> Told {
    let (mut inner, mut all) = (e.own.untyped, heapless::Vec::<CPtr, 16>::new());
    for bits in (5..=20).rev() {
        let slot = e.own.slots(1);
        works(retype(e, inner, ObjType::Untyped as u64, bits, slot, 1))?;
        let _ = all.push(slot);
        inner = slot;
    }
    let ep = e.own.slots(1);
    works(retype(e, inner, ObjType::Endpoint as u64, 0, ep, 1))?;
    works(sys::revoke(e.own.cspace, all[3]))?;
    for gone in all[4..].iter().chain([&ep]) {
        let got = sys::invoke(*gone, Label::UntypedInfo, [0; 4], [0; 2]);
        refused(got, Error::InvalidCap)?;
    }
    let left = sys::invoke(all[3], Label::UntypedInfo, [0; 4], [0; 2]);
    equal(works(left)?.words[0], 1 << 17)
}

/// Where frames lie: apart, and inside the untyped.
fn objects_apart(e: &mut Env) -> Told {
    let small = works(e.own.make(ObjType::Untyped, 16))?;
    let slots = e.own.slots(32);
    let (mut pages, mut at) = (heapless::Vec::<u64, 16>::new(), slots);
    while retype(e, small, ObjType::Frame as u64, 12, at, 1).is_ok() {
        let address = sys::invoke(at, Label::FrameAddress, [0; 4], [0; 2]);
        let _ = pages.push(works(address)?.words[0]);
        works(retype(e, small, ObjType::Endpoint as u64, 0, at + 1, 1)).ok();
        at += 2;
    }
    pages.sort_unstable();
    let apart = pages.windows(2).all(|w| w[1] - w[0] >= PAGE_SIZE);
    let inside = pages.iter().all(|p| p & !0xffff == pages[0] & !0xffff && p % PAGE_SIZE == 0);
    if apart && inside && pages.len() == 8 { Ok(()) } else { why(format_args!("{pages:x?}")) }
}
