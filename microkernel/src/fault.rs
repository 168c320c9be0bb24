//! Faults of user code, as messages to the thread's fault endpoint.

use abi::{FaultKind, Rights};

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
        t.fault.set(Some(Fault { kind, addr, code, at: self.hw.now() }));
        event!(self, trace_fault(t, kind, addr));
        let cap = t.fault_endpoint().cap();
        match cap.endpoint() {
            Some(ep) if cap.rights().contains(Rights::WRITE) => {
                self.send(t, ep, cap.data(), Rights::empty(), SendMode::Call);
                Ok(())
            }
            _ => {
                t.state.set(State::Inactive);
                Err(Unhandled)
            }
        }
    }
}
