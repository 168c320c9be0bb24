//! What to send next.

use super::{Conn, NEVER, Need};
use crate::wire::tcp::{Flags, Options, Seq};
use libipc::sock::State;

/// Fewest segments in one piece for the NIC (more than a connection begins with), most, and the least
/// MSS with which there are such.
const MIN_SEGMENTS: u32 = 11;
const MAX_SEGMENTS: u32 = 44;
const MIN_BURST_MSS: u32 = 256;
/// Payload below which a frame would be too short.
const MIN_REST: u32 = 6;

/// A segment to send. Its payload is `len` bytes of the send ring from position `at` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Out {
    /// Sequence number.
    pub seq: Seq,
    /// Acknowledgment number.
    pub ack: Seq,
    /// Control bits.
    pub flags: Flags,
    /// Window field.
    pub window: u16,
    /// Urgent pointer; with [`Flags::URG`].
    pub urgent: u16,
    /// Options.
    pub options: Options,
    /// Position of the payload in the stream, modulo 2^32.
    pub at: u32,
    /// Bytes of payload.
    pub len: u32,
    /// The NIC is to cut it into segments of this many bytes; 0: it is one.
    pub segment: u16,
    /// Whether any of it was sent before.
    pub again: bool,
}

impl Conn {
    /// The next segment, already counted as sent (in the record, too). `None`: nothing now. With
    /// `burst` new data may come as one piece of so many bytes that the NIC cuts into segments.
    pub fn next_segment(&mut self, now: u64, burst: u32) -> Option<Out> {
        if self.need.contains(Need::SYN) {
            return Some(self.syn(now));
        }
        if !self.is_synchronised() {
            let challenge = self.state == State::SynReceived && self.need.contains(Need::ACK);
            return challenge.then(|| self.emit(self.max, 0, false, now));
        }
        // Each duplicate ACK is a message of its own: it says that a segment has left the network.
        if self.duplicate_acks > 0 {
            self.duplicate_acks -= 1;
            return Some(self.emit(self.ack_seq(), 0, false, now));
        }
        if let Some(out) = self.data(now, burst) {
            return Some(out);
        }
        self.need.contains(Need::ACK).then(|| self.emit(self.ack_seq(), 0, false, now))
    }

    /// Sequence number of a segment that takes none: the peer must find it acceptable, or it would
    /// not read the ACK. Not `nxt`, which goes back when something is sent again (two sides that
    /// both do would never hear each other); not beyond the window, which a probe may be.
    fn ack_seq(&self) -> Seq {
        self.max.min(self.una + self.wnd).max(self.una)
    }

    /// A turn of sending is over: how much of the window is in use.
    pub fn turn_over(&mut self, now: u64) {
        if self.una.lt(self.max) && self.is_synchronised() {
            self.cc.on_sent(self.max - self.una, self.una, self.max, self.rtt.rto(), now);
        }
    }

    /// Whether [`Conn::next_segment`] may have something.
    pub fn wants_output(&self) -> bool {
        !self.need.is_empty()
            || self.duplicate_acks > 0
            || self.nxt.lt(self.tail)
            || self.fin_pending()
    }

    fn fin_pending(&self) -> bool {
        self.fin.is_some_and(|fin| self.nxt.le(fin)) && self.is_synchronised()
    }

    /// A segment with data or FIN, if one may be sent.
    fn data(&mut self, now: u64, burst: u32) -> Option<Out> {
        let end = self.fin.unwrap_or(self.tail);
        if self.need.contains(Need::RESEND) {
            self.need.remove(Need::RESEND);
            if self.una.lt(self.max) {
                let len = if self.una.lt(end) { (end - self.una).min(self.mss) } else { 0 };
                let len = len.min(self.max - self.una);
                return Some(self.emit(self.una, len, self.is_fin(self.una + len), now));
            }
        }
        let avail = if self.nxt.lt(end) { end - self.nxt } else { 0 };
        if self.need.contains(Need::PROBE) {
            self.need.remove(Need::PROBE);
            if avail > 0 {
                // What the window holds, and at least a byte (RFC 9293 3.8.6.1).
                let open = (self.una + self.wnd) - self.nxt;
                let open = if self.nxt.lt(self.una + self.wnd) { open } else { 1 };
                let len = avail.min(open).min(self.mss);
                return Some(self.emit(self.nxt, len, self.is_fin(self.nxt + len), now));
            }
        }
        if self.una == self.max && avail > 0 {
            // Nothing is in flight, something is about to be.
            self.cc.on_idle(now.saturating_sub(self.last_sent), self.rtt.rto(), now);
        }
        let limited = self.recovery.limited(self.mss);
        let limit = self.una + self.wnd.min(self.cc.window().saturating_add(limited));
        let room = if self.nxt.lt(limit) { limit - self.nxt } else { 0 };
        let most = room.min(burst).min(MAX_SEGMENTS * self.mss);
        let long = avail.min(most) >= MIN_SEGMENTS * self.mss;
        if long && self.nxt == self.max && self.mss >= MIN_BURST_MSS {
            return Some(self.burst(avail, most, now));
        }
        let len = avail.min(room).min(self.mss);
        let last = len == avail;
        let fin = last && self.is_fin(self.nxt + len);
        if len == 0 && !fin {
            self.arm_persist(avail, now);
            return None;
        }
        if len < self.mss && !fin && !self.small_goes(len, last) {
            self.arm_persist(avail, now);
            return None;
        }
        Some(self.emit(self.nxt, len, fin, now))
    }

