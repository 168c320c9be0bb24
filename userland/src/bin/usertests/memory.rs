//! Frames, page tables and address spaces.

use abi::{
    CPtr, Error, FaultKind, LARGE_BITS, Label, MapAttr, ObjType, PAGE_BITS, PAGE_SIZE, Rights,
    USER_END,
};
use libipc::sys;

use super::Test;
use crate::env::{Env, Told, Why, equal, refused, works};
use crate::raw;

pub const ALL: &[(&str, Test)] = &[
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
            // The thread's own capability keeps it.
            works(sys::delete(e.own.cspace, probe.vspace))?;
            e.pass()?;
            works(sys::delete(e.own.cspace, probe.thread.tcb))?;
        } else {
            // The thread's is taken back with the others: there is nothing at its next instruction.
            works(sys::revoke(e.own.cspace, probe.vspace))?;
            works(sys::delete(e.own.cspace, probe.vspace))?;
            let f = e.fault()?;
            equal((f.badge, f.kind, f.addr), (probe.thread.badge, FaultKind::Page, f.rip))?;
        }
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
