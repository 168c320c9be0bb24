//! Traces: how threads are numbered, what init logs, and the form in which a trace leaves the
//! system.
//!
//! A trace on its way out is [`MAGIC`], the length of the header as a little-endian u32, a postcard
//! [`Header`], and the records ([`abi::TraceRecord`], four little-endian words each), oldest
//! first.

use abi::Clock;
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::Name;

/// First bytes of a trace.
pub const MAGIC: [u8; 8] = *b"BWTRACE1";
/// Number of init's thread.
pub const INIT: u32 = 1;
/// Number of the first process's thread.
const FIRST: u32 = 2;
/// Name of the region that holds the ring, in the process that reads it.
pub const REGION: &str = "trace";

/// What init logs: the code of a user's record ([`abi::TraceKind::User`]). The first word is the
/// number of the process's thread.
pub mod code {
    /// A process has died; the second word says when, ns since boot.
    pub const DIED: u16 = 1;
    /// Its memory and capabilities are gone.
    pub const GONE: u16 = 2;
    /// Its restart, which was put off, begins.
    pub const RESUMED: u16 = 3;
    /// Its successor runs; the first word is the successor's.
    pub const STARTED: u16 = 4;
    /// The successor says that it is ready; the first word is the successor's.
    pub const READY: u16 = 5;
    /// It stays down.
    pub const STAYS: u16 = 6;
}

/// The number in traces of the thread of process number `index` in its life number `incarnation`.
pub const fn number(index: usize, incarnation: u32) -> u32 {
    (index as u32 + FIRST) & 0xffff | incarnation << 16
}

/// The process whose thread has this number; `None`: init or nobody.
pub const fn process(number: u32) -> Option<usize> {
    match (number & 0xffff).checked_sub(FIRST) {
        Some(index) => Some(index as usize),
        None => None,
    }
}

/// Which of its lives a thread's number means.
pub const fn incarnation(number: u32) -> u32 {
    number >> 16
}

/// What a reader of the records needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Clock parameters.
    pub clock: Clock,
    /// Records since the trace was started; the oldest are missing if they are more than those
    /// that follow.
    pub written: u64,
    /// Records that follow.
    pub records: u64,
    /// Processes by number.
    pub names: Vec<Name, 64>,
}
