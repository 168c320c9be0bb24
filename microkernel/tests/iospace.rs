//! What devices reach: mapping, unmapping, deleting and revoking in every order, seen with the eyes of
//! remapping hardware that walks the tables and keeps what it found until it is told to forget.

mod common;

use std::collections::BTreeMap;

use abi::{Error, Label, MapAttr, ObjType, Rights};
use common::*;
use microkernel::iospace::IoFault;
use microkernel::obj::read_word;

const READ: Rights = Rights::READ;
const WRITE: Rights = Rights::WRITE;
/// Slots of the tests.
const SPACE: u64 = FREE;
const TABLES: u64 = FREE + 1;
const FRAME: u64 = FREE + 8;
const CONTEXT: u64 = FREE + 9;
/// Bus 0, device 2, function 0.
const NIC: u16 = 0x10;
const AT: u64 = 0x123_4000;
const ADDR: u64 = 0x000f_ffff_ffff_f000;

/// What the hardware has found: domain, page and its rights by device and address.
type Cache = BTreeMap<(u16, u64), (u16, u64, u64)>;

impl World {
    fn table(&mut self, slot: u64, space: u64, at: u64) -> Result<u64, Error> {
        self.invoke(slot, Label::TableMap, [space, at, 0, 0, 0, 0])
    }
    fn frame(&mut self, slot: u64, space: u64, at: u64, rights: Rights) -> Result<(), Error> {
        self.invoke(slot, Label::FrameMap, [space, at, rights.bits() as u64, 0, 0, 0]).map(|_| ())
    }
    fn bind(&mut self, space: u64, device: u16) -> Result<(), Error> {
        self.invoke(IO_CONTROL, Label::IoBind, [space, device as u64, 0, 0, 0, 0]).map(|_| ())
    }
    /// Walks as the hardware does: domain, page and rights.
    fn walk(&self, device: u16, at: u64) -> Option<(u16, u64, u64)> {
        // SAFETY: the root table and what it leads to lie in the arena; that they are tables is what
        // is tested.
        let read = |pa: u64| unsafe { read_word(pa) };
        let root = read(self.io_root() + 16 * (device as u64 >> 8));
        let context = (root & ADDR) + 16 * (device as u64 & 0xff);
        if root & 1 == 0 || read(context) & 1 == 0 {
            return None;
        }
        assert_eq!((root & 0xffe, read(context) & 0xffe), (0, 0), "reserved bits");
        let levels = (read(context + 8) & 7) + 2;
        assert!(matches!(levels, 3 | 4));
        let mut entry = read(context) & !1 | 3;
        let mut rights = 3;
        for level in (1..=levels).rev() {
            entry = read((entry & ADDR) + 8 * (at >> (12 + 9 * (level - 1)) & 511));
            rights &= entry;
            if entry & 3 == 0 {
                return None;
            }
            if entry & 0x80 != 0 {
                assert_eq!(level, 2);
                let page = (entry & ADDR) + (at & 0x1f_f000);
                return Some(((read(context + 8) >> 8) as u16, page, rights & 3));
            }
        }
        Some(((read(context + 8) >> 8) as u16, entry & ADDR, rights & 3))
    }
    /// An IoSpace with the tables above [`AT`] in which a frame is mapped, given to [`NIC`].
    fn confined() -> Self {
        Self::confined_by(LEVELS)
    }
    fn confined_by(levels: u8) -> Self {
        let mut w = Self::new();
        let root = w.io_root();
        w.k.start_io(levels, root, false);
        w.retype(ObjType::IoSpace, 0, SPACE, 1).unwrap();
        w.retype(ObjType::PageTable, 0, TABLES, 3).unwrap();
        w.retype(ObjType::Frame, 12, FRAME, 1).unwrap();
        w.retype(ObjType::PageTable, 0, CONTEXT, 1).unwrap();
        assert_eq!(w.table(CONTEXT, IO_CONTROL, (NIC as u64) << 12), Ok(7));
        for i in (0..levels as u64 - 1).rev() {
            assert_eq!(w.frame(FRAME, SPACE, AT, READ), Err(Error::NoTable));
            assert_eq!(w.table(TABLES + i, SPACE, AT), Ok(i + 1));
        }
        w.frame(FRAME, SPACE, AT, READ).unwrap();
        w.bind(SPACE, NIC).unwrap();
        w
    }
}

