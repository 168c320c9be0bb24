//! Neighbour discovery, duplicate detection, what routers say, group membership (RFC 4861, 4862,
//! 7527, 8106, 4191, 3810, 2710).

mod common;

use common::HostSpec;
use common::six::{self, End6, Six, What, ip6, prefix, prefix_of};
use libipc::sock::{Error, Kind};
use netd::Addressing6;
use netd::env::Event;
use netd::wire::ethernet::Mac;
use netd::wire::ndp::{self, Advert, Message};
use std::net::IpAddr;

/// What a message of neighbour discovery says.
fn says(got: &six::Got) -> String {
    match &got.what {
        What::Icmp(b) => match ndp::Repr::parse(b) {
            Ok(ndp::Repr::Solicit(target, o)) => {
                let with = if o.source().is_some() { " with our address" } else { "" };
                format!("who has {target}{with}")
            }
            Ok(ndp::Repr::Advert(a, o)) => format!(
                "{} is here{}{}{}",
                a.target,
                if a.solicited { ", as asked" } else { "" },
                if a.replaces { ", instead" } else { "" },
                if o.target().is_some() { ", at" } else { "" }
            ),
            Ok(ndp::Repr::RouterSolicit(_)) => "routers?".into(),
            other => format!("{other:?}"),
        },
        What::Mld(b) => {
            let records = b[8..].chunks(20).map(|r| {
                let group: [u8; 16] = r[4..20].try_into().unwrap();
                format!(" {} {}", r[0], std::net::Ipv6Addr::from(group))
            });
            format!("groups{}", records.collect::<String>())
        }
        other => format!("{other:?}"),
    }
}

/// All that was sent, with its time in seconds, source and destination.
fn timeline(s: &mut Six) -> Vec<(u64, String)> {
    let line = |(ms, g): (u64, six::Got)| {
        (ms / 1000, format!("{} > {}: {}", g.ip.src, g.ip.dst, says(&g)))
    };
    s.sent.drain(..).map(line).collect()
}

/// RFC 4862 5.4, RFC 4861 6.3.7, RFC 3810 6.1.
#[test]
fn a_host_comes_up_on_a_link_without_routers() {
    let mut s = Six::new(Addressing6::Auto);
    s.pass(14_000);
    let lines = timeline(&mut s);
    let said = |what: &str| lines.iter().filter(|(_, l)| l.ends_with(what)).collect::<Vec<_>>();
    let probes = said(":: > ff02::1:ff00:1: who has fe80::ff:fe00:1");
    assert_eq!(probes.len(), 1, "{lines:#?}");
    let joined = said("groups 4 ff02::1:ff00:1");
    assert_eq!(joined.len(), 2, "{lines:#?}");
    assert!(joined[0].1.starts_with(":: > ff02::16"), "before there is an address (RFC 3590)");
    let routers = said("fe80::ff:fe00:1 > ff02::2: routers?");
    assert!((2..=3).contains(&routers.len()), "{lines:#?}");
    let times: Vec<u64> = routers.iter().map(|(t, _)| *t).collect();
    assert!(times[1] - times[0] >= 3 && times[1] - times[0] <= 5, "{times:?}");
    assert_eq!(lines.len(), 3 + routers.len(), "{lines:#?}");
    assert!(s.knows("fe80::ff:fe00:1"));
}

#[test]
fn messages_of_neighbours_have_hop_limit_255_and_a_station_as_goal() {
    let mut s = Six::new(Addressing6::Auto);
    s.pass(5000);
    let mut seen = 0;
    for (_, got) in &s.sent {
        match got.what {
            What::Icmp(_) => assert_eq!(got.ip.hop_limit, 255),
            What::Mld(_) => assert_eq!(got.ip.hop_limit, 1),
            _ => panic!("{got:?}"),
        }
        assert_eq!(got.to, Mac::of_group(got.ip.dst.into()), "RFC 2464 7");
        seen += 1;
    }
    assert!(seen >= 4);
}

fn solicit(s: &mut Six, from: End6, to: End6, target: &str, nonce: Option<[u8; 6]>) {
    let source = (!from.ip.is_unspecified()).then_some(from.mac);
    let message = Message::solicit(ip6(target), source, nonce);
    s.send(&six::icmp(from, to, 255, message.bytes()));
}

