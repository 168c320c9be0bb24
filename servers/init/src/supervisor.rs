//! Life and death of processes: starting, faults, restarts, and what is printed about them.

use abi::{CPtr, FaultKind, Label, NO_CONTEXT, PowerOff, UserRegs};
use alloc::vec::Vec;
use core::fmt::Write;
use libipc::log::PANIC;
use libipc::proc::State;
use libipc::trace::code;
use spec::Budget;

use crate::cause::{Cause, printable};
use crate::dma::{Reach, Refused};
use crate::kernel::Kernel;
use crate::layout::{badge, signal, slot};
use crate::pci::{self, Function, Mechanism1};
use crate::policy::{GIVE_UP, Next};
use crate::process::Process;
use crate::random::Random;
use crate::report::{Record, Reports};
use crate::screen::{LineBuf, Screen};
use crate::slots::Purposes;
use crate::uart::Uart;

/// A device that was found.
pub struct Device {
    /// Where and what.
    pub function: Function,
    /// Whether its driver may make it a bus master.
    pub dma: bool,
    /// What it reaches then.
    pub reach: Reach,
    /// It decodes memory, and is a bus master if it may.
    pub on: bool,
}

/// What boot hands to the supervisor.
pub struct Setup<'a> {
    /// Processes.
    pub processes: Vec<Process<'a>>,
    /// Devices.
    pub devices: Vec<Option<Device>>,
    /// Console output.
    pub screen: Screen,
    /// Serial port.
    pub uart: Uart,
    /// Random bytes.
    pub random: Random,
    /// Untypeds of RAM.
    pub untypeds: Vec<CPtr>,
    /// Bytes in them.
    pub total: u64,
    /// Slots of init's CSpace that stay filled.
    pub standing_slots: u32,
    /// How the machine is turned off.
    pub power: PowerOff,
    /// Whether the kernel writes its trace already.
    pub tracing: bool,
    /// What init's slots are for.
    pub purposes: Purposes,
    /// Bytes of RAM that the machine has.
    pub ram: u64,
}

/// The supervisor.
pub struct Supervisor<'a> {
    pub(crate) processes: Vec<Process<'a>>,
    pub(crate) devices: Vec<Option<Device>>,
    pub(crate) refused: Refused,
    /// The machine is to go off, at this time at the latest.
    pub(crate) off_at: Option<u64>,
    pub(crate) screen: Screen,
    pub(crate) uart: Uart,
    /// The serial port had more than was read at once.
    pub(crate) input_waits: bool,
    pub(crate) random: Random,
    pub(crate) reports: Reports,
    pub(crate) untypeds: Vec<CPtr>,
    pub(crate) total: u64,
    pub(crate) standing_slots: u32,
    pub(crate) power: PowerOff,
    pub(crate) tracing: bool,
    pub(crate) purposes: Purposes,
    pub(crate) ram: u64,
}

/// Prints a formatted line.
macro_rules! say {
    ($screen:expr, $($arg:tt)*) => {{
        let mut line = LineBuf::default();
        let _ = write!(line, $($arg)*);
        $screen.log(line.as_bytes());
    }};
}
pub(crate) use say;

impl<'a> Supervisor<'a> {
    /// A supervisor of processes that were not started yet.
    pub fn new(setup: Setup<'a>) -> Self {
        Self {
            processes: setup.processes,
            devices: setup.devices,
            refused: Refused::default(),
            off_at: None,
            screen: setup.screen,
            uart: setup.uart,
            input_waits: false,
            random: setup.random,
            reports: Reports::default(),
            untypeds: setup.untypeds,
            total: setup.total,
            standing_slots: setup.standing_slots,
            power: setup.power,
            tracing: setup.tracing,
            purposes: setup.purposes,
            ram: setup.ram,
        }
    }

