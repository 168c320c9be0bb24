//! Socket numbers: what each is at present, and how it becomes free.

use super::Stack;
use super::dgram::Dgram;
use crate::addr::Addr;
use crate::demux::ANY;
use crate::dev::Dev;
use crate::env::Env;
use crate::list::Ends;
use crate::record::{self, Hard, Journal};
use crate::tcp::Conn;
use libipc::net::Rings;
use libipc::sock::{Error, Kind, Record};

/// What a socket number is at present.
#[allow(clippy::large_enum_variant)] // Most of them are connections: a box would only add a step.
pub(super) enum Body {
    /// Nothing.
    Free,
    /// A TCP socket that has no connection yet.
    Open,
    /// Waits on a listener for a connection to come.
    Spare,
    /// A connection.
    Tcp(Conn),
    /// A listener.
    Listener(Listener),
    /// UDP or ping.
    Dgram(Dgram),
    /// Over; the program has not closed it yet.
    Over,
}

/// A listener. Lists are over socket numbers.
pub(super) struct Listener {
    pub backlog: u32,
    /// Memory of the socket that was set aside last: all have the same sizes.
    pub rings: Rings,
    /// Unused sockets.
    pub spares: Ends,
    /// Handshakes under way that have no socket (numbers of [`crate::request`]).
    pub requests: Ends,
    /// Handshakes under way that have one.
    pub half: Ends,
    /// Connections that wait to be accepted.
    pub waiting: Ends,
    /// Until when an ACK may be of a cookie.
    pub cookies_until: u64,
    /// Children by Fast Open whose handshakes are under way, or were reset a moment ago.
    pub fast: u32,
    /// Of those the ones that were reset, and when the first of them was.
    pub fast_reset: (u32, u64),
}

/// On which of its listener's lists a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Nowhere,
    Spare,
    Half,
    Waiting,
}

/// Where a socket waits to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queued {
    No,
    /// For its turn, with credit left (`fair`).
    Fresh,
    /// For its turn.
    Rest,
    /// To send to this host.
    Local,
    /// For a neighbour (number of its entry).
    Neighbour(u16),
}

/// A socket number: soft state around its record.
pub(super) struct Sock {
    pub rec: &'static Record,
    pub journal: &'static Journal,
    pub session: u16,
    pub id: u16,
    pub local: Addr,
    pub remote: Addr,
    pub rings: Rings,
    pub body: Body,
    pub queued: Queued,
    /// Bytes that it may send before others have their turn (`fair`).
    pub credit: i32,
    pub listener: u32,
    pub place: Place,
    /// Card that its packets left by when there was no room there: among whose it waits.
    pub out: Dev,
    /// Number of the interface that it is bound to (SO_BINDTODEVICE, or a peer whose address only a link knows); 0:
    /// to none.
    pub device: u8,
}

impl Sock {
    /// The record, for changes of its fixed part.
    pub fn hard(&self) -> Hard {
        Hard::new(self.rec, self.journal, self.session, self.id)
    }
}

/// How far serving a queued socket came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// Nothing more to send now, or it waits elsewhere.
    Done,
    /// Its turn is over.
    More,
    /// No room.
    Blocked,
}

impl<E: Env> Stack<E> {
    /// What kind of socket number `i` is, if it is in use.
    pub(super) fn kind(&self, i: u32) -> Option<Kind> {
        let s = &self.socks[i as usize];
        match &s.body {
            Body::Free => None,
            Body::Listener(_) => Some(Kind::Listener),
            Body::Dgram(d) => Some(d.kind),
            _ => Some(Kind::Tcp),
        }
    }

    /// Announces socket `i` to its program.
    pub(super) fn ready(&mut self, i: u32) {
        let (session, id) = {
            let s = &self.socks[i as usize];
            (s.session, s.id)
        };
        let s = &mut self.sessions[session as usize];
        if s.dead {
            return;
        }
        match s.announce(id) {
            Ok(()) => self.news |= 1 << session,
            Err(e) => self.ring_fault(session, e),
        }
    }

    /// Frees socket `i`: nobody refers to it afterwards.
    pub(super) fn free(&mut self, i: u32) {
        self.detach(i);
        if matches!(&self.socks[i as usize].body, Body::Tcp(conn) if conn.is_orphan()) {
            self.orphans -= 1;
        }
        let s = self.sock(i);
        s.body = Body::Free;
        (s.local, s.remote, s.device) = (ANY.into(), ANY.into(), 0);
        record::free(s.rec);
        let (session, id) = (s.session, s.id);
        self.signal_sockd |= self.sessions[session as usize].note_freed(id);
    }

    /// Takes socket `i` out of every table and queue.
    pub(super) fn detach(&mut self, i: u32) {
        self.demux.remove(i);
        self.demux.set_device(i, 0);
        self.ports.release(i);
        self.wheel.cancel(i);
        self.unqueue(i);
        self.unlist(i);
        self.leave_groups(i);
        self.taps.remove(i);
        self.raws.remove(i);
    }

    pub(super) fn unqueue(&mut self, i: u32) {
        match core::mem::replace(&mut self.sock(i).queued, Queued::No) {
            Queued::No => {}
            Queued::Neighbour(n) => {
                self.send_links.remove(&mut self.neighbours.waiting(n as usize).sockets, i);
            }
            queued => self.dequeue(i, queued),
        }
    }

    /// Ends socket `i` at once, telling the peer; the program sees `error`.
    pub(super) fn abort(&mut self, i: u32, error: Error) {
        match &mut self.socks[i as usize].body {
            Body::Tcp(conn) => {
                let tell = conn.tells_abort();
                let numbers = conn.reset_numbers();
                let outcome = conn.end(Some(error));
                if tell {
                    self.send_reset(i, numbers);
                }
                self.after_tcp(i, outcome);
            }
            Body::Listener(_) => self.close_listener(i, Some(error)),
            Body::Dgram(_) | Body::Open | Body::Spare => {
                self.detach(i);
                let s = self.sock(i);
                s.body = Body::Over;
                record::end(s.rec, Some(error));
                self.ready(i);
            }
            Body::Free | Body::Over => {}
        }
    }
}
