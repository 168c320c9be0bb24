//! The fast path does what the general path does: two kernels get the same random system calls, one
//! of them by the fast path where it can, and must agree on everything after each.

mod common;

use abi::{FaultKind, Label, MsgInfo, ObjType, Syscall, UserRegs};
use common::*;
use microkernel::Obj;
use microkernel::thread::{State, Tcb};

const ENDPOINTS: u64 = FREE;
const REPLIES: u64 = FREE + 4;
const NOTIFICATION: u64 = FREE + 8;
/// Two interrupt handlers: of a line by level, and of one by edge.
const IRQS: u64 = FREE + 12;
const THREADS: u64 = FREE + 14;
const N: u64 = 5;

struct Side {
    w: World,
    threads: Vec<Obj<Tcb>>,
    fast: bool,
    taken: u64,
    faults: u64,
}

impl Side {
    fn new(fast: bool, priorities: &[u8]) -> Self {
        let mut w = World::new();
        w.retype(ObjType::Endpoint, 0, ENDPOINTS, 1).unwrap();
        w.mint(ENDPOINTS + 1, ENDPOINTS, 7).unwrap();
        w.copy(ENDPOINTS + 2, ENDPOINTS, abi::Rights::READ).unwrap();
        w.retype(ObjType::Endpoint, 0, ENDPOINTS + 3, 1).unwrap();
        w.retype(ObjType::Reply, 0, REPLIES, 3).unwrap();
        w.retype(ObjType::Notification, 0, NOTIFICATION, 1).unwrap();
        w.mint(NOTIFICATION + 1, NOTIFICATION, 4).unwrap();
        // One that is bound to nobody.
        w.retype(ObjType::Notification, 0, NOTIFICATION + 2, 1).unwrap();
        w.mint(NOTIFICATION + 3, NOTIFICATION + 2, 8).unwrap();
        for (i, level) in [1, 0].into_iter().enumerate() {
            let (slot, line) = (IRQS + i as u64, 4 + i as u64);
            w.invoke(IRQ_CONTROL, Label::IrqGet, [line, level, CNODE, slot, 0, 0]).unwrap();
            w.invoke(slot, Label::IrqSetNotification, [NOTIFICATION + 3, 0, 0, 0, 0, 0]).unwrap();
        }
        let mut threads: Vec<_> =
            (0..N).map(|i| w.thread(THREADS + 3 * i, priorities[i as usize])).collect();
        w.invoke(THREADS, Label::ThreadBindNotification, [NOTIFICATION, 0, 0, 0, 0, 0]).unwrap();
        // Two whose faults are handled.
        for t in [THREADS, THREADS + 3] {
            let w4 = [CNODE, VSPACE, ENDPOINTS + 1, t + 2, 0, 0];
            w.invoke(t, Label::ThreadConfigure, w4).unwrap();
        }
        // One without an IPC buffer.
        w.invoke(THREADS + 12, Label::ThreadConfigure, [CNODE, VSPACE, 0, 0, 0, 0]).unwrap();
        // One with a budget, and one that is passive once it waits.
        w.invoke(THREADS + 4, Label::SchedConfigure, [40_000, 150_000, 0, 0, 0, 0]).unwrap();
        w.invoke(THREADS + 10, Label::SchedUnbind, [0; 6]).unwrap();
        w.invoke(THREADS + 9, Label::ThreadBindSched, [THREADS + 10, 1, 0, 0, 0, 0]).unwrap();
        w.root.priority.set(1);
        threads.push(w.root);
        w.k.cpu.current = Some(w.root);
        w.k.schedule();
        Self { w, threads, fast, taken: 0, faults: 0 }
    }
    fn current(&self) -> Option<usize> {
        let current = self.w.k.cpu.current?;
        self.threads.iter().position(|t| *t == current)
    }
    fn call(&mut self, t: usize, call: Syscall, regs: UserRegs) {
        let t = self.threads[t];
        t.regs.set(UserRegs { rax: call as u64, ..regs });
        if self.fast && self.w.k.fast_path(t) {
            self.taken += 1;
            // As the entry code does: a call and a reply have settled by themselves.
            if !matches!(call, Syscall::Call | Syscall::ReplyRecv) {
                self.w.k.settle();
            }
        } else {
            assert!(self.w.k.syscall(t).is_ok());
            self.w.k.schedule();
        }
    }
    fn fault(&mut self, t: usize, addr: u64) {
        let t = self.threads[t];
        if self.fast && self.w.k.fast_fault(t, FaultKind::Page, addr, 6).is_some() {
            self.faults += 1;
            self.w.k.settle();
        } else {
            // (Who has nobody to tell stays stopped.)
            let _ = self.w.k.fault(t, FaultKind::Page, addr, 6);
            self.w.k.schedule();
        }
    }
    fn pass(&mut self, ns: u64) {
        self.w.k.hw.now += ns;
        if self.w.k.hw.deadline <= self.w.k.hw.now {
            self.w.k.hw.deadline = u64::MAX;
            self.w.k.timer_interrupt();
        }
        self.w.k.schedule();
    }
    fn consumed(&mut self) -> u64 {
        let (current, regs) = (self.w.k.cpu.current, self.w.root.regs.get());
        let consumed = self.w.invoke(THREADS + 4, Label::SchedConsumed, [0; 6]).unwrap();
        self.w.k.cpu.current = current;
        self.w.root.regs.set(regs);
        consumed
    }
    fn state(&mut self) -> Vec<((State, bool, UserRegs), Vec<u8>)> {
        let threads = self.threads.clone();
        threads
            .into_iter()
            .map(|t| {
                let buffer = t.buffer_frame().map(|_| self.w.buffer(t)[..1100].to_vec());
                ((t.state.get(), t.fault_is_none(), t.regs.get()), buffer.unwrap_or_default())
            })
            .collect()
    }
}

