//! Two threads whose registers have nothing in common, and what each may find in its own: see
//! `registers.rs`.

use abi::{CPtr, Label, ObjType, Syscall};
use libipc::sys;

use crate::env::{Env, Told, Why, equal, why, works};
use crate::probe::{Probe, Registers, Seen, r};
use crate::raw::Place;

/// RFLAGS that are always set in user mode: interrupts, and bit 1.
pub const FLAGS: u64 = 0x202;
/// Priority of the client.
pub const CLIENT: u8 = 40;
/// Runs when the client has stopped.
pub const BELOW: u8 = 30;
/// Runs in place of the client.
pub const ABOVE: u8 = 60;
/// Selector of user data.
pub const USER_DATA: u64 = 0x1b;

/// What becomes of vector registers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Vectors {
    /// A native call clobbers them: zero, or still the thread's own.
    Dead,
    /// Exactly the thread's own.
    Kept,
}

/// What the client's registers are to be afterwards, where they are not as before.
pub type Changes<'a> = &'a [(usize, u64)];

/// A client, which fills all its registers and does one thing; and dirt, which fills all of its own with
/// other values.
pub struct Pair<'a> {
    pub env: &'a Env,
    pub client: Probe,
    pub dirt: Probe,
    pub own: Registers,
    pub alien: Registers,
}

