//! Kernel objects of a program's own: what the manifest's `untyped_kib` buys.
//!
//! An [`Own`] hands out slots of the program's CSpace and makes objects from its untyped, one after
//! the other; [`Own::reset`] takes everything back at once. Mistakes of the kernel or of the caller
//! come back as [`abi::Error`], as they are.

use abi::{CPtr, Error, Label, MapAttr, ObjType, PAGE_BITS, PAGE_SIZE, Rights, SUPERVISOR_EXIT};
use core::cell::Cell;
use libipc::start::StartInfo;
use libipc::sys;

/// Slots in the CSpace of such a program.
const SLOTS: u64 = 1024;
/// Where pages are mapped: far from everything that init maps.
pub const AREA: u64 = 0x2000_0000_0000;

/// See the [module](self).
pub struct Own {
    /// The untyped.
    pub untyped: CPtr,
    /// The program's CNode, flat: a slot's number is its address.
    pub cspace: CPtr,
    /// Its address space.
    pub vspace: CPtr,
    /// Its first thread.
    pub thread: CPtr,
    first: u64,
    next: Cell<u64>,
    /// Next page to map, in every address space.
    page: Cell<u64>,
}

/// A thread made by [`Own::thread`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its TCB.
    pub tcb: CPtr,
    /// Its scheduling context.
    pub sched: CPtr,
    /// The frame of its IPC buffer.
    pub buffer: CPtr,
    /// Where that is mapped.
    pub buffer_at: u64,
    /// Top of its stack.
    pub stack: u64,
    /// Badge of its faults.
    pub badge: u64,
}

impl Own {
    /// What the manifest gave. `None`: the entry has no `untyped_kib`.
    pub fn new(start: &StartInfo) -> Option<Self> {
        let cap = |name| start.cap(name);
        let first = start.caps.iter().map(|c| c.cptr + 1).max()?;
        Some(Self {
            untyped: cap("untyped")?,
            cspace: cap("cspace")?,
            vspace: cap("vspace")?,
            thread: cap("thread")?,
            first,
            next: Cell::new(first),
            page: Cell::new(AREA),
        })
    }

    /// Takes all objects, the capabilities in slots handed out, and mappings back.
    ///
    /// # Errors
    /// What the kernel says; nothing, unless the program gave its capabilities away.
    pub fn reset(&self) -> Result<(), Error> {
        sys::revoke(self.cspace, self.untyped)?;
        for slot in self.first..self.next.get() {
            sys::delete(self.cspace, slot)?;
        }
        self.next.set(self.first);
        self.page.set(AREA);
        Ok(())
    }

