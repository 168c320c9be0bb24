//! For how long a peer is believed in that does not answer: retransmissions, probes of a closed window,
//! keep-alive, connections that no program holds (RFC 9293 3.8.3, 3.8.4, 3.8.6.1; RFC 1122 4.2.3.5, 4.2.3.6; RFC 5482).
//! The limits are Linux's.

use super::{Conn, NEVER, Need, Outcome};
use libipc::sock::{Error, State, option};

const MS: u64 = 1_000_000;
/// Bounds of the retransmission time-out as the limits below reckon with it.
const RTO_MIN: u64 = 200 * MS;
const RTO_MAX: u64 = 120_000 * MS;
/// What the first SYN waits for.
const RTO_SYN: u64 = 1000 * MS;
/// Retransmissions of a SYN a second apart, before the distance doubles (`tcp_syn_linear_timeouts`).
const SYN_LINEAR: u8 = 4;
/// Retransmissions of a SYN-ACK: a minute (`tcp_synack_retries`).
const SYN_ACK_RETRIES: u8 = 5;
/// Retransmissions of data, and probes of a closed window (`tcp_retries2`): R2 of RFC 9293 3.8.3.
const RETRIES: u8 = 15;
/// Likewise of a connection that no program holds.
const ORPHAN_RETRIES: u8 = 8;

/// What is remembered of a peer's silence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// When the peer was heard last.
    heard_at: u64,
    /// Probes sent since, of a closed window or of a silent peer.
    probes: u8,
    /// Doublings of the distance of probes, until the window opens.
    backoff: u8,
    /// When the first probe of this closed window left; [`NEVER`]: none has.
    closed_since: u64,
    /// When keep-alive is due.
    keep_at: u64,
    /// When FIN-WAIT-2 ends by itself.
    fin_wait_2_until: u64,
    /// What ICMP says of the way, told if the peer is given up (RFC 5461).
    soft: Option<Error>,
}

impl Patience {
    pub fn new(now: u64) -> Self {
        Self {
            heard_at: now,
            probes: 0,
            backoff: 0,
            closed_since: NEVER,
            keep_at: NEVER,
            fin_wait_2_until: NEVER,
            soft: None,
        }
    }
    /// What ICMP has said of the way since the last progress.
    pub(super) fn soft(&self) -> Option<Error> {
        self.soft
    }

    /// Unanswered probes, for TCP_INFO.
    pub fn probes(&self) -> u8 {
        self.probes
    }
    /// When the peer was heard last.
    pub fn heard_at(&self) -> u64 {
        self.heard_at
    }
}

/// How long `retries` retransmissions take whose distance doubles from `first` on.
fn lasts(retries: u8, first: u64) -> u64 {
    let retries = retries as u32;
    let doublings = (RTO_MAX / first).ilog2();
    let (doubled, rest) = (retries.min(doublings), retries.saturating_sub(doublings));
    ((2 << doubled) - 1) * first + rest as u64 * RTO_MAX
}

impl Conn {
    /// The peer has sent something acceptable.
    pub(super) fn heard(&mut self, now: u64) {
        self.patience.heard_at = now;
        self.patience.probes = 0;
    }

    /// The peer has acknowledged something new.
    pub(super) fn progress(&mut self) {
        self.retries = 0;
        self.patience.soft = None;
    }

    /// The window has room again.
    pub(super) fn stop_probing(&mut self) {
        (self.patience.backoff, self.patience.closed_since) = (0, NEVER);
    }

    /// ICMP says that the peer cannot be reached: while the connection stands no more than a hint.
    pub(super) fn doubt(&mut self, error: Error) {
        self.patience.soft = Some(error);
    }

    /// The peer is given up.
    fn give_up(&mut self) -> Outcome {
        self.end(Some(self.patience.soft.unwrap_or(Error::TimedOut)))
    }

    /// The retransmission timer fired: what is due, unless the peer is given up ([`Err`]).
    pub(super) fn try_again(&mut self, now: u64) -> Result<(), Outcome> {
        if self.has_waited_enough(now) {
            return Err(self.give_up());
        }
        if self.retries == 0 && self.state != State::SynSent {
            self.stuck_since = now;
        }
        self.retries = self.retries.saturating_add(1);
        Ok(())
    }

    /// Linux counts SYNs, but measures how long data is being repeated.
    fn has_waited_enough(&self, now: u64) -> bool {
        if self.retries == 0 {
            return false;
        }
        let patience = self.opts().user_timeout();
        let stuck = now.saturating_sub(self.stuck_since);
        let too_long = |retries: u8, first: u64| match patience {
            0 => stuck >= lasts(retries, first),
            limit => stuck >= limit,
        };
        match self.state {
            // Once more for who has been accepted already (Linux).
            State::SynReceived if self.passive => {
                self.retries >= SYN_ACK_RETRIES + self.is_fast_child() as u8
            }
            State::SynSent => {
                let retries = self.opts().syn_retries();
                self.retries >= retries.saturating_add(SYN_LINEAR) || too_long(retries, RTO_SYN)
            }
            State::SynReceived => {
                let retries = self.opts().syn_retries();
                self.retries >= retries || too_long(retries, RTO_SYN)
            }
            _ if self.orphan => {
                let alive = self.rtt.rto() < RTO_MAX;
                too_long(if alive { ORPHAN_RETRIES } else { 0 }, RTO_MIN)
            }
            _ => too_long(RETRIES, RTO_MIN),
        }
    }

    /// Whether the distance of the next SYN doubles.
    pub(super) fn syn_backs_off(&self) -> bool {
        self.state != State::SynSent || self.retries > SYN_LINEAR
    }

