//! The turn of the wheel: what has arrived, what is due, what may leave, within budgets.

use super::fair::QUANTUM;
use super::sock::Queued;
use super::{Body, Served, Signals, Stack, tx};
use crate::env::{DriverFault, Env, Event, SessionFault};
use crate::neigh::ENTRIES;
use crate::port::{RESET_PAUSE_NS, Waiting};
use crate::tcp::NEVER;
use libipc::ring::PeerError;
use libipc::sock::Error;

/// Frames taken from the driver in one turn.
pub(super) const RX_BUDGET: u64 = 64;
/// Ids taken from a session in one turn.
pub(super) const SUBMIT_BUDGET: u64 = 256;
/// Timers run in one turn.
pub(super) const TIMER_BUDGET: usize = 256;
/// Sockets served by one turn of the send queue.
pub(super) const PUMP_BUDGET: usize = 1024;

/// Timers of the stack's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Own {
    Dhcp,
    Link,
    Reassembly,
    Groups,
    Ip6,
    /// One an entry, from here on.
    Neighbours,
}

impl Own {
    const FIRST: Self = Self::Dhcp;
    /// How many there are.
    pub(super) const COUNT: usize = Self::Neighbours as usize + ENTRIES;
}

impl<E: Env> Stack<E> {
    /// One turn at time `now`: everything that has arrived, within budgets. `bells`: bits of the
    /// sessions whose doorbell rang. `true`: there is more to do, call again at once.
    pub fn poll(&mut self, now: u64, bells: u32) -> bool {
        self.now = self.now.max(now);
        self.bells |= bells;
        let mut more = self.driver_turn();
        more |= self.loopback_turn();
        more |= self.submit_turn();
        more |= self.timer_turn();
        more |= self.pump();
        // After the pump: sending is what makes it ask.
        self.neighbour_turn();
        self.publish();
        more || !self.loopback.is_empty()
    }

