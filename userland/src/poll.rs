//! Readiness of many sockets at once, without a call a socket: `mio`'s shape over the ready ring.
//!
//! netd writes the ids of sockets with news into a ring that the program reads ([`libipc::sock`]);
//! [`Poll::poll`] takes ids from it, looks at their records, which lie in shared memory, too, and
//! makes [`Event`]s. The only system call is the one that sleeps, and its cost does not depend on
//! how many sockets are registered.
//!
//! # Edges
//! An event is an *edge*, as with `mio` or `EPOLLET`: it is reported when something has changed,
//! once. Whoever gets one reads, writes or accepts until the call says [`Error::WouldBlock`];
//! only then does the next change bring the next event. A program that stops earlier, so that a
//! busy socket holds up no other, asks to be told again with [`Poll::again`]. A registration
//! begins with an edge: what is ready at that moment is reported.
//!
//! An event says what *is* ready when `poll` returns, not what was announced; nothing is reported
//! that is not. It may still be stale when the program comes to it: an earlier event of the same
//! batch may have led to reading from, or dropping, another socket.
//!
//! # Tasks
//! A task that waits for a socket through `embedded-io-async` ([`crate::task`]) is woken when a
//! poll finds that socket's news, registered or not.
//!
//! # Gathering
//! While a [`Poll`] exists, netd is told of what the program has read and written when it polls
//! next, once for all sockets ([`Runtime::gather`]). A program that computes for long between two
//! polls calls [`Runtime::flush`] before.

use alloc::vec::Vec;
use core::ops::BitOr;
use core::sync::atomic::Ordering::*;
use core::time::Duration;

use libipc::sock::{AppSock, Error, Kind, Record, State, event};

use crate::runtime::Runtime;

/// What the program calls a registered socket; comes back in its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub usize);

/// Which edges to report. Errors and the end of a connection are always reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest(u8);

impl Interest {
    /// Data, datagrams, connections to accept, the peer's end.
    pub const READABLE: Self = Self(READABLE);
    /// Room to write; a connection attempt that succeeded.
    pub const WRITABLE: Self = Self(WRITABLE);
}

impl BitOr for Interest {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
const READ_CLOSED: u8 = 4;
const WRITE_CLOSED: u8 = 8;
const ERROR: u8 = 16;

/// What became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    token: Token,
    ready: u8,
}

impl Event {
    /// Of which registration.
    pub fn token(&self) -> Token {
        self.token
    }
    /// A read or accept will not block: there is data, a connection, the end, or an error.
    pub fn is_readable(&self) -> bool {
        self.ready & READABLE != 0
    }
    /// A write will not block: there is room, or an error.
    pub fn is_writable(&self) -> bool {
        self.ready & WRITABLE != 0
    }
    /// The peer has ended its direction, or the connection is over.
    pub fn is_read_closed(&self) -> bool {
        self.ready & READ_CLOSED != 0
    }
    /// Nothing can be sent any more.
    pub fn is_write_closed(&self) -> bool {
        self.ready & WRITE_CLOSED != 0
    }
    /// An error waits to be returned by the next call.
    pub fn is_error(&self) -> bool {
        self.ready & ERROR != 0
    }
}

/// Events of one [`Poll::poll`].
#[derive(Debug)]
pub struct Events {
    list: Vec<Event>,
    most: usize,
}

impl Events {
    /// Room for this many, at least one; what does not fit comes with the next poll.
    pub fn with_capacity(most: usize) -> Self {
        let most = most.max(1);
        Self { list: Vec::with_capacity(most), most }
    }
    /// The events.
    pub fn iter(&self) -> impl Iterator<Item = Event> + use<'_> {
        self.list.iter().copied()
    }
    /// Event number `i`.
    pub fn get(&self, i: usize) -> Option<Event> {
        self.list.get(i).copied()
    }
    /// Whether there are none: the poll timed out.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// What can be registered: the sockets of [`crate::net`].
pub trait Source {
    /// The socket's id.
    fn id(&self) -> u32;
}

/// A registration.
#[derive(Clone, Copy, Default)]
pub(crate) struct Watch {
    token: usize,
    /// Interest; 0: not registered.
    interest: u8,
}

/// See the [module](self). A program has one at a time.
pub struct Poll {
    rt: &'static Runtime,
}

