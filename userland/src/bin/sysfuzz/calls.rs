//! Records: system calls that might be right, and such that cannot be.

use abi::{Label, MsgInfo, ObjType, RETYPE_MAX, Syscall, USER_END};

use crate::random::Random;

/// What a worker loads: rax rdi rsi rdx r10 r8 r9 r12 r13 r14, and where it goes instead of making a
/// system call.
pub type Record = [u64; 12];

/// Slots of the sandbox's CSpace.
pub const SLOTS: u64 = 256;

/// What the sandbox's CSpace held in the beginning, by slot.
pub struct Contents {
    /// Type of what lies in it.
    pub types: [Option<ObjType>; SLOTS as usize],
    /// Where the workers' code begins.
    pub code: u64,
    /// Instructions that are no system calls.
    pub instructions: heapless::Vec<u64, 96>,
}

/// An argument of an invocation.
#[derive(Clone, Copy)]
enum Arg {
    /// A capability of this type.
    Cap(ObjType),
    /// The same, or 0.
    MaybeCap(ObjType),
    /// A slot's number.
    Slot,
    /// Below this.
    Below(u64),
    /// 0 or 1, now and then something else.
    Flag,
    /// An address of user space.
    Address,
    /// A time.
    Time,
    /// Anything.
    Any,
}

use Arg::*;

/// What each invocation takes.
fn invocation(label: Label) -> (ObjType, [Arg; 6]) {
    use ObjType::*;
    let args = |a: &[Arg]| core::array::from_fn(|i| a.get(i).copied().unwrap_or(Any));
    match label {
        Label::UntypedRetype => {
            let list = [Below(18), Below(14), Cap(CNode), Slot, Below(RETYPE_MAX / 8), Any];
            (Untyped, args(&list))
        }
        Label::UntypedInfo => (Untyped, args(&[])),
        Label::CNodeCopy => (CNode, args(&[Slot, Cap(CNode), Slot, Below(8)])),
        Label::CNodeMint => (CNode, args(&[Slot, Cap(CNode), Slot, Below(8), Any])),
        Label::CNodeMove => (CNode, args(&[Slot, Cap(CNode), Slot])),
        Label::CNodeDelete | Label::CNodeRevoke | Label::CNodeCloseEndpoint => {
            (CNode, args(&[Slot]))
        }
        Label::ThreadConfigure => {
            let list = [Cap(CNode), Cap(VSpace), MaybeCap(Endpoint), MaybeCap(Frame)];
            (Thread, args(&list))
        }
        Label::ThreadSetPriority => (Thread, args(&[Below(100)])),
        Label::ThreadBindSched => (Thread, args(&[Cap(SchedContext), Flag, Flag])),
        Label::ThreadBindNotification => (Thread, args(&[MaybeCap(Notification)])),
        Label::ThreadWriteRegisters => (Thread, args(&[Address, Address, Any, Any, Flag])),
        Label::ThreadSetFsBase => (Thread, args(&[Address])),
        Label::ThreadSetName => (Thread, args(&[Any, Any, Flag])),
        Label::ThreadSetTimeout => (Thread, args(&[MaybeCap(Endpoint)])),
        Label::SchedConfigure => (SchedContext, args(&[Time, Time, Any])),
        Label::SchedUnbind | Label::SchedConsumed => (SchedContext, args(&[])),
        Label::TableMap => (PageTable, args(&[Cap(VSpace), Address])),
        Label::TableUnmap => (PageTable, args(&[])),
        Label::FrameMap => (Frame, args(&[Cap(VSpace), Address, Below(8), Below(4)])),
        Label::FrameUnmap | Label::FrameAddress => (Frame, args(&[])),
        Label::IrqGet => (IrqControl, args(&[Below(64), Below(4), Cap(CNode), Slot])),
        Label::IrqSetNotification => (IrqHandler, args(&[Cap(Notification)])),
        Label::IrqAck | Label::IrqClear => (IrqHandler, args(&[])),
        Label::PortIn | Label::PortOut => (IoPort, args(&[Any, Below(5), Any])),
        Label::TimerSetNotification => (Timer, args(&[Cap(Notification)])),
        Label::TimerArm => (Timer, args(&[Time])),
        Label::TimerCancel => (Timer, args(&[])),
        _ => (Thread, args(&[])),
    }
}

