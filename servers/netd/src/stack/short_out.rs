//! The short way out for a UDP datagram of IPv4 that fits a frame, to a station that is known ([`super::ways`]). Whatever is
//! said with it or about it, and whatever may not leave, takes the long way through `dgram_out`; what leaves is the same.

use super::packet::transport_check;
use super::{Body, Stack};
use crate::env::{At, Env};
use crate::wire::checksum::Sum;
use crate::wire::ip::{HOP_LIMIT, protocol};
use crate::wire::plain::SHORT_HEAD;
use crate::wire::{ethernet, ipv4, udp};
use core::net::{IpAddr, Ipv4Addr};
use core::sync::atomic::Ordering::Relaxed;
use libipc::sock::{Dgram as Header, Kind, option};

/// Such a datagram.
struct Short {
    src: (u32, u16),
    dst: (u32, u16),
    /// Where in the ring its bytes are, and how many.
    at: u32,
    len: u16,
    tos: u8,
    ttl: u8,
    dont_fragment: bool,
}

impl<E: Env> Stack<E> {
    /// Sends the first datagram of socket `i` if it is one, and yields its length. `ready`: cards that are known to
    /// take frames.
    #[inline(never)]
    pub(super) fn short_out(&mut self, i: u32, ready: u8) -> Option<usize> {
        let short = self.first_short(i)?;
        self.put_datagram(i, &short, ready)
    }

    #[inline(always)]
    fn first_short(&self, i: u32) -> Option<Short> {
        let s = &self.socks[i as usize];
        let Body::Dgram(d) = &s.body else { return None };
        let (left, mut bytes) = (d.tx_tail - d.tx_head, [0; Header::BYTES]);
        if left < Header::BYTES as u64 || !self.read_ring(i, d.tx_head, &mut bytes) {
            return None;
        }
        let header = Header::from_bytes(&bytes);
        let dst = match header.ip {
            [0, 0] => s.remote.v4()?,
            [0, low] if low >> 32 == 0xffff => (low as u32, header.port),
            _ => return None,
        };
        let session = &self.sessions[s.session as usize];
        let app = session.app(s.id);
        let options = app.options.load(Relaxed);
        let usual = d.kind == Kind::Udp
            && Header::space(header.len as usize) <= left
            && header.flags == 0
            && s.device == 0
            && app.leaves_by().load(Relaxed) == 0
            && session.spec.connect
            && dst.1 != 0
            && options & option::NO_CHECK == 0;
        if !usual {
            return None;
        }
        let ttl = match (header.ttl, app.ttl.load(Relaxed)) {
            (0, 0) => HOP_LIMIT,
            (0, ttl) | (ttl, _) => ttl,
        };
        Some(Short {
            src: s.local.v4()?,
            dst,
            at: (d.tx_head + Header::BYTES as u64) as u32,
            len: header.len,
            tos: app.tos.load(Relaxed),
            ttl,
            dont_fragment: options & option::PMTU != option::PMTU_DONT,
        })
    }

    #[inline(always)]
    fn put_datagram(&mut self, i: u32, p: &Short, ready: u8) -> Option<usize> {
        let (src, to) = self.known_way_to(p.src.0, p.dst.0)?;
        let len = SHORT_HEAD + p.len as usize;
        let fits = len <= ethernet::HEADER + self.nics[to.dev].mtu as usize;
        let may = fits && self.may_send_short(to.dev);
        if !may || (ready & to.dev.bit() == 0 && !self.is_ready(to.dev)) {
            return None;
        }
        let payload = self.ring_pieces(i, p.at, p.len as u32);
        let port = &mut self.nics[to.dev].port;
        let (room, headers) = (port.reserve(len)?, port.headers());
        let sum = self.copy_payload(payload, At(&headers, room.offset + SHORT_HEAD))?;
        let (dst, payload_len) = (Ipv4Addr::from_bits(p.dst.0), p.len + udp::HEADER as u16);
        let ([a, b], [c, d]) = (p.src.1.to_be_bytes(), p.dst.1.to_be_bytes());
        let [e, f] = payload_len.to_be_bytes();
        let pseudo = Sum::pseudo(IpAddr::V4(src), IpAddr::V4(dst), protocol::UDP, payload_len);
        let sum = pseudo.bytes(&[a, b, c, d, e, f, 0, 0]).and(sum, false);
        let [g, h] = transport_check(protocol::UDP, sum);
        let ip = ipv4::Repr {
            id: self.identification(IpAddr::V4(dst)),
            tos: p.tos,
            ttl: p.ttl,
            dont_fragment: p.dont_fragment,
            ..ipv4::Repr::new(src, dst, protocol::UDP, payload_len)
        };
        self.counters.udp_out += 1;
        self.put_short(to, room, &ip, [a, b, c, d, e, f, g, h], len);
        Some(p.len as usize)
    }
}
