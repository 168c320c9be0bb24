//! What takes the kernel longest: loads that an unprivileged program with some memory can make, each
//! marked for the counting plugin of the image tool, which measures the stretches of the kernel.
#![no_std]
#![no_main]

use abi::{CAPS_MAX, CPtr, Error, Label, MSG_MAX, MapAttr, MsgInfo, ObjType, PAGE_BITS, Rights};
use abi::{RETYPE_MAX, ipc_buffer};
use libipc::sys;
use userland::own::{Own, Thread};

rt::entry!(main);

/// Threads that wait for the same thing.
const MANY: u64 = 48;
/// Priority of the program, and of its threads.
const PRIORITY: u8 = 90;

type Done = Result<(), Error>;

/// Runs a load, and takes everything back; both are measured under the same mark.
macro_rules! load {
    ($own:expr, $mark:literal, $f:ident $(, $more:expr)?) => {
        rt::log!("longest: {} {}", $mark, stringify!($f));
        libipc::mark::mark::<$mark>();
        if let Err(e) = $f($own $(, $more)?).and_then(|()| $own.reset()) {
            rt::log!("longest: {} failed: {e:?}", stringify!($f));
            return 1;
        }
        libipc::mark::mark::<0>();
    };
}

fn main(start: &'static rt::StartInfo) -> u64 {
    let Some(own) = Own::new(start) else { return 1 };
    let own = &own;
    load!(own, 100, clear);
    load!(own, 101, make_many);
    load!(own, 102, delete_full_cnode);
    load!(own, 103, delete_empty_cnode);
    load!(own, 104, delete_chain);
    load!(own, 105, revoke_mappings);
    load!(own, 106, delete_endpoint);
    load!(own, 107, close_endpoint);
    load!(own, 108, delete_notification);
    load!(own, 109, timers, start);
    load!(own, 110, refills, start);
    load!(own, 111, long_messages);
    load!(own, 112, revoke_threads);
    load!(own, 113, spaces);
    load!(own, 114, faults);
    rt::log!("longest: done");
    0
}

/// Frames and CNodes of the largest sizes.
fn clear(own: &Own) -> Done {
    own.make(ObjType::Frame, 21)?;
    own.make(ObjType::CNode, 16)?;
    Ok(())
}

/// As many objects in a call as it makes.
fn make_many(own: &Own) -> Done {
    let types = [
        ObjType::Endpoint,
        ObjType::Notification,
        ObjType::Reply,
        ObjType::SchedContext,
        ObjType::Timer,
        ObjType::Thread,
        ObjType::PageTable,
    ];
    for ty in types {
        let at = own.slots(RETYPE_MAX);
        sys::retype(own.untyped, ty, 0, own.cspace, at, RETYPE_MAX)?;
    }
    Ok(())
}

fn delete_full_cnode(own: &Own) -> Done {
    let (node, ep) = (own.make(ObjType::CNode, 11)?, own.make(ObjType::Endpoint, 0)?);
    for i in 0..1 << 11 {
        sys::mint(node, i, own.cspace, ep, Rights::all(), i + 1)?;
    }
    sys::delete(own.cspace, node)
}

fn delete_empty_cnode(own: &Own) -> Done {
    let node = own.make(ObjType::CNode, 16)?;
    sys::delete(own.cspace, node)
}

/// CNodes in CNodes, a thread in each.
fn delete_chain(own: &Own) -> Done {
    let mut outer = own.make(ObjType::CNode, 2)?;
    for _ in 0..100 {
        let node = own.slots(2);
        sys::retype(own.untyped, ObjType::CNode, 2, own.cspace, node, 1)?;
        sys::retype(own.untyped, ObjType::Thread, 0, node, 1, 1)?;
        sys::retype(own.untyped, ObjType::Timer, 0, node, 2, 1)?;
        sys::invoke(node, Label::CNodeMove, [3, own.cspace, outer, 0], [0; 2])?;
        outer = node;
    }
    sys::delete(own.cspace, outer)
}

fn revoke_mappings(own: &Own) -> Done {
    let frame = own.make(ObjType::Frame, PAGE_BITS)?;
    for _ in 0..100 {
        let copy = own.copy(frame, Rights::all())?;
        // Each in a page table of its own.
        let at = own.addresses(1024) & !0x1f_ffff;
        own.map(copy, own.vspace, at, Rights::READ, MapAttr::empty())?;
    }
    sys::revoke(own.cspace, own.untyped)
}

