//! Requests ([`libipc::net`]): sockd speaks for programs, others may only look.

use super::dgram::Dgram;
use super::status::peer;
use super::{Body, Listener, Stack};
use crate::demux::ANY;
use crate::env::{Env, Event, SessionFault};
use crate::list::NONE;
use crate::record::{self, Fixed};
use abi::MsgInfo;
use libipc::msg;
use libipc::net::{Reply, Request, Result, Rings, SockId, badge};
use libipc::permission::Permission;
use libipc::sock::{Error, Kind, State};

/// Sizes of rings, as log2: 256 bytes to 256 MiB.
const RING_BITS: core::ops::RangeInclusive<u8> = 8..=28;

impl<E: Env> Stack<E> {
    /// Answers a request that came over an endpoint capability with `badge`.
    ///
    /// # Errors
    /// What the program is to see, or [`Error::NotPermitted`] for a badge that may not ask this.
    pub fn request(&mut self, badge: u64, request: &Request, now: u64) -> Result<Reply> {
        self.now = self.now.max(now);
        if let Err(permission) = may_ask(badge, request) {
            self.counters.not_permitted += 1;
            return Err(Error::NotPermitted(permission));
        }
        // What a request needs may have come back since the last turn; not what these need.
        if !matches!(
            request,
            Request::Accept { .. } | Request::Spares { .. } | Request::TakeFreed { .. }
        ) {
            self.take_all_returns();
        }
        match *request {
            Request::Spares { listener, ref ids } => {
                for &(id, rings) in ids {
                    self.add_spare(listener, SockId { session: listener.session, id }, rings)?;
                }
                Ok(Reply::Done)
            }
            Request::Open { sock, kind, rings } => self.open(sock, kind, rings),
            Request::Bind { sock, addr } => {
                let i = self.existing(sock)?;
                self.bind(i, addr).map(Reply::Address)
            }
            Request::Listen { sock, backlog } => self.listen(sock, backlog),
            Request::Accept { listener } => self.accept(listener),
            Request::Connect { sock, addr } => self.connect(sock, addr, None),
            Request::FastOpen { sock, addr, data, how } => self.fast_open(sock, addr, data, how),
            Request::Shutdown { sock, how } => self.shutdown(sock, how),
            Request::Close { sock, abort } => self.close(sock, abort),
            Request::EndSession { session } => self.end_session(session),
            Request::TakeFreed { session, wait } => {
                let s = self.sessions.get_mut(session as usize).ok_or(Error::NoSession)?;
                Ok(Reply::Freed(s.take_freed(wait)))
            }
            Request::Addresses { sock } => {
                let i = self.existing(sock)?;
                let s = &self.socks[i as usize];
                Ok(Reply::Addresses { local: s.local.get(), remote: peer(s.remote.get()) })
            }
            Request::BindDevice { sock, number } => self.bind_device(sock, number),
            Request::FindDevice { on } => self.find_device(on),
            Request::Membership { sock, group, on, join } => self.membership(sock, group, on, join),
            Request::Source { sock, group, source, on, heard } => {
                self.hear(sock, (group, source), on, heard)
            }
            Request::TcpInfo { sock } => self.tcp_info(sock).map(Reply::TcpInfo),
            Request::Interface { number } => {
                let dev = self.dev_of_number(number).ok_or(Error::NoDevice)?;
                Ok(Reply::Interface(self.interface(dev)))
            }
            Request::Lease { number, keep } => {
                let dev = self.dev_of_number(number).ok_or(Error::NoDevice)?;
                self.lease(dev, keep)
            }
            Request::Interface6 { number } => {
                let dev = self.dev_of_number(number).ok_or(Error::NoDevice)?;
                Ok(Reply::Interface6(self.interface_v6(dev)))
            }
            Request::Sockets { skip } => Ok(Reply::Sockets(self.sockets(skip))),
            Request::Stats => Ok(Reply::Stats(self.stats())),
            Request::NameServers => {
                let mut known = self.iface.dns(None);
                Ok(Reply::NameServers(core::array::from_fn(|_| known.next())))
            }
            Request::Counters { skip } => Ok(Reply::Counters(self.counter_values(skip))),
            Request::Misbehaved { skip } => Ok(Reply::Misbehaved(self.misbehaved(skip))),
        }
    }

