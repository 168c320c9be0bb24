//! Long random histories: programs that call, close and die, connections that come and go, netd
//! and sockd that die at any question. After every call: each program holds exactly the sockets it
//! was told of, and netd exactly those of the table.

mod common;

use common::{Death, FakeNetd, Held, Random, spec, words};
use libipc::net::SockId;
use libipc::sock::{Error, Kind, REPEATED, Reply, Request, SessionTable};
use sockd::server::Server;
use sockd::table::{Table, Use};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicU64;

const PROGRAMS: usize = 3;
const SOCKETS: u32 = 16;

/// A program as it sees itself.
#[derive(Default)]
struct Program {
    open: bool,
    number: u16,
    /// Its sockets; `true`: a listener.
    sockets: BTreeMap<u32, bool>,
}

struct World<'a> {
    specs: &'a SessionTable,
    words: &'a [AtomicU64],
    netd: FakeNetd,
    server: Server<'a>,
    programs: [Program; PROGRAMS],
    random: Random,
    sockd_deaths: u32,
}

impl<'a> World<'a> {
    fn new(specs: &'a SessionTable, words: &'a [AtomicU64], seed: u64) -> Self {
        let mut netd = FakeNetd::new(!seed);
        let (server, _) = Server::start(Table::new(words, specs).unwrap(), specs, &mut netd);
        Self {
            specs,
            words,
            netd,
            server,
            programs: Default::default(),
            random: Random(seed),
            sockd_deaths: 0,
        }
    }

    /// Runs `f` on the server; a death in it starts a new one, then `f` is told that it is a
    /// repetition and runs again.
    fn guarded<T>(&mut self, mut f: impl FnMut(&mut Server, &mut FakeNetd, bool) -> T) -> T {
        let mut repeated = false;
        loop {
            let run = AssertUnwindSafe(|| f(&mut self.server, &mut self.netd, repeated));
            match catch_unwind(run) {
                Ok(value) => return value,
                Err(e) if e.is::<Death>() => self.restart(),
                Err(e) => resume_unwind(e),
            }
            repeated = true;
        }
    }

    fn restart(&mut self) {
        loop {
            self.sockd_deaths += 1;
            let table = Table::new(self.words, self.specs).unwrap();
            let start = AssertUnwindSafe(|| Server::start(table, self.specs, &mut self.netd));
            match catch_unwind(start) {
                Ok((server, _)) => {
                    self.server = server;
                    return;
                }
                Err(e) if e.is::<Death>() => {}
                Err(e) => resume_unwind(e),
            }
        }
    }

    fn call(&mut self, p: usize, request: Request) -> Result<Reply, Error> {
        self.programs[p].number = self.programs[p].number.wrapping_add(1) & !REPEATED;
        let number = self.programs[p].number;
        let mut was_repeated = false;
        let reply = self.guarded(|server, netd, repeated| {
            was_repeated = repeated;
            let method = if repeated { number | REPEATED } else { number };
            server.handle(netd, p as u64 + 1, method, request)
        });
        match reply {
            // As the client library reads it.
            Err(Error::BadSocket) if was_repeated && matches!(request, Request::Close { .. }) => {
                Ok(Reply::Done)
            }
            other => other,
        }
    }

    fn some_socket(&mut self, p: usize) -> u32 {
        let ids: Vec<u32> = self.programs[p].sockets.keys().copied().collect();
        match self.random.below(ids.len() as u64 + 1) as usize {
            i if i < ids.len() => ids[i],
            _ => self.random.below(SOCKETS as u64 + 2) as u32,
        }
    }

    fn step(&mut self) {
        let p = self.random.below(PROGRAMS as u64) as usize;
        let id = self.some_socket(p);
        if !self.programs[p].open && self.random.one_in(2) {
            return self.open(p);
        }
        match self.random.below(20) {
            0 if self.random.one_in(2) => self.die(p),
            1 if self.random.one_in(5) => self.open(p),
            0..=5 => self.make(p),
            6 => {
                let addr = ([0, 0, 0, 0], 6998 + self.random.below(4) as u16).into();
                let _ = self.call(p, Request::Bind { id, addr });
            }
            7..=8 => {
                let backlog = self.random.below(6) as u16;
                let size = 1 << self.random.below(17);
                let listen = Request::Listen { id, backlog, tx: size, rx: size };
                if self.call(p, listen).is_ok() {
                    let known = self.programs[p].sockets.insert(id, true);
                    assert!(known.is_some(), "a socket that is not its own listens");
                }
            }
            9..=11 => {
                if let Ok(Reply::Socket { id, .. }) = self.call(p, Request::Accept { id }) {
                    let sock = SockId { session: p as u16, id: id as u16 };
                    assert!(self.netd.model.untold.remove(&sock).is_some(), "{sock:?} twice");
                    assert!(self.programs[p].sockets.insert(id, false).is_none(), "{id} twice");
                }
            }
            12..=13 => {
                let _ = self.call(p, Request::Connect { id, addr: ([10, 0, 2, 2], 9).into() });
            }
            14 => {
                let _ = self.call(p, Request::Shutdown { id, how: self.random.0 as u8 & 3 });
            }
            15..=16 => {
                let abort = self.random.one_in(2);
                if self.call(p, Request::Close { id, abort }).is_ok() {
                    self.programs[p].sockets.remove(&id);
                }
            }
            17 => self.outside(),
            18 => {
                self.netd.model.busy = self.random.below(3) as u32;
                self.outside();
            }
            _ => {
                self.guarded(|server, netd, _| server.take_freed(netd));
                self.guarded(|server, netd, _| server.poll(netd));
            }
        }
    }

