//! The short way in for datagrams and echo requests ([`crate::wire::short`]), from another host to an address of ours.
//! Nothing is different from the long way through `rx`, `dgram` and `icmp`, which takes whatever is unusual: what is damaged,
//! has no receiver or finds no room.

use super::packet::transport_check;
use super::{Body, Stack};
use crate::demux::Space;
use crate::dev::Dev;
use crate::env::{At, Env};
use crate::wire::dhcp::CLIENT_PORT;
use crate::wire::ip::{HOP_LIMIT, protocol};
use crate::wire::ipv4;
use crate::wire::plain::SHORT_HEAD;
use crate::wire::short::{HEAD, Short};
use core::net::{IpAddr, Ipv4Addr};
use libipc::sock::Dgram as Header;

/// Where in a frame the protocol stands.
const PROTOCOL: usize = 23;

impl<E: Env> Stack<E> {
    /// Whether the frame of `len` bytes at `from`, which came by card `dev`, was one: then it is done with.
    #[inline]
    pub(super) fn short_in(&mut self, from: At<'_>, len: usize, checked: bool, dev: Dev) -> bool {
        match from.0.get(from.1 + PROTOCOL) {
            // A socket that is bound to an interface may be meant.
            Some([protocol::UDP]) if self.demux.has_bound() => false,
            Some([protocol::UDP]) => self.short_datagram(from, len, checked, dev),
            Some([protocol::ICMP]) => self.short_echo(from, len, checked, dev),
            _ => false,
        }
    }

    #[inline(always)]
    fn short(&self, At(mem, at): At<'_>, len: usize, dev: Dev) -> Option<Short> {
        let p = Short::parse(&mem.get::<HEAD>(at)?, len, self.nics[dev].mac)?;
        self.iface.is_from_host_to_us(p.src, p.dst).then_some(p)
    }

    #[inline(never)]
    fn short_datagram(&mut self, from: At<'_>, len: usize, checked: bool, dev: Dev) -> bool {
        let Some(p) = self.short(from, len, dev) else { return false };
        let [a, b, c, d, e, f, check @ ..] = p.body;
        let (src, dst) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let whole = u16::from_be_bytes([e, f]) == p.len + 8;
        if !whole || check == [0, 0] || dst == CLIENT_PORT {
            return false;
        }
        let (peer, us) = (p.src.to_bits(), p.dst.to_bits());
        let Some(i) = self.demux.lookup_v4(Space::Udp, (us, dst), (peer, src)) else {
            return false;
        };
        let s = &self.socks[i as usize];
        let Body::Dgram(d) = &s.body else { return false };
        let at = d.rx_tail;
        if (1u64 << s.rings.rx_bits) - (at - d.rx_head) < Header::space(p.len as usize) {
            return false;
        }
        let (rest, behind) = (At(from.0, from.1 + SHORT_HEAD), at + Header::BYTES as u64);
        let Some(sum) = self.store_at(i, rest, behind as u32, p.len as usize) else { return false };
        if !checked && !p.pseudo.and(p.sum, false).and(sum, false).is_intact() {
            return false;
        }
        self.counters.udp_in += 1;
        let header = Header {
            len: p.len,
            port: src,
            ttl: p.ttl,
            tos: p.tos,
            flags: 0,
            interface: dev.number(),
            ip: mapped(p.src),
            local: mapped(p.dst),
        };
        self.entered(i, at, &header)
    }

    /// An echo request: what it brings is copied into the answer at once.
    #[inline(never)]
    fn short_echo(&mut self, from: At<'_>, len: usize, checked: bool, dev: Dev) -> bool {
        let Some(p) = self.short(from, len, dev) else { return false };
        let [8, 0, _, _, about @ ..] = p.body else { return false };
        let (us, peer) = (p.dst, p.src);
        let Some((_, to)) = self.known_way_to(us.to_bits(), peer.to_bits()) else { return false };
        // By another card it may be too long.
        if to.dev != dev || !self.may_send_short(dev) || peer.is_link_local() {
            return false;
        }
        let len = SHORT_HEAD + p.len as usize;
        let port = &mut self.nics[dev].port;
        let Some(room) = port.reserve(len) else { return false };
        let headers = port.headers();
        let (rest, place) = (At(from.0, from.1 + SHORT_HEAD), room.offset + SHORT_HEAD);
        let Some(sum) = self.env.copy_sum(rest, At(&headers, place), p.len as usize) else {
            return false;
        };
        if !checked && !p.sum.and(sum, false).is_intact() {
            return false;
        }
        self.counters.icmp_in += 1;
        self.note_answered(peer, about);
        let [a, b, c, d] = about;
        let [e, f] = transport_check(protocol::ICMP, sum.bytes(&about));
        let ip = ipv4::Repr {
            id: self.identification(IpAddr::V4(peer)),
            tos: p.tos,
            ttl: HOP_LIMIT,
            dont_fragment: false,
            ..ipv4::Repr::new(us, peer, protocol::ICMP, p.len + 8)
        };
        self.put_short(to, room, &ip, [0, 0, e, f, a, b, c, d], len);
        self.counters.icmp_out += 1;
        true
    }
}

/// An address as it stands in a ring ([`libipc::sock::ip_words`]).
fn mapped(ip: Ipv4Addr) -> [u64; 2] {
    [0, 0xffff << 32 | ip.to_bits() as u64]
}
