//! The kernel's logic: capabilities, objects, scheduling, IPC, address spaces. Knows no hardware
//! but the x86 page-table format; what it needs of the machine is the [`Platform`] trait, so all
//! of it runs in host tests. The binary (`main.rs`, feature `guest`) adds entries, devices, boot.
//!
//! # How to read it
//! Start with [`obj`] (what a kernel object is to Rust), [`cap`] and [`mdb`] (who may do what, and
//! how it is taken back), then [`syscall`] and follow a call.
//!
//! # Rules
//! - Memory comes from untypeds by retype and goes back by revoke; the kernel never allocates.
//! - Every system call is decoded and checked completely before it changes anything.
//! - No entry takes longer than a few thousand instructions: long operations stop and are restarted
//!   ([`preempt`]).
//! - The kernel is not preempted (interrupts are off), and one processor runs in it at a time: the
//!   one that holds the lock around [`Kernel`]. What belongs to a processor is in its `cpu` field.
#![cfg_attr(not(test), no_std)]

pub mod acpi;
pub mod cap;
pub mod cspace;
pub mod destroy;
pub mod fastpath;
pub mod fault;
pub mod heap;
pub mod inspect;
pub mod invoke;
pub mod iospace;
pub mod ipc;
pub mod irq;
pub mod lend;
pub mod loader;
pub mod mdb;
pub mod notification;
pub mod obj;
pub mod percpu;
pub mod preempt;
pub mod refill;
pub mod sched;
pub mod syscall;
pub mod thread;
pub mod timer;
pub mod trace;
pub mod untyped;
pub mod vspace;
pub mod zombie;

pub use obj::{Obj, PHYS_BASE};
use percpu::{CPUS, PerCpu};

/// What the kernel's logic needs of the machine.
pub trait Platform {
    /// Nanoseconds since boot.
    fn now(&self) -> u64;
    /// Time-stamp counter: [`Platform::now`] in the machine's own ticks.
    fn ticks(&self) -> u64 {
        self.now()
    }
    /// Asks for a timer interrupt at this time (ns since boot); `u64::MAX`: none.
    fn set_deadline(&mut self, at: u64);
    /// Sets an interrupt line up, masked.
    fn irq_configure(&mut self, gsi: u32, level: bool, low: bool);
    /// Masks or unmasks an interrupt line.
    fn irq_mask(&mut self, gsi: u32, masked: bool);
    /// Reads an I/O port.
    fn port_in(&mut self, port: u16, bytes: u8) -> u32;
    /// Writes an I/O port.
    fn port_out(&mut self, port: u16, bytes: u8, value: u32);
    /// Switches to the address space whose PML4 lies at `pml4`, 0: one without user mappings.
    fn load_vspace(&mut self, pml4: u64);
    /// Forgets the translation of one page of the current address space.
    fn flush_page(&mut self, vaddr: u64);
    /// Forgets all translations of user space.
    fn flush_all(&mut self);
    /// Entries 256..512 of every PML4: the kernel's half.
    fn kernel_half(&self) -> [u64; 256];
    /// Clears what user code left in segment selectors, and sets the FS base.
    fn load_segments(&mut self, fs_base: u64);
    /// Makes writes to tables of the DMA remapping hardware visible to it.
    fn io_publish(&mut self, pa: u64, bytes: u64);
    /// Makes that hardware forget what it cached of a domain (0: of all). When it returns, no
    /// transfer that was translated before is still on its way to memory.
    fn io_forget(&mut self, domain: u16);
    /// Takes the record of a refused transfer.
    fn io_fault(&mut self) -> Option<iospace::IoFault>;
    /// How much an entry may do before it is restarted; tests vary it.
    fn work_limit(&mut self) -> u32 {
        preempt::WORK
    }
}

/// What belongs to one processor.
pub struct Cpu {
    /// The running thread; `None`: idle.
    pub current: Option<Obj<thread::Tcb>>,
    /// PML4 in CR3, 0: the kernel's own.
    loaded: u64,
    /// Whether `schedule` must choose anew before returning to user mode.
    reschedule: bool,
    /// When the current thread's slice ends, if others of its priority wait.
    slice_end: u64,
    /// The limited context that time is charged to, and since when it has not been.
    charged: Option<Obj<sched::SchedContext>>,
    charged_since: u64,
    /// When its budget ends.
    budget_end: u64,
    /// Deadline given to the platform.
    armed: u64,
    /// Whether events are recorded.
    pub tracing: bool,
    /// Work that this entry has done in long operations.
    work: u32,
}

impl Cpu {
    const fn new() -> Self {
        Self {
            current: None,
            loaded: 0,
            reschedule: false,
            slice_end: u64::MAX,
            charged: None,
            charged_since: 0,
            budget_end: u64::MAX,
            armed: u64::MAX,
            tracing: false,
            work: 0,
        }
    }
}

/// The kernel. What every switch looks at lies together, at the beginning.
#[repr(C)]
pub struct Kernel<P> {
    /// The processor that runs.
    pub cpu: PerCpu<Cpu>,
    ready: sched::ReadyQueues,
    /// The machine.
    pub hw: P,
    events: heap::Heap,
    irqs: [irq::Irq; irq::LINES],
    asids: vspace::Asids,
    io: iospace::Io,
    trace: trace::Trace,
    /// Drawn at boot: hides where objects lie.
    pub secret: u64,
    /// The root task: without it the system cannot go on.
    pub root: Option<Obj<thread::Tcb>>,
    /// Slots in it are reached by handles as well, so a `&mut Kernel` is not the only way to them:
    /// this tells the compiler.
    _slots: core::marker::PhantomPinned,
}

impl<P: Platform> Kernel<P> {
    /// A kernel without threads.
    pub const fn new(hw: P) -> Self {
        Self {
            hw,
            cpu: PerCpu::new([const { Cpu::new() }; CPUS]),
            ready: sched::ReadyQueues::new(),
            events: heap::Heap::new(),
            irqs: [const { irq::Irq::new() }; irq::LINES],
            asids: vspace::Asids::new(),
            io: iospace::Io::new(),
            trace: trace::Trace::new(),
            secret: 0,
            root: None,
            _slots: core::marker::PhantomPinned,
        }
    }
}
