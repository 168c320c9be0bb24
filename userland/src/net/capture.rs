//! Packet taps: copies of frames, as they came and as they left.

use core::time::Duration;
use libipc::sock::filter::Insn;
use libipc::sock::{Dgram, Error, Kind};

use super::socket::Socket;
use crate::runtime::Runtime;

/// A frame that was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When, since the machine started.
    pub time: Duration,
    /// Bytes of it that were copied.
    pub captured: usize,
    /// Bytes of it.
    pub len: usize,
    /// It left; else it came.
    pub outgoing: bool,
    /// It never left the machine.
    pub looped: bool,
}

/// A socket that gets copies of frames (`capture = true` in the manifest). What its ring has no room for
/// is counted and lost.
pub struct Capture {
    pub(super) socket: Socket,
}

impl Capture {
    /// Opens one with a ring of `rx` bytes (0: sockd's default), which gets nothing before [`Self::set_filter`].
    ///
    /// # Errors
    /// [`Error::NotPermitted`] if the manifest does not allow it, [`Error::NoBuffers`] if there are as many as
    /// the stack takes.
    pub fn open(rt: &'static Runtime, rx: u32) -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(rt, Kind::Capture, 0, rx)? })
    }

    /// From now on only what the filter wants ([`crate::filter::compile`] makes one of words).
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is too long, [`Error::WouldBlock`] if one is still on its way.
    pub fn set_filter(&self, filter: &[Insn]) -> Result<(), Error> {
        let mut rest = filter.iter().flat_map(|insn| insn.to_bytes());
        self.socket.try_send_with(None, filter.len() * Insn::BYTES, &mut |part| {
            part.iter_mut().zip(&mut rest).for_each(|(to, from)| *to = from);
        })
    }

    /// The next frame, as much of it as `into` holds.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if there is none, [`Error::Invalid`] once if the filter was refused.
    pub fn try_next(&self, into: &mut [u8]) -> Result<Frame, Error> {
        let datagram = self.socket.try_next()?;
        let header = datagram.header();
        let captured = datagram.read(0, into);
        datagram.remove();
        Ok(Frame {
            time: Duration::from_nanos(header.ip[0]),
            captured,
            len: header.port as usize,
            outgoing: header.flags & Dgram::OUTGOING != 0,
            looped: header.interface == Dgram::LOOP,
        })
    }

    /// Frames that its ring had no room for.
    pub fn dropped(&self) -> u32 {
        self.socket.record().pending.load(core::sync::atomic::Ordering::Relaxed)
    }
}

/// The head of a capture file (libpcap's format, nanoseconds, Ethernet).
pub const PCAP_HEADER: [u8; 24] =
    *b"\x4d\x3c\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x04\0\x01\0\0\0";

impl Frame {
    /// The head of its record in a capture file; `booted`: the time of day when the machine started.
    pub fn pcap(&self, booted: Duration) -> [u8; 16] {
        let at = booted + self.time;
        let words = [at.as_secs() as u32, at.subsec_nanos(), self.captured as u32, self.len as u32];
        let mut head = [0; 16];
        for (to, word) in head.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_head_is_that_of_libpcap() {
        let words: [u32; 6] = core::array::from_fn(|i| {
            u32::from_le_bytes(PCAP_HEADER[i * 4..][..4].try_into().unwrap())
        });
        assert_eq!(words, [0xa1b2_3c4d, 0x0004_0002, 0, 0, 262_144, 1]);
        let frame = Frame {
            time: Duration::from_millis(1500),
            captured: 60,
            len: 1514,
            outgoing: true,
            looped: false,
        };
        let head = frame.pcap(Duration::from_secs(10));
        assert_eq!(head[..8], [11, 0, 0, 0, 0x00, 0x65, 0xcd, 0x1d]);
        assert_eq!(head[8..], [60, 0, 0, 0, 0xea, 5, 0, 0]);
    }
}
