//! UDP and ICMP: delivery, errors, limits, waiting for a neighbour.

mod common;

use common::frames::{Frame, echo_frame, ip_frame, udp_frame};
use common::net::{Net, Weather};
use common::script::Script;
use common::{Host, HostSpec, MS, Prog, S};
use libipc::net::{Reply, Request};
use libipc::permission::Permission;
use libipc::sock::{Dgram, Error, Kind, Layout, Notice, ip_words, option};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// Puts a datagram into the send ring and submits it.
fn send(p: &mut Prog, id: u16, to: Option<&str>, data: &[u8]) {
    put(p, id, to, data);
    p.submit(id);
}

/// Puts a datagram into the send ring.
fn put(p: &mut Prog, id: u16, to: Option<&str>, data: &[u8]) {
    p.put_to(id, to.map(|t| t.parse().unwrap()), data);
}

/// Takes the next datagram.
fn recv(p: &mut Prog, id: u16) -> Option<(SocketAddr, Vec<u8>)> {
    p.recv_from(id)
}

fn pair() -> Net {
    Net::new(vec![Host::new(HostSpec::fixed(1)), Host::new(HostSpec::fixed(2))], Weather::FINE, 1)
}

#[test]
fn datagrams_of_all_sizes_there_and_back() {
    let mut net = pair();
    let server = net.hosts[1].open(Kind::Udp);
    net.hosts[1].bind(server, "0.0.0.0:7").unwrap();
    let client = net.hosts[0].open(Kind::Udp);
    for (i, len) in [0usize, 1, 2, 31, 500, 1471, 1472].into_iter().cycle().take(100).enumerate() {
        let data: Vec<u8> = (0..len).map(|b| (b + i) as u8).collect();
        send(&mut net.hosts[0].progs[0], client, Some("10.0.0.2:7"), &data);
        net.pass(10_000_000);
        let (from, got) = recv(&mut net.hosts[1].progs[0], server).expect("arrived");
        assert_eq!(got, data);
        assert_eq!(from.ip(), "10.0.0.1".parse::<std::net::IpAddr>().unwrap());
        send(&mut net.hosts[1].progs[0], server, Some(&from.to_string()), &got);
        net.pass(10_000_000);
        let (from, back) = recv(&mut net.hosts[0].progs[0], client).expect("came back");
        assert_eq!((from, back), ("10.0.0.2:7".parse().unwrap(), data));
    }
}

#[test]
fn a_full_ring_drops_and_counts() {
    let mut net = pair();
    let server = net.hosts[1].open(Kind::Udp);
    net.hosts[1].bind(server, "10.0.0.2:7").unwrap();
    let client = net.hosts[0].open(Kind::Udp);
    for _ in 0..20 {
        send(&mut net.hosts[0].progs[0], client, Some("10.0.0.2:7"), &[1; 1000]);
        net.pass(10_000_000);
    }
    let record = net.hosts[1].progs[0].record(server);
    let kept = (0..).take_while(|_| recv(&mut net.hosts[1].progs[0], server).is_some()).count();
    assert_eq!(kept, 15, "16 KiB hold 15 of 1032 bytes");
    assert_eq!(record.pending.load(Relaxed), 5);
    let Ok(Reply::Sockets(all)) = net.hosts[1].ask(Request::Sockets { skip: 0 }) else { panic!() };
    assert!(all.iter().any(|s| s.sock.id == server && s.dropped == 5), "{all:?}");
    send(&mut net.hosts[0].progs[0], client, Some("10.0.0.2:7"), b"room again");
    net.pass(10_000_000);
    assert!(recv(&mut net.hosts[1].progs[0], server).is_some());
}