    /// Starts everything that the manifest says is started at boot.
    pub fn start_all<K: Kernel>(&mut self, k: &mut K) {
        for i in 0..self.processes.len() {
            if self.processes[i].autostart && self.processes[i].parts.is_some() {
                self.start(k, i);
                let p = &self.processes[i];
                if let (State::Running, Some(parts)) = (p.state, &p.parts) {
                    let kib = parts.private_bytes() >> 10;
                    let (name, priority) = (&p.name, p.priority);
                    say!(self.screen, "[init] started {name}, priority {priority}, {kib} KiB");
                }
            }
            if !self.processes[i].is_running() {
                self.out_of_service(k, i);
            }
        }
    }

    /// A server is down, and it is not about to be started: whoever calls it is told so at once,
    /// until it receives again.
    fn out_of_service<K: Kernel>(&self, k: &mut K, i: usize) {
        if let Some(endpoint) = self.processes[i].endpoint {
            // It is init's own capability, in init's own CNode: this cannot fail.
            let _ = k.close_endpoint(endpoint);
        }
    }

    /// Starts a process that does not run. On failure it is left `Failed`, with the reason
    /// printed.
    pub(crate) fn start<K: Kernel>(&mut self, k: &mut K, i: usize) {
        let p = &mut self.processes[i];
        p.pending = None;
        p.crashed_at = None;
        p.doom = None;
        p.suspend_due = None;
        p.ready = false;
        let Some(parts) = &mut p.parts else { return };
        for d in &parts.devices {
            let Some(device) = self.devices[*d].as_mut().filter(|d| !d.on) else { continue };
            pci::enable(&mut Mechanism1(k), device.function.address, device.dma);
            device.on = true;
        }
        parts.info.incarnation = p.starts;
        let changed = self.random.fill(k, &mut parts.info.seed);
        let result = parts.start(k, i, p.priority, p.budget);
        if changed {
            self.say_source();
        }
        let p = &mut self.processes[i];
        let Some(parts) = &mut p.parts else { return };
        if let Err(e) = result {
            parts.stop(k);
            // A start that failed half way may have left this.
            let _ = k.delete(slot::SCRATCH);
            p.state = State::Failed;
            self.out_of_service(k, i);
            let p = &self.processes[i];
            say!(self.screen, "[init] {} cannot be started: kernel error {e:?}", p.name);
            return;
        }
        p.starts += 1;
        p.started_ns = k.now_ns();
        p.history.started(p.started_ns);
        p.state = State::Running;
        self.trace(k, code::STARTED, i, 0);
    }

    /// Where random bytes come from, when that has changed.
    pub(crate) fn say_source(&mut self) {
        let source = self.random.source();
        say!(self.screen, "[init] randomness from {source} now");
    }

    /// A thread's fault message arrived: its badge, method and words. Returns whether it is to be
    /// answered, so that the thread goes on.
    pub fn fault<K: Kernel>(&mut self, k: &mut K, from: u64, method: u16, words: [u64; 4]) -> bool {
        let index = badge::faulted(from).filter(|i| *i < self.processes.len());
        let Some(i) = index.filter(|i| self.processes[*i].is_running()) else { return false };
        if FaultKind::from_raw(method) == Some(FaultKind::Budget) && words[2] != NO_CONTEXT {
            self.overrun(k.now_ns(), i);
            return true;
        }
        self.faulted(k, i, method, words);
        false
    }

    /// A process has used up its budget, and goes on when there is some again. Once may be chance
    /// (another machine's turn on the host's processor); half of a second is told.
    fn overrun(&mut self, now: u64, i: usize) {
        let p = &mut self.processes[i];
        let Some(budget) = p.budget else { return };
        if p.overrun.admit(now, budget.period_us) {
            let (name, Budget { budget_us, period_us }) = (&p.name, budget);
            say!(
                self.screen,
                "[init] {name} uses up its {budget_us} us of {period_us} us again and again: it \
                 spins, or has too little"
            );
        }
    }

