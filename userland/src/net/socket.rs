//! What all sockets share: their words, their rings, waiting, closing.

use alloc::collections::VecDeque;
use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use core::sync::atomic::Ordering::*;
use core::task::Poll;
use core::time::Duration;
use libipc::sock::{AppSock, Error, Kind, Record, Reply, Request, State, event, ip_from_words};

use super::{Opts, Undelivered};
use crate::mem::SessionMem;
use crate::runtime::{Instant, Runtime};

/// A socket of this program.
pub(super) struct Socket {
    pub rt: &'static Runtime,
    pub id: u32,
    mem: SessionMem,
    tx_off: usize,
    tx_mask: u64,
    rx_off: usize,
    rx_mask: u64,
    pub nonblocking: Cell<bool>,
    pub read_timeout: Cell<Option<Duration>>,
    pub write_timeout: Cell<Option<Duration>>,
    /// SO_LINGER, see [`super::Opts::set_linger`].
    pub linger: Cell<Option<u16>>,
    /// How far the send ring may be filled (SO_SNDBUF).
    pub tx_limit: Cell<u64>,
    /// The program has said so.
    pub tx_locked: Cell<bool>,
    /// `rx_head` when netd was last told of it.
    told: Cell<u64>,
    /// netd is told of every read.
    pub eager: Cell<bool>,
    /// The error that was reported last, of a stream.
    pub reported: Cell<Option<Error>>,
    /// How many of a datagram socket's errors were told.
    pub told_errors: Cell<u32>,
    /// Its error queue, and up to where the receive ring was searched for entries.
    pub notices: RefCell<VecDeque<Undelivered>>,
    pub gathered: Cell<u64>,
}

impl Socket {
    /// How far the send ring may be filled: as SO_SNDBUF says, else as the stack thinks right, which grows with what
    /// the path carries.
    pub fn send_limit(&self) -> u64 {
        let limit = self.tx_limit.get();
        match self.record().send_limit() as u64 {
            right if right != 0 && !self.tx_locked.get() => limit.min(right),
            _ => limit,
        }
    }

    /// A new socket.
    pub fn open(rt: &'static Runtime, kind: Kind, tx: u32, rx: u32) -> Result<Self, Error> {
        rt.session()?;
        Self::from_reply(rt, rt.call(&Request::Socket { kind, tx, rx })?).map(|s| s.0)
    }

    /// The socket that sockd handed out, and its peer.
    pub fn from_reply(
        rt: &'static Runtime,
        reply: Reply,
    ) -> Result<(Self, Option<SocketAddr>), Error> {
        let Reply::Socket { id, tx_off, tx_size, rx_off, rx_size, peer } = reply else {
            return Err(Error::Server);
        };
        let mem = rt.session()?.mem;
        if id >= mem.sockets() || !mem.holds(tx_off, tx_size, rx_off, rx_size) {
            return Err(Error::Server);
        }
        let socket = Self {
            rt,
            id,
            mem,
            tx_off: tx_off as usize,
            tx_mask: tx_size as u64 - 1,
            rx_off: rx_off as usize,
            rx_mask: rx_size as u64 - 1,
            nonblocking: Cell::new(false),
            read_timeout: Cell::new(None),
            write_timeout: Cell::new(None),
            linger: Cell::new(None),
            tx_limit: Cell::new(tx_size as u64),
            tx_locked: Cell::new(false),
            told: Cell::new(0),
            eager: Cell::new(false),
            reported: Cell::new(None),
            told_errors: Cell::new(0),
            notices: RefCell::default(),
            gathered: Cell::new(0),
        };
        // What was announced of the id's last user says nothing about this one, but a first look
        // is due: a connection may have brought data along.
        rt.set_news(id);
        let peer = peer.map(|peer| socket.in_scope(peer));
        Ok((socket, peer))
    }

