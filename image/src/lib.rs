//! The host tool of Breakwater, as a library so that its QEMU tests can use the same parts.
//!
//! | module | what |
//! |---|---|
//! | [`workspace`] | where things lie; the guest binaries that the workspace offers |
//! | [`guest`] | the nested cargo call that builds them |
//! | [`elf`] | an ELF file as segments and symbols |
//! | [`bundle`] | the boot bundle, written |
//! | [`manifest`] | `system.toml`: parsed, checked, expanded into [`spec::System`] |
//! | [`build`] | all of these together: kernel and bundle |
//! | [`authority`] | who holds what: declared, running, checked, drawn |
//! | [`net`] | what is behind the network card |
//! | [`install`] | getting QEMU |
//! | [`qemu`] | its command line, accelerator, exit status |
//! | [`ports`] | free host ports for the forwards of the manifest |
//! | [`qmp`] | QEMU's control socket: why it stopped |
//! | [`run`] | the `run` command |
//! | [`harness`] | a booted system under test: console, ports, end; a peer on its cable |
//! | [`bench`] | what things cost, here and in a Linux guest |
//! | [`client`] | what tests do from outside: HTTP, echo |
//! | [`suite`] | the QEMU tests, by name |
//! | [`interop`] | the system against Linux's own stack |
//! | [`trace`] | the `trace` command: a timeline of what happens |
#![forbid(unsafe_code)]

pub mod authority;
#[allow(clippy::float_arithmetic, reason = "figures are for people")]
pub mod bench;
pub mod build;
pub mod bundle;
pub mod child;
pub mod client;
pub mod elf;
pub mod fuzz;
pub mod guest;
pub mod harness;
pub mod install;
#[allow(clippy::float_arithmetic, reason = "figures are for people")]
pub mod interop;
pub mod iso;
pub mod manifest;
pub mod net;
pub mod pcap;
pub mod ports;
pub mod qemu;
pub mod qmp;
pub mod run;
pub mod suite;
pub mod trace;
pub mod workspace;
