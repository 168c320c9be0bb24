//! The common cases of IPC, each in one straight line: a call to a server that waits and its reply to
//! a caller that waits, both without capabilities and with a payload of any length; a signal; a wait
//! for signals or messages; the two pairs of signal, acknowledge and wait; a fault; a page to map.
//!
//! They do what the general path does (a test runs both side by side), but hand the processor to
//! the other thread directly: who is switched to does not pass through a ready queue, and nobody
//! else is considered, which is right as long as no ready thread is more urgent. Whatever does not
//! fit goes the general way, from the start: nothing is changed before the last check.

use abi::{CPtr, FaultKind, Label, MSG_MAX, MsgInfo, ObjType, Rights, Syscall};

use crate::cap::Slot;
use crate::ipc::{Endpoint, Reply};
use crate::notification::Notification;
use crate::thread::{Fault, State, Tcb};
use crate::{Kernel, Obj, Platform, cspace, obj};

/// How an entry ends.
#[repr(C)]
pub struct Handover {
    /// Who receives a message, and runs now. Its words are still in the saved registers of the sender;
    /// the entry code carries them from there to the processor's registers, where [`Handover::apply`]
    /// would put them. `None`: no message.
    to: Option<Obj<Tcb>>,
    /// With a message, the badge of the sender (0: a reply). Else who runs now, as its registers say;
    /// 0: nobody.
    word: u64,
}

impl Handover {
    /// No message; `next` runs.
    pub fn resume(next: Option<Obj<Tcb>>) -> Self {
        Self { to: None, word: next.map_or(0, |t| t.as_ptr() as u64) }
    }

    /// Does in the receiver's saved registers what the entry code does in the processor's.
    fn apply(self, from: &Tcb) {
        let r = from.regs.get();
        if let Some(to) = self.to {
            to.with_regs(|w| {
                (w.rax, w.rdi, w.rsi) = (0, self.word, r.rsi & !MsgInfo::KERNEL_BITS);
                (w.rdx, w.r10, w.r8, w.r9) = (r.rdx, r.r10, r.r8, r.r9);
            });
        }
    }
}

/// The slot at `cptr` of a flat CSpace; it may be empty.
#[inline(always)]
fn flat(t: &Tcb, cptr: CPtr) -> Option<Obj<Slot>> {
    if cptr == 0 { None } else { cspace::flat(t.cspace().cap(), cptr) }
}

