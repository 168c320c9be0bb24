//! Looks whether the kernel keeps vector registers apart: started twice, as `registers-a` and
//! `registers-b`, which run at the same priority and take turns.
//!
//! Each round fills XMM, MXCSR and MMX registers with its own pattern and then
//! 1. makes a native call that blocks: afterwards XMM0..15 must be zero (such a call clobbers them),
//!    and MM0..7 zero or its own;
//! 2. spins through several time slices without a call: XMM0..15 and MXCSR must be its own, and
//!    MM0..7 zero or its own (programs declare to use SSE only).
//!
//! Anything else came from the kernel or from the other process.
#![no_std]
#![no_main]

use core::arch::asm;
use libipc::sys;

rt::entry!(main);

const ROUNDS: u32 = 40;
/// MXCSR with rounding towards zero, all exceptions masked.
const MXCSR: u32 = 0x7f80;

/// What was found in the registers.
#[repr(C, align(16))]
struct Found {
    xmm: [u64; 32],
    mm: [u64; 8],
    mxcsr: u32,
}

/// Fills the registers, does `$what`, stores them to `$found`.
macro_rules! round {
    ($pattern:expr, $found:expr, $what:literal, $($operands:tt)*) => {
        asm!(
            "movq xmm0, {pattern}",
            "punpcklqdq xmm0, xmm0",
            "movq mm0, {pattern}",
            "movaps xmm1, xmm0", "movaps xmm2, xmm0", "movaps xmm3, xmm0", "movaps xmm4, xmm0",
            "movaps xmm5, xmm0", "movaps xmm6, xmm0", "movaps xmm7, xmm0", "movaps xmm8, xmm0",
            "movaps xmm9, xmm0", "movaps xmm10, xmm0", "movaps xmm11, xmm0", "movaps xmm12, xmm0",
            "movaps xmm13, xmm0", "movaps xmm14, xmm0", "movaps xmm15, xmm0",
            "movq mm1, mm0", "movq mm2, mm0", "movq mm3, mm0", "movq mm4, mm0",
            "movq mm5, mm0", "movq mm6, mm0", "movq mm7, mm0",
            "ldmxcsr [{mxcsr}]",
            $what,
            "movaps [{found}], xmm0", "movaps [{found} + 16], xmm1",
            "movaps [{found} + 32], xmm2", "movaps [{found} + 48], xmm3",
            "movaps [{found} + 64], xmm4", "movaps [{found} + 80], xmm5",
            "movaps [{found} + 96], xmm6", "movaps [{found} + 112], xmm7",
            "movaps [{found} + 128], xmm8", "movaps [{found} + 144], xmm9",
            "movaps [{found} + 160], xmm10", "movaps [{found} + 176], xmm11",
            "movaps [{found} + 192], xmm12", "movaps [{found} + 208], xmm13",
            "movaps [{found} + 224], xmm14", "movaps [{found} + 240], xmm15",
            "movq [{found} + 256], mm0", "movq [{found} + 264], mm1",
            "movq [{found} + 272], mm2", "movq [{found} + 280], mm3",
            "movq [{found} + 288], mm4", "movq [{found} + 296], mm5",
            "movq [{found} + 304], mm6", "movq [{found} + 312], mm7",
            "stmxcsr [{found} + 320]",
            "emms",
            "ldmxcsr [{default}]",
            pattern = in(reg) $pattern,
            found = in(reg) $found,
            mxcsr = in(reg) &MXCSR,
            default = in(reg) &0x1f80u32,
            $($operands)*
        )
    };
}

fn main(start: &'static rt::StartInfo) -> u64 {
    let events = start.cap("events").expect("capability events");
    let timer = start.cap("timer").expect("capability timer");
    let last = start.name.as_bytes().last().copied().unwrap_or(0) as u64;
    let own = last * 0x0101_0101_0101_0101;
    for _ in 0..ROUNDS {
        let mut found = Found { xmm: [1; 32], mm: [1; 8], mxcsr: 0 };
        let _ = sys::arm(timer, start.now_ns() + 1_000_000);
        // SAFETY: `Recv` on the notification; the vector registers are declared clobbered.
        unsafe {
            round!(own, &mut found, "syscall",
                inout("rax") abi::Syscall::Recv as u64 => _, inout("rdi") events => _,
                inout("rsi") 0u64 => _, in("r14") 0u64,
                out("rdx") _, out("rcx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
                out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _,
                out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _,
                out("xmm15") _, out("mm0") _, out("mm1") _, out("mm2") _, out("mm3") _,
                out("mm4") _, out("mm5") _, out("mm6") _, out("mm7") _);
        }
        assert!(found.xmm == [0; 32], "XMM after a call: {:x?}", found.xmm);
        assert!(found.mm.iter().all(|m| *m == 0 || *m == own), "MM: {:x?}", found.mm);

        // SAFETY: spins on the time-stamp counter; the vector registers are declared clobbered.
        unsafe {
            round!(own, &mut found,
                "2: rdtsc\n shl rdx, 32\n or rax, rdx\n cmp rax, {until}\n jb 2b",
                until = in(reg) sys::rdtsc() + ticks(start, 12_000_000),
                out("rax") _, out("rdx") _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
                out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _,
                out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _,
                out("xmm15") _, out("mm0") _, out("mm1") _, out("mm2") _, out("mm3") _,
                out("mm4") _, out("mm5") _, out("mm6") _, out("mm7") _);
        }
        assert!(found.xmm == [own; 32], "XMM after preemption: {:x?}", found.xmm);
        assert!(
            found.mxcsr & 0xffc0 == MXCSR & 0xffc0,
            "MXCSR after preemption: {:x}",
            found.mxcsr
        );
        assert!(found.mm.iter().all(|m| *m == 0 || *m == own), "MM: {:x?}", found.mm);
    }
    rt::log!("vector registers kept apart in {ROUNDS} rounds");
    0
}

/// Counter ticks in `ns`.
fn ticks(start: &rt::StartInfo, ns: u64) -> u64 {
    (((ns as u128) << 32) / start.clock.mult.max(1) as u128) as u64
}
