//! Which socket a packet is for: a chained hash table, sized once, under a keyed hash (so that a
//! peer that picks its ports cannot make long chains). Links live in an array indexed by socket.
//!
//! Several sockets may be bound to one address and port (SO_REUSEADDR of datagram sockets, SO_REUSEPORT):
//! they stand under the same tuple, the latest first.
//!
//! A peer never sees a hash and cannot measure a chain of a few, so the hash need not be one of
//! cryptography; sequence numbers and ports, which a peer does see, are made with SipHash.

use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use foldhash::quality::FixedState;
use libipc::sock::{ip_from_words, ip_words};

const NONE: u32 = u32::MAX;

/// Number spaces that do not collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Space {
    /// TCP connections and listeners.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// ICMP echo; the identifier stands as local port.
    Ping = 1,
}

impl Space {
    /// Its first place in [`Demux::shapes`].
    const fn shapes(self) -> usize {
        match self {
            Self::Tcp => 0,
            Self::Udp => 4,
            Self::Ping => 8,
        }
    }
}

/// Both ends of a conversation. Unspecified address and port 0: any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Number space.
    pub space: Space,
    /// Ours.
    pub local: SocketAddr,
    /// Theirs.
    pub remote: SocketAddr,
}

/// No address, no port.
pub const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Any address of IPv6, or of both families.
pub const ANY_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

impl Tuple {
    /// Of a socket with no peer.
    pub const fn local(space: Space, local: SocketAddr) -> Self {
        Self { space, local, remote: ANY }
    }
    /// In words: the addresses, then both ports in the low half of the last, for a record.
    pub fn to_words(&self) -> [u64; 5] {
        let ([l0, l1], [r0, r1]) = (ip_words(self.local.ip()), ip_words(self.remote.ip()));
        [l0, l1, r0, r1, self.local.port() as u64 | (self.remote.port() as u64) << 16]
    }
    /// From such words; the high half of the last is not looked at.
    pub fn from_words(space: Space, w: [u64; 5]) -> Self {
        Self {
            space,
            local: SocketAddr::new(ip_from_words([w[0], w[1]]), w[4] as u16),
            remote: SocketAddr::new(ip_from_words([w[2], w[3]]), (w[4] >> 16) as u16),
        }
    }
    /// Feeds a hasher: two words for IPv4, five for IPv6.
    pub fn feed(&self, h: &mut impl Hasher) {
        Key::from(self).feed(h);
    }
}

struct Entry {
    key: Key,
    next: u32,
    linked: bool,
    /// Under the unspecified address of IPv6: does not take packets of IPv4.
    only_v6: bool,
    /// Shares what arrives with others under the same tuple that do so, too (SO_REUSEPORT).
    spread: bool,
    /// Number of the interface that it is bound to; 0: to none.
    device: u8,
}

mod devices;
mod key;

use key::Key;

/// Most sockets under one tuple.
pub const SHARERS: usize = 64;

/// The table.
pub struct Demux {
    buckets: Vec<u32>,
    entries: Vec<Entry>,
    hash: FixedState,
    /// How many keys of each shape there are: what nobody has is not looked for.
    shapes: [u32; SHAPES],
    /// Sockets that are bound to an interface.
    devices: u32,
}

/// Shapes of keys: of each space connected ones, ones under an address of ours, ones under any.
const SHAPES: usize = 12;
const CONNECTED: usize = 0;
const BOUND: usize = 1;
const OPEN: usize = 2;

impl Demux {
    /// For sockets `0..sockets`.
    pub fn new(sockets: usize, key: u64) -> Self {
        let buckets = (sockets * 2).next_power_of_two().max(2);
        let none = Key::from(&Tuple::local(Space::Tcp, ANY));
        Self {
            buckets: alloc::vec![NONE; buckets],
            entries: (0..sockets)
                .map(|_| Entry {
                    key: none,
                    next: NONE,
                    linked: false,
                    only_v6: false,
                    spread: false,
                    device: 0,
                })
                .collect(),
            hash: FixedState::with_seed(key),
            shapes: [0; SHAPES],
            devices: 0,
        }
    }

