//! Fair queueing: whose turn it is to send.
//!
//! Deficit round robin over sockets (the fq of Linux, RFC 8290 4): each has credit in bytes. Who comes with credit left is
//! *fresh* and goes before the *rest*, so that who sends little never waits for those who send much;
//! who has used it up waits among the rest, and gets more when its turn comes. A socket sends
//! at most a quota of segments at a time. All of it is O(1): links are indexed by socket.
//!
//! Sockets that speak to this host have a list of their own: they need no room with the driver.

use super::Stack;
use super::sock::Queued;
use crate::env::Env;
use crate::list::Ends;

/// Credit of a round, bytes: as much as the quota of segments.
pub(super) const QUANTUM: i32 = 16 * 1514;

/// Sockets that have something to send.
pub(super) struct Turns {
    fresh: Ends,
    rest: Ends,
    local: Ends,
}

impl Turns {
    pub(super) const fn new() -> Self {
        Self { fresh: Ends::EMPTY, rest: Ends::EMPTY, local: Ends::EMPTY }
    }
    /// Whether anybody waits for the driver.
    pub(super) fn waits_for_driver(&self) -> bool {
        !self.fresh.is_empty() || !self.rest.is_empty()
    }
    /// Whether nobody has anything to send.
    pub(super) fn is_empty(&self) -> bool {
        !self.waits_for_driver() && self.local.is_empty()
    }
    /// The list that `queued` names.
    pub(super) fn list(&mut self, queued: Queued) -> Option<&mut Ends> {
        match queued {
            Queued::Fresh => Some(&mut self.fresh),
            Queued::Rest => Some(&mut self.rest),
            Queued::Local => Some(&mut self.local),
            Queued::No | Queued::Neighbour(_) => None,
        }
    }
}

impl<E: Env> Stack<E> {
    /// Has something to send.
    pub(super) fn want_send(&mut self, i: u32) {
        let s = &self.socks[i as usize];
        if s.queued != Queued::No {
            return;
        }
        let queued = match s.credit {
            _ if self.is_local(i) => Queued::Local,
            1.. => Queued::Fresh,
            _ => Queued::Rest,
        };
        self.enqueue(i, queued, false);
    }

    /// A segment was taken: sends now if its ACK shall not wait for what else comes in this turn, as long as that
    /// is the socket's turn.
    #[cold]
    pub(super) fn send_at_once(&mut self, i: u32) {
        self.want_send(i);
        let queued = self.socks[i as usize].queued;
        if matches!(queued, Queued::Fresh | Queued::Local) {
            self.unqueue(i);
            self.serve(i, queued);
        }
    }

    /// Puts socket `i` on a list, at its end or before all others.
    pub(super) fn enqueue(&mut self, i: u32, queued: Queued, first: bool) {
        let Some(list) = self.turns.list(queued) else { return };
        self.socks[i as usize].queued = queued;
        match first {
            true => self.send_links.push_first(list, i),
            false => self.send_links.push(list, i),
        }
    }

    /// Whose turn it is, and from which list; it is on none any more. `driver`: whether there is
    /// room for frames to others; `local`: whether anybody may speak to this host.
    pub(super) fn next_turn(&mut self, driver: bool, local: bool) -> Option<(u32, Queued)> {
        let local = self.turns.local.first().filter(|_| local && self.loopback.has_room());
        let (i, queued) = match local {
            Some(i) => (i, Queued::Local),
            None if !driver => return None,
            None => match self.turns.fresh.first() {
                Some(i) => (i, Queued::Fresh),
                None => (self.turns.rest.first()?, Queued::Rest),
            },
        };
        self.unqueue(i);
        Some((i, queued))
    }
}
