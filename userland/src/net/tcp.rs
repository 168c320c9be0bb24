//! TCP streams and listeners.

use core::cell::Cell;
use core::net::SocketAddr;
use core::time::Duration;
use libipc::sock::{Error, Kind, Request, State, option};

use super::Options;
use super::socket::Socket;
use crate::runtime::Runtime;

/// Which directions of a stream to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Shutdown {
    /// Receiving: reads return 0 from now on.
    Read = 0,
    /// Sending: the peer sees the end after all that was written.
    Write = 1,
    /// Both.
    Both = 2,
}

/// A TCP connection.
pub struct TcpStream {
    pub(super) socket: Socket,
    /// The program ended receiving.
    pub(super) read_ended: Cell<bool>,
    /// Count of the urgent byte that was taken last.
    pub(super) urgent_taken: Cell<Option<u32>>,
}

impl TcpStream {
    /// Connects to `addr` and waits until the connection stands.
    ///
    /// # Errors
    /// [`Error::ConnectionRefused`], [`Error::TimedOut`], [`Error::HostUnreachable`],
    /// [`Error::NotPermitted`] if the manifest does not allow it, and the shortages of
    /// [`libipc::sock::Error`].
    pub fn connect(rt: &'static Runtime, addr: SocketAddr) -> Result<Self, Error> {
        Self::connect_with(rt, addr, Options::default())
    }

    /// As [`Self::connect`], with a limit on the wait.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_timeout(
        rt: &'static Runtime,
        addr: SocketAddr,
        timeout: Duration,
    ) -> Result<Self, Error> {
        Self::connect_with(rt, addr, Options { connect_timeout: Some(timeout), ..<_>::default() })
    }

    /// As [`Self::connect`], with ring sizes and time-out.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_with(
        rt: &'static Runtime,
        addr: SocketAddr,
        options: Options,
    ) -> Result<Self, Error> {
        let stream = Self::start_connect(rt, addr, options)?;
        stream.socket.retry(options.connect_timeout, || stream.try_connected())?;
        Ok(stream)
    }

    /// Begins to connect and returns at once; [`Self::try_connected`] says how it went.
    ///
    /// # Errors
    /// As [`Self::connect`], for what is known at once.
    pub fn start_connect(
        rt: &'static Runtime,
        addr: SocketAddr,
        options: Options,
    ) -> Result<Self, Error> {
        let socket = Socket::open(rt, Kind::Tcp, options.tx, options.rx)?;
        socket.set_user_timeout(options.user_timeout);
        socket.connect(addr)?;
        Ok(Self::new(socket))
    }

    /// How a connection attempt goes.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] while it lasts, or why it failed.
    pub fn try_connected(&self) -> Result<(), Error> {
        match self.try_stands() {
            Err(Error::ConnectionAborted) => {
                Err(self.take_error().unwrap_or(Error::ConnectionAborted))
            }
            other => other,
        }
    }

    /// As [`Self::try_connected`], leaving the error where it is.
    pub(crate) fn try_stands(&self) -> Result<(), Error> {
        match self.socket.record().state() {
            State::Open | State::SynSent | State::SynReceived => Err(Error::WouldBlock),
            State::Closed | State::Free if !self.socket.was_established() => {
                Err(Error::ConnectionAborted)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, read_ended: Cell::new(false), urgent_taken: Cell::new(None) }
    }

    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Ends one or both directions.
    ///
    /// # Errors
    /// [`Error::NotConnected`].
    pub fn shutdown(&self, how: Shutdown) -> Result<(), Error> {
        if how != Shutdown::Write {
            self.read_ended.set(true);
        }
        let id = self.socket.id;
        self.socket.rt.call(&Request::Shutdown { id, how: how as u8 }).map(|_| ())
    }

    /// State of the connection.
    pub fn state(&self) -> State {
        self.socket.record().state()
    }

    /// Whether a small segment goes out although an earlier one is not acknowledged yet
    /// (TCP_NODELAY). Off at first: Nagle's algorithm gathers small writes.
    pub fn set_nodelay(&self, on: bool) {
        self.socket.opts().set_flag(option::NODELAY, on);
    }

    /// Whether [`Self::set_nodelay`] is on.
    pub fn nodelay(&self) -> bool {
        self.socket.opts().flag(option::NODELAY)
    }

    /// How long the peer may leave data unacknowledged before the connection ends with
    /// [`Error::TimedOut`], whether or not a call waits (RFC 5482, Linux's TCP_USER_TIMEOUT); `None`:
    /// some minutes. A peer that answers and has no room is waited for all the same.
    pub fn set_user_timeout(&self, timeout: Option<Duration>) {
        self.socket.set_user_timeout(timeout);
    }

    /// Whether dropping the stream resets the connection instead of ending it in order.
    pub fn set_abort_on_drop(&self, on: bool) {
        self.socket.linger.set(on.then_some(0));
    }
}
