//! What callgrind counts: client requests, as valgrind.h defines them for x86-64. Without valgrind
//! they do nothing.

use std::arch::asm;
use std::ffi::CString;

const TOGGLE_COLLECT: u64 = 0x4354_0002;
const DUMP_STATS_AT: u64 = 0x4354_0003;
const START_INSTRUMENTATION: u64 = 0x4354_0004;

#[inline(always)]
fn request(code: u64, argument: u64) {
    let args = [code, argument, 0, 0, 0, 0];
    // SAFETY: rotations that add up to 128 bits leave the register as it was, and an exchange of a
    // register with itself does nothing; valgrind reads the six words, and answers in RDX.
    unsafe {
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") args.as_ptr(),
            inout("rdx") 0u64 => _,
            options(nostack),
        );
    }
}

/// From now on callgrind looks at what runs (and all is slower).
pub fn begin() {
    request(START_INSTRUMENTATION, 0);
}

/// Runs `work` counted.
#[inline(always)]
pub fn count<T>(work: impl FnOnce() -> T) -> T {
    request(TOGGLE_COLLECT, 0);
    let result = work();
    request(TOGGLE_COLLECT, 0);
    result
}

/// What was counted since the last call belongs to `name`, `times` over.
pub fn end(name: &str, times: u32) {
    let name = CString::new(format!("{name} {times}")).expect("a name");
    request(DUMP_STATS_AT, name.as_ptr() as u64);
}
