//! Everything of this program that is unsafe: what it does to memory, messages and the processor.
//!
//! Where an access is meant to be a fault, that is the point: the kernel ends the process there.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64};
use libipc::start::{IPC_BUFFER, Region};

/// A word of a region that is mapped here.
pub fn word(region: &Region, offset: usize) -> &'static AtomicU64 {
    assert!(offset.is_multiple_of(8) && offset as u64 + 8 <= region.len && region.vaddr != 0);
    // SAFETY: inside a region that init maps for the process's life; atomic. Whether it may be
    // written is what some lies are about.
    unsafe { &*((region.vaddr as usize + offset) as *const AtomicU64) }
}

/// Half of one.
pub fn half(region: &Region, offset: usize) -> &'static AtomicU32 {
    assert!(offset.is_multiple_of(4) && offset as u64 + 4 <= region.len && region.vaddr != 0);
    // SAFETY: as in `word`.
    unsafe { &*((region.vaddr as usize + offset) as *const AtomicU32) }
}

/// Puts a payload into the IPC buffer.
pub fn payload(bytes: &[u8]) {
    let len = bytes.len().min(abi::MSG_MAX);
    // SAFETY: init maps one page there for this thread; no reference into it exists.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), IPC_BUFFER as *mut u8, len) }
}

/// Names capabilities to send along.
pub fn send_caps(caps: [u64; 3]) {
    let at = IPC_BUFFER as usize + abi::ipc_buffer::SEND_CAPS;
    // SAFETY: as in `payload`; aligned.
    unsafe { (at as *mut [u64; 3]).write(caps) }
}

/// Calls, sends or whatever `number` says, with any words at all.
pub fn syscall(number: u64, cap: u64, info: u64, words: [u64; 4], second: u64) -> u64 {
    let mut rax = number;
    // SAFETY: the kernel changes this thread's registers and IPC buffer only; that it does is what
    // is tried here.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") rax,
            inlateout("rdi") cap => _,
            inlateout("rsi") info => _,
            inlateout("rdx") words[0] => _,
            inlateout("r10") words[1] => _,
            inlateout("r8") words[2] => _,
            inlateout("r9") words[3] => _,
            in("r12") 0u64,
            in("r13") 0u64,
            in("r14") second,
            clobber_abi("sysv64"),
        );
    }
    rax
}

/// Reads anywhere.
pub fn read(address: u64) -> u64 {
    // SAFETY: none: a fault ends the process, which is what is owed.
    unsafe {
        let value: u64;
        asm!("mov {}, [{}]", out(reg) value, in(reg) address);
        value
    }
}

/// Writes anywhere.
pub fn write(address: u64) {
    // SAFETY: as in `read`.
    unsafe { asm!("mov qword ptr [{}], 0", in(reg) address) }
}

/// Goes anywhere.
pub fn jump(address: u64) {
    // SAFETY: as in `read`.
    unsafe { asm!("call {}", in(reg) address, clobber_abi("sysv64")) }
}

/// Goes to the stack.
pub fn jump_to_stack() {
    // A return instruction, should it be executed after all.
    let code = [0xc3u8; 16];
    jump(core::hint::black_box(&code).as_ptr() as u64);
}

/// Instructions that are the kernel's alone.
#[derive(Clone, Copy)]
pub enum Privileged {
    Port,
    InterruptsOff,
    Halt,
    ControlRegister,
}

/// Executes one.
pub fn privileged(which: Privileged) {
    // SAFETY: as in `read`.
    unsafe {
        match which {
            Privileged::Port => asm!("in al, dx", in("dx") 0x3f8u16, out("al") _),
            Privileged::InterruptsOff => asm!("cli"),
            Privileged::Halt => asm!("hlt"),
            Privileged::ControlRegister => asm!("mov cr3, {}", in(reg) 0u64),
        }
    }
}

/// Grows the stack without end.
pub fn overflow(depth: u64) -> u64 {
    let page = core::hint::black_box([depth; 256]);
    if page[0] == u64::MAX {
        return 0;
    }
    overflow(depth + 1) + page[depth as usize % 256]
}
