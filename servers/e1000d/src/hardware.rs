//! What the driver needs from the machine, as a trait: the guest gives it registers and memory,
//! the host tests a model of the NIC that can stop the driver before any store.

use crate::regs::Reg;
use core::fmt;
use libipc::ring::PeerError;

/// Registers, region `nic.rings`, time and log.
///
/// The driver writes nothing that outlives it except through [`Hardware::write`],
/// [`Hardware::store`], and (announced by [`Hardware::commit`]) the indices of its rings.
pub trait Hardware {
    /// Reads a register.
    fn read(&mut self, reg: Reg) -> u32;
    /// Writes a register. Everything stored before is visible to the device first.
    fn write(&mut self, reg: Reg, value: u32);
    /// Loads 64-bit word number `word` of `nic.rings`; later loads are not moved before it.
    fn load(&self, word: usize) -> u64;
    /// Stores a word of `nic.rings`; not moved before earlier stores.
    fn store(&mut self, word: usize, value: u64);
    /// The driver is about to publish or release entries of a ring shared with netd.
    fn commit(&mut self) {}
    /// Nanoseconds since boot.
    fn now_ns(&mut self) -> u64;
    /// Something worth a line in the log.
    fn event(&mut self, event: Event);
}

/// One of the rings shared with netd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Empty receive buffers, from netd.
    RxFree,
    /// Received frames, to netd.
    RxUsed,
    /// Frames to send, from netd.
    TxUsed,
    /// Frames that have left, to netd.
    TxFree,
}

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ring::RxFree => "rx free",
            Ring::RxUsed => "rx used",
            Ring::TxUsed => "tx used",
            Ring::TxFree => "tx free",
        })
    }
}

/// A line for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The NIC was reset and programmed.
    Started {
        /// Name of the model.
        model: &'static str,
        /// MAC address.
        mac: [u8; 6],
        /// Link speed in Mbit/s, if the link is up.
        speed: Option<u32>,
    },
    /// The NIC was closed.
    Stopped {
        /// Frames that it did not send in time.
        frames: u16,
    },
    /// The NIC was left for a successor.
    Suspended,
    /// The NIC was stopped with something in it; a cold start follows.
    GaveBack {
        /// Receive buffers given back empty.
        buffers: u16,
        /// Frames given back that may not have left.
        frames: u16,
    },
    /// The driver goes on where its predecessor stopped.
    Reattached {
        /// Frames accepted for sending and not yet reported, plus frames received and not yet
        /// given to netd.
        in_flight: u16,
    },
    /// The link came up at this speed, or went down.
    Link(Option<u32>),
    /// netd wrote an impossible index; the ring rests until the index is possible again.
    RingStopped(Ring, PeerError),
}

struct Speed(Option<u32>);

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(speed) => write!(f, "link up {speed} Mbit/s"),
            None => f.write_str("link down"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Event::Started { model, mac: [a, b, c, d, e, g], speed } => {
                let speed = Speed(speed);
                write!(f, "{model} {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}, {speed}")
            }
            Event::Suspended => f.write_str("suspended"),
            Event::Stopped { frames: 0 } => f.write_str("stopped"),
            Event::Stopped { frames } => write!(f, "stopped, {frames} frames not sent"),
            Event::GaveBack { buffers, frames } => {
                write!(f, "stopped the NIC: {buffers} buffers and {frames} frames given back")
            }
            Event::Reattached { in_flight } => {
                write!(f, "re-attached: {in_flight} frames in flight")
            }
            Event::Link(speed) => Speed(speed).fmt(f),
            Event::RingStopped(ring, PeerError::Index { claimed, ours }) => {
                write!(f, "ring {ring} stopped: netd claims index {claimed}, mine is {ours}")
            }
            Event::RingStopped(ring, PeerError::Header) => {
                write!(f, "ring {ring} stopped: netd destroyed its header")
            }
        }
    }
}

/// Waits until `done`, at most `ns`. `false`: it did not happen. Also bounded in turns, in case
/// the clock stands still.
pub fn wait_until<H: Hardware>(hw: &mut H, ns: u64, mut done: impl FnMut(&mut H) -> bool) -> bool {
    let start = hw.now_ns();
    for _ in 0..10_000_000u32 {
        if done(hw) {
            return true;
        }
        if hw.now_ns().saturating_sub(start) >= ns {
            return done(hw);
        }
        core::hint::spin_loop();
    }
    false
}
