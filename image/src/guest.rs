//! The nested cargo call that builds the guest binaries.
//!
//! Host and guest share one target triple, so features would unify if both were built in one call:
//! serde with std for this tool would break the `no_std` kernel. A second call with its own target
//! directory keeps them apart. It cannot be made from a build script, which would wait for the
//! lock of the outer call for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde::Deserialize;

use crate::workspace::{self, GuestBin};

/// The only triple for which every toolchain ships `core` and `alloc` without further components.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Code generation: the toolchain's own linker (so no C compiler is needed), frame pointers for
/// backtraces, symbols kept. Nothing beyond SSE2 in vector registers: the kernel saves no more.
const RUSTFLAGS: [&str; 4] =
    ["-Clinker=rust-lld", "-Clinker-flavor=ld.lld", "-Cforce-frame-pointers=yes", "-Cstrip=none"];

/// Variables of the outer cargo or of the user that stay: where cargo keeps things and how it
/// reaches the network. All others that begin with `CARGO_` describe another build.
const KEEP: [&str; 7] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
    "CARGO_BUILD_JOBS",
];

/// Why there are no guest binaries.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// cargo does not start.
    #[error(transparent)]
    Workspace(#[from] workspace::Error),
    /// It ran and failed; its own messages say why.
    #[error("the guest {what} failed ({status}); see the messages above")]
    Failed {
        /// `build` or `clippy`.
        what: &'static str,
        /// How cargo ended.
        status: ExitStatus,
    },
    /// It succeeded, but made no such binary. Something from an earlier build must not be taken
    /// for it.
    #[error("the guest build made no binary `{0}`; does its package have the feature `guest`?")]
    Missing(String),
}

/// What to do with the guest's packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Build,
    Clippy,
}

/// Folder in which the nested call works.
pub fn target_dir() -> PathBuf {
    workspace::target_dir().join("guest")
}

/// Builds the packages that `bins` come from; returns where each binary lies.
///
/// # Errors
/// If cargo does not start or fails.
pub fn build(bins: &[GuestBin], quiet: bool) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut made = BTreeMap::new();
    for group in groups(bins) {
        let mut cargo = command(&group, What::Build, quiet, &target_dir());
        cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
        let output = cargo.spawn().and_then(std::process::Child::wait_with_output);
        let output = output.map_err(|e| not_started(&cargo, e))?;
        if !output.status.success() {
            return Err(Error::Failed { what: "build", status: output.status });
        }
        made.extend(output.stdout.split(|b| *b == b'\n').filter_map(executable));
    }
    match bins.iter().find(|b| !made.contains_key(&b.name)) {
        Some(missing) => Err(Error::Missing(missing.name.clone())),
        None => Ok(made),
    }
}

/// Lints the packages that `bins` come from, warnings denied.
///
/// # Errors
/// If cargo does not start or clippy finds something.
pub fn clippy(bins: &[GuestBin]) -> Result<(), Error> {
    for group in groups(bins) {
        let mut cargo = command(&group, What::Clippy, false, &target_dir());
        let status = cargo.status().map_err(|e| not_started(&cargo, e))?;
        if !status.success() {
            return Err(Error::Failed { what: "clippy", status });
        }
    }
    Ok(())
}

/// What one cargo call builds. The kernel has a call of its own: it has no heap, and in one call
/// with others the `alloc` features of shared dependencies would be on for it too.
fn groups(bins: &[GuestBin]) -> impl Iterator<Item = Vec<&GuestBin>> {
    let (kernel, others): (Vec<_>, Vec<_>) = bins.iter().partition(|b| b.name == "kernel");
    [kernel, others].into_iter().filter(|g| !g.is_empty())
}

fn not_started(cargo: &Command, source: std::io::Error) -> workspace::Error {
    workspace::Error::Cargo { cargo: cargo.get_program().into(), source }
}

/// A message of cargo about something that it made.
#[derive(Deserialize)]
struct Artifact {
    target: Target,
    executable: PathBuf,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Name and path of the binary that a line of cargo's output tells of; all other lines are `None`.
fn executable(line: &[u8]) -> Option<(String, PathBuf)> {
    let artifact: Artifact = serde_json::from_slice(line).ok()?;
    Some((artifact.target.name, artifact.executable))
}

fn command(bins: &[&GuestBin], what: What, quiet: bool, target_dir: &Path) -> Command {
    let packages: BTreeSet<&str> = bins.iter().map(|b| b.package.as_str()).collect();
    let mut cargo = nested();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    cargo.arg(if what == What::Build { "build" } else { "clippy" });
    cargo.args(["--release", "--bins", "--target", TARGET, "--target-dir"]).arg(target_dir);
    for p in &packages {
        cargo.args(["-p", p]);
    }
    // Without a package's name: the feature of every package named above.
    cargo.args(["--features", "guest"]);
    if quiet {
        cargo.arg("--quiet");
    }
    if what == What::Clippy {
        cargo.args(["--", "-Dwarnings"]);
    }
    cargo
}

/// A cargo call within a cargo call, without what the outer one has put into the environment.
pub fn nested() -> Command {
    let mut cargo = Command::new(workspace::cargo());
    cargo.current_dir(workspace::root());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(disturbs) {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Whether an environment variable would change the nested build.
fn disturbs(name: &str) -> bool {
    let others = ["RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "RUSTDOCFLAGS"];
    let makes = ["MAKEFLAGS", "MFLAGS", "LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"];
    others.contains(&name)
        || makes.contains(&name)
        || (name.starts_with("CARGO_") && !KEEP.iter().any(|k| name.starts_with(k)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outer_builds_do_not_leak_in() {
        for name in ["CARGO_TARGET_DIR", "CARGO_MANIFEST_DIR", "CARGO_BUILD_TARGET", "RUSTFLAGS"] {
            assert!(disturbs(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "PATH", "RUSTUP_TOOLCHAIN", "HOME"] {
            assert!(!disturbs(name), "{name}");
        }
    }

    #[test]
    fn each_package_is_named_once() {
        let bin =
            |name: &str, package: &str| GuestBin { name: name.into(), package: package.into() };
        let bins =
            [bin("kernel", "microkernel"), bin("shell", "userland"), bin("services", "userland")];
        let cargo = command(&bins.each_ref(), What::Build, false, Path::new("/t"));
        let args: Vec<_> = cargo.get_args().map(|a| a.to_str().unwrap()).collect();
        let packages = args.windows(2).filter(|w| w[0] == "-p").map(|w| w[1]);
        assert_eq!(packages.collect::<Vec<_>>(), ["microkernel", "userland"]);
        assert!(args.windows(2).any(|w| w == ["--features", "guest"]));
    }

    #[test]
    fn cargo_tells_what_it_made() {
        let bin = br#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"netd"},
            "filenames":["/t/netd"],"executable":"/t/netd","fresh":true}"#;
        assert_eq!(executable(bin), Some(("netd".into(), "/t/netd".into())));
        let lib = br#"{"reason":"compiler-artifact","target":{"name":"netd"},"executable":null}"#;
        assert_eq!(executable(lib), None);
        assert_eq!(executable(br#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(executable(b""), None);
    }
}
