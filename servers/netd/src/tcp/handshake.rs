//! Handshakes: active, passive, simultaneous (RFC 9293 3.5, 3.10.7.3).

use super::congestion::Congestion;
use super::{Config, Conn, Home, NEVER, Need, Out, Outcome, Plan, Segment};
use crate::record::{self, Fixed};
use crate::request::{Progress, Request};
use crate::wire::tcp::{DEFAULT_MSS, DEFAULT_MSS_V6, Flags, Options, Seq, TIMESTAMPS, Timestamps};
use core::net::SocketAddr;
use libipc::sock::{Error, State, event, flags};

/// Least MSS of a peer that is believed; the value is Linux's.
const MIN_MSS: u32 = 48;
/// How soon the SYN goes out again after an ACK of something else.
const SYN_AGAIN_NS: u64 = 2_000_000;

impl Conn {
    /// An active open. `fixed` is in the record already, as far as it is known.
    pub fn connect(home: Home, fixed: &Fixed, config: Config, now: u64) -> Self {
        let mut c = Self::new(home, fixed, config, now);
        c.need = Need::SYN;
        c.publish_snd();
        c.enter(State::SynSent);
        c
    }

    /// A passive open: `syn` has arrived, and what it says is in the record.
    pub fn accept(home: Home, fixed: &Fixed, config: Config, syn: &Segment, now: u64) -> Self {
        let mut c = Self::accepting(home, fixed, config, syn, now);
        c.publish_snd();
        c.publish_rcv();
        c.enter(State::SynReceived);
        c
    }

    /// As [`Self::accept`], before the record says so.
    pub(super) fn accepting(
        home: Home,
        fixed: &Fixed,
        config: Config,
        syn: &Segment,
        now: u64,
    ) -> Self {
        let mut c = Self::new(home, fixed, config, now);
        c.passive = true;
        c.need = Need::SYN;
        c.agree(fixed, c.window_in_syn(fixed));
        c.window_of_syn(syn, now);
        c
    }

    /// A passive open whose SYN-ACK has left without a socket, and whose ACK comes next. No
    /// `progress`: it left as a cookie.
    pub fn answered(
        home: Home,
        fixed: &Fixed,
        config: Config,
        request: &Request,
        progress: Option<Progress>,
        now: u64,
    ) -> Self {
        let mut c = Self::new(home, fixed, config, now);
        c.passive = true;
        c.agree(fixed, request.window as u32);
        c.begin_clock(request.ts_recent, now);
        c.max = c.iss + 1;
        c.retries = progress.map_or(0, |p| p.retries);
        let sent_at = progress.and_then(|p| p.sent_at);
        (c.syn_at, c.syn_again) = (sent_at.unwrap_or(now), sent_at.is_none());
        c.publish_snd();
        c.publish_rcv();
        c.enter(State::SynReceived);
        c
    }

    /// What a peer's SYN says, for the fixed part of the record. Window scale, timestamps and SACK
    /// are in use if both sides have them in their SYN; ours always has, with the scale of `fixed`.
    pub fn agreed(fixed: Fixed, syn: &Segment) -> Fixed {
        let scaled = syn.options.scale.is_some();
        let timed = syn.options.timestamps.is_some();
        let sacks = syn.options.sack_permitted;
        Fixed {
            irs: syn.seq,
            peer_mss: syn.options.mss.filter(|mss| *mss > 0).unwrap_or(match fixed.local {
                SocketAddr::V4(_) => DEFAULT_MSS,
                SocketAddr::V6(_) => DEFAULT_MSS_V6,
            }),
            rcv_shift: if scaled { fixed.rcv_shift } else { 0 },
            snd_shift: syn.options.scale.unwrap_or(0),
            flags: fixed.flags & !flags::ECN
                | if Self::ecn_agreed(fixed.flags, syn) { flags::ECN } else { 0 }
                | if scaled { flags::WINDOW_SCALE } else { 0 }
                | if timed { flags::TIMESTAMPS } else { 0 }
                | if sacks { flags::SACK } else { 0 },
            ..fixed
        }
    }

    /// Takes over what the handshake has fixed.
    pub(super) fn agree(&mut self, agreed: &Fixed, window: u32) {
        self.irs = agreed.irs;
        self.agreed = agreed.flags;
        self.rcv_nxt = agreed.irs + 1;
        self.acked = self.rcv_nxt;
        self.head = self.rcv_nxt;
        self.rcv_shift = agreed.rcv_shift;
        self.begin_window(window);
        self.snd_shift = agreed.snd_shift;
        // A peer that says less wants to make us send headers only.
        self.mss =
            (agreed.peer_mss as u32).clamp(MIN_MSS, self.config.mss as u32) - self.overhead();
        self.carries = self.mss as u16;
        self.cc = Congestion::new(self.cc.algorithm(), self.mss, self.iss);
    }

    /// Bytes of options in every segment with data, which the peer's MSS has to hold, too (RFC 6691).
    pub(super) fn overhead(&self) -> u32 {
        if self.timed() { TIMESTAMPS as u32 } else { 0 }
    }

    fn window_of_syn(&mut self, syn: &Segment, now: u64) {
        self.timestamp_of_syn(syn, now);
        self.wnd = syn.window as u32;
        self.max_wnd = 0;
        self.raise_max_window();
        self.wl1 = syn.seq;
    }

