//! The guests that are compared, booted and answering.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use netd::Addressing;

use super::load::{Pinger, Target};
use super::machine::{MAC, Machine, Net, Setup, System};
use super::{Error, Options, namespace};
use crate::build::{self, Image};
use crate::workspace;

/// Address of our guest on its tap.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// How long a boot may take until it answers a ping.
const BOOT: Duration = Duration::from_secs(60);
/// How often a booting guest is asked.
const ASK: Duration = Duration::from_millis(20);

/// Builds our system, which gets its address by DHCP, or has [`GUEST`] if it stands on a tap.
pub fn ours(tap: bool) -> Result<(System, Image), Error> {
    let gateway = Some(Ipv4Addr::new(10, 9, 0, 1));
    let fixed = Addressing::Static { addr: GUEST, prefix: 24, gateway, dns: None };
    let image = build::build_with(&workspace::manifest(), tap.then_some(&fixed), true)?;
    let system = System {
        name: "breakwater",
        kernel: image.kernel.clone(),
        initrd: image.bundle.clone(),
        append: String::new(),
    };
    Ok((system, image))
}

/// Boots `system` on tap number `number` (network 10.9.`number`.0/24) and waits until it answers
/// pings.
pub fn boot_tap(
    system: &System,
    options: &Options,
    plugin: Option<(PathBuf, bool)>,
    number: u8,
) -> Result<(Machine, Target), Error> {
    let (name, host) = (["tap0", "tap1"][usize::from(number)], Ipv4Addr::new(10, 9, number, 1));
    let ip = Ipv4Addr::new(10, 9, number, 2);
    namespace::tap(name, host, ip, MAC)?;
    let setup = Setup {
        cpu: options.cpu.clone(),
        mem_mib: options.mem_mib,
        net: Net::Tap(name),
        plugin,
        nic: "",
    };
    let mut machine = Machine::start(system, &setup)?;
    let mut pinger = Pinger::new(ip).map_err(|e| Error::Client(e.to_string()))?;
    if !machine.wait(BOOT, || matches!(pinger.once(ASK), Ok(Some(_)))) {
        return Err(Error::NoAnswer { guest: system.name, console: machine.console.tail(20) });
    }
    Ok((machine, Target { ip, ports: Vec::new() }))
}
