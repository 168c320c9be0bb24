//! The sporadic-server rule against its definition: in no window of a period more than the budget,
//! and no nanosecond comes back much later than it could.

use microkernel::refill::{Refills, SHORTEST_NS};
use std::collections::VecDeque;

/// The rule by definition: each stretch comes back a period after it began, nothing is merged.
struct Exact {
    budget: u64,
    period: u64,
    refills: VecDeque<(u64, u64)>,
}

impl Exact {
    fn spend(&mut self, start: u64, ns: u64) {
        let mut left = ns;
        while left > 0 {
            let head = self.refills.front_mut().expect("never more than the budget is spent");
            let n = head.1.min(left);
            *head = (head.0 + n, head.1 - n);
            left -= n;
            if head.1 == 0 {
                self.refills.pop_front();
            }
        }
        self.refills.push_back((start + self.period, ns));
    }
    /// What may be spent at `at`.
    fn ready(&self, at: u64) -> u64 {
        self.refills.iter().filter(|r| r.0 <= at).map(|r| r.1).sum()
    }
}

/// No window of a period holds more than the budget: it is enough to look at those that begin with
/// a stretch.
fn check_windows(stretches: &[(u64, u64)], budget: u64, period: u64) {
    let mut end = 0;
    for (i, (start, _)) in stretches.iter().enumerate() {
        end = end.max(i);
        let window = start + period;
        let inside = stretches[i..].iter().take_while(|s| s.0 < window);
        let used: u64 = inside.map(|(s, e)| e.min(&window) - s).sum();
        assert!(used <= budget, "{used} ns of {budget} in the period from {start}");
    }
}

#[test]
fn no_window_of_a_period_holds_more_than_the_budget() {
    let mut waited = 0;
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let period = rng.u64(SHORTEST_NS..20_000_000);
        let budget = rng.u64(SHORTEST_NS..=period);
        // From tiny pieces to long ones, and from idle to always.
        let (most, pause) = (rng.u64(100..period), rng.u64(0..period / 2 + 1));
        let mut now = rng.u64(..1 << 40);
        let refills = Refills::default();
        refills.reset(budget, period, now);
        let mut exact = Exact { budget, period, refills: [(now, budget)].into() };
        let mut stretches = Vec::new();
        for _ in 0..1500 {
            if rng.u8(..3) > 0 {
                now += rng.u64(..=pause);
            }
            let may = refills.begin(now);
            if may == 0 {
                waited += 1;
                let early = exact.ready(now.saturating_sub(period / 5 + 1));
                assert!(
                    early <= SHORTEST_NS,
                    "seed {seed}: it waits, and {early} ns were long due"
                );
                assert!(refills.next() > now && refills.next() <= now + period, "seed {seed}");
                now = refills.next();
                assert!(refills.begin(now) >= SHORTEST_NS, "seed {seed}: a crumb");
                continue;
            }
            let ns = rng.u64(1..=most).min(may);
            exact.spend(now, ns);
            stretches.push((now, now + ns));
            now += ns;
            assert_eq!(refills.spend(ns, now), ns == may && refills.begin(now) == 0);
            assert_eq!(exact.refills.iter().map(|r| r.1).sum::<u64>(), exact.budget);
        }
        check_windows(&stretches, budget, period);
    }
    assert!(waited > 10_000, "the budget ended only {waited} times");
}

#[test]
fn who_always_runs_gets_all_of_its_budget() {
    for (budget, period) in [(9_000_000, 10_000_000), (10_000, 10_000), (20_000, 1_000_000)] {
        let refills = Refills::default();
        refills.reset(budget, period, 0);
        let (mut now, mut used) = (0, 0);
        while now < 100 * period {
            match refills.begin(now) {
                0 => now = refills.next(),
                n => {
                    (now, used) = (now + n, used + n);
                    refills.spend(n, now);
                }
            }
        }
        assert!(used >= 100 * budget, "{used} of {}", 100 * budget);
    }
}

#[test]
fn a_late_timer_is_paid_for_later() {
    let refills = Refills::default();
    refills.reset(1_000_000, 10_000_000, 0);
    // Five times the budget at once, then as much as it may.
    assert_eq!(refills.begin(0), 1_000_000);
    assert!(refills.spend(5_000_000, 5_000_000), "it may no longer run");
    assert_eq!(refills.next(), 14_000_000);
    assert_eq!(refills.begin(13_999_999), 0);
    assert_eq!(refills.begin(14_000_000), 1_000_000);
}
