//! IPv4 headers (RFC 791, RFC 1122 3.2.1).

use super::{Malformed, array, be16, checksum::Sum};
use core::net::Ipv4Addr;

/// Bytes of a header without options, as we send it.
pub const HEADER: usize = 20;
/// Bytes of the longest header.
pub const HEADER_MAX: usize = 60;

/// An IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub id: u16,
    /// Bytes of payload.
    pub payload_len: u16,
}

impl Repr {
    /// Reads a header from the beginning of `b`, which holds at least the header of a packet of
    /// `available` bytes in all. Also yields the header's length.
    ///
    /// # Errors
    /// Everything RFC 1122 3.2.1 says must be dropped silently, and fragments.
    pub fn parse(b: &[u8], available: usize) -> Result<(Self, usize), Malformed> {
        let first = *b.first().ok_or(Malformed::Truncated)?;
        if first >> 4 != 4 {
            return Err(Malformed::Unsupported);
        }
        let header_len = (first & 15) as usize * 4;
        let total = be16(b, 2)? as usize;
        if header_len < HEADER || total < header_len {
            return Err(Malformed::Length);
        }
        if total > available {
            return Err(Malformed::Truncated);
        }
        let header = b.get(..header_len).ok_or(Malformed::Truncated)?;
        if !Sum::ZERO.bytes(header).is_intact() {
            return Err(Malformed::Checksum);
        }
        // More-fragments, or an offset.
        if be16(b, 6)? & 0x3fff != 0 {
            return Err(Malformed::Fragment);
        }
        let (src, dst) = (Ipv4Addr::from(array::<4>(b, 12)?), Ipv4Addr::from(array::<4>(b, 16)?));
        if src.is_multicast() || src.is_broadcast() {
            return Err(Malformed::Address);
        }
        let repr = Self {
            src,
            dst,
            protocol: b[9],
            ttl: b[8],
            id: be16(b, 4)?,
            payload_len: (total - header_len) as u16,
        };
        Ok((repr, header_len))
    }
    /// Writes a header: no options, don't-fragment set (RFC 6864: then the identification means
    /// nothing).
    pub fn emit(&self, out: &mut [u8; HEADER]) {
        out[0] = 0x45;
        out[1] = 0;
        out[2..4].copy_from_slice(&(self.payload_len + HEADER as u16).to_be_bytes());
        out[4..6].copy_from_slice(&self.id.to_be_bytes());
        out[6..8].copy_from_slice(&[0x40, 0]);
        out[8] = self.ttl;
        out[9] = self.protocol;
        out[10..12].copy_from_slice(&[0, 0]);
        out[12..16].copy_from_slice(&self.src.octets());
        out[16..20].copy_from_slice(&self.dst.octets());
        let sum = Sum::ZERO.bytes(out).finish();
        out[10..12].copy_from_slice(&sum);
    }
}

#[cfg(test)]
mod tests {
    use super::super::ip::protocol;
    use super::*;

    fn header() -> ([u8; HEADER], Repr) {
        let repr = Repr {
            src: Ipv4Addr::new(10, 0, 2, 15),
            dst: Ipv4Addr::new(10, 0, 2, 2),
            protocol: protocol::UDP,
            ttl: 64,
            id: 7,
            payload_len: 100,
        };
        let mut out = [0; HEADER];
        repr.emit(&mut out);
        (out, repr)
    }

    #[test]
    fn bytes_both_ways() {
        let (bytes, repr) = header();
        assert_eq!(bytes[..4], [0x45, 0, 0, 120]);
        assert_eq!(bytes[10..12], [0x22, 0x5e]);
        assert_eq!(Repr::parse(&bytes, 120), Ok((repr, 20)));
    }

    #[test]
    fn every_wrong_bit_is_seen() {
        let (bytes, _) = header();
        for bit in 0..HEADER * 8 {
            let mut wrong = bytes;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(Repr::parse(&wrong, 120).is_err(), "bit {bit}");
        }
        assert_eq!(Repr::parse(&bytes, 119), Err(Malformed::Truncated));
    }

    #[test]
    fn fragments_are_told_apart() {
        let (mut bytes, _) = header();
        bytes[6] = 0x20;
        bytes[10..12].copy_from_slice(&[0, 0]);
        let sum = Sum::ZERO.bytes(&bytes).finish();
        bytes[10..12].copy_from_slice(&sum);
        assert_eq!(Repr::parse(&bytes, 120), Err(Malformed::Fragment));
    }
}
