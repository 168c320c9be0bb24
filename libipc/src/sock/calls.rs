//! Requests to sockd, and its replies.

use core::net::{IpAddr, SocketAddr};
use serde::{Deserialize, Serialize};

use super::{Kind, TcpInfo};

/// Bit of a call's number (the message's method): the call is made again because sockd died.
pub const REPEATED: u16 = 1 << 15;

/// Name servers that the stack remembers.
pub const NAME_SERVERS: usize = 3;

/// A request to sockd. The reply is `Result<Reply, Error>`. None of these blocks for the network:
/// `Connect` starts a handshake and the record shows how it goes, `Accept` without a waiting
/// connection is [`Error::WouldBlock`](super::Error::WouldBlock).
///
/// The message's method is the number of the call, below [`REPEATED`], one more with each call. A
/// caller whose call ended with `ServerDied` makes it again under the same number with [`REPEATED`]
/// set: a socket that the first attempt made is handed out then, not a second one.
/// [`Error::WouldBlock`](super::Error::WouldBlock) to `OpenSession`: what the last incarnation left is still in use by netd
/// or the NIC; ask again soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Opens the caller's session; ends a session that an earlier incarnation left behind.
    OpenSession,
    /// A new socket with rings of at least these sizes in bytes (rounded up to powers of two;
    /// 0: default).
    Socket {
        /// What kind ([`Kind::Listener`] is made by `Listen`).
        kind: Kind,
        /// Send ring.
        tx: u32,
        /// Receive ring.
        rx: u32,
    },
    /// Binds a local address; port 0: any free one. Replies with the address.
    Bind {
        /// Socket id.
        id: u32,
        /// Local address.
        addr: SocketAddr,
    },
    /// Makes a bound TCP socket a listener and sets aside `backlog` sockets for connections.
    Listen {
        /// Socket id.
        id: u32,
        /// Connections that may wait.
        backlog: u16,
        /// Send ring of accepted sockets.
        tx: u32,
        /// Receive ring of accepted sockets.
        rx: u32,
    },
    /// Takes a waiting connection.
    Accept {
        /// Listener's id.
        id: u32,
    },
    /// Connects (TCP), or sets the peer (UDP, ping); `0.0.0.0:0`: there is none any more. Any other
    /// unspecified address is this host's.
    Connect {
        /// Socket id.
        id: u32,
        /// Peer.
        addr: SocketAddr,
    },
    /// Connects a stream with Fast Open (RFC 7413, MSG_FASTOPEN): the SYN takes along as much of the first
    /// `data` bytes of the send ring as it may: so many have been written then as
    /// [`Record::sent`](super::Record::sent) says, and the caller stores that in `tx_tail`.
    /// [`Error::NotSupported`](super::Error::NotSupported): it is turned off.
    FastOpen {
        /// Socket id.
        id: u32,
        /// Peer.
        addr: SocketAddr,
        /// Bytes that lie in the send ring from its beginning on, `tx_tail` being 0 yet.
        data: u16,
        /// How.
        how: FastOpen,
    },
    /// Ends one or both directions. Sending ends after what is in the ring now.
    Shutdown {
        /// Socket id.
        id: u32,
        /// 0: receiving, 1: sending, 2: both.
        how: u8,
    },
    /// Gives the socket back. A connection with data to send goes on without us; the id and the
    /// rings are used again when it has ended.
    Close {
        /// Socket id.
        id: u32,
        /// Reset the connection instead (SO_LINGER 0).
        abort: bool,
    },
    /// Local and remote address.
    Addresses {
        /// Socket id.
        id: u32,
    },
    /// A connection's state and figures (TCP_INFO); of a datagram socket the path's MTU alone (IP_MTU).
    TcpInfo {
        /// Socket id.
        id: u32,
    },
    /// Counters of sockd.
    Stats,
    /// The name servers that the stack knows: [`Reply::NameServers`].
    NameServers,
    /// Binds a socket to an interface (SO_BINDTODEVICE): it gets what comes by that alone, and sends by it. The
    /// record says so ([`Record::interface`](super::Record::interface)). [`Error::NoDevice`](super::Error::NoDevice):
    /// there is none of this number.
    BindDevice {
        /// Socket id.
        id: u32,
        /// Number of the interface, as in [`Dgram::interface`](super::Dgram::interface); 0: to none any more.
        number: u8,
    },
    /// The number of an interface, if it is there: [`Reply::Device`] or
    /// [`Error::NoDevice`](super::Error::NoDevice).
    FindDevice {
        /// Which.
        on: On,
    },
    /// A datagram socket joins a multicast group, or leaves it (IP_ADD_MEMBERSHIP and its like).
    /// [`Error::AddrInUse`](super::Error::AddrInUse): it is in it already;
    /// [`Error::AddrNotAvailable`](super::Error::AddrNotAvailable): it is not.
    Membership {
        /// Socket id.
        id: u32,
        /// Group.
        group: IpAddr,
        /// On which link.
        on: On,
        /// Join, not leave.
        join: bool,
    },
    /// Changes which sources of a group a datagram socket hears, at most ten. [`Error::Invalid`](super::Error::Invalid): it
    /// is not in the group, or hears others by name and this one by its absence, or the other way round;
    /// [`Error::AddrNotAvailable`](super::Error::AddrNotAvailable): it is so already;
    /// [`Error::NoBuffers`](super::Error::NoBuffers): they are too many.
    Source {
        /// Socket id.
        id: u32,
        /// Group.
        group: IpAddr,
        /// Who sends to it.
        source: IpAddr,
        /// On which link.
        on: On,
        /// What.
        heard: Heard,
    },
}