    /// RFC 9293 3.10.7.3. Text and FIN that come with the SYN are left to be repeated, but for Fast Open.
    pub(super) fn in_syn_sent(&mut self, seg: &Segment, plan: Plan, now: u64) -> Outcome {
        let has_ack = seg.flags.contains(Flags::ACK);
        if has_ack && (seg.ack.le(self.iss) || !seg.ack.le(self.max)) {
            if self.retries == 0 && self.iss.lt(self.max) {
                // The peer believes in an old connection, which our RST ends: the SYN need not wait
                // for its time-out.
                self.rto_at = now + SYN_AGAIN_NS;
            }
            return Outcome::REFUSE;
        }
        if has_ack && self.echoes_another(seg, now) {
            return Outcome::REFUSE;
        }
        if seg.flags.contains(Flags::RST) {
            return if has_ack {
                self.end(Some(Error::ConnectionRefused))
            } else {
                Outcome::NO_ACK
            };
        }
        if !seg.flags.contains(Flags::SYN) {
            return Outcome::UNACCEPTABLE;
        }
        self.agree_by_syn(seg, now);
        if !has_ack {
            // Simultaneous open.
            self.board.clear();
            if (self.iss + 1).lt(self.max) {
                self.board.sent(self.iss + 1, self.max, self.mss as u16, false, now);
            }
            self.publish_rcv();
            self.enter(State::SynReceived);
            self.need |= Need::SYN;
            return Outcome::empty();
        }
        self.measure_handshake(seg, now);
        self.una = seg.ack;
        self.publish_snd();
        self.publish_rcv();
        self.need |= Need::ACK;
        let outcome = self.established(now);
        if self.fast.is_empty() && self.una == self.max {
            return outcome;
        }
        outcome | self.fast_answered(seg, plan, now)
    }

    /// Takes what a peer's SYN says into the sealed part of the record.
    fn agree_by_syn(&mut self, syn: &Segment, now: u64) {
        let Some(fixed) = Fixed::load(self.rec) else { return };
        let asked = Fixed { flags: fixed.flags | self.agreed & flags::ECN, ..fixed };
        let fixed = Self::agreed(asked, syn);
        self.hard().store(&fixed);
        self.agree(&fixed, self.rcv_adv - Seq(0));
        self.window_of_syn(syn, now);
    }

    pub(super) fn established(&mut self, now: u64) -> Outcome {
        record::add_events(self.rec, event::ESTABLISHED);
        self.enter(if self.fin.is_some() { State::FinWait1 } else { State::Established });
        if self.retries > 0 {
            self.rtt.handshake_was_lossy();
        }
        if self.retries > 1 {
            // Once is no sign, with an RTO of a second to begin with (RFC 6298; Linux's limit).
            self.cc.handshake_was_lossy();
        }
        self.retries = 0;
        // The SYN, and what it took along, counts as one.
        self.recovery.tally.delivered += 1;
        self.rto_at = NEVER;
        if self.is_fast_child() {
            self.fast_established(now);
        }
        self.last_sent = now;
        self.heard(now);
        self.time_window(now);
        self.begin_send_limit();
        self.choose_congestion(now);
        self.arm_keep_alive(now, now);
        Outcome::ESTABLISHED | Outcome::READY
    }

    pub(super) fn syn(&mut self, now: u64) -> Out {
        self.need.remove(Need::SYN);
        let again = self.iss.lt(self.max);
        self.figures.sent(0, 1, again);
        let answer = self.state == State::SynReceived;
        let ecn = self.ecn_of_syn(answer, again);
        let (at, len) = (self.send_position(self.iss + 1), self.after_syn() - (self.iss + 1));
        let len = if again || answer { 0 } else { len };
        self.max = self.after_syn();
        if answer {
            self.una = if self.is_fast_child() { self.iss + 1 } else { self.una };
        }
        self.publish_snd();
        if again {
            self.syn_again = true;
        } else {
            self.syn_at = now;
        }
        self.rto_at = self.within_user_timeout(now + self.rtt.rto());
        let timestamps = self.timestamps(now);
        let window = (self.rcv_adv - self.rcv_nxt).min(0xffff) as u16;
        let (flags, options) = if answer {
            syn_ack(self.agreed, self.rcv_shift, self.config.mss, timestamps)
        } else {
            let scale = Some(self.rcv_shift);
            let mss = Some(self.config.mss);
            (Flags::SYN, Options { mss, scale, timestamps, sack_permitted: true, ..Options::NONE })
        };
        Out {
            seq: self.iss,
            ack: self.rcv_nxt,
            flags: flags | ecn,
            ecn: 0,
            window,
            urgent: 0,
            options,
            at,
            len,
            segment: 0,
            again,
        }
    }
}

/// Control bits and options of the SYN-ACK for a handshake that has come to [`flags`] `agreed`: an option
/// is in it only if the SYN had it (RFC 7323 2.2 and 3.2).
pub fn syn_ack(
    agreed: u16,
    rcv_shift: u8,
    mss: u16,
    timestamps: Option<Timestamps>,
) -> (Flags, Options) {
    let scale = (agreed & flags::WINDOW_SCALE != 0).then_some(rcv_shift);
    let sack_permitted = agreed & flags::SACK != 0;
    let options = Options { mss: Some(mss), scale, timestamps, sack_permitted, ..Options::NONE };
    let ece = if agreed & flags::ECN != 0 { Flags::ECE } else { Flags::empty() };
    (Flags::SYN | Flags::ACK | ece, options)
}
