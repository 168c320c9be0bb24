//! `fuzz-stack`: coverage-guided fuzzing of netd's library, with plain stable Rust.
//!
//! The instrumentation is LLVM's own pass; libFuzzer comes with the crate `libfuzzer-sys` and is compiled here, for which a C++
//! compiler is needed.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::workspace;

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// The peer's frames
    Frames,
    /// The program's calls and words
    Calls,
    /// Both, mixed
    Both,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Calls => "calls",
            Self::Both => "both",
        }
    }
}

/// Why it did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tool could not be started.
    #[error("cannot start {what}: {source}")]
    Start {
        /// Which.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The target does not build.
    #[error(
        "the fuzz target does not build ({0}); it needs a C++ compiler: `sudo apt-get install g++`"
    )]
    Build(ExitStatus),
    /// It found something.
    #[error(
        "the fuzzer has ended with {status}: what it found is in {found}; \
         `STEPS={steps} {binary} FILE` does it again"
    )]
    Found {
        /// How.
        status: ExitStatus,
        /// Where its inputs are.
        found: String,
        /// Which steps.
        steps: &'static str,
        /// The program.
        binary: String,
    },
}

/// LLVM's coverage, as libFuzzer wants it.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
     --cfg fuzzing -Ccodegen-units=1";
/// Named, so that build scripts are not instrumented.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Longest input, bytes.
const LONGEST: u32 = 4096;

/// Where new inputs go; those in the repository are read only.
fn found(target: Target) -> PathBuf {
    workspace::target_dir().join("fuzz-stack").join(target.name())
}

/// Fuzzes for `time`. With `minimise`, puts the inputs that matter into the repository instead.
///
/// # Errors
/// [`Error`].
pub fn fuzz(target: Target, time: Duration, minimise: bool) -> Result<(), Error> {
    let folder = workspace::root().join("servers/netd/fuzz");
    let built = workspace::target_dir().join("fuzz");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--target", TRIPLE, "--target-dir"]).arg(&built);
    cargo.arg("--manifest-path").arg(folder.join("Cargo.toml")).env("RUSTFLAGS", COVERAGE);
    let start = |what| move |source| Error::Start { what, source };
    let status = cargo.status().map_err(start("cargo"))?;
    if !status.success() {
        return Err(Error::Build(status));
    }
    let binary = built.join(TRIPLE).join("release/netd-fuzz");
    let (found, corpus) = (found(target), folder.join("corpus").join(target.name()));
    std::fs::create_dir_all(&found).map_err(start("target/fuzz-stack"))?;
    let mut run = Command::new(&binary);
    run.env("STEPS", target.name()).current_dir(&found);
    run.args([format!("-max_len={LONGEST}"), "-print_final_stats=1".into()]);
    if minimise {
        run.arg("-merge=1").arg(&corpus).arg(&found);
    } else {
        run.arg(format!("-max_total_time={}", time.as_secs())).arg(&found).arg(&corpus);
    }
    let status = run.status().map_err(start("the fuzzer"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Found {
        status,
        found: found.display().to_string(),
        steps: target.name(),
        binary: binary.display().to_string(),
    })
}
