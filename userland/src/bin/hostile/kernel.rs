//! What the kernel must refuse.

use abi::{CPtr, Error, Label, MsgInfo, Syscall};
use libipc::start::{self, LOG_SIGNAL};
use libipc::sys;

use super::liar::Liar;
use super::messages::require;
use super::raw::{self, Privileged};
use super::{Tell, Told, Why};

/// By name.
pub const TELL: &[(&str, Tell)] = &[
    ("slots-of-nobody", slots_of_nobody),
    ("slots-misused", slots_misused),
    ("syscall-unknown", |_| require(raw::syscall(999, 0, 0, [0; 4], 0) == 0, "it returned")),
    ("read-nothing", |_| read(8)),
    ("read-kernel", |_| read(0xffff_ffff_8000_0000)),
    ("write-kernel", |_| write(0xffff_ffff_8000_0000)),
    ("read-device", |_| read(0xfebc_0000)),
    ("read-elsewhere", |_| read(start::REGIONS + 255 * start::REGION_STRIDE)),
    ("write-records", |l| write(l.region("session.net")?.vaddr)),
    ("write-received", |l| write(l.region("session.rx")?.vaddr)),
    ("write-start", |_| write(start::START_INFO)),
    ("write-code", |_| write(slots_of_nobody as *const () as u64)),
    ("execute-data", |l| {
        raw::jump(l.region("session.tx")?.vaddr);
        Err(Why::Says("it was executed"))
    }),
    ("execute-stack", |_| {
        raw::jump_to_stack();
        Err(Why::Says("it was executed"))
    }),
    ("port", |_| privileged(Privileged::Port)),
    ("interrupts-off", |_| privileged(Privileged::InterruptsOff)),
    ("halt", |_| privileged(Privileged::Halt)),
    ("control-register", |_| privileged(Privileged::ControlRegister)),
];

fn read(address: u64) -> Told {
    core::hint::black_box(raw::read(address));
    Err(Why::Says("it was read"))
}

fn write(address: u64) -> Told {
    raw::write(address);
    Err(Why::Says("it was written"))
}

fn privileged(which: Privileged) -> Told {
    raw::privileged(which);
    Err(Why::Says("it was executed"))
}

/// Calls that need a capability.
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

fn slots_of_nobody(l: &mut Liar) -> Told {
    let has = |slot: CPtr| slot == LOG_SIGNAL || l.start.caps.iter().any(|c| c.cptr == slot);
    let wild = [64, 65, 4096, 1 << 32, 1 << 63, u64::MAX];
    for slot in (0..64).filter(|s| !has(*s)).chain(wild) {
        let none =
            |error: u64| require(error == Error::InvalidCap as u64, "there is something in a slot");
        for label in 0..=80 {
            // An invocation is a call of interface 0 with the label as its method.
            let info = MsgInfo::new(0, 0, label, 0);
            for words in [[0; 4], [1, 2, 3, 4], [u64::MAX; 4]] {
                none(raw::syscall(Syscall::Call as u64, slot, info.0, words, slot))?;
            }
        }
        for call in CALLS {
            none(raw::syscall(call as u64, slot, 0, [0; 4], slot))?;
        }
    }
    Ok(())
}

fn slots_misused(l: &mut Liar) -> Told {
    let cap = |name| l.start.cap(name).ok_or(Why::Says("a capability is missing"));
    let (sockd, timer, events, bell) =
        (cap("sockd")?, cap("timer")?, cap("events")?, cap("netd.events")?);
    let refused = |got: Result<(), Error>, want: Error| {
        require(got == Err(want), "the kernel did it, or refused for another reason")
    };
    // Receiving where it may only send, and the other way round.
    refused(sys::recv(sockd, 0).map(drop), Error::NoRights)?;
    refused(sys::nb_recv(sockd, 0).map(drop), Error::NoRights)?;
    refused(sys::reply_recv(sockd, sockd, MsgInfo(0), [0; 4]).map(drop), Error::NoRights)?;
    refused(sys::wait(bell).map(drop), Error::NoRights)?;
    refused(sys::send(events, MsgInfo(0), [0; 4]), Error::NoRights)?;
    refused(sys::signal_wait(bell, bell).map(drop), Error::NoRights)?;
    refused(sys::ack_wait(timer, events).map(drop), Error::WrongType)?;
    refused(sys::reply(sockd, MsgInfo(0), [0; 4]), Error::WrongType)?;
    // Methods of other objects.
    for label in [
        Label::UntypedRetype,
        Label::CNodeCopy,
        Label::CNodeRevoke,
        Label::ThreadWriteRegisters,
        Label::ThreadSuspend,
        Label::SchedConfigure,
        Label::FrameMap,
        Label::IrqGet,
        Label::IrqAck,
        Label::PortIn,
        Label::PortOut,
    ] {
        let got = sys::invoke(timer, label, [0x3f8, 1, events, timer], [1, 0]).map(drop);
        refused(got, Error::WrongType)?;
    }
    Ok(())
}
