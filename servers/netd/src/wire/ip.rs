//! What transports know of an IP header: the same for both families.

use super::{checksum::Sum, ethernet::EtherType, ipv4, ipv6};
use core::net::{IpAddr, Ipv4Addr};

/// Room for the header of either family; IPv6's is the longer (RFC 8200 3).
pub const HEADER: usize = 40;
/// Hops that a packet of ours may take (RFC 1700).
pub const HOP_LIMIT: u8 = 64;

/// Protocol numbers.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IGMP (RFC 3376).
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// Of packets that have their headers already, as Linux numbers it; no packet's.
    pub const RAW: u8 = 255;
}

/// An IP header, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// Type of service, or traffic class: six bits of DSCP, two of ECN.
    pub tos: u8,
    /// IPv4: routers must not cut it. Routers never cut IPv6 packets.
    pub dont_fragment: bool,
    /// Bytes of payload.
    pub payload_len: u16,
}

impl Repr {
    /// Of a packet of ours.
    pub const fn new(src: IpAddr, dst: IpAddr, protocol: u8, payload_len: u16) -> Self {
        Self { src, dst, protocol, hop_limit: HOP_LIMIT, tos: 0, dont_fragment: true, payload_len }
    }
    /// The sum of the pseudo-header.
    pub fn pseudo(&self) -> Sum {
        Sum::pseudo(self.src, self.dst, self.protocol, self.payload_len)
    }
    /// Writes the header so that it ends where `out` ends; yields its length and what Ethernet
    /// calls it. `id` is the identification, where there is one.
    ///
    /// `None`: there is no such header, as it has addresses of one family.
    pub fn emit(&self, id: u16, out: &mut [u8; HEADER]) -> Option<(usize, EtherType)> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                self.v4(src, dst, id).emit(out.last_chunk_mut()?);
                Some((ipv4::HEADER, EtherType::Ipv4))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let &Self { protocol: next, hop_limit, tos: class, payload_len, .. } = self;
                ipv6::Repr { src, dst, next, hop_limit, class, flow: 0, payload_len }.emit(out);
                Some((ipv6::HEADER, EtherType::Ipv6))
            }
            _ => None,
        }
    }

    /// As an IPv4 header.
    pub const fn v4(&self, src: Ipv4Addr, dst: Ipv4Addr, id: u16) -> ipv4::Repr {
        let &Self { protocol, hop_limit: ttl, tos, dont_fragment, payload_len, .. } = self;
        let whole = ipv4::Repr::new(src, dst, protocol, payload_len);
        ipv4::Repr { ttl, id, tos, dont_fragment, ..whole }
    }
}

impl From<ipv6::Repr> for Repr {
    fn from(r: ipv6::Repr) -> Self {
        Self {
            src: IpAddr::V6(r.src),
            dst: IpAddr::V6(r.dst),
            protocol: r.next,
            hop_limit: r.hop_limit,
            tos: r.class,
            dont_fragment: true,
            payload_len: r.payload_len,
        }
    }
}

impl From<ipv4::Repr> for Repr {
    fn from(r: ipv4::Repr) -> Self {
        Self {
            src: IpAddr::V4(r.src),
            dst: IpAddr::V4(r.dst),
            protocol: r.protocol,
            hop_limit: r.ttl,
            tos: r.tos,
            dont_fragment: r.dont_fragment,
            payload_len: r.payload_len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repr(src: &str, dst: &str) -> Repr {
        Repr::new(src.parse().unwrap(), dst.parse().unwrap(), protocol::TCP, 100)
    }

    #[test]
    fn a_header_ends_where_its_room_ends() {
        let mut out = [0xaa; HEADER];
        let ours = repr("10.0.2.15", "10.0.2.2");
        assert_eq!(ours.emit(7, &mut out), Some((20, EtherType::Ipv4)));
        assert_eq!(out[..20], [0xaa; 20]);
        let (parsed, len) = ipv4::Repr::parse(&out[20..], 120).unwrap();
        assert_eq!((parsed.id, len, Repr::from(parsed)), (7, 20, ours));
    }

    #[test]
    fn both_families_are_written() {
        let mut out = [0xaa; HEADER];
        let ours = repr("fe80::1", "fe80::2");
        assert_eq!(ours.emit(7, &mut out), Some((40, EtherType::Ipv6)));
        assert_eq!(ipv6::Repr::parse(&out, 140).map(Repr::from), Ok(ours));
    }

    #[test]
    fn what_is_not_written_is_left_alone() {
        let mut out = [0xaa; HEADER];
        for (src, dst) in [("10.0.2.15", "fe80::2"), ("::1", "127.0.0.1")] {
            assert_eq!(repr(src, dst).emit(0, &mut out), None);
        }
        assert_eq!(out, [0xaa; HEADER]);
    }
}
