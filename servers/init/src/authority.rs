//! Who holds what: init holds every CNode and thread, and asks the kernel what is in them.

use abi::{CPtr, Label, thread_slot};
use libipc::authority::{Page, Place, Purpose};
use libipc::proc::Reply;

use crate::kernel::Kernel;
use crate::layout::ROOT;
use crate::supervisor::Supervisor;

impl Supervisor<'_> {
    /// What is held in `place`, from slot `from` on. Of a process that does not run: nothing.
    pub(crate) fn authority<K: Kernel>(&self, k: &mut K, place: Place, from: u32) -> Reply {
        let life = |n: u16| {
            let p = self.processes.get(n as usize).filter(|p| p.is_running())?;
            Some(p.parts.as_ref()?.slots)
        };
        let mut page = Page { caps: Default::default(), next: None };
        match place {
            Place::Init => {
                let purpose = |slot| self.purposes.of(slot);
                fill(k, &mut page, ROOT, from, purpose);
            }
            Place::CNode(n) => {
                if let Some(slots) = life(n) {
                    fill(k, &mut page, slots.cnode, from, |_| Purpose::Own);
                }
            }
            Place::Thread(n) => {
                for which in life(n).map_or(0..0, |_| from as u64..thread_slot::SCHED + 1) {
                    let thread = life(n).map_or(0, |slots| slots.thread);
                    let told = k.invoke(thread, Label::ThreadInspect, [which, 0, 0, 0], [0; 2]);
                    if let Ok([head, object, data, link]) = told
                        && head != 0
                    {
                        // There is room for all that a thread holds.
                        let words = [head | which << 32, object, data, link];
                        let _ = page.caps.push((Purpose::Own, words));
                    }
                }
            }
        }
        Reply::Authority(page)
    }
}

/// Fills a page with what is in a CNode from a slot on.
fn fill<K: Kernel>(
    k: &mut K,
    page: &mut Page,
    cnode: CPtr,
    from: u32,
    purpose: impl Fn(u64) -> Purpose,
) {
    let mut at = from as u64;
    // It fails behind the last slot.
    while let Ok(words) = k.invoke(cnode, Label::CNodeInspect, [at, 0, 0, 0], [0; 2]) {
        at = words[0] >> 32;
        if words[0] & 0xff == 0 {
            continue;
        }
        if page.caps.push((purpose(at), words)).is_err() {
            page.next = Some(at as u32);
            return;
        }
        at += 1;
    }
}
