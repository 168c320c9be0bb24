//! Requests to init: processes and the machine.

use crate::Name;
use crate::authority;
use crate::permission::Permission;
use serde::{Deserialize, Serialize};

/// Arguments of a program.
pub type Args = heapless::String<{ crate::start::ARGS }>;

/// A request; the reply is `Result<Reply, Error>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Processes from number `skip` on: [`Reply::Processes`].
    List {
        /// How many to pass over.
        skip: u32,
    },
    /// Ends a process as a crash would; its restart policy decides what follows.
    Kill(Name),
    /// Makes a process crash wherever it is.
    Crash(Name, Crash),
    /// Ends a process and starts it again, whatever its policy.
    Restart(Name),
    /// The same, with these arguments instead of the manifest's. A restart that follows by itself goes
    /// back to the manifest's.
    Start(Name, Args),
    /// Ends a process, and leaves it down until [`Request::Restart`]. Calls to it fail meanwhile.
    Stop(Name),
    /// Puts a driver and its device to rest: no frame leaves or arrives until [`Request::Resume`].
    /// The driver's state says when it rests.
    Suspend(Name),
    /// Wakes a driver.
    Resume(Name),
    /// Reports of deaths from number `from` on, oldest first: [`Reply::Reports`].
    Reports {
        /// The first number wanted.
        from: u32,
    },
    /// One report in full: [`Reply::Report`], or [`Error::NotFound`].
    Report(u32),
    /// Backtrace of a report: [`Reply::Backtrace`], or [`Error::NotFound`].
    Backtrace {
        /// Number of the report.
        report: u32,
        /// How many places to pass over.
        skip: u32,
    },
    /// Memory: [`Reply::Memory`].
    Memory,
    /// 32 random bytes: [`Reply::Random`].
    Random,
    /// Turns the machine off.
    PowerOff,
    /// The kernel's trace: [`Reply::Trace`], as it is then.
    Trace(Trace),
    /// What devices reach, and what they were refused: [`Reply::Dma`].
    Dma,
    /// What is held in a place, from a slot on: [`Reply::Authority`].
    Authority {
        /// Where.
        place: authority::Place,
        /// First slot.
        from: u32,
    },
    /// Bytes of RAM of the machine: [`Reply::Machine`].
    Machine,
}

/// What to do about the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trace {
    /// Nothing.
    Look,
    /// Begin a new one, over the last.
    Start,
    /// Stop: the ring then keeps what it holds.
    Stop,
}

/// Ways to crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Crash {
    /// A Rust panic.
    Panic,
    /// A write through a wild pointer.
    Pointer,
    /// An undefined instruction.
    Undefined,
    /// It does nothing any more but run, until it is ended.
    Spin,
    /// A driver sends its device astray: it is to send from and receive into memory that is not its own.
    /// Only where an IOMMU keeps it from that.
    Dma,
}

/// What init answers.
#[allow(clippy::large_enum_variant, reason = "made once, encoded and dropped; there is no heap")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Done,
    /// Some processes; fewer than 8: these were the last.
    Processes(heapless::Vec<Process, 8>),
    /// Some reports; fewer than 4: these were the last. Numbers begin at 1; those before the first
    /// that is there were dropped to make room.
    Reports(heapless::Vec<Report, 4>),
    /// A report.
    Report(Details),
    /// Some places, innermost first; fewer than 4: these were the last.
    Backtrace(heapless::Vec<Place, 4>),
    /// Memory.
    Memory {
        /// Bytes of RAM that init was given.
        total: u64,
        /// Bytes not handed out.
        free: u64,
        /// Capability slots in use in init's CSpace.
        slots: u32,
    },
    /// Random bytes.
    Random {
        /// They are nobody else's.
        bytes: [u8; 32],
        /// Whether the machine has a source of randomness that passes its tests.
        sound: bool,
    },
    /// The trace.
    Trace {
        /// Whether it is being written.
        running: bool,
        /// Records since it was started.
        written: u64,
        /// Records that the ring holds; the newest ones stay.
        capacity: u64,
    },
    /// Devices that may reach memory by themselves.
    Dma {
        /// At most the first eight.
        devices: heapless::Vec<DmaDevice, 8>,
        /// Transfers that were refused and recorded.
        refused: u64,
        /// Others were not recorded.
        lost: bool,
        /// The last of them.
        last: Option<DmaFault>,
    },
    /// Capabilities.
    Authority(authority::Page),
    /// Bytes of RAM, the kernel's included.
    Machine(u64),
}

/// What a device reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmaDevice {
    /// Bus, device and function: 8, 5 and 3 bits.
    pub device: u16,
    /// Who drives it.
    pub driver: Name,
    /// KiB that it may read and write. `None`: there is no IOMMU, it reaches all memory.
    pub reach: Option<(u32, u32)>,
}

/// A transfer that the IOMMU refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmaFault {
    /// Bus, device and function: 8, 5 and 3 bits.
    pub device: u16,
    /// Who drives it, if anybody does.
    pub driver: Option<Name>,
    /// The page that it aimed at.
    pub address: u64,
    /// It was a write.
    pub write: bool,
    /// Why (Intel VT-d specification 7.2.3): 1 and 2, the device is in no domain; 5 no write and 6 no
    /// read access.
    pub reason: u8,
    /// When, microseconds since boot.
    pub at_us: u64,
}

