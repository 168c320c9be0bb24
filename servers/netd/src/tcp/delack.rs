//! When to acknowledge (RFC 9293 3.8.6.3, RFC 5681 4.2), by Linux's rules: at once while a connection is young or what
//! comes has pauses, so that the peer's window grows; with data of ours where it answers; each second segment.

use super::{Conn, NEVER, Need};
use crate::wire::tcp::Flags;

/// Least and most delay.
const LEAST_NS: u64 = 40_000_000;
const MOST_NS: u64 = 200_000_000;
/// ACKs that are not delayed to begin with.
const QUICK: u32 = 16;
/// Before anything came, the peer's segments are thought to be this long.
const FIRST_SIZE: u16 = 536;
/// No full segment is shorter.
const LEAST_SIZE: u32 = 88;

/// The state.
#[derive(Clone, Copy, Debug)]
pub struct Delay {
    /// When data came last.
    pub last: u64,
    /// For how long an ACK waits, by the pauses between segments; 0: none came yet.
    pub for_ns: u64,
    /// Length of the peer's full segments, as far as seen.
    pub size: u16,
    /// Length of the last segment that may have been one.
    candidate: u16,
    /// So many ACKs are not delayed.
    quick: u8,
    /// Our data answers the peer's: an ACK goes with it.
    pub answering: bool,
    /// What came was the end of something: when it is read, the ACK is due.
    pushed: bool,
}

impl Delay {
    /// Nothing has come. `answering`: ACKs shall wait for data of ours.
    pub const fn new(answering: bool) -> Self {
        Self {
            last: 0,
            for_ns: 0,
            size: FIRST_SIZE,
            candidate: 0,
            quick: 0,
            answering,
            pushed: false,
        }
    }

    /// The next ACKs are not delayed.
    fn hurry(&mut self, window: u32) {
        let acks = (window / (2 * self.size as u32)).clamp(2, QUICK) as u8;
        self.quick = self.quick.max(acks);
    }

    /// There is no hurry: the program is behind.
    pub(super) fn take_time(&mut self) {
        self.quick = 0;
    }

    /// The next ACK is not delayed: it has a larger window.
    pub(super) fn hurry_once(&mut self) {
        self.quick |= 1;
    }

    /// Data in order: `len` bytes while `window` is open and the RTO is `rto`.
    fn came(&mut self, len: u32, pushed: bool, window: u32, rto: u64, now: u64) {
        if len >= self.size as u32 {
            self.size = len.min(u16::MAX as u32) as u16;
        } else {
            self.short(len, pushed);
        }
        let pause = now.saturating_sub(core::mem::replace(&mut self.last, now));
        if self.for_ns == 0 {
            self.hurry(window);
            self.for_ns = LEAST_NS;
        } else if pause <= LEAST_NS / 2 {
            self.for_ns = self.for_ns / 2 + LEAST_NS / 2;
        } else if pause < self.for_ns {
            self.for_ns = (self.for_ns / 2 + pause).min(rto);
        } else if pause > rto {
            // The peer paused and begins with a small window.
            self.hurry(window);
        }
    }

    /// Shorter than others: the end of something, or all are from now on.
    fn short(&mut self, len: u32, pushed: bool) {
        let full = len >= FIRST_SIZE as u32 || (len >= LEAST_SIZE && !pushed);
        if full && core::mem::replace(&mut self.candidate, len as u16) == len as u16 {
            self.size = len as u16;
            return;
        }
        self.pushed = true;
    }

    /// An ACK leaves; `owed`: of data.
    pub(super) fn sent(&mut self, owed: bool) {
        self.pushed = false;
        if owed && self.quick > 0 {
            self.quick -= 1;
            if self.quick == 0 {
                self.for_ns = LEAST_NS;
            }
        }
    }
}

impl Conn {
    /// Data has come in order: when is the ACK due?
    pub(super) fn schedule_ack(&mut self, len: u32, flags: Flags, now: u64) {
        let window = self.rcv_adv - self.rcv_nxt;
        self.delay.came(len, flags.contains(Flags::PSH), window, self.rtt.rto(), now);
        // What ends with a FIN waits for the program's own.
        let quick = self.delay.quick > 0 && !self.delay.answering && !flags.contains(Flags::FIN);
        if quick || self.rcv_nxt - self.acked > self.delay.size as u32 {
            self.need |= Need::ACK;
            return;
        }
        let wait = self.ack_delay();
        if self.ack_at == NEVER {
            self.ack_at = now + wait;
        } else if self.ack_at <= now + wait / 4 {
            self.need |= Need::ACK;
        } else {
            self.ack_at = self.ack_at.min(now + wait);
        }
    }

    /// Whether an ACK is due that shall not speak for the next segment, too.
    #[inline]
    pub fn hurries(&self) -> bool {
        self.delay.quick > 0 && !self.delay.answering && self.need.contains(Need::ACK)
    }

    /// The peer's FIN waits as long as text would, but no text before it means no delay that was learnt.
    #[cold]
    pub(super) fn delay_ack_of_fin(&mut self, now: u64) {
        self.delay.answering = true;
        let enough = self.rcv_nxt - self.acked > self.delay.size as u32;
        if enough || self.delay.for_ns == 0 || self.need.contains(Need::ACK) {
            self.need |= Need::ACK;
        } else {
            self.ack_at = self.ack_at.min(now + self.ack_delay());
        }
    }

    fn ack_delay(&self) -> u64 {
        let d = &self.delay;
        if d.for_ns <= LEAST_NS {
            return LEAST_NS;
        }
        let srtt = self.rtt.srtt();
        let most = if srtt > 0 { srtt.max(LEAST_NS) } else { MOST_NS };
        d.for_ns.min(most).min(MOST_NS)
    }

    /// The ACK was delayed for as long as it may be.
    pub(super) fn ack_due(&mut self) {
        self.ack_at = NEVER;
        self.need |= Need::ACK;
        let d = &mut self.delay;
        if d.answering {
            d.answering = false;
            d.for_ns = LEAST_NS;
        } else {
            d.for_ns = (d.for_ns * 2).min(self.rtt.rto());
        }
    }

    /// Data of ours leaves: if it answers what came just now, others will.
    pub(super) fn answers(&mut self, now: u64) {
        if now.saturating_sub(self.delay.last) < self.delay.for_ns {
            self.delay.answering = true;
        }
    }

    /// The program has read everything: the peer may hear of it if it waits, unless there will be an answer.
    pub(super) fn all_read(&mut self) {
        if self.ack_at != NEVER && self.delay.pushed && !self.delay.answering {
            self.need |= Need::ACK;
        }
    }

    /// Something came that should not have: the peer needs ACKs at once.
    #[cold]
    pub(super) fn hurry_acks(&mut self) {
        self.delay.hurry(self.rcv_adv - self.rcv_nxt);
        self.delay.answering = false;
        self.delay.for_ns = LEAST_NS;
    }

    /// TCP_QUICKACK: ACKs at once, or with data.
    pub(super) fn set_quick_ack(&mut self, on: bool) {
        self.delay.answering = !on;
        if on && self.ack_at != NEVER && self.unread() == 0 {
            self.need |= Need::ACK;
        }
    }
}
