//! Everything of this program that is unsafe: the worker's code, and memory that it shares with workers.

use abi::PAGE_SIZE;
use core::arch::global_asm;

global_asm!(include_str!("worker.s"));

unsafe extern "C" {
    static worker_start: u8;
    static worker_end: u8;
}

/// The worker's code.
pub fn worker_code() -> &'static [u8] {
    let start = &raw const worker_start;
    // SAFETY: the bytes between two labels of this program's code, which is readable and never changes.
    unsafe {
        let len = (&raw const worker_end).offset_from(start) as usize;
        assert!(len < PAGE_SIZE as usize / 4);
        core::slice::from_raw_parts(start, len)
    }
}

/// Reads a word that a worker may write meanwhile.
pub fn read(at: u64) -> u64 {
    // SAFETY: only addresses of pages that `Pages` has mapped for good, in no Rust object.
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