    /// The time of the next retransmission, or the end of the program's patience if that is earlier.
    pub(super) fn within_user_timeout(&self, at: u64) -> u64 {
        match self.opts().user_timeout() {
            0 => at,
            _ if self.retries == 0 => at,
            limit => at.min(self.stuck_since.saturating_add(limit)),
        }
    }

    /// Distance of the next probe of a closed window.
    fn probe_interval(&self) -> u64 {
        (self.rtt.rto().max(RTO_MIN) << self.patience.backoff.min(10)).min(RTO_MAX)
    }

    /// With data to send, nothing in flight, and a window (or a cork) that does not let it go, only
    /// a timer can break the silence.
    #[cold]
    pub(super) fn arm_persist(&mut self, now: u64) {
        if self.una == self.max && self.rto_at == NEVER {
            self.rto_at = now + self.probe_interval();
        }
    }

    /// The peer has answered, and still has no room: the next probe counts from here.
    pub(super) fn rearm_persist(&mut self, now: u64) {
        if self.wnd == 0 && self.rto_at != NEVER && (self.max.lt(self.tail) || self.fin_pending()) {
            self.rto_at = self.next_probe(now);
        }
    }

    /// When a closed window is probed again, or the program's patience ends if that is earlier.
    fn next_probe(&self, now: u64) -> u64 {
        let at = now + self.probe_interval();
        match self.opts().user_timeout() {
            limit if limit != 0 && self.patience.closed_since != NEVER => {
                at.min(self.patience.closed_since.saturating_add(limit))
            }
            _ => at,
        }
    }

    /// Nothing is in flight, and something waits: sends what the window allows, or asks for it.
    pub(super) fn persist(&mut self, now: u64) -> Outcome {
        let end = self.fin.map_or(self.tail, |fin| fin + 1);
        if !self.max.lt(end) {
            return Outcome::empty();
        }
        let limit = self.opts().user_timeout();
        if self.patience.closed_since == NEVER {
            self.patience.closed_since = now;
        } else if limit != 0 && now - self.patience.closed_since >= limit {
            return self.give_up();
        }
        let most = match self.orphan {
            false => RETRIES,
            true if self.probe_interval() < RTO_MAX => ORPHAN_RETRIES,
            true => 0,
        };
        if self.patience.probes >= most {
            return self.give_up();
        }
        self.need |= Need::PROBE;
        self.patience.probes += 1;
        self.patience.backoff = (self.patience.backoff + 1).min(RETRIES);
        self.rto_at = self.next_probe(now);
        Outcome::empty()
    }

    /// The connection has begun, or its options have changed: when keep-alive is due, whose pause counts from
    /// `since`.
    #[cold]
    pub(super) fn arm_keep_alive(&mut self, since: u64, now: u64) {
        let on = self.opts().has(option::KEEPALIVE) && self.is_synchronised();
        let due = since.saturating_add(self.opts().keep_idle());
        self.patience.keep_at = if on { due.max(now) } else { NEVER };
        self.arm_rare();
    }

    fn arm_rare(&mut self) {
        self.misc_at = self.patience.keep_at.min(self.patience.fin_wait_2_until);
    }

    /// One of the timers that seldom run.
    #[cold]
    pub(super) fn rare_timer(&mut self, now: u64) -> Outcome {
        if self.patience.fin_wait_2_until <= now {
            return self.end(None);
        }
        let mut outcome = Outcome::empty();
        if self.patience.keep_at <= now {
            outcome = self.keep_alive(now);
        }
        if self.state != State::Closed {
            self.arm_rare();
        }
        outcome
    }

    /// RFC 9293 3.8.4.
    fn keep_alive(&mut self, now: u64) -> Outcome {
        let (idle, interval) = (self.opts().keep_idle(), self.opts().keep_interval());
        let silent = now - self.patience.heard_at;
        let end = self.fin.map_or(self.tail, |fin| fin + 1);
        if self.una.lt(end) {
            // Retransmissions and probes see to it.
            self.patience.keep_at = now + idle;
            return Outcome::empty();
        }
        if silent < idle {
            self.patience.keep_at = self.patience.heard_at + idle;
            return Outcome::empty();
        }
        let enough = match self.opts().user_timeout() {
            0 => self.patience.probes >= self.opts().keep_count(),
            limit => silent >= limit && self.patience.probes > 0,
        };
        if enough {
            return self.give_up() | Outcome::RESET;
        }
        self.patience.probes += 1;
        self.need |= Need::KEEP;
        self.patience.keep_at = now + interval;
        Outcome::empty()
    }

    /// FIN-WAIT-2 begins, or the program closes in it: without a program it ends some time.
    /// `Err`: at once (TCP_LINGER2).
    pub(super) fn limit_fin_wait_2(&mut self, now: u64) -> Result<(), ()> {
        if self.orphan && self.state == State::FinWait2 {
            let rto = self.rtt.rto();
            let limit = self.opts().fin_wait_2().ok_or(())?;
            self.patience.fin_wait_2_until = now + limit.max((rto << 2) - (rto >> 1));
            self.arm_rare();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_ip_sysctl() {
        let seconds = |retries, first| lasts(retries, first) as f64 / 1e9;
        assert_eq!(seconds(RETRIES, RTO_MIN), 924.6);
        assert_eq!(seconds(6, RTO_SYN), 127.0);
        assert_eq!(seconds(ORPHAN_RETRIES, RTO_MIN), 102.2);
        assert_eq!(seconds(0, RTO_MIN), 0.2);
    }
}
