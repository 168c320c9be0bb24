//! From the boot loader to a machine that can run the root task.
//!
//! PVH (Xen's public hvm_start_info.h) fills [`Boot`]; another loader would fill it in its own way.

use abi::Clock;
use microkernel::acpi::{Acpi, remapping_units};
use microkernel::{PHYS_BASE, obj};

use super::console::println;
use super::paging::BootMemory;
use super::{apic, clock, cpu, paging, panic};

/// RAM ranges kept.
const MAX_RAM: usize = 32;
/// Everything below belongs to the firmware.
const LOW: u64 = 1 << 20;

/// What the rest of the boot needs.
pub struct Boot {
    /// The boot bundle.
    pub bundle: &'static [u8],
    /// Where it lies.
    pub bundle_phys: u64,
    /// RAM: start, end.
    pub ram: [(u64, u64); MAX_RAM],
    /// Valid entries of `ram`.
    pub ram_count: usize,
    /// ACPI root pointer, 0 if unknown.
    pub rsdp: u64,
    /// Clock parameters.
    pub clock: Clock,
    /// Memory for the first objects.
    pub memory: BootMemory,
    /// The command line asks for a panic.
    pub panic_test: bool,
}

/// hvm_start_info, version 1, as u32 words: magic, version, flags, number of modules; then the
/// u64s: module list, command line, RSDP, memory map; then u32: number of entries.
const MAGIC: u64 = 0x336e_c578;

fn word(pa: u64) -> u64 {
    // SAFETY: the loader's structures, below 1 GiB, aligned to 8 bytes.
    unsafe { obj::read_word(pa) }
}

fn text(pa: u64) -> &'static str {
    if pa == 0 {
        return "";
    }
    let at = (pa + PHYS_BASE) as *const u8;
    // SAFETY: a NUL-terminated string of the loader, in mapped memory; at most 1 KiB is read.
    unsafe {
        let len = (0..1024).position(|i| *at.add(i) == 0).unwrap_or(0);
        core::str::from_utf8(core::slice::from_raw_parts(at, len)).unwrap_or("")
    }
}

/// Memory as the throw-away tables map it: the first 4 GiB, RAM or not. Only until `paging::init`.
pub fn early(at: u64, len: u64) -> Option<&'static [u8]> {
    if at == 0 || at.checked_add(len)? > 1 << 32 {
        return None;
    }
    // SAFETY: mapped; firmware's tables, which nobody writes any more. What is no memory reads as
    // all ones.
    Some(unsafe { core::slice::from_raw_parts((at + PHYS_BASE) as *const u8, len as usize) })
}

/// Reads the start info, sets up paging, interrupt controllers and clock.
pub fn start(info: u64) -> Boot {
    assert!(word(info) & 0xffff_ffff == MAGIC, "not started by a PVH boot loader");
    let modules = word(info + 8) >> 32;
    let (modlist, command_line, rsdp, memmap) =
        (word(info + 16), word(info + 24), word(info + 32), word(info + 40));
    let entries = word(info + 48) & 0xffff_ffff;

    let mut ram = [(0, 0); MAX_RAM];
    let mut ram_count = 0;
    for i in 0..entries {
        let at = memmap + 24 * i;
        let (start, len, kind) = (word(at), word(at + 8), word(at + 16) & 0xffff_ffff);
        let (start, end) = (start.max(LOW), start.saturating_add(len));
        if kind == 1 && end > start && ram_count < MAX_RAM {
            ram[ram_count] = (start, end);
            ram_count += 1;
        }
    }
    assert!(modules > 0, "no boot bundle: pass it with -initrd");
    let (bundle_phys, bundle_len) = (word(modlist), word(modlist + 8));
    // Copied out before the tables change: low and reserved memory is not mapped afterwards.
    let acpi = Acpi::new(early, rsdp);
    if let Some(dmar) = acpi.as_ref().and_then(|a| a.table(b"DMAR")) {
        for unit in remapping_units(dmar) {
            println!("IOMMU at {unit:#x}");
        }
    }
    let panic_test = text(command_line).split(' ').any(|w| w == "panic-test");

    let first = paging::image_end().next_multiple_of(4096);
    let home = ram[..ram_count].iter().find(|(s, e)| (*s..*e).contains(&first));
    let home_end = home.expect("the kernel lies in RAM").1;
    let end = if (first..home_end).contains(&bundle_phys) { bundle_phys } else { home_end };
    let mut memory = BootMemory::new(first, end.min(1 << 30));
    paging::init(&mut memory, ram[..ram_count].iter().copied());
    memory = BootMemory::new(memory.next, end);

    cpu::init();
    apic::init();
    let (clock, hz) = clock::calibrate(apic::start_counting, apic::counted);
    apic::start(hz);

    // SAFETY: the module lies in RAM, which is mapped; nothing writes there any more.
    let bundle = unsafe {
        core::slice::from_raw_parts((bundle_phys + PHYS_BASE) as *const u8, bundle_len as usize)
    };
    panic::set_bundle(bundle);
    let mib = ram[..ram_count].iter().map(|(s, e)| e - s).sum::<u64>() >> 20;
    println!("Breakwater kernel {}: {mib} MiB RAM", env!("CARGO_PKG_VERSION"));
    Boot { bundle, bundle_phys, ram, ram_count, rsdp, clock, memory, panic_test }
}
