//! The root task and supervisor: builds every process of the system description, owns PCI
//! configuration and the console, and starts again what dies.
//!
//! Everything here runs on the host too, against a model of the kernel; `main.rs` adds system
//! calls and mapped memory.
//!
//! | modules | what |
//! |---|---|
//! | [`kernel`], [`layout`] | what init needs of the kernel; its slots, windows, badges |
//! | [`pool`], [`slots`], [`tables`], [`plan`] | memory, slots and page tables, planned |
//! | [`draft`], [`maker`], [`standing`], [`boot`] | from the system description to objects |
//! | [`process`], [`policy`], [`supervisor`], [`requests`], [`shutdown`], `suspend`, `authority` | life and death of processes |
//! | [`cause`], [`backtrace`], [`report`], `restart`, `trace` | why a process died, what followed, how that reads |
//! | [`pci`], [`rtc`] | devices, the clock on the wall |
//! | [`noise`], [`random`] | random bytes |
//! | [`console`], [`lines`], [`allowance`], [`screen`], [`uart`] | log and console |
//!
//! init trusts the kernel and the bundle. What processes say, in requests, log pages or by the
//! way they die, is an allegation. After boot nothing allocates: a restart cannot fail for lack of
//! heap, and it needs no memory and no slot that was not set aside for it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod allowance;
mod authority;
pub mod backtrace;
pub mod boot;
pub mod cause;
pub mod console;
pub mod dma;
pub mod draft;
pub mod kernel;
pub mod layout;
pub mod lines;
pub mod maker;
pub mod noise;
pub mod pci;
pub mod plan;
pub mod policy;
pub mod pool;
pub mod power;
pub mod process;
pub mod random;
pub mod report;
pub mod requests;
mod restart;
pub mod rtc;
pub mod screen;
pub mod shutdown;
pub mod slots;
pub mod standing;
pub mod supervisor;
mod suspend;
pub mod tables;
mod trace;
pub mod uart;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
