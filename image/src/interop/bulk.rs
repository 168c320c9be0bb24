//! Streams: each byte of them is looked at where one end is ours.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::lab::Family::{self, V4, V6};
use super::lab::{Lab, STILL, TAP, at, connect, patient, program, there};
use super::relay::Line;
use super::sockets::IPPROTO_TCP;
use super::{Found, lab, packets};
use crate::harness::{COMMAND, Failure, wrong};

/// Bytes on a clean line, on a slow one, on a bad one.
const CLEAN: u64 = 16 << 20;
const SLOW: u64 = 5 << 20;
const BAD: u64 = 2 << 20;
/// The slow line, bytes a second; and what of it a sender must reach at least, since the line is all that holds it up.
const RATE: u64 = 2_500_000;
const SHARE: f64 = 0.4;
/// What the system can send with; its TCP_CONGESTION.
const OURS: [&str; 3] = ["cubic", "reno", "bbr"];
const TCP_CONGESTION: i32 = 13;
/// Ports of the services.
const ECHO: u16 = 7;
const DISCARD: u16 = 9;
const CHARGEN: u16 = 19;

/// What Linux can send with.
fn linux() -> Result<Vec<String>, Failure> {
    let file = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    let text = at(file, std::fs::read_to_string(file))?;
    Ok(text.split_whitespace().map(str::to_string).collect())
}

/// Figures of several streams: who sent, bytes a second.
struct Figures(Vec<(String, f64)>);

impl Figures {
    /// In Mbit/s.
    fn said(&self) -> String {
        let each = self.0.iter().map(|(name, rate)| format!("{name} {:.0}", rate * 8.0 / 1e6));
        format!("{} Mbit/s", each.collect::<Vec<_>>().join(", "))
    }
    fn least(&self, rate: f64) -> Found {
        match self.0.iter().find(|f| f.1 < rate) {
            None => Ok(self.said()),
            Some((name, _)) => wrong(format!("{name} is too slow: {}", self.said())),
        }
    }
}

/// Linux sends `bytes` with each of its congestion controls.
fn from_linux(family: Family, bytes: u64) -> Result<Figures, Failure> {
    let mut figures = Vec::new();
    let to = family.there(DISCARD);
    let domain = Domain::for_address(to);
    for name in linux()? {
        let socket = at("socket", Socket::new(domain, Type::STREAM, None))?;
        at("TCP_CONGESTION", socket.set_tcp_congestion(name.as_bytes()))?;
        at("connect", socket.connect_timeout(&to.into(), STILL))?;
        let mut stream = TcpStream::from(socket);
        patient(&stream)?;
        let begun = Instant::now();
        let block = vec![b'x'; 1 << 16];
        for _ in 0..bytes >> 16 {
            at("send", stream.write_all(&block))?;
        }
        at("shutdown", stream.shutdown(Shutdown::Write))?;
        // It closes when it has read everything.
        let rest = at("the end", stream.read(&mut [0; 1]))?;
        if rest != 0 {
            return wrong("discard answers");
        }
        figures.push((name, bytes as f64 / begun.elapsed().as_secs_f64()));
    }
    Ok(Figures(figures))
}

/// Reads `bytes` and looks at each: `expected` says what the one at a place should be.
fn take(stream: &mut TcpStream, bytes: u64, expected: impl Fn(u64) -> u8) -> Result<(), Failure> {
    let (mut got, mut buffer) = (0, vec![0; 1 << 16]);
    while got < bytes {
        let most = buffer.len().min((bytes - got) as usize);
        let n = stream.read(&mut buffer[..most]);
        let n = n.map_err(|e| Failure::Wrong(format!("after {got} bytes: {e}")))?;
        if n == 0 {
            return wrong(format!("the stream ended after {got} bytes"));
        }
        let differs = (0..n).find(|i| buffer[*i] != expected(got + *i as u64));
        if let Some(i) = differs {
            return wrong(format!("byte {} is not what was sent", got + i as u64));
        }
        got += n as u64;
    }
    Ok(())
}

/// The system sends `bytes` with each of its congestion controls.
fn from_guest(l: &mut Lab, family: Family, bytes: u64) -> Result<Figures, Failure> {
    let mut figures = Vec::new();
    for name in OURS {
        let listener = at("listen", TcpListener::bind(family.here(0)))?;
        let to = at("address", listener.local_addr())?;
        let fd = l.calls.tcp(family)?;
        l.calls.set_bytes(fd, IPPROTO_TCP, TCP_CONGESTION, name.as_bytes())?;
        l.calls.connect(fd, to)?;
        let (mut stream, _) = at("accept", listener.accept())?;
        patient(&stream)?;
        let begun = Instant::now();
        let reader = std::thread::spawn(move || take(&mut stream, bytes, |_| b'y'));
        for _ in 0..bytes >> 20 {
            let sent = l.calls.begin_send(fd, b'y', 1 << 20)?;
            let (n, _) = l.calls.end(&sent)?;
            if n != 1 << 20 {
                return wrong(format!("SEND took {n} bytes"));
            }
        }
        match reader.join() {
            Ok(result) => result?,
            Err(_) => return wrong("the reader panicked"),
        }
        figures.push((name.to_string(), bytes as f64 / begun.elapsed().as_secs_f64()));
        l.calls.close(fd)?;
    }
    Ok(Figures(figures))
}

