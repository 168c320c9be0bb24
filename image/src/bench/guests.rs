//! The guests that are compared, booted and answering.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use crate::manifest::Own;
use netd::Addressing;

use super::counts::{Counter, Counts};
use super::load::{Load, Outcome, PORTS, Pinger, Target};
use super::machine::{MAC, Machine, Net, Setup, System};
use super::{Error, Options, namespace};
use crate::build::{self, Image};
use crate::workspace;

/// Its taps, in the order of the guests.
const TAPS: [&str; 3] = ["tap0", "tap1", "tap2"];
/// A guest's address on QEMU's user-mode network.
pub const USER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// Lines of the console in an error.
const TAIL: usize = 20;
/// How long a boot may take until it answers a ping.
const BOOT: Duration = Duration::from_secs(60);
/// How often a booting guest is asked.
const ASK: Duration = Duration::from_millis(20);

/// Builds our system, which gets its address by DHCP, or has [`address`] 0 if it stands on a tap.
pub fn ours(tap: bool) -> Result<(System, Image), Error> {
    let gateway = Some(Ipv4Addr::new(10, 9, 0, 1));
    let fixed = Addressing::Static { addr: address(0), prefix: 24, gateway, dns: None };
    let own = Own { v4: tap.then_some(fixed), v6: None };
    let image = build::build_with(&workspace::manifest(), &own, true)?;
    let system = System {
        name: OURS,
        kernel: image.kernel.clone(),
        initrd: image.bundle.clone(),
        append: String::new(),
    };
    Ok((system, image))
}

/// Our name.
pub const OURS: &str = "breakwater";
/// The name of the driver with next to nothing behind it.
pub const FLOOR: &str = "floor";

/// Builds the floor (image/floor.toml).
pub fn floor() -> Result<System, Error> {
    let image = build::build(&workspace::root().join("image/floor.toml"), true)?;
    let (kernel, initrd) = (image.kernel, image.bundle);
    Ok(System { name: FLOOR, kernel, initrd, append: String::new() })
}

/// Number of a guest's tap.
fn tap(name: &str) -> u8 {
    match name {
        OURS => 0,
        FLOOR => 2,
        _ => 1,
    }
}

/// The guest's address on the tap of this number; ours has 0, Linux 1.
pub const fn address(tap: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, tap, 2)
}

/// A guest that answers.
pub struct Running {
    /// Its name.
    pub name: &'static str,
    machine: Machine,
    /// Where it is.
    pub target: Target,
    /// Instructions a second while nothing is asked of it, once that is known.
    pub idle_per_s: f64,
}

impl Running {
    /// Its instructions so far.
    pub fn counts(&self) -> Result<Counts, Error> {
        self.machine.counter()?.read()
    }

    /// Its counter.
    pub fn counter(&self) -> Result<&Counter, Error> {
        self.machine.counter()
    }

    /// Whether it can bear this load.
    pub fn offers(&self, load: Load) -> bool {
        self.name != FLOOR
            || matches!(load, Load::Ping | Load::Udp | Load::FloodIn(_) | Load::FloodOut(_))
    }

    /// Puts a load on it.
    pub fn load(&mut self, load: Load, n: u64) -> Result<Outcome, Error> {
        load.run(&self.target, n).map_err(|source| Error::Load {
            guest: self.name,
            load: load.name(),
            source,
            console: self.machine.console.tail(TAIL),
        })
    }
}

/// Makes a tap for each guest: networks 10.9.0.0/24 and on.
pub fn taps() -> Result<(), Error> {
    for (number, name) in TAPS.iter().enumerate() {
        let host = Ipv4Addr::new(10, 9, number as u8, 1);
        namespace::tap(name, host, address(number as u8), MAC)?;
    }
    Ok(())
}

/// Boots `system` on its tap and waits until it answers pings; how long that took.
pub fn boot_tap(
    system: &System,
    options: &Options,
    plugin: Option<(PathBuf, bool)>,
    limit: Option<Duration>,
) -> Result<(Running, Duration), Error> {
    let number = tap(system.name);
    let ip = address(number);
    let net = Net::Tap(TAPS[usize::from(number)]);
    let mut machine = Machine::start(system, &setup(options, net, plugin))?;
    let mut pinger = Pinger::new(ip).map_err(|e| Error::Client(e.to_string()))?;
    if !machine.wait(limit.unwrap_or(BOOT), || matches!(pinger.once(ASK), Ok(Some(_)))) {
        return Err(no_answer(system, &machine));
    }
    let took = machine.started.elapsed();
    let target = Target { ip, ports: Vec::new() };
    Ok((Running { name: system.name, machine, target, idle_per_s: 0.0 }, took))
}

/// Boots all `systems` on their taps and waits until their services answer.
pub fn boot_taps(
    systems: &[System],
    options: &Options,
    plugin: Option<(PathBuf, bool)>,
) -> Result<Vec<Running>, Error> {
    let mut running = Vec::new();
    for system in systems {
        eprintln!("booting {}", system.name);
        let (mut guest, _) = boot_tap(system, options, plugin.clone(), None)?;
        serving(system, &mut guest)?;
        running.push(guest);
    }
    Ok(running)
}

/// Boots `system` on QEMU's user-mode network and waits until its services answer.
pub fn boot_user(system: &System, options: &Options) -> Result<Running, Error> {
    eprintln!("booting {} on the user network", system.name);
    let mut forwards = Vec::new();
    for (protocol, there) in PORTS {
        let here = match protocol {
            "tcp" => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|s| s.local_addr()),
            _ => UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|s| s.local_addr()),
        };
        forwards.push((protocol, there, here.map_err(Error::io("no free port"))?.port()));
    }
    let ports = forwards.iter().map(|(_, there, here)| (*there, *here)).collect();
    let machine = Machine::start(system, &setup(options, Net::User(forwards), None))?;
    let target = Target { ip: Ipv4Addr::LOCALHOST, ports };
    let mut guest = Running { name: system.name, machine, target, idle_per_s: 0.0 };
    serving(system, &mut guest)?;
    Ok(guest)
}

fn setup(options: &Options, net: Net, plugin: Option<(PathBuf, bool)>) -> Setup {
    Setup { cpu: options.cpu.clone(), mem_mib: options.mem_mib, net, plugin, nic: "" }
}

/// Waits until the services are there: the first of them answers a datagram.
fn serving(system: &System, guest: &mut Running) -> Result<(), Error> {
    let target = guest.target.clone();
    match guest.machine.wait(BOOT, || Load::Udp.run(&target, 1).is_ok()) {
        true => Ok(()),
        false => Err(no_answer(system, &guest.machine)),
    }
}

fn no_answer(system: &System, machine: &Machine) -> Error {
    Error::NoAnswer { guest: system.name, console: machine.console.tail(TAIL) }
}
