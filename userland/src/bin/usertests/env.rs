//! What every test works with: objects of its own, threads, their faults, and ways to say what is wrong.

use abi::{CPtr, Error, FaultKind, MapAttr, ObjType, Rights, SUPERVISOR_EXIT};
use alloc::string::String;
use core::cell::Cell;
use core::fmt::{self, Debug};
use core::panic::Location;
use libipc::sys;
use rt::StartInfo;
use userland::own::{Own, Thread};

/// How long a test waits for a thread before it says that nothing comes.
const PATIENCE_NS: u64 = 3_000_000_000;

/// Where and why a test failed.
pub struct Why {
    at: &'static Location<'static>,
    what: String,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.at.file().rsplit('/').next().unwrap_or("?");
        write!(f, "{file}:{}: {}", self.at.line(), self.what)
    }
}

/// What a test comes to.
pub type Told = Result<(), Why>;

/// A failure, in words.
#[track_caller]
pub fn why<T>(what: fmt::Arguments<'_>) -> Result<T, Why> {
    Err(Why { at: Location::caller(), what: alloc::fmt::format(what) })
}

/// `got` is `want`.
#[track_caller]
pub fn equal<T: PartialEq + Debug>(got: T, want: T) -> Told {
    if got == want { Ok(()) } else { why(format_args!("{got:x?}, not {want:x?}")) }
}

/// The call is refused for this reason.
#[track_caller]
pub fn refused<T: Debug>(got: Result<T, Error>, want: Error) -> Told {
    match got {
        Err(e) if e == want => Ok(()),
        other => why(format_args!("{other:x?}, not {want:?}")),
    }
}

/// The call works.
#[track_caller]
pub fn works<T>(got: Result<T, Error>) -> Result<T, Why> {
    got.or_else(|e| why(format_args!("refused: {e:?}")))
}

/// A fault message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Badge of the thread.
    pub badge: u64,
    /// Kind.
    pub kind: FaultKind,
    /// Instruction pointer.
    pub rip: u64,
    /// Address, or system call.
    pub addr: u64,
    /// Error code, vector, or the system call's argument.
    pub code: u64,
}

/// See the [module](self).
pub struct Env {
    pub start: &'static StartInfo,
    pub own: Own,
    /// Endpoint of the threads' faults.
    pub faults: CPtr,
    /// Holds the thread whose fault came last.
    pub reply: CPtr,
    /// The notification bound to this thread, and the timer that signals it.
    pub events: CPtr,
    pub timer: CPtr,
    /// The least urgent thread of a test.
    idle: Cell<Option<Thread>>,
}

extern "C" fn nothing(_: u64) -> u64 {
    0
}

impl Env {
    /// `None`: the manifest entry lacks something.
    pub fn new(start: &'static StartInfo) -> Option<Self> {
        let own = Own::new(start)?;
        let (events, timer) = (start.cap("events")?, start.cap("timer")?);
        Some(Self { start, own, faults: 0, reply: 0, events, timer, idle: Cell::new(None) })
    }

    /// Makes what every test needs.
    pub fn prepare(&mut self) -> Told {
        self.idle.set(None);
        self.faults = works(self.own.make(ObjType::Endpoint, 0))?;
        self.reply = works(self.own.make(ObjType::Reply, 0))?;
        Ok(())
    }

    /// A new object.
    #[track_caller]
    pub fn make(&self, ty: ObjType) -> Result<CPtr, Why> {
        works(self.own.make(ty, 0))
    }

    /// A new CNode of 2^`bits` slots.
    #[track_caller]
    pub fn cnode(&self, bits: u8) -> Result<CPtr, Why> {
        works(self.own.make(ObjType::CNode, bits))
    }

    /// A new copy of `cap` with at most these rights.
    #[track_caller]
    pub fn copy(&self, cap: CPtr, rights: Rights) -> Result<CPtr, Why> {
        works(self.own.copy(cap, rights))
    }

