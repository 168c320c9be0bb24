//! The shell on the serial console.
#![no_std]
#![no_main]

use core::fmt::Write;
use core::net::IpAddr;
use core::time::Duration;
use libipc::msg::{self, CallError, interface};
use libipc::nic::Counter;
use libipc::proc::{self, Crash};
use libipc::sock::{self, State};
use libipc::{Name, net};
use userland::console::{Console, Line, LineEditor};
use userland::net::Ping;
use userland::runtime::Runtime;
use userland::{init, mem};

rt::entry!(main);

const PROMPT: &str = "breakwater> ";
/// Data bytes of a ping, as everywhere else.
const PING_DATA: usize = 56;
const PING_TIMEOUT: Duration = Duration::from_secs(1);

const HELP: &str = "\
  ps                     processes: state, priority, restarts, memory, time since start
  kill NAME              end a process; its restart policy decides what follows
  crash NAME HOW         make it crash: HOW is panic, pointer or undefined
  restart NAME           end a process if it runs, and start it
  restarts               what was restarted, why, and how long it took
  ip                     interface, address, gateway, name server
  ss                     sockets
  ping ADDRESS [COUNT]   ICMP echo, 4 times or COUNT times; Ctrl-C ends it
  stats                  memory, sockets, buffers and counters
  echo TEXT              prints TEXT
  poweroff               turns the machine off
";

struct Shell {
    start: &'static rt::StartInfo,
    rt: &'static Runtime,
    out: Console,
}

/// What a command came to: a line that says what went wrong and what to do.
type Done = Result<(), heapless::String<160>>;

/// Makes the error of a command.
macro_rules! fail {
    ($($arg:tt)*) => {{
        let mut line = heapless::String::new();
        let _ = write!(line, $($arg)*);
        return Err(line);
    }};
}

macro_rules! out {
    ($shell:expr, $($arg:tt)*) => {{
        let _ = writeln!($shell.out, $($arg)*);
    }};
}

fn main(start: &'static rt::StartInfo) -> u64 {
    let rt = match init(start) {
        Ok(rt) => rt,
        Err(e) => {
            rt::log!("shell: the manifest entry is incomplete: {e:?}");
            return 1;
        }
    };
    let mut shell = Shell { start, rt, out: Console::open(rt) };
    let mut editor = LineEditor::new();
    shell.out.write(b"\nBreakwater. `help` lists the commands.\n");
    loop {
        match shell.out.read_line(PROMPT, &mut editor) {
            Line::Text(line) => {
                if let Err(why) = shell.command(&line) {
                    out!(shell, "{why}");
                }
            }
            Line::Interrupted => {}
            Line::End => shell.out.write(b"\n`poweroff` turns the machine off.\n"),
        }
    }
}

impl Shell {
    fn command(&mut self, line: &str) -> Done {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next() else { return Ok(()) };
        let args: heapless::Vec<&str, 8> = words.take(8).collect();
        match (name, args.as_slice()) {
            ("help", []) => self.out.write(HELP.as_bytes()),
            ("echo", _) => {
                let text = line.trim_start().strip_prefix("echo").unwrap_or("").trim_start();
                out!(self, "{text}");
            }
            ("ps", []) => return self.processes(),
            ("kill", [who]) => return self.change(proc::Request::Kill(known(who)?), who),
            ("restart", [who]) => return self.change(proc::Request::Restart(known(who)?), who),
            ("crash", [who, how]) => {
                let how = match *how {
                    "panic" => Crash::Panic,
                    "pointer" => Crash::Pointer,
                    "undefined" => Crash::Undefined,
                    other => fail!("crash: no way called `{other}`: panic, pointer or undefined"),
                };
                return self.change(proc::Request::Crash(known(who)?, how), who);
            }
            ("restarts", []) => return self.reports(),
            ("ip", []) => return self.interface(),
            ("ss", []) => return self.sockets(),
            ("ping", [to]) => return self.ping(to, "4"),
            ("ping", [to, count]) => return self.ping(to, count),
            ("stats", []) => return self.stats(),
            ("poweroff", []) => {
                self.init(&proc::Request::PowerOff)?;
            }
            (command, _) => {
                let usage = HELP.lines().find_map(|l| {
                    let usage = l.trim_start().split("  ").next()?;
                    (usage.split(' ').next()? == command).then_some(usage)
                });
                match usage {
                    Some(usage) => fail!("usage: {usage}"),
                    None => fail!("{command}: no such command; `help` lists them"),
                }
            }
        }
        Ok(())
    }

