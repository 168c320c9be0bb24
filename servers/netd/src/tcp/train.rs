//! Segments that leave together. Linux gives them to the NIC as one piece and marks its end with PSH, so that a receiver
//! that merges segments passes them on there; the pieces here are the same, whoever cuts them. And the other way round:
//! small segments that are repeated go together. And how large one is, with the peer's window in mind.

use super::Conn;
use super::output::Out;
use super::pool::Node;
use crate::wire::tcp::Seq;

/// Most bytes of a piece: what fits an IP packet, with room for headers.
const MOST: u64 = 65_216;
/// Fewest segments of a piece, if there are as many.
const LEAST: u64 = 2;

/// Windows up to this are tiny: the MSS of who says none (`TCP_MSS_DEFAULT`).
const TINY: u32 = 536;
/// Bytes of the smallest segment that is worth it, with its TCP header, and of that header without options.
const LEAST_PACKET: u32 = 68;
const HEADER: u32 = 20;

impl Conn {
    /// The window that the peer offers is its largest so far.
    #[inline]
    pub(super) fn raise_max_window(&mut self) {
        let small = self.max_wnd < 2 * self.carries as u32;
        self.max_wnd = self.wnd;
        if small {
            self.cut_to(self.carries as u32);
        }
    }

    /// A segment is at most half the largest window that the peer has offered (RFC 9293 3.8.6.2.1), so that one is read
    /// while the next is on its way; a tiny window is not cut (`tcp_bound_to_half_wnd`).
    pub(super) fn within_half_window(&self, mss: u32) -> u32 {
        let most = if self.max_wnd > TINY { self.max_wnd / 2 } else { self.max_wnd };
        if most == 0 { mss } else { mss.min(most.max(LEAST_PACKET - HEADER - self.overhead())) }
    }

    /// Segments of `size` bytes that a piece has at most: a millisecond's worth, and more to who is near
    /// (`tcp_tso_autosize`).
    fn train(&self, size: u32) -> u64 {
        let size = size.max(1) as u64;
        // At most half the window at a time (`tcp_cwnd_test`).
        let half = (self.cc.window() as u64 / size / 2).max(1);
        let Some(rate) = self.modelled_rate().or_else(|| self.fair_rate()) else {
            return half.min(MOST / size);
        };
        // Half as much with each half a millisecond, none from 16 ms on.
        let halvings = self.rtt.least() / 512_000;
        let near = if halvings < 32 { MOST >> halvings } else { 0 };
        ((rate / 1024 + near).min(MOST) / size).max(LEAST).min(half)
    }

    /// `together` segments of `size` bytes have left, more than one: whether the last ends a piece of several.
    pub(super) fn ends_train(&self, together: u16, size: u32) -> bool {
        let train = self.train(size);
        match together as u64 % train {
            0 => train > 1,
            1 => false,
            _ => !self.another_goes(size),
        }
    }

    /// Whether new data would leave at once.
    fn another_goes(&self, size: u32) -> bool {
        let end = self.fin.unwrap_or(self.tail);
        let granted = self.una + self.wnd;
        if !self.max.lt(end) || !self.max.lt(granted) {
            return false;
        }
        let len = (end - self.max).min(size);
        let room = (granted - self.max).min(self.cc.window().saturating_sub(self.pipe()));
        len <= room && (len == size || self.small_goes(len, true))
    }

    /// The one segment of `lost` leaves again, with those behind it that fit into one (`tcp_retrans_try_collapse`): up to
    /// `granted`, where the window ends.
    #[cold]
    pub(super) fn repair_small(&mut self, lost: &Node, granted: Seq, now: u64) -> Out {
        let room = if lost.start.lt(granted) { granted - lost.start } else { 0 };
        let end = self.board.merge_small(lost.start, self.mss.min(room)).unwrap_or(lost.end);
        self.again(lost.start, end - lost.start, now)
    }
}