    #[inline]
    fn bucket(&self, key: &Key) -> usize {
        let mut h = self.hash.build_hasher();
        key.feed(&mut h);
        h.finish() as usize & (self.buckets.len() - 1)
    }

    /// The socket under exactly this tuple; of several the one that came last.
    #[inline]
    pub fn find(&self, tuple: &Tuple) -> Option<u32> {
        self.find_key(&Key::from(tuple))
    }

    /// The TCP connection between these addresses and ports of IPv4.
    #[inline]
    pub fn find_tcp_v4(&self, local: (u32, u16), remote: (u32, u16)) -> Option<u32> {
        self.find_shaped(&Key::v4(Space::Tcp, local, remote))
    }

    /// As [`Self::find_key`], of a shape that there is, or that hardly any lacks.
    #[inline(always)]
    fn find_shaped(&self, key: &Key) -> Option<u32> {
        self.from(self.buckets[self.bucket(key)], key)
    }

    #[inline]
    fn find_key(&self, key: &Key) -> Option<u32> {
        if self.shapes[key.shape()] == 0 {
            return None;
        }
        self.find_shaped(key)
    }

    /// The next socket under the same tuple as `socket`.
    pub fn next(&self, socket: u32) -> Option<u32> {
        let e = &self.entries[socket as usize];
        self.from(e.next, &e.key)
    }

    #[inline]
    fn from(&self, mut at: u32, key: &Key) -> Option<u32> {
        while at != NONE {
            let e = &self.entries[at as usize];
            if e.key == *key {
                return Some(at);
            }
            at = e.next;
        }
        None
    }

    /// The socket for a packet from `remote` to `local`: a connection, else a socket bound to the
    /// address, else one bound to any.
    pub fn lookup(&self, space: Space, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
        if let (SocketAddr::V4(l), SocketAddr::V4(r)) = (local, remote) {
            let (l, r) = ((l.ip().to_bits(), l.port()), (r.ip().to_bits(), r.port()));
            return self.lookup_v4(space, l, r);
        }
        let found = self.find(&Tuple { space, local, remote });
        found.or_else(|| self.lookup_local(space, local, remote))
    }

    /// As [`Self::lookup`], of addresses and ports of IPv4.
    #[inline]
    pub fn lookup_v4(&self, space: Space, local: (u32, u16), remote: (u32, u16)) -> Option<u32> {
        if self.shapes[space.shapes() + CONNECTED] > 0
            && let Some(found) = self.find_shaped(&Key::v4(space, local, remote))
        {
            return Some(found);
        }
        let found = self.find_local_v4(space, local.0, local.1);
        let found = found.or_else(|| self.find_dual(space, local.1))?;
        match self.entries[found as usize].spread {
            false => Some(found),
            true => Some(self.one_of(found, &Tuple::from(&Key::v4(space, local, remote)))),
        }
    }

    /// The socket bound to an address and port of IPv4, or to any address and the port.
    #[inline]
    fn find_local_v4(&self, space: Space, ip: u32, port: u16) -> Option<u32> {
        let there = |kind| self.shapes[space.shapes() + kind] > 0;
        let at = |ip| self.find_shaped(&Key::v4(space, (ip, port), (0, 0)));
        let bound = if there(BOUND) { at(ip) } else { None };
        if bound.is_none() && there(OPEN) { at(0) } else { bound }
    }

    /// As [`Self::lookup`] without connections. A socket bound to any address of IPv6 takes what
    /// is for any of IPv4, too, unless it has been told not to (RFC 3493 3.7, 5.3).
    pub fn lookup_local(&self, space: Space, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
        let found = match local.ip() {
            IpAddr::V4(ip) => self
                .find_local_v4(space, ip.to_bits(), local.port())
                .or_else(|| self.find_dual(space, local.port())),
            IpAddr::V6(ip) => {
                let at = |ip| self.find(&Tuple::local(space, SocketAddr::new(ip, local.port())));
                at(ip.into()).or_else(|| at(ANY_V6))
            }
        }?;
        match self.entries[found as usize].spread {
            false => Some(found),
            true => Some(self.one_of(found, &Tuple { space, local, remote })),
        }
    }

