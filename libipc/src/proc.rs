//! Requests to init: processes and the machine.

use crate::Name;
use serde::{Deserialize, Serialize};

/// A request; the reply is `Result<Reply, Error>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Processes from number `skip` on: [`Reply::Processes`].
    List {
        /// How many to pass over.
        skip: u32,
    },
    /// Ends a process as a crash would; its restart policy decides what follows.
    Kill(Name),
    /// Makes a process crash wherever it is.
    Crash(Name, Crash),
    /// Ends a process and starts it again, whatever its policy.
    Restart(Name),
    /// Restart reports from number `skip` on, oldest first: [`Reply::Reports`].
    Reports {
        /// How many to pass over.
        skip: u32,
    },
    /// Memory: [`Reply::Memory`].
    Memory,
    /// Turns the machine off.
    PowerOff,
}

/// Ways to crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Crash {
    /// A Rust panic.
    Panic,
    /// A write through a wild pointer.
    Pointer,
    /// An undefined instruction.
    Undefined,
}

/// What init answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Done,
    /// Some processes; fewer than 8: these were the last.
    Processes(heapless::Vec<Process, 8>),
    /// Some reports; fewer than 4: these were the last.
    Reports(heapless::Vec<Report, 4>),
    /// Memory.
    Memory {
        /// Bytes of RAM that init was given.
        total: u64,
        /// Bytes not handed out.
        free: u64,
        /// Capability slots in use in init's CSpace.
        slots: u32,
    },
}

/// A process, as `ps` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Name.
    pub name: Name,
    /// State.
    pub state: State,
    /// Priority.
    pub priority: u8,
    /// Starts so far, less one.
    pub restarts: u32,
    /// Private memory, bytes.
    pub memory: u64,
    /// Microseconds since it was started.
    pub uptime_us: u64,
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It has a thread.
    Running,
    /// It ended with this status and stays so.
    Exited(u64),
    /// It crashed too often, or its policy is never to restart it.
    Failed,
    /// Waits to be started again.
    Restarting,
    /// Not started yet: waits for `restart`.
    Stopped,
}

/// A restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Process.
    pub name: Name,
    /// Why, one line.
    pub cause: heapless::String<96>,
    /// Instruction pointer.
    pub rip: u64,
    /// From the fault to the first instruction of the new process.
    pub downtime_us: u32,
    /// When, microseconds since boot.
    pub at_us: u64,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// No process of that name.
    NotFound,
    /// The caller's badge does not allow it.
    Denied,
    /// The process does not run.
    NotRunning,
    /// The request makes no sense.
    Invalid,
}