#[test]
fn a_connected_socket_hears_its_peer_only_and_learns_that_nobody_listens() {
    let mut s = Script::new();
    s.id = s.host.open(Kind::Udp);
    s.host.connect(s.id, "10.0.0.2:53").unwrap();
    send(&mut s.host.progs[0], s.id, None, b"question");
    s.settle();
    let Some((_, Frame::Udp(ip, udp, data))) = s.sent.pop_front() else { panic!() };
    assert_eq!((udp.dst, &data[..]), (53, &b"question"[..]));
    let port = udp.src;
    s.send_frame(&udp_frame(s.peer, s.us, 54, port, b"stranger"));
    s.send_frame(&udp_frame(s.peer, s.us, 53, port, b"answer"));
    let (from, answer) = recv(&mut s.host.progs[0], s.id).unwrap();
    assert_eq!((from.port(), &answer[..]), (53, &b"answer"[..]));
    assert!(recv(&mut s.host.progs[0], s.id).is_none());
    // Port unreachable, quoting the question.
    let mut quote = vec![3, 3, 0, 0, 0, 0, 0, 0];
    let mut header = [0; 20];
    ip.emit(&mut header);
    quote.extend(header);
    quote.extend(port.to_be_bytes());
    quote.extend([0, 53, 0, 16, 0, 0]);
    let sum = netd::wire::checksum::Sum::ZERO.bytes(&quote).finish();
    quote[2..4].copy_from_slice(&sum);
    s.host.progs[0].take_ready();
    s.send_frame(&ip_frame(s.peer, s.us, 1, &quote));
    assert_eq!(s.error(), Some(Error::ConnectionRefused));
    assert_eq!(s.host.progs[0].take_ready(), [s.id]);
}

#[test]
fn who_asks_for_errors_gets_what_they_quote() {
    let mut s = Script::new();
    s.id = s.host.open(Kind::Udp);
    s.host.bind(s.id, "0.0.0.0:4000").unwrap();
    s.host.progs[0].app(s.id).options.fetch_or(option::RECVERR, Relaxed);
    send(&mut s.host.progs[0], s.id, Some("10.0.0.2:53"), b"question");
    s.settle();
    let Some((_, Frame::Udp(ip, _, _))) = s.sent.pop_front() else { panic!() };
    let mut quote = vec![3, 3, 0, 0, 0, 0, 0, 0];
    let mut header = [0; 20];
    ip.emit(&mut header);
    quote.extend(header);
    quote.extend([0x0f, 0xa0, 0, 53, 0, 16, 0, 0]);
    quote.extend(b"question and what the link has added");
    let sum = netd::wire::checksum::Sum::ZERO.bytes(&quote).finish();
    quote[2..4].copy_from_slice(&sum);
    for said in 1..3 {
        s.send_frame(&ip_frame(s.peer, s.us, 1, &quote));
        let record = s.host.progs[0].record(s.id);
        assert_eq!(
            (record.error(), record.events.load(Relaxed)),
            (Some(Error::ConnectionRefused), said)
        );
        let (to, entry) = recv(&mut s.host.progs[0], s.id).unwrap();
        let notice = Notice::from_bytes(entry.first_chunk().unwrap());
        assert_eq!(notice, Notice { errno: 111, origin: Notice::ICMP, ty: 3, code: 3, info: 0 });
        assert_eq!(
            (to, &entry[Notice::BYTES..]),
            ("10.0.0.2:53".parse().unwrap(), &b"question"[..])
        );
    }
}

#[test]
fn who_has_no_peer_any_more_speaks_to_all() {
    let mut s = Script::new();
    s.id = s.host.open(Kind::Udp);
    s.host.bind(s.id, "0.0.0.0:4000").unwrap();
    s.host.connect(s.id, "10.0.0.2:53").unwrap();
    s.host.connect(s.id, "0.0.0.0:0").unwrap();
    s.send_frame(&udp_frame(s.peer, s.us, 54, 4000, b"anybody"));
    assert!(recv(&mut s.host.progs[0], s.id).is_some());
    let other = s.host.open(Kind::Udp);
    s.host.connect(other, "10.0.0.2:53").unwrap();
    s.host.connect(other, "0.0.0.0:0").unwrap();
    let Ok(Reply::Addresses { local, remote }) =
        s.host.ask(Request::Addresses { sock: s.host.progs[0].sock(other) })
    else {
        panic!()
    };
    assert_eq!((local.port(), remote), (0, None), "the port was not its program's choice");
}

