//! Turning the machine off: drivers are asked to stop their devices, and given a moment for it.
//!
//! A driver knows how its device ends well: what was accepted for sending leaves, interrupts cease,
//! DMA ends. init can only take bus mastering away, which it does afterwards, whether or not the
//! driver was in time.

use core::fmt::Write;

use crate::kernel::Kernel;
use crate::screen::LineBuf;
use crate::supervisor::{Supervisor, say};

/// How long drivers have. Their own waits for hardware are shorter.
const GRACE_NS: u64 = 300_000_000;

impl Supervisor<'_> {
    /// Begins to turn the machine off.
    pub(crate) fn shut_down<K: Kernel>(&mut self, k: &mut K) {
        if self.off_at.is_some() {
            return;
        }
        self.off_at = Some(k.now_ns() + GRACE_NS);
        for i in 0..self.processes.len() {
            if let Some(ntfn) = self.drives(i) {
                k.signal(ntfn);
            }
        }
        self.arm(k);
        self.off_if_quiet(k);
    }

    /// The notification by which process `i` is asked to stop, if it runs and drives a device.
    fn drives(&self, i: usize) -> Option<abi::CPtr> {
        let p = &self.processes[i];
        p.parts.as_ref().filter(|_| p.is_running())?.stop
    }

    /// Turns the machine off if that was asked for and no driver runs, or time is up.
    pub(crate) fn off_if_quiet<K: Kernel>(&mut self, k: &mut K) {
        let Some(deadline) = self.off_at else { return };
        let late = k.now_ns() >= deadline;
        if !late && (0..self.processes.len()).any(|i| self.drives(i).is_some()) {
            return;
        }
        for i in 0..self.processes.len() {
            if self.drives(i).is_some() {
                say!(self.screen, "[init] {} did not stop in time", self.processes[i].name);
            }
            self.quiesce(k, i, true);
        }
        self.off_at = None;
        self.power_off(k);
    }
}
