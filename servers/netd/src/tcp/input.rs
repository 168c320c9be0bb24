//! Segment arrives (RFC 9293 3.10.7, with the blind-attack defences of RFC 5961).

use super::recovery::Phase;
use super::{Conn, NEVER, Need, Outcome, Plan, Segment};
use crate::record;
use crate::wire::tcp::{Flags, Seq};
use libipc::sock::{Error, State, event};

impl Conn {
    /// Where the payload of a segment belongs. Copying it there before the segment is known to be
    /// intact is harmless beyond `rcv_nxt`, except over ranges that arrived earlier: see
    /// [`Conn::damaged`].
    pub fn plan(&self, seg: &Segment) -> Plan {
        let none = Plan { skip: 0, len: 0, at: 0 };
        let takes = matches!(
            self.state,
            State::SynReceived | State::Established | State::FinWait1 | State::FinWait2
        );
        if !takes || self.orphan || self.fin_taken || seg.flags.intersects(Flags::SYN | Flags::RST)
        {
            return if seg.len > 0 { self.plan_of_syn_ack(seg) } else { none };
        }
        let start = seg.seq.max(self.rcv_nxt);
        let mut end = (seg.seq + seg.len).min(self.rcv_adv);
        if let Some(fin) = self.peer_fin {
            end = end.min(fin);
        }
        // Half the space of numbers away from the window a segment lies on both sides of it.
        let skip = start - seg.seq;
        if !start.lt(end) || skip >= seg.len {
            return none;
        }
        let len = (end - start).min(seg.len - skip);
        Plan { skip, len, at: start - (self.irs + 1) }
    }

    /// A segment turned out to be damaged after its payload was stored by `plan`.
    pub fn damaged(&mut self, plan: Plan) {
        let start = self.irs + 1 + plan.at;
        self.ooo.forget(self.board.pool(), start, start + plan.len);
    }

    /// A segment has arrived; `plan.len` bytes of its payload are in the ring.
    pub fn segment(&mut self, seg: &Segment, plan: Plan, now: u64) -> Outcome {
        self.figures.received(seg.len);
        match self.state {
            State::Closed => Outcome::REFUSE,
            State::SynSent => self.in_syn_sent(seg, plan, now),
            _ => self.synchronised(seg, plan, now),
        }
    }

    /// RFC 9293 3.10.7.4.
    fn synchronised(&mut self, seg: &Segment, plan: Plan, now: u64) -> Outcome {
        if let Err(outcome) = self.validate(seg, now) {
            return outcome;
        }
        if self.orphan
            && self.state == State::FinWait2
            && let Err(outcome) = self.awaits_fin(seg)
        {
            return outcome;
        }
        let mut outcome = Outcome::empty();
        if self.state == State::SynReceived {
            if !self.iss.lt(seg.ack) || !seg.ack.le(self.max) {
                return Outcome::REFUSE;
            }
            self.update_window(seg);
            self.measure_handshake(seg, now);
            // Its ACK of our SYN counts below.
            outcome |= self.established(now);
            if !self.passive && seg.ack.lt(self.max) {
                self.syn_data_lost();
            }
        }
        if self.is_stray_ack(seg.ack) {
            self.challenge(now);
            return outcome | Outcome::CHALLENGED;
        }
        self.heard(now);
        self.note_timestamp(seg, now);
        outcome |= self.acknowledgment(seg, now);
        if self.state == State::Closed {
            return outcome;
        }
        if seg.flags.contains(Flags::SYN) {
            // The SYN-ACK of a simultaneous open; this tells its sender that it has arrived.
            self.need |= Need::ACK;
            self.twice = Some((seg.seq, seg.seq + 1));
            return outcome;
        }
        if seg.flags.contains(Flags::URG) {
            outcome |= self.urgent_in(seg);
        }
        outcome |= self.text(seg, plan, now);
        if seg.flags.contains(Flags::FIN) && self.state != State::Closed {
            outcome |= self.fin(seg);
        }
        if self.state != State::Closed && self.peer_fin == Some(self.rcv_nxt) {
            outcome |= self.take_fin(now);
        }
        outcome
    }

    /// The segment says FIN; its turn may come later.
    #[cold]
    fn fin(&mut self, seg: &Segment) -> Outcome {
        let fin = seg.seq + seg.len;
        if self.fin_taken || fin.lt(self.rcv_nxt) {
            // Our ACK of it was lost, or it is none that we know.
            if fin.lt(self.rcv_nxt) && self.state != State::TimeWait {
                self.need |= Need::ACK;
            }
        } else if self.deaf && self.is_refused(seg) {
            // There is text before it that nobody will ever read.
            let told = (!self.orphan).then_some(Error::ConnectionReset);
            return self.end(told) | Outcome::REFUSE;
        } else if self.rcv_nxt.le(fin) && fin.le(self.rcv_adv) {
            self.peer_fin = Some(fin);
            if seg.len == 0 && self.rcv_nxt.lt(fin) {
                // Out of order, as text would be.
                self.need |= Need::ACK;
            }
        }
        Outcome::empty()
    }

    pub(super) fn update_window(&mut self, seg: &Segment) {
        self.wnd = (seg.window as u32) << self.snd_shift;
        if self.max_wnd < self.wnd {
            self.raise_max_window();
        }
        self.wl1 = seg.seq;
    }

