//! The common cases of IPC, each in one straight line: a call to a server that waits and its reply to
//! a caller that waits, both without capabilities and with a payload of any length; a signal; a wait
//! for signals or messages; and the two pairs of signal, acknowledge and wait.
//!
//! They do what the general path does (a test runs both side by side), but hand the processor to
//! the other thread directly: who is switched to does not pass through a ready queue, and nobody
//! else is considered, which is right as long as no ready thread is more urgent. Whatever does not
//! fit goes the general way, from the start: nothing is changed before the last check.

use abi::{CPtr, MSG_MAX, MsgInfo, ObjType, Rights, Syscall};

use crate::cap::Cap;
use crate::ipc::{Endpoint, Reply};
use crate::notification::Notification;
use crate::thread::{State, Tcb};
use crate::{Kernel, Obj, Platform, cspace, obj};

/// A message that has been handed over: who runs now, and the badge that it gets. Information word
/// and message words are still in the registers of the sender; the entry code carries them from
/// there to the processor's registers, where [`Handover::apply`] would put them.
#[repr(C)]
pub struct Handover {
    /// Who received it; `None`: nothing happened.
    pub to: Option<Obj<Tcb>>,
    /// Badge of the sender; 0 for a reply.
    pub badge: u64,
}

impl Handover {
    /// Not a common case.
    pub const NONE: Self = Self { to: None, badge: 0 };

    /// Does in the receiver's saved registers what the entry code does in the processor's.
    fn apply(self, from: &Tcb) -> Option<()> {
        let r = from.regs.get();
        self.to?.with_regs(|w| {
            (w.rax, w.rdi, w.rsi) = (0, self.badge, r.rsi & !MsgInfo::KERNEL_BITS);
            (w.rdx, w.r10, w.r8, w.r9) = (r.rdx, r.r10, r.r8, r.r9);
        });
        Some(())
    }
}

/// The capability at `cptr` of a flat CSpace.
#[inline(always)]
fn flat(t: &Tcb, cptr: CPtr) -> Option<Cap> {
    let slot = if cptr == 0 { None } else { cspace::flat(t.cspace().cap(), cptr) };
    slot.map(|s| s.cap())
}

/// The notification at `cptr` and its badge, if the capability has these rights.
#[inline(always)]
fn notification(t: &Tcb, cptr: CPtr, rights: Rights) -> Option<(Obj<Notification>, u64)> {
    let cap = flat(t, cptr)?;
    cap.notification().filter(|_| cap.rights().contains(rights)).map(|n| (n, cap.data()))
}

/// Whether a message needs nothing but its payload copied; its length.
#[inline(always)]
fn plain(info: u64, from: &Tcb, to: &Tcb) -> Option<usize> {
    let info = MsgInfo(info);
    if info.is_empty() && info.caps() == 0 {
        return Some(0);
    }
    let fits = info.caps() == 0 && info.len() <= MSG_MAX;
    let buffers = !(from.buffer().is_empty() || to.buffer().is_empty());
    (fits && buffers).then_some(info.len())
}

/// Copies a payload.
#[inline(always)]
fn copy(len: usize, from: &Tcb, to: &Tcb) {
    if len != 0 {
        let (source, dest) = (from.buffer().cap().addr(), to.buffer().cap().addr());
        // SAFETY: the IPC buffer frames of live threads; the payload area lies inside.
        unsafe {
            obj::copy_payload(source, dest, len);
            obj::write_word(dest + abi::ipc_buffer::RECEIVED as u64, 0);
        }
    }
}

impl<P: Platform> Kernel<P> {
    /// Tries the fast path for the system call of `t`; `false`: nothing happened. The entry code
    /// calls the parts.
    pub fn fast_path(&mut self, t: Obj<Tcb>) -> bool {
        let r = t.regs.get();
        match Syscall::from_raw(r.rax) {
            Some(Syscall::Call) => self.fast_call(t, r.rdi, r.rsi).apply(&t).is_some(),
            Some(Syscall::ReplyRecv) => {
                self.fast_reply_recv(t, r.rdi, r.rsi, r.r14).apply(&t).is_some()
            }
            Some(call) => self.fast_other(t, call),
            None => false,
        }
    }

