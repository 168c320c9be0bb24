//! Raw sockets: what they get beside everybody else, what they send, what survives netd.

mod common;

use common::frames::{Frame, echo_frame, ip_frame, udp_frame};
use common::net::{Net, Weather};
use common::script::Script;
use common::six::{Six, echo};
use common::{Host, HostSpec, MS, Prog};
use libipc::net::Request;
use libipc::sock::{Error, Kind, option};
use std::sync::atomic::Ordering::*;

const ICMP: u16 = 1;

/// A raw socket of `protocol`, bound to `ip`.
fn raw(host: &mut Host, ip: &str, protocol: u16) -> u16 {
    let id = host.open(Kind::Raw);
    host.bind(id, &format!("{ip}:{protocol}")).unwrap();
    id
}

fn send(p: &mut Prog, id: u16, to: Option<&str>, data: &[u8]) {
    p.put_to(id, to.map(|t| t.parse().unwrap()), data);
    p.submit(id);
}

#[test]
fn everybody_gets_a_copy_with_its_header_and_the_stack_answers_all_the_same() {
    let mut s = Script::new();
    let both = [raw(&mut s.host, "0.0.0.0", ICMP), raw(&mut s.host, "10.0.0.1", ICMP)];
    let other = raw(&mut s.host, "0.0.0.0", 17);
    let elsewhere = raw(&mut s.host, "127.0.0.1", ICMP);
    s.send_frame(&echo_frame(s.peer, s.us, false, 7, 1, b"hello"));
    for id in both {
        let (from, got) = s.host.progs[0].recv_from(id).expect("a copy");
        assert_eq!(from, (s.peer.ip, 0).into());
        assert_eq!((got.len(), got[0], got[9], got[20]), (20 + 8 + 5, 0x45, 1, 8));
        assert_eq!(got[28..], *b"hello");
    }
    for id in [other, elsewhere] {
        assert_eq!(s.host.progs[0].recv_from(id), None);
    }
    let Some((_, Frame::Icmp(_, message))) = s.sent.pop_front() else { panic!("an answer") };
    assert_eq!(message[0], 0);
}

#[test]
fn a_protocol_that_only_a_raw_socket_speaks_is_not_refused() {
    let mut s = Script::new();
    s.send_frame(&ip_frame(s.peer, s.us, 89, b"hello"));
    let Some((_, Frame::Icmp(_, message))) = s.sent.pop_front() else { panic!("refused") };
    assert_eq!(message[..2], [3, 2]);
    let id = raw(&mut s.host, "0.0.0.0", 89);
    s.send_frame(&ip_frame(s.peer, s.us, 89, b"hello"));
    assert!(s.sent.is_empty());
    assert_eq!(s.host.progs[0].recv_from(id).unwrap().1[20..], *b"hello");
}

#[test]
fn a_copy_of_tcp_and_udp_takes_nothing_away() {
    let mut net = Net::new(
        vec![Host::new(HostSpec::fixed(1)), Host::new(HostSpec::fixed(2))],
        Weather::FINE,
        1,
    );
    let tap = raw(&mut net.hosts[1], "0.0.0.0", 17);
    let server = net.hosts[1].open(Kind::Udp);
    net.hosts[1].bind(server, "0.0.0.0:7").unwrap();
    let client = net.hosts[0].open(Kind::Udp);
    for i in 0..20u8 {
        send(&mut net.hosts[0].progs[0], client, Some("10.0.0.2:7"), &[i; 300]);
        net.pass(10 * MS);
        assert_eq!(net.hosts[1].progs[0].recv_from(server).unwrap().1, [i; 300]);
        let copy = net.hosts[1].progs[0].recv_from(tap).unwrap().1;
        assert_eq!((copy.len(), &copy[22..24], &copy[28..]), (328, &[0, 7][..], &[i; 300][..]));
    }
}

#[test]
fn a_connected_one_hears_its_peer_alone_and_a_filter_types_of_icmp() {
    let mut s = Script::new();
    let id = raw(&mut s.host, "0.0.0.0", ICMP);
    s.host.connect(id, "10.0.0.77:0").unwrap();
    s.send_frame(&echo_frame(s.peer, s.us, false, 7, 1, b"x"));
    assert_eq!(s.host.progs[0].recv_from(id), None);
    let id = raw(&mut s.host, "0.0.0.0", ICMP);
    s.host.progs[0].app(id).icmp_filter().store(1 << 8, Release);
    s.send_frame(&echo_frame(s.peer, s.us, false, 7, 1, b"x"));
    assert_eq!(s.host.progs[0].recv_from(id), None);
    s.send_frame(&echo_frame(s.peer, s.us, true, 7, 1, b"x"));
    assert_eq!(s.host.progs[0].recv_from(id).unwrap().1[20], 0);
}

