//! Copy-and-checksum routines on raw addresses, for [`netd::env::Env`]. The stack's measurements use
//! them, too.

use core::arch::asm;

use netd::env::At;
use netd::wire::checksum::Sum;

/// Bytes that [`copy_sum`] moves in one turn.
const COPY_BLOCK: usize = 64;

/// Copies and sums in one pass, by words and their carry chain.
pub fn copy_sum(from: At<'_>, to: At<'_>, len: usize) -> Option<Sum> {
    let (src, dst) = (from.0.range(from.1, len)?, to.0.range(to.1, len)?);
    let (mut src, mut dst) = (src as *const u8, dst);
    let (mut blocks, rest) = (len / COPY_BLOCK, len % COPY_BLOCK);
    let mut sum = 0u64;
    if blocks > 0 {
        // SAFETY: `range` checked `len` bytes on both sides; the ranges lie in different regions or
        // at least do not overlap within a block that is still to be read (frames to ourselves are
        // copied between distinct buffers). Raw loads and stores: a peer may write at the same
        // time, and whatever is read is copied and summed from the same register.
        unsafe {
            asm!(
                "xor {a:e}, {a:e}", // also clears the carry
                "2:",
                "mov {a}, [{src}]",
                "adc {sum}, {a}",
                "mov [{dst}], {a}",
                "mov {b}, [{src} + 8]",
                "adc {sum}, {b}",
                "mov [{dst} + 8], {b}",
                "mov {a}, [{src} + 16]",
                "adc {sum}, {a}",
                "mov [{dst} + 16], {a}",
                "mov {b}, [{src} + 24]",
                "adc {sum}, {b}",
                "mov [{dst} + 24], {b}",
                "mov {a}, [{src} + 32]",
                "adc {sum}, {a}",
                "mov [{dst} + 32], {a}",
                "mov {b}, [{src} + 40]",
                "adc {sum}, {b}",
                "mov [{dst} + 40], {b}",
                "mov {a}, [{src} + 48]",
                "adc {sum}, {a}",
                "mov [{dst} + 48], {a}",
                "mov {b}, [{src} + 56]",
                "adc {sum}, {b}",
                "mov [{dst} + 56], {b}",
                "lea {src}, [{src} + 64]", // leaves the carry alone
                "lea {dst}, [{dst} + 64]",
                "dec {n}", // likewise
                "jnz 2b",
                "adc {sum}, 0",
                a = out(reg) _,
                b = out(reg) _,
                src = inout(reg) src,
                dst = inout(reg) dst,
                sum = inout(reg) sum,
                n = inout(reg) blocks,
                options(nostack),
            );
        }
    }
    let _ = blocks;
    let mut tail = [0u8; COPY_BLOCK];
    // SAFETY: the last `rest` bytes of both ranges; `tail` is a local, so what is summed below is
    // what is stored.
    unsafe {
        core::ptr::copy_nonoverlapping(src, tail.as_mut_ptr(), rest);
        core::ptr::copy_nonoverlapping(tail.as_ptr(), dst, rest);
    }
    Some(Sum::from_raw(sum).bytes(&tail[..rest]))
}

/// Sums in place.
pub fn sum(from: At<'_>, len: usize) -> Option<Sum> {
    let mut src = from.0.range(from.1, len)? as *const u8;
    let (mut blocks, rest) = (len / 32, len % 32);
    let mut sum = 0u64;
    if blocks > 0 {
        // SAFETY: as in `copy_sum`.
        unsafe {
            asm!(
                "test {n}, {n}", // clears the carry
                "2:",
                "adc {sum}, [{src}]",
                "adc {sum}, [{src} + 8]",
                "adc {sum}, [{src} + 16]",
                "adc {sum}, [{src} + 24]",
                "lea {src}, [{src} + 32]",
                "dec {n}",
                "jnz 2b",
                "adc {sum}, 0",
                src = inout(reg) src,
                sum = inout(reg) sum,
                n = inout(reg) blocks,
                options(nostack, readonly),
            );
        }
    }
    let _ = blocks;
    let mut tail = [0u8; 32];
    // SAFETY: the last `rest` bytes of the range.
    unsafe { core::ptr::copy_nonoverlapping(src, tail.as_mut_ptr(), rest) };
    Some(Sum::from_raw(sum).bytes(&tail[..rest]))
}
