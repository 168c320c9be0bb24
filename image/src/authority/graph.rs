//! Who holds what: processes, and for each what it can do to which object.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use abi::Rights;
use serde::{Serialize, Serializer};

/// What is held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// An endpoint, by the server that receives from it.
    Endpoint(String),
    /// Where a thread's faults go: an endpoint.
    Faults(String),
    /// Where a thread's time-outs go: an endpoint.
    Timeouts(String),
    /// A notification, by the process that waits on it.
    Notification(String),
    /// The notification that also ends a thread's waits for messages.
    Bound(String),
    /// A reply object.
    Reply,
    /// A timer that signals this process's notification.
    Timer(String),
    /// An interrupt that signals this process's notification.
    Interrupt(String),
    /// Memory that is mapped.
    Memory(Memory),
    /// Registers of a device, mapped.
    Registers(String),
    /// Memory that a driver's device reaches.
    Dma(String),
    /// Ports of the processor's I/O space, first and last.
    Ports(u16, u16),
    /// Memory to make objects from: log2 of its bytes.
    Untyped(u8),
    /// Its own CNode.
    CSpace,
    /// Its own address space.
    VSpace,
    /// Its own thread.
    Thread,
    /// Something that no system description can declare.
    Other(String),
}

/// Whose memory, or what for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// Stack, heap, data and message buffer of a process.
    Own(String),
    /// Code and constants of a program file.
    Program(String),
    /// What a process logs.
    Log(String),
    /// What a process is told at its start.
    Start(String),
    /// Input of the console.
    Console,
    /// A lent region.
    Region(String),
    /// Memory of nobody who is known.
    Unknown(String),
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(of) => write!(f, "the own memory of {of}"),
            Self::Program(file) => write!(f, "the program {file}"),
            Self::Log(of) => write!(f, "the log page of {of}"),
            Self::Start(of) => write!(f, "the start information of {of}"),
            Self::Console => f.write_str("the console's input"),
            Self::Region(name) => write!(f, "region {name}"),
            Self::Unknown(what) => write!(f, "memory {what}"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(of) => write!(f, "endpoint of {of}"),
            Self::Faults(to) => write!(f, "faults to {to}"),
            Self::Timeouts(to) => write!(f, "time-outs to {to}"),
            Self::Notification(of) => write!(f, "notification of {of}"),
            Self::Bound(of) => write!(f, "bound to the notification of {of}"),
            Self::Reply => f.write_str("a reply object"),
            Self::Timer(of) => write!(f, "a timer that signals {of}"),
            Self::Interrupt(of) => write!(f, "an interrupt that signals {of}"),
            Self::Memory(memory) => memory.fmt(f),
            Self::Registers(of) => write!(f, "the registers of {of}"),
            Self::Dma(region) => write!(f, "region {region}, by its device"),
            Self::Ports(first, last) => write!(f, "ports {first:#x} to {last:#x}"),
            Self::Untyped(bits) => write!(f, "2^{bits} bytes of untyped memory"),
            Self::CSpace => f.write_str("its own CNode"),
            Self::VSpace => f.write_str("its own address space"),
            Self::Thread => f.write_str("its own thread"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// What is held, and what can be done with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Holding {
    /// What.
    pub what: What,
    /// Rights. Of memory: grant means to execute.
    #[serde(serialize_with = "letters_of")]
    pub rights: Rights,
    /// By which the holder is known, or the bits it signals.
    pub badge: u64,
}

fn letters_of<S: Serializer>(rights: &Rights, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&letters(*rights))
}

/// Rights as `rwg`.
pub fn letters(rights: Rights) -> String {
    let all = [(Rights::READ, 'r'), (Rights::WRITE, 'w'), (Rights::GRANT, 'g')];
    all.into_iter()
        .map(|(right, letter)| if rights.contains(right) { letter } else { '-' })
        .collect()
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (read, write) =
            (self.rights.contains(Rights::READ), self.rights.contains(Rights::WRITE));
        match &self.what {
            What::Endpoint(of) if write && !read => write!(f, "calls {of}")?,
            What::Endpoint(of) if read && !write => write!(f, "receives calls to {of}")?,
            What::Notification(of) if write && !read => write!(f, "signals {of}")?,
            What::Notification(of) if read && !write => write!(f, "waits for the signals of {of}")?,
            What::Memory(memory) => {
                let exec = self.rights.contains(Rights::GRANT);
                let how = match (write, exec) {
                    (true, false) => "writes",
                    (false, true) => "executes",
                    (false, false) => "reads",
                    (true, true) => "writes and executes",
                };
                write!(f, "{how} {memory}")?;
            }
            what => write!(f, "{what} ({})", letters(self.rights))?,
        }
        if self.badge != 0 {
            write!(f, ", badge {:#x}", self.badge)?;
        }
        Ok(())
    }
}

/// Whose trust a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A server.
    Server,
    /// A program.
    Program,
}

/// A process.
#[derive(Clone, Debug, Serialize)]
pub struct Holder {
    /// What it is.
    pub role: Role,
    /// Whether it has a thread now; of a declared one: whether it is started at boot.
    pub runs: bool,
    /// What it holds.
    pub holds: BTreeSet<Holding>,
    /// What it may hold besides.
    #[serde(skip)]
    pub may_hold: BTreeSet<Holding>,
    /// Bytes, where they are known.
    #[serde(skip)]
    pub bytes: BTreeMap<What, u64>,
}

impl Holder {
    /// One that holds nothing yet.
    pub fn new(role: Role, runs: bool) -> Self {
        let (holds, may_hold) = (BTreeSet::new(), BTreeSet::new());
        Self { role, runs, holds, may_hold, bytes: BTreeMap::new() }
    }
    /// Adds something.
    pub fn add(&mut self, what: What, rights: Rights, badge: u64) {
        self.holds.insert(Holding { what, rights, badge });
    }
}

/// Who holds what. init, which holds everything, is not in it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Graph {
    /// Processes by name.
    pub holders: BTreeMap<String, Holder>,
}

impl Graph {
    /// How `running` differs from what is declared here, in sentences.
    pub fn differences(&self, running: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, is) in &running.holders {
            let Some(declared) = self.holders.get(name) else {
                found.push(format!("{name} runs, and nobody declared it"));
                continue;
            };
            for h in is.holds.difference(&declared.holds) {
                if !declared.may_hold.contains(h) {
                    found.push(format!("{name} → {h}: nobody declared that"));
                }
            }
            // Of one that does not run only what outlives its lives is there.
            let owed = |h: &&Holding| match h.what {
                What::Dma(_) => false,
                What::Memory(Memory::Own(_)) => is.runs,
                What::Memory(_) | What::Registers(_) => true,
                _ => is.runs,
            };
            for h in declared.holds.difference(&is.holds).filter(owed) {
                found.push(format!("{name} should hold this, and does not: {h}"));
            }
        }
        for name in self.holders.keys().filter(|name| !running.holders.contains_key(*name)) {
            found.push(format!("{name} is declared, and nowhere to be seen"));
        }
        found
    }
}
