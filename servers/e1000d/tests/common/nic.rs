//! The NICs as QEMU emulates them (or, with `metal`, working at their own pace), between register
//! accesses, lent memory and the wire. The driver can be stopped before any of its stores.
//!
//! An 82574L differs as its datasheet says: ICR is cleared by writing, EERD has another layout, a
//! reset clears everything, and after one nothing may be under way that CTRL.GIO_MASTER_DISABLE
//! had to end.

use super::{Rng, sum};
use e1000d::hardware::{Event, Hardware};
use e1000d::lent;
use e1000d::models::{Model, model};
use e1000d::regs::{self, Reg};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

pub const RINGS_BUS: u64 = 0x1_2340_0000;
pub const POOL_BUS: u64 = 0x2000_0000;
pub const TX_BUS: u64 = 0x3000_0000;
pub const SESSION_BUS: u64 = 0x4000_0000;
pub const POOL_BYTES: usize = 512 * 2048;
pub const TX_BYTES: usize = 256 * 2048;
pub const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

const DD: u64 = 1 << 32;
/// STATUS.GIO_MASTER_ENABLE.
const MASTER: u32 = 1 << 19;

/// The driver dies: unwinds through it.
pub struct Crash;

pub struct Nic {
    regs: HashMap<u32, u32>,
    pub eeprom: Option<[u16; 64]>,
    /// What registers hold after a reset, if not 0.
    pub sticky: HashMap<Reg, u32>,
    pub rings: Vec<u64>,
    pub pool: Vec<u8>,
    pub tx: Vec<u8>,
    pub session: Vec<u8>,
    /// Works at its own pace, and takes its time for a reset.
    pub metal: bool,
    pub model: Model,
    pub now: u64,
    deaf_until: u64,
    reset_until: u64,
    context: Option<[u64; 2]>,
    /// Context of the frame that is to be cut into segments.
    long: Option<[u64; 2]>,
    partial: Vec<u8>,
    partial_txsm: bool,
    /// Frames that the backend holds back until the NIC can take them.
    pub incoming: VecDeque<Vec<u8>>,
    /// Frames that left.
    pub wire: Vec<Vec<u8>>,
    pub lost: u64,
    pub rctl_writes: u32,
    pub rdt_writes: u32,
    pub tdt_writes: u32,
    /// Status and error byte for the frames received from now on.
    pub rx_status: u64,
    /// init has taken bus mastering away.
    pub resting: bool,
    pub events: Vec<Event>,
    /// Stores until the driver dies.
    pub fuse: Option<u64>,
    pub steps: u64,
    rng: Rng,
}

/// As firmware leaves it: link up, 1000 Mbit/s.
fn power_on() -> HashMap<u32, u32> {
    HashMap::from([(regs::STATUS.0, 0x8008_0783), (regs::CTRL.0, 0x0014_0240)])
}

impl Nic {
    pub fn new(seed: u64) -> Self {
        let mut eeprom = [0; 64];
        for i in 0..3 {
            eeprom[i] = u16::from_le_bytes([MAC[2 * i], MAC[2 * i + 1]]);
        }
        eeprom[13] = 0x100e;
        Self {
            regs: power_on(),
            eeprom: Some(eeprom),
            sticky: HashMap::new(),
            rings: vec![0; lent::BYTES / 8],
            pool: vec![0; POOL_BYTES],
            tx: vec![0; TX_BYTES],
            session: vec![0; TX_BYTES],
            metal: false,
            model: model(0x100e),
            now: 0,
            deaf_until: 0,
            reset_until: 0,
            context: None,
            long: None,
            partial: Vec::new(),
            partial_txsm: false,
            incoming: VecDeque::new(),
            wire: Vec::new(),
            lost: 0,
            rctl_writes: 0,
            rdt_writes: 0,
            tdt_writes: 0,
            rx_status: 0x07,
            resting: false,
            events: Vec::new(),
            fuse: None,
            steps: 0,
            rng: Rng::new(seed ^ 0xabcd),
        }
    }

    /// Loses its registers, and gets them again as they are at power-on.
    pub fn power_on(&mut self) {
        assert!(self.partial.is_empty(), "in the middle of a frame");
        let address = [regs::RAL0, regs::RAH0].map(|r| (r, self.reg(r)));
        (self.regs, self.context) = (power_on(), None);
        address.into_iter().for_each(|(r, v)| self.set(r, v));
    }

    pub fn reg(&self, reg: Reg) -> u32 {
        self.regs.get(&reg.0).copied().unwrap_or(0)
    }
    pub fn set(&mut self, reg: Reg, value: u32) {
        self.regs.insert(reg.0, value);
    }
    pub fn cause(&mut self, causes: u32) {
        self.set(regs::ICR, self.reg(regs::ICR) | causes);
    }
    /// Whether the interrupt line is asserted.
    pub fn line(&self) -> bool {
        self.reg(regs::ICR) & self.reg(regs::IMS) != 0
    }

