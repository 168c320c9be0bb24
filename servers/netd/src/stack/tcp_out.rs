//! TCP sockets: segments out.

use super::packet::Outgoing;
use super::rx::Packet;
use super::tx::{Check, Link, MAX_BURST, NET, Payload, Route};
use super::{Body, Served, Stack};
use crate::demux::{Space, Tuple};
use crate::dev::Dev;
use crate::env::Env;
use crate::tcp::ecn::field;
use crate::tcp::{Out, Reset, Segment};
use crate::wire::ip;
use crate::wire::tcp::{Flags, MAX_HEADER, Repr, Seq};
use core::net::IpAddr;
use libipc::nic::Csum;
use libipc::sock::Error;

/// Segments that one connection sends before others have their turn.
pub(super) const QUOTA: usize = 16;

/// What the IP header of a segment says besides.
#[derive(Clone, Copy)]
pub(super) struct Envelope {
    /// The NIC cuts it into segments of so many bytes; 0: not.
    pub segment: u16,
    /// Type of service.
    pub tos: u8,
    /// Time to live; 0: as usual.
    pub hop_limit: u8,
    /// Routers may cut it.
    pub cut: bool,
}

impl Envelope {
    /// Nothing special.
    pub const PLAIN: Self = Self { segment: 0, tos: 0, hop_limit: 0, cut: false };
}

impl<E: Env> Stack<E> {
    /// The way from connection `i` to its peer.
    #[inline]
    fn tcp_route(&mut self, i: u32) -> Route {
        if let Some(to) = self.known_way(i) {
            return Route::Via(Link::Device(to));
        }
        let s = &self.socks[i as usize];
        let route = self.route_from(s.local.ip(), s.remote.ip(), Dev::of_number(s.device));
        if let Route::Via(Link::Device(_)) = route {
            self.remember_way(i);
        }
        route
    }

    /// Sends what connection `i` may send now. `ready`: see [`Self::serve`].
    pub(super) fn tcp_output(&mut self, i: u32, ready: u8) -> Served {
        let straight = self.straight_output(i, ready);
        let served = match straight {
            Some(served) => served,
            None => match self.any_output(i, ready) {
                Some(served) => served,
                None => return Served::Done,
            },
        };
        let now = self.now;
        if let Body::Tcp(conn) = &mut self.socks[i as usize].body {
            conn.turn_over(now);
            if conn.is_below_lowat() {
                self.ready(i);
            }
        }
        self.arm(i);
        served
    }

    /// As [`Self::tcp_output`], whatever it is. `None`: there is no way now.
    #[inline(never)]
    fn any_output(&mut self, i: u32, ready: u8) -> Option<Served> {
        let link = match self.tcp_route(i) {
            Route::Via(link) => link,
            Route::Wait(entry) => {
                self.wait_for(i, entry);
                return None;
            }
            route => {
                let now = self.now;
                if let Body::Tcp(conn) = &mut self.socks[i as usize].body {
                    let outcome = match route {
                        Route::Unreachable => conn.unreachable(Error::NetworkUnreachable, now),
                        _ => conn.stalled(now),
                    };
                    self.after_tcp(i, outcome);
                    self.arm(i);
                }
                return None;
            }
        };
        let v4 = self.socks[i as usize].remote.is_ipv4();
        let tso = link.station().is_some_and(|to| self.nics[to.dev].tso);
        let burst = if tso && v4 { MAX_BURST } else { 0 };
        Some(self.send_segments(i, link, ready, burst))
    }

    fn send_segments(&mut self, i: u32, link: Link, ready: u8, burst: u32) -> Served {
        let mut sent = 0;
        let mut ready = matches!(link, Link::Device(to) if ready & to.dev.bit() != 0);
        while sent < QUOTA {
            if !core::mem::take(&mut ready) && !self.link_ready(i, link) {
                return Served::Blocked;
            }
            let now = self.now;
            let Body::Tcp(conn) = &mut self.socks[i as usize].body else { return Served::Done };
            // Named, not moved: it is large.
            let next = conn.next_segment(now, burst);
            let Some(out) = &next else { return Served::Done };
            self.counters.retransmits += out.again as u64;
            sent += match out.segment {
                0 => 1,
                size => out.len.div_ceil(size as u32) as usize,
            };
            let alone = conn.has_no_more();
            if !link.station().is_some_and(|to| self.send_plain(i, out, to)) {
                self.send_out(i, link, out);
            }
            if alone {
                return Served::Done;
            }
        }
        Served::More
    }

    /// Sends `out` of connection `i`, whatever it is.
    #[inline(never)]
    fn send_out(&mut self, i: u32, link: Link, out: &Out) {
        let s = &self.socks[i as usize];
        let (local, remote) = (s.local, s.remote);
        let Body::Tcp(conn) = &s.body else { return };
        let opts = conn.opts();
        let how = Envelope {
            segment: out.segment,
            tos: opts.tos & !field::MASK | out.ecn,
            hop_limit: opts.ttl,
            cut: opts.may_be_cut(),
        };
        let payload = self.ring_pieces(i, out.at, out.len);
        let mut repr = out_repr(out, local.port(), remote.port());
        if out.flags.contains(Flags::SYN) && !out.again {
            repr.options.fast_open = self.fast_option(i, remote.ip());
        }
        self.send_segment(link, local.ip(), remote.ip(), &repr, payload, how);
    }

