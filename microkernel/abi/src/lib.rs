//! The kernel's binary interface: what crosses the `syscall` instruction, and nothing else.
//!
//! Shared by the kernel (which decodes it) and by `libipc` (which encodes it). The words are
//! seL4's where the concept is seL4's: CSpace, slot, badge, untyped, retype, endpoint,
//! notification, reply object, scheduling context.
//!
//! # Registers of a system call
//!
//! | register | in | out |
//! |---|---|---|
//! | `rax` | [`Syscall`] number | [`Error`] code, 0 is success |
//! | `rdi` | capability pointer ([`CPtr`]) | badge of the sender or the signalled bits |
//! | `rsi` | [`MsgInfo`] | [`MsgInfo`] |
//! | `rdx` `r10` `r8` `r9` | message words 0 to 3 | message words 0 to 3 |
//! | `r12` `r13` | words 4 and 5 (kernel invocations only) | unchanged |
//! | `r14` | second capability: reply object, or what to wait on | unchanged |
//!
//! `rcx`, `r11` and all vector registers are clobbered; every other register is preserved.
#![no_std]
#![forbid(unsafe_code)]

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

mod bootinfo;
mod fault;
mod inspect;
mod label;
mod trace;

pub use bootinfo::{
    BootInfo, Clock, IsaLine, MAX_UNTYPED, PowerOff, UntypedDesc, init_map, init_slot,
};
pub use fault::{FaultKind, NO_CONTEXT, SUPERVISOR_EXIT, SUPERVISOR_PANIC, UserRegs};
pub use inspect::{CapInfo, INSPECT_SLOTS, thread_slot};
pub use label::Label;
pub use trace::{
    TRACE_CODE_MAX, TRACE_FRAMES, TRACE_RECORD, TraceKind, TraceRecord, trace_flag, trace_state,
};

/// A capability pointer: an address in the calling thread's CSpace. 0 is never valid.
pub type CPtr = u64;

/// Bytes in one page and in the smallest frame.
pub const PAGE_SIZE: u64 = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_BITS: u8 = 12;
/// log2 of a large frame (2 MiB).
pub const LARGE_BITS: u8 = 21;
/// log2 of the size of one capability slot (32 bytes), and of the smallest object.
pub const SLOT_BITS: u8 = 5;
/// log2 of the largest untyped.
pub const UNTYPED_BITS_MAX: u8 = 45;
/// End of user space. The last page below 2^47 is never mapped, so that the address after a
/// `syscall` instruction is always canonical.
pub const USER_END: u64 = 0x0000_7fff_ffff_f000;

/// Bytes of payload that one message may carry between IPC buffers.
pub const MSG_MAX: usize = 1024;
/// Capabilities that one message may carry.
pub const CAPS_MAX: usize = 3;
/// Most CNodes on the way from the root of a CSpace to a slot. (Four of the largest resolve all 64
/// bits of a pointer.)
pub const CSPACE_DEPTH_MAX: usize = 4;
/// Most objects that one retype makes.
pub const RETYPE_MAX: u64 = 32;
/// The interrupt line (level triggered) by which refused DMA is told; it fires again after the
/// acknowledgement if records are left or were added.
pub const DMA_FAULT_LINE: u64 = 63;
/// Message words in registers.
pub const MSG_WORDS: usize = 4;

/// System calls. Numbers outside this list are an unknown-syscall fault of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Syscall {
    /// Sends and waits for the reply; on a capability to a kernel object: an invocation.
    Call = 0,
    /// Sends, waiting for a receiver. On a notification: signals.
    Send = 1,
    /// Sends if a receiver waits, else drops the message silently, as seL4 does.
    NbSend = 2,
    /// Waits for a message on an endpoint (reply object in `r14`), or for signals on a
    /// notification.
    Recv = 3,
    /// [`Syscall::Recv`] that returns [`Error::WouldBlock`] instead of waiting.
    NbRecv = 4,
    /// Replies through the reply object in `r14`, then [`Syscall::Recv`] on `rdi` with it.
    ReplyRecv = 5,
    /// Replies through the reply object in `rdi`.
    Reply = 6,
    /// Gives the processor to the next thread of the same priority.
    Yield = 7,
    /// Signals the notification in `rdi`, then waits on `r14` (a notification).
    SignalWait = 8,
    /// Acknowledges the IRQ handler in `rdi`, then waits on `r14` (a notification).
    AckWait = 9,
}

impl Syscall {
    /// The call with this number, or `None`.
    pub const fn from_raw(raw: u64) -> Option<Self> {
        Some(match raw {
            0 => Self::Call,
            1 => Self::Send,
            2 => Self::NbSend,
            3 => Self::Recv,
            4 => Self::NbRecv,
            5 => Self::ReplyRecv,
            6 => Self::Reply,
            7 => Self::Yield,
            8 => Self::SignalWait,
            9 => Self::AckWait,
            _ => return None,
        })
    }
}

