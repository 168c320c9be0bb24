//! Lending a scheduling context: how passive servers run on their clients' time.
//!
//! A thread without a context that receives a message gets the sender's along with it, and has it
//! until it answers or waits for the next message. So a server needs no time of its own, and a client
//! pays for what it asks for. The rules:
//!
//! - A message (call, send, or a fault, but not a time-out fault) that reaches a thread without a
//!   context brings the sender's. The sender is its *lender*; it runs on when it has it back.
//! - Whoever runs on a lent context may lend it further: lenders form a stack, the last one first.
//! - The context goes back to the last lender when the borrower waits for a message, when it dies,
//!   and when the call is over for another reason (answered by somebody else; its reply object
//!   destroyed).
//! - A lender that dies, or is bound to another context, leaves the stack: the borrower keeps the
//!   context until it waits, then it goes to the next lender. With no lender left it is free, and can
//!   be bound anew.
//! - A lender that is suspended stays in the stack.
//! - Unbinding or destroying the context takes it from whoever is on it, and from all lenders.
//! - A thread that loses a lent context in the midst of its work stops there; its time-out endpoint is
//!   told, so that whoever handles it can lend it one to finish on.
//!
//! The stack is linked through the lenders' TCBs; only the last lender names the context. Each of
//! these rules takes a few steps, however deep the stack is.

use abi::{Error, NO_CONTEXT};

use crate::sched::SchedContext;
use crate::thread::{State, Tcb};
use crate::{Kernel, Obj, Platform};

impl<P: Platform> Kernel<P> {
    /// `from` lends its context, if it has one, to `to`, if that has none.
    pub(crate) fn lend(&mut self, from: Obj<Tcb>, to: Obj<Tcb>) {
        if to.sched.get().is_some() {
            return;
        }
        let Some(s) = from.sched.take() else { return };
        self.dequeue(from);
        let below = s.lender.replace(Some(from));
        if let Some(b) = below {
            b.lent.set(None);
            b.above.set(Some(from));
        }
        from.below.set(below);
        from.lent.set(Some(s));
        from.gap.set(false);
        s.thread.set(Some(to));
        to.sched.set(Some(s));
        to.borrows.set(true);
        if self.cpu.current == Some(to) {
            self.cpu.reschedule = true;
            // The sender waited while its budget came to an end.
            if !to.may_run() {
                self.cpu.current = None;
                self.enqueue(to);
            }
        }
    }

    /// Takes a context from the thread that is on it and gives it back to its last lender. Returns
    /// whom it was taken from.
    pub(crate) fn give_back(&mut self, s: Obj<SchedContext>) -> Option<Obj<Tcb>> {
        let borrower = s.thread.take();
        if let Some(t) = borrower {
            self.dequeue(t);
            t.sched.set(None);
            t.borrows.set(false);
        }
        if let Some(lender) = s.lender.get() {
            // The next lender's server is still the one that it was.
            let below = lender.below.get().map(|b| (b, b.gap.get()));
            self.leave_stack(lender);
            if let Some((b, gap)) = below {
                b.gap.set(gap);
            }
            lender.sched.set(Some(s));
            s.thread.set(Some(lender));
            self.enqueue(lender);
        }
        borrower
    }

    /// `t` waits for a message: a context that it borrows goes back.
    pub(crate) fn give_back_of(&mut self, t: Obj<Tcb>) {
        if t.borrows.get()
            && let Some(s) = t.sched.get()
        {
            self.give_back(s);
        }
    }

    /// The call of `caller` is over: if it lent its context to whom it called, it has it back.
    /// Returns who had it.
    pub(crate) fn call_over(&mut self, caller: Obj<Tcb>) -> Option<Obj<Tcb>> {
        let s = caller.lent.get().filter(|_| !caller.gap.get())?;
        self.give_back(s)
    }

    /// Takes a lender out of the stack it is in, if any.
    pub(crate) fn leave_stack(&mut self, t: Obj<Tcb>) {
        let (above, below) = (t.above.take(), t.below.take());
        let lent = t.lent.take();
        if let Some(b) = below {
            b.above.set(above);
            b.lent.set(lent);
            b.gap.set(true);
        }
        if let Some(a) = above {
            a.below.set(below);
        } else if let Some(s) = lent {
            s.lender.set(below);
        }
    }

    /// Binds a context to a thread; `borrowed`: until the thread waits for a message, then the
    /// context is free again.
    ///
    /// # Errors
    /// [`Error::Busy`]: the context has a thread, or the thread a context.
    pub(crate) fn bind(
        &mut self,
        t: Obj<Tcb>,
        s: Obj<SchedContext>,
        borrowed: bool,
    ) -> Result<(), Error> {
        if s.thread.get().is_some() || t.sched.get().is_some() {
            return Err(Error::Busy);
        }
        self.leave_stack(t);
        s.thread.set(Some(t));
        t.sched.set(Some(s));
        t.borrows.set(borrowed);
        self.enqueue(t);
        Ok(())
    }

    /// Takes a context from whoever is on it, and from all lenders.
    pub(crate) fn unbind(&mut self, s: Obj<SchedContext>) {
        self.settle_account(s);
        if let Some(lender) = s.lender.take() {
            lender.lent.set(None);
        }
        let borrowed = s.thread.get().is_some_and(|t| t.borrows.get());
        if let Some(t) = self.give_back(s) {
            self.cpu.reschedule = true;
            if borrowed {
                self.lost_context(t);
            }
        }
    }

    /// The thread dies: what it lent and borrowed is settled.
    pub(crate) fn settle_loans(&mut self, t: Obj<Tcb>) {
        self.leave_stack(t);
        if t.borrows.get() {
            self.give_back_of(t);
        } else if let Some(s) = t.sched.take() {
            s.thread.set(None);
        }
    }

    /// If `t` is in the midst of something without a context, its time-out endpoint is told.
    pub(crate) fn lost_context(&mut self, t: Obj<Tcb>) {
        if self.cpu.current == Some(t) {
            // It cannot run on, and an invocation's end looks at nothing but this.
            self.cpu.reschedule = true;
        }
        let lends = t.lent.get().is_some() || t.above.get().is_some();
        if t.state.get() == State::Running && t.sched.get().is_none() && !lends {
            // Without one it stops until somebody binds a context to it.
            let _ = self.time_out(t, 0, NO_CONTEXT);
        }
    }
}
