//! Which sources of a group a socket hears, and what routers are told of that: IGMPv3 (RFC 3376), MLDv2 (RFC 3810), and
//! their older versions.

mod common;

use common::frames::{End, ip_frame, udp_frame};
use common::six::{self, Six, What, ip6};
use common::two::{PEERS, US, receive, sent, started};
use common::{Host, MS, S};
use libipc::net::Request;
use libipc::sock::{Error, Heard, Kind, On, option};
use netd::wire::checksum::Sum;
use netd::wire::ethernet::Mac;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering::Relaxed;

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

/// Neighbour `n` of the first link.
fn source(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, n).into()
}

fn hear_in(
    host: &mut Host,
    id: u16,
    group: IpAddr,
    source: IpAddr,
    heard: Heard,
) -> Result<(), Error> {
    let sock = host.progs[0].sock(id);
    host.ask(Request::Source { sock, group, source, on: On::Number(2), heard }).map(|_| ())
}

fn hear(host: &mut Host, id: u16, n: u8, heard: Heard) -> Result<(), Error> {
    hear_in(host, id, GROUP.into(), source(n), heard)
}

fn member(host: &mut Host, id: u16, join: bool) -> Result<(), Error> {
    let sock = host.progs[0].sock(id);
    let group = GROUP.into();
    host.ask(Request::Membership { sock, group, on: On::Number(2), join }).map(|_| ())
}

fn socket(host: &mut Host) -> u16 {
    let id = host.open(Kind::Udp);
    host.progs[0].app(id).options.store(option::REUSEADDR, Relaxed);
    host.bind(id, "0.0.0.0:5000").unwrap();
    id
}

/// Neighbours 7, 8 and 9 send; who of them is heard.
fn heard(host: &mut Host, id: u16) -> Vec<u8> {
    let to = End { mac: Mac::of_group(GROUP.into()), ip: GROUP };
    for n in 7..10 {
        let from = End { ip: Ipv4Addr::new(10, 0, 0, n), ..PEERS[0] };
        receive(host, 0, &udp_frame(from, to, 9, 5000, &[n]));
    }
    sent(host);
    std::iter::from_fn(|| host.progs[0].recv_from(id)).map(|(_, data)| data[0]).collect()
}

fn restart(host: &mut Host) {
    host.crash();
    host.progs[0].signalled = true;
    sent(host);
}

/// RFC 3376 2, Linux's `ip_mc_source`.
#[test]
fn a_socket_hears_the_sources_that_it_names() {
    let mut host = started();
    let id = socket(&mut host);
    assert_eq!(hear(&mut host, id, 9, Heard::Leave), Err(Error::Invalid), "in no group");
    assert_eq!(hear(&mut host, id, 9, Heard::Block), Err(Error::Invalid));
    assert_eq!(hear(&mut host, id, 9, Heard::Join), Ok(()));
    assert_eq!(hear(&mut host, id, 9, Heard::Join), Err(Error::AddrNotAvailable), "already");
    assert_eq!(hear(&mut host, id, 8, Heard::Block), Err(Error::Invalid), "the other way round");
    assert_eq!(member(&mut host, id, true), Err(Error::AddrInUse));
    assert_eq!(heard(&mut host, id), [9]);
    assert_eq!(hear(&mut host, id, 7, Heard::Join), Ok(()));
    assert_eq!(hear(&mut host, id, 6, Heard::Leave), Err(Error::AddrNotAvailable));
    for crashed in [false, true] {
        if crashed {
            restart(&mut host);
        }
        assert_eq!(heard(&mut host, id), [7, 9], "{crashed}");
    }
    assert_eq!(hear(&mut host, id, 9, Heard::Leave), Ok(()));
    assert_eq!(heard(&mut host, id), [7]);
    assert!(host.groups().contains(&Mac::of_group(GROUP.into()).0));
    assert_eq!(hear(&mut host, id, 7, Heard::Leave), Ok(()), "with the last one the group");
    assert_eq!(member(&mut host, id, false), Err(Error::AddrNotAvailable));
    assert!(!host.groups().contains(&Mac::of_group(GROUP.into()).0));
}

