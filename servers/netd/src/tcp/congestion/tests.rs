use super::*;

const MSS: u32 = 1000;
const MS: u64 = 1_000_000;

fn ack(acked: u32) -> Ack {
    Ack { acked, una: Seq(0), max: Seq(1), rtt: 0, srtt: 0, now: 0 }
}

fn full(c: &mut Congestion) {
    c.on_sent(c.window(), Seq(0), Seq(1), || 200 * MS, 0);
}

#[test]
fn slow_start_then_avoidance() {
    let mut c = Congestion::new(Algorithm::Reno, MSS, Seq(0));
    assert_eq!((c.window(), c.ssthresh()), (10_000, None));
    full(&mut c);
    c.on_ack(&ack(2000));
    assert_eq!(c.window(), 12_000);
    c.on_rto(0, true);
    assert_eq!((c.window(), c.ssthresh()), (1000, Some(6000)));
    c.on_rto(0, false);
    assert_eq!(c.ssthresh(), Some(6000), "RFC 5681 3.1: not twice for the same data");
    for _ in 0..5 {
        full(&mut c);
        c.on_ack(&ack(1000));
    }
    assert_eq!(c.window(), 6000);
    full(&mut c);
    c.on_ack(&ack(5000));
    assert_eq!(c.window(), 6000);
    c.on_ack(&ack(1000));
    assert_eq!(c.window(), 7000, "one segment a round trip");
}

#[test]
fn what_is_not_used_does_not_grow() {
    let mut c = Congestion::new(Algorithm::Cubic, MSS, Seq(0));
    for i in 0..50 {
        c.on_sent(1000, Seq(i), Seq(i + 1), || 200 * MS, 0);
        c.on_ack(&ack(1000));
    }
    assert_eq!(c.window(), 10_000);
    // Slow start goes up to twice of what was in flight.
    c.on_sent(7000, Seq(60), Seq(61), || 200 * MS, 0);
    for _ in 0..7 {
        c.on_ack(&ack(1000));
    }
    assert_eq!(c.window(), 14_000);
}

#[test]
fn what_is_not_used_goes() {
    let mut c = Congestion::new(Algorithm::Cubic, MSS, Seq(0));
    c.set_window(50_000);
    c.on_sent(50_000, Seq(0), Seq(1), || 200 * MS, MS);
    c.on_sent(1000, Seq(1), Seq(2), || 200 * MS, 100 * MS);
    assert_eq!(c.window(), 50_000);
    c.on_sent(20_000, Seq(2), Seq(3), || 200 * MS, 201 * MS);
    assert_eq!((c.window(), c.ssthresh()), (35_000, None), "half of what was not used");
}

#[test]
fn an_idle_connection_begins_anew() {
    let mut c = Congestion::new(Algorithm::Cubic, MSS, Seq(0));
    c.set_window(80_000);
    c.on_idle(200 * MS, || 200 * MS, 0);
    assert_eq!(c.window(), 80_000);
    c.on_idle(450 * MS, || 200 * MS, 0);
    assert_eq!(c.window(), 20_000);
    c.on_idle(u64::MAX, || 1, 0);
    assert_eq!(c.window(), 10_000);
}

#[test]
fn a_spurious_reduction_is_undone_once() {
    for algorithm in [Algorithm::Cubic, Algorithm::Reno] {
        let mut c = Congestion::new(algorithm, MSS, Seq(0));
        c.set_window(40_000);
        c.on_rto(0, true);
        assert_eq!(c.window(), 1000);
        c.undo();
        assert_eq!((c.window(), c.ssthresh()), (40_000, None));
        c.on_loss();
        c.set_window(20_000);
        c.end_reduction();
        let after = if algorithm == Algorithm::Cubic { 28_000 } else { 20_000 };
        assert_eq!(c.window(), after);
        c.on_ecn();
        c.undo();
        assert_eq!(c.window(), after, "what a router said is so");
    }
}

#[test]
fn smaller_segments_are_as_many() {
    let mut c = Congestion::new(Algorithm::Cubic, MSS, Seq(0));
    c.set_mss(500);
    assert_eq!((c.window(), c.ssthresh()), (5000, None));
}

#[test]
fn after_a_time_out_the_curve_begins_at_the_window() {
    let one = ack(1000);
    let now = Ack { now: 1000 * MS, srtt: 100 * MS, ..one };
    let mut lost = Cubic::NEW;
    let to = lost.on_loss(10_000);
    let mut timed_out = lost;
    timed_out.on_rto();
    // RFC 9438 4.8: K is 0. Linux: where nothing is known of the path a segment more takes twenty.
    assert_eq!(timed_out.acks_per_segment(1000, to, MSS, &now), 20_000);
    assert!(lost.acks_per_segment(1000, to, MSS, &now) < 20_000, "back to where it was");
}
