//! Loss recovery: from what ACKs say to what is lost, how much may be sent meanwhile (proportional rate
//! reduction, RFC 6937).
//!
//! What is lost is decided by RACK, or, of a peer without SACK, by NewReno (RFC 6582); limited transmit (RFC 3042)
//! follows from the count of what is on the way. How far the window falls is [`super::congestion`]'s business. Phases
//! and decisions are those of Linux.

use super::pool::{Marks, Node};
use super::rack::{Delivered, Rack};
use super::scoreboard::Count;
use super::{Ack, Conn, Segment, ticks};
use crate::wire::tcp::Seq;
use libipc::sock::flags;

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// All is well.
    Open,
    /// Something is out of order, perhaps lost.
    Disorder,
    /// The window is being reduced though nothing is lost (ECN, or loss that a probe has repaired).
    Reduced,
    /// Fast recovery.
    Recovery,
    /// After the retransmission timer.
    Loss,
}

/// What an undo needs.
#[derive(Clone, Copy, Debug)]
pub struct Undo {
    /// `snd_una` when the reduction began.
    marker: Seq,
    /// Bytes sent again of which the peer has not said that it got them twice; `None`: none were yet.
    resent: Option<u32>,
}

impl Undo {
    /// Whether everything sent again has arrived twice.
    pub(super) fn all_came_twice(&self) -> bool {
        self.resent == Some(0)
    }
}

/// A probe of the tail (RFC 8985 7).
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// `snd_max` when it left.
    pub high: Seq,
    /// It repeated something.
    pub again: bool,
}

/// What happened, for TCP_INFO.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Segments delivered.
    pub delivered: u32,
    /// Duplicates that the peer reported.
    pub duplicates: u32,
    /// Segments that arrived out of order.
    pub out_of_order: u32,
    /// Time-outs.
    pub timeouts: u16,
}

/// The state.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    /// What is going on.
    pub phase: Phase,
    /// `snd_max` when that began.
    pub high: Seq,
    /// What is late and what is lost.
    pub rack: Rack,
    pub undo: Option<Undo>,
    /// [`ticks`] when the first retransmission since all was well left.
    pub resent_at: Option<u32>,
    /// F-RTO is finding out whether the time-out was spurious (RFC 5682).
    pub forward: bool,
    /// For that, new data goes before what is lost.
    pub new_first: bool,
    /// The probe that is not answered.
    pub probe: Option<Probe>,
    /// RFC 6937: the window before, bytes delivered and sent since.
    prior: u32,
    delivered: u32,
    pub sent: u32,
    pub tally: Tally,
}

/// What is known beyond [`Delivered`] when an ACK has been taken in.
#[derive(Clone, Copy)]
pub(super) struct News<'a> {
    pub seg: &'a Segment,
    pub said: &'a Delivered,
    /// `snd_una` before.
    pub prior: Seq,
    /// It says nothing new: a duplicate ACK (RFC 5681 2).
    pub repeats: bool,
    pub now: u64,
}

impl Recovery {
    /// For a connection that begins at `iss`.
    pub const fn new(iss: Seq) -> Self {
        Self {
            phase: Phase::Open,
            high: iss,
            rack: Rack::new(iss),
            undo: None,
            resent_at: None,
            forward: false,
            new_first: false,
            probe: None,
            prior: 0,
            delivered: 0,
            sent: 0,
            tally: Tally { delivered: 0, duplicates: 0, out_of_order: 0, timeouts: 0 },
        }
    }
    /// Whether RFC 6937 leads the window.
    pub fn reduces(&self) -> bool {
        matches!(self.phase, Phase::Reduced | Phase::Recovery)
    }
    /// Whether all is well, and nothing is to be found out.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.phase == Phase::Open && self.probe.is_none() && self.undo.is_none()
    }
    /// The oldest of what was in flight have `arrived`; they were sent once, the last of them when this says.
    #[inline]
    pub fn delivered_in_order(&mut self, arrived: &Node, sacks: bool, now: u64) {
        self.tally.delivered = self.tally.delivered.wrapping_add(arrived.segments as u32);
        if sacks {
            self.rack.in_order(arrived, now);
        }
    }
    /// `bytes` leave again.
    pub fn resends(&mut self, bytes: u32, now: u64) {
        self.resent_at = self.resent_at.or(Some(ticks(now)));
        if let Some(undo) = &mut self.undo {
            undo.resent = Some(undo.resent.unwrap_or(0) + bytes);
        }
    }
    /// The peer got `bytes` up to `end` twice.
    pub fn duplicated(&mut self, bytes: u32, end: Seq) {
        if let Some(Undo { marker, resent: Some(resent) }) = &mut self.undo
            && marker.lt(end)
        {
            *resent = resent.saturating_sub(bytes);
        }
    }
}

