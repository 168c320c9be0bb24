//! What a process finds when it starts: a page of [`StartInfo`] and fixed addresses.

use abi::{CPtr, Clock};
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::Name;

/// Where programs are linked.
pub const IMAGE: u64 = 0x0040_0000;
/// First region; region `i` lies at `REGIONS + i * REGION_STRIDE`.
pub const REGIONS: u64 = 0x1000_0000_0000;
/// Distance between regions: none is larger.
pub const REGION_STRIDE: u64 = 1 << 32;
/// The heap.
pub const HEAP: u64 = 0x6000_0000_0000;
/// Top of the stack. The pages around it are never mapped.
pub const STACK_TOP: u64 = abi::init_map::STACK_TOP;
/// The thread's IPC buffer.
pub const IPC_BUFFER: u64 = abi::init_map::IPC_BUFFER;
/// The page that holds a postcard [`StartInfo`], after a u32 length.
pub const START_INFO: u64 = 0x7200_0000_0000;
/// The process's [`crate::log::LogPage`].
pub const LOG: u64 = 0x7300_0000_0000;
/// Console input ([`crate::log::LogPage`] filled by init), in the process that has the console.
pub const CONSOLE: u64 = 0x7400_0000_0000;

/// Slot of the notification by which a process tells init that its log page has something new.
/// The capabilities that the manifest names follow from slot 2.
pub const LOG_SIGNAL: CPtr = 1;

/// Bit of a driver's own notification by which init says that the machine is about to go off: stop
/// the device, tell peers, exit. init waits for that, but not long.
pub const STOP: u64 = 1 << 63;
/// Bit by which init says that the device is to rest: leave it as a successor could take it over,
/// say that the link is down, exit. init takes bus mastering away then.
pub const SUSPEND: u64 = 1 << 62;

/// Bit of a program's own notification: the interrupt of its device, if it has one.
pub const PROGRAM_DEVICE: u64 = 1 << 3;

/// Bytes of arguments.
pub const ARGS: usize = 128;

/// A capability by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cap {
    /// Name, as in the manifest: `self.endpoint`, `self.events`, `sockd`, `timer`, `irq` …
    pub name: Name,
    /// Its address in the CSpace.
    pub cptr: CPtr,
}

/// A region by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Name, as in the manifest.
    pub name: Name,
    /// Address; 0 if it is not mapped here (the driver knows send regions only by bus address).
    pub vaddr: u64,
    /// Bytes.
    pub len: u64,
    /// DMA window number and bus address, in the process that drives the device.
    pub dma: Option<(u8, u64)>,
}

/// All a process knows about its world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartInfo {
    /// Its name.
    pub name: Name,
    /// How often it was started before.
    pub incarnation: u32,
    /// Clock parameters.
    pub clock: Clock,
    /// Nanoseconds from the beginning of 1970 (UTC) to boot, to half a second: what the machine's
    /// clock said when init started. `None`: it has none that makes sense.
    pub utc_at_boot: Option<u64>,
    /// Bytes of heap at [`HEAP`].
    pub heap_len: u64,
    /// 32 random bytes, new at every start.
    pub seed: [u8; 32],
    /// Arguments from the manifest.
    pub args: heapless::String<ARGS>,
    /// Whether QEMU's device model runs the machine (PCI subsystem id 1af4:1100).
    pub emulated: bool,
    /// PCI vendor and device id of the device it drives.
    pub device: Option<(u16, u16)>,
    /// Capabilities.
    pub caps: Vec<Cap, 40>,
    /// Regions.
    pub regions: Vec<Region, 80>,
}

impl StartInfo {
    /// The capability called `name`.
    pub fn cap(&self, name: &str) -> Option<CPtr> {
        self.caps.iter().find(|c| c.name == name).map(|c| c.cptr)
    }
    /// The region called `name`.
    pub fn region(&self, name: &str) -> Option<&Region> {
        self.regions.iter().find(|r| r.name == name)
    }
    /// Nanoseconds since boot.
    pub fn now_ns(&self) -> u64 {
        self.clock.ns(crate::sys::rdtsc())
    }
    /// Nanoseconds since the beginning of 1970 (UTC), if they are known.
    pub fn utc_ns(&self) -> Option<u64> {
        self.utc_at_boot?.checked_add(self.now_ns())
    }
}
