//! `bench ipc`: what a call and its reply cost, between two processes that do nothing else.

use std::collections::BTreeMap;

use super::figure::{Better, Figure};
use super::{Error, Options};
use crate::harness::{Failure, Guest, Setup};
use crate::{build, suite, workspace};

/// Boots image/ipc.toml under `-icount`, where the time-stamp counter counts instructions: the same
/// code as the test `ipc-cost`, whose limits are the aims.
pub fn run(_: &Options) -> Result<Vec<Figure>, Error> {
    let image = build::build(&workspace::root().join("image/ipc.toml"), true)?;
    let setup = Setup { icount: true, ..Setup::new("bench-ipc") };
    let failed = |e: Failure| Error::Guest(e.to_string());
    let mut guest = Guest::boot(&image, &setup).map_err(failed)?;
    let costs = suite::ipc_costs(&mut guest).map_err(failed)?;
    guest.forget_recording();
    let figure = |c: &suite::IpcCost| Figure {
        name: format!("ipc.call_{}", c.len),
        what: format!("call and reply, {} bytes", c.len),
        unit: "instructions",
        better: Better::Less,
        aim: Some(f64::from(c.most)),
        ours: vec![f64::from(c.cost)],
        peers: BTreeMap::new(),
    };
    Ok(costs.iter().map(figure).collect())
}
