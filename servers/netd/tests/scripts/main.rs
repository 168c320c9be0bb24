//! Runs packet scripts (docs/scripts.md): every case of `*.pkt` beside this file is a test of its own.
//!
//! `PACKETDRILL=DIRECTORY cargo test -p netd --test scripts` runs the scripts of packetdrill's own
//! format below that directory instead, a test each: Linux's expectations of Linux.

#![allow(clippy::float_arithmetic, reason = "times and assertions of scripts, on the host")]

#[path = "../common/mod.rs"]
mod common;
mod script;

use libtest_mimic::{Arguments, Failed, Trial};
use script::parse::{self, Blocks, Case};
use std::path::{Path, PathBuf};

/// All files with the suffix `pkt` below `dir`, sorted.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            out.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "pkt") {
            out.push(path);
        }
    }
    out.sort();
    out
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn trial(topic: &str, case: Case, foreign: bool) -> Trial {
    let name = if foreign { topic.to_string() } else { format!("{topic}::{}", case.name) };
    Trial::test(name, move || {
        script::run::case(&case, foreign).map_err(|e| Failed::from(format!("\n{e}\n")))
    })
}

fn main() {
    let args = Arguments::from_args();
    let foreign = std::env::var_os("PACKETDRILL").map(PathBuf::from);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let dir = foreign.as_deref().unwrap_or(&own);
    let mut blocks = Blocks::new();
    let shared = own.join("blocks.pkt");
    parse::file("blocks", &read(&shared), &mut blocks);
    let mut trials = Vec::new();
    for path in files(dir).into_iter().filter(|p| *p != shared) {
        let topic = path.strip_prefix(dir).expect("it is below").with_extension("");
        let topic = topic.to_string_lossy().into_owned();
        let mut blocks = blocks.clone();
        for case in parse::file(&topic, &read(&path), &mut blocks) {
            trials.push(trial(&topic, case, foreign.is_some()));
        }
    }
    libtest_mimic::run(&args, trials).exit();
}
