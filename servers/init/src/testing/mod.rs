//! Tools of the tests: a boot bundle made by hand, a model of the kernel, a machine around both.
extern crate std;

pub mod model;
pub mod outside;

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use libipc::bundle::{FILE, HEADER, KIND_DATA, KIND_PROGRAM, MAGIC, SEGMENT, SYMBOL};

/// A file of a bundle.
pub struct Entry {
    name: String,
    kind: u32,
    /// (vaddr, memory bytes, content, flags).
    pub segments: Vec<(u64, u64, Vec<u8>, u32)>,
    data: Vec<u8>,
    symbols: Vec<(u64, &'static str)>,
}

/// A program with the three usual segments and some symbols; its data segment says its name.
pub fn program(name: &str) -> Entry {
    let mut data = b"data of ".to_vec();
    data.extend(name.bytes());
    Entry {
        name: name.to_string(),
        kind: KIND_PROGRAM,
        segments: vec![
            (0x40_0000, 0x1000, b"rodata".to_vec(), 1),
            (0x40_1000, 0x2000, vec![0x90; 0x1800], 5),
            (0x40_3000, 0x3000, data, 3),
        ],
        data: vec![],
        symbols: vec![
            (0x40_1000, "e1000d::ring::poll"),
            (0x40_1100, "main"),
            (0x40_1200, "rt_crash_panic"),
            (0x40_1300, "rt_crash_pointer"),
            (0x40_1380, "crash_dma"),
            (0x40_1400, "rt_crash_undefined"),
        ],
    }
}

/// A file of bytes.
pub fn data(name: &str, data: Vec<u8>) -> Entry {
    Entry { name: name.to_string(), kind: KIND_DATA, segments: vec![], data, symbols: vec![] }
}

/// The bundle of these files.
pub fn bundle(files: &[Entry]) -> Vec<u8> {
    let mut out = vec![0; HEADER + FILE * files.len()];
    for (i, f) in files.iter().enumerate() {
        let table = out.len() as u32;
        out.resize(out.len() + SEGMENT * f.segments.len(), 0);
        let data = out.len() as u32;
        out.extend(&f.data);
        for (s, (vaddr, len, content, flags)) in f.segments.iter().enumerate() {
            out.resize(out.len().next_multiple_of(4096), 0);
            let mut e = [vaddr.to_le_bytes(), len.to_le_bytes()].concat();
            e.extend((out.len() as u32).to_le_bytes());
            e.extend((content.len() as u32).to_le_bytes());
            e.extend(flags.to_le_bytes());
            let at = table as usize + s * SEGMENT;
            out[at..at + e.len()].copy_from_slice(&e);
            out.extend(content);
        }
        let symbols = out.len() as u32;
        out.extend((f.symbols.len() as u32).to_le_bytes());
        let mut name_at = 4 + f.symbols.len() * SYMBOL;
        for (address, name) in &f.symbols {
            out.extend(address.to_le_bytes());
            out.extend((name_at as u32).to_le_bytes());
            out.extend((name.len() as u32).to_le_bytes());
            name_at += name.len();
        }
        f.symbols.iter().for_each(|(_, name)| out.extend(name.bytes()));
        let e = &mut out[HEADER + i * FILE..][..FILE];
        e[..f.name.len()].copy_from_slice(f.name.as_bytes());
        let program = f.kind == KIND_PROGRAM;
        let (at, len) = if program { (table, 0) } else { (data, f.data.len() as u32) };
        e[24..28].copy_from_slice(&f.kind.to_le_bytes());
        e[28..32].copy_from_slice(&at.to_le_bytes());
        e[32..36].copy_from_slice(&len.to_le_bytes());
        e[36..40].copy_from_slice(&(f.segments.len() as u32).to_le_bytes());
        e[40..48].copy_from_slice(&0x40_1100u64.to_le_bytes());
        e[48..52].copy_from_slice(&symbols.to_le_bytes());
        e[52..56].copy_from_slice(&((name_at as u32) * (program as u32)).to_le_bytes());
    }
    let total = out.len() as u32;
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&(files.len() as u32).to_le_bytes());
    out[12..16].copy_from_slice(&total.to_le_bytes());
    out
}
