//! Making the standing part of one process.

use abi::{
    CPtr, Clock, IsaLine, LARGE_BITS, Label, ObjType, PAGE_BITS, PAGE_SIZE, Rights, init_slot,
};
use alloc::boxed::Box;
use alloc::vec::Vec;
use libipc::authority::Purpose;
use libipc::bundle::File;
use libipc::proc::State;
use libipc::start::{self, StartInfo};
use spec::{CapKind, MapKind, System};

use crate::draft::{Backing, Draft};
use crate::kernel::Kernel;
use crate::layout::{CONSOLE_BIT, ROOT, badge, slot, window};
use crate::maker::{MakeError, Maker};
use crate::pci::Function;
use crate::plan::FIRST_CAP;
use crate::process::{CapSource, Parts, Process, ProcessSlots};
use crate::report::{clip, name};
use crate::tables::Tables;

/// The frames of a BAR.
pub struct BarFrames {
    /// Device and number.
    pub which: (u16, u8),
    /// First slot.
    pub first: CPtr,
}

/// What processes share.
pub struct Shared {
    /// First endpoint of the manifest.
    pub endpoints: CPtr,
    /// First notification.
    pub notifications: CPtr,
    /// First slot and physical address of each region.
    pub regions: Vec<(CPtr, u64)>,
    /// First slot of each read-only segment, by file and segment.
    pub segments: Vec<Vec<CPtr>>,
    /// BARs.
    pub bars: Vec<BarFrames>,
    /// IRQ handler of each device, bound for the first process that has it.
    pub irqs: Vec<Option<CPtr>>,
    /// Console input page.
    pub console: CPtr,
    /// Clock parameters.
    pub clock: Clock,
    /// See [`StartInfo::utc_at_boot`].
    pub utc_at_boot: Option<u64>,
    /// Whether the machine is QEMU's.
    pub emulated: bool,
    /// Where ISA interrupts lead.
    pub isa: [IsaLine; 16],
}

impl Shared {
    fn frame(&self, file: usize, log: CPtr, info: CPtr, backing: Backing) -> Option<CPtr> {
        Some(match backing {
            Backing::Private => return None,
            Backing::Segment(i) => self.segments[file][i],
            Backing::Region(i, first) => self.regions[i as usize].0 + first,
            Backing::Bar(device, bar) => self.bars.iter().find(|b| b.which == (device, bar))?.first,
            Backing::Log => log,
            Backing::Start => info,
            Backing::Console => self.console,
        })
    }
}

