//! Tracing: events into a ring of frames that the holder of the trace capability gave.
//!
//! Where something happens stands [`event!`]: one predictable branch while tracing is off, and a
//! call out of line while it is on. The kernel writes records ([`abi::TraceRecord`]), the newest
//! over the oldest, and never reads them. It holds capabilities to the ring's frames as anybody
//! would: revoking them ends the trace at its next event.
//!
//! Calls and replies on the fast path are recorded at its end, from what the two threads then
//! hold; its other system calls take the general path while a trace runs.

use abi::{
    Error, FaultKind, Label, MsgInfo, ObjType, Rights, Syscall, TRACE_CODE_MAX, TRACE_FRAMES,
    TRACE_RECORD, TraceKind, TraceRecord, trace_flag,
};

use crate::cap::{Cap, Slot};
use crate::ipc::Endpoint;
use crate::notification::Notification;
use crate::thread::Tcb;
use crate::timer::Timer;
use crate::{Kernel, Obj, Platform, cspace, mdb, obj};

/// Records an event if tracing is on: `event!(self, trace_irq(gsi))`. The arguments are evaluated
/// only then.
macro_rules! event {
    ($kernel:expr, $record:ident($($arg:expr),*)) => {
        if $kernel.cpu.tracing {
            $kernel.$record($($arg),*);
        }
    };
}
pub(crate) use event;

/// The ring.
pub struct Trace {
    /// Its frames, all of one size: the first ones are filled.
    frames: [Slot; TRACE_FRAMES],
    /// Bytes of one of them.
    size: u64,
    /// Frames of the ring while it is written.
    count: usize,
    /// Number of the frame that is written, and its slot.
    frame: usize,
    slot: Option<Obj<Slot>>,
    /// Where it begins, where the next record goes, and where it ends: physical addresses.
    begin: u64,
    next: u64,
    end: u64,
    /// Records since the start that lie in frames before it, those included that were
    /// overwritten.
    before: u64,
    /// Who runs, as the trace knows it.
    last: Option<Obj<Tcb>>,
}

impl Trace {
    pub(crate) const fn new() -> Self {
        let frames = [const { Slot::new() }; TRACE_FRAMES];
        Self {
            frames,
            size: 0,
            count: 0,
            frame: 0,
            slot: None,
            begin: 0,
            next: 0,
            end: 0,
            before: 0,
            last: None,
        }
    }
    /// Frames that are there, without a gap.
    fn count(&self) -> usize {
        self.frames.iter().position(Slot::is_empty).unwrap_or(TRACE_FRAMES)
    }
    /// Begins with a frame.
    fn write_to(&mut self, frame: usize) {
        self.frame = frame;
        self.slot = self.frames.get(frame).map(Obj::of);
        self.begin = self.frames.get(frame).map_or(0, |f| f.cap().addr());
        self.next = self.begin;
        self.end = self.begin + self.size;
    }
    /// The frame that is written is full.
    #[cold]
    fn turn(&mut self) {
        self.before += self.size / TRACE_RECORD;
        self.write_to(if self.frame + 1 < self.count { self.frame + 1 } else { 0 });
    }
    /// Records since the start.
    fn written(&self) -> u64 {
        self.before + (self.next - self.begin) / TRACE_RECORD
    }
}

/// A thread's number.
fn number(t: Option<Obj<Tcb>>) -> u64 {
    t.map_or(0, |t| t.trace_id.get() as u64)
}

impl<P: Platform> Kernel<P> {
    /// Writes a record. A frame that was taken back ends the trace.
    #[inline(always)]
    fn record(&mut self, head: u64, a: u64, b: u64) {
        let ring = &mut self.trace;
        if ring.slot.is_none_or(|s| s.is_empty()) {
            self.cpu.tracing = false;
            return;
        }
        let at = ring.next;
        let ticks = self.hw.ticks();
        // SAFETY: the capability in its slot says that the frame lives, and `next` lies in it: they
        // are set together, and no frame is added while a trace runs.
        unsafe {
            // (As a loop this would be one, which costs more than the rest of a record.)
            obj::write_word(at, ticks);
            obj::write_word(at + 8, head);
            obj::write_word(at + 16, a);
            obj::write_word(at + 24, b);
        }
        ring.next = at + TRACE_RECORD;
        if ring.next == ring.end {
            ring.turn();
        }
    }

