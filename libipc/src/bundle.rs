//! The boot bundle: one file, loaded by the boot loader next to the kernel, that holds init, the
//! system description, every program, and their symbols. Programs are laid out in segments by the
//! image tool, so neither the kernel nor init parses ELF.
//!
//! All integers little-endian. Offsets count from the bundle's start.
//!
//! ```text
//! 0     magic "BWBNDL01", u32 number of files, u32 total bytes
//! 16    files, 64 bytes each: name [u8; 24] NUL padded, u32 kind, u32 offset, u32 len,
//!       u32 segments, u64 entry, u32 symbols offset, u32 symbols len, u64 zero
//! ...   a program's segments, 40 bytes each, at its `offset`: u64 vaddr, u64 memory bytes,
//!       u32 file offset, u32 file bytes, u32 flags (1 read, 2 write, 4 execute), 12 bytes zero
//! ...   contents; segment contents begin at multiples of 4096
//! ```
//!
//! Symbols: u32 count, then per symbol, sorted by address, u64 address, u32 name offset (from the
//! table's start), u32 name length; then the names, mangled as the compiler made them.
//!
//! The reader trusts no field: every access is checked and yields `None`.

/// First bytes.
pub const MAGIC: [u8; 8] = *b"BWBNDL01";
/// Bytes of the header.
pub const HEADER: usize = 16;
/// Bytes of a file entry.
pub const FILE: usize = 64;
/// Bytes of a segment entry.
pub const SEGMENT: usize = 40;
/// Bytes of a symbol entry.
pub const SYMBOL: usize = 16;

/// Kind of file: a program with segments.
pub const KIND_PROGRAM: u32 = 1;
/// Kind of file: bytes; `offset` and `len` are its content. `system` is the postcard
/// `spec::System`.
pub const KIND_DATA: u32 = 2;
/// Kind of file: symbols only (`kernel`).
pub const KIND_SYMBOLS: u32 = 3;

fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn slice(b: &[u8], at: u32, len: u32) -> Option<&[u8]> {
    b.get(at as usize..(at as usize).checked_add(len as usize)?)
}

/// A bundle in memory.
#[derive(Clone, Copy)]
pub struct Bundle<'a>(&'a [u8]);

/// A file of the bundle.
#[derive(Clone, Copy)]
pub struct File<'a> {
    bundle: &'a [u8],
    at: usize,
}

/// A loadable piece of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Address it belongs at; page aligned.
    pub vaddr: u64,
    /// Bytes in memory; beyond `data` they are zero.
    pub mem_len: u64,
    /// Content; begins at a page boundary of the bundle.
    pub data: &'a [u8],
    /// Writable.
    pub write: bool,
    /// Executable.
    pub exec: bool,
}

impl<'a> Bundle<'a> {
    /// Checks the header.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let total = u32_at(bytes, 12)? as usize;
        (bytes.get(..8)? == MAGIC && total <= bytes.len()).then(|| Self(&bytes[..total]))
    }
    /// All files.
    pub fn files(self) -> impl Iterator<Item = File<'a>> {
        let count = u32_at(self.0, 8).unwrap_or(0).min(1024) as usize;
        (0..count).map(move |i| File { bundle: self.0, at: HEADER + i * FILE })
    }
    /// The file called `name`.
    pub fn file(self, name: &str) -> Option<File<'a>> {
        self.files().find(|f| f.name() == name)
    }
}

impl<'a> File<'a> {
    /// Name.
    pub fn name(&self) -> &'a str {
        let Some(raw) = self.bundle.get(self.at..self.at + 24) else { return "" };
        let end = raw.iter().position(|b| *b == 0).unwrap_or(24);
        core::str::from_utf8(&raw[..end]).unwrap_or("")
    }
    /// Kind.
    pub fn kind(&self) -> u32 {
        u32_at(self.bundle, self.at + 24).unwrap_or(0)
    }
    /// Content of a data file.
    pub fn data(&self) -> Option<&'a [u8]> {
        let (offset, len) =
            (u32_at(self.bundle, self.at + 28)?, u32_at(self.bundle, self.at + 32)?);
        slice(self.bundle, offset, len)
    }
    /// Entry point of a program.
    pub fn entry(&self) -> Option<u64> {
        u64_at(self.bundle, self.at + 40)
    }
    /// Segments of a program; stops at a malformed one.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'a>> + use<'a> {
        let bundle = self.bundle;
        let offset = u32_at(bundle, self.at + 28).unwrap_or(0) as usize;
        let count = u32_at(bundle, self.at + 36).unwrap_or(0).min(64) as usize;
        (0..count).map_while(move |i| {
            let at = offset + i * SEGMENT;
            let data = slice(bundle, u32_at(bundle, at + 16)?, u32_at(bundle, at + 20)?)?;
            let flags = u32_at(bundle, at + 24)?;
            let (vaddr, mem_len) = (u64_at(bundle, at)?, u64_at(bundle, at + 8)?);
            (vaddr % 4096 == 0 && mem_len >= data.len() as u64).then_some(Segment {
                vaddr,
                mem_len,
                data,
                write: flags & 2 != 0,
                exec: flags & 4 != 0,
            })
        })
    }
    /// Its symbols.
    pub fn symbols(&self) -> Option<Symbols<'a>> {
        let (offset, len) =
            (u32_at(self.bundle, self.at + 48)?, u32_at(self.bundle, self.at + 52)?);
        Some(Symbols(slice(self.bundle, offset, len)?))
    }
}

/// A symbol table.
#[derive(Clone, Copy)]
pub struct Symbols<'a>(&'a [u8]);

impl<'a> Symbols<'a> {
    fn entry(&self, i: usize) -> Option<(u64, &'a str)> {
        let at = 4 + i * SYMBOL;
        let (offset, len) = (u32_at(self.0, at + 8)?, u32_at(self.0, at + 12)?);
        Some((u64_at(self.0, at)?, core::str::from_utf8(slice(self.0, offset, len)?).ok()?))
    }
    fn len(&self) -> usize {
        (u32_at(self.0, 0).unwrap_or(0) as usize).min(self.0.len() / SYMBOL)
    }
    /// The symbol that `addr` lies in: its name and the offset from its start.
    pub fn lookup(&self, addr: u64) -> Option<(&'a str, u64)> {
        let (mut lo, mut hi) = (0, self.len());
        while lo < hi {
            let mid = lo + (hi - lo) / 2;
            if self.entry(mid)?.0 <= addr { lo = mid + 1 } else { hi = mid }
        }
        let (start, name) = self.entry(lo.checked_sub(1)?)?;
        Some((name, addr - start))
    }
    /// Address of the symbol called `name`.
    pub fn find(&self, name: &str) -> Option<u64> {
        (0..self.len()).filter_map(|i| self.entry(i)).find(|(_, n)| *n == name).map(|(a, _)| a)
    }
}
