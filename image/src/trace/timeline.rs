//! From records to what is drawn: a track for each thread, with a slice for each time that it runs;
//! calls as spans from call to reply; arrows from who sends to who receives; interrupts from the
//! line's firing to its acknowledgement; restarts with their phases.

use std::collections::{BTreeMap, HashMap};

use abi::{FaultKind, SUPERVISOR_EXIT, SUPERVISOR_PANIC, TraceKind, TraceRecord};
use abi::{trace_flag, trace_state};
use libipc::trace::{INIT, code, process};

use super::capture::Capture;
use super::names;

/// A row of the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Track {
    /// A thread, by number without its life; 0 is nobody.
    Thread(u32),
    /// An interrupt line.
    Irq(u32),
    /// Deaths and restarts of a process.
    Restarts(usize),
}

/// A row and a time, ns since boot.
pub type Moment = (Track, u64);

/// Details, by name.
pub type Args = Vec<(&'static str, String)>;

/// Something that lasts. Slices of one track are apart or inside each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Where.
    pub track: Track,
    /// What.
    pub name: String,
    /// From when to when, ns since boot.
    pub time: [u64; 2],
    /// Details.
    pub args: Args,
}

/// Something that happens at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instant {
    /// Where.
    pub track: Track,
    /// What.
    pub name: String,
    /// When, ns since boot.
    pub at: u64,
    /// Details.
    pub args: Args,
}

/// Something that goes from a slice to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrow {
    /// What.
    pub name: String,
    /// From where, and when, ns since boot.
    pub from: Moment,
    /// To where.
    pub to: Moment,
}

/// A timeline.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Rows and their names.
    pub tracks: BTreeMap<Track, String>,
    /// Slices.
    pub slices: Vec<Slice>,
    /// Calls from call to reply; they span slices of the caller.
    pub calls: Vec<Slice>,
    /// Moments.
    pub instants: Vec<Instant>,
    /// Messages, replies and signals that woke somebody.
    pub arrows: Vec<Arrow>,
}

const fn thread(number: u32) -> Track {
    Track::Thread(number & 0xffff)
}

/// Why a thread runs no more.
fn why(state: u8) -> &'static str {
    match state {
        trace_state::PREEMPTED => "another one goes first",
        trace_state::SENDING => "waits for somebody to take its message",
        trace_state::RECEIVING => "waits for a message",
        trace_state::CALLING => "waits for a reply",
        trace_state::WAITING => "waits for a signal",
        _ => "stopped",
    }
}

fn fault(kind: u8, addr: u64) -> String {
    match FaultKind::from_raw(kind as u16) {
        Some(FaultKind::Page) => format!("page fault at {addr:#x}"),
        Some(FaultKind::Protection) => "protection fault".into(),
        Some(FaultKind::Undefined) => "undefined instruction".into(),
        Some(FaultKind::Divide) => "division fault".into(),
        Some(FaultKind::Syscall) if addr == SUPERVISOR_PANIC => "panic".into(),
        Some(FaultKind::Syscall) if addr == SUPERVISOR_EXIT => "exit".into(),
        Some(FaultKind::Syscall) => format!("system call {addr:#x}"),
        Some(FaultKind::Budget) => "out of budget".into(),
        Some(FaultKind::Other) | None => "exception".into(),
    }
}

/// A death and what has followed so far.
struct Death {
    died: u64,
    /// Ends of its phases.
    phases: Vec<(&'static str, u64)>,
}

struct Builder<'a> {
    capture: &'a Capture,
    out: Timeline,
    /// Who runs, since when.
    running: Option<(u32, u64)>,
    /// Since when a sender waits in a queue.
    queued: HashMap<u32, u64>,
    /// Calls without a reply yet: name, receiver, since when.
    open: HashMap<u32, (String, u32, u64)>,
    /// What has reached a thread that does not run yet.
    arriving: HashMap<u32, Vec<(String, Moment)>>,
    /// Since when a line waits for its acknowledgement.
    fired: HashMap<u32, (u64, Args)>,
    deaths: BTreeMap<usize, Death>,
    now: u64,
}

impl Timeline {
    /// The timeline of a capture.
    pub fn new(capture: &Capture) -> Self {
        let mut b = Builder {
            capture,
            out: Self::default(),
            running: None,
            queued: HashMap::new(),
            open: HashMap::new(),
            arriving: HashMap::new(),
            fired: HashMap::new(),
            deaths: BTreeMap::new(),
            now: 0,
        };
        for r in &capture.records {
            b.now = capture.clock.ns(r.tsc);
            b.record(r);
        }
        b.end();
        b.out
    }