/// What changes of the sources that a socket hears in a group (RFC 3376 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Heard {
    /// This one from now on, beside others that were named so; the socket joins the group for that
    /// (IP_ADD_SOURCE_MEMBERSHIP).
    Join,
    /// This one no more; with the last the socket leaves the group (IP_DROP_SOURCE_MEMBERSHIP).
    Leave,
    /// All but this one and others that were named so (IP_BLOCK_SOURCE).
    Block,
    /// This one again (IP_UNBLOCK_SOURCE).
    Unblock,
}

/// On which link a group is joined or left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum On {
    /// That by which packets for the group leave.
    #[default]
    Any,
    /// That of this interface.
    Number(u8),
    /// That of the interface with this address.
    Address(IpAddr),
}

/// How a stream connects with [`Request::FastOpen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FastOpen {
    /// Not yet, if a SYN could take data along ([`Reply::Deferred`]): that may come later
    /// (TCP_FASTOPEN_CONNECT).
    Defer,
    /// Now.
    Now,
    /// Now, and what the SYN does not take is written as soon as the connection stands: its ACK goes with
    /// that.
    Waits,
}

/// What sockd answers.
#[allow(clippy::large_enum_variant, reason = "made once, encoded and dropped; there is no heap")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Done,
    /// Nothing is done yet: data can go with the SYN.
    Deferred,
    /// The session: its number and how many sockets it may have.
    Session {
        /// Number.
        session: u32,
        /// Limit.
        sockets: u32,
    },
    /// A socket and where its rings lie.
    Socket {
        /// Id.
        id: u32,
        /// Offset in `tx`.
        tx_off: u32,
        /// Size of the send ring.
        tx_size: u32,
        /// Offset in `rx`.
        rx_off: u32,
        /// Size of the receive ring.
        rx_size: u32,
        /// Peer, of an accepted connection.
        peer: Option<SocketAddr>,
    },
    /// Local and remote address.
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
    /// Counters.
    Stats(Stats),
    /// Addresses of name servers, the best first.
    NameServers([Option<IpAddr>; NAME_SERVERS]),
}

/// Counters of sockd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Sessions open.
    pub sessions: u32,
    /// Sockets open in all sessions, including those that end by themselves.
    pub sockets: u32,
    /// Bytes of `tx` and `rx` handed out.
    pub bytes: u64,
    /// Calls refused for lack of a permission, since sockd started.
    pub refused: u64,
    /// Messages that were no requests, and cost their senders their sessions, likewise.
    pub nonsense: u64,
}
