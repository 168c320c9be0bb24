//! IP packets out, whole or in fragments (RFC 791 3.2), with options where an answer has some.

use super::Stack;
use super::rx::Packet;
use super::tx::{Check, Link, Payload, Route};
use crate::dev::{Dev, Station};
use crate::env::{At, Env};
use crate::port::{Frame, Room};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, EtherType};
use crate::wire::plain::{SHORT_HEAD, short_head};
use crate::wire::{ext, icmp, ip, ipv4, udp};
use core::net::IpAddr;
use libipc::nic::Csum;

/// Room for the longest headers before the transport's.
const NET: usize = ethernet::HEADER + ipv4::HEADER_MAX;
/// Room for the transport's, of those that are sent from here.
const BODY: usize = icmp::HEADER + ipv4::HEADER_MAX;
/// Longest packet over the loop.
const LOOP_MTU: usize = 65_535;

/// A packet to be sent.
pub(super) struct Outgoing<'a> {
    /// Its header; `payload_len` is set when it is sent.
    pub ip: ip::Repr,
    /// IPv4 options, whole words.
    pub options: &'a [u8],
    /// The transport's header, or the beginning of the payload.
    pub body: &'a [u8],
    /// Where in `body` a checksum belongs, and what it begins with.
    pub check: Option<(usize, Sum)>,
    /// The rest of the payload.
    pub rest: Payload<'a>,
}

/// How sending went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is on its way, or lost as packets are.
    Done,
    /// No room now.
    Blocked,
    /// It must not be cut, and is longer than this MTU.
    TooLong(u16),
}

/// Identifications of packets that may be cut: counted for each destination apart, from a random beginning (RFC 6864,
/// RFC 7739).
pub(super) struct Ids {
    counts: [u16; 256],
    key: u64,
}

impl Ids {
    pub(super) fn new(mut random: impl FnMut() -> u64) -> Self {
        Self { counts: core::array::from_fn(|_| random() as u16), key: random() }
    }
    /// The next one for the destination of these bits.
    #[inline]
    pub(super) fn next(&mut self, dst: u64) -> u16 {
        let hash = (dst ^ self.key).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        let id = &mut self.counts[hash as usize];
        *id = id.wrapping_add(1);
        *id
    }
}

impl<E: Env> Stack<E> {
    /// The way back to who sent `p`; `None`: there is none.
    pub(super) fn way_back(&mut self, p: &Packet<'_>) -> Option<Link> {
        match self.route_from(p.ip.dst, p.ip.src, p.only_by()) {
            Route::Via(link) => Some(link),
            Route::Wait(entry) => Some(Link::Later(entry)),
            Route::Later | Route::Unreachable => {
                self.counters.tx_no_route += 1;
                None
            }
        }
    }

    /// The longest packet for `dst` by `link`.
    #[inline]
    pub(super) fn mtu_to(&self, link: Link, dst: IpAddr) -> usize {
        let whole = self.link_mtu(link, dst);
        match link {
            Link::Loop => whole,
            _ => self.paths.mtu(dst, self.now).map_or(whole, |path| whole.min(path as usize)),
        }
    }

    /// The longest packet that `link` carries, of the family of `dst`.
    #[inline]
    pub(super) fn link_mtu(&self, link: Link, dst: IpAddr) -> usize {
        let nic = match link {
            Link::Loop => return LOOP_MTU,
            _ => &self.nics[self.station(link).dev],
        };
        (if dst.is_ipv4() { nic.mtu } else { nic.mtu_v6() }) as usize
    }

    /// An identification for a packet to `dst` that may be cut.
    pub(super) fn identification(&mut self, dst: IpAddr) -> u16 {
        let bits = match dst {
            IpAddr::V4(ip) => ip.to_bits() as u64,
            IpAddr::V6(ip) => ip.to_bits() as u64 ^ (ip.to_bits() >> 64) as u64,
        };
        self.ids.next(bits)
    }

    /// Sends a packet by `link`, in fragments if it must be and may be cut.
    pub(super) fn send_packet(&mut self, link: Link, out: &mut Outgoing<'_>) -> Sent {
        let mtu = self.mtu_to(link, out.ip.dst);
        self.send_within(link, out, mtu)
    }

