//! The root task: its objects, its address space, and all remaining memory as untypeds.

use abi::{
    BootInfo, MAX_UNTYPED, ObjType, PAGE_BITS, PAGE_SIZE, UntypedDesc, UserRegs, init_map,
    init_slot,
};
use libipc::bundle::Bundle;
use microkernel::cap::Cap;
use microkernel::cspace::flat_guard;
use microkernel::invoke::user_regs;
use microkernel::loader::Ranges;
use microkernel::thread::entered_by;
use microkernel::vspace::Entry;
use microkernel::{Kernel, PHYS_BASE, mdb};

use super::boot::Boot;
use super::paging::{self, BootMemory};
use super::{Machine, apic};

/// Priority of the root task.
const PRIORITY: u8 = 250;
/// Pages of its stack.
const STACK_PAGES: u64 = 16;
/// The root task's program in the bundle.
const PROGRAM: &str = "init";
const FOUR_GIB: u64 = 1 << 32;

/// Ranges of one kind, cut into power-of-two blocks.
struct Untypeds {
    list: [UntypedDesc; MAX_UNTYPED],
    count: usize,
}

impl Untypeds {
    fn add(&mut self, mut start: u64, end: u64, device: bool) {
        while start < end && self.count < MAX_UNTYPED {
            let fit = 63 - (end - start).leading_zeros();
            let bits = start.trailing_zeros().min(fit).min(abi::UNTYPED_BITS_MAX as u32);
            if bits >= PAGE_BITS as u32 {
                let desc = UntypedDesc { paddr: start, size_bits: bits, device: device as u32 };
                self.list[self.count] = desc;
                self.count += 1;
            }
            start += 1 << bits;
        }
    }
}

/// Copies bytes into boot memory.
fn fill(pa: u64, bytes: &[u8]) {
    // SAFETY: pages just taken from boot memory, large enough by the caller's arithmetic.
    unsafe {
        let to = (pa + PHYS_BASE) as *mut u8;
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
    }
}

/// Maps `pages` fresh pages at `vaddr`; returns where they lie (contiguous).
fn pages(mem: &mut BootMemory, pml4: u64, vaddr: u64, pages: u64, flags: Entry) -> u64 {
    let pa = mem.take(pages * PAGE_SIZE, PAGE_SIZE);
    for i in 0..pages {
        paging::map(mem, pml4, vaddr + i * PAGE_SIZE, pa + i * PAGE_SIZE, 1, flags | Entry::USER);
    }
    pa
}

/// Loads the root task's segments; returns its entry point.
fn load(mem: &mut BootMemory, pml4: u64, bundle: &'static [u8]) -> u64 {
    let bundle = Bundle::new(bundle).expect("the module is a boot bundle");
    let file = bundle.file(PROGRAM).expect("the bundle holds the root task");
    for segment in file.segments() {
        let mut flags = Entry::empty();
        flags.set(Entry::WRITE, segment.write);
        flags.set(Entry::NX, !segment.exec);
        assert!(!(segment.write && segment.exec), "root task: writable and executable segment");
        let count = segment.mem_len.div_ceil(PAGE_SIZE);
        let pa = pages(mem, pml4, segment.vaddr, count, flags);
        fill(pa, segment.data);
    }
    file.entry().expect("the root task has an entry point")
}

