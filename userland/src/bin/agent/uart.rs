//! The control channel: a 16550 by interrupt, 16 bytes at a time (National Semiconductor PC16550D data
//! sheet).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use libipc::sys;

/// Receive and transmit holding register; with [`DLAB`] the divisor's low byte.
const DATA: u16 = 0;
/// Interrupt enable: received data, transmitter empty. With [`DLAB`] the divisor's high byte.
const IER: u16 = 1;
const RECEIVED: u8 = 1;
const EMPTY: u8 = 2;
/// Interrupt identification (read).
const IIR: u16 = 2;
/// No interrupt is pending.
const IIR_NONE: u32 = 1;
/// What is pending, and what it is when at least [`TRIGGER`] bytes have come.
const IIR_WHAT: u32 = 0xf;
const IIR_TRIGGER: u32 = 4;
/// FIFO control (write): on, both cleared, interrupt at 14 bytes.
const FCR: u16 = 2;
const FIFOS: u8 = 0xC7;
const TRIGGER: usize = 14;
/// Line control: 8 bits, no parity; access to the divisor.
const LCR: u16 = 3;
const EIGHT_BITS: u8 = 3;
const DLAB: u8 = 0x80;
/// Modem control: DTR, RTS, and OUT2, which lets interrupts through to the PC's controller.
const MCR: u16 = 4;
const MODEM: u8 = 0x0B;
/// Line status: data received; the transmit FIFO is empty.
const LSR: u16 = 5;
const LSR_DATA: u32 = 1;
const LSR_EMPTY: u32 = 0x20;
/// Modem status.
const MSR: u16 = 6;

/// Bytes that the transmit FIFO holds.
const FIFO: usize = 16;
/// Bytes taken at once, so that replies leave in between.
const MOST: usize = 64 << 10;
/// First port of COM2. The manifest's device has it, too; it is refused elsewhere.
const BASE: u16 = 0x2F8;

/// See the [module](self).
pub struct Uart {
    ports: abi::CPtr,
    irq: abi::CPtr,
    /// What [`IER`] holds.
    enabled: u8,
}

impl Uart {
    /// Sets it up at 115,200 baud.
    pub fn new(ports: abi::CPtr, irq: abi::CPtr) -> Self {
        let mut uart = Self { ports, irq, enabled: 0 };
        uart.write(IER, 0);
        uart.write(LCR, DLAB);
        uart.write(DATA, 1);
        uart.write(IER, 0);
        uart.write(LCR, EIGHT_BITS);
        uart.write(FCR, FIFOS);
        uart.write(MCR, MODEM);
        uart.enable(RECEIVED);
        // A predecessor may have died before it did this.
        uart.acknowledge();
        uart
    }

    fn read(&self, register: u16) -> u32 {
        // As an absent port reads.
        sys::port_in(self.ports, BASE + register, 1).unwrap_or(0xff)
    }

    fn write(&self, register: u16, value: u8) {
        let _ = sys::port_out(self.ports, BASE + register, 1, value as u32);
    }

    fn enable(&mut self, what: u8) {
        if self.enabled != what {
            self.enabled = what;
            self.write(IER, what);
        }
    }

    /// Lets the line interrupt again. Before [`Self::receive`]: its edge may come at any time after.
    pub fn acknowledge(&self) {
        let _ = sys::ack(self.irq);
    }

    /// Whether bytes are to be received. Those that are not wait at the other end.
    pub fn listen(&mut self, on: bool) {
        let others = self.enabled & !RECEIVED;
        self.enable(if on { others | RECEIVED } else { others });
    }

    /// Takes what has come. Goes on until nothing is pending, or there would be no next edge; `true`: it
    /// is to be called again first.
    pub fn receive(&mut self, into: &mut Vec<u8>) -> bool {
        while into.len() < MOST {
            let pending = self.read(IIR);
            if pending & IIR_NONE != 0 || pending == 0xff {
                return false;
            }
            match pending & IIR_WHAT {
                IIR_TRIGGER => into.extend((0..TRIGGER).map(|_| self.read(DATA) as u8)),
                // Fewer bytes, and no more have followed for a while.
                0xC => {
                    while self.read(LSR) & LSR_DATA != 0 {
                        into.push(self.read(DATA) as u8);
                    }
                }
                6 => drop(self.read(LSR)),
                0 => drop(self.read(MSR)),
                // The transmitter is empty: reading the identification was all.
                _ => {}
            }
        }
        true
    }

    /// Sends as much as it takes, and has it interrupt for the rest.
    pub fn send(&mut self, from: &mut VecDeque<u8>) {
        while !from.is_empty() && self.read(LSR) & LSR_EMPTY != 0 {
            for byte in from.drain(..from.len().min(FIFO)) {
                self.write(DATA, byte);
            }
        }
        let others = self.enabled & !EMPTY;
        self.enable(if from.is_empty() { others } else { others | EMPTY });
    }
}
