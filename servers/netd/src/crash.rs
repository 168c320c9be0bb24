//! Points between steps that others see, at which tests make netd die.
//!
//! A crash can come between any two instructions, but only what lies in shared memory matters: the
//! points stand before and after stores to records and publications of rings. Without the feature
//! they are nothing.

#[cfg(feature = "crash-points")]
mod armed {
    use core::sync::atomic::{AtomicI64, Ordering::Relaxed};

    /// Points to pass before the crash; negative: none is planned.
    pub static COUNTDOWN: AtomicI64 = AtomicI64::new(-1);

    /// Plans a crash at the `n`-th point from now on. For one stack at a time in a process.
    pub fn plan(n: i64) {
        COUNTDOWN.store(n, Relaxed);
    }

    /// Forgets the plan; `true`: it had not come to pass.
    pub fn cancel() -> bool {
        COUNTDOWN.swap(-1, Relaxed) >= 0
    }

    /// Passes a point.
    pub fn point() {
        let left = COUNTDOWN.load(Relaxed);
        if left >= 0 {
            COUNTDOWN.store(left - 1, Relaxed);
            assert!(left > 0, "planned crash");
        }
    }
}

#[cfg(feature = "crash-points")]
pub use armed::{cancel, plan, point};

/// Passes a point.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point() {}