    /// More than one segment in one piece: of `avail` bytes at most `most`, whole segments unless
    /// it is the rest.
    ///
    /// It never ends at the border of a segment: QEMU's model sends an empty segment after a
    /// payload that does, which a peer with data in flight takes for a duplicate ACK. Nor just
    /// behind one: it does not pad frames. So the last segment is a byte short, or, if that would
    /// leave a byte behind, all are shorter.
    fn burst(&mut self, avail: u32, most: u32, now: u64) -> Out {
        let mut len = avail.min(most);
        let mut segment = self.mss;
        let rest = len % segment;
        let last = len == avail;
        let end = self.nxt + len;
        if last && (rest == 0 || self.is_fin(end) || self.small_goes(rest, true)) {
            if rest < MIN_REST {
                // The last one is at least MIN_BURST_MSS / 2 long then.
                segment = len / (len / segment + 1) + 1;
            }
            if rest > 0 {
                self.small = end;
            }
        } else {
            len -= rest + 1;
        }
        let fin = len == avail && self.is_fin(self.nxt + len);
        Out { segment: segment as u16, ..self.emit(self.nxt, len, fin, now) }
    }

    /// Whether a segment that ends at `end` carries our FIN.
    fn is_fin(&self, end: Seq) -> bool {
        self.fin == Some(end)
    }

    /// Sender's silly window avoidance and Nagle's algorithm (RFC 9293 3.8.6.2.1) for a segment of
    /// less than MSS.
    fn small_goes(&self, len: u32, last: bool) -> bool {
        let again = self.nxt.lt(self.max);
        // Minshall's variant: only a small segment in flight holds back the next small one.
        let nagle = self.nagle() && self.una.lt(self.small) && self.una.lt(self.nxt);
        again || (last && !nagle) || (self.max_wnd > 1 && len >= self.max_wnd / 2)
    }

    /// With data to send, nothing in flight, and a window that does not let it go, only the timer
    /// can break the silence.
    fn arm_persist(&mut self, avail: u32, now: u64) {
        if avail > 0 && self.una == self.nxt && self.rto_at == NEVER {
            self.rto_at = now + self.rtt.rto();
        }
    }

    /// The window field, moving the advertised right edge as far as that avoids silly windows
    /// (RFC 9293 3.8.6.2.2), never back.
    pub(super) fn window(&mut self) -> u16 {
        let edge = self.right_edge();
        if self.rcv_adv.lt(edge) && !self.fin_taken {
            // Only whole units of the scale can be said.
            let window = (edge - self.rcv_nxt) >> self.rcv_shift << self.rcv_shift;
            let edge = self.rcv_nxt + window;
            let useful = (self.config.mss as u32).min(self.rx_size / 2);
            if self.rcv_adv.lt(edge) && edge - self.rcv_adv >= useful {
                self.rcv_adv = edge;
                // Before the segment leaves: this much is promised.
                self.publish_rcv();
            }
        }
        ((self.rcv_adv - self.rcv_nxt) >> self.rcv_shift).min(0xffff) as u16
    }

    fn emit(&mut self, seq: Seq, len: u32, fin: bool, now: u64) -> Out {
        let window = self.window();
        let end = seq + len + fin as u32;
        let again = seq.lt(self.max) && seq != end;
        let mut flags = Flags::ACK;
        if fin {
            flags |= Flags::FIN;
        }
        if len > 0 && seq + len == self.tail {
            flags |= Flags::PSH;
        }
        if seq != end {
            if again {
                self.rtt.sent_again();
            } else {
                self.rtt.sent(end, now);
            }
            if self.max.lt(end) {
                self.max = end;
                // Before the segment leaves: the peer may acknowledge this much.
                self.publish_snd();
            }
            self.nxt = self.nxt.max(end);
            if len > 0 && len < self.mss {
                self.small = end;
            }
            if self.rto_at == NEVER {
                self.rto_at = now + self.rtt.rto();
            }
            self.last_sent = now;
        }
        self.need.remove(Need::ACK);
        self.acked = self.rcv_nxt;
        self.unacked = 0;
        self.ack_at = NEVER;
        Out {
            seq,
            ack: self.rcv_nxt,
            flags,
            window,
            urgent: 0,
            options: Options { timestamps: self.timestamps(now), ..Options::NONE },
            at: self.send_position(seq),
            len,
            segment: 0,
            again,
        }
    }
}
