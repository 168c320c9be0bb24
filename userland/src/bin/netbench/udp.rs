//! The services over UDP.

use core::net::SocketAddr;
use core::time::Duration;
use userland::Error;
use userland::net::{Options, UdpSocket};
use userland::runtime::{Instant, Runtime};
use userland::serve::Turn;

/// Datagrams handled before others get their turn.
const TURN: usize = 256;
/// Datagrams sent in one go: about what the send ring holds of small ones.
const BURST: u64 = 256;

fn open(rt: &'static Runtime, port: u16, tx: u32, rx: u32) -> Result<UdpSocket, Error> {
    let options = Options { tx, rx, ..Options::default() };
    let socket = UdpSocket::bind_with(rt, ([0, 0, 0, 0], port).into(), options)?;
    socket.set_nonblocking(true);
    Ok(socket)
}

/// UDP 7001.
pub struct Echo {
    pub socket: UdpSocket,
}

impl Echo {
    pub fn open(rt: &'static Runtime) -> Result<Self, Error> {
        Ok(Self { socket: open(rt, 7001, 64 << 10, 64 << 10)? })
    }

    /// Answers what is there.
    pub fn run(&self) -> Turn {
        for _ in 0..TURN {
            let answered = self.socket.recv_with(|d| {
                let mut at = 0;
                // No room to send: UDP may lose it.
                let _ = self.socket.send_to_with(d.sender(), d.len(), |part| {
                    at += d.read(at, part);
                });
            });
            if answered == Err(Error::WouldBlock) {
                return Turn::Wait;
            }
        }
        Turn::Again
    }
}

/// UDP 7006.
pub struct Counter {
    pub socket: UdpSocket,
    datagrams: u64,
    bytes: u64,
}

impl Counter {
    /// With room for what comes in while this program waits for its turn: behind netd, in a flood.
    pub fn open(rt: &'static Runtime) -> Result<Self, Error> {
        Ok(Self { socket: open(rt, 7006, 4 << 10, 1 << 20)?, datagrams: 0, bytes: 0 })
    }

    /// Counts what is there.
    pub fn run(&mut self) -> Turn {
        for _ in 0..TURN {
            let Self { socket, datagrams, bytes } = self;
            let question = socket.recv_with(|d| {
                if d.len() != 1 {
                    *datagrams += 1;
                    *bytes += d.len() as u64;
                    return None;
                }
                let mut byte = [0];
                d.read(0, &mut byte);
                Some((byte[0], d.sender()))
            });
            match question {
                Ok(None) => {}
                Ok(Some((byte, from))) => {
                    if byte == b'R' {
                        (*datagrams, *bytes) = (0, 0);
                    }
                    let mut answer = [0; 16];
                    answer[..8].copy_from_slice(&datagrams.to_le_bytes());
                    answer[8..].copy_from_slice(&bytes.to_le_bytes());
                    let _ = socket.send_to(&answer, from);
                }
                Err(Error::WouldBlock) => return Turn::Wait,
                Err(_) => {}
            }
        }
        Turn::Again
    }
}

/// Markers at the end, and the time between them: they may be lost or overtaken.
const MARKERS: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(100);

/// UDP 7007: a request of 24 bytes, little-endian, {u64 count, u32 size, u32 milliseconds, u32
/// packets a second, u32 zero}, makes it send `count` datagrams of `size` bytes to whoever asked,
/// at that pace (0: as fast as it can) and for no longer than that time (0: no limit); then five
/// markers of 24 bytes, {u64 sent, u64 errors, u64 microseconds}. One request at a time; the next
/// waits in the ring.
pub struct Generator {
    pub socket: UdpSocket,
    state: State,
}

enum State {
    Idle,
    Sending(Job),
    Marking { to: SocketAddr, marker: [u8; 24], left: u32, next: Instant },
}

struct Job {
    to: SocketAddr,
    size: usize,
    count: u64,
    /// Packets a second; 0: no limit.
    pace: u64,
    begun: Instant,
    end: Option<Instant>,
    sent: u64,
    errors: u64,
}

