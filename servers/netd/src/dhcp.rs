//! The DHCP client (RFC 2131 4.4): a state machine that says when to send what.

use crate::wire::dhcp::{Answer, Kind, Query};
use crate::wire::ethernet::Mac;
use core::net::Ipv4Addr;

const S: u64 = 1_000_000_000;
/// First pause before a message is repeated. RFC 2131 4.1 suggests 4 s on Ethernet; a NIC that has
/// just come up may lose the first exchange, and nobody wants to wait that long for it.
const FIRST_PAUSE_NS: u64 = S;
/// Longest pause.
const LAST_PAUSE_NS: u64 = 64 * S;
/// Requests without an answer before discovery begins anew.
const REQUESTS: u8 = 4;
/// Requests to confirm an address after the link came back. Without an answer it is kept.
const CONFIRMATIONS: u8 = 3;
/// Discoveries without an answer after which that is worth a word.
const SILENT: u8 = 3;
/// Probes for an address before it is used, and the pause after each. RFC 5227 1.1 takes seconds, for
/// links and hosts that are slow; here nobody wants to wait that long at every start, and the
/// server has looked, too (RFC 2131 2.2).
const PROBES: u8 = 3;
const PROBE_PAUSE_NS: u64 = 100_000_000;
/// After a conflict the next discovery waits (RFC 2131 3.1 (5)).
const DECLINED_NS: u64 = 10 * S;
/// Lease of a server that does not say.
const DEFAULT_LEASE_S: u32 = 3600;
/// A shorter lease is refused: renewing it would be all we do.
const LEAST_LEASE_S: u32 = 4;

/// An address, lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Address.
    pub addr: Ipv4Addr,
    /// Prefix length.
    pub prefix: u8,
    /// Default gateway.
    pub router: Option<Ipv4Addr>,
    /// Name server.
    pub dns: Option<Ipv4Addr>,
    /// Who lends it.
    pub server: Ipv4Addr,
    /// When it was given, ns since boot (the time of the request: never too late).
    pub since: u64,
    /// For how long, seconds.
    pub lease_s: u32,
    /// When to renew, seconds after `since`.
    pub renew_s: u32,
    /// When to ask anybody.
    pub rebind_s: u32,
}

impl Lease {
    /// When it ends, ns since boot.
    pub fn end(&self) -> u64 {
        self.since.saturating_add(self.lease_s as u64 * S)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Selecting,
    Requesting(Lease),
    /// Nobody else must have the address that was given (RFC 2131 4.4.1): `tries` probes have left.
    Checking(Lease),
    Bound(Lease),
    /// The link was away: is this still our network, and the address ours? (INIT-REBOOT of RFC 2131
    /// 3.2; the address is used meanwhile.)
    Confirming(Lease),
    /// The lease was given back, and none is wanted.
    Released,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to everybody, from no address.
    Broadcast(Query),
    /// Send this to the server, from our address.
    Unicast(Query, Ipv4Addr),
    /// Ask who has this address (RFC 5227 2.1.1); who has it is told by [`Client::conflict`].
    Probe(Ipv4Addr),
    /// Take this address.
    Bound(Lease),
    /// Give the address up.
    Lost,
}

/// The client.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    mac: Mac,
    phase: Phase,
    xid: u32,
    /// When this exchange began.
    began: u64,
    /// When the last request left.
    asked: u64,
    tries: u8,
    /// When [`Client::timer`] is due.
    pub deadline: u64,
}

impl Client {
    /// Begins with discovery at once.
    pub fn new(mac: Mac, xid: u32, now: u64) -> Self {
        Self { mac, phase: Phase::Selecting, xid, began: now, asked: now, tries: 0, deadline: now }
    }

    /// Goes on with a lease of an earlier incarnation.
    pub fn with_lease(mac: Mac, xid: u32, lease: Lease, now: u64) -> Self {
        let mut c = Self::new(mac, xid, now);
        c.bind(lease);
        c
    }

