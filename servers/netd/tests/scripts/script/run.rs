//! Plays a case.

use super::build;
use super::calls::{Calls, Pending, int};
use super::compare;
use super::dissect;
use super::expr;
use super::flow::Flows;
use super::names;
use super::packet::{Body, Packet, Tcp, flag};
use super::parse::{Arg, Call, Case, Event, What, When};
use super::show;
use super::waiting::{
    TIMERS, Waiting, go_on, is_of_another, judge, pieces, seconds, without_stamps,
};
use super::world::{Settings, World};
use libipc::sock::Kind;
use std::collections::HashMap;

pub struct Runner {
    world: World,
    calls: Calls,
    flows: Flows,
    waiting: Vec<Waiting>,
    /// What calls that returned meanwhile did wrong.
    failed: Option<String>,
    /// What happened, a line each.
    timeline: Vec<String>,
    /// The script's clock at the last event.
    clock: u64,
    /// From the IP header on: the last packet that was injected.
    last: Option<Vec<u8>>,
    names: HashMap<String, f64>,
    /// What a script for Linux sets and cannot be set here.
    unset: Vec<String>,
    /// The socket that assertions are about.
    subject: Option<i64>,
    /// The line of the last packet that is expected.
    last_packet: usize,
}

/// Plays `case`; the error is the timeline with what differs.
pub fn case(case: &Case, foreign: bool) -> Result<(), String> {
    if let Some(e) = &case.error {
        return Err(e.clone());
    }
    let mut settings = Settings::new(foreign);
    for (key, value) in &case.set {
        settings.set(key, value)?;
    }
    let mut runner = Runner {
        flows: Flows::new(&settings),
        world: World::new(settings),
        calls: Calls::new(),
        waiting: Vec::new(),
        failed: None,
        timeline: Vec::new(),
        clock: 0,
        last: None,
        names: names::all().collect(),
        unset: Vec::new(),
        subject: None,
        last_packet: case
            .events
            .iter()
            .filter(|e| matches!(e.what, What::Expect(_)))
            .map(|e| e.line)
            .max()
            .unwrap_or(0),
    };
    for event in &case.events {
        if let Err(e) = runner.event(event) {
            return Err(runner.report(event.line, &event.text, &e));
        }
    }
    let last = case.events.last().map_or(0, |e| e.line);
    runner.end().map_err(|e| runner.report(last, "the end", &e))
}

impl Runner {
    fn report(&mut self, line: usize, text: &str, what: &str) -> String {
        let mut out: Vec<String> = std::mem::take(&mut self.timeline);
        for (at, frame) in self.world.sent.clone() {
            out.push(format!("{} > {}   (not expected yet)", seconds(at), self.describe(&frame)));
        }
        out.push(format!("line {line}: {}", text.lines().next().unwrap_or("")));
        let unset = match self.unset.join(" ") {
            none if none.is_empty() => none,
            some => format!(" (not set: {some})"),
        };
        out.push(format!("at {}: {what}{unset}", seconds(self.world.now()).trim()));
        out.join("\n")
    }

    fn describe(&self, frame: &[u8]) -> String {
        match dissect::frame(frame) {
            Err(e) => format!("{e}: {frame:02x?}"),
            Ok(mut p) => match self.flows.of(&p).map(|(l, f)| (l.clone(), f.clone())) {
                Some((label, flow)) => {
                    p.flow = label;
                    if let Body::Tcp(t) = &mut p.body {
                        flow.shown(t);
                    }
                    p.to_string()
                }
                None => show::with_ends(&p),
            },
        }
    }

    fn event(&mut self, e: &Event) -> Result<(), String> {
        let at = if e.when.relative { self.clock + e.when.from } else { e.when.from };
        if let What::Expect(p) = &e.what {
            return self.expect(p, &e.when, at);
        }
        self.pass(at)?;
        self.clock = at;
        // What was sent before this moment should have been spoken of.
        // packetdrill looks at what was sent only where it expects something.
        let anew = match &e.what {
            What::Call(c) => c.name == "socket",
            What::Shell(_) => true,
            _ => false,
        };
        let last = self.world.s.foreign && (anew || self.last_packet < e.line);
        if let Some((sent, _)) =
            self.world.sent.front().filter(|f| !last && f.0 + self.world.s.early < at)
        {
            return Err(format!(
                "at {} something was sent that is not expected",
                seconds(*sent).trim()
            ));
        }
        match &e.what {
            What::Inject(p) => self.inject(p),
            What::Call(c) => {
                // With `+`, the end counts from the event before, too.
                let end = e
                    .when
                    .end
                    .map(|end| if e.when.relative { at - e.when.from + end } else { end });
                self.call(c, end, e.line)
            }
            What::Assert(code) => self.assert(code),
            What::Shell(command) => self.shell(command),
            What::Flow(name, remote, local) => self.flow(name, remote, local),
            What::Do(what) => self.act(what),
            What::Quiet => self.quiet(),
            What::Expect(_) => unreachable!("above"),
        }
    }