#[test]
fn nobody_speaks_for_others() {
    let mut s = Script::new();
    s.id = s.host.open(Kind::Udp);
    for (from, allowed) in [("10.0.0.1", true), ("10.0.0.7", false)] {
        let local = ip_words(from.parse().unwrap());
        let to = Some("10.0.0.2:53".parse().unwrap());
        let header = Dgram { flags: Dgram::SOURCE, local, ..Dgram::new(to, 0) };
        s.host.progs[0].put_dgram(s.id, &header.to_bytes());
        s.host.progs[0].submit(s.id);
        s.settle();
        assert_eq!(s.sent.pop_front().is_some(), allowed);
        assert_eq!(s.error(), (!allowed).then_some(Error::Invalid));
    }
}

#[test]
fn ports_where_nobody_listens_answer_within_a_limit() {
    let mut s = Script::new();
    for i in 0..100 {
        s.send_frame(&udp_frame(s.peer, s.us, 5000 + i, 9, b"anyone?"));
    }
    assert_eq!(s.sent.len(), 6, "as many as one host gets at once");
    let Some((_, Frame::Icmp(_, message))) = s.sent.pop_front() else { panic!() };
    assert_eq!(message[..2], [3, 3]);
    let question = udp_frame(s.peer, s.us, 5000, 9, b"anyone?");
    assert_eq!(message[8..8 + 35], question[14..14 + 35], "quoted as it arrived");
    assert_eq!(message[28..36], [0x13, 0x88, 0, 9, 0, 15, message[34], message[35]]);
    s.sent.clear();
    s.pass(1001);
    s.send_frame(&udp_frame(s.peer, s.us, 1, 9, b"anyone?"));
    assert_eq!(s.sent.len(), 1);
    // Nothing is said about what was sent to everybody.
    let all = common::frames::End {
        mac: netd::wire::ethernet::Mac::BROADCAST,
        ip: "10.0.0.255".parse().unwrap(),
    };
    s.sent.clear();
    s.send_frame(&udp_frame(s.peer, all, 1, 9, b"anyone?"));
    s.nothing();
}

#[test]
fn echo_requests_are_answered() {
    let mut s = Script::new();
    let data: Vec<u8> = (0..1400).map(|i| i as u8).collect();
    for len in [0, 1, 56, 1399] {
        s.send_frame(&echo_frame(s.peer, s.us, false, 77, len as u16, &data[..len]));
        let Some((_, Frame::Icmp(ip, message))) = s.sent.pop_front() else { panic!("{len}") };
        assert_eq!(ip.dst, s.peer.ip);
        assert_eq!(message[..2], [0, 0]);
        assert_eq!(message[4..8], [0, 77, (len >> 8) as u8, len as u8]);
        assert_eq!(message[8..], data[..len]);
    }
}

#[test]
fn ping_sockets_send_requests_and_get_their_replies() {
    let mut s = Script::new();
    s.id = s.host.open(Kind::Ping);
    s.host.connect(s.id, "10.0.0.2:0").unwrap();
    send(&mut s.host.progs[0], s.id, None, &[0xff, 0xff, 0, 5, 1, 2, 3]);
    s.settle();
    let Some((_, Frame::Icmp(_, message))) = s.sent.pop_front() else { panic!() };
    assert_eq!((message[0], &message[6..]), (8, &[0, 5, 1, 2, 3][..]));
    let id = u16::from_be_bytes([message[4], message[5]]);
    s.send_frame(&echo_frame(s.peer, s.us, true, id ^ 1, 5, &[1, 2, 3]));
    s.send_frame(&echo_frame(s.peer, s.us, true, id, 5, &[1, 2, 3]));
    let (from, reply) = recv(&mut s.host.progs[0], s.id).unwrap();
    assert_eq!(from.ip(), s.peer.ip);
    assert_eq!(reply, [message[4], message[5], 0, 5, 1, 2, 3]);
    assert!(recv(&mut s.host.progs[0], s.id).is_none());
}

#[test]
fn a_neighbour_that_does_not_answer_is_an_error_and_the_next_datagram_has_its_chance() {
    let mut host = Host::new(HostSpec::fixed(1));
    let (id, there) = (host.open(Kind::Udp), host.open(Kind::Udp));
    host.bind(there, "127.0.0.1:7").unwrap();
    // Who asked for errors is told of it; so the datagram waits in the ring.
    host.progs[0].app(id).options.fetch_or(option::RECVERR, Relaxed);
    send(&mut host.progs[0], id, Some("10.0.0.99:7"), b"one");
    send(&mut host.progs[0], id, Some("127.0.0.1:7"), b"two");
    let mut asked = 0;
    for second in 0..5 {
        host.now = second * (S + 2 * MS);
        host.settle();
        asked += host
            .transmitted()
            .iter()
            .filter(|f| f[12..14] == [8, 6] && f[38..42] == [10, 0, 0, 99])
            .count();
    }
    assert_eq!(asked, 3);
    assert_eq!(host.progs[0].record(id).error(), Some(Error::HostUnreachable));
    assert_eq!(host.progs[0].record(id).dgram_tx_head(), 48 + 48, "both are gone");
}

