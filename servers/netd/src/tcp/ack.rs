//! The ACK field and the SACK option of a segment: RFC 9293 3.10.7.4 fifth, RFC 2018, RFC 2883.
//!
//! An ACK of new data while all is well costs a look at the first range or two of the scoreboard, a
//! round-trip sample and the congestion window; everything else is [`Conn::alert`].

use super::congestion::Ack;
use super::rack::Delivered;
use super::recovery::{News, Phase};
use super::scoreboard::Scoreboard;
use super::{Conn, NEVER, Outcome, Segment};
use crate::wire::tcp::{Flags, Seq};
use libipc::sock::State;

impl Conn {
    /// Takes in what a segment acknowledges.
    pub(super) fn acknowledgment(&mut self, seg: &Segment, now: u64) -> Outcome {
        let old_window = self.wnd;
        if self.speaks_of_window(seg) {
            self.update_window(seg);
        }
        if self.wnd == 0 {
            // RFC 9293 3.8.6.1: a peer that answers probes keeps the connection.
            self.retries = 0;
        } else if old_window == 0 {
            self.window_opened();
        }
        // What MSG_MORE held back goes with the next turn.
        self.more = false;
        if self.una == self.max {
            self.rearm_persist(now);
            if self.recovery.undo.is_some() && !seg.options.sack.is_empty() {
                self.late_duplicate(seg, now);
            }
            return Outcome::empty();
        }
        self.recovery.new_first = false;
        let prior = self.una;
        let high = self.recovery.high;
        let mut said = Delivered::new(high, self.highest_sacked(), self.rtt.least(), now);
        if !seg.options.sack.is_empty() && self.sacks() {
            self.take_blocks(seg, &mut said);
        }
        let mut outcome = Outcome::empty();
        if prior.lt(seg.ack) {
            outcome = self.advance(seg.ack, now, |board| board.ack(seg.ack, &mut said));
            if self.state == State::Closed {
                return outcome;
            }
        } else if seg.ack != prior && !said.sacked {
            return outcome;
        }
        let repeats = seg.ack == prior
            && seg.space() == 0
            && self.wnd == old_window
            && self.wnd != 0
            && !said.duplicate;
        self.learn(&News { seg, said: &said, prior, repeats, now });
        outcome
    }

    /// As [`Self::acknowledgment`], straight: of new data while all is well. `None`, and nothing has changed: it
    /// is not so.
    #[inline(never)]
    pub(super) fn plain_acknowledgment(&mut self, seg: &Segment, now: u64) -> Option<Outcome> {
        let open = self.wnd != 0 && seg.window != 0;
        let quiet = self.recovery.is_quiet() && self.board.is_quiet() && !self.search.is_probing();
        if !(open && quiet && self.fin.is_none() && !self.is_modelled()) {
            return None;
        }
        let (arrived, acked_at) = self.board.ack_in_order(seg.ack)?;
        self.update_window(seg);
        (self.more, self.recovery.new_first) = (false, false);
        let outcome = self.advance(seg.ack, now, |_| {});
        let rtt = now.saturating_sub(acked_at);
        let (una, max) = (self.una, self.max);
        self.rtt.sample(rtt, una, max, now);
        self.recovery.delivered_in_order(&arrived, self.sacks(), now);
        self.look_at = NEVER;
        self.rto_at = if una == max { NEVER } else { now + self.rtt.rto() };
        let srtt = self.rtt.srtt();
        self.cc.on_ack(&Ack { acked: arrived.bytes(), una, max, rtt, srtt, now });
        self.arm_probe(now);
        Some(outcome)
    }

    /// Whether the window of a segment is news (RFC 9293 3.10.7.4): not with an old ACK, and what was said together with
    /// the same numbers only if it grew or closed (`tcp_may_update_window`).
    #[inline]
    fn speaks_of_window(&self, seg: &Segment) -> bool {
        if self.una.lt(seg.ack) {
            return true;
        }
        let window = (seg.window as u32) << self.snd_shift;
        let grew = self.wl1 == seg.seq && (self.wnd < window || window == 0);
        self.una == seg.ack && (self.wl1.lt(seg.seq) || grew)
    }

    /// The window was closed and is open: what probes were refused goes out again first.
    #[cold]
    fn window_opened(&mut self) {
        if self.una.lt(self.max) {
            self.board.judge(|_| true);
            self.rtt.restart();
        }
        self.rto_at = NEVER;
        self.stop_probing();
    }

    fn highest_sacked(&self) -> Seq {
        if self.board.sacked.segments > 0 { self.board.highest.max(self.una) } else { self.una }
    }

    /// `ack` is new; `tell` tells the scoreboard.
    #[inline(always)]
    fn advance(&mut self, ack: Seq, now: u64, tell: impl FnOnce(&mut Scoreboard)) -> Outcome {
        let mut outcome = Outcome::empty();
        let before = self.unsent();
        let full = before > self.send_limit() / 3 * 2;
        self.una = ack;
        tell(&mut self.board);
        self.progress();
        if self.search.is_probing() {
            self.probe_arrived();
        }
        // Before space is freed: this store frees it.
        self.publish_snd();
        if self.unsent() == 0 {
            outcome |= Outcome::READY;
        } else if full {
            outcome |= self.room_freed(before);
        }
        if self.una == self.max {
            self.account_empty();
            self.note_pace(now);
        }
        if self.fin.is_some_and(|fin| fin.lt(ack)) {
            outcome |= match self.state {
                State::FinWait1 => self.enter_fin_wait_2(now),
                State::Closing => self.enter_time_wait(),
                State::LastAck => self.end(None),
                _ => Outcome::empty(),
            };
        }
        outcome
    }

