//! Local APIC (timer, end of interrupt) and I/O APIC (interrupt lines). Intel SDM vol. 3, ch. 11;
//! 82093AA data sheet.
//!
//! The I/O APIC is taken at its standard address; GSI n arrives at vector [`BASE`]` + n`.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use super::paging::{IOAPIC_VADDR, LAPIC_VADDR};

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
const LVT_TIMER: u64 = 0x320;
const LVT_LINT0: u64 = 0x350;
const INITIAL_COUNT: u64 = 0x380;
const CURRENT_COUNT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;
const MASKED: u32 = 1 << 16;

/// Timer ticks a second.
static HZ: AtomicU64 = AtomicU64::new(0);
/// Lines of the I/O APIC.
static LINES: AtomicU64 = AtomicU64::new(0);

fn read(register: u64) -> u32 {
    // SAFETY: mapped uncached by `paging`; reads of these registers have no side effects.
    unsafe { ((LAPIC_VADDR + register) as *const u32).read_volatile() }
}

fn write(register: u64, value: u32) {
    // SAFETY: as in `read`; only this module programs the APIC.
    unsafe { ((LAPIC_VADDR + register) as *mut u32).write_volatile(value) }
}

fn io_read(register: u32) -> u32 {
    // SAFETY: index and data register of the I/O APIC, under the kernel lock.
    unsafe {
        (IOAPIC_VADDR as *mut u32).write_volatile(register);
        ((IOAPIC_VADDR + 16) as *const u32).read_volatile()
    }
}

fn io_write(register: u32, value: u32) {
    // SAFETY: as in `io_read`.
    unsafe {
        (IOAPIC_VADDR as *mut u32).write_volatile(register);
        ((IOAPIC_VADDR + 16) as *mut u32).write_volatile(value);
    }
}

/// Silences the 8259s, switches the local APIC on, masks all lines.
pub fn init() {
    for port in [0xa1, 0x21] {
        // SAFETY: masks all inputs of the legacy interrupt controllers.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
    let mut base = Msr::new(0x1b);
    // SAFETY: global enable bit, address unchanged.
    unsafe { base.write(base.read() | 1 << 11) };
    write(SVR, 0x100 | SPURIOUS as u32);
    write(LVT_TIMER, MASKED | TIMER as u32);
    // Firmware wires the 8259s here; a spurious one of theirs would look like an exception.
    write(LVT_LINT0, MASKED);
    write(DIVIDE, 0b1011); // by 1
    let lines = (io_read(1) >> 16 & 0xff) as u64 + 1;
    LINES.store(lines, Relaxed);
    for gsi in 0..lines as u32 {
        mask(gsi, true);
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

/// Where messages that interrupt this processor go (SDM vol. 3, 11.11.1).
pub fn message_address() -> u32 {
    0xfee0_0000 | read(ID) >> 24 << 12
}

/// Line of an interrupt vector.
pub fn gsi_of(vector: u64) -> Option<u32> {
    if vector == DMA_FAULT {
        return Some(abi::DMA_FAULT_LINE as u32);
    }
    let gsi = vector.checked_sub(BASE)?;
    (gsi < LINES.load(Relaxed)).then_some(gsi as u32)
}

/// Sets a line up: masked, to this processor.
pub fn configure(gsi: u32, level: bool, low: bool) {
    if gsi as u64 >= LINES.load(Relaxed) {
        return;
    }
    let flags = (low as u32) << 13 | (level as u32) << 15 | MASKED;
    io_write(0x11 + 2 * gsi, read(ID) & 0xff00_0000);
    io_write(0x10 + 2 * gsi, (BASE as u32 + gsi) | flags);
}

/// Masks or unmasks a line.
pub fn mask(gsi: u32, masked: bool) {
    if gsi as u64 >= LINES.load(Relaxed) {
        return;
    }
    let old = io_read(0x10 + 2 * gsi);
    let new = if masked { old | MASKED } else { old & !MASKED };
    io_write(0x10 + 2 * gsi, new);
}
