//! What holds of every connection between any two steps (RFC 9293 3.3.1, 3.4).

use super::{Conn, NEVER, State};
use crate::record::halves;
use core::sync::atomic::Ordering::Relaxed;

impl Conn {
    /// Panics if something that always holds does not.
    pub fn check(&self) {
        assert_eq!(self.rec.state(), self.state, "the program sees another state");
        if self.state == State::Closed {
            return assert_eq!(self.deadline(), NEVER);
        }
        self.check_sending();
        if self.state != State::SynSent {
            self.check_receiving();
        }
    }

    /// Pages that count as held for it.
    pub fn charged(&self) -> u32 {
        self.board.charged() as u32
    }

    fn check_sending(&self) {
        let end = self.tail + self.fin.is_some() as u32;
        assert!(self.una.le(self.max), "SND.UNA <= SND.MAX");
        if self.is_synchronised() {
            self.board.check(self.una, self.max);
        }
        assert!(self.max.le(end) || self.max == self.iss, "nothing is sent that was not written");
        assert!(self.tail - self.una.max(self.iss + 1).min(self.tail) <= self.tx_size);
        let (una, max) = halves(self.rec.snd.load(Relaxed));
        let told = una == self.una.max(self.iss + 1) && max == self.max;
        assert!(told || !self.is_synchronised(), "SND in the record");
        let silent = self.una == self.max || !self.is_synchronised() || self.wants_output();
        assert!(silent || self.rto_at != NEVER, "what is in flight has a timer");
        assert!(self.search.is_sane(self.una, self.max), "what is probed with is in flight");
        assert!(self.mss > 0 && self.cc.window() > 0, "something may always be sent");
    }

    fn check_receiving(&self) {
        assert!(self.irs.lt(self.rcv_nxt));
        assert!(self.rcv_nxt.le(self.rcv_adv), "the window is not taken back");
        assert!(self.head.le(self.rcv_nxt) && self.unread() <= self.rx_size);
        let room = self.rx_size + self.fin_taken as u32;
        assert!(self.rcv_adv - self.head <= room, "more offered than there is");
        let (nxt, adv) = halves(self.rec.rcv.load(Relaxed));
        let shown = if self.fin_taken { self.rcv_nxt - 1 } else { self.rcv_adv };
        assert!(nxt == self.rcv_nxt && adv == shown, "RCV in the record");
    }
}
