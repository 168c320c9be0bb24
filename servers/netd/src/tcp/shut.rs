//! Ends that a program brings about (RFC 9293 3.6, RFC 1122 4.2.2.13).

use super::{Conn, Need, Outcome, Segment};
use crate::record;
use crate::wire::tcp::Flags;
use libipc::sock::{State, event};

impl Conn {
    /// Ends the sending half after what [`Conn::wrote`] has announced. The FIN's number is in the
    /// record when this returns.
    pub fn shutdown(&mut self) {
        if self.fin.is_some() || self.state == State::Closed {
            return;
        }
        self.fin = Some(self.tail);
        record::queue_fin(self.rec, self.tail);
        match self.state {
            State::Established => self.enter(State::FinWait1),
            State::CloseWait => self.enter(State::LastAck),
            // The handshake decides first.
            _ => {}
        }
    }

    /// The program will not wait for what arrives from now on. As on Linux the peer learns that only if
    /// our own half has ended, too: until then what comes can still be read.
    pub fn stop_receiving(&mut self) {
        record::add_events(self.rec, event::SHUT_READ);
        self.deaf = true;
    }

    /// Whether a segment brings what nobody will ever read.
    #[cold]
    pub(super) fn is_refused(&self, seg: &Segment) -> bool {
        let ended = matches!(self.state, State::FinWait1 | State::FinWait2);
        ended && self.rcv_nxt.lt(seg.seq + seg.len)
    }

    /// The program has closed the socket; [`Conn::shutdown`] was called. Goes on for a limited
    /// time without progress. `false`: not at all, reset it.
    pub fn orphan(&mut self, now: u64) -> bool {
        self.orphan = true;
        self.deaf = true;
        self.hard().orphan();
        self.limit_fin_wait_2(now).is_ok()
    }

    /// Our FIN is acknowledged, the peer's is awaited.
    pub(super) fn enter_fin_wait_2(&mut self, now: u64) -> Outcome {
        self.enter(State::FinWait2);
        if self.limit_fin_wait_2(now).is_err() {
            // TCP_LINGER2: nobody waits for it.
            return self.end(None) | Outcome::REFUSE;
        }
        Outcome::READY
    }

    /// Nobody holds the socket, and nothing but the peer's FIN is missing: whether `seg`, which is acceptable, is that.
    /// What else is new resets; what is not is dropped, as in TIME-WAIT (`tcp_timewait_state_process`).
    #[cold]
    pub(super) fn awaits_fin(&mut self, seg: &Segment) -> Result<(), Outcome> {
        let end = seg.seq + seg.len + seg.flags.contains(Flags::FIN) as u32;
        if !self.rcv_nxt.lt(end) || end == seg.seq {
            return Err(Outcome::empty());
        }
        if seg.flags.contains(Flags::FIN) && end == self.rcv_nxt + 1 {
            return Ok(());
        }
        Err(self.end(None) | Outcome::REFUSE)
    }

    /// Whether an abort is told by an RST: what the peer sent or has yet to hear would be lost otherwise.
    pub fn tells_abort(&self) -> bool {
        match self.state {
            State::Closed | State::SynSent | State::TimeWait => false,
            // Both sides have said all, but for what is still in our rings.
            State::Closing | State::LastAck => {
                let end = self.fin.map_or(self.tail, |fin| fin + 1);
                self.max.lt(end) || self.need.contains(Need::SYN) || self.unread() > 0
            }
            _ => true,
        }
    }
}
