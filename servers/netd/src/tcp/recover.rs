//! A connection from its record alone, after netd died.

use super::recovery::Phase;
use super::{Config, Conn, Home, Need, Outcome};
use crate::record::{self, Fixed};
use crate::wire::tcp::Seq;
use core::sync::atomic::Ordering::*;
use libipc::sock::{State, event, flags};

/// What the program's words of the socket say, as counts modulo 2^32.
#[derive(Clone, Copy, Debug)]
pub struct AppWords {
    /// Bytes ever written.
    pub tx_tail: u32,
    /// Bytes ever taken.
    pub rx_head: u32,
}

impl Conn {
    /// Rebuilds a connection; `None` if its numbers contradict each other. `app` is `None` for
    /// connections that no program holds.
    pub fn recover(
        home: Home,
        fixed: &Fixed,
        config: Config,
        app: Option<AppWords>,
        now: u64,
    ) -> Option<(Self, Outcome)> {
        let rec = home.hard.rec;
        let state = rec.state();
        let mut c = Self::new(home, fixed, config, now);
        // The peer may echo any of ours.
        (c.syn_at, c.syn_again) = (0, true);
        c.passive = fixed.flags & flags::PASSIVE != 0;
        c.orphan = fixed.flags & flags::ORPHAN != 0;
        let events = rec.events.load(Acquire);
        c.deaf = c.orphan || events & event::SHUT_READ != 0;
        c.fin = (events & event::FIN_QUEUED != 0).then(|| Seq(rec.fin_seq.load(Acquire)));
        let established = events & event::ESTABLISHED != 0;
        if state == State::SynSent && !established {
            // The peer may have answered meanwhile: the SYN goes out again at once.
            c.need = Need::SYN;
            // Its SYN may have had data (RFC 7413), which this one has not.
            c.max = record::halves(rec.snd.load(Acquire)).1.max(fixed.iss + 1);
            c.tail = c.max;
            c.enter(State::SynSent);
            return Some((c, Outcome::empty()));
        }
        c.agree(fixed, c.window_in_syn(fixed));
        c.recover_timestamps(now);
        if state == State::SynReceived && events & event::FAST_OPEN != 0 && !established {
            c.sender(app)?;
            c.receiver(app)?;
            c.resume_child(now);
            c.need = Need::SYN;
            c.enter(State::SynReceived);
            return Some((c, Outcome::READY));
        }
        if state == State::SynReceived && !established {
            c.max = fixed.iss + 1;
            c.need = Need::SYN;
            c.publish_rcv();
            c.enter(State::SynReceived);
            return Some((c, Outcome::empty()));
        }
        c.sender(app)?;
        c.receiver(app)?;
        c.recover_urgent();
        Some(c.resume(state, now))
    }

    fn sender(&mut self, app: Option<AppWords>) -> Option<()> {
        (self.una, self.max) = record::halves(self.rec.snd.load(Acquire));
        self.max = self.max.max(self.una);
        let first = self.iss + 1;
        self.tail = match (self.fin, app) {
            (Some(fin), _) => fin,
            // The program may not have counted yet what went with the SYN.
            (None, Some(app)) if self.flowed_early() => (first + app.tx_tail).max(self.max),
            (None, Some(app)) => first + app.tx_tail,
            (None, None) => self.max.max(first),
        };
        let end = self.tail + self.fin.is_some() as u32;
        // una <= max <= end, and what is not acknowledged fits the ring.
        let holds = self.una.le(self.max)
            && self.max.le(end)
            && self.tail - self.una.min(self.tail) <= self.tx_size;
        self.small = self.una;
        // The peer had granted at least what was sent. A segment more is a probe: who has no room
        // for it says so, and whoever writes next does not wait for a time-out to find that out.
        self.wnd = (self.max - self.una).max(self.mss);
        self.max_wnd = self.wnd;
        holds.then_some(())
    }

    fn receiver(&mut self, app: Option<AppWords>) -> Option<()> {
        let (nxt, adv) = record::halves(self.rec.rcv.load(Acquire));
        self.fin_taken = adv == nxt - 1;
        (self.rcv_nxt, self.acked) = (nxt, nxt);
        self.rcv_adv = if self.fin_taken { nxt } else { adv };
        let first = self.irs + 1;
        let end = nxt - self.fin_taken as u32;
        // Nobody has read anything yet, or nobody ever will.
        self.head = if self.orphan { end } else { first + app.map_or(0, |a| a.rx_head) };
        // head <= rcv_nxt <= rcv_adv <= head + size.
        let holds = self.head.le(end)
            && end - self.head <= self.rx_size
            && self.rcv_nxt.le(self.rcv_adv)
            && self.rcv_adv - self.rcv_nxt <= self.rx_size;
        self.recover_window();
        // The next segment that is in order may set the window.
        self.wl1 = nxt - 1;
        holds.then_some(())
    }

    /// Derives the state from what was promised, and takes up the conversation.
    fn resume(mut self, old: State, now: u64) -> (Self, Outcome) {
        record::add_events(self.rec, event::ESTABLISHED);
        if self.fin_taken {
            record::add_events(self.rec, event::PEER_FIN);
        }
        let acked = self.fin.is_some_and(|fin| fin.lt(self.una));
        let state = match (self.fin.is_some(), acked, self.fin_taken) {
            (false, _, false) => State::Established,
            (false, _, true) => State::CloseWait,
            (true, false, false) => State::FinWait1,
            // Both FINs under way: only the old state knows who was first.
            (true, false, true) if matches!(old, State::CloseWait | State::LastAck) => {
                State::LastAck
            }
            (true, false, true) => State::Closing,
            (true, true, false) => State::FinWait2,
            (true, true, true) if matches!(old, State::LastAck) => {
                let outcome = self.end(None);
                return (self, outcome);
            }
            (true, true, true) => {
                self.need |= Need::ACK;
                let outcome = self.enter_time_wait();
                return (self, outcome);
            }
        };
        self.enter(state);
        self.time_window(now);
        self.begin_send_limit();
        self.choose_congestion(now);
        self.arm_keep_alive(now, now);
        // An ACK tells the peer that we are there, and repeats the window in case that was lost.
        self.need |= Need::ACK;
        if self.una.lt(self.max) {
            // When it left is not known: all of it goes out again.
            self.board.sent(self.una, self.max, self.mss as u16, false, now);
            self.board.judge(|_| true);
            (self.recovery.phase, self.recovery.high) = (Phase::Loss, self.max);
        }
        if self.una == self.max && self.una.lt(self.fin.unwrap_or(self.tail)) {
            self.need |= Need::PROBE;
        }
        if self.orphan {
            let _ = self.limit_fin_wait_2(now);
        }
        (self, Outcome::READY)
    }
}
