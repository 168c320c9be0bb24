//! The system-call entry, after the registers have been saved.

use abi::{Error, FaultKind, Label, MSG_MAX, MsgInfo, ObjType, Rights, Syscall};

use crate::cap::{Cap, Slot};
use crate::fault::Unhandled;
use crate::ipc::{Reply, SendMode};
use crate::preempt::{self, Stop};
use crate::thread::Tcb;
use crate::trace::event;
use crate::{Kernel, Obj, Platform, cspace};

impl<P: Platform> Kernel<P> {
    /// Handles the system call in the registers of the running thread `t`.
    ///
    /// # Errors
    /// [`Unhandled`]: the call does not exist, and nobody handles `t`'s faults.
    pub fn syscall(&mut self, t: Obj<Tcb>) -> Result<(), Unhandled> {
        let regs = t.regs.get();
        let Some(call) = Syscall::from_raw(regs.rax) else {
            return self.fault(t, FaultKind::Syscall, regs.rax, regs.rdi);
        };
        self.cpu.work = 0;
        match self.dispatch(t, call, regs.rdi, MsgInfo(regs.rsi), regs.r14) {
            Ok(()) => {}
            Err(Stop::Failed(e, _)) => t.set_result(Err(e)),
            Err(Stop::Preempted) => preempt::restart(t),
        }
        Ok(())
    }

    fn dispatch(
        &mut self,
        t: Obj<Tcb>,
        call: Syscall,
        cptr: u64,
        info: MsgInfo,
        second: u64,
    ) -> Result<(), Stop> {
        match call {
            Syscall::Call => self.sys_send(t, cptr, info, SendMode::Call),
            Syscall::Send => self.sys_send(t, cptr, info, SendMode::Blocking),
            Syscall::NbSend => self.sys_send(t, cptr, info, SendMode::NonBlocking),
            Syscall::Recv => Ok(self.sys_recv(t, cptr, second, true)?),
            Syscall::NbRecv => Ok(self.sys_recv(t, cptr, second, false)?),
            Syscall::Reply => {
                check_message(&t, info)?;
                let (reply, rights) = reply_cap(&t, cptr)?.ok_or(Error::InvalidCap)?;
                t.set_result(Ok(()));
                self.reply(t, reply, rights);
                self.lost_context(t);
                Ok(())
            }
            Syscall::ReplyRecv => {
                check_message(&t, info)?;
                // What is received on is checked first: a failed call has no effect.
                let source = cspace::lookup_cap(&t, cptr)?;
                if !source.is(ObjType::Endpoint) {
                    return Err(Error::WrongType.into());
                }
                if !source.rights().contains(Rights::READ) {
                    return Err(Error::NoRights.into());
                }
                let (reply, rights) = reply_cap(&t, second)?.ok_or(Error::InvalidCap)?;
                if reply.offered_by.get().is_some() {
                    return Err(Error::Busy.into());
                }
                self.reply(t, reply, rights);
                self.recv_on(t, source, Some(reply), true)?;
                // A signal brings no context.
                self.lost_context(t);
                Ok(())
            }
            Syscall::Yield => {
                t.set_result(Ok(()));
                self.yield_current();
                Ok(())
            }
            Syscall::SignalWait => {
                let target = cspace::lookup_cap(&t, cptr)?;
                let own = wait_cap(&t, second)?;
                let ntfn = target.notification().ok_or(Error::WrongType)?;
                if !target.rights().contains(Rights::WRITE) {
                    return Err(Error::NoRights.into());
                }
                self.signal(ntfn, target.data());
                Ok(self.recv_on(t, own, None, true)?)
            }
            Syscall::AckWait => {
                let irq = cspace::lookup_cap(&t, cptr)?;
                let own = wait_cap(&t, second)?;
                if !irq.is(ObjType::IrqHandler) {
                    return Err(Error::WrongType.into());
                }
                event!(self, trace_irq_ack(irq.addr()));
                self.irq_ack(irq.addr());
                Ok(self.recv_on(t, own, None, true)?)
            }
        }
    }

