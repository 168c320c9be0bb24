//! Arguments of system calls.

use abi::{CPtr, Error, FaultKind, Label, MSG_MAX, MsgInfo, ObjType, Rights, Syscall, ipc_buffer};
use libipc::sys;

use super::Test;
use crate::env::{Env, Told, Why, equal, refused, why, works};
use crate::raw::{self, Call};

pub const ALL: &[(&str, Test)] = &[
    ("syscall-unknown", unknown),
    ("syscall-no-capability", no_capability),
    ("syscall-wrong-type", wrong_type),
    ("syscall-no-rights", no_rights),
    ("syscall-unknown-label", unknown_label),
    ("syscall-wrong-label", wrong_label),
    ("syscall-interface", interface),
    ("message-too-long", too_long),
    ("message-kernel-bits", kernel_bits),
    ("message-lengths", lengths),
    ("message-no-buffer", no_buffer),
];

/// Calls that begin with a capability.
const CALLS: [Syscall; 9] = [
    Syscall::Call,
    Syscall::Send,
    Syscall::NbSend,
    Syscall::Recv,
    Syscall::NbRecv,
    Syscall::ReplyRecv,
    Syscall::Reply,
    Syscall::SignalWait,
    Syscall::AckWait,
];

/// What a call of this number returns.
fn call(call: Syscall, rdi: u64, rsi: u64, r14: u64) -> u64 {
    raw::syscall(Call { rax: call as u64, rdi, rsi, r14, ..Call::default() }).rax
}

extern "C" fn makes_call(number: u64) -> u64 {
    raw::syscall(Call { rax: number, rdi: 5, ..Call::default() }).rax
}

fn unknown(e: &mut Env) -> Told {
    for number in [1000, 1 << 31, 1 << 32, 1 << 63, u64::MAX] {
        let thread = e.spawn(1, makes_call, number)?;
        let f = e.fault()?;
        equal((f.badge, f.kind, f.addr, f.code), (thread.badge, FaultKind::Syscall, number, 5))?;
        e.go_on()?;
        equal(e.end(&thread)?, number)?;
    }
    Ok(())
}

fn no_capability(e: &mut Env) -> Told {
    let empty = e.own.slots(1);
    let kernel = 0xffff_8000_0010_0000;
    for cptr in [0, empty, 1024, 1 << 32, 1 << 63, kernel, u64::MAX] {
        for c in CALLS {
            let got = call(c, cptr, 0, cptr);
            if got != Error::InvalidCap as u64 {
                return why(format_args!("{c:?} on {cptr:#x}: {got}"));
            }
        }
    }
    // The second capability.
    let (ep, ntfn) = (e.make(ObjType::Endpoint)?, e.make(ObjType::Notification)?);
    for second in [empty, 1024, u64::MAX] {
        for c in [Syscall::Recv, Syscall::NbRecv, Syscall::ReplyRecv] {
            equal(call(c, ep, 0, second), Error::InvalidCap as u64)?;
        }
        equal(call(Syscall::SignalWait, ntfn, 0, second), Error::InvalidCap as u64)?;
    }
    equal(call(Syscall::ReplyRecv, ep, 0, 0), Error::InvalidCap as u64)?;
    // It has not signalled before it was refused.
    equal(sys::poll(ntfn), 0)
}

/// An object of each type that can be made, and the type.
fn each(e: &Env) -> Result<heapless::Vec<(ObjType, CPtr), 16>, Why> {
    let mut all = heapless::Vec::new();
    for (ty, bits) in [
        (ObjType::Untyped, 12),
        (ObjType::CNode, 2),
        (ObjType::Thread, 0),
        (ObjType::Reply, 0),
        (ObjType::Endpoint, 0),
        (ObjType::Notification, 0),
        (ObjType::SchedContext, 0),
        (ObjType::VSpace, 0),
        (ObjType::PageTable, 0),
        (ObjType::Frame, 12),
        (ObjType::Timer, 0),
    ] {
        let _ = all.push((ty, works(e.own.make(ty, bits))?));
    }
    Ok(all)
}

