//! The interface: whether the cable carries, how fast, and whether there is an address.

use core::sync::atomic::Ordering::*;
use core::time::Duration;

use libipc::link::Link;
use libipc::sock::Error;

use crate::mem::SessionMem;
use crate::runtime::Runtime;

/// How the interface is now. No call is made: the state lies in the session's memory.
///
/// # Errors
/// As for opening a socket, if the program has no session yet.
pub fn link(rt: &'static Runtime) -> Result<Link, Error> {
    Ok(Link::load(rt.session()?.mem.link()))
}

/// Changes of the interface. While one exists, netd wakes the program for each: link changes at
/// most once a second (the last state always comes), an address that comes or goes at once.
pub struct LinkWatch {
    rt: &'static Runtime,
    mem: SessionMem,
    seen: u32,
}

impl LinkWatch {
    /// Begins with the state as it is: that is the first change to be told. A program has one at a
    /// time; a second makes the first one deaf.
    ///
    /// # Errors
    /// As [`link`].
    pub fn new(rt: &'static Runtime) -> Result<Self, Error> {
        let mem = rt.session()?.mem;
        // Before the first look, sequentially consistent as netd's side: a change after the look
        // finds this set.
        mem.watch().store(1, SeqCst);
        Ok(Self { rt, mem, seen: 0 })
    }

    /// The state, if it has changed since asked last.
    pub fn changed(&mut self) -> Option<Link> {
        let link = Link::from_raw(self.mem.link().load(SeqCst));
        let new = link.version != self.seen;
        self.seen = link.version;
        new.then_some(link)
    }

    /// Waits for a change; news of sockets are kept for later.
    ///
    /// # Errors
    /// [`Error::TimedOut`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Link, Error> {
        let deadline = timeout.map(|t| self.rt.now() + t);
        let (word, seen) = (self.mem.link(), self.seen);
        let news = |_: &Runtime| Link::from_raw(word.load(SeqCst)).version != seen;
        self.rt.wait_until(deadline, news);
        self.changed().ok_or(Error::TimedOut)
    }

    /// Waits for a change or for console input, whatever comes first: `None` is the latter.
    pub fn wait_or_console(&mut self) -> Option<Link> {
        let (word, seen) = (self.mem.link(), self.seen);
        let news =
            |rt: &Runtime| rt.has_console() || Link::from_raw(word.load(SeqCst)).version != seen;
        self.rt.wait_until(None, news);
        self.changed()
    }
}

impl Drop for LinkWatch {
    fn drop(&mut self) {
        self.mem.watch().store(0, SeqCst);
    }
}
