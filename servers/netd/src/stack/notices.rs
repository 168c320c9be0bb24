//! What a datagram socket is told of errors: a number always, and what the error queue of Linux has
//! if the program wants it (IP_RECVERR, [`libipc::sock::Notice`]).

use super::dgram::Dgram;
use super::rx::Packet;
use super::{Body, Stack};
use crate::env::Env;
use crate::wire::icmp::Quote;
use crate::wire::{icmp, udp};
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering::*;
use libipc::sock::{Dgram as Header, Error, Kind, Notice, ip_from_words, ip_words, option};

/// Most of a datagram of ours that a notice of our own quotes.
const QUOTED: usize = 64;

impl<E: Env> Stack<E> {
    /// Whether the program of socket `i` wants notices.
    pub(super) fn wants_notices(&self, i: u32) -> bool {
        let s = &self.socks[i as usize];
        self.sessions[s.session as usize].options(s.id) & option::RECVERR != 0
    }

    /// Tells the program of an error: the last one counts, and every one is counted.
    pub(super) fn dgram_error(&mut self, i: u32, error: Error) {
        let rec = self.sock(i).rec;
        rec.error.store(error.to_raw(), Release);
        rec.events.store(rec.events.load(Relaxed).wrapping_add(1), Release);
        self.ready(i);
    }

    /// The neighbour did not answer: the datagram that waited is lost. To Linux that is an ICMP error
    /// of its own.
    pub(super) fn dgram_unreachable(&mut self, i: u32) {
        let Some((d, header)) = self.first_datagram(i) else { return };
        let to = self.destination(i, &header);
        let (origin, ty, code) = match to.ip() {
            IpAddr::V4(_) => (Notice::ICMP, 3, 1),
            IpAddr::V6(_) => (Notice::ICMP6, 1, 3),
        };
        let errno = Error::HostUnreachable.errno() as u32;
        let from = self.source(to.ip(), None).unwrap_or(to.ip());
        self.own_notice(i, &d, &header, Notice { errno, origin, ty, code, info: 0 }, from);
        let space = Header::space(header.len as usize).min(d.tx_tail - d.tx_head);
        let s = self.sock(i);
        if let Body::Dgram(d) = &mut s.body {
            d.tx_head += space;
            s.rec.snd.store(d.tx_head, Release);
        }
        // To nobody else, as an error that may pass (RFC 1122 4.1.3.3, `report_datagrams`).
        if d.kind == Kind::Ping || self.wants_notices(i) {
            self.dgram_error(i, Error::HostUnreachable);
        }
        self.want_send(i);
    }

    /// The next datagram cannot be sent as it is: it is longer than `mtu` lets it be.
    pub(super) fn dgram_too_long(&mut self, i: u32, mtu: u32) {
        let Some((d, header)) = self.first_datagram(i) else { return };
        let errno = Error::MessageTooLong.errno() as u32;
        let notice = Notice { errno, origin: Notice::LOCAL, info: mtu, ..Notice::default() };
        let from = self.destination(i, &header).ip();
        self.own_notice(i, &d, &header, notice, from);
    }

    fn first_datagram(&self, i: u32) -> Option<(Dgram, Header)> {
        let Body::Dgram(d) = self.socks[i as usize].body else { return None };
        let mut bytes = [0; Header::BYTES];
        let there = d.tx_tail > d.tx_head && self.read_ring(i, d.tx_head, &mut bytes);
        there.then(|| (d, Header::from_bytes(&bytes)))
    }

    fn destination(&self, i: u32, header: &Header) -> SocketAddr {
        match header.ip {
            [0, 0] => self.socks[i as usize].remote.get(),
            words => SocketAddr::new(ip_from_words(words), header.port),
        }
    }

    fn own_notice(&mut self, i: u32, d: &Dgram, header: &Header, notice: Notice, from: IpAddr) {
        if !self.wants_notices(i) {
            return;
        }
        let mut bytes = [0; Notice::BYTES + QUOTED];
        let quoted = (header.len as usize).min(QUOTED);
        bytes[..Notice::BYTES].copy_from_slice(&notice.to_bytes());
        let at = d.tx_head + Header::BYTES as u64;
        if !self.read_ring(i, at, &mut bytes[Notice::BYTES..Notice::BYTES + quoted]) {
            return;
        }
        let entry = Header {
            flags: Header::NOTICE,
            local: ip_words(from),
            ..Header::new(Some(self.destination(i, header)), (Notice::BYTES + quoted) as u16)
        };
        let Some(at) = self.room_for(i, Notice::BYTES + quoted) else { return };
        let place = at + Header::BYTES as u64;
        if self.write_ring(i, place, &bytes[..Notice::BYTES + quoted]) {
            self.entered(i, at, &entry);
        }
    }

    /// An ICMP error `p` about the datagram of socket `i` that it quotes.
    pub(super) fn icmp_notice(
        &mut self,
        i: u32,
        d: &Dgram,
        error: Error,
        p: &Packet<'_>,
        q: &Quote,
    ) {
        if !self.wants_notices(i) {
            return;
        }
        let Some(&[ty, code, _, _, a, b, c, e]) = p.head.first_chunk::<8>() else { return };
        let v4 = p.ip.src.is_ipv4();
        let info = match ty {
            // Of IPv4 only an MTU and a pointer are told.
            3 if v4 && code == icmp::TOO_BIG => u32::from_be_bytes([0, 0, c, e]),
            12 if v4 => a as u32,
            _ if v4 => 0,
            _ => u32::from_be_bytes([a, b, c, e]),
        };
        let origin = if v4 { Notice::ICMP } else { Notice::ICMP6 };
        let notice = Notice { errno: error.errno() as u32, origin, ty, code, info };
        let behind = if d.kind == Kind::Ping { 0 } else { udp::HEADER };
        let skipped = icmp::HEADER + q.header as usize + behind;
        let whole = (q.len as usize).saturating_sub(q.header as usize + behind);
        let quoted = p.len().saturating_sub(skipped).min(whole);
        let half = |at: usize| u16::from_be_bytes([q.transport[at], q.transport[at + 1]]);
        let port = if d.kind == Kind::Ping { 0 } else { half(2) };
        let len = Notice::BYTES + quoted;
        let Some(at) = self.room_for(i, len) else { return };
        let entry = Header {
            flags: Header::NOTICE,
            local: ip_words(p.ip.src),
            ..Header::new(Some(SocketAddr::new(q.dst, port)), len as u16)
        };
        let place = at + Header::BYTES as u64;
        let rest = place + Notice::BYTES as u64;
        if self.write_ring(i, place, &notice.to_bytes())
            && self.store(i, p, skipped, rest as u32, quoted).is_some()
        {
            self.entered(i, at, &entry);
        }
    }
}