fn wrong_type(e: &mut Env) -> Told {
    let (ep, ntfn) = (e.make(ObjType::Endpoint)?, e.make(ObjType::Notification)?);
    let reply = e.make(ObjType::Reply)?;
    let wrong = Error::WrongType as u64;
    for (ty, cap) in each(e)? {
        let receives = matches!(ty, ObjType::Endpoint | ObjType::Notification);
        if !receives {
            for c in [Syscall::Send, Syscall::NbSend, Syscall::Recv, Syscall::NbRecv] {
                equal((ty, c as u64, call(c, cap, 0, 0)), (ty, c as u64, wrong))?;
            }
        }
        if ty != ObjType::Endpoint {
            equal((ty, call(Syscall::ReplyRecv, cap, 0, reply)), (ty, wrong))?;
        }
        if ty != ObjType::Reply {
            equal((ty, call(Syscall::Reply, cap, 0, 0)), (ty, wrong))?;
            for c in [Syscall::Recv, Syscall::NbRecv, Syscall::ReplyRecv] {
                equal((ty, call(c, ep, 0, cap)), (ty, wrong))?;
            }
        }
        if ty != ObjType::Notification {
            equal((ty, call(Syscall::SignalWait, cap, 0, ntfn)), (ty, wrong))?;
            equal((ty, call(Syscall::SignalWait, ntfn, 0, cap)), (ty, wrong))?;
        }
        equal((ty, call(Syscall::AckWait, cap, 0, ntfn)), (ty, wrong))?;
    }
    equal(sys::poll(ntfn), 0)
}

fn no_rights(e: &mut Env) -> Told {
    let (ep, ntfn) = (e.make(ObjType::Endpoint)?, e.make(ObjType::Notification)?);
    let reply = e.make(ObjType::Reply)?;
    let none = Error::NoRights as u64;
    for rights in [Rights::empty(), Rights::READ, Rights::GRANT, Rights::READ | Rights::GRANT] {
        let (ep, ntfn) = (e.copy(ep, rights)?, e.copy(ntfn, rights)?);
        for c in [Syscall::Call, Syscall::Send, Syscall::NbSend] {
            equal(call(c, ep, 0, 0), none)?;
            equal(call(c, ntfn, 0, 0), none)?;
        }
        equal(call(Syscall::SignalWait, ntfn, 0, ntfn), none)?;
    }
    for rights in [Rights::empty(), Rights::WRITE, Rights::GRANT, Rights::WRITE | Rights::GRANT] {
        let (ep, only) = (e.copy(ep, rights)?, e.copy(ntfn, rights)?);
        for c in [Syscall::Recv, Syscall::NbRecv] {
            equal(call(c, ep, 0, 0), none)?;
            equal(call(c, only, 0, 0), none)?;
        }
        equal(call(Syscall::ReplyRecv, ep, 0, reply), none)?;
        equal(call(Syscall::SignalWait, ntfn, 0, only), none)?;
    }
    equal(sys::poll(ntfn), 0)
}

fn unknown_label(e: &mut Env) -> Told {
    for (ty, cap) in each(e)? {
        if matches!(ty, ObjType::Endpoint | ObjType::Notification) {
            continue;
        }
        for label in [0, 9, 250, 1000, u16::MAX] {
            let info = MsgInfo::new(0, 0, label, 0).0;
            let got = call(Syscall::Call, cap, info, 0);
            equal((ty, label, got), (ty, label, Error::WrongType as u64))?;
        }
    }
    Ok(())
}

/// Each method on objects of all other types.
fn wrong_label(e: &mut Env) -> Told {
    let of = |label| match label {
        Label::UntypedRetype | Label::UntypedInfo => ObjType::Untyped,
        Label::CNodeCopy
        | Label::CNodeMint
        | Label::CNodeMove
        | Label::CNodeDelete
        | Label::CNodeRevoke
        | Label::CNodeCloseEndpoint => ObjType::CNode,
        Label::SchedConfigure | Label::SchedUnbind | Label::SchedConsumed => ObjType::SchedContext,
        Label::IoBind | Label::IoFault => ObjType::IoControl,
        Label::TableMap | Label::TableUnmap => ObjType::PageTable,
        Label::FrameMap | Label::FrameUnmap | Label::FrameAddress => ObjType::Frame,
        Label::IrqGet => ObjType::IrqControl,
        Label::IrqSetNotification | Label::IrqAck | Label::IrqClear => ObjType::IrqHandler,
        Label::PortIn | Label::PortOut => ObjType::IoPort,
        Label::TimerSetNotification | Label::TimerArm | Label::TimerCancel => ObjType::Timer,
        _ => ObjType::Thread,
    };
    let all = each(e)?;
    for label in (0..=81).filter_map(Label::from_raw) {
        for (ty, cap) in all.iter().filter(|(ty, _)| *ty != of(label)) {
            if matches!(ty, ObjType::Endpoint | ObjType::Notification) {
                continue;
            }
            let got = sys::invoke(*cap, label, [0; 4], [0; 2]).map(drop);
            equal((*ty, label, got), (*ty, label, Err(Error::WrongType)))?;
        }
    }
    Ok(())
}

/// Kernel objects answer calls of interface 0 only.
fn interface(e: &mut Env) -> Told {
    let thread = e.make(ObjType::Thread)?;
    for interface in [1, 2, 0x8000, u16::MAX] {
        let info = MsgInfo::new(interface, 0, Label::ThreadSetName as u16, 0).0;
        equal(call(Syscall::Call, thread, info, 0), Error::WrongType as u64)?;
    }
    Ok(())
}

