//! Sockets in the shape of `std::net`. Each is closed when it is dropped.
//!
//! All of them block until `set_nonblocking(true)`; time-outs are per direction. A call that waits
//! keeps the news of other sockets for later, so blocking and event-driven use mix. Streams are
//! used through `&self`: a program has one thread. The traits of `embedded-io`,
//! `embedded-io-async` and `embedded-nal` are implemented as well ([`Stack`], [`crate::task`]).

mod capture;
mod common;
mod device;
mod fastopen;
mod link;
mod listener;
mod nal;
mod notice;
mod options;
mod opts;
mod ping;
mod raw;
mod recv;
mod send;
mod socket;
mod status;
mod tcp;
mod traits;
mod udp;
mod unconnected;

#[cfg(test)]
mod tests;

use core::net::{Ipv6Addr, SocketAddr};

/// Any address of this host, of both families, and this port: what a server binds to.
pub const fn any(port: u16) -> SocketAddr {
    SocketAddr::new(core::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

pub use capture::{Capture, Frame, PCAP_HEADER};
pub use device::{device_number, find_device};
pub use libipc::link::Link;
pub use link::{LinkWatch, link};
pub use listener::{Incoming, TcpListener};
pub use nal::{NalTcp, NalUdp, Stack};
pub use notice::{Ancillary, Undelivered};
pub use options::Options;
pub use opts::Opts;
pub use ping::{Echo, Ping};
pub use raw::RawSocket;
pub use status::pollbits;
pub use tcp::{Shutdown, TcpStream};
pub use traits::IoError;
pub use udp::{Datagram, UdpSocket};
