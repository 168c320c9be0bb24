//! A guest under measurement: ours or Linux, on the same machine.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Error;
use super::counts::Counter;
use crate::child::Guarded;
use crate::harness::Console;
use crate::{install, workspace};

/// Address of the network card, the same in every guest.
pub const MAC: &str = "52:54:00:12:34:56";

/// What is booted.
#[derive(Clone, Debug)]
pub struct System {
    /// Its name in tables.
    pub name: &'static str,
    /// An ELF file with a PVH note, or a Linux kernel.
    pub kernel: PathBuf,
    /// The bundle, or an initramfs.
    pub initrd: PathBuf,
    /// Kernel command line.
    pub append: String,
}

/// What is behind the network card.
#[derive(Clone, Debug)]
pub enum Net {
    /// This tap interface.
    Tap(&'static str),
    /// QEMU's user-mode network, with these ports of the host leading inside: protocol, there, here.
    User(Vec<(&'static str, u16, u16)>),
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Setup {
    /// QEMU's `-cpu`.
    pub cpu: String,
    /// RAM.
    pub mem_mib: u32,
    /// Network.
    pub net: Net,
    /// The counting plugin, and whether it counts each block.
    pub plugin: Option<(PathBuf, bool)>,
    /// Further properties of the network card.
    pub nic: &'static str,
}

/// A running guest.
pub struct Machine {
    qemu: Guarded,
    /// What it has written.
    pub console: Console,
    /// Its instructions, where the plugin is loaded.
    pub counter: Option<Counter>,
    /// When QEMU was started.
    pub started: Instant,
}

impl Machine {
    /// Starts `system` on the machine `setup`. Files go to target/bench-logs.
    pub fn start(system: &System, setup: &Setup) -> Result<Self, Error> {
        let dir = workspace::target_dir().join("bench-logs");
        std::fs::create_dir_all(&dir).map_err(Error::io("cannot make target/bench-logs"))?;
        let log = dir.join(format!("{}.log", system.name));
        let log = File::create(log).map_err(Error::io("cannot write the log"))?;
        let counts = dir.join(format!("{}.counts-{}", system.name, std::process::id()));
        let counter = match &setup.plugin {
            Some(_) => Some(Counter::create(counts).map_err(Error::io("cannot make the counts"))?),
            None => None,
        };
        let mut command = Command::new(install::QEMU);
        command.args(arguments(system, setup));
        if let (Some((plugin, profile)), Some(counter)) = (&setup.plugin, &counter) {
            command.args(["-plugin", &counter.argument(plugin, *profile)]);
        }
        let errors = log.try_clone().map_err(Error::io("cannot write the log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let started = Instant::now();
        let mut qemu = Guarded::spawn(&mut command).map_err(Error::io("cannot start QEMU"))?;
        let console = Console::follow(qemu.stdout.take().expect("it is piped"), log);
        Ok(Self { qemu, console, counter, started })
    }

    /// Whether QEMU is still there.
    pub fn runs(&mut self) -> bool {
        matches!(self.qemu.try_wait(), Ok(None))
    }

    /// The counter; only of guests that were started with the plugin.
    pub fn counter(&self) -> Result<&Counter, Error> {
        self.counter.as_ref().ok_or(Error::Counts)
    }

    /// Waits until `ready` says yes, asked again and again; no longer than `limit`, nor than QEMU lives.
    pub fn wait(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline && self.runs() {
            if ready() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }
}

fn arguments(system: &System, setup: &Setup) -> Vec<OsString> {
    let mut a: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| a.extend(words.iter().map(OsString::from));
    add(&["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    add(&["-machine", "pc,accel=tcg", "-smp", "1", "-cpu", &setup.cpu]);
    // Where our kernel says that it panicked, and QEMU ends.
    add(&["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
    add(&["-m", &setup.mem_mib.to_string(), "-serial", "stdio"]);
    let netdev = match &setup.net {
        Net::Tap(name) => format!("tap,id=n0,ifname={name},script=no,downscript=no"),
        Net::User(forwards) => {
            let forward = |(protocol, there, here): &(&str, u16, u16)| {
                format!(",hostfwd={protocol}:127.0.0.1:{here}-:{there}")
            };
            format!("user,id=n0{}", forwards.iter().map(forward).collect::<String>())
        }
    };
    add(&["-netdev", &netdev]);
    add(&["-device", &format!("e1000,netdev=n0,romfile=,mac={MAC}{}", setup.nic)]);
    if !system.append.is_empty() {
        add(&["-append", &system.append]);
    }
    let mut file = |option: &str, path: &Path| a.extend([option.into(), path.into()]);
    file("-kernel", &system.kernel);
    file("-initrd", &system.initrd);
    a
}
