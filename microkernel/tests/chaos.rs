//! Random calls by threads that disturb each other: long operations are left half way, and others go on with what
//! they left; threads die in their own calls; containers hold each other. What a call answers does not matter
//! here (`model.rs` looks at that), what holds between calls does (`common/invariants.rs`), and that
//! revoking gives everything back.
//!
//! `KERNEL_CHAOS_OPS` and `KERNEL_MODEL_SEED` change how long it runs and where it starts; a failure
//! prints the seed.

mod common;

use abi::{Label, MsgInfo, ObjType, Syscall, UserRegs};
use common::invariants::translate;
use common::*;
use microkernel::Obj;
use microkernel::thread::{State, Tcb};

/// Slots of the root CNode that operations use.
const SLOTS: std::ops::Range<u64> = FREE..FREE + 40;
/// The untyped that all comes from.
const HOME: u64 = FREE + 100;
const HOME_BITS: u8 = 17;
/// Page tables that stay.
const TABLES: u64 = FREE + 110;
/// Priority of everybody: they take turns.
const PRIORITY: u8 = 100;
/// Where things are mapped: in two page tables of two directories.
const PLACES: [u64; 8] = [
    0x20_0000,
    0x20_1000,
    0x40_0000,
    0x40_3000,
    0x80_0000_0000,
    0x80_0000_1000,
    0x80_0020_0000,
    0x80_4000_0000,
];
const TYPES: [(ObjType, u8); 16] = [
    (ObjType::Untyped, 12),
    (ObjType::Untyped, 14),
    (ObjType::CNode, 1),
    (ObjType::CNode, 3),
    (ObjType::CNode, 6),
    (ObjType::Thread, 0),
    (ObjType::Thread, 0),
    (ObjType::SchedContext, 0),
    (ObjType::Endpoint, 0),
    (ObjType::Notification, 0),
    (ObjType::Reply, 0),
    (ObjType::Timer, 0),
    (ObjType::VSpace, 0),
    (ObjType::PageTable, 0),
    (ObjType::PageTable, 0),
    (ObjType::Frame, 12),
];
const LABELS: [Label; 32] = [
    Label::UntypedRetype,
    Label::UntypedRetype,
    Label::UntypedRetype,
    Label::CNodeCopy,
    Label::CNodeCopy,
    Label::CNodeMint,
    Label::CNodeMove,
    Label::CNodeMove,
    Label::CNodeMove,
    Label::CNodeDelete,
    Label::CNodeDelete,
    Label::CNodeRevoke,
    Label::CNodeCloseEndpoint,
    Label::ThreadConfigure,
    Label::ThreadConfigure,
    Label::ThreadBindSched,
    Label::ThreadBindNotification,
    Label::ThreadWriteRegisters,
    Label::ThreadResume,
    Label::ThreadSuspend,
    Label::ThreadSetTimeout,
    Label::SchedConfigure,
    Label::SchedUnbind,
    Label::TableMap,
    Label::TableMap,
    Label::TableUnmap,
    Label::FrameMap,
    Label::FrameMap,
    Label::FrameUnmap,
    Label::IrqGet,
    Label::TimerSetNotification,
    Label::TimerArm,
];

