//! Sockets that are bound to an interface, on a host with two network cards: SO_BINDTODEVICE, and connections whose
//! peers' addresses only a link knows.

mod common;

use common::frames::{End, Frame, dissect, tcp_frame, udp_frame};
use common::six::{self, End6, What, ip6};
use common::two::{PEERS, US, by, connection, put, receive, segment, sent, spec, started, us};
use common::{Host, HostSpec, S};
use libipc::net::{Reply, Request};
use libipc::sock::{Dgram, Error, Kind, On, option};
use netd::Addressing6;
use netd::wire::ethernet::Mac;
use netd::wire::ndp::Message;
use netd::wire::tcp::{Flags, Seq};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::Relaxed;

fn bind_device(host: &mut Host, id: u16, number: u8) -> Result<(), Error> {
    let sock = host.progs[0].sock(id);
    host.ask(Request::BindDevice { sock, number }).map(|_| ())
}

/// A socket of UDP at port 4000 of any address, bound to interface `number`.
fn bound(host: &mut Host, number: u8) -> u16 {
    let id = host.open(Kind::Udp);
    bind_device(host, id, number).unwrap();
    host.bind(id, "0.0.0.0:4000").unwrap();
    id
}

fn device(host: &Host, id: u16) -> u16 {
    host.progs[0].record(id).interface.load(Relaxed)
}

fn got(host: &mut Host, id: u16) -> Option<Vec<u8>> {
    host.progs[0].recv_from(id).map(|(_, data)| data)
}

/// Linux's `sk_bound_dev_if`: packets by this interface alone, and a port that others have on another.
#[test]
fn a_port_can_be_had_on_each_link() {
    let mut host = started();
    let ids = [bound(&mut host, 2), bound(&mut host, 3)];
    for number in [0, 2] {
        let id = host.open(Kind::Udp);
        bind_device(&mut host, id, number).unwrap();
        assert_eq!(host.bind(id, "0.0.0.0:4000"), Err(Error::AddrInUse), "{number}");
        assert!(host.close(id));
    }
    for crashed in [false, true] {
        if crashed {
            host.crash();
            host.progs[0].signalled = true;
            sent(&mut host);
        }
        for n in [0, 1] {
            // Under the other card's address, too: the link counts.
            for ip in [0, 1] {
                receive(&mut host, n, &udp_frame(PEERS[n], us(n, ip), 9, 4000, &[n as u8]));
            }
            sent(&mut host);
            let both = [0, 1].map(|_| got(&mut host, ids[n]));
            assert_eq!(both, [Some(vec![n as u8]), Some(vec![n as u8])], "{crashed}");
            assert_eq!(got(&mut host, ids[1 - n]), None);
            assert_eq!(device(&host, ids[n]), 2 + n as u16);
        }
    }
    assert!(host.close(ids[0]));
    let nobodys = host.stack().counters().udp_no_ports;
    receive(&mut host, 0, &udp_frame(PEERS[0], us(0, 0), 9, 4000, b"x"));
    sent(&mut host);
    assert_eq!((host.stack().counters().udp_no_ports, got(&mut host, ids[1])), (nobodys + 1, None));
}

/// Nobody comes under another's port by way of an interface on which it is free.
#[test]
fn an_interface_where_others_have_the_port_is_refused() {
    let mut host = started();
    let first = bound(&mut host, 2);
    let id = bound(&mut host, 3);
    assert_eq!((bind_device(&mut host, id, 2), device(&host, id)), (Err(Error::AddrInUse), 3));
    for number in [1, 0] {
        assert_eq!(
            (bind_device(&mut host, id, number), device(&host, id)),
            (Ok(()), number.into())
        );
        assert_eq!(bind_device(&mut host, id, 2), Err(Error::AddrInUse));
    }
    assert!(host.close(first));
    assert_eq!(bind_device(&mut host, id, 2), Ok(()));
}

#[test]
fn what_a_bound_socket_sends_leaves_by_its_card() {
    let mut host = started();
    let id = bound(&mut host, 2);
    let far = Ipv4Addr::new(192, 0, 2, 1);
    put(&mut host, id, (far, 53), Dgram::default(), b"x");
    let [first, second] = sent(&mut host);
    // There is no route by this card: as Linux does, it is looked for on the link.
    assert_eq!((first.len(), second.len(), &first[0][38..42]), (1, 0, &far.octets()[..]));
    put(&mut host, id, (PEERS[0].ip, 53), by(3), b"x");
    assert_eq!(sent(&mut host), [vec![], vec![]] as [Vec<Vec<u8>>; 2]);
    assert_eq!(host.progs[0].record(id).error(), Some(Error::Invalid), "named another");
    assert_eq!(bind_device(&mut host, id, 0), Ok(()));
    put(&mut host, id, (PEERS[1].ip, 53), by(3), b"x");
    assert_eq!(sent(&mut host)[1].len(), 1);
    assert_eq!(bind_device(&mut host, id, 4), Err(Error::NoDevice));
    // On the loop only this host is to be found.
    assert_eq!(bind_device(&mut host, id, 1), Ok(()));
    put(&mut host, id, (PEERS[0].ip, 53), Dgram::default(), b"x");
    put(&mut host, id, (US[1], 4000), Dgram::default(), b"to myself");
    assert_eq!(sent(&mut host), [vec![], vec![]] as [Vec<Vec<u8>>; 2]);
    assert_eq!(host.progs[0].record(id).error(), Some(Error::NetworkUnreachable));
    assert_eq!(got(&mut host, id), Some(b"to myself".to_vec()));
}