    /// A call to a server that waits.
    #[inline(always)]
    pub fn fast_call(&mut self, t: Obj<Tcb>, cptr: CPtr, info: u64) -> Handover {
        let done = self.try_call(t, cptr, info).unwrap_or(Handover::NONE);
        if self.cpu.tracing { self.traced(t, Syscall::Call, done) } else { done }
    }

    #[inline(always)]
    fn try_call(&mut self, t: Obj<Tcb>, cptr: CPtr, info: u64) -> Option<Handover> {
        let cap = flat(&t, cptr)?;
        let ep = cap.endpoint().filter(|_| cap.rights().contains(Rights::WRITE))?;
        let server = ep.waiting_receiver()?;
        let reply = server.reply.get()?;
        let len = plain(info, &t, &server)?;
        self.may_switch(server)?;

        ep.take_receiver(server);
        server.endpoint.set(None);
        server.reply.set(None);
        reply.offered_by.set(None);
        reply.caller.set(Some(t));
        t.reply.set(Some(reply));
        t.state.set(State::AwaitingReply);
        copy(len, &t, &server);
        self.switch(server);
        Some(Handover { to: Some(server), badge: cap.data() })
    }

    /// A reply to a caller that waits, by a server that has nothing else to receive.
    #[inline(always)]
    pub fn fast_reply_recv(&mut self, t: Obj<Tcb>, ep: CPtr, info: u64, reply: CPtr) -> Handover {
        let done = self.try_reply_recv(t, ep, info, reply).unwrap_or(Handover::NONE);
        if self.cpu.tracing { self.traced(t, Syscall::ReplyRecv, done) } else { done }
    }

    #[inline(always)]
    fn try_reply_recv(
        &mut self,
        t: Obj<Tcb>,
        ep: CPtr,
        info: u64,
        reply: CPtr,
    ) -> Option<Handover> {
        let cap = flat(&t, ep)?;
        let ep: Obj<Endpoint> = cap.endpoint().filter(|_| cap.rights().contains(Rights::READ))?;
        let reply: Obj<Reply> = flat(&t, reply)?.reply()?;
        let caller = reply.caller.get().filter(|c| c.fault.get().is_none())?;
        let len = plain(info, &t, &caller)?;
        // Nothing to receive now: neither a message nor a signal.
        let waits =
            !t.borrows.get() && !ep.has_senders() && !t.bound.get().is_some_and(|n| n.is_active());
        if !waits || reply.offered_by.get().is_some() {
            return None;
        }
        self.may_switch(caller)?;

        reply.caller.set(None);
        caller.reply.set(None);
        copy(len, &t, &caller);
        reply.offered_by.set(Some(t));
        t.reply.set(Some(reply));
        ep.add_receiver(t);
        self.switch(caller);
        Some(Handover { to: Some(caller), badge: 0 })
    }

    /// Records what was handed over; the last act of a fast path.
    #[cold]
    fn traced(&mut self, t: Obj<Tcb>, call: Syscall, done: Handover) -> Handover {
        if let Some(to) = done.to {
            self.trace_fast(t, to, call);
        }
        done
    }

    /// The common cases of the other system calls; `false`: nothing happened.
    #[inline(always)]
    pub fn fast_other(&mut self, t: Obj<Tcb>, call: Syscall) -> bool {
        if self.cpu.tracing {
            return false;
        }
        let regs = &t.regs;
        // SAFETY: registers of a thread that does not run; nobody writes them meanwhile.
        let regs = unsafe { &*regs.as_ptr() };
        let (cptr, second) = (regs.rdi, regs.r14);
        let done = match call {
            Syscall::Send => self.fast_signal(t, cptr),
            Syscall::Recv => self.fast_recv(t, cptr, second),
            Syscall::SignalWait => self.fast_signal_wait(t, cptr, second),
            Syscall::AckWait => self.fast_ack_wait(t, cptr, second),
            _ => None,
        };
        done.is_some()
    }

