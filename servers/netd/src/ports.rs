//! Who holds which port: Linux's bind hash. For sockets that want one; packets find their way by
//! [`crate::demux`].
//!
//! Numbers are sockets', then those of TIME-WAIT. A list has all holders of some ports; whose port is
//! which and whether two may have the same is for the stack to say.

use crate::demux::Space;
use crate::list::{Ends, Links, NONE};
use alloc::vec::Vec;

/// How a port is held.
pub mod held {
    /// SO_REUSEADDR.
    pub const REUSE: u8 = 1;
    /// SO_REUSEPORT.
    pub const SPREAD: u8 = 2;
    /// The program has named the port: it is held until the socket is closed, not only as long as
    /// there is a connection.
    pub const NAMED: u8 = 4;
    /// It was found by `connect`, and so may serve for connections to other peers, too.
    pub const DIALLED: u8 = 8;
    /// The program has named the address, too.
    pub const PLACED: u8 = 16;
}

/// A number that holds no port.
const NOWHERE: u16 = u16::MAX;
/// Lists.
const LISTS: usize = 4096;

/// The table.
pub struct Ports {
    lists: Vec<Ends>,
    links: Links,
    /// The list of each number.
    at: Vec<u16>,
    how: Vec<u8>,
}

impl Ports {
    /// For so many numbers.
    pub fn new(numbers: usize) -> Self {
        Self {
            lists: alloc::vec![Ends::EMPTY; LISTS],
            links: Links::new(numbers),
            at: alloc::vec![NOWHERE; numbers],
            how: alloc::vec![0; numbers],
        }
    }

    fn list(space: Space, port: u16) -> usize {
        ((port as usize).wrapping_mul(0x9e5) + space as usize) & (LISTS - 1)
    }

    /// `number` holds `port` from now on, with [`held`] bits.
    pub fn hold(&mut self, number: u32, space: Space, port: u16, how: u8) {
        self.release(number);
        let list = Self::list(space, port);
        self.links.push_first(&mut self.lists[list], number);
        self.at[number as usize] = list as u16;
        self.how[number as usize] = how;
    }

    /// `number` holds none any more.
    pub fn release(&mut self, number: u32) {
        let list = core::mem::replace(&mut self.at[number as usize], NOWHERE);
        if list != NOWHERE {
            self.links.remove(&mut self.lists[list as usize], number);
        }
        self.how[number as usize] = 0;
    }

    /// Whether `number` holds a port.
    pub fn holds(&self, number: u32) -> bool {
        self.at[number as usize] != NOWHERE
    }

    /// How `number` holds its port; 0 if it has none.
    pub fn how(&self, number: u32) -> u8 {
        self.how[number as usize]
    }

    /// Changes that.
    pub fn set_how(&mut self, number: u32, how: u8) {
        self.how[number as usize] = how;
    }

    /// Who may hold `port`: all who do, and some who hold others. Who came last comes first.
    pub fn near(&self, space: Space, port: u16) -> impl Iterator<Item = u32> {
        let first = self.lists[Self::list(space, port)].first();
        core::iter::successors(first, |n| match self.links.next(*n) {
            NONE => None,
            next => Some(next),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_found_until_they_let_go() {
        let mut p = Ports::new(4);
        p.hold(0, Space::Tcp, 80, held::REUSE);
        p.hold(1, Space::Tcp, 80, 0);
        p.hold(2, Space::Tcp, 81, 0);
        let near = |p: &Ports, port| p.near(Space::Tcp, port).collect::<Vec<_>>();
        assert_eq!((near(&p, 80), p.how(0)), (alloc::vec![1, 0], held::REUSE));
        p.hold(1, Space::Tcp, 81, held::NAMED);
        assert_eq!((near(&p, 80), near(&p, 81)), (alloc::vec![0], alloc::vec![1, 2]));
        p.release(0);
        p.release(0);
        assert!(near(&p, 80).is_empty() && !p.holds(0) && p.holds(1) && p.how(0) == 0);
    }
}