impl Contents {
    /// A capability that was of type `ty` in the beginning, most of the time.
    fn cap(&self, r: &mut Random, ty: ObjType) -> u64 {
        match r.below(32) {
            0 => r.odd(),
            1..=3 => r.below(SLOTS),
            _ => {
                // The first from a random slot on: the sandbox has some of each type.
                let from = r.below(SLOTS);
                let found = (0..SLOTS).map(|i| (from + i) % SLOTS);
                found.into_iter().find(|s| self.types[*s as usize] == Some(ty)).unwrap_or(from)
            }
        }
    }

    fn arg(&self, r: &mut Random, arg: Arg) -> u64 {
        if r.once_in(24) {
            return r.odd();
        }
        match arg {
            Cap(ty) => self.cap(r, ty),
            MaybeCap(ty) => match r.below(4) {
                0 => 0,
                _ => self.cap(r, ty),
            },
            Slot => r.below(SLOTS),
            Below(n) => r.below(n),
            Flag => r.below(2),
            Address => match r.below(8) {
                0 => self.code,
                1 => USER_END - (r.below(4) << 12),
                2 => r.next() >> 17,
                3 => self.code + r.below(32 << 12),
                // A few pages and large pages, so that they meet.
                4 => 1 << 40 | r.below(4) << 21,
                _ => 1 << 40 | r.below(64) << 12,
            },
            Time => match r.below(4) {
                0 => r.below(1 << 20),
                1 => u64::MAX - r.below(2),
                2 => r.below(1 << 34),
                _ => 1 << 62 | r.next() >> 3,
            },
            Any => r.odd(),
        }
    }

    fn call(&self, r: &mut Random) -> Record {
        let mut record = [0; 12];
        let number = match r.below(64) {
            // There are no such calls.
            0 => r.odd(),
            1..=40 => Syscall::Call as u64,
            _ => r.below(10),
        };
        let invokes = number == Syscall::Call as u64 && !r.once_in(8);
        let label = loop {
            let label = Label::from_raw(r.below(100) as u16);
            if let Some(label) = label {
                // Others need them for longer.
                let ends = matches!(label, Label::CNodeDelete | Label::CNodeRevoke);
                if !ends || r.once_in(4) {
                    break label;
                }
            }
        };
        let (ty, args) = invocation(label);
        let info = match invokes {
            true => MsgInfo::invoke(label).0,
            false => self.message(r),
        };
        let object = match (invokes, Syscall::from_raw(number)) {
            (true, _) => ty,
            (_, Some(Syscall::Reply)) => ObjType::Reply,
            (_, Some(Syscall::SignalWait)) => ObjType::Notification,
            _ => r.of(&[ObjType::Endpoint, ObjType::Endpoint, ObjType::Notification]),
        };
        record[0] = number;
        record[1] = self.cap(r, object);
        record[2] = info;
        for (i, arg) in args.into_iter().enumerate() {
            record[3 + i] = if invokes { self.arg(r, arg) } else { r.odd() };
        }
        record[9] = match Syscall::from_raw(number) {
            Some(Syscall::SignalWait | Syscall::AckWait) => self.cap(r, ObjType::Notification),
            _ => self.cap(r, ObjType::Reply),
        };
        record
    }

    fn message(&self, r: &mut Random) -> u64 {
        let len = match r.below(8) {
            0 => r.below(4096),
            1 => 1024 - r.below(3),
            2..=4 => r.below(65),
            _ => 0,
        };
        MsgInfo::new(r.next() as u16, 1, r.next() as u16, len as usize)
            .with_caps(if r.once_in(3) { r.below(4) as usize } else { 0 })
            .0
            | if r.once_in(16) { r.next() & MsgInfo::KERNEL_BITS } else { 0 }
    }

    /// What a worker does next.
    pub fn record(&self, r: &mut Random) -> Record {
        let mut record = self.call(r);
        if r.once_in(200) {
            record[10] = r.of(&self.instructions);
        }
        record
    }

