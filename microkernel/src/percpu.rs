//! What each processor has for itself.
//!
//! The kernel runs on [`CPUS`] processors: one, so far. Nothing but this number says so: state that
//! belongs to a processor is in a [`PerCpu`] or in the block that the entry code reaches through GS,
//! and everything else is shared and under the kernel's lock (docs/kernel.md, "Several processors").

use core::ops::{Deref, DerefMut};

/// Processors that the kernel runs on. A machine may have more: they stay where firmware keeps them.
pub const CPUS: usize = 1;

/// Where a processor's block, in GS, holds its index.
pub const INDEX: usize = 64;

/// One `T` for each processor. Dereferences to that of the processor that runs; with one, that is a
/// fixed address.
pub struct PerCpu<T>([T; CPUS]);

impl<T> PerCpu<T> {
    /// One for each.
    pub const fn new(each: [T; CPUS]) -> Self {
        Self(each)
    }
    /// Those of all processors, under the lock.
    pub fn all_mut(&mut self) -> &mut [T; CPUS] {
        &mut self.0
    }
}

impl<T> Deref for PerCpu<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0[here()]
    }
}

impl<T> DerefMut for PerCpu<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0[here()]
    }
}

/// Index of the processor that runs.
#[inline(always)]
fn here() -> usize {
    if CPUS == 1 { 0 } else { index() }
}

#[cfg(feature = "guest")]
fn index() -> usize {
    let index: usize;
    // SAFETY: in the kernel GS is the base of this processor's block, which holds the index there
    // (asserted in `arch/cpu.rs`) and never changes it.
    unsafe {
        core::arch::asm!(
            "mov {}, gs:[{at}]", out(reg) index, at = const INDEX,
            options(nostack, pure, readonly, preserves_flags)
        );
    }
    index
}

/// On the host there is one.
#[cfg(not(feature = "guest"))]
fn index() -> usize {
    0
}