    /// Which of those that share `first`'s tuple gets what arrives for `tuple`: always the same as
    /// long as they are the same, and hardly another when one comes or goes (highest random weight).
    #[cold]
    fn one_of(&self, first: u32, tuple: &Tuple) -> u32 {
        let hash = {
            let mut h = self.hash.build_hasher();
            tuple.feed(&mut h);
            h.finish()
        };
        let weight = |i: u32| {
            let mixed = (hash ^ (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
                .wrapping_mul(0xff51_afd7_ed55_8ccd);
            (mixed ^ mixed >> 32).wrapping_mul(0xc4ce_b9fe_1a85_ec53) >> 32
        };
        let all = core::iter::successors(Some(first), |i| self.next(*i));
        let device = self.entries[first as usize].device;
        let shares = |e: &Entry| e.spread && e.device == device;
        let sharing = all.filter(|i| shares(&self.entries[*i as usize]));
        sharing.max_by_key(|i| weight(*i)).unwrap_or(first)
    }

    /// The socket bound to `port` of any address of both families.
    pub fn find_dual(&self, space: Space, port: u16) -> Option<u32> {
        let found = self.find(&Tuple::local(space, SocketAddr::new(ANY_V6, port)));
        found.filter(|i| !self.entries[*i as usize].only_v6)
    }

    /// Says whether `socket`, when it is bound to any address of IPv6, takes that only.
    pub fn set_only_v6(&mut self, socket: u32, only: bool) {
        self.entries[socket as usize].only_v6 = only;
    }

    /// Enters `socket`, taking it from where it was. `false`: the tuple is taken by another.
    #[must_use]
    pub fn insert(&mut self, socket: u32, tuple: Tuple) -> bool {
        let key = Key::from(&tuple);
        match self.find_key(&key) {
            Some(other) => return other == socket,
            None => self.remove(socket),
        }
        self.link(socket, key, false);
        true
    }

    /// Enters `socket`, taking it from where it was, beside others under the same tuple. `spread`:
    /// what arrives is shared among those that say so. `false`: they are too many.
    #[must_use]
    pub fn share(&mut self, socket: u32, tuple: Tuple, spread: bool) -> bool {
        let all = core::iter::successors(self.find(&tuple), |i| self.next(*i));
        if all.take(SHARERS).count() == SHARERS {
            return false;
        }
        self.remove(socket);
        self.link(socket, Key::from(&tuple), spread);
        true
    }

    fn link(&mut self, socket: u32, key: Key, spread: bool) {
        self.shapes[key.shape()] += 1;
        let bucket = self.bucket(&key);
        let next = core::mem::replace(&mut self.buckets[bucket], socket);
        let e = &mut self.entries[socket as usize];
        *e = Entry { key, next, linked: true, spread, ..*e };
    }

    /// Takes `socket` out.
    pub fn remove(&mut self, socket: u32) {
        if !core::mem::take(&mut self.entries[socket as usize].linked) {
            return;
        }
        let key = self.entries[socket as usize].key;
        self.shapes[key.shape()] -= 1;
        let bucket = self.bucket(&key);
        let next = self.entries[socket as usize].next;
        let mut at = self.buckets[bucket];
        if at == socket {
            self.buckets[bucket] = next;
            return;
        }
        while at != NONE {
            let e = &mut self.entries[at as usize];
            if e.next == socket {
                e.next = next;
                return;
            }
            at = e.next;
        }
    }

    /// Under which tuple `socket` is entered.
    pub fn tuple(&self, socket: u32) -> Option<Tuple> {
        let e = &self.entries[socket as usize];
        e.linked.then(|| Tuple::from(&e.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: &str) -> SocketAddr {
        s.parse().unwrap()
    }

    #[test]
    fn the_most_specific_socket_gets_the_packet() {
        let mut d = Demux::new(4, 1);
        assert!(d.insert(0, Tuple::local(Space::Tcp, at("0.0.0.0:80"))));
        assert!(d.insert(1, Tuple::local(Space::Tcp, at("10.0.2.15:80"))));
        let connection =
            Tuple { space: Space::Tcp, local: at("10.0.2.15:80"), remote: at("10.0.2.2:5000") };
        assert!(d.insert(2, connection));
        assert_eq!(d.lookup(Space::Tcp, at("10.0.2.15:80"), at("10.0.2.2:5000")), Some(2));
        assert_eq!(d.lookup(Space::Tcp, at("10.0.2.15:80"), at("10.0.2.2:5001")), Some(1));
        assert_eq!(d.lookup(Space::Tcp, at("127.0.0.1:80"), at("127.0.0.1:5001")), Some(0));
        assert_eq!(d.lookup(Space::Udp, at("10.0.2.15:80"), at("10.0.2.2:5000")), None);
        assert!(!d.insert(3, connection), "taken");
        d.remove(2);
        assert!(d.insert(3, connection));
        assert!(d.insert(3, Tuple::local(Space::Udp, at("0.0.0.0:53"))), "moves");
        assert_eq!(d.find(&connection), None);
    }

    #[test]
    fn any_address_of_ipv6_is_any_of_both_families() {
        let mut d = Demux::new(2, 1);
        let (v4, v6) = (at("10.0.2.15:80"), at("[fe80::1]:80"));
        assert!(d.insert(0, Tuple::local(Space::Tcp, at("[::]:80"))));
        let both =
            |d: &Demux| (d.lookup_local(Space::Tcp, v4, ANY), d.lookup_local(Space::Tcp, v6, ANY));
        assert_eq!(both(&d), (Some(0), Some(0)));
        d.set_only_v6(0, true);
        assert_eq!(both(&d), (None, Some(0)));
        assert!(d.insert(1, Tuple::local(Space::Tcp, at("0.0.0.0:80"))));
        assert_eq!(both(&d), (Some(1), Some(0)));
    }

    #[test]
    fn sockets_that_share_a_port_get_a_part_of_all_peers_each() {
        let mut d = Demux::new(100, 3);
        let tuple = Tuple::local(Space::Udp, at("0.0.0.0:53"));
        for i in 0..4 {
            assert!(d.share(i, tuple, true));
        }
        assert!(d.share(4, tuple, false));
        let peers = || (0..4000).map(|n| SocketAddr::new([10, 0, 2, 2].into(), 1000 + n));
        let to = |d: &Demux, peer| d.lookup(Space::Udp, at("10.0.2.15:53"), peer).unwrap();
        assert!(peers().all(|p| to(&d, p) == 4), "who does not share and came last gets all");
        d.remove(4);
        let mut counts = [0; 4];
        peers().for_each(|p| counts[to(&d, p) as usize] += 1);
        assert!(counts.iter().all(|n| (800..1200).contains(n)), "{counts:?}");
        let before: Vec<_> = peers().map(|p| to(&d, p)).collect();
        d.remove(2);
        let moved = peers().zip(before).filter(|(p, was)| *was != 2 && to(&d, *p) != *was);
        assert_eq!(moved.count(), 0);
        for i in 5..5 + SHARERS as u32 - 3 {
            assert!(d.share(i, tuple, true));
        }
        assert!(!d.share(99, tuple, true), "too many");
    }

    #[test]
    fn chains_survive_removals_in_any_order() {
        let mut d = Demux::new(64, 7);
        let tuple = |i: u32| Tuple::local(Space::Udp, SocketAddr::new(ANY.ip(), 1000 + i as u16));
        for i in 0..64 {
            assert!(d.insert(i, tuple(i)));
        }
        for i in (0..64).step_by(3) {
            d.remove(i);
            d.remove(i);
        }
        for i in 0..64 {
            assert_eq!(d.find(&tuple(i)), (i % 3 != 0).then_some(i));
        }
    }
}
