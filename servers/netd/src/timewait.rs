//! TIME-WAIT: a small record a connection, in `netd.state`, so that the session's socket and its rings
//! are free as soon as both sides have everything.
//!
//! When the table is full the one that has waited longest ends early (RFC 9293 3.6.1 allows it with an
//! ISN that moves on, which RFC 6528 gives).

use crate::demux::{Space, Tuple};
use crate::list::{Ends, Links};
use crate::sealed::Sealed;
use crate::wire::tcp::Seq;
use alloc::vec::Vec;

/// How long it lasts: two maximum segment lifetimes, for which RFC 9293 3.4.2 says four minutes and
/// Linux one.
pub const TIME_WAIT_NS: u64 = 60_000_000_000;

/// A connection in TIME-WAIT, 64 bytes: addresses, ports and the peer's timestamp, numbers, the rest.
pub type WaitRecord = Sealed<7>;

const _: () = assert!(size_of::<WaitRecord>() == 64);

const MS: u64 = 1_000_000;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub tuple: Tuple,
    /// Our next sequence number.
    pub snd_nxt: Seq,
    /// The peer's.
    pub rcv_nxt: Seq,
    /// The window field of our ACKs.
    pub window: u16,
    /// `TS.Recent`, if the connection has timestamps (RFC 7323).
    pub ts_recent: Option<u32>,
    /// How its socket held the port: [`crate::ports::held`] bits.
    pub held: u8,
    /// When it ends, ns since boot, in whole milliseconds.
    pub until: u64,
}

impl Waiting {
    /// Begins the two segment lifetimes anew.
    pub fn refresh(&mut self, now: u64) {
        self.until = (now + TIME_WAIT_NS).next_multiple_of(MS);
    }

    /// When the peer was heard last.
    pub fn heard(&self) -> u64 {
        self.until.saturating_sub(TIME_WAIT_NS)
    }

    /// The ISN of a connection that takes its place: beyond every number of the old one (RFC 9293
    /// 3.6.1).
    pub fn next_iss(&self) -> Seq {
        self.snd_nxt + 65535 + 2
    }

    fn to_words(self) -> [u64; 7] {
        let [l0, l1, r0, r1, ports] = self.tuple.to_words();
        let numbers = self.snd_nxt.0 as u64 | (self.rcv_nxt.0 as u64) << 32;
        let rest = (self.until / MS) << 24
            | (self.held as u64 & 0x7f) << 17
            | (self.ts_recent.is_some() as u64) << 16
            | self.window as u64;
        [l0, l1, r0, r1, ports | (self.ts_recent.unwrap_or(0) as u64) << 32, numbers, rest]
    }

    fn from_words(w: [u64; 7]) -> Self {
        Self {
            tuple: Tuple::from_words(Space::Tcp, [w[0], w[1], w[2], w[3], w[4]]),
            snd_nxt: Seq(w[5] as u32),
            rcv_nxt: Seq((w[5] >> 32) as u32),
            window: w[6] as u16,
            ts_recent: (w[6] >> 16 & 1 == 1).then_some((w[4] >> 32) as u32),
            held: (w[6] >> 17) as u8 & 0x7f,
            until: (w[6] >> 24).saturating_mul(MS),
        }
    }
}

/// The table.
pub struct TimeWait {
    records: &'static [WaitRecord],
    links: Links,
    unused: Ends,
    /// In use; who has waited longest comes first.
    used: Ends,
    /// When each may answer the next segment out of place.
    challenge_from: Vec<u64>,
}

impl TimeWait {
    /// Over the records that `netd.state` holds.
    pub fn new(records: &'static [WaitRecord]) -> Self {
        let mut table = Self {
            records,
            links: Links::new(records.len()),
            unused: Ends::EMPTY,
            used: Ends::EMPTY,
            challenge_from: alloc::vec![0; records.len()],
        };
        for (i, record) in records.iter().enumerate() {
            let list = if record.load().is_some() { &mut table.used } else { &mut table.unused };
            table.links.push(list, i as u32);
        }
        table
    }
    /// How many there are, used or not.
    pub fn len(&self) -> usize {
        self.records.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
    /// How many are in use.
    pub fn in_use(&self) -> u32 {
        self.used.len()
    }
    /// What record `i` says, if it is in use.
    pub fn get(&self, i: usize) -> Option<Waiting> {
        self.records.get(i)?.load().map(Waiting::from_words)
    }
    /// The record that has to end before another can begin.
    pub fn oldest(&self) -> Option<usize> {
        if self.unused.is_empty() { self.used.first().map(|i| i as usize) } else { None }
    }
    /// Takes an unused record.
    pub fn begin(&mut self, waiting: &Waiting) -> Option<usize> {
        let i = self.links.pop(&mut self.unused)?;
        self.links.push(&mut self.used, i);
        self.challenge_from[i as usize] = 0;
        self.records[i as usize].store(waiting.to_words());
        Some(i as usize)
    }
    /// Changes record `i`, which is in use and waits from now on.
    pub fn set(&mut self, i: usize, waiting: &Waiting) {
        self.links.remove(&mut self.used, i as u32);
        self.links.push(&mut self.used, i as u32);
        self.records[i].store(waiting.to_words());
    }
    /// Ends record `i`, which is in use.
    pub fn end(&mut self, i: usize) {
        self.records[i].clear();
        self.links.remove(&mut self.used, i as u32);
        self.links.push(&mut self.unused, i as u32);
    }
    /// Whether record `i` may answer a segment out of place; `pause` is the least time between two.
    pub fn may_answer(&mut self, i: usize, now: u64, pause: u64) -> bool {
        let may = now >= self.challenge_from[i];
        if may {
            self.challenge_from[i] = now + pause;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(ts_recent: Option<u32>) -> Waiting {
        let mut w = Waiting {
            tuple: Tuple {
                space: Space::Tcp,
                local: "10.0.2.15:80".parse().unwrap(),
                remote: "[fe80::1]:5000".parse().unwrap(),
            },
            snd_nxt: Seq(1),
            rcv_nxt: Seq(u32::MAX),
            window: 0xfedc,
            ts_recent,
            held: 0x55,
            until: 0,
        };
        w.refresh(77);
        w
    }

    #[test]
    fn records_hold_what_they_were_told() {
        for w in [waiting(None), waiting(Some(0)), waiting(Some(u32::MAX))] {
            assert_eq!(Waiting::from_words(w.to_words()), w);
        }
    }

    #[test]
    fn who_was_heard_of_last_ends_last() {
        extern crate std;
        let records = std::boxed::Box::leak(std::boxed::Box::new([const { WaitRecord::new() }; 2]));
        let mut t = TimeWait::new(records);
        assert_eq!(t.oldest(), None);
        let (a, b) = (t.begin(&waiting(None)).unwrap(), t.begin(&waiting(None)).unwrap());
        assert_eq!((t.begin(&waiting(None)), t.oldest()), (None, Some(a)));
        t.set(a, &waiting(Some(1)));
        assert_eq!(t.oldest(), Some(b));
        let mut t = TimeWait::new(records);
        assert_eq!(t.in_use(), 2, "an earlier incarnation's");
        t.end(b);
        assert_eq!((t.get(b), t.begin(&waiting(None))), (None, Some(b)));
    }
}
