//! What else than UDP a datagram socket may be: echo requests (`SOCK_DGRAM`, `IPPROTO_ICMP`) and raw packets.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use libipc::sock::Kind;

use super::Result;
use super::data::Data;
use super::numbers::{Errno, af, ipproto, sock};
use crate::net::Datagram;

/// Bytes of an ICMP message before its identifier: type, code, checksum.
pub(super) const ICMP: usize = 4;
/// Types of echo requests and of their replies, of either family.
const ECHO: [(u8, u8); 2] = [(8, 0), (128, 129)];

/// What it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// UDP.
    Udp,
    /// Echo requests out, their replies in; of IPv6 or not.
    Ping(bool),
    /// Packets of a protocol; of IPv6 or not.
    Raw(u8, bool),
}

impl Flavour {
    /// Of `socket(2)`'s arguments.
    pub fn of(domain: i32, ty: i32, protocol: i32) -> Result<Self> {
        let six = domain == af::INET6;
        let icmp = if six { ipproto::ICMPV6 } else { ipproto::ICMP };
        match (ty, protocol) {
            (sock::DGRAM, 0 | ipproto::UDP) => Ok(Self::Udp),
            (sock::DGRAM, p) if p == icmp => Ok(Self::Ping(six)),
            (sock::RAW, 1..=255) => Ok(Self::Raw(protocol as u8, six)),
            _ => Err(Errno::EPROTONOSUPPORT),
        }
    }
    /// What it is to netd.
    pub fn kind(self) -> Kind {
        match self {
            Self::Udp => Kind::Udp,
            Self::Ping(_) => Kind::Ping,
            Self::Raw(..) => Kind::Raw,
        }
    }
    /// SO_TYPE.
    pub fn ty(self) -> i32 {
        if matches!(self, Self::Raw(..)) { sock::RAW } else { sock::DGRAM }
    }
    /// SO_PROTOCOL.
    pub fn protocol(self) -> i32 {
        match self {
            Self::Udp => ipproto::UDP,
            Self::Ping(false) => ipproto::ICMP,
            Self::Ping(true) => ipproto::ICMPV6,
            Self::Raw(protocol, _) => protocol as i32,
        }
    }
    /// Where it is bound at first: a raw socket to its protocol.
    pub fn first(self) -> Option<SocketAddr> {
        match self {
            Self::Raw(protocol, six) => Some(SocketAddr::new(any(six), protocol as u16)),
            _ => None,
        }
    }
    /// What to bind when a program says `addr`: a raw socket has no ports.
    pub fn place(self, addr: SocketAddr) -> SocketAddr {
        match self {
            Self::Raw(protocol, _) => SocketAddr::new(addr.ip(), protocol as u16),
            _ => addr,
        }
    }
    /// Which part of `data` netd is given: echo requests without what it writes itself.
    pub fn part(self, data: &Data) -> Result<usize> {
        let Self::Ping(six) = self else { return Ok(0) };
        if data.len() < ICMP + 4 {
            return Err(Errno::EINVAL);
        }
        let mut head = [0; 2];
        data.copy(0, &mut head);
        if head == [ECHO[six as usize].0, 0] { Ok(ICMP) } else { Err(Errno::EINVAL) }
    }
    /// Bytes before what netd gives.
    pub fn before(self) -> usize {
        if matches!(self, Self::Ping(_)) { ICMP } else { 0 }
    }
    /// A datagram as the program sees it.
    pub fn whole(self, d: &Datagram<'_>) -> Vec<u8> {
        let mut b = alloc::vec![0; self.before() + d.len()];
        let n = d.read(0, &mut b[self.before()..]);
        b.truncate(self.before() + n);
        if let Self::Ping(six) = self {
            b[0] = ECHO[six as usize].1;
            let mut sum = sum_of(&b);
            if let (true, IpAddr::V6(from), IpAddr::V6(to)) = (six, d.sender().ip(), d.sent_to()) {
                sum += sum_of(&from.octets()) + sum_of(&to.octets());
                sum += b.len() as u32 + ipproto::ICMPV6 as u32;
            }
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            b[2..4].copy_from_slice(&(!sum as u16).to_be_bytes());
        }
        b
    }
}

/// Any address of a family.
pub(super) fn any(six: bool) -> IpAddr {
    if six { [0; 16].into() } else { [0; 4].into() }
}

/// RFC 1071, not folded: at most 64 KiB are summed.
fn sum_of(bytes: &[u8]) -> u32 {
    let word = |w: &[u8]| (w[0] as u32) << 8 | w.get(1).copied().unwrap_or(0) as u32;
    bytes.chunks(2).map(word).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_protocols_as_socket_has_them() {
        let of = Flavour::of;
        assert!(of(af::INET, sock::DGRAM, 0) == Ok(Flavour::Udp));
        assert!(of(af::INET, sock::DGRAM, 1) == Ok(Flavour::Ping(false)));
        assert!(of(af::INET6, sock::DGRAM, 58) == Ok(Flavour::Ping(true)));
        assert!(of(af::INET, sock::RAW, 255) == Ok(Flavour::Raw(255, false)));
        for (domain, ty, protocol) in
            [(af::INET, sock::DGRAM, 58), (af::INET6, sock::DGRAM, 1), (af::INET, sock::RAW, 0)]
        {
            assert!(of(domain, ty, protocol) == Err(Errno::EPROTONOSUPPORT));
        }
        assert!(of(af::INET, sock::RAW, 256) == Err(Errno::EPROTONOSUPPORT));
    }

    #[test]
    fn only_echo_requests_are_sent() {
        let part = |f: Flavour, b: &[u8]| f.part(&Data::Bytes(b.to_vec()));
        assert_eq!(part(Flavour::Ping(false), &[8, 0, 9, 9, 0, 7, 0, 1]), Ok(4));
        assert_eq!(part(Flavour::Ping(true), &[128, 0, 9, 9, 0, 7, 0, 1]), Ok(4));
        for wrong in
            [&[8, 0, 9, 9, 0, 7, 0][..], &[0, 0, 9, 9, 0, 7, 0, 1], &[8, 1, 0, 0, 0, 0, 0, 0]]
        {
            assert_eq!(part(Flavour::Ping(false), wrong), Err(Errno::EINVAL));
        }
        assert_eq!(part(Flavour::Raw(1, false), &[]), Ok(0));
    }
}
