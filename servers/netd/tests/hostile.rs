//! Whatever arrives by wire, ring, message or damaged memory: no panic, no loss of buffers, and
//! others go on.

mod common;

use common::frames::{End, seg, tcp_frame, udp_frame};
use common::net::{Net, Weather};
use common::script::Script;
use common::{Host, HostSpec, MS, Rng, S};
use libipc::net::{Reply, Request, Rings, SockId, SockInfo, badge};
use libipc::nic::{RxUsed, TxFree};
use libipc::permission::Permission;
use libipc::sock::{Dgram, Error, Kind, State};
use netd::wire::tcp::{Flags, Seq};
use std::sync::atomic::{AtomicU64, Ordering::*};

fn check_buffers(host: &mut Host) {
    host.settle();
    let Ok(Reply::Stats(stats)) = host.ask(Request::Stats) else { panic!() };
    assert_eq!(stats.rx_buffers, 0, "all receive buffers are with the driver");
}

#[test]
fn arbitrary_frames() {
    let mut rng = Rng(1);
    let (us, peer) = (End::number(1), End::number(2));
    let mut host = Host::new(HostSpec::fixed(1));
    let listener = host.listen(80, 4);
    let udp = host.open(Kind::Udp);
    host.bind(udp, "0.0.0.0:7").unwrap();
    for round in 0..30_000u64 {
        let mut frame: Vec<u8> = match rng.below(4) {
            0 => (0..rng.below(1515)).map(|_| rng.next() as u8).collect(),
            1 => {
                let data = vec![1; rng.below(1400) as usize];
                udp_frame(peer, us, rng.next() as u16, [7, 67, 9][rng.below(3) as usize], &data)
            }
            _ => {
                let repr = netd::wire::tcp::Repr {
                    flags: Flags::from_bits_retain(rng.next() as u8),
                    seq: Seq(rng.below(3000) as u32),
                    ack: Seq(rng.next() as u32),
                    window: rng.next() as u16,
                    ..seg(1 + rng.below(20) as u16, 80)
                };
                tcp_frame(peer, us, &repr, &vec![2; rng.below(1400) as usize])
            }
        };
        if rng.chance(500) {
            for _ in 0..1 + rng.below(4) {
                if !frame.is_empty() {
                    let at = rng.below(frame.len().min(80) as u64) as usize;
                    frame[at] = rng.next() as u8;
                }
            }
        }
        if rng.chance(100) {
            frame.truncate(rng.below(frame.len() as u64 + 1) as usize);
        }
        assert!(host.receive(&frame));
        if round % 50 == 0 {
            host.now += rng.below(200) * MS;
            host.settle();
            host.transmitted();
            if let Some((id, _)) = host.accept(listener) {
                host.abort(id);
                host.spare(listener);
            }
        }
    }
    check_buffers(&mut host);
}

/// A connection between hosts 0 and 1 that must not notice what happens around it.
fn bystanders(spec: HostSpec) -> (Net, u16, u16) {
    let mut net = Net::new(vec![Host::new(spec), Host::new(HostSpec::fixed(2))], Weather::FINE, 1);
    let listener = net.hosts[1].listen(80, 1);
    let client = net.hosts[0].open(Kind::Tcp);
    net.hosts[0].connect(client, "10.0.0.2:80").unwrap();
    net.pass(S);
    let (server, _) = net.hosts[1].accept(listener).expect("connected");
    (net, client, server)
}

fn still_works(net: &mut Net, client: u16, server: u16) {
    net.hosts[0].progs[0].write(client, b"still here");
    net.pass(300 * S);
    assert_eq!(net.hosts[1].progs[0].read(server, 100), b"still here");
}

