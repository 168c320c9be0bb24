//! Which groups routers and switches are told of (RFC 3810 as a host without source filters; RFC
//! 2710 towards a router that speaks that only).

use super::{Action, NEVER, S};
use crate::wire::ipv6;
use crate::wire::mld::{Query, Record};
use core::net::Ipv6Addr;

/// Groups at most, those of the interface's own addresses included.
pub(crate) const GROUPS: usize = 32;
/// How often a change is reported (RFC 3810 9.1).
const ROBUSTNESS: u8 = 2;
/// Between two reports of a change, at most (RFC 3810 9.11).
const CHANGE_NS: u64 = S;
/// Reports of the first version are repeated after this (RFC 2710 7.10).
const V1_REPEAT_NS: u64 = 10 * S;
/// How long a router of the first version is reckoned with (RFC 3810 9.12: two intervals of 125 s
/// and the time of an answer).
const V1_PRESENT_NS: u64 = 260 * S;

struct Group {
    ip: Ipv6Addr,
    /// It is listened to.
    joined: bool,
    /// So many more reports of its last change.
    changes: u8,
    /// Somebody asked for it.
    asked: bool,
    due: u64,
    /// Ours was the last report of the first version.
    reporter: bool,
}

/// What is to be said of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Say {
    pub group: Ipv6Addr,
    pub what: Record,
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Listener {
    groups: heapless::Vec<Group, GROUPS>,
    /// Until then a router of the first version is reckoned with.
    v1_until: u64,
}

/// Groups that nobody is told of (RFC 3810 6): all nodes, and what does not leave the node.
fn is_silent(group: Ipv6Addr) -> bool {
    group == ipv6::ALL_NODES || ipv6::scope(group) < 2
}

impl Listener {
    /// A group is listened to from now on. `false`: there is no room for it, nobody is told.
    pub fn join(&mut self, ip: Ipv6Addr, now: u64) -> bool {
        is_silent(ip) || self.enter(ip, now)
    }

    /// As [`Self::join`], of a group that is told in any case.
    pub fn enter(&mut self, ip: Ipv6Addr, now: u64) -> bool {
        let found = self.groups.iter().position(|g| g.ip == ip);
        let new =
            Group { ip, joined: false, changes: 0, asked: false, due: NEVER, reporter: false };
        let i = match found {
            Some(i) => i,
            None if self.groups.push(new).is_ok() => self.groups.len() - 1,
            None => return false,
        };
        let g = &mut self.groups[i];
        if !g.joined {
            (g.joined, g.changes, g.due) = (true, ROBUSTNESS, now);
        }
        true
    }

    /// It is listened to no more.
    pub fn leave(&mut self, ip: Ipv6Addr, now: u64) {
        let v1 = self.is_v1(now);
        if let Some(g) = self.groups.iter_mut().find(|g| g.ip == ip && g.joined) {
            (g.joined, g.asked, g.due) = (false, false, now);
            // RFC 2710 4: done is said once, by whoever reported last.
            g.changes = if v1 { g.reporter as u8 } else { ROBUSTNESS };
        }
        self.groups.retain(|g| g.joined || g.changes > 0);
    }

    /// The link is up again: everything is said anew.
    pub fn link_up(&mut self, now: u64) {
        for g in self.groups.iter_mut().filter(|g| g.joined) {
            (g.changes, g.due) = (ROBUSTNESS, now);
        }
    }

    /// Whether reports are of the first version.
    pub fn is_v1(&self, now: u64) -> bool {
        now < self.v1_until
    }

    /// A router asks (RFC 3810 6.2). An answer comes at a random time, a pending one stays if it
    /// comes earlier.
    pub fn query(&mut self, q: &Query, random: u32, now: u64) {
        if q.v1 {
            self.v1_until = now + V1_PRESENT_NS;
        }
        let within = q.within_ms as u64 * 1_000_000;
        for (i, g) in self.groups.iter_mut().enumerate() {
            if !g.joined || q.group.is_some_and(|ip| ip != g.ip) {
                continue;
            }
            // All in one report, except that each has a time of its own in the first version.
            let random = random.rotate_left(if q.v1 { 5 * i as u32 } else { 0 });
            g.asked = true;
            g.due = g.due.min(now + ((random as u128 * within as u128) >> 32) as u64);
        }
    }

