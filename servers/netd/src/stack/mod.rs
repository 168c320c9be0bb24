//! The stack: sockets, tables and timers around the protocol modules, and the turn of the wheel
//! ([`Stack::poll`]).
//!
//! | file | what |
//! |---|---|
//! | `rx` | frames to protocols |
//! | `tx` | frames out: headers, payload by reference or copied, routes, neighbours |
//! | `tcp` | segments to connections, listeners |
//! | `timewait` | connections that no program holds any more |
//! | `dgram` | UDP and ICMP echo sockets |
//! | `icmp` | echo, errors both ways |
//! | `iface` | address, DHCP, ARP |
//! | `submit` | what programs submit |
//! | `control` | requests of sockd |
//! | `recover` | everything from records |

mod control;
mod dgram;
mod icmp;
mod iface;
mod recover;
mod rx;
mod submit;
mod tcp;
mod timewait;
mod tx;

use alloc::vec::Vec;
use core::hash::Hasher;
use core::net::{Ipv4Addr, SocketAddr};
use siphasher::sip::SipHasher13;

use libipc::net::Rings;
use libipc::ring::PeerError;
use libipc::shared::Bytes;
use libipc::sock::{Error, Kind, Record, State};

use crate::demux::{ANY, Demux, Tuple};
use crate::dhcp;
use crate::env::{Counters, DriverFault, Env, Event, SessionFault};
use crate::list::{Ends, Links};
use crate::neigh::Neighbours;
use crate::port::{Port, PortHard, PortMemory, RESET_PAUSE_NS};
use crate::record::{self, Hard};
use crate::session::{Session, SessionMemory};
use crate::state::{HardState, Secrets};
use crate::tcp::{Conn, NEVER};
use crate::timewait::{TimeWait, WaitRecord};
use crate::wheel::Wheel;
use crate::wire::ethernet::Mac;
use dgram::Dgram;
use tx::LoopQueue;

/// Frames taken from the driver in one turn.
const RX_BUDGET: usize = 64;
/// Ids taken from a session in one turn.
const SUBMIT_BUDGET: usize = 256;
/// Timers run in one turn.
const TIMER_BUDGET: usize = 256;
/// Sockets served by one turn of the send queue.
const PUMP_BUDGET: usize = 1024;

/// How the interface gets its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// From a server.
    Dhcp,
    /// Given.
    Static {
        /// Address.
        addr: Ipv4Addr,
        /// Prefix length.
        prefix: u8,
        /// Default gateway.
        gateway: Option<Ipv4Addr>,
        /// Name server.
        dns: Option<Ipv4Addr>,
    },
}

impl Addressing {
    /// From arguments: `dhcp`, or `ip=10.9.0.2/24 gw=10.9.0.1 dns=10.9.0.1`. Unknown words are
    /// passed over; without an address it is DHCP.
    pub fn parse(args: &str) -> Self {
        let value = |key: &str| args.split_whitespace().find_map(|w| w.strip_prefix(key));
        let address = value("ip=").and_then(|ip| ip.split_once('/'));
        let Some((ip, prefix)) = address else { return Self::Dhcp };
        match (ip.parse(), prefix.parse()) {
            (Ok(addr), Ok(prefix)) if prefix <= 32 => Self::Static {
                addr,
                prefix,
                gateway: value("gw=").and_then(|v| v.parse().ok()),
                dns: value("dns=").and_then(|v| v.parse().ok()),
            },
            _ => Self::Dhcp,
        }
    }
}

/// What a stack is made from.
pub struct Setup {
    /// Memory shared with the driver.
    pub port: PortMemory,
    /// Memory for frames to ourselves.
    pub loopback: Bytes,
    /// `netd.state`.
    pub hard: &'static HardState,
    /// The rest of `netd.state`.
    pub time_wait: &'static [WaitRecord],
    /// Sessions by number.
    pub sessions: Vec<SessionMemory>,
    /// Address.
    pub addressing: Addressing,
    /// Random bytes.
    pub seed: [u8; 32],
    /// Whether small TCP segments wait for ACKs.
    pub nagle: bool,
}

/// What a socket number is at present.
#[allow(clippy::large_enum_variant)] // Most of them are connections: a box would only add a step.
pub(crate) enum Body {
    /// Nothing.
    Free,
    /// A TCP socket that has no connection yet.
    Open,
    /// Waits on a listener for a connection to come.
    Spare,
    /// A connection.
    Tcp(Conn),
    /// A listener.
    Listener(Listener),
    /// UDP or ping.
    Dgram(Dgram),
    /// Over; the program has not closed it yet.
    Over,
}

