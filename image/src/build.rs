//! Kernel and bundle, from sources and manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::workspace::{self, GuestBin};
use crate::{authority, bundle, elf, guest, manifest};

/// What a build makes.
#[derive(Clone, Debug)]
pub struct Image {
    /// The kernel, an ELF file with a PVH note.
    pub kernel: PathBuf,
    /// The boot bundle.
    pub bundle: PathBuf,
    /// What the manifest says.
    pub plan: manifest::Plan,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// cargo cannot tell what there is.
    #[error(transparent)]
    Workspace(#[from] workspace::Error),
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// It hands out too much.
    #[error(transparent)]
    Authority(#[from] authority::Violations),
    /// The guest's binaries cannot be built.
    #[error(transparent)]
    Guest(#[from] guest::Error),
    /// A built binary breaks a rule of the system.
    #[error("{file}: {reason}")]
    Elf {
        /// Which.
        file: String,
        /// Why.
        reason: elf::Error,
    },
    /// The bundle cannot be made.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The guest binaries that the system of `manifest` needs.
fn needed(manifest: &Path, own: &manifest::Own) -> Result<(manifest::Plan, Vec<GuestBin>), Error> {
    let bins = workspace::guest_bins()?;
    let names: Vec<&str> = bins.iter().map(|b| b.name.as_str()).collect();
    let plan = manifest::load_with(manifest, &names, own)?;
    authority::check(&plan.system)?;
    let files = plan.files();
    let wanted = |b: &GuestBin| ["kernel", "init"].contains(&&*b.name) || files.contains(&&*b.name);
    let bins = bins.iter().filter(|b| wanted(b)).cloned().collect();
    Ok((plan, bins))
}

/// What `manifest` says, checked as every build does.
///
/// # Errors
/// If it says something wrong, or hands out too much.
pub fn plan(manifest: &Path) -> Result<manifest::Plan, Error> {
    needed(manifest, &manifest::Own::default()).map(|(plan, _)| plan)
}

/// Builds everything that `manifest` names, and the bundle.
///
/// # Errors
/// See [`Error`].
pub fn build(manifest: &Path, quiet: bool) -> Result<Image, Error> {
    build_with(manifest, &manifest::Own::default(), quiet)
}

/// As [`build`], but the interface gets its address in another way than the manifest says.
///
/// # Errors
/// See [`Error`].
pub fn build_with(manifest: &Path, own: &manifest::Own, quiet: bool) -> Result<Image, Error> {
    let (plan, bins) = needed(manifest, own)?;
    let made = guest::build(&bins, quiet)?;
    let bytes = pack(&plan, &made)?;
    let kernel = made["kernel"].clone();
    // Each system has a bundle of its own: `bundle`, or `bundle-bench` for bench.toml; `-address` with
    // an address that the manifest does not say.
    let stem = manifest.file_stem().and_then(|s| s.to_str()).unwrap_or("system");
    let mut name = if stem == "system" { "bundle".into() } else { format!("bundle-{stem}") };
    if *own != manifest::Own::default() {
        name += "-address";
    }
    let bundle = guest::target_dir().join(name);
    std::fs::write(&bundle, &bytes).map_err(|source| Error::Io { path: bundle.clone(), source })?;
    Ok(Image { kernel, bundle, plan })
}

/// Lints every guest binary of the workspace, warnings denied.
///
/// # Errors
/// If clippy finds something.
pub fn clippy() -> Result<(), Error> {
    Ok(guest::clippy(&workspace::guest_bins()?)?)
}

fn pack(plan: &manifest::Plan, made: &BTreeMap<String, PathBuf>) -> Result<Vec<u8>, Error> {
    let mut writer = bundle::Writer::default();
    let (_, symbols) = read("kernel", made)?;
    writer.symbols("kernel", symbols)?;
    for file in std::iter::once("init").chain(plan.files()) {
        let (bytes, symbols) = read(file, made)?;
        let refused = |reason| Error::Elf { file: file.into(), reason };
        let program = elf::program(&bytes).map_err(refused)?;
        writer.program(file, program, symbols)?;
    }
    let system = postcard::to_allocvec(&plan.system).expect("plain data");
    writer.data("system", system)?;
    Ok(writer.finish()?)
}

fn read(
    name: &str,
    made: &BTreeMap<String, PathBuf>,
) -> Result<(Vec<u8>, Vec<elf::Symbol>), Error> {
    let path = made[name].clone();
    let bytes = std::fs::read(&path).map_err(|source| Error::Io { path, source })?;
    let symbols =
        elf::symbols(&bytes).map_err(|reason| Error::Elf { file: name.into(), reason })?;
    Ok((bytes, symbols))
}