/// IP_UNICAST_IF: the card by which what goes to one host leaves, if nothing else says so.
#[test]
fn a_card_can_be_named_for_all_unicasts() {
    let mut host = started();
    let id = host.open(Kind::Udp);
    host.bind(id, "0.0.0.0:4000").unwrap();
    host.progs[0].app(id).leaves_by().store(2 << 8 | 3, Relaxed);
    put(&mut host, id, (Ipv4Addr::new(192, 0, 2, 1), 53), Dgram::default(), b"x");
    let [first, second] = sent(&mut host);
    assert_eq!((first.len(), second.len()), (1, 0));
    put(&mut host, id, (Ipv4Addr::new(224, 0, 0, 5), 53), Dgram::default(), b"x");
    let [first, second] = sent(&mut host);
    assert_eq!((first.len(), second.len()), (0, 1));
}

#[test]
fn interfaces_are_found_by_number_and_address() {
    let mut host = started();
    for (on, number) in [
        (On::Any, Ok(0)),
        (On::Number(1), Ok(1)),
        (On::Number(3), Ok(3)),
        (On::Number(4), Err(Error::NoDevice)),
        (On::Address(US[1].into()), Ok(3)),
        (On::Address("127.0.0.1".parse().unwrap()), Ok(1)),
        (On::Address(PEERS[0].ip.into()), Err(Error::NoDevice)),
    ] {
        assert_eq!(host.ask(Request::FindDevice { on }), number.map(Reply::Device), "{on:?}");
    }
}

fn flags(frames: &[Vec<u8>]) -> Vec<Flags> {
    let of = |f: &Vec<u8>| match dissect(f) {
        Frame::Tcp(_, repr, _) => Some(repr.flags),
        _ => None,
    };
    frames.iter().filter_map(of).collect()
}

fn resets(host: &mut Host) -> u64 {
    host.stack().counters().resets_sent
}

/// A listener's connections are bound as it is (Linux's `inet_csk_clone_lock`).
#[test]
fn a_listener_takes_connections_by_its_interface_alone() {
    let mut host = started();
    let id = host.open(Kind::Tcp);
    bind_device(&mut host, id, 3).unwrap();
    host.bind(id, "0.0.0.0:80").unwrap();
    host.listen_on(id, 4);
    // To the second card's address, by the first.
    let syn = segment(Flags::SYN, Seq(1000), Seq(0));
    let to = |n: usize| End { mac: us(n, n).mac, ip: US[1] };
    receive(&mut host, 0, &tcp_frame(PEERS[0], to(0), &syn, &[]));
    assert_eq!(flags(&sent(&mut host)[0]), [Flags::RST | Flags::ACK]);
    let (next, child) = connection(&mut host, id, 1);
    assert_eq!(device(&host, child), 3);
    // Often enough for header prediction, which does not look at the link.
    for n in 0..8 {
        if n == 6 {
            host.crash();
            host.progs[0].signalled = true;
            sent(&mut host);
        }
        let data = segment(Flags::ACK | Flags::PSH, Seq(1001 + n), next);
        let before = resets(&mut host);
        // From the same address and port, but by the wrong link: nobody's.
        receive(&mut host, 0, &tcp_frame(End { ip: PEERS[1].ip, ..PEERS[0] }, to(0), &data, b"?"));
        sent(&mut host);
        assert_eq!((resets(&mut host), host.progs[0].available(child)), (before + 1, 0));
        receive(&mut host, 1, &tcp_frame(PEERS[1], to(1), &data, b"!"));
        sent(&mut host);
        assert_eq!(host.progs[0].read(child, 10), b"!");
    }
}

/// A connection that is bound anew leaves by that card from then on (Linux's `sk_dst_reset`).
#[test]
fn a_connection_can_move_to_another_link() {
    let mut host = started();
    let listener = host.listen(80, 1);
    let (_, id) = connection(&mut host, listener, 0);
    host.progs[0].app(id).options.store(option::NODELAY, Relaxed);
    for n in 0..4 {
        host.progs[0].write(id, &[n; 100]);
        host.progs[0].submit(id);
        let [first, second] = sent(&mut host);
        assert_eq!((first.len(), second.len()), (1, 0));
        host.now += S / 100;
    }
    assert_eq!(bind_device(&mut host, id, 3), Ok(()));
    host.progs[0].write(id, &[9; 100]);
    host.progs[0].submit(id);
    let [first, second] = sent(&mut host);
    assert_eq!((first.len(), second.len()), (0, 1));
}

