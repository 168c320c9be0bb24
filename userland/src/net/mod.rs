//! Sockets in the shape of `std::net`. Each is closed when it is dropped.
//!
//! All of them block until `set_nonblocking(true)`; time-outs are per direction. A call that waits
//! keeps the news of other sockets for later, so blocking and event-driven use mix. Streams are
//! used through `&self`: a program has one thread.

mod link;
mod options;
mod ping;
mod socket;
mod tcp;
mod udp;

#[cfg(test)]
mod tests;

pub use libipc::link::Link;
pub use link::{LinkWatch, link};
pub use options::Options;
pub use ping::{Echo, Ping};
pub use tcp::{Incoming, Shutdown, TcpListener, TcpStream};
pub use udp::{Datagram, UdpSocket};

macro_rules! sources {
    ($($socket:ty),*) => {$(
        impl crate::poll::Source for $socket {
            fn id(&self) -> u32 {
                <$socket>::id(self)
            }
        }
    )*};
}
sources!(TcpStream, TcpListener, UdpSocket, Ping);
