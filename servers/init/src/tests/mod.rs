//! The whole of init against the model of the kernel.
extern crate std;

mod authority;
mod boot;
mod console;
mod dma;
mod faults;
mod fuzz;
mod reports;
mod requests;
mod trace;

use abi::{Clock, FaultKind, IsaLine, PowerOff, UntypedDesc};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use libipc::bundle::Bundle;
use spec::{
    Budget, Cap, CapKind, Device, Dma, InitRights, Map, MapKind, Process, Region, Restart, System,
};

use crate::boot::{BootError, Machine, boot};
use crate::layout::badge;
use crate::supervisor::Supervisor;
use crate::testing::model::Model;
use crate::testing::{bundle, data, program};

pub const ALWAYS: Restart = Restart::Always { max: 0, window_s: 0 };
/// Configuration address of the NIC's register 0: bus 0, device 3.
pub const NIC: u32 = 1 << 31 | 3 << 11;
pub const BAR: u64 = 0xfeb8_0000;

pub fn untypeds() -> Vec<UntypedDesc> {
    let u = |paddr, size_bits, device| UntypedDesc { paddr, size_bits, device };
    vec![
        u(0x10_0000, 20, 0),
        u(0x20_0000, 21, 0),
        u(0x40_0000, 22, 0),
        u(0x100_0000, 24, 0),
        u(0x200_0000, 25, 0),
        u(0xfe00_0000, 24, 1),
    ]
}

fn process(name: &str) -> Process {
    Process {
        name: name.to_string(),
        file: "prog".to_string(),
        priority: 100,
        budget: None,
        stack_kib: 16,
        heap_kib: 8,
        args: String::new(),
        autostart: true,
        restart: ALWAYS,
        console: false,
        caps: vec![],
        maps: vec![],
        bound: None,
        death_notices: vec![],
    }
}

fn cap(name: &str, kind: CapKind) -> Cap {
    Cap { name: name.to_string(), kind }
}

fn map(name: &str, kind: MapKind) -> Map {
    Map { name: name.to_string(), kind }
}

fn region(name: &str, kib: u32, dma: Option<Dma>, content: &[u8]) -> Region {
    Region { name: name.to_string(), kib, dma, content: content.to_vec() }
}

/// A driver (0), a server (1), a shell (2), a process that is started by hand (3) and one whose
/// device does not exist (4).
pub fn system() -> System {
    let ntfn = |index, recv, badge| CapKind::Notification { index, recv, badge };
    let drv = Process {
        priority: 200,
        caps: vec![
            cap("events", ntfn(0, true, 0)),
            cap("irq", CapKind::Irq { device: 0, notification: 0, badge: 1 }),
            cap("timer", CapKind::Timer { notification: 0, badge: 4 }),
            cap("srv.events", ntfn(1, false, 1)),
        ],
        maps: vec![
            map("nic.bar0", MapKind::Bar { device: 0, bar: 0 }),
            map("rings", MapKind::Region { index: 0, write: true }),
            map("pool", MapKind::DmaOnly { index: 1 }),
        ],
        bound: Some(0),
        death_notices: vec![(1, 1 << 40)],
        ..process("drv")
    };
    let srv = Process {
        priority: 190,
        budget: Some(Budget { budget_us: 4000, period_us: 10_000 }),
        file: "srv".to_string(),
        args: "dhcp".to_string(),
        heap_kib: 2048 + 64,
        caps: vec![
            cap("self", CapKind::Endpoint { index: 0, recv: true, badge: 0 }),
            cap("reply", CapKind::Reply),
            cap("events", ntfn(1, true, 0)),
        ],
        maps: vec![
            map("pool", MapKind::Region { index: 1, write: true }),
            map("table", MapKind::Region { index: 2, write: false }),
        ],
        bound: Some(1),
        ..process("srv")
    };
    let sh = Process {
        console: true,
        caps: vec![
            cap("events", ntfn(2, true, 0)),
            cap("srv", CapKind::Endpoint { index: 0, recv: false, badge: 7 }),
            cap("init", CapKind::Init(InitRights { control: true, ..Default::default() })),
        ],
        bound: Some(2),
        ..process("sh")
    };
    let late = Process { autostart: false, ..process("late") };
    let ghost =
        Process { maps: vec![map("bar", MapKind::Bar { device: 1, bar: 0 })], ..process("ghost") };
    let device = |name: &str, id| Device { name: name.to_string(), ids: vec![id], dma: true };
    System {
        version: spec::VERSION,
        processes: vec![drv, srv, sh, late, ghost],
        regions: vec![
            region("rings", 16, Some(Dma { window: 2, read: true, write: true }), &[]),
            region("pool", 4096 + 12, Some(Dma { window: 0, read: false, write: true }), &[]),
            region("table", 8, None, &[b"table".to_vec(), vec![0; 4091], b"end".to_vec()].concat()),
        ],
        endpoints: vec!["srv".to_string()],
        notifications: vec!["drv".to_string(), "srv".to_string(), "sh".to_string()],
        devices: vec![device("nic0", (0x8086, 0x100e)), device("nic1", (0x8086, 0x10d3))],
        trace: None,
    }
}

