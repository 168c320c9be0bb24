//! The interface: its link and its addresses, of both families, and what follows from them for a
//! destination.

use crate::route::{Route, Routes, matches};
use crate::wire::ethernet::Mac;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that the interface may have, of both families.
const ADDRS: usize = 2 + crate::ip6::address::ADDRESSES;
/// Gateways and name servers, likewise.
const SERVERS: usize = 4;

/// The interface.
pub(crate) struct Iface {
    pub mac: Mac,
    pub up: bool,
    pub mtu: u16,
    addrs: heapless::Vec<Net, ADDRS>,
    /// Counts changes of the addresses, and of IPv4's routes: what was found out about a packet's
    /// addresses holds as long as it stays.
    /// Never 0.
    version: u32,
    pub routes: Routes,
    pub dns: heapless::Vec<IpAddr, SERVERS>,
}

/// An address of the interface, and how much of it says which network is near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Net {
    pub addr: IpAddr,
    pub prefix: u8,
}

impl Net {
    /// Whether `ip` is of this network.
    fn has(&self, ip: IpAddr) -> bool {
        matches(self.addr, ip, self.prefix)
    }
    /// Whether `ip` is the network's broadcast address; IPv6 has none.
    fn is_broadcast(&self, ip: Ipv4Addr) -> bool {
        let IpAddr::V4(addr) = self.addr else { return false };
        let hosts = u32::MAX.checked_shr(self.prefix as u32).unwrap_or(0);
        hosts > 1 && addr.to_bits() | hosts == ip.to_bits()
    }
}

impl Iface {
    pub fn new() -> Self {
        Self {
            mac: Mac([0; 6]),
            up: false,
            mtu: 1500,
            addrs: heapless::Vec::new(),
            version: 1,
            routes: Routes::default(),
            dns: heapless::Vec::new(),
        }
    }
    /// Its addresses.
    pub fn addrs(&self) -> &[Net] {
        &self.addrs
    }
    /// What changes with them.
    pub fn version(&self) -> u32 {
        self.version
    }
    fn changed(&mut self) {
        self.version = self.version.wrapping_add(1).max(1);
    }
    /// Adds an address; one that has no room is left out.
    pub fn add(&mut self, net: Net) {
        self.changed();
        let _ = self.addrs.push(net);
    }
    /// Removes an address.
    pub fn remove(&mut self, addr: IpAddr) {
        self.changed();
        self.addrs.retain(|a| a.addr != addr);
    }
    /// Whether `ip` is an address of the interface.
    pub fn is_ours(&self, ip: IpAddr) -> bool {
        self.addrs.iter().any(|a| a.addr == ip)
    }
    /// Whether `ip` is of a network that the interface is on.
    pub fn is_near(&self, ip: IpAddr) -> bool {
        self.addrs.iter().any(|a| a.has(ip))
    }
    /// Whether `ip` means every station: of all networks, or of one of the interface's.
    pub fn is_broadcast(&self, ip: IpAddr) -> bool {
        let IpAddr::V4(ip) = ip else { return false };
        ip.is_broadcast() || self.addrs.iter().any(|a| a.is_broadcast(ip))
    }
    /// Whether `dst` is ours and `src` can only be another host's.
    #[inline]
    pub fn is_from_host_to_us(&self, src: Ipv4Addr, dst: Ipv4Addr) -> bool {
        // Neither this network (0/8), nor the loop, nor groups and what is reserved.
        let ordinary = !matches!(src.octets()[0], 0 | 127 | 224..);
        let (mut to_us, mut from_host) = (false, ordinary);
        for net in &self.addrs {
            if let IpAddr::V4(addr) = net.addr {
                to_us |= addr == dst;
                from_host &= addr != src && !net.is_broadcast(src);
            }
        }
        to_us && from_host
    }
    /// The neighbour that packets for `dst` go to at time `now`.
    pub fn next_hop(&self, dst: IpAddr, now: u64) -> Option<IpAddr> {
        self.routes.lookup(dst, now).map(|r| r.via.unwrap_or(dst))
    }
    /// The default gateways, best first.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.routes.all().iter().filter(|r| r.prefix == 0).filter_map(|r| r.via)
    }
    /// The address to speak to `dst` from at time `now`: one of the network of the next hop, else the
    /// first of its family.
    pub fn source(&self, dst: IpAddr, now: u64) -> Option<IpAddr> {
        if dst.is_loopback() {
            return Some(match dst {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        let hop = self.next_hop(dst, now).unwrap_or(dst);
        let near = self.addrs.iter().find(|a| a.has(hop));
        let any = || self.addrs.iter().find(|a| a.addr.is_ipv4() == dst.is_ipv4());
        near.or_else(any).map(|a| a.addr)
    }
    /// Replaces all that is of IPv4: DHCP and the manifest say no more than one of each.
    pub fn set_v4(&mut self, net: Option<Net>, gateway: Option<IpAddr>, dns: Option<IpAddr>) {
        self.changed();
        self.addrs.retain(|a| a.addr.is_ipv6());
        self.dns.retain(IpAddr::is_ipv6);
        self.routes.remove(|r| r.to.is_ipv4());
        // Room that the other family left is enough as long as it leaves one place.
        debug_assert!(!self.addrs.is_full() && !self.dns.is_full());
        self.addrs.extend(net);
        self.dns.extend(dns);
        let near = net.map(|n| Route::near(n.addr, n.prefix));
        for route in near.into_iter().chain(gateway.map(|via| Route::default_by(via, 0))) {
            let entered = self.routes.set(route);
            debug_assert!(entered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    /// Two networks of each family; a gateway of each.
    fn both() -> Iface {
        let mut iface = Iface::new();
        for (addr, prefix) in
            [("fe80::15", 64), ("10.0.2.15", 24), ("2001:db8::15", 48), ("192.168.7.1", 31)]
        {
            iface.addrs.push(Net { addr: ip(addr), prefix }).unwrap();
            iface.routes.set(Route::near(ip(addr), prefix));
        }
        iface.routes.set(Route::default_by(ip("fe80::1"), 0));
        iface.routes.set(Route::default_by(ip("10.0.2.2"), 0));
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
            assert_eq!(iface.next_hop(ip(dst), 0), Some(ip(hop)), "{dst}");
            assert_eq!(iface.source(ip(dst), 0), Some(ip(source)), "{dst}");
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
        iface.set_v4(None, None, None);
        let far = ip("10.0.2.3");
        assert_eq!((iface.next_hop(far, 0), iface.source(far, 0)), (None, None));
        assert_eq!(iface.source(ip("127.0.0.9"), 0), Some(ip("127.0.0.1")));
        assert_eq!(iface.source(ip("::1"), 0), Some(ip("::1")));
        assert_eq!(iface.next_hop(ip("2001:db8:1::1"), 0), Some(ip("fe80::1")), "untouched");
        let net = Net { addr: ip("10.1.0.1"), prefix: 0 };
        iface.set_v4(Some(net), None, None);
        assert_eq!(iface.next_hop(far, 0), Some(far), "everything is near");
        assert!(!iface.is_ours(ip("10.0.2.15")));
    }
}
