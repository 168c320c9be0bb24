//! Fast Open (RFC 7413) of one connection: data in the SYN, and before the handshake is complete.
//!
//! The record knows it by [`event::FAST_OPEN`]: bytes flow although [`event::ESTABLISHED`] is not set. A client's
//! `snd_max` covers what its first SYN may have taken along, before that SYN leaves; a server's `rcv_nxt`
//! what it took from the peer's, before its SYN-ACK does.

use super::recovery::Phase;
use super::{Config, Conn, Home, NEVER, Need, Outcome, Plan, Segment};
use crate::record::{self, Fixed};
use crate::wire::tcp::{Cookie, Flags, Seq};
use bitflags::bitflags;
use core::sync::atomic::Ordering::Relaxed;
use libipc::sock::{Error, State, event};

/// Least MSS that we say (Linux's `min_adv_mss`).
const MIN_ADVERTISED: u16 = 256;
/// How long the ACK of a SYN-ACK waits for a program that is about to write (Linux's TCP_DELACK_MAX).
const WRITER_NS: u64 = 200_000_000;

bitflags! {
    /// How a connection stands to Fast Open.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Fast: u8 {
        /// Our first SYN has the option.
        const OPTION = 1;
        /// That of the experiment.
        const EXPERIMENT = 2;
        /// Our first SYN has data.
        const DATA = 4;
        /// The peer's SYN has made a connection, and our SYN-ACK is not acknowledged.
        const CHILD = 8;
        /// The program writes as soon as the connection stands.
        const WAITS = 16;
    }
}

/// What a SYN-ACK says of Fast Open, for whoever opens to the same server next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// The server's MSS.
    pub mss: u16,
    /// Its cookie.
    pub cookie: Option<Cookie>,
    /// We had asked for one in vain, by the option of the experiment or not.
    pub unanswered: Option<bool>,
    /// Whether data that went with our SYN was taken, if any did.
    pub taken: Option<bool>,
}

impl Conn {
    /// An active open whose SYN takes along the first `data` bytes of the send ring, which the program
    /// may count as written. `cookie`: the option of the SYN.
    pub fn connect_fast(
        home: Home,
        fixed: &Fixed,
        config: Config,
        (cookie, data): (Option<Cookie>, u32),
        now: u64,
    ) -> Self {
        let mut c = Self::connect(home, fixed, config, now);
        if let Some(cookie) = cookie {
            c.fast |= Fast::OPTION;
            c.fast.set(Fast::EXPERIMENT, cookie.experimental);
        }
        if data > 0 {
            c.fast |= Fast::DATA;
            c.tail = c.iss + 1 + data;
            record::add_events(c.rec, event::FAST_OPEN);
            record::set_snd(c.rec, c.iss + 1, c.tail);
        }
        c
    }

    /// A passive open by `syn`, of whose data `taken` bytes lie in the receive ring.
    pub fn accept_fast(
        home: Home,
        fixed: &Fixed,
        config: Config,
        syn: &Segment,
        taken: u32,
        now: u64,
    ) -> Self {
        let mut c = Self::accepting(home, fixed, config, syn, now);
        c.fast = Fast::CHILD;
        c.rcv_nxt = c.rcv_nxt + taken;
        c.rcv_adv = c.rcv_adv.max(c.rcv_nxt);
        c.acked = c.rcv_nxt;
        c.figures.received(taken);
        let syn_data = if taken > 0 { event::SYN_DATA } else { 0 };
        record::add_events(c.rec, event::FAST_OPEN | syn_data);
        c.publish_snd();
        c.publish_rcv();
        c.enter(State::SynReceived);
        c
    }

    /// The program has `data` bytes in all, and waits to write those that the SYN does not take along.
    pub fn await_writer(&mut self, data: u32) {
        self.fast.set(Fast::WAITS, self.tail - (self.iss + 1) != data);
    }

    /// Whether the option of our SYN, the first one, is wanted.
    pub fn wants_cookie(&self) -> bool {
        self.fast.contains(Fast::OPTION) && self.state == State::SynSent
    }

    /// Whether data may be sent: without Fast Open not before the handshake is complete.
    pub(super) fn may_send(&self) -> bool {
        self.is_synchronised() || self.is_fast_child()
    }

    /// Whether the program has it, or may have it, before its handshake is complete.
    pub fn is_fast_child(&self) -> bool {
        self.fast.contains(Fast::CHILD)
    }

    /// The handshake of a child is over: `true` once.
    pub fn settled(&mut self) -> bool {
        let child = self.is_fast_child();
        self.fast.remove(Fast::CHILD);
        child
    }

    /// Whether what was lost may have been so because of Fast Open.
    pub(super) fn may_be_swallowed(&self) -> bool {
        self.fast.intersects(Fast::OPTION | Fast::DATA) || self.syn_data_taken()
    }

    /// Whether the data of a SYN was taken.
    pub(super) fn syn_data_taken(&self) -> bool {
        self.rec.events.load(Relaxed) & event::SYN_DATA != 0
    }

