//! Pacing: data leaves no faster than a rate, when the program asks for one (SO_MAX_PACING_RATE) or for a congestion
//! control that has one (BBR).
//!
//! The rate is what the program allows, at most what fills the window in a round trip and some more:
//! twice that in slow start, 1.2 times later (Linux's ratios). Timers tick about once a
//! millisecond, so as much as that leaves at a time.

use super::{Conn, congestion::INITIAL_SEGMENTS};

const SECOND: u64 = 1_000_000_000;
/// How far ahead of its time data may leave, ns.
const AHEAD: u64 = 1_000_000;

impl Conn {
    /// Bytes a second; 0: no limit.
    pub(super) fn pacing_rate(&self) -> u64 {
        match (self.opts().pacing_rate, self.modelled_rate(), self.fair_rate()) {
            (0, Some(model), _) => model,
            (0, None, _) => 0,
            (most, Some(model), _) => most.min(model),
            (most, None, None) => most,
            (most, None, Some(fair)) => most.min(fair).max(1),
        }
    }

    /// Whether there is a limit.
    #[inline]
    pub(super) fn paces(&self) -> bool {
        self.opts().pacing_rate != 0 || self.is_modelled()
    }

    /// What fills the window in a round trip and some more, bytes a second; `None`: that is not known.
    pub(super) fn fair_rate(&self) -> Option<u64> {
        let srtt = self.rtt.srtt();
        if srtt == 0 {
            return None;
        }
        let cwnd = self.cc.window() as u64;
        let slow_start = self.cc.ssthresh().is_none_or(|s| cwnd < s as u64 / 2);
        let percent = if slow_start { 200 } else { 120 };
        Some((cwnd * percent / 100).saturating_mul(SECOND) / srtt)
    }

    /// Whether data must wait; the timer will tell when it need not.
    #[cold]
    pub(super) fn paced(&mut self, now: u64) -> bool {
        self.pacing = self.pace_at > now + AHEAD;
        self.pacing
    }

    /// Most bytes of one piece.
    pub(super) fn paced_burst(&self, burst: u32) -> u32 {
        let most = self.pacing_rate().saturating_mul(AHEAD) / SECOND;
        burst.min(most.min(u32::MAX as u64) as u32)
    }

    /// Data of `len` bytes leaves. The first segments of a connection do so at once.
    #[cold]
    pub(super) fn pace(&mut self, len: u32, now: u64) {
        if self.max - self.iss <= INITIAL_SEGMENTS * self.mss {
            return;
        }
        let bytes = (len + self.config.headers as u32) as u64;
        let takes = bytes * SECOND / self.pacing_rate().max(1);
        self.pace_at = self.pace_at.max(now).saturating_add(takes);
    }

    /// When what waits may leave.
    pub(super) fn pace_deadline(&self) -> u64 {
        if self.pacing { self.pace_at.saturating_sub(AHEAD) } else { super::NEVER }
    }
}
