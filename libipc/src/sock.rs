//! Sockets: the memory that a program shares with netd, and the requests it makes of sockd.
//!
//! A program has one *session*: four regions, bought by its manifest entry and mapped once.
//!
//! | region | program | netd | NIC | content |
//! |---|---|---|---|---|
//! | `app` | RW | R | | submit ring (socket ids with news for netd), [`AppSock`] a socket |
//! | `net` | R | RW | | ready ring (socket ids with news for the program), [`Record`] a socket |
//! | `tx` | RW | R | R | send rings of all sockets |
//! | `rx` | R | RW | | receive rings of all sockets |
//!
//! sockd decides (what may be opened, bound, connected; where a socket's rings lie in `tx` and
//! `rx`), netd moves the data; no payload passes through sockd. Socket ids are small numbers below
//! the session's limit.
//!
//! # Streams
//! Both directions are byte rings addressed by u64 counts since the connection began; ring sizes
//! are powers of two. The program writes at [`AppSock::tx_tail`] and reads at [`AppSock::rx_head`].
//! How far netd got is in the record: `rcv_nxt` says what has arrived, `snd_una` what may be
//! overwritten. These words *are* the TCP state that the peer was promised, so a crash of netd
//! between two stores can neither lose nor repeat a byte.
//!
//! # Datagrams (UDP, ICMP echo)
//! Both directions are byte rings of [`Dgram`] headers, each followed by its payload, padded to
//! [`Dgram::ALIGN`]. Positions are the u64 counts [`AppSock::tx_tail`], [`AppSock::rx_head`],
//! [`Record::dgram_tx_head`] and [`Record::dgram_rx_tail`]. A datagram may wrap around the ring's end.
//!
//! # Readiness
//! After a change netd puts the socket's id into the ready ring, at most once until the program
//! has consumed it, and signals if the program sleeps. The program takes the id, *releases* it
//! (`Consumer::release`, then a sequentially consistent fence) and only then looks at the record:
//! a change after that look finds the id consumed and announces it again. An announcement may come
//! without news. What is announced: data, datagrams or the peer's FIN have arrived; the state or
//! the error has changed; a listener has a new connection; a quarter of a stream's send ring has
//! become free, or all of it; a datagram has left a send ring that had no room for the longest. The submit ring works the same way in the other direction, except that an
//! id may be in it more than once.
//!
//! # The interface
//! The word at [`Layout::LINK`] of `net` says whether the link is up, how fast, and whether there is
//! an address ([`crate::link`]). When it changes netd signals the programs that have set the word
//! at [`Layout::WATCH`] of `app`, without an entry in the ready ring.
//!
//! # Beginning and end of a session
//! A new incarnation of a program zeroes its own side of both id rings (the words up to
//! [`Layout::PRODUCER`] + 64 in `app`: a predecessor may have left anything there), then calls
//! `OpenSession` before it touches anything else. netd then has freed every socket (all records are [`State::Free`]), and both id rings are empty: it has
//! moved its own index of the submit ring to the program's published one, and its own index of the
//! ready ring likewise. So the program attaches both ends at the published indices, as after any
//! restart.
//!
//! The [`AppSock`] words of an id that the program does not hold are 0: it zeroes all of them after
//! `OpenSession`, and those of a socket after `Close` has returned (not before: `Close` still sends
//! what `tx_tail` says). netd reads them when the id is submitted, at `Shutdown` and `Close`, and,
//! for sockets that were opened or accepted, when it is restarted.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::*};
use serde::{Deserialize, Serialize};

use crate::permission::Permission;
use crate::ring::{ConsumerSide, producer_bytes};

/// Most sessions in a system (bits of netd's doorbell).
pub const MAX_SESSIONS: usize = 32;
/// netd's notification bit of session `i` is `DOORBELL_SHIFT + i`.
pub const DOORBELL_SHIFT: u32 = 16;
/// Most sockets in one session.
pub const MAX_SOCKETS: u32 = 4096;

