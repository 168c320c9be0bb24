//! Which sources of a multicast group are heard (RFC 3376 3). Addresses of IPv4 stand in their mapped form.

use core::net::Ipv6Addr;

/// Sources in one filter of an interface.
pub(crate) const MOST: usize = 32;
/// Sources of one membership (Linux's `igmp_max_msf`, `mld_max_msf` being 64).
pub(crate) const OF_ONE: usize = 10;

/// A list of them.
pub(crate) type Sources = heapless::Vec<Ipv6Addr, MOST>;

/// All sources but these, or these alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub exclude: bool,
    pub sources: Sources,
}

impl Filter {
    /// All.
    pub fn all() -> Self {
        Self { exclude: true, sources: Sources::new() }
    }
    /// Whether nothing is heard.
    pub fn is_none(&self) -> bool {
        !self.exclude && self.sources.is_empty()
    }
    /// Whether `source` is heard.
    pub fn allows(&self, source: Ipv6Addr) -> bool {
        self.sources.contains(&source) != self.exclude
    }
    /// Whether sources are the same, in whatever order.
    pub fn is_same(&self, other: &Self) -> bool {
        self.exclude == other.exclude
            && self.sources.len() == other.sources.len()
            && self.sources.iter().all(|s| other.sources.contains(s))
    }
    /// Those of `other` that are not in this one's list.
    pub fn missing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Ipv6Addr> + 'a {
        other.sources.iter().copied().filter(|s| !self.sources.contains(s))
    }
}
