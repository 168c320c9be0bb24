//! NIC, netd and driver together, with their signals: who is not signalled does not run.

use super::netd::Netd;
use super::nic::*;
use super::{Rng, pattern};
use e1000d::models::{MODELS, Model, model};
use e1000d::settings::Settings;
use e1000d::window::Windows;
use e1000d::{Config, Driver, Next, Poll, StartError, regs};
use libipc::nic::*;
use libipc::ring::{Entry, Memory};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[repr(C, align(4096))]
struct Region<const N: usize>([AtomicU64; N]);

const DRV: usize = offset::DRV_BYTES / 8;
const NET: usize = offset::NET_BYTES / 8;

/// Regions `nic.drv` and `nic.net`.
#[derive(Clone, Copy)]
pub struct Rings {
    drv: &'static Region<DRV>,
    net: &'static Region<NET>,
}

impl Rings {
    /// Zeroed. One pair a thread: a test has one world at a time.
    pub fn new() -> Self {
        thread_local! {
            static ONE: Rings = Rings {
                drv: Box::leak(Box::new(Region([const { AtomicU64::new(0) }; DRV]))),
                net: Box::leak(Box::new(Region([const { AtomicU64::new(0) }; NET]))),
            };
        }
        let rings = ONE.with(|r| *r);
        rings.drv.0.iter().chain(&rings.net.0).for_each(|w| w.store(0, Relaxed));
        rings
    }
    fn drv_at(&self, offset: usize) -> usize {
        self.drv as *const _ as usize + offset
    }
    fn net_at(&self, offset: usize) -> usize {
        self.net as *const _ as usize + offset
    }
    fn ring<E: Entry>(producer: usize, consumer: usize) -> Memory<E> {
        // SAFETY: leaked memory made of atomics, laid out by `libipc::nic::offset`.
        unsafe { Memory::new(producer, consumer, RING) }
    }
    pub fn rx_free(&self) -> Memory<RxFree> {
        Self::ring(self.net_at(offset::RX_FREE_PRODUCER), self.drv_at(offset::RX_FREE_CONSUMER))
    }
    pub fn rx_used(&self) -> Memory<RxUsed> {
        Self::ring(self.drv_at(offset::RX_USED_PRODUCER), self.net_at(offset::RX_USED_CONSUMER))
    }
    pub fn tx_used(&self) -> Memory<TxDesc> {
        Self::ring(self.net_at(offset::TX_USED_PRODUCER), self.drv_at(offset::TX_USED_CONSUMER))
    }
    pub fn tx_free(&self) -> Memory<TxFree> {
        Self::ring(self.drv_at(offset::TX_FREE_PRODUCER), self.net_at(offset::TX_FREE_CONSUMER))
    }
    pub fn status(&self) -> &'static Status {
        // SAFETY: as `ring`; every field is atomic.
        unsafe { &*(self.drv_at(offset::STATUS) as *const Status) }
    }
    pub fn groups(&self) -> &'static Groups {
        // SAFETY: as `ring`; every field is atomic.
        unsafe { &*(self.net_at(offset::GROUPS) as *const Groups) }
    }
    /// Word `i` of `nic.net`, as a hostile netd writes it.
    pub fn net_word(&self, i: usize) -> &'static AtomicU64 {
        &self.net.0[i]
    }
    /// Word `i` of `nic.drv`.
    pub fn drv_word(&self, i: usize) -> &'static AtomicU64 {
        &self.drv.0[i]
    }
    pub fn counter(&self, c: Counter) -> u64 {
        self.status().counters[c as usize].load(Relaxed)
    }
}

pub struct World {
    pub hw: Hw,
    pub rings: Rings,
    pub config: Config,
    pub netd: Netd,
    pub driver: Option<Driver>,
    pub crashes: u64,
    next_rx: u64,
    doorbell: bool,
    irq: bool,
    netd_signal: bool,
    /// The driver sleeps with its timer running.
    pub timer: bool,
    pub rng: Rng,
}

impl World {
    pub fn new(seed: u64, metal: bool) -> Self {
        Self::with(seed, metal, model(0x100e), Settings::default())
    }

    /// A NIC of any model with rings of any size.
    pub fn any(seed: u64, metal: bool) -> Self {
        let sizes = ["", "rx=32 tx=32", "rx=512 tx=64 budget=7", "rx=64 tx=512 budget=1"];
        let model = MODELS[(seed / 4 % 4) as usize];
        Self::with(seed, metal, model, Settings::parse(sizes[(seed % 4) as usize]).unwrap())
    }

