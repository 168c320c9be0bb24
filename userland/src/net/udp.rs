//! UDP sockets, and the datagram rings that ping shares.

use core::net::SocketAddr;
use core::sync::atomic::{Ordering::*, fence};
use libipc::sock::{Dgram, Error, Heard, Kind, On, Request, State, ip_from_words, scoped};

use super::Options;
use super::socket::Socket;
use crate::runtime::Runtime;

impl Socket {
    /// Has `f` write a datagram of `len` bytes for `to` (or the connected peer) in the send ring,
    /// in one piece or two.
    pub(super) fn try_send_with(
        &self,
        to: Option<SocketAddr>,
        len: usize,
        f: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Error> {
        self.try_put(&Dgram::new(to, len as u16), len, f)
    }

    /// As [`Self::try_send_with`], of a datagram with this header, whose length is `len`, however long.
    pub(super) fn try_put(
        &self,
        header: &Dgram,
        len: usize,
        f: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Error> {
        let space = Dgram::space(len);
        let to_ip = match header.ip {
            [0, 0] => ip_from_words(self.record().remote_ip.each_ref().map(|w| w.load(Relaxed))),
            words => ip_from_words(words),
        };
        Dgram::check(to_ip, len, self.words().options.load(Relaxed))?;
        if space > self.tx_size() {
            return Err(Error::MessageTooLong);
        }
        self.check_open()?;
        let tail = self.tx_tail();
        let room = || {
            let queued = tail.wrapping_sub(self.record().dgram_tx_head());
            queued <= self.tx_size() && self.tx_size() - queued >= space
        };
        if !room() {
            // Whoever waits now is told of room only if netd sees that there is none, or, for a
            // datagram longer than most, that it is waited for.
            let long = (len > Dgram::UNCUT) as u32;
            self.words().tx_urgent.store(long, Relaxed);
            fence(SeqCst);
            if !room() {
                return Err(Error::WouldBlock);
            }
        }
        self.words().tx_urgent.store(0, Relaxed);
        self.copy_in(tail, &header.to_bytes())?;
        self.fill(tail + Dgram::BYTES as u64, len, &mut |part| {
            f(part);
            part.len()
        })?;
        self.publish(tail + space);
        Ok(())
    }

    /// As [`Self::try_send_with`], of bytes at hand.
    pub(super) fn try_send(&self, to: Option<SocketAddr>, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        self.try_send_with(to, bytes.len(), &mut |part| {
            let (now, later) = rest.split_at(part.len());
            part.copy_from_slice(now);
            rest = later;
        })
    }

    /// The next datagram, left in place, or the error that was reported.
    pub(super) fn try_next(&self) -> Result<Datagram<'_>, Error> {
        match self.try_look() {
            Err(Error::WouldBlock) => Err(self.new_error().unwrap_or(Error::WouldBlock)),
            other => other,
        }
    }

    /// The next datagram, left in place; errors reported stay, too.
    pub(super) fn try_look(&self) -> Result<Datagram<'_>, Error> {
        let tail = self.record().dgram_rx_tail();
        // What is no datagram goes to the error queue. A ring holds a bounded number.
        loop {
            let next = self.next_entry(tail)?;
            if next.header.flags & Dgram::NOTICE == 0 {
                return Ok(next);
            }
            self.gather_notices();
            next.remove();
        }
    }

    fn next_entry(&self, tail: u64) -> Result<Datagram<'_>, Error> {
        let head = self.rx_head();
        let waiting = tail.wrapping_sub(head);
        if waiting == 0 {
            self.check_open()?;
            return Err(Error::WouldBlock);
        }
        let mut header = [0; Dgram::BYTES];
        if waiting < Dgram::BYTES as u64 || waiting > self.rx_size() {
            return self.lose(tail);
        }
        self.copy_out(head, &mut header)?;
        let header = Dgram::from_bytes(&header);
        if Dgram::space(header.len as usize) > waiting {
            return self.lose(tail);
        }
        Ok(Datagram { socket: self, head, header })
    }

    /// Copies the next datagram out and, if `take`, removes it: length copied, sender. What does
    /// not fit into `into` is lost with it.
    pub(super) fn try_recv(
        &self,
        into: &mut [u8],
        take: bool,
    ) -> Result<(usize, SocketAddr), Error> {
        let datagram = self.try_next()?;
        let (n, from) = (datagram.read(0, into), datagram.sender());
        if take {
            datagram.remove();
        }
        Ok((n, from))
    }

    /// An error that ICMP reported, once: unlike a connection, the socket goes on.
    pub(super) fn new_error(&self) -> Option<Error> {
        let count = self.record().events.load(Acquire);
        if self.told_errors.replace(count) == count { None } else { self.record().error() }
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

/// A datagram that has arrived, still in the receive ring.
pub struct Datagram<'a> {
    socket: &'a Socket,
    head: u64,
    header: Dgram,
}

