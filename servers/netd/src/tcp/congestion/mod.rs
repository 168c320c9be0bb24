//! Congestion control: how much may be in flight.
//!
//! [`Congestion`] keeps the window and what every algorithm has in common: slow start (RFC 5681,
//! RFC 6928), use of the window (what is not used does not grow, and shrinks: RFC 7661's aim by
//! Linux's measure), restart after idle time, the memory for an undo. An [`Algorithm`] says how
//! fast the window grows in congestion avoidance and how far it falls.
//!
//! Who detects loss calls it; what is lost, repeated or proportionally reduced (RFC 6937) is not
//! decided here:
//!
//! | event | call |
//! |---|---|
//! | an ACK delivers data outside of fast recovery | [`Congestion::on_ack`] |
//! | loss: fast recovery begins | [`Congestion::on_loss`], then [`Congestion::set_window`] an ACK |
//! | ECN echo | [`Congestion::on_ecn`], likewise |
//! | that reduction is over | [`Congestion::end_reduction`] |
//! | the retransmission timer fired | [`Congestion::on_rto`] |
//! | it was spurious | [`Congestion::undo`] |
//! | data has left, no more may or there is none | [`Congestion::on_sent`] |
//! | data is about to leave after a pause | [`Congestion::on_idle`] |
//!
//! All amounts are bytes; the window moves in whole segments.

pub mod bbr;
mod cubic;
mod hystart;
mod usage;

use crate::wire::tcp::Seq;
use cubic::Cubic;
use hystart::HyStart;
use libipc::sock::congestion as number;
use usage::Usage;

use super::rtt::LEAST_RTO;

/// Segments that a connection begins with (RFC 6928; like Linux whatever the MSS).
pub const INITIAL_SEGMENTS: u32 = 10;
/// No slow-start threshold yet.
const INFINITE: u32 = u32::MAX;

/// How the window grows and falls; the byte that a program sets ([`libipc::sock::congestion`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Algorithm {
    /// RFC 9438 with HyStart++ (RFC 9406).
    #[default]
    Cubic = number::CUBIC,
    /// RFC 5681: Reno's window (its recovery is NewReno's or better, whatever the algorithm).
    Reno = number::RENO,
    /// A model of the path ([`bbr`]), which lies elsewhere: what happens here does not move the window.
    Bbr = number::BBR,
}

impl Algorithm {
    /// By a program's byte; what is unknown is the default, and so is BBR as long as there is no model.
    pub const fn from_byte(byte: u8) -> Self {
        if byte == Self::Reno as u8 { Self::Reno } else { Self::Cubic }
    }
}

/// What an ACK says.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// Bytes that it delivers, cumulatively or by SACK.
    pub acked: u32,
    /// Oldest number not acknowledged, after it.
    pub una: Seq,
    /// Highest number sent.
    pub max: Seq,
    /// The round-trip time that it measures, ns; 0: none.
    pub rtt: u64,
    /// Smoothed round-trip time, ns; 0: unknown.
    pub srtt: u64,
    /// Time, ns.
    pub now: u64,
}

/// The state.
#[derive(Clone, Copy, Debug)]
pub struct Congestion {
    cwnd: u32,
    ssthresh: u32,
    mss: u32,
    algorithm: Algorithm,
    /// Bytes acknowledged that have not moved the window yet.
    counted: u32,
    usage: Usage,
    /// Before the last reduction: window and threshold. 0: there is nothing to undo.
    prior: (u32, u32),
    cubic: Cubic,
    hystart: HyStart,
}

