//! UDP sockets, and the datagram rings that ping shares.

use core::net::SocketAddr;
use core::sync::atomic::Ordering::*;
use core::time::Duration;
use libipc::sock::{Dgram, Error, Kind, Request, State, ip_from_words, ip_words};

use super::Options;
use super::socket::Socket;
use crate::runtime::Runtime;

impl Socket {
    /// Puts a datagram for `to` (or the connected peer) into the send ring.
    pub(super) fn try_send(&self, to: Option<SocketAddr>, bytes: &[u8]) -> Result<(), Error> {
        let space = Dgram::space(bytes.len());
        let Ok(len) = u16::try_from(bytes.len()) else { return Err(Error::MessageTooLong) };
        if space > self.tx_size() {
            return Err(Error::MessageTooLong);
        }
        self.check_open()?;
        let tail = self.tx_tail();
        let queued = tail.wrapping_sub(self.record().dgram_tx_head());
        if queued > self.tx_size() || self.tx_size() - queued < space {
            return Err(Error::WouldBlock);
        }
        let (ip, port) = to.map_or(([0; 2], 0), |to| (ip_words(to.ip()), to.port()));
        self.copy_in(tail, &Dgram { len, port, ip }.to_bytes())?;
        self.copy_in(tail + Dgram::BYTES as u64, bytes)?;
        self.publish(tail + space);
        Ok(())
    }

    /// Copies the next datagram out and, if `take`, removes it: length copied, sender. What does
    /// not fit into `into` is lost with it.
    pub(super) fn try_recv(
        &self,
        into: &mut [u8],
        take: bool,
    ) -> Result<(usize, SocketAddr), Error> {
        let head = self.rx_head();
        let tail = self.record().dgram_rx_tail();
        let waiting = tail.wrapping_sub(head);
        if waiting == 0 {
            self.check_open()?;
            return Err(self.new_error().unwrap_or(Error::WouldBlock));
        }
        let mut header = [0; Dgram::BYTES];
        if waiting < Dgram::BYTES as u64 || waiting > self.rx_size() {
            return self.lose(tail);
        }
        self.copy_out(head, &mut header)?;
        let dgram = Dgram::from_bytes(&header);
        let space = Dgram::space(dgram.len as usize);
        if space > waiting {
            return self.lose(tail);
        }
        let n = into.len().min(dgram.len as usize);
        self.copy_out(head + Dgram::BYTES as u64, &mut into[..n])?;
        if take {
            self.consumed(head + space, false);
        }
        Ok((n, SocketAddr::new(ip_from_words(dgram.ip), dgram.port)))
    }

    /// An error that ICMP reported, once: unlike a connection, the socket goes on.
    fn new_error(&self) -> Option<Error> {
        let error = self.record().error();
        if self.reported.replace(error) == error { None } else { error }
    }

    /// The ring makes no sense: netd's mistake. Starts over behind it.
    fn lose<T>(&self, tail: u64) -> Result<T, Error> {
        self.consumed(tail, true);
        Err(Error::Server)
    }

    fn check_open(&self) -> Result<(), Error> {
        match self.record().state() {
            State::Closed | State::Free => Err(self.ended()),
            _ => Ok(()),
        }
    }
}

/// A UDP socket.
pub struct UdpSocket {
    socket: Socket,
}

impl UdpSocket {
    /// Binds `addr`; port 0: any free one.
    ///
    /// # Errors
    /// [`Error::AddrInUse`], [`Error::Denied`] if the manifest does not allow the port.
    pub fn bind(rt: &'static Runtime, addr: SocketAddr) -> Result<Self, Error> {
        Self::bind_with(rt, addr, Options::default())
    }

    /// As [`Self::bind`], with ring sizes.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn bind_with(
        rt: &'static Runtime,
        addr: SocketAddr,
        options: Options,
    ) -> Result<Self, Error> {
        let socket = Socket::open(rt, Kind::Udp, options.tx, options.rx)?;
        socket.bind(addr)?;
        Ok(Self { socket })
    }

    /// Sets the peer for [`Self::send`]; datagrams of others no longer arrive.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::NetworkUnreachable`].
    pub fn connect(&self, addr: SocketAddr) -> Result<(), Error> {
        self.socket.connect(addr)
    }

    /// The socket's id, as [`Runtime::next_ready`] names it.
    pub fn id(&self) -> u32 {
        self.socket.id
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// [`Error::MessageTooLong`], [`Error::WouldBlock`] (non-blocking), [`Error::TimedOut`].
    pub fn send_to(&self, bytes: &[u8], to: SocketAddr) -> Result<usize, Error> {
        let timeout = self.socket.write_timeout.get();
        self.socket.retry(timeout, || self.socket.try_send(Some(to), bytes))?;
        Ok(bytes.len())
    }

    /// Sends a datagram to the connected peer.
    ///
    /// # Errors
    /// As [`Self::send_to`]; [`Error::NotConnected`].
    pub fn send(&self, bytes: &[u8]) -> Result<usize, Error> {
        self.socket.peer_addr()?;
        let timeout = self.socket.write_timeout.get();
        self.socket.retry(timeout, || self.socket.try_send(None, bytes))?;
        Ok(bytes.len())
    }

    /// Takes a datagram: bytes copied, and the sender. What `into` has no room for is lost.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] (non-blocking), [`Error::TimedOut`], and errors that ICMP reported.
    pub fn recv_from(&self, into: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
        let timeout = self.socket.read_timeout.get();
        self.socket.retry(timeout, || self.socket.try_recv(into, true))
    }

    /// As [`Self::recv_from`], leaving the datagram in place.
    ///
    /// # Errors
    /// As [`Self::recv_from`].
    pub fn peek_from(&self, into: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
        let timeout = self.socket.read_timeout.get();
        self.socket.retry(timeout, || self.socket.try_recv(into, false))
    }

    /// Takes a datagram, saying nothing about its sender.
    ///
    /// # Errors
    /// As [`Self::recv_from`].
    pub fn recv(&self, into: &mut [u8]) -> Result<usize, Error> {
        self.recv_from(into).map(|r| r.0)
    }

    /// Datagrams that netd dropped because the receive ring was full.
    pub fn dropped(&self) -> u32 {
        self.socket.record().pending.load(Acquire)
    }

    /// This end.
    ///
    /// # Errors
    /// None at present.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.socket.local_addr()
    }

    /// The connected peer.
    ///
    /// # Errors
    /// [`Error::NotConnected`].
    pub fn peer_addr(&self) -> Result<SocketAddr, Error> {
        self.socket.peer_addr()
    }

    /// Ends receiving, sending or both; see [`super::Shutdown`].
    ///
    /// # Errors
    /// sockd's.
    pub fn shutdown(&self, how: super::Shutdown) -> Result<(), Error> {
        let id = self.socket.id;
        self.socket.rt.call(&Request::Shutdown { id, how: how as u8 }).map(|_| ())
    }

    /// Whether calls return [`Error::WouldBlock`] instead of waiting.
    pub fn set_nonblocking(&self, on: bool) {
        self.socket.nonblocking.set(on);
    }

    /// Longest wait of a receive; `None`: no limit.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        self.socket.read_timeout.set(timeout);
    }

    /// Longest wait of a send; `None`: no limit.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        self.socket.write_timeout.set(timeout);
    }
}
