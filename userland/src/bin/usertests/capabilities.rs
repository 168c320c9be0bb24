//! CNodes and CSpaces.

use abi::{CPtr, CSPACE_DEPTH_MAX, Error, Label, ObjType, Rights};
use libipc::sys;
use userland::own::Thread;

use super::Test;
use crate::env::{Env, Told, Why, equal, refused, works};

pub const ALL: &[(&str, Test)] = &[
    ("slot-occupied", occupied),
    ("slot-empty", empty),
    ("slot-range", range),
    ("slot-of-no-cnode", no_cnode),
    ("rights-only-fall", rights_fall),
    ("rights-range", rights_range),
    ("copy-refused", copy_refused),
    ("mint-refused", mint_refused),
    ("move-keeps-all", move_keeps),
    ("cspace-short-and-long", short_and_long),
    ("cspace-deep", deep),
    ("cspace-too-deep", too_deep),
    ("cnode-in-itself", in_itself),
    ("cnodes-in-each-other", in_each_other),
    ("cnode-chain", chain),
    ("cnode-and-thread", cnode_and_thread),
    ("revoke-descendants", descendants),
    ("revoke-leaves-parents", leaves_parents),
];

fn occupied(e: &mut Env) -> Told {
    let (a, b) = (e.make(ObjType::Endpoint)?, e.make(ObjType::Notification)?);
    let root = e.own.cspace;
    refused(sys::copy(root, b, root, a, Rights::all()), Error::Occupied)?;
    refused(sys::mint(root, b, root, a, Rights::all(), 1), Error::Occupied)?;
    let moved = sys::invoke(root, Label::CNodeMove, [b, root, a, 0], [0; 2]);
    refused(moved, Error::Occupied)?;
    let moved = sys::invoke(root, Label::CNodeMove, [a, root, a, 0], [0; 2]);
    refused(moved, Error::Occupied)?;
    // Both are as they were.
    refused(sys::nb_recv(a, 0), Error::WouldBlock)?;
    sys::signal(b);
    equal(sys::nb_recv(b, 0).is_ok(), true)
}

fn empty(e: &mut Env) -> Told {
    let (from, to, root) = (e.own.slots(1), e.own.slots(1), e.own.cspace);
    refused(sys::copy(root, to, root, from, Rights::all()), Error::InvalidCap)?;
    refused(sys::mint(root, to, root, from, Rights::all(), 1), Error::InvalidCap)?;
    let moved = sys::invoke(root, Label::CNodeMove, [to, root, from, 0], [0; 2]);
    refused(moved, Error::InvalidCap)?;
    // There is nothing to delete or revoke, and that is no mistake.
    works(sys::delete(root, from))?;
    works(sys::revoke(root, from))
}

fn range(e: &mut Env) -> Told {
    let (cnode, ep, root) = (e.cnode(2)?, e.make(ObjType::Endpoint)?, e.own.cspace);
    for index in [4, 5, 1 << 16, 1 << 59, 1 << 63, u64::MAX] {
        refused(sys::copy(cnode, index, root, ep, Rights::all()), Error::Range)?;
        refused(sys::copy(cnode, 0, cnode, index, Rights::all()), Error::Range)?;
        refused(sys::mint(cnode, index, root, ep, Rights::all(), 1), Error::Range)?;
        refused(sys::delete(cnode, index), Error::Range)?;
        refused(sys::revoke(cnode, index), Error::Range)?;
        let moved = sys::invoke(cnode, Label::CNodeMove, [0, cnode, index, 0], [0; 2]);
        refused(moved, Error::Range)?;
    }
    Ok(())
}

fn no_cnode(e: &mut Env) -> Told {
    let (to, root) = (e.own.slots(1), e.own.cspace);
    for (source, error) in [
        (e.faults, Error::WrongType),
        (e.own.thread, Error::WrongType),
        (e.own.untyped, Error::WrongType),
        (to, Error::InvalidCap),
        (0, Error::InvalidCap),
        (u64::MAX, Error::InvalidCap),
    ] {
        refused(sys::copy(root, to, source, 0, Rights::all()), error)?;
        refused(sys::mint(root, to, source, 0, Rights::all(), 1), error)?;
        refused(sys::invoke(root, Label::CNodeMove, [to, source, 0, 0], [0; 2]), error)?;
    }
    Ok(())
}

