//! Endpoints and reply objects.
//!
//! A sender and a receiver meet at an endpoint; the kernel copies words, payload and capabilities
//! from one to the other. A caller is then held by the reply object that the receiver offered;
//! whoever holds the reply object answers it. Destroying the reply object wakes the caller with
//! [`Error::ServerDied`]; callers still queued stay with the endpoint, which outlives servers.

use abi::{CAPS_MAX, Error, FaultKind, MSG_MAX, MsgInfo, Rights, ipc_buffer};
use core::cell::Cell;

use crate::preempt::{Preempted, WAKE};
use crate::sched::Queue;
use crate::thread::{State, Tcb};
use crate::trace::event;
use crate::{Kernel, Obj, Platform, cspace, obj};

/// Who stands in an endpoint's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Mode {
    /// Nobody.
    #[default]
    Idle,
    /// Senders.
    Senders,
    /// Receivers.
    Receivers,
    /// Senders that are being turned away, because its server is down.
    Closing,
    /// Nobody, and nobody may: its server is down.
    Closed,
}

/// A rendezvous for messages.
#[repr(C)]
pub struct Endpoint {
    queue: Queue,
    mode: Cell<Mode>,
}

/// Holds one caller.
#[repr(C)]
pub struct Reply {
    /// The caller to answer.
    pub(crate) caller: Cell<Option<Obj<Tcb>>>,
    /// The thread that waits for a message with this object.
    pub(crate) offered_by: Cell<Option<Obj<Tcb>>>,
}

const _: () = assert!(size_of::<Endpoint>() <= 32 && size_of::<Reply>() <= 32);

impl Endpoint {
    /// The receiver that waits longest.
    pub(crate) fn waiting_receiver(&self) -> Option<Obj<Tcb>> {
        if self.mode.get() == Mode::Receivers { self.queue.head.get() } else { None }
    }
    /// Takes it out of the queue.
    #[inline(always)]
    pub(crate) fn take_receiver(&self, first: Obj<Tcb>) {
        debug_assert!(self.queue.head.get() == Some(first));
        self.queue.pop_front();
        if self.queue.is_empty() {
            self.mode.set(Mode::Idle);
        }
    }
    /// Has `t` wait for a message.
    pub(crate) fn add_receiver(&self, t: Obj<Tcb>) {
        t.state.set(State::Receiving);
        t.endpoint.set(Some(Obj::of(self)));
        self.mode.set(Mode::Receivers);
        self.queue.push_back(t);
    }
    /// Whether senders wait.
    pub(crate) fn has_senders(&self) -> bool {
        matches!(self.mode.get(), Mode::Senders | Mode::Closing)
    }
    /// Whether anybody waits.
    pub(crate) fn is_waited_on(&self) -> bool {
        !self.queue.is_empty()
    }
}

/// How to send.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendMode {
    /// Wait for a receiver, then for its reply.
    Call,
    /// Wait for a receiver.
    Blocking,
    /// Drop the message if nobody waits.
    NonBlocking,
}

impl<P: Platform> Kernel<P> {
    /// Sends the message in `sender`'s registers and buffer (or its fault).
    pub(crate) fn send(
        &mut self,
        sender: Obj<Tcb>,
        ep: Obj<Endpoint>,
        badge: u64,
        rights: Rights,
        mode: SendMode,
    ) {
        sender.badge.set(badge);
        sender.is_call.set(mode == SendMode::Call);
        sender.can_grant.set(rights.contains(Rights::GRANT));
        if let Some(receiver) = ep.waiting_receiver() {
            ep.take_receiver(receiver);
            event!(self, trace_message(sender, receiver, ep, badge, sender.message_flags()));
            self.deliver(sender, receiver);
            self.make_running(receiver);
        } else if matches!(ep.mode.get(), Mode::Closed | Mode::Closing) {
            self.refuse(sender, Error::OutOfService);
        } else if mode == SendMode::NonBlocking {
            sender.set_result(Ok(()));
        } else {
            self.dequeue(sender);
            sender.state.set(State::Sending);
            sender.endpoint.set(Some(ep));
            ep.mode.set(Mode::Senders);
            ep.queue.push_back(sender);
            event!(self, trace_queued(sender, ep));
        }
    }

