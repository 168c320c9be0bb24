//! Timestamps (RFC 7323): offered always, echoed, and the test for segments of long ago (PAWS).
//!
//! The clock ticks each millisecond and goes on over restarts of netd. What is added to it differs
//! by pair of hosts, so that it does not tell how long this machine has run (RFC 7323 7.1).

use super::{Conn, Segment};
use crate::record;
use crate::wire::tcp::{Flags, Timestamps};
use core::sync::atomic::Ordering::Relaxed;
use libipc::sock::{State, flags};

/// One tick of the clock.
pub(super) const TICK_NS: u64 = 1_000_000;
/// After so long without a segment `TS.Recent` says nothing (RFC 7323 5.5): 24 days.
const OUTDATED: u32 = seconds(24 * 24 * 3600 * 1_000_000_000);
/// By how many ticks a segment may be late; other stacks allow this one, too.
const SLACK: i32 = 1;

/// What a connection knows of its peer's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerClock {
    /// `TS.Recent`; 0: none yet (some send that in a SYN).
    recent: u32,
    /// When that came, in [`seconds`].
    at: u32,
}

/// The clock of all connections, before what each adds to it.
pub const fn ticks(now: u64) -> u32 {
    (now / TICK_NS) as u32
}

/// Seconds of 2^30 ns: enough for what counts days.
const fn seconds(now: u64) -> u32 {
    (now >> 30) as u32
}

impl PeerClock {
    pub(super) const UNKNOWN: Self = Self { recent: 0, at: 0 };
}

impl Conn {
    /// Our clock.
    pub(super) fn ticks(&self, now: u64) -> u32 {
        ticks(now).wrapping_add(self.ts_offset)
    }

    /// Whether both sides' SYNs had timestamps.
    pub(super) fn timed(&self) -> bool {
        self.agreed & flags::TIMESTAMPS != 0
    }

    /// The option of a segment that leaves now: RFC 7323 3.2.
    pub fn timestamps(&self, now: u64) -> Option<Timestamps> {
        let wanted = self.timed() || self.state == State::SynSent;
        wanted.then(|| Timestamps { value: self.ticks(now), echo: self.peer_clock.recent })
    }

    /// PAWS, RFC 7323 5.3 R1: whether the segment is from long ago. An RST never is.
    pub(super) fn is_outdated(&self, seg: &Segment, now: u64) -> bool {
        let (Some(t), true) = (seg.options.timestamps, self.timed()) else { return false };
        let recent = self.peer_clock.recent;
        let late = recent.wrapping_sub(t.value) as i32;
        if late <= SLACK || recent == 0 || seg.flags.contains(Flags::RST) {
            return false;
        }
        !self.is_clock_old(now) && !self.is_overtaken_ack(seg, late)
    }

    /// Whether `TS.Recent` says nothing any more (RFC 7323 5.5).
    fn is_clock_old(&self, now: u64) -> bool {
        seconds(now).wrapping_sub(self.peer_clock.at) >= OUTDATED
    }

    /// An ACK that says nothing new and was overtaken on the way within an RTO does no harm, and an
    /// answer to it would.
    #[cold]
    fn is_overtaken_ack(&self, seg: &Segment, late: i32) -> bool {
        seg.flags.contains(Flags::ACK)
            && seg.space() == 0
            && seg.seq == self.rcv_nxt
            && seg.ack == self.una
            && self.wl1 == seg.seq
            && (seg.window as u32) << self.snd_shift <= self.wnd
            && late as u64 * TICK_NS <= self.rtt.rto() + self.rtt.rto() / 5
    }

    /// RFC 7323 4.3 (2): the timestamp to echo is that of the segment which the last ACK sent
    /// waited for.
    pub(super) fn note_timestamp(&mut self, seg: &Segment, now: u64) {
        let (Some(t), true) = (seg.options.timestamps, self.timed()) else { return };
        let PeerClock { recent, .. } = self.peer_clock;
        if !seg.seq.le(self.acked) {
            return;
        }
        if (recent.wrapping_sub(t.value) as i32) <= 0 || recent == 0 || self.is_clock_old(now) {
            self.peer_clock.at = seconds(now);
            if self.peer_clock.recent != t.value {
                self.set_ts_recent(t.value);
            }
        }
    }

    /// `TS.Recent`, if the connection has timestamps.
    pub(super) fn ts_recent(&self) -> Option<u32> {
        self.timed().then_some(self.peer_clock.recent)
    }

    fn set_ts_recent(&mut self, value: u32) {
        self.peer_clock.recent = value;
        record::set_ts_recent(self.rec, value);
    }

    /// The peer's SYN had this timestamp.
    pub(super) fn begin_clock(&mut self, value: u32, now: u64) {
        if self.timed() {
            self.peer_clock.at = seconds(now);
            self.set_ts_recent(value);
        }
    }

    /// The peer's SYN has come.
    pub(super) fn timestamp_of_syn(&mut self, syn: &Segment, now: u64) {
        if let (Some(t), true) = (syn.options.timestamps, self.timed()) {
            self.peer_clock.at = seconds(now);
            self.set_ts_recent(t.value);
        }
    }

    /// A SYN-ACK that echoes what we never sent is an answer to somebody else's SYN.
    pub(super) fn echoes_another(&self, seg: &Segment, now: u64) -> bool {
        let Some(t) = seg.options.timestamps else { return false };
        let first = self.ticks(self.syn_at);
        t.echo != 0 && t.echo.wrapping_sub(first) > self.ticks(now).wrapping_sub(first)
    }

    /// How long ago the segment that `seg` echoes left, as far as our ticks tell (RFC 7323 4.1).
    #[cold]
    pub(super) fn echoed(&self, seg: &Segment, now: u64) -> Option<u64> {
        let t = seg.options.timestamps.filter(|t| self.timed() && t.echo != 0)?;
        let ago = self.ticks(now).wrapping_sub(t.echo);
        // What a predecessor sent waited for us, too: the first sample would be that wait.
        let life = ticks(now).wrapping_sub(self.born);
        (ago <= life).then_some(ago.max(1) as u64 * TICK_NS)
    }

    /// After a restart of netd.
    pub(super) fn recover_timestamps(&mut self, now: u64) {
        self.peer_clock = PeerClock { recent: self.rec.ts_recent.load(Relaxed), at: seconds(now) };
    }
}
