//! Requests, death notices and restart of sockd, over a table in lent memory and a netd to ask.
//!
//! Any instant may be sockd's or netd's last. The table is written before netd is asked when a
//! socket is made or closed, so that a new sockd knows what may exist; and every question to netd
//! can be repeated, because netd's answers to a repeated question tell what the first one did. A
//! program numbers its calls and repeats one under the same number when sockd died under it: a
//! socket that this very call made already is handed out again instead of a second one.

mod complaint;
mod listeners;
mod recovery;
mod sockets;
mod soft;

use abi::MsgInfo;
use alloc::vec::Vec;
use libipc::log::Pace;
use libipc::msg::{self, interface};
use libipc::net::{self, Rings, SockId};
use libipc::permission::Permission;
use libipc::sock::{Error, Heard, REPEATED, Reply, Request, SessionSpec, SessionTable, Stats};

pub use complaint::{Complaint, Wrong};

use crate::policy::{self, Forbidden};
use crate::table::{SessionState, Socket, Table, Use};
use soft::Soft;

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

/// Most `TakeFreed` questions for one session in a row: its sockets, 32 at a time, and one more.
const TAKE_ROUNDS: usize = 130;

/// The server.
pub struct Server<'a> {
    table: Table<'a>,
    specs: &'a SessionTable,
    soft: Vec<Soft>,
    /// Complaints about each program.
    paces: Vec<Pace>,
    now_ns: u64,
    complaint: Option<Complaint>,
    /// Complaints about callers without a session.
    pace: Pace,
    refused: u64,
    nonsense: u64,
}