/// Creates the root task, ready to run.
pub fn create(kernel: &mut Kernel<Machine>, mut boot: Boot) {
    let mem = &mut boot.memory;
    let rw = Entry::WRITE | Entry::NX;
    let asid = kernel.new_asid().expect("no address space exists yet");
    let pml4 = mem.page();
    kernel.new_vspace(pml4, asid);

    let entry = load(mem, pml4, boot.bundle);
    let stack = init_map::STACK_TOP - STACK_PAGES * PAGE_SIZE;
    pages(mem, pml4, stack, STACK_PAGES, rw);
    let buffer = pages(mem, pml4, init_map::IPC_BUFFER, 1, rw);
    let info_pages = (size_of::<BootInfo>() as u64).div_ceil(PAGE_SIZE);
    let info_pa = pages(mem, pml4, init_map::BOOT_INFO, info_pages, Entry::NX);
    let bundle_pages = (boot.bundle.len() as u64).div_ceil(PAGE_SIZE);
    for i in 0..bundle_pages {
        let (vaddr, pa) = (init_map::BUNDLE + i * PAGE_SIZE, boot.bundle_phys + i * PAGE_SIZE);
        paging::map(mem, pml4, vaddr, pa, 1, Entry::USER | Entry::NX);
    }

    let radix = init_slot::CNODE_BITS;
    let cnode_pa = mem.take(32 << radix, 32 << radix);
    let cnode = Cap::new(ObjType::CNode, cnode_pa, radix).with_data(flat_guard(radix));
    let tcb = Cap::new(ObjType::Thread, mem.take(2048, 2048), 0);
    let sched = Cap::new(ObjType::SchedContext, mem.take(256, 256), 0);
    let vspace = Cap::new(ObjType::VSpace, pml4, 0);
    let buffer = Cap::new(ObjType::Frame, buffer, PAGE_BITS);
    let put = |slot: u64, cap: Cap| {
        mdb::insert_root(cap, cnode.cnode_slot(slot).expect("a slot of the root CNode"));
    };
    put(init_slot::CNODE, cnode);
    put(init_slot::VSPACE, vspace);
    put(init_slot::TCB, tcb);
    put(init_slot::IRQ_CONTROL, Cap::new(ObjType::IrqControl, 0, 0));
    put(init_slot::IO_PORTS, Cap::new(ObjType::IoPort, 0, 0).with_data(0xffff));
    put(init_slot::IPC_BUFFER, buffer);
    let dma = kernel.hw.iommu().start(boot.iommu_count, mem);
    if let Some(dma) = &dma {
        put(init_slot::IO_CONTROL, Cap::new(ObjType::IoControl, 0, 0));
        kernel.start_io(dma.levels, dma.root_table, dma.caches_absent);
    }
    put(init_slot::SCHED, sched);
    put(init_slot::TRACE, Cap::new(ObjType::Trace, 0, 0));

    let thread = tcb.thread().expect("just made");
    for (inner, slot) in [(0, init_slot::CNODE), (1, init_slot::VSPACE), (3, init_slot::IPC_BUFFER)]
    {
        let source = cnode.cnode_slot(slot).expect("filled above");
        mdb::insert(source.cap(), source, thread.slot(inner), false);
    }
    thread.priority.set(PRIORITY);
    thread.name.set([u64::from_le_bytes(*b"init\0\0\0\0"), 0]);
    thread.trace_id.set(1);
    thread.regs.set(UserRegs { rip: entry, rsp: init_map::STACK_TOP, ..user_regs() });
    thread.entered_by.set(entered_by::OTHER);
    kernel.start_root(thread, sched.sched_context().expect("just made"));

    let untypeds = remaining(&boot);
    for (i, u) in untypeds.list[..untypeds.count].iter().enumerate() {
        let cap = Cap::new(ObjType::Untyped, u.paddr, u.size_bits as u8);
        put(init_slot::UNTYPED + i as u64, cap.with_device(u.device != 0));
    }
    let info = BootInfo {
        magic: BootInfo::MAGIC,
        bundle_len: boot.bundle.len() as u64,
        clock: boot.clock,
        dma_levels: dma.map_or(0, |dma| dma.levels as u64),
        isa: boot.interrupts.isa,
        power: boot.power,
        ram: boot.ram.bytes(),
        untyped_count: untypeds.count as u64,
        untyped: untypeds.list,
    };
    // SAFETY: pages taken above for this; plain data of the ABI.
    unsafe { ((info_pa + PHYS_BASE) as *mut BootInfo).write(info) };
}

/// All RAM that boot left, and all addresses below 4 GiB that are no RAM.
fn remaining(boot: &Boot) -> Untypeds {
    let mut all = Untypeds { list: [UntypedDesc::default(); MAX_UNTYPED], count: 0 };
    let mut free = boot.free.clone();
    let (start, end) = boot.memory.taken();
    free.remove(start, end);
    for (start, end) in free.iter() {
        all.add(start, end, false);
    }
    let below = boot.ram.iter().map(|r| r.1).filter(|e| *e <= FOUR_GIB);
    let mut devices = Ranges::EMPTY;
    devices.add(below.max().unwrap_or(0).next_multiple_of(1 << 20), FOUR_GIB);
    // What the kernel keeps for itself.
    for unit in boot.interrupts.io_apics() {
        devices.remove(unit.address, unit.address + 1);
    }
    for registers in boot.iommus[..boot.iommu_count].iter().chain([&apic::local_address()]) {
        devices.remove(*registers, *registers + 1);
    }
    for (start, end) in devices.iter() {
        all.add(start, end, true);
    }
    all
}
