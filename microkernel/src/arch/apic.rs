//! Local APIC (timer, end of interrupt) and I/O APICs (interrupt lines). Intel SDM vol. 3, ch. 11;
//! 82093AA data sheet.
//!
//! GSI n arrives at vector [`BASE`]` + n`, whichever I/O APIC has it.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use microkernel::acpi::madt::IoApic;
use microkernel::irq::LINES;
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use super::paging::{LAPIC_VADDR, io_apic_vaddr};

/// Vector of the timer.
pub const TIMER: u64 = 0x20;
/// Vector of refused DMA: a message from the IOMMU.
pub const DMA_FAULT: u64 = 0x21;
/// Vector of GSI 0.
const BASE: u64 = 0x30;
/// Spurious vector.
pub const SPURIOUS: u64 = 0xff;

const ID: u64 = 0x20;
const EOI: u64 = 0xb0;
const SVR: u64 = 0xf0;
const COMMAND: u64 = 0x300;
const LVT_TIMER: u64 = 0x320;
const LVT_LINT0: u64 = 0x350;
const INITIAL_COUNT: u64 = 0x380;
const CURRENT_COUNT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;
const MASKED: u32 = 1 << 16;

/// Timer ticks a second.
static HZ: AtomicU64 = AtomicU64::new(0);

/// A line, as the kernel has programmed it: masking one reads nothing back. Written under the
/// kernel lock.
struct Line {
    /// Address of its I/O APIC's registers; 0: none has it.
    unit: AtomicU64,
    /// Number of its redirection entry's lower register.
    register: AtomicU32,
    /// What is in that.
    low: AtomicU32,
}

static LINE: [Line; LINES] = [const {
    Line { unit: AtomicU64::new(0), register: AtomicU32::new(0), low: AtomicU32::new(MASKED) }
}; LINES];

fn read(register: u64) -> u32 {
    // SAFETY: mapped uncached by `paging`; reads of these registers have no side effects.
    unsafe { ((LAPIC_VADDR + register) as *const u32).read_volatile() }
}

fn write(register: u64, value: u32) {
    // SAFETY: as in `read`; only this module programs the APIC.
    unsafe { ((LAPIC_VADDR + register) as *mut u32).write_volatile(value) }
}

/// Reads a register of the I/O APIC that is mapped at `unit`.
fn io_read(unit: u64, register: u32) -> u32 {
    // SAFETY: index and data register, mapped uncached by `paging`, under the kernel lock.
    unsafe {
        (unit as *mut u32).write_volatile(register);
        ((unit + 16) as *const u32).read_volatile()
    }
}

fn io_write(unit: u64, register: u32, value: u32) {
    // SAFETY: as in `io_read`.
    unsafe {
        (unit as *mut u32).write_volatile(register);
        ((unit + 16) as *mut u32).write_volatile(value);
    }
}

/// `IA32_APIC_BASE`: on; in the mode without memory-mapped registers.
const BASE_ON: u64 = 1 << 11;
const BASE_X2: u64 = 1 << 10;

fn base() -> Msr {
    Msr::new(0x1b)
}

/// Physical address of the local APIC's registers.
pub fn local_address() -> u64 {
    // SAFETY: every processor with an APIC has this register.
    unsafe { base().read() & 0x000f_ffff_ffff_f000 }
}

