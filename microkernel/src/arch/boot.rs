//! From the boot loader to a machine that can run the root task.
//!
//! PVH (Xen's public hvm_start_info.h) and Multiboot2 both end as [`Loaded`]; from there on it does
//! not matter who loaded the kernel.

use abi::{Clock, PowerOff};
use microkernel::acpi::madt::Interrupts;
use microkernel::acpi::{Acpi, remapping_units};
use microkernel::loader::{Loaded, Ranges, multiboot2};
use microkernel::{PHYS_BASE, obj};

use super::console::println;
use super::iommu::MAX_UNITS;
use super::paging::{BootMemory, Image};
use super::{apic, clock, cpu, paging, panic};

/// What the boot code's page tables map.
const MAPPED: u64 = 4 << 30;
/// Most bytes of a Multiboot2 block that are looked at.
const BLOCK: u64 = 1 << 20;

/// What the rest of the boot needs.
pub struct Boot {
    /// The boot bundle.
    pub bundle: &'static [u8],
    /// Where it lies.
    pub bundle_phys: u64,
    /// All RAM.
    pub ram: Ranges,
    /// What of it the kernel does not use, but for `memory`.
    pub free: Ranges,
    /// Registers of the IOMMUs.
    pub iommus: [u64; MAX_UNITS],
    /// Valid entries of `iommus`.
    pub iommu_count: usize,
    /// Interrupt controllers.
    pub interrupts: Interrupts,
    /// How the machine is turned off.
    pub power: PowerOff,
    /// Clock parameters.
    pub clock: Clock,
    /// Memory for the first objects.
    pub memory: BootMemory,
    /// The command line asks for a panic.
    pub panic_test: bool,
}

/// hvm_start_info, version 1, as u32 words: magic, version, flags, number of modules; then the
/// u64s: module list, command line, RSDP, memory map; then u32: number of entries.
const PVH_MAGIC: u64 = 0x336e_c578;

fn word(pa: u64) -> u64 {
    // SAFETY: the loader's structures, below 4 GiB, aligned to 8 bytes.
    unsafe { obj::read_word(pa) }
}

/// Memory as the boot code's tables map it: the first 4 GiB, RAM or not. Only until `paging::init`.
fn early(at: u64, len: u64) -> Option<&'static [u8]> {
    if at == 0 || at.checked_add(len)? > MAPPED {
        return None;
    }
    // SAFETY: mapped; the loader's structures and firmware's tables, which nobody writes any more.
    // What is no memory reads as all ones.
    Some(unsafe { core::slice::from_raw_parts((at + PHYS_BASE) as *const u8, len as usize) })
}

/// What a PVH loader says: structures that point at each other.
fn pvh(info: u64) -> Loaded {
    assert!(word(info) & 0xffff_ffff == PVH_MAGIC, "not started by a PVH or Multiboot2 loader");
    assert!(word(info + 8) >> 32 > 0, "no boot bundle: pass it with -initrd");
    let (modlist, command_line, rsdp, memmap) =
        (word(info + 16), word(info + 24), word(info + 32), word(info + 40));
    let entries = word(info + 48) & 0xffff_ffff;

    let mut loaded = Loaded::EMPTY;
    let entry = move |i| {
        let at = memmap + 24 * i;
        (word(at), word(at + 8), word(at + 16) as u32)
    };
    loaded.memory((0..entries).map(entry));
    loaded.bundle = (word(modlist), word(modlist) + word(modlist + 8));
    loaded.set_command_line(early(command_line, 1024).unwrap_or(&[]));
    loaded.rsdp = rsdp;
    loaded
}

/// What a Multiboot2 loader says: one block.
fn multiboot2(info: u64) -> Loaded {
    let size = (word(info) & 0xffff_ffff).min(BLOCK);
    let loaded = multiboot2::parse(early(info, size).unwrap_or(&[]), info);
    loaded.unwrap_or_else(|e| panic::stop(format_args!("{e}")))
}