    /// Answers a message as it arrived: its badge, its word, its payload.
    ///
    /// # Errors
    /// As [`Self::request`]; [`Error::Protocol`] if it is no request.
    pub fn message(
        &mut self,
        badge: u64,
        info: MsgInfo,
        payload: &[u8],
        now: u64,
    ) -> Result<Reply> {
        match msg::request(msg::interface::NET, info, payload) {
            Ok(request) => self.request(badge, &request, now),
            Err(what) => {
                self.now = self.now.max(now);
                self.counters.nonsense += 1;
                if let Some(held) = self.nonsense_pace.admit(self.now) {
                    self.env.event(Event::Nonsense { badge, what, held });
                }
                Err(Error::Protocol)
            }
        }
    }

    /// The number of a socket in use.
    pub(super) fn existing(&self, sock: SockId) -> Result<u32> {
        let i = self.number(sock.session, sock.id).ok_or(Error::BadSocket)?;
        if self.sessions[sock.session as usize].dead {
            return Err(Error::NoSession);
        }
        if self.kind(i).is_none() { Err(Error::BadSocket) } else { Ok(i) }
    }

    /// The number of an unused socket whose rings lie inside its session's memory.
    fn unused(&self, sock: SockId, rings: Rings) -> Result<u32> {
        let i = self.number(sock.session, sock.id).ok_or(Error::BadSocket)?;
        if self.sessions[sock.session as usize].dead {
            return Err(Error::NoSession);
        }
        if !matches!(self.socks[i as usize].body, Body::Free)
            || !self.rings_fit(sock.session, &rings)
        {
            return Err(Error::Invalid);
        }
        Ok(i)
    }

    /// Whether `rings` lie inside the session's memory.
    pub(super) fn rings_fit(&self, session: u16, rings: &Rings) -> bool {
        let Some(s) = self.sessions.get(session as usize) else { return false };
        let fits = |off: u32, bits: u8, len: usize| {
            RING_BITS.contains(&bits) && off as usize + (1usize << bits) <= len
        };
        fits(rings.tx_off, rings.tx_bits, s.mem.tx.len())
            && fits(rings.rx_off, rings.rx_bits, s.mem.rx.len())
    }

    fn open(&mut self, sock: SockId, kind: Kind, rings: Rings) -> Result<Reply> {
        if kind == Kind::Listener {
            return Err(Error::Invalid);
        }
        let i = self.unused(sock, rings)?;
        if kind == Kind::Capture {
            let spec = &self.sessions[sock.session as usize].spec;
            if !spec.capture {
                return Err(Error::NotPermitted(Permission::Capture));
            }
            if !self.taps.add(i) {
                return Err(Error::NoBuffers);
            }
        }
        if kind == Kind::Raw && !self.sessions[sock.session as usize].spec.raw {
            return Err(Error::NotPermitted(Permission::Raw));
        }
        self.sessions[sock.session as usize].forget_freed(sock.id);
        let s = self.sock(i);
        s.rings = rings;
        (s.local, s.remote, s.device) = (ANY.into(), ANY.into(), 0);
        s.hard().renew(&Fixed::open(kind, rings));
        record::set_state(s.rec, State::Open);
        s.body = match kind {
            Kind::Udp | Kind::Ping | Kind::Raw | Kind::Capture => Body::Dgram(Dgram::new(kind)),
            _ => Body::Open,
        };
        Ok(Reply::Done)
    }

    fn listen(&mut self, sock: SockId, backlog: u16) -> Result<Reply> {
        let i = self.existing(sock)?;
        if let Body::Listener(l) = &mut self.socks[i as usize].body {
            l.backlog = backlog as u32;
        } else if !matches!(self.socks[i as usize].body, Body::Open) {
            return Err(Error::Invalid);
        } else {
            if self.socks[i as usize].local.port() == 0 {
                self.bind(i, ANY)?;
            }
            self.bind_listener(i)?;
            self.sock(i).body = Body::Listener(Listener::new(backlog));
        }
        let s = self.sock(i);
        if let Some(fixed) = Fixed::load(s.rec) {
            // A listener has no peer: that field holds its backlog.
            s.hard().store(&Fixed { kind: Kind::Listener, peer_mss: backlog, ..fixed });
        }
        record::set_state(s.rec, State::Listen);
        Ok(Reply::Done)
    }

