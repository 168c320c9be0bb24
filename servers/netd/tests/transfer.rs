//! Data: retransmission, fast retransmit, windows, acknowledgments, order.

mod common;

use common::HostSpec;
use common::frames::Frame;
use common::script::Script;
use libipc::sock::{Error, State};
use netd::wire::tcp::Flags;

#[test]
fn a_program_may_lose_patience_earlier_or_later() {
    for (patience_ms, lost_at) in [(1000, 1200), (100, 300), (3_600_000, 3_600_200)] {
        let mut s = Script::accepted();
        s.set_user_timeout(patience_ms);
        let began = s.ms();
        s.write(100);
        s.expect("A", 1, 1, 100);
        // Since the first retransmission, as Linux reckons.
        s.until(began + lost_at - 50);
        assert_eq!(s.state(), State::Established, "{patience_ms}");
        s.until(began + lost_at + 50);
        assert_eq!((s.state(), s.error()), (State::Closed, Some(Error::TimedOut)), "{patience_ms}");
    }
    // An answer begins it anew.
    let mut s = Script::accepted();
    s.set_user_timeout(1000);
    for n in 0..5 {
        s.write(100);
        s.expect("A", 1 + n * 100, 1, 100);
        let now = s.ms();
        s.until(now + 900);
        while !s.sent.is_empty() {
            s.expect("A", 1 + n * 100, 1, 100);
        }
        s.send("A", 1, 1 + (n + 1) * 100, &[]);
    }
    assert_eq!(s.state(), State::Established);
}

#[test]
fn lost_data_is_repeated_with_doubling_pauses_and_given_up_in_the_end() {
    let mut s = Script::accepted();
    s.write(100);
    s.expect("A", 1, 1, 100);
    s.until(1_100_000);
    let mut at = Vec::new();
    while !s.sent.is_empty() {
        at.push(s.expect("A", 1, 1, 100));
    }
    // SRTT is the handshake's 0 ms: 200 ms, doubled, at most two minutes.
    let pauses: Vec<u64> = at.windows(2).map(|w| (w[1] - w[0]) / 100).collect();
    assert_eq!(pauses[..9], [4, 8, 16, 32, 64, 128, 256, 512, 1024], "tenths of seconds");
    assert!(pauses[9..].iter().all(|p| *p == 1200));
    // The first time-out more than 924.6 s (tcp_retries2) after the first retransmission.
    assert_eq!(at.len(), 16);
    assert_eq!((s.state(), s.error()), (State::Closed, Some(Error::TimedOut)));
}

#[test]
fn after_a_time_out_one_segment_then_slow_start() {
    let mut s = Script::accepted();
    s.write(10_000);
    for i in 0..10 {
        s.expect("A", 1 + i * 1000, 1, 1000);
    }
    s.pass(250);
    s.expect("A", 1, 1, 1000);
    s.nothing();
    s.send("A", 1, 1001, &[]);
    s.expect("A", 1001, 1, 1000);
    s.expect("A", 2001, 1, 1000);
    s.nothing();
    // The rest had arrived: nothing more is repeated.
    s.send("A", 1, 10_001, &[]);
    s.pass(100_000);
    s.nothing();
}

#[test]
fn three_duplicates_repeat_the_segment_at_once() {
    let mut s = Script::accepted();
    s.write(10_000);
    for i in 0..10 {
        s.expect("A", 1 + i * 1000, 1, 1000);
    }
    s.write(5000);
    s.nothing();
    // Limited transmit: each of the first two releases a new segment.
    s.send("A", 1, 1, &[]);
    s.expect("A", 10_001, 1, 1000);
    s.send("A", 1, 1, &[]);
    s.expect("A", 11_001, 1, 1000);
    s.send("A", 1, 1, &[]);
    s.expect("A", 1, 1, 1000);
    s.nothing();
    // A partial ACK says which is missing next.
    s.send("A", 1, 4001, &[]);
    s.expect("A", 4001, 1, 1000);
    s.send("A", 1, 12_001, &[]);
    // All of it: RFC 6937 has let the window follow what was delivered.
    for i in 12..15 {
        s.expect("A", i * 1000 + 1, 1, 1000);
    }
    s.nothing();
}

