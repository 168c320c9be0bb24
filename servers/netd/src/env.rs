//! What the stack needs of its surroundings, besides time: a copy routine and somewhere to tell
//! what happens.

use crate::dev::Dev;
use crate::wire::{checksum::Sum, ethernet::Mac};
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use libipc::Name;
pub use libipc::counters::Counters;
use libipc::log::Held;
use libipc::msg::Nonsense;
use libipc::ring::PeerError;
use libipc::shared::Bytes;

/// Bytes in shared memory.
#[derive(Clone, Copy)]
pub struct At<'a>(pub &'a Bytes, pub usize);

/// The surroundings.
pub trait Env {
    /// Copies `len` bytes and sums them in the same pass, as if they began at an even offset:
    /// every byte is read once, so what was summed is what was copied. `None`: out of range.
    ///
    /// The guest has a routine in assembly; this one is portable.
    fn copy_sum(&mut self, from: At<'_>, to: At<'_>, len: usize) -> Option<Sum> {
        let mut sum = Sum::ZERO;
        let mut buffer = [0; 512];
        let mut done = 0;
        while done < len {
            let piece = &mut buffer[..(len - done).min(512)];
            if !from.0.read(from.1 + done, piece) || !to.0.write(to.1 + done, piece) {
                return None;
            }
            sum = sum.bytes(piece);
            done += piece.len();
        }
        Some(sum)
    }

    /// Sums `len` bytes where they are. `None`: out of range.
    fn sum(&mut self, from: At<'_>, len: usize) -> Option<Sum> {
        let mut sum = Sum::ZERO;
        let mut buffer = [0; 512];
        let mut done = 0;
        while done < len {
            let piece = &mut buffer[..(len - done).min(512)];
            if !from.0.read(from.1 + done, piece) {
                return None;
            }
            sum = sum.bytes(piece);
            done += piece.len();
        }
        Some(sum)
    }

    /// Something that an operator would want to read.
    fn event(&mut self, event: Event);
}

/// What is worth a line in the log. Those that others can bring about come at a bounded pace
/// from each of them; `held` counts the ones since the last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The driver has started, or the link changed.
    Link {
        /// Which.
        dev: Dev,
        /// Address of the NIC.
        mac: Mac,
        /// Link state.
        up: bool,
        /// Mbit/s.
        speed: u32,
    },
    /// A card has an address.
    Address {
        /// Which.
        dev: Dev,
        /// Address.
        addr: IpAddr,
        /// Prefix length.
        prefix: u8,
        /// Default gateway.
        gateway: Option<IpAddr>,
        /// Name server.
        dns: Option<IpAddr>,
        /// Seconds that DHCP lends it for.
        lease_s: Option<u32>,
    },
    /// An address has ended: its prefix is not valid any more, or the NIC is another.
    AddressGone {
        /// Address.
        addr: IpAddr,
    },
    /// The lease ran out or was refused.
    AddressLost {
        /// Of this card.
        dev: Dev,
    },
    /// No DHCP server has answered several times.
    NoServer {
        /// On this card.
        dev: Dev,
    },
    /// Another station uses our address.
    AddressConflict {
        /// Address.
        addr: IpAddr,
        /// Who.
        mac: Mac,
    },
    /// The driver wrote nonsense; its session was begun anew.
    Driver {
        /// Of this card.
        dev: Dev,
        /// What.
        fault: DriverFault,
        /// Likewise, untold.
        held: u32,
    },
    /// A program wrote nonsense into its session's memory; its sockets were aborted.
    Session {
        /// Program.
        program: Name,
        /// What.
        fault: SessionFault,
        /// Likewise, untold.
        held: u32,
    },
    /// Who may call sent what is no request.
    Nonsense {
        /// Badge of the endpoint.
        badge: u64,
        /// What.
        what: Nonsense,
        /// Likewise, untold.
        held: u32,
    },
    /// A new incarnation took over from records.
    Recovered {
        /// Connections.
        connections: u32,
        /// Listeners.
        listeners: u32,
        /// Datagram sockets.
        datagrams: u32,
        /// Records that did not hold.
        dropped: u32,
    },
    /// A listener's backlog is full, or it has no spare: a SYN was dropped.
    BacklogFull {
        /// Where it listens.
        at: SocketAddr,
        /// Likewise in the same session, untold.
        held: u32,
    },
}