    /// From the first moment to the last.
    pub fn length_ns(&self) -> u64 {
        let from = self.slices.iter().map(|s| s.time[0]).min().unwrap_or(0);
        self.slices.iter().map(|s| s.time[1]).max().unwrap_or(0) - from
    }
}

impl Builder<'_> {
    fn track(&mut self, track: Track, name: impl Fn() -> String) -> Track {
        self.out.tracks.entry(track).or_insert_with(name);
        track
    }
    fn thread(&mut self, number: u32) -> Track {
        let capture = self.capture;
        self.track(thread(number), || capture.name(number))
    }
    fn slice(&mut self, track: Track, name: impl Into<String>, time: [u64; 2], args: Args) {
        self.out.slices.push(Slice { track, name: name.into(), time, args });
    }
    fn instant(&mut self, track: Track, name: impl Into<String>, args: Args) {
        self.out.instants.push(Instant { track, name: name.into(), at: self.now, args });
    }
    /// An arrow to a thread, which is seen to arrive when that runs.
    fn arrow(&mut self, name: &str, from: Moment, to: u32) {
        if self.running.is_some_and(|(running, _)| running == to) {
            let to = (self.thread(to), self.now);
            self.out.arrows.push(Arrow { name: name.into(), from, to });
        } else {
            self.arriving.entry(to).or_default().push((name.into(), from));
        }
    }

    fn record(&mut self, r: &TraceRecord) {
        match r.kind() {
            Some(TraceKind::Switch) => self.switch(r),
            Some(TraceKind::Message) => self.message(r),
            Some(TraceKind::Queued) => drop(self.queued.insert(r.thread(), self.now)),
            Some(TraceKind::Reply) => self.reply(r),
            Some(TraceKind::Signal) => {
                let from = self.thread(r.thread());
                let mut args = vec![
                    ("bits", format!("{:#x}", r.b)),
                    ("notification", format!("{:08x}", r.object())),
                ];
                if r.peer() != 0 {
                    args.push(("wakes", self.capture.name(r.peer())));
                    self.arrow("signal", (from, self.now), r.peer());
                }
                self.instant(from, "signal", args);
            }
            Some(TraceKind::Irq) => {
                let line = self.track(Track::Irq(r.peer()), || format!("interrupt {}", r.peer()));
                let args = vec![
                    ("bits", format!("{:#x}", r.b)),
                    ("notification", format!("{:08x}", r.object())),
                    ("interrupts", self.capture.name(r.thread())),
                ];
                self.instant(line, "fires", args.clone());
                self.fired.insert(r.peer(), (self.now, args));
            }
            Some(TraceKind::IrqAck) => {
                let name = format!("interrupt {} ({})", r.peer(), self.capture.name(r.thread()));
                let line = Track::Irq(r.peer());
                self.out.tracks.insert(line, name);
                self.instant(line, "acknowledged", vec![]);
                if let Some((since, args)) = self.fired.remove(&r.peer()) {
                    self.slice(line, "waits for its driver", [since, self.now], args);
                }
            }
            Some(TraceKind::Timer) => {
                let on = self.thread(self.running.map_or(0, |(thread, _)| thread));
                let args =
                    vec![("timer", format!("{:08x}", r.object())), ("bits", format!("{:#x}", r.b))];
                self.instant(on, "timer fires", args);
            }
            Some(TraceKind::Fault) => {
                let on = self.thread(r.thread());
                let args = vec![("rip", format!("{:#x}", r.b))];
                self.instant(on, fault(r.flags(), r.a), args);
            }
            Some(TraceKind::Named) => {
                let on = self.thread(r.thread());
                let life = libipc::trace::incarnation(r.thread());
                self.instant(on, "thread begins", vec![("life", life.to_string())]);
            }
            Some(TraceKind::User) => self.user(r),
            None => {}
        }
    }

    fn switch(&mut self, r: &TraceRecord) {
        let (next, before) = (r.thread(), r.peer());
        // Before the first switch the one that ran then had run from the beginning.
        let began = self.running.map_or_else(
            || self.capture.records.first().map_or(0, |f| self.capture.clock.ns(f.tsc)),
            |(_, since)| since,
        );
        let ran = self.running.map_or(before, |(thread, _)| thread);
        self.ran(ran, began, why(r.flags()));
        self.running = Some((next, self.now));
        let to = self.thread(next);
        for (name, from) in self.arriving.remove(&next).unwrap_or_default() {
            self.out.arrows.push(Arrow { name, from, to: (to, self.now) });
        }
    }

    fn ran(&mut self, number: u32, since: u64, why: &str) {
        let on = self.thread(number);
        let args = match number {
            0 => vec![],
            _ => vec![("then", why.to_string())],
        };
        self.slice(on, if number == 0 { "idle" } else { "runs" }, [since, self.now], args);
    }

    fn message(&mut self, r: &TraceRecord) {
        let (from, to, info) = (r.thread(), r.peer(), r.info());
        let since = self.queued.remove(&from).unwrap_or(self.now);
        let is_fault = r.flags() & trace_flag::FAULT != 0;
        let name =
            if is_fault { "fault".to_string() } else { names::request(info.interface(), r.tag()) };
        let track = self.thread(from);
        self.thread(to);
        let args = vec![
            ("to", self.capture.name(to)),
            ("badge", format!("{:#x}", r.code())),
            ("endpoint", format!("{:08x}", r.object())),
            ("method", info.method().to_string()),
            ("bytes", if is_fault { 0 } else { info.len() }.to_string()),
        ];
        self.out.instants.push(Instant { track, name: name.clone(), at: since, args });
        self.arrow(&name, (track, since), to);
        if r.flags() & (trace_flag::CALL | trace_flag::FAULT) != 0 {
            self.open.insert(from, (name, to, since));
        }
    }

    fn reply(&mut self, r: &TraceRecord) {
        let (server, caller) = (r.thread(), r.peer());
        let died = r.flags() & trace_flag::DIED != 0;
        if !died {
            let from = self.thread(server);
            let open = self.open.get(&caller).map_or("a call", |(name, ..)| name).to_string();
            let args = vec![("to", self.capture.name(caller))];
            self.instant(from, format!("reply to {open}"), args);
            self.arrow("reply", (from, self.now), caller);
        }
        self.close(caller, if died { "the server died" } else { "answered" });
    }

    /// A call has ended.
    fn close(&mut self, caller: u32, how: &str) {
        let Some((name, to, since)) = self.open.remove(&caller) else { return };
        let track = self.thread(caller);
        let args = vec![("to", self.capture.name(to)), ("end", how.to_string())];
        self.out.calls.push(Slice { track, name, time: [since, self.now], args });
    }

    fn user(&mut self, r: &TraceRecord) {
        let about = process(r.a as u32).filter(|_| r.thread() == INIT);
        let Some(index) = about else {
            let on = self.thread(r.thread());
            let args = vec![("a", format!("{:#x}", r.a)), ("b", format!("{:#x}", r.b))];
            return self.instant(on, format!("log {}", r.code()), args);
        };
        let phase = match r.code() {
            code::DIED => {
                self.finish(index, "restart");
                self.close(r.a as u32, "the caller died");
                let detected = ("detect", self.now);
                let death = Death { died: r.b.min(self.now), phases: vec![detected] };
                self.deaths.insert(index, death);
                return;
            }
            code::GONE => "tear down",
            code::RESUMED => "pause",
            code::STARTED => "build",
            code::READY => "re-attach",
            code::STAYS => return self.finish(index, "end"),
            _ => return,
        };
        if let Some(death) = self.deaths.get_mut(&index) {
            death.phases.push((phase, self.now));
        }
        if r.code() == code::READY {
            self.finish(index, "restart");
        }
    }

    /// Draws a death and what followed it.
    fn finish(&mut self, index: usize, what: &str) {
        let Some(death) = self.deaths.remove(&index) else { return };
        let name = self.capture.names.get(index).cloned().unwrap_or_default();
        let track = self.track(Track::Restarts(index), || format!("{name}: restarts"));
        // Its death may have been noticed later than it happened, but not before its last restart.
        let ended = self.out.slices.iter().filter(|s| s.track == track).map(|s| s.time[1]).max();
        let died = death.died.max(ended.unwrap_or(0));
        let end = death.phases.last().map_or(died, |(_, end)| *end);
        self.slice(track, format!("{what} of {name}"), [died, end], vec![]);
        let mut from = died;
        for (phase, to) in death.phases {
            self.slice(track, phase, [from, to], vec![]);
            from = to;
        }
    }

    fn end(&mut self) {
        if let Some((thread, since)) = self.running {
            self.ran(thread, since, "the trace ends");
        }
        let open: Vec<u32> = self.open.keys().copied().collect();
        open.into_iter().for_each(|caller| self.close(caller, "not yet"));
        let dead: Vec<usize> = self.deaths.keys().copied().collect();
        dead.into_iter().for_each(|index| self.finish(index, "restart"));
    }
}

#[cfg(test)]
mod tests;