/// RFC 4861 7.2.4; flags and options as Linux has them.
#[test]
fn who_asks_for_our_address_gets_it() {
    let mut s = Six::ready();
    let (us, peer) = ("fe80::ff:fe00:1", s.peer);
    let group = End6::group("ff02::1:ff00:1");
    solicit(&mut s, peer, group, us, None);
    let (_, got) = s.next();
    assert_eq!((got.to, got.ip.hop_limit), (s.peer.mac, 255));
    assert_eq!(says(&got), "fe80::ff:fe00:1 is here, as asked, instead, at");
    // Whether it is still there: asked without a group, answered without an address.
    let own = s.us;
    solicit(&mut s, peer, own, us, None);
    assert_eq!(says(&s.next().1), "fe80::ff:fe00:1 is here, as asked");
    // By somebody who means to take it: all are told (RFC 4861 7.2.4).
    solicit(&mut s, peer.at("::"), group, us, None);
    let (_, got) = s.next();
    assert_eq!(
        (got.ip.dst, says(&got)),
        (ip6("ff02::1"), "fe80::ff:fe00:1 is here, instead, at".into())
    );
    // Another's address, one that a router passed on, one to no group with no source.
    solicit(&mut s, peer, group, "fe80::77", None);
    let far = six::icmp(peer, group, 254, Message::solicit(ip6(us), Some(peer.mac), None).bytes());
    s.send(&far);
    solicit(&mut s, peer.at("::"), own, us, None);
    s.nothing();
}

/// RFC 4862 5.4.3 to 5.4.5, RFC 7527.
#[test]
fn an_address_that_somebody_has_is_not_taken() {
    let us = "fe80::ff:fe00:1";
    let group = End6::group("ff02::1:ff00:1");
    for how in 0..4 {
        let mut s = Six::new(Addressing6::Auto);
        s.pass(1);
        while s.sent.iter().all(|(_, g)| matches!(g.what, What::Mld(_))) {
            s.pass(100);
        }
        let (_, probe) = s.sent.iter().find(|(_, g)| says(g).starts_with("who has")).unwrap();
        let What::Icmp(b) = &probe.what else { panic!() };
        let Ok(ndp::Repr::Solicit(_, options)) = ndp::Repr::parse(b) else { panic!() };
        let nonce = options.nonce().expect("RFC 7527");
        let peer = s.peer;
        match how {
            // Somebody has it.
            0 => {
                let advert =
                    Advert { target: ip6(us), router: false, solicited: false, replaces: true };
                let message = Message::advert(&advert, Some(peer.mac));
                s.send(&six::icmp(peer.at(us), End6::group("ff02::1"), 255, message.bytes()));
            }
            // Somebody asks for it as we do.
            1 => solicit(&mut s, peer.at("::"), group, us, Some([9; 6])),
            // Our own question comes back.
            2 => solicit(&mut s, peer.at("::"), group, us, Some(nonce)),
            // Somebody looks for its owner: that is not us yet, and not the one who asks.
            _ => solicit(&mut s, peer, group, us, None),
        }
        s.pass(5000);
        let conflict = |e: &Event| matches!(e, Event::AddressConflict { addr, .. } if *addr == IpAddr::V6(ip6(us)));
        let refused = s.host.events().iter().any(conflict);
        assert_eq!((s.knows(us), refused), (how >= 2, how < 2), "{how}");
        if how < 2 {
            s.host.crash();
            s.pass(10_000);
            assert!(!s.knows(us), "nor by the next netd");
        }
    }
}

/// RFC 4861 7.2.2, 7.3: three questions a second apart, then the address is unreachable.
#[test]
fn a_neighbour_that_is_not_there_is_an_error() {
    let mut s = Six::ready();
    s.answers = false;
    let id = s.host.open(Kind::Tcp);
    s.host.connect(id, "[fe80::99]:80").unwrap();
    s.pass(3500);
    let asked: Vec<_> =
        timeline(&mut s).into_iter().filter(|(_, l)| l.contains("who has fe80::99")).collect();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked[0].1.starts_with("fe80::ff:fe00:1 > ff02::1:ff00:99"));
    assert!(asked[0].1.ends_with("with our address"));
    assert_eq!(s.host.progs[0].record(id).error(), Some(Error::HostUnreachable));
}

