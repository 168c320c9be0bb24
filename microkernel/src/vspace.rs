//! Address spaces: x86-64 four-level page tables made of capabilities.
//!
//! A mapped frame or table capability remembers address space and address, so that deleting it
//! finds the entry again. Address spaces are named by ASID and generation rather than by address:
//! one that is gone makes such a memory stale, never dangling. (These ASIDs are software only; the
//! processor's PCIDs are not used.)

use abi::{Error, MapAttr, ObjType, PAGE_BITS, Rights, USER_END};
use bitflags::bitflags;

use crate::cap::Cap;
use crate::{Kernel, Platform, obj};

/// Address spaces that can exist at once, plus one (number 0 is none).
pub const ASIDS: usize = 1024;
/// PML4 entry (never present) in which an address space keeps its ASID.
const ASID_ENTRY: u64 = 300;

bitflags! {
    /// Page-table entry bits (Intel SDM vol. 3, 4.5).
    #[derive(Clone, Copy)]
    pub struct Entry: u64 {
        /// Present.
        const PRESENT = 1;
        /// Writable.
        const WRITE = 1 << 1;
        /// User.
        const USER = 1 << 2;
        /// Write-through.
        const PWT = 1 << 3;
        /// Not cached.
        const PCD = 1 << 4;
        /// Maps 2 MiB (in a page directory).
        const LARGE = 1 << 7;
        /// Not executable.
        const NX = 1 << 63;
    }
}

const ADDR: u64 = 0x000f_ffff_ffff_f000;

/// An address-space number.
#[derive(Clone, Copy)]
pub(crate) struct Asid {
    pml4: u64,
    generation: u16,
}

impl Asid {
    pub(crate) const FREE: Self = Self { pml4: 0, generation: 0 };
}

/// Where a capability is mapped.
#[derive(Clone, Copy)]
struct Mapping {
    vaddr: u64,
    asid: u16,
    generation: u16,
}

impl Mapping {
    fn pack(self) -> u64 {
        self.vaddr >> 12 | (self.asid as u64) << 36 | (self.generation as u64) << 48
    }
    fn unpack(data: u64) -> Option<Self> {
        let asid = (data >> 36 & 0xfff) as u16;
        let vaddr = (data & 0xf_ffff_ffff) << 12;
        (asid != 0).then_some(Self { vaddr, asid, generation: (data >> 48) as u16 })
    }
}

/// Index of `vaddr` in a table of `level` (4: PML4 … 1: PT).
const fn index(vaddr: u64, level: u8) -> u64 {
    vaddr >> (12 + 9 * (level as u64 - 1)) & 511
}

fn entry_at(table: u64, vaddr: u64, level: u8) -> u64 {
    table + 8 * index(vaddr, level)
}

fn read(pa: u64) -> u64 {
    // SAFETY: callers pass entries of live page tables.
    unsafe { obj::read_word(pa) }
}

fn write(pa: u64, value: u64) {
    // SAFETY: as in `read`.
    unsafe { obj::write_word(pa, value) }
}

/// Walks to the table of level `stop`. `Err`: the level of the table that is missing.
fn walk(pml4: u64, vaddr: u64, stop: u8) -> Result<u64, u8> {
    let mut table = pml4;
    let mut level = 4;
    while level > stop {
        let entry = read(entry_at(table, vaddr, level));
        if entry & Entry::PRESENT.bits() == 0 || entry & Entry::LARGE.bits() != 0 {
            return Err(level - 1);
        }
        table = entry & ADDR;
        level -= 1;
    }
    Ok(table)
}

/// A checked frame mapping.
pub struct MapFrame {
    entry: u64,
    value: u64,
    mapping: u64,
}

impl MapFrame {
    /// Writes the entry; returns the capability's new word 1.
    pub fn invoke(self) -> u64 {
        write(self.entry, self.value);
        self.mapping
    }
}

/// A checked table mapping.
pub struct MapTable {
    entry: u64,
    table: u64,
    mapping: u64,
    /// Level it becomes.
    pub level: u8,
}

impl MapTable {
    /// Writes the entry; returns the capability's new word 1.
    pub fn invoke(self) -> u64 {
        let flags = Entry::PRESENT | Entry::WRITE | Entry::USER;
        write(self.entry, self.table | flags.bits());
        self.mapping
    }
}

impl<P: Platform> Kernel<P> {
    /// Finds a free ASID, in turn, so that a number comes again as late as it can.
    pub fn new_asid(&mut self) -> Option<u16> {
        let from = self.next_asid;
        let found = (from..ASIDS).chain(1..from).find(|i| self.asids[*i].pml4 == 0)?;
        self.next_asid = if found + 1 < ASIDS { found + 1 } else { 1 };
        Some(found as u16)
    }

    /// Completes a new (cleared) PML4: kernel half and ASID.
    pub fn new_vspace(&mut self, pml4: u64, asid: u16) {
        for (i, e) in self.hw.kernel_half().iter().enumerate() {
            write(pml4 + 8 * (256 + i as u64), *e);
        }
        write(pml4 + 8 * ASID_ENTRY, (asid as u64) << PAGE_BITS);
        self.asids[asid as usize].pml4 = pml4;
    }

    fn asid_of(&self, vspace: Cap) -> Option<(u16, u16)> {
        if !vspace.is(ObjType::VSpace) {
            return None;
        }
        let asid = (read(vspace.addr() + 8 * ASID_ENTRY) >> PAGE_BITS) as u16;
        let entry = self.asids.get(asid as usize)?;
        (entry.pml4 == vspace.addr()).then_some((asid, entry.generation))
    }

