//! DMA remapping units (Intel VT-d specification; section numbers of revision 3.3). All that the
//! firmware names are used alike: one root table, which is empty when they are switched on, so that no
//! device reaches anything; one number of levels, which all of them must have.
//!
//! Invalidations go through the queue of a unit (6.5.2), followed by a wait descriptor that makes the
//! unit write a number to memory when everything before it has taken effect.

use core::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::SeqCst, fence};
use microkernel::iospace::IoFault;
use microkernel::{PHYS_BASE, obj};

use super::apic;
use super::clock::tsc;
use super::console::println;
use super::paging::{BootMemory, IOMMU_VADDR};

/// Most units that are driven: what the kernel maps of device registers.
pub const MAX_UNITS: usize = 8;
/// Longest wait for a unit, ticks of the time-stamp counter: a second or two. A unit that needs longer
/// is broken, and with it the promise that devices are confined: the machine stops.
const PATIENCE: u64 = 1 << 32;

/// Registers (10.4).
mod reg {
    pub const CAP: u64 = 0x08;
    pub const ECAP: u64 = 0x10;
    pub const GCMD: u64 = 0x18;
    pub const GSTS: u64 = 0x1c;
    pub const RTADDR: u64 = 0x20;
    pub const FSTS: u64 = 0x34;
    pub const FECTL: u64 = 0x38;
    pub const FEDATA: u64 = 0x3c;
    pub const FEADDR: u64 = 0x40;
    pub const FEUADDR: u64 = 0x44;
    pub const IQT: u64 = 0x88;
    pub const IQA: u64 = 0x90;
}

/// Bits of GCMD and GSTS.
const TRANSLATION: u32 = 1 << 31;
const ROOT_TABLE: u32 = 1 << 30;
const WRITE_BUFFER: u32 = 1 << 27;
const QUEUE: u32 = 1 << 26;
/// Bits of GSTS that are no state: commands that are done once.
const ONE_SHOT: u32 = ROOT_TABLE | WRITE_BUFFER | 1 << 29 | 1 << 24;
/// FECTL: no fault interrupt.
const MASKED: u32 = 1 << 31;
/// FSTS: a record is there; records were lost.
const PENDING: u32 = 1 << 1;
const OVERFLOW: u32 = 1;

/// One unit.
#[derive(Clone, Copy)]
struct Unit {
    /// Where its registers are mapped.
    base: u64,
    cap: u64,
    ecap: u64,
    /// Its queue: a page of 256 descriptors, and the offset of the next one.
    queue: u64,
    tail: u64,
    /// Where it writes `waited`, the number of its last wait descriptor.
    status: u64,
    waited: u32,
}

impl Unit {
    fn read(&self, register: u64) -> u32 {
        // SAFETY: the page of the unit's registers, mapped uncached; only this module uses them.
        unsafe { ((self.base + register) as *const u32).read_volatile() }
    }
    fn read_wide(&self, register: u64) -> u64 {
        self.read(register) as u64 | (self.read(register + 4) as u64) << 32
    }
    fn write(&self, register: u64, value: u32) {
        // SAFETY: as in `read`.
        unsafe { ((self.base + register) as *mut u32).write_volatile(value) }
    }
    fn write_wide(&self, register: u64, value: u64) {
        // SAFETY: as in `read`.
        unsafe { ((self.base + register) as *mut u64).write_volatile(value) }
    }

    /// Gives a command and waits until the status says that it is carried out (10.4.4).
    fn command(&self, bit: u32, on: bool) {
        let state = self.read(reg::GSTS) & !ONE_SHOT & !bit;
        self.write(reg::GCMD, state | if on { bit } else { 0 });
        // The write buffer's bit is set until it is flushed; the others say what is so.
        let done = if bit == WRITE_BUFFER { 0 } else { bit * on as u32 };
        wait(|| self.read(reg::GSTS) & bit == done);
    }

    /// Puts a descriptor into the queue.
    fn push(&mut self, low: u64, high: u64) {
        // SAFETY: inside the page of the queue, which is the unit's and ours.
        unsafe {
            obj::write_word(self.queue + self.tail, low);
            obj::write_word(self.queue + self.tail + 8, high);
        }
        publish(self.queue + self.tail, 16);
        self.tail = (self.tail + 16) % 4096;
    }

