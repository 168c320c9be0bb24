//! Who may have which port beside whom: Linux's rules for SO_REUSEADDR and SO_REUSEPORT.
//!
//! Two sockets meet if their addresses overlap, where an unspecified one overlaps with all of its
//! family, unless they are bound to different interfaces. Who meets is in conflict, unless
//!
//! | | |
//! |---|---|
//! | both have SO_REUSEADDR | and, of TCP, the one that is there does not listen |
//! | both have SO_REUSEPORT | and belong to one program, or the one that is there is in TIME-WAIT |
//!
//! A connection holds its port like the listener that it came from, until it is over; TIME-WAIT, too.

use super::Stack;
use super::sock::Body;
use crate::demux::Space;
use crate::env::Env;
use crate::list::NONE;
use crate::ports::held;
use core::net::{IpAddr, SocketAddr};
use libipc::sock::{flags, option};

/// A wish for an address and port.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub space: Space,
    pub local: SocketAddr,
    /// Only IPv6, if the address is any.
    pub only_v6: bool,
    /// Number of the interface that it is bound to; 0: to none.
    pub device: u8,
}

/// Somebody who has a port.
struct Holder {
    local: SocketAddr,
    only_v6: bool,
    how: u8,
    listens: bool,
    /// `None`: TIME-WAIT, which is nobody's.
    session: Option<u16>,
    device: u8,
}

impl<E: Env> Stack<E> {
    /// [`held`] bits of what the program of socket `i` wants shared.
    pub(super) fn reuse(&self, i: u32) -> u8 {
        let s = &self.socks[i as usize];
        let orphan = matches!(&s.body, Body::Tcp(conn) if conn.is_orphan());
        if orphan || s.listener != NONE {
            return self.ports.how(i) & (held::REUSE | held::SPREAD);
        }
        let bits = self.sessions[s.session as usize].options(s.id);
        let bit = |of: u32, to: u8| if bits & of != 0 { to } else { 0 };
        bit(option::REUSEADDR, held::REUSE) | bit(option::REUSEPORT, held::SPREAD)
    }

    /// Socket `i` holds the port that it has, in the way of `how` beside what its program wants.
    pub(super) fn hold_port(&mut self, i: u32, space: Space, how: u8) {
        let how = how | self.reuse(i);
        self.ports.hold(i, space, self.socks[i as usize].local.port(), how);
    }

    /// Before what the program wants is not known any more.
    pub(super) fn keep_reuse(&mut self, i: u32) {
        let others = self.ports.how(i) & !(held::REUSE | held::SPREAD);
        self.ports.set_how(i, others | self.reuse(i));
    }

    /// Connection `i` is over: its port is free, unless its program has named it and has the socket.
    pub(super) fn let_go_of_port(&mut self, i: u32) {
        if self.ports.how(i) & held::NAMED == 0 {
            self.ports.release(i);
        }
    }

    fn holder(&self, number: u32, space: Space) -> Option<Holder> {
        let Some(s) = self.socks.get(number as usize) else {
            let waiting = self.time_wait.get(number as usize - self.socks.len())?;
            let (local, how) = (waiting.tuple.local, waiting.held);
            let holder =
                Holder { local, only_v6: false, how, listens: false, session: None, device: 0 };
            return (space == Space::Tcp).then_some(holder);
        };
        let its = match &s.body {
            Body::Dgram(d) => d.space(),
            _ => Space::Tcp,
        };
        (its == space).then(|| Holder {
            local: s.local.get(),
            only_v6: s.rec.flags.load(core::sync::atomic::Ordering::Relaxed) & flags::V6ONLY != 0,
            how: self.ports.how(number) & !3 | self.reuse(number),
            listens: matches!(s.body, Body::Listener(_)),
            session: Some(s.session),
            device: s.device,
        })
    }

    fn holders(&self, space: Space, port: u16) -> impl Iterator<Item = (u32, Holder)> {
        let near = self.ports.near(space, port);
        near.filter_map(move |n| Some((n, self.holder(n, space)?)))
            .filter(move |(_, h)| h.local.port() == port)
    }

    /// Whether somebody else is in conflict with what socket `i` wants.
    pub(super) fn in_conflict(&self, i: u32, wish: &Wish) -> bool {
        self.is_refused_by(i, wish, |_| true)
    }

    /// Likewise of what socket `i` has and wants at another interface. Linux asks nobody; here who is bound to that one
    /// keeps what is his.
    pub(super) fn in_conflict_there(&self, i: u32, wish: &Wish) -> bool {
        self.is_refused_by(i, wish, |h| h.device == wish.device)
    }

    fn is_refused_by(&self, i: u32, wish: &Wish, counts: impl Fn(&Holder) -> bool) -> bool {
        let (how, session) = (self.reuse(i), self.socks[i as usize].session);
        self.holders(wish.space, wish.local.port()).any(|(n, h)| {
            let both = how & h.how;
            let reuse = both & held::REUSE != 0 && !h.listens;
            let spread = both & held::SPREAD != 0 && h.session.is_none_or(|s| s == session);
            n != i && counts(&h) && overlap(wish, &h) && !reuse && !spread
        })
    }

    /// Whether nobody has an address and port that overlaps with it.
    pub(super) fn is_free(&self, wish: &Wish) -> bool {
        !self.holders(wish.space, wish.local.port()).any(|(_, h)| overlap(wish, &h))
    }

    /// Whether nobody has the port but connections that found it as this one would.
    pub(super) fn may_dial_from(&self, port: u16) -> bool {
        self.holders(Space::Tcp, port).all(|(_, h)| h.how & held::DIALLED != 0)
    }
}

fn overlap(wish: &Wish, h: &Holder) -> bool {
    // Any of IPv6 is any of both, unless it says otherwise.
    let takes_all = |ip: IpAddr, only_v6: bool, other: IpAddr| {
        ip.is_unspecified() && (ip.is_ipv4() == other.is_ipv4() || (ip.is_ipv6() && !only_v6))
    };
    let (a, b) = (wish.local.ip(), h.local.ip());
    let apart = wish.device != h.device && wish.device != 0 && h.device != 0;
    !apart && (a == b || takes_all(a, wish.only_v6, b) || takes_all(b, h.only_v6, a))
}
