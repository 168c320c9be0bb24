//! Closing: every way of RFC 9293, resets, and who may reset (RFC 5961).

mod common;

use common::HostSpec;
use common::frames::{Frame, seg};
use common::script::Script;
use libipc::net::{Reply, Request, SockInfo};
use libipc::sock::{Error, Kind, State, option};
use netd::settings::{Reuse, Settings};
use netd::wire::tcp::{Flags, Options, Repr, Seq, Timestamps};
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn we_close_first_and_wait() {
    let mut s = Script::accepted();
    s.shutdown();
    s.expect("FA", 1, 1, 0);
    assert_eq!(s.state(), State::FinWait1);
    s.send("A", 1, 2, &[]);
    assert_eq!(s.state(), State::FinWait2);
    // The other half still works.
    s.send("PA", 1, 2, b"more");
    assert_eq!(s.read(10), b"more");
    s.pass(50);
    s.expect("A", 2, 5, 0);
    s.send("FA", 5, 2, &[]);
    s.expect("A", 2, 6, 0);
    // To the program it is over; TIME-WAIT needs no socket.
    assert_eq!((s.state(), s.error()), (State::Closed, None));
    // A lost ACK is repeated, and the wait begins anew.
    s.pass(50_000);
    s.send("FA", 5, 2, &[]);
    s.expect("A", 2, 6, 0);
    s.pass(59_900);
    s.send("FA", 5, 2, &[]);
    s.expect("A", 2, 6, 0);
    s.pass(60_100);
    s.send("FA", 5, 2, &[]);
    s.expect("R", 2, 0, 0);
}

#[test]
fn the_peer_closes_first() {
    let mut s = Script::accepted();
    s.send("FA", 1, 1, b"bye");
    assert_eq!(s.state(), State::CloseWait);
    assert!(s.host.progs[0].peer_closed(s.id));
    assert_eq!(s.read(10), b"bye");
    s.write(10);
    // The ACK has waited for it.
    s.expect("A", 1, 5, 10);
    assert!(!s.close());
    s.expect("FA", 11, 5, 0);
    assert_eq!(s.state(), State::LastAck);
    s.send("A", 5, 12, &[]);
    assert_eq!(s.state(), State::Free);
    assert_eq!(s.host.collect_freed(), [s.id]);
}

#[test]
fn both_close_at_once() {
    let mut s = Script::accepted();
    s.shutdown();
    s.expect("FA", 1, 1, 0);
    s.send("FA", 1, 1, &[]);
    s.expect("A", 2, 2, 0);
    assert_eq!(s.state(), State::Closing);
    s.send("A", 2, 2, &[]);
    assert_eq!((s.state(), s.error()), (State::Closed, None));
}

#[test]
fn fin_and_ack_of_ours_in_one_segment() {
    let mut s = Script::accepted();
    s.shutdown();
    s.expect("FA", 1, 1, 0);
    s.send("FA", 1, 2, &[]);
    s.expect("A", 2, 2, 0);
    assert_eq!((s.state(), s.error()), (State::Closed, None));
}

#[test]
fn a_fin_ahead_of_its_data_waits_for_it() {
    let mut s = Script::accepted();
    s.send("FA", 6, 1, b"world");
    s.expect("A", 1, 1, 0);
    assert_eq!(s.state(), State::Established);
    s.send("A", 1, 1, b"hello");
    s.expect("A", 1, 12, 0);
    assert_eq!(s.state(), State::CloseWait);
    assert_eq!(s.read(100), b"helloworld");
}

#[test]
fn a_lost_fin_is_repeated() {
    let mut s = Script::accepted();
    s.write(10);
    s.expect("A", 1, 1, 10);
    s.send("A", 1, 11, &[]);
    s.shutdown();
    s.expect("FA", 11, 1, 0);
    s.pass(300);
    s.expect("FA", 11, 1, 0);
    s.send("A", 1, 12, &[]);
    assert_eq!(s.state(), State::FinWait2);
    s.pass(10_000);
    s.nothing();
}

#[test]
fn a_closed_socket_in_time_wait_is_free_and_still_answers() {
    let mut s = Script::accepted();
    assert!(!s.close());
    s.expect("FA", 1, 1, 0);
    s.send("FA", 1, 2, &[]);
    s.expect("A", 2, 2, 0);
    assert_eq!(s.host.collect_freed(), [s.id]);
    s.send("FA", 1, 2, &[]);
    s.expect("A", 2, 2, 0);
    s.send("R", 3, 0, &[]);
    s.nothing();
    // It survives a restart.
    s.host.crash();
    s.settle();
    s.send("FA", 1, 2, &[]);
    s.expect("A", 2, 2, 0);
    s.pass(61_000);
    s.send("FA", 1, 2, &[]);
    s.expect("R", 2, 0, 0);
}

