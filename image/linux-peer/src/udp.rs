//! The services over UDP, with the calls that move many datagrams at once.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt,
};

use crate::Result;

/// Datagrams in a call.
const BATCH: usize = 32;
/// The largest datagram of an Ethernet frame, and room.
const SIZE: usize = 2048;

fn bind(port: u16) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(("0.0.0.0", port))?;
    setsockopt(&socket, sockopt::RcvBufForce, &(4 << 20))?;
    Ok(socket)
}

/// 7001: every datagram goes back.
pub fn echo() -> Result<()> {
    let socket = bind(7001)?;
    let mut buffer = vec![0; 65536];
    loop {
        let (n, from) = socket.recv_from(&mut buffer)?;
        // Only the sender misses an answer that cannot be sent.
        let _ = socket.send_to(&buffer[..n], from);
    }
}

/// 7006: counts datagrams and their bytes. One of a byte asks for both numbers; `R` also resets them.
pub fn count() -> Result<()> {
    let socket = bind(7006)?;
    let (mut datagrams, mut bytes) = (0u64, 0u64);
    let mut buffers = vec![[0; SIZE]; BATCH];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    loop {
        let mut asked = Vec::new();
        {
            let mut slices: Vec<_> = buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
            let flags = MsgFlags::MSG_WAITFORONE;
            let got = recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None)?;
            for (i, message) in got.enumerate() {
                match (message.bytes, message.address) {
                    (1, Some(from)) => asked.push((i, datagrams, bytes, from)),
                    (n, _) => (datagrams, bytes) = (datagrams + 1, bytes + n as u64),
                }
            }
        }
        for (i, d, b, from) in asked {
            if buffers[i][0] == b'R' {
                (datagrams, bytes) = (datagrams - d, bytes - b);
            }
            let answer = [d.to_le_bytes(), b.to_le_bytes()].concat();
            let _ = socket.send_to(&answer, SocketAddrV4::from(from));
        }
    }
}

/// 7007: sends datagrams as the request says: number, size, most milliseconds, most a second.
pub fn blast() -> Result<()> {
    let socket = bind(7007)?;
    let mut request = [0; 64];
    loop {
        let (n, from) = socket.recv_from(&mut request)?;
        if n != 24 {
            continue;
        }
        let word = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().expect("four"));
        let count = u64::from(word(0)) | u64::from(word(4)) << 32;
        let (size, limit) = (word(8) as usize, Duration::from_millis(word(12).into()));
        let std::net::SocketAddr::V4(from) = from else { continue };
        let start = Instant::now();
        let (sent, errors) = flood(&socket, from, count, size.min(SIZE), limit, word(16));
        let mut marker = [sent, errors].map(u64::to_le_bytes).concat();
        marker.extend((start.elapsed().as_micros() as u64).to_le_bytes());
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(100));
            let _ = socket.send_to(&marker, from);
        }
    }
}

/// Sends; how many, and how often it failed.
fn flood(
    socket: &UdpSocket,
    to: SocketAddrV4,
    count: u64,
    size: usize,
    limit: Duration,
    per_s: u32,
) -> (u64, u64) {
    let datagram = [0x55; SIZE];
    let slices = vec![[IoSlice::new(&datagram[..size])]; BATCH];
    let addresses = vec![Some(SockaddrIn::from(to)); BATCH];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let (mut sent, mut errors, start) = (0, 0, Instant::now());
    while sent < count && start.elapsed() < limit {
        let mut batch = (count - sent).min(BATCH as u64) as usize;
        if per_s > 0 {
            let due = Duration::from_secs(sent) / per_s;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            batch = batch.min(1 + per_s as usize / 10_000);
        }
        let (slices, to) = (&slices[..batch], &addresses[..batch]);
        let flags = MsgFlags::empty();
        match sendmmsg(socket.as_raw_fd(), &mut headers, slices, to, [], flags) {
            Ok(done) => sent += done.count() as u64,
            Err(Errno::EINTR) => {}
            Err(_) => errors += 1,
        }
    }
    (sent, errors)
}