/// Many threads, which do `f(arg)`.
fn many(own: &Own, f: extern "C" fn(u64) -> u64, arg: u64) -> Done {
    let faults = own.make(ObjType::Endpoint, 0)?;
    for _ in 0..MANY {
        let t = own.thread(faults, PRIORITY)?;
        own.start(&t, f, arg)?;
    }
    settle();
    Ok(())
}

/// Lets the others run until they wait.
fn settle() {
    for _ in 0..4 {
        sys::yield_now();
    }
}

extern "C" fn calls(ep: u64) -> u64 {
    sys::call(ep, MsgInfo::new(1, 1, 1, 0), [0; 4]).is_ok() as u64
}

extern "C" fn waits(ntfn: u64) -> u64 {
    sys::wait(ntfn).is_ok() as u64
}

extern "C" fn runs(_: u64) -> u64 {
    loop {
        core::hint::spin_loop();
    }
}

fn delete_endpoint(own: &Own) -> Done {
    let ep = own.make(ObjType::Endpoint, 0)?;
    many(own, calls, ep)?;
    sys::delete(own.cspace, ep)
}

fn close_endpoint(own: &Own) -> Done {
    let ep = own.make(ObjType::Endpoint, 0)?;
    many(own, calls, ep)?;
    sys::invoke(own.cspace, Label::CNodeCloseEndpoint, [ep, 0, 0, 0], [0; 2]).map(drop)
}

fn delete_notification(own: &Own) -> Done {
    let ntfn = own.make(ObjType::Notification, 0)?;
    many(own, waits, ntfn)?;
    sys::delete(own.cspace, ntfn)
}

/// A notification and a timer a thread, all due at once.
fn timers(own: &Own, start: &rt::StartInfo) -> Done {
    let faults = own.make(ObjType::Endpoint, 0)?;
    let due = start.now_ns() + 20_000_000;
    for _ in 0..MANY {
        let (ntfn, timer) = (own.make(ObjType::Notification, 0)?, own.make(ObjType::Timer, 0)?);
        sys::invoke(timer, Label::TimerSetNotification, [ntfn, 0, 0, 0], [0; 2])?;
        sys::arm(timer, due)?;
        let t = own.thread(faults, PRIORITY)?;
        own.start(&t, waits, ntfn)?;
    }
    while start.now_ns() < due + 10_000_000 {
        sys::yield_now();
    }
    Ok(())
}

/// Contexts that run out of budget, and get it back.
fn refills(own: &Own, start: &rt::StartInfo) -> Done {
    let faults = own.make(ObjType::Endpoint, 0)?;
    for _ in 0..MANY {
        let t = own.thread(faults, PRIORITY)?;
        sys::invoke(t.sched, Label::SchedConfigure, [20_000, 5_000_000, 0, 0], [0; 2])?;
        own.start(&t, runs, 0)?;
    }
    let end = start.now_ns() + 20_000_000;
    while start.now_ns() < end {
        sys::yield_now();
    }
    Ok(())
}

/// Levels of the deepest CSpace, and bits of an address that each takes.
const DEPTH: u64 = abi::CSPACE_DEPTH_MAX as u64;
const LEVEL_BITS: u64 = 64 / DEPTH;
/// Slots of its innermost CNode.
const LEAF: (CPtr, CPtr, CPtr, CPtr) = (1, 2, 3, 8);

/// Messages of the largest size with all capabilities, sender and receiver in the deepest CSpace.
fn long_messages(own: &Own) -> Done {
    let faults = own.make(ObjType::Endpoint, 0)?;
    let (ep, reply) = (own.make(ObjType::Endpoint, 0)?, own.make(ObjType::Reply, 0)?);
    let leaf = own.make(ObjType::CNode, 5)?;
    let mut node = own.mint(leaf, Rights::all(), LEVEL_BITS - 5)?;
    for (slot, cap) in [(LEAF.0, ep), (LEAF.1, reply), (LEAF.2, leaf)] {
        sys::copy(leaf, slot, own.cspace, cap, Rights::all())?;
    }
    for _ in 1..DEPTH {
        let outer = own.make(ObjType::CNode, 1)?;
        sys::copy(outer, 0, own.cspace, node, Rights::all())?;
        node = own.mint(outer, Rights::all(), LEVEL_BITS - 1)?;
    }
    // Two that ask: while one is answered the other waits.
    let roles: [(extern "C" fn(u64) -> u64, _); 3] =
        [(serve, LEAF.3), (asks, LEAF.3 + 8), (asks, LEAF.3 + 12)];
    for (f, first) in roles {
        let t = own.thread_in(node, own.vspace, faults, PRIORITY)?;
        prepare(&t, first);
        own.start(&t, f, t.buffer_at)?;
    }
    for _ in 0..40 {
        settle();
    }
    Ok(())
}

