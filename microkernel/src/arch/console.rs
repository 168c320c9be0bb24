//! The first serial port, for boot messages and last words. After boot it belongs to the root
//! task; the kernel then writes only when it stops.

use core::fmt::{self, Write};
use spin::Mutex;
use x86_64::instructions::port::Port;

const COM1: u16 = 0x3f8;
/// Polls of the transmitter before a byte is given up: no UART, no output.
const POLLS: u32 = 100_000;

struct Uart;

static UART: Mutex<Uart> = Mutex::new(Uart);

impl Uart {
    fn put(&mut self, byte: u8) {
        // SAFETY: the UART's own registers.
        unsafe {
            let mut status = Port::<u8>::new(COM1 + 5);
            for _ in 0..POLLS {
                if status.read() & 0x20 != 0 {
                    break;
                }
            }
            Port::<u8>::new(COM1).write(byte);
        }
    }
}

impl Write for Uart {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for b in s.bytes() {
            if b == b'\n' {
                self.put(b'\r');
            }
            self.put(b);
        }
        Ok(())
    }
}

/// 115200 baud, 8N1, FIFO on.
pub fn init() {
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 0xc7), (4, 0x0b)] {
        // SAFETY: the UART's own registers.
        unsafe { Port::<u8>::new(COM1 + register).write(value) };
    }
}

/// Writes a line. In a panic another holder of the lock is ignored: it will not go on.
pub fn line(text: fmt::Arguments<'_>, panicking: bool) {
    let mut uart = match UART.try_lock() {
        Some(guard) => guard,
        None if panicking => {
            // SAFETY: the holder is the code that panicked on this, the only, processor.
            unsafe { UART.force_unlock() };
            UART.lock()
        }
        None => UART.lock(),
    };
    let _ = writeln!(uart, "{text}");
}

/// Writes a line to the console.
macro_rules! println {
    ($($arg:tt)*) => { $crate::arch::console::line(format_args!($($arg)*), false) };
}
pub(crate) use println;