/// Runs a test with two address spaces, then with one.
pub fn each_space(env: &mut Env, test: fn(&Pair<'_>) -> Told) -> Told {
    test(&Pair::new(env, Probe::new(env, CLIENT)?, Probe::new(env, BELOW)?)?)?;
    works(env.own.reset())?;
    env.prepare()?;
    test(&Pair::new(env, Probe::here(env, CLIENT)?, Probe::here(env, BELOW)?)?)
}

/// The client's values: direction and status flags, rounding to zero.
fn own() -> Registers {
    Registers::pattern(0x5a, FLAGS | 0x4d5 | 1 << 18, 0x7fa1, 0x0c7f)
}

/// The other's: none of them agree.
fn alien() -> Registers {
    Registers::pattern(0xc3, FLAGS | 0x800 | 1 << 21, 0x3f9e, 0x087f)
}

impl<'a> Pair<'a> {
    /// Gives the two what tells them apart.
    pub fn new(env: &'a Env, client: Probe, dirt: Probe) -> Result<Self, Why> {
        client.set_fs(env, 0xf5f5_0001)?;
        dirt.set_selectors(USER_DATA);
        Ok(Self { env, client, dirt, own: own(), alien: alien() })
    }

    /// `probe` ends.
    pub fn ends(&self, probe: &Probe) -> Told {
        equal(self.env.end(&probe.thread)?, 0)
    }

    /// Has dirt fill every register; it gets the processor when the client has stopped.
    pub fn pollute(&self) -> Told {
        self.dirt.load(&self.alien, Place::After);
        self.dirt.run(self.env)?;
        self.ends(&self.dirt)?;
        let seen = self.dirt.seen();
        judge("dirt", &self.alien, &seen, &[], Vectors::Kept, USER_DATA, 0)
    }

    /// Changes the priority of one of them.
    pub fn urgency(&self, probe: &Probe, priority: u8) -> Told {
        let words = [priority as u64, 0, 0, 0];
        works(sys::invoke(probe.thread.tcb, Label::ThreadSetPriority, words, [0; 2])).map(drop)
    }

    /// The client makes a system call; what it passes is in `with`.
    pub fn begins(&self, call: u64, with: Changes<'_>) -> Result<Registers, Why> {
        let mut registers = self.own;
        registers.gpr[r::RAX] = call;
        for (i, x) in with {
            registers.gpr[*i] = *x;
        }
        self.client.load(&registers, Place::Syscall);
        self.client.run(self.env)?;
        Ok(registers)
    }

    /// The client ends: its registers are as in `before`, but for `changes`, and for what a native
    /// call may clobber.
    pub fn has(&self, before: &Registers, changes: Changes<'_>) -> Told {
        self.ends(&self.client)?;
        let seen = self.client.seen();
        native("client", &self.client, before, &seen, changes)
    }

    /// The client makes a call, is stopped, dirt runs, `then` happens, the client goes on.
    pub fn stopped(
        &self,
        call: Syscall,
        with: Changes<'_>,
        then: impl FnOnce() -> Told,
        changes: Changes<'_>,
    ) -> Told {
        let before = self.begins(call as u64, with)?;
        self.pollute()?;
        then()?;
        self.has(&before, changes)
    }

    /// The client makes a call that comes back at once, after dirt has run.
    pub fn at_once(&self, call: Syscall, with: Changes<'_>, changes: Changes<'_>) -> Told {
        self.pollute()?;
        let before = self.begins(call as u64, with)?;
        self.has(&before, changes)
    }

    /// A new object.
    pub fn make(&self, ty: ObjType) -> Result<CPtr, Why> {
        self.env.make(ty)
    }
}

/// Registers after a native call: rcx and r11 are clobbered, but by nothing of others; words that
/// the call says nothing about are as before or zero.
pub fn native(
    who: &str,
    probe: &Probe,
    before: &Registers,
    seen: &Seen,
    changes: Changes<'_>,
) -> Told {
    let mut all = heapless::Vec::<(usize, u64), 16>::new();
    let _ = all.extend_from_slice(changes);
    let rip = probe.code + Place::Syscall.offset() + 2;
    for (i, also) in [(r::RCX, rip), (r::R11, before.rflags)] {
        if seen.gpr[i] == also || seen.gpr[i] == 0 {
            let _ = all.push((i, seen.gpr[i]));
        }
    }
    for i in [r::RDI, r::RSI, r::RDX, r::R10, r::R8, r::R9] {
        if seen.gpr[i] == 0 && !changes.iter().any(|(c, _)| *c == i) {
            let _ = all.push((i, 0));
        }
    }
    let fs = if who == "client" { 0xf5f5_0001 } else { 0 };
    let selector = if who == "client" { 0 } else { USER_DATA };
    judge(who, before, seen, &all, Vectors::Dead, selector, fs)
}

/// Whether a thread found what it may find. `selector`: what it has loaded itself.
pub fn judge(
    who: &str,
    before: &Registers,
    seen: &Seen,
    changes: Changes<'_>,
    vectors: Vectors,
    selector: u64,
    fs_word: u64,
) -> Told {
    const NAMES: [&str; 16] = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15", "rsp",
    ];
    for (i, name) in NAMES.into_iter().enumerate() {
        let changed = changes.iter().find(|(c, _)| *c == i);
        let (want, got) = (changed.map_or(before.gpr[i], |(_, x)| *x), seen.gpr[i]);
        if got != want {
            return why(format_args!("{who}: {name} is {got:#x}, not {want:#x}"));
        }
    }
    let dead = vectors == Vectors::Dead;
    for (i, (got, want)) in seen.xmm.into_iter().zip(before.xmm).enumerate() {
        if got != want && !(dead && got == 0) {
            return why(format_args!("{who}: xmm{i} is {got:#x}, not {want:#x}"));
        }
    }
    for (i, (got, want)) in seen.mm.into_iter().zip(before.mm).enumerate() {
        if (got != want && got != 0) || !matches!(seen.above[i], 0 | 0xffff) {
            return why(format_args!("{who}: mm{i} is {got:#x} {:x}", seen.above[i]));
        }
    }
    let mxcsr = seen.mxcsr == before.mxcsr || dead && seen.mxcsr == 0x1f80;
    // The x87 unit is a thread's own or as after `fninit`.
    let x87 = (seen.fcw == before.fcw || seen.fcw == 0x37f) && seen.fsw == 0 && seen.pointers == 0;
    let selectors = seen.selectors.iter().all(|s| *s == 0 || *s == selector);
    for (fine, what, got) in [
        (seen.rflags == before.rflags, "rflags", seen.rflags),
        (mxcsr, "mxcsr", seen.mxcsr as u64),
        (x87, "x87", (seen.fsw as u64) << 16 | seen.fcw as u64),
        (selectors, "a selector", seen.selectors.iter().fold(0, |a, b| a << 16 | b)),
        (seen.fs_word == fs_word, "the word at FS base", seen.fs_word),
    ] {
        if !fine {
            return why(format_args!("{who}: {what} is {got:#x}"));
        }
    }
    Ok(())
}
