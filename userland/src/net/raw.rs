//! Raw sockets: IP packets of one protocol (`raw = true` in the manifest).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use libipc::sock::{Error, Kind, option};

use super::Options;
use super::socket::Socket;
use super::udp::Datagram;
use crate::runtime::Runtime;

/// A raw socket. It gets a copy of each packet of its protocol that is for this host: of IPv4 with its header, of
/// IPv6 the payload.
pub struct RawSocket {
    pub(super) socket: Socket,
    protocol: u8,
}

impl RawSocket {
    /// Opens one for `protocol` of IPv4, or of IPv6 (`six`).
    ///
    /// # Errors
    /// [`Error::NotPermitted`] if the manifest does not allow it, [`Error::NoBuffers`] if there are too many,
    /// [`Error::Invalid`] for protocol 0.
    pub fn open(
        rt: &'static Runtime,
        protocol: u8,
        six: bool,
        options: Options,
    ) -> Result<Self, Error> {
        let socket = Socket::open(rt, Kind::Raw, options.tx, options.rx)?;
        let any: IpAddr =
            if six { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        socket.bind(SocketAddr::new(any, protocol as u16))?;
        Ok(Self { socket, protocol })
    }

    /// Takes only what is sent to `ip`, and sends from there.
    ///
    /// # Errors
    /// [`Error::AddrNotAvailable`].
    pub fn bind(&self, ip: IpAddr) -> Result<(), Error> {
        self.socket.bind(SocketAddr::new(ip, self.protocol as u16))
    }

    /// Takes only what `ip` sends.
    ///
    /// # Errors
    /// [`Error::NetworkUnreachable`].
    pub fn connect(&self, ip: IpAddr) -> Result<(), Error> {
        self.socket.connect(SocketAddr::new(ip, 0))
    }

    /// Whether what is sent begins with an IPv4 header (IP_HDRINCL).
    pub fn set_header_included(&self, on: bool) {
        self.socket.opts().set_flag(option::HDRINCL, on);
    }

    /// Sends a payload, or a packet, to `to`.
    ///
    /// # Errors
    /// As those of [`super::UdpSocket::send_to`].
    pub fn send_to(&self, bytes: &[u8], to: IpAddr) -> Result<usize, Error> {
        let to = SocketAddr::new(to, 0);
        let timeout = self.socket.write_timeout.get();
        self.socket.retry(timeout, || self.socket.try_send(Some(to), bytes))?;
        Ok(bytes.len())
    }

    /// Shows `f` the next packet where it lies, then removes it.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] (non-blocking), [`Error::TimedOut`].
    pub fn recv_with<R>(&self, f: impl FnOnce(&Datagram<'_>) -> R) -> Result<R, Error> {
        let timeout = self.socket.read_timeout.get();
        let packet = self.socket.retry(timeout, || self.socket.try_next())?;
        let result = f(&packet);
        packet.remove();
        Ok(result)
    }

    /// Whether calls that would wait say [`Error::WouldBlock`] instead.
    pub fn set_nonblocking(&self, on: bool) {
        self.socket.nonblocking.set(on);
    }
}
