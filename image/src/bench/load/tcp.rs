//! Loads over TCP.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::{At, Error, ONE_BYTE, Outcome, SINK, SOURCE, TCP_ECHO, Target, finish};

/// Round trips of one byte.
pub fn round_trips(target: &Target, n: u64) -> Result<Outcome, Error> {
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

/// Connections of one byte each way.
pub fn connect(target: &Target, n: u64) -> Result<Outcome, Error> {
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

/// Bytes that the guest receives.
pub fn receive(target: &Target, n: u64) -> Result<Outcome, Error> {
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

/// Bytes that the guest sends.
pub fn send(target: &Target, n: u64) -> Result<Outcome, Error> {
    let mut stream = target.tcp(SOURCE)?;
    stream.write_all(&n.to_le_bytes()).at("write")?;
    drain(stream, n)
}

/// Bytes from our web server.
pub fn download(target: &Target, n: u64) -> Result<Outcome, Error> {
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
