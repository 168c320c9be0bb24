//! `bench net`: our guest and a Linux guest on the same machine, asked the same by the same client,
//! in turns.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::counts::{self, Counts};
use super::figure::{Better, Figure};
use super::guests::{self, Running};
use super::linux::{self, Linux};
use super::load::Load;
use super::machine::System;
use super::{Error, Options, memory, namespace};

/// Parts, in the order in which they run.
pub const PARTS: [&str; 6] = ["boot", "memory", "instructions", "time", "user", "idle"];

/// What is booted: ours first.
pub struct Systems {
    /// Ours, with a fixed address.
    pub tap: System,
    /// Ours, with DHCP.
    user: System,
    /// The driver alone.
    floor: System,
    /// The peer; `None` where there is no kernel to be had.
    pub linux: Option<Linux>,
}

impl Systems {
    /// Builds and downloads everything: later there is no network.
    pub fn get() -> Result<Self, Error> {
        let (user, _) = guests::ours(false)?;
        let (tap, _) = guests::ours(true)?;
        let floor = guests::floor()?;
        let linux = linux::get();
        if let Err(e) = &linux {
            eprintln!("{e}");
        }
        Ok(Self { tap, user, floor, linux: linux.ok() })
    }

    /// On taps: ours, the floor below it, and the peer.
    fn on_taps(&self) -> Vec<System> {
        let linux = self.linux.as_ref().map(|l| l.system(guests::address(1)));
        [self.tap.clone(), self.floor.clone()].into_iter().chain(linux).collect()
    }
}

/// The measurement.
pub fn run(options: &Options) -> Result<Vec<Figure>, Error> {
    options.parts(&PARTS)?;
    let systems = Systems::get()?;
    let wants = |part: &str| options.wants(part);
    let plugin = match wants("instructions") || wants("idle") {
        true => Some(counts::plugin()?),
        false => None,
    };
    let mut figures = Vec::new();
    match namespace::enter().and_then(|()| guests::taps()) {
        Ok(()) => {
            if wants("boot") {
                figures.extend(boot(&systems, options)?);
            }
            if wants("memory") {
                figures.extend(memory::least(&systems, options)?);
            }
            if let Some(plugin) = plugin {
                figures.extend(instructions(&systems, options, plugin)?);
            }
            if wants("time") {
                figures.extend(time(&systems, options)?);
            }
        }
        // The rest needs nothing but QEMU.
        Err(e) => eprintln!("without taps there is only the part `user`: {e}"),
    }
    if wants("user") {
        figures.extend(user(&systems, options)?);
    }
    Ok(figures)
}

/// One of all rounds of all guests, by guest.
type Samples = BTreeMap<&'static str, Vec<f64>>;

