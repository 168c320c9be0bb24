//! Bytes that another process or a device may change at any time: no reference into them is ever
//! made, they are only copied in and out.

/// A mapped range of shared bytes. Copies out of range do nothing and return `false`.
#[derive(Clone, Copy)]
pub struct Bytes {
    base: *mut u8,
    len: usize,
}

// SAFETY: a plain address range; all access is by raw copies, which may race with the peer by
// design: whatever bytes result are an allegation.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// The range `base..base + len`.
    ///
    /// # Safety
    /// It is mapped for the rest of the process's life (writable if [`Bytes::write`] is used), and
    /// no Rust reference into it exists.
    pub const unsafe fn new(base: *mut u8, len: usize) -> Self {
        Self { base, len }
    }
    /// Memory of this process that nothing else refers to, for good.
    pub const fn of(memory: &'static mut [u8]) -> Self {
        // It is borrowed exclusively until the end of the process, and the borrow ends up here.
        Self { base: memory.as_mut_ptr(), len: memory.len() }
    }
    /// The first `at` bytes, as far as there are so many, and the rest.
    pub fn split(&self, at: usize) -> (Self, Self) {
        let at = at.min(self.len);
        // SAFETY: within the range, or at its end.
        let rest = unsafe { self.base.add(at) };
        (Self { base: self.base, len: at }, Self { base: rest, len: self.len - at })
    }
    /// Bytes in the range.
    pub const fn len(&self) -> usize {
        self.len
    }
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Address of the byte at `offset` if `offset..offset + len` lies inside: for checksum-and-copy
    /// routines that work on raw addresses.
    #[inline]
    pub fn range(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        // SAFETY: within the range.
        (end <= self.len).then(|| unsafe { self.base.add(offset) })
    }
    /// Copies out.
    #[inline]
    #[must_use]
    pub fn read(&self, offset: usize, into: &mut [u8]) -> bool {
        let Some(from) = self.range(offset, into.len()) else { return false };
        // SAFETY: in range by the check, mapped by the promise of `new`; `into` is not part of it.
        unsafe { core::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        true
    }
    /// Copies `N` bytes out.
    #[inline]
    pub fn get<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let from = self.range(offset, N)?;
        // SAFETY: as in `read`.
        Some(unsafe { from.cast::<[u8; N]>().read_unaligned() })
    }
    /// Copies in.
    #[inline]
    #[must_use]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> bool {
        let Some(to) = self.range(offset, bytes.len()) else { return false };
        // SAFETY: as in `read`.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        true
    }
}
