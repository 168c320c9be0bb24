//! What is in flight: the ranges that were sent, when, and what became of them.
//!
//! Segments that leave in one turn are one range, however many they are, and so is what the NIC cuts: a
//! connection whose ACKs come in order has a range or two. SACK, loss and retransmission split ranges, always
//! between segments. If there is no memory for a split, the news is forgotten; what new data cannot get a range of
//! its own joins the last one. Both cost precision, never correctness.

use super::pool::{Marks, NONE, Node, Pool, moment};
use super::rack::Delivered;
use crate::wire::tcp::Seq;
use alloc::rc::Rc;

/// Most ranges of one connection.
const MOST: u8 = 128;

/// So many bytes in so many segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Bytes, counting a FIN.
    pub bytes: u32,
    /// Segments.
    pub segments: u32,
}

impl Count {
    fn add(&mut self, n: &Node) {
        self.bytes += n.bytes();
        self.segments += n.segments as u32;
    }
    fn sub(&mut self, n: &Node) {
        self.bytes = self.bytes.saturating_sub(n.bytes());
        self.segments = self.segments.saturating_sub(n.segments as u32);
    }
}

/// The ranges, ascending and without gaps from `snd_una` to `snd_max`.
pub struct Scoreboard {
    pool: Rc<Pool>,
    head: u32,
    tail: u32,
    len: u8,
    /// Some of it was sent more than once; until nothing is in flight.
    again: bool,
    charged: u16,
    /// Of the congestion control ([`super::model`]).
    pub model: u8,
    /// What the peer has beyond `snd_una`. Without SACK: what duplicate ACKs stand for.
    pub sacked: Count,
    /// What is thought to be lost.
    pub lost: Count,
    /// What of that was sent again and may be in flight.
    pub resent: Count,
    /// End of the highest range that was SACKed; means nothing while `sacked` is 0.
    pub highest: Seq,
}

impl Drop for Scoreboard {
    fn drop(&mut self) {
        self.charge(0);
        self.leave_model();
        self.pool.give_all(self.head);
    }
}

impl Scoreboard {
    /// Nothing is in flight.
    pub fn new(pool: Rc<Pool>) -> Self {
        let none = Count::default();
        Self {
            pool,
            head: NONE,
            tail: NONE,
            len: 0,
            again: false,
            charged: 0,
            model: super::model::NONE,
            sacked: none,
            lost: none,
            resent: none,
            highest: Seq(0),
        }
    }

    /// What its ranges, and those of what is out of order, are nodes of.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Pages that count as held for this connection.
    pub fn charged(&self) -> u16 {
        self.charged
    }
    /// So many are.
    #[cold]
    pub fn charge(&mut self, pages: u32) {
        let to = pages.min(u16::MAX as u32) as u16;
        self.pool.memory().moves(core::mem::replace(&mut self.charged, to), to);
    }

    /// Whatever model there was is not needed any more.
    pub fn leave_model(&mut self) {
        self.pool.models().give(core::mem::replace(&mut self.model, super::model::NONE));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.leave_model();
        self.charge(0);
        self.pool.give_all(self.head);
        (self.head, self.tail, self.len, self.again) = (NONE, NONE, 0, false);
        (self.sacked, self.lost, self.resent) = Default::default();
    }

    /// Of `flight` bytes from `snd_una` to `snd_max`, how many are thought to be on the way.
    pub fn pipe(&self, flight: u32) -> u32 {
        (flight + self.resent.bytes).saturating_sub(self.sacked.bytes + self.lost.bytes)
    }

    /// The first range.
    pub fn first(&self) -> Option<Node> {
        (self.head != NONE).then(|| self.pool.get(self.head))
    }
    /// The last range.
    pub fn last(&self) -> Option<Node> {
        (self.tail != NONE).then(|| self.pool.get(self.tail))
    }

    /// Segments in flight; there are few ranges, but do not ask for every segment.
    pub fn segments(&self) -> u32 {
        let (mut i, mut count) = (self.head, 0);
        while i != NONE {
            let n = self.pool.get(i);
            count += n.segments as u32;
            i = n.next;
        }
        count
    }
    /// Whether a single segment is in flight.
    pub fn is_one(&self) -> bool {
        self.head == self.tail && self.first().is_some_and(|n| n.segments == 1)
    }

