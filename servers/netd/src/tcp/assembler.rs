//! What has arrived beyond `rcv_nxt`: a bounded, sorted chain of ranges. Their bytes lie in the receive
//! ring already, where they belong.

use super::pool::{Marks, NONE, Node, Pool};
use crate::wire::tcp::{Blocks, MAX_BLOCKS, Seq};

/// Most ranges remembered; what would need more is dropped and comes again.
pub const RANGES: u16 = 64;

/// How much later each segment is than the one before.
const LATER: u64 = 64;

/// Ranges `[start, end)`, ascending, neither touching nor overlapping: nodes of a pool, which every call names. Each
/// knows how late the last segment that it grew by came.
pub struct Assembler {
    head: u32,
    len: u16,
}

impl Assembler {
    /// Nothing.
    pub const EMPTY: Self = Self { head: NONE, len: 0 };
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// How many.
    pub fn len(&self) -> u32 {
        self.len as u32
    }
    /// Where the last ends.
    pub fn end(&self, pool: &Pool) -> Option<Seq> {
        let (mut end, mut i) = (None, self.head);
        while i != NONE {
            let n = pool.get(i);
            (end, i) = (Some(n.end), n.next);
        }
        end
    }
    /// The next one, if there is one.
    fn next(&self, pool: &Pool, before: u32) -> u32 {
        if before == NONE { self.head } else { pool.get(before).next }
    }
    fn link(&mut self, pool: &Pool, before: u32, next: u32) {
        if before == NONE {
            self.head = next;
        } else {
            pool.set(before, Node { next, ..pool.get(before) });
        }
    }
    /// Takes out the one behind `before`.
    fn remove(&mut self, pool: &Pool, before: u32) {
        let i = self.next(pool, before);
        self.link(pool, before, pool.get(i).next);
        pool.give(i);
        self.len -= 1;
    }

    /// How late the latest came.
    fn newest(&self, pool: &Pool) -> u64 {
        let (mut newest, mut i) = (0, self.head);
        while i != NONE {
            let n = pool.get(i);
            (newest, i) = (n.at.max(newest), n.next);
        }
        newest
    }

    /// Forgets all.
    pub fn clear(&mut self, pool: &Pool) {
        pool.give_all(self.head);
        *self = Self::EMPTY;
    }

    /// Adds a range. Yields what of it was there already; `Err`: there is no room for it.
    pub fn insert(
        &mut self,
        pool: &Pool,
        start: Seq,
        end: Seq,
    ) -> Result<Option<(Seq, Seq)>, NoRoom> {
        let (mut before, mut i) = (NONE, self.head);
        while i != NONE && pool.get(i).end.lt(start) {
            (before, i) = (i, pool.get(i).next);
        }
        let at = self.newest(pool) + LATER;
        if i == NONE || end.lt(pool.get(i).start) {
            let free = if self.len < RANGES { pool.take(false) } else { None };
            let new = free.ok_or(NoRoom)?;
            let marks = Marks::empty();
            pool.set(new, Node { start, end, at, next: i, size: 0, segments: 0, marks });
            self.link(pool, before, new);
            self.len += 1;
            return Ok(None);
        }
        let mut merged = pool.get(i);
        let mut twice = overlap((start, end), (merged.start, merged.end));
        (merged.start, merged.end) = (merged.start.min(start), merged.end.max(end));
        merged.at = at;
        while merged.next != NONE && pool.get(merged.next).start.le(merged.end) {
            let other = pool.get(merged.next);
            let more = overlap((start, end), (other.start, other.end));
            twice = twice.map_or(more, |t| more.map(|m| (t.0, m.1)).or(Some(t)));
            merged.end = merged.end.max(other.end);
            merged.next = other.next;
            self.remove(pool, i);
        }
        pool.set(i, merged);
        Ok(twice)
    }

    /// Everything up to `nxt` has arrived in order: how far it really goes.
    pub fn advance(&mut self, pool: &Pool, nxt: Seq) -> Seq {
        let mut nxt = nxt;
        while self.head != NONE && pool.get(self.head).start.le(nxt) {
            nxt = nxt.max(pool.get(self.head).end);
            self.remove(pool, NONE);
        }
        nxt
    }

    /// Forgets what overlaps `[start, end)`: its bytes were overwritten by something damaged.
    pub fn forget(&mut self, pool: &Pool, start: Seq, end: Seq) {
        let mut before = NONE;
        loop {
            let i = self.next(pool, before);
            if i == NONE {
                return;
            }
            let n = pool.get(i);
            if start.lt(n.end) && n.start.lt(end) {
                self.remove(pool, before);
            } else {
                before = i;
            }
        }
    }