    pub fn with(seed: u64, metal: bool, model: Model, settings: Settings) -> Self {
        let rings = Rings::new();
        let mut nic = Nic::new(seed);
        (nic.metal, nic.model) = (metal, model);
        if model.eerd.is_none() {
            // The hardware has loaded the address.
            nic.eeprom = None;
            nic.set(regs::RAL0, 0x1200_5452);
            nic.set(regs::RAH0, 0x8000_5634);
        }
        let mut windows = Windows::default();
        windows.add(WINDOW_RX, POOL_BUS, POOL_BYTES as u64);
        windows.add(WINDOW_TX, TX_BUS, TX_BYTES as u64);
        windows.add(WINDOW_RINGS, RINGS_BUS, 64 * 1024);
        windows.add(WINDOW_SESSION, SESSION_BUS, TX_BYTES as u64);
        let config = Config {
            model,
            settings,
            rings_bus: RINGS_BUS,
            pool_bus: POOL_BUS,
            windows,
            status: rings.status(),
            groups: rings.groups(),
            rx_free: rings.rx_free(),
            rx_used: rings.rx_used(),
            tx_used: rings.tx_used(),
            tx_free: rings.tx_free(),
            emulated: !metal,
        };
        Self {
            hw: Hw(Rc::new(RefCell::new(nic))),
            rings,
            config,
            netd: Netd::new(rings, seed ^ 0x55),
            driver: None,
            crashes: 0,
            next_rx: 0,
            doorbell: false,
            irq: false,
            netd_signal: false,
            timer: false,
            rng: Rng::new(seed ^ 0x77),
        }
    }

