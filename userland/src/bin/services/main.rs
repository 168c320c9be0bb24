//! The small services that any client knows, over TCP and UDP: echo (7, RFC 862), discard (9,
//! RFC 863), daytime (13, RFC 867), chargen (19, RFC 864), time (37, RFC 868). Many connections,
//! one thread.
//!
//! With the argument `test`, what test hosts expect: echo, discard, chargen, a greeting on port 13, a
//! port 99 that accepts and then does nothing; room for a thousand connections; UDP echo alone, to any port.
#![no_std]
#![no_main]

extern crate alloc;

mod text;

use embedded_io::Write;
use libipc::sock::State;
use userland::net::{Options, TcpStream, UdpSocket, any};
use userland::runtime::Runtime;
use userland::serve::{self, Server, Turn};
use userland::time::SystemTime;
use userland::{Error, init};

use text::{TIME_1900, daytime, pattern};

rt::entry!(main);

const RING: u32 = 16 << 10;
const SMALL: u32 = 4 << 10;
const BACKLOG: u16 = 8;
/// Bytes moved for one connection before the others get their turn.
const BUDGET: usize = 64 << 10;
/// Datagrams answered before the others get their turn.
const TURN: usize = 64;
/// To a port below it could be another such service, and two of them would talk to each other for ever.
const LOWEST: u16 = 1024;
/// Bytes of a chargen datagram: RFC 864 asks for 0 to 512.
const CHARS: usize = 460;

/// What a port does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Echo,
    Discard,
    Daytime,
    Chargen,
    Time,
    Greeting,
    Deaf,
}

use Service::*;

/// Port, service, how a connection of it begins, rings (send, receive).
type Entry = (u16, Service, fn(TcpStream) -> Connection, u32, u32);

const SERVICES: [Entry; 5] = [
    (7, Echo, |s| Connection::new(s, Echo), RING, RING),
    (9, Discard, |s| Connection::new(s, Discard), SMALL, RING),
    (13, Daytime, |s| Connection::new(s, Daytime), SMALL, SMALL),
    (19, Chargen, |s| Connection::new(s, Chargen), RING, SMALL),
    (37, Time, |s| Connection::new(s, Time), SMALL, SMALL),
];

/// Of a test host's: rings that hold what a window of Linux's holds.
const TEST_SERVICES: [Entry; 5] = [
    (7, Echo, |s| Connection::new(s, Echo), 2 * RING, 4 * RING),
    (9, Discard, |s| Connection::new(s, Discard), SMALL, 16 * RING),
    (13, Greeting, |s| Connection::new(s, Greeting), SMALL, 8 * RING),
    (19, Chargen, |s| Connection::new(s, Chargen), 16 * RING, 8 * RING),
    (99, Deaf, |s| Connection::new(s, Deaf), SMALL, 8 * RING),
];
/// Connections that may wait there.
const TEST_BACKLOG: u16 = 128;

fn main(start: &'static rt::StartInfo) -> u64 {
    let test = start.args.as_str() == "test";
    let rt = match init(start) {
        Ok(rt) => rt,
        Err(e) => {
            rt::log!("the manifest entry is incomplete: {e:?}");
            return 1;
        }
    };
    let served = if test { serve_test(rt) } else { serve(rt) };
    if let Err(e) = served {
        rt::log!("{e}");
    }
    1
}

fn serve(rt: &'static Runtime) -> Result<(), Error> {
    let mut server = Server::new(rt)?;
    let mut sockets = heapless::Vec::<(UdpSocket, Service), { SERVICES.len() }>::new();
    for (port, service, make, tx, rx) in SERVICES {
        let options = Options { tx, rx, backlog: BACKLOG, ..Options::default() };
        server.listen(port, options, make)?;
        let options = Options { tx: RING, rx: RING, ..Options::default() };
        let socket = UdpSocket::bind_with(rt, any(port), options)?;
        socket.set_nonblocking(true);
        server.watch(&socket)?;
        let _ = sockets.push((socket, service));
    }
    rt::log!("serving echo, discard, daytime, chargen and time, TCP and UDP");
    loop {
        server.turn(None, |number| match sockets.get(number) {
            Some((socket, service)) => datagrams(rt, socket, *service, LOWEST),
            None => Turn::Wait,
        })?;
    }
}

