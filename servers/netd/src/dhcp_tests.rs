use super::*;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
const ADDR: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

fn answer(kind: Kind, xid: u32) -> Answer {
    Answer {
        kind,
        xid,
        mac: MAC,
        addr: ADDR,
        server: Some(SERVER),
        prefix: Some(24),
        router: Some(SERVER),
        dns: None,
        lease_s: Some(1000),
        renew_s: None,
        rebind_s: None,
    }
}

fn bound(now: u64) -> Client {
    let mut c = Client::new(MAC, 1, now);
    assert!(matches!(c.timer(0, now), Some(Action::Broadcast(Query { kind: Kind::Discover, .. }))));
    let request = c.answer(&answer(Kind::Offer, 1), 0, now);
    let Some(Action::Broadcast(q)) = request else { panic!("{request:?}") };
    assert_eq!((q.kind, q.requested, q.server), (Kind::Request, Some(ADDR), Some(SERVER)));
    assert_eq!(c.answer(&answer(Kind::Ack, 1), 0, now), Some(Action::Probe(ADDR)));
    for _ in 1..PROBES {
        assert_eq!(c.timer(0, c.deadline), Some(Action::Probe(ADDR)));
    }
    assert!(matches!(c.timer(0, c.deadline), Some(Action::Bound(_))));
    c
}

#[test]
fn an_address_that_somebody_has_is_declined() {
    let mut c = Client::new(MAC, 1, 0);
    c.timer(0, 0);
    c.answer(&answer(Kind::Offer, 1), 0, 0);
    assert_eq!(c.answer(&answer(Kind::Ack, 1), 0, 0), Some(Action::Probe(ADDR)));
    assert_eq!(c.lease(), None, "not used yet");
    assert_eq!(c.conflict(SERVER, 5, 1), None, "another address");
    let Some(Action::Broadcast(q)) = c.conflict(ADDR, 5, 1) else { panic!() };
    assert_eq!((q.kind, q.requested, q.server), (Kind::Decline, Some(ADDR), Some(SERVER)));
    assert_eq!((c.timer(0, 10 * S), c.deadline), (None, 10 * S + 1));
    let again = c.timer(0, 10 * S + 1);
    assert!(matches!(again, Some(Action::Broadcast(q)) if q.kind == Kind::Discover));
    assert_eq!(bound(0).conflict(ADDR, 5, 1), None, "in use it is defended");
}

#[test]
fn renews_then_rebinds_then_loses() {
    let mut c = bound(0);
    assert_eq!(c.timer(0, 499 * S), None);
    let Some(Action::Unicast(q, SERVER)) = c.timer(7, 500 * S) else { panic!("T1") };
    assert_eq!((q.client, q.requested, q.xid), (ADDR, None, 7));
    while c.deadline < 875 * S {
        assert!(matches!(c.timer(0, c.deadline), Some(Action::Unicast(..))));
    }
    assert!(matches!(c.timer(0, 875 * S), Some(Action::Broadcast(_))), "T2");
    let again = Answer { addr: ADDR, ..answer(Kind::Ack, 7) };
    let mut renewed = c;
    assert!(
        matches!(renewed.answer(&again, 0, 880 * S), Some(Action::Bound(Lease { since, .. })) if since == 875 * S)
    );
    while c.deadline < 1000 * S {
        assert!(matches!(c.timer(0, c.deadline), Some(Action::Broadcast(_))));
    }
    assert_eq!(c.timer(0, 1000 * S), Some(Action::Lost));
    assert!(matches!(
        c.timer(0, 1000 * S),
        Some(Action::Broadcast(Query { kind: Kind::Discover, .. }))
    ));
}

#[test]
fn repeats_with_growing_pauses_and_starts_over() {
    let mut c = Client::new(MAC, 1, 0);
    let mut last = 0;
    for _ in 0..6 {
        let at = c.deadline;
        assert!(c.timer(0, at).is_some());
        assert!(at - last <= LAST_PAUSE_NS + LAST_PAUSE_NS / 4);
        last = at;
    }
    c.answer(&answer(Kind::Offer, 1), 0, last).unwrap();
    for _ in 1..REQUESTS {
        assert!(
            matches!(c.timer(0, c.deadline), Some(Action::Broadcast(q)) if q.kind == Kind::Request)
        );
    }
    assert!(
        matches!(c.timer(5, c.deadline), Some(Action::Broadcast(q)) if q.kind == Kind::Discover && q.xid == 5)
    );
}