#[test]
fn we_can_talk_to_ourselves() {
    for at in ["127.0.0.1", "10.0.0.1"] {
        let mut host = Host::new(HostSpec::fixed(1));
        let server = host.open(Kind::Udp);
        host.bind(server, "0.0.0.0:7").unwrap();
        let client = host.open(Kind::Udp);
        for i in 0..100 {
            send(&mut host.progs[0], client, Some(&format!("{at}:7")), &[i; 100]);
            host.settle();
            let (from, data) = recv(&mut host.progs[0], server).unwrap();
            assert_eq!((from.ip(), data), (at.parse().unwrap(), vec![i; 100]));
        }
        assert!(
            host.transmitted().iter().all(|f| f[12..14] == [8, 6]),
            "but for ARP nothing is on the wire"
        );
    }
}

#[test]
fn binding_knows_what_is_taken_and_what_is_ours() {
    let mut host = Host::new(HostSpec::fixed(1));
    let a = host.open(Kind::Udp);
    let b = host.open(Kind::Udp);
    assert_eq!(host.bind(a, "10.0.0.9:7"), Err(Error::AddrNotAvailable));
    assert_eq!(host.bind(a, "[::1]:7"), Err(Error::Unsupported));
    assert_eq!(host.bind(a, "10.0.0.1:7"), Ok("10.0.0.1:7".parse().unwrap()));
    assert_eq!(host.bind(a, "10.0.0.1:8"), Err(Error::Invalid), "bound already");
    assert_eq!(host.bind(b, "10.0.0.1:7"), Err(Error::AddrInUse));
    assert_eq!(host.bind(b, "0.0.0.0:7"), Err(Error::AddrInUse));
    assert_eq!(host.bind(b, "127.0.0.1:7"), Ok("127.0.0.1:7".parse().unwrap()));
    let c = host.open(Kind::Tcp);
    assert!(host.bind(c, "0.0.0.0:7").is_ok(), "TCP has ports of its own");
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let id = host.open(Kind::Udp);
        ports.insert(host.bind(id, "0.0.0.0:0").unwrap().port());
    }
    assert!(ports.len() == 8 && ports.iter().all(|p| (32768..61000).contains(p)));
    let sock = host.progs[0].sock(a);
    assert_eq!(
        host.ask(Request::Addresses { sock }),
        Ok(Reply::Addresses { local: "10.0.0.1:7".parse().unwrap(), remote: None })
    );
}

#[test]
fn datagram_sockets_survive_a_restart() {
    let mut s = Script::new();
    s.id = s.host.open(Kind::Udp);
    s.host.bind(s.id, "0.0.0.0:7").unwrap();
    s.send_frame(&udp_frame(s.peer, s.us, 9, 7, b"before"));
    // Written, submitted, but not served yet.
    send(&mut s.host.progs[0], s.id, Some("10.0.0.2:9"), b"sent by the next");
    s.host.crash();
    s.settle();
    assert!(
        s.sent.iter().any(|(_, f)| matches!(f, Frame::Udp(_, _, d) if d == b"sent by the next"))
    );
    s.send_frame(&udp_frame(s.peer, s.us, 9, 7, b"after"));
    let got: Vec<_> =
        std::iter::from_fn(|| recv(&mut s.host.progs[0], s.id)).map(|r| r.1).collect();
    assert_eq!(got, [b"before".to_vec(), b"after".to_vec()]);
}

