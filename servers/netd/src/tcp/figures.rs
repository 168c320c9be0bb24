//! What TCP_INFO counts of a connection, since it began or since netd did.

use super::Conn;
use libipc::sock::TcpInfo;

/// What sending waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Nothing: there is nothing to send.
    Idle,
    /// The network.
    Busy,
    /// The peer's window.
    Window,
}

/// The counts, small: every connection has them. Times in µs, modulo 2^32.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    segments_in: u32,
    data_in: u32,
    segments_out: u32,
    data_out: u32,
    again: u32,
    bytes_again: u32,
    since: u32,
    busy: u32,
    /// Of the above.
    by_window: u32,
    pace: Pace,
}

impl Figures {
    pub const NONE: Self = Self {
        segments_in: 0,
        data_in: 0,
        segments_out: 0,
        data_out: 0,
        again: 0,
        bytes_again: 0,
        since: 0,
        busy: 0,
        by_window: 0,
        pace: Pace::Idle,
    };

    /// A segment with `len` bytes has arrived.
    pub fn received(&mut self, len: u32) {
        self.segments_in = self.segments_in.wrapping_add(1);
        self.data_in = self.data_in.wrapping_add((len > 0) as u32);
    }

    /// `len` bytes leave in segments of `size`; `again`: not for the first time.
    pub fn sent(&mut self, len: u32, size: u32, again: bool) {
        let segments = if len <= size { 1 } else { len.div_ceil(size.max(1)) };
        self.segments_out = self.segments_out.wrapping_add(segments);
        if len > 0 {
            self.data_out = self.data_out.wrapping_add(segments);
        }
        if again {
            self.again = self.again.wrapping_add(segments);
            self.bytes_again = self.bytes_again.wrapping_add(len);
        }
    }

    fn passed(&self, us: u32) -> (u32, u32) {
        let dt = us.wrapping_sub(self.since);
        let busy = if self.pace == Pace::Idle { 0 } else { dt };
        let by_window = if self.pace == Pace::Window { dt } else { 0 };
        (self.busy.saturating_add(busy), self.by_window.saturating_add(by_window))
    }

    fn set_pace(&mut self, pace: Pace, now: u64) {
        if self.pace != pace {
            let us = (now / 1000) as u32;
            (self.busy, self.by_window) = self.passed(us);
            (self.pace, self.since) = (pace, us);
        }
    }
}

impl Conn {
    /// Something was sent, or all is acknowledged: notes what sending waits for.
    #[inline]
    pub(super) fn note_pace(&mut self, now: u64) {
        let waits = if self.max.lt(self.tail) { self.tail - self.max } else { 0 };
        let idle = self.una == self.max && waits == 0;
        let pace = if idle || !self.is_synchronised() {
            Pace::Idle
        } else if waits > 0 && (self.una + self.wnd).lt(self.max + waits.min(self.mss)) {
            Pace::Window
        } else {
            Pace::Busy
        };
        self.figures.set_pace(pace, now);
    }

    /// Adds what is counted.
    pub(super) fn add_figures(&self, info: TcpInfo, now: u64) -> TcpInfo {
        let f = &self.figures;
        let (busy, by_window) = f.passed((now / 1000) as u32);
        TcpInfo {
            segs_in: f.segments_in,
            data_segs_in: f.data_in,
            segs_out: f.segments_out,
            data_segs_out: f.data_out,
            total_retrans: f.again,
            bytes_retrans: f.bytes_again as u64,
            busy_time: busy as u64,
            rwnd_limited: by_window as u64,
            ..info
        }
    }
}
