//! Threads (TCBs).

use abi::{Error, FaultKind, UserRegs, trace_flag};
use core::cell::Cell;

use crate::cap::Slot;
use crate::ipc::{Endpoint, Reply};
use crate::notification::Notification;
use crate::sched::{SchedContext, Supply};
use crate::{Kernel, Obj, Platform};

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum State {
    /// Never started, suspended, or stopped by a fault nobody handles.
    #[default]
    Inactive,
    /// Runs when it is its turn and it has a scheduling context.
    Running,
    /// In an endpoint's queue with a message (or a fault) to send.
    Sending,
    /// In an endpoint's queue, waiting for a message.
    Receiving,
    /// Waits for the reply to a call or to a fault.
    AwaitingReply,
    /// In a notification's queue.
    Waiting,
}

/// A fault that was not resolved yet.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Kind.
    pub kind: FaultKind,
    /// Address or system-call number.
    pub addr: u64,
    /// Hardware error code or vector.
    pub code: u64,
    /// When, ns since boot.
    pub at: u64,
}

/// How user code is resumed; tested by the exit path in assembly.
pub mod entered_by {
    /// By a native system call: return with `sysret`; vector registers are dead.
    pub const SYSCALL: u8 = 0;
    /// In any other way: return with `iretq`; vector registers are in the TCB if `vectors_saved`.
    pub const OTHER: u8 = 1;
}

/// Where the vector area lies in a TCB: 16 registers of 16 bytes, then MXCSR.
pub const VECTOR_BYTES: usize = 16 * 16 + 8;

/// A thread. The order of the first fields is known to the entry code.
#[repr(C, align(64))]
pub struct Tcb {
    /// User registers, in the order of [`UserRegs`].
    pub regs: Cell<UserRegs>,
    /// [`entered_by`].
    pub entered_by: Cell<u8>,
    /// 1: `vectors` holds the vector registers. 0: they are dead and come back as zero.
    pub vectors_saved: Cell<u8>,
    _pad: [u8; 94],
    /// XMM0..15 and MXCSR.
    pub vectors: [Cell<u64>; VECTOR_BYTES / 8],
    /// Room for a full FXSAVE image, for threads that will declare to use x87.
    _fx_reserved: [u64; 31],
    /// FS base.
    pub fs_base: Cell<u64>,
    /// Inner capabilities: see the accessors.
    slots: [Slot; Tcb::SLOTS],
    /// What it does.
    pub state: Cell<State>,
    /// Whether it stands in a ready queue.
    pub queued: Cell<bool>,
    /// Priority.
    pub priority: Cell<u8>,
    /// Sending: whether it will wait for a reply.
    pub(crate) is_call: Cell<bool>,
    /// Sending: whether capabilities may go along.
    pub(crate) can_grant: Cell<bool>,
    /// Sending: badge of the capability used.
    pub(crate) badge: Cell<u64>,
    /// Queue links: ready queue, endpoint or notification, never two at once.
    pub(crate) next: Cell<Option<Obj<Tcb>>>,
    pub(crate) prev: Cell<Option<Obj<Tcb>>>,
    /// Sending, receiving: on which endpoint.
    pub(crate) endpoint: Cell<Option<Obj<Endpoint>>>,
    /// Waiting: on which notification.
    pub(crate) notification: Cell<Option<Obj<Notification>>>,
    /// Receiving: the reply object offered. AwaitingReply: the one that holds this thread.
    pub(crate) reply: Cell<Option<Obj<Reply>>>,
    /// Notification bound to it.
    pub(crate) bound: Cell<Option<Obj<Notification>>>,
    /// What is left of its time slice, ns, after it was preempted; 0: a full one.
    pub(crate) slice_left: Cell<u64>,
    /// Its right to run.
    pub sched: Cell<Option<Obj<SchedContext>>>,
    /// Its neighbours in a stack of lenders (see `lend.rs`): who lent the context on,
    pub above: Cell<Option<Obj<Tcb>>>,
    /// and who lent it to this one.
    pub below: Cell<Option<Obj<Tcb>>>,
    /// What it lent, if it is the last lender.
    pub lent: Cell<Option<Obj<SchedContext>>>,
    /// Lender: whom it lent to has left the stack, and somebody else has the context.
    pub gap: Cell<bool>,
    /// Whether `sched` was lent to it.
    pub borrows: Cell<bool>,
    /// Unresolved fault.
    pub(crate) fault: Cell<Option<Fault>>,
    /// Reserved for foreign system-call ABIs: 0 is native.
    pub abi: Cell<u64>,
    /// Name, NUL padded.
    pub name: Cell<[u64; 2]>,
    /// Number in traces.
    pub trace_id: Cell<u32>,
}

const _: () = assert!(size_of::<Tcb>() <= 2048);
const _: () = assert!(core::mem::offset_of!(Tcb, vectors) == 256);

impl Tcb {
    /// Capabilities inside a TCB.
    pub const SLOTS: usize = 5;

