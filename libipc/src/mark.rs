//! Marks: what a program of `image/bench.toml` is about to ask of the kernel, told to the counting
//! plugin of the image tool.

/// A call of 0, 64 and 512 bytes.
pub const CALL: [u32; 3] = [1, 2, 3];
/// A reply of 0, 64 and 512 bytes, followed by a receive.
pub const REPLY: [u32; 3] = [4, 5, 6];
/// Signal, nobody waits.
pub const SIGNAL: u32 = 10;
/// Signal that wakes a more urgent thread.
pub const SIGNAL_WAKES: u32 = 11;
/// Wait that blocks.
pub const WAIT: u32 = 12;
/// Signal and wait, in one call.
pub const SIGNAL_WAIT: u32 = 13;
/// Nothing: an interrupt is to come.
pub const IRQ: u32 = 14;
/// Acknowledgement of an interrupt.
pub const ACK: u32 = 15;
/// Acknowledgement and wait, in one call.
pub const ACK_WAIT: u32 = 16;
/// A reply to a fault, and then the next fault.
pub const FAULT: u32 = 17;
/// A call to a passive server.
pub const PASSIVE_CALL: u32 = 20;
/// Its reply, followed by a receive.
pub const PASSIVE_REPLY: u32 = 21;
/// A page is mapped.
pub const MAP: u32 = 19;
/// None of these.
pub const NOTHING: u32 = 0;

/// Payloads of [`CALL`] and [`REPLY`], bytes.
pub const PAYLOADS: [usize; 3] = [0, 64, 512];
/// How often each is done.
pub const TIMES: u64 = 1000;
/// How many interrupts there are.
pub const INTERRUPTS: u64 = 100;

/// What is added to a mark's number in the displacement of the instruction.
pub const BASE: u32 = 0x4257_0000;

/// Says that what follows is `N`: an instruction that does nothing but carries the number.
#[inline(always)]
#[allow(unsafe_code)]
pub fn mark<const N: u32>() {
    // SAFETY: a NOP.
    unsafe {
        core::arch::asm!(
            "nop dword ptr [rax + {mark}]",
            mark = const BASE + N,
            options(nomem, nostack, preserves_flags)
        );
    }
}
