//! What the kernel hands to the root task.

use serde::{Deserialize, Serialize};

/// Slots of the root task's CNode that the kernel fills.
pub mod init_slot {
    /// log2 of the slots in its CNode.
    pub const CNODE_BITS: u8 = 15;
    /// Its own CNode, guarded so that a pointer is the slot's index.
    pub const CNODE: u64 = 1;
    /// Its VSpace.
    pub const VSPACE: u64 = 2;
    /// Its TCB.
    pub const TCB: u64 = 3;
    /// The right to make IRQ handlers.
    pub const IRQ_CONTROL: u64 = 4;
    /// All I/O ports.
    pub const IO_PORTS: u64 = 5;
    /// The frame of its IPC buffer.
    pub const IPC_BUFFER: u64 = 6;
    /// Its scheduling context.
    pub const SCHED: u64 = 7;
    /// The kernel's trace.
    pub const TRACE: u64 = 8;
    /// The right to say what devices reach, if [`super::BootInfo::dma_levels`] is not 0.
    pub const IO_CONTROL: u64 = 9;
    /// First untyped; see [`super::BootInfo::untyped`].
    pub const UNTYPED: u64 = 16;
    /// First slot the root task may use freely.
    pub const FREE: u64 = 256;
}

/// Where the kernel puts things in the root task's address space.
pub mod init_map {
    /// The IPC buffer (one page).
    pub const IPC_BUFFER: u64 = 0x7100_0000_0000;
    /// [`super::BootInfo`] (pages as needed, read-only).
    pub const BOOT_INFO: u64 = 0x7200_0000_0000;
    /// The boot bundle, read-only.
    pub const BUNDLE: u64 = 0x7500_0000_0000;
    /// Top of the stack; a guard page lies below its end.
    pub const STACK_TOP: u64 = 0x7000_0000_0000;
}

/// Untypeds that fit between [`init_slot::UNTYPED`] and [`init_slot::FREE`].
pub const MAX_UNTYPED: usize = (init_slot::FREE - init_slot::UNTYPED) as usize;

/// One untyped capability of the root task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct UntypedDesc {
    /// Physical address.
    pub paddr: u64,
    /// log2 of its size in bytes.
    pub size_bits: u32,
    /// 1: device memory, never zeroed, frames only. 0: RAM.
    pub device: u32,
}

/// How to read time: nanoseconds since boot = `((rdtsc - tsc_base) * mult) >> 32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct Clock {
    /// Time-stamp counter at boot.
    pub tsc_base: u64,
    /// Nanoseconds a tick, 32.32 fixed point.
    pub mult: u64,
}

impl Clock {
    /// Nanoseconds since boot at counter value `tsc`.
    pub const fn ns(&self, tsc: u64) -> u64 {
        ((tsc.wrapping_sub(self.tsc_base) as u128 * self.mult as u128) >> 32) as u64
    }
}

/// Where a line of a PC's old interrupt controllers (an ISA interrupt) leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct IsaLine {
    /// The line as the kernel counts.
    pub gsi: u32,
    /// As `IrqControl::Get` takes them: 1 level triggered, 2 active low.
    pub flags: u32,
}

/// How the machine is turned off (ACPI specification 6.5, 4.8.3.2). All zero: the kernel does not
/// know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PowerOff {
    /// Ports of the control registers PM1a and PM1b (0: there is none): bit 0 says that ACPI is on;
    /// the sleep type goes to bits 10 to 12, and bit 13 begins to sleep.
    pub control: [u16; 2],
    /// Port to which `enable` is written to turn ACPI on; 0: it always is.
    pub smi_command: u16,
    /// See `smi_command`.
    pub enable: u8,
    /// Sleep type of each control register for S5, off.
    pub sleep_type: [u8; 2],
}

/// Mapped read-only at [`init_map::BOOT_INFO`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct BootInfo {
    /// [`BootInfo::MAGIC`].
    pub magic: u64,
    /// Bytes of the boot bundle at [`init_map::BUNDLE`].
    pub bundle_len: u64,
    /// Clock parameters.
    pub clock: Clock,
    /// Levels of page tables of an IoSpace: 3 (39-bit addresses) or 4 (48). 0: there is no IOMMU that
    /// the kernel can use, and devices reach all memory.
    pub dma_levels: u64,
    /// Where ISA interrupts lead.
    pub isa: [IsaLine; 16],
    /// How the machine is turned off.
    pub power: PowerOff,
    /// Bytes of RAM above 1 MiB that the firmware names, the kernel's own included.
    pub ram: u64,
    /// Number of valid entries in `untyped`.
    pub untyped_count: u64,
    /// Slot `init_slot::UNTYPED + i` holds the i-th.
    pub untyped: [UntypedDesc; MAX_UNTYPED],
}

impl BootInfo {
    /// First word, "BWBOOT05".
    pub const MAGIC: u64 = u64::from_le_bytes(*b"BWBOOT05");
}
