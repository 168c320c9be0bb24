//! Frames out.
//!
//! A frame is headers built on the stack and copied into header memory, and payload: by reference
//! into the program's send ring, so that no processor touches it, or copied behind the headers
//! where that is cheaper (short) or necessary (no checksum offload).

use super::tap::{Seen, Sight};
use super::{Body, Queued, Stack};
use crate::dev::{Dev, Hop, Station};
use crate::env::{At, Env};
use crate::neigh::{self, Lookup, Place, Waiting};
use crate::port::{Frame, Piece};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, MIN_FRAME, Mac};
use crate::wire::ip;
use core::net::{IpAddr, Ipv4Addr};
use libipc::net::Rings;
use libipc::nic::Csum;
use libipc::shared::Bytes;

/// Offset of the header checksum in an IPv4 frame.
const IP_SUM: usize = ethernet::HEADER + 10;
/// Room for the headers below the transport's, whichever family they are of.
pub(super) const NET: usize = ethernet::HEADER + ip::HEADER;
/// Header bytes that [`Stack::pump`] sees to before it lets a socket send: the longest frame that
/// is copied.
pub const HEAD_ROOM: usize = 1536;
/// Payload of the longest frame that the NIC cuts into segments: what an IP header can say.
pub(super) const MAX_BURST: u32 = 65_535 - 120;
/// Payload up to this size is copied: a second descriptor costs more than these bytes.
pub(super) const COPY_MAX: usize = 192;
/// Frames to ourselves that may wait.
const LOOP_FRAMES: usize = 64;
/// Room that any frame but a long datagram finds.
const LOOP_FRAME: usize = 2048;

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// To a station.
    Device(Station),
    /// To ourselves.
    Loop,
    /// To a station whose address is asked for: packets of no socket wait on this entry.
    Later(usize),
}

/// How to get somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Ready.
    Via(Link),
    /// The neighbour's address is asked for: wait on this entry.
    Wait(usize),
    /// Nothing can be said now; try later.
    Later,
    /// No address or no route.
    Unreachable,
}

/// What follows the headers.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    /// Nothing.
    None,
    /// Bytes of a session's send region; the second piece where the ring wraps.
    Ring(u16, [Piece; 2]),
    /// Bytes somewhere else.
    At(At<'a>, usize),
    /// Bytes at hand.
    Slice(&'a [u8]),
}

impl Payload<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Ring(_, [a, b]) => a.len as usize + b.len as usize,
            Self::At(_, len) => *len,
            Self::Slice(s) => s.len(),
        }
    }
    /// `len` bytes of it from `at` on, as far as they exist.
    pub(super) fn part(&self, at: usize, len: usize) -> Self {
        let len = len.min(self.len().saturating_sub(at));
        match *self {
            _ if len == 0 => Self::None,
            Self::None => Self::None,
            Self::At(from, _) => Self::At(At(from.0, from.1 + at), len),
            Self::Slice(s) => Self::Slice(s.get(at..at + len).unwrap_or(&[])),
            Self::Ring(session, [a, b]) => {
                let (at, len) = (at as u32, len as u32);
                let cut = |p: Piece, at: u32, len: u32| Piece { offset: p.offset + at, len };
                if at >= a.len {
                    return Self::Ring(session, [cut(b, at - a.len, len), cut(b, 0, 0)]);
                }
                let first = len.min(a.len - at);
                Self::Ring(session, [cut(a, at, first), cut(b, 0, len - first)])
            }
        }
    }
}

/// Where the transport checksum goes and what it begins with.
#[derive(Clone, Copy)]
pub(super) struct Check {
    /// Offset of the field in the frame.
    pub field: usize,
    /// Offset of the transport header.
    pub from: usize,
    /// Sum of the pseudo-header.
    pub pseudo: Sum,
    /// What the NIC can do about it.
    pub csum: Csum,
    /// The NIC is to cut the payload into segments of this many bytes; 0: not.
    pub segment: u16,
    /// The payload is to be copied, and summed on the way: its place may change.
    pub copied: bool,
}

/// Frames to ourselves: a ring of bytes. A frame lies in one piece; what is left at the end of the
/// memory is passed over.
pub(super) struct LoopQueue {
    mem: Bytes,
    /// Where each frame begins and how long it is.
    frames: [(u32, u32); LOOP_FRAMES],
    first: usize,
    len: usize,
    /// Where the next one goes.
    tail: usize,
}

