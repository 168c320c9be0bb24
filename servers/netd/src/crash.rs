//! Points between steps that others see, at which tests make netd die.
//!
//! A crash can come between any two instructions, but only what lies in shared memory matters: the
//! points stand before and after stores to records and publications of rings. Without the feature
//! they are nothing.

#[cfg(feature = "crash-points")]
mod armed {
    extern crate std;
    use core::cell::Cell;

    std::thread_local! {
        /// Points to pass before the crash; negative: none is planned.
        static COUNTDOWN: Cell<i64> = const { Cell::new(-1) };
    }

    /// Plans a crash at the `n`-th point from now on, for the stacks of this thread.
    pub fn plan(n: i64) {
        COUNTDOWN.set(n);
    }

    /// Forgets the plan; `true`: it had not come to pass.
    pub fn cancel() -> bool {
        COUNTDOWN.replace(-1) >= 0
    }

    /// Passes a point.
    pub fn point() {
        let left = COUNTDOWN.get();
        if left >= 0 {
            COUNTDOWN.set(left - 1);
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
