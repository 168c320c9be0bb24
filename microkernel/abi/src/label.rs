//! Invocations: the methods of kernel objects.

/// Method of a kernel object, carried in [`crate::MsgInfo::method`]. The comment gives the
/// arguments in message words 0 to 5. "slot" arguments are a CNode capability and an index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Label {
    /// `(type, size_bits, dest cnode, dest index, count, offset)`. Makes `count` objects in
    /// consecutive empty slots. `offset`: bytes from the start of a *device* untyped to place the
    /// first object at (not before its watermark); 0 elsewhere. RAM objects are zeroed.
    UntypedRetype = 1,
    /// `(dest index, source cnode, source index, rights)`. On the destination CNode.
    CNodeCopy = 10,
    /// `(dest index, source cnode, source index, rights, badge)`. Badge of an endpoint or
    /// notification; guard of a CNode (`guard << 8 | guard bits`); `first << 16 | last` of I/O
    /// ports.
    CNodeMint = 11,
    /// `(dest index, source cnode, source index)`.
    CNodeMove = 12,
    /// `(index)`. Destroys the object if this was its last capability.
    CNodeDelete = 13,
    /// `(index)`. Deletes all capabilities derived from this one.
    CNodeRevoke = 14,
    /// `(index)` of an endpoint without a badge. Its server is down: who waits to send to it gets
    /// [`crate::Error::OutOfService`], and so does who tries, until somebody receives from it.
    /// (A CNode's method, because a call on an endpoint is a message.)
    CNodeCloseEndpoint = 15,
    /// `(cspace, vspace, fault endpoint or 0, IPC buffer frame or 0)`.
    ThreadConfigure = 20,
    /// `(priority 0..=255)`, at most the caller's own.
    ThreadSetPriority = 21,
    /// `(scheduling context, 0, or 1: only until the thread waits for a message)`. With 1 the
    /// context is free again when a passive server has set itself up, or has finished what it was
    /// at. Only who runs on an unlimited context of its own may bind an unlimited one.
    ThreadBindSched = 22,
    /// `(notification, or 0 to unbind)`. Signals on it also end a wait on an endpoint.
    ThreadBindNotification = 23,
    /// `(rip, rsp, rdi, rsi, resume 0/1)`. The other registers become 0.
    ThreadWriteRegisters = 24,
    /// `()`. Writes [`crate::UserRegs`] at [`crate::ipc_buffer::REGS`] of the caller.
    ThreadReadRegisters = 25,
    /// `()`. A thread waiting for a fault reply is restarted where it faulted.
    ThreadResume = 26,
    /// `()`. Stops it and cancels what it waited for.
    ThreadSuspend = 27,
    /// `(FS base)`.
    ThreadSetFsBase = 28,
    /// `(8 bytes, 8 bytes, number)`: name for kernel messages, NUL padded, and the number (32
    /// bits) by which traces know it.
    ThreadSetName = 29,
    /// `(budget ns, period ns, badge)`: a full budget from now on; at most so much in any time of
    /// one period. At least 10 µs, at most an hour; budget `u64::MAX`: unlimited. The badge is told
    /// in time-out faults. Only who runs on an unlimited context of its own may.
    SchedConfigure = 35,
    /// `()`. Takes the context from whoever runs on it, and from those who lent it.
    SchedUnbind = 36,
    /// `()`. Word 0 of the reply: ns that it was charged so far (nothing while it is unlimited).
    SchedConsumed = 37,
    /// `(endpoint, or 0)`. A thread's: whom it tells when its budget ends
    /// ([`crate::FaultKind::Budget`]). Without one it waits for the refill.
    ThreadSetTimeout = 38,
    /// `(VSpace or IoSpace, address)`. Word 0 of the reply: the level it became (1 PT, 2 PD, 3 PDPT).
    TableMap = 40,
    /// `()`.
    TableUnmap = 41,
    /// `(VSpace or IoSpace, address, rights, attributes)`. In an IoSpace: rights of the device, no
    /// attributes. A capability is mapped in one place; a copy of it may be in another.
    FrameMap = 45,
    /// `()`.
    FrameUnmap = 46,
    /// `()`. Word 0 of the reply: physical address. Needs the grant right.
    FrameAddress = 47,
    /// `(GSI, 1 = level triggered | 2 = active low, dest cnode, dest index)`.
    IrqGet = 50,
    /// `(notification with its badge)`.
    IrqSetNotification = 55,
    /// `()`. Unmasks the line.
    IrqAck = 56,
    /// `()`. Masks the line and forgets the notification.
    IrqClear = 57,
    /// `(port, bytes 1|2|4)`. Word 0 of the reply: value.
    PortIn = 60,
    /// `(port, bytes 1|2|4, value)`.
    PortOut = 61,
    /// `(notification with its badge)`.
    TimerSetNotification = 65,
    /// `(absolute time in ns)`. Replaces an earlier deadline; a past one fires at once.
    TimerArm = 66,
    /// `()`.
    TimerCancel = 67,
    /// `()`. Words of the reply: bytes left above the watermark, log2 of its size.
    UntypedInfo = 70,
    /// `(frame)`. Lengthens the trace's ring; all frames of one size, at most
    /// [`crate::TRACE_FRAMES`]. Not while it is written.
    TraceAdd = 90,
    /// `()`. Begins a trace anew, over what the ring holds.
    TraceStart = 91,
    /// `()`.
    TraceStop = 92,
    /// `(code up to [`crate::TRACE_CODE_MAX`], word, word)`. Adds a record if a trace runs.
    TraceLog = 93,
    /// `()`. Words of the reply: records since the start, records that the ring holds.
    TraceInfo = 94,
    /// `(index)`. The words of [`crate::CapInfo`] of the first capability in that slot or one behind
    /// it. An empty one (type 0): there is none before the slot that it names, which is the one to
    /// ask for next. [`crate::Error::Range`] behind the last slot.
    CNodeInspect = 95,
    /// `(which)`, a number of [`crate::thread_slot`]. The words of [`crate::CapInfo`]; all zero: none.
    ThreadInspect = 96,
    /// `(IoSpace, device: bus << 8 | device << 3 | function)`. The device reaches what is mapped in
    /// the IoSpace, until that is deleted. Its bus needs a context table first: a page table mapped
    /// ([`Label::TableMap`]) into the IoControl at address `device << 12`.
    IoBind = 80,
    /// `()`. Takes the record of a transfer that was refused. Words of the reply: address of the
    /// page; device, `| reason << 16` (VT-d specification 7.2.3), `| 1 << 24` if it was a write,
    /// `| 1 << 25` if others were not recorded. [`crate::Error::WouldBlock`]: no more. See
    /// [`crate::DMA_FAULT_LINE`].
    IoFault = 81,
}

