//! The shell on the serial console.
#![no_std]
#![no_main]

mod authority;
mod failure;
mod interfaces;
mod nc;
mod network;
mod reports;
mod system;
mod trace;

use core::fmt::Write;
use libipc::proc::{self, Crash};
use userland::console::{Console, Line, LineEditor};
use userland::dns::Resolver;
use userland::init;
use userland::runtime::Runtime;

use failure::{Done, Failure, arguments, clip, name};

rt::entry!(main);

const PROMPT: &str = "breakwater> ";
const HELP: &str = "\
  ps                     processes: state, priority, restarts, memory, time since start
  kill NAME              end a process; its restart policy decides what follows
  crash NAME HOW         make it crash: HOW is panic, pointer, undefined or spin;
                         of a driver also dma, which sends its device astray
  stop NAME              end a process and leave it down
  restart NAME           end a process if it runs, and start it
  start NAME ARGUMENTS   the same, with other arguments than the manifest's
  restarts               what died, why, and how long each part of its restart took
  restarts N             report number N in full: cause, registers, backtrace
  ip                     interface, address, gateway, name server
  ip dhcp release|renew [eth0]  give the address back to its server; ask for it anew
  ip link                whether the link is up, how fast, and whether there is an address
  ip link watch          a line for each change of that; Ctrl-C ends it
  ip link set down|up    stop the network card, with its driver; wake it again
  suspend NAME           the same for the driver called NAME
  resume NAME
  ss                     sockets: state, queues, addresses
  host NAME              the addresses of a name
  ping HOST [COUNT]      ICMP echo, 4 times or COUNT times; Ctrl-C ends it
  nc [-u] HOST PORT      talk to a peer over TCP or UDP; Ctrl-D ends sending, Ctrl-C ends it
  nc -l [-u] PORT        the same with the first peer that comes
  dma                    what devices reach by themselves, and what they were refused
  stats                  memory, sockets, buffers and counters
  netstat -s             every counter of the stack, and what was dropped why
  authority              who holds what: memory, interrupts, endpoints, and how much memory is left
  authority send PORT    everything, for `cargo run -- authority`
  trace                  whether the kernel records what happens, and how much of it
  trace start|stop       begin a new record, end it
  trace send PORT        stop, and give the record to the first who connects to PORT
  random                 32 random bytes, and whether the machine can make them
  date                   date and time, UTC
  echo TEXT              prints TEXT
  poweroff               turns the machine off
";

struct Shell {
    start: &'static rt::StartInfo,
    rt: &'static Runtime,
    out: Console,
    names: Resolver,
}

/// A line on the console.
macro_rules! out {
    ($shell:expr, $($arg:tt)*) => {{
        let _ = writeln!($shell.out, $($arg)*);
    }};
}

use out;

fn main(start: &'static rt::StartInfo) -> u64 {
    let rt = match init(start) {
        Ok(rt) => rt,
        Err(e) => {
            rt::log!("the manifest entry is incomplete: {e:?}");
            return 1;
        }
    };
    let mut shell = Shell { start, rt, out: Console::open(rt), names: Resolver::new(rt) };
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
        let Some(command) = words.next() else { return Ok(()) };
        let args: heapless::Vec<&str, 8> = words.take(8).collect();
        match (command, args.as_slice()) {
            ("help", []) => self.out.write(HELP.as_bytes()),
            ("echo", _) => {
                let text = line.trim_start().strip_prefix("echo").unwrap_or("").trim_start();
                out!(self, "{text}");
            }
            ("ps", []) => return self.processes(),
            ("kill", [who]) => return self.change(proc::Request::Kill(name(who)?), who),
            ("restart", [who]) => return self.change(proc::Request::Restart(name(who)?), who),
            ("start", [who, ..]) => {
                let request = proc::Request::Start(name(who)?, arguments(line)?);
                return self.change(request, who);
            }
            ("stop", [who]) => return self.change(proc::Request::Stop(name(who)?), who),
            ("crash", [who, how]) => {
                let how = match *how {
                    "panic" => Crash::Panic,
                    "pointer" => Crash::Pointer,
                    "undefined" => Crash::Undefined,
                    "spin" => Crash::Spin,
                    "dma" => Crash::Dma,
                    other => return Err(Failure::NoWay(clip(other))),
                };
                return self.change(proc::Request::Crash(name(who)?, how), who);
            }
            ("restarts", []) => return self.reports(),
            ("restarts", [number]) => return self.report(number),
            ("ip", []) => return self.interfaces(),
            ("ip", ["dhcp", way @ ("release" | "renew"), card @ ..]) if card.len() < 2 => {
                return self.lease(*way == "renew", card.first().copied());
            }
            ("ip", ["link"]) => return self.show_link(),
            ("ip", ["link", "watch"]) => return self.watch_link(),
            ("ip", ["link", "set", way @ ("down" | "up")]) => return self.link(*way == "up"),
            ("suspend", [who]) => return self.rest(name(who)?),
            ("resume", [who]) => return self.change(proc::Request::Resume(name(who)?), who),
            ("ss", []) => return self.sockets(),
            ("host", [name]) => return self.host(name),
            ("ping", [to]) => return self.ping(to, "4"),
            ("ping", [to, count]) => return self.ping(to, count),
            ("nc", args) => return self.nc(args),
            ("dma", []) => return self.dma(),
            ("stats", []) => return self.stats(),
            ("netstat", ["-s"]) => return self.counters(),
            ("trace", args) => return self.trace(args),
            ("authority", args) => return self.authority(args),
            ("date", []) => return self.date(),
            ("random", []) => self.random(),
            ("poweroff", []) => {
                self.init(&proc::Request::PowerOff)?;
            }
            _ => {
                let usage = HELP.lines().find_map(|l| {
                    let usage = l.trim_start().split("  ").next()?;
                    (usage.split(' ').next()? == command).then_some(usage)
                });
                return Err(match usage {
                    Some(usage) => Failure::Usage(usage),
                    None => Failure::NoCommand(clip(command)),
                });
            }
        }
        Ok(())
    }
}
