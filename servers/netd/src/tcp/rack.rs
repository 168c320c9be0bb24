//! RACK (RFC 8985): what was sent before something that has arrived, and long enough before, is lost.

use super::pool::{Marks, Node};
use super::rtt::Span;
use super::scoreboard::Scoreboard;
use crate::wire::tcp::Seq;

/// Segments out of order that are not loss yet (RFC 5681's three).
pub const REORDERING: u16 = 3;
/// However much reordering there is, more is loss.
const MOST_REORDERING: u16 = 300;
/// Recoveries for which a wider window is kept (RFC 8985 6.2).
const PERSISTENCE: u8 = 16;

/// What an ACK says of what was sent.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    /// Bytes, counting a FIN, that were not known to be delivered before.
    pub bytes: u32,
    /// Likewise in segments.
    pub segments: u32,
    /// Data was newly SACKed.
    pub sacked: bool,
    /// Some of what was acknowledged had been sent more than once.
    pub resent: bool,
    /// Something up to `high` was delivered that was sent once only: then not all was lost (RFC 5682).
    pub original: bool,
    /// Lowest number sent once that arrived after something sent later.
    pub hole: Option<Seq>,
    /// When the oldest, of what was sent once and is acknowledged, left.
    pub acked_at: Option<u64>,
    /// Likewise of what is SACKED.
    pub sacked_at: Option<u64>,
    /// Whether the peer got something twice (RFC 2883).
    pub duplicate: bool,
    /// That was the probe of [`super::Conn`]'s tail.
    pub duplicate_probe: bool,
    /// Recovery point, for `original`; end of what was SACKed, for `hole`.
    high: Seq,
    highest: Seq,
    /// Least RTT, and now: to see which copy arrived.
    min_rtt: u64,
    now: u64,
    /// Of what was delivered, what was sent last, if there is any, and what was named last.
    newest: Option<(u64, Seq)>,
    last: u64,
}

impl Delivered {
    /// When that left that was sent last, of what was delivered.
    pub fn newest_sent(&self) -> Option<u64> {
        self.newest.map(|(at, _)| at)
    }
    /// Nothing yet. `high`: the recovery point; `highest`: end of what was SACKed before.
    pub fn new(high: Seq, highest: Seq, min_rtt: u64, now: u64) -> Self {
        Self {
            bytes: 0,
            segments: 0,
            sacked: false,
            resent: false,
            original: false,
            hole: None,
            acked_at: None,
            sacked_at: None,
            duplicate: false,
            duplicate_probe: false,
            high,
            highest,
            min_rtt,
            now,
            newest: None,
            last: 0,
        }
    }

    /// A range is acknowledged, or SACKed.
    pub fn range(&mut self, n: &Node, acked: bool) {
        let once = !n.marks.contains(Marks::EVER_RESENT);
        if acked {
            if once {
                self.acked_at = self.acked_at.or(Some(n.at));
            } else {
                self.resent = true;
            }
        } else if once {
            self.sacked_at = self.sacked_at.or(Some(n.at));
        }
        if n.marks.contains(Marks::SACKED) {
            return;
        }
        self.bytes += n.bytes();
        self.segments += n.segments as u32;
        self.original |= once && n.end.le(self.high);
        if acked && once && n.start.lt(self.highest) {
            self.filled_hole(n.start);
        }
        // RFC 8985 6.2 step 2: an ACK that comes too early for the second copy is for the first.
        let early = !once && self.now.saturating_sub(n.at) < self.min_rtt;
        if early {
            return;
        }
        self.last = n.at;
        if self.newest.is_none_or(|newest| sent_after((n.at, n.end), newest)) {
            self.newest = Some((n.at, n.end));
        }
    }

    /// What was sent once arrived in a hole.
    pub fn filled_hole(&mut self, start: Seq) {
        self.hole = Some(self.hole.map_or(start, |h| h.min(start)));
    }
}

/// Whether `a` (when, end) was sent after `b`.
fn sent_after(a: (u64, Seq), b: (u64, Seq)) -> bool {
    a.0 > b.0 || (a.0 == b.0 && b.1.lt(a.1))
}