    fn processes(&mut self) -> Done {
        out!(
            self,
            "{:<12} {:<12} {:>4} {:>8} {:>9} {:>10}",
            "NAME",
            "STATE",
            "PRIO",
            "RESTARTS",
            "MEMORY",
            "UP"
        );
        let mut skip = 0;
        loop {
            let proc::Reply::Processes(some) = self.init(&proc::Request::List { skip })? else {
                return nonsense("init");
            };
            for p in &some {
                let mut state = heapless::String::<24>::new();
                let _ = match p.state {
                    proc::State::Running => state.push_str("running").map_err(|_| ()),
                    proc::State::Exited(status) => write!(state, "exited {status}").map_err(|_| ()),
                    proc::State::Failed => state.push_str("failed").map_err(|_| ()),
                    proc::State::Restarting => state.push_str("restarting").map_err(|_| ()),
                    proc::State::Stopped => state.push_str("stopped").map_err(|_| ()),
                };
                out!(
                    self,
                    "{:<12} {:<12} {:>4} {:>8} {:>5} KiB {:>8} s",
                    p.name,
                    state,
                    p.priority,
                    p.restarts,
                    p.memory / 1024,
                    p.uptime_us / 1_000_000
                );
            }
            if !some.is_full() {
                return Ok(());
            }
            skip += some.len() as u32;
        }
    }

    fn change(&mut self, request: proc::Request, who: &str) -> Done {
        match self.ask_init(&request)? {
            Ok(_) => Ok(()),
            Err(proc::Error::NotFound) => fail!("{who}: no such process; `ps` lists them"),
            Err(proc::Error::NotRunning) => fail!("{who} does not run; `restart {who}` starts it"),
            Err(proc::Error::Denied) => fail!("{who}: this shell may not do that"),
            Err(proc::Error::Invalid) => fail!("{who}: init refuses"),
        }
    }

    fn reports(&mut self) -> Done {
        let mut skip = 0;
        loop {
            let proc::Reply::Reports(some) = self.init(&proc::Request::Reports { skip })? else {
                return nonsense("init");
            };
            for r in &some {
                out!(
                    self,
                    "{:>6}.{:03} s  {:<10} down {:>7} us  rip {:#x}  {}",
                    r.at_us / 1_000_000,
                    r.at_us / 1000 % 1000,
                    r.name,
                    r.downtime_us,
                    r.rip,
                    r.cause
                );
            }
            if !some.is_full() {
                if skip == 0 && some.is_empty() {
                    out!(self, "nothing was restarted");
                }
                return Ok(());
            }
            skip += some.len() as u32;
        }
    }

    fn interface(&mut self) -> Done {
        let net::Reply::Interface(i) = self.netd(&net::Request::Interface)? else {
            return nonsense("netd");
        };
        let m = i.mac;
        out!(
            self,
            "link {}, mtu {}, mac {:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
            if i.up { "up" } else { "down" },
            i.mtu,
            m[0],
            m[1],
            m[2],
            m[3],
            m[4],
            m[5]
        );
        match (i.addr, i.lease_s) {
            (Some((addr, prefix)), Some(left)) => {
                out!(self, "address {addr}/{prefix} by DHCP, {left} s left of the lease");
            }
            (Some((addr, prefix)), None) => out!(self, "address {addr}/{prefix}, static"),
            (None, _) => out!(self, "no address yet"),
        }
        if let Some(gateway) = i.gateway {
            out!(self, "gateway {gateway}");
        }
        if let Some(dns) = i.dns {
            out!(self, "name server {dns}");
        }
        Ok(())
    }

