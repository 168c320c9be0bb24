//! A hierarchical timer wheel: setting, cancelling and expiring cost O(1), finding the next
//! deadline a few bit operations. Timers are numbers; each is set at most once at a time.
//!
//! Four levels of 64 slots; level `l` has slots of 64^l ticks. A timer goes to the level where its
//! distance fits and falls one level each time its slot comes due (Varghese and Lauck, scheme 6/7).
//! A tick is 2^20 ns, about a millisecond; longer distances than 64^4 ticks (four and a half
//! hours) are cut, so whoever sets one looks again when it fires.

use alloc::vec::Vec;

/// log2 of nanoseconds in a tick.
const TICK_SHIFT: u32 = 20;
const LEVELS: usize = 4;
const SLOTS: usize = 64;
const NONE: u32 = u32::MAX;
const UNSET: u16 = u16::MAX;
const MAX_TICKS: u64 = (1 << (6 * LEVELS)) - 1;

#[derive(Clone, Copy)]
struct Node {
    /// Tick, modulo 2^32.
    at: u32,
    next: u32,
    prev: u32,
    /// `level * 64 + slot`, or [`UNSET`].
    slot: u16,
}

/// The wheel.
pub struct Wheel {
    tick: u64,
    /// No slot comes due before this tick: what [`Self::next_slot`] said last, or earlier.
    soonest: u64,
    heads: [u32; LEVELS * SLOTS],
    used: [u64; LEVELS],
    nodes: Vec<Node>,
}

impl Wheel {
    /// A wheel for timers `0..timers`, at time `now_ns`.
    pub fn new(timers: usize, now_ns: u64) -> Self {
        let node = Node { at: 0, next: NONE, prev: NONE, slot: UNSET };
        Self {
            tick: now_ns >> TICK_SHIFT,
            soonest: u64::MAX,
            heads: [NONE; LEVELS * SLOTS],
            used: [0; LEVELS],
            nodes: alloc::vec![node; timers],
        }
    }

    /// Makes `timer` fire at `at_ns` or up to a tick later, never earlier.
    pub fn set(&mut self, timer: u32, at_ns: u64) {
        self.cancel(timer);
        let at = (at_ns >> TICK_SHIFT).saturating_add(1).clamp(self.tick, self.tick + MAX_TICKS);
        self.place(timer, at);
    }

    /// The tick of a node: less than 24 days from now.
    #[inline]
    fn whole(&self, at: u32) -> u64 {
        let ahead = at.wrapping_sub(self.tick as u32) as i32;
        self.tick.wrapping_add_signed(ahead as i64)
    }

    /// As [`Self::set`], unless it fires earlier already.
    #[inline]
    pub fn set_by(&mut self, timer: u32, at_ns: u64) {
        let node = &self.nodes[timer as usize];
        if node.slot == UNSET || self.whole(node.at) > (at_ns >> TICK_SHIFT) + 1 {
            self.set(timer, at_ns);
        }
    }

    /// Panics if a timer that is set is not where it will be found.
    #[cfg(any(test, feature = "crash-points"))]
    pub fn check(&self) {
        let mut found = 0;
        for (slot, head) in self.heads.iter().enumerate() {
            let (mut timer, mut prev) = (*head, NONE);
            let used = self.used[slot / SLOTS] >> (slot % SLOTS) & 1 == 1;
            assert_eq!(used, timer != NONE, "slot {slot}");
            while timer != NONE {
                let node = &self.nodes[timer as usize];
                assert_eq!((node.slot as usize, node.prev), (slot, prev), "timer {timer}");
                found += 1;
                (prev, timer) = (timer, node.next);
            }
        }
        assert_eq!(found, self.nodes.iter().filter(|n| n.slot != UNSET).count());
        let next = self.next_slot().map_or(u64::MAX, |(_, due)| due);
        assert!(self.soonest <= next, "{} is later than {next}", self.soonest);
    }

    /// Unsets `timer`.
    pub fn cancel(&mut self, timer: u32) {
        let node = self.nodes[timer as usize];
        if node.slot == UNSET {
            return;
        }
        match node.prev {
            NONE => self.heads[node.slot as usize] = node.next,
            prev => self.nodes[prev as usize].next = node.next,
        }
        if node.next != NONE {
            self.nodes[node.next as usize].prev = node.prev;
        }
        if self.heads[node.slot as usize] == NONE {
            self.used[node.slot as usize / SLOTS] &= !(1 << (node.slot as usize % SLOTS));
        }
        self.nodes[timer as usize].slot = UNSET;
    }

    fn place(&mut self, timer: u32, at: u64) {
        let distance = at.saturating_sub(self.tick);
        let level = (63 - (distance | 1).leading_zeros()) as usize / 6;
        let index = (at.max(self.tick) >> (6 * level)) as usize % SLOTS;
        let slot = level * SLOTS + index;
        let next = self.heads[slot];
        if next != NONE {
            self.nodes[next as usize].prev = timer;
        }
        self.heads[slot] = timer;
        self.used[level] |= 1 << index;
        // A slot comes due at the first of its ticks.
        self.soonest = self.soonest.min(at.max(self.tick) >> (6 * level) << (6 * level));
        self.nodes[timer as usize] = Node { at: at as u32, next, prev: NONE, slot: slot as u16 };
    }

