//! UDP and ICMP echo sockets: rings of datagrams ([`libipc::sock::Dgram`]).

use super::dgram_out::Kept;
use super::rx::Packet;
use super::{Body, Served, Stack};
use crate::demux::{ANY, ANY_V6, Space, Tuple};
use crate::env::{At, Env, SessionFault};
use crate::record;
use crate::wire::checksum::Sum;
use crate::wire::icmp::{self, Problem};
use crate::wire::{Malformed, ip, udp};
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{Ordering::*, fence};
use libipc::shared::Bytes;
use libipc::sock::{Dgram as Header, Kind, ip_from_words, ip_words};

/// Datagrams that one socket sends before others have their turn.
const QUOTA: usize = 16;

/// Soft state of a datagram socket; counts of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dgram {
    pub kind: Kind,
    /// Of a raw socket; 0: none yet.
    pub protocol: u8,
    pub tx_head: u64,
    pub tx_tail: u64,
    pub rx_head: u64,
    pub rx_tail: u64,
}

impl Dgram {
    pub fn new(kind: Kind) -> Self {
        Self { kind, protocol: 0, tx_head: 0, tx_tail: 0, rx_head: 0, rx_tail: 0 }
    }
    pub fn space(&self) -> Space {
        if self.kind == Kind::Ping { Space::Ping } else { Space::Udp }
    }
}

impl<E: Env> Stack<E> {
    fn dgram(&self, i: u32) -> Option<Dgram> {
        match self.socks[i as usize].body {
            Body::Dgram(d) => Some(d),
            _ => None,
        }
    }

    /// Takes the program's indices.
    ///
    /// # Errors
    /// Which of them is impossible; then neither is taken.
    pub(super) fn dgram_indices(
        &mut self,
        i: u32,
        tail: u64,
        head: u64,
    ) -> Result<(), SessionFault> {
        let s = self.sock(i);
        let size = 1u64 << s.rings.tx_bits;
        let Body::Dgram(d) = &mut s.body else { return Ok(()) };
        let sends =
            tail >= d.tx_tail && tail - d.tx_head <= size && tail.is_multiple_of(Header::ALIGN);
        let takes = head >= d.rx_head && head <= d.rx_tail;
        if !sends {
            return Err(SessionFault::SendIndex(s.id));
        }
        if !takes {
            return Err(SessionFault::ReceiveIndex(s.id));
        }
        (d.tx_tail, d.rx_head) = (tail, head);
        Ok(())
    }

    /// Reads `out.len()` bytes of the send ring of socket `i` at position `at`.
    #[inline]
    pub(super) fn read_ring(&self, i: u32, at: u64, out: &mut [u8]) -> bool {
        let s = &self.socks[i as usize];
        let tx = &self.sessions[s.session as usize].mem.tx;
        let size = 1usize << s.rings.tx_bits;
        let start = at as usize & (size - 1);
        if out.len() <= size - start {
            return tx.read(s.rings.tx_off as usize + start, out);
        }
        self.read_around(i, start, out)
    }

    /// As [`Self::read_ring`], where the ring ends within.
    #[cold]
    fn read_around(&self, i: u32, start: usize, out: &mut [u8]) -> bool {
        let s = &self.socks[i as usize];
        let tx = &self.sessions[s.session as usize].mem.tx;
        let base = s.rings.tx_off as usize;
        let (a, b) = out.split_at_mut((1usize << s.rings.tx_bits) - start);
        tx.read(base + start, a) && tx.read(base, b)
    }

    /// Where the first datagram in the send ring of socket `i` goes, if it says so.
    pub(super) fn first_destination(&self, i: u32) -> Option<IpAddr> {
        let d = self.dgram(i)?;
        let mut bytes = [0; Header::BYTES];
        let there = d.tx_tail - d.tx_head >= Header::BYTES as u64;
        let ip = (there && self.read_ring(i, d.tx_head, &mut bytes))
            .then(|| Header::from_bytes(&bytes).ip)?;
        (ip != [0, 0]).then(|| ip_from_words(ip))
    }

    /// Sends the datagrams of socket `i`. `ready`: see [`Self::serve`].
    pub(super) fn dgram_output(&mut self, i: u32, ready: u8) -> Served {
        let mut ready = ready;
        for _ in 0..QUOTA {
            let len = match self.short_out(i, core::mem::take(&mut ready)) {
                Some(len) => len,
                None => match self.long_out(i) {
                    Ok(len) => len,
                    Err(served) => return served,
                },
            };
            if !self.left_ring(i, len) {
                return Served::Done;
            }
        }
        Served::More
    }

