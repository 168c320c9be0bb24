//! Multicast groups: which sockets have joined which (RFC 1112 7.1, RFC 3376 3), and what follows
//! for the interface. Routers are told by IGMP (here) or MLD.

use super::Stack;
use super::packet::Outgoing;
use super::rx::Packet;
use super::sock::Body;
use super::turns::Own;
use super::tx::{Link, Payload};
use crate::dev::{Dev, Station};
use crate::env::Env;
use crate::ip6::NEVER;
use crate::ip6::listener::Say;
use crate::membership::MEMBERS;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Mac;
use crate::wire::igmp::{self, Repr};
use crate::wire::{Malformed, ip, mld};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};
use core::sync::atomic::Ordering::Relaxed;
use libipc::net::{Reply, Result, SockId};
use libipc::permission::Permission;
use libipc::sock::{Error, On, option};

/// The group that every host is in (RFC 1112 4).
pub(super) const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// A socket in a group.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Member {
    i: u32,
    group: IpAddr,
    /// On the link of this card.
    dev: Dev,
}

/// Who is in which group.
pub(super) struct Groups {
    members: Vec<Option<Member>>,
}

impl Default for Groups {
    fn default() -> Self {
        Self { members: alloc::vec![None; MEMBERS] }
    }
}

impl Groups {
    fn has(&self, dev: Dev, group: IpAddr) -> bool {
        self.joined(dev).any(|g| g == group)
    }
    fn find(&self, member: Member) -> Option<usize> {
        self.members.iter().position(|m| *m == Some(member))
    }
    /// The groups that sockets have joined on the link of `dev`; a group may come more than once.
    pub fn joined(&self, dev: Dev) -> impl Iterator<Item = IpAddr> {
        self.members.iter().flatten().filter(move |m| m.dev == dev).map(|m| m.group)
    }
}

impl<E: Env> Stack<E> {
    /// Whether packets for `group` that come by `dev` are taken.
    pub(super) fn is_member(&self, dev: Dev, group: IpAddr) -> bool {
        group == IpAddr::V4(ALL_HOSTS) || self.groups.has(dev, group)
    }

    /// Whether socket `i`, bound to the port, gets what is sent to `to`, a group or all, and comes by `dev`. Linux:
    /// unless it has said otherwise, whatever the host has joined.
    pub(super) fn hears(&self, i: u32, p: &Packet<'_>, to: IpAddr) -> bool {
        let (s, dev) = (&self.socks[i as usize], p.dev);
        if s.device != 0 && s.device != p.interface() {
            return false;
        }
        let all = self.sessions[s.session as usize].options(s.id) & option::MULTICAST_ALL_OFF == 0;
        !to.is_multicast() || all || self.groups.find(Member { i, group: to, dev }).is_some()
    }

    /// IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP and their like.
    pub(super) fn membership(
        &mut self,
        sock: SockId,
        group: IpAddr,
        on: On,
        join: bool,
    ) -> Result<Reply> {
        let i = self.existing(sock)?;
        let group = group.to_canonical();
        if !group.is_multicast() || !matches!(self.socks[i as usize].body, Body::Dgram(_)) {
            return Err(Error::Invalid);
        }
        if !self.sessions[sock.session as usize].spec.broadcast {
            self.counters.not_permitted += 1;
            return Err(Error::NotPermitted(Permission::Broadcast));
        }
        let dev = self.dev_to_join(group, on)?;
        let member = Member { i, group, dev };
        match (join, self.groups.find(member)) {
            (true, Some(_)) => Err(Error::AddrInUse),
            (false, None) => Err(Error::AddrNotAvailable),
            (true, None) => {
                let free = self.groups.members.iter().position(Option::is_none);
                self.enter_group(free.ok_or(Error::NoBuffers)?, member);
                let generation = self.socks[i as usize].rec.generation.load(Relaxed);
                self.hard.members[free.unwrap_or(0)].store(sock, generation, dev, group);
                Ok(Reply::Done)
            }
            (false, Some(at)) => {
                self.leave_group(at, member);
                Ok(Reply::Done)
            }
        }
    }

    /// The card on whose link a group is joined: as with Linux the one that is named, by number or by its address,
    /// else that by which packets for the group leave.
    fn dev_to_join(&self, group: IpAddr, on: On) -> Result<Dev> {
        let dev = match on {
            On::Any => Some(self.iface.dev_for_many(group, None, self.now)),
            On::Number(number) => self.dev_of_number(number),
            On::Address(ip) => self.iface.dev_of(ip),
        };
        dev.ok_or(Error::NoDevice)
    }