/// The notification at `cptr` and its badge, if the capability has these rights.
#[inline(always)]
fn notification(t: &Tcb, cptr: CPtr, rights: Rights) -> Option<(Obj<Notification>, u64)> {
    let cap = flat(t, cptr)?.cap();
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
    /// Tries the straight lines for the system call of `t`; `false`: nothing happened. This is for tests:
    /// the entry code calls them one by one.
    pub fn fast_path(&mut self, t: Obj<Tcb>) -> bool {
        let r = t.regs.get();
        let message = match Syscall::from_raw(r.rax) {
            Some(Syscall::Call) => self.fast_call(t, r.rdi, r.rsi),
            Some(Syscall::ReplyRecv) => self.fast_reply_recv(t, r.rdi, r.rsi, r.r14),
            Some(Syscall::Send) => return self.fast_signal(t, r.rdi).is_some(),
            Some(Syscall::Recv) => return self.fast_recv(t, r.rdi, r.r14).is_some(),
            Some(Syscall::SignalWait) => return self.fast_signal_wait(t, r.rdi, r.r14).is_some(),
            Some(Syscall::AckWait) => return self.fast_ack_wait(t, r.rdi, r.r14).is_some(),
            _ => None,
        };
        message.map(|m| m.apply(&t)).is_some()
    }

    /// A call to a server that waits; the invocation of a kernel object.
    #[inline(always)]
    pub fn fast_call(&mut self, t: Obj<Tcb>, cptr: CPtr, info: u64) -> Option<Handover> {
        let slot = flat(&t, cptr)?;
        let cap = slot.cap();
        let Some(ep) = cap.endpoint() else {
            let ack = cap.is(ObjType::IrqHandler) && info == MsgInfo::invoke(Label::IrqAck).0;
            if ack && !self.cpu.tracing {
                let signalled = self.irq_ack(cap.addr());
                t.with_regs(|r| (r.rax, r.rsi, r.rdx, r.r10) = (0, 0, 0, 0));
                return Some(Handover::resume(if signalled { self.settle() } else { Some(t) }));
            }
            return self.fast_invoke(t, slot, MsgInfo(info)).map(Handover::resume);
        };
        if !cap.rights().contains(Rights::WRITE) {
            return None;
        }
        let server = ep.waiting_receiver()?;
        let reply = server.reply.get()?;
        let len = plain(info, &t, &server)?;
        // A passive server runs on what its caller runs on.
        let passive = server.sched.get().is_none();
        self.may_switch_on(if passive { t } else { server }, server)?;

        self.meet(t, ep, server, reply);
        if passive {
            self.lend(t, server);
        }
        copy(len, &t, &server);
        self.switch(server);
        Some(self.end(t, Handover { to: Some(server), word: cap.data() }, Syscall::Call))
    }

    /// A reply to a caller that waits, by a server that has nothing else to receive.
    #[inline(always)]
    pub fn fast_reply_recv(
        &mut self,
        t: Obj<Tcb>,
        ep: CPtr,
        info: u64,
        reply: CPtr,
    ) -> Option<Handover> {
        let cap = flat(&t, ep)?.cap();
        let ep: Obj<Endpoint> = cap.endpoint().filter(|_| cap.rights().contains(Rights::READ))?;
        let reply: Obj<Reply> = flat(&t, reply)?.cap().reply()?;
        let caller = reply.caller.get()?;
        let faulted = caller.fault.get().is_some();
        // (A fault's answer carries nothing, but what it says it carries is checked all the same.)
        let len = plain(info, &t, &caller)?;
        let len = if faulted { 0 } else { len };
        // Nothing to receive now: neither a message nor a signal.
        let waits = !ep.has_senders() && !t.bound.get().is_some_and(|n| n.is_active());
        if !waits || reply.offered_by.get().is_some() || faulted && self.cpu.tracing {
            return None;
        }
        // What a passive server borrows has to be its caller's.
        let passive = t.borrows.get();
        if passive && (caller.lent.get() != t.sched.get() || caller.gap.get()) {
            return None;
        }
        self.may_switch_on(if passive { t } else { caller }, caller)?;

        reply.caller.set(None);
        caller.reply.set(None);
        if passive {
            self.call_over(caller);
        }
        copy(len, &t, &caller);
        reply.offered_by.set(Some(t));
        t.reply.set(Some(reply));
        ep.add_receiver(t);
        self.switch(caller);
        if faulted {
            // It runs on as its registers say.
            caller.fault.set(None);
            return Some(Handover::resume(self.settle()));
        }
        Some(self.end(t, Handover { to: Some(caller), word: 0 }, Syscall::ReplyRecv))
    }

    /// The fault of the running thread `t`, to a handler that waits and is more urgent than all others.
    #[inline(always)]
    pub fn fast_fault(&mut self, t: Obj<Tcb>, kind: FaultKind, addr: u64, code: u64) -> Option<()> {
        let cap = t.fault_endpoint().cap();
        let ep = cap.endpoint().filter(|_| cap.rights().contains(Rights::WRITE))?;
        let handler = ep.waiting_receiver()?;
        let reply = handler.reply.get()?;
        self.may_switch(handler)?;
        if self.cpu.tracing {
            return None;
        }

        let at = self.hw.now();
        t.fault.set(Some(Fault { kind, addr, code, at }));
        self.meet(t, ep, handler, reply);
        let rip = t.with_regs(|r| r.rip);
        handler.with_regs(|r| {
            (r.rax, r.rdi, r.rsi) = (0, cap.data(), MsgInfo::FAULT | (kind as u64) << 16);
            (r.rdx, r.r10, r.r8, r.r9) = (rip, addr, code, at);
        });
        self.switch(handler);
        Some(())
    }

    /// `t`, which runs, is held by the reply object of a receiver that waits.
    #[inline(always)]
    fn meet(&self, t: Obj<Tcb>, ep: Obj<Endpoint>, receiver: Obj<Tcb>, reply: Obj<Reply>) {
        ep.take_receiver(receiver);
        receiver.endpoint.set(None);
        receiver.reply.set(None);
        reply.offered_by.set(None);
        reply.caller.set(Some(t));
        t.reply.set(Some(reply));
        t.state.set(State::AwaitingReply);
    }

    /// The end of a message's straight line.
    #[inline(always)]
    fn end(&mut self, from: Obj<Tcb>, message: Handover, call: Syscall) -> Handover {
        if self.cpu.reschedule | self.cpu.tracing {
            self.end_slowly(from, message, call)
        } else {
            message
        }
    }

    /// The switch has used up somebody's budget, or is to be traced.
    #[cold]
    fn end_slowly(&mut self, from: Obj<Tcb>, message: Handover, call: Syscall) -> Handover {
        if let Some(to) = message.to.filter(|_| self.cpu.tracing) {
            self.trace_fast(from, to, message.word, call);
        }
        if !self.cpu.reschedule {
            return message;
        }
        message.apply(&from);
        Handover::resume(self.schedule())
    }

    /// Invokes what is in `slot`, which is no endpoint; returns who runs then.
    #[inline(never)]
    fn fast_invoke(
        &mut self,
        t: Obj<Tcb>,
        slot: Obj<Slot>,
        info: MsgInfo,
    ) -> Option<Option<Obj<Tcb>>> {
        if slot.is_empty() || slot.cap().is(ObjType::Notification) {
            return None;
        }
        if info != MsgInfo::invoke(Label::FrameMap) || self.fast_map(t, slot).is_none() {
            self.invocation(t, slot, info);
        }
        Some(self.settle())
    }

    /// The mapping of a page of memory in a thread's address space, all tables being there.
    #[inline(always)]
    fn fast_map(&mut self, t: Obj<Tcb>, slot: Obj<Slot>) -> Option<()> {
        let (space, vaddr, rights, attr) = t.with_regs(|r| (r.rdx, r.r10, r.r8, r.r9));
        let space = flat(&t, space)?.cap();
        let rights = Rights::from_bits(u8::try_from(rights).ok()?).filter(|_| attr == 0)?;
        let cap = slot.cap();
        let mapping = self.map_page(cap, space, vaddr, rights)?;
        slot.set_cap(cap.with_data(mapping));
        t.with_regs(|r| (r.rax, r.rsi, r.rdx, r.r10) = (0, 0, 0, 0));
        Some(())
    }

    /// A signal.
    #[inline(always)]
    pub fn fast_signal(&mut self, t: Obj<Tcb>, cptr: CPtr) -> Option<()> {
        let (ntfn, badge) = notification(&t, cptr, Rights::WRITE)?;
        t.with_regs(|r| r.rax = 0);
        self.signal_last(ntfn, badge);
        Some(())
    }

    /// A wait for signals or for a message.
    #[inline(always)]
    pub fn fast_recv(&mut self, t: Obj<Tcb>, cptr: CPtr, reply: CPtr) -> Option<()> {
        let cap = flat(&t, cptr)?.cap();
        if !cap.rights().contains(Rights::READ) {
            return None;
        }
        if let Some(ntfn) = cap.notification() {
            self.wait_last(t, ntfn);
            return Some(());
        }
        let ep = cap.endpoint()?;
        let reply = flat(&t, reply)?.cap().reply().filter(|r| r.offered_by.get().is_none())?;
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

    /// A signal, then a wait for signals.
    #[inline(always)]
    pub fn fast_signal_wait(&mut self, t: Obj<Tcb>, target: CPtr, own: CPtr) -> Option<()> {
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

    /// The acknowledgement of an interrupt, then a wait for signals.
    #[inline(always)]
    pub fn fast_ack_wait(&mut self, t: Obj<Tcb>, irq: CPtr, own: CPtr) -> Option<()> {
        let irq = flat(&t, irq)?.cap();
        if !irq.is(ObjType::IrqHandler) {
            return None;
        }
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
        self.may_switch_on(next, next)
    }

    /// The same, if `next` will run on the scheduling context that `on` has.
    #[inline(always)]
    fn may_switch_on(&self, on: Obj<Tcb>, next: Obj<Tcb>) -> Option<()> {
        let may = self.most_urgent(&next) && on.may_run() && !self.cpu.reschedule;
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