#[test]
fn a_program_that_scribbles_over_its_memory_hurts_itself_only() {
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let spec = HostSpec { sessions: 2, ..HostSpec::fixed(1) };
        let (mut net, client, server) = bystanders(spec);
        let host = &mut net.hosts[0];
        for kind in [Kind::Tcp, Kind::Udp, Kind::Ping] {
            let id = host.open_in(1, kind);
            let sock = host.progs[1].sock(id);
            let _ = host.ask(Request::Connect { sock, addr: "10.0.0.2:80".parse().unwrap() });
        }
        net.pass(S);
        let host = &mut net.hosts[0];
        let app = host.progs[1].regions.app;
        let words = app.view::<AtomicU64>(0, app.len / 8);
        for _ in 0..1 + rng.below(200) {
            let value = match rng.below(3) {
                0 => rng.next(),
                1 => rng.below(100_000),
                _ => u64::MAX - rng.below(10),
            };
            words[rng.below(words.len() as u64) as usize].store(value, Relaxed);
        }
        host.progs[1].bell = true;
        host.settle();
        still_works(&mut net, client, server);
        // Its next incarnation zeroes its ring words and begins anew.
        let host = &mut net.hosts[0];
        for word in &words[..(libipc::sock::Layout::PRODUCER + 64) / 8] {
            word.store(0, Relaxed);
        }
        assert_eq!(host.ask(Request::EndSession { session: 1 }), Ok(Reply::Done), "seed {seed}");
        for word in words {
            word.store(0, Relaxed);
        }
        host.progs[1] = host.new_prog(1);
        let id = host.open_in(1, Kind::Udp);
        let to = "10.0.0.2:9".parse().unwrap();
        host.progs[1].put_dgram(id, &Dgram::new(Some(to), 0).to_bytes());
        host.progs[1].submit(id);
        host.settle();
        assert_eq!(host.progs[1].state(id), State::Open);
        let Ok(Reply::Addresses { local, .. }) =
            host.ask(Request::Addresses { sock: SockId { session: 1, id } })
        else {
            panic!()
        };
        assert_ne!(local.port(), 0, "seed {seed}: the submission was heard");
    }
}

#[test]
fn a_program_whose_session_is_ended_for_nonsense_is_woken() {
    let (mut net, ..) = bystanders(HostSpec { sessions: 2, ..HostSpec::fixed(1) });
    let host = &mut net.hosts[0];
    let id = host.open_in(1, Kind::Udp);
    host.settle();
    host.progs[1].signalled = false;
    let words = host.progs[1].regions.app.view::<AtomicU64>(0, host.progs[1].regions.app.len / 8);
    // More submissions than the ring holds: impossible.
    words[libipc::sock::Layout::PRODUCER / 8 + 3].store(1 << 40, Relaxed);
    host.progs[1].bell = true;
    host.settle();
    assert_eq!(host.progs[1].state(id), State::Closed);
    assert!(host.progs[1].signalled, "it may be waiting");
}

#[test]
fn a_driver_that_writes_nonsense_is_begun_anew() {
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let (mut net, client, server) = bystanders(HostSpec::fixed(1));
        let host = &mut net.hosts[0];
        let driver = host.driver.as_mut().unwrap();
        match seed % 4 {
            0 => drop(driver.rx_used.push(RxUsed { buffer: rng.next() as u32, len: 60, flags: 0 })),
            1 => drop(driver.rx_used.push(RxUsed { buffer: 0, len: 5000, flags: 0 })),
            2 => drop(driver.tx_free.push(TxFree { cookie: rng.next() as u16, refused: 0 })),
            _ => {
                let words = host.drv.view::<AtomicU64>(0, host.drv.len / 8);
                for _ in 0..50 {
                    // Rings and their indices; what the status page says is believed.
                    let at = 256 + rng.below(words.len() as u64 - 256) as usize;
                    words[at].store(rng.next(), Relaxed);
                }
            }
        }
        let driver = host.driver.as_mut().unwrap();
        let _ = driver.rx_used.publish();
        let _ = driver.tx_free.publish();
        for _ in 0..5 {
            host.now += 150 * MS;
            host.settle();
        }
        // The driver is restarted on what it finds, or, if that is nonsense, on zeroed pages.
        host.restart_driver();
        net.now += 2 * S;
        net.hosts[0].now = net.now;
        net.hosts[0].settle();
        still_works(&mut net, client, server);
        check_buffers(&mut net.hosts[0]);
    }
}

