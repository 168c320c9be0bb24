//! What devices reach by DMA, and what they tried beyond it.
//!
//! With an IOMMU, a device gets a domain that maps the regions which the manifest lends to its
//! driver for it, each for reading or writing as the manifest says, at their physical addresses: the
//! driver's descriptors are the same with and without. Regions are lent by init for good, and so
//! are domains: a driver that is started again finds its device as confined as before, and
//! nothing that a program can do changes a domain.
//!
//! A transfer beyond that does not happen, and the kernel keeps a record of it. The first one is
//! told of at once; then there is a pause before the next interrupt, so that a device that goes
//! astray without end costs next to nothing.

use abi::{CPtr, DMA_FAULT_LINE, Label, ObjType, Rights, init_slot};
use alloc::vec::Vec;
use core::fmt::Write;
use libipc::log::Held;
use libipc::proc::{self, DmaFault, Reply};
use spec::{MapKind, Region, System};

use crate::draft::Draft;
use crate::kernel::Kernel;
use crate::layout::{ROOT, signal, slot};
use crate::maker::{MakeError, Maker, TABLES, split};
use crate::pci::{Address, Function};
use crate::process::Process;
use crate::report::name;
use crate::screen::LineBuf;
use crate::supervisor::{Device, Supervisor, say};

/// Between two looks at what was refused.
const PAUSE_NS: u64 = 250_000_000;
/// Records taken at a look.
const AT_ONCE: usize = 8;

/// What a device reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All memory: nothing confines it.
    All,
    /// What its domain maps, KiB.
    Domain {
        /// That it reads.
        read: u32,
        /// That it writes.
        write: u32,
    },
}

/// The regions that the device of a driver reaches.
fn regions<'s>(
    system: &'s System,
    driver: &'s spec::Process,
) -> impl Iterator<Item = (usize, &'s Region)> {
    let lent = driver.maps.iter().filter_map(|m| match m.kind {
        MapKind::Region { index, .. } | MapKind::DmaOnly { index } => Some(index as usize),
        MapKind::Bar { .. } => None,
    });
    lent.map(|i| (i, &system.regions[i])).filter(|(_, r)| r.dma.is_some())
}

/// Upper bound of the slots that the domain of a driver's device takes, besides a few.
pub fn slots_needed(system: &System, driver: &spec::Process) -> u64 {
    let each = regions(system, driver).map(|(_, r)| {
        let (large, small) = split(r.kib as u64 * 1024);
        // Tables above its first page, and above each boundary that it may cross.
        large + small + 2 * TABLES + large / 512
    });
    each.sum()
}

