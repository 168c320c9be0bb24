//! A booted system under test.
//!
//! [`Guest::boot`] starts QEMU without a display, with user-mode networking on free ports of the
//! host, and collects the console. A test waits for text, types lines, talks to the forwarded
//! ports, and asks how the machine ended. Every wait has a limit and stops early when the kernel
//! panics or QEMU exits. Frames are recorded; the recording is kept when the test fails.
//!
//! A test may have a [`peer`] on the other end of the cable instead of user-mode networking.

pub mod agent;
mod console;
pub mod peer;

use std::fmt;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::time::{Duration, Instant};

pub use agent::Agent;
pub use console::{Console, PANIC, Wait};

use netd::{Addressing, Addressing6};
use peer::Peer;

use crate::bench::counts;
use crate::build::Image;
use crate::child::Guarded;
use crate::manifest::Protocol;
use crate::net::Net;
use crate::ports::{self, Mapping};
use crate::qemu::{self, Accel, Chipset, End, Machine, Nic, Pcap};
use crate::qmp::Qmp;
use crate::run::Boot;
use crate::workspace;

/// What the shell shows when it waits for a command.
pub const PROMPT: &str = "breakwater> ";
/// How long a boot may take, on a busy machine too.
pub const BOOT: Duration = Duration::from_secs(180);
/// How long a command of the shell may take if it does not wait for anything by itself.
pub const COMMAND: Duration = Duration::from_secs(60);
/// Bytes of each frame that are recorded: all headers, and the payload's beginning.
const SNAP: u32 = 192;
/// Lines of the console in the report of a failure.
const TAIL: usize = 60;

/// Why a test failed.
#[derive(Debug)]
pub enum Failure {
    /// The kernel panicked.
    Panic,
    /// QEMU exited while the test waited for something.
    Gone {
        /// What it waited for.
        pattern: String,
    },
    /// Something did not appear in time.
    Timeout {
        /// What.
        pattern: String,
        /// In what time.
        limit: Duration,
    },
    /// Something outside the system: QEMU cannot start, no free port, a file.
    Host(String),
    /// The system did what it should not.
    Wrong(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic => f.write_str("the kernel panicked"),
            Self::Gone { pattern } => write!(f, "QEMU exited before {pattern:?} appeared"),
            Self::Timeout { pattern, limit } => {
                write!(f, "{pattern:?} did not appear within {} s", limit.as_secs())
            }
            Self::Host(what) => write!(f, "on the host: {what}"),
            Self::Wrong(what) => f.write_str(what),
        }
    }
}

/// A failure that says what the system did wrong.
pub fn wrong<T>(what: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Wrong(what.into()))
}

fn host(what: &str, e: std::io::Error) -> Failure {
    Failure::Host(format!("{what}: {e}"))
}

/// What image/nics.toml says of the second card.
const SECOND: Addressing =
    Addressing::Static { addr: Ipv4Addr::new(10, 1, 0, 2), prefix: 24, gateway: None, dns: None };

/// How to boot.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Name of the test; its files are called so.
    pub name: String,
    /// RAM.
    pub mem_mib: u32,
    /// Processors.
    pub processors: u32,
    /// Chipset.
    pub chipset: Chipset,
    /// With an IOMMU, on a q35.
    pub iommu: bool,
    /// Network card.
    pub nic: Nic,
    /// Kernel command line.
    pub append: Option<String>,
    /// Manifest of another system than the one under test, in the image folder.
    pub manifest: Option<&'static str>,
    /// A peer on the other end of the cable, instead of user-mode networking.
    pub peer: bool,
    /// A second network card, whose system has 10.1.0.2, with user-mode networking behind it.
    pub second: bool,
    /// Somebody else's socket on the other end of the cable.
    pub cable: Option<PathBuf>,
    /// Record frames.
    pub record: bool,
    /// An address, instead of what the manifest says.
    pub addressing: Option<Addressing>,
    /// Likewise of IPv6.
    pub addressing6: Option<Addressing6>,
    /// Count instructions: one a nanosecond of the guest's time, the same in every run.
    pub icount: bool,
    /// Record what the kernel runs, entry by entry.
    pub stretches: bool,
    /// Processor model.
    pub cpu: Option<&'static str>,
    /// Who loads the kernel.
    pub boot: Boot,
    /// From a CD, where firmware loads it; else from a disk.
    pub cd: bool,
    /// With the test agent: its manifest, and a socket to it.
    pub agent: bool,
}