#[test]
fn a_socket_does_not_hear_the_sources_that_it_blocks() {
    let mut host = started();
    let id = socket(&mut host);
    assert_eq!(member(&mut host, id, true), Ok(()));
    assert_eq!(hear(&mut host, id, 8, Heard::Unblock), Err(Error::AddrNotAvailable));
    assert_eq!(hear(&mut host, id, 8, Heard::Block), Ok(()));
    assert_eq!(hear(&mut host, id, 9, Heard::Join), Err(Error::Invalid), "the other way round");
    for crashed in [false, true] {
        if crashed {
            restart(&mut host);
        }
        assert_eq!(heard(&mut host, id), [7, 9], "{crashed}");
    }
    assert_eq!(hear(&mut host, id, 8, Heard::Unblock), Ok(()));
    assert_eq!(heard(&mut host, id), [7, 8, 9]);
    // Linux: nothing is blocked, so it may hear named ones alone from now on.
    assert_eq!(hear(&mut host, id, 9, Heard::Join), Ok(()));
    assert_eq!(heard(&mut host, id), [9]);
}

#[test]
fn sources_have_limits() {
    let mut host = started();
    let ids: Vec<u16> = (0..14).map(|_| socket(&mut host)).collect();
    for (i, id) in ids.iter().enumerate() {
        let n = (10..21).take_while(|n| hear(&mut host, *id, *n, Heard::Join) == Ok(())).count();
        assert_eq!(n, [10, 8, 0][i.saturating_sub(11)], "Linux's ten each, and 128 in all");
    }
    assert_eq!(hear(&mut host, ids[0], 99, Heard::Join), Err(Error::NoBuffers));
    for id in &ids {
        assert!(host.close(*id));
    }
    let id = socket(&mut host);
    assert_eq!(hear(&mut host, id, 9, Heard::Join), Ok(()), "they are given back");
    let v6 = ip6("2001:db8::1").into();
    assert_eq!(hear_in(&mut host, id, GROUP.into(), v6, Heard::Join), Err(Error::Invalid));
    assert_eq!(hear_in(&mut host, id, source(9), source(9), Heard::Join), Err(Error::Invalid));
}

/// RFC 3376 3.2: the interface hears what anybody hears; and a socket that is in no group what the interface hears.
#[test]
fn sockets_do_not_take_from_one_another() {
    let mut host = started();
    let [named, all_but, nobody] = [(); 3].map(|()| socket(&mut host));
    assert_eq!(hear(&mut host, named, 8, Heard::Join), Ok(()));
    assert_eq!(heard(&mut host, nobody), [8]);
    assert_eq!(member(&mut host, all_but, true), Ok(()));
    assert_eq!(hear(&mut host, all_but, 8, Heard::Block), Ok(()));
    assert_eq!(hear(&mut host, all_but, 9, Heard::Block), Ok(()));
    let clear = |host: &mut Host| [named, nobody, all_but].map(|id| heard(host, id).len());
    clear(&mut host);
    assert_eq!(heard(&mut host, all_but), [7]);
    let mut rest = |id| -> Vec<u8> {
        std::iter::from_fn(|| host.progs[0].recv_from(id)).map(|(_, data)| data[0]).collect()
    };
    assert!(rest(named).iter().all(|n| *n == 8));
    assert!(rest(nobody).ends_with(&[7, 8]));
}