#[test]
fn a_payload_is_sent_as_it_is() {
    let mut s = Script::new();
    let id = raw(&mut s.host, "0.0.0.0", 89);
    s.host.progs[0].app(id).ttl.store(9, Release);
    send(&mut s.host.progs[0], id, Some("10.0.0.2:0"), b"hello");
    s.settle();
    let Some((_, Frame::Other(ip, payload))) = s.sent.pop_front() else { panic!() };
    assert_eq!((ip.ttl, ip.protocol, &payload[..]), (9, 89, &b"hello"[..]));
}

#[test]
fn a_header_of_the_programs_own_is_completed() {
    let mut s = Script::new();
    let id = raw(&mut s.host, "0.0.0.0", ICMP);
    s.host.progs[0].app(id).options.store(option::HDRINCL, Release);
    let mut packet = vec![0x45, 0x10, 0, 0, 0, 0, 0, 0, 3, 89, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2];
    packet.extend(b"hello");
    send(&mut s.host.progs[0], id, Some("10.0.0.2:0"), &packet);
    s.settle();
    // Its checksum holds, or it would not have been read.
    let Some((_, Frame::Other(ip, payload))) = s.sent.pop_front() else { panic!() };
    assert_eq!((ip.tos, ip.ttl, ip.protocol, &payload[..]), (0x10, 3, 89, &b"hello"[..]));
    assert_eq!((ip.src, ip.dst), (s.us.ip, s.peer.ip));
    assert_ne!(ip.id, 0);
    // One whose header is longer than itself is refused.
    packet[0] = 0x4f;
    send(&mut s.host.progs[0], id, Some("10.0.0.2:0"), &packet);
    s.settle();
    assert_eq!(s.host.progs[0].record(id).error(), Some(Error::Invalid));
}

#[test]
fn of_ipv6_only_the_payload_comes_and_icmp_is_summed() {
    let mut s = Six::ready();
    let id = raw(&mut s.host, "[::]", 58);
    s.send(&echo(s.peer, s.us, true, 7, 1, b"hello"));
    let (_, got) = s.host.progs[0].recv_from(id).expect("a copy");
    assert_eq!((got[0], &got[8..]), (129, &b"hello"[..]));
    // The checksum is the stack's, whatever was written.
    let to = format!("[{}]:0", s.peer.ip);
    send(&mut s.host.progs[0], id, Some(&to), &[128, 0, 0xff, 0xff, 0, 7, 0, 1, 9]);
    s.settle();
    let (_, message) = s.next_icmp();
    assert_eq!((message[0], &message[4..]), (128, &[0, 7, 0, 1, 9][..]));
}

#[test]
fn a_crash_costs_nothing_but_what_was_not_read() {
    let mut s = Script::new();
    let id = raw(&mut s.host, "10.0.0.1", ICMP);
    s.host.crash();
    s.settle();
    s.send_frame(&echo_frame(s.peer, s.us, true, 7, 1, b"x"));
    assert!(s.host.progs[0].recv_from(id).is_some());
    let other = udp_frame(s.peer, s.us, 1, 2, b"x");
    s.send_frame(&other);
    assert!(s.host.progs[0].recv_from(id).is_none());
}

#[test]
fn without_the_permission_there_is_none_and_their_number_is_limited() {
    let mut host = Host::new(HostSpec { sockets: 64, ..HostSpec::fixed(1) });
    let ids: Vec<_> = (0..32).map(|_| raw(&mut host, "0.0.0.0", 89)).collect();
    let id = host.open(Kind::Raw);
    assert_eq!(host.bind(id, "0.0.0.0:89"), Err(Error::NoBuffers));
    assert_eq!(host.bind(id, "0.0.0.0:0"), Err(Error::Invalid));
    assert_eq!(host.bind(ids[0], "0.0.0.0:6"), Err(Error::Invalid), "it has its protocol");
    let sock = libipc::net::SockId { session: 0, id: ids[0] };
    host.ask(Request::Close { sock, abort: false }).unwrap();
    assert!(host.bind(id, "0.0.0.0:89").is_ok());
}
