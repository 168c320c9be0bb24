//! How much a program may have written and not acknowledged: as on Linux it grows with the congestion window, so that
//! there is always a window's worth to send and little more (`tcp_sndbuf_expand`); here within the ring. Whoever sets
//! SO_SNDBUF has what it says instead, which is the program's own business.

use super::congestion::INITIAL_SEGMENTS;
use super::{Conn, Outcome};
use crate::record;

/// The least and the most: the second and the third word of `tcp_wmem`.
const LEAST: u32 = 16_384;
const MOST: u32 = 4 << 20;
/// What Linux counts for a segment besides its payload: headers, and a buffer's bookkeeping before and after it is
/// rounded up to a power of two.
const HEADERS: u32 = 640;
const BUFFER: u32 = 256;

impl Conn {
    /// Bytes that the program may have written and not acknowledged.
    #[inline]
    pub(super) fn send_limit(&self) -> u32 {
        match self.rec.send_limit() {
            0 => self.tx_size,
            limit => limit.min(self.tx_size),
        }
    }

    /// Two windows' worth.
    fn wanted_send_limit(&self) -> u32 {
        let segment = (self.mss + HEADERS).next_power_of_two() + BUFFER;
        let reordered = self.recovery.rack.reordering as u32 + 1;
        let segments = (self.cc.window() / self.mss.max(1)).max(INITIAL_SEGMENTS).max(reordered);
        segments.saturating_mul(2 * segment).clamp(LEAST, MOST).min(self.tx_size)
    }

    /// The connection stands, or netd has begun anew.
    pub(super) fn begin_send_limit(&mut self) {
        if self.fin.is_none() {
            let limit = self.wanted_send_limit();
            record::set_send_limit(self.rec, limit);
        }
    }

    /// Room has come free; the program was near its limit.
    #[cold]
    pub(super) fn room_freed(&mut self, before: u32) -> Outcome {
        let limit = self.send_limit();
        if self.fin.is_none() && !self.is_pressed() && self.pipe() < self.cc.window() {
            let wanted = self.wanted_send_limit();
            if wanted > limit {
                record::set_send_limit(self.rec, wanted);
            }
        }
        let third = |limit: u32| limit - limit / 3;
        let crossed = before > third(limit) && self.unsent() <= third(self.send_limit());
        if crossed { Outcome::READY } else { Outcome::empty() }
    }
}