#[test]
fn a_device_reaches_what_is_mapped_and_nothing_else() {
    let w = &mut World::confined();
    let page = w.slot(FRAME).cap().addr();
    assert_eq!(w.walk(NIC, AT), Some((1, page, 1)));
    assert_eq!(w.walk(NIC, AT + 4096), None);
    assert_eq!(w.walk(NIC + 1, AT), None);
    assert_eq!(w.walk(NIC | 0x100, AT), None);
    // Everything that the hardware reads was published after it was written.
    for slot in [SPACE, TABLES, TABLES + 1, CONTEXT] {
        let table = w.slot(slot).cap().addr();
        assert!(w.k.hw.published.contains(&(table, 4096)), "slot {slot}");
    }
    // A capability is mapped once, whether for a device or a thread.
    assert_eq!(w.frame(FRAME, VSPACE, AT, READ), Err(Error::Busy));
    w.copy(FRAME + 8, FRAME, WRITE).unwrap();
    assert_eq!(w.frame(FRAME + 8, SPACE, AT, WRITE), Err(Error::Occupied));
    assert_eq!(w.frame(FRAME + 8, SPACE, AT + 4096, READ), Err(Error::NoRights));
    w.frame(FRAME + 8, SPACE, AT + 4096, WRITE).unwrap();
    assert_eq!(w.walk(NIC, AT + 4096), Some((1, page, 2)));
}

#[test]
fn four_levels_reach_further() {
    let w = &mut World::confined_by(4);
    let page = w.slot(FRAME).cap().addr();
    assert_eq!(w.walk(NIC, AT), Some((1, page, 1)));
    assert_eq!(w.walk(NIC, AT | 1 << 39), None);
    let far = (1 << 48) - 4096;
    w.retype(ObjType::PageTable, 0, FRAME + 8, 3).unwrap();
    for i in 0..3 {
        assert_eq!(w.table(FRAME + 8 + i, SPACE, far), Ok(3 - i));
    }
    w.copy(FRAME + 11, FRAME, READ).unwrap();
    w.frame(FRAME + 11, SPACE, far, READ).unwrap();
    assert_eq!(w.walk(NIC, far), Some((1, page, 1)));
    w.delete(FRAME + 11).unwrap();
    assert_eq!(w.walk(NIC, far), None);
}

#[test]
fn arguments_are_checked() {
    let w = &mut World::confined();
    w.retype(ObjType::Frame, 12, FRAME + 8, 1).unwrap();
    w.retype(ObjType::PageTable, 0, FRAME + 9, 1).unwrap();
    let end = 1u64 << (12 + 9 * LEVELS as u64);
    let mut map = |at, rights: u64, attr| {
        w.invoke(FRAME + 8, Label::FrameMap, [SPACE, at, rights, attr, 0, 0]).map(|_| ())
    };
    assert_eq!(map(AT + 1, 1, 0), Err(Error::Alignment));
    assert_eq!(map(end, 1, 0), Err(Error::Range));
    assert_eq!(map(0, 1, 0), Err(Error::Range));
    assert_eq!(map(AT + 4096, 0, 0), Err(Error::Range));
    assert_eq!(map(AT + 4096, 5, 0), Err(Error::Range));
    for attr in [MapAttr::EXEC, MapAttr::UNCACHED] {
        assert_eq!(map(AT + 4096, 1, attr.bits() as u64), Err(Error::Range));
    }
    assert_eq!(w.table(FRAME + 9, SPACE, end), Err(Error::Range));
    assert_eq!(w.table(FRAME + 9, SPACE, AT), Err(Error::Occupied));
    assert_eq!(w.table(FRAME + 9, IO_CONTROL, 1 << 28), Err(Error::Range));
    assert_eq!(w.table(FRAME + 9, IO_CONTROL, 0), Err(Error::Occupied));
    assert_eq!(w.bind(SPACE, NIC + 1), Err(Error::Busy));
    w.retype(ObjType::IoSpace, 0, FRAME + 10, 1).unwrap();
    assert_eq!(w.bind(FRAME + 10, NIC), Err(Error::Occupied));
    assert_eq!(w.bind(FRAME + 10, 0x100), Err(Error::NoTable));
    assert_eq!(w.bind(FRAME, NIC), Err(Error::WrongType));
    let bind = [FRAME + 10, 0x1_0000, 0, 0, 0, 0];
    assert_eq!(w.invoke(IO_CONTROL, Label::IoBind, bind), Err(Error::Range));
    assert_eq!(w.invoke(FRAME + 10, Label::IoBind, bind), Err(Error::WrongType));
    assert_eq!(w.retype(ObjType::IoSpace, 0, FRAME + 11, 2), Err(Error::Range));
    assert_eq!(w.retype(ObjType::IoControl, 0, FRAME + 11, 1), Err(Error::Range));
    // A VSpace of threads is nothing for a device.
    assert_eq!(w.bind(VSPACE, NIC + 1), Err(Error::WrongType));
}

