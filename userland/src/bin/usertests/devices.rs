//! What a program without such capabilities cannot do: reach ports, interrupts, devices.

use abi::{Error, FaultKind, Label, ObjType};
use libipc::sys;

use super::Test;
use crate::env::{Env, Told, equal, refused, why, works};

pub const ALL: &[(&str, Test)] = &[
    ("ports-denied", ports_denied),
    ("interrupts-denied", interrupts_denied),
    ("devices-denied", devices_denied),
    ("dma-denied", dma_denied),
];

/// `in` and `out` in every size, on ports that matter; and no object gives them.
fn ports_denied(e: &mut Env) -> Told {
    let thread = e.thread(1)?;
    // mov edx, edi; then in and out of 1, 2 and 4 bytes
    for io in [&[0xec][..], &[0xee], &[0x66, 0xed], &[0x66, 0xef], &[0xed], &[0xef]] {
        let mut code = heapless::Vec::<u8, 8>::new();
        let _ = code.extend_from_slice(&[0x89, 0xfa]);
        let _ = code.extend_from_slice(io);
        let at = e.code(&code)?;
        for port in [0, 0x20, 0x40, 0x60, 0x64, 0x70, 0xcf8, 0x3f8, 0x604, 0xfffe] {
            works(e.own.start_at(&thread, at, port, 0))?;
            let f = e.fault()?;
            equal((f.kind, f.rip), (FaultKind::Protection, at + 2))?;
        }
    }
    for cap in [e.own.untyped, e.own.cspace, e.own.vspace, e.own.thread, e.timer] {
        for label in [Label::PortIn, Label::PortOut] {
            refused(sys::invoke(cap, label, [0x3f8, 1, 0, 0], [0; 2]), Error::WrongType)?;
        }
    }
    Ok(())
}

fn interrupts_denied(e: &mut Env) -> Told {
    let to = e.own.slots(1);
    for cap in [e.own.untyped, e.own.cspace, e.own.vspace, e.own.thread, e.timer] {
        for label in [Label::IrqGet, Label::IrqSetNotification, Label::IrqAck, Label::IrqClear] {
            refused(sys::invoke(cap, label, [4, 0, e.own.cspace, to], [0; 2]), Error::WrongType)?;
        }
    }
    refused(sys::ack_wait(e.timer, e.events), Error::WrongType)?;
    // Types that only boot makes.
    for ty in [ObjType::IrqHandler, ObjType::IoPort, ObjType::IrqControl] {
        let words = [ty as u64, 0, e.own.cspace, to];
        let got = sys::invoke(e.own.untyped, Label::UntypedRetype, words, [1, 0]);
        if !matches!(got, Err(Error::WrongType | Error::Range)) {
            return why(format_args!("{ty:?}: {got:?}"));
        }
    }
    refused(sys::delete(to, 0), Error::InvalidCap)
}

/// Its memory is RAM: there is no way from it to an address of its choice.
fn devices_denied(e: &mut Env) -> Told {
    let slots = e.own.slots(4);
    // An offset means something in device memory only: it does not move what is made.
    for offset in [0, 4096, 0xfebc_0000, 0xfee0_0000, u64::MAX] {
        let words = [ObjType::Frame as u64, 12, e.own.cspace, slots];
        works(sys::invoke(e.own.untyped, Label::UntypedRetype, words, [1, offset]))?;
        let address = sys::invoke(slots, Label::FrameAddress, [0; 4], [0; 2]);
        let address = works(address)?.words[0];
        if !(1 << 20..0xe000_0000).contains(&address) {
            return why(format_args!("offset {offset:#x}: a page at {address:#x}"));
        }
        works(sys::delete(e.own.cspace, slots))?;
    }
    equal(e.start.device, None)
}

/// Nothing tells it a bus address that a device could use, and no capability names a device.
fn dma_denied(e: &mut Env) -> Told {
    equal(e.start.regions.iter().filter(|r| r.dma.is_some()).count(), 0)?;
    // Without an IOMMU there are no IoSpaces; with one, they bind to devices by a capability that it lacks.
    let space = e.own.slots(1);
    let made = sys::retype(e.own.untyped, ObjType::IoSpace, 0, e.own.cspace, space, 1);
    if made.is_err() {
        refused(made, Error::NoMemory)?;
    }
    for cap in [e.own.untyped, e.own.cspace, e.own.vspace, e.own.thread, e.timer] {
        for label in [Label::IoBind, Label::IoFault] {
            refused(sys::invoke(cap, label, [space, 0x18, 0, 0], [0; 2]), Error::WrongType)?;
        }
    }
    let control = sys::retype(e.own.untyped, ObjType::IoControl, 0, e.own.cspace, space + 1, 1);
    if !matches!(control, Err(Error::WrongType | Error::Range)) {
        return why(format_args!("{control:?}"));
    }
    let names = ["irq", "nic", "ports", "iospace", "e1000d.events"];
    equal(names.iter().filter(|n| e.start.cap(n).is_some()).count(), 0)
}
