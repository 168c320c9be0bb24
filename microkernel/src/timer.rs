//! One-shot timers.

use crate::cap::Slot;
use crate::heap::Event;
use crate::preempt::Preempted;
use crate::trace::event;
use crate::{Kernel, Obj, Platform, mdb};

/// A timer.
#[repr(C)]
pub struct Timer {
    /// Notification to signal.
    pub(crate) target: Slot,
    event: Event,
}

const _: () = assert!(size_of::<Timer>() <= 128);

impl<P: Platform> Kernel<P> {
    /// Arms `t` for `deadline` (ns since boot).
    pub(crate) fn timer_arm(&mut self, t: Obj<Timer>, deadline: u64) {
        self.timer_cancel(t);
        if deadline <= self.hw.now() {
            return self.timer_fire(t);
        }
        t.event.timer.set(Some(t));
        self.events.insert(Obj::of(&t.event), deadline);
        self.arm(deadline);
    }

    /// Disarms `t`.
    pub(crate) fn timer_cancel(&mut self, t: Obj<Timer>) {
        self.events.remove(Obj::of(&t.event));
    }

    /// Names the notification that `t` signals.
    ///
    /// # Errors
    /// [`Preempted`]: call it again.
    pub(crate) fn timer_bind(&mut self, t: Obj<Timer>, source: Obj<Slot>) -> Result<(), Preempted> {
        let target = Obj::of(&t.target);
        self.delete(target)?;
        mdb::insert(source.cap(), source, target, false);
        Ok(())
    }

    pub(crate) fn timer_fire(&mut self, t: Obj<Timer>) {
        event!(self, trace_timer(t));
        let cap = t.target.cap();
        if let Some(ntfn) = cap.notification() {
            self.signal(ntfn, cap.data());
        }
    }
}
