//! `cargo run -- bench NAME`: what things cost, counted and timed, beside a Linux guest on the same
//! machine. docs/performance.md has the figures.
//!
//! | module | what |
//! |---|---|
//! | `counts` | the counting plugin of QEMU |
//! | `symbols` | from addresses to functions |
//! | `machine`, `guests` | the guests under measurement |
//! | `namespace` | a network of our own |
//! | `load` | the client |
//! | `stack` | the network stack on the host, beside smoltcp |
//! | `profile` | where the instructions of a load go |

pub mod counts;
pub mod figure;
pub mod guests;
pub mod kernel;
pub mod linux;
pub mod load;
pub mod longest;
pub mod machine;
pub mod memory;
pub mod namespace;
pub mod net;
pub mod plot;
pub mod profile;
pub mod stack;
pub mod symbols;
pub mod tools;

use std::path::PathBuf;
use std::process::ExitStatus;

use figure::{Figure, Format};
use load::Load;

use crate::build;

/// A measurement.
pub struct Bench {
    /// Its name.
    pub name: &'static str,
    /// What it shows, in a line.
    pub shows: &'static str,
    run: fn(&Options) -> Result<Vec<Figure>, Error>,
}

/// All of them.
pub const ALL: &[Bench] = &[
    Bench {
        name: "net",
        shows: "traffic beside a Linux guest (--only boot, memory, instructions, time, user, idle)",
        run: net::run,
    },
    Bench { name: "memory", shows: "the least memory that is enough", run: memory::run },
    Bench {
        name: "kernel",
        shows: "what the kernel runs for a call, a signal, an interrupt, …, beside seL4",
        run: kernel::run,
    },
    Bench {
        name: "stack",
        shows: "what the network stack runs for a segment, a datagram, a connection, beside smoltcp",
        run: stack::run,
    },
    Bench {
        name: "profile",
        shows: "where the guest's instructions go, load by load (--only ping, udp, tcp, …)",
        run: profile::run,
    },
];

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// How figures are written.
    pub format: Format,
    /// Where a plot goes.
    pub plot: Option<PathBuf>,
    /// Only these parts.
    pub only: Vec<String>,
    /// Rounds.
    pub reps: u32,
    /// Operations of each load; `None`: what is usual for it.
    pub n: Option<u64>,
    /// QEMU's `-cpu`.
    pub cpu: String,
    /// RAM of the guests.
    pub mem_mib: u32,
}

impl Options {
    /// Checks that `only` names nothing but these parts, and loads.
    fn parts(&self, parts: &[&str]) -> Result<(), Error> {
        let loads = Load::ALL.map(Load::name);
        let known = |name: &String| parts.contains(&&**name) || loads.contains(name);
        match self.only.iter().find(|n| !known(n)) {
            None => Ok(()),
            Some(name) => {
                let all = parts.iter().map(|p| p.to_string()).chain(loads);
                let parts = all.collect::<Vec<_>>().join(", ");
                Err(Error::Part { name: name.clone(), parts })
            }
        }
    }

    /// Whether `part` is to be measured: it is named, or no part is.
    fn wants(&self, part: &str) -> bool {
        let loads = Load::ALL.map(Load::name);
        let no_parts = self.only.iter().all(|n| loads.contains(n));
        no_parts || self.only.iter().any(|n| n == part)
    }

    /// Those of `all` that are named; all of them if no load is named.
    fn loads_of(&self, all: Vec<Load>) -> Vec<Load> {
        let named = |l: &Load| self.only.contains(&l.name());
        match Load::ALL.iter().any(named) {
            true => all.into_iter().filter(named).collect(),
            false => all,
        }
    }
}

/// Runs the measurement called `name`.
///
/// # Errors
/// If there is none of this name, or it cannot be made.
pub fn run(name: &str, options: &Options) -> Result<(), Error> {
    let bench = ALL.iter().find(|b| b.name == name).ok_or_else(|| Error::Name(name.into()))?;
    let figures = (bench.run)(options)?;
    print!("{}", figure::table(&figures, options.format));
    match &options.plot {
        Some(path) => plot::draw(&figures, path),
        None => Ok(()),
    }
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such measurement.
    #[error("there is no measurement called `{0}`; `bench` without a name lists them")]
    Name(String),
    /// No such part of a measurement.
    #[error("there is no part called `{name}`; there are {parts}")]
    Part {
        /// What was asked for.
        name: String,
        /// What there is.
        parts: String,
    },
    /// The system cannot be built.
    #[error(transparent)]
    Build(#[from] build::Error),
    /// cargo failed; its own messages say why.
    #[error("cargo failed ({0}); see the messages above")]
    Cargo(ExitStatus),
    /// cargo succeeded, but made no such thing.
    #[error("cargo made no file for {0}; please report this")]
    NotMade(&'static str),
    /// No callgrind.
    #[error("the program `valgrind` does not run; install it: apt-get install valgrind")]
    NoValgrind,
    /// The measured program failed, or callgrind wrote nothing.
    #[error("{what} failed: {said}")]
    Program {
        /// What was run.
        what: String,
        /// What it said.
        said: String,
    },
    /// The plugin has not written its file.
    #[error("QEMU does not run the counting plugin; target/bench-logs may say why")]
    Counts,
    /// No names for addresses.
    #[error("cannot read symbols: {0}")]
    Symbols(String),
    /// No network of our own.
    #[error("cannot make a network namespace ({0}); run as root, or allow user namespaces")]
    Namespace(std::io::Error),
    /// No taps.
    #[error("cannot open /dev/net/tun ({0}); run as root, or load the module `tun`")]
    Tun(std::io::Error),
    /// No way to set it up.
    #[error("the program `ip` does not run; install it: apt-get install iproute2")]
    NoIp,
    /// It cannot be set up.
    #[error("`ip {arguments}` failed: {said}; run as root")]
    Ip {
        /// What was tried.
        arguments: String,
        /// What it said.
        said: String,
    },
    /// A guest does not answer.
    #[error("the guest `{guest}` answers no ping; the end of its console:\n{console}")]
    NoAnswer {
        /// Which.
        guest: &'static str,
        /// What it wrote.
        console: String,
    },
    /// The client cannot work.
    #[error("the client: {0}")]
    Client(String),
    /// No Linux guest.
    #[error("no Linux kernel to compare with: {0}; on Debian run `apt-get update` and try again")]
    NoLinux(String),
    /// Our guest does something wrong.
    #[error("{0}")]
    Guest(String),
    /// The plot cannot be drawn.
    #[error("cannot draw {}: {why}", .path.display())]
    Plot {
        /// Where.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A load failed.
    #[error("{guest}, {load}: {source}; the end of its console:\n{console}")]
    Load {
        /// Of which guest.
        guest: &'static str,
        /// Which.
        load: String,
        /// Why.
        source: load::Error,
        /// What it wrote.
        console: String,
    },
    /// A file, a process.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
