//! Telling the holder of a CNode or thread what capabilities are in it: the truth about who holds
//! what, for pictures and checks.
//!
//! Nothing can be done with what is told. Objects are named by numbers that do not say where they
//! lie ([`Kernel::identity`]).

use abi::{CapInfo, Error, INSPECT_SLOTS, MapAttr, ObjType, thread_slot};

use crate::cap::{Cap, Slot};
use crate::thread::Tcb;
use crate::vspace::Entry;
use crate::{Kernel, Obj, Platform, untyped};

/// An empty slot.
const NOTHING: [u64; 4] = [0; 4];

impl<P: Platform> Kernel<P> {
    /// A number for the object at `phys` that stays the same as long as it lives and does not tell
    /// where that is: a permutation of all addresses, drawn at boot.
    #[inline(always)]
    pub(crate) fn identity(&self, phys: u64) -> u64 {
        // Multiplying by an odd number can be undone, so no two objects share a number. The upper
        // half, on which all bits have an influence, is what traces show.
        (phys ^ self.secret).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
    }

    /// The first capability in the slots from `index` on of a CNode, and where to look next if there
    /// is none in reach.
    pub(crate) fn inspect_cnode(&self, cnode: Cap, index: u64) -> [u64; 4] {
        let end = index + INSPECT_SLOTS;
        let near = (index..end).map_while(|i| Some((i, cnode.cnode_slot(i)?)));
        for (i, slot) in near {
            let words = self.describe(slot);
            if words != NOTHING {
                return [words[0] | i << 32, words[1], words[2], words[3]];
            }
        }
        [end << 32, 0, 0, 0]
    }

    /// One of the capabilities that a thread holds outside its CSpace.
    pub(crate) fn inspect_thread(&self, t: Obj<Tcb>, which: u64) -> Result<[u64; 4], Error> {
        let named = |ty: ObjType, phys: Option<u64>| match phys {
            Some(phys) => [ty as u64, self.identity(phys), 0, 0],
            None => NOTHING,
        };
        Ok(match which {
            thread_slot::BOUND => named(ObjType::Notification, t.bound.get().map(Obj::phys)),
            thread_slot::SCHED => named(ObjType::SchedContext, t.sched.get().map(Obj::phys)),
            i if i < Tcb::SLOTS as u64 => self.describe(t.slot(i as usize)),
            _ => return Err(Error::Range),
        })
    }

    /// The words of [`CapInfo`]; all zero for an empty slot, and for one that is being emptied.
    fn describe(&self, slot: Obj<Slot>) -> [u64; 4] {
        let cap = slot.cap();
        let Some(ty) = cap.ty() else { return NOTHING };
        let mut info = CapInfo {
            slot: 0,
            ty,
            size_bits: cap.size_bits(),
            rights: cap.rights(),
            device: cap.device(),
            write: false,
            attr: MapAttr::empty(),
            object: self.identity(cap.addr()),
            data: cap.data(),
            link: 0,
        };
        let mut signals = |target: Cap| {
            info.data = target.data();
            info.link = target.notification().map_or(0, |n| self.identity(n.phys()));
        };
        match ty {
            ObjType::Frame | ObjType::PageTable => {
                info.data = 0;
                if let Some((space, vaddr, entry)) = self.mapping_of(cap) {
                    let entry = Entry::from_bits_truncate(entry);
                    info.attr.set(MapAttr::EXEC, !entry.contains(Entry::NX));
                    info.attr.set(MapAttr::UNCACHED, entry.contains(Entry::PCD));
                    info.write = entry.contains(Entry::WRITE);
                    (info.data, info.link) = (vaddr, self.identity(space));
                }
            }
            ObjType::Untyped => {
                let (left, bits) = untyped::info(slot);
                info.data = (1 << bits) - left;
            }
            ObjType::Timer => {
                if let Some(timer) = cap.timer() {
                    signals(timer.target.cap());
                }
            }
            ObjType::IrqHandler => {
                if let Some(irq) = self.irqs.get(cap.addr() as usize) {
                    signals(irq.slot().cap());
                }
                info.object = cap.addr();
            }
            ObjType::CNode | ObjType::IoSpace | ObjType::VSpace => info.data = 0,
            ObjType::IrqControl | ObjType::IoPort | ObjType::IoControl | ObjType::Trace => {
                info.object = 0;
            }
            _ => {}
        }
        info.to_words()
    }
}