impl Setup {
    /// The default machine.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            mem_mib: 128,
            processors: 1,
            chipset: Chipset::default(),
            iommu: true,
            nic: Nic::default(),
            append: None,
            manifest: None,
            peer: false,
            second: false,
            cable: None,
            record: true,
            addressing: None,
            addressing6: None,
            icount: false,
            stretches: false,
            cpu: None,
            boot: Boot::Kernel,
            cd: false,
            agent: false,
        }
    }
}

/// A running system.
pub struct Guest {
    qemu: Guarded,
    stdin: ChildStdin,
    console: Console,
    /// Byte of the console up to which waits have looked.
    seen: usize,
    ports: Vec<Mapping>,
    second: Vec<Mapping>,
    peer: Option<Peer>,
    /// Commands typed so far.
    commands: u32,
    qmp: Qmp,
    kernel: PathBuf,
    system: spec::System,
    pcap: PathBuf,
    started: Instant,
    agent: Option<PathBuf>,
}

/// Folder of logs and recordings.
pub fn files() -> PathBuf {
    workspace::target_dir().join("qemu-tests")
}

/// The argument of QEMU's `-plugin` that has stretches recorded beside a recording of frames.
fn plugin(pcap: &Path) -> Result<String, Failure> {
    let library = counts::plugin().map_err(|e| Failure::Host(e.to_string()))?;
    let (counts, stretches) = (pcap.with_extension("counts"), pcap.with_extension("stretches"));
    let [library, counts, stretches] = [&library, &counts, &stretches].map(|p| qemu::escaped(p));
    Ok(format!("{library},counts={counts},stretches={stretches}"))
}

impl Guest {
    /// Boots `image`.
    ///
    /// # Errors
    /// [`Failure::Host`].
    pub fn boot(image: &Image, setup: &Setup) -> Result<Self, Failure> {
        let dir = files();
        std::fs::create_dir_all(&dir).map_err(|e| host("cannot make target/qemu-tests", e))?;
        let pcap = dir.join(format!("{}.pcap", setup.name));
        let log_path = dir.join(format!("{}.log", setup.name));
        let log = std::fs::File::create(&log_path).map_err(|e| host("cannot write the log", e))?;
        let peer = setup.peer.then(Peer::listen).transpose();
        let peer = peer.map_err(|e| host("cannot listen for QEMU's frames", e))?;
        let no_ports = || Failure::Host("no free port".into());
        let net = match (&setup.cable, &peer) {
            (Some(cable), _) => Net::Peer(cable.clone()),
            (_, Some(peer)) => Net::Peer(peer.path().into()),
            _ => Net::User {
                forwards: ports::choose(&image.plan.forwards, false).ok_or_else(no_ports)?,
                addressing: image.plan.addressing,
            },
        };
        let ports = net.forwards().to_vec();
        let other_nets = match setup.second {
            false => Vec::new(),
            true => vec![Net::User {
                forwards: ports::choose(&image.plan.forwards, false).ok_or_else(no_ports)?,
                addressing: SECOND,
            }],
        };
        let second = other_nets.iter().flat_map(Net::forwards).cloned().collect();
        let medium = setup.boot.medium(image, setup.append.as_deref(), setup.cd);
        let medium = medium.map_err(|e| Failure::Host(e.to_string()))?;
        let qmp = Qmp::listen().map_err(|e| host("cannot listen for QEMU", e))?;
        let agent = setup.agent.then(agent::path);
        let plugin = setup.stretches.then(|| plugin(&pcap)).transpose()?;
        let machine = Machine {
            kernel: image.kernel.clone(),
            bundle: image.bundle.clone(),
            append: setup.append.clone(),
            medium,
            icount: setup.icount,
            plugin,
            cpu: setup.cpu,
            mem_mib: setup.mem_mib,
            processors: setup.processors,
            accel: if setup.icount || setup.stretches { Accel::Tcg } else { Accel::Auto.resolve() },
            chipset: setup.chipset,
            iommu: setup.iommu,
            nic: setup.nic,
            net,
            other_nets,
            pcap: setup.record.then(|| Pcap { path: pcap.clone(), snap: Some(SNAP) }),
            gdb: false,
            agent: agent.clone(),
            console: qemu::Console::Plain,
            qmp: Some(qmp.path().into()),
        };
        let errors = log.try_clone().map_err(|e| host("cannot write the log", e))?;
        let mut command = machine.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut qemu = Guarded::spawn(&mut command).map_err(|e| host("cannot start QEMU", e))?;
        let (stdin, stdout) = (qemu.stdin.take(), qemu.stdout.take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(Failure::Host("QEMU has no console".into()));
        };
        let console = Console::follow(stdout, log);
        let started = Instant::now();
        let kernel = image.kernel.clone();
        let (seen, commands) = (0, 0);
        let system = image.plan.system.clone();
        Ok(Self {
            qemu,
            stdin,
            console,
            seen,
            commands,
            ports,
            second,
            peer,
            qmp,
            kernel,
            system,
            pcap,
            started,
            agent,
        })
    }

