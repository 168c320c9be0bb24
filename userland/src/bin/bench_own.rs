//! What `bench kernel` measures of a program's own objects: faults and mappings. See `bench-client`.
#![no_std]
#![no_main]

extern crate alloc;

use abi::{CPtr, Error, Label, MapAttr, MsgInfo, ObjType, PAGE_BITS, Rights};
use libipc::mark::{self, TIMES, mark};
use libipc::sys;
use userland::own::Own;

rt::entry!(main);

fn main(start: &'static rt::StartInfo) -> u64 {
    match run(start) {
        Ok(()) => 0,
        Err(e) => {
            rt::log!("bench-own: {e:?}");
            1
        }
    }
}

fn run(start: &'static rt::StartInfo) -> Result<(), Error> {
    let own = Own::new(start).ok_or(Error::InvalidCap)?;
    let (faults, reply) = (own.make(ObjType::Endpoint, 0)?, own.make(ObjType::Reply, 0)?);
    let thread = own.thread(faults, 1)?;
    own.start(&thread, fault_for_ever, 0)?;
    sys::recv(faults, reply)?;
    for _ in 0..TIMES {
        // The thread runs on, to the same fault.
        mark::<{ mark::FAULT }>();
        sys::reply_recv(faults, reply, MsgInfo::default(), [0; 4])?;
    }
    mark::<{ mark::NOTHING }>();

    passive(&own, faults)?;

    let frame = own.make(ObjType::Frame, PAGE_BITS)?;
    let at = own.addresses(1);
    let rights = Rights::READ | Rights::WRITE;
    own.map(frame, own.vspace, at, rights, MapAttr::empty())?;
    for _ in 0..TIMES {
        sys::unmap(frame)?;
        mark::<{ mark::MAP }>();
        sys::map(frame, own.vspace, at, rights, MapAttr::empty())?;
        mark::<{ mark::NOTHING }>();
    }
    Ok(())
}

/// Calls to a server without a scheduling context.
fn passive(own: &Own, faults: CPtr) -> Result<(), Error> {
    let (ep, reply) = (own.make(ObjType::Endpoint, 0)?, own.make(ObjType::Reply, 0)?);
    let server = own.thread(faults, 70)?;
    // It runs on a context of its own until it waits for the first time.
    sys::invoke(server.sched, Label::SchedUnbind, [0; 4], [0; 2])?;
    sys::invoke(server.tcb, Label::ThreadBindSched, [server.sched, 1, 0, 0], [0; 2])?;
    own.start(&server, serve, ep << 32 | reply)?;
    sys::yield_now();
    for _ in 0..TIMES {
        mark::<{ mark::PASSIVE_CALL }>();
        sys::call(ep, MsgInfo::new(0x7f, 1, 0, 0), [0; 4])?;
    }
    mark::<{ mark::NOTHING }>();
    Ok(())
}

extern "C" fn serve(caps: u64) -> u64 {
    let (ep, reply) = (caps >> 32, caps & 0xffff_ffff);
    let mut got = sys::recv(ep, reply);
    while let Ok(call) = got {
        mark::<{ mark::PASSIVE_REPLY }>();
        got = sys::reply_recv(ep, reply, call.info, call.words);
    }
    1
}

extern "C" fn fault_for_ever(_: u64) -> u64 {
    // SAFETY: an undefined instruction, without end.
    unsafe { core::arch::asm!("2: ud2", "jmp 2b", options(noreturn)) }
}
