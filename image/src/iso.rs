//! An image that BIOS and UEFI machines boot, from CD, disk or stick, through GRUB.
//!
//! GRUB because every distribution packages it for both kinds of firmware, with the tool that makes
//! a hybrid image of them (`grub-mkrescue`), and because Multiboot2 is a protocol that other loaders
//! speak too.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::build::Image;
use crate::install::{self, Tool};

/// Formats of virtual disks that would need a converter.
const FOREIGN: [&str; 6] = ["vdi", "vmdk", "qcow2", "vhd", "vhdx", "ova"];
/// The menu's only entry; shown on the screen too, where there is one.
const TITLE: &str = "Breakwater: its console is the first serial port, 115200 8N1";
/// What GRUB needs to read the image, load the kernel, and show and take text; and what
/// grub-mkrescue's own script loads, which complains on the screen otherwise.
const MODULES: &str = "normal iso9660 part_msdos part_gpt multiboot2 serial terminal echo keystatus \
    sleep all_video test part_acorn part_amiga part_apple part_bsd part_dfly part_dvh part_plan \
    part_sun part_sunpc";

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tool is missing.
    #[error(transparent)]
    Install(#[from] install::Error),
    /// The name asks for a format of some virtual machine.
    #[error(
        "{0}: only raw images are made, to be called .iso or .img; \
         convert one with `qemu-img convert` or `VBoxManage convertfromraw`"
    )]
    Format(String),
    /// It would overwrite what is no file.
    #[error("{0} is not a file: name one, and copy it with `dd` if it is to go to a stick")]
    NoFile(String),
    /// There is no place for it.
    #[error("there is no folder {0}: make it first, or name another")]
    NoFolder(String),
    /// GRUB's menu could not hold it.
    #[error("the kernel command line may hold printable ASCII without quotes and backslashes")]
    Append,
    /// grub-mkrescue failed.
    #[error("{tool} failed ({status}); it said:\n{said}")]
    Mkrescue {
        /// Under the name it has here.
        tool: &'static str,
        /// How.
        status: std::process::ExitStatus,
        /// Its last words.
        said: String,
    },
    /// It succeeded, but left one kind of firmware out.
    #[error("grub-mkrescue made no image for {0}: {by_hand}", by_hand = Tool::Grub.by_hand())]
    Half(&'static str),
    /// A file.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { path, source }
}

/// Whether an image can be written to `out` with this command line; to be asked before building.
///
/// # Errors
/// See [`Error`].
pub fn check(out: &Path, append: Option<&str>) -> Result<(), Error> {
    let extension = out.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    if FOREIGN.contains(&&*extension) {
        return Err(Error::Format(out.display().to_string()));
    }
    match out.metadata() {
        Ok(m) if !m.is_file() => return Err(Error::NoFile(out.display().to_string())),
        _ => {}
    }
    let parent = match out.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    if !parent.is_dir() {
        return Err(Error::NoFolder(parent.display().to_string()));
    }
    menu(append, 0).map(|_| ())
}

/// GRUB's menu, which shows itself for `wait` seconds: long enough to change the command line.
fn menu(append: Option<&str>, wait: u32) -> Result<String, Error> {
    let append = append.unwrap_or("");
    let fine = |b: u8| matches!(b, b' '..=b'~') && !b"'\"\\".contains(&b);
    if !append.bytes().all(fine) {
        return Err(Error::Append);
    }
    let words: String = append.split_whitespace().map(|w| format!(" '{w}'")).collect();
    Ok(format!(
        "if serial --unit=0 --speed=115200; then\n    \
             terminal_input --append serial\n    terminal_output --append serial\nfi\n\
         set timeout={wait}\n\
         menuentry '{TITLE}' {{\n    \
             multiboot2 /boot/kernel{words}\n    module2 /boot/bundle bundle\n}}\n"
    ))
}

