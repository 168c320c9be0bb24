//! Datagrams and addresses as they lie in shared memory.

use super::Error;
use crate::permission::Permission;
use core::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

/// Splits an address into the two words of a record.
pub fn ip_words(ip: core::net::IpAddr) -> [u64; 2] {
    let bits = match ip {
        core::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        core::net::IpAddr::V6(v6) => v6.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

/// The address in two words of a record; mapped IPv4 addresses come back as IPv4.
#[inline]
pub fn ip_from_words(words: [u64; 2]) -> core::net::IpAddr {
    if words[0] == 0 && words[1] >> 32 == 0xffff {
        return IpAddr::V4(Ipv4Addr::from_bits(words[1] as u32));
    }
    core::net::Ipv6Addr::from_bits((words[0] as u128) << 64 | words[1] as u128).to_canonical()
}

/// Whether an address of IPv6 has a meaning on one link only (RFC 4007 6), so that who names it names an interface, too.
pub fn needs_scope(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V6(ip) if ip.is_multicast() => matches!(ip.octets()[1] & 15, 1 | 2),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    }
}

/// The number of the interface that an address names by its scope id; 0: none.
pub fn scope_of(addr: SocketAddr) -> u8 {
    match addr {
        SocketAddr::V6(a) if needs_scope(addr.ip()) => a.scope_id().min(u8::MAX as u32) as u8,
        _ => 0,
    }
}

/// The address as one that interface `number` knows, if that makes a difference.
pub fn scoped(addr: SocketAddr, number: u8) -> SocketAddr {
    match addr {
        SocketAddr::V6(a) if needs_scope(addr.ip()) => {
            SocketAddrV6::new(*a.ip(), a.port(), a.flowinfo(), number as u32).into()
        }
        addr => addr,
    }
}

/// Header of a datagram in a ring: 40 bytes, little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dgram {
    /// Bytes of payload that follow.
    pub len: u16,
    /// Peer's port, 0 on a connected socket's send.
    pub port: u16,
    /// Time to live or hop limit: as it arrived; to be sent with, 0: the socket's.
    pub ttl: u8,
    /// Type of service or traffic class: as it arrived; to be sent with, if [`Dgram::TOS`] is set.
    pub tos: u8,
    /// [`Dgram::TOS`], [`Dgram::SOURCE`] and [`Dgram::DEVICE`].
    pub flags: u8,
    /// Number of the interface, 1: the loop, from 2 on network cards: that by which it came; to leave by, if
    /// [`Dgram::DEVICE`] is set.
    pub interface: u8,
    /// Peer's address as in [`ip_words`]; zero: the connected peer.
    pub ip: [u64; 2],
    /// Own address, likewise: where it was sent to; to be sent from, if [`Dgram::SOURCE`] is set.
    pub local: [u64; 2],
}

impl Dgram {
    /// Bytes of the header.
    pub const BYTES: usize = 40;
    /// Each datagram begins at a multiple of this.
    pub const ALIGN: u64 = 8;
    /// Longest payload: what a UDP length field can say, less its header. Over IPv4 it is
    /// [`Dgram::MAX_V4`]: what is longer is answered with [`super::Error::MessageTooLong`].
    pub const MAX: usize = 65_535 - 8;
    /// Longest payload in an IPv4 packet.
    pub const MAX_V4: usize = 65_535 - 20 - 8;
    /// Longest payload that needs no fragments on an Ethernet.
    pub const UNCUT: usize = 1500 - 20 - 8;
    /// `tos` is to be used.
    pub const TOS: u8 = 1;
    /// `local` is to be sent from.
    pub const SOURCE: u8 = 2;
    /// `interface` is to be left by.
    pub const DEVICE: u8 = 16;
    /// Of a captured frame: it left. `port` is its length, the first half of `ip` the time, ns since boot.
    pub const OUTGOING: u8 = 4;
    /// In a receive ring: no datagram but a [`Notice`], then as much of the datagram that it is about
    /// as is known. The peer is where that one was to go, `local` who says so.
    pub const NOTICE: u8 = 8;
    /// Number of the loop among interfaces.
    pub const LOOP: u8 = 1;
    /// Number of the first network card.
    pub const NIC: u8 = 2;

