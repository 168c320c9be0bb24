//! IPv4 in: which packets are taken (RFC 1122 3.2.1, with Linux's choices), options, fragments.

use super::Stack;
use super::rx::Packet;
use super::turns::Own;
use crate::dev::Dev;
use crate::env::{At, Env};
use crate::reassembly::{Expired, Fragment, Key, Outcome};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Mac;
use crate::wire::icmp::{self, Problem};
use crate::wire::ip::protocol;
use crate::wire::ipv4_options::{self, Here, Refused, Taken};
use crate::wire::{HEAD, Malformed, ipv4};
use core::net::{IpAddr, Ipv4Addr};

/// Whether `ip` is of "this network", 0.0.0.0/8 (RFC 1122 3.2.1.3).
fn is_this_net(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 0
}

impl<E: Env> Stack<E> {
    /// A packet whose header holds.
    pub(super) fn ipv4_in(
        &mut self,
        repr: &ipv4::Repr,
        p: &mut Packet<'_>,
    ) -> Result<(), Malformed> {
        let all = self.v4_destination(repr, p.looped)?;
        let fragment = repr.is_fragment();
        if repr.protocol == protocol::UDP && !fragment && self.dhcp_in(p)? {
            return Ok(());
        }
        let (src, dst) = (IpAddr::V4(repr.src), IpAddr::V4(repr.dst));
        p.to_us = dst.is_loopback() || self.iface.is_ours(dst);
        p.group |= !p.to_us;
        if !p.to_us && !all && !self.iface.is_broadcast(dst) && !self.is_member(p.dev, dst, src) {
            self.counters.rx_unclaimed += 1;
            return Ok(());
        }
        // From no host that could be answered.
        if !p.looped && self.iface.is_broadcast(src) {
            return Err(Malformed::Address);
        }
        if p.header.len() > ipv4::HEADER && !self.options_in(p)? {
            return Ok(());
        }
        if fragment { self.fragment_in(repr, p) } else { self.transport_in(p) }
    }

    /// Checks the addresses of a packet, in Linux's order: yields whether it is to all, of whichever network.
    fn v4_destination(&self, r: &ipv4::Repr, looped: bool) -> Result<bool, Malformed> {
        let loopback = r.src.is_loopback() || r.dst.is_loopback();
        // Addresses of this host come from the loop only (RFC 1122 3.2.1.3 (g)).
        let stolen = !looped && (loopback || self.iface.is_ours(r.src.into()));
        let nobody = r.src.is_unspecified();
        let all = r.dst.is_broadcast() || (nobody && r.dst.is_unspecified());
        // A host without an address asks for one by broadcast, or as its client hears; a switch that has none
        // asks for groups.
        let local = r.protocol == protocol::IGMP || r.dst.octets()[..3] == [224, 0, 0];
        let asks = nobody && r.dst.is_multicast() && local;
        let nowhere = is_this_net(r.src) && !asks || is_this_net(r.dst);
        if stolen || (nowhere && !all) { Err(Malformed::Address) } else { Ok(all) }
    }

    /// Who records itself in the options of `p`.
    fn here_for(&self, p: &Packet<'_>) -> Result<Here, Malformed> {
        let addr = if p.to_us { p.ip.dst } else { self.v4_address(p.dev) };
        self.here(addr).ok_or(Malformed::Option)
    }