    pub fn nic(&self) -> std::cell::RefMut<'_, Nic> {
        self.hw.0.borrow_mut()
    }

    /// A register, without the side effects of reading it.
    pub fn reg(&self, reg: e1000d::regs::Reg) -> u32 {
        self.nic().reg(reg)
    }

    /// RCTL, RDT and TDT writes so far.
    pub fn writes(&self) -> (u32, u32, u32) {
        let n = self.nic();
        (n.rctl_writes, n.rdt_writes, n.tdt_writes)
    }

    /// A frame on the wire, for us.
    pub fn arrive(&mut self) {
        let len = 60 + self.rng.below(1455) as usize;
        let frame = pattern(self.next_rx, len);
        self.next_rx += 1;
        self.nic().incoming.push_back(frame);
    }

    /// netd has signalled.
    pub fn rung(&mut self) {
        self.doorbell = true;
        self.run_driver();
    }
    /// Runs the driver once, as `main.rs` does, if anything woke it; starts it if it is dead.
    /// `false`: it sleeps.
    pub fn run_driver(&mut self) -> bool {
        let line = self.nic().line();
        self.irq |= line;
        if self.driver.is_some() && !self.irq && !self.doorbell {
            return false;
        }
        self.doorbell = false;
        let (hw, config, irq) = (&mut self.hw, &self.config, self.irq);
        let (driver, lenient) = (&mut self.driver, self.netd.lenient);
        let result = catch_unwind(AssertUnwindSafe(|| {
            if driver.is_none() {
                match Driver::start(hw, config) {
                    Ok(started) => *driver = Some(started),
                    // As `main.rs`: it waits for netd's next signal.
                    Err(StartError::Peer(_)) if lenient => {
                        return Poll { notify: false, next: Next::Sleep };
                    }
                    Err(e) => panic!("{e:?}"),
                }
                return driver.as_mut().unwrap().poll(hw, true);
            }
            driver.as_mut().unwrap().poll(hw, irq)
        }));
        match result {
            Ok(poll) => {
                self.netd_signal |= poll.notify;
                self.timer = matches!(poll.next, Next::SleepFor(_));
                match poll.next {
                    Next::Again => self.doorbell = true,
                    // Acknowledged; if the line is still up it fires again.
                    Next::Sleep | Next::SleepFor(_) => self.irq = false,
                }
                self.netd.check_wire(&mut self.hw.0.borrow_mut());
            }
            Err(payload) => self.died(payload),
        }
        true
    }

    fn died(&mut self, payload: Box<dyn std::any::Any + Send>) {
        if payload.downcast_ref::<Crash>().is_none() {
            std::panic::resume_unwind(payload);
        }
        // What the dead driver wanted to signal is lost, interrupts it had not acknowledged stay
        // masked: a new one must not depend on either.
        self.driver = None;
        self.irq = false;
        self.crashes += 1;
        self.netd.check_wire(&mut self.hw.0.borrow_mut());
    }

    /// Stops the driver. `false`: it died on the way.
    pub fn stop(&mut self) -> bool {
        let driver = self.driver.take().expect("alive");
        let (hw, config) = (&mut self.hw, &self.config);
        match catch_unwind(AssertUnwindSafe(|| driver.stop(hw, config))) {
            Ok(()) => {
                self.netd_signal = true;
                self.irq = false;
                self.netd.check_wire(&mut self.hw.0.borrow_mut());
                true
            }
            Err(payload) => {
                self.died(payload);
                false
            }
        }
    }

    /// Lays driver and NIC to rest, as init does. `false`: the driver died on the way.
    pub fn suspend(&mut self) -> bool {
        let driver = self.driver.take().expect("alive");
        let (hw, config) = (&mut self.hw, &self.config);
        let result = catch_unwind(AssertUnwindSafe(|| driver.suspend(hw, config)));
        self.nic().resting = true;
        match result {
            Ok(()) => {
                self.netd_signal = true;
                self.irq = false;
                self.netd.check_wire(&mut self.hw.0.borrow_mut());
                true
            }
            Err(payload) => {
                self.died(payload);
                false
            }
        }
    }

    pub fn run_netd(&mut self) -> bool {
        if !self.netd_signal {
            return false;
        }
        self.netd_signal = false;
        loop {
            self.netd.take(&mut self.hw.0.borrow_mut());
            self.doorbell |= self.netd.give_buffers(usize::MAX);
            if self.netd.sleep() {
                return true;
            }
        }
    }

    /// Traffic of both directions, at random.
    pub fn traffic(&mut self) {
        for _ in 0..self.rng.below(20) {
            self.arrive();
        }
        for _ in 0..self.rng.below(20) {
            self.doorbell |= self.netd.send(&mut self.hw.0.borrow_mut());
        }
        if self.rng.chance(3) {
            self.netd.take(&mut self.hw.0.borrow_mut());
        }
        if self.rng.chance(2) {
            let n = self.rng.below(100) as usize;
            self.doorbell |= self.netd.give_buffers(n);
        }
        let n = self.rng.below(20) as usize;
        self.nic().receive(n);
        self.nic().now += 100_000;
    }

    /// Until everybody sleeps. What is not done then was never going to be.
    pub fn settle(&mut self) {
        loop {
            let mut turns = 0;
            loop {
                let ran = self.run_driver() | self.run_netd();
                let mut nic = self.nic();
                nic.receive(4);
                nic.transmit(3);
                if !ran && !nic.line() && !nic.busy() {
                    break;
                }
                turns += 1;
                assert!(turns < 100_000, "does not come to rest");
            }
            let before = self.nic().incoming.len();
            self.nic().now += 2_000_000_000;
            self.nic().receive(1);
            if self.netd.has_rest() {
                self.doorbell |= self.netd.finish();
            } else if self.nic().incoming.len() == before {
                break;
            }
        }
        assert!(self.netd.idle(), "asleep with frames to send or report");
        assert!(self.nic().incoming.is_empty(), "asleep without buffers for the NIC");
    }

    /// Who owns each buffer: how many of netd, the ring to the driver, the NIC.
    pub fn owners(&self) -> Vec<u32> {
        let driver = self.driver.as_ref().expect("alive");
        let mut owners = vec![0; RX_BUFFERS as usize];
        self.netd.buffers.iter().for_each(|b| owners[*b as usize] += 1);
        let mut waiting = self.rings.rx_free().consumer().unwrap();
        while let Some(entry) = waiting.pop().unwrap() {
            owners[entry.buffer as usize] += 1;
        }
        for (b, count) in owners.iter_mut().enumerate() {
            *count += driver.holds(b as u32) as u32;
        }
        owners
    }

    /// Every frame arrived, every frame left, every buffer is somewhere.
    pub fn check(&mut self) {
        assert!(self.netd.expected.is_empty(), "{} frames lost", self.netd.expected.len());
        assert_eq!(self.netd.next_rx, self.next_rx, "received frames lost");
        assert!(self.owners().iter().all(|n| *n == 1), "{:?}", self.owners());
    }

    /// Number of the next frame to arrive.
    pub fn next_rx(&self) -> u64 {
        self.next_rx
    }

    /// netd rings.
    pub fn ring_doorbell(&mut self) {
        self.doorbell = true;
    }

    /// The driver dies between two stores.
    pub fn kill(&mut self) {
        self.driver = None;
    }
}
