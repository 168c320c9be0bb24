//! What holds between any two entries of the kernel, whatever was called and however far it came. Found out from
//! the derivation lists and the memory itself, not from what was asked for.

use std::collections::{BTreeMap, HashMap, HashSet};

use abi::ObjType;
use microkernel::cap::{BURIED, Cap, Slot, ZOMBIE};
use microkernel::untyped::Memory;
use microkernel::zombie::is_zombie;
use microkernel::{Obj, obj, zombie};

use super::*;

/// Slots that first capabilities are in.
const HEADS: [u64; 6] = [CNODE, VSPACE, TCB, IRQ_CONTROL, IO_PORTS, UNTYPED];
const ADDR: u64 = 0x000f_ffff_ffff_f000;

/// Memory that a capability or zombie stands for: its address and log2 of its size.
fn region(slot: Obj<Slot>) -> Option<(u64, u8)> {
    let cap = slot.cap();
    let kind = match (cap.raw_type(), cap.size_bits()) {
        (ZOMBIE | BURIED, zombie::IRQ) => return None,
        (ZOMBIE | BURIED, zombie::THREAD) => 11,
        (ZOMBIE, zombie::TIMER) => 7,
        (ZOMBIE, zombie::ENDPOINT) => 5,
        (ZOMBIE, zombie::NOTIFICATION) => 6,
        (ZOMBIE | BURIED, radix) => radix + abi::SLOT_BITS,
        _ => return cap.object_bits().map(|bits| (cap.addr(), bits)),
    };
    let at = if cap.raw_type() == BURIED { slot.phys() & !((1 << kind) - 1) } else { cap.addr() };
    Some((at, kind))
}

/// Everything that is in a derivation list, in order; checks the links.
fn everything(w: &World) -> Vec<Obj<Slot>> {
    let mut all = Vec::new();
    let mut seen = HashSet::new();
    for head in HEADS {
        let (mut before, mut at) = (None, Some(w.slot(head)));
        while let Some(slot) = at {
            assert!(!slot.is_empty(), "an empty slot is in a list");
            assert!(slot.prev() == before, "a link leads one way only");
            assert!(seen.insert(slot.phys()), "a slot is in the lists twice");
            all.push(slot);
            (before, at) = (at, slot.next());
        }
    }
    all
}

/// Words of a page table: those that are present.
fn entries(table: u64, count: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..count).filter_map(move |i| {
        // SAFETY: callers pass live tables of the arena.
        let word = unsafe { obj::read_word(table + 8 * i) };
        (word & 1 != 0).then_some((i, word))
    })
}

/// The entry that translates `vaddr`, as the processor would find it.
pub fn translate(pml4: u64, vaddr: u64) -> Option<u64> {
    let mut table = pml4;
    for level in (1..=4).rev() {
        let index = vaddr >> (12 + 9 * (level - 1)) & 511;
        // SAFETY: as above.
        let word = unsafe { obj::read_word(table + 8 * index) };
        if word & 1 == 0 {
            return None;
        }
        if level == 1 || word & 1 << 7 != 0 {
            return Some(word);
        }
        table = word & ADDR;
    }
    None
}

