//! The byte stream that `/bytes` serves and that test clients check: a fixed sequence, readable
//! at any position.
//!
//! Word `i` is output number `i` of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom
//! Number Generators", 2014) from [`SEED`], little-endian. The generator's state is a counter, so
//! no position depends on an earlier one.

/// Seed of the sequence.
pub const SEED: u64 = 0x4252_4541_4b57_4154; // "BREAKWAT"

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Word `index` of the sequence.
pub const fn word(index: u64) -> u64 {
    let z = SEED.wrapping_add(index.wrapping_add(1).wrapping_mul(GAMMA));
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Writes the bytes at `position..position + out.len()` of the sequence.
pub fn fill(position: u64, out: &mut [u8]) {
    let mut index = position / 8;
    let skip = (position % 8) as usize;
    let mut out = out;
    if skip != 0 {
        let n = out.len().min(8 - skip);
        let (head, rest) = out.split_at_mut(n);
        head.copy_from_slice(&word(index).to_le_bytes()[skip..skip + n]);
        (out, index) = (rest, index.wrapping_add(1));
    }
    let (words, tail) = out.as_chunks_mut::<8>();
    for w in words {
        *w = word(index).to_le_bytes();
        index = index.wrapping_add(1);
    }
    let n = tail.len();
    tail.copy_from_slice(&word(index).to_le_bytes()[..n]);
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;

    #[test]
    fn pieces_of_any_shape_join_to_the_same_stream() {
        let mut whole = vec![0; 1000];
        fill(0, &mut whole);
        for (start, len) in [(0, 1), (1, 7), (3, 20), (7, 1), (8, 8), (13, 900), (999, 1), (5, 0)] {
            let mut piece = vec![0; len];
            fill(start as u64, &mut piece);
            assert_eq!(piece, whole[start..start + len], "{start} + {len}");
        }
    }

    #[test]
    fn the_sequence_is_splitmix64() {
        // Reference: the published algorithm, stepped.
        let mut state = SEED;
        for i in 0..100 {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            assert_eq!(word(i), z ^ (z >> 31));
        }
        let mut last = [0; 16];
        fill(u64::MAX - 15, &mut last);
    }
}