    fn faulted<K: Kernel>(&mut self, k: &mut K, i: usize, method: u16, words: [u64; 4]) {
        let noticed = k.now_ns();
        let Some(regs) = self.registers(k, i) else { return };
        let p = &self.processes[i];
        let stack_end = p.parts.as_ref().map_or(0, |parts| parts.stack_end());
        let mut cause = Cause::from_fault(method, words, &regs, stack_end);
        if let Cause::Panic(text) = &mut cause {
            let mut bytes = [0; PANIC];
            let n = k.log_panic(p.log_page(), &mut bytes).min(PANIC);
            *text = printable(&bytes[..n]);
        }
        let died = words[3].min(noticed);
        self.ended(k, i, cause, regs, [died, noticed], None);
    }

    /// Registers of a process's thread.
    pub(crate) fn registers<K: Kernel>(&self, k: &mut K, i: usize) -> Option<UserRegs> {
        let thread = self.processes[i].parts.as_ref()?.slots.thread;
        k.invoke(thread, Label::ThreadReadRegisters, [0; 4], [0; 2]).ok()?;
        Some(k.registers())
    }

    /// A running process has ended, or is being ended: tears it down and does what its policy
    /// says (or what `order` says, in any case). `at`: when it died, and when that was noticed.
    pub(crate) fn ended<K: Kernel>(
        &mut self,
        k: &mut K,
        i: usize,
        cause: Cause,
        regs: UserRegs,
        at: [u64; 2],
        order: Option<Next>,
    ) {
        self.trace(k, code::DIED, i, at[0]);
        self.drain(k, i);
        self.dies(i);
        let p = &mut self.processes[i];
        let mut record = Record::new(i, p.starts.wrapping_sub(1), cause, regs);
        let stops = self.off_at.is_some() && p.parts.as_ref().is_some_and(|x| x.stop.is_some());
        let suspends = p.suspend_due.take().is_some() && order.is_none();
        let next = match (stops, order) {
            // What it was asked to do.
            (true, _) => Next::Leave,
            (_, Some(next)) => next,
            _ if suspends => Next::Leave,
            _ => p.history.ended(p.policy, record.cause.end(), at[0]),
        };
        let stays = matches!(next, Next::Leave | Next::Never | Next::GiveUp);
        record.frames = self.backtrace(k, i, &regs);
        self.quiesce(k, i, stays);
        if let Some(parts) = &self.processes[i].parts {
            parts.stop(k);
        }
        self.trace(k, code::GONE, i, 0);
        [record.times.died, record.times.noticed] = at;
        record.times.torn_down = k.now_ns();
        let exit = match record.cause {
            Cause::Exit(status) if next != Next::GiveUp => Some(status),
            _ => None,
        };
        let surprise = record.cause.has_backtrace();
        if suspends && exit == Some(0) {
            // No death: nothing to report.
            self.end_log(i);
            self.processes[i].state = State::Suspended;
            say!(self.screen, "[init] {} suspended", self.processes[i].name);
            return self.off_if_quiet(k);
        }
        self.open_report(record);
        match next {
            Next::Now => {
                self.start(k, i);
                self.end_log(i);
                self.resumed(k, i);
            }
            Next::Later { pause_ns, starts } => {
                self.end_log(i);
                let ms = pause_ns / 1_000_000;
                self.print_death(i, |line| {
                    write!(line, "; {starts} starts in a short time, next one in {ms} ms")
                });
                let p = &mut self.processes[i];
                p.state = State::Restarting;
                p.pending = Some(k.now_ns() + pause_ns);
                self.arm(k);
            }
            Next::Leave | Next::Never | Next::GiveUp => {
                self.trace(k, code::STAYS, i, 0);
                self.end_log(i);
                self.processes[i].state = match exit {
                    _ if suspends => State::Suspended,
                    Some(status) => State::Exited(status),
                    None => State::Failed,
                };
                self.print_death(i, |line| match next {
                    _ if suspends => line.write_str("; suspended"),
                    Next::GiveUp => write!(
                        line,
                        "; GIVEN UP after {GIVE_UP} pauses: it stays down until it is restarted by hand"
                    ),
                    Next::Never if surprise => {
                        line.write_str("; its policy is never to restart it")
                    }
                    _ => Ok(()),
                });
                self.stays_down(i, next == Next::GiveUp);
                self.out_of_service(k, i);
            }
        }
        self.notify_death(k, i);
        self.off_if_quiet(k);
    }