    /// Talks to the test agent.
    ///
    /// # Errors
    /// If the test was set up without one, or QEMU does not answer.
    pub fn agent(&self) -> Result<Agent, Failure> {
        let missing = || Failure::Host("the test has no agent".into());
        Agent::connect(self.agent.as_ref().ok_or_else(missing)?)
    }

    /// Boots and waits for the shell's prompt.
    ///
    /// # Errors
    /// If it does not appear.
    pub fn boot_to_prompt(image: &Image, setup: &Setup) -> Result<Self, Failure> {
        let mut guest = Self::boot(image, setup)?;
        guest.wait_for(PROMPT, BOOT)?;
        Ok(guest)
    }

    /// Waits for `pattern` after what earlier waits have found; returns the text up to its end.
    ///
    /// # Errors
    /// If it does not appear within `limit`, the kernel panics, or QEMU exits.
    pub fn wait_for(&mut self, pattern: &str, limit: Duration) -> Result<String, Failure> {
        match self.console.wait(self.seen, pattern, limit) {
            Wait::Found(end) => {
                let text = self.console.slice(self.seen..end);
                self.seen = end;
                Ok(text)
            }
            Wait::Panic => Err(Failure::Panic),
            Wait::Closed => Err(Failure::Gone { pattern: pattern.into() }),
            Wait::Timeout => Err(Failure::Timeout { pattern: pattern.into(), limit }),
        }
    }

    /// Types a line.
    ///
    /// # Errors
    /// If QEMU is gone.
    pub fn send_line(&mut self, line: &str) -> Result<(), Failure> {
        let typed = self.stdin.write_all(format!("{line}\r").as_bytes());
        typed.and_then(|()| self.stdin.flush()).map_err(|e| host("cannot type", e))
    }

