//! Membership of groups of IPv4: queries in, reports out (RFC 3376, RFC 2236, RFC 1112).

use super::Stack;
use super::packet::Outgoing;
use super::rx::Packet;
use super::turns::Own;
use super::tx::{Link, Payload};
use crate::dev::{Dev, Station};
use crate::env::Env;
use crate::ip6::NEVER;
use crate::ip6::listener::Say;
use crate::membership::MEMBERS;
use crate::sources::Sources;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Mac;
use crate::wire::igmp::{self, Repr, V3_QUERY};
use crate::wire::mld::Query;
use crate::wire::{Malformed, ip};
use core::net::Ipv4Addr;

/// Bytes of the longest list of sources that is looked at: of a longer one the group counts.
const LIST: usize = 4 * crate::sources::MOST;

impl<E: Env> Stack<E> {
    pub(super) fn igmp_in(&mut self, p: &Packet<'_>) -> core::result::Result<(), Malformed> {
        self.verify(p, Sum::ZERO)?;
        match Repr::parse(&p.head[..p.head.len().min(p.len())], p.len())? {
            Repr::Query { group, old, first, sources, within_ms } => {
                let query = Query {
                    group: group.map(|g| g.to_ipv6_mapped()),
                    v1: old,
                    within_ms,
                    sources: sources > 0,
                    first,
                    robustness: 0,
                };
                let mut list = [0; LIST];
                let len = 4 * sources as usize;
                let at = p.at + V3_QUERY;
                let known = list.get_mut(..len).and_then(|l| p.mem.read(at, l).then_some(&*l));
                let sources: Sources = known.map_or(Sources::new(), |l| igmp::asked(l).collect());
                let random = self.random();
                let now = self.now;
                self.nic(p.dev).igmp.query(&query, &sources, random, now);
                self.arm_igmp(p.dev);
            }
            Repr::Report(group) => {
                let now = self.now;
                self.nic(p.dev).igmp.others_report(group.to_ipv6_mapped(), now);
            }
            Repr::Other => self.counters.rx_unclaimed += 1,
        }
        Ok(())
    }

    pub(super) fn arm_igmp(&mut self, dev: Dev) {
        let at = self.nic(dev).igmp.deadline();
        if at != NEVER {
            self.wheel.set_by(self.own_timer(Own::igmp(dev)), at);
        }
    }

    /// Something is to be said about groups.
    pub(super) fn igmp_due(&mut self, dev: Dev) {
        let now = self.now;
        for _ in 0..MEMBERS {
            let random = self.random();
            let igmp = &mut self.nic(dev).igmp;
            let old = igmp.is_v1(now);
            let first = igmp.is_first(now);
            let Some(say) = igmp.next(random, now) else { break };
            match old {
                true => self.report_old(dev, &say, first),
                false => self.report_group(dev, &say),
            }
        }
        self.arm_igmp(dev);
    }

    fn report_group(&mut self, dev: Dev, say: &Say) {
        let Some(group) = say.group.to_ipv4_mapped() else { return };
        let said = say.records(&self.groups.filter(dev, group.into()));
        if !said.is_empty() {
            self.send_igmp(dev, igmp::REPORTS, &igmp::report(&said, group));
        }
    }

    fn report_old(&mut self, dev: Dev, say: &Say, first: bool) {
        let Some(group) = say.group.to_ipv4_mapped() else { return };
        // The first version has no word for that.
        if say.joined || !first {
            let dst = if say.joined { group } else { igmp::ALL_ROUTERS };
            self.send_igmp(dev, dst, &igmp::old_report(say.joined, first, group));
        }
    }

    fn send_igmp(&mut self, dev: Dev, dst: Ipv4Addr, body: &[u8]) {
        let link = Link::Device(Station { dev, mac: Mac::of_group(dst.into()) });
        let ip = ip::Repr::new(self.v4_address(dev), dst.into(), ip::protocol::IGMP, 0);
        let ip = ip::Repr { hop_limit: 1, tos: igmp::TOS, ..ip };
        let (options, rest) = (&igmp::ALERT[..], Payload::Slice(body));
        self.send_packet(link, &mut Outgoing { ip, options, body: &[], check: None, rest });
    }
}
