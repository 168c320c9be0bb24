//! TCP_CONGESTION: names of congestion control, and which one a connection really has.

use alloc::vec::Vec;
use libipc::sock::congestion;

use super::Result;
use super::numbers::Errno;
use super::stream::Stream;

/// As Linux names them.
const NAMES: [(&[u8], u8); 3] =
    [(b"cubic", congestion::CUBIC), (b"reno", congestion::RENO), (b"bbr", congestion::BBR)];
/// Bytes of a name with what it is filled up with.
const LENGTH: usize = 16;

/// The number of the one whose name `value` is.
///
/// # Errors
/// ENOENT: there is none.
pub fn number(value: &[u8]) -> Result<u8> {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    let found = NAMES.iter().find(|(name, _)| *name == &value[..end]);
    found.map(|(_, number)| *number).ok_or(Errno(2))
}

/// Its name, as `getsockopt` writes it.
pub fn name(number: u8) -> Vec<u8> {
    let found = NAMES.iter().find(|(_, n)| *n == number);
    let mut name = found.map_or(Vec::new(), |(name, _)| name.to_vec());
    name.resize(LENGTH, 0);
    name
}

impl Stream {
    /// What runs if `asked` was asked for: BBR may have found no place.
    pub fn congestion(&self, asked: u8) -> u8 {
        match asked == congestion::BBR && self.is_connected() {
            true => self.info().map_or(asked, |info| info.congestion),
            false => asked,
        }
    }
}
