//! The test agent (`userland::agent`, docs/agent.md) on the second serial port.
#![no_std]
#![no_main]

extern crate alloc;

mod uart;

use alloc::vec::Vec;

use userland::agent::Agent;
use userland::net::LinkWatch;
use userland::runtime::Runtime;
use userland::{Error, init};

use uart::Uart;

rt::entry!(main);

fn main(start: &'static rt::StartInfo) -> u64 {
    let rt = match init(start) {
        Ok(rt) => rt,
        Err(e) => {
            rt::log!("the manifest entry is incomplete: {e:?}");
            return 1;
        }
    };
    let Some((ports, irq)) = start.cap("ports").zip(start.cap("irq")) else {
        rt::log!("the manifest entry lacks a device of ports: `device = \"com2\"`");
        return 1;
    };
    let mut uart = Uart::new(ports, irq);
    if let Err(e) = configured(rt) {
        rt::log!("{e}");
        return 1;
    }
    rt::log!("AGENT-READY");
    serve(rt, &mut uart)
}

/// Waits until the link is up and there is an address.
fn configured(rt: &'static Runtime) -> Result<(), Error> {
    let mut watch = LinkWatch::new(rt)?;
    loop {
        let link = watch.wait(None)?;
        if link.up && link.addressed {
            return Ok(());
        }
    }
}

fn serve(rt: &'static Runtime, uart: &mut Uart) -> ! {
    let mut agent = Agent::new(rt);
    let mut bytes = Vec::new();
    // netd hears of sockets once a turn, in the call that waits.
    rt.gather(true);
    loop {
        if rt.take_device() {
            uart.acknowledge();
        }
        uart.listen(agent.is_hungry());
        let more = uart.receive(&mut bytes);
        if !bytes.is_empty() {
            agent.feed(&bytes);
            bytes.clear();
        }
        agent.turn();
        uart.send(agent.replies());
        if !more {
            rt.wait_device(agent.deadline());
        }
    }
}
