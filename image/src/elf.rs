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

/// The functions of an ELF file, by address: also labels of assembly code, which have no type. Names
/// are as a person reads them, so that nothing in the guest has to demangle.
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
            symbols.push(Symbol { addr: s.address(), name: demangled(name) });
        }
    }
    symbols.sort();
    symbols.dedup();
    Ok(symbols)
}

/// Bytes of the section `.text`.
///
/// # Errors
/// If the file cannot be read.
pub fn code_bytes(bytes: &[u8]) -> Result<f64, Error> {
    let file = File::parse(bytes)?;
    Ok(file.section_by_name(".text").map_or(0.0, |s| s.size() as f64))
}

/// A symbol's name without its mangling and hash.
pub fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: u32 = 5;
    const DATA: u32 = 6;
    const AT: u64 = 0x40_0000;

    /// A program header: type, flags, address, bytes in memory; the content is one byte.
    type Header = (u32, u32, u64, u64);

    /// An executable with these program headers, entered at `entry`.
    fn file(kind: u16, machine: u16, entry: u64, headers: &[Header]) -> Vec<u8> {
        let mut f = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        f.extend([kind.to_le_bytes(), machine.to_le_bytes()].concat());
        f.extend(1u32.to_le_bytes());
        f.extend([entry.to_le_bytes(), 64u64.to_le_bytes(), 0u64.to_le_bytes()].concat());
        f.extend(0u32.to_le_bytes());
        for word in [64, 56, headers.len() as u16, 64, 0, 0] {
            f.extend(word.to_le_bytes());
        }
        let content = 64 + 56 * headers.len() as u64;
        for (kind, flags, vaddr, mem_len) in headers {
            f.extend([kind.to_le_bytes(), flags.to_le_bytes()].concat());
            for word in [content, *vaddr, *vaddr, 1, *mem_len, 4096] {
                f.extend(word.to_le_bytes());
            }
        }
        f.push(0xcc);
        f
    }

    fn read(headers: &[Header]) -> Result<Program, Error> {
        program(&file(2, 62, AT, headers))
    }

    #[test]
    fn segments_come_out_by_address_with_their_rights() {
        let p = read(&[(1, DATA, AT + 0x2000, 9000), (1, CODE, AT, 1), (1, 4, AT + 0x1000, 1)]);
        let p = p.unwrap();
        assert_eq!(p.entry, AT);
        let rights: Vec<_> = p.segments.iter().map(|s| (s.vaddr - AT, s.write, s.exec)).collect();
        assert_eq!(rights, [(0, false, true), (0x1000, false, false), (0x2000, true, false)]);
        assert_eq!((p.segments[2].mem_len, &p.segments[2].data[..]), (9000, &[0xcc][..]));
    }

    #[test]
    fn what_would_surprise_the_loader_is_refused() {
        let code = (1, CODE, AT, 1);
        let wx = read(&[(1, 7, AT, 1)]);
        assert!(matches!(wx, Err(Error::WritableAndExecutable(AT))));
        assert!(matches!(
            read(&[code, (1, DATA, AT + 0x1010, 1)]),
            Err(Error::Unaligned(0x40_1010))
        ));
        let shared = read(&[(1, CODE, AT, 0x1001), (1, DATA, AT + 0x1000, 1)]);
        assert!(matches!(shared, Err(Error::Overlap(..))));
        let same = read(&[code, (1, DATA, AT, 1)]);
        assert!(matches!(same, Err(Error::Overlap(..))));
        for vaddr in [0, 0x1000, RANGE.end, 0xffff_ffff_8000_0000] {
            assert!(
                matches!(read(&[code, (1, DATA, vaddr, 1)]), Err(Error::Address(v)) if v == vaddr)
            );
        }
        assert!(matches!(read(&[code, (1, DATA, AT + 0x1000, u64::MAX)]), Err(Error::Address(_))));
        assert!(matches!(read(&[(1, DATA, AT, 1)]), Err(Error::Entry(AT))));
        assert!(matches!(read(&[]), Err(Error::Entry(AT))));
        for (kind, flags) in [(2, 4), (3, 4), (7, 4)] {
            assert!(matches!(read(&[code, (kind, flags, AT, 1)]), Err(Error::Kind(_))), "{kind}");
        }
    }

    #[test]
    fn only_fixed_x86_64_executables_are_programs() {
        let code = [(1, CODE, AT, 1)];
        assert!(matches!(program(&file(3, 62, AT, &code)), Err(Error::Kind(_))));
        assert!(matches!(program(&file(2, 183, AT, &code)), Err(Error::Kind(_))));
        assert!(matches!(program(b"#!/bin/sh"), Err(Error::Read(_))));
        // Cut off at any place: an error, never a panic.
        let whole = file(2, 62, AT, &code);
        for len in 0..whole.len() {
            assert!(program(&whole[..len]).is_err(), "{len}");
        }
    }
}