    fn fast_signal(&mut self, t: Obj<Tcb>, cptr: CPtr) -> Option<()> {
        let (ntfn, badge) = notification(&t, cptr, Rights::WRITE)?;
        t.with_regs(|r| r.rax = 0);
        self.signal_last(ntfn, badge);
        Some(())
    }

    fn fast_recv(&mut self, t: Obj<Tcb>, cptr: CPtr, reply: CPtr) -> Option<()> {
        let cap = flat(&t, cptr).filter(|c| c.rights().contains(Rights::READ))?;
        if let Some(ntfn) = cap.notification() {
            self.wait_last(t, ntfn);
            return Some(());
        }
        let ep = cap.endpoint()?;
        let reply = flat(&t, reply)?.reply().filter(|r| r.offered_by.get().is_none())?;
        if t.borrows.get() {
            return None;
        }
        if let Some(bits) = t.bound.get().and_then(|n| n.take()) {
            t.set_signal(bits);
            return Some(());
        }
        if ep.has_senders() || reply.caller.get().is_some() {
            return None;
        }
        reply.offered_by.set(Some(t));
        t.reply.set(Some(reply));
        ep.add_receiver(t);
        self.run_best();
        Some(())
    }

    fn fast_signal_wait(&mut self, t: Obj<Tcb>, target: CPtr, own: CPtr) -> Option<()> {
        let (ntfn, badge) = notification(&t, target, Rights::WRITE)?;
        let (own, _) = notification(&t, own, Rights::READ)?;
        if own.is_active() || ntfn == own || self.cpu.reschedule {
            return None;
        }
        let woken = self.take_waiter(ntfn, badge);
        self.block_on(t, own);
        match woken.filter(|w| w.may_run() && self.most_urgent(w)) {
            Some(w) => self.switch(w),
            None => {
                if let Some(w) = woken {
                    self.enqueue(w);
                }
                self.run_best();
            }
        }
        Some(())
    }

    fn fast_ack_wait(&mut self, t: Obj<Tcb>, irq: CPtr, own: CPtr) -> Option<()> {
        let irq = flat(&t, irq).filter(|c| c.is(ObjType::IrqHandler))?;
        let (own, _) = notification(&t, own, Rights::READ)?;
        self.irq_ack(irq.addr());
        self.wait_last(t, own);
        Some(())
    }

    /// Signals, as the last act of an entry: whoever is woken and more urgent runs at once.
    pub(crate) fn signal_last(&mut self, ntfn: Obj<Notification>, badge: u64) {
        let Some(w) = self.take_waiter(ntfn, badge) else { return };
        let current = self.cpu.current;
        let urgent =
            current.is_none_or(|c| c.priority.get() < w.priority.get()) && self.most_urgent(&w);
        if urgent && !self.cpu.reschedule && w.may_run() {
            if let Some(c) = current {
                self.preempt(c);
            }
            self.switch(w);
        } else {
            self.enqueue(w);
        }
    }

    /// Waits for signals, as the last act of an entry.
    fn wait_last(&mut self, t: Obj<Tcb>, ntfn: Obj<Notification>) {
        match ntfn.take() {
            Some(bits) => t.set_signal(bits),
            None => {
                self.block_on(t, ntfn);
                self.run_best();
            }
        }
    }

    /// Whether `next` is the one to run once the current thread blocks.
    #[inline(always)]
    fn may_switch(&self, next: Obj<Tcb>) -> Option<()> {
        let may = self.most_urgent(&next) && next.may_run() && !self.cpu.reschedule;
        may.then_some(())
    }

    /// Runs `next` in place of the current thread, which has blocked.
    #[inline(always)]
    fn switch(&mut self, next: Obj<Tcb>) {
        next.state.set(State::Running);
        // No equal is ready, so there is no slice to end.
        self.cpu.slice_end = u64::MAX;
        self.run(next);
    }
}