    /// Counts a node in or out, by its marks.
    fn count(&mut self, n: &Node, with: fn(&mut Count, &Node)) {
        if !n.marks.intersects(Marks::SACKED | Marks::LOST | Marks::RESENT) {
            return;
        }
        for (mark, count) in [
            (Marks::SACKED, &mut self.sacked),
            (Marks::LOST, &mut self.lost),
            (Marks::RESENT, &mut self.resent),
        ] {
            if n.marks.contains(mark) {
                with(count, n);
            }
        }
    }

    /// Changes the marks of node `i`.
    fn mark(&mut self, i: u32, set: Marks, clear: Marks) -> Node {
        let mut n = self.pool.get(i);
        self.count(&n, Count::sub);
        n.marks = (n.marks - clear) | set;
        self.again |= set.contains(Marks::EVER_RESENT);
        self.count(&n, Count::add);
        self.pool.set(i, n);
        n
    }

    /// New data: `[start, end)` leaves in segments of `size` bytes, its last number a FIN's or not. Yields
    /// how many have left together with the last of them.
    pub fn sent(&mut self, start: Seq, end: Seq, size: u16, fin: bool, now: u64) -> u16 {
        let (len, now) = (end - start - fin as u32, moment(now));
        let one = len <= size as u32;
        let segments = if one { 1 } else { len.div_ceil(size.max(1) as u32).min(0xffff) as u16 };
        let whole = if one { len == size as u32 } else { len.is_multiple_of(size.max(1) as u32) };
        let short = if whole && !fin { Marks::empty() } else { Marks::SHORT };
        if self.tail != NONE {
            let mut last = self.pool.get(self.tail);
            if last.at == now && last.size == size && last.marks.is_empty() && last.end == start {
                last.end = end;
                last.marks = short;
                last.segments = last.segments.saturating_add(segments);
                self.pool.set(self.tail, last);
                return last.segments;
            }
        }
        let node = Node { start, end, at: now, next: NONE, size, segments, marks: short };
        self.append(node);
        segments
    }

    fn append(&mut self, node: Node) {
        let free = if self.len < MOST { self.pool.take(self.len == 0) } else { None };
        let Some(i) = free else { return self.join_last(node) };
        self.pool.set(i, node);
        match self.last() {
            Some(last) => self.pool.set(self.tail, Node { next: i, ..last }),
            None => self.head = i,
        }
        self.tail = i;
        self.len += 1;
    }

    /// No memory: what the last range was known to be is forgotten.
    #[cold]
    fn join_last(&mut self, node: Node) {
        if self.tail == NONE {
            return;
        }
        let known = Marks::SACKED | Marks::LOST | Marks::RESENT;
        let last = self.mark(self.tail, Marks::EVER_RESENT | Marks::SHORT, known);
        let segments = last.segments.saturating_add(node.segments);
        self.pool.set(self.tail, Node { end: node.end, at: node.at, segments, ..last });
    }

    /// Everything up to `una` is acknowledged.
    pub fn ack(&mut self, una: Seq, said: &mut Delivered) {
        while self.head != NONE {
            let n = self.pool.get(self.head);
            if !n.end.le(una) {
                if n.start.lt(una) {
                    self.trim(n, una, said);
                }
                return;
            }
            self.count(&n, Count::sub);
            said.range(&n, true);
            self.pool.give(self.head);
            self.head = n.next;
            self.len -= 1;
        }
        (self.tail, self.again) = (NONE, false);
    }

    /// Part of the first range is acknowledged.
    fn trim(&mut self, n: Node, una: Seq, said: &mut Delivered) {
        self.count(&n, Count::sub);
        let (gone, rest) = cut(&n, una);
        said.range(&gone, true);
        self.count(&rest, Count::add);
        self.pool.set(self.head, rest);
    }

