//! What the parts of the system say to each other, and how: system calls, messages, rings,
//! shared-memory layouts, and the formats that init and the boot image exchange.
//!
//! | module | what |
//! |---|---|
//! | [`sys`] | system-call stubs and typed wrappers over capabilities |
//! | [`msg`] | postcard messages in IPC buffers |
//! | [`ring`] | single-producer single-consumer rings whose peer is not trusted |
//! | [`shared`] | bytes shared with a peer: copied, never referenced |
//! | [`nic`] | driver contract: descriptors on the rings between a NIC driver and netd |
//! | [`sock`] | session memory: socket records, data rings, readiness; requests to sockd |
//! | [`link`] | the state of the interface, as programs see it |
//! | [`net`] | requests to netd (from sockd and the shell) |
//! | [`proc`] | requests to init (process list, kill, crash, restart) |
//! | [`permission`] | what a manifest entry may permit |
//! | [`start`] | what a process finds when it starts |
//! | [`bundle`] | the file in which init, programs and symbols travel |
//! | [`authority`] | who holds what, on its way out of the system |
//! | [`log`] | log and console byte rings |
//! | [`time`] | dates |
//! | [`trace`] | traces on their way out of the system |
#![no_std]

pub mod authority;
pub mod bundle;
pub mod counters;
pub mod link;
pub mod log;
pub mod mark;
pub mod msg;
pub mod net;
pub mod nic;
pub mod permission;
pub mod proc;
pub mod ring;
pub mod shared;
pub mod sock;
pub mod start;
pub mod sys;
pub mod time;
pub mod trace;

/// Longest name of a process, region, capability or device.
pub const NAME_MAX: usize = 24;
/// A short name.
pub type Name = heapless::String<NAME_MAX>;