    /// The text: RFC 9293 3.10.7.4 seventh. It is in the ring already; here it begins to count.
    fn text(&mut self, seg: &Segment, plan: Plan, now: u64) -> Outcome {
        if seg.len == 0 {
            return Outcome::empty();
        }
        if self.deaf && self.is_refused(seg) {
            // RFC 1122 4.2.2.13: nobody will ever read it, and the peer should know.
            let told = (!self.orphan).then_some(Error::ConnectionReset);
            return self.end(told) | Outcome::REFUSE;
        }
        if plan.len == 0 {
            if self.fin_taken && self.rcv_nxt.le(seg.seq) {
                return Outcome::AFTER_FIN;
            }
            self.note_duplicate(seg);
            self.need |= Need::ACK;
            return Outcome::empty();
        }
        if plan.skip > 0 {
            self.note_duplicate(seg);
        }
        if self.ecn() {
            self.ecn_in(seg);
        }
        let start = self.irs + 1 + plan.at;
        let end = start + plan.len;
        if start != self.rcv_nxt {
            // Out of order (RFC 5681 4.2: say so at once).
            self.out_of_order(start, end);
            return Outcome::empty();
        }
        let gap = !self.ooo.is_empty();
        let end = self.ooo.advance(self.board.pool(), end);
        let outcome = self.text_until(end, seg, now);
        if gap {
            self.need |= Need::ACK;
        }
        outcome
    }

    /// The text up to `end` is there.
    pub(super) fn text_until(&mut self, end: Seq, seg: &Segment, now: u64) -> Outcome {
        self.rcv_nxt = end;
        // After the payload, before the ACK: this store is the promise, and it is what the
        // program sees.
        self.publish_rcv();
        self.window_in(seg, now);
        self.schedule_ack(seg.len, seg.flags, now);
        Outcome::READY
    }

    /// Beyond a hole (RFC 5681 4.2: say so at once).
    #[cold]
    fn out_of_order(&mut self, start: Seq, end: Seq) {
        self.recovery.tally.out_of_order += 1;
        if self.keeps(start, end) {
            match self.ooo.insert(self.board.pool(), start, end) {
                Ok(twice) => self.twice = twice.or(self.twice),
                Err(_) => self.not_kept(),
            }
        }
        self.duplicate_acks = self.duplicate_acks.saturating_add(1).min(64);
    }

    /// Some of the segment has been taken before (RFC 2883 4).
    #[cold]
    pub(super) fn note_duplicate(&mut self, seg: &Segment) {
        let (start, end) = (seg.seq, (seg.seq + seg.len).min(self.rcv_nxt));
        if start.lt(end) {
            self.hurry_acks();
            self.twice = Some((start, end));
        }
    }

    /// The peer's FIN, in its turn: RFC 9293 3.10.7.4 eighth.
    pub(super) fn take_fin(&mut self, now: u64) -> Outcome {
        self.rcv_nxt = self.rcv_nxt + 1;
        self.rcv_adv = self.rcv_adv.max(self.rcv_nxt);
        self.fin_taken = true;
        self.peer_fin = None;
        self.publish_rcv();
        record::add_events(self.rec, event::PEER_FIN);
        match self.state {
            // The program is about to end its direction, too, and its FIN takes the ACK along.
            State::Established => {
                self.enter(State::CloseWait);
                self.delay_ack_of_fin(now);
                return Outcome::READY;
            }
            State::FinWait1 => self.enter(State::Closing),
            State::FinWait2 => {
                self.need |= Need::ACK;
                return self.enter_time_wait();
            }
            _ => {}
        }
        self.need |= Need::ACK;
        Outcome::READY
    }

    /// An ICMP error speaks of this connection (RFC 5461): hard during the handshake, soft after.
    pub fn unreachable(&mut self, error: Error, now: u64) -> Outcome {
        match self.state {
            State::SynSent => self.end(Some(error)),
            _ => {
                self.doubt(error);
                self.stalled(now)
            }
        }
    }

    /// What was to be sent could not leave: the retransmission timer tries again.
    pub fn stalled(&mut self, now: u64) -> Outcome {
        if self.rto_at == NEVER && self.state != State::Closed {
            self.rto_at = now + self.rtt.rto();
        }
        Outcome::empty()
    }

    /// The path carries at most `mtu` bytes (RFC 1191, RFC 5927 7.2).
    pub fn too_big(&mut self, mtu: u16) -> Outcome {
        if self.state == State::SynSent {
            self.syn_too_big(mtu);
        }
        let mss =
            (mtu as u32).saturating_sub(self.config.headers as u32).max(512) - self.overhead();
        if self.is_synchronised() && mss < self.carries as u32 {
            let mss = self.cut_to(mss);
            // Nothing that large arrives: it goes out again in smaller segments.
            self.board.judge(|n| n.size as u32 > mss && n.bytes() > mss);
            self.board.set_size(mss as u16);
            if self.board.lost.bytes > 0 && self.recovery.phase != Phase::Loss {
                // That tells nothing of congestion.
                (self.recovery.phase, self.recovery.high) = (Phase::Loss, self.max);
                (self.recovery.undo, self.recovery.forward) = (None, false);
            }
        }
        Outcome::empty()
    }
}
