//! The interface's IPv6 addresses: where they come from, whether somebody else has them (RFC 4862
//! 5.4), and how long they last.

use super::{Action, NEVER, S, after};
use crate::wire::ethernet::Mac;
use crate::wire::ndp::Prefix;
use core::net::Ipv6Addr;

/// Addresses at most.
pub(crate) const ADDRESSES: usize = 8;
/// DupAddrDetectTransmits (RFC 4862 5.1).
const PROBES: u8 = 1;
/// A probe waits up to this long first, so that hosts that start together do not speak together.
const PROBE_DELAY_NS: u64 = S;
/// What routers that nobody authenticates cannot shorten a lifetime below (RFC 4862 5.5.3 (e)).
const LEAST_VALID_S: u32 = 7200;
/// Length of the prefixes that addresses are made of: the rest is the interface's (RFC 4291 2.5.1).
const PREFIX: u8 = 64;

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Origin {
    /// Every interface has one.
    LinkLocal = 1,
    /// Given.
    Static = 2,
    /// Made of a router's prefix.
    Auto = 3,
}

/// How far it is settled whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Others are asked; so many probes are still to be sent.
    Tentative(u8),
    /// Ours.
    Ours,
    /// Somebody else's.
    Duplicate,
}

/// An address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub ip: Ipv6Addr,
    /// Length of the prefix that it was given with.
    pub prefix: u8,
    pub origin: Origin,
    pub standing: Standing,
    /// No new conversation begins with it afterwards.
    pub preferred_until: u64,
    /// It is nobody's afterwards.
    pub valid_until: u64,
    /// Its prefix is on the link.
    pub on_link: bool,
    /// Next step of the detection.
    pub due: u64,
}

impl Address {
    /// Of a record: an earlier incarnation had settled it.
    pub fn settled(ip: Ipv6Addr, prefix: u8, origin: Origin, until: [u64; 2]) -> Self {
        let [preferred_until, valid_until] = until;
        Self {
            ip,
            prefix,
            origin,
            standing: Standing::Ours,
            preferred_until,
            valid_until,
            on_link: origin != Origin::Auto,
            due: NEVER,
        }
    }
    /// Whether packets may be sent from it and taken to it.
    pub fn is_ours(&self) -> bool {
        self.standing == Standing::Ours
    }
    /// Whether somebody is asked for it.
    pub fn is_tentative(&self) -> bool {
        matches!(self.standing, Standing::Tentative(_))
    }
    /// Whether new conversations should begin with another.
    pub fn is_deprecated(&self, now: u64) -> bool {
        now >= self.preferred_until
    }
}

/// All addresses.
#[derive(Default)]
pub(crate) struct Addresses {
    all: heapless::Vec<Address, ADDRESSES>,
}

/// The last 64 bits of the interface's addresses: its MAC address, widened (RFC 4291 appendix A),
/// as Linux has it.
pub(crate) fn interface_id(mac: Mac) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The address in `prefix` of the interface with this MAC address.
pub(crate) fn of_prefix(prefix: Ipv6Addr, mac: Mac) -> Ipv6Addr {
    let network = prefix.to_bits() >> 64 << 64;
    Ipv6Addr::from_bits(network | interface_id(mac) as u128)
}

