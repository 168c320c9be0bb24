//! Why a command failed, in words that say what to do.

use core::fmt;
use libipc::msg::CallError;
use libipc::{Name, proc, sock};

/// What a command came to.
pub type Done = Result<(), Failure>;

/// Why a command failed. What the user typed is kept clipped.
#[derive(Clone, Debug)]
pub enum Failure {
    NoCommand(Name),
    Usage(&'static str),
    NoWay(Name),
    NoProcess(Name),
    NotRunning(Name),
    /// More arguments than a program can get.
    LongArguments,
    /// It drives no device, so it cannot rest.
    NoDevice(Name),
    /// Nobody drives a device.
    NoDriver,
    /// A driver that does not come to rest.
    Restless(Name),
    /// It cannot be started.
    CannotStart(Name),
    /// No report of that number.
    NoReport(Name),
    /// No network card of this name.
    NoCard(Name),
    /// The name, and why.
    Dns(Name, userland::dns::Error),
    /// Command, and the word.
    NoNumber(&'static str, Name),
    /// The manifest gives no such capability.
    NoCapability(&'static str),
    /// A server cannot be reached, or its answer cannot be read.
    Silent(&'static str, CallError),
    /// A server answers another question.
    Nonsense(&'static str),
    Init(proc::Error),
    Netd(sock::Error),
    Ping(sock::Error),
    Link(sock::Error),
    Nc(sock::Error),
    /// The connection to which something is sent.
    Send(sock::Error),
    /// No memory for traces, or none that this program may read.
    NoTrace,
    /// The machine has no clock, or it makes no sense.
    NoClock,
}

/// As much of a word as a [`Name`] holds.
pub fn clip(word: &str) -> Name {
    let mut name = Name::new();
    for c in word.chars() {
        if name.push(c).is_err() {
            break;
        }
    }
    name
}

/// A word as a process name.
pub fn name(word: &str) -> Result<Name, Failure> {
    word.parse().map_err(|_| Failure::NoProcess(clip(word)))
}

/// What follows command and process name.
pub fn arguments(line: &str) -> Result<proc::Args, Failure> {
    let after = |text: &str| text.trim_start().split_once(' ').map_or("", |(_, rest)| rest).len();
    let line = line.trim_end();
    let line = &line[line.len() - after(line)..];
    line[line.len() - after(line)..].trim_start().parse().map_err(|_| Failure::LongArguments)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand(word) => write!(f, "{word}: no such command; `help` lists them"),
            Self::Usage(usage) => write!(f, "usage: {usage}"),
            Self::NoWay(word) => {
                write!(f, "crash: no way called `{word}`: panic, pointer, undefined or dma")
            }
            Self::NoProcess(who) => write!(f, "{who}: no such process; `ps` lists them"),
            Self::NotRunning(who) => write!(f, "{who} does not run; `restart {who}` starts it"),
            Self::LongArguments => {
                write!(f, "arguments have room for {} bytes; say it shorter", libipc::start::ARGS)
            }
            Self::NoDevice(who) => write!(f, "{who} drives no device; only a driver can do that"),
            Self::NoDriver => {
                f.write_str("nobody drives a device: no server in the manifest has one")
            }
            Self::Restless(who) => write!(f, "{who} has not come to rest; `ps` shows its state"),
            Self::CannotStart(who) => {
                write!(f, "{who} cannot be started; the log above says why")
            }
            Self::NoReport(word) => {
                write!(f, "{word}: no such report; `restarts` lists those that are kept")
            }
            Self::NoCard(name) => write!(f, "{name}: no such interface; `ip` lists them, from eth0 on"),
            Self::Dns(name, e) => write!(f, "{name}: {e}"),
            Self::NoNumber(who, word) => {
                write!(f, "{who}: `{word}` is no number from 1 to 65535")
            }
            Self::NoCapability(what) => {
                write!(f, "not permitted: `{what}` of this program in the manifest is not set")
            }
            Self::Silent(who, CallError::Kernel(abi::Error::OutOfService)) => {
                write!(f, "{who} is out of service; `restart {who}` starts it")
            }
            Self::Silent(who, e) => write!(f, "{who} does not answer: {e:?}"),
            Self::Nonsense(who) => write!(f, "{who} answered something else than was asked"),
            Self::Init(e) => write!(f, "init refuses: {e}"),
            Self::Netd(e) => write!(f, "netd refuses: {e}"),
            Self::Ping(e) => write!(f, "ping: {e}"),
            Self::Link(e) => write!(f, "link: {e}"),
            Self::Nc(e) => write!(f, "nc: {e}"),
            Self::Send(e) => write!(f, "send: {e}"),
            Self::NoTrace => f.write_str(
                "trace: this program may not read one; `reader` of `[trace]` in the manifest names who may",
            ),
            Self::NoClock => f.write_str(
                "date: this machine's clock makes no sense; set it in the firmware, then start anew",
            ),
        }
    }
}
