//! A session without the client library: calls, words and rings by hand.

use abi::{CPtr, MsgInfo};
use core::net::SocketAddr;
use core::sync::atomic::Ordering::*;
use libipc::msg::{self, VERSION, interface};
use libipc::ring::Producer;
use libipc::sock::{Dgram, Error, IdEntry, Kind, Layout, Reply, Request, State};
use libipc::start::{Region, StartInfo};
use libipc::sys;
use userland::mem::{SessionMem, forget_rings};

use super::{Told, Why, raw};

/// Sockets of its session, as the manifest says.
pub const SOCKETS: u32 = 16;
/// Bytes of a ring.
pub const RING: u32 = 4096;
/// The echo server.
pub const ECHO: u16 = 7;
/// How long to wait for what must come.
const PATIENCE_MS: u64 = 3000;

/// A socket that it has.
#[derive(Clone, Copy)]
pub struct Sock {
    pub id: u32,
    pub tx_off: u32,
}

/// See the [module](self).
pub struct Liar {
    pub start: &'static StartInfo,
    pub mem: SessionMem,
    pub sockd: CPtr,
    bell: CPtr,
    pub submit: Producer<IdEntry>,
    number: u16,
    /// An honest socket, bound to an address of its own, and where that is.
    pub honest: Sock,
    pub at: SocketAddr,
}

/// Waits.
pub fn sleep_until(start: &StartInfo, deadline_ns: u64) {
    let (Some(timer), Some(events)) = (start.cap("timer"), start.cap("events")) else { return };
    while start.now_ns() < deadline_ns {
        if sys::arm(timer, deadline_ns).is_err() || sys::wait(events).is_err() {
            return;
        }
    }
}

impl Liar {
    /// Opens the session and an honest socket in it.
    pub fn new(start: &'static StartInfo) -> Result<Self, Why> {
        let missing = Why::Says("the manifest entry is incomplete");
        let sockd = start.cap("sockd").ok_or(missing)?;
        let bell = start.cap("netd.events").ok_or(missing)?;
        forget_rings(start);
        open_session(start, sockd)?;
        let mem = SessionMem::of_process(start, SOCKETS).ok_or(missing)?;
        for id in 0..SOCKETS {
            mem.app_sock(id).tx_tail.store(0, Relaxed);
            mem.app_sock(id).rx_head.store(0, Relaxed);
        }
        let submit =
            mem.submit().producer().map_err(|_| Why::Says("the submit ring is damaged"))?;
        let honest = Sock { id: 0, tx_off: 0 };
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut liar = Self { start, mem, sockd, bell, submit, number: 1, honest, at };
        liar.honest = liar.socket(Kind::Udp)?;
        liar.at = liar.bind(liar.honest, 0)?;
        Ok(liar)
    }

    /// Ends the session and begins another, with another honest socket.
    pub fn reopen(&mut self) -> Told {
        forget_rings(self.start);
        open_session(self.start, self.sockd)?;
        for id in 0..SOCKETS {
            self.mem.app_sock(id).tx_tail.store(0, Relaxed);
            self.mem.app_sock(id).rx_head.store(0, Relaxed);
        }
        self.submit =
            self.mem.submit().producer().map_err(|_| Why::Says("the submit ring is damaged"))?;
        self.honest = self.socket(Kind::Udp)?;
        self.at = self.bind(self.honest, 0)?;
        Ok(())
    }