    fn add_spare(&mut self, listener: SockId, sock: SockId, rings: Rings) -> Result<()> {
        let l = self.existing(listener)?;
        if !matches!(self.socks[l as usize].body, Body::Listener(_)) {
            return Err(Error::Invalid);
        }
        let i = self.number(sock.session, sock.id).ok_or(Error::BadSocket)?;
        // Given again, by a sockd that does not know what became of it.
        match &self.socks[i as usize] {
            s if s.listener == l => return Ok(()),
            s if matches!(&s.body, Body::Tcp(c) if !c.is_orphan())
                || matches!(s.body, Body::Over) =>
            {
                return Err(Error::AlreadyConnected);
            }
            _ => {}
        }
        let i = self.unused(sock, rings)?;
        self.sessions[sock.session as usize].forget_freed(sock.id);
        self.sock(i).rings = rings;
        self.spare(i, l);
        Ok(())
    }

    fn accept(&mut self, listener: SockId) -> Result<Reply> {
        let l = self.existing(listener)?;
        let Body::Listener(body) = &mut self.socks[l as usize].body else {
            return Err(Error::Invalid);
        };
        let i = body.waiting.first().ok_or(Error::WouldBlock)?;
        self.unlist(i);
        let s = self.sock(i);
        s.hard().accept();
        let (id, peer) = (s.id, s.remote.get());
        // What has arrived meanwhile was announced to nobody.
        self.ready(i);
        Ok(Reply::Accepted { sock: SockId { session: listener.session, id }, peer })
    }

    fn shutdown(&mut self, sock: SockId, how: u8) -> Result<Reply> {
        let i = self.existing(sock)?;
        if how > 2 {
            return Err(Error::Invalid);
        }
        let (tail, _) = self.sessions[sock.session as usize].words(sock.id);
        match &mut self.socks[i as usize].body {
            Body::Tcp(conn) if conn.state() == State::SynSent => {
                // There is no half to end.
                let outcome = conn.end(Some(Error::ConnectionReset));
                self.after_tcp(i, outcome);
                Ok(Reply::Done)
            }
            Body::Tcp(conn) => {
                if how != 1 {
                    conn.stop_receiving();
                }
                if how != 0 {
                    if !conn.wrote(tail as u32) {
                        self.session_fault(sock.session, SessionFault::SendIndex(sock.id));
                        return Err(Error::NoSession);
                    }
                    conn.shutdown();
                    self.want_send(i);
                    self.ready(i);
                }
                Ok(Reply::Done)
            }
            Body::Listener(_) => {
                if how != 1 {
                    self.close_listener(i, None);
                    self.ready(i);
                }
                Ok(Reply::Done)
            }
            Body::Dgram(_) => Ok(Reply::Done),
            _ => Err(Error::NotConnected),
        }
    }

