//! Checking a process of the system description and laying out its address space, before
//! anything of it is made.

use abi::{LARGE_BITS, MapAttr, PAGE_BITS, PAGE_SIZE, Rights};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use libipc::bundle::{File, Segment};
use libipc::start;
use spec::{CapKind, MapKind, System};

use crate::dma;
use crate::layout::{slot, window};
use crate::maker::split;
use crate::pci::Function;
use crate::plan::{MAX_CAPS, Plan, PlanError};
use crate::tables::Tables;

/// Highest priority of a process: init's own is above.
const TOP_PRIORITY: u8 = 249;
/// Capabilities, regions and bytes of arguments that [`start::StartInfo`] has room for.
const MOST_CAPS: usize = 40;
const MOST_REGIONS: usize = 80;
const MOST_ARGS: usize = 128;
/// Inputs of the old interrupt controllers.
const ISA_LINES: u8 = 16;
/// Largest BAR that is handed out, in pages.
const BAR_PAGES: u64 = 4096;

/// Why one process cannot run; the others do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its program is not in the bundle.
    NoFile(String),
    /// A device of it was not found.
    NoDevice(String),
    /// The device lacks this BAR, or it shares a page with other registers.
    NoBar(String, u8),
    /// The device has no interrupt line.
    NoIrq(String),
    /// An index points past the end of its list.
    BadIndex,
    /// It cannot be built like this.
    Plan(PlanError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile(file) => write!(f, "no program {file} in the boot bundle"),
            Self::NoDevice(device) => write!(f, "device {device} not found"),
            Self::NoBar(device, bar) => write!(f, "device {device} has no usable BAR {bar}"),
            Self::NoIrq(device) => write!(f, "device {device} has no interrupt line"),
            Self::BadIndex => f.write_str("it refers to something the system does not have"),
            Self::Plan(e) => f.write_str(match e {
                PlanError::Segment => "its program has a segment where none may be",
                PlanError::Size => "its stack or heap is too large, or it has no stack",
                PlanError::Caps => "it has too many capabilities",
                PlanError::StartInfo => "its start information does not fit",
                PlanError::Priority => "its priority is not below init's",
                PlanError::Budget => "its budget is zero or more than its period",
            }),
        }
    }
}

/// What a range of pages is backed by.
#[derive(Clone, Copy)]
pub enum Backing {
    /// Frames of an incarnation: only tables are made.
    Private,
    /// A read-only segment of its program.
    Segment(usize),
    /// A region, from this frame on.
    Region(u16, u64),
    /// A BAR of a device.
    Bar(u16, u8),
    /// Its log page.
    Log,
    /// Its start information.
    Start,
    /// Console input.
    Console,
}

/// Pages of a process.
pub struct Range {
    /// First address.
    pub vaddr: u64,
    /// log2 of a page's size.
    pub bits: u8,
    /// Pages.
    pub count: u64,
    /// What backs them.
    pub backing: Backing,
    /// How they are mapped.
    pub rights: Rights,
    /// Likewise.
    pub attr: MapAttr,
}

/// A process before its objects are made.
pub struct Draft<'a> {
    /// What each incarnation needs.
    pub plan: Plan<'a>,
    /// All its pages.
    pub ranges: Vec<Range>,
    /// Devices it drives.
    pub devices: Vec<usize>,
}

