//! A set of socket ids: a bit each, and a bit for each word that has any, so that finding one
//! costs the same however large the session is.

use libipc::sock::MAX_SOCKETS;

const WORDS: usize = MAX_SOCKETS as usize / 64;
const _: () = assert!(WORDS <= 64, "one summary word");

/// Ids below [`MAX_SOCKETS`].
pub(crate) struct Ids {
    words: [u64; WORDS],
    /// Which words are not 0.
    summary: u64,
}

impl Ids {
    pub const EMPTY: Self = Self { words: [0; WORDS], summary: 0 };

    pub fn is_empty(&self) -> bool {
        self.summary == 0
    }

    pub fn contains(&self, id: u32) -> bool {
        self.words[id as usize / 64] >> (id % 64) & 1 == 1
    }

    pub fn insert(&mut self, id: u32) {
        self.words[id as usize / 64] |= 1 << (id % 64);
        self.summary |= 1 << (id / 64);
    }

    pub fn remove(&mut self, id: u32) {
        let word = &mut self.words[id as usize / 64];
        *word &= !(1 << (id % 64));
        if *word == 0 {
            self.summary &= !(1 << (id / 64));
        }
    }

    /// All ids below `n`.
    pub fn fill(&mut self, n: u32) {
        for id in 0..n {
            self.insert(id);
        }
    }

    /// The lowest id.
    pub fn first(&self) -> Option<u32> {
        (self.summary != 0).then(|| {
            let word = self.summary.trailing_zeros();
            word * 64 + self.words[word as usize].trailing_zeros()
        })
    }

    /// The first id above `last`, else the lowest: ids take turns.
    pub fn after(&self, last: u32) -> Option<u32> {
        let word = last / 64;
        let above = self.words[word as usize] & !(u64::MAX >> (63 - last % 64));
        if above != 0 {
            return Some(word * 64 + above.trailing_zeros());
        }
        let later = self.summary & !(u64::MAX >> (63 - word));
        if later == 0 {
            return self.first();
        }
        let word = later.trailing_zeros();
        Some(word * 64 + self.words[word as usize].trailing_zeros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_turns() {
        let mut ids = Ids::EMPTY;
        assert_eq!((ids.after(0), ids.first()), (None, None));
        for id in [0, 5, 63, 64, 127, 4095] {
            ids.insert(id);
        }
        for (last, next) in [
            (0, 5),
            (4, 5),
            (5, 63),
            (62, 63),
            (63, 64),
            (64, 127),
            (127, 4095),
            (4094, 4095),
            (4095, 0),
        ] {
            assert_eq!(ids.after(last), Some(next), "after {last}");
        }
        for id in [0, 5, 63, 64, 127] {
            assert!(ids.contains(id));
            ids.remove(id);
            assert!(!ids.contains(id));
        }
        assert_eq!(ids.after(4095), Some(4095), "itself when it is alone");
        ids.remove(4095);
        assert!(ids.is_empty());
        ids.fill(130);
        assert_eq!((ids.after(129), ids.after(128)), (Some(0), Some(129)));
    }
}
