//! Random capability operations against a reference model that keeps the derivation tree
//! explicitly. After each operation: results agree, slots agree, the kernel's list is well formed,
//! objects do not overlap, and untyped watermarks cover their children.
//!
//! `KERNEL_MODEL_OPS` and `KERNEL_MODEL_SEED` change how long it runs and where it starts; a failure
//! prints the seed.

mod common;

use std::collections::{BTreeMap, HashMap};

use abi::{Error, Label, ObjType, Rights};
use common::*;
use microkernel::mdb;
use microkernel::untyped::Memory;

/// Slots the operations use.
const SLOTS: std::ops::Range<u64> = FREE..FREE + 48;
/// An untyped of this size is split off, so that it is often full.
const HOME_BITS: u8 = 16;
const HOME: u64 = FREE + 100;

type Id = u64;

/// A capability in the model.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    id: Id,
    parent: Option<Id>,
    ty: ObjType,
    object: u64,
    size_bits: u8,
    badge: u64,
    rights: Rights,
    revocable: bool,
}

#[derive(Default)]
struct Model {
    slots: BTreeMap<u64, Entry>,
    next: Id,
}

impl Model {
    fn children_of(&self, id: Id) -> Vec<u64> {
        self.slots.iter().filter(|(_, e)| e.parent == Some(id)).map(|(s, _)| *s).collect()
    }
    fn add(&mut self, slot: u64, mut e: Entry) {
        self.next += 1;
        e.id = self.next;
        self.slots.insert(slot, e);
    }
    fn delete(&mut self, slot: u64) {
        if let Some(gone) = self.slots.remove(&slot) {
            for e in self.slots.values_mut().filter(|e| e.parent == Some(gone.id)) {
                e.parent = gone.parent;
            }
        }
    }
    fn revoke(&mut self, slot: u64) {
        let Some(id) = self.slots.get(&slot).map(|e| e.id) else { return };
        let mut doomed = vec![id];
        while let Some(id) = doomed.pop() {
            for s in self.children_of(id) {
                doomed.push(self.slots[&s].id);
                self.slots.remove(&s);
            }
        }
    }
}

