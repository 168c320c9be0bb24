//! A set of memory ranges: whole pages, sorted, apart from each other.

use abi::PAGE_SIZE;

/// Most ranges. Firmware's maps have up to about a hundred entries, most of them not RAM.
const MAX: usize = 64;

/// A set of pages.
#[derive(Clone)]
pub struct Ranges {
    list: [(u64, u64); MAX],
    count: usize,
    /// Bytes for which there was no place.
    lost: u64,
}

impl Ranges {
    /// No memory.
    pub const EMPTY: Self = Self { list: [(0, 0); MAX], count: 0, lost: 0 };

    /// The ranges (start, end), in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + Clone + '_ {
        self.list[..self.count].iter().copied()
    }

    /// Bytes in the set.
    pub fn bytes(&self) -> u64 {
        self.iter().map(|(s, e)| e - s).sum()
    }

    /// Bytes that are missing because the set would have fallen into too many pieces.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether all of `start..end` is in it.
    pub fn contains(&self, start: u64, end: u64) -> bool {
        self.iter().any(|(s, e)| s <= start && end <= e)
    }

    /// Adds the whole pages of `start..end`.
    pub fn add(&mut self, start: u64, end: u64) {
        let end = end & !(PAGE_SIZE - 1);
        let Some(start) = start.checked_next_multiple_of(PAGE_SIZE).filter(|s| *s < end) else {
            return;
        };
        // Those that overlap or touch it become one with it.
        let first = self.iter().take_while(|r| r.1 < start).count();
        let count = self.iter().skip(first).take_while(|r| r.0 <= end).count();
        if count > 0 {
            let merged = (start.min(self.list[first].0), end.max(self.list[first + count - 1].1));
            self.replace(first, count, &[merged]);
        } else if self.count < MAX {
            self.replace(first, 0, &[(start, end)]);
        } else {
            self.lost += end - start;
        }
    }

    /// Takes out every page that `start..end` touches.
    pub fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let start = start & !(PAGE_SIZE - 1);
        let end = end.checked_next_multiple_of(PAGE_SIZE).unwrap_or(u64::MAX);
        let first = self.iter().take_while(|r| r.1 <= start).count();
        let count = self.iter().skip(first).take_while(|r| r.0 < end).count();
        if count == 0 {
            return;
        }
        let (low, high) = (self.list[first].0, self.list[first + count - 1].1);
        match (low < start, end < high) {
            (true, true) if self.count < MAX => {
                self.replace(first, count, &[(low, start), (end, high)]);
            }
            (true, true) => {
                let (before, behind) = (start - low, high - end);
                self.lost += before.min(behind);
                let larger = if before < behind { (end, high) } else { (low, start) };
                self.replace(first, count, &[larger]);
            }
            (true, false) => self.replace(first, count, &[(low, start)]),
            (false, true) => self.replace(first, count, &[(end, high)]),
            (false, false) => self.replace(first, count, &[]),
        }
    }

    /// Puts `new` in the place of `count` ranges from `first` on.
    fn replace(&mut self, first: usize, count: usize, new: &[(u64, u64)]) {
        self.list.copy_within(first + count..self.count, first + new.len());
        self.list[first..first + new.len()].copy_from_slice(new);
        self.count = self.count - count + new.len();
    }
}