#[test]
fn without_hardware_there_are_no_domains() {
    let w = &mut World::new();
    w.k.start_io(0, 0, false);
    assert_eq!(w.retype(ObjType::IoSpace, 0, FREE, 1), Err(Error::NoMemory));
    w.retype(ObjType::PageTable, 0, FREE, 1).unwrap();
    assert_eq!(w.table(FREE, IO_CONTROL, 0), Err(Error::Range));
}

#[test]
fn deleting_any_part_takes_access_away_before_it_returns() {
    let undo: [fn(&mut World); 8] = [
        |w| w.delete(FRAME).unwrap(),
        |w| w.revoke(UNTYPED).unwrap(),
        |w| w.delete(TABLES).unwrap(),
        |w| w.delete(TABLES + 1).unwrap(),
        |w| w.delete(SPACE).unwrap(),
        |w| w.delete(CONTEXT).unwrap(),
        |w| w.invoke(FRAME, Label::FrameUnmap, [0; 6]).map(|_| ()).unwrap(),
        |w| w.invoke(TABLES, Label::TableUnmap, [0; 6]).map(|_| ()).unwrap(),
    ];
    for (i, undo) in undo.iter().enumerate() {
        let w = &mut World::confined();
        w.k.hw.forgotten.clear();
        undo(w);
        assert_eq!(w.walk(NIC, AT), None, "way {i}");
        let all_of_it = |d: &u16| matches!(d, 0 | 1);
        assert!(w.k.hw.forgotten.iter().any(all_of_it), "way {i}: still cached");
    }
}

#[test]
fn a_domain_number_that_comes_again_finds_nothing_of_the_old() {
    let w = &mut World::confined();
    w.delete(SPACE).unwrap();
    w.retype(ObjType::IoSpace, 0, SPACE, 1).unwrap();
    w.bind(SPACE, NIC).unwrap();
    assert_eq!(w.walk(NIC, AT), None);
    // The old mappings are stale: undoing them touches nothing of the new domain.
    let other = FRAME + 8;
    w.retype(ObjType::PageTable, 0, other, 3).unwrap();
    for i in 0..LEVELS as u64 - 1 {
        w.table(other + i, SPACE, AT).unwrap();
    }
    w.copy(other + 3, FRAME, READ).unwrap();
    w.frame(other + 3, SPACE, AT, READ).unwrap();
    w.delete(FRAME).unwrap();
    for i in 0..3 {
        w.delete(TABLES + i).unwrap();
    }
    assert!(w.walk(NIC, AT).is_some());
}

#[test]
fn a_bus_without_its_table_binds_again() {
    let w = &mut World::confined();
    w.delete(CONTEXT).unwrap();
    assert_eq!(w.bind(SPACE, NIC), Err(Error::NoTable));
    w.retype(ObjType::PageTable, 0, CONTEXT, 1).unwrap();
    w.table(CONTEXT, IO_CONTROL, 0).unwrap();
    assert_eq!(w.walk(NIC, AT), None);
    w.bind(SPACE, NIC).unwrap();
    assert!(w.walk(NIC, AT).is_some());
}

#[test]
fn hardware_that_caches_absence_is_told_of_each_new_entry() {
    let w = &mut World::confined();
    assert!(w.k.hw.forgotten.is_empty());
    let root = w.io_root();
    w.k.start_io(LEVELS, root, true);
    w.copy(FRAME + 8, FRAME, READ).unwrap();
    w.frame(FRAME + 8, SPACE, AT + 4096, READ).unwrap();
    assert_eq!(w.k.hw.forgotten, [0]);
}

#[test]
fn large_frames_and_the_number_of_domains() {
    let w = &mut World::confined();
    w.retype(ObjType::Frame, 21, FRAME + 8, 1).unwrap();
    let large = w.slot(FRAME + 8).cap().addr();
    assert_eq!(w.frame(FRAME + 8, SPACE, AT & !0x1f_ffff, READ), Err(Error::Occupied));
    w.frame(FRAME + 8, SPACE, 0x60_0000, READ | WRITE).unwrap();
    assert_eq!(w.walk(NIC, 0x61_2000), Some((1, large + 0x1_2000, 3)));
    w.delete(FRAME + 8).unwrap();
    assert_eq!(w.walk(NIC, 0x61_2000), None);
    for i in 0..14 {
        w.retype(ObjType::IoSpace, 0, FRAME + 10 + i, 1).unwrap();
    }
    assert_eq!(w.retype(ObjType::IoSpace, 0, FRAME + 30, 1), Err(Error::NoMemory));
}

