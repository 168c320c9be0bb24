//! Putting a driver and its device to rest, and waking them again.
//!
//! The driver is asked to leave its device as a successor could take it over, and exits. Then init
//! takes bus mastering away: the device neither receives nor sends, and reaches no memory. All
//! state lies in lent memory. Waking is a start like after a crash: bus mastering first, then the
//! driver, which goes on where its predecessor stopped.

use core::fmt::Write;
use libipc::proc::{Error, Reply, State};

use crate::cause::Cause;
use crate::kernel::Kernel;
use crate::screen::LineBuf;
use crate::supervisor::{Supervisor, say};

/// How long a driver may take for it.
const GRACE_NS: u64 = 300_000_000;

impl Supervisor<'_> {
    /// Asks a driver to rest. It rests when its state is [`State::Suspended`], in [`GRACE_NS`] at
    /// the latest.
    pub(crate) fn suspend<K: Kernel>(&mut self, k: &mut K, i: usize) -> Result<Reply, Error> {
        let p = &mut self.processes[i];
        let Some(ntfn) = p.parts.as_ref().ok_or(Error::NotRunning)?.suspend else {
            return Err(Error::NoDevice);
        };
        match p.state {
            State::Suspended => return Ok(Reply::Done),
            State::Running => {}
            _ => return Err(Error::NotRunning),
        }
        p.suspend_due = Some(k.now_ns() + GRACE_NS);
        k.signal(ntfn);
        self.arm(k);
        Ok(Reply::Done)
    }

    /// Wakes a driver that rests, or is about to.
    pub(crate) fn resume<K: Kernel>(&mut self, k: &mut K, i: usize) -> Result<Reply, Error> {
        let p = &mut self.processes[i];
        if p.parts.as_ref().ok_or(Error::NotRunning)?.suspend.is_none() {
            return Err(Error::NoDevice);
        }
        match p.state {
            State::Suspended => {
                self.start(k, i);
                let p = &self.processes[i];
                if !p.is_running() {
                    return Err(Error::CannotStart);
                }
                say!(self.screen, "[init] {} resumed", p.name);
                Ok(Reply::Done)
            }
            // It has been asked to exit: it does, and is started again as after a crash.
            State::Running => {
                p.suspend_due = None;
                Ok(Reply::Done)
            }
            _ => Err(Error::NotRunning),
        }
    }

    /// Ends a driver that was asked to rest and does not.
    pub(crate) fn suspend_late<K: Kernel>(&mut self, k: &mut K, i: usize, now: u64) {
        let p = &self.processes[i];
        if p.suspend_due.is_none_or(|due| due > now) {
            return;
        }
        say!(self.screen, "[init] {} did not rest in time", p.name);
        if let Some(regs) = self.registers(k, i) {
            self.ended(k, i, Cause::Killed, regs, [now; 2], None);
        }
    }
}