fn rights_fall(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    for rights in (0..8).filter_map(Rights::from_bits) {
        let less = e.copy(ep, rights)?;
        let more = e.copy(less, Rights::all())?;
        let minted = e.mint(less, 3)?;
        for cap in [less, more, minted] {
            let receives = sys::nb_recv(cap, 0).map(drop);
            let reads = rights.contains(Rights::READ);
            let want = if reads { Error::WouldBlock } else { Error::NoRights };
            equal((rights, receives), (rights, Err(want)))?;
        }
    }
    Ok(())
}

fn rights_range(e: &mut Env) -> Told {
    let (ep, to, root) = (e.make(ObjType::Endpoint)?, e.own.slots(1), e.own.cspace);
    for rights in [8, 15, 128, 255, 256, 1 << 32, 1 << 32 | 7, u64::MAX] {
        let words = [to, root, ep, rights];
        refused(sys::invoke(root, Label::CNodeCopy, words, [0; 2]), Error::Range)?;
        refused(sys::invoke(root, Label::CNodeMint, words, [1, 0]), Error::Range)?;
    }
    refused(sys::nb_recv(to, 0), Error::InvalidCap)
}

/// Objects of which there is one capability each.
fn copy_refused(e: &mut Env) -> Told {
    let untyped = works(e.own.make(ObjType::Untyped, 12))?;
    let table = e.make(ObjType::PageTable)?;
    for cap in [untyped, table, e.own.untyped] {
        refused(e.own.copy(cap, Rights::all()), Error::WrongType)?;
        refused(e.own.mint(cap, Rights::all(), 1), Error::WrongType)?;
    }
    Ok(())
}

fn mint_refused(e: &mut Env) -> Told {
    for ty in [ObjType::Thread, ObjType::Reply, ObjType::SchedContext, ObjType::VSpace] {
        let cap = e.make(ty)?;
        refused(e.own.mint(cap, Rights::all(), 1), Error::WrongType)?;
    }
    let frame = works(e.own.make(ObjType::Frame, 12))?;
    refused(e.own.mint(frame, Rights::all(), 1), Error::WrongType)?;
    // A guard that leaves no room for the CNode's own bits.
    let cnode = e.cnode(4)?;
    for bits in [61, 63, 64, 200, 255] {
        refused(e.own.mint(cnode, Rights::all(), bits), Error::Range)?;
    }
    works(e.own.mint(cnode, Rights::all(), 60)).map(drop)
}

fn move_keeps(e: &mut Env) -> Told {
    let (ep, root) = (e.make(ObjType::Endpoint)?, e.own.cspace);
    let badged = e.mint(ep, 3)?;
    let child = e.copy(badged, Rights::WRITE)?;
    let to = e.own.slots(1);
    works(sys::invoke(root, Label::CNodeMove, [to, root, badged, 0], [0; 2]))?;
    refused(sys::nb_recv(badged, 0), Error::InvalidCap)?;
    refused(sys::nb_recv(to, 0), Error::WouldBlock)?;
    // It is still what its copy came from, and comes from the endpoint.
    works(sys::revoke(root, to))?;
    refused(sys::nb_recv(child, 0), Error::InvalidCap)?;
    works(sys::revoke(root, ep))?;
    refused(sys::nb_recv(to, 0), Error::InvalidCap)
}

extern "C" fn signals(cptr: u64) -> u64 {
    let info = abi::MsgInfo(0);
    sys::send(cptr, info, [0; 4]).map_or_else(|e| e as u64, |()| 0)
}

/// A thread with `root` as its CSpace tries `cptr`; returns the error it got, 0 for none.
fn tries(e: &Env, thread: &Thread, root: CPtr, cptr: u64) -> Result<u64, Why> {
    let fault = e.mint(e.faults, thread.badge)?;
    let words = [root, e.own.vspace, fault, thread.buffer];
    works(sys::invoke(thread.tcb, Label::ThreadConfigure, words, [0; 2]))?;
    works(sys::delete(e.own.cspace, fault))?;
    works(e.own.start(thread, signals, cptr))?;
    e.end(thread)
}

const NO_CAP: u64 = Error::InvalidCap as u64;