    /// Sends, or passes over, the first datagram of socket `i`, whatever it is; yields its length. `Err`: there is none, or it
    /// stays.
    #[inline(never)]
    fn long_out(&mut self, i: u32) -> Result<usize, Served> {
        let Some(d) = self.dgram(i) else { return Err(Served::Done) };
        if d.kind == Kind::Capture {
            self.take_filters(i);
            return Err(Served::Done);
        }
        let left = d.tx_tail - d.tx_head;
        if left == 0 {
            return Err(Served::Done);
        }
        let mut bytes = [0; Header::BYTES];
        let read = left >= Header::BYTES as u64 && self.read_ring(i, d.tx_head, &mut bytes);
        let header = Header::from_bytes(&bytes);
        let least = if d.kind == Kind::Ping { 4 } else { 0 };
        let len = header.len as usize;
        if !read || len > Header::MAX || len < least || Header::space(len) > left {
            let (session, id) = (self.socks[i as usize].session, self.socks[i as usize].id);
            self.session_fault(session, SessionFault::Datagram(id));
            return Err(Served::Done);
        }
        match self.send_datagram(i, &d, &header) {
            Ok(()) => {}
            Err(Kept::Waits(served)) => return Err(served),
            Err(Kept::Lost(error)) => self.dgram_error(i, error),
        }
        Ok(len)
    }

    /// The first datagram of socket `i`, of `len` bytes, has left its ring; whether another is there.
    #[inline]
    fn left_ring(&mut self, i: u32, len: usize) -> bool {
        let s = &mut self.socks[i as usize];
        let Body::Dgram(d) = &mut s.body else { return false };
        // Only who found no room for a datagram waits for some. The program may have written
        // more than it has submitted: it looks at our index again, behind a fence, before
        // it waits, so one of the two sees the other.
        let (size, before) = (1u64 << s.rings.tx_bits, d.tx_head);
        d.tx_head += Header::space(len);
        let more = d.tx_head != d.tx_tail;
        s.rec.snd.store(d.tx_head, Release);
        fence(SeqCst);
        let app = self.sessions[s.session as usize].app(s.id);
        let tail = app.tx_tail.load(Acquire);
        let room = size - tail.wrapping_sub(before).min(size);
        // Who waits for room for a longer one than most says so.
        if room < Header::space(Header::UNCUT) || app.tx_urgent.load(Relaxed) != 0 {
            self.ready(i);
        }
        more
    }

    /// A UDP datagram has arrived.
    pub(super) fn udp_in(&mut self, p: &Packet<'_>) -> Result<(), Malformed> {
        let repr = udp::Repr::parse(p.head, p.len())?;
        // RFC 8200 8.1: IPv6 has no checksum of its own that would tell a stray datagram.
        if !repr.has_checksum && !p.checked && p.ip.src.is_ipv6() {
            return Err(Malformed::Checksum);
        }
        let (src, dst) = (SocketAddr::new(p.ip.src, repr.src), SocketAddr::new(p.ip.dst, repr.dst));
        let len = repr.payload_len as usize;
        let sum = Sum::pseudo(p.ip.src, p.ip.dst, ip::protocol::UDP, repr.payload_len + 8)
            .bytes(&p.head[..udp::HEADER]);
        let sum = (repr.has_checksum && !p.checked).then_some(sum);
        if !p.to_us {
            return self.udp_to_all(p, src, dst, len, sum);
        }
        match self.demux.lookup_on(p.interface(), Space::Udp, dst, src) {
            Some(i) => self.deliver(i, p, src, udp::HEADER, len, sum),
            None => {
                self.verify_udp(p, len, sum)?;
                self.counters.udp_no_ports += 1;
                self.send_error(Problem::Unreachable(icmp::NO_PORT), p);
                Ok(())
            }
        }
    }

    fn verify_udp(
        &mut self,
        p: &Packet<'_>,
        len: usize,
        sum: Option<Sum>,
    ) -> Result<(), Malformed> {
        let Some(sum) = sum else { return Ok(()) };
        let rest = self.env.sum(At(&p.mem, p.at + udp::HEADER), len);
        match sum.and(rest.ok_or(Malformed::Truncated)?, false).is_intact() {
            true => Ok(()),
            false => Err(Malformed::Checksum),
        }
    }

    /// A datagram for a group, or for all: each socket that is bound to its address or to any gets
    /// it, and who is connected to its sender.
    fn udp_to_all(
        &mut self,
        p: &Packet<'_>,
        src: SocketAddr,
        dst: SocketAddr,
        len: usize,
        sum: Option<Sum>,
    ) -> Result<(), Malformed> {
        let any = if dst.is_ipv4() { ANY.ip() } else { ANY_V6 };
        let at = |ip| self.demux.find(&Tuple::local(Space::Udp, SocketAddr::new(ip, dst.port())));
        let dual = if dst.is_ipv4() { self.demux.find_dual(Space::Udp, dst.port()) } else { None };
        let peer = self.demux.find(&Tuple { space: Space::Udp, local: dst, remote: src });
        let all = [peer, at(dst.ip()), at(any), dual];
        for first in all {
            let mut next = first;
            while let Some(i) = next {
                next = self.demux.next(i);
                if self.hears(i, p, dst.ip()) {
                    self.deliver(i, p, src, udp::HEADER, len, sum)?;
                }
            }
        }
        self.counters.udp_no_ports += all.iter().all(Option::is_none) as u64;
        Ok(())
    }