/// Writes a device's number as PCI does: bus, device, function.
pub fn pci_address(device: u16) -> impl core::fmt::Display {
    struct At(u16);
    impl core::fmt::Display for At {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            write!(f, "{:02x}:{:02x}.{}", self.0 >> 8, self.0 >> 3 & 31, self.0 & 7)
        }
    }
    At(device)
}

impl core::fmt::Display for DmaFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("dma fault: ")?;
        if let Some(driver) = &self.driver {
            write!(f, "{driver}'s ")?;
        }
        let (at, way) = (pci_address(self.device), if self.write { "wrote" } else { "read" });
        write!(f, "device {at} {way} {:#x}: refused (reason {})", self.address, self.reason)
    }
}

/// A process, as `ps` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Name.
    pub name: Name,
    /// State.
    pub state: State,
    /// Priority.
    pub priority: u8,
    /// Starts so far, less one.
    pub restarts: u32,
    /// Private memory, bytes.
    pub memory: u64,
    /// Microseconds since it was started.
    pub uptime_us: u64,
    /// Microseconds that it ran since; `None`: it has no budget, so nobody counts.
    pub ran_us: Option<u64>,
    /// Whether it drives a device.
    pub drives: bool,
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It has a thread.
    Running,
    /// It ended with this status and stays so.
    Exited(u64),
    /// It crashed too often, or its policy is never to restart it.
    Failed,
    /// Waits to be started again.
    Restarting,
    /// Not started yet: waits for `restart`.
    Stopped,
    /// A driver that rests, and its device with it: waits for [`Request::Resume`].
    Suspended,
}

/// A death and what followed, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Number of the report, from 1.
    pub number: u32,
    /// Process.
    pub name: Name,
    /// Which of its incarnations died, from 0.
    pub incarnation: u32,
    /// Why, one line.
    pub cause: heapless::String<96>,
    /// Instruction pointer.
    pub rip: u64,
    /// When, microseconds since boot.
    pub at_us: u64,
    /// What followed.
    pub outcome: Outcome,
    /// How long it took.
    pub phases: Phases,
}

/// What followed a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It stays down: its policy says so, or it ended as it should.
    Ended,
    /// It stays down: it crashed too often.
    GivenUp,
    /// Its restart was put off.
    Waiting,
    /// Its successor runs. It is no program that says when it is ready.
    Started,
    /// Its successor runs and has not said yet that it is ready.
    Attaching,
    /// Its successor has said that it is ready.
    Ready,
    /// Its successor died before it was ready.
    DiedAgain,
}

/// The parts of a downtime, in microseconds; they add up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// From the fault to init's noticing; 0 if init ended the process itself.
    pub detect_us: u64,
    /// Until registers and stack were read and the process was gone.
    pub tear_down_us: u64,
    /// Until the restart, if it was put off.
    pub pause_us: u64,
    /// Until the successor's first instruction.
    pub build_us: u64,
    /// Until the successor said that it is ready, if it did.
    pub attach_us: Option<u64>,
}

impl Phases {
    /// From the fault to the successor's readiness, as far as there was any.
    pub fn downtime_us(&self) -> u64 {
        let parts = [self.detect_us, self.tear_down_us, self.pause_us, self.build_us];
        parts.iter().sum::<u64>() + self.attach_us.unwrap_or(0)
    }
}

/// A report in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The same in short.
    pub report: Report,
    /// Why, with all details.
    pub cause: heapless::String<400>,
    /// What the successor said when it was ready: what it took over, what was lost.
    pub said: heapless::String<{ crate::log::READY }>,
    /// Registers where it ended.
    pub regs: abi::UserRegs,
}

/// A place in a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Address, function and offset in it.
    pub text: heapless::String<220>,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// No process of that name, or no report of that number.
    NotFound,
    /// The caller's manifest entry lacks this permission.
    NotPermitted(Permission),
    /// The process does not run.
    NotRunning,
    /// The process drives no device.
    NoDevice,
    /// The process cannot be started; init's log says why.
    CannotStart,
    /// The request makes no sense.
    Invalid,
    /// The system has no memory for traces.
    NoTrace,
    /// No IOMMU confines the process's device.
    NotConfined,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotFound => f.write_str("no process of that name"),
            Self::NotPermitted(permission) => write!(f, "not permitted: {permission}"),
            Self::NotRunning => f.write_str("the process does not run"),
            Self::NoDevice => f.write_str("the process drives no device"),
            Self::CannotStart => f.write_str("the process cannot be started; init's log says why"),
            Self::Invalid => f.write_str("the request makes no sense"),
            Self::NoTrace => f.write_str("there is no ring: give the manifest a `[trace]` table"),
            Self::NotConfined => f.write_str(
                "its device would really do it: there is no IOMMU (`run --machine q35` has one)",
            ),
        }
    }
}
