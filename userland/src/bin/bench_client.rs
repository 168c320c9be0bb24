//! The client of `bench kernel`: asks of the kernel, [`TIMES`] times each, what is to be measured, and
//! marks it. The server (`bench-server`), which is more urgent, plays its part in the same order.
#![no_std]
#![no_main]

use abi::{CPtr, Error, MsgInfo};
use libipc::mark::{self, TIMES, mark};
use libipc::sys;

rt::entry!(main);

/// Method of the calls that are measured; the last call of the server's first part has another.
const MEASURED: u16 = 0;
const LAST: u16 = 1;

fn main(start: &'static rt::StartInfo) -> u64 {
    match run(start) {
        Ok(()) => 0,
        Err(e) => {
            rt::log!("bench-client: {e:?}");
            1
        }
    }
}

fn info(method: u16, len: usize) -> MsgInfo {
    MsgInfo::new(0x7f, 1, method, len)
}

fn calls<const MARK: u32>(server: CPtr, len: usize) -> Result<(), Error> {
    for i in 0..TIMES {
        mark::<MARK>();
        sys::call(server, info(MEASURED, len), [i, 0, 0, 0])?;
    }
    Ok(())
}

fn run(start: &'static rt::StartInfo) -> Result<(), Error> {
    let cap = |name| start.cap(name).ok_or(Error::InvalidCap);
    let (server, server_events, own) = (cap("server")?, cap("server.events")?, cap("events")?);
    let timed = |what: &str, f: &dyn Fn() -> Result<(), Error>| {
        let begun = start.now_ns();
        let done = f();
        rt::log!("wall {what} {}", (start.now_ns() - begun) / TIMES);
        done
    };
    timed("call_0", &|| calls::<{ mark::CALL[0] }>(server, mark::PAYLOADS[0]))?;
    timed("call_64", &|| calls::<{ mark::CALL[1] }>(server, mark::PAYLOADS[1]))?;
    timed("call_512", &|| calls::<{ mark::CALL[2] }>(server, mark::PAYLOADS[2]))?;
    // The server signals while we wait for its answer, and then no more receives calls.
    mark::<{ mark::NOTHING }>();
    sys::call(server, info(LAST, 0), [0; 4])?;
    // Take what it signalled.
    sys::poll(own);
    timed("signal_wakes", &|| {
        for _ in 0..TIMES {
            mark::<{ mark::SIGNAL_WAKES }>();
            sys::signal(server_events);
        }
        Ok(())
    })?;
    timed("signal_wait", &|| {
        for _ in 0..TIMES {
            mark::<{ mark::SIGNAL_WAIT }>();
            sys::signal_wait(server_events, own)?;
        }
        Ok(())
    })?;
    mark::<{ mark::NOTHING }>();
    sys::signal(server_events);
    // Interrupts of the server's device come while we do nothing; its signal ends that.
    while sys::poll(own) == 0 {
        for _ in 0..10_000 {
            mark::<{ mark::IRQ }>();
            core::hint::spin_loop();
        }
        mark::<{ mark::NOTHING }>();
    }
    Ok(())
}