/// RFC 4861 7.2.5: what an advertisement changes.
#[test]
fn advertisements_change_what_is_known() {
    let mut s = Six::ready();
    let echo = |s: &mut Six| {
        s.send(&six::echo(s.peer, s.us, false, 1, 1, b""));
        let (_, got) = s.next();
        assert!(matches!(&got.what, What::Icmp(b) if b[0] == 129), "{got:?}");
        got.to
    };
    let (first, second) = (s.peer.mac, Mac([2, 0, 0, 0, 0, 9]));
    assert_eq!(echo(&mut s), first);
    let say = |s: &mut Six, mac, solicited, replaces| {
        let advert = Advert { target: s.peer.ip, router: false, solicited, replaces };
        s.send(&six::icmp(s.peer, s.us, 255, Message::advert(&advert, mac).bytes()));
    };
    say(&mut s, Some(second), false, false);
    assert_eq!(echo(&mut s), first, "it does not replace");
    say(&mut s, Some(second), false, true);
    assert_eq!(echo(&mut s), second);
    // Nobody has asked for this one, and nobody speaks to it.
    let advert =
        Advert { target: ip6("fe80::55"), router: false, solicited: false, replaces: true };
    let stranger = s.peer.at("fe80::55");
    s.send(&six::icmp(stranger, s.us, 255, Message::advert(&advert, Some(second)).bytes()));
    assert_eq!(s.host.stack().counters().nd_ignored, 1);
}

/// RFC 4862 5.5, RFC 4861 6.3.4.
#[test]
fn a_router_gives_an_address_and_a_way_out() {
    let mut s = Six::ready();
    s.peer_advertises(1800, &[prefix(3600, 1800), vec![5, 1, 0, 0, 0, 0, 5, 120]]);
    s.pass(3000);
    let made = "2001:db8::ff:fe00:1";
    assert!(s.knows(made));
    let lines = timeline(&mut s);
    assert!(
        lines.iter().any(|(_, l)| l.starts_with(":: > ff02::1:ff00:1: who has 2001:db8")),
        "{lines:#?}"
    );
    assert!(!lines.iter().any(|(_, l)| l.contains("routers?")), "one is enough: {lines:#?}");
    // Far away by the router, from the address that reaches there, no longer than the link has it.
    let id = s.host.open(Kind::Tcp);
    s.host.connect(id, "[2001:db8:ffff::9]:80").unwrap();
    s.settle();
    let (_, got) = s.next();
    assert_eq!((got.to, got.ip.src), (s.peer.mac, ip6(made)));
    let What::Tcp(syn, _) = got.what else { panic!() };
    assert_eq!(syn.options.mss, Some(1400 - 60));
    // Near ones are asked for.
    let id = s.host.open(Kind::Tcp);
    s.host.connect(id, "[2001:db8::9]:80").unwrap();
    s.settle();
    assert_eq!(says(&s.next().1), "who has 2001:db8::9 with our address");
    // The router goes.
    s.peer_advertises(0, &[]);
    let id = s.host.open(Kind::Tcp);
    assert_eq!(s.host.connect(id, "[2001:db8:ffff::9]:81"), Err(Error::NetworkUnreachable));
}

