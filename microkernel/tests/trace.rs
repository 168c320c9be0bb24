//! The trace: what is recorded, that both paths record the same, and that the ring stays in its
//! frames.

mod common;

use abi::{Error, Label, MsgInfo, ObjType, Rights, Syscall, TraceKind, TraceRecord, UserRegs};
use common::*;
use microkernel::Obj;
use microkernel::thread::Tcb;

const TRACE: u64 = TRACE_SLOT;
const RING: u64 = FREE;
const EP: u64 = FREE + 8;
const REPLY: u64 = FREE + 9;
/// The endpoint as the client has it.
const CALL: u64 = FREE + 20;
const NTFN: u64 = FREE + 10;
const SERVER: u64 = FREE + 12;
const CLIENT: u64 = FREE + 16;

struct Traced {
    w: World,
    server: Obj<Tcb>,
    client: Obj<Tcb>,
}

impl Traced {
    /// A server that waits, a client that runs, and a ring of so many pages, not started.
    fn new(pages: u64) -> Self {
        let mut w = World::new();
        w.retype(ObjType::Frame, 12, RING, pages).unwrap();
        for i in 0..pages {
            w.invoke(TRACE, Label::TraceAdd, [RING + i, 0, 0, 0, 0, 0]).unwrap();
        }
        w.retype(ObjType::Endpoint, 0, EP, 1).unwrap();
        w.retype(ObjType::Reply, 0, REPLY, 1).unwrap();
        w.retype(ObjType::Notification, 0, NTFN, 1).unwrap();
        w.mint(CALL, EP, 7).unwrap();
        let (server, client) = (w.thread(SERVER, 60), w.thread(CLIENT, 50));
        for (slot, name, number) in [(SERVER, b"server\0\0", 3), (CLIENT, b"client\0\0", 4)] {
            let words = [u64::from_le_bytes(*name), 0, number, 0, 0, 0];
            w.invoke(slot, Label::ThreadSetName, words).unwrap();
        }
        w.root.priority.set(1);
        w.k.cpu.current = Some(w.root);
        w.k.schedule();
        let mut t = Self { w, server, client };
        t.call(
            server,
            Syscall::Recv,
            UserRegs { rdi: EP, r14: REPLY, ..UserRegs::default() },
            false,
        );
        t
    }
    fn call(&mut self, t: Obj<Tcb>, call: Syscall, regs: UserRegs, fast: bool) {
        t.regs.set(UserRegs { rax: call as u64, ..regs });
        if !(fast && self.w.k.fast_path(t)) {
            assert!(self.w.k.syscall(t).is_ok());
        }
        self.w.k.schedule();
    }
    /// As the root task, which does not run otherwise.
    fn trace(&mut self, label: Label, w: [u64; 3]) -> Result<(u64, u64), Error> {
        let current = self.w.k.cpu.current;
        let word = self.w.invoke(TRACE, label, [w[0], w[1], w[2], 0, 0, 0])?;
        let second = self.w.root.regs.get().r10;
        self.w.k.cpu.current = current;
        Ok((word, second))
    }
    fn round_trip(&mut self, fast: bool) {
        let client = self.client;
        self.w.buffer(client)[0] = 9;
        let info = MsgInfo::new(3, 1, 5, 2).0;
        let regs = UserRegs { rdi: CALL, rsi: info, ..UserRegs::default() };
        self.call(client, Syscall::Call, regs, fast);
        assert!(self.w.k.cpu.current == Some(self.server));
        let server = self.server;
        let info = MsgInfo::new(3, 1, 0, 0).0;
        let regs = UserRegs { rdi: EP, rsi: info, r14: REPLY, ..UserRegs::default() };
        self.call(server, Syscall::ReplyRecv, regs, fast);
        assert!(self.w.k.cpu.current == Some(client));
    }
    fn records(&mut self, page: u64) -> Vec<TraceRecord> {
        let at = self.w.slot(RING + page).cap().addr();
        let words = |i: usize| {
            // SAFETY: a frame of the arena, which nobody writes now.
            unsafe { *((at as usize + i * 32) as *const [u64; 4]) }
        };
        (0..128).map(|i| TraceRecord::from_words(words(i))).collect()
    }
}

#[test]
fn a_call_and_its_reply_read_back_the_same_from_both_paths() {
    let mut sides = [false, true].map(|fast| {
        let mut t = Traced::new(1);
        t.trace(Label::TraceStart, [0; 3]).unwrap();
        t.round_trip(fast);
        t.round_trip(fast);
        let (written, _) = t.trace(Label::TraceInfo, [0; 3]).unwrap();
        (t, written)
    });
    assert_eq!((sides[0].1, sides[1].1), (8, 8));
    let records = sides.each_mut().map(|(t, _)| t.records(0)[4..8].to_vec());
    for records in &records {
        let seen: Vec<_> =
            records.iter().map(|r| (r.kind().unwrap(), r.thread(), r.peer(), r.tag())).collect();
        let expected = [
            (TraceKind::Message, 4, 3, 9),
            (TraceKind::Switch, 3, 4, 0),
            (TraceKind::Reply, 3, 4, 0),
            (TraceKind::Switch, 4, 3, 0),
        ];
        assert_eq!(seen, expected);
        let m = records[0];
        assert_eq!(
            (m.info().interface(), m.info().method(), m.info().len(), m.code()),
            (3, 5, 2, 7)
        );
        assert_eq!(m.flags(), abi::trace_flag::CALL);
        assert_ne!(m.object(), 0);
    }
    let states = records.map(|r| [r[1].flags(), r[3].flags()]);
    assert_eq!(states, [[abi::trace_state::CALLING, abi::trace_state::RECEIVING]; 2]);
}