impl LoopQueue {
    pub(super) fn new(mem: Bytes) -> Self {
        Self { mem, frames: [(0, 0); LOOP_FRAMES], first: 0, len: 0, tail: 0 }
    }
    /// Where a frame of `len` bytes can go now.
    fn place(&self, len: usize) -> Option<usize> {
        if self.len == 0 {
            return (len <= self.mem.len()).then_some(0);
        }
        let head = self.frames[self.first].0 as usize;
        if self.len == LOOP_FRAMES {
            None
        } else if self.tail > head {
            let at_end = self.tail + len <= self.mem.len();
            if at_end { Some(self.tail) } else { (len < head).then_some(0) }
        } else {
            (self.tail + len < head).then_some(self.tail)
        }
    }
    /// Whether a frame can be put in that is no long datagram.
    pub(super) fn has_room(&self) -> bool {
        self.place(LOOP_FRAME).is_some()
    }
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
    fn push(&mut self, at: usize, len: usize) {
        self.frames[(self.first + self.len) % LOOP_FRAMES] = (at as u32, len as u32);
        self.len += 1;
        self.tail = at + len;
    }
    /// The first frame: it stays until [`Self::pop`], since what it brings about may be put in.
    fn first(&self) -> Option<(usize, usize)> {
        let (at, len) = self.frames[self.first];
        (self.len > 0).then_some((at as usize, len as usize))
    }
    fn pop(&mut self) {
        self.first = (self.first + 1) % LOOP_FRAMES;
        self.len -= 1;
    }
}

impl<E: Env> Stack<E> {
    /// Frames to ourselves arrive.
    pub(super) fn loopback_turn(&mut self) -> bool {
        for _ in 0..LOOP_FRAMES {
            let Some((at, len)) = self.loopback.first() else { return false };
            self.frame(self.loopback.mem, at, len, true, None);
            self.loopback.pop();
        }
        !self.loopback.is_empty()
    }

    /// The way from `src` to `dst`, by card `on` if that is said. There is none from an address that was ours and is
    /// no more: what DHCP took away must not be used (RFC 2131 4.4.5), and somebody else may have it.
    pub(super) fn route_from(&mut self, src: IpAddr, dst: IpAddr, on: Option<Dev>) -> Route {
        if let (Some(to), None) = (self.known_station(src, dst), on) {
            return Route::Via(Link::Device(to));
        }
        if !src.is_unspecified() && !src.is_loopback() && !self.iface.is_ours(src) {
            return Route::Unreachable;
        }
        // What is for many leaves by the card of its source's (Linux).
        let many = dst.is_multicast() || dst == IpAddr::V4(Ipv4Addr::BROADCAST);
        let of_source = if many { self.iface.dev_of(src) } else { None };
        let (route, place) = self.route(dst, on.or(of_source));
        if let (None, Some(place)) = (on, place) {
            self.keep_way(src, dst, place);
        }
        route
    }

    /// The way to `dst`, by card `on` if that is said, and the neighbour on it if that one is known.
    fn route(&mut self, dst: IpAddr, on: Option<Dev>) -> (Route, Option<Place>) {
        if dst.is_loopback() || self.iface.is_ours(dst) {
            return (Route::Via(Link::Loop), None);
        }
        if dst.is_multicast() || self.iface.is_broadcast(dst) {
            return (self.route_to_many(dst, on), None);
        }
        let Some(hop) = self.next_hop(dst, on) else { return (Route::Unreachable, None) };
        let found = self.neighbours.lookup(hop, self.now);
        self.arm_neighbours();
        match found {
            Lookup::Known(mac, place) => {
                (Route::Via(Link::Device(Station { dev: hop.dev, mac })), Some(place))
            }
            Lookup::Wait(entry) => (Route::Wait(entry), None),
            Lookup::Full => (Route::Later, None),
        }
    }

    /// The way to a group or to everybody.
    fn route_to_many(&self, dst: IpAddr, on: Option<Dev>) -> Route {
        let dev = self.iface.dev_for_many(dst, on, self.now);
        if dst.is_ipv6() && !self.nics[dev].ip6.is_on() {
            return Route::Unreachable;
        }
        let mac = if dst.is_multicast() { Mac::of_group(dst) } else { Mac::BROADCAST };
        Route::Via(Link::Device(Station { dev, mac }))
    }

    /// The neighbour that packets for `dst` go to, by card `on` if that is said.
    pub(super) fn next_hop(&self, dst: IpAddr, on: Option<Dev>) -> Option<Hop> {
        // A better gateway is better while it is near and answers (RFC 1122 3.3.1.4).
        let serves = |by: &Hop| {
            let near = self.iface.next_hop(by.ip, Some(by.dev), self.now) == Some(*by);
            near && on.is_none_or(|dev| by.dev == dev)
                && self.neighbours.state(*by) != neigh::State::Failed
        };
        let redirected = self.paths.gateway(dst, self.now).filter(serves);
        let router = || Some(self.living_router(dst, on, self.iface.next_hop(dst, on, self.now)?));
        redirected.or_else(router)
    }