    /// Whether it is going to do something by itself.
    pub fn busy(&self) -> bool {
        self.reg(regs::TCTL) & 2 != 0 && self.reg(regs::TDH) != self.reg(regs::TDT)
    }

    fn memory(&mut self, bus: u64, len: usize, receive: bool) -> &mut [u8] {
        let at = |base: u64, size: usize| {
            let offset = bus.wrapping_sub(base);
            (offset + len as u64 <= size as u64 && offset < size as u64).then_some(offset as usize)
        };
        if let Some(o) = at(POOL_BUS, POOL_BYTES) {
            return &mut self.pool[o..o + len];
        }
        assert!(!receive, "received frame written to {bus:#x}");
        if let Some(o) = at(TX_BUS, TX_BYTES) {
            return &mut self.tx[o..o + len];
        }
        if let Some(o) = at(SESSION_BUS, TX_BYTES) {
            return &mut self.session[o..o + len];
        }
        panic!("DMA outside every window: {bus:#x}, {len} bytes");
    }

    fn word(&self, base: Reg, high: Reg, index: u32, half: usize) -> usize {
        let bus = self.reg(base) as u64 | (self.reg(high) as u64) << 32;
        let offset = bus.checked_sub(RINGS_BUS).expect("ring base") as usize;
        offset / 8 + index as usize * 2 + half
    }

    /// Sends up to `n` descriptors.
    pub fn transmit(&mut self, n: usize) {
        for _ in 0..n {
            let (head, tail) = (self.reg(regs::TDH), self.reg(regs::TDT));
            if self.reg(regs::TCTL) & 2 == 0 || head == tail {
                return;
            }
            let at = self.word(regs::TDBAL, regs::TDBAH, head, 0);
            let (w0, w1) = (self.rings[at], self.rings[at + 1]);
            assert!(w1 & 1 << 29 != 0, "legacy descriptor");
            match w1 >> 20 & 0xf {
                0 if w1 & 1 << 26 != 0 => self.long = Some([w0, w1]),
                0 => self.context = Some([w0, w1]),
                1 => {
                    let bytes = self.memory(w0, (w1 & 0xf_ffff) as usize, false).to_vec();
                    self.partial.extend(bytes);
                    // POPTS counts in the first descriptor of a frame; ours set it in all.
                    self.partial_txsm = w1 & 1 << 41 != 0;
                    if w1 & 1 << 24 != 0 {
                        self.frame_out(w1 & 1 << 26 != 0);
                    }
                    if w1 & 1 << 27 != 0 {
                        self.rings[at + 1] |= DD;
                        self.cause(1);
                    }
                }
                other => panic!("descriptor type {other}"),
            }
            let slots = self.reg(regs::TDLEN) / 16;
            self.set(regs::TDH, (head + 1) % slots);
        }
    }

    fn frame_out(&mut self, long: bool) {
        let frame = std::mem::take(&mut self.partial);
        if !long {
            let context = self.partial_txsm.then(|| self.context.expect("no context"));
            return self.send(frame, context);
        }
        let context = self.long.take().expect("each long frame brings its context");
        let [w0, w1] = context;
        assert!(self.model.tso && w1 & 3 << 24 == 3 << 24, "TCP over IPv4");
        let (headers, mss) = ((w1 >> 40) as u8 as usize, (w1 >> 48) as usize);
        assert_eq!((w1 & 0xf_ffff) as usize, frame.len() - headers, "PAYLEN");
        let l4 = (w0 >> 32) as u8 as usize;
        for segment in super::netd::segments(&frame, l4, headers, mss) {
            self.send(segment, Some(context));
        }
    }

