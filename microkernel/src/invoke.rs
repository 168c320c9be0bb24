//! Methods of kernel objects: each is checked completely, then carried out.

use abi::{Error, Label, MapAttr, ObjType, PAGE_BITS, Rights, UserRegs, ipc_buffer};

use crate::cap::{Cap, Slot};
use crate::preempt::Stop;
use crate::thread::{Tcb, entered_by};
use crate::trace::event;
use crate::{Kernel, Obj, Platform, cspace, mdb, obj, untyped};

/// Words 0 and 1 of the answer.
type Answer = Result<[u64; 2], Stop>;

/// Arguments of an invocation: words 0 to 5.
struct Args {
    w: [u64; 6],
}

fn byte(v: u64) -> Result<u8, Error> {
    u8::try_from(v).map_err(|_| Error::Range)
}

fn rights(v: u64) -> Result<Rights, Error> {
    Rights::from_bits(byte(v)?).ok_or(Error::Range)
}

/// An optional capability argument: 0 is none, others must be of type `ty`.
fn optional(t: &Tcb, cptr: u64, ty: ObjType) -> Result<Option<Obj<Slot>>, Error> {
    if cptr == 0 { Ok(None) } else { required(t, cptr, ty).map(Some) }
}

fn required(t: &Tcb, cptr: u64, ty: ObjType) -> Result<Obj<Slot>, Error> {
    let slot = cspace::lookup_slot(t, cptr)?;
    if slot.cap().is(ty) { Ok(slot) } else { Err(Error::WrongType) }
}

impl<P: Platform> Kernel<P> {
    /// Carries out `label` on the capability in `slot`, with the arguments in `t`'s registers.
    pub(crate) fn invoke(&mut self, t: Obj<Tcb>, slot: Obj<Slot>, label: Label) -> Answer {
        let r = t.regs.get();
        let args = Args { w: [r.rdx, r.r10, r.r8, r.r9, r.r12, r.r13] };
        match slot.cap().ty() {
            Some(ObjType::Untyped) => self.invoke_untyped(t, slot, label, &args),
            Some(ObjType::CNode) => self.invoke_cnode(t, slot.cap(), label, &args),
            Some(ObjType::Thread) => self.invoke_thread(t, slot, label, &args),
            Some(ObjType::SchedContext) => self.invoke_sched(t, slot.cap(), label, &args),
            Some(ObjType::Frame) => self.invoke_frame(t, slot, label, &args),
            Some(ObjType::PageTable) => self.invoke_table(t, slot, label, &args),
            Some(ObjType::IrqControl) => self.invoke_irq_control(t, slot, label, &args),
            Some(ObjType::IrqHandler) => self.invoke_irq(t, slot.cap(), label, &args),
            Some(ObjType::IoPort) => self.invoke_port(slot.cap(), label, &args),
            Some(ObjType::Timer) => self.invoke_timer(t, slot.cap(), label, &args),
            Some(ObjType::Trace) => Ok(self.invoke_trace(t, slot.cap(), label, &args.w)?),
            Some(ObjType::IoControl) => self.invoke_io_control(t, label, &args),
            _ => Err(Error::WrongType.into()),
        }
    }

    fn invoke_untyped(&mut self, t: Obj<Tcb>, slot: Obj<Slot>, label: Label, a: &Args) -> Answer {
        match label {
            Label::UntypedRetype => {
                let [ty, size_bits, cnode, index, count, offset] = a.w;
                let cnode = cspace::lookup_cap(&t, cnode)?;
                let numbered = match ObjType::from_raw(ty) {
                    Some(ObjType::VSpace) => Some(self.new_asid()),
                    Some(ObjType::IoSpace) => Some(self.new_domain()),
                    _ => None,
                };
                if numbered.is_some() && count != 1 {
                    return Err(Error::Range.into());
                }
                let number = numbered.map(|n| n.ok_or(Error::NoMemory)).transpose()?;
                let retype = untyped::decode(slot, ty, size_bits, cnode, index, count, offset)?;
                self.retype(retype)?;
                if let (Some(new), Some(number)) = (cnode.cnode_slot(index), number) {
                    let cap = new.cap();
                    match cap.is(ObjType::VSpace) {
                        true => self.new_vspace(cap.addr(), number),
                        false => new.set_cap(self.new_iospace(cap, number)),
                    }
                }
                Ok([0; 2])
            }
            Label::UntypedInfo => {
                let (free, bits) = untyped::info(slot);
                Ok([free, bits])
            }
            _ => Err(Error::WrongType.into()),
        }
    }

