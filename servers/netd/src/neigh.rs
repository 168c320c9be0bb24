//! Neighbours: which MAC address a neighbour has, for both families, with the states of neighbour
//! unreachability detection (RFC 4861 7.3.2; Linux uses them for ARP, too, and so do we).
//!
//! A fixed table of sets of four, so that every operation looks at four entries. Sockets that want
//! to send wait on the entry, their data in their rings; what belongs to no socket (answers) waits
//! in a bounded pool of packets ([`Waiting::packets`]).
//!
//! The table decides when to ask and whom; the stack makes an ARP request or a neighbour
//! solicitation of each [`Ask`]. Each entry has a timer of its own.

use crate::dev::{Dev, Hop, Station};
use crate::list::Ends;
use crate::sets;
use crate::wire::ethernet::Mac;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

const SETS: usize = 32;
const WAYS: usize = 8;
/// Entries.
pub const ENTRIES: usize = SETS * WAYS;
const S: u64 = 1_000_000_000;
/// BASE_REACHABLE_TIME; each entry's time is a random 0.5 to 1.5 of it (RFC 4861 6.3.2).
pub const BASE_REACHABLE_NS: u64 = 30 * S;
/// DELAY_FIRST_PROBE_TIME.
pub const DELAY_NS: u64 = 5 * S;
/// RETRANS_TIMER: between two requests.
pub const RETRANS_NS: u64 = S;
/// MAX_UNICAST_SOLICIT and MAX_MULTICAST_SOLICIT.
const PROBES: u8 = 3;
/// For how long an entry that was used gives way to no other (Linux's table spares those that changed as lately).
const KEPT_NS: u64 = 5 * S;
/// For how long the first of several answers stands (Linux's `locktime`).
const LOCK_NS: u64 = S;

/// States of RFC 4861 7.3.2, and FAILED as Linux has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No entry.
    Empty,
    /// Asked, no answer yet.
    Incomplete,
    /// It answered not long ago.
    Reachable,
    /// Known, but not confirmed lately.
    Stale,
    /// Used while stale: asked soon, unless it gives a sign of life.
    Delay,
    /// Asked where it was.
    Probe,
    /// It did not answer. The next use asks anew.
    Failed,
}

impl State {
    /// Whether the MAC address may be used.
    pub const fn is_valid(self) -> bool {
        matches!(self, Self::Reachable | Self::Stale | Self::Delay | Self::Probe)
    }
}

/// Who waits for an entry's answer.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Sockets, by number.
    pub sockets: Ends,
    /// Packets of no socket, by their place in the pool.
    pub packets: Ends,
}

impl Waiting {
    /// Nobody.
    pub const NONE: Self = Self { sockets: Ends::EMPTY, packets: Ends::EMPTY };
    /// Whether nobody waits.
    pub const fn is_empty(&self) -> bool {
        self.sockets.is_empty() && self.packets.is_empty()
    }
}

/// An entry.
#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    hop: Hop,
    mac: Mac,
    /// Last sign of life.
    confirmed: u64,
    /// How long after it the neighbour counts as reachable.
    reachable: u64,
    /// When state or address changed.
    updated: u64,
    /// Last use.
    used: u64,
    /// When [`Neighbours::timer`] is due.
    due: u64,
    /// Requests without an answer.
    probes: u8,
    /// A request is owed.
    asks: bool,
    /// The entry is in the queue of requests, or of timers to be set.
    queued: bool,
    listed: bool,
    waiting: Waiting,
}

const EMPTY: Entry = Entry {
    state: State::Empty,
    hop: Hop { dev: Dev::FIRST, ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED) },
    mac: Mac([0; 6]),
    confirmed: 0,
    reachable: 0,
    updated: 0,
    used: 0,
    due: u64::MAX,
    probes: 0,
    asks: false,
    queued: false,
    listed: false,
    waiting: Waiting::NONE,
};

/// Where a neighbour was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    entry: u32,
    version: u32,
}

impl Place {
    /// Of nobody.
    pub const NONE: Self = Self { entry: u32::MAX, version: 0 };
}

/// What the table knows about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Send there, by the card that was named.
    Known(Mac, Place),
    /// Wait on this entry ([`Neighbours::waiting`]).
    Wait(usize),
    /// No room to ask: try later.
    Full,
}