#[test]
fn ipv6_is_refused_and_counted() {
    let mut s = Script::new();
    s.id = s.host.open(Kind::Udp);
    s.host.bind(s.id, "0.0.0.0:7").unwrap();
    for to in ["[2001:db8::1]:7", "[::1]:7"] {
        assert_eq!(s.host.connect(s.id, to), Err(Error::Unsupported));
        let tcp = s.host.open(Kind::Tcp);
        assert_eq!(s.host.connect(tcp, to), Err(Error::Unsupported));
        s.host.progs[0].record(s.id).error.store(0, Relaxed);
        send(&mut s.host.progs[0], s.id, Some(to), b"nowhere");
        send(&mut s.host.progs[0], s.id, Some("10.0.0.2:9"), b"somewhere");
        s.settle();
        assert_eq!(s.error(), Some(Error::Unsupported));
        let sent: Vec<_> = s.sent.drain(..).collect();
        assert!(matches!(&sent[..], [(_, Frame::Udp(_, _, data))] if data == b"somewhere"));
    }
    let before = s.host.stack().counters().rx_unsupported;
    let mut frame = udp_frame(s.peer, s.us, 7, 7, b"a question");
    frame[12..14].copy_from_slice(&0x86dd_u16.to_be_bytes());
    s.send_frame(&frame);
    assert_eq!(s.host.stack().counters().rx_unsupported, before + 1);
    assert!(recv(&mut s.host.progs[0], s.id).is_none() && s.sent.is_empty());
}

/// A host whose program may bind port 7 and nothing else.
fn confined() -> Net {
    let mut net = pair();
    let spec = &mut net.hosts[0].permits[0];
    spec.bind = [(7, 7)].into_iter().collect();
    (spec.connect, spec.broadcast) = (false, false);
    net.hosts[0].crash();
    net
}

#[test]
fn who_may_not_connect_answers_from_its_ports_only() {
    let mut net = confined();
    let there = net.hosts[1].open(Kind::Udp);
    net.hosts[1].bind(there, "0.0.0.0:9").unwrap();
    let server = net.hosts[0].open(Kind::Udp);
    net.hosts[0].bind(server, "0.0.0.0:7").unwrap();
    send(&mut net.hosts[0].progs[0], server, Some("10.0.0.2:9"), b"answer");
    net.pass(10 * MS);
    assert!(recv(&mut net.hosts[1].progs[0], there).is_some());

    let other = net.hosts[0].open(Kind::Udp);
    send(&mut net.hosts[0].progs[0], other, Some("10.0.0.2:9"), b"no answer");
    net.pass(10 * MS);
    assert!(recv(&mut net.hosts[1].progs[0], there).is_none());
    let error = net.hosts[0].progs[0].record(other).error();
    assert_eq!(error, Some(Error::NotPermitted(Permission::Connect)));
    let Ok(Reply::Stats(stats)) = net.hosts[0].ask(Request::Stats) else { panic!() };
    assert_eq!((stats.not_permitted, stats.peer_errors), (1, 0));
}

#[test]
fn broadcasts_are_permitted_by_their_own_word() {
    for addr in ["10.0.0.255:9", "255.255.255.255:9"] {
        let mut net = confined();
        let there = net.hosts[1].open(Kind::Udp);
        net.hosts[1].bind(there, "0.0.0.0:9").unwrap();
        let socket = net.hosts[0].open(Kind::Udp);
        net.hosts[0].bind(socket, "0.0.0.0:7").unwrap();
        let lacking = Error::NotPermitted(Permission::Broadcast);
        assert_eq!(net.hosts[0].connect(socket, addr), Err(lacking));
        send(&mut net.hosts[0].progs[0], socket, Some(addr), b"all");
        net.pass(10 * MS);
        assert_eq!(net.hosts[0].progs[0].record(socket).error(), Some(lacking));
        assert!(recv(&mut net.hosts[1].progs[0], there).is_none());

        net.hosts[0].permits[0].broadcast = true;
        net.hosts[0].crash();
        send(&mut net.hosts[0].progs[0], socket, Some(addr), b"all");
        net.pass(10 * MS);
        assert!(recv(&mut net.hosts[1].progs[0], there).is_some(), "{addr}");
        // Who connects has to ask for it.
        assert_eq!(net.hosts[0].connect(socket, addr), Err(Error::Prohibited));
        net.hosts[0].progs[0].app(socket).options.fetch_or(option::BROADCAST, Relaxed);
        let unrouted = addr.starts_with("255.").then_some(Error::NetworkUnreachable);
        assert_eq!(net.hosts[0].connect(socket, addr).err(), unrouted);
    }
}

