//! One process: what stays over its restarts, and how an incarnation is made and ended.
//!
//! Standing (made once at boot, kept by init): address space and page tables, read-only segments,
//! lent regions, log page, start information, badged notifications. Private (one untyped, revoked
//! at every death): thread, CNode, scheduling context, timers, reply objects, and all memory that
//! the process alone writes. A process can corrupt nothing of the standing part: page tables are
//! the kernel's, and lent regions are shared by their very purpose.

use abi::{
    CPtr, Error, LARGE_BITS, Label, MapAttr, ObjType, PAGE_BITS, PAGE_SIZE, RETYPE_MAX, Rights,
};
use alloc::boxed::Box;
use alloc::vec::Vec;
use libipc::Name;
use libipc::bundle::File;
use libipc::log::Pace;
use libipc::permission::Permission;
use libipc::proc::{self, Crash, Request, State};
use libipc::start::{LOG_SIGNAL, STACK_TOP, StartInfo};
use libipc::trace;
use spec::{Budget, InitRights, Restart};

use crate::allowance::{Allowance, Overrun};
use crate::kernel::Kernel;
use crate::layout::{ROOT, badge, signal, slot, window};
use crate::lines::Lines;
use crate::plan::{FIRST_CAP, Plan};
use crate::policy::History;

/// Where a capability of a process comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapSource {
    /// A badged endpoint or notification.
    Mint {
        /// Slot of the original.
        src: CPtr,
        /// Rights.
        rights: Rights,
        /// Badge.
        badge: u64,
    },
    /// A copy of an IRQ handler.
    Irq {
        /// Slot of the original.
        src: CPtr,
    },
    /// A new reply object.
    Reply,
    /// The incarnation's own untyped.
    Untyped,
    /// A copy of the process's own CNode, address space or thread, in this slot of init's.
    Own(CPtr),
    /// A new timer that signals the notification in this slot of init's.
    Timer {
        /// Badged notification.
        signal: CPtr,
    },
}

/// Slots of init's CSpace that belong to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessSlots {
    /// Private untyped.
    pub private: CPtr,
    /// First private frame; the other private objects follow the frames.
    pub frames: CPtr,
    /// Thread.
    pub thread: CPtr,
    /// CNode.
    pub cnode: CPtr,
    /// Scheduling context.
    pub sched: CPtr,
    /// Address space (standing).
    pub vspace: CPtr,
    /// init's endpoint with the process's fault badge (standing).
    pub fault: CPtr,
}

/// What a process that can run is made of.
pub struct Parts<'a> {
    /// Private objects.
    pub plan: Plan<'a>,
    /// Slots.
    pub slots: ProcessSlots,
    /// Capabilities from slot [`FIRST_CAP`].
    pub caps: Vec<CapSource>,
    /// Start information; incarnation and seed are set at each start.
    pub info: Box<StartInfo>,
    /// Notification bound to its thread.
    pub bound: Option<CPtr>,
    /// Badged notifications to signal when it ends.
    pub notices: Vec<CPtr>,
    /// Its bound notification with the console's badge, if it has the console.
    pub console: Option<CPtr>,
    /// Its bound notification with the bit [`libipc::start::STOP`], if it drives a device.
    pub stop: Option<CPtr>,
    /// Likewise with the bit [`libipc::start::SUSPEND`].
    pub suspend: Option<CPtr>,
    /// Devices it drives.
    pub devices: Vec<usize>,
}

