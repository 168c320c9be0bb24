//! A kernel on the host: an arena for memory, a platform that records, a root thread that makes
//! system calls.
#![allow(dead_code)]

pub mod invariants;

use abi::{Error, Label, MsgInfo, ObjType, Rights, Syscall, UserRegs};
use microkernel::cap::{Cap, Slot};
use microkernel::cspace::flat_guard;
use microkernel::iospace::IoFault;
use microkernel::thread::Tcb;
use microkernel::{Kernel, Obj, Platform, mdb};
use std::alloc::{Layout, alloc_zeroed, dealloc};

/// log2 of the root CNode's slots.
pub const RADIX: u8 = 12;
/// Slots of the root thread.
pub const CNODE: u64 = 1;
pub const VSPACE: u64 = 2;
pub const TCB: u64 = 3;
pub const IRQ_CONTROL: u64 = 4;
pub const IO_PORTS: u64 = 5;
pub const TRACE_SLOT: u64 = 6;
pub const IO_CONTROL: u64 = 9;
/// Levels of IoSpaces.
pub const LEVELS: u8 = 3;
pub const UNTYPED: u64 = 16;
pub const FREE: u64 = 32;
/// log2 of the untyped at [`UNTYPED`]. (Miri keeps a shadow of every byte.)
pub const UNTYPED_BITS: u8 = if cfg!(miri) { 21 } else { 24 };

/// Registers for an invocation, just behind the system call's instruction.
pub fn invocation(cap: u64, label: Label, w: [u64; 6]) -> UserRegs {
    UserRegs {
        rax: Syscall::Call as u64,
        rdi: cap,
        rsi: MsgInfo::invoke(label).0,
        rdx: w[0],
        r10: w[1],
        r8: w[2],
        r9: w[3],
        r12: w[4],
        r13: w[5],
        rip: 0x40_0002,
        ..Default::default()
    }
}

#[derive(Default)]
pub struct Fake {
    pub now: u64,
    pub deadline: u64,
    pub masked: Vec<(u32, bool)>,
    pub ports: Vec<(u16, u8, u32)>,
    pub loaded: u64,
    pub flushed: Vec<u64>,
    /// Domains that the DMA remapping hardware was told to forget.
    pub forgotten: Vec<u16>,
    /// What was published to it.
    pub published: Vec<(u64, u64)>,
    pub io_faults: Vec<IoFault>,
    /// Where operations stop to be restarted: at random, or never.
    pub preempts: Option<fastrand::Rng>,
    /// Translations that the processor has cached.
    pub tlb: std::collections::HashMap<u64, u64>,
    /// They stop after every step.
    pub always: bool,
}

impl Platform for Fake {
    fn now(&self) -> u64 {
        self.now
    }
    fn set_deadline(&mut self, at: u64) {
        self.deadline = at;
    }
    fn irq_configure(&mut self, _gsi: u32, _level: bool, _low: bool) {}
    fn irq_mask(&mut self, gsi: u32, masked: bool) {
        self.masked.push((gsi, masked));
    }
    fn port_in(&mut self, port: u16, bytes: u8) -> u32 {
        port as u32 + bytes as u32
    }
    fn port_out(&mut self, port: u16, bytes: u8, value: u32) {
        self.ports.push((port, bytes, value));
    }
    fn load_vspace(&mut self, pml4: u64) {
        self.loaded = pml4;
        self.tlb.clear();
    }
    fn flush_page(&mut self, vaddr: u64) {
        self.flushed.push(vaddr);
        self.tlb.remove(&vaddr);
    }
    fn flush_all(&mut self) {
        self.flushed.push(u64::MAX);
        self.tlb.clear();
    }
    fn kernel_half(&self) -> [u64; 256] {
        [0; 256]
    }
    fn load_segments(&mut self, _fs_base: u64) {}
    fn io_publish(&mut self, pa: u64, bytes: u64) {
        self.published.push((pa, bytes));
    }
    fn io_forget(&mut self, domain: u16) {
        self.forgotten.push(domain);
    }
    fn io_fault(&mut self) -> Option<IoFault> {
        self.io_faults.pop()
    }
    fn work_limit(&mut self) -> u32 {
        if self.always {
            return 0;
        }
        self.preempts.as_mut().map_or(u32::MAX, |r| if r.bool() { 0 } else { r.u32(..4000) })
    }
}

/// A kernel with a root thread.
pub struct World {
    pub k: Box<Kernel<Fake>>,
    pub root: Obj<Tcb>,
    cnode: Cap,
    arena: *mut u8,
}

const ARENA: usize = 1 << (UNTYPED_BITS + 1);

impl Drop for World {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; the kernel that used it goes with it.
        unsafe { dealloc(self.arena, Layout::from_size_align(ARENA, ARENA).unwrap()) };
    }
}

