//! Requests, death notices and restart of sockd, over a table in lent memory and a netd to ask.
//!
//! Any instant may be sockd's or netd's last. The table is written before netd is asked when a
//! socket is made or closed, so that a new sockd knows what may exist; and every question to netd
//! can be repeated, because netd's answers to a repeated question tell what the first one did. A
//! program numbers its calls and repeats one under the same number when sockd died under it: a
//! socket that this very call made already is handed out again instead of a second one.

use alloc::vec::Vec;
use libipc::net::{self, Rings, SockId};
use libipc::sock::{Error, Kind, REPEATED, Reply, Request, SessionSpec, SessionTable};

use crate::policy::{self, Missing};
use crate::space::{MIN_BITS, Space};
use crate::table::{Listen, NONE, SessionState, Socket, Table, Use};

/// netd as sockd sees it.
pub trait Netd {
    /// Asks until there is an answer.
    fn ask(&mut self, request: &net::Request) -> Answer;
}

/// An answer of netd.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The answer.
    pub reply: Result<net::Reply, Error>,
    /// netd died under the question and was asked again: the first one may have acted.
    pub again: bool,
}

/// A refusal worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Session, if the caller has one.
    pub session: Option<u16>,
    /// What was missing.
    pub missing: Missing,
}

/// What a new sockd found in its table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The table was there.
    pub found: bool,
    /// Sockets that go on.
    pub kept: u32,
    /// Records that did not hold, or calls that were cut short.
    pub dropped: u32,
}

/// Ring sizes when a program asks for 0: (send, receive).
const fn default_sizes(kind: Kind) -> (u32, u32) {
    match kind {
        Kind::Tcp => (64 << 10, 64 << 10),
        Kind::Listener => (1 << MIN_BITS, 1 << MIN_BITS),
        Kind::Udp => (32 << 10, 64 << 10),
        Kind::Ping => (1 << MIN_BITS, 1 << MIN_BITS),
    }
}

/// Most spares of one listener.
const MAX_BACKLOG: u16 = 256;
/// Most `TakeFreed` questions for one session in a row: its sockets, 32 at a time, and one more.
const TAKE_ROUNDS: usize = 130;
/// How often a socket is opened anew because netd died under the question.
const OPEN_ROUNDS: usize = 8;

struct Soft {
    tx: Space,
    rx: Space,
    /// Where the search for a free id begins: ids are used again as late as possible.
    next: u16,
    /// Ids in use.
    used: u16,
    /// Ids in [`Use::Closing`].
    closing: u16,
    /// Listeners may lack spares.
    hungry: bool,
}

/// The server.
pub struct Server<'a> {
    table: Table<'a>,
    specs: &'a SessionTable,
    soft: Vec<Soft>,
    refusal: Option<Refusal>,
}

impl<'a> Server<'a> {
    /// Starts on `table`: empty at boot, as an earlier sockd left it otherwise.
    pub fn start(
        table: Table<'a>,
        specs: &'a SessionTable,
        netd: &mut impl Netd,
    ) -> (Self, Recovery) {
        let soft = specs
            .iter()
            .map(|spec| Soft {
                tx: Space::new(spec.tx_len),
                rx: Space::new(spec.rx_len),
                next: 0,
                used: 0,
                closing: 0,
                hungry: false,
            })
            .collect();
        let mut server = Self { table, specs, soft, refusal: None };
        let mut report = Recovery::default();
        if server.table.is_formatted() {
            report.found = true;
            for s in 0..specs.len() {
                server.recover_session(s, netd, &mut report);
            }
        } else {
            server.table.format();
        }
        (server, report)
    }

    /// The last refusal, once.
    pub fn take_refusal(&mut self) -> Option<Refusal> {
        self.refusal.take()
    }

    /// Sessions that still have to end: [`Self::poll`] is to be called again.
    pub fn is_waiting(&self) -> bool {
        (0..self.specs.len()).any(|s| self.table.session(s) == SessionState::Ending)
    }

