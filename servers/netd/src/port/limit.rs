//! Byte queue limits: how many bytes may lie with the driver. As few as keep it busy, so that what
//! is sent next is decided as late as can be, where turns are fair ([`crate::stack`]), and not in a
//! queue whose first comers are served first.
//!
//! The limit is found as Linux finds it: it grows when the driver ran dry although there was more
//! to send, and falls by what lay there unused for a second.

/// Two of the longest frames: one that is being sent, one that waits.
const MIN: u64 = 2 * 65_535;
/// How long slack must last, ns.
const HOLD_NS: u64 = 1_000_000_000;

/// The limit and what it is measured from, in bytes since the start.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    limit: u64,
    queued: u64,
    completed: u64,
    /// `queued` when frames last came back.
    mark: u64,
    /// By how much the limit was exceeded then.
    over: u64,
    least_slack: u64,
    slack_since: u64,
}

impl Limit {
    pub const fn new() -> Self {
        Self {
            limit: MIN,
            queued: 0,
            completed: 0,
            mark: 0,
            over: 0,
            least_slack: u64::MAX,
            slack_since: 0,
        }
    }

    /// Whether more may be given to the driver. The last frame may exceed the limit.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.queued() < self.limit
    }

    /// Bytes that lie with the driver.
    #[inline(always)]
    pub fn queued(&self) -> u64 {
        self.queued - self.completed
    }

    /// `bytes` are given to the driver.
    #[inline]
    pub fn queue(&mut self, bytes: u32) {
        self.queued += bytes as u64;
    }

    /// `bytes` have left.
    pub fn complete(&mut self, bytes: u64, now: u64) {
        let done = (self.completed + bytes).min(self.queued);
        let over = self.queued().saturating_sub(self.limit);
        let left = self.queued - done;
        // All that was there when frames last came back.
        let all = done >= self.mark;
        let old = self.limit;
        if (over > 0 && left == 0) || (self.over > 0 && all) {
            // It ran dry, and the limit was what kept the next from it.
            self.limit += done.saturating_sub(self.mark) + self.over;
            (self.least_slack, self.slack_since) = (u64::MAX, now);
        } else if left > 0 && !all && self.mark > self.completed {
            // It never ran dry: twice of what left would have been enough.
            let slack = (old + self.over).saturating_sub(2 * (done - self.completed));
            self.least_slack = self.least_slack.min(slack);
            if now.saturating_sub(self.slack_since) > HOLD_NS {
                self.limit = old.saturating_sub(self.least_slack).max(MIN);
                (self.least_slack, self.slack_since) = (u64::MAX, now);
            }
        }
        self.over = if self.limit == old { over } else { 0 };
        (self.completed, self.mark) = (done, self.queued);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const FRAME: u32 = 60_000;

    /// Fills up to the limit; yields what was queued.
    fn fill(l: &mut Limit) -> u64 {
        let before = l.queued;
        while l.is_open() {
            l.queue(FRAME);
        }
        l.queued - before
    }

    #[test]
    fn a_driver_that_runs_dry_gets_more_until_it_does_not() {
        let mut l = Limit::new();
        // Each ms it sends a megabyte, if it has that much.
        for ms in 1..40 {
            fill(&mut l);
            let there = l.queued - l.completed;
            l.complete(there.min(1_000_000), ms * MS);
        }
        assert!((1_000_000..2_500_000).contains(&l.limit), "{}", l.limit);
    }

    #[test]
    fn what_lies_unused_for_a_second_goes() {
        let mut l = Limit::new();
        l.limit = 3_000_000;
        for ms in 1..4000 {
            fill(&mut l);
            l.complete(120_000, ms * MS);
        }
        assert!((MIN..400_000).contains(&l.limit), "{}", l.limit);
    }

    #[test]
    fn few_bytes_leave_it_alone() {
        let mut l = Limit::new();
        for ms in 1..3000 {
            l.queue(1514);
            l.complete(1514, ms * MS);
        }
        assert_eq!(l.limit, MIN);
    }
}