    /// Number after the SYN and what it takes along.
    pub(super) fn after_syn(&self) -> Seq {
        let data = if self.fast.contains(Fast::DATA) { self.tail } else { self.iss + 1 };
        self.max.max(data)
    }

    /// Where the data of a SYN-ACK belongs: taken if Fast Open was asked for and nothing of ours has to go
    /// again (Linux's rule; RFC 7413 3 allows it).
    #[cold]
    pub(super) fn plan_of_syn_ack(&self, seg: &Segment) -> Plan {
        let none = Plan { skip: 0, len: 0, at: 0 };
        let wants = self.state == State::SynSent && !self.fast.is_empty();
        let answers = seg.flags & (Flags::SYN | Flags::ACK | Flags::RST) == Flags::SYN | Flags::ACK;
        if !wants || !answers || seg.ack != self.max {
            return none;
        }
        Plan { skip: 0, len: seg.len.min(self.rx_size), at: 0 }
    }

    /// The SYN-ACK has acknowledged our SYN up to `una`: the data that it does not speak of goes again at
    /// once, and that tells nothing of congestion (RFC 7413 4.2.1). What it brought begins to count.
    #[cold]
    pub(super) fn fast_answered(&mut self, seg: &Segment, plan: Plan, now: u64) -> Outcome {
        if self.una.lt(self.max) {
            self.board.sent(self.una, self.max, self.mss as u16, false, now);
            self.syn_data_lost();
            return Outcome::empty();
        }
        if self.fast.contains(Fast::DATA) {
            record::add_events(self.rec, event::SYN_DATA);
        }
        if plan.len == 0 {
            if self.fast.contains(Fast::WAITS) {
                // Linux's rule: the ACK goes with what is about to be written.
                self.need.remove(Need::ACK);
                self.ack_at = now + WRITER_NS;
                self.delay.answering = true;
            }
            return Outcome::empty();
        }
        self.rcv_nxt = self.rcv_nxt + plan.len;
        self.rcv_adv = self.rcv_adv.max(self.rcv_nxt);
        self.publish_rcv();
        if seg.flags.contains(Flags::FIN) && plan.len == seg.len {
            return self.take_fin(now);
        }
        Outcome::READY
    }

    /// What went with our SYN goes again, which tells nothing of congestion.
    #[cold]
    pub(super) fn syn_data_lost(&mut self) {
        self.board.judge(|_| true);
        (self.recovery.phase, self.recovery.high) = (Phase::Loss, self.max);
        (self.recovery.undo, self.recovery.forward) = (None, false);
    }

    /// Whether data went with our SYN, in this life or an earlier one.
    #[cold]
    pub(super) fn flowed_early(&self) -> bool {
        !self.passive && self.rec.events.load(Relaxed) & event::FAST_OPEN != 0
    }

    /// The SYN was too large for the path: another one, without data, need not wait for a time-out.
    #[cold]
    pub(super) fn syn_too_big(&mut self, mtu: u16) {
        if self.fast.contains(Fast::DATA) && !self.syn_again {
            let mss = mtu.saturating_sub(self.config.headers);
            self.config.mss = self.config.mss.min(mss.max(MIN_ADVERTISED));
            self.need |= Need::SYN;
        }
    }

    /// What a SYN-ACK that completed our handshake says to whoever comes next (Linux's rules for its cache).
    pub fn lesson(&self, seg: &Segment) -> Option<Lesson> {
        if self.passive || self.fast.is_empty() {
            return None;
        }
        let data = self.fast.contains(Fast::DATA);
        // A cookie that was not asked for is not wanted.
        let cookie = seg.options.fast_open.filter(|_| self.fast.contains(Fast::OPTION));
        let asked = self.fast.contains(Fast::OPTION) && !data && !self.syn_again;
        let unanswered = (asked && seg.options.fast_open.is_none())
            .then_some(self.fast.contains(Fast::EXPERIMENT));
        Some(Lesson {
            mss: seg.options.mss.unwrap_or(0),
            cookie,
            unanswered,
            taken: data.then_some(self.syn_data_taken()),
        })
    }

    /// Its timers after the handshake of a child.
    pub(super) fn fast_established(&mut self, now: u64) {
        let first = self.iss + 1;
        self.rto_at = if first.lt(self.max) { now + self.rtt.rto() } else { NEVER };
    }

    /// A child from its record, whose SYN-ACK may not have arrived; its numbers are there already.
    pub(super) fn resume_child(&mut self, now: u64) {
        self.fast = Fast::CHILD;
        if self.una.lt(self.max) {
            self.board.sent(self.una, self.max, self.mss as u16, false, now);
        }
    }

    /// An ICMP error about a child that nobody has accepted: it is over (Linux's rule).
    pub fn child_unreachable(&mut self, error: Error) -> Option<Outcome> {
        self.is_fast_child().then(|| self.end(Some(error)))
    }
}