impl Conn {
    /// Bytes in the network: RFC 6675's pipe.
    pub(super) fn pipe(&self) -> u32 {
        self.board.pipe(self.max - self.una)
    }
    /// Whether both sides know SACK.
    pub(super) fn sacks(&self) -> bool {
        self.agreed & flags::SACK != 0
    }

    /// Anything but an ACK of new data while all is well. Yields when to look for losses again.
    #[cold]
    pub(super) fn alert(&mut self, news: &News<'_>) -> Option<u64> {
        let forward = news.prior != self.una;
        let reneged = |n: super::pool::Node| n.marks.contains(Marks::SACKED);
        if forward && self.board.first().is_some_and(reneged) {
            // What the peer had is what it now asks for: time out soon (RFC 2018 8).
            let soon = (self.rtt.srtt() / 2).max(10_000_000);
            self.rto_at = self.rto_at.min(news.now + soon);
            return None;
        }
        if self.recovery.phase == Phase::Open {
            self.recovery.resent_at = None;
        } else if self.recovery.high.le(self.una) && self.passed_high(news) {
            return None;
        }
        match self.recovery.phase {
            Phase::Recovery => self.in_recovery(news),
            Phase::Loss => self.in_loss(news),
            _ => self.in_order(news),
        }
    }

    /// Everything that was in flight when the phase began is acknowledged. `true`: that was all.
    fn passed_high(&mut self, news: &News<'_>) -> bool {
        match self.recovery.phase {
            Phase::Reduced if self.una != self.recovery.high => {
                self.cc.end_reduction();
                self.recovery.phase = Phase::Open;
            }
            Phase::Recovery => {
                self.forget_duplicates();
                let undone = self.recovery.undo.is_none() || self.may_undo(news);
                if self.undo_recovery(news) {
                    return true;
                }
                if !undone {
                    self.cc.end_reduction();
                }
            }
            _ => {}
        }
        false
    }

    /// Recovery is over; undoes it if it was for nothing. `true`: a peer without SACK must
    /// acknowledge more first, or late duplicates would begin another (RFC 6582 3.2 step 2).
    pub(super) fn undo_recovery(&mut self, news: &News<'_>) -> bool {
        if self.may_undo(news) {
            self.undo(false);
        } else {
            self.recovery.rack.persist = self.recovery.rack.persist.saturating_sub(1);
        }
        if !self.sacks() && self.una == self.recovery.high {
            return true;
        }
        self.recovery.phase = Phase::Open;
        self.recovery.resent_at = None;
        false
    }

    fn in_recovery(&mut self, news: &News<'_>) -> Option<u64> {
        let forward = news.prior != self.una;
        if !forward {
            self.count_duplicate(news);
        } else if self.recovery.undo.is_some() && self.was_delayed(news) {
            // A hole was filled by what was late, not by its copy (RFC 4015).
            self.recovery.rack.reordered(self.board.highest.max(self.una) - news.prior, self.mss);
            if self.board.resent.bytes > 0 {
                return None;
            }
            self.undo(true);
            self.keep_open();
        }
        if self.undo_by_duplicates() {
            self.keep_open();
        }
        let look = self.find_losses(news);
        if self.recovery.phase != Phase::Recovery && self.board.lost.bytes > 0 {
            self.enter_recovery();
        }
        look
    }

