//! The file in which the plugin keeps its counts, mapped by it and read by the tool at any moment.
//!
//! It is made of little-endian u64: a header of one page, then entries of [`ENTRY`] words. An entry
//! is a translated block of guest code: QEMU runs a block from its first instruction to its last, so
//! that one addition counts all of them. (A block that a fault leaves early counts as a whole.)

/// First word of the header: the file is complete and of this layout.
pub const MAGIC: u64 = u64::from_le_bytes(*b"insncnt1");
/// Bytes of the header.
pub const HEADER: usize = 4096;
/// Most blocks in the table. What those beyond cost may be missing in the counts.
pub const CAPACITY: usize = 1 << 18;
/// Words of an entry.
pub const ENTRY: usize = 8;
/// Bytes of the file.
pub const SIZE: usize = HEADER + CAPACITY * ENTRY * 8;

/// Header, word: [`MAGIC`].
pub const AT_MAGIC: usize = 0;
/// Header, word: blocks that found no room in the table.
pub const AT_LOST: usize = 1;
/// Header, words: instructions run at user addresses (bit 63 clear), and at kernel addresses.
pub const AT_TOTAL: usize = 8;
/// Header, words: how many of them were a further iteration of a `rep` instruction. QEMU runs such
/// an instruction again for each iteration, and once more to see that nothing is left.
pub const AT_REPEATED: usize = 10;

/// Entry, word: address of the block's first instruction; 0: free.
pub const VADDR: usize = 0;
/// Entry, word: instructions, and from bit 32 the bytes of code that follow.
pub const SHAPE: usize = 1;
/// Entry, word: times that it was run; counted only with `profile=on`.
pub const RUNS: usize = 2;
/// Entry, word: how many of its instructions were further iterations of `rep`.
pub const REPEATS: usize = 3;
/// Entry, words: the code's first bytes. Different programs have different code at one address.
pub const CODE: usize = 4;
/// Bytes of code in an entry.
pub const CODE_LEN: usize = 8 * (ENTRY - CODE);
