//! BBR, version 1, as Linux has it: a model of the path, its bandwidth (the most of ten round trips) and its least round-trip
//! time (of ten seconds), says how fast to send and how much may be in flight. Loss says nothing to it.
//!
//! Not there: what Linux does about policers (long-term sampling) and about ACKs that come in clusters.

use super::INITIAL_SEGMENTS;

const SECOND: u64 = 1_000_000_000;
/// 1 as a gain.
const ONE: u32 = 256;
/// 2/ln 2: the least gain that doubles the rate each round trip.
const HIGH: u32 = 739;
/// Its inverse empties in a round trip the queue that it made.
const DRAIN: u32 = 88;
/// Rates of the eight phases around the bandwidth.
const CYCLE: [u32; 8] = [320, 192, ONE, ONE, ONE, ONE, ONE, ONE];
/// Round trips that a bandwidth counts.
const BW_ROUNDS: u32 = 10;
/// For how long a least round-trip time counts.
const MIN_RTT_FOR: u64 = 10 * SECOND;
/// For how long little is in flight to see it again.
const PROBE_FOR: u64 = 200_000_000;
/// And how little, segments.
const LEAST: u32 = 4;
/// The pipe is full if the bandwidth has grown by less than a quarter in so many round trips.
const FULL_ROUNDS: u8 = 3;

/// What it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Doubles the rate each round trip.
    Startup,
    /// Empties the queue that this has made.
    Drain,
    /// Looks around the bandwidth.
    ProbeBw,
    /// Looks at the round-trip time of an empty path.
    ProbeRtt,
}

/// The most of the last rounds: three candidates, the best first (Kathleen Nichols' algorithm).
#[derive(Clone, Copy, Debug, Default)]
struct Most([(u32, u64); 3]);

impl Most {
    fn get(&self) -> u64 {
        self.0[0].1
    }
    fn add(&mut self, round: u32, value: u64) {
        let s = &mut self.0;
        let new = (round, value);
        let age = |of: (u32, u64)| round.wrapping_sub(of.0);
        if value >= s[0].1 || age(s[2]) > BW_ROUNDS {
            *s = [new; 3];
            return;
        }
        if value >= s[1].1 {
            (s[1], s[2]) = (new, new);
        } else if value >= s[2].1 {
            s[2] = new;
        }
        if age(s[0]) > BW_ROUNDS {
            *s = [s[1], s[2], new];
            if age(s[0]) > BW_ROUNDS {
                *s = [s[1], s[2], new];
            }
        } else if s[1].0 == s[0].0 && age(s[0]) > BW_ROUNDS / 4 {
            (s[1], s[2]) = (new, new);
        } else if s[2].0 == s[1].0 && age(s[0]) > BW_ROUNDS / 2 {
            s[2] = new;
        }
    }
}

/// What an ACK says of the rate (draft-cheng-iccrg-delivery-rate-estimation).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Bytes delivered within `interval`.
    pub delivered: u64,
    /// ns; 0: it says nothing.
    pub interval: u64,
    /// Bytes delivered in all when what is acknowledged was sent.
    pub prior: u64,
    /// Likewise now.
    pub total: u64,
    /// Round-trip time, ns; 0: none.
    pub rtt: u64,
    /// The program had not enough to send then.
    pub app_limited: bool,
    /// Bytes that this ACK delivers.
    pub acked: u32,
    /// Bytes that it finds lost.
    pub lost: u32,
    /// Bytes in flight before it.
    pub before: u32,
    /// Bytes in flight after it.
    pub flight: u32,
    /// Fast recovery goes on.
    pub recovery: bool,
    /// The recovery after a time-out does.
    pub loss: bool,
    /// Time, ns.
    pub now: u64,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Bbr {
    mode: Mode,
    mss: u32,
    bw: Most,
    round: u32,
    /// A round ends when what was sent from here on is delivered.
    round_until: u64,
    round_start: bool,
    full_bw: u64,
    full_count: u8,
    full: bool,
    min_rtt: u64,
    min_rtt_at: u64,
    /// When enough was seen of an empty path; 0: it is not empty yet.
    probe_until: u64,
    probe_round: bool,
    /// Sending began anew after a pause.
    idle_restart: bool,
    phase: u8,
    phase_at: u64,
    prior_cwnd: u32,
    conserves: bool,
    recovered: bool,
    /// Bytes a second.
    pacing: u64,
}

