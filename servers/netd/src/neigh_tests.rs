use super::*;
use crate::list::Links;
use core::net::Ipv6Addr;

const A: Hop = at(IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2)));
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const MOVED: Mac = Mac([2, 0, 0, 0, 0, 2]);

const ANSWER: News =
    News { mac: Some(MAC), reachable: true, create: false, other: Other::Replaces };
const HEARD: News = News { reachable: false, create: true, ..ANSWER };

const fn at(ip: IpAddr) -> Hop {
    Hop { dev: Dev::FIRST, ip }
}

fn everybody(hop: Hop) -> Option<Ask> {
    Some(Ask { hop, to: None })
}

/// Lets every due timer run until `now`, as the stack's wheel does; yields the requests.
fn until(n: &mut Neighbours, now: u64) -> heapless::Vec<(u64, Ask), 16> {
    let mut asked = heapless::Vec::new();
    loop {
        while n.next_timer().is_some() {}
        let due =
            (0..ENTRIES).filter(|i| n.entries[*i].due <= now).min_by_key(|i| n.entries[*i].due);
        let Some(i) = due else { return asked };
        let at = n.entries[i].due;
        let _ = n.timer(i, at);
        while let Some(ask) = n.next_ask() {
            asked.push((at, ask)).unwrap();
        }
    }
}

fn known(found: Lookup) -> Option<Mac> {
    match found {
        Lookup::Known(mac, _) => Some(mac),
        _ => None,
    }
}

#[test]
fn asks_everybody_three_times_a_second_apart_and_gives_up() {
    let mut n = Neighbours::new(1);
    let Lookup::Wait(i) = n.lookup(A, 0) else { panic!("unknown") };
    assert_eq!(n.next_ask(), everybody(A));
    assert_eq!(n.lookup(A, 10), Lookup::Wait(i));
    assert_eq!(n.next_ask(), None, "once a second");
    let mut links = Links::new(1);
    links.push(&mut n.waiting(i).sockets, 0);
    assert!(n.timer(i, S - 1).is_empty(), "too early");
    for second in 1..3 {
        assert!(n.timer(i, second * S).is_empty());
        assert_eq!(n.next_ask(), everybody(A));
    }
    assert_eq!(n.timer(i, 3 * S).sockets.first(), Some(0));
    assert_eq!(n.state(A), State::Failed);
    assert_eq!(n.lookup(A, 3 * S), Lookup::Wait(i), "and asks anew at once");
    assert_eq!(n.next_ask(), everybody(A));
}

#[test]
fn what_is_used_while_stale_is_probed_where_it_was_after_five_seconds() {
    let mut n = Neighbours::new(1);
    assert!(n.update(A, ANSWER, 0).is_empty());
    assert_eq!(n.known(A), None, "not created unasked");
    n.update(A, HEARD, 0);
    assert_eq!(n.state(A), State::Stale);
    assert_eq!(known(n.lookup(A, S)), Some(MAC));
    assert_eq!((n.state(A), n.next_ask()), (State::Delay, None));
    let asked = until(&mut n, 8 * S);
    let probe = Ask { hop: A, to: Some(MAC) };
    assert_eq!(asked[..], [(6 * S, probe), (7 * S, probe), (8 * S, probe)], "unicast");
    assert_eq!(known(n.lookup(A, 8 * S)), Some(MAC), "used meanwhile");
    until(&mut n, 9 * S);
    assert_eq!(n.state(A), State::Failed);
}

#[test]
fn an_answer_is_believed_for_half_to_one_and_a_half_of_thirty_seconds() {
    for seed in 1..50 {
        let mut n = Neighbours::new(seed * 77);
        n.update(A, HEARD, 0);
        n.update(A, ANSWER, 0);
        assert_eq!(n.state(A), State::Reachable);
        until(&mut n, 15 * S - 1);
        assert_eq!(n.state(A), State::Reachable);
        until(&mut n, 45 * S + 1);
        assert_eq!(n.state(A), State::Stale, "unused");
        // Used a moment ago: it is asked, not forgotten.
        n.update(A, ANSWER, 100 * S);
        let due = n.entries[n.find(A).unwrap()].due;
        assert_eq!(known(n.lookup(A, due - S)), Some(MAC));
        until(&mut n, due);
        assert_eq!(n.state(A), State::Delay);
    }
}