    /// Forgets what is cached of a domain, 0: of all (6.5.2.1 context entries, 6.5.2.3 translations,
    /// 6.5.2.8 wait).
    fn forget(&mut self, domain: u16) {
        if self.cap >> 4 & 1 != 0 {
            self.command(WRITE_BUFFER, true);
        }
        let which = if domain == 0 { 1 << 4 } else { 2 << 4 | (domain as u64) << 16 };
        // Transfers under way are waited for, where the unit can do that: bits 7 and 6.
        let drain = (self.cap >> 54 & 3) << 6;
        self.push(1 | which, 0);
        self.push(2 | which | drain, 0);
        self.waited = self.waited.wrapping_add(1);
        self.push(5 | 1 << 5 | (self.waited as u64) << 32, self.status);
        self.write(reg::IQT, self.tail as u32);
        // SAFETY: four bytes of boot memory for this purpose alone; the unit writes there.
        let status = unsafe { &*((self.status + PHYS_BASE) as *const AtomicU32) };
        wait(|| status.load(Acquire) == self.waited);
    }

    /// Why it cannot be used.
    fn lacks(&self) -> Option<&'static str> {
        let last_record = (self.cap >> 24 & 0x3ff) * 16 + (self.records() - 1) * 16;
        match () {
            () if self.cap == u64::MAX => Some("registers"),
            () if self.ecap & 2 == 0 => Some("an invalidation queue"),
            () if self.cap >> 34 & 1 == 0 => Some("2 MiB pages"),
            () if last_record > 4096 - 16 => Some("its fault records in the first page"),
            () => None,
        }
    }
    /// Bit 1: three levels, bit 2: four (CAP.SAGAW).
    fn widths(&self) -> u64 {
        self.cap >> 8 & 6
    }
    /// Fault records.
    fn records(&self) -> u64 {
        (self.cap >> 40 & 0xff) + 1
    }

    fn start(&mut self, root_table: u64) {
        // Firmware may have left it on.
        for bit in [TRANSLATION, QUEUE] {
            if self.read(reg::GSTS) & bit != 0 {
                self.command(bit, false);
            }
        }
        self.write(reg::FECTL, MASKED);
        self.write(reg::FEDATA, apic::DMA_FAULT as u32);
        self.write(reg::FEADDR, apic::message_address());
        self.write(reg::FEUADDR, 0);
        for _ in 0..self.records() {
            self.fault();
        }
        self.write_wide(reg::RTADDR, root_table);
        self.command(ROOT_TABLE, true);
        self.write_wide(reg::IQT, 0);
        self.write_wide(reg::IQA, self.queue);
        self.command(QUEUE, true);
        self.forget(0);
        self.command(TRANSLATION, true);
    }

    /// Takes a fault record (10.4.14, 10.4.15). Bounded by their number; each is taken once.
    fn fault(&self) -> Option<IoFault> {
        let status = self.read(reg::FSTS);
        let lost = status & OVERFLOW != 0;
        if lost {
            // Even if no record is left: as long as it is set, none is made, and nothing interrupts.
            self.write(reg::FSTS, OVERFLOW);
        }
        if status & PENDING == 0 {
            return None;
        }
        let first = (self.cap >> 24 & 0x3ff) * 16;
        let at = (0..self.records()).map(|i| first + 16 * i);
        let at = at.into_iter().find(|at| self.read(at + 12) >> 31 != 0)?;
        let (address, what) = (self.read_wide(at), self.read_wide(at + 8));
        self.write(at + 12, 1 << 31);
        let (device, reason) = (what as u16, (what >> 32) as u8);
        Some(IoFault {
            address: address & !0xfff,
            device,
            write: what >> 62 & 1 == 0,
            reason,
            lost,
        })
    }
}

/// Writes cached lines back to memory, for units that do not look into caches.
fn publish(pa: u64, bytes: u64) {
    for line in (pa & !63..pa + bytes).step_by(64) {
        // SAFETY: RAM in the map of all memory; changes nothing but caches.
        unsafe { core::arch::x86_64::_mm_clflush((line + PHYS_BASE) as *const u8) };
    }
    fence(SeqCst);
}

