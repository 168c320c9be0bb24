//! Where the cases take place: a namespace with one tap interface, our relay, and the system behind it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use netd::Addressing;

use super::relay::{Line, Relay};
use super::sockets::Sockets;
use crate::bench::{guests, machine, namespace};
use crate::build::{self, Image};
use crate::harness::{BOOT, COMMAND, Failure, Guest, Setup, wrong};
use crate::manifest::Own;
use crate::workspace;

/// Linux's end of the cable.
pub const TAP: &str = "lab0";
/// Linux's address.
pub const LINUX: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The system's, and what a router's prefix makes of its MAC address.
pub const GUEST: Ipv4Addr = guests::address(0);
pub const GUEST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0x5054, 0x00ff, 0xfe12, 0x3456);
/// Linux's address with that prefix.
pub const LINUX6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Which addresses the ends of a stream have.
#[derive(Debug, Clone, Copy)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// A place on Linux's end.
    pub fn here(self, port: u16) -> SocketAddr {
        match self {
            Self::V4 => SocketAddr::from((LINUX, port)),
            Self::V6 => SocketAddr::from((LINUX6, port)),
        }
    }

    /// A place on the system.
    pub fn there(self, port: u16) -> SocketAddr {
        match self {
            Self::V4 => there(port),
            Self::V6 => SocketAddr::from((GUEST6, port)),
        }
    }

    /// A port of every address.
    pub fn any(self, port: u16) -> SocketAddr {
        match self {
            Self::V4 => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            Self::V6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        }
    }
}

/// Memory that the agent's system needs.
const MEMORY: u32 = 640;
/// How long a socket may stand still.
pub const STILL: Duration = Duration::from_secs(60);

/// See the [module](self).
pub struct Lab {
    pub guest: Guest,
    pub relay: Relay,
    pub calls: Sockets,
}

/// The system with the agent and a fixed address.
pub fn image() -> Result<Image, build::Error> {
    let (addr, gateway) = (GUEST, Some(LINUX));
    let v4 = Some(Addressing::Static { addr, prefix: 24, gateway, dns: None });
    build::build_with(&workspace::agent_manifest(), &Own { v4, v6: None }, true)
}

impl Lab {
    /// Makes the interface and boots the system behind it. The namespace must be ours.
    pub fn boot(image: &Image, seed: u64) -> Result<Self, Box<dyn std::error::Error>> {
        namespace::tap(TAP, LINUX, GUEST, machine::MAC)?;
        set(&format!("ipv6/conf/{TAP}/disable_ipv6"), "0").map_err(|e| e.to_string())?;
        // What Linux makes of its neighbours is part of it.
        ip(&format!("neigh del {GUEST} dev {TAP}")).map_err(|e| e.to_string())?;
        let relay = Relay::start(TAP, seed)?;
        let cable = Some(relay.path().to_path_buf());
        let setup =
            Setup { mem_mib: MEMORY, agent: true, cable, record: false, ..Setup::new("interop") };
        let mut guest = Guest::boot(image, &setup).map_err(|e| e.to_string())?;
        let ready = guest.wait_for("AGENT-READY", BOOT).map_err(|e| e.to_string());
        ready.map_err(|e| format!("{e}\n{}", guest.report()))?;
        let calls = Sockets::new(guest.agent().map_err(|e| e.to_string())?);
        Ok(Self { guest, relay, calls })
    }

    /// Puts everything back as it was before a case.
    pub fn between(&mut self) -> Result<(), Failure> {
        self.relay.set(Line::CLEAN, Line::CLEAN);
        self.relay.stop_recording();
        let _ = Command::new("tc").args(["qdisc", "del", "dev", TAP, "root"]).output();
        for (name, value) in [("ipv4/tcp_ecn", "2"), ("ipv4/tcp_fastopen", "1")] {
            set(name, value)?;
        }
        self.calls.reset()
    }

    /// Whether no further case can run.
    pub fn broken(&mut self) -> bool {
        self.between().is_err() || self.guest.command("echo here", COMMAND).is_err()
    }

    /// Where recordings are kept until their case has passed.
    pub fn file(&self, name: &str) -> PathBuf {
        crate::harness::files().join(format!("interop-{name}.pcap"))
    }
}

/// A place on the system.
pub fn there(port: u16) -> SocketAddr {
    SocketAddr::from((GUEST, port))
}

/// What an operation of our own socket did.
pub fn at<T>(what: &str, result: std::io::Result<T>) -> Result<T, Failure> {
    result.map_err(|e| Failure::Wrong(format!("{what}: {e}")))
}

/// A TCP connection to the system.
pub fn connect(to: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = at("connect", TcpStream::connect_timeout(&to, STILL))?;
    patient(&stream)?;
    Ok(stream)
}

/// No operation takes longer than [`STILL`].
pub fn patient(stream: &TcpStream) -> Result<(), Failure> {
    at("time-out", stream.set_read_timeout(Some(STILL)))?;
    at("time-out", stream.set_write_timeout(Some(STILL)))
}

/// A UDP socket that talks to one place.
pub fn datagrams(to: SocketAddr) -> Result<UdpSocket, Failure> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = at("bind", UdpSocket::bind(any))?;
    at("connect", socket.connect(to))?;
    at("time-out", socket.set_read_timeout(Some(STILL)))?;
    Ok(socket)
}

/// A setting below /proc/sys/net.
pub fn set(name: &str, value: &str) -> Result<(), Failure> {
    let written = std::fs::write(format!("/proc/sys/net/{name}"), value);
    written.map_err(|e| Failure::Host(format!("cannot set {name}: {e}")))
}

/// A counter of /proc/net/netstat or snmp, as in `TcpExt`, `TCPFastOpenActive`.
pub fn counter(table: &str, name: &str) -> Result<u64, Failure> {
    let read = |file| std::fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
    let text = read("netstat") + &read("snmp");
    let head = format!("{table}:");
    let mut rows = text.lines().filter(|l| l.starts_with(&head)).map(str::split_whitespace);
    let (names, values) = (rows.next(), rows.next());
    let found = names.zip(values).and_then(|(n, v)| n.zip(v).find(|(n, _)| *n == name));
    let value = found.and_then(|(_, v)| v.parse().ok());
    value.ok_or_else(|| Failure::Host(format!("Linux has no counter {table} {name}")))
}

/// Waits.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// `ip`, with these words.
pub fn ip(arguments: &str) -> Result<String, Failure> {
    program("ip", &arguments.split(' ').collect::<Vec<_>>(), 10)
}

/// What a program says within so many seconds.
pub fn program(name: &str, arguments: &[&str], seconds: u32) -> Result<String, Failure> {
    let mut command = Command::new("timeout");
    command.arg(seconds.to_string()).arg(name).args(arguments).stdin(std::process::Stdio::null());
    let output = command.output().map_err(|e| Failure::Host(format!("timeout: {e}")))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let how = match output.status.code() {
        Some(124) => format!("did not end within {seconds} s"),
        _ => output.status.to_string(),
    };
    wrong(format!("`{name} {}`: {how}\n{said}{errors}", arguments.join(" ")))
}
