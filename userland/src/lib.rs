//! What programs are written against: sockets in the shape of `std::net`, a console, time.
//!
//! A program calls [`init`] once and gets its [`Runtime`]; everything else borrows that.
//!
//! ```ignore
//! fn main(start: &'static rt::StartInfo) -> u64 {
//!     let rt = userland::init(start).expect("capabilities");
//!     let listener = TcpListener::bind(rt, ([0, 0, 0, 0], 7).into()).expect("port 7");
//!     for (stream, peer) in listener.incoming().flatten() { /* … */ }
//!     0
//! }
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`runtime`] | signals, timer, calls to sockd, which sockets have news |
//! | [`poll`] | readiness of many sockets at once |
//! | [`serve`] | an event loop for servers of many connections |
//! | [`task`] | futures over sockets, run by [`task::block_on`] |
//! | [`net`] | [`net::TcpStream`], [`net::TcpListener`], [`net::UdpSocket`], [`net::Ping`] |
//! | [`dns`] | names to addresses |
//! | [`filter`] | filters of packet taps, from words |
//! | [`console`] | line input with editing, output through the log page |
//! | [`random`] | random bytes |
//! | [`time`] | the time of day |
//! | [`bytes`] | the byte stream of fixed seed that `/bytes` serves |
//! | [`http`] | requests and responses of `httpd` |
//! | [`port`] | what the runtime needs of the kernel |
//! | [`agent`] | the test agent, without its serial port |
//! | [`linux`] | sockets as a Linux program knows them |
//! | [`lies`] | what the program `hostile` does to everybody else |
//! | [`own`] | kernel objects of a program's own |
//! | [`mem`] | the session's memory: all unsafe code here but the first instructions of a thread |
//!
//! No payload passes through a server: reads and writes copy between the program's slices and
//! rings shared with netd, and a system call is made only to wake netd or to sleep.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;

pub mod agent;
pub mod bytes;
pub mod console;
pub mod dns;
pub mod filter;
pub mod http;
mod ids;
pub mod lies;
pub mod linux;
pub mod mem;
pub mod net;
pub mod own;
pub mod poll;
pub mod port;
pub mod random;
pub mod runtime;
pub mod serve;
pub mod task;
pub mod time;

pub use libipc::sock::Error;
pub use runtime::{InitError, Runtime, init};