    /// What follows from an ACK: round-trip time, losses, window, timers.
    fn learn(&mut self, news: &News<'_>) {
        let forward = news.prior != self.una;
        self.measure(news);
        self.recovery.tally.delivered =
            self.recovery.tally.delivered.wrapping_add(news.said.segments);
        let lost_before = self.board.lost.bytes;
        let mut delivered = news.said.bytes;
        if self.sacks() {
            let highest = self.highest_sacked();
            self.recovery.rack.on_ack(news.said, highest, self.mss);
            self.recovery.rack.adapt(news.said, self.una, self.max);
        } else if forward && self.board.sacked.segments > 0 {
            delivered = self.without_duplicates(news.said);
        } else if news.repeats {
            delivered = self.mss;
        }
        if self.recovery.probe.is_some() {
            self.probe_answered(news);
        }
        if forward {
            // RFC 6298 (5.2), (5.3).
            self.look_at = NEVER;
            self.rto_at = if self.una == self.max { NEVER } else { news.now + self.rtt.rto() };
        }
        let quiet = !(news.repeats || news.said.sacked || news.said.duplicate);
        let look =
            if quiet && self.recovery.phase == Phase::Open { None } else { self.alert(news) };
        if news.seg.flags.contains(Flags::ECE) && self.ecn() {
            self.reduce(true);
        }
        self.adjust_window(news, delivered, lost_before);
        match look {
            Some(at) => self.look_for_loss(at),
            None if forward => self.arm_probe(news.now),
            None => {}
        }
    }

    /// The handshake's round trip; with a SYN that was repeated only by timestamps.
    pub(super) fn measure_handshake(&mut self, seg: &Segment, now: u64) {
        let rtt = match self.syn_again {
            false => Some(now.saturating_sub(self.syn_at)),
            true => self.echoed(seg, now),
        };
        if let Some(rtt) = rtt {
            self.rtt.sample(rtt, seg.ack, self.max, now);
        }
    }

    /// A round-trip sample: RFC 6298 3 (Karn), and by timestamps where that allows none (RFC 7323 4.1).
    fn measure(&mut self, news: &News<'_>) {
        let (said, now) = (news.said, news.now);
        let sent = if said.resent { None } else { said.acked_at }.or(said.sacked_at);
        let rtt = match sent {
            Some(at) => now.saturating_sub(at),
            None if news.prior != self.una && news.prior != self.iss => {
                match self.echoed(news.seg, now) {
                    Some(rtt) => rtt,
                    None => return,
                }
            }
            None => return,
        };
        self.rtt.sample(rtt, self.una, self.max, now);
    }

    /// SACK blocks: duplicates first (RFC 2883 4), then what the peer has.
    #[cold]
    fn take_blocks(&mut self, seg: &Segment, said: &mut Delivered) {
        let mut blocks = seg.options.sack.get();
        if let [(start, end), rest @ ..] = blocks {
            let inside = rest.first().is_some_and(|r| r.0.le(*start) && end.le(r.1));
            if (start.lt(seg.ack) || inside) && self.is_plausible(*start, *end, true) {
                self.take_duplicate(*start, *end, said);
            }
            if start.lt(seg.ack) || inside {
                blocks = rest;
            }
        }
        // Ascending, so that what is new in one ACK does not look like reordering.
        let mut after = None;
        for _ in 0..blocks.len() {
            let next = blocks
                .iter()
                .filter(|b| self.is_plausible(b.0, b.1, false))
                .filter(|b| after.is_none_or(|a: Seq| a.lt(b.0)))
                .min_by_key(|b| b.0 - self.una);
            let Some((start, end)) = next else { break };
            self.board.sack(*start, *end, said);
            after = Some(*start);
        }
    }

    /// Nothing is in flight any more, and the peer says what arrived twice: perhaps that recovery was
    /// for nothing.
    #[cold]
    fn late_duplicate(&mut self, seg: &Segment, now: u64) {
        let high = self.recovery.high;
        let mut said = Delivered::new(high, self.una, self.rtt.least(), now);
        self.take_blocks(seg, &mut said);
        if said.duplicate && self.recovery.phase <= Phase::Disorder {
            self.undo_by_duplicates();
        }
    }

    /// Whether such a block can be true.
    fn is_plausible(&self, start: Seq, end: Seq, duplicate: bool) -> bool {
        let ordered = start.lt(end) && end.le(self.max) && start.lt(self.max);
        if self.una.lt(start) {
            return ordered;
        }
        // Below: only a duplicate, not older than the largest window.
        ordered && duplicate && (self.una - start) <= self.max_wnd.max(self.mss)
    }

    fn take_duplicate(&mut self, start: Seq, end: Seq, said: &mut Delivered) {
        said.duplicate = true;
        self.recovery.tally.duplicates += 1;
        let probe = self.recovery.probe;
        said.duplicate_probe = probe.is_some_and(|p| p.again && p.high == end);
        self.recovery.duplicated(end - start, end);
    }
}