    /// What happened to or by the running thread.
    #[inline(always)]
    fn record_here(&mut self, kind: TraceKind, flags: u8, a: u64, b: u64) {
        let thread = number(self.cpu.current) as u32;
        self.record(TraceRecord::head(kind, flags, 0, 0, thread), a, b);
    }

    /// Called before every return to user mode: somebody else may run than at the last.
    #[cold]
    pub(crate) fn trace_switch(&mut self) {
        let (before, next) = (self.trace.last, self.cpu.current);
        if before == next {
            return;
        }
        self.trace.last = next;
        let state = before.map_or(0, |t| t.state.get() as u8);
        let head = TraceRecord::head(TraceKind::Switch, state, 0, 0, number(next) as u32);
        self.record(head, number(before), 0);
    }

    /// `t` is about to end: it ran last no more.
    pub(crate) fn trace_end(&mut self, t: Obj<Tcb>) {
        if self.trace.last == Some(t) {
            self.trace.last = None;
        }
    }

    /// The fast path's last act: `t` has called `to`, or answered it, which runs now.
    #[inline(always)]
    pub(crate) fn trace_fast(&mut self, t: Obj<Tcb>, to: Obj<Tcb>, badge: u64, call: Syscall) {
        let a = to.trace_id.get() as u64;
        if call == Syscall::Call {
            // (Its CSpace is flat, or this would not be the fast path.)
            let slot = t.cspace().cap().cnode_slot(t.registers().rdi);
            let ep = slot.map_or(0, |slot| self.identity(slot.cap().addr()) << 32);
            self.record_message(TraceKind::Message, trace_flag::CALL, t, a | ep, badge);
        } else {
            self.record_message(TraceKind::Reply, 0, t, a, 0);
        }
        self.record_handover(t, to);
    }

    #[inline(always)]
    fn record_handover(&mut self, from: Obj<Tcb>, to: Obj<Tcb>) {
        self.trace.last = Some(to);
        let state = from.state.get() as u8;
        let head = TraceRecord::head(TraceKind::Switch, state, 0, 0, to.trace_id.get());
        self.record(head, from.trace_id.get() as u64, 0);
    }

    /// What all records of messages have in common; the message is in `from`'s registers.
    #[inline(always)]
    fn record_message(&mut self, kind: TraceKind, flags: u8, from: Obj<Tcb>, a: u64, badge: u64) {
        let info = MsgInfo(from.registers().rsi);
        let mut tag = 0;
        if !info.is_empty()
            && let Some(buffer) = from.buffer_frame()
        {
            // SAFETY: the first word of a live thread's IPC buffer frame.
            tag = unsafe { obj::read_word(buffer) } as u8;
        }
        let head = TraceRecord::head(kind, flags, tag, badge as u16, from.trace_id.get());
        self.record(head, a, info.0);
    }

    /// The message (or fault, by `flags`) of `from` reaches `to` by `ep`.
    #[cold]
    pub(crate) fn trace_message(
        &mut self,
        from: Obj<Tcb>,
        to: Obj<Tcb>,
        ep: Obj<Endpoint>,
        badge: u64,
        flags: u8,
    ) {
        let a = to.trace_id.get() as u64 | self.identity(ep.phys()) << 32;
        self.record_message(TraceKind::Message, flags, from, a, badge);
    }

    /// `from` waits in the queue of `ep` with a message.
    #[cold]
    pub(crate) fn trace_queued(&mut self, from: Obj<Tcb>, ep: Obj<Endpoint>) {
        let a = self.identity(ep.phys()) << 32;
        self.record_message(TraceKind::Queued, from.message_flags(), from, a, from.badge.get());
    }

    /// `server` answers `caller`.
    #[cold]
    pub(crate) fn trace_reply(&mut self, server: Obj<Tcb>, caller: Obj<Tcb>) {
        let flags = caller.fault.get().is_some() as u8 * trace_flag::FAULT;
        self.record_message(TraceKind::Reply, flags, server, number(Some(caller)), 0);
    }

    /// Nobody will answer `caller`.
    #[cold]
    pub(crate) fn trace_died(&mut self, caller: Obj<Tcb>) {
        self.record_here(TraceKind::Reply, trace_flag::DIED, number(Some(caller)), 0);
    }

    /// `ntfn` is signalled and wakes `woken`.
    #[cold]
    pub(crate) fn trace_signal(
        &mut self,
        ntfn: Obj<Notification>,
        badge: u64,
        woken: Option<Obj<Tcb>>,
    ) {
        let a = number(woken) | self.identity(ntfn.phys()) << 32;
        self.record_here(TraceKind::Signal, 0, a, badge);
    }

