//! Fair queueing: whose turn it is to send.
//!
//! Deficit round robin over sockets (the fq of Linux, RFC 8290 4): each has credit in bytes. Who comes with credit left is
//! *fresh* and goes before the *rest*, so that who sends little never waits for those who send much;
//! who has used it up waits among the rest, and gets more when its turn comes. A socket sends
//! at most a quota of segments at a time. All of it is O(1): links are indexed by socket.
//!
//! Each network card has lists of its own, of the sockets whose packets leave by it: one that is stuck holds up nobody
//! else. Sockets that speak to this host have another: they need no room with a driver.

use super::Stack;
use super::sock::Queued;
use crate::dev::{Dev, NICS};
use crate::env::Env;
use crate::list::Ends;

/// Credit of a round, bytes: as much as the quota of segments.
pub(super) const QUANTUM: i32 = 16 * 1514;

/// Those of one card.
#[derive(Clone, Copy)]
struct Lists {
    fresh: Ends,
    rest: Ends,
}

/// Sockets that have something to send.
pub(super) struct Turns {
    cards: [Lists; NICS],
    local: Ends,
    /// Sockets on all lists.
    len: u32,
}

impl Turns {
    pub(super) const fn new() -> Self {
        let none = Lists { fresh: Ends::EMPTY, rest: Ends::EMPTY };
        Self { cards: [none; NICS], local: Ends::EMPTY, len: 0 }
    }
    /// Whether anybody waits for the driver of `dev`.
    pub(super) fn waits_for(&self, dev: Dev) -> bool {
        let Lists { fresh, rest } = &self.cards[dev.index()];
        !fresh.is_empty() || !rest.is_empty()
    }
    /// Whether nobody has anything to send.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The list that `queued` names, of `dev`.
    fn list(&mut self, queued: Queued, dev: Dev) -> Option<&mut Ends> {
        let card = &mut self.cards[dev.index()];
        match queued {
            Queued::Fresh => Some(&mut card.fresh),
            Queued::Rest => Some(&mut card.rest),
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

    /// The program has something to send: at once, if it has credit and nobody is before it.
    #[inline]
    pub(super) fn send_or_queue(&mut self, i: u32) {
        let s = &self.socks[i as usize];
        let next = self.turns.is_empty() && s.queued == Queued::No && s.credit > 0;
        if next && !self.is_local(i) {
            self.serve(i, Queued::Fresh, 0);
        } else {
            self.want_send(i);
        }
    }

    /// A segment was taken: sends now if its ACK shall not wait for what else comes in this turn, as long as that
    /// is the socket's turn.
    #[cold]
    pub(super) fn send_at_once(&mut self, i: u32) {
        self.want_send(i);
        let queued = self.socks[i as usize].queued;
        if matches!(queued, Queued::Fresh | Queued::Local) {
            self.unqueue(i);
            self.serve(i, queued, 0);
        }
    }

    /// Puts socket `i` on a list, at its end or before all others.
    pub(super) fn enqueue(&mut self, i: u32, queued: Queued, first: bool) {
        let s = &mut self.socks[i as usize];
        let Some(list) = self.turns.list(queued, s.out) else { return };
        s.queued = queued;
        match first {
            true => self.send_links.push_first(list, i),
            false => self.send_links.push(list, i),
        }
        self.turns.len += 1;
    }

    /// Takes socket `i` from the list that `queued` names.
    pub(super) fn dequeue(&mut self, i: u32, queued: Queued) {
        if let Some(list) = self.turns.list(queued, self.socks[i as usize].out) {
            self.send_links.remove(list, i);
            self.turns.len -= 1;
        }
    }

    /// Packets of socket `i` leave by `dev` now, where there is no room: it waits among those that do.
    #[cold]
    pub(super) fn blocked_on(&mut self, i: u32, dev: Dev) {
        let s = &mut self.socks[i as usize];
        if s.queued == Queued::No {
            s.out = dev;
        }
    }

    /// Whose turn it is, and from which list; it is on none any more. `dev`: a card that has room for frames and
    /// somebody waiting; `local`: whether anybody may speak to this host.
    pub(super) fn next_turn(&mut self, dev: Option<Dev>, local: bool) -> Option<(u32, Queued)> {
        let turns = &mut self.turns;
        let (list, queued) = if local && !turns.local.is_empty() && self.loopback.has_room() {
            (&mut turns.local, Queued::Local)
        } else {
            let Lists { fresh, rest } = &mut turns.cards[dev?.index()];
            if fresh.is_empty() { (rest, Queued::Rest) } else { (fresh, Queued::Fresh) }
        };
        let i = self.send_links.pop(list)?;
        turns.len -= 1;
        self.socks[i as usize].queued = Queued::No;
        Some((i, queued))
    }
}
