//! Records of a trace: what the kernel writes into the ring that the holder of the trace
//! capability gave it.
//!
//! A record has four words: the time-stamp counter, a head, and two words whose meaning depends on
//! the kind. Head: bits 0..4 kind, 4..8 flags, 8..16 tag, 16..32 code, 32..64 thread.
//!
//! Threads are named by the number that their supervisor gave them
//! ([`crate::Label::ThreadSetName`]), 0 is none; objects by the lower half of the number that
//! [`crate::Label::CNodeInspect`] shows too.

use crate::MsgInfo;

/// Bytes of a record.
pub const TRACE_RECORD: u64 = 32;
/// Frames that a ring may have.
pub const TRACE_FRAMES: usize = 8;
/// Largest code of [`crate::Label::TraceLog`].
pub const TRACE_CODE_MAX: u64 = 0xffff;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TraceKind {
    /// `thread` begins to run (0: nobody). Flags: what the one before does now, as
    /// [`trace_state`]. `a`: the one before.
    Switch = 1,
    /// A message of `thread` reached its receiver. Flags: [`trace_flag`]. Tag: the first byte of
    /// the payload, which names the request in the interfaces of `libipc`. Code: the lowest 16
    /// bits of the badge. `a`: receiver, endpoint << 32. `b`: the message's word
    /// ([`crate::MsgInfo`]) as the sender gave it.
    Message = 2,
    /// `thread` waits in the endpoint's queue with a message. As [`TraceKind::Message`], without
    /// a receiver.
    Queued = 3,
    /// `thread` has answered a call or a fault. As [`TraceKind::Message`]; `a` is the caller. With
    /// [`trace_flag::DIED`] nobody answers any more.
    Reply = 4,
    /// A notification was signalled while `thread` ran. `a`: the thread that it woke,
    /// notification << 32. `b`: badge.
    Signal = 5,
    /// An interrupt line fired while `thread` ran. `a`: line, the notification that it signals << 32.
    /// `b`: badge.
    Irq = 6,
    /// `thread` acknowledged interrupt line `a`.
    IrqAck = 7,
    /// A timer fired. `a`: timer << 32. `b`: badge of its signal.
    Timer = 8,
    /// `thread` faulted. Flags: [`crate::FaultKind`]. `a`: address or system-call number, `b`:
    /// instruction pointer.
    Fault = 9,
    /// `thread` was given its name: `a`, `b`.
    Named = 10,
    /// `thread` logged `a` and `b` by [`crate::Label::TraceLog`]. Code: its code.
    User = 11,
}

impl TraceKind {
    /// The kind with this number, or `None`.
    pub const fn from_raw(raw: u8) -> Option<Self> {
        Some(match raw {
            1 => Self::Switch,
            2 => Self::Message,
            3 => Self::Queued,
            4 => Self::Reply,
            5 => Self::Signal,
            6 => Self::Irq,
            7 => Self::IrqAck,
            8 => Self::Timer,
            9 => Self::Fault,
            10 => Self::Named,
            11 => Self::User,
            _ => return None,
        })
    }
}

/// Flags of messages and replies.
pub mod trace_flag {
    /// The sender waits for a reply.
    pub const CALL: u8 = 1;
    /// It is a fault message.
    pub const FAULT: u8 = 2;
    /// The server died: the caller goes on without an answer.
    pub const DIED: u8 = 4;
}

/// What a thread does that runs no more.
pub mod trace_state {
    /// Stopped, or there was none.
    pub const STOPPED: u8 = 0;
    /// It would run on: another one goes first.
    pub const PREEMPTED: u8 = 1;
    /// Waits until somebody takes its message.
    pub const SENDING: u8 = 2;
    /// Waits for a message.
    pub const RECEIVING: u8 = 3;
    /// Waits for the reply to its call.
    pub const CALLING: u8 = 4;
    /// Waits for a signal.
    pub const WAITING: u8 = 5;
}

/// A record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TraceRecord {
    /// Time-stamp counter.
    pub tsc: u64,
    /// See the [module](self).
    pub head: u64,
    /// First word of the event.
    pub a: u64,
    /// Second word of the event.
    pub b: u64,
}

const _: () = assert!(size_of::<TraceRecord>() as u64 == TRACE_RECORD);

impl TraceRecord {
    /// A head.
    #[inline(always)]
    pub const fn head(kind: TraceKind, flags: u8, tag: u8, code: u16, thread: u32) -> u64 {
        kind as u64
            | ((flags & 15) as u64) << 4
            | (tag as u64) << 8
            | (code as u64) << 16
            | (thread as u64) << 32
    }
    /// From the words of a ring.
    pub fn from_words([tsc, head, a, b]: [u64; 4]) -> Self {
        Self { tsc, head, a, b }
    }
    /// What happened; `None`: a kind of another version, or no record.
    pub const fn kind(&self) -> Option<TraceKind> {
        TraceKind::from_raw(self.head as u8 & 15)
    }
    /// Flags.
    pub const fn flags(&self) -> u8 {
        (self.head >> 4) as u8 & 15
    }
    /// First byte of the payload.
    pub const fn tag(&self) -> u8 {
        (self.head >> 8) as u8
    }
    /// Code of a user's event, or the lowest bits of a badge.
    pub const fn code(&self) -> u16 {
        (self.head >> 16) as u16
    }
    /// The thread it is about.
    pub const fn thread(&self) -> u32 {
        (self.head >> 32) as u32
    }
    /// The other thread: receiver, caller, who ran before, who was woken.
    pub const fn peer(&self) -> u32 {
        self.a as u32
    }
    /// The object: endpoint, notification, timer.
    pub const fn object(&self) -> u32 {
        (self.a >> 32) as u32
    }
    /// The word of a message.
    pub const fn info(&self) -> MsgInfo {
        MsgInfo(self.b)
    }
}
