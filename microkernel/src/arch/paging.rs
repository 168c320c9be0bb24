//! The kernel's half of every address space.
//!
//! ```text
//! PHYS_BASE  all RAM, writable, never executable; the kernel's code and constants read-only
//! -2 GiB     the kernel image: text executable, constants read-only, data writable
//! -2 MiB     local APIC, I/O APICs, IOMMUs
//! ```
//! No page is both writable and executable, and a guard page lies under each of the kernel's stacks.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use microkernel::acpi::madt::IoApic;
use microkernel::vspace::Entry;
use microkernel::{PHYS_BASE, obj};

use super::{apic, cpu};

/// Where the kernel is linked, less the physical address that it is linked for.
const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
/// Local APIC registers.
pub const LAPIC_VADDR: u64 = 0xffff_ffff_ffe0_0000;
/// Registers of the first I/O APIC; a page for each.
const IOAPIC_VADDR: u64 = 0xffff_ffff_ffe0_1000;
/// Registers of the first IOMMU; a page for each.
pub const IOMMU_VADDR: u64 = 0xffff_ffff_ffe1_0000;
const PAGE: u64 = 4096;
const LARGE: u64 = 1 << 21;
const ADDR: u64 = 0x000f_ffff_ffff_f000;

unsafe extern "C" {
    fn image_start();
    fn init_start();
    fn text_start();
    fn text_end();
    fn rodata_end();
    fn kernel_end();
}

static KERNEL_PML4: AtomicU64 = AtomicU64::new(0);

/// Where the kernel image lies: how far the loader moved it is `moved`.
#[derive(Clone, Copy)]
pub struct Image {
    moved: u64,
}

impl Image {
    /// An image moved by `moved` from where it is linked for.
    pub fn new(moved: u64) -> Self {
        Self { moved }
    }
    /// Physical address of something in the kernel.
    fn phys(self, symbol: unsafe extern "C" fn()) -> u64 {
        self.phys_of(symbol as *const () as u64)
    }
    fn phys_of(self, vaddr: u64) -> u64 {
        vaddr - KERNEL_BASE + self.moved
    }
    /// All of it, boot code first.
    pub fn whole(self) -> (u64, u64) {
        (self.phys(image_start), self.phys(kernel_end))
    }
    /// What the kernel keeps after boot, which is not the code that [`forget_boot_code`] unmaps.
    pub fn kept(self) -> (u64, u64) {
        (self.phys(text_start), self.phys(kernel_end))
    }
}

/// Boot memory: pages taken from the front of a range of RAM. What is left becomes untyped.
pub struct BootMemory {
    start: u64,
    next: u64,
    end: u64,
}

impl BootMemory {
    /// The range `start..end`.
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, next: start, end }
    }
    /// What was taken.
    pub fn taken(&self) -> (u64, u64) {
        (self.start, self.next)
    }
    /// Takes `bytes` of zeroed memory, aligned to `align`.
    pub fn take(&mut self, bytes: u64, align: u64) -> u64 {
        let at = self.next.next_multiple_of(align);
        assert!(at + bytes <= self.end, "too little memory to boot: give the machine more");
        self.next = at + bytes;
        // SAFETY: RAM that nothing uses yet.
        unsafe { obj::clear(at, bytes) };
        at
    }
    /// Takes a zeroed page.
    pub fn page(&mut self) -> u64 {
        self.take(PAGE, PAGE)
    }
}

fn read(pa: u64) -> u64 {
    // SAFETY: entries of the tables made here.
    unsafe { obj::read_word(pa) }
}

fn write(pa: u64, value: u64) {
    // SAFETY: as in `read`.
    unsafe { obj::write_word(pa, value) }
}