/// What a session may use: from the manifest, for sockd and netd (region `sessions`, a postcard
/// [`SessionTable`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// The program.
    pub program: crate::Name,
    /// Sockets, a power of two.
    pub sockets: u32,
    /// Bytes of `tx`.
    pub tx_len: u32,
    /// Bytes of `rx`.
    pub rx_len: u32,
    /// Ports it may bind or listen on, inclusive ranges; port 0 (any free port) is always allowed.
    pub bind: heapless::Vec<(u16, u16), 8>,
    /// Whether it may connect, and send datagrams from ports that `bind` does not list.
    pub connect: bool,
    /// Whether it may send to broadcast addresses.
    pub broadcast: bool,
    /// Whether it may use [`Kind::Ping`].
    pub ping: bool,
}

/// All sessions; session `i` is number `i`.
pub type SessionTable = heapless::Vec<SessionSpec, MAX_SESSIONS>;

/// An entry of the submit and ready rings: a socket id.
pub type IdEntry = [u64; 1];

/// Where things lie in the `app` and `net` regions of a session of `sockets` sockets (a power of
/// two up to [`MAX_SOCKETS`]). Both id rings have `sockets` entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Sockets in the session.
    pub sockets: u32,
}

impl Layout {
    /// `app`: consumer side of the ready ring.
    pub const READY_CONSUMER: usize = 0;
    /// `app` and `net`: producer side of the submit ring and of the ready ring, respectively.
    pub const PRODUCER: usize = 128;
    /// `net`: consumer side of the submit ring.
    pub const SUBMIT_CONSUMER: usize = 0;
    /// `net`: the state of the interface, a [`crate::link::Link`] word.
    pub const LINK: usize = 64;
    /// `app`: not 0 while the program wants to be signalled when that word changes.
    pub const WATCH: usize = 64;

    const fn table(self) -> usize {
        (Self::PRODUCER + producer_bytes::<IdEntry>(self.sockets)).next_multiple_of(128)
    }
    /// `app`: offset of [`AppSock`] number `id`.
    pub const fn app_sock(self, id: u32) -> usize {
        self.table() + id as usize * size_of::<AppSock>()
    }
    /// `net`: offset of [`Record`] number `id`.
    pub const fn record(self, id: u32) -> usize {
        self.table() + id as usize * size_of::<Record>()
    }
    /// Bytes of the `app` region.
    pub const fn app_bytes(self) -> usize {
        self.app_sock(self.sockets)
    }
    /// Bytes of the `net` region.
    pub const fn net_bytes(self) -> usize {
        self.record(self.sockets)
    }
}

const _: () = assert!(size_of::<ConsumerSide>() <= Layout::LINK && Layout::LINK < Layout::PRODUCER);

/// The program's words of one socket.
#[repr(C, align(32))]
pub struct AppSock {
    /// Bytes ever written into the send ring.
    pub tx_tail: AtomicU64,
    /// Bytes ever taken from the receive ring.
    pub rx_head: AtomicU64,
    /// Streams: for how many milliseconds data may go unacknowledged, or a connect unanswered, before
    /// the connection ends with [`Error::TimedOut`] (RFC 5482, TCP_USER_TIMEOUT); 0: as TCP does,
    /// minutes. netd reads it when a retransmission is due.
    pub user_timeout_ms: AtomicU32,
    /// [`option`] bits. netd looks at them when it looks at the indices.
    pub options: AtomicU32,
    _reserved: [AtomicU32; 2],
}

/// Bits of [`AppSock::options`].
pub mod option {
    /// TCP: a small segment does not wait for an ACK of the one before (TCP_NODELAY; RFC 9293
    /// 3.7.4 asks for the choice).
    pub const NODELAY: u32 = 1;
}

/// What a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// TCP connection (or a socket that may become one).
    Tcp = 1,
    /// TCP listener.
    Listener = 2,
    /// UDP.
    Udp = 3,
    /// ICMP echo: datagrams out are echo requests (payload: u16 id is netd's, u16 sequence number
    /// big-endian, then data), datagrams in are the replies in the same form.
    Ping = 4,
}

impl Kind {
    /// From its number.
    pub const fn from_raw(raw: u16) -> Option<Self> {
        Some(match raw {
            1 => Self::Tcp,
            2 => Self::Listener,
            3 => Self::Udp,
            4 => Self::Ping,
            _ => return None,
        })
    }
}

