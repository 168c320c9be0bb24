//! What is sent: bytes, or one byte many times, of which no copy is kept.

use alloc::vec::Vec;

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// These.
    Bytes(Vec<u8>),
    /// This one, so many times.
    Repeat(u8, usize),
}

impl Data {
    /// How many bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Repeat(_, count) => *count,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes from `at` on; as many as `into` has room for must be there.
    pub fn copy(&self, at: usize, into: &mut [u8]) {
        match self {
            Self::Bytes(bytes) => into.copy_from_slice(&bytes[at..at + into.len()]),
            Self::Repeat(byte, _) => into.fill(*byte),
        }
    }
}
