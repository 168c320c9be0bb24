//! A server of many connections: one [`Poll`], listeners, and a state machine a connection.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;
use libipc::sock::Error;

use crate::net::{Options, TcpListener, TcpStream, UdpSocket, any};
use crate::poll::{Events, Interest, Poll, Source, Token};
use crate::runtime::Runtime;

/// What to do with a connection or a datagram socket after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It would block: wait for the next edge.
    Wait,
    /// There is more to do, after the others.
    Again,
    /// Drop it.
    Over,
}

/// A connection and its state.
pub trait Connection {
    /// Its socket.
    fn stream(&self) -> &TcpStream;
    /// Goes on until it would block or has had its share.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] is [`Turn::Wait`], any other [`Turn::Over`].
    fn step(&mut self) -> Result<Turn, Error>;
}

/// A connection's turn.
fn run(connection: &mut impl Connection) -> Turn {
    match connection.step() {
        Ok(turn) => turn,
        Err(Error::WouldBlock) => Turn::Wait,
        Err(_) => Turn::Over,
    }
}

/// Events taken from one poll.
const EVENTS: usize = 64;
/// Tokens: listeners, datagram sockets from here on, connections by id from there on.
const DATAGRAMS: usize = 64;
const CONNECTIONS: usize = 128;

struct Listening<C> {
    listener: TcpListener,
    make: fn(TcpStream) -> C,
}

/// See the [module](self).
pub struct Server<C> {
    rt: &'static Runtime,
    poll: Poll,
    events: Events,
    listeners: Vec<Listening<C>>,
    datagrams: Vec<Id>,
    /// By socket id.
    connections: Vec<Option<Box<C>>>,
}

struct Id(u32);

impl Source for Id {
    fn id(&self) -> u32 {
        self.0
    }
}

impl<C: Connection> Server<C> {
    /// One that serves nothing yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the program has a [`Poll`].
    pub fn new(rt: &'static Runtime) -> Result<Self, Error> {
        Ok(Self {
            rt,
            poll: Poll::new(rt)?,
            events: Events::with_capacity(EVENTS),
            listeners: Vec::new(),
            datagrams: Vec::new(),
            connections: Vec::new(),
        })
    }

    /// Serves `port`: `make` makes the state of each connection. At most 64 listeners.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn listen(
        &mut self,
        port: u16,
        options: Options,
        make: fn(TcpStream) -> C,
    ) -> Result<(), Error> {
        if self.listeners.len() == DATAGRAMS {
            return Err(Error::TooManySockets);
        }
        let listener = TcpListener::bind_with(self.rt, any(port), options)?;
        listener.set_nonblocking(true);
        self.poll.register(&listener, Token(self.listeners.len()), Interest::READABLE);
        self.listeners.push(Listening { listener, make });
        Ok(())
    }

    /// Has [`Self::turn`] report `socket`, under the number returned: 0, 1, and so on up to 63.
    ///
    /// # Errors
    /// [`Error::TooManySockets`].
    pub fn watch(&mut self, socket: &UdpSocket) -> Result<usize, Error> {
        let number = self.datagrams.len();
        if number == CONNECTIONS - DATAGRAMS {
            return Err(Error::TooManySockets);
        }
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.register(socket, Token(DATAGRAMS + number), both);
        self.datagrams.push(Id(socket.id()));
        Ok(number)
    }

    /// Waits for events, at most for `timeout`, and serves each. `datagrams` is called with the
    /// number of a datagram socket that has some.
    ///
    /// # Errors
    /// What ended a listener.
    pub fn turn(
        &mut self,
        timeout: Option<Duration>,
        mut datagrams: impl FnMut(usize) -> Turn,
    ) -> Result<(), Error> {
        self.poll.poll(&mut self.events, timeout);
        for i in 0.. {
            let Some(event) = self.events.get(i) else { return Ok(()) };
            match event.token().0 {
                index @ ..DATAGRAMS => self.accept(index)?,
                token @ ..CONNECTIONS => {
                    let number = token - DATAGRAMS;
                    if datagrams(number) == Turn::Again {
                        self.poll.again(&self.datagrams[number]);
                    }
                }
                token => self.step(token - CONNECTIONS),
            }
        }
        Ok(())
    }

    /// Takes all connections that wait at a listener.
    fn accept(&mut self, index: usize) -> Result<(), Error> {
        loop {
            let Listening { listener, make } = &self.listeners[index];
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(Error::WouldBlock) => return Ok(()),
                // The peer gave up while it waited: no reason to stop serving others.
                Err(_) if listener.is_listening() => continue,
                Err(e) => return Err(e),
            };
            stream.set_nonblocking(true);
            let mut connection = make(stream);
            // Its data often came along with it: then it may be over before it is registered.
            let turn = run(&mut connection);
            if turn == Turn::Over {
                continue;
            }
            let id = connection.stream().id() as usize;
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.register(connection.stream(), Token(CONNECTIONS + id), both);
            if self.connections.len() <= id {
                self.connections.resize_with(id + 1, || None);
            }
            self.connections[id] = Some(Box::new(connection));
        }
    }

    fn step(&mut self, id: usize) {
        let Some(place) = self.connections.get_mut(id) else { return };
        let Some(connection) = place else { return };
        match run(&mut **connection) {
            Turn::Wait => {}
            Turn::Again => self.poll.again(connection.stream()),
            Turn::Over => *place = None,
        }
    }
}