    /// One request. `badge` says who; `method` is the message's: the caller's number of the call,
    /// and whether it is made again.
    pub fn handle(
        &mut self,
        netd: &mut impl Netd,
        badge: u64,
        method: u16,
        request: Request,
    ) -> Result<Reply, Error> {
        let (number, repeated) = (method & !REPEATED, method & REPEATED != 0);
        let s = badge.wrapping_sub(1) as usize;
        if s >= self.specs.len() {
            return Err(self.refuse(None, Missing::Session));
        }
        let creates = matches!(request, Request::Socket { .. } | Request::Accept { .. });
        if repeated
            && creates
            && let Some((_, id)) = self.table.last_call(s).filter(|last| last.0 == number)
            && let Some(reply) = self.made_already(netd, s, id)
        {
            return Ok(reply);
        }
        if self.table.last_call(s).is_some() {
            self.table.set_last_call(s, None);
        }
        match request {
            Request::OpenSession => return self.open_session(netd, s),
            Request::Stats => return Ok(self.stats()),
            _ if self.table.session(s) != SessionState::Open => return Err(Error::NoSession),
            _ => {}
        }
        match request {
            Request::OpenSession | Request::Stats => Err(Error::Invalid),
            Request::Socket { kind, tx, rx } => self.socket(netd, s, number, kind, tx, rx),
            Request::Bind { id, addr } => {
                let (id, _) = self.own(s, id)?;
                policy::may_bind(&self.specs[s], addr).map_err(|m| self.refuse(Some(s), m))?;
                let sock = sock_id(s, id);
                let answer = netd.ask(&net::Request::Bind { sock, addr });
                match answer.reply {
                    Ok(net::Reply::Address(local)) => Ok(Reply::Addresses { local, remote: None }),
                    Err(Error::Invalid) if answer.again || repeated => addresses(netd, sock),
                    other => unexpected(other),
                }
            }
            Request::Listen { id, backlog, tx, rx } => {
                self.listen(netd, s, repeated, id, backlog, (tx, rx))
            }
            Request::Accept { id } => self.accept(netd, s, number, id),
            Request::Connect { id, addr } => {
                let (id, socket) = self.own(s, id)?;
                policy::may_connect(&self.specs[s], socket.kind)
                    .map_err(|m| self.refuse(Some(s), m))?;
                let answer = netd.ask(&net::Request::Connect { sock: sock_id(s, id), addr });
                match answer.reply {
                    Ok(_) | Err(Error::InProgress) => Ok(Reply::Done),
                    Err(Error::AlreadyConnected) if answer.again || repeated => Ok(Reply::Done),
                    other => unexpected(other),
                }
            }
            Request::Shutdown { id, how } => {
                let (id, _) = self.own(s, id)?;
                if how > 2 {
                    return Err(Error::Invalid);
                }
                let sock = sock_id(s, id);
                netd.ask(&net::Request::Shutdown { sock, how }).reply.map(|_| Reply::Done)
            }
            Request::Close { id, abort } => self.close(netd, s, id, abort),
            Request::Addresses { id } => {
                let (id, _) = self.own(s, id)?;
                addresses(netd, sock_id(s, id))
            }
        }
    }

    /// Its program died: the session ends, now or when netd has let go of it. Bits are sessions.
    pub fn programs_died(&mut self, netd: &mut impl Netd, sessions: u32) {
        // All marks first: they survive us, the notice does not.
        for s in 0..self.specs.len() {
            if sessions >> s & 1 == 1 && self.table.session(s) != SessionState::Closed {
                self.table.set_session(s, SessionState::Ending);
            }
        }
        self.poll(netd);
    }

    /// Goes on with sessions that wait for their end.
    pub fn poll(&mut self, netd: &mut impl Netd) {
        for s in 0..self.specs.len() {
            if self.table.session(s) == SessionState::Ending {
                let _ = self.end_session(netd, s);
            }
        }
    }

    /// netd said that sockets came free.
    pub fn take_freed(&mut self, netd: &mut impl Netd) {
        for s in 0..self.specs.len() {
            if self.soft[s].closing == 0 || self.table.session(s) != SessionState::Open {
                continue;
            }
            for _ in 0..TAKE_ROUNDS {
                let request = net::Request::TakeFreed { session: s as u16 };
                let Ok(net::Reply::Freed(ids)) = netd.ask(&request).reply else { break };
                for &id in &ids {
                    if id < self.table.sockets(s)
                        && self.table.usage(s, id).is_ok_and(|u| u.0 == Use::Closing)
                    {
                        self.free(s, id);
                    }
                }
                if !ids.is_full() {
                    break;
                }
            }
            self.feed_listeners(netd, s);
        }
    }

