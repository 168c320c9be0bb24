//! What user code may do to the processor: nothing that reaches beyond its thread.

use abi::{Error, FaultKind, Label, MapAttr, ObjType, PAGE_BITS, PAGE_SIZE, Rights, USER_END};
use libipc::sys;

use super::Test;
use crate::env::{Env, Told, equal, refused, why, works};

pub const ALL: &[(&str, Test)] = &[
    ("privileged-instructions", privileged),
    ("undefined-instructions", undefined),
    ("software-interrupts", interrupts),
    ("debug-registers", debug_registers),
    ("io-privilege", io_privilege),
    ("trap-flag", trap_flag),
    ("rip-non-canonical", rip_non_canonical),
    ("rip-at-the-end", rip_at_the_end),
    ("rsp-non-canonical", rsp_non_canonical),
    ("fs-base", fs_base),
    ("fs-base-of-another", fs_base_of_another),
    ("gs-base", gs_base),
    ("kernel-addresses", kernel_addresses),
    ("fault-kinds", fault_kinds),
];

/// Instructions that are the kernel's alone.
const PRIVILEGED: &[(&str, &[u8])] = &[
    ("cli", &[0xfa]),
    ("sti", &[0xfb]),
    ("hlt", &[0xf4]),
    ("in al, dx", &[0xec]),
    ("out dx, al", &[0xee]),
    ("insb", &[0x6c]),
    ("outsb", &[0x6e]),
    ("in al, 0x64", &[0xe4, 0x64]),
    ("mov rax, cr0", &[0x0f, 0x20, 0xc0]),
    ("mov rax, cr2", &[0x0f, 0x20, 0xd0]),
    ("mov rax, cr3", &[0x0f, 0x20, 0xd8]),
    ("mov cr0, rax", &[0x0f, 0x22, 0xc0]),
    ("mov cr3, rax", &[0x0f, 0x22, 0xd8]),
    ("mov cr4, rax", &[0x0f, 0x22, 0xe0]),
    ("rdmsr", &[0x0f, 0x32]),
    ("wrmsr", &[0x0f, 0x30]),
    ("rdpmc", &[0x0f, 0x33]),
    ("lgdt [rsp]", &[0x0f, 0x01, 0x14, 0x24]),
    ("lidt [rsp]", &[0x0f, 0x01, 0x1c, 0x24]),
    ("lldt ax", &[0x0f, 0x00, 0xd0]),
    ("ltr ax", &[0x0f, 0x00, 0xd8]),
    ("lmsw ax", &[0x0f, 0x01, 0xf0]),
    ("clts", &[0x0f, 0x06]),
    ("invlpg [rsp]", &[0x0f, 0x01, 0x3c, 0x24]),
    ("invd", &[0x0f, 0x08]),
    ("wbinvd", &[0x0f, 0x09]),
    ("swapgs", &[0x0f, 0x01, 0xf8]),
    ("sysretq", &[0x48, 0x0f, 0x07]),
];

fn privileged(e: &mut Env) -> Told {
    for (name, code) in PRIVILEGED {
        let f = e.executes(code)?;
        if f.kind != FaultKind::Protection {
            return why(format_args!("{name}: {f:x?}"));
        }
    }
    // With UMIP they tell nobody where the kernel's tables lie; without, there is nothing to test.
    if core::arch::x86_64::__cpuid_count(7, 0).ecx >> 2 & 1 == 0 {
        return Ok(());
    }
    for (name, code) in [
        ("sgdt [rsp-64]", &[0x0f, 0x01, 0x44, 0x24, 0xc0][..]),
        ("sidt [rsp-64]", &[0x0f, 0x01, 0x4c, 0x24, 0xc0]),
        ("sldt eax", &[0x0f, 0x00, 0xc0]),
        ("str eax", &[0x0f, 0x00, 0xc8]),
        ("smsw eax", &[0x0f, 0x01, 0xe0]),
    ] {
        let f = e.executes(code)?;
        if f.kind != FaultKind::Protection {
            return why(format_args!("{name}: {f:x?}"));
        }
    }
    Ok(())
}

