//! Bounded system calls: long operations stop after some work and are restarted.
//!
//! An operation whose length user code controls (clearing memory, deleting, revoking, waking all
//! who wait) accounts for each step *before* it takes it, and each step leaves its progress in the
//! objects: a zombie counts down, an untyped remembers how much behind its watermark is clear, a
//! queue gets shorter. When an entry has done enough, [`Preempted`] unwinds it, and the thread is
//! set back onto its `syscall` instruction with its registers as they were. It leaves the kernel,
//! the interrupts that came are taken, and when the thread runs again it makes the call again,
//! which is decoded and checked from the start and finds less to do.
//!
//! The bound is a count, not a look at the interrupt controller: that costs an exit to the
//! hypervisor or several device reads, gives another result on every machine, and what it saves,
//! a return to user mode every [`WORK`] instructions, is a few percent.
//!
//! Nothing is held between two parts: whatever other threads do meanwhile, they find objects in
//! one of the states that these modules describe, and so does the restarted call.

use abi::Error;

use crate::thread::Tcb;
use crate::{Kernel, Obj, Platform};

/// Instructions, about, that an entry may spend in long operations; the way in and out, decoding
/// and the last step come on top.
pub const WORK: u32 = 3000;

/// Instructions, about, of waking a thread.
pub const WAKE: u32 = 280;

/// The operation has done its share of work in this entry, and is to be restarted.
pub struct Preempted;

/// Why an invocation ended early.
pub enum Stop {
    /// It failed, with word 0 of the answer.
    Failed(Error, u64),
    /// It is to be restarted.
    Preempted,
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Self::Failed(e, 0)
    }
}

impl From<(Error, u64)> for Stop {
    fn from((e, word): (Error, u64)) -> Self {
        Self::Failed(e, word)
    }
}

impl From<Preempted> for Stop {
    fn from(Preempted: Preempted) -> Self {
        Self::Preempted
    }
}

impl<P: Platform> Kernel<P> {
    /// Accounts for a step of about `cost` instructions. The first one of an entry is always
    /// granted, so that every restart gets somewhere: the step must follow, and leave a trace.
    ///
    /// # Errors
    /// [`Preempted`] if the entry has done enough.
    pub(crate) fn work(&mut self, cost: u32) -> Result<(), Preempted> {
        let spent = self.cpu.work;
        if spent != 0 && spent + cost > self.hw.work_limit() {
            return Err(Preempted);
        }
        self.cpu.work = spent + cost;
        Ok(())
    }
}

/// Sets `t` back onto the `syscall` instruction (two bytes) that it made its call with. The call
/// has changed none of its registers but those that the instruction itself clobbers.
pub(crate) fn restart(t: Obj<Tcb>) {
    t.with_regs(|r| r.rip = r.rip.wrapping_sub(2));
}