/// What a driver can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverFault {
    /// A ring index.
    Ring(PeerError),
    /// A receive buffer that it did not have.
    Buffer(u32),
    /// A length that no buffer has.
    Length(u16),
    /// A cookie out of order.
    Cookie(u16),
}

/// What a program can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionFault {
    /// A ring index.
    Ring(PeerError),
    /// More data than the send ring holds, or an index that moves backwards.
    SendIndex(u16),
    /// More taken than has arrived, or an index that moves backwards.
    ReceiveIndex(u16),
    /// An id that does not exist.
    Id(u64),
    /// A datagram whose length is impossible.
    Datagram(u16),
}

impl fmt::Display for SessionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ring(PeerError::Index { claimed, ours }) => {
                write!(f, "its index of an id ring says {claimed}, which cannot follow {ours}")
            }
            Self::Ring(PeerError::Header) => f.write_str("the header of its submit ring is none"),
            Self::SendIndex(id) => {
                write!(f, "tx_tail of socket {id} went back, or past the end of its ring")
            }
            Self::ReceiveIndex(id) => {
                write!(f, "rx_head of socket {id} went back, or past what has arrived")
            }
            Self::Id(id) => write!(f, "it submitted socket {id}, which it cannot have"),
            Self::Datagram(id) => write!(f, "socket {id} sends a datagram of impossible length"),
        }
    }
}

impl fmt::Display for DriverFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ring(PeerError::Index { claimed, ours }) => {
                write!(f, "its index of a ring says {claimed}, which cannot follow {ours}")
            }
            Self::Ring(PeerError::Header) => f.write_str("the header of one of its rings is none"),
            Self::Buffer(buffer) => write!(f, "it filled buffer {buffer}, which it did not have"),
            Self::Length(len) => write!(f, "it put {len} bytes into a receive buffer"),
            Self::Cookie(cookie) => write!(f, "it sent frame {cookie}, whose turn it was not"),
        }
    }
}

/// Which card a line is about, unless it is the first one.
struct On(Dev);

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Dev::FIRST { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link { dev, mac, up: true, speed } => {
                write!(f, "{}link up, {speed} Mbit/s, MAC {mac}", On(*dev))
            }
            Self::Link { dev, mac, up: false, .. } => {
                write!(f, "{}link down, MAC {mac}", On(*dev))
            }
            Self::Address { dev, addr, prefix, gateway, dns, lease_s } => {
                write!(f, "{}address", On(*dev))?;
                write!(f, " {addr}/{prefix}")?;
                if let Some(gateway) = gateway {
                    write!(f, " gateway {gateway}")?;
                }
                if let Some(dns) = dns {
                    write!(f, " dns {dns}")?;
                }
                match lease_s {
                    Some(lease) => write!(f, " (DHCP, {lease} s)"),
                    None => Ok(()),
                }
            }
            Self::AddressGone { addr } => write!(f, "address {addr} has ended"),
            Self::AddressLost { dev } => {
                write!(f, "{}address lost: the lease ended or was refused", On(*dev))
            }
            Self::NoServer { dev } => write!(
                f,
                "{}no DHCP server answers, asking on; `ip=ADDRESS/LENGTH` in the manifest, or `run --ip`, \
                 needs none",
                On(*dev)
            ),
            Self::AddressConflict { addr, mac } => {
                write!(f, "address conflict: {addr} is also at {mac}")
            }
            Self::Driver { dev, fault, held } => {
                write!(
                    f,
                    "{}the driver misbehaves: {fault}; its session is begun anew{}",
                    On(*dev),
                    Held(*held)
                )
            }
            Self::Session { program, fault, held } => {
                write!(f, "{program} misbehaves: {fault}; its session is ended{}", Held(*held))
            }
            Self::Nonsense { badge, what, held } => {
                write!(f, "the caller with badge {badge} sent {what}{}", Held(*held))
            }
            Self::Recovered { connections, listeners, datagrams, dropped } => write!(
                f,
                "recovered {connections} connections, {listeners} listeners, {datagrams} datagram sockets; {dropped} records dropped"
            ),
            Self::BacklogFull { at, held } => {
                write!(
                    f,
                    "the backlog of {at} is full: a connection is kept waiting{}",
                    Held(*held)
                )
            }
        }
    }
}