impl Addresses {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Address> {
        self.all.iter()
    }
    /// The entry of `ip`.
    pub fn get(&self, ip: Ipv6Addr) -> Option<&Address> {
        self.all.iter().find(|a| a.ip == ip)
    }
    /// The link-local address to speak from.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        let local = |a: &&Address| a.is_ours() && a.ip.is_unicast_link_local();
        self.all.iter().find(local).map(|a| a.ip)
    }
    /// Takes back what a record says.
    pub fn restore(&mut self, address: Address) {
        if self.get(address.ip).is_none() {
            let _ = self.all.push(address);
        }
    }
    /// Forgets an address that was made of another MAC address than this.
    pub fn forget_foreign(&mut self, mac: Mac) -> Option<Ipv6Addr> {
        let own = |a: &Address| a.ip.to_bits() as u64 == interface_id(mac);
        let i = self.all.iter().position(|a| a.origin != Origin::Static && !own(a))?;
        Some(self.all.remove(i).ip)
    }

    /// A new address, for ever or until routers say otherwise; `random` spreads its first probe.
    /// `false`: it is there already, or there is no room.
    pub fn add(&mut self, ip: Ipv6Addr, prefix: u8, origin: Origin, random: u32, now: u64) -> bool {
        if self.get(ip).is_some() {
            return false;
        }
        let due = now + random as u64 % PROBE_DELAY_NS;
        let settled = Address::settled(ip, prefix, origin, [NEVER; 2]);
        self.all.push(Address { standing: Standing::Tentative(PROBES), due, ..settled }).is_ok()
    }

    /// The link is up again: what was not settled is asked for anew.
    pub fn link_up(&mut self, random: u32, now: u64) {
        for a in self.all.iter_mut().filter(|a| a.is_tentative()) {
            a.standing = Standing::Tentative(PROBES);
            a.due = now + random as u64 % PROBE_DELAY_NS;
        }
    }

    /// A router's prefix of which addresses may be made (RFC 4862 5.5.3). Yields the address that it
    /// has made, or changed.
    pub fn prefix(&mut self, p: &Prefix, mac: Mac, random: u32, now: u64) -> Option<Ipv6Addr> {
        let useless = p.addr.is_unicast_link_local() || p.addr.is_multicast();
        if !p.autonomous || useless || p.preferred_s > p.valid_s || p.len != PREFIX {
            return None;
        }
        let ip = of_prefix(p.addr, mac);
        let mut valid_s = p.valid_s;
        match self.get(ip) {
            Some(a) if a.origin != Origin::Auto => return None,
            Some(a) => {
                let left_s = (a.valid_until.saturating_sub(now) / S).min(u32::MAX as u64) as u32;
                valid_s = valid_s.max(left_s.min(LEAST_VALID_S));
            }
            None if valid_s == 0 => return None,
            None => {
                if !self.add(ip, PREFIX, Origin::Auto, random, now) {
                    return None;
                }
            }
        }
        let a = self.all.iter_mut().find(|a| a.ip == ip)?;
        a.valid_until = after(now, valid_s);
        a.preferred_until = after(now, p.preferred_s);
        a.on_link = p.on_link;
        Some(ip)
    }

    /// Somebody else speaks from `ip`, or asks for it as we do. `true`: it was not ours yet, and
    /// will not be (RFC 4862 5.4.5).
    pub fn heard_of(&mut self, ip: Ipv6Addr) -> bool {
        let tentative = self.all.iter_mut().find(|a| a.ip == ip && a.is_tentative());
        tentative.map(|a| (a.standing, a.due) = (Standing::Duplicate, NEVER)).is_some()
    }

    /// When [`Self::timer`] is due.
    pub fn deadline(&self) -> u64 {
        self.all.iter().map(|a| a.due.min(a.valid_until)).min().unwrap_or(NEVER)
    }

    /// The next thing that is due. `retrans_ns`: how long an answer to a probe may take.
    pub fn timer(&mut self, retrans_ns: u64, now: u64) -> Option<Action> {
        let i = self.all.iter().position(|a| a.due.min(a.valid_until) <= now)?;
        let a = &mut self.all[i];
        if a.valid_until <= now {
            return Some(Action::Gone(self.all.remove(i).ip));
        }
        match a.standing {
            Standing::Tentative(0) => {
                (a.standing, a.due) = (Standing::Ours, NEVER);
                Some(Action::Ready(a.ip))
            }
            Standing::Tentative(left) => {
                (a.standing, a.due) = (Standing::Tentative(left - 1), now + retrans_ns);
                Some(Action::Probe(a.ip))
            }
            Standing::Ours | Standing::Duplicate => {
                a.due = NEVER;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn ip(s: &str) -> Ipv6Addr {
        s.parse().unwrap()
    }

    fn prefix(valid_s: u32, preferred_s: u32) -> Prefix {
        let addr = ip("2001:db8::");
        Prefix { addr, len: 64, on_link: true, autonomous: true, valid_s, preferred_s }
    }

    #[test]
    fn an_address_is_ours_when_nobody_has_answered() {
        let mut all = Addresses::default();
        let local = of_prefix(ip("fe80::"), MAC);
        assert_eq!(local, ip("fe80::5054:ff:fe12:3456"));
        assert!(
            all.add(local, 64, Origin::LinkLocal, 5, 0)
                && !all.add(local, 64, Origin::LinkLocal, 5, 0)
        );
        assert_eq!((all.deadline(), all.timer(S, 4)), (5, None));
        assert_eq!(all.timer(S, 5), Some(Action::Probe(local)));
        assert_eq!((all.link_local(), all.timer(S, S)), (None, None));
        assert_eq!(all.timer(S, S + 5), Some(Action::Ready(local)));
        assert_eq!((all.link_local(), all.deadline()), (Some(local), NEVER));
        assert!(!all.heard_of(local), "too late");
    }

    #[test]
    fn an_address_that_somebody_has_is_not_tried_again() {
        let mut all = Addresses::default();
        all.prefix(&prefix(9000, 9000), MAC, 0, 0);
        let made = of_prefix(ip("2001:db8::"), MAC);
        assert!(all.heard_of(made));
        assert_eq!(all.timer(S, 10 * S), None);
        all.prefix(&prefix(9000, 9000), MAC, 0, 20 * S);
        assert_eq!(all.get(made).map(|a| a.standing), Some(Standing::Duplicate));
        assert_eq!(all.timer(S, 30 * S), None);
    }

    #[test]
    fn lifetimes_are_the_routers_but_for_the_last_two_hours() {
        let mut all = Addresses::default();
        let made = of_prefix(ip("2001:db8::"), MAC);
        assert_eq!(all.prefix(&prefix(0, 0), MAC, 0, 0), None);
        assert_eq!(all.prefix(&prefix(1, 2), MAC, 0, 0), None, "preferred longer than valid");
        assert_eq!(all.prefix(&prefix(10_000, 5000), MAC, 0, 0), Some(made));
        let until = |all: &Addresses| {
            let a = all.get(made).unwrap();
            (a.preferred_until / S, a.valid_until / S)
        };
        assert_eq!(until(&all), (5000, 10_000));
        all.prefix(&prefix(10, 10), MAC, 0, 100 * S);
        assert_eq!(until(&all), (110, 100 + 7200), "two hours stay");
        all.prefix(&prefix(10, 10), MAC, 0, 300 * S);
        assert_eq!(until(&all), (310, 100 + 7200), "and are not prolonged");
        all.prefix(&prefix(u32::MAX, u32::MAX), MAC, 0, 0);
        assert_eq!(all.get(made).map(|a| a.valid_until), Some(NEVER));
        all.prefix(&prefix(0, 0), MAC, 0, 0);
        let a = *all.get(made).unwrap();
        assert!(a.is_deprecated(0) && a.valid_until == 7200 * S);
        while all.timer(S, 7199 * S).is_some() {}
        assert_eq!(all.timer(S, 7200 * S), Some(Action::Gone(made)));
        assert_eq!(all.iter().count(), 0);
    }

    #[test]
    fn what_a_router_cannot_give_is_not_taken() {
        let mut all = Addresses::default();
        for p in [
            Prefix { len: 63, ..prefix(9, 9) },
            Prefix { autonomous: false, ..prefix(9, 9) },
            Prefix { addr: ip("fe80::"), ..prefix(9, 9) },
        ] {
            assert_eq!(all.prefix(&p, MAC, 0, 0), None);
        }
        for i in 0..20u16 {
            let addr = Ipv6Addr::new(0x2001, i, 0, 0, 0, 0, 0, 0);
            all.prefix(&Prefix { addr, ..prefix(9, 9) }, MAC, 0, 0);
        }
        assert_eq!(all.iter().count(), ADDRESSES);
    }
}
