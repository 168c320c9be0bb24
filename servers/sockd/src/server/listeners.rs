//! Listeners: spare sockets for connections to come, and connections that are handed over.

use libipc::net::{self, Rings};
use libipc::sock::{Error, Kind, Reply};

use super::sockets::Wish;
use super::{Netd, Server, addresses, sock_id, socket_reply, unexpected};
use crate::table::{Listen, NONE, Use};

/// Most spares of one listener.
const MAX_BACKLOG: u16 = 256;

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
        let (tx_bits, rx_bits) = self.sizes(s, Kind::Tcp, tx, rx)?;
        let backlog = backlog.clamp(1, MAX_BACKLOG.min(self.table.sockets(s)));
        let listen = Listen { tx_bits, rx_bits, backlog };
        let listener = sock_id(s, id);
        if socket.usage == Use::Listener {
            // Asked again, by a program whose sockd died under the first call.
            let same = self.table.listen(s, id) == Ok(listen);
            self.feed(netd, s, id, listen);
            return if same { Ok(Reply::Done) } else { Err(Error::Invalid) };
        }
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
        self.table.set_usage(s, id, Use::Listener, NONE);
        self.give_spare(netd, s, id, first, rings);
        self.feed(netd, s, id, listen);
        Ok(Reply::Done)
    }

    /// Hands a reserved spare to netd; gives it back if netd refuses.
    pub(super) fn give_spare(
        &mut self,
        netd: &mut impl Netd,
        s: usize,
        listener: u16,
        id: u16,
        rings: Rings,
    ) -> bool {
        let request =
            net::Request::Spare { listener: sock_id(s, listener), sock: sock_id(s, id), rings };
        match netd.ask(&request).reply {
            Ok(_) => true,
            Err(Error::AlreadyConnected) => {
                // Given before, and netd has handed over the connection that it became.
                self.table.set_usage(s, id, Use::Accepted, listener);
                true
            }
            Err(_) => {
                self.close_at_netd(netd, s, id, true);
                false
            }
        }
    }

    /// Brings a listener's spares up to its backlog, as far as there is room.
    pub(super) fn feed(&mut self, netd: &mut impl Netd, s: usize, listener: u16, listen: Listen) {
        let mut have = 0;
        for id in 0..self.table.sockets(s) {
            have += matches!(self.table.usage(s, id), Ok((Use::Spare, l)) if l == listener) as u16;
        }
        let mut swept = false;
        while have < listen.backlog {
            let Ok((id, rings)) = self.reserve(s, listen.spare(listener)) else {
                // Running low is worth asking netd about each closing socket, once.
                if have < listen.backlog.div_ceil(2) && !swept && self.soft[s].closing > 0 {
                    self.sweep_closing(netd, s);
                    swept = true;
                    continue;
                }
                self.soft[s].hungry = true;
                return;
            };
            if !self.give_spare(netd, s, listener, id, rings) {
                return;
            }
            have += 1;
        }
    }

    pub(super) fn feed_listeners(&mut self, netd: &mut impl Netd, s: usize) {
        if !core::mem::take(&mut self.soft[s].hungry) {
            return;
        }
        for id in 0..self.table.sockets(s) {
            if let Ok((Use::Listener, _)) = self.table.usage(s, id)
                && let Ok(listen) = self.table.listen(s, id)
            {
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
        if let Some(reply) = self.hand_over(netd, s, number, listener) {
            return Ok(reply);
        }
        let answer = netd.ask(&net::Request::Accept { listener: sock_id(s, listener) });
        if answer.again {
            // The netd that died may have handed over a connection: its record says so.
            self.check_spares(netd, s, listener);
        }
        match answer.reply {
            Ok(net::Reply::Accepted { sock, .. }) => {
                let known = sock.session as usize == s
                    && sock.id < self.table.sockets(s)
                    && matches!(self.table.usage(s, sock.id),
                        Ok((Use::Spare | Use::Accepted, l)) if l == listener);
                if !known {
                    return Err(Error::Server);
                }
                self.table.set_usage(s, sock.id, Use::Accepted, listener);
                let reply = self.hand_over(netd, s, number, listener).ok_or(Error::Server);
                if let Ok(listen) = self.table.listen(s, listener) {
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

    /// Gives the program a connection of `listener` that netd has handed over.
    pub(super) fn hand_over(
        &mut self,
        netd: &mut impl Netd,
        s: usize,
        number: u16,
        listener: u16,
    ) -> Option<Reply> {
        let id = (0..self.table.sockets(s))
            .find(|&id| self.table.usage(s, id) == Ok((Use::Accepted, listener)))?;
        let Ok(Some(socket)) = self.table.socket(s, id) else { return None };
        let peer = match addresses(netd, sock_id(s, id)) {
            Ok(Reply::Addresses { remote, .. }) => remote,
            _ => None,
        };
        // In this order: repeated in between, the call finds the socket by its number.
        self.table.set_last_call(s, Some((number, id)));
        self.table.set_usage(s, id, Use::Open, NONE);
        Some(socket_reply(id, socket.rings, peer))
    }

    /// Asks netd about every spare of a listener by giving it again.
    pub(super) fn check_spares(&mut self, netd: &mut impl Netd, s: usize, listener: u16) {
        for id in 0..self.table.sockets(s) {
            if self.table.usage(s, id) == Ok((Use::Spare, listener))
                && let Ok(Some(socket)) = self.table.socket(s, id)
            {
                self.give_spare(netd, s, listener, id, socket.rings);
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
