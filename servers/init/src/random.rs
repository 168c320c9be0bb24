//! The generator of random bytes: every incarnation of every process starts with 32 of them, and
//! programs whose manifest entry says so may ask for more.
//!
//! It belongs to init and not to a server of its own: init needs it before it can start any
//! server, and whoever makes the seeds of all processes has to be trusted like init in any case.
//!
//! Noise ([`crate::noise`]) is conditioned by SHA-256 into the key of a ChaCha20 generator. After
//! each use the key is replaced by output of its own, so that what was handed out cannot be
//! computed from what is left here. Fresh noise is mixed in once a minute, and never replaces what
//! is there: a source that fails later makes nothing worse.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

use crate::kernel::Kernel;
use crate::noise::{Source, collect};

/// Fresh noise is collected when the last is this old.
const RESEED_NS: u64 = 60_000_000_000;

/// The generator.
pub struct Random {
    rng: ChaCha20Rng,
    source: Source,
    collected_ns: u64,
}

impl Random {
    /// A generator seeded with noise, which takes about a millisecond.
    pub fn new(k: &mut impl Kernel) -> Self {
        let rng = ChaCha20Rng::from_seed([0; 32]);
        let mut random = Self { rng, source: Source::None, collected_ns: 0 };
        random.reseed(k);
        random
    }

    /// Where the noise comes from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Mixes fresh noise into the key.
    fn reseed(&mut self, k: &mut impl Kernel) {
        let mut hash = Sha256::new();
        let mut key = [0; 32];
        self.rng.fill_bytes(&mut key);
        hash.update(key);
        self.source = collect(k, &mut hash);
        hash.update(k.now_ns().to_le_bytes());
        self.collected_ns = k.now_ns();
        self.rng = ChaCha20Rng::from_seed(hash.finalize().into());
    }

    /// Fills `bytes`. `true`: the source of the noise has changed.
    pub fn fill(&mut self, k: &mut impl Kernel, bytes: &mut [u8]) -> bool {
        let source = self.source;
        if k.now_ns().saturating_sub(self.collected_ns) >= RESEED_NS {
            self.reseed(k);
        }
        self.rng.fill_bytes(bytes);
        let mut key = [0; 32];
        self.rng.fill_bytes(&mut key);
        self.rng = ChaCha20Rng::from_seed(key);
        self.source != source
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::model::Model;
    use alloc::vec::Vec;

    fn bytes(random: &mut Random, k: &mut Model) -> [u8; 32] {
        let mut bytes = [0; 32];
        random.fill(k, &mut bytes);
        bytes
    }

    #[test]
    fn nothing_comes_twice() {
        let mut k = Model::new(&[]);
        let mut random = Random::new(&mut k);
        let mut all: Vec<[u8; 32]> = (0..1000).map(|_| bytes(&mut random, &mut k)).collect();
        let mut other = Model::new(&[]);
        other.outside.noise.jitter = |n| (n * n + 1) % 13;
        let mut random = Random::new(&mut other);
        all.extend((0..1000).map(|_| bytes(&mut random, &mut other)));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 2000);
    }

    #[test]
    fn noise_is_collected_once_a_minute() {
        let mut k = Model::new(&[]);
        let mut random = Random::new(&mut k);
        let samples = k.outside.noise.samples;
        bytes(&mut random, &mut k);
        k.now += RESEED_NS - 1;
        bytes(&mut random, &mut k);
        assert_eq!(k.outside.noise.samples, samples);
        k.now += 1;
        bytes(&mut random, &mut k);
        assert_eq!(k.outside.noise.samples, 2 * samples);
    }

    #[test]
    fn a_source_that_fails_is_noticed_and_harms_nothing() {
        let mut k = Model::new(&[]);
        let mut random = Random::new(&mut k);
        assert_eq!(random.source(), Source::Jitter);
        let mut copy = Random { rng: random.rng.clone(), ..random };
        k.outside.noise.jitter = |_| 36;
        k.now += RESEED_NS;
        let mut first = [0; 32];
        assert!(random.fill(&mut k, &mut first));
        assert_eq!(random.source(), Source::None);
        // The key that was there is still in it.
        copy.rng = ChaCha20Rng::from_seed([1; 32]);
        let mut other = [0; 32];
        copy.fill(&mut k, &mut other);
        assert_ne!(first, other);
        assert!(!random.fill(&mut k, &mut other), "it is told once");
    }
}