#[test]
fn damaged_records_are_dropped_and_the_rest_goes_on() {
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let spec = HostSpec { sessions: 2, ..HostSpec::fixed(1) };
        let (mut net, client, server) = bystanders(spec);
        let host = &mut net.hosts[0];
        for kind in [Kind::Tcp, Kind::Udp, Kind::Ping, Kind::Tcp] {
            let id = host.open_in(1, kind);
            let sock = host.progs[1].sock(id);
            let _ = host.ask(Request::Bind { sock, addr: "0.0.0.0:0".parse().unwrap() });
            let _ = host.ask(Request::Listen { sock, backlog: 3 });
        }
        let region = host.progs[1].regions.net;
        let words = region.view::<AtomicU64>(0, region.len / 8);
        for _ in 0..1 + rng.below(300) {
            let at = rng.below(words.len() as u64) as usize;
            let value = if rng.chance(500) { rng.next() } else { rng.below(20) };
            words[at].store(value, Relaxed);
        }
        if seed % 3 == 0 {
            let state = host.state.view::<AtomicU64>(0, 1024);
            for _ in 0..20 {
                state[rng.below(1024) as usize].store(rng.next(), Relaxed);
            }
        }
        host.crash();
        host.settle();
        still_works(&mut net, client, server);
    }
}

#[test]
fn two_records_with_the_same_addresses_are_one_connection() {
    let (mut net, client, server) = bystanders(HostSpec::fixed(1));
    let host = &mut net.hosts[0];
    let other = host.open(Kind::Tcp);
    let region = host.progs[0].regions.net;
    let layout = libipc::sock::Layout { sockets: host.spec.sockets };
    let from = region.view::<AtomicU64>(layout.record(client as u32), 16);
    let to = region.view::<AtomicU64>(layout.record(other as u32), 16);
    for (t, f) in to.iter().zip(from) {
        t.store(f.load(Relaxed), Relaxed);
    }
    host.crash();
    assert_eq!(host.progs[0].state(other), State::Closed);
    assert_eq!(host.progs[0].record(other).error(), Some(Error::ConnectionAborted));
    still_works(&mut net, client, server);
}

