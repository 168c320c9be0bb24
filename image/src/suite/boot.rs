//! Booting through firmware and a stock boot loader.

use super::traffic::{self, outside};
use crate::client;
use crate::harness::{Failure, Guest, wrong};
use crate::manifest::Protocol::Tcp;

/// Bytes that are fetched: many frames, so that interrupts must keep coming.
const LEN: u64 = 3_000_000;

/// The network works, and the system was not loaded in QEMU's own way.
pub fn loaded(g: &mut Guest) -> Result<(), Failure> {
    traffic::ready(g)?;
    let text = g.console().text();
    if !text.contains("loaded by Multiboot2 at 0x") || text.contains("at 0x200000\n") {
        return wrong("the kernel does not say that a Multiboot2 loader has loaded and moved it");
    }
    let port = g.host_port(80, Tcp)?;
    let body = outside(client::get(port, &format!("/bytes/{LEN}")))?;
    traffic::check(&body, LEN)?;
    g.power_off()
}

/// The same, and the system says that it uses one of the machine's two processors.
pub fn two(g: &mut Guest) -> Result<(), Failure> {
    loaded(g)?;
    if !g.console().text().contains("2 processors, of which one is used") {
        return wrong("the kernel does not say that it leaves the second processor alone");
    }
    Ok(())
}
