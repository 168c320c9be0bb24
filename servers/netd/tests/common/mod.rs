//! A world for stacks on the host: memory as init would lend it, a driver and programs played by
//! the test, virtual time.
//!
//! Memory belongs to the [`Host`], not to the stack, so a stack can be dropped at any point and
//! built again from what it left: that is a crash.
#![allow(dead_code)] // Each test uses a part of it.

mod calls;
pub mod card;
pub mod frames;
pub mod fuzzing;
mod host;
mod memory;
pub mod net;
mod offload;
mod prog;
pub mod script;
pub mod six;
pub mod talk;
pub mod two;

pub use host::*;
pub use memory::*;
pub use prog::*;

pub const MS: u64 = 1_000_000;
pub const S: u64 = 1_000_000_000;

/// A small generator; the seed is all that a failed test prints.
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// Says nothing of panics that were planned ([`netd::crash`]).
pub fn quiet_crashes() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>().is_none_or(|s| *s != "planned crash") {
                loud(info);
            }
        }));
    });
}

/// Byte `at` of stream number `stream`.
pub fn pattern(stream: u64, at: u64) -> u8 {
    let w =
        (at / 8 + stream.wrapping_mul(0x1234_5678_9abc_def1)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (w >> ((at % 8) * 8)) as u8
}
