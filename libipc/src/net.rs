//! Requests to netd. sockd speaks for programs; the shell asks for status.
//!
//! The badge of the endpoint says who asks ([`badge`]); sockets are named by (session, id).

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use serde::{Deserialize, Serialize};

use crate::Name;
use crate::sock::{Error, FastOpen, Heard, Kind, NAME_SERVERS, On, State, TcpInfo};

/// Badges of netd's endpoint.
pub mod badge {
    /// sockd: everything.
    pub const SOCKD: u64 = 1;
    /// A status reader: only [`super::Request::Interface`], `Sockets`, `Stats` and
    /// `Misbehaved`.
    pub const STATUS: u64 = 2;
    /// A status reader that may stop servers, too: also [`super::Request::Lease`].
    pub const ADMIN: u64 = 3;
}

/// Where a socket's rings lie in its session's `tx` and `rx` regions; sizes are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rings {
    /// Offset in `tx`.
    pub tx_off: u32,
    /// log2 of the send ring's size.
    pub tx_bits: u8,
    /// Offset in `rx`.
    pub rx_off: u32,
    /// log2 of the receive ring's size.
    pub rx_bits: u8,
}

/// A socket: session number and id in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SockId {
    /// Session.
    pub session: u16,
    /// Id.
    pub id: u16,
}

/// Most ids in one [`Request::Spares`].
pub const SPARES: usize = 16;
/// Freed ids that are worth a signal to sockd although it waits for none.
pub const FREED_MANY: u32 = 16;

/// Most values in one [`Reply::Counters`].
pub const COUNTERS: usize = 64;

