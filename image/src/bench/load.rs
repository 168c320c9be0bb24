//! The client: what is done to a guest from outside, the same for every guest that offers the
//! services of `netbench` (userland).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

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
    pub const COMPARED: [Self; 10] = [
        Self::Ping,
        Self::Udp,
        Self::Tcp,
        Self::Connect,
        Self::Receive,
        Self::Send,
        Self::FloodIn(64),
        Self::FloodIn(1472),
        Self::FloodOut(64),
        Self::FloodOut(1472),
    ];

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
            Self::Ping => ping(target.ip, n, PING_GAP),
            Self::Udp => udp(target, n),
            Self::Tcp => tcp(target, n),
            Self::Connect => connect(target, n),
            Self::Receive => receive(target, n),
            Self::Send => send(target, n),
            Self::Download => download(target, n),
            Self::FloodIn(size) => flood_in(target, n, size),
            Self::FloodOut(size) => flood_out(target, n, size),
        }
    }
}

fn finish(n: u64, each: Vec<Duration>, time: Duration) -> Result<Outcome, Error> {
    if each.is_empty() {
        return Err(Error::Silence(n));
    }
    Ok(Outcome { done: each.len() as u64, time, asked: n, each })
}

/// Sends `n` echo requests, `gap` after each answer. Needs the right to open a raw socket.
pub fn ping(ip: Ipv4Addr, n: u64, gap: Duration) -> Result<Outcome, Error> {
    let mut pinger = Pinger::new(ip)?;
    let (mut each, start) = (Vec::new(), Instant::now());
    for _ in 0..n {
        each.extend(pinger.once(LOST)?);
        std::thread::sleep(gap);
    }
    finish(n, each, start.elapsed())
}

/// Sends echo requests and knows the answers.
pub struct Pinger {
    socket: Socket,
    to: SocketAddr,
    sequence: u16,
}

impl Pinger {
    /// To `ip`.
    pub fn new(ip: Ipv4Addr) -> Result<Self, Error> {
        let socket =
            Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).at("raw socket")?;
        Ok(Self { socket, to: SocketAddr::from((ip, 0)), sequence: 0 })
    }

    /// Sends one and waits for its answer, at most `limit`; how long it took.
    pub fn once(&mut self, limit: Duration) -> Result<Option<Duration>, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let id = std::process::id() as u16;
        let mut message = [8, 0, 0, 0, 0, 0, 0, 0];
        message[4..6].copy_from_slice(&id.to_be_bytes());
        message[6..8].copy_from_slice(&self.sequence.to_be_bytes());
        let words = message.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let sum: u32 = words.sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let start = Instant::now();
        // Refused while the guest is not there yet: then there is no answer either.
        let _ = self.socket.send_to(&message, &self.to.into());
        let mut packet = [0; 256];
        loop {
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left)).at("time-out")?;
            let Ok(len) = (&self.socket).read(&mut packet) else { return Ok(None) };
            // Behind an IPv4 header without options: an echo reply with our numbers.
            if len >= 28 && packet[20] == 0 && packet[24..28] == message[4..8] {
                return Ok(Some(start.elapsed()));
            }
        }
    }
}

fn udp(target: &Target, n: u64) -> Result<Outcome, Error> {
    let socket = target.udp(UDP_ECHO, LOST)?;
    let (mut each, start) = (Vec::new(), Instant::now());
    for i in 0..n {
        let sent = [i as u8];
        let mut got = [0; 16];
        let begin = Instant::now();
        socket.send(&sent).at("send")?;
        while let Ok(len) = socket.recv(&mut got) {
            // A late answer to an earlier one is not this one's.
            if got[..len] == sent {
                each.push(begin.elapsed());
                break;
            }
        }
    }
    finish(n, each, start.elapsed())
}

fn tcp(target: &Target, n: u64) -> Result<Outcome, Error> {
    let mut stream = target.tcp(TCP_ECHO)?;
    let (mut each, start) = (Vec::new(), Instant::now());
    for i in 0..n {
        each.push(one_byte(&mut stream, i as u8)?);
    }
    finish(n, each, start.elapsed())
}

/// A byte there and back; how long it took.
fn one_byte(stream: &mut TcpStream, byte: u8) -> Result<Duration, Error> {
    let begin = Instant::now();
    stream.write_all(&[byte]).at("write")?;
    let mut got = [0];
    stream.read_exact(&mut got).at("read")?;
    if got != [byte] { Err(Error::Changed) } else { Ok(begin.elapsed()) }
}