    fn sys_send(
        &mut self,
        t: Obj<Tcb>,
        cptr: u64,
        info: MsgInfo,
        mode: SendMode,
    ) -> Result<(), Stop> {
        let slot = cspace::lookup_slot(&t, cptr)?;
        let cap = slot.cap();
        if let Some(ep) = cap.endpoint() {
            if !cap.rights().contains(Rights::WRITE) {
                return Err(Error::NoRights.into());
            }
            check_message(&t, info)?;
            self.send(t, ep, cap.data(), cap.rights(), mode);
            return Ok(());
        }
        if let Some(ntfn) = cap.notification() {
            if !cap.rights().contains(Rights::WRITE) {
                return Err(Error::NoRights.into());
            }
            t.set_result(Ok(()));
            self.signal(ntfn, cap.data());
            return Ok(());
        }
        if mode != SendMode::Call {
            return Err(Error::WrongType.into());
        }
        self.invocation(t, slot, info);
        Ok(())
    }

    /// The method that `info` names, of the kernel object in `slot`.
    pub(crate) fn invocation(&mut self, t: Obj<Tcb>, slot: Obj<Slot>, info: MsgInfo) {
        self.cpu.work = 0;
        let label = if info.interface() == 0 { Label::from_raw(info.method()) } else { None };
        let result = match label {
            Some(label) => self.invoke(t, slot, label),
            None => Err(Error::WrongType.into()),
        };
        match result {
            Ok(words) => {
                t.with_regs(|r| (r.rax, r.rsi, r.rdx, r.r10) = (0, 0, words[0], words[1]));
            }
            Err(Stop::Failed(e, word)) => t.with_regs(|r| (r.rax, r.rdx) = (e as u64, word)),
            Err(Stop::Preempted) => preempt::restart(t),
        }
    }

    fn sys_recv(
        &mut self,
        t: Obj<Tcb>,
        cptr: u64,
        reply: u64,
        blocking: bool,
    ) -> Result<(), Error> {
        let cap = cspace::lookup_cap(&t, cptr)?;
        if !cap.rights().contains(Rights::READ) {
            return Err(Error::NoRights);
        }
        let reply = if cap.is(ObjType::Endpoint) { reply_cap(&t, reply)? } else { None };
        self.recv_on(t, cap, reply.map(|(r, _)| r), blocking)
    }

    fn recv_on(
        &mut self,
        t: Obj<Tcb>,
        cap: Cap,
        reply: Option<Obj<Reply>>,
        blocking: bool,
    ) -> Result<(), Error> {
        if let Some(ep) = cap.endpoint() {
            self.recv(t, ep, reply, blocking)
        } else if let Some(ntfn) = cap.notification() {
            self.wait(t, ntfn, blocking)
        } else {
            Err(Error::WrongType)
        }
    }
}

/// The reply object at `cptr`, with the capability's rights; 0 is none.
fn reply_cap(t: &Tcb, cptr: u64) -> Result<Option<(Obj<Reply>, Rights)>, Error> {
    if cptr == 0 {
        return Ok(None);
    }
    let cap = cspace::lookup_cap(t, cptr)?;
    cap.reply().map(|r| Some((r, cap.rights()))).ok_or(Error::WrongType)
}

/// The notification to wait on at `cptr`.
fn wait_cap(t: &Tcb, cptr: u64) -> Result<Cap, Error> {
    let cap = cspace::lookup_cap(t, cptr)?;
    if !cap.is(ObjType::Notification) {
        return Err(Error::WrongType);
    }
    if cap.rights().contains(Rights::READ) { Ok(cap) } else { Err(Error::NoRights) }
}

fn check_message(t: &Tcb, info: MsgInfo) -> Result<(), Error> {
    if info.len() > MSG_MAX {
        return Err(Error::Range);
    }
    if info.len() | info.caps() != 0 && t.buffer_frame().is_none() {
        return Err(Error::NoBuffer);
    }
    Ok(())
}