    /// Bytes of the untyped that are in no object.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn left(&self) -> Result<u64, Error> {
        sys::invoke(self.untyped, Label::UntypedInfo, [0; 4], [0; 2]).map(|r| r.words[0])
    }

    /// `count` consecutive slots that nothing else uses.
    pub fn slots(&self, count: u64) -> CPtr {
        let at = self.next.get();
        assert!(count <= SLOTS - at, "slots are used up: reset");
        self.next.set(at + count);
        at
    }

    /// Makes an object in a slot of its own.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn make(&self, ty: ObjType, size_bits: u8) -> Result<CPtr, Error> {
        let slot = self.slots(1);
        sys::retype(self.untyped, ty, size_bits, self.cspace, slot, 1)?;
        Ok(slot)
    }

    /// A copy of `cap` in a slot of its own, with at most `rights`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn copy(&self, cap: CPtr, rights: Rights) -> Result<CPtr, Error> {
        let slot = self.slots(1);
        sys::copy(self.cspace, slot, self.cspace, cap, rights)?;
        Ok(slot)
    }

    /// As [`Self::copy`], with a badge.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn mint(&self, cap: CPtr, rights: Rights, badge: u64) -> Result<CPtr, Error> {
        let slot = self.slots(1);
        sys::mint(self.cspace, slot, self.cspace, cap, rights, badge)?;
        Ok(slot)
    }

    /// Addresses for `pages` pages, with nothing mapped before and behind them.
    pub fn addresses(&self, pages: u64) -> u64 {
        let at = self.page.get() + PAGE_SIZE;
        self.page.set(at + pages * PAGE_SIZE);
        at
    }

    /// Maps a frame, making the page tables that are missing.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn map(
        &self,
        frame: CPtr,
        vspace: CPtr,
        vaddr: u64,
        rights: Rights,
        attr: MapAttr,
    ) -> Result<(), Error> {
        loop {
            match sys::map(frame, vspace, vaddr, rights, attr) {
                Err(Error::NoTable) => {
                    let table = self.make(ObjType::PageTable, 0)?;
                    sys::map_table(table, vspace, vaddr)?;
                }
                other => return other,
            }
        }
    }

    /// A new writable page in the program's own address space: its frame and its address.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn page(&self) -> Result<(CPtr, u64), Error> {
        let frame = self.make(ObjType::Frame, PAGE_BITS)?;
        let at = self.addresses(1);
        self.map(frame, self.vspace, at, Rights::READ | Rights::WRITE, MapAttr::empty())?;
        Ok((frame, at))
    }

    /// A thread with a stack of one page, an IPC buffer and a scheduling context, in the program's
    /// CSpace and address space. Its faults go to `faults`, with a badge of its own.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn thread(&self, faults: CPtr, priority: u8) -> Result<Thread, Error> {
        self.thread_in(self.cspace, self.vspace, faults, priority)
    }

    /// As [`Self::thread`], with this CSpace and address space. Stack and buffer are mapped in the
    /// program's.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn thread_in(
        &self,
        cspace: CPtr,
        vspace: CPtr,
        faults: CPtr,
        priority: u8,
    ) -> Result<Thread, Error> {
        let (_, stack) = self.page()?;
        let (buffer, buffer_at) = self.page()?;
        let tcb = self.make(ObjType::Thread, 0)?;
        let sched = self.make(ObjType::SchedContext, 0)?;
        let badge = tcb;
        let fault = self.mint(faults, Rights::WRITE, badge)?;
        let set = |label, words| sys::invoke(tcb, label, words, [0; 2]);
        set(Label::ThreadConfigure, [cspace, vspace, fault, buffer])?;
        set(Label::ThreadSetPriority, [priority as u64, 0, 0, 0])?;
        sys::invoke(sched, Label::SchedConfigure, [u64::MAX, 0, 0, 0], [0; 2])?;
        set(Label::ThreadBindSched, [sched, 0, 0, 0])?;
        Ok(Thread { tcb, sched, buffer, buffer_at, stack: stack + PAGE_SIZE, badge })
    }

    /// Starts a thread at `f(arg)`. What `f` returns comes as the argument of the system call
    /// [`SUPERVISOR_EXIT`] to whoever handles the thread's faults.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn start(
        &self,
        thread: &Thread,
        f: extern "C" fn(u64) -> u64,
        arg: u64,
    ) -> Result<(), Error> {
        self.start_at(thread, begin as *const () as u64, f as *const () as u64, arg)
    }

    /// Starts a thread at an address, with these in `rdi` and `rsi`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn start_at(&self, thread: &Thread, rip: u64, rdi: u64, rsi: u64) -> Result<(), Error> {
        let words = [rip, thread.stack, rdi, rsi];
        sys::invoke(thread.tcb, Label::ThreadWriteRegisters, words, [1, 0]).map(drop)
    }
}

/// Where threads of [`Own::start`] begin: function in `rdi`, its argument in `rsi`.
#[allow(unsafe_code, reason = "the stack is empty here: no compiled function can be the first")]
#[unsafe(naked)]
extern "C" fn begin() -> ! {
    core::arch::naked_asm!(
        "xor ebp, ebp",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "mov rdi, rax",
        "2: mov rax, {exit}",
        "syscall",
        "jmp 2b",
        exit = const SUPERVISOR_EXIT,
    )
}
