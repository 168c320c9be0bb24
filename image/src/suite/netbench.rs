//! The measuring services, from outside.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::recovery::held;
use super::traffic::{outside, ready};
use crate::client;
use crate::harness::{COMMAND, Failure, Guest, wrong};
use crate::manifest::Protocol::{Tcp, Udp};

const LIMIT: Duration = Duration::from_secs(60);
/// How long what was closed may stay: user-mode networking is slow to repeat a lost FIN.
const SETTLED: Duration = Duration::from_secs(100);

pub fn at<T>(what: &'static str, result: std::io::Result<T>) -> Result<T, Failure> {
    result.map_err(|e| Failure::Wrong(format!("{what}: {e}")))
}

pub fn tcp(g: &Guest, port: u16) -> Result<TcpStream, Failure> {
    let stream = at("connect", TcpStream::connect((Ipv4Addr::LOCALHOST, g.host_port(port, Tcp)?)))?;
    at("time-out", stream.set_read_timeout(Some(LIMIT)))?;
    at("time-out", stream.set_write_timeout(Some(LIMIT)))?;
    Ok(stream)
}

pub fn udp(g: &Guest, port: u16) -> Result<UdpSocket, Failure> {
    let socket = at("bind", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))?;
    at("connect", socket.connect((Ipv4Addr::LOCALHOST, g.host_port(port, Udp)?)))?;
    at("time-out", socket.set_read_timeout(Some(LIMIT)))?;
    Ok(socket)
}

pub fn services(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    for len in [1, 18, 1472] {
        outside(client::echo_udp(g.host_port(7001, Udp)?, len))?;
    }
    for port in [7002, 7008] {
        outside(client::echo_tcp(g.host_port(port, Tcp)?, 300_000))?;
    }
    for _ in 0..20 {
        byte(g)?;
    }
    for len in [0, 1, 3_000_000] {
        count(g, len)?;
    }
    for len in [1, 100_000, 3_000_000] {
        send(g, len)?;
    }
    endless(g)?;
    counter(g)?;
    for (count, size, pace) in [(1, 1472, 0), (300, 64, 0), (20, 100, 100)] {
        generator(g, count, size, pace)?;
    }
    g.power_off()
}

/// Connections at once.
const MANY: usize = 1000;

pub fn thousand_connections(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    // A first connection and its end: what is set up once is there before counting.
    outside(client::echo_tcp(g.host_port(7008, Tcp)?, 1))?;
    let before = held_when(g, |_| true)?;
    let mut streams = Vec::with_capacity(MANY);
    for i in 0..MANY {
        // Each is answered before the next begins: user-mode networking lets one wait at a time.
        streams.push(tcp(g, 7008)?);
        talk(&mut streams[i..], i, 0)?;
    }
    let during = held_when(g, |_| true)?;
    if sockets(&during) != sockets(&before).map(|n| n + MANY) {
        return wrong(format!("before: {before:#?}\nwith {MANY} more: {during:#?}"));
    }
    // All of them speak before any is listened to.
    for (i, stream) in streams.iter_mut().enumerate() {
        at("send", stream.write_all(&word(i, 1)))?;
    }
    for (i, stream) in streams.iter_mut().enumerate() {
        hear(stream, i, 1)?;
    }
    drop(streams);
    let after = held_when(g, |now| now == before)?;
    if after != before {
        return wrong(format!("before: {before:#?}\nafter: {after:#?}"));
    }
    g.power_off()
}

/// Sockets in use, as netd counts them.
fn sockets(held: &[String]) -> Option<usize> {
    held.iter().find_map(|l| l.strip_prefix("netd: sockets=")?.split(' ').next()?.parse().ok())
}

/// What connection `i` says in `round`.
fn word(i: usize, round: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    userland::bytes::fill(((i * 2 + round) * 16) as u64, &mut bytes);
    bytes
}

fn talk(streams: &mut [TcpStream], i: usize, round: usize) -> Result<(), Failure> {
    let Some(stream) = streams.first_mut() else { return wrong("no stream") };
    at("send", stream.write_all(&word(i, round)))?;
    hear(stream, i, round)
}

fn hear(stream: &mut TcpStream, i: usize, round: usize) -> Result<(), Failure> {
    let mut got = [0; 16];
    at("receive", stream.read_exact(&mut got))?;
    if got == word(i, round) { Ok(()) } else { wrong(format!("connection {i} got another's data")) }
}

