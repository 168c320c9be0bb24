//! Faults: who is told, and what becomes of whom nobody tells.

use abi::{CPtr, Error, FaultKind, Label, MsgInfo, ObjType, Rights};
use libipc::sys;

use super::Test;
use crate::env::{Env, Told, equal, refused, works};
use crate::raw;

pub const ALL: &[(&str, Test)] = &[
    ("fault-nobody-handles", nobody_handles),
    ("fault-in-handler", in_handler),
    ("fault-handler-dies", handler_dies),
    ("fault-no-rights", no_rights),
    ("fault-out-of-service", out_of_service),
];

fn invoke(cap: CPtr, label: Label, words: [u64; 4]) -> Result<(), Error> {
    sys::invoke(cap, label, words, [0; 2]).map(drop)
}

extern "C" fn crashes(_: u64) -> u64 {
    raw::read(8)
}

fn nobody_handles(e: &mut Env) -> Told {
    let thread = e.thread(1)?;
    let words = [e.own.cspace, e.own.vspace, 0, thread.buffer];
    works(invoke(thread.tcb, Label::ThreadConfigure, words))?;
    works(e.own.start(&thread, crashes, 0))?;
    e.settle()?;
    // It stays where it is; its registers say where.
    works(invoke(thread.tcb, Label::ThreadReadRegisters, [0; 4]))?;
    works(invoke(thread.tcb, Label::ThreadResume, [0; 4]))?;
    e.settle()
}

/// Handles one fault, and faults itself meanwhile.
extern "C" fn handles(both: u64) -> u64 {
    let (ep, reply) = (both & 0xffff, both >> 16);
    let got = sys::recv(ep, reply);
    raw::read(16);
    let _ = sys::reply(reply, MsgInfo(0), [0; 4]);
    got.map_or(99, |got| got.words[1])
}

/// Two threads, the first of which has its faults handled by the second.
fn handled(e: &Env) -> Result<[userland::own::Thread; 2], crate::env::Why> {
    let (ep, reply) = (e.make(ObjType::Endpoint)?, e.make(ObjType::Reply)?);
    let handler = e.spawn(2, handles, ep | reply << 16)?;
    let thread = works(e.own.thread(ep, 1))?;
    works(e.own.start(&thread, crashes, 0))?;
    Ok([thread, handler])
}

fn in_handler(e: &mut Env) -> Told {
    let [thread, handler] = handled(e)?;
    let f = e.fault()?;
    equal((f.badge, f.kind, f.addr), (handler.badge, FaultKind::Page, 16))?;
    // The handler is given a page, ends its work, and the thread faults again.
    let page = works(e.own.make(ObjType::Frame, 12))?;
    let got = sys::map(page, e.own.vspace, 0, Rights::READ, abi::MapAttr::empty());
    refused(got, Error::Range)?;
    works(e.own.start(&handler, ends, 5))?;
    equal(e.end(&handler)?, 5)?;
    works(invoke(thread.tcb, Label::ThreadResume, [0; 4]))?;
    e.settle()
}

extern "C" fn ends(with: u64) -> u64 {
    with
}

/// Who waits for a fault to be handled is not lost with the handler.
fn handler_dies(e: &mut Env) -> Told {
    let [thread, handler] = handled(e)?;
    equal(e.fault()?.badge, handler.badge)?;
    works(sys::delete(e.own.cspace, handler.tcb))?;
    let fault = e.mint(e.faults, thread.badge)?;
    let words = [e.own.cspace, e.own.vspace, fault, thread.buffer];
    works(invoke(thread.tcb, Label::ThreadConfigure, words))?;
    works(invoke(thread.tcb, Label::ThreadResume, [0; 4]))?;
    equal(e.fault()?.badge, thread.badge)
}

/// A fault endpoint that may not be sent to is none.
fn no_rights(e: &mut Env) -> Told {
    let thread = e.thread(1)?;
    let reads = e.copy(e.faults, Rights::READ)?;
    let words = [e.own.cspace, e.own.vspace, reads, thread.buffer];
    works(invoke(thread.tcb, Label::ThreadConfigure, words))?;
    works(e.own.start(&thread, crashes, 0))?;
    e.settle()
}

fn out_of_service(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let thread = works(e.own.thread(ep, 1))?;
    works(invoke(e.own.cspace, Label::CNodeCloseEndpoint, [ep, 0, 0, 0]))?;
    works(e.own.start(&thread, crashes, 0))?;
    e.settle()?;
    works(invoke(thread.tcb, Label::ThreadResume, [0; 4]))?;
    e.settle()?;
    // Somebody handles them from now on.
    refused(sys::nb_recv(ep, 0), Error::WouldBlock)?;
    refused(sys::nb_recv(e.faults, 0), Error::WouldBlock)
}