/// A request; the reply is `Result<Reply, Error>`. All complete at once.
///
/// A caller whose request ended with `ServerDied` makes it again, and the answer tells what the
/// first one did: `Open`, `Bind` and `Listen` of a socket that is so already are
/// [`Error::Invalid`], `Connect` is [`Error::AlreadyConnected`] or [`Error::InProgress`], `Close` of
/// a free id is [`Error::BadSocket`], and for `Accept` see `Spares`.
#[allow(clippy::large_enum_variant, reason = "made once, encoded and dropped; there is no heap")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Makes the record a socket.
    Open {
        /// Which.
        sock: SockId,
        /// What.
        kind: Kind,
        /// Its memory.
        rings: Rings,
    },
    /// Binds; port 0 picks one. Replies [`Reply::Address`].
    Bind {
        /// Which.
        sock: SockId,
        /// Local address.
        addr: SocketAddr,
    },
    /// Makes it a listener. Connections need spares ([`Request::Spares`]).
    Listen {
        /// Which.
        sock: SockId,
        /// Most connections that wait, handshakes included.
        backlog: u16,
    },
    /// Gives a listener unused ids of its session, with rings, for connections to come; the first
    /// that cannot be given ends it with its error. Given again: done, if it is still the
    /// listener's; [`Error::AlreadyConnected`] if `Accept` has handed it over.
    Spares {
        /// Listener.
        listener: SockId,
        /// Ids and their memory.
        ids: heapless::Vec<(u16, Rings), SPARES>,
    },
    /// Takes a connection that waits: [`Reply::Accepted`] or [`Error::WouldBlock`].
    Accept {
        /// Listener.
        listener: SockId,
    },
    /// Connects.
    Connect {
        /// Which.
        sock: SockId,
        /// Peer.
        addr: SocketAddr,
    },
    /// Connects a stream with Fast Open (RFC 7413): the SYN takes along as much of the first `data` bytes of
    /// the send ring as it may, which is what [`Record::sent`](crate::sock::Record::sent) counts when the
    /// reply has come. [`Error::NotSupported`]: that is turned off.
    FastOpen {
        /// Which.
        sock: SockId,
        /// Peer.
        addr: SocketAddr,
        /// Bytes that lie in the send ring from its beginning on, `tx_tail` being 0 yet.
        data: u16,
        /// How.
        how: FastOpen,
    },
    /// Ends directions: 0 receiving, 1 sending, 2 both.
    Shutdown {
        /// Which.
        sock: SockId,
        /// How.
        how: u8,
    },
    /// Ends the socket; netd goes on alone until the peer has everything, or resets at once with
    /// `abort`. [`Reply::Closed`] says whether the id is free already; if not, it is when the
    /// record's state is [`State::Free`], and netd signals sockd (see `TakeFreed`).
    Close {
        /// Which.
        sock: SockId,
        /// Reset instead.
        abort: bool,
    },
    /// Aborts and frees every socket of a session, and empties its rings. When the reply comes,
    /// nothing of the session is in use by netd or the NIC any more. [`Error::WouldBlock`]: the NIC
    /// still reads its memory; netd signals sockd when it may ask again. [`Error::Invalid`]:
    /// everything is freed, but the program's ring words are nonsense; they must be zeroed before
    /// the session can begin anew.
    EndSession {
        /// Which.
        session: u16,
    },
    /// Ids of the session freed since asked last (sockets that ended after `Close`, spares of a
    /// closed listener), at most 32: [`Reply::Freed`]; ask until it is empty. A restarted netd
    /// names every free id, since it cannot know what was asked: pass over those known to be free.
    ///
    /// Until it is asked next, netd signals sockd when [`FREED_MANY`] have come together; with
    /// `wait` (and before the first question), at the first one.
    TakeFreed {
        /// Which.
        session: u16,
        /// Whether sockd is short of sockets or memory.
        wait: bool,
    },
    /// Local and remote address: [`Reply::Addresses`].
    Addresses {
        /// Which.
        sock: SockId,
    },
    /// Binds a socket to an interface (SO_BINDTODEVICE): it gets what comes by that alone, and sends by it.
    /// [`Error::NoDevice`]: there is none of this number.
    BindDevice {
        /// Which.
        sock: SockId,
        /// The interface; 0: to none any more.
        number: u8,
    },
    /// The number of an interface, if it is there: [`Reply::Device`] or [`Error::NoDevice`].
    FindDevice {
        /// Which.
        on: On,
    },
    /// A datagram socket joins a multicast group, or leaves it.
    Membership {
        /// Which.
        sock: SockId,
        /// Group.
        group: IpAddr,
        /// On which link.
        on: On,
        /// Join, not leave.
        join: bool,
    },
    /// Changes which sources of a group it hears.
    Source {
        /// Which.
        sock: SockId,
        /// Group.
        group: IpAddr,
        /// Who sends to it.
        source: IpAddr,
        /// On which link.
        on: On,
        /// What.
        heard: Heard,
    },
    /// A connection's state and figures, or the MTU of a datagram socket's path: [`Reply::TcpInfo`].
    TcpInfo {
        /// Which.
        sock: SockId,
    },
    /// Interface `number`: [`Reply::Interface`], or [`Error::NoDevice`] beyond the last.
    Interface {
        /// As in [`Dgram::interface`](crate::sock::Dgram): network cards from [`Dgram::NIC`](crate::sock::Dgram::NIC) on.
        number: u8,
    },
    /// What it has of IPv6, likewise.
    Interface6 {
        /// Likewise.
        number: u8,
    },
    /// Sockets from number `skip` on, then handshakes and connections in TIME-WAIT, a few at a time:
    /// [`Reply::Sockets`].
    Sockets {
        /// How many to pass over.
        skip: u32,
    },
    /// Counters.
    Stats,
    /// The name servers that DHCP, routers or the arguments have named: [`Reply::NameServers`].
    NameServers,
    /// The values of [`crate::counters::Counters`] from number `skip` on: [`Reply::Counters`].
    Counters {
        /// How many to pass over.
        skip: u32,
    },
    /// Programs whose sessions were ended for nonsense in their memory, from number `skip` on:
    /// [`Reply::Misbehaved`].
    Misbehaved {
        /// How many to pass over.
        skip: u32,
    },
    /// Gives the DHCP lease of a card back (RFC 2131 4.4.6), or asks for it anew. [`Error::NotSupported`]: its
    /// address does not come from a server.
    Lease {
        /// Number of the card among interfaces, as in [`Request::Interface`].
        number: u8,
        /// Ask anew.
        keep: bool,
    },
}

