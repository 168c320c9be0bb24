//! The lock of the kernel's state, which every entry takes.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use microkernel::percpu::CPUS;
use spin::{Mutex, MutexGuard};

/// See the [module](self). With one processor it costs nothing: interrupts are off in the kernel, and
/// an exception there stops the machine, so that no entry ever finds another one inside.
pub struct BigLock<T> {
    lock: Mutex<()>,
    value: UnsafeCell<T>,
}

// SAFETY: `value` is reached through a `Guard` alone, of which there is one at a time: by the mutex, or
// because there is one processor and entries do not nest.
unsafe impl<T: Send> Sync for BigLock<T> {}

/// The right to use what is locked.
pub struct Guard<'a, T> {
    _held: Option<MutexGuard<'a, ()>>,
    value: &'a UnsafeCell<T>,
}

impl<T> BigLock<T> {
    /// Unlocked.
    pub const fn new(value: T) -> Self {
        Self { lock: Mutex::new(()), value: UnsafeCell::new(value) }
    }
    /// Waits for it. Once an entry, at its beginning.
    #[inline(always)]
    pub fn lock(&self) -> Guard<'_, T> {
        Guard { _held: (CPUS > 1).then(|| self.lock.lock()), value: &self.value }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the only guard.
        unsafe { &*self.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the only guard.
        unsafe { &mut *self.value.get() }
    }
}