/// Makes address space, mappings, lent pages and badged capabilities of process number `index`.
#[expect(clippy::too_many_arguments, reason = "called once, with everything that boot knows")]
pub fn make_process<'a, K: Kernel>(
    m: &mut Maker<'_, K>,
    system: &System,
    index: usize,
    draft: Draft<'a>,
    private: CPtr,
    file: Option<usize>,
    found: &[Option<Function>],
    shared: &mut Shared,
) -> Result<Parts<'a>, MakeError> {
    let process = &system.processes[index];
    let write = Rights::READ | Rights::WRITE;
    m.slots.are_for(Purpose::Standing(index as u16));
    let log = m.make(ObjType::Frame, PAGE_BITS, 1)?;
    m.map_own(log, window::LOGS + index as u64 * PAGE_SIZE, write)?;
    let pages = window::START_BYTES / PAGE_SIZE;
    let info = m.make(ObjType::Frame, PAGE_BITS, pages)?;
    for i in 0..pages {
        let vaddr = window::STARTS + index as u64 * window::START_BYTES + i * PAGE_SIZE;
        m.map_own(info + i, vaddr, write)?;
    }

    let vspace = m.make(ObjType::VSpace, 0, 1)?;
    let mut tables = Tables::default();
    for r in &draft.ranges {
        m.make_tables(vspace, &mut tables, r.vaddr, r.bits, r.count)?;
        let frames = shared.frame(file.unwrap_or(0), log, info, r.backing);
        for i in (0..r.count).filter(|_| frames.is_some()) {
            // A capability is mapped once: each mapping has its own copy.
            let copy = m.copy(frames.unwrap_or(0) + i, Rights::all())?;
            m.k.map(copy, vspace, r.vaddr + (i << r.bits), r.rights, r.attr)?;
        }
    }

    let fault = m.mint(slot::ENDPOINT, Rights::WRITE, badge::fault(index))?;
    m.slots.are_for(Purpose::Life(index as u16));
    let frames = m.slots(draft.plan.slots())?;
    m.slots.are_for(Purpose::Standing(index as u16));
    let thread = frames + draft.plan.frames(LARGE_BITS) + draft.plan.frames(PAGE_BITS);
    let own = ProcessSlots {
        private,
        frames,
        thread,
        cnode: thread + 1,
        sched: thread + 2,
        vspace,
        fault,
    };
    let ntfn = |i: u16| shared.notifications + i as u64;
    let mut caps = Vec::new();
    for cap in &process.caps {
        caps.push(match cap.kind {
            CapKind::Endpoint { index, recv, badge } => CapSource::Mint {
                src: shared.endpoints + index as u64,
                rights: if recv { Rights::READ } else { Rights::WRITE },
                badge,
            },
            CapKind::Init(_) => CapSource::Mint {
                src: slot::ENDPOINT,
                rights: Rights::WRITE,
                badge: badge::request(index),
            },
            CapKind::Notification { index, recv, badge } => CapSource::Mint {
                src: ntfn(index),
                rights: if recv { Rights::READ } else { Rights::WRITE },
                badge,
            },
            CapKind::Reply => CapSource::Reply,
            CapKind::Untyped { .. } => CapSource::Untyped,
            CapKind::CSpace => CapSource::Own(own.cnode),
            CapKind::VSpace => CapSource::Own(own.vspace),
            CapKind::Thread => CapSource::Own(own.thread),
            CapKind::Timer { notification, badge } => {
                CapSource::Timer { signal: m.mint(ntfn(notification), Rights::WRITE, badge)? }
            }
            CapKind::Irq { device, notification, badge } => {
                let src = match shared.irqs[device as usize] {
                    Some(src) => src,
                    None => {
                        let signal = m.mint(ntfn(notification), Rights::WRITE, badge)?;
                        let function = found[device as usize].ok_or(MakeError::Device)?;
                        let line = function.line.ok_or(MakeError::Device)?;
                        let src = make_irq(m, pci_line(&shared.isa, line), signal)?;
                        shared.irqs[device as usize] = Some(src);
                        src
                    }
                };
                CapSource::Irq { src }
            }
            CapKind::Ports { first, last } => CapSource::Mint {
                src: init_slot::IO_PORTS,
                rights: Rights::all(),
                badge: (first as u64) << 16 | last as u64,
            },
            CapKind::IsaIrq { line, notification, badge } => {
                let signal = m.mint(ntfn(notification), Rights::WRITE, badge)?;
                // As the line is wired: an edge, unless the firmware's tables say otherwise.
                CapSource::Irq { src: make_irq(m, shared.isa[line as usize], signal)? }
            }
        });
    }
    let bound = process.bound.map(ntfn);
    let console = match bound.filter(|_| process.console) {
        Some(ntfn) => Some(m.mint(ntfn, Rights::WRITE, CONSOLE_BIT)?),
        None => None,
    };
    let (mut stop, mut suspend) = (None, None);
    if let Some(ntfn) = bound.filter(|_| !draft.devices.is_empty()) {
        stop = Some(m.mint(ntfn, Rights::WRITE, start::STOP)?);
        suspend = Some(m.mint(ntfn, Rights::WRITE, start::SUSPEND)?);
    }
    let mut notices = Vec::new();
    for (i, badge) in &process.death_notices {
        notices.push(m.mint(ntfn(*i), Rights::WRITE, *badge)?);
    }
    let emulated = if draft.devices.is_empty() {
        shared.emulated
    } else {
        draft.devices.iter().all(|d| found[*d].is_some_and(|f| f.emulated))
    };
    let mut info = start_info(system, index, &draft, shared, emulated);
    info.device = draft.devices.first().and_then(|d| found[*d]).map(|f| f.id);
    let Draft { plan, devices, .. } = draft;
    Ok(Parts { plan, slots: own, caps, info, bound, notices, console, stop, suspend, devices })
}

/// Where a PCI function's interrupt leads that firmware has given `line`. INTx is level triggered.
///
/// Up to 15, the line is an input of the old interrupt controllers. Firmware sets the machine up for
/// those, its tables tell where such an input is found among the I/O APIC's, and that it is active
/// high or low; untold, it is as the controller had it, active high. Above, it is a line of the I/O
/// APIC, as the bus has it: active low. (What leads where without firmware's help would take an
/// interpreter for its tables, \_PRT.)
fn pci_line(isa: &[IsaLine; 16], line: u8) -> IsaLine {
    match isa.get(line as usize) {
        Some(isa) => IsaLine { gsi: isa.gsi, flags: isa.flags | LEVEL },
        None => IsaLine { gsi: line as u32, flags: LEVEL | LOW },
    }
}