    fn pml4_of(&self, m: Mapping) -> Option<u64> {
        let a = self.asids.get(m.asid as usize)?;
        (a.generation == m.generation && a.pml4 != 0).then_some(a.pml4)
    }

    /// Checks a frame mapping. `Err` carries the level of a missing table.
    pub(crate) fn decode_map(
        &self,
        frame: Cap,
        vspace: Cap,
        vaddr: u64,
        rights: Rights,
        attr: MapAttr,
    ) -> Result<MapFrame, (Error, u64)> {
        let fail = |e| Err((e, 0));
        let Some((asid, generation)) = self.asid_of(vspace) else { return fail(Error::WrongType) };
        if frame.data() != 0 {
            return fail(Error::Busy);
        }
        let bits = frame.size_bits();
        let size = 1u64 << bits;
        if !vaddr.is_multiple_of(size) {
            return fail(Error::Alignment);
        }
        if vaddr == 0 || vaddr >= USER_END || USER_END - vaddr < size {
            return fail(Error::Range);
        }
        let (write, exec) = (rights.contains(Rights::WRITE), attr.contains(MapAttr::EXEC));
        if write && exec {
            return fail(Error::Range);
        }
        let wanted = rights | if exec { Rights::GRANT } else { Rights::empty() } | Rights::READ;
        if !frame.rights().contains(wanted) {
            return fail(Error::NoRights);
        }
        let level = if bits == PAGE_BITS { 1 } else { 2 };
        let table =
            walk(vspace.addr(), vaddr, level).map_err(|missing| match missing >= level {
                true => (Error::NoTable, missing as u64),
                false => (Error::Occupied, 0),
            })?;
        let entry = entry_at(table, vaddr, level);
        if read(entry) & Entry::PRESENT.bits() != 0 {
            return fail(Error::Occupied);
        }
        let mut flags = Entry::PRESENT | Entry::USER;
        flags.set(Entry::WRITE, write);
        flags.set(Entry::NX, !exec);
        flags.set(Entry::LARGE, level == 2);
        flags.set(Entry::PCD | Entry::PWT, frame.device() || attr.contains(MapAttr::UNCACHED));
        let mapping = Mapping { vaddr, asid, generation }.pack();
        Ok(MapFrame { entry, value: frame.addr() | flags.bits(), mapping })
    }

    /// Undoes the mapping of a frame capability, if it still stands.
    pub(crate) fn unmap_frame(&mut self, frame: Cap) {
        let Some(m) = Mapping::unpack(frame.data()) else { return };
        let Some(pml4) = self.pml4_of(m) else { return };
        let level = if frame.size_bits() == PAGE_BITS { 1 } else { 2 };
        let Ok(table) = walk(pml4, m.vaddr, level) else { return };
        let entry = entry_at(table, m.vaddr, level);
        let value = read(entry);
        if value & Entry::PRESENT.bits() != 0 && value & ADDR == frame.addr() {
            write(entry, 0);
            if self.cpu.loaded == pml4 {
                self.hw.flush_page(m.vaddr);
            }
        }
    }

    /// Checks the mapping of a page table at the highest missing level above `vaddr`.
    pub(crate) fn decode_map_table(
        &self,
        table: Cap,
        vspace: Cap,
        vaddr: u64,
    ) -> Result<MapTable, Error> {
        let (asid, generation) = self.asid_of(vspace).ok_or(Error::WrongType)?;
        if table.data() != 0 {
            return Err(Error::Busy);
        }
        if vaddr >= USER_END {
            return Err(Error::Range);
        }
        let Err(level) = walk(vspace.addr(), vaddr, 1) else { return Err(Error::Occupied) };
        let parent = walk(vspace.addr(), vaddr, level + 1).map_err(|_| Error::Occupied)?;
        let entry = entry_at(parent, vaddr, level + 1);
        if read(entry) & Entry::PRESENT.bits() != 0 {
            return Err(Error::Occupied); // a large frame
        }
        let span = 1u64 << (12 + 9 * level as u64);
        let mapping = Mapping { vaddr: vaddr & !(span - 1), asid, generation }.pack();
        Ok(MapTable { entry, table: table.addr(), mapping, level })
    }

    /// Takes a page table out of its address space. Its own entries are cleared, so that mapping
    /// it elsewhere cannot bring old translations back.
    pub(crate) fn unmap_table(&mut self, table: Cap) {
        let Some(m) = Mapping::unpack(table.data()) else { return };
        let level = table.size_bits();
        if let Some(pml4) = self.pml4_of(m)
            && let Ok(parent) = walk(pml4, m.vaddr, level + 1)
        {
            let entry = entry_at(parent, m.vaddr, level + 1);
            if read(entry) & ADDR == table.addr() {
                write(entry, 0);
                if self.cpu.loaded == pml4 {
                    self.hw.flush_all();
                }
            }
        }
        // SAFETY: the page of this table; no longer linked anywhere.
        unsafe { obj::clear(table.addr(), 1 << PAGE_BITS) };
    }

    /// An address space is gone: its ASID's next user has another generation.
    pub(crate) fn end_vspace(&mut self, vspace: Cap) {
        let Some((asid, _)) = self.asid_of(vspace) else { return };
        let a = &mut self.asids[asid as usize];
        a.pml4 = 0;
        a.generation = a.generation.wrapping_add(1);
        if self.cpu.loaded == vspace.addr() {
            self.cpu.loaded = 0;
            self.hw.load_vspace(0);
        }
    }
}
