//! The information of a Multiboot2 loader (Multiboot2 Specification 2.0, section 3.6): one block of
//! tags, each with type, size and content, aligned to eight bytes.
//!
//! The block is taken for what it claims to be only as far as its bytes go: whatever a size says,
//! nothing outside of it is read.

use super::Loaded;
use crate::acpi::number;

/// What the loader leaves in EAX.
pub const MAGIC: u32 = 0x36d7_6289;

mod tag {
    pub const END: u32 = 0;
    pub const COMMAND_LINE: u32 = 1;
    pub const MODULE: u32 = 3;
    pub const MEMORY: u32 = 6;
    /// ACPI 1.0 and 2.0.
    pub const RSDP: [u32; 2] = [14, 15];
}

/// Why the information is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no memory map.
    NoMemory,
    /// There is no module: the boot bundle.
    NoBundle,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoMemory => "the boot loader passes no memory map",
            Self::NoBundle => "the boot loader passes no boot bundle: load it with `module2`",
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at, 4).map(|n| n as u32)
}

/// Type, offset and content of each tag of `info`, which begins with its total size and a reserved
/// word.
fn tags(info: &[u8]) -> impl Iterator<Item = (u32, usize, &[u8])> {
    let mut next = 8;
    core::iter::from_fn(move || {
        let (kind, size) = (u32_at(info, next)?, u32_at(info, next + 4)? as usize);
        let at = next + 8;
        let content = info.get(at..next.checked_add(size)?).filter(|_| kind != tag::END)?;
        next = next.checked_add(size.checked_next_multiple_of(8)?)?;
        Some((kind, at, content))
    })
}

/// Start, length and type of each entry of a memory map's tag.
fn entries(content: &[u8]) -> impl Iterator<Item = (u64, u64, u32)> + Clone {
    let size = u32_at(content, 0).unwrap_or(0).max(24) as usize;
    let list = content.get(8..).unwrap_or(&[]).chunks_exact(size);
    list.filter_map(|e| Some((number(e, 0, 8)?, number(e, 8, 8)?, u32_at(e, 16)?)))
}

/// Reads the block `info`, which lies at physical address `at`. The first module is the boot bundle.
///
/// # Errors
/// If what the kernel cannot do without is missing.
pub fn parse(info: &[u8], at: u64) -> Result<Loaded, Error> {
    let mut loaded = Loaded::EMPTY;
    let mut bundle = None;
    for (kind, offset, content) in tags(info) {
        match kind {
            tag::COMMAND_LINE => loaded.set_command_line(content),
            tag::MEMORY => loaded.memory(entries(content)),
            tag::MODULE if bundle.is_none() => {
                let ends = u32_at(content, 0).zip(u32_at(content, 4));
                bundle = ends.filter(|(s, e)| s < e).map(|(s, e)| (s as u64, e as u64));
            }
            // The second, if both are there, says more.
            kind if tag::RSDP.contains(&kind) => loaded.rsdp = at + offset as u64,
            _ => {}
        }
    }
    if loaded.ram.bytes() == 0 {
        return Err(Error::NoMemory);
    }
    loaded.bundle = bundle.ok_or(Error::NoBundle)?;
    Ok(loaded)
}