impl Label {
    /// The label with this number, or `None`.
    pub const fn from_raw(raw: u16) -> Option<Self> {
        Some(match raw {
            1 => Self::UntypedRetype,
            10 => Self::CNodeCopy,
            11 => Self::CNodeMint,
            12 => Self::CNodeMove,
            13 => Self::CNodeDelete,
            14 => Self::CNodeRevoke,
            15 => Self::CNodeCloseEndpoint,
            20 => Self::ThreadConfigure,
            21 => Self::ThreadSetPriority,
            22 => Self::ThreadBindSched,
            23 => Self::ThreadBindNotification,
            24 => Self::ThreadWriteRegisters,
            25 => Self::ThreadReadRegisters,
            26 => Self::ThreadResume,
            27 => Self::ThreadSuspend,
            28 => Self::ThreadSetFsBase,
            29 => Self::ThreadSetName,
            35 => Self::SchedConfigure,
            36 => Self::SchedUnbind,
            37 => Self::SchedConsumed,
            38 => Self::ThreadSetTimeout,
            40 => Self::TableMap,
            41 => Self::TableUnmap,
            45 => Self::FrameMap,
            46 => Self::FrameUnmap,
            47 => Self::FrameAddress,
            50 => Self::IrqGet,
            55 => Self::IrqSetNotification,
            56 => Self::IrqAck,
            57 => Self::IrqClear,
            60 => Self::PortIn,
            61 => Self::PortOut,
            65 => Self::TimerSetNotification,
            66 => Self::TimerArm,
            67 => Self::TimerCancel,
            70 => Self::UntypedInfo,
            90 => Self::TraceAdd,
            91 => Self::TraceStart,
            92 => Self::TraceStop,
            93 => Self::TraceLog,
            94 => Self::TraceInfo,
            95 => Self::CNodeInspect,
            96 => Self::ThreadInspect,
            80 => Self::IoBind,
            81 => Self::IoFault,
            _ => return None,
        })
    }
}
