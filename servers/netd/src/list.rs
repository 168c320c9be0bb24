//! Doubly linked lists over numbered items: every operation is O(1), an item is on at most one
//! list of a [`Links`] at a time.

use alloc::vec::Vec;

/// No item.
pub const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    next: u32,
    prev: u32,
}

/// Ends of a list.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    head: u32,
    tail: u32,
    len: u32,
}

impl Ends {
    /// An empty list.
    pub const EMPTY: Self = Self { head: NONE, tail: NONE, len: 0 };
    /// Whether nothing is on it.
    pub const fn is_empty(&self) -> bool {
        self.head == NONE
    }
    /// Items on it.
    pub const fn len(&self) -> u32 {
        self.len
    }
    /// First item.
    pub const fn first(&self) -> Option<u32> {
        if self.head == NONE { None } else { Some(self.head) }
    }
}

/// The links of items `0..n`.
pub struct Links(Vec<Link>);

impl Links {
    /// For `n` items.
    pub fn new(n: usize) -> Self {
        Self(alloc::vec![Link { next: NONE, prev: NONE }; n])
    }
    /// Appends an item that is on no list.
    pub fn push(&mut self, list: &mut Ends, item: u32) {
        self.0[item as usize] = Link { next: NONE, prev: list.tail };
        match list.tail {
            NONE => list.head = item,
            tail => self.0[tail as usize].next = item,
        }
        list.tail = item;
        list.len += 1;
    }
    /// Prepends an item that is on no list.
    pub fn push_first(&mut self, list: &mut Ends, item: u32) {
        self.0[item as usize] = Link { next: list.head, prev: NONE };
        match list.head {
            NONE => list.tail = item,
            head => self.0[head as usize].prev = item,
        }
        list.head = item;
        list.len += 1;
    }
    /// Removes an item that is on `list`.
    pub fn remove(&mut self, list: &mut Ends, item: u32) {
        let Link { next, prev } = self.0[item as usize];
        match prev {
            NONE => list.head = next,
            prev => self.0[prev as usize].next = next,
        }
        match next {
            NONE => list.tail = prev,
            next => self.0[next as usize].prev = prev,
        }
        list.len -= 1;
    }
    /// The item after `item`, which is on a list; [`NONE`]: it is the last.
    pub fn next(&self, item: u32) -> u32 {
        self.0[item as usize].next
    }
    /// Takes the first item.
    pub fn pop(&mut self, list: &mut Ends) -> Option<u32> {
        let first = list.first()?;
        list.head = self.next(first);
        list.len -= 1;
        match list.head {
            NONE => list.tail = NONE,
            head => self.0[head as usize].prev = NONE,
        }
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_through_removals() {
        let mut links = Links::new(5);
        let mut list = Ends::EMPTY;
        for i in 0..5 {
            links.push(&mut list, i);
        }
        links.remove(&mut list, 2);
        links.remove(&mut list, 0);
        links.remove(&mut list, 4);
        links.push(&mut list, 0);
        assert_eq!(list.len(), 3);
        assert_eq!(
            [links.pop(&mut list), links.pop(&mut list), links.pop(&mut list)],
            [Some(1), Some(3), Some(0)]
        );
        assert_eq!(links.pop(&mut list), None);
        assert!(list.is_empty());
    }
}
