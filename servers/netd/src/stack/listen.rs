//! Listeners: sockets set aside for them, handshakes, connections that wait.

use super::fastopen::FastSyn;
use super::request::Arrival;
use super::rx::Packet;
use super::{Body, Listener, Place, Stack};
use crate::demux::{ANY, Tuple};
use crate::env::{Env, Event};
use crate::list::{Ends, NONE};
use crate::record::{self, Fixed};
use crate::request::Request;
use crate::tcp::cookie::{self, COOKIE_NS};
use crate::tcp::{Conn, Segment, ticks};
use crate::wire::Malformed;
use crate::wire::tcp::{Flags, MAX_SHIFT, Options, Seq, Timestamps};
use core::net::SocketAddr;
use core::sync::atomic::Ordering::Relaxed;
use libipc::net::Rings;
use libipc::sock::{Error, Kind, State, flags};

/// What an ACK that nobody expects says.
enum Cookie {
    /// It completes this handshake.
    Good(Request),
    /// None. But it has text, and the ACK and the text before it may have been lost: both will come
    /// again, unless an RST tells the peer that there is no hope.
    Early,
    /// None.
    None,
}

impl<E: Env> Stack<E> {
    /// Makes `i` an unused socket of `listener`.
    pub(super) fn spare(&mut self, i: u32, listener: u32) {
        self.detach(i);
        let lid = self.socks[listener as usize].id;
        let s = self.sock(i);
        s.body = Body::Spare;
        (s.local, s.remote, s.listener, s.device) = (ANY.into(), ANY.into(), listener, 0);
        let fixed = Fixed { listener: lid, ..Fixed::open(Kind::Tcp, s.rings) };
        s.hard().renew(&fixed);
        record::set_state(s.rec, State::Open);
        let rings = s.rings;
        if let Body::Listener(l) = &mut self.socks[listener as usize].body {
            l.rings = rings;
        }
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

    /// RFC 9293 3.10.7.2. `iss`: of a connection that takes the place of one in TIME-WAIT.
    pub(super) fn listener_in(
        &mut self,
        l: u32,
        a: &Arrival<'_>,
        iss: Option<Seq>,
    ) -> Result<(), Malformed> {
        let Arrival { packet, seg, tuple, .. } = a;
        if seg.flags.intersects(Flags::ACK | Flags::RST) {
            match self.cookie_in(l, a) {
                Cookie::Good(request) => return self.completed(&request, None, a),
                Cookie::Early => {}
                Cookie::None => self.refuse(packet, seg, tuple),
            }
            return Ok(());
        }
        // Nobody opens and closes in one breath.
        if !seg.flags.contains(Flags::SYN) || seg.flags.contains(Flags::FIN) {
            self.counters.tcp_no_ack += 1;
            return Ok(());
        }
        if self.free_place(l).is_none() {
            self.backlog_full(l, tuple.local);
            return Ok(());
        }
        let Body::Listener(listener) = &self.socks[l as usize].body else { return Ok(()) };
        let flood = listener.requests.len() > listener.backlog || self.requests.is_full();
        let rings = listener.rings;
        if flood && iss.is_none() {
            self.answer_with_cookie(l, a, rings);
            return Ok(());
        }
        let iss = iss.unwrap_or_else(|| self.initial_sequence(tuple));
        let request = self.request_for((l, packet), seg, tuple, rings, iss);
        let asks = seg.options.fast_open.is_some() || seg.len > 0;
        let cookie = match asks.then(|| self.fast_syn(l, a, &request)) {
            Some(FastSyn::Child) => return Ok(()),
            Some(FastSyn::Cookie(cookie)) => cookie,
            None => None,
        };
        self.begin_request(l, &request, packet, cookie);
        Ok(())
    }

    /// What a SYN asks for and gets.
    fn request_for(
        &self,
        (l, packet): (u32, &Packet<'_>),
        syn: &Segment,
        tuple: &Tuple,
        rings: Rings,
        iss: Seq,
    ) -> Request {
        let config = self.tcp_config(l, tuple.local.ip());
        let base = Fixed {
            rcv_shift: config.shift(rings.rx_bits),
            local: tuple.local,
            remote: tuple.remote,
            flags: flags::PASSIVE,
            iss,
            device: self.child_device(l, packet),
            ..Fixed::open(Kind::Tcp, rings)
        };
        let fixed = Conn::agreed(base, syn);
        let ts_recent = syn.options.timestamps.map_or(0, |t| t.value);
        let window = config.first_window(rings.rx_bits, fixed.flags & flags::TIMESTAMPS != 0);
        Request::new(*tuple, &fixed, window, ts_recent)
    }

    /// The socket for the next connection of listener `l`, if it may take one: as on Linux one more
    /// may wait than the backlog says.
    pub(super) fn free_place(&self, l: u32) -> Option<u32> {
        let Body::Listener(listener) = &self.socks[l as usize].body else { return None };
        listener.spares.first().filter(|_| listener.waiting.len() <= listener.backlog)
    }

    #[cold]
    pub(super) fn backlog_full(&mut self, l: u32, at: SocketAddr) {
        self.counters.syns_dropped += 1;
        let session = self.socks[l as usize].session as usize;
        if let Some(held) = self.sessions[session].backlog_pace.admit(self.now) {
            self.env.event(Event::BacklogFull { at, held });
        }
    }

    /// Too many handshakes are under way: this one has to live without a record.
    #[cold]
    fn answer_with_cookie(&mut self, l: u32, a: &Arrival<'_>, rings: Rings) {
        let Arrival { packet, seg, tuple, .. } = a;
        let now = self.now;
        if let Body::Listener(listener) = &mut self.socks[l as usize].body {
            listener.cookies_until = now + COOKIE_NS;
        }
        self.counters.cookies_sent += 1;
        let mut syn = *seg;
        if syn.options.timestamps.is_none() {
            // There is no place to remember them.
            syn.options = Options { mss: syn.options.mss, ..Options::NONE };
            syn.flags = Flags::SYN;
        }
        let mut request = self.request_for((l, packet), &syn, tuple, rings, Seq(0));
        let mss = request.peer_mss.min(self.tcp_config(l, tuple.local.ip()).mss);
        request.iss = cookie::make(self.secrets.isn, tuple, seg.seq, mss, now);
        let timestamps = syn.options.timestamps.map(|t| Timestamps {
            value: cookie::stamp(ticks(now), syn.options.scale, request.flags)
                .wrapping_add(self.timestamp_offset(tuple)),
            echo: t.value,
        });
        self.send_syn_ack_with(l, &request, Some(packet), timestamps, None);
    }

    /// The handshake that an ACK completes by a cookie, if it does.
    fn cookie_in(&mut self, l: u32, a: &Arrival<'_>) -> Cookie {
        let Arrival { packet, seg, tuple, .. } = a;
        let Body::Listener(listener) = &self.socks[l as usize].body else { return Cookie::None };
        let asks = seg.flags & (Flags::SYN | Flags::ACK | Flags::RST);
        if self.now >= listener.cookies_until || asks != Flags::ACK {
            return Cookie::None;
        }
        let (rings, irs, iss) = (listener.rings, seg.seq - 1, seg.ack - 1);
        let Some(mss) = cookie::open(self.secrets.isn, tuple, irs, iss, self.now) else {
            self.counters.cookies_failed += 1;
            return if seg.len > 0 { Cookie::Early } else { Cookie::None };
        };
        self.counters.cookies_taken += 1;
        let mut syn = *seg;
        (syn.seq, syn.flags) = (irs, Flags::SYN);
        syn.options = Options { mss: Some(mss), ..Options::NONE };
        let mut request = self.request_for((l, packet), &syn, tuple, rings, iss);
        if let Some(t) = seg.options.timestamps {
            let (scale, agreed) =
                cookie::read_stamp(t.echo.wrapping_sub(self.timestamp_offset(tuple)));
            request.flags |= agreed;
            request.ts_recent = t.value;
            request.snd_shift = scale.unwrap_or(0).min(MAX_SHIFT);
            let shift = self.tcp_config(l, tuple.local.ip()).shift(rings.rx_bits);
            request.rcv_shift = if scale.is_some() { shift } else { 0 };
        }
        Cookie::Good(request)
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
        self.end_requests(l);
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
            rings: Rings { tx_off: 0, tx_bits: 0, rx_off: 0, rx_bits: 0 },
            spares: Ends::EMPTY,
            requests: Ends::EMPTY,
            half: Ends::EMPTY,
            waiting: Ends::EMPTY,
            cookies_until: 0,
            fast: 0,
            fast_reset: (0, 0),
        }
    }
}

impl Place {
    /// The list of a connection by its state.
    pub(super) fn of(state: State) -> Self {
        if state == State::SynReceived { Self::Half } else { Self::Waiting }
    }
}