/// State of a socket as its program sees it; TCP's are RFC 9293's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum State {
    /// No socket here.
    Free = 0,
    /// Open, not connected (TCP), or bound or not (UDP, ping).
    Open = 1,
    Listen = 2,
    SynSent = 3,
    SynReceived = 4,
    Established = 5,
    FinWait1 = 6,
    FinWait2 = 7,
    CloseWait = 8,
    Closing = 9,
    LastAck = 10,
    TimeWait = 11,
    /// Ended; [`Record::error`] says how.
    Closed = 12,
}

impl State {
    /// From its number.
    pub const fn from_raw(raw: u16) -> Option<Self> {
        Some(match raw {
            0 => Self::Free,
            1 => Self::Open,
            2 => Self::Listen,
            3 => Self::SynSent,
            4 => Self::SynReceived,
            5 => Self::Established,
            6 => Self::FinWait1,
            7 => Self::FinWait2,
            8 => Self::CloseWait,
            9 => Self::Closing,
            10 => Self::LastAck,
            11 => Self::TimeWait,
            12 => Self::Closed,
            _ => return None,
        })
    }
}

/// netd's words of one socket: its hard state, 128 bytes. Written by netd only.
///
/// The first part is fixed when the socket is opened or its handshake begins, and sealed by
/// `check`; the second is kept in the order that recovery needs (see ARCHITECTURE.md): `rcv` after
/// the payload is in the ring and before the ACK leaves, `snd_max` before the segment leaves,
/// `snd_una` before space is freed.
#[repr(C, align(128))]
pub struct Record {
    /// Seal over the words up to `rcv` (see [`Record::seal`]).
    pub check: AtomicU32,
    /// Counts uses of this record; changes whenever the id gets a new socket.
    pub generation: AtomicU32,
    /// [`Kind`].
    pub kind: AtomicU16,
    /// Layout version, 1.
    pub version: AtomicU16,
    /// Stack id (several stacks may share a netd), 0 for now.
    pub stack: AtomicU16,
    /// Interface id, 0 for now.
    pub interface: AtomicU16,
    /// Local address; IPv4 in its mapped form (::ffff:a.b.c.d), big-endian halves.
    pub local_ip: [AtomicU64; 2],
    /// Remote address, likewise.
    pub remote_ip: [AtomicU64; 2],
    /// Local port.
    pub local_port: AtomicU16,
    /// Remote port.
    pub remote_port: AtomicU16,
    /// Socket id of the listener until accepted, else `u16::MAX`.
    pub listener: AtomicU16,
    /// [`flags`] bits.
    pub flags: AtomicU16,
    /// Offset of the send ring in `tx`.
    pub tx_off: AtomicU32,
    /// Offset of the receive ring in `rx`.
    pub rx_off: AtomicU32,
    /// log2 of the send ring's size (low byte) and of the receive ring's (high byte).
    pub ring_bits: AtomicU16,
    /// Peer's MSS.
    pub peer_mss: AtomicU16,
    /// Our window scale (low byte) and the peer's (high byte).
    pub window_scale: AtomicU16,
    _reserved: AtomicU16,
    /// Initial send sequence number.
    pub iss: AtomicU32,
    /// Initial receive sequence number.
    pub irs: AtomicU32,
    /// Added to our timestamps.
    pub ts_offset: AtomicU32,
    /// Latest timestamp of the peer (`TS.Recent`). Not sealed.
    pub ts_recent: AtomicU32,
    /// Streams: `rcv_nxt` (low half) and `rcv_adv`, the advertised right edge (high half), stored
    /// together. When the peer's FIN has been taken, `rcv_adv` is `rcv_nxt - 1`, which is
    /// impossible otherwise: one store tells both, so that a crash in between cannot make a byte
    /// of the FIN. Datagrams: bytes ever put into the receive ring.
    pub rcv: AtomicU64,
    /// Streams: `snd_una` (low half) and `snd_max`, the highest sequence number sent plus one
    /// (high half). Datagrams: bytes ever taken from the send ring.
    pub snd: AtomicU64,
    /// Own FIN's sequence number, valid with [`event::FIN_QUEUED`].
    pub fin_seq: AtomicU32,
    /// [`event`] bits.
    pub events: AtomicU32,
    /// [`State`].
    pub state: AtomicU16,
    /// [`Error`] that ended the socket, 0: none.
    pub error: AtomicU16,
    /// Listener: connections that wait to be accepted. Datagrams: datagrams dropped for lack of
    /// room (saturating).
    pub pending: AtomicU32,
}

