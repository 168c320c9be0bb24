//! Slots of init's own CSpace. All are handed out at boot: a restart fills the same slots again,
//! so that recovery cannot run out of them.

use alloc::vec::Vec;
use libipc::authority::Purpose;

/// Hands out consecutive slots.
#[derive(Debug)]
pub struct Slots {
    next: u64,
    end: u64,
    /// From which slot on they are for what.
    purposes: Purposes,
}

/// What slots are for: from each of these on, until the next.
#[derive(Debug, Default)]
pub struct Purposes(Vec<(u64, Purpose)>);

impl Purposes {
    /// What a slot is for.
    pub fn of(&self, slot: u64) -> Purpose {
        let after = self.0.partition_point(|(first, _)| *first <= slot);
        after.checked_sub(1).map_or(Purpose::Own, |i| self.0[i].1)
    }
}

impl Slots {
    /// Slots `first..end`.
    pub const fn new(first: u64, end: u64) -> Self {
        Self { next: first, end, purposes: Purposes(Vec::new()) }
    }
    /// `count` consecutive slots; the first of them, or `None` if the CNode is full.
    pub fn take(&mut self, count: u64) -> Option<u64> {
        let first = self.next;
        let next = first.checked_add(count).filter(|n| *n <= self.end)?;
        self.next = next;
        Some(first)
    }
    /// The slots from the next one on are for this.
    pub fn are_for(&mut self, purpose: Purpose) {
        self.purposes.0.push((self.next, purpose));
    }
    /// What the slots are for.
    pub fn into_purposes(self) -> Purposes {
        self.purposes
    }
    /// The first slot not handed out.
    pub const fn next(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_each_slot_once() {
        let mut s = Slots::new(10, 20);
        assert_eq!(s.take(4), Some(10));
        assert_eq!(s.take(6), Some(14));
        assert_eq!(s.take(0), Some(20));
        assert_eq!(s.take(1), None);
        assert_eq!(s.take(u64::MAX), None);
    }

    #[test]
    fn remembers_what_they_are_for() {
        let mut s = Slots::new(10, 20);
        s.take(2);
        s.are_for(Purpose::Region(1));
        s.take(3);
        s.are_for(Purpose::Life(2));
        s.are_for(Purpose::Own);
        let p = s.into_purposes();
        let all = [0, 11, 12, 14, 15, 99].map(|slot| p.of(slot));
        let (own, region) = (Purpose::Own, Purpose::Region(1));
        assert_eq!(all, [own, own, region, region, own, own]);
    }
}