#[test]
fn a_sign_of_life_from_above_spares_the_question() {
    let mut n = Neighbours::new(1);
    n.update(A, HEARD, 0);
    n.lookup(A, 0);
    n.confirm(A, 3 * S);
    assert!(until(&mut n, 5 * S).is_empty());
    assert_eq!(n.state(A), State::Reachable);
}

#[test]
fn another_address_replaces_doubts_or_is_ignored() {
    let moved = News { mac: Some(MOVED), ..HEARD };
    for (other, mac, state) in [
        (Other::Replaces, MOVED, State::Stale),
        (Other::Doubts, MAC, State::Stale),
        (Other::Ignored, MAC, State::Reachable),
    ] {
        let mut n = Neighbours::new(1);
        n.update(A, HEARD, 0);
        n.update(A, ANSWER, 0);
        n.update(A, News { other, ..moved }, S);
        assert_eq!((n.known(A), n.state(A)), (Some(mac), state), "{other:?}");
    }
    // The same address again changes nothing: what is reachable stays so, and the lock is not
    // prolonged.
    let mut n = Neighbours::new(1);
    n.update(A, HEARD, 0);
    n.update(A, ANSWER, 0);
    n.update(A, HEARD, S);
    assert_eq!(n.state(A), State::Reachable);
    assert!(n.is_locked(A, S) && !n.is_locked(A, S + 1));
}

#[test]
fn who_waits_is_told_by_the_first_answer() {
    let mut n = Neighbours::new(1);
    let Lookup::Wait(i) = n.lookup(A, 0) else { panic!() };
    let mut links = Links::new(4);
    links.push(&mut n.waiting(i).packets, 3);
    let waiting = n.update(A, HEARD, 1);
    assert_eq!(waiting.packets.first(), Some(3));
    assert_eq!(n.next_ask(), None, "not asked any more");
    assert_eq!(n.state(A), State::Stale);
}

#[test]
fn a_full_set_replaces_what_was_not_used() {
    for first in [A.ip, "fe80::1:ff00:2".parse().unwrap()] {
        full_set(first);
    }
}

fn full_set(first: IpAddr) {
    let mut n = Neighbours::new(1);
    let set = n.set(at(first));
    let same: heapless::Vec<Hop, { 2 * WAYS }> = (0u32..)
        .map(|i| match first {
            IpAddr::V4(ip) => at(Ipv4Addr::from_bits(ip.to_bits() + i).into()),
            IpAddr::V6(ip) => at(Ipv6Addr::from_bits(ip.to_bits() + i as u128).into()),
        })
        .filter(|ip| n.set(*ip) == set)
        .take(2 * WAYS)
        .collect();
    for ip in &same[..WAYS] {
        n.update(*ip, HEARD, S);
        n.lookup(*ip, S);
    }
    assert_eq!(n.lookup(same[WAYS], 2 * S), Lookup::Full, "all are in use");
    n.lookup(same[0], 4 * S);
    for ip in &same[WAYS..2 * WAYS - 1] {
        assert!(matches!(n.lookup(*ip, 7 * S), Lookup::Wait(_)));
    }
    assert_eq!(n.lookup(same[2 * WAYS - 1], 7 * S), Lookup::Full, "of all others it is asked");
    assert_eq!((n.known(same[0]), n.known(same[1])), (Some(MAC), None), "which was used lately");
    assert_eq!(n.all().count(), WAYS);
}

#[test]
fn one_family_is_forgotten_and_the_other_stays() {
    let mut n = Neighbours::new(1);
    let six = at("fe80::1".parse().unwrap());
    n.update(A, HEARD, 0);
    n.update(six, HEARD, 0);
    assert!(n.forget(Dev::FIRST, false).is_none());
    assert_eq!((n.known(A), n.known(six)), (None, Some(MAC)));
}

#[test]
fn one_address_on_two_links_is_two_neighbours() {
    let mut n = Neighbours::new(1);
    let other = Hop { dev: Dev::first(2).last().unwrap(), ..A };
    n.update(A, HEARD, 0);
    n.update(other, News { mac: Some(MOVED), ..HEARD }, 0);
    assert_eq!((n.known(A), n.known(other)), (Some(MAC), Some(MOVED)));
    let place = n.place_of(other).unwrap();
    n.update(other, News { mac: Some(MOVED), ..ANSWER }, 0);
    assert_eq!(n.again(place, 1), Some(Station { dev: other.dev, mac: MOVED }));
    assert!(n.forget(A.dev, false).is_none());
    assert_eq!((n.known(A), n.known(other)), (None, Some(MOVED)));
}
