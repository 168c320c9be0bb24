//! `bench kernel`: what the kernel runs for one operation, from entry to exit, in guest instructions;
//! beside seL4's, counted in the same way in the same QEMU.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::path::Path;

use libipc::mark;

use super::figure::{Better, Figure};
use super::{Error, Options, longest};
use crate::harness::{BOOT, Failure, Guest, Setup};
use crate::qemu::Accel;
use crate::{build, elf, workspace};

/// What is measured.
pub struct Row {
    /// How the program marks it.
    mark: u32,
    /// Whether it is an interrupt or exception, not a system call.
    trap: bool,
    /// Name in JSON.
    pub name: &'static str,
    /// What it is.
    what: &'static str,
    /// The most that it should cost; `cargo test` holds it.
    aim: u32,
    /// seL4 16.0-dev for x86_64: fast path on, gcc -O2 for Haswell, one core; classic and MCS.
    sel4: [Option<u32>; 2],
}

const fn row(
    mark: u32,
    name: &'static str,
    what: &'static str,
    aim: u32,
    classic: u32,
    mcs: u32,
) -> Row {
    const fn some(n: u32) -> Option<u32> {
        if n == 0 { None } else { Some(n) }
    }
    // (A comparison of strings is no constant expression.)
    let trap = matches!(name.as_bytes(), b"irq" | b"fault");
    Row { mark, trap, name, what, aim, sel4: [some(classic), some(mcs)] }
}

/// All of them. seL4 was given 80 bytes (10 words) where ours is 64, and two system calls where ours is
/// one for a pair. 0: no figure.
pub const ROWS: &[Row] = &[
    row(mark::CALL[0], "call_0", "call", 215, 184, 212),
    row(mark::REPLY[0], "reply_recv_0", "reply and receive", 270, 210, 277),
    row(mark::PASSIVE_CALL, "call_passive", "call to a passive server", 215, 0, 212),
    row(mark::PASSIVE_REPLY, "reply_recv_passive", "its reply and receive", 270, 0, 277),
    row(mark::CALL[1], "call_64", "call, 64 bytes", 300, 800, 991),
    row(mark::REPLY[1], "reply_recv_64", "reply and receive, 64 bytes", 320, 766, 1165),
    row(mark::CALL[2], "call_512", "call, 512 bytes", 400, 1000, 0),
    row(mark::REPLY[2], "reply_recv_512", "reply and receive, 512 bytes", 400, 0, 0),
    row(mark::SIGNAL, "signal", "signal, nobody waits", 170, 353, 435),
    row(mark::SIGNAL_WAKES, "signal_wakes", "signal, a more urgent thread wakes", 320, 511, 688),
    row(mark::WAIT, "wait", "wait", 300, 411, 0),
    row(mark::SIGNAL_WAIT, "signal_wait", "signal and wait, one call", 360, 353 + 411, 0),
    row(mark::IRQ, "irq", "interrupt, to a more urgent handler", 320, 339, 0),
    row(mark::ACK, "ack", "acknowledge an interrupt", 150, 401, 0),
    row(mark::ACK_WAIT, "ack_wait", "acknowledge and wait, one call", 330, 401 + 411, 0),
    row(mark::FAULT, "fault", "fault, to its handler", 450, 606, 0),
    row(mark::FAULT, "fault_reply", "reply to a fault, the thread runs on", 450, 704, 0),
    row(mark::MAP, "map", "map a page", 350, 734, 0),
];

/// Those that do not reach their aim, and what the test allows them.
const SHORT: &[(&str, u32)] = &[("call_passive", 255), ("reply_recv_passive", 336), ("ack", 153)];

/// What an operation cost.
pub struct Cost {
    /// Which.
    pub row: &'static Row,
    /// Instructions in the kernel; what most of its runs needed.
    pub instructions: u32,
    /// Pages of code and data that the kernel touched meanwhile.
    pub pages: u32,
}

impl Cost {
    /// What is wrong with it.
    pub fn excess(&self) -> Option<String> {
        let Row { name, what, aim, .. } = self.row;
        let most = SHORT.iter().find(|(n, _)| n == name).map_or(*aim, |(_, most)| *most);
        let cost = self.instructions;
        (cost > most).then(|| format!("{what}: {cost} instructions, more than {most}"))
    }
}

/// What is timed, as the client names it: both switches of each, there and back.
const TIMED: &[(&str, &str)] = &[
    ("call_0", "call and reply"),
    ("call_64", "call and reply, 64 bytes"),
    ("call_512", "call and reply, 512 bytes"),
    ("signal_wakes", "signal, wake, wait"),
    ("signal_wait", "signal and wait, twice"),
];

/// Wall time of `what`, from the client's log.
fn time_of(console: &str, what: &str) -> Option<f64> {
    let line = console.split_once(&format!("wall {what} "))?.1;
    line.split_whitespace().next()?.parse().ok()
}

/// Boots without the plugin, and has the client take the time.
fn times(image: &build::Image, rounds: u32) -> Result<Vec<Figure>, Failure> {
    let mut consoles = Vec::new();
    for _ in 0..rounds {
        let mut guest = Guest::boot(image, &Setup::new("bench-kernel"))?;
        guest.wait_for("client ended", BOOT)?;
        guest.power_off()?;
        guest.forget_recording();
        consoles.push(guest.console().text());
    }
    let kvm = Accel::Auto.resolve() == Accel::Kvm;
    let figure = |(name, what): &(&str, &str)| Figure {
        name: format!("kernel.wall.{name}"),
        what: format!("{what}, time by {}", if kvm { "KVM" } else { "TCG" }),
        unit: "ns",
        better: Better::Less,
        aim: None,
        ours: consoles.iter().filter_map(|c| time_of(c, name)).collect(),
        peers: BTreeMap::new(),
    };
    Ok(TIMED.iter().map(figure).collect())
}