/// Silences the 8259s, switches the local APIC on, masks all lines.
pub fn init(io_apics: &[IoApic]) {
    for port in [0xa1, 0x21] {
        // SAFETY: masks all inputs of the legacy interrupt controllers.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
    // SAFETY: enables it at its address. Out of the mode without registers in memory, in which
    // firmware may have left it, the way leads through off (SDM vol. 3, 11.12.5).
    unsafe {
        let old = base().read();
        if old & BASE_X2 != 0 {
            base().write(old & !(BASE_X2 | BASE_ON));
        }
        base().write(old & !BASE_X2 | BASE_ON);
    }
    write(SVR, 0x100 | SPURIOUS as u32);
    write(LVT_TIMER, MASKED | TIMER as u32);
    // Firmware wires the 8259s here; a spurious one of theirs would look like an exception.
    write(LVT_LINT0, MASKED);
    write(DIVIDE, 0b1011); // by 1
    for (i, io_apic) in io_apics.iter().enumerate() {
        let unit = io_apic_vaddr(i, io_apic);
        for pin in 0..=io_read(unit, 1) >> 16 & 0xff {
            io_write(unit, 0x10 + 2 * pin, MASKED);
            if let Some(line) = LINE.get(io_apic.base.saturating_add(pin) as usize) {
                line.unit.store(unit, Relaxed);
                line.register.store(0x10 + 2 * pin, Relaxed);
            }
        }
    }
}

/// For calibration: lets the timer count down from its maximum.
pub fn start_counting() {
    write(INITIAL_COUNT, u32::MAX);
}

/// Ticks since [`start_counting`].
pub fn counted() -> u64 {
    (u32::MAX - read(CURRENT_COUNT)) as u64
}

/// Sets the measured timer frequency and unmasks the timer.
pub fn start(hz: u64) {
    HZ.store(hz, Relaxed);
    write(INITIAL_COUNT, 0);
    write(LVT_TIMER, TIMER as u32); // one-shot
}

/// One interrupt in `ns` from now (sooner if that is beyond the counter: the caller asks again);
/// `None`: none.
pub fn set_timer(ns: Option<u64>) {
    let ticks = ns.map_or(0, |ns| {
        let ticks = ns as u128 * HZ.load(Relaxed) as u128 / 1_000_000_000;
        ticks.clamp(1, u32::MAX as u128) as u32
    });
    write(INITIAL_COUNT, ticks);
}

/// Ends the interrupt in service.
pub fn end_of_interrupt() {
    write(EOI, 0);
}

/// Interrupts this processor, once it can be (SDM vol. 3, 11.6.1: fixed, to itself).
pub fn interrupt_self(vector: u64) {
    write(COMMAND, 1 << 18 | 1 << 14 | vector as u32);
}

/// Where messages that interrupt this processor go (SDM vol. 3, 11.11.1).
pub fn message_address() -> u32 {
    0xfee0_0000 | read(ID) >> 24 << 12
}

/// Line of an interrupt vector.
pub fn gsi_of(vector: u64) -> Option<u32> {
    match vector.wrapping_sub(BASE) {
        gsi if gsi < LINES as u64 => Some(gsi as u32),
        _ if vector == DMA_FAULT => Some(abi::DMA_FAULT_LINE as u32),
        _ => None,
    }
}

/// A line that an I/O APIC has: its unit and its registers.
#[inline(always)]
fn line(gsi: u32) -> Option<(u64, &'static Line)> {
    let line = LINE.get(gsi as usize)?;
    let unit = line.unit.load(Relaxed);
    (unit != 0).then_some((unit, line))
}

/// Sets a line up: masked, to this processor.
pub fn configure(gsi: u32, level: bool, low: bool) {
    let Some((unit, line)) = line(gsi) else { return };
    let register = line.register.load(Relaxed);
    let entry = (BASE as u32 + gsi) | (low as u32) << 13 | (level as u32) << 15 | MASKED;
    line.low.store(entry, Relaxed);
    io_write(unit, register, entry);
    io_write(unit, register + 1, read(ID) & 0xff00_0000);
}

/// Masks or unmasks a line.
#[inline(always)]
pub fn mask(gsi: u32, masked: bool) {
    let Some((unit, line)) = line(gsi) else { return };
    let old = line.low.load(Relaxed);
    let new = if masked { old | MASKED } else { old & !MASKED };
    line.low.store(new, Relaxed);
    io_write(unit, line.register.load(Relaxed), new);
}