/// Flags of an interrupt line.
const LEVEL: u32 = 1;
const LOW: u32 = 2;

/// The handler of an interrupt line, bound for good: the notification is lent, so it outlives every
/// driver, and an interrupt that comes while there is none waits there.
fn make_irq<K: Kernel>(
    m: &mut Maker<'_, K>,
    line: IsaLine,
    signal: CPtr,
) -> Result<CPtr, MakeError> {
    let dest = m.slots(1)?;
    let words = [line.gsi as u64, line.flags as u64, ROOT, dest];
    m.k.invoke(init_slot::IRQ_CONTROL, Label::IrqGet, words, [0; 2])?;
    m.k.invoke(dest, Label::IrqSetNotification, [signal, 0, 0, 0], [0; 2])?;
    Ok(dest)
}

fn start_info(
    system: &System,
    index: usize,
    draft: &Draft<'_>,
    shared: &Shared,
    emulated: bool,
) -> Box<StartInfo> {
    let process = &system.processes[index];
    // Bus addresses are for drivers only.
    let driver = !draft.devices.is_empty();
    let mut info = Box::new(StartInfo {
        name: name(&process.name),
        incarnation: 0,
        clock: shared.clock,
        utc_at_boot: shared.utc_at_boot,
        heap_len: draft.plan.heap,
        seed: [0; 32],
        args: clip(&process.args),
        emulated,
        device: None,
        caps: heapless::Vec::new(),
        regions: heapless::Vec::new(),
    });
    for (cptr, cap) in (FIRST_CAP..).zip(&process.caps) {
        let _ = info.caps.push(start::Cap { name: name(&cap.name), cptr });
    }
    for (i, map) in process.maps.iter().enumerate() {
        let vaddr = start::REGIONS + i as u64 * start::REGION_STRIDE;
        let region = |index: u16, vaddr| {
            let spec = &system.regions[index as usize];
            let paddr = shared.regions[index as usize].1;
            let dma = spec.dma.filter(|_| driver).map(|dma| (dma.window, paddr));
            start::Region { name: name(&map.name), vaddr, len: spec.kib as u64 * 1024, dma }
        };
        let region = match map.kind {
            MapKind::Region { index, .. } => region(index, vaddr),
            MapKind::DmaOnly { index } => region(index, 0),
            MapKind::Bar { device, bar } => {
                let pages = draft.ranges.iter().find_map(|r| match r.backing {
                    Backing::Bar(d, b) if (d, b) == (device, bar) => Some(r.count),
                    _ => None,
                });
                let len = pages.unwrap_or(0) * PAGE_SIZE;
                start::Region { name: name(&map.name), vaddr, len, dma: None }
            }
        };
        let _ = info.regions.push(region);
    }
    info
}

/// A process of the system description, not started yet.
pub fn process<'a>(
    spec: &spec::Process,
    index: usize,
    file: Option<File<'a>>,
    parts: Option<Parts<'a>>,
    endpoints: CPtr,
) -> Process<'a> {
    let endpoint = spec.caps.iter().find_map(|c| match c.kind {
        CapKind::Endpoint { index, recv: true, .. } => Some(endpoints + index as u64),
        _ => None,
    });
    Process {
        endpoint,
        name: name(&spec.name),
        index,
        priority: spec.priority,
        budget: spec.budget,
        policy: spec.restart,
        autostart: spec.autostart,
        console: spec.console,
        file,
        state: if parts.is_some() { State::Stopped } else { State::Failed },
        parts,
        starts: 0,
        started_ns: 0,
        history: Default::default(),
        pending: None,
        report: None,
        says_ready: false,
        ready: false,
        ready_due: None,
        suspend_due: None,
        doom: None,
        crashed_at: None,
        lines: Default::default(),
        dropped: 0,
        log_waits: false,
        log_allowance: Default::default(),
        log_due: None,
        asks: spec
            .caps
            .iter()
            .find_map(|c| match c.kind {
                CapKind::Init(rights) => Some(rights),
                _ => None,
            })
            .unwrap_or_default(),
        complaints: Default::default(),
        overrun: Default::default(),
    }
}
