//! The modelled machine around the kernel: serial port, PCI configuration space, power, log pages.

use abi::Label;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::mem::take;

use crate::noise::Instruction;

/// A log page.
#[derive(Default)]
pub struct Log {
    /// What waits in it.
    pub text: Vec<u8>,
    /// Last words.
    pub last_words: Vec<u8>,
    /// The incarnation that is ready, and what it said.
    pub ready: Option<(u32, Vec<u8>)>,
    /// Bytes dropped.
    pub dropped: u32,
    /// The writer waits for room.
    pub wants_room: bool,
}

/// What the processor has of randomness.
pub struct Noise {
    /// Its instruction.
    pub instruction: Option<Instruction>,
    /// What sample number N is, by instruction …
    pub word: fn(u64) -> Option<u64>,
    /// … and by time.
    pub jitter: fn(u64) -> u64,
    /// Samples taken so far.
    pub samples: u64,
}

impl Default for Noise {
    fn default() -> Self {
        Self { instruction: None, word: |_| None, jitter: |n| n * n % 11, samples: 0 }
    }
}

/// The clock with its battery.
pub struct Cmos {
    index: u8,
    /// Registers.
    pub regs: [u8; 128],
    /// So many looks from now it is updating.
    pub updating: u32,
    /// The last second of 2026 ends after so many reads.
    pub ticks_after: Option<u32>,
}

impl Default for Cmos {
    fn default() -> Self {
        Self { index: 0, regs: [0; 128], updating: 0, ticks_after: None }
    }
}

impl Cmos {
    fn read(&mut self) -> u8 {
        match &mut self.ticks_after {
            Some(0) => {
                for (reg, value) in [(0, 0), (2, 0), (4, 0), (7, 1), (8, 1), (9, 0x27)] {
                    self.regs[reg] = value;
                }
            }
            Some(n) => *n -= 1,
            None => {}
        }
        if self.index == 10 && self.updating > 0 {
            self.updating -= 1;
            return 0x80;
        }
        self.regs[self.index as usize % 128]
    }
}

/// Everything around the kernel.
#[derive(Default)]
pub struct Outside {
    /// What the serial port sent.
    pub printed: Vec<u8>,
    /// What it will receive.
    pub typed: VecDeque<u8>,
    /// Whether it accepts bytes.
    pub stuck: bool,
    /// "Transmitter empty" is pending; identified only when nothing was received.
    pub empty_pending: bool,
    /// The serial port's first register is its divisor now.
    divisor: bool,
    /// PCI configuration registers, and the bits of BARs that can be written.
    pub pci: BTreeMap<u32, u32>,
    /// Writable bits of BARs.
    pub bar_masks: BTreeMap<u32, u32>,
    /// Configuration writes.
    pub pci_writes: Vec<(u32, u32)>,
    pci_address: u32,
    /// Values written to ports that turn the machine off.
    pub off: Vec<(u16, u32)>,
    /// The clock.
    pub cmos: Cmos,
    /// Randomness.
    pub noise: Noise,
    /// Log pages by init's address.
    pub logs: BTreeMap<u64, Log>,
    /// Console input by address.
    pub inputs: BTreeMap<u64, Vec<u8>>,
}

impl Outside {
    /// The log page at an address.
    pub fn log(&mut self, vaddr: u64) -> &mut Log {
        self.logs.entry(vaddr).or_default()
    }
    /// An access to a port.
    pub fn port(&mut self, label: Label, port: u16, value: u32) -> u32 {
        match (label, port) {
            (Label::PortOut, 0x3fb) => self.divisor = value & 0x80 != 0,
            (Label::PortOut, 0x3f8) if self.divisor => {}
            (Label::PortOut, 0x3f8) => self.printed.push(value as u8),
            (Label::PortIn, 0x3f8) => return self.typed.pop_front().unwrap_or(0) as u32,
            (Label::PortIn, 0x3fd) => {
                return !self.typed.is_empty() as u32 | (!self.stuck as u32) << 5;
            }
            (Label::PortIn, 0x3fa) if !self.typed.is_empty() => return 4,
            (Label::PortIn, 0x3fa) => return if take(&mut self.empty_pending) { 2 } else { 1 },
            (Label::PortOut, 0x70) => self.cmos.index = value as u8,
            (Label::PortIn, 0x71) => return self.cmos.read() as u32,
            (Label::PortOut, 0xcf8) => self.pci_address = value,
            (Label::PortIn, 0xcfc) => return *self.pci.get(&self.pci_address).unwrap_or(&u32::MAX),
            (Label::PortOut, 0xcfc) => {
                self.pci_writes.push((self.pci_address, value));
                let bar = (0x10..0x28).contains(&(self.pci_address & 0xff));
                let mask =
                    if bar { *self.bar_masks.get(&self.pci_address).unwrap_or(&0) } else { !0 };
                let old = *self.pci.get(&self.pci_address).unwrap_or(&0);
                self.pci.insert(self.pci_address, value & mask | old & !mask);
            }
            (Label::PortOut, 0x604 | 0xf4) => self.off.push((port, value)),
            _ => {}
        }
        0
    }
}