const _: () = assert!(size_of::<Record>() == 128 && size_of::<AppSock>() == 32);

/// Bits of [`Record::flags`]: fixed at the handshake.
pub mod flags {
    /// The connection was accepted, not opened by us.
    pub const PASSIVE: u16 = 1;
    /// Timestamps are in use (RFC 7323).
    pub const TIMESTAMPS: u16 = 2;
    /// SACK is in use (RFC 2018).
    pub const SACK: u16 = 4;
    /// Both sides scale windows (RFC 7323).
    pub const WINDOW_SCALE: u16 = 8;
    /// ECN is in use (RFC 3168).
    pub const ECN: u16 = 16;
    /// The program closed it; it goes on until its data and FIN are acknowledged.
    pub const ORPHAN: u16 = 32;
}

/// Bits of [`Record::events`].
pub mod event {
    /// The peer's FIN has arrived; it occupies the number before `rcv_nxt`. Set after `rcv` has
    /// passed it.
    pub const PEER_FIN: u32 = 1;
    /// The program shut down its sending half; `fin_seq` is valid.
    pub const FIN_QUEUED: u32 = 2;
    /// The handshake was completed.
    pub const ESTABLISHED: u32 = 4;
}

impl Default for Record {
    fn default() -> Self {
        Self::new()
    }
}

impl Record {
    /// All zero: no socket, not sealed.
    pub const fn new() -> Self {
        Self {
            check: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            kind: AtomicU16::new(0),
            version: AtomicU16::new(0),
            stack: AtomicU16::new(0),
            interface: AtomicU16::new(0),
            local_ip: [const { AtomicU64::new(0) }; 2],
            remote_ip: [const { AtomicU64::new(0) }; 2],
            local_port: AtomicU16::new(0),
            remote_port: AtomicU16::new(0),
            listener: AtomicU16::new(0),
            flags: AtomicU16::new(0),
            tx_off: AtomicU32::new(0),
            rx_off: AtomicU32::new(0),
            ring_bits: AtomicU16::new(0),
            peer_mss: AtomicU16::new(0),
            window_scale: AtomicU16::new(0),
            _reserved: AtomicU16::new(0),
            iss: AtomicU32::new(0),
            irs: AtomicU32::new(0),
            ts_offset: AtomicU32::new(0),
            ts_recent: AtomicU32::new(0),
            rcv: AtomicU64::new(0),
            snd: AtomicU64::new(0),
            fin_seq: AtomicU32::new(0),
            events: AtomicU32::new(0),
            state: AtomicU16::new(0),
            error: AtomicU16::new(0),
            pending: AtomicU32::new(0),
        }
    }
    /// Seal over the fixed part: a 32-bit mix, against torn and stray writes, not against malice.
    pub fn seal(&self) -> u32 {
        let words = [
            self.generation.load(Relaxed) as u64,
            self.kind.load(Relaxed) as u64
                | (self.version.load(Relaxed) as u64) << 16
                | (self.stack.load(Relaxed) as u64) << 32
                | (self.interface.load(Relaxed) as u64) << 48,
            self.local_ip[0].load(Relaxed),
            self.local_ip[1].load(Relaxed),
            self.remote_ip[0].load(Relaxed),
            self.remote_ip[1].load(Relaxed),
            self.local_port.load(Relaxed) as u64
                | (self.remote_port.load(Relaxed) as u64) << 16
                | (self.listener.load(Relaxed) as u64) << 32
                | (self.flags.load(Relaxed) as u64) << 48,
            self.tx_off.load(Relaxed) as u64 | (self.rx_off.load(Relaxed) as u64) << 32,
            self.ring_bits.load(Relaxed) as u64
                | (self.peer_mss.load(Relaxed) as u64) << 16
                | (self.window_scale.load(Relaxed) as u64) << 32,
            self.iss.load(Relaxed) as u64 | (self.irs.load(Relaxed) as u64) << 32,
            self.ts_offset.load(Relaxed) as u64,
        ];
        let mut h: u64 = 0x9e37_79b9_7f4a_7c15;
        for w in words {
            h = (h ^ w).wrapping_mul(0xff51_afd7_ed55_8ccd);
            h ^= h >> 32;
        }
        (h as u32) | 1
    }
    /// Whether the seal holds.
    pub fn is_sealed(&self) -> bool {
        self.check.load(Acquire) == self.seal()
    }
    /// The state, [`State::Closed`] if the word is none.
    pub fn state(&self) -> State {
        State::from_raw(self.state.load(Acquire)).unwrap_or(State::Closed)
    }
    /// The error that ended the socket.
    pub fn error(&self) -> Option<Error> {
        Error::from_raw(self.error.load(Acquire))
    }
    /// Stream bytes that have arrived in all, as a 32-bit count (0 before the handshake): the
    /// program subtracts `rx_head` modulo 2^32.
    pub fn received(&self) -> u32 {
        if self.events.load(Acquire) & event::ESTABLISHED == 0 {
            return 0;
        }
        let rcv = self.rcv.load(Acquire);
        let (nxt, adv) = (rcv as u32, (rcv >> 32) as u32);
        let fin = adv == nxt.wrapping_sub(1);
        nxt.wrapping_sub(self.irs.load(Relaxed)).wrapping_sub(1).wrapping_sub(fin as u32)
    }
    /// Stream bytes acknowledged by the peer in all, as a 32-bit count, not counting SYN and FIN.
    pub fn acknowledged(&self) -> u32 {
        if self.events.load(Acquire) & event::ESTABLISHED == 0 {
            return 0;
        }
        let una = self.snd.load(Acquire) as u32;
        let past_syn = una.wrapping_sub(self.iss.load(Relaxed)).wrapping_sub(1);
        let fin = self.events.load(Acquire) & event::FIN_QUEUED != 0
            && una == self.fin_seq.load(Acquire).wrapping_add(1);
        past_syn.wrapping_sub(fin as u32)
    }
    /// Datagrams: bytes ever put into the receive ring.
    pub fn dgram_rx_tail(&self) -> u64 {
        self.rcv.load(Acquire)
    }
    /// Datagrams: bytes ever taken from the send ring.
    pub fn dgram_tx_head(&self) -> u64 {
        self.snd.load(Acquire)
    }
}

