//! Sockets as a Linux program knows them: numbers, addresses, options, calls and their errors, over
//! the sockets of [`crate::net`]. For [`crate::agent`], and for whoever ports such a program.
//!
//! No call waits: what would have to is [`Errno::EAGAIN`], and the caller makes it again when the socket
//! has news. So one thread serves any number of them.

pub mod addr;
mod ancillary;
mod congestion;
mod control;
mod data;
mod datagram;
mod device;
mod fastopen;
mod file;
mod flavour;
mod membership;
pub mod numbers;
mod options;
mod stream;

pub use data::Data;
pub use file::{File, Message};
pub use numbers::Errno;

/// The little-endian word at `at`.
fn word(value: &[u8], at: usize) -> Option<u32> {
    value.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

/// What a call results in.
pub type Result<T> = core::result::Result<T, Errno>;
