//! Packetisation-layer path MTU discovery (RFC 4821), for paths whose routers say nothing of what is too big: the
//! way of Linux with `tcp_mtu_probing` 1. It begins when data was repeated for three seconds without an answer
//! (RFC 4821 7.7): segments become small; from then on larger ones are tried where a segment's loss would tell.

use super::recovery::Phase;
use super::{Conn, Out};
use crate::wire::tcp::Seq;

/// Payload that every path is thought to carry (`tcp_base_mss`), and the least ever tried.
const BASE: u32 = 1024;
const LEAST: u32 = 48;
/// So long nobody answers before it begins (`tcp_retries1`).
const SILENCE_NS: u64 = 3_000_000_000;
/// Segments that must follow a probe, so that its loss shows.
const FOLLOW: u32 = 4;
/// Windows below so many segments are not risked.
const LEAST_WINDOW: u32 = 11;
/// No use in knowing it more exactly (`tcp_probe_threshold`).
const NEAR: u32 = 8;
/// The path may have changed after this (`tcp_probe_interval`).
const AGAIN_S: u16 = 600;

/// The search. Sizes are bytes of payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    /// This much arrives; 0: there is no search.
    low: u16,
    /// More than this does not.
    high: u16,
    /// The size of the probe in flight; 0: none is.
    size: u16,
    /// When the search began, seconds modulo 2^16.
    since: u16,
    /// Where the probe in flight begins.
    start: Seq,
}

impl Search {
    /// None.
    pub const NONE: Self = Self { low: 0, high: 0, size: 0, since: 0, start: Seq(0) };

    /// Whether larger segments are being looked for.
    pub fn is_on(&self) -> bool {
        self.low != 0
    }
    /// What holds at any time, with `una` and `max` of its connection.
    #[cfg(feature = "crash-points")]
    pub fn is_sane(&self, una: Seq, max: Seq) -> bool {
        let end = self.start + self.size as u32;
        self.size == 0 || (self.low < self.size && una.lt(end) && end.le(max))
    }
    /// Whether a probe is in flight.
    pub fn is_probing(&self) -> bool {
        self.size != 0
    }
}

fn seconds(now: u64) -> u16 {
    (now / 1_000_000_000) as u16
}

impl Conn {
    /// The retransmission timer has fired: perhaps large segments do not arrive.
    #[cold]
    pub(super) fn suspect_black_hole(&mut self, now: u64) {
        // What was in flight will be cut anew.
        self.search.size = 0;
        if !self.config.mtu_probing || now.saturating_sub(self.stuck_since) < SILENCE_NS {
            return;
        }
        let low = match self.search.low {
            0 => {
                self.search.high = self.carries;
                BASE.min(self.carries as u32)
            }
            low => (low as u32 / 2).clamp(LEAST, BASE),
        };
        (self.search.low, self.search.since) = (low as u16, seconds(now));
        let mss = self.cut_to(low);
        self.board.set_size(mss as u16);
    }

    /// Segments may hold `mss` bytes from now on. Yields how many they do.
    pub(super) fn cut_to(&mut self, mss: u32) -> u32 {
        self.carries = mss as u16;
        let mss = self.within_half_window(mss);
        if mss != self.mss {
            self.mss = mss;
            self.cc.set_mss(mss);
        }
        mss
    }

    /// A larger segment, if it is time to try one and there is enough to send. `Some(None)`: it waits
    /// until the congestion window has room for it, and everything else does, too.
    #[cold]
    pub(super) fn try_larger(&mut self, avail: u32, now: u64) -> Option<Option<Out>> {
        if seconds(now).wrapping_sub(self.search.since) >= AGAIN_S {
            // What did not fit then may now.
            self.search.high = self.config.mss - self.overhead() as u16;
            self.search.since = seconds(now);
        }
        let (low, high) = (self.search.low as u32, self.search.high as u32);
        let size = (low + high).div_ceil(2);
        let needed = size + FOLLOW * self.mss;
        let calm = self.recovery.phase == Phase::Open && self.board.sacked.segments == 0;
        let fits = avail >= needed && (self.max + needed).le(self.una + self.wnd);
        let window = self.cc.window();
        if self.search.size != 0
            || high < low + NEAR
            || !(calm && fits)
            || self.urgent.is_some()
            || !self.ooo.is_empty()
            || window < LEAST_WINDOW * self.mss
        {
            return None;
        }
        if self.pipe() + size + self.mss > window {
            // ACKs are on their way.
            return Some(None);
        }
        (self.search.size, self.search.start) = (size as u16, self.max);
        Some(Some(self.emit(self.max, size, false, size, now)))
    }

    /// Something new was acknowledged while a probe is in flight.
    #[cold]
    pub(super) fn probe_arrived(&mut self) {
        let Search { size, start, .. } = self.search;
        if (start + size as u32).le(self.una) {
            (self.search.low, self.search.size) = (size, 0);
            self.cut_to(size as u32);
        }
    }

    /// Something is lost: if it is the probe, that says nothing of congestion (RFC 4821 7.5). `true`: so it was.
    #[cold]
    pub(super) fn probe_lost(&mut self) -> bool {
        let Search { size, start, .. } = self.search;
        self.search.size = 0;
        if start != self.una {
            return false;
        }
        self.search.high = size - 1;
        let mss = self.mss;
        self.board.judge(|n| n.size as u32 > mss && n.bytes() > mss);
        self.board.set_size(mss as u16);
        (self.recovery.phase, self.recovery.high) = (Phase::Loss, self.max);
        (self.recovery.undo, self.recovery.forward) = (None, false);
        true
    }
}