/// What the service sends by itself.
fn chargen(family: Family, bytes: u64) -> Result<(), Failure> {
    let mut stream = connect(family.there(CHARGEN))?;
    take(&mut stream, bytes, |at| b'A' + (at % 23) as u8)
}

/// Sends `bytes` to the echo at `to` while reading them back; each comes back as it was.
pub fn echo(to: SocketAddr, bytes: u64) -> Result<(), Failure> {
    let mut stream = connect(to)?;
    let mut writer = at("clone", stream.try_clone())?;
    // A period that is no segment's.
    let pattern = |at: u64| (at % 251) as u8;
    let sending = std::thread::spawn(move || {
        let mut sent = 0;
        while sent < bytes {
            let n = (bytes - sent).min(1 << 16);
            let block: Vec<u8> = (sent..sent + n).map(pattern).collect();
            writer.write_all(&block)?;
            sent += n;
        }
        writer.shutdown(Shutdown::Write)
    });
    take(&mut stream, bytes, pattern)?;
    let end = at("the end", stream.read(&mut [0; 1]))?;
    match sending.join() {
        Ok(sent) => at("send", sent)?,
        Err(_) => return wrong("the sender panicked"),
    }
    if end == 0 { Ok(()) } else { wrong("more came back than was sent") }
}

pub fn inward(_: &mut Lab) -> Found {
    Ok(from_linux(V4, CLEAN)?.said())
}

pub fn outward(l: &mut Lab) -> Found {
    chargen(V4, CLEAN)?;
    Ok(from_guest(l, V4, CLEAN)?.said())
}

pub fn both(_: &mut Lab) -> Found {
    let begun = Instant::now();
    let others: Vec<_> =
        (0..3).map(|_| std::thread::spawn(|| echo(there(ECHO), CLEAN / 4))).collect();
    echo(there(ECHO), CLEAN / 4)?;
    for other in others {
        other.join().unwrap_or_else(|_| wrong("a stream panicked"))?;
    }
    let rate = CLEAN as f64 / begun.elapsed().as_secs_f64();
    Ok(Figures(vec![("four echoes, each way".into(), rate)]).said())
}

pub fn slow_in(_: &mut Lab) -> Found {
    let how = ["rate", "20mbit", "burst", "32kb", "latency", "80ms"];
    program("tc", &[&["qdisc", "add", "dev", TAP, "root", "tbf"], &how[..]].concat(), 10)?;
    from_linux(V4, SLOW)?.least(RATE as f64 * SHARE)
}

pub fn slow_out(l: &mut Lab) -> Found {
    let slow = Line { rate: Some(RATE), delay: Duration::from_millis(5), ..Line::CLEAN };
    l.relay.set(Line::CLEAN, slow);
    chargen(V4, SLOW)?;
    from_guest(l, V4, SLOW)?.least(RATE as f64 * SHARE)
}

pub fn bad_in(l: &mut Lab) -> Found {
    l.relay.set(Line::BAD, Line::BAD);
    echo(there(ECHO), BAD / 2)?;
    Ok(from_linux(V4, BAD)?.said())
}

pub fn bad_out(l: &mut Lab) -> Found {
    l.relay.set(Line::BAD, Line::BAD);
    chargen(V4, BAD)?;
    Ok(from_guest(l, V4, BAD)?.said())
}

pub fn ipv6(l: &mut Lab) -> Found {
    packets::reach6()?;
    let (inward, outward) = (from_linux(V6, CLEAN / 4)?, from_guest(l, V6, CLEAN / 4)?);
    chargen(V6, CLEAN / 4)?;
    l.relay.set(Line::BAD, Line::BAD);
    echo(V6.there(ECHO), BAD / 2)?;
    let (bad_in, bad_out) = (from_linux(V6, BAD / 2)?, from_guest(l, V6, BAD / 2)?);
    let all = [("in", inward), ("out", outward), ("bad in", bad_in), ("bad out", bad_out)];
    Ok(all.map(|(way, f)| format!("{way} {}", f.said())).join("; "))
}

pub fn restart(l: &mut Lab) -> Found {
    let echoing = std::thread::spawn(|| echo(there(ECHO), 2 * CLEAN));
    let coming = std::thread::spawn(|| chargen(V4, 4 * CLEAN));
    let mut kills = 0;
    while !(echoing.is_finished() && coming.is_finished()) {
        lab::pause(Duration::from_millis(400));
        if kills < 3 {
            kills += 1;
            l.guest.command("kill netd", COMMAND)?;
        }
    }
    for stream in [echoing, coming] {
        stream.join().unwrap_or_else(|_| wrong("a stream panicked"))?;
    }
    echo(there(ECHO), 1)?;
    Ok(format!("killed {kills} times"))
}