/// Waits for a unit.
fn wait(done: impl Fn() -> bool) {
    let start = tsc();
    while !done() {
        assert!(
            tsc().wrapping_sub(start) < PATIENCE,
            "the IOMMU does not answer: DMA is not confined"
        );
        core::hint::spin_loop();
    }
}

/// The units of the machine.
pub struct Iommu {
    units: [Unit; MAX_UNITS],
    count: usize,
    /// One of them does not look into caches (ECAP.C).
    writes_back: bool,
}

/// What the kernel's logic is told of them.
pub struct Started {
    /// Levels of a domain's tables.
    pub levels: u8,
    /// The root table.
    pub root_table: u64,
    /// They may cache that an entry is not there.
    pub caches_absent: bool,
}

impl Iommu {
    /// None.
    pub const fn none() -> Self {
        let unit = Unit { base: 0, cap: 0, ecap: 0, queue: 0, tail: 0, status: 0, waited: 0 };
        Self { units: [unit; MAX_UNITS], count: 0, writes_back: false }
    }

    /// Switches the first `count` units on, whose registers `paging` has mapped: no device reaches
    /// anything then. `None`: there is none, or one that cannot be used.
    pub fn start(&mut self, count: usize, memory: &mut BootMemory) -> Option<Started> {
        let mut widths = 6;
        for (i, unit) in self.units[..count].iter_mut().enumerate() {
            unit.base = IOMMU_VADDR + 4096 * i as u64;
            (unit.cap, unit.ecap) = (unit.read_wide(reg::CAP), unit.read_wide(reg::ECAP));
            widths &= unit.widths();
            if let Some(what) = unit.lacks() {
                println!("IOMMU {i} lacks {what}: not used");
                return None;
            }
        }
        let levels = match widths {
            _ if count == 0 => return None,
            0 => {
                println!("IOMMU: no tables of three or four levels: not used");
                return None;
            }
            // The wider one: whatever address RAM has, it can be mapped where it lies.
            w if w & 4 != 0 => 4,
            _ => 3,
        };
        let root_table = memory.page();
        publish(root_table, 4096);
        let status = memory.take(4 * MAX_UNITS as u64, 64);
        for (i, unit) in self.units[..count].iter_mut().enumerate() {
            (unit.queue, unit.status) = (memory.page(), status + 4 * i as u64);
            unit.start(root_table);
        }
        self.count = count;
        self.writes_back = self.list().iter().any(|u| u.ecap & 1 == 0);
        let caches_absent = self.list().iter().any(|u| u.cap >> 7 & 1 != 0);
        Some(Started { levels, root_table, caches_absent })
    }

    fn list(&mut self) -> &mut [Unit] {
        &mut self.units[..self.count]
    }

    /// See [`microkernel::Platform::io_publish`].
    pub fn publish(&mut self, pa: u64, bytes: u64) {
        if self.writes_back {
            publish(pa, bytes);
        }
    }

    /// See [`microkernel::Platform::io_forget`].
    pub fn forget(&mut self, domain: u16) {
        self.list().iter_mut().for_each(|u| u.forget(domain));
    }

    /// See [`microkernel::Platform::io_fault`].
    pub fn fault(&mut self) -> Option<IoFault> {
        self.list().iter().find_map(Unit::fault)
    }

    /// Masks or unmasks the interrupt of faults. A fault while it is masked interrupts when it is
    /// unmasked (10.4.10, FECTL.IP), but not for what is left of earlier ones: a unit interrupts when
    /// its first record comes, and says no more until all are taken. For those this asks itself.
    pub fn mask(&mut self, masked: bool) {
        let mut left = 0;
        for u in self.list() {
            u.write(reg::FECTL, if masked { MASKED } else { 0 });
            left |= u.read(reg::FSTS) & (PENDING | OVERFLOW);
        }
        if !masked && left != 0 {
            apic::interrupt_self(apic::DMA_FAULT);
        }
    }
}
