//! Sockets step by step, as BSD's calls have them: opened, bound, then connected or made a listener.

use core::net::SocketAddr;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use libipc::sock::{AppSock, Error, Kind, Record, Request, option};

use super::socket::Socket;
use super::{Datagram, TcpListener, TcpStream, UdpSocket};
use crate::runtime::Runtime;

impl TcpStream {
    /// One that is neither bound nor connected.
    pub(crate) fn open(rt: &'static Runtime, tx: u32, rx: u32) -> Result<Self, Error> {
        Ok(Self::new(Socket::open(rt, Kind::Tcp, tx, rx)?))
    }

    /// Binds `addr`.
    pub(crate) fn bind(&self, addr: SocketAddr) -> Result<(), Error> {
        self.socket.bind(addr)
    }

    /// Begins to connect; [`Self::try_connected`] says how it goes.
    pub(crate) fn begin(&self, addr: SocketAddr) -> Result<(), Error> {
        self.socket.connect(addr)
    }

    /// Has it listen: it is none any more, but what [`Self::into_listener`] makes of it. Its options
    /// are its connections'.
    pub(crate) fn listen(&self, backlog: u16, tx: u32, rx: u32) -> Result<(), Error> {
        let id = self.socket.id;
        self.socket.rt.call(&Request::Listen { id, backlog, tx, rx }).map(drop)
    }

    /// What it is after [`Self::listen`].
    pub(crate) fn into_listener(self) -> TcpListener {
        TcpListener { socket: self.into_socket() }
    }
}

impl UdpSocket {
    /// One that is not bound, of UDP or of what else has datagrams.
    pub(crate) fn open(rt: &'static Runtime, kind: Kind, tx: u32, rx: u32) -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(rt, kind, tx, rx)? })
    }

    /// Binds `addr`, later than [`Self::bind`].
    pub(crate) fn bind_to(&self, addr: SocketAddr) -> Result<(), Error> {
        self.socket.bind(addr)
    }

    /// Shows `f` the next datagram and leaves it where it is.
    pub(crate) fn look<R>(&self, f: impl FnOnce(&Datagram<'_>) -> R) -> Result<R, Error> {
        self.socket.try_look().map(|d| f(&d))
    }

    /// Whether [`Self::take_error`] has one.
    pub(crate) fn has_error(&self) -> bool {
        self.socket.record().events.load(Acquire) != self.socket.told_errors.get()
    }

    /// The program's words of it.
    pub(crate) fn words(&self) -> &'static AppSock {
        self.socket.words()
    }

    /// An error that ICMP reported and that no call has told yet.
    pub(crate) fn take_error(&self) -> Option<Error> {
        self.socket.new_error()
    }
}

impl Socket {
    /// Takes over all options that `words` has.
    fn take_options(&self, words: &AppSock) {
        // What concerns data in the ring stays as it is, and netd is to see a change.
        const OWN: u32 = option::URGENT | option::MORE;
        let old = self.words().options.load(Relaxed);
        self.words().take_options(words);
        let count = (old & option::CHANGES).wrapping_add(option::CHANGE);
        let bits = words.options.load(Relaxed) & !(option::CHANGES | OWN) | old & OWN;
        self.words().options.store(bits | count, Release);
        self.rt.submit(self.id);
    }
}

macro_rules! words {
    ($($socket:ty),*) => {$(
        impl $socket {
            /// netd's words of it.
            pub(crate) fn record(&self) -> &'static Record {
                self.socket.record()
            }

            /// Takes over all options that `words` has.
            pub(crate) fn take_options(&self, words: &AppSock) {
                self.socket.take_options(words);
            }
        }
    )*};
}
words!(TcpStream, TcpListener, UdpSocket);