/// The largest range that the boot code's tables reach.
fn largest(free: &Ranges) -> (u64, u64) {
    let reached = free.iter().map(|(s, e)| (s.min(MAPPED), e.min(MAPPED)));
    reached.max_by_key(|(s, e)| e - s).expect("the machine has memory")
}

/// Reads what the loader says, sets up paging, interrupt controllers and clock. `magic`: the
/// loader's, 0 for PVH; `moved`: how far the loader moved the kernel.
pub fn start(magic: u32, info: u64, moved: u64) -> Boot {
    let loaded = if magic == multiboot2::MAGIC { multiboot2(info) } else { pvh(info) };
    let image = Image::new(moved);
    let (bundle_phys, bundle_end) = loaded.bundle;
    let (start, end) = image.whole();
    assert!(loaded.ram.contains(start, end), "the kernel lies in RAM");
    assert!(loaded.ram.contains(bundle_phys & !4095, bundle_end), "the boot bundle lies in RAM");
    let panic_test = loaded.command_line().split(' ').any(|w| w == "panic-test");

    // Read before anything is written: low and reserved memory is not mapped afterwards, and what
    // the loader left lies in memory that is used next.
    let acpi = Acpi::new(early, loaded.rsdp);
    let mut iommus = [0; MAX_UNITS];
    let mut iommu_count = 0;
    if let Some(dmar) = acpi.as_ref().and_then(|a| a.table(b"DMAR")) {
        for unit in remapping_units(dmar) {
            // Below 4 GiB, where devices' memory is handed out from: it is kept back there.
            if unit == 0 || unit % 4096 != 0 || unit >= 1 << 32 || iommu_count == MAX_UNITS {
                println!("IOMMU at {unit:#x} is not supported: none is used");
                iommu_count = 0;
                break;
            }
            iommus[iommu_count] = unit;
            iommu_count += 1;
        }
    }
    let interrupts = acpi.as_ref().and_then(|a| a.table(b"APIC")).and_then(Interrupts::read);
    let interrupts = interrupts.unwrap_or_else(|| {
        println!("ACPI names no I/O APIC: taking the one that every PC has");
        Interrupts::standard()
    });
    let power = acpi.as_ref().and_then(|a| a.power_off()).unwrap_or_default();

    // Boot code included: its tables and descriptors are in use until the end of this function.
    let mut free = loaded.ram.clone();
    free.remove(start, end);
    free.remove(bundle_phys, bundle_end);
    let (first, end) = largest(&free);
    let mut memory = BootMemory::new(first, end);
    paging::init(
        &mut memory,
        image,
        loaded.ram.iter(),
        interrupts.io_apics(),
        &iommus[..iommu_count],
    );

    cpu::init(0);
    apic::init(interrupts.io_apics());
    let (clock, hz) = clock::calibrate(apic::start_counting, apic::counted);
    apic::start(hz);

    // SAFETY: the module lies in RAM, which is mapped; nothing writes there any more.
    let bundle = unsafe {
        let len = (bundle_end - bundle_phys) as usize;
        core::slice::from_raw_parts((bundle_phys + PHYS_BASE) as *const u8, len)
    };
    panic::set_bundle(bundle);
    let by = if magic == multiboot2::MAGIC { "Multiboot2" } else { "PVH" };
    let (mib, processors) = (loaded.ram.bytes() >> 20, interrupts.processors);
    println!(
        "Breakwater kernel {}: {mib} MiB RAM, loaded by {by} at {:#x}",
        env!("CARGO_PKG_VERSION"),
        image.whole().0
    );
    if processors > 1 {
        println!("{processors} processors, of which one is used");
    }
    if loaded.ram.lost() + free.lost() > 0 {
        println!(
            "memory map in too many pieces: {} KiB not used",
            (loaded.ram.lost() + free.lost()) >> 10
        );
    }
    let mut free = loaded.ram.clone();
    let (start, end) = image.kept();
    free.remove(start, end);
    free.remove(bundle_phys, bundle_end);
    Boot {
        bundle,
        bundle_phys,
        ram: loaded.ram,
        free,
        iommus,
        iommu_count,
        interrupts,
        power,
        clock,
        memory,
        panic_test,
    }
}
