//! Listeners: sockets set aside for them, handshakes, connections that wait.

use super::rx::Packet;
use super::{Body, Listener, Place, Stack};
use crate::demux::{ANY, Tuple};
use crate::env::{Env, Event};
use crate::list::{Ends, NONE};
use crate::record::{self, Fixed};
use crate::tcp::{Conn, Segment};
use crate::wire::tcp::{Flags, Seq};
use core::sync::atomic::Ordering::Relaxed;
use libipc::sock::{Error, Kind, State, flags};

impl<E: Env> Stack<E> {
    /// Makes `i` an unused socket of `listener`.
    pub(super) fn spare(&mut self, i: u32, listener: u32) {
        self.detach(i);
        let lid = self.socks[listener as usize].id;
        let s = self.sock(i);
        s.body = Body::Spare;
        (s.local, s.remote, s.listener) = (ANY, ANY, listener);
        let fixed = Fixed { listener: lid, ..Fixed::open(Kind::Tcp, s.rings) };
        s.hard.renew(&fixed);
        record::set_state(s.rec, State::Open);
        self.enlist(i, listener, Place::Spare);
    }

    /// Puts `i` on a list of `listener`.
    pub(super) fn enlist(&mut self, i: u32, listener: u32, place: Place) {
        let s = self.sock(i);
        (s.listener, s.place) = (listener, place);
        if let Body::Listener(l) = &mut self.socks[listener as usize].body {
            let list = l.list(place);
            if let Some(list) = list {
                self.listen_links.push(list, i);
            }
            let waiting = l.waiting.len();
            self.socks[listener as usize].rec.pending.store(waiting, Relaxed);
        }
    }

    /// Takes `i` from its listener's list.
    pub(super) fn unlist(&mut self, i: u32) {
        let s = self.sock(i);
        let place = core::mem::replace(&mut s.place, Place::Nowhere);
        let listener = core::mem::replace(&mut s.listener, NONE);
        if listener == NONE {
            return;
        }
        if let Body::Listener(l) = &mut self.socks[listener as usize].body {
            if let Some(list) = l.list(place) {
                self.listen_links.remove(list, i);
            }
            let waiting = l.waiting.len();
            self.socks[listener as usize].rec.pending.store(waiting, Relaxed);
        }
    }

    /// RFC 9293 3.10.7.2.
    pub(super) fn listener_in(
        &mut self,
        l: u32,
        p: &Packet<'_>,
        seg: &Segment,
        tuple: &Tuple,
        iss: Option<Seq>,
    ) {
        if seg.flags.intersects(Flags::ACK | Flags::RST) {
            return self.refuse(p, seg, tuple);
        }
        // Nobody opens and closes in one breath.
        if !seg.flags.contains(Flags::SYN) || seg.flags.contains(Flags::FIN) {
            self.counters.tcp_no_ack += 1;
            return;
        }
        let Body::Listener(listener) = &self.socks[l as usize].body else { return };
        let full = listener.half.len() + listener.waiting.len() >= listener.backlog;
        let Some(i) = listener.spares.first().filter(|_| !full) else {
            self.counters.syns_dropped += 1;
            let session = self.socks[l as usize].session as usize;
            if let Some(held) = self.sessions[session].backlog_pace.admit(self.now) {
                self.env.event(Event::BacklogFull { at: tuple.local, held });
            }
            return;
        };
        self.unlist(i);
        if !self.demux.insert(i, *tuple) {
            // A connection that is over but for its program; the peer will try again.
            self.enlist(i, l, Place::Spare);
            return;
        }
        let iss = iss.unwrap_or_else(|| self.initial_sequence(tuple));
        let (now, config) = (self.now, self.tcp_config(l, tuple.local.ip()));
        let ts_offset = self.timestamp_offset(tuple);
        let lid = self.socks[l as usize].id;
        let s = self.sock(i);
        (s.local, s.remote) = (tuple.local, tuple.remote);
        let fixed = Fixed {
            local: s.local,
            remote: s.remote,
            listener: lid,
            flags: flags::PASSIVE,
            iss,
            ts_offset,
            ..Fixed::open(Kind::Tcp, s.rings)
        };
        let fixed = Conn::agreed(fixed, seg);
        s.hard.renew(&fixed);
        s.body = Body::Tcp(Conn::accept(s.hard, &fixed, config, seg, now));
        self.enlist(i, l, Place::Half);
        self.want_send(i);
        self.arm(i);
    }

    /// Closes a listener: unused sockets become free, connections nobody has accepted are reset.
    pub(super) fn close_listener(&mut self, l: u32, error: Option<Error>) {
        loop {
            let Body::Listener(listener) = &self.socks[l as usize].body else { return };
            let child =
                listener.spares.first().or(listener.half.first()).or(listener.waiting.first());
            let Some(i) = child else { break };
            if let Body::Tcp(conn) = &mut self.socks[i as usize].body {
                let numbers = conn.reset_numbers();
                conn.end(Some(Error::ConnectionAborted));
                self.send_reset(i, numbers);
            }
            self.free(i);
        }
        self.detach(l);
        let s = self.sock(l);
        s.body = Body::Over;
        record::end(s.rec, error);
        if error.is_some() {
            self.ready(l);
        }
    }
}

impl Listener {
    pub(super) fn list(&mut self, place: Place) -> Option<&mut crate::list::Ends> {
        match place {
            Place::Nowhere => None,
            Place::Spare => Some(&mut self.spares),
            Place::Half => Some(&mut self.half),
            Place::Waiting => Some(&mut self.waiting),
        }
    }
}

impl Listener {
    pub(super) fn new(backlog: u16) -> Self {
        Self {
            backlog: backlog as u32,
            spares: Ends::EMPTY,
            half: Ends::EMPTY,
            waiting: Ends::EMPTY,
        }
    }
}

impl Place {
    /// The list of a connection by its state.
    pub(super) fn of(state: State) -> Self {
        if state == State::SynReceived { Self::Half } else { Self::Waiting }
    }
}