    /// Name of a session's program.
    pub fn program(&self, session: u16) -> &str {
        self.specs.get(session as usize).map_or("?", |spec| &spec.program)
    }

    fn refuse(&mut self, session: Option<usize>, missing: Missing) -> Error {
        self.refusal = Some(Refusal { session: session.map(|s| s as u16), missing });
        Error::Denied
    }

    fn stats(&self) -> Reply {
        let mut sessions = 0;
        let (mut sockets, mut bytes) = (0, 0);
        for (s, soft) in self.soft.iter().enumerate() {
            sessions += (self.table.session(s) != SessionState::Closed) as u32;
            sockets += soft.used as u32;
            bytes += soft.tx.bytes() + soft.rx.bytes();
        }
        Reply::Stats { sessions, sockets, bytes }
    }

    fn open_session(&mut self, netd: &mut impl Netd, s: usize) -> Result<Reply, Error> {
        self.table.set_session(s, SessionState::Ending);
        self.end_session(netd, s)?;
        self.table.set_session(s, SessionState::Open);
        Ok(Reply::Session { session: s as u32, sockets: self.specs[s].sockets })
    }

    /// Lets netd end everything of a session, then forgets it.
    ///
    /// # Errors
    /// [`Error::WouldBlock`]: netd or the NIC still uses its memory; nothing was freed.
    fn end_session(&mut self, netd: &mut impl Netd, s: usize) -> Result<(), Error> {
        match netd.ask(&net::Request::EndSession { session: s as u16 }).reply {
            // The last: nothing is in use any more, only the rings cannot be begun anew, which is
            // for the program's next incarnation to mend.
            Ok(_) | Err(Error::NoSession | Error::Invalid) => {}
            Err(e) => return Err(e),
        }
        for id in 0..self.table.sockets(s) {
            self.free(s, id);
        }
        let (spec, soft) = (&self.specs[s], &mut self.soft[s]);
        // Nothing is left; this also repairs what a damaged record may have left behind.
        soft.tx = Space::new(spec.tx_len);
        soft.rx = Space::new(spec.rx_len);
        (soft.used, soft.closing, soft.hungry) = (0, 0, false);
        self.table.set_last_call(s, None);
        self.table.set_session(s, SessionState::Closed);
        Ok(())
    }

    /// A socket that the program may name, that is: its own, and not one that it has closed.
    fn own(&self, s: usize, id: u32) -> Result<(u16, Socket), Error> {
        let id = u16::try_from(id).map_err(|_| Error::BadSocket)?;
        if id >= self.table.sockets(s) {
            return Err(Error::BadSocket);
        }
        match self.table.socket(s, id) {
            Ok(Some(socket)) if matches!(socket.usage, Use::Open | Use::Listener) => {
                Ok((id, socket))
            }
            _ => Err(Error::BadSocket),
        }
    }

    fn free_id(&mut self, s: usize) -> Option<u16> {
        let n = self.table.sockets(s);
        let start = self.soft[s].next;
        let id = (0..n)
            .map(|i| (start + i) % n)
            .find(|&id| self.table.usage(s, id).is_ok_and(|u| u.0 == Use::Free))?;
        self.soft[s].next = (id + 1) % n;
        Some(id)
    }

    /// Takes an id and room for its rings.
    fn reserve(&mut self, s: usize, wish: Wish) -> Result<(u16, Rings), Error> {
        let id = self.free_id(s).ok_or(Error::TooManySockets)?;
        let soft = &mut self.soft[s];
        let tx_off = soft.tx.take(wish.tx_bits).ok_or(Error::NoBuffers)?;
        let Some(rx_off) = soft.rx.take(wish.rx_bits) else {
            soft.tx.give(tx_off, wish.tx_bits);
            return Err(Error::NoBuffers);
        };
        let rings = Rings { tx_off, tx_bits: wish.tx_bits, rx_off, rx_bits: wish.rx_bits };
        soft.used += 1;
        self.table.create(
            s,
            id,
            Socket { usage: wish.usage, listener: wish.listener, kind: wish.kind, rings },
        );
        Ok((id, rings))
    }

    /// As [`Self::reserve`]; on a shortage asks netd first what has come free meanwhile.
    fn reserve_or_sweep(
        &mut self,
        netd: &mut impl Netd,
        s: usize,
        wish: Wish,
    ) -> Result<(u16, Rings), Error> {
        match self.reserve(s, wish) {
            Err(_) if self.soft[s].closing > 0 => {
                self.sweep_closing(netd, s);
                self.reserve(s, wish)
            }
            other => other,
        }
    }

