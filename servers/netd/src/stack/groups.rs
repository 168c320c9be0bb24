//! Multicast groups: which sockets have joined which (RFC 1112 7.1, RFC 3376 3), and what follows
//! for the interface. Routers are told by IGMP (here) or MLD.

use super::Stack;
use super::packet::Outgoing;
use super::rx::Packet;
use super::sock::Body;
use super::turns::Own;
use super::tx::{Link, Payload};
use crate::env::Env;
use crate::ip6::NEVER;
use crate::ip6::listener::{Listener, Say};
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
use libipc::sock::{Error, option};

/// The group that every host is in (RFC 1112 4).
pub(super) const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// A socket in a group.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Member {
    i: u32,
    group: IpAddr,
}

/// Who is in which group.
pub(super) struct Groups {
    members: Vec<Option<Member>>,
    /// What routers of IPv4 are told. The rules of IGMPv3 and MLDv2 are the same; groups stand in
    /// their mapped form.
    igmp: Listener,
}

impl Default for Groups {
    fn default() -> Self {
        Self { members: alloc::vec![None; MEMBERS], igmp: Listener::default() }
    }
}

impl Groups {
    fn has(&self, group: IpAddr) -> bool {
        self.joined().any(|g| g == group)
    }
    fn find(&self, member: Member) -> Option<usize> {
        self.members.iter().position(|m| *m == Some(member))
    }
    /// The groups that sockets have joined; a group may come more than once.
    pub fn joined(&self) -> impl Iterator<Item = IpAddr> {
        self.members.iter().flatten().map(|m| m.group)
    }
}

impl<E: Env> Stack<E> {
    /// Whether packets for `group` are taken.
    pub(super) fn is_member(&self, group: IpAddr) -> bool {
        group == IpAddr::V4(ALL_HOSTS) || self.groups.has(group)
    }

    /// Whether socket `i`, bound to the port, gets what is sent to `to`, a group or all. Linux:
    /// unless it has said otherwise, whatever the host has joined.
    pub(super) fn hears(&self, i: u32, to: IpAddr) -> bool {
        let s = &self.socks[i as usize];
        let all = self.sessions[s.session as usize].options(s.id) & option::MULTICAST_ALL_OFF == 0;
        !to.is_multicast() || all || self.groups.find(Member { i, group: to }).is_some()
    }

    /// IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP and their like.
    pub(super) fn membership(&mut self, sock: SockId, group: IpAddr, join: bool) -> Result<Reply> {
        let i = self.existing(sock)?;
        let group = group.to_canonical();
        if !group.is_multicast() || !matches!(self.socks[i as usize].body, Body::Dgram(_)) {
            return Err(Error::Invalid);
        }
        if !self.sessions[sock.session as usize].spec.broadcast {
            self.counters.not_permitted += 1;
            return Err(Error::NotPermitted(Permission::Broadcast));
        }
        let member = Member { i, group };
        match (join, self.groups.find(member)) {
            (true, Some(_)) => Err(Error::AddrInUse),
            (false, None) => Err(Error::AddrNotAvailable),
            (true, None) => {
                let free = self.groups.members.iter().position(Option::is_none);
                self.enter_group(free.ok_or(Error::NoBuffers)?, member);
                let generation = self.socks[i as usize].rec.generation.load(Relaxed);
                self.hard.members[free.unwrap_or(0)].store(sock, generation, group);
                Ok(Reply::Done)
            }
            (false, Some(at)) => {
                self.leave_group(at, group);
                Ok(Reply::Done)
            }
        }
    }

    /// Socket `i` ends: it leaves its groups.
    pub(super) fn leave_groups(&mut self, i: u32) {
        if !matches!(self.socks[i as usize].body, Body::Dgram(_)) {
            return;
        }
        for at in 0..MEMBERS {
            if let Some(m) = self.groups.members[at].filter(|m| m.i == i) {
                self.leave_group(at, m.group);
            }
        }
    }

    fn enter_group(&mut self, at: usize, member: Member) {
        let new = !self.groups.has(member.group);
        self.groups.members[at] = Some(member);
        if new {
            self.group_changed(member.group, true);
        }
    }

    fn leave_group(&mut self, at: usize, group: IpAddr) {
        self.groups.members[at] = None;
        self.hard.members[at].clear();
        if !self.groups.has(group) {
            self.group_changed(group, false);
        }
    }

    /// Takes over the memberships of sockets that are there still.
    pub(super) fn recover_groups(&mut self) {
        for at in 0..MEMBERS {
            let Some((sock, generation, group)) = self.hard.members[at].load() else { continue };
            let i = self.number(sock.session, sock.id).filter(|i| {
                let s = &self.socks[*i as usize];
                matches!(s.body, Body::Dgram(_)) && s.rec.generation.load(Relaxed) == generation
            });
            match i.filter(|_| group.is_multicast()) {
                Some(i) => self.enter_group(at, Member { i, group }),
                None => self.hard.members[at].clear(),
            }
        }
    }

    fn group_changed(&mut self, group: IpAddr, joined: bool) {
        match group {
            IpAddr::V4(ALL_HOSTS) => {}
            IpAddr::V4(v4) => {
                let mapped = v4.to_ipv6_mapped();
                match joined {
                    true => drop(self.groups.igmp.enter(mapped, self.now)),
                    false => self.groups.igmp.leave(mapped, self.now),
                }
                self.arm_igmp();
            }
            IpAddr::V6(v6) => {
                match joined {
                    true => drop(self.ip6.listener.join(v6, self.now)),
                    false => self.ip6.listener.leave(v6, self.now),
                }
                self.arm_ip6();
            }
        }
        self.filter_changed();
    }

    /// The link has come up: routers there know nothing yet.
    pub(super) fn tell_groups(&mut self) {
        self.groups.igmp.link_up(self.now);
        self.arm_igmp();
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
                self.groups.igmp.query(&query, random, self.now);
                self.arm_igmp();
            }
            Repr::Report(group) => {
                self.groups.igmp.others_report(group.to_ipv6_mapped(), self.now);
            }
            Repr::Other => self.counters.rx_unclaimed += 1,
        }
        Ok(())
    }

    fn arm_igmp(&mut self) {
        let at = self.groups.igmp.deadline();
        if at != NEVER {
            self.wheel.set_by(self.own_timer(Own::Groups), at);
        }
    }

    /// Something is to be said about groups.
    pub(super) fn igmp_due(&mut self) {
        let old = self.groups.igmp.is_v1(self.now);
        for _ in 0..MEMBERS {
            let random = self.random();
            let Some(say) = self.groups.igmp.next(random, self.now) else { break };
            self.report_group(&say, old);
        }
        self.arm_igmp();
    }

    fn report_group(&mut self, say: &Say, old: bool) {
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
        let link = Link::Device(Mac::of_group(dst.into()));
        let ip = ip::Repr::new(self.v4_address(), dst.into(), ip::protocol::IGMP, 0);
        let ip = ip::Repr { hop_limit: 1, tos: igmp::TOS, ..ip };
        let rest = Payload::None;
        self.send_packet(
            link,
            &mut Outgoing { ip, options: &igmp::ALERT, body, check: None, rest },
        );
    }
}
