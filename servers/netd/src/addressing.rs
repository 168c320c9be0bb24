//! What the manifest may say about the interface, in `args`: how it gets its address.

use crate::{addressing6, settings};
use core::fmt;
use core::net::Ipv4Addr;

/// How the interface gets its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// From a server.
    Dhcp,
    /// Given.
    Static {
        /// Address.
        addr: Ipv4Addr,
        /// Prefix length.
        prefix: u8,
        /// Default gateway.
        gateway: Option<Ipv4Addr>,
        /// Name server.
        dns: Option<Ipv4Addr>,
    },
}

/// What is wrong with an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgError<'a> {
    /// None of the words that are known.
    Unknown(&'a str),
    /// Given twice: which of them counts?
    Twice(&'a str),
    /// Not ADDRESS/LENGTH, or not the address of a host.
    Address(&'a str),
    /// Not the address of a host.
    Host(&'a str),
    /// A gateway that is no neighbour.
    Gateway(&'a str),
    /// Something that DHCP would say, and no address.
    NoAddress(&'a str),
    /// `dhcp`, and an address.
    Both,
    /// Not ADDRESS/LENGTH of IPv6, nor a word about it.
    Address6(&'a str),
    /// `gw6=` or `dns6=`, and no address.
    NoAddress6(&'a str),
    /// Not three numbers that ascend.
    Levels(&'a str),
}

impl fmt::Display for ArgError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(arg) => {
                write!(
                    f,
                    "argument {arg}: known are dhcp, ip=, gw=, dns=, ip6=, gw6=, dns6= and tcp_mem="
                )
            }
            Self::Twice(arg) => write!(f, "argument {arg}: given before"),
            Self::Address(arg) => {
                write!(
                    f,
                    "argument {arg}: write a host's address and prefix length, ip=10.9.0.2/24"
                )
            }
            Self::Host(arg) => write!(f, "argument {arg}: that is no host's address"),
            Self::Gateway(arg) => {
                write!(f, "argument {arg}: a gateway is another host in the network of ip=")
            }
            Self::NoAddress(arg) => {
                write!(f, "argument {arg}: goes with ip=, without it DHCP says")
            }
            Self::Address6(arg) => {
                write!(f, "argument {arg}: write ip6=auto, ip6=off, or ip6=2001:db8::2/64")
            }
            Self::NoAddress6(arg) => {
                write!(f, "argument {arg}: goes with ip6=ADDRESS/LENGTH, without it routers say")
            }
            Self::Levels(arg) => {
                write!(
                    f,
                    "argument {arg}: write three ascending amounts of KiB, tcp_mem=8192,12288,16384"
                )
            }
            Self::Both => f.write_str("arguments dhcp and ip=: one or the other"),
        }
    }
}

impl core::error::Error for ArgError<'_> {}

/// The arguments of each network card, which `|` separates: `dhcp | ip=10.1.0.2/24`.
pub fn cards(args: &str) -> impl Iterator<Item = &str> {
    args.split('|')
}

impl Addressing {
    /// Reads arguments, separated by spaces: `dhcp` or nothing, or `ip=10.9.0.2/24` with or without
    /// `gw=10.9.0.1` and `dns=10.9.0.1`.
    ///
    /// # Errors
    /// The first argument that is wrong. Nothing is passed over: an address that was meant and
    /// misspelt must not become one that somebody else chooses.
    pub fn parse(args: &str) -> Result<Self, ArgError<'_>> {
        let (mut dhcp, mut ip, mut gw, mut dns) = (None, None, None, None);
        for arg in
            args.split_whitespace().filter(|a| !addressing6::is_word(a) && !settings::is_word(a))
        {
            let seen = match arg.split_once('=') {
                None if arg == "dhcp" => dhcp.replace(arg).is_some(),
                Some(("ip", v)) => ip.replace(network(v).ok_or(ArgError::Address(arg))?).is_some(),
                Some(("gw", v)) => gw.replace((arg, host_of(arg, v)?)).is_some(),
                Some(("dns", v)) => dns.replace((arg, host_of(arg, v)?)).is_some(),
                _ => return Err(ArgError::Unknown(arg)),
            };
            if seen {
                return Err(ArgError::Twice(arg));
            }
        }
        match (dhcp, ip) {
            (Some(_), Some(_)) => Err(ArgError::Both),
            (None, Some((addr, prefix))) => {
                if let Some((arg, gateway)) = gw
                    && !is_neighbour(addr, gateway, prefix)
                {
                    return Err(ArgError::Gateway(arg));
                }
                let (gateway, dns) = (gw.map(|(_, v)| v), dns.map(|(_, v)| v));
                Ok(Self::Static { addr, prefix, gateway, dns })
            }
            (_, None) => match gw.or(dns) {
                Some((arg, _)) => Err(ArgError::NoAddress(arg)),
                None => Ok(Self::Dhcp),
            },
        }
    }
}

/// Whether an interface may have this address: not 0/8, 127/8, multicast or reserved.
fn is_host(a: &Ipv4Addr) -> bool {
    !matches!(a.octets()[0], 0 | 127 | 224..)
}

fn host_of<'a>(arg: &'a str, value: &str) -> Result<Ipv4Addr, ArgError<'a>> {
    value.parse().ok().filter(is_host).ok_or(ArgError::Host(arg))
}

/// Whether a host may have this address in a network of this prefix length: neither the network's
/// own nor its broadcast address (RFC 1122 3.2.1.3; networks of one and two have neither, RFC 3021).
fn may_have(addr: Ipv4Addr, prefix: u8) -> bool {
    let hosts = u32::MAX.checked_shr(prefix as u32).unwrap_or(0);
    let host = addr.to_bits() & hosts;
    hosts <= 1 || (host != 0 && host != hosts)
}

/// Whether `gateway` is another host of the network. A host that has its network for itself (/32)
/// finds any gateway on the link.
fn is_neighbour(addr: Ipv4Addr, gateway: Ipv4Addr, prefix: u8) -> bool {
    let differ = addr.to_bits() ^ gateway.to_bits();
    let near = prefix == 32 || differ.leading_zeros() >= prefix as u32;
    differ != 0 && near && may_have(gateway, prefix)
}

/// `10.9.0.2/24`: an address that a host may have, and the length of its network's prefix.
pub fn network(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (addr, prefix) = text.split_once('/')?;
    let addr: Ipv4Addr = addr.parse().ok().filter(is_host)?;
    let prefix = prefix.parse().ok().filter(|p| (1..=32).contains(p))?;
    may_have(addr, prefix).then_some((addr, prefix))
}

/// As [`Addressing::parse`] reads it.
impl fmt::Display for Addressing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Static { addr, prefix, gateway, dns } = self else { return f.write_str("dhcp") };
        write!(f, "ip={addr}/{prefix}")?;
        if let Some(gateway) = gateway {
            write!(f, " gw={gateway}")?;
        }
        if let Some(dns) = dns {
            write!(f, " dns={dns}")?;
        }
        Ok(())
    }
}
