//! Tells programs how the interface is ([`libipc::link`]).

use super::Stack;
use super::turns::Own;
use crate::env::Env;
use core::sync::atomic::Ordering::*;
use libipc::link::Link;

/// Least time between two link changes that are passed on.
const PAUSE_NS: u64 = 1_000_000_000;

/// What programs have been told, and what they still are to be.
pub(super) struct LinkNews {
    /// What stands in the sessions.
    told: Link,
    /// No link change is passed on before.
    not_before: u64,
    /// There was a change meanwhile.
    waiting: bool,
    /// The stack has looked at everything once. A restarted one must not tell of what it has only
    /// not found yet.
    begun: bool,
}

impl LinkNews {
    /// Goes on from what an earlier incarnation said.
    pub fn new(said: Link) -> Self {
        Self { told: said, not_before: 0, waiting: false, begun: false }
    }
}

impl<E: Env> Stack<E> {
    fn link_state(&self) -> Link {
        // Of several cards the fastest that is up speaks for all.
        let up = self.nics.iter().filter(|n| n.up).map(|n| n.speed).max();
        let last = || self.nics.iter().map(|n| n.speed).max().unwrap_or(0);
        Link {
            version: self.link.told.version,
            up: up.is_some(),
            addressed: self.address().is_some(),
            speed: up.unwrap_or_else(last),
        }
    }

    /// The beginning is over: tells what is not as an earlier incarnation said.
    pub(super) fn begin_link_news(&mut self) {
        self.link.begun = true;
        self.link_changed();
    }

    /// The link is another than it was.
    pub(super) fn link_changed(&mut self) {
        if !self.link.begun {
            return;
        }
        let state = self.link_state();
        if self.now < self.link.not_before {
            self.link.waiting = true;
            self.wheel.set(self.own_timer(Own::Link as u32), self.link.not_before);
        } else if !state.same(&self.link.told) {
            self.link.not_before = self.now + PAUSE_NS;
            self.tell(state);
        }
    }

    /// The pause is over: what there was meanwhile is told, even if all is as before.
    pub(super) fn link_due(&mut self) {
        if core::mem::take(&mut self.link.waiting) {
            self.link.not_before = self.now + PAUSE_NS;
            self.tell(self.link_state());
        }
    }

    /// There is an address, or none any more. The link is told as it was: its changes have a pace
    /// of their own.
    pub(super) fn address_changed(&mut self) {
        let state = Link { addressed: self.address().is_some(), ..self.link.told };
        if self.link.begun && !state.same(&self.link.told) {
            self.tell(state);
        }
    }

    fn tell(&mut self, state: Link) {
        let version = state.version.wrapping_add(1).max(1);
        self.link.told = Link { version, ..state };
        for (i, s) in self.sessions.iter_mut().enumerate() {
            // Sequentially consistent, as is the program's side: either it sees the new word, or
            // we see that it wants to be woken.
            s.mem.link.store(self.link.told.to_raw(), SeqCst);
            if s.mem.watch.load(SeqCst) != 0 {
                s.wake();
                self.news |= 1 << i;
            }
        }
    }
}
