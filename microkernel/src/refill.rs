//! The sporadic-server rule: at most `budget` ns of running in *any* window of `period` ns.
//!
//! The budget is a set of nanoseconds, each of which may be spent once and comes back a period after
//! it was spent. They are kept as a few refills, earliest first: the `n`th nanosecond of a refill
//! `(at, ns)` may be spent from `at + n` on. What is spent in one stretch that ends at `end` comes
//! back as the refill `(end - spent + period, spent)`. Two refills are merged by letting the earlier
//! nanoseconds wait until both are a single stretch: merging delays, it never hastens, so the rule
//! holds whatever is merged.
//!
//! What is spent within a fifth of a period counts as one stretch at its end, so the delay is below
//! that, seven refills always do, and a switch costs an addition and a comparison.

use core::cell::Cell;

/// Refills of a context.
const REFILLS: usize = 7;
/// Stretches in a period: two less than refills, one of which is being spent.
const STRETCHES: u64 = REFILLS as u64 - 2;
/// A refill shorter than this waits to become one with the next, ns: below it lies the cost of
/// switching.
pub const SHORTEST_NS: u64 = 10_000;

/// Nanoseconds to spend.
#[derive(Clone, Copy, Default)]
struct Refill {
    /// From when on.
    at: u64,
    /// How many.
    ns: u64,
}

/// A budget and what is left of it.
#[repr(C)]
#[derive(Default)]
pub struct Refills {
    /// What was found to be there when this stretch began, less what was spent since.
    left: Cell<u64>,
    /// Spent in this stretch, and not yet taken from the refills;
    spent: Cell<u64>,
    /// when that ended,
    end: Cell<u64>,
    /// and when another stretch begins.
    until: Cell<u64>,
    period: Cell<u64>,
    first: Cell<u32>,
    count: Cell<u32>,
    ring: [Cell<Refill>; REFILLS],
}

impl Refills {
    fn slot(&self, i: u32) -> &Cell<Refill> {
        &self.ring[(self.first.get() + i) as usize % REFILLS]
    }
    fn pop(&self) {
        self.first.set((self.first.get() + 1) % REFILLS as u32);
        self.count.set(self.count.get() - 1);
    }

    /// A full budget from `now` on; `budget` is at least [`SHORTEST_NS`], at most `period`.
    pub fn reset(&self, budget: u64, period: u64, now: u64) {
        self.period.set(period);
        self.spent.set(0);
        self.until.set(0);
        self.first.set(0);
        self.count.set(1);
        self.ring[0].set(Refill { at: now, ns: budget });
    }

    /// How long the context may run from `now` on, ns; 0: not before [`Refills::next`].
    #[inline(always)]
    pub fn begin(&self, now: u64) -> u64 {
        if now >= self.until.get() { self.begin_stretch(now) } else { self.left.get() }
    }

    fn begin_stretch(&self, now: u64) -> u64 {
        self.settle();
        let left = self.available(now);
        self.left.set(left);
        // Nothing to spend is no stretch.
        self.until.set(if left > 0 { now + self.period.get() / STRETCHES } else { 0 });
        left
    }

    /// It has run for `ns`, up to `now`. Whether it may no longer.
    #[inline(always)]
    pub fn spend(&self, ns: u64, now: u64) -> bool {
        self.spent.set(self.spent.get() + ns);
        self.end.set(now);
        let left = self.left.get();
        self.left.set(left.saturating_sub(ns));
        ns >= left && self.begin_stretch(now) == 0
    }

    /// Takes what was spent from the refills: it comes back a period later. If that is more than
    /// was there (the timer was late), what comes later pays; never more than everything.
    fn settle(&self) {
        let mut left = self.spent.take();
        let mut paid = 0;
        while left > 0 && self.count.get() > 0 {
            let head = self.slot(0).get();
            let n = left.min(head.ns);
            (left, paid) = (left - n, paid + n);
            if n < head.ns {
                self.slot(0).set(Refill { at: head.at + n, ns: head.ns - n });
            } else {
                self.pop();
            }
        }
        if paid > 0 {
            self.come_back(Refill { at: self.end.get() - paid + self.period.get(), ns: paid });
        }
    }

    /// Appends a refill; `new.at` is not before the last one's.
    fn come_back(&self, new: Refill) {
        let count = self.count.get();
        if count > 0 {
            let last = self.slot(count - 1);
            let old = last.get();
            if new.at <= old.at + old.ns || count == REFILLS as u32 {
                return last.set(merged(old, new));
            }
        }
        self.count.set(count + 1);
        self.slot(count).set(new);
    }

    /// What may be spent from `now` on without a pause, if all is settled.
    fn available(&self, now: u64) -> u64 {
        loop {
            let head = self.slot(0).get();
            if self.count.get() > 1 {
                let next = self.slot(1).get();
                // From now on without a gap; or too short to be worth a switch.
                let gapless = head.at <= now && next.at <= now + head.ns;
                if gapless || head.ns < SHORTEST_NS {
                    let head = if gapless { Refill { at: now, ..head } } else { head };
                    self.pop();
                    self.slot(0).set(merged(head, next));
                    continue;
                }
            }
            return if head.at <= now { head.ns } else { 0 };
        }
    }

    /// When it may run again, if it may not now.
    pub fn next(&self) -> u64 {
        self.slot(0).get().at
    }
}

/// `a`, and then `b`, as one: the nanoseconds of neither come earlier than they did.
fn merged(a: Refill, b: Refill) -> Refill {
    Refill { at: a.at.max(b.at.saturating_sub(a.ns)), ns: a.ns + b.ns }
}