    fn sockets(&mut self) -> Done {
        out!(
            self,
            "{:<8} {:<13} {:>7} {:>7} {:<22} {:<22} SESSION.ID",
            "KIND",
            "STATE",
            "RX-Q",
            "TX-Q",
            "LOCAL",
            "REMOTE"
        );
        let mut skip = 0;
        loop {
            let net::Reply::Sockets(some) = self.netd(&net::Request::Sockets { skip })? else {
                return nonsense("netd");
            };
            for s in &some {
                let mut local = heapless::String::<56>::new();
                let mut remote = heapless::String::<56>::new();
                let _ = write!(local, "{}", s.local);
                let _ = match s.remote {
                    Some(r) => write!(remote, "{r}"),
                    None => write!(remote, "-"),
                };
                let kind = match s.kind {
                    sock::Kind::Tcp => "tcp",
                    sock::Kind::Listener => "tcp",
                    sock::Kind::Udp => "udp",
                    sock::Kind::Ping => "ping",
                };
                out!(
                    self,
                    "{:<8} {:<13} {:>7} {:>7} {:<22} {:<22} {}.{}",
                    kind,
                    state_name(s.state),
                    s.rx_queue,
                    s.tx_queue,
                    local,
                    remote,
                    s.sock.session,
                    s.sock.id
                );
            }
            if !some.is_full() {
                return Ok(());
            }
            skip += some.len() as u32;
        }
    }

    fn ping(&mut self, to: &str, count: &str) -> Done {
        let Ok(addr) = to.parse::<IpAddr>() else {
            fail!("ping: `{to}` is no address; write it as 10.0.2.2")
        };
        let Some(count) = count.parse::<u16>().ok().filter(|c| *c > 0) else {
            fail!("ping: `{count}` is no number from 1 to 65535")
        };
        let socket = match Ping::open(self.rt) {
            Ok(socket) => socket,
            Err(e) => fail!("ping: {e}"),
        };
        out!(self, "PING {addr}: {PING_DATA} data bytes");
        let (mut sent, mut received) = (0, 0);
        let (mut least, mut most, mut sum) = (u64::MAX, 0, 0);
        for seq in 1..=count {
            let begun = self.rt.now();
            sent += 1;
            match socket.ping(addr, seq, PING_DATA, PING_TIMEOUT) {
                Ok(time) => {
                    let us = time.as_micros() as u64;
                    received += 1;
                    (least, most, sum) = (least.min(us), most.max(us), sum + us);
                    let size = PING_DATA + 8;
                    let (ms, fraction) = (us / 1000, us % 1000);
                    out!(self, "{size} bytes from {addr}: seq={seq} time={ms}.{fraction:03} ms");
                }
                Err(e) => out!(self, "no answer from {addr}: seq={seq}: {e}"),
            }
            let next = begun + PING_TIMEOUT;
            if self.out.interrupted() || seq < count && self.out.sleep_until(next) {
                out!(self, "^C");
                break;
            }
        }
        let loss = (sent - received) * 100 / sent;
        out!(self, "{sent} sent, {received} received, {loss}% lost");
        if received > 0 {
            out!(self, "round trip min/avg/max {}/{}/{} us", least, sum / received as u64, most);
        }
        Ok(())
    }

