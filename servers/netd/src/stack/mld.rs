//! Membership of groups of IPv6: queries in, reports out (RFC 3810, RFC 2710).

use super::Stack;
use super::packet::Outgoing;
use super::rx::Packet;
use super::tx::{Payload, Route};
use crate::dev::Dev;
use crate::env::Env;
use crate::ip6::listener::{GROUPS, Say};
use crate::sources::{Filter, MOST, Sources};
use crate::wire::checksum::Sum;
use crate::wire::ip::{self, protocol};
use crate::wire::mld::{self, Query};
use crate::wire::{Malformed, array, ext, icmpv6, ipv6};
use core::net::{IpAddr, Ipv6Addr};

/// Bytes of a report at most, so that it fits any link, and what records of one group take.
const REPORT: usize = 1280 - 40 - 8;
const RECORDS: usize = 2 * mld::RECORD + 16 * MOST;
/// Longest query that is looked at.
const LONGEST: usize = 28 + 16 * 80;

impl<E: Env> Stack<E> {
    /// A query, or another's report. RFC 3810 6.2: only from neighbours, and as routers mark them.
    pub(super) fn listener_report_in(
        &mut self,
        p: &Packet<'_>,
        ty: u8,
        alert: Option<u16>,
    ) -> Result<(), Malformed> {
        let IpAddr::V6(src) = p.ip.src else { return Ok(()) };
        let near = src.is_unicast_link_local() && p.ip.hop_limit == 1 && alert == Some(0);
        if !near {
            return Err(Malformed::Address);
        }
        let now = self.now;
        match ty {
            icmpv6::ty::MLD_QUERY => {
                let mut b = [0; LONGEST];
                let b = b.get_mut(..p.len()).ok_or(Malformed::Length)?;
                if !p.mem.read(p.at, b) {
                    return Err(Malformed::Truncated);
                }
                let (query, random) = (Query::parse(b)?, self.random());
                let mut sources: Sources = mld::asked(b).take(MOST).collect();
                if mld::asked(b).count() > MOST {
                    sources.clear();
                }
                self.nic(p.dev).ip6.listener.query(&query, &sources, random, now);
                self.arm_ip6(p.dev);
            }
            icmpv6::ty::MLD_REPORT => {
                let group = Ipv6Addr::from(array::<16>(p.head, 8)?);
                self.nic(p.dev).ip6.listener.others_report(group, now);
            }
            _ => {}
        }
        Ok(())
    }

    /// Reports what is due.
    pub(super) fn report_groups(&mut self, dev: Dev) {
        let v1 = self.nics[dev].ip6.listener.is_v1(self.now);
        let mut message = [0; REPORT];
        let (mut len, mut count) = (mld::REPORT_HEADER, 0);
        for _ in 0..GROUPS {
            let (random, now) = (self.random(), self.now);
            let Some(say) = self.nic(dev).ip6.listener.next(random, now) else { break };
            if v1 {
                self.report_v1(dev, &say);
                continue;
            }
            for (what, sources) in say.records(&self.listened_to(dev, say.group)) {
                let room = &mut message[len..];
                if let Some(bytes) = mld::emit_record(what, say.group, &sources, room) {
                    (len, count) = (len + bytes, count + 1);
                }
            }
            if REPORT - len < RECORDS {
                self.report_v2(dev, &mut message[..len], count);
                (len, count) = (mld::REPORT_HEADER, 0);
            }
        }
        if count > 0 {
            self.report_v2(dev, &mut message[..len], count);
        }
    }

    /// What is heard of a group: all, if an address of ours is asked for there.
    fn listened_to(&self, dev: Dev, group: Ipv6Addr) -> Filter {
        match self.nics[dev].ip6.solicits(group) {
            true => Filter::all(),
            false => self.groups.filter(dev, group.into()),
        }
    }

    fn report_v2(&mut self, dev: Dev, message: &mut [u8], records: u16) {
        if let Some(head) = message.first_chunk_mut() {
            mld::emit_report(records, head);
        }
        self.send_mld(dev, mld::REPORTS, message);
    }

    fn report_v1(&mut self, dev: Dev, say: &Say) {
        let done = !say.joined;
        let mut message = [0; mld::V1];
        mld::emit_v1(done, say.group, &mut message);
        self.send_mld(dev, if done { ipv6::ALL_ROUTERS } else { say.group }, &mut message);
    }

    /// Sends a message behind its hop-by-hop header. Who has no address yet sends from none
    /// (RFC 3590).
    fn send_mld(&mut self, dev: Dev, dst: Ipv6Addr, message: &mut [u8]) {
        let src = self.nics[dev].ip6.addresses.link_local().unwrap_or(Ipv6Addr::UNSPECIFIED);
        let (src, dst) = (IpAddr::V6(src), IpAddr::V6(dst));
        let sum = Sum::pseudo(src, dst, protocol::ICMPV6, message.len() as u16).bytes(message);
        message[2..4].copy_from_slice(&sum.finish());
        let Route::Via(link) = self.route_from(src, dst, Some(dev)) else { return };
        let ip = ip::Repr { hop_limit: 1, ..ip::Repr::new(src, dst, ext::number::HOP_BY_HOP, 0) };
        let (body, rest) = (&mld::ALERT[..], Payload::Slice(message));
        self.send_packet(link, &mut Outgoing { ip, options: &[], body, check: None, rest });
    }
}