/// Makes a domain for each device that may be a bus master, and puts it there.
///
/// # Errors
/// See [`MakeError`].
pub fn confine<K: Kernel>(
    m: &mut Maker<'_, K>,
    system: &System,
    found: &[Option<Function>],
    drafts: &[Option<Draft<'_>>],
    made: &[(CPtr, u64)],
) -> Result<Vec<Reach>, MakeError> {
    let mut buses = Vec::new();
    let mut reaches = alloc::vec![Reach::Domain { read: 0, write: 0 }; found.len()];
    for (i, function) in found.iter().enumerate().filter(|(i, _)| system.devices[*i].dma) {
        let Some(function) = function else { continue };
        let device = requester(function.address) as u64;
        let domain = m.make(ObjType::IoSpace, 0, 1)?;
        let (mut read, mut write, mut mapped) = (0, 0, Vec::new());
        let drivers = drafts.iter().zip(&system.processes);
        let drivers = drivers.filter(|(d, _)| d.as_ref().is_some_and(|d| d.devices.contains(&i)));
        for (index, region) in drivers.flat_map(|(_, p)| regions(system, p)) {
            let Some(dma) = region.dma.filter(|_| !mapped.contains(&index)) else { continue };
            mapped.push(index);
            let mut rights = Rights::empty();
            rights.set(Rights::READ, dma.read);
            rights.set(Rights::WRITE, dma.write);
            map_region(m, domain, made[index], region.kib as u64 * 1024, rights)?;
            read += region.kib * dma.read as u32;
            write += region.kib * dma.write as u32;
        }
        if !buses.contains(&function.address.bus) {
            buses.push(function.address.bus);
            let table = m.make(ObjType::PageTable, 0, 1)?;
            m.k.map_table(table, init_slot::IO_CONTROL, device << 12)?;
        }
        m.k.invoke(init_slot::IO_CONTROL, Label::IoBind, [domain, device, 0, 0], [0; 2])?;
        reaches[i] = Reach::Domain { read, write };
    }
    Ok(reaches)
}

/// Maps a region at its physical address.
fn map_region<K: Kernel>(
    m: &mut Maker<'_, K>,
    domain: CPtr,
    (first, mut at): (CPtr, u64),
    bytes: u64,
    rights: Rights,
) -> Result<(), MakeError> {
    let (large, small) = split(bytes);
    for i in 0..large + small {
        let copy = m.copy(first + i, rights)?;
        m.map_into(domain, copy, at, rights)?;
        at += if i < large { 1 << abi::LARGE_BITS } else { abi::PAGE_SIZE };
    }
    Ok(())
}

/// Asks for the interrupt that tells of refused transfers.
///
/// # Errors
/// Of the kernel.
pub fn listen<K: Kernel>(k: &mut K) -> Result<(), abi::Error> {
    k.mint(ROOT, slot::DMA_SIGNAL, slot::NOTIFICATION, Rights::WRITE, signal::DMA)?;
    let words = [DMA_FAULT_LINE, 1, ROOT, slot::DMA_IRQ];
    k.invoke(init_slot::IRQ_CONTROL, Label::IrqGet, words, [0; 2])?;
    let words = [slot::DMA_SIGNAL, 0, 0, 0];
    k.invoke(slot::DMA_IRQ, Label::IrqSetNotification, words, [0; 2]).map(|_| ())
}

/// The number by which a device is known on the bus.
const fn requester(at: Address) -> u16 {
    (at.bus as u16) << 8 | (at.device as u16) << 3 | at.function as u16
}

/// What was refused so far.
#[derive(Default)]
pub struct Refused {
    /// Records.
    count: u64,
    /// Some were not recorded.
    lost: bool,
    last: Option<DmaFault>,
    /// When the next interrupt may come.
    pub due: Option<u64>,
}

impl Supervisor<'_> {
    /// Transfers were refused: the devices, addresses and directions, as far as they were recorded.
    /// Of each direction the first is printed.
    pub(crate) fn dma_faults<K: Kernel>(&mut self, k: &mut K) {
        let now_ns = k.now_ns();
        let mut faults = heapless::Vec::<DmaFault, AT_ONCE>::new();
        while !faults.is_full() {
            let control = init_slot::IO_CONTROL;
            let Ok([address, what, ..]) = k.invoke(control, Label::IoFault, [0; 4], [0; 2]) else {
                break;
            };
            self.refused.lost |= what >> 25 & 1 != 0;
            let _ = faults.push(self.dma_fault(now_ns, address, what));
        }
        for write in [false, true] {
            let mut same = faults.iter().filter(|f| f.write == write);
            if let Some(first) = same.next() {
                say!(self.screen, "[init] {first}{}", Held(same.count() as u32));
            }
        }
        self.refused.count += faults.len() as u64;
        self.refused.last = faults.pop().or(self.refused.last.take());
        self.refused.due = Some(now_ns + PAUSE_NS);
        self.arm(k);
    }

    fn dma_fault(&self, now_ns: u64, address: u64, what: u64) -> DmaFault {
        let (device, reason, write) = (what as u16, (what >> 16) as u8, what >> 24 & 1 != 0);
        let drives = |d: &usize| {
            let device_at = |d: &Device| requester(d.function.address) == device;
            self.devices.get(*d).and_then(Option::as_ref).is_some_and(device_at)
        };
        let parts =
            |p: &Process<'_>| p.parts.as_ref().is_some_and(|x| x.devices.iter().any(drives));
        let driver = self.processes.iter().find(|p| parts(p)).map(|p| p.name.clone());
        DmaFault { device, driver, address, write, reason, at_us: now_ns / 1000 }
    }

    /// The pause is over: the next refusal interrupts.
    pub(crate) fn listen_again<K: Kernel>(&mut self, k: &mut K, now: u64) {
        if self.refused.due.take_if(|due| *due <= now).is_some() {
            let _ = k.invoke(slot::DMA_IRQ, Label::IrqAck, [0; 4], [0; 2]);
        }
    }

    /// What devices reach, and what they were refused.
    pub(crate) fn dma(&self) -> Reply {
        let devices = self.devices.iter().enumerate();
        let devices = devices.filter_map(|(i, d)| Some((i, d.as_ref().filter(|d| d.dma)?)));
        let devices = devices.map(|(i, d)| {
            let parts = |p: &&Process<'_>| p.parts.as_ref().is_some_and(|x| x.devices.contains(&i));
            let driver = self.processes.iter().find(parts).map_or(name("-"), |p| p.name.clone());
            let reach = match d.reach {
                Reach::All => None,
                Reach::Domain { read, write } => Some((read, write)),
            };
            proc::DmaDevice { device: requester(d.function.address), driver, reach }
        });
        let Refused { count, lost, ref last, .. } = self.refused;
        Reply::Dma { devices: devices.take(8).collect(), refused: count, lost, last: last.clone() }
    }

    /// Whether the IOMMU confines all devices of process `i`, of which there is one.
    pub(crate) fn is_confined(&self, i: usize) -> Result<bool, proc::Error> {
        let devices = self.processes[i].parts.as_ref().map_or(&[][..], |parts| &parts.devices);
        let mut devices = devices.iter().filter_map(|d| self.devices[*d].as_ref()).peekable();
        devices.peek().ok_or(proc::Error::NoDevice)?;
        Ok(devices.all(|d| d.reach != Reach::All))
    }
}

/// Says at boot what a device reaches.
pub fn describe(line: &mut LineBuf, system: &System, i: usize, function: &Function, reach: Reach) {
    let (device, at) = (&system.devices[i].name, function.address);
    let _ = match reach {
        _ if !system.devices[i].dma => write!(line, "[init] {device} ({at}) reaches no memory"),
        Reach::All => write!(
            line,
            "[init] DMA is trusted: there is no IOMMU, {device} ({at}) reaches all memory, and its driver with it"
        ),
        Reach::Domain { read, write } => write!(
            line,
            "[init] IOMMU: {device} ({at}) reads {read} KiB and writes {write} KiB of lent memory, nothing else"
        ),
    };
}
