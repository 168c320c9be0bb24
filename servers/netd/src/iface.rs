//! What the interfaces of this host have together: addresses of both families, routes, name servers, and what
//! follows from them for a destination.
//!
//! Packets are taken to any address of this host, by whichever card they come, and sent from any (the weak model of
//! RFC 1122 3.3.4.2; Linux's, too). Nothing is passed on from one card to another.

use crate::dev::{Dev, Hop, NICS};
use crate::route::{Origin, Route, Routes, matches};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses there may be: two of IPv4 on each card, and those of IPv6.
const ADDRS: usize = NICS * (2 + crate::ip6::address::ADDRESSES);
/// Name servers, likewise.
const SERVERS: usize = NICS * (1 + crate::ip6::routers::SERVERS);
/// Routes by all cards.
const ANY: u8 = (1 << NICS) - 1;

/// All interfaces.
pub(crate) struct Iface {
    addrs: heapless::Vec<Net, ADDRS>,
    /// Of each of IPv4, and the broadcast address of its network, or itself: what every packet is asked about.
    v4: heapless::Vec<[Ipv4Addr; 2], ADDRS>,
    /// Counts changes of the addresses, of IPv4's routes, and of links: what was found out about a packet's
    /// addresses holds as long as it stays.
    /// Never 0.
    version: u32,
    pub routes: Routes,
    dns: heapless::Vec<(Dev, IpAddr), SERVERS>,
    /// Cards whose cable carries, a bit each.
    up: u8,
}

/// An address of a card, and how much of it says which network is near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Net {
    pub addr: IpAddr,
    pub prefix: u8,
    pub dev: Dev,
}

impl Net {
    /// Whether `ip` is of this network.
    fn has(&self, ip: IpAddr) -> bool {
        matches(self.addr, ip, self.prefix)
    }
    /// The network's broadcast address; IPv6 has none.
    fn broadcast(&self) -> Option<Ipv4Addr> {
        let IpAddr::V4(addr) = self.addr else { return None };
        let hosts = u32::MAX.checked_shr(self.prefix as u32).unwrap_or(0);
        (hosts > 1).then(|| Ipv4Addr::from_bits(addr.to_bits() | hosts))
    }
}

