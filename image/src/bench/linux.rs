//! The Linux guest: Debian's kernel and an initramfs with one program, `image/linux-peer`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::machine::System;
use super::{Error, tools};
use crate::{guest, workspace};

/// The package that depends on Debian's newest kernel.
const PACKAGE: &str = "linux-image-amd64";

/// A Linux guest, ready to boot.
#[derive(Clone, Debug)]
pub struct Linux {
    /// Name of the kernel's package, with its version.
    pub package: String,
    /// The kernel as it comes.
    compressed: PathBuf,
    /// The same without its decompressor, to be entered directly; where it can be unpacked.
    bare: Option<PathBuf>,
    initramfs: PathBuf,
}

/// Gets the kernel (once; it stays in target/linux-guest) and builds the initramfs.
pub fn get() -> Result<Linux, Error> {
    let dir = workspace::target_dir().join("linux-guest");
    if !dir.join("package").is_file() {
        fetch(&dir)?;
    }
    let read = |name: &str| std::fs::read(dir.join(name)).map_err(Error::io("target/linux-guest"));
    let package = String::from_utf8_lossy(&read("package")?).trim().to_string();
    let bare = dir.join("vmlinux");
    if !bare.is_file()
        && let Some(elf) = unpack(&read("vmlinuz")?)
    {
        std::fs::write(&bare, elf).map_err(Error::io("target/linux-guest"))?;
    }
    let mut cpio = Cpio::default();
    cpio.add("dev", 0o040_755, (0, 0), &[]);
    cpio.add("dev/console", 0o020_600, (5, 1), &[]);
    cpio.add("init", 0o100_755, (0, 0), &peer()?);
    cpio.add("e1000.ko", 0o100_644, (0, 0), &read("e1000.ko")?);
    let initramfs = dir.join("initramfs.cpio");
    std::fs::write(&initramfs, cpio.finish()).map_err(Error::io("target/linux-guest"))?;
    let compressed = dir.join("vmlinuz");
    Ok(Linux { package, compressed, bare: bare.is_file().then_some(bare), initramfs })
}

impl Linux {
    /// As it is usually booted, with this address.
    pub fn system(&self, address: std::net::Ipv4Addr) -> System {
        System {
            name: "linux",
            kernel: self.compressed.clone(),
            initrd: self.initramfs.clone(),
            append: format!("console=ttyS0 quiet panic=-1 ADDRESS={address}"),
        }
    }

    /// Without the decompressor: the quickest boot, and the one that needs least memory.
    pub fn bare(&self, address: std::net::Ipv4Addr) -> Option<System> {
        let kernel = self.bare.clone()?;
        Some(System { name: "linux-bare", kernel, ..self.system(address) })
    }
}

/// The program, linked statically: the initramfs has no libraries.
fn peer() -> Result<Vec<u8>, Error> {
    let mut cargo = guest::nested();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    cargo.args(["build", "--release", "-p", "linux-peer", "--target", guest::TARGET]);
    let made = tools::build(&mut cargo)?;
    let binary = made.into_iter().find(|p| p.file_name().is_some_and(|n| n == "linux-peer"));
    let binary = binary.ok_or(Error::NotMade("the Linux guest's program"))?;
    std::fs::read(binary).map_err(Error::io("the Linux guest's program"))
}