    /// Asks about every closing socket: news of it may have been lost with a netd.
    fn sweep_closing(&mut self, netd: &mut impl Netd, s: usize) {
        for id in 0..self.table.sockets(s) {
            if self.table.usage(s, id).is_ok_and(|u| u.0 == Use::Closing) {
                self.close_at_netd(netd, s, id, false);
            }
        }
    }

    fn free(&mut self, s: usize, id: u16) {
        let record = self.table.socket(s, id);
        let soft = &mut self.soft[s];
        match record {
            Ok(None) => return,
            Ok(Some(socket)) => {
                soft.tx.give(socket.rings.tx_off, socket.rings.tx_bits);
                soft.rx.give(socket.rings.rx_off, socket.rings.rx_bits);
                soft.used = soft.used.saturating_sub(1);
                soft.closing -= (socket.usage == Use::Closing && soft.closing > 0) as u16;
            }
            // Its room was never claimed.
            Err(_) => {}
        }
        self.table.set_usage(s, id, Use::Free, NONE);
    }

    /// The socket that the program's last call made, if it is still as the call left it.
    fn made_already(&mut self, netd: &mut impl Netd, s: usize, id: u16) -> Option<Reply> {
        let (id, socket) = self.own(s, id as u32).ok()?;
        let peer = match addresses(netd, sock_id(s, id)) {
            Ok(Reply::Addresses { remote, .. }) => remote,
            _ => None,
        };
        Some(socket_reply(id, socket.rings, peer))
    }

    fn socket(
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
        self.table.set_usage(s, id, Use::Open, NONE);
        self.table.set_last_call(s, Some((number, id)));
        Ok(socket_reply(id, rings, None))
    }

    fn sizes(&self, s: usize, kind: Kind, tx: u32, rx: u32) -> Result<(u8, u8), Error> {
        let (default_tx, default_rx) = default_sizes(kind);
        let soft = &self.soft[s];
        let tx = soft.tx.bits_for(if tx == 0 { default_tx } else { tx }).ok_or(Error::NoBuffers)?;
        let rx = soft.rx.bits_for(if rx == 0 { default_rx } else { rx }).ok_or(Error::NoBuffers)?;
        Ok((tx, rx))
    }