    /// Types a command and returns what is printed until it is done.
    ///
    /// The prompt proves nothing: log lines that come in between bring it back each time. So a
    /// second command prints a word of its own, and the first is done when that word appears.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn command(&mut self, line: &str, limit: Duration) -> Result<String, Failure> {
        self.commands += 1;
        let done = format!("@{}@", self.commands);
        let typed = format!("echo {done}");
        self.send_line(line)?;
        self.send_line(&typed)?;
        let from = self.seen;
        // As typed: shown by the line editor, perhaps several times.
        while self.wait_for(&done, limit)?.ends_with(&typed) {}
        Ok(self.console.slice(from..self.seen))
    }

    /// Waits until the whole console (whatever was waited for before) satisfies `enough`.
    ///
    /// # Errors
    /// If it does not within `limit`, the kernel panics, or QEMU exits.
    pub fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        mut enough: impl FnMut(&str) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        let mut from = 0;
        loop {
            if enough(&self.console.text()) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.console.wait(from, "\n", left) {
                Wait::Found(end) => from = end,
                Wait::Panic => return Err(Failure::Panic),
                Wait::Closed => return Err(Failure::Gone { pattern: what.into() }),
                Wait::Timeout => return Err(Failure::Timeout { pattern: what.into(), limit }),
            }
        }
    }

    /// The kernel's file.
    pub fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// What the kernel ran, entry by entry, of a system that has ended: the plugin's table.
    ///
    /// # Errors
    /// If it was not recorded.
    pub fn stretches(&self) -> Result<String, Failure> {
        let _ = std::fs::remove_file(self.pcap.with_extension("counts"));
        let path = self.pcap.with_extension("stretches");
        std::fs::read_to_string(&path).map_err(|e| host("the plugin wrote no stretches", e))
    }

    /// The system that was booted.
    pub fn system(&self) -> &spec::System {
        &self.system
    }

    /// The console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Port of 127.0.0.1 that leads to `port` of the system.
    ///
    /// # Errors
    /// If the manifest forwards no such port.
    pub fn host_port(&self, port: u16, protocol: Protocol) -> Result<u16, Failure> {
        let found = self.ports.iter().find(|m| m.port == port && m.protocols.contains(&protocol));
        let missing = || Failure::Host(format!("the manifest forwards no port {port}"));
        found.map(|m| m.host).ok_or_else(missing)
    }

    /// As [`Guest::host_port`], of the second network card.
    ///
    /// # Errors
    /// Likewise, or if there is none.
    pub fn second_port(&self, port: u16, protocol: Protocol) -> Result<u16, Failure> {
        let found = self.second.iter().find(|m| m.port == port && m.protocols.contains(&protocol));
        found.map(|m| m.host).ok_or_else(|| Failure::Host("there is no second card".into()))
    }

    /// The host on the other end of the cable.
    ///
    /// # Errors
    /// If the test was set up without one.
    pub fn peer(&self) -> Result<Peer, Failure> {
        self.peer.clone().ok_or_else(|| Failure::Host("the test has no peer".into()))
    }

    /// Pulls the network cable (`false`) or plugs it in again.
    ///
    /// # Errors
    /// If QEMU does not do it.
    pub fn set_link(&self, up: bool) -> Result<(), Failure> {
        let command = format!(
            "{{\"execute\": \"set_link\", \"arguments\": {{\"name\": \"n0\", \"up\": {up}}}}}"
        );
        self.qmp.execute(&command).map(|_| ()).map_err(|e| host("set_link", e))
    }

    /// What QEMU's monitor says to a command for people.
    ///
    /// # Errors
    /// If QEMU does not answer.
    pub fn monitor(&self, line: &str) -> Result<String, Failure> {
        let command = format!(
            "{{\"execute\": \"human-monitor-command\", \"arguments\": {{\"command-line\": \"{line}\"}}}}"
        );
        let answer = self.qmp.execute(&command).map_err(|e| host(line, e))?;
        Ok(answer.as_str().unwrap_or_default().to_string())
    }

    /// Time since QEMU was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until QEMU exits by itself.
    ///
    /// # Errors
    /// If it does not within `limit`.
    pub fn end(&mut self, limit: Duration) -> Result<End, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            match self.qemu.try_wait() {
                Ok(Some(status)) => return Ok(qemu::end(status, self.qmp.stop())),
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(None) => {
                    return Err(Failure::Timeout { pattern: "the end of QEMU".into(), limit });
                }
                Err(e) => return Err(host("cannot wait for QEMU", e)),
            }
        }
    }

    /// Types `poweroff` and checks that the machine switches itself off.
    ///
    /// # Errors
    /// If it does not, or not cleanly.
    pub fn power_off(&mut self) -> Result<(), Failure> {
        self.send_line("poweroff")?;
        match self.end(COMMAND)? {
            End::Clean => Ok(()),
            End::Panic => Err(Failure::Panic),
            other => wrong(format!("poweroff ended with {other:?}")),
        }
    }

    /// What to show about a failure: the console's end, and where log and recording are.
    pub fn report(&self) -> String {
        format!(
            "--- end of the console:\n{}\n--- frames: {}\n--- console: {}",
            self.console.tail(TAIL),
            self.pcap.display(),
            self.pcap.with_extension("log").display(),
        )
    }

    /// Removes the recording: nothing went wrong.
    pub fn forget_recording(&self) {
        let _ = std::fs::remove_file(&self.pcap);
    }
}
