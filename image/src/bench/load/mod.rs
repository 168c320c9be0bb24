//! The client: what is done to a guest from outside, the same for every guest that offers the
//! services of `netbench` (userland).

mod ping;
mod tcp;
mod udp;

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

pub use ping::Pinger;

use socket2::{Domain, Protocol, Socket, Type};

/// UDP: every datagram comes back.
const UDP_ECHO: u16 = 7001;
/// TCP: every byte comes back.
const TCP_ECHO: u16 = 7002;
/// TCP: a byte there, a byte back, and the end.
const ONE_BYTE: u16 = 7003;
/// TCP: reads to the end and answers with the number of bytes.
const SINK: u16 = 7004;
/// TCP: sends as many bytes as it is told.
const SOURCE: u16 = 7005;
/// UDP: counts datagrams.
const COUNT: u16 = 7006;
/// UDP: sends datagrams as it is told.
const BLAST: u16 = 7007;
/// The ports of all services, by protocol; 7008 echoes to many connections at once.
pub const PORTS: [(&str, u16); 8] = [
    ("udp", UDP_ECHO),
    ("tcp", TCP_ECHO),
    ("tcp", ONE_BYTE),
    ("tcp", SINK),
    ("tcp", SOURCE),
    ("udp", COUNT),
    ("udp", BLAST),
    ("tcp", 7008),
];

/// How long anything may take to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a datagram or an echo reply may take until it counts as lost.
const LOST: Duration = Duration::from_secs(1);
/// Between two pings: the guest goes idle.
const PING_GAP: Duration = Duration::from_millis(5);

/// Where a guest is.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its address, or the host's that leads to it.
    pub ip: Ipv4Addr,
    /// Ports of the host that lead to its ports: there, here. None: they are its own.
    pub ports: Vec<(u16, u16)>,
}

impl Target {
    fn at(&self, port: u16) -> SocketAddr {
        let here = self.ports.iter().find(|(there, _)| *there == port).map_or(port, |p| p.1);
        SocketAddr::from((self.ip, here))
    }

    fn tcp(&self, port: u16) -> Result<TcpStream, Error> {
        let stream = TcpStream::connect_timeout(&self.at(port), PATIENCE).at("connect")?;
        stream.set_nodelay(true).at("no delay")?;
        stream.set_read_timeout(Some(PATIENCE)).at("time-out")?;
        stream.set_write_timeout(Some(PATIENCE)).at("time-out")?;
        Ok(stream)
    }

    fn udp(&self, port: u16, timeout: Duration) -> Result<UdpSocket, Error> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).at("socket")?;
        // A burst of datagrams must not be lost on this side; the kernel grants what it likes.
        let _ = socket.set_recv_buffer_size(4 << 20);
        socket.connect(&self.at(port).into()).at("connect")?;
        socket.set_read_timeout(Some(timeout)).at("time-out")?;
        Ok(socket.into())
    }
}

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket operation.
    #[error("{what}: {source}")]
    Socket {
        /// Which.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Another number of bytes than there should be.
    #[error("{got} bytes instead of {wanted}")]
    Bytes {
        /// What the guest got or sent.
        got: u64,
        /// What it should have.
        wanted: u64,
    },
    /// Other bytes came back than were sent.
    #[error("other bytes came back than were sent")]
    Changed,
    /// Nothing at all came back.
    #[error("no answer to {0} requests")]
    Silence(u64),
}

trait At<T> {
    fn at(self, what: &'static str) -> Result<T, Error>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, what: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Socket { what, source })
    }
}

/// What a load did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Operations done: round trips, connections, bytes, datagrams that arrived.
    pub done: u64,
    /// In this time.
    pub time: Duration,
    /// Operations that were asked for.
    pub asked: u64,
    /// The time of each, where each has one.
    pub each: Vec<Duration>,
}

