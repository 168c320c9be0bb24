//! Which groups and sources routers and switches are told of (RFC 3810; RFC 2710 towards a router that speaks that only,
//! without sources). IGMP's rules are the same (RFC 3376, RFC 2236, RFC 1112).

use super::{Action, NEVER, S};
use crate::sources::{Filter, MOST, Sources};
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Say {
    pub group: Ipv6Addr,
    /// Whether it is listened to.
    pub joined: bool,
    pub what: What,
}

/// See [`Say`]. What its filter is whoever sends the report knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "made once, said and dropped; there is no heap")]
pub(crate) enum What {
    /// The filter, since somebody asks.
    State,
    /// Which of these sources are listened to.
    Of(Sources),
    /// The filter, which is of another mode now.
    Mode,
    /// Sources are listened to that were not, and the other way round.
    Sources { allowed: Sources, blocked: Sources },
}

impl Say {
    /// The records that say it, of a group with this filter (RFC 3376 4.2.12); one without a list that would say nothing
    /// is left out.
    pub fn records(&self, filter: &Filter) -> heapless::Vec<(Record, Sources), 2> {
        let (state, mode) = match filter.exclude {
            true => (Record::IsExclude, Record::ToExclude),
            false => (Record::IsInclude, Record::ToInclude),
        };
        let mut all = heapless::Vec::new();
        let mut put = |what, sources: Sources| drop(all.push((what, sources)));
        match &self.what {
            What::Mode => put(mode, filter.sources.clone()),
            What::State if filter.is_none() => {}
            What::State => put(state, filter.sources.clone()),
            What::Of(asked) => {
                put(
                    Record::IsInclude,
                    asked.iter().copied().filter(|s| filter.allows(*s)).collect(),
                );
            }
            What::Sources { allowed, blocked } => {
                put(Record::AllowNew, allowed.clone());
                put(Record::BlockOld, blocked.clone());
            }
        }
        let needs = |what| matches!(what, Record::IsInclude | Record::AllowNew | Record::BlockOld);
        all.retain(|(what, sources)| !needs(*what) || !sources.is_empty());
        all
    }
}

/// What there is to be said of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Allowed,
    Blocked,
    /// Somebody asked for it.
    Asked,
}