    fn invoke_cnode(&mut self, t: Obj<Tcb>, cnode: Cap, label: Label, a: &Args) -> Answer {
        let dest = cnode.cnode_slot(a.w[0]).ok_or(Error::Range)?;
        let source = || {
            let from = cspace::lookup_cap(&t, a.w[1])?;
            if !from.is(ObjType::CNode) {
                return Err(Error::WrongType);
            }
            let slot = from.cnode_slot(a.w[2]).ok_or(Error::Range)?;
            if slot.is_empty() { Err(Error::InvalidCap) } else { Ok(slot) }
        };
        match label {
            Label::CNodeInspect => return Ok(told(t, self.inspect_cnode(cnode, a.w[0]))),
            Label::CNodeCopy => cspace::copy(source()?, dest, rights(a.w[3])?, None)?,
            Label::CNodeMint => cspace::copy(source()?, dest, rights(a.w[3])?, Some(a.w[4]))?,
            Label::CNodeMove => cspace::move_cap(source()?, dest)?,
            Label::CNodeDelete => self.delete(dest)?,
            Label::CNodeRevoke => self.revoke(dest)?,
            Label::CNodeCloseEndpoint => {
                let ep = dest.cap().endpoint().ok_or(Error::WrongType)?;
                // Not the right of whoever may only send to it.
                if dest.cap().data() != 0 || !dest.cap().rights().contains(Rights::READ) {
                    return Err(Error::NoRights.into());
                }
                self.close(ep)?;
            }
            _ => return Err(Error::WrongType.into()),
        }
        Ok([0; 2])
    }

    fn invoke_thread(&mut self, t: Obj<Tcb>, slot: Obj<Slot>, label: Label, a: &Args) -> Answer {
        let target = slot.cap().thread().ok_or(Error::WrongType)?;
        match label {
            Label::ThreadInspect => return Ok(told(t, self.inspect_thread(target, a.w[0])?)),
            Label::ThreadConfigure => {
                let cspace = required(&t, a.w[0], ObjType::CNode)?;
                let vspace = required(&t, a.w[1], ObjType::VSpace)?;
                let fault = optional(&t, a.w[2], ObjType::Endpoint)?;
                let buffer = optional(&t, a.w[3], ObjType::Frame)?;
                if buffer.is_some_and(|b| {
                    b.cap().size_bits() != PAGE_BITS
                        || b.cap().device()
                        || !b.cap().rights().contains(Rights::READ | Rights::WRITE)
                }) {
                    return Err(Error::NoRights.into());
                }
                let sources = [Some(cspace), Some(vspace), fault, buffer];
                self.set_slots(t, target, sources)?;
            }
            Label::ThreadSetPriority => {
                let priority = byte(a.w[0])?;
                // Nobody makes threads more urgent than itself: an untyped gives no right to others' time.
                if priority > t.priority.get() {
                    return Err(Error::NoRights.into());
                }
                self.set_priority(target, priority);
            }
            Label::ThreadBindSched => {
                let sched = required(&t, a.w[0], ObjType::SchedContext)?.cap();
                let sched = sched.sched_context().ok_or(Error::WrongType)?;
                if a.w[1] > 1 {
                    return Err(Error::Range.into());
                }
                // Time is not for whoever has memory to make: it comes from who has all of it.
                if sched.is_unlimited() && !t.has_all_time() {
                    return Err(Error::NoRights.into());
                }
                self.bind(target, sched, a.w[1] == 1)?;
            }
            Label::ThreadBindNotification => {
                let ntfn = optional(&t, a.w[0], ObjType::Notification)?;
                let ntfn = match ntfn.map(|s| s.cap()) {
                    Some(c) if !c.rights().contains(Rights::READ) => {
                        return Err(Error::NoRights.into());
                    }
                    c => c.and_then(Cap::notification),
                };
                if ntfn.is_some_and(|n| n.bound.get().is_some()) {
                    return Err(Error::Busy.into());
                }
                if let Some(old) = target.bound.take() {
                    old.bound.set(None);
                }
                target.bound.set(ntfn);
                if let Some(n) = ntfn {
                    n.bound.set(Some(target));
                }
            }
            Label::ThreadSetTimeout => {
                let source = optional(&t, a.w[0], ObjType::Endpoint)?;
                let inner = target.timeout_endpoint();
                self.delete(inner)?;
                // What was deleted may have been the last capability to either.
                if let Some(s) = source.filter(|s| !s.is_empty())
                    && slot.cap().thread() == Some(target)
                {
                    mdb::insert(s.cap(), s, inner, false);
                }
            }
            Label::ThreadWriteRegisters => {
                if target == t {
                    return Err(Error::Busy.into());
                }
                let [rip, rsp, rdi, rsi, resume, _] = a.w;
                if rip >= abi::USER_END || rsp > abi::USER_END || resume > 1 {
                    return Err(Error::Range.into());
                }
                self.suspend(target);
                target.fault.set(None);
                target.regs.set(UserRegs { rip, rsp, rdi, rsi, ..user_regs() });
                target.entered_by.set(entered_by::OTHER);
                target.vectors_saved.set(0);
                if resume == 1 {
                    self.make_running(target);
                }
            }
            Label::ThreadReadRegisters => {
                let buffer = t.buffer_frame().ok_or(Error::NoBuffer)?;
                let regs = target.regs.get();
                let words = [
                    regs.rax,
                    regs.rbx,
                    regs.rcx,
                    regs.rdx,
                    regs.rsi,
                    regs.rdi,
                    regs.rbp,
                    regs.r8,
                    regs.r9,
                    regs.r10,
                    regs.r11,
                    regs.r12,
                    regs.r13,
                    regs.r14,
                    regs.r15,
                    regs.rip,
                    regs.cs,
                    regs.rflags,
                    regs.rsp,
                    regs.ss,
                ];
                for (i, w) in words.into_iter().enumerate() {
                    // SAFETY: inside the caller's IPC buffer frame.
                    unsafe { obj::write_word(buffer + (ipc_buffer::REGS + 8 * i) as u64, w) };
                }
            }
            Label::ThreadResume => self.resume(target),
            Label::ThreadSuspend => self.suspend(target),
            Label::ThreadSetFsBase => {
                if a.w[0] >= abi::USER_END {
                    return Err(Error::Range.into());
                }
                target.fs_base.set(a.w[0]);
                if target == t {
                    self.hw.load_segments(a.w[0]);
                }
            }
            Label::ThreadSetName => {
                target.trace_id.set(a.w[2] as u32);
                target.name.set([a.w[0], a.w[1]]);
                event!(self, trace_named(target));
            }
            _ => return Err(Error::WrongType.into()),
        }
        Ok([0; 2])
    }

