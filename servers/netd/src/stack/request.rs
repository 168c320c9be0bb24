//! Passive handshakes until their ACK (RFC 9293 3.10.7.4 in SYN-RECEIVED): numbers of the demultiplexer
//! and the wheel after those of TIME-WAIT.

use super::reports::Report;
use super::rx::Packet;
use super::tcp_out::Envelope;
use super::tx::{Link, Payload, Route};
use super::{Body, Place, Stack};
use crate::demux::{Space, Tuple};
use crate::dev::Dev;
use crate::env::Env;
use crate::record::Fixed;
use crate::request::{Progress, Request};
use crate::tcp::{CHALLENGE_NS, Conn, Segment, syn_ack};
use crate::wire::checksum::Sum;
use crate::wire::icmp::Quote;
use crate::wire::tcp::{Cookie, Flags, Options, Repr, Seq, Timestamps};
use crate::wire::{Malformed, ip};
use core::net::SocketAddr;
use core::sync::atomic::Ordering::Relaxed;
use libipc::sock::{self, Error, Kind, flags};

/// The first SYN-ACK is repeated after this, with doubling pauses up to the second.
const FIRST_NS: u64 = 1_000_000_000;
const MOST_NS: u64 = 120_000_000_000;

/// A segment as it arrived, with where it lies.
pub(super) struct Arrival<'a> {
    pub packet: &'a Packet<'a>,
    pub header_len: usize,
    pub pseudo: Sum,
    pub seg: Segment,
    pub tuple: Tuple,
}

impl<E: Env> Stack<E> {
    fn request_number(&self, entry: usize) -> u32 {
        (self.socks.len() + self.time_wait.len() + entry) as u32
    }

    fn request_entry(&self, number: u32) -> usize {
        number as usize - self.socks.len() - self.time_wait.len()
    }

    /// Keeps `request` for listener `l` and sends its SYN-ACK, the first one with `cookie`.
    pub(super) fn begin_request(
        &mut self,
        l: u32,
        request: &Request,
        syn: &Packet<'_>,
        cookie: Option<Cookie>,
    ) {
        let now = self.now;
        let Body::Listener(listener) = &mut self.socks[l as usize].body else { return };
        let Some(entry) = self.requests.begin(&mut listener.requests, l, request, now) else {
            return;
        };
        let number = self.request_number(entry);
        if !self.demux.insert(number, request.tuple) {
            return self.end_request(number);
        }
        self.wheel.set(number, now + FIRST_NS);
        let timestamps = self.timestamps(request);
        self.requests.progress(entry).stamps = timestamps.map(|t| (t.value, t.value));
        self.send_syn_ack_with(l, request, Some(syn), timestamps, cookie);
    }

    /// Forgets the handshake under `number`.
    pub(super) fn end_request(&mut self, number: u32) {
        self.demux.remove(number);
        self.wheel.cancel(number);
        let entry = self.request_entry(number);
        let l = self.requests.progress(entry).listener;
        if let Some(Body::Listener(listener)) = self.socks.get_mut(l as usize).map(|s| &mut s.body)
        {
            self.requests.end(&mut listener.requests, entry);
        }
    }

    /// Forgets all handshakes of listener `l`.
    pub(super) fn end_requests(&mut self, l: u32) {
        loop {
            let Body::Listener(listener) = &self.socks[l as usize].body else { return };
            let Some(entry) = listener.requests.first() else { return };
            self.end_request(self.request_number(entry as usize));
        }
    }

    /// Takes over what an earlier incarnation had promised. Sockets are in the table already.
    pub(super) fn recover_requests(&mut self) {
        for entry in 0..self.requests.len() {
            let Some(request) = self.requests.get(entry) else { continue };
            let number = self.request_number(entry);
            let there = self.is_device(request.device);
            let Request { tuple: Tuple { local, remote, .. }, device, .. } = request;
            let l = self.demux.lookup_local_on(device, Space::Tcp, local, remote);
            let listener = match l.map(|l| (l, &mut self.socks[l as usize].body)) {
                Some((l, Body::Listener(listener))) => Some((l, listener)),
                _ => None,
            };
            match listener {
                // A socket has its place already, or it is nobody's.
                Some((l, listener)) if there && self.demux.insert(number, request.tuple) => {
                    self.requests.adopt(&mut listener.requests, l, entry, None);
                    self.wheel.set(number, self.now + FIRST_NS);
                }
                _ => self.requests.forget(entry),
            }
        }
    }

