//! Socket calls as a Linux program makes them, on a session of netd: what userland and the agent do
//! in the guest. A call that would block is tried again whenever something may have changed.

use super::names;
use super::options;
use super::parse::{Arg, Call};
use super::world::World;
use libipc::net::{Reply, Request, Rings, SockId};
use libipc::sock::{AppSock, Error, Kind, Record, State};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// `Ok(None)`: it would block. `Err`: an errno.
pub type Outcome = Result<Option<i64>, i64>;

pub mod errno {
    pub const EBADF: i64 = 9;
    pub const EAGAIN: i64 = 11;
    pub const EINVAL: i64 = 22;
    pub const EPIPE: i64 = 32;
    pub const EDESTADDRREQ: i64 = 89;
    pub const EPROTONOSUPPORT: i64 = 93;
    pub const EOPNOTSUPP: i64 = 95;
    pub const EAFNOSUPPORT: i64 = 97;
    pub const EISCONN: i64 = 106;
    pub const ENOTCONN: i64 = 107;
    pub const EALREADY: i64 = 114;
    pub const EINPROGRESS: i64 = 115;
}
use errno::*;

pub mod msg {
    pub const OOB: i64 = 1;
    pub const PEEK: i64 = 2;
    pub const TRUNC: i64 = 0x20;
    pub const DONTWAIT: i64 = 0x40;
    pub const WAITALL: i64 = 0x100;
    pub const ERRQUEUE: i64 = 0x2000;
    pub const MORE: i64 = 0x8000;
    pub const FASTOPEN: i64 = 0x2000_0000;
}

/// A descriptor.
#[derive(Clone, Debug)]
pub struct Fd {
    pub kind: Kind,
    pub id: u16,
    /// netd knows of it.
    pub opened: bool,
    pub bound: Option<SocketAddr>,
    pub remote: Option<SocketAddr>,
    pub nonblocking: bool,
    pub listening: bool,
    /// A connect was begun and its end was not told yet.
    pub connecting: bool,
    /// The connect waits for data to take along (TCP_FASTOPEN_CONNECT).
    pub deferred: Option<SocketAddr>,
    pub shut_rd: bool,
    pub shut_wr: bool,
    /// The error that was told last: each is told once.
    pub told: Option<Error>,
    /// How many errors of a datagram socket were told.
    pub told_errors: u32,
    pub linger: Option<i64>,
    /// The urgent byte that was read out of band last.
    pub urgent_taken: Option<u64>,
    pub sndbuf: Option<i64>,
    pub rcvbuf: Option<i64>,
    pub receive_timeout: Option<u64>,
    pub send_timeout: Option<u64>,
}

/// A call that goes on.
#[derive(Clone, Debug)]
pub struct Pending {
    pub call: Call,
    pub begun: u64,
    /// Bytes done.
    pub done: usize,
    /// It has begun to connect (MSG_FASTOPEN).
    pub fast: bool,
}

#[derive(Default)]
pub struct Calls {
    pub fds: BTreeMap<i64, Fd>,
    /// What a call did that its result does not show, and the script says otherwise.
    pub complaint: Option<String>,
    /// What was set with `...`: addresses and ports of the script's own.
    pub port: u16,
}

pub fn error(e: Error) -> i64 {
    e.errno() as i64
}

impl Calls {
    pub fn new() -> Self {
        Self { port: 8080, ..Self::default() }
    }

    /// Makes a call, or goes on with it.
    pub fn attempt(&mut self, w: &mut World, p: &mut Pending) -> Result<Outcome, String> {
        let call = p.call.clone();
        let args = &call.args;
        if call.name == "socket" {
            return self.socket(w, &call).map(|r| r.map(Some));
        }
        if call.name == "poll" {
            return self.poll(w, p).map(Ok);
        }
        let number = int(args, 0)?;
        let Some(mut fd) = self.fds.remove(&number) else { return Ok(Err(EBADF)) };
        let outcome = self.dispatch(w, &mut fd, p);
        let closed = call.name == "close" && matches!(outcome, Ok(Ok(Some(_))));
        if !closed {
            self.fds.insert(number, fd);
        }
        outcome
    }

