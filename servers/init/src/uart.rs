//! The serial port: a 16550A at the PC's COM1 (National Semiconductor PC16550D data sheet).

use crate::kernel::Kernel;
use crate::screen::Screen;

const BASE: u16 = 0x3F8;
/// Receive and transmit holding register.
const DATA: u16 = BASE;
/// Interrupt enable: bit 0 received data, bit 1 transmitter empty.
const IER: u16 = BASE + 1;
/// Interrupt identification (read): [`IIR_NONE`] clear while one is pending.
const IIR: u16 = BASE + 2;
const IIR_NONE: u32 = 1;
/// FIFO control (write).
const FCR: u16 = BASE + 2;
/// Line control.
const LCR: u16 = BASE + 3;
/// Modem control.
const MCR: u16 = BASE + 4;
/// Line status.
const LSR: u16 = BASE + 5;

const LSR_DATA: u32 = 1;
const LSR_THR_EMPTY: u32 = 1 << 5;
/// Bytes of the transmit FIFO: so many may be written once it is empty.
const FIFO: usize = 16;
/// FIFO loads written at most before other work is looked at.
const LOADS: usize = 32;
/// Looks at the interrupt identification at most for one interrupt: real ports need three.
const ROUNDS: usize = 16;
/// Bytes read at most for one interrupt.
const READS: usize = 256;

/// State of the port.
#[derive(Default)]
pub struct Uart {
    waits_for_empty: bool,
}

impl Uart {
    /// 115,200 baud, 8 bits, no parity; FIFOs on; interrupts for received data.
    pub fn init(k: &mut impl Kernel) -> Self {
        k.port_out(IER, 1, 0);
        k.port_out(LCR, 1, 0x80);
        k.port_out(DATA, 1, 1);
        k.port_out(IER, 1, 0);
        k.port_out(LCR, 1, 3);
        k.port_out(FCR, 1, 0x07);
        // OUT2 lets the interrupt through to the PC's interrupt controller.
        k.port_out(MCR, 1, 0x0B);
        k.port_out(IER, 1, 1);
        Self::default()
    }
    /// Writes what the port takes now; asks for an interrupt if that was not all. Returns whether
    /// the port would take more at once: the caller looks at other work and comes back.
    pub fn pump(&mut self, k: &mut impl Kernel, screen: &mut Screen) -> bool {
        for _ in 0..LOADS {
            if screen.is_empty() {
                self.wait_for_empty(k, false);
                return false;
            }
            if k.port_in(LSR, 1) & LSR_THR_EMPTY == 0 {
                self.wait_for_empty(k, true);
                return false;
            }
            for b in core::iter::from_fn(|| screen.pop()).take(FIFO) {
                k.port_out(DATA, 1, b as u32);
            }
        }
        true
    }
    /// Whether an interrupt will say when the port takes more.
    pub fn is_waiting(&self) -> bool {
        self.waits_for_empty
    }
    fn wait_for_empty(&mut self, k: &mut impl Kernel, wait: bool) {
        if self.waits_for_empty != wait {
            self.waits_for_empty = wait;
            k.port_out(IER, 1, if wait { 3 } else { 1 });
        }
    }
    /// Reads what has been received into `into`; returns how many bytes.
    ///
    /// Goes on until the port says that nothing is pending. The line makes an edge only from low to
    /// high, and reading the identification clears "transmitter empty" only when it is what it
    /// shows: with data pending too it shows that first, and the line would stay high for ever.
    pub fn read(&mut self, k: &mut impl Kernel, into: &mut [u8; READS]) -> usize {
        let mut n = 0;
        for _ in 0..ROUNDS {
            while n < READS {
                let status = k.port_in(LSR, 1);
                // An absent port reads as all ones.
                if status & LSR_DATA == 0 || status & 0xFF == 0xFF {
                    break;
                }
                into[n] = k.port_in(DATA, 1) as u8;
                n += 1;
            }
            if n == READS || k.port_in(IIR, 1) & IIR_NONE != 0 {
                break;
            }
        }
        n
    }
    /// Empties the queue before the machine goes off, with bounded patience.
    pub fn flush(&mut self, k: &mut impl Kernel, screen: &mut Screen) {
        for _ in 0..1_000_000 {
            if screen.is_empty() {
                return;
            }
            if k.port_in(LSR, 1) & LSR_THR_EMPTY != 0 {
                for b in core::iter::from_fn(|| screen.pop()).take(FIFO) {
                    k.port_out(DATA, 1, b as u32);
                }
            }
        }
    }
}

/// Writes a byte without any state, for init's own panic.
pub fn emergency(k: &mut impl Kernel, byte: u8) {
    for _ in 0..10_000 {
        if k.port_in(LSR, 1) & LSR_THR_EMPTY != 0 {
            break;
        }
    }
    k.port_out(DATA, 1, byte as u32);
}

/// Bytes that [`Uart::read`] takes at most.
pub const READ_MAX: usize = READS;
