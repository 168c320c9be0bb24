//! The state of the interface, as programs see it: one word, so that it is never seen half.
//!
//! netd writes it into every session ([`crate::sock::Layout::LINK`]). Link changes are passed on at
//! most once a second after the first (as Linux's link_watch does), so that a loose contact does
//! not keep every program busy; the last state always comes. An address that comes or goes is told
//! at once.

use core::sync::atomic::{AtomicU64, Ordering::*};

/// The state of the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Grows (and wraps) with each change that was passed on: two equal states with different
    /// versions mean that there was something in between. 0: nothing has been said yet.
    pub version: u32,
    /// Whether the cable carries.
    pub up: bool,
    /// Whether the interface has an address.
    pub addressed: bool,
    /// Mbit/s, at most 2^24; what it last was if the link is down.
    pub speed: u32,
}

impl Link {
    const UP: u64 = 1;
    const ADDRESSED: u64 = 2;

    /// As a word.
    pub const fn to_raw(self) -> u64 {
        let speed = if self.speed < 1 << 24 { self.speed } else { (1 << 24) - 1 };
        (self.version as u64) << 32
            | (speed as u64) << 8
            | if self.up { Self::UP } else { 0 }
            | if self.addressed { Self::ADDRESSED } else { 0 }
    }

    /// From a word; every word is a state.
    pub const fn from_raw(raw: u64) -> Self {
        Self {
            version: (raw >> 32) as u32,
            up: raw & Self::UP != 0,
            addressed: raw & Self::ADDRESSED != 0,
            speed: (raw as u32) >> 8,
        }
    }

    /// Whether it is the same state, whatever happened in between.
    pub fn same(&self, other: &Self) -> bool {
        Self { version: 0, ..*self } == Self { version: 0, ..*other }
    }

    /// Reads the word.
    pub fn load(word: &AtomicU64) -> Self {
        Self::from_raw(word.load(Acquire))
    }
}

impl core::fmt::Display for Link {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if !self.up {
            return f.write_str("down");
        }
        let address = if self.addressed { "with an address" } else { "no address" };
        write!(f, "up, {} Mbit/s, {address}", self.speed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_survive_the_word() {
        for raw in [0, 1, 2, 0x0003_e801, !0xfc, 0xffff_ffff_0000_0003] {
            assert_eq!(Link::from_raw(raw).to_raw(), raw);
        }
        let link = Link { version: 7, up: true, addressed: false, speed: 1000 };
        assert_eq!(Link::from_raw(link.to_raw()), link);
        assert!(link.same(&Link { version: 8, ..link }) && !link.same(&Link::default()));
    }
}
