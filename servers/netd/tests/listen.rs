//! Listeners: backlog, repeated SYN-ACKs, SYN cookies (RFC 4987), every segment for a handshake.
//! What is expected is what Linux 6.18 does.

mod common;

use common::HostSpec;
use common::frames::{Frame, seg};
use common::script::Script;
use libipc::sock::State;
use netd::wire::tcp::{Flags, Options, Repr, Seq, Timestamps};

fn syn(s: &mut Script, port: u16, options: Options) -> Option<Repr> {
    let syn = Repr { flags: Flags::SYN, seq: Seq(99), window: 1000, options, ..seg(port, 80) };
    s.send_repr(&syn, &[]);
    answer(s)
}

fn answer(s: &mut Script) -> Option<Repr> {
    s.settle();
    s.sent.pop_front().map(|(_, frame)| match frame {
        Frame::Tcp(_, repr, _) => repr,
        other => panic!("{other:?}"),
    })
}

/// The ACK of a SYN-ACK, with text.
fn ack(s: &mut Script, to: &Repr, text: &[u8]) {
    let timestamps = to.options.timestamps.map(|t| Timestamps { value: t.echo + 1, echo: t.value });
    let options = Options { timestamps, ..Options::NONE };
    let flags = Flags::ACK | Flags::PSH;
    let repr =
        Repr { flags, seq: to.ack, ack: to.seq + 1, window: 1000, options, ..seg(to.dst, 80) };
    s.send_repr(&repr, text);
}

fn mss(mss: u16) -> Options {
    Options { mss: Some(mss), ..Options::NONE }
}

#[test]
fn one_more_than_the_backlog_may_wait() {
    let mut s = Script::new();
    let listener = s.host.listen(80, 1);
    s.host.spare(listener);
    s.host.spare(listener);
    for port in [6000, 6001] {
        let answer = syn(&mut s, port, mss(1460)).expect("there is room");
        ack(&mut s, &answer, &[]);
    }
    assert_eq!(syn(&mut s, 6002, mss(1460)), None, "the queue is full");
    assert_eq!(s.host.stack().counters().syns_dropped, 1);
    s.host.accept(listener).unwrap();
    assert!(syn(&mut s, 6002, mss(1460)).is_some());
}

#[test]
fn an_ack_that_finds_the_queue_full_is_as_if_lost() {
    let mut s = Script::new();
    let listener = s.host.listen(80, 2);
    let answers: Vec<_> =
        (6000..6003).map(|port| syn(&mut s, port, mss(1460)).expect("none waits yet")).collect();
    for a in &answers {
        ack(&mut s, a, b"hello");
    }
    s.pass(900);
    // ACKs of the text of the two.
    assert!(s.sent.drain(..).all(|(_, f)| matches!(f, Frame::Tcp(_, r, _) if r.dst != 6002)));
    s.pass(200);
    let again = answer(&mut s).expect("the SYN-ACK again, until there is room");
    assert_eq!((again.flags, again.dst, again.seq), (answers[2].flags, 6002, answers[2].seq));
    s.host.accept(listener).unwrap();
    s.host.spare(listener);
    ack(&mut s, &again, b"hello");
    s.host.accept(listener).unwrap();
    s.id = s.host.accept(listener).expect("it came in").0;
    assert_eq!(s.read(10), b"hello");
}

#[test]
fn a_syn_ack_is_repeated_five_times_in_a_minute() {
    let mut s = Script::new();
    s.host.listen(80, 1);
    s.send_syn("S", 0, None, None);
    let mut at = Vec::new();
    s.until(400_000);
    while !s.sent.is_empty() {
        at.push(s.expect("SA", 0, 1, 0) / 100);
    }
    assert_eq!(at, [0, 10, 30, 70, 150, 310], "tenths of seconds");
    assert_eq!(s.host.stack().counters().requests_expired, 1);
    s.send("A", 1, 1, &[]);
    s.expect("R", 1, 0, 0);
}

