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
    Bound(Lease),
    /// The link was away: is this still our network, and the address ours? (INIT-REBOOT of RFC 2131
    /// 3.2; the address is used meanwhile.)
    Confirming(Lease),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to everybody, from no address.
    Broadcast(Query),
    /// Send this to the server, from our address.
    Unicast(Query, Ipv4Addr),
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
        if let Some(lease) = self.lease().copied() {
            self.phase = Phase::Confirming(lease);
        }
        (self.xid, self.began, self.tries, self.deadline) = (random, now, 0, now);
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
            (Phase::Requesting(old) | Phase::Bound(old) | Phase::Confirming(old), Kind::Ack)
                if self.tries > 0 =>
            {
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
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const ADDR: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    fn answer(kind: Kind, xid: u32) -> Answer {
        Answer {
            kind,
            xid,
            mac: MAC,
            addr: ADDR,
            server: Some(SERVER),
            prefix: Some(24),
            router: Some(SERVER),
            dns: None,
            lease_s: Some(1000),
            renew_s: None,
            rebind_s: None,
        }
    }

    fn bound(now: u64) -> Client {
        let mut c = Client::new(MAC, 1, now);
        assert!(matches!(
            c.timer(0, now),
            Some(Action::Broadcast(Query { kind: Kind::Discover, .. }))
        ));
        let request = c.answer(&answer(Kind::Offer, 1), 0, now);
        let Some(Action::Broadcast(q)) = request else { panic!("{request:?}") };
        assert_eq!((q.kind, q.requested, q.server), (Kind::Request, Some(ADDR), Some(SERVER)));
        assert!(matches!(c.answer(&answer(Kind::Ack, 1), 0, now), Some(Action::Bound(_))));
        c
    }

    #[test]
    fn renews_then_rebinds_then_loses() {
        let mut c = bound(0);
        assert_eq!(c.timer(0, 499 * S), None);
        let Some(Action::Unicast(q, SERVER)) = c.timer(7, 500 * S) else { panic!("T1") };
        assert_eq!((q.client, q.requested, q.xid), (ADDR, None, 7));
        while c.deadline < 875 * S {
            assert!(matches!(c.timer(0, c.deadline), Some(Action::Unicast(..))));
        }
        assert!(matches!(c.timer(0, 875 * S), Some(Action::Broadcast(_))), "T2");
        let again = Answer { addr: ADDR, ..answer(Kind::Ack, 7) };
        let mut renewed = c;
        assert!(
            matches!(renewed.answer(&again, 0, 880 * S), Some(Action::Bound(Lease { since, .. })) if since == 875 * S)
        );
        while c.deadline < 1000 * S {
            assert!(matches!(c.timer(0, c.deadline), Some(Action::Broadcast(_))));
        }
        assert_eq!(c.timer(0, 1000 * S), Some(Action::Lost));
        assert!(matches!(
            c.timer(0, 1000 * S),
            Some(Action::Broadcast(Query { kind: Kind::Discover, .. }))
        ));
    }

    #[test]
    fn repeats_with_growing_pauses_and_starts_over() {
        let mut c = Client::new(MAC, 1, 0);
        let mut last = 0;
        for _ in 0..6 {
            let at = c.deadline;
            assert!(c.timer(0, at).is_some());
            assert!(at - last <= LAST_PAUSE_NS + LAST_PAUSE_NS / 4);
            last = at;
        }
        c.answer(&answer(Kind::Offer, 1), 0, last).unwrap();
        for _ in 1..REQUESTS {
            assert!(
                matches!(c.timer(0, c.deadline), Some(Action::Broadcast(q)) if q.kind == Kind::Request)
            );
        }
        assert!(
            matches!(c.timer(5, c.deadline), Some(Action::Broadcast(q)) if q.kind == Kind::Discover && q.xid == 5)
        );
    }

    #[test]
    fn answers_to_others_and_naks() {
        let mut c = Client::new(MAC, 1, 0);
        c.timer(0, 0);
        assert_eq!(c.answer(&answer(Kind::Offer, 2), 0, 0), None, "another transaction");
        let other = Answer { mac: Mac([2, 0, 0, 0, 0, 8]), ..answer(Kind::Offer, 1) };
        assert_eq!(c.answer(&other, 0, 0), None);
        assert_eq!(c.answer(&answer(Kind::Ack, 1), 0, 0), None, "nothing was requested");
        let mut c = bound(0);
        assert_eq!(c.answer(&answer(Kind::Nak, 1), 0, 1), None, "unasked");
        c.timer(7, 500 * S);
        assert_eq!(c.answer(&answer(Kind::Nak, 7), 0, 501 * S), Some(Action::Lost));
    }

    #[test]
    fn an_address_is_confirmed_when_the_link_comes_back() {
        let mut c = bound(0);
        c.link_up(9, 100 * S);
        let Some(Action::Broadcast(q)) = c.timer(0, 100 * S) else { panic!("asks at once") };
        assert_eq!((q.requested, q.server, q.xid), (Some(ADDR), None, 9));
        assert!(q.client.is_unspecified() && c.lease().is_some());
        let mut moved = c;
        assert_eq!(moved.answer(&answer(Kind::Nak, 9), 0, 101 * S), Some(Action::Lost));
        let mut kept = c;
        let ack = kept.answer(&answer(Kind::Ack, 9), 0, 101 * S);
        assert!(matches!(ack, Some(Action::Bound(Lease { since, .. })) if since == 100 * S));
        for _ in 1..CONFIRMATIONS {
            assert!(matches!(c.timer(0, c.deadline), Some(Action::Broadcast(_))));
        }
        assert_eq!(c.timer(0, c.deadline), None, "kept without an answer");
        assert_eq!((c.lease().map(|l| l.since), c.deadline), (Some(0), 500 * S));
        c.link_up(10, 998 * S);
        while c.deadline < 1000 * S {
            c.timer(0, c.deadline);
        }
        assert_eq!(c.timer(0, c.deadline), Some(Action::Lost), "but no longer than the lease");
    }

    #[test]
    fn leases_too_short_and_times_that_make_no_sense() {
        let mut c = Client::new(MAC, 1, 0);
        c.timer(0, 0);
        for lease_s in 0..LEAST_LEASE_S {
            let short = Answer { lease_s: Some(lease_s), ..answer(Kind::Offer, 1) };
            assert_eq!(c.answer(&short, 0, 0), None);
        }
        for (t1, t2) in [(0, 0), (u32::MAX, u32::MAX), (4, 3), (3, 4), (2, 3)] {
            let times = (Some(t1), Some(t2));
            for lease_s in [LEAST_LEASE_S, 60, u32::MAX] {
                let a = Answer {
                    lease_s: Some(lease_s),
                    renew_s: times.0,
                    rebind_s: times.1,
                    ..answer(Kind::Offer, 1)
                };
                let l = c.lease_of(&a, None).unwrap();
                assert!(0 < l.renew_s && l.renew_s <= l.rebind_s && l.rebind_s < l.lease_s);
            }
        }
    }

    #[test]
    fn a_server_that_offers_what_it_refuses_does_not_set_the_pace() {
        let mut c = Client::new(MAC, 1, 0);
        c.timer(0, 0);
        c.answer(&answer(Kind::Offer, 1), 0, 0).unwrap();
        assert_eq!(c.answer(&answer(Kind::Nak, 1), 7, 0), None);
        assert_eq!(c.timer(0, 0), None);
        assert!(c.deadline >= FIRST_PAUSE_NS / 2 && c.timer(0, c.deadline).is_some());
    }

    #[test]
    fn a_lease_of_an_earlier_incarnation_goes_on() {
        let lease = *bound(0).lease().unwrap();
        let mut c = Client::with_lease(MAC, 3, lease, 400 * S);
        assert_eq!(c.timer(0, 400 * S), None);
        assert!(matches!(c.timer(9, 500 * S), Some(Action::Unicast(..))));
    }
}
