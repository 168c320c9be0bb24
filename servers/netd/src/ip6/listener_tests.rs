//! Tests of [`super`].

use super::*;

fn ip(s: &str) -> Ipv6Addr {
    s.parse().unwrap()
}

fn said(l: &mut Listener, now: u64) -> heapless::Vec<Say, 8> {
    let mut all = heapless::Vec::new();
    while let Some(say) = l.next(1000, now) {
        all.push(say).unwrap();
    }
    all
}

const ALL: Query = Query {
    group: None,
    v1: false,
    within_ms: 10_000,
    sources: false,
    first: false,
    robustness: 2,
};

#[test]
fn a_change_is_said_twice_and_an_answer_once() {
    let (mut l, group) = (Listener::default(), ip("ff05::7"));
    assert!(l.join(group, 0) && l.join(ipv6::ALL_NODES, 0));
    let joined = Say { group, joined: true, what: What::Mode };
    assert_eq!(said(&mut l, 0)[..], *core::slice::from_ref(&joined));
    assert_eq!(said(&mut l, S)[..], [joined]);
    assert_eq!(l.deadline(), NEVER);
    l.query(&ALL, &Sources::new(), u32::MAX / 2, 2 * S);
    assert!((6 * S..=7 * S).contains(&l.deadline()));
    l.query(&Query { group: Some(group), within_ms: 0, ..ALL }, &Sources::new(), u32::MAX, 2 * S);
    assert_eq!(said(&mut l, 2 * S)[..], [Say { group, joined: true, what: What::State }]);
    l.query(&Query { group: Some(ip("ff05::8")), ..ALL }, &Sources::new(), 0, 2 * S);
    assert_eq!(l.deadline(), NEVER, "not ours");
    l.leave(group, 3 * S);
    let left = Say { group, joined: false, what: What::Mode };
    assert_eq!(
        (&said(&mut l, 3 * S)[..], &said(&mut l, 9 * S)[..]),
        (&[left.clone()][..], &[left][..])
    );
    l.query(&ALL, &Sources::new(), 0, 10 * S);
    assert_eq!(l.deadline(), NEVER, "forgotten");
}

#[test]
fn in_the_first_version_one_report_is_enough() {
    let (mut l, group) = (Listener::default(), ip("ff05::7"));
    l.join(group, 0);
    said(&mut l, 0);
    said(&mut l, S);
    l.query(&Query { v1: true, ..ALL }, &Sources::new(), u32::MAX, 2 * S);
    assert!(l.is_v1(2 * S) && (11 * S..12 * S).contains(&l.deadline()));
    l.others_report(group, 3 * S);
    assert_eq!(l.deadline(), NEVER);
    l.leave(group, 4 * S);
    assert_eq!(said(&mut l, 4 * S)[..], [], "the other one says when it is done");
    assert!(!l.is_v1(300 * S));
}

#[test]
fn groups_have_a_limit() {
    let mut l = Listener::default();
    let joined = (0..100).filter(|i| l.join(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, *i), 0));
    assert_eq!(joined.count(), GROUPS);
}

fn filter(exclude: bool, sources: &[&str]) -> Filter {
    Filter { exclude, sources: sources.iter().map(|s| ip(s)).collect() }
}

fn list(sources: &[&str]) -> Sources {
    sources.iter().map(|s| ip(s)).collect()
}

/// RFC 3376 5.1: ALLOW and BLOCK of differences, the whole filter when its mode changes; each twice.
#[test]
fn changes_of_sources_are_told_as_differences() {
    let (mut l, group) = (Listener::default(), ip("ff05::7"));
    let (none, one, two) =
        (filter(false, &[]), filter(false, &["::1"]), filter(false, &["::1", "::2"]));
    let says = |joined, allowed: &[&str], blocked: &[&str]| Say {
        group,
        joined,
        what: What::Sources { allowed: list(allowed), blocked: list(blocked) },
    };
    l.changed(group, &none, &one, 0);
    assert_eq!(said(&mut l, 0)[..], [says(true, &["::1"], &[])]);
    l.changed(group, &one, &two, 1);
    assert_eq!(said(&mut l, 1)[..], [says(true, &["::1", "::2"], &[])], "the first again, too");
    l.changed(group, &two, &one, 2);
    assert_eq!(said(&mut l, 2)[..], [says(true, &[], &["::2"])]);
    let all_but = filter(true, &["::3"]);
    l.changed(group, &one, &all_but, 3);
    let mode = |joined| Say { group, joined, what: What::Mode };
    assert_eq!(said(&mut l, 3)[..], [mode(true)]);
    assert_eq!(said(&mut l, 2 * S)[..], [mode(true)], "and of ::2 nothing more");
    l.changed(group, &all_but, &filter(true, &["::4"]), 2 * S);
    assert_eq!(said(&mut l, 2 * S)[..], [says(true, &["::3"], &["::4"])]);
    said(&mut l, 4 * S);
    l.changed(group, &filter(true, &["::4"]), &one, 5 * S);
    said(&mut l, 5 * S);
    said(&mut l, 7 * S);
    l.changed(group, &one, &none, 8 * S);
    assert_eq!(said(&mut l, 8 * S)[..], [says(false, &[], &["::1"])]);
    assert_eq!(said(&mut l, 10 * S).len(), 1);
    assert_eq!((l.deadline(), l.groups.len(), l.told.len()), (NEVER, 0, 0));
}

/// RFC 3376 5.2: sources that are asked for are answered alone, unless the whole group was asked for meanwhile.
#[test]
fn sources_that_are_asked_for_are_answered() {
    let (mut l, group) = (Listener::default(), ip("ff05::7"));
    l.changed(group, &filter(false, &[]), &filter(true, &[]), 0);
    said(&mut l, 0);
    said(&mut l, 2 * S);
    let asks = Query { group: Some(group), within_ms: 1000, ..ALL };
    l.query(&asks, &list(&["::1", "::2"]), u32::MAX, 3 * S);
    l.query(&asks, &list(&["::2", "::3"]), u32::MAX, 3 * S);
    let of = Say { group, joined: true, what: What::Of(list(&["::1", "::2", "::3"])) };
    assert_eq!(said(&mut l, 4 * S)[..], [of]);
    l.query(&asks, &list(&["::1"]), u32::MAX, 5 * S);
    l.query(&asks, &Sources::new(), u32::MAX, 5 * S);
    assert_eq!(said(&mut l, 6 * S)[..], [Say { group, joined: true, what: What::State }]);
    assert_eq!((l.deadline(), l.told.len()), (NEVER, 0));
    let many: Sources = (0..MOST as u16).map(|i| Ipv6Addr::new(1, 0, 0, 0, 0, 0, 0, i)).collect();
    l.query(&asks, &list(&["::1"]), u32::MAX, 7 * S);
    l.query(&asks, &many, u32::MAX, 7 * S);
    assert_eq!(said(&mut l, 8 * S)[0].what, What::State, "no room to remember them");
}

/// RFC 3376 7.2.1: for a router that knows no sources changes of them are forgotten; nothing is told of them for ever.
#[test]
fn an_older_router_ends_changes_of_sources() {
    let (mut l, group) = (Listener::default(), ip("ff05::7"));
    let one = filter(false, &["::1"]);
    l.changed(group, &filter(false, &[]), &one, 0);
    l.changed(group, &one, &filter(false, &[]), 1);
    l.query(&Query { v1: true, ..ALL }, &Sources::new(), u32::MAX, 2);
    said(&mut l, 20 * S);
    assert_eq!((l.deadline(), l.groups.len(), l.told.len()), (NEVER, 0, 0));
}
