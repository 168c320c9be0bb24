//! netd's stack as a library without I/O: host-testable, time and randomness are arguments.
//!
//! | module | what |
//! |---|---|
//! | [`wire`] | codecs |
//! | [`tcp`] | one TCP connection as a state machine |
//! | [`stack`] | sockets, tables, timers: [`Stack`] |
//! | [`record`] | hard state of sockets, in the order that recovery needs |
//! | [`state`], [`membership`] | hard state of the stack |
//! | [`port`] | netd's end of the driver's rings |
//! | [`session`] | a program's session: id rings and memory |
//! | [`addressing`], [`addressing6`] | the arguments: DHCP, or an address; of IPv6: routers, or an address |
//! | `ip6` | what a host does of its own accord on a link that speaks IPv6 |
//! | `iface` | addresses of both families, the next hop, the source |
//! | [`dev`] | network cards by number |
//! | [`route`], [`paths`] | which neighbour a packet goes to; what is known of a destination |
//! | [`neigh`], [`dhcp`] | neighbours, the DHCP client |
//! | [`reassembly`] | fragments put together |
//! | [`fastopen`] | cookies of Fast Open |
//! | [`request`] | handshakes without a socket |
//! | [`timewait`] | TIME-WAIT without a socket |
//! | [`settings`] | choices for the whole stack |
//! | [`bpf`] | filters of packet taps |
//! | [`ports`] | who holds which port |
//! | [`demux`], [`wheel`], [`list`] | hash table, timer wheel, lists: all O(1) |
//! | [`env`] | what the stack needs of its surroundings |
//!
//! Nothing is allocated after [`Stack::new`]. Whatever arrives by wire, ring or message is an
//! allegation: it yields a counter, an error or the end of the peer's session, never a panic.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
pub mod addressing;
pub mod addressing6;
pub mod bpf;
pub mod crash;
pub mod demux;
pub mod dev;
pub mod dhcp;
pub mod env;
pub mod fastopen;
mod iface;
mod ip6;
pub mod list;
pub mod membership;
pub mod neigh;
pub mod paths;
pub mod port;
pub mod ports;
pub mod reassembly;
pub mod record;
pub mod request;
pub mod route;
mod sealed;
pub mod session;
mod sets;
pub mod settings;
mod sources;
pub mod stack;
pub mod state;
pub mod tcp;
pub mod timewait;
pub mod wheel;
pub mod wire;

pub use addressing::Addressing;
pub use addressing6::Addressing6;
pub use settings::Settings;
pub use stack::{NicSetup, Setup, Signals, Stack};