fn figure(
    (part, name): (&str, &str),
    (what, unit): (String, &'static str),
    better: Better,
    aim: Option<f64>,
    mut samples: Samples,
) -> Figure {
    let ours = samples.remove(guests::OURS).unwrap_or_default();
    let name = format!("net.{part}.{name}");
    Figure { name, what, unit, better, aim, ours, peers: samples }
}

/// Time from the start of QEMU to the first answered ping.
fn boot(systems: &Systems, options: &Options) -> Result<Vec<Figure>, Error> {
    let mut samples = Samples::new();
    let mut all = systems.on_taps();
    all.extend(systems.linux.as_ref().and_then(|l| l.bare(guests::address(1))));
    for round in 0..options.reps {
        for system in &all {
            eprintln!("boot: round {} of {}, {}", round + 1, options.reps, system.name);
            let (_, took) = guests::boot_tap(system, options, None, None)?;
            samples.entry(system.name).or_default().push(took.as_secs_f64());
        }
    }
    let what = "start of QEMU to the first ping reply".to_string();
    let aim = Some(5.4);
    Ok(vec![figure(("boot", "first_ping"), (what, "s"), Better::Less, aim, samples)])
}

/// Aims: what a Linux 6.1 guest needs.
fn aim(part: &str, load: Load) -> Option<f64> {
    Some(match (part, load) {
        ("instructions_with_rep", Load::Ping) => 13_000.0,
        ("instructions_with_rep", Load::Udp) => 15_500.0,
        ("instructions_with_rep", Load::Tcp) => 18_700.0,
        ("instructions_with_rep", Load::Connect) => 85_000.0,
        ("instructions_with_rep", Load::Receive) => 1.96,
        ("instructions_with_rep", Load::Send) => 1.5,
        ("instructions_with_rep", Load::FloodIn(_) | Load::FloodOut(_)) => 5000.0,
        ("time", Load::Ping) => 620.0,
        ("time", Load::Receive) => 590.0,
        ("time", Load::Send) => 510.0,
        _ => return None,
    })
}

/// How long nothing is done, to see what that costs.
const IDLE: Duration = Duration::from_secs(3);
/// How long after a load its last acknowledgements and timers may run.
const SETTLE: Duration = Duration::from_millis(200);

/// Guest instructions of each load. What the guest does while nothing is asked of it is subtracted.
fn instructions(
    systems: &Systems,
    options: &Options,
    plugin: PathBuf,
) -> Result<Vec<Figure>, Error> {
    let plugin = Some((plugin, false));
    let mut running = guests::boot_taps(&systems.on_taps(), options, plugin)?;
    let mut idle = Samples::new();
    for guest in &mut running {
        eprintln!("idle: {}", guest.name);
        let (before, start) = (guest.counts()?, Instant::now());
        std::thread::sleep(IDLE);
        let used = guest.counts()?.since(before).plain() as f64;
        guest.idle_per_s = used / start.elapsed().as_secs_f64();
        idle.entry(guest.name).or_default().push(guest.idle_per_s);
    }
    let what = ("nothing asked of it".to_string(), "instructions/s");
    let mut figures = vec![figure(("idle", "instructions"), what, Better::Less, None, idle)];
    if !options.wants("instructions") {
        return Ok(figures);
    }
    let loads = options.loads_of(Load::compared());
    let (mut plain, mut with_rep) = (BTreeMap::new(), BTreeMap::new());
    for round in 0..options.reps {
        for (i, load) in loads.iter().enumerate() {
            eprintln!("instructions: round {} of {}, {}", round + 1, options.reps, load.name());
            for guest in running.iter_mut().filter(|g| g.offers(*load)) {
                let (used, done, time) = counted(guest, *load, options)?;
                let idle = guest.idle_per_s * time.as_secs_f64();
                let each = |all: u64| ((all as f64 - idle) / done as f64).max(0.0);
                let push = |to: &mut BTreeMap<usize, Samples>, value: f64| {
                    to.entry(i).or_default().entry(guest.name).or_default().push(value);
                };
                push(&mut plain, each(used.plain()));
                push(&mut with_rep, each(used.with_rep()));
            }
        }
    }
    for (part, mut samples) in [("instructions", plain), ("instructions_with_rep", with_rep)] {
        for (i, load) in loads.iter().enumerate() {
            let what = match part {
                "instructions" => load.operation(),
                _ => format!("{}, with rep iterations", load.operation()),
            };
            let (name, aim) = ((part, &*load.name()), aim(part, *load));
            let samples = samples.remove(&i).unwrap_or_default();
            figures.push(figure(name, (what, "instructions"), Better::Less, aim, samples));
        }
    }
    Ok(figures)
}

/// What a load costs: instructions, for how many operations, in what time.
fn counted(
    guest: &mut Running,
    load: Load,
    options: &Options,
) -> Result<(Counts, u64, Duration), Error> {
    let n = options.n.unwrap_or(load.usual());
    // What a first time costs (ARP, translations of QEMU, memory) is not what is measured.
    guest.load(load, (n / 20).max(1))?;
    std::thread::sleep(SETTLE);
    let (before, start) = (guest.counts()?, Instant::now());
    let outcome = guest.load(load, n)?;
    std::thread::sleep(SETTLE);
    Ok((guest.counts()?.since(before), outcome.done, start.elapsed()))
}

/// How a load is timed: in microseconds of one operation, or as a rate.
fn timed(load: Load) -> (&'static str, Better) {
    match load {
        Load::Receive | Load::Send | Load::Download => ("Mbit/s", Better::More),
        Load::FloodIn(_) | Load::FloodOut(_) => ("datagrams/s", Better::More),
        _ => ("µs", Better::Less),
    }
}

/// Wall time of each load, on taps.
fn time(systems: &Systems, options: &Options) -> Result<Vec<Figure>, Error> {
    let mut running = guests::boot_taps(&systems.on_taps(), options, None)?;
    let loads = options.loads_of(Load::compared());
    rounds("time", "", &mut running, &loads, options)
}

/// The same through QEMU's user-mode network, which carries no pings from outside.
fn user(systems: &Systems, options: &Options) -> Result<Vec<Figure>, Error> {
    let mut all = vec![systems.user.clone()];
    all.extend(systems.linux.as_ref().map(|l| l.system(guests::USER)));
    let mut running = Vec::new();
    for system in &all {
        running.push(guests::boot_user(system, options)?);
    }
    let loads = vec![Load::Udp, Load::Tcp, Load::Connect, Load::Receive, Load::Send];
    rounds("user", " (user network)", &mut running, &options.loads_of(loads), options)
}

fn rounds(
    part: &str,
    suffix: &str,
    running: &mut [Running],
    loads: &[Load],
    options: &Options,
) -> Result<Vec<Figure>, Error> {
    let mut samples: BTreeMap<usize, Samples> = BTreeMap::new();
    for round in 0..options.reps {
        for (i, load) in loads.iter().enumerate() {
            eprintln!("{part}: round {} of {}, {}", round + 1, options.reps, load.name());
            for guest in running.iter_mut().filter(|g| g.offers(*load)) {
                let n = options.n.unwrap_or(load.usual());
                let outcome = guest.load(*load, n)?;
                let value = match timed(*load).0 {
                    "Mbit/s" => outcome.per_s() * 8.0 / 1e6,
                    "datagrams/s" => outcome.per_s(),
                    _ => outcome.median_us().unwrap_or(f64::NAN),
                };
                samples.entry(i).or_default().entry(guest.name).or_default().push(value);
            }
        }
    }
    let figure = |(i, load): (usize, &Load)| {
        let ((unit, better), what) = (timed(*load), format!("{}{suffix}", load.operation()));
        let samples = samples.get(&i).cloned().unwrap_or_default();
        figure((part, &load.name()), (what, unit), better, aim(part, *load), samples)
    };
    Ok(loads.iter().enumerate().map(figure).collect())
}
