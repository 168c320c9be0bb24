//! Frames in: Ethernet and IP, down to the transports.

use super::Stack;
use super::rx6::Packet6;
use super::tap::{Seen, Sight};
use crate::dev::Dev;
use crate::env::{At, Env};
use crate::iface::is_link_local;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, EtherType, Mac};
use crate::wire::icmp::{self, Problem};
use crate::wire::ip::{self, protocol};
use crate::wire::ipv4_options::Taken;
use crate::wire::{HEAD, Malformed, ipv4, ipv6};
use core::net::IpAddr;
use libipc::shared::Bytes;
use libipc::sock::Dgram;

/// An IP packet as it arrived. Headers are a private copy; the payload is still where the NIC
/// put it.
pub(super) struct Packet<'a> {
    /// Memory of the payload.
    pub mem: Bytes,
    /// Offset of the transport header in it.
    pub at: usize,
    /// Copy of the transport header and what follows, as far as it was copied.
    pub head: &'a [u8],
    /// Copy of the IP header as it arrived.
    pub header: &'a [u8],
    /// Offset of what follows it.
    pub behind: usize,
    /// Card that it came by; of one by our own loop, that which its sender's address is of.
    pub dev: Dev,
    /// Station that sent its frame.
    pub from: Mac,
    /// What it says.
    pub ip: ip::Repr,
    /// What an answer brings back of its options.
    pub options: Taken,
    /// It came by our own loop.
    pub looped: bool,
    /// It was sent to an address of this host.
    pub to_us: bool,
    /// It was sent to more than one station, on either layer.
    pub group: bool,
    /// The transport checksum needs no check.
    pub checked: bool,
}

impl Packet<'_> {
    /// The number of the interface that it came by. What was sent to more than one and comes back is of the card that
    /// it left by (Linux).
    pub fn interface(&self) -> u8 {
        if self.looped && self.to_us { Dgram::LOOP } else { self.dev.number() }
    }
    /// Whether it is for nobody bound to interface `device` (0: to none): it came by another. What comes by our own loop
    /// we have sent ourselves.
    pub fn is_elsewhere(&self, device: u8) -> bool {
        device != 0 && !self.looped && device != self.interface()
    }
    /// The card that an answer must leave by: its sender's address means nothing on other links.
    pub fn only_by(&self) -> Option<Dev> {
        is_link_local(self.ip.src).then_some(self.dev)
    }
    /// Bytes of the IP payload.
    pub fn len(&self) -> usize {
        self.ip.payload_len as usize
    }
}

impl<E: Env> Stack<E> {
    /// A frame of `len` bytes lies at `at` of `mem`; it came by card `by`, or by our own loop.
    #[inline]
    pub(super) fn frame(
        &mut self,
        mem: Bytes,
        at: usize,
        len: usize,
        checked: bool,
        by: Option<Dev>,
    ) {
        let expected = by
            .filter(|_| self.is_straight() && self.raws.is_empty())
            .is_some_and(|dev| self.expected(&mem, at, len, checked, dev));
        if !expected {
            self.any_frame(mem, at, len, checked, by);
        }
    }

    fn any_frame(&mut self, mem: Bytes, at: usize, len: usize, checked: bool, by: Option<Dev>) {
        let mut head = [0; HEAD];
        // A frame's buffer is longer than that, and a copy of known length is quick; what lies
        // behind a shorter frame is not looked at.
        let known = mem.read(at, &mut head) || mem.read(at, &mut head[..len.min(HEAD)]);
        if !known {
            self.counters.rx_length += 1;
            return;
        }
        let head = &head[..len.min(HEAD)];
        if !self.taps.is_empty() {
            let seen = by.map_or(Seen::Looped, Seen::Coming);
            self.tap(Sight::At(&mem, at), len, seen);
        }
        let short = by.filter(|_| !self.settings.long_way);
        let whole = short.and_then(|dev| self.whole(&mem, at, len, head, checked, dev));
        let result = match whole {
            Some(result) => result,
            None => self.ethernet(mem, at, len, head, checked, by),
        };
        if let Err(why) = result {
            *why.counter(&mut self.counters) += 1;
        }
    }