impl World {
    /// Checks all that is cheap to check.
    pub fn check(&self) {
        let all = everything(self);
        let mut untypeds: Vec<Obj<Slot>> = Vec::new();
        // Objects by address, containers among them, and bytes of each untyped that are in children.
        let mut spans: BTreeMap<u64, (u64, ObjType)> = BTreeMap::new();
        let mut used: HashMap<u64, u64> = HashMap::new();
        for slot in &all {
            let Some((at, bits)) = region(*slot) else { continue };
            let (end, size) = (at + (1 << bits), 1u64 << bits);
            assert!(at.is_multiple_of(size), "an object is not aligned to its size");
            while let Some(u) = untypeds.last() {
                let (from, bits) = region(*u).unwrap();
                if from <= at && end <= from + (1 << bits) {
                    break;
                }
                untypeds.pop();
            }
            let ty = slot.cap().ty();
            let first = ty == Some(ObjType::Untyped) || !spans.contains_key(&at);
            if let Some(parent) = untypeds.last() {
                let memory = Memory::of(parent.cap());
                let from = region(*parent).unwrap().0;
                assert!(end <= from + memory.used, "an object lies above its untyped's watermark");
                if first {
                    *used.entry(parent.phys()).or_default() += size;
                }
            }
            if ty == Some(ObjType::Untyped) {
                untypeds.push(*slot);
                let memory = Memory::of(slot.cap());
                assert!(memory.used + memory.clean <= size);
            } else {
                let kind = ty.unwrap_or(ObjType::CNode);
                let old = spans.insert(at, (size, kind));
                assert!(old.is_none_or(|o| o.0 == size), "two objects at one address");
            }
        }
        let mut last = 0;
        for (at, (size, ty)) in &spans {
            assert!(last <= *at, "{ty:?} at {at:#x} overlaps the object before it");
            last = at + size;
        }
        for slot in all.iter().filter(|s| s.cap().is(ObjType::Untyped)) {
            let memory = Memory::of(slot.cap());
            let children = used.get(&slot.phys()).copied().unwrap_or(0);
            assert!(children <= memory.used, "children take more than was given out");
        }
        // Whoever holds a capability is alive, or a zombie.
        let kernel = std::ptr::from_ref(&*self.k) as u64;
        let kernel = kernel..kernel + std::mem::size_of_val(&*self.k) as u64;
        let root = self.cnode.addr()..self.cnode.addr() + (32 << RADIX);
        for slot in all.iter().map(|s| s.phys()) {
            let held = spans.range(..=slot).next_back().is_some_and(|(at, (size, ty))| {
                let holds = matches!(ty, ObjType::CNode | ObjType::Thread | ObjType::Timer);
                holds && slot < at + size
            });
            assert!(
                held || root.contains(&slot) || kernel.contains(&slot),
                "a slot in dead memory"
            );
        }
        // Lists of zombies: both ways, among zombies, one list each.
        let deep = |s: &&Obj<Slot>| is_zombie(s.cap()) && zombie::is_deep(s.cap().size_bits());
        let zombies: HashMap<u64, Obj<Slot>> =
            all.iter().filter(deep).map(|s| (s.phys(), *s)).collect();
        for z in zombies.values() {
            if let Some(next) = zombie::next(*z).map(Obj::phys) {
                let next = zombies.get(&next).expect("a zombie's next is none");
                assert_eq!(next.cap().raw_type(), BURIED);
                assert_eq!(
                    next.cap().addr(),
                    z.phys(),
                    "a link between zombies leads one way only"
                );
            }
            if z.cap().raw_type() == BURIED && z.cap().addr() != 0 {
                let prev = zombies.get(&z.cap().addr()).expect("the zombie before is none");
                assert!(
                    zombie::next(*prev) == Some(*z),
                    "a link between zombies leads one way only"
                );
            }
        }
        for (vaddr, entry) in &self.k.hw.tlb {
            let now = translate(self.k.hw.loaded, *vaddr);
            assert_eq!(now, Some(*entry), "{vaddr:#x}: the translation that is cached is stale");
        }
    }

    /// Checks the rest as well.
    pub fn check_all(&self) {
        self.check();
        let all = everything(self);
        let caps: Vec<Cap> = all.iter().map(|s| s.cap()).collect();
        for slot in &all {
            let cap = slot.cap();
            if cap.is(ObjType::Untyped) {
                let m = Memory::of(cap);
                for at in (m.used..m.used + m.clean).step_by(8) {
                    // SAFETY: memory of the arena that is in no object.
                    let word = unsafe { obj::read_word(cap.addr() + at) };
                    assert_eq!(word, 0, "memory that is said to be clear is not");
                }
            }
        }
        for vspace in caps.iter().filter(|c| c.is(ObjType::VSpace)) {
            check_table(&caps, vspace.addr(), 4, 0);
        }
    }
}

/// Every entry of a table of `level`, for addresses from `base` on, leads to a live object whose capability says
/// that it is mapped there.
fn check_table(caps: &[Cap], table: u64, level: u8, base: u64) {
    for (i, word) in entries(table, if level == 4 { 256 } else { 512 }) {
        let (at, vaddr) = (word & ADDR, base + (i << (12 + 9 * (level - 1))));
        let leaf = level == 1 || word & 1 << 7 != 0;
        let ty = if leaf { ObjType::Frame } else { ObjType::PageTable };
        let mapped =
            |c: &&Cap| c.is(ty) && c.addr() == at && c.data() & 0xf_ffff_ffff == vaddr >> 12;
        let Some(cap) = caps.iter().find(mapped) else {
            panic!("{vaddr:#x} is mapped to a {ty:?} at {at:#x} whose capabilities do not say so");
        };
        if leaf {
            assert!(
                word & 2 == 0 || cap.rights().contains(Rights::WRITE),
                "writable, without the right"
            );
            assert!(word & 2 == 0 || word >> 63 == 1, "writable and executable");
        } else {
            check_table(caps, at, level - 1, vaddr);
        }
    }
}
