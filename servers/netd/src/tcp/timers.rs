//! Time: retransmission and persist, delayed ACK, TIME-WAIT and the limits of orphans.

use super::{Conn, NEVER, Need, Outcome};
use crate::demux::Tuple;
use crate::timewait::Waiting;
use libipc::sock::{Error, State};

/// Longest delay of an ACK (RFC 9293 3.8.6.3 allows 500 ms).
pub const ACK_DELAY_NS: u64 = 40_000_000;
/// A closed connection without progress ends after this.
pub const ORPHAN_NS: u64 = 60_000_000_000;
/// Retransmissions of a SYN: more than three minutes (RFC 9293 3.8.3, R2).
const SYN_RETRIES: u8 = 7;
/// Retransmissions of a SYN-ACK: a minute.
const SYN_ACK_RETRIES: u8 = 5;
/// Retransmissions of data: R2 of RFC 9293 3.8.3, at least 100 s; with the least RTO eight minutes.
const DATA_RETRIES: u8 = 15;

impl Conn {
    /// Does what is due at `now`.
    pub fn timer(&mut self, now: u64) -> Outcome {
        let mut outcome = Outcome::empty();
        if self.ack_at <= now {
            self.ack_at = NEVER;
            self.need |= Need::ACK;
        }
        if self.misc_at <= now {
            self.misc_at = NEVER;
            // Nobody has waited for this connection long enough.
            return self.end(Some(Error::TimedOut));
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
        if self.retries == 0 {
            self.stuck_since = now.saturating_sub(self.rtt.rto());
        }
        self.retries = self.retries.saturating_add(1);
        let limited = self.opts().user_timeout() != 0;
        if limited && now - self.stuck_since >= self.opts().user_timeout() {
            return self.end(Some(Error::TimedOut));
        }
        match self.state {
            State::SynSent | State::SynReceived => {
                let limit = if self.passive { SYN_ACK_RETRIES } else { SYN_RETRIES };
                if self.retries > limit && !limited {
                    return self.end(Some(Error::TimedOut));
                }
                self.need |= Need::SYN;
                self.rtt.back_off();
                return Outcome::empty();
            }
            State::Closed | State::TimeWait => return Outcome::empty(),
            _ => {}
        }
        if self.retries > DATA_RETRIES && !limited {
            return self.end(Some(Error::TimedOut));
        }
        let flight = self.max - self.una;
        let blocked = self.wnd == 0 || flight == 0;
        if !blocked {
            self.enter_loss(now);
        } else {
            self.need |= Need::PROBE;
        }
        self.rtt.back_off();
        self.rto_at = self.within_user_timeout(now + self.rtt.rto());
        Outcome::empty()
    }

    /// The time of the next retransmission, or the end of the program's patience if that is earlier.
    pub(super) fn within_user_timeout(&self, at: u64) -> u64 {
        let patient = self.opts().user_timeout() == 0 || self.retries == 0;
        if patient {
            at
        } else {
            at.min(self.stuck_since.saturating_add(self.opts().user_timeout()))
        }
    }

    pub(super) fn enter_time_wait(&mut self) -> Outcome {
        self.enter(State::TimeWait);
        Outcome::TIME_WAIT | Outcome::READY
    }

    /// What TIME-WAIT keeps of it.
    pub fn waiting(&mut self, tuple: Tuple) -> Waiting {
        let (snd_nxt, rcv_nxt) = self.reset_numbers();
        let ts_recent = self.ts_recent();
        Waiting { tuple, snd_nxt, rcv_nxt, window: self.window(), ts_recent, until: 0 }
    }
}
