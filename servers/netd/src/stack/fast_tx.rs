//! The short way out for a plain TCP segment ([`crate::wire::plain`]) of a connection to another host: its headers are
//! written in one go, to the neighbour that its last one went to. What is not plain, or meets anything
//! unusual, takes the long way through `tx`, and what leaves is the same.

use super::tcp_out::QUOTA;
use super::tx::{COPY_MAX, HEAD_ROOM, Link, MAX_BURST, pieces};
use super::{Body, Served, Stack};
use crate::dev::{Dev, Station};
use crate::env::{At, Env};
use crate::port::{Frame, Piece, Port};
use crate::session::Session;
use crate::tcp::ecn::field;
use crate::tcp::{MIN_TEXT, Next, Out, Text};
use crate::wire::ethernet::MIN_FRAME;
use crate::wire::ip::HOP_LIMIT;
use crate::wire::plain::{Headers, Said};
use crate::wire::tcp::{Flags, Options};
use libipc::nic::Csum;

/// Where in a frame without IP options the TCP header begins.
const TCP: u8 = 34;

impl<E: Env> Stack<E> {
    /// The station that the last segment of connection `i` went to, if that is still the way.
    #[inline]
    pub(super) fn known_way(&mut self, i: u32) -> Option<Station> {
        let Body::Tcp(conn) = &self.socks[i as usize].body else { return None };
        let known = conn.known;
        if self.settings.long_way
            || known.way != self.iface.version()
            || self.paths.is_special(self.now)
        {
            return None;
        }
        self.neighbours.again(known.neighbour, self.now)
    }

    /// The way of connection `i` has been found.
    #[cold]
    pub(super) fn remember_way(&mut self, i: u32) {
        let s = &self.socks[i as usize];
        let Some((dst, _)) = s.remote.v4() else { return };
        let known = if s.device == 0 { self.known_neighbour(dst.into()) } else { None };
        let place = known.or_else(|| {
            let hop = self.iface.next_hop(s.remote.ip(), Dev::of_number(s.device), self.now)?;
            self.neighbours.place_of(hop)
        });
        if let (Some(place), Body::Tcp(conn)) = (place, &mut self.socks[i as usize].body)
            && !self.paths.is_special(self.now)
        {
            conn.known.way = self.iface.version();
            conn.known.neighbour = place;
        }
    }

    /// Sends what connection `i` may send now, if all of it is plain: `None` if it is not, or if anything is in its way.
    /// `ready`: see [`Self::serve`].
    #[inline]
    pub(super) fn straight_output(&mut self, i: u32, ready: u8) -> Option<Served> {
        let now = self.now;
        if !self.is_straight() || self.paths.is_special(now) {
            return None;
        }
        let s = &mut self.socks[i as usize];
        let Body::Tcp(conn) = &mut s.body else { return None };
        if conn.known.way != self.iface.version() {
            return None;
        }
        let to = self.neighbours.again(conn.known.neighbour, now)?;
        let ((src, src_port), (dst, dst_port)) = (s.local.v4()?, s.remote.v4()?);
        let nic = &mut self.nics[to.dev];
        if !nic.offload || !nic.up || nic.closed_until > now {
            return None;
        }
        let burst = if nic.tso { MAX_BURST } else { 0 };
        let mut ready = ready & to.dev.bit() != 0;
        for _ in 0..QUOTA {
            // Who is at fault, or in whose way it is, is found out on the long way.
            if !conn.sends_plain() || !(ready || nic.port.is_ready(HEAD_ROOM).unwrap_or(false)) {
                return None;
            }
            ready = false;
            let text = match conn.next_plain(now, burst) {
                Next::Text(text) => text,
                Next::Nothing => return Some(Served::Done),
                Next::Other => return None,
            };
            let opts = conn.opts();
            let Text { seq, ack, flags, window, timestamps, at, len } = text;
            let (tos, ttl) = (opts.tos & !field::MASK, or_usual(opts.ttl));
            let said =
                Said { src, dst, src_port, dst_port, seq, ack, flags, window, tos, timestamps };
            let id = self.ids.next(dst as u64);
            let headers = Headers { to: to.mac, from: nic.mac, id, ttl, said, len: len as u16 };
            let session = (s.session, &mut self.sessions[s.session as usize]);
            put_plain(&mut nic.port, &mut self.env, session, &headers, pieces(s.rings, at, len))?;
            self.counters.tx_frames += 1;
            if conn.has_no_more() {
                return Some(Served::Done);
            }
        }
        Some(Served::More)
    }