/// Splits an address into the two words of a record.
pub fn ip_words(ip: core::net::IpAddr) -> [u64; 2] {
    let bits = match ip {
        core::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        core::net::IpAddr::V6(v6) => v6.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

/// The address in two words of a record; mapped IPv4 addresses come back as IPv4.
pub fn ip_from_words(words: [u64; 2]) -> core::net::IpAddr {
    core::net::Ipv6Addr::from_bits((words[0] as u128) << 64 | words[1] as u128).to_canonical()
}

/// Header of a datagram in a ring: 32 bytes, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dgram {
    /// Bytes of payload that follow.
    pub len: u16,
    /// Peer's port, 0 on a connected socket's send.
    pub port: u16,
    /// Peer's address as in [`ip_words`]; zero: the connected peer.
    pub ip: [u64; 2],
}

impl Dgram {
    /// Bytes of the header.
    pub const BYTES: usize = 32;
    /// Each datagram begins at a multiple of this.
    pub const ALIGN: u64 = 8;
    /// Longest payload: what fits into an IPv4 packet at an MTU of 1500 without fragmentation.
    pub const MAX: usize = 1500 - 20 - 8;

    /// Bytes of ring that a datagram of `len` bytes takes.
    pub const fn space(len: usize) -> u64 {
        (Self::BYTES as u64 + len as u64).next_multiple_of(Self::ALIGN)
    }
    /// As bytes: len, port, 12 zero bytes, address.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut b = [0; Self::BYTES];
        b[0..2].copy_from_slice(&self.len.to_le_bytes());
        b[2..4].copy_from_slice(&self.port.to_le_bytes());
        b[16..24].copy_from_slice(&self.ip[0].to_le_bytes());
        b[24..32].copy_from_slice(&self.ip[1].to_le_bytes());
        b
    }
    /// From bytes.
    pub fn from_bytes(b: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| b[at + i]));
        Self {
            len: u16::from_le_bytes([b[0], b[1]]),
            port: u16::from_le_bytes([b[2], b[3]]),
            ip: [word(16), word(24)],
        }
    }
}

/// Bit of a call's number (the message's method): the call is made again because sockd died.
pub const REPEATED: u16 = 1 << 15;