/// Maps one page (`level` 1: 4 KiB, 2: 2 MiB), making tables as needed.
pub fn map(mem: &mut BootMemory, pml4: u64, vaddr: u64, pa: u64, level: u8, flags: Entry) {
    let user = flags & Entry::USER;
    let mut table = pml4;
    for l in (level + 1..=4).rev() {
        let at = table + 8 * (vaddr >> (12 + 9 * (l as u64 - 1)) & 511);
        if read(at) & 1 == 0 {
            let new = mem.page();
            write(at, new | (Entry::PRESENT | Entry::WRITE | user).bits());
        }
        table = read(at) & ADDR;
    }
    let large = if level == 2 { Entry::LARGE } else { Entry::empty() };
    let at = table + 8 * (vaddr >> (12 + 9 * (level as u64 - 1)) & 511);
    write(at, pa | (flags | Entry::PRESENT | large).bits());
}

/// Where the registers of the I/O APIC with this index are.
pub fn io_apic_vaddr(index: usize, unit: &IoApic) -> u64 {
    IOAPIC_VADDR + PAGE * index as u64 + unit.address % PAGE
}

/// Builds the kernel's half over `ram` (start, end) ranges, with the registers of `io_apics` and
/// `iommus`, and switches to it.
pub fn init(
    mem: &mut BootMemory,
    image: Image,
    ram: impl Iterator<Item = (u64, u64)>,
    io_apics: &[IoApic],
    iommus: &[u64],
) {
    let pml4 = mem.page();
    let rw = Entry::WRITE | Entry::NX;
    let (text, image_to) = image.kept();
    let (text_to, ro_to) = (image.phys(text_end), image.phys(rodata_end));
    let guards = cpu::guard_pages().map(|at| image.phys_of(at));
    for (start, end) in ram {
        let (mut at, end) = (start.next_multiple_of(PAGE), end & !(PAGE - 1));
        while at < end {
            let holds_image = at < image_to && at + LARGE > text;
            if at % LARGE == 0 && end - at >= LARGE && !holds_image {
                map(mem, pml4, PHYS_BASE + at, at, 2, rw);
                at += LARGE;
            } else {
                let code = (text..ro_to).contains(&at);
                map(mem, pml4, PHYS_BASE + at, at, 1, if code { Entry::NX } else { rw });
                at += PAGE;
            }
        }
    }
    for at in (image.phys(init_start)..image_to)
        .step_by(PAGE as usize)
        .filter(|at| guards.clone().all(|g| g != *at))
    {
        let flags = match at {
            a if a < text_to => Entry::empty(),
            a if a < ro_to => Entry::NX,
            _ => rw,
        };
        map(mem, pml4, KERNEL_BASE + (at - image.moved), at, 1, flags);
    }
    let device = rw | Entry::PCD | Entry::PWT;
    map(mem, pml4, LAPIC_VADDR, apic::local_address(), 1, device);
    for (i, unit) in io_apics.iter().enumerate() {
        map(mem, pml4, io_apic_vaddr(i, unit) & !(PAGE - 1), unit.address & !(PAGE - 1), 1, device);
    }
    for (i, registers) in iommus.iter().enumerate() {
        map(mem, pml4, IOMMU_VADDR + i as u64 * PAGE, *registers, 1, device);
    }
    KERNEL_PML4.store(pml4, Relaxed);
    // SAFETY: maps all that the kernel uses from here on: its image, its stack, RAM.
    unsafe { core::arch::asm!("mov cr3, {}", in(reg) pml4) };
}

/// Takes the code that only the boot runs out of the kernel's address space: its memory is given
/// away.
pub fn forget_boot_code() {
    let pages = init_start as *const () as u64..text_start as *const () as u64;
    for vaddr in pages.step_by(PAGE as usize) {
        let entry = |table: u64, level: u64| table + 8 * (vaddr >> (12 + 9 * (level - 1)) & 511);
        let table = (2..=4).rev().fold(kernel_pml4(), |table, l| read(entry(table, l)) & ADDR);
        write(entry(table, 1), 0);
        x86_64::instructions::tlb::flush(x86_64::VirtAddr::new(vaddr));
    }
}

/// The address space without user mappings.
pub fn kernel_pml4() -> u64 {
    KERNEL_PML4.load(Relaxed)
}

/// The upper half of every PML4.
pub fn kernel_half() -> [u64; 256] {
    let pml4 = kernel_pml4();
    core::array::from_fn(|i| read(pml4 + 8 * (256 + i as u64)))
}
