//! The receive window: how much is offered, and when the peer hears of it (RFC 9293 3.8.6.2.2, RFC 7323 2), and how it
//! grows with what the program takes. The rules and values are Linux's; there memory grows with the window, here it is
//! a ring of fixed size, so that what grows is the part of it that is offered.

use super::{Config, Conn, Need, Segment};
use crate::record::Fixed;
use crate::wire::tcp::{MAX_SHIFT, Seq, TIMESTAMPS};
use libipc::sock::{AppSock, flags};

/// What is offered to begin with, if the ring holds it: half of the second word of `tcp_rmem`.
const FIRST: u32 = 65_536;
/// What windows are scaled for: the third word of `tcp_rmem`.
const MOST: u32 = 6_291_456;
/// Segments that a peer begins with (RFC 6928).
const FIRST_SEGMENTS: u32 = 10;

/// How the window grows. Times in µs, modulo 2^32.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    /// What may be received and not taken.
    limit: u32,
    /// No more than this is offered: it grows while full segments come (`rcv_ssthresh`).
    slow: u32,
    /// Bytes that the program took within a round trip, at most so far.
    taken: u32,
    /// Where and when the present measure of them began.
    from: Seq,
    since: u32,
    /// Round-trip time as the receiver sees it, eighths; 0: not known.
    rtt: u32,
    /// Its next measure ends here, and began then.
    until: Seq,
    at: u32,
}

impl Config {
    /// What the program allows to wait in a ring of `ring` bytes.
    fn limit(&self, ring: u32) -> u32 {
        let (clamp, locked) = self.clamp();
        let most = if locked { ring } else { ring.min(FIRST) };
        if clamp == 0 { most } else { most.min(clamp) }
    }

    /// The largest window wanted, 0: any, and whether it is SO_RCVBUF that says so.
    fn clamp(&self) -> (u32, bool) {
        let word = self.opts.window_clamp;
        (word & !AppSock::RCVBUF, word & AppSock::RCVBUF != 0)
    }

    /// The window to begin with: whole segments.
    fn first(&self, ring: u32, timed: bool) -> u32 {
        let space = self.limit(ring);
        let mss = self.mss as u32 - if timed { TIMESTAMPS as u32 } else { 0 };
        if space > mss { space - space % mss } else { space }
    }

    /// The window in a SYN, which is not scaled (RFC 7323 2.2), for a ring of `2^rx_bits` bytes;
    /// `timed`: timestamps were agreed upon.
    pub fn first_window(&self, rx_bits: u8, timed: bool) -> u16 {
        self.first(1 << rx_bits, timed).min(0xffff) as u16
    }

    /// The window scale for a receive ring of `2^rx_bits` bytes. A ring that cannot hold what others
    /// begin with has none.
    pub fn shift(&self, rx_bits: u8) -> u8 {
        let ring = 1u32 << rx_bits;
        let most = match self.clamp().0 {
            0 if ring < FIRST => ring,
            0 => ring.max(MOST),
            clamp => clamp.min(ring.max(MOST)).max(1),
        };
        (most.ilog2().saturating_sub(15) as u8).min(MAX_SHIFT)
    }
}

impl Tuning {
    /// For a ring of `ring` bytes.
    pub fn new(config: &Config, ring: u32) -> Self {
        Self {
            limit: config.limit(ring),
            slow: 0,
            taken: 0,
            from: Seq(0),
            since: 0,
            rtt: 0,
            until: Seq(0),
            at: 0,
        }
    }
    /// `rcv_ssthresh`, for TCP_INFO.
    pub fn slow(&self) -> u32 {
        self.slow
    }
    /// `rcv_space`, likewise.
    pub fn taken(&self) -> u32 {
        self.taken
    }
    /// Round-trip time as the receiver sees it, µs.
    pub fn rtt(&self) -> u32 {
        self.rtt >> 3
    }

    /// As Linux one segment of what there is stays in reserve.
    fn most(&self, mss: u32) -> u32 {
        (2 * mss).max(self.limit.saturating_sub(mss)).min(self.limit)
    }
}

impl Conn {
    /// The handshake has fixed the scale; `window` was offered in the SYN.
    pub(super) fn begin_window(&mut self, window: u32) {
        let mss = self.config.mss as u32;
        let first = self.config.first(self.rx_size, self.timed());
        self.rcv_adv = self.rcv_nxt + window;
        let t = &mut self.tuning;
        t.slow = first.min(t.most(mss));
        t.taken = first.min(FIRST_SEGMENTS * mss);
        (t.from, t.until) = (self.head, self.rcv_nxt);
    }

    /// The window in our SYN-ACK, for what the record says was agreed upon.
    pub(super) fn window_in_syn(&self, agreed: &Fixed) -> u32 {
        let timed = agreed.flags & flags::TIMESTAMPS != 0;
        self.config.first_window(agreed.rings.rx_bits, timed) as u32
    }

    /// What a predecessor had offered counts as what the program deserves.
    pub(super) fn recover_window(&mut self) {
        let offered = (self.rcv_adv - self.head).min(self.rx_size);
        let t = &mut self.tuning;
        t.limit = t.limit.max(offered);
        t.slow = t.slow.max(offered);
        (t.from, t.until) = (self.head, self.rcv_nxt);
    }

    /// The connection stands.
    pub(super) fn time_window(&mut self, now: u64) {
        self.tuning.since = (now / 1000) as u32;
    }

