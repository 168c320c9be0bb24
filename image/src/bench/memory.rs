//! `bench memory`: the least memory with which a guest works.

use std::collections::BTreeMap;

use super::figure::{Better, Figure};
use super::guests;
use super::load::Load;
use super::machine::System;
use super::net::Systems;
use super::{Error, Options, namespace};

/// What nobody needs.
const ENOUGH: u32 = 256;
/// Bytes that a guest must take over TCP to count as working.
const WORK: u64 = 1_000_000;

/// The measurement by itself.
pub fn run(options: &Options) -> Result<Vec<Figure>, Error> {
    let systems = Systems::get()?;
    namespace::enter()?;
    guests::taps()?;
    least(&systems, options)
}

/// The least number of MiB with which a guest answers a ping and takes a megabyte over TCP, for ours
/// and for both forms of the peer.
pub fn least(systems: &Systems, options: &Options) -> Result<Vec<Figure>, Error> {
    let mut peers = BTreeMap::new();
    let ours = search(&systems.tap, 2, 1, options)?;
    if let Some(linux) = &systems.linux {
        let address = guests::address(1);
        for system in std::iter::once(linux.system(address)).chain(linux.bare(address)) {
            peers.insert(system.name, vec![f64::from(search(&system, 32, 4, options)?)]);
        }
    }
    Ok(vec![Figure {
        name: "net.memory.least".into(),
        what: "least memory".into(),
        unit: "MiB",
        better: Better::Less,
        aim: Some(96.0),
        ours: vec![f64::from(ours)],
        peers,
    }])
}

/// Searches between `too_little` and [`ENOUGH`] in steps of `step`: as if all sizes below the answer
/// failed and all above it worked.
fn search(system: &System, too_little: u32, step: u32, options: &Options) -> Result<u32, Error> {
    works_with(system, ENOUGH, options)?;
    let (mut fails, mut works) = (too_little, ENOUGH);
    while works - fails > step {
        let mid = fails + (works - fails) / 2 / step * step;
        let mid = mid.max(fails + step);
        let yes = works_with(system, mid, options).is_ok();
        eprintln!("memory: {} with {mid} MiB: {}", system.name, if yes { "works" } else { "no" });
        if yes { works = mid } else { fails = mid }
    }
    Ok(works)
}

fn works_with(system: &System, mem_mib: u32, options: &Options) -> Result<(), Error> {
    let options = Options { mem_mib, ..options.clone() };
    let (mut guest, _) = guests::boot_tap(system, &options, None, None)?;
    guest.load(Load::Receive, WORK).map(|_| ())
}
