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

/// A message as the fast path carries it.
struct Message {
    badge: u64,
    info: MsgInfo,
}

/// The capability at `cptr` of a flat CSpace.
fn flat(t: &Tcb, cptr: CPtr) -> Option<Cap> {
    let slot = if cptr == 0 { None } else { cspace::flat(t.cspace().cap(), cptr) };
    slot.map(|s| s.cap())
}

/// The notification at `cptr` and its badge, if the capability has these rights.
fn notification(t: &Tcb, cptr: CPtr, rights: Rights) -> Option<(Obj<Notification>, u64)> {
    let cap = flat(t, cptr)?;
    cap.notification().filter(|_| cap.rights().contains(rights)).map(|n| (n, cap.data()))
}

/// A message that needs nothing but copying from `from` to `to`.
fn plain(info: u64, from: &Tcb, to: &Tcb, badge: u64) -> Option<Message> {
    let info = MsgInfo(info & !MsgInfo::KERNEL_BITS);
    let fits = info.caps() == 0 && info.len() <= MSG_MAX;
    let buffers = info.is_empty() || !(from.buffer().is_empty() || to.buffer().is_empty());
    (fits && buffers).then_some(Message { badge, info })
}

/// Hands over words and payload.
fn copy(m: &Message, from: &Tcb, to: &Tcb) {
    if !m.info.is_empty() {
        let (source, dest) = (from.buffer().cap().addr(), to.buffer().cap().addr());
        // SAFETY: the IPC buffer frames of live threads; the payload area lies inside.
        unsafe {
            obj::copy_words(source, dest, m.info.len().div_ceil(8));
            obj::write_word(dest + abi::ipc_buffer::RECEIVED as u64, 0);
        }
    }
    let r = from.regs.get();
    to.with_regs(|w| {
        (w.rax, w.rdi, w.rsi) = (0, m.badge, m.info.0);
        (w.rdx, w.r10, w.r8, w.r9) = (r.rdx, r.r10, r.r8, r.r9);
    });
}

impl<P: Platform> Kernel<P> {
    /// Tries the fast path for the system call of `t`; `false`: nothing happened.
    pub fn fast_path(&mut self, t: Obj<Tcb>) -> bool {
        let regs = t.regs.get();
        let done = match Syscall::from_raw(regs.rax) {
            Some(Syscall::Call) => self.fast_call(t, regs.rdi, regs.rsi),
            Some(Syscall::ReplyRecv) => self.fast_reply_recv(t, regs.rdi, regs.rsi, regs.r14),
            Some(Syscall::Send) => self.fast_signal(t, regs.rdi),
            Some(Syscall::Recv) => self.fast_recv(t, regs.rdi, regs.r14),
            Some(Syscall::SignalWait) => self.fast_signal_wait(t, regs.rdi, regs.r14),
            Some(Syscall::AckWait) => self.fast_ack_wait(t, regs.rdi, regs.r14),
            _ => None,
        };
        done.is_some()
    }

    fn fast_call(&mut self, t: Obj<Tcb>, cptr: CPtr, info: u64) -> Option<()> {
        let cap = flat(&t, cptr)?;
        let ep = cap.endpoint().filter(|_| cap.rights().contains(Rights::WRITE))?;
        let server = ep.waiting_receiver()?;
        let reply = server.reply.get()?;
        let message = plain(info, &t, &server, cap.data())?;
        self.may_switch(server)?;

        ep.take_receiver();
        server.endpoint.set(None);
        server.reply.set(None);
        reply.offered_by.set(None);
        reply.caller.set(Some(t));
        t.reply.set(Some(reply));
        t.state.set(State::AwaitingReply);
        copy(&message, &t, &server);
        self.switch(server);
        Some(())
    }

    fn fast_reply_recv(&mut self, t: Obj<Tcb>, ep: CPtr, info: u64, reply: CPtr) -> Option<()> {
        let cap = flat(&t, ep)?;
        let ep: Obj<Endpoint> = cap.endpoint().filter(|_| cap.rights().contains(Rights::READ))?;
        let reply: Obj<Reply> = flat(&t, reply)?.reply()?;
        let caller = reply.caller.get().filter(|c| c.fault.get().is_none())?;
        let message = plain(info, &t, &caller, 0)?;
        // Nothing to receive now: neither a message nor a signal.
        let waits = !ep.has_senders() && !t.bound.get().is_some_and(|n| n.is_active());
        if !waits || reply.offered_by.get().is_some() {
            return None;
        }
        self.may_switch(caller)?;

        reply.caller.set(None);
        caller.reply.set(None);
        copy(&message, &t, &caller);
        reply.offered_by.set(Some(t));
        t.reply.set(Some(reply));
        ep.add_receiver(t);
        self.switch(caller);
        Some(())
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
        match woken.filter(|w| w.sched.get().is_some()) {
            Some(w) if self.ready_priority().is_none_or(|p| p < w.priority.get()) => {
                self.switch(w);
            }
            Some(w) => {
                self.enqueue(w);
                self.run_best();
            }
            None => self.run_best(),
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
        let urgent = current.is_none_or(|c| c.priority.get() < w.priority.get())
            && self.ready_priority().is_none_or(|p| p < w.priority.get());
        if urgent && !self.cpu.reschedule && w.sched.get().is_some() {
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
    fn may_switch(&self, next: Obj<Tcb>) -> Option<()> {
        let urgent = self.ready_priority().is_none_or(|p| p < next.priority.get());
        (urgent && next.sched.get().is_some() && !self.cpu.reschedule).then_some(())
    }

    /// Runs `next` in place of the current thread, which has blocked.
    fn switch(&mut self, next: Obj<Tcb>) {
        next.state.set(State::Running);
        // No equal is ready, so there is no slice to end.
        next.slice_left.set(0);
        self.cpu.slice_end = u64::MAX;
        self.run(next);
    }
}