    /// The program's wish has changed.
    pub(super) fn set_clamp(&mut self) {
        let (clamp, locked) = self.config.clamp();
        if clamp == 0 {
            return;
        }
        let t = &mut self.tuning;
        t.limit = if locked { clamp.min(self.rx_size) } else { t.limit.min(clamp) };
        t.slow = t.slow.min(t.limit);
    }

    /// The window that would be right now.
    pub(super) fn right_window(&self) -> u32 {
        let limit = self.tuning.limit;
        let unit = 1 << self.rcv_shift;
        let mss = (self.delay.size as u32).min(limit);
        let mut free = limit.saturating_sub(self.unread());
        if free < limit / 2 {
            free = self.pressed_window(free);
            free -= free % unit;
            if free < limit / 16 || free < mss {
                return 0;
            }
        }
        let free = free.min(self.tuning.slow).min(0xffff << self.rcv_shift);
        if self.rcv_shift > 0 {
            return self.whole_units(free);
        }
        // Without a scale in whole segments, unless what stands is right within one.
        let offered = self.rcv_adv - self.acked;
        if offered > free || offered + mss <= free { free - free % mss.max(1) } else { offered }
    }

    /// `window` in units of the scale: rounded up, unless the ring would not hold that.
    fn whole_units(&self, window: u32) -> u32 {
        let unit = 1u32 << self.rcv_shift;
        let up = window.next_multiple_of(unit);
        let room = (self.head + self.rx_size) - self.rcv_nxt;
        if up <= room { up } else { window - window % unit }
    }

    /// The window field of a segment that leaves. The right edge never moves back.
    #[inline]
    pub(super) fn window(&mut self) -> u16 {
        let stands = self.rcv_adv - self.rcv_nxt;
        if !self.fin_taken {
            if self.unread() > self.tuning.limit / 2 {
                self.delay.take_time();
            }
            let right = self.right_window();
            let wanted = if right < stands { self.whole_units(stands) } else { right };
            if wanted > stands {
                self.rcv_adv = self.rcv_nxt + wanted;
                // Before the segment leaves: this much is promised.
                self.publish_rcv();
            }
        }
        self.stands()
    }

    /// The window field that says what has been offered.
    pub(super) fn stands(&self) -> u16 {
        ((self.rcv_adv - self.rcv_nxt) >> self.rcv_shift).min(0xffff) as u16
    }

    /// Data has come in order.
    pub(super) fn window_in(&mut self, seg: &Segment, now: u64) {
        let mss = self.config.mss as u32;
        let t = &self.tuning;
        if t.until.le(self.rcv_nxt) {
            self.measure_receiving(seg, now);
        }
        let t = &self.tuning;
        let room = t.most(mss).min(t.limit.saturating_sub(self.unread()));
        if t.slow < room && 2 * seg.len >= mss && !self.is_pressed() {
            self.tuning.slow += (room - t.slow).min(2 * mss.max(seg.len));
            self.delay.hurry_once();
        }
    }

    /// A window has passed: how long is a round trip? By what the peer echoes, or by how long it took.
    #[cold]
    fn measure_receiving(&mut self, seg: &Segment, now: u64) {
        let us = (now / 1000) as u32;
        let sample = match self.timed() {
            true if seg.len < self.delay.size as u32 => return,
            true => self.echoed(seg, now).map(|ns| (ns / 1000) as u32),
            false if self.tuning.at == 0 => None,
            false => Some(us.wrapping_sub(self.tuning.at)),
        };
        let timed = self.timed();
        let t = &mut self.tuning;
        if let Some(sample) = sample {
            let eighths = sample.clamp(1, u32::MAX >> 3) << 3;
            t.rtt = match t.rtt {
                0 => eighths,
                // Waiting of the peer's makes it too large: it becomes larger by and by, or not at all.
                old if eighths > old && timed => old - (old >> 3) + (eighths >> 3),
                old => old.min(eighths),
            };
        }
        (t.until, t.at) = (self.rcv_adv, us.max(1));
    }

    /// The program has taken what lies before `self.head`.
    pub(super) fn window_out(&mut self, now: u64) {
        let t = &self.tuning;
        let us = (now / 1000) as u32;
        if t.rtt != 0 && us.wrapping_sub(t.since) >= t.rtt >> 3 {
            self.adjust_limit(us);
        }
        if self.fin_taken || self.deaf || !self.is_synchronised() {
            return;
        }
        let stands = self.rcv_adv - self.rcv_nxt;
        // A window worth a segment of its own is twice what the peer knows of.
        if 2 * stands <= self.tuning.limit {
            let right = self.right_window();
            if right > 0 && right >= 2 * stands {
                self.need |= Need::ACK;
            }
        }
    }

    /// A round trip has passed: the window shall hold what the program can take in two, and more
    /// if that increases.
    #[cold]
    fn adjust_limit(&mut self, us: u32) {
        let (mss, ring) = (self.config.mss as u64, self.rx_size as u64);
        let (clamp, locked) = self.config.clamp();
        let locked = locked || self.is_pressed();
        let t = &mut self.tuning;
        let copied = (self.head - t.from) as u64;
        let before = (t.taken as u64).max(1);
        if copied > before {
            if !locked {
                let window = 2 * copied + 16 * mss;
                let window = window + 2 * (window * (copied - before) / before);
                let most = if clamp == 0 { ring } else { ring.min(clamp as u64) };
                t.limit = t.limit.max(window.min(most) as u32);
            }
            t.taken = copied as u32;
        }
        (t.from, t.since) = (self.head, us);
    }
}
