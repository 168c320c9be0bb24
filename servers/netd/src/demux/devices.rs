//! Sockets that are bound to an interface (SO_BINDTODEVICE): they get what comes by that alone, and before others
//! under the same address and port (Linux's `compute_score`). As long as there is none, lookups cost no more.

use super::{ANY, ANY_V6, Demux, Entry, Space, Tuple};
use core::net::{IpAddr, SocketAddr};

impl Demux {
    /// Says to which interface `socket` is bound; 0: to none.
    pub fn set_device(&mut self, socket: u32, device: u8) {
        let old = core::mem::replace(&mut self.entries[socket as usize].device, device);
        self.devices = self.devices + (device != 0) as u32 - (old != 0) as u32;
    }

    /// Whether a datagram socket or a listener is bound to an interface.
    #[inline]
    pub fn has_bound(&self) -> bool {
        self.devices != 0
    }

    /// As [`Self::lookup`], of a packet that came by interface `by`.
    #[inline]
    pub fn lookup_on(
        &self,
        by: u8,
        space: Space,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<u32> {
        match self.devices {
            0 => self.lookup(space, local, remote),
            _ => self.bound_lookup(by, &Tuple { space, local, remote }, true),
        }
    }

    /// As [`Self::lookup_local`], likewise.
    #[inline]
    pub fn lookup_local_on(
        &self,
        by: u8,
        space: Space,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<u32> {
        match self.devices {
            0 => self.lookup_local(space, local, remote),
            _ => self.bound_lookup(by, &Tuple { space, local, remote }, false),
        }
    }

    #[cold]
    fn bound_lookup(&self, by: u8, to: &Tuple, connected: bool) -> Option<u32> {
        let Tuple { space, local, .. } = *to;
        let at = |ip| {
            self.best(by, to, &Tuple::local(space, SocketAddr::new(ip, local.port())), |_| true)
        };
        let both = |e: &Entry| !e.only_v6;
        let dual = || {
            let tuple = Tuple::local(space, SocketAddr::new(ANY_V6, local.port()));
            self.best(by, to, &tuple, both)
        };
        let found = if connected { self.best(by, to, to, |_| true) } else { None };
        let found = found.or_else(|| at(local.ip()));
        match local.ip() {
            IpAddr::V4(_) => found.or_else(|| at(ANY.ip())).or_else(dual),
            IpAddr::V6(_) => found.or_else(|| at(ANY_V6)),
        }
    }

    /// Of the sockets under `tuple` that `may` names the one that gets what came by interface `by` for `to`: of those
    /// that are bound to it the last that came, else of those that are bound to none.
    fn best(&self, by: u8, to: &Tuple, tuple: &Tuple, may: impl Fn(&Entry) -> bool) -> Option<u32> {
        let of = |device: u8| {
            let mut all = core::iter::successors(self.find(tuple), |i| self.next(*i));
            all.find(|i| {
                let e = &self.entries[*i as usize];
                e.device == device && may(e)
            })
        };
        let found = of(by).filter(|_| by != 0).or_else(|| of(0))?;
        match self.entries[found as usize].spread {
            true => Some(self.one_of(found, to)),
            false => Some(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: &str) -> SocketAddr {
        s.parse().unwrap()
    }

    #[test]
    fn who_is_bound_to_the_interface_gets_it_first_and_nobody_bound_elsewhere() {
        let mut d = Demux::new(8, 1);
        let (any, ours, peer) = (at("0.0.0.0:53"), at("10.0.0.1:53"), at("10.0.0.9:5"));
        let get = |d: &Demux, by| d.lookup_on(by, Space::Udp, ours, peer);
        for (i, device) in [(0, 0), (1, 2), (2, 3)] {
            d.set_device(i, device);
            assert!(d.share(i, Tuple::local(Space::Udp, any), false));
        }
        assert_eq!([1, 2, 3, 4].map(|by| get(&d, by)), [Some(0), Some(1), Some(2), Some(0)]);
        d.remove(0);
        assert_eq!([1, 2].map(|by| get(&d, by)), [None, Some(1)]);
        // The address counts more than the interface.
        assert!(d.share(3, Tuple::local(Space::Udp, ours), false));
        assert_eq!([2, 3].map(|by| get(&d, by)), [Some(3), Some(3)]);
        assert!(d.share(3, Tuple { space: Space::Udp, local: ours, remote: peer }, false));
        assert_eq!((get(&d, 2), d.lookup_local_on(2, Space::Udp, ours, peer)), (Some(3), Some(1)));
        d.remove(3);
        d.set_device(1, 0);
        d.set_device(2, 0);
        assert_eq!((d.devices, get(&d, 9)), (0, Some(2)), "the last that came");
    }

    #[test]
    fn of_those_that_share_a_port_on_an_interface_each_gets_a_part() {
        let mut d = Demux::new(8, 1);
        for (i, device) in [(0, 2), (1, 2), (2, 0), (3, 0)] {
            d.set_device(i, device);
            assert!(d.share(i, Tuple::local(Space::Udp, at("[::]:53")), true));
        }
        let got = |by: u8, n: u16| {
            let peer = SocketAddr::new([10, 0, 0, 9].into(), n);
            d.lookup_on(by, Space::Udp, at("10.0.0.1:53"), peer).unwrap()
        };
        let all =
            |by| (1..200).map(move |n| (by, n)).fold(0, |seen, (by, n)| seen | 1 << got(by, n));
        assert_eq!((all(2), all(3)), (0b0011, 0b1100));
    }
}
