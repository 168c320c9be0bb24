//! What `bench kernel` measures of a program's own objects: faults and mappings. See `bench-client`.
#![no_std]
#![no_main]

extern crate alloc;

use abi::{Error, MapAttr, MsgInfo, ObjType, PAGE_BITS, Rights};
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

extern "C" fn fault_for_ever(_: u64) -> u64 {
    // SAFETY: an undefined instruction, without end.
    unsafe { core::arch::asm!("2: ud2", "jmp 2b", options(noreturn)) }
}
