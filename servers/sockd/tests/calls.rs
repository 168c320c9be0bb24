//! Requests one by one: what is allowed, what is refused, and what a program's end gives back.

mod common;

use abi::MsgInfo;
use common::{FakeNetd, Held, spec, words};
use libipc::msg::{self, interface};
use libipc::net::SockId;
use libipc::permission::Permission;
use libipc::sock::{Error, Kind, REPEATED, Reply, Request, SessionTable, Stats};
use sockd::server::Server;
use sockd::table::Table;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One session (badge 1) of 8 sockets with 64 KiB each way, and a second of 4.
struct World {
    specs: &'static SessionTable,
    words: &'static [AtomicU64],
    netd: FakeNetd,
    server: Server<'static>,
    number: u16,
}

impl World {
    fn new() -> Self {
        let specs: SessionTable = [spec(8, 64), spec(4, 16)].into_iter().collect();
        let specs: &'static SessionTable = Box::leak(Box::new(specs));
        let words: &'static [AtomicU64] = words(specs).leak();
        let mut netd = FakeNetd::new(1);
        let (server, found) = Server::start(Table::new(words, specs).unwrap(), specs, &mut netd);
        assert!(!found.found);
        Self { specs, words, netd, server, number: 0 }
    }

    fn opened() -> Self {
        let mut w = Self::new();
        assert_eq!(w.ask(Request::OpenSession), Ok(Reply::Session { session: 0, sockets: 8 }));
        w
    }

    fn ask(&mut self, request: Request) -> Result<Reply, Error> {
        self.number += 1;
        self.server.handle(&mut self.netd, 1, self.number, request)
    }

    /// A message as it comes from the endpoint.
    fn message(&mut self, second: u64, badge: u64, request: &Request) -> Result<Reply, Error> {
        let bytes = postcard::to_allocvec(request).unwrap();
        let info = MsgInfo::new(interface::SOCK, msg::VERSION, 1, bytes.len());
        self.server.message(&mut self.netd, badge, info, &bytes, second * 1_000_000_000)
    }

    /// The line that goes into the log.
    fn complaint(&mut self) -> String {
        self.server.take_complaint().map_or_else(String::new, |c| c.to_string())
    }

