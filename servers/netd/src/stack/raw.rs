//! Raw sockets: IP packets of one protocol as they come, and packets to be sent as they are (Linux's `raw(7)`).
//!
//! The port of such a socket's local address is its protocol; it is in no table, but on a short list that
//! every packet is compared with. Without one that costs a test.

use super::dgram::Dgram;
use super::dgram_out::{Kept, Way};
use super::packet::Sent;
use super::rx::Packet;
use super::{Body, Stack};
use crate::demux::Space;
use crate::dev::Station;
use crate::env::Env;
use crate::record::Fixed;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, EtherType};
use crate::wire::{ip::protocol, ipv4};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering::Relaxed;
use libipc::net::{Reply, Result};
use libipc::sock::{Dgram as Header, Error, Kind};

/// Raw sockets at a time.
const RAWS: usize = 32;

/// All of them.
pub(super) struct Raws(Vec<u32>);

impl Raws {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(RAWS))
    }
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn add(&mut self, i: u32) -> bool {
        let room = self.0.len() < RAWS;
        if room {
            self.0.push(i);
        }
        room
    }
    pub(super) fn remove(&mut self, i: u32) {
        self.0.retain(|raw| *raw != i);
    }
}

impl<E: Env> Stack<E> {
    fn raw(&self, i: u32) -> Option<Dgram> {
        match self.socks[i as usize].body {
            Body::Dgram(d) if d.kind == Kind::Raw => Some(d),
            _ => None,
        }
    }

    /// Gives raw socket `i` its protocol, the port of `addr`, and the address that it is bound to; the latter
    /// may change.
    pub(super) fn bind_raw(&mut self, i: u32, addr: SocketAddr) -> Result<SocketAddr> {
        let ip = self.spoken(addr)?;
        let protocol = u8::try_from(addr.port()).ok().filter(|p| *p != 0).ok_or(Error::Invalid)?;
        let known = self.raw(i).map_or(0, |d| d.protocol);
        if known != 0 && known != protocol {
            return Err(Error::Invalid);
        }
        if !self.bindable(Space::Udp, ip) {
            return Err(Error::AddrNotAvailable);
        }
        if known == 0 && !self.raws.add(i) {
            return Err(Error::NoBuffers);
        }
        let local = SocketAddr::new(ip, addr.port());
        let s = self.sock(i);
        if let Some(fixed) = Fixed::load(s.rec) {
            s.hard().store(&Fixed { local, ..fixed });
        }
        self.take_raw(i, local);
        Ok(local)
    }

    fn take_raw(&mut self, i: u32, local: SocketAddr) {
        let s = self.sock(i);
        // A port it is only in the record.
        s.local = SocketAddr::new(local.ip(), 0).into();
        if let Body::Dgram(d) = &mut s.body {
            d.protocol = local.port() as u8;
        }
    }

    /// A raw socket from its record.
    pub(super) fn recover_raw(&mut self, i: u32, fixed: &Fixed) -> Option<()> {
        let named = fixed.local.port() != 0;
        self.take_raw(i, fixed.local);
        (!named || self.raws.add(i)).then_some(())
    }

    /// Raw socket `i` hears `dst` alone from now on, and sends to it.
    pub(super) fn connect_raw(&mut self, i: u32, src: IpAddr, dst: IpAddr) -> Result<Reply> {
        let s = self.sock(i);
        let remote = SocketAddr::new(dst, 0);
        (s.local, s.remote) = (SocketAddr::new(src, 0).into(), remote.into());
        if let Some(fixed) = Fixed::load(s.rec) {
            let local = SocketAddr::new(src, fixed.local.port());
            s.hard().store(&Fixed { local, remote, ..fixed });
        }
        Ok(Reply::Done)
    }

    /// Gives `p` to all raw sockets that want it; whether there was one.
    #[cold]
    #[inline(never)]
    pub(super) fn raw_in(&mut self, p: &Packet<'_>) -> bool {
        let mut taken = false;
        for n in 0..self.raws.0.len() {
            let i = self.raws.0[n];
            if self.wants_raw(i, p) {
                taken = true;
                let src = SocketAddr::new(p.ip.src, 0);
                // Of IPv4 the header is part of it.
                let header = if p.ip.src.is_ipv4() { p.header } else { &[] };
                let _ = self.deliver_behind(i, p, src, (header, 0, p.len()), None);
            }
        }
        taken
    }

    fn wants_raw(&self, i: u32, p: &Packet<'_>) -> bool {
        let Some(d) = self.raw(i) else { return false };
        let s = &self.socks[i as usize];
        let (local, remote) = (s.local.ip(), s.remote.ip());
        let app = self.sessions[s.session as usize].app(s.id);
        let ty = p.head.first().copied().unwrap_or(u8::MAX);
        // ICMP_FILTER: types that are not wanted, a bit each.
        let filtered = d.protocol == protocol::ICMP
            && ty < 32
            && app.icmp_filter().load(Relaxed) >> ty & 1 != 0;
        d.protocol == p.ip.protocol
            && local.is_ipv4() == p.ip.dst.is_ipv4()
            && (local.is_unspecified() || local == p.ip.dst)
            && (remote.is_unspecified() || remote == p.ip.src)
            && self.hears(i, p, p.ip.dst)
            && !filtered
    }

    /// A packet whose header the program has written (IP_HDRINCL): its length, its checksum and what it has left
    /// 0 of identification and source are filled in.
    pub(super) fn send_with_header(
        &mut self,
        i: u32,
        d: &Dgram,
        header: &Header,
        way: &Way,
    ) -> core::result::Result<Sent, Kept> {
        let (at, len) = (d.tx_head + Header::BYTES as u64, header.len as usize);
        let mut head = [0; ethernet::HEADER + ipv4::HEADER_MAX];
        let (eth, ip) = head.split_at_mut(ethernet::HEADER);
        let known = len.min(ipv4::HEADER_MAX);
        let words = match self.read_ring(i, at, &mut ip[..known]) {
            true => (ip[0] & 15) as usize * 4,
            false => 0,
        };
        let (IpAddr::V4(src), true) = (way.src, (ipv4::HEADER..=known).contains(&words)) else {
            return Err(Kept::Lost(Error::Invalid));
        };
        if len > self.mtu_to(way.link, way.to.ip()) {
            return Ok(Sent::TooLong(0));
        }
        ip[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        if ip[4..6] == [0, 0] {
            ip[4..6].copy_from_slice(&self.identification(way.to.ip()).to_be_bytes());
        }
        if ip[12..16] == [0; 4] {
            ip[12..16].copy_from_slice(&src.octets());
        }
        ip[10..12].fill(0);
        let sum = Sum::ZERO.bytes(&ip[..words]).finish();
        ip[10..12].copy_from_slice(&sum);
        let Station { dev, mac: dst } = self.station(way.link);
        if let Some(eth) = eth.first_chunk_mut() {
            let src = self.nics[dev].mac;
            ethernet::Repr { dst, src, ty: EtherType::Ipv4 }.emit(eth);
        }
        let rest =
            self.ring_pieces(i, (at as u32).wrapping_add(words as u32), (len - words) as u32);
        match self.transmit(way.link, &mut head[..ethernet::HEADER + words], None, rest) {
            true => Ok(Sent::Done),
            false => Ok(Sent::Blocked),
        }
    }
}
