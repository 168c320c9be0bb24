//! The system as the manifest describes it, checked and expanded at build time: explicit, in the
//! spirit of capDL. init builds exactly this and knows nothing else about the system.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Version of this format.
pub const VERSION: u32 = 6;

/// The whole system. Every `u16` index points into the list that its name says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// [`VERSION`].
    pub version: u32,
    /// Processes, in starting order.
    pub processes: Vec<Process>,
    /// Lent memory.
    pub regions: Vec<Region>,
    /// Endpoints (lent: they outlive their servers).
    pub endpoints: Vec<String>,
    /// Notifications (lent).
    pub notifications: Vec<String>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Where the kernel writes its trace.
    pub trace: Option<Trace>,
}

/// The kernel's trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Index of the region that is its ring: large frames only, at most eight.
    pub region: u16,
    /// Whether it is written from the start.
    pub at_boot: bool,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Name, at most [`libipc::NAME_MAX`] bytes.
    pub name: String,
    /// Name of its file in the bundle.
    pub file: String,
    /// Priority, below init's 250.
    pub priority: u8,
    /// Processor time that its scheduling context allows; `None`: no limit.
    pub budget: Option<Budget>,
    /// Stack, KiB.
    pub stack_kib: u32,
    /// Heap, KiB.
    pub heap_kib: u32,
    /// Arguments.
    pub args: String,
    /// Started at boot; otherwise by `restart`.
    pub autostart: bool,
    /// What follows a crash or exit.
    pub restart: Restart,
    /// Whether console input goes to it and its log is written through as it is.
    pub console: bool,
    /// Capabilities it gets; slot `i + 2` of its CSpace holds number `i`.
    pub caps: Vec<Cap>,
    /// Regions it sees.
    pub maps: Vec<Map>,
    /// Index of the notification bound to its thread.
    pub bound: Option<u16>,
    /// Index of the notification to signal, with a badge, when it ends or is restarted.
    pub death_notices: Vec<(u16, u64)>,
}

/// At most `budget_us` of processor time in each `period_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Microseconds, at most the period.
    pub budget_us: u32,
    /// Microseconds.
    pub period_us: u32,
}

/// What follows a crash or exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Nothing.
    Never,
    /// Starts it again, with a growing pause when `max` starts fall within `window_s` seconds
    /// (0: no limit).
    Always {
        /// Starts.
        max: u32,
        /// Seconds.
        window_s: u32,
    },
    /// As `Always` after a crash; an exit with status 0 ends it.
    OnCrash {
        /// Starts.
        max: u32,
        /// Seconds.
        window_s: u32,
    },
}

/// A capability, with the name by which the process finds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cap {
    /// Name.
    pub name: String,
    /// What.
    pub kind: CapKind,
}

/// What a process may ask of init.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitRights {
    /// Everything.
    pub control: bool,
    /// How things are.
    pub status: bool,
    /// Random bytes.
    pub random: bool,
}

/// What a capability names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CapKind {
    /// Endpoint: `recv` or send, with a badge.
    Endpoint {
        /// Index.
        index: u16,
        /// Receive instead of send.
        recv: bool,
        /// Badge.
        badge: u64,
    },
    /// init's own endpoint ([`libipc::proc`]), with a badge that init assigns.
    Init(InitRights),
    /// Notification: `recv` or signal, with a badge.
    Notification {
        /// Index.
        index: u16,
        /// Wait instead of signal.
        recv: bool,
        /// Badge.
        badge: u64,
    },
    /// A reply object.
    Reply,
    /// A timer that signals a notification.
    Timer {
        /// Index of the notification.
        notification: u16,
        /// Badge.
        badge: u64,
    },
    /// The interrupt of a device, signalling a notification.
    Irq {
        /// Index of the device.
        device: u16,
        /// Index of the notification.
        notification: u16,
        /// Badge.
        badge: u64,
    },
    /// Ports of the processor's I/O space, of a device that is no PCI function.
    Ports {
        /// First.
        first: u16,
        /// Last.
        last: u16,
    },
    /// The interrupt of such a device, signalling a notification.
    IsaIrq {
        /// Its line, 0 to 15.
        line: u8,
        /// Index of the notification.
        notification: u16,
        /// Badge.
        badge: u64,
    },
    /// An untyped of 2^`bits` bytes, to make objects from. It and they go with the incarnation.
    Untyped {
        /// log2 of its bytes.
        bits: u8,
    },
    /// Its own CNode.
    CSpace,
    /// Its own address space.
    VSpace,
    /// Its own thread.
    Thread,
}

/// A region in a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Map {
    /// What the process calls it.
    pub name: String,
    /// What.
    pub kind: MapKind,
}

/// What is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapKind {
    /// A region, read-only or writable.
    Region {
        /// Index.
        index: u16,
        /// Writable.
        write: bool,
    },
    /// A region that only the process's device reaches; the process learns its bus address.
    DmaOnly {
        /// Index.
        index: u16,
    },
    /// A BAR of a device: writable, uncached.
    Bar {
        /// Index of the device.
        device: u16,
        /// BAR number.
        bar: u8,
    },
}

/// Lent memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Name.
    pub name: String,
    /// KiB, a multiple of 4. Physically contiguous.
    pub kib: u32,
    /// How a device reaches it, if one does.
    pub dma: Option<Dma>,
    /// What it holds at boot; the rest is zero.
    pub content: Vec<u8>,
}

/// How a device reaches a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dma {
    /// Its number to the driver (a DMA window).
    pub window: u8,
    /// The device reads it.
    pub read: bool,
    /// The device writes it.
    pub write: bool,
}

/// A PCI device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Name.
    pub name: String,
    /// Vendor and device ids; the first function that matches one is taken.
    pub ids: Vec<(u16, u16)>,
    /// Whether to let it be a bus master.
    pub dma: bool,
}
