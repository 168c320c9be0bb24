//! What a socket may be asked for when it is made.

use core::time::Duration;

/// Ring sizes and time-outs of a new socket. The default leaves sizes to sockd and never times out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the send ring, rounded up to a power of two; 0: sockd's default.
    pub tx: u32,
    /// Bytes of the receive ring, likewise.
    pub rx: u32,
    /// Longest wait for a connection.
    pub connect_timeout: Option<Duration>,
    /// Streams: see [`super::TcpStream::set_user_timeout`]; here it holds for the handshake, too.
    pub user_timeout: Option<Duration>,
    /// Listener: connections that may wait; 0: 16.
    pub backlog: u16,
}