impl Congestion {
    /// For a connection that begins at `iss`.
    pub fn new(algorithm: Algorithm, mss: u32, iss: Seq) -> Self {
        Self {
            cwnd: INITIAL_SEGMENTS * mss,
            ssthresh: INFINITE,
            mss,
            algorithm,
            counted: 0,
            usage: Usage::new(iss),
            prior: (0, 0),
            cubic: Cubic::NEW,
            hystart: HyStart::new(iss),
        }
    }
    /// Bytes that may be in flight.
    pub fn window(&self) -> u32 {
        self.cwnd
    }
    /// Slow-start threshold; `None`: not known yet.
    pub fn ssthresh(&self) -> Option<u32> {
        (self.ssthresh != INFINITE).then_some(self.ssthresh)
    }
    /// Whether the window grows by what is acknowledged.
    pub fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }
    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
    /// The program has chosen; window and threshold stay.
    #[cold]
    pub fn set_algorithm(&mut self, algorithm: Algorithm) {
        self.algorithm = algorithm;
        self.cubic = Cubic::NEW;
        self.hystart.leave();
        self.counted = 0;
        self.prior = (0, 0);
    }
    /// The segment size has become smaller: as many segments as before.
    #[cold]
    pub fn set_mss(&mut self, mss: u32) {
        let scale = |bytes: u32| (bytes as u64 * mss as u64 / self.mss.max(1) as u64) as u32;
        self.cwnd = scale(self.cwnd).max(mss);
        if self.ssthresh != INFINITE {
            self.ssthresh = scale(self.ssthresh).max(2 * mss);
        }
        self.prior = (scale(self.prior.0), self.prior.1);
        self.mss = mss;
    }
    /// The window during a reduction, as RFC 6937 leads it from one ACK to the next.
    pub fn set_window(&mut self, bytes: u32) {
        self.cwnd = bytes.max(self.mss);
    }

    /// Data was delivered while nothing is being reduced.
    pub fn on_ack(&mut self, ack: &Ack) {
        if self.algorithm == Algorithm::Cubic && self.in_slow_start() && self.hystart.on_ack(ack) {
            self.ssthresh = self.cwnd;
        }
        if !self.usage.allows_growth(self.cwnd, self.in_slow_start()) {
            return;
        }
        let rest = self.slow_start(ack.acked);
        if rest > 0 {
            self.avoid(rest, ack);
        }
    }

    /// RFC 5681 (2) without a limit on what one ACK may bring: like Linux, since receivers that
    /// merge segments acknowledge many at once. Yields what is left for congestion avoidance.
    fn slow_start(&mut self, acked: u32) -> u32 {
        if !self.in_slow_start() {
            return acked;
        }
        let gain = acked / self.hystart.divisor();
        let to = self.cwnd.saturating_add(gain).min(self.ssthresh);
        let rest = gain - (to - self.cwnd);
        self.cwnd = to;
        rest
    }

    fn avoid(&mut self, acked: u32, ack: &Ack) {
        let per_segment = match self.algorithm {
            Algorithm::Reno => self.cwnd,
            _ => self.cubic.acks_per_segment(acked, self.cwnd, self.mss, ack),
        };
        if self.counted >= per_segment {
            // Saved up while a segment took more: that makes one.
            self.counted = 0;
            self.cwnd = self.cwnd.saturating_add(self.mss);
        }
        self.counted = self.counted.saturating_add(acked);
        if self.counted >= per_segment {
            let segments = self.counted / per_segment;
            self.counted -= segments * per_segment;
            self.cwnd = self.cwnd.saturating_add(segments.saturating_mul(self.mss));
        }
    }

    /// Loss was detected, not by the timer: the threshold falls, the window follows by
    /// [`Congestion::set_window`].
    #[cold]
    pub fn on_loss(&mut self) {
        self.prior = (self.cwnd, self.threshold_if_spurious());
        self.fall();
    }

    /// A router said that its queue grows: as [`Congestion::on_loss`], but never to be undone.
    #[cold]
    pub fn on_ecn(&mut self) {
        self.prior = (0, 0);
        self.fall();
    }

    /// Fast recovery, or the answer to ECN, is over.
    #[cold]
    pub fn end_reduction(&mut self) {
        if self.ssthresh != INFINITE && self.algorithm != Algorithm::Bbr {
            self.cwnd = self.ssthresh;
        }
    }

    /// The retransmission timer fired with `left` bytes still thought to be in flight; `first`:
    /// not again for the same data (RFC 5681 3.1: that does not lower the threshold again).
    #[cold]
    pub fn on_rto(&mut self, left: u32, first: bool) {
        if first {
            self.prior = (self.cwnd, self.threshold_if_spurious());
            self.fall();
        }
        self.cubic.on_rto();
        self.cwnd = left.saturating_add(self.mss);
        self.hystart.leave();
    }

    /// The last reduction was for nothing (RFC 3522, 3708, 5682; RFC 9438 4.9).
    #[cold]
    pub fn undo(&mut self) {
        let (cwnd, ssthresh) = core::mem::take(&mut self.prior);
        if cwnd == 0 || self.algorithm == Algorithm::Bbr {
            return;
        }
        self.cwnd = self.cwnd.max(cwnd);
        self.ssthresh = self.ssthresh.max(ssthresh);
        self.cubic.undo();
    }

    /// The new threshold. From the window, not from what is in flight (RFC 9438 4.6 allows it
    /// where the window does not outgrow its use, and [`Usage`] sees to that).
    fn fall(&mut self) {
        if self.algorithm == Algorithm::Bbr {
            return;
        }
        let to = match self.algorithm {
            Algorithm::Reno => self.cwnd / 2,
            _ => self.cubic.on_loss(self.cwnd),
        };
        self.ssthresh = (to / self.mss).max(2) * self.mss;
        self.counted = 0;
        self.hystart.leave();
    }

    fn threshold_if_spurious(&self) -> u32 {
        self.ssthresh.max(self.cwnd / 4 * 3)
    }

    /// A turn of sending is over: `flight` bytes are in flight from `una` up to `nxt`.
    pub fn on_sent(&mut self, flight: u32, una: Seq, nxt: Seq, rto: impl Fn() -> u64, now: u64) {
        let limited = flight.saturating_add(self.mss) > self.cwnd;
        self.usage.sent(flight, limited, una, nxt);
        if self.usage.allows_growth(self.cwnd, self.in_slow_start()) {
            self.usage.used_up(now);
        } else if let Some(used) = self.usage.unused(flight, rto, now) {
            // RFC 7661 4.4, in Linux's way: half of what was not used.
            let used = used.max(INITIAL_SEGMENTS * self.mss);
            if used < self.cwnd {
                self.ssthresh = self.threshold_if_spurious();
                self.cwnd = self.cwnd.midpoint(used) / self.mss * self.mss;
            }
        }
    }

    /// Data is about to leave; nothing was sent for `idle` ns (RFC 5681 4.1; like Linux the window
    /// halves each RTO, down to the initial one).
    #[inline]
    pub fn on_idle(&mut self, idle: u64, rto: impl Fn() -> u64, now: u64) {
        self.cubic.pause(idle);
        if idle > LEAST_RTO && idle > rto() && self.algorithm != Algorithm::Bbr {
            self.idled(idle, rto(), now);
        }
    }

    #[cold]
    fn idled(&mut self, idle: u64, rto: u64, now: u64) {
        let floor = self.cwnd.min(INITIAL_SEGMENTS * self.mss);
        self.ssthresh = self.threshold_if_spurious();
        let halvings = (idle / rto.max(1)).min(31) as u32;
        self.cwnd = (self.cwnd >> halvings).max(floor);
        self.usage.used_up(now);
    }

    /// The SYN was lost more than once: RFC 6928 falls back to one segment.
    #[cold]
    pub fn handshake_was_lossy(&mut self) {
        self.cwnd = self.mss;
    }
}

/// Milliseconds, modulo 2^32.
const fn ms(ns: u64) -> u32 {
    (ns / 1_000_000) as u32
}

#[cfg(test)]
mod tests;
