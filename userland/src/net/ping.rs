//! ICMP echo: requests out, replies in.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use libipc::sock::{Error, Kind};

use super::socket::Socket;
use crate::runtime::{Instant, Runtime};

/// Bytes before the data in an echo datagram: identifier (netd's) and sequence number.
const HEADER: usize = 4;
/// Most data bytes of an echo that [`Ping`] sends.
pub const MAX_DATA: usize = 1024;

/// An echo reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Who answered.
    pub from: IpAddr,
    /// Sequence number of the request.
    pub seq: u16,
    /// Bytes of data.
    pub len: usize,
}

/// A socket for echo requests and their replies.
pub struct Ping {
    pub(super) socket: Socket,
}

impl Ping {
    /// Opens one.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] if the manifest does not allow it.
    pub fn open(rt: &'static Runtime) -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(rt, Kind::Ping, 0, 0)? })
    }

    /// Sends an echo request of `len` data bytes.
    ///
    /// # Errors
    /// [`Error::MessageTooLong`] beyond [`MAX_DATA`], [`Error::WouldBlock`] if the ring is full.
    pub fn send(&self, to: IpAddr, seq: u16, len: usize) -> Result<(), Error> {
        let mut bytes = [0; HEADER + MAX_DATA];
        let bytes = bytes.get_mut(..HEADER + len).ok_or(Error::MessageTooLong)?;
        bytes[2..4].copy_from_slice(&seq.to_be_bytes());
        for (i, b) in bytes[HEADER..].iter_mut().enumerate() {
            *b = i as u8;
        }
        self.socket.try_send(Some(SocketAddr::new(to, 0)), bytes)
    }

    /// Waits for a reply until `deadline`.
    ///
    /// # Errors
    /// [`Error::TimedOut`], or what ICMP reported instead ([`Error::HostUnreachable`]).
    pub fn recv(&self, deadline: Instant) -> Result<Echo, Error> {
        let left = deadline.since(self.socket.rt.now());
        self.socket.retry(Some(left), || self.try_recv())
    }

    /// A reply that has arrived.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if there is none.
    pub fn try_recv(&self) -> Result<Echo, Error> {
        let mut bytes = [0; HEADER + MAX_DATA];
        let (n, from) = self.socket.try_recv(&mut bytes, true)?;
        let len = n.checked_sub(HEADER).ok_or(Error::Server)?;
        Ok(Echo { from: from.ip(), seq: u16::from_be_bytes([bytes[2], bytes[3]]), len })
    }

    /// Sends a request and waits for its reply: the round-trip time.
    ///
    /// # Errors
    /// As [`Self::send`] and [`Self::recv`].
    pub fn ping(
        &self,
        to: IpAddr,
        seq: u16,
        len: usize,
        timeout: Duration,
    ) -> Result<Duration, Error> {
        let start = self.socket.rt.now();
        self.send(to, seq, len)?;
        loop {
            if self.recv(start + timeout)?.seq == seq {
                return Ok(self.socket.rt.now().since(start));
            }
        }
    }
}