#[test]
fn arbitrary_requests() {
    let mut rng = Rng(5);
    let (mut net, client, server) = bystanders(HostSpec { sessions: 2, ..HostSpec::fixed(1) });
    let host = &mut net.hosts[0];
    for round in 0..20_000 {
        let mut sock = || SockId {
            session: if rng.chance(950) { 1 } else { 2 + rng.next() as u16 % 100 },
            id: if rng.chance(950) { rng.below(16) as u16 } else { rng.next() as u16 },
        };
        let (a, b) = (sock(), sock());
        let rings = Rings {
            tx_off: (rng.below(16) << 14) as u32,
            tx_bits: if rng.chance(900) { 14 } else { rng.next() as u8 },
            rx_off: if rng.chance(900) { (rng.below(16) << 14) as u32 } else { rng.next() as u32 },
            rx_bits: 14,
        };
        let addrs = [
            "0.0.0.0:0",
            "10.0.0.1:80",
            "127.0.0.1:80",
            "10.0.0.2:80",
            "[::1]:9",
            "224.0.0.1:5",
            "10.0.0.255:7",
        ];
        let addr = addrs[rng.below(7) as usize].parse().unwrap();
        let kind = [Kind::Tcp, Kind::Udp, Kind::Ping, Kind::Listener][rng.below(4) as usize];
        let request = match rng.below(14) {
            0 | 1 => Request::Open { sock: a, kind, rings },
            2 => Request::Bind { sock: a, addr },
            3 => Request::Listen { sock: a, backlog: rng.below(5) as u16 },
            4 | 5 => Request::Spares { listener: a, ids: [(b.id, rings)].into_iter().collect() },
            6 => Request::Accept { listener: a },
            7 => Request::Connect { sock: a, addr },
            8 => Request::Shutdown { sock: a, how: rng.below(5) as u8 },
            9 | 10 => Request::Close { sock: a, abort: rng.chance(500) },
            11 if rng.chance(50) => Request::EndSession { session: a.session },
            12 => Request::TakeFreed { session: a.session, wait: rng.chance(500) },
            _ => Request::Sockets { skip: rng.below(40) as u32 },
        };
        let _ = host.ask(request);
        if round % 16 == 0 {
            host.now += rng.below(500) * MS;
            host.progs[1].bell = true;
            host.settle();
            host.transmitted();
        }
        if round % 2000 == 0 {
            host.crash();
        }
    }
    net.now = net.hosts[0].now;
    assert_eq!(net.hosts[0].ask(Request::EndSession { session: 1 }), Ok(Reply::Done));
    still_works(&mut net, client, server);
    // What sockd's opposite did is gone: only the bystander is left.
    let Ok(Reply::Sockets(list)) = net.hosts[0].ask(Request::Sockets { skip: 0 }) else { panic!() };
    assert_eq!(list.iter().filter(|s| s.sock != SockInfo::NOBODYS).count(), 1);
}

#[test]
fn who_only_reads_status_may_do_nothing_else() {
    let mut host = Host::new(HostSpec::fixed(1));
    let sock = SockId { session: 0, id: 0 };
    let stack = host.stack();
    let close = Request::Close { sock, abort: true };
    let refused = |permission| Err(Error::NotPermitted(permission));
    assert_eq!(stack.request(badge::STATUS, &close, 0), refused(Permission::Control));
    assert_eq!(stack.request(99, &Request::Stats, 0), refused(Permission::NetStatus));
    assert_eq!(stack.request(99, &close, 0), refused(Permission::Control));
    assert!(stack.request(badge::STATUS, &Request::Stats, 0).is_ok());
}

#[test]
fn a_session_ends_when_the_nic_has_let_go_of_its_memory() {
    let mut s = Script::accepted();
    s.host.hold_frames = true;
    s.write(5000);
    assert_eq!(s.host.ask(Request::EndSession { session: 0 }), Err(Error::WouldBlock));
    s.settle();
    assert_eq!(s.host.ask(Request::EndSession { session: 0 }), Err(Error::WouldBlock));
    assert_eq!(
        s.host.ask(Request::Open {
            sock: SockId { session: 0, id: 9 },
            kind: Kind::Udp,
            rings: s.host.progs[0].rings(9)
        }),
        Err(Error::NoSession)
    );
    s.host.hold_frames = false;
    s.settle();
    assert!(s.host.sockd_signalled, "sockd hears that it may ask again");
    assert_eq!(s.host.ask(Request::EndSession { session: 0 }), Ok(Reply::Done));
    for id in 0..16 {
        assert_eq!(s.host.progs[0].state(id), State::Free);
    }
    let rst = |f: &common::frames::Frame| matches!(f, common::frames::Frame::Tcp(_, r, _) if r.flags.contains(Flags::RST));
    assert!(s.sent.iter().any(|(_, f)| rst(f)), "the peer was told");
}

#[test]
fn a_restart_knows_what_the_nic_still_reads() {
    let mut s = Script::accepted();
    s.host.hold_frames = true;
    s.write(5000);
    s.host.crash();
    assert_eq!(s.host.ask(Request::EndSession { session: 0 }), Err(Error::WouldBlock));
    s.host.hold_frames = false;
    s.settle();
    assert_eq!(s.host.ask(Request::EndSession { session: 0 }), Ok(Reply::Done));
    check_buffers(&mut s.host);
}
