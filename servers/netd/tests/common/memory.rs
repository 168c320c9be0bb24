//! Memory as init would lend it.

use libipc::ring::Memory;
use libipc::shared::Bytes;

/// A page-aligned range. Its [`Host`] gives it back at its end, when nothing looks at it any more.
#[derive(Clone, Copy)]
pub struct Region {
    base: usize,
    pub len: usize,
    /// What was allocated: a page more than `len`, from here on.
    whole: usize,
}

impl Region {
    pub fn new(len: usize) -> Self {
        let len = len.next_multiple_of(4096);
        // SAFETY: the size is not zero.
        let whole = unsafe { std::alloc::alloc_zeroed(Self::layout(len)) } as usize;
        assert_ne!(whole, 0);
        Self { base: whole.next_multiple_of(4096), len, whole }
    }
    /// With no more alignment than the system's own allocator gives: that one has pages of zeros
    /// at hand, an aligned allocation would write them all.
    fn layout(len: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(len + 4096, 16).unwrap()
    }
    pub fn at(&self, offset: usize) -> usize {
        assert!(offset < self.len);
        self.base + offset
    }
    pub fn bytes(&self) -> Bytes {
        // SAFETY: lives as long as its host; only raw copies are made of it.
        unsafe { Bytes::new(self.base as *mut u8, self.len) }
    }
    /// A typed view; for types that are all atomic.
    pub fn view<T>(&self, offset: usize, n: usize) -> &'static [T] {
        assert!(
            offset + n * size_of::<T>() <= self.len
                && self.at(offset).is_multiple_of(align_of::<T>())
        );
        // SAFETY: aligned, in range, zeroed, and as long-lived as its host, whose stack and rings end
        // before it; `T` is all atomic.
        unsafe { std::slice::from_raw_parts(self.at(offset) as *const T, n) }
    }
}

impl Region {
    /// # Safety
    /// Nothing made from it is used any more.
    pub(super) unsafe fn give_back(self) {
        // SAFETY: allocated so by `new`.
        unsafe { std::alloc::dealloc(self.whole as *mut u8, Self::layout(self.len)) };
    }
}

pub(super) fn ring<E: libipc::ring::Entry>(
    p: (Region, usize),
    c: (Region, usize),
    capacity: u32,
) -> Memory<E> {
    // SAFETY: as long-lived as its host, and laid out as `offset` and `Layout` say.
    unsafe { Memory::new(p.0.at(p.1), c.0.at(c.1), capacity) }
}
