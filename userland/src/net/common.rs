//! What every socket has.

use super::{Capture, Opts, Ping, TcpListener, TcpStream, UdpSocket};
use crate::poll::Source;
use crate::runtime::Runtime;
use core::net::SocketAddr;
use core::time::Duration;
use libipc::sock::Error;

macro_rules! common {
    ($($socket:ty),*) => {$(
        impl $socket {
            /// This end's address; all zero before the socket is bound.
            ///
            /// # Errors
            /// None at present.
            pub fn local_addr(&self) -> Result<SocketAddr, Error> {
                self.socket.local_addr()
            }

            /// Whether calls return [`Error::WouldBlock`] instead of waiting.
            pub fn set_nonblocking(&self, on: bool) {
                self.socket.nonblocking.set(on);
            }

            /// Longest wait of a read, receive or accept; `None`: no limit.
            pub fn set_read_timeout(&self, timeout: Option<Duration>) {
                self.socket.read_timeout.set(timeout);
            }

            /// The limit set by [`Self::set_read_timeout`].
            pub fn read_timeout(&self) -> Option<Duration> {
                self.socket.read_timeout.get()
            }

            /// Bytes of the send ring (SO_SNDBUF); chosen when the socket is made.
            pub fn send_buffer_size(&self) -> usize {
                self.socket.tx_size() as usize
            }

            /// Bytes of the receive ring (SO_RCVBUF); chosen when the socket is made.
            pub fn recv_buffer_size(&self) -> usize {
                self.socket.rx_size() as usize
            }

            /// Its options.
            pub fn opts(&self) -> Opts<'_> {
                self.socket.opts()
            }

            /// The runtime that it belongs to.
            pub fn runtime(&self) -> &'static Runtime {
                self.socket.rt
            }

            /// The socket's id in its session, as `ss` shows it.
            pub fn id(&self) -> u32 {
                self.socket.id
            }
        }

        impl Source for $socket {
            fn id(&self) -> u32 {
                self.socket.id
            }
        }
    )*};
}
common!(TcpStream, TcpListener, UdpSocket, Ping, Capture);

macro_rules! connects {
    ($($socket:ty),*) => {$(
        impl $socket {
            /// The peer.
            ///
            /// # Errors
            /// [`Error::NotConnected`].
            pub fn peer_addr(&self) -> Result<SocketAddr, Error> {
                self.socket.peer_addr()
            }

            /// Longest wait of a write or send; `None`: no limit.
            pub fn set_write_timeout(&self, timeout: Option<Duration>) {
                self.socket.write_timeout.set(timeout);
            }

            /// The limit set by [`Self::set_write_timeout`].
            pub fn write_timeout(&self) -> Option<Duration> {
                self.socket.write_timeout.get()
            }

            /// The error that ended the socket, or that ICMP reported last.
            pub fn error(&self) -> Option<Error> {
                self.socket.record().error()
            }
        }
    )*};
}
connects!(TcpStream, UdpSocket);
