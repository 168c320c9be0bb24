//! Which page tables an address space needs, counted before it is built: an init that knows the
//! number makes all tables at boot, and a restart never needs one.

use alloc::collections::BTreeSet;

/// The tables that a set of mapped ranges needs.
#[derive(Debug, Default)]
pub struct Tables {
    /// (address bits that the table covers, address >> these bits).
    have: BTreeSet<(u8, u64)>,
}

/// Address bits covered by a page table, a page directory and a page-directory-pointer table.
const LEVELS: [u8; 3] = [39, 30, 21];

impl Tables {
    /// Adds a page of 2^`page_bits` bytes at `vaddr`; returns how many tables it is the first to
    /// need.
    pub fn add(&mut self, vaddr: u64, page_bits: u8) -> u64 {
        let needed = LEVELS.iter().filter(|covers| **covers > page_bits);
        needed.filter(|covers| self.have.insert((**covers, vaddr >> **covers))).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_table_once() {
        let mut t = Tables::default();
        assert_eq!(t.add(0x40_0000, 12), 3);
        assert_eq!(t.add(0x40_1000, 12), 0);
        assert_eq!(t.add(0x60_0000, 12), 1);
        assert_eq!(t.add(0x1_0000_0000, 21), 1);
        assert_eq!(t.add(0x1000_0000_0000, 21), 2);
        assert_eq!(t.add(0x1000_0000_0000, 12), 1);
    }
}