    fn invoke_sched(&mut self, t: Obj<Tcb>, cap: Cap, label: Label, a: &Args) -> Answer {
        let sched = cap.sched_context().ok_or(Error::WrongType)?;
        match label {
            Label::SchedConfigure if !t.has_all_time() => return Err(Error::NoRights.into()),
            Label::SchedConfigure => self.configure(sched, a.w[0], a.w[1], a.w[2])?,
            Label::SchedUnbind => self.unbind(sched),
            Label::SchedConsumed => return Ok([self.consumed(sched), 0]),
            _ => return Err(Error::WrongType.into()),
        }
        Ok([0; 2])
    }

    fn invoke_frame(&mut self, t: Obj<Tcb>, slot: Obj<Slot>, label: Label, a: &Args) -> Answer {
        let cap = slot.cap();
        match label {
            Label::FrameMap => {
                let vspace = cspace::lookup_cap(&t, a.w[0])?;
                let attr = byte(a.w[3])?;
                let attr = MapAttr::from_bits(attr).ok_or(Error::Range)?;
                let map = self.decode_map(cap, vspace, a.w[1], rights(a.w[2])?, attr)?;
                slot.set_cap(cap.with_data(self.map(&map)));
                Ok([0; 2])
            }
            Label::FrameUnmap => {
                self.unmap_frame(cap);
                slot.set_cap(cap.with_data(0));
                Ok([0; 2])
            }
            Label::FrameAddress if cap.rights().contains(Rights::GRANT) => Ok([cap.addr(), 0]),
            Label::FrameAddress => Err(Error::NoRights.into()),
            _ => Err(Error::WrongType.into()),
        }
    }

    fn invoke_table(&mut self, t: Obj<Tcb>, slot: Obj<Slot>, label: Label, a: &Args) -> Answer {
        let cap = slot.cap();
        match label {
            Label::TableMap => {
                let vspace = cspace::lookup_cap(&t, a.w[0])?;
                let map = self.decode_map_table(cap, vspace, a.w[1])?;
                if map.io {
                    // The hardware is to find it empty.
                    self.hw.io_publish(cap.addr(), 1 << PAGE_BITS);
                }
                slot.set_cap(cap.with_size_bits(map.level).with_data(self.map(&map)));
                Ok([map.level as u64, 0])
            }
            Label::TableUnmap => {
                self.unmap_table(cap);
                slot.set_cap(cap.with_data(0));
                Ok([0; 2])
            }
            _ => Err(Error::WrongType.into()),
        }
    }

