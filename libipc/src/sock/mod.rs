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
//! With [`option::RECVERR`] a receive ring holds a [`Notice`] of each error that is reported, too. An error
//! itself is in [`Record::error`]; how many there were is in [`Record::events`], stored after it.
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
//! what `tx_tail` says), and of an accepted one takes over the listener's options. netd reads them when the id is submitted, at `Shutdown` and `Close`, and,
//! for sockets that were opened or accepted, when it is restarted.

mod app;
mod calls;
mod dgram;
mod error;
pub mod filter;
mod info;
mod kind;
mod record;

pub use app::{AppSock, Number, congestion, defer_retries, option};
pub use calls::{FastOpen, Heard, NAME_SERVERS, On, REPEATED, Reply, Request, Stats};
pub use dgram::{Dgram, Notice, ip_from_words, ip_words, needs_scope, scope_of, scoped};
pub use error::Error;
pub use info::{TcpInfo, tcp_info};
pub use kind::{Kind, State};
pub use record::{Record, event, flags};

use serde::{Deserialize, Serialize};

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
    /// Whether it may use [`Kind::Raw`].
    pub raw: bool,
    /// Whether it may use [`Kind::Capture`].
    pub capture: bool,
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

impl SessionSpec {
    /// Whether the manifest lists `port`.
    pub fn lists(&self, port: u16) -> bool {
        self.bind.iter().any(|&(low, high)| (low..=high).contains(&port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_keeps_tables_apart_and_aligned() {
        for bits in 0..=12 {
            let l = Layout { sockets: 1 << bits };
            assert_eq!(l.record(0) % 128, 0);
            assert!(l.app_sock(0) >= Layout::PRODUCER + producer_bytes::<IdEntry>(l.sockets));
        }
    }
}
