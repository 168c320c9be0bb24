//! What the runtime needs of the kernel and of sockd, so that tests can stand in for them.

use core::time::Duration;
use libipc::msg::{self, CallError, interface};
use libipc::permission::Permission;
use libipc::sock::{Error, Reply, Request};
use libipc::start::StartInfo;
use libipc::sys;

use crate::mem::{self, SessionMem};

/// Notification bits of a program.
pub mod signal {
    /// netd put something into the ready ring.
    pub const NETD: u64 = 1;
    /// The timer fired.
    pub const TIMER: u64 = 2;
    /// Console input.
    pub const CONSOLE: u64 = 4;
    /// The interrupt of the program's device.
    pub const DEVICE: u64 = libipc::start::PROGRAM_DEVICE;
}

/// A point in time: nanoseconds since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// Time since `earlier`, zero if that is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, d: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The kernel and sockd as the runtime needs them. A program has [`Native`]; tests have their own.
pub trait Port {
    /// Calls sockd once; `method` is the call's number.
    fn sockd(&self, method: u16, request: &Request) -> Result<Result<Reply, Error>, CallError>;
    /// Signals netd.
    fn wake_netd(&self);
    /// Waits for signals; with `wake`, signals netd first.
    fn wait(&self, wake: bool) -> u64;
    /// Arms the timer for an absolute time in ns since boot.
    fn arm(&self, deadline_ns: u64);
    /// Nanoseconds since boot.
    fn now_ns(&self) -> u64;
    /// Zeroes the program's words of the id rings.
    fn forget_rings(&self);
    /// The session's memory, once.
    fn session_mem(&self, sockets: u32) -> Option<SessionMem>;
}

/// The real kernel.
pub struct Native {
    pub(crate) info: &'static StartInfo,
    pub(crate) events: abi::CPtr,
    pub(crate) timer: abi::CPtr,
    pub(crate) sockd: Option<abi::CPtr>,
    pub(crate) netd: Option<abi::CPtr>,
}

impl Port for Native {
    fn sockd(&self, method: u16, request: &Request) -> Result<Result<Reply, Error>, CallError> {
        match self.sockd {
            Some(ep) => msg::call(ep, interface::SOCK, method, request),
            None => Ok(Err(Error::NotPermitted(Permission::Sockets))),
        }
    }
    fn wake_netd(&self) {
        if let Some(netd) = self.netd {
            sys::signal(netd);
        }
    }
    fn wait(&self, wake: bool) -> u64 {
        match self.netd {
            Some(netd) if wake => sys::signal_wait(netd, self.events),
            _ => sys::wait(self.events),
        }
        .unwrap_or(0)
    }
    fn arm(&self, deadline_ns: u64) {
        let _ = sys::arm(self.timer, deadline_ns);
    }
    fn now_ns(&self) -> u64 {
        self.info.now_ns()
    }
    fn forget_rings(&self) {
        mem::forget_rings(self.info);
    }
    fn session_mem(&self, sockets: u32) -> Option<SessionMem> {
        SessionMem::of_process(self.info, sockets)
    }
}