    fn invoke_irq_control(
        &mut self,
        t: Obj<Tcb>,
        slot: Obj<Slot>,
        label: Label,
        a: &Args,
    ) -> Answer {
        if label != Label::IrqGet {
            return Err(Error::WrongType.into());
        }
        let cnode = required(&t, a.w[2], ObjType::CNode)?.cap();
        let dest = cnode.cnode_slot(a.w[3]).ok_or(Error::Range)?;
        if !dest.is_empty() {
            return Err(Error::Occupied.into());
        }
        self.irq_get(slot, a.w[0], a.w[1], dest)?;
        Ok([0; 2])
    }

    fn invoke_irq(&mut self, t: Obj<Tcb>, cap: Cap, label: Label, a: &Args) -> Answer {
        match label {
            Label::IrqAck => {
                event!(self, trace_irq_ack(cap.addr()));
                self.irq_ack(cap.addr());
            }
            // Where the interrupt goes is for its owner to say, not for every driver that serves it.
            _ if !cap.rights().contains(Rights::GRANT) => return Err(Error::NoRights.into()),
            Label::IrqSetNotification => self.irq_bind(cap.addr(), signal_cap(&t, a.w[0])?)?,
            Label::IrqClear => self.irq_clear(cap.addr())?,
            _ => return Err(Error::WrongType.into()),
        }
        Ok([0; 2])
    }

    fn invoke_port(&mut self, cap: Cap, label: Label, a: &Args) -> Answer {
        let (first, last) = (cap.data() >> 16, cap.data() & 0xffff);
        let (port, bytes) = (a.w[0], byte(a.w[1])?);
        if !matches!(bytes, 1 | 2 | 4) || port < first || port > last {
            return Err(Error::Range.into());
        }
        if last - port < bytes as u64 - 1 {
            return Err(Error::Range.into());
        }
        match label {
            Label::PortIn => Ok([self.hw.port_in(port as u16, bytes) as u64, 0]),
            Label::PortOut => {
                self.hw.port_out(port as u16, bytes, a.w[2] as u32);
                Ok([0; 2])
            }
            _ => Err(Error::WrongType.into()),
        }
    }

    fn invoke_io_control(&mut self, t: Obj<Tcb>, label: Label, a: &Args) -> Answer {
        match label {
            Label::IoBind => {
                let iospace = required(&t, a.w[0], ObjType::IoSpace)?.cap();
                let device = u16::try_from(a.w[1]).map_err(|_| Error::Range)?;
                self.io_bind(iospace, device)?;
                Ok([0; 2])
            }
            Label::IoFault => {
                let f = self.hw.io_fault().ok_or(Error::WouldBlock)?;
                let (write, lost) = (f.write as u64, f.lost as u64);
                let what = f.device as u64 | (f.reason as u64) << 16 | write << 24 | lost << 25;
                Ok([f.address, what])
            }
            _ => Err(Error::WrongType.into()),
        }
    }

    fn invoke_timer(&mut self, t: Obj<Tcb>, cap: Cap, label: Label, a: &Args) -> Answer {
        let timer = cap.timer().ok_or(Error::WrongType)?;
        match label {
            Label::TimerSetNotification => self.timer_bind(timer, signal_cap(&t, a.w[0])?)?,
            Label::TimerArm => self.timer_arm(timer, a.w[0]),
            Label::TimerCancel => self.timer_cancel(timer),
            _ => return Err(Error::WrongType.into()),
        }
        Ok([0; 2])
    }
}

/// Four words of an answer: the last two go straight into the caller's registers.
fn told(t: Obj<Tcb>, words: [u64; 4]) -> [u64; 2] {
    t.with_regs(|r| (r.r8, r.r9) = (words[2], words[3]));
    [words[0], words[1]]
}

/// A notification capability that may be signalled.
fn signal_cap(t: &Tcb, cptr: u64) -> Result<Obj<Slot>, Error> {
    let slot = required(t, cptr, ObjType::Notification)?;
    if slot.cap().rights().contains(Rights::WRITE) { Ok(slot) } else { Err(Error::NoRights) }
}

/// Registers of a fresh thread: interrupts on, user segments.
pub fn user_regs() -> UserRegs {
    UserRegs { cs: 0x23, ss: 0x1b, rflags: 0x202, ..UserRegs::default() }
}
