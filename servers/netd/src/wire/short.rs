//! A datagram or an ICMP message as nearly all of them are, read in one go: a whole packet of IPv4 without options, with a
//! transport's header of eight bytes. What is not of this form is nothing special, only read by the codecs of each layer.

use super::checksum::Sum;
use super::ethernet::Mac;
use super::plain::{addresses, low, whole_len};
use core::net::Ipv4Addr;

/// Bytes of a frame that are looked at.
pub const HEAD: usize = 48;

/// What such a packet says. Its IPv4 header is intact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// Addresses.
    pub src: Ipv4Addr,
    /// Likewise.
    pub dst: Ipv4Addr,
    /// Its transport.
    pub protocol: u8,
    /// Type of service.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// The transport's header.
    pub body: [u8; 8],
    /// Bytes that follow it.
    pub len: u16,
    /// Sum of the transport's header.
    pub sum: Sum,
    /// Sum of the pseudo-header.
    pub pseudo: Sum,
}

impl Short {
    /// Reads the beginning `h` of a frame of `len` bytes, whatever follows it: for station `to`, of one station.
    /// `None`: it is not of this form.
    #[inline(always)]
    pub fn parse(h: &[u8; HEAD], len: usize, to: Mac) -> Option<Self> {
        let (words, _) = h.as_chunks::<8>();
        let w: [u64; 6] = core::array::from_fn(|i| u64::from_le_bytes(words[i]));
        let [a, b, c, d, e, last] = w;
        let total = whole_len(&[a, b, c, d, e], len, to)?;
        let len = total.checked_sub(28)?;
        let ((src, dst), protocol) = (addresses(&[a, b, c, d, e]), (c >> 56) as u8);
        let body = e >> 16 | last << 48;
        let pseudo = (protocol as u16).to_be() as u64 + (total - 20).to_be() as u64;
        Some(Self {
            src: Ipv4Addr::from_bits(u32::from_be(src)),
            dst: Ipv4Addr::from_bits(u32::from_be(dst)),
            protocol,
            tos: (b >> 56) as u8,
            ttl: (c >> 48) as u8,
            body: body.to_le_bytes(),
            len,
            sum: Sum::from_raw(low(body)),
            pseudo: Sum::from_raw(pseudo + src as u64 + dst as u64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::plain::{SHORT_HEAD, short_head};
    use crate::wire::{ip, ipv4};

    const STATIONS: (Mac, Mac) = (Mac([2, 3, 4, 5, 6, 7]), Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
    const BODY: [u8; 8] = [0xf1, 2, 0xf3, 4, 0xf5, 6, 0xf7, 8];

    fn frame(payload: u16) -> ([u8; HEAD], ipv4::Repr) {
        let (src, dst) = (Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(192, 168, 255, 1));
        let whole = ipv4::Repr::new(src, dst, ip::protocol::UDP, payload);
        let repr = ipv4::Repr { tos: 0x10, ttl: 3, id: 0xfedc, ..whole };
        let mut h = [0xee; HEAD];
        h[..SHORT_HEAD].copy_from_slice(&short_head(STATIONS.0, STATIONS.1, &repr, BODY));
        (h, repr)
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let (h, r) = frame(108);
        let p = Short::parse(&h, 142, STATIONS.0).expect("short");
        assert_eq!((p.src, p.dst, p.protocol), (r.src, r.dst, r.protocol));
        assert_eq!((p.tos, p.ttl, p.body, p.len), (r.tos, r.ttl, BODY, 100));
        let pseudo = Sum::pseudo(r.src.into(), r.dst.into(), r.protocol, 108);
        assert_eq!(p.pseudo.fold(), pseudo.fold());
        assert_eq!(p.sum.fold(), Sum::ZERO.bytes(&BODY).fold());
    }

    #[test]
    fn other_frames_are_not_short() {
        let (h, _) = frame(8);
        let read = |h: &[u8; HEAD], len| Short::parse(h, len, STATIONS.0);
        assert!(read(&h, 42).is_some() && read(&h, 41).is_none());
        assert!(Short::parse(&h, 42, STATIONS.1).is_none(), "for another station");
        assert!(read(&frame(7).0, 60).is_none(), "no room for the transport's header");
        for bit in (0..34 * 8).filter(|b| !matches!(b / 8, 6..=11)) {
            let mut other = h;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&other, 42), None, "bit {bit}");
        }
    }
}
