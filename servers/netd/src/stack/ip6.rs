//! IPv6 on the interface: its addresses as they come and go, and what is due.

use super::Stack;
use super::turns::Own;
use crate::addressing6::Addressing6;
use crate::env::{Env, Event};
use crate::iface::Net;
use crate::ip6::address::{Address, Origin, Standing, of_prefix};
use crate::ip6::record::Kept;
use crate::ip6::{Action, NEVER, S, source};
use crate::route::{self, Route};
use crate::wire::ipv6;
use core::net::{IpAddr, Ipv6Addr};
use libipc::net::{Address6, Interface6, State6};

/// fe80::/64.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
/// Things that are due in one turn.
const BUDGET: usize = 64;

impl<E: Env> Stack<E> {
    /// The address to speak to `dst` from.
    pub(super) fn source(&self, dst: IpAddr) -> Option<IpAddr> {
        match dst {
            IpAddr::V6(to) if !to.is_loopback() => {
                source::select(self.ip6.addresses.iter(), to, self.now).map(IpAddr::V6)
            }
            _ => self.iface.source(dst, self.now),
        }
    }

    /// Bytes that a packet of IPv6 may have on the link.
    pub(super) fn mtu_v6(&self) -> u16 {
        self.ip6.routers.mtu.unwrap_or(self.iface.mtu)
    }

    /// As `ip` shows it.
    pub(super) fn interface_v6(&self) -> Interface6 {
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
        let router = self.iface.gateways().find_map(|g| match g {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        });
        let addrs = self.ip6.addresses.iter().map(address).collect();
        Interface6 { addrs, router, mtu: self.mtu_v6() }
    }

    /// What an earlier incarnation had settled holds at once.
    pub(super) fn recover_v6(&mut self) {
        if !self.ip6.is_on() {
            return;
        }
        let hard = self.hard;
        for kept in hard.ip6.load(self.now) {
            match kept {
                Kept::Address(a) => {
                    self.ip6.addresses.restore(a);
                    self.take_address(&a);
                }
                Kept::Router(via, metric, expires) => {
                    let by = Route::default_by(via.into(), metric);
                    self.iface.routes.set(Route { expires, origin: route::Origin::Router, ..by });
                }
            }
        }
    }

    /// The link is up: addresses are settled, groups are reported, routers are asked.
    pub(super) fn link_up_v6(&mut self) {
        self.filter_changed();
        if !self.ip6.is_on() {
            return;
        }
        let (mac, now, random) = (self.iface.mac, self.now, self.random());
        self.ip6.nonce = core::array::from_fn(|_| self.random() as u8);
        while let Some(foreign) = self.ip6.addresses.forget_foreign(mac) {
            self.address_gone(foreign);
        }
        self.ip6.listener.link_up(now);
        self.ip6.addresses.link_up(random, now);
        self.iface.routes.set(Route::near(LINK_LOCAL.into(), 64));
        self.begin_address(of_prefix(LINK_LOCAL, mac), 64, Origin::LinkLocal);
        if let Addressing6::Static { addr, prefix, gateway, dns } = self.ip6.how {
            self.begin_address(addr, prefix, Origin::Static);
            if let Some(gateway) = gateway {
                self.iface.routes.set(Route::default_by(gateway.into(), 0));
            }
            if let Some(dns) = dns {
                self.ip6.routers.set_dns(dns, NEVER, now);
                self.dns_news();
            }
        }
        if self.ip6.addresses.link_local().is_some() && self.ip6.heeds_routers() {
            self.ip6.routers.begin(now);
        }
        self.arm_ip6();
    }

    fn begin_address(&mut self, ip: Ipv6Addr, prefix: u8, origin: Origin) {
        let (random, now) = (self.random(), self.now);
        if self.ip6.addresses.add(ip, prefix, origin, random, now) {
            self.address_changed_v6(ip);
        }
    }

