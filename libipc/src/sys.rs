//! System-call stubs. Everything unsafe about talking to the kernel is in [`raw`].

use abi::{CPtr, Error, Label, MapAttr, MsgInfo, ObjType, Rights, Syscall};

/// Registers that a system call returns.
#[derive(Clone, Copy, Debug)]
pub struct Ret {
    /// Badge of the sender, or the signalled bits.
    pub badge: u64,
    /// What arrived.
    pub info: MsgInfo,
    /// Message words.
    pub words: [u64; 4],
}

/// One system call. See [`abi`] for what each register means.
///
/// The kernel clobbers all vector registers of a native call, which `clobber_abi` states.
fn raw(
    call: Syscall,
    cap: CPtr,
    info: MsgInfo,
    words: [u64; 4],
    more: [u64; 2],
    second: CPtr,
) -> Result<Ret, (Error, Ret)> {
    let (mut rax, mut rdi, mut rsi) = (call as u64, cap, info.0);
    let [mut w0, mut w1, mut w2, mut w3] = words;
    // SAFETY: the kernel changes only the registers listed and, for receives, this thread's IPC
    // buffer, which is reached through raw pointers only (`msg`). Memory may change meaning
    // (revoked mappings) only through capabilities this process was given to do so.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") rax,
            inlateout("rdi") rdi,
            inlateout("rsi") rsi,
            inlateout("rdx") w0,
            inlateout("r10") w1,
            inlateout("r8") w2,
            inlateout("r9") w3,
            in("r12") more[0],
            in("r13") more[1],
            in("r14") second,
            clobber_abi("sysv64"),
        );
    }
    let ret = Ret { badge: rdi, info: MsgInfo(rsi), words: [w0, w1, w2, w3] };
    match Error::from_raw(rax) {
        None => Ok(ret),
        Some(e) => Err((e, ret)),
    }
}

fn plain(r: Result<Ret, (Error, Ret)>) -> Result<Ret, Error> {
    r.map_err(|(e, _)| e)
}

/// Sends a message and waits for the reply.
///
/// # Errors
/// [`Error::ServerDied`] if the server was destroyed holding the call.
pub fn call(ep: CPtr, info: MsgInfo, words: [u64; 4]) -> Result<Ret, Error> {
    plain(raw(Syscall::Call, ep, info, words, [0; 2], 0))
}

/// Sends, waiting until a receiver takes the message.
pub fn send(ep: CPtr, info: MsgInfo, words: [u64; 4]) -> Result<(), Error> {
    plain(raw(Syscall::Send, ep, info, words, [0; 2], 0)).map(|_| ())
}

/// Waits for a message on endpoint `ep`; `reply` is the reply object for a caller. A signal on
/// the thread's bound notification also ends the wait ([`MsgInfo::is_signal`]).
pub fn recv(ep: CPtr, reply: CPtr) -> Result<Ret, Error> {
    plain(raw(Syscall::Recv, ep, MsgInfo(0), [0; 4], [0; 2], reply))
}

/// As [`recv`], but [`Error::WouldBlock`] when nothing is there.
pub fn nb_recv(ep: CPtr, reply: CPtr) -> Result<Ret, Error> {
    plain(raw(Syscall::NbRecv, ep, MsgInfo(0), [0; 4], [0; 2], reply))
}

/// Answers the caller held by `reply`, then waits on `ep` as [`recv`].
pub fn reply_recv(ep: CPtr, reply: CPtr, info: MsgInfo, words: [u64; 4]) -> Result<Ret, Error> {
    plain(raw(Syscall::ReplyRecv, ep, info, words, [0; 2], reply))
}

/// Answers the caller held by `reply`.
pub fn reply(reply: CPtr, info: MsgInfo, words: [u64; 4]) -> Result<(), Error> {
    plain(raw(Syscall::Reply, reply, info, words, [0; 2], 0)).map(|_| ())
}

/// Signals a notification: its capability's badge is or-ed into the word. Never blocks.
pub fn signal(ntfn: CPtr) {
    let _ = raw(Syscall::Send, ntfn, MsgInfo(0), [0; 4], [0; 2], 0);
}

/// Waits for signals; returns the bits and clears them.
pub fn wait(ntfn: CPtr) -> Result<u64, Error> {
    plain(raw(Syscall::Recv, ntfn, MsgInfo(0), [0; 4], [0; 2], 0)).map(|r| r.badge)
}

/// Takes pending signals without waiting; 0 if there are none.
pub fn poll(ntfn: CPtr) -> u64 {
    plain(raw(Syscall::NbRecv, ntfn, MsgInfo(0), [0; 4], [0; 2], 0)).map_or(0, |r| r.badge)
}

/// Signals `ntfn`, then waits on `own`, in one kernel entry.
pub fn signal_wait(ntfn: CPtr, own: CPtr) -> Result<u64, Error> {
    plain(raw(Syscall::SignalWait, ntfn, MsgInfo(0), [0; 4], [0; 2], own)).map(|r| r.badge)
}

/// Acknowledges an interrupt, then waits on `own`, in one kernel entry.
pub fn ack_wait(irq: CPtr, own: CPtr) -> Result<u64, Error> {
    plain(raw(Syscall::AckWait, irq, MsgInfo(0), [0; 4], [0; 2], own)).map(|r| r.badge)
}

/// Lets another thread of the same priority run.
pub fn yield_now() {
    let _ = raw(Syscall::Yield, 0, MsgInfo(0), [0; 4], [0; 2], 0);
}

/// Tells the supervisor that this process has ended. Does not return.
pub fn exit(status: u64) -> ! {
    supervisor(abi::SUPERVISOR_EXIT, status)
}