    /// Options of a packet for this host. `false`: it was refused.
    fn options_in(&mut self, p: &mut Packet<'_>) -> Result<bool, Malformed> {
        let here = self.here_for(p)?;
        match ipv4_options::take(&p.header[ipv4::HEADER..], &here) {
            Ok(taken) => p.options = taken,
            Err(refused) => {
                self.counters.rx_options += 1;
                if let Refused::Problem(at) = refused {
                    self.send_error(Problem::Parameter(at), p);
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The address of IPv4 that card `dev` has, or none.
    pub(super) fn v4_address(&self, dev: Dev) -> IpAddr {
        self.iface.v4(dev).map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |net| net.addr)
    }

    fn fragment_in(&mut self, r: &ipv4::Repr, p: &Packet<'_>) -> Result<(), Malformed> {
        let key = Key { src: p.ip.src, dst: p.ip.dst, id: r.id as u32, protocol: r.protocol };
        let fragment = Fragment {
            from: At(&p.mem, p.at),
            len: p.len(),
            offset: r.offset as usize,
            more: r.more,
            header: p.header,
            tos: r.tos,
        };
        let outcome = self.reassembly.insert(&mut self.env, &key, &fragment, self.now);
        match self.reassembly_outcome(outcome)? {
            Some((len, ecn)) => self.reassembled_in(p, len, ecn),
            None => Ok(()),
        }
    }

    /// What became of a fragment of either family: bytes and ECN bits of the packet that it
    /// completes.
    pub(super) fn reassembly_outcome(
        &mut self,
        outcome: Outcome,
    ) -> Result<Option<(usize, u8)>, Malformed> {
        self.arm_reassembly();
        self.counters.reassembly_in += 1;
        match outcome {
            Outcome::Waits => Ok(None),
            Outcome::Duplicate => {
                self.counters.reassembly_duplicates += 1;
                Ok(None)
            }
            Outcome::Overlap => {
                self.counters.reassembly_overlaps += 1;
                Err(Malformed::Fragment)
            }
            Outcome::Malformed => {
                self.counters.reassembly_fails += 1;
                Err(Malformed::Fragment)
            }
            Outcome::Whole { len, ecn } => Ok(Some((len, ecn))),
        }
    }

    /// A packet put together from fragments, of which `last` came last: it is as if it had come
    /// whole.
    fn reassembled_in(&mut self, last: &Packet<'_>, len: usize, ecn: u8) -> Result<(), Malformed> {
        let mem = self.reassembly.mem();
        let mut header = [0; ipv4::HEADER_MAX];
        let header_len = self.reassembly.header().len().min(ipv4::HEADER_MAX);
        header[..header_len].copy_from_slice(&self.reassembly.header()[..header_len]);
        let header = &mut header[..header_len];
        if header_len + len > u16::MAX as usize || header_len < ipv4::HEADER {
            self.counters.reassembly_fails += 1;
            return Err(Malformed::Length);
        }
        self.counters.reassembled += 1;
        whole_header(header, header_len + len, ecn);
        let mut head = [0; HEAD];
        let head = &mut head[..len.min(HEAD)];
        if !mem.read(0, head) {
            return Err(Malformed::Truncated);
        }
        let (repr, _) = ipv4::Repr::parse(header, header_len + len)?;
        let here = self.here_for(last)?;
        self.transport_in(&Packet {
            mem,
            at: 0,
            head,
            header,
            behind: 0,
            dev: last.dev,
            from: last.from,
            ip: repr.into(),
            // Those of the first, whoever came last; they were looked at when it came.
            options: ipv4_options::take(&header[ipv4::HEADER..], &here).unwrap_or_default(),
            looped: last.looped,
            to_us: last.to_us,
            group: last.group,
            checked: last.looped,
        })
    }

    /// Sets the timer for the packet that has waited longest for its fragments.
    pub(super) fn arm_reassembly(&mut self) {
        if let Some(at) = self.reassembly.deadline() {
            self.wheel.set_by(self.own_timer(Own::Reassembly as u32), at);
        }
    }

    /// Fragments have waited long enough.
    pub(super) fn reassembly_due(&mut self) {
        while let Some(Expired { key, first }) = self.reassembly.expire(&mut self.env, self.now) {
            self.counters.reassembly_timeouts += 1;
            self.counters.reassembly_fails += 1;
            match first {
                Some(len) if key.src.is_ipv4() => self.reassembly_exceeded(len),
                Some(len) => self.reassembly_exceeded_v6(len),
                None => {}
            }
        }
        self.arm_reassembly();
    }

    /// RFC 792, RFC 1122 3.3.2: who sent the first fragment is told that the others did not come.
    fn reassembly_exceeded(&mut self, len: usize) {
        let mut header = [0; ipv4::HEADER_MAX];
        let kept = self.reassembly.header();
        let Some(header) = header.get_mut(..kept.len()) else { return };
        header.copy_from_slice(kept);
        let Ok((repr, _)) = ipv4::Repr::parse(header, header.len() + len) else { return };
        let mut head = [0; icmp::HEADER];
        let head = &mut head[..len.min(icmp::HEADER)];
        let mem = self.reassembly.mem();
        let to_us = self.iface.is_ours(repr.dst.into());
        if !mem.read(0, head) {
            return;
        }
        let p = Packet {
            mem,
            at: 0,
            head,
            header,
            behind: 0,
            dev: self.iface.dev_of(repr.dst.into()).unwrap_or_default(),
            from: Mac([0; 6]),
            ip: repr.into(),
            options: Taken::default(),
            looped: false,
            to_us,
            group: !to_us,
            checked: true,
        };
        self.send_error(Problem::TimeExceeded(icmp::REASSEMBLY), &p);
    }
}

/// Makes a first fragment's header that of the whole packet of `total` bytes.
fn whole_header(header: &mut [u8], total: usize, ecn: u8) {
    header[1] = header[1] & !3 | ecn;
    header[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    header[6..8].copy_from_slice(&[0, 0]);
    header[10..12].copy_from_slice(&[0, 0]);
    let sum = Sum::ZERO.bytes(header).finish();
    header[10..12].copy_from_slice(&sum);
}
