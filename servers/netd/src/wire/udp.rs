//! UDP headers (RFC 768).

use super::{Malformed, be16};

/// Bytes of the header.
pub const HEADER: usize = 8;

/// A UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// Bytes of payload.
    pub payload_len: u16,
    /// Whether the sender computed a checksum (0 on the wire: it did not).
    pub has_checksum: bool,
}

impl Repr {
    /// Reads a header of a datagram in an IP payload of `available` bytes.
    ///
    /// # Errors
    /// [`Malformed::Length`] if its length field contradicts that.
    pub fn parse(b: &[u8], available: usize) -> Result<Self, Malformed> {
        let len = be16(b, 4)? as usize;
        if len < HEADER || len > available {
            return Err(Malformed::Length);
        }
        Ok(Self {
            src: be16(b, 0)?,
            dst: be16(b, 2)?,
            payload_len: (len - HEADER) as u16,
            has_checksum: be16(b, 6)? != 0,
        })
    }
    /// Writes the header with a checksum field of zero.
    pub fn emit(&self, out: &mut [u8; HEADER]) {
        out[0..2].copy_from_slice(&self.src.to_be_bytes());
        out[2..4].copy_from_slice(&self.dst.to_be_bytes());
        out[4..6].copy_from_slice(&(self.payload_len + HEADER as u16).to_be_bytes());
        out[6..8].copy_from_slice(&[0, 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_both_ways_and_lengths() {
        let repr = Repr { src: 68, dst: 67, payload_len: 300, has_checksum: false };
        let mut out = [0xaa; HEADER];
        repr.emit(&mut out);
        assert_eq!(out, [0, 68, 0, 67, 1, 52, 0, 0]);
        assert_eq!(Repr::parse(&out, 308), Ok(repr));
        assert_eq!(Repr::parse(&out, 307), Err(Malformed::Length));
        assert_eq!(Repr::parse(&out[..7], 308), Err(Malformed::Truncated));
    }
}