#[test]
fn duplicates_that_carry_data_or_change_the_window_are_none() {
    let mut s = Script::accepted();
    s.write(3000);
    for i in 0..3 {
        s.expect("A", 1 + i * 1000, 1, 1000);
    }
    for i in 0..4 {
        s.window -= 1;
        s.send("A", 1, 1, &[]);
        s.send("A", 1 + i * 10, 1, &[0; 10]);
    }
    let again = s.sent.iter().any(|(_, f)| matches!(f, Frame::Tcp(_, _, data) if !data.is_empty()));
    assert!(!again, "nothing was repeated");
}

#[test]
fn a_closed_window_is_probed_and_the_connection_lives_as_long_as_probes_are_answered() {
    let mut s = Script::accepted();
    s.window = 0;
    s.send("PA", 1, 1, b"x");
    s.write(5000);
    s.pass(45);
    s.expect("A", 1, 2, 0);
    for probe in 0..40 {
        let mut waited = 0;
        while s.sent.is_empty() {
            s.pass(100);
            waited += 100;
            assert!(waited < 121_000, "probe {probe}");
        }
        s.expect("A", 0, 2, 0);
        s.send("A", 2, 1, &[]);
    }
    assert_eq!(s.state(), State::Established);
    s.window = 3000;
    s.send("A", 2, 1, &[]);
    for i in 0..3 {
        s.expect("A", 1 + i * 1000, 2, 1000);
    }
    s.nothing();
}

#[test]
fn small_windows_are_not_filled_with_small_segments() {
    let mut s = Script::accepted();
    // With the same numbers a window may close and grow, but not shrink.
    for window in [0, 4000] {
        s.window = window;
        s.send("A", 1, 1, &[]);
    }
    s.write(10_000);
    for i in 0..4 {
        s.expect("A", 1 + i * 1000, 1, 1000);
    }
    // 300 bytes of window are not worth a segment.
    s.window = 300;
    s.send("A", 1, 4001, &[]);
    s.nothing();
    s.window = 2500;
    s.send("A", 1, 4001, &[]);
    s.expect("A", 4001, 1, 1000);
    s.expect("A", 5001, 1, 1000);
    s.nothing();
}

#[test]
fn a_small_segment_waits_for_the_last_small_one() {
    let mut s = Script::accepted();
    s.write(10);
    s.expect("A", 1, 1, 10);
    s.write(10);
    s.nothing();
    s.write(10);
    s.nothing();
    s.send("A", 1, 11, &[]);
    s.expect("A", 11, 1, 20);
    // A full one goes at once, and the small rest of a large write too.
    s.write(1500);
    s.expect("A", 31, 1, 1000);
    s.nothing();
    s.send("A", 1, 31, &[]);
    s.expect("A", 1031, 1, 500);
}

#[test]
fn acknowledgments_are_delayed_but_for_every_second_segment() {
    let mut s = Script::accepted();
    // The first are not, while the peer's window is small.
    for i in 0..14 {
        s.send("A", 1 + i * 100, 1, &[1; 100]);
        s.expect("A", 1, 101 + i * 100, 0);
    }
    s.send("A", 1401, 1, &[1; 600]);
    s.nothing();
    s.pass(39);
    s.nothing();
    s.pass(3);
    s.expect("A", 1, 2001, 0);
    s.send("A", 2001, 1, &[1; 600]);
    s.nothing();
    s.send("A", 2601, 1, &[1; 600]);
    s.expect("A", 1, 3201, 0);
    // Data takes the ACK along.
    s.send("A", 3201, 1, &[1; 100]);
    s.write(5);
    s.expect("A", 1, 3301, 5);
    s.pass(100);
    s.nothing();
}

#[test]
fn segments_out_of_order_are_kept_and_asked_for() {
    let mut s = Script::accepted();
    let bytes: Vec<u8> = (0..100).collect();
    s.send("A", 21, 1, &bytes[20..40]);
    s.expect("A", 1, 1, 0);
    s.send("A", 61, 1, &bytes[60..100]);
    s.expect("A", 1, 1, 0);
    s.send("A", 31, 1, &bytes[30..50]);
    s.expect("A", 1, 1, 0);
    s.send("A", 1, 1, &bytes[0..25]);
    s.expect("A", 1, 51, 0);
    s.send("A", 46, 1, &bytes[45..70]);
    s.expect("A", 1, 101, 0);
    assert_eq!(s.read(1000), bytes);
    // Repeated data is acknowledged and not taken twice.
    s.send("A", 1, 1, &bytes);
    s.expect("A", 1, 101, 0);
    assert_eq!(s.read(1000), b"");
}

