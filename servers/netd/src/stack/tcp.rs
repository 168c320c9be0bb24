//! TCP sockets: segments to connections, listeners and their queues.

use super::request::Arrival;
use super::rx::Packet;
use super::{Body, Place, Stack};
use crate::demux::{ANY, Space, Tuple};
use crate::dev::Dev;
use crate::env::{At, Env};
use crate::list::NONE;
use crate::record::{Fixed, NO_LISTENER};
use crate::tcp::ecn::field;
use crate::tcp::{Config, Home, Opts, Outcome, Plan, Segment};
use crate::wire::Malformed;
use crate::wire::checksum::Sum;
use crate::wire::tcp::{Repr, Seq};
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering::Relaxed;
use libipc::counters::Counters;
use libipc::sock::Kind;

/// Headers of IP and TCP without options.
const HEADERS_V4: u16 = 40;
const HEADERS_V6: u16 = 60;
impl<E: Env> Stack<E> {
    /// What a connection at socket `i` from address `local` begins with.
    pub(super) fn tcp_config(&self, i: u32, local: IpAddr) -> Config {
        let (mss, headers) = match local {
            IpAddr::V4(_) => (self.mtu_of(local) - HEADERS_V4, HEADERS_V4),
            IpAddr::V6(_) => (self.mtu_of(local) - HEADERS_V6, HEADERS_V6),
        };
        let opts = self.wanted(i);
        Config {
            mss: opts.max_seg(mss),
            headers,
            nagle: self.settings.nagle,
            mtu_probing: self.settings.mtu_probing,
            opts,
        }
    }

    /// Where what a connection at socket `i` knows lies.
    pub(super) fn home(&self, i: u32) -> Home {
        let s = &self.socks[i as usize];
        Home { hard: s.hard(), pool: self.pools[s.session as usize].clone() }
    }

    /// Bytes that a packet from `local` may have on the link of the card that has the address.
    pub(super) fn mtu_of(&self, local: IpAddr) -> u16 {
        let dev = self.iface.dev_of(local).unwrap_or_default();
        let nic = &self.nics[dev];
        if local.is_ipv4() { nic.mtu } else { nic.mtu_v6() }
    }

    /// What the program wants of socket `i`: while it is a listener's, what it wants of that one.
    pub(super) fn wanted(&self, i: u32) -> Opts {
        let s = &self.socks[i as usize];
        let id = if s.listener == NONE { s.id } else { self.socks[s.listener as usize].id };
        Opts::read(self.sessions[s.session as usize].app(id))
    }

    /// Has connection `i` look at its options.
    #[cold]
    pub(super) fn take_opts(&mut self, i: u32) {
        let (opts, now) = (self.wanted(i), self.now);
        if let Body::Tcp(conn) = &mut self.socks[i as usize].body
            && !conn.is_orphan()
        {
            conn.set_opts(opts, now);
            // Keep-alive may be due earlier than anything else.
            self.arm(i);
        }
    }

    /// RFC 6528: a 4 µs clock plus a keyed hash of the pair. The clock goes on over restarts, and
    /// the key is hard state.
    pub(super) fn initial_sequence(&self, tuple: &Tuple) -> Seq {
        let clock = (self.now / 4000) as u32;
        Seq(clock.wrapping_add(self.keyed(self.secrets.isn, tuple) as u32))
    }

    /// What is added to our timestamps: by pair of hosts, so that a new connection between the same
    /// ports goes on where the old one was (RFC 6191). Port 0 makes it differ from every ISN's hash.
    pub(super) fn timestamp_offset(&self, tuple: &Tuple) -> u32 {
        let (mut local, mut remote) = (tuple.local, tuple.remote);
        local.set_port(0);
        remote.set_port(0);
        self.keyed(self.secrets.isn, &Tuple { local, remote, ..*tuple }) as u32
    }

    pub(super) fn tcp_in(&mut self, p: &Packet<'_>) -> Result<(), Malformed> {
        let (repr, header_len) = Repr::parse(p.head)?;
        let len = p.len().checked_sub(header_len).ok_or(Malformed::Length)?;
        let (src, dst) = (SocketAddr::new(p.ip.src, repr.src), SocketAddr::new(p.ip.dst, repr.dst));
        let pseudo = p.ip.pseudo();
        let seg = Segment {
            seq: repr.seq,
            ack: repr.ack,
            flags: repr.flags,
            window: repr.window,
            urgent: repr.urgent,
            options: repr.options,
            ecn: p.ip.tos & field::MASK,
            len: len as u32,
        };
        let tuple = Tuple { space: Space::Tcp, local: dst, remote: src };
        let a = Arrival { packet: p, header_len, pseudo, seg, tuple };
        match self.demux.find(&tuple) {
            Some(i) if (i as usize) < self.socks.len() => {
                let s = &self.socks[i as usize];
                if matches!(s.body, Body::Tcp(_)) && !p.is_elsewhere(s.device) {
                    return self.connections_segment(i, &a);
                }
                self.verify(p, pseudo)?;
                self.nobodys_segment(&a, None)
            }
            Some(number) => {
                self.verify(p, pseudo)?;
                if number as usize >= self.socks.len() + self.time_wait.len() {
                    return self.request_in(number, &a);
                }
                match self.time_wait_in(number, &seg, p) {
                    Some(iss) => self.nobodys_segment(&a, Some(iss)),
                    None => Ok(()),
                }
            }
            None => {
                self.verify(p, pseudo)?;
                self.nobodys_segment(&a, None)
            }
        }
    }

