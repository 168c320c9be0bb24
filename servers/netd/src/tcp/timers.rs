//! Time: retransmission and persist, delayed ACK, TIME-WAIT and the limits of orphans.

use super::{Conn, NEVER, Need, Outcome};
use crate::demux::Tuple;
use crate::timewait::Waiting;
use libipc::sock::State;

impl Conn {
    /// Does what is due at `now`.
    pub fn timer(&mut self, now: u64) -> Outcome {
        let mut outcome = Outcome::empty();
        if self.ack_at <= now {
            self.ack_due();
        }
        if self.misc_at <= now {
            outcome |= self.rare_timer(now);
            if self.state == State::Closed {
                return outcome;
            }
        }
        if self.pace_deadline() <= now {
            self.pacing = false;
        }
        if self.look_at <= now {
            self.look(now);
        }
        if self.rto_at <= now {
            self.rto_at = NEVER;
            outcome |= self.retransmit(now);
        }
        outcome
    }

    fn retransmit(&mut self, now: u64) -> Outcome {
        let end = self.fin.map_or(self.tail, |fin| fin + 1);
        if self.is_synchronised() && !self.una.lt(end) {
            // Nothing is owed but perhaps an ACK that could not leave.
            self.need |= Need::ACK;
            return Outcome::empty();
        }
        if self.is_synchronised() && self.una == self.max {
            return self.persist(now);
        }
        if let Err(outcome) = self.try_again(now) {
            return if self.may_be_swallowed() && self.retries < 2 {
                outcome | Outcome::SWALLOWED
            } else {
                outcome
            };
        }
        let mut outcome = Outcome::empty();
        if self.retries == 3 && self.may_be_swallowed() {
            outcome |= Outcome::SWALLOWED;
        }
        match self.state {
            State::SynSent | State::SynReceived => {
                self.need |= Need::SYN;
                if self.syn_backs_off() {
                    self.rtt.back_off();
                }
                return outcome;
            }
            State::Closed | State::TimeWait => return Outcome::empty(),
            _ => {}
        }
        let flight = self.max - self.una;
        let blocked = self.wnd == 0 || flight == 0;
        if !blocked {
            self.suspect_black_hole(now);
            self.enter_loss(now);
        } else {
            self.need |= Need::PROBE;
        }
        self.rtt.back_off();
        self.rto_at = self.within_user_timeout(now + self.rtt.rto());
        outcome
    }

    pub(super) fn enter_time_wait(&mut self) -> Outcome {
        self.enter(State::TimeWait);
        Outcome::TIME_WAIT | Outcome::READY
    }

    /// What TIME-WAIT keeps of it.
    pub fn waiting(&mut self, tuple: Tuple, held: u8) -> Waiting {
        let (snd_nxt, rcv_nxt) = (self.max, self.rcv_nxt);
        let ts_recent = self.ts_recent();
        Waiting { tuple, snd_nxt, rcv_nxt, window: self.window(), ts_recent, held, until: 0 }
    }
}
