//! Getting QEMU, the only thing besides Rust that the system needs.

use std::process::{Command, Stdio};

/// The emulator.
pub const QEMU: &str = "qemu-system-x86_64";
/// Debian's package of it.
const PACKAGE: &str = "qemu-system-x86";

/// What to install where, in one line.
const BY_HAND: &str = "please install QEMU for x86-64 (7.2 or later): `dnf install \
    qemu-system-x86`, `pacman -S qemu-system-x86`, `brew install qemu`, `nix-env -iA nixpkgs.qemu`";

/// Why there is no QEMU.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no apt, or no right to use it.
    #[error("{QEMU} is missing and cannot be installed from here ({why}); {BY_HAND}")]
    ByHand {
        /// What stands in the way.
        why: &'static str,
    },
    /// apt failed; it has said why.
    #[error("apt-get could not install {PACKAGE} (see above); {BY_HAND}")]
    Apt,
    /// It is there and does not run.
    #[error("{QEMU} does not run: {0}")]
    Broken(String),
    /// It is too old.
    #[error("{QEMU} is version {found}, but 7.2 or later is needed")]
    Old {
        /// What it says.
        found: String,
    },
}

/// Makes sure that QEMU is there and recent enough, installing it where that is possible.
///
/// # Errors
/// If it is not; the message says what to do.
pub fn ensure() -> Result<(), Error> {
    if !works(QEMU) {
        install()?;
    }
    let out = Command::new(QEMU).arg("--version").output();
    let out = out.map_err(|e| Error::Broken(e.to_string()))?;
    if !out.status.success() {
        return Err(Error::Broken(String::from_utf8_lossy(&out.stderr).trim().into()));
    }
    let text = String::from_utf8_lossy(&out.stdout);
    let found = text.lines().next().unwrap_or("").to_string();
    // An unknown form of the answer is no reason to refuse: QEMU will complain by itself.
    match version(&found) {
        Some(v) if v < (7, 2) => Err(Error::Old { found }),
        _ => Ok(()),
    }
}

/// Whether `program` is in the path and can be started.
fn works(program: &str) -> bool {
    let quiet = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok()
}

/// Major and minor number in `QEMU emulator version 7.2.22 (…)`.
fn version(line: &str) -> Option<(u32, u32)> {
    let word = line.split_whitespace().skip_while(|w| *w != "version").nth(1)?;
    let mut numbers = word.split('.').map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

fn install() -> Result<(), Error> {
    if !works("apt-get") {
        return Err(Error::ByHand { why: "there is no apt-get" });
    }
    let root = is_root();
    if !root && !succeeds(Command::new("sudo").args(["-n", "true"])) {
        return Err(Error::ByHand { why: "not root, and sudo asks for a password" });
    }
    eprintln!("{QEMU} is missing: installing it with apt-get ({PACKAGE}, about 40 MB to download)");
    // The package lists may be absent (containers) or stale: one update, then a second try.
    if apt(root, &["install", "-y", "--no-install-recommends", PACKAGE])
        || (apt(root, &["update"])
            && apt(root, &["install", "-y", "--no-install-recommends", PACKAGE]))
    {
        return Ok(());
    }
    Err(Error::Apt)
}

fn apt(root: bool, args: &[&str]) -> bool {
    let mut command = if root {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        sudo
    };
    command.args(["-q"]).args(args).env("DEBIAN_FRONTEND", "noninteractive");
    // apt's words go to our stderr: stdout belongs to the system's console.
    let status = command.stdin(Stdio::null()).stdout(std::io::stderr()).status();
    status.is_ok_and(|s| s.success())
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Whether we are root: the owner of our own entry in /proc. (std has no `geteuid`.)
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_understood() {
        assert_eq!(version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"), Some((7, 2)));
        assert_eq!(version("QEMU emulator version 10.0.13"), Some((10, 0)));
        assert_eq!(version("something else"), None);
    }
}
