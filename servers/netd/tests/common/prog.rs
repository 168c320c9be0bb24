//! A program: its session's rings and words.

use super::memory::ring;
use super::{HostSpec, SessionRegions};
use libipc::net::{Rings, SockId};
use libipc::ring::{Consumer, Producer};
use libipc::sock::{AppSock, Dgram, IdEntry, Layout, Record, State, event, ip_from_words};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::*;

/// A program, and sockd's part for it.
pub struct Prog {
    pub session: u16,
    pub regions: SessionRegions,
    layout: Layout,
    pub tx_bits: u8,
    rx_bits: u8,
    pub submit: Option<Producer<IdEntry>>,
    pub ready: Option<Consumer<IdEntry>>,
    /// It has rung.
    pub bell: bool,
    /// netd has signalled.
    pub signalled: bool,
    /// Ids in use.
    pub(super) used: Vec<bool>,
    /// Full positions, of which netd sees the words.
    pub tail: Vec<u64>,
    pub head: Vec<u64>,
}

impl Prog {
    pub fn new(session: u16, regions: SessionRegions, spec: &HostSpec) -> Self {
        let n = spec.sockets as usize;
        let mut prog = Self {
            session,
            regions,
            layout: Layout { sockets: spec.sockets },
            tx_bits: spec.tx_bits,
            rx_bits: spec.rx_bits,
            submit: None,
            ready: None,
            bell: false,
            signalled: false,
            used: vec![false; n],
            tail: vec![0; n],
            head: vec![0; n],
        };
        prog.attach();
        prog
    }

    /// Attaches the ring ends where they stand, as at the beginning of a session.
    pub fn attach(&mut self) {
        let r = self.regions;
        let n = self.layout.sockets;
        let submit =
            ring::<IdEntry>((r.app, Layout::PRODUCER), (r.net, Layout::SUBMIT_CONSUMER), n);
        let ready = ring::<IdEntry>((r.net, Layout::PRODUCER), (r.app, Layout::READY_CONSUMER), n);
        self.submit = submit.producer().ok();
        self.ready = ready.consumer().ok();
    }

