//! The turn of the wheel: what has arrived, what is due, what may leave, within budgets.

use super::fair::QUANTUM;
use super::sock::Queued;
use super::{Body, Served, Signals, Stack, tx};
use crate::dev::{Dev, NICS};
use crate::env::{DriverFault, Env, Event, SessionFault};
use crate::neigh::ENTRIES;
use crate::port::RESET_PAUSE_NS;
use crate::tcp::NEVER;
use core::sync::atomic::Ordering::Acquire;
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
    Link,
    Reassembly,
    /// From here on one a card, of each of these.
    Dhcp,
    Igmp,
    Ip6,
}

impl Own {
    const FIRST: u32 = 0;
    /// Those of cards.
    const CARDS: u32 = Self::Dhcp as u32;
    const EACH: u32 = 3;
    /// One an entry of the neighbour table, from here on.
    const NEIGHBOURS: u32 = Self::CARDS + Self::EACH * NICS as u32;
    /// How many there are.
    pub(super) const COUNT: usize = Self::NEIGHBOURS as usize + ENTRIES;

    const fn of(self, dev: Dev) -> u32 {
        self as u32 + Self::EACH * dev.index() as u32
    }
    /// Of the client of DHCP of `dev`.
    pub(super) const fn dhcp(dev: Dev) -> u32 {
        Self::Dhcp.of(dev)
    }
    /// Of the reports of groups by `dev`.
    pub(super) const fn igmp(dev: Dev) -> u32 {
        Self::Igmp.of(dev)
    }
    /// Of what `dev` does of IPv6.
    pub(super) const fn ip6(dev: Dev) -> u32 {
        Self::Ip6.of(dev)
    }
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
        let mut at = self.wheel.next();
        for dev in self.devs() {
            let until = self.nics[dev].closed_until;
            if until > self.now {
                at = Some(at.map_or(until, |at| at.min(until)));
            }
        }
        at
    }

    /// Asks everybody to be signalled for news; `true`: there is none, sleep.
    pub fn sleep(&mut self) -> bool {
        // Frames that come back are news only for those who wait for them; else they are taken
        // on the way, with the next turn.
        let idle = self.bells == 0 && self.sleep_on(Dev::FIRST);
        idle & (self.nics.is_alone() || self.others_sleep())
    }

    #[cold]
    fn others_sleep(&mut self) -> bool {
        let mut idle = true;
        for dev in self.other_devs() {
            idle &= self.sleep_on(dev);
        }
        idle
    }

    /// As [`Self::sleep`], for news of the driver of `dev`.
    #[inline(always)]
    fn sleep_on(&mut self, dev: Dev) -> bool {
        let returns = self.wants_returns(dev);
        let nic = &mut self.nics[dev];
        if nic.closed_until > self.now {
            return true;
        }
        match nic.port.sleep(returns) {
            Ok(idle) => idle,
            Err(fault) => {
                self.driver_fault(dev, fault);
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
            drivers: self.take_driver_signals(),
            sockd: core::mem::take(&mut self.signal_sockd),
            sessions,
        }
    }

    #[inline]
    pub(super) fn publish(&mut self) {
        self.nics.each(|_, nic| nic.port.publish());
        for i in bits(self.news) {
            self.sessions[i].publish();
        }
    }

    /// Everything that drivers have for us.
    #[inline]
    pub(super) fn driver_turn(&mut self) -> bool {
        let more = self.card_turn(Dev::FIRST);
        more | (!self.nics.is_alone() && self.others_turn())
    }

    #[cold]
    fn others_turn(&mut self) -> bool {
        let mut more = false;
        for dev in self.other_devs() {
            more |= self.card_turn(dev);
        }
        more
    }

    /// Everything that the driver of `dev` has for us.
    #[inline(always)]
    fn card_turn(&mut self, dev: Dev) -> bool {
        let Some(arrived) = self.look_at(dev) else { return false };
        for _ in 0..arrived.min(RX_BUDGET) {
            let port = &mut self.nic(dev).port;
            match port.receive() {
                Ok(Some(frame)) => {
                    let pool = port.pool();
                    if frame.len > 0 {
                        self.counters.rx_frames += 1;
                        self.frame(pool, frame.offset, frame.len, frame.checked, Some(dev));
                    }
                    self.nic(dev).port.recycle(frame.buffer);
                }
                Ok(None) => return false,
                Err(fault) => {
                    self.driver_fault(dev, fault);
                    return false;
                }
            }
        }
        arrived > RX_BUDGET
    }

    /// Looks at what the driver of `dev` says and at its rings, unless they were reset a moment ago: how many frames
    /// have come.
    #[inline(always)]
    fn look_at(&mut self, dev: Dev) -> Option<u64> {
        let nic = &self.nics[dev];
        if nic.closed_until > self.now {
            return None;
        }
        let version = nic.port.status().version.load(Acquire);
        if version != nic.status_version {
            self.status_changed(dev, version);
        }
        if (self.nics[dev].port.is_busy() || self.wants_returns(dev)) && !self.take_returns(dev) {
            return None;
        }
        match self.nic(dev).port.arrived() {
            Ok(arrived) => Some(arrived),
            Err(fault) => {
                self.driver_fault(dev, fault);
                None
            }
        }
    }

    /// Whether somebody waits for frames to come back from the driver of `dev`.
    #[inline(always)]
    fn wants_returns(&self, dev: Dev) -> bool {
        self.turns.waits_for(dev) || self.ending != 0
    }

    /// Takes back the frames of `dev` that have left. `false`: the driver is at fault.
    fn take_returns(&mut self, dev: Dev) -> bool {
        match self.nic(dev).port.returned() {
            Ok(0) => true,
            Ok(_) => {
                let (sane, now) = (self.take_frames(dev), self.now);
                self.nic(dev).port.note_returns(now);
                sane
            }
            Err(fault) => {
                self.driver_fault(dev, fault);
                false
            }
        }
    }

    /// Takes back what has left by any card.
    pub(super) fn take_all_returns(&mut self) {
        for dev in self.devs() {
            if self.nic(dev).closed_until <= self.now {
                self.take_returns(dev);
            }
        }
    }

    fn take_frames(&mut self, dev: Dev) -> bool {
        loop {
            match self.nic(dev).port.completed() {
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
                    self.driver_fault(dev, fault);
                    return false;
                }
            }
        }
    }

    /// Number of a timer of the stack's own: they come after those of sockets, of connections in
    /// TIME-WAIT and of handshakes.
    pub(super) fn own_timer(&self, timer: u32) -> u32 {
        (self.socks.len() + self.time_wait.len() + self.requests.len()) as u32 + timer
    }
    /// Number of the timer of a neighbour's entry.
    pub(super) fn neighbour_timer(&self, entry: usize) -> u32 {
        self.own_timer(Own::NEIGHBOURS) + entry as u32
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
        if timer >= Own::NEIGHBOURS {
            return self.neighbour_due((timer - Own::NEIGHBOURS) as usize);
        }
        let card = timer.checked_sub(Own::CARDS);
        let dev = card.and_then(|c| self.devs().nth((c / Own::EACH) as usize));
        match dev {
            _ if timer == Own::Link as u32 => self.link_due(),
            _ if timer == Own::Reassembly as u32 => self.reassembly_due(),
            Some(dev) if timer == Own::dhcp(dev) => self.dhcp_due(dev),
            Some(dev) if timer == Own::igmp(dev) => self.igmp_due(dev),
            Some(dev) if timer == Own::ip6(dev) => self.ip6_due(dev),
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
        !self.turns.is_empty() && self.pump_some()
    }

    fn pump_some(&mut self) -> bool {
        // Who was blocked once in this turn stays so.
        let (mut blocked, mut local) = (0, true);
        for _ in 0..PUMP_BUDGET {
            if self.turns.is_empty() {
                return false;
            }
            let ready = self.ready_card(blocked);
            // Without room it goes on when frames come back.
            let Some((i, queued)) = self.next_turn(ready, local) else { return false };
            if queued == Queued::Rest {
                let credit = &mut self.socks[i as usize].credit;
                *credit += QUANTUM;
                if *credit <= 0 {
                    self.enqueue(i, Queued::Rest, false);
                    continue;
                }
            }
            if self.serve(i, queued, ready.map_or(0, Dev::bit)) == Served::Blocked {
                match queued {
                    Queued::Local => local = false,
                    // Perhaps it waits for another card than before.
                    _ => blocked |= self.socks[i as usize].out.bit(),
                }
            }
        }
        true
    }

    /// A card, none of `blocked`, for which somebody waits and whose driver takes frames now.
    #[inline]
    fn ready_card(&mut self, blocked: u8) -> Option<Dev> {
        if self.may_pump(Dev::FIRST, blocked) {
            return Some(Dev::FIRST);
        }
        if self.nics.is_alone() { None } else { self.other_ready_card(blocked) }
    }

    #[cold]
    fn other_ready_card(&mut self, blocked: u8) -> Option<Dev> {
        self.other_devs().find(|dev| self.may_pump(*dev, blocked))
    }

    #[inline(always)]
    fn may_pump(&mut self, dev: Dev, blocked: u8) -> bool {
        blocked & dev.bit() == 0 && self.turns.waits_for(dev) && self.is_ready(dev)
    }

    /// Whether the driver of `dev` takes any frame now.
    #[inline(always)]
    pub(super) fn is_ready(&mut self, dev: Dev) -> bool {
        let nic = &mut self.nics[dev];
        nic.closed_until <= self.now
            && match nic.port.is_ready(tx::HEAD_ROOM) {
                Ok(ready) => ready,
                Err(fault) => {
                    self.driver_fault(dev, fault);
                    false
                }
            }
    }

    /// Bytes ever given to drivers.
    #[inline]
    fn sent_bytes(&self) -> u64 {
        let first = self.nics[Dev::FIRST].port.sent_bytes();
        if self.nics.is_alone() { first } else { first + self.others_sent() }
    }

    #[cold]
    fn others_sent(&self) -> u64 {
        self.other_devs().map(|dev| self.nics[dev].port.sent_bytes()).sum()
    }

    /// Lets socket `i` send, whose turn it is. `ready`: cards that are known to take frames, a bit each.
    pub(super) fn serve(&mut self, i: u32, queued: Queued, ready: u8) -> Served {
        let before = self.sent_bytes();
        let served = match self.socks[i as usize].body {
            Body::Tcp(_) => self.tcp_output(i, ready),
            Body::Dgram(_) => self.dgram_output(i, ready),
            _ => Served::Done,
        };
        let sent = self.sent_bytes() - before;
        let s = &mut self.socks[i as usize];
        s.credit -= sent as i32;
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
        let s = &self.socks[i as usize];
        if matches!(&s.body, Body::Tcp(conn) if conn.known.way == self.iface.version()) {
            return false;
        }
        let to = s.remote.ip();
        to.is_loopback() || self.iface.is_ours(to)
    }

    pub(super) fn note_driver_fault(&mut self, dev: Dev, fault: DriverFault) {
        self.counters.driver_errors += 1;
        if let Some(held) = self.driver_pace.admit(self.now) {
            self.env.event(Event::Driver { dev, fault, held });
        }
    }

    #[cold]
    pub(super) fn driver_fault(&mut self, dev: Dev, fault: DriverFault) {
        self.note_driver_fault(dev, fault);
        let until = self.now + RESET_PAUSE_NS;
        let nic = self.nic(dev);
        nic.port.reset();
        nic.closed_until = until;
        for (number, s) in (0..).zip(&mut self.sessions) {
            s.in_flight = self.nics.iter().map(|n| n.port.in_flight_of(number)).sum();
            self.signal_sockd |= s.ending && s.in_flight == 0;
        }
    }

    #[inline]
    fn take_driver_signals(&mut self) -> u8 {
        let mut signals = 0;
        self.nics.each(|dev, nic| {
            if nic.port.take_signal() {
                signals |= dev.bit();
            }
        });
        signals
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