#[test]
fn time_wait_gives_way_to_a_new_connection() {
    let mut s = Script::accepted();
    assert!(!s.close());
    s.expect("FA", 1, 1, 0);
    s.send("FA", 1, 2, &[]);
    s.expect("A", 2, 2, 0);
    // An old SYN is answered with an ACK; a new one opens.
    s.send("S", 0, 0, &[]);
    s.expect("A", 2, 2, 0);
    s.send("S", 1000, 0, &[]);
    let (_, repr, _) = s.next();
    assert_eq!((repr.flags, repr.ack.0), (Flags::SYN | Flags::ACK, 1001));
}

#[test]
fn an_rst_ends_time_wait_unless_rfc_1337_is_wanted() {
    for rfc1337 in [false, true] {
        let settings = Settings { rfc1337, ..Settings::default() };
        let mut s = Script::accepted_with(HostSpec { settings, ..HostSpec::fixed(1) });
        assert!(!s.close());
        s.expect("FA", 1, 1, 0);
        s.send("FA", 1, 2, &[]);
        s.expect("A", 2, 2, 0);
        s.send("R", 2, 0, &[]);
        s.send("FA", 1, 2, &[]);
        if rfc1337 {
            s.expect("A", 2, 2, 0);
        } else {
            s.expect("R", 2, 0, 0);
        }
    }
}

/// SO_REUSEADDR of the socket in hand.
fn share_port(s: &Script) {
    s.host.progs[0].app(s.id).options.fetch_or(option::REUSEADDR, Relaxed);
}

/// A connection that the program opened and closed first, with timestamps, and its own port.
fn opened_and_left(settings: Settings) -> (Script, u16, u32) {
    let mut s = Script::with(HostSpec { settings, ..HostSpec::fixed(1) });
    s.id = s.host.open(Kind::Tcp);
    share_port(&s);
    s.host.connect(s.id, "10.0.0.2:5000").unwrap();
    s.settle();
    let (_, syn, _) = s.next();
    let end = |value| {
        let echo = syn.options.timestamps.unwrap().value;
        Options { timestamps: Some(Timestamps { value, echo }), ..Options::NONE }
    };
    let iss = s.iss().unwrap();
    let say = |flags, seq: u32, ack: u32, value| Repr {
        flags,
        seq: Seq(seq),
        ack: Seq(iss.wrapping_add(ack)),
        window: 1000,
        options: end(value),
        ..seg(5000, syn.src)
    };
    s.send_repr(&say(Flags::SYN | Flags::ACK, 9, 1, 70), &[]);
    s.close();
    s.send_repr(&say(Flags::FIN | Flags::ACK, 10, 2, 71), &[]);
    s.sent.clear();
    assert_eq!(s.host.collect_freed(), [s.id]);
    (s, syn.src, iss)
}

#[test]
fn an_active_open_takes_over_time_wait_only_where_that_is_wanted() {
    for (reuse, pause, open) in
        [(Reuse::Loopback, 2000, false), (Reuse::Always, 500, false), (Reuse::Always, 2000, true)]
    {
        let settings = Settings { reuse, ..Settings::default() };
        let (mut s, port, iss) = opened_and_left(settings);
        s.pass(pause);
        s.id = s.host.open(Kind::Tcp);
        s.host.bind(s.id, &format!("0.0.0.0:{port}")).unwrap();
        let done = s.host.connect(s.id, "10.0.0.2:5000");
        s.settle();
        if open {
            assert!(done.is_ok());
            s.next();
            assert_eq!(s.iss().unwrap().wrapping_sub(iss), 2 + 65535 + 2, "beyond the old one's");
        } else {
            assert_eq!(done, Err(Error::AddrNotAvailable));
        }
    }
}

#[test]
fn only_an_exact_rst_resets() {
    let mut s = Script::accepted();
    s.send("R", 20_000, 0, &[]);
    s.nothing();
    s.send("R", 100, 0, &[]);
    s.expect("A", 1, 1, 0);
    assert_eq!(s.state(), State::Established);
    s.send("R", 1, 0, &[]);
    s.nothing();
    assert_eq!((s.state(), s.error()), (State::Closed, Some(Error::ConnectionReset)));
}

#[test]
fn a_syn_in_the_window_is_challenged() {
    let mut s = Script::accepted();
    s.send("S", 100, 0, &[]);
    s.expect("A", 1, 1, 0);
    assert_eq!(s.state(), State::Established);
}

#[test]
fn acks_of_what_was_not_sent_are_challenged_within_a_limit() {
    let mut s = Script::accepted();
    for _ in 0..50 {
        s.send("A", 1, 5000, &[]);
    }
    assert_eq!(s.sent.len(), 1, "one in half a second");
    s.sent.clear();
    s.pass(500);
    s.send("A", 1, 5000, &[]);
    s.expect("A", 1, 1, 0);
    assert_eq!(s.state(), State::Established);
}