fn connect(target: &Target, n: u64) -> Result<Outcome, Error> {
    let (mut each, start) = (Vec::new(), Instant::now());
    for _ in 0..n {
        let begin = Instant::now();
        let mut stream = target.tcp(ONE_BYTE)?;
        stream.write_all(&[1]).at("write")?;
        let mut got = Vec::new();
        stream.read_to_end(&mut got).at("read")?;
        if got.len() != 1 {
            return Err(Error::Bytes { got: got.len() as u64, wanted: 1 });
        }
        each.push(begin.elapsed());
    }
    finish(n, each, start.elapsed())
}

fn receive(target: &Target, n: u64) -> Result<Outcome, Error> {
    let mut stream = target.tcp(SINK)?;
    let (buffer, mut left, start) = (vec![0x55; 128 << 10], n, Instant::now());
    while left > 0 {
        let part = left.min(buffer.len() as u64) as usize;
        left -= stream.write(&buffer[..part]).at("write")? as u64;
    }
    stream.shutdown(Shutdown::Write).at("shutdown")?;
    let mut count = [0; 8];
    stream.read_exact(&mut count).at("read")?;
    let got = u64::from_le_bytes(count);
    if got != n {
        return Err(Error::Bytes { got, wanted: n });
    }
    Ok(Outcome { done: n, time: start.elapsed(), asked: n, each: Vec::new() })
}

fn send(target: &Target, n: u64) -> Result<Outcome, Error> {
    let mut stream = target.tcp(SOURCE)?;
    stream.write_all(&n.to_le_bytes()).at("write")?;
    drain(stream, n)
}

fn download(target: &Target, n: u64) -> Result<Outcome, Error> {
    let mut stream = target.tcp(80)?;
    write!(stream, "GET /bytes/{n} HTTP/1.0\r\n\r\n").at("write")?;
    // The body begins behind the first empty line.
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).at("read")?;
        head.push(byte[0]);
    }
    drain(stream, n)
}

/// Reads to the end, which must come after `n` bytes.
fn drain(mut stream: TcpStream, n: u64) -> Result<Outcome, Error> {
    let (mut buffer, mut got, start) = (vec![0; 256 << 10], 0, Instant::now());
    loop {
        match stream.read(&mut buffer).at("read")? {
            0 => break,
            len => got += len as u64,
        }
    }
    if got != n {
        return Err(Error::Bytes { got, wanted: n });
    }
    Ok(Outcome { done: n, time: start.elapsed(), asked: n, each: Vec::new() })
}

/// Asks the counting service; `R` also resets it. Datagrams and bytes.
fn counted(socket: &UdpSocket, what: u8) -> Result<(u64, u64), Error> {
    for _ in 0..20 {
        socket.send(&[what]).at("send")?;
        let mut answer = [0; 64];
        while let Ok(len) = socket.recv(&mut answer) {
            if len == 16 {
                let word = |at: usize| {
                    u64::from_le_bytes(answer[at..at + 8].try_into().expect("eight bytes"))
                };
                return Ok((word(0), word(8)));
            }
        }
    }
    Err(Error::Silence(20))
}

fn flood_in(target: &Target, n: u64, size: u32) -> Result<Outcome, Error> {
    let socket = target.udp(COUNT, LOST / 3)?;
    counted(&socket, b'R')?;
    let (datagram, start) = (vec![0x55; size as usize], Instant::now());
    for _ in 0..n {
        // Refused when a queue is full: it is a flood.
        let _ = socket.send(&datagram);
    }
    let time = start.elapsed();
    // What is still in queues arrives.
    let mut before = 0;
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let (datagrams, bytes) = counted(&socket, b'?')?;
        if datagrams == before {
            if datagrams == 0 {
                return Err(Error::Silence(n));
            }
            if bytes != datagrams * u64::from(size) {
                return Err(Error::Bytes { got: bytes, wanted: datagrams * u64::from(size) });
            }
            return Ok(Outcome { done: datagrams, time, asked: n, each: Vec::new() });
        }
        before = datagrams;
    }
}

fn flood_out(target: &Target, n: u64, size: u32) -> Result<Outcome, Error> {
    let socket = target.udp(BLAST, PATIENCE)?;
    let mut request = n.to_le_bytes().to_vec();
    for word in [size, 10_000, 0, 0] {
        request.extend(word.to_le_bytes());
    }
    socket.send(&request).at("send")?;
    let (mut done, mut buffer) = (0, [0; 2048]);
    loop {
        let len = socket.recv(&mut buffer).at("no end of the datagrams")?;
        if len == 24 {
            let word =
                |at: usize| u64::from_le_bytes(buffer[at..at + 8].try_into().expect("eight bytes"));
            let (sent, time) = (word(0), Duration::from_micros(word(16)));
            if done == 0 {
                return Err(Error::Silence(n));
            }
            return Ok(Outcome { done, time, asked: sent, each: Vec::new() });
        }
        done += 1;
    }
}
