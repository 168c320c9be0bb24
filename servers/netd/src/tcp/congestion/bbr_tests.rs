//! BBR on a path of which all is known.

use super::*;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

const MS: u64 = 1_000_000;
const MSS: u32 = 1000;

/// A path of `rate` bytes a second with 40 ms there and back, and a queue without end; always something to send.
struct Path {
    bbr: Bbr,
    cwnd: u32,
    rate: u64,
    now: u64,
    /// Bytes sent, delivered and acknowledged, and what waits.
    sent: u64,
    acked: u64,
    queue: u64,
    on_the_way: VecDeque<u64>,
    /// When so much had been sent, what was delivered then.
    history: VecDeque<(u64, u64, u64)>,
}

impl Path {
    fn new(rate: u64) -> Self {
        let bbr = Bbr::new(10 * MSS, MSS, 40 * MS, 0);
        let on_the_way = (0..40).map(|_| 0).collect();
        let history = VecDeque::new();
        Self {
            bbr,
            cwnd: 10 * MSS,
            rate,
            now: 10 * SECOND,
            sent: 0,
            acked: 0,
            queue: 0,
            on_the_way,
            history,
        }
    }

    fn flight(&self) -> u32 {
        (self.sent - self.acked) as u32
    }

    /// A millisecond.
    fn step(&mut self) {
        self.now += MS;
        let room = self.cwnd.saturating_sub(self.flight()) as u64;
        let leaves = room.min(self.bbr.pacing() / 1000);
        self.sent += leaves;
        self.queue += leaves;
        self.history.push_back((self.sent, self.acked, self.now));
        let passes = self.queue.min(self.rate / 1000);
        self.queue -= passes;
        self.on_the_way.push_back(passes);
        let before = self.flight();
        let acked = self.on_the_way.pop_front().unwrap_or(0);
        self.acked += acked;
        if acked == 0 {
            return;
        }
        while self.history.front().is_some_and(|h| h.0 < self.acked) {
            self.history.pop_front();
        }
        let Some(&(_, prior, at)) = self.history.front() else { return };
        let sample = Sample {
            delivered: self.acked - prior,
            interval: self.now - at,
            prior,
            total: self.acked,
            rtt: self.now - at,
            acked: acked as u32,
            before,
            flight: self.flight(),
            now: self.now,
            ..Sample::default()
        };
        self.cwnd = self.bbr.on_ack(&sample, self.cwnd);
    }

    fn run(&mut self, ms: u64) -> Vec<u32> {
        (0..ms)
            .map(|_| {
                self.step();
                self.cwnd
            })
            .collect()
    }
}

#[test]
fn finds_the_rate_and_keeps_about_two_products_in_flight() {
    let mut p = Path::new(1_000_000);
    assert_eq!(p.bbr.mode(), Mode::Startup);
    p.run(2000);
    assert_eq!(p.bbr.mode(), Mode::ProbeBw);
    assert!((740_000..=1_260_000).contains(&p.bbr.pacing()), "{}", p.bbr.pacing());
    assert!((80_000..=95_000).contains(&p.cwnd), "{}: twice 40 kB and a little", p.cwnd);
    assert!(p.queue < 20_000, "{}: it stands in no queue", p.queue);
    let before = p.acked;
    p.run(5000);
    assert!(p.acked - before > 4_800_000, "{} in five seconds", p.acked - before);
}

#[test]
fn every_ten_seconds_it_looks_at_an_empty_path() {
    let mut p = Path::new(1_000_000);
    p.run(2000);
    let seen = p.run(12_000);
    let low = seen.iter().filter(|w| **w <= 4 * MSS).count();
    assert!((200..400).contains(&low), "{low} ms");
    assert!(p.cwnd >= 80_000, "and goes on: {}", p.cwnd);
}

#[test]
fn a_path_that_becomes_slower_is_seen_so() {
    let mut p = Path::new(1_000_000);
    p.run(2000);
    p.rate = 250_000;
    p.run(6000);
    assert!(p.bbr.pacing() <= 320_000, "{}", p.bbr.pacing());
}

#[test]
fn loss_says_nothing_but_conserves_for_a_round_trip() {
    let mut p = Path::new(1_000_000);
    p.run(2000);
    let (rate, cwnd, total) = (p.bbr.pacing(), p.cwnd, p.acked);
    p.bbr.save(cwnd);
    let lost = Sample {
        acked: 1000,
        lost: 1000,
        flight: 50_000,
        before: 52_000,
        total,
        recovery: true,
        now: p.now,
        ..Sample::default()
    };
    assert_eq!(p.bbr.on_ack(&lost, cwnd), 51_000, "what was in flight");
    assert!(p.bbr.pacing().abs_diff(rate) <= rate / 4);
    let over = Sample { recovery: false, lost: 0, ..lost };
    assert!(p.bbr.on_ack(&over, 51_000) >= cwnd - 2000, "and back");
}
