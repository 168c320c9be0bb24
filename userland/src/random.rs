//! Random bytes, fit for keys.
//!
//! Every program starts with a seed that nobody else has. A generator (ChaCha20) in the program
//! stretches it, so that most bytes cost no call. A program whose manifest entry has
//! `random = true` mixes 32 fresh bytes of init's into it at first use, and again after each
//! mebibyte.

use libipc::msg::{self, interface};
use libipc::proc;
use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, RngCore, SeedableRng};

use crate::runtime::Runtime;

/// Bytes between two calls for fresh ones.
const RESEED: usize = 1 << 20;

/// The program's generator.
pub(crate) struct Generator {
    rng: ChaCha20Rng,
    /// Bytes until fresh ones are due.
    left: usize,
}

impl Generator {
    /// On the host, where there is no start information, always the same one.
    pub(crate) fn new(rt: &Runtime) -> Self {
        let seed = rt.info().map_or([0; 32], |info| info.seed);
        Self { rng: ChaCha20Rng::from_seed(seed), left: 0 }
    }

    pub(crate) fn fill(&mut self, rt: &Runtime, bytes: &mut [u8]) {
        if self.left < bytes.len() {
            self.reseed(rt);
        }
        self.left = self.left.saturating_sub(bytes.len());
        self.rng.fill_bytes(bytes);
    }

    /// Mixes in fresh bytes, if the program may ask for them. What was there stays in.
    fn reseed(&mut self, rt: &Runtime) {
        self.left = RESEED;
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let fresh = ask(rt).map_or([0; 32], |(bytes, _)| bytes);
        for (byte, fresh) in seed.iter_mut().zip(fresh) {
            *byte ^= fresh;
        }
        self.rng = ChaCha20Rng::from_seed(seed);
    }
}

/// 32 bytes of init's, and whether it has a sound source. `None`: the manifest gives no right to
/// them.
fn ask(rt: &Runtime) -> Option<([u8; 32], bool)> {
    let ep = rt.info()?.cap("init")?;
    match msg::call(ep, interface::PROC, 0, &proc::Request::Random) {
        Ok(Ok::<_, proc::Error>(proc::Reply::Random { bytes, sound })) => Some((bytes, sound)),
        _ => None,
    }
}

/// Whether the machine has a source of randomness that passes its tests. `None`: this program may
/// not ask.
pub fn is_sound(rt: &Runtime) -> Option<bool> {
    ask(rt).map(|(_, sound)| sound)
}

/// Fills `bytes`.
pub fn fill(rt: &Runtime, bytes: &mut [u8]) {
    rt.random(bytes);
}

/// The same for libraries that want a [`RngCore`].
#[derive(Clone, Copy)]
pub struct Random<'a>(pub &'a Runtime);

impl RngCore for Random<'_> {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }
    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        fill(self.0, bytes);
    }
}

impl CryptoRng for Random<'_> {}
