//! The target: what `tests/common/fuzzing.rs` makes of the bytes. Which steps there are says the environment variable
//! `STEPS`: `frames`, `calls` or `both`.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::fuzzing::{Steps, run};
use std::sync::OnceLock;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static STEPS: OnceLock<Steps> = OnceLock::new();
    run(data, *STEPS.get_or_init(|| match std::env::var("STEPS").as_deref() {
        Ok("frames") => Steps::Frames,
        Ok("calls") => Steps::Calls,
        _ => Steps::Both,
    }));
});