    /// The SYN-ACK is due again.
    pub(super) fn request_due(&mut self, number: u32) {
        let entry = self.request_entry(number);
        let Some(request) = self.requests.get(entry) else { return };
        let progress = self.requests.progress(entry);
        let Progress { listener: l, retries, deferred, .. } = *progress;
        let patience = if deferred { self.defer_retries(l) } else { 0 };
        if retries >= self.wanted(l).syn_ack_retries() && retries >= patience {
            self.counters.requests_expired += 1;
            return self.end_request(number);
        }
        let progress = self.requests.progress(entry);
        progress.retries = retries.saturating_add(1);
        let pause = pause_after(progress.retries);
        self.wheel.set(number, self.now + pause);
        // The peer has it; at the end of the delay it is asked for another ACK.
        if !deferred || retries.saturating_add(1) >= patience {
            self.counters.retransmits += 1;
            self.repeat_syn_ack(entry, &request);
        }
    }

    /// Sends the SYN-ACK of the handshake at `entry` again.
    fn repeat_syn_ack(&mut self, entry: usize, request: &Request) {
        let timestamps = self.timestamps(request);
        let progress = self.requests.progress(entry);
        progress.sent_at = None;
        if let (Some((_, last)), Some(now)) = (&mut progress.stamps, timestamps) {
            *last = now.value;
        }
        let l = progress.listener;
        self.send_syn_ack_with(l, request, None, timestamps, None);
    }

    /// How often the SYN-ACK would have been repeated until listener `l` no longer waits for data
    /// (TCP_DEFER_ACCEPT).
    fn defer_retries(&self, l: u32) -> u8 {
        let s = &self.socks[l as usize];
        sock::defer_retries(
            self.sessions[s.session as usize].app(s.id).defer_accept_s().load(Relaxed),
        )
    }

    /// Whether the ACK that completes a handshake, without data, counts for nothing: the listener wants to
    /// be told of data (Linux's `tcp_check_req`).
    fn defers(&mut self, entry: usize, seg: &Segment) -> bool {
        let Progress { listener: l, retries, .. } = *self.requests.progress(entry);
        if seg.space() > 0 || retries >= self.defer_retries(l) {
            return false;
        }
        let progress = self.requests.progress(entry);
        (progress.deferred, progress.sent_at) = (true, None);
        self.counters.tcp_deferred += 1;
        true
    }

    /// A segment for the handshake under `number`; its checksum is right.
    pub(super) fn request_in(&mut self, number: u32, a: &Arrival<'_>) -> Result<(), Malformed> {
        let entry = self.request_entry(number);
        let Some(request) = self.requests.get(entry) else { return Ok(()) };
        let Arrival { packet, seg, tuple, .. } = a;
        if packet.is_elsewhere(request.device) {
            return self.nobodys_segment(a, None);
        }
        let (rst, ack) = (seg.flags.contains(Flags::RST), seg.flags.contains(Flags::ACK));
        let first = request.irs + 1;
        let old = is_old(&request, seg);
        let asks = Flags::SYN | Flags::ACK | Flags::RST;
        if seg.seq == request.irs && seg.flags & asks == Flags::SYN && !old {
            // Our SYN-ACK was lost.
            if self.may_answer(entry) {
                let pause = pause_after(self.requests.progress(entry).retries);
                self.wheel.set(number, self.now + pause);
                self.repeat_syn_ack(entry, &request);
            }
            return Ok(());
        }
        if ack && !rst && seg.ack != request.iss + 1 {
            self.refuse(packet, seg, tuple);
            return Ok(());
        }
        let exact = seg.seq == first;
        let foreign = echoes_another(&request, self.requests.progress(entry).stamps, seg);
        if rst && exact && !foreign {
            self.end_request(number);
            return Ok(());
        }
        let fits = in_window(seg, first, request.window as u32);
        if old || foreign || !fits || rst {
            self.counters.tcp_unacceptable += 1;
            // Who sends text waits for an answer; the limit is against two that answer each other.
            let waits = seg.space() > 0 && !seg.flags.intersects(Flags::SYN | Flags::RST);
            if (!rst || fits) && (waits || self.may_answer(entry)) {
                self.send_ack(&request);
            }
            return Ok(());
        }
        if seg.flags.contains(Flags::SYN) && seg.seq != request.irs {
            // Another connection between the same ports, or an attempt on this one.
            self.refuse(packet, seg, tuple);
            self.end_request(number);
            return Ok(());
        }
        if !ack {
            self.counters.tcp_no_ack += 1;
            return Ok(());
        }
        if self.defers(entry, seg) {
            return Ok(());
        }
        self.completed(&request, Some(number), a)
    }

