//! Network cards by number, and who is near them.

use crate::wire::ethernet::Mac;
use core::net::IpAddr;

/// Network cards at most.
pub const NICS: usize = 4;

/// A network card of this host: its place among them, below [`NICS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dev(u8);

impl Dev {
    /// The first one.
    pub const FIRST: Self = Self(0);
    /// Number of the first one among interfaces: the loop is number 1, as on Linux.
    const NUMBER: u8 = libipc::sock::Dgram::NIC;

    /// The first `n`.
    pub fn first(n: usize) -> impl Iterator<Item = Self> + use<> {
        (0..n.min(NICS) as u8).map(Self)
    }
    /// The one at place `i`, below [`NICS`].
    #[inline]
    pub const fn at(i: usize) -> Self {
        Self(i as u8)
    }
    /// Its place.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
    /// A bit of its own.
    pub const fn bit(self) -> u8 {
        1 << self.0
    }
    /// Its number among interfaces, as programs see it.
    pub const fn number(self) -> u8 {
        self.0 + Self::NUMBER
    }
    /// The card that is interface `number`, were there so many; `None`: the loop, or no number of a card.
    pub fn of_number(number: u8) -> Option<Self> {
        number.checked_sub(Self::NUMBER).filter(|i| (*i as usize) < NICS).map(Self)
    }
}

/// A neighbour: an address on the link of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The card.
    pub dev: Dev,
    /// The address.
    pub ip: IpAddr,
}

/// A station on the link of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// The card.
    pub dev: Dev,
    /// Its MAC address.
    pub mac: Mac,
}

impl Station {
    /// Everybody there.
    pub const fn everybody(dev: Dev) -> Self {
        Self { dev, mac: Mac::BROADCAST }
    }
}

/// As on Linux: eth0, eth1.
impl core::fmt::Display for Dev {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "eth{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_cards_come_after_the_loop() {
        assert!(Dev::first(9).map(Dev::number).eq([2, 3, 4, 5]));
        assert!((0..=255).filter_map(Dev::of_number).eq(Dev::first(NICS)));
        assert_eq!(Dev::of_number(3).map(Dev::index), Some(1));
    }
}
