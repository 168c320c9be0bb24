//! From the system description to standing objects: everything that is made once.

use abi::{
    CPtr, Clock, IsaLine, Label, ObjType, PAGE_BITS, PowerOff, Rights, UntypedDesc, init_slot,
};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use libipc::authority::Purpose;
use libipc::bundle::{Bundle, File};
use spec::System;

use crate::dma::{self, Reach};
use crate::draft::{Draft, bar_pages, draft, segment_pages, slots_needed};
use crate::kernel::Kernel;
use crate::layout::{MAX_PROCESSES, ROOT, UART_LINE, signal, slot, window};
use crate::maker::{MakeError, Maker, split};
use crate::pci::{self, Function, Mechanism1};
use crate::pool::Pool;
use crate::process::write_frame;
use crate::random::Random;
use crate::rtc;
use crate::screen::{LineBuf, Screen};
use crate::slots::Slots;
use crate::standing::{BarFrames, Shared, make_process};
use crate::supervisor::{Device, Supervisor};
use crate::uart::Uart;

/// What the kernel and the loader left for init.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// The boot bundle.
    pub bundle: Bundle<'a>,
    /// Clock parameters.
    pub clock: Clock,
    /// There is an IOMMU.
    pub iommu: bool,
    /// Untypeds; the i-th is in slot [`init_slot::UNTYPED`]` + i`.
    pub untypeds: &'a [UntypedDesc],
    /// Where ISA interrupts lead.
    pub isa: [IsaLine; 16],
    /// How the machine is turned off.
    pub power: PowerOff,
    /// Bytes of RAM, the kernel's included.
    pub ram: u64,
}

/// Why the system cannot come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootError {
    /// The bundle has no file `system`.
    NoSystem,
    /// The system description is of another version.
    Version(u32),
    /// It does not decode.
    Decode,
    /// More processes than init has signal bits for.
    Processes(usize),
    /// Something could not be made.
    Make(String, MakeError),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSystem => f.write_str("the boot bundle has no system description"),
            Self::Version(v) => {
                write!(f, "system description has version {v}, this init reads {}", spec::VERSION)
            }
            Self::Decode => f.write_str("the system description does not decode"),
            Self::Processes(n) => write!(f, "{n} processes, at most {MAX_PROCESSES} can be run"),
            Self::Make(what, e) => write!(f, "{what}: {e}"),
        }
    }
}

/// Names what was being made when it failed.
trait Context<T> {
    fn of(self, what: &str) -> Result<T, BootError>;
}

impl<T, E: Into<MakeError>> Context<T> for Result<T, E> {
    fn of(self, what: &str) -> Result<T, BootError> {
        self.map_err(|e| BootError::Make(what.to_string(), e.into()))
    }
}

/// Reads the system description.
pub fn read_system(bundle: &Bundle<'_>) -> Result<System, BootError> {
    let data = bundle.file("system").and_then(|f| f.data()).ok_or(BootError::NoSystem)?;
    // The version comes first and is read alone: another one may decode differently.
    let (version, _) = postcard::take_from_bytes::<u32>(data).map_err(|_| BootError::Decode)?;
    if version != spec::VERSION {
        return Err(BootError::Version(version));
    }
    let system: System = postcard::from_bytes(data).map_err(|_| BootError::Decode)?;
    if system.processes.len() > MAX_PROCESSES {
        return Err(BootError::Processes(system.processes.len()));
    }
    Ok(system)
}

/// Finds the manifest's devices. No device is a bus master then, in the manifest or not.
fn find_devices(k: &mut impl Kernel, system: &System) -> Vec<Option<Function>> {
    let mut config = Mechanism1(k);
    pci::quiet(&mut config);
    let mut found: Vec<Option<Function>> = Vec::new();
    for device in &system.devices {
        // Two entries are never one function.
        let taken: Vec<_> = found.iter().flatten().map(|f| f.address).collect();
        found.push(pci::find(&mut config, &device.ids, &taken));
    }
    found
}

