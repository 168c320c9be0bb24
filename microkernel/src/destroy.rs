//! Deleting capabilities, and with the last one the object; one step after the other, so that it
//! can stop between any two ([`crate::preempt`]) and be taken up by whoever comes next.
//!
//! Everything that is not done yet stands in zombies ([`crate::zombie`]), and zombies are in the
//! derivation list. So it does not matter who takes the next step: the thread that began, another one that
//! deletes the same slot or the container around it, or a revocation of the memory below, after
//! the thread that began was killed.

use abi::{Error, ObjType};

use crate::cap::{BURIED, Cap, Slot, ZOMBIE};
use crate::ipc::Endpoint;
use crate::notification::Notification;
use crate::preempt::{Preempted, Stop, WAKE};
use crate::thread::Tcb;
use crate::zombie::{self, is_zombie};
use crate::{Kernel, Obj, Platform, mdb};

/// Empty slots that are passed in one step.
const RUN: u16 = 32;
/// Instructions, about, of that and for each of them, and of moving a zombie. (All costs were
/// measured with the loads of `longest`, at the optimisation that the kernel is built with.)
const PASS: (u32, u32) = (60, 11);
const MOVE: u32 = 350;

/// Of emptying a slot.
fn cost(cap: Cap) -> u32 {
    match cap.ty() {
        Some(ObjType::PageTable) => 1500,
        Some(ObjType::Thread) => 550,
        Some(ObjType::Frame) => 600,
        Some(ObjType::Timer | ObjType::SchedContext) => 450,
        _ => 380,
    }
}

impl<P: Platform> Kernel<P> {
    /// Empties `slot`; destroys the object if this was its last capability.
    ///
    /// # Errors
    /// [`Preempted`]: call it again.
    pub fn delete(&mut self, slot: Obj<Slot>) -> Result<(), Preempted> {
        while !self.step(slot)? {}
        Ok(())
    }

    /// Takes a step towards an empty slot. `Ok(true)`: it is.
    fn step(&mut self, slot: Obj<Slot>) -> Result<bool, Preempted> {
        match slot.cap().raw_type() {
            // What was buried on its behalf comes first.
            ZOMBIE => match zombie::next(slot) {
                Some(first) => self.step_zombie(first).map(|_| false),
                None => self.step_zombie(slot),
            },
            BURIED => self.step_zombie(slot),
            _ => self.drop_cap(slot),
        }
    }

    /// Empties a slot that holds no zombie, or leaves one there.
    fn drop_cap(&mut self, slot: Obj<Slot>) -> Result<bool, Preempted> {
        if slot.is_empty() {
            return Ok(true);
        }
        self.work(cost(slot.cap()))?;
        Ok(self.drop_now(slot))
    }

    /// The same without a preemption point; `false`: a zombie is left.
    fn drop_now(&mut self, slot: Obj<Slot>) -> bool {
        let cap = slot.cap();
        self.release_mapping(cap);
        if mdb::is_final(slot)
            && let Some(kind) = self.destroy(cap)
        {
            slot.set_cap(Cap::zombie(cap.addr(), kind, zombie::last_slot(kind)));
            return false;
        }
        mdb::remove(slot);
        true
    }

    /// Puts copies of these capabilities into the inner slots of `target`, or nothing, in one part: `by`, which
    /// asked for it, may be `target`, and would be restarted in another address space or CSpace.
    ///
    /// # Errors
    /// [`Error::Busy`]: `by` would give up the last capability to its own CSpace. Before anything
    /// else is changed, [`Stop::Preempted`]: something in the slots has to be emptied first.
    pub(crate) fn set_slots(
        &mut self,
        by: Obj<Tcb>,
        target: Obj<Tcb>,
        sources: [Option<Obj<Slot>>; 4],
    ) -> Result<(), Stop> {
        for inner in (0..sources.len()).map(|i| target.slot(i)) {
            let cap = inner.cap();
            let long = match cap.ty() {
                Some(ObjType::CNode) => mdb::is_final(inner),
                Some(ObjType::Endpoint) => {
                    mdb::is_final(inner) && cap.endpoint().is_some_and(|e| e.is_waited_on())
                }
                _ => is_zombie(cap),
            };
            if long {
                if by == target && inner == target.cspace() {
                    return Err(Error::Busy.into());
                }
                self.delete(inner)?;
                // Whatever went with it: look at everything anew.
                return Err(Stop::Preempted);
            }
        }
        for (i, source) in sources.into_iter().enumerate() {
            let inner = target.slot(i);
            if !inner.is_empty() {
                self.drop_now(inner);
            }
            if let Some(s) = source {
                let cap = s.cap();
                let cap = if cap.is(ObjType::Frame) { cap.with_data(0) } else { cap };
                mdb::insert(cap, s, inner, false);
            }
        }
        self.cpu.reschedule = true;
        Ok(())
    }

