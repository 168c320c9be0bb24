//! Where the machine's memory is: every byte in one account.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use abi::{ObjType, PAGE_SIZE, init_slot};
use init::layout::slot;
use libipc::authority::{Entry, Place, Purpose};
use spec::System;

use super::dump::Dump;

/// Memory of the machine, in bytes. All of them together are what it has.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// What the machine has, as its firmware says.
    pub machine: u64,
    /// The kernel, and what it made for init before init ran: program, stack, bundle.
    pub kernel: u64,
    /// By process: own memory; page tables, log and start pages; session.
    pub processes: BTreeMap<String, [u64; 3]>,
    /// By program file: code and constants, shared by all that run it.
    pub programs: BTreeMap<String, u64>,
    /// By region, without those of sessions.
    pub regions: BTreeMap<String, u64>,
    /// init's own objects.
    pub init: u64,
    /// Not used.
    pub free: u64,
    /// Lost to alignment.
    pub lost: u64,
    /// Objects take more than was taken from untyped memory: the accounts are wrong by this much.
    pub excess: u64,
}

/// Slots of init that hold what the kernel made before it gave away the rest of the memory.
const BOOT: [u64; 5] =
    [init_slot::VSPACE, init_slot::TCB, init_slot::IPC_BUFFER, init_slot::SCHED, slot::OLD_ROOT];

fn bytes(e: &Entry) -> u64 {
    match e.cap.ty {
        // The size bits of a mapped table are its level.
        ObjType::PageTable | ObjType::VSpace => PAGE_SIZE,
        ty => ty.bits(e.cap.size_bits).map_or(0, |bits| 1 << bits),
    }
}

impl Accounts {
    /// Of a running system.
    pub fn new(system: &System, dump: &Dump) -> Self {
        let mut a = Self { machine: dump.machine, ..Self::default() };
        let name = |n: u16| {
            let found = system.processes.get(n as usize);
            found.map_or_else(|| format!("process {n}"), |p| p.name.clone())
        };
        let session = |region: &str| {
            let n: usize = region.strip_prefix("session.")?.split('.').next()?.parse().ok()?;
            let with = |p: &&spec::Process| p.caps.iter().any(|c| c.name == "sockd");
            system.processes.iter().filter(with).nth(n).map(|p| p.name.clone())
        };
        let (mut given, mut used, mut objects) = (0, 0, 0);
        let mut seen = HashSet::new();
        let own = dump.entries.iter().filter(|e| e.place == Place::Init);
        for e in own.filter(|e| !e.cap.device && !BOOT.contains(&(e.cap.slot as u64))) {
            let size = bytes(e);
            if e.cap.ty == ObjType::Untyped && e.purpose == Purpose::Own {
                given += size;
                used += e.cap.data;
                continue;
            }
            // A life is made of its process's own untyped, and copies are of what was seen.
            let inside = matches!(e.purpose, Purpose::Life(_));
            if inside || size == 0 || !seen.insert(e.cap.object) {
                continue;
            }
            objects += size;
            match e.purpose {
                Purpose::Private(n) => a.processes.entry(name(n)).or_default()[0] += size,
                Purpose::Standing(n) => a.processes.entry(name(n)).or_default()[1] += size,
                Purpose::Program(n) => {
                    let file = system.processes.get(n as usize).map(|p| p.file.clone());
                    *a.programs.entry(file.unwrap_or_default()).or_default() += size;
                }
                Purpose::Region(n) => {
                    let region = system.regions.get(n as usize).map(|r| r.name.clone());
                    let region = region.unwrap_or_default();
                    match session(&region) {
                        Some(program) => a.processes.entry(program).or_default()[2] += size,
                        None => *a.regions.entry(region).or_default() += size,
                    }
                }
                _ => a.init += size,
            }
        }
        a.kernel = dump.machine.saturating_sub(given);
        a.free = given - used;
        a.lost = used.saturating_sub(objects);
        a.excess = objects.saturating_sub(used);
        a
    }

    /// All accounts together.
    pub fn sum(&self) -> u64 {
        let processes: u64 = self.processes.values().flatten().sum();
        let shared: u64 = self.programs.values().chain(self.regions.values()).sum();
        self.kernel + processes + shared + self.init + self.free + self.lost
    }
}

impl fmt::Display for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "memory, KiB")?;
        for (name, [own, standing, session]) in &self.processes {
            let parts = [own, standing, session].map(|b| b >> 10);
            let sum = own + standing + session;
            writeln!(
                f,
                "  {:8} {name}: its own {}, tables and pages {}, session {}",
                sum >> 10,
                parts[0],
                parts[1],
                parts[2]
            )?;
        }
        for (what, list) in [("program", &self.programs), ("region", &self.regions)] {
            for (name, bytes) in list {
                writeln!(f, "  {:8} {what} {name}", bytes >> 10)?;
            }
        }
        for (bytes, what) in [
            (self.init, "init's objects"),
            (self.kernel, "kernel, boot bundle and init's program"),
            (self.lost, "lost to alignment"),
            (self.free, "free"),
            (self.sum(), "together"),
        ] {
            writeln!(f, "  {:8} {what}", bytes >> 10)?;
        }
        write!(f, "  {:8} the machine has", self.machine >> 10)
    }
}