    /// An intact segment that belongs to no connection.
    pub(super) fn nobodys_segment(
        &mut self,
        a: &Arrival<'_>,
        iss: Option<Seq>,
    ) -> Result<(), Malformed> {
        // Nobody listens at port 0, whatever is bound to "any".
        let (local, remote) = (a.tuple.local, a.tuple.remote);
        let local = Some(local).filter(|l| l.port() != 0);
        match local
            .and_then(|l| self.demux.lookup_local_on(a.packet.interface(), Space::Tcp, l, remote))
        {
            Some(l) if matches!(self.socks[l as usize].body, Body::Listener(_)) => {
                self.listener_in(l, a, iss)
            }
            _ => {
                self.refuse(a.packet, &a.seg, &a.tuple);
                Ok(())
            }
        }
    }

    /// A segment for connection `i`, its checksum not verified yet.
    pub(super) fn connections_segment(&mut self, i: u32, a: &Arrival<'_>) -> Result<(), Malformed> {
        let s = &mut self.socks[i as usize];
        let Body::Tcp(conn) = &mut s.body else { return Ok(()) };
        if !a.packet.looped && s.device == 0 {
            conn.known.from = self.iface.version();
        }
        let plan = conn.plan(&a.seg);
        if let Err(why) = self.take_payload(i, a.packet, a.header_len, plan, a.pseudo) {
            if let Body::Tcp(conn) = &mut self.sock(i).body {
                conn.damaged(plan);
            }
            return Err(why);
        }
        self.connection_in(i, a.packet, &a.seg, &a.tuple, plan);
        Ok(())
    }

    /// Copies the planned part of the payload where it belongs and verifies the checksum in the
    /// same pass.
    fn take_payload(
        &mut self,
        i: u32,
        p: &Packet<'_>,
        header_len: usize,
        plan: Plan,
        pseudo: Sum,
    ) -> Result<(), Malformed> {
        let (skip, take) = (plan.skip as usize, plan.len as usize);
        let mut stored = Sum::ZERO;
        if take > 0 {
            stored =
                self.store(i, p, header_len + skip, plan.at, take).ok_or(Malformed::Truncated)?;
        }
        if p.checked {
            return Ok(());
        }
        let mut sum = pseudo.bytes(&p.head[..header_len]);
        if skip > 0 {
            let skipped = self.env.sum(At(&p.mem, p.at + header_len), skip);
            sum = sum.and(skipped.ok_or(Malformed::Truncated)?, false);
        }
        sum = sum.and(stored, skip % 2 == 1);
        let done = skip + take;
        let rest = p.len() - header_len - done;
        if rest > 0 {
            let rest = self.env.sum(At(&p.mem, p.at + header_len + done), rest);
            sum = sum.and(rest.ok_or(Malformed::Truncated)?, done % 2 == 1);
        }
        if sum.is_intact() { Ok(()) } else { Err(Malformed::Checksum) }
    }

    /// An intact segment for connection `i`.
    fn connection_in(&mut self, i: u32, p: &Packet<'_>, seg: &Segment, tuple: &Tuple, plan: Plan) {
        let now = self.now;
        let una = self.socks[i as usize].rec.snd.load(Relaxed) as u32;
        let Body::Tcp(conn) = &mut self.socks[i as usize].body else { return };
        let outcome = conn.segment(seg, plan, now);
        if now < self.neighbours.doubted_until || outcome.contains(Outcome::ESTABLISHED) {
            self.path_news(i, una, outcome);
        }
        if outcome.contains(Outcome::ESTABLISHED) {
            self.fast_lesson(i, seg);
        }
        if outcome.intersects(Outcome::DROPPED) {
            segment_dropped(&mut self.counters, outcome);
        }
        if outcome.contains(Outcome::REFUSE) {
            self.refuse(p, seg, tuple);
        }
        self.after_tcp(i, outcome);
        self.go_on(i);
    }

