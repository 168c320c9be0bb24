//! Space for rings in one session region: a bitmap of units, handed out in power-of-two sizes
//! aligned to themselves.
//!
//! First fit over aligned places behaves like a buddy allocator without its lists: a freed ring
//! joins its neighbours by itself, and the whole state can be rebuilt from the table of sockets.

/// Units that one region is divided into at most.
const UNITS: usize = 8192;
/// log2 of the smallest unit and of the smallest ring.
pub const MIN_BITS: u8 = 12;

/// Which parts of a region are rings.
pub struct Space {
    used: [u64; UNITS / 64],
    unit_bits: u8,
    units: usize,
    bytes: u64,
}

impl Space {
    /// A region of `len` bytes with nothing handed out. A region of more than 32 MiB has larger
    /// units than [`MIN_BITS`]; what is left after the last whole unit is not used.
    pub fn new(len: u32) -> Self {
        let mut unit_bits = MIN_BITS;
        while (len as usize >> unit_bits) > UNITS {
            unit_bits += 1;
        }
        let units = len as usize >> unit_bits;
        Self { used: [0; UNITS / 64], unit_bits, units, bytes: 0 }
    }

    /// Bytes handed out.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// log2 of the ring that a wish of `bytes` becomes; `None` if no region holds it.
    pub fn bits_for(&self, bytes: u32) -> Option<u8> {
        let bits = (bytes.max(1) as u64).next_power_of_two().trailing_zeros() as u8;
        let bits = bits.max(self.unit_bits);
        (bits < 31).then_some(bits)
    }

    /// Takes room for a ring of `1 << bits` bytes; returns its offset.
    pub fn take(&mut self, bits: u8) -> Option<u32> {
        let n = self.units_of(bits)?;
        let at = if n < 64 { self.find_within_word(n)? } else { self.find_words(n)? };
        self.mark(at, n, true);
        self.bytes += 1 << bits;
        Some((at << self.unit_bits) as u32)
    }

    /// A free, aligned run of `n` units, a power of two below 64.
    fn find_within_word(&self, n: usize) -> Option<usize> {
        // A bit at each multiple of n.
        let aligned = u64::MAX / ((1 << n) - 1);
        self.used.iter().enumerate().find_map(|(i, word)| {
            // Where n bits from here on are free.
            let (mut free, mut run) = (!word, 1);
            while run < n {
                free &= free >> run;
                run *= 2;
            }
            let at = i * 64 + (free & aligned).trailing_zeros() as usize;
            (free & aligned != 0 && at + n <= self.units).then_some(at)
        })
    }

    /// A free, aligned run of `n` units, a multiple of 64.
    fn find_words(&self, n: usize) -> Option<usize> {
        (0..self.units / n).map(|i| i * n).find(|at| self.is_free(*at, n))
    }

    /// Takes exactly this room, for a ring found in the table after a restart. `false` if it is
    /// misaligned, outside the region, or taken.
    pub fn claim(&mut self, offset: u32, bits: u8) -> bool {
        let Some((at, n)) = self.place(offset, bits) else { return false };
        if !self.is_free(at, n) {
            return false;
        }
        self.mark(at, n, true);
        self.bytes += 1 << bits;
        true
    }

    /// Gives room back. What was not handed out in this shape is left alone.
    pub fn give(&mut self, offset: u32, bits: u8) {
        if let Some((at, n)) = self.place(offset, bits)
            && (at..at + n).all(|i| self.used[i / 64] >> (i % 64) & 1 == 1)
        {
            self.mark(at, n, false);
            self.bytes -= 1 << bits;
        }
    }

    fn units_of(&self, bits: u8) -> Option<usize> {
        (bits >= self.unit_bits && bits < 31).then(|| 1 << (bits - self.unit_bits))
    }

    fn place(&self, offset: u32, bits: u8) -> Option<(usize, usize)> {
        let n = self.units_of(bits)?;
        let at = offset as usize >> self.unit_bits;
        let aligned = offset as usize & ((1 << bits) - 1) == 0;
        (aligned && at + n <= self.units).then_some((at, n))
    }

    /// `n` is a power of two and `at` a multiple of it: a run either lies within one word or
    /// covers whole words.
    fn is_free(&self, at: usize, n: usize) -> bool {
        match n {
            64.. => self.used[at / 64..(at + n) / 64].iter().all(|w| *w == 0),
            _ => self.used[at / 64] & mask(at, n) == 0,
        }
    }

    fn mark(&mut self, at: usize, n: usize, used: bool) {
        match n {
            64.. => self.used[at / 64..(at + n) / 64].fill(if used { !0 } else { 0 }),
            _ if used => self.used[at / 64] |= mask(at, n),
            _ => self.used[at / 64] &= !mask(at, n),
        }
    }
}

fn mask(at: usize, n: usize) -> u64 {
    ((1u64 << n) - 1) << (at % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_aligned_disjoint_and_come_back() {
        let mut s = Space::new(1 << 20);
        let a = s.take(16).unwrap();
        let b = s.take(12).unwrap();
        let c = s.take(18).unwrap();
        assert_eq!((a, b, c), (0, 1 << 16, 1 << 18));
        assert_eq!(s.take(20), None, "the whole region is not free");
        assert!(!s.claim(c, 12), "taken");
        assert!(!s.claim(4096 * 3, 13), "misaligned");
        assert!(!s.claim(1 << 20, 12), "outside");
        for (off, bits) in [(a, 16), (b, 12), (c, 18)] {
            s.give(off, bits);
        }
        assert_eq!(s.bytes(), 0);
        assert_eq!(s.take(20), Some(0));
    }

    #[test]
    fn giving_back_what_was_not_taken_changes_nothing() {
        let mut s = Space::new(1 << 16);
        let a = s.take(12).unwrap();
        s.give(a, 13);
        s.give(a + 4096, 12);
        assert_eq!(s.bytes(), 4096);
    }

    #[test]
    fn a_large_region_has_larger_units() {
        let mut s = Space::new(1 << 30);
        assert_eq!(s.bits_for(1), Some(17));
        assert_eq!(s.take(12), None);
        assert_eq!(s.take(30), Some(0));
        assert_eq!(Space::new(100).take(12), None, "a region smaller than a unit has no room");
    }
}