/// A process of the system description.
pub struct Process<'a> {
    /// Name.
    pub name: Name,
    /// Number in the system description.
    pub index: usize,
    /// Priority.
    pub priority: u8,
    /// Processor time; `None`: no limit.
    pub budget: Option<Budget>,
    /// Restart policy.
    pub policy: Restart,
    /// Started at boot.
    pub autostart: bool,
    /// It has the console.
    pub console: bool,
    /// The endpoint on which it answers calls.
    pub endpoint: Option<CPtr>,
    /// Its program.
    pub file: Option<File<'a>>,
    /// `None`: it cannot run; the reason was logged at boot.
    pub parts: Option<Parts<'a>>,
    /// State.
    pub state: State,
    /// Starts so far.
    pub starts: u32,
    /// When it was last started, ns since boot.
    pub started_ns: u64,
    /// Recent starts.
    pub history: History,
    /// When its restart is due, if that was put off.
    pub pending: Option<u64>,
    /// Number of the report of its last death, while that is not complete.
    pub report: Option<u32>,
    /// An incarnation of it has said that it is ready: all do.
    pub says_ready: bool,
    /// The running incarnation has said so.
    pub ready: bool,
    /// When it is late with that.
    pub ready_due: Option<u64>,
    /// It was asked to rest, and does so at this time at the latest.
    pub suspend_due: Option<u64>,
    /// A crash that was asked for: which, and when it comes.
    pub doom: Option<(Crash, u64)>,
    /// Where it was when it was made to crash: instruction and frame pointer.
    pub crashed_at: Option<(u64, u64)>,
    /// Its unfinished log line.
    pub lines: Lines,
    /// Bytes of log it had dropped when last looked.
    pub dropped: u32,
    /// It has more in its log page than there was room for on the console.
    pub log_waits: bool,
    /// What of it may be printed now.
    pub log_allowance: Allowance,
    /// When more may be.
    pub log_due: Option<u64>,
    /// What it may ask of init.
    pub asks: InitRights,
    /// Lines about what it asks.
    pub complaints: Pace,
    /// How often its budget ended.
    pub overrun: Overrun,
}

/// Retypes in calls that the kernel's limits allow.
pub fn retype_all(
    k: &mut impl Kernel,
    untyped: CPtr,
    ty: ObjType,
    size_bits: u8,
    first: u64,
    count: u64,
) -> Result<(), Error> {
    let mut done = 0;
    while done < count {
        let n = RETYPE_MAX.min(count - done);
        k.retype(untyped, ty, size_bits, ROOT, first + done, n, 0)?;
        done += n;
    }
    Ok(())
}

/// Writes bytes into a frame through the scratch window.
pub fn write_frame(k: &mut impl Kernel, frame: CPtr, bytes: &[u8]) -> Result<(), Error> {
    with_frame(k, frame, |k| k.write(window::SCRATCH, bytes))
}

/// Runs `f` while a small frame is mapped at the scratch window.
fn with_frame<K: Kernel, R>(
    k: &mut K,
    frame: CPtr,
    f: impl FnOnce(&mut K) -> R,
) -> Result<R, Error> {
    let rights = Rights::READ | Rights::WRITE;
    k.copy(ROOT, slot::SCRATCH, frame, rights)?;
    let vspace = abi::init_slot::VSPACE;
    let result = k.map(slot::SCRATCH, vspace, window::SCRATCH, rights, MapAttr::empty());
    let result = result.map(|()| f(k));
    k.delete(slot::SCRATCH)?;
    result
}

