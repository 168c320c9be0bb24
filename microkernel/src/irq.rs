//! Interrupts as notifications.
//!
//! A level-triggered line is masked when it fires and unmasked by the acknowledgement. An
//! edge-triggered one is not masked (an edge while masked would be lost); what fires before the
//! acknowledgement is remembered and delivered with it.

use abi::{Error, ObjType};
use core::cell::Cell;

use crate::cap::{Cap, Slot};
use crate::preempt::Preempted;
use crate::trace::event;
use crate::{Kernel, Obj, Platform, mdb};

/// Interrupt lines (GSIs).
pub const LINES: usize = 64;

/// One line.
pub struct Irq {
    target: Slot,
    issued: Cell<bool>,
    level: Cell<bool>,
    unacknowledged: Cell<bool>,
    again: Cell<bool>,
}

impl Irq {
    pub(crate) const fn new() -> Self {
        Self {
            target: Slot::new(),
            issued: Cell::new(false),
            level: Cell::new(false),
            unacknowledged: Cell::new(false),
            again: Cell::new(false),
        }
    }
    pub(crate) fn slot(&self) -> &Slot {
        &self.target
    }
}

impl<P: Platform> Kernel<P> {
    /// Makes the handler of line `gsi` in `dest`.
    pub(crate) fn irq_get(
        &mut self,
        control: Obj<Slot>,
        gsi: u64,
        flags: u64,
        dest: Obj<Slot>,
    ) -> Result<(), Error> {
        let irq = self.irqs.get(gsi as usize).ok_or(Error::Range)?;
        if irq.issued.get() {
            return Err(Error::Busy);
        }
        irq.issued.set(true);
        irq.level.set(flags & 1 != 0);
        self.hw.irq_configure(gsi as u32, flags & 1 != 0, flags & 2 != 0);
        mdb::insert(Cap::new(ObjType::IrqHandler, gsi, 0), control, dest, false);
        Ok(())
    }

    /// Sends line `gsi`'s interrupts to the notification in `source`, and unmasks it.
    pub(crate) fn irq_bind(&mut self, gsi: u64, source: Obj<Slot>) -> Result<(), Preempted> {
        let target = Obj::of(self.irqs[gsi as usize].slot());
        self.delete(target)?;
        mdb::insert(source.cap(), source, target, false);
        let irq = &self.irqs[gsi as usize];
        irq.unacknowledged.set(false);
        irq.again.set(false);
        self.hw.irq_mask(gsi as u32, false);
        Ok(())
    }

    /// Masks a line and forgets its notification.
    pub(crate) fn irq_clear(&mut self, gsi: u64) -> Result<(), Preempted> {
        self.hw.irq_mask(gsi as u32, true);
        let target = Obj::of(self.irqs[gsi as usize].slot());
        self.delete(target)
    }

    /// The handler's last capability and what the line held are gone: it may be given out again.
    pub(crate) fn irq_release(&mut self, gsi: u64) {
        self.irqs[gsi as usize].issued.set(false);
    }

    /// Line `gsi` fired.
    #[inline(always)]
    pub fn irq_fired(&mut self, gsi: u32) {
        let Some(irq) = self.irqs.get(gsi as usize) else { return };
        if irq.level.get() {
            self.hw.irq_mask(gsi, true);
        } else if irq.unacknowledged.replace(true) {
            irq.again.set(true);
            return;
        }
        let cap = irq.target.cap();
        event!(self, trace_irq(gsi, cap));
        if let Some(ntfn) = cap.notification() {
            self.signal_last(ntfn, cap.data());
        }
    }

    /// The handler is done with the interrupt. Says whether another one was waiting for that.
    #[inline(always)]
    pub(crate) fn irq_ack(&mut self, gsi: u64) -> bool {
        // (A capability names a line that exists; the mask says so to the compiler.)
        let irq = &self.irqs[gsi as usize % LINES];
        if irq.level.get() {
            // Nobody to tell: it stays masked.
            if !irq.target.is_empty() {
                self.hw.irq_mask(gsi as u32, false);
            }
            return false;
        }
        let again = irq.again.take();
        irq.unacknowledged.set(again);
        let cap = irq.target.cap();
        if let Some(ntfn) = cap.notification().filter(|_| again) {
            self.signal(ntfn, cap.data());
        }
        again
    }
}
