//! sockd's main loop with everything that reaches it chosen at random: messages from anybody,
//! signals, an honest netd and one that lies, a table that was damaged while sockd was dead.

mod common;

use common::{FakeNetd, spec, words};
use fuzz::{Random, each};
use libipc::msg::interface;
use libipc::net::{self, SockId};
use libipc::sock::{Error, Kind, Reply, Request, SessionTable};
use sockd::server::{Answer, Netd, Server};
use sockd::table::Table;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

const PROGRAMS: u64 = 3;
const SOCKETS: u32 = 16;
const STEPS: u64 = 300;
/// Most questions to netd that one message or signal may lead to: a few for each socket.
const QUESTIONS: u64 = 40 * SOCKETS as u64;

fn request(r: &mut Random) -> Request {
    let id = if r.one_in(8) { r.edge() as u32 } else { r.below(SOCKETS as u64) as u32 };
    let size = if r.one_in(4) { r.edge() as u32 } else { 1 << r.below(18) };
    let port = r.pick(&[0, 7000, 7001, 7009, 80, u16::MAX]);
    let addr: SocketAddr = match r.below(4) {
        0 => ([r.word() as u16; 8], port).into(),
        1 => ((r.word() as u32).to_be_bytes(), port).into(),
        _ => ([0, 0, 0, 0], port).into(),
    };
    match r.below(14) {
        0 => Request::OpenSession,
        1..=3 => {
            let kind = r.pick(&[Kind::Tcp, Kind::Tcp, Kind::Udp, Kind::Ping, Kind::Listener]);
            Request::Socket { kind, tx: size, rx: size }
        }
        4 => Request::Bind { id, addr },
        5..=6 => Request::Listen { id, backlog: r.edge() as u16, tx: size, rx: size },
        7..=8 => Request::Accept { id },
        9 => Request::Connect { id, addr },
        10 => Request::Shutdown { id, how: r.word() as u8 },
        11 => Request::Close { id, abort: r.one_in(2) },
        12 => Request::Addresses { id },
        _ => Request::Stats,
    }
}

/// Anything that netd could answer.
fn answer(r: &mut Random) -> Result<net::Reply, Error> {
    let addr: SocketAddr = ([10, 0, 2, 15], r.word() as u16).into();
    let sock = SockId { session: r.edge() as u16, id: r.edge() as u16 };
    let near = SockId { session: r.below(PROGRAMS) as u16, id: r.below(SOCKETS as u64) as u16 };
    let sock = if r.one_in(4) { sock } else { near };
    Ok(match r.below(9) {
        0 => return Err(Error::from_raw(r.word() as u16).unwrap_or(Error::Server)),
        1 => return Err(r.pick(&[Error::WouldBlock, Error::Invalid, Error::BadSocket])),
        2 => net::Reply::Accepted { sock, peer: addr },
        3 => net::Reply::Closed { free: r.one_in(2) },
        4 => net::Reply::Freed((0..r.below(33)).map(|_| r.edge() as u16).collect()),
        5 => net::Reply::Addresses { local: addr, remote: None },
        6 => net::Reply::Address(addr),
        7 => net::Reply::Stats(net::Stats::default()),
        _ => net::Reply::Done,
    })
}

/// netd, honest or not; counts questions.
struct Asked<'a> {
    honest: Option<&'a mut FakeNetd>,
    random: Random,
    questions: u64,
}

impl Netd for Asked<'_> {
    fn ask(&mut self, request: &net::Request) -> Answer {
        self.questions += 1;
        match &mut self.honest {
            Some(netd) => netd.ask(request),
            None => {
                let reply = answer(&mut self.random);
                Answer { reply, again: self.random.one_in(10) }
            }
        }
    }
}

/// Returns how many messages were nonsense.
fn run(r: &mut Random, honest: bool) -> u64 {
    let specs: SessionTable = (0..PROGRAMS).map(|_| spec(SOCKETS, 256)).collect();
    let words = words(&specs);
    let mut fake = FakeNetd::new(r.word());
    let mut netd =
        Asked { honest: honest.then_some(&mut fake), random: fuzz_random(r), questions: 0 };
    let table = || Table::new(&words, &specs).unwrap();
    let mut server = Server::start(table(), &specs, &mut netd).0;
    let mut now = 0;
    for _ in 0..STEPS {
        netd.questions = 0;
        match r.below(20) {
            0 => server.programs_died(&mut netd, r.word() as u32),
            1 => server.take_freed(&mut netd),
            2 => server.poll(&mut netd),
            3 if r.one_in(3) => {
                // sockd dies; what it finds may be damaged, unless netd is to be matched with it.
                for _ in 0..r.below(6) * !honest as u64 {
                    words[r.below(words.len() as u64) as usize].store(r.edge(), Relaxed);
                }
                server = Server::start(table(), &specs, &mut netd).0;
            }
            4 if let Some(fake) = &mut netd.honest => {
                fake.model.busy = r.below(3) as u32;
                let all: Vec<_> = fake.model.sockets.iter().map(|(s, h)| (*s, h.0)).collect();
                for (sock, held) in all {
                    match held {
                        common::Held::Listener => fake.model.arrive(sock),
                        common::Held::Closing => fake.model.finish(sock),
                        _ => {}
                    }
                }
            }
            _ => {
                let badge = if r.one_in(20) { r.edge() } else { 1 + r.below(PROGRAMS + 1) };
                let request = request(r);
                let (info, payload) = r.message(interface::SOCK, &request);
                let _ = server.message(&mut netd, badge, info, &payload, now);
                let _ = server.take_complaint().map(|c| c.to_string());
            }
        }
        now += r.below(100_000_000);
        assert!(netd.questions <= QUESTIONS, "{} questions", netd.questions);
    }
    let count = |stats: Result<Reply, Error>| match stats {
        Ok(Reply::Stats(stats)) => stats.nonsense,
        other => panic!("{other:?}"),
    };
    let Some(fake) = &mut netd.honest else {
        return count(server.handle(&mut netd, 1, 1, Request::Stats));
    };
    fake.model.busy = 0;
    server.programs_died(&mut netd, u32::MAX);
    server.poll(&mut netd);
    let stats = server.handle(&mut netd, 1, 1, Request::Stats);
    let Ok(Reply::Stats(stats)) = stats else { panic!("{stats:?}") };
    assert_eq!((stats.sessions, stats.sockets, stats.bytes), (0, 0, 0));
    assert!(fake_is_empty(&netd));
    stats.nonsense
}

fn fake_is_empty(netd: &Asked<'_>) -> bool {
    netd.honest.as_ref().is_some_and(|n| n.model.sockets.is_empty())
}

/// A generator of its own.
fn fuzz_random(r: &mut Random) -> Random {
    Random::new(r.word())
}

#[test]
fn fuzz_messages_with_an_honest_netd() {
    let mut nonsense = 0;
    let seeds = each(800, |r| nonsense += run(r, true));
    assert!(seeds == 1 || nonsense > 10 * seeds, "{nonsense}: this proves little");
}

#[test]
fn fuzz_messages_with_a_netd_that_lies() {
    let mut nonsense = 0;
    let seeds = each(800, |r| nonsense += run(r, false));
    assert!(seeds == 1 || nonsense > 10 * seeds, "{nonsense}: this proves little");
}