impl Parts<'_> {
    /// Bytes of private memory.
    pub fn private_bytes(&self) -> u64 {
        1 << self.plan.private_bits()
    }
    /// Lowest address of the stack.
    pub fn stack_end(&self) -> u64 {
        STACK_TOP - self.plan.stack
    }
    fn log_vaddr(index: usize) -> u64 {
        window::LOGS + index as u64 * PAGE_SIZE
    }
    /// Makes an incarnation from the private untyped, which has no children, and starts it. On an
    /// error the caller revokes what was made.
    pub fn start(
        &mut self,
        k: &mut impl Kernel,
        index: usize,
        priority: u8,
        budget: Option<Budget>,
    ) -> Result<(), Error> {
        self.make_objects(k)?;
        self.map_memory(k)?;
        self.fill_cnode(k, index)?;
        self.write_info(k, index)?;
        self.start_thread(k, index, priority, budget)
    }
    /// Ends the incarnation: all private objects are gone when this returns.
    pub fn stop(&self, k: &mut impl Kernel) {
        // It is init's own capability, in init's own CNode: this cannot fail.
        let _ = k.revoke(self.slots.private);
    }
    fn make_objects(&self, k: &mut impl Kernel) -> Result<(), Error> {
        let (private, mut at) = (self.slots.private, self.slots.frames);
        // Falling size: see `Plan::private_bits`.
        if let Some(bits) = self.plan.untyped {
            k.retype(private, ObjType::Untyped, bits, ROOT, slot::UNTYPED, 1, 0)?;
        }
        let cnode_bits = self.plan.cnode_bits();
        let cnode_size = ObjType::CNode.bits(cnode_bits).unwrap_or(PAGE_BITS);
        let cnode = |k: &mut _, now| match now {
            true => {
                Kernel::retype(k, private, ObjType::CNode, cnode_bits, ROOT, self.slots.cnode, 1, 0)
            }
            false => Ok(()),
        };
        for bits in [LARGE_BITS, PAGE_BITS] {
            cnode(k, bits == PAGE_BITS && cnode_size > PAGE_BITS)?;
            let count = self.plan.frames(bits);
            retype_all(k, private, ObjType::Frame, bits, at, count)?;
            at += count;
        }
        cnode(k, cnode_size <= PAGE_BITS)?;
        k.retype(private, ObjType::Thread, 0, ROOT, self.slots.thread, 1, 0)?;
        k.retype(private, ObjType::SchedContext, 0, ROOT, self.slots.sched, 1, 0)
    }
    fn map_memory(&self, k: &mut impl Kernel) -> Result<(), Error> {
        let mut frame = self.slots.frames;
        for area in &self.plan.areas {
            for i in 0..area.count {
                let vaddr = area.vaddr + (i << area.bits);
                let rights = Rights::READ | Rights::WRITE;
                k.map(frame, self.slots.vspace, vaddr, rights, MapAttr::empty())?;
                let from = (i << area.bits) as usize;
                if let Some(content) = area.content.get(from..).filter(|c| !c.is_empty()) {
                    write_frame(k, frame, &content[..content.len().min(PAGE_SIZE as usize)])?;
                }
                frame += 1;
            }
        }
        Ok(())
    }
    fn fill_cnode(&self, k: &mut impl Kernel, index: usize) -> Result<(), Error> {
        let cnode = self.slots.cnode;
        k.mint(cnode, LOG_SIGNAL, slot::NOTIFICATION, Rights::WRITE, signal::log(index))?;
        // Timers before reply objects, as the plan has them.
        for (dest, cap) in (FIRST_CAP..).zip(&self.caps) {
            if let CapSource::Timer { signal } = *cap {
                k.retype(self.slots.private, ObjType::Timer, 0, ROOT, slot::SCRATCH, 1, 0)?;
                k.invoke(slot::SCRATCH, Label::TimerSetNotification, [signal, 0, 0, 0], [0; 2])?;
                k.move_to(cnode, dest, slot::SCRATCH)?;
            }
        }
        for (dest, cap) in (FIRST_CAP..).zip(&self.caps) {
            match *cap {
                CapSource::Mint { src, rights, badge } => {
                    k.mint(cnode, dest, src, rights, badge)?
                }
                CapSource::Irq { src } => {
                    // Without the grant right: it acknowledges, but cannot redirect the line.
                    k.copy(cnode, dest, src, Rights::READ | Rights::WRITE)?;
                }
                CapSource::Reply => {
                    k.retype(self.slots.private, ObjType::Reply, 0, cnode, dest, 1, 0)?;
                }
                CapSource::Untyped => k.move_to(cnode, dest, slot::UNTYPED)?,
                CapSource::Own(src) => k.copy(cnode, dest, src, Rights::all())?,
                CapSource::Timer { .. } => {}
            }
        }
        Ok(())
    }
    fn write_info(&self, k: &mut impl Kernel, index: usize) -> Result<(), Error> {
        let mut bytes = [0; window::START_BYTES as usize];
        let len = postcard::to_slice(&*self.info, &mut bytes[4..]).map_err(|_| Error::Range)?.len();
        bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
        k.write(window::STARTS + index as u64 * window::START_BYTES, &bytes[..4 + len]);
        Ok(())
    }
    fn start_thread(
        &self,
        k: &mut impl Kernel,
        index: usize,
        priority: u8,
        budget: Option<Budget>,
    ) -> Result<(), Error> {
        let s = &self.slots;
        let buffer = s.frames + self.plan.slots() - crate::plan::OBJECT_SLOTS - 1;
        let set = |k: &mut _, label, words| Kernel::invoke(k, s.thread, label, words, [0; 2]);
        set(k, Label::ThreadConfigure, [s.cnode, s.vspace, s.fault, buffer])?;
        set(k, Label::ThreadSetPriority, [priority as u64, 0, 0, 0])?;
        let mut name = [0; 16];
        let n = self.info.name.len().min(16);
        name[..n].copy_from_slice(&self.info.name.as_bytes()[..n]);
        let (a, b) = name.split_at(8);
        let word = |b: &[u8]| b.iter().rev().fold(0, |w, b| w << 8 | *b as u64);
        let number = trace::number(index, self.info.incarnation) as u64;
        set(k, Label::ThreadSetName, [word(a), word(b), number, 0])?;
        if let Some(ntfn) = self.bound {
            set(k, Label::ThreadBindNotification, [ntfn, 0, 0, 0])?;
        }
        let ns = |us: u32| us as u64 * 1000;
        let (time, period) = budget.map_or((u64::MAX, 0), |b| (ns(b.budget_us), ns(b.period_us)));
        k.invoke(s.sched, Label::SchedConfigure, [time, period, 0, 0], [0; 2])?;
        set(k, Label::ThreadSetTimeout, [s.fault, 0, 0, 0])?;
        let set = |k: &mut _, label, words, more| Kernel::invoke(k, s.thread, label, words, more);
        set(k, Label::ThreadBindSched, [s.sched, 0, 0, 0], [0; 2])?;
        set(k, Label::ThreadWriteRegisters, [self.plan.entry, STACK_TOP, 0, 0], [1, 0])?;
        Ok(())
    }
    /// Reads two words of the process's stack.
    pub fn read_stack(&self, k: &mut impl Kernel, vaddr: u64) -> Option<[u64; 2]> {
        let end = vaddr.checked_add(16)?;
        if !vaddr.is_multiple_of(8) || vaddr < self.stack_end() || end > STACK_TOP {
            return None;
        }
        let mut words = [[0; 8]; 2];
        if vaddr % PAGE_SIZE <= PAGE_SIZE - 16 {
            self.with_page(k, vaddr, |k, at| k.read(at, words.as_flattened_mut()))?;
        } else {
            for (word, at) in words.iter_mut().zip([vaddr, vaddr + 8]) {
                self.with_page(k, at, |k, at| k.read(at, word))?;
            }
        }
        Some(words.map(u64::from_le_bytes))
    }
    /// Clears the word of the process's stack at `vaddr`, a multiple of 8.
    pub fn clear_stack(&self, k: &mut impl Kernel, vaddr: u64) {
        self.with_page(k, vaddr, |k, window| k.write(window, &[0; 8]));
    }
    /// Runs `f` with the address in init at which the private page under `vaddr` is mapped.
    fn with_page<K: Kernel>(
        &self,
        k: &mut K,
        vaddr: u64,
        f: impl FnOnce(&mut K, u64),
    ) -> Option<()> {
        let (offset, page) = self.plan.frame_at(vaddr)?;
        let at = window::SCRATCH + (vaddr - page);
        with_frame(k, self.slots.frames + offset, |k| f(k, at)).ok()
    }
}