/// A booted system.
pub struct Booted {
    pub k: Model,
    pub s: Supervisor<'static>,
}

/// The modelled machine, with a NIC at 00:03.0.
pub fn machine() -> Model {
    let mut k = Model::new(&untypeds());
    let qemu = 0x1100_1af4;
    let host = [(0x00, 0x1237_8086), (0x08, 0x0600_0000), (0x0c, 0), (0x2c, qemu)];
    k.outside.pci.extend(host.map(|(at, value)| (1 << 31 | at, value)));
    let nic = [
        (0x00, 0x100e_8086),
        (0x04, 0x0000_0007),
        (0x08, 0x0200_0000),
        (0x0c, 0),
        (0x10, BAR as u32),
        (0x14, 0xc001),
        (0x18, 0),
        (0x1c, 0),
        (0x20, 0),
        (0x24, 0),
        (0x2c, qemu),
        (0x3c, 0x010b),
    ];
    k.outside.pci.extend(nic.map(|(at, value)| (NIC | at, value)));
    k.outside.bar_masks.extend([(NIC | 0x10, 0xfffe_0000), (NIC | 0x14, 0xffff_ffc0)]);
    k
}

/// A machine whose I/O APIC has the lines of the old controllers from 100 on, those of PCI level
/// triggered and active low.
fn isa(line: usize) -> IsaLine {
    IsaLine { gsi: 100 + line as u32, flags: if line > 8 { 3 } else { 0 } }
}

pub fn try_boot(mut k: Model, system: &System) -> Result<Booted, BootError> {
    let spec = postcard::to_allocvec(system).unwrap();
    let image = bundle(&[program("prog"), program("srv"), data("system", spec)]);
    let machine = Machine {
        bundle: Bundle::new(Box::leak(image.into_boxed_slice())).unwrap(),
        clock: Clock { tsc_base: 5, mult: 6 },
        iommu: k.iommu.is_some(),
        untypeds: Box::leak(untypeds().into_boxed_slice()),
        isa: core::array::from_fn(isa),
        power: PowerOff { control: [0x604, 0], ..PowerOff::default() },
        ram: 64 << 20,
    };
    let s = boot(&mut k, machine)?;
    Ok(Booted { k, s })
}

pub fn booted() -> Booted {
    booted_with(&system())
}

pub fn booted_with(system: &System) -> Booted {
    let mut b = try_boot(machine(), system).unwrap();
    b.s.start_all(&mut b.k);
    b
}

impl Booted {
    pub fn thread(&self, i: usize) -> u64 {
        self.s.processes[i].parts.as_ref().unwrap().slots.thread
    }
    /// What is on the console since the last call.
    pub fn printed(&mut self) -> String {
        while self.s.pump(&mut self.k) {}
        self.k.printed()
    }
    pub fn fault(&mut self, i: usize, kind: FaultKind, words: [u64; 4]) {
        assert!(!self.told(i, kind, words), "a fault is not answered");
    }
    /// A fault message arrives. Returns whether it is answered.
    pub fn told(&mut self, i: usize, kind: FaultKind, words: [u64; 4]) -> bool {
        let [rip, number, code, _] = words;
        let words = [rip, number, code, self.k.now];
        self.s.fault(&mut self.k, badge::fault(i), kind as u16, words)
    }
    /// Address of the log page of a process in init.
    pub fn log_page(&self, i: usize) -> u64 {
        self.s.processes[i].log_page()
    }
    /// Logs as a process would.
    pub fn log(&mut self, i: usize, text: &[u8]) {
        let page = self.log_page(i);
        self.k.outside.log(page).text.extend(text);
        self.s.signals(&mut self.k, crate::layout::signal::log(i));
    }
}
