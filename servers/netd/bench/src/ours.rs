//! netd's stack.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::Ordering::*;

use libipc::net::{Reply, Request, SockId, badge};
use libipc::sock::{Dgram, Kind};
use netd::Stack;

use crate::alloc;
use crate::work::{DATAGRAMS, SERVER, Subject};
use crate::world::{Driver, Program, Surroundings, World};

/// Sockets of a program.
const SOCKETS: u32 = 4096;
/// The first program has the server, the sockets for its connections, and the UDP socket.
const LISTENER: u16 = 0;
const UDP: u16 = 1;
const SPARES: u16 = 2;
const SPARE_COUNT: u16 = 4;

pub struct Ours {
    stack: Stack<Surroundings>,
    driver: Driver,
    programs: Vec<Program>,
    now: u64,
    bytes: usize,
    accepted: Option<u16>,
    sender: [u8; Dgram::BYTES],
}

impl Ours {
    /// With room for so many connections.
    pub fn new(connections: u32) -> Self {
        let sockets = SOCKETS.min((connections + 1).next_power_of_two()).max(16);
        let programs = 1 + connections.div_ceil(sockets) as usize;
        let World { setup, programs, driver } = World::new(programs, sockets);
        let before = alloc::bytes();
        let stack = Stack::new(setup, Surroundings, 0);
        let heap = (alloc::bytes() - before) / (programs.len() * sockets as usize);
        let mut ours = Self {
            stack,
            driver: driver.start(),
            programs,
            now: 0,
            bytes: heap,
            accepted: None,
            sender: [0; Dgram::BYTES],
        };
        ours.turn(1000);
        ours.serve();
        ours
    }

    fn ask(&mut self, request: Request) -> Reply {
        self.stack.request(badge::SOCKD, &request, self.now).expect("a request that is in order")
    }

    fn serve(&mut self) {
        let (listener, udp) = (SockId { session: 0, id: LISTENER }, SockId { session: 0, id: UDP });
        for (sock, kind, port) in [(listener, Kind::Tcp, SERVER), (udp, Kind::Udp, DATAGRAMS)] {
            let rings = self.programs[0].rings(sock.id);
            self.ask(Request::Open { sock, kind, rings });
            let addr = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into();
            self.ask(Request::Bind { sock, addr });
        }
        self.ask(Request::Listen { sock: listener, backlog: SPARE_COUNT });
        for id in SPARES..SPARES + SPARE_COUNT {
            self.spare(id);
        }
    }

    fn spare(&mut self, id: u16) {
        let listener = SockId { session: 0, id: LISTENER };
        let ids = [(id, self.programs[0].rings(id))].into_iter().collect();
        self.ask(Request::Spares { listener, ids });
    }

    /// Program and id of connection `n`.
    fn place(&self, n: u32) -> (usize, u16) {
        let per = self.programs[1].memory.records.len() as u32;
        (1 + (n / per) as usize, (n % per) as u16)
    }
}

impl Subject for Ours {
    fn sent(&mut self) -> Vec<Vec<u8>> {
        self.driver.sent(&self.programs)
    }

    fn arrive(&mut self, frame: &[u8]) {
        self.driver.arrive(frame);
    }

    /// What `main.rs` does when it wakes, up to going to sleep again.
    fn turn(&mut self, now_us: u64) {
        self.now = now_us * 1000;
        let mut bells = self.programs[0].bells.take();
        while self.stack.poll(self.now, bells) {
            bells = 0;
        }
        let _ = self.stack.take_signals();
        let _ = self.stack.sleep();
        let _ = std::hint::black_box(self.stack.poll_at());
    }

    fn connect(&mut self, n: u32, (ip, port): (Ipv4Addr, u16)) {
        let (session, id) = self.place(n);
        let sock = SockId { session: session as u16, id };
        let rings = self.programs[session].rings(id);
        self.ask(Request::Open { sock, kind: Kind::Tcp, rings });
        self.ask(Request::Connect { sock, addr: SocketAddr::from((ip, port)) });
    }