    pub fn record(&self) -> &'static Record {
        self.mem.record(self.id)
    }

    pub fn words(&self) -> &'static AppSock {
        self.mem.app_sock(self.id)
    }

    /// Bytes ever written.
    pub fn tx_tail(&self) -> u64 {
        self.words().tx_tail.load(Relaxed)
    }

    /// Bytes ever read.
    pub fn rx_head(&self) -> u64 {
        self.words().rx_head.load(Relaxed)
    }

    pub fn opts(&self) -> Opts<'_> {
        Opts::new(self)
    }

    pub fn tx_size(&self) -> u64 {
        self.tx_mask + 1
    }

    pub fn rx_size(&self) -> u64 {
        self.rx_mask + 1
    }

    /// Publishes what was written up to `tail` and tells netd.
    pub fn publish(&self, tail: u64) {
        self.words().tx_tail.store(tail, Release);
        self.rt.submit(self.id);
    }

    /// See [`super::TcpStream::set_user_timeout`].
    pub fn set_user_timeout(&self, timeout: Option<Duration>) {
        // Not 0, which means none.
        let ms = timeout.map_or(0, |t| t.as_millis().clamp(1, u32::MAX as u128) as u32);
        self.words().user_timeout_ms.store(ms, Relaxed);
    }

    /// Publishes what was read up to `head`. netd is told when it may matter to the peer: a
    /// quarter of the ring has been read since, or `eager`.
    pub fn consumed(&self, head: u64, eager: bool) {
        self.words().rx_head.store(head, Release);
        if eager || head - self.told.get() >= self.rx_size() / 4 {
            self.told.set(head);
            self.rt.submit(self.id);
        }
    }

    /// As [`Self::consumed`], of a stream, which may be offered less than its ring: then a quarter of
    /// that matters.
    pub fn read_up_to(&self, head: u64) {
        let record = self.record();
        let told = self.told.get();
        let edge = (record.rcv.load(Acquire) >> 32) as u32;
        let first = record.irs.load(Relaxed).wrapping_add(1);
        let offered = edge.wrapping_sub(first).wrapping_sub(told as u32);
        self.consumed(head, self.eager.get() || head - told >= offered as u64 / 4);
    }

    /// Bytes from one ring into the other, with no buffer between: what arrived at count `from`
    /// goes to count `to` of the send ring.
    pub fn copy_across(&self, from: u64, to: u64, len: usize) -> Result<(), Error> {
        let mut at = from;
        let mut whole = true;
        self.fill(to, len, &mut |part| {
            whole &= self.copy_out(at, part).is_ok();
            at += part.len() as u64;
            part.len()
        })?;
        if whole { Ok(()) } else { Err(Error::Server) }
    }

    /// Copies received bytes at count `at`; they must have arrived.
    pub fn copy_out(&self, at: u64, into: &mut [u8]) -> Result<(), Error> {
        let start = (at & self.rx_mask) as usize;
        let first = into.len().min(self.rx_size() as usize - start);
        let (a, b) = into.split_at_mut(first);
        let whole = self.mem.read_rx(self.rx_off + start, a) && self.mem.read_rx(self.rx_off, b);
        if whole { Ok(()) } else { Err(Error::Server) }
    }

    /// Copies bytes into the send ring at count `at`; the room must be free.
    pub fn copy_in(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut from = bytes;
        self.fill(at, bytes.len(), &mut |to| {
            let (now, later) = from.split_at(to.len());
            to.copy_from_slice(now);
            from = later;
            to.len()
        })
        .map(|_| ())
    }

    /// Lends `f` the free room at count `at`, `len` bytes in one piece or two, and sums what it
    /// filled. It stops when `f` fills less than it was given.
    pub fn fill(
        &self,
        at: u64,
        len: usize,
        f: &mut dyn FnMut(&mut [u8]) -> usize,
    ) -> Result<usize, Error> {
        let start = (at & self.tx_mask) as usize;
        let len = len.min(self.tx_size() as usize);
        let first = len.min(self.tx_size() as usize - start);
        let mut done = 0;
        for (offset, n) in [(start, first), (0, len - first)] {
            if n == 0 {
                continue;
            }
            let filled = self.mem.with_tx(self.tx_off + offset, n, &mut *f).ok_or(Error::Server)?;
            done += filled.min(n);
            if filled < n {
                break;
            }
        }
        Ok(done)
    }

    /// The error that ended the socket, as the result of a call that found it ended.
    pub fn ended(&self) -> Error {
        match self.record().state() {
            // netd forgot it: the session was ended.
            State::Free => Error::ConnectionAborted,
            _ => self.record().error().unwrap_or(Error::NotConnected),
        }
    }

    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        let r = self.record();
        let ip = ip_from_words([r.local_ip[0].load(Relaxed), r.local_ip[1].load(Relaxed)]);
        Ok(self.in_scope(SocketAddr::new(ip, r.local_port.load(Relaxed))))
    }

    pub fn peer_addr(&self) -> Result<SocketAddr, Error> {
        let r = self.record();
        let ip = ip_from_words([r.remote_ip[0].load(Relaxed), r.remote_ip[1].load(Relaxed)]);
        match r.remote_port.load(Relaxed) {
            0 if ip.is_unspecified() => Err(Error::NotConnected),
            port => Ok(self.in_scope(SocketAddr::new(ip, port))),
        }
    }

    pub fn bind(&self, addr: SocketAddr) -> Result<(), Error> {
        self.enter_scope(addr)?;
        self.rt.call(&Request::Bind { id: self.id, addr }).map(|_| ())
    }

    pub fn connect(&self, addr: SocketAddr) -> Result<(), Error> {
        self.enter_scope(addr)?;
        self.rt.call(&Request::Connect { id: self.id, addr }).map(|_| ())
    }

    /// Whether the handshake was ever completed.
    pub fn was_established(&self) -> bool {
        self.record().events.load(Acquire) & event::ESTABLISHED != 0
    }

    /// `attempt` as a future: pending while it says [`Error::WouldBlock`].
    pub async fn when_ready<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        core::future::poll_fn(|context| match attempt() {
            Err(Error::WouldBlock) => {
                self.rt.wake_on_news(self.id, context.waker());
                Poll::Pending
            }
            other => Poll::Ready(other),
        })
        .await
    }

    /// Makes `attempt` until it does not say [`Error::WouldBlock`]; in between, waits for news
    /// unless the socket is non-blocking.
    pub fn retry<T>(
        &self,
        timeout: Option<Duration>,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut deadline: Option<Instant> = None;
        loop {
            match attempt() {
                Err(Error::WouldBlock) if !self.nonblocking.get() => {}
                other => return other,
            }
            if deadline.is_none() {
                deadline = timeout.map(|t| self.rt.now() + t);
            }
            self.rt.wait_for(self.id, deadline)?;
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let abort = self.linger.get() == Some(0);
        if let Some(seconds @ 1..) = self.linger.get() {
            self.linger_for(Duration::from_secs(seconds.into()));
        }
        let _ = self.rt.call(&Request::Close { id: self.id, abort });
        // Not earlier: netd reads `tx_tail` once more while the call lasts.
        self.words().clear();
        self.rt.forget(self.id);
    }
}
