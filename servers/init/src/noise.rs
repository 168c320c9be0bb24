//! Sources of randomness, and the tests that they must go on passing (NIST SP 800-90B, 4.4).
//!
//! The processor's own generator is preferred. Where there is none (QEMU's default model has
//! none), the noise is in how long a little work on memory takes: caches, interrupts, and under an
//! emulator everything that its host does. Each such time is credited with a third of a bit.

use core::fmt;
use sha2::{Digest, Sha256};

use crate::kernel::Kernel;

/// An instruction of the processor that yields random bits (Intel SDM volume 1, 7.3.17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Seeds for generators.
    Rdseed,
    /// Output of a generator in the processor.
    Rdrand,
}

/// Where the randomness comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The processor.
    Instruction(Instruction),
    /// The time that work takes.
    Jitter,
    /// Nowhere: no source passes its tests.
    None,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instruction(Instruction::Rdseed) => "the processor (RDSEED)",
            Self::Instruction(Instruction::Rdrand) => "the processor (RDRAND)",
            Self::Jitter => "timing jitter",
            Self::None => {
                "NONE: keys and port numbers can be guessed; give the machine a processor with RDRAND"
            }
        })
    }
}

/// 64-bit words of the processor in one collection: four times what a seed needs.
const WORDS: usize = 16;
/// An instruction that says "not now" is asked this often (Intel recommends ten).
const TRIES: usize = 16;
/// Times in one collection: SP 800-90B asks for 1024 before the first output (4.3), and at a third
/// of a bit each they carry 341 bits.
const TIMES: usize = 1024;

/// Repetition count test (4.4.1): 1 + 30 / (1/3) equal samples in a row happen once in 2^30.
const REPEATS: u32 = 91;
/// Adaptive proportion test (4.4.2): of so many samples …
const WINDOW: u32 = 512;
/// … that many equal to the first happen once in 2^30, at a third of a bit each.
const ALIKE: u32 = 458;

/// The two continuous tests.
#[derive(Clone, Copy, Debug, Default)]
struct Health {
    last: u64,
    repeats: u32,
    first: u64,
    alike: u32,
    seen: u32,
}

impl Health {
    /// Looks at a sample. `false`: the source has failed.
    fn sample(&mut self, sample: u64) -> bool {
        if self.seen == 0 {
            (self.first, self.alike) = (sample, 0);
        }
        self.repeats = if sample == self.last { self.repeats + 1 } else { 1 };
        self.last = sample;
        self.alike += (sample == self.first) as u32;
        self.seen = (self.seen + 1) % WINDOW;
        self.repeats < REPEATS && self.alike < ALIKE
    }
}

/// Collects at least 256 bits of entropy into `into`, from the best source that passes its tests.
pub fn collect(k: &mut impl Kernel, into: &mut Sha256) -> Source {
    if let Some(i) = k.random_instruction()
        && words(k, i, into)
    {
        return Source::Instruction(i);
    }
    if times(k, into) { Source::Jitter } else { Source::None }
}

/// From the processor. Some have answered all ones for ever after a sleep: a word that repeats
/// fails the instruction.
fn words(k: &mut impl Kernel, instruction: Instruction, into: &mut Sha256) -> bool {
    let mut last = None;
    for _ in 0..WORDS {
        let word = (0..TRIES).find_map(|_| k.random_word(instruction));
        let Some(word) = word.filter(|w| last != Some(*w)) else { return false };
        into.update(word.to_le_bytes());
        last = Some(word);
    }
    true
}

/// From the time that work takes. What fails is mixed in all the same: it does no harm.
fn times(k: &mut impl Kernel, into: &mut Sha256) -> bool {
    let (mut health, mut sound) = (Health::default(), true);
    for _ in 0..TIMES {
        let time = k.jitter();
        sound &= health.sample(time);
        into.update(time.to_le_bytes());
    }
    sound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::model::Model;

    /// Which source is used when the processor and the clock answer like this.
    fn source(
        instruction: Option<Instruction>,
        word: fn(u64) -> Option<u64>,
        jitter: fn(u64) -> u64,
    ) -> Source {
        let mut k = Model::new(&[]);
        let outside = &mut k.outside.noise;
        (outside.instruction, outside.word, outside.jitter) = (instruction, word, jitter);
        collect(&mut k, &mut Sha256::new())
    }

    #[test]
    fn the_best_sound_source_is_used() {
        let word = |n: u64| Some(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let noise = |n: u64| n * n % 11;
        for i in [Instruction::Rdseed, Instruction::Rdrand] {
            assert_eq!(source(Some(i), word, |_| 7), Source::Instruction(i));
            // One that is busy now and then is waited for.
            let busy = |n: u64| n.is_multiple_of(9).then_some(n);
            assert_eq!(source(Some(i), busy, |_| 7), Source::Instruction(i));
            // One that never answers, or always the same, is not believed.
            assert_eq!(source(Some(i), |_| None, noise), Source::Jitter);
            assert_eq!(source(Some(i), |_| Some(u64::MAX), noise), Source::Jitter);
        }
        assert_eq!(source(None, |_| unreachable!(), noise), Source::Jitter);
        assert_eq!(source(None, |_| None, |_| 36), Source::None);
    }

    /// Whether so many samples pass.
    fn passes(mut samples: impl Iterator<Item = u64>) -> bool {
        let mut health = Health::default();
        samples.all(|s| health.sample(s))
    }

    #[test]
    fn repetitions_are_counted() {
        let run = |n: usize| (0..100u64).chain(core::iter::repeat_n(500, n)).chain(0..100);
        assert!(passes(run(REPEATS as usize - 1)));
        assert!(!passes(run(REPEATS as usize)));
        // The first sample counts, whatever value it has.
        assert!(!passes(core::iter::repeat_n(0, REPEATS as usize)));
    }

    #[test]
    fn proportions_are_counted() {
        // Never more than 20 in a row, but too many of a kind in one window.
        let many =
            |other: usize| (0..WINDOW as usize).map(move |i| (i % other == other - 1) as u64);
        assert!(passes(many(9)), "455 of 512");
        assert!(!passes(many(10)), "461 of 512");
        // A window later the first value counts anew.
        assert!(!passes(many(5).chain(many(10))));
        assert!(passes(many(5).chain(many(9))));
    }

    #[test]
    fn every_sample_matters() {
        let digest = |jitter: fn(u64) -> u64| {
            let (mut k, mut hash) = (Model::new(&[]), Sha256::new());
            k.outside.noise.jitter = jitter;
            collect(&mut k, &mut hash);
            hash.finalize()
        };
        assert_ne!(digest(|n| n % 7), digest(|n| if n == 1000 { 8 } else { n % 7 }));
    }
}
