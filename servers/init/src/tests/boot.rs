//! What exists after boot.

use super::*;
use abi::{PAGE_SIZE, Rights, init_slot};
use libipc::proc::State;
use libipc::start::{self, StartInfo};

pub fn start_info(b: &Booted, i: usize) -> StartInfo {
    let len = b.k.peek(b.thread(i), start::START_INFO, 4);
    let len = u32::from_le_bytes(len.try_into().unwrap()) as usize;
    let bytes = b.k.peek(b.thread(i), start::START_INFO + 4, len);
    postcard::from_bytes(&bytes).unwrap()
}

#[test]
fn processes_run_with_what_the_manifest_gives_them() {
    let mut b = booted();
    assert_eq!(
        b.printed(),
        "[init] Breakwater 0.1.0, 55 MiB, 5 processes\n\
         [init] randomness from timing jitter\n\
         [init] ghost not started: device nic1 not found\n\
         [init] DMA is trusted: there is no IOMMU, nic0 (00:03.0) reaches all memory, and its \
         driver with it\n\
         [init] started drv, priority 200, 64 KiB\n\
         [init] started srv, priority 190, 4096 KiB\n\
         [init] started sh, priority 100, 64 KiB\n"
    );
    let states: Vec<State> = b.s.processes.iter().map(|p| p.state).collect();
    use State::{Failed, Running, Stopped};
    assert_eq!(states, [Running, Running, Running, Stopped, Failed]);

    let t = b.k.thread(b.thread(0));
    assert!(t.running && t.priority == 200 && t.name == b"drv" && t.fault_badge == 1);
    assert_eq!((t.regs.rip, t.regs.rsp), (0x40_1100, start::STACK_TOP));
    assert_eq!(t.budget, (u64::MAX, 0));
    assert_eq!(b.k.thread(b.thread(1)).budget, (4_000_000, 10_000_000));

    let caps = b.k.cspace_of(b.thread(0));
    let kinds: Vec<_> = caps.iter().map(|(slot, c)| (*slot, c.ty, c.rights, c.badge)).collect();
    use abi::ObjType::{IrqHandler, Notification, Timer};
    let (read, write, all) = (Rights::READ, Rights::WRITE, Rights::all());
    assert_eq!(
        kinds,
        [
            (1, Notification, write, crate::layout::signal::log(0)),
            (2, Notification, read, 0),
            (3, IrqHandler, read | write, 3),
            (4, Timer, all, 0),
            (5, Notification, write, 1),
        ]
    );
    let caps = b.k.cspace_of(b.thread(2));
    assert_eq!((caps[&3].badge, caps[&3].rights), (7, write));
    assert_eq!((caps[&4].badge, caps[&4].rights), (badge::request(2), write));
}

#[test]
pub fn start_information_says_where_everything_is() {
    let b = booted();
    let info = start_info(&b, 0);
    assert_eq!((info.name.as_str(), info.incarnation, info.emulated), ("drv", 0, true));
    assert_eq!(info.device, Some((0x8086, 0x100e)));
    assert_eq!(info.clock, Clock { tsc_base: 5, mult: 6 });
    assert_eq!(info.cap("timer"), Some(4));
    let bar = info.region("nic.bar0").unwrap();
    assert_eq!((bar.vaddr, bar.len, bar.dma), (start::REGIONS, 0x2_0000, None));
    let pool = info.region("pool").unwrap();
    assert_eq!((pool.vaddr, pool.len), (0, 4108 * 1024));
    let (window, address) = pool.dma.unwrap();
    assert_eq!((window, address % 0x20_0000), (0, 0));

    let other = start_info(&b, 1);
    assert_eq!((other.args.as_str(), other.heap_len), ("dhcp", 2112 * 1024));
    assert_eq!(other.device, None);
    // The same region, mapped, without its bus address: it drives no device.
    let pool = other.region("pool").unwrap();
    assert_eq!((pool.vaddr, pool.dma), (start::REGIONS, None));
    assert_ne!(info.seed, other.seed);
}

