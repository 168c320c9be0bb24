//! IPv4 headers (RFC 791, RFC 1122 3.2.1).

use super::{Malformed, array, be16, checksum::Sum};
use core::net::Ipv4Addr;

/// Bytes of a header without options, as we send it.
pub const HEADER: usize = 20;
/// Bytes of the longest header.
pub const HEADER_MAX: usize = 60;

const DF: u16 = 0x4000;
const MF: u16 = 0x2000;

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
    /// Type of service: six bits of DSCP, two of ECN (RFC 2474, RFC 3168).
    pub tos: u8,
    /// Routers must not cut it.
    pub dont_fragment: bool,
    /// A fragment, and not the last.
    pub more: bool,
    /// Where its payload belongs in the packet's, a multiple of 8 bytes; not 0: a fragment.
    pub offset: u16,
    /// Bytes of payload.
    pub payload_len: u16,
}

impl Repr {
    /// Of a packet of ours that must not be cut.
    pub const fn new(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload_len: u16) -> Self {
        Self {
            src,
            dst,
            protocol,
            ttl: super::ip::HOP_LIMIT,
            id: 0,
            tos: 0,
            dont_fragment: true,
            more: false,
            offset: 0,
            payload_len,
        }
    }
    /// Whether it is a piece of a packet.
    pub const fn is_fragment(&self) -> bool {
        self.more || self.offset != 0
    }
    /// Reads a header from the beginning of `b`, which holds at least the header of a packet of
    /// `available` bytes in all. Also yields the header's length.
    ///
    /// # Errors
    /// Everything RFC 1122 3.2.1 says must be dropped silently because of the header alone.
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
        let sum = match header.first_chunk::<HEADER>() {
            Some(short) if header_len == HEADER => Sum::ZERO.bytes(short),
            _ => Sum::ZERO.bytes(header),
        };
        if !sum.is_intact() {
            return Err(Malformed::Checksum);
        }
        let (src, dst) = (Ipv4Addr::from(array::<4>(b, 12)?), Ipv4Addr::from(array::<4>(b, 16)?));
        if src.is_multicast() || src.is_broadcast() {
            return Err(Malformed::Address);
        }
        let flags = be16(b, 6)?;
        let repr = Self {
            src,
            dst,
            protocol: b[9],
            ttl: b[8],
            id: be16(b, 4)?,
            tos: b[1],
            dont_fragment: flags & DF != 0,
            more: flags & MF != 0,
            offset: (flags & 0x1fff) << 3,
            payload_len: (total - header_len) as u16,
        };
        Ok((repr, header_len))
    }
    /// Writes a header without options.
    pub fn emit(&self, out: &mut [u8; HEADER]) {
        let flags = if self.dont_fragment { DF } else { 0 } | if self.more { MF } else { 0 };
        out[0] = 0x45;
        out[1] = self.tos;
        out[2..4].copy_from_slice(&(self.payload_len + HEADER as u16).to_be_bytes());
        out[4..6].copy_from_slice(&self.id.to_be_bytes());
        out[6..8].copy_from_slice(&(flags | self.offset >> 3).to_be_bytes());
        out[8] = self.ttl;
        out[9] = self.protocol;
        out[10..12].copy_from_slice(&[0, 0]);
        out[12..16].copy_from_slice(&self.src.octets());
        out[16..20].copy_from_slice(&self.dst.octets());
        let sum = Sum::ZERO.bytes(out).finish();
        out[10..12].copy_from_slice(&sum);
    }
    /// Writes a header with `options`, which fill whole words, so that it ends where `out` ends;
    /// yields where it begins. `None`: they are too long.
    pub fn emit_with(&self, options: &[u8], out: &mut [u8; HEADER_MAX]) -> Option<usize> {
        if !options.len().is_multiple_of(4) {
            return None;
        }
        let start = (HEADER_MAX - HEADER).checked_sub(options.len())?;
        let out = &mut out[start..];
        self.emit(out.first_chunk_mut()?);
        out[HEADER..].copy_from_slice(options);
        out[0] += (options.len() / 4) as u8;
        let total = self.payload_len + out.len() as u16;
        out[2..4].copy_from_slice(&total.to_be_bytes());
        out[10..12].copy_from_slice(&[0, 0]);
        let sum = Sum::ZERO.bytes(out).finish();
        out[10..12].copy_from_slice(&sum);
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ip::protocol;
    use super::*;

    fn header() -> ([u8; HEADER], Repr) {
        let (src, dst) = (Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 2));
        let repr = Repr { id: 7, ..Repr::new(src, dst, protocol::UDP, 100) };
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
    fn fragments_and_service_both_ways() {
        let (_, whole) = header();
        for (more, offset, dont_fragment, tos) in
            [(true, 0, false, 0), (false, 65528, false, 0xb9), (true, 1480, true, 3)]
        {
            let repr = Repr { more, offset, dont_fragment, tos, ..whole };
            let mut bytes = [0; HEADER];
            repr.emit(&mut bytes);
            assert_eq!(Repr::parse(&bytes, 120), Ok((repr, 20)));
            assert!(repr.is_fragment() && !whole.is_fragment());
        }
    }

    #[test]
    fn options_stand_between_header_and_payload() {
        let (plain, repr) = header();
        let mut out = [0; HEADER_MAX];
        let options = [7, 7, 4, 1, 2, 3, 4, 0];
        assert_eq!(repr.emit_with(&options, &mut out), Some(32));
        assert_eq!((out[32], &out[52..], &out[36..40]), (0x47, &options[..], &plain[4..8]));
        assert_eq!(Repr::parse(&out[32..], 128), Ok((repr, 28)));
        assert_eq!(repr.emit_with(&[], &mut out), Some(40));
        assert_eq!(out[40..], plain);
        assert_eq!(repr.emit_with(&[1; 44], &mut out), None);
        assert_eq!(repr.emit_with(&[1; 3], &mut out), None);
    }
}