impl Datagram<'_> {
    /// Bytes of payload.
    #[allow(clippy::len_without_is_empty)] // An empty datagram is one, too.
    pub fn len(&self) -> usize {
        self.header.len as usize
    }

    /// Who sent it.
    pub fn sender(&self) -> SocketAddr {
        let from = SocketAddr::new(ip_from_words(self.header.ip), self.header.port);
        scoped(from, self.header.interface)
    }

    /// The address that it was sent to: this host's, a group's or a broadcast address.
    pub fn sent_to(&self) -> core::net::IpAddr {
        ip_from_words(self.header.local)
    }

    /// Number of the interface by which it came: 1 is the loop, from 2 on network cards.
    pub fn interface(&self) -> u8 {
        self.header.interface
    }

    /// Time to live, or hop limit, as it arrived.
    pub fn ttl(&self) -> u8 {
        self.header.ttl
    }

    /// Type of service, or traffic class, as it arrived.
    pub fn tos(&self) -> u8 {
        self.header.tos
    }

    /// All that its header says.
    pub(super) fn header(&self) -> Dgram {
        self.header
    }

    /// Copies from offset `at` of the payload; bytes copied.
    pub fn read(&self, at: usize, into: &mut [u8]) -> usize {
        let n = into.len().min(self.len().saturating_sub(at));
        let from = self.head + (Dgram::BYTES + at) as u64;
        if self.socket.copy_out(from, &mut into[..n]).is_ok() { n } else { 0 }
    }

    /// Takes it out of the ring.
    pub(super) fn remove(self) {
        self.socket.consumed(self.head + Dgram::space(self.len()), false);
    }
}

/// A UDP socket.
pub struct UdpSocket {
    pub(super) socket: Socket,
}

impl UdpSocket {
    /// Binds `addr`; port 0: any free one.
    ///
    /// # Errors
    /// [`Error::AddrInUse`], [`Error::NotPermitted`] if the manifest does not allow the port.
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
    /// [`Error::NotPermitted`], [`Error::NetworkUnreachable`].
    pub fn connect(&self, addr: SocketAddr) -> Result<(), Error> {
        self.socket.connect(addr)
    }

    /// Has no peer any more. The port is another from the next datagram on, unless the program has
    /// named it.
    ///
    /// # Errors
    /// sockd's.
    pub fn disconnect(&self) -> Result<(), Error> {
        self.socket.connect(([0, 0, 0, 0], 0).into())
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

    /// As [`Self::send_to`]: `f` writes the datagram's `len` bytes right in the send ring, in one
    /// piece or, where the ring's end lies between, two. Bytes that it leaves as they are go out as
    /// they are: remains of what this program sent before.
    ///
    /// # Errors
    /// As [`Self::send_to`].
    pub fn send_to_with(
        &self,
        to: SocketAddr,
        len: usize,
        mut f: impl FnMut(&mut [u8]),
    ) -> Result<(), Error> {
        let timeout = self.socket.write_timeout.get();
        self.socket.retry(timeout, || self.socket.try_send_with(Some(to), len, &mut f))
    }

    /// Shows `f` the next datagram where it lies, then removes it.
    ///
    /// # Errors
    /// As [`Self::recv_from`].
    pub fn recv_with<R>(&self, f: impl FnOnce(&Datagram<'_>) -> R) -> Result<R, Error> {
        let timeout = self.socket.read_timeout.get();
        let datagram = self.socket.retry(timeout, || self.socket.try_next())?;
        let result = f(&datagram);
        datagram.remove();
        Ok(result)
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

    /// Joins a multicast group: what others send to it arrives on the ports of the group's
    /// datagrams. What this program sends to a group that the host is in arrives, too, unless
    /// `MULTICAST_LOOP_OFF` is set.
    ///
    /// # Errors
    /// [`Error::AddrInUse`] if it is in it, [`Error::Invalid`] for no group, [`Error::NoBuffers`] if
    /// netd has no room for another membership, [`Error::NotPermitted`] without `broadcast` in the
    /// manifest.
    pub fn join(&self, group: core::net::IpAddr) -> Result<(), Error> {
        self.join_on(group, On::Any)
    }

    /// As [`UdpSocket::join`], on the link of an interface: a group on another link is another one.
    ///
    /// # Errors
    /// Likewise, and [`Error::NoDevice`] if there is no such interface.
    pub fn join_on(&self, group: core::net::IpAddr, on: On) -> Result<(), Error> {
        let id = self.socket.id;
        self.socket.rt.call(&Request::Membership { id, group, on, join: true }).map(|_| ())
    }

    /// Leaves a multicast group. So does the end of the socket.
    ///
    /// # Errors
    /// [`Error::AddrNotAvailable`] if it is not in it.
    pub fn leave(&self, group: core::net::IpAddr) -> Result<(), Error> {
        self.leave_on(group, On::Any)
    }

    /// As [`UdpSocket::leave`], on the link of an interface.
    ///
    /// # Errors
    /// Likewise, and [`Error::NoDevice`] if there is no such interface.
    pub fn leave_on(&self, group: core::net::IpAddr, on: On) -> Result<(), Error> {
        let id = self.socket.id;
        self.socket.rt.call(&Request::Membership { id, group, on, join: false }).map(|_| ())
    }

    /// Changes which sources of a group this socket hears, at most ten (RFC 3376 2): named ones alone, if it has come to the
    /// group by [`Heard::Join`], or all but named ones.
    ///
    /// # Errors
    /// [`Error::AddrNotAvailable`] if it is so already, [`Error::Invalid`] if it is not in the group or the other way
    /// round, [`Error::NoBuffers`] if they are too many, and as [`Self::join_on`].
    pub fn hear(
        &self,
        group: core::net::IpAddr,
        source: core::net::IpAddr,
        on: On,
        heard: Heard,
    ) -> Result<(), Error> {
        let id = self.socket.id;
        self.socket.rt.call(&Request::Source { id, group, source, on, heard }).map(|_| ())
    }

    /// Ends receiving, sending or both; see [`super::Shutdown`].
    ///
    /// # Errors
    /// sockd's.
    pub fn shutdown(&self, how: super::Shutdown) -> Result<(), Error> {
        let id = self.socket.id;
        self.socket.rt.call(&Request::Shutdown { id, how: how as u8 }).map(|_| ())
    }
}
