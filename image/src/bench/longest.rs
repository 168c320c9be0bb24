//! The longest stretch of the kernel with interrupts off: what `longest` (image/longest.toml), a program
//! without privileges, can make it take.

use std::collections::BTreeMap;

use super::Error;
use super::figure::{Better, Figure};
use super::kernel::stretch;
use crate::harness::{BOOT, Failure, Guest, Setup};
use crate::{build, workspace};

/// The most instructions that may lie between an entry into the kernel and its end.
pub const MOST: u32 = 5000;

/// A load, and the longest stretch under it.
pub struct Load {
    /// Its name in the program.
    pub name: String,
    /// Instructions.
    pub longest: u32,
}

/// All loads, from a guest of image/longest.toml that was booted with [`Setup::stretches`].
///
/// # Errors
/// If the guest or a load fails.
pub fn loads(guest: &mut Guest) -> Result<Vec<Load>, Failure> {
    guest.wait_until("the end of all loads", 4 * BOOT, |text| {
        ["longest: done", "longest ended"].iter().any(|end| text.contains(end))
    })?;
    let text = guest.console().text();
    if !text.contains("longest: done") {
        return Err(Failure::Wrong("a load failed: the console says which".into()));
    }
    guest.power_off()?;
    let stretches = guest.stretches()?;
    let mut loads: BTreeMap<u32, Load> = BTreeMap::new();
    for line in text.lines().filter_map(|l| l.split_once("longest: ")) {
        let Some((mark, name)) = line.1.trim().split_once(' ') else { continue };
        let Ok(mark) = mark.parse() else { continue };
        loads.insert(mark, Load { name: name.into(), longest: 0 });
    }
    for s in stretches.lines().filter_map(stretch) {
        if let Some(load) = loads.get_mut(&s.mark) {
            load.longest = load.longest.max(s.length);
        }
    }
    match loads.values().find(|l| l.longest == 0) {
        Some(l) => Err(Failure::Wrong(format!("{}: no stretch was recorded", l.name))),
        None if loads.len() < 10 => Err(Failure::Wrong(format!("{} loads only", loads.len()))),
        None => Ok(loads.into_values().collect()),
    }
}

/// Boots and measures.
pub fn figure() -> Result<Figure, Error> {
    let image = build::build(&workspace::root().join("image/longest.toml"), true)?;
    let setup = Setup { stretches: true, ..Setup::new("bench-longest") };
    let failed = |e: Failure| Error::Guest(e.to_string());
    let mut guest = Guest::boot(&image, &setup).map_err(failed)?;
    let loads = loads(&mut guest).map_err(failed)?;
    guest.forget_recording();
    let most = loads.iter().max_by_key(|l| l.longest);
    let (name, longest) = most.map_or(("", 0), |l| (l.name.as_str(), l.longest));
    Ok(Figure {
        name: "kernel.longest".into(),
        what: format!("longest stretch, whatever user code does ({name})"),
        unit: "instructions",
        better: Better::Less,
        aim: Some(f64::from(MOST)),
        ours: vec![f64::from(longest)],
        peers: BTreeMap::new(),
    })
}