impl Bbr {
    /// For a connection with window `cwnd` in segments of `mss`; `srtt` ns, 0: unknown.
    pub fn new(cwnd: u32, mss: u32, srtt: u64, now: u64) -> Self {
        let rtt = if srtt == 0 { SECOND / 1000 } else { srtt };
        let pacing = (cwnd as u64 * SECOND / rtt).saturating_mul(HIGH as u64) / ONE as u64;
        Self {
            mode: Mode::Startup,
            mss,
            bw: Most::default(),
            round: 0,
            round_until: 0,
            round_start: false,
            full_bw: 0,
            full_count: 0,
            full: false,
            min_rtt: srtt,
            min_rtt_at: now,
            probe_until: 0,
            probe_round: false,
            idle_restart: false,
            phase: 0,
            phase_at: now,
            prior_cwnd: cwnd,
            conserves: false,
            recovered: true,
            pacing: pacing.max(1),
        }
    }
    /// Bytes a second that leave.
    pub fn pacing(&self) -> u64 {
        self.pacing
    }
    /// What it is at.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    fn gains(&self) -> (u32, u32) {
        match self.mode {
            Mode::Startup => (HIGH, HIGH),
            Mode::Drain => (DRAIN, HIGH),
            Mode::ProbeBw => (CYCLE[self.phase as usize & 7], 2 * ONE),
            Mode::ProbeRtt => (ONE, ONE),
        }
    }

    /// Bytes in flight at `gain` times the product of bandwidth and round-trip time, and what it takes to keep cutting
    /// and merging of segments busy.
    fn inflight(&self, gain: u32) -> u32 {
        if self.min_rtt == 0 {
            return INITIAL_SEGMENTS * self.mss;
        }
        let product = self.bw.get() as u128 * self.min_rtt as u128 / SECOND as u128;
        let bytes = (product * gain as u128 / ONE as u128).min(u32::MAX as u128 / 2) as u32;
        let piece = (self.pacing / 1024 / self.mss as u64).clamp(1, 127) as u32;
        let segments = bytes.div_ceil(self.mss) + 3 * piece;
        let probes = self.mode == Mode::ProbeBw && self.phase == 0;
        (segments.next_multiple_of(2) + if probes { 2 } else { 0 }).saturating_mul(self.mss)
    }

    /// An ACK; yields the window that was `cwnd`.
    pub fn on_ack(&mut self, s: &Sample, cwnd: u32) -> u32 {
        self.measure(s);
        self.next_phase(s);
        self.look_whether_full(s);
        self.drain(s);
        let cwnd = self.watch_rtt(s, cwnd);
        self.set_pacing();
        self.window(s, cwnd)
    }

    fn measure(&mut self, s: &Sample) {
        self.round_start = false;
        if s.interval == 0 {
            return;
        }
        if self.round_until <= s.prior {
            self.round_until = s.total;
            self.round = self.round.wrapping_add(1);
            self.round_start = true;
            self.conserves = false;
        }
        let bw = (s.delivered as u128 * SECOND as u128 / s.interval as u128) as u64;
        if !s.app_limited || bw >= self.bw.get() {
            self.bw.add(self.round, bw);
        }
    }

    fn next_phase(&mut self, s: &Sample) {
        if self.mode != Mode::ProbeBw {
            return;
        }
        let whole = s.now.saturating_sub(self.phase_at) > self.min_rtt;
        let gain = self.gains().0;
        let over = match gain {
            ONE => whole,
            1..ONE => whole || s.before <= self.inflight(ONE),
            _ => whole && (s.lost > 0 || s.before >= self.inflight(gain)),
        };
        if over {
            (self.phase, self.phase_at) = ((self.phase + 1) & 7, s.now);
        }
    }

    fn look_whether_full(&mut self, s: &Sample) {
        if self.full || !self.round_start || s.app_limited {
            return;
        }
        if self.bw.get() >= self.full_bw / 4 * 5 && self.bw.get() > self.full_bw {
            (self.full_bw, self.full_count) = (self.bw.get(), 0);
            return;
        }
        self.full_count += 1;
        self.full = self.full_count >= FULL_ROUNDS;
    }

    fn drain(&mut self, s: &Sample) {
        if self.mode == Mode::Startup && self.full {
            self.mode = Mode::Drain;
        }
        if self.mode == Mode::Drain && s.flight <= self.inflight(ONE) {
            self.probe_bw(s.now);
        }
    }

    /// Begins in any phase but the one below the bandwidth, so that connections do not go in step.
    fn probe_bw(&mut self, now: u64) {
        self.mode = Mode::ProbeBw;
        let phase = (now >> 10) % 7;
        self.phase = if phase == 0 { 0 } else { phase as u8 + 1 };
        self.phase_at = now;
    }

    /// The least round-trip time, and the look at it. Yields the window.
    fn watch_rtt(&mut self, s: &Sample, cwnd: u32) -> u32 {
        let expired = s.now > self.min_rtt_at + MIN_RTT_FOR;
        if s.rtt > 0 && (self.min_rtt == 0 || s.rtt < self.min_rtt || expired) {
            (self.min_rtt, self.min_rtt_at) = (s.rtt, s.now);
        }
        if expired && !self.idle_restart && self.mode != Mode::ProbeRtt {
            self.save(cwnd);
            self.mode = Mode::ProbeRtt;
            self.probe_until = 0;
        }
        let mut cwnd = cwnd;
        if self.mode == Mode::ProbeRtt {
            if self.probe_until == 0 && s.flight <= LEAST * self.mss {
                self.probe_until = s.now + PROBE_FOR;
                self.probe_round = false;
                self.round_until = s.total;
            } else if self.probe_until != 0 {
                self.probe_round |= self.round_start;
                if self.probe_round && s.now > self.probe_until {
                    cwnd = self.end_probe(cwnd, s.now);
                }
            }
        }
        if s.acked > 0 {
            self.idle_restart = false;
        }
        cwnd
    }

    fn end_probe(&mut self, cwnd: u32, now: u64) -> u32 {
        self.min_rtt_at = now;
        if self.full {
            self.probe_bw(now);
        } else {
            self.mode = Mode::Startup;
        }
        cwnd.max(self.prior_cwnd)
    }

    fn set_pacing(&mut self) {
        if self.bw.get() == 0 {
            return;
        }
        // A hundredth less, so that no queue stands.
        let rate = self.bw.get().saturating_mul(self.gains().0 as u64) / ONE as u64 / 100 * 99;
        if self.full || rate > self.pacing {
            self.pacing = rate.max(1);
        }
    }

    fn window(&mut self, s: &Sample, mut cwnd: u32) -> u32 {
        let least = LEAST * self.mss;
        if s.acked > 0 {
            cwnd = cwnd.saturating_sub(s.lost).max(self.mss);
            if s.recovery && self.recovered {
                // A round trip in which no more leaves than arrives.
                self.conserves = true;
                self.round_until = s.total;
                cwnd = s.flight + s.acked;
            } else if !s.recovery && !s.loss && !self.recovered {
                self.conserves = false;
                cwnd = cwnd.max(self.prior_cwnd);
            }
            self.recovered = !s.recovery && !s.loss;
            if self.conserves {
                cwnd = cwnd.max(s.flight + s.acked);
            } else {
                let target = self.inflight(self.gains().1);
                if self.full {
                    cwnd = cwnd.saturating_add(s.acked).min(target);
                } else if cwnd < target || s.total < (INITIAL_SEGMENTS * self.mss) as u64 {
                    cwnd = cwnd.saturating_add(s.acked);
                }
                cwnd = cwnd.max(least);
            }
        }
        if self.mode == Mode::ProbeRtt { cwnd.min(least) } else { cwnd }
    }

    /// The window is about to fall: what it was comes back.
    pub fn save(&mut self, cwnd: u32) {
        let better = self.recovered && self.mode != Mode::ProbeRtt;
        self.prior_cwnd = if better { cwnd } else { self.prior_cwnd.max(cwnd) };
    }

    /// The retransmission timer fired: whether the pipe is full is to be seen anew.
    pub fn on_rto(&mut self) {
        self.full_bw = 0;
        self.recovered = false;
    }

    /// That, or recovery, was for nothing.
    pub fn undo(&mut self) {
        (self.full_bw, self.full_count) = (0, 0);
    }

    /// Sends again after a pause in which the program had nothing: not faster than the path.
    pub fn on_idle(&mut self) {
        self.idle_restart = true;
        if self.mode == Mode::ProbeBw {
            self.pacing = self.bw.get().max(1);
        }
    }

    /// Segments have another size.
    pub fn set_mss(&mut self, mss: u32) {
        self.mss = mss.max(1);
    }
}

#[cfg(test)]
#[path = "bbr_tests.rs"]
mod tests;
