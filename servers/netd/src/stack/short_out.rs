//! The short way out for a UDP datagram of IPv4 that fits a frame, to a station that is known ([`super::ways`]). Whatever is
//! said with it or about it, and whatever may not leave, takes the long way through `dgram_out`; what leaves is the same.

use super::Stack;
use super::dgram::Dgram;
use super::packet::transport_check;
use crate::env::{At, Env};
use crate::wire::checksum::Sum;
use crate::wire::ip::{HOP_LIMIT, protocol};
use crate::wire::plain::SHORT_HEAD;
use crate::wire::{ethernet, ipv4};
use core::net::{IpAddr, Ipv4Addr};
use core::sync::atomic::Ordering::Relaxed;
use libipc::sock::{Dgram as Header, Kind, option};

impl<E: Env> Stack<E> {
    /// Whether the first datagram of socket `i` has been sent. `ready`: cards that are known to take frames.
    #[inline]
    pub(super) fn short_out(&mut self, i: u32, d: &Dgram, header: &Header, ready: u8) -> bool {
        self.try_short_out(i, d, header, ready).is_some()
    }

    #[inline(always)]
    fn try_short_out(&mut self, i: u32, d: &Dgram, header: &Header, ready: u8) -> Option<()> {
        let s = &self.socks[i as usize];
        let session = &self.sessions[s.session as usize];
        let app = session.app(s.id);
        let (dst, dst_port) = match header.ip {
            [0, 0] => s.remote.v4()?,
            [0, low] if low >> 32 == 0xffff => (low as u32, header.port),
            _ => return None,
        };
        let (src, src_port) = s.local.v4()?;
        let options = app.options.load(Relaxed);
        let usual = d.kind == Kind::Udp
            && header.flags == 0
            && s.device == 0
            && app.queue.load(Relaxed) == 0
            && session.spec.connect
            && dst_port != 0
            && options & option::NO_CHECK == 0;
        if !usual {
            return None;
        }
        let dont_fragment = options & option::PMTU != option::PMTU_DONT;
        let tos = app.tos.load(Relaxed);
        let ttl = [header.ttl, app.ttl.load(Relaxed), HOP_LIMIT];
        let ttl = ttl.into_iter().find(|ttl| *ttl != 0)?;
        let (src, to) = self.known_way_to(src, dst)?;
        let len = SHORT_HEAD + header.len as usize;
        let fits = len <= ethernet::HEADER + self.nics[to.dev].mtu as usize;
        let may = fits && self.may_send_short(to.dev);
        if !may || (ready & to.dev.bit() == 0 && !self.is_ready(to.dev)) {
            return None;
        }
        let port = &mut self.nics[to.dev].port;
        let (room, headers) = (port.reserve(len)?, port.headers());
        let at = (d.tx_head + Header::BYTES as u64) as u32;
        let payload = self.ring_pieces(i, at, header.len as u32);
        let sum = self.copy_payload(payload, At(&headers, room.offset + SHORT_HEAD))?;
        let (dst, payload_len) = (Ipv4Addr::from_bits(dst), header.len + 8);
        let ([a, b], [c, d], [e, f]) =
            (src_port.to_be_bytes(), dst_port.to_be_bytes(), payload_len.to_be_bytes());
        let (from, dst_ip) = (IpAddr::V4(src), IpAddr::V4(dst));
        let pseudo = Sum::pseudo(from, dst_ip, protocol::UDP, payload_len);
        let sum = pseudo.bytes(&[a, b, c, d, e, f, 0, 0]).and(sum, false);
        let [g, h] = transport_check(protocol::UDP, sum);
        let id = self.identification(dst_ip);
        let whole = ipv4::Repr::new(src, dst, protocol::UDP, payload_len);
        let ip = ipv4::Repr { id, tos, ttl, dont_fragment, ..whole };
        self.counters.udp_out += 1;
        self.put_short(to, room, &ip, [a, b, c, d, e, f, g, h], len);
        Some(())
    }
}
