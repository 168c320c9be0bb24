//! The machine: processor set-up, interrupt controllers, clock, console, boot.

pub mod apic;
pub mod boot;
pub mod clock;
pub mod console;
pub mod cpu;
pub mod iommu;
pub mod lock;
pub mod paging;
pub mod panic;
pub mod root;

use abi::Clock;
use microkernel::Platform;
use microkernel::iospace::IoFault;
use x86_64::PhysAddr;
use x86_64::instructions::port::Port;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

core::arch::global_asm!(include_str!("boot.s"));
core::arch::global_asm!(include_str!("entry.s"));

/// The hardware behind [`Platform`].
pub struct Machine {
    clock: Clock,
    iommu: iommu::Iommu,
}

impl Machine {
    /// Before calibration: time stands still.
    pub const fn new() -> Self {
        Self { clock: Clock { tsc_base: 0, mult: 0 }, iommu: iommu::Iommu::none() }
    }
    /// The IOMMUs.
    pub fn iommu(&mut self) -> &mut iommu::Iommu {
        &mut self.iommu
    }
    /// Sets the calibrated clock.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }
}

impl Platform for Machine {
    fn now(&self) -> u64 {
        self.clock.ns(clock::tsc())
    }
    fn ticks(&self) -> u64 {
        clock::tsc()
    }
    fn set_deadline(&mut self, at: u64) {
        apic::set_timer((at != u64::MAX).then(|| at.saturating_sub(self.now())));
    }
    fn irq_configure(&mut self, gsi: u32, level: bool, low: bool) {
        apic::configure(gsi, level, low);
    }
    #[inline(always)]
    fn irq_mask(&mut self, gsi: u32, masked: bool) {
        match gsi as u64 {
            abi::DMA_FAULT_LINE => self.iommu.mask(masked),
            _ => apic::mask(gsi, masked),
        }
    }
    fn port_in(&mut self, port: u16, bytes: u8) -> u32 {
        // SAFETY: user code asked for it with a capability to this port; the kernel itself uses
        // only ports (console, PIT) that it hands over at boot.
        unsafe {
            match bytes {
                1 => Port::<u8>::new(port).read() as u32,
                2 => Port::<u16>::new(port).read() as u32,
                _ => Port::<u32>::new(port).read(),
            }
        }
    }
    fn port_out(&mut self, port: u16, bytes: u8, value: u32) {
        // SAFETY: as in `port_in`.
        unsafe {
            match bytes {
                1 => Port::<u8>::new(port).write(value as u8),
                2 => Port::<u16>::new(port).write(value as u16),
                _ => Port::<u32>::new(port).write(value),
            }
        }
    }
    fn load_vspace(&mut self, pml4: u64) {
        let pml4 = if pml4 == 0 { paging::kernel_pml4() } else { pml4 };
        // SAFETY: every VSpace is a page below 2^48 and has the kernel's half.
        unsafe {
            let frame = PhysFrame::from_start_address_unchecked(PhysAddr::new_unsafe(pml4));
            Cr3::write(frame, Cr3Flags::empty());
        }
    }
    fn flush_page(&mut self, vaddr: u64) {
        x86_64::instructions::tlb::flush(x86_64::VirtAddr::new_truncate(vaddr));
    }
    fn flush_all(&mut self) {
        x86_64::instructions::tlb::flush_all();
    }
    fn kernel_half(&self) -> [u64; 256] {
        paging::kernel_half()
    }
    #[inline(always)]
    fn load_segments(&mut self, fs_base: u64) {
        cpu::load_segments(fs_base);
    }
    fn io_publish(&mut self, pa: u64, bytes: u64) {
        self.iommu.publish(pa, bytes);
    }
    fn io_forget(&mut self, domain: u16) {
        self.iommu.forget(domain);
    }
    fn io_fault(&mut self) -> Option<IoFault> {
        self.iommu.fault()
    }
}
