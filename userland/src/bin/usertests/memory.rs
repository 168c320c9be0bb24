//! Untyped memory, frames, page tables and address spaces.

use abi::{
    CPtr, Error, FaultKind, LARGE_BITS, Label, MapAttr, ObjType, PAGE_BITS, PAGE_SIZE, Rights,
    USER_END,
};
use libipc::sys;

use super::Test;
use crate::env::{Env, Told, Why, equal, refused, why, works};
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
    ("map-alignment", map_alignment),
    ("map-range", map_range),
    ("map-no-table", map_no_table),
    ("map-occupied", map_occupied),
    ("map-rights", map_rights),
    ("map-write-or-execute", write_or_execute),
    ("map-attributes", attributes),
    ("map-no-address-space", no_vspace),
    ("table-refused", table_refused),
    ("table-unmapped", table_unmapped),
    ("frame-large", large_frame),
    ("frame-unmapped", unmapped),
    ("frame-copies", copies),
    ("address-space-deleted", vspace_deleted),
    ("stack-overflow", stack_overflow),
    ("buffer-refused", buffer_refused),
];

const BOTH: Rights = Rights::READ.union(Rights::WRITE);
const PLAIN: MapAttr = MapAttr::empty();

fn frame(e: &Env) -> Result<CPtr, Why> {
    works(e.own.make(ObjType::Frame, PAGE_BITS))
}

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
        (untyped, &[0, 4, 47, 63, 64, 255, 256, 256 + 12, 1 << 32, u64::MAX][..]),
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
    for count in [0, 257, 1 << 16, 1 << 32, 1 << 59, 1 << 63, u64::MAX] {
        refused(retype(e, e.own.untyped, ep, 0, to, count), Error::Range)?;
    }
    for count in [0, 2, 256, u64::MAX] {
        refused(retype(e, e.own.untyped, vspace, 0, to, count), Error::Range)?;
    }
    // More to clear than one call may take: 3 large frames, 256 CNodes of 2^12 slots.
    refused(retype(e, e.own.untyped, ObjType::Frame as u64, 21, to, 3), Error::Range)?;
    refused(retype(e, e.own.untyped, ObjType::CNode as u64, 12, to, 256), Error::Range)?;
    equal(works(e.own.left())?, before)?;
    works(retype(e, e.own.untyped, ep, 0, to, 256))?;
    equal(works(e.own.left())?, before - 256 * 32)
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
    let (page, slots) = (ObjType::Frame as u64, e.own.slots(16));
    refused(retype(e, small, page, 21, slots, 1), Error::NoMemory)?;
    refused(retype(e, small, page, 12, slots, 5), Error::NoMemory)?;
    works(retype(e, small, page, 12, slots, 3))?;
    refused(retype(e, small, page, 12, slots + 3, 2), Error::NoMemory)?;
    equal(works(left())?, 4096)?;
    // A small object moves the next page beyond the end.
    works(retype(e, small, ObjType::Reply as u64, 0, slots + 3, 1))?;
    refused(retype(e, small, page, 12, slots + 4, 1), Error::NoMemory)?;
    works(retype(e, small, ObjType::Reply as u64, 0, slots + 4, 10))?;
    refused(retype(e, small, ObjType::Reply as u64, 0, slots + 14, 256), Error::NoMemory)?;
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

fn map_alignment(e: &mut Env) -> Told {
    let (small, at) = (frame(e)?, e.own.addresses(1));
    for off in [1, 8, 0x800, 0xfff] {
        refused(sys::map(small, e.own.vspace, at + off, BOTH, PLAIN), Error::Alignment)?;
    }
    let large = works(e.own.make(ObjType::Frame, LARGE_BITS))?;
    for off in [1, PAGE_SIZE, 1 << 20, (1 << 21) - PAGE_SIZE] {
        refused(sys::map(large, e.own.vspace, (1 << 40) + off, BOTH, PLAIN), Error::Alignment)?;
    }
    Ok(())
}