    /// Exact numbers first, one line a server: what must come back to the same value after
    /// clients have come and gone.
    fn stats(&mut self) -> Done {
        let proc::Reply::Memory { total, free, slots } = self.init(&proc::Request::Memory)? else {
            return nonsense("init");
        };
        out!(self, "init: free={free} slots={slots} total={total}");
        let net::Reply::Stats(n) = self.netd(&net::Request::Stats)? else {
            return nonsense("netd");
        };
        out!(
            self,
            "netd: sockets={} rx_buffers={} tx_in_flight={}",
            n.sockets,
            n.rx_buffers,
            n.tx_in_flight
        );
        match self.rt.sockd_stats() {
            Ok((sessions, sockets, bytes)) => {
                out!(self, "sockd: sessions={sessions} sockets={sockets} bytes={bytes}");
            }
            Err(e) => out!(self, "sockd: {e}"),
        }
        out!(
            self,
            "traffic: rx_frames={} tx_frames={} rx_dropped={} retransmits={} resets_sent={} \
             peer_errors={} recovered={}",
            n.rx_frames,
            n.tx_frames,
            n.rx_dropped,
            n.retransmits,
            n.resets_sent,
            n.peer_errors,
            n.recovered
        );
        if let Some(nic) = mem::nic_status(self.start) {
            let c = |which: Counter| {
                nic.counters[which as usize].load(core::sync::atomic::Ordering::Relaxed)
            };
            out!(
                self,
                "nic: rx_frames={} rx_bytes={} tx_frames={} tx_bytes={} rx_errors={} \
                 peer_errors={} interrupts={} link_changes={} reattached={} cold_starts={}",
                c(Counter::RxFrames),
                c(Counter::RxBytes),
                c(Counter::TxFrames),
                c(Counter::TxBytes),
                c(Counter::RxErrors),
                c(Counter::PeerErrors),
                c(Counter::Interrupts),
                c(Counter::LinkChanges),
                c(Counter::Reattached),
                c(Counter::ColdStarts)
            );
        }
        Ok(())
    }

    fn init(&self, request: &proc::Request) -> Result<proc::Reply, heapless::String<160>> {
        match self.ask_init(request)? {
            Ok(reply) => Ok(reply),
            Err(e) => fail!("init refuses: {e:?}"),
        }
    }

    fn ask_init(
        &self,
        request: &proc::Request,
    ) -> Result<Result<proc::Reply, proc::Error>, heapless::String<160>> {
        let Some(ep) = self.start.cap("init") else {
            fail!("this shell has no capability `init`: add it in the manifest")
        };
        match msg::call(ep, interface::PROC, 0, request) {
            Ok(reply) => Ok(reply),
            Err(e) => fail!("init does not answer: {e:?}"),
        }
    }

    fn netd(&self, request: &net::Request) -> Result<net::Reply, heapless::String<160>> {
        let Some(ep) = self.start.cap("netd") else {
            fail!("this shell has no capability `netd`: add it in the manifest")
        };
        loop {
            let reply: Result<net::Result<net::Reply>, CallError> =
                msg::call(ep, interface::NET, 0, request);
            match reply {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(e)) => fail!("netd refuses: {e}"),
                Err(CallError::Kernel(abi::Error::ServerDied)) => {}
                Err(e) => fail!("netd does not answer: {e:?}"),
            }
        }
    }
}

fn known(name: &str) -> Result<Name, heapless::String<160>> {
    match name.parse() {
        Ok(name) => Ok(name),
        Err(_) => fail!("{name}: no process has so long a name; `ps` lists them"),
    }
}

fn nonsense<T>(who: &str) -> Result<T, heapless::String<160>> {
    fail!("{who} answered something else than was asked")
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Free => "FREE",
        State::Open => "OPEN",
        State::Listen => "LISTEN",
        State::SynSent => "SYN-SENT",
        State::SynReceived => "SYN-RECEIVED",
        State::Established => "ESTABLISHED",
        State::FinWait1 => "FIN-WAIT-1",
        State::FinWait2 => "FIN-WAIT-2",
        State::CloseWait => "CLOSE-WAIT",
        State::Closing => "CLOSING",
        State::LastAck => "LAST-ACK",
        State::TimeWait => "TIME-WAIT",
        State::Closed => "CLOSED",
    }
}
