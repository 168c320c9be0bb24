//! Faults of user code, as messages to the thread's fault endpoint.

use abi::{FaultKind, Rights};

use crate::cap::Cap;
use crate::ipc::SendMode;
use crate::thread::{Fault, State, Tcb};
use crate::trace::event;
use crate::{Kernel, Obj, Platform};

/// Nobody handles the faults of this thread.
pub struct Unhandled;

impl<P: Platform> Kernel<P> {
    /// The running thread `t` faulted: it stops, and its fault endpoint is told.
    ///
    /// # Errors
    /// [`Unhandled`] if it has no fault endpoint: it stays stopped.
    pub fn fault(
        &mut self,
        t: Obj<Tcb>,
        kind: FaultKind,
        addr: u64,
        code: u64,
    ) -> Result<(), Unhandled> {
        let fault = Fault { kind, addr, code, at: self.hw.now() };
        let to = t.fault_endpoint().cap();
        self.tell(t, to, fault).inspect_err(|_| {
            t.fault.set(Some(fault));
            event!(self, trace_fault(t, kind, addr));
            t.state.set(State::Inactive);
        })
    }

    /// The budget of `t` ended (it has used `consumed` ns in all; `badge` is its context's), or `t`
    /// has lost its context ([`abi::NO_CONTEXT`]): its time-out endpoint is told.
    ///
    /// # Errors
    /// [`Unhandled`] if it has none.
    pub(crate) fn time_out(
        &mut self,
        t: Obj<Tcb>,
        consumed: u64,
        badge: u64,
    ) -> Result<(), Unhandled> {
        let fault =
            Fault { kind: FaultKind::Budget, addr: consumed, code: badge, at: self.hw.now() };
        self.tell(t, t.timeout_endpoint().cap(), fault)
    }

    fn tell(&mut self, t: Obj<Tcb>, to: Cap, fault: Fault) -> Result<(), Unhandled> {
        let ep = to.endpoint().filter(|_| to.rights().contains(Rights::WRITE)).ok_or(Unhandled)?;
        t.fault.set(Some(fault));
        event!(self, trace_fault(t, fault.kind, fault.addr));
        self.send(t, ep, to.data(), Rights::empty(), SendMode::Call);
        Ok(())
    }
}