fn short_and_long(e: &mut Env) -> Told {
    let ntfn = e.make(ObjType::Notification)?;
    let thread = e.thread(1)?;
    let (outer, inner) = (e.cnode(4)?, e.cnode(4)?);
    works(sys::copy(inner, 5, e.own.cspace, ntfn, Rights::all()))?;
    works(sys::copy(outer, 1, e.own.cspace, ntfn, Rights::all()))?;
    // The inner one takes the last four bits, the outer one the four before; a guard of 56 zeroes.
    works(sys::mint(outer, 2, e.own.cspace, inner, Rights::all(), 0))?;
    let root = e.mint(outer, 56)?;
    for (cptr, got) in [
        (0x25, 0),
        (0x24, NO_CAP),
        // Too short: it ends in the middle, at a notification.
        (0x15, NO_CAP),
        (0x10, NO_CAP),
        // Too long, or another guard.
        (0x125, NO_CAP),
        (1 << 63 | 0x25, NO_CAP),
        // A CNode's slot is no way to the CNode.
        (0x20, NO_CAP),
        (0x35, NO_CAP),
        (0, NO_CAP),
    ] {
        equal((cptr, tries(e, &thread, root, cptr)?), (cptr, got))?;
    }
    // A guard in the middle, which must match.
    works(sys::delete(outer, 2))?;
    works(sys::mint(outer, 2, e.own.cspace, inner, Rights::all(), 0xa << 8 | 4))?;
    let root = e.mint(outer, 52)?;
    equal(tries(e, &thread, root, 0x2a5)?, 0)?;
    equal(tries(e, &thread, root, 0x2b5)?, NO_CAP)?;
    equal(tries(e, &thread, root, 0x25)?, NO_CAP)?;
    // All but the last four bits in the guard.
    let root = e.mint(inner, 0x0001_2345_6789_abcd << 8 | 56)?;
    equal(tries(e, &thread, root, 0x0001_2345_6789_abcd << 4 | 5)?, NO_CAP)?;
    let root = e.mint(inner, 0x0001_2345_6789_abcd << 8 | 60)?;
    equal(tries(e, &thread, root, 0x0001_2345_6789_abcd << 4 | 5)?, 0)?;
    equal(tries(e, &thread, root, 5)?, NO_CAP)?;
    let signalled = sys::nb_recv(ntfn, 0);
    works(signalled).map(drop)
}

/// A CSpace of CNodes that each take so many bits of a pointer, innermost first, each in the last slot of the
/// next; the innermost holds `ntfn` in its last slot. At most four of those bits are index, the others a guard
/// of ones.
fn tree(e: &Env, ntfn: CPtr, levels: &[u8]) -> Result<CPtr, Why> {
    let mut below = ntfn;
    for bits in levels {
        let radix = *bits.min(&4);
        let cnode = e.cnode(radix)?;
        let bare = e.mint(cnode, ones(bits - radix))?;
        works(sys::copy(cnode, (1 << radix) - 1, e.own.cspace, below, Rights::all()))?;
        below = bare;
    }
    Ok(below)
}

/// A guard of `bits` ones.
fn ones(bits: u8) -> u64 {
    ((1 << bits) - 1) << 8 | bits as u64
}

/// As many levels as may be, of which each takes as many bits as must be.
fn deep(e: &mut Env) -> Told {
    let ntfn = e.make(ObjType::Notification)?;
    let thread = e.thread(1)?;
    let root = tree(e, ntfn, &[(64 / CSPACE_DEPTH_MAX) as u8; CSPACE_DEPTH_MAX])?;
    equal(tries(e, &thread, root, u64::MAX)?, 0)?;
    works(sys::nb_recv(ntfn, 0))?;
    for bit in [0, 1, 31, 63] {
        equal(tries(e, &thread, root, !(1 << bit))?, NO_CAP)?;
    }
    Ok(())
}

fn too_deep(e: &mut Env) -> Told {
    let ntfn = e.make(ObjType::Notification)?;
    let thread = e.thread(1)?;
    for levels in [
        // Bits are left at the notification.
        &[16, 16, 16][..],
        &[15, 16, 16, 16],
        // A level too many: with a CNode left over, with all bits used, with bits left.
        &[8, 8, 16, 16, 16],
        &[1; 64],
        &[1; 65],
    ] {
        let root = tree(e, ntfn, levels)?;
        equal(tries(e, &thread, root, u64::MAX)?, NO_CAP)?;
    }
    // All are used up at a CNode.
    let root = tree(e, ntfn, &[2, 16, 16, 16, 16])?;
    equal(tries(e, &thread, root, u64::MAX)?, Error::WrongType as u64)?;
    refused(sys::nb_recv(ntfn, 0), Error::WouldBlock)
}