    /// Likewise, if a packet may have `mtu` bytes.
    pub(super) fn send_within(&mut self, link: Link, out: &mut Outgoing<'_>, mtu: usize) -> Sent {
        let len = out.body.len() + out.rest.len();
        let header = if out.ip.dst.is_ipv4() { ipv4::HEADER } else { ip::HEADER };
        if len > u16::MAX as usize - header {
            return Sent::TooLong(u16::MAX);
        }
        out.ip.payload_len = len as u16;
        // As Linux: a datagram may be cut on the way in spite of DF, so it is numbered.
        let id = match out.ip.dont_fragment && out.ip.protocol != ip::protocol::UDP {
            true => 0,
            false => self.identification(out.ip.dst),
        };
        if header + out.options.len() + len <= mtu {
            return self.send_whole(link, out, id);
        }
        if out.ip.dont_fragment {
            return Sent::TooLong(mtu as u16);
        }
        self.send_fragments(link, out, id, mtu)
    }

    fn send_whole(&mut self, link: Link, out: &Outgoing<'_>, id: u16) -> Sent {
        if let (Link::Device(to), IpAddr::V4(src), IpAddr::V4(dst)) = (link, out.ip.src, out.ip.dst)
            && let (Ok(body), []) = (<&[u8; 8]>::try_from(out.body), out.options)
            && self.may_send_short(to.dev)
        {
            return self.send_short(to, &out.ip.v4(src, dst, id), *body, out);
        }
        let mut head = [0; NET + BODY];
        let Some(start) = self.ip_head(link, &out.ip, out.options, id, None, &mut head) else {
            return Sent::Done;
        };
        let end = NET + out.body.len();
        let Some(body) = head.get_mut(NET..end) else { return Sent::Done };
        body.copy_from_slice(out.body);
        self.label(&out.ip, out.body, &mut head[start..]);
        let from = NET - start;
        let csum = match out.ip.protocol {
            ip::protocol::UDP => Csum::Udp,
            _ => Csum::None,
        };
        let check = out.check.map(|(field, pseudo)| Check {
            field: from + field,
            from,
            pseudo,
            csum,
            segment: 0,
            copied: true,
        });
        match self.transmit(link, &mut head[start..end], check, out.rest) {
            true => Sent::Done,
            false => Sent::Blocked,
        }
    }

    /// Whether nothing looks at packets on their way out by `dev`.
    #[inline]
    pub(super) fn may_send_short(&self, dev: Dev) -> bool {
        let nic = &self.nics[dev];
        nic.up && self.is_straight() && nic.closed_until <= self.now
    }

    /// Sends what nearly every datagram and every echo is: a whole packet of IPv4 without options, with a
    /// transport's header `body` of eight bytes, to the station `to`.
    fn send_short(
        &mut self,
        to: Station,
        ip: &ipv4::Repr,
        body: [u8; 8],
        out: &Outgoing<'_>,
    ) -> Sent {
        let len = SHORT_HEAD + out.rest.len();
        let port = &mut self.nics[to.dev].port;
        let Some(room) = port.reserve(len) else { return Sent::Blocked };
        let headers = port.headers();
        let copied = self.copy_payload(out.rest, At(&headers, room.offset + SHORT_HEAD));
        let Some(sum) = copied else {
            debug_assert!(false, "payload out of range");
            return Sent::Done;
        };
        let mut body = body;
        if let Some((field, pseudo)) = out.check {
            let check = transport_check(ip.protocol, pseudo.bytes(&body).and(sum, false));
            let Some(field) = body.get_mut(field..field + 2) else { return Sent::Done };
            field.copy_from_slice(&check);
        }
        self.put_short(to, room, ip, body, len);
        Sent::Done
    }

