//! How the receive window grows with what the program takes, and who stays with what there is.

mod common;

use common::HostSpec;
use common::frames::Frame;
use common::script::Script;
use libipc::sock::{AppSock, option};
use std::sync::atomic::Ordering::Relaxed;

const SEGMENT: u32 = 1460;
const RING: u32 = 1 << 19;

/// An accepted connection with a large ring, its SYN scaled.
fn accepted(rcvbuf: u32, scale: u8) -> Script {
    let mut s = Script::with(HostSpec { rx_bits: 19, ..HostSpec::fixed(1) });
    s.listener = s.host.listen(80, 4);
    s.host.progs[0].app(s.listener).window_clamp.store(rcvbuf, Relaxed);
    s.send_syn("S", 0, Some(1460), Some(7));
    assert_eq!(s.next().1.options.scale, Some(scale));
    s.send("A", 1, 1, &[]);
    (s.id, _) = s.host.accept(s.listener).expect("it waits");
    s
}

/// The peer sends as much as it may, `rounds` times, 50 ms apart; the program takes a part, and the
/// next to last window of each is what counts.
fn windows(s: &mut Script, scale: u8, rounds: u32, takes: u64) -> Vec<u32> {
    let (mut seq, mut window, mut seen) = (1, 64240, Vec::new());
    for _ in 0..rounds {
        s.pass(50);
        for _ in 0..window / SEGMENT {
            s.send("PA", seq, 1, &[7; SEGMENT as usize]);
            seq += SEGMENT;
        }
        s.read(takes);
        s.pass(50);
        let mut last = s.sent.drain(..).filter_map(|(_, f)| match f {
            Frame::Tcp(_, repr, _) => Some((repr.window as u32) << scale),
            _ => None,
        });
        window = last.next_back().unwrap_or(window);
        seen.push(window);
    }
    seen
}

#[test]
fn the_window_grows_with_what_the_program_takes() {
    let seen = windows(&mut accepted(0, 7), 7, 9, RING as u64);
    assert!(seen.is_sorted() && seen[0] < 66_000, "{seen:?}");
    let last = *seen.last().unwrap();
    assert!((RING - 2 * SEGMENT..=RING).contains(&last), "up to the ring: {seen:?}");
}

#[test]
fn a_program_that_takes_little_is_offered_no_more() {
    let seen = windows(&mut accepted(0, 7), 7, 9, 5_000);
    assert!(seen.iter().all(|w| *w <= 65_536), "{seen:?}");
}

#[test]
fn who_sets_the_receive_buffer_has_a_window_of_that_size() {
    let seen = windows(&mut accepted(AppSock::RCVBUF | 200_000, 2), 2, 5, RING as u64);
    assert!(seen[1..].iter().all(|w| (150_000..=200_064).contains(w)), "{seen:?}");
}

#[test]
fn a_receive_buffer_that_is_set_later_counts_from_then_on() {
    let mut s = accepted(0, 7);
    let app = s.host.progs[0].app(s.id);
    let set = |bytes: u32| {
        app.window_clamp.store(AppSock::RCVBUF | bytes, Relaxed);
        app.options.fetch_add(option::CHANGE, Relaxed);
    };
    set(300_000);
    s.read(0);
    let seen = windows(&mut s, 7, 7, RING as u64);
    assert!((250_000..=300_032).contains(seen.last().unwrap()), "{seen:?}");
}
