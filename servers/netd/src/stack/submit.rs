//! What programs submit: ids of sockets whose indices have moved.

use super::turns::{SUBMIT_BUDGET, bits};
use super::{Body, Stack};
use crate::env::{Env, SessionFault};
use crate::list::NONE;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

impl<E: Env> Stack<E> {
    /// Serves the sessions whose doorbell rang.
    pub(super) fn submit_turn(&mut self) -> bool {
        for session in bits(self.bells) {
            if self.session_turn(session as u16) {
                self.bells &= !(1 << session);
            }
        }
        self.bells != 0
    }

    /// `true`: nothing more is there, and the program will ring.
    fn session_turn(&mut self, session: u16) -> bool {
        let Some(s) = self.sessions.get_mut(session as usize).filter(|s| !s.dead) else {
            return true;
        };
        let waiting = match s.look() {
            Ok(waiting) => waiting,
            Err(e) => {
                self.ring_fault(session, e);
                return true;
            }
        };
        for _ in 0..waiting.min(SUBMIT_BUDGET) {
            let s = &mut self.sessions[session as usize];
            let Some(id) = s.submitted().filter(|_| !s.dead) else { return true };
            if id >= s.sockets() as u64 {
                self.session_fault(session, SessionFault::Id(id));
                return true;
            }
            let i = s.base + id as u32;
            if let Err(fault) = self.submitted(i) {
                self.session_fault(session, fault);
                return true;
            }
        }
        match self.sessions[session as usize].sleep() {
            Ok(idle) => idle,
            Err(e) => {
                self.ring_fault(session, e);
                true
            }
        }
    }

    /// Takes the program's indices of socket `i`.
    pub(super) fn submitted(&mut self, i: u32) -> Result<(), SessionFault> {
        let s = &self.socks[i as usize];
        let (id, unaccepted) = (s.id, s.listener != NONE);
        let app = self.sessions[s.session as usize].app(id);
        let (tail, head) = (app.tx_tail.load(Acquire), app.rx_head.load(Acquire));
        let bits = app.options.load(Relaxed);
        match &mut self.socks[i as usize].body {
            Body::Tcp(conn) if !unaccepted && !conn.is_orphan() => {
                if !conn.wrote(tail as u32) {
                    return Err(SessionFault::SendIndex(id));
                }
                if !conn.took(head as u32, self.now) {
                    return Err(SessionFault::ReceiveIndex(id));
                }
                if bits != conn.opts().bits {
                    self.take_opts(i);
                }
                let Body::Tcp(conn) = &self.socks[i as usize].body else { return Ok(()) };
                if conn.wants_output() {
                    self.send_or_queue(i);
                }
            }
            Body::Dgram(_) => {
                self.dgram_indices(i, tail, head)?;
                let Body::Dgram(d) = &self.socks[i as usize].body else { return Ok(()) };
                // Options alone bind nothing.
                if d.tx_tail != d.tx_head && self.bind_any(i).is_ok() {
                    self.send_or_queue(i);
                }
            }
            // The program may not know yet that it is over.
            _ => {}
        }
        Ok(())
    }
}
