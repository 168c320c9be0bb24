//! The manifest: `system.toml`, read, checked and expanded.
//!
//! [`load`] turns a file into a [`Plan`]: the [`spec::System`] that init builds, and what the host
//! needs to know. Whoever writes a manifest gets every mistake at once, each with file, line and
//! reason ([`Refused`]); the fixtures in `image/tests/manifests` pair each kind with its message.

mod check;
mod expand;
mod file;
mod problem;

use std::path::Path;

pub use file::{Forward, Manifest, Protocol};
pub use problem::{Problem, Reason, Refused};

/// What a good manifest leads to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The system, expanded.
    pub system: spec::System,
    /// Ports of the host that lead into it.
    pub forwards: Vec<Forward>,
}

impl Plan {
    /// Names of the program files that the bundle must hold, without init, each once.
    pub fn files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = self.system.processes.iter().map(|p| p.file.as_str()).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

/// Reads, checks and expands the manifest at `path`; programs may use the guest binaries `bins`.
///
/// # Errors
/// If the file cannot be read or says something wrong.
pub fn load(path: &Path, bins: &[&str]) -> Result<Plan, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Read { path: path.display().to_string(), source })?;
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    Ok(parse(&name, &text, bins)?)
}

/// As [`load`], from text; `name` is used in messages.
///
/// # Errors
/// If the text says something wrong.
pub fn parse(name: &str, text: &str, bins: &[&str]) -> Result<Plan, Refused> {
    let manifest: Manifest = toml::from_str(text).map_err(|e| Refused::syntax(name, text, &e))?;
    let mut problems = check::check(&manifest, bins);
    if problems.is_empty() {
        let (system, more) = expand::expand(&manifest);
        problems = more;
        if problems.is_empty() {
            return Ok(Plan { system, forwards: manifest.forward });
        }
    }
    Err(Refused::new(name, text, problems))
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such file, or it cannot be read.
    #[error("cannot read the manifest {path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is wrong.
    #[error(transparent)]
    Refused(#[from] Refused),
}