    /// The ACK of `request` has come: a socket takes it over, if there is one and the backlog allows.
    pub(super) fn completed(
        &mut self,
        request: &Request,
        number: Option<u32>,
        a: &Arrival<'_>,
    ) -> Result<(), Malformed> {
        let (tuple, now) = (request.tuple, self.now);
        let mut progress = number.map(|n| *self.requests.progress(self.request_entry(n)));
        let l = progress.map(|p| p.listener);
        let by = a.packet.interface();
        let Some(l) =
            l.or_else(|| self.demux.lookup_local_on(by, Space::Tcp, tuple.local, tuple.remote))
        else {
            return Ok(());
        };
        let Some(i) = self.free_place(l) else {
            // As if the ACK were lost: the SYN-ACK will be repeated, and answered.
            self.backlog_full(l, tuple.local);
            return Ok(());
        };
        self.unlist(i);
        let (config, home) = (self.tcp_config(l, tuple.local.ip()), self.home(i));
        let timed = request.flags & flags::TIMESTAMPS != 0;
        let ts_offset = if timed { self.timestamp_offset(&tuple) } else { 0 };
        let listener = self.socks[l as usize].id;
        let s = self.sock(i);
        (s.local, s.remote, s.device) = (tuple.local.into(), tuple.remote.into(), request.device);
        let base = Fixed { listener, ts_offset, ..Fixed::open(Kind::Tcp, s.rings) };
        let fixed = request.fixed(base);
        home.hard.renew(&fixed);
        let conn = Conn::answered(home, &fixed, config, request, progress.take(), now);
        s.body = Body::Tcp(conn);
        // The socket's record speaks for it from here on.
        if let Some(number) = number {
            self.end_request(number);
        }
        if !self.demux.insert(i, tuple) {
            self.spare(i, l);
            return Ok(());
        }
        self.ports.hold(i, Space::Tcp, tuple.local.port(), self.reuse(l));
        self.enlist(i, l, Place::Half);
        self.connections_segment(i, a)
    }

    fn may_answer(&mut self, entry: usize) -> bool {
        let now = self.now;
        let progress = self.requests.progress(entry);
        let may = now >= progress.challenge_from;
        if may {
            progress.challenge_from = now + CHALLENGE_NS;
        }
        may
    }

    fn timestamps(&self, request: &Request) -> Option<Timestamps> {
        let ticks = crate::tcp::ticks(self.now);
        (request.flags & flags::TIMESTAMPS != 0).then(|| Timestamps {
            value: ticks.wrapping_add(self.timestamp_offset(&request.tuple)),
            echo: request.ts_recent,
        })
    }

    /// Sends the SYN-ACK of `request` to listener `l`, with these timestamps; `syn`: that just came.
    pub(super) fn send_syn_ack_with(
        &mut self,
        l: u32,
        request: &Request,
        syn: Option<&Packet<'_>>,
        timestamps: Option<Timestamps>,
        fast_open: Option<Cookie>,
    ) {
        let Tuple { local, remote, .. } = request.tuple;
        let config = self.tcp_config(l, local.ip());
        let (tos, hop_limit) = (config.opts.tos, config.opts.ttl);
        let cut = config.opts.may_be_cut();
        let how = Envelope { tos, hop_limit, cut, ..Envelope::PLAIN };
        let (flags, options) = syn_ack(request.flags, request.rcv_shift, config.mss, timestamps);
        let repr = Repr {
            seq: request.iss,
            ack: request.irs + 1,
            flags,
            window: request.window,
            options: Options { fast_open, ..options },
            ..Repr::new(local.port(), remote.port())
        };
        self.send_alone(request, syn, &repr, how);
    }

