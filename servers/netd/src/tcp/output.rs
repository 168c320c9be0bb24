//! What to send next.

use super::{Conn, NEVER, Need};
use crate::wire::tcp::{Blocks, Flags, Options, Seq};
use libipc::sock::{State, option};

/// Fewest segments in one piece for the NIC (more than a connection begins with), most, and the least
/// MSS with which there are such.
pub(super) const MIN_SEGMENTS: u32 = 11;
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
    /// ECN field of its IP header ([`super::ecn::field`]).
    pub ecn: u8,
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
        if !self.may_send() {
            let challenge = self.state == State::SynReceived && self.need.contains(Need::ACK);
            return challenge.then(|| self.emit(self.max, 0, false, self.mss, now));
        }
        // Each duplicate ACK is a message of its own: it says that a segment has left the network.
        if self.duplicate_acks > 0 {
            self.duplicate_acks -= 1;
            return Some(self.emit(self.ack_seq(), 0, false, self.mss, now));
        }
        if let Some(out) = self.data(now, burst) {
            return Some(out);
        }
        self.need.contains(Need::ACK).then(|| self.emit(self.ack_seq(), 0, false, self.mss, now))
    }

    /// Sequence number of a segment that takes none: the peer must find it acceptable, or it would
    /// not read the ACK. Not beyond the window, which a probe may be.
    pub(super) fn ack_seq(&self) -> Seq {
        self.max.min(self.una + self.wnd).max(self.una)
    }

    /// A turn of sending is over: how much of the window is in use.
    #[inline]
    pub fn turn_over(&mut self, now: u64) {
        self.note_pace(now);
        if self.una.lt(self.max) && self.is_synchronised() {
            if self.is_modelled() {
                return self.model_turn_over();
            }
            let (flight, rtt) = (self.pipe(), &self.rtt);
            self.cc.on_sent(flight, self.una, self.max, || rtt.rto(), now);
        }
    }

    /// Whether [`Conn::next_segment`] may have something.
    #[inline(always)]
    pub fn wants_output(&self) -> bool {
        !self.need.is_empty()
            || self.duplicate_acks > 0
            || self.max.lt(self.tail)
            || self.board.lost.bytes > self.board.resent.bytes
            || self.fin_pending()
    }

    /// Whether [`Conn::next_segment`] would have nothing, and nothing would change by asking.
    #[inline]
    pub fn has_no_more(&self) -> bool {
        !self.paces() && !self.wants_output()
    }

    #[inline]
    pub(super) fn fin_pending(&self) -> bool {
        self.fin.is_some_and(|fin| self.max.le(fin)) && self.may_send()
    }

    /// A segment with data or FIN, if one may be sent.
    fn data(&mut self, now: u64, burst: u32) -> Option<Out> {
        let end = self.fin.unwrap_or(self.tail);
        let avail = if self.max.lt(end) { end - self.max } else { 0 };
        if self.need.intersects(Need::PROBE | Need::TAIL)
            && let Some(out) = self.probe(avail, now)
        {
            return Some(out);
        }
        let paces = self.paces();
        if paces && self.paced(now) {
            return None;
        }
        if self.board.lost.bytes > 0
            && !self.recovery.new_first
            && let Some(out) = self.repair(now)
        {
            return Some(out);
        }
        if self.need.contains(Need::KEEP) {
            self.need.remove(Need::KEEP);
            return Some(self.ask(now));
        }
        if avail > 0 {
            self.note_idle(now);
        }
        if self.search.is_on()
            && let Some(tried) = self.try_larger(avail, now)
        {
            return tried;
        }
        let (granted, room) = self.room();
        let size = self.segment_size();
        let burst = if paces { self.paced_burst(burst) } else { burst };
        let most = room.min(burst).min(MAX_SEGMENTS * size);
        // The NIC would repeat the urgent pointer as it is.
        let most = if self.urgent.is_some() { 0 } else { most };
        let long = avail.min(most) >= MIN_SEGMENTS * size;
        if long && !self.ecn_single() && size >= MIN_BURST_MSS {
            return Some(self.burst(avail, most, size, now));
        }
        let len = avail.min(room).min(size);
        let last = len == avail;
        // It takes a number, too, which the window must have.
        let fin = last && self.is_fin(self.max + len) && len < granted;
        if (len == 0 && !fin) || (len < size && !fin && !self.small_goes(len, last)) {
            if avail > 0 || self.fin_pending() {
                self.arm_persist(now);
            }
            return None;
        }
        Some(self.emit(self.max, len, fin, size, now))
    }

    /// There is text to send: if nothing is in flight, the window may be from long ago.
    #[inline]
    pub(super) fn note_idle(&mut self, now: u64) {
        if self.una == self.max && self.wnd > 0 {
            let rtt = &self.rtt;
            self.cc.on_idle(now.saturating_sub(self.last_sent), || rtt.rto(), now);
        }
    }

    /// Bytes beyond what was sent that the peer's window allows, and that the congestion window does, too.
    #[inline]
    pub(super) fn room(&self) -> (u32, u32) {
        let granted = self.una + self.wnd;
        let granted = if self.max.lt(granted) { granted - self.max } else { 0 };
        (granted, granted.min(self.cc.window().saturating_sub(self.pipe())))
    }

    /// Bytes of a segment with data: SACK blocks take some of the room.
    fn segment_size(&self) -> u32 {
        if self.ooo.is_empty() && self.twice.is_none() { self.mss } else { self.size_with_blocks() }
    }

    #[cold]
    fn size_with_blocks(&self) -> u32 {
        let most = if self.timed() { 3 } else { 4 };
        let blocks = (self.ooo.len() + self.twice.is_some() as u32).min(most);
        if self.sacks() { self.mss.saturating_sub(4 + 8 * blocks).max(8) } else { self.mss }
    }

    /// A probe of a closed window, or of the tail (RFC 8985 7.3), whatever the windows say.
    #[cold]
    fn probe(&mut self, avail: u32, now: u64) -> Option<Out> {
        let closed = self.need.contains(Need::PROBE);
        self.need.remove(Need::PROBE | Need::TAIL);
        let granted = self.una + self.wnd;
        let open = if self.max.lt(granted) { granted - self.max } else { 0 };
        if closed {
            if self.una.lt(self.max) {
                let (seq, len) = (self.una, (self.max - self.una).min(self.mss));
                return Some(self.again(seq, len, now));
            }
            if open == 0 {
                return Some(self.ask(now));
            }
            let len = avail.min(open).min(self.segment_size());
            let fin = self.is_fin(self.max + len);
            if len == 0 && !fin {
                return None;
            }
            let out = self.emit(self.max, len, fin, self.segment_size(), now);
            // Nothing follows it.
            return Some(Out { flags: out.flags | Flags::PSH, ..out });
        }
        let len = avail.min(self.segment_size());
        if avail > 0 && len <= open {
            let out =
                self.emit(self.max, len, self.is_fin(self.max + len), self.segment_size(), now);
            self.probed(false);
            return Some(out);
        }
        let (start, end) = self.board.last_segment()?;
        let out = self.segment_again(start, end, now);
        self.board.probed(start, end, now);
        self.probed(true);
        Some(out)
    }

    /// The first segment that is lost, if the window allows it.
    #[cold]
    fn repair(&mut self, now: u64) -> Option<Out> {
        let lost = self.board.next_lost()?;
        let granted = self.una + self.wnd;
        if lost.start != self.una && !lost.start.lt(granted) {
            return None;
        }
        let len = lost.bytes().min((lost.size as u32).min(self.mss).max(1));
        if self.pipe() + len > self.cc.window() && self.pipe() > 0 {
            return None;
        }
        if lost.bytes() == len && len < self.mss && self.urgent.is_none() {
            return Some(self.repair_small(&lost, granted, now));
        }
        Some(self.again(lost.start, len, now))
    }

    /// Sends `len` bytes from `seq` again.
    pub(super) fn again(&mut self, seq: Seq, len: u32, now: u64) -> Out {
        let end = seq + len;
        // The FIN goes with the last byte before it.
        let end = if self.is_fin(end) && end.lt(self.max) { end + 1 } else { end };
        let out = self.segment_again(seq, end, now);
        self.board.resent(seq, end, now);
        self.recovery.resends(end - seq, now);
        if self.recovery.reduces() {
            self.recovery.sent += end - seq;
        }
        if seq == self.una {
            self.rto_at = self.within_user_timeout(now + self.rtt.rto());
        }
        out
    }

    fn segment_again(&mut self, seq: Seq, end: Seq, now: u64) -> Out {
        let fin = self.fin.is_some_and(|fin| end == fin + 1);
        let out = self.emit(seq, end - seq - fin as u32, fin, self.segment_size(), now);
        // What is shorter than others ended what the program wrote.
        let short = if out.len > 0 && out.len < self.mss { Flags::PSH } else { Flags::empty() };
        Out { flags: out.flags | short, ..out }
    }

    /// More than one segment in one piece: of `avail` bytes at most `most`, whole segments unless
    /// it is the rest.
    ///
    /// It never ends at the border of a segment: QEMU's model sends an empty segment after a
    /// payload that does, which a peer with data in flight takes for a duplicate ACK. Nor just
    /// behind one: it does not pad frames. So the last segment is a byte short, or, if that would
    /// leave a byte behind, all are shorter.
    fn burst(&mut self, avail: u32, most: u32, size: u32, now: u64) -> Out {
        let mut len = avail.min(most);
        let mut segment = size;
        let rest = len % segment;
        let last = len == avail;
        let end = self.max + len;
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
        let fin = len == avail && len < most && self.is_fin(self.max + len);
        let out = self.emit(self.max, len, fin, segment, now);
        Out { segment: segment as u16, flags: out.flags | Flags::PSH, ..out }
    }

    /// A segment that the peer must answer although it takes no number (RFC 9293 3.8.4): as Linux's
    /// probes of a closed window, too, which offer no byte that would be refused.
    #[cold]
    fn ask(&mut self, now: u64) -> Out {
        self.emit(self.una - 1, 0, false, self.mss, now)
    }

    /// Whether a segment that ends at `end` carries our FIN.
    fn is_fin(&self, end: Seq) -> bool {
        self.fin == Some(end)
    }

    /// Sender's silly window avoidance and Nagle's algorithm (RFC 9293 3.8.6.2.1) for a segment of
    /// less than MSS.
    pub(super) fn small_goes(&self, len: u32, last: bool) -> bool {
        // Minshall's variant: only a small segment in flight holds back the next small one.
        let nagle = self.nagle() && self.una.lt(self.small) && self.una.lt(self.max);
        let nagle = (nagle || self.corked()) && self.urgent.is_none();
        (last && !nagle) || (self.max_wnd > 1 && len >= self.max_wnd / 2)
    }

    /// The options of a segment with `len` bytes.
    fn options(&mut self, len: u32, now: u64) -> Options {
        let timestamps = self.timestamps(now);
        if self.ooo.is_empty() && self.twice.is_none() {
            return Options { timestamps, ..Options::NONE };
        }
        Options { timestamps, sack: self.blocks(len), ..Options::NONE }
    }

    /// What arrived twice first (RFC 2883 4), then the newest of what waits for a hole to be filled (RFC 2018
    /// 4); as many as have room.
    #[cold]
    fn blocks(&mut self, len: u32) -> Blocks {
        let mut blocks = Blocks::NONE;
        let room = (self.mss.saturating_sub(len + 4) / 8) as usize;
        if self.sacks() && room > 0 {
            if let Some((start, end)) = self.twice.take() {
                blocks.push(start, end);
            }
            self.ooo.blocks(self.board.pool(), &mut blocks, room);
        }
        blocks
    }

    /// A segment; new data counts as sent, in segments of `size` bytes.
    pub(super) fn emit(&mut self, seq: Seq, len: u32, fin: bool, size: u32, now: u64) -> Out {
        let window = self.window();
        let end = seq + len + fin as u32;
        let again = seq.lt(self.max) && seq != end;
        self.figures.sent(len, size, again);
        let mut flags = Flags::ACK;
        if fin {
            flags |= Flags::FIN;
        }
        if len > 0 && seq + len == self.tail && !self.opts().has(option::MORE) {
            flags |= Flags::PSH;
        }
        let mut ecn = 0;
        if self.ecn() {
            let bits;
            (bits, ecn) = self.ecn_out(len > 0 && !again);
            flags |= bits;
        }
        if seq != end {
            if self.is_modelled() {
                self.model_sent(self.una == self.max, now);
            }
            let new = self.max;
            if new.lt(end) {
                flags |= self.text_leaves(end, len, size, fin, now);
                if self.recovery.reduces() {
                    self.recovery.sent += end - new;
                }
            }
            self.text_left(again, now);
            if self.paces() {
                self.pace(len, now);
            }
        }
        let mut urgent = 0;
        if let Some(to) = self.urgent
            && let Some((urg, pointer)) = self.urgent_out(seq, to)
        {
            (flags, urgent) = (flags | urg, pointer);
        }
        self.ack_leaves();
        Out {
            seq,
            ack: self.rcv_nxt,
            flags,
            window,
            urgent,
            options: self.options(len, now),
            ecn,
            at: self.send_position(seq),
            len,
            segment: 0,
            again,
        }
    }

    /// New numbers up to `end` leave, with `len` bytes in segments of `size`: PSH if that ends a train of them.
    #[inline(always)]
    pub(super) fn text_leaves(
        &mut self,
        end: Seq,
        len: u32,
        size: u32,
        fin: bool,
        now: u64,
    ) -> Flags {
        let new = core::mem::replace(&mut self.max, end);
        // Before the segment leaves: the peer may acknowledge this much.
        self.publish_snd();
        let together = self.board.sent(new, end, size as u16, fin, now);
        let ends = together > 1 && len > 0 && self.ends_train(together, size);
        if len > 0 && len < size {
            self.small = end;
        }
        if ends { Flags::PSH } else { Flags::empty() }
    }

    /// A segment that takes numbers has left; `again`: not for the first time.
    #[inline(always)]
    pub(super) fn text_left(&mut self, again: bool, now: u64) {
        if self.rto_at == NEVER {
            self.rto_at = now + self.rtt.rto();
        }
        if !again {
            self.arm_probe(now);
        }
        self.last_sent = now;
        self.answers(now);
    }

    /// A segment acknowledges what has come.
    #[inline(always)]
    pub(super) fn ack_leaves(&mut self) {
        self.account();
        self.delay.sent(self.acked != self.rcv_nxt);
        self.need.remove(Need::ACK);
        self.acked = self.rcv_nxt;
        self.ack_at = NEVER;
    }
}
