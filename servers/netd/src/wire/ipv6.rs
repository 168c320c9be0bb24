//! IPv6 headers (RFC 8200 3) and what their addresses mean (RFC 4291).

use super::{Malformed, array, be16, be32};
use core::net::Ipv6Addr;

/// Bytes of the header.
pub const HEADER: usize = 40;
/// What every link must carry (RFC 8200 5): no path is believed to have less.
pub const MIN_MTU: u16 = 1280;
/// All nodes of the link (RFC 4291 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers of the link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// An IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source.
    pub src: Ipv6Addr,
    /// Destination.
    pub dst: Ipv6Addr,
    /// What follows: an extension header or a transport.
    pub next: u8,
    /// Hops that it may still take.
    pub hop_limit: u8,
    /// Traffic class.
    pub class: u8,
    /// Flow label, 20 bits (RFC 6437).
    pub flow: u32,
    /// Bytes that follow, extension headers included.
    pub payload_len: u16,
}

impl Repr {
    /// Reads the header of a packet that has `available` bytes in all.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] if it says more than there is, [`Malformed::Address`] for a source
    /// that is a group (RFC 4291 2.7) or an IPv4 address in disguise (nobody sends these, but they
    /// would pass for packets of IPv4 further up), or a group of no scope.
    pub fn parse(b: &[u8], available: usize) -> Result<Self, Malformed> {
        let header: &[u8; HEADER] = b.first_chunk().ok_or(Malformed::Truncated)?;
        let first = be32(header, 0)?;
        if first >> 28 != 6 {
            return Err(Malformed::Unsupported);
        }
        let payload_len = be16(header, 4)?;
        if HEADER + payload_len as usize > available {
            return Err(Malformed::Truncated);
        }
        let src = Ipv6Addr::from(array::<16>(header, 8)?);
        let dst = Ipv6Addr::from(array::<16>(header, 24)?);
        let groupless = dst.is_multicast() && scope(dst) == 0;
        if src.is_multicast() || src.to_ipv4_mapped().is_some() || groupless {
            return Err(Malformed::Address);
        }
        Ok(Self {
            src,
            dst,
            next: header[6],
            hop_limit: header[7],
            class: (first >> 20) as u8,
            flow: first & 0xf_ffff,
            payload_len,
        })
    }
    /// Writes the header.
    pub fn emit(&self, out: &mut [u8; HEADER]) {
        let first = 6 << 28 | (self.class as u32) << 20 | self.flow & 0xf_ffff;
        out[..4].copy_from_slice(&first.to_be_bytes());
        out[4..6].copy_from_slice(&self.payload_len.to_be_bytes());
        (out[6], out[7]) = (self.next, self.hop_limit);
        out[8..24].copy_from_slice(&self.src.octets());
        out[24..40].copy_from_slice(&self.dst.octets());
    }
}

/// How far an address reaches (RFC 4007, numbers of RFC 4291 2.7): of a unicast address link-local
/// (2) or global (14).
pub fn scope(ip: Ipv6Addr) -> u8 {
    if ip.is_multicast() {
        ip.octets()[1] & 15
    } else if ip.is_unicast_link_local() || ip.is_loopback() {
        2
    } else {
        14
    }
}

/// The group in which a node is asked for `ip` (RFC 4291 2.7.1).
pub fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | a as u16, u16::from_be_bytes([b, c]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> ([u8; HEADER], Repr) {
        let repr = Repr {
            src: "fe80::5054:ff:fe12:3456".parse().unwrap(),
            dst: "ff02::1:ff00:1".parse().unwrap(),
            next: 58,
            hop_limit: 255,
            class: 0xb8,
            flow: 0x1_2345,
            payload_len: 32,
        };
        let mut out = [0; HEADER];
        repr.emit(&mut out);
        (out, repr)
    }

    #[test]
    fn bytes_both_ways() {
        let (bytes, repr) = header();
        assert_eq!(bytes[..8], [0x6b, 0x81, 0x23, 0x45, 0, 32, 58, 255]);
        assert_eq!((bytes[8], bytes[23], bytes[24], bytes[39]), (0xfe, 0x56, 0xff, 1));
        assert_eq!(Repr::parse(&bytes, 72), Ok(repr));
        assert_eq!(Repr::parse(&bytes, 100), Ok(repr), "padding of the link");
    }

    #[test]
    fn what_no_host_sends_is_refused() {
        let (good, _) = header();
        assert_eq!(Repr::parse(&good, 71), Err(Malformed::Truncated));
        assert_eq!(Repr::parse(&good[..39], 72), Err(Malformed::Truncated));
        let with = |change: &dyn Fn(&mut [u8; HEADER])| {
            let mut b = good;
            change(&mut b);
            Repr::parse(&b, 72)
        };
        assert_eq!(with(&|b| b[0] = 0x45), Err(Malformed::Unsupported));
        assert_eq!(with(&|b| b[8] = 0xff), Err(Malformed::Address), "RFC 4291 2.7");
        assert_eq!(with(&|b| b[25] = 0x10), Err(Malformed::Address), "scope 0");
        let mapped: Ipv6Addr = "::ffff:127.0.0.1".parse().unwrap();
        assert_eq!(with(&|b| b[8..24].copy_from_slice(&mapped.octets())), Err(Malformed::Address));
    }

    #[test]
    fn scopes_and_groups() {
        let ip = |s: &str| s.parse::<Ipv6Addr>().unwrap();
        for (text, reach) in [("ff02::1", 2), ("ff05::2", 5), ("fe80::1", 2), ("2001::1", 14)] {
            assert_eq!(scope(ip(text)), reach, "{text}");
        }
        assert_eq!(solicited_node(ip("2001:db8::ab12:3456")), ip("ff02::1:ff12:3456"));
    }
}
