//! netd's turns with everything that reaches them chosen at random and mixed: messages of sockd's and
//! of others, frames, what programs and the driver write into shared memory, signals, time, deaths.
//! A connection of another program goes on.

mod common;

use common::frames::{End, seg, tcp_frame, udp_frame};
use common::net::{Net, Weather};
use common::six::{self, End6};
use common::{Host, HostSpec, MS, S};
use fuzz::{Random, each};
use libipc::msg::interface;
use libipc::net::{self, Reply, Request, Rings, SockId, SockInfo, badge};
use libipc::nic::{RxUsed, TxFree};
use libipc::sock::{Kind, Layout};
use netd::Addressing6;
use netd::wire::ext::Fragment;
use netd::wire::tcp::{Flags, Seq};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const STEPS: u64 = 120;
/// Socket ids that are mostly used.
const IDS: u64 = 5;
/// The session that is played with; number 0 is the bystander's.
const VICTIM: usize = 1;

fn address(r: &mut Random) -> SocketAddr {
    let port = r.pick(&[0, 7, 80, 9000, u16::MAX]);
    match r.below(8) {
        0 => ([r.word() as u16; 8], port).into(),
        1 => ((r.word() as u32).to_be_bytes(), port).into(),
        2 => ([10, 0, 0, 255], port).into(),
        3 => ([127, 0, 0, 1], port).into(),
        4 => ([10, 0, 0, 9], port).into(),
        _ => ([0, 0, 0, 0], port).into(),
    }
}

fn request(r: &mut Random, session: u16) -> Request {
    let id = |r: &mut Random| {
        let id = if r.one_in(10) { r.edge() as u16 } else { r.below(IDS) as u16 };
        SockId { session, id }
    };
    let bits = |r: &mut Random| if r.one_in(8) { r.word() as u8 } else { 12 + r.below(3) as u8 };
    let off =
        |r: &mut Random| if r.one_in(8) { r.edge() as u32 } else { (r.below(16) << 14) as u32 };
    let rings = Rings { tx_off: off(r), tx_bits: bits(r), rx_off: off(r), rx_bits: bits(r) };
    let kind = r.pick(&[Kind::Tcp, Kind::Udp, Kind::Ping, Kind::Listener]);
    let sock = id(r);
    match r.below(15) {
        0..=2 => Request::Open { sock, kind, rings },
        3 => Request::Bind { sock, addr: address(r) },
        4 => Request::Listen { sock, backlog: r.edge() as u16 },
        5..=6 => {
            let some = (0..r.below(net::SPARES as u64 + 1)).map(|_| (id(r).id, rings));
            Request::Spares { listener: sock, ids: some.collect() }
        }
        7 => Request::Accept { listener: sock },
        8 => Request::Connect { sock, addr: address(r) },
        9 => Request::Shutdown { sock, how: r.word() as u8 },
        10 => Request::Close { sock, abort: r.one_in(2) },
        11 if r.one_in(4) => Request::EndSession { session },
        12 => Request::TakeFreed { session, wait: r.one_in(2) },
        13 => Request::Addresses { sock },
        14 => Request::Misbehaved { skip: r.edge() as u32 },
        _ => Request::Sockets { skip: r.edge() as u32 },
    }
}

fn message(r: &mut Random, host: &mut Host) {
    // Only sockd may decide anything, so whatever others ask about the bystander must be refused.
    let (badge, session) = match r.below(6) {
        0 => (badge::STATUS, r.below(3) as u16),
        1 => (2 + r.edge() % (u64::MAX - 2), r.below(3) as u16),
        _ => (badge::SOCKD, if r.one_in(10) { 2 + r.below(9) as u16 } else { VICTIM as u16 }),
    };
    let request = request(r, session);
    let (info, mut payload) = r.message(interface::NET, &request);
    if badge == badge::SOCKD && payload != postcard::to_allocvec(&request).unwrap() {
        // Spoilt, it might name the bystander, as only sockd can: not its session, then.
        payload.clear();
    }
    let now = host.now;
    let _ = host.survive(|stack| stack.message(badge, info, &payload, now));
}