#[test]
fn everything_else_is_recorded_too() {
    let mut t = Traced::new(1);
    let client = t.client;
    t.w.mint(FREE + 22, NTFN, 0x10).unwrap();
    t.w.invoke(IRQ_CONTROL, Label::IrqGet, [9, 1, CNODE, FREE + 24, 0, 0]).unwrap();
    t.w.invoke(FREE + 24, Label::IrqSetNotification, [FREE + 22, 0, 0, 0, 0, 0]).unwrap();
    t.trace(Label::TraceStart, [0; 3]).unwrap();
    t.w.k.irq_fired(9);
    let regs = UserRegs { rdi: FREE + 24, r14: NTFN, ..UserRegs::default() };
    t.call(client, Syscall::AckWait, regs, false);
    t.trace(Label::TraceLog, [77, 5, 6]).unwrap();
    t.w.k.cpu.current = Some(client);
    assert!(t.w.k.fault(client, abi::FaultKind::Page, 0xdead, 4).is_err());
    let kinds: Vec<_> = t.records(0).iter().map_while(TraceRecord::kind).collect();
    let expected = [TraceKind::Irq, TraceKind::IrqAck, TraceKind::User, TraceKind::Fault];
    assert_eq!(kinds, expected);
    let records = t.records(0);
    assert_eq!((records[0].peer(), records[0].b, records[1].a), (9, 0x10, 9));
    assert_eq!((records[2].code(), records[2].a, records[2].b), (77, 5, 6));
    assert_eq!((records[3].thread(), records[3].a), (4, 0xdead));
}

#[test]
fn the_ring_wraps_inside_its_frames() {
    let mut t = Traced::new(2);
    t.w.retype(ObjType::Frame, 12, RING + 2, 1).unwrap();
    assert_eq!(t.trace(Label::TraceInfo, [0; 3]), Ok((0, 256)));
    t.trace(Label::TraceStart, [0; 3]).unwrap();
    assert_eq!(t.trace(Label::TraceAdd, [RING + 2, 0, 0]), Err(Error::Busy));
    for i in 0..300 {
        t.trace(Label::TraceLog, [1, i, 0]).unwrap();
    }
    assert_eq!(t.trace(Label::TraceInfo, [0; 3]), Ok((300, 256)));
    let (first, second) = (t.records(0), t.records(1));
    assert_eq!((first[0].a, first[43].a, first[44].a), (256, 299, 44));
    assert_eq!((second[0].a, second[127].a), (128, 255));
    assert!(t.records(2).iter().all(|r| r.head == 0));
    t.trace(Label::TraceStop, [0; 3]).unwrap();
    t.trace(Label::TraceLog, [1, 1000, 0]).unwrap();
    assert_eq!(t.trace(Label::TraceInfo, [0; 3]), Ok((300, 256)));
}

#[test]
fn frames_that_are_taken_back_are_not_written() {
    let mut t = Traced::new(2);
    t.trace(Label::TraceStart, [0; 3]).unwrap();
    for i in 0..130 {
        t.trace(Label::TraceLog, [1, i, 0]).unwrap();
    }
    t.w.revoke(RING + 1).unwrap();
    for i in 0..130 {
        t.trace(Label::TraceLog, [2, i, 0]).unwrap();
    }
    assert_eq!(t.records(1)[2].head, 0, "the trace ended at the frame that is gone");
    // The gap takes no frame of another size.
    t.trace(Label::TraceStop, [0; 3]).unwrap();
    t.w.retype(ObjType::Frame, 21, RING + 4, 1).unwrap();
    assert_eq!(t.trace(Label::TraceAdd, [RING + 4, 0, 0]), Err(Error::Range));
    t.w.revoke(RING).unwrap();
    assert_eq!(t.trace(Label::TraceStart, [0; 3]), Err(Error::NoMemory));
}

#[test]
fn rights_decide_who_may_do_what() {
    let mut t = Traced::new(1);
    for (slot, rights) in [(RING + 5, Rights::WRITE), (RING + 6, Rights::READ)] {
        t.w.copy(slot, TRACE, rights).unwrap();
    }
    let mut may = |slot, label, word| t.w.invoke(slot, label, [word, 0, 0, 0, 0, 0]).map(|_| ());
    let no = Err(Error::NoRights);
    for (label, writer, reader) in [
        (Label::TraceLog, Ok(()), no),
        (Label::TraceInfo, no, Ok(())),
        (Label::TraceStart, no, no),
        (Label::TraceStop, no, no),
        (Label::TraceAdd, no, no),
    ] {
        assert_eq!((may(RING + 5, label, RING), may(RING + 6, label, RING)), (writer, reader));
    }
    assert_eq!(may(TRACE, Label::TraceLog, abi::TRACE_CODE_MAX + 1), Err(Error::Range));
    assert_eq!(may(TRACE, Label::TraceAdd, EP), Err(Error::WrongType));
    assert_eq!(may(TRACE, Label::UntypedInfo, 0), Err(Error::WrongType));
}