/// The records of a report of IGMPv3 in text; messages of older versions by their type.
fn report(frame: &[u8]) -> Option<String> {
    let ip = &frame[14..];
    if frame[12..14] != [8, 0] || ip[9] != 2 {
        return None;
    }
    let b = &ip[(ip[0] & 15) as usize * 4..u16::from_be_bytes([ip[2], ip[3]]) as usize];
    assert!(Sum::ZERO.bytes(b).is_intact() && ip[8] == 1);
    if b[0] != 0x22 {
        return Some(format!(
            "type {:#x} to {}",
            b[0],
            Ipv4Addr::from([ip[16], ip[17], ip[18], ip[19]])
        ));
    }
    let (mut rest, mut text) = (&b[8..], Vec::new());
    for _ in 0..b[7] {
        let n = rest[3] as usize;
        let all = rest[8..8 + 4 * n].chunks(4).map(|s| format!(" {}", s[3]));
        text.push(format!("{}{}", rest[0], all.collect::<String>()));
        rest = &rest[8 + 4 * n..];
    }
    assert!(rest.is_empty());
    Some(text.join(", "))
}

/// What is reported by the first card within so many seconds.
fn reported(host: &mut Host, seconds: u64) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..seconds * 20 {
        all.extend(sent(host)[0].iter().filter_map(|f| report(f)));
        host.now += 50 * MS;
    }
    all
}

/// RFC 3376 5.1; each is said twice (the robustness variable).
#[test]
fn routers_are_told_of_sources() {
    let mut host = started();
    let [a, b] = [(); 2].map(|()| socket(&mut host));
    let mut step = |what: &str, change: &mut dyn FnMut(&mut Host), expected: &[&str]| {
        change(&mut host);
        assert_eq!(reported(&mut host, 4), expected, "{what}");
    };
    let join = |id, n| move |h: &mut Host| hear(h, id, n, Heard::Join).unwrap();
    step("a named source", &mut join(a, 9), &["5 9", "5 9"]);
    step("another", &mut join(b, 8), &["5 8", "5 8"]);
    step("the same", &mut join(b, 9), &[]);
    step("one less", &mut |h| hear(h, b, 8, Heard::Leave).unwrap(), &["6 8", "6 8"]);
    step("none", &mut |h| hear(h, b, 9, Heard::Leave).unwrap(), &[]);
    step("all", &mut |h| member(h, b, true).unwrap(), &["4", "4"]);
    step("blocked, but heard by another", &mut |h| hear(h, b, 9, Heard::Block).unwrap(), &[]);
    step("blocked", &mut |h| hear(h, b, 7, Heard::Block).unwrap(), &["6 7", "6 7"]);
    step("heard again", &mut |h| hear(h, b, 7, Heard::Unblock).unwrap(), &["5 7", "5 7"]);
    step("named ones alone", &mut |h| member(h, b, false).unwrap(), &["3 9", "3 9"]);
    step("after a crash", &mut |h| restart(h), &["5 9", "5 9"]);
    step("nobody", &mut |h| member(h, a, false).unwrap(), &["6 9", "6 9"]);
}

/// A query for a group and these sources, or none, from the neighbour on the first link.
fn query(host: &mut Host, ty_code: [u8; 2], sources: Option<&[u8]>) {
    let mut b = [&ty_code[..], &[0, 0], &GROUP.octets()].concat();
    if let Some(sources) = sources {
        b.extend([2, 125, 0, sources.len() as u8]);
        sources.iter().for_each(|n| b.extend([10, 0, 0, *n]));
    }
    let sum = Sum::ZERO.bytes(&b).finish();
    b[2..4].copy_from_slice(&sum);
    let to = End { mac: Mac::of_group(GROUP.into()), ip: GROUP };
    receive(host, 0, &ip_frame(PEERS[0], to, 2, &b));
}