fn map_range(e: &mut Env) -> Told {
    let small = frame(e)?;
    let large = works(e.own.make(ObjType::Frame, LARGE_BITS))?;
    let table = e.make(ObjType::PageTable)?;
    for at in [0, USER_END, 1 << 47, 1 << 62, 0xffff_8000_0000_0000, 0xffff_ffff_ffe0_0000] {
        refused(sys::map(small, e.own.vspace, at, BOTH, PLAIN), Error::Range)?;
        if at % (1 << 21) == 0 {
            refused(sys::map(large, e.own.vspace, at, BOTH, PLAIN), Error::Range)?;
        }
        if at != 0 {
            refused(sys::map_table(table, e.own.vspace, at), Error::Range)?;
        }
    }
    refused(sys::map(small, e.own.vspace, u64::MAX << 12, BOTH, PLAIN), Error::Range)?;
    // The last page that there is, but not the large frame that would hold it.
    let last = USER_END & !((1 << 21) - 1);
    refused(sys::map(large, e.own.vspace, last, BOTH, PLAIN), Error::Range)?;
    works(e.own.map(small, e.own.vspace, USER_END - PAGE_SIZE, BOTH, PLAIN))?;
    raw::write(USER_END - 8, 7);
    equal(raw::read(USER_END - 8), 7)
}

fn map_no_table(e: &mut Env) -> Told {
    let vspace = e.make(ObjType::VSpace)?;
    let small = frame(e)?;
    for level in [3, 2, 1] {
        let call = raw::Call {
            rax: 0,
            rdi: small,
            rsi: abi::MsgInfo::invoke(Label::FrameMap).0,
            words: [vspace, 1 << 30, 3, 0, 0, 0],
            r14: 0,
        };
        let got = raw::syscall(call);
        equal((got.rax, got.words[0]), (Error::NoTable as u64, level))?;
        let table = e.make(ObjType::PageTable)?;
        equal(works(sys::map_table(table, vspace, 1 << 30))?, level)?;
    }
    works(sys::map(small, vspace, 1 << 30, BOTH, PLAIN))
}

fn map_occupied(e: &mut Env) -> Told {
    let (_, at) = works(e.own.page())?;
    let other = frame(e)?;
    refused(sys::map(other, e.own.vspace, at, BOTH, PLAIN), Error::Occupied)?;
    // This program's own code and stack.
    let code = map_occupied as *const () as u64 & !(PAGE_SIZE - 1);
    refused(sys::map(other, e.own.vspace, code, BOTH, PLAIN), Error::Occupied)?;
    let stack = &raw const other as u64 & !(PAGE_SIZE - 1);
    refused(sys::map(other, e.own.vspace, stack, BOTH, PLAIN), Error::Occupied)?;
    // A capability is mapped once.
    let to = e.own.addresses(2);
    works(e.own.map(other, e.own.vspace, to, BOTH, PLAIN))?;
    refused(sys::map(other, e.own.vspace, to + PAGE_SIZE, BOTH, PLAIN), Error::Busy)?;
    refused(sys::map(other, e.own.vspace, to, BOTH, PLAIN), Error::Busy)
}

fn map_rights(e: &mut Env) -> Told {
    let whole = frame(e)?;
    let at = e.own.addresses(1);
    for rights in (0..8).filter_map(Rights::from_bits) {
        let less = e.copy(whole, rights)?;
        let reads = rights.contains(Rights::READ);
        for (wanted, attr, may) in [
            (Rights::READ, PLAIN, reads),
            (Rights::empty(), PLAIN, reads),
            (BOTH, PLAIN, rights.contains(BOTH)),
            (Rights::WRITE, PLAIN, rights.contains(BOTH)),
            (Rights::READ, MapAttr::EXEC, reads && rights.contains(Rights::GRANT)),
        ] {
            let got = e.own.map(less, e.own.vspace, at, wanted, attr);
            let want = if may { Ok(()) } else { Err(Error::NoRights) };
            equal((rights, wanted, got), (rights, wanted, want))?;
            works(sys::unmap(less))?;
        }
        // What it lies at in memory is for those who may give it on.
        let address = sys::invoke(less, Label::FrameAddress, [0; 4], [0; 2]).map(drop);
        let may = rights.contains(Rights::GRANT);
        equal(address, if may { Ok(()) } else { Err(Error::NoRights) })?;
    }
    Ok(())
}

