//! What the network card reaches by itself, with an IOMMU and without.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use super::traffic::{check, outside, ready};
use crate::client;
use crate::harness::{BOOT, COMMAND, Failure, Guest, wrong};
use crate::manifest::Protocol::{Tcp, Udp};

/// Where `crash e1000d dma` sends the card: a page of the kernel's code.
const ASTRAY: u64 = 0x21_0000;
/// Bytes of a page.
const PAGE: u64 = 4096;
/// How long the card may take to go astray in both directions.
const LIMIT: Duration = Duration::from_secs(60);

/// A page of the machine's memory, as QEMU's monitor shows it.
fn page(g: &Guest, at: u64) -> Result<String, Failure> {
    let text = g.monitor(&format!("xp /{}xg {at:#x}", PAGE / 8))?;
    match text.lines().count() as u64 == PAGE / 16 {
        true => Ok(text),
        false => wrong(format!("QEMU shows no page at {at:#x}:\n{text}")),
    }
}

/// Refusals on the console, as `DIRECTION ADDRESS`.
fn refused(text: &str) -> Vec<&str> {
    let start = "[init] dma fault: e1000d's device 00:";
    let lines = text.lines().filter_map(|l| l.split(start).nth(1));
    lines.filter_map(|l| l.split_once(' ')?.1.split_once(": refused")).map(|l| l.0).collect()
}

pub fn dma(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let confined = "[init] IOMMU: nic (00:";
    if !g.console().text().contains(confined) {
        return wrong(format!("no line {confined:?} says what the card reaches"));
    }
    let (http, echo) = (g.host_port(80, Tcp)?, g.host_port(7, Udp)?);
    let before = page(g, ASTRAY)?;
    let knock = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let knock = knock.map_err(|e| Failure::Host(format!("a UDP socket: {e}")))?;
    // Without waiting for the prompt: nobody else runs while the driver is astray.
    g.send_line("crash e1000d dma")?;
    // A frame is sent from there at once; one that comes in is to be received into it.
    let said = "a frame was sent from there, received into it";
    let restarted =
        |text: &str| text.lines().any(|l| l.contains("restarted e1000d: ") && l.contains(said));
    let began = Instant::now();
    while !restarted(&g.console().text()) {
        if began.elapsed() > LIMIT {
            return wrong(format!("refused were only {:?}", refused(&g.console().text())));
        }
        let _ = knock.send_to(b"knock", (Ipv4Addr::LOCALHOST, echo));
        std::thread::sleep(Duration::from_millis(20));
    }
    // The IOMMU keeps one fault at a time: the second is told if the first was read before it.
    let either = ["read 0x210000", "wrote 0x210000"];
    if !refused(&g.console().text()).iter().any(|way| either.contains(way)) {
        return wrong(format!("refused were only {:?}", refused(&g.console().text())));
    }
    let after = page(g, ASTRAY)?;
    if after != before {
        return wrong(format!("the kernel's memory has changed:\n{before}\nis now\n{after}"));
    }
    let told = g.command("dma", COMMAND)?;
    if !told.contains(" transfers refused") || !told.contains("dma fault: e1000d's device 00:") {
        return wrong(format!("`dma` says\n{told}"));
    }
    check(&outside(client::get(http, "/bytes/10000000"))?, 10_000_000)?;
    let lines = refused(&g.console().text()).len();
    if lines > 10 {
        return wrong(format!("{lines} lines about what was refused"));
    }
    g.power_off()
}

pub fn trusted(g: &mut Guest) -> Result<(), Failure> {
    g.wait_for("[init] DMA is trusted: there is no IOMMU, nic (00:", BOOT)?;
    ready(g)?;
    let refused = g.command("crash e1000d dma", COMMAND)?;
    if !refused.contains("init refuses: its device would really do it") {
        return wrong(format!("`crash e1000d dma` says\n{refused}"));
    }
    let told = g.command("dma", COMMAND)?;
    if !told.contains("e1000d reaches all memory: no IOMMU") {
        return wrong(format!("`dma` says\n{told}"));
    }
    g.power_off()
}
