//! Small records in `netd.state` that hold together or not at all.

use core::sync::atomic::{AtomicU64, Ordering::*};

use crate::crash;

/// `N` words under a check. All zero: unused.
#[repr(C)]
pub struct Sealed<const N: usize> {
    words: [AtomicU64; N],
    check: AtomicU64,
}

impl<const N: usize> Default for Sealed<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Sealed<N> {
    /// Unused.
    pub const fn new() -> Self {
        Self { words: [const { AtomicU64::new(0) }; N], check: AtomicU64::new(0) }
    }

    fn check_of(words: &[u64; N]) -> u64 {
        words.iter().fold(0x9e37_79b9_7f4a_7c15, |h: u64, w| {
            let h = (h ^ w).wrapping_mul(0xff51_afd7_ed55_8ccd);
            h ^ h >> 32
        }) | 1
    }

    /// What it says, if it is in use and whole.
    pub fn load(&self) -> Option<[u64; N]> {
        let check = self.check.load(Acquire);
        let words = core::array::from_fn(|i| self.words[i].load(Relaxed));
        (check == Self::check_of(&words)).then_some(words)
    }

    /// Writes it. Until that is done it is unused.
    pub fn store(&self, words: [u64; N]) {
        self.clear();
        for (to, from) in self.words.iter().zip(words) {
            to.store(from, Relaxed);
        }
        crash::point();
        self.check.store(Self::check_of(&words), Release);
        crash::point();
    }

    /// Makes it unused.
    pub fn clear(&self) {
        self.check.store(0, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_seen() {
        let r = Sealed::new();
        assert_eq!(r.load(), None);
        r.store([1, 2, 3]);
        assert_eq!(r.load(), Some([1, 2, 3]));
        r.words[1].store(3, Relaxed);
        assert_eq!(r.load(), None);
        r.store([0; 3]);
        assert_eq!(r.load(), Some([0; 3]));
        r.clear();
        assert_eq!(r.load(), None);
    }
}
