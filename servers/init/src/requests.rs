//! Requests of processes ([`libipc::proc`]): the shell's view of the system and its levers.

use abi::{Label, MsgInfo};
use core::fmt::Write;
use libipc::log::Held;
use libipc::msg::{self, Nonsense};
use libipc::permission::Permission;
use libipc::proc::{Args, Crash, Error, Reply, Request, State};

use crate::cause::Cause;
use crate::kernel::Kernel;
use crate::layout::badge;
use crate::noise::Source;
use crate::policy::Next;
use crate::process::Process;
use crate::screen::LineBuf;
use crate::supervisor::{Supervisor, say};

/// How long a requested crash may be in coming, ns.
const CRASH_WITHIN_NS: u64 = 3_000_000;
/// What a caller did wrong.
enum Wrong {
    NotPermitted(Permission),
    Nonsense(Nonsense),
}

/// Bytes below the stack pointer that a function may use (System V ABI, the red zone).
const RED_ZONE: u64 = 128;

impl Supervisor<'_> {
    /// Answers a request. `None`: there is nobody to answer; the caller was its own target.
    pub fn request<K: Kernel>(
        &mut self,
        k: &mut K,
        from: u64,
        request: &Request,
    ) -> Option<Result<Reply, Error>> {
        let may = badge::requester(from)
            .filter(|i| *i < self.processes.len())
            .ok_or(Permission::InitStatus)
            .and_then(|i| self.processes[i].may_ask(request).map(|()| i));
        let caller = match may {
            Ok(caller) => caller,
            Err(permission) => return Some(Err(Error::NotPermitted(permission))),
        };
        let result = match request {
            Request::List { skip } => Ok(self.list(k, *skip)),
            Request::Reports { from } => Ok(self.reports_page(*from)),
            Request::Report(number) => self.report_details(*number),
            Request::Backtrace { report, skip } => self.report_backtrace(*report, *skip),
            Request::Memory => Ok(self.memory(k)),
            Request::Random => Ok(self.random(k)),
            Request::Trace(order) => self.order_trace(k, *order),
            Request::Dma => Ok(self.dma()),
            Request::Authority { place, from } => Ok(self.authority(k, *place, *from)),
            Request::Machine => Ok(Reply::Machine(self.ram)),
            Request::PowerOff => {
                self.shut_down(k);
                Ok(Reply::Done)
            }
            Request::Kill(name) => self.target(name).and_then(|i| self.kill(k, i)),
            Request::Crash(name, how) => self.target(name).and_then(|i| self.crash(k, i, *how)),
            Request::Restart(name) => self.target(name).and_then(|i| self.restart(k, i)),
            Request::Start(name, args) => {
                self.target(name).and_then(|i| self.start_with(k, i, args.clone()))
            }
            Request::Stop(name) => {
                self.target(name).and_then(|i| self.end(k, i, Cause::Killed, Some(Next::Leave)))
            }
            Request::Suspend(name) => self.target(name).and_then(|i| self.suspend(k, i)),
            Request::Resume(name) => self.target(name).and_then(|i| self.resume(k, i)),
        };
        let names_itself = match request {
            Request::Kill(n)
            | Request::Crash(n, _)
            | Request::Restart(n)
            | Request::Start(n, _)
            | Request::Stop(n) => *n == self.processes[caller].name,
            _ => false,
        };
        (!names_itself || result.is_err()).then_some(result)
    }

    /// Answers a message as it arrived: its badge, its word, its payload.
    pub fn message<K: Kernel>(
        &mut self,
        k: &mut K,
        from: u64,
        info: MsgInfo,
        payload: &[u8],
    ) -> Option<Result<Reply, Error>> {
        let caller = badge::requester(from).filter(|i| *i < self.processes.len());
        let (answer, wrong) = match msg::request(msg::interface::PROC, info, payload) {
            Ok(request) => {
                let answer = self.request(k, from, &request);
                let wrong = match &answer {
                    Some(Err(Error::NotPermitted(p))) => Some(Wrong::NotPermitted(*p)),
                    _ => None,
                };
                (answer, wrong)
            }
            Err(what) => (Some(Err(Error::Invalid)), Some(Wrong::Nonsense(what))),
        };
        if let (Some(wrong), Some(i)) = (wrong, caller) {
            self.complain(k.now_ns(), i, wrong);
        }
        answer
    }

    /// Says what a caller did wrong at a bounded pace.
    fn complain(&mut self, now_ns: u64, i: usize, wrong: Wrong) {
        let p = &mut self.processes[i];
        let Some(held) = p.complaints.admit(now_ns) else { return };
        let (name, held) = (&p.name, Held(held));
        match wrong {
            Wrong::NotPermitted(permission) => {
                let lack = permission.lacked_by(name);
                say!(self.screen, "[init] {name} may not ask that of init: {lack}{held}");
            }
            Wrong::Nonsense(what) => say!(self.screen, "[init] {name} sent {what}{held}"),
        }
    }

    fn target(&self, name: &str) -> Result<usize, Error> {
        self.processes.iter().position(|p| p.name == name).ok_or(Error::NotFound)
    }

    fn list<K: Kernel>(&self, k: &mut K, skip: u32) -> Reply {
        let now = k.now_ns();
        let page = self.processes.iter().skip(skip as usize).take(8);
        let page = page.map(|p| libipc::proc::Process {
            name: p.name.clone(),
            state: p.state,
            priority: p.priority,
            restarts: p.starts.saturating_sub(1),
            memory: p.parts.as_ref().filter(|_| p.is_running()).map_or(0, |x| x.private_bytes()),
            drives: p.parts.as_ref().is_some_and(|x| !x.devices.is_empty()),
            ran_us: p.ran_us(k),
            uptime_us: if p.is_running() { now.saturating_sub(p.started_ns) / 1000 } else { 0 },
        });
        Reply::Processes(page.collect())
    }

    /// Free bytes as the kernel counts them: above the watermarks of all untypeds, the private ones
    /// of processes included.
    fn memory<K: Kernel>(&self, k: &mut K) -> Reply {
        let private = self.processes.iter().filter_map(|p| Some(p.parts.as_ref()?.slots.private));
        let untypeds = self.untypeds.iter().copied().chain(private);
        let free = untypeds.map(|u| k.untyped_left(u).unwrap_or(0)).sum();
        let running = self.processes.iter().filter(|p| p.is_running());
        let slots = running.filter_map(|p| Some(p.parts.as_ref()?.plan.slots() as u32));
        Reply::Memory { total: self.total, free, slots: self.standing_slots + slots.sum::<u32>() }
    }

    fn random<K: Kernel>(&mut self, k: &mut K) -> Reply {
        let mut bytes = [0; 32];
        if self.random.fill(k, &mut bytes) {
            self.say_source();
        }
        Reply::Random { bytes, sound: self.random.source() != Source::None }
    }

    fn kill<K: Kernel>(&mut self, k: &mut K, i: usize) -> Result<Reply, Error> {
        self.end(k, i, Cause::Killed, None)
    }

    fn end<K: Kernel>(
        &mut self,
        k: &mut K,
        i: usize,
        cause: Cause,
        order: Option<Next>,
    ) -> Result<Reply, Error> {
        let now = k.now_ns();
        if !self.processes[i].is_running() {
            return Err(Error::NotRunning);
        }
        let regs = self.registers(k, i).ok_or(Error::NotRunning)?;
        self.ended(k, i, cause, regs, [now; 2], order);
        Ok(Reply::Done)
    }

    fn restart<K: Kernel>(&mut self, k: &mut K, i: usize) -> Result<Reply, Error> {
        let p = &mut self.processes[i];
        if p.parts.is_none() {
            return Err(Error::CannotStart);
        }
        p.history.reset();
        match p.state {
            State::Running => return self.end(k, i, Cause::Requested, Some(Next::Now)),
            State::Restarting => self.start_pending(k, i),
            State::Exited(_) | State::Failed | State::Stopped | State::Suspended => {
                self.start(k, i);
            }
        }
        if self.processes[i].is_running() { Ok(Reply::Done) } else { Err(Error::CannotStart) }
    }

    /// As [`Self::restart`], with other arguments: they are in the start information when it returns.
    fn start_with<K: Kernel>(&mut self, k: &mut K, i: usize, args: Args) -> Result<Reply, Error> {
        let parts = self.processes[i].parts.as_mut().ok_or(Error::CannotStart)?;
        let usual = core::mem::replace(&mut parts.info.args, args);
        let result = self.restart(k, i);
        if let Some(parts) = &mut self.processes[i].parts {
            parts.info.args = usual;
        }
        result
    }

    /// Makes a process crash within [`CRASH_WITHIN_NS`], at a random moment: whoever asks runs only
    /// while a server waits, so an immediate crash would never hit one at work.
    fn crash<K: Kernel>(&mut self, k: &mut K, i: usize, how: Crash) -> Result<Reply, Error> {
        let p = &self.processes[i];
        if !p.is_running() {
            return Err(Error::NotRunning);
        }
        // Without an IOMMU it would not be a crash of the driver alone.
        if how == Crash::Dma && !self.is_confined(i)? {
            return Err(Error::NotConfined);
        }
        crash_function(p, how).ok_or(Error::Invalid)?;
        let mut bytes = [0; 8];
        self.random.fill(k, &mut bytes);
        let delay = u64::from_le_bytes(bytes) % CRASH_WITHIN_NS;
        self.processes[i].doom = Some((how, k.now_ns() + delay));
        self.arm(k);
        Ok(Reply::Done)
    }

    /// Sends a process to one of the functions that every program has for this purpose, wherever
    /// it is. Its registers are lost but for the stack pointer; where it was is kept for the
    /// backtrace.
    pub(crate) fn strike<K: Kernel>(&mut self, k: &mut K, i: usize, how: Crash) {
        let p = &self.processes[i];
        let (Some(rip), Some(parts)) = (crash_function(p, how), &p.parts) else { return };
        let (thread, stack_end) = (parts.slots.thread, parts.stack_end());
        if !p.is_running() || k.invoke(thread, Label::ThreadSuspend, [0; 4], [0; 2]).is_err() {
            return;
        }
        let Some(regs) = self.registers(k, i) else { return };
        // A stack pointer that left the stack is not followed: the top will do for a panic.
        let top = libipc::start::STACK_TOP;
        let inside = regs.rsp > stack_end + RED_ZONE && regs.rsp <= top;
        let rsp = if inside { regs.rsp - RED_ZONE } else { top };
        // As after a call: 8 below a multiple of 16.
        let rsp = (rsp & !15) - 8;
        // A return address of none ends the walk there; where it was follows from here.
        parts.clear_stack(k, rsp);
        self.processes[i].crashed_at = Some((regs.rip, regs.rbp));
        // A thread that was suspended can be given registers.
        let _ = k.invoke(thread, Label::ThreadWriteRegisters, [rip, rsp, 0, 0], [1, 0]);
    }
}

/// Address of the function that crashes in this way.
fn crash_function(p: &Process<'_>, how: Crash) -> Option<u64> {
    p.file.and_then(|f| f.symbols())?.find(match how {
        Crash::Panic => "rt_crash_panic",
        Crash::Pointer => "rt_crash_pointer",
        Crash::Undefined => "rt_crash_undefined",
        Crash::Spin => "rt_crash_spin",
        Crash::Dma => "crash_dma",
    })
}
