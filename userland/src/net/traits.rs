//! The traits of `embedded-io` and `embedded-io-async`, and futures where those have none.
//!
//! The blocking traits follow the socket's mode: a non-blocking socket fails with an error of kind
//! `Other` that holds [`Error::WouldBlock`]. The asynchronous ones never block.

use core::fmt;
use core::net::SocketAddr;

use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};
use libipc::sock::Error;

use super::{Options, TcpListener, TcpStream, UdpSocket};
use crate::runtime::Runtime;

/// [`Error`] as those crates want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoError(pub Error);

impl From<Error> for IoError {
    fn from(e: Error) -> Self {
        Self(e)
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::error::Error for IoError {}

impl embedded_io::Error for IoError {
    fn kind(&self) -> ErrorKind {
        match self.0 {
            Error::ConnectionRefused => ErrorKind::ConnectionRefused,
            Error::ConnectionReset => ErrorKind::ConnectionReset,
            Error::ConnectionAborted => ErrorKind::ConnectionAborted,
            Error::TimedOut => ErrorKind::TimedOut,
            Error::AddrInUse => ErrorKind::AddrInUse,
            Error::AddrNotAvailable => ErrorKind::AddrNotAvailable,
            Error::NotConnected => ErrorKind::NotConnected,
            Error::AlreadyConnected => ErrorKind::AlreadyExists,
            Error::Invalid | Error::MessageTooLong => ErrorKind::InvalidInput,
            Error::NotPermitted(_) => ErrorKind::PermissionDenied,
            Error::BrokenPipe => ErrorKind::BrokenPipe,
            Error::TooManySockets | Error::NoBuffers => ErrorKind::OutOfMemory,
            Error::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Other,
        }
    }
}

impl ErrorType for TcpStream {
    type Error = IoError;
}

impl Read for TcpStream {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, IoError> {
        Ok(TcpStream::read(self, into)?)
    }
}

impl Write for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, IoError> {
        Ok(TcpStream::write(self, bytes)?)
    }
    /// What was written is on its way; nothing waits for the peer's acknowledgment.
    fn flush(&mut self) -> Result<(), IoError> {
        self.socket.rt.flush();
        Ok(())
    }
}

/// Whether a call would not block: an error waits as data does.
fn ready<T>(result: Result<T, Error>) -> Result<bool, IoError> {
    Ok(!matches!(result, Err(Error::WouldBlock)))
}

impl ReadReady for TcpStream {
    fn read_ready(&mut self) -> Result<bool, IoError> {
        ready(self.try_readable())
    }
}

impl WriteReady for TcpStream {
    fn write_ready(&mut self) -> Result<bool, IoError> {
        ready(self.try_writable())
    }
}

impl embedded_io_async::Read for TcpStream {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, IoError> {
        if !into.is_empty() {
            self.socket.when_ready(|| self.try_readable()).await?;
        }
        // It will not block now.
        Ok(TcpStream::read(self, into)?)
    }
}

impl embedded_io_async::Write for TcpStream {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, IoError> {
        if !bytes.is_empty() {
            self.socket.when_ready(|| self.try_writable()).await?;
        }
        Ok(TcpStream::write(self, bytes)?)
    }
    async fn flush(&mut self) -> Result<(), IoError> {
        self.socket.rt.flush();
        Ok(())
    }
}

impl TcpStream {
    /// As [`Self::connect_with`], without blocking.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_async(
        rt: &'static Runtime,
        addr: SocketAddr,
        options: Options,
    ) -> Result<Self, Error> {
        let stream = Self::start_connect(rt, addr, options)?;
        stream.socket.when_ready(|| stream.try_connected()).await?;
        Ok(stream)
    }
}

impl TcpListener {
    /// As [`Self::accept`], without blocking.
    ///
    /// # Errors
    /// What ended the listener.
    pub async fn accept_async(&self) -> Result<(TcpStream, SocketAddr), Error> {
        self.socket.when_ready(|| self.try_accept()).await
    }
}

impl UdpSocket {
    /// As [`Self::recv_from`], without blocking.
    ///
    /// # Errors
    /// Errors that ICMP reported.
    pub async fn recv_from_async(&self, into: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
        self.socket.when_ready(|| self.socket.try_recv(into, true)).await
    }

    /// As [`Self::send_to`], without blocking.
    ///
    /// # Errors
    /// As [`Self::send_to`].
    pub async fn send_to_async(&self, bytes: &[u8], to: SocketAddr) -> Result<(), Error> {
        self.socket.when_ready(|| self.socket.try_send(Some(to), bytes)).await
    }
}