impl World {
    pub fn new() -> Self {
        // SAFETY: a valid layout of non-zero size.
        let arena = unsafe { alloc_zeroed(Layout::from_size_align(ARENA, ARENA).unwrap()) };
        let base = arena as u64;
        let preempts = Some(fastrand::Rng::with_seed(7));
        let mut k = Box::new(Kernel::new(Fake { preempts, ..Fake::default() }));
        let cnode = Cap::new(ObjType::CNode, base, RADIX).with_data(flat_guard(RADIX));
        let tcb = Cap::new(ObjType::Thread, base + (1 << 20), 0);
        let sched = Cap::new(ObjType::SchedContext, base + (1 << 20) + 4096, 0);
        let pml4 = base + (1 << 20) + 8192;
        let asid = k.new_asid().unwrap();
        k.new_vspace(pml4, asid);
        k.start_io(LEVELS, pml4 + 4096, false);
        let caps = [
            (CNODE, cnode),
            (VSPACE, Cap::new(ObjType::VSpace, pml4, 0)),
            (TCB, tcb),
            (IRQ_CONTROL, Cap::new(ObjType::IrqControl, 0, 0)),
            (IO_PORTS, Cap::new(ObjType::IoPort, 0, 0).with_data(0xffff)),
            (TRACE_SLOT, Cap::new(ObjType::Trace, 0, 0)),
            (IO_CONTROL, Cap::new(ObjType::IoControl, 0, 0)),
            (UNTYPED, Cap::new(ObjType::Untyped, base + (1 << UNTYPED_BITS), UNTYPED_BITS)),
        ];
        for (slot, cap) in caps {
            mdb::insert_root(cap, cnode.cnode_slot(slot).unwrap());
        }
        let root = tcb.thread().unwrap();
        let source = cnode.cnode_slot(CNODE).unwrap();
        mdb::insert(source.cap(), source, root.cspace(), false);
        let source = cnode.cnode_slot(VSPACE).unwrap();
        mdb::insert(source.cap(), source, root.vspace(), false);
        root.priority.set(100);
        k.start_root(root, sched.sched_context().unwrap());
        k.schedule();
        Self { k, root, cnode, arena }
    }

    /// The root table of the DMA remapping hardware.
    pub fn io_root(&self) -> u64 {
        self.arena as u64 + (1 << 20) + 8192 + 4096
    }

    pub fn slot(&self, index: u64) -> Obj<Slot> {
        self.cnode.cnode_slot(index).unwrap()
    }

    /// Makes thread `t` the caller of a system call; returns its registers afterwards.
    pub fn syscall(&mut self, t: Obj<Tcb>, call: Syscall, regs: UserRegs) -> UserRegs {
        let regs = UserRegs { rax: call as u64, ..regs };
        t.regs.set(regs);
        while !self.attempt(t) {}
        t.regs.get()
    }

    /// Lets `t` make the call in its registers; `false`: it was preempted, and would make it again.
    pub fn attempt(&mut self, t: Obj<Tcb>) -> bool {
        self.k.cpu.current = Some(t);
        let before = t.regs.get();
        assert!(self.k.syscall(t).is_ok(), "known system calls do not fault");
        let after = t.regs.get();
        if after.rip == before.rip {
            return true;
        }
        t.regs.set(before);
        let rip = before.rip.wrapping_sub(2);
        let expected = UserRegs { rip, ..before };
        assert_eq!(after, expected, "a restart is exact");
        // It does not come back if its own deletion was part of it.
        self.k.cpu.current != Some(t)
    }

    pub fn invoke(&mut self, cap: u64, label: Label, w: [u64; 6]) -> Result<u64, Error> {
        let out = self.syscall(self.root, Syscall::Call, invocation(cap, label, w));
        Error::from_raw(out.rax).map_or(Ok(out.rdx), Err)
    }

    pub fn retype(&mut self, ty: ObjType, bits: u8, at: u64, count: u64) -> Result<(), Error> {
        let w = [ty as u64, bits as u64, CNODE, at, count, 0];
        self.invoke(UNTYPED, Label::UntypedRetype, w).map(|_| ())
    }

    pub fn copy(&mut self, dest: u64, source: u64, rights: Rights) -> Result<(), Error> {
        let w = [dest, CNODE, source, rights.bits() as u64, 0, 0];
        self.invoke(CNODE, Label::CNodeCopy, w).map(|_| ())
    }

    pub fn mint(&mut self, dest: u64, source: u64, badge: u64) -> Result<(), Error> {
        let w = [dest, CNODE, source, Rights::all().bits() as u64, badge, 0];
        self.invoke(CNODE, Label::CNodeMint, w).map(|_| ())
    }

    pub fn delete(&mut self, slot: u64) -> Result<(), Error> {
        self.invoke(CNODE, Label::CNodeDelete, [slot, 0, 0, 0, 0, 0]).map(|_| ())
    }

    pub fn revoke(&mut self, slot: u64) -> Result<(), Error> {
        self.invoke(CNODE, Label::CNodeRevoke, [slot, 0, 0, 0, 0, 0]).map(|_| ())
    }

    pub fn free_bytes(&mut self) -> u64 {
        self.invoke(UNTYPED, Label::UntypedInfo, [0; 6]).unwrap()
    }

    /// A running thread in slots `at..at + 3` (TCB, scheduling context, IPC buffer frame).
    pub fn thread(&mut self, at: u64, priority: u8) -> Obj<Tcb> {
        self.retype(ObjType::Thread, 0, at, 1).unwrap();
        self.retype(ObjType::SchedContext, 0, at + 1, 1).unwrap();
        self.retype(ObjType::Frame, 12, at + 2, 1).unwrap();
        self.invoke(at, Label::ThreadConfigure, [CNODE, VSPACE, 0, at + 2, 0, 0]).unwrap();
        self.invoke(at, Label::ThreadSetPriority, [priority as u64, 0, 0, 0, 0, 0]).unwrap();
        self.invoke(at, Label::ThreadBindSched, [at + 1, 0, 0, 0, 0, 0]).unwrap();
        self.invoke(at, Label::ThreadWriteRegisters, [0x1000, 0x2000, 0, 0, 1, 0]).unwrap();
        self.slot(at).cap().thread().unwrap()
    }

    /// Bytes of a thread's IPC buffer.
    pub fn buffer(&mut self, t: Obj<Tcb>) -> &mut [u8] {
        let frame = t.buffer_frame().expect("the thread has a buffer");
        // SAFETY: a frame of the arena, used by one test at a time.
        unsafe { std::slice::from_raw_parts_mut(frame as *mut u8, 4096) }
    }
}