/// Describes a message. Layout: bits 0..12 payload bytes, 12..14 number of capabilities,
/// 16..32 method, 32..48 interface, 48..56 interface version, 56..64 set by the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct MsgInfo(pub u64);

impl MsgInfo {
    /// Bits that only the kernel sets; it clears them in what a sender passes.
    pub const KERNEL_BITS: u64 = 0xff << 56;
    /// Kernel bit: this is no message, the badge holds signalled bits.
    pub const SIGNAL: u64 = 1 << 56;
    /// Kernel bit: this is a fault message, the badge names the thread.
    pub const FAULT: u64 = 1 << 57;

    /// A message of `method` of `interface` with `len` payload bytes and no capabilities.
    pub const fn new(interface: u16, version: u8, method: u16, len: usize) -> Self {
        Self(
            (len as u64 & 0xfff)
                | (method as u64) << 16
                | (interface as u64) << 32
                | (version as u64) << 48,
        )
    }
    /// The kernel invocation `label`.
    pub const fn invoke(label: Label) -> Self {
        Self((label as u64) << 16)
    }
    /// The same message carrying `n` capabilities (at most [`CAPS_MAX`]).
    pub const fn with_caps(self, n: usize) -> Self {
        Self(self.0 & !(3 << 12) | (n as u64 & 3) << 12)
    }
    /// Payload bytes (0..4096: the kernel refuses more than [`MSG_MAX`]).
    pub const fn len(self) -> usize {
        (self.0 & 0xfff) as usize
    }
    /// Whether there is no payload.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
    /// Capabilities carried.
    pub const fn caps(self) -> usize {
        (self.0 >> 12 & 3) as usize
    }
    /// Method number, or the [`Label`] of an invocation.
    pub const fn method(self) -> u16 {
        (self.0 >> 16) as u16
    }
    /// Interface number.
    pub const fn interface(self) -> u16 {
        (self.0 >> 32) as u16
    }
    /// Interface version.
    pub const fn version(self) -> u8 {
        (self.0 >> 48) as u8
    }
    /// Whether this reports signals rather than a message.
    pub const fn is_signal(self) -> bool {
        self.0 & Self::SIGNAL != 0
    }
    /// Whether this is a fault message made by the kernel.
    pub const fn is_fault(self) -> bool {
        self.0 & Self::FAULT != 0
    }
}

impl core::fmt::Debug for MsgInfo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "MsgInfo({:#x}.{} v{}, {} bytes, {} caps{}{})",
            self.interface(),
            self.method(),
            self.version(),
            self.len(),
            self.caps(),
            if self.is_signal() { ", signal" } else { "" },
            if self.is_fault() { ", fault" } else { "" }
        )
    }
}

/// What a system call returns in `rax`. The variant says whose mistake it was and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u64)]
pub enum Error {
    /// No capability at this address (empty slot, wrong guard, address too short or too long).
    InvalidCap = 1,
    /// A capability argument is of the wrong object type, or the object has no such method.
    WrongType = 2,
    /// The capability lacks the right that the call needs.
    NoRights = 3,
    /// An argument is out of its range.
    Range = 4,
    /// An address or size is not aligned as it must be.
    Alignment = 5,
    /// The destination slot or address is in use: delete or unmap first.
    Occupied = 6,
    /// The untyped has too little memory left; or there is no number left for another VSpace or
    /// IoSpace (for the latter: or no IOMMU).
    NoMemory = 7,
    /// A page table is missing at this address; word 0 says which level (1 to 3).
    NoTable = 8,
    /// The object is already in use where this call needs it free (mapped, bound).
    Busy = 9,
    /// Nothing to receive now.
    WouldBlock = 10,
    /// The server died or was restarted before it replied: the call may or may not have acted.
    ServerDied = 11,
    /// The thread's wait was cancelled (suspended, or the object it waited on was deleted).
    Cancelled = 12,
    /// The server is down and nobody is about to start it: the call did nothing. Do without, or ask
    /// later.
    OutOfService = 13,
    /// The thread has no IPC buffer, and the call needs one.
    NoBuffer = 14,
}

impl Error {
    /// Decodes `rax`: `None` is success; unknown codes read as [`Error::Range`].
    pub const fn from_raw(raw: u64) -> Option<Self> {
        Some(match raw {
            0 => return None,
            1 => Self::InvalidCap,
            2 => Self::WrongType,
            3 => Self::NoRights,
            5 => Self::Alignment,
            6 => Self::Occupied,
            7 => Self::NoMemory,
            8 => Self::NoTable,
            9 => Self::Busy,
            10 => Self::WouldBlock,
            11 => Self::ServerDied,
            12 => Self::Cancelled,
            13 => Self::OutOfService,
            14 => Self::NoBuffer,
            _ => Self::Range,
        })
    }
}

