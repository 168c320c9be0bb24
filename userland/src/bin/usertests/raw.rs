//! Everything of this program that is unsafe: memory that tests map, a system call with every register
//! chosen, instructions that may fault.

use abi::PAGE_SIZE;
use core::arch::{asm, global_asm};
use libipc::start::IPC_BUFFER;

global_asm!(include_str!("probe.s"));

unsafe extern "C" {
    static probe_start: u8;
    static probe_after: u8;
    static probe_syscall: u8;
    static probe_spin: u8;
    static probe_store: u8;
    static probe_end: u8;
}

/// Places in the probe's code, by their distance from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    After,
    Syscall,
    Spin,
    Store,
}

impl Place {
    /// Bytes from the beginning.
    pub fn offset(self) -> u64 {
        let at = match self {
            Self::After => &raw const probe_after,
            Self::Syscall => &raw const probe_syscall,
            Self::Spin => &raw const probe_spin,
            Self::Store => &raw const probe_store,
        };
        at as u64 - &raw const probe_start as u64
    }
}

/// The probe's code.
pub fn probe_code() -> &'static [u8] {
    let start = &raw const probe_start;
    // SAFETY: the bytes between two labels of this program's code, which is readable and never changes.
    unsafe {
        let len = (&raw const probe_end).offset_from(start) as usize;
        assert!(len <= PAGE_SIZE as usize);
        core::slice::from_raw_parts(start, len)
    }
}

/// Reads a word of memory that the test has mapped.
pub fn read(at: u64) -> u64 {
    // SAFETY: only for addresses that are mapped and in no Rust object, or of which the fault is what
    // is tried; volatile because other threads write them.
    unsafe { (at as *const u64).read_volatile() }
}

/// Writes such a word.
pub fn write(at: u64, value: u64) {
    // SAFETY: as in `read`.
    unsafe { (at as *mut u64).write_volatile(value) }
}

/// Writes such bytes.
pub fn write_bytes(at: u64, bytes: &[u8]) {
    for (i, b) in bytes.iter().enumerate() {
        // SAFETY: as in `read`.
        unsafe { ((at + i as u64) as *mut u8).write_volatile(*b) }
    }
}

/// A word of this thread's IPC buffer.
pub fn buffer(offset: usize) -> u64 {
    IPC_BUFFER + offset as u64
}

/// Registers of a system call, in: rax rdi rsi rdx r10 r8 r9 r12 r13 r14.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    pub rax: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub words: [u64; 6],
    pub r14: u64,
}

/// What came back in rax, rdi, rsi and the first four words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Back {
    pub rax: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub words: [u64; 4],
}

/// Makes any system call at all.
pub fn syscall(c: Call) -> Back {
    let (mut rax, mut rdi, mut rsi) = (c.rax, c.rdi, c.rsi);
    let [mut w0, mut w1, mut w2, mut w3, w4, w5] = c.words;
    // SAFETY: the kernel changes these registers and this thread's IPC buffer; what else a call does is
    // for the test to know.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") rax,
            inlateout("rdi") rdi,
            inlateout("rsi") rsi,
            inlateout("rdx") w0,
            inlateout("r10") w1,
            inlateout("r8") w2,
            inlateout("r9") w3,
            in("r12") w4,
            in("r13") w5,
            in("r14") c.r14,
            clobber_abi("sysv64"),
        );
    }
    Back { rax, rdi, rsi, words: [w0, w1, w2, w3] }
}
