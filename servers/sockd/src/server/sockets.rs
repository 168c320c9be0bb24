//! Making and closing sockets: ids, room for their rings, records.

use libipc::net::{self, Rings};
use libipc::sock::{Error, Kind, Reply};

use super::{Netd, Server, addresses, sock_id, socket_reply};
use crate::policy;
use crate::space::MIN_BITS;
use crate::table::{NONE, Socket, Use};

/// Ring sizes when a program asks for 0: (send, receive).
const fn default_sizes(kind: Kind) -> (u32, u32) {
    match kind {
        Kind::Tcp => (64 << 10, 64 << 10),
        Kind::Listener => (1 << MIN_BITS, 1 << MIN_BITS),
        Kind::Udp => (32 << 10, 64 << 10),
        Kind::Ping => (1 << MIN_BITS, 1 << MIN_BITS),
        Kind::Raw => (32 << 10, 64 << 10),
        Kind::Capture => (1 << MIN_BITS, 256 << 10),
    }
}

/// How often a socket is opened anew because netd died under the question.
const OPEN_ROUNDS: usize = 8;

/// What to reserve.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub kind: Kind,
    pub usage: Use,
    pub listener: u16,
    pub tx_bits: u8,
    pub rx_bits: u8,
}

impl Server<'_> {
    /// Takes an id and room for its rings.
    pub(super) fn reserve(&mut self, s: usize, wish: Wish) -> Result<(u16, Rings), Error> {
        let soft = &mut self.soft[s];
        let id = soft.take_id().ok_or(Error::TooManySockets)?;
        let Some(tx_off) = soft.tx.take(wish.tx_bits) else {
            soft.give_id(id);
            return Err(Error::NoBuffers);
        };
        let Some(rx_off) = soft.rx.take(wish.rx_bits) else {
            soft.tx.give(tx_off, wish.tx_bits);
            soft.give_id(id);
            return Err(Error::NoBuffers);
        };
        let rings = Rings { tx_off, tx_bits: wish.tx_bits, rx_off, rx_bits: wish.rx_bits };
        let Wish { usage, listener, kind, .. } = wish;
        soft.count(id, (usage, listener), true);
        self.table.create(s, id, Socket { usage, listener, kind, rings });
        Ok((id, rings))
    }

    /// As [`Self::reserve`]; on a shortage asks netd first what has come free meanwhile.
    pub(super) fn reserve_or_sweep(
        &mut self,
        netd: &mut impl Netd,
        s: usize,
        wish: Wish,
    ) -> Result<(u16, Rings), Error> {
        let mut result = self.reserve(s, wish);
        if result.is_err() && self.soft[s].closing > 0 {
            self.take_freed_of(netd, s, false);
            result = self.reserve(s, wish);
        }
        if result.is_err() && self.soft[s].closing > 0 {
            self.sweep_closing(netd, s);
            result = self.reserve(s, wish);
        }
        result
    }

    /// Asks about every closing socket: news of it may have been lost with a netd.
    pub(super) fn sweep_closing(&mut self, netd: &mut impl Netd, s: usize) {
        for id in 0..self.table.sockets(s) {
            if self.table.usage(s, id).is_ok_and(|u| u.0 == Use::Closing) {
                self.close_at_netd(netd, s, id, false);
            }
        }
    }

    pub(super) fn free(&mut self, s: usize, id: u16) {
        let record = self.table.socket(s, id);
        let soft = &mut self.soft[s];
        match record {
            Ok(None) => return,
            Ok(Some(socket)) => {
                soft.tx.give(socket.rings.tx_off, socket.rings.tx_bits);
                soft.rx.give(socket.rings.rx_off, socket.rings.rx_bits);
            }
            // Its room was never claimed.
            Err(_) => {}
        }
        self.set_use(s, id, Use::Free, NONE);
    }

    /// The socket that the program's last call made, if it is still as the call left it.
    pub(super) fn made_already(
        &mut self,
        netd: &mut impl Netd,
        s: usize,
        id: u16,
    ) -> Option<Reply> {
        let (id, socket) = self.own(s, id as u32).ok()?;
        let peer = match addresses(netd, sock_id(s, id)) {
            Ok(Reply::Addresses { remote, .. }) => remote,
            _ => None,
        };
        Some(socket_reply(id, socket.rings, peer))
    }

    pub(super) fn socket(
        &mut self,
        netd: &mut impl Netd,
        s: usize,
        number: u16,
        kind: Kind,
        tx: u32,
        rx: u32,
    ) -> Result<Reply, Error> {
        if kind == Kind::Listener {
            return Err(Error::Invalid);
        }
        policy::may_open(&self.specs[s], kind).map_err(|m| self.refuse(Some(s), m))?;
        let (tx_bits, rx_bits) = self.sizes(s, kind, tx, rx)?;
        let wish = Wish { kind, usage: Use::Opening, listener: NONE, tx_bits, rx_bits };
        let (id, rings) = self.reserve_or_sweep(netd, s, wish)?;
        let sock = sock_id(s, id);
        let request = net::Request::Open { sock, kind, rings };
        let mut answer = netd.ask(&request);
        for _ in 0..OPEN_ROUNDS {
            if !(answer.again && answer.reply.is_err()) {
                break;
            }
            // The first question opened it: nothing is lost by closing and opening it once more.
            netd.ask(&net::Request::Close { sock, abort: true });
            answer = netd.ask(&request);
        }
        if let Err(e) = answer.reply {
            self.close_at_netd(netd, s, id, true);
            return Err(e);
        }
        self.set_use(s, id, Use::Open, NONE);
        self.table.set_last_call(s, Some((number, id)));
        Ok(socket_reply(id, rings, None))
    }

    pub(super) fn sizes(&self, s: usize, kind: Kind, tx: u32, rx: u32) -> Result<(u8, u8), Error> {
        let (default_tx, default_rx) = default_sizes(kind);
        let soft = &self.soft[s];
        let tx = soft.tx.bits_for(if tx == 0 { default_tx } else { tx }).ok_or(Error::NoBuffers)?;
        let rx = soft.rx.bits_for(if rx == 0 { default_rx } else { rx }).ok_or(Error::NoBuffers)?;
        Ok((tx, rx))
    }

    pub(super) fn close(
        &mut self,
        netd: &mut impl Netd,
        s: usize,
        id: u32,
        abort: bool,
    ) -> Result<Reply, Error> {
        let (id, socket) = self.own(s, id)?;
        self.close_at_netd(netd, s, id, abort);
        if socket.usage == Use::Listener {
            for other in 0..self.table.sockets(s) {
                if matches!(self.table.usage(s, other),
                    Ok((Use::Spare | Use::Accepted, l)) if l == id)
                {
                    self.close_at_netd(netd, s, other, true);
                }
            }
        }
        self.feed_listeners(netd, s);
        Ok(Reply::Done)
    }

    /// Closes at netd; the id is free at once or closing.
    pub(super) fn close_at_netd(&mut self, netd: &mut impl Netd, s: usize, id: u16, abort: bool) {
        if self.table.usage(s, id).is_ok_and(|u| u.0 != Use::Closing) {
            self.set_use(s, id, Use::Closing, NONE);
        }
        match netd.ask(&net::Request::Close { sock: sock_id(s, id), abort }).reply {
            Ok(net::Reply::Closed { free: true }) | Err(Error::BadSocket) => self.free(s, id),
            // Ends later, or netd could not say: asked again when room is short.
            _ => {}
        }
    }
}
