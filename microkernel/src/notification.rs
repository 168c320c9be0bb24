//! Notifications: a word of signal bits.

use abi::{Error, MsgInfo};
use core::cell::Cell;

use crate::sched::Queue;
use crate::thread::{State, Tcb};
use crate::trace::event;
use crate::{Kernel, Obj, Platform};

/// A word of signal bits, and who waits for them.
#[repr(C)]
pub struct Notification {
    bits: Cell<u64>,
    active: Cell<bool>,
    queue: Queue,
    /// Thread whose endpoint waits it also ends.
    pub(crate) bound: Cell<Option<Obj<Tcb>>>,
}

const _: () = assert!(size_of::<Notification>() <= 64);

impl Notification {
    /// Whether signals are pending.
    pub(crate) fn is_active(&self) -> bool {
        self.active.get()
    }
    /// Takes pending signals.
    pub(crate) fn take(&self) -> Option<u64> {
        self.active.replace(false).then(|| self.bits.take())
    }
}

impl Tcb {
    /// Makes the current system call return signals.
    pub(crate) fn set_signal(&self, bits: u64) {
        self.with_regs(|r| (r.rax, r.rdi, r.rsi) = (0, bits, MsgInfo::SIGNAL));
    }
}

impl<P: Platform> Kernel<P> {
    /// Ors `badge` into the word and wakes a waiter.
    pub(crate) fn signal(&mut self, ntfn: Obj<Notification>, badge: u64) {
        let woken = self.take_waiter(ntfn, badge);
        event!(self, trace_signal(ntfn, badge, woken));
        if let Some(waiter) = woken {
            self.enqueue(waiter);
        }
    }

    /// Ors `badge` into the word; if somebody waits, ends that wait with the word. The waiter is
    /// then running, but in no ready queue.
    #[inline(always)]
    pub(crate) fn take_waiter(&mut self, ntfn: Obj<Notification>, badge: u64) -> Option<Obj<Tcb>> {
        let waiter = match ntfn.queue.pop_front() {
            Some(t) => {
                t.notification.set(None);
                t
            }
            None => match ntfn.bound.get() {
                Some(t) if t.state.get() == State::Receiving => {
                    self.leave_endpoint(t);
                    t
                }
                _ => {
                    ntfn.bits.set(ntfn.bits.get() | badge);
                    ntfn.active.set(true);
                    return None;
                }
            },
        };
        // Who waits found no bits. (A notification with some, bound meanwhile, keeps them for the
        // next wait.)
        waiter.set_signal(badge);
        waiter.state.set(State::Running);
        Some(waiter)
    }

    /// Waits for signals.
    pub(crate) fn wait(
        &mut self,
        t: Obj<Tcb>,
        ntfn: Obj<Notification>,
        blocking: bool,
    ) -> Result<(), Error> {
        if let Some(bits) = ntfn.take() {
            t.set_signal(bits);
        } else if blocking {
            self.block_on(t, ntfn);
        } else {
            return Err(Error::WouldBlock);
        }
        Ok(())
    }

    /// Puts a thread into the queue of a notification without signals.
    pub(crate) fn block_on(&mut self, t: Obj<Tcb>, ntfn: Obj<Notification>) {
        t.state.set(State::Waiting);
        t.notification.set(Some(ntfn));
        ntfn.queue.push_back(t);
    }

    pub(crate) fn leave_notification(&mut self, t: Obj<Tcb>) {
        if let Some(ntfn) = t.notification.take() {
            ntfn.queue.remove(t);
        }
    }

    /// The notification's last capability is gone. Whether somebody still waits.
    pub(crate) fn end_notification(&mut self, ntfn: Obj<Notification>) -> bool {
        if let Some(t) = ntfn.bound.take() {
            t.bound.set(None);
        }
        !ntfn.queue.is_empty()
    }

    /// Ends the longest wait. `false`: nobody waits.
    pub(crate) fn cancel_first_wait(&mut self, ntfn: Obj<Notification>) -> bool {
        let Some(t) = ntfn.queue.pop_front() else { return false };
        t.notification.set(None);
        t.set_result(Err(Error::Cancelled));
        self.make_running(t);
        true
    }
}