impl Poll {
    /// Makes the program's poll.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is one.
    pub fn new(rt: &'static Runtime) -> Result<Self, Error> {
        if rt.polled.replace(true) {
            return Err(Error::Invalid);
        }
        rt.gather(true);
        Ok(Self { rt })
    }

    /// Reports edges of `source` under `token` from now on, beginning with what is ready. A second
    /// registration replaces the first. Dropping the socket ends it.
    pub fn register(&self, source: &impl Source, token: Token, interest: Interest) {
        let mut watches = self.rt.watches.borrow_mut();
        let id = source.id() as usize;
        if watches.len() <= id {
            watches.resize_with(id + 1, Watch::default);
        }
        watches[id] = Watch { token: token.0, interest: interest.0 };
        self.rt.set_news(source.id());
    }

    /// Ends the registration of `source`.
    pub fn deregister(&self, source: &impl Source) {
        self.rt.unwatch(source.id());
    }

    /// Reports console input under `token`: [`Runtime::take_console`] takes the edge.
    pub fn register_console(&self, token: Token) {
        self.rt.console_token.set(Some(token.0));
    }

    /// Reports what is ready at `source` with the next poll as if it had just become so: for a
    /// program that did not go on until [`Error::WouldBlock`].
    pub fn again(&self, source: &impl Source) {
        self.rt.set_news(source.id());
    }

    /// Waits for events, at most for `timeout` (`None`: for ever; zero: not at all), and puts them
    /// into `events`, which are none if nothing happened. Sockets take turns: a busy one comes
    /// again only after all others that are ready.
    pub fn poll(&self, events: &mut Events, timeout: Option<Duration>) {
        let rt = self.rt;
        events.list.clear();
        let deadline = timeout.map(|t| rt.now() + t);
        loop {
            let more = rt.wait_until(deadline, |rt| {
                rt.has_news(None) || rt.console_token.get().is_some() && rt.has_console()
            });
            if let Some(token) = rt.console_token.get()
                && rt.has_console()
            {
                events.list.push(Event { token: Token(token), ready: READABLE });
            }
            let watches = rt.watches.borrow();
            while events.list.len() < events.most
                && let Some(id) = rt.next_news()
            {
                rt.wake_task(id);
                let Some(watch) = watches.get(id as usize).filter(|w| w.interest != 0) else {
                    continue;
                };
                let Some(ready) = rt.readiness(id) else { continue };
                let ready = ready & (watch.interest | !(READABLE | WRITABLE));
                if ready != 0 {
                    events.list.push(Event { token: Token(watch.token), ready });
                }
            }
            if !more || !events.list.is_empty() {
                return;
            }
        }
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.rt.watches.borrow_mut().clear();
        self.rt.console_token.set(None);
        self.rt.polled.set(false);
        self.rt.gather(false);
    }
}

/// What is ready at a socket, from its words.
pub(crate) fn readiness(record: &Record, app: &AppSock) -> u8 {
    let state = record.state();
    let mut ready = if record.error().is_some() { ERROR } else { 0 };
    if matches!(state, State::Closed | State::Free) {
        return ready | READABLE | WRITABLE | READ_CLOSED | WRITE_CLOSED;
    }
    let (tail, head) = (app.tx_tail.load(Relaxed), app.rx_head.load(Relaxed));
    let tx_size = 1u64 << (record.ring_bits.load(Relaxed) & 31);
    match Kind::from_raw(record.kind.load(Relaxed)) {
        Some(Kind::Listener) if record.pending.load(Acquire) > 0 => ready |= READABLE,
        Some(Kind::Tcp) => {
            let events = record.events.load(Acquire);
            if events & event::PEER_FIN != 0 {
                ready |= READABLE | READ_CLOSED;
            } else if record.received() != head as u32 {
                ready |= READABLE;
            }
            let sends = matches!(state, State::Established | State::CloseWait);
            if events & event::FIN_QUEUED != 0 {
                ready |= WRITE_CLOSED;
            } else if sends {
                let unsent = (tail as u32).wrapping_sub(record.acknowledged());
                if (unsent as u64) < tx_size {
                    ready |= WRITABLE;
                }
            }
        }
        Some(Kind::Udp | Kind::Ping | Kind::Raw | Kind::Capture) => {
            if record.dgram_rx_tail() != head || ready != 0 {
                ready |= READABLE;
            }
            if tail.wrapping_sub(record.dgram_tx_head()) < tx_size {
                ready |= WRITABLE;
            }
        }
        _ => {}
    }
    ready
}
