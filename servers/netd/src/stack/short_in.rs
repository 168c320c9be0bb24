//! The short way in for datagrams and echo requests: whole packets of IPv4 without options, from another host to an
//! address of ours. Nothing is different from the long way through `rx`, `dgram` and `icmp`, which takes whatever is unusual:
//! what is damaged, has no receiver or finds no room.

use super::packet::transport_check;
use super::{Body, Stack};
use crate::demux::Space;
use crate::dev::Dev;

use crate::env::{At, Env};
use crate::wire::checksum::Sum;
use crate::wire::dhcp::CLIENT_PORT;
use crate::wire::ip::{HOP_LIMIT, protocol};
use crate::wire::ipv4;
use crate::wire::plain::{SHORT_HEAD, whole_v4};
use core::net::IpAddr;
use libipc::sock::Dgram as Header;

/// Where in a frame the protocol stands, and the transport's header.
const PROTOCOL: usize = 23;
const TRANSPORT: usize = 34;
/// What is read of one: with a length that is known, a few instructions.
const HEAD: usize = 48;

/// Such a packet.
struct Short<'a> {
    ip: ipv4::Repr,
    /// The transport's header.
    body: [u8; 8],
    /// What follows it, of so many bytes.
    rest: At<'a>,
    len: usize,
    checked: bool,
    dev: Dev,
}

impl<E: Env> Stack<E> {
    /// Whether the frame of `len` bytes at `from`, which came by card `dev`, was one: then it is done with.
    #[inline(never)]
    pub(super) fn short_in(&mut self, from: At<'_>, len: usize, checked: bool, dev: Dev) -> bool {
        let At(mem, at) = from;
        let mut head = [0; HEAD];
        let read = mem.read(at, &mut head);
        let udp = head[PROTOCOL] == protocol::UDP;
        if !read || !udp && head[PROTOCOL] != protocol::ICMP || udp && self.demux.has_bound() {
            return false;
        }
        let (Some(first), Some(body)) = (head.first_chunk(), head[TRANSPORT..].first_chunk())
        else {
            return false;
        };
        let Some((_, ip)) = whole_v4(first, len, self.nics[dev].mac) else { return false };
        if ip.payload_len < 8 || !self.iface.is_from_host_to_us(ip.src, ip.dst) {
            return false;
        }
        let (rest, len) = (At(mem, at + SHORT_HEAD), ip.payload_len as usize - 8);
        let p = Short { ip, body: *body, rest, len, checked, dev };
        if udp { self.short_datagram(&p) } else { self.short_echo(&p) }
    }

    #[inline(always)]
    fn short_datagram(&mut self, p: &Short<'_>) -> bool {
        let [a, b, c, d, e, f, check @ ..] = p.body;
        let (src, dst) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if u16::from_be_bytes([e, f]) != p.ip.payload_len || check == [0, 0] || dst == CLIENT_PORT {
            return false;
        }
        let (from, to) = (p.ip.src.to_bits(), p.ip.dst.to_bits());
        let Some(i) = self.demux.lookup_v4(Space::Udp, (to, dst), (from, src)) else {
            return false;
        };
        let s = &self.socks[i as usize];
        let Body::Dgram(d) = &s.body else { return false };
        let at = d.rx_tail;
        if (1u64 << s.rings.rx_bits) - (at - d.rx_head) < Header::space(p.len) {
            return false;
        }
        let behind = (at + Header::BYTES as u64) as u32;
        let Some(sum) = self.store_at(i, p.rest, behind, p.len) else { return false };
        let (src_ip, dst_ip) = (IpAddr::V4(p.ip.src), IpAddr::V4(p.ip.dst));
        let before = || Sum::pseudo(src_ip, dst_ip, protocol::UDP, p.ip.payload_len).bytes(&p.body);
        if !p.checked && !before().and(sum, false).is_intact() {
            return false;
        }
        self.counters.udp_in += 1;
        let header = Header {
            len: p.len as u16,
            port: src,
            ttl: p.ip.ttl,
            tos: p.ip.tos,
            flags: 0,
            interface: p.dev.number(),
            ip: mapped(from),
            local: mapped(to),
        };
        self.entered(i, at, &header)
    }

    /// An echo request: what it brings is copied into the answer at once.
    #[inline(always)]
    fn short_echo(&mut self, p: &Short<'_>) -> bool {
        let [8, 0, _, _, about @ ..] = p.body else { return false };
        let (us, peer) = (p.ip.dst, p.ip.src);
        let Some((_, to)) = self.known_way_to(us.to_bits(), peer.to_bits()) else { return false };
        // By another card it may be too long.
        if to.dev != p.dev || !self.may_send_short(p.dev) || peer.is_link_local() {
            return false;
        }
        let len = SHORT_HEAD + p.len;
        let port = &mut self.nics[p.dev].port;
        let Some(room) = port.reserve(len) else { return false };
        let headers = port.headers();
        let Some(sum) = self.env.copy_sum(p.rest, At(&headers, room.offset + SHORT_HEAD), p.len)
        else {
            return false;
        };
        if !p.checked && !sum.bytes(&p.body).is_intact() {
            return false;
        }
        self.counters.icmp_in += 1;
        self.note_answered(peer, about);
        let [a, b, c, d] = about;
        let [e, f] = transport_check(protocol::ICMP, sum.bytes(&about));
        let id = self.identification(IpAddr::V4(peer));
        let ip = ipv4::Repr {
            id,
            tos: p.ip.tos,
            ttl: HOP_LIMIT,
            dont_fragment: false,
            ..ipv4::Repr::new(us, peer, protocol::ICMP, p.ip.payload_len)
        };
        self.put_short(to, room, &ip, [0, 0, e, f, a, b, c, d], len);
        self.counters.icmp_out += 1;
        true
    }
}

/// An address as it stands in a ring ([`libipc::sock::ip_words`]).
fn mapped(ip: u32) -> [u64; 2] {
    [0, 0xffff << 32 | ip as u64]
}