/// What netd answers.
#[allow(clippy::large_enum_variant, reason = "made once, encoded and dropped; there is no heap")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Done,
    /// Nothing is done yet: data can go with the SYN.
    Deferred,
    /// A local address.
    Address(SocketAddr),
    /// A connection.
    Accepted {
        /// The spare that it became.
        sock: SockId,
        /// Peer.
        peer: SocketAddr,
    },
    /// Closed; the id is free already or later.
    Closed {
        /// Free already.
        free: bool,
    },
    /// Freed ids.
    Freed(heapless::Vec<u16, 32>),
    /// Addresses.
    Addresses {
        /// Local.
        local: SocketAddr,
        /// Remote.
        remote: Option<SocketAddr>,
    },
    /// Number of an interface; 0: none in particular.
    Device(u8),
    /// State and figures.
    TcpInfo(TcpInfo),
    /// The interface.
    Interface(Interface),
    /// What it has of IPv6.
    Interface6(Interface6),
    /// Some sockets; fewer than 8: these were the last.
    Sockets(heapless::Vec<SockInfo, 8>),
    /// Counters by [`Stats`].
    Stats(Stats),
    /// Addresses of name servers, the best first.
    NameServers([Option<IpAddr>; NAME_SERVERS]),
    /// Some counters; fewer than [`COUNTERS`]: these were the last.
    Counters(heapless::Vec<u64, COUNTERS>),
    /// Some programs, and how often their sessions were ended; fewer than 8: these were the last.
    Misbehaved(heapless::Vec<(Name, u32), 8>),
}

/// The interface, as `ip` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// MAC.
    pub mac: [u8; 6],
    /// Link.
    pub up: bool,
    /// MTU.
    pub mtu: u16,
    /// Address and prefix length.
    pub addr: Option<(IpAddr, u8)>,
    /// Default gateway.
    pub gateway: Option<IpAddr>,
    /// Name server.
    pub dns: Option<IpAddr>,
    /// Seconds left of the DHCP lease; `None`: static or none.
    pub lease_s: Option<u32>,
}

/// What the interface has of IPv6, as `ip` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface6 {
    /// Addresses.
    pub addrs: heapless::Vec<Address6, 8>,
    /// Default router, the best of them.
    pub router: Option<Ipv6Addr>,
    /// Bytes that a packet may have.
    pub mtu: u16,
}

/// An address of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address6 {
    /// Address.
    pub addr: Ipv6Addr,
    /// Length of its prefix.
    pub prefix: u8,
    /// How far it is to be used.
    pub state: State6,
    /// Seconds that it is still valid; `None`: for ever.
    pub left_s: Option<u32>,
}

/// How far an address is to be used (RFC 4862 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State6 {
    /// Others are asked whether they have it.
    Tentative,
    /// It is ours.
    Preferred,
    /// It is ours, but nothing begins with it any more.
    Deprecated,
    /// Somebody else has it.
    Duplicate,
}

/// One socket, as `ss` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SockInfo {
    /// Which.
    pub sock: SockId,
    /// Kind.
    pub kind: Kind,
    /// State.
    pub state: State,
    /// Local address.
    pub local: SocketAddr,
    /// Remote address.
    pub remote: Option<SocketAddr>,
    /// Bytes received and not read.
    pub rx_queue: u32,
    /// Bytes written and not acknowledged.
    pub tx_queue: u32,
    /// Datagrams that found no room in the receive ring.
    pub dropped: u32,
}

impl SockInfo {
    /// [`SockInfo::sock`] of a connection that no socket holds: a handshake until its ACK, TIME-WAIT.
    pub const NOBODYS: SockId = SockId { session: u16::MAX, id: u16::MAX };
}

/// Counters of netd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Frames from the driver.
    pub rx_frames: u64,
    /// Frames to the driver.
    pub tx_frames: u64,
    /// Frames dropped on receive, all reasons.
    pub rx_dropped: u64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// Resets sent.
    pub resets_sent: u64,
    /// Sockets in use.
    pub sockets: u32,
    /// Receive buffers with netd.
    pub rx_buffers: u32,
    /// Send descriptors with the driver.
    pub tx_in_flight: u32,
    /// Sessions ended because of nonsense in their memory.
    pub peer_errors: u64,
    /// Connections rebuilt from records at the last start.
    pub recovered: u64,
    /// Calls and datagrams refused for lack of a permission.
    pub not_permitted: u64,
    /// Messages that were no requests.
    pub nonsense: u64,
}

/// Nothing but the error type of the replies.
pub type Result<T> = core::result::Result<T, Error>;
