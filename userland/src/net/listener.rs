//! TCP listeners.

use core::net::SocketAddr;
use core::sync::atomic::Ordering::*;
use libipc::sock::{Error, Kind, Reply, Request, State, option};

use super::socket::Socket;
use super::{Options, TcpStream};
use crate::runtime::Runtime;

/// A TCP listener.
pub struct TcpListener {
    pub(super) socket: Socket,
}

impl TcpListener {
    /// Listens on `addr`, with SO_REUSEADDR as `std` has it: connections of an earlier listener do not
    /// stand in the way.
    ///
    /// # Errors
    /// [`Error::AddrInUse`], [`Error::NotPermitted`] if the manifest does not allow the port,
    /// [`Error::NoBuffers`] if the session has no room for even one connection.
    pub fn bind(rt: &'static Runtime, addr: SocketAddr) -> Result<Self, Error> {
        Self::bind_with(rt, addr, Options::default())
    }

    /// As [`Self::bind`], with backlog and ring sizes of the connections.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn bind_with(
        rt: &'static Runtime,
        addr: SocketAddr,
        options: Options,
    ) -> Result<Self, Error> {
        // The listener itself carries no data: the smallest rings.
        let socket = Socket::open(rt, Kind::Tcp, 1, 1)?;
        socket.opts().set_flag(option::REUSEADDR, true);
        socket.bind(addr)?;
        let backlog = if options.backlog == 0 { 16 } else { options.backlog };
        let Options { tx, rx, .. } = options;
        rt.call(&Request::Listen { id: socket.id, backlog, tx, rx })?;
        Ok(Self { socket })
    }

    /// Takes a connection.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] (non-blocking), or what ended the listener.
    pub fn accept(&self) -> Result<(TcpStream, SocketAddr), Error> {
        self.socket.retry(self.socket.read_timeout.get(), || self.try_accept())
    }

    pub(super) fn try_accept(&self) -> Result<(TcpStream, SocketAddr), Error> {
        let record = self.socket.record();
        if record.state() != State::Listen {
            return Err(self.socket.ended());
        }
        if record.pending.load(Acquire) == 0 {
            return Err(Error::WouldBlock);
        }
        let reply: Reply = self.socket.rt.call(&Request::Accept { id: self.socket.id })?;
        let (socket, peer) = Socket::from_reply(self.socket.rt, reply)?;
        socket.words().inherit(self.socket.words());
        // A connection that has ended already may have lost its peer's name; it is one all the same.
        let peer = peer.or_else(|| socket.peer_addr().ok());
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        Ok((TcpStream::new(socket), peer.unwrap_or(unknown)))
    }

    /// From now on so many connections and one more may wait to be accepted.
    ///
    /// # Errors
    /// sockd's.
    pub fn set_backlog(&self, backlog: u16) -> Result<(), Error> {
        let (tx, rx) = (0, 0);
        self.socket.rt.call(&Request::Listen { id: self.socket.id, backlog, tx, rx }).map(drop)
    }

    /// Connections as they come.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Whether it still listens: not when its session was ended.
    pub fn is_listening(&self) -> bool {
        self.socket.record().state() == State::Listen
    }
}

/// See [`TcpListener::incoming`].
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = Result<(TcpStream, SocketAddr), Error>;
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept())
    }
}
