//! From an address of the guest to the program and the functions that lie there.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use addr2line::gimli::{self, EndianSlice, LittleEndian};
use object::{Object, ObjectSection, ObjectSegment};

use super::Error;
use super::counts::Block;
use crate::build::Image;
use crate::elf::{self, Symbol};

type Dwarf = addr2line::Context<EndianSlice<'static, LittleEndian>>;

/// A program of the guest, or its kernel.
struct Binary {
    name: String,
    /// Pieces by address.
    segments: Vec<(u64, Vec<u8>)>,
    symbols: Vec<Symbol>,
    dwarf: Dwarf,
}

/// Where an instruction was written.
#[derive(Clone, Debug)]
pub struct Place {
    /// The innermost function of those inlined there, with its file.
    pub function: Rc<str>,
    /// File and line.
    pub line: Rc<str>,
}

/// Everything that the guest runs.
pub struct Symbols {
    binaries: Vec<Binary>,
    known: HashMap<(usize, u64), Place>,
}

impl Symbols {
    /// Of all binaries in `image`.
    pub fn load(image: &Image) -> Result<Self, Error> {
        let mut binaries = Vec::new();
        for name in ["kernel", "init"].into_iter().chain(image.plan.files()) {
            binaries.push(Binary::read(name, &image.kernel.with_file_name(name))?);
        }
        Ok(Self { binaries, known: HashMap::new() })
    }

    /// Which binary a block belongs to: the one that has this code at this address. Programs that
    /// have the same code there are indistinguishable, and the first one stands for all.
    pub fn owner(&self, block: &Block) -> Option<usize> {
        self.binaries.iter().position(|b| b.has(block))
    }

    /// Its name.
    pub fn name(&self, binary: usize) -> &str {
        &self.binaries[binary].name
    }

    /// The function at `address` as it was compiled, with all that was inlined into it.
    pub fn function(&self, binary: usize, address: u64) -> String {
        let symbols = &self.binaries[binary].symbols;
        let after = symbols.partition_point(|s| s.addr <= address);
        symbols[..after].last().map_or_else(|| "?".into(), |s| s.name.clone())
    }

    /// Where the instruction at `address` was written.
    pub fn written(&mut self, binary: usize, address: u64) -> Place {
        if let Some(known) = self.known.get(&(binary, address)) {
            return known.clone();
        }
        let place = self.binaries[binary].place(address).unwrap_or_else(|| {
            let function: Rc<str> = self.function(binary, address).into();
            Place { line: function.clone(), function }
        });
        self.known.insert((binary, address), place.clone());
        place
    }
}

impl Binary {
    fn read(name: &str, path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(Error::io("cannot read a guest binary"))?;
        let unreadable = |e: object::Error| Error::Symbols(format!("{}: {e}", path.display()));
        // The few binaries stay as long as the tool.
        let bytes: &'static [u8] = bytes.leak();
        let file = object::File::parse(bytes).map_err(unreadable)?;
        let piece = |s: object::Segment<'_, '_>| Some((s.address(), s.data().ok()?.to_vec()));
        let segments = file.segments().filter_map(piece).collect();
        let section = |id: gimli::SectionId| {
            let data = file.section_by_name(id.name()).and_then(|s| s.data().ok());
            Ok::<_, gimli::Error>(EndianSlice::new(data.unwrap_or(&[]), LittleEndian))
        };
        let dwarf = gimli::Dwarf::load(section).and_then(Dwarf::from_dwarf);
        let dwarf = dwarf.map_err(|e| Error::Symbols(format!("{}: {e}", path.display())))?;
        let symbols = elf::symbols(bytes).map_err(|e| Error::Symbols(e.to_string()))?;
        Ok(Self { name: name.into(), segments, symbols, dwarf })
    }

    fn place(&self, address: u64) -> Option<Place> {
        let mut frames = self.dwarf.find_frames(address).skip_all_loads().ok()?;
        let frame = frames.next().ok()??;
        let function = elf::demangled(&frame.function?.raw_name().ok()?);
        let location = frame.location?;
        // The last two parts of the path are enough to know the file.
        let path: Vec<&str> = location.file?.rsplitn(3, '/').take(2).collect();
        let file = path.into_iter().rev().collect::<Vec<_>>().join("/");
        let line = format!("{file}:{}", location.line.unwrap_or(0)).into();
        Some(Place { function: format!("{function} ({file})").into(), line })
    }

    fn has(&self, block: &Block) -> bool {
        self.segments.iter().any(|(start, data)| {
            let at = block.vaddr.checked_sub(*start).and_then(|at| usize::try_from(at).ok());
            at.and_then(|at| data.get(at..)).is_some_and(|d| d.starts_with(&block.code))
        })
    }
}