    /// Receives from `ep`; `reply` will hold a caller.
    pub(crate) fn recv(
        &mut self,
        receiver: Obj<Tcb>,
        ep: Obj<Endpoint>,
        reply: Option<Obj<Reply>>,
        blocking: bool,
    ) -> Result<(), Error> {
        if reply.is_some_and(|r| r.offered_by.get().is_some()) {
            return Err(Error::Busy);
        }
        if let Some(ntfn) = receiver.bound.get()
            && let Some(bits) = ntfn.take()
        {
            receiver.set_signal(bits);
            return Ok(());
        }
        if !ep.has_senders() && !blocking {
            return Err(Error::WouldBlock);
        }
        if let Some(r) = reply {
            // A server that receives with a reply object still in use gives that call up.
            if let Some(other) = self.drop_caller(r).filter(|b| *b != receiver) {
                self.lost_context(other);
            }
            r.offered_by.set(Some(receiver));
        }
        self.give_back_of(receiver);
        receiver.reply.set(reply);
        if ep.has_senders()
            && let Some(sender) = ep.queue.pop_front()
        {
            ep.mode.set(if ep.queue.is_empty() { Mode::Idle } else { Mode::Senders });
            sender.endpoint.set(None);
            let badge = sender.badge.get();
            event!(self, trace_message(sender, receiver, ep, badge, sender.message_flags()));
            self.deliver(sender, receiver);
        } else {
            ep.add_receiver(receiver);
        }
        Ok(())
    }

    /// Answers the caller that `reply` holds with the message of `server`, by a capability with
    /// `rights`. Without a caller (it was killed meanwhile) the answer is dropped.
    pub(crate) fn reply(&mut self, server: Obj<Tcb>, reply: Obj<Reply>, rights: Rights) {
        let Some(caller) = reply.caller.take() else { return };
        event!(self, trace_reply(server, caller));
        caller.reply.set(None);
        self.call_over(caller);
        if caller.fault.take().is_none() {
            self.copy_message(server, caller, 0, rights.contains(Rights::GRANT));
        }
        self.make_running(caller);
    }

    /// Hands the message of `sender` to `receiver`, and settles what becomes of `sender`. The
    /// receiver's state is left to the caller of this function.
    fn deliver(&mut self, sender: Obj<Tcb>, receiver: Obj<Tcb>) {
        let offered = receiver.reply.take();
        if let Some(r) = offered {
            r.offered_by.set(None);
        }
        receiver.endpoint.set(None);
        let fault = sender.fault.get();
        if fault.is_none_or(|f| f.kind != FaultKind::Budget) {
            self.lend(sender, receiver);
        }
        match fault {
            Some(f) => {
                let regs = sender.regs.get();
                receiver.with_regs(|r| {
                    r.rax = 0;
                    r.rdi = sender.badge.get();
                    r.rsi = MsgInfo::FAULT | (f.kind as u64) << 16;
                    (r.rdx, r.r10, r.r8, r.r9) = (regs.rip, f.addr, f.code, f.at);
                });
            }
            None => self.copy_message(sender, receiver, sender.badge.get(), sender.can_grant.get()),
        }
        if sender.is_call.get() || fault.is_some() {
            self.dequeue(sender);
            if let Some(r) = offered {
                sender.state.set(State::AwaitingReply);
                sender.reply.set(Some(r));
                r.caller.set(Some(sender));
            } else if fault.is_some() {
                // The supervisor resumes or ends it through its TCB.
                sender.state.set(State::Inactive);
            } else {
                sender.set_result(Err(Error::Cancelled));
                self.make_running(sender);
            }
        } else {
            sender.set_result(Ok(()));
            if sender.state.get() == State::Sending {
                self.make_running(sender);
            }
        }
    }

    /// Copies words, payload and capabilities of the message in `from`'s registers.
    fn copy_message(&mut self, from: Obj<Tcb>, to: Obj<Tcb>, badge: u64, grant: bool) {
        let regs = from.regs.get();
        let info = MsgInfo(regs.rsi & !MsgInfo::KERNEL_BITS);
        let mut len = info.len().min(MSG_MAX);
        let mut caps = 0;
        if len | info.caps() != 0 {
            match (from.buffer_frame(), to.buffer_frame()) {
                (Some(source), Some(dest)) => {
                    // SAFETY: both are the IPC buffer frames of live threads; the payload area
                    // lies inside a frame.
                    unsafe { obj::copy_payload(source, dest, len) };
                    if grant {
                        caps = transfer_caps(from, to, source, dest, info.caps());
                    }
                    // SAFETY: a word of the receiver's buffer frame.
                    unsafe { obj::write_word(dest + ipc_buffer::RECEIVED as u64, caps) };
                }
                _ => len = 0,
            }
        }
        let head = info.0 & !0x3fff;
        to.with_regs(|r| {
            r.rax = 0;
            r.rdi = badge;
            r.rsi = head | caps << 12 | len as u64;
            (r.rdx, r.r10, r.r8, r.r9) = (regs.rdx, regs.r10, regs.r8, regs.r9);
        });
    }