#[test]
fn memory_is_mapped_as_the_manifest_says() {
    let mut b = booted();
    let (drv, srv) = (b.thread(0), b.thread(1));
    for thread in [drv, srv, b.thread(2)] {
        let pages = &b.k.space_of(thread).pages;
        assert!(pages.values().all(|p| !(p.write && p.exec)));
        let exec: Vec<u64> = pages.iter().filter(|(_, p)| p.exec).map(|(a, _)| *a).collect();
        assert_eq!(exec, [0x40_1000, 0x40_2000]);
        let read_only = [0x40_0000, start::START_INFO, start::START_INFO + PAGE_SIZE];
        assert!(read_only.iter().all(|a| !pages[a].write));
        // Guard pages around the stack.
        let stack = start::STACK_TOP - 16 * 1024;
        assert!(pages.contains_key(&stack) && !pages.contains_key(&(stack - PAGE_SIZE)));
        assert!(!pages.contains_key(&start::STACK_TOP));
    }
    assert_eq!(b.k.peek(drv, 0x40_0000, 6), b"rodata");
    assert_eq!(b.k.peek(drv, 0x40_3000, 13), b"data of prog\0");
    assert_eq!(b.k.peek(srv, 0x40_3000, 12), b"data of srv\0");
    assert!(b.k.space_of(drv).pages[&start::REGIONS].uncached);
    assert!(b.k.space_of(b.thread(2)).pages.contains_key(&start::CONSOLE));
    assert!(!b.k.space_of(drv).pages.contains_key(&start::CONSOLE));

    let table = start::REGIONS + start::REGION_STRIDE;
    assert_eq!(b.k.peek(srv, table, 5), b"table");
    assert_eq!(b.k.peek(srv, table + 4096, 4), b"end\0");
    assert!(!b.k.space_of(srv).pages[&table].write);
    // A large region: two large pages and three small ones, contiguous.
    b.k.poke(srv, start::REGIONS + 0x40_0000, b"end of pool");
    let pages = b.k.space_of(srv).pages.range(start::REGIONS..table).count();
    assert_eq!(pages, 5);
}

#[test]
fn the_device_is_silent_until_its_driver_starts() {
    let mut b = try_boot(machine(), &system()).unwrap();
    assert_eq!(b.k.outside.pci[&(NIC | 4)], 0);
    b.s.start_all(&mut b.k);
    assert_eq!(b.k.outside.pci[&(NIC | 4)], 6);
}

#[test]
fn init_moves_to_a_larger_cspace_and_knows_how_much_of_it_is_used() {
    let b = booted();
    let libipc::proc::Reply::Memory { total, free, slots } = memory(b) else { unreachable!() };
    assert_eq!(total, 55 << 20);
    assert!(free > 30 << 20 && free < 50 << 20, "{free}");
    // Slots that hold something, but for those that the kernel filled.
    let b = booted();
    let own = (1..crate::layout::slot::FIRST).filter(|i| b.k.cap(*i).is_ok()).count();
    assert_eq!(slots as usize, b.k.root_slots() - own);
    assert!(b.k.cap(init_slot::CNODE).is_ok() && b.k.cap(crate::layout::slot::OLD_ROOT).is_ok());
}

fn memory(mut b: Booted) -> libipc::proc::Reply {
    let request = libipc::proc::Request::Memory;
    b.s.request(&mut b.k, badge::request(2), &request).unwrap().unwrap()
}

#[test]
fn a_system_of_another_version_is_refused() {
    let other = System { version: 77, ..system() };
    let e = try_boot(machine(), &other).err().unwrap();
    let text =
        alloc::format!("system description has version 77, this init reads {}", spec::VERSION);
    assert_eq!((e.clone(), e.to_string()), (BootError::Version(77), text));
}

#[test]
fn a_truncated_or_missing_system_is_refused() {
    let spec = postcard::to_allocvec(&system()).unwrap();
    for len in 0..spec.len() {
        let image = bundle(&[data("system", spec[..len].to_vec())]);
        let bundle = Bundle::new(&image).unwrap();
        assert_eq!(crate::boot::read_system(&bundle), Err(BootError::Decode));
    }
    let image = bundle(&[]);
    let empty = Bundle::new(&image).unwrap();
    assert_eq!(crate::boot::read_system(&empty), Err(BootError::NoSystem));
}