    fn dispatch(&mut self, w: &mut World, fd: &mut Fd, p: &mut Pending) -> Result<Outcome, String> {
        let call = p.call.clone();
        let args = &call.args;
        Ok(match call.name.as_str() {
            "bind" => {
                let addr = self.address(w, fd, args.get(1), w.s.local, self.port)?;
                bind(w, fd, addr)
            }
            "listen" => listen(w, fd, int(args, 1)?),
            "accept" | "accept4" => {
                let flags = if call.name == "accept4" { int(args, 3)? } else { 0 };
                self.accept(w, fd, call.result, flags)?
            }
            "connect" => {
                let addr = self.address(w, fd, args.get(1), w.s.remote, 8080)?;
                super::stream::connect(w, fd, addr, p)
            }
            "shutdown" => super::stream::shutdown(w, fd, int(args, 1)?),
            "close" => super::stream::close(w, fd, p),
            "fcntl" => fcntl(fd, args)?,
            "ioctl" => self.ioctl(w, fd, args)?,
            "setsockopt" => self.setsockopt(w, fd, args)?,
            "getsockopt" => self.getsockopt(w, fd, args)?,
            "write" | "writev" | "send" | "sendto" | "sendmsg" => self.transmit(w, fd, p)?,
            "read" | "readv" | "recv" | "recvfrom" | "recvmsg" => self.receive(w, fd, p)?,
            other => return Err(format!("`{other}` is not among the calls here")),
        })
    }

    fn socket(&mut self, w: &mut World, call: &Call) -> Result<Result<i64, i64>, String> {
        let domain = match call.args.first() {
            Some(Arg::Ellipsis) | None => {
                if w.s.local.is_ipv6() {
                    10
                } else {
                    2
                }
            }
            Some(_) => int(&call.args, 0)?,
        };
        let (ty, proto) = (int(&call.args, 1)?, int(&call.args, 2)?);
        let kind = match (ty & 0xf, proto) {
            (1, 0 | 6) => Kind::Tcp,
            (2, 0 | 17) => Kind::Udp,
            (2, 1 | 58) => Kind::Ping,
            _ => return Ok(Err(EPROTONOSUPPORT)),
        };
        if !matches!(domain, 2 | 10) {
            return Ok(Err(EAFNOSUPPORT));
        }
        let fd = Fd {
            kind,
            id: w.host.progs[0].id(),
            opened: false,
            bound: None,
            remote: None,
            nonblocking: ty & 0x800 != 0,
            listening: false,
            connecting: false,
            deferred: None,
            shut_rd: false,
            shut_wr: false,
            told: None,
            told_errors: 0,
            linger: None,
            urgent_taken: None,
            sndbuf: None,
            rcvbuf: None,
            receive_timeout: None,
            send_timeout: None,
        };
        self.name(call.result, fd, w.s.foreign).map(Ok)
    }

    /// Gives a new descriptor the number that the script has for it.
    fn name(&mut self, number: Option<i64>, fd: Fd, foreign: bool) -> Result<i64, String> {
        let number = number.filter(|n| *n >= 0).unwrap_or(1000 + self.fds.len() as i64);
        match self.fds.insert(number, fd) {
            // packetdrill maps the numbers of a script to others.
            Some(_) if !foreign => Err(format!("descriptor {number} is in use")),
            _ => Ok(number),
        }
    }