/// A source of which there is something to be said.
struct Told {
    group: Ipv6Addr,
    source: Ipv6Addr,
    news: News,
    /// So many times more.
    left: u8,
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Listener {
    groups: heapless::Vec<Group, GROUPS>,
    /// Of sources, of all groups together.
    told: heapless::Vec<Told, MOST>,
    /// Until then a router of the first version (IGMP: or of the second) is reckoned with.
    v1_until: u64,
    /// Until then one of IGMPv1.
    first_until: u64,
}

/// Groups that nobody is told of (RFC 3810 6): all nodes, and what does not leave the node.
pub(crate) fn is_silent(group: Ipv6Addr) -> bool {
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
            self.told.retain(|t| t.group != ip);
        }
        true
    }

    /// The filter of a group has changed (RFC 3376 5.1, RFC 3810 6.1).
    pub fn changed(&mut self, ip: Ipv6Addr, old: &Filter, new: &Filter, now: u64) {
        match (old.is_none(), new.is_none()) {
            (true, true) => {}
            (true, false) if new.exclude || self.is_v1(now) => drop(self.enter(ip, now)),
            (false, true) if old.exclude || self.is_v1(now) => self.leave(ip, now),
            // The first version knows no sources.
            _ if self.is_v1(now) => {}
            _ if old.exclude != new.exclude => self.mode_changed(ip, now),
            _ => self.sources_changed(ip, old, new, now),
        }
    }

    /// The whole filter of a group is told, again and again.
    fn mode_changed(&mut self, ip: Ipv6Addr, now: u64) {
        if let Some(g) = self.groups.iter_mut().find(|g| g.ip == ip) {
            (g.changes, g.due) = (ROBUSTNESS, now);
            self.told.retain(|t| t.group != ip);
        }
    }

    fn sources_changed(&mut self, ip: Ipv6Addr, old: &Filter, new: &Filter, now: u64) {
        if !self.groups.iter().any(|g| g.ip == ip) && self.enter(ip, now) {
            // It is not told of as a whole.
            self.groups.iter_mut().filter(|g| g.ip == ip).for_each(|g| g.changes = 0);
        }
        let Some(g) = self.groups.iter_mut().find(|g| g.ip == ip) else { return };
        (g.joined, g.due) = (!new.is_none(), now);
        let (more, less) = match new.exclude {
            true => (News::Blocked, News::Allowed),
            false => (News::Allowed, News::Blocked),
        };
        let news = old.missing(new).map(|s| (s, more)).chain(new.missing(old).map(|s| (s, less)));
        for (source, news) in news {
            self.told.retain(|t| t.group != ip || t.source != source);
            let told = Told { group: ip, source, news, left: ROBUSTNESS };
            if self.told.push(told).is_err() {
                // The whole filter says as much.
                return self.mode_changed(ip, now);
            }
        }
    }

    /// Whether there is something to be said of sources of a group: changes, or (`asked`) answers.
    fn has_told(&self, group: Ipv6Addr, asked: bool) -> bool {
        self.told.iter().any(|t| t.group == group && (t.news == News::Asked) == asked)
    }

    /// Those of its sources of which there is such news, told once more.
    fn take(&mut self, group: Ipv6Addr, news: News) -> Sources {
        let mut all = Sources::new();
        for t in self.told.iter_mut().filter(|t| t.group == group && t.news == news) {
            t.left -= 1;
            let _ = all.push(t.source);
        }
        self.told.retain(|t| t.left > 0);
        all
    }

    /// It is listened to no more.
    pub fn leave(&mut self, ip: Ipv6Addr, now: u64) {
        let v1 = self.is_v1(now);
        if let Some(g) = self.groups.iter_mut().find(|g| g.ip == ip && g.joined) {
            (g.joined, g.asked, g.due) = (false, false, now);
            // RFC 2710 4: done is said once, by whoever reported last.
            g.changes = if v1 { g.reporter as u8 } else { ROBUSTNESS };
            self.told.retain(|t| t.group != ip);
        }
        self.groups
            .retain(|g| g.joined || g.changes > 0 || self.told.iter().any(|t| t.group == g.ip));
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

    /// Whether they are of IGMP's first.
    pub fn is_first(&self, now: u64) -> bool {
        now < self.first_until
    }

    /// A router asks (RFC 3810 6.2), of a group perhaps for these sources alone. An answer comes at a random time, a
    /// pending one stays if it comes earlier.
    pub fn query(&mut self, q: &Query, sources: &Sources, random: u32, now: u64) {
        if q.first {
            self.first_until = now + V1_PRESENT_NS;
        }
        if q.v1 {
            if !self.is_v1(now) {
                // RFC 3376 7.2.1: it knows no sources, so no changes of them.
                self.told.clear();
            }
            self.v1_until = now + V1_PRESENT_NS;
        }
        let within = q.within_ms as u64 * 1_000_000;
        for (i, g) in self.groups.iter_mut().enumerate() {
            if !g.joined || q.group.is_some_and(|ip| ip != g.ip) {
                continue;
            }
            // All in one report, except that each has a time of its own in the first version.
            let random = random.rotate_left(if q.v1 { 5 * i as u32 } else { 0 });
            let mut known = !g.asked && q.group.is_some() && !sources.is_empty();
            for &source in sources {
                let (group, news) = (g.ip, News::Asked);
                let there = self
                    .told
                    .iter()
                    .any(|t| t.group == group && t.source == source && t.news == news);
                let asked = Told { group, source, news, left: 1 };
                known = known && (there || self.told.push(asked).is_ok());
            }
            g.asked |= !known;
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
        let Group { ip: group, joined, changes, asked, .. } = self.groups[i];
        let what = match () {
            _ if changes > 0 || v1 => What::Mode,
            _ if asked => What::State,
            _ if self.has_told(group, true) => What::Of(self.take(group, News::Asked)),
            _ => {
                let allowed = self.take(group, News::Allowed);
                What::Sources { allowed, blocked: self.take(group, News::Blocked) }
            }
        };
        // Whoever asked has been answered.
        self.told.retain(|t| t.group != group || t.news != News::Asked);
        let more = !v1 && self.has_told(group, false);
        let g = &mut self.groups[i];
        (g.changes, g.asked, g.reporter) = (changes.saturating_sub(1), false, true);
        let again = g.changes > 0 || more;
        let pause = if v1 { V1_REPEAT_NS } else { CHANGE_NS };
        g.due = if again { now + 1 + random as u64 % pause } else { NEVER };
        if !g.joined && g.changes == 0 && !more {
            self.groups.swap_remove(i);
        }
        Some(Say { group, joined, what })
    }
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
