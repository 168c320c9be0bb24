//! Kernel objects as Rust sees them.
//!
//! An object is memory carved from an untyped. Its fields are `Cell`s, so any number of shared
//! references may exist while the (single) kernel thread changes it, and all-zero memory is a
//! valid object of every type: creating one is clearing memory. [`Obj`] is a handle to a live
//! object.

use core::ops::Deref;
use core::ptr::NonNull;

/// Where all physical memory is mapped in the kernel. On the host, "physical" addresses are
/// ordinary ones.
pub const PHYS_BASE: u64 = if cfg!(feature = "guest") { 0xffff_8000_0000_0000 } else { 0 };

/// A handle to a live kernel object.
#[repr(transparent)]
pub struct Obj<T>(NonNull<T>);

impl<T> Obj<T> {
    /// The object at a physical address.
    ///
    /// # Safety
    /// A live `T` lies there (zeroed memory counts), for as long as the handle is used: handles in
    /// objects are cleared by `destroy` when what they name dies, others do not outlive a system
    /// call.
    pub unsafe fn from_phys(pa: u64) -> Self {
        // SAFETY: no object lies at address 0: the kernel gives out no memory below 1 MiB.
        Self(unsafe { NonNull::new_unchecked((pa + PHYS_BASE) as *mut T) })
    }
    /// A handle to an object inside another one or in kernel data.
    pub fn of(object: &T) -> Self {
        Self(NonNull::from(object))
    }
    /// Its physical address.
    pub fn phys(self) -> u64 {
        (self.0.as_ptr() as u64).wrapping_sub(PHYS_BASE)
    }
    /// The raw pointer, for assembly.
    pub fn as_ptr(self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Deref for Obj<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: live by the promise of `from_phys`; all fields are cells, so a shared reference
        // is all that is ever made.
        unsafe { self.0.as_ref() }
    }
}

// SAFETY: objects are reached only by the holder of the kernel lock.
unsafe impl<T> Send for Obj<T> {}

impl<T> Clone for Obj<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Obj<T> {}
impl<T> PartialEq for Obj<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Obj<T> {}

/// Clears physical memory.
///
/// # Safety
/// The range is untyped memory that no live object or mapping uses.
pub unsafe fn clear(pa: u64, bytes: u64) {
    // SAFETY: mapped at PHYS_BASE, unused by the caller's promise.
    unsafe { core::ptr::write_bytes((pa + PHYS_BASE) as *mut u8, 0, bytes as usize) }
}

/// Copies a payload between two frames: 64 bytes a turn, then 16, then what is left, and not one byte
/// more. (`rep movsb` is one instruction that QEMU runs once a byte.)
///
/// # Safety
/// Both ranges lie in frames that live, at addresses aligned to 16 bytes; user code may change them
/// meanwhile.
pub unsafe fn copy_payload(from: u64, to: u64, bytes: usize) {
    let (from, to) = ((from + PHYS_BASE) as *const u8, (to + PHYS_BASE) as *mut u8);
    if cfg!(miri) {
        // SAFETY: as promised.
        return unsafe { core::ptr::copy(from, to, bytes) };
    }
    // SAFETY: as promised. Assembly, since user code may change the bytes meanwhile.
    unsafe {
        core::arch::asm!(
            "sub {left}, 64",
            "jb 3f",
            "2:",
            "movaps {a}, [{from}]",
            "movaps {b}, [{from} + 16]",
            "movaps {c}, [{from} + 32]",
            "movaps {d}, [{from} + 48]",
            "movaps [{to}], {a}",
            "movaps [{to} + 16], {b}",
            "movaps [{to} + 32], {c}",
            "movaps [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "sub {left}, 64",
            "jae 2b",
            "3:",
            "add {left}, 48",
            "jnc 5f",
            "4:",
            "movaps {a}, [{from}]",
            "movaps [{to}], {a}",
            "add {from}, 16",
            "add {to}, 16",
            "sub {left}, 16",
            "jae 4b",
            "5:",
            "add {left}, 16",
            "jz 7f",
            "6:",
            "mov {byte}, [{from}]",
            "mov [{to}], {byte}",
            "inc {from}",
            "inc {to}",
            "dec {left}",
            "jnz 6b",
            "7:",
            left = inout(reg) bytes => _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            byte = out(reg_byte) _,
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// Reads a word of a frame.
///
/// # Safety
/// `pa` is 8-byte aligned and lies in a live frame.
pub unsafe fn read_word(pa: u64) -> u64 {
    // SAFETY: as promised; volatile because user code may change it meanwhile.
    unsafe { ((pa + PHYS_BASE) as *const u64).read_volatile() }
}

/// Writes a word of a frame.
///
/// # Safety
/// As [`read_word`].
pub unsafe fn write_word(pa: u64, value: u64) {
    // SAFETY: as promised.
    unsafe { ((pa + PHYS_BASE) as *mut u64).write_volatile(value) }
}