#[test]
fn answers_to_others_and_naks() {
    let mut c = Client::new(MAC, 1, 0);
    c.timer(0, 0);
    assert_eq!(c.answer(&answer(Kind::Offer, 2), 0, 0), None, "another transaction");
    let other = Answer { mac: Mac([2, 0, 0, 0, 0, 8]), ..answer(Kind::Offer, 1) };
    assert_eq!(c.answer(&other, 0, 0), None);
    assert_eq!(c.answer(&answer(Kind::Ack, 1), 0, 0), None, "nothing was requested");
    let mut c = bound(0);
    assert_eq!(c.answer(&answer(Kind::Nak, 1), 0, 1), None, "unasked");
    c.timer(7, 500 * S);
    assert_eq!(c.answer(&answer(Kind::Nak, 7), 0, 501 * S), Some(Action::Lost));
}

#[test]
fn an_address_is_confirmed_when_the_link_comes_back() {
    let mut c = bound(0);
    c.link_up(9, 100 * S);
    let Some(Action::Broadcast(q)) = c.timer(0, 100 * S) else { panic!("asks at once") };
    assert_eq!((q.requested, q.server, q.xid), (Some(ADDR), None, 9));
    assert!(q.client.is_unspecified() && c.lease().is_some());
    let mut moved = c;
    assert_eq!(moved.answer(&answer(Kind::Nak, 9), 0, 101 * S), Some(Action::Lost));
    let mut kept = c;
    let ack = kept.answer(&answer(Kind::Ack, 9), 0, 101 * S);
    assert!(matches!(ack, Some(Action::Bound(Lease { since, .. })) if since == 100 * S));
    for _ in 1..CONFIRMATIONS {
        assert!(matches!(c.timer(0, c.deadline), Some(Action::Broadcast(_))));
    }
    assert_eq!(c.timer(0, c.deadline), None, "kept without an answer");
    assert_eq!((c.lease().map(|l| l.since), c.deadline), (Some(0), 500 * S));
    c.link_up(10, 998 * S);
    while c.deadline < 1000 * S {
        c.timer(0, c.deadline);
    }
    assert_eq!(c.timer(0, c.deadline), Some(Action::Lost), "but no longer than the lease");
}

#[test]
fn leases_too_short_and_times_that_make_no_sense() {
    let mut c = Client::new(MAC, 1, 0);
    c.timer(0, 0);
    for lease_s in 0..LEAST_LEASE_S {
        let short = Answer { lease_s: Some(lease_s), ..answer(Kind::Offer, 1) };
        assert_eq!(c.answer(&short, 0, 0), None);
    }
    for (t1, t2) in [(0, 0), (u32::MAX, u32::MAX), (4, 3), (3, 4), (2, 3)] {
        let times = (Some(t1), Some(t2));
        for lease_s in [LEAST_LEASE_S, 60, u32::MAX] {
            let a = Answer {
                lease_s: Some(lease_s),
                renew_s: times.0,
                rebind_s: times.1,
                ..answer(Kind::Offer, 1)
            };
            let l = c.lease_of(&a, None).unwrap();
            assert!(0 < l.renew_s && l.renew_s <= l.rebind_s && l.rebind_s < l.lease_s);
        }
    }
}

#[test]
fn a_server_that_offers_what_it_refuses_does_not_set_the_pace() {
    let mut c = Client::new(MAC, 1, 0);
    c.timer(0, 0);
    c.answer(&answer(Kind::Offer, 1), 0, 0).unwrap();
    assert_eq!(c.answer(&answer(Kind::Nak, 1), 7, 0), None);
    assert_eq!(c.timer(0, 0), None);
    assert!(c.deadline >= FIRST_PAUSE_NS / 2 && c.timer(0, c.deadline).is_some());
}

#[test]
fn a_lease_of_an_earlier_incarnation_goes_on() {
    let lease = *bound(0).lease().unwrap();
    let mut c = Client::with_lease(MAC, 3, lease, 400 * S);
    assert_eq!(c.timer(0, 400 * S), None);
    assert!(matches!(c.timer(9, 500 * S), Some(Action::Unicast(..))));
}

/// RFC 2131 4.4.6.
#[test]
fn a_lease_is_given_back_once_and_asked_for_again() {
    let mut c = bound(0);
    let Some(Action::Unicast(q, to)) = c.release(9, S) else { panic!() };
    assert_eq!(
        (q.kind, q.client, q.server, q.requested, to),
        (Kind::Release, ADDR, Some(SERVER), None, SERVER)
    );
    assert_eq!(c.lease(), None);
    assert_eq!((c.timer(0, u64::MAX - 1), c.release(9, S)), (None, None));
    c.link_up(5, 2 * S);
    assert_eq!(c.timer(0, 3 * S), None, "a link changes nothing");
    c.renew_now(7, 4 * S);
    assert!(
        matches!(c.timer(0, 4 * S), Some(Action::Broadcast(q)) if q.kind == Kind::Discover && q.xid == 7)
    );
    let mut c = bound(0);
    c.renew_now(7, S);
    assert!(
        matches!(c.timer(7, S), Some(Action::Unicast(q, _)) if q.kind == Kind::Request && q.client == ADDR)
    );
}
