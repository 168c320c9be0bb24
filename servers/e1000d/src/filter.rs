//! Which multicast frames the NIC takes: netd names groups, the NIC has a table of 4,096 bits over a
//! part of their addresses (manual 13.5.1), so that it takes some others, too; netd knows better.

use crate::hardware::Hardware;
use crate::regs;
use core::sync::atomic::Ordering::*;
use libipc::nic::Groups;

/// netd's groups, as far as the NIC knows them.
pub struct Filter {
    groups: &'static Groups,
    /// Version that the NIC has.
    has: u32,
}

/// Word and bit of a group: bits 47:36 of its address, as RCTL.MO is 0.
fn place([.., e, f]: [u8; 6]) -> (usize, u32) {
    let hash = (e >> 4) as usize | (f as usize) << 4;
    (hash >> 5, hash as u32 & 31)
}

impl Filter {
    /// A NIC of which it is not known what it has.
    pub fn new(groups: &'static Groups) -> Self {
        Self { groups, has: 0 }
    }

    /// Tells the NIC if netd has said something new.
    pub fn update<H: Hardware>(&mut self, hw: &mut H) {
        let version = self.groups.version.load(Acquire);
        // In the middle of a change there will be another signal.
        if version != self.has && version.is_multiple_of(2) {
            self.has = version;
            self.program(hw);
        }
    }

    #[cold]
    fn program<H: Hardware>(&self, hw: &mut H) {
        let mut table = [0u32; regs::TABLE_WORDS as usize];
        match self.groups.get() {
            Some(macs) => {
                // What is no group needs no place in the table.
                for (word, bit) in macs.filter(|m| m[0] & 1 != 0).map(place) {
                    table[word] |= 1 << bit;
                }
            }
            None => table.fill(!0),
        }
        for (i, word) in table.into_iter().enumerate() {
            let reg = regs::MTA.word(i as u32);
            if hw.read(reg) != word {
                hw.write(reg, word);
            }
        }
    }
}
