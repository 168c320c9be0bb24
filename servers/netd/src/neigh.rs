//! Neighbours: which MAC address a neighbour has (RFC 826, RFC 1122 2.3.2).
//!
//! A fixed table of sets of four, so that every operation looks at four entries. No packet is
//! queued: a socket that wants to send waits on the entry, its data stays in its ring.

use crate::list::Ends;
use crate::wire::ethernet::Mac;
use core::net::{IpAddr, Ipv4Addr};

const SETS: usize = 32;
const WAYS: usize = 4;
/// Entries.
pub const ENTRIES: usize = SETS * WAYS;
const S: u64 = 1_000_000_000;
/// How long an answer is believed without asking again (RFC 1122 2.3.2.1: about a minute).
const FRESH_NS: u64 = 60 * S;
/// Between two requests (RFC 1122 2.3.2.1: at most one a second).
const RETRY_NS: u64 = S;
/// Requests without an answer before the neighbour counts as gone.
const TRIES: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    /// Asked, no answer yet.
    Incomplete,
    /// Known.
    Known,
}

/// An entry.
#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    ip: IpAddr,
    mac: Mac,
    /// When the answer came.
    at: u64,
    /// When it was last asked for, and how often without an answer.
    asked_at: u64,
    tries: u8,
    /// Last use, for replacement.
    used: u64,
    /// Sockets that wait for the answer.
    waiting: Ends,
}

/// What the table knows about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Send there.
    Known(Mac),
    /// Wait on this entry ([`Neighbours::waiting`]).
    Wait(usize),
    /// No room to ask: try later.
    Full,
}

/// A request to send: broadcast, or to the address it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whose address is wanted.
    pub ip: IpAddr,
    /// Where to ask.
    pub to: Mac,
}

/// The table.
pub struct Neighbours {
    entries: [Entry; ENTRIES],
    /// Requests owed.
    pending: heapless::Deque<Ask, 16>,
    /// When [`Neighbours::timer`] is due.
    pub deadline: u64,
}

impl Neighbours {
    /// Empty.
    pub fn new() -> Self {
        let entry = Entry {
            state: State::Empty,
            ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            mac: Mac([0; 6]),
            at: 0,
            asked_at: 0,
            tries: 0,
            used: 0,
            waiting: Ends::EMPTY,
        };
        Self { entries: [entry; ENTRIES], pending: heapless::Deque::new(), deadline: u64::MAX }
    }

    fn set(ip: IpAddr) -> core::ops::Range<usize> {
        let bits = match ip {
            IpAddr::V4(ip) => ip.to_bits(),
            IpAddr::V6(ip) => {
                let bits = ip.to_bits();
                (bits ^ bits >> 32 ^ bits >> 64 ^ bits >> 96) as u32
            }
        };
        let set = (bits ^ bits >> 8 ^ bits >> 16) as usize % SETS;
        set * WAYS..(set + 1) * WAYS
    }

    fn find(&self, ip: IpAddr) -> Option<usize> {
        Self::set(ip).find(|i| self.entries[*i].state != State::Empty && self.entries[*i].ip == ip)
    }

    fn ask(&mut self, i: usize, now: u64) {
        let e = &mut self.entries[i];
        if e.tries > 0 && now.saturating_sub(e.asked_at) < RETRY_NS {
            return;
        }
        e.asked_at = now;
        e.tries = e.tries.saturating_add(1);
        // First ask where it was; then everybody.
        let to = if e.state == State::Known && e.tries == 1 { e.mac } else { Mac::BROADCAST };
        let ask = Ask { ip: e.ip, to };
        let _ = self.pending.push_back(ask);
        self.deadline = self.deadline.min(now + RETRY_NS);
    }

    /// The address of `ip`, asking for it where needed.
    pub fn lookup(&mut self, ip: IpAddr, now: u64) -> Lookup {
        if let Some(i) = self.find(ip) {
            let e = &mut self.entries[i];
            e.used = now;
            if e.state == State::Incomplete {
                return Lookup::Wait(i);
            }
            let mac = e.mac;
            if now.saturating_sub(e.at) > FRESH_NS {
                self.ask(i, now);
            }
            return Lookup::Known(mac);
        }
        // An empty place, or the known entry that was not used for longest.
        let place = Self::set(ip)
            .filter(|i| self.entries[*i].state != State::Incomplete)
            .min_by_key(|i| (self.entries[*i].state != State::Empty, self.entries[*i].used));
        let Some(i) = place else { return Lookup::Full };
        let e = &mut self.entries[i];
        (e.state, e.ip, e.tries, e.used) = (State::Incomplete, ip, 0, now);
        e.waiting = Ends::EMPTY;
        self.ask(i, now);
        Lookup::Wait(i)
    }

    /// The address of `ip` if it is known; asks nothing.
    pub fn known(&self, ip: IpAddr) -> Option<Mac> {
        self.find(ip).map(|i| &self.entries[i]).filter(|e| e.state == State::Known).map(|e| e.mac)
    }

