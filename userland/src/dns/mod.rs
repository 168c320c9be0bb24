//! Names to addresses: a stub resolver (RFC 1035, RFC 5452, RFC 7766) with a cache.
//!
//! Each question has a random number and leaves from a random port; only what comes from the server
//! asked, under that number and about that name, is an answer. What does not fit a datagram is asked again by TCP.

mod cache;
mod message;

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use libipc::sock;

use crate::net::{Options, TcpStream, UdpSocket};
use crate::runtime::{Instant, Runtime};
use cache::Cache;
use message::{Answer, SERVER_FAILURE};

/// How long a server may take, as everywhere (`resolv.conf`).
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often all servers are asked.
const ROUNDS: usize = 2;
/// Datagrams that are looked at for one answer: who floods us does not keep us.
const LOOKS: usize = 64;
/// Longest answer over TCP that is taken.
const LONGEST: usize = 16 * 1024;
/// Aliases that servers leave to us.
const ALIASES: usize = 4;
/// Where servers listen.
const PORT: u16 = 53;

/// Which addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4, records of type A.
    V4,
    /// IPv6, AAAA.
    V6,
}

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is no name.
    Name,
    /// There is no such name.
    NoSuchName,
    /// The name exists, but has no address.
    NoAddress,
    /// No name server is known.
    NoServer,
    /// No server has answered.
    TimedOut,
    /// The server cannot or will not say; its code (RFC 1035 4.1.1).
    Failed(u8),
    /// A socket's.
    Socket(sock::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("this is no name: labels of 1 to 63 bytes, 255 in all"),
            Self::NoSuchName => f.write_str("there is no such name"),
            Self::NoAddress => f.write_str("the name has no address"),
            Self::NoServer => {
                f.write_str("no name server is known: DHCP gave none, or start with --dns ADDRESS")
            }
            Self::TimedOut => f.write_str("no name server answers"),
            Self::Failed(code) => write!(f, "the name server cannot answer (code {code})"),
            Self::Socket(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

impl From<sock::Error> for Error {
    fn from(e: sock::Error) -> Self {
        Self::Socket(e)
    }
}

/// Asks the system's name servers and remembers what they say.
pub struct Resolver {
    rt: &'static Runtime,
    /// For tests and programs that want others than the system's.
    servers: Option<Vec<SocketAddr>>,
    cache: RefCell<Cache>,
}

impl Resolver {
    /// Asks the servers that the stack knows at the time of each question.
    pub fn new(rt: &'static Runtime) -> Self {
        Self { rt, servers: None, cache: RefCell::default() }
    }

    /// Asks these.
    pub fn with_servers(rt: &'static Runtime, servers: Vec<SocketAddr>) -> Self {
        Self { rt, servers: Some(servers), cache: RefCell::default() }
    }

    /// All addresses of `host`, IPv4 first: of a name, or the address that it writes.
    ///
    /// # Errors
    /// [`Error`].
    pub fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        if let Some(ip) = literal(host) {
            return Ok(ip);
        }
        let mut all = self.addresses(host, Family::V4);
        match (&mut all, self.addresses(host, Family::V6)) {
            (Ok(all), Ok(more)) => all.extend(more),
            (Err(_), Ok(more)) if !more.is_empty() => all = Ok(more),
            _ => {}
        }
        all.and_then(|all| if all.is_empty() { Err(Error::NoAddress) } else { Ok(all) })
    }

    /// Addresses of one family; none: the name has none.
    ///
    /// # Errors
    /// [`Error`].
    pub fn addresses(&self, name: &str, family: Family) -> Result<Vec<IpAddr>, Error> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if let Some(said) = self.cache.borrow().get(name, family, self.rt.now()) {
            return said;
        }
        let mut asked = String::from(name);
        for _ in 0..ALIASES {
            let (said, ttl) = match self.ask(&asked, family)? {
                Answer::Alias(to) => {
                    asked = to;
                    continue;
                }
                Answer::Addresses(ips, ttl) => (Ok(ips), ttl),
                Answer::NoSuchName(ttl) => (Err(Error::NoSuchName), ttl),
                Answer::Failed(code) => return Err(Error::Failed(code)),
                Answer::Truncated => return Err(Error::Failed(SERVER_FAILURE)),
            };
            let now = self.rt.now();
            self.cache.borrow_mut().put(name, family, said.clone(), ttl, now);
            return said;
        }
        Err(Error::Failed(SERVER_FAILURE))
    }

    fn ask(&self, name: &str, family: Family) -> Result<Answer, Error> {
        let servers = match &self.servers {
            Some(servers) => servers.clone(),
            None => self.rt.name_servers()?.into_iter().map(|ip| (ip, PORT).into()).collect(),
        };
        let mut last = if servers.is_empty() { Error::NoServer } else { Error::TimedOut };
        for server in (0..ROUNDS).flat_map(|_| &servers) {
            match self.ask_one(*server, name, family) {
                // Another may know better (RFC 1035 7.2).
                Ok(Answer::Failed(code)) => last = Error::Failed(code),
                Ok(answer) => return Ok(answer),
                Err(Error::Name) => return Err(Error::Name),
                Err(Error::Socket(e @ sock::Error::NotPermitted(_))) => return Err(e.into()),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    fn ask_one(&self, server: SocketAddr, name: &str, family: Family) -> Result<Answer, Error> {
        let mut id = [0; 2];
        self.rt.random(&mut id);
        let id = u16::from_be_bytes(id);
        let question = message::question(id, name, family)?;
        let any: IpAddr = match server {
            SocketAddr::V4(_) => [0; 4].into(),
            SocketAddr::V6(_) => [0u16; 8].into(),
        };
        // Port 0: a random one. Connected: from nobody else does anything arrive.
        let socket = UdpSocket::bind(self.rt, (any, 0).into())?;
        socket.connect(server)?;
        socket.send(&question)?;
        let deadline = self.rt.now() + TIMEOUT;
        let mut bytes = [0; 1500];
        for _ in 0..LOOKS {
            socket.set_read_timeout(Some(self.left(deadline)?));
            let n = match socket.recv(&mut bytes) {
                Ok(n) => n,
                Err(sock::Error::TimedOut) => return Err(Error::TimedOut),
                Err(e) => return Err(e.into()),
            };
            match message::answer(&bytes[..n.min(bytes.len())], id, name, family) {
                Some(Answer::Truncated) => return self.ask_by_tcp(server, id, name, family),
                Some(answer) => return Ok(answer),
                None => {}
            }
        }
        Err(Error::TimedOut)
    }

    /// RFC 7766: each message follows its length.
    fn ask_by_tcp(
        &self,
        server: SocketAddr,
        id: u16,
        name: &str,
        family: Family,
    ) -> Result<Answer, Error> {
        let deadline = self.rt.now() + TIMEOUT;
        let question = message::question(id, name, family)?;
        let options = Options { connect_timeout: Some(TIMEOUT), ..Options::default() };
        let stream = TcpStream::connect_with(self.rt, server, options)?;
        stream.write_all(&(question.len() as u16).to_be_bytes())?;
        stream.write_all(&question)?;
        let mut length = [0; 2];
        self.read(&stream, &mut length, deadline)?;
        let mut bytes = alloc::vec![0; (u16::from_be_bytes(length) as usize).min(LONGEST)];
        self.read(&stream, &mut bytes, deadline)?;
        message::answer(&bytes, id, name, family).ok_or(Error::Failed(SERVER_FAILURE))
    }

    fn read(&self, from: &TcpStream, mut into: &mut [u8], deadline: Instant) -> Result<(), Error> {
        while !into.is_empty() {
            from.set_read_timeout(Some(self.left(deadline)?));
            match from.read(into)? {
                0 => return Err(Error::Failed(SERVER_FAILURE)),
                n => into = &mut into[n..],
            }
        }
        Ok(())
    }

    fn left(&self, deadline: Instant) -> Result<Duration, Error> {
        let left = deadline.since(self.rt.now());
        if left.is_zero() { Err(Error::TimedOut) } else { Ok(left) }
    }
}

/// What needs no question: addresses as they are written, and this machine (RFC 6761 6.3).
fn literal(host: &str) -> Option<Vec<IpAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(alloc::vec![[127, 0, 0, 1].into()]);
    }
    host.parse().ok().map(|ip| alloc::vec![ip])
}