    /// A step of connection `i` has been done, and what follows from it: what it wants to say is queued, or leaves at
    /// once; its timer is set.
    #[inline]
    pub(super) fn go_on(&mut self, i: u32) {
        let Body::Tcp(conn) = &self.socks[i as usize].body else { return };
        if conn.hurries() {
            self.send_at_once(i);
        } else if conn.wants_output() {
            self.want_send(i);
        }
        self.arm(i);
    }

    /// What connection `i` and its path tell one another: an ACK of new data is a sign of life of
    /// the neighbour (RFC 4861 7.3.1), and a new connection begins with the MTU that is known.
    #[cold]
    fn path_news(&mut self, i: u32, una: u32, outcome: Outcome) {
        let s = &mut self.socks[i as usize];
        let dst = s.remote.ip();
        let moved = s.rec.snd.load(Relaxed) as u32 != una;
        if outcome.contains(Outcome::ESTABLISHED)
            && let Some(mtu) = self.paths.mtu(dst, self.now)
            && let Body::Tcp(conn) = &mut s.body
        {
            conn.too_big(mtu);
        }
        let on = Dev::of_number(s.device);
        if moved && let Some(hop) = self.next_hop(dst, on) {
            self.neighbours.confirm(hop, self.now);
        }
    }

    /// What follows from a step of connection `i`.
    pub(super) fn after_tcp(&mut self, i: u32, outcome: Outcome) {
        if outcome.intersects(Outcome::ESTABLISHED | Outcome::ENDED) {
            self.fast_settled(i);
        }
        if outcome.contains(Outcome::ENDED) {
            return self.over(i);
        }
        if outcome.contains(Outcome::TIME_WAIT) {
            return self.retire(i);
        }
        let s = &self.socks[i as usize];
        if s.listener != NONE {
            if outcome.contains(Outcome::ESTABLISHED) && s.place != Place::Waiting {
                let listener = s.listener;
                self.unlist(i);
                self.enlist(i, listener, Place::Waiting);
                self.ready(listener);
            }
        } else if outcome.contains(Outcome::READY)
            && !matches!(&s.body, Body::Tcp(conn) if conn.is_orphan())
        {
            self.ready(i);
        }
    }

    /// Connection `i` is over; its record says how.
    pub(super) fn over(&mut self, i: u32) {
        let s = &self.socks[i as usize];
        let listener = s.listener;
        let orphan = matches!(&s.body, Body::Tcp(conn) if conn.is_orphan());
        let waits = s.place == Place::Waiting;
        if listener != NONE && !waits {
            self.spare(i, listener);
        } else if orphan {
            self.free(i);
        } else {
            self.demux.remove(i);
            self.let_go_of_port(i);
            self.wheel.cancel(i);
            self.unqueue(i);
            self.sock(i).body = Body::Over;
            // Who waits to be accepted still does, as on Linux: it may have brought data.
            if !waits {
                self.ready(i);
            }
        }
    }

    /// Timer of connection `i`.
    pub(super) fn tcp_timer(&mut self, i: u32) {
        let now = self.now;
        let Body::Tcp(conn) = &self.socks[i as usize].body else { return };
        if conn.deadline() > now {
            return self.arm(i);
        }
        self.take_opts(i);
        let Body::Tcp(conn) = &mut self.socks[i as usize].body else { return };
        let outcome = conn.timer(now);
        if outcome.contains(Outcome::SWALLOWED) {
            self.fast_swallowed();
        }
        let Body::Tcp(conn) = &mut self.socks[i as usize].body else { return };
        if outcome.contains(Outcome::RESET) {
            let numbers = conn.reset_numbers();
            self.send_reset(i, numbers);
        }
        self.after_tcp(i, outcome);
        self.go_on(i);
    }
}

impl Fixed {
    /// Of a socket that has nothing but memory.
    pub fn open(kind: Kind, rings: libipc::net::Rings) -> Self {
        Self {
            kind,
            local: ANY,
            remote: ANY,
            listener: NO_LISTENER,
            flags: 0,
            rings,
            peer_mss: 0,
            rcv_shift: 0,
            snd_shift: 0,
            iss: Seq(0),
            irs: Seq(0),
            ts_offset: 0,
            device: 0,
        }
    }
}

#[cold]
fn segment_dropped(c: &mut Counters, outcome: Outcome) {
    *match outcome & Outcome::DROPPED {
        Outcome::NO_ACK => &mut c.tcp_no_ack,
        Outcome::CHALLENGED => &mut c.tcp_challenged,
        Outcome::AFTER_FIN => &mut c.tcp_after_fin,
        _ => &mut c.tcp_unacceptable,
    } += 1;
}
