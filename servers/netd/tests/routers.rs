//! Which router packets go to, and how far (RFC 4861 6.3, RFC 4191).

mod common;

use common::six::{self, End6, Six, What, ip6, prefix};
use libipc::sock::Kind;

/// RFC 4191 2.3, 3.5: routes with prefixes and preferences.
#[test]
fn routers_have_routes_and_preferences() {
    let mut s = Six::ready();
    let second = End6::number(3);
    let mut route = vec![24, 2, 48, 0, 0, 0, 0x0e, 0x10];
    route.extend(&ip6("2001:db8:7::").octets()[..8]);
    s.peer_advertises(1800, &[prefix(3600, 1800)]);
    s.advertises(second, 1800, &[route]);
    s.pass(3000);
    s.sent.clear();
    for (dst, by) in [("2001:db8:7::1", second.mac), ("2001:db8:8::1", s.peer.mac)] {
        let id = s.host.open(Kind::Tcp);
        s.host.connect(id, &format!("[{dst}]:80")).unwrap();
        s.settle();
        assert_eq!(s.next().1.to, by, "{dst}");
    }
    // One that wants to be preferred.
    let mut message = vec![134, 0, 0, 0, 64, 0x08, 7, 8];
    message.extend([0; 8]);
    s.send(&six::icmp(second, End6::group("ff02::1"), 255, &message));
    let id = s.host.open(Kind::Tcp);
    s.host.connect(id, "[2001:db8:9::1]:80").unwrap();
    s.settle();
    assert_eq!(s.next().1.to, second.mac);
}

/// A datagram socket that speaks to a host far away, and a datagram of it.
fn udp_to(s: &mut Six, to: &str) -> u16 {
    let id = s.host.open(Kind::Udp);
    s.host.connect(id, to).unwrap();
    id
}

fn say(s: &mut Six, id: u16) {
    s.host.progs[0].put_to(id, None, b"x");
    s.host.progs[0].submit(id);
    s.settle();
}

/// RFC 4861 6.3.6: routers that are reachable, or of which nothing is known, before one that did not answer.
#[test]
fn a_router_that_does_not_answer_is_left_for_another() {
    let mut s = Six::ready();
    let second = End6::number(3);
    s.peer_advertises(1800, &[prefix(3600, 1800)]);
    s.advertises(second, 1800, &[]);
    s.pass(3000);
    let id = udp_to(&mut s, "[2001:db8:ffff::9]:80");
    let by = |s: &mut Six, id| {
        s.sent.clear();
        say(s, id);
        s.sent.iter().find(|(_, g)| matches!(g.what, What::Udp(..))).map(|(_, g)| g.to)
    };
    assert_eq!(by(&mut s, id), Some(s.peer.mac));
    s.answers = false;
    s.pass(2000);
    assert_eq!(by(&mut s, id), Some(s.peer.mac), "until it is known that it does not answer");
    s.pass(10_000);
    assert_eq!(by(&mut s, id), Some(second.mac));
    s.peer_advertises(1800, &[]);
    assert_eq!(by(&mut s, id), Some(s.peer.mac), "it has been heard again");
}

/// RFC 4861 6.3.4: routers say how many hops packets take, of every protocol.
#[test]
fn routers_say_how_many_hops_packets_may_take() {
    let mut s = Six::global();
    s.advertises_hops(s.peer, 9, 1800, &[]);
    let id = udp_to(&mut s, "[2001:db8:ffff::9]:80");
    say(&mut s, id);
    let tcp = s.host.open(Kind::Tcp);
    s.host.connect(tcp, "[2001:db8:ffff::9]:81").unwrap();
    s.settle();
    let hops: Vec<u8> = s.sent.drain(..).map(|(_, g)| g.ip.hop_limit).collect();
    assert_eq!(hops, [9, 9]);
}
