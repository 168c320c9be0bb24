//! The HTTP server: port 80, many connections, one thread.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use userland::http::connection::{Connection, Next};
use userland::net::{Options, TcpListener, TcpStream, any};
use userland::runtime::{Instant, Runtime};
use userland::{Error, init};

rt::entry!(main);

const PORT: u16 = 80;
/// Send rings to try, largest first: a long fat path needs the first, a small session the last.
const SEND_RINGS: [u32; 3] = [256 << 10, 64 << 10, 16 << 10];
const RECEIVE_RING: u32 = 16 << 10;
const BACKLOG: u16 = 16;
/// Sockets with news that are looked at before those that need no news.
const TURN: usize = 8;
/// Connections that are kept although they ask for nothing: each holds a send ring that another
/// client may need.
const MAX_IDLE: usize = 8;

/// A connection and what it waits for.
struct Entry {
    connection: Box<Connection<TcpStream>>,
    next: Next,
}

struct Server {
    rt: &'static Runtime,
    listener: TcpListener,
    /// By socket id.
    entries: Vec<Option<Entry>>,
}

fn main(start: &'static rt::StartInfo) -> u64 {
    let rt = match init(start) {
        Ok(rt) => rt,
        Err(e) => {
            rt::log!("the manifest entry is incomplete: {e:?}");
            return 1;
        }
    };
    let listener = match listen(rt) {
        Ok(listener) => listener,
        Err(e) => {
            rt::log!("cannot listen on port {PORT}: {e}");
            return 1;
        }
    };
    listener.set_nonblocking(true);
    rt::log!("serving on port {PORT}");
    let e = Server { rt, listener, entries: Vec::new() }.run();
    rt::log!("{e}");
    1
}

fn listen(rt: &'static Runtime) -> Result<TcpListener, Error> {
    let mut result = Err(Error::NoBuffers);
    for tx in SEND_RINGS {
        let options = Options { tx, rx: RECEIVE_RING, backlog: BACKLOG, ..Options::default() };
        result = TcpListener::bind_with(rt, any(PORT), options);
        if !matches!(result, Err(Error::NoBuffers)) {
            break;
        }
    }
    result
}

impl Server {
    /// Serves until the listener fails.
    fn run(&mut self) -> Error {
        loop {
            let again = self.entries.iter().flatten().any(|e| e.next == Next::Again);
            if !again {
                let deadline = self.entries.iter().flatten().filter_map(|e| match e.next {
                    Next::Wait(until) => Some(until),
                    _ => None,
                });
                self.rt.wait(deadline.min());
            }
            self.rt.take_console();
            // Not until none is left: a fast download always has news again.
            for _ in 0..TURN {
                let Some(id) = self.rt.next_ready() else { break };
                if id == self.listener.id() {
                    if let Err(e) = self.accept() {
                        return e;
                    }
                } else {
                    self.step(id as usize);
                }
            }
            let now = self.rt.now();
            for id in 0..self.entries.len() {
                let due = self.entries[id].as_ref().is_some_and(|e| match e.next {
                    Next::Again | Next::Over => true,
                    Next::Wait(until) => until <= now,
                });
                if due {
                    self.step(id);
                }
            }
            self.drop_idle();
        }
    }

    /// Closes the connections that have been idle longest, but for [`MAX_IDLE`].
    fn drop_idle(&mut self) {
        let idle = |e: &Entry| e.connection.is_idle();
        let mut count = self.entries.iter().flatten().filter(|e| idle(e)).count();
        while count > MAX_IDLE {
            let oldest = self
                .entries
                .iter_mut()
                .filter(|e| e.as_ref().is_some_and(idle))
                .min_by_key(|e| e.as_ref().map(|e| e.connection.deadline()));
            if let Some(place) = oldest {
                // A reset: an orderly end would hold the ring until the peer ends, too.
                if let Some(entry) = place {
                    entry.connection.stream().set_abort_on_drop(true);
                }
                *place = None;
            }
            count -= 1;
        }
    }

    /// Takes all connections that wait.
    fn accept(&mut self) -> Result<(), Error> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(Error::WouldBlock) => return Ok(()),
                // The peer gave up while it waited: no reason to stop serving others.
                Err(Error::ConnectionReset | Error::ConnectionAborted)
                    if self.listener.is_listening() =>
                {
                    continue;
                }
                Err(e) => return Err(e),
            };
            stream.set_nonblocking(true);
            let id = stream.id() as usize;
            if self.entries.len() <= id {
                self.entries.resize_with(id + 1, || None);
            }
            let connection = Box::new(Connection::new(stream, self.rt.now()));
            self.entries[id] = Some(Entry { connection, next: Next::Wait(Instant(0)) });
            self.step(id);
        }
    }

    fn step(&mut self, id: usize) {
        let Some(place) = self.entries.get_mut(id) else { return };
        let Some(entry) = place else { return };
        entry.next = entry.connection.run(self.rt.now());
        if entry.next == Next::Over {
            *place = None;
        }
    }
}