    /// An address in a call: `...`, or `{sa_family=, sin_port=htons(), sin_addr=inet_addr("")}`.
    pub fn address(
        &self,
        _w: &World,
        _fd: &Fd,
        arg: Option<&Arg>,
        ip: IpAddr,
        port: u16,
    ) -> Result<SocketAddr, String> {
        let Some(Arg::Struct(fields)) = arg else { return Ok(SocketAddr::new(ip, port)) };
        let mut addr = SocketAddr::new(ip, port);
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("sin_port" | "sin6_port", Arg::Apply(_, args)) => {
                    addr.set_port(int(args, 0)? as u16)
                }
                ("sin_port" | "sin6_port", value) => {
                    addr.set_port(options::integer(value).ok_or("no port")? as u16);
                }
                ("sin_addr" | "sin6_addr", Arg::Apply(_, args)) => {
                    let text = match args.first() {
                        Some(Arg::Text(t)) => t.clone(),
                        // `inet_pton(AF_INET6, "...")`
                        _ => match args.get(1) {
                            Some(Arg::Text(t)) => t.clone(),
                            other => return Err(format!("no address: {other:?}")),
                        },
                    };
                    addr.set_ip(text.parse().map_err(|_| format!("no address: {text}"))?);
                }
                ("sin_addr", Arg::Name(n)) if n == "INADDR_ANY" => {
                    addr.set_ip(IpAddr::from([0u8; 4]));
                }
                (
                    "sa_family" | "sin_family" | "sin6_family" | "sin6_flowinfo" | "sin6_scope_id",
                    _,
                ) => {}
                other => return Err(format!("no part of an address: {other:?}")),
            }
        }
        Ok(addr)
    }

    fn accept(
        &mut self,
        w: &mut World,
        listener: &Fd,
        number: Option<i64>,
        flags: i64,
    ) -> Result<Outcome, String> {
        if !listener.listening {
            return Ok(Err(if listener.kind == Kind::Tcp { EINVAL } else { EOPNOTSUPP }));
        }
        let sock = sock(listener);
        let (id, peer) = match w.host.ask(Request::Accept { listener: sock }) {
            Ok(Reply::Accepted { sock, peer }) => (sock.id, peer),
            Err(Error::WouldBlock) if listener.nonblocking => return Ok(Err(EAGAIN)),
            Err(Error::WouldBlock) => return Ok(Ok(None)),
            Err(e) => return Ok(Err(error(e))),
            other => return Err(format!("{other:?}")),
        };
        app(w, id).inherit(app(w, listener.id));
        spare(w, listener);
        w.host.progs[0].submit(id);
        w.settle();
        let fd = Fd {
            id,
            listening: false,
            remote: Some(peer),
            nonblocking: flags & 0x800 != 0,
            told: None,
            ..listener.clone()
        };
        self.name(number, fd, w.s.foreign).map(|n| Ok(Some(n)))
    }

    /// When a pending call ends by itself.
    pub fn deadline(&self, p: &Pending) -> Option<u64> {
        let args = &p.call.args;
        if p.call.name == "poll" {
            let timeout = int(args, 2).ok().filter(|t| *t >= 0)?;
            return Some(p.begun + timeout as u64 * 1_000_000);
        }
        let fd = self.fds.get(&int(args, 0).ok()?)?;
        let limit = match p.call.name.as_str() {
            "accept" | "accept4" | "read" | "readv" | "recv" | "recvfrom" | "recvmsg" => {
                fd.receive_timeout
            }
            "close" => fd.linger.map(|s| s as u64 * 1_000_000_000),
            _ => fd.send_timeout,
        };
        limit.map(|l| p.begun + l)
    }

    fn transmit(&mut self, w: &mut World, fd: &mut Fd, p: &mut Pending) -> Result<Outcome, String> {
        let args = &p.call.args;
        let (mut to, mut flags) = (None, 0);
        let bytes = match p.call.name.as_str() {
            "sendmsg" => {
                let Some(Arg::Struct(fields)) = args.get(1) else {
                    return Err("sendmsg(fd, {...})".into());
                };
                flags = int(args, 2)?;
                let field = |n: &str| fields.iter().find(|(name, _)| name == n).map(|f| &f.1);
                let name = field("msg_name(...)").or(field("msg_name"));
                let fast = flags & msg::FASTOPEN != 0;
                if matches!(name, Some(Arg::Struct(_))) || fast {
                    to = Some(self.address(w, fd, name, w.s.remote, 8080)?);
                }
                vector(field("msg_iov"))?
            }
            "writev" => vector(args.get(1))?,
            _ => int(args, 2)? as usize,
        };
        if matches!(p.call.name.as_str(), "send" | "sendto") {
            flags = int(args, 3)?;
        }
        if p.call.name == "sendto" {
            let fast = flags & msg::FASTOPEN != 0;
            to = match args.get(4) {
                Some(arg @ Arg::Struct(_)) => {
                    Some(self.address(w, fd, Some(arg), w.s.remote, 8080)?)
                }
                Some(Arg::Ellipsis) if fast || fd.kind != Kind::Tcp && fd.remote.is_none() => {
                    Some(SocketAddr::new(w.s.remote, 8080))
                }
                _ => None,
            };
        }
        let text = match args.get(1) {
            Some(Arg::Text(t)) => Some(t.as_bytes().to_vec()),
            _ => None,
        };
        let outcome = match fd.kind {
            Kind::Tcp => super::stream::send(w, fd, p, bytes, text, flags, to),
            _ => super::dgram::send(w, fd, bytes, text, flags, to),
        };
        Ok(outcome)
    }

    fn receive(&mut self, w: &mut World, fd: &mut Fd, p: &mut Pending) -> Result<Outcome, String> {
        let args = &p.call.args;
        let mut from = None;
        let (bytes, flags) = match p.call.name.as_str() {
            "recvmsg" => {
                let Some(Arg::Struct(fields)) = args.get(1) else {
                    return Err("recvmsg(fd, {...})".into());
                };
                let field = |n: &str| fields.iter().find(|(name, _)| name == n).map(|f| &f.1);
                (vector(field("msg_iov"))?, int(args, 2)?)
            }
            "readv" => (vector(args.get(1))?, 0),
            "read" => (int(args, 2)? as usize, 0),
            _ => (int(args, 2)? as usize, int(args, 3)?),
        };
        if let Some(arg @ Arg::Struct(_)) = args.get(4) {
            from = Some(self.address(w, fd, Some(arg), w.s.remote, 8080)?);
        }
        if flags & msg::ERRQUEUE != 0 {
            return Err("there is no error queue here".into());
        }
        let text = match args.get(1) {
            Some(Arg::Text(t)) => Some(t.as_bytes().to_vec()),
            _ => None,
        };
        let (outcome, complaint) = match fd.kind {
            Kind::Tcp => super::stream::receive(w, fd, p, bytes, text, flags),
            _ => super::dgram::receive(w, fd, p, bytes, text, flags, from),
        };
        self.complaint = complaint;
        Ok(outcome)
    }
}