    /// Sends the frame of `len` bytes in `room`, whose payload is there, to the station `to`, with headers of `ip` and
    /// a transport's header `body`.
    #[inline(always)]
    pub(super) fn put_short(
        &mut self,
        to: Station,
        room: Room,
        ip: &ipv4::Repr,
        body: [u8; 8],
        len: usize,
    ) {
        let nic = &mut self.nics[to.dev];
        let head = short_head(to.mac, nic.mac, ip, body);
        let _ = nic.port.headers().write(room.offset, &head);
        nic.port.send(room, &Frame::whole(len));
        self.counters.tx_frames += 1;
    }

    /// RFC 791 3.2: pieces of as many whole units of eight bytes as fit, the last of what is left.
    fn send_fragments(&mut self, link: Link, out: &Outgoing<'_>, id: u16, mtu: usize) -> Sent {
        let header =
            if out.ip.dst.is_ipv4() { ipv4::HEADER + out.options.len() } else { ip::HEADER + 8 };
        let piece = mtu.saturating_sub(header) & !7;
        let (body_len, len) = (out.body.len(), out.ip.payload_len as usize);
        if piece <= body_len || body_len > BODY {
            return Sent::Done;
        }
        // All of them or none: a part of a datagram is of no use to anybody.
        if let Link::Device(to) = link
            && !self.nic(to.dev).port.has_room_for(len.div_ceil(piece), mtu + 14)
        {
            return Sent::Blocked;
        }
        let Some(body) = self.summed(out) else { return Sent::Done };
        let copied: heapless::Vec<u8, { ipv4::HEADER_MAX }> = copied_options(out.options);
        let mut at = 0;
        while at < len {
            let part = piece.min(len - at);
            let options = if at == 0 { out.options } else { &copied };
            let ip = ip::Repr { payload_len: part as u16, ..out.ip };
            let fragment = Some((at as u16, at + part < len));
            let mut head = [0; NET + BODY];
            let Some(start) = self.ip_head(link, &ip, options, id, fragment, &mut head) else {
                return Sent::Done;
            };
            self.label(&out.ip, out.body, &mut head[start..]);
            let (end, rest) = match at {
                0 => (NET + body_len, out.rest.part(0, part - body_len)),
                _ => (NET, out.rest.part(at - body_len, part)),
            };
            if at == 0 {
                head[NET..end].copy_from_slice(&body[..body_len]);
            }
            self.transmit(link, &mut head[start..end], None, rest);
            self.counters.fragments_sent += 1;
            at += part;
        }
        Sent::Done
    }

    /// The transport's header with the checksum of the whole.
    fn summed(&mut self, out: &Outgoing<'_>) -> Option<[u8; BODY]> {
        let mut body = [0; BODY];
        body.get_mut(..out.body.len())?.copy_from_slice(out.body);
        if let Some((field, pseudo)) = out.check {
            let rest = self.sum_payload(out.rest)?;
            let all = pseudo.bytes(out.body).and(rest, out.body.len() % 2 == 1);
            let check = transport_check(out.ip.protocol, all);
            body.get_mut(field..field + 2)?.copy_from_slice(&check);
        }
        Some(body)
    }

    fn sum_payload(&mut self, payload: Payload<'_>) -> Option<Sum> {
        match payload {
            Payload::None => Some(Sum::ZERO),
            Payload::Slice(bytes) => Some(Sum::ZERO.bytes(bytes)),
            Payload::At(from, len) => self.env.sum(from, len),
            Payload::Ring(session, [a, b]) => {
                let tx = self.sessions[session as usize].mem.tx;
                let first = self.env.sum(At(&tx, a.offset as usize), a.len as usize)?;
                let rest = self.env.sum(At(&tx, b.offset as usize), b.len as usize)?;
                Some(first.and(rest, a.len % 2 == 1))
            }
        }
    }