/// Instructions that do not exist here: what would need AVX state, or could change FS and GS bases.
fn undefined(e: &mut Env) -> Told {
    for (name, code) in [
        ("ud2", &[0x0f, 0x0b][..]),
        ("xgetbv", &[0x0f, 0x01, 0xd0]),
        ("xsetbv", &[0x0f, 0x01, 0xd1]),
        ("vzeroupper", &[0xc5, 0xf8, 0x77]),
        ("vpxor ymm0", &[0xc5, 0xfd, 0xef, 0xc0]),
        ("xsave [rsp]", &[0x0f, 0xae, 0x24, 0x24]),
        ("rdfsbase rax", &[0xf3, 0x48, 0x0f, 0xae, 0xc0]),
        ("rdgsbase rax", &[0xf3, 0x48, 0x0f, 0xae, 0xc8]),
        ("wrfsbase rax", &[0xf3, 0x48, 0x0f, 0xae, 0xd0]),
        ("wrgsbase rax", &[0xf3, 0x48, 0x0f, 0xae, 0xd8]),
        ("vmcall", &[0x0f, 0x01, 0xc1]),
        ("monitor", &[0x0f, 0x01, 0xc8]),
        ("pop es", &[0x07]),
    ] {
        let f = e.executes(code)?;
        if !matches!(f.kind, FaultKind::Undefined | FaultKind::Protection) {
            return why(format_args!("{name}: {f:x?}"));
        }
    }
    // Processors disagree on which of the two it is.
    let f = e.executes(&[0x0f, 0x34])?;
    if !matches!(f.kind, FaultKind::Undefined | FaultKind::Protection) {
        return why(format_args!("sysenter: {f:x?}"));
    }
    Ok(())
}

/// No gate may be used by `int`: the error code names it.
fn interrupts(e: &mut Env) -> Told {
    let thread = e.thread(1)?;
    let mut code = heapless::Vec::<u8, { 256 * 2 }>::new();
    for n in 0..=255 {
        let _ = code.extend_from_slice(&[0xcd, n]);
    }
    let at = e.code(&code)?;
    for n in 0..256 {
        works(e.own.start_at(&thread, at + 2 * n, 0, 0))?;
        let f = e.fault()?;
        equal((n, f.kind, f.rip), (n, FaultKind::Protection, at + 2 * n))?;
        // QEMU before 8 counts gates of 16 bytes in it.
        if ![n << 3 | 2, n << 4 | 2].contains(&f.code) {
            return why(format_args!("int {n}: {f:x?}"));
        }
    }
    for code in [&[0xcc][..], &[0xf1]] {
        let f = e.executes(code)?;
        let kinds = [FaultKind::Protection, FaultKind::Undefined, FaultKind::Other];
        if !kinds.contains(&f.kind) {
            return why(format_args!("int3, int1: {f:x?}"));
        }
    }
    Ok(())
}

fn debug_registers(e: &mut Env) -> Told {
    for n in 0..8u8 {
        for way in [0x21, 0x23] {
            let f = e.executes(&[0x0f, way, 0xc0 | n << 3])?;
            if !matches!(f.kind, FaultKind::Protection | FaultKind::Undefined) {
                return why(format_args!("dr{n}: {f:x?}"));
            }
        }
    }
    Ok(())
}

/// `popf` cannot raise the I/O privilege level, nor switch interrupts off.
fn io_privilege(e: &mut Env) -> Told {
    // push 0x3002; popf; pushf; pop rdi; mov eax, 1000; syscall
    let code = [0x68, 0x02, 0x30, 0, 0, 0x9d, 0x9c, 0x5f, 0xb8, 0xe8, 3, 0, 0, 0x0f, 0x05];
    let f = e.executes(&code)?;
    equal((f.kind, f.addr, f.code), (FaultKind::Syscall, 1000, 0x202))?;
    // push 0x3002; popf; in al, dx
    let f = e.executes(&[0x68, 0x02, 0x30, 0, 0, 0x9d, 0xec])?;
    equal(f.kind, FaultKind::Protection)
}

