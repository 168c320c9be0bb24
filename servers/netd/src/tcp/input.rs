//! Segment arrives (RFC 9293 3.10.7, with the blind-attack defences of RFC 5961).

use super::recovery::{OnAck, OnDuplicate};
use super::{ACK_DELAY_NS, Ack, Conn, NEVER, Need, Outcome, Plan, Segment, timers};
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
            return none;
        }
        let start = seg.seq.max(self.rcv_nxt);
        let mut end = (seg.seq + seg.len).min(self.rcv_adv);
        if let Some(fin) = self.peer_fin {
            end = end.min(fin);
        }
        if !start.lt(end) {
            return none;
        }
        Plan { skip: start - seg.seq, len: end - start, at: start - (self.irs + 1) }
    }

    /// A segment turned out to be damaged after its payload was stored by `plan`.
    pub fn damaged(&mut self, plan: Plan) {
        let start = self.irs + 1 + plan.at;
        self.ooo.forget(start, start + plan.len);
    }

    /// A segment has arrived; `plan.len` bytes of its payload are in the ring.
    pub fn segment(&mut self, seg: &Segment, plan: Plan, now: u64) -> Outcome {
        match self.state {
            State::Closed => Outcome::REFUSE,
            State::SynSent => self.in_syn_sent(seg, now),
            _ => self.synchronised(seg, plan, now),
        }
    }

    /// RFC 9293 3.10.7.4.
    fn synchronised(&mut self, seg: &Segment, plan: Plan, now: u64) -> Outcome {
        if let Err(outcome) = self.validate(seg, now) {
            return outcome;
        }
        let mut outcome = Outcome::empty();
        if self.state == State::SynReceived {
            if !self.una.lt(seg.ack) || !seg.ack.le(self.max) {
                return Outcome::REFUSE;
            }
            self.update_window(seg);
            // Its ACK of our SYN counts below.
            outcome |= self.established(now);
        }
        if self.is_stray_ack(seg.ack) {
            self.challenge(now);
            return outcome | Outcome::CHALLENGED;
        }
        self.note_timestamp(seg, now);
        outcome |= self.acknowledgment(seg, now);
        if self.state == State::Closed {
            return outcome;
        }
        if seg.flags.contains(Flags::SYN) {
            // The SYN-ACK of a simultaneous open; this tells its sender that it has arrived.
            self.need |= Need::ACK;
            return outcome;
        }
        outcome |= self.text(seg, plan, now);
        if seg.flags.contains(Flags::FIN) && self.state != State::Closed {
            outcome |= self.fin(seg);
        }
        if self.state != State::Closed && self.peer_fin == Some(self.rcv_nxt) {
            outcome |= self.take_fin();
        }
        outcome
    }

    /// The segment says FIN; its turn may come later.
    #[cold]
    fn fin(&mut self, seg: &Segment) -> Outcome {
        let fin = seg.seq + seg.len;
        if self.fin_taken {
            // Our ACK of it was lost.
            if fin.lt(self.rcv_nxt) && self.state != State::TimeWait {
                self.need |= Need::ACK;
            }
        } else if self.orphan && self.state == State::FinWait2 && self.rcv_nxt.lt(fin) {
            // There is text before it that nobody will ever read.
            return self.end(None) | Outcome::REFUSE;
        } else if self.rcv_nxt.le(fin) && fin.le(self.rcv_adv) {
            self.peer_fin = Some(fin);
        }
        Outcome::empty()
    }

    fn update_window(&mut self, seg: &Segment) {
        self.wnd = (seg.window as u32) << self.snd_shift;
        self.max_wnd = self.max_wnd.max(self.wnd);
        (self.wl1, self.wl2) = (seg.seq, seg.ack);
    }

    /// The ACK field: RFC 9293 3.10.7.4 fifth, RFC 5681, RFC 6582.
    fn acknowledgment(&mut self, seg: &Segment, now: u64) -> Outcome {
        let mut outcome = Outcome::empty();
        let old_window = self.wnd;
        if self.wl1.lt(seg.seq) || (self.wl1 == seg.seq && self.wl2.le(seg.ack)) {
            self.update_window(seg);
        }
        if self.wnd == 0 {
            // RFC 9293 3.8.6.1: a peer that answers probes keeps the connection.
            self.retries = 0;
        } else if old_window == 0 {
            // The window has opened: what the probes sent was refused, begin with it.
            self.nxt = self.una;
            self.rto_at = NEVER;
        }
        if self.una.lt(seg.ack) {
            outcome |= self.new_ack(seg.ack, now);
        } else if seg.ack == self.una && self.una.lt(self.max) {
            let same = seg.space() == 0 && self.wnd == old_window && self.wnd != 0;
            if same
                && self.recovery.on_duplicate(&mut self.cc, self.una, self.max, self.mss)
                    == OnDuplicate::Retransmit
            {
                self.need |= Need::RESEND;
            }
        }
        outcome
    }

    fn new_ack(&mut self, ack: Seq, now: u64) -> Outcome {
        let mut outcome = Outcome::empty();
        let flight = self.max - self.una;
        let full = self.unsent() > self.tx_size - self.tx_size / 4;
        let acked = ack - self.una;
        self.una = ack;
        self.nxt = self.nxt.max(ack);
        let rtt = self.rtt.acked(ack, now);
        self.retries = 0;
        match self.recovery.on_ack(&mut self.cc, acked, ack, flight, self.mss) {
            OnAck::Grow => {
                let (max, srtt) = (self.max, self.rtt.srtt());
                self.cc.on_ack(&Ack { acked, una: ack, max, rtt, srtt, now });
            }
            OnAck::Partial => self.need |= Need::RESEND,
            OnAck::Full => {}
        }
        // Before space is freed: this store frees it.
        self.publish_snd();
        if (full && self.unsent() <= self.tx_size - self.tx_size / 4) || self.unsent() == 0 {
            outcome |= Outcome::READY;
        }
        // RFC 6298 (5.2), (5.3).
        self.rto_at = if self.una == self.max { NEVER } else { now + self.rtt.rto() };
        if self.orphan {
            self.misc_at = now + timers::ORPHAN_NS;
        }
        if self.fin.is_some_and(|fin| fin.lt(ack)) {
            outcome |= match self.state {
                State::FinWait1 => {
                    self.enter(State::FinWait2);
                    Outcome::READY
                }
                State::Closing => self.enter_time_wait(),
                State::LastAck => self.end(None),
                _ => Outcome::empty(),
            };
        }
        outcome
    }

    /// The text: RFC 9293 3.10.7.4 seventh. It is in the ring already; here it begins to count.
    fn text(&mut self, seg: &Segment, plan: Plan, now: u64) -> Outcome {
        if seg.len == 0 {
            return Outcome::empty();
        }
        if self.orphan && !self.fin_taken && self.rcv_nxt.lt(seg.seq + seg.len) {
            // RFC 1122 4.2.2.13: nobody will ever read it, and the peer should know.
            return self.end(None) | Outcome::REFUSE;
        }
        if plan.len == 0 {
            if self.fin_taken && self.rcv_nxt.le(seg.seq) {
                return Outcome::AFTER_FIN;
            }
            self.need |= Need::ACK;
            return Outcome::empty();
        }
        let start = self.irs + 1 + plan.at;
        let end = start + plan.len;
        if start != self.rcv_nxt {
            // Out of order (RFC 5681 4.2: say so at once).
            self.ooo.insert(start, end);
            self.duplicate_acks = self.duplicate_acks.saturating_add(1).min(64);
            return Outcome::empty();
        }
        let gap = !self.ooo.is_empty();
        self.rcv_nxt = self.ooo.advance(end);
        // After the payload, before the ACK: this store is the promise, and it is what the
        // program sees.
        self.publish_rcv();
        self.unacked = self.unacked.saturating_add(1);
        if gap || self.unacked >= 2 {
            self.need |= Need::ACK;
        } else if self.ack_at == NEVER {
            self.ack_at = now + ACK_DELAY_NS;
        }
        Outcome::READY
    }

    /// The peer's FIN, in its turn: RFC 9293 3.10.7.4 eighth.
    fn take_fin(&mut self) -> Outcome {
        self.rcv_nxt = self.rcv_nxt + 1;
        self.rcv_adv = self.rcv_adv.max(self.rcv_nxt);
        self.fin_taken = true;
        self.peer_fin = None;
        self.publish_rcv();
        record::add_events(self.rec, event::PEER_FIN);
        self.need |= Need::ACK;
        match self.state {
            State::FinWait1 => self.enter(State::Closing),
            State::FinWait2 => return self.enter_time_wait(),
            State::Established => self.enter(State::CloseWait),
            _ => {}
        }
        Outcome::READY
    }

    /// An ICMP error speaks of this connection (RFC 5461): hard during the handshake, soft after.
    pub fn unreachable(&mut self, error: Error, now: u64) -> Outcome {
        match self.state {
            State::SynSent => self.end(Some(error)),
            _ => self.stalled(now),
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
        let mss =
            (mtu as u32).saturating_sub(self.config.headers as u32).max(512) - self.overhead();
        if self.is_synchronised() && mss < self.mss {
            self.mss = mss;
            self.cc.set_mss(mss);
            self.nxt = self.una;
            self.rtt.sent_again();
        }
        Outcome::empty()
    }
}
