//! Sockets against a netd that does what a script says, over real session memory.

extern crate std;

mod options;
mod poll;
mod sockets;

use core::sync::atomic::Ordering::*;
use core::time::Duration;
use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

use libipc::msg::CallError;
use libipc::ring::{Consumer, Producer};
use libipc::sock::{Dgram, Error, IdEntry, Layout, REPEATED, Record, Reply, Request, State, event};

use super::*;
use crate::mem::SessionMem;
use crate::mem::testing::{Region, session};
use crate::runtime::{Port, Runtime, signal};

const SOCKETS: u32 = 4;
/// Every socket's rings: 4 KiB at `id << 12`.
const RING: u32 = 4096;
/// Sequence numbers that wrap soon.
const ISS: u32 = u32::MAX - 100;
const IRS: u32 = u32::MAX - 200;

type Action = Box<dyn FnOnce(&Netd)>;

/// netd, sockd and the kernel.
struct Netd {
    mem: SessionMem,
    tx: Region,
    rx: Region,
    ready: RefCell<Producer<IdEntry>>,
    submit: RefCell<Option<Consumer<IdEntry>>>,
    /// What happens while the program sleeps, one at a time.
    script: RefCell<VecDeque<Action>>,
    calls: RefCell<Vec<(u16, Request)>>,
    /// What sockd answers next, instead of the usual.
    answers: RefCell<VecDeque<Result<Result<Reply, Error>, CallError>>>,
    now: Cell<u64>,
    armed: Cell<Option<u64>>,
    wakes: Cell<u32>,
}

impl Netd {
    fn record(&self, id: u32) -> &'static Record {
        self.mem.record(id)
    }

    fn set_state(&self, id: u32, state: State) {
        self.record(id).state.store(state as u16, Release);
        self.announce(id);
    }

    fn announce(&self, id: u32) {
        let mut ready = self.ready.borrow_mut();
        // At most once until it was consumed, as the contract says.
        if ready.space().is_ok()
            && (ready.released()..ready.index()).any(|i| ready.peek(i) == Some([id as u64]))
        {
            return;
        }
        assert!(matches!(ready.push([id as u64]), Ok(true)));
        let _ = ready.publish();
    }

    /// The record of a connection that stands.
    fn establish(&self, id: u32) {
        let r = self.record(id);
        r.iss.store(ISS, Relaxed);
        r.irs.store(IRS, Relaxed);
        r.rcv
            .store((IRS.wrapping_add(1 + RING) as u64) << 32 | IRS.wrapping_add(1) as u64, Relaxed);
        let first = ISS.wrapping_add(1) as u64;
        r.snd.store(first << 32 | first, Relaxed);
        r.events.store(event::ESTABLISHED, Release);
        r.state.store(State::Established as u16, Release);
        self.announce(id);
    }

    /// Bytes of the peer arrive.
    fn deliver(&self, id: u32, bytes: &[u8]) {
        let r = self.record(id);
        let at = r.received();
        for (i, b) in bytes.iter().enumerate() {
            let offset = (at as usize + i) % RING as usize;
            self.rx.write((id * RING) as usize + offset, &[*b]);
        }
        let nxt = (r.rcv.load(Relaxed) as u32).wrapping_add(bytes.len() as u32);
        r.rcv.store((nxt.wrapping_add(RING) as u64) << 32 | nxt as u64, Release);
        self.announce(id);
    }

    fn deliver_fin(&self, id: u32) {
        let r = self.record(id);
        let nxt = (r.rcv.load(Relaxed) as u32).wrapping_add(1);
        r.rcv.store((nxt.wrapping_sub(1) as u64) << 32 | nxt as u64, Release);
        r.events.fetch_or(event::PEER_FIN, Release);
        self.announce(id);
    }

    /// The bytes at counts `from..tail` of a send ring.
    fn sent(&self, id: u32, from: u64) -> Vec<u8> {
        let tail = self.mem.app_sock(id).tx_tail.load(Acquire);
        assert!(tail - from <= RING as u64);
        let mut out = vec![0; (tail - from) as usize];
        for (i, b) in out.iter_mut().enumerate() {
            let offset = (from as usize + i) % RING as usize;
            self.tx.read((id * RING) as usize + offset, core::slice::from_mut(b));
        }
        out
    }

    /// The peer acknowledges all but `left` bytes.
    fn acknowledge(&self, id: u32, left: u32) {
        let tail = self.mem.app_sock(id).tx_tail.load(Acquire) as u32;
        let una = ISS.wrapping_add(1).wrapping_add(tail).wrapping_sub(left);
        self.record(id).snd.store((una as u64) << 32 | una as u64, Release);
        self.announce(id);
    }

    fn submitted(&self) -> Vec<u64> {
        let mut ring = self.submit.borrow_mut();
        let ring = ring.get_or_insert_with(|| self.mem.submit().consumer().unwrap());
        let ids = core::iter::from_fn(|| ring.pop().unwrap().map(|[id]| id)).collect();
        ring.release();
        ids
    }

    fn deliver_datagram(&self, id: u32, from: core::net::SocketAddr, bytes: &[u8]) {
        self.deliver_entry(id, &Dgram::new(Some(from), bytes.len() as u16), bytes);
    }

    fn deliver_entry(&self, id: u32, header: &Dgram, bytes: &[u8]) {
        let r = self.record(id);
        let at = r.rcv.load(Relaxed);
        for (i, b) in header.to_bytes().iter().chain(bytes).enumerate() {
            let offset = (at as usize + i) % RING as usize;
            self.rx.write((id * RING) as usize + offset, &[*b]);
        }
        r.rcv.store(at + Dgram::space(bytes.len()), Release);
        self.announce(id);
    }

    fn socket(&self, id: u32, state: State) -> Reply {
        self.record(id).state.store(state as u16, Release);
        let off = id * RING;
        Reply::Socket { id, tx_off: off, tx_size: RING, rx_off: off, rx_size: RING, peer: None }
    }

    fn serve(&self, request: &Request) -> Result<Reply, Error> {
        Ok(match *request {
            Request::OpenSession => {
                *self.ready.borrow_mut() = self.mem.ready().producer_at_head().unwrap();
                let _ = self.mem.submit().consumer_at_tail();
                Reply::Session { session: 0, sockets: SOCKETS }
            }
            Request::Socket { .. } => {
                let free = (0..SOCKETS).find(|id| self.record(*id).state() == State::Free);
                self.socket(free.ok_or(Error::TooManySockets)?, State::Open)
            }
            Request::Listen { id, .. } => {
                self.record(id).state.store(State::Listen as u16, Release);
                Reply::Done
            }
            Request::Connect { id, .. } => {
                if self.record(id).kind.load(Relaxed) == 0 {
                    self.record(id).state.store(State::SynSent as u16, Release);
                }
                Reply::Done
            }
            Request::Accept { id } => {
                let pending = &self.record(id).pending;
                if pending.load(Relaxed) == 0 {
                    return Err(Error::WouldBlock);
                }
                pending.store(pending.load(Relaxed) - 1, Relaxed);
                let free = (0..SOCKETS).find(|id| self.record(*id).state() == State::Free);
                let id = free.ok_or(Error::TooManySockets)?;
                let reply = self.socket(id, State::Established);
                self.establish(id);
                reply
            }
            Request::Close { id, .. } => {
                let r = self.record(id);
                for word in [&r.rcv, &r.snd] {
                    word.store(0, Relaxed);
                }
                r.error.store(0, Relaxed);
                r.events.store(0, Relaxed);
                r.state.store(State::Free as u16, Release);
                Reply::Done
            }
            _ => Reply::Done,
        })
    }
}