fn serve_test(rt: &'static Runtime) -> Result<(), Error> {
    let mut server = Server::new(rt)?;
    for (port, _, make, tx, rx) in TEST_SERVICES {
        let backlog = if port == 7 { TEST_BACKLOG } else { BACKLOG };
        server.listen(port, Options { tx, rx, backlog, ..Options::default() }, make)?;
    }
    let options = Options { tx: 16 * RING, rx: 16 * RING, ..Options::default() };
    let socket = UdpSocket::bind_with(rt, any(7), options)?;
    socket.set_nonblocking(true);
    server.watch(&socket)?;
    rt::log!("serving a test host: echo, discard, greeting, chargen, deaf");
    loop {
        server.turn(None, |_| datagrams(rt, &socket, Echo, 1))?;
    }
}

/// Answers the datagrams that are there, if they come from `lowest` or a port above.
fn datagrams(rt: &Runtime, socket: &UdpSocket, service: Service, lowest: u16) -> Turn {
    for _ in 0..TURN {
        let answered = socket.recv_with(|d| {
            let from = d.sender();
            if from.port() < lowest {
                return;
            }
            // No room to send: UDP may lose it.
            let _ = match service {
                Echo => {
                    let mut at = 0;
                    socket.send_to_with(from, d.len(), |part| at += d.read(at, part))
                }
                Discard => Ok(()),
                Daytime => socket.send_to(daytime(SystemTime::now(rt)).as_bytes(), from).map(drop),
                Chargen => {
                    let mut at = 0;
                    socket.send_to_with(from, CHARS, |part| at = pattern(at, part))
                }
                Time => match seconds(rt) {
                    Some(bytes) => socket.send_to(&bytes, from).map(drop),
                    None => Ok(()),
                },
                Greeting | Deaf => Ok(()),
            };
        });
        if answered == Err(Error::WouldBlock) {
            return Turn::Wait;
        }
    }
    Turn::Again
}

/// RFC 868: seconds since 1900, modulo 2^32. `None`: the machine has no clock.
fn seconds(rt: &Runtime) -> Option<[u8; 4]> {
    let unix = SystemTime::now(rt)?.unix_seconds();
    Some((unix.wrapping_add(TIME_1900) as u32).to_be_bytes())
}

/// A connection.
struct Connection {
    stream: TcpStream,
    service: Service,
    /// Chargen: bytes sent.
    sent: u64,
}

impl serve::Connection for Connection {
    fn stream(&self) -> &TcpStream {
        &self.stream
    }
    fn step(&mut self) -> Result<Turn, Error> {
        let mut left = BUDGET;
        while left > 0 {
            let moved = match self.service {
                Echo => self.stream.echo(left)?,
                Discard => self.stream.skip(left)?,
                // Once, into a ring that is empty.
                Daytime => {
                    let text = daytime(SystemTime::now(self.stream.runtime()));
                    let _ = write!(self.stream, "{text}");
                    0
                }
                Greeting => {
                    self.stream.write(b"hello\n")?;
                    0
                }
                // It ends when the peer resets it.
                Deaf if self.stream.state() == State::Closed => 0,
                Deaf => return Ok(Turn::Wait),
                Time => {
                    if let Some(bytes) = seconds(self.stream.runtime()) {
                        self.stream.write(&bytes)?;
                    }
                    0
                }
                Chargen => {
                    let mut at = self.sent;
                    let n = self.stream.write_with(left, |part| {
                        at = pattern(at, part);
                        part.len()
                    })?;
                    self.sent = at;
                    n
                }
            };
            if moved == 0 {
                // What was written goes out before the end does, not with it.
                self.stream.runtime().flush();
                return Ok(Turn::Over);
            }
            left = left.saturating_sub(moved);
        }
        Ok(Turn::Again)
    }
}

impl Connection {
    fn new(stream: TcpStream, service: Service) -> Self {
        Self { stream, service, sent: 0 }
    }
}