/// RFC 3376 5.2, 6.1: current-state records, of the sources that were asked for.
#[test]
fn queries_for_sources_are_answered() {
    let mut host = started();
    let id = socket(&mut host);
    hear(&mut host, id, 9, Heard::Join).unwrap();
    reported(&mut host, 4);
    query(&mut host, [0x11, 10], Some(&[]));
    assert_eq!(reported(&mut host, 2), ["1 9"]);
    query(&mut host, [0x11, 10], Some(&[8, 9]));
    assert_eq!(reported(&mut host, 2), ["1 9"], "of those the one that is heard");
    query(&mut host, [0x11, 10], Some(&[7, 8]));
    assert_eq!(reported(&mut host, 2), [""; 0]);
    member(&mut host, id, false).unwrap();
    member(&mut host, id, true).unwrap();
    hear(&mut host, id, 8, Heard::Block).unwrap();
    reported(&mut host, 8);
    query(&mut host, [0x11, 10], Some(&[7, 8]));
    assert_eq!(reported(&mut host, 2), ["1 7"]);
    query(&mut host, [0x11, 10], Some(&[]));
    assert_eq!(reported(&mut host, 2), ["2 8"]);
}

/// RFC 3376 7.2.1: a router of version 2 hears of groups alone, one of version 1 nothing of their end.
#[test]
fn older_routers_are_spoken_to_in_their_version() {
    for (code, ty, leaves) in [(10, "0x16", true), (0, "0x12", false)] {
        let mut host = started();
        let id = socket(&mut host);
        hear(&mut host, id, 9, Heard::Join).unwrap();
        reported(&mut host, 4);
        query(&mut host, [0x11, code], None);
        let report = format!("type {ty} to {GROUP}");
        assert_eq!(reported(&mut host, 11), [report.as_str()]);
        hear(&mut host, id, 8, Heard::Join).unwrap();
        assert_eq!(reported(&mut host, 4), [""; 0], "sources have no meaning there");
        member(&mut host, id, false).unwrap();
        let left = reported(&mut host, 4);
        assert_eq!(left, if leaves { vec!["type 0x17 to 224.0.0.2"] } else { vec![] });
        // Half an hour without such a query: the third version again.
        host.now += 1800 * S;
        member(&mut host, id, true).unwrap();
        assert_eq!(reported(&mut host, 4), ["4", "4"]);
    }
    assert_eq!(US[0], Ipv4Addr::new(10, 0, 0, 1));
}

/// RFC 3810 5.2.12: the same of IPv6.
#[test]
fn listeners_of_ipv6_name_sources_too() {
    let mut s = Six::ready();
    let id = s.host.open(Kind::Udp);
    s.host.bind(id, "[::]:5000").unwrap();
    let group = ip6("ff05::7");
    let told = |s: &mut Six| -> Vec<String> {
        s.pass(4000);
        let text = |got: six::Got| match got.what {
            What::Mld(b) => {
                let n = u16::from_be_bytes([b[10], b[11]]) as usize;
                let part = |at: usize| Ipv6Addr::from(*b[at..].first_chunk::<16>().unwrap());
                assert_eq!((b[7], part(12), b.len()), (1, group, 28 + 16 * n));
                let all = (0..n).map(|i| format!(" {}", part(28 + 16 * i)));
                Some(format!("{}{}", b[8], all.collect::<String>()))
            }
            _ => None,
        };
        s.sent.drain(..).filter_map(|(_, got)| text(got)).collect()
    };
    told(&mut s);
    let change = |s: &mut Six, ip: &str, heard| {
        hear_in(&mut s.host, id, group.into(), ip6(ip).into(), heard).unwrap();
    };
    change(&mut s, "2001:db8::9", Heard::Join);
    assert_eq!(told(&mut s), ["5 2001:db8::9"; 2]);
    let peer = s.peer;
    for (from, data) in [("2001:db8::8", b"8"), ("2001:db8::9", b"9")] {
        s.send(&six::udp(peer.at(from), six::End6::group("ff05::7"), 9, 5000, data));
    }
    s.settle();
    let got: Vec<_> = std::iter::from_fn(|| s.host.progs[0].recv_from(id)).map(|g| g.1).collect();
    assert_eq!(got, [b"9"]);
    change(&mut s, "2001:db8::9", Heard::Leave);
    assert_eq!(told(&mut s), ["6 2001:db8::9"; 2]);
}
