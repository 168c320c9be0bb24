//! Loads over UDP.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::{At, BLAST, COUNT, Error, LOST, Outcome, PATIENCE, Target, UDP_ECHO, finish};

/// Round trips of one byte.
pub fn round_trips(target: &Target, n: u64) -> Result<Outcome, Error> {
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

/// Datagrams that the guest receives.
pub fn flood_in(target: &Target, n: u64, size: u32) -> Result<Outcome, Error> {
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

/// Datagrams that the guest sends.
pub fn flood_out(target: &Target, n: u64, size: u32) -> Result<Outcome, Error> {
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
