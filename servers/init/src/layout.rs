//! Fixed numbers of init's own CSpace, address space, signals and badges.

use abi::{CPtr, PAGE_SIZE, init_slot};

/// init's own CNode.
pub const ROOT: CPtr = init_slot::CNODE;

/// Slots of init's CSpace that have a fixed meaning, after those the kernel fills.
pub mod slot {
    use super::*;
    /// Endpoint for faults and requests.
    pub const ENDPOINT: CPtr = init_slot::FREE;
    /// init's own notification, bound to its thread.
    pub const NOTIFICATION: CPtr = ENDPOINT + 1;
    /// Reply object of the one call being served.
    pub const REPLY: CPtr = ENDPOINT + 2;
    /// Timer of restarts that were put off.
    pub const TIMER: CPtr = ENDPOINT + 3;
    /// [`NOTIFICATION`] with the badge [`super::signal::TIMER`].
    pub const TIMER_SIGNAL: CPtr = ENDPOINT + 4;
    /// Handler of the serial port's interrupt.
    pub const UART_IRQ: CPtr = ENDPOINT + 5;
    /// [`NOTIFICATION`] with the badge [`super::signal::UART`].
    pub const UART_SIGNAL: CPtr = ENDPOINT + 6;
    /// A capability in passing: filled and emptied within one operation.
    pub const SCRATCH: CPtr = ENDPOINT + 7;
    /// A process's own untyped, until its CNode is made.
    pub const UNTYPED: CPtr = ENDPOINT + 9;
    /// Handler of the interrupt that tells of refused DMA.
    pub const DMA_IRQ: CPtr = ENDPOINT + 10;
    /// [`NOTIFICATION`] with the badge [`super::signal::DMA`].
    pub const DMA_SIGNAL: CPtr = ENDPOINT + 11;
    /// The CNode that the kernel made, after init has moved to a larger one.
    pub const OLD_ROOT: CPtr = ENDPOINT + 8;
    /// First slot that [`crate::slots::Slots`] hands out.
    pub const FIRST: CPtr = ENDPOINT + 16;
}

/// Where init maps memory of others into its own address space.
pub mod window {
    use super::*;
    /// One page, mapped and unmapped within one operation.
    pub const SCRATCH: u64 = 0x1000_0000_0000;
    /// Console input page.
    pub const CONSOLE: u64 = SCRATCH + PAGE_SIZE;
    /// Log page of process `i` at `LOGS + i * PAGE_SIZE`.
    pub const LOGS: u64 = SCRATCH + 0x20_0000;
    /// Start information of process `i` at `STARTS + i * START_BYTES`.
    pub const STARTS: u64 = SCRATCH + 0x40_0000;
    /// End of all windows.
    pub const END: u64 = SCRATCH + 0x60_0000;
    /// Bytes kept for a process's start information: with 80 regions it takes more than a page.
    pub const START_BYTES: u64 = 2 * PAGE_SIZE;
}

/// Most processes: one signal bit each, after [`signal::LOG_FIRST`].
pub const MAX_PROCESSES: usize = 60;

/// Bits of init's notification.
pub mod signal {
    /// [`super::slot::TIMER`] fired.
    pub const TIMER: u64 = 1;
    /// The serial port interrupts.
    pub const UART: u64 = 2;
    /// A device was refused a transfer.
    pub const DMA: u64 = 4;
    /// Process 0 has logged something; process `i` uses the bit `i` above.
    pub const LOG_FIRST: u32 = 3;
    /// The bit by which process `index` says that its log page has something new.
    pub const fn log(index: usize) -> u64 {
        1 << (LOG_FIRST + index as u32)
    }
}

/// Badges of init's endpoint.
pub mod badge {
    const REQUEST: u64 = 1 << 32;
    /// Faults of process `index`.
    pub const fn fault(index: usize) -> u64 {
        index as u64 + 1
    }
    /// Requests of process `index`.
    pub const fn request(index: usize) -> u64 {
        REQUEST | fault(index)
    }
    /// The process whose thread faulted, if this is such a badge.
    pub const fn faulted(badge: u64) -> Option<usize> {
        if badge == 0 || badge >= REQUEST { None } else { Some(badge as usize - 1) }
    }
    /// The process that asks, if this is such a badge.
    pub const fn requester(badge: u64) -> Option<usize> {
        if badge & REQUEST == 0 { None } else { faulted(badge & !REQUEST) }
    }
}

/// Bit of a console process's notification: console input, or room in its log ring again.
pub const CONSOLE_BIT: u64 = 1 << 2;
/// ISA interrupt of the first serial port.
pub const UART_LINE: usize = 4;