impl Outcome {
    /// Microseconds of the one in the middle.
    pub fn median_us(&self) -> Option<f64> {
        let mut each = self.each.clone();
        each.sort();
        Some(each.get(each.len() / 2)?.as_secs_f64() * 1e6)
    }

    /// Operations a second.
    pub fn per_s(&self) -> f64 {
        self.done as f64 / self.time.as_secs_f64()
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Echo requests, 5 ms apart.
    Ping,
    /// UDP round trips of one byte, one after the other.
    Udp,
    /// TCP round trips of one byte on one connection, one after the other.
    Tcp,
    /// Connections: connect, a byte there, a byte back, close.
    Connect,
    /// Bytes that the guest receives over TCP.
    Receive,
    /// Bytes that the guest sends over TCP.
    Send,
    /// Bytes from our web server; other guests have none.
    Download,
    /// Datagrams of this size that the guest receives, as fast as they can be sent.
    FloodIn(u32),
    /// Datagrams of this size that the guest sends, as fast as it can.
    FloodOut(u32),
}

impl Load {
    /// All that there are.
    pub const ALL: [Self; 11] = [
        Self::Ping,
        Self::Udp,
        Self::Tcp,
        Self::Connect,
        Self::Receive,
        Self::Send,
        Self::Download,
        Self::FloodIn(64),
        Self::FloodIn(1472),
        Self::FloodOut(64),
        Self::FloodOut(1472),
    ];

    /// Those that every guest can bear.
    pub fn compared() -> Vec<Self> {
        Self::ALL.into_iter().filter(|l| *l != Self::Download).collect()
    }

    /// Its name on the command line.
    pub fn name(self) -> String {
        match self {
            Self::Ping => "ping".into(),
            Self::Udp => "udp".into(),
            Self::Tcp => "tcp".into(),
            Self::Connect => "connect".into(),
            Self::Receive => "receive".into(),
            Self::Send => "send".into(),
            Self::Download => "download".into(),
            Self::FloodIn(size) => format!("flood-in-{size}"),
            Self::FloodOut(size) => format!("flood-out-{size}"),
        }
    }

    /// One operation of it, for people.
    pub fn operation(self) -> String {
        match self {
            Self::Ping => "ping".into(),
            Self::Udp => "UDP round trip".into(),
            Self::Tcp => "TCP round trip".into(),
            Self::Connect => "connect, a byte there and back, close".into(),
            Self::Receive => "TCP byte received".into(),
            Self::Send | Self::Download => "TCP byte sent".into(),
            Self::FloodIn(size) => format!("datagram of {size} received"),
            Self::FloodOut(size) => format!("datagram of {size} sent"),
        }
    }

    /// How many operations are enough to count instructions.
    pub fn usual(self) -> u64 {
        match self {
            Self::Ping => 200,
            Self::Udp | Self::Tcp => 1000,
            Self::Connect => 300,
            Self::Receive | Self::Send | Self::Download => 20_000_000,
            Self::FloodIn(_) => 300_000,
            Self::FloodOut(_) => 10_000,
        }
    }

    /// Does `n` of it.
    pub fn run(self, target: &Target, n: u64) -> Result<Outcome, Error> {
        match self {
            Self::Ping => ping::pings(target.ip, n, PING_GAP),
            Self::Udp => udp::round_trips(target, n),
            Self::Tcp => tcp::round_trips(target, n),
            Self::Connect => tcp::connect(target, n),
            Self::Receive => tcp::receive(target, n),
            Self::Send => tcp::send(target, n),
            Self::Download => tcp::download(target, n),
            Self::FloodIn(size) => udp::flood_in(target, n, size),
            Self::FloodOut(size) => udp::flood_out(target, n, size),
        }
    }
}

fn finish(n: u64, each: Vec<Duration>, time: Duration) -> Result<Outcome, Error> {
    if each.is_empty() {
        return Err(Error::Silence(n));
    }
    Ok(Outcome { done: each.len() as u64, time, asked: n, each })
}
