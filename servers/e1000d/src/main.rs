//! The e1000 driver process: capabilities, mappings and sleep around the [`e1000d`] library.
#![no_std]
#![no_main]

use abi::CPtr;
use core::fmt::Write;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use e1000d::astray;
use e1000d::mmio::Mmio;
use e1000d::models;
use e1000d::regs::{BAR_BYTES, Reg};
use e1000d::settings::Settings;
use e1000d::window::Windows;
use e1000d::{Config, Driver, Event, Hardware, Next, StartError, lent};
use libipc::Name;
use libipc::nic::{self, Groups, Status, offset};
use libipc::ring::{Entry, Memory};
use libipc::start::Region;
use libipc::sys;
use rt::StartInfo;

rt::entry!(main);

/// Bit of the own notification: the interrupt.
const IRQ: u64 = 1;
/// Bit by which init says that the machine is about to go off.
const STOP: u64 = libipc::start::STOP;
/// Bit by which init says that the NIC is to rest.
const SUSPEND: u64 = libipc::start::SUSPEND;

/// Where `crash NAME dma` sends the NIC: to the kernel's code, unless a boot loader has moved it.
const ASTRAY: u64 = 0x21_0000;

/// What the process was started with, for [`crash_dma`].
static START: AtomicPtr<StartInfo> = AtomicPtr::new(core::ptr::null_mut());

struct Machine {
    mmio: Mmio,
    start: &'static StartInfo,
    /// What became of what the predecessor had under way.
    found: Option<Event>,
}

impl Machine {
    fn new(start: &'static StartInfo, nic: &str) -> Self {
        let bar = region(start, &part(nic, "bar0"), BAR_BYTES as usize);
        let rings = region(start, &part(nic, "rings"), lent::BYTES);
        // SAFETY: init maps the BAR uncached and the rings writable, both for the life of the
        // process; `region` checked the lengths; they are reached only here.
        let mmio = unsafe { Mmio::new(bar.vaddr, rings.vaddr, rings.len) };
        Self { mmio, start, found: None }
    }
}

/// Instead of the driver's next instruction, when init is asked to send its device astray: see
/// [`astray`].
#[unsafe(no_mangle)]
extern "C" fn crash_dma() -> ! {
    // SAFETY: null, or what `main` was given for the life of the process.
    let start = unsafe { START.load(Relaxed).as_ref() }.expect("not started yet");
    let nic = Settings::parse(&start.args).unwrap_or_default().nic;
    let received = astray::lead(&mut Machine::new(start, nic), ASTRAY);
    let received = if received { "received into it" } else { "nothing was received" };
    panic!("sent the NIC astray, to {ASTRAY:#x}: a frame was sent from there, {received}");
}

#[used]
static KEEP: extern "C" fn() -> ! = crash_dma;

impl Hardware for Machine {
    fn read(&mut self, reg: Reg) -> u32 {
        self.mmio.read(reg)
    }
    fn write(&mut self, reg: Reg, value: u32) {
        self.mmio.write(reg, value);
    }
    fn load(&self, word: usize) -> u64 {
        self.mmio.load(word)
    }
    fn store(&mut self, word: usize, value: u64) {
        self.mmio.store(word, value);
    }
    fn now_ns(&mut self) -> u64 {
        self.start.now_ns()
    }
    fn event(&mut self, event: Event) {
        if matches!(event, Event::Reattached { .. } | Event::GaveBack { .. }) {
            self.found = Some(event);
        }
        rt::log!("{event}");
    }
}

/// Name of a region of the card `nic`.
fn part(nic: &str, part: &str) -> Name {
    let mut name = Name::new();
    let _ = write!(name, "{nic}.{part}");
    name
}

