//! Writes the boot bundle whose format [`libipc::bundle`] describes and reads.

use libipc::bundle::{FILE, HEADER, KIND_DATA, KIND_PROGRAM, KIND_SYMBOLS, MAGIC, SEGMENT, SYMBOL};

use crate::elf::{Program, Symbol};

/// Segment contents begin at multiples of this, so that init can map read-only ones in place.
const PAGE: usize = 4096;

/// Content of one file.
enum Content {
    Program(Program, Vec<Symbol>),
    Data(Vec<u8>),
    Symbols(Vec<Symbol>),
}

/// Why a bundle cannot be written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The entry has room for 24 bytes.
    #[error("`{0}` is longer than {max} bytes", max = libipc::NAME_MAX)]
    Name(String),
    /// Two files of one name.
    #[error("there are two files called `{0}`")]
    Duplicate(String),
    /// Offsets are 32 bits.
    #[error("the bundle would be larger than 4 GiB")]
    TooLarge,
}

/// A bundle in the making.
#[derive(Default)]
pub struct Writer {
    files: Vec<(String, Content)>,
}

impl Writer {
    /// Adds a program with its symbols.
    ///
    /// # Errors
    /// If the name is too long or taken.
    pub fn program(&mut self, name: &str, p: Program, symbols: Vec<Symbol>) -> Result<(), Error> {
        self.add(name, Content::Program(p, symbols))
    }
    /// Adds plain bytes.
    ///
    /// # Errors
    /// As [`Self::program`].
    pub fn data(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        self.add(name, Content::Data(bytes))
    }
    /// Adds a file that has only symbols.
    ///
    /// # Errors
    /// As [`Self::program`].
    pub fn symbols(&mut self, name: &str, symbols: Vec<Symbol>) -> Result<(), Error> {
        self.add(name, Content::Symbols(symbols))
    }

    fn add(&mut self, name: &str, content: Content) -> Result<(), Error> {
        if name.len() > libipc::NAME_MAX {
            return Err(Error::Name(name.into()));
        }
        if self.files.iter().any(|(n, _)| n == name) {
            return Err(Error::Duplicate(name.into()));
        }
        self.files.push((name.into(), content));
        Ok(())
    }

    /// The bundle's bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; HEADER + self.files.len() * FILE];
        for (i, (name, content)) in self.files.iter().enumerate() {
            let entry = write_file(&mut out, name, content)?;
            let at = HEADER + i * FILE;
            out[at..at + FILE].copy_from_slice(&entry);
        }
        let total = u32::try_from(out.len()).map_err(|_| Error::TooLarge)?;
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&(self.files.len() as u32).to_le_bytes());
        out[12..16].copy_from_slice(&total.to_le_bytes());
        Ok(out)
    }
}

