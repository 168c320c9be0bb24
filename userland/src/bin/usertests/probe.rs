//! A thread with every register under control: see `probe.s`.

use abi::{CPtr, Label, MapAttr, ObjType, PAGE_SIZE, Rights};
use libipc::sys;
use userland::own::Thread;

use crate::env::{Env, Told, Why, why, works};
use crate::raw::{self, Place};

/// Offsets in the probe's data.
const OUT: u64 = 0x400;
const VECTORS: u64 = 0x200;
const OP: u64 = 0x800;
const GO_ON: u64 = 0x808;
const SELECTORS: u64 = 0x810;
const FS_WORD: u64 = 0x818;
const SPINS: u64 = 0x820;

/// How often a probe is looked at that is to run.
const PATIENCE: u32 = 10_000;

/// Numbers of the general registers in [`Seen::gpr`] and [`Registers::gpr`].
#[allow(missing_docs, reason = "they are registers")]
pub mod r {
    pub const RAX: usize = 0;
    pub const RBX: usize = 1;
    pub const RCX: usize = 2;
    pub const RDX: usize = 3;
    pub const RSI: usize = 4;
    pub const RDI: usize = 5;
    pub const RBP: usize = 6;
    pub const R8: usize = 7;
    pub const R9: usize = 8;
    pub const R10: usize = 9;
    pub const R11: usize = 10;
    pub const R12: usize = 11;
    pub const R13: usize = 12;
    pub const R14: usize = 13;
    pub const R15: usize = 14;
    pub const RSP: usize = 15;
}

/// What a probe fills its registers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// In the order of [`r`].
    pub gpr: [u64; 16],
    /// Status and control flags that user code may set.
    pub rflags: u64,
    /// MXCSR.
    pub mxcsr: u32,
    /// x87 control word.
    pub fcw: u16,
    /// MM0..7.
    pub mm: [u64; 8],
    /// XMM0..15.
    pub xmm: [u128; 16],
}

impl Registers {
    /// Each register its own value, all of them with `mark` in them.
    pub fn pattern(mark: u8, rflags: u64, mxcsr: u32, fcw: u16) -> Self {
        let word = |i: u64| (0x0101_0101_0101_0101 * mark as u64) ^ (i << 32) ^ (i << 8);
        let mut it = Self { gpr: [0; 16], rflags, mxcsr, fcw, mm: [0; 8], xmm: [0; 16] };
        for (i, x) in it.gpr.iter_mut().enumerate() {
            *x = word(i as u64);
        }
        for (i, x) in it.mm.iter_mut().enumerate() {
            *x = word(32 + i as u64);
        }
        for (i, x) in it.xmm.iter_mut().enumerate() {
            *x = (word(64 + i as u64) as u128) << 64 | word(96 + i as u64) as u128;
        }
        it
    }
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// In the order of [`r`].
    pub gpr: [u64; 16],
    /// RFLAGS.
    pub rflags: u64,
    /// DS, ES, FS, GS.
    pub selectors: [u64; 4],
    /// The word at FS base, if it was asked for.
    pub fs_word: u64,
    /// x87: control word, status word, tags, last instruction and data pointers and opcode, ored.
    pub fcw: u16,
    pub fsw: u16,
    pub pointers: u64,
    /// MXCSR.
    pub mxcsr: u32,
    /// ST0..7: significands, and what is above them.
    pub mm: [u64; 8],
    pub above: [u16; 8],
    /// XMM0..15.
    pub xmm: [u128; 16],
}

/// See the [module](self).
pub struct Probe {
    /// The thread.
    pub thread: Thread,
    /// Its address space.
    pub vspace: CPtr,
    /// Where its code lies; its data follows.
    pub code: u64,
    /// Where this program sees the data.
    data: u64,
    fresh: core::cell::Cell<bool>,
}

impl Probe {
    /// A probe in an address space of its own, with this program's CSpace.
    pub fn new(env: &Env, priority: u8) -> Result<Self, Why> {
        let own = &env.own;
        let vspace = works(own.make(ObjType::VSpace, 0))?;
        let thread = works(own.thread_in(own.cspace, vspace, env.faults, priority))?;
        Self::with(env, vspace, thread)
    }

    /// A probe in this program's own address space.
    pub fn here(env: &Env, priority: u8) -> Result<Self, Why> {
        Self::with(env, env.own.vspace, env.thread(priority)?)
    }