#[test]
fn what_no_router_of_the_link_says_is_not_heeded() {
    let mut s = Six::ready();
    let stranger = s.peer.at("2001:db8::2");
    s.advertises(stranger, 1800, &[prefix(3600, 1800)]);
    // By another router, through one on the link.
    let mut message = vec![134, 0, 0, 0, 64, 0, 7, 8];
    message.extend([0; 8]);
    message.extend(prefix(3600, 1800));
    s.send(&six::icmp(s.peer, End6::group("ff02::1"), 254, &message));
    // With an option of no length.
    message.extend([5, 0, 0, 0, 0, 0, 0, 0]);
    s.send(&six::icmp(s.peer, End6::group("ff02::1"), 255, &message));
    s.pass(3000);
    assert!(!s.knows("2001:db8::ff:fe00:1"));
    let mut s = Six::new(Addressing6::Static {
        addr: ip6("2001:db8:7::1"),
        prefix: 64,
        gateway: Some(ip6("fe80::ff:fe00:2")),
        dns: None,
    });
    s.pass(5000);
    assert!(!timeline(&mut s).iter().any(|(_, l)| l.contains("routers?")), "nobody is asked");
    s.peer_advertises(1800, &[prefix(3600, 1800)]);
    s.pass(3000);
    assert!(s.knows("2001:db8:7::1") && !s.knows("2001:db8::ff:fe00:1"));
    let id = s.host.open(Kind::Tcp);
    s.host.connect(id, "[2001:db8:ffff::9]:80").unwrap();
    s.settle();
    let got = s.sent.iter().map(|(_, g)| g).find(|g| matches!(g.what, What::Tcp(..))).unwrap();
    assert_eq!((got.to, got.ip.src), (s.peer.mac, ip6("2001:db8:7::1")));
}

/// RFC 4862 5.5.4: a deprecated address is not chosen, an invalid one is gone; RFC 4861 6.3.4: a
/// route ends with its lifetime.
#[test]
fn addresses_and_routes_end_when_routers_said() {
    let mut s = Six::ready();
    let other = prefix_of("2001:db8:1::", 64, 0xc0, 9000, 9000);
    s.peer_advertises(1800, &[prefix(8000, 100), other]);
    s.pass(5000);
    let source = |s: &mut Six| {
        let id = s.host.open(Kind::Udp);
        s.host.connect(id, "[2001:db8::9]:80").unwrap();
        let local = s.host.local(id).ip();
        s.host.close(id);
        local
    };
    assert_eq!(source(&mut s), IpAddr::V6(ip6("2001:db8::ff:fe00:1")));
    s.pass(100_000);
    assert_eq!(source(&mut s), IpAddr::V6(ip6("2001:db8:1::ff:fe00:1")), "the other is deprecated");
    assert!(s.knows("2001:db8::ff:fe00:1"));
    s.pass(8_000_000);
    assert!(!s.knows("2001:db8::ff:fe00:1") && s.knows("2001:db8:1::ff:fe00:1"));
    let id = s.host.open(Kind::Tcp);
    assert_eq!(s.host.connect(id, "[2001:db8:ffff::9]:80"), Err(Error::NetworkUnreachable));
}

/// RFC 4861 8.3: only from the present first hop.
#[test]
fn a_redirect_names_a_better_first_hop() {
    let mut s = Six::global();
    let (third, far) = (End6::number(3), ip6("2001:db8:ffff::9"));
    let redirect = |from: End6, s: &mut Six| {
        let mut message = vec![137, 0, 0, 0, 0, 0, 0, 0];
        message.extend(third.ip.octets());
        message.extend(far.octets());
        message.extend([2, 1]);
        message.extend(third.mac.0);
        s.send(&six::icmp(from, s.us, 255, &message));
    };
    let hop = |s: &mut Six| {
        let id = s.host.open(Kind::Tcp);
        s.host.connect(id, "[2001:db8:ffff::9]:80").unwrap();
        s.settle();
        s.next().1.to
    };
    redirect(End6::number(4), &mut s);
    assert_eq!(hop(&mut s), s.peer.mac);
    redirect(s.peer, &mut s);
    assert_eq!(hop(&mut s), third.mac);
}

/// RFC 8106 5.1, as `ip` shows it.
#[test]
fn routers_name_name_servers() {
    let mut s = Six::ready();
    let mut dns = vec![25, 3, 0, 0, 0, 0, 0, 60];
    dns.extend(ip6("2001:db8::53").octets());
    s.peer_advertises(1800, &[dns]);
    assert_eq!(s.host.dns(), Some(IpAddr::V6(ip6("2001:db8::53"))));
    s.pass(61_000);
    assert_eq!(s.host.dns(), None);
}