fn in_itself(e: &mut Env) -> Told {
    let thread = e.thread(1)?;
    for (radix, guard, got) in [(4, ones(12), Error::WrongType as u64), (2, 0, NO_CAP)] {
        let cnode = e.cnode(radix)?;
        for slot in 0..1 << radix {
            works(sys::mint(cnode, slot, e.own.cspace, cnode, Rights::all(), guard))?;
        }
        let root = e.mint(cnode, guard)?;
        equal(tries(e, &thread, root, u64::MAX)?, got)?;
        works(sys::delete(e.own.cspace, root))?;
        // The last name from outside, but for the thread's: it goes, with the names that are in it.
        works(sys::delete(e.own.cspace, cnode))?;
    }
    works(sys::delete(e.own.cspace, thread.tcb))
}

fn in_each_other(e: &mut Env) -> Told {
    let nodes = [e.cnode(1)?, e.cnode(1)?, e.cnode(1)?];
    for (i, node) in nodes.into_iter().enumerate() {
        for slot in 0..2 {
            let other = nodes[(i + 1 + slot as usize) % 3];
            works(sys::copy(node, slot, e.own.cspace, other, Rights::all()))?;
        }
    }
    for node in nodes {
        works(sys::delete(e.own.cspace, node))?;
    }
    Ok(())
}

/// Each holds the only capability to the next: deleting the first walks through all.
fn chain(e: &mut Env) -> Told {
    const LINKS: u64 = 500;
    let first = e.own.slots(LINKS);
    for at in (0..LINKS).step_by(25) {
        works(sys::retype(e.own.untyped, ObjType::CNode, 1, e.own.cspace, first + at, 25))?;
    }
    for i in (1..LINKS).rev() {
        let words = [0, e.own.cspace, first + i, 0];
        works(sys::invoke(first + i - 1, Label::CNodeMove, words, [0; 2]))?;
    }
    works(sys::delete(e.own.cspace, first))?;
    // Only what every test has is left: its memory can be made anew.
    refused(sys::delete(first, 0), Error::InvalidCap)
}

/// A thread's CSpace holds the thread itself, and nobody else does.
fn cnode_and_thread(e: &mut Env) -> Told {
    for order in 0..2 {
        let cnode = e.cnode(2)?;
        let thread = e.thread(1)?;
        let words = [cnode, e.own.vspace, 0, 0];
        works(sys::invoke(thread.tcb, Label::ThreadConfigure, words, [0; 2]))?;
        for (slot, cap) in [(0, thread.tcb), (1, thread.sched)] {
            works(sys::invoke(cnode, Label::CNodeMove, [slot, e.own.cspace, cap, 0], [0; 2]))?;
        }
        // It runs meanwhile, or not.
        if order == 0 {
            let to = e.own.slots(1);
            works(sys::copy(e.own.cspace, to, cnode, 0, Rights::all()))?;
            let at = e.code(&[0xeb, 0xfe])?;
            let words = [at, thread.stack, 0, 0];
            works(sys::invoke(to, Label::ThreadWriteRegisters, words, [1, 0]))?;
            e.pass()?;
            works(sys::delete(e.own.cspace, to))?;
        }
        works(sys::delete(e.own.cspace, cnode))?;
        e.pass()?;
    }
    Ok(())
}

fn descendants(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let cnode = e.cnode(4)?;
    // Copies of copies, in two CNodes.
    let mut from = ep;
    let mut all = heapless::Vec::<CPtr, 32>::new();
    for i in 0..16 {
        from = if i == 4 { e.mint(from, 9)? } else { e.copy(from, Rights::all())? };
        works(sys::copy(cnode, i, e.own.cspace, from, Rights::WRITE))?;
        let _ = all.push(from);
    }
    works(sys::revoke(e.own.cspace, ep))?;
    for cap in all {
        refused(sys::nb_recv(cap, 0), Error::InvalidCap)?;
    }
    for i in 0..16 {
        works(sys::retype(e.own.untyped, ObjType::Endpoint, 0, cnode, i, 1))?;
    }
    refused(sys::nb_recv(ep, 0), Error::WouldBlock)
}

fn leaves_parents(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let badged = e.mint(ep, 1)?;
    let (a, b) = (e.copy(badged, Rights::all())?, e.mint(ep, 2)?);
    works(sys::revoke(e.own.cspace, badged))?;
    refused(sys::nb_recv(a, 0), Error::InvalidCap)?;
    for stays in [ep, badged, b] {
        refused(sys::nb_recv(stays, 0), Error::WouldBlock)?;
    }
    Ok(())
}
