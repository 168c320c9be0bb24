//! Filters of packet taps: classic BPF.
//!
//! A program writes a filter into the send ring of its [`Kind::Capture`](super::Kind::Capture) socket as
//! one datagram of up to [`MAX`] instructions; it takes the place of the one before. Before the first, nothing is captured. One that netd refuses is reported as [`Error::Invalid`](super::Error::Invalid), and nothing is captured
//! until the next. What the filter
//! returns is how many bytes of the frame are wanted, 0: none.

/// Most instructions of a filter.
pub const MAX: usize = 128;

/// An instruction: 8 bytes, little-endian, in the order of `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Class, size, mode, operation.
    pub code: u16,
    /// Instructions to pass over when a comparison holds.
    pub jt: u8,
    /// And when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

impl Insn {
    /// Bytes of one.
    pub const BYTES: usize = 8;

    /// From bytes.
    pub fn from_bytes(b: &[u8; Self::BYTES]) -> Self {
        Self {
            code: u16::from_le_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        }
    }

    /// As bytes.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let ([c0, c1], [k0, k1, k2, k3]) = (self.code.to_le_bytes(), self.k.to_le_bytes());
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }
}