/// Single steps are faults of the thread, one each, and never reach the kernel's own code.
fn trap_flag(e: &mut Env) -> Told {
    // push 0x302; popf; nop; nop; mov eax, 1000; syscall; nop
    let code = [0x68, 2, 3, 0, 0, 0x9d, 0x90, 0x90, 0xb8, 0xe8, 3, 0, 0, 0x0f, 0x05, 0x90];
    let mut f = e.executes(&code)?;
    let at = f.rip - 7;
    for rip in [at + 7, at + 8, at + 13] {
        equal((f.kind, f.code, f.rip), (FaultKind::Other, 1, rip))?;
        e.go_on()?;
        f = e.fault()?;
    }
    equal((f.kind, f.addr), (FaultKind::Syscall, 1000))
}

fn rip_non_canonical(e: &mut Env) -> Told {
    let thread = e.thread(1)?;
    // jmp rdi
    let at = e.code(&[0xff, 0xe7])?;
    for to in [USER_END, 1 << 47, 1 << 62, 0xffff_7fff_ffff_ffff, 0xffff_8000_0000_0000, u64::MAX] {
        works(e.own.start_at(&thread, at, to, 0))?;
        let f = e.fault()?;
        if !matches!(f.kind, FaultKind::Protection | FaultKind::Page) {
            return why(format_args!("{to:#x}: {f:x?}"));
        }
        // It faults again and again, and nobody else does.
        e.go_on()?;
        e.fault()?;
        let write = [to, 0, 0, 0];
        let got = sys::invoke(thread.tcb, Label::ThreadWriteRegisters, write, [0; 2]);
        refused(got.map(drop), Error::Range)?;
    }
    Ok(())
}

/// A system call as the last instruction of user space: the address behind it is still canonical.
fn rip_at_the_end(e: &mut Env) -> Told {
    let frame = works(e.own.make(ObjType::Frame, PAGE_BITS))?;
    let at = e.own.addresses(1);
    works(e.own.map(frame, e.own.vspace, at, Rights::READ | Rights::WRITE, MapAttr::empty()))?;
    // mov eax, 7 (yield); syscall
    crate::raw::write_bytes(at + PAGE_SIZE - 7, &[0xb8, 7, 0, 0, 0, 0x0f, 0x05]);
    works(sys::unmap(frame))?;
    let last = USER_END - PAGE_SIZE;
    works(e.own.map(frame, e.own.vspace, last, Rights::READ, MapAttr::EXEC))?;
    let thread = e.thread(1)?;
    works(e.own.start_at(&thread, USER_END - 7, 0, 0))?;
    let f = e.fault()?;
    equal((f.kind, f.addr, f.rip), (FaultKind::Page, USER_END, USER_END))
}

fn rsp_non_canonical(e: &mut Env) -> Told {
    let thread = e.thread(1)?;
    // mov rsp, rdi; mov eax, 7; syscall; push rax
    let at = e.code(&[0x48, 0x89, 0xfc, 0xb8, 7, 0, 0, 0, 0x0f, 0x05, 0x50])?;
    for to in [0, 8, 1 << 47, 0x8000_0000_0000_0000, 0xffff_8000_0000_0000, u64::MAX] {
        works(e.own.start_at(&thread, at, to, 0))?;
        let f = e.fault()?;
        let fine = matches!(f.kind, FaultKind::Protection | FaultKind::Page);
        if !fine || f.rip != at + 10 {
            return why(format_args!("{to:#x}: {f:x?}"));
        }
    }
    for rsp in [USER_END + 1, 1 << 47, u64::MAX] {
        let got = sys::invoke(thread.tcb, Label::ThreadWriteRegisters, [at, rsp, 0, 0], [0; 2]);
        refused(got.map(drop), Error::Range)?;
    }
    Ok(())
}