#[test]
fn damaged_segments_leave_no_trace() {
    let mut s = Script::accepted();
    s.send("A", 11, 1, b"world");
    s.expect("A", 1, 1, 0);
    let repr = netd::wire::tcp::Repr {
        seq: netd::wire::tcp::Seq(0xffff_f000 + 1 + 5),
        flags: Flags::ACK,
        window: 1000,
        ..common::frames::seg(5000, 80)
    };
    // Overlaps what has arrived, and its checksum is wrong.
    let mut frame = common::frames::tcp_frame(s.peer, s.us, &repr, b"XXXXXXXXXX");
    frame[50] ^= 0xff;
    s.send_frame(&frame);
    s.nothing();
    assert_eq!(s.host.stack().counters().rx_checksum, 1);
    s.send("A", 1, 1, b"hello, old");
    s.pass(50);
    let (_, ack, _) = s.next();
    assert_eq!(ack.ack.0, 11, "what was overwritten is forgotten");
    s.send("A", 11, 1, b"world");
    assert_eq!(s.read(100), b"hello, oldworld");
}

#[test]
fn the_window_closes_and_opens_without_silly_steps() {
    let spec = HostSpec { rx_bits: 12, ..HostSpec::fixed(1) };
    let mut s = Script::accepted_with(spec);
    for i in 0..4 {
        s.send("A", 1 + i * 1024, 1, &[i as u8; 1024]);
    }
    s.pass(50);
    let (_, last, _) = loop {
        let next = s.next();
        if s.sent.is_empty() {
            break next;
        }
    };
    assert_eq!((last.ack.0, last.window), (4097, 0));
    // A probe is answered, and its byte not taken.
    s.send("A", 4097, 1, &[9]);
    let (_, answer, _) = s.next();
    assert_eq!((answer.ack.0, answer.window), (4097, 0));
    s.read(100);
    s.nothing();
    s.read(2000);
    let (_, update, _) = s.next();
    assert_eq!((update.ack.0, update.window), (4097, 2048));
    s.send("A", 4097, 1, &[9; 100]);
    assert_eq!(s.read(5000).len(), 2096);
}

#[test]
fn what_lies_beyond_the_window_is_cut_off() {
    let spec = HostSpec { rx_bits: 10, ..HostSpec::fixed(1) };
    let mut s = Script::accepted_with(spec);
    s.send("A", 1, 1, &[5; 1400]);
    s.pass(50);
    let (_, ack, _) = s.next();
    assert_eq!((ack.ack.0, ack.window), (1025, 0));
    assert_eq!(s.read(5000), vec![5; 1024]);
}

#[test]
fn a_link_with_a_smaller_mtu_gets_smaller_segments() {
    let mut s = Script::accepted();
    s.write(3000);
    let frames: Vec<_> = s.sent.iter().map(|(_, f)| f.clone()).collect();
    let Frame::Tcp(_, first, _) = &frames[0] else { panic!() };
    s.sent.clear();
    // "Fragmentation needed, MTU 600", quoting the first segment.
    let mut quote = vec![3, 4, 0, 0, 0, 0, 0x02, 0x58];
    let mut ip = [0; 20];
    netd::wire::ipv4::Repr::new(s.us.ip, s.peer.ip, 6, 1020).emit(&mut ip);
    quote.extend(ip);
    quote.extend([0, 80, 0x13, 0x88]);
    quote.extend(first.seq.0.to_be_bytes());
    let sum = netd::wire::checksum::Sum::ZERO.bytes(&quote).finish();
    quote[2..4].copy_from_slice(&sum);
    let frame = common::frames::ip_frame(s.peer, s.us, 1, &quote);
    s.send_frame(&frame);
    s.expect("A", 1, 1, 560);
    s.expect("A", 561, 1, 560);
}

#[test]
fn while_data_is_repeated_acks_carry_the_number_that_the_peer_expects() {
    let mut s = Script::accepted();
    s.write(2000);
    s.expect("A", 1, 1, 1000);
    s.expect("A", 1001, 1, 1000);
    s.pass(250);
    s.expect("A", 1, 1, 1000);
    // The peer had it all, its ACK was lost; now it repeats data of its own.
    s.send("A", 1, 1, &[1; 10]);
    s.pass(45);
    s.expect("A", 2001, 11, 0);
}
