//! The mapped file as totals and entries.

use std::ffi::c_void;
use std::fs::OpenOptions;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use memmap2::{MmapOptions, MmapRaw};

use crate::layout::*;

/// The file.
pub struct Table {
    map: MmapRaw,
    /// All instructions counted when a `rep` instruction last ran.
    pub last_rep: AtomicU64,
    /// Stands for every block that finds no room, in user and in kernel code.
    spare: [[AtomicU64; ENTRY]; 2],
}

/// A block's words.
#[derive(Clone, Copy)]
pub struct Entry<'a>(&'a [AtomicU64; ENTRY]);

impl Table {
    /// Makes the file at `path`, empty.
    pub fn create(path: &str) -> std::io::Result<Self> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(true).clone();
        let file = options.open(path)?;
        file.set_len(SIZE as u64)?;
        let map = MmapOptions::new().len(SIZE).map_raw(&file)?;
        let spare = [const { [const { AtomicU64::new(0) }; ENTRY] }; 2];
        let table = Self { map, last_rep: AtomicU64::new(0), spare };
        table.spare[1][VADDR].store(1 << 63, Relaxed);
        table.word(AT_MAGIC).store(MAGIC, Release);
        Ok(table)
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < HEADER / 8);
        // SAFETY: the word lies in the mapping, which is aligned to pages and lives as long as
        // `self`; everybody uses it as an atomic.
        unsafe { &*self.map.as_ptr().cast::<AtomicU64>().add(at) }
    }

    /// Instructions run in user or kernel code.
    pub fn total(&self, kernel: bool) -> &AtomicU64 {
        self.word(AT_TOTAL + usize::from(kernel))
    }

    /// How many of them were further iterations.
    pub fn repeated(&self, kernel: bool) -> &AtomicU64 {
        self.word(AT_REPEATED + usize::from(kernel))
    }

    fn slot(&self, index: usize) -> Entry<'_> {
        assert!(index < CAPACITY);
        // SAFETY: as in `word`; the entry ends before the mapping does.
        Entry(unsafe { &*self.map.as_ptr().add(HEADER).cast::<[AtomicU64; ENTRY]>().add(index) })
    }

    /// The entry of a block: the one that it had when it was last translated, or a new one.
    pub fn entry(&self, vaddr: u64, instructions: usize, code: &[u8]) -> Entry<'_> {
        let shape = instructions as u64 | (code.len() as u64) << 32;
        let mut words = [0; ENTRY];
        (words[VADDR], words[SHAPE]) = (vaddr, shape);
        for (word, bytes) in
            words[CODE..].iter_mut().zip(code[..code.len().min(CODE_LEN)].chunks(8))
        {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(padded);
        }
        let mut hash = DefaultHasher::new();
        words.hash(&mut hash);
        let start = hash.finish() as usize;
        // A full neighbourhood is as good as a full table.
        for i in 0..64 {
            let entry = self.slot((start + i) % CAPACITY);
            let known = entry.0[VADDR].load(Acquire);
            if known == 0 {
                for at in (CODE..ENTRY).chain([SHAPE, VADDR]) {
                    entry.0[at].store(words[at], Release);
                }
                return entry;
            }
            let same = |at: &usize| entry.0[*at].load(Relaxed) == words[*at];
            if (CODE..ENTRY).chain([SHAPE, VADDR]).all(|at| same(&at)) {
                return entry;
            }
        }
        self.word(AT_LOST).fetch_add(1, Relaxed);
        Entry(&self.spare[(vaddr >> 63) as usize])
    }
}

impl<'a> Entry<'a> {
    /// What an entry is registered as.
    pub fn as_ptr(self) -> *mut c_void {
        std::ptr::from_ref(self.0).cast_mut().cast()
    }

    /// The entry again.
    ///
    /// # Safety
    /// `entry` came from [`Self::as_ptr`], of a table that still lives.
    pub unsafe fn from_ptr(entry: *mut c_void) -> Self {
        // SAFETY: the caller's word.
        Self(unsafe { &*entry.cast() })
    }

    /// Whether its code is the kernel's.
    pub fn kernel(self) -> bool {
        self.0[VADDR].load(Relaxed) >> 63 == 1
    }

    /// Instructions of the block.
    pub fn instructions(self) -> u64 {
        self.0[SHAPE].load(Relaxed) & 0xffff_ffff
    }

    /// Times that it was run.
    pub fn runs(self) -> &'a AtomicU64 {
        &self.0[RUNS]
    }

    /// Further iterations in it.
    pub fn repeats(self) -> &'a AtomicU64 {
        &self.0[REPEATS]
    }
}