/// A handshake remembers its interface, also over a crash between SYN-ACK and ACK.
#[test]
fn a_handshake_goes_on_at_its_interface() {
    let mut host = started();
    let id = host.open(Kind::Tcp);
    bind_device(&mut host, id, 3).unwrap();
    host.bind(id, "0.0.0.0:80").unwrap();
    host.listen_on(id, 1);
    receive(
        &mut host,
        1,
        &tcp_frame(PEERS[1], us(1, 1), &segment(Flags::SYN, Seq(7), Seq(0)), &[]),
    );
    let Frame::Tcp(_, syn_ack, _) = dissect(&sent(&mut host)[1][0]) else { panic!() };
    host.crash();
    host.progs[0].signalled = true;
    sent(&mut host);
    let ack = segment(Flags::ACK, Seq(8), syn_ack.seq + 1);
    receive(&mut host, 0, &tcp_frame(End { ip: PEERS[1].ip, ..PEERS[0] }, us(0, 1), &ack, &[]));
    sent(&mut host);
    assert_eq!((resets(&mut host), host.accept(id)), (1, None));
    receive(&mut host, 1, &tcp_frame(PEERS[1], us(1, 1), &ack, &[]));
    sent(&mut host);
    let (child, _) = host.accept(id).expect("a connection");
    assert_eq!(device(&host, child), 3);
}

/// Link-local addresses on both cards; the peer of the same address on each link.
fn six() -> (Host, [End6; 2], [End6; 2]) {
    let mut spec = spec();
    (spec.ip6, spec.cards[0].ip6) = (Addressing6::Auto, Addressing6::Auto);
    let mut host = Host::new(HostSpec { ..spec });
    for _ in 0..30 {
        host.now += S / 5;
        sent(&mut host);
    }
    let ours = [("fe80::ff:fe00:1", 0), ("fe80::ff:fe00:101", 1)];
    let ours = ours.map(|(ip, n)| End6 { mac: Mac([2, 0, 0, 0, n, 1]), ip: ip6(ip) });
    let peers = [0, 1].map(|n| End6 { mac: Mac([2, 0, 0, 0, n, 9]), ip: ip6("fe80::9") });
    for n in [0, 1] {
        know(&mut host, n, peers[n], ours[n]);
    }
    (host, ours, peers)
}

/// Has the host know where `peer` is on link `n`: it asks for us.
fn know(host: &mut Host, n: usize, peer: End6, us: End6) {
    let asks = Message::solicit(us.ip, Some(peer.mac), None);
    receive(host, n, &six::icmp(peer, us, 255, asks.bytes()));
    sent(host);
}

/// RFC 4007 6: an address of a link means another station on each. Linux binds connections of such peers to the
/// interface (`tcp_v6_init_req`).
#[test]
fn connections_of_one_address_on_two_links_are_two() {
    let (mut host, ours, peers) = six();
    let listener = host.listen_at("[::]:80", 4);
    let mut children = Vec::new();
    for n in [0, 1] {
        let syn = segment(Flags::SYN, Seq(100), Seq(0));
        receive(&mut host, n, &six::tcp(peers[n], ours[n], &syn, &[]));
        let all = sent(&mut host);
        let answer = all[n].iter().filter_map(|f| six::dissect(f)).find_map(|g| match g.what {
            What::Tcp(repr, _) => Some(repr),
            _ => None,
        });
        let syn_ack = answer.unwrap_or_else(|| panic!("by card {n}: {all:x?}"));
        let ack = segment(Flags::ACK, Seq(101), syn_ack.seq + 1);
        receive(&mut host, n, &six::tcp(peers[n], ours[n], &ack, &[]));
        sent(&mut host);
        let (child, _) = host.accept(listener).expect("a connection");
        assert_eq!(device(&host, child), 2 + n as u16);
        children.push(child);
    }
    host.crash();
    host.progs[0].signalled = true;
    sent(&mut host);
    for n in [0, 1] {
        know(&mut host, n, peers[n], ours[n]);
    }
    for n in [0, 1] {
        host.progs[0].write(children[n], &[n as u8; 10]);
        host.progs[0].submit(children[n]);
        let all = sent(&mut host);
        let text = |f: &Vec<u8>| match six::dissect(f).map(|g| g.what) {
            Some(What::Tcp(_, data)) => data,
            _ => Vec::new(),
        };
        assert!(all[n].iter().any(|f| text(f) == [n as u8; 10]), "{:x?}", all[n]);
        assert!(all[1 - n].iter().all(|f| text(f).is_empty()));
    }
}