    /// Where capabilities that arrive go, and which ones go along: the words of an IPC buffer from
    /// [`abi::ipc_buffer::SEND_CAPS`] on.
    pub fn buffer(&self, r: &mut Random) -> [u64; 6] {
        let any = [ObjType::Endpoint, ObjType::Notification, ObjType::Frame, ObjType::Thread];
        let mut cap = || {
            let ty = r.of(&any);
            self.cap(r, ty)
        };
        let caps = [cap(), cap(), cap()];
        [caps[0], caps[1], caps[2], 0, self.cap(r, ObjType::CNode), self.arg(r, Slot)]
    }
}

/// Instructions of all kinds, each of which a worker may execute; those that fault are handled.
pub fn instruction(r: &mut Random, number: u64) -> heapless::Vec<u8, 24> {
    const FIXED: &[&[u8]] = &[
        &[0xfa],                                                             // cli
        &[0xf4],                                                             // hlt
        &[0xec],                                                             // in al, dx
        &[0xef],                                                             // out dx, eax
        &[0x0f, 0x0b],                                                       // ud2
        &[0x0f, 0x34],                                                       // sysenter
        &[0x0f, 0x05],                      // syscall, with what is in rax
        &[0x0f, 0x01, 0xf8],                // swapgs
        &[0x0f, 0x30],                      // wrmsr
        &[0x0f, 0x32],                      // rdmsr
        &[0x0f, 0x22, 0xdf],                // mov cr3, rdi
        &[0x0f, 0x23, 0xff],                // mov dr7, rdi
        &[0xf3, 0x48, 0x0f, 0xae, 0xd7],    // wrfsbase rdi
        &[0xf3, 0x48, 0x0f, 0xae, 0xdf],    // wrgsbase rdi
        &[0x57, 0x9d],                      // push rdi; popf
        &[0x8e, 0xdf],                      // mov ds, edi
        &[0x8e, 0xe7],                      // mov fs, edi
        &[0x8e, 0xef],                      // mov gs, edi
        &[0x8e, 0xd7],                      // mov ss, edi
        &[0xb8, 0x1b, 0, 0, 0, 0x8e, 0xd8], // mov eax, 0x1b; mov ds, eax
        &[0xb8, 0x1b, 0, 0, 0, 0x8e, 0xe8], // mov eax, 0x1b; mov gs, eax
        &[0x64, 0x48, 0x8b, 0x07],          // mov rax, fs:[rdi]
        &[0x65, 0x48, 0x8b, 0x07],          // mov rax, gs:[rdi]
        &[0x48, 0x8b, 0x07],                // mov rax, [rdi]
        &[0x48, 0x89, 0x3f],                // mov [rdi], rdi
        &[0x48, 0x89, 0xfc, 0x0f, 0x05],    // mov rsp, rdi; syscall
        &[0x48, 0x89, 0xfc, 0x50],          // mov rsp, rdi; push rax
        &[0xff, 0xe7],                      // jmp rdi
        &[0x57, 0xc3],                      // push rdi; ret
        &[0x31, 0xc9, 0xf7, 0xf1],          // xor ecx, ecx; div ecx
        &[0x57, 0x0f, 0xae, 0x14, 0x24],    // push rdi; ldmxcsr [rsp]
        &[0x57, 0xd9, 0x2c, 0x24, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, 0x9b], // fldcw; 1/0; fwait
        &[0x0f, 0x6f, 0x04, 0x24],          // movq mm0, [rsp]
        &[0xc5, 0xfd, 0xef, 0xc0],          // vpxor ymm0, ymm0, ymm0
        &[0x48, 0xcf],                      // iretq
        &[0x48, 0xcb],                      // retfq
        &[0x48, 0x0f, 0x07],                // sysretq
        &[0xcc],                            // int3
        &[0xf1],                            // int1
        &[0x0f, 0xa2],                      // cpuid
        &[0x0f, 0x31],                      // rdtsc
    ];
    let mut code = heapless::Vec::new();
    match FIXED.get(number as usize) {
        Some(fixed) => _ = code.extend_from_slice(fixed),
        None => _ = code.extend_from_slice(&[0xcd, r.next() as u8]),
    }
    code
}
