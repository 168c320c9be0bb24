//! The manifest as it is written. The comments in `image/system.toml` say what each key means.
//!
//! Values that a check may refuse are [`Spanned`]: they remember where they stand.

#![allow(missing_docs, reason = "the keys are documented in system.toml, once")]

use std::fmt;

use serde::Deserialize;
use toml::Spanned;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The manifest that this one adds to, a file beside it.
    pub extends: Option<Spanned<String>>,
    /// Programs of that one that this one does without, and the forwards that lead to them.
    #[serde(default)]
    pub without: Vec<Spanned<String>>,
    /// Other sizes of its processes' heaps and of its regions.
    #[serde(default)]
    pub size: Vec<Size>,
    #[serde(default)]
    pub device: Vec<Device>,
    #[serde(default)]
    pub region: Vec<Region>,
    #[serde(default)]
    pub server: Vec<Server>,
    pub sessions: Option<Spanned<Sessions>>,
    #[serde(default)]
    pub program: Vec<Program>,
    pub trace: Option<Trace>,
    #[serde(default)]
    pub forward: Vec<Forward>,
}

/// A size that another manifest gives otherwise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// A server, program or region.
    pub name: Spanned<String>,
    /// KiB, of a process's heap or of a region.
    pub kib: Spanned<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    pub name: Spanned<String>,
    /// `vendor:device`, hexadecimal, of a PCI function.
    pub ids: Option<Spanned<Vec<Spanned<String>>>>,
    /// `first-last`, hexadecimal, of a device that is none.
    pub ports: Option<Spanned<String>>,
    pub line: Option<Spanned<u32>>,
    #[serde(default)]
    pub bus_master: bool,
}

impl Device {
    /// First and last port and the interrupt line, if it is a device of ports and they make sense.
    pub fn isa(&self) -> Option<(u16, u16, u8)> {
        let (first, last) = self.ports.as_ref()?.get_ref().split_once('-')?;
        let hex = |s: &str| u16::from_str_radix(s.strip_prefix("0x")?, 16).ok();
        let (first, last) = (hex(first)?, hex(last)?);
        let line = u8::try_from(*self.line.as_ref()?.get_ref()).ok()?;
        (first <= last && line < 16).then_some((first, last, line))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    pub name: Spanned<String>,
    pub kib: Option<Spanned<u32>>,
    pub dma: Option<Spanned<u8>>,
    pub device: Option<Spanned<Direction>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub name: Spanned<String>,
    pub file: Spanned<String>,
    pub priority: Spanned<u32>,
    pub budget_us: Option<Spanned<u32>>,
    pub period_us: Option<Spanned<u32>>,
    pub stack_kib: Spanned<u32>,
    pub heap_kib: Spanned<u32>,
    pub args: Option<Spanned<String>>,
    pub restart: Spanned<Restart>,
    #[serde(default)]
    pub endpoint: bool,
    pub timer: Option<Spanned<u32>>,
    pub device: Option<DeviceUse>,
    #[serde(default)]
    pub signals: Vec<Signal>,
    #[serde(default)]
    pub calls: Vec<Call>,
    #[serde(default)]
    pub maps: Vec<MapUse>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceUse {
    pub name: Spanned<String>,
    pub irq: Option<Spanned<u32>>,
    #[serde(default)]
    pub bars: Vec<Spanned<u32>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    pub to: Spanned<String>,
    pub bit: Spanned<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    pub to: Spanned<String>,
    pub badge: Spanned<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapUse {
    pub region: Spanned<String>,
    pub access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    R,
    Rw,
    Dma,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::R => "r",
            Self::Rw => "rw",
            Self::Dma => "dma",
        })
    }
}

/// What a device does with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    R,
    W,
    Rw,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    pub driver: Spanned<String>,
    pub stack: Spanned<String>,
    pub control: Spanned<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    pub name: Spanned<String>,
    pub file: Spanned<String>,
    pub priority: Spanned<u32>,
    pub budget_us: Option<Spanned<u32>>,
    pub period_us: Option<Spanned<u32>>,
    pub stack_kib: Spanned<u32>,
    pub heap_kib: Spanned<u32>,
    pub args: Option<Spanned<String>>,
    #[serde(default = "yes")]
    pub autostart: bool,
    pub restart: Spanned<Restart>,
    #[serde(default)]
    pub console: bool,
    #[serde(default)]
    pub init: bool,
    #[serde(default)]
    pub init_status: bool,
    #[serde(default)]
    pub random: bool,
    pub net_status: Option<Spanned<bool>>,
    pub untyped_kib: Option<Spanned<u32>>,
    pub device: Option<Spanned<String>>,
    #[serde(default)]
    pub maps: Vec<MapUse>,
    pub sockets: Option<Spanned<Sockets>>,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    pub policy: Policy,
    #[serde(default)]
    pub max: u32,
    #[serde(default)]
    pub window_s: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    Never,
    Always,
    OnCrash,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sockets {
    pub count: Spanned<u32>,
    pub tx_kib: Spanned<u32>,
    pub rx_kib: Spanned<u32>,
    #[serde(default)]
    pub bind: Vec<Spanned<String>>,
    #[serde(default)]
    pub connect: bool,
    #[serde(default)]
    pub broadcast: bool,
    #[serde(default)]
    pub ping: bool,
    #[serde(default)]
    pub raw: bool,
    #[serde(default)]
    pub capture: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    pub kib: Spanned<u32>,
    pub reader: Spanned<String>,
    #[serde(default)]
    pub at_boot: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Port of the host, on its loopback address.
    pub host: Spanned<u16>,
    /// Port of the system.
    pub port: Spanned<u16>,
    pub protocols: Vec<Protocol>,
    /// A word for people.
    pub what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}
