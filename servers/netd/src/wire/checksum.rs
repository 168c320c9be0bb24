//! The Internet checksum (RFC 1071).
//!
//! Sums are kept over little-endian words as they are loaded: ones' complement addition does not
//! care about byte order as long as it is kept to (RFC 1071, 2 (B)). [`Sum::finish`] yields the
//! bytes as they go on the wire.

use core::net::IpAddr;

/// A running sum: of so few words that it does not overflow, a packet's or two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Nothing summed yet.
    pub const ZERO: Self = Self(0);

    /// The sum of the pseudo-header (RFC 9293 3.1, RFC 768; RFC 8200 8.1, whose wider fields sum
    /// to the same).
    pub fn pseudo(src: IpAddr, dst: IpAddr, protocol: u8, len: u16) -> Self {
        let address = |ip| match ip {
            IpAddr::V4(ip) => Self(u32::from_le_bytes(ip.octets()) as u64),
            IpAddr::V6(ip) => Self::ZERO.bytes(&ip.octets()),
        };
        Self(address(src).0 + address(dst).0).word(protocol as u16).word(len)
    }
    /// With one 16-bit field added, given in host order.
    pub fn word(self, value: u16) -> Self {
        Self(self.0 + value.to_be() as u64)
    }
    /// With bytes added that begin at an even offset.
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut sum = self.0;
        let (words, rest) = bytes.as_chunks::<4>();
        for w in words {
            sum += u32::from_le_bytes(*w) as u64;
        }
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        Self(sum + u32::from_le_bytes(last) as u64)
    }
    /// With another sum added, whose bytes begin at an even offset (or `odd`).
    pub fn and(self, other: Self, odd: bool) -> Self {
        Self(self.0 + if odd { other.fold().swap_bytes() as u64 } else { other.0 })
    }
    /// From a sum of little-endian words made elsewhere (a copy-and-checksum routine).
    pub const fn from_raw(raw: u64) -> Self {
        Self((raw & 0xffff_ffff) + (raw >> 32))
    }
    /// Sixteen bits, as a little-endian word.
    #[inline]
    pub const fn fold(self) -> u16 {
        // Adding the carries up keeps the remainder by 0xffff, and yields 0 only of 0.
        match self.0 {
            0 => 0,
            n => ((n - 1) % 0xffff + 1) as u16,
        }
    }
    /// The checksum field: the complement, as bytes on the wire.
    pub const fn finish(self) -> [u8; 2] {
        (!self.fold()).to_le_bytes()
    }
    /// Whether a sum over data *and* its checksum field says that it is intact.
    #[inline]
    pub const fn is_intact(self) -> bool {
        // See `fold`.
        self.0 != 0 && self.0.is_multiple_of(0xffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_of_rfc_1071() {
        let sum = Sum::ZERO.bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold().to_le_bytes(), [0xdd, 0xf2]);
    }

    #[test]
    fn pseudo_headers_of_both_families() {
        let sum = |src: &str, dst: &str| {
            Sum::pseudo(src.parse().unwrap(), dst.parse().unwrap(), 6, 0x1234)
        };
        let v4 = [10, 0, 2, 15, 10, 0, 2, 2, 0, 6, 0x12, 0x34];
        assert_eq!(sum("10.0.2.15", "10.0.2.2").fold(), Sum::ZERO.bytes(&v4).fold());
        let mut v6 = [0; 40];
        (v6[0], v6[1], v6[15]) = (0xfe, 0x80, 1);
        (v6[16], v6[17], v6[31]) = (0x20, 0x01, 9);
        (v6[34], v6[35], v6[39]) = (0x12, 0x34, 6);
        assert_eq!(sum("fe80::1", "2001::9").fold(), Sum::ZERO.bytes(&v6).fold());
    }

    #[test]
    fn pieces_add_up_whatever_their_length() {
        let data: [u8; 61] = core::array::from_fn(|i| (i * 37 + 11) as u8);
        let whole = Sum::ZERO.bytes(&data);
        for cut in 0..data.len() {
            let (a, b) = data.split_at(cut);
            let sum = Sum::ZERO.bytes(a).and(Sum::ZERO.bytes(b), cut % 2 == 1);
            assert_eq!(sum.fold(), whole.fold(), "cut at {cut}");
        }
    }
}
