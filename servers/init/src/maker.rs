//! Making standing objects at boot: memory from the pool, slots from the list, tables and mappings.

use abi::{CPtr, Error, LARGE_BITS, MapAttr, ObjType, PAGE_BITS, PAGE_SIZE, Rights, init_slot};

use crate::kernel::Kernel;
use crate::layout::ROOT;
use crate::pool::{Placed, Pool};
use crate::process::retype_all;
use crate::slots::Slots;
use crate::tables::Tables;

/// Why a standing object could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MakeError {
    /// Not enough memory, or not in one piece.
    Memory,
    /// init's CNode is full: the estimate of slots is wrong.
    Slots,
    /// A device's memory is not where init was given any, or overlaps another's.
    Device,
    /// The kernel refused.
    Kernel(Error),
}

impl From<Error> for MakeError {
    fn from(e: Error) -> Self {
        Self::Kernel(e)
    }
}

impl core::fmt::Display for MakeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Memory => f.write_str("not enough memory"),
            Self::Slots => f.write_str("not enough capability slots"),
            Self::Device => f.write_str("no device memory at that address"),
            Self::Kernel(e) => write!(f, "kernel error {e:?}"),
        }
    }
}

/// How many large and small frames make up so many bytes.
pub fn split(bytes: u64) -> (u64, u64) {
    let large = bytes >> LARGE_BITS;
    (large, (bytes - (large << LARGE_BITS)).div_ceil(PAGE_SIZE))
}

/// Most tables that can be missing above a page.
pub const TABLES: u64 = 3;

/// Makes objects.
pub struct Maker<'k, K> {
    /// The kernel.
    pub k: &'k mut K,
    /// Memory.
    pub pool: Pool,
    /// Slots.
    pub slots: Slots,
}

impl<K: Kernel> Maker<'_, K> {
    /// `count` slots.
    pub fn slots(&mut self, count: u64) -> Result<CPtr, MakeError> {
        self.slots.take(count).ok_or(MakeError::Slots)
    }
    /// Makes `count` objects in new slots; returns the first.
    pub fn make(&mut self, ty: ObjType, size_bits: u8, count: u64) -> Result<CPtr, MakeError> {
        let first = self.slots(count)?;
        self.make_in(first, ty, size_bits, count)?;
        Ok(first)
    }
    /// Makes `count` objects in slots from `first`.
    pub fn make_in(
        &mut self,
        first: CPtr,
        ty: ObjType,
        size_bits: u8,
        count: u64,
    ) -> Result<(), MakeError> {
        let bits = ty.bits(size_bits).ok_or(MakeError::Kernel(Error::Range))?;
        let placed = self.pool.place(bits, count).ok_or(MakeError::Memory)?;
        Ok(retype_all(self.k, placed.untyped, ty, size_bits, first, count)?)
    }
    /// Makes frames for `bytes` of physically contiguous memory, large ones first. Returns the
    /// first slot and the physical address.
    pub fn make_region(&mut self, bytes: u64) -> Result<(CPtr, u64), MakeError> {
        let (large, small) = split(bytes);
        let first = self.slots(large + small)?;
        let placed = self.pool.place_run(&[(LARGE_BITS, large), (PAGE_BITS, small)]);
        let Placed { untyped, paddr, .. } = placed.ok_or(MakeError::Memory)?;
        retype_all(self.k, untyped, ObjType::Frame, LARGE_BITS, first, large)?;
        retype_all(self.k, untyped, ObjType::Frame, PAGE_BITS, first + large, small)?;
        // Where the kernel really put it decides; that it did so in one piece is checked.
        let start = if large + small > 0 { self.k.frame_address(first)? } else { paddr };
        if let Some(last) = (large + small).checked_sub(1) {
            let offset = if small > 0 {
                (large << LARGE_BITS) + (small - 1) * PAGE_SIZE
            } else {
                last << LARGE_BITS
            };
            if self.k.frame_address(first + last)? != start + offset {
                return Err(MakeError::Memory);
            }
        }
        Ok((first, start))
    }
    /// Makes the frames of device memory.
    pub fn make_device(&mut self, paddr: u64, pages: u64) -> Result<CPtr, MakeError> {
        let first = self.slots(pages)?;
        let placed = self.pool.place_device(paddr, pages * PAGE_SIZE).ok_or(MakeError::Device)?;
        for i in 0..pages {
            // One by one: offset 0 would mean "behind the last" for a later call.
            let offset = placed.offset + i * PAGE_SIZE;
            let (ty, bits) = (ObjType::Frame, PAGE_BITS);
            self.k.retype(placed.untyped, ty, bits, ROOT, first + i, 1, offset)?;
        }
        Ok(first)
    }
    /// Copies a capability into a new slot.
    pub fn copy(&mut self, src: CPtr, rights: Rights) -> Result<CPtr, MakeError> {
        let dest = self.slots(1)?;
        self.k.copy(ROOT, dest, src, rights)?;
        Ok(dest)
    }
    /// Mints a badged capability into a new slot.
    pub fn mint(&mut self, src: CPtr, rights: Rights, badge: u64) -> Result<CPtr, MakeError> {
        let dest = self.slots(1)?;
        self.k.mint(ROOT, dest, src, rights, badge)?;
        Ok(dest)
    }
    /// Maps a frame capability into init's own address space, whose tables the kernel began.
    pub fn map_own(&mut self, frame: CPtr, vaddr: u64, rights: Rights) -> Result<(), MakeError> {
        self.map_into(init_slot::VSPACE, frame, vaddr, rights)
    }
    /// Maps a frame capability, and the tables that this takes.
    pub fn map_into(
        &mut self,
        space: CPtr,
        frame: CPtr,
        at: u64,
        rights: Rights,
    ) -> Result<(), MakeError> {
        for _ in 0..TABLES {
            match self.k.map(frame, space, at, rights, MapAttr::empty()) {
                Err(Error::NoTable) => {
                    let table = self.make(ObjType::PageTable, 0, 1)?;
                    self.k.map_table(table, space, at)?;
                }
                other => return Ok(other?),
            }
        }
        Ok(self.k.map(frame, space, at, rights, MapAttr::empty())?)
    }
    /// Makes the page tables missing for `count` pages of 2^`bits` bytes from `vaddr`.
    pub fn make_tables(
        &mut self,
        vspace: CPtr,
        tables: &mut Tables,
        vaddr: u64,
        bits: u8,
        count: u64,
    ) -> Result<(), MakeError> {
        for page in 0..count {
            let vaddr = vaddr + (page << bits);
            for _ in 0..tables.add(vaddr, bits) {
                let table = self.make(ObjType::PageTable, 0, 1)?;
                self.k.map_table(table, vspace, vaddr)?;
            }
        }
        Ok(())
    }
}