/// Writes an image of the system to `out`.
///
/// # Errors
/// See [`Error`].
pub fn write(image: &Image, append: Option<&str>, wait: u32, out: &Path) -> Result<(), Error> {
    check(out, append)?;
    install::ensure_tool(Tool::Grub)?;
    // Beside the bundle, whose name tells systems apart.
    let tree = image.bundle.with_extension("tree");
    let boot = tree.join("boot");
    let grub = boot.join("grub");
    std::fs::create_dir_all(&grub).map_err(io(&grub))?;
    let cfg = grub.join("grub.cfg");
    std::fs::write(&cfg, menu(append, wait)?).map_err(io(&cfg))?;
    for (from, name) in [(&image.kernel, "kernel"), (&image.bundle, "bundle")] {
        let to = boot.join(name);
        std::fs::copy(from, &to).map_err(io(from))?;
    }
    // Made aside: what is at `out` stays until there is something to replace it.
    let made = tree.with_extension("iso");
    let _ = std::fs::remove_file(&made);
    let tool = install::mkrescue();
    let mut command = Command::new(tool);
    command.arg("-o").arg(&made).arg(&tree);
    command.args(["--fonts=", "--locales=", "--themes=", "--compress=no"]);
    command.arg(format!("--install-modules={MODULES}"));
    command.args(["-volid", "BREAKWATER"]);
    let ran = command.stdin(Stdio::null()).output().map_err(io(Path::new(tool)))?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr).trim().to_string();
        return Err(Error::Mkrescue { tool, status: ran.status, said });
    }
    complete(&std::fs::read(&made).map_err(io(&made))?)?;
    std::fs::copy(&made, out).map_err(io(out))?;
    Ok(())
}

/// Whether both kinds of firmware will boot it: grub-mkrescue leaves out what GRUB was not packaged
/// for without a word.
fn complete(iso: &[u8]) -> Result<(), Error> {
    let platforms = platforms(iso).unwrap_or_default();
    match [0, 0xef].map(|p| platforms.contains(&p)) {
        [true, true] => Ok(()),
        [false, _] => Err(Error::Half("BIOS")),
        [_, false] => Err(Error::Half("UEFI")),
    }
}

/// Platforms in the boot catalogue ("El Torito" 1.0, chapter 2): 0 is BIOS, 0xEF UEFI.
fn platforms(iso: &[u8]) -> Option<Vec<u8>> {
    const SECTOR: usize = 2048;
    let record = iso.get(17 * SECTOR..18 * SECTOR).filter(|r| r[7..].starts_with(b"EL TORITO"))?;
    let catalogue = u32::from_le_bytes(record[0x47..0x4b].try_into().ok()?) as usize * SECTOR;
    let catalogue = iso.get(catalogue..catalogue + SECTOR)?;
    let entries: Vec<&[u8]> = catalogue.chunks_exact(32).collect();
    let mut found = vec![entries[0][1]];
    // Behind the first entry: sections, each a header and the entries that it counts.
    let mut at = 2;
    while let Some(header) = entries.get(at).filter(|e| matches!(e[0], 0x90 | 0x91)) {
        found.push(header[1]);
        at += 1 + header[2] as usize;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_reaches_the_menu_whole() {
        let text = menu(Some("a=1  b=$x;{"), 2).unwrap();
        assert!(text.contains("multiboot2 /boot/kernel 'a=1' 'b=$x;{'\n"), "{text}");
        assert!(text.contains("set timeout=2\n"), "{text}");
        assert!(menu(None, 0).unwrap().contains("multiboot2 /boot/kernel\n"));
        for wrong in ["a'b", "a\"", "a\\", "a\nb", "ä"] {
            assert!(matches!(menu(Some(wrong), 0), Err(Error::Append)), "{wrong:?}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused_first() {
        let refused = |out: &str| check(Path::new(out), None).unwrap_err().to_string();
        assert!(refused("x.vdi").contains("VBoxManage convertfromraw"));
        assert!(refused("/dev/null").contains("`dd`"));
        assert!(refused("/").contains("not a file"));
        assert!(refused("/no/such/folder/x.iso").contains("no folder /no/such/folder: "));
        assert!(check(Path::new("breakwater.iso"), None).is_ok());
    }

    #[test]
    fn half_an_image_is_noticed() {
        let mut iso = vec![0; 20 * 2048];
        assert!(matches!(complete(&iso), Err(Error::Half("BIOS"))));
        iso[17 * 2048 + 7..][..9].copy_from_slice(b"EL TORITO");
        iso[17 * 2048 + 0x47] = 19;
        assert!(matches!(complete(&iso), Err(Error::Half("UEFI"))));
        // Two sections; the second one begins behind the first one's two entries.
        iso[19 * 2048 + 64..][..4].copy_from_slice(&[0x90, 0, 2, 0]);
        iso[19 * 2048 + 160..][..4].copy_from_slice(&[0x91, 0xef, 1, 0]);
        assert!(complete(&iso).is_ok());
        iso[19 * 2048 + 1] = 0xef;
        iso[19 * 2048 + 65] = 0xef;
        assert!(matches!(complete(&iso), Err(Error::Half("BIOS"))));
        iso[17 * 2048 + 0x4a] = 0xff;
        assert!(complete(&iso).is_err());
    }
}