    /// Takes a step towards the end of the zombie in `slot`. `Ok(true)`: it is gone.
    fn step_zombie(&mut self, slot: Obj<Slot>) -> Result<bool, Preempted> {
        let cap = slot.cap();
        let emptied = match cap.size_bits() {
            zombie::ENDPOINT => {
                self.work(WAKE)?;
                // SAFETY: the zombie keeps the endpoint's memory.
                let ep = unsafe { Obj::<Endpoint>::from_phys(cap.addr()) };
                !self.cancel_first(ep, Error::Cancelled)
            }
            zombie::NOTIFICATION => {
                self.work(WAKE)?;
                // SAFETY: as above.
                let ntfn = unsafe { Obj::<Notification>::from_phys(cap.addr()) };
                !self.cancel_first_wait(ntfn)
            }
            _ => self.step_inner(slot)?,
        };
        if emptied {
            if cap.raw_type() == BURIED {
                zombie::unlink(slot);
            } else if cap.size_bits() == zombie::IRQ {
                self.irq_release(cap.addr());
            }
            mdb::remove(slot);
        }
        Ok(emptied)
    }

    /// Takes a step towards an empty container. `Ok(true)`: it is, and nothing is in its list.
    fn step_inner(&mut self, slot: Obj<Slot>) -> Result<bool, Preempted> {
        let index = zombie::index(slot.cap());
        let inner = zombie::inner_slot(slot, &self.irqs, index);
        if zombie::passes(slot, inner) {
            let most = index.min(RUN);
            let filled = (1..=most).find(|n| !zombie::passes(slot, inner.before(*n)));
            let passed = filled.unwrap_or(most);
            self.work(PASS.0 + PASS.1 * passed as u32)?;
            zombie::set_index(slot, index - passed);
            let listed = slot.cap().raw_type() == ZOMBIE && zombie::next(slot).is_some();
            return Ok(index == 0 && !listed);
        }
        let cap = inner.cap();
        if !is_zombie(cap) {
            self.drop_cap(inner)?;
        } else if !zombie::is_deep(cap.size_bits()) {
            // At most a timer or an interrupt line, in it a notification, in that a queue.
            self.step_zombie(inner)?;
        } else {
            self.work(MOVE)?;
            if !zombie::take_over(inner, slot) {
                let place = zombie::inner_slot(inner, &self.irqs, zombie::index(cap));
                zombie::bury(inner, place, slot);
            }
        }
        Ok(false)
    }

    /// Ends an object. Returns the kind of zombie to leave if it has to be emptied.
    fn destroy(&mut self, cap: Cap) -> Option<u8> {
        match cap.ty()? {
            ObjType::CNode => return Some(cap.size_bits()),
            ObjType::Thread => {
                self.end_thread(cap.thread()?);
                return Some(zombie::THREAD);
            }
            ObjType::Timer => {
                self.timer_cancel(cap.timer()?);
                return Some(zombie::TIMER);
            }
            ObjType::IrqHandler => {
                self.hw.irq_mask(cap.addr() as u32, true);
                return Some(zombie::IRQ);
            }
            ObjType::Endpoint => return cap.endpoint()?.is_waited_on().then_some(zombie::ENDPOINT),
            ObjType::Notification => {
                let waited_on = self.end_notification(cap.notification()?);
                return waited_on.then_some(zombie::NOTIFICATION);
            }
            ObjType::Reply => self.end_reply(cap.reply()?),
            ObjType::SchedContext => self.unbind(cap.sched_context()?),
            ObjType::VSpace => self.end_vspace(cap),
            ObjType::IoSpace => self.end_iospace(cap),
            // Mapped ones were unmapped by `release_mapping`; the rest have no state.
            ObjType::PageTable
            | ObjType::Frame
            | ObjType::Untyped
            | ObjType::IoPort
            | ObjType::IoControl
            | ObjType::IrqControl
            | ObjType::Trace => {}
        }
        None
    }

    /// Undoes the mapping that a frame or page-table capability made.
    fn release_mapping(&mut self, cap: Cap) {
        match cap.ty() {
            Some(ObjType::Frame) => self.unmap_frame(cap),
            Some(ObjType::PageTable) => self.unmap_table(cap),
            _ => {}
        }
    }
}
