//! Calls on datagram sockets.

use super::calls::{Fd, Outcome, Pending, errno::*, error, msg, open, record, rings};
use super::packet::pattern_bytes;
use super::stream::{put, take};
use super::world::World;
use libipc::sock::{Dgram, State, ip_from_words};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::*;

pub fn send(
    w: &mut World,
    fd: &mut Fd,
    bytes: usize,
    text: Option<Vec<u8>>,
    _flags: i64,
    to: Option<SocketAddr>,
) -> Outcome {
    open(w, fd)?;
    if to.is_none() && fd.remote.is_none() {
        return Err(EDESTADDRREQ);
    }
    if fd.shut_wr {
        return Err(EPIPE);
    }
    if let Some(e) = new_error(w, fd) {
        return Err(e);
    }
    let ip = to.or(fd.remote).map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |to| to.ip());
    let options = w.host.progs[0].app(fd.id).options.load(Acquire);
    Dgram::check(ip, bytes, options).map_err(|e| e.errno())?;
    if to.is_some_and(|to| to.port() == 0) {
        return Err(22);
    }
    let rings = rings(w, fd, fd.id);
    let tail = w.host.progs[0].tail[fd.id as usize];
    let queued = tail - record(w, fd.id).dgram_tx_head();
    let space = Dgram::space(bytes);
    if queued + space > 1 << rings.tx_bits {
        return if fd.nonblocking { Err(EAGAIN) } else { Ok(None) };
    }
    let header = Dgram::new(to, bytes as u16);
    let mut all = header.to_bytes().to_vec();
    all.extend(text.unwrap_or_else(|| pattern_bytes(0, bytes)));
    put(w, rings.tx_off, rings.tx_bits, tail, &all);
    let prog = &mut w.host.progs[0];
    prog.tail[fd.id as usize] = tail + space;
    prog.app(fd.id).tx_tail.store(tail + space, Release);
    prog.submit(fd.id);
    w.settle();
    // What netd found wrong with it.
    match new_error(w, fd) {
        Some(e) => Err(e),
        None => Ok(Some(bytes as i64)),
    }
}

/// An error that was reported, once.
fn new_error(w: &World, fd: &mut Fd) -> Option<i64> {
    let count = record(w, fd.id).events.load(Acquire);
    let found = record(w, fd.id).error();
    if std::mem::replace(&mut fd.told_errors, count) == count { None } else { found.map(error) }
}

fn next(w: &World, fd: &Fd) -> Option<(Dgram, u64)> {
    let head = w.host.progs[0].head[fd.id as usize];
    (fd.opened && record(w, fd.id).dgram_rx_tail() > head).then(|| {
        let rings = rings(w, fd, fd.id);
        let bytes = take(w, rings.rx_off, rings.rx_bits, head, Dgram::BYTES);
        (Dgram::from_bytes(bytes[..].try_into().unwrap()), head)
    })
}

pub fn next_len(w: &World, fd: &Fd) -> Option<usize> {
    next(w, fd).map(|(d, _)| d.len as usize)
}

pub fn receive(
    w: &mut World,
    fd: &mut Fd,
    p: &Pending,
    bytes: usize,
    text: Option<Vec<u8>>,
    flags: i64,
    from: Option<SocketAddr>,
) -> (Outcome, Option<String>) {
    let Some((header, head)) = next(w, fd) else {
        if let Some(e) = new_error(w, fd) {
            return (Err(e), None);
        }
        if fd.shut_rd {
            return (Ok(Some(0)), None);
        }
        let over = fd.receive_timeout.is_some_and(|t| w.now() >= p.begun + t);
        let wait = !fd.nonblocking && flags & msg::DONTWAIT == 0 && !over;
        return (if wait { Ok(None) } else { Err(EAGAIN) }, None);
    };
    let (len, rings) = (header.len as usize, rings(w, fd, fd.id));
    let data = take(w, rings.rx_off, rings.rx_bits, head + Dgram::BYTES as u64, len);
    let sender = SocketAddr::new(ip_from_words(header.ip), header.port);
    let mut wrong = from.filter(|f| *f != sender).map(|_| format!("it came from {sender}"));
    if text.is_some_and(|t| t != data[..len.min(bytes)]) {
        wrong = Some(format!("it is {:?}", String::from_utf8_lossy(&data)));
    }
    if flags & msg::PEEK == 0 {
        let prog = &mut w.host.progs[0];
        prog.took_dgram(fd.id, Dgram::space(len));
        prog.submit(fd.id);
        w.settle();
    }
    let n = if flags & msg::TRUNC != 0 { len } else { len.min(bytes) };
    (Ok(Some(n as i64)), wrong)
}

pub fn readiness(w: &World, fd: &Fd) -> i64 {
    let mut mask = 0x104;
    if next(w, fd).is_some() || fd.shut_rd {
        mask |= 0x41;
    }
    if fd.opened && record(w, fd.id).events.load(Acquire) != fd.told_errors {
        mask |= 8;
    }
    if fd.opened && record(w, fd.id).state() == State::Closed {
        mask |= 0x10;
    }
    mask
}
