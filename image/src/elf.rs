//! An ELF file as the guest's loader needs it: page-aligned segments, entry point, symbols.
//!
//! The kernel and init trust the bundle's layout, so everything that would surprise them is
//! refused here: segments that are writable and executable, unaligned or overlapping ones,
//! dynamic linking, addresses outside a program's range.

use object::elf::{
    ET_EXEC, FileHeader64, PF_R, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_TLS,
};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

const PAGE: u64 = abi::PAGE_SIZE;

/// A loadable piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Page-aligned address.
    pub vaddr: u64,
    /// Bytes in memory; what lies beyond `data` is zero.
    pub mem_len: u64,
    /// Content.
    pub data: Vec<u8>,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub exec: bool,
}

/// A function's name and address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symbol {
    /// Address of its first instruction.
    pub addr: u64,
    /// Name, mangled as the compiler made it.
    pub name: String,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// First instruction.
    pub entry: u64,
    /// Segments by address.
    pub segments: Vec<Segment>,
}

/// Why a file is no program for this system.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Malformed.
    #[error("not an ELF file that can be read: {0}")]
    Read(#[from] object::read::Error),
    /// Not for this processor, not static, not at a fixed address.
    #[error("it is not a static x86-64 executable ({0})")]
    Kind(&'static str),
    /// W^X.
    #[error("the segment at {0:#x} is writable and executable")]
    WritableAndExecutable(u64),
    /// Rights are per page.
    #[error("the segment at {0:#x} does not begin at a page boundary")]
    Unaligned(u64),
    /// Two segments share a page.
    #[error("the segments at {0:#x} and {1:#x} share a page")]
    Overlap(u64, u64),
    /// Not where programs belong.
    #[error("the segment at {0:#x} lies outside the range of programs")]
    Address(u64),
    /// More bytes in the file than in memory.
    #[error("the segment at {0:#x} has more content than memory")]
    Size(u64),
    /// The entry is not executable.
    #[error("the entry point {0:#x} lies in no executable segment")]
    Entry(u64),
}

type File<'a> = object::read::elf::ElfFile64<'a, LittleEndian>;

/// Addresses at which a program may lie: from its link address to the first region.
const RANGE: std::ops::Range<u64> = libipc::start::IMAGE..libipc::start::REGIONS;

/// Reads a program.
///
/// # Errors
/// See [`Error`]: the file breaks a rule of this system.
pub fn program(bytes: &[u8]) -> Result<Program, Error> {
    let file = File::parse(bytes)?;
    let header: &FileHeader64<LittleEndian> = file.elf_header();
    if header.e_machine(LittleEndian) != object::elf::EM_X86_64 {
        return Err(Error::Kind("another processor"));
    }
    if header.e_type(LittleEndian) != ET_EXEC {
        return Err(Error::Kind("not linked at a fixed address"));
    }
    let mut segments = Vec::new();
    for ph in file.elf_program_headers() {
        match ph.p_type(LittleEndian) {
            PT_LOAD if ph.p_memsz(LittleEndian) > 0 => segments.push(segment(ph, bytes)?),
            PT_DYNAMIC | PT_INTERP => return Err(Error::Kind("dynamically linked")),
            PT_TLS => return Err(Error::Kind("thread-local storage")),
            _ => {}
        }
    }
    segments.sort_by_key(|s| s.vaddr);
    for pair in segments.windows(2) {
        if (pair[0].vaddr + pair[0].mem_len).next_multiple_of(PAGE) > pair[1].vaddr {
            return Err(Error::Overlap(pair[0].vaddr, pair[1].vaddr));
        }
    }
    let entry = file.entry();
    let in_segment = |s: &Segment| s.exec && (s.vaddr..s.vaddr + s.mem_len).contains(&entry);
    if !segments.iter().any(in_segment) {
        return Err(Error::Entry(entry));
    }
    Ok(Program { entry, segments })
}

fn segment(
    ph: &object::elf::ProgramHeader64<LittleEndian>,
    bytes: &[u8],
) -> Result<Segment, Error> {
    let (vaddr, mem_len) = (ph.p_vaddr(LittleEndian), ph.p_memsz(LittleEndian));
    let flags = ph.p_flags(LittleEndian);
    let has = |f: object::elf::ProgramFlags| flags.0 & f.0 != 0;
    if !vaddr.is_multiple_of(PAGE) {
        return Err(Error::Unaligned(vaddr));
    }
    if has(PF_W) && has(PF_X) {
        return Err(Error::WritableAndExecutable(vaddr));
    }
    let end = vaddr.checked_add(mem_len).ok_or(Error::Address(vaddr))?;
    if vaddr < RANGE.start || end > RANGE.end || !has(PF_R) {
        return Err(Error::Address(vaddr));
    }
    let data = ph.data(LittleEndian, bytes).map_err(|()| Error::Size(vaddr))?.to_vec();
    if data.len() as u64 > mem_len {
        return Err(Error::Size(vaddr));
    }
    Ok(Segment { vaddr, mem_len, data, write: has(PF_W), exec: has(PF_X) })
}

/// The functions of an ELF file, by address: also labels of assembly code, which have no type.
///
/// # Errors
/// If the file cannot be read.
pub fn symbols(bytes: &[u8]) -> Result<Vec<Symbol>, Error> {
    let file = File::parse(bytes)?;
    let mut symbols = Vec::new();
    for s in file.symbols() {
        let Some(section) = s.section_index().and_then(|i| file.section_by_index(i).ok()) else {
            continue;
        };
        let code = section.kind() == SectionKind::Text
            && matches!(s.kind(), SymbolKind::Text | SymbolKind::Unknown | SymbolKind::Label);
        let name = s.name().unwrap_or("");
        if code && !name.is_empty() && !name.starts_with(".L") {
            symbols.push(Symbol { addr: s.address(), name: name.to_string() });
        }
    }
    symbols.sort();
    symbols.dedup();
    Ok(symbols)
}