/// Free bytes in the send ring of a datagram socket.
fn room(p: &Prog, id: u16) -> u64 {
    (1 << p.tx_bits) - (p.tail[id as usize] - p.record(id).dgram_tx_head())
}

/// When a datagram leaves a ring that had no room for the longest, the program is told, also if it
/// has written more than it has submitted. It is not told when there was room.
#[test]
fn room_is_told_of_to_who_had_none() {
    let mut net = pair();
    let client = net.hosts[0].open(Kind::Udp);
    let to = Some("10.0.0.2:7");
    net.hosts[0].progs[0].app(client).options.fetch_or(option::RECVERR, Relaxed);
    // It waits for the neighbour; what the program writes meanwhile it has not submitted.
    send(&mut net.hosts[0].progs[0], client, to, &[1; 1000]);
    net.hosts[0].settle();
    let p = &mut net.hosts[0].progs[0];
    while room(p, client) >= Dgram::space(Dgram::UNCUT) {
        put(p, client, to, &[2; 1000]);
    }
    net.pass(10_000_000);
    let p = &mut net.hosts[0].progs[0];
    assert_eq!(p.record(client).dgram_tx_head(), Dgram::space(1000), "the first has left");
    assert!(p.take_ready().contains(&client), "told of the room");
    p.submit(client);
    net.pass(10_000_000);
    let p = &mut net.hosts[0].progs[0];
    p.take_ready();
    send(p, client, to, &[3; 1000]);
    net.pass(10_000_000);
    assert!(net.hosts[0].progs[0].take_ready().is_empty(), "there was room all the time");
}

/// With nobody to take frames, this host can still talk to itself; with the link down, frames are
/// lost instead of heaped up.
#[test]
fn ourselves_need_no_driver() {
    let mut net = pair();
    let server = net.hosts[0].open(Kind::Udp);
    net.hosts[0].bind(server, "127.0.0.1:7").unwrap();
    let (away, near) = (net.hosts[0].open(Kind::Udp), net.hosts[0].open(Kind::Udp));
    net.hosts[0].connect(near, "127.0.0.1:7").unwrap();
    send(&mut net.hosts[0].progs[0], away, Some("10.0.0.2:7"), b"finds the neighbour");
    net.pass(10_000_000);
    net.hosts[0].hold_frames = true;
    for _ in 0..400 {
        let p = &mut net.hosts[0].progs[0];
        if room(p, away) >= Dgram::space(1) {
            send(p, away, Some("10.0.0.2:7"), b"x");
        }
        net.pass(1_000_000);
    }
    assert!(room(&net.hosts[0].progs[0], away) < 1 << 14, "the driver's ring is full");
    send(&mut net.hosts[0].progs[0], near, None, b"hello");
    net.pass(10_000_000);
    let got = recv(&mut net.hosts[0].progs[0], server).map(|(_, data)| data);
    assert_eq!(got.as_deref(), Some(&b"hello"[..]));
}

/// What a program submits first in a new life is heard, whatever it submitted in the last one.
#[test]
fn a_new_life_of_a_program_is_heard() {
    let mut net = pair();
    let server = net.hosts[1].open(Kind::Udp);
    net.hosts[1].bind(server, "0.0.0.0:7").unwrap();
    for life in 0..4u8 {
        let client = net.hosts[0].open(Kind::Udp);
        for i in 0..life + 1 {
            send(&mut net.hosts[0].progs[0], client, Some("10.0.0.2:7"), &[life, i]);
            net.pass(10_000_000);
            let got = recv(&mut net.hosts[1].progs[0], server).map(|(_, data)| data);
            assert_eq!(got, Some(vec![life, i]));
        }
        let host = &mut net.hosts[0];
        let app = host.progs[0].regions.app;
        let words = app.view::<AtomicU64>(0, app.len / 8);
        words[..(Layout::PRODUCER + 64) / 8].iter().for_each(|w| w.store(0, Relaxed));
        assert_eq!(host.ask(Request::EndSession { session: 0 }), Ok(Reply::Done));
        words.iter().for_each(|w| w.store(0, Relaxed));
        host.settle();
        host.progs[0] = host.new_prog(0);
    }
}