    fn send(&mut self, mut frame: Vec<u8>, context: Option<[u64; 2]>) {
        assert!((1..=1514).contains(&frame.len()), "frame of {} bytes", frame.len());
        if let Some([w0, _]) = context {
            let (css, cso) = ((w0 >> 32) as u8 as usize, (w0 >> 40) as u8 as usize);
            let checksum = !(sum(&frame[css..]) as u16);
            frame[cso..cso + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        self.wire.push(frame);
    }

    /// Receives what the backend has, as far as the NIC can.
    pub fn receive(&mut self, n: usize) {
        for _ in 0..n {
            let (head, tail) = (self.reg(regs::RDH), self.reg(regs::RDT));
            if self.resting
                || self.reg(regs::RCTL) & 2 == 0
                || head == tail
                || self.now < self.deaf_until
            {
                return;
            }
            let Some(frame) = self.incoming.pop_front() else { return };
            let at = self.word(regs::RDBAL, regs::RDBAH, head, 0);
            let (bus, len) = (self.rings[at], frame.len());
            self.memory(bus, len, true).copy_from_slice(&frame);
            self.rings[at + 1] |= len as u64 | self.rx_status << 32;
            let slots = self.reg(regs::RDLEN) / 16;
            self.set(regs::RDH, (head + 1) % slots);
            self.cause(1 << 7);
        }
    }

    fn settle(&mut self) {
        if self.metal && self.reg(regs::CTRL) & 1 << 26 != 0 && self.now >= self.reset_until {
            self.set(regs::CTRL, self.reg(regs::CTRL) & !(1 << 26));
        }
        // The NIC works while the driver does.
        if self.rng.chance(4) {
            self.receive(1);
        }
        if self.metal && self.rng.chance(2) {
            self.transmit(1);
        }
    }

    fn write(&mut self, reg: Reg, value: u32) {
        match reg {
            regs::IMS => self.set(regs::IMS, self.reg(regs::IMS) | value),
            regs::IMC => self.set(regs::IMS, self.reg(regs::IMS) & !value),
            regs::RCTL => {
                self.rctl_writes += 1;
                self.set(reg, value);
                if !self.metal && !self.model.express {
                    self.deaf_until = self.now + 1_000_000_000;
                }
            }
            regs::RDT => {
                self.rdt_writes += 1;
                self.set(reg, value);
                self.receive(usize::MAX);
            }
            regs::TDT => {
                self.tdt_writes += 1;
                self.set(reg, value);
                if !self.metal {
                    self.transmit(usize::MAX);
                    assert!(self.partial.is_empty(), "TDT in the middle of a frame");
                }
            }
            regs::ICR => self.set(reg, self.reg(reg) & !value),
            regs::CTRL if value & 1 << 26 != 0 => {
                let quiet = self.reg(regs::STATUS) & MASTER == 0;
                assert!(quiet || !self.model.express, "reset with transfers under way");
                if self.metal || self.model.express {
                    let status = self.reg(regs::STATUS);
                    let address = [regs::RAL0, regs::RAH0].map(|r| (r, self.reg(r)));
                    self.regs = self.sticky.iter().map(|(r, v)| (r.0, *v)).collect();
                    address.into_iter().for_each(|(r, v)| self.set(r, v));
                    self.set(regs::STATUS, status);
                    if self.metal {
                        self.set(reg, value & !(1 << 2));
                        self.set(regs::STATUS, status | MASTER);
                    } else {
                        // QEMU 7.2 keeps what was written; 10.0 does not.
                        self.set(reg, value & !(1 << 26));
                    }
                    self.reset_until = self.now + 1_000_000;
                    self.partial.clear();
                    self.context = None;
                } else {
                    self.set(reg, value & !(1 << 26));
                }
            }
            regs::CTRL if self.model.express => {
                self.set(reg, value);
                let status = self.reg(regs::STATUS) & !MASTER;
                self.set(regs::STATUS, status | if value & 1 << 2 == 0 { MASTER } else { 0 });
            }
            _ => self.set(reg, value),
        }
    }

    fn read(&mut self, reg: Reg) -> u32 {
        match reg {
            regs::ICR if self.model.express && self.reg(regs::IMS) != 0 => self.reg(reg),
            regs::ICR => std::mem::replace(self.regs.entry(reg.0).or_insert(0), 0),
            regs::EERD => {
                let r = self.reg(regs::EERD);
                let (shift, done) = if self.model.express { (2, 1 << 1) } else { (8, 1 << 4) };
                match &self.eeprom {
                    Some(words) if r & 1 != 0 => {
                        let word = words[(r >> shift & 0x3f) as usize];
                        (word as u32) << 16 | r & 0x3f << shift | done
                    }
                    _ => r & !done,
                }
            }
            _ => self.reg(reg),
        }
    }
}

/// The driver's view.
#[derive(Clone)]
pub struct Hw(pub Rc<RefCell<Nic>>);

impl Hw {
    fn step(&self) {
        let dies = {
            let mut nic = self.0.borrow_mut();
            nic.steps += 1;
            let dies = nic.fuse == Some(0);
            nic.fuse = nic.fuse.map(|f| f.saturating_sub(1));
            if dies {
                nic.fuse = None;
            } else {
                nic.settle();
            }
            dies
        };
        if dies {
            std::panic::resume_unwind(Box::new(Crash));
        }
    }
}

impl Hardware for Hw {
    fn read(&mut self, reg: Reg) -> u32 {
        self.step();
        self.0.borrow_mut().read(reg)
    }
    fn write(&mut self, reg: Reg, value: u32) {
        self.step();
        self.0.borrow_mut().write(reg, value);
    }
    fn load(&self, word: usize) -> u64 {
        self.0.borrow().rings[word]
    }
    fn store(&mut self, word: usize, value: u64) {
        self.step();
        self.0.borrow_mut().rings[word] = value;
    }
    fn commit(&mut self) {
        self.step();
    }
    fn now_ns(&mut self) -> u64 {
        let mut nic = self.0.borrow_mut();
        nic.now += 10_000;
        nic.settle();
        nic.now
    }
    fn event(&mut self, event: Event) {
        self.0.borrow_mut().events.push(event);
    }
}
