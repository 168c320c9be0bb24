//! The time of day. How long something takes is measured with [`crate::runtime::Instant`].

use core::time::Duration;
pub use libipc::time::Date;

use crate::runtime::Runtime;

/// The beginning of 1970, UTC.
pub const UNIX_EPOCH: SystemTime = SystemTime(Duration::ZERO);

/// A moment on the calendar, as the machine's own clock had it at boot (to half a second), carried
/// on by the processor's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SystemTime(Duration);

impl SystemTime {
    /// Now. `None`: the machine has no clock that makes sense.
    pub fn now(rt: &Runtime) -> Option<Self> {
        let at_boot = rt.info()?.utc_at_boot?;
        Some(Self(Duration::from_nanos(at_boot) + Duration::from_nanos(rt.now().0)))
    }
    /// Time since `earlier`; `None` if that is later.
    pub fn duration_since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0)
    }
    /// Whole seconds since [`UNIX_EPOCH`].
    pub fn unix_seconds(self) -> u64 {
        self.0.as_secs()
    }
    /// Its date, UTC.
    pub fn date(self) -> Date {
        Date::from_unix(self.unix_seconds())
    }
}
