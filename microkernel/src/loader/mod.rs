//! What a boot loader says of the machine, whichever loader it was.
//!
//! PVH's structures are read where they lie (`arch/boot.rs`); Multiboot2's are one block that
//! [`multiboot2`] parses. Both end as [`Loaded`], which refers to nothing of the loader's but the
//! bundle: its structures lie in memory that boot uses next.

pub mod multiboot2;
mod ranges;

pub use ranges::Ranges;

/// Memory below belongs to the firmware.
const LOW: u64 = 1 << 20;
/// Longest command line; what is longer is cut.
const LINE: usize = 512;

/// The machine as the loader left it.
#[derive(Clone)]
pub struct Loaded {
    /// RAM that may be used.
    pub ram: Ranges,
    /// The boot bundle: first byte, and the byte behind it.
    pub bundle: (u64, u64),
    /// Where an ACPI root pointer lies (with Multiboot2 in the loader's own block); 0: not said.
    pub rsdp: u64,
    line: [u8; LINE],
    line_len: usize,
}

impl Loaded {
    /// Nothing known yet.
    pub const EMPTY: Self =
        Self { ram: Ranges::EMPTY, bundle: (0, 0), rsdp: 0, line: [0; LINE], line_len: 0 };

    /// Takes in an E820 memory map: start, length, type (1: RAM). Entries may overlap and come in
    /// any order; what one of them keeps back is not RAM, whatever the others say.
    pub fn memory(&mut self, map: impl Iterator<Item = (u64, u64, u32)> + Clone) {
        for (start, len, _) in map.clone().filter(|e| e.2 == 1) {
            self.ram.add(start, start.saturating_add(len));
        }
        for (start, len, _) in map.filter(|e| e.2 != 1) {
            self.ram.remove(start, start.saturating_add(len));
        }
        self.ram.remove(0, LOW);
    }

    /// Takes in the command line, up to its NUL.
    pub fn set_command_line(&mut self, text: &[u8]) {
        let text = text.split(|b| *b == 0).next().unwrap_or(&[]);
        self.line_len = text.len().min(LINE);
        self.line[..self.line_len].copy_from_slice(&text[..self.line_len]);
    }

    /// The command line.
    pub fn command_line(&self) -> &str {
        core::str::from_utf8(&self.line[..self.line_len]).unwrap_or("")
    }
}
