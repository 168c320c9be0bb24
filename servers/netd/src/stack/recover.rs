//! Everything from records: what an earlier incarnation had promised goes on.

use super::dgram::Dgram;
use super::{Body, Listener, Place, Stack};
use crate::demux::{ANY, Space, Tuple};
use crate::env::{Env, Event};
use crate::ports::held;
use crate::record::{self, Fixed, NO_LISTENER};
use crate::tcp::cookie::COOKIE_NS;
use crate::tcp::{AppWords, Conn, Opts, Outcome};
use core::sync::atomic::Ordering::*;
use libipc::sock::{Error, Kind, State, event, flags};

#[derive(Default)]
struct Found {
    connections: u32,
    listeners: u32,
    datagrams: u32,
    dropped: u32,
}

impl<E: Env> Stack<E> {
    /// Rebuilds all sockets. Listeners and what programs hold come first, then what belongs to
    /// listeners.
    pub(super) fn recover(&mut self) {
        let mut found = Found::default();
        let all = self.socks.len() as u32;
        self.hard.journal.replay(|session, id| {
            let i = self.number(session, id)?;
            Some(self.socks[i as usize].rec)
        });
        for i in 0..all {
            let rec = self.socks[i as usize].rec;
            if rec.state.load(Acquire) == State::Free as u16 {
                record::free(rec);
                // Whether sockd was told is not known: it passes over what it knows to be free.
                let (session, id) = (self.socks[i as usize].session, self.socks[i as usize].id);
                self.sessions[session as usize].note_freed(id);
                self.signal_sockd = true;
                continue;
            }
            let holds = record::holds(rec);
            let own = rec.listener.load(Relaxed) == NO_LISTENER;
            if !holds || (own && self.recover_own(i, &mut found).is_none()) {
                self.drop_record(i, &mut found);
            }
        }
        for i in 0..all {
            let s = &self.socks[i as usize];
            let unowned =
                matches!(s.body, Body::Free) && s.rec.state.load(Acquire) != State::Free as u16;
            if unowned && self.recover_child(i, &mut found).is_none() {
                found.dropped += 1;
                self.free(i);
            }
        }
        self.recover_time_wait();
        self.recover_groups();
        self.recover_requests();
        let Found { connections, listeners, datagrams, dropped } = found;
        self.counters.recovered = connections as u64;
        if connections + listeners + datagrams + dropped > 0 {
            self.env.event(Event::Recovered { connections, listeners, datagrams, dropped });
        }
    }

    /// A record that does not hold. If it seems to be a listener's, nobody knows of it and it is
    /// free; else its program learns that it is over.
    fn drop_record(&mut self, i: u32, found: &mut Found) {
        found.dropped += 1;
        let rec = self.socks[i as usize].rec;
        let ownerless = rec.listener.load(Relaxed) != NO_LISTENER
            || rec.flags.load(Relaxed) & flags::ORPHAN != 0;
        if ownerless {
            self.free(i);
        } else {
            self.socks[i as usize].body = Body::Over;
            record::end(rec, Some(Error::ConnectionAborted));
            self.ready(i);
        }
    }

    /// Loads and checks the fixed part.
    fn fixed(&mut self, i: u32) -> Option<Fixed> {
        let session = self.socks[i as usize].session;
        let fixed = Fixed::load(self.socks[i as usize].rec)?;
        if !self.rings_fit(session, &fixed.rings) {
            return None;
        }
        if !self.is_device(fixed.device) {
            return None;
        }
        let s = self.sock(i);
        (s.rings, s.local, s.remote) = (fixed.rings, fixed.local.into(), fixed.remote.into());
        s.device = fixed.device;
        // As `connect_tcp` has it: not of connections.
        let connected = fixed.kind == Kind::Tcp && fixed.remote != ANY;
        self.demux.set_device(i, if connected { 0 } else { fixed.device });
        Some(fixed)
    }

    fn recover_own(&mut self, i: u32, found: &mut Found) -> Option<()> {
        let fixed = self.fixed(i)?;
        let rec = self.socks[i as usize].rec;
        let state = rec.state();
        if state == State::Closed {
            if fixed.flags & flags::ORPHAN != 0 {
                self.free(i);
            } else {
                self.socks[i as usize].body = Body::Over;
                self.ready(i);
            }
            return Some(());
        }
        match fixed.kind {
            Kind::Listener => {
                self.claim(i, Tuple::local(Space::Tcp, fixed.local), held::NAMED)?;
                let mut listener = Listener::new(fixed.peer_mss);
                // What cookies it has out is not known.
                listener.cookies_until = self.now + COOKIE_NS;
                self.socks[i as usize].body = Body::Listener(listener);
                rec.pending.store(0, Relaxed);
                record::set_state(rec, State::Listen);
                found.listeners += 1;
            }
            Kind::Tcp if state == State::Open => {
                // A connect that was cut short will be asked for again.
                self.sock(i).remote = ANY.into();
                if fixed.local.port() != 0 {
                    self.hold_port(i, Space::Tcp, held::NAMED);
                }
                self.socks[i as usize].body = Body::Open;
            }
            Kind::Tcp if state == State::Listen => {
                // Cut between the kind and the state: it is not a listener yet.
                return None;
            }
            Kind::Tcp => self.recover_connection(i, &fixed, found)?,
            Kind::Capture => {
                self.taps.add(i).then_some(())?;
                self.recover_dgram(i, &fixed, found)?;
                self.take_filters(i);
            }
            Kind::Udp | Kind::Ping => self.recover_dgram(i, &fixed, found)?,
            Kind::Raw => {
                let mut portless = fixed;
                portless.local.set_port(0);
                self.recover_dgram(i, &portless, found)?;
                self.recover_raw(i, &fixed)?;
            }
        }
        self.ready(i);
        Some(())
    }

