//! Ways that were found lately, for packets of no connection: to which neighbour, from which address. A
//! table without chains; what is in it holds as long as the addresses and routes of IPv4 stay and no path has an MTU
//! or a gateway of its own.

use super::Stack;
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
    /// From where, and, when somebody has asked, from where if nobody says.
    src: Ipv4Addr,
    source: Option<Ipv4Addr>,
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
        Self([Way { dst: none, src: none, source: None, version: 0, neighbour }; WAYS])
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

    /// The station that packets to `dst` go to, and from which address if `src` is none, likewise.
    #[inline]
    pub(super) fn known_way_to(&mut self, src: u32, dst: u32) -> Option<(Ipv4Addr, Station)> {
        let w = self.way(Ipv4Addr::from_bits(dst))?;
        let named = (src != 0).then(|| Ipv4Addr::from_bits(src));
        let src = named.or(w.source).filter(|src| *src == w.src)?;
        self.neighbours.again(w.neighbour, self.now).map(|to| (src, to))
    }

    /// The address to speak to `dst` from, likewise.
    #[inline]
    pub(super) fn known_source(&mut self, dst: IpAddr) -> Option<IpAddr> {
        let IpAddr::V4(to) = dst else { return None };
        match self.way(to)?.source {
            Some(source) => Some(IpAddr::V4(source)),
            None => self.find_source(to),
        }
    }

    #[cold]
    fn find_source(&mut self, dst: Ipv4Addr) -> Option<IpAddr> {
        let source = self.source(IpAddr::V4(dst), None);
        if let Some(IpAddr::V4(source)) = source {
            self.ways.0[Ways::slot(dst)].source = Some(source);
        }
        source
    }

    /// The neighbour on the way to `dst`, likewise.
    pub(super) fn known_neighbour(&self, dst: Ipv4Addr) -> Option<Place> {
        self.way(dst).map(|w| w.neighbour)
    }

    /// The way from `src` to `dst` was found to be by `neighbour`: it need not be found again.
    pub(super) fn keep_way(&mut self, src: IpAddr, dst: IpAddr, neighbour: Place) {
        if let (IpAddr::V4(src), IpAddr::V4(dst)) = (src, dst)
            && !self.paths.is_special(self.now)
        {
            let (version, source) = (self.iface.version(), None);
            self.ways.0[Ways::slot(dst)] = Way { dst, src, source, version, neighbour };
        }
    }
}
