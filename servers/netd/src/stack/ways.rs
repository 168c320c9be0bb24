//! Ways that were found lately, for packets of no connection: to which neighbour, from which address. A
//! table without chains; what is in it holds as long as the addresses and routes of IPv4 stay and no path has an MTU
//! or a gateway of its own.

use super::Stack;
use super::tx::{Link, Route};
use crate::dev::Station;
use crate::env::Env;
use crate::neigh::Place;
use core::net::{IpAddr, Ipv4Addr};

/// Entries.
const WAYS: usize = 64;

/// A way.
#[derive(Clone, Copy)]
struct Way {
    dst: Ipv4Addr,
    /// From where, and from where if nobody says.
    src: Ipv4Addr,
    source: Ipv4Addr,
    /// Of which version of the addresses; 0: of none.
    version: u32,
    neighbour: Place,
}

/// The table.
pub(super) struct Ways([Way; WAYS]);

impl Ways {
    pub(super) const fn new() -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        let neighbour = Place::NONE;
        Self([Way { dst: none, src: none, source: none, version: 0, neighbour }; WAYS])
    }
    fn slot(dst: Ipv4Addr) -> usize {
        let bits = dst.to_bits();
        (bits ^ bits >> 8 ^ bits >> 16) as usize % WAYS
    }
}

impl<E: Env> Stack<E> {
    #[inline]
    fn way(&self, dst: Ipv4Addr) -> Option<&Way> {
        let w = &self.ways.0[Ways::slot(dst)];
        let holds = !self.settings.long_way
            && w.version == self.iface.version()
            && !self.paths.is_special(self.now);
        (w.dst == dst && holds).then_some(w)
    }

    /// The station that packets from `src` to `dst` go to, if that is known without a search.
    #[inline]
    pub(super) fn known_station(&mut self, src: IpAddr, dst: IpAddr) -> Option<Station> {
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (src, dst) else { return None };
        let w = self.way(dst).filter(|w| w.src == src)?;
        self.neighbours.again(w.neighbour, self.now)
    }

    /// The address to speak to `dst` from, likewise.
    #[inline]
    pub(super) fn known_source(&self, dst: IpAddr) -> Option<IpAddr> {
        let IpAddr::V4(dst) = dst else { return None };
        self.way(dst).map(|w| IpAddr::V4(w.source))
    }

    /// `route` was found from `src` to `dst`: if it is to a neighbour that is known, it need not be found again.
    pub(super) fn keep_way(&mut self, src: IpAddr, dst: IpAddr, route: Route) {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (src, dst) else { return };
        let (Route::Via(Link::Device(_)), false) = (route, self.paths.is_special(self.now)) else {
            return;
        };
        let place = self.next_hop(dst, None).and_then(|hop| self.neighbours.place_of(hop));
        // Groups and broadcasts have no neighbour.
        if let (Some(neighbour), Some(IpAddr::V4(source))) = (place, self.source(dst, None))
            && !dst.is_multicast()
            && !self.iface.is_broadcast(dst)
        {
            let version = self.iface.version();
            self.ways.0[Ways::slot(to)] = Way { dst: to, src: from, source, version, neighbour };
        }
    }
}