    /// Inner slot by number.
    pub fn slot(&self, index: usize) -> Obj<Slot> {
        Obj::of(&self.slots[index])
    }
    /// CNode that pointers are resolved from.
    pub fn cspace(&self) -> Obj<Slot> {
        self.slot(0)
    }
    /// Address space.
    pub fn vspace(&self) -> Obj<Slot> {
        self.slot(1)
    }
    /// Endpoint that is told of faults.
    pub fn fault_endpoint(&self) -> Obj<Slot> {
        self.slot(2)
    }
    /// Frame of the IPC buffer.
    pub fn buffer(&self) -> Obj<Slot> {
        self.slot(3)
    }
    /// Endpoint that is told when the budget ends.
    pub fn timeout_endpoint(&self) -> Obj<Slot> {
        self.slot(4)
    }
    /// Physical address of the IPC buffer.
    pub fn buffer_frame(&self) -> Option<u64> {
        let cap = self.buffer().cap();
        (!cap.is_null()).then_some(cap.addr())
    }
    /// Name as text.
    pub fn name_bytes(&self) -> [u8; 16] {
        let [a, b] = self.name.get();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&a.to_le_bytes());
        bytes[8..].copy_from_slice(&b.to_le_bytes());
        bytes
    }
    /// Whether it can run now.
    pub fn runnable(&self) -> bool {
        self.state.get() == State::Running && self.sched.get().is_some()
    }
    /// Whether no fault of it is unresolved.
    pub fn fault_is_none(&self) -> bool {
        self.fault.get().is_none()
    }
    /// Whether it runs on an unlimited context of its own, and so may give time to others.
    pub(crate) fn has_all_time(&self) -> bool {
        !self.borrows.get() && self.sched.get().is_some_and(|s| s.is_unlimited())
    }
    /// Whether it may be switched to: it has a context, and that has budget left or needs none.
    #[inline]
    pub(crate) fn may_run(&self) -> bool {
        self.sched.get().is_some_and(|s| s.supply.get() != Supply::Empty)
    }
    /// Whether the budget of its context is used up.
    pub(crate) fn is_out(&self) -> bool {
        self.sched.get().is_some_and(|s| s.supply.get() == Supply::Empty)
    }
    /// Changes registers in place.
    pub fn with_regs<R>(&self, change: impl FnOnce(&mut UserRegs) -> R) -> R {
        // SAFETY: the TCB is only accessed by this processor, inside the kernel, and `change` has
        // no access to the cell.
        change(unsafe { &mut *self.regs.as_ptr() })
    }
    /// Registers, read in place.
    #[inline(always)]
    pub(crate) fn registers(&self) -> &UserRegs {
        // SAFETY: the TCB is only accessed by this processor, inside the kernel; callers read
        // single words and change none meanwhile.
        unsafe { &*self.regs.as_ptr() }
    }
    /// What a trace says of the message that it sends.
    pub(crate) fn message_flags(&self) -> u8 {
        match self.fault.get() {
            Some(_) => trace_flag::FAULT,
            None => self.is_call.get() as u8 * trace_flag::CALL,
        }
    }
    /// Sets what the current system call returns in `rax`.
    pub fn set_result(&self, result: Result<(), Error>) {
        self.with_regs(|r| r.rax = result.map_or_else(|e| e as u64, |()| 0));
    }
}

impl<P: Platform> Kernel<P> {
    /// Takes a thread out of whatever it waits for; its state is then `Inactive`. A caller that
    /// waits for a reply is forgotten by the reply object.
    pub(crate) fn cancel_wait(&mut self, thread: Obj<Tcb>) {
        match thread.state.get() {
            State::Inactive => {}
            State::Running => self.dequeue(thread),
            State::Sending | State::Receiving => self.leave_endpoint(thread),
            State::Waiting => self.leave_notification(thread),
            State::AwaitingReply => {
                if let Some(reply) = thread.reply.take() {
                    reply.caller.set(None);
                }
            }
        }
        thread.state.set(State::Inactive);
        if self.cpu.current == Some(thread) {
            self.cpu.reschedule = true;
        }
    }

    /// Stops a thread. A system call it waited in returns [`Error::Cancelled`] if it is resumed.
    pub fn suspend(&mut self, thread: Obj<Tcb>) {
        let blocked = !matches!(thread.state.get(), State::Inactive | State::Running);
        if blocked && thread.fault.get().is_none() {
            thread.set_result(Err(Error::Cancelled));
        }
        self.cancel_wait(thread);
    }

    /// Lets a stopped thread run on; after a fault it tries again where it was.
    pub fn resume(&mut self, thread: Obj<Tcb>) {
        if thread.state.get() == State::Running {
            return;
        }
        self.suspend(thread);
        thread.fault.set(None);
        self.make_running(thread);
    }

    /// Makes a thread able to run.
    pub(crate) fn make_running(&mut self, thread: Obj<Tcb>) {
        thread.state.set(State::Running);
        self.enqueue(thread);
    }

    /// The thread's last capability is gone.
    pub(crate) fn end_thread(&mut self, thread: Obj<Tcb>) {
        self.cancel_wait(thread);
        if let Some(ntfn) = thread.bound.take() {
            ntfn.bound.set(None);
        }
        self.settle_loans(thread);
        if self.cpu.current == Some(thread) {
            self.cpu.current = None;
        }
        self.trace_end(thread);
    }
}
