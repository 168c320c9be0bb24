//! Two network cards: 10.0.0.1/24 on the first, 10.1.0.1/24 with the default route on the second.

mod common;

use common::frames::{End, Frame, arp_frame, dissect, echo_frame, tcp_frame, udp_frame};
use common::two::{
    MACS, PEERS, US, by, connection, fixed, put, receive, segment, sent, spec, started, started_as,
    us,
};
use common::{Host, MS, S};
use libipc::net::{Reply, Request};
use libipc::sock::{Dgram, Error, Kind, On};
use netd::Addressing;
use netd::wire::arp::{self, Op};
use netd::wire::ethernet::Mac;
use netd::wire::tcp::{Flags, Seq};
use std::net::Ipv4Addr;

/// RFC 1122 3.3.4.2, the weak model: whichever card has the address; the answer leaves by the way to who asked.
#[test]
fn each_address_is_answered_on_both_links_from_the_card_asked() {
    let mut host = started();
    for (n, peer) in PEERS.into_iter().enumerate() {
        for (ip, addr) in US.into_iter().enumerate() {
            receive(&mut host, n, &echo_frame(peer, us(n, ip), false, 7, 1, b"hello"));
            let answers = sent(&mut host);
            assert_eq!((answers[n].len(), answers[1 - n].len()), (1, 0));
            let f = &answers[n][0];
            assert_eq!((&f[..6], &f[6..12]), (&peer.mac.0[..], &MACS[n].0[..]));
            assert_eq!(f[26..30], addr.octets(), "from the address that was asked");
        }
    }
}

/// Linux's `arp_ignore` 0: any address of the host, with the MAC address of the card that was asked.
#[test]
fn arp_is_answered_for_the_other_cards_address_too() {
    let mut host = started();
    let peer = PEERS[1];
    let asks = arp::Repr {
        op: Op::Request,
        sender_mac: peer.mac,
        sender: peer.ip,
        target_mac: Mac([0; 6]),
        target: US[0],
    };
    receive(&mut host, 1, &arp_frame(Mac::BROADCAST, &asks));
    let [first, second] = sent(&mut host);
    assert!(first.is_empty() && second.len() == 1);
    assert_eq!((&second[0][22..28], &second[0][28..32]), (&MACS[1].0[..], &US[0].octets()[..]));
}

#[test]
fn nothing_is_passed_on_from_one_link_to_the_other() {
    let mut host = started();
    let far = End { mac: MACS[1], ip: PEERS[0].ip };
    let before = host.stack().counters().rx_unclaimed;
    receive(&mut host, 1, &udp_frame(PEERS[1], far, 5, 6, b"to the other side"));
    assert_eq!(sent(&mut host), [vec![], vec![]] as [Vec<Vec<u8>>; 2]);
    assert_eq!(host.stack().counters().rx_unclaimed, before + 1);
}

/// Where a datagram leaves, from which address, and to which station.
fn leaves(host: &mut Host, id: u16, to: Ipv4Addr, header: Dgram) -> (usize, Ipv4Addr, Mac) {
    put(host, id, (to, 53), header, b"x");
    let all = sent(host);
    let n = all.iter().position(|f| !f.is_empty()).expect("it leaves");
    assert_eq!(all[0].len() + all[1].len(), 1);
    let Frame::Udp(ip, ..) = dissect(&all[n][0]) else { panic!("{:x?}", all[n][0]) };
    (n, ip.src, Mac(*all[n][0].first_chunk().unwrap()))
}

#[test]
fn datagrams_leave_by_route_or_by_the_card_that_they_name() {
    let mut host = started();
    let id = host.open(Kind::Udp);
    host.bind(id, "0.0.0.0:4000").unwrap();
    let [near, gateway] = PEERS;
    let far = Ipv4Addr::new(192, 0, 2, 1);
    let any = Dgram::default();
    assert_eq!(leaves(&mut host, id, near.ip, any), (0, US[0], near.mac));
    assert_eq!(leaves(&mut host, id, gateway.ip, any), (1, US[1], gateway.mac));
    assert_eq!(leaves(&mut host, id, far, any), (1, US[1], gateway.mac));
    assert_eq!(leaves(&mut host, id, near.ip, by(2)), (0, US[0], near.mac));
    // As for Linux, who names a card takes who is beyond its routes for a neighbour: asked for there.
    put(&mut host, id, (far, 53), by(2), b"x");
    let [first, second] = sent(&mut host);
    assert!(second.is_empty() && first.len() == 1);
    assert_eq!((&first[0][12..14], &first[0][38..42]), (&[8, 6][..], &far.octets()[..]));
    let id = host.open(Kind::Udp);
    host.bind(id, "0.0.0.0:4001").unwrap();
    put(&mut host, id, (near.ip, 53), by(9), b"x");
    assert_eq!(sent(&mut host), [vec![], vec![]] as [Vec<Vec<u8>>; 2]);
    assert_eq!(host.progs[0].record(id).error(), Some(Error::NoDevice));
}