    /// Whether all that is in flight was sent once, and nothing is known of it.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        !self.again && self.sacked.segments | self.lost.segments == 0
    }

    /// As [`Self::ack`] while it [`Self::is_quiet`], of at least one segment. Yields what was acknowledged as if it had
    /// left together with the last of it; and when the first of it left.
    #[inline]
    pub fn ack_in_order(&mut self, una: Seq) -> Option<(Node, u64)> {
        let first = self.first()?;
        let (mut last, mut segments) = (first, 0u16);
        while let Some(n) = self.first() {
            if !n.end.le(una) {
                if n.start.lt(una) {
                    let (gone, rest) = cut(&n, una);
                    self.pool.set(self.head, rest);
                    segments = segments.saturating_add(gone.segments);
                    last = gone;
                }
                break;
            }
            self.pool.give(self.head);
            (self.head, self.len) = (n.next, self.len - 1);
            segments = segments.saturating_add(n.segments);
            last = n;
        }
        if self.head == NONE {
            self.tail = NONE;
        }
        Some((Node { start: first.start, segments, ..last }, first.at))
    }

    /// Splits node `i` at `at`, a border between its segments. `false`: no memory.
    fn split(&mut self, i: u32, at: Seq) -> bool {
        let n = self.pool.get(i);
        let free = if self.len < MOST { self.pool.take(false) } else { None };
        let Some(new) = free else { return false };
        if !n.start.lt(at) || !at.lt(n.end) {
            self.pool.give(new);
            return false;
        }
        self.count(&n, Count::sub);
        let before = ((at - n.start) / n.size.max(1) as u32).clamp(1, 0xffff) as u16;
        let before = before.min(n.segments.max(2) - 1);
        let left =
            Node { end: at, next: new, segments: before, marks: n.marks - Marks::SHORT, ..n };
        let right = Node { start: at, segments: (n.segments - before.min(n.segments)).max(1), ..n };
        for (i, half) in [(i, left), (new, right)] {
            self.count(&half, Count::add);
            self.pool.set(i, half);
        }
        self.len += 1;
        if self.tail == i {
            self.tail = new;
        }
        true
    }

    /// Joins node `i` and the one behind it, which say the same.
    fn join(&mut self, i: u32) {
        let (a, b) = (self.pool.get(i), self.pool.get(self.pool.get(i).next));
        let segments = a.segments.saturating_add(b.segments);
        if self.tail == a.next {
            self.tail = i;
        }
        self.pool.give(a.next);
        self.pool.set(i, Node { end: b.end, next: b.next, segments, ..a });
        self.len -= 1;
    }

    /// The peer says that it has `[start, end)`. What it covers of a segment but not the whole does
    /// not count.
    pub fn sack(&mut self, start: Seq, end: Seq, said: &mut Delivered) {
        let (mut before, mut i) = (NONE, self.head);
        while i != NONE {
            let mut n = self.pool.get(i);
            if end.le(n.start) {
                return;
            }
            if start.lt(n.end) && !n.marks.contains(Marks::SACKED) {
                let (from, to) = whole_segments(&n, start.max(n.start), end.min(n.end));
                if from.lt(to) {
                    if from != n.start {
                        if !self.split(i, from) {
                            return;
                        }
                        before = i;
                        i = self.pool.get(i).next;
                    }
                    if to != n.end && !self.split(i, to) {
                        return;
                    }
                    i = self.sack_node(before, i, said);
                    n = self.pool.get(i);
                }
            }
            (before, i) = (i, n.next);
        }
    }

    /// Node `i` behind `before` is SACKed; it may become part of its neighbours. Yields where it is.
    fn sack_node(&mut self, before: u32, i: u32, said: &mut Delivered) -> u32 {
        let n = self.pool.get(i);
        said.sacked = true;
        let hole = self.sacked.segments > 0 && n.start.lt(self.highest);
        said.range(&n, false);
        if hole && !n.marks.contains(Marks::EVER_RESENT) {
            said.filled_hole(n.start);
        }
        self.highest = if self.sacked.segments == 0 { n.end } else { self.highest.max(n.end) };
        self.mark(i, Marks::SACKED, Marks::LOST | Marks::RESENT);
        if n.next != NONE && self.pool.get(n.next).marks.contains(Marks::SACKED) {
            self.join(i);
        }
        if before != NONE && self.pool.get(before).marks.contains(Marks::SACKED) {
            self.join(before);
            return before;
        }
        i
    }

    /// Whom `decide` finds lost is lost; lost again if it was sent again. Ranges that are not in flight
    /// are not asked about. Yields how many bytes of retransmissions were.
    pub fn judge(&mut self, mut decide: impl FnMut(&Node) -> bool) -> u32 {
        let (mut i, mut again) = (self.head, 0);
        while i != NONE {
            let n = self.pool.get(i);
            let gone = n.marks.contains(Marks::LOST) && !n.marks.contains(Marks::RESENT);
            if !gone && !n.marks.contains(Marks::SACKED) && decide(&n) {
                if n.marks.contains(Marks::RESENT) {
                    again += n.bytes();
                }
                self.mark(i, Marks::LOST, Marks::RESENT);
            }
            i = n.next;
        }
        again
    }

    /// The first segment is lost (RFC 6582: all that duplicate ACKs tell).
    pub fn lose_first(&mut self) {
        let Some(n) = self.first() else { return };
        let gone = n.marks.contains(Marks::LOST) && !n.marks.contains(Marks::RESENT);
        if gone || n.marks.contains(Marks::SACKED) {
            return;
        }
        if n.segments > 1 {
            self.split(self.head, n.start + n.size as u32);
        }
        self.mark(self.head, Marks::LOST, Marks::RESENT);
    }

    /// The peer does not have any more what it said it had.
    pub fn renege(&mut self) {
        let mut i = self.head;
        while i != NONE {
            i = self.mark(i, Marks::empty(), Marks::SACKED).next;
        }
    }

    /// Nothing was lost after all.
    pub fn acquit(&mut self) {
        let mut i = self.head;
        while i != NONE {
            i = self.mark(i, Marks::empty(), Marks::LOST).next;
        }
    }

    /// What to send again first: lost and not sent again since.
    pub fn next_lost(&self) -> Option<Node> {
        let mut i = if self.lost.bytes == 0 { NONE } else { self.head };
        while i != NONE {
            let n = self.pool.get(i);
            if n.marks.contains(Marks::LOST) && !n.marks.contains(Marks::RESENT) {
                return Some(n);
            }
            i = n.next;
        }
        None
    }

    /// The range at `start`, a segment, is about to leave again: what follows it goes with it, as far as all of it fits
    /// into `most` bytes and the peer has none of it. Yields where that ends.
    pub fn merge_small(&mut self, start: Seq, most: u32) -> Option<Seq> {
        let mut i = self.head;
        while i != NONE && self.pool.get(i).start != start {
            i = self.pool.get(i).next;
        }
        let mut n = (i != NONE).then(|| self.pool.get(i))?;
        while n.next != NONE {
            let next = self.pool.get(n.next);
            let small = next.segments == 1 && next.end - n.start <= most;
            if !small || next.marks.contains(Marks::SACKED) {
                break;
            }
            self.count(&n, Count::sub);
            self.count(&next, Count::sub);
            self.pool.give(n.next);
            if self.tail == n.next {
                self.tail = i;
            }
            let ever = next.marks & Marks::EVER_RESENT;
            n = Node { end: next.end, next: next.next, marks: n.marks | ever | Marks::SHORT, ..n };
            self.count(&n, Count::add);
            self.pool.set(i, n);
            self.len -= 1;
        }
        Some(n.end)
    }

    /// The last segment, for a probe (RFC 8985 7.3).
    pub fn last_segment(&self) -> Option<(Seq, Seq)> {
        let n = self.last()?;
        let before = (n.segments.max(1) - 1) as u32 * n.size as u32;
        Some((n.start + before.min(n.bytes() - 1), n.end))
    }

    /// `[start, end)`, one segment, leaves again, though its parts may have left apart (a FIN).
    pub fn resent(&mut self, start: Seq, end: Seq, now: u64) {
        let mut at = start;
        while at.lt(end)
            && let Some(until) = self.leaves(at, end, Marks::RESENT | Marks::EVER_RESENT, now)
        {
            at = until;
        }
    }

    /// The last segment leaves again as a probe: it does not count as more in flight.
    pub fn probed(&mut self, start: Seq, end: Seq, now: u64) {
        self.leaves(start, end, Marks::EVER_RESENT, now);
    }

    /// What of `[start, end)` is in the range of its beginning leaves again; yields its end.
    fn leaves(&mut self, start: Seq, end: Seq, marks: Marks, now: u64) -> Option<Seq> {
        let (mut before, mut i, now) = (NONE, self.head, moment(now));
        while i != NONE {
            let n = self.pool.get(i);
            if start.lt(n.end) {
                break;
            }
            (before, i) = (i, n.next);
        }
        if i == NONE {
            return None;
        }
        if start != self.pool.get(i).start && self.split(i, start) {
            before = i;
            i = self.pool.get(i).next;
        }
        if end.lt(self.pool.get(i).end) {
            self.split(i, end);
        }
        let n = self.mark(i, marks, Marks::empty());
        self.pool.set(i, Node { at: now, ..n });
        if before != NONE {
            let b = self.pool.get(before);
            if b.at == now && b.size == n.size && b.marks == n.marks && b.end == n.start {
                self.join(before);
            }
        }
        Some(n.end)
    }

    /// Panics if the ranges do not cover what is in flight, or the counts are wrong.
    #[cfg(feature = "crash-points")]
    pub fn check(&self, una: Seq, max: Seq) {
        let (mut at, mut i, mut len) = (una, self.head, 0);
        let mut counts = [Count::default(); 3];
        while i != NONE {
            let n = self.pool.get(i);
            assert!(n.start == at && n.start.lt(n.end), "ranges without gaps: {n:?} at {at:?}");
            for (mark, count) in [Marks::SACKED, Marks::LOST, Marks::RESENT].iter().zip(&mut counts)
            {
                if n.marks.contains(*mark) {
                    count.add(&n);
                }
            }
            assert!((n.next == NONE) == (i == self.tail), "the tail is the last");
            (at, i, len) = (n.end, n.next, len + 1);
        }
        assert!(at == max, "from SND.UNA to SND.MAX: {at:?} {max:?}");
        assert_eq!(len, self.len);
        let [sacked, lost, resent] = counts;
        assert_eq!((lost, resent), (self.lost, self.resent), "counts");
        // Without SACK it stands for duplicate ACKs.
        assert!(
            sacked == self.sacked || sacked == Count::default(),
            "{sacked:?} {:?}",
            self.sacked
        );
    }

    /// Segments have become smaller.
    pub fn set_size(&mut self, size: u16) {
        let mut i = self.head;
        while i != NONE {
            let mut n = self.pool.get(i);
            self.count(&n, Count::sub);
            if size < n.size {
                n.size = size;
                n.segments = n.bytes().div_ceil(size.max(1) as u32).min(0xffff) as u16;
            }
            self.count(&n, Count::add);
            self.pool.set(i, n);
            i = n.next;
        }
    }
}

/// The whole segments of `n` between `from` and `to`.
fn whole_segments(n: &Node, from: Seq, to: Seq) -> (Seq, Seq) {
    let size = n.size.max(1) as u32;
    let from = n.start + (from - n.start).next_multiple_of(size).min(n.bytes());
    let to = if to == n.end { to } else { n.start + (to - n.start) / size * size };
    (from, to)
}

#[cfg(all(test, feature = "crash-points"))]
#[path = "scoreboard_tests.rs"]
mod tests;

/// What of `n` lies before `una`, and the rest.
fn cut(n: &Node, una: Seq) -> (Node, Node) {
    let left = (n.end - una).div_ceil(n.size.max(1) as u32).min(n.segments as u32) as u16;
    let gone = Node { end: una, segments: n.segments - left, ..*n };
    (gone, Node { start: una, segments: left, ..*n })
}
