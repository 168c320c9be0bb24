//! What headers of IPv6 say when they leave: flow labels (RFC 6437).

mod common;

use common::six::{End6, Six, What};
use libipc::sock::Kind;
use netd::wire::ext::Fragment;
use netd::wire::tcp::Flags;

/// The labels of all that was sent, but for discovery and groups.
fn labels(s: &mut Six) -> Vec<(u32, What)> {
    let sent = s.sent.drain(..).map(|(_, g)| (g.ip.flow, g.what));
    sent.filter(|(_, w)| !matches!(w, What::Icmp(_) | What::Mld(_))).collect()
}

/// RFC 6437 3: all packets of one flow have one label, not 0, and others another.
#[test]
fn packets_have_the_label_of_their_flow() {
    let mut s = Six::global();
    let mut connect = |to: &str| {
        let id = s.host.open(Kind::Tcp);
        s.host.connect(id, to).unwrap();
        s.settle();
        s.pass(1500);
        let all: Vec<u32> = labels(&mut s).into_iter().map(|(label, _)| label).collect();
        assert!(all.len() >= 2 && all.iter().all(|l| *l == all[0]), "{all:x?}");
        s.host.abort(id);
        s.settle();
        all[0]
    };
    let (a, b) = (connect("[2001:db8:ffff::9]:80"), connect("[2001:db8:ffff::9]:81"));
    assert!(a != 0 && b != 0 && a != b, "{a:x} {b:x}");
}

/// RFC 6437 3: the fragments of a packet, too, and what is said of no connection.
#[test]
fn fragments_and_resets_have_one_too() {
    let mut s = Six::global();
    let id = s.host.open(Kind::Udp);
    s.host.connect(id, "[2001:db8:ffff::9]:80").unwrap();
    s.host.progs[0].put_to(id, None, &[7; 3000]);
    s.host.progs[0].submit(id);
    s.settle();
    let sent = labels(&mut s);
    assert!(matches!(sent[0].1, What::Fragment(Fragment { offset: 0, .. }, _)));
    assert_eq!(sent.len(), 3);
    assert!(sent[0].0 != 0 && sent.iter().all(|l| l.0 == sent[0].0), "{sent:x?}");
    let nobody = common::six::to_80(Flags::SYN, 1, 0);
    s.send(&common::six::tcp(End6::number(2), s.us, &nobody, b""));
    assert_ne!(labels(&mut s)[0].0, 0);
}
