//! Opening: active, passive, simultaneous, refused, repeated, limited.

mod common;

use common::frames::{Frame, seg};
use common::script::Script;
use libipc::sock::{Error, State};
use netd::wire::tcp::{Flags, Repr, Seq};

#[test]
fn active_open_offers_mss_and_scale_and_takes_the_peers() {
    let mut s = Script::new();
    s.id = s.host.open(libipc::sock::Kind::Tcp);
    s.host.connect(s.id, "10.0.0.2:5000").unwrap();
    s.settle();
    let (_, syn, _) = s.next();
    assert_eq!((syn.flags, syn.options.mss, syn.options.scale), (Flags::SYN, Some(1460), Some(0)));
    assert_eq!(syn.window, 16060, "not scaled, and whole segments");
    assert!((32768..61000).contains(&syn.src));
    assert_eq!(s.state(), State::SynSent);
    s.window = 100;
    s.send_syn("SA", 1, Some(500), Some(3));
    s.expect("A", 1, 1, 0);
    assert_eq!(s.state(), State::Established);
    s.write(2000);
    // The window of the SYN-ACK was 100, not scaled.
    s.expect("A", 1, 1, 100);
    s.nothing();
    s.send("A", 1, 101, &[]);
    // Now it is 800, and two segments are to fit.
    s.expect("A", 101, 1, 400);
    s.expect("A", 501, 1, 400);
    s.nothing();
}

#[test]
fn a_peer_without_options_gets_536_bytes() {
    let mut s = Script::connecting();
    s.send_syn("SA", 1, None, None);
    s.expect("A", 1, 1, 0);
    s.write(1000);
    s.expect("A", 1, 1, 536);
}

#[test]
fn passive_open_and_what_the_program_learns() {
    let mut s = Script::new();
    let listener = s.host.listen(80, 1);
    s.send_syn("S", 0, Some(1000), Some(2));
    let (_, answer, _) = s.next();
    assert_eq!((answer.flags, answer.ack), (Flags::SYN | Flags::ACK, Seq(1)));
    assert_eq!((answer.options.mss, answer.options.scale), (Some(1460), Some(0)));
    assert!(s.host.accept(listener).is_none(), "the handshake is not over");
    // Data may come with the ACK.
    s.send("PA", 1, 1, b"hello");
    assert!(s.host.progs[0].take_ready().contains(&listener));
    let (id, peer) = s.host.accept(listener).unwrap();
    s.id = id;
    assert_eq!(peer, "10.0.0.2:5000".parse().unwrap());
    assert_eq!(s.read(100), b"hello");
}

#[test]
fn simultaneous_open() {
    let mut s = Script::connecting();
    s.send_syn("S", 0, Some(1000), None);
    s.expect("SA", 0, 1, 0);
    assert_eq!(s.state(), State::SynReceived);
    s.send_syn("SA", 1, Some(1000), None);
    s.expect("A", 1, 1, 0);
    assert_eq!(s.state(), State::Established);
    s.write(10);
    s.expect("A", 1, 1, 10);
}

#[test]
fn refused() {
    let mut s = Script::connecting();
    s.send("R", 0, 1, &[]);
    assert_eq!(s.state(), State::SynSent, "an RST without ACK says nothing");
    s.send("RA", 0, 2, &[]);
    assert_eq!(s.state(), State::SynSent, "nor one that acknowledges what was not sent");
    s.send("RA", 0, 1, &[]);
    assert_eq!((s.state(), s.error()), (State::Closed, Some(Error::ConnectionRefused)));
    s.nothing();
}

#[test]
fn an_old_syn_ack_is_refused_and_the_open_goes_on() {
    let mut s = Script::connecting();
    s.send_syn("SA", 77, None, None);
    s.expect("R", 77, 0, 0);
    s.send_syn("SA", 1, None, None);
    s.expect("A", 1, 1, 0);
    assert_eq!(s.state(), State::Established);
}

#[test]
fn a_connect_lasts_as_long_as_the_program_has_patience() {
    let mut s = Script::connecting();
    s.set_user_timeout(2000);
    s.until(1990);
    assert_eq!(s.state(), State::SynSent);
    s.until(2020);
    assert_eq!((s.state(), s.error()), (State::Closed, Some(Error::TimedOut)));
}