    /// Has socket `i` wait for a neighbour.
    pub(super) fn wait_for(&mut self, i: u32, entry: usize) {
        let s = &mut self.socks[i as usize];
        if s.queued == Queued::No {
            s.queued = Queued::Neighbour(entry as u16);
            self.send_links.push(&mut self.neighbours.waiting(entry).sockets, i);
        }
    }

    /// Ethernet and IP headers, so that they end where `net` ends and the transport's begins.
    /// Yields where in `net` the frame begins; `None`: such a packet cannot be sent. `numbered`: it has
    /// an identification, though it is never cut; Linux numbers what belongs to a connection.
    pub(super) fn headers(
        &mut self,
        link: Link,
        ip: &ip::Repr,
        net: &mut [u8; NET],
        numbered: bool,
    ) -> Option<usize> {
        let Station { dev, mac: dst } = self.station(link);
        let id = if numbered { self.identification(ip.dst) } else { 0 };
        let (len, ty) = ip.emit(id, net.last_chunk_mut()?)?;
        let start = NET.checked_sub(ethernet::HEADER + len)?;
        let eth = net.get_mut(start..)?.first_chunk_mut()?;
        ethernet::Repr { dst, src: self.nics[dev].mac, ty }.emit(eth);
        Some(start)
    }

    /// Sends a frame of `head` and `payload`. `false`: there is no room for it now.
    pub(super) fn transmit(
        &mut self,
        link: Link,
        head: &mut [u8],
        check: Option<Check>,
        payload: Payload<'_>,
    ) -> bool {
        let len = payload.len();
        let dev = match link {
            Link::Device(to) => to.dev,
            Link::Loop => return self.transmit_loop(head, payload),
            Link::Later(entry) => {
                self.transmit_later(entry, head, check, payload);
                return true;
            }
        };
        let nic = &mut self.nics[dev];
        if !nic.up {
            // Lost as on the dead cable, not heaped up for when it lives again.
            self.counters.tx_no_link += 1;
            return true;
        }
        if nic.closed_until > self.now {
            return false;
        }
        let offload = nic.offload;
        if let (Payload::Ring(session, pieces), Some(check)) = (payload, check)
            && offload
            && len > COPY_MAX
            && check.csum != Csum::None
            && !check.copied
        {
            return self.transmit_pieces(dev, head, check, (session, &pieces));
        }
        let Some(room) = nic.port.reserve(head.len() + len) else { return false };
        let (headers, offset) = (nic.port.headers(), room.offset);
        let Some(sum) = self.copy_payload(payload, At(&headers, offset + head.len())) else {
            // Only memory of our own making is named: out of range would be a bug of ours.
            debug_assert!(false, "payload out of range");
            return true;
        };
        let mut csum = Csum::None;
        if let Some(c) = check {
            // What has to be padded is summed here: QEMU's 82574L takes the padding for payload.
            let padded = head.len() + len < MIN_FRAME;
            if offload && c.csum != Csum::None && !padded && !c.copied {
                csum = c.csum;
                put_pseudo(head, &c);
            } else {
                complete(head, &c, sum);
            }
        }
        let _ = headers.write(offset, head);
        if !self.taps.is_empty() {
            self.tap(Sight::At(&headers, offset), head.len() + len, Seen::Leaving(dev));
        }
        let l4 = check.map_or(0, |c| c.from as u8);
        let frame = Frame { csum: (csum, l4), ..Frame::whole(head.len() + len) };
        self.nic(dev).port.send(room, &frame);
        self.counters.tx_frames += 1;
        true
    }

    fn transmit_pieces(
        &mut self,
        dev: Dev,
        head: &mut [u8],
        check: Check,
        (session, pieces): (u16, &[Piece; 2]),
    ) -> bool {
        let Some(room) = self.nic(dev).port.reserve(head.len()) else { return false };
        put_pseudo(head, &check);
        let mut frames = 1;
        if check.segment != 0 {
            // The NIC sums each segment's IP header, this field included.
            if let Some(sum) = head.get_mut(IP_SUM..IP_SUM + 2) {
                sum.fill(0);
            }
            frames = (pieces[0].len + pieces[1].len).div_ceil(check.segment as u32);
        }
        if !self.taps.is_empty() {
            let payload = Payload::Ring(session, *pieces);
            self.tap(Sight::Parts(head, payload), head.len() + payload.len(), Seen::Leaving(dev));
        }
        let port = &mut self.nics[dev].port;
        let _ = port.headers().write(room.offset, head);
        let used = if pieces[1].len > 0 { 2 } else { 1 };
        let csum = (check.csum, check.from as u8);
        let (pieces, segment) = (&pieces[..used], check.segment);
        port.send(room, &Frame { head: head.len(), session, pieces, csum, segment });
        self.sessions[session as usize].in_flight += 1;
        self.counters.tx_frames += frames as u64;
        true
    }