/// A listener. Lists are over socket numbers.
pub(crate) struct Listener {
    backlog: u32,
    /// Unused sockets.
    spares: Ends,
    /// Handshakes under way.
    half: Ends,
    /// Connections that wait to be accepted.
    waiting: Ends,
    told: bool,
}

/// On which of its listener's lists a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Spare,
    Half,
    Waiting,
}

/// Where a socket waits to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queued {
    No,
    /// On the send queue.
    Device,
    /// For a neighbour (number of its entry).
    Neighbour(usize),
}

/// A socket number: soft state around its record.
pub(crate) struct Sock {
    rec: &'static Record,
    hard: Hard,
    session: u16,
    id: u16,
    local: SocketAddr,
    remote: SocketAddr,
    rings: Rings,
    body: Body,
    queued: Queued,
    listener: u32,
    place: Place,
}

/// How far serving a queued socket came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// Nothing more to send now, or it waits elsewhere.
    Done,
    /// Its turn is over.
    More,
    /// No room.
    Blocked,
}

/// The stack.
pub struct Stack<E> {
    /// The surroundings.
    pub env: E,
    now: u64,
    port: Port,
    port_closed_until: u64,
    status_version: u32,
    offload: bool,
    loopback: LoopQueue,
    hard: &'static HardState,
    secrets: Secrets,
    sessions: Vec<Session>,
    /// Doorbells that rang (a bit a session).
    bells: u32,
    socks: Vec<Sock>,
    /// Numbers after the sockets' are records in TIME-WAIT.
    demux: Demux,
    /// Likewise, then two of the stack's own.
    wheel: Wheel,
    time_wait: TimeWait,
    send_links: Links,
    send_queue: Ends,
    listen_links: Links,
    neighbours: Neighbours,
    addressing: Addressing,
    dhcp: Option<dhcp::Client>,
    iface: iface::Iface,
    mss: u16,
    nagle: bool,
    ip_id: u16,
    random: u64,
    port_counter: u32,
    defended_at: Option<u64>,
    icmp_tokens: u32,
    icmp_refilled: u64,
    /// Something was freed that sockd does not know of.
    signal_sockd: bool,
    counters: Counters,
}

/// Who must be signalled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// The driver.
    pub driver: bool,
    /// sockd: something was freed.
    pub sockd: bool,
    /// Programs, a bit a session.
    pub sessions: u32,
}