/// Of IPv6: transports, extension headers, fragments, messages of neighbours, routers and groups
/// with any options.
fn frame_v6(r: &mut Random, data: &[u8]) -> Vec<u8> {
    let peer = End6::number(9).at(r.pick(&["fe80::ff:fe00:9", "2001:db8::9", "::"]));
    let own = End6::number(1).at(r.pick(&["fe80::ff:fe00:1", "2001:db8::ff:fe00:1"]));
    let to = r.pick(&[own, End6::group("ff02::1"), End6::group("ff02::1:ff00:1")]);
    match r.below(5) {
        0 => six::udp(peer, to, r.word() as u16, r.pick(&[7, 80, 9000]), data),
        1 => {
            let next = r.pick(&[0, 6, 17, 43, 44, 58, 59, 60]);
            six::packet(peer, to, r.word() as u8, next, data)
        }
        2 => {
            let (offset, more) = (r.below(60) as u16 * 8, r.one_in(2));
            let next = r.pick(&[6, 17, 44, 58, 60]);
            six::fragment(peer, to, Fragment { next, offset, more, id: r.below(4) as u32 }, data)
        }
        3 => {
            let ty = r.pick(&[1, 2, 3, 4, 128, 129, 130, 131, 143]);
            six::icmp(peer, to, r.pick(&[1, 64]), &[&[ty, r.below(3) as u8, 0, 0], data].concat())
        }
        _ => {
            let mut message = vec![r.pick(&[133, 134, 135, 136, 137]), 0, 0, 0, 64, 0, 7, 8];
            message.extend(r.pick(&[own, peer, to]).ip.octets());
            while message.len() < 400 && !r.one_in(4) {
                let len = 1 + r.below(4) as u8;
                message.extend([r.pick(&[1, 2, 3, 5, 14, 24, 25]), len]);
                message.extend((0..len as usize * 8 - 2).map(|_| r.edge() as u8));
            }
            six::icmp(peer, to, 255, &message)
        }
    }
}

fn frame(r: &mut Random) -> Vec<u8> {
    // From a host that is nobody's peer, to us.
    let (us, peer) = (End::number(1), End::number(9));
    let port = r.pick(&[7, 80, 9000, 68]);
    let data = r.bytes(1400);
    let mut frame = match r.below(5) {
        0 => r.bytes(1515),
        1 => frame_v6(r, &data),
        2 => frame_v6(r, &data[..data.len().min(80)]),
        3 => udp_frame(peer, us, r.word() as u16, port, &data),
        _ => {
            let repr = netd::wire::tcp::Repr {
                flags: Flags::from_bits_retain(r.word() as u8),
                seq: Seq(r.edge() as u32),
                ack: Seq(r.edge() as u32),
                window: r.word() as u16,
                ..seg(1 + r.below(20) as u16, port)
            };
            tcp_frame(peer, us, &repr, &data)
        }
    };
    if r.one_in(3) && frame.len() > 34 {
        // Not the EtherType: as ARP it could say where the bystander's peer is.
        let mut rest = frame.split_off(14);
        r.spoil(&mut rest);
        frame.extend(rest);
        frame.truncate(1514);
    }
    frame
}

/// The program writes into its own memory whatever it likes, and submits and signals.
fn scribble(r: &mut Random, host: &mut Host) {
    let app = host.progs[VICTIM].regions.app;
    let words = app.view::<AtomicU64>(0, app.len / 8);
    let rings = (Layout::PRODUCER + 64) as u64 / 8;
    let layout = Layout { sockets: host.spec.sockets };
    if r.one_in(2) {
        // Mostly right: a socket's words move on a little, and its id is submitted.
        let id = if r.one_in(12) { r.edge() } else { r.below(IDS) };
        for half in 0..2 {
            let word = &words[layout.app_sock((id % layout.sockets as u64) as u32) / 8 + half];
            let by = if r.one_in(8) { r.edge() } else { r.below(5) * 8 * (half == 0) as u64 };
            word.store(word.load(Relaxed).wrapping_add(by), Relaxed);
        }
        let tail = &words[Layout::PRODUCER / 8 + 3];
        let at = tail.load(Relaxed);
        let place = (at % layout.sockets as u64) as usize;
        words[rings as usize + place].store(id, Relaxed);
        tail.store(at.wrapping_add(1), Relaxed);
    }
    if r.one_in(6) {
        // The indices of both id rings.
        let word = &words[r.pick(&[0, Layout::PRODUCER / 8 + 3])];
        let by = if r.one_in(2) { r.edge() } else { r.below(3) };
        word.store(word.load(Relaxed).wrapping_add(by), Relaxed);
    }
    for _ in 0..r.below(4) * r.below(2) {
        let at = if r.one_in(2) { r.below(rings) } else { r.below(words.len() as u64) };
        let word = &words[at as usize];
        let value = match r.below(3) {
            0 => r.edge(),
            1 => word.load(Relaxed).wrapping_add(r.edge()),
            _ => word.load(Relaxed).wrapping_add(r.below(200)),
        };
        word.store(value, Relaxed);
    }
    let tx = host.progs[VICTIM].regions.tx;
    let at = r.below(tx.len as u64 - 64) as usize;
    let bytes = r.bytes(64);
    assert!(tx.bytes().write(at, &bytes));
    host.progs[VICTIM].bell = true;
}

