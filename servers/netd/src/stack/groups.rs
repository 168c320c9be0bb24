//! Multicast groups: which sockets have joined which (RFC 1112 7.1, RFC 3376 3), and what follows
//! for the interface. Which sources they hear there is in `sources`; routers are told by `igmp` and `mld`.

use super::Stack;
use super::rx::Packet;
use super::sock::Body;
use crate::crash;
use crate::dev::Dev;
use crate::env::Env;
use crate::ip6::listener;
use crate::membership::{MEMBERS, SOURCES};
use crate::sources::Filter;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::Ordering::Relaxed;
use libipc::net::{Reply, Result, SockId};
use libipc::permission::Permission;
use libipc::sock::{Error, On, option};

/// The group that every host is in (RFC 1112 4).
pub(super) const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// A socket in a group.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub i: u32,
    pub group: IpAddr,
    /// On the link of this card.
    pub dev: Dev,
    /// It hears its sources alone, else all but these.
    pub include: bool,
}

/// Who is in which group, and hears whom there.
pub(super) struct Groups {
    pub members: Vec<Option<Member>>,
    /// Places of memberships, and a source of each.
    pub sources: Vec<Option<(u8, Ipv6Addr)>>,
}

impl Default for Groups {
    fn default() -> Self {
        Self { members: alloc::vec![None; MEMBERS], sources: alloc::vec![None; SOURCES] }
    }
}

/// As sources are kept.
pub(super) fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

impl Groups {
    /// The places of those that are in `group` on the link of `dev`.
    fn of(&self, dev: Dev, group: IpAddr) -> impl Iterator<Item = (usize, Member)> {
        let all = self.members.iter().enumerate().filter_map(|(at, m)| Some((at, (*m)?)));
        all.filter(move |(_, m)| m.dev == dev && m.group == group)
    }
    /// The first of these.
    fn find_any(&self, dev: Dev, group: IpAddr) -> Option<usize> {
        self.of(dev, group).next().map(|(at, _)| at)
    }
    /// Whether a socket hears `source` there.
    fn hears(&self, dev: Dev, group: IpAddr, source: Ipv6Addr) -> bool {
        self.of(dev, group).any(|(at, _)| self.allows(at, source))
    }
    /// Whether a socket is in `group` on the link of `dev`.
    pub fn has(&self, dev: Dev, group: IpAddr) -> bool {
        self.find_any(dev, group).is_some()
    }
    pub fn find(&self, i: u32, dev: Dev, group: IpAddr) -> Option<usize> {
        self.of(dev, group).find(|(_, m)| m.i == i).map(|(at, _)| at)
    }
    /// The groups that sockets have joined on the link of `dev`; a group may come more than once.
    pub fn joined(&self, dev: Dev) -> impl Iterator<Item = IpAddr> {
        self.members.iter().flatten().filter(move |m| m.dev == dev).map(|m| m.group)
    }
    /// The sources of the membership at `at`, and their places.
    pub fn sources_of(&self, at: usize) -> impl Iterator<Item = (usize, Ipv6Addr)> {
        let all = self.sources.iter().enumerate().filter_map(|(n, s)| Some((n, (*s)?)));
        all.filter(move |(_, s)| s.0 as usize == at).map(|(n, s)| (n, s.1))
    }
    pub fn free_source(&self) -> Option<usize> {
        self.sources.iter().position(Option::is_none)
    }
    /// Whether the membership at `at` hears `source`.
    pub fn allows(&self, at: usize, source: Ipv6Addr) -> bool {
        let listed = self.sources_of(at).any(|(_, s)| s == source);
        self.members[at].is_some_and(|m| m.include == listed)
    }
    /// What is heard of a group in all (RFC 3376 3.2): if somebody hears all but some, all but those that nobody hears,
    /// else what anybody hears. What is too long to tell is told as all.
    pub fn filter(&self, dev: Dev, group: IpAddr) -> Filter {
        let exclude = self.of(dev, group).any(|(_, m)| !m.include);
        let mut filter = Filter { exclude, ..Filter::default() };
        for (at, _) in self.of(dev, group).filter(|(_, m)| m.include != exclude) {
            for (_, source) in self.sources_of(at) {
                let counts = !exclude || !self.hears(dev, group, source);
                let new = counts && !filter.sources.contains(&source);
                if new && filter.sources.push(source).is_err() {
                    return Filter::all();
                }
            }
        }
        filter
    }
}

impl<E: Env> Stack<E> {
    /// Whether packets from `source` for `group` that come by `dev` are taken.
    pub(super) fn is_member(&self, dev: Dev, group: IpAddr, source: IpAddr) -> bool {
        group == IpAddr::V4(ALL_HOSTS) || self.groups.hears(dev, group, mapped(source))
    }

    /// Whether socket `i`, bound to the port, gets what is sent to `to`, a group or all, and comes by `dev`. Linux:
    /// unless it has said otherwise, whatever the host has joined.
    pub(super) fn hears(&self, i: u32, p: &Packet<'_>, to: IpAddr) -> bool {
        let (s, dev) = (&self.socks[i as usize], p.dev);
        if s.device != 0 && s.device != p.interface() {
            return false;
        }
        let all = self.sessions[s.session as usize].options(s.id) & option::MULTICAST_ALL_OFF == 0;
        if !to.is_multicast() {
            return true;
        }
        let member = self.groups.find(i, dev, to);
        member.map_or(all, |at| self.groups.allows(at, mapped(p.ip.src)))
    }

