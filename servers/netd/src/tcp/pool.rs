//! Memory that connections share for what only some of them have at a time: what is in flight, what
//! has arrived out of order. Nodes of one size, in chains; all made once.

use super::memory::Memory;
use super::model::Models;
use crate::wire::tcp::Seq;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::cell::Cell;

/// No node.
pub const NONE: u32 = u32::MAX;

bitflags! {
    /// What is known of a range that was sent.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Marks: u8 {
        /// The peer has it (RFC 2018).
        const SACKED = 1;
        /// Thought to be lost.
        const LOST = 2;
        /// Sent again, and that may be in flight.
        const RESENT = 4;
        /// Was ever sent again: when it was delivered tells no round-trip time (Karn's algorithm).
        const EVER_RESENT = 8;
        /// Its last segment is shorter than the others.
        const SHORT = 16;
    }
}

/// A range of sequence numbers in a chain.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// First.
    pub start: Seq,
    /// Behind the last.
    pub end: Seq,
    /// When it was last sent ([`moment`]); or, of what has arrived, how late in the order of arrival, in 64.
    pub at: u64,
    /// The one behind it.
    pub next: u32,
    /// Bytes of its segments, but for the last.
    pub size: u16,
    /// How many segments it was sent in.
    pub segments: u16,
    /// What is known of it.
    pub marks: Marks,
}

impl Node {
    /// Bytes, counting a FIN.
    pub fn bytes(&self) -> u32 {
        self.end - self.start
    }
}

/// The time `now` as nodes know it.
pub const fn moment(now: u64) -> u64 {
    now >> 6 << 6
}

/// A node as it lies in memory: when and what is known of it are one word, the former in 64 ns.
#[derive(Clone, Copy)]
struct Packed {
    at_and_marks: u64,
    start: Seq,
    end: Seq,
    next: u32,
    size: u16,
    segments: u16,
}

impl Packed {
    #[inline]
    fn of(n: Node) -> Self {
        let Node { start, end, next, size, segments, .. } = n;
        Self {
            at_and_marks: n.at >> 6 << 8 | n.marks.bits() as u64,
            start,
            end,
            next,
            size,
            segments,
        }
    }
    #[inline]
    fn node(self) -> Node {
        let Self { start, end, next, size, segments, .. } = self;
        let marks = Marks::from_bits_retain(self.at_and_marks as u8);
        Node { start, end, at: self.at_and_marks >> 8 << 6, next, size, segments, marks }
    }
}

/// The nodes. One is set aside for each connection, so that a connection with nothing in flight can
/// always send; the rest goes to who comes first.
pub struct Pool {
    nodes: Vec<Cell<Packed>>,
    free: Cell<u32>,
    left: Cell<u32>,
    reserve: u32,
    refused: Cell<u64>,
    memory: Memory,
    models: Models,
}

impl Pool {
    /// Nodes for `connections` connections of one program, and `shared` more.
    pub fn new(connections: usize, shared: usize, memory: Memory) -> Self {
        let len = (connections + shared).min(NONE as usize) as u32;
        let node = |i: u32| Node {
            start: Seq(0),
            end: Seq(0),
            at: 0,
            next: if i + 1 < len { i + 1 } else { NONE },
            size: 0,
            segments: 0,
            marks: Marks::empty(),
        };
        Self {
            nodes: (0..len).map(|i| Cell::new(Packed::of(node(i)))).collect(),
            free: Cell::new(if len > 0 { 0 } else { NONE }),
            left: Cell::new(len),
            reserve: connections as u32,
            refused: Cell::new(0),
            memory,
            models: Models::new(connections),
        }
    }

    /// A node, for a chain that is `empty` or not.
    pub fn take(&self, empty: bool) -> Option<u32> {
        let i = self.free.get();
        if i == NONE || (!empty && self.left.get() <= self.reserve) {
            self.refused.set(self.refused.get() + 1);
            return None;
        }
        self.free.set(self.get(i).next);
        self.left.set(self.left.get() - 1);
        Some(i)
    }
    /// Takes a node back.
    pub fn give(&self, i: u32) {
        let mut node = self.get(i);
        node.next = self.free.replace(i);
        self.set(i, node);
        self.left.set(self.left.get() + 1);
    }
    /// Takes back a chain from `i` on.
    pub fn give_all(&self, mut i: u32) {
        while i != NONE {
            let next = self.get(i).next;
            self.give(i);
            i = next;
        }
    }
    /// What node `i` says.
    pub fn get(&self, i: u32) -> Node {
        self.nodes[i as usize].get().node()
    }
    /// Changes node `i`.
    pub fn set(&self, i: u32, node: Node) {
        self.nodes[i as usize].set(Packed::of(node));
    }
    /// Nodes that nobody has.
    pub fn left(&self) -> u32 {
        self.left.get()
    }
    /// Models of paths (BBR).
    pub(super) fn models(&self) -> &Models {
        &self.models
    }
    /// What lies in the rings of these connections.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
    /// How often there was none.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }
}

/// With memory without end.
#[cfg(test)]
pub fn pool_of(connections: usize, shared: usize) -> Pool {
    use super::memory::{Gauge, Levels};
    let levels = Levels { low: u32::MAX, pressure: u32::MAX, most: u32::MAX };
    let all = alloc::rc::Rc::new(Gauge::new(levels));
    Pool::new(connections, shared, Memory::new(levels, all, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_is_set_aside_for_each_connection() {
        let pool = pool_of(2, 1);
        let first = pool.take(true).unwrap();
        assert_eq!(pool.take(false), None, "the others' may not be taken for more");
        let second = pool.take(true).unwrap();
        let third = pool.take(true).unwrap();
        assert_eq!((pool.take(true), pool.left(), pool.refused()), (None, 0, 2));
        for i in [first, third, second] {
            pool.give(i);
        }
        assert_eq!((pool.left(), pool.take(false).is_some()), (3, true));
    }
}