    fn ethernet(
        &mut self,
        mem: Bytes,
        at: usize,
        len: usize,
        head: &[u8],
        checked: bool,
        by: Option<Dev>,
    ) -> Result<(), Malformed> {
        if ethernet::has_priority_tag(head) {
            return self.tagged_in(mem, at, len, head, checked, by);
        }
        let (looped, dev) = (by.is_none(), by.unwrap_or_default());
        let nic = &self.nics[dev];
        // What is longer than the link allows could not be answered in kind.
        if len > ethernet::HEADER + nic.mtu as usize && !looped {
            return Err(Malformed::Length);
        }
        let eth = ethernet::Repr::parse(head)?;
        if !looped && eth.dst != nic.mac && !eth.dst.is_group() {
            self.counters.rx_unclaimed += 1;
            return Ok(());
        }
        let rest = &head[ethernet::HEADER..];
        match eth.ty {
            EtherType::Arp => self.arp_in(dev, rest, !eth.dst.is_group()),
            EtherType::Ipv6 => {
                let ip = ipv6::Repr::parse(rest, len - ethernet::HEADER)?;
                let (header, head) = rest.split_at(ipv6::HEADER);
                let p = Packet6 {
                    mem,
                    behind: at + ethernet::HEADER + ipv6::HEADER,
                    header,
                    ip,
                    dev: self.dev_in(by, ip.src.into()),
                    from: eth.src,
                    looped,
                    group: eth.dst.is_group(),
                    checked,
                };
                self.ipv6_in(p, head)
            }
            EtherType::Ipv4 => {
                let (repr, header_len) = ipv4::Repr::parse(rest, len - ethernet::HEADER)?;
                let (header, head) = rest.split_at(header_len);
                let mut p = Packet {
                    mem,
                    at: at + ethernet::HEADER + header_len,
                    head,
                    header,
                    behind: at + ethernet::HEADER + header_len,
                    dev: self.dev_in(by, repr.src.into()),
                    from: eth.src,
                    ip: repr.into(),
                    options: Taken::default(),
                    looped,
                    to_us: false,
                    group: eth.dst.is_group(),
                    checked,
                };
                self.ipv4_in(&repr, &mut p)
            }
        }
    }

    /// A frame of no VLAN, that only has a priority: as if it had none (IEEE 802.1Q 6.9; Linux).
    #[cold]
    fn tagged_in(
        &mut self,
        mem: Bytes,
        at: usize,
        len: usize,
        head: &[u8],
        checked: bool,
        by: Option<Dev>,
    ) -> Result<(), Malformed> {
        let (at, len) = (at + ethernet::TAG, len - ethernet::TAG);
        let mut plain = [0; HEAD];
        let plain = &mut plain[..len.min(HEAD)];
        if !mem.read(at, plain) || plain.len() < ethernet::HEADER {
            return Err(Malformed::Truncated);
        }
        plain[..12].copy_from_slice(&head[..12]);
        match ethernet::has_priority_tag(plain) {
            true => Err(Malformed::Unsupported),
            false => self.ethernet(mem, at, len, plain, checked, by),
        }
    }

    /// The card that a packet from `src` is reckoned to have come by.
    fn dev_in(&self, by: Option<Dev>, src: IpAddr) -> Dev {
        by.or_else(|| self.iface.dev_of(src)).unwrap_or_default()
    }

    /// A whole packet for this host.
    pub(super) fn transport_in(&mut self, p: &Packet<'_>) -> Result<(), Malformed> {
        let taken = !self.raws.is_empty() && self.raw_in(p);
        match p.ip.protocol {
            // RFC 9293 3.9.2.3: never to or from more than one.
            protocol::TCP if p.to_us && !p.group => self.tcp_in(p),
            protocol::UDP => self.udp_in(p),
            protocol::ICMP if p.ip.src.is_ipv4() => self.icmp_in(p),
            protocol::IGMP if p.ip.src.is_ipv4() => self.igmp_in(p),
            protocol::TCP => {
                self.counters.rx_unclaimed += 1;
                Ok(())
            }
            _ if taken => Ok(()),
            _ => {
                self.counters.rx_unclaimed += 1;
                self.send_error(Problem::Unreachable(icmp::NO_PROTOCOL), p);
                Ok(())
            }
        }
    }

    /// Verifies the transport checksum of a whole IP payload that is not copied anywhere.
    pub(super) fn verify(&mut self, p: &Packet<'_>, pseudo: Sum) -> Result<(), Malformed> {
        if p.checked {
            return Ok(());
        }
        let sum = self.env.sum(At(&p.mem, p.at), p.len()).ok_or(Malformed::Truncated)?;
        if pseudo.and(sum, false).is_intact() { Ok(()) } else { Err(Malformed::Checksum) }
    }

    /// Copies `len` bytes of the payload, from its offset `from` on, into the receive ring of
    /// socket `i` at position `at`. Yields their sum as if they began at an even offset.
    pub(super) fn store(
        &mut self,
        i: u32,
        p: &Packet<'_>,
        from: usize,
        at: u32,
        len: usize,
    ) -> Option<Sum> {
        self.store_at(i, At(&p.mem, p.at + from), at, len)
    }

    /// As [`Self::store`], from anywhere.
    #[inline]
    pub(super) fn store_at(&mut self, i: u32, from: At<'_>, at: u32, len: usize) -> Option<Sum> {
        let s = &self.socks[i as usize];
        let rx = &self.sessions[s.session as usize].mem.rx;
        let size = 1usize << s.rings.rx_bits;
        let (base, start) = (s.rings.rx_off as usize, at as usize & (size - 1));
        let first = len.min(size - start);
        let At(mem, from) = from;
        let sum = self.env.copy_sum(At(mem, from), At(rx, base + start), first)?;
        if first == len {
            return Some(sum);
        }
        let rest = self.env.copy_sum(At(mem, from + first), At(rx, base), len - first)?;
        Some(sum.and(rest, first % 2 == 1))
    }
}