fn too_long(e: &mut Env) -> Told {
    let (ep, reply) = (e.make(ObjType::Endpoint)?, e.make(ObjType::Reply)?);
    for len in [MSG_MAX + 1, MSG_MAX + 8, 2048, 4095] {
        let info = MsgInfo::new(7, 1, 1, len).0;
        for c in [Syscall::Call, Syscall::Send, Syscall::NbSend] {
            equal(call(c, ep, info, 0), Error::Range as u64)?;
        }
        equal(call(Syscall::Reply, reply, info, 0), Error::Range as u64)?;
        equal(call(Syscall::ReplyRecv, ep, info, reply), Error::Range as u64)?;
    }
    Ok(())
}

extern "C" fn sends_all_bits(ep: u64) -> u64 {
    raw::syscall(Call { rax: Syscall::Send as u64, rdi: ep, rsi: !0xfff, ..Call::default() }).rax
}

/// A sender cannot make a message look like a signal or a fault.
fn kernel_bits(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let badged = e.mint(ep, 9)?;
    let thread = e.spawn(1, sends_all_bits, badged)?;
    let got = works(sys::recv(ep, 0))?;
    // No capability that it named exists: none arrives.
    equal((got.badge, got.info.0), (9, !0x3fff & !MsgInfo::KERNEL_BITS))?;
    equal(e.end(&thread)?, 0)
}

/// Byte `i` of what is sent.
fn payload(i: usize) -> u64 {
    0x0101_0101_0101_0101u64.wrapping_mul(i as u64 % 251 + 1)
}

fn lengths(e: &mut Env) -> Told {
    let (ep, reply) = (e.make(ObjType::Endpoint)?, e.make(ObjType::Reply)?);
    let thread = e.thread(80)?;
    for len in [0, 1, 7, 8, 9, 15, 16, 63, 64, 65, 511, 512, 1000, 1016, 1017, 1023, 1024] {
        for i in 0..MSG_MAX / 8 {
            raw::write(thread.buffer_at + 8 * i as u64, payload(i));
            raw::write(raw::buffer(8 * i), 0);
        }
        LENGTH.store(len, core::sync::atomic::Ordering::Relaxed);
        works(e.own.start(&thread, sends_length, ep))?;
        let got = works(sys::recv(ep, reply))?;
        equal(got.info.len(), len)?;
        equal(raw::read(raw::buffer(ipc_buffer::RECEIVED)), 0)?;
        for i in 0..MSG_MAX / 8 {
            // Whole words may travel; nothing behind the last one does.
            let (got, whole) = (raw::read(raw::buffer(8 * i)), payload(i));
            let bytes = len.saturating_sub(8 * i).min(8);
            let part = if bytes < 8 { whole & ((1 << (8 * bytes)) - 1) } else { whole };
            if got != part && (bytes == 0 || got != whole) {
                return why(format_args!("{len} bytes: word {i} is {got:#x}"));
            }
        }
        works(sys::reply(reply, got.info, [0; 4]))?;
        equal(e.end(&thread)?, len as u64)?;
    }
    Ok(())
}

static LENGTH: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);

extern "C" fn sends_length(ep: u64) -> u64 {
    let len = LENGTH.load(core::sync::atomic::Ordering::Relaxed);
    sys::call(ep, MsgInfo::new(7, 1, 1, len), [0; 4]).map_or(u64::MAX, |got| got.info.len() as u64)
}

extern "C" fn sends_eight(ep: u64) -> u64 {
    match sys::send(ep, MsgInfo::new(7, 1, 1, 8), [0; 4]) {
        Ok(()) => 0,
        Err(e) => e as u64,
    }
}

extern "C" fn receives(ep: u64) -> u64 {
    sys::recv(ep, 0).map_or(99, |got| got.info.len() as u64)
}

fn no_buffer(e: &mut Env) -> Told {
    let ep = e.make(ObjType::Endpoint)?;
    let thread = e.thread(1)?;
    let fault = e.mint(e.faults, thread.badge)?;
    let words = [e.own.cspace, e.own.vspace, fault, 0];
    works(sys::invoke(thread.tcb, Label::ThreadConfigure, words, [0; 2]))?;
    works(e.own.start(&thread, sends_eight, ep))?;
    equal(e.end(&thread)?, Error::NoBuffer as u64)?;
    // It receives a payload: the words come, the payload does not.
    works(e.own.start(&thread, receives, ep))?;
    works(sys::send(ep, MsgInfo::new(7, 1, 1, 8), [0; 4]))?;
    equal(e.end(&thread)?, 0)?;
    let read = sys::invoke(thread.tcb, Label::ThreadReadRegisters, [0; 4], [0; 2]);
    works(read)?;
    refused(sys::nb_recv(ep, 0), Error::WouldBlock)
}
