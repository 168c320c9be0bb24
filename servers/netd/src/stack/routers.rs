//! What routers say (RFC 4861 6.3.4): routes, prefixes, the link's MTU, name servers.

use super::Stack;
use super::tx::Link;
use crate::dev::{Dev, Hop};
use crate::env::Env;
use crate::ip6::after;
use crate::ip6::record::Kept;
use crate::neigh::{News, Other, State};
use crate::route::{Origin, Route};
use crate::wire::Malformed;
use crate::wire::ip::HOP_LIMIT;
use crate::wire::ndp::{Opt, Options, Prefix, Router};
use core::net::{IpAddr, Ipv6Addr};

/// Metric of a route that is neither preferred nor not (Linux's IP6_RT_PRIO_ADDRCONF has another
/// number, but the order is the same).
const METRIC: u32 = 1024;
/// Routes that the routers of one link may fill the table with.
const ROUTES: usize = 16;

fn metric(preference: i8) -> u32 {
    METRIC.saturating_add_signed(-(preference as i32))
}

impl<E: Env> Stack<E> {
    /// A router advertisement.
    pub(super) fn router_in(
        &mut self,
        (dev, src): (Dev, Ipv6Addr),
        router: &Router,
        options: Options<'_>,
    ) -> Result<(), Malformed> {
        if !src.is_unicast_link_local() {
            return Err(Malformed::Address);
        }
        if !self.nics[dev].ip6.heeds_routers() {
            self.counters.nd_ignored += 1;
            return Ok(());
        }
        if let Some(mac) = options.source() {
            let (reachable, create, other) = (false, true, Other::Replaces);
            let hop = Hop { dev, ip: src.into() };
            self.heard(hop, News { mac: Some(mac), reachable, create, other });
        }
        let nic = self.nic(dev);
        nic.ip6.routers.heard(router, nic.mtu);
        let (any, lifetime_s) = (Ipv6Addr::UNSPECIFIED, router.lifetime_s as u32);
        self.route_by((dev, src), (any, 0), router.preference, lifetime_s);
        for option in options {
            self.router_says(dev, src, &option);
        }
        self.dns_news(dev);
        self.arm_ip6(dev);
        Ok(())
    }

    fn router_says(&mut self, dev: Dev, src: Ipv6Addr, option: &Opt<'_>) {
        let now = self.now;
        match *option {
            Opt::Prefix(prefix) => self.prefix(dev, &prefix),
            Opt::Mtu(mtu) => {
                let nic = self.nic(dev);
                nic.ip6.routers.set_mtu(mtu, nic.mtu);
            }
            Opt::Route(to, len, preference, lifetime_s) => {
                self.route_by((dev, src), (to, len), preference, lifetime_s);
            }
            Opt::Dns(lifetime_s, servers) => {
                for server in servers {
                    self.nic(dev).ip6.routers.set_dns(server, after(now, lifetime_s), now);
                }
            }
            Opt::Source(_) | Opt::Target(_) | Opt::Nonce(_) | Opt::Unknown => {}
        }
    }

    /// A route by a router, or its end. That to everywhere is kept over a crash.
    fn route_by(
        &mut self,
        (dev, via): (Dev, Ipv6Addr),
        (to, prefix): (Ipv6Addr, u8),
        preference: i8,
        lifetime_s: u32,
    ) {
        let (metric, expires) = (metric(preference), after(self.now, lifetime_s));
        let via_ip = IpAddr::V6(via);
        if lifetime_s == 0 {
            let to = IpAddr::V6(to);
            self.iface.routes.remove(|r| {
                let same = r.is_to(to, prefix) && r.via == Some(via_ip) && r.dev == dev;
                same && r.origin == Origin::Router
            });
            if prefix == 0 {
                self.nics[dev].hard.ip6.forget_router(via);
            }
            return;
        }
        let to = IpAddr::V6(to);
        self.router_route(Route {
            to,
            prefix,
            via: Some(via_ip),
            dev,
            metric,
            expires,
            origin: Origin::Router,
        });
        if prefix == 0 {
            let hard = self.nics[dev].hard;
            hard.ip6.keep(&Kept::Router(via, metric, expires), self.now);
        }
    }

    /// Enters a route that a router has made, if there are not too many.
    fn router_route(&mut self, route: Route) {
        let now = self.now;
        let routes = &mut self.iface.routes;
        routes.remove(|r| r.expires <= now);
        let by_routers = |r: &&Route| r.origin == Origin::Router && r.dev == route.dev;
        let by_routers = routes.all().iter().filter(by_routers);
        let same = |r: &Route| r.is_to(route.to, route.prefix) && r.via == route.via;
        let known = by_routers.clone().any(same);
        let by_routers = by_routers.count();
        if !known && by_routers >= ROUTES || !routes.set(route) {
            self.counters.nd_ignored += 1;
        }
    }

    /// A prefix: its addresses may be on the link, and some may be made of it.
    fn prefix(&mut self, dev: Dev, p: &Prefix) {
        let now = self.now;
        if p.addr.is_unicast_link_local() || p.addr.is_multicast() {
            return;
        }
        if p.on_link {
            let to = IpAddr::V6(p.addr);
            let near = Route {
                expires: after(now, p.valid_s),
                origin: Origin::Router,
                ..Route::near(dev, to, p.len)
            };
            if p.valid_s == 0 {
                self.iface.routes.remove(|r| {
                    let same = r.is_to(to, p.len) && r.via.is_none() && r.dev == dev;
                    same && r.origin == Origin::Router
                });
            } else {
                self.router_route(near);
            }
        }
        let random = self.random();
        let nic = self.nic(dev);
        if let Some(ip) = nic.ip6.addresses.prefix(p, nic.mac, random, now) {
            self.address_changed_v6(dev, ip);
        }
    }

    /// The way to `dst` by card `on`, if that is said, instead of `hop`, if that is a router that does not answer: of
    /// the others to the same destinations the best that is not known to be dead (RFC 4861 6.3.6).
    #[inline]
    pub(super) fn living_router(&self, dst: IpAddr, on: Option<Dev>, hop: Hop) -> Hop {
        let dead = |hop: Hop| self.neighbours.state(hop) == State::Failed;
        match dst.is_ipv6() && hop.ip != dst && dead(hop) {
            true => self.iface.next_router(dst, on, self.now, dead).unwrap_or(hop),
            false => hop,
        }
    }

    /// How many hops a packet to `dst` by `link` may take unless somebody says: what routers do (RFC 4861 6.3.4).
    pub(super) fn hop_limit_to(&self, link: Link, dst: IpAddr) -> u8 {
        match link {
            Link::Device(_) | Link::Later(_) if dst.is_ipv6() => {
                self.nics[self.station(link).dev].ip6.routers.hop_limit
            }
            _ => HOP_LIMIT,
        }
    }

    /// A neighbour says that it is no router (any more).
    pub(super) fn no_router(&mut self, dev: Dev, ip: Ipv6Addr) {
        let via = Some(IpAddr::V6(ip));
        let gone = |r: &Route| r.via == via && r.dev == dev && r.origin == Origin::Router;
        if self.iface.routes.all().iter().any(gone) {
            self.iface.routes.remove(gone);
            self.nics[dev].hard.ip6.forget_router(ip);
        }
    }
}