#[test]
fn groups_and_broadcasts_leave_by_the_named_card() {
    let mut host = started();
    let id = host.open(Kind::Udp);
    host.bind(id, "0.0.0.0:4000").unwrap();
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let mac = Mac::of_group(group.into());
    assert_eq!(leaves(&mut host, id, group, Dgram::default()), (1, US[1], mac), "by route");
    assert_eq!(leaves(&mut host, id, group, by(2)), (0, US[0], mac));
    // IP_MULTICAST_IF.
    host.progs[0].app(id).leaves_by().store(2, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(leaves(&mut host, id, group, Dgram::default()), (0, US[0], mac));
    let all = Ipv4Addr::new(10, 1, 0, 255);
    assert_eq!(leaves(&mut host, id, all, Dgram::default()), (1, US[1], Mac::BROADCAST));
}

/// Of a card without a link another takes the place, where it has a way; there is no daemon that would see to that.
#[test]
fn a_pulled_cable_leaves_the_way_to_the_other_card() {
    let mut first = spec();
    first.addressing = fixed(US[0], Some(PEERS[0].ip));
    let mut host = started_as(first);
    let id = host.open(Kind::Udp);
    host.bind(id, "0.0.0.0:4000").unwrap();
    let far = Ipv4Addr::new(192, 0, 2, 1);
    let any = Dgram::default();
    assert_eq!(
        leaves(&mut host, id, far, any),
        (0, US[0], PEERS[0].mac),
        "of equal routes the first"
    );
    host.now += S;
    host.plug(false);
    sent(&mut host);
    assert_eq!(leaves(&mut host, id, far, any), (1, US[1], PEERS[1].mac));
    host.plug(true);
    sent(&mut host);
    // Perhaps another network now: who is there is asked for anew.
    put(&mut host, id, (far, 53), any, b"x");
    let [first, second] = sent(&mut host);
    assert!(second.is_empty() && first.len() == 1);
    assert_eq!((&first[0][12..14], &first[0][38..42]), (&[8, 6][..], &PEERS[0].ip.octets()[..]));
}

/// Bytes of payload that leave by card `n`.
fn payload(host: &mut Host, n: usize) -> usize {
    let all = sent(host);
    let len = |f: &Vec<u8>| match dissect(f) {
        Frame::Tcp(_, _, data) => data.len(),
        _ => 0,
    };
    all[n].iter().map(len).sum()
}

#[test]
fn a_card_whose_driver_is_dead_holds_up_no_other() {
    let mut host = started();
    let listener = host.listen(80, 2);
    let (_, slow) = connection(&mut host, listener, 1);
    let (next, fast) = connection(&mut host, listener, 0);
    host.cards[0].stuck = true;
    // As much as it takes to fill what the driver of the second card has room for.
    let other = host.open(Kind::Udp);
    host.bind(other, "0.0.0.0:4000").unwrap();
    for _ in 0..400 {
        let room = host.progs[0].dgram_room(other) > 1500;
        if room {
            put(&mut host, other, (PEERS[1].ip, 9), Dgram::default(), &[1; 1400]);
        }
        host.settle();
    }
    host.progs[0].write(slow, &[2; 3000]);
    host.progs[0].submit(slow);
    host.progs[0].write(fast, &[3; 3000]);
    host.progs[0].submit(fast);
    assert_eq!(payload(&mut host, 0), 3000, "the first card's connection goes on");
    let ack = segment(Flags::ACK, Seq(1001), next + 3000);
    receive(&mut host, 0, &tcp_frame(PEERS[0], us(0, 0), &ack, &[]));
    sent(&mut host);
    assert_eq!(host.progs[0].record(fast).acknowledged(), 3000);
    // It wakes up: what waited leaves.
    host.cards[0].stuck = false;
    host.now += S;
    assert!(payload(&mut host, 1) >= 3000);
}

#[test]
fn a_driver_that_lies_loses_its_session_alone() {
    let mut host = started();
    let listener = host.listen(80, 1);
    let (_, id) = connection(&mut host, listener, 0);
    host.cards[0].lie();
    sent(&mut host);
    let events = host.events();
    assert!(events.iter().any(|e| e.to_string().starts_with("eth1: the driver misbehaves")));
    host.progs[0].write(id, b"still here");
    host.progs[0].submit(id);
    assert_eq!(payload(&mut host, 0), 10);
}

/// A group is joined on a link (RFC 1112 6.1): its packets are taken there alone, and routers there are told. That
/// outlives netd.
#[test]
fn a_group_is_joined_on_one_link() {
    let mut host = started();
    let id = host.open(Kind::Udp);
    host.bind(id, "0.0.0.0:5353").unwrap();
    let group = Ipv4Addr::new(239, 1, 2, 3);
    let to_group = End { mac: Mac::of_group(group.into()), ip: group };
    let sock = host.progs[0].sock(id);
    let ask = |host: &mut Host, on, join| {
        host.ask(Request::Membership { sock, group: group.into(), on, join }).map(|_| ())
    };
    assert_eq!(ask(&mut host, On::Number(7), true), Err(Error::NoDevice));
    assert_eq!(ask(&mut host, On::Address(US[0].into()), true), Ok(()));
    assert_eq!(ask(&mut host, On::Number(2), true), Err(Error::AddrInUse));
    assert_eq!(
        ask(&mut host, On::Any, false),
        Err(Error::AddrNotAvailable),
        "by route: the second"
    );
    let reports = |frames: &[Vec<u8>]| frames.iter().filter(|f| f[23] == 2).count();
    let mut told = [0; 2];
    for _ in 0..30 {
        host.now += 100 * MS;
        let all = sent(&mut host);
        told = [0, 1].map(|n| told[n] + reports(&all[n]));
    }
    assert_eq!(told, [2, 0]);
    for again in [false, true] {
        if again {
            host.crash();
            host.progs[0].signalled = true;
            sent(&mut host);
        }
        assert!(host.groups().contains(&to_group.mac.0));
        assert!(!host.cards[0].groups().contains(&to_group.mac.0));
        for n in [1, 0] {
            receive(&mut host, n, &udp_frame(PEERS[n], to_group, 9, 5353, &[n as u8]));
        }
        sent(&mut host);
        let got = |host: &mut Host| host.progs[0].recv_from(id).map(|(_, data)| data);
        assert_eq!((got(&mut host), got(&mut host)), (Some(vec![0]), None), "{again}");
    }
    assert_eq!(ask(&mut host, On::Number(2), false), Ok(()));
    assert!(!host.groups().contains(&to_group.mac.0));
}

/// Each card has a client of its own, and a lease that outlives netd.
#[test]
fn both_cards_ask_for_addresses() {
    let mut spec = spec();
    spec.addressing = Addressing::Dhcp;
    spec.cards[0].addressing = Addressing::Dhcp;
    let mut host = Host::new(spec);
    for _ in 0..40 {
        let all = sent(&mut host);
        for (n, queries) in all.iter().enumerate() {
            for query in queries {
                if let Some(answer) = dhcp_answer(n, query) {
                    receive(&mut host, n, &answer);
                }
            }
        }
        host.now += 50 * MS;
    }
    let addresses = |host: &mut Host| -> Vec<_> { host.stack().addresses().map(|a| a.0).collect() };
    let leased: Vec<std::net::IpAddr> = US.iter().map(|ip| (*ip).into()).collect();
    assert_eq!(addresses(&mut host), leased);
    host.crash();
    assert_eq!(addresses(&mut host), leased);
    for (number, ip) in [(2, US[0]), (3, US[1])] {
        let Ok(Reply::Interface(i)) = host.ask(Request::Interface { number }) else { panic!() };
        assert_eq!((i.addr, i.mac), (Some((ip.into(), 24)), MACS[number as usize - 2].0));
    }
    assert_eq!(host.ask(Request::Interface { number: 4 }), Err(Error::NoDevice));
}

/// What the server on link `n` says.
fn dhcp_answer(n: usize, frame: &[u8]) -> Option<Vec<u8>> {
    let Frame::Udp(_, udp, query) = dissect(frame) else { return None };
    if udp.dst != 67 {
        return None;
    }
    assert_eq!(query[28..34], MACS[n].0, "of this card");
    let answer = if query[242] == 1 { 2 } else { 5 };
    let mut b = vec![0; 240];
    b[..3].copy_from_slice(&[2, 1, 6]);
    b[4..8].copy_from_slice(&query[4..8]);
    b[16..20].copy_from_slice(&US[n].octets());
    b[28..34].copy_from_slice(&query[28..34]);
    b[236..240].copy_from_slice(&[99, 130, 83, 99]);
    b.extend([53, 1, answer, 54, 4]);
    b.extend(PEERS[n].ip.octets());
    b.extend([1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 3, 232, 255]);
    Some(udp_frame(PEERS[n], us(n, n), 67, 68, &b))
}
