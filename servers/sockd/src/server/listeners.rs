//! Listeners: spare sockets for connections to come, and connections that are handed over.

use core::net::SocketAddr;
use libipc::net::{self, Rings, SPARES};
use libipc::sock::{Error, Kind, Reply};

use super::sockets::Wish;
use super::{Netd, Server, addresses, sock_id, socket_reply, unexpected};
use crate::table::{Listen, NONE, Use};

/// Most spares of one listener.
const MAX_SPARES: u16 = 256;
/// Most connections that may wait, Linux's `somaxconn`: for those beyond the spares there is a place
/// only while others are accepted.
const MAX_BACKLOG: u16 = 4096;

impl Server<'_> {
    pub(super) fn listen(
        &mut self,
        netd: &mut impl Netd,
        s: usize,
        repeated: bool,
        id: u32,
        backlog: u16,
        (tx, rx): (u32, u32),
    ) -> Result<Reply, Error> {
        let (id, socket) = self.own(s, id)?;
        if socket.kind != Kind::Tcp {
            return Err(Error::Invalid);
        }
        let backlog = backlog.min(MAX_BACKLOG);
        // As on Linux one more may wait than the backlog says.
        let spares = (backlog + 1).min(MAX_SPARES).min(self.table.sockets(s));
        let listener = sock_id(s, id);
        if socket.usage == Use::Listener {
            // Another backlog, or asked again by a program whose sockd died under the first call. Rings stay.
            let old = self.table.listen(s, id).map_err(|_| Error::Server)?;
            let listen = Listen { spares, ..old };
            self.table.set_listen(s, id, listen);
            netd.ask(&net::Request::Listen { sock: listener, backlog }).reply?;
            self.feed(netd, s, id, listen);
            return Ok(Reply::Done);
        }
        let (tx_bits, rx_bits) = self.sizes(s, Kind::Tcp, tx, rx)?;
        let listen = Listen { tx_bits, rx_bits, spares };
        // The first spare is reserved before netd is asked: a listener that can never take a
        // connection is an error of this call.
        let wish = listen.spare(id);
        let (first, rings) = self.reserve_or_sweep(netd, s, wish)?;
        self.table.set_listen(s, id, listen);
        let answer = netd.ask(&net::Request::Listen { sock: listener, backlog });
        match answer.reply {
            Ok(_) => {}
            Err(Error::Invalid) if answer.again || repeated => {}
            Err(e) => {
                self.free(s, first);
                return Err(e);
            }
        }
        self.set_use(s, id, Use::Listener, NONE);
        self.give_spares(netd, s, id, &[(first, rings)]);
        self.feed(netd, s, id, listen);
        Ok(Reply::Done)
    }

    /// Hands reserved spares to netd; gives back those that netd refuses (`false`).
    pub(super) fn give_spares(
        &mut self,
        netd: &mut impl Netd,
        s: usize,
        listener: u16,
        spares: &[(u16, Rings)],
    ) -> bool {
        let mut all = true;
        let mut give = |ids: &[(u16, Rings)]| {
            let ids = ids.iter().copied().collect();
            netd.ask(&net::Request::Spares { listener: sock_id(s, listener), ids }).reply
        };
        if give(spares).is_ok() {
            return true;
        }
        let mut refused = heapless::Vec::<u16, SPARES>::new();
        for spare in spares {
            match give(core::slice::from_ref(spare)) {
                Ok(_) => {}
                // Given before, and netd has handed over the connection that it became.
                Err(Error::AlreadyConnected) => {
                    self.set_use(s, spare.0, Use::Accepted, listener);
                }
                Err(_) => {
                    all = false;
                    let _ = refused.push(spare.0);
                }
            }
        }
        for id in refused {
            self.close_at_netd(netd, s, id, true);
        }
        all
    }

    /// Brings a listener's spares up to their number, as far as there is room.
    pub(super) fn feed(&mut self, netd: &mut impl Netd, s: usize, listener: u16, listen: Listen) {
        // What to do about a shortage, in turn: ask what came free, and, if half is missing, about
        // each closing socket.
        let mut shortages = 0;
        loop {
            let mut batch = heapless::Vec::<(u16, Rings), SPARES>::new();
            while self.soft[s].spares(listener) < listen.spares && !batch.is_full() {
                let Ok(spare) = self.reserve(s, listen.spare(listener)) else { break };
                let _ = batch.push(spare);
            }
            if !batch.is_empty() {
                if !self.give_spares(netd, s, listener, &batch) {
                    return;
                }
                continue;
            }
            let have = self.soft[s].spares(listener);
            if have >= listen.spares {
                return;
            }
            shortages += 1;
            match shortages {
                1 => self.take_freed_of(netd, s, true),
                2 if have < listen.spares.div_ceil(2) && self.soft[s].closing > 0 => {
                    self.sweep_closing(netd, s);
                }
                _ => {
                    self.soft[s].hungry = true;
                    return;
                }
            }
        }
    }

    pub(super) fn feed_listeners(&mut self, netd: &mut impl Netd, s: usize) {
        if !core::mem::take(&mut self.soft[s].hungry) {
            return;
        }
        for i in 0..self.soft[s].listeners.len() {
            let id = self.soft[s].listeners[i];
            if let Ok(listen) = self.table.listen(s, id) {
                self.feed(netd, s, id, listen);
            }
        }
    }

    pub(super) fn accept(
        &mut self,
        netd: &mut impl Netd,
        s: usize,
        number: u16,
        id: u32,
    ) -> Result<Reply, Error> {
        let (listener, socket) = self.own(s, id)?;
        if socket.usage != Use::Listener {
            return Err(Error::Invalid);
        }
        // Left over from a netd or sockd that died.
        if let Some(reply) = self.hand_over(netd, s, number, listener) {
            return Ok(reply);
        }
        let answer = netd.ask(&net::Request::Accept { listener: sock_id(s, listener) });
        if answer.again {
            // The netd that died may have handed over a connection: its record says so.
            self.check_spares(netd, s, listener);
        }
        match answer.reply {
            Ok(net::Reply::Accepted { sock, peer }) => {
                let known = sock.session as usize == s
                    && sock.id < self.table.sockets(s)
                    && matches!(self.table.usage(s, sock.id),
                        Ok((Use::Spare | Use::Accepted, l)) if l == listener);
                if !known {
                    return Err(Error::Server);
                }
                let reply = self.hand(s, number, sock.id, Some(peer)).ok_or(Error::Server);
                if let Ok(listen) = self.table.listen(s, listener)
                    && self.soft[s].spares(listener) <= listen.spares / 2
                {
                    // Several at once: a question to netd costs more than what it is about.
                    self.feed(netd, s, listener, listen);
                }
                reply
            }
            Err(Error::WouldBlock) if answer.again => {
                self.hand_over(netd, s, number, listener).ok_or(Error::WouldBlock)
            }
            other => unexpected(other),
        }
    }

    /// Gives the program a connection of `listener` that netd has handed over to a predecessor.
    fn hand_over(
        &mut self,
        netd: &mut impl Netd,
        s: usize,
        number: u16,
        listener: u16,
    ) -> Option<Reply> {
        if self.soft[s].accepted == 0 {
            return None;
        }
        let id = (0..self.table.sockets(s))
            .find(|&id| self.table.usage(s, id) == Ok((Use::Accepted, listener)))?;
        let peer = match addresses(netd, sock_id(s, id)) {
            Ok(Reply::Addresses { remote, .. }) => remote,
            _ => None,
        };
        self.hand(s, number, id, peer)
    }

    /// Gives the program socket `id`, a connection.
    fn hand(&mut self, s: usize, number: u16, id: u16, peer: Option<SocketAddr>) -> Option<Reply> {
        let Ok(Some(socket)) = self.table.socket(s, id) else { return None };
        // In this order: repeated in between, the call finds the socket by its number.
        self.table.set_last_call(s, Some((number, id)));
        self.set_use(s, id, Use::Open, NONE);
        Some(socket_reply(id, socket.rings, peer))
    }

    /// Asks netd about every spare of a listener by giving it again.
    pub(super) fn check_spares(&mut self, netd: &mut impl Netd, s: usize, listener: u16) {
        for id in 0..self.table.sockets(s) {
            if self.table.usage(s, id) == Ok((Use::Spare, listener))
                && let Ok(Some(socket)) = self.table.socket(s, id)
            {
                self.give_spares(netd, s, listener, &[(id, socket.rings)]);
            }
        }
    }
}

impl Listen {
    fn spare(self, listener: u16) -> Wish {
        let Listen { tx_bits, rx_bits, .. } = self;
        Wish { kind: Kind::Tcp, usage: Use::Spare, listener, tx_bits, rx_bits }
    }
}