fn write_or_execute(e: &mut Env) -> Told {
    let page = frame(e)?;
    let at = e.own.addresses(1);
    for rights in [BOTH, BOTH | Rights::GRANT, Rights::WRITE] {
        let got = sys::map(page, e.own.vspace, at, rights, MapAttr::EXEC);
        refused(got, Error::Range)?;
        let got = sys::map(page, e.own.vspace, at, rights, MapAttr::EXEC | MapAttr::UNCACHED);
        refused(got, Error::Range)?;
    }
    let (jump, store) = (e.code(&[0xff, 0xe7])?, e.code(&[0x48, 0x89, 0x3f])?);
    let thread = e.thread(1)?;
    for (rights, attr, code, bits) in [
        // Writable and readable pages are not executed; others are not written.
        (BOTH, PLAIN, jump, 0x15),
        (Rights::READ, PLAIN, jump, 0x15),
        (Rights::READ, PLAIN, store, 7),
        (Rights::READ, MapAttr::EXEC, store, 7),
    ] {
        works(e.own.map(page, e.own.vspace, at, rights, attr))?;
        works(e.own.start_at(&thread, code, at, 0))?;
        let f = e.fault()?;
        equal((f.kind, f.addr, f.code), (FaultKind::Page, at, bits))?;
        works(sys::unmap(page))?;
    }
    Ok(())
}

fn attributes(e: &mut Env) -> Told {
    let page = frame(e)?;
    let at = e.own.addresses(1);
    let map = |rights, attr| {
        sys::invoke(page, Label::FrameMap, [e.own.vspace, at, rights, attr], [0; 2]).map(drop)
    };
    for bad in [8, 16, 255, 256, 1 << 32 | 3, u64::MAX] {
        refused(map(bad, 0), Error::Range)?;
        refused(map(3, bad), Error::Range)?;
    }
    works(e.own.map(page, e.own.vspace, at, BOTH, MapAttr::UNCACHED))?;
    raw::write(at, 3);
    equal(raw::read(at), 3)
}

fn no_vspace(e: &mut Env) -> Told {
    let (page, table) = (frame(e)?, e.make(ObjType::PageTable)?);
    let empty = e.own.slots(1);
    for (vspace, error) in [
        (0, Error::InvalidCap),
        (empty, Error::InvalidCap),
        (u64::MAX, Error::InvalidCap),
        (e.own.cspace, Error::WrongType),
        (e.own.thread, Error::WrongType),
        (table, Error::WrongType),
        (page, Error::WrongType),
    ] {
        refused(sys::map(page, vspace, 1 << 40, BOTH, PLAIN), error)?;
        refused(sys::map_table(table, vspace, 1 << 40), error)?;
    }
    Ok(())
}

fn table_refused(e: &mut Env) -> Told {
    let (_, at) = works(e.own.page())?;
    let table = e.make(ObjType::PageTable)?;
    // All levels are there.
    refused(sys::map_table(table, e.own.vspace, at), Error::Occupied)?;
    works(sys::map_table(table, e.own.vspace, 1 << 41))?;
    refused(sys::map_table(table, e.own.vspace, 1 << 42), Error::Busy)?;
    let other = e.make(ObjType::VSpace)?;
    refused(sys::map_table(table, other, 1 << 41), Error::Busy)?;
    // A page table is no frame.
    refused(sys::map(table, e.own.vspace, 1 << 40, BOTH, PLAIN), Error::WrongType)
}

