//! Seeded fuzzing of the servers' main loops: seeds from the command line, random numbers, and
//! messages that are right, half right or nothing at all.
//!
//! `SEEDS=n` runs n seeds in place of a test's few, `SEED=n` one alone. A failure prints its seed.
#![forbid(unsafe_code)]

use abi::MsgInfo;
use libipc::msg::VERSION;
use serde::Serialize;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

/// Prints the seed of a run that does not come to its end.
struct Witness(u64);

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was seed {0}: SEED={0} runs it alone", self.0);
        }
    }
}

/// Runs `one` for each seed: `usual` of them, or what the environment says. Returns how many.
pub fn each(usual: u64, mut one: impl FnMut(&mut Random)) -> u64 {
    let seeds = match from_environment("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_environment("SEEDS").unwrap_or(usual),
    };
    for seed in seeds.clone() {
        let _witness = Witness(seed);
        one(&mut Random::new(seed));
    }
    seeds.end - seeds.start
}

/// SplitMix64 (public domain, Vigna).
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    /// Any number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    /// A number below `n`, 0 if there is none.
    pub fn below(&mut self, n: u64) -> u64 {
        self.word() % n.max(1)
    }
    /// Whether one of `n` cases is this one.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    /// One of several.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
    /// Any bytes, fewer than `most`.
    pub fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.word() as u8).collect()
    }
    /// A number of the kind that breaks things: small, at an edge, or anything.
    pub fn edge(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(20),
            1 => (1u64 << self.below(64)).wrapping_sub(self.below(3)),
            2 => 1u64 << self.below(64),
            3 => u64::MAX - self.below(20),
            4 => self.below(100_000),
            _ => self.word(),
        }
    }
    /// Changes some bytes, or the length.
    pub fn spoil(&mut self, bytes: &mut Vec<u8>) {
        match self.below(4) {
            0 => bytes.truncate(self.below(bytes.len() as u64 + 1) as usize),
            1 => bytes.extend(self.bytes(9)),
            _ if bytes.is_empty() => {}
            _ => {
                for _ in 0..=self.below(4) {
                    let at = self.below(bytes.len() as u64) as usize;
                    bytes[at] = if self.one_in(2) { self.word() as u8 } else { bytes[at] ^ 1 };
                }
            }
        }
    }
    /// A message around `request`: its word and its payload, spoilt one time in three.
    pub fn message<T: Serialize>(&mut self, interface: u16, request: &T) -> (MsgInfo, Vec<u8>) {
        let mut payload = postcard::to_allocvec(request).expect("plain data");
        let method = self.word() as u16;
        if self.one_in(3) {
            self.spoil(&mut payload);
        }
        payload.truncate(abi::MSG_MAX);
        let info = match self.below(12) {
            0 => MsgInfo(self.word() & !MsgInfo::KERNEL_BITS),
            1 => MsgInfo::new(self.word() as u16, VERSION, method, payload.len()),
            2 => MsgInfo::new(interface, self.word() as u8, method, payload.len()),
            _ => MsgInfo::new(interface, VERSION, method, payload.len()),
        };
        (info, payload)
    }
}
