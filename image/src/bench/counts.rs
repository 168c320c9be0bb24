//! The counting plugin: built, loaded, read. See `image/plugin`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Error;
use crate::guest;

#[path = "../../plugin/src/layout.rs"]
mod layout;

/// Builds the plugin; returns where it lies.
pub fn plugin() -> Result<PathBuf, Error> {
    let mut cargo = guest::nested();
    cargo.args(["build", "--release", "-p", "insn-count"]);
    let made = super::tools::build(&mut cargo)?;
    let library = made.into_iter().find(|p| p.extension().is_some_and(|e| e == "so"));
    library.ok_or(Error::NotMade("the counting plugin"))
}

/// Guest instructions run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// At user addresses, further iterations of `rep` instructions left out.
    pub user: u64,
    /// At kernel addresses, in the same way.
    pub kernel: u64,
    /// Further iterations, at all addresses.
    pub repeated: u64,
}

impl Counts {
    /// All without further iterations.
    pub fn plain(self) -> u64 {
        self.user + self.kernel
    }

    /// All with further iterations: what QEMU has to run.
    pub fn with_rep(self) -> u64 {
        self.plain() + self.repeated
    }

    /// What was run since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            kernel: self.kernel.saturating_sub(before.kernel),
            repeated: self.repeated.saturating_sub(before.repeated),
        }
    }
}

/// A translated block of guest code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Address of its first instruction.
    pub vaddr: u64,
    /// Instructions.
    pub instructions: u64,
    /// Bytes of code.
    pub len: u64,
    /// Times that it was run, further iterations left out.
    pub runs: u64,
    /// The first bytes of its code.
    pub code: Vec<u8>,
}

/// A counter in a running QEMU.
#[derive(Debug)]
pub struct Counter {
    path: PathBuf,
    file: File,
}

impl Counter {
    /// A place for the counts of a QEMU that is about to start.
    pub fn create(path: PathBuf) -> std::io::Result<Self> {
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok(Self { path, file })
    }

    /// The argument of QEMU's `-plugin`.
    pub fn argument(&self, plugin: &Path, profile: bool) -> String {
        let profile = if profile { "on" } else { "off" };
        format!("{},counts={},profile={profile}", plugin.display(), self.path.display())
    }

    fn words<const N: usize>(&self, at: usize) -> std::io::Result<[u64; N]> {
        let mut bytes = vec![0; N * 8];
        self.file.read_exact_at(&mut bytes, at as u64)?;
        let mut words = [0; N];
        for (word, b) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(b.try_into().expect("eight bytes"));
        }
        Ok(words)
    }

    fn header(&self) -> Result<[u64; 16], Error> {
        let header: [u64; 16] = self.words(0).map_err(Error::io("reading the counts"))?;
        if header[layout::AT_MAGIC] != layout::MAGIC {
            return Err(Error::Counts);
        }
        Ok(header)
    }

    /// What was run so far.
    pub fn read(&self) -> Result<Counts, Error> {
        let h = self.header()?;
        let (total, again) = (&h[layout::AT_TOTAL..], &h[layout::AT_REPEATED..]);
        Ok(Counts {
            user: total[0].saturating_sub(again[0]),
            kernel: total[1].saturating_sub(again[1]),
            repeated: again[0] + again[1],
        })
    }

    /// Blocks for which there was no room: with any, counts are too low.
    pub fn lost(&self) -> Result<u64, Error> {
        Ok(self.header()?[layout::AT_LOST])
    }

    /// The blocks that were run, in no order.
    pub fn blocks(&self) -> Result<Vec<Block>, Error> {
        let mut bytes = vec![0; layout::SIZE - layout::HEADER];
        let read = self.file.read_exact_at(&mut bytes, layout::HEADER as u64);
        read.map_err(Error::io("reading the counts"))?;
        Ok(bytes.chunks_exact(layout::ENTRY * 8).filter_map(block).collect())
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn block(entry: &[u8]) -> Option<Block> {
    let word =
        |at: usize| u64::from_le_bytes(entry[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
    let shape = word(layout::SHAPE);
    let len = shape >> 32;
    let runs = word(layout::RUNS).saturating_sub(word(layout::REPEATS));
    let code = &entry[layout::CODE * 8..];
    let code = code[..layout::CODE_LEN.min(len as usize)].to_vec();
    let b =
        Block { vaddr: word(layout::VADDR), instructions: shape & 0xffff_ffff, len, runs, code };
    (runs > 0).then_some(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_while_they_grow() {
        let path = std::env::temp_dir().join(format!("counts-{}", std::process::id()));
        let counter = Counter::create(path.clone()).unwrap();
        assert!(counter.read().is_err(), "nothing is there yet");
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(layout::SIZE as u64).unwrap();
        let put = |at: usize, words: &[u64]| {
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            file.write_all_at(&bytes, at as u64).unwrap();
        };
        put(0, &[layout::MAGIC]);
        put(layout::AT_TOTAL * 8, &[100, 2000, 30, 400]);
        let before = counter.read().unwrap();
        assert_eq!(before, Counts { user: 70, kernel: 1600, repeated: 430 });
        put(layout::AT_TOTAL * 8, &[101, 2010, 30, 405]);
        let used = counter.read().unwrap().since(before);
        assert_eq!((used.plain(), used.with_rep()), (6, 11));
        // A block of 3 instructions in 5 bytes, run 9 times, 2 of them again for a `rep`.
        let code = u64::from_le_bytes(*b"abcde\0\0\0");
        put(layout::HEADER + 64 * 7, &[0x40_0010, 3 | 5 << 32, 9, 2, code]);
        let blocks = counter.blocks().unwrap();
        let code = b"abcde".to_vec();
        assert_eq!(blocks, [Block { vaddr: 0x40_0010, instructions: 3, len: 5, runs: 7, code }]);
        drop(counter);
        assert!(!path.exists());
    }
}