    /// Socket `i` ends: it leaves its groups.
    pub(super) fn leave_groups(&mut self, i: u32) {
        if !matches!(self.socks[i as usize].body, Body::Dgram(_)) {
            return;
        }
        for at in 0..MEMBERS {
            if let Some(m) = self.groups.members[at].filter(|m| m.i == i) {
                self.leave_group(at, m);
            }
        }
    }

    fn enter_group(&mut self, at: usize, member: Member) {
        let new = !self.groups.has(member.dev, member.group);
        self.groups.members[at] = Some(member);
        if new {
            self.group_changed(member, true);
        }
    }

    fn leave_group(&mut self, at: usize, member: Member) {
        self.groups.members[at] = None;
        self.hard.members[at].clear();
        if !self.groups.has(member.dev, member.group) {
            self.group_changed(member, false);
        }
    }

    /// Takes over the memberships of sockets that are there still.
    pub(super) fn recover_groups(&mut self) {
        for at in 0..MEMBERS {
            let Some((sock, generation, dev, group)) = self.hard.members[at].load() else {
                continue;
            };
            let i = self.number(sock.session, sock.id).filter(|i| {
                let s = &self.socks[*i as usize];
                matches!(s.body, Body::Dgram(_)) && s.rec.generation.load(Relaxed) == generation
            });
            let there = group.is_multicast() && dev.index() < self.nics.len();
            match i.filter(|_| there) {
                Some(i) => self.enter_group(at, Member { i, group, dev }),
                None => self.hard.members[at].clear(),
            }
        }
    }

    fn group_changed(&mut self, Member { group, dev, .. }: Member, joined: bool) {
        let now = self.now;
        let nic = self.nic(dev);
        match group {
            IpAddr::V4(ALL_HOSTS) => {}
            IpAddr::V4(v4) => {
                let mapped = v4.to_ipv6_mapped();
                match joined {
                    true => drop(nic.igmp.enter(mapped, now)),
                    false => nic.igmp.leave(mapped, now),
                }
                self.arm_igmp(dev);
            }
            IpAddr::V6(v6) => {
                match joined {
                    true => drop(nic.ip6.listener.join(v6, now)),
                    false => nic.ip6.listener.leave(v6, now),
                }
                self.arm_ip6(dev);
            }
        }
        self.filter_changed(dev);
    }

    /// The link has come up: routers there know nothing yet.
    pub(super) fn tell_groups(&mut self, dev: Dev) {
        let now = self.now;
        self.nic(dev).igmp.link_up(now);
        self.arm_igmp(dev);
    }

    pub(super) fn igmp_in(&mut self, p: &Packet<'_>) -> core::result::Result<(), Malformed> {
        self.verify(p, Sum::ZERO)?;
        match Repr::parse(&p.head[..p.head.len().min(p.len())], p.len())? {
            Repr::Query { group, old, within_ms } => {
                let query = mld::Query {
                    group: group.map(|g| g.to_ipv6_mapped()),
                    v1: old,
                    within_ms,
                    sources: false,
                    robustness: 0,
                };
                let random = self.random();
                let now = self.now;
                self.nic(p.dev).igmp.query(&query, random, now);
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

    fn arm_igmp(&mut self, dev: Dev) {
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
            let Some(say) = igmp.next(random, now) else { break };
            self.report_group(dev, &say, old);
        }
        self.arm_igmp(dev);
    }

    fn report_group(&mut self, dev: Dev, say: &Say, old: bool) {
        let Some(group) = say.group.to_ipv4_mapped() else { return };
        let joined = say.what != mld::Record::ToInclude;
        let (report, told);
        let (dst, body) = if old {
            told = igmp::old_report(joined, group);
            (if joined { group } else { igmp::ALL_ROUTERS }, &told[..])
        } else {
            report = igmp::report(say.what as u8, group);
            (igmp::REPORTS, &report[..])
        };
        let link = Link::Device(Station { dev, mac: Mac::of_group(dst.into()) });
        let ip = ip::Repr::new(self.v4_address(dev), dst.into(), ip::protocol::IGMP, 0);
        let ip = ip::Repr { hop_limit: 1, tos: igmp::TOS, ..ip };
        let rest = Payload::None;
        self.send_packet(
            link,
            &mut Outgoing { ip, options: &igmp::ALERT, body, check: None, rest },
        );
    }
}
