//! The manifest: `system.toml`, read, checked and expanded.
//!
//! [`load`] turns a file into a [`Plan`]: the [`spec::System`] that init builds, and what the host
//! needs to know. Whoever writes a manifest gets every mistake at once, each with file, line and
//! reason ([`Refused`]); the fixtures in `image/tests/manifests` pair each kind with its message.

mod check;
mod expand;
mod extend;
mod file;
mod problem;
mod text;

use std::path::Path;

use netd::{Addressing, Addressing6};
use toml::Spanned;

pub use file::{Forward, Manifest, Protocol};
pub use problem::{Problem, Reason, Refused};
use text::Text;

/// What a good manifest leads to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The system, expanded.
    pub system: spec::System,
    /// Ports of the host that lead into it.
    pub forwards: Vec<Forward>,
    /// How its first network card gets an address.
    pub addressing: Addressing,
    /// How others do.
    pub other_addressing: Vec<Addressing>,
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
    load_with(path, bins, &Own::default())
}

/// As [`load`], but the stack of the sessions gets its address in another way than the file says.
///
/// # Errors
/// As for [`load`], or if the system has no stack.
pub fn load_with(path: &Path, bins: &[&str], own: &Own) -> Result<Plan, Error> {
    let mut text = Text::default();
    text.add(path)?;
    let mut manifest = read(&text)?;
    if let Some(base) = &manifest.extends {
        // Behind it: a key that stands before all tables stays there.
        let at = text.add(&path.with_file_name(base.get_ref()))?;
        manifest = read(&text)?;
        let problems = extend::apply(&mut manifest, at);
        if !problems.is_empty() {
            return Err(Refused::new(&text, problems).into());
        }
    }
    if *own != Own::default() {
        set_addressing(&mut manifest, own)?;
    }
    Ok(plan(&text, manifest, bins)?)
}

/// As [`load`], from text; `name` is used in messages.
///
/// # Errors
/// If the text says something wrong.
pub fn parse(name: &str, text: &str, bins: &[&str]) -> Result<Plan, Refused> {
    let text = Text::of(name, text);
    plan(&text, read(&text)?, bins)
}

fn read(text: &Text) -> Result<Manifest, Refused> {
    toml::from_str(text.all()).map_err(|e| Refused::syntax(text, &e))
}

fn plan(text: &Text, manifest: Manifest, bins: &[&str]) -> Result<Plan, Refused> {
    let mut problems = check::check(&manifest, bins);
    if problems.is_empty() {
        let (system, more) = expand::expand(&manifest);
        problems = more;
        if problems.is_empty() {
            let mut all = addressings(&manifest).into_iter();
            let addressing = all.next().unwrap_or(Addressing::Dhcp);
            let other_addressing = all.collect();
            return Ok(Plan { system, forwards: manifest.forward, addressing, other_addressing });
        }
    }
    Err(Refused::new(text, problems))
}

/// How the interface gets its addresses, other than the manifest says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Of IPv4.
    pub v4: Option<Addressing>,
    /// Of IPv6.
    pub v6: Option<Addressing6>,
}

/// What the arguments of the sessions' stack say of each network card; they have been checked.
fn addressings(manifest: &Manifest) -> Vec<Addressing> {
    let cards = netd::addressing::cards(stack_args(manifest).unwrap_or_default());
    cards.map(|a| Addressing::parse(a).unwrap_or(Addressing::Dhcp)).collect()
}

fn stack_args(manifest: &Manifest) -> Option<&str> {
    let stack = manifest.sessions.as_ref().map(|s| s.get_ref().stack.get_ref());
    let server = manifest.server.iter().find(|s| Some(s.name.get_ref()) == stack);
    server.and_then(|s| s.args.as_ref()).map(|a| a.get_ref().as_str())
}

/// Replaces the arguments of the sessions' stack about the first network card. That there is no server of its name the check
/// will say.
fn set_addressing(manifest: &mut Manifest, own: &Own) -> Result<(), Error> {
    let args = stack_args(manifest).unwrap_or_default();
    let (first, others) = args.split_once('|').map_or((args, None), |(a, b)| (a, Some(b)));
    let said = Addressing6::parse(first).ok();
    let others = others.map_or_else(String::new, |others| format!(" |{others}"));
    let v4 = own.v4.unwrap_or_else(|| addressings(manifest)[0]);
    let v6 = own.v6.or(said).unwrap_or_default();
    let sessions = manifest.sessions.as_ref().ok_or(Error::NoStack)?;
    let stack = sessions.get_ref().stack.get_ref();
    if let Some(server) = manifest.server.iter_mut().find(|s| s.name.get_ref() == stack) {
        server.args = Some(Spanned::new(server.name.span(), format!("{v4} {v6}{others}")));
    }
    Ok(())
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
    /// An address was given, and nobody takes it.
    #[error(
        "the manifest names no stack in [sessions], so no server takes the address of --ip or --ip6"
    )]
    NoStack,
}