    /// Line `gsi` fires, which leads to `target`.
    #[cold]
    pub(crate) fn trace_irq(&mut self, gsi: u32, target: Cap) {
        let a = gsi as u64 | self.identity(target.addr()) << 32;
        self.record_here(TraceKind::Irq, 0, a, target.data());
    }

    /// Line `gsi` is acknowledged.
    #[cold]
    pub(crate) fn trace_irq_ack(&mut self, gsi: u64) {
        self.record_here(TraceKind::IrqAck, 0, gsi, 0);
    }

    /// `timer` fires.
    #[cold]
    pub(crate) fn trace_timer(&mut self, timer: Obj<Timer>) {
        let a = self.identity(timer.phys()) << 32;
        self.record_here(TraceKind::Timer, 0, a, timer.target.cap().data());
    }

    /// `t` faults.
    #[cold]
    pub(crate) fn trace_fault(&mut self, t: Obj<Tcb>, kind: FaultKind, addr: u64) {
        let head = TraceRecord::head(TraceKind::Fault, kind as u8, 0, 0, t.trace_id.get());
        self.record(head, addr, t.registers().rip);
    }

    /// `t` has its name.
    #[cold]
    pub(crate) fn trace_named(&mut self, t: Obj<Tcb>) {
        let [a, b] = t.name.get();
        self.record(TraceRecord::head(TraceKind::Named, 0, 0, 0, t.trace_id.get()), a, b);
    }

    /// What a user logs.
    #[cold]
    fn trace_user(&mut self, t: Obj<Tcb>, code: u16, a: u64, b: u64) {
        self.record(TraceRecord::head(TraceKind::User, 0, 0, code, t.trace_id.get()), a, b);
    }

    /// Methods of the trace capability.
    pub(crate) fn invoke_trace(
        &mut self,
        t: Obj<Tcb>,
        cap: Cap,
        label: Label,
        w: &[u64; 6],
    ) -> Result<[u64; 2], Error> {
        let needs = match label {
            Label::TraceLog => Rights::WRITE,
            Label::TraceInfo => Rights::READ,
            Label::TraceAdd | Label::TraceStart | Label::TraceStop => Rights::GRANT,
            _ => return Err(Error::WrongType),
        };
        if !cap.rights().contains(needs) {
            return Err(Error::NoRights);
        }
        match label {
            Label::TraceLog if w[0] > TRACE_CODE_MAX => return Err(Error::Range),
            Label::TraceLog => event!(self, trace_user(t, w[0] as u16, w[1], w[2])),
            Label::TraceInfo => {
                let ring = &self.trace;
                return Ok([ring.written(), ring.count() as u64 * ring.size / TRACE_RECORD]);
            }
            Label::TraceAdd => self.trace_add(cspace::lookup_slot(&t, w[0])?)?,
            Label::TraceStart => {
                let ring = &mut self.trace;
                ring.count = ring.count();
                if ring.count == 0 {
                    return Err(Error::NoMemory);
                }
                ring.before = 0;
                ring.write_to(0);
                ring.last = self.cpu.current;
                self.cpu.all_mut().iter_mut().for_each(|c| c.tracing = true);
            }
            _ => self.cpu.all_mut().iter_mut().for_each(|c| c.tracing = false),
        }
        Ok([0; 2])
    }

    /// Lengthens the ring by the frame in `source`.
    fn trace_add(&mut self, source: Obj<Slot>) -> Result<(), Error> {
        let (cap, ring) = (source.cap(), &mut self.trace);
        if !cap.is(ObjType::Frame) {
            return Err(Error::WrongType);
        }
        if cap.device() || !cap.rights().contains(Rights::WRITE) {
            return Err(Error::NoRights);
        }
        if self.cpu.tracing {
            return Err(Error::Busy);
        }
        let slot = ring.frames.get(ring.count()).ok_or(Error::Occupied)?;
        // Frames behind a gap count too: they are of that size once the gap is filled.
        let filled = ring.frames.iter().find(|s| !s.is_empty());
        if filled.is_some_and(|f| f.cap().size_bits() != cap.size_bits()) {
            return Err(Error::Range);
        }
        ring.size = 1 << cap.size_bits();
        mdb::insert(cap.with_data(0), source, Obj::of(slot), false);
        Ok(())
    }
}