/// A request to send: to everybody, or to the address it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whose address is wanted.
    pub hop: Hop,
    /// Where to ask; `None`: everybody.
    pub to: Option<Mac>,
}

/// What becomes of another address than the one that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// It takes the place of the known one.
    Replaces,
    /// It is refused, but the known one becomes doubtful (RFC 4861 7.2.5, override flag clear).
    Doubts,
    /// It is ignored.
    Ignored,
}

/// News of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// Its address, if the packet says it.
    pub mac: Option<Mac>,
    /// It answered us: the way there and back works. Else it was only heard.
    pub reachable: bool,
    /// Enter it if it is unknown.
    pub create: bool,
    /// If another address is known.
    pub other: Other,
}

/// The table.
pub struct Neighbours {
    entries: Vec<Entry>,
    /// Entries that owe a request.
    asks: heapless::Deque<u8, ENTRIES>,
    /// Entries whose timer has to be set.
    changed: heapless::Deque<u8, ENTRIES>,
    random: u64,
    /// Keeps others from choosing addresses that displace one another.
    key: u64,
    /// Counts entries that have become another neighbour's.
    version: u32,
    /// Until then some neighbour's way is in doubt: signs of life are welcome.
    pub doubted_until: u64,
}

impl Neighbours {
    /// Empty; `seed` spreads the times for which answers are believed.
    pub fn new(seed: u64) -> Self {
        Self {
            entries: alloc::vec![EMPTY; ENTRIES],
            asks: heapless::Deque::new(),
            changed: heapless::Deque::new(),
            random: seed | 1,
            key: seed,
            version: 0,
            doubted_until: 0,
        }
    }

    fn set(&self, hop: Hop) -> core::ops::Range<usize> {
        sets::places(hop.ip, (hop.dev.index() as u64) << 32, self.key, SETS, WAYS)
    }

    fn find(&self, hop: Hop) -> Option<usize> {
        let is_it = |e: &Entry| e.state != State::Empty && e.hop == hop;
        self.set(hop).find(|i| is_it(&self.entries[*i]))
    }

    /// Marks entry `i` for [`Self::next_timer`].
    fn schedule(&mut self, i: usize, due: u64) {
        self.entries[i].due = due;
        if !core::mem::replace(&mut self.entries[i].listed, true) {
            let _ = self.changed.push_back(i as u8);
        }
    }

    /// Asks for entry `i`, the next time a while after `from`.
    fn ask(&mut self, i: usize, from: u64) {
        let e = &mut self.entries[i];
        e.probes = e.probes.saturating_add(1);
        e.asks = true;
        if !core::mem::replace(&mut e.queued, true) {
            let _ = self.asks.push_back(i as u8);
        }
        self.schedule(i, from + RETRANS_NS);
    }

    fn confirm_entry(&mut self, i: usize, now: u64) {
        // Xorshift: all that it has to do is spread requests in time.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let reachable = BASE_REACHABLE_NS / 2 + self.random % BASE_REACHABLE_NS;
        let e = &mut self.entries[i];
        (e.state, e.confirmed, e.reachable) = (State::Reachable, now, reachable);
        self.schedule(i, now + reachable);
    }

    /// Entry `i` is in use and not confirmed.
    fn doubt(&mut self, i: usize, now: u64) {
        self.doubted_until = now + DELAY_NS;
        self.schedule(i, now + DELAY_NS);
    }

    /// The address of `hop`, asking for it where needed.
    pub fn lookup(&mut self, hop: Hop, now: u64) -> Lookup {
        let i = match self.find(hop) {
            Some(i) => i,
            None => match self.place(hop, now) {
                Some(i) => i,
                None => return Lookup::Full,
            },
        };
        let e = &mut self.entries[i];
        e.used = now;
        match e.state {
            State::Incomplete => Lookup::Wait(i),
            State::Empty | State::Failed => {
                (e.state, e.probes, e.updated) = (State::Incomplete, 0, now);
                self.ask(i, now);
                Lookup::Wait(i)
            }
            State::Stale => {
                let mac = e.mac;
                (e.state, e.updated) = (State::Delay, now);
                self.doubt(i, now);
                Lookup::Known(mac, Place { entry: i as u32, version: self.version })
            }
            State::Reachable | State::Delay | State::Probe => {
                Lookup::Known(e.mac, Place { entry: i as u32, version: self.version })
            }
        }
    }