    /// An address is new, or lasts longer or less long than before.
    pub(super) fn address_changed_v6(&mut self, ip: Ipv6Addr) {
        // Before others are asked for it: switches pass on what is sent to the group only to who
        // has said that it listens (RFC 4862 5.4.2).
        self.ip6.listener.join(ipv6::solicited_node(ip), self.now);
        self.filter_changed();
        if let Some(a) = self.ip6.addresses.get(ip).filter(|a| !a.is_tentative()).copied() {
            self.hard.ip6.keep(&Kept::Address(a), self.now);
        }
        self.arm_ip6();
    }

    /// Packets may be sent from `a` and are taken to it.
    fn take_address(&mut self, a: &Address) {
        self.ip6.listener.join(ipv6::solicited_node(a.ip), self.now);
        let addr = IpAddr::V6(a.ip);
        if !a.is_ours() || self.iface.is_ours(addr) {
            return;
        }
        // The table of routes knows what is near.
        self.iface.add(Net { addr, prefix: 128 });
        if a.on_link {
            let near = Route { expires: a.valid_until, ..Route::near(addr, a.prefix) };
            self.iface.routes.set(near);
        }
        let gateway = self.iface.gateways().find(IpAddr::is_ipv6);
        let dns = self.ip6.routers.dns().next().map(IpAddr::V6);
        let prefix = a.prefix;
        self.env.event(Event::Address { addr, prefix, gateway, dns, lease_s: None });
        self.address_changed();
    }

    /// It turned out to be somebody else's.
    pub(super) fn address_refused(&mut self, ip: Ipv6Addr) {
        if let Some(a) = self.ip6.addresses.get(ip).copied() {
            self.hard.ip6.keep(&Kept::Address(a), self.now);
        }
        self.leave_solicited(ip);
    }

    fn address_gone(&mut self, ip: Ipv6Addr) {
        let addr = IpAddr::V6(ip);
        self.hard.ip6.forget_address(ip);
        self.iface.remove(addr);
        self.leave_solicited(ip);
        self.env.event(Event::AddressGone { addr });
        self.address_changed();
    }

    /// Leaves the group in which `ip` is asked for, unless another address has the same.
    fn leave_solicited(&mut self, ip: Ipv6Addr) {
        let group = ipv6::solicited_node(ip);
        let needed =
            |a: &Address| (a.is_ours() || a.is_tentative()) && ipv6::solicited_node(a.ip) == group;
        if !self.ip6.addresses.iter().any(needed) {
            self.ip6.listener.leave(group, self.now);
        }
        self.filter_changed();
    }

    /// The name servers that routers have told of stand beside those of IPv4.
    pub(super) fn dns_news(&mut self) {
        self.iface.dns.retain(IpAddr::is_ipv4);
        for server in self.ip6.routers.dns() {
            let _ = self.iface.dns.push(IpAddr::V6(server));
        }
    }

    pub(super) fn arm_ip6(&mut self) {
        match self.ip6.deadline() {
            NEVER => self.wheel.cancel(self.own_timer(Own::Ip6)),
            due => self.wheel.set(self.own_timer(Own::Ip6), due),
        }
    }

    /// Does what is due.
    pub(super) fn ip6_due(&mut self) {
        for _ in 0..BUDGET {
            let (random, now) = (self.random(), self.now);
            if !self.iface.up {
                return;
            }
            let Some(action) = self.ip6.timer(random, now) else { break };
            match action {
                Action::Probe(ip) => self.probe_address(ip),
                Action::Ready(ip) => self.address_ready(ip),
                Action::Gone(ip) => self.address_gone(ip),
                Action::SolicitRouters => self.solicit_routers(),
                Action::RouterNews => self.dns_news(),
                Action::Report => self.report_groups(),
            }
        }
        self.arm_ip6();
    }

    fn address_ready(&mut self, ip: Ipv6Addr) {
        let Some(a) = self.ip6.addresses.get(ip).copied() else { return };
        // The record first: who hears of the address finds it after a crash.
        self.hard.ip6.keep(&Kept::Address(a), self.now);
        self.take_address(&a);
        if a.origin == Origin::LinkLocal && self.ip6.heeds_routers() {
            self.ip6.routers.begin(self.now);
        }
    }
}