impl Iface {
    pub fn new() -> Self {
        Self {
            addrs: heapless::Vec::new(),
            v4: heapless::Vec::new(),
            version: 1,
            routes: Routes::default(),
            dns: heapless::Vec::new(),
            up: 0,
        }
    }
    /// All addresses.
    pub fn addrs(&self) -> &[Net] {
        &self.addrs
    }
    /// The address of IPv4 that card `dev` has.
    pub fn v4(&self, dev: Dev) -> Option<&Net> {
        self.addrs.iter().find(|a| a.dev == dev && a.addr.is_ipv4())
    }
    /// What changes with them.
    pub fn version(&self) -> u32 {
        self.version
    }
    fn changed(&mut self) {
        self.version = self.version.wrapping_add(1).max(1);
        self.v4.clear();
        let all = self.addrs.iter().filter_map(|a| match a.addr {
            IpAddr::V4(addr) => Some([addr, a.broadcast().unwrap_or(addr)]),
            IpAddr::V6(_) => None,
        });
        self.v4.extend(all);
    }
    /// The cable of `dev` carries, or does no more: routes by other cards take the place of its own.
    pub fn set_up(&mut self, dev: Dev, up: bool) {
        self.changed();
        self.up = self.up & !dev.bit() | if up { dev.bit() } else { 0 };
    }
    /// Adds an address; one that has no room is left out.
    pub fn add(&mut self, net: Net) {
        let _ = self.addrs.push(net);
        self.changed();
    }
    /// Removes an address of `dev`.
    pub fn remove(&mut self, dev: Dev, addr: IpAddr) {
        self.addrs.retain(|a| a.addr != addr || a.dev != dev);
        self.changed();
    }
    /// Whether `ip` is an address of this host.
    pub fn is_ours(&self, ip: IpAddr) -> bool {
        self.addrs.iter().any(|a| a.addr == ip)
    }
    /// Whether packets for `ip` that come by `dev` are for this host: one that only a link knows is another's on
    /// another link (RFC 4007 6).
    pub fn is_ours_on(&self, dev: Dev, ip: IpAddr) -> bool {
        self.addrs.iter().any(|a| a.addr == ip && (a.dev == dev || !is_link_local(ip)))
    }
    /// The card that has the address `ip`.
    pub fn dev_of(&self, ip: IpAddr) -> Option<Dev> {
        self.addrs.iter().find(|a| a.addr == ip).map(|a| a.dev)
    }
    /// Whether `ip` is of a network that this host is on.
    pub fn is_near(&self, ip: IpAddr) -> bool {
        self.addrs.iter().any(|a| a.has(ip))
    }
    /// Whether `ip` means every station: of all networks, or of one that this host is on.
    pub fn is_broadcast(&self, ip: IpAddr) -> bool {
        let IpAddr::V4(ip) = ip else { return false };
        ip.is_broadcast() || self.addrs.iter().any(|a| a.broadcast() == Some(ip))
    }
    /// Whether `dst` is ours and `src` can only be another host's.
    #[inline]
    pub fn is_from_host_to_us(&self, src: Ipv4Addr, dst: Ipv4Addr) -> bool {
        // Neither this network (0/8), nor the loop, nor groups and what is reserved.
        let ordinary = !matches!(src.octets()[0], 0 | 127 | 224..);
        let (mut to_us, mut from_host) = (false, ordinary);
        for [addr, all] in &self.v4 {
            to_us |= *addr == dst;
            from_host &= *addr != src && *all != src;
        }
        to_us && from_host
    }
    /// The neighbour that packets for `dst` go to at time `now`, by card `on` if that is said. A card without a link is
    /// the way only where there is no other (Linux leaves that to a daemon; there is none here).
    pub fn next_hop(&self, dst: IpAddr, on: Option<Dev>, now: u64) -> Option<Hop> {
        let by = on.map_or(ANY, Dev::bit);
        let up = self.routes.lookup(dst, by & self.up, now);
        let route = up.or_else(|| self.routes.lookup(dst, by & !self.up, now));
        match (route, on) {
            (Some(r), _) => Some(Hop { dev: r.dev, ip: r.via.unwrap_or(dst) }),
            // Who names the card gets there without a route (Linux takes it for a neighbour).
            (None, Some(dev)) if self.addrs.iter().any(|a| a.dev == dev) => {
                Some(Hop { dev, ip: dst })
            }
            (None, _) => None,
        }
    }
    /// As [`Self::next_hop`], of the routers whose routes are to the same destinations as the best one the first that is
    /// not `dead`.
    #[cold]
    pub fn next_router(
        &self,
        dst: IpAddr,
        on: Option<Dev>,
        now: u64,
        dead: impl Fn(Hop) -> bool,
    ) -> Option<Hop> {
        let by = on.map_or(ANY, Dev::bit) & self.up;
        let best = self.routes.lookup(dst, by, now)?;
        let same = |r: &&Route| {
            let holds = r.expires > now && by & r.dev.bit() != 0;
            holds && r.is_to(best.to, best.prefix) && r.origin == Origin::Router
        };
        let routers = self.routes.all().iter().filter(same);
        let mut hops = routers.filter_map(|r| Some(Hop { dev: r.dev, ip: r.via? }));
        hops.find(|hop| !dead(*hop))
    }
    /// The card by which what is for many leaves (groups, broadcasts): `on` if that is said, else the one on whose
    /// network the address is, or that the routes name, or the first that has a link.
    pub fn dev_for_many(&self, dst: IpAddr, on: Option<Dev>, now: u64) -> Dev {
        let network = || {
            let IpAddr::V4(ip) = dst else { return None };
            self.addrs.iter().find(|a| a.broadcast() == Some(ip)).map(|a| a.dev)
        };
        let route = || self.next_hop(dst, None, now).map(|hop| hop.dev);
        let first = || Dev::first(NICS).find(|d| self.up & d.bit() != 0);
        on.or_else(network).or_else(route).or_else(first).unwrap_or_default()
    }
    /// The default gateways of card `dev`, best first.
    pub fn gateways(&self, dev: Dev) -> impl Iterator<Item = IpAddr> {
        let default = self.routes.all().iter().filter(move |r| r.prefix == 0 && r.dev == dev);
        default.filter_map(|r| r.via)
    }
    /// The address of IPv4 to speak to `dst` from at time `now`, by card `on` if that is said: one of the network of the
    /// next hop, else the first of its card, else the first.
    pub fn source(&self, dst: IpAddr, on: Option<Dev>, now: u64) -> Option<IpAddr> {
        if dst.is_loopback() {
            return Some(match dst {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        let many = dst.is_multicast() || self.is_broadcast(dst);
        let hop = match many {
            true => Some(Hop { dev: self.dev_for_many(dst, on, now), ip: dst }),
            false => self.next_hop(dst, on, now),
        };
        let dev = hop.map(|h| h.dev).or(on);
        let hop = hop.map_or(dst, |h| h.ip);
        let on_it = |a: &&Net| dev.is_none_or(|dev| a.dev == dev);
        let same = |a: &&Net| a.addr.is_ipv4() == dst.is_ipv4();
        let near = self.addrs.iter().find(|a| on_it(a) && a.has(hop));
        let there = || self.addrs.iter().find(|a| on_it(a) && same(a));
        let any = || self.addrs.iter().find(same);
        near.or_else(there).or_else(any).map(|a| a.addr)
    }
    /// Replaces all that `dev` has of IPv4: DHCP and the manifest say no more than one of each.
    pub fn set_v4(
        &mut self,
        dev: Dev,
        net: Option<(IpAddr, u8)>,
        gateway: Option<IpAddr>,
        dns: Option<IpAddr>,
    ) {
        self.addrs.retain(|a| a.addr.is_ipv6() || a.dev != dev);
        self.dns.retain(|(d, ip)| ip.is_ipv6() || *d != dev);
        self.routes.remove(|r| r.to.is_ipv4() && r.dev == dev);
        // Room that the other family left is enough as long as it leaves one place.
        debug_assert!(!self.addrs.is_full() && !self.dns.is_full());
        self.addrs.extend(net.map(|(addr, prefix)| Net { addr, prefix, dev }));
        self.changed();
        self.dns.extend(dns.map(|ip| (dev, ip)));
        let near = net.map(|(addr, prefix)| Route::near(dev, addr, prefix));
        let default = gateway.map(|via| Route::default_by(dev, via, 0));
        for route in near.into_iter().chain(default) {
            let entered = self.routes.set(route);
            debug_assert!(entered);
        }
    }
    /// Replaces the name servers that routers on `dev` have told of.
    pub fn set_dns_v6(&mut self, dev: Dev, servers: impl Iterator<Item = Ipv6Addr>) {
        self.dns.retain(|(d, ip)| ip.is_ipv4() || *d != dev);
        for ip in servers {
            let _ = self.dns.push((dev, IpAddr::V6(ip)));
        }
    }
    /// The name servers, those of the first card first; of `dev` alone if that is said.
    pub fn dns(&self, dev: Option<Dev>) -> impl Iterator<Item = IpAddr> {
        let of = move |d: Dev| self.dns.iter().filter(move |s| s.0 == d).map(|s| s.1);
        Dev::first(NICS).filter(move |d| dev.is_none_or(|dev| *d == dev)).flat_map(of)
    }
}

/// Whether an address has a meaning on one link only.
pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: Dev = Dev::FIRST;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    /// Two networks of each family; a gateway of each.
    fn both() -> Iface {
        let mut iface = Iface::new();
        for (addr, prefix) in
            [("fe80::15", 64), ("10.0.2.15", 24), ("2001:db8::15", 48), ("192.168.7.1", 31)]
        {
            iface.add(Net { addr: ip(addr), prefix, dev: D });
            iface.routes.set(Route::near(D, ip(addr), prefix));
        }
        iface.routes.set(Route::default_by(D, ip("fe80::1"), 0));
        iface.routes.set(Route::default_by(D, ip("10.0.2.2"), 0));
        iface
    }

    #[test]
    fn each_family_has_its_own_way() {
        let iface = both();
        for (dst, hop, source) in [
            ("10.0.2.3", "10.0.2.3", "10.0.2.15"),
            ("10.0.3.3", "10.0.2.2", "10.0.2.15"),
            ("192.168.7.0", "192.168.7.0", "192.168.7.1"),
            ("fe80::77", "fe80::77", "fe80::15"),
            ("2001:db8:0:7::1", "2001:db8:0:7::1", "2001:db8::15"),
            ("2001:db8:1::1", "fe80::1", "fe80::15"),
        ] {
            assert_eq!(iface.next_hop(ip(dst), None, 0).map(|h| h.ip), Some(ip(hop)), "{dst}");
            assert_eq!(iface.source(ip(dst), None, 0), Some(ip(source)), "{dst}");
        }
        assert!(iface.is_ours(ip("2001:db8::15")) && iface.is_ours(ip("192.168.7.1")));
        assert!(!iface.is_ours(ip("10.0.2.2")) && !iface.is_ours(ip("::ffff:10.0.2.15")));
    }

    #[test]
    fn only_networks_of_ipv4_have_a_broadcast_address() {
        let iface = both();
        assert!(iface.is_broadcast(ip("255.255.255.255")) && iface.is_broadcast(ip("10.0.2.255")));
        for not in ["10.0.2.15", "10.0.3.255", "192.168.7.1", "fe80::ffff:ffff:ffff:ffff"] {
            assert!(!iface.is_broadcast(ip(not)), "{not}");
        }
    }

    #[test]
    fn without_an_address_of_its_family_there_is_only_the_loop() {
        let mut iface = both();
        iface.set_v4(D, None, None, None);
        let far = ip("10.0.2.3");
        assert_eq!((iface.next_hop(far, None, 0), iface.source(far, None, 0)), (None, None));
        assert_eq!(iface.source(ip("127.0.0.9"), None, 0), Some(ip("127.0.0.1")));
        assert_eq!(iface.source(ip("::1"), None, 0), Some(ip("::1")));
        let hop = |iface: &Iface, dst| iface.next_hop(dst, None, 0).map(|h| h.ip);
        assert_eq!(hop(&iface, ip("2001:db8:1::1")), Some(ip("fe80::1")), "untouched");
        iface.set_v4(D, Some((ip("10.1.0.1"), 0)), None, None);
        assert_eq!(hop(&iface, far), Some(far), "everything is near");
        assert!(!iface.is_ours(ip("10.0.2.15")));
    }

    /// Two cards on different networks, the second with a gateway, too.
    fn two() -> (Iface, Dev, Dev) {
        let mut iface = Iface::new();
        let [a, b] = [0, 1].map(|i| Dev::first(2).nth(i).unwrap());
        iface.set_v4(a, Some((ip("10.0.0.2"), 24)), Some(ip("10.0.0.1")), None);
        iface.set_v4(b, Some((ip("10.1.0.2"), 24)), Some(ip("10.1.0.1")), None);
        iface.set_up(a, true);
        iface.set_up(b, true);
        (iface, a, b)
    }

    #[test]
    fn a_destination_decides_card_gateway_and_source() {
        let (mut iface, a, b) = two();
        let way = |iface: &Iface, dst, on| {
            let hop = iface.next_hop(ip(dst), on, 0).unwrap();
            (hop.dev, hop.ip, iface.source(ip(dst), on, 0).unwrap())
        };
        let [from_a, from_b] = [ip("10.0.0.2"), ip("10.1.0.2")];
        assert_eq!(way(&iface, "10.1.0.9", None), (b, ip("10.1.0.9"), from_b));
        assert_eq!(way(&iface, "8.8.8.8", None), (a, ip("10.0.0.1"), from_a));
        assert_eq!(way(&iface, "8.8.8.8", Some(b)), (b, ip("10.1.0.1"), from_b));
        // Its own routes are no way to this one: whoever names the card takes it for a neighbour.
        iface.routes.remove(|r| r.prefix == 0);
        assert_eq!(iface.next_hop(ip("8.8.8.8"), None, 0), None);
        assert_eq!(way(&iface, "8.8.8.8", Some(b)), (b, ip("8.8.8.8"), from_b));
    }

    #[test]
    fn another_card_takes_the_place_of_one_without_a_link() {
        let (mut iface, a, b) = two();
        let dev = |iface: &Iface| iface.next_hop(ip("8.8.8.8"), None, 0).unwrap().dev;
        let version = iface.version();
        iface.set_up(a, false);
        assert!(dev(&iface) == b && iface.version() != version);
        assert_eq!(iface.source(ip("8.8.8.8"), None, 0), Some(ip("10.1.0.2")));
        iface.set_up(b, false);
        assert_eq!(dev(&iface), a, "on a dead cable as well as nowhere");
        iface.set_up(a, true);
        assert_eq!(dev(&iface), a);
    }

    #[test]
    fn what_is_for_many_leaves_by_the_card_that_is_named_or_meant() {
        let (mut iface, a, b) = two();
        for (dst, on, dev, source) in [
            ("10.1.0.255", None, b, "10.1.0.2"),
            ("255.255.255.255", None, a, "10.0.0.2"),
            ("224.0.0.9", None, a, "10.0.0.2"),
            ("224.0.0.9", Some(b), b, "10.1.0.2"),
        ] {
            assert_eq!(iface.dev_for_many(ip(dst), on, 0), dev, "{dst}");
            assert_eq!(iface.source(ip(dst), on, 0), Some(ip(source)), "{dst}");
        }
        iface.set_up(a, false);
        assert_eq!(iface.dev_for_many(ip("224.0.0.9"), None, 0), b);
    }

    #[test]
    fn what_only_a_link_knows_is_ours_on_that_link() {
        let (mut iface, a, b) = two();
        iface.add(Net { addr: ip("fe80::2"), prefix: 128, dev: b });
        assert!(iface.is_ours_on(b, ip("fe80::2")) && !iface.is_ours_on(a, ip("fe80::2")));
        assert!(iface.is_ours_on(a, ip("10.1.0.2")), "the weak model");
    }
}