    /// Open, Disorder or Reduced.
    pub(super) fn in_order(&mut self, news: &News<'_>) -> Option<u64> {
        if news.prior != self.una {
            self.forget_duplicates();
        }
        self.count_duplicate(news);
        if self.recovery.phase <= Phase::Disorder {
            self.undo_by_duplicates();
        }
        let look = self.find_losses(news);
        if self.board.lost.bytes > 0 {
            self.enter_recovery();
        } else if self.recovery.phase != Phase::Reduced {
            self.keep_open();
        }
        look
    }

    /// Open or Disorder, as things are.
    pub(super) fn keep_open(&mut self) {
        let resent = |n: super::pool::Node| n.marks.contains(Marks::EVER_RESENT);
        let busy = self.board.resent.bytes > 0 || self.board.first().is_some_and(resent);
        if !busy {
            self.recovery.resent_at = None;
        }
        let left_out = self.board.sacked.bytes + self.board.lost.bytes > 0;
        let phase = if left_out || busy { Phase::Disorder } else { Phase::Open };
        if self.recovery.phase != phase {
            (self.recovery.phase, self.recovery.high) = (phase, self.max);
        }
    }

    /// Fast recovery begins.
    pub(super) fn enter_recovery(&mut self) {
        if self.search.is_probing() && self.probe_lost() {
            return;
        }
        self.mark_undo();
        if self.recovery.phase != Phase::Reduced {
            self.cc.on_loss();
            self.begin_reduction();
        }
        self.recovery.phase = Phase::Recovery;
    }

    /// The window falls though nothing is lost.
    #[cold]
    pub(super) fn reduce(&mut self, ecn: bool) {
        if self.recovery.phase >= Phase::Reduced {
            return;
        }
        self.recovery.undo = None;
        if ecn {
            self.cc.on_ecn()
        } else {
            self.cc.on_loss()
        }
        self.begin_reduction();
        self.recovery.phase = Phase::Reduced;
    }

    fn begin_reduction(&mut self) {
        self.ecn_fell();
        self.model_told(|bbr, window| bbr.save(window));
        let r = &mut self.recovery;
        (r.high, r.probe) = (self.max, None);
        (r.prior, r.delivered, r.sent) = (self.cc.window(), 0, 0);
    }

    /// From here on an undo may lead back.
    pub(super) fn mark_undo(&mut self) {
        let probed = self.recovery.probe.is_some_and(|p| p.again);
        let resent = self.board.resent.bytes + if probed { self.mss } else { 0 };
        self.recovery.undo =
            Some(Undo { marker: self.una, resent: (resent > 0).then_some(resent) });
    }

    /// RFC 6937: the window while it is being reduced. `lost`: losses were found just now.
    pub(super) fn lead_window(&mut self, delivered: u32, lost: bool, forward: bool) {
        if delivered == 0 || self.is_modelled() {
            return;
        }
        let (mss, pipe) = (self.mss, self.pipe());
        let Some(threshold) = self.cc.ssthresh() else { return };
        let r = &mut self.recovery;
        r.delivered = r.delivered.saturating_add(delivered);
        let count = if pipe > threshold {
            let share = threshold as u64 * r.delivered as u64;
            let share = share.div_ceil(r.prior.max(1) as u64).min(u32::MAX as u64) as u32;
            share.next_multiple_of(mss).saturating_sub(r.sent)
        } else {
            let mut count = r.delivered.saturating_sub(r.sent).max(delivered);
            if forward && !lost {
                // Slow start as long as nothing more is lost (the draft that succeeds RFC 6937).
                count += mss;
            }
            count.min(threshold - pipe)
        };
        // The first loss goes out at once, whatever is in flight; so does what a partial ACK asks for of a
        // sender without SACK (RFC 6582 3.2 step 3).
        let first = r.sent == 0 || (forward && lost && !self.sacks());
        let least = if first { mss } else { 0 };
        self.cc.set_window(pipe + count.max(least));
    }