#[test]
fn fault_records_are_handed_out_once() {
    let w = &mut World::confined();
    let fault = IoFault { address: 0x20_0000, device: NIC, write: true, reason: 5, lost: true };
    w.k.hw.io_faults.push(fault);
    assert_eq!(w.invoke(IO_CONTROL, Label::IoFault, [0; 6]), Ok(0x20_0000));
    assert_eq!(w.root.regs.get().r10, 0x0305_0010);
    assert_eq!(w.invoke(IO_CONTROL, Label::IoFault, [0; 6]), Err(Error::WouldBlock));
}

/// Random operations; after each, whatever the hardware reaches by walking or has cached must be
/// memory of a live frame with the right to be reached so.
#[test]
fn nothing_that_was_taken_back_is_reached() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    const DEVICES: [u16; 3] = [NIC, NIC + 8, 0x110];
    const PAGES: [u64; 4] = [0x1000, 0x2000, 0x20_0000, 0x4000_0000];
    let slots = FREE..FREE + 40;
    let w = &mut World::new();
    let (mut cache, mut reached) = (Cache::new(), 0);
    const HOME: u64 = FREE + 100;
    w.retype(ObjType::Untyped, 17, HOME, 1).unwrap();
    for op in 0..40_000 {
        let (slot, other) = (rng.u64(slots.clone()), rng.u64(slots.clone()));
        let spaces = slots.clone().filter(|s| w.slot(*s).cap().is(ObjType::IoSpace));
        let space = rng.choice(spaces.collect::<Vec<_>>()).unwrap_or(other);
        let (page, device) = (PAGES[rng.usize(..4)], DEVICES[rng.usize(..3)]);
        let rights = Rights::from_bits_truncate(rng.u8(1..4));
        let cap = w.slot(slot).cap();
        match (cap.ty(), rng.u8(..40)) {
            (None, _) => {
                let ty = match rng.u8(..8) {
                    0 => ObjType::IoSpace,
                    1..4 => ObjType::PageTable,
                    _ => ObjType::Frame,
                };
                let words = [ty as u64, 12, CNODE, slot, 1, 0];
                let full = w.invoke(HOME, Label::UntypedRetype, words).is_err();
                if full && rng.u8(..64) == 0 {
                    w.revoke(HOME).unwrap();
                }
            }
            (Some(_), 0) => w.delete(slot).unwrap(),
            (Some(ObjType::Frame), 1) => let_it(w.copy(other, slot, rights)),
            (Some(ObjType::Frame), 2) => let_it(w.invoke(slot, Label::FrameUnmap, [0; 6])),
            (Some(ObjType::Frame), 3) => w.revoke(slot).unwrap(),
            (Some(ObjType::Frame), 4) => let_it(w.frame(slot, VSPACE, page, rights)),
            (Some(ObjType::Frame), _) => let_it(w.frame(slot, space, page, rights)),
            (Some(ObjType::PageTable), 1) => let_it(w.invoke(slot, Label::TableUnmap, [0; 6])),
            (Some(ObjType::PageTable), 2..10) => {
                let_it(w.table(slot, IO_CONTROL, (device as u64) << 12));
            }
            (Some(ObjType::PageTable), 10) => let_it(w.table(slot, VSPACE, page)),
            (Some(ObjType::PageTable), _) => let_it(w.table(slot, space, page)),
            (Some(_), 1) => let_it(w.copy(other, slot, Rights::all())),
            (Some(_), _) => let_it(w.bind(slot, device)),
        }
        for domain in w.k.hw.forgotten.drain(..) {
            cache.retain(|_, (d, ..)| domain != 0 && *d != domain);
        }
        w.k.hw.published.clear();
        for device in DEVICES {
            for page in PAGES {
                if let Some(found) = w.walk(device, page) {
                    cache.entry((device, page)).or_insert(found);
                }
            }
        }
        reached += cache.len();
        for ((device, page), (_, frame, rights)) in &cache {
            let live = slots.clone().map(|s| w.slot(s).cap()).any(|c| {
                let may = c.rights().contains(Rights::from_bits_truncate(*rights as u8));
                c.is(ObjType::Frame) && c.addr() == *frame && c.data() != 0 && may
            });
            assert!(live, "operation {op}: {device:#x} reaches {frame:#x} at {page:#x}");
        }
    }
    assert!(reached > 10_000, "only {reached} translations were looked at");
}

/// Random operations may be refused.
fn let_it<T>(_: Result<T, Error>) {}