#[test]
fn a_process_that_cannot_be_built_is_left_out() {
    let with = |change: &dyn Fn(&mut Process)| {
        let mut system = system();
        change(&mut system.processes[2]);
        let mut b = booted_with(&system);
        assert_eq!(b.s.processes[2].state, State::Failed);
        assert_eq!(b.s.processes[1].state, State::Running);
        let printed = b.printed();
        let line = printed.lines().find(|l| l.starts_with("[init] sh ")).unwrap();
        line.strip_prefix("[init] sh not started: ").unwrap().to_string()
    };
    assert_eq!(with(&|p| p.file = "no".into()), "no program no in the boot bundle");
    assert_eq!(with(&|p| p.priority = 250), "its priority is not below init's");
    let budget = "its budget is zero or more than its period";
    let of = |budget_us, period_us| Some(Budget { budget_us, period_us });
    assert_eq!(with(&|p| p.budget = of(0, 1000)), budget);
    assert_eq!(with(&|p| p.budget = of(1001, 1000)), budget);
    let size = "its stack or heap is too large, or it has no stack";
    assert_eq!(with(&|p| p.stack_kib = 0), size);
    assert_eq!(with(&|p| p.heap_kib = u32::MAX), size);
    let reply = cap("reply", CapKind::Reply);
    assert_eq!(with(&|p| p.caps = vec![reply.clone(); 41]), "it has too many capabilities");
    let info = "its start information does not fit";
    assert_eq!(with(&|p| p.args = "x".repeat(129)), info);
    assert_eq!(with(&|p| p.caps[0].name = "x".repeat(25)), info);
    let index = "it refers to something the system does not have";
    assert_eq!(with(&|p| p.bound = Some(9)), index);
    let bar = |bar| map("bar", MapKind::Bar { device: 0, bar });
    let missing = "device nic0 has no usable BAR 1";
    assert_eq!(with(&|p| p.maps = vec![bar(1)]), missing);
}

#[test]
fn too_little_memory_is_said_and_not_panicked_about() {
    let mut system = system();
    system.regions[1].kib = 60 * 1024;
    let e = try_boot(machine(), &system).err().unwrap();
    assert_eq!(e.to_string(), "pool: not enough memory");
}

#[test]
fn a_kernel_error_anywhere_in_boot_is_said_and_not_panicked_about() {
    let boot = booted().k.invocations;
    for at in (1..boot).step_by(7) {
        let mut k = machine();
        k.fail_at = Some(at);
        // Port accesses do not fail the boot; everything else names what was being made.
        match try_boot(k, &system()) {
            Err(e) => assert!(matches!(e, BootError::Make(..)), "{e:?}"),
            Ok(mut b) => b.s.start_all(&mut b.k),
        }
    }
}

#[test]
fn interrupts_are_taken_where_the_firmware_says_that_they_lead() {
    // The serial port's; the NIC's, which the bus makes level triggered.
    assert_eq!(booted().k.lines().into_iter().collect::<Vec<_>>(), [(104, 0), (111, 3)]);
    let with_line = |line: u32| {
        let mut k = machine();
        k.outside.pci.insert(1 << 31 | 3 << 11 | 0x3c, 0x0100 | line);
        try_boot(k, &system()).unwrap().k.lines()
    };
    assert!(with_line(5).contains(&(105, 1)));
    // A line that is none of the old controllers'.
    assert!(with_line(19).contains(&(19, 3)));
}

#[test]
fn a_second_driver_on_one_interrupt_line_is_left_out() {
    let mut system = system();
    let kind = CapKind::Irq { device: 1, notification: 2, badge: 1 };
    system.processes[4].maps.clear();
    system.processes[4].caps.push(cap("irq", kind));
    let mut k = machine();
    // The other device, with the same line.
    let other = 1 << 31 | 4 << 11;
    k.outside.pci.extend(
        [(0, 0x10d3_8086), (4, 0), (8, 0), (0xc, 0), (0x3c, 0x010b)]
            .map(|(at, value)| (other | at, value)),
    );
    let mut b = try_boot(k, &system).unwrap();
    b.s.start_all(&mut b.k);
    let line = "[init] ghost not started: kernel error Busy\n";
    assert!(b.printed().contains(line));
    assert_eq!(b.s.processes[0].state, State::Running);
}
