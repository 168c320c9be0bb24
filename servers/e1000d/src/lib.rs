//! Driver of the Intel 8254x ("e1000") Ethernet controllers, as a library that runs on the host
//! too. The process around it (`main.rs`) owns the kernel's capabilities and sleeps.
//!
//! | module | what |
//! |---|---|
//! | [`models`] | the controllers of the family, and where they differ |
//! | [`settings`] | what the manifest may say: ring sizes, budget |
//! | [`regs`] | register offsets and bits |
//! | [`desc`] | descriptor layouts |
//! | [`hardware`] | the trait between driver and machine: registers, lent memory, clock, log |
//! | [`mmio`] | the machine itself; the only unsafe code |
//! | [`lent`] | what lies in region `nic.rings`: both rings, and the notes that survive a crash |
//! | [`window`] | which memory the NIC may be told about |
//! | [`port`] | a ring that netd writes, and what happens when it writes nonsense |
//! | [`filter`] | which multicast frames the NIC takes |
//! | [`frame`] | which frames of netd may be sent |
//! | [`rx`], [`tx`] | the two directions |
//! | [`tally`] | their totals |
//! | [`setup`] | reset, EEPROM, link, programming |
//! | [`astray`] | fault injection: DMA where none may be |
//! | [`driver`] | start (cold or warm), the polling loop, stop |
//!
//! Names are those of Intel's *PCI/PCI-X Family of Gigabit Ethernet Controllers Software
//! Developer's Manual* (317453), below "the manual". How a restarted driver goes on without losing
//! or repeating a frame is told in `docs/driver.md` and at [`lent`].
#![no_std]
#![deny(unsafe_code)]

pub mod astray;
pub mod desc;
pub mod driver;
pub mod filter;
pub mod frame;
pub mod hardware;
pub mod lent;
#[allow(unsafe_code)]
pub mod mmio;
pub mod models;
pub mod port;
pub mod regs;
pub mod rx;
pub mod settings;
pub mod setup;
pub mod tally;
pub mod tx;
pub mod window;

pub use driver::{Config, Driver, Next, Poll, StartError};
pub use hardware::{Event, Hardware};