    /// Enters socket `i` where it was, and has it hold its port.
    fn claim(&mut self, i: u32, tuple: Tuple, how: u8) -> Option<()> {
        let flags = self.socks[i as usize].rec.flags.load(Relaxed);
        self.demux.set_only_v6(i, flags & flags::V6ONLY != 0);
        let spread = self.reuse(i) & held::SPREAD != 0;
        let connection = tuple.space == Space::Tcp && tuple.remote != ANY;
        let entered = match connection {
            true => self.demux.insert(i, tuple),
            false => self.demux.share(i, tuple, spread),
        };
        self.hold_port(i, tuple.space, how);
        entered.then_some(())
    }

    fn recover_connection(&mut self, i: u32, fixed: &Fixed, found: &mut Found) -> Option<()> {
        let s = &self.socks[i as usize];
        let held = fixed.listener == NO_LISTENER && fixed.flags & flags::ORPHAN == 0;
        let session = &self.sessions[s.session as usize];
        let (tail, head) = session.words(s.id);
        let orphan = fixed.flags & flags::ORPHAN != 0;
        let owner = self.number(s.session, fixed.listener).unwrap_or(i);
        let mut config = self.tcp_config(owner, fixed.local.ip());
        if orphan {
            // Its words are the program's no more.
            config.opts = Opts::default();
        }
        let app = held.then_some(AppWords { tx_tail: tail as u32, rx_head: head as u32 });
        let (conn, outcome) = Conn::recover(self.home(i), fixed, config, app, self.now)?;
        let tuple = Tuple { space: Space::Tcp, local: fixed.local, remote: fixed.remote };
        // Whether its program has named the port is not known: as long as it lasts is long enough. An
        // orphan's program may have wanted it shared.
        let passive = fixed.flags & flags::PASSIVE != 0;
        let how = if passive { 0 } else { held::DIALLED };
        let shared = if orphan { held::REUSE | held::SPREAD } else { self.reuse(owner) };
        self.claim(i, tuple, how | shared)?;
        self.socks[i as usize].body = Body::Tcp(conn);
        found.connections += 1;
        self.orphans += orphan as u32;
        self.after_tcp(i, outcome - Outcome::READY);
        if matches!(self.socks[i as usize].body, Body::Tcp(_)) {
            self.want_send(i);
            self.arm(i);
        }
        Some(())
    }

    fn recover_dgram(&mut self, i: u32, fixed: &Fixed, found: &mut Found) -> Option<()> {
        let s = &self.socks[i as usize];
        let (tail, head) = self.sessions[s.session as usize].words(s.id);
        let mut d = Dgram::new(fixed.kind);
        (d.tx_head, d.rx_tail) = (s.rec.dgram_tx_head(), s.rec.dgram_rx_tail());
        (d.tx_tail, d.rx_head) = (d.tx_head, d.rx_tail.saturating_sub(1 << fixed.rings.rx_bits));
        self.socks[i as usize].body = Body::Dgram(d);
        if self.dgram_indices(i, tail, head).is_err() {
            self.socks[i as usize].body = Body::Free;
            return None;
        }
        if fixed.local.port() != 0 {
            let space = d.space();
            self.claim(i, Tuple { space, local: fixed.local, remote: fixed.remote }, held::NAMED)?;
        }
        found.datagrams += 1;
        self.want_send(i);
        Some(())
    }

    /// A socket that belongs to a listener: a spare, a handshake, or a connection that waits.
    fn recover_child(&mut self, i: u32, found: &mut Found) -> Option<()> {
        let fixed = self.fixed(i)?;
        let session = self.socks[i as usize].session;
        let listener = self.number(session, fixed.listener)?;
        if !matches!(self.socks[listener as usize].body, Body::Listener(_))
            || fixed.kind != Kind::Tcp
        {
            return None;
        }
        let rec = self.socks[i as usize].rec;
        let flowed = rec.events.load(Relaxed) & event::FLOWS != 0;
        if rec.state() == State::Closed && flowed {
            // It ended while it waited to be accepted.
            self.sock(i).body = Body::Over;
            self.enlist(i, listener, Place::Waiting);
            self.ready(listener);
            return Some(());
        }
        if matches!(rec.state(), State::Open | State::Closed) || fixed.remote == ANY {
            self.spare(i, listener);
            return Some(());
        }
        self.recover_connection(i, &fixed, found)?;
        let place = match &self.socks[i as usize].body {
            Body::Tcp(conn) if conn.is_fast_child() => Place::Waiting,
            Body::Tcp(conn) => Place::of(conn.state()),
            // It ended meanwhile: `after_tcp` did not know its listener.
            _ => {
                self.spare(i, listener);
                return Some(());
            }
        };
        if matches!(&self.socks[i as usize].body, Body::Tcp(conn) if conn.is_fast_child())
            && let Body::Listener(l) = &mut self.socks[listener as usize].body
        {
            l.fast += 1;
        }
        self.enlist(i, listener, place);
        if place == Place::Waiting {
            self.ready(listener);
        }
        Some(())
    }
}