impl<'a> Server<'a> {
    /// Starts on `table`: empty at boot, as an earlier sockd left it otherwise.
    pub fn start(
        table: Table<'a>,
        specs: &'a SessionTable,
        netd: &mut impl Netd,
    ) -> (Self, Recovery) {
        let soft = specs.iter().map(Soft::empty).collect();
        let paces = specs.iter().map(|_| Pace::default()).collect();
        let mut server = Self {
            table,
            specs,
            soft,
            paces,
            now_ns: 0,
            complaint: None,
            pace: Pace::default(),
            refused: 0,
            nonsense: 0,
        };
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

    /// What is to be logged about the last message, once.
    pub fn take_complaint(&mut self) -> Option<Complaint> {
        self.complaint.take()
    }

    /// Sessions that still have to end: [`Self::poll`] is to be called again.
    pub fn is_waiting(&self) -> bool {
        (0..self.specs.len()).any(|s| self.table.session(s) == SessionState::Ending)
    }

    /// One message, as it arrived: its badge, its word, its payload. The session of a program that
    /// sends what is no request is ended.
    pub fn message(
        &mut self,
        netd: &mut impl Netd,
        badge: u64,
        info: MsgInfo,
        payload: &[u8],
        now_ns: u64,
    ) -> Result<Reply, Error> {
        self.now_ns = now_ns;
        match msg::request(interface::SOCK, info, payload) {
            Ok(request) => self.handle(netd, badge, info.method(), request),
            Err(what) => {
                self.nonsense += 1;
                let session = self.session_of(badge);
                self.complain(session, Wrong::Nonsense(what));
                if let Some(s) = session {
                    self.programs_died(netd, 1 << s);
                }
                Err(Error::Protocol)
            }
        }
    }

    fn session_of(&self, badge: u64) -> Option<usize> {
        Some(badge.wrapping_sub(1) as usize).filter(|s| *s < self.specs.len())
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
        let Some(s) = self.session_of(badge) else {
            return Err(self.refuse(None, Forbidden::Sockets));
        };
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
            Request::Stats => {
                self.settle(netd);
                return Ok(Reply::Stats(self.stats()));
            }
            _ if self.table.session(s) != SessionState::Open => return Err(Error::NoSession),
            _ => {}
        }
        match request {
            Request::OpenSession | Request::Stats => Err(Error::Invalid),
            Request::Socket { kind, tx, rx } => self.socket(netd, s, number, kind, tx, rx),
            Request::Bind { id, addr } => {
                let (id, socket) = self.own(s, id)?;
                policy::may_bind(&self.specs[s], socket.kind, addr)
                    .map_err(|m| self.refuse(Some(s), m))?;
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
                    Err(Error::NotPermitted(Permission::Broadcast)) => {
                        Err(self.refuse(Some(s), Forbidden::Broadcast))
                    }
                    other => unexpected(other),
                }
            }
            Request::FastOpen { id, addr, data, how } => {
                let (id, socket) = self.own(s, id)?;
                policy::may_connect(&self.specs[s], socket.kind)
                    .map_err(|m| self.refuse(Some(s), m))?;
                let sock = sock_id(s, id);
                let answer = netd.ask(&net::Request::FastOpen { sock, addr, data, how });
                match answer.reply {
                    Ok(net::Reply::Deferred) => Ok(Reply::Deferred),
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
            Request::NameServers => match netd.ask(&net::Request::NameServers).reply {
                Ok(net::Reply::NameServers(servers)) => Ok(Reply::NameServers(servers)),
                other => unexpected(other),
            },
            Request::Addresses { id } => {
                let (id, _) = self.own(s, id)?;
                addresses(netd, sock_id(s, id))
            }
            Request::BindDevice { id, number } => {
                let (id, _) = self.own(s, id)?;
                let request = net::Request::BindDevice { sock: sock_id(s, id), number };
                netd.ask(&request).reply.map(|_| Reply::Done)
            }
            Request::FindDevice { on } => match netd.ask(&net::Request::FindDevice { on }).reply {
                Ok(net::Reply::Device(number)) => Ok(Reply::Device(number)),
                other => unexpected(other),
            },
            Request::Membership { id, group, on, join } => {
                let (id, _) = self.own(s, id)?;
                let sock = sock_id(s, id);
                let answer = netd.ask(&net::Request::Membership { sock, group, on, join });
                match answer.reply {
                    // What the first attempt did is done.
                    Err(Error::AddrInUse) if join && (answer.again || repeated) => Ok(Reply::Done),
                    Err(Error::AddrNotAvailable) if !join && (answer.again || repeated) => {
                        Ok(Reply::Done)
                    }
                    Err(Error::NotPermitted(Permission::Broadcast)) => {
                        Err(self.refuse(Some(s), Forbidden::Broadcast))
                    }
                    reply => reply.map(|_| Reply::Done),
                }
            }
            Request::Source { id, group, source, on, heard } => {
                let (id, _) = self.own(s, id)?;
                let sock = sock_id(s, id);
                let request = net::Request::Source { sock, group, source, on, heard };
                let answer = netd.ask(&request);
                match answer.reply {
                    // What the first attempt did is done.
                    Err(Error::AddrNotAvailable) if answer.again || repeated => Ok(Reply::Done),
                    Err(Error::Invalid) if heard == Heard::Leave && (answer.again || repeated) => {
                        Ok(Reply::Done)
                    }
                    Err(Error::NotPermitted(Permission::Broadcast)) => {
                        Err(self.refuse(Some(s), Forbidden::Broadcast))
                    }
                    reply => reply.map(|_| Reply::Done),
                }
            }
            Request::TcpInfo { id } => {
                let (id, _) = self.own(s, id)?;
                match netd.ask(&net::Request::TcpInfo { sock: sock_id(s, id) }).reply {
                    Ok(net::Reply::TcpInfo(info)) => Ok(Reply::TcpInfo(info)),
                    other => unexpected(other),
                }
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
            if self.soft[s].closing > 0 && self.table.session(s) == SessionState::Open {
                self.take_freed_of(netd, s, false);
                self.feed_listeners(netd, s);
            }
        }
    }

    /// Does what was put off because one question to netd can do several: takes what came free, and
    /// brings listeners up to their backlog. Whoever asks for numbers is to see exact ones.
    fn settle(&mut self, netd: &mut impl Netd) {
        self.take_freed(netd);
        for s in 0..self.specs.len() {
            if self.table.session(s) == SessionState::Open {
                self.soft[s].hungry = true;
                self.feed_listeners(netd, s);
            }
        }
    }

    /// Asks netd what came free in a session; with `wait`, to say so at once when more does.
    fn take_freed_of(&mut self, netd: &mut impl Netd, s: usize, wait: bool) {
        for _ in 0..TAKE_ROUNDS {
            let request = net::Request::TakeFreed { session: s as u16, wait };
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
    }

    /// What the manifest says about the sessions.
    pub fn specs(&self) -> &[SessionSpec] {
        self.specs
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

    /// Changes the use of an id, in the table and in what is counted.
    fn set_use(&mut self, s: usize, id: u16, usage: Use, listener: u16) {
        if let Ok(old) = self.table.usage(s, id) {
            self.soft[s].count(id, old, false);
        }
        self.table.set_usage(s, id, usage, listener);
        self.soft[s].count(id, (usage, listener), true);
    }

    fn refuse(&mut self, session: Option<usize>, act: Forbidden) -> Error {
        self.refused += 1;
        self.complain(session, Wrong::Forbidden(act));
        Error::NotPermitted(act.permission())
    }

    fn complain(&mut self, session: Option<usize>, wrong: Wrong) {
        let pace = match session {
            Some(s) => &mut self.paces[s],
            None => &mut self.pace,
        };
        if let Some(held) = pace.admit(self.now_ns) {
            let program = session.map(|s| self.specs[s].program.clone());
            self.complaint = Some(Complaint { program, wrong, held });
        }
    }

    /// Counters, as they are.
    pub fn stats(&self) -> Stats {
        let mut stats =
            Stats { refused: self.refused, nonsense: self.nonsense, ..Stats::default() };
        for (s, soft) in self.soft.iter().enumerate() {
            stats.sessions += (self.table.session(s) != SessionState::Closed) as u32;
            stats.sockets += soft.used as u32;
            stats.bytes += soft.tx.bytes() + soft.rx.bytes();
        }
        stats
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
        // Nothing is left; this also repairs what a damaged record may have left behind.
        self.soft[s] = Soft::empty(&self.specs[s]);
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