    /// Whether a socket with these [`super::option`] bits may send `len` bytes to `to`, as far as the
    /// program can tell: netd knows more, but tells later.
    ///
    /// # Errors
    /// [`Error::MessageTooLong`]: longer than a packet can be, or than the link carries if it must
    /// not be cut. [`Error::NotPermitted`]: to everybody without SO_BROADCAST.
    pub fn check(to: core::net::IpAddr, len: usize, options: u32) -> Result<(), Error> {
        use super::option::{BROADCAST, PMTU, PMTU_DO, PMTU_PROBE};
        let uncut = matches!(options & PMTU, PMTU_DO | PMTU_PROBE) && !to.is_loopback();
        let longest = match (to, uncut) {
            (IpAddr::V4(_), true) => Self::UNCUT,
            (IpAddr::V4(_), false) => Self::MAX_V4,
            (IpAddr::V6(_), true) => Self::UNCUT - 20,
            (IpAddr::V6(_), false) => Self::MAX,
        };
        if len > longest {
            return Err(Error::MessageTooLong);
        }
        match to {
            IpAddr::V4(Ipv4Addr::BROADCAST) if options & BROADCAST == 0 => {
                Err(Error::NotPermitted(Permission::Broadcast))
            }
            _ => Ok(()),
        }
    }
    /// To (or from) `to`, `len` bytes; the rest as the socket has it. It leaves by the interface that `to` names.
    pub fn new(to: Option<SocketAddr>, len: u16) -> Self {
        let (ip, port) = to.map_or(([0; 2], 0), |to| (ip_words(to.ip()), to.port()));
        let interface = to.map_or(0, scope_of);
        let flags = if interface == 0 { 0 } else { Self::DEVICE };
        Self { len, port, ip, interface, flags, ..Self::default() }
    }
    /// Bytes of ring that a datagram of `len` bytes takes.
    pub const fn space(len: usize) -> u64 {
        (Self::BYTES as u64 + len as u64).next_multiple_of(Self::ALIGN)
    }
    /// As bytes: the fields in their order.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut b = [0; Self::BYTES];
        b[0..2].copy_from_slice(&self.len.to_le_bytes());
        b[2..4].copy_from_slice(&self.port.to_le_bytes());
        b[4..8].copy_from_slice(&[self.ttl, self.tos, self.flags, self.interface]);
        b[8..16].copy_from_slice(&self.ip[0].to_le_bytes());
        b[16..24].copy_from_slice(&self.ip[1].to_le_bytes());
        b[24..32].copy_from_slice(&self.local[0].to_le_bytes());
        b[32..40].copy_from_slice(&self.local[1].to_le_bytes());
        b
    }
    /// From bytes.
    pub fn from_bytes(b: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| b[at + i]));
        let [.., ttl, tos, flags, interface] = *b.first_chunk::<8>().unwrap_or(&[0; 8]);
        Self {
            len: u16::from_le_bytes([b[0], b[1]]),
            port: u16::from_le_bytes([b[2], b[3]]),
            ttl,
            tos,
            flags,
            interface,
            ip: [word(8), word(16)],
            local: [word(24), word(32)],
        }
    }
}

/// What became of a datagram of ours: an entry of Linux's error queue (IP_RECVERR), in the layout of
/// its `struct sock_extended_err`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// [`Error::errno`].
    pub errno: u32,
    /// [`Notice::LOCAL`], [`Notice::ICMP`], [`Notice::ICMP6`].
    pub origin: u8,
    /// Type of the ICMP message.
    pub ty: u8,
    /// Its code.
    pub code: u8,
    /// What it says besides: an MTU, where an error is.
    pub info: u32,
}

impl Notice {
    /// Bytes of one.
    pub const BYTES: usize = 16;
    /// [`Notice::origin`]: this host.
    pub const LOCAL: u8 = 1;
    /// [`Notice::origin`]: ICMP.
    pub const ICMP: u8 = 2;
    /// [`Notice::origin`]: ICMPv6.
    pub const ICMP6: u8 = 3;

    /// As bytes.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut b = [0; Self::BYTES];
        b[..4].copy_from_slice(&self.errno.to_le_bytes());
        b[4..7].copy_from_slice(&[self.origin, self.ty, self.code]);
        b[8..12].copy_from_slice(&self.info.to_le_bytes());
        b
    }

    /// From bytes.
    pub fn from_bytes(b: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| u32::from_le_bytes(core::array::from_fn(|i| b[at + i]));
        let [_, _, _, _, origin, ty, code, ..] = *b;
        Self { errno: word(0), origin, ty, code, info: word(8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagram_headers_and_addresses_survive_a_round_trip() {
        let ip: core::net::IpAddr = "10.0.2.15".parse().unwrap();
        let d = Dgram {
            ttl: 64,
            tos: 3,
            flags: Dgram::TOS,
            interface: 2,
            local: ip_words("10.0.2.2".parse().unwrap()),
            ..Dgram::new(Some((ip, 53).into()), 1472)
        };
        assert_eq!(Dgram::from_bytes(&d.to_bytes()), d);
        assert_eq!(d.to_bytes()[..8], [0xc0, 5, 53, 0, 64, 3, 1, 2]);
        assert_eq!(ip_from_words(d.ip), ip);
        let n = Notice { errno: 90, origin: 2, ty: 3, code: 4, info: 0x1234_5678 };
        assert_eq!(Notice::from_bytes(&n.to_bytes()), n);
        let v6: core::net::IpAddr = "fe80::1".parse().unwrap();
        assert_eq!(ip_from_words(ip_words(v6)), v6);
    }

    #[test]
    fn addresses_of_a_link_name_it() {
        for (text, number) in [
            ("[fe80::1%3]:7", 3),
            ("[fe80::1]:7", 0),
            ("[ff02::1%2]:7", 2),
            ("[2001:db8::1%3]:7", 0),
        ] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(scope_of(addr), number, "{text}");
            assert_eq!(scoped(addr, 9) == addr, scope_of(scoped(addr, 9)) == 0, "{text}");
        }
        let d = Dgram::new("[fe80::1%3]:7".parse().ok(), 0);
        assert_eq!((d.flags, d.interface), (Dgram::DEVICE, 3));
    }
}
