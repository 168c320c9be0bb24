//! What has arrived beyond `rcv_nxt`: a bounded, sorted list of ranges. Their bytes lie in the
//! receive ring already, where they belong.

use crate::wire::tcp::Seq;

/// Most ranges remembered; what would need more is dropped and comes again.
pub const RANGES: usize = 16;

/// Ranges `[start, end)`, ascending, neither touching nor overlapping.
#[derive(Clone, Copy, Debug)]
pub struct Assembler {
    ranges: [(Seq, Seq); RANGES],
    len: u8,
}

impl Assembler {
    /// Nothing.
    pub const EMPTY: Self = Self { ranges: [(Seq(0), Seq(0)); RANGES], len: 0 };

    /// The ranges.
    pub fn ranges(&self) -> &[(Seq, Seq)] {
        &self.ranges[..self.len as usize]
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn splice(&mut self, from: usize, to: usize, with: Option<(Seq, Seq)>) {
        let len = self.len as usize;
        let added = with.is_some() as usize;
        self.ranges.copy_within(to..len, from + added);
        if let Some(range) = with {
            self.ranges[from] = range;
        }
        self.len = (len + added + from - to) as u8;
    }

    /// Adds a range; `false` if there is no room for it.
    pub fn insert(&mut self, start: Seq, end: Seq) -> bool {
        let ranges = self.ranges();
        let from = ranges.iter().position(|r| start.le(r.1)).unwrap_or(ranges.len());
        let to = ranges.iter().position(|r| end.lt(r.0)).unwrap_or(ranges.len());
        if from == to {
            if ranges.len() == RANGES {
                return false;
            }
            self.splice(from, to, Some((start, end)));
        } else {
            let merged = (start.min(ranges[from].0), end.max(ranges[to - 1].1));
            self.splice(from, to, Some(merged));
        }
        true
    }

    /// Everything up to `nxt` has arrived in order: how far it really goes.
    pub fn advance(&mut self, nxt: Seq) -> Seq {
        let mut nxt = nxt;
        let mut passed = 0;
        for r in self.ranges() {
            if !r.0.le(nxt) {
                break;
            }
            nxt = nxt.max(r.1);
            passed += 1;
        }
        self.splice(0, passed, None);
        nxt
    }

    /// Forgets what overlaps `[start, end)`: its bytes were overwritten by something damaged.
    pub fn forget(&mut self, start: Seq, end: Seq) {
        let ranges = self.ranges();
        let from = ranges.iter().position(|r| start.lt(r.1)).unwrap_or(ranges.len());
        let to = ranges.iter().position(|r| end.le(r.0)).unwrap_or(ranges.len());
        if from < to {
            self.splice(from, to, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

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
            let mut a = Assembler::EMPTY;
            let mut bits = [false; 256];
            let mut nxt = 0usize;
            for _ in 0..60 {
                let start = nxt + random(250 - nxt as u64) as usize;
                let end = start + 1 + random((256 - start) as u64) as usize % 20;
                let end = end.min(256);
                match random(8) {
                    0 => {
                        a.forget(base + start as u32, base + end as u32);
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
                        let to = a.advance(base + nxt as u32);
                        assert_eq!(to, base + nxt as u32, "seed {seed}");
                        if nxt > 240 {
                            break;
                        }
                    }
                    _ => {
                        if a.insert(base + start as u32, base + end as u32) {
                            bits[start..end].fill(true);
                        } else {
                            assert_eq!(a.ranges().len(), RANGES);
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
                assert_eq!(a.ranges(), &model[..], "seed {seed}");
            }
        }
    }
}