/// Moves init to a CNode of 2^`bits` slots. All capabilities keep their numbers.
fn enlarge_root<K: Kernel>(m: &mut Maker<'_, K>, bits: u8) -> Result<(), MakeError> {
    let new = slot::SCRATCH;
    m.make_in(new, ObjType::CNode, bits, 1)?;
    let all = Rights::all();
    // What the switch itself needs exists on both sides until it is done.
    let both = [init_slot::VSPACE, init_slot::TCB, init_slot::IPC_BUFFER];
    for i in both {
        m.k.copy(new, i, i, all)?;
    }
    m.k.copy(new, slot::OLD_ROOT, ROOT, all)?;
    m.k.copy(new, ROOT, new, all)?;
    for i in (1..init_slot::FREE).filter(|i| *i != ROOT && !both.contains(i)) {
        match m.k.move_to(new, i, i) {
            // The kernel fills only some.
            Ok(()) | Err(abi::Error::InvalidCap) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let words = [new, init_slot::VSPACE, 0, init_slot::IPC_BUFFER];
    m.k.invoke(init_slot::TCB, Label::ThreadConfigure, words, [0; 2])?;
    Ok(())
}

/// init's own endpoint, notification, timer and interrupt.
fn make_own<K: Kernel>(m: &mut Maker<'_, K>, uart: IsaLine) -> Result<(), MakeError> {
    m.make_in(slot::ENDPOINT, ObjType::Endpoint, 0, 1)?;
    m.make_in(slot::NOTIFICATION, ObjType::Notification, 0, 1)?;
    m.make_in(slot::REPLY, ObjType::Reply, 0, 1)?;
    m.make_in(slot::TIMER, ObjType::Timer, 0, 1)?;
    let badges = [(slot::TIMER_SIGNAL, signal::TIMER), (slot::UART_SIGNAL, signal::UART)];
    for (dest, badge) in badges {
        m.k.mint(ROOT, dest, slot::NOTIFICATION, Rights::WRITE, badge)?;
    }
    let words = [slot::NOTIFICATION, 0, 0, 0];
    m.k.invoke(init_slot::TCB, Label::ThreadBindNotification, words, [0; 2])?;
    let words = [slot::TIMER_SIGNAL, 0, 0, 0];
    m.k.invoke(slot::TIMER, Label::TimerSetNotification, words, [0; 2])?;
    let words = [uart.gsi as u64, uart.flags as u64, ROOT, slot::UART_IRQ];
    m.k.invoke(init_slot::IRQ_CONTROL, Label::IrqGet, words, [0; 2])?;
    let words = [slot::UART_SIGNAL, 0, 0, 0];
    m.k.invoke(slot::UART_IRQ, Label::IrqSetNotification, words, [0; 2])?;
    Ok(())
}

/// Frames of each file's read-only segments, filled: made once, shared by all incarnations of all
/// processes that run the file.
fn make_segments<K: Kernel>(m: &mut Maker<'_, K>, file: &File<'_>) -> Result<Vec<CPtr>, MakeError> {
    let mut firsts = Vec::new();
    for s in file.segments() {
        let pages = if s.write { 0 } else { segment_pages(&s) };
        let first = m.make(ObjType::Frame, PAGE_BITS, pages)?;
        if !s.write {
            for (frame, page) in (first..).zip(s.data.chunks(1 << PAGE_BITS)) {
                write_frame(m.k, frame, page)?;
            }
        }
        firsts.push(first);
    }
    Ok(firsts)
}

/// Makes a region and writes what it holds at boot.
fn make_region<K: Kernel>(
    m: &mut Maker<'_, K>,
    region: &spec::Region,
) -> Result<(CPtr, u64), MakeError> {
    let bytes = region.kib as u64 * 1024;
    let made = m.make_region(bytes)?;
    if bytes < 1 << abi::LARGE_BITS {
        for (frame, page) in (made.0..).zip(region.content.chunks(1 << PAGE_BITS)) {
            write_frame(m.k, frame, page)?;
        }
    } else if !region.content.is_empty() {
        // Large frames do not fit the scratch window; nothing of that size has content.
        return Err(MakeError::Memory);
    }
    Ok(made)
}

/// Gives the kernel the memory of its trace.
fn give_ring<K: Kernel>(
    m: &mut Maker<'_, K>,
    system: &System,
    regions: &[(CPtr, u64)],
    trace: spec::Trace,
) -> Result<(), MakeError> {
    let index = trace.region as usize;
    let region = system.regions.get(index).ok_or(MakeError::Memory)?;
    let (large, small) = split(region.kib as u64 * 1024);
    for frame in 0..large + small {
        let words = [regions[index].0 + frame, 0, 0, 0];
        m.k.invoke(init_slot::TRACE, Label::TraceAdd, words, [0; 2])?;
    }
    if trace.at_boot {
        m.k.invoke(init_slot::TRACE, Label::TraceStart, [0; 4], [0; 2])?;
    }
    Ok(())
}

/// All BARs that processes map, in the order of their addresses, as device untypeds want it.
fn make_bars<K: Kernel>(
    m: &mut Maker<'_, K>,
    system: &System,
    found: &[Option<Function>],
    drafts: &[Option<Draft<'_>>],
) -> Result<Vec<BarFrames>, MakeError> {
    let mut wanted = Vec::new();
    let processes = system.processes.iter().zip(drafts).filter(|(_, d)| d.is_some());
    for map in processes.flat_map(|(p, _)| &p.maps) {
        let spec::MapKind::Bar { device, bar } = map.kind else { continue };
        let Some(function) = found.get(device as usize).copied().flatten() else { continue };
        let Some(pages) = bar_pages(&function, bar) else { continue };
        wanted.push((function.bars[bar as usize].paddr, pages, (device, bar)));
    }
    wanted.sort();
    wanted.dedup();
    let make = |(paddr, pages, which): (u64, u64, (u16, u8))| {
        m.slots.are_for(Purpose::Device(which.0));
        Ok(BarFrames { which, first: m.make_device(paddr, pages)? })
    };
    wanted.into_iter().map(make).collect()
}

/// Brings the system up to the point where processes can be started.
///
/// # Errors
/// What keeps the whole system from coming up. A process that cannot be built is reported on the
/// console and left out.
pub fn boot<'a, K: Kernel>(k: &mut K, machine: Machine<'a>) -> Result<Supervisor<'a>, BootError> {
    let mut screen = Screen::new();
    let uart = Uart::init(k);
    let system = read_system(&machine.bundle)?;
    let mut pool = Pool::new(init_slot::UNTYPED, machine.untypeds);
    let total = pool.total();
    let mut line = LineBuf::default();
    let _ = write!(line, "[init] Breakwater {}, {} MiB", env!("CARGO_PKG_VERSION"), total >> 20);
    let _ = write!(line, ", {} processes", system.processes.len());
    screen.log(line.as_bytes());

    let random = Random::new(k);
    let mut line = LineBuf::default();
    let _ = write!(line, "[init] randomness from {}", random.source());
    screen.log(line.as_bytes());

    let found = find_devices(k, &system);
    let emulated = pci::machine_emulated(&mut Mechanism1(k));
    let utc_at_boot = rtc::utc_at_boot(k);
    let mut files: Vec<File<'a>> = Vec::new();
    for p in &system.processes {
        if !files.iter().any(|f| f.name() == p.file) {
            files.extend(machine.bundle.file(&p.file));
        }
    }
    let file = |name: &str| files.iter().position(|f| f.name() == name);
    let mut drafts: Vec<Option<Draft<'a>>> = Vec::new();
    for p in &system.processes {
        let drafted = draft(&system, p, file(&p.file).map(|i| &files[i]), &found);
        if let Err(refusal) = &drafted {
            let mut line = LineBuf::default();
            let _ = write!(line, "[init] {} not started: {refusal}", p.name);
            screen.log(line.as_bytes());
        }
        drafts.push(drafted.ok());
    }

    let slots = slots_needed(&system, &files, &drafts);
    let root_bits = slots.next_power_of_two().trailing_zeros() as u8;
    let untypeds: Vec<CPtr> = pool.ram().collect();
    let boot_slots = Slots::new(slot::FIRST, 1 << root_bits);
    let mut m = Maker { k, pool: core::mem::take(&mut pool), slots: boot_slots };
    enlarge_root(&mut m, root_bits).of("capability space")?;
    make_own(&mut m, machine.isa[UART_LINE]).of("init's own objects")?;
    // Its window shares page tables with the scratch window, which is used from here on.
    let console = m.make(ObjType::Frame, PAGE_BITS, 1).of("console")?;
    m.map_own(console, window::CONSOLE, Rights::READ | Rights::WRITE).of("console")?;

    // Large objects before small ones, so that alignment costs little.
    let mut private: Vec<(usize, u8)> = drafts
        .iter()
        .enumerate()
        .filter_map(|(i, d)| Some((i, d.as_ref()?.plan.private_bits())))
        .collect();
    private.sort_by_key(|(_, bits)| core::cmp::Reverse(*bits));
    let mut untyped_of = alloc::vec![0; drafts.len()];
    for (i, bits) in private {
        m.slots.are_for(Purpose::Private(i as u16));
        let made = m.make(ObjType::Untyped, bits, 1);
        untyped_of[i] = made.of(&system.processes[i].name)?;
    }
    let mut order: Vec<usize> = (0..system.regions.len()).collect();
    order.sort_by_key(|i| core::cmp::Reverse(system.regions[*i].kib));
    let mut regions = alloc::vec![(0, 0); order.len()];
    for i in order {
        let region = &system.regions[i];
        m.slots.are_for(Purpose::Region(i as u16));
        regions[i] = make_region(&mut m, region).of(&region.name)?;
    }
    if let Some(trace) = system.trace {
        give_ring(&mut m, &system, &regions, trace).of("trace")?;
    }
    let bars = make_bars(&mut m, &system, &found, &drafts).of("device memory")?;
    let reaches = match machine.iommu {
        true => {
            m.slots.are_for(Purpose::Own);
            dma::listen(m.k).of("DMA faults")?;
            dma::confine(&mut m, &system, &found, &drafts, &regions).of("what devices reach")?
        }
        false => alloc::vec![Reach::All; found.len()],
    };
    for (i, function) in found.iter().enumerate() {
        if let Some(function) = function {
            let mut line = LineBuf::default();
            dma::describe(&mut line, &system, i, function, reaches[i]);
            screen.log(line.as_bytes());
        }
    }
    let mut segments = Vec::new();
    for f in &files {
        let runs = |p: &spec::Process| p.file == f.name();
        let first = system.processes.iter().position(runs).unwrap_or(0);
        m.slots.are_for(Purpose::Program(first as u16));
        segments.push(make_segments(&mut m, f).of(f.name())?);
    }
    let endpoints = m.slots.next();
    for i in 0..system.endpoints.len() {
        m.slots.are_for(Purpose::Endpoint(i as u16));
        m.make(ObjType::Endpoint, 0, 1).of("endpoints")?;
    }
    let notifications = m.slots.next();
    for i in 0..system.notifications.len() {
        m.slots.are_for(Purpose::Notification(i as u16));
        m.make(ObjType::Notification, 0, 1).of("notifications")?;
    }
    let irqs = alloc::vec![None; found.len()];
    let mut shared = Shared {
        endpoints,
        notifications,
        regions,
        segments,
        bars,
        irqs,
        console,
        clock: machine.clock,
        utc_at_boot,
        emulated,
        isa: machine.isa,
    };
    let mut processes = Vec::new();
    for (i, (p, draft)) in system.processes.iter().zip(drafts).enumerate() {
        let segments = file(&p.file);
        let made = draft.map(|d| {
            make_process(&mut m, &system, i, d, untyped_of[i], segments, &found, &mut shared)
        });
        if let Some(Err(e)) = &made {
            let mut line = LineBuf::default();
            let _ = write!(line, "[init] {} not started: {e}", p.name);
            screen.log(line.as_bytes());
        }
        let parts = made.and_then(Result::ok);
        let file = segments.map(|f| files[f]);
        processes.push(crate::standing::process(p, i, file, parts, endpoints));
    }
    let devices = found
        .iter()
        .zip(&system.devices)
        .zip(reaches)
        .map(|((f, d), reach)| f.map(|f| Device { function: f, dma: d.dma, reach, on: false }));
    let slots = (m.slots.next() - slot::FIRST) as u32;
    let standing_slots = slots
        - processes
            .iter()
            .filter_map(|p: &crate::process::Process<'_>| {
                Some(p.parts.as_ref()?.plan.slots() as u32)
            })
            .sum::<u32>();
    Ok(Supervisor::new(crate::supervisor::Setup {
        processes,
        devices: devices.collect(),
        screen,
        uart,
        random,
        untypeds,
        total,
        standing_slots,
        power: machine.power,
        tracing: system.trace.is_some_and(|t| t.at_boot),
        purposes: m.slots.into_purposes(),
        ram: machine.ram,
    }))
}
