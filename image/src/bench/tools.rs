//! Nested cargo calls for what a measurement needs and nothing else does.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::Error;
use crate::workspace;

/// A message of cargo about something that it made.
#[derive(Deserialize)]
struct Artifact {
    filenames: Vec<PathBuf>,
}

/// Runs a cargo build; returns the files that it made, or found up to date.
pub fn build(cargo: &mut Command) -> Result<Vec<PathBuf>, Error> {
    cargo.arg("--target-dir").arg(workspace::target_dir().join("bench"));
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let output = cargo.spawn().and_then(std::process::Child::wait_with_output);
    let output = output.map_err(Error::io("cannot start cargo"))?;
    if !output.status.success() {
        return Err(Error::Cargo(output.status));
    }
    let artifacts = output.stdout.split(|b| *b == b'\n');
    let artifacts = artifacts.filter_map(|l| serde_json::from_slice::<Artifact>(l).ok());
    Ok(artifacts.flat_map(|a| a.filenames).collect())
}
