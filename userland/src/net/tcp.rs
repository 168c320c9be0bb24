//! TCP streams and listeners.

use core::cell::Cell;
use core::net::SocketAddr;
use core::sync::atomic::Ordering::*;
use core::time::Duration;
use libipc::sock::{Error, Kind, Request, State, event, option};

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
    read_ended: Cell<bool>,
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
        match self.socket.record().state() {
            State::Open | State::SynSent | State::SynReceived => Err(Error::WouldBlock),
            State::Closed | State::Free if !self.socket.was_established() => {
                Err(self.socket.record().error().unwrap_or(Error::ConnectionAborted))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, read_ended: Cell::new(false) }
    }

    /// Reads what is there, at least a byte; 0 at the end of the peer's stream.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] (non-blocking), [`Error::TimedOut`], or what ended the connection.
    pub fn read(&self, into: &mut [u8]) -> Result<usize, Error> {
        let n = self.peek(into)?;
        if n > 0 {
            let head = self.socket.rx_head() + n as u64;
            self.socket.consumed(head, false);
        }
        Ok(n)
    }

    /// As [`Self::read`], leaving the bytes in place.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn peek(&self, into: &mut [u8]) -> Result<usize, Error> {
        if into.is_empty() {
            return Ok(0);
        }
        let n = self.socket.retry(self.socket.read_timeout.get(), || self.try_readable())?;
        let n = n.min(into.len());
        self.socket.copy_out(self.socket.rx_head(), &mut into[..n])?;
        Ok(n)
    }

    /// Takes up to `max` bytes without looking at them, as [`Self::read`] into a buffer that nobody
    /// needs; 0 at the end of the peer's stream.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn skip(&self, max: usize) -> Result<usize, Error> {
        let n = self.socket.retry(self.socket.read_timeout.get(), || self.try_readable())?;
        let n = n.min(max);
        self.socket.consumed(self.socket.rx_head() + n as u64, false);
        Ok(n)
    }

    /// Writes up to `max` of the bytes that have arrived back to the peer, from ring to ring; how
    /// many, 0 at the end of the peer's stream.
    ///
    /// # Errors
    /// As [`Self::read`] and [`Self::write`].
    pub fn echo(&self, max: usize) -> Result<usize, Error> {
        let n = self.socket.retry(self.socket.read_timeout.get(), || self.try_readable())?;
        if n == 0 {
            return Ok(0);
        }
        let room = self.socket.retry(self.socket.write_timeout.get(), || self.try_writable())?;
        let n = n.min(room).min(max);
        let (head, tail) = (self.socket.rx_head(), self.socket.tx_tail());
        self.socket.copy_across(head, tail, n)?;
        self.socket.consumed(head + n as u64, false);
        self.socket.publish(tail + n as u64);
        Ok(n)
    }

    /// Fills the whole of `into`.
    ///
    /// # Errors
    /// As [`Self::read`]; [`Error::ConnectionReset`] if the stream ends before.
    pub fn read_exact(&self, into: &mut [u8]) -> Result<(), Error> {
        let mut at = 0;
        while at < into.len() {
            match self.read(&mut into[at..])? {
                0 => return Err(Error::ConnectionReset),
                n => at += n,
            }
        }
        Ok(())
    }

    /// Bytes that can be read now; 0: the stream has ended.
    pub(super) fn try_readable(&self) -> Result<usize, Error> {
        if self.read_ended.get() {
            return Ok(0);
        }
        // In this order: when these words say that all has arrived, `unread` counts it in full.
        let events = self.socket.record().events.load(Acquire);
        let state = self.socket.record().state();
        let error = self.socket.record().error();
        match (self.unread(), state) {
            (n @ 1.., _) => Ok(n as usize),
            _ if events & event::PEER_FIN != 0 => Ok(0),
            (_, State::Closed) if error.is_none() => Ok(0),
            (_, State::Closed | State::Free) => Err(self.socket.ended()),
            (_, State::Open | State::Listen) => Err(Error::NotConnected),
            _ => Err(Error::WouldBlock),
        }
    }

    /// Bytes that have arrived and were not read.
    pub fn unread(&self) -> u32 {
        let n = self.socket.record().received().wrapping_sub(self.socket.rx_head() as u32);
        // More than the ring holds is netd's mistake, not our panic.
        if n as u64 <= self.socket.rx_size() { n } else { 0 }
    }

    /// Whether the peer has ended its direction or the connection is over: further data can only
    /// be what [`Self::unread`] counts.
    pub fn peer_has_ended(&self) -> bool {
        let record = self.socket.record();
        record.events.load(Acquire) & event::PEER_FIN != 0
            || matches!(record.state(), State::Closed | State::Free)
    }

    /// Bytes written and not acknowledged by the peer.
    pub fn unsent(&self) -> u32 {
        let n = (self.socket.tx_tail() as u32).wrapping_sub(self.socket.record().acknowledged());
        if n as u64 <= self.socket.tx_size() { n } else { self.socket.tx_size() as u32 }
    }

    /// Bytes that can be written now.
    pub(super) fn try_writable(&self) -> Result<usize, Error> {
        let record = self.socket.record();
        if record.events.load(Acquire) & event::FIN_QUEUED != 0 {
            return Err(self.write_error());
        }
        match record.state() {
            State::Established | State::CloseWait => {}
            State::SynSent | State::SynReceived => return Err(Error::WouldBlock),
            State::Open | State::Listen => return Err(Error::NotConnected),
            _ => return Err(self.write_error()),
        }
        match self.socket.tx_size() - self.unsent() as u64 {
            0 => Err(Error::WouldBlock),
            room => Ok(room as usize),
        }
    }

    fn write_error(&self) -> Error {
        match self.socket.record().state() {
            State::Free => Error::ConnectionAborted,
            _ => self.socket.record().error().unwrap_or(Error::BrokenPipe),
        }
    }

    /// Writes as much as there is room for, at least a byte.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] (non-blocking), [`Error::TimedOut`], [`Error::BrokenPipe`], or what
    /// ended the connection.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Error> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let room = self.socket.retry(self.socket.write_timeout.get(), || self.try_writable())?;
        let n = room.min(bytes.len());
        let tail = self.socket.tx_tail();
        self.socket.copy_in(tail, &bytes[..n])?;
        self.socket.publish(tail + n as u64);
        Ok(n)
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_all(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = self.write(rest)?;
            rest = &rest[n..];
        }
        Ok(())
    }

    /// Lets `f` produce up to `max` bytes right in the send ring; returns how many it did. `f` is
    /// called once or, where the ring's end lies between, twice, and says how much it filled.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_with(
        &self,
        max: usize,
        mut f: impl FnMut(&mut [u8]) -> usize,
    ) -> Result<usize, Error> {
        let room = self.socket.retry(self.socket.write_timeout.get(), || self.try_writable())?;
        let tail = self.socket.tx_tail();
        let n = self.socket.fill(tail, room.min(max), &mut f)?;
        if n > 0 {
            self.socket.publish(tail + n as u64);
        }
        Ok(n)
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
        self.socket.set_option(option::NODELAY, on);
    }

    /// Whether [`Self::set_nodelay`] is on.
    pub fn nodelay(&self) -> bool {
        self.socket.option(option::NODELAY)
    }

    /// How long the peer may leave data unacknowledged before the connection ends with
    /// [`Error::TimedOut`], whether or not a call waits (RFC 5482, Linux's TCP_USER_TIMEOUT); `None`:
    /// some minutes. A peer that answers and has no room is waited for all the same.
    pub fn set_user_timeout(&self, timeout: Option<Duration>) {
        self.socket.set_user_timeout(timeout);
    }

    /// Whether dropping the stream resets the connection instead of ending it in order.
    pub fn set_abort_on_drop(&self, on: bool) {
        self.socket.abort.set(on);
    }
}
