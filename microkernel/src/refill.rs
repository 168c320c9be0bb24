//! The sporadic-server rule: at most `budget` ns of running in *any* window of `period` ns.
//!
//! The budget is a set of nanoseconds, each of which may be spent once and comes back a period after
//! it was spent. They are kept as a few refills, earliest first: the `n`th nanosecond of a refill
//! `(at, ns)` may be spent from `at + n` on. What was spent in one stretch from `start` on comes back
//! as the refill `(start + period, spent)`. Two refills are merged by letting the earlier
//! nanoseconds wait until both are a single stretch: merging delays, it never hastens, so the rule
//! holds whatever is merged. Spendings within a sixth of a period join the same refill, so the delay
//! is below that, and eight refills always do.

use core::cell::Cell;

/// Refills of a context.
const REFILLS: usize = 8;
/// A period is told apart in this many parts: two less than refills, one of which is being spent,
/// one of which is open.
const PARTS: u64 = REFILLS as u64 - 2;
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

/// A budget and what is left of it. All of it (`budget` ns) is in the refills at any time.
#[repr(C)]
#[derive(Default)]
pub struct Refills {
    /// ns that may be spent in a period.
    pub(crate) budget: Cell<u64>,
    /// Length of a period, ns.
    pub(crate) period: Cell<u64>,
    /// What comes back before this joins the last refill.
    open_until: Cell<u64>,
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
        self.budget.set(budget);
        self.period.set(period);
        self.open_until.set(0);
        self.first.set(0);
        self.count.set(1);
        self.ring[0].set(Refill { at: now, ns: budget });
    }

    /// Spends what a stretch from `start` to `end` took. If more than was there (the timer was
    /// late), what comes later pays; never more than everything.
    pub fn spend(&self, start: u64, end: u64) {
        let spent = end.saturating_sub(start).min(self.budget.get());
        let mut left = spent;
        while left > 0 {
            let head = self.slot(0).get();
            if head.ns > left {
                self.slot(0).set(Refill { at: head.at + left, ns: head.ns - left });
                break;
            }
            left -= head.ns;
            self.pop();
        }
        if spent > 0 {
            self.come_back(Refill { at: end - spent + self.period.get(), ns: spent });
        }
    }

    /// Appends a refill; `new.at` is not before the last one's.
    fn come_back(&self, new: Refill) {
        let count = self.count.get();
        if count > 0 {
            let last = self.slot(count - 1);
            let old = last.get();
            let touches = new.at <= old.at + old.ns;
            if touches || new.at < self.open_until.get() || count == REFILLS as u32 {
                return last.set(merged(old, new));
            }
        }
        self.count.set(count + 1);
        self.slot(count).set(new);
        self.open_until.set(new.at + self.period.get() / PARTS);
    }

    /// How long the context may run from `now` on without a pause, ns; 0: not before
    /// [`Refills::next`].
    pub fn available(&self, now: u64) -> u64 {
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
                    if self.count.get() == 1 {
                        // What is spent now is not to wait for what comes back later.
                        self.open_until.set(0);
                    }
                    continue;
                }
            }
            return if head.at <= now { head.ns } else { 0 };
        }
    }

    /// Whether it may run.
    pub fn ready(&self, now: u64) -> bool {
        self.available(now) > 0
    }

    /// When it may run again.
    pub fn next(&self) -> u64 {
        self.slot(0).get().at
    }

    /// ns in all refills: the budget, always.
    pub fn total(&self) -> u64 {
        (0..self.count.get()).map(|i| self.slot(i).get().ns).sum()
    }
}

/// `a`, and then `b`, as one: the nanoseconds of neither come earlier than they did.
fn merged(a: Refill, b: Refill) -> Refill {
    Refill { at: a.at.max(b.at.saturating_sub(a.ns)), ns: a.ns + b.ns }
}