    fn send_ack(&mut self, request: &Request) {
        let Tuple { local, remote, .. } = request.tuple;
        let repr = Repr {
            seq: request.iss + 1,
            ack: request.irs + 1,
            flags: Flags::ACK,
            window: request.window >> request.rcv_shift,
            options: Options { timestamps: self.timestamps(request), ..Options::NONE },
            ..Repr::new(local.port(), remote.port())
        };
        self.send_alone(request, None, &repr, Envelope::PLAIN);
    }

    /// Sends a segment that no socket waits with; if its neighbour is unknown, it waits by itself.
    fn send_alone(
        &mut self,
        request: &Request,
        to: Option<&Packet<'_>>,
        repr: &Repr,
        how: Envelope,
    ) {
        let (src, dst) = (request.tuple.local.ip(), request.tuple.remote.ip());
        let link = match self.route_from(src, dst, Dev::of_number(request.device)) {
            Route::Via(link) => link,
            Route::Wait(entry) => Link::Later(entry),
            Route::Later | Route::Unreachable => {
                self.counters.tx_no_route += 1;
                return;
            }
        };
        match to {
            Some(p) => self.answer_segment(link, p, repr, how),
            None => self.send_segment(link, src, dst, repr, Payload::None, how),
        }
    }

    /// Whether an ICMP error is about the SYN-ACK of a handshake. If it says that the host cannot be
    /// reached, the handshake is over; nobody is waiting to be told.
    pub(super) fn request_reported(&mut self, report: Report, quote: &Quote) -> bool {
        let t = &quote.transport;
        let half = |at: usize| u16::from_be_bytes([t[at], t[at + 1]]);
        if quote.protocol != ip::protocol::TCP {
            return false;
        }
        let local = SocketAddr::new(quote.src, half(0));
        let remote = SocketAddr::new(quote.dst, half(2));
        let before = self.socks.len() + self.time_wait.len();
        let Some(number) = self
            .demux
            .find(&Tuple { space: Space::Tcp, local, remote })
            .filter(|n| *n as usize >= before)
        else {
            return false;
        };
        let seq = Seq(u32::from_be_bytes([t[4], t[5], t[6], t[7]]));
        if self.requests.get(self.request_entry(number)).is_none_or(|r| r.iss != seq) {
            return false;
        }
        if let Report::Error(
            Error::HostUnreachable | Error::NetworkUnreachable | Error::Protocol,
            _,
        ) = report
        {
            self.end_request(number);
        }
        true
    }
}

/// How long the SYN-ACK waits after so many repetitions.
fn pause_after(retries: u8) -> u64 {
    (FIRST_NS << retries.min(7)).min(MOST_NS)
}

/// Whether a segment echoes a timestamp that none of our SYN-ACKs had (Linux's `tsecr_reject`).
fn echoes_another(request: &Request, stamps: Option<(u32, u32)>, seg: &Segment) -> bool {
    let echo = seg.options.timestamps.filter(|t| t.echo != 0).map(|t| t.echo);
    match (echo, stamps) {
        (Some(echo), Some((first, last))) if request.flags & flags::TIMESTAMPS != 0 => {
            echo.wrapping_sub(first) > last.wrapping_sub(first)
        }
        _ => false,
    }
}

/// PAWS (RFC 7323 5.3).
fn is_old(request: &Request, seg: &Segment) -> bool {
    let timed = request.flags & flags::TIMESTAMPS != 0;
    let value = seg.options.timestamps.filter(|_| timed).map(|t| t.value);
    value.is_some_and(|v| (request.ts_recent.wrapping_sub(v) as i32) > 0)
}

/// Whether any of the segment lies in the window, or would if it had a length.
fn in_window(seg: &Segment, first: Seq, window: u32) -> bool {
    let (end, edge) = (seg.seq + seg.space(), first + window);
    seg.seq == first || (first.lt(end) && seg.seq.lt(edge)) || (seg.seq == edge && seg.space() == 0)
}
