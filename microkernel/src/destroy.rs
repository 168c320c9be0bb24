//! Deleting capabilities, and with the last one the object.
//!
//! CNodes, threads, timers and IRQ lines hold capabilities themselves, whose objects may hold
//! more. Instead of recursing, a container that dies is replaced in its slot by a *zombie*: it
//! remembers which inner slot comes next and which zombie to go back to. A zombie keeps its place in
//! the derivation list, so its memory cannot be retyped while it is being emptied, and the
//! walk needs no stack.

use abi::{Error, ObjType};

use crate::cap::{Cap, Slot, ZOMBIE};
use crate::thread::Tcb;
use crate::timer::Timer;
use crate::{Kernel, Obj, Platform, mdb};

/// Kinds of zombies: how to find their slots. Kinds up to 16 are CNodes of that radix.
const KIND_THREAD: u8 = 61;
const KIND_TIMER: u8 = 62;
const KIND_IRQ: u8 = 60;

impl<P: Platform> Kernel<P> {
    /// Empties `slot`; destroys the object if this was its last capability.
    pub fn delete(&mut self, slot: Obj<Slot>) {
        let Some(mut at) = self.delete_one(slot, None) else { return };
        loop {
            let zombie = at.cap();
            let (parent, next) = (zombie.data() >> 16, zombie.data() & 0xffff);
            let inner = self.zombie_slot(zombie, next);
            // Zombies inside are ancestors of this walk (a CNode may hold itself): they go on when
            // the walk comes back to them.
            if inner != at
                && inner.cap().raw_type() != ZOMBIE
                && let Some(deeper) = self.delete_one(inner, Some(at))
            {
                at = deeper;
                continue;
            }
            if next > 0 {
                at.set_cap(Cap::zombie(zombie.addr(), zombie.size_bits(), parent, next as u16 - 1));
                continue;
            }
            mdb::remove(at);
            if parent == 0 {
                return;
            }
            // SAFETY: the zombie of an outer container waits in its slot until we come back.
            at = unsafe { Obj::from_phys(parent) };
        }
    }

    /// Empties `slot`, or turns it into a zombie (returned) if its object has inner slots.
    fn delete_one(&mut self, slot: Obj<Slot>, parent: Option<Obj<Slot>>) -> Option<Obj<Slot>> {
        let cap = slot.cap();
        if cap.is_null() {
            return None;
        }
        self.release_mapping(cap);
        if mdb::is_final(slot)
            && let Some((kind, slots)) = self.destroy(cap)
        {
            let parent = parent.map_or(0, Obj::phys);
            slot.set_cap(Cap::zombie(cap.addr(), kind, parent, (slots - 1) as u16));
            return Some(slot);
        }
        mdb::remove(slot);
        None
    }

    /// Ends an object. Returns the zombie kind and number of slots of a container.
    fn destroy(&mut self, cap: Cap) -> Option<(u8, u64)> {
        match cap.ty()? {
            ObjType::CNode => return Some((cap.size_bits(), 1 << cap.size_bits())),
            ObjType::Thread => {
                self.end_thread(cap.thread()?);
                return Some((KIND_THREAD, Tcb::SLOTS as u64));
            }
            ObjType::Timer => {
                self.timer_cancel(cap.timer()?);
                return Some((KIND_TIMER, 1));
            }
            ObjType::IrqHandler => {
                self.irq_stop(cap.addr());
                return Some((KIND_IRQ, 1));
            }
            ObjType::Endpoint => self.cancel_all(cap.endpoint()?, Error::Cancelled),
            ObjType::Notification => self.end_notification(cap.notification()?),
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

    fn zombie_slot(&self, zombie: Cap, index: u64) -> Obj<Slot> {
        match zombie.size_bits() {
            // SAFETY: the zombie keeps the object's memory from being reused (see above).
            KIND_THREAD => unsafe { Obj::<Tcb>::from_phys(zombie.addr()) }.slot(index as usize),
            // SAFETY: as above.
            KIND_TIMER => Obj::of(&unsafe { Obj::<Timer>::from_phys(zombie.addr()) }.target),
            KIND_IRQ => Obj::of(self.irqs[zombie.addr() as usize].slot()),
            // SAFETY: as above; `index` counts down from the last slot.
            _ => unsafe { Obj::from_phys(zombie.addr() + index * size_of::<Slot>() as u64) },
        }
    }
}