    /// Adds SACK blocks until there are `most`: the range that grew last first (RFC 2018 4).
    pub fn blocks(&self, pool: &Pool, blocks: &mut Blocks, most: usize) {
        let mut newest = u64::MAX;
        for _ in blocks.get().len()..most.min(MAX_BLOCKS) {
            let (mut best, mut i) = (None, self.head);
            while i != NONE {
                let n = pool.get(i);
                if n.at < newest && best.is_none_or(|b: Node| b.at < n.at) {
                    best = Some(n);
                }
                i = n.next;
            }
            let Some(n) = best else { return };
            blocks.push(n.start, n.end);
            newest = n.at;
        }
    }
}

/// There are too many ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

fn overlap(a: (Seq, Seq), b: (Seq, Seq)) -> Option<(Seq, Seq)> {
    let (start, end) = (a.0.max(b.0), a.1.min(b.1));
    start.lt(end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    fn ranges(a: &Assembler, pool: &Pool) -> Vec<(Seq, Seq)> {
        let (mut out, mut i) = (Vec::new(), a.head);
        while i != NONE {
            let n = pool.get(i);
            out.push((n.start, n.end));
            i = n.next;
        }
        assert_eq!(out.len(), a.len as usize);
        out
    }

    #[test]
    fn the_newest_block_comes_first_and_duplicates_are_seen() {
        let (mut a, pool) = (Assembler::EMPTY, &super::super::pool::pool_of(1, 64));
        for (start, end) in [(10, 20), (50, 60), (30, 40), (70, 80), (90, 95)] {
            assert_eq!(a.insert(pool, Seq(start), Seq(end)), Ok(None));
        }
        let blocks = |a: &Assembler| {
            let mut blocks = Blocks::NONE;
            a.blocks(pool, &mut blocks, 9);
            blocks.get().iter().map(|b| b.0.0).collect::<Vec<_>>()
        };
        assert_eq!(blocks(&a), [90, 70, 30, 50]);
        assert_eq!(a.insert(pool, Seq(55), Seq(62)), Ok(Some((Seq(55), Seq(60)))));
        assert_eq!(blocks(&a), [50, 90, 70, 30]);
        assert_eq!(a.insert(pool, Seq(15), Seq(35)), Ok(Some((Seq(15), Seq(35)))), "both ends");
        assert_eq!(a.advance(pool, Seq(10)), Seq(40));
        assert_eq!(blocks(&a), [50, 90, 70]);
    }

    /// Against a bitmap, on random ranges around the wrap of sequence numbers.
    #[test]
    fn agrees_with_a_bitmap() {
        for seed in 1..200u64 {
            let mut rng = seed;
            let mut random = |n: u64| {
                rng = rng.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (rng >> 33) % n
            };
            let base = Seq(u32::MAX - 100);
            let (mut a, pool) = (Assembler::EMPTY, &super::super::pool::pool_of(1, 12));
            let mut bits = [false; 256];
            let mut nxt = 0usize;
            for _ in 0..60 {
                let start = nxt + random(250 - nxt as u64) as usize;
                let end = start + 1 + random((256 - start) as u64) as usize % 20;
                let end = end.min(256);
                match random(8) {
                    0 => {
                        a.forget(pool, base + start as u32, base + end as u32);
                        // The assembler forgets whole ranges.
                        let (mut s, mut e) = (start, end);
                        while s > 0 && bits[s] && bits[s - 1] {
                            s -= 1;
                        }
                        while e < 256 && bits[e - 1] && bits[e] {
                            e += 1;
                        }
                        bits[s..e].fill(false);
                    }
                    1 => {
                        nxt = (nxt + 1 + random(5) as usize).min(240);
                        while nxt < 256 && bits[nxt] {
                            nxt += 1;
                        }
                        bits[..nxt].fill(false);
                        let to = a.advance(pool, base + nxt as u32);
                        assert_eq!(to, base + nxt as u32, "seed {seed}");
                        if nxt > 240 {
                            break;
                        }
                    }
                    _ => {
                        if a.insert(pool, base + start as u32, base + end as u32).is_ok() {
                            bits[start..end].fill(true);
                        } else {
                            assert_eq!((a.len, pool.left()), (12, 1));
                        }
                    }
                }
                let mut model = Vec::new();
                let mut i = 0;
                while i < 256 {
                    if bits[i] {
                        let s = i;
                        while i < 256 && bits[i] {
                            i += 1;
                        }
                        model.push((base + s as u32, base + i as u32));
                    }
                    i += 1;
                }
                assert_eq!(ranges(&a, pool), model, "seed {seed}");
            }
        }
    }
}
