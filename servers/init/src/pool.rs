//! Which untyped an object is made from. The pool predicts the kernel's placement (a watermark in
//! each untyped, aligned up to the object's size) so that physical contiguity can be planned.
//!
//! Nothing is ever given back to the pool: what must be reused (a process's private memory) is a
//! child untyped that is revoked as a whole.

use abi::{CPtr, UntypedDesc};
use alloc::vec::Vec;

/// An untyped and how much of it is used.
#[derive(Clone, Copy, Debug)]
struct Untyped {
    slot: CPtr,
    paddr: u64,
    size: u64,
    used: u64,
}

impl Untyped {
    /// Offset at which `objects` would be placed one after the other, and the watermark after.
    fn place(&self, objects: &[(u8, u64)]) -> Option<(u64, u64)> {
        let mut first = None;
        let mut at = self.used;
        for (bits, count) in objects.iter().filter(|(_, count)| *count > 0) {
            let size = 1u64.checked_shl(*bits as u32)?;
            at = at.checked_next_multiple_of(size)?;
            first.get_or_insert(at);
            at = at.checked_add(size.checked_mul(*count)?)?;
        }
        (at <= self.size).then_some((first.unwrap_or(at), at))
    }
}

/// Where objects will lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The untyped to retype from.
    pub untyped: CPtr,
    /// Physical address of the first object.
    pub paddr: u64,
    /// Offset in a device untyped, as retype wants it; 0 for RAM.
    pub offset: u64,
}

/// All memory init was given.
#[derive(Debug, Default)]
pub struct Pool {
    ram: Vec<Untyped>,
    device: Vec<Untyped>,
}

impl Pool {
    /// The untypeds of the boot information; the i-th is in slot `first + i`.
    pub fn new(first: CPtr, untypeds: &[UntypedDesc]) -> Self {
        let mut pool = Self::default();
        for (slot, desc) in (first..).zip(untypeds) {
            let Some(size) = 1u64.checked_shl(desc.size_bits) else { continue };
            let untyped = Untyped { slot, paddr: desc.paddr, size, used: 0 };
            if desc.device == 0 { pool.ram.push(untyped) } else { pool.device.push(untyped) }
        }
        pool
    }
    /// Bytes of RAM, used or not.
    pub fn total(&self) -> u64 {
        self.ram.iter().map(|u| u.size).sum()
    }
    /// The untypeds of RAM.
    pub fn ram(&self) -> impl Iterator<Item = CPtr> {
        self.ram.iter().map(|u| u.slot)
    }
    /// Places `count` objects of 2^`bits` bytes, physically contiguous.
    pub fn place(&mut self, bits: u8, count: u64) -> Option<Placed> {
        self.place_run(&[(bits, count)])
    }
    /// Places groups of `(bits, count)` one after the other in one untyped. Groups of falling size
    /// are contiguous. Takes the untyped with the least room that suffices, to keep large ones
    /// whole.
    pub fn place_run(&mut self, objects: &[(u8, u64)]) -> Option<Placed> {
        let fits = self.ram.iter_mut().filter_map(|u| Some((u.place(objects)?, u)));
        let ((first, end), untyped) = fits.min_by_key(|((_, end), u)| u.size - end)?;
        untyped.used = end;
        Some(Placed { untyped: untyped.slot, paddr: untyped.paddr + first, offset: 0 })
    }
    /// Finds the device memory `paddr..paddr + len`. Within one untyped, addresses must be asked
    /// for in rising order.
    pub fn place_device(&mut self, paddr: u64, len: u64) -> Option<Placed> {
        let end = paddr.checked_add(len)?;
        let inside = |u: &&mut Untyped| paddr >= u.paddr && end - u.paddr <= u.size;
        let untyped = self.device.iter_mut().find(inside)?;
        let offset = paddr - untyped.paddr;
        if offset < untyped.used {
            return None;
        }
        untyped.used = offset + len;
        Some(Placed { untyped: untyped.slot, paddr, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::collections::BTreeMap;

    fn desc(paddr: u64, size_bits: u32, device: u32) -> UntypedDesc {
        UntypedDesc { paddr, size_bits, device }
    }

    #[test]
    fn never_overlaps_and_fills_to_the_last_byte() {
        let mut pool = Pool::new(16, &[desc(0x10_0000, 20, 0), desc(0x40_0000, 22, 0)]);
        assert_eq!(pool.total(), 5 << 20);
        let (mut taken, mut seed) = (BTreeMap::new(), 1u64);
        let mut bytes = 0;
        loop {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let bits = 12 + (seed >> 60) as u8 % 6;
            let Some(p) = pool.place(bits, 1 + (seed >> 40) % 3) else {
                // What is left are single pages.
                let Some(p) = pool.place(12, 1) else { break };
                assert_eq!(taken.insert(p.paddr, 4096), None);
                bytes += 4096;
                continue;
            };
            let len = (1 << bits) * (1 + (seed >> 40) % 3);
            assert_eq!(p.paddr % (1 << bits), 0);
            assert_eq!(taken.insert(p.paddr, len), None);
            bytes += len;
        }
        let ends = taken.iter().map(|(a, l)| a + l);
        assert!(ends.zip(taken.keys().skip(1)).all(|(end, next)| end <= *next));
        assert!(taken.keys().all(|a| (0x10_0000..0x20_0000).contains(a) || *a >= 0x40_0000));
        // Only alignment may have cost something.
        assert!(bytes > 4 << 20 && bytes <= 5 << 20, "{bytes}");
    }

    #[test]
    fn runs_of_falling_size_are_contiguous() {
        let mut pool = Pool::new(16, &[desc(0x0, 24, 0)]);
        pool.place(12, 1);
        let p = pool.place_run(&[(21, 2), (12, 3)]).unwrap();
        assert_eq!(p.paddr, 0x20_0000);
        assert_eq!(pool.place(12, 1).unwrap().paddr, 0x60_3000);
        assert_eq!(pool.place_run(&[(21, 0), (12, 1)]).unwrap().paddr, 0x60_4000);
    }

    #[test]
    fn small_requests_keep_large_untypeds_whole() {
        let mut pool = Pool::new(16, &[desc(0x100_0000, 24, 0), desc(0x1000, 12, 0)]);
        assert_eq!(pool.place(12, 1).unwrap().untyped, 17);
        assert_eq!(pool.place(24, 1).unwrap().untyped, 16);
        assert_eq!(pool.place(5, 1), None);
    }

    #[test]
    fn device_memory_rises() {
        let mut pool = Pool::new(16, &[desc(0xfe00_0000, 24, 1), desc(0, 20, 0)]);
        let p = pool.place_device(0xfeb8_0000, 0x2_0000).unwrap();
        assert_eq!((p.untyped, p.offset), (16, 0xb8_0000));
        assert_eq!(pool.place_device(0xfeb9_0000, 0x1000), None);
        assert!(pool.place_device(0xfebf_0000, 0x1000).is_some());
        assert_eq!(pool.place_device(0xff00_0000, 0x1000), None);
        assert_eq!(pool.place_device(u64::MAX, 0x1000), None);
        assert_eq!(pool.total(), 1 << 20);
    }

    #[test]
    fn hostile_sizes_do_not_overflow() {
        let mut pool = Pool::new(16, &[desc(0, 99, 0), desc(0, 20, 0)]);
        assert_eq!(pool.place(63, 3), None);
        assert_eq!(pool.place(12, u64::MAX), None);
        assert_eq!(pool.place(200, 1), None);
    }
}