    /// Puts `len` bytes from offset `from` of the payload into the receive ring of socket `i`.
    /// `sum`: what was summed before them, if they must be verified.
    pub(super) fn deliver(
        &mut self,
        i: u32,
        p: &Packet<'_>,
        src: SocketAddr,
        from: usize,
        len: usize,
        sum: Option<Sum>,
    ) -> Result<(), Malformed> {
        self.deliver_behind(i, p, src, (&[], from, len), sum)
    }

    /// As [`Self::deliver`], with `before` in front of it.
    #[inline(always)]
    pub(super) fn deliver_behind(
        &mut self,
        i: u32,
        p: &Packet<'_>,
        src: SocketAddr,
        (before, from, len): (&[u8], usize, usize),
        sum: Option<Sum>,
    ) -> Result<(), Malformed> {
        let Some(d) = self.dgram(i) else { return Ok(()) };
        let whole = before.len() + len;
        let Some(start) = self.room_for(i, whole) else { return Ok(()) };
        let at = start + Header::BYTES as u64;
        let behind = (at + before.len() as u64) as u32;
        let stored = self.store(i, p, from, behind, len).ok_or(Malformed::Truncated)?;
        if let Some(sum) = sum
            && !sum.and(stored, false).is_intact()
        {
            return Err(Malformed::Checksum);
        }
        let header = Header {
            ttl: p.ip.hop_limit,
            tos: p.ip.tos,
            interface: p.interface(),
            local: ip_words(p.ip.dst),
            ..Header::new(Some(src), whole as u16)
        };
        self.counters.udp_in += (d.kind == Kind::Udp) as u64;
        let whole = (before.is_empty() || self.write_ring(i, at, before))
            && self.entered(i, start, &header);
        if whole { Ok(()) } else { Err(Malformed::Truncated) }
    }

    /// Where the next entry of `len` bytes begins in the receive ring of socket `i`, if it has room;
    /// else one more was dropped.
    pub(super) fn room_for(&mut self, i: u32, len: usize) -> Option<u64> {
        let d = self.dgram(i)?;
        let s = &self.socks[i as usize];
        if (1u64 << s.rings.rx_bits) - (d.rx_tail - d.rx_head) >= Header::space(len) {
            return Some(d.rx_tail);
        }
        let pending = &s.rec.pending;
        pending.store(pending.load(Relaxed).saturating_add(1), Relaxed);
        self.counters.rx_no_room += 1;
        None
    }

    /// Writes into the receive ring of socket `i` at position `at`.
    #[inline]
    pub(super) fn write_ring(&mut self, i: u32, at: u64, bytes: &[u8]) -> bool {
        let s = &self.socks[i as usize];
        let rx = self.sessions[s.session as usize].mem.rx;
        let size = 1usize << s.rings.rx_bits;
        let start = at as usize & (size - 1);
        let base = s.rings.rx_off as usize;
        if bytes.len() <= size - start {
            return rx.write(base + start, bytes);
        }
        let (a, b) = bytes.split_at(size - start);
        write_both(&rx, (base + start, a), (base, b))
    }

    /// The entry at `at` of the receive ring of socket `i` is complete but for its header.
    #[inline]
    pub(super) fn entered(&mut self, i: u32, at: u64, header: &Header) -> bool {
        if !self.write_ring(i, at, &header.to_bytes()) {
            return false;
        }
        let s = self.sock(i);
        if let Body::Dgram(d) = &mut s.body {
            d.rx_tail = at + Header::space(header.len as usize);
            // After the datagram: this store is what the program sees.
            s.rec.rcv.store(d.rx_tail, Release);
        }
        self.ready(i);
        true
    }

    /// Ends the use of a datagram socket's number.
    pub(super) fn end_datagrams(&mut self, i: u32) {
        // What is in the ring goes out if it can go at once.
        self.dgram_output(i, 0);
        record::end(self.sock(i).rec, None);
    }
}

/// Writes where the ring ends within.
#[cold]
fn write_both(rx: &Bytes, a: (usize, &[u8]), b: (usize, &[u8])) -> bool {
    rx.write(a.0, a.1) && rx.write(b.0, b.1)
}
