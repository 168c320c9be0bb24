//! Getting QEMU, the only thing besides Rust that the system needs.

use std::io::IsTerminal;
use std::process::{Command, Stdio};

/// The emulator.
pub const QEMU: &str = "qemu-system-x86_64";
/// Debian's package of it.
const PACKAGE: &str = "qemu-system-x86";

/// What to install where, in one line.
const BY_HAND: &str = "please install QEMU for x86-64 (7.2 or later): `sudo apt-get \
    install --no-install-recommends qemu-system-x86`, `dnf install qemu-system-x86`, `pacman -S qemu-system-x86`, `brew install qemu`, `nix-env -iA nixpkgs.qemu`";

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
    let way = Way::find(is_root(), std::io::stdin().is_terminal(), succeeds)
        .ok_or(Error::ByHand { why: "not root, and sudo is missing or asks for a password" })?;
    eprintln!("{QEMU} is missing: installing it with apt-get ({PACKAGE}, about 40 MB to download)");
    if way == Way::AskingSudo {
        eprintln!("sudo may ask for your password");
    }
    // The package lists may be absent (containers) or stale: one update, then a second try.
    let install = ["install", "-y", "--no-install-recommends", PACKAGE];
    if way.apt(&install) || (way.apt(&["update"]) && way.apt(&install)) {
        return Ok(());
    }
    Err(Error::Apt)
}

/// How apt-get gets the rights it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Root,
    /// sudo, which asks nothing.
    Sudo,
    /// sudo, which asks for a password; somebody is there to type it.
    AskingSudo,
}

impl Way {
    /// Whether a command `succeeds` is asked only for sudo.
    fn find(root: bool, terminal: bool, succeeds: impl Fn(&mut Command) -> bool) -> Option<Self> {
        let sudo = |args: &[&str]| succeeds(Command::new("sudo").args(args));
        if root {
            Some(Self::Root)
        } else if sudo(&["-n", "true"]) {
            Some(Self::Sudo)
        } else if terminal && sudo(&["--version"]) {
            Some(Self::AskingSudo)
        } else {
            None
        }
    }

    fn command(self) -> Command {
        if self == Self::Root {
            return Command::new("apt-get");
        }
        let mut sudo = Command::new("sudo");
        if self == Self::Sudo {
            sudo.arg("-n");
        }
        sudo.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        sudo
    }

    fn apt(self, args: &[&str]) -> bool {
        let mut command = self.command();
        command.args(["-q"]).args(args).env("DEBIAN_FRONTEND", "noninteractive");
        if self != Self::AskingSudo {
            command.stdin(Stdio::null());
        }
        // apt's words go to our stderr: stdout belongs to the system's console.
        let status = command.stdout(std::io::stderr()).status();
        status.is_ok_and(|s| s.success())
    }
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

    #[test]
    fn sudo_asks_only_where_somebody_can_answer() {
        let words = |c: &Command| -> Vec<String> {
            let words = [c.get_program()].into_iter().chain(c.get_args());
            words.map(|w| w.to_string_lossy().into_owned()).collect()
        };
        let free = |_: &mut Command| true;
        let asks = |c: &mut Command| words(c) == ["sudo", "--version"];
        let missing = |_: &mut Command| false;
        let command = |way: Option<Way>| way.map(|w| words(&w.command()).join(" "));
        let sudo = |n: &str| Some(format!("sudo {n}DEBIAN_FRONTEND=noninteractive apt-get"));
        for terminal in [false, true] {
            assert_eq!(command(Way::find(true, terminal, missing)), Some("apt-get".into()));
            assert_eq!(command(Way::find(false, terminal, free)), sudo("-n "));
            assert_eq!(Way::find(false, terminal, missing), None);
        }
        assert_eq!(command(Way::find(false, true, asks)), sudo(""));
        assert_eq!(Way::find(false, false, asks), None);
    }

    #[test]
    fn the_first_advice_is_for_debian() {
        let text = Error::ByHand { why: "x" }.to_string();
        let apt = text.find("`sudo apt-get install --no-install-recommends qemu-system-x86`");
        assert!(apt.is_some_and(|at| at < text.find("dnf").unwrap()), "{text}");
    }
}
