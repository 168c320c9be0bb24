//! The services over TCP. Each serves one connection after the other, without a thread for each,
//! which would cost more than what is measured; `many` serves thousands at once.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::Result;

const CHUNK: usize = 128 << 10;

/// Serves connections to `port`; one that fails costs nobody else anything.
fn serve(port: u16, mut one: impl FnMut(TcpStream) -> std::io::Result<()>) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    for stream in listener.incoming() {
        let _ = stream.and_then(&mut one);
    }
    Ok(())
}

/// 7002: what comes in goes out.
pub fn echo() -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    serve(7002, |mut stream| {
        stream.set_nodelay(true)?;
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                n => stream.write_all(&buffer[..n])?,
            }
        }
    })
}

/// 7003: a byte in, a byte out, the end.
pub fn one_byte() -> Result<()> {
    serve(7003, |mut stream| {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)
    })
}

/// 7004: reads to the end, answers with the number of bytes.
pub fn sink() -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    serve(7004, |mut stream| {
        let mut total = 0u64;
        loop {
            match stream.read(&mut buffer)? {
                0 => return stream.write_all(&total.to_le_bytes()),
                n => total += n as u64,
            }
        }
    })
}

/// 7005: reads a length, sends that many bytes; 0: until the other end closes.
pub fn source() -> Result<()> {
    let buffer = vec![0x55; CHUNK];
    serve(7005, |mut stream| {
        let mut length = [0; 8];
        stream.read_exact(&mut length)?;
        let mut left = match u64::from_le_bytes(length) {
            0 => u64::MAX,
            n => n,
        };
        while left > 0 {
            let part = left.min(CHUNK as u64) as usize;
            left -= stream.write(&buffer[..part])? as u64;
        }
        Ok(())
    })
}

/// 7008: echo to many connections at once.
pub fn many() -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", 7008))?;
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    let event = |fd: i32| EpollEvent::new(EpollFlags::EPOLLIN, fd as u64);
    epoll.add(&listener, event(listener.as_raw_fd()))?;
    let mut streams: HashMap<u64, TcpStream> = HashMap::new();
    let (mut events, mut buffer) = (vec![EpollEvent::empty(); 256], vec![0; 4096]);
    loop {
        let n = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for ready in &events[..n] {
            let Some(stream) = streams.get_mut(&ready.data()) else {
                let Ok((stream, _)) = listener.accept() else { continue };
                stream.set_nodelay(true)?;
                epoll.add(&stream, event(stream.as_raw_fd()))?;
                streams.insert(stream.as_raw_fd() as u64, stream);
                continue;
            };
            let done = match stream.read(&mut buffer) {
                Ok(0) | Err(_) => true,
                Ok(n) => stream.write_all(&buffer[..n]).is_err(),
            };
            if done {
                streams.remove(&ready.data());
            }
        }
    }
}
