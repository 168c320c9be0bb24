//! Asking for routers (RFC 4861 6.3.7 with the back-off of RFC 7559), and what they say about the
//! link.

use super::{Action, NEVER, S};
use crate::wire::ipv6::MIN_MTU;
use crate::wire::ndp::Router;
use core::net::Ipv6Addr;

/// First and longest interval between two solicitations (RTR_SOLICITATION_INTERVAL and Linux's
/// router_solicitation_max_interval).
const INTERVAL_NS: u64 = 4 * S;
const INTERVAL_MAX_NS: u64 = 3600 * S;
/// Default of the retransmission timer (RFC 4861 10).
const RETRANS_NS: u64 = S;
/// Default hop limit.
const HOP_LIMIT: u8 = 64;
/// Name servers that are kept.
pub(crate) const SERVERS: usize = 3;

/// What routers have said about the link, and whether one is asked.
pub(crate) struct Routers {
    due: u64,
    interval: u64,
    /// Hop limit of packets of ours.
    pub hop_limit: u8,
    /// Between two solicitations of a neighbour, ns.
    pub retrans_ns: u64,
    /// MTU of the link for IPv6, if a router has said so.
    pub mtu: Option<u16>,
    dns: heapless::Vec<(Ipv6Addr, u64), SERVERS>,
}

impl Routers {
    /// Nothing is known; nobody is asked.
    pub fn new() -> Self {
        Self {
            due: NEVER,
            interval: 0,
            hop_limit: HOP_LIMIT,
            retrans_ns: RETRANS_NS,
            mtu: None,
            dns: heapless::Vec::new(),
        }
    }
    /// Begins to ask, now.
    pub fn begin(&mut self, now: u64) {
        (self.due, self.interval) = (now, 0);
    }
    /// The link is down.
    pub fn stop(&mut self) {
        self.due = NEVER;
    }
    /// A router has spoken. `link_mtu`: what the driver can send.
    pub fn heard(&mut self, router: &Router, link_mtu: u16) {
        if router.lifetime_s > 0 {
            self.stop();
        }
        if router.hop_limit > 0 {
            self.hop_limit = router.hop_limit;
        }
        if router.retrans_ms > 0 {
            // No less than it takes to hear an answer, no more than a user would wait.
            self.retrans_ns = (router.retrans_ms as u64 * 1_000_000).clamp(S / 100, 3600 * S);
        }
        self.mtu = self.mtu.filter(|m| *m <= link_mtu);
    }
    /// It has said how much a packet may be long. `true`: that changes something.
    pub fn set_mtu(&mut self, mtu: u32, link_mtu: u16) -> bool {
        let fits = mtu >= MIN_MTU as u32 && mtu <= link_mtu as u32;
        fits && self.mtu.replace(mtu as u16) != Some(mtu as u16)
    }
    /// It has named a name server (RFC 8106 5.1) until then.
    pub fn set_dns(&mut self, server: Ipv6Addr, until: u64, now: u64) {
        self.dns.retain(|(ip, end)| *ip != server && *end > now);
        if until > now {
            // A full list keeps what it has: the first ones are preferred (RFC 8106 5.3.1).
            let _ = self.dns.push((server, until));
        }
    }
    /// Name servers in the order in which they were named.
    pub fn dns(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.dns.iter().map(|(ip, _)| *ip)
    }
    /// When [`Self::timer`] is due.
    pub fn deadline(&self) -> u64 {
        self.dns.iter().map(|d| d.1).min().unwrap_or(NEVER).min(self.due)
    }
    /// The next thing that is due; `random` varies the pauses by a tenth (RFC 8415 15).
    pub fn timer(&mut self, random: u32, now: u64) -> Option<Action> {
        if self.dns.iter().any(|d| d.1 <= now) {
            self.dns.retain(|d| d.1 > now);
            return Some(Action::RouterNews);
        }
        if now < self.due {
            return None;
        }
        let base = if self.interval == 0 { INTERVAL_NS } else { 2 * self.interval };
        let base = base.min(INTERVAL_MAX_NS);
        self.interval = base - base / 10 + random as u64 % (base / 5);
        self.due = now + self.interval;
        Some(Action::SolicitRouters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAYS: Router =
        Router { hop_limit: 0, lifetime_s: 1800, preference: 0, reachable_ms: 0, retrans_ms: 0 };

    #[test]
    fn routers_are_asked_for_less_and_less_often_until_one_answers() {
        let mut r = Routers::new();
        assert_eq!((r.timer(0, S), r.deadline()), (None, NEVER));
        r.begin(S);
        let mut pauses = heapless::Vec::<u64, 16>::new();
        let mut now = S;
        for _ in 0..14 {
            assert_eq!(r.timer(u32::MAX, now), Some(Action::SolicitRouters));
            assert_eq!(r.timer(7, now), None);
            let next = r.deadline();
            pauses.push((next - now) / S).unwrap();
            now = next;
        }
        assert!((3..=4).contains(&pauses[0]) && (7..=9).contains(&pauses[1]), "{pauses:?}");
        assert!(pauses[13] <= 3960 && pauses[13] >= 3240, "{pauses:?}");
        r.heard(&Router { lifetime_s: 0, ..SAYS }, 1500);
        assert_ne!(r.deadline(), NEVER, "that was no default router");
        r.heard(&SAYS, 1500);
        assert_eq!(r.deadline(), NEVER);
    }

    #[test]
    fn what_they_say_is_kept_within_limits() {
        let mut r = Routers::new();
        assert!(!r.set_mtu(1279, 1500) && !r.set_mtu(1501, 1500));
        assert!(r.set_mtu(1280, 1500) && !r.set_mtu(1280, 1500));
        r.heard(&Router { hop_limit: 9, retrans_ms: 1, ..SAYS }, 1500);
        assert_eq!((r.hop_limit, r.retrans_ns), (9, 10_000_000));
        r.heard(&SAYS, 1500);
        assert_eq!((r.hop_limit, r.mtu), (9, Some(1280)));
    }

    #[test]
    fn name_servers_end() {
        let mut r = Routers::new();
        let server = |i: u16| Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, i);
        for i in 0..5 {
            r.set_dns(server(i), 10 * S, 0);
        }
        assert!(r.dns().eq([server(0), server(1), server(2)]));
        r.set_dns(server(1), 0, 0);
        r.set_dns(server(7), 20 * S, 0);
        assert_eq!(r.deadline(), 10 * S);
        assert_eq!(r.timer(0, 10 * S), Some(Action::RouterNews));
        assert!(r.dns().eq([server(7)]));
        assert_eq!(r.timer(0, 10 * S), None);
    }
}