fn fs_base(e: &mut Env) -> Told {
    let thread = e.thread(1)?;
    let set = |base| sys::invoke(thread.tcb, Label::ThreadSetFsBase, [base, 0, 0, 0], [0; 2]);
    for base in [USER_END, 1 << 47, 1 << 62, 0xffff_8000_0000_0000, u64::MAX] {
        refused(set(base).map(drop), Error::Range)?;
    }
    // mov rax, fs:[rdi]
    let at = e.code(&[0x64, 0x48, 0x8b, 0x07])?;
    for (base, offset) in [(0, 0x18), (0x7000, 0x10), (USER_END - 1, 1)] {
        works(set(base))?;
        works(e.own.start_at(&thread, at, offset, 0))?;
        let f = e.fault()?;
        equal((f.kind, f.addr), (FaultKind::Page, base + offset))?;
    }
    Ok(())
}

/// Two threads have the same base, and the first clears the processor's before it gives way.
fn fs_base_of_another(e: &mut Env) -> Told {
    const BASE: u64 = 0x7000;
    // xor eax, eax; mov fs, eax; mov eax, 7; syscall; ud2
    let clears = e.code(&[0x31, 0xc0, 0x8e, 0xe0, 0xb8, 7, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x0b])?;
    // mov rax, fs:[rdi]
    let reads = e.code(&[0x64, 0x48, 0x8b, 0x07])?;
    for at in [clears, reads] {
        let thread = e.thread(1)?;
        works(sys::invoke(thread.tcb, Label::ThreadSetFsBase, [BASE, 0, 0, 0], [0; 2]))?;
        works(e.own.start_at(&thread, at, 0x10, 0))?;
    }
    // Whichever is held first: the reader runs behind the one that clears, and with its own base.
    let first = e.fault()?;
    let second = e.fault()?;
    let page = if first.kind == FaultKind::Page { first } else { second };
    equal((page.kind, page.rip, page.addr), (FaultKind::Page, reads, BASE + 0x10))
}

/// The kernel's own base never stays behind.
fn gs_base(e: &mut Env) -> Told {
    for _ in 0..3 {
        // mov rax, gs:[8]
        let f = e.executes(&[0x65, 0x48, 0x8b, 0x04, 0x25, 8, 0, 0, 0])?;
        equal((f.kind, f.addr), (FaultKind::Page, 8))?;
        // mov eax, 0x1b; mov gs, eax; mov rax, gs:[8]
        let code = [0xb8, 0x1b, 0, 0, 0, 0x8e, 0xe8, 0x65, 0x48, 0x8b, 0x04, 0x25, 8, 0, 0, 0];
        let f = e.executes(&code)?;
        equal((f.kind, f.addr), (FaultKind::Page, 8))?;
    }
    Ok(())
}

fn kernel_addresses(e: &mut Env) -> Told {
    let thread = e.thread(1)?;
    // mov rax, [rdi]   mov [rdi], rax   jmp rdi
    let (read, write, jump) = (&[0x48, 0x8b, 0x07][..], &[0x48, 0x89, 0x07][..], &[0xff, 0xe7][..]);
    for (code, bits) in [(read, 0), (write, 2), (jump, 16)] {
        let at = e.code(code)?;
        for to in [
            0xffff_8000_0000_0000,
            0xffff_8000_0010_0000,
            0xffff_ffff_8000_0000,
            0xffff_ffff_8010_0000,
            0xffff_ffff_ffe0_0000,
            0xffff_ffff_ffff_f000,
        ] {
            works(e.own.start_at(&thread, at, to, 0))?;
            let f = e.fault()?;
            // User mode (bit 2); whether something is there (bit 0) says nothing about what.
            equal((f.kind, f.addr, f.code & !1), (FaultKind::Page, to, 4 | bits))?;
        }
    }
    Ok(())
}

fn fault_kinds(e: &mut Env) -> Told {
    for (name, code, kind, at) in [
        ("div", &[0x31, 0xc9, 0xf7, 0xf1][..], FaultKind::Divide, 2),
        ("ud2", &[0x0f, 0x0b], FaultKind::Undefined, 0),
        ("read 0", &[0x31, 0xc0, 0x8b, 0x00], FaultKind::Page, 2),
        ("hlt", &[0x90, 0xf4], FaultKind::Protection, 1),
    ] {
        let f = e.executes(code)?;
        if f.kind != kind || f.rip % PAGE_SIZE != at {
            return why(format_args!("{name}: {f:x?}"));
        }
    }
    Ok(())
}
