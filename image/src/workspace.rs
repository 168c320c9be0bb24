//! Where things lie, and which guest binaries the workspace offers.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// A program that only the nested build makes: a bin target with `required-features = ["guest"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestBin {
    /// Name of the binary.
    pub name: String,
    /// Its package.
    pub package: String,
}

/// Why the workspace could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// cargo does not start.
    #[error("cannot start `{}`: {source}; is Rust installed?", .cargo.display())]
    Cargo {
        /// What was tried.
        cargo: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// cargo refuses; it has said why.
    #[error("`cargo metadata` failed:\n{0}")]
    Metadata(String),
    /// Its answer is not what we know.
    #[error("`cargo metadata` answered something unknown: {0}")]
    Format(#[from] serde_json::Error),
}

/// The workspace's root: the folder above this package.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace")
}

/// The default manifest.
pub fn manifest() -> PathBuf {
    root().join("image/system.toml")
}

/// The manifest of the system with two network cards.
pub fn nics_manifest() -> PathBuf {
    root().join("image/nics.toml")
}

/// The manifest of the system with the test agent.
pub fn agent_manifest() -> PathBuf {
    root().join("image/agent.toml")
}

/// cargo's target directory: the one that the running tool was built into, whichever way it was
/// chosen (default, CARGO_TARGET_DIR, configuration), known by the tag that cargo leaves there.
pub fn target_dir() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|exe| {
            exe.ancestors().find(|d| d.join("CACHEDIR.TAG").is_file()).map(Path::to_path_buf)
        })
        .unwrap_or_else(|| root().join("target"))
}

/// The cargo that runs us, or the one in the path.
pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    #[serde(default, rename = "required-features")]
    required_features: Vec<String>,
}

/// All guest binaries of the workspace, kernel and init among them, sorted by name.
///
/// # Errors
/// If cargo cannot tell.
pub fn guest_bins() -> Result<Vec<GuestBin>, Error> {
    let cargo = cargo();
    let out = Command::new(&cargo)
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(root())
        .output()
        .map_err(|source| Error::Cargo { cargo, source })?;
    if !out.status.success() {
        return Err(Error::Metadata(String::from_utf8_lossy(&out.stderr).into_owned()));
    }
    let metadata: Metadata = serde_json::from_slice(&out.stdout)?;
    let mut bins = Vec::new();
    for package in metadata.packages {
        for target in package.targets {
            let guest = target.required_features.iter().any(|f| f == "guest");
            if guest && target.kind.iter().any(|k| k == "bin") {
                bins.push(GuestBin { name: target.name, package: package.name.clone() });
            }
        }
    }
    bins.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bins)
}