/// A region that must be there, mapped, with at least `len` bytes.
fn region(start: &'static StartInfo, name: &str, len: usize) -> &'static Region {
    let region = start.region(name).unwrap_or_else(|| panic!("no region {name}"));
    assert!(region.vaddr != 0, "region {name} is not mapped");
    assert!(region.len >= len as u64, "region {name} has fewer than {len} bytes");
    region
}

/// Bus address of a region that must be reachable by the device under window `number`.
fn bus(start: &StartInfo, name: &str, number: u8) -> u64 {
    match start.region(name).and_then(|r| r.dma) {
        Some((window, bus)) if window == number => bus,
        _ => panic!("region {name} is not DMA window {number}"),
    }
}

fn cap(start: &StartInfo, name: &str) -> CPtr {
    start.cap(name).unwrap_or_else(|| panic!("no capability {name}"))
}

/// The ring whose sides lie at these offsets of these regions.
fn ring<E: Entry>(producer: (&Region, usize), consumer: (&Region, usize)) -> Memory<E> {
    let (p, c) = (producer.0.vaddr as usize + producer.1, consumer.0.vaddr as usize + consumer.1);
    // SAFETY: `region` made sure that both regions are mapped and long enough for the offsets of
    // `libipc::nic`; init maps them for the life of the process, `nic.drv` writable, and nothing
    // else in this process touches them.
    unsafe { Memory::new(p, c, nic::RING) }
}

fn config(start: &'static StartInfo, settings: Settings) -> Config {
    let part = |name| part(settings.nic, name);
    let drv = region(start, &part("drv"), offset::DRV_BYTES);
    let net = region(start, &part("net"), offset::NET_BYTES);
    let mut windows = Windows::default();
    for r in &start.regions {
        if let Some((number, bus)) = r.dma {
            windows.add(number, bus, r.len);
        }
    }
    let pool = start.region(&part("rx")).map_or(0, |r| r.len);
    assert!(pool >= (nic::RX_BUFFERS * nic::RX_BUFFER_SIZE) as u64, "region rx is too small");
    // No id: a manifest without a device, which has no BAR either.
    let model = models::model(start.device.map_or(0, |(_, device)| device));
    Config {
        model,
        rings_bus: bus(start, &part("rings"), nic::WINDOW_RINGS),
        pool_bus: bus(start, &part("rx"), nic::WINDOW_RX),
        settings,
        windows,
        // SAFETY: mapped, long enough and page-aligned (`region`, init); every field is atomic.
        status: unsafe { &*((drv.vaddr as usize + offset::STATUS) as *const Status) },
        // SAFETY: likewise.
        groups: unsafe { &*((net.vaddr as usize + offset::GROUPS) as *const Groups) },
        rx_free: ring((net, offset::RX_FREE_PRODUCER), (drv, offset::RX_FREE_CONSUMER)),
        rx_used: ring((drv, offset::RX_USED_PRODUCER), (net, offset::RX_USED_CONSUMER)),
        tx_used: ring((net, offset::TX_USED_PRODUCER), (drv, offset::TX_USED_CONSUMER)),
        tx_free: ring((drv, offset::TX_FREE_PRODUCER), (net, offset::TX_FREE_CONSUMER)),
        emulated: start.emulated,
    }
}

fn main(start: &'static StartInfo) -> u64 {
    let events = cap(start, "events");
    let irq_line = cap(start, "irq");
    let timer = cap(start, "timer");
    let netd = cap(start, "netd.events");
    START.store((&raw const *start).cast_mut(), Relaxed);
    let settings = Settings::parse(&start.args).unwrap_or_else(|error| panic!("{error}"));
    let mut machine = Machine::new(start, settings.nic);
    let config = config(start, settings);
    let wait = |bits: Result<u64, abi::Error>| bits.expect("waiting for events");

    let mut driver = loop {
        match Driver::start(&mut machine, &config) {
            Ok(driver) => break driver,
            Err(StartError::NoAddress) => panic!("the NIC has no MAC address"),
            Err(error) => {
                rt::log!("netd's rings cannot be used yet: {error:?}");
                if wait(sys::wait(events)) & (STOP | SUSPEND) != 0 {
                    return 0;
                }
            }
        }
    };

    match machine.found {
        Some(event) => rt::ready(start, format_args!("{event}")),
        None => rt::ready(start, format_args!("nothing was under way")),
    }

    // The predecessor may have died between interrupt and acknowledgement, or before it signalled
    // netd: begin as if the interrupt had come (the first poll signals netd in any case).
    let mut irq = true;
    loop {
        let poll = driver.poll(&mut machine, irq);
        if let Next::SleepFor(ns) = poll.next {
            let _ = sys::arm(timer, start.now_ns() + ns);
        }
        let bits = match (poll.next, irq, poll.notify) {
            (Next::Again, _, notify) => {
                if notify {
                    sys::signal(netd);
                }
                sys::poll(events)
            }
            (_, true, notify) => {
                if notify {
                    sys::signal(netd);
                }
                irq = false;
                wait(sys::ack_wait(irq_line, events))
            }
            (_, false, true) => wait(sys::signal_wait(netd, events)),
            (_, false, false) => wait(sys::wait(events)),
        };
        irq |= bits & IRQ != 0;
        if bits & SUSPEND != 0 && bits & STOP == 0 {
            driver.suspend(&mut machine, &config);
            sys::signal(netd);
            return 0;
        }
        if bits & STOP != 0 {
            driver.stop(&mut machine, &config);
            sys::signal(netd);
            return 0;
        }
    }
}
