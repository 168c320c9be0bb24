//! The server of `bench kernel`: see `bench-client`.
#![no_std]
#![no_main]

use abi::Error;
use libipc::mark::{self, INTERRUPTS, TIMES, mark};
use libipc::sys;

rt::entry!(main);

/// Registers of an 82540EM (Intel 8254x manual, 13.4.17 to 13.4.22).
mod reg {
    pub const INTERRUPT_CAUSE: usize = 0xc0;
    pub const THROTTLING: usize = 0xc4;
    pub const CAUSE_SET: usize = 0xc8;
    pub const MASK_SET: usize = 0xd0;
    /// A cause that nothing else gives here: receive timer.
    pub const CAUSE: u32 = 1 << 7;
    /// Between two interrupts, units of 256 ns: a millisecond.
    pub const PAUSE: u32 = 4000;
}

fn main(start: &'static rt::StartInfo) -> u64 {
    match run(start) {
        Ok(()) => 0,
        Err(e) => {
            rt::log!("bench-server: {e:?}");
            1
        }
    }
}

fn run(start: &'static rt::StartInfo) -> Result<(), Error> {
    let cap = |name| start.cap(name).ok_or(Error::InvalidCap);
    let (own, reply, events) = (cap("self")?, cap("reply")?, cap("events")?);
    let (client, irq) = (cap("client.events")?, cap("irq")?);
    let nic = start.region("nic.bar0").ok_or(Error::InvalidCap)?.vaddr as usize;

    let mut got = sys::recv(own, reply)?;
    while got.info.method() == 0 {
        match got.info.len() {
            0 => mark::<{ mark::REPLY[0] }>(),
            64 => mark::<{ mark::REPLY[1] }>(),
            _ => mark::<{ mark::REPLY[2] }>(),
        }
        got = sys::reply_recv(own, reply, got.info, got.words)?;
    }
    for _ in 0..TIMES {
        mark::<{ mark::SIGNAL }>();
        sys::signal(client);
    }
    mark::<{ mark::NOTHING }>();
    sys::reply(reply, got.info, got.words)?;
    for _ in 0..TIMES {
        mark::<{ mark::WAIT }>();
        sys::wait(events)?;
    }
    mark::<{ mark::NOTHING }>();
    sys::wait(events)?;
    for _ in 0..TIMES {
        mark::<{ mark::SIGNAL_WAIT }>();
        sys::signal_wait(client, events)?;
    }

    // The card puts an interrupt off until a pause after the last one: time enough to wait for it.
    write(nic, reg::THROTTLING, reg::PAUSE);
    write(nic, reg::MASK_SET, reg::CAUSE);
    for i in 0..INTERRUPTS {
        write(nic, reg::CAUSE_SET, reg::CAUSE);
        if i % 2 == 0 {
            mark::<{ mark::ACK }>();
            sys::ack(irq)?;
            mark::<{ mark::NOTHING }>();
            sys::wait(events)?;
        } else {
            mark::<{ mark::ACK_WAIT }>();
            sys::ack_wait(irq, events)?;
        }
        read(nic, reg::INTERRUPT_CAUSE);
    }
    mark::<{ mark::NOTHING }>();
    sys::signal(client);
    Ok(())
}

fn read(bar: usize, reg: usize) -> u32 {
    // SAFETY: a register of the card, whose registers are mapped at `bar`.
    unsafe { ((bar + reg) as *const u32).read_volatile() }
}

fn write(bar: usize, reg: usize, value: u32) {
    // SAFETY: as in `read`; the card does nothing but interrupt.
    unsafe { ((bar + reg) as *mut u32).write_volatile(value) }
}