#[test]
fn both_paths_agree() {
    let (mut taken, mut handled) = (0, 0);
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let priorities: Vec<u8> = (0..N).map(|_| 10 + rng.u8(..3)).collect();
        let mut sides = [Side::new(false, &priorities), Side::new(true, &priorities)];
        for step in 0..2000 {
            let current = sides[0].current();
            assert_eq!(current, sides[1].current(), "seed {seed} step {step}: who runs");
            let t = current.expect("the root thread never blocks");
            let root = t == N as usize;
            let call = match rng.u8(..16) {
                _ if root => Syscall::Send,
                0..4 => Syscall::Call,
                4..8 => Syscall::ReplyRecv,
                8..10 => Syscall::Recv,
                10 => Syscall::NbSend,
                11 => Syscall::Send,
                12..14 => Syscall::SignalWait,
                _ => Syscall::AckWait,
            };
            let len = [0, 0, 5, 64, 1024, 1025][rng.usize(..6)];
            let cap = match call {
                _ if root => NOTIFICATION + 1 + 2 * rng.u64(..2),
                Syscall::ReplyRecv => ENDPOINTS + 2 * rng.u64(..2),
                Syscall::Recv => [ENDPOINTS, ENDPOINTS + 2, NOTIFICATION + 2][rng.usize(..3)],
                Syscall::Send | Syscall::SignalWait => NOTIFICATION + rng.u64(..4),
                Syscall::AckWait => IRQS + rng.u64(..3),
                _ => {
                    [ENDPOINTS + 1, ENDPOINTS + 1, ENDPOINTS + 3, NOTIFICATION + 1][rng.usize(..4)]
                }
            };
            let regs = UserRegs {
                rdi: cap,
                rsi: MsgInfo::new(3, 1, rng.u16(..), len).0 | rng.u64(..4) << 56,
                rdx: rng.u64(..),
                r10: rng.u64(..),
                r8: rng.u64(..),
                r9: rng.u64(..),
                r14: match call {
                    Syscall::SignalWait | Syscall::AckWait => NOTIFICATION + rng.u64(..4),
                    _ => REPLIES + rng.u64(..3),
                },
                ..UserRegs::default()
            };
            let byte = rng.u8(..);
            let faults = !root && rng.u8(..16) == 0;
            let ns = rng.u64(..10_000);
            let fires = (rng.u8(..8) == 0).then(|| 4 + rng.u32(..2));
            // Now and then everybody is set free, so that it does not end in mutual waiting.
            let free = root && rng.u8(..4) == 0;
            for s in &mut sides {
                if s.threads[t].buffer_frame().is_some() {
                    let thread = s.threads[t];
                    s.w.buffer(thread)[..1024].fill(byte);
                }
                match faults {
                    true => s.fault(t, regs.rdx),
                    false => s.call(t, call, regs),
                }
                let current = s.w.k.cpu.current.expect("the root thread never blocks");
                assert!(current.runnable(), "seed {seed} step {step}: {call:?} of {t}");
                if let Some(line) = fires {
                    s.w.k.irq_fired(line);
                    s.w.k.schedule();
                }
                if free {
                    for i in 0..N as usize {
                        let thread = s.threads[i];
                        s.w.k.resume(thread);
                    }
                    // The passive one gets its context again, if that is free.
                    let regs = s.w.root.regs.get();
                    let _ = s.w.invoke(
                        THREADS + 9,
                        Label::ThreadBindSched,
                        [THREADS + 10, 1, 0, 0, 0, 0],
                    );
                    s.w.root.regs.set(regs);
                    s.w.k.schedule();
                }
                s.pass(ns);
            }
            let [a, b] = &mut sides;
            for (i, (a, b)) in a.state().into_iter().zip(b.state()).enumerate() {
                let what = format!("seed {seed} step {step}: {call:?} of {t}: thread {i}");
                assert_eq!(a.0, b.0, "{what}");
                assert!(a.1 == b.1, "{what}: the buffers differ");
            }
            assert_eq!(a.consumed(), b.consumed(), "seed {seed} step {step}: time used");
        }
        taken += sides[1].taken;
        handled += sides[1].faults;
        assert!(sides[0].consumed() > 0, "the limited thread ran");
    }
    assert!(handled > 50, "{handled} faults took the fast path: too few to prove anything");
    assert!(taken > 5_000, "the fast path was taken {taken} times: too few to prove anything");
}
