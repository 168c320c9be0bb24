//! The common case of IPC, in one straight line: a call to a server that waits, and its reply to a
//! caller that waits, both without capabilities, with a payload of any length.
//!
//! It does what the general path does (a test runs both side by side), but hands the processor to
//! the other thread directly: neither passes through a ready queue, and nobody else is considered,
//! which is right as long as no ready thread is more urgent than the one that is switched to.
//! Whatever does not fit goes the general way, from the start: nothing is changed before the last
//! check.

use abi::{CPtr, MSG_MAX, MsgInfo, ObjType, Rights, Syscall};

use crate::cap::Cap;
use crate::ipc::{Endpoint, Reply};
use crate::thread::{State, Tcb};
use crate::{Kernel, Obj, Platform, cspace, obj};

/// A message as the fast path carries it.
struct Message {
    badge: u64,
    info: MsgInfo,
}

/// The capability at `cptr` of a flat CSpace: one CNode whose guard is zeroes.
fn flat(t: &Tcb, cptr: CPtr) -> Option<Cap> {
    let root = t.cspace().cap();
    let radix = root.size_bits();
    let is_flat = root.is(ObjType::CNode) && root.data() == cspace::flat_guard(radix);
    if !is_flat || cptr == 0 {
        return None;
    }
    root.cnode_slot(cptr).map(|s| s.cap())
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
        if regs.rax == Syscall::Call as u64 {
            self.fast_call(t, regs.rdi, regs.rsi).is_some()
        } else if regs.rax == Syscall::ReplyRecv as u64 {
            self.fast_reply_recv(t, regs.rdi, regs.rsi, regs.r14).is_some()
        } else {
            false
        }
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
        t.state.set(State::Receiving);
        t.endpoint.set(Some(ep));
        ep.add_receiver(t);
        self.switch(caller);
        Some(())
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