/// A request to sockd. The reply is `Result<Reply, Error>`. None of these blocks for the network:
/// `Connect` starts a handshake and the record shows how it goes, `Accept` without a waiting
/// connection is [`Error::WouldBlock`].
///
/// The message's method is the number of the call, below [`REPEATED`], one more with each call. A
/// caller whose call ended with `ServerDied` makes it again under the same number with [`REPEATED`]
/// set: a socket that the first attempt made is handed out then, not a second one.
/// [`Error::WouldBlock`] to `OpenSession`: what the last incarnation left is still in use by netd
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
    /// Connects (TCP), or sets the peer (UDP, ping).
    Connect {
        /// Socket id.
        id: u32,
        /// Peer.
        addr: SocketAddr,
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
    /// Counters of sockd.
    Stats,
}

/// What sockd answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Done,
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
    /// Counters.
    Stats(Stats),
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

/// Why a socket call failed. The meaning is that of the Linux error of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// EAGAIN: nothing now, look again when the socket is ready.
    WouldBlock,
    /// ECONNREFUSED.
    ConnectionRefused,
    /// ECONNRESET.
    ConnectionReset,
    /// ECONNABORTED: ended by this side (netd restarted without its state, session closed).
    ConnectionAborted,
    /// ETIMEDOUT.
    TimedOut,
    /// EHOSTUNREACH.
    HostUnreachable,
    /// ENETUNREACH: no route, or no address yet.
    NetworkUnreachable,
    /// EADDRINUSE.
    AddrInUse,
    /// EADDRNOTAVAIL.
    AddrNotAvailable,
    /// ENOTCONN.
    NotConnected,
    /// EISCONN.
    AlreadyConnected,
    /// EINVAL: the call does not fit the socket's kind or state.
    Invalid,
    /// EBADF: no such socket.
    BadSocket,
    /// EMFILE: the session has no free socket; `sockets.count` in the manifest is the limit.
    TooManySockets,
    /// ENOBUFS: the session's regions have no room for the rings; ask for smaller ones or give the
    /// program more memory in the manifest (`sockets.tx_kib`, `sockets.rx_kib`).
    NoBuffers,
    /// EACCES: the program's manifest entry lacks this permission.
    NotPermitted(Permission),
    /// EPIPE: the sending half is shut down.
    BrokenPipe,
    /// EMSGSIZE.
    MessageTooLong,
    /// No session yet: call `OpenSession`.
    NoSession,
    /// The server could not be reached or answered nonsense; try again.
    Server,
    /// EINPROGRESS: a connect is under way.
    InProgress,
    /// EAFNOSUPPORT.
    Unsupported,
    /// EPROTO: what the program sent is no request. Its session has been ended for that; call
    /// `OpenSession` to begin anew.
    Protocol,
}

impl Error {
    /// By number, from 1.
    const NUMBERED: [Self; 23] = [
        Self::WouldBlock,
        Self::ConnectionRefused,
        Self::ConnectionReset,
        Self::ConnectionAborted,
        Self::TimedOut,
        Self::HostUnreachable,
        Self::NetworkUnreachable,
        Self::AddrInUse,
        Self::AddrNotAvailable,
        Self::NotConnected,
        Self::AlreadyConnected,
        Self::Invalid,
        Self::BadSocket,
        Self::TooManySockets,
        Self::NoBuffers,
        Self::NotPermitted(Permission::Sockets),
        Self::BrokenPipe,
        Self::MessageTooLong,
        Self::NoSession,
        Self::Server,
        Self::InProgress,
        Self::Unsupported,
        Self::Protocol,
    ];

    /// Its number, in the low byte; the permission's above it.
    pub fn to_raw(self) -> u16 {
        let same = |e: &Self| core::mem::discriminant(e) == core::mem::discriminant(&self);
        let number = Self::NUMBERED.iter().position(same).map_or(0, |i| i as u16 + 1);
        match self {
            Self::NotPermitted(p) => number | (p as u16) << 8,
            _ => number,
        }
    }