fn fetch(dir: &Path) -> Result<(), Error> {
    eprintln!("getting a Linux kernel with apt-get (about 70 MB to download)");
    let _ = std::fs::remove_dir_all(dir);
    let io = Error::io("target/linux-guest");
    std::fs::create_dir_all(dir.join("package-files")).map_err(io)?;
    let depends = output(dir, "apt-cache", &["depends", PACKAGE])?;
    let concrete = depends.lines().find_map(|l| l.trim().strip_prefix("Depends: "));
    let Some(concrete) = concrete.map(str::to_string) else {
        return Err(Error::NoLinux(format!("apt-cache knows no {PACKAGE}")));
    };
    output(dir, "apt-get", &["-q", "download", &concrete])?;
    let files = std::fs::read_dir(dir).map_err(Error::io("target/linux-guest"))?;
    let deb = files.flatten().map(|f| f.path()).find(|p| p.extension().is_some_and(|e| e == "deb"));
    let Some(deb) = deb else {
        return Err(Error::NoLinux(format!("apt-get downloaded no {concrete}")));
    };
    let deb = deb.display().to_string();
    output(dir, "dpkg-deb", &["-x", &deb, "package-files"])?;
    let version = output(dir, "dpkg-deb", &["-f", &deb, "Version"])?;
    let files = dir.join("package-files");
    for (name, prefix) in [("vmlinuz", "vmlinuz-"), ("e1000.ko", "e1000.ko")] {
        let found = find(&files, prefix)
            .ok_or_else(|| Error::NoLinux(format!("there is no {prefix} in {concrete}")))?;
        std::fs::copy(found, dir.join(name)).map_err(Error::io("target/linux-guest"))?;
    }
    // Half a gigabyte of other modules.
    let _ = std::fs::remove_dir_all(files);
    let _ = std::fs::remove_file(deb);
    let package = format!("{concrete} {}", version.trim());
    std::fs::write(dir.join("package"), package).map_err(Error::io("target/linux-guest"))
}

/// The first file below `dir` whose name begins with `prefix`.
fn find(dir: &Path, prefix: &str) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(dir).ok()?.flatten().map(|e| e.path()).collect();
    let named = |p: &&PathBuf| {
        p.is_file() && p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix))
    };
    entries.iter().find(named).cloned().or_else(|| {
        entries.iter().filter(|p| p.is_dir() && !p.is_symlink()).find_map(|d| find(d, prefix))
    })
}

fn output(dir: &Path, program: &str, arguments: &[&str]) -> Result<String, Error> {
    let failed =
        |why: String| Error::NoLinux(format!("`{program} {}`: {why}", arguments.join(" ")));
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir).stdin(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_string()))
}

/// The ELF file inside a bzImage (Documentation/arch/x86/boot.rst: setup_sects, payload_offset,
/// payload_length), where the host has the program that unpacks it.
fn unpack(bzimage: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| Some(u32::from_le_bytes(bzimage.get(at..at + 4)?.try_into().ok()?));
    let start = (usize::from(*bzimage.get(0x1f1)?) + 1) * 512 + word(0x248)? as usize;
    let payload = bzimage.get(start..start + word(0x24c)? as usize)?;
    let program = match payload.get(..4)? {
        [0xfd, b'7', b'z', b'X'] => "xz",
        [0x28, 0xb5, 0x2f, 0xfd] => "zstd",
        _ => return None,
    };
    // The last four bytes are the unpacked length, behind the compressed stream.
    let packed = nameless(payload.get(..payload.len() - 4)?).ok()?;
    let output = Command::new(program)
        .args(["-d", "-c"])
        .stdin(packed)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.stdout.starts_with(b"\x7fELF").then_some(output.stdout)
}

/// A file with this content that vanishes when it is closed.
fn nameless(content: &[u8]) -> std::io::Result<std::fs::File> {
    let path = std::env::temp_dir().join(format!("breakwater-kernel-{}", std::process::id()));
    std::fs::write(&path, content)?;
    let file = std::fs::File::open(&path);
    std::fs::remove_file(&path)?;
    file
}

/// An archive in the format that Linux takes as initramfs (cpio, `newc`).
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let (len, name_len) = (content.len() as u32, name.len() as u32 + 1);
        self.bytes.extend(b"070701");
        // Inode, mode, owner, group, links, time, length, device (two), node (two), name, check.
        let (major, minor) = device;
        for field in [self.entries, mode, 0, 0, 1, 0, len, 0, 0, major, minor, name_len, 0] {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_those_of_cpio() {
        let mut cpio = Cpio::default();
        cpio.add("a", 0o100_644, (0, 0), b"hello");
        let bytes = cpio.finish();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("07070100000001000081a4"), "{text}");
        // Header and name are 110 + 2 bytes, the content is padded to 8.
        assert_eq!(&bytes[112..120], b"hello\0\0\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert!(bytes.len().is_multiple_of(4) && text.contains("TRAILER!!!\0"));
    }

    #[test]
    fn what_is_no_kernel_is_left_alone() {
        assert_eq!(unpack(b"too short"), None);
        assert_eq!(unpack(&[0; 4096]), None);
    }
}