#[test]
fn every_segment_for_a_handshake() {
    // Segment, its answer, whether the handshake goes on.
    type Row = (&'static str, u32, u32, &'static [(&'static str, u32, u32)], bool);
    let rows: &[Row] = &[
        ("R", 1, 0, &[], false),
        ("R", 0, 0, &[], true),
        ("R", 100, 0, &[("A", 1, 1)], true),
        ("R", 70_000, 0, &[], true),
        ("RA", 1, 2, &[], false),
        ("S", 0, 0, &[("SA", 0, 1)], true),
        ("S", 70_000, 0, &[("A", 1, 1)], true),
        ("SA", 0, 1, &[("A", 1, 1)], true),
        ("SA", 1, 1, &[("R", 1, 0)], false),
        ("", 1, 0, &[], true),
        ("F", 1, 0, &[], true),
        ("A", 1, 0, &[("R", 0, 0)], true),
        ("A", 1, 2, &[("R", 2, 0)], true),
        ("A", 70_000, 1, &[("A", 1, 1)], true),
        ("A", 70_000, 2, &[("R", 2, 0)], true),
        ("A", 0, 1, &[("A", 1, 1)], true),
    ];
    for (flags, seq, acks, want, goes_on) in rows {
        let mut s = Script::new();
        let listener = s.host.listen(80, 2);
        s.send_syn("S", 0, Some(1460), None);
        s.expect("SA", 0, 1, 0);
        s.send(flags, *seq, *acks, &[]);
        for (f, seq, ack) in *want {
            s.expect(f, *seq, *ack, 0);
        }
        s.nothing();
        assert!(s.host.accept(listener).is_none());
        s.send("A", 1, 1, &[]);
        assert_eq!(s.host.accept(listener).is_some(), *goes_on, "{flags} {seq} {acks}");
    }
    // A SYN elsewhere in the window means that the peer has begun anew.
    for seq in [1, 100] {
        let mut s = Script::new();
        let listener = s.host.listen(80, 2);
        s.send_syn("S", 0, Some(1460), None);
        s.expect("SA", 0, 1, 0);
        s.send("S", seq, 0, &[]);
        let (_, repr, _) = s.next();
        assert_eq!((repr.flags, repr.ack), (Flags::RST | Flags::ACK, Seq(seq + 1)));
        s.send("A", 1, 1, &[]);
        assert!(s.host.accept(listener).is_none());
    }
}

#[test]
fn text_and_fin_with_the_last_ack() {
    let mut s = Script::new();
    let listener = s.host.listen(80, 2);
    s.send_syn("S", 0, Some(1460), None);
    s.expect("SA", 0, 1, 0);
    s.send("FA", 1, 1, b"hello");
    s.pass(100);
    let at = s.expect("A", 1, 7, 0);
    assert!((40..50).contains(&at), "{at} ms");
    s.id = s.host.accept(listener).expect("it waits").0;
    assert_eq!((s.state(), s.read(10)), (State::CloseWait, b"hello".to_vec()));
}

#[test]
fn answers_to_strays_are_limited() {
    let mut s = Script::new();
    s.host.listen(80, 2);
    s.send_syn("S", 0, Some(1460), None);
    s.expect("SA", 0, 1, 0);
    for _ in 0..10 {
        s.send("A", 70_000, 1, &[]);
        s.send_syn("S", 0, Some(1460), None);
    }
    s.expect("A", 1, 1, 0);
    s.nothing();
    s.pass(500);
    s.send_syn("S", 0, Some(1460), None);
    s.expect("SA", 0, 1, 0);
}

/// A listener with so many handshakes that the next one gets a cookie.
fn flooded() -> (Script, u16) {
    let mut s = Script::with(HostSpec { requests: 8, ..HostSpec::fixed(1) });
    let listener = s.host.listen(80, 2);
    for port in 7000..7003 {
        syn(&mut s, port, mss(1460)).unwrap();
    }
    assert_eq!(s.host.stack().counters().cookies_sent, 0);
    (s, listener)
}

#[test]
fn a_cookie_opens_a_connection() {
    let (mut s, listener) = flooded();
    let answer = syn(&mut s, 6000, Options { scale: Some(7), ..mss(1400) }).unwrap();
    assert_eq!(s.host.stack().counters().cookies_sent, 1);
    let options = answer.options;
    assert_eq!((options.mss, options.scale), (Some(1460), None), "nowhere to remember the scale");
    assert_eq!((answer.flags, answer.ack), (Flags::SYN | Flags::ACK, Seq(100)));
    s.pass(500);
    s.nothing();
    ack(&mut s, &answer, b"hello");
    assert_eq!(s.host.stack().counters().cookies_taken, 1);
    s.id = s.host.accept(listener).expect("it waits").0;
    assert_eq!(s.read(10), b"hello");
    s.write(3000);
    let (_, Frame::Tcp(_, _, data)) = s.sent.pop_back().unwrap() else { panic!() };
    assert!(!data.is_empty());
}

#[test]
fn a_cookie_remembers_the_mss_and_with_timestamps_the_rest() {
    let (mut s, listener) = flooded();
    let timestamps = Some(Timestamps { value: 500, echo: 0 });
    let asked = Options { scale: Some(2), timestamps, ..mss(1350) };
    let answer = syn(&mut s, 6000, asked).unwrap();
    assert!(answer.options.scale.is_some() && answer.options.timestamps.is_some());
    ack(&mut s, &answer, &[]);
    s.id = s.host.accept(listener).expect("it waits").0;
    s.write(4000);
    // The window of 1000 is four times as large, the MSS the next that a cookie can say.
    let lengths: Vec<_> = s
        .sent
        .iter()
        .map(|(_, f)| if let Frame::Tcp(_, _, data) = f { data.len() } else { 0 })
        .collect();
    assert_eq!(lengths[..2], [1300 - 12, 1300 - 12]);
    assert_eq!(lengths.iter().sum::<usize>(), 4000);
}

#[test]
fn cookies_survive_a_restart_and_do_not_last() {
    let (mut s, listener) = flooded();
    let answer = syn(&mut s, 6000, mss(1460)).unwrap();
    s.host.crash();
    s.settle();
    s.sent.clear();
    ack(&mut s, &answer, &[]);
    assert!(s.host.accept(listener).is_some());
    let old = syn(&mut s, 6001, mss(1460)).unwrap();
    s.pass(150_000);
    s.sent.clear();
    ack(&mut s, &old, &[]);
    assert_eq!(refusal(&mut s), Some(Flags::RST));
    assert!(s.host.accept(listener).is_none());
}

fn refusal(s: &mut Script) -> Option<Flags> {
    answer(s).map(|r| r.flags)
}

#[test]
fn a_wrong_cookie_is_refused_unless_it_may_come_right() {
    let (mut s, listener) = flooded();
    let answer = syn(&mut s, 6000, mss(1460)).unwrap();
    let wrong = Repr { seq: answer.seq + 1, ..answer };
    ack(&mut s, &wrong, &[]);
    assert_eq!(refusal(&mut s), Some(Flags::RST));
    // The second segment of a peer whose first was lost.
    let ahead = Repr { ack: answer.ack + 5, ..answer };
    ack(&mut s, &ahead, b"world");
    s.nothing();
    ack(&mut s, &answer, b"hello");
    assert_eq!(s.host.stack().counters().cookies_failed, 2);
    assert!(s.host.accept(listener).is_some());
}

#[test]
fn a_handshake_survives_a_restart() {
    let mut s = Script::new();
    let listener = s.host.listen(80, 2);
    let asked = Options {
        scale: Some(3),
        timestamps: Some(Timestamps { value: 500, echo: 0 }),
        ..mss(1000)
    };
    let answer = syn(&mut s, 6000, asked).unwrap();
    s.host.crash();
    s.settle();
    s.nothing();
    ack(&mut s, &answer, b"hello");
    s.id = s.host.accept(listener).expect("it waits").0;
    assert_eq!(s.read(10), b"hello");
    s.write(4000);
    let sent: usize = s
        .sent
        .drain(..)
        .map(|(_, f)| if let Frame::Tcp(_, _, data) = f { data.len() } else { 0 })
        .sum();
    assert_eq!(sent, 4000, "eight times the window that the ACK said");
}

#[test]
fn who_listens_no_more_has_no_handshakes() {
    let mut s = Script::new();
    let listener = s.host.listen(80, 2);
    s.send_syn("S", 0, Some(1460), None);
    s.expect("SA", 0, 1, 0);
    s.host.close(listener);
    s.pass(5000);
    s.nothing();
    s.send("A", 1, 1, &[]);
    s.expect("R", 1, 0, 0);
}
