//! Fixed measuring services, so that one client can measure this system and any other.
//!
//! | port | service |
//! |---|---|
//! | UDP 7001 | echo |
//! | TCP 7002 | echo |
//! | TCP 7003 | accept, read 1 byte, write 1, close |
//! | TCP 7004 | read to the end, write the number of bytes (8 bytes, little-endian), close |
//! | TCP 7005 | read a length (8 bytes, little-endian), send that many bytes (0: until closed) |
//! | UDP 7006 | count datagrams; one of 1 byte is a question, not counted: it is answered with two u64, datagrams and bytes; `R` resets both first |
//! | UDP 7007 | send on request: [`udp::Generator`] |
//! | TCP 7008 | echo for many connections at once |
//!
//! One thread, one [`Poll`], nothing that blocks. What is received is counted where it lies or
//! copied once, from ring to ring; what is sent is written once and then sent again.
#![no_std]
#![no_main]

extern crate alloc;

mod tcp;
mod udp;

use alloc::boxed::Box;
use alloc::vec::Vec;
use userland::net::{Options, TcpListener};
use userland::poll::{Events, Interest, Poll, Token};
use userland::runtime::Runtime;
use userland::{Error, init};

use tcp::{Connection, Service, Turn};
use udp::{Counter, Echo, Generator};

rt::entry!(main);

/// Events taken from one poll.
const EVENTS: usize = 64;
/// Tokens: the UDP services, the listeners, then connections by socket id.
const UDP_ECHO: usize = 0;
const UDP_COUNT: usize = 1;
const UDP_SEND: usize = 2;
const LISTENERS: usize = 3;
const CONNECTIONS: usize = LISTENERS + SERVICES.len();

/// Port, service, rings of its connections (send, receive), connections that may wait.
const SERVICES: [(u16, Service, u32, u32, u16); 5] = [
    (7002, Service::Echo, 32 << 10, 32 << 10, 4),
    (7003, Service::Byte, 4 << 10, 4 << 10, 16),
    (7004, Service::Count, 4 << 10, 256 << 10, 2),
    (7005, Service::Send, 256 << 10, 4 << 10, 2),
    (7008, Service::Echo, 4 << 10, 4 << 10, 64),
];

struct Server {
    poll: Poll,
    listeners: Vec<TcpListener>,
    /// By socket id.
    connections: Vec<Option<Box<Connection>>>,
    echo: Echo,
    counter: Counter,
    generator: Generator,
}

fn main(start: &'static rt::StartInfo) -> u64 {
    let rt = match init(start) {
        Ok(rt) => rt,
        Err(e) => {
            rt::log!("the manifest entry is incomplete: {e:?}");
            return 1;
        }
    };
    match Server::open(rt) {
        Ok(mut server) => {
            rt::log!("measuring services on ports 7001 to 7008");
            let e = server.run(rt);
            rt::log!("a listener ended: {e}");
        }
        Err(e) => rt::log!("cannot open its sockets: {e}"),
    }
    1
}

impl Server {
    fn open(rt: &'static Runtime) -> Result<Self, Error> {
        let poll = Poll::new(rt)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        let echo = Echo::open(rt)?;
        poll.register(&echo.socket, Token(UDP_ECHO), both);
        let counter = Counter::open(rt)?;
        poll.register(&counter.socket, Token(UDP_COUNT), Interest::READABLE);
        let generator = Generator::open(rt)?;
        poll.register(&generator.socket, Token(UDP_SEND), both);
        let mut listeners = Vec::new();
        for (i, (port, _, tx, rx, backlog)) in SERVICES.into_iter().enumerate() {
            let options = Options { tx, rx, backlog, ..Options::default() };
            let listener = TcpListener::bind_with(rt, ([0, 0, 0, 0], port).into(), options)?;
            listener.set_nonblocking(true);
            poll.register(&listener, Token(LISTENERS + i), Interest::READABLE);
            listeners.push(listener);
        }
        Ok(Self { poll, listeners, connections: Vec::new(), echo, counter, generator })
    }

    /// Serves until a listener fails.
    fn run(&mut self, rt: &'static Runtime) -> Error {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let next = self.generator.run(rt);
            self.poll.poll(&mut events, next);
            for event in events.iter() {
                match event.token().0 {
                    UDP_ECHO => {
                        if self.echo.run() {
                            self.poll.again(&self.echo.socket);
                        }
                    }
                    UDP_COUNT => {
                        if self.counter.run() {
                            self.poll.again(&self.counter.socket);
                        }
                    }
                    UDP_SEND => self.generator.look(rt),
                    token @ ..CONNECTIONS => {
                        if let Err(e) = self.accept(token - LISTENERS) {
                            return e;
                        }
                    }
                    token => self.turn(token - CONNECTIONS),
                }
            }
        }
    }

    /// Takes all connections that wait at a listener.
    fn accept(&mut self, index: usize) -> Result<(), Error> {
        let (listener, service) = (&self.listeners[index], SERVICES[index].1);
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(Error::WouldBlock) => return Ok(()),
                // The peer gave up while it waited: no reason to stop serving others.
                Err(_) if listener.is_listening() => continue,
                Err(e) => return Err(e),
            };
            stream.set_nonblocking(true);
            let mut connection = Connection::new(stream, service);
            // Its data often came along with it: then it may be over before it is registered.
            let turn = connection.run();
            if turn == Turn::Over {
                continue;
            }
            let id = connection.stream.id() as usize;
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.register(&connection.stream, Token(CONNECTIONS + id), both);
            if self.connections.len() <= id {
                self.connections.resize_with(id + 1, || None);
            }
            self.connections[id] = Some(Box::new(connection));
        }
    }

    fn turn(&mut self, id: usize) {
        let Some(place) = self.connections.get_mut(id) else { return };
        let Some(connection) = place else { return };
        match connection.run() {
            Turn::Wait => {}
            Turn::Again => self.poll.again(&connection.stream),
            Turn::Over => *place = None,
        }
    }
}