    fn socket(&mut self, kind: Kind, size: u32) -> u32 {
        match self.ask(Request::Socket { kind, tx: size, rx: size }) {
            Ok(Reply::Socket { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    fn restart(&mut self) -> sockd::server::Recovery {
        let table = Table::new(self.words, self.specs).unwrap();
        let (server, found) = Server::start(table, self.specs, &mut self.netd);
        self.server = server;
        found
    }

    fn used(&mut self) -> (u32, u64) {
        match self.ask(Request::Stats) {
            Ok(Reply::Stats(s)) => (s.sockets, s.bytes),
            other => panic!("{other:?}"),
        }
    }
}

fn at(port: u16) -> std::net::SocketAddr {
    ([0, 0, 0, 0], port).into()
}

#[test]
fn nothing_goes_without_a_session() {
    let mut w = World::new();
    for request in [
        Request::Socket { kind: Kind::Udp, tx: 0, rx: 0 },
        Request::Bind { id: 0, addr: at(0) },
        Request::Close { id: 0, abort: false },
        Request::Accept { id: 0 },
    ] {
        assert_eq!(w.ask(request), Err(Error::NoSession), "{request:?}");
    }
    for (second, badge) in [0, 3, u64::MAX].into_iter().enumerate() {
        let r = w.message(second as u64, badge, &Request::OpenSession);
        assert_eq!(r, Err(Error::NotPermitted(Permission::Sockets)), "badge {badge}");
        assert_eq!(w.complaint(), "a caller without a session may not use sockets");
    }
}

#[test]
fn permissions_and_limits_hold() {
    let mut w = World::opened();
    let id = w.socket(Kind::Tcp, 4096);
    assert_eq!(
        w.ask(Request::Bind { id, addr: at(80) }),
        Err(Error::NotPermitted(Permission::Bind))
    );
    assert_eq!(
        w.complaint(),
        "program may not bind port 80: `sockets.bind` of program \"program\" in the manifest does \
         not list it"
    );
    assert!(matches!(
        w.ask(Request::Bind { id, addr: at(7000) }),
        Ok(Reply::Addresses { remote: None, .. })
    ));
    for id in [7, 8, 65_536 + id, u32::MAX] {
        assert_eq!(w.ask(Request::Shutdown { id, how: 1 }), Err(Error::BadSocket), "{id}");
    }
    assert_eq!(w.ask(Request::Shutdown { id, how: 3 }), Err(Error::Invalid));
    let listener = Request::Socket { kind: Kind::Listener, tx: 0, rx: 0 };
    assert_eq!(w.ask(listener), Err(Error::Invalid));
    let huge = Request::Socket { kind: Kind::Udp, tx: u32::MAX, rx: 1 };
    assert_eq!(w.ask(huge), Err(Error::NoBuffers));
    let large = Request::Socket { kind: Kind::Udp, tx: 4096, rx: 64 << 10 };
    assert_eq!(w.ask(large), Err(Error::NoBuffers), "4 KiB of it are taken");
    assert_eq!(w.used(), (1, 8192), "refused calls left nothing behind");
    for _ in 0..7 {
        w.socket(Kind::Udp, 1);
    }
    let more = Request::Socket { kind: Kind::Udp, tx: 1, rx: 1 };
    assert_eq!(w.ask(more), Err(Error::TooManySockets));
}

#[test]
fn a_listener_gets_spares_and_hands_over_connections() {
    let mut w = World::opened();
    let id = w.socket(Kind::Tcp, 1);
    w.ask(Request::Bind { id, addr: at(7001) }).unwrap();
    let listen = Request::Listen { id, backlog: 2, tx: 8192, rx: 4096 };
    assert_eq!(w.ask(listen), Ok(Reply::Done));
    assert_eq!(w.used().0, 4);
    let listener = SockId { session: 0, id: id as u16 };
    assert_eq!(w.ask(Request::Accept { id }), Err(Error::WouldBlock));
    w.netd.model.arrive(listener);
    let Ok(Reply::Socket { id: got, tx_size: 8192, rx_size: 4096, peer: Some(_), .. }) =
        w.ask(Request::Accept { id })
    else {
        panic!("no connection")
    };
    assert_ne!(got, id);
    let spares =
        |w: &World| w.netd.model.sockets.values().filter(|s| s.0 == Held::Spare(id as u16)).count();
    assert_eq!(spares(&w), 2);
    assert_eq!(w.ask(Request::Accept { id }), Err(Error::WouldBlock));
    w.netd.model.arrive(listener);
    let Ok(Reply::Socket { id: other, .. }) = w.ask(Request::Accept { id }) else {
        panic!("no connection")
    };
    assert_eq!(spares(&w), 3, "half were gone: both were replaced");
    w.netd.model.untold.clear();
    w.ask(Request::Close { id: other, abort: true }).unwrap();
    // A spare is nobody's to name.
    let spare = w.netd.model.sockets.iter().find(|s| s.1.0 == Held::Spare(id as u16)).unwrap();
    let spare = spare.0.id as u32;
    assert_eq!(w.ask(Request::Close { id: spare, abort: true }), Err(Error::BadSocket));

    w.ask(Request::Close { id, abort: false }).unwrap();
    assert_eq!(w.used().0, 1, "the listener went with its spares");
    w.ask(Request::Close { id: got, abort: false }).unwrap();
    assert_eq!(w.used().0, 1, "it still sends");
    assert_eq!(w.ask(Request::Shutdown { id: got, how: 1 }), Err(Error::BadSocket));
    w.netd.model.finish(SockId { session: 0, id: got as u16 });
    w.server.take_freed(&mut w.netd);
    assert_eq!(w.used(), (0, 0));
}

#[test]
fn a_listener_without_room_for_one_connection_is_refused_and_a_short_one_grows() {
    let mut w = World::opened();
    let id = w.socket(Kind::Tcp, 1);
    w.ask(Request::Bind { id, addr: at(7001) }).unwrap();
    let listen = |tx| Request::Listen { id, backlog: 4, tx, rx: 4096 };
    assert_eq!(w.ask(listen(64 << 10)), Err(Error::NoBuffers));
    assert_eq!(w.used().0, 1);
    // 16 KiB are free beside the listener's 4 and the other's 32: one spare of four.
    let other = w.socket(Kind::Udp, 32 << 10);
    assert_eq!(w.ask(listen(16 << 10)), Ok(Reply::Done));
    assert_eq!(w.used().0, 3);
    w.ask(Request::Close { id: other, abort: false }).unwrap();
    assert_eq!(w.used().0, 4, "the freed room became spares: 48 KiB in all");
}

#[test]
fn a_listener_takes_another_backlog() {
    let mut w = World::opened();
    let id = w.socket(Kind::Tcp, 1);
    w.ask(Request::Bind { id, addr: at(7001) }).unwrap();
    let listen = |backlog, tx| Request::Listen { id, backlog, tx, rx: 4096 };
    assert_eq!(w.ask(listen(0, 4096)), Ok(Reply::Done));
    assert_eq!(w.used().0, 2, "one may wait");
    assert_eq!(w.ask(listen(2, 1 << 20)), Ok(Reply::Done));
    assert_eq!(w.used().0, 4, "and two more, with rings as before");
    assert_eq!(w.ask(listen(0, 0)), Ok(Reply::Done));
    assert_eq!(w.used().0, 4, "what is there stays");
}

#[test]
fn a_call_made_again_makes_no_second_socket() {
    let mut w = World::opened();
    let id = w.socket(Kind::Udp, 4096);
    let request = Request::Socket { kind: Kind::Udp, tx: 4096, rx: 4096 };
    w.restart();
    let again = w.server.handle(&mut w.netd, 1, w.number | REPEATED, request);
    assert!(matches!(again, Ok(Reply::Socket { id: i, .. }) if i == id), "{again:?}");
    let next = w.ask(request);
    assert!(matches!(next, Ok(Reply::Socket { id: i, .. }) if i != id), "{next:?}");
    assert_eq!(w.used().0, 2);
}

#[test]
fn a_program_that_dies_gives_everything_back() {
    let mut w = World::opened();
    let id = w.socket(Kind::Tcp, 4096);
    w.ask(Request::Bind { id, addr: at(7002) }).unwrap();
    w.ask(Request::Listen { id, backlog: 2, tx: 4096, rx: 4096 }).unwrap();
    w.socket(Kind::Ping, 0);
    w.netd.model.busy = 2;
    w.server.programs_died(&mut w.netd, 1);
    assert!(w.server.is_waiting(), "the NIC still reads its memory");
    assert_ne!(w.used(), (0, 0));
    assert_eq!(w.ask(Request::Socket { kind: Kind::Udp, tx: 0, rx: 0 }), Err(Error::NoSession));
    assert_eq!(w.ask(Request::OpenSession), Err(Error::WouldBlock));
    w.restart();
    assert!(!w.server.is_waiting(), "a new sockd goes on with it");
    assert_eq!(w.used(), (0, 0));
    assert!(w.netd.model.sockets.is_empty());
    // Notices of a session that is closed, or of none, mean nothing.
    w.server.programs_died(&mut w.netd, !0);
    assert!(w.ask(Request::OpenSession).is_ok());
}

#[test]
fn a_new_incarnation_finds_nothing_of_the_old_one() {
    let mut w = World::opened();
    for _ in 0..5 {
        w.socket(Kind::Udp, 4096);
    }
    w.ask(Request::OpenSession).unwrap();
    assert_eq!(w.used(), (0, 0));
    assert!(w.netd.model.sockets.is_empty());
}

#[test]
fn a_damaged_record_costs_one_socket_and_no_other() {
    let mut w = World::opened();
    let ids: Vec<u32> = (0..4).map(|_| w.socket(Kind::Udp, 4096)).collect();
    // Records lie behind 8 header words and 32 sessions of 2; word 1 holds the offsets.
    let word = &w.words[8 + 64 + ids[1] as usize * 4 + 1];
    word.store(word.load(Relaxed) ^ 1 << 12, Relaxed);
    let found = w.restart();
    assert_eq!((found.kept, found.dropped), (3, 1));
    assert_eq!(w.used().0, 3);
    assert_eq!(w.netd.model.sockets.len(), 3, "netd was told");
    assert_eq!(w.ask(Request::Close { id: ids[1], abort: false }), Err(Error::BadSocket));
    w.ask(Request::Close { id: ids[0], abort: false }).unwrap();
    w.socket(Kind::Udp, 4096);
}

#[test]
fn news_lost_with_netd_is_asked_for_when_room_is_short() {
    let mut w = World::opened();
    let id = w.socket(Kind::Tcp, 64 << 10);
    w.ask(Request::Connect { id, addr: at(9) }).unwrap();
    w.ask(Request::Close { id, abort: false }).unwrap();
    w.netd.model.finish(SockId { session: 0, id: id as u16 });
    w.netd.model.freed.clear();
    w.server.take_freed(&mut w.netd);
    assert_eq!(w.used().0, 1, "nobody said that it is free");
    w.socket(Kind::Tcp, 64 << 10);
    assert_eq!(w.used().0, 1);
}

#[test]
fn a_listener_that_runs_low_gets_back_what_netd_forgot_to_say() {
    let mut w = World::opened();
    let id = w.socket(Kind::Tcp, 1);
    w.ask(Request::Bind { id, addr: at(7001) }).unwrap();
    w.ask(Request::Listen { id, backlog: 3, tx: 16 << 10, rx: 16 << 10 }).unwrap();
    let listener = SockId { session: 0, id: id as u16 };
    for _ in 0..5 {
        w.netd.model.arrive(listener);
        let Ok(Reply::Socket { id: got, .. }) = w.ask(Request::Accept { id }) else {
            panic!("no connection")
        };
        w.netd.model.untold.clear();
        let spares = w.netd.model.sockets.values().filter(|s| s.0 == Held::Spare(id as u16));
        assert_eq!(spares.count(), 2, "there is room for three in all");
        w.ask(Request::Close { id: got, abort: false }).unwrap();
        w.netd.model.finish(SockId { session: 0, id: got as u16 });
        w.netd.model.freed.clear();
    }
}

#[test]
fn what_is_no_request_costs_the_session() {
    let good = postcard::to_allocvec(&Request::Stats).unwrap();
    let info = MsgInfo::new(interface::SOCK, msg::VERSION, 1, good.len());
    let long: Vec<u8> = good.iter().chain(&[0]).copied().collect();
    let cases: [(MsgInfo, &[u8], &str); 6] = [
        (info, &[], "a message that is no request"),
        (info, &[0xff; 40], "a message that is no request"),
        (info, &long, "a message that is no request"),
        (info.with_caps(2), &good, "a message with capabilities"),
        (
            MsgInfo::new(interface::SOCK, 9, 1, 1),
            &good,
            "a message of version 9, where 1 is spoken",
        ),
        (MsgInfo::new(interface::NET, msg::VERSION, 1, 1), &good, "a message for interface 2"),
    ];
    let mut w = World::opened();
    for (i, (info, payload, text)) in cases.into_iter().enumerate() {
        w.socket(Kind::Udp, 4096);
        let r = w.server.message(&mut w.netd, 1, info, payload, i as u64 * 1_000_000_000);
        assert_eq!(r, Err(Error::Protocol));
        assert_eq!(w.complaint(), format!("program sent {text}: its session is ended"));
        assert_eq!(w.used(), (0, 0));
        assert!(w.netd.model.sockets.is_empty());
        assert_eq!(w.ask(Request::Close { id: 0, abort: true }), Err(Error::NoSession));
        assert!(w.ask(Request::OpenSession).is_ok(), "it may begin anew");
    }
    let Ok(Reply::Stats(Stats { nonsense: 6, .. })) = w.ask(Request::Stats) else { panic!() };
    // Who has no session has none to lose.
    let r = w.server.message(&mut w.netd, 77, info, &[], 0);
    assert_eq!(r, Err(Error::Protocol));
    assert_eq!(w.complaint(), "a caller without a session sent a message that is no request");
}

#[test]
fn a_flood_of_refusals_is_four_lines_a_second() {
    let mut w = World::opened();
    let id = w.socket(Kind::Tcp, 4096);
    let request = Request::Bind { id, addr: at(80) };
    let mut lines = 0;
    for i in 0..1000 {
        let bytes = postcard::to_allocvec(&request).unwrap();
        let info = MsgInfo::new(interface::SOCK, msg::VERSION, 1, bytes.len());
        let at = 10_000_000_000 + i * 10_000_000;
        assert!(w.server.message(&mut w.netd, 1, info, &bytes, at).is_err());
        let line = w.complaint();
        lines += !line.is_empty() as u32;
        assert!(
            lines < 2
                || line.is_empty()
                || line.ends_with("(and 24 more times since the last line)")
        );
    }
    assert_eq!(lines, 40);
}
