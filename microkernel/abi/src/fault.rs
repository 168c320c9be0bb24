//! Faults: what the kernel tells a thread's fault endpoint.

use serde::{Deserialize, Serialize};

/// Why a thread stopped. The fault message has [`crate::MsgInfo::FAULT`] set, this kind as its
/// method, and the words: instruction pointer, address (page faults) or number (unknown system
/// calls), hardware error code, time of the fault in ns since boot. A reply resumes the thread; registers are read and
/// written through its TCB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum FaultKind {
    /// #PF: the second word is the address, the third the error code (bit 1: write, bit 4: fetch).
    Page = 1,
    /// #GP, #SS, #NP, #TS.
    Protection = 2,
    /// #UD.
    Undefined = 3,
    /// #DE.
    Divide = 4,
    /// A system call number that does not exist. [`SUPERVISOR_EXIT`] and [`SUPERVISOR_PANIC`] are
    /// such numbers by agreement between programs and their supervisor.
    Syscall = 5,
    /// Any other exception; the third word is its vector.
    Other = 6,
    /// Goes to the time-out endpoint, if there is one: the budget of the scheduling context is used
    /// up. The second word is what it was charged so far, ns, the third the badge of the context;
    /// [`NO_CONTEXT`]: the thread has lost the context that it was lent, and needs one to go on.
    Budget = 7,
}

impl FaultKind {
    /// The kind with this number, or `None`.
    pub const fn from_raw(raw: u16) -> Option<Self> {
        Some(match raw {
            1 => Self::Page,
            2 => Self::Protection,
            3 => Self::Undefined,
            4 => Self::Divide,
            5 => Self::Syscall,
            6 => Self::Other,
            7 => Self::Budget,
            _ => return None,
        })
    }
}

/// In place of a context's badge: there is none.
pub const NO_CONTEXT: u64 = u64::MAX;

/// System call number by which a program tells its supervisor that it has ended; `rdi`: status.
pub const SUPERVISOR_EXIT: u64 = 0x1_0000_0001;
/// System call number by which a program reports a panic; the text is in its log page.
pub const SUPERVISOR_PANIC: u64 = 0x1_0000_0002;

/// A thread's registers as `Thread::ReadRegisters` writes them (20 u64).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
#[allow(missing_docs)]
pub struct UserRegs {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}
