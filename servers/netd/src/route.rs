//! Routes, of both families: by which network card a packet for a destination leaves, and to which neighbour.

use crate::dev::Dev;
use core::net::IpAddr;

/// Routes that there may be.
pub const ROUTES: usize = 128;

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destinations: this address's first `prefix` bits.
    pub to: IpAddr,
    /// Bits that count.
    pub prefix: u8,
    /// The gateway; `None`: the destination is a neighbour itself.
    pub via: Option<IpAddr>,
    /// By which network card.
    pub dev: Dev,
    /// Of equally long prefixes the lowest metric wins, of equal metrics the first card, and there who came first.
    pub metric: u32,
    /// When it is no more, ns; `u64::MAX`: it stays.
    pub expires: u64,
    /// Who made it: what is renewed or withdrawn goes by its origin.
    pub origin: Origin,
}

/// Who made a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An address of the interface.
    Address,
    /// The manifest, or DHCP.
    Given,
    /// A router's advertisement.
    Router,
}

/// Whether the first `prefix` bits of `a` and `b`, of one family, agree.
pub fn matches(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let hosts = u32::MAX.checked_shr(prefix as u32).unwrap_or(0);
            (a.to_bits() ^ b.to_bits()) & !hosts == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let hosts = u128::MAX.checked_shr(prefix as u32).unwrap_or(0);
            (a.to_bits() ^ b.to_bits()) & !hosts == 0
        }
        _ => false,
    }
}

impl Route {
    /// To a network that `dev` is on.
    pub const fn near(dev: Dev, to: IpAddr, prefix: u8) -> Self {
        let (metric, expires) = (0, u64::MAX);
        Self { to, prefix, via: None, dev, metric, expires, origin: Origin::Address }
    }
    /// To everything else, by a gateway that is near `dev`.
    pub const fn default_by(dev: Dev, via: IpAddr, metric: u32) -> Self {
        let to = match via {
            IpAddr::V4(_) => IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED),
        };
        let expires = u64::MAX;
        Self { to, prefix: 0, via: Some(via), dev, metric, expires, origin: Origin::Given }
    }
    /// Whether `ip` is one of its destinations.
    pub fn has(&self, ip: IpAddr) -> bool {
        matches(self.to, ip, self.prefix)
    }
    fn is_same(&self, other: &Self) -> bool {
        self.is_to(other.to, other.prefix) && self.via == other.via && self.dev == other.dev
    }
    /// Whether these are its destinations.
    pub fn is_to(&self, to: IpAddr, prefix: u8) -> bool {
        self.prefix == prefix && self.has(to)
    }
}

/// The table, best routes first, so that the first that matches is the one.
#[derive(Default)]
pub struct Routes(heapless::Vec<Route, ROUTES>);

impl Routes {
    /// Enters `route`, or renews the one with the same destinations, gateway and card. `false`: the
    /// table is full.
    pub fn set(&mut self, route: Route) -> bool {
        // What is renewed keeps its place, so that two routers do not take turns.
        let same = |r: &&mut Route| r.is_same(&route) && r.metric == route.metric;
        if let Some(known) = self.0.iter_mut().find(same) {
            *known = route;
            return true;
        }
        self.0.retain(|r| !r.is_same(&route));
        let key = |r: &Route| (core::cmp::Reverse(r.prefix), r.metric, r.dev);
        let at = self.0.iter().position(|r| key(r) > key(&route)).unwrap_or(self.0.len());
        self.0.insert(at, route).is_ok()
    }
    /// Removes those that `gone` names.
    pub fn remove(&mut self, gone: impl Fn(&Route) -> bool) {
        self.0.retain(|r| !gone(r));
    }
    /// The best route to `dst` at time `now`, by one of the cards whose bits are set in `by`.
    pub fn lookup(&self, dst: IpAddr, by: u8, now: u64) -> Option<&Route> {
        self.0.iter().find(|r| r.has(dst) && r.expires > now && by & r.dev.bit() != 0)
    }
    /// All of them, best first.
    pub fn all(&self) -> &[Route] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: Dev = Dev::FIRST;
    const ALL: u8 = 1;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_wins_then_the_lowest_metric() {
        let mut t = Routes::default();
        let to = |to, prefix, via, metric| Route {
            prefix,
            to: ip(to),
            ..Route::default_by(D, ip(via), metric)
        };
        assert!(t.set(Route::default_by(D, ip("10.0.0.1"), 0)));
        assert!(t.set(Route::default_by(D, ip("fe80::1"), 0)));
        assert!(t.set(to("192.168.0.0", 16, "10.0.0.2", 5)));
        assert!(t.set(to("192.168.0.0", 16, "10.0.0.3", 4)));
        assert!(t.set(to("192.168.7.0", 24, "10.0.0.4", 900)));
        assert!(t.set(Route::near(D, ip("10.0.0.9"), 24)));
        for (dst, via) in [
            ("8.8.8.8", Some("10.0.0.1")),
            ("192.168.1.1", Some("10.0.0.3")),
            ("192.168.7.9", Some("10.0.0.4")),
            ("10.0.0.77", None),
            ("2001:db8::1", Some("fe80::1")),
        ] {
            let route = t.lookup(ip(dst), ALL, 0).unwrap();
            assert_eq!(route.via, via.map(ip), "{dst}");
        }
        t.remove(|r| r.via == Some(ip("10.0.0.3")));
        assert_eq!(t.lookup(ip("192.168.1.1"), ALL, 0).unwrap().via, Some(ip("10.0.0.2")));
    }

    #[test]
    fn what_is_renewed_stands_once_and_ends_when_it_says() {
        let mut t = Routes::default();
        let route = Route { expires: 10, ..Route::default_by(D, ip("fe80::1"), 3) };
        assert!(t.set(route) && t.set(Route { expires: 20, metric: 1, ..route }));
        assert_eq!(t.all().len(), 1);
        assert!(t.lookup(ip("::1"), ALL, 19).is_some() && t.lookup(ip("::1"), ALL, 20).is_none());
        for i in 1..ROUTES as u8 {
            assert!(t.set(Route::near(D, IpAddr::from([10, i, 0, 0]), 16)));
        }
        assert!(!t.set(Route::near(D, ip("11.0.0.0"), 8)), "full");
    }

    #[test]
    fn of_two_cards_on_one_network_the_first_is_the_way_as_long_as_it_may_be() {
        let mut t = Routes::default();
        let [first, second] = [0, 1].map(|i| Dev::first(2).nth(i).unwrap());
        for dev in [second, first] {
            assert!(t.set(Route::near(dev, ip("10.0.0.0"), 24)));
            assert!(t.set(Route::default_by(dev, ip("10.0.0.1"), 0)));
        }
        assert_eq!(t.all().len(), 4, "the same by another card is another route");
        for dst in ["10.0.0.9", "8.8.8.8"] {
            let dev = |by| t.lookup(ip(dst), by, 0).map(|r| r.dev);
            assert_eq!([dev(3), dev(1), dev(2)], [Some(first), Some(first), Some(second)]);
            assert_eq!(dev(4), None);
        }
        assert!(t.set(Route::near(second, ip("10.0.0.0"), 25)));
        assert_eq!(t.lookup(ip("10.0.0.9"), 3, 0).unwrap().dev, second, "the longer prefix");
        assert!(t.set(Route { metric: 9, ..Route::default_by(first, ip("10.0.0.1"), 0) }));
        assert_eq!(t.lookup(ip("8.8.8.8"), 3, 0).unwrap().dev, second, "the lower metric");
    }
}