/// What was mapped below an unmapped table is gone, here and where the table comes next.
fn table_unmapped(e: &mut Env) -> Told {
    let (there, new) = (1 << 42, 1 << 43);
    let (page, tables) = (frame(e)?, e.own.slots(3));
    works(sys::retype(e.own.untyped, ObjType::PageTable, 0, e.own.cspace, tables, 3))?;
    let map_tables =
        |at| (0..3).try_for_each(|i| sys::map_table(tables + i, e.own.vspace, at).map(drop));
    works(map_tables(there))?;
    works(sys::map(page, e.own.vspace, there, BOTH, PLAIN))?;
    raw::write(there, 5);
    for i in (0..3).rev() {
        works(sys::invoke(tables + i, Label::TableUnmap, [0; 4], [0; 2]))?;
    }
    // mov rax, [rdi]
    let (code, thread) = (e.code(&[0x48, 0x8b, 0x07])?, e.thread(1)?);
    for at in [there, new] {
        if at == new {
            works(map_tables(new))?;
        }
        works(e.own.start_at(&thread, code, at, 0))?;
        let f = e.fault()?;
        equal((f.kind, f.addr), (FaultKind::Page, at))?;
    }
    // The frame may be mapped again, with what is in it.
    works(sys::unmap(page))?;
    works(sys::map(page, e.own.vspace, new, BOTH, PLAIN))?;
    equal(raw::read(new), 5)
}

fn large_frame(e: &mut Env) -> Told {
    let large = works(e.own.make(ObjType::Frame, LARGE_BITS))?;
    let at = 1 << 42;
    works(e.own.map(large, e.own.vspace, at, BOTH, PLAIN))?;
    for off in [0, PAGE_SIZE, (1 << 21) - 8] {
        equal(raw::read(at + off), 0)?;
        raw::write(at + off, off + 1);
    }
    // Nothing fits inside it.
    let (small, table) = (frame(e)?, e.make(ObjType::PageTable)?);
    refused(sys::map(small, e.own.vspace, at + PAGE_SIZE, BOTH, PLAIN), Error::Occupied)?;
    refused(sys::map_table(table, e.own.vspace, at + PAGE_SIZE), Error::Occupied)?;
    works(sys::unmap(large))?;
    // mov rax, [rdi]
    let (code, thread) = (e.code(&[0x48, 0x8b, 0x07])?, e.thread(1)?);
    works(e.own.start_at(&thread, code, at + (1 << 21) - 8, 0))?;
    equal(e.fault()?.addr, at + (1 << 21) - 8)?;
    works(sys::map(large, e.own.vspace, at, Rights::READ, PLAIN))?;
    equal(raw::read(at + PAGE_SIZE), PAGE_SIZE + 1)
}

/// No translation outlives the mapping, not in the processor either.
fn unmapped(e: &mut Env) -> Told {
    // mov rax, [rdi]; mov eax, 7; syscall; jmp back
    let code = e.code(&[0x48, 0x8b, 0x07, 0xb8, 7, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf4])?;
    let small = works(e.own.make(ObjType::Untyped, 12))?;
    let slot = e.own.slots(1);
    for way in 0..4 {
        let (at, thread) = (e.own.addresses(1), e.thread(1)?);
        works(sys::retype(small, ObjType::Frame, PAGE_BITS, e.own.cspace, slot, 1))?;
        works(e.own.map(slot, e.own.vspace, at, BOTH, PLAIN))?;
        works(e.own.start_at(&thread, code, at, 0))?;
        e.pass()?;
        raw::read(at);
        match way {
            0 => works(sys::unmap(slot))?,
            1 => works(sys::delete(e.own.cspace, slot))?,
            2 => works(sys::revoke(e.own.cspace, small))?,
            _ => works(sys::unmap(slot).and_then(|()| sys::unmap(slot)))?,
        }
        let f = e.fault()?;
        equal((f.kind, f.addr, f.badge), (FaultKind::Page, at, thread.badge))?;
        works(sys::revoke(e.own.cspace, small))?;
    }
    Ok(())
}