    /// Tells those whom the manifest names that a process has died, or is back from a pause.
    fn notify_death<K: Kernel>(&self, k: &mut K, i: usize) {
        for ntfn in self.processes[i].parts.iter().flat_map(|parts| &parts.notices) {
            k.signal(*ntfn);
        }
    }

    /// Stops the devices of a process before its memory is used again, where that is needed: QEMU's
    /// e1000 reaches lent memory only and is taken over as it runs; a real one is stopped, and a
    /// device that nobody will drive is stopped in any case.
    pub(crate) fn quiesce<K: Kernel>(&mut self, k: &mut K, i: usize, stays: bool) {
        let Some(parts) = &self.processes[i].parts else { return };
        for d in &parts.devices {
            let Some(device) = self.devices[*d].as_mut() else { continue };
            if device.on && (stays || !device.function.emulated) {
                pci::enable(&mut Mechanism1(k), device.function.address, false);
                device.on = false;
            }
        }
    }

    /// Arms the timer for what is due first.
    pub(crate) fn arm<K: Kernel>(&self, k: &mut K) {
        let restarts = self.processes.iter().filter_map(|p| p.pending);
        let ready = self.processes.iter().filter_map(|p| p.ready_due);
        let rests = self.processes.iter().filter_map(|p| p.suspend_due);
        let crashes = self.processes.iter().filter_map(|p| Some(p.doom?.1));
        let logs = self.processes.iter().filter_map(|p| p.log_due);
        let due = restarts.chain(ready).chain(rests).chain(crashes).chain(logs);
        let due = due.chain(self.off_at).chain(self.refused.due).min();
        if let Some(due) = due {
            let _ = k.invoke(slot::TIMER, Label::TimerArm, [due, 0, 0, 0], [0; 2]);
        }
    }

    fn start_due<K: Kernel>(&mut self, k: &mut K) {
        let now = k.now_ns();
        for i in 0..self.processes.len() {
            if let Some((how, _)) = self.processes[i].doom.take_if(|(_, due)| *due <= now) {
                self.strike(k, i, how);
            }
            if self.processes[i].pending.is_some_and(|due| due <= now) {
                self.start_pending(k, i);
            }
            self.announce_late(i, now);
            self.suspend_late(k, i, now);
            if self.processes[i].log_due.take_if(|due| *due <= now).is_some() {
                self.drain(k, i);
            }
        }
        self.listen_again(k, now);
        self.off_if_quiet(k);
        self.arm(k);
    }

    /// Starts a process whose restart was put off.
    pub(crate) fn start_pending<K: Kernel>(&mut self, k: &mut K, i: usize) {
        self.trace(k, code::RESUMED, i, 0);
        self.resumes(i, k.now_ns());
        self.start(k, i);
        self.resumed(k, i);
        if self.processes[i].is_running() {
            self.notify_death(k, i);
        }
    }

    /// Signals arrived.
    pub fn signals<K: Kernel>(&mut self, k: &mut K, bits: u64) {
        if bits & signal::UART != 0 {
            // Before reading: what arrives after the last look is a new edge.
            let _ = k.invoke(slot::UART_IRQ, Label::IrqAck, [0; 4], [0; 2]);
            self.input(k);
        }
        if bits & signal::DMA != 0 {
            self.dma_faults(k);
        }
        for i in 0..self.processes.len() {
            if bits & signal::log(i) != 0 {
                self.drain(k, i);
            }
        }
        if bits & signal::TIMER != 0 {
            self.start_due(k);
        }
    }
}
