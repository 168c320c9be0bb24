//! Getting the tools that the system needs besides Rust: QEMU, and for some purposes others.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The emulator.
pub const QEMU: &str = "qemu-system-x86_64";

/// Something to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// The emulator.
    Qemu,
    /// GRUB for BIOS and UEFI, and what makes images of it.
    Grub,
    /// UEFI firmware for QEMU.
    Ovmf,
    /// Wireshark's reader of captures.
    Tshark,
    /// What tries a network: ping, arping, traceroute, curl, nmap, iperf3, tc.
    Network,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Qemu => QEMU,
            Self::Grub => "GRUB (grub-mkrescue for BIOS and UEFI, xorriso, mtools)",
            Self::Ovmf => "UEFI firmware for QEMU (OVMF)",
            Self::Tshark => "tshark",
            Self::Network => {
                "a set of network tools (ping, arping, traceroute, curl, nmap, iperf3, ip, tc)"
            }
        }
    }

    /// Debian's packages of it.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Qemu => &["qemu-system-x86"],
            Self::Grub => {
                &["grub-common", "grub-pc-bin", "grub-efi-amd64-bin", "xorriso", "mtools"]
            }
            Self::Ovmf => &["ovmf"],
            Self::Tshark => &["tshark"],
            Self::Network => {
                &["iputils-ping", "arping", "traceroute", "curl", "nmap", "iperf3", "iproute2"]
            }
        }
    }

    /// About how much there is to download.
    fn megabytes(self) -> u32 {
        match self {
            Self::Qemu => 40,
            Self::Grub => 9,
            Self::Ovmf => 15,
            Self::Tshark => 30,
            Self::Network => 12,
        }
    }

    /// What to install where, in one line.
    pub fn by_hand(self) -> &'static str {
        match self {
            Self::Qemu => {
                "please install QEMU for x86-64 (7.2 or later): `sudo apt-get \
                 install --no-install-recommends qemu-system-x86`, `dnf install qemu-system-x86`, \
                 `pacman -S qemu-system-x86`, `brew install qemu`, `nix-env -iA nixpkgs.qemu`"
            }
            Self::Grub => {
                "please install GRUB for both kinds of firmware: `sudo apt-get install \
                 --no-install-recommends grub-common grub-pc-bin grub-efi-amd64-bin xorriso mtools`, \
                 `dnf install grub2-tools-extra grub2-pc-modules grub2-efi-x64-modules xorriso \
                 mtools`, `pacman -S grub libisoburn mtools`"
            }
            Self::Ovmf => {
                "please install OVMF: `sudo apt-get install ovmf`, `dnf install edk2-ovmf`, \
                 `pacman -S edk2-ovmf`"
            }
            Self::Tshark => {
                "please install tshark: `sudo apt-get install --no-install-recommends tshark`, \
                 `dnf install wireshark-cli`, `pacman -S wireshark-cli`, `brew install wireshark`"
            }
            Self::Network => {
                "please install them: `sudo apt-get install iputils-ping arping traceroute curl \
                 nmap iperf3 iproute2`, `dnf install iputils arping traceroute curl nmap iperf3 iproute \
                 iproute-tc`"
            }
        }
    }

    /// Whether it is there.
    fn present(self) -> bool {
        match self {
            Self::Qemu => works(QEMU),
            Self::Grub => {
                let platform = |name| Path::new("/usr/lib/grub").join(name).is_dir();
                [mkrescue(), "xorriso", "mformat"].into_iter().all(works)
                    && platform("i386-pc")
                    && platform("x86_64-efi")
            }
            Self::Ovmf => ovmf().is_some(),
            Self::Tshark => works("tshark"),
            Self::Network => {
                ["ping", "arping", "traceroute", "curl", "nmap", "iperf3", "ip", "tc", "ss"]
                    .into_iter()
                    .all(works)
            }
        }
    }
}

/// `grub-mkrescue` under the name that it has here.
pub fn mkrescue() -> &'static str {
    if works("grub2-mkrescue") { "grub2-mkrescue" } else { "grub-mkrescue" }
}

/// UEFI firmware where Debian, Fedora, Arch, openSUSE and QEMU itself keep it.
const OVMF: [&str; 7] = [
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/OVMF/OVMF_CODE.fd",
    "/usr/share/edk2/ovmf/OVMF_CODE.fd",
    "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
    "/usr/share/qemu/ovmf-x86_64-code.bin",
    "/usr/share/qemu/edk2-x86_64-code.fd",
    "/opt/homebrew/share/qemu/edk2-x86_64-code.fd",
];

fn ovmf() -> Option<PathBuf> {
    OVMF.into_iter().map(PathBuf::from).find(|p| p.is_file())
}

/// UEFI firmware for QEMU, installed where that is possible.
///
/// # Errors
/// If there is none; the message says what to do.
pub fn firmware() -> Result<PathBuf, Error> {
    ensure_tool(Tool::Ovmf)?;
    Ok(ovmf().expect("just looked for"))
}

/// Why a tool is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no apt, or no right to use it.
    #[error("{} is missing and cannot be installed from here ({why}); {}", .tool.name(), .tool.by_hand())]
    ByHand {
        /// What is missing.
        tool: Tool,
        /// What stands in the way.
        why: &'static str,
    },
    /// apt failed; it has said why.
    #[error("apt-get could not install {} (see above); {}", .0.packages().join(" "), .0.by_hand())]
    Apt(Tool),
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
    ensure_tool(Tool::Qemu)?;
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

/// Makes sure that `tool` is there, installing it where that is possible.
///
/// # Errors
/// If it is not; the message says what to do.
pub fn ensure_tool(tool: Tool) -> Result<(), Error> {
    if tool.present() {
        return Ok(());
    }
    if !works("apt-get") {
        return Err(Error::ByHand { tool, why: "there is no apt-get" });
    }
    let way =
        Way::find(is_root(), std::io::stdin().is_terminal(), succeeds).ok_or(Error::ByHand {
            tool,
            why: "not root, and sudo is missing or asks for a password",
        })?;
    let packages = tool.packages();
    eprintln!(
        "{} is missing: installing it with apt-get ({}, about {} MB to download)",
        tool.name(),
        packages.join(" "),
        tool.megabytes()
    );
    if way == Way::AskingSudo {
        eprintln!("sudo may ask for your password");
    }
    // The package lists may be absent (containers) or stale: one update, then a second try.
    let install: Vec<&str> =
        ["install", "-y", "--no-install-recommends"].into_iter().chain(packages.to_vec()).collect();
    let installed = way.apt(&install) || (way.apt(&["update"]) && way.apt(&install));
    if installed && tool.present() { Ok(()) } else { Err(Error::Apt(tool)) }
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
        let text = Error::ByHand { tool: Tool::Qemu, why: "x" }.to_string();
        let apt = text.find("`sudo apt-get install --no-install-recommends qemu-system-x86`");
        assert!(apt.is_some_and(|at| at < text.find("dnf").unwrap()), "{text}");
        for tool in [Tool::Grub, Tool::Ovmf] {
            let text = Error::Apt(tool).to_string();
            assert!(tool.packages().iter().all(|p| text.matches(p).count() >= 2), "{text}");
        }
    }
}