    /// A new copy of `cap` with all of its rights and a badge.
    #[track_caller]
    pub fn mint(&self, cap: CPtr, badge: u64) -> Result<CPtr, Why> {
        works(self.own.mint(cap, Rights::all(), badge))
    }

    /// A page of these instructions; its address.
    #[track_caller]
    pub fn code(&self, bytes: &[u8]) -> Result<u64, Why> {
        let (frame, at) = works(self.own.page())?;
        crate::raw::write_bytes(at, bytes);
        works(sys::unmap(frame))?;
        works(self.own.map(frame, self.own.vspace, at, Rights::READ, MapAttr::EXEC))?;
        Ok(at)
    }

    /// The fault that a new thread runs into that executes these instructions.
    #[track_caller]
    pub fn executes(&self, bytes: &[u8]) -> Result<Fault, Why> {
        let at = self.code(bytes)?;
        let thread = self.thread(1)?;
        works(self.own.start_at(&thread, at, 0, 0))?;
        self.fault()
    }

    /// A new thread, not started.
    #[track_caller]
    pub fn thread(&self, priority: u8) -> Result<Thread, Why> {
        works(self.own.thread(self.faults, priority))
    }

    /// A new thread that runs `f(arg)`.
    #[track_caller]
    pub fn spawn(
        &self,
        priority: u8,
        f: extern "C" fn(u64) -> u64,
        arg: u64,
    ) -> Result<Thread, Why> {
        let thread = self.thread(priority)?;
        works(self.own.start(&thread, f, arg))?;
        Ok(thread)
    }

    /// Waits for the next fault of any thread; its thread is then held by `reply`.
    #[track_caller]
    pub fn fault(&self) -> Result<Fault, Why> {
        match self.fault_within(PATIENCE_NS)? {
            Some(fault) => Ok(fault),
            None => why(format_args!("no thread faults or ends")),
        }
    }

    /// As [`Self::fault`], or `None` when `ns` have passed.
    #[track_caller]
    pub fn fault_within(&self, ns: u64) -> Result<Option<Fault>, Why> {
        works(sys::arm(self.timer, self.start.now_ns() + ns))?;
        let got = works(sys::recv(self.faults, self.reply))?;
        works(sys::cancel(self.timer))?;
        if got.info.is_signal() {
            return Ok(None);
        }
        sys::poll(self.events);
        let kind = FaultKind::from_raw(got.info.method()).filter(|_| got.info.is_fault());
        let Some(kind) = kind else { return why(format_args!("no fault: {:?}", got.info)) };
        let [rip, addr, code, _] = got.words;
        Ok(Some(Fault { badge: got.badge, kind, rip, addr, code }))
    }

    /// Waits until `thread` ends; returns what its function returned.
    #[track_caller]
    pub fn end(&self, thread: &Thread) -> Result<u64, Why> {
        let f = self.fault()?;
        let exit = f.kind == FaultKind::Syscall && f.addr == SUPERVISOR_EXIT;
        if exit && f.badge == thread.badge { Ok(f.code) } else { why(format_args!("{f:x?}")) }
    }

    /// Waits until no thread of the test can run: they wait, or are stopped. None of them faults.
    #[track_caller]
    pub fn settle(&self) -> Told {
        let idle = match self.idle.get() {
            Some(idle) => idle,
            None => self.thread(0)?,
        };
        self.idle.set(Some(idle));
        works(self.own.start(&idle, nothing, 0))?;
        self.end(&idle).map(drop)
    }

    /// Lets others run for a while, however urgent they are. None of them faults.
    #[track_caller]
    pub fn pass(&self) -> Told {
        match self.fault_within(200_000)? {
            None => Ok(()),
            Some(f) => why(format_args!("{f:x?}")),
        }
    }

    /// Lets the thread go on whose fault came last.
    #[track_caller]
    pub fn go_on(&self) -> Told {
        works(sys::reply(self.reply, abi::MsgInfo(0), [0; 4]))
    }
}