    /// Level, slot and tick of the next slot that comes due; upper levels first at the same tick.
    fn next_slot(&self) -> Option<(usize, u64)> {
        let mut best: Option<(usize, u64)> = None;
        for level in (0..LEVELS).rev() {
            if self.used[level] == 0 {
                continue;
            }
            let position = self.tick >> (6 * level);
            // Above level 0 the current slot was emptied when the wheel came to it: what is in it
            // now belongs to the next turn.
            let skip = (level > 0) as u64;
            let turned = self.used[level].rotate_right(((position + skip) % 64) as u32);
            let due = (position + skip + turned.trailing_zeros() as u64) << (6 * level);
            if best.is_none_or(|(_, at)| due < at) {
                best = Some((level, due));
            }
        }
        best
    }

    /// Moves what is in a slot of an upper level, which the wheel has come to, one level down or more.
    fn cascade(&mut self, level: usize, index: usize) {
        let mut timer = core::mem::replace(&mut self.heads[level * SLOTS + index], NONE);
        self.used[level] &= !(1 << index);
        while timer != NONE {
            let Node { at, next, .. } = self.nodes[timer as usize];
            self.place(timer, self.whole(at));
            timer = next;
        }
    }

    /// A timer that is due at `now_ns`, now unset; `None` when there are no more.
    #[inline]
    pub fn expired(&mut self, now_ns: u64) -> Option<u32> {
        let now = now_ns >> TICK_SHIFT;
        if now < self.soonest {
            self.tick = self.tick.max(now);
            return None;
        }
        self.due(now)
    }

    fn due(&mut self, now: u64) -> Option<u32> {
        while self.soonest <= now {
            let Some((level, due)) = self.next_slot() else {
                self.soonest = u64::MAX;
                break;
            };
            if due > now {
                self.soonest = due;
                break;
            }
            self.tick = self.tick.max(due);
            if level == 0 {
                let timer = self.heads[due as usize % SLOTS];
                self.cancel(timer);
                return Some(timer);
            }
            // Where a slot of one level begins, one of each level below begins, too.
            for level in (1..=level).rev() {
                self.cascade(level, (due >> (6 * level)) as usize % SLOTS);
            }
        }
        self.tick = self.tick.max(now);
        None
    }

    /// When to call [`Self::expired`] next, in ns; it may then turn out that nothing is due yet.
    pub fn next(&self) -> Option<u64> {
        (self.soonest != u64::MAX).then_some(self.soonest << TICK_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::collections::BTreeMap;

    /// Random sets, cancels and waits against a sorted map.
    #[test]
    fn agrees_with_a_sorted_map() {
        for seed in 1..40u64 {
            let mut rng = seed;
            let mut random = |n: u64| {
                rng = rng.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (rng >> 33) % n
            };
            let mut now = random(1 << 40);
            let mut wheel = Wheel::new(50, now);
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for step in 0..2000 {
                let timer = random(50) as u32;
                match random(4) {
                    0 | 1 => {
                        let far = random(44);
                        let at = now + random(1 << far);
                        wheel.set(timer, at);
                        model.insert(timer, at);
                    }
                    2 => {
                        wheel.cancel(timer);
                        model.remove(&timer);
                    }
                    _ => {
                        let far = random(40);
                        now += random(1 << far);
                        while let Some(fired) = wheel.expired(now) {
                            let at = model.remove(&fired).expect("fired twice or cancelled");
                            assert!(at <= now, "seed {seed} step {step}: early");
                        }
                        for at in model.values() {
                            let due = (at >> TICK_SHIFT) + 1;
                            assert!(due > now >> TICK_SHIFT, "seed {seed} step {step}: late");
                            assert!(
                                wheel.next().unwrap() >> TICK_SHIFT <= due,
                                "seed {seed}: next too late"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn slots_of_two_levels_that_begin_together_are_both_emptied() {
        let ticks = |n: u64| n << TICK_SHIFT;
        let mut wheel = Wheel::new(2, ticks(4000));
        // In slots of level 1 and of level 2 that begin at tick 4,096.
        wheel.set(0, ticks(4104));
        wheel.set(1, ticks(8100));
        assert_eq!((wheel.expired(ticks(4106)), wheel.expired(ticks(4106))), (Some(0), None));
        assert_eq!(wheel.expired(ticks(8102)), Some(1));
    }

    #[test]
    fn far_timers_are_found_by_few_looks() {
        let mut wheel = Wheel::new(1, 0);
        wheel.set(0, 3_600_000_000_000);
        let (mut now, mut looks) = (0, 0);
        while wheel.expired(now).is_none() {
            now = wheel.next().unwrap();
            looks += 1;
        }
        assert!(now >= 3_600_000_000_000 && looks < 8, "{looks} looks");
    }

    #[test]
    fn set_by_only_moves_forward() {
        let mut wheel = Wheel::new(1, 0);
        wheel.set_by(0, 500_000_000);
        wheel.set_by(0, 900_000_000);
        assert_eq!(wheel.expired(510_000_000), Some(0));
        assert_eq!(wheel.expired(2_000_000_000), None);
    }
}