#[test]
fn a_syn_is_repeated_as_linux_repeats_it() {
    let mut s = Script::connecting();
    s.until(400_000);
    let mut at = Vec::new();
    while !s.sent.is_empty() {
        at.push(s.expect("S", 0, 0, 0) / 100);
    }
    // tcp_syn_linear_timeouts 4, then tcp_syn_retries 6 with doubling pauses.
    assert_eq!(at, [10, 20, 30, 40, 50, 70, 110, 190, 350, 670], "tenths of seconds");
    assert_eq!((s.state(), s.error()), (State::Closed, Some(Error::TimedOut)));
}

#[test]
fn a_lost_syn_ack_is_repeated_and_a_repeated_syn_answered() {
    let mut s = Script::new();
    let listener = s.host.listen(80, 1);
    s.send_syn("S", 0, None, None);
    s.expect("SA", 0, 1, 0);
    s.until(1100);
    s.expect("SA", 0, 1, 0);
    s.send_syn("S", 0, None, None);
    s.expect("SA", 0, 1, 0);
    s.send("A", 1, 1, &[]);
    assert!(s.host.accept(listener).is_some());
    s.pass(20_000);
    s.nothing();
}

#[test]
fn a_handshake_that_nobody_completes_gives_its_socket_back() {
    let mut s = Script::new();
    let listener = s.host.listen(80, 1);
    s.send_syn("S", 0, None, None);
    s.until(100_000);
    s.sent.clear();
    // The only spare serves again.
    s.send_syn("S", 0, None, None);
    let (_, repr, _) = s.next();
    assert_eq!(repr.flags, Flags::SYN | Flags::ACK);
    s.send("A", 1, 1, &[]);
    assert!(s.host.accept(listener).is_some());
}

#[test]
fn an_rst_ends_a_handshake_silently() {
    let mut s = Script::new();
    let listener = s.host.listen(80, 1);
    s.send_syn("S", 0, None, None);
    s.expect("SA", 0, 1, 0);
    s.send("R", 1, 0, &[]);
    s.nothing();
    assert!(s.host.accept(listener).is_none());
    s.send_syn("S", 0, None, None);
    s.expect("SA", 0, 1, 0);
}

#[test]
fn a_wrong_ack_in_a_handshake_is_refused() {
    let mut s = Script::new();
    s.host.listen(80, 1);
    s.send_syn("S", 0, None, None);
    s.expect("SA", 0, 1, 0);
    s.send("A", 1, 2, &[]);
    s.expect("R", 2, 0, 0);
    s.send("A", 1, 1, &[]);
    s.nothing();
}

#[test]
fn ports_where_nobody_listens() {
    let mut s = Script::new();
    s.send_syn("S", 0, None, None);
    let (_, repr, _) = s.next();
    assert_eq!((repr.flags, repr.seq, repr.ack), (Flags::RST | Flags::ACK, Seq(0), Seq(1)));
    s.send("A", 5, 6, b"data");
    let (_, repr, _) = s.next();
    assert_eq!((repr.flags, repr.seq), (Flags::RST, Seq(6)));
    s.send("RA", 5, 6, &[]);
    s.nothing();
    // Nor does anybody at port 0, and who calls from there is answered.
    s.host.listen(80, 4);
    for (from, to, flags) in [(6000, 0, Flags::RST), (0, 81, Flags::RST), (0, 80, Flags::SYN)] {
        s.send_repr(&Repr { flags: Flags::SYN, window: 1000, ..seg(from, to) }, &[]);
        let Some((_, Frame::Tcp(_, repr, _))) = s.sent.pop_front() else { panic!("{from} > {to}") };
        assert_eq!((repr.flags, repr.src, repr.dst), (flags | Flags::ACK, to, from));
    }
}

#[test]
fn sequence_numbers_differ_between_pairs_and_move_with_time() {
    let mut s = Script::new();
    s.host.listen(80, 4);
    let mut first = Vec::new();
    for port in [6000, 6001] {
        s.send_repr(&Repr { flags: Flags::SYN, window: 1000, ..seg(port, 80) }, &[]);
        let Some((_, Frame::Tcp(_, repr, _))) = s.sent.pop_front() else { panic!() };
        first.push(repr.seq);
    }
    assert_ne!(first[0], first[1]);
    for port in [6000, 6001] {
        s.send_repr(&Repr { flags: Flags::RST, seq: Seq(1), ..seg(port, 80) }, &[]);
    }
    s.pass(10);
    s.send_repr(&Repr { flags: Flags::SYN, window: 1000, ..seg(6000, 80) }, &[]);
    let Some((_, Frame::Tcp(_, repr, _))) = s.sent.pop_front() else { panic!() };
    assert_eq!(repr.seq - first[0], 2500, "a clock of 4 µs");
}