    /// The call that `reply` holds will never be answered. Returns who worked on it with the
    /// caller's context.
    fn drop_caller(&mut self, reply: Obj<Reply>) -> Option<Obj<Tcb>> {
        let caller = reply.caller.take()?;
        event!(self, trace_died(caller));
        caller.reply.set(None);
        let borrower = self.call_over(caller);
        if caller.fault.get().is_some() {
            caller.state.set(State::Inactive);
        } else {
            caller.set_result(Err(Error::ServerDied));
            self.make_running(caller);
        }
        borrower
    }

    pub(crate) fn end_reply(&mut self, reply: Obj<Reply>) {
        if let Some(borrower) = self.drop_caller(reply) {
            self.lost_context(borrower);
        }
        if let Some(receiver) = reply.offered_by.take() {
            receiver.reply.set(None);
        }
    }

    /// Takes an endpoint out of service, until somebody receives from it. From the first step on
    /// no further sender is let in.
    ///
    /// # Errors
    /// [`Preempted`]: call it again.
    pub(crate) fn close(&mut self, ep: Obj<Endpoint>) -> Result<(), Preempted> {
        if ep.mode.get() == Mode::Receivers {
            return Ok(());
        }
        ep.mode.set(Mode::Closing);
        while ep.is_waited_on() {
            self.work(WAKE)?;
            self.cancel_first(ep, Error::OutOfService);
        }
        ep.mode.set(Mode::Closed);
        Ok(())
    }

    /// The message of `sender`, which runs, goes nowhere.
    fn refuse(&mut self, sender: Obj<Tcb>, error: Error) {
        if sender.fault.get().is_some() {
            self.dequeue(sender);
            sender.state.set(State::Inactive);
        } else {
            sender.set_result(Err(error));
        }
    }

    /// Wakes the first in the queue with `error`. `false`: nobody is in it.
    pub(crate) fn cancel_first(&mut self, ep: Obj<Endpoint>, error: Error) -> bool {
        let Some(t) = ep.queue.pop_front() else { return false };
        t.endpoint.set(None);
        if let Some(r) = t.reply.take() {
            r.offered_by.set(None);
        }
        if t.fault.get().is_some() {
            t.state.set(State::Inactive);
        } else {
            t.set_result(Err(error));
            self.make_running(t);
        }
        true
    }

    /// Takes a waiting thread out of its endpoint's queue.
    pub(crate) fn leave_endpoint(&mut self, t: Obj<Tcb>) {
        if let Some(ep) = t.endpoint.take() {
            ep.queue.remove(t);
            if ep.queue.is_empty() {
                let closing = ep.mode.get() == Mode::Closing;
                ep.mode.set(if closing { Mode::Closed } else { Mode::Idle });
            }
        }
        if let Some(r) = t.reply.take() {
            r.offered_by.set(None);
        }
    }
}

/// Copies up to `count` capabilities named in the sender's buffer into the receiver's slots.
/// Stops at the first that cannot be copied; returns how many arrived.
fn transfer_caps(from: Obj<Tcb>, to: Obj<Tcb>, source: u64, dest: u64, count: usize) -> u64 {
    // SAFETY: words of the IPC buffer frames of live threads, as in `copy_message`.
    let word = |pa: u64, offset: usize| unsafe { obj::read_word(pa + offset as u64) };
    let cnode = word(dest, ipc_buffer::RECV_CNODE);
    let index = word(dest, ipc_buffer::RECV_INDEX);
    let Ok(cnode) = cspace::lookup_cap(&to, cnode) else { return 0 };
    let mut done = 0;
    for i in 0..count.min(CAPS_MAX) {
        let cptr = word(source, ipc_buffer::SEND_CAPS + 8 * i);
        let slots = cspace::lookup_slot(&from, cptr)
            .ok()
            .zip(index.checked_add(i as u64).and_then(|at| cnode.cnode_slot(at)));
        let Some((slot, target)) = slots else { break };
        if cspace::copy(slot, target, Rights::all(), None).is_err() {
            break;
        }
        done += 1;
    }
    done
}
