//! What boot loaders say: memory maps in every disorder, and Multiboot2 blocks, right and wrong.

use microkernel::loader::multiboot2::{Error, parse};
use microkernel::loader::{Loaded, Ranges};

const PAGE: u64 = 4096;

fn list(r: &Ranges) -> Vec<(u64, u64)> {
    r.iter().collect()
}

/// Random additions and removals, compared with a table of pages.
#[test]
fn ranges_are_the_set_of_their_pages() {
    for seed in 0..2000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut ranges, mut pages) = (Ranges::EMPTY, [false; 96]);
        for _ in 0..60 {
            let (a, b) = (rng.u64(0..96 * PAGE), rng.u64(0..96 * PAGE));
            let (start, end) = (a.min(b), a.max(b).min(a.min(b) + 9 * PAGE));
            if rng.bool() {
                ranges.add(start, end);
                for p in start.div_ceil(PAGE)..end / PAGE {
                    pages[p as usize] = true;
                }
            } else {
                ranges.remove(start, end);
                let last = if start == end { start / PAGE } else { end.div_ceil(PAGE) };
                for p in start / PAGE..last {
                    pages[p as usize] = false;
                }
            }
            let found = list(&ranges);
            assert!(found.windows(2).all(|w| w[0].1 < w[1].0), "seed {seed}: {found:x?}");
            for (p, is) in (0u64..).zip(pages) {
                let at = p * PAGE;
                assert_eq!(ranges.contains(at, at + PAGE), is, "seed {seed}, page {p}");
            }
            assert_eq!(ranges.bytes(), PAGE * pages.iter().filter(|p| **p).count() as u64);
        }
        assert_eq!(ranges.lost(), 0);
    }
}

#[test]
fn too_many_pieces_lose_memory_and_say_how_much() {
    let mut r = Ranges::EMPTY;
    for i in 0..70 {
        r.add(8 * i * PAGE, (8 * i + 5) * PAGE);
    }
    assert_eq!((list(&r).len(), r.lost()), (64, 6 * 5 * PAGE));
    // A hole that would make two of one keeps the larger part.
    r.remove(PAGE, PAGE + 1);
    r.remove(11 * PAGE, 12 * PAGE);
    assert_eq!(list(&r)[..2], [(2 * PAGE, 5 * PAGE), (8 * PAGE, 11 * PAGE)]);
    assert_eq!(r.lost(), 6 * 5 * PAGE + 2 * PAGE);
}

#[test]
fn ends_of_the_address_space_do_no_harm() {
    let mut r = Ranges::EMPTY;
    r.add(u64::MAX - 10, u64::MAX);
    assert_eq!(list(&r), []);
    r.add(u64::MAX - 3 * PAGE, u64::MAX);
    r.remove(u64::MAX - PAGE - 1, u64::MAX);
    assert_eq!(list(&r).len(), 1);
    r.remove(0, u64::MAX);
    assert_eq!(list(&r), []);
}

#[test]
fn what_one_entry_keeps_back_is_not_ram() {
    let mut l = Loaded::EMPTY;
    let map = [
        (0x10_0000, 0x700_0000, 1),
        (0x90_0000, 0x1000, 4),
        (0, 0x9_fc00, 1),
        (0x6f0_0800, 0x1000, 2),
        (0x710_0000, 0x10_0000, 1),
        (u64::MAX - 5, u64::MAX, 2),
    ];
    l.memory(map.iter().copied());
    let ram = [(0x10_0000, 0x90_0000), (0x90_1000, 0x6f0_0000), (0x6f0_2000, 0x720_0000)];
    assert_eq!(list(&l.ram), ram);
}

/// A block of Multiboot2 information.
#[derive(Default)]
struct Block(Vec<u8>);

impl Block {
    fn tag(mut self, kind: u32, content: &[u8]) -> Self {
        self.0.extend(kind.to_le_bytes());
        self.0.extend((8 + content.len() as u32).to_le_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        self
    }
    fn memory(self, entry_size: u32, entries: &[(u64, u64, u32)]) -> Self {
        let mut content = [entry_size.to_le_bytes(), [0; 4]].concat();
        for (start, len, kind) in entries {
            let from = content.len();
            content.extend(start.to_le_bytes());
            content.extend(len.to_le_bytes());
            content.extend(kind.to_le_bytes());
            content.resize(from + entry_size as usize, 0);
        }
        self.tag(6, &content)
    }
    fn module(self, start: u32, end: u32) -> Self {
        let text = *b"bundle\0";
        let content = [&start.to_le_bytes()[..], &end.to_le_bytes(), &text].concat();
        self.tag(3, &content)
    }
    fn end(self) -> Vec<u8> {
        let tags = self.tag(0, &[]).0;
        let mut all = (tags.len() as u32 + 8).to_le_bytes().to_vec();
        all.extend([0; 4]);
        all.extend(tags);
        all
    }
}

fn whole() -> Vec<u8> {
    let rsdp: Vec<u8> = (0..36).collect();
    let b = Block::default().tag(1, b"panic-test x\0").tag(2, b"GRUB\0").tag(14, &rsdp[..20]);
    let b = b.tag(15, &rsdp).module(0x20_0000, 0x20_1234).module(1, 2);
    b.memory(32, &[(0, 0x9_f000, 1), (0x10_0000, 0x70_0000, 1), (0x80_0000, 0x8000, 4)]).end()
}

#[test]
fn a_block_is_understood() {
    let l = parse(&whole(), 0x9000).unwrap();
    assert_eq!(l.command_line(), "panic-test x");
    assert_eq!(l.bundle, (0x20_0000, 0x20_1234));
    assert_eq!(list(&l.ram), [(0x10_0000, 0x80_0000)]);
    // The later one, which lies 8 + 24 + 16 + 32 + 8 bytes into the block.
    assert_eq!(l.rsdp, 0x9000 + 88);
    assert_eq!(whole()[88..88 + 36], *(0..36).collect::<Vec<u8>>());
}

#[test]
fn what_is_missing_is_said() {
    let memory = [(0x10_0000, 0x10_0000, 1)];
    assert_eq!(parse(&[], 0).err(), Some(Error::NoMemory));
    assert_eq!(parse(&Block::default().module(1, 2).end(), 0).err(), Some(Error::NoMemory));
    assert_eq!(parse(&Block::default().memory(24, &memory).end(), 0).err(), Some(Error::NoBundle));
    let upside_down = Block::default().memory(24, &memory).module(2, 1).end();
    assert_eq!(parse(&upside_down, 0).err(), Some(Error::NoBundle));
}

#[test]
fn a_long_command_line_is_cut() {
    let mut l = Loaded::EMPTY;
    l.set_command_line(&[b'x'; 5000]);
    assert_eq!(l.command_line(), "x".repeat(512));
    l.set_command_line(b"\xff\xfe");
    assert_eq!(l.command_line(), "");
}

/// Any block, cut or changed anywhere, is read without leaving it.
#[test]
fn no_block_leads_outside() {
    let good = whole();
    for len in 0..good.len() {
        let _ = parse(&good[..len], 0);
    }
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..200_000 {
        let mut block = good.clone();
        for _ in 0..rng.usize(1..6) {
            let at = rng.usize(..block.len());
            let odd = [0, 1, 7, 8, 0x7f, 0xff];
            block[at] = if rng.bool() { rng.u8(..) } else { odd[rng.usize(..odd.len())] };
        }
        if let Ok(l) = parse(&block, 0) {
            assert!(l.bundle.0 < l.bundle.1);
            assert!(l.ram.iter().all(|(s, e)| s < e && s >= 1 << 20));
        }
    }
}
