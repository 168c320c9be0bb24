//! TCP headers (RFC 9293 3.1).

use super::{Malformed, be16, be32};
use bitflags::bitflags;
use core::ops::{Add, Sub};

pub use super::tcp_options::{
    Blocks, Cookie, MAX_BLOCKS, MAX_OPTIONS, MAX_SHIFT, Options, TIMESTAMPS, Timestamps,
};

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// Most bytes of a header.
pub const MAX_HEADER: usize = HEADER + MAX_OPTIONS;
/// MSS of a peer that does not say (RFC 9293 3.7.1).
pub const DEFAULT_MSS: u16 = 536;
/// Likewise over IPv6.
pub const DEFAULT_MSS_V6: u16 = 1220;

/// A sequence number. Comparison is modulo 2^32 (RFC 9293 3.4), so there is no `Ord`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seq(pub u32);

impl Seq {
    /// Whether it lies before `other`.
    pub const fn lt(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }
    /// Whether it lies before or at `other`.
    pub const fn le(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) <= 0
    }
    /// The later one.
    pub const fn max(self, other: Self) -> Self {
        if self.lt(other) { other } else { self }
    }
    /// The earlier one.
    pub const fn min(self, other: Self) -> Self {
        if self.lt(other) { self } else { other }
    }
}

impl Add<u32> for Seq {
    type Output = Self;
    fn add(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }
}

impl Sub<u32> for Seq {
    type Output = Self;
    fn sub(self, n: u32) -> Self {
        Self(self.0.wrapping_sub(n))
    }
}

impl Sub for Seq {
    type Output = u32;
    /// Bytes from `other` up to here; meaningful when `other.le(self)`.
    fn sub(self, other: Self) -> u32 {
        self.0.wrapping_sub(other.0)
    }
}

bitflags! {
    /// Control bits.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u8 {
        /// No more data from the sender.
        const FIN = 1;
        /// Synchronise sequence numbers.
        const SYN = 2;
        /// Reset.
        const RST = 4;
        /// Push.
        const PSH = 8;
        /// The acknowledgment field counts.
        const ACK = 16;
        /// The urgent pointer counts.
        const URG = 32;
        /// ECN echo (RFC 3168).
        const ECE = 64;
        /// Congestion window reduced.
        const CWR = 128;
    }
}

/// A TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// Sequence number.
    pub seq: Seq,
    /// Acknowledgment number; meaningful with [`Flags::ACK`].
    pub ack: Seq,
    /// Control bits.
    pub flags: Flags,
    /// Window, unscaled.
    pub window: u16,
    /// Urgent pointer; meaningful with [`Flags::URG`].
    pub urgent: u16,
    /// Options.
    pub options: Options,
}

impl Repr {
    /// A header of zeros and without options.
    pub const fn new(src: u16, dst: u16) -> Self {
        Self {
            src,
            dst,
            seq: Seq(0),
            ack: Seq(0),
            flags: Flags::empty(),
            window: 0,
            urgent: 0,
            options: Options::NONE,
        }
    }

    /// Reads a header; also yields its length. `b` must hold the whole header. Malformed options are
    /// passed over ([`Options::parse`]).
    ///
    /// # Errors
    /// [`Malformed::Length`] for a data offset below 5, [`Malformed::Signature`] for a signed segment.
    pub fn parse(b: &[u8]) -> Result<(Self, usize), Malformed> {
        let offset = *b.get(12).ok_or(Malformed::Truncated)?;
        let header_len = (offset >> 4) as usize * 4;
        if header_len < HEADER {
            return Err(Malformed::Length);
        }
        let header = b.get(..header_len).ok_or(Malformed::Truncated)?;
        let repr = Self {
            src: be16(b, 0)?,
            dst: be16(b, 2)?,
            seq: Seq(be32(b, 4)?),
            ack: Seq(be32(b, 8)?),
            flags: Flags::from_bits_retain(b[13]),
            window: be16(b, 14)?,
            urgent: be16(b, 18)?,
            options: Options::parse(&header[HEADER..])?,
        };
        Ok((repr, header_len))
    }

    /// Bytes that [`Repr::emit`] writes.
    pub const fn header_len(&self) -> usize {
        HEADER + self.options.len()
    }

    /// Writes the header with a checksum field of zero; yields its length.
    pub fn emit(&self, out: &mut [u8; MAX_HEADER]) -> usize {
        out[0..2].copy_from_slice(&self.src.to_be_bytes());
        out[2..4].copy_from_slice(&self.dst.to_be_bytes());
        out[4..8].copy_from_slice(&self.seq.0.to_be_bytes());
        out[8..12].copy_from_slice(&self.ack.0.to_be_bytes());
        out[13] = self.flags.bits();
        out[14..16].copy_from_slice(&self.window.to_be_bytes());
        out[16..18].copy_from_slice(&[0; 2]);
        out[18..20].copy_from_slice(&self.urgent.to_be_bytes());
        let options = out.last_chunk_mut().map_or(0, |room| self.options.emit(room));
        let len = HEADER + options;
        out[12] = (len as u8 / 4) << 4;
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_both_ways() {
        let syn = Repr {
            seq: Seq(0x0102_0304),
            flags: Flags::SYN,
            window: 65535,
            urgent: 0x0506,
            options: Options { mss: Some(1460), scale: Some(7), ..Options::NONE },
            ..Repr::new(49152, 80)
        };
        let mut out = [0; MAX_HEADER];
        assert_eq!((syn.emit(&mut out), syn.header_len()), (28, 28));
        assert_eq!(out[..4], [0xc0, 0, 0, 80]);
        assert_eq!(out[12..14], [0x70, 2]);
        assert_eq!(out[18..28], [5, 6, 2, 4, 5, 0xb4, 1, 3, 3, 7]);
        assert_eq!(Repr::parse(&out), Ok((syn, 28)));
    }

    #[test]
    fn comparison_wraps() {
        assert!(Seq(u32::MAX).lt(Seq(0)));
        assert!(Seq(0).le(Seq(0)));
        assert!(!Seq(1).le(Seq(u32::MAX)));
        assert_eq!(Seq(2) - Seq(u32::MAX), 3);
    }
}