struct Chaos {
    w: World,
    rng: fastrand::Rng,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut w = World::new();
        w.k.hw.preempts = Some(fastrand::Rng::with_seed(seed));
        w.retype(ObjType::Untyped, HOME_BITS, HOME, 1).unwrap();
        // The root's address space has its tables already.
        w.retype(ObjType::PageTable, 0, TABLES, 4).unwrap();
        for (i, at) in [PLACES[0], PLACES[0], PLACES[0], PLACES[2]].into_iter().enumerate() {
            let words = [VSPACE, at, 0, 0, 0, 0];
            w.invoke(TABLES + i as u64, Label::TableMap, words).unwrap();
        }
        Self { w, rng: fastrand::Rng::with_seed(seed) }
    }

    /// A slot that holds a capability of type `ty`, if a few tries find one.
    fn slot_of(&mut self, ty: ObjType) -> u64 {
        for _ in 0..12 {
            let slot = self.rng.u64(SLOTS);
            if self.w.slot(slot).cap().is(ty) {
                return slot;
            }
        }
        self.rng.u64(SLOTS)
    }

    /// A CNode and an index in it: mostly the root's.
    fn place(&mut self) -> (u64, u64) {
        match self.rng.u8(..3) {
            0 => (self.slot_of(ObjType::CNode), self.rng.u64(..8)),
            _ => (CNODE, self.rng.u64(SLOTS)),
        }
    }

    /// A slot of the root that holds something that can hold others.
    fn container(&mut self) -> u64 {
        let ty = if self.rng.u8(..3) == 0 { ObjType::Thread } else { ObjType::CNode };
        self.slot_of(ty)
    }

    /// A random invocation, mostly of what has such a method.
    fn invocation(&mut self) -> UserRegs {
        let label = LABELS[self.rng.usize(..LABELS.len())];
        let (node, index) = self.place();
        let (from_node, from) = self.place();
        let rights = if self.rng.bool() { 7 } else { self.rng.u64(..8) };
        let maybe = |slot: u64, rng: &mut fastrand::Rng| if rng.bool() { slot } else { 0 };
        let endpoint = self.slot_of(ObjType::Endpoint);
        let endpoint = maybe(endpoint, &mut self.rng);
        let notification = self.slot_of(ObjType::Notification);
        let vspace = match self.rng.u8(..3) {
            0 => VSPACE,
            _ => self.slot_of(ObjType::VSpace),
        };
        let at = PLACES[self.rng.usize(..PLACES.len())];
        let (cap, w) = match label {
            Label::UntypedRetype => {
                let (ty, bits) = TYPES[self.rng.usize(..TYPES.len())];
                let untyped = if self.rng.bool() { HOME } else { self.slot_of(ObjType::Untyped) };
                (untyped, [ty as u64, bits as u64, node, index, self.rng.u64(1..4), 0])
            }
            Label::CNodeCopy => (node, [index, from_node, from, rights, 0, 0]),
            Label::CNodeMint => {
                let badge = [1, 2, 3, 0x101, 61, 63][self.rng.usize(..6)];
                (node, [index, from_node, from, rights, badge, 0])
            }
            // Containers into containers, and away with them.
            Label::CNodeMove if self.rng.bool() => {
                let (node, what) = (self.slot_of(ObjType::CNode), self.container());
                (node, [self.rng.u64(..8), CNODE, what, 7, 0, 0])
            }
            Label::CNodeDelete if self.rng.bool() => (CNODE, [self.container(), 0, 0, 0, 0, 0]),
            Label::CNodeMove => (node, [index, from_node, from, 0, 0, 0]),
            Label::CNodeDelete => (node, [index, 0, 0, 0, 0, 0]),
            // Rare enough that things come to be.
            Label::CNodeRevoke if self.rng.u8(..12) == 0 => (CNODE, [HOME, 0, 0, 0, 0, 0]),
            Label::CNodeRevoke | Label::CNodeCloseEndpoint => (node, [index, 0, 0, 0, 0, 0]),
            Label::ThreadConfigure => {
                let cspace = if self.rng.bool() { CNODE } else { self.slot_of(ObjType::CNode) };
                let frame = self.slot_of(ObjType::Frame);
                let buffer = maybe(frame, &mut self.rng);
                (self.slot_of(ObjType::Thread), [cspace, vspace, endpoint, buffer, 0, 0])
            }
            Label::ThreadBindSched => {
                let sched = self.slot_of(ObjType::SchedContext);
                (self.slot_of(ObjType::Thread), [sched, 0, 0, 0, 0, 0])
            }
            Label::ThreadBindNotification => {
                (self.slot_of(ObjType::Thread), [notification, 0, 0, 0, 0, 0])
            }
            Label::ThreadWriteRegisters => {
                (self.slot_of(ObjType::Thread), [0x1000, 0x2000, 0, 0, 1, 0])
            }
            Label::ThreadSetTimeout => (self.slot_of(ObjType::Thread), [endpoint, 0, 0, 0, 0, 0]),
            Label::ThreadResume | Label::ThreadSuspend => (self.slot_of(ObjType::Thread), [0; 6]),
            Label::SchedConfigure => {
                let budget = if self.rng.bool() { u64::MAX } else { 20_000 };
                (self.slot_of(ObjType::SchedContext), [budget, 50_000, 0, 0, 0, 0])
            }
            Label::SchedUnbind => (self.slot_of(ObjType::SchedContext), [0; 6]),
            Label::TableMap => (self.slot_of(ObjType::PageTable), [vspace, at, 0, 0, 0, 0]),
            Label::FrameMap => (self.slot_of(ObjType::Frame), [vspace, at, rights & 3, 0, 0, 0]),
            Label::TableUnmap => (self.slot_of(ObjType::PageTable), [0; 6]),
            Label::FrameUnmap => (self.slot_of(ObjType::Frame), [0; 6]),
            Label::IrqGet => match self.rng.u8(..3) {
                0 => (IRQ_CONTROL, [self.rng.u64(..3), 1, node, index, 0, 0]),
                1 => return invocation(self.slot_of(ObjType::IrqHandler), Label::IrqAck, [0; 6]),
                _ => {
                    let handler = self.slot_of(ObjType::IrqHandler);
                    let w = [notification, 0, 0, 0, 0, 0];
                    return invocation(handler, Label::IrqSetNotification, w);
                }
            },
            Label::TimerSetNotification => {
                (self.slot_of(ObjType::Timer), [notification, 0, 0, 0, 0, 0])
            }
            _ => {
                let at = self.w.k.hw.now + self.rng.u64(..100_000);
                (self.slot_of(ObjType::Timer), [at, 0, 0, 0, 0, 0])
            }
        };
        invocation(cap, label, w)
    }

    /// A call by which threads meet.
    fn message(&mut self) -> UserRegs {
        let calls = [
            Syscall::Call,
            Syscall::Send,
            Syscall::NbSend,
            Syscall::Recv,
            Syscall::NbRecv,
            Syscall::ReplyRecv,
            Syscall::Reply,
            Syscall::SignalWait,
        ];
        let call = calls[self.rng.usize(..calls.len())];
        let ty = if self.rng.bool() { ObjType::Endpoint } else { ObjType::Notification };
        let cap = if call == Syscall::Reply { ObjType::Reply } else { ty };
        let second =
            if call == Syscall::SignalWait { ObjType::Notification } else { ObjType::Reply };
        UserRegs {
            rax: call as u64,
            rdi: self.slot_of(cap),
            rsi: MsgInfo::new(1, 1, 1, 16).0,
            r14: self.slot_of(second),
            rip: 0x40_0002,
            ..Default::default()
        }
    }

    /// Lets threads pass the processor on until `t` has it; whether it came.
    fn turn(&mut self, t: Obj<Tcb>) -> bool {
        for _ in 0..100 {
            match self.w.k.cpu.current {
                Some(c) if c == t => return true,
                Some(c) => {
                    c.with_regs(|r| r.rax = Syscall::Yield as u64);
                    self.w.attempt(c);
                }
                None => {}
            }
            self.w.k.schedule();
        }
        false
    }

    /// Makes a call, or the first parts of it.
    fn perform(&mut self, t: Obj<Tcb>, regs: UserRegs) {
        t.regs.set(regs);
        let parts = if self.rng.u8(..4) == 0 { self.rng.usize(1..12) } else { usize::MAX };
        self.w.k.hw.always = parts < usize::MAX;
        for _ in 0..parts {
            if self.w.attempt(t) {
                break;
            }
            self.w.check();
        }
        self.w.k.hw.always = false;
        self.w.k.schedule();
    }

    fn step(&mut self) {
        let root = self.w.root;
        match self.rng.u8(..16) {
            // Another thread, if there is one that can, does what it likes.
            0..5 => {
                let slot = self.slot_of(ObjType::Thread);
                let Some(t) = self.w.slot(slot).cap().thread() else { return };
                if t.priority.get() != PRIORITY {
                    let w = [PRIORITY as u64, 0, 0, 0, 0, 0];
                    return self.perform(root, invocation(slot, Label::ThreadSetPriority, w));
                }
                if t.state.get() == State::Running && self.turn(t) {
                    let regs = if self.rng.bool() { self.message() } else { self.invocation() };
                    self.perform(t, regs);
                }
            }
            5 => {
                self.w.k.hw.now += self.rng.u64(..50_000);
                if self.w.k.hw.deadline <= self.w.k.hw.now {
                    self.w.k.timer_interrupt();
                }
                self.w.k.irq_fired(self.rng.u32(..3));
                self.w.k.schedule();
            }
            // The processor translates, and remembers.
            6 => {
                let at = PLACES[self.rng.usize(..PLACES.len())];
                let loaded = self.w.k.hw.loaded;
                if let Some(entry) = (loaded != 0).then(|| translate(loaded, at)).flatten() {
                    self.w.k.hw.tlb.insert(at, entry);
                }
            }
            _ => {
                let regs = self.invocation();
                // (A call on an endpoint would have it wait.)
                if !self.w.slot(regs.rdi).cap().is(ObjType::Endpoint) {
                    self.perform(root, regs);
                }
            }
        }
        assert!(self.turn(root), "the root thread runs on");
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn whatever_is_left_half_way_holds_together() {
    let ops = number("KERNEL_CHAOS_OPS", 200_000);
    let first = number("KERNEL_MODEL_SEED", 1);
    let each = ops.min(2_000);
    for seed in first..first + ops.div_ceil(each) {
        let run = std::panic::catch_unwind(|| {
            let mut run = Chaos::new(seed);
            for i in 0..each {
                run.step();
                match i % 32 {
                    0 => run.w.check_all(),
                    _ => run.w.check(),
                }
            }
            run.w.revoke(IRQ_CONTROL).unwrap();
            run.w.revoke(UNTYPED).unwrap();
            run.w.check_all();
            assert_eq!(run.w.free_bytes(), 1 << UNTYPED_BITS);
            for slot in SLOTS {
                let cap = run.w.slot(slot).cap();
                assert!(
                    cap.is_null() || [ObjType::CNode, ObjType::VSpace].iter().any(|ty| cap.is(*ty)),
                    "slot {slot}"
                );
            }
        });
        assert!(run.is_ok(), "KERNEL_MODEL_SEED={seed} fails");
    }
}