/// Checks a process and lays out its address space.
pub fn draft<'a>(
    system: &System,
    process: &spec::Process,
    file: Option<&File<'a>>,
    found: &[Option<Function>],
) -> Result<Draft<'a>, Refusal> {
    let file = file.ok_or_else(|| Refusal::NoFile(process.file.clone()))?;
    if process.priority > TOP_PRIORITY {
        return Err(Refusal::Plan(PlanError::Priority));
    }
    if process.budget.is_some_and(|b| b.budget_us == 0 || b.budget_us > b.period_us) {
        return Err(Refusal::Plan(PlanError::Budget));
    }
    if process.caps.len() > MAX_CAPS || process.caps.len() > MOST_CAPS {
        return Err(Refusal::Plan(PlanError::Caps));
    }
    let names = process.caps.iter().map(|c| &c.name).chain(process.maps.iter().map(|m| &m.name));
    let fits = names.chain([&process.name]).all(|n| n.len() <= libipc::NAME_MAX);
    if !fits || process.maps.len() > MOST_REGIONS || process.args.len() > MOST_ARGS {
        return Err(Refusal::Plan(PlanError::StartInfo));
    }
    let mut devices = Vec::new();
    let mut device = |index: u16| {
        let index = index as usize;
        let spec = system.devices.get(index).ok_or(Refusal::BadIndex)?;
        let found = found.get(index).copied().flatten();
        let function = found.ok_or_else(|| Refusal::NoDevice(spec.name.clone()))?;
        if !devices.contains(&index) {
            devices.push(index);
        }
        Ok((spec, function))
    };
    let notification = |i: u16| system.notifications.get(i as usize).ok_or(Refusal::BadIndex);
    let (mut timers, mut replies, mut untyped) = (0, 0, None);
    for cap in &process.caps {
        match cap.kind {
            CapKind::Endpoint { index, .. } => {
                system.endpoints.get(index as usize).ok_or(Refusal::BadIndex)?;
            }
            CapKind::Notification { index, .. } => drop(notification(index)?),
            CapKind::Timer { notification: n, .. } => {
                notification(n)?;
                timers += 1;
            }
            CapKind::Irq { device: d, notification: n, .. } => {
                notification(n)?;
                let (spec, function) = device(d)?;
                function.line.ok_or_else(|| Refusal::NoIrq(spec.name.clone()))?;
            }
            CapKind::IsaIrq { line, notification: n, .. } => {
                notification(n)?;
                if line >= ISA_LINES {
                    return Err(Refusal::BadIndex);
                }
            }
            CapKind::Ports { first, last } if first > last => return Err(Refusal::BadIndex),
            CapKind::Reply => replies += 1,
            CapKind::Untyped { bits } => untyped = Some(bits),
            CapKind::Ports { .. }
            | CapKind::Init(_)
            | CapKind::CSpace
            | CapKind::VSpace
            | CapKind::Thread => {}
        }
    }
    for n in process.bound.iter().chain(process.death_notices.iter().map(|(n, _)| n)) {
        notification(*n)?;
    }
    let plan = Plan::new(file, process.stack_kib, process.heap_kib, timers, replies, untyped)
        .map_err(Refusal::Plan)?;

    let mut ranges = Vec::new();
    let mut range = |vaddr, bits, count, backing, rights, attr| {
        if count > 0 {
            ranges.push(Range { vaddr, bits, count, backing, rights, attr });
        }
    };
    let (read, write, plain) = (Rights::READ, Rights::READ | Rights::WRITE, MapAttr::empty());
    for a in &plan.areas {
        range(a.vaddr, a.bits, a.count, Backing::Private, write, plain);
    }
    for (i, s) in file.segments().enumerate().filter(|(_, s)| !s.write) {
        let (rights, attr) =
            if s.exec { (read | Rights::GRANT, MapAttr::EXEC) } else { (read, plain) };
        range(s.vaddr, PAGE_BITS, segment_pages(&s), Backing::Segment(i), rights, attr);
    }
    range(start::LOG, PAGE_BITS, 1, Backing::Log, write, plain);
    let info_pages = window::START_BYTES / PAGE_SIZE;
    range(start::START_INFO, PAGE_BITS, info_pages, Backing::Start, read, plain);
    if process.console {
        range(start::CONSOLE, PAGE_BITS, 1, Backing::Console, write, plain);
    }
    for (i, map) in process.maps.iter().enumerate() {
        let vaddr = start::REGIONS + i as u64 * start::REGION_STRIDE;
        match map.kind {
            MapKind::Region { index, write: w } => {
                let region = system.regions.get(index as usize).ok_or(Refusal::BadIndex)?;
                let bytes = region.kib as u64 * 1024;
                if bytes > start::REGION_STRIDE {
                    return Err(Refusal::Plan(PlanError::Size));
                }
                let (large, small) = split(bytes);
                let rights = if w { write } else { read };
                let backing = |first| Backing::Region(index, first);
                range(vaddr, LARGE_BITS, large, backing(0), rights, plain);
                let behind = vaddr + (large << LARGE_BITS);
                range(behind, PAGE_BITS, small, backing(large), rights, plain);
            }
            MapKind::DmaOnly { index } => {
                system.regions.get(index as usize).ok_or(Refusal::BadIndex)?;
            }
            MapKind::Bar { device: d, bar } => {
                let (spec, function) = device(d)?;
                let pages = bar_pages(&function, bar)
                    .ok_or_else(|| Refusal::NoBar(spec.name.clone(), bar))?;
                range(vaddr, PAGE_BITS, pages, Backing::Bar(d, bar), write, MapAttr::UNCACHED);
            }
        }
    }
    Ok(Draft { plan, ranges, devices })
}

/// Pages of a BAR that can be mapped: one that begins on a page boundary.
pub fn bar_pages(function: &Function, bar: u8) -> Option<u64> {
    let bar = function.bars.get(bar as usize)?;
    let pages = bar.len.div_ceil(PAGE_SIZE);
    let usable = (1..=BAR_PAGES).contains(&pages) && bar.paddr.is_multiple_of(PAGE_SIZE);
    (usable && bar.paddr != 0).then_some(pages)
}

/// Pages of a segment.
pub fn segment_pages(s: &Segment<'_>) -> u64 {
    s.mem_len.div_ceil(PAGE_SIZE)
}

/// Upper bound of the slots that all this takes: each frame once, each mapping a copy, each table.
pub fn slots_needed(system: &System, files: &[File<'_>], drafts: &[Option<Draft<'_>>]) -> u64 {
    let frames = |bytes| {
        let (large, small) = split(bytes);
        large + small
    };
    let regions: u64 = system.regions.iter().map(|r| frames(r.kib as u64 * 1024)).sum();
    let segments = files.iter().flat_map(|f| f.segments()).filter(|s| !s.write);
    let segments: u64 = segments.map(|s| segment_pages(&s)).sum();
    let named = (system.endpoints.len() + system.notifications.len()) as u64;
    let processes = drafts.iter().flatten().map(|d| {
        let mut tables = Tables::default();
        let each = d.ranges.iter().map(|r| {
            let pages = (0..r.count).map(|i| r.vaddr + (i << r.bits));
            let tables: u64 = pages.map(|p| tables.add(p, r.bits)).sum();
            // BARs are made once and copied; count both for each user.
            2 * r.count + tables
        });
        each.sum::<u64>() + d.plan.slots() + 16
    });
    let dma = drafts.iter().zip(&system.processes).filter_map(|(d, p)| Some((d.as_ref()?, p)));
    let dma = dma.map(|(d, p)| d.devices.len() as u64 * (8 + dma::slots_needed(system, p)));
    // Per process also: log and start pages, private untyped, notices, timers, IRQs.
    let caps: usize =
        system.processes.iter().map(|p| p.caps.len() + p.death_notices.len() + 8).sum();
    let each = processes.sum::<u64>() + dma.sum::<u64>();
    slot::FIRST + 64 + regions + segments + named + each + caps as u64
}