fn copies(e: &mut Env) -> Told {
    let (page, at) = works(e.own.page())?;
    raw::write(at, 77);
    let copy = e.copy(page, BOTH)?;
    // It is not mapped: unmapping or deleting it leaves the original's mapping.
    works(sys::unmap(copy))?;
    equal(raw::read(at), 77)?;
    let to = e.own.addresses(1);
    works(e.own.map(copy, e.own.vspace, to, Rights::READ, PLAIN))?;
    equal(raw::read(to), 77)?;
    works(sys::delete(e.own.cspace, copy))?;
    equal(raw::read(at), 77)?;
    // A moved one takes its mapping along.
    let moved = e.own.slots(1);
    let words = [moved, e.own.cspace, page, 0];
    works(sys::invoke(e.own.cspace, Label::CNodeMove, words, [0; 2]))?;
    refused(sys::map(moved, e.own.vspace, to, BOTH, PLAIN), Error::Busy)?;
    works(sys::unmap(moved))?;
    works(sys::map(moved, e.own.vspace, at, BOTH, PLAIN))
}

/// A thread whose address space goes stops, and nobody else notices.
fn vspace_deleted(e: &mut Env) -> Told {
    for way in 0..2 {
        let probe = crate::probe::Probe::new(e, 1)?;
        probe.load(&crate::probe::Registers::pattern(1, 0x202, 0x1f80, 0x37f), raw::Place::Spin);
        probe.run(e)?;
        probe.wait_spin(e)?;
        if way == 0 {
            works(sys::delete(e.own.cspace, probe.vspace))?;
            // The thread's own capability keeps it.
            e.pass()?;
            works(sys::delete(e.own.cspace, probe.thread.tcb))?;
        } else {
            // All capabilities but the thread's are taken back with what they came from.
            works(sys::revoke(e.own.cspace, probe.vspace))?;
            works(sys::delete(e.own.cspace, probe.vspace))?;
        }
        e.pass().or_else(|_| Ok::<_, Why>(()))?;
    }
    Ok(())
}

fn stack_overflow(e: &mut Env) -> Told {
    let thread = e.thread(1)?;
    // push rax; jmp back
    let code = e.code(&[0x50, 0xeb, 0xfd])?;
    works(e.own.start_at(&thread, code, 0, 0))?;
    let f = e.fault()?;
    // The word below the stack's page, in the guard.
    let below = thread.stack - PAGE_SIZE - 8;
    equal((f.kind, f.addr, f.code), (FaultKind::Page, below, 6))?;
    // It can be given more, and goes on.
    let more = frame(e)?;
    works(e.own.map(more, e.own.vspace, below & !(PAGE_SIZE - 1), BOTH, PLAIN))?;
    e.go_on()?;
    equal(e.fault()?.addr, below - PAGE_SIZE)
}

fn buffer_refused(e: &mut Env) -> Told {
    let thread = e.make(ObjType::Thread)?;
    let page = frame(e)?;
    let large = works(e.own.make(ObjType::Frame, LARGE_BITS))?;
    let (reads, writes) = (e.copy(page, Rights::READ)?, e.copy(page, Rights::WRITE)?);
    let set = |buffer| {
        let words = [e.own.cspace, e.own.vspace, 0, buffer];
        sys::invoke(thread, Label::ThreadConfigure, words, [0; 2]).map(drop)
    };
    for bad in [large, reads, writes] {
        refused(set(bad), Error::NoRights)?;
    }
    refused(set(e.faults), Error::WrongType)?;
    refused(set(u64::MAX), Error::InvalidCap)?;
    works(set(page))
}
