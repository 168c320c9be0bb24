//! From a death to the readiness of the successor: the report, and what the console says of it.

use abi::UserRegs;
use core::fmt::Write;
use libipc::log::READY;
use libipc::proc::{self, Outcome};
use libipc::trace::code;

use crate::backtrace::{Frames, Place, is_code, walk};
use crate::cause::printable;
use crate::kernel::Kernel;
use crate::report::{Record, clip};
use crate::screen::LineBuf;
use crate::supervisor::{Supervisor, say};

/// How long a process that says when it is ready may take for it before its restart is printed
/// without.
const READY_NS: u64 = 1_000_000_000;

impl Supervisor<'_> {
    /// The way to where the process is, while its stack still exists.
    pub(crate) fn backtrace<K: Kernel>(&self, k: &mut K, i: usize, regs: &UserRegs) -> Frames {
        let mut frames = Frames::new();
        let p = &self.processes[i];
        let Some(parts) = &p.parts else { return frames };
        let returns = |words: &[u64; 2]| p.file.is_some_and(|f| is_code(&f, words[1]));
        walk(regs.rip, regs.rbp, &mut frames, |at| parts.read_stack(k, at).filter(returns));
        if let Some((rip, rbp)) = p.crashed_at {
            walk(rip, rbp, &mut frames, |at| parts.read_stack(k, at).filter(returns));
        }
        frames
    }

    /// Changes the report of a process's last death.
    fn record(&mut self, i: usize, change: impl FnOnce(&mut Record)) {
        let number = self.processes[i].report;
        if let Some(record) = number.and_then(|n| self.reports.get_mut(n)) {
            change(record);
        }
    }

    /// The report is complete.
    fn close(&mut self, i: usize, outcome: Outcome) {
        self.record(i, |r| r.outcome = outcome);
        self.processes[i].report = None;
        self.processes[i].ready_due = None;
    }

    /// Opens the report of a death.
    pub(crate) fn open_report(&mut self, record: Record) {
        let i = record.process;
        self.processes[i].report = Some(self.reports.add(record));
    }

    /// The process stays down.
    pub(crate) fn stays_down(&mut self, i: usize, given_up: bool) {
        self.close(i, if given_up { Outcome::GivenUp } else { Outcome::Ended });
    }

    /// Building its successor begins.
    pub(crate) fn resumes(&mut self, i: usize, now: u64) {
        self.record(i, |r| r.times.resumed = Some(now));
    }

    /// The successor was started, or could not be.
    pub(crate) fn resumed<K: Kernel>(&mut self, k: &mut K, i: usize) {
        let p = &mut self.processes[i];
        if !p.is_running() {
            self.print_frames(i);
            return self.close(i, Outcome::Ended);
        }
        let (started, waits) = (p.started_ns, p.says_ready);
        p.ready_due = waits.then_some(started + READY_NS);
        let outcome = if waits { Outcome::Attaching } else { Outcome::Started };
        self.record(i, |r| (r.times.started, r.outcome) = (Some(started), outcome));
        if waits {
            self.arm(k);
        } else {
            self.announce(i, "");
            self.processes[i].report = None;
        }
    }

    /// Looks whether a running process says that it is ready.
    pub(crate) fn look_ready<K: Kernel>(&mut self, k: &mut K, i: usize) {
        let p = &mut self.processes[i];
        if p.ready || !p.is_running() {
            return;
        }
        let mut text = [0; READY];
        let incarnation = p.starts.wrapping_sub(1);
        let Some(n) = k.log_ready(p.log_page(), incarnation, &mut text) else { return };
        (p.ready, p.says_ready) = (true, true);
        self.trace(k, code::READY, i, 0);
        let (now, said) = (k.now_ns(), clip(&printable(&text[..n.min(READY)])));
        self.record(i, |r| (r.times.ready, r.said) = (Some(now), said));
        self.announce(i, "");
        self.close(i, Outcome::Ready);
    }

    /// The process has died; if that was before it was ready, it never will be.
    pub(crate) fn dies(&mut self, i: usize) {
        if self.processes[i].report.is_some() {
            self.announce(i, ", died again before it was ready");
            self.close(i, Outcome::DiedAgain);
        }
    }

    /// Prints the restarts of those that should have been ready by now.
    pub(crate) fn announce_late(&mut self, i: usize, now: u64) {
        if self.processes[i].ready_due.take_if(|due| *due <= now).is_some() {
            self.announce(i, ", not ready yet");
        }
    }

    /// Prints a restart, once.
    fn announce(&mut self, i: usize, rest: &str) {
        let p = &self.processes[i];
        let Some(r) = p.report.and_then(|n| self.reports.get_mut(n)) else { return };
        if core::mem::replace(&mut r.printed, true) {
            return;
        }
        let mut line = LineBuf::default();
        let _ = write!(line, "[init] restarted {}: {}", p.name, r.cause);
        if r.cause.has_place() {
            let place = Place { address: r.regs.rip, file: p.file, returns: false };
            let _ = write!(line, ", rip {place}");
        }
        let _ = write!(line, ", downtime {} us{rest}", r.times.phases().downtime_us());
        self.screen.log(line.as_bytes());
        // One whose restart was put off had its backtrace printed when it died.
        if r.times.phases().pause_us == 0 {
            self.print_frames(i);
        }
    }

    /// Prints the end of a process that is not restarted now.
    pub(crate) fn print_death(
        &mut self,
        i: usize,
        rest: impl FnOnce(&mut LineBuf) -> core::fmt::Result,
    ) {
        let p = &self.processes[i];
        let Some(r) = p.report.and_then(|n| self.reports.get(n)) else { return };
        let mut line = LineBuf::default();
        let _ = write!(line, "[init] {} ended: {}", p.name, r.cause);
        if r.cause.has_place() {
            let place = Place { address: r.regs.rip, file: p.file, returns: false };
            let _ = write!(line, ", rip {place}");
        }
        let _ = rest(&mut line);
        self.screen.log(line.as_bytes());
        self.print_frames(i);
    }

    fn print_frames(&mut self, i: usize) {
        let p = &self.processes[i];
        let Some(r) = p.report.and_then(|n| self.reports.get(n)) else { return };
        if !r.cause.has_backtrace() {
            return;
        }
        // The first is in the line itself, if its place is.
        let skip = r.cause.has_place() as usize;
        for (n, address) in r.frames.iter().enumerate().skip(skip) {
            let place = Place { address: *address, file: p.file, returns: n > 0 };
            say!(self.screen, "[init]   #{n} {place}");
        }
    }

    /// Reports from number `from` on.
    pub(crate) fn reports_page(&self, from: u32) -> proc::Reply {
        let page = self.reports.page(from).map(|r| r.summary(&self.processes[r.process].name));
        proc::Reply::Reports(page.collect())
    }

    /// A report in full.
    pub(crate) fn report_details(&self, number: u32) -> Result<proc::Reply, proc::Error> {
        let record = self.reports.get(number).ok_or(proc::Error::NotFound)?;
        Ok(proc::Reply::Report(record.details(&self.processes[record.process].name)))
    }

    /// Places of a backtrace.
    pub(crate) fn report_backtrace(
        &self,
        number: u32,
        skip: u32,
    ) -> Result<proc::Reply, proc::Error> {
        let record = self.reports.get(number).ok_or(proc::Error::NotFound)?;
        let file = self.processes[record.process].file;
        let places = record.frames.iter().enumerate().skip(skip as usize).take(4);
        let text = places.map(|(n, address)| {
            let place = Place { address: *address, file, returns: n > 0 };
            proc::Place { text: clip(&place) }
        });
        Ok(proc::Reply::Backtrace(text.collect()))
    }
}