impl Process<'_> {
    /// Whether its manifest entry lets it ask this.
    ///
    /// # Errors
    /// The permission that it lacks.
    pub fn may_ask(&self, request: &Request) -> Result<(), Permission> {
        let (may, permission) = match request {
            Request::Random => (self.asks.random, Permission::Random),
            Request::List { .. }
            | Request::Reports { .. }
            | Request::Report(_)
            | Request::Backtrace { .. }
            | Request::Trace(proc::Trace::Look)
            | Request::Memory
            | Request::Machine
            | Request::Dma => (self.asks.status, Permission::InitStatus),
            Request::Kill(_)
            | Request::Crash(..)
            | Request::Restart(_)
            | Request::Start(..)
            | Request::Stop(_)
            | Request::Suspend(_)
            | Request::Resume(_)
            | Request::Trace(_)
            | Request::Authority { .. }
            | Request::PowerOff => (false, Permission::Init),
        };
        if may || self.asks.control { Ok(()) } else { Err(permission) }
    }
    /// Microseconds that this incarnation ran, if it has a budget.
    pub fn ran_us(&self, k: &mut impl Kernel) -> Option<u64> {
        let sched = self.parts.as_ref().filter(|_| self.is_running())?.slots.sched;
        self.budget?;
        let words = k.invoke(sched, Label::SchedConsumed, [0; 4], [0; 2]).ok()?;
        Some(words[0] / 1000)
    }
    /// Address of its log page in init.
    pub fn log_page(&self) -> u64 {
        Parts::log_vaddr(self.index)
    }
    /// Badge of its faults.
    pub fn fault_badge(&self) -> u64 {
        badge::fault(self.index)
    }
    /// Whether it holds private objects.
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }
}