    /// The number of the Linux error of the same meaning (x86_64).
    pub const fn errno(self) -> i32 {
        match self {
            Self::WouldBlock => 11,
            Self::ConnectionRefused => 111,
            Self::ConnectionReset => 104,
            Self::ConnectionAborted => 103,
            Self::TimedOut => 110,
            Self::HostUnreachable => 113,
            Self::NetworkUnreachable => 101,
            Self::AddrInUse => 98,
            Self::AddrNotAvailable => 99,
            Self::NotConnected => 107,
            Self::AlreadyConnected => 106,
            Self::Invalid => 22,
            Self::BadSocket => 9,
            Self::TooManySockets => 24,
            Self::NoBuffers => 105,
            Self::NotPermitted(_) => 13,
            Self::BrokenPipe => 32,
            Self::MessageTooLong => 90,
            // ENODEV and EREMOTEIO: Linux knows no such thing; its nearest words.
            Self::NoSession => 19,
            Self::Server => 121,
            Self::InProgress => 115,
            Self::Unsupported => 97,
            Self::Protocol => 71,
        }
    }

    /// From its number; 0 is none, unknown ones read as [`Error::Server`].
    pub fn from_raw(raw: u16) -> Option<Self> {
        let [number, permission] = raw.to_le_bytes();
        let index = match raw {
            0 => return None,
            _ => number.wrapping_sub(1) as usize,
        };
        Some(match Self::NUMBERED.get(index) {
            Some(Self::NotPermitted(_)) => {
                Permission::from_raw(permission).map_or(Self::Server, Self::NotPermitted)
            }
            Some(e) if permission == 0 => *e,
            _ => Self::Server,
        })
    }
}

impl SessionSpec {
    /// Whether the manifest lists `port`.
    pub fn lists(&self, port: u16) -> bool {
        self.bind.iter().any(|&(low, high)| (low..=high).contains(&port))
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotPermitted(permission) => return write!(f, "not permitted: {permission}"),
            Self::WouldBlock => "operation would block",
            Self::ConnectionRefused => "connection refused",
            Self::ConnectionReset => "connection reset by peer",
            Self::ConnectionAborted => "connection aborted",
            Self::TimedOut => "timed out",
            Self::HostUnreachable => "no route to host",
            Self::NetworkUnreachable => "network is unreachable",
            Self::AddrInUse => "address in use",
            Self::AddrNotAvailable => "address not available",
            Self::NotConnected => "not connected",
            Self::AlreadyConnected => "already connected",
            Self::Invalid => "invalid argument or state",
            Self::BadSocket => "no such socket",
            Self::TooManySockets => "no socket left: `sockets.count` of this program in the manifest is used up",
            Self::NoBuffers => "no buffer space left: `sockets.tx_kib` or `sockets.rx_kib` of this program in the manifest is \
                 used up",
            Self::BrokenPipe => "broken pipe",
            Self::MessageTooLong => "message too long",
            Self::NoSession => "no session",
            Self::Server => "server did not answer",
            Self::InProgress => "connection in progress",
            Self::Unsupported => "not supported",
            Self::Protocol => "the session was ended: what was sent is no request",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_errors_share_an_errno() {
        for (i, a) in Error::NUMBERED.iter().enumerate() {
            for b in &Error::NUMBERED[..i] {
                assert_ne!(a.errno(), b.errno(), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn datagram_headers_and_addresses_survive_a_round_trip() {
        let ip: core::net::IpAddr = "10.0.2.15".parse().unwrap();
        let d = Dgram { len: 1472, port: 53, ip: ip_words(ip) };
        assert_eq!(Dgram::from_bytes(&d.to_bytes()), d);
        assert_eq!(ip_from_words(d.ip), ip);
        let v6: core::net::IpAddr = "fe80::1".parse().unwrap();
        assert_eq!(ip_from_words(ip_words(v6)), v6);
    }

    #[test]
    fn errors_survive_their_numbers() {
        for raw in 0..=u16::MAX {
            let error = Error::from_raw(raw);
            assert_eq!(error.is_none(), raw == 0);
            if let Some(e) = error.filter(|e| *e != Error::Server) {
                assert_eq!(e.to_raw(), raw);
            }
        }
        for e in Error::NUMBERED {
            assert_eq!(Error::from_raw(e.to_raw()), Some(e));
        }
    }

    #[test]
    fn layout_keeps_tables_apart_and_aligned() {
        for bits in 0..=12 {
            let l = Layout { sockets: 1 << bits };
            assert_eq!(l.record(0) % 128, 0);
            assert!(l.app_sock(0) >= Layout::PRODUCER + producer_bytes::<IdEntry>(l.sockets));
        }
    }
}
