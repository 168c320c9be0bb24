//! What one incarnation of a process is made of: the objects that come from its private untyped,
//! in the order in which they are made, and where its pages are mapped.

use abi::{LARGE_BITS, ObjType, PAGE_BITS, PAGE_SIZE};
use alloc::vec::Vec;
use libipc::bundle::{File, Segment};
use libipc::start::{HEAP, IMAGE, IPC_BUFFER, REGIONS, STACK_TOP};

/// log2 of the slots in a process's CNode.
pub const CNODE_BITS: u8 = 6;
/// The same in one that makes objects of its own.
const OWN_CNODE_BITS: u8 = 10;
/// First slot of the manifest's capabilities.
pub const FIRST_CAP: u64 = 2;
/// Most capabilities that fit.
pub const MAX_CAPS: usize = (1 << CNODE_BITS) - FIRST_CAP as usize;
/// Slots of init's CSpace per incarnation besides its frames: thread, CNode, scheduling context.
pub const OBJECT_SLOTS: u64 = 3;
/// log2 of the bytes that a process's own untyped may have: not smaller than a large frame, so that
/// it is the first of the private objects.
pub const UNTYPED_BITS: core::ops::RangeInclusive<u8> = LARGE_BITS..=30;

/// Most bytes of a stack or heap.
const MAX_AREA: u64 = 1 << 30;

/// Why a process cannot be built as the system description says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// A segment of its program lies outside the program area, or is writable and executable.
    Segment,
    /// Stack or heap larger than 1 GiB, no stack, or an untyped that is none of [`UNTYPED_BITS`].
    Size,
    /// More capabilities than its CNode has slots.
    Caps,
    /// Its name or arguments, or its regions' names or number, do not fit its start information.
    StartInfo,
    /// The priority is not below init's.
    Priority,
    /// The budget is zero or more than the period.
    Budget,
}

/// Consecutive writable pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area<'a> {
    /// First address.
    pub vaddr: u64,
    /// Frames.
    pub count: u64,
    /// log2 of a frame's size.
    pub bits: u8,
    /// What the first bytes hold; the rest is zero.
    pub content: &'a [u8],
}

/// What one incarnation needs.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// Writable memory: large frames first, then small ones, in the order of their slots.
    pub areas: Vec<Area<'a>>,
    /// Entry point.
    pub entry: u64,
    /// Timers.
    pub timers: u64,
    /// Reply objects.
    pub replies: u64,
    /// Bytes of stack.
    pub stack: u64,
    /// Bytes of heap.
    pub heap: u64,
    /// log2 of the bytes of its own untyped, if it has one.
    pub untyped: Option<u8>,
}

/// Whether a segment lies where programs may, and is not both writable and executable.
pub fn segment_allowed(s: &Segment<'_>) -> bool {
    let end = s.vaddr.checked_add(s.mem_len);
    s.vaddr >= IMAGE && end.is_some_and(|end| end <= REGIONS) && !(s.write && s.exec)
}

impl<'a> Plan<'a> {
    /// Plans a process from its program and its sizes.
    pub fn new(
        file: &File<'a>,
        stack_kib: u32,
        heap_kib: u32,
        timers: u64,
        replies: u64,
        untyped: Option<u8>,
    ) -> Result<Self, PlanError> {
        let round = |kib: u32| (kib as u64 * 1024).next_multiple_of(PAGE_SIZE);
        let (stack, heap) = (round(stack_kib), round(heap_kib));
        let sized = untyped.is_none_or(|bits| UNTYPED_BITS.contains(&bits));
        if stack == 0 || stack > MAX_AREA || heap > MAX_AREA || !sized {
            return Err(PlanError::Size);
        }
        let mut areas = Vec::new();
        let large = heap >> LARGE_BITS;
        let mut add = |vaddr, bytes: u64, bits: u8, content| {
            let count = bytes.div_ceil(1 << bits);
            if count > 0 {
                areas.push(Area { vaddr, count, bits, content });
            }
        };
        add(HEAP, large << LARGE_BITS, LARGE_BITS, &[][..]);
        for s in file.segments() {
            if !segment_allowed(&s) {
                return Err(PlanError::Segment);
            }
            if s.write {
                add(s.vaddr, s.mem_len, PAGE_BITS, s.data);
            }
        }
        add(STACK_TOP - stack, stack, PAGE_BITS, &[]);
        add(HEAP + (large << LARGE_BITS), heap - (large << LARGE_BITS), PAGE_BITS, &[]);
        add(IPC_BUFFER, PAGE_SIZE, PAGE_BITS, &[]);
        let entry = file.entry().ok_or(PlanError::Segment)?;
        Ok(Self { areas, entry, timers, replies, stack, heap, untyped })
    }
    /// Frames of 2^`bits` bytes.
    pub fn frames(&self, bits: u8) -> u64 {
        self.areas.iter().filter(|a| a.bits == bits).map(|a| a.count).sum()
    }
    /// Slots of init's CSpace that one incarnation fills.
    pub fn slots(&self) -> u64 {
        self.frames(LARGE_BITS) + self.frames(PAGE_BITS) + OBJECT_SLOTS
    }
    /// log2 of the slots in its CNode.
    pub fn cnode_bits(&self) -> u8 {
        if self.untyped.is_some() { OWN_CNODE_BITS } else { CNODE_BITS }
    }
    /// Slot of the frame that holds the page at `vaddr`, counted from the first frame's slot, and
    /// the frame's first address. `None`: no small private frame is mapped there.
    pub fn frame_at(&self, vaddr: u64) -> Option<(u64, u64)> {
        let mut slot = 0;
        for a in &self.areas {
            let len = a.count << a.bits;
            if a.bits == PAGE_BITS && vaddr >= a.vaddr && vaddr - a.vaddr < len {
                let page = (vaddr - a.vaddr) / PAGE_SIZE;
                return Some((slot + page, a.vaddr + page * PAGE_SIZE));
            }
            slot += a.count;
        }
        None
    }
    /// log2 of the private untyped that all this fits in: objects are made in falling size, so
    /// that no byte is lost to alignment.
    pub fn private_bits(&self) -> u8 {
        let objects = [
            (ObjType::Untyped, self.untyped.unwrap_or(LARGE_BITS), self.untyped.is_some() as u64),
            (ObjType::Frame, LARGE_BITS, self.frames(LARGE_BITS)),
            (ObjType::Frame, PAGE_BITS, self.frames(PAGE_BITS)),
            (ObjType::Thread, 0, 1),
            (ObjType::CNode, self.cnode_bits(), 1),
            (ObjType::SchedContext, 0, 1),
            (ObjType::Timer, 0, self.timers),
            (ObjType::Reply, 0, self.replies),
        ];
        let size = |ty: ObjType, bits| 1u64 << ty.bits(bits).expect("sizes are constants");
        let bytes: u64 = objects.iter().map(|(ty, bits, n)| size(*ty, *bits) * n).sum();
        bytes.next_power_of_two().trailing_zeros() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bundle, program};
    use libipc::bundle::Bundle;

