//! Arguments of a request, read in order. All are little-endian.

use alloc::vec::Vec;

use crate::linux::{Data, Errno, Result};

/// What is left of them.
pub struct Arguments<'a>(pub &'a [u8]);

macro_rules! number {
    ($($name:ident: $ty:ty),*) => {$(
        /// A number.
        ///
        /// # Errors
        /// [`Errno::EINVAL`]: the request is too short.
        pub fn $name(&mut self) -> Result<$ty> {
            let (value, rest) = self.0.split_first_chunk().ok_or(Errno::EINVAL)?;
            self.0 = rest;
            Ok(<$ty>::from_le_bytes(*value))
        }
    )*};
}

impl<'a> Arguments<'a> {
    number!(u8: u8, u16: u16, u32: u32, u64: u64, i32: i32, i64: i64);

    /// So many bytes.
    ///
    /// # Errors
    /// [`Errno::EINVAL`]: the request is too short.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(n).ok_or(Errno::EINVAL)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A length (u16) and so many bytes of a `sockaddr`.
    ///
    /// # Errors
    /// [`Errno::EINVAL`]: the request is too short.
    pub fn addr(&mut self) -> Result<Vec<u8>> {
        let n = self.u16()?;
        Ok(self.bytes(n as usize)?.to_vec())
    }

    /// Data: a count (u32), a mode (u8), and the bytes or the one that is repeated.
    ///
    /// # Errors
    /// [`Errno::EINVAL`]: the request is too short, or an unknown mode.
    pub fn data(&mut self) -> Result<Data> {
        let count = self.u32()? as usize;
        Ok(match self.u8()? {
            0 => Data::Bytes(self.bytes(count)?.to_vec()),
            1 => Data::Repeat(self.u8()?, count),
            _ => return Err(Errno::EINVAL),
        })
    }
}
