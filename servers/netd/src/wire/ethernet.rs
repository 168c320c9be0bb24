//! Ethernet II frames.

use super::{Malformed, array, be16};
use core::fmt;
use core::net::IpAddr;

/// Bytes of the header.
pub const HEADER: usize = 14;
/// Bytes of a tag of IEEE 802.1Q.
pub const TAG: usize = 4;
/// Frames are at least this long without their FCS; the NIC does not pad.
pub const MIN_FRAME: usize = 60;

/// A MAC address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All ones.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// The group that Ethernet sends a multicast packet to (RFC 1112 6.4, RFC 2464 7).
    pub const fn of_group(group: IpAddr) -> Self {
        match group {
            IpAddr::V4(ip) => {
                let [_, b, c, d] = ip.octets();
                Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
            }
            IpAddr::V6(ip) => {
                let [.., a, b, c, d] = ip.octets();
                Self([0x33, 0x33, a, b, c, d])
            }
        }
    }
    /// Whether it names a group (including broadcast).
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
    /// Whether a single station can have it.
    pub const fn is_station(self) -> bool {
        !self.is_group()
            && u64::from_be_bytes([
                0, 0, self.0[0], self.0[1], self.0[2], self.0[3], self.0[4], self.0[5],
            ]) != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What follows the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtherType {
    /// 0x0800.
    Ipv4,
    /// 0x0806.
    Arp,
    /// 0x86dd (RFC 2464 3).
    Ipv6,
}

/// An Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Destination.
    pub dst: Mac,
    /// Source.
    pub src: Mac,
    /// Type.
    pub ty: EtherType,
}

impl Repr {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Malformed::Unsupported`] for other types, [`Malformed::Address`] for a group as source.
    pub fn parse(b: &[u8]) -> Result<Self, Malformed> {
        let (dst, src) = (Mac(array(b, 0)?), Mac(array(b, 6)?));
        let ty = match be16(b, 12)? {
            0x0800 => EtherType::Ipv4,
            0x0806 => EtherType::Arp,
            0x86dd => EtherType::Ipv6,
            _ => return Err(Malformed::Unsupported),
        };
        if !src.is_station() {
            return Err(Malformed::Address);
        }
        Ok(Self { dst, src, ty })
    }
    /// Writes the header.
    pub fn emit(&self, out: &mut [u8; HEADER]) {
        out[..6].copy_from_slice(&self.dst.0);
        out[6..12].copy_from_slice(&self.src.0);
        let ty: u16 = match self.ty {
            EtherType::Ipv4 => 0x0800,
            EtherType::Arp => 0x0806,
            EtherType::Ipv6 => 0x86dd,
        };
        out[12..].copy_from_slice(&ty.to_be_bytes());
    }
}

/// Whether the frame has a tag of IEEE 802.1Q or 802.1ad that names no VLAN, only a priority.
pub fn has_priority_tag(b: &[u8]) -> bool {
    match b.get(12..HEADER + 2) {
        Some(&[0x81, 0x00, high, low] | &[0x88, 0xa8, high, low]) => high & 15 == 0 && low == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_both_ways() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 6];
        let repr = Repr {
            dst: Mac::BROADCAST,
            src: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
            ty: EtherType::Arp,
        };
        assert_eq!(Repr::parse(&bytes), Ok(repr));
        let mut out = [0; HEADER];
        repr.emit(&mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn groups_have_addresses_of_their_own() {
        let of = |ip: &str| Mac::of_group(ip.parse().unwrap());
        assert_eq!(of("224.129.2.3"), Mac([1, 0, 0x5e, 1, 2, 3]), "the 24th bit is cut");
        assert_eq!(of("ff02::1:ff12:3456"), Mac([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]));
    }

    #[test]
    fn a_group_cannot_send() {
        let mut bytes = [0; HEADER];
        bytes[12] = 8;
        assert_eq!(Repr::parse(&bytes), Err(Malformed::Address), "the zero address");
        bytes[6] = 3;
        assert_eq!(Repr::parse(&bytes), Err(Malformed::Address));
        assert_eq!(Repr::parse(&bytes[..13]), Err(Malformed::Truncated));
    }
}