impl Job {
    fn parse(request: &[u8; 24], to: SocketAddr, now: Instant) -> Self {
        let word = |at: usize| u32::from_le_bytes(core::array::from_fn(|i| request[at + i]));
        let count = word(0) as u64 | (word(4) as u64) << 32;
        let limit = Duration::from_millis(word(12) as u64);
        Self {
            to,
            size: word(8) as usize,
            count,
            pace: word(16) as u64,
            begun: now,
            end: (!limit.is_zero()).then(|| now + limit),
            sent: 0,
            errors: 0,
        }
    }

    /// When datagram number `n` is due.
    fn due(&self, n: u64) -> Instant {
        match self.pace {
            0 => self.begun,
            pace => self.begun + Duration::from_nanos(n.saturating_mul(1_000_000_000) / pace),
        }
    }

    /// Sends what is due: when to go on (`None`: when there is room), or that it is over.
    fn send(&mut self, socket: &UdpSocket, now: Instant) -> Result<Option<Instant>, Over> {
        for _ in 0..BURST {
            if self.sent >= self.count || self.end.is_some_and(|end| now >= end) {
                return Err(Over);
            }
            let due = self.due(self.sent);
            if due > now {
                return Ok(Some(self.end.map_or(due, |end| end.min(due))));
            }
            // The ring holds only what this socket sent: its bytes are as good as any others.
            match socket.send_to_with(self.to, self.size, |_| {}) {
                Ok(()) => self.sent += 1,
                Err(Error::WouldBlock) => return Ok(self.end),
                Err(_) => {
                    self.errors += 1;
                    return Err(Over);
                }
            }
        }
        Ok(Some(now))
    }
}

/// A job is done.
struct Over;

impl Generator {
    pub fn open(rt: &'static Runtime) -> Result<Self, Error> {
        Ok(Self { socket: open(rt, 7007, 128 << 10, 4 << 10)?, state: State::Idle })
    }

    /// Looks for a request.
    pub fn look(&mut self, rt: &Runtime) {
        while matches!(self.state, State::Idle) {
            let request = self.socket.recv_with(|d| {
                let mut bytes = [0; 24];
                (d.len() == bytes.len() && d.read(0, &mut bytes) == bytes.len())
                    .then(|| (bytes, d.sender()))
            });
            match request {
                Ok(Some((bytes, from))) => {
                    self.state = State::Sending(Job::parse(&bytes, from, rt.now()));
                }
                Ok(None) => {}
                Err(Error::WouldBlock) => return,
                Err(_) => {}
            }
        }
    }

    /// Sends what is due; how long until there is more to do (`None`: until the socket says so).
    pub fn run(&mut self, rt: &Runtime) -> Option<Duration> {
        if matches!(self.state, State::Idle) {
            return None;
        }
        let now = rt.now();
        loop {
            let next = match &mut self.state {
                State::Idle => None,
                State::Sending(job) => match job.send(&self.socket, now) {
                    Ok(next) => next,
                    Err(Over) => {
                        let mut marker = [0; 24];
                        let took = now.since(job.begun).as_micros() as u64;
                        for (i, word) in [job.sent, job.errors, took].into_iter().enumerate() {
                            marker[i * 8..i * 8 + 8].copy_from_slice(&word.to_le_bytes());
                        }
                        let next = now + BETWEEN;
                        self.state = State::Marking { to: job.to, marker, left: MARKERS, next };
                        continue;
                    }
                },
                State::Marking { left: 0, .. } => {
                    self.state = State::Idle;
                    self.look(rt);
                    continue;
                }
                State::Marking { to, marker, left, next } => {
                    if *next <= now {
                        let _ = self.socket.send_to(&*marker, *to);
                        *left -= 1;
                        *next = now + BETWEEN;
                        continue;
                    }
                    Some(*next)
                }
            };
            return next.map(|at| at.since(now));
        }
    }
}
