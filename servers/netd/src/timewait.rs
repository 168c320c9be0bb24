//! TIME-WAIT of connections that no program holds any more: a small record each, in `netd.state`,
//! so that a session's socket and its rings are free as soon as both sides have everything.
//!
//! Records are used in turn. All wait equally long, so the one that is used next is the oldest:
//! when the table is full, the oldest ends early (RFC 9293 3.6.1 allows it with an ISN that moves
//! on, which RFC 6528 gives).

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering::*};
use libipc::sock::{ip_from_words, ip_words};

use crate::crash;
use crate::demux::{Space, Tuple};
use crate::wire::tcp::Seq;

/// A connection in TIME-WAIT, 64 bytes: addresses, ports, numbers, deadline, check.
#[repr(C)]
pub struct WaitRecord {
    words: [AtomicU64; 7],
    check: AtomicU64,
}

const _: () = assert!(size_of::<WaitRecord>() == 64);

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub tuple: Tuple,
    /// Our next sequence number.
    pub snd_nxt: Seq,
    /// The peer's.
    pub rcv_nxt: Seq,
    /// When it ends, ns since boot.
    pub until: u64,
}

impl Default for WaitRecord {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitRecord {
    /// Unused.
    pub const fn new() -> Self {
        Self { words: [const { AtomicU64::new(0) }; 7], check: AtomicU64::new(0) }
    }

    fn check_of(words: [u64; 7]) -> u64 {
        words.iter().fold(0x9e37_79b9_7f4a_7c15, |h: u64, w| {
            let h = (h ^ w).wrapping_mul(0xff51_afd7_ed55_8ccd);
            h ^ h >> 32
        }) | 1
    }

    fn load(&self) -> Option<Waiting> {
        let w: [u64; 7] = core::array::from_fn(|i| self.words[i].load(Relaxed));
        if self.check.load(Acquire) != Self::check_of(w) {
            return None;
        }
        Some(Waiting {
            tuple: Tuple {
                space: Space::Tcp,
                local: SocketAddr::new(ip_from_words([w[0], w[1]]), w[4] as u16),
                remote: SocketAddr::new(ip_from_words([w[2], w[3]]), (w[4] >> 16) as u16),
            },
            snd_nxt: Seq(w[5] as u32),
            rcv_nxt: Seq((w[5] >> 32) as u32),
            until: w[6],
        })
    }

    fn store(&self, waiting: &Waiting) {
        let Tuple { local, remote, .. } = waiting.tuple;
        let ([l0, l1], [r0, r1]) = (ip_words(local.ip()), ip_words(remote.ip()));
        let ports = local.port() as u64 | (remote.port() as u64) << 16;
        let numbers = waiting.snd_nxt.0 as u64 | (waiting.rcv_nxt.0 as u64) << 32;
        let words = [l0, l1, r0, r1, ports, numbers, waiting.until];
        self.check.store(0, SeqCst);
        for (to, from) in self.words.iter().zip(words) {
            to.store(from, Relaxed);
        }
        crash::point();
        self.check.store(Self::check_of(words), Release);
        crash::point();
    }
}

/// The table.
pub struct TimeWait {
    records: &'static [WaitRecord],
    next: usize,
}

impl TimeWait {
    /// Over the records that `netd.state` holds.
    pub fn new(records: &'static [WaitRecord]) -> Self {
        Self { records, next: 0 }
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
    /// What record `i` says, if it is in use.
    pub fn get(&self, i: usize) -> Option<Waiting> {
        self.records.get(i)?.load()
    }
    /// The record to use next, which may be in use.
    pub fn turn(&mut self) -> Option<usize> {
        let i = self.next;
        self.next = (i + 1) % self.len().max(1);
        (i < self.len()).then_some(i)
    }
    /// Writes record `i`.
    pub fn set(&self, i: usize, waiting: &Waiting) {
        self.records[i].store(waiting);
    }
    /// Ends record `i`.
    pub fn clear(&self, i: usize) {
        self.records[i].check.store(0, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_hold_what_they_were_told_and_damage_is_seen() {
        let r = WaitRecord::new();
        assert_eq!(r.load(), None);
        let waiting = Waiting {
            tuple: Tuple {
                space: Space::Tcp,
                local: "10.0.2.15:80".parse().unwrap(),
                remote: "[fe80::1]:5000".parse().unwrap(),
            },
            snd_nxt: Seq(1),
            rcv_nxt: Seq(u32::MAX),
            until: 77,
        };
        r.store(&waiting);
        assert_eq!(r.load(), Some(waiting));
        r.words[6].store(78, Relaxed);
        assert_eq!(r.load(), None);
    }
}
