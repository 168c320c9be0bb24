//! A new sockd goes through the table that the last one left.

use libipc::net::{self, Rings};

use super::soft::Soft;
use super::{Netd, Recovery, Server, sock_id};
use crate::table::{NONE, SessionState, Use};

impl Server<'_> {
    pub(super) fn recover_session(
        &mut self,
        s: usize,
        netd: &mut impl Netd,
        report: &mut Recovery,
    ) {
        let state = self.table.session(s);
        if state == SessionState::Closed {
            return;
        }
        self.soft[s] = Soft::uncounted(&self.specs[s]);
        for id in 0..self.table.sockets(s) {
            match self.table.socket(s, id) {
                Ok(None) => self.soft[s].give_id(id),
                Ok(Some(socket)) if self.claim(s, socket.rings) => {
                    self.soft[s].count(id, (socket.usage, socket.listener), true);
                    report.kept += (state == SessionState::Open) as u32;
                }
                // Its session ends as a whole.
                _ if state == SessionState::Ending => {}
                _ => {
                    // Does not hold, or overlaps an earlier one. Whoever owns the bytes, this
                    // record does not: netd resets it before its id is used again.
                    netd.ask(&net::Request::Close { sock: sock_id(s, id), abort: true });
                    self.table.set_usage(s, id, Use::Free, NONE);
                    self.soft[s].give_id(id);
                    report.dropped += 1;
                }
            }
        }
        if state == SessionState::Ending {
            let _ = self.end_session(netd, s);
            return;
        }
        for id in 0..self.table.sockets(s) {
            match self.table.usage(s, id) {
                Ok((Use::Opening, _)) => {
                    // The program never learnt of it, and will ask again.
                    self.close_at_netd(netd, s, id, true);
                    report.dropped += 1;
                    report.kept -= 1;
                }
                Ok((Use::Closing, _)) => self.close_at_netd(netd, s, id, false),
                Ok((Use::Spare | Use::Accepted, l))
                    if l >= self.table.sockets(s)
                        || !self.table.usage(s, l).is_ok_and(|u| u.0 == Use::Listener) =>
                {
                    self.close_at_netd(netd, s, id, true);
                }
                Ok((Use::Listener, _)) => {
                    self.check_spares(netd, s, id);
                    self.soft[s].hungry = true;
                }
                _ => {}
            }
        }
        self.feed_listeners(netd, s);
    }

    /// Claims both rings of a record, or neither.
    pub(super) fn claim(&mut self, s: usize, rings: Rings) -> bool {
        let soft = &mut self.soft[s];
        if !soft.tx.claim(rings.tx_off, rings.tx_bits) {
            return false;
        }
        let both = soft.rx.claim(rings.rx_off, rings.rx_bits);
        if !both {
            soft.tx.give(rings.tx_off, rings.tx_bits);
        }
        both
    }
}