    /// What [`Self::again`] needs to find the neighbour `hop` without a search.
    pub fn place_of(&self, hop: Hop) -> Option<Place> {
        self.find(hop).map(|entry| Place { entry: entry as u32, version: self.version })
    }

    /// As [`Self::lookup`] of the neighbour at `place`, if it is there still and need not be asked for.
    #[inline]
    pub fn again(&mut self, place: Place, now: u64) -> Option<Station> {
        let e = self.entries.get_mut(place.entry as usize)?;
        let usable = matches!(e.state, State::Reachable | State::Delay | State::Probe);
        (usable && place.version == self.version).then(|| {
            e.used = now;
            Station { dev: e.hop.dev, mac: e.mac }
        })
    }

    /// A place for `hop`: an empty one, or that of the entry that was not used for longest, not lately, and
    /// for which nobody waits.
    fn place(&mut self, hop: Hop, now: u64) -> Option<usize> {
        let kept = |e: &Entry| match e.state {
            State::Incomplete => true,
            state => state.is_valid() && e.used != 0 && now.saturating_sub(e.used) < KEPT_NS,
        };
        let i = self
            .set(hop)
            .filter(|i| !kept(&self.entries[*i]))
            .min_by_key(|i| (self.entries[*i].state.is_valid(), self.entries[*i].used))?;
        self.clear(i, hop);
        Some(i)
    }

    /// Empties entry `i`; it stays in the queues that it is in, with nothing to do there.
    fn clear(&mut self, i: usize, hop: Hop) {
        self.version = self.version.wrapping_add(1);
        let Entry { queued, listed, .. } = self.entries[i];
        self.entries[i] = Entry { hop, queued, listed, ..EMPTY };
    }

    /// The address of `hop` if it is known; asks nothing.
    pub fn known(&self, hop: Hop) -> Option<Mac> {
        self.find(hop).map(|i| &self.entries[i]).filter(|e| e.state.is_valid()).map(|e| e.mac)
    }

    /// The state of `hop`.
    pub fn state(&self, hop: Hop) -> State {
        self.find(hop).map_or(State::Empty, |i| self.entries[i].state)
    }

    /// Whether the entry of `hop` changed so lately that further answers do not change it: of
    /// several that follow one another (proxies) the first counts.
    pub fn is_locked(&self, hop: Hop, now: u64) -> bool {
        let e = self.find(hop).map(|i| &self.entries[i]).filter(|e| e.state.is_valid());
        e.is_some_and(|e| now.saturating_sub(e.updated) <= LOCK_NS)
    }

    /// Something was heard of `hop`. Yields who waited for it.
    pub fn update(&mut self, hop: Hop, news: News, now: u64) -> Waiting {
        let place = match self.find(hop) {
            None if news.create && news.mac.is_some() => self.place(hop, now),
            found => found,
        };
        let Some(i) = place else { return Waiting::NONE };
        let e = &mut self.entries[i];
        let was = e.state;
        let Some(mac) = news.mac.or(was.is_valid().then_some(e.mac)) else {
            return Waiting::NONE;
        };
        let moved = !was.is_valid() || mac != e.mac;
        let mut state = if news.reachable { State::Reachable } else { State::Stale };
        if was.is_valid() && mac != e.mac {
            match news.other {
                Other::Replaces => {}
                Other::Doubts if was == State::Reachable => {
                    (e.state, e.updated, e.due) = (State::Stale, now, u64::MAX);
                    return Waiting::NONE;
                }
                Other::Doubts | Other::Ignored => return Waiting::NONE,
            }
        } else if was.is_valid() && state == State::Stale {
            // Nothing new.
            state = was;
        }
        e.mac = mac;
        if moved || state != was {
            (e.state, e.updated) = (state, now);
        }
        let waiting = core::mem::replace(&mut e.waiting, Waiting::NONE);
        if state == State::Reachable && news.reachable {
            (e.probes, e.asks) = (0, false);
            self.confirm_entry(i, now);
        } else if state == State::Stale {
            (e.due, e.probes, e.asks) = (u64::MAX, 0, false);
        }
        waiting
    }