    /// The region that the manifest calls `name`.
    pub fn region(&self, name: &str) -> Result<&'static Region, Why> {
        self.start.region(name).ok_or(Why::Says("a region is missing"))
    }

    /// A request to sockd.
    pub fn ask(&mut self, request: Request) -> Result<Reply, Error> {
        self.number = (self.number + 1) & 0x7fff;
        ask(self.sockd, self.number, request)
    }

    /// The number of the last call.
    pub fn last_number(&self) -> u16 {
        self.number
    }

    /// A message, whatever it says.
    pub fn message(&mut self, info: MsgInfo, payload: &[u8]) -> Result<Result<Reply, Error>, Why> {
        raw::payload(payload);
        let ret =
            sys::call(self.sockd, info, [0; 4]).map_err(|_| Why::Says("the kernel refused"))?;
        msg::decode(ret.info).ok_or(Why::Says("sockd answered nonsense"))
    }

    /// The word of an honest request of this length.
    pub fn info(&self, len: usize) -> MsgInfo {
        MsgInfo::new(interface::SOCK, VERSION, 1, len)
    }

    /// A new socket with small rings.
    pub fn socket(&mut self, kind: Kind) -> Result<Sock, Error> {
        self.ask(Request::Socket { kind, tx: RING, rx: RING }).and_then(made)
    }

    /// Binds to loopback.
    pub fn bind(&mut self, sock: Sock, port: u16) -> Result<SocketAddr, Error> {
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        match self.ask(Request::Bind { id: sock.id, addr })? {
            Reply::Addresses { local, .. } => Ok(local),
            _ => Err(Error::Server),
        }
    }

    /// A connection to the echo server of this system.
    pub fn stream(&mut self) -> Result<Sock, Why> {
        let sock = self.socket(Kind::Tcp)?;
        let addr = SocketAddr::from(([127, 0, 0, 1], ECHO));
        self.ask(Request::Connect { id: sock.id, addr })?;
        let record = self.mem.record(sock.id);
        if !self.wait(|| record.state() == State::Established) {
            return Err(Why::Says("the echo server does not answer"));
        }
        Ok(sock)
    }

    /// Writes into a send ring at count `at`.
    pub fn write(&self, sock: Sock, at: u32, bytes: &[u8]) {
        let start = (at % RING) as usize;
        let (now, later) = bytes.split_at(bytes.len().min(RING as usize - start));
        for (offset, piece) in [(start, now), (0, later)] {
            let offset = sock.tx_off as usize + offset;
            self.mem.with_tx(offset, piece.len(), |to| to.copy_from_slice(piece));
        }
    }

    /// Sends a datagram honestly: when there is room for it. netd may have used up its budget.
    pub fn send(&mut self, sock: Sock, header: Dgram, len: u32) {
        let (words, record) = (self.mem.app_sock(sock.id), self.mem.record(sock.id));
        let tail = words.tx_tail.load(Relaxed);
        let end = tail + Dgram::space(len as usize);
        self.wait(|| end.saturating_sub(record.dgram_tx_head()) <= RING as u64);
        self.write(sock, tail as u32, &header.to_bytes());
        words.tx_tail.store(end, Release);
        self.tell(sock.id as u64);
    }

    /// Sends itself a datagram of a byte; it takes 48 bytes of both rings.
    pub fn greet(&mut self, sock: Sock, to: SocketAddr) {
        self.send(sock, Dgram::new(Some(to), 1), 1);
    }

    /// Submits an id and signals, when there is room for it: netd may be behind.
    pub fn tell(&mut self, id: u64) {
        let end = self.start.now_ns() + PATIENCE_MS * 1_000_000;
        while !self.try_tell(id) && self.start.now_ns() < end {
            sleep_until(self.start, self.start.now_ns() + 1_000_000);
        }
    }

    /// Submits an id, if there is room for it, and signals.
    pub fn try_tell(&mut self, id: u64) -> bool {
        let told = self.submit.push([id]) != Ok(false);
        let _ = self.submit.publish();
        self.ring();
        told
    }

    /// Signals netd.
    pub fn ring(&self) {
        sys::signal(self.bell);
    }

    /// Waits for `enough`; whether it came.
    pub fn wait(&self, mut enough: impl FnMut() -> bool) -> bool {
        let end = self.start.now_ns() + PATIENCE_MS * 1_000_000;
        loop {
            if enough() {
                return true;
            }
            if self.start.now_ns() > end {
                return false;
            }
            sleep_until(self.start, self.start.now_ns() + 1_000_000);
        }
    }

    /// Takes what has arrived at a datagram socket.
    pub fn drain(&mut self, sock: Sock) {
        let arrived = self.mem.record(sock.id).dgram_rx_tail();
        self.mem.app_sock(sock.id).rx_head.store(arrived, Release);
        self.tell(sock.id as u64);
    }

    /// Whether the session goes on: a datagram goes round, and sockd answers.
    pub fn still_works(&mut self) -> Told {
        let record = self.mem.record(self.honest.id);
        self.drain(self.honest);
        let before = record.dgram_rx_tail();
        let (honest, at) = (self.honest, self.at);
        self.greet(honest, at);
        if !self.wait(|| record.dgram_rx_tail() > before) {
            return Err(Why::Says("its session does not work any more"));
        }
        match self.ask(Request::Addresses { id: honest.id }) {
            Ok(Reply::Addresses { local, .. }) if local == at => Ok(()),
            Ok(_) => Err(Why::Says("its socket has another address")),
            Err(e) => Err(Why::Call(e)),
        }
    }

    /// Whether the session ends: its honest socket does.
    pub fn session_ends(&mut self) -> Told {
        let record = self.mem.record(self.honest.id);
        if !self.wait(|| matches!(record.state(), State::Closed | State::Free)) {
            return Err(Why::Says("its session goes on"));
        }
        match self.ask(Request::Addresses { id: self.honest.id }) {
            Err(Error::NoSession) => Ok(()),
            other => Err(Why::Other(other.err())),
        }
    }
}

fn open_session(start: &StartInfo, sockd: CPtr) -> Result<(), Error> {
    let end = start.now_ns() + PATIENCE_MS * 1_000_000;
    loop {
        match ask(sockd, 1, Request::OpenSession) {
            Err(Error::WouldBlock) if start.now_ns() < end => {
                sleep_until(start, start.now_ns() + 1_000_000);
            }
            other => return other.map(|_| ()),
        }
    }
}

fn ask(sockd: CPtr, number: u16, request: Request) -> Result<Reply, Error> {
    msg::call(sockd, interface::SOCK, number, &request).unwrap_or(Err(Error::Server))
}

/// The socket in a reply.
pub fn made(reply: Reply) -> Result<Sock, Error> {
    match reply {
        Reply::Socket { id, tx_off, .. } if id < SOCKETS => Ok(Sock { id, tx_off }),
        _ => Err(Error::Server),
    }
}

/// The error that a call must end with.
pub fn refused(result: Result<Reply, Error>, want: Error) -> Told {
    match result {
        Err(e) if e == want => Ok(()),
        other => Err(Why::Other(other.err())),
    }
}

/// Where its own side of the submit ring lies in `app`.
pub const SUBMIT: usize = Layout::PRODUCER;
