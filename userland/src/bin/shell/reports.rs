//! What died, why, and what followed: reports of init.

use core::fmt::Write;
use libipc::proc::{self, Details, Outcome, Phases, Report};

use super::failure::{Done, Failure, clip};
use super::{Shell, out};

impl Shell {
    /// A table of all reports that are kept.
    pub(super) fn reports(&mut self) -> Done {
        let mut next = 1;
        loop {
            let request = proc::Request::Reports { from: next };
            let proc::Reply::Reports(some) = self.init(&request)? else {
                return Err(Failure::Nonsense("init"));
            };
            let Some(last) = some.last() else {
                if next == 1 {
                    out!(self, "nothing has died");
                }
                return Ok(());
            };
            if next == 1 {
                // Numbers rise by one, so the first that is there tells how many were dropped.
                if some[0].number > 1 {
                    out!(self, "{} older reports were dropped", some[0].number - 1);
                }
                out!(
                    self,
                    "{:>4} {:>12}  {:<10} {:>8} {:>6} {:>9} {:>8} {:>7} {:>9}  CAUSE",
                    "NO",
                    "DIED AT s",
                    "PROCESS",
                    "DOWN us",
                    "DETECT",
                    "TEAR DOWN",
                    "PAUSE",
                    "BUILD",
                    "RE-ATTACH"
                );
            }
            for r in &some {
                self.report_line(r);
            }
            next = last.number + 1;
        }
    }

    fn report_line(&mut self, r: &Report) {
        let Phases { detect_us, tear_down_us, pause_us, build_us, attach_us } = r.phases;
        let mut attach = heapless::String::<12>::new();
        let _ = match (attach_us, r.outcome) {
            (Some(us), _) => write!(attach, "{us}"),
            (None, Outcome::Attaching) => attach.write_str("not yet"),
            // It never says, or there is no successor.
            (None, _) => attach.write_str("-"),
        };
        let follows = match r.outcome {
            Outcome::Ended => "; stays down",
            Outcome::GivenUp => "; given up",
            Outcome::Waiting => "; waits for its restart",
            Outcome::DiedAgain => "; died again before it was ready",
            Outcome::Started | Outcome::Attaching | Outcome::Ready => "",
        };
        out!(
            self,
            "{:>4} {:>5}.{:06}  {:<10} {:>8} {detect_us:>6} {tear_down_us:>9} {pause_us:>8} \
             {build_us:>7} {attach:>9}  {}{follows}",
            r.number,
            r.at_us / 1_000_000,
            r.at_us % 1_000_000,
            r.name,
            r.phases.downtime_us(),
            r.cause
        );
    }

    /// One report in full.
    pub(super) fn report(&mut self, word: &str) -> Done {
        let missing = || Failure::NoReport(clip(word));
        let number = word.parse().map_err(|_| missing())?;
        let details = match self.ask_init(&proc::Request::Report(number))? {
            Ok(proc::Reply::Report(details)) => details,
            Ok(_) => return Err(Failure::Nonsense("init")),
            Err(proc::Error::NotFound) => return Err(missing()),
            Err(e) => return Err(Failure::Init(e)),
        };
        self.details(&details);
        out!(self, "backtrace:");
        let mut skip = 0;
        loop {
            let request = proc::Request::Backtrace { report: number, skip };
            let proc::Reply::Backtrace(some) = self.init(&request)? else {
                return Err(Failure::Nonsense("init"));
            };
            for (place, n) in some.iter().zip(skip..) {
                out!(self, "  #{n} {}", place.text);
            }
            if !some.is_full() {
                return Ok(());
            }
            skip += some.len() as u32;
        }
    }

    fn details(&mut self, d: &Details) {
        let r = &d.report;
        let (s, us) = (r.at_us / 1_000_000, r.at_us % 1_000_000);
        let (name, life) = (&r.name, r.incarnation);
        out!(self, "report {}: {name}, incarnation {life}, died at {s}.{us:06} s", r.number);
        out!(self, "cause: {}", d.cause);
        let p = r.phases;
        match r.outcome {
            Outcome::Ended => out!(self, "it stays down: `restart {name}` starts it"),
            Outcome::GivenUp => {
                out!(self, "given up, it crashed too often: `restart {name}` starts it");
            }
            Outcome::Waiting => out!(self, "waits for its restart"),
            Outcome::Started => out!(self, "restarted; it does not say when it is ready"),
            Outcome::Attaching => out!(self, "restarted; it has not said yet that it is ready"),
            Outcome::DiedAgain => out!(self, "restarted; it died again before it was ready"),
            Outcome::Ready => out!(self, "restarted and ready: {}", d.said),
        }
        let attach = p.attach_us.unwrap_or(0);
        out!(
            self,
            "downtime: {} us = detect {} + tear down {} + pause {} + build {} + re-attach {attach}",
            p.downtime_us(),
            p.detect_us,
            p.tear_down_us,
            p.pause_us,
            p.build_us
        );
        let g = &d.regs;
        for [(a, x), (b, y), (c, z), (e, w)] in [
            [("rip", g.rip), ("rsp", g.rsp), ("rbp", g.rbp), ("rfl", g.rflags)],
            [("rax", g.rax), ("rbx", g.rbx), ("rcx", g.rcx), ("rdx", g.rdx)],
            [("rsi", g.rsi), ("rdi", g.rdi), ("r8 ", g.r8), ("r9 ", g.r9)],
            [("r10", g.r10), ("r11", g.r11), ("r12", g.r12), ("r13", g.r13)],
            [("r14", g.r14), ("r15", g.r15), ("cs ", g.cs), ("ss ", g.ss)],
        ] {
            out!(self, "{a} {x:016x}  {b} {y:016x}  {c} {z:016x}  {e} {w:016x}");
        }
    }
}
