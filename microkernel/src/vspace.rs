//! Address spaces: page tables made of capabilities. A processor's have the format of x86-64; a
//! device's ([`crate::iospace`]) differ in the flags of their entries and in the number of levels, so
//! that both are walked, filled and emptied by the same code.
//!
//! A mapped frame or table capability remembers address space and address, so that deleting it
//! finds the entry again. Address spaces are named by ASID and generation rather than by address:
//! one that is gone makes such a memory stale, never dangling. (These ASIDs are software only; the
//! processor's PCIDs are not used.)

use abi::{Error, MapAttr, ObjType, PAGE_BITS, PAGE_SIZE, Rights, USER_END};
use bitflags::bitflags;

use crate::cap::Cap;
use crate::iospace::{self, FIRST_DOMAIN};
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

pub(crate) const ADDR: u64 = 0x000f_ffff_ffff_f000;
/// An entry is there if one of these is set: present or writable here, readable or writable in a
/// device's tables.
pub(crate) const THERE: u64 = 3;

/// An address-space number.
#[derive(Clone, Copy)]
struct Asid {
    pml4: u64,
    generation: u16,
    /// Next free one.
    next: u16,
}

/// The tables of an address space: a thread's (`number` below [`FIRST_DOMAIN`]) or a device's.
#[derive(Clone, Copy)]
pub(crate) struct Tables {
    pub(crate) root: u64,
    /// Level of the root.
    pub(crate) top: u8,
    /// End of the addresses that may be mapped.
    pub(crate) end: u64,
    pub(crate) number: u16,
    pub(crate) generation: u16,
}

impl Tables {
    pub(crate) const fn is_io(&self) -> bool {
        self.number >= FIRST_DOMAIN
    }
    fn mapping(&self, vaddr: u64) -> u64 {
        Mapping { vaddr, asid: self.number, generation: self.generation }.pack()
    }
}

/// All of them. One that is given back comes again as late as possible.
pub(crate) struct Asids {
    all: [Asid; ASIDS],
    /// The first that was never used.
    fresh: u16,
    /// Those given back: first and last.
    free: (u16, u16),
}

impl Asids {
    pub(crate) const fn new() -> Self {
        const FREE: Asid = Asid { pml4: 0, generation: 0, next: 0 };
        Self { all: [FREE; ASIDS], fresh: 1, free: (0, 0) }
    }
    fn next(&self) -> Option<u16> {
        let next = if (self.fresh as usize) < ASIDS { self.fresh } else { self.free.0 };
        (next != 0).then_some(next)
    }
    fn take(&mut self, asid: u16, pml4: u64) {
        if asid == self.fresh {
            self.fresh += 1;
        } else {
            self.free.0 = self.all[asid as usize].next;
        }
        self.all[asid as usize].pml4 = pml4;
    }
    fn give_back(&mut self, asid: u16) {
        let a = &mut self.all[asid as usize];
        *a = Asid { pml4: 0, generation: a.generation.wrapping_add(1), next: 0 };
        match self.free {
            (0, _) => self.free.0 = asid,
            (_, last) => self.all[last as usize].next = asid,
        }
        self.free.1 = asid;
    }
}

/// Where a capability is mapped.
#[derive(Clone, Copy)]
pub(crate) struct Mapping {
    pub(crate) vaddr: u64,
    pub(crate) asid: u16,
    pub(crate) generation: u16,
}