    fn close(&mut self, sock: SockId, abort: bool) -> Result<Reply> {
        let i = self.existing(sock)?;
        let (tail, head) = self.sessions[sock.session as usize].words(sock.id);
        let now = self.now;
        if self.socks[i as usize].listener != NONE {
            // A listener's, taken away from it.
            self.abort(i, Error::ConnectionAborted);
            self.free_quietly(i);
            return Ok(Reply::Closed { free: true });
        }
        match &mut self.socks[i as usize].body {
            // Asked again.
            Body::Tcp(conn) if conn.is_orphan() && !abort => {
                return Ok(Reply::Closed { free: false });
            }
            Body::Tcp(conn) => {
                // An orphan's words are the program's no more, and may be anything.
                let lie = match conn {
                    _ if conn.is_orphan() => None,
                    _ if !conn.wrote(tail as u32) => Some(SessionFault::SendIndex(sock.id)),
                    _ if !conn.took(head as u32, now) => Some(SessionFault::ReceiveIndex(sock.id)),
                    _ => None,
                };
                // RFC 1122 4.2.2.13: what the program has not read is lost; the peer learns that.
                let reset = abort || conn.unread() > 0;
                if let Some(fault) = lie {
                    self.session_fault(sock.session, fault);
                } else if reset || conn.state() == State::SynSent {
                    self.abort(i, Error::ConnectionAborted);
                    if matches!(self.socks[i as usize].body, Body::Free) {
                        // An orphan: freed on the way.
                        self.sessions[sock.session as usize].forget_freed(sock.id);
                        return Ok(Reply::Closed { free: true });
                    }
                } else {
                    conn.shutdown();
                    self.keep_reuse(i);
                    let Body::Tcp(conn) = &mut self.socks[i as usize].body else {
                        return Err(Error::Invalid);
                    };
                    let many =
                        self.orphans >= self.settings.max_orphans || conn.is_short_of_memory();
                    self.counters.orphans_reset += many as u64;
                    self.orphans += 1;
                    if !conn.orphan(now) || many {
                        self.abort(i, Error::ConnectionAborted);
                        self.sessions[sock.session as usize].forget_freed(sock.id);
                        return Ok(Reply::Closed { free: true });
                    }
                    self.want_send(i);
                    self.arm(i);
                    return Ok(Reply::Closed { free: false });
                }
            }
            Body::Listener(_) => self.close_listener(i, None),
            Body::Dgram(_) => self.end_datagrams(i),
            _ => {}
        }
        self.free_quietly(i);
        Ok(Reply::Closed { free: true })
    }

    /// Frees `i` for somebody who is told so by the reply.
    fn free_quietly(&mut self, i: u32) {
        let (session, id) = (self.socks[i as usize].session, self.socks[i as usize].id);
        let signal = self.signal_sockd;
        self.free(i);
        self.sessions[session as usize].forget_freed(id);
        self.signal_sockd = signal;
    }

    /// Frees everything of a session. [`Error::WouldBlock`] until the NIC has let go of its memory:
    /// the caller asks again.
    fn end_session(&mut self, session: u16) -> Result<Reply> {
        let s = self.sessions.get_mut(session as usize).ok_or(Error::NoSession)?;
        let known = s.dead;
        s.dead = true;
        let (base, n) = (s.base, s.sockets());
        for i in base..base + n {
            if !matches!(self.socks[i as usize].body, Body::Free) {
                self.abort(i, Error::ConnectionAborted);
            }
        }
        // Second pass: aborting a listener touches its children.
        for i in base..base + n {
            if !matches!(self.socks[i as usize].body, Body::Free) {
                self.free_quietly(i);
            } else {
                record::free(self.socks[i as usize].rec);
            }
        }
        self.publish();
        let s = &mut self.sessions[session as usize];
        s.ending = s.in_flight > 0;
        self.ending = self.ending & !(1 << session) | (s.ending as u32) << session;
        if s.ending {
            return Err(Error::WouldBlock);
        }
        match s.begin_anew() {
            Ok(()) => Ok(Reply::Done),
            Err(e) => {
                // Once is enough: nonsense stays until the next incarnation zeroes it.
                if !known {
                    self.ring_fault(session, e);
                }
                Err(Error::Invalid)
            }
        }
    }
}

/// Whether who holds `badge` may ask this.
fn may_ask(badge: u64, request: &Request) -> core::result::Result<(), Permission> {
    let reads = matches!(
        request,
        Request::Interface { .. }
            | Request::Interface6 { .. }
            | Request::Sockets { .. }
            | Request::Stats
            | Request::Counters { .. }
            | Request::NameServers
            | Request::Misbehaved { .. }
    );
    match badge {
        badge::SOCKD => Ok(()),
        badge::ADMIN if matches!(request, Request::Lease { .. }) => Ok(()),
        _ if !reads => Err(Permission::Control),
        badge::STATUS | badge::ADMIN => Ok(()),
        _ => Err(Permission::NetStatus),
    }
}
