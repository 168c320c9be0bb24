//! IPv6 on a network card: its addresses as they come and go, and what is due.

use super::Stack;
use super::turns::Own;
use crate::addressing6::Addressing6;
use crate::dev::Dev;
use crate::env::{Env, Event};
use crate::iface::Net;
use crate::ip6::address::{Address, Origin, Standing, of_prefix};
use crate::ip6::record::Kept;
use crate::ip6::source::{self, Candidate};
use crate::ip6::{Action, NEVER, S};
use crate::route::{self, Route};
use crate::wire::ipv6;
use core::net::{IpAddr, Ipv6Addr};
use libipc::net::{Address6, Interface6, State6};

/// fe80::/64.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
/// Things that are due in one turn.
const BUDGET: usize = 64;

impl<E: Env> Stack<E> {
    /// The address to speak to `dst` from, by card `on` if that is said.
    pub(super) fn source(&self, dst: IpAddr, on: Option<Dev>) -> Option<IpAddr> {
        match dst {
            IpAddr::V6(to) if !to.is_loopback() => self.source_v6(to, on).map(IpAddr::V6),
            _ => self.iface.source(dst, on, self.now),
        }
    }

    fn source_v6(&self, dst: Ipv6Addr, on: Option<Dev>) -> Option<Ipv6Addr> {
        let to = IpAddr::V6(dst);
        let out = match () {
            _ if dst.is_multicast() => self.iface.dev_for_many(to, on, self.now),
            // To one of ours from the same.
            _ if self.iface.is_ours(to) => self.iface.dev_of(to)?,
            _ => self.next_hop(to, on).map(|hop| hop.dev).or(on).unwrap_or_default(),
        };
        // What leaves for one link alone is answered there (RFC 6724 4).
        let one_link = dst.is_multicast() || dst.is_unicast_link_local();
        let all = self.devs().zip(self.nics.iter()).filter(|(dev, _)| !one_link || *dev == out);
        let all = all.flat_map(|(dev, nic)| {
            nic.ip6.addresses.iter().map(move |address| Candidate { address, on_out: dev == out })
        });
        source::select(all, dst, self.now)
    }

    /// As `ip` shows card `dev`.
    pub(super) fn interface_v6(&self, dev: Dev) -> Interface6 {
        let nic = &self.nics[dev];
        let seconds = |until: u64| (until.saturating_sub(self.now) / S).min(u32::MAX as u64) as u32;
        let address = |a: &Address| Address6 {
            addr: a.ip,
            prefix: a.prefix,
            state: match a.standing {
                Standing::Tentative(_) => State6::Tentative,
                Standing::Duplicate => State6::Duplicate,
                Standing::Ours if a.is_deprecated(self.now) => State6::Deprecated,
                Standing::Ours => State6::Preferred,
            },
            left_s: (a.valid_until != NEVER).then(|| seconds(a.valid_until)),
        };
        let router = self.iface.gateways(dev).find_map(|g| match g {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        });
        let addrs = nic.ip6.addresses.iter().map(address).collect();
        Interface6 { addrs, router, mtu: nic.mtu_v6() }
    }

    /// What an earlier incarnation had settled holds at once.
    pub(super) fn recover_v6(&mut self, dev: Dev) {
        let nic = self.nic(dev);
        if !nic.ip6.is_on() {
            return;
        }
        let hard = nic.hard;
        for kept in hard.ip6.load(self.now) {
            match kept {
                Kept::Address(a) => {
                    self.nic(dev).ip6.addresses.restore(a);
                    self.take_address(dev, &a);
                }
                Kept::Router(via, metric, expires) => {
                    let by = Route::default_by(dev, via.into(), metric);
                    self.iface.routes.set(Route { expires, origin: route::Origin::Router, ..by });
                }
            }
        }
    }

    /// The link is up: addresses are settled, groups are reported, routers are asked.
    pub(super) fn link_up_v6(&mut self, dev: Dev) {
        self.filter_changed(dev);
        if !self.nics[dev].ip6.is_on() {
            return;
        }
        let (mac, now, random) = (self.nics[dev].mac, self.now, self.random());
        self.nic(dev).ip6.nonce = core::array::from_fn(|_| self.random() as u8);
        while let Some(foreign) = self.nic(dev).ip6.addresses.forget_foreign(mac) {
            self.address_gone(dev, foreign);
        }
        let ip6 = &mut self.nic(dev).ip6;
        ip6.listener.link_up(now);
        ip6.addresses.link_up(random, now);
        let how = ip6.how;
        self.iface.routes.set(Route::near(dev, LINK_LOCAL.into(), 64));
        self.begin_address(dev, of_prefix(LINK_LOCAL, mac), 64, Origin::LinkLocal);
        if let Addressing6::Static { addr, prefix, gateway, dns } = how {
            self.begin_address(dev, addr, prefix, Origin::Static);
            if let Some(gateway) = gateway {
                self.iface.routes.set(Route::default_by(dev, gateway.into(), 0));
            }
            if let Some(dns) = dns {
                self.nic(dev).ip6.routers.set_dns(dns, NEVER, now);
                self.dns_news(dev);
            }
        }
        let ip6 = &mut self.nic(dev).ip6;
        if ip6.addresses.link_local().is_some() && ip6.heeds_routers() {
            ip6.routers.begin(now);
        }
        self.arm_ip6(dev);
    }