    /// Somebody else has reported a group (RFC 2710 4): in the first version one is enough.
    pub fn others_report(&mut self, group: Ipv6Addr, now: u64) {
        let v1 = self.is_v1(now);
        let asked = |g: &&mut Group| v1 && g.joined && g.ip == group;
        if let Some(g) = self.groups.iter_mut().find(asked) {
            (g.asked, g.changes, g.due, g.reporter) = (false, 0, NEVER, false);
        }
    }

    /// When [`Self::timer`] is due.
    pub fn deadline(&self) -> u64 {
        self.groups.iter().map(|g| g.due).min().unwrap_or(NEVER)
    }

    /// Whether there is something to report ([`Self::next`]).
    pub fn timer(&self, now: u64) -> Option<Action> {
        (self.deadline() <= now).then_some(Action::Report)
    }

    /// The next thing to say.
    pub fn next(&mut self, random: u32, now: u64) -> Option<Say> {
        let v1 = self.is_v1(now);
        let i = self.groups.iter().position(|g| g.due <= now)?;
        let g = &mut self.groups[i];
        let what = match (g.joined, g.changes) {
            (true, 0) => Record::IsExclude,
            (true, _) => Record::ToExclude,
            (false, _) => Record::ToInclude,
        };
        (g.changes, g.asked, g.reporter) = (g.changes.saturating_sub(1), false, true);
        let pause = if v1 { V1_REPEAT_NS } else { CHANGE_NS };
        g.due = if g.changes > 0 { now + 1 + random as u64 % pause } else { NEVER };
        let group = g.ip;
        if !g.joined && g.changes == 0 {
            self.groups.swap_remove(i);
        }
        Some(Say { group, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> Ipv6Addr {
        s.parse().unwrap()
    }

    fn said(l: &mut Listener, now: u64) -> heapless::Vec<Say, 8> {
        let mut all = heapless::Vec::new();
        while let Some(say) = l.next(1000, now) {
            all.push(say).unwrap();
        }
        all
    }

    const ALL: Query =
        Query { group: None, v1: false, within_ms: 10_000, sources: false, robustness: 2 };

    #[test]
    fn a_change_is_said_twice_and_an_answer_once() {
        let (mut l, group) = (Listener::default(), ip("ff05::7"));
        assert!(l.join(group, 0) && l.join(ipv6::ALL_NODES, 0));
        let joined = Say { group, what: Record::ToExclude };
        assert_eq!(said(&mut l, 0)[..], [joined]);
        assert_eq!(said(&mut l, S)[..], [joined]);
        assert_eq!(l.deadline(), NEVER);
        l.query(&ALL, u32::MAX / 2, 2 * S);
        assert!((6 * S..=7 * S).contains(&l.deadline()));
        l.query(&Query { group: Some(group), within_ms: 0, ..ALL }, u32::MAX, 2 * S);
        assert_eq!(said(&mut l, 2 * S)[..], [Say { group, what: Record::IsExclude }]);
        l.query(&Query { group: Some(ip("ff05::8")), ..ALL }, 0, 2 * S);
        assert_eq!(l.deadline(), NEVER, "not ours");
        l.leave(group, 3 * S);
        let left = Say { group, what: Record::ToInclude };
        assert_eq!(
            (&said(&mut l, 3 * S)[..], &said(&mut l, 9 * S)[..]),
            (&[left][..], &[left][..])
        );
        l.query(&ALL, 0, 10 * S);
        assert_eq!(l.deadline(), NEVER, "forgotten");
    }

    #[test]
    fn in_the_first_version_one_report_is_enough() {
        let (mut l, group) = (Listener::default(), ip("ff05::7"));
        l.join(group, 0);
        said(&mut l, 0);
        said(&mut l, S);
        l.query(&Query { v1: true, ..ALL }, u32::MAX, 2 * S);
        assert!(l.is_v1(2 * S) && (11 * S..12 * S).contains(&l.deadline()));
        l.others_report(group, 3 * S);
        assert_eq!(l.deadline(), NEVER);
        l.leave(group, 4 * S);
        assert_eq!(said(&mut l, 4 * S)[..], [], "the other one says when it is done");
        assert!(!l.is_v1(300 * S));
    }

    #[test]
    fn groups_have_a_limit() {
        let mut l = Listener::default();
        let joined = (0..100).filter(|i| l.join(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, *i), 0));
        assert_eq!(joined.count(), GROUPS);
    }
}
