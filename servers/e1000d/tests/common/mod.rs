//! A model of the NIC at register level, and a netd, for the driver's tests.
#![allow(dead_code, missing_docs)]

pub mod netd;
pub mod nic;
pub mod world;

/// Seeds that a random test runs through: few by default, so that it is quick. `E1000D_SEEDS=20`
/// runs twenty times as many.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    let times = std::env::var("E1000D_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    0..default * times
}

/// xorshift64*: replayable by its seed.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// Bytes of frame number `seq` in either direction.
pub fn pattern(seq: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seq + 1);
    let mut frame: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
    frame[..8].copy_from_slice(&seq.to_le_bytes());
    frame
}

/// Ones' complement sum of big-endian words.
pub fn sum(bytes: &[u8]) -> u32 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]) as u32;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}