/// Bytes in an I/O vector: `[{..., 1000}, {..., 1000}]`.
fn vector(arg: Option<&Arg>) -> Result<usize, String> {
    let Some(Arg::List(list)) = arg else { return Err("no I/O vector".into()) };
    list.iter().try_fold(0, |sum, part| match part {
        Arg::Struct(f) => match f.get(1).map(|f| &f.1) {
            Some(Arg::Int(n)) => Ok(sum + *n as usize),
            other => Err(format!("no length: {other:?}")),
        },
        Arg::Int(_) => Ok(sum),
        other => Err(format!("no part of an I/O vector: {other:?}")),
    })
}

pub fn int(args: &[Arg], i: usize) -> Result<i64, String> {
    match args.get(i) {
        Some(Arg::Int(n)) => Ok(*n),
        Some(Arg::Name(n)) => names::value(n),
        Some(Arg::Ellipsis) | None => Ok(0),
        other => Err(format!("argument {i} is no number: {other:?}")),
    }
}

fn fcntl(fd: &mut Fd, args: &[Arg]) -> Result<Outcome, String> {
    match int(args, 1)? {
        3 => Ok(Ok(Some(2 | if fd.nonblocking { 0x800 } else { 0 }))),
        4 => {
            fd.nonblocking = int(args, 2)? & 0x800 != 0;
            Ok(Ok(Some(0)))
        }
        other => Err(format!("fcntl {other} is not among those here")),
    }
}

pub fn sock(fd: &Fd) -> SockId {
    SockId { session: 0, id: fd.id }
}
pub fn app(w: &World, id: u16) -> &'static AppSock {
    w.host.progs[0].app(id)
}
pub fn record(w: &World, id: u16) -> &'static Record {
    w.host.progs[0].record(id)
}

/// The rings of socket `id`, of the sizes that were asked for.
pub fn rings(w: &World, fd: &Fd, id: u16) -> Rings {
    let bits = |wanted: Option<i64>, most: u8| match wanted {
        Some(bytes) => {
            (bytes.max(1) as u64).next_power_of_two().trailing_zeros().clamp(12, most as u32) as u8
        }
        None => most,
    };
    let (tx, rx) = (w.s.tx_bits, w.s.rx_bits);
    Rings {
        tx_off: (id as u32) << tx,
        tx_bits: bits(fd.sndbuf, tx),
        rx_off: (id as u32) << rx,
        rx_bits: bits(fd.rcvbuf, rx),
    }
}

/// Makes netd know of it.
pub fn open(w: &mut World, fd: &mut Fd) -> Result<(), i64> {
    if fd.opened {
        return Ok(());
    }
    let rings = rings(w, fd, fd.id);
    w.host.ask(Request::Open { sock: sock(fd), kind: fd.kind, rings }).map_err(error)?;
    fd.opened = true;
    Ok(())
}

fn bind(w: &mut World, fd: &mut Fd, addr: SocketAddr) -> Outcome {
    if fd.bound.is_some() {
        return Err(EINVAL);
    }
    open(w, fd)?;
    match w.host.ask(Request::Bind { sock: sock(fd), addr }) {
        Ok(Reply::Address(local)) => {
            fd.bound = Some(local);
            Ok(Some(0))
        }
        Ok(other) => panic!("{other:?}"),
        Err(e) => Err(error(e)),
    }
}

/// Another socket for connections to come.
fn spare(w: &mut World, listener: &Fd) {
    let id = w.host.progs[0].id();
    let rings = rings(w, listener, id);
    let ids = [(id, rings)].into_iter().collect();
    let given = w.host.ask(Request::Spares { listener: sock(listener), ids });
    assert_eq!(given, Ok(Reply::Done));
}

fn listen(w: &mut World, fd: &mut Fd, backlog: i64) -> Outcome {
    if fd.kind != Kind::Tcp {
        return Err(EOPNOTSUPP);
    }
    open(w, fd)?;
    let request = Request::Listen { sock: sock(fd), backlog: backlog.clamp(0, 4096) as u16 };
    w.host.ask(request).map_err(error)?;
    if !fd.listening {
        // As sockd does: one a place, and Linux has one place more than it was asked for.
        for _ in 0..(backlog + 1).clamp(1, 12) {
            spare(w, fd);
        }
    }
    fd.listening = true;
    w.settle();
    Ok(Some(0))
}

/// Whether a stream is in one of the states before it stands.
pub fn is_opening(state: State) -> bool {
    matches!(state, State::Open | State::SynSent | State::SynReceived)
}