    /// The transport says that what was sent to `hop` arrives (RFC 4861 7.3.1).
    pub fn confirm(&mut self, hop: Hop, now: u64) {
        if let Some(i) = self.find(hop)
            && self.entries[i].state.is_valid()
        {
            self.entries[i].confirmed = now;
        }
    }

    /// The card on whose link entry `i` is.
    pub fn dev(&self, i: usize) -> Dev {
        self.entries.get(i).map_or(Dev::FIRST, |e| e.hop.dev)
    }

    /// Who waits on entry `i`.
    pub fn waiting(&mut self, i: usize) -> &mut Waiting {
        &mut self.entries[i].waiting
    }

    /// The next request to send.
    pub fn next_ask(&mut self) -> Option<Ask> {
        while let Some(i) = self.asks.pop_front() {
            let e = &mut self.entries[i as usize];
            e.queued = false;
            if core::mem::take(&mut e.asks) {
                let to = (e.state == State::Probe).then_some(e.mac);
                return Some(Ask { hop: e.hop, to });
            }
        }
        None
    }

    /// An entry whose timer is to be set, and when it is due.
    pub fn next_timer(&mut self) -> Option<(usize, u64)> {
        let i = self.changed.pop_front()? as usize;
        self.entries[i].listed = false;
        Some((i, self.entries[i].due))
    }

    /// Entry `i` may be due. Yields who waited for a neighbour that does not answer.
    pub fn timer(&mut self, i: usize, now: u64) -> Waiting {
        let Some(e) = self.entries.get_mut(i) else { return Waiting::NONE };
        if now < e.due {
            if e.due != u64::MAX {
                let due = e.due;
                self.schedule(i, due);
            }
            return Waiting::NONE;
        }
        // Timers are late by up to a tick: that must not add up.
        let due = core::mem::replace(&mut e.due, u64::MAX);
        match e.state {
            State::Reachable if now < e.confirmed + e.reachable => {
                let due = e.confirmed + e.reachable;
                self.schedule(i, due);
            }
            State::Reachable if now <= e.used + DELAY_NS => {
                (e.state, e.updated) = (State::Delay, now);
                self.doubt(i, now);
            }
            State::Reachable => (e.state, e.updated) = (State::Stale, now),
            State::Delay if now <= e.confirmed + DELAY_NS => {
                let confirmed = e.confirmed;
                self.confirm_entry(i, confirmed);
            }
            State::Delay => {
                (e.state, e.updated, e.probes) = (State::Probe, now, 0);
                self.ask(i, due);
            }
            State::Probe | State::Incomplete if e.probes >= PROBES => {
                (e.state, e.updated) = (State::Failed, now);
                return core::mem::replace(&mut e.waiting, Waiting::NONE);
            }
            State::Probe | State::Incomplete => self.ask(i, due),
            State::Empty | State::Stale | State::Failed => {}
        }
        Waiting::NONE
    }

    /// Forgets the neighbours of one family, on a new address or link. Those who waited are yielded
    /// one entry at a time.
    pub fn forget(&mut self, dev: Dev, v6: bool) -> Option<Waiting> {
        for i in 0..ENTRIES {
            let Entry { hop, waiting, .. } = self.entries[i];
            if hop.dev != dev || hop.ip.is_ipv6() != v6 {
                continue;
            }
            self.clear(i, EMPTY.hop);
            if !waiting.is_empty() {
                return Some(waiting);
            }
        }
        None
    }

    /// Forgets the neighbours by card `dev` that nobody waits for.
    pub fn forget_idle(&mut self, dev: Dev) {
        for i in 0..ENTRIES {
            let e = &self.entries[i];
            if e.hop.dev == dev && e.waiting.is_empty() {
                self.clear(i, EMPTY.hop);
            }
        }
    }

    /// All neighbours: address, MAC address, state.
    pub fn all(&self) -> impl Iterator<Item = (Hop, Mac, State)> {
        let used = self.entries.iter().filter(|e| e.state != State::Empty);
        used.map(|e| (e.hop, e.mac, e.state))
    }
}

#[cfg(test)]
#[path = "neigh_tests.rs"]
mod tests;