struct Kernel(Rc<Netd>);

impl Port for Kernel {
    fn sockd(&self, method: u16, request: &Request) -> Result<Result<Reply, Error>, CallError> {
        self.0.calls.borrow_mut().push((method, *request));
        match self.0.answers.borrow_mut().pop_front() {
            Some(answer) => answer,
            None => Ok(self.0.serve(request)),
        }
    }
    fn wake_netd(&self) {
        self.0.wakes.set(self.0.wakes.get() + 1);
    }
    fn wait(&self, wake: bool) -> u64 {
        if wake {
            self.wake_netd();
        }
        let action = self.0.script.borrow_mut().pop_front();
        if let Some(action) = action {
            action(&self.0);
            return signal::NETD;
        }
        let Some(deadline) = self.0.armed.take() else { panic!("the program sleeps for ever") };
        self.0.now.set(deadline.max(self.0.now.get()));
        signal::TIMER
    }
    fn arm(&self, deadline_ns: u64) {
        self.0.armed.set(Some(deadline_ns));
    }
    fn now_ns(&self) -> u64 {
        self.0.now.get()
    }
    fn forget_rings(&self) {
        for offset in (0..Layout::PRODUCER + 64).step_by(8) {
            self.0.mem.app_word(offset).store(0, Relaxed);
        }
    }
    fn session_mem(&self, _: u32) -> Option<SessionMem> {
        Some(self.0.mem)
    }
}

fn world() -> (&'static Runtime, Rc<Netd>) {
    let len = (SOCKETS * RING) as usize;
    let (mem, tx, rx) = session(SOCKETS, len, len);
    let netd = Rc::new(Netd {
        mem,
        tx,
        rx,
        ready: RefCell::new(mem.ready().producer().unwrap()),
        submit: RefCell::new(None),
        script: Default::default(),
        calls: Default::default(),
        answers: Default::default(),
        now: Cell::new(1_000),
        armed: Cell::new(None),
        wakes: Cell::new(0),
    });
    (Runtime::with_port(Box::new(Kernel(netd.clone())), None), netd)
}

fn script(netd: &Netd, action: impl FnOnce(&Netd) + 'static) {
    netd.script.borrow_mut().push_back(Box::new(action));
}

fn addr() -> core::net::SocketAddr {
    ([10, 0, 2, 2], 80).into()
}

/// A connection with id 0.
fn connected() -> (TcpStream, Rc<Netd>) {
    let (rt, netd) = world();
    script(&netd, |n| n.establish(0));
    let stream = TcpStream::connect(rt, addr()).unwrap();
    assert_eq!(stream.id(), 0);
    (stream, netd)
}

fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|i| ((i * 31) >> 3) as u8).collect()
}