impl Mapping {
    pub(crate) fn pack(self) -> u64 {
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

pub(crate) fn read(pa: u64) -> u64 {
    // SAFETY: callers pass entries of live page tables.
    unsafe { obj::read_word(pa) }
}

pub(crate) fn write(pa: u64, value: u64) {
    // SAFETY: as in `read`.
    unsafe { obj::write_word(pa, value) }
}

/// Walks to the table of level `stop`. `Err`: the level of the table that is missing; 0: a large frame
/// lies there.
fn walk(tables: &Tables, vaddr: u64, stop: u8) -> Result<u64, u8> {
    let mut table = tables.root;
    let mut level = tables.top;
    while level > stop {
        let entry = read(entry_at(table, vaddr, level));
        if entry & THERE == 0 {
            return Err(level - 1);
        }
        if entry & Entry::LARGE.bits() != 0 {
            return Err(0);
        }
        table = entry & ADDR;
        level -= 1;
    }
    Ok(table)
}

/// A checked mapping of a frame or table.
pub struct Map {
    pub(crate) entry: u64,
    pub(crate) value: u64,
    pub(crate) mapping: u64,
    /// Level that a table becomes; size bits of a frame stay.
    pub level: u8,
    /// A device's.
    pub(crate) io: bool,
}

/// Flags of an entry that maps `frame` for threads, and the rights that this takes. `None`: not both
/// writable and executable.
#[inline(always)]
fn flags(frame: Cap, rights: Rights, attr: MapAttr) -> Option<(u64, Rights)> {
    let (write, exec) = (rights.contains(Rights::WRITE), attr.contains(MapAttr::EXEC));
    let mut flags = Entry::PRESENT | Entry::USER;
    flags.set(Entry::WRITE, write);
    flags.set(Entry::NX, !exec);
    flags.set(Entry::PCD | Entry::PWT, frame.device() || attr.contains(MapAttr::UNCACHED));
    let wanted = rights | if exec { Rights::GRANT } else { Rights::empty() } | Rights::READ;
    (!(write && exec)).then_some((flags.bits(), wanted))
}

impl<P: Platform> Kernel<P> {
    /// A free ASID, which the next [`Self::new_vspace`] takes.
    pub fn new_asid(&self) -> Option<u16> {
        self.asids.next()
    }

    /// Completes a new (cleared) PML4: kernel half and ASID.
    pub fn new_vspace(&mut self, pml4: u64, asid: u16) {
        for (i, e) in self.hw.kernel_half().iter().enumerate() {
            write(pml4 + 8 * (256 + i as u64), *e);
        }
        write(pml4 + 8 * ASID_ENTRY, (asid as u64) << PAGE_BITS);
        self.asids.take(asid, pml4);
    }

    #[inline(always)]
    fn asid_of(&self, vspace: Cap) -> Option<u16> {
        if !vspace.is(ObjType::VSpace) {
            return None;
        }
        let asid = (read(vspace.addr() + 8 * ASID_ENTRY) >> PAGE_BITS) as u16;
        let entry = self.asids.all.get(asid as usize)?;
        (entry.pml4 == vspace.addr()).then_some(asid)
    }

    /// The tables of a VSpace or IoSpace.
    fn tables_of(&self, space: Cap) -> Option<Tables> {
        if space.is(ObjType::IoSpace) {
            return self.domain_tables(space.data() as u16);
        }
        self.vspace_tables(self.asid_of(space)?)
    }

    fn vspace_tables(&self, number: u16) -> Option<Tables> {
        let a = self.asids.all.get(number as usize).filter(|a| a.pml4 != 0)?;
        let generation = a.generation;
        Some(Tables { root: a.pml4, top: 4, end: USER_END, number, generation })
    }

    /// The tables in which a mapping was made, if they still exist.
    fn tables_at(&self, m: Mapping) -> Option<Tables> {
        let tables = match m.asid < FIRST_DOMAIN {
            true => self.vspace_tables(m.asid),
            false => self.domain_tables(m.asid),
        };
        tables.filter(|t| t.generation == m.generation)
    }

    /// Where a frame or table is mapped: root of the space, address, and the frame's entry.
    pub(crate) fn mapping_of(&self, cap: Cap) -> Option<(u64, u64, u64)> {
        let m = Mapping::unpack(cap.data())?;
        let tables = self.tables_at(m)?;
        let level = if cap.size_bits() == PAGE_BITS { 1 } else { 2 };
        let entry = match cap.is(ObjType::Frame) {
            true => read(entry_at(walk(&tables, m.vaddr, level).ok()?, m.vaddr, level)),
            false => 0,
        };
        // Device tables have no bit against execution.
        Some((tables.root, m.vaddr, entry | if tables.is_io() { Entry::NX.bits() } else { 0 }))
    }

    /// Checks a frame mapping. `Err` carries the level of a missing table.
    pub(crate) fn decode_map(
        &self,
        frame: Cap,
        space: Cap,
        vaddr: u64,
        rights: Rights,
        attr: MapAttr,
    ) -> Result<Map, (Error, u64)> {
        let fail = |e| Err((e, 0));
        let Some(tables) = self.tables_of(space) else { return fail(Error::WrongType) };
        if frame.data() != 0 {
            return fail(Error::Busy);
        }
        let bits = frame.size_bits();
        let size = 1u64 << bits;
        if !vaddr.is_multiple_of(size) {
            return fail(Error::Alignment);
        }
        if vaddr == 0 || vaddr >= tables.end || tables.end - vaddr < size {
            return fail(Error::Range);
        }
        let level = if bits == PAGE_BITS { 1 } else { 2 };
        let (flags, wanted) = match tables.is_io() {
            true => iospace::flags(frame, rights, attr),
            false => flags(frame, rights, attr),
        }
        .ok_or((Error::Range, 0))?;
        if !frame.rights().contains(wanted) {
            return fail(Error::NoRights);
        }
        let table = walk(&tables, vaddr, level).map_err(|missing| match missing >= level {
            true => (Error::NoTable, missing as u64),
            false => (Error::Occupied, 0),
        })?;
        let entry = entry_at(table, vaddr, level);
        if read(entry) & THERE != 0 {
            return fail(Error::Occupied);
        }
        let large = if level == 2 { Entry::LARGE.bits() } else { 0 };
        let value = frame.addr() | flags | large;
        Ok(Map { entry, value, mapping: tables.mapping(vaddr), level: bits, io: tables.is_io() })
    }

    /// Checks the mapping of a page table at the highest missing level above `vaddr`.
    pub(crate) fn decode_map_table(
        &self,
        table: Cap,
        space: Cap,
        vaddr: u64,
    ) -> Result<Map, Error> {
        if table.data() != 0 {
            return Err(Error::Busy);
        }
        if space.is(ObjType::IoControl) {
            return self.decode_map_context(table, vaddr);
        }
        let tables = self.tables_of(space).ok_or(Error::WrongType)?;
        if vaddr >= tables.end {
            return Err(Error::Range);
        }
        let Err(level @ 1..) = walk(&tables, vaddr, 1) else { return Err(Error::Occupied) };
        let parent = walk(&tables, vaddr, level + 1).map_err(|_| Error::Occupied)?;
        let entry = entry_at(parent, vaddr, level + 1);
        let span = 1u64 << (12 + 9 * level as u64);
        let (mapping, io) = (tables.mapping(vaddr & !(span - 1)), tables.is_io());
        let user = if io { 0 } else { Entry::USER.bits() };
        Ok(Map { entry, value: table.addr() | THERE | user, mapping, level, io })
    }

    /// Writes the entry; returns the capability's new word 1.
    pub(crate) fn map(&mut self, map: &Map) -> u64 {
        write(map.entry, map.value);
        if map.io {
            self.io_mapped(map.entry);
        }
        map.mapping
    }

    /// Maps a page of memory, not executable, if nothing stands against it; returns the capability's
    /// new word 1.
    #[inline(always)]
    pub(crate) fn map_page(
        &mut self,
        frame: Cap,
        space: Cap,
        vaddr: u64,
        rights: Rights,
    ) -> Option<u64> {
        let asid = self.asid_of(space)?;
        let memory = frame.is(ObjType::Frame) && frame.size_bits() == PAGE_BITS && !frame.device();
        let inside = vaddr.is_multiple_of(PAGE_SIZE) && vaddr != 0 && vaddr < USER_END;
        let (flags, wanted) = flags(frame, rights, MapAttr::empty())?;
        if !memory || frame.data() != 0 || !inside || !frame.rights().contains(wanted) {
            return None;
        }
        let mut table = space.addr();
        for level in [4, 3, 2] {
            let entry = read(entry_at(table, vaddr, level));
            if entry & THERE == 0 || entry & Entry::LARGE.bits() != 0 {
                return None;
            }
            table = entry & ADDR;
        }
        let entry = entry_at(table, vaddr, 1);
        if read(entry) & THERE != 0 {
            return None;
        }
        write(entry, frame.addr() | flags);
        let generation = self.asids.all[asid as usize].generation;
        Some(Mapping { vaddr, asid, generation }.pack())
    }

    /// Clears an entry of `tables`, and forgets what was cached of it: `page`, or all.
    fn clear_entry(&mut self, tables: &Tables, entry: u64, page: Option<u64>) {
        write(entry, 0);
        if tables.is_io() {
            self.io_unmapped(entry, tables.number);
        } else {
            self.forget(tables.root, page);
        }
    }

    /// Lets no processor keep a translation of the address space at `root`: of `page`, or of any.
    /// Every change that takes something away passes here, with the kernel locked. (A processor
    /// other than this one that has it loaded would have to be interrupted, and waited for.)
    fn forget(&mut self, root: u64, page: Option<u64>) {
        if self.cpu.loaded != root {
            return;
        }
        match page {
            Some(vaddr) => self.hw.flush_page(vaddr),
            None => self.hw.flush_all(),
        }
    }

    /// Undoes the mapping of a frame capability, if it still stands.
    pub(crate) fn unmap_frame(&mut self, frame: Cap) {
        let Some(m) = Mapping::unpack(frame.data()) else { return };
        let Some(tables) = self.tables_at(m) else { return };
        let level = if frame.size_bits() == PAGE_BITS { 1 } else { 2 };
        let Ok(table) = walk(&tables, m.vaddr, level) else { return };
        let entry = entry_at(table, m.vaddr, level);
        let value = read(entry);
        if value & THERE != 0 && value & ADDR == frame.addr() {
            self.clear_entry(&tables, entry, Some(m.vaddr));
        }
    }

    /// Takes a page table out of its address space. Its own entries are cleared, so that mapping
    /// it elsewhere cannot bring old translations back.
    pub(crate) fn unmap_table(&mut self, table: Cap) {
        let Some(m) = Mapping::unpack(table.data()) else { return };
        let level = table.size_bits();
        if level == iospace::CONTEXT {
            self.unmap_context(table, m.vaddr);
        } else if let Some(tables) = self.tables_at(m)
            && let Ok(parent) = walk(&tables, m.vaddr, level + 1)
        {
            let entry = entry_at(parent, m.vaddr, level + 1);
            if read(entry) & ADDR == table.addr() {
                self.clear_entry(&tables, entry, None);
            }
        }
        // SAFETY: the page of this table; no longer linked anywhere.
        unsafe { obj::clear(table.addr(), 1 << PAGE_BITS) };
    }

    /// An address space is gone: its ASID's next user has another generation.
    pub(crate) fn end_vspace(&mut self, vspace: Cap) {
        let Some(asid) = self.asid_of(vspace) else { return };
        self.asids.give_back(asid);
        if self.cpu.loaded == vspace.addr() {
            self.cpu.loaded = 0;
            self.hw.load_vspace(0);
        }
    }
}