    fn begin_address(&mut self, dev: Dev, ip: Ipv6Addr, prefix: u8, origin: Origin) {
        let (random, now) = (self.random(), self.now);
        if self.nic(dev).ip6.addresses.add(ip, prefix, origin, random, now) {
            self.address_changed_v6(dev, ip);
        }
    }

    /// An address is new, or lasts longer or less long than before.
    pub(super) fn address_changed_v6(&mut self, dev: Dev, ip: Ipv6Addr) {
        let now = self.now;
        let nic = self.nic(dev);
        // Before others are asked for it: switches pass on what is sent to the group only to who
        // has said that it listens (RFC 4862 5.4.2).
        nic.ip6.listener.join(ipv6::solicited_node(ip), now);
        if let Some(a) = nic.ip6.addresses.get(ip).filter(|a| !a.is_tentative()).copied() {
            nic.hard.ip6.keep(&Kept::Address(a), now);
        }
        self.filter_changed(dev);
        self.arm_ip6(dev);
    }

    /// Packets may be sent from `a` and are taken to it.
    fn take_address(&mut self, dev: Dev, a: &Address) {
        let now = self.now;
        self.nic(dev).ip6.listener.join(ipv6::solicited_node(a.ip), now);
        let addr = IpAddr::V6(a.ip);
        let has = |net: &Net| net.addr == addr && net.dev == dev;
        if !a.is_ours() || self.iface.addrs().iter().any(has) {
            return;
        }
        // The table of routes knows what is near.
        self.iface.add(Net { addr, prefix: 128, dev });
        if a.on_link {
            let near = Route { expires: a.valid_until, ..Route::near(dev, addr, a.prefix) };
            self.iface.routes.set(near);
        }
        let gateway = self.iface.gateways(dev).find(IpAddr::is_ipv6);
        let dns = self.nics[dev].ip6.routers.dns().next().map(IpAddr::V6);
        let prefix = a.prefix;
        self.env.event(Event::Address { dev, addr, prefix, gateway, dns, lease_s: None });
        self.address_changed();
    }

    /// It turned out to be somebody else's.
    pub(super) fn address_refused(&mut self, dev: Dev, ip: Ipv6Addr) {
        let now = self.now;
        let nic = self.nic(dev);
        if let Some(a) = nic.ip6.addresses.get(ip).copied() {
            nic.hard.ip6.keep(&Kept::Address(a), now);
        }
        self.leave_solicited(dev, ip);
    }

    fn address_gone(&mut self, dev: Dev, ip: Ipv6Addr) {
        let addr = IpAddr::V6(ip);
        self.nics[dev].hard.ip6.forget_address(ip);
        self.iface.remove(dev, addr);
        self.leave_solicited(dev, ip);
        self.env.event(Event::AddressGone { addr });
        self.address_changed();
    }

    /// Leaves the group in which `ip` is asked for, unless another address has the same.
    fn leave_solicited(&mut self, dev: Dev, ip: Ipv6Addr) {
        let (group, now) = (ipv6::solicited_node(ip), self.now);
        let joined = self.groups.has(dev, group.into());
        let ip6 = &mut self.nic(dev).ip6;
        if !ip6.solicits(group) && !joined {
            ip6.listener.leave(group, now);
        }
        self.filter_changed(dev);
    }

    /// The name servers that routers have told of stand beside those of IPv4.
    pub(super) fn dns_news(&mut self, dev: Dev) {
        self.iface.set_dns_v6(dev, self.nics[dev].ip6.routers.dns());
    }

    pub(super) fn arm_ip6(&mut self, dev: Dev) {
        let timer = self.own_timer(Own::ip6(dev));
        match self.nic(dev).ip6.deadline() {
            NEVER => self.wheel.cancel(timer),
            due => self.wheel.set(timer, due),
        }
    }

    /// Does what is due.
    pub(super) fn ip6_due(&mut self, dev: Dev) {
        for _ in 0..BUDGET {
            let (random, now) = (self.random(), self.now);
            let Some(nic) = self.nics.get_mut(dev).filter(|n| n.up) else { return };
            let Some(action) = nic.ip6.timer(random, now) else { break };
            match action {
                Action::Probe(ip) => self.probe_address(dev, ip),
                Action::Ready(ip) => self.address_ready(dev, ip),
                Action::Gone(ip) => self.address_gone(dev, ip),
                Action::SolicitRouters => self.solicit_routers(dev),
                Action::RouterNews => self.dns_news(dev),
                Action::Report => self.report_groups(dev),
            }
        }
        self.arm_ip6(dev);
    }

    fn address_ready(&mut self, dev: Dev, ip: Ipv6Addr) {
        let now = self.now;
        let nic = self.nic(dev);
        let Some(a) = nic.ip6.addresses.get(ip).copied() else { return };
        // The record first: who hears of the address finds it after a crash.
        nic.hard.ip6.keep(&Kept::Address(a), now);
        self.take_address(dev, &a);
        let ip6 = &mut self.nic(dev).ip6;
        if a.origin == Origin::LinkLocal && ip6.heeds_routers() {
            ip6.routers.begin(now);
        }
    }
}