/// The state.
#[derive(Clone, Copy, Debug)]
pub struct Rack {
    /// When what was sent last, of all that has arrived, was sent, and its end.
    newest: (u64, Seq),
    /// The round-trip time of what was delivered last (RFC 8985 6.2 step 2): after a hole was filled that is more
    /// than that of `newest`, and patience grows. Rounded up.
    rtt: Span,
    /// That has changed since losses were looked for.
    pub advanced: bool,
    /// Reordering window, in quarters of the least RTT.
    steps: u8,
    /// For how many recoveries that stays.
    pub persist: u8,
    /// What was sent when the peer got something twice and the window was changed.
    widened_at: Seq,
    /// Segments out of order that are not loss.
    pub reordering: u16,
    /// How often reordering was seen.
    pub seen: u32,
}

impl Rack {
    /// Nothing known.
    pub const fn new(iss: Seq) -> Self {
        Self {
            newest: (0, iss),
            rtt: Span::ZERO,
            advanced: false,
            steps: 1,
            persist: 0,
            widened_at: iss,
            reordering: REORDERING,
            seen: 0,
        }
    }

    /// An ACK: RFC 8985 6.2 steps 1 to 3. `highest`: end of what was SACKed.
    pub fn on_ack(&mut self, said: &Delivered, highest: Seq, size: u32) {
        if let Some((at, end)) = said.newest {
            self.advanced = true;
            self.rtt = Span::of(said.now.saturating_sub(said.last) + 127);
            if sent_after((at, end), self.newest) {
                self.newest = (at, end);
            }
        }
        if let Some(hole) = said.hole {
            self.reordered(if hole.lt(highest) { highest - hole } else { 0 }, size);
        }
    }

    /// As [`Self::on_ack`] and [`Self::adapt`] if the oldest of what was in flight have `arrived`, sent once, the last
    /// of them when this says.
    #[inline]
    pub fn in_order(&mut self, arrived: &Node, now: u64) {
        self.advanced = true;
        self.rtt = Span::of(now.saturating_sub(arrived.at) + 127);
        if sent_after((arrived.at, arrived.end), self.newest) {
            self.newest = (arrived.at, arrived.end);
        }
        if self.persist == 0 {
            self.steps = 1;
        }
    }

    /// Reordering by `distance` bytes.
    #[cold]
    pub fn reordered(&mut self, distance: u32, size: u32) {
        let segments = distance.div_ceil(size.max(1)).min(MOST_REORDERING as u32) as u16;
        self.reordering = self.reordering.max(segments);
        self.seen = self.seen.saturating_add(1);
    }

    /// RFC 8985 6.2 step 4: duplicates widen the window, once a round trip; without any for a while
    /// it is as before.
    pub fn adapt(&mut self, said: &Delivered, una: Seq, max: Seq) {
        if said.duplicate && !said.duplicate_probe && self.widened_at.le(una) {
            self.widened_at = max;
            self.steps = self.steps.saturating_add(1);
            self.persist = PERSISTENCE;
        } else if self.persist == 0 {
            self.steps = 1;
        }
    }

    /// How long to wait for what may only be late.
    fn window(&self, board: &Scoreboard, recovering: bool, min_rtt: u64, srtt: u64) -> u64 {
        let enough = recovering || board.sacked.segments >= self.reordering as u32;
        if self.seen == 0 && enough {
            return 0;
        }
        (min_rtt / 4 * self.steps as u64).min(srtt)
    }

    /// RFC 8985 6.2 step 5: marks what is lost. Yields the retransmissions, in bytes, among it, and when
    /// to look again.
    pub fn detect(
        &self,
        board: &mut Scoreboard,
        recovering: bool,
        (min_rtt, srtt): (u64, u64),
        now: u64,
    ) -> (u32, Option<u64>) {
        let patience = self.rtt.ns() + self.window(board, recovering, min_rtt, srtt);
        let (newest, mut look) = (self.newest, None);
        let again = board.judge(|n| {
            if !sent_after(newest, (n.at, n.end)) {
                return false;
            }
            let due = n.at + patience;
            if due > now {
                look = look.max(Some(due));
            }
            due <= now
        });
        (again, look)
    }

    /// Whether `n`, in flight when the retransmission timer fires, may still arrive.
    pub fn is_recent(&self, n: &Node, now: u64) -> bool {
        n.at + self.rtt.ns() > now
    }
}