    /// IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP and their like.
    pub(super) fn membership(
        &mut self,
        sock: SockId,
        group: IpAddr,
        on: On,
        join: bool,
    ) -> Result<Reply> {
        let group = group.to_canonical();
        let (i, dev) = self.may_join(sock, group, on)?;
        match (join, self.groups.find(i, dev, group)) {
            (true, Some(_)) => Err(Error::AddrInUse),
            (false, None) => Err(Error::AddrNotAvailable),
            (true, None) => self.enter_group(Member { i, group, dev, include: false }, None),
            (false, Some(at)) => {
                self.leave_group(at);
                Ok(Reply::Done)
            }
        }
    }

    /// The socket that may be in groups, and the card.
    pub(super) fn may_join(&mut self, sock: SockId, group: IpAddr, on: On) -> Result<(u32, Dev)> {
        let i = self.existing(sock)?;
        if !group.is_multicast() || !matches!(self.socks[i as usize].body, Body::Dgram(_)) {
            return Err(Error::Invalid);
        }
        if !self.sessions[sock.session as usize].spec.broadcast {
            self.counters.not_permitted += 1;
            return Err(Error::NotPermitted(Permission::Broadcast));
        }
        Ok((i, self.dev_to_join(group, on)?))
    }

    /// The card on whose link a group is joined: as with Linux the one that is named, by number or by its address,
    /// else that by which packets for the group leave.
    pub(super) fn dev_to_join(&self, group: IpAddr, on: On) -> Result<Dev> {
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
            if self.groups.members[at].is_some_and(|m| m.i == i) {
                self.leave_group(at);
            }
        }
    }

    /// A socket is in a group from now on, with its first source if it hears named ones alone.
    pub(super) fn enter_group(&mut self, m: Member, source: Option<Ipv6Addr>) -> Result<Reply> {
        let at = self.groups.members.iter().position(Option::is_none).ok_or(Error::NoBuffers)?;
        let free = self.groups.free_source();
        let place = source.is_some().then(|| free.ok_or(Error::NoBuffers)).transpose()?;
        let s = &self.socks[m.i as usize];
        let sock = SockId { session: s.session, id: s.id };
        let generation = s.rec.generation.load(Relaxed);
        let old = self.groups.filter(m.dev, m.group);
        // The source first: alone it means nothing.
        if let (Some(place), Some(source)) = (place, source) {
            self.set_source(place, Some((at as u8, source)));
        }
        crash::point();
        self.hard.members[at].store(sock, generation, m.dev, m.group, m.include);
        crash::point();
        self.groups.members[at] = Some(m);
        self.group_changed(m.dev, m.group, &old);
        Ok(Reply::Done)
    }

    /// Socket and group at place `at` part.
    pub(super) fn leave_group(&mut self, at: usize) {
        let Some(Member { dev, group, .. }) = self.groups.members[at] else { return };
        let old = self.groups.filter(dev, group);
        self.groups.members[at] = None;
        self.hard.members[at].clear();
        crash::point();
        for place in 0..SOURCES {
            if self.groups.sources[place].is_some_and(|s| s.0 as usize == at) {
                self.set_source(place, None);
            }
        }
        self.group_changed(dev, group, &old);
    }

    /// Keeps a source of a membership, or none, at `place`.
    pub(super) fn set_source(&mut self, place: usize, source: Option<(u8, Ipv6Addr)>) {
        self.groups.sources[place] = source;
        crash::point();
        match source {
            Some((member, ip)) => self.hard.sources[place].store(member, ip),
            None => self.hard.sources[place].clear(),
        }
        crash::point();
    }

    /// Takes over the memberships of sockets that are there still.
    pub(super) fn recover_groups(&mut self) {
        for at in 0..MEMBERS {
            let Some((sock, generation, dev, group, include)) = self.hard.members[at].load() else {
                continue;
            };
            let i = self.number(sock.session, sock.id).filter(|i| {
                let s = &self.socks[*i as usize];
                matches!(s.body, Body::Dgram(_)) && s.rec.generation.load(Relaxed) == generation
            });
            let there = group.is_multicast() && dev.index() < self.nics.len();
            match i.filter(|_| there) {
                Some(i) => self.groups.members[at] = Some(Member { i, group, dev, include }),
                None => self.hard.members[at].clear(),
            }
        }
        for place in 0..SOURCES {
            let kept = self.hard.sources[place].load();
            let member = |at: u8| self.groups.members.get(at as usize).is_some_and(Option::is_some);
            self.set_source(place, kept.filter(|(at, _)| member(*at)));
        }
        for at in 0..MEMBERS {
            let Some(m) = self.groups.members[at] else { continue };
            if self.groups.find_any(m.dev, m.group) == Some(at) {
                self.group_changed(m.dev, m.group, &Filter::default());
            }
        }
    }

    /// What is heard of a group was `old` until now.
    pub(super) fn group_changed(&mut self, dev: Dev, group: IpAddr, old: &Filter) {
        let (now, new) = (self.now, self.groups.filter(dev, group));
        let nic = self.nic(dev);
        match group {
            _ if old.is_same(&new) => {}
            IpAddr::V4(ALL_HOSTS) => {}
            IpAddr::V4(v4) => {
                nic.igmp.changed(v4.to_ipv6_mapped(), old, &new, now);
                self.arm_igmp(dev);
            }
            // In groups of its own addresses the host is anyhow.
            IpAddr::V6(v6) if listener::is_silent(v6) || nic.ip6.solicits(v6) => {}
            IpAddr::V6(v6) => {
                nic.ip6.listener.changed(v6, old, &new, now);
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
}