/// A system call that the kernel hands to the supervisor as a fault. Does not return unless the
/// supervisor resumes the thread, in which case it is made again.
pub fn supervisor(number: u64, arg: u64) -> ! {
    loop {
        // SAFETY: an unknown system call changes nothing; see `raw`.
        unsafe {
            core::arch::asm!(
                "syscall",
                inlateout("rax") number => _,
                inlateout("rdi") arg => _,
                clobber_abi("sysv64"),
            );
        }
    }
}

/// Reads the time-stamp counter.
pub fn rdtsc() -> u64 {
    // SAFETY: RDTSC has no side effects, and the kernel leaves CR4.TSD clear.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Invokes a method of a kernel object.
pub fn invoke(cap: CPtr, label: Label, words: [u64; 4], more: [u64; 2]) -> Result<Ret, Error> {
    plain(raw(Syscall::Call, cap, MsgInfo::invoke(label), words, more, 0))
}

/// Makes `count` objects of type `ty` from `untyped` in slots `index..` of `cnode`.
///
/// # Errors
/// [`Error::NoMemory`], [`Error::Occupied`], [`Error::Range`].
pub fn retype(
    untyped: CPtr,
    ty: ObjType,
    size_bits: u8,
    cnode: CPtr,
    index: u64,
    count: u64,
) -> Result<(), Error> {
    retype_at(untyped, ty, size_bits, cnode, index, count, 0)
}

/// As [`retype`], for device untypeds: the first object lies `offset` bytes from its start.
pub fn retype_at(
    untyped: CPtr,
    ty: ObjType,
    size_bits: u8,
    cnode: CPtr,
    index: u64,
    count: u64,
    offset: u64,
) -> Result<(), Error> {
    let words = [ty as u64, size_bits as u64, cnode, index];
    invoke(untyped, Label::UntypedRetype, words, [count, offset]).map(|_| ())
}

/// Copies slot `(src_cnode, src)` into `(cnode, dest)` with at most `rights`.
pub fn copy(
    cnode: CPtr,
    dest: u64,
    src_cnode: CPtr,
    src: u64,
    rights: Rights,
) -> Result<(), Error> {
    let words = [dest, src_cnode, src, rights.bits() as u64];
    invoke(cnode, Label::CNodeCopy, words, [0; 2]).map(|_| ())
}

/// As [`copy`], with a badge (or guard, or port range).
pub fn mint(
    cnode: CPtr,
    dest: u64,
    src_cnode: CPtr,
    src: u64,
    rights: Rights,
    badge: u64,
) -> Result<(), Error> {
    let words = [dest, src_cnode, src, rights.bits() as u64];
    invoke(cnode, Label::CNodeMint, words, [badge, 0]).map(|_| ())
}

/// Deletes a slot.
pub fn delete(cnode: CPtr, index: u64) -> Result<(), Error> {
    invoke(cnode, Label::CNodeDelete, [index, 0, 0, 0], [0; 2]).map(|_| ())
}

/// Deletes everything derived from a slot's capability.
pub fn revoke(cnode: CPtr, index: u64) -> Result<(), Error> {
    invoke(cnode, Label::CNodeRevoke, [index, 0, 0, 0], [0; 2]).map(|_| ())
}

/// Maps a frame.
///
/// # Errors
/// [`Error::NoTable`] if a page table is missing (see [`map_table`]), [`Error::Occupied`],
/// [`Error::Busy`] if this capability is mapped already.
pub fn map(
    frame: CPtr,
    vspace: CPtr,
    vaddr: u64,
    rights: Rights,
    attr: MapAttr,
) -> Result<(), Error> {
    let words = [vspace, vaddr, rights.bits() as u64, attr.bits() as u64];
    invoke(frame, Label::FrameMap, words, [0; 2]).map(|_| ())
}

/// Unmaps a frame capability.
pub fn unmap(frame: CPtr) -> Result<(), Error> {
    invoke(frame, Label::FrameUnmap, [0; 4], [0; 2]).map(|_| ())
}

/// Maps a page table at the highest level missing above `vaddr`.
pub fn map_table(table: CPtr, vspace: CPtr, vaddr: u64) -> Result<u64, Error> {
    invoke(table, Label::TableMap, [vspace, vaddr, 0, 0], [0; 2]).map(|r| r.words[0])
}

/// Arms a timer for an absolute time in ns since boot; a past time fires at once.
pub fn arm(timer: CPtr, deadline_ns: u64) -> Result<(), Error> {
    invoke(timer, Label::TimerArm, [deadline_ns, 0, 0, 0], [0; 2]).map(|_| ())
}

/// Disarms a timer. A signal it already sent stays pending.
pub fn cancel(timer: CPtr) -> Result<(), Error> {
    invoke(timer, Label::TimerCancel, [0; 4], [0; 2]).map(|_| ())
}

/// Acknowledges (unmasks) an interrupt line.
pub fn ack(irq: CPtr) -> Result<(), Error> {
    invoke(irq, Label::IrqAck, [0; 4], [0; 2]).map(|_| ())
}

/// Reads an I/O port of `bytes` 1, 2 or 4.
pub fn port_in(ports: CPtr, port: u16, bytes: u8) -> Result<u32, Error> {
    invoke(ports, Label::PortIn, [port as u64, bytes as u64, 0, 0], [0; 2])
        .map(|r| r.words[0] as u32)
}

/// Writes an I/O port of `bytes` 1, 2 or 4.
pub fn port_out(ports: CPtr, port: u16, bytes: u8, value: u32) -> Result<(), Error> {
    let words = [port as u64, bytes as u64, value as u64, 0];
    invoke(ports, Label::PortOut, words, [0; 2]).map(|_| ())
}
