//! What follows the end of a process: the manifest's policy, and a growing pause for one that
//! keeps crashing.

use heapless::Deque;
use spec::Restart;

/// Starts remembered; a larger `max` counts as this.
const REMEMBERED: usize = 64;
/// First pause.
const FIRST_PAUSE_NS: u64 = 100_000_000;
/// Longest pause.
const LONGEST_PAUSE_NS: u64 = 10_000_000_000;
/// Even without a limit in the manifest, so many starts within a second (or an exit loop would leave
/// no time for anything else) make the next one wait.
const BRAKE_STARTS: u32 = REMEMBERED as u32;
const BRAKE_PAUSE_NS: u64 = 100_000_000;
/// Pauses in a row after which a process is given up.
pub const GIVE_UP: u32 = 8;

/// How a process ended, as far as the policy cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with status 0.
    Success,
    /// It exited with another status, crashed, or was killed.
    Crash,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Start it at once.
    Now,
    /// Start it after this pause in ns: it started this often within the window.
    Later {
        /// Pause.
        pause_ns: u64,
        /// Starts within the window.
        starts: u32,
    },
    /// It ended as it should: leave it.
    Leave,
    /// The policy says never.
    Never,
    /// It crashed on after [`GIVE_UP`] pauses.
    GiveUp,
}

/// The recent starts of one process.
#[derive(Debug, Default)]
pub struct History {
    starts: Deque<u64, REMEMBERED>,
    pauses: u32,
}

impl History {
    /// Notes a start.
    pub fn started(&mut self, now_ns: u64) {
        if self.starts.is_full() {
            self.starts.pop_front();
        }
        let _ = self.starts.push_back(now_ns);
    }
    /// Forgets all: the process is started by hand.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
    /// Decides what follows `end` at `now_ns`.
    pub fn ended(&mut self, policy: Restart, end: End, now_ns: u64) -> Next {
        let (max, window_s) = match (policy, end) {
            (Restart::Never, End::Success) | (Restart::OnCrash { .. }, End::Success) => {
                return Next::Leave;
            }
            (Restart::Never, End::Crash) => return Next::Never,
            (Restart::Always { max, window_s } | Restart::OnCrash { max, window_s }, _) => {
                (max, window_s)
            }
        };
        if max == 0 {
            let full = self.starts.is_full();
            let first = self.starts.front().copied().unwrap_or(0);
            return match full && now_ns.saturating_sub(first) < 1_000_000_000 {
                true => Next::Later { pause_ns: BRAKE_PAUSE_NS, starts: BRAKE_STARTS },
                false => Next::Now,
            };
        }
        let window_ns = window_s as u64 * 1_000_000_000;
        let last = self.starts.back().copied().unwrap_or(0);
        if now_ns.saturating_sub(last) > window_ns {
            self.pauses = 0;
        }
        while self.starts.front().is_some_and(|t| now_ns.saturating_sub(*t) > window_ns) {
            self.starts.pop_front();
        }
        let starts = self.starts.len() as u32;
        // Once it is slowed down, only a life longer than the window makes it new again: a pause
        // that is that long by itself does not.
        if starts < max.min(REMEMBERED as u32) && self.pauses == 0 {
            return Next::Now;
        }
        if self.pauses == GIVE_UP {
            return Next::GiveUp;
        }
        let pause_ns = (FIRST_PAUSE_NS << self.pauses).min(LONGEST_PAUSE_NS);
        self.pauses += 1;
        Next::Later { pause_ns, starts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const POLICY: Restart = Restart::Always { max: 3, window_s: 10 };

    #[test]
    fn crash_loop_backs_off_and_gives_up() {
        let mut h = History::default();
        let mut now = S;
        for _ in 0..2 {
            h.started(now);
            now += 1000;
            assert_eq!(h.ended(POLICY, End::Crash, now), Next::Now);
        }
        let mut pauses = alloc::vec::Vec::new();
        loop {
            h.started(now);
            now += 1000;
            match h.ended(POLICY, End::Crash, now) {
                Next::Later { pause_ns, .. } => {
                    pauses.push(pause_ns / 1_000_000);
                    now += pause_ns;
                }
                Next::GiveUp => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000]);
    }

    #[test]
    fn one_crash_now_and_then_is_restarted_at_once_for_ever() {
        let mut h = History::default();
        for i in 0..1000 {
            h.started(i * 20 * S);
            assert_eq!(h.ended(POLICY, End::Crash, i * 20 * S + 15 * S), Next::Now);
        }
    }

    #[test]
    fn a_stable_run_forgets_the_pauses() {
        let mut h = History::default();
        let policy = Restart::Always { max: 1, window_s: 1 };
        h.started(0);
        let first = Next::Later { pause_ns: 100_000_000, starts: 1 };
        assert_eq!(h.ended(policy, End::Crash, 1), first);
        h.started(S);
        assert_eq!(h.ended(policy, End::Crash, 3 * S), Next::Now);
        h.started(3 * S);
        assert_eq!(h.ended(policy, End::Crash, 3 * S), first);
    }

    #[test]
    fn policies() {
        let mut h = History::default();
        h.started(0);
        assert_eq!(h.ended(Restart::Never, End::Crash, 1), Next::Never);
        assert_eq!(h.ended(Restart::Never, End::Success, 1), Next::Leave);
        let on_crash = Restart::OnCrash { max: 0, window_s: 0 };
        assert_eq!(h.ended(on_crash, End::Success, 1), Next::Leave);
        assert_eq!(h.ended(on_crash, End::Crash, 1), Next::Now);
        let many = Restart::Always { max: u32::MAX, window_s: u32::MAX };
        for i in 0..1000 {
            h.started(i);
        }
        assert!(matches!(h.ended(many, End::Crash, 2000), Next::Later { .. }));
    }

    #[test]
    fn without_a_limit_only_a_tight_loop_is_slowed() {
        let unlimited = Restart::Always { max: 0, window_s: 0 };
        let mut h = History::default();
        for i in 0..1000 {
            h.started(i * S / 50);
            assert_eq!(h.ended(unlimited, End::Success, i * S / 50 + 1), Next::Now);
        }
        let (mut h, mut now, mut starts) = (History::default(), 0, 0);
        while now < 10 * S {
            h.started(now);
            starts += 1;
            now += match h.ended(unlimited, End::Crash, now) {
                Next::Now => 1_000_000,
                Next::Later { pause_ns, .. } => pause_ns,
                other => panic!("{other:?}"),
            };
        }
        assert!((300..700).contains(&starts), "{starts}");
    }
}