impl<E: Env> Stack<E> {
    /// Builds the stack, from records where there are any.
    pub fn new(setup: Setup, env: E, now: u64) -> Self {
        let sockets: usize = setup.sessions.iter().map(|s| s.records.len()).sum();
        let hard = setup.hard;
        let secrets = hard.secrets(&setup.seed);
        let (halves, _) = setup.seed.as_chunks::<8>();
        let key = (u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[3]));
        let (port, fault) =
            Port::new(setup.port, PortHard { rx_base: &hard.rx_base, tx_base: &hard.tx_base });
        let mut sessions = Vec::with_capacity(setup.sessions.len());
        let mut socks = Vec::with_capacity(sockets);
        let mut faults = Vec::new();
        for (number, mem) in setup.sessions.into_iter().enumerate() {
            let base = socks.len() as u32;
            socks.extend(mem.records.iter().enumerate().map(|(id, rec)| Sock {
                rec,
                hard: Hard::new(rec, &hard.journal, number as u16, id as u16),
                session: number as u16,
                id: id as u16,
                local: ANY,
                remote: ANY,
                rings: Rings { tx_off: 0, tx_bits: 0, rx_off: 0, rx_bits: 0 },
                body: Body::Free,
                queued: Queued::No,
                listener: crate::list::NONE,
                place: Place::Nowhere,
            }));
            let (mut session, result) = Session::new(mem, base);
            session.in_flight = port.in_flight_of(number as u16);
            if let Err(e) = result {
                faults.push((number as u16, e));
            }
            sessions.push(session);
        }
        let bells = ((1u64 << sessions.len()) - 1) as u32;
        let mut stack = Self {
            env,
            now,
            port,
            port_closed_until: 0,
            status_version: 0,
            offload: false,
            loopback: LoopQueue::new(setup.loopback),
            hard,
            secrets,
            bells,
            demux: Demux::new(sockets + setup.time_wait.len(), key),
            wheel: Wheel::new(sockets + setup.time_wait.len() + 2, now),
            time_wait: TimeWait::new(setup.time_wait),
            send_links: Links::new(sockets),
            send_queue: Ends::EMPTY,
            listen_links: Links::new(sockets),
            neighbours: Neighbours::new(),
            addressing: setup.addressing,
            dhcp: None,
            iface: iface::Iface::new(),
            mss: 1460,
            nagle: setup.nagle,
            ip_id: 0,
            random: u64::from_le_bytes(halves[1]) ^ u64::from_le_bytes(halves[2]).rotate_left(32),
            port_counter: 0,
            defended_at: None,
            icmp_tokens: icmp::TOKENS,
            icmp_refilled: now,
            signal_sockd: false,
            counters: Counters::default(),
            sessions,
            socks,
        };
        if let Some(fault) = fault {
            stack.note_driver_fault(fault);
        }
        for (session, e) in faults {
            stack.session_fault(session, SessionFault::Ring(e));
        }
        stack.configure();
        stack.recover();
        stack.publish();
        stack
    }

    /// Counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A random number. Not for secrets: those are hashed with keys of their own.
    fn random(&mut self) -> u32 {
        // SplitMix64 (public domain, Vigna).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) as u32
    }

    fn keyed(&self, key: (u64, u64), tuple: &Tuple) -> u64 {
        let mut h = SipHasher13::new_with_keys(key.0, key.1);
        tuple.feed(&mut h);
        h.finish()
    }

    /// The number of socket `id` of `session`, if there is one.
    fn number(&self, session: u16, id: u16) -> Option<u32> {
        let s = self.sessions.get(session as usize)?;
        ((id as u32) < s.sockets()).then(|| s.base + id as u32)
    }

    fn sock(&mut self, i: u32) -> &mut Sock {
        &mut self.socks[i as usize]
    }

    fn kind(&self, i: u32) -> Option<Kind> {
        let s = &self.socks[i as usize];
        match &s.body {
            Body::Free => None,
            Body::Listener(_) => Some(Kind::Listener),
            Body::Dgram(d) => Some(d.kind),
            _ => Some(Kind::Tcp),
        }
    }

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
        match self.port.sleep() {
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
        for (i, s) in self.sessions.iter_mut().enumerate() {
            sessions |= (s.take_signal() as u32) << i;
        }
        Signals {
            driver: self.port.take_signal(),
            sockd: core::mem::take(&mut self.signal_sockd),
            sessions,
        }
    }

    fn publish(&mut self) {
        self.port.publish();
        for s in &mut self.sessions {
            s.publish();
        }
    }

    /// Everything the driver has for us.
    fn driver_turn(&mut self) -> bool {
        if self.port_closed_until > self.now {
            return false;
        }
        self.status_turn();
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
                Ok(None) => break,
                Err(fault) => {
                    self.driver_fault(fault);
                    return false;
                }
            }
        }
        for _ in 0..RX_BUDGET {
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
        true
    }

    fn note_driver_fault(&mut self, fault: DriverFault) {
        self.counters.driver_errors += 1;
        self.env.event(Event::Driver(fault));
    }

    fn driver_fault(&mut self, fault: DriverFault) {
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
    fn session_fault(&mut self, session: u16, fault: SessionFault) {
        self.env.event(Event::Session { session, fault });
        self.counters.peer_errors += 1;
        let s = &mut self.sessions[session as usize];
        s.dead = true;
        let (base, n) = (s.base, s.sockets());
        for i in base..base + n {
            if !matches!(self.socks[i as usize].body, Body::Free) {
                self.abort(i, Error::ConnectionAborted);
            }
        }
        // Its ready ring is not written any more, but whoever waits must see the end.
        self.sessions[session as usize].wake();
    }

    fn ring_fault(&mut self, session: u16, e: PeerError) {
        self.session_fault(session, SessionFault::Ring(e));
    }

    /// Announces socket `i` to its program.
    fn ready(&mut self, i: u32) {
        let (session, id) = {
            let s = &self.socks[i as usize];
            (s.session, s.id)
        };
        let s = &mut self.sessions[session as usize];
        if s.dead {
            return;
        }
        if let Err(e) = s.announce(id) {
            self.ring_fault(session, e);
        }
    }

    /// Frees socket `i`: nobody refers to it afterwards.
    fn free(&mut self, i: u32) {
        self.detach(i);
        let s = self.sock(i);
        s.body = Body::Free;
        (s.local, s.remote) = (ANY, ANY);
        record::free(s.rec);
        let (session, id) = (s.session, s.id);
        self.sessions[session as usize].note_freed(id);
        self.signal_sockd = true;
    }

    /// Takes socket `i` out of every table and queue.
    fn detach(&mut self, i: u32) {
        self.demux.remove(i);
        self.wheel.cancel(i);
        self.unqueue(i);
        self.unlist(i);
    }

    fn unqueue(&mut self, i: u32) {
        match core::mem::replace(&mut self.sock(i).queued, Queued::No) {
            Queued::No => {}
            Queued::Device => self.send_links.remove(&mut self.send_queue, i),
            Queued::Neighbour(n) => self.send_links.remove(self.neighbours.waiting(n), i),
        }
    }

    /// Has something to send.
    fn want_send(&mut self, i: u32) {
        let s = &mut self.socks[i as usize];
        if s.queued == Queued::No {
            s.queued = Queued::Device;
            self.send_links.push(&mut self.send_queue, i);
        }
    }

    fn neighbour_timer(&self) -> u32 {
        (self.socks.len() + self.time_wait.len()) as u32
    }
    fn dhcp_timer(&self) -> u32 {
        self.neighbour_timer() + 1
    }

    fn timer_turn(&mut self) -> bool {
        for _ in 0..TIMER_BUDGET {
            let Some(timer) = self.wheel.expired(self.now) else { return false };
            if timer == self.neighbour_timer() {
                self.neighbours_due();
            } else if timer == self.dhcp_timer() {
                self.dhcp_due();
            } else if timer as usize >= self.socks.len() {
                self.time_wait_over(timer);
            } else {
                self.tcp_timer(timer);
            }
        }
        true
    }

    /// Sets the wheel for connection `i`. It may fire early: deadlines move back with each ACK,
    /// and moving the timer every time would cost more than looking again.
    fn arm(&mut self, i: u32) {
        if let Body::Tcp(conn) = &self.socks[i as usize].body {
            let at = conn.deadline();
            if at != NEVER {
                self.wheel.set_by(i, at);
            }
        }
    }

    /// Lets queued sockets send, in turn, as long as the driver takes frames.
    fn pump(&mut self) -> bool {
        if self.port_closed_until > self.now {
            return false;
        }
        for _ in 0..PUMP_BUDGET {
            let Some(i) = self.send_queue.first() else { return false };
            match self.port.has_room(tx::HEAD_ROOM) {
                Ok(true) => {}
                // Goes on when frames come back, or, for ourselves, with the next turn.
                Ok(false) => return false,
                Err(fault) => {
                    self.driver_fault(fault);
                    return false;
                }
            }
            self.unqueue(i);
            let served = match self.socks[i as usize].body {
                Body::Tcp(_) => self.tcp_output(i),
                Body::Dgram(_) => self.dgram_output(i),
                _ => Served::Done,
            };
            if served != Served::Done {
                self.want_send(i);
            }
            if served == Served::Blocked {
                // Whoever makes room (the driver, or our own loop) leads here again.
                return self.loopback.is_full();
            }
        }
        true
    }

    /// Ends socket `i` at once, telling the peer; the program sees `error`.
    fn abort(&mut self, i: u32, error: Error) {
        match &mut self.socks[i as usize].body {
            Body::Tcp(conn) => {
                let tell = conn.is_synchronised() || conn.state() == State::SynReceived;
                let in_time_wait = conn.state() == State::TimeWait;
                let numbers = conn.reset_numbers();
                let outcome = conn.end(Some(error));
                if tell && !in_time_wait {
                    self.send_reset(i, numbers);
                }
                self.after_tcp(i, outcome);
            }
            Body::Listener(_) => self.close_listener(i, Some(error)),
            Body::Dgram(_) | Body::Open | Body::Spare => {
                self.detach(i);
                let s = self.sock(i);
                s.body = Body::Over;
                record::end(s.rec, Some(error));
                self.ready(i);
            }
            Body::Free | Body::Over => {}
        }
    }

    /// The interface's address.
    pub fn address(&self) -> Option<(Ipv4Addr, u8)> {
        self.iface.addr
    }
    /// The interface's hardware address.
    pub fn mac(&self) -> Mac {
        self.iface.mac
    }
}