    /// Plans a program whose last segment is replaced.
    fn plan(
        segment: Option<(u64, u64, u32)>,
        stack: u32,
        heap: u32,
    ) -> Result<Plan<'static>, PlanError> {
        let mut program = program("p");
        if let Some((vaddr, len, flags)) = segment {
            program.segments[2] = (vaddr, len, alloc::vec![], flags);
        }
        let image = bundle(&[program]).leak();
        Plan::new(&Bundle::new(image).unwrap().file("p").unwrap(), stack, heap, 2, 1, None)
    }

    #[test]
    fn everything_fits_its_untyped_and_no_smaller_one() {
        // 3 data, 4 stack, 2 heap pages, IPC buffer: 40 KiB, and less than 5 KiB of objects.
        let p = plan(None, 16, 8).unwrap();
        assert_eq!((p.frames(PAGE_BITS), p.frames(LARGE_BITS), p.private_bits()), (10, 0, 16));
        assert_eq!(p.slots(), 13);
        // 13 pages of stack: with the other 4 and the objects just above 64 KiB.
        assert_eq!(plan(None, 40, 0).unwrap().private_bits(), 16);
        assert_eq!(plan(None, 44, 0).unwrap().private_bits(), 17);
        let p = plan(None, 16, 4096 + 4).unwrap();
        assert_eq!((p.frames(PAGE_BITS), p.frames(LARGE_BITS), p.private_bits()), (9, 2, 23));
    }

    #[test]
    fn frames_are_found_by_address() {
        let p = plan(None, 16, 2048 + 4).unwrap();
        // The large frame comes first, then data, stack, the rest of the heap, IPC buffer.
        assert_eq!(p.frame_at(HEAP), None);
        assert_eq!(p.frame_at(0x40_4008), Some((2, 0x40_4000)));
        assert_eq!(p.frame_at(STACK_TOP - 8), Some((7, STACK_TOP - 4096)));
        assert_eq!(p.frame_at(STACK_TOP), None);
        assert_eq!(p.frame_at(HEAP + 0x20_0000), Some((8, HEAP + 0x20_0000)));
        assert_eq!(p.frame_at(IPC_BUFFER + 4095), Some((9, IPC_BUFFER)));
        assert_eq!(p.frame_at(u64::MAX), None);
    }

    #[test]
    fn segments_stay_in_the_program_area_and_keep_w_xor_x() {
        let segment = |vaddr, len, flags| plan(Some((vaddr, len, flags)), 16, 0).map(drop);
        assert_eq!(segment(0x50_0000, 4096, 3), Ok(()));
        for (vaddr, len, flags) in [
            (0x50_0000, 4096, 7),
            (0x1000, 4096, 3),
            (REGIONS - 4096, 8192, 3),
            (STACK_TOP - 4096, 4096, 1),
            (u64::MAX - 4095, 4096, 3),
        ] {
            assert_eq!(segment(vaddr, len, flags), Err(PlanError::Segment), "{vaddr:#x}");
        }
    }
}
