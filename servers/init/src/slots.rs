//! Slots of init's own CSpace. All are handed out at boot: a restart fills the same slots again,
//! so that recovery cannot run out of them.

/// Hands out consecutive slots.
#[derive(Debug)]
pub struct Slots {
    next: u64,
    end: u64,
}

impl Slots {
    /// Slots `first..end`.
    pub const fn new(first: u64, end: u64) -> Self {
        Self { next: first, end }
    }
    /// `count` consecutive slots; the first of them, or `None` if the CNode is full.
    pub fn take(&mut self, count: u64) -> Option<u64> {
        let first = self.next;
        let next = first.checked_add(count).filter(|n| *n <= self.end)?;
        self.next = next;
        Some(first)
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
}