/// What is held, when `enough` says so or after [`SETTLED`].
fn held_when(g: &mut Guest, enough: impl Fn(&[String]) -> bool) -> Result<Vec<String>, Failure> {
    let end = Instant::now() + SETTLED;
    loop {
        let now = held(&g.command("stats", COMMAND)?);
        if now.len() != 3 {
            return wrong(format!("stats lacks a line: {now:?}"));
        }
        if enough(&now) || Instant::now() > end {
            return Ok(now);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn byte(g: &Guest) -> Result<(), Failure> {
    let mut stream = tcp(g, 7003)?;
    at("send", stream.write_all(b"x"))?;
    let mut got = Vec::new();
    at("receive", stream.read_to_end(&mut got))?;
    if got == b"x" { Ok(()) } else { wrong(format!("7003 answered {got:?}")) }
}

fn count(g: &Guest, len: usize) -> Result<(), Failure> {
    let mut stream = tcp(g, 7004)?;
    at("send", stream.write_all(&vec![7; len]))?;
    at("shutdown", stream.shutdown(Shutdown::Write))?;
    let mut got = Vec::new();
    at("receive", stream.read_to_end(&mut got))?;
    if got == (len as u64).to_le_bytes() {
        return Ok(());
    }
    wrong(format!("7004 counted {len} bytes as {got:?}"))
}

fn send(g: &Guest, len: u64) -> Result<(), Failure> {
    let mut stream = tcp(g, 7005)?;
    at("send", stream.write_all(&len.to_le_bytes()))?;
    let got = at("receive", std::io::copy(&mut stream, &mut std::io::sink()))?;
    if got == len { Ok(()) } else { wrong(format!("7005 sent {got} bytes instead of {len}")) }
}

fn endless(g: &Guest) -> Result<(), Failure> {
    let mut stream = tcp(g, 7005)?;
    at("send", stream.write_all(&[0; 8]))?;
    let mut some = vec![0; 4 << 20];
    at("receive without end", stream.read_exact(&mut some))
}

/// Datagrams and bytes that 7006 has counted, after `question`.
fn counted(socket: &UdpSocket, question: u8) -> Result<(u64, u64), Failure> {
    at("send", socket.send(&[question]))?;
    let mut got = [0; 64];
    let n = at("answer of 7006", socket.recv(&mut got))?;
    let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| got[at + i]));
    if n == 16 { Ok((word(0), word(8))) } else { wrong(format!("7006 answered {n} bytes")) }
}

fn counter(g: &Guest) -> Result<(), Failure> {
    let socket = udp(g, 7006)?;
    if counted(&socket, b'R')? != (0, 0) {
        return wrong("7006 does not reset its counters");
    }
    for _ in 0..10 {
        at("send", socket.send(&[0; 100]))?;
    }
    match counted(&socket, b'?')? {
        (10, 1000) => Ok(()),
        other => wrong(format!("7006 counted (10, 1000) as {other:?}")),
    }
}

fn generator(g: &Guest, count: u64, size: u32, pace: u32) -> Result<(), Failure> {
    let socket = udp(g, 7007)?;
    let mut request = count.to_le_bytes().to_vec();
    for word in [size, 10_000, pace, 0] {
        request.extend(word.to_le_bytes());
    }
    at("send", socket.send(&request))?;
    let (mut came, mut buffer) = (0, [0; 2048]);
    loop {
        let n = at("datagrams of 7007", socket.recv(&mut buffer))?;
        if n == 24 {
            break;
        }
        came += (n == size as usize) as u64;
    }
    let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| buffer[at + i]));
    let (sent, errors, took) = (word(0), word(8), word(16));
    for _ in 1..5 {
        let n = at("markers of 7007", socket.recv(&mut buffer))?;
        if n != 24 {
            return wrong(format!("{n} bytes among the markers"));
        }
    }
    // User-mode networking may lose some; none may be invented.
    if sent != count || errors != 0 || came > count || came < count / 2 {
        return wrong(format!("7007 says {sent} sent, {errors} errors; {came} of {count} came"));
    }
    let least = if pace == 0 { 0 } else { (count - 1) * 1_000_000 / pace as u64 };
    if took < least {
        return wrong(format!("7007 took {took} us, at its pace {least} are the least"));
    }
    Ok(())
}