    /// When [`Stack::poll`] is due although nothing arrives.
    pub fn poll_at(&self) -> Option<u64> {
        let closed = (self.port_closed_until > self.now).then_some(self.port_closed_until);
        match (self.wheel.next(), closed) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Asks everybody to be signalled for news; `true`: there is none, sleep.
    pub fn sleep(&mut self) -> bool {
        if self.port_closed_until > self.now {
            return self.bells == 0;
        }
        // Frames that come back are news only for those who wait for them; else they are taken
        // on the way, with the next turn.
        let returns = self.turns.waits_for_driver() || self.ending != 0;
        match self.port.sleep(returns) {
            Ok(idle) => idle && self.bells == 0,
            Err(fault) => {
                self.driver_fault(fault);
                false
            }
        }
    }

    /// Who must be signalled; asking clears it.
    pub fn take_signals(&mut self) -> Signals {
        let mut sessions = 0;
        for i in bits(core::mem::take(&mut self.news)) {
            sessions |= (self.sessions[i].take_signal() as u32) << i;
        }
        Signals {
            driver: self.port.take_signal(),
            sockd: core::mem::take(&mut self.signal_sockd),
            sessions,
        }
    }

    #[inline]
    pub(super) fn publish(&mut self) {
        self.port.publish();
        for i in bits(self.news) {
            self.sessions[i].publish();
        }
    }

    /// Everything the driver has for us.
    pub(super) fn driver_turn(&mut self) -> bool {
        if self.port_closed_until > self.now {
            return false;
        }
        self.status_turn();
        let Some(waiting) = self.take_returns() else { return false };
        for _ in 0..waiting.arrived.min(RX_BUDGET) {
            match self.port.receive() {
                Ok(Some(frame)) => {
                    if frame.len > 0 {
                        self.counters.rx_frames += 1;
                        self.frame(self.port.pool(), frame.offset, frame.len, frame.checked, false);
                    }
                    self.port.recycle(frame.buffer);
                }
                Ok(None) => return false,
                Err(fault) => {
                    self.driver_fault(fault);
                    return false;
                }
            }
        }
        waiting.arrived > RX_BUDGET
    }

    /// Looks at the driver's rings and takes back the frames that have left. `None`: the driver is at
    /// fault.
    #[inline]
    pub(super) fn take_returns(&mut self) -> Option<Waiting> {
        match self.port.look() {
            Ok(waiting) if waiting.returned == 0 => Some(waiting),
            Ok(waiting) => {
                let sane = self.take_frames();
                self.port.note_returns(self.now);
                sane.then_some(waiting)
            }
            Err(fault) => {
                self.driver_fault(fault);
                None
            }
        }
    }

    fn take_frames(&mut self) -> bool {
        loop {
            match self.port.completed() {
                Ok(Some(sent)) => {
                    self.counters.tx_refused += sent.refused as u64;
                    let session = sent.session.and_then(|s| self.sessions.get_mut(s as usize));
                    if let Some(s) = session {
                        s.in_flight = s.in_flight.saturating_sub(1);
                        // The end of a session may wait for this.
                        self.signal_sockd |= s.ending && s.in_flight == 0;
                    }
                }
                Ok(None) => return true,
                Err(fault) => {
                    self.driver_fault(fault);
                    return false;
                }
            }
        }
    }

    /// Number of a timer of the stack's own: they come after those of sockets, of connections in
    /// TIME-WAIT and of handshakes.
    pub(super) fn own_timer(&self, timer: Own) -> u32 {
        (self.socks.len() + self.time_wait.len() + self.requests.len()) as u32 + timer as u32
    }
    /// Number of the timer of a neighbour's entry.
    pub(super) fn neighbour_timer(&self, entry: usize) -> u32 {
        self.own_timer(Own::Neighbours) + entry as u32
    }

    pub(super) fn timer_turn(&mut self) -> bool {
        for _ in 0..TIMER_BUDGET {
            let Some(timer) = self.wheel.expired(self.now) else { return false };
            if timer >= self.own_timer(Own::FIRST) {
                self.own_timer_due(timer - self.own_timer(Own::FIRST));
            } else if timer as usize >= self.socks.len() + self.time_wait.len() {
                self.request_due(timer);
            } else if timer as usize >= self.socks.len() {
                self.time_wait_over(timer);
            } else {
                self.tcp_timer(timer);
            }
        }
        true
    }

    fn own_timer_due(&mut self, timer: u32) {
        match timer {
            t if t == Own::Dhcp as u32 => self.dhcp_due(),
            t if t == Own::Link as u32 => self.link_due(),
            t if t == Own::Reassembly as u32 => self.reassembly_due(),
            t if t == Own::Groups as u32 => self.igmp_due(),
            t if t == Own::Ip6 as u32 => self.ip6_due(),
            t if t >= Own::Neighbours as u32 => {
                self.neighbour_due((t - Own::Neighbours as u32) as usize);
            }
            _ => {}
        }
    }

    /// Sets the wheel for connection `i`. It may fire early: deadlines move back with each ACK,
    /// and moving the timer every time would cost more than looking again.
    #[inline]
    pub(super) fn arm(&mut self, i: u32) {
        if let Body::Tcp(conn) = &self.socks[i as usize].body {
            let at = conn.deadline();
            if at != NEVER {
                self.wheel.set_by(i, at);
            }
        }
    }

    /// Lets queued sockets send, in turn, as long as the driver takes frames.
    #[inline]
    pub(super) fn pump(&mut self) -> bool {
        if self.turns.is_empty() || self.port_closed_until > self.now {
            return false;
        }
        self.pump_some()
    }

    fn pump_some(&mut self) -> bool {
        // Who was blocked once in this turn stays so.
        let (mut others, mut local) = (true, true);
        for _ in 0..PUMP_BUDGET {
            if self.turns.is_empty() {
                return false;
            }
            let driver = others
                && match self.port.is_ready(tx::HEAD_ROOM) {
                    Ok(ready) => ready,
                    Err(fault) => {
                        self.driver_fault(fault);
                        return false;
                    }
                };
            // Without room it goes on when frames come back.
            let Some((i, queued)) = self.next_turn(driver, local) else { return false };
            if queued == Queued::Rest {
                let credit = &mut self.socks[i as usize].credit;
                *credit += QUANTUM;
                if *credit <= 0 {
                    self.enqueue(i, Queued::Rest, false);
                    continue;
                }
            }
            if self.serve(i, queued) == Served::Blocked {
                others &= queued == Queued::Local;
                local &= queued != Queued::Local;
            }
        }
        true
    }

    /// Lets socket `i` send, whose turn it is.
    pub(super) fn serve(&mut self, i: u32, queued: Queued) -> Served {
        let before = self.port.sent_bytes();
        let served = match self.socks[i as usize].body {
            Body::Tcp(_) => self.tcp_output(i),
            Body::Dgram(_) => self.dgram_output(i),
            _ => Served::Done,
        };
        let s = &mut self.socks[i as usize];
        s.credit -= (self.port.sent_bytes() - before) as i32;
        match served {
            Served::Done => {}
            Served::More => self.want_send(i),
            // It is still its turn.
            Served::Blocked if s.queued == Queued::No => self.enqueue(i, queued, true),
            Served::Blocked => {}
        }
        served
    }

    /// Whether socket `i` is connected to this very host.
    pub(super) fn is_local(&self, i: u32) -> bool {
        let to = self.socks[i as usize].remote.ip();
        to.is_loopback() || self.iface.is_ours(to)
    }

    pub(super) fn note_driver_fault(&mut self, fault: DriverFault) {
        self.counters.driver_errors += 1;
        if let Some(held) = self.driver_pace.admit(self.now) {
            self.env.event(Event::Driver { fault, held });
        }
    }

    #[cold]
    pub(super) fn driver_fault(&mut self, fault: DriverFault) {
        self.note_driver_fault(fault);
        self.port.reset();
        for s in &mut self.sessions {
            s.in_flight = 0;
            self.signal_sockd |= s.ending;
        }
        self.port_closed_until = self.now + RESET_PAUSE_NS;
    }

    /// The session's memory holds nonsense: its sockets are aborted, and it is not believed until
    /// it begins anew.
    pub(super) fn session_fault(&mut self, session: u16, fault: SessionFault) {
        self.counters.peer_errors += 1;
        let s = &mut self.sessions[session as usize];
        s.dead = true;
        s.faults = s.faults.saturating_add(1);
        if let Some(held) = s.fault_pace.admit(self.now) {
            let program = s.spec.program.clone();
            self.env.event(Event::Session { program, fault, held });
        }
        let s = &self.sessions[session as usize];
        let (base, n) = (s.base, s.sockets());
        for i in base..base + n {
            if !matches!(self.socks[i as usize].body, Body::Free) {
                self.abort(i, Error::ConnectionAborted);
            }
        }
        // Its ready ring is not written any more, but whoever waits must see the end.
        self.sessions[session as usize].wake();
        self.news |= 1 << session;
    }

    pub(super) fn ring_fault(&mut self, session: u16, e: PeerError) {
        self.session_fault(session, SessionFault::Ring(e));
    }
}

impl Signals {
    /// The numbers of the sessions whose programs are to be signalled.
    pub fn sessions(&self) -> impl Iterator<Item = usize> + use<> {
        bits(self.sessions)
    }
}

/// The numbers of the bits that are set.
pub(super) fn bits(mut word: u32) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let i = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (i < 32).then_some(i as usize)
    })
}
