//! Datagrams out: which way, from which address, with which options.

use super::dgram::Dgram;
use super::packet::{Outgoing, Sent};
use super::tx::{Link, Route};
use super::{Served, Stack};
use crate::demux::ANY;
use crate::dev::Dev;
use crate::env::Env;
use crate::wire::checksum::Sum;
use crate::wire::{icmp, icmpv6, ip, udp};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::sync::atomic::Ordering::Relaxed;
use libipc::permission::Permission;
use libipc::sock::{Dgram as Header, Error, Kind, ip_from_words, option};

/// Why a datagram does not leave now.
pub(super) enum Kept {
    /// It stays in the ring, and the socket waits.
    Waits(Served),
    /// It is passed over, as the network would lose it; the program learns why.
    Lost(Error),
}

/// What a program means by no address: this host (Linux).
pub(super) fn or_loopback(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// A datagram on its way.
pub(super) struct Way {
    pub link: Link,
    pub src: IpAddr,
    pub to: SocketAddr,
    /// To a group, or to all.
    pub many: bool,
}

impl<E: Env> Stack<E> {
    /// Sends a datagram of socket `i` whatever it is.
    #[inline(never)]
    pub(super) fn send_datagram(&mut self, i: u32, d: &Dgram, header: &Header) -> Result<(), Kept> {
        let way = self.datagram_way(i, d, header)?;
        if !self.link_ready(i, way.link) {
            return Err(Kept::Waits(Served::Blocked));
        }
        if d.kind == Kind::Raw && self.writes_header(i, d, way.to.ip()) {
            return match self.send_with_header(i, d, header, &way)? {
                Sent::Done => Ok(()),
                Sent::Blocked => Err(Kept::Waits(Served::Blocked)),
                Sent::TooLong(_) => Err(Kept::Lost(Error::MessageTooLong)),
            };
        }
        let ip = self.datagram_ip(i, d, header, &way);
        let stays = ip.dst.is_multicast() && ip.hop_limit == 0;
        let sent = if stays { Sent::Done } else { self.emit_datagram(i, d, header, &way, &ip) };
        // Not before it has left: who waits for room comes here again.
        if way.many && sent == Sent::Done {
            self.comes_back(i, d, header, &way, &ip);
        }
        match sent {
            Sent::Done => Ok(()),
            Sent::Blocked => Err(Kept::Waits(Served::Blocked)),
            Sent::TooLong(mtu) => {
                self.dgram_too_long(i, mtu as u32);
                Err(Kept::Lost(Error::MessageTooLong))
            }
        }
    }

    /// Who listens here hears what is sent to a group or to all, too (Linux).
    #[cold]
    fn comes_back(&mut self, i: u32, d: &Dgram, header: &Header, way: &Way, ip: &ip::Repr) {
        let all = self.iface.is_broadcast(ip.dst);
        let to_group =
            ip.dst.is_multicast() && self.options_of(i) & option::MULTICAST_LOOP_OFF == 0;
        let dev = self.station(way.link).dev;
        if all || (to_group && self.is_member(dev, ip.dst, ip.src)) {
            let way = Way { link: Link::Loop, ..*way };
            let _ = self.emit_datagram(i, d, header, &way, ip);
        }
    }

    /// Whether packets of raw socket `i` have their headers already: by IP_HDRINCL, or as of protocol 255.
    fn writes_header(&self, i: u32, d: &Dgram, dst: IpAddr) -> bool {
        let asked = self.options_of(i) & option::HDRINCL != 0;
        dst.is_ipv4() && (asked || d.protocol == ip::protocol::RAW)
    }

    fn options_of(&self, i: u32) -> u32 {
        let s = &self.socks[i as usize];
        self.sessions[s.session as usize].options(s.id)
    }

    /// Where to, from where and by which link.
    fn datagram_way(&mut self, i: u32, d: &Dgram, header: &Header) -> Result<Way, Kept> {
        let (local, remote) = (self.socks[i as usize].local, self.socks[i as usize].remote);
        let mut to = match header.ip {
            [0, 0] => remote.get(),
            words => SocketAddr::new(ip_from_words(words), header.port),
        };
        to.set_ip(or_loopback(to.ip()));
        let dst = to.ip();
        let many = dst.is_multicast() || self.iface.is_broadcast(dst);
        if let Err(permission) = self.may_send(i, d.kind, header.ip != [0, 0], many) {
            self.counters.not_permitted += 1;
            return Err(Kept::Lost(Error::NotPermitted(permission)));
        }
        self.spoken(to).map_err(Kept::Lost)?;
        if to.port() == 0 && d.kind == Kind::Udp {
            return Err(Kept::Lost(Error::Invalid));
        }
        let given = ip_from_words(header.local);
        let given = header.flags & Header::SOURCE != 0 && !given.is_unspecified();
        let from = match given {
            true => ip_from_words(header.local),
            // Who is bound to everybody's address speaks from one of its own.
            false if self.is_everybodys(local.ip()) => ANY.ip(),
            false => local.ip(),
        };
        // Nobody speaks for others.
        if given && !from.is_loopback() && !self.iface.is_ours(from) {
            return Err(Kept::Lost(Error::Invalid));
        }
        let on = self.sends_by(i, header, dst).map_err(Kept::Lost)?;
        let src = match from {
            ip if !ip.is_unspecified() && ip.is_ipv4() == dst.is_ipv4() => ip,
            ip if !ip.is_unspecified() => return Err(Kept::Lost(Error::NetworkUnreachable)),
            _ => self
                .known_source(dst)
                .filter(|_| on.is_none())
                .or_else(|| self.source(dst, on))
                .ok_or(Kept::Lost(Error::NetworkUnreachable))?,
        };
        match self.route_from(src, dst, on) {
            Route::Via(link) => Ok(Way { link, src, to, many }),
            Route::Wait(entry) if self.leaves_later(i, d, header, entry) => {
                Ok(Way { link: Link::Later(entry), src, to, many })
            }
            Route::Wait(entry) => {
                self.wait_for(i, entry);
                Err(Kept::Waits(Served::Done))
            }
            Route::Later => Err(Kept::Lost(Error::NoBuffers)),
            Route::Unreachable if given => Err(Kept::Lost(Error::Invalid)),
            Route::Unreachable => Err(Kept::Lost(Error::NetworkUnreachable)),
        }
    }

    /// Whether a datagram waits for its neighbour in a frame, and so in nobody's way. Not if its program is to
    /// be told of its end: then it stays in the ring.
    fn leaves_later(&mut self, i: u32, d: &Dgram, header: &Header, entry: usize) -> bool {
        let told = d.kind == Kind::Ping || self.wants_notices(i);
        let mtu = self.nics[self.neighbours.dev(entry)].mtu as usize;
        let short = header.len as usize + ip::HEADER + udp::HEADER <= mtu;
        !told && short && self.has_pending_room(entry)
    }

    /// Whether a socket that is bound to `ip` is bound to a group's address or to everybody's.
    pub(super) fn is_everybodys(&self, ip: IpAddr) -> bool {
        !ip.is_unspecified() && (ip.is_multicast() || self.iface.is_broadcast(ip))
    }

    /// The card by which a datagram of socket `i` to `dst` leaves, if one is named: by itself (IP_PKTINFO, the scope of
    /// its address), by what the socket is bound to, or by its options
    /// (IP_MULTICAST_IF, IP_UNICAST_IF).
    fn sends_by(&self, i: u32, header: &Header, dst: IpAddr) -> Result<Option<Dev>, Error> {
        let s = &self.socks[i as usize];
        let otherwise = || {
            let words = self.sessions[s.session as usize].app(s.id).leaves_by().load(Relaxed);
            (if dst.is_multicast() { words } else { words >> 8 }) as u8
        };
        let number = match (header.flags & Header::DEVICE != 0, header.interface, s.device) {
            (true, number @ 1.., 0) => number,
            (true, number @ 1.., device) if number != device => return Err(Error::Invalid),
            (_, _, 0) => otherwise(),
            (_, _, device) => device,
        };
        match number {
            0 => Ok(None),
            Header::LOOP if !self.is_there(number, dst) => Err(Error::NetworkUnreachable),
            Header::LOOP => Ok(None),
            number => self.dev_of_number(number).map(Some).ok_or(Error::NoDevice),
        }
    }

    /// The IP header: what the datagram says itself, else what the socket says.
    fn datagram_ip(&mut self, i: u32, d: &Dgram, header: &Header, way: &Way) -> ip::Repr {
        let s = &self.socks[i as usize];
        let app = &self.sessions[s.session as usize].mem.apps[s.id as usize];
        let dst = way.to.ip();
        let hop_limit = match (header.ttl, app.ttl.load(Relaxed)) {
            (0, _) if dst.is_multicast() => app.multicast_ttl.load(Relaxed) ^ 1,
            (0, 0) => self.hop_limit_to(way.link, dst),
            (0, ttl) | (ttl, _) => ttl,
        };
        let own = header.flags & Header::TOS != 0;
        let tos = if own { header.tos } else { app.tos.load(Relaxed) };
        let before = match d.kind {
            Kind::Ping => 4,
            Kind::Raw => 0,
            _ => udp::HEADER,
        };
        let len = header.len as usize + before;
        let room = if dst.is_ipv4() { 20 } else { ip::HEADER };
        let dont_fragment = match self.options_of(i) & option::PMTU {
            option::PMTU_DONT => false,
            option::PMTU_DO | option::PMTU_PROBE => true,
            // What fits is not to be cut on the way: so a smaller MTU there is learnt.
            _ => len + room <= self.mtu_to(way.link, dst) && !self.paths.must_cut(dst, self.now),
        };
        let protocol = match (d.kind, dst) {
            (Kind::Ping, IpAddr::V4(_)) => ip::protocol::ICMP,
            (Kind::Ping, IpAddr::V6(_)) => ip::protocol::ICMPV6,
            (Kind::Raw, _) => d.protocol,
            _ => ip::protocol::UDP,
        };
        let ip = ip::Repr::new(way.src, dst, protocol, len as u16);
        ip::Repr { hop_limit, tos, dont_fragment, ..ip }
    }

    fn emit_datagram(
        &mut self,
        i: u32,
        d: &Dgram,
        header: &Header,
        way: &Way,
        ip: &ip::Repr,
    ) -> Sent {
        let at = (d.tx_head + Header::BYTES as u64) as u32;
        let port = self.socks[i as usize].local.port();
        let pseudo = Sum::pseudo(ip.src, ip.dst, ip.protocol, ip.payload_len);
        let mut transport = [0; udp::HEADER];
        let mut head = udp::HEADER;
        let (rest, check) = if d.kind == Kind::Ping {
            let mut seq = [0; 4];
            let _ = self.read_ring(i, at as u64, &mut seq);
            let seq = u16::from_be_bytes([seq[2], seq[3]]);
            let rest = self.ring_pieces(i, at.wrapping_add(4), header.len as u32 - 4);
            if ip.dst.is_ipv4() {
                icmp::emit_echo(false, port, seq, &mut transport);
                (rest, Some((2, Sum::ZERO)))
            } else {
                icmpv6::emit_echo(false, port, seq, &mut transport);
                (rest, Some((2, pseudo)))
            }
        } else if d.kind == Kind::Raw {
            // A checksum only where nobody else can make it (RFC 3542 3.1).
            let sums = ip.protocol == ip::protocol::ICMPV6 && header.len >= 4;
            head = if sums { udp::HEADER.min(header.len as usize) } else { 0 };
            let _ = self.read_ring(i, at as u64, &mut transport[..head]);
            if sums {
                transport[2..4].fill(0);
            }
            let rest = header.len as u32 - head as u32;
            let rest = self.ring_pieces(i, at.wrapping_add(head as u32), rest);
            (rest, sums.then_some((2, pseudo)))
        } else {
            let (src, dst) = (port, way.to.port());
            udp::Repr { src, dst, payload_len: header.len, has_checksum: true }
                .emit(&mut transport);
            let none = self.options_of(i) & option::NO_CHECK != 0 && ip.dst.is_ipv4();
            (self.ring_pieces(i, at, header.len as u32), (!none).then_some((6, pseudo)))
        };
        self.counters.udp_out += (d.kind == Kind::Udp) as u64;
        let body = &transport[..head];
        // The ring is reused once `snd` moves: a datagram must be copied, not named.
        let out = &mut Outgoing { ip: *ip, options: &[], body, check, rest };
        match self.options_of(i) & option::PMTU {
            // What is known of the path does not count: it is to be found out (RFC 4821).
            option::PMTU_PROBE => self.send_within(way.link, out, self.link_mtu(way.link, ip.dst)),
            _ => self.send_packet(way.link, out),
        }
    }

    /// Whether the program of socket `i` may send to where it has `named` itself, to `many` or one. sockd does
    /// not see datagrams. A program that may not connect still answers: from the ports that its
    /// manifest entry lists.
    fn may_send(&self, i: u32, kind: Kind, named: bool, many: bool) -> Result<(), Permission> {
        let s = &self.socks[i as usize];
        let spec = &self.sessions[s.session as usize].spec;
        if many && !spec.broadcast {
            return Err(Permission::Broadcast);
        }
        match named && kind == Kind::Udp && !spec.connect && !spec.lists(s.local.port()) {
            true => Err(Permission::Connect),
            false => Ok(()),
        }
    }
}
