//! What a host knows and does of its own accord on a link that speaks IPv6, without I/O: its
//! addresses and whether others have them too (RFC 4862), routers, groups it listens to.
//!
//! | file | what |
//! |---|---|
//! | `address` | addresses: duplicate detection, lifetimes, which are made of a prefix |
//! | `source` | from which of them to speak (RFC 6724) |
//! | `routers` | asking for routers; what they said about the link |
//! | `listener` | membership reports (RFC 3810, RFC 2710) |
//! | `record` | the hard part: which addresses are ours |
//!
//! Each part has a deadline and yields, when it is due, one thing to do at a time.

pub(crate) mod address;
pub(crate) mod listener;
pub(crate) mod record;
pub(crate) mod routers;
pub(crate) mod source;

use crate::addressing6::Addressing6;
use crate::wire::ipv6;
use address::{Address, Addresses};
use core::net::Ipv6Addr;
use listener::Listener;
use routers::Routers;

/// ns in a second.
pub(crate) const S: u64 = 1_000_000_000;
/// Never.
pub(crate) const NEVER: u64 = u64::MAX;

/// All of it.
pub(crate) struct Ip6 {
    pub how: Addressing6,
    pub addresses: Addresses,
    pub routers: Routers,
    pub listener: Listener,
    /// Tells own probes for an address from others' (RFC 7527).
    pub nonce: [u8; 6],
}

impl Ip6 {
    /// Nothing is known yet.
    pub fn new(how: Addressing6) -> Self {
        let (addresses, listener) = (Addresses::default(), Listener::default());
        Self { how, addresses, routers: Routers::new(), listener, nonce: [0; 6] }
    }
    /// Whether IPv6 is spoken.
    pub fn is_on(&self) -> bool {
        self.how != Addressing6::Off
    }
    /// Whether routers are heeded.
    pub fn heeds_routers(&self) -> bool {
        self.how == Addressing6::Auto
    }
    /// Whether neighbours ask in this group for an address that it has, or is about to.
    pub fn solicits(&self, group: Ipv6Addr) -> bool {
        let own =
            |a: &Address| (a.is_ours() || a.is_tentative()) && ipv6::solicited_node(a.ip) == group;
        self.addresses.iter().any(own)
    }
    /// When [`Self::timer`] is due.
    pub fn deadline(&self) -> u64 {
        self.addresses.deadline().min(self.routers.deadline()).min(self.listener.deadline())
    }
    /// The next thing that is due.
    pub fn timer(&mut self, random: u32, now: u64) -> Option<Action> {
        let retrans_ns = self.routers.retrans_ns;
        let due = self.addresses.timer(retrans_ns, now);
        due.or_else(|| self.routers.timer(random, now)).or_else(|| self.listener.timer(now))
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask whether somebody has this address.
    Probe(Ipv6Addr),
    /// Nobody has: it is ours.
    Ready(Ipv6Addr),
    /// It is ours no more.
    Gone(Ipv6Addr),
    /// Ask for routers.
    SolicitRouters,
    /// What a router said about the link is out of date.
    RouterNews,
    /// Report groups.
    Report,
}

/// When `seconds` from now have passed; all ones: never (RFC 4861 4.6.2).
pub(crate) fn after(now: u64, seconds: u32) -> u64 {
    if seconds == u32::MAX { NEVER } else { now + seconds as u64 * S }
}