    /// Ethernet and IP headers of a packet or a fragment (its offset, whether more follow), so that
    /// they end at [`NET`]; yields where they begin. `None`: there is no such header.
    fn ip_head(
        &mut self,
        link: Link,
        ip: &ip::Repr,
        options: &[u8],
        id: u16,
        fragment: Option<(u16, bool)>,
        head: &mut [u8; NET + BODY],
    ) -> Option<usize> {
        let out = head.get_mut(ethernet::HEADER..)?.first_chunk_mut::<{ ipv4::HEADER_MAX }>()?;
        let (start, ty) = match (ip.src, ip.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let (offset, more) = fragment.unwrap_or((0, false));
                let header = ipv4::Repr { offset, more, ..ip.v4(src, dst, id) };
                (header.emit_with(options, out)?, EtherType::Ipv4)
            }
            _ => {
                let (len, ip) = match fragment {
                    Some(part) => self.fragment_header(ip, id, part, out.last_chunk_mut()?),
                    None => (0, *ip),
                };
                let end = ipv4::HEADER_MAX - len;
                let (len, ty) = ip.emit(id, out[..end].last_chunk_mut()?)?;
                (end - len, ty)
            }
        };
        let Station { dev, mac: dst } = self.station(link);
        let eth = head.get_mut(start..)?.first_chunk_mut()?;
        ethernet::Repr { dst, src: self.nics[dev].mac, ty }.emit(eth);
        Some(start)
    }

    /// The station that a frame by `link` is for; until it is known, this one.
    pub(super) fn station(&self, link: Link) -> Station {
        let own = |dev: Dev| Station { dev, mac: self.nics[dev].mac };
        match link {
            Link::Device(to) => to,
            Link::Loop => own(Dev::FIRST),
            Link::Later(entry) => own(self.neighbours.dev(entry)),
        }
    }

    /// RFC 8200 4.5: writes the fragment header of a part (its offset, whether more follow); yields its
    /// length, and the IPv6 header before it.
    fn fragment_header(
        &self,
        ip: &ip::Repr,
        id: u16,
        (offset, more): (u16, bool),
        out: &mut [u8; ext::FRAGMENT_HEADER],
    ) -> (usize, ip::Repr) {
        // Of as many bits as there are, half a number that others cannot know (RFC 7739).
        let id = (self.secrets.shown.1 as u32) << 16 | id as u32;
        ext::emit_fragment(&ext::Fragment { next: ip.protocol, offset, more, id }, out);
        let payload_len = ip.payload_len + ext::FRAGMENT_HEADER as u16;
        let protocol = ext::number::FRAGMENT;
        (ext::FRAGMENT_HEADER, ip::Repr { protocol, payload_len, ..*ip })
    }
}

/// A transport's checksum of what sums up to `sum`.
#[inline]
pub(super) fn transport_check(protocol: u8, sum: Sum) -> [u8; 2] {
    match sum.finish() {
        // RFC 768: zero means that there is none.
        [0, 0] if protocol == ip::protocol::UDP => [0xff; 2],
        check => check,
    }
}

/// The options that later fragments have, too: those with the copied flag (RFC 791 3.1); others are
/// left out, and the rest is padded.
fn copied_options(options: &[u8]) -> heapless::Vec<u8, { ipv4::HEADER_MAX }> {
    let mut copied = heapless::Vec::new();
    let mut rest = options;
    while let [kind, tail @ ..] = rest {
        let len = match (kind, tail) {
            (0, _) => break,
            (1, _) => 1,
            (_, [len, ..]) => (*len as usize).clamp(2, rest.len()),
            (_, []) => break,
        };
        let (option, after) = rest.split_at(len);
        if kind & 0x80 != 0 {
            let _ = copied.extend_from_slice(option);
        }
        rest = after;
    }
    while !copied.len().is_multiple_of(4) && copied.push(0).is_ok() {}
    copied
}

const _: () = assert!(udp::HEADER <= BODY);

#[cfg(test)]
mod tests {
    use super::copied_options;

    #[test]
    fn later_fragments_have_the_options_that_are_to_be_copied() {
        let record_route = [7, 7, 8, 10, 0, 0, 1, 0];
        assert!(copied_options(&record_route).is_empty());
        let both = [1, 0x94, 4, 0, 0, 7, 3, 4];
        assert_eq!(copied_options(&both)[..], [0x94, 4, 0, 0]);
        assert_eq!(copied_options(&[0x83, 3, 4])[..], [0x83, 3, 4, 0]);
        assert!(copied_options(&[0x83]).is_empty() && copied_options(&[]).is_empty());
    }
}