    fn listen(
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
    fn give_spare(
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
    fn feed(&mut self, netd: &mut impl Netd, s: usize, listener: u16, listen: Listen) {
        let mut have = 0;
        for id in 0..self.table.sockets(s) {
            have += matches!(self.table.usage(s, id), Ok((Use::Spare, l)) if l == listener) as u16;
        }
        while have < listen.backlog {
            let Ok((id, rings)) = self.reserve(s, listen.spare(listener)) else {
                self.soft[s].hungry = true;
                return;
            };
            if !self.give_spare(netd, s, listener, id, rings) {
                return;
            }
            have += 1;
        }
    }

    fn feed_listeners(&mut self, netd: &mut impl Netd, s: usize) {
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

    fn accept(
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
    fn hand_over(
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
    fn check_spares(&mut self, netd: &mut impl Netd, s: usize, listener: u16) {
        for id in 0..self.table.sockets(s) {
            if self.table.usage(s, id) == Ok((Use::Spare, listener))
                && let Ok(Some(socket)) = self.table.socket(s, id)
            {
                self.give_spare(netd, s, listener, id, socket.rings);
            }
        }
    }

    fn close(
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
    fn close_at_netd(&mut self, netd: &mut impl Netd, s: usize, id: u16, abort: bool) {
        if self.table.usage(s, id).is_ok_and(|u| u.0 != Use::Closing) {
            self.table.set_usage(s, id, Use::Closing, NONE);
            self.soft[s].closing += 1;
        }
        match netd.ask(&net::Request::Close { sock: sock_id(s, id), abort }).reply {
            Ok(net::Reply::Closed { free: true }) | Err(Error::BadSocket) => self.free(s, id),
            // Ends later, or netd could not say: asked again when room is short.
            _ => {}
        }
    }

    fn recover_session(&mut self, s: usize, netd: &mut impl Netd, report: &mut Recovery) {
        match self.table.session(s) {
            SessionState::Closed => return,
            SessionState::Ending => {
                // Counted until netd has let go of them.
                for id in 0..self.table.sockets(s) {
                    if let Ok(Some(socket)) = self.table.socket(s, id)
                        && self.claim(s, socket.rings)
                    {
                        self.soft[s].used += 1;
                    }
                }
                let _ = self.end_session(netd, s);
                return;
            }
            SessionState::Open => {}
        }
        for id in 0..self.table.sockets(s) {
            let record = self.table.socket(s, id);
            match record {
                Ok(None) => continue,
                Ok(Some(socket)) if self.claim(s, socket.rings) => {
                    self.soft[s].used += 1;
                    self.soft[s].closing += (socket.usage == Use::Closing) as u16;
                    report.kept += 1;
                }
                _ => {
                    // Does not hold, or overlaps an earlier one. Whoever owns the bytes, this
                    // record does not: netd resets it before its id is used again.
                    netd.ask(&net::Request::Close { sock: sock_id(s, id), abort: true });
                    self.table.set_usage(s, id, Use::Free, NONE);
                    report.dropped += 1;
                }
            }
        }
        for id in 0..self.table.sockets(s) {
            match self.table.usage(s, id) {
                Ok((Use::Opening, _)) => {
                    // The program never learnt of it, and will ask again.
                    self.close_at_netd(netd, s, id, true);
                    report.dropped += 1;
                    report.kept -= 1;
                }
                Ok((Use::Closing, _)) => self.close_at_netd(netd, s, id, false),
                Ok((Use::Spare | Use::Accepted, l))
                    if l >= self.table.sockets(s)
                        || !self.table.usage(s, l).is_ok_and(|u| u.0 == Use::Listener) =>
                {
                    self.close_at_netd(netd, s, id, true);
                }
                Ok((Use::Listener, _)) => {
                    self.check_spares(netd, s, id);
                    self.soft[s].hungry = true;
                }
                _ => {}
            }
        }
        self.feed_listeners(netd, s);
    }

    /// Claims both rings of a record, or neither.
    fn claim(&mut self, s: usize, rings: Rings) -> bool {
        let soft = &mut self.soft[s];
        if !soft.tx.claim(rings.tx_off, rings.tx_bits) {
            return false;
        }
        let both = soft.rx.claim(rings.rx_off, rings.rx_bits);
        if !both {
            soft.tx.give(rings.tx_off, rings.tx_bits);
        }
        both
    }

    /// Calls `f` for every socket in use: for checks.
    pub fn for_each_socket(&self, mut f: impl FnMut(u16, u16, Socket)) {
        for s in 0..self.specs.len() {
            for id in 0..self.table.sockets(s) {
                if let Ok(Some(socket)) = self.table.socket(s, id) {
                    f(s as u16, id, socket);
                }
            }
        }
    }

    /// What the manifest says about the sessions.
    pub fn specs(&self) -> &[SessionSpec] {
        self.specs
    }
}

/// What to reserve.
#[derive(Clone, Copy)]
struct Wish {
    kind: Kind,
    usage: Use,
    listener: u16,
    tx_bits: u8,
    rx_bits: u8,
}

impl Listen {
    fn spare(self, listener: u16) -> Wish {
        let Listen { tx_bits, rx_bits, .. } = self;
        Wish { kind: Kind::Tcp, usage: Use::Spare, listener, tx_bits, rx_bits }
    }
}

fn sock_id(s: usize, id: u16) -> SockId {
    SockId { session: s as u16, id }
}

fn socket_reply(id: u16, rings: Rings, peer: Option<core::net::SocketAddr>) -> Reply {
    Reply::Socket {
        id: id as u32,
        tx_off: rings.tx_off,
        tx_size: 1 << rings.tx_bits,
        rx_off: rings.rx_off,
        rx_size: 1 << rings.rx_bits,
        peer,
    }
}

fn addresses(netd: &mut impl Netd, sock: SockId) -> Result<Reply, Error> {
    match netd.ask(&net::Request::Addresses { sock }).reply {
        Ok(net::Reply::Addresses { local, remote }) => Ok(Reply::Addresses { local, remote }),
        other => unexpected(other),
    }
}

/// An error of netd goes to the program; a reply of the wrong kind is netd's fault.
fn unexpected(reply: Result<net::Reply, Error>) -> Result<Reply, Error> {
    Err(reply.err().unwrap_or(Error::Server))
}
