//! Device registers and lent memory: the only unsafe code of the driver.

use crate::regs::{BAR_BYTES, Reg};
use core::sync::atomic::{AtomicU64, Ordering::*, fence};

/// Register file and descriptor memory of one NIC, as mapped in this process.
pub struct Mmio {
    bar: *mut u32,
    rings: &'static [AtomicU64],
}

impl Mmio {
    /// The NIC whose registers lie at `bar` and whose `nic.rings` lies at `rings`.
    ///
    /// # Panics
    /// If an address is not page-aligned.
    ///
    /// # Safety
    /// [`BAR_BYTES`] at `bar` are the device's registers, mapped uncached and writable;
    /// `rings_len` bytes at `rings` are memory, mapped writable; both for the rest of the
    /// process's life, and reached only through this value and by the device.
    pub unsafe fn new(bar: u64, rings: u64, rings_len: u64) -> Self {
        assert!((bar | rings).is_multiple_of(abi::PAGE_SIZE), "regions are made of pages");
        let (rings, words) = (rings as *const AtomicU64, rings_len as usize / 8);
        // SAFETY: the caller promises memory; it is atomic because the device writes to it.
        let rings = unsafe { core::slice::from_raw_parts(rings, words) };
        Self { bar: bar as *mut u32, rings }
    }

    /// Reads a register. Offsets outside the BAR read as all ones, as on the bus.
    pub fn read(&self, reg: Reg) -> u32 {
        if reg.0 as u64 >= BAR_BYTES || !reg.0.is_multiple_of(4) {
            return !0;
        }
        // SAFETY: inside the BAR and aligned. Reading a register has no effect on memory.
        let value = unsafe { self.bar.add(reg.0 as usize / 4).read_volatile() };
        // Descriptors are looked at after the register that told of them.
        fence(Acquire);
        value
    }

    /// Writes a register.
    pub fn write(&self, reg: Reg, value: u32) {
        if reg.0 as u64 >= BAR_BYTES || !reg.0.is_multiple_of(4) {
            return;
        }
        // Descriptors are written before the register that tells of them. Stores to uncached
        // memory are not reordered with earlier stores on x86, so this binds the compiler only.
        fence(Release);
        // SAFETY: inside the BAR and aligned. The device then reads or writes only memory whose
        // bus address the driver gave it; `window` and init see to it that this is DMA memory.
        unsafe { self.bar.add(reg.0 as usize / 4).write_volatile(value) };
    }

    /// Loads a word of `nic.rings`.
    pub fn load(&self, word: usize) -> u64 {
        self.rings[word].load(Acquire)
    }

    /// Stores a word of `nic.rings`.
    pub fn store(&self, word: usize, value: u64) {
        self.rings[word].store(value, Release);
    }
}
