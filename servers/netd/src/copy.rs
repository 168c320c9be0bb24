//! Copy-and-checksum routines on raw addresses, for [`netd::env::Env`]. The stack's measurements use
//! them, too.
//!
//! Loads and stores are instructions of their own: another process may write to the source at the
//! same time, and whatever is read is copied and summed from the same register.

use core::arch::asm;

use netd::env::At;
use netd::wire::checksum::Sum;

/// Bytes that the vector loop moves in one turn.
const BLOCK: usize = 128;
/// Most of them at a time, see [`copy_blocks`].
const BLOCKS: usize = 14;

/// Copies and sums in one pass.
#[inline]
pub fn copy_sum(from: At<'_>, to: At<'_>, len: usize) -> Option<Sum> {
    let (src, dst) = (from.0.range(from.1, len)?, to.0.range(to.1, len)?);
    let (mut src, mut dst, mut left) = (src as *const u8, dst, len);
    let mut sum = 0;
    while left >= BLOCK {
        let blocks = (left / BLOCK).min(BLOCKS);
        // SAFETY: `range` checked `len` bytes on both sides, of which `left` are left.
        unsafe {
            sum += copy_blocks(src, dst, blocks);
            (src, dst) = (src.add(blocks * BLOCK), dst.add(blocks * BLOCK));
        }
        left -= blocks * BLOCK;
    }
    // SAFETY: likewise.
    Some(Sum::from_raw(unsafe { sum + copy_rest(src, dst, left) }))
}

/// Copies `blocks` times [`BLOCK`] bytes, 1 to [`BLOCKS`], by SSE2, and sums them as 16-bit words.
///
/// Of each of eight columns of words it keeps the sum modulo 2^16 and, apart, the sum in units of 256: of eight
/// words their average (three rounds of `pavgw`, each at most half too much) by 32, rounded down. That is wrong
/// by less than 256 a block, so the sum is the number nearest to it that has the right remainder. Fourteen
/// blocks are as many as keep the columns below 2^15, where words are positive for `pmaddwd`.
///
/// # Safety
/// So many bytes can be read at `src` and written at `dst`. The ranges lie in different regions, or at
/// least do not overlap within a block that is still to be read.
#[inline]
unsafe fn copy_blocks(src: *const u8, dst: *mut u8, blocks: usize) -> u64 {
    let sum: u32;
    // SAFETY: the caller promises the ranges; only these registers are touched.
    unsafe {
        asm!(
            "pxor xmm8, xmm8",
            "pxor xmm9, xmm9",
            "2:",
            "movdqu xmm0, [{src}]",
            "movdqu xmm1, [{src} + 16]",
            "movdqu xmm2, [{src} + 32]",
            "movdqu xmm3, [{src} + 48]",
            "movdqu xmm4, [{src} + 64]",
            "movdqu xmm5, [{src} + 80]",
            "movdqu xmm6, [{src} + 96]",
            "movdqu xmm7, [{src} + 112]",
            "movdqu [{dst}], xmm0",
            "movdqu [{dst} + 16], xmm1",
            "movdqu [{dst} + 32], xmm2",
            "movdqu [{dst} + 48], xmm3",
            "movdqu [{dst} + 64], xmm4",
            "movdqu [{dst} + 80], xmm5",
            "movdqu [{dst} + 96], xmm6",
            "movdqu [{dst} + 112], xmm7",
            "paddw xmm8, xmm0",
            "paddw xmm8, xmm1",
            "paddw xmm8, xmm2",
            "paddw xmm8, xmm3",
            "paddw xmm8, xmm4",
            "paddw xmm8, xmm5",
            "paddw xmm8, xmm6",
            "paddw xmm8, xmm7",
            "pavgw xmm0, xmm1",
            "pavgw xmm2, xmm3",
            "pavgw xmm4, xmm5",
            "pavgw xmm6, xmm7",
            "pavgw xmm0, xmm2",
            "pavgw xmm4, xmm6",
            "pavgw xmm0, xmm4",
            "psrlw xmm0, 5",
            "paddw xmm9, xmm0",
            "add {src}, 128",
            "add {dst}, 128",
            "dec {n:e}",
            "jnz 2b",
            // By how much each column differs from 256 times its estimate, and both together.
            "movdqa xmm0, xmm9",
            "psllw xmm0, 8",
            "psubw xmm8, xmm0",
            "pcmpeqw xmm1, xmm1",
            "psrlw xmm1, 15",
            "pmaddwd xmm8, xmm1",
            "psllw xmm1, 8",
            "pmaddwd xmm9, xmm1",
            "paddd xmm8, xmm9",
            "pshufd xmm0, xmm8, 0x4e",
            "paddd xmm8, xmm0",
            "pshufd xmm0, xmm8, 0xb1",
            "paddd xmm8, xmm0",
            "movd {sum:e}, xmm8",
            src = inout(reg) src => _,
            dst = inout(reg) dst => _,
            n = inout(reg) blocks => _,
            sum = lateout(reg) sum,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
            out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _,
            options(nostack),
        );
    }
    sum as u64
}