/// What netd has settled holds for the next one, at once.
#[test]
fn a_restart_asks_nobody_whose_addresses_they_are() {
    let mut s = Six::global();
    s.host.crash();
    s.pass(1);
    assert!(s.knows("2001:db8::ff:fe00:1") && s.knows("fe80::ff:fe00:1"));
    let lines = timeline(&mut s);
    assert!(!lines.iter().any(|(_, l)| l.contains("who has")), "{lines:#?}");
    assert!(lines.iter().any(|(_, l)| l.ends_with("> ff02::2: routers?")), "{lines:#?}");
    let id = s.host.open(Kind::Tcp);
    s.host.connect(id, "[2001:db8:ffff::9]:80").unwrap();
    s.settle();
    let got = s.sent.iter().map(|(_, g)| g).find(|g| matches!(g.what, What::Tcp(..)));
    assert_eq!(got.expect("by the router that was known").to, s.peer.mac);
}

fn query(s: &mut Six, group: &str, max_ms: u16, v2: bool) {
    let mut message = vec![130, 0, 0, 0];
    message.extend(max_ms.to_be_bytes());
    message.extend([0, 0]);
    message.extend(ip6(group).octets());
    if v2 {
        message.extend([2, 125, 0, 0]);
    }
    let to = if group == "::" { End6::group("ff02::1") } else { End6::group(group) };
    let bytes = six::icmp_bytes(s.peer, to, &message);
    let alert = [58, 0, 5, 2, 0, 0, 1, 0];
    s.send(&six::packet(s.peer, to, 1, 0, &[&alert[..], &bytes].concat()));
}

/// RFC 3810 6.2, 5.1.14; RFC 2710 4.
#[test]
fn routers_are_told_of_groups() {
    let mut s = Six::ready();
    query(&mut s, "::", 1000, true);
    s.pass(1100);
    let lines = timeline(&mut s);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].1.ends_with("fe80::ff:fe00:1 > ff02::16: groups 2 ff02::1:ff00:1"),
        "{lines:?}"
    );
    query(&mut s, "ff02::1:ff00:1", 0, true);
    s.pass(10);
    assert_eq!(timeline(&mut s).len(), 1);
    query(&mut s, "ff02::1:ff00:9", 0, true);
    // From a router further away; without a router alert.
    let message = six::icmp_bytes(
        s.peer,
        End6::group("ff02::1"),
        &[&[130, 0, 0, 0, 0, 0, 0, 0][..], &[0; 16], &[2, 125, 0, 0]].concat(),
    );
    s.send(&six::packet(s.peer, End6::group("ff02::1"), 1, 58, &message));
    s.pass(100);
    s.nothing();
    // A router of the first version.
    query(&mut s, "::", 1000, false);
    s.pass(1100);
    let (_, got) = s.next();
    assert_eq!(got.ip.dst, ip6("ff02::1:ff00:1"));
    assert!(matches!(&got.what, What::Mld(b) if b[0] == 131 && b.len() == 24), "{got:?}");
}

#[test]
fn the_nic_is_told_which_groups_to_take() {
    let s = Six::global();
    let groups: Vec<[u8; 6]> = s.host.groups();
    for group in ["ff02::1", "ff02::1:ff00:1"] {
        assert!(groups.contains(&Mac::of_group(ip6(group).into()).0), "{group}: {groups:?}");
    }
}

/// Time alone, and nonsense, end somewhere.
#[test]
fn a_flood_of_advertisements_fills_no_more_than_its_share() {
    let mut s = Six::with(HostSpec { ip6: Addressing6::Auto, ..HostSpec::fixed(1) });
    s.pass(5000);
    for i in 0..200u16 {
        let by = End6 {
            mac: Mac([2, 0, 0, 1, (i >> 8) as u8, i as u8]),
            ip: std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 1, 0, 0, i),
        };
        let addr = format!("2001:db8:{i:x}::");
        s.advertises(by, 1800, &[prefix_of(&addr, 64, 0xc0, 3600, 1800)]);
    }
    s.pass(5000);
    let known = s.host.stack().addresses().filter(|(ip, _)| ip.is_ipv6()).count();
    assert!(known <= 8, "{known}");
    let id = s.host.open(Kind::Udp);
    s.host.connect(id, "10.0.0.2:9").expect("IPv4 has its way still");
}