/// Appends a file's content and returns its entry.
fn write_file(out: &mut Vec<u8>, name: &str, content: &Content) -> Result<[u8; FILE], Error> {
    let (kind, (offset, len), segments, entry) = match content {
        Content::Data(bytes) => (KIND_DATA, append(out, bytes, PAGE)?, 0, 0),
        Content::Symbols(_) => (KIND_SYMBOLS, (0, 0), 0, 0),
        Content::Program(p, _) => {
            let table = write_segments(out, p)?;
            (KIND_PROGRAM, table, p.segments.len() as u32, p.entry)
        }
    };
    let (symbols_at, symbols_len) = match content {
        Content::Data(_) => (0, 0),
        Content::Program(_, s) | Content::Symbols(s) => append(out, &symbol_table(s)?, 8)?,
    };
    let mut e = [0; FILE];
    e[..name.len()].copy_from_slice(name.as_bytes());
    for (at, word) in [(24, kind), (28, offset), (32, len), (36, segments)] {
        e[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    e[40..48].copy_from_slice(&entry.to_le_bytes());
    e[48..52].copy_from_slice(&symbols_at.to_le_bytes());
    e[52..56].copy_from_slice(&symbols_len.to_le_bytes());
    Ok(e)
}

/// Appends a program's segment table and contents; returns where the table lies.
fn write_segments(out: &mut Vec<u8>, p: &Program) -> Result<(u32, u32), Error> {
    let (table, table_len) = append(out, &vec![0; p.segments.len() * SEGMENT], 8)?;
    for (i, s) in p.segments.iter().enumerate() {
        let (offset, len) = append(out, &s.data, PAGE)?;
        let at = table as usize + i * SEGMENT;
        let flags = 1 | (s.write as u32) << 1 | (s.exec as u32) << 2;
        let e = &mut out[at..at + SEGMENT];
        e[0..8].copy_from_slice(&s.vaddr.to_le_bytes());
        e[8..16].copy_from_slice(&s.mem_len.to_le_bytes());
        e[16..20].copy_from_slice(&offset.to_le_bytes());
        e[20..24].copy_from_slice(&len.to_le_bytes());
        e[24..28].copy_from_slice(&flags.to_le_bytes());
    }
    // The last page of a segment is whole, so that it can be mapped without showing its neighbour.
    out.resize(out.len().next_multiple_of(PAGE), 0);
    Ok((table, table_len))
}

fn symbol_table(symbols: &[Symbol]) -> Result<Vec<u8>, Error> {
    let mut table = (symbols.len() as u32).to_le_bytes().to_vec();
    let mut names: Vec<u8> = Vec::new();
    let names_at = 4 + symbols.len() * SYMBOL;
    for s in symbols {
        let offset = u32::try_from(names_at + names.len()).map_err(|_| Error::TooLarge)?;
        table.extend(s.addr.to_le_bytes());
        table.extend(offset.to_le_bytes());
        table.extend((s.name.len() as u32).to_le_bytes());
        names.extend(s.name.as_bytes());
    }
    table.extend(names);
    Ok(table)
}

/// Appends `bytes` at the next multiple of `align`; returns offset and length.
fn append(out: &mut Vec<u8>, bytes: &[u8], align: usize) -> Result<(u32, u32), Error> {
    out.resize(out.len().next_multiple_of(align), 0);
    let offset = u32::try_from(out.len()).map_err(|_| Error::TooLarge)?;
    let len = u32::try_from(bytes.len()).map_err(|_| Error::TooLarge)?;
    out.extend_from_slice(bytes);
    Ok((offset, len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Segment;
    use libipc::bundle::Bundle;

    fn program() -> Program {
        let seg = |vaddr, len: usize, mem_len, write, exec| Segment {
            vaddr,
            mem_len,
            data: (0..len).map(|i| i as u8).collect(),
            write,
            exec,
        };
        let segments = vec![
            seg(0x40_0000, 5000, 5000, false, false),
            seg(0x40_2000, 100, 100, false, true),
            seg(0x40_3000, 8, 70_000, true, false),
        ];
        Program { entry: 0x40_2010, segments }
    }

    fn symbols() -> Vec<Symbol> {
        let s = |addr, name: &str| Symbol { addr, name: name.into() };
        vec![s(0x40_2000, "_start"), s(0x40_2010, "_ZN4main17h0E"), s(0x40_2040, "rt_crash_panic")]
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut w = Writer::default();
        w.symbols("kernel", symbols()).unwrap();
        w.program("shell", program(), symbols()).unwrap();
        w.data("system", vec![1, 2, 3]).unwrap();
        let bytes = w.finish().unwrap();
        let b = Bundle::new(&bytes).unwrap();

        assert_eq!(b.files().map(|f| f.name()).collect::<Vec<_>>(), ["kernel", "shell", "system"]);
        assert_eq!(b.file("system").unwrap().data(), Some(&[1, 2, 3][..]));
        assert_eq!(b.file("system").unwrap().kind(), KIND_DATA);
        assert_eq!(b.file("kernel").unwrap().kind(), KIND_SYMBOLS);
        assert!(b.file("nothing").is_none());

        let f = b.file("shell").unwrap();
        assert_eq!((f.kind(), f.entry()), (KIND_PROGRAM, Some(0x40_2010)));
        let read: Vec<_> = f.segments().collect();
        assert_eq!(read.len(), 3);
        for (r, s) in read.iter().zip(program().segments) {
            assert_eq!((r.vaddr, r.mem_len, r.data), (s.vaddr, s.mem_len, &s.data[..]));
            assert_eq!((r.write, r.exec), (s.write, s.exec));
            assert_eq!((r.data.as_ptr() as usize - bytes.as_ptr() as usize) % PAGE, 0);
        }
        let s = f.symbols().unwrap();
        assert_eq!(s.lookup(0x40_2017), Some(("_ZN4main17h0E", 7)));
        assert_eq!(s.lookup(0x40_1fff), None);
        assert_eq!(s.find("rt_crash_panic"), Some(0x40_2040));
    }

    #[test]
    fn segments_do_not_share_a_page_of_the_bundle() {
        let mut w = Writer::default();
        w.program("a", program(), vec![]).unwrap();
        w.data("b", vec![7; 10]).unwrap();
        let bytes = w.finish().unwrap();
        let b = Bundle::new(&bytes).unwrap();
        let last = b.file("a").unwrap().segments().last().unwrap();
        let end = last.data.as_ptr() as usize - bytes.as_ptr() as usize + last.data.len();
        assert!(bytes[end..end.next_multiple_of(PAGE)].iter().all(|b| *b == 0));
    }

    #[test]
    fn names_are_checked() {
        let mut w = Writer::default();
        w.data("a", vec![]).unwrap();
        assert_eq!(w.data("a", vec![]), Err(Error::Duplicate("a".into())));
        let long = "x".repeat(25);
        assert_eq!(w.data(&long, vec![]), Err(Error::Name(long)));
        w.data(&"y".repeat(24), vec![9]).unwrap();
        let bytes = w.finish().unwrap();
        let b = Bundle::new(&bytes).unwrap();
        assert_eq!(b.file(&"y".repeat(24)).unwrap().data(), Some(&[9][..]));
    }
}