    /// Looks for what is lost. Yields when to look again.
    pub(super) fn find_losses(&mut self, news: &News<'_>) -> Option<u64> {
        if self.una == self.max {
            return None;
        }
        if self.sacks() {
            return self.detect(news.now).1;
        }
        let phase = self.recovery.phase;
        let enough = self.board.sacked.segments >= self.recovery.rack.reordering as u32;
        if (phase < Phase::Recovery && enough)
            || (phase == Phase::Recovery && news.prior != self.una)
        {
            self.board.lose_first();
        }
        None
    }

    /// RACK, if something has arrived since it last looked. Yields the bytes of retransmissions that are lost, and
    /// when to look again.
    pub(super) fn detect(&mut self, now: u64) -> (u32, Option<u64>) {
        if !core::mem::take(&mut self.recovery.rack.advanced) {
            return (0, None);
        }
        self.detect_now(now)
    }

    /// RACK.
    pub(super) fn detect_now(&mut self, now: u64) -> (u32, Option<u64>) {
        let recovering = self.recovery.phase >= Phase::Recovery;
        let rtt = (self.rtt.least(), self.rtt.srtt());
        self.recovery.rack.detect(&mut self.board, recovering, rtt, now)
    }

    /// A duplicate ACK of a peer without SACK stands for a segment that has arrived; one at least has not.
    pub(super) fn count_duplicate(&mut self, news: &News<'_>) {
        if news.repeats && !self.sacks() {
            let all = self.board.segments();
            self.stand_for((self.board.sacked.segments + 1).min(all.saturating_sub(1)), all);
        }
    }

    /// Duplicate ACKs stand for `segments` of `all` that are in flight.
    fn stand_for(&mut self, segments: u32, all: u32) {
        let flight = (self.max - self.una) as u64;
        let bytes = (flight * segments as u64 / all.max(1) as u64).min(flight) as u32;
        self.board.sacked = Count { bytes, segments };
    }

    /// What duplicate ACKs stood for is acknowledged, or means nothing any more.
    pub(super) fn forget_duplicates(&mut self) {
        if !self.sacks() {
            self.board.sacked = Default::default();
        }
    }

    /// Of the bytes that a peer without SACK acknowledges, how many its duplicate ACKs had not announced.
    #[cold]
    pub(super) fn without_duplicates(&mut self, said: &Delivered) -> u32 {
        let (before, acked) = (self.board.sacked.segments, said.segments.max(1));
        let new = acked.saturating_sub(before).max(1);
        let all = self.board.segments();
        self.stand_for(before.saturating_sub(acked - 1).min(all), all);
        (said.bytes as u64 * new as u64 / acked as u64) as u32
    }

    /// The window after an ACK.
    pub(super) fn adjust_window(&mut self, news: &News<'_>, delivered: u32, lost_before: u32) {
        if self.is_modelled() {
            return self.model_acked(news, delivered, lost_before);
        }
        let forward = news.prior != self.una;
        if self.recovery.reduces() {
            let lost = self.board.lost.bytes > lost_before;
            return self.lead_window(delivered, lost, forward);
        }
        if forward || (self.recovery.rack.reordering > super::rack::REORDERING && delivered > 0) {
            let (una, max, srtt) = (self.una, self.max, self.rtt.srtt());
            let rtt = news.said.acked_at.map_or(0, |at| news.now.saturating_sub(at));
            let rtt = if news.said.resent { 0 } else { rtt };
            self.cc.on_ack(&Ack { acked: delivered, una, max, rtt, srtt, now: news.now });
        }
    }
}