    /// `ip` says that it is at `mac`. With `create`, an unknown neighbour is entered. Yields the
    /// sockets that waited for it.
    pub fn learn(&mut self, ip: IpAddr, mac: Mac, create: bool, now: u64) -> Ends {
        let place = self.find(ip).or_else(|| {
            let free = Self::set(ip).find(|i| self.entries[*i].state == State::Empty);
            if create { free } else { None }
        });
        let Some(i) = place else { return Ends::EMPTY };
        let e = &mut self.entries[i];
        let waiting = if e.state == State::Incomplete { e.waiting } else { Ends::EMPTY };
        *e = Entry {
            state: State::Known,
            ip,
            mac,
            at: now,
            asked_at: 0,
            tries: 0,
            used: now,
            waiting: Ends::EMPTY,
        };
        waiting
    }

    /// Sockets that wait on entry `i`.
    pub fn waiting(&mut self, i: usize) -> &mut Ends {
        &mut self.entries[i].waiting
    }

    /// The next request to send.
    pub fn next_ask(&mut self) -> Option<Ask> {
        self.pending.pop_front()
    }

    /// Asks again where there was no answer. Yields the next neighbour given up, with who waits.
    pub fn timer(&mut self, now: u64) -> Option<Ends> {
        if now < self.deadline {
            return None;
        }
        self.deadline = u64::MAX;
        for i in 0..ENTRIES {
            let e = &mut self.entries[i];
            if e.state == State::Empty || e.tries == 0 {
                continue;
            }
            if now < e.asked_at + RETRY_NS {
                self.deadline = self.deadline.min(e.asked_at + RETRY_NS);
            } else if e.tries >= TRIES {
                e.state = State::Empty;
                let waiting = core::mem::replace(&mut e.waiting, Ends::EMPTY);
                if !waiting.is_empty() {
                    // More may be due.
                    self.deadline = now;
                    return Some(waiting);
                }
            } else {
                self.ask(i, now);
            }
        }
        None
    }

    /// Forgets everything, on a new address or link. Waiting sockets are yielded one list at a
    /// time.
    pub fn forget(&mut self) -> Option<Ends> {
        self.pending.clear();
        for e in &mut self.entries {
            e.state = State::Empty;
            let waiting = core::mem::replace(&mut e.waiting, Ends::EMPTY);
            if !waiting.is_empty() {
                return Some(waiting);
            }
        }
        None
    }
}

impl Default for Neighbours {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv6Addr;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn asks_once_a_second_and_gives_up_after_three() {
        let mut n = Neighbours::new();
        let Lookup::Wait(i) = n.lookup(A, 0) else { panic!("unknown") };
        assert_eq!(n.next_ask(), Some(Ask { ip: A, to: Mac::BROADCAST }));
        assert_eq!(n.lookup(A, 10), Lookup::Wait(i));
        assert_eq!(n.next_ask(), None, "once a second");
        let mut links = crate::list::Links::new(1);
        links.push(n.waiting(i), 0);
        for second in 1..3 {
            assert!(n.timer(second * S).is_none());
            assert!(n.next_ask().is_some());
        }
        assert_eq!(n.timer(3 * S).and_then(|e| e.first()), Some(0));
        assert!(matches!(n.lookup(A, 3 * S), Lookup::Wait(_)), "and asks anew");
    }

    #[test]
    fn an_old_answer_is_used_while_it_is_checked() {
        let mut n = Neighbours::new();
        assert!(n.learn(A, MAC, false, 0).is_empty());
        assert_eq!(n.known(A), None, "not created unasked");
        n.learn(A, MAC, true, 0);
        assert_eq!(n.lookup(A, FRESH_NS), Lookup::Known(MAC));
        assert_eq!(n.next_ask(), None);
        assert_eq!(n.lookup(A, FRESH_NS + 1), Lookup::Known(MAC));
        assert_eq!(n.next_ask(), Some(Ask { ip: A, to: MAC }), "first where it was");
        n.timer(FRESH_NS + S + 1);
        assert_eq!(n.next_ask(), Some(Ask { ip: A, to: Mac::BROADCAST }));
        let moved = Mac([2, 0, 0, 0, 0, 2]);
        n.learn(A, moved, false, FRESH_NS + S + 2);
        assert_eq!(n.lookup(A, FRESH_NS + S + 3), Lookup::Known(moved));
        assert!(n.timer(FRESH_NS + 9 * S).is_none());
        assert_eq!(n.known(A), Some(moved));
    }

    #[test]
    fn a_full_set_replaces_what_was_not_used() {
        for first in [A, "fe80::1:ff00:2".parse().unwrap()] {
            full_set(first);
        }
    }

    fn full_set(first: IpAddr) {
        let mut n = Neighbours::new();
        let set = Neighbours::set(first);
        let same: heapless::Vec<IpAddr, 8> = (0u32..)
            .map(|i| match first {
                IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() + i).into(),
                IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() + i as u128).into(),
            })
            .filter(|ip| Neighbours::set(*ip) == set)
            .take(6)
            .collect();
        for (i, ip) in same[..4].iter().enumerate() {
            n.learn(*ip, MAC, true, i as u64);
        }
        n.lookup(same[0], 10);
        assert!(matches!(n.lookup(same[4], 11), Lookup::Wait(_)));
        assert_eq!(n.known(same[1]), None, "the oldest went");
        assert_eq!(n.known(same[0]), Some(MAC));
    }
}
