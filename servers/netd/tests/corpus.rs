//! What fuzzing has found worth keeping, again, and some random bytes besides. `cargo run -- fuzz-stack` finds more.

mod common;

use common::fuzzing::{Steps, run};
use std::path::Path;

fn replay(name: &str, steps: Steps) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut count = 0;
    for file in files.flatten() {
        println!("{}", file.path().display());
        run(&std::fs::read(file.path()).unwrap(), steps);
        count += 1;
    }
    assert!(count > 100, "{count} files in {}", folder.display());
    fuzz::each(300, |r| run(&r.bytes(600), steps));
}

#[test]
fn frames() {
    replay("frames", Steps::Frames);
}

#[test]
fn calls() {
    replay("calls", Steps::Calls);
}

#[test]
fn both() {
    replay("both", Steps::Both);
}