/// Copies the last `len` bytes, fewer than [`BLOCK`], and sums them.
///
/// # Safety
/// As [`copy_blocks`].
#[inline]
unsafe fn copy_rest(mut src: *const u8, mut dst: *mut u8, len: usize) -> u64 {
    let mut sum = 0u64;
    let mut pairs = len / 16;
    // SAFETY: the caller promises `len` bytes; each piece lies behind the one before.
    unsafe {
        if pairs > 0 {
            asm!(
                "xor {a:e}, {a:e}", // also clears the carry
                "2:",
                "mov {a}, [{src}]",
                "mov {b}, [{src} + 8]",
                "adc {sum}, {a}",
                "adc {sum}, {b}",
                "mov [{dst}], {a}",
                "mov [{dst} + 8], {b}",
                "lea {src}, [{src} + 16]", // leaves the carry alone
                "lea {dst}, [{dst} + 16]",
                "dec {n:e}", // likewise
                "jnz 2b",
                "adc {sum}, 0",
                a = out(reg) _,
                b = out(reg) _,
                src = inout(reg) src,
                dst = inout(reg) dst,
                sum = inout(reg) sum,
                n = inout(reg) pairs,
                options(nostack),
            );
            // To 33 bits: there is more to be added.
            sum = (sum & 0xffff_ffff) + (sum >> 32);
        }
        let _ = pairs;
        if len & 8 != 0 {
            let word: u64;
            asm!(
                "mov {w}, [{src}]",
                "mov [{dst}], {w}",
                w = out(reg) word,
                src = in(reg) src,
                dst = in(reg) dst,
                options(nostack, preserves_flags)
            );
            sum += (word & 0xffff_ffff) + (word >> 32);
            (src, dst) = (src.add(8), dst.add(8));
        }
        sum + copy_tail(src, dst, len % 8)
    }
}

/// Copies the last `len` bytes, fewer than eight, and sums them.
///
/// # Safety
/// As [`copy_blocks`].
#[inline]
unsafe fn copy_tail(mut src: *const u8, mut dst: *mut u8, len: usize) -> u64 {
    let mut sum = 0u64;
    // SAFETY: the caller promises `len` bytes; each piece lies behind the one before.
    unsafe {
        if len & 4 != 0 {
            let word: u32;
            asm!(
                "mov {w:e}, [{src}]",
                "mov [{dst}], {w:e}",
                w = out(reg) word,
                src = in(reg) src,
                dst = in(reg) dst,
                options(nostack, preserves_flags)
            );
            sum += word as u64;
            (src, dst) = (src.add(4), dst.add(4));
        }
        if len & 2 != 0 {
            let word: u32;
            asm!(
                "movzx {w:e}, word ptr [{src}]",
                "mov [{dst}], {w:x}",
                w = out(reg) word,
                src = in(reg) src,
                dst = in(reg) dst,
                options(nostack, preserves_flags)
            );
            sum += word as u64;
            (src, dst) = (src.add(2), dst.add(2));
        }
        if len & 1 != 0 {
            let word: u32;
            asm!(
                "movzx {w:e}, byte ptr [{src}]",
                "mov [{dst}], {w:l}",
                w = out(reg_abcd) word,
                src = in(reg) src,
                dst = in(reg) dst,
                options(nostack, preserves_flags)
            );
            sum += word as u64;
        }
    }
    sum
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