    pub fn record(&self, id: u16) -> &'static Record {
        &self.regions.net.view::<Record>(self.layout.record(id as u32), 1)[0]
    }
    pub fn app(&self, id: u16) -> &'static AppSock {
        &self.regions.app.view::<AppSock>(self.layout.app_sock(id as u32), 1)[0]
    }
    pub fn state(&self, id: u16) -> State {
        self.record(id).state()
    }
    pub fn sock(&self, id: u16) -> SockId {
        SockId { session: self.session, id }
    }
    pub fn rings(&self, id: u16) -> Rings {
        Rings {
            tx_off: (id as u32) << self.tx_bits,
            tx_bits: self.tx_bits,
            rx_off: (id as u32) << self.rx_bits,
            rx_bits: self.rx_bits,
        }
    }
    /// An unused id.
    pub fn id(&mut self) -> u16 {
        let id = self.used.iter().position(|u| !u).expect("ids are left");
        self.used[id] = true;
        id as u16
    }
    pub fn give_back(&mut self, id: u16) {
        assert!(std::mem::replace(&mut self.used[id as usize], false), "id {id} freed twice");
        self.clear(id);
    }
    pub fn in_use(&self) -> usize {
        self.used.iter().filter(|u| **u).count()
    }
    /// What a program does when it gives an id back.
    pub fn clear(&mut self, id: u16) {
        (self.tail[id as usize], self.head[id as usize]) = (0, 0);
        self.app(id).tx_tail.store(0, Release);
        self.app(id).rx_head.store(0, Release);
    }

    pub fn submit(&mut self, id: u16) {
        if self.submit.is_none() {
            self.attach();
        }
        let submit = self.submit.as_mut().unwrap();
        assert!(submit.push([id as u64]).expect("netd is honest"), "submit ring full");
        self.bell |= submit.publish();
    }

    /// Ids with news.
    pub fn take_ready(&mut self) -> Vec<u16> {
        if self.ready.is_none() {
            self.attach();
        }
        let ready = self.ready.as_mut().expect("formatted at start");
        let mut ids = Vec::new();
        while let Some([id]) = ready.pop().expect("netd is honest") {
            ids.push(id as u16);
        }
        ready.release();
        // Nothing came in between: the test is single-threaded.
        assert!(ready.sleep().unwrap());
        ids
    }

    /// Free bytes in the send ring.
    pub fn room(&self, id: u16) -> u64 {
        let used = (self.tail[id as usize] as u32).wrapping_sub(self.record(id).acknowledged());
        (1u64 << self.tx_bits) - used as u64
    }
    /// Writes as much as fits of what `byte` yields for positions from the tail on; returns how
    /// much.
    pub fn write_with(&mut self, id: u16, most: u64, byte: impl Fn(u64) -> u8) -> u64 {
        let n = most.min(self.room(id));
        let at = self.tail[id as usize];
        self.put(id, at, &(at..at + n).map(byte).collect::<Vec<_>>());
        self.tail[id as usize] += n;
        self.app(id).tx_tail.store(self.tail[id as usize], Release);
        n
    }
    pub fn write(&mut self, id: u16, bytes: &[u8]) {
        let at = self.tail[id as usize];
        let n = self.write_with(id, bytes.len() as u64, |i| bytes[(i - at) as usize]);
        assert_eq!(n, bytes.len() as u64, "send ring full");
        self.submit(id);
    }
    pub fn put(&self, id: u16, at: u64, bytes: &[u8]) {
        let (r, size) = (self.rings(id), 1u64 << self.tx_bits);
        for (i, b) in bytes.iter().enumerate() {
            let offset = r.tx_off as u64 + (at + i as u64) % size;
            assert!(self.regions.tx.bytes().write(offset as usize, &[*b]));
        }
    }
    /// Appends a datagram with its header.
    pub fn put_dgram(&mut self, id: u16, bytes: &[u8]) {
        let at = self.tail[id as usize];
        assert!(bytes.len() as u64 <= self.dgram_room(id));
        self.put(id, at, bytes);
        self.tail[id as usize] += bytes.len() as u64;
        self.app(id).tx_tail.store(self.tail[id as usize], Release);
    }
    /// Bytes free in the send ring of a datagram socket.
    pub fn dgram_room(&self, id: u16) -> u64 {
        (1 << self.tx_bits) - (self.tail[id as usize] - self.record(id).dgram_tx_head())
    }
    /// Puts a datagram into the send ring, without telling netd.
    pub fn put_to(&mut self, id: u16, to: Option<SocketAddr>, data: &[u8]) {
        let mut bytes = Dgram::new(to, data.len() as u16).to_bytes().to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(Dgram::space(data.len()) as usize, 0);
        self.put_dgram(id, &bytes);
    }
    /// Takes the next datagram.
    pub fn recv_from(&mut self, id: u16) -> Option<(SocketAddr, Vec<u8>)> {
        let bytes = self.peek_ring(id, Dgram::BYTES as u64)?;
        let header = Dgram::from_bytes(bytes[..].try_into().unwrap());
        let all = self.peek_ring(id, Dgram::space(header.len as usize))?;
        self.took_dgram(id, all.len() as u64);
        self.submit(id);
        let from = SocketAddr::new(ip_from_words(header.ip), header.port);
        Some((from, all[Dgram::BYTES..Dgram::BYTES + header.len as usize].to_vec()))
    }
    /// The next `n` bytes of the receive ring of a datagram socket, if they are there.
    pub fn peek_ring(&self, id: u16, n: u64) -> Option<Vec<u8>> {
        let head = self.head[id as usize];
        (self.record(id).dgram_rx_tail() - head >= n).then_some(())?;
        let r = self.rings(id);
        Some(
            (head..head + n)
                .map(|at| {
                    let mut one = [0];
                    let offset = r.rx_off as u64 + at % (1 << self.rx_bits);
                    assert!(self.regions.rx.bytes().read(offset as usize, &mut one));
                    one[0]
                })
                .collect(),
        )
    }
    pub fn took_dgram(&mut self, id: u16, n: u64) {
        self.head[id as usize] += n;
        self.app(id).rx_head.store(self.head[id as usize], Release);
    }
    /// Bytes that can be read.
    pub fn available(&self, id: u16) -> u64 {
        let n = self.record(id).received().wrapping_sub(self.head[id as usize] as u32);
        assert!(n <= 1 << self.rx_bits, "available {n}");
        n as u64
    }
    pub fn read(&mut self, id: u16, most: u64) -> Vec<u8> {
        let n = self.available(id).min(most);
        let (r, size) = (self.rings(id), 1u64 << self.rx_bits);
        let mut out = vec![0; n as usize];
        for (i, b) in out.iter_mut().enumerate() {
            let offset = r.rx_off as u64 + (self.head[id as usize] + i as u64) % size;
            let mut one = [0];
            assert!(self.regions.rx.bytes().read(offset as usize, &mut one));
            *b = one[0];
        }
        self.head[id as usize] += n;
        self.app(id).rx_head.store(self.head[id as usize], Release);
        out
    }
    pub fn peer_closed(&self, id: u16) -> bool {
        self.record(id).events.load(Acquire) & event::PEER_FIN != 0
    }
    pub fn established(&self, id: u16) -> bool {
        self.record(id).events.load(Acquire) & event::ESTABLISHED != 0
    }
}