/// A new incarnation of the program: what it finds is zeroed, as the client library does.
fn anew(host: &mut Host) {
    let app = host.progs[VICTIM].regions.app;
    let words = app.view::<AtomicU64>(0, app.len / 8);
    words[..(Layout::PRODUCER + 64) / 8].iter().for_each(|w| w.store(0, Relaxed));
    let _ = host.ask(Request::EndSession { session: VICTIM as u16 });
    words.iter().for_each(|w| w.store(0, Relaxed));
    host.progs[VICTIM] = host.new_prog(VICTIM);
}

fn lying_driver(r: &mut Random, host: &mut Host) {
    let Some(driver) = host.driver.as_mut() else { return };
    let (buffer, len) = (r.edge() as u32, r.edge() as u16);
    let _ = match r.below(3) {
        0 => driver.rx_used.push(RxUsed { buffer, len, flags: r.word() as u16 }),
        1 => driver.rx_used.push(RxUsed { buffer: buffer % 512, len: 60, flags: 0 }),
        _ => driver.tx_free.push(TxFree { cookie: r.word() as u16, refused: r.word() as u16 }),
    };
    let _ = (driver.rx_used.publish(), driver.tx_free.publish());
    for _ in 0..3 {
        host.now += 150 * MS;
        host.settle();
    }
    host.restart_driver();
}

/// Returns how many sessions were ended and how many messages were nonsense since the last death.
fn run(r: &mut Random) -> (u64, u64) {
    let spec = HostSpec { sessions: 2, ip6: Addressing6::Auto, ..HostSpec::fixed(1) };
    let hosts = vec![Host::new(spec), Host::new(HostSpec::fixed(2))];
    let mut net = Net::new(hosts, Weather::FINE, r.word());
    let listener = net.hosts[1].listen(8080, 1);
    let client = net.hosts[0].open(Kind::Tcp);
    net.hosts[0].connect(client, "10.0.0.2:8080").unwrap();
    net.pass(S);
    let (server, _) = net.hosts[1].accept(listener).expect("connected");
    let limited = r.one_in(2);
    let permits = &mut net.hosts[0].permits[VICTIM];
    (permits.connect, permits.broadcast) = (!limited, !limited);
    for step in 0..STEPS {
        let host = &mut net.hosts[0];
        match r.below(24) {
            0..=9 => message(r, host),
            10..=15 => {
                let frame = frame(r);
                let _ = host.receive(&frame);
            }
            16..=19 => scribble(r, host),
            20..=21 => anew(host),
            22 if r.one_in(3) => host.crash(),
            23 if r.one_in(3) => lying_driver(r, host),
            _ => host.now += r.below(2000) * MS,
        }
        if r.one_in(3) {
            host.settle();
            let _ = host.events().iter().map(|e| e.to_string().len()).sum::<usize>();
        }
        if step % 40 == 0 {
            net.now = net.now.max(net.hosts[0].now);
            net.pass(S);
        }
    }
    let host = &mut net.hosts[0];
    anew(host);
    host.settle();
    net.now = net.now.max(net.hosts[0].now);
    net.hosts[0].progs[0].write(client, b"still here");
    net.pass(300 * S);
    assert_eq!(net.hosts[1].progs[0].read(server, 100), b"still here");
    let Ok(Reply::Sockets(list)) = net.hosts[0].ask(Request::Sockets { skip: 0 }) else { panic!() };
    let held = |s: &&SockInfo| s.sock != SockInfo::NOBODYS;
    assert!(list.iter().filter(held).all(|s| s.sock.session == 0), "left behind: {list:?}");
    let counters = net.hosts[0].stack().counters();
    (counters.peer_errors, counters.nonsense)
}

#[test]
fn fuzz_messages_frames_rings_and_signals() {
    let (mut faults, mut nonsense) = (0, 0);
    let seeds = each(500, |r| {
        let (f, n) = run(r);
        (faults, nonsense) = (faults + f, nonsense + n);
    });
    // Else this proves little.
    assert!(seeds == 1 || faults > seeds / 2 && nonsense > seeds, "{faults} {nonsense}");
}