    fn connected(&mut self, n: u32) {
        let (session, _) = self.place(n);
        self.programs[session].take_ready();
    }

    fn read(&mut self, n: u32, into: &mut [u8]) -> usize {
        let (session, id) = self.place(n);
        let p = &mut self.programs[session];
        p.take_ready();
        let app = &p.memory.apps[id as usize];
        let head = app.rx_head.load(Relaxed);
        let there = p.memory.records[id as usize].received().wrapping_sub(head as u32) as usize;
        let there = there.min(into.len());
        let [first, rest] = Program::pieces(head, there, id);
        let (a, b) = into[..there].split_at_mut(first.1);
        assert!(p.memory.rx.read(first.0, a) && p.memory.rx.read(rest.0, b));
        app.rx_head.store(head + there as u64, Release);
        p.submit(id);
        there
    }

    fn write(&mut self, n: u32, bytes: &[u8]) {
        let (session, id) = self.place(n);
        let p = &mut self.programs[session];
        p.take_ready();
        let app = &p.memory.apps[id as usize];
        let tail = app.tx_tail.load(Relaxed);
        let [first, rest] = Program::pieces(tail, bytes.len(), id);
        let (a, b) = bytes.split_at(first.1);
        assert!(p.memory.tx.write(first.0, a) && p.memory.tx.write(rest.0, b));
        app.tx_tail.store(tail + bytes.len() as u64, Release);
        p.submit(id);
    }

    fn read_datagram(&mut self, into: &mut [u8]) -> usize {
        let p = &mut self.programs[0];
        p.take_ready();
        let app = &p.memory.apps[UDP as usize];
        let head = app.rx_head.load(Relaxed);
        assert!(p.memory.records[UDP as usize].dgram_rx_tail() > head, "a datagram");
        let [first, rest] = Program::pieces(head, Dgram::BYTES, UDP);
        let (a, b) = self.sender.split_at_mut(first.1);
        assert!(p.memory.rx.read(first.0, a) && p.memory.rx.read(rest.0, b));
        let len = Dgram::from_bytes(&self.sender).len as usize;
        let [first, rest] = Program::pieces(head + Dgram::BYTES as u64, len, UDP);
        let (a, b) = into[..len].split_at_mut(first.1);
        assert!(p.memory.rx.read(first.0, a) && p.memory.rx.read(rest.0, b));
        app.rx_head.store(head + Dgram::space(len), Release);
        p.submit(UDP);
        len
    }

    fn write_datagram(&mut self, bytes: &[u8]) {
        let p = &mut self.programs[0];
        let app = &p.memory.apps[UDP as usize];
        let tail = app.tx_tail.load(Relaxed);
        for (at, bytes) in [(tail, &self.sender[..]), (tail + Dgram::BYTES as u64, bytes)] {
            let [first, rest] = Program::pieces(at, bytes.len(), UDP);
            let (a, b) = bytes.split_at(first.1);
            assert!(p.memory.tx.write(first.0, a) && p.memory.tx.write(rest.0, b));
        }
        app.tx_tail.store(tail + Dgram::space(bytes.len()), Release);
        p.submit(UDP);
    }

    fn accept(&mut self) {
        self.programs[0].take_ready();
        let listener = SockId { session: 0, id: LISTENER };
        match self.ask(Request::Accept { listener }) {
            Reply::Accepted { sock, .. } => self.accepted = Some(sock.id),
            other => panic!("{other:?}"),
        }
    }

    fn close(&mut self) {
        self.programs[0].take_ready();
        let id = self.accepted.expect("accepted before");
        self.ask(Request::Close { sock: SockId { session: 0, id }, abort: false });
    }

    /// What sockd does: it takes the id back and sets it aside again.
    fn renew(&mut self) {
        let id = self.accepted.take().expect("accepted before");
        match self.ask(Request::TakeFreed { session: 0, wait: true }) {
            Reply::Freed(ids) if ids.contains(&id) => {}
            other => panic!("{id} is not free: {other:?}"),
        }
        self.programs[0].memory.apps[id as usize].clear();
        self.spare(id);
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}