/// One kind of stretch of kernel code: see the plugin's `stretch`.
pub(super) struct Stretch {
    pub(super) mark: u32,
    entry: u64,
    pub(super) length: u32,
    pages: u32,
    count: u64,
}

pub(super) fn stretch(line: &str) -> Option<Stretch> {
    let mut words = line.split(' ');
    let mut next = || words.next();
    Some(Stretch {
        mark: next()?.parse().ok()?,
        entry: u64::from_str_radix(next()?.strip_prefix("0x")?, 16).ok()?,
        length: next()?.parse().ok()?,
        pages: next()?.parse().ok()?,
        count: next()?.parse().ok()?,
    })
}

/// The costs, from a guest of image/bench.toml that was booted with [`Setup::stretches`].
///
/// # Errors
/// If the guest fails, or an operation was not seen.
pub fn costs(guest: &mut Guest) -> Result<Vec<Cost>, Failure> {
    guest.wait_until("both programs' ends", BOOT, |text| {
        ["client ended", "own ended"].iter().all(|end| text.contains(end))
    })?;
    guest.power_off()?;
    let stretches = guest.stretches()?;
    let stretches: Vec<Stretch> = stretches.lines().filter_map(stretch).collect();
    let kernel = std::fs::read(guest.kernel()).map_err(|e| Failure::Host(e.to_string()))?;
    let symbols = elf::symbols(&kernel).map_err(|e| Failure::Host(e.to_string()))?;
    let address = |name: &str| symbols.iter().find(|s| s.name == name).map_or(0, |s| s.addr);
    let (syscall, traps) = (address("syscall_entry"), address("trap_stubs"));
    let cost = |row: &'static Row| {
        let entries = if row.trap { traps..traps + 256 * 16 } else { syscall..syscall + 1 };
        let mut seen: HashMap<u32, (u64, u32)> = HashMap::new();
        for s in stretches.iter().filter(|s| s.mark == row.mark && entries.contains(&s.entry)) {
            match seen.entry(s.length) {
                Entry::Vacant(e) => drop(e.insert((s.count, s.pages))),
                Entry::Occupied(mut e) => {
                    let (count, pages) = *e.get();
                    e.insert((count + s.count, pages.max(s.pages)));
                }
            }
        }
        let most = seen.into_iter().max_by_key(|(length, (count, _))| (*count, *length));
        match most {
            Some((instructions, (_, pages))) => Ok(Cost { row, instructions, pages }),
            None => Err(Failure::Wrong(format!("{}: it was not seen", row.what))),
        }
    };
    ROWS.iter().map(cost).collect()
}

/// Lines of Rust in a folder that are neither blank nor a comment, up to the tests of each file.
fn lines(dir: &Path) -> std::io::Result<usize> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("tests") {
            sum += lines(&path)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path)?;
            let code = text.lines().map(str::trim).take_while(|l| *l != "#[cfg(test)]");
            sum += code.filter(|l| !l.is_empty() && !l.starts_with("//")).count();
        }
    }
    Ok(sum)
}

/// Boots and measures.
pub fn run(options: &Options) -> Result<Vec<Figure>, Error> {
    let image = build::build(&workspace::root().join("image/bench.toml"), true)?;
    let kernel = std::fs::read(&image.kernel).map_err(Error::io("reading the kernel"))?;
    let setup = Setup { stretches: true, ..Setup::new("bench-kernel") };
    let failed = |e: Failure| Error::Guest(e.to_string());
    let mut guest = Guest::boot(&image, &setup).map_err(failed)?;
    let costs = costs(&mut guest).map_err(failed)?;
    guest.forget_recording();
    let figure = |c: &Cost| {
        let peers = ["seL4", "seL4-MCS"].into_iter().zip(c.row.sel4);
        Figure {
            name: format!("kernel.{}", c.row.name),
            what: format!("{} ({} pages)", c.row.what, c.pages),
            unit: "instructions",
            better: Better::Less,
            aim: Some(f64::from(c.row.aim)),
            ours: vec![f64::from(c.instructions)],
            peers: peers.filter_map(|(n, v)| Some((n, vec![f64::from(v?)]))).collect(),
        }
    };
    let mut figures: Vec<Figure> = costs.iter().map(figure).collect();
    figures.push(longest::figure()?);
    figures.push(Figure {
        name: "kernel.text".into(),
        what: "code of the kernel".into(),
        unit: "KiB",
        better: Better::Less,
        aim: Some(64.0),
        ours: vec![elf::code_bytes(&kernel).map_err(|e| Error::Symbols(e.to_string()))? / 1024.0],
        peers: BTreeMap::from([("seL4", vec![63.6])]),
    });
    let lines =
        lines(&workspace::root().join("microkernel")).map_err(Error::io("counting lines"))?;
    figures.push(Figure {
        name: "kernel.lines".into(),
        what: "its Rust, without tests, comments and blank lines".into(),
        unit: "lines",
        better: Better::Less,
        aim: Some(7000.0),
        ours: vec![lines as f64],
        peers: BTreeMap::new(),
    });
    figures.extend(times(&image, options.reps).map_err(failed)?);
    Ok(figures)
}