    fn open(&mut self, p: usize) {
        // Refused or not, it ends what was there.
        self.programs[p].open = self.call(p, Request::OpenSession).is_ok();
        self.programs[p].sockets.clear();
    }

    fn make(&mut self, p: usize) {
        let kind =
            [Kind::Tcp, Kind::Udp, Kind::Ping, Kind::Listener][self.random.below(4) as usize];
        let size = 1 << self.random.below(18);
        match self.call(p, Request::Socket { kind, tx: size, rx: size }) {
            Ok(Reply::Socket { id, .. }) => {
                assert!(self.programs[p].open);
                assert!(self.programs[p].sockets.insert(id, false).is_none(), "{id} twice");
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    }

    fn die(&mut self, p: usize) {
        let notice = 1 << p;
        self.guarded(|server, netd, _| server.programs_died(netd, notice));
        self.programs[p].open = false;
        self.programs[p].sockets.clear();
    }

    /// Connections come, others end.
    fn outside(&mut self) {
        let all: Vec<(SockId, Held)> =
            self.netd.model.sockets.iter().map(|(s, h)| (*s, h.0)).collect();
        for (sock, held) in all {
            match held {
                Held::Listener if self.random.one_in(2) => self.netd.model.arrive(sock),
                Held::Closing if self.random.one_in(2) => self.netd.model.finish(sock),
                _ => {}
            }
        }
    }

    fn check(&mut self) {
        let mut table = BTreeMap::new();
        self.server.for_each_socket(|s, id, socket| {
            table.insert(SockId { session: s, id }, socket);
        });
        for (p, program) in self.programs.iter().enumerate().filter(|p| p.1.open) {
            let told: BTreeSet<u32> = program.sockets.keys().copied().collect();
            let held: BTreeSet<u32> = table
                .iter()
                .filter(|(s, t)| {
                    s.session as usize == p && matches!(t.usage, Use::Open | Use::Listener)
                })
                .map(|(s, _)| s.id as u32)
                .collect();
            assert_eq!(held, told, "what program {p} holds");
        }
        for (sock, (_, rings)) in &self.netd.model.sockets {
            assert_eq!(table.get(sock).map(|t| t.rings), Some(*rings), "{sock:?} is netd's");
        }
        let (mut sockets, mut bytes) = (0, 0);
        for (sock, t) in &table {
            let at_netd = self.netd.model.sockets.contains_key(sock);
            let ending = self.server_is_ending(sock.session);
            assert!(at_netd || t.usage == Use::Closing || ending, "{sock:?} {t:?} is not netd's");
            sockets += 1;
            bytes += (1u64 << t.rings.tx_bits) + (1 << t.rings.rx_bits);
        }
        let stats = self.server.stats();
        assert_eq!((stats.sockets, stats.bytes), (sockets, bytes));
    }

    fn server_is_ending(&self, session: u16) -> bool {
        !self.programs[session as usize].open
    }

    fn end(&mut self) {
        self.netd.model.busy = 0;
        (self.netd.kill_sockd, self.netd.kill_netd) = (0, 0);
        for p in 0..PROGRAMS {
            self.die(p);
        }
        self.server.poll(&mut self.netd);
        assert!(!self.server.is_waiting());
        assert!(self.netd.model.sockets.is_empty());
        let stats = self.server.stats();
        assert_eq!((stats.sessions, stats.sockets, stats.bytes), (0, 0, 0));
    }
}

fn run(seed: u64, steps: u32, kill_sockd: u64, kill_netd: u64) -> u32 {
    let specs: SessionTable = (0..PROGRAMS).map(|_| spec(SOCKETS, 256)).collect();
    let words = words(&specs);
    let mut w = World::new(&specs, &words, seed);
    (w.netd.kill_sockd, w.netd.kill_netd) = (kill_sockd, kill_netd);
    for _ in 0..steps {
        w.step();
        w.check();
    }
    w.end();
    w.sockd_deaths
}

#[test]
fn quiet_histories() {
    for seed in 0..100 {
        assert_eq!(run(seed, 400, 0, 0), 0);
    }
}

#[test]
fn histories_in_which_netd_dies() {
    for seed in 0..150 {
        run(seed, 300, 0, 6);
    }
}

#[test]
fn histories_in_which_sockd_dies() {
    let deaths: u32 = (0..100).map(|seed| run(seed, 400, 12, 0)).sum();
    assert!(deaths > 1000, "only {deaths} deaths: this proves little");
}

#[test]
fn histories_in_which_both_die() {
    let deaths: u32 = (0..120).map(|seed| run(seed, 400, 15, 10)).sum();
    assert!(deaths > 1000, "only {deaths} deaths: this proves little");
}