    fn with(env: &Env, vspace: CPtr, thread: Thread) -> Result<Self, Why> {
        let own = &env.own;
        let both = Rights::READ | Rights::WRITE;
        let (code, at) = works(own.page())?;
        raw::write_bytes(at, raw::probe_code());
        works(sys::unmap(code))?;
        let to = own.addresses(2);
        works(own.map(code, vspace, to, Rights::READ, MapAttr::EXEC))?;
        let (data, data_at) = works(own.page())?;
        let data = works(own.copy(data, both))?;
        works(own.map(data, vspace, to + PAGE_SIZE, both, MapAttr::empty()))?;
        let probe = Self { thread, vspace, code: to, data: data_at, fresh: true.into() };
        Ok(probe)
    }

    /// A page at an address of its own choice in the probe's address space, and its address here.
    pub fn page(&self, env: &Env) -> Result<(u64, u64), Why> {
        let both = Rights::READ | Rights::WRITE;
        let (frame, here) = works(env.own.page())?;
        let copy = works(env.own.copy(frame, both))?;
        let there = env.own.addresses(1);
        works(env.own.map(copy, self.vspace, there, both, MapAttr::empty()))?;
        Ok((there, here))
    }

    /// Gives the thread an FS base where the word `value` lies, which it reads in the end.
    pub fn set_fs(&self, env: &Env, value: u64) -> Told {
        let (there, here) = self.page(env)?;
        raw::write(here, value);
        works(sys::invoke(self.thread.tcb, Label::ThreadSetFsBase, [there, 0, 0, 0], [0; 2]))?;
        raw::write(self.data + FS_WORD, 1);
        Ok(())
    }

    /// Selectors that the thread loads into DS, ES, FS and GS; 0: none.
    pub fn set_selectors(&self, selector: u64) {
        raw::write(self.data + SELECTORS, selector);
    }

    /// Sets what the registers are to be, and what to do then. The stack pointer stays the thread's own.
    pub fn load(&self, registers: &Registers, what: Place) {
        let at = |offset: u64| self.data + offset;
        for (i, x) in registers.gpr.iter().enumerate() {
            raw::write(at(8 * i as u64), *x);
        }
        raw::write(at(0x80), registers.rflags);
        raw::write(at(VECTORS), registers.fcw as u64);
        raw::write(at(VECTORS + 8), 0);
        raw::write(at(VECTORS + 16), 0);
        raw::write(at(VECTORS + 24), registers.mxcsr as u64);
        for (i, x) in registers.mm.iter().enumerate() {
            raw::write(at(VECTORS + 32 + 16 * i as u64), *x);
            raw::write(at(VECTORS + 40 + 16 * i as u64), 0xffff);
        }
        for (i, x) in registers.xmm.iter().enumerate() {
            raw::write(at(VECTORS + 160 + 16 * i as u64), *x as u64);
            raw::write(at(VECTORS + 168 + 16 * i as u64), (*x >> 64) as u64);
        }
        raw::write(at(OP), self.code + what.offset());
        raw::write(at(GO_ON), 0);
        raw::write(at(SPINS), 0);
    }

    /// Lets it run: from the beginning, or on from where it ended last.
    pub fn run(&self, env: &Env) -> Told {
        if self.fresh.take() {
            return works(env.own.start_at(&self.thread, self.code, 0, 0));
        }
        works(sys::invoke(self.thread.tcb, Label::ThreadResume, [0; 4], [0; 2])).map(drop)
    }

    /// Waits until it is in the loop of [`Place::Spin`].
    pub fn wait_spin(&self, env: &Env) -> Told {
        for _ in 0..PATIENCE {
            if env.fault_within(300_000)?.is_some() {
                return why(format_args!("it ended before its time"));
            }
            if raw::read(self.data + SPINS) != 0 {
                return Ok(());
            }
        }
        why(format_args!("it does not get to run"))
    }

    /// Ends [`Place::Spin`].
    pub fn end_spin(&self) {
        raw::write(self.data + GO_ON, 1);
    }

    /// What it found.
    pub fn seen(&self) -> Seen {
        let at = |offset: u64| raw::read(self.data + OUT + offset);
        let vector = |offset: u64| at(VECTORS + offset);
        Seen {
            gpr: core::array::from_fn(|i| at(8 * i as u64)),
            rflags: at(0x80),
            selectors: core::array::from_fn(|i| at(0x88 + 8 * i as u64)),
            fs_word: at(0xa8),
            fcw: vector(0) as u16,
            fsw: (vector(0) >> 16) as u16,
            pointers: vector(0) >> 48 | vector(8) | vector(16),
            mxcsr: vector(24) as u32,
            mm: core::array::from_fn(|i| vector(32 + 16 * i as u64)),
            above: core::array::from_fn(|i| vector(40 + 16 * i as u64) as u16),
            xmm: core::array::from_fn(|i| {
                let i = 160 + 16 * i as u64;
                vector(i) as u128 | (vector(i + 8) as u128) << 64
            }),
        }
    }
}