#[allow(unsafe_code, reason = "writes into the page that was just mapped for this")]
fn poke(at: u64, value: u64) {
    // SAFETY: callers name a word of a thread's IPC buffer, which is mapped and which nothing in Rust
    // refers to.
    unsafe { (at as *mut u64).write_volatile(value) }
}

/// Fills an IPC buffer: capabilities to send, slots to receive them.
fn prepare(t: &Thread, first: CPtr) {
    for i in 0..CAPS_MAX {
        poke(t.buffer_at + (ipc_buffer::SEND_CAPS + 8 * i) as u64, LEAF.0);
    }
    poke(t.buffer_at + ipc_buffer::RECV_CNODE as u64, LEAF.2);
    poke(t.buffer_at + ipc_buffer::RECV_INDEX as u64, first);
}

fn message() -> MsgInfo {
    MsgInfo::new(1, 1, 1, MSG_MAX).with_caps(CAPS_MAX)
}

extern "C" fn serve(buffer: u64) -> u64 {
    let mut got = sys::recv(LEAF.0, LEAF.1);
    let mut first = LEAF.3;
    while got.is_ok() {
        // The next ones go elsewhere.
        first = if first == LEAF.3 { LEAF.3 + 3 } else { LEAF.3 };
        for i in 0..CAPS_MAX as u64 {
            let _ = sys::delete(LEAF.2, first + i);
            poke(buffer + ipc_buffer::SEND_CAPS as u64 + 8 * i, LEAF.0);
        }
        poke(buffer + ipc_buffer::RECV_INDEX as u64, first);
        got = sys::reply_recv(LEAF.0, LEAF.1, message(), [0; 4]);
    }
    0
}

extern "C" fn asks(buffer: u64) -> u64 {
    for _ in 0..10 {
        for i in 0..CAPS_MAX as u64 {
            let _ = sys::delete(LEAF.2, LEAF.3 + 8 + i);
            let _ = sys::delete(LEAF.2, LEAF.3 + 12 + i);
            poke(buffer + ipc_buffer::SEND_CAPS as u64 + 8 * i, LEAF.0);
        }
        if sys::call(LEAF.0, message(), [0; 4]).is_err() {
            return 1;
        }
    }
    0
}

/// Threads in every state, with everything that a thread can have.
fn revoke_threads(own: &Own) -> Done {
    let faults = own.make(ObjType::Endpoint, 0)?;
    let (ep, ntfn) = (own.make(ObjType::Endpoint, 0)?, own.make(ObjType::Notification, 0)?);
    for i in 0..MANY {
        let t = own.thread(faults, PRIORITY)?;
        let (f, arg): (extern "C" fn(u64) -> u64, _) =
            [(calls as _, ep), (waits as _, ntfn), (runs as _, 0)][i as usize % 3];
        let bound = own.make(ObjType::Notification, 0)?;
        sys::invoke(t.tcb, Label::ThreadBindNotification, [bound, 0, 0, 0], [0; 2])?;
        own.start(&t, f, arg)?;
    }
    settle();
    sys::revoke(own.cspace, own.untyped)
}

/// Address spaces come and go with what is mapped in them.
fn spaces(own: &Own) -> Done {
    let frame = own.make(ObjType::Frame, PAGE_BITS)?;
    for i in 0..8 {
        let vspace = own.make(ObjType::VSpace, 0)?;
        let (copy, at) = (own.copy(frame, Rights::all())?, own.addresses(1));
        own.map(copy, vspace, at, Rights::READ, MapAttr::empty())?;
        if i % 2 == 0 {
            sys::unmap(copy)?;
        }
        sys::delete(own.cspace, vspace)?;
    }
    Ok(())
}

/// Threads that fault, and a handler that lets them try again.
fn faults(own: &Own) -> Done {
    let faults = own.make(ObjType::Endpoint, 0)?;
    let reply = own.make(ObjType::Reply, 0)?;
    for _ in 0..4 {
        let t = own.thread(faults, PRIORITY)?;
        own.start_at(&t, 0x1000, 0, 0)?;
    }
    sys::recv(faults, reply)?;
    for _ in 0..20 {
        sys::reply_recv(faults, reply, MsgInfo::default(), [0; 4])?;
        sys::invoke(own.thread, Label::ThreadReadRegisters, [0; 4], [0; 2])?;
    }
    Ok(())
}