bitflags! {
    /// Rights of a capability. Copying can only remove them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub struct Rights: u8 {
        /// Receive, wait; map readable.
        const READ = 1;
        /// Send, signal; map writable.
        const WRITE = 2;
        /// Send capabilities along with messages; map executable.
        const GRANT = 4;
    }
}

bitflags! {
    /// How a frame is mapped, besides its rights.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct MapAttr: u8 {
        /// Instructions may be fetched from it. Refused together with a writable mapping.
        const EXEC = 1;
        /// Not cached: device registers.
        const UNCACHED = 2;
    }
}

/// Object types, as named by `Untyped::Retype` and reported in traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum ObjType {
    /// Memory without a purpose yet. `size_bits`: log2 of its bytes ([`SLOT_BITS`] to [`UNTYPED_BITS_MAX`]).
    Untyped = 1,
    /// A table of 2^`size_bits` capability slots.
    CNode = 2,
    /// A thread (TCB).
    Thread = 3,
    /// Holds the right to answer one caller.
    Reply = 4,
    /// A rendezvous for messages.
    Endpoint = 5,
    /// A word of signal bits.
    Notification = 6,
    /// The right to run: budget and period.
    SchedContext = 7,
    /// A top-level page table (PML4).
    VSpace = 8,
    /// A lower page table; its level is fixed by where it is mapped.
    PageTable = 9,
    /// Memory that can be mapped. `size_bits` is 12 or 21.
    Frame = 10,
    /// A one-shot timer.
    Timer = 11,
    /// One interrupt line. Made by `IrqControl::Get`, not by retype.
    IrqHandler = 12,
    /// A range of I/O ports. Narrowed by mint.
    IoPort = 13,
    /// The right to make IRQ handlers.
    IrqControl = 14,
    /// The kernel's trace: read right: how much there is; write: to log; grant: everything.
    Trace = 15,
    /// What a device reaches by DMA: the top-level page table of a domain.
    IoSpace = 16,
    /// The right to say which device has which IoSpace, and to hear of transfers that were refused.
    IoControl = 17,
}

impl ObjType {
    /// The type with this number, or `None`.
    pub const fn from_raw(raw: u64) -> Option<Self> {
        Some(match raw {
            1 => Self::Untyped,
            2 => Self::CNode,
            3 => Self::Thread,
            4 => Self::Reply,
            5 => Self::Endpoint,
            6 => Self::Notification,
            7 => Self::SchedContext,
            8 => Self::VSpace,
            9 => Self::PageTable,
            10 => Self::Frame,
            11 => Self::Timer,
            12 => Self::IrqHandler,
            13 => Self::IoPort,
            14 => Self::IrqControl,
            15 => Self::Trace,
            16 => Self::IoSpace,
            17 => Self::IoControl,
            _ => return None,
        })
    }

    /// log2 of the bytes an object takes, for `size_bits` as given to retype. `None`: the type
    /// cannot be retyped, or not in that size.
    pub const fn bits(self, size_bits: u8) -> Option<u8> {
        Some(match self {
            Self::Untyped if size_bits >= SLOT_BITS && size_bits <= UNTYPED_BITS_MAX => size_bits,
            Self::CNode if size_bits >= 1 && size_bits <= 16 => size_bits + SLOT_BITS,
            Self::Thread => 11,
            Self::Reply => 5,
            Self::Endpoint => 5,
            Self::Notification => 6,
            Self::SchedContext => 8,
            Self::Timer => 7,
            Self::VSpace | Self::PageTable | Self::IoSpace => PAGE_BITS,
            Self::Frame if size_bits == PAGE_BITS || size_bits == LARGE_BITS => size_bits,
            _ => return None,
        })
    }
}

/// Layout of a thread's IPC buffer (one frame).
pub mod ipc_buffer {
    /// Payload bytes start here; [`super::MSG_MAX`] of them.
    pub const PAYLOAD: usize = 0;
    /// Capability pointers to send ([`super::CAPS_MAX`] u64). After a receive: a u64 count of
    /// capabilities that arrived, at [`RECEIVED`].
    pub const SEND_CAPS: usize = 1024;
    /// Number of capabilities that arrived with the last message (u64, written by the kernel).
    pub const RECEIVED: usize = 1048;
    /// Capability pointer of the CNode that receives capabilities (u64, 0: refuse them).
    pub const RECV_CNODE: usize = 1056;
    /// First slot in it (u64).
    pub const RECV_INDEX: usize = 1064;
    /// Register dumps (`Thread::ReadRegisters`) are written here.
    pub const REGS: usize = 2048;
}