#[test]
fn closing_with_unread_data_resets() {
    let mut s = Script::accepted();
    s.send("PA", 1, 1, b"unread");
    s.expect("A", 1, 7, 0);
    assert!(s.close());
    s.expect("RA", 1, 7, 0);
    s.send("A", 7, 1, &[]);
    s.expect("R", 1, 0, 0);
}

#[test]
fn data_for_a_closed_socket_resets() {
    let mut s = Script::accepted();
    assert!(!s.close());
    s.expect("FA", 1, 1, 0);
    s.send("A", 1, 2, &[]);
    s.send("PA", 1, 2, b"too late");
    s.expect("R", 2, 0, 0);
    assert_eq!(s.host.collect_freed(), [s.id]);
}

#[test]
fn an_orphan_delivers_what_it_promised_and_is_not_kept_for_ever() {
    let mut s = Script::accepted();
    s.write(3000);
    assert!(!s.close());
    s.send("A", 1, 3002, &[]);
    assert_eq!(s.state(), State::FinWait2);
    s.pass(59_000);
    assert_eq!(s.state(), State::FinWait2);
    s.pass(2000);
    assert_eq!(s.state(), State::Free);
}

#[test]
fn abort_resets_in_every_state() {
    let mut s = Script::accepted();
    s.write(100);
    s.expect("A", 1, 1, 100);
    assert!(s.host.abort(s.id));
    s.settle();
    s.expect("RA", 101, 1, 0);
    assert_eq!(s.state(), State::Free);
    let mut s = Script::connecting();
    assert!(s.host.abort(s.id));
    s.settle();
    s.nothing();
}

#[test]
fn closing_a_listener_resets_who_waits() {
    let mut s = Script::new();
    let listener = s.host.listen(80, 2);
    s.send_syn("S", 0, None, None);
    s.expect("SA", 0, 1, 0);
    s.send("A", 1, 1, &[]);
    assert!(s.host.close(listener));
    s.settle();
    s.expect("RA", 1, 1, 0);
    assert_eq!(s.host.collect_freed().len(), 2);
    assert_eq!(s.host.progs[0].in_use(), 0);
    s.send_syn("S", 0, None, None);
    s.expect("RA", u32::MAX.wrapping_sub(s_iss(&s)).wrapping_add(1), 1, 0);
}

/// The RST of a port where nobody listens has sequence number 0: minus our ISS, as counted here.
fn s_iss(s: &Script) -> u32 {
    s.iss().expect("a SYN was seen")
}

#[test]
fn what_no_socket_holds_is_listed_all_the_same() {
    let (mut s, port, _) = opened_and_left(Settings::default());
    let listener = s.host.listen(80, 1);
    s.host.spare(listener);
    s.send_repr(&Repr { flags: Flags::SYN, seq: Seq(99), window: 1000, ..seg(6000, 80) }, &[]);
    let Ok(Reply::Sockets(list)) = s.host.ask(Request::Sockets { skip: 0 }) else { panic!() };
    let nobodys = list.iter().filter(|i| i.sock == SockInfo::NOBODYS);
    let found: Vec<_> = nobodys.map(|i| (i.state, i.local.port(), i.remote)).collect();
    let peer = |port: u16| Some(std::net::SocketAddr::from(([10, 0, 0, 2], port)));
    let (half, left) = (State::SynReceived, State::TimeWait);
    assert_eq!(found, [(half, 80, peer(6000)), (left, port, peer(5000))]);
}

#[test]
fn too_many_connections_without_a_program_are_reset() {
    let settings = Settings { max_orphans: 1, ..Settings::default() };
    let mut s = Script::accepted_with(HostSpec { settings, ..HostSpec::fixed(1) });
    let first = s.id;
    assert!(!s.close());
    s.expect("FA", 1, 1, 0);
    // Another one, from the next port.
    let syn = seg(5001, 80);
    s.send_repr(&Repr { flags: Flags::SYN, window: 1000, ..syn }, &[]);
    let Some((_, Frame::Tcp(_, answer, _))) = s.sent.pop_front() else { panic!() };
    let ack = Repr { flags: Flags::ACK, seq: Seq(1), ack: answer.seq + 1, window: 1000, ..syn };
    s.send_repr(&ack, &[]);
    (s.id, _) = s.host.accept(s.listener).expect("it waits");
    assert!(s.close(), "it is over at once");
    let Some((_, Frame::Tcp(_, reset, _))) = s.sent.pop_front() else { panic!() };
    assert_eq!((reset.flags, reset.dst), (Flags::RST | Flags::ACK, 5001));
    // The first one ends in order.
    s.send("FA", 1, 2, &[]);
    s.expect("A", 2, 2, 0);
    assert_eq!(s.host.collect_freed(), [first]);
}