    pub(super) fn send_segment(
        &mut self,
        link: Link,
        src: IpAddr,
        dst: IpAddr,
        repr: &Repr,
        payload: Payload<'_>,
        how: Envelope,
    ) {
        let mut head = [0; NET + MAX_HEADER];
        let tcp_len = repr.header_len() + payload.len();
        let (net, tcp) = head.split_at_mut(NET);
        let segment = how.segment;
        let ip = self.segment_ip(link, (src, dst), tcp_len as u16, how);
        let (Some(net), Some(tcp)) = (net.first_chunk_mut(), tcp.first_chunk_mut()) else { return };
        // Before a connection stands, and without one, there is nothing to count for.
        let numbered =
            !repr.flags.contains(Flags::SYN | Flags::ACK) && !repr.flags.contains(Flags::RST);
        let numbered = numbered || !ip.dont_fragment;
        let Some(start) = self.headers(link, &ip, net, numbered) else { return };
        repr.emit(tcp);
        self.label(&ip, &tcp[..4], &mut net[start..]);
        let from = NET - start;
        // The NIC adds the length of each segment.
        let pseudo = if segment == 0 { ip } else { ip::Repr { payload_len: 0, ..ip } }.pseudo();
        let check =
            Check { field: from + 16, from, pseudo, csum: Csum::Tcp, segment, copied: false };
        self.transmit(link, &mut head[start..NET + repr.header_len()], Some(check), payload);
    }

    /// The IP header of a segment.
    #[inline]
    fn segment_ip(
        &self,
        link: Link,
        (src, dst): (IpAddr, IpAddr),
        len: u16,
        how: Envelope,
    ) -> ip::Repr {
        let mut ip = ip::Repr::new(src, dst, ip::protocol::TCP, len);
        ip.tos = how.tos;
        ip.dont_fragment = !how.cut && !self.paths.must_cut(dst, self.now);
        ip.hop_limit = match how.hop_limit {
            0 => self.hop_limit_to(link, dst),
            hops => hops,
        };
        ip
    }

    /// Sends a segment without data that answers `p`, with what options of its IP header have recorded (RFC 1122
    /// 4.2.3.8; Linux).
    pub(super) fn answer_segment(
        &mut self,
        link: Link,
        p: &Packet<'_>,
        repr: &Repr,
        how: Envelope,
    ) {
        let (src, dst) = (p.ip.dst, p.ip.src);
        let recorded = (!p.options.is_empty()).then(|| self.here(src)).flatten();
        let Some(here) = recorded else {
            return self.send_segment(link, src, dst, repr, Payload::None, how);
        };
        let (options, mut tcp) = (p.options.answer(&here), [0; MAX_HEADER]);
        repr.emit(&mut tcp);
        let body = &tcp[..repr.header_len()];
        let ip = self.segment_ip(link, (src, dst), body.len() as u16, how);
        let (check, rest) = (Some((16, ip.pseudo())), Payload::None);
        self.send_packet(link, &mut Outgoing { ip, options: &options, body, check, rest });
    }

    /// RFC 9293 3.10.7.1: an RST for a segment that nobody wants, back where it came from.
    pub(super) fn refuse(&mut self, p: &Packet<'_>, seg: &Segment, tuple: &Tuple) {
        if seg.flags.contains(Flags::RST) {
            return;
        }
        let (seq, ack, flags) = if seg.flags.contains(Flags::ACK) {
            (seg.ack, Seq(0), Flags::RST)
        } else {
            (Seq(0), seg.seq + seg.space(), Flags::RST | Flags::ACK)
        };
        let Some(link) = self.way_back(p) else { return };
        self.counters.resets_sent += 1;
        let repr = reset_repr(tuple, seq, ack, flags);
        // Of the class that was asked for, as Linux has it; not of ECN's bits (RFC 3168 6.1.1).
        let how = Envelope { tos: p.ip.tos & !3, ..Envelope::PLAIN };
        self.answer_segment(link, p, &repr, how);
    }

    /// An RST of connection `i`. If it is lost, the peer's next segment will be refused.
    pub(super) fn send_reset(&mut self, i: u32, Reset { seq, ack, window }: Reset) {
        let s = &self.socks[i as usize];
        let tuple = Tuple { space: Space::Tcp, local: s.local.get(), remote: s.remote.get() };
        let on = Dev::of_number(s.device);
        if let Route::Via(link) = self.route_from(tuple.local.ip(), tuple.remote.ip(), on) {
            self.counters.resets_sent += 1;
            let mut repr = reset_repr(&tuple, seq, ack, Flags::RST | Flags::ACK);
            repr.window = window;
            let mut how = Envelope::PLAIN;
            if let Body::Tcp(conn) = &self.socks[i as usize].body {
                repr.options.timestamps = conn.timestamps(self.now);
                let opts = conn.opts();
                let (tos, hop_limit) = (opts.tos, opts.ttl);
                how = Envelope { tos, hop_limit, cut: opts.may_be_cut(), ..how };
            }
            let (src, dst) = (tuple.local.ip(), tuple.remote.ip());
            self.send_segment(link, src, dst, &repr, Payload::None, how);
        }
    }

    /// Whether a frame of any size of socket `i` can leave by `link` now; if not, it waits for that.
    #[inline]
    pub(super) fn link_ready(&mut self, i: u32, link: Link) -> bool {
        match link {
            Link::Loop => self.loopback.has_room(),
            Link::Later(_) => true,
            Link::Device(to) => {
                let ready = self.is_ready(to.dev);
                if !ready {
                    self.blocked_on(i, to.dev);
                }
                ready
            }
        }
    }
}

fn out_repr(out: &Out, src: u16, dst: u16) -> Repr {
    Repr {
        src,
        dst,
        seq: out.seq,
        ack: out.ack,
        flags: out.flags,
        window: out.window,
        urgent: out.urgent,
        options: out.options,
    }
}

fn reset_repr(tuple: &Tuple, seq: Seq, ack: Seq, flags: Flags) -> Repr {
    Repr { seq, ack, flags, ..Repr::new(tuple.local.port(), tuple.remote.port()) }
}
