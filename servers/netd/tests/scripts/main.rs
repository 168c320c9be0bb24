//! Runs packet scripts (docs/scripts.md): every case of `*.pkt` beside this file is a test of its own.
//!
//! `PACKETDRILL=DIRECTORY cargo test -p netd --test scripts` runs the scripts of packetdrill's own
//! format below that directory instead, a test each: Linux's expectations of Linux. `EXPORT=DIRECTORY`
//! plays nothing, but writes every case that packetdrill can play to a file there: for Linux itself.

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

/// A case as packetdrill plays it against Linux, in a file of its own.
fn write(into: &Path, topic: &str, case: &Case) {
    if let Some(text) = script::export::script(case) {
        let path = into.join(format!("{topic}-{}.pkt", case.name));
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

fn main() {
    let args = Arguments::from_args();
    let foreign = std::env::var_os("PACKETDRILL").map(PathBuf::from);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let dir = foreign.as_deref().unwrap_or(&own);
    let export = std::env::var_os("EXPORT").map(PathBuf::from);
    let mut blocks = Blocks::new();
    let shared = own.join("blocks.pkt");
    parse::file("blocks", &read(&shared), &mut blocks);
    let mut trials = Vec::new();
    for path in files(dir).into_iter().filter(|p| *p != shared) {
        let topic = path.strip_prefix(dir).expect("it is below").with_extension("");
        let topic = topic.to_string_lossy().into_owned();
        let mut blocks = blocks.clone();
        for case in parse::file(&topic, &read(&path), &mut blocks) {
            // A file without cases is one: packetdrill's own.
            let foreign = foreign.is_some() && case.name == topic;
            if let Some(into) = &export {
                write(into, &topic, &case);
                continue;
            }
            trials.push(trial(&topic, case, foreign));
        }
    }
    libtest_mimic::run(&args, trials).exit();
}