    /// Sends `out` of connection `i` to the station `to`, if it is plain. `false`: it has to go the long way.
    #[inline]
    pub(super) fn send_plain(&mut self, i: u32, out: &Out, to: Station) -> bool {
        let s = &self.socks[i as usize];
        let (Some((src, src_port)), Some((dst, dst_port)), Body::Tcp(conn)) =
            (s.local.v4(), s.remote.v4(), &s.body)
        else {
            return false;
        };
        let (flags, options) = (out.flags, &out.options);
        let plain = flags - (Flags::PSH | Flags::FIN) == Flags::ACK;
        let plain = plain && options.sack.is_empty() && out.segment == 0;
        let nic = &self.nics[to.dev];
        if !plain || !nic.offload || !nic.up || !self.is_straight() {
            return false;
        }
        let opts = conn.opts();
        if opts.may_be_cut() {
            return false;
        }
        // With a few bytes of payload, so that it has to be padded, the long way.
        if (1..MIN_TEXT).contains(&out.len) {
            return false;
        }
        let tos = opts.tos & !field::MASK | out.ecn;
        let Out { seq, ack, window, options: Options { timestamps, .. }, at, len, .. } = *out;
        let said = Said { src, dst, src_port, dst_port, seq, ack, flags, window, tos, timestamps };
        let (ttl, id) = (or_usual(opts.ttl), self.ids.next(dst as u64));
        let headers = Headers { to: to.mac, from: nic.mac, id, ttl, said, len: len as u16 };
        let pieces = pieces(s.rings, at, len);
        let session = (s.session, &mut self.sessions[s.session as usize]);
        let port = &mut self.nics[to.dev].port;
        let sent = put_plain(port, &mut self.env, session, &headers, pieces).is_some();
        self.counters.tx_frames += sent as u64;
        sent
    }
}

/// Time to live, if the program has not said which.
fn or_usual(ttl: u8) -> u8 {
    if ttl == 0 { HOP_LIMIT } else { ttl }
}

/// A frame of `headers` and what `pieces` of `session`'s send region hold.
#[inline(always)]
fn put_plain<E: Env>(
    port: &mut Port,
    env: &mut E,
    (number, session): (u16, &mut Session),
    headers: &Headers,
    pieces: [Piece; 2],
) -> Option<()> {
    let (size, len) = (headers.size(), headers.len as usize);
    // What has to be padded is summed here, see `tx`.
    let short = size + len < MIN_FRAME;
    let copied = if len > COPY_MAX { 0 } else { len };
    let room = port.reserve(size + copied)?;
    let (memory, head) = (port.headers(), headers.emit(short));
    // Up to the end of the cache line that holds its end: the padding of a short one, or where the payload goes.
    let written = match size {
        54 => memory.write(room.offset, &head[..64]),
        _ => memory.write(room.offset, &head[..66]),
    };
    let csum = if short { Csum::None } else { Csum::Tcp };
    let whole = Frame { csum: (csum, TCP), ..Frame::whole(size + copied) };
    if len > copied {
        let used: &[Piece] = if pieces[1].len > 0 { &pieces } else { &pieces[..1] };
        port.send_padded(room, &Frame { session: number, pieces: used, ..whole });
        session.in_flight += 1;
        return written.then_some(());
    }
    let [first, rest] = pieces.map(|p| (p.offset as usize, p.len as usize));
    let (tx, to) = (&session.mem.tx, room.offset + size);
    if first.1 > 0 {
        env.copy_sum(At(tx, first.0), At(&memory, to), first.1)?;
    }
    if rest.1 > 0 {
        env.copy_sum(At(tx, rest.0), At(&memory, to + first.1), rest.1)?;
    }
    port.send_padded(room, &whole);
    written.then_some(())
}

/// A frame's place in header memory is at least as long as what is written there.
const _: () = assert!(crate::wire::plain::HEAD >= 66);

impl Link {
    /// The station, if it is to one.
    pub(super) fn station(self) -> Option<Station> {
        match self {
            Self::Device(to) => Some(to),
            Self::Loop | Self::Later(_) => None,
        }
    }
}