    /// The lease.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.phase {
            Phase::Bound(lease) | Phase::Confirming(lease) => Some(lease),
            _ => None,
        }
    }

    /// Whether the discovery that has just been sent is one too many without an answer.
    pub fn is_silent(&self) -> bool {
        self.phase == Phase::Selecting && self.tries == SILENT
    }

    /// The link has come back: asks at once, whatever there was to wait for (RFC 2131 3.7).
    pub fn link_up(&mut self, random: u32, now: u64) {
        if self.phase == Phase::Released {
            return;
        }
        if let Some(lease) = self.lease().copied() {
            self.phase = Phase::Confirming(lease);
        }
        (self.xid, self.began, self.tries, self.deadline) = (random, now, 0, now);
    }

    /// Gives the lease back (RFC 2131 4.4.6) and wants none until [`Self::renew_now`]; what to send, if there was one.
    pub fn release(&mut self, random: u32, now: u64) -> Option<Action> {
        let lease = self.lease().copied();
        (self.phase, self.xid, self.began, self.deadline) =
            (Phase::Released, random, now, u64::MAX);
        let lease = lease?;
        let query = Query {
            client: lease.addr,
            server: Some(lease.server),
            ..self.query(Kind::Release, now)
        };
        Some(Action::Unicast(query, lease.server))
    }

    /// Asks for the lease anew at once, or for one if there is none.
    pub fn renew_now(&mut self, random: u32, now: u64) {
        match self.phase {
            Phase::Bound(_) => (self.tries, self.deadline) = (0, now),
            Phase::Released | Phase::Selecting => self.discover(random, now),
            Phase::Requesting(_) | Phase::Checking(_) | Phase::Confirming(_) => {}
        }
    }

    fn bind(&mut self, lease: Lease) {
        self.phase = Phase::Bound(lease);
        self.tries = 0;
        self.deadline = lease.since.saturating_add(lease.renew_s as u64 * S);
    }

    fn discover(&mut self, xid: u32, now: u64) {
        *self = Self::new(self.mac, xid, now);
    }

    fn query(&self, kind: Kind, now: u64) -> Query {
        Query {
            kind,
            xid: self.xid,
            secs: ((now - self.began.min(now)) / S).min(0xffff) as u16,
            mac: self.mac,
            client: Ipv4Addr::UNSPECIFIED,
            requested: None,
            server: None,
        }
    }

    /// The pause before try number `tries` is repeated, changed by up to a quarter by `random`
    /// (RFC 2131 4.1).
    fn pause(&self, random: u32) -> u64 {
        let base = (FIRST_PAUSE_NS << self.tries.min(7)).min(LAST_PAUSE_NS);
        base - base / 8 + base / 4 * (random >> 16) as u64 / 65536
    }

    /// Does what is due at `now`. `random` makes transaction ids and jitter.
    pub fn timer(&mut self, random: u32, now: u64) -> Option<Action> {
        if now < self.deadline {
            return None;
        }
        match self.phase {
            Phase::Bound(lease) => return Some(self.renew(lease, random, now)),
            Phase::Checking(lease) => return Some(self.check(lease, now)),
            Phase::Confirming(lease) if now >= lease.end() => {
                return Some(self.renew(lease, random, now));
            }
            Phase::Confirming(lease) if self.tries >= CONFIRMATIONS => {
                // Nobody knows better. It may be time to renew it.
                self.bind(lease);
                return self.timer(random, now);
            }
            _ => {}
        }
        if matches!(self.phase, Phase::Requesting(_)) && self.tries >= REQUESTS {
            self.discover(random, now);
        }
        // No pause outlasts the lease.
        let end = self.lease().map_or(u64::MAX, Lease::end);
        self.deadline = (now + self.pause(random)).min(end);
        self.tries = self.tries.saturating_add(1);
        self.asked = now;
        Some(Action::Broadcast(match self.phase {
            Phase::Requesting(offer) => Query {
                requested: Some(offer.addr),
                server: Some(offer.server),
                ..self.query(Kind::Request, now)
            },
            Phase::Confirming(lease) => {
                Query { requested: Some(lease.addr), ..self.query(Kind::Request, now) }
            }
            _ => self.query(Kind::Discover, now),
        }))
    }

    fn check(&mut self, lease: Lease, now: u64) -> Action {
        if self.tries >= PROBES {
            self.bind(lease);
            return Action::Bound(lease);
        }
        self.tries += 1;
        self.deadline = now + PROBE_PAUSE_NS;
        Action::Probe(lease.addr)
    }

    /// Another station has `addr`. If it is the one that is being looked for, it is declined
    /// (RFC 2131 4.4.4) and discovery begins anew after a while.
    pub fn conflict(&mut self, addr: Ipv4Addr, random: u32, now: u64) -> Option<Action> {
        let Phase::Checking(lease) = self.phase else { return None };
        if lease.addr != addr {
            return None;
        }
        let decline = Query {
            requested: Some(addr),
            server: Some(lease.server),
            secs: 0,
            ..self.query(Kind::Decline, now)
        };
        self.discover(random, now);
        self.deadline = now + DECLINED_NS;
        Some(Action::Broadcast(decline))
    }

    /// RFC 2131 4.4.5.
    fn renew(&mut self, lease: Lease, random: u32, now: u64) -> Action {
        if now >= lease.end() {
            self.discover(random, now);
            return Action::Lost;
        }
        let rebind_at = lease.since + lease.rebind_s as u64 * S;
        let next = if now < rebind_at { rebind_at } else { lease.end() };
        // Half of what is left, at least a minute.
        self.deadline = (now + ((next - now) / 2).max(60 * S)).min(next);
        if self.tries == 0 {
            (self.xid, self.began) = (random, now);
        }
        self.tries = self.tries.saturating_add(1);
        self.asked = now;
        let query = Query { client: lease.addr, ..self.query(Kind::Request, now) };
        if now < rebind_at {
            Action::Unicast(query, lease.server)
        } else {
            Action::Broadcast(query)
        }
    }

    /// A server's message has arrived.
    pub fn answer(&mut self, a: &Answer, random: u32, now: u64) -> Option<Action> {
        if a.xid != self.xid || a.mac != self.mac {
            return None;
        }
        match (self.phase, a.kind) {
            (Phase::Selecting, Kind::Offer) => {
                let lease = self.lease_of(a, None)?;
                self.phase = Phase::Requesting(lease);
                self.tries = 0;
                self.deadline = now;
                self.timer(random, now)
            }
            (Phase::Requesting(old), Kind::Ack) if self.tries > 0 => {
                let lease = self.lease_of(a, Some(old))?;
                (self.phase, self.tries) = (Phase::Checking(lease), 0);
                Some(self.check(lease, now))
            }
            (Phase::Bound(old) | Phase::Confirming(old), Kind::Ack) if self.tries > 0 => {
                let lease = self.lease_of(a, Some(old))?;
                self.bind(lease);
                Some(Action::Bound(lease))
            }
            (Phase::Requesting(_), Kind::Nak) => {
                // A server that offers what it refuses must not set our pace.
                self.discover(random, now);
                self.deadline = now + self.pause(random);
                None
            }
            (Phase::Bound(_) | Phase::Confirming(_), Kind::Nak) if self.tries > 0 => {
                self.discover(random, now);
                Some(Action::Lost)
            }
            _ => None,
        }
    }

    fn lease_of(&self, a: &Answer, old: Option<Lease>) -> Option<Lease> {
        let unusable = a.addr.is_unspecified()
            || a.addr.is_multicast()
            || a.addr.is_broadcast()
            || a.addr.is_loopback();
        let server = a.server.or(old.map(|l| l.server))?;
        if unusable || a.prefix == Some(0) {
            return None;
        }
        let lease_s = a.lease_s.unwrap_or(DEFAULT_LEASE_S);
        if lease_s < LEAST_LEASE_S {
            return None;
        }
        // RFC 2131 4.4.5: defaults of T1 and T2.
        let given = |t: Option<u32>, below: u32| t.filter(|t| (1..below).contains(t));
        let rebind_s = given(a.rebind_s, lease_s).unwrap_or(lease_s - lease_s.div_ceil(8));
        let renew_s = given(a.renew_s, rebind_s).unwrap_or((lease_s / 2).min(rebind_s));
        Some(Lease {
            addr: a.addr,
            prefix: a.prefix.or(old.map(|l| l.prefix)).unwrap_or(24),
            router: a.router.or(old.and_then(|l| l.router)),
            dns: a.dns.or(old.and_then(|l| l.dns)),
            server,
            since: self.asked,
            lease_s,
            renew_s,
            rebind_s,
        })
    }
}

#[cfg(test)]
#[path = "dhcp_tests.rs"]
mod tests;