    /// Lets time pass up to `until`, and calls go on.
    fn pass(&mut self, until: u64) -> Result<(), String> {
        loop {
            let deadline =
                self.waiting.iter().filter_map(|w| self.calls.deadline(&w.pending)).min();
            let step = deadline.filter(|d| *d > self.world.now()).map_or(until, |d| d.min(until));
            let (calls, waiting) = (&mut self.calls, &mut self.waiting);
            let (failed, timeline) = (&mut self.failed, &mut self.timeline);
            self.world.run(step, &mut |w| go_on(w, calls, waiting, failed, timeline));
            if step == until {
                break;
            }
        }
        let late = TIMERS * self.world.s.late;
        if let Some(w) = self.waiting.iter().find(|w| w.end + late < until) {
            let (line, call) = (w.line, &w.pending.call.name);
            return Err(format!("`{call}` of line {line} has not returned"));
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    fn inject(&mut self, p: &Packet) -> Result<(), String> {
        self.timeline.push(format!("{} < {p}", seconds(self.world.now())));
        let mut p = p.clone();
        let s = &self.world.s;
        p.eth_src.get_or_insert(s.remote_mac);
        let (local_mac, remote) = (s.local_mac, s.remote);
        if !matches!(p.body, Body::Arp(_) | Body::Raw(_)) {
            let flow = self.flows.get(&p.flow);
            flow.inject(&mut p);
        }
        let multicast = |ip: Option<std::net::IpAddr>| match ip {
            Some(std::net::IpAddr::V4(ip)) if ip.is_broadcast() => [0xff; 6],
            Some(std::net::IpAddr::V4(ip)) if ip.is_multicast() => {
                let o = ip.octets();
                [1, 0, 0x5e, o[1] & 0x7f, o[2], o[3]]
            }
            Some(std::net::IpAddr::V6(ip)) if ip.is_multicast() => {
                let o = ip.octets();
                [0x33, 0x33, o[12], o[13], o[14], o[15]]
            }
            _ => local_mac,
        };
        let default = multicast(p.ip.dst);
        let to = p.eth_dst.get_or_insert(default);
        if let Body::Arp(a) = &mut p.body {
            if a.op == 1 && *to == local_mac {
                *to = [0xff; 6];
            }
            a.sender_mac.get_or_insert(p.eth_src.unwrap());
            if let std::net::IpAddr::V4(remote) = remote {
                a.sender.get_or_insert(remote.octets());
            }
            a.target_mac.get_or_insert(if a.op == 1 { [0; 6] } else { local_mac });
            if let std::net::IpAddr::V4(local) = self.world.s.local {
                a.target.get_or_insert(local.octets());
            }
        }
        for piece in pieces(&p, &self.world.s) {
            if !matches!(piece.body, Body::Arp(_) | Body::Raw(_)) {
                self.last = Some(build::datagram(&piece));
            }
            self.world.inject(&build::frame(&piece))?;
        }
        // Calls that wait may go on.
        let now = self.world.now();
        self.pass(now)
    }

    /// Waits for the next frame, until `to` at the latest.
    fn next_frame(&mut self, from: u64, to: u64) -> Result<Option<(u64, Vec<u8>)>, String> {
        self.pass(from)?;
        loop {
            if let Some(frame) = self.world.sent.pop_front() {
                return Ok(Some(frame));
            }
            let call = self.waiting.iter().filter_map(|w| self.calls.deadline(&w.pending)).min();
            let event = self
                .world
                .next_event()
                .into_iter()
                .chain(call)
                .filter(|e| *e > self.world.now())
                .min();
            match event.filter(|e| *e <= to) {
                Some(at) => self.pass(at)?,
                None => return Ok(None),
            }
        }
    }

    fn expect(&mut self, wanted: &Packet, when: &When, at: u64) -> Result<(), String> {
        // For as long as anything may take: TIME-WAIT, retransmissions until nobody believes in them.
        const EVER: u64 = 3 * 3600 * 1_000_000_000;
        let (from, to) = match when {
            When { any: true, .. } => (self.clock, self.clock + EVER),
            _ => {
                let to = when.to.map_or(at, |to| if when.relative { self.clock + to } else { to });
                (at, to)
            }
        };
        let (early, late) = (self.world.s.early, self.world.s.late);
        let wait = from.max(self.world.now());
        let begin = if when.any { self.world.now() } else { wait };
        let Some((sent, frame)) = self.next_frame(begin, to + late)? else {
            return Err(format!("nothing was sent until {}", seconds(to).trim()));
        };
        if self.world.s.foreign && is_of_another(self.flows.get(&wanted.flow), &frame) {
            return self.expect(wanted, when, at);
        }
        let shown = self.describe(&frame);
        let verdict = self.check(wanted, sent, &frame);
        let mark = if verdict.is_ok() { "" } else { "   (differs)" };
        self.timeline.push(format!("{} > {shown}{mark}", seconds(sent)));
        verdict.map_err(|e| format!("{e}\n  expected > {wanted}\n  seen     > {shown}"))?;
        if sent + early < from || sent > to + late {
            return Err(format!(
                "it was sent at {}, not at {}",
                seconds(sent).trim(),
                seconds(from).trim()
            ));
        }
        self.clock =
            if when.any || when.to.is_some() { sent } else { sent.max(from.saturating_sub(early)) };
        Ok(())
    }

    /// Compares; takes further frames if together they are the one that is expected.
    fn check(&mut self, wanted: &Packet, sent: u64, frame: &[u8]) -> Result<(), String> {
        let mut seen = dissect::frame(frame)?;
        let mut wanted = wanted.clone();
        if let (Body::Tcp(w), Body::Tcp(n)) = (&mut wanted.body, &mut seen.body) {
            let flow = self.flows.get(&wanted.flow);
            if flow.local.1.is_none() {
                flow.local.1 = n.sport;
            }
            let ends = (flow.local.1, Some(flow.remote.1), Some(flow.local.0), Some(flow.remote.0));
            if ends != (n.sport, n.dport, seen.ip.src, seen.ip.dst) {
                return Err(format!("it is of another connection: {}", show::with_ends(&seen)));
            }
            flow.seen(n, w);
            if self.world.s.no_stamps {
                without_stamps(n);
            }
            if w.data.is_none() {
                w.data = flow.wanted(w);
            }
            let merged = w.len > n.len && n.len > 0;
            if merged {
                self.merge(w, &mut seen, sent)?;
            }
        }
        compare::packet(&wanted, &seen, &self.world.s, self.last.as_deref())
    }

    /// A script may speak of many segments as of one: that is how a NIC that segments is given them.
    fn merge(&mut self, wanted: &Tcp, first: &mut Packet, sent: u64) -> Result<(), String> {
        let flow = self.flows.of(first).map(|(l, _)| l.clone()).unwrap_or_default();
        let Body::Tcp(all) = &mut first.body else { unreachable!("a segment") };
        while all.len < wanted.len {
            let to = sent + self.world.s.late;
            let next = self.next_frame(self.world.now(), to)?;
            let Some((_, frame)) = next else {
                return Err(format!("only {} bytes of it were sent", all.len));
            };
            let Body::Tcp(mut n) = dissect::frame(&frame)?.body else {
                return Err("something else follows".into());
            };
            self.flows.get(&flow).seen(&mut n, wanted);
            let ends = [flag::PSH, flag::FIN].iter().fold(0, |a, b| a | b);
            let same = all.flags & !ends == n.flags & !ends && all.ack == n.ack;
            if !same || n.seq != all.seq.wrapping_add(all.len as u32) || all.flags & flag::FIN != 0
            {
                self.world.sent.push_front((sent, frame));
                return Err(format!("after {} bytes something else follows", all.len));
            }
            all.len += n.len;
            all.flags = n.flags;
            all.data.as_mut().unwrap().extend(n.data.unwrap());
        }
        Ok(())
    }

    fn call(&mut self, call: &Call, end: Option<u64>, line: usize) -> Result<(), String> {
        self.note(call);
        let mut pending =
            Pending { call: call.clone(), begun: self.world.now(), done: 0, fast: false };
        let outcome = self.calls.attempt(&mut self.world, &mut pending)?;
        let value = match outcome {
            Ok(Some(value)) => value,
            Err(errno) => -errno,
            Ok(None) => {
                let end = end.ok_or_else(|| format!("`{}` blocks", call.name))?;
                self.timeline.push(format!("{} {}() waits", seconds(self.world.now()), call.name));
                self.waiting.push(Waiting { pending, line, end });
                return Ok(());
            }
        };
        self.timeline.push(format!(
            "{} {}() = {}",
            seconds(self.world.now()),
            call.name,
            names::result(value)
        ));
        self.bound(call, value);
        judge(call, value, &mut self.calls)?;
        let now = self.world.now();
        self.pass(now)
    }

    /// What a call means for the connections of the script, before it is made.
    fn note(&mut self, call: &Call) {
        let Ok(number) = int(&call.args, 0) else { return };
        let Some(fd) = self.calls.fds.get(&number).cloned() else { return };
        let fast = call.name.starts_with("send")
            && fd.remote.is_none()
            && call.args.iter().any(|a| match a {
                Arg::Name(n) => n.contains("FASTOPEN"),
                Arg::Int(n) => n & super::calls::msg::FASTOPEN != 0,
                _ => false,
            });
        if fast || call.name == "connect" {
            self.subject = Some(number);
        }
        if (call.name == "connect" && !fd.connecting && fd.remote.is_none() || fast)
            && fd.kind == Kind::Tcp
        {
            let at = if call.name == "connect" { 1 } else { 4 };
            let addr =
                self.calls.address(&self.world, &fd, call.args.get(at), self.world.s.remote, 8080);
            if let Ok(addr) = addr {
                self.flows.connecting((addr.ip(), addr.port()), fd.bound.map(|b| b.port()));
            }
        }
        if matches!(call.args.get(1), Some(Arg::Text(_))) {
            self.flows.get("").free_text = true;
        }
    }

    /// And after it.
    fn bound(&mut self, call: &Call, value: i64) {
        if value < 0 {
            return;
        }
        let number = int(&call.args, 0).unwrap_or(-1);
        match call.name.as_str() {
            "accept" | "accept4" => self.subject = Some(value),
            "connect" => self.subject = Some(number),
            "socket" => {
                self.subject = self.subject.or(Some(value));
                if self.world.s.foreign {
                    // packetdrill looks at the newest connection alone.
                    self.world.sent.clear();
                }
            }
            "listen" => {
                let port = self.calls.fds.get(&number).and_then(|f| f.bound).map(|b| b.port());
                self.flows.listening(port.unwrap_or(8080));
            }
            _ => {}
        }
    }

    fn assert(&mut self, code: &str) -> Result<(), String> {
        let fd = self.subject.and_then(|n| self.calls.fds.get(&n)).cloned();
        super::info::fill(&mut self.world, fd.as_ref(), &mut self.names)?;
        expr::run(code, &mut self.names)
    }

    fn shell(&mut self, command: &str) -> Result<(), String> {
        // What is so here, or does not matter here.
        const SO: [&str; 8] = [
            "defaults.sh",
            "sysctl_restore",
            "tcp_min_tso_segs",
            "tcp_tso_win_divisor",
            "tcp_slow_start_after_idle=1",
            "tcp_congestion_control=cubic",
            "tcp_wmem",
            "tcp_ecn=2",
        ];
        if command.contains("tcp_metrics flush") || command.contains("tcp_fastopen_cookies=0") {
            self.world.host.stack().forget_cookies();
        }
        for word in command.split_whitespace().filter(|w| w.contains('=')) {
            if let Some((_, value)) = word.split_once("tcp_fastopen=") {
                self.world.fast_open("fastopen", value)?;
            } else if let Some((_, value)) = word.split_once("tcp_fastopen_key=") {
                self.world.fast_open("key", value)?;
            } else if word.contains("tcp_timestamps=1") {
                self.world.s.no_stamps = false;
            } else if word.contains("tcp_timestamps=0") {
                self.world.s.no_stamps = true;
            } else if !SO.iter().any(|k| word.contains(k)) {
                self.unset.push(word.into());
            }
        }
        let command = command.replace("ip tcp_metrics", "metrics");
        let tools = ["tc ", "ip ", "dd "];
        if command.split(['\n', ';', '&']).any(|c| tools.iter().any(|t| c.trim().starts_with(t))) {
            return Err(format!("this is not Linux: `{}`", command.trim()));
        }
        Ok(())
    }

    fn flow(&mut self, name: &str, remote: &str, local: &str) -> Result<(), String> {
        let addr = |text: &str| {
            text.parse::<std::net::SocketAddr>().map_err(|_| format!("no address: {text}"))
        };
        let (remote, local) = (addr(remote)?, addr(local)?);
        let flow = self.flows.get(name);
        flow.remote = (remote.ip(), remote.port());
        flow.local = (local.ip(), (local.port() != 0).then_some(local.port()));
        Ok(())
    }

    fn act(&mut self, what: &str) -> Result<(), String> {
        self.timeline.push(format!("{} {what}", seconds(self.world.now())));
        match what {
            "crash" => {
                self.world.host.crash();
                self.world.settle();
            }
            _ => return Err(format!("nobody knows how to `{what}`")),
        }
        Ok(())
    }

    fn quiet(&mut self) -> Result<(), String> {
        match self.world.sent.front() {
            Some((at, _)) => Err(format!("something was sent at {}", seconds(*at).trim())),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        // A call that waits may have been let go by the last event.
        let latest = self.waiting.iter().map(|w| w.end).max().unwrap_or(self.clock);
        self.pass(latest.max(self.world.now()))?;
        if let Some(w) = self.waiting.first() {
            let deadline = w.end + TIMERS * self.world.s.late;
            self.pass(deadline)?;
        }
        if let Some(w) = self.waiting.first() {
            return Err(format!("`{}` of line {} has not returned", w.pending.call.name, w.line));
        }
        if self.world.s.foreign { Ok(()) } else { self.quiet() }
    }
}