struct Run {
    w: World,
    m: Model,
    rng: fastrand::Rng,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut w = World::new();
        w.retype(ObjType::Untyped, HOME_BITS, HOME, 1).unwrap();
        let cap = w.slot(HOME).cap();
        let mut m = Model::default();
        let home = Entry {
            id: 0,
            parent: None,
            ty: ObjType::Untyped,
            object: cap.addr(),
            size_bits: HOME_BITS,
            badge: 0,
            rights: Rights::all(),
            revocable: true,
        };
        m.add(HOME, home);
        Self { w, m, rng: fastrand::Rng::with_seed(seed) }
    }

    fn any_slot(&mut self) -> u64 {
        self.rng.u64(SLOTS)
    }

    fn retype(&mut self) {
        let untypeds: Vec<u64> = self
            .m
            .slots
            .iter()
            .filter(|(_, e)| e.ty == ObjType::Untyped)
            .map(|(s, _)| *s)
            .collect();
        let from = untypeds[self.rng.usize(..untypeds.len())];
        let (ty, bits) = [
            (ObjType::Untyped, 12),
            (ObjType::Untyped, 14),
            (ObjType::Endpoint, 0),
            (ObjType::Notification, 0),
            (ObjType::Reply, 0),
            (ObjType::Thread, 0),
            (ObjType::CNode, 3),
            (ObjType::Frame, 12),
            (ObjType::PageTable, 0),
            (ObjType::Timer, 0),
        ][self.rng.usize(..10)];
        let (at, count) = (self.any_slot(), self.rng.u64(1..4));
        let words = [ty as u64, bits as u64, CNODE, at, count, 0];
        let parent = self.m.slots[&from].clone();
        let has_children = !self.m.children_of(parent.id).is_empty();
        let watermark = if has_children { Memory::of(self.w.slot(from).cap()).used } else { 0 };
        let size = 1u64 << ty.bits(bits).unwrap();
        let start = watermark.next_multiple_of(size);
        let expected = if (at..at + count).any(|s| self.m.slots.contains_key(&s)) {
            Err(Error::Occupied)
        } else if start + count * size > 1 << parent.size_bits {
            Err(Error::NoMemory)
        } else {
            Ok(())
        };
        let got = self.w.invoke(from, Label::UntypedRetype, words).map(|_| ());
        assert_eq!(got, expected, "retype {ty:?} x{count} from {from} at {at}");
        if got.is_ok() {
            for i in 0..count {
                let entry = Entry {
                    id: 0,
                    parent: Some(parent.id),
                    ty,
                    object: parent.object + start + i * size,
                    size_bits: bits,
                    badge: 0,
                    rights: Rights::all(),
                    revocable: true,
                };
                self.m.add(at + i, entry);
            }
        }
    }

    fn copy(&mut self) {
        let (from, to) = (self.any_slot(), self.any_slot());
        let rights = Rights::from_bits_truncate(self.rng.u8(..8));
        let badge = (self.rng.u8(..2) == 0).then(|| self.rng.u64(1..4));
        let words = [to, CNODE, from, rights.bits() as u64, badge.unwrap_or(0), 0];
        let label = if badge.is_some() { Label::CNodeMint } else { Label::CNodeCopy };
        let got = self.w.invoke(CNODE, label, words).map(|_| ());
        let Some(source) = self.m.slots.get(&from).cloned() else {
            return assert_eq!(got, Err(Error::InvalidCap));
        };
        let badged = matches!(source.ty, ObjType::Endpoint | ObjType::Notification);
        let expected = if self.m.slots.contains_key(&to) {
            Err(Error::Occupied)
        } else if matches!(source.ty, ObjType::Untyped | ObjType::PageTable) {
            Err(Error::WrongType)
        } else {
            match badge {
                None => Ok(()),
                Some(_) if badged && source.badge != 0 => Err(Error::NoRights),
                Some(_) if badged || source.ty == ObjType::CNode => Ok(()),
                Some(_) => Err(Error::WrongType),
            }
        };
        assert_eq!(got, expected, "copy {from} {source:?} to {to}, badge {badge:?}");
        if got.is_ok() {
            let new_badge = if badged { badge.unwrap_or(source.badge) } else { 0 };
            let entry = Entry {
                parent: if source.revocable { Some(source.id) } else { source.parent },
                rights: source.rights & rights,
                badge: new_badge,
                revocable: badged && new_badge != source.badge,
                ..source
            };
            self.m.add(to, entry);
        }
    }

    fn move_cap(&mut self) {
        let (from, to) = (self.any_slot(), self.any_slot());
        let got = self.w.invoke(CNODE, Label::CNodeMove, [to, CNODE, from, 0, 0, 0]).map(|_| ());
        let expected = match (self.m.slots.contains_key(&from), self.m.slots.contains_key(&to)) {
            (false, _) => Err(Error::InvalidCap),
            (true, true) => Err(Error::Occupied),
            (true, false) => Ok(()),
        };
        assert_eq!(got, expected, "move {from} to {to}");
        if got.is_ok() {
            let entry = self.m.slots.remove(&from).unwrap();
            self.m.slots.insert(to, entry);
        }
    }

    fn step(&mut self) {
        match self.rng.u8(..20) {
            0..8 => self.retype(),
            8..13 => self.copy(),
            13..15 => self.move_cap(),
            15..18 => {
                let slot = self.any_slot();
                self.w.delete(slot).unwrap();
                self.m.delete(slot);
            }
            18 => {
                let slot = self.any_slot();
                self.w.revoke(slot).unwrap();
                self.m.revoke(slot);
            }
            _ => {
                // Rare enough that the home fills up in between.
                if self.rng.u8(..40) == 0 {
                    self.w.revoke(HOME).unwrap();
                    self.m.revoke(HOME);
                }
            }
        }
    }

    fn check(&self) {
        let mut spans: HashMap<u64, (u64, ObjType)> = HashMap::new();
        for s in SLOTS.chain([HOME]) {
            let slot = self.w.slot(s);
            let cap = slot.cap();
            let Some(e) = self.m.slots.get(&s) else {
                assert!(cap.is_null(), "slot {s} should be empty");
                continue;
            };
            assert_eq!((cap.ty(), cap.addr()), (Some(e.ty), e.object), "slot {s}");
            assert_eq!(cap.rights(), e.rights, "rights in slot {s}");
            if matches!(e.ty, ObjType::Endpoint | ObjType::Notification) {
                assert_eq!(cap.data(), e.badge, "badge in slot {s}");
            }
            // The list is linked both ways.
            if let Some(n) = slot.next() {
                assert!(n.prev() == Some(slot), "link after slot {s}");
            }
            let children = !self.m.children_of(e.id).is_empty();
            assert_eq!(mdb::has_children(slot), children, "children of slot {s}: {e:?}");
            if e.ty != ObjType::Untyped {
                let size = 1 << e.ty.bits(e.size_bits).unwrap();
                spans.insert(e.object, (size, e.ty));
            }
            if e.ty == ObjType::Untyped {
                for c in self.m.children_of(e.id).iter().map(|c| &self.m.slots[c]) {
                    let size = 1u64 << c.ty.bits(c.size_bits).unwrap();
                    let end = c.object + size - e.object;
                    assert!(
                        end <= Memory::of(cap).used,
                        "watermark of slot {s} below its child {c:?}"
                    );
                }
            }
        }
        let mut spans: Vec<_> = spans.into_iter().collect();
        spans.sort_unstable_by_key(|(at, _)| *at);
        for pair in spans.windows(2) {
            let ((a, (size, ty)), (b, other)) = (pair[0], pair[1]);
            assert!(a + size <= b, "{ty:?} at {a:#x} overlaps {other:?} at {b:#x}");
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn random_operations_agree_with_the_model() {
    let ops = number("KERNEL_MODEL_OPS", 1_000_000);
    let first = number("KERNEL_MODEL_SEED", 1);
    let each = ops.min(20_000);
    for seed in first..first + ops.div_ceil(each) {
        let run = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..each {
                run.step();
                run.check();
            }
            run.w.revoke(UNTYPED).unwrap();
            assert_eq!(run.w.free_bytes(), 1 << UNTYPED_BITS);
        });
        assert!(run.is_ok(), "KERNEL_MODEL_SEED={seed} fails");
    }
}