    fn transmit_loop(&mut self, head: &[u8], payload: Payload<'_>) -> bool {
        let len = head.len() + payload.len();
        if len > self.loopback.mem.len() {
            self.counters.tx_no_route += 1;
            return true;
        }
        let Some(at) = self.loopback.place(len) else { return false };
        let mem = self.loopback.mem;
        if self.copy_payload(payload, At(&mem, at + head.len())).is_some() && mem.write(at, head) {
            self.loopback.push(at, len);
        }
        true
    }

    /// Copies payload, summing it.
    pub(super) fn copy_payload(&mut self, payload: Payload<'_>, to: At<'_>) -> Option<Sum> {
        match payload {
            Payload::None => Some(Sum::ZERO),
            Payload::Slice(bytes) => to.0.write(to.1, bytes).then(|| Sum::ZERO.bytes(bytes)),
            Payload::At(from, len) => self.env.copy_sum(from, to, len),
            Payload::Ring(session, [a, b]) => {
                let tx = self.sessions[session as usize].mem.tx;
                let first = self.env.copy_sum(At(&tx, a.offset as usize), to, a.len as usize)?;
                if b.len == 0 {
                    return Some(first);
                }
                let rest = At(to.0, to.1 + a.len as usize);
                let second = self.env.copy_sum(At(&tx, b.offset as usize), rest, b.len as usize)?;
                Some(first.and(second, a.len % 2 == 1))
            }
        }
    }

    /// The pieces of `len` bytes from stream position `at` of socket `i`'s send ring.
    #[inline(always)]
    pub(super) fn ring_pieces(&self, i: u32, at: u32, len: u32) -> Payload<'static> {
        let s = &self.socks[i as usize];
        if len == 0 { Payload::None } else { Payload::Ring(s.session, pieces(s.rings, at, len)) }
    }

    /// The neighbour is known, at `to`: sockets that waited for it may send, packets leave.
    pub(super) fn release_waiting(&mut self, mut waiting: Waiting, to: Station) {
        while let Some(i) = self.send_links.pop(&mut waiting.sockets) {
            self.sock(i).queued = Queued::No;
            self.want_send(i);
        }
        self.release_packets(waiting.packets, Some(to));
    }

    /// Sockets that waited for a neighbour learn that it does not answer; packets are dropped.
    pub(super) fn fail_waiting(&mut self, mut waiting: Waiting) {
        self.release_packets(waiting.packets, None);
        while let Some(i) = self.send_links.pop(&mut waiting.sockets) {
            self.sock(i).queued = Queued::No;
            match &mut self.socks[i as usize].body {
                Body::Tcp(conn) => {
                    let outcome = conn.unreachable(libipc::sock::Error::HostUnreachable, self.now);
                    self.after_tcp(i, outcome);
                    self.arm(i);
                }
                Body::Dgram(_) => self.dgram_unreachable(i),
                _ => {}
            }
        }
    }
}

/// Where `len` bytes from stream position `at` lie in a send ring of `rings`.
#[inline(always)]
pub(super) fn pieces(rings: Rings, at: u32, len: u32) -> [Piece; 2] {
    let size = 1u32 << rings.tx_bits;
    let start = at & (size - 1);
    let first = len.min(size - start);
    [
        Piece { offset: rings.tx_off + start, len: first },
        Piece { offset: rings.tx_off, len: len - first },
    ]
}

/// Puts the transport's checksum into `head`; `sum` is the payload's.
pub(super) fn complete(head: &mut [u8], c: &Check, sum: Sum) {
    head[c.field..c.field + 2].copy_from_slice(&[0, 0]);
    let all = c.pseudo.bytes(&head[c.from..]).and(sum, (head.len() - c.from) % 2 == 1);
    let mut bytes = all.finish();
    if c.csum == Csum::Udp && bytes == [0, 0] {
        // RFC 768: zero means that there is none.
        bytes = [0xff, 0xff];
    }
    head[c.field..c.field + 2].copy_from_slice(&bytes);
}

fn put_pseudo(head: &mut [u8], check: &Check) {
    // The NIC wants the pseudo-header's sum, not complemented.
    let sum = check.pseudo.fold().to_le_bytes();
    head[check.field..check.field + 2].copy_from_slice(&sum);
}
