//! Calls on streams: what Linux's `tcp_sendmsg`, `tcp_recvmsg`, `tcp_poll` do with the words that
//! netd and the program share.

use super::calls::{
    Fd, Outcome, Pending, app, errno::*, error, is_opening, msg, open, record, sock,
};
use super::packet::pattern;
use super::world::World;
use libipc::net::{Reply, Request};
use libipc::sock::{Error, FastOpen, Kind, State, event, option};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::*;

pub fn connect(w: &mut World, fd: &mut Fd, addr: SocketAddr, p: &mut Pending) -> Outcome {
    if fd.listening {
        return Err(EISCONN);
    }
    if fd.deferred.is_some() {
        return Err(EISCONN);
    }
    open(w, fd)?;
    let first = p.done == 0;
    let bits = app(w, fd.id).options.load(Relaxed);
    if first && fd.kind == Kind::Tcp && bits & option::FASTOPEN_CONNECT != 0 && !fd.connecting {
        let request = Request::FastOpen { sock: sock(fd), addr, data: 0, how: FastOpen::Defer };
        match w.host.ask(request) {
            Ok(Reply::Deferred) => {
                (fd.remote, fd.deferred) = (Some(addr), Some(addr));
                return Ok(Some(0));
            }
            Ok(_) => {
                p.done = 1;
                fd.connecting = true;
                fd.remote = Some(addr);
                w.settle();
            }
            Err(e) => return Err(error(e)),
        }
    } else if first {
        p.done = 1;
        match w.host.ask(Request::Connect { sock: sock(fd), addr }) {
            Ok(_) => {}
            Err(Error::InProgress) => return Err(EALREADY),
            Err(Error::AlreadyConnected) if fd.connecting => {}
            Err(e) => return Err(error(e)),
        }
        fd.remote = Some(addr);
        fd.connecting = fd.kind == Kind::Tcp;
        w.settle();
    }
    if fd.kind != Kind::Tcp {
        return Ok(Some(0));
    }
    let state = record(w, fd.id).state();
    if is_opening(state) {
        if fd.nonblocking {
            return Err(EINPROGRESS);
        }
        let over = fd.send_timeout.is_some_and(|t| w.now() >= p.begun + t);
        return if over { Err(EINPROGRESS) } else { Ok(None) };
    }
    fd.connecting = false;
    match take_error(w, fd) {
        Some(e) if state == State::Closed => Err(e),
        _ => Ok(Some(0)),
    }
}

/// The error that ended it, once.
pub fn take_error(w: &World, fd: &mut Fd) -> Option<i64> {
    let found = record(w, fd.id).error().filter(|_| fd.opened)?;
    if fd.told == Some(found) {
        return None;
    }
    fd.told = Some(found);
    Some(error(found))
}

fn untold(w: &World, fd: &Fd) -> bool {
    fd.opened && record(w, fd.id).error().is_some_and(|e| fd.told != Some(e))
}

pub fn shutdown(w: &mut World, fd: &mut Fd, how: i64) -> Outcome {
    if !(0..=2).contains(&how) {
        return Err(EINVAL);
    }
    let state = record(w, fd.id).state();
    if !fd.opened || fd.kind == Kind::Tcp && matches!(state, State::Open | State::Closed) {
        return Err(ENOTCONN);
    }
    w.host.ask(Request::Shutdown { sock: sock(fd), how: how as u8 }).map_err(error)?;
    fd.shut_rd |= how != 1;
    fd.shut_wr |= how != 0;
    w.settle();
    Ok(Some(0))
}

pub fn close(w: &mut World, fd: &mut Fd, p: &mut Pending) -> Outcome {
    if !fd.opened {
        w.host.progs[0].give_back(fd.id);
        return Ok(Some(0));
    }
    if p.done == 0 {
        p.done = 1;
        let abort = fd.linger == Some(0) && fd.kind == Kind::Tcp && !fd.listening;
        match w.host.ask(Request::Close { sock: sock(fd), abort }) {
            Ok(Reply::Closed { free: true }) => {
                w.host.progs[0].give_back(fd.id);
                w.settle();
                return Ok(Some(0));
            }
            Ok(Reply::Closed { free: false }) => w.host.progs[0].clear(fd.id),
            Ok(other) => panic!("{other:?}"),
            Err(e) => return Err(error(e)),
        }
        w.settle();
    }
    let Some(limit) = fd.linger.filter(|l| *l > 0 && !fd.nonblocking) else { return Ok(Some(0)) };
    let state = record(w, fd.id).state();
    let going = matches!(state, State::FinWait1 | State::Closing | State::LastAck);
    let over = w.now() >= p.begun + limit as u64 * 1_000_000_000;
    Ok(if going && !over { None } else { Some(0) })
}

/// Bytes that have arrived and were not read.
pub fn unread(w: &World, fd: &Fd) -> i64 {
    let head = w.host.progs[0].head[fd.id as usize];
    match fd.kind {
        Kind::Tcp if fd.opened => record(w, fd.id).received().wrapping_sub(head as u32) as i64,
        Kind::Tcp => 0,
        _ => super::dgram::next_len(w, fd).map_or(0, |n| n as i64),
    }
}

/// SIOCOUTQ.
pub fn unacknowledged(w: &World, fd: &Fd) -> i64 {
    let tail = w.host.progs[0].tail[fd.id as usize];
    (tail as u32).wrapping_sub(record(w, fd.id).acknowledged()) as i64
}

/// Where urgent data ends, as a count of bytes of the stream, if some was announced that the
/// program has not passed.
fn mark(w: &World, fd: &Fd) -> Option<u64> {
    let rec = record(w, fd.id);
    (rec.events.load(Acquire) & event::URGENT != 0).then_some(())?;
    let head = w.host.progs[0].head[fd.id as usize];
    let ahead = rec.pending.load(Acquire).wrapping_sub(head as u32) as i32;
    // The last urgent byte itself is at the mark.
    (ahead >= 0).then(|| head + ahead as u64)
}

pub fn at_mark(w: &World, fd: &Fd) -> bool {
    mark(w, fd) == Some(w.host.progs[0].head[fd.id as usize])
}

/// Bytes in the send ring.
fn room(w: &World, fd: &Fd) -> usize {
    let size = 1i64 << super::calls::rings(w, fd, fd.id).tx_bits;
    let limit = fd.sndbuf.map_or(size, |s| s.min(size));
    (limit - unacknowledged(w, fd)).max(0) as usize
}

/// Whether data flows before the handshake is complete, of a connection that was accepted.
fn flows(w: &World, fd: &Fd) -> bool {
    let rec = record(w, fd.id);
    rec.events.load(Acquire) & event::FAST_OPEN != 0 && !fd.connecting
}

pub fn send(
    w: &mut World,
    fd: &mut Fd,
    p: &mut Pending,
    bytes: usize,
    text: Option<Vec<u8>>,
    flags: i64,
    to: Option<SocketAddr>,
) -> Outcome {
    let wait = !fd.nonblocking && flags & msg::DONTWAIT == 0;
    let fast = if flags & msg::FASTOPEN != 0 { to } else { None };
    if fast.is_some() && fd.connecting && !is_opening(record(w, fd.id).state()) {
        // As if `connect` had been called again.
        fd.connecting = false;
    } else if let Some(to) = fd.deferred.take().or(fast)
        && !p.fast
    {
        let offered = begin_fast(w, fd, p, bytes, text.as_deref(), to, wait)?;
        let taken = p.done > 0;
        if !wait && record(w, fd.id).state() != State::Closed {
            return if taken { Ok(Some(p.done as i64)) } else { Err(EINPROGRESS) };
        }
        if offered == bytes && taken && p.done == bytes && !wait {
            return Ok(Some(bytes as i64));
        }
    }
    if p.fast && is_opening(record(w, fd.id).state()) {
        let over = fd.send_timeout.is_some_and(|t| w.now() >= p.begun + t);
        return match p.done {
            _ if !over => Ok(None),
            0 => Err(EINPROGRESS),
            done => Ok(Some(done as i64)),
        };
    }
    let state = record(w, fd.id).state();
    if p.fast {
        fd.connecting = false;
        if state == State::Closed {
            return Err(take_error(w, fd).unwrap_or(EPIPE));
        }
    }
    if fd.shut_wr || !fd.opened {
        return Err(EPIPE);
    }
    if let Some(e) = take_error(w, fd) {
        return if p.done > 0 { Ok(Some(p.done as i64)) } else { Err(e) };
    }
    match state {
        State::Established | State::CloseWait => {}
        State::SynReceived if flows(w, fd) => {}
        _ if is_opening(state) && state != State::Open => {
            return if wait { Ok(None) } else { Err(EAGAIN) };
        }
        _ => return Err(EPIPE),
    }
    let n = room(w, fd).min(bytes - p.done);
    if n > 0 {
        let rings = super::calls::rings(w, fd, fd.id);
        let at = w.host.progs[0].tail[fd.id as usize];
        let data: Vec<u8> = match &text {
            Some(text) => text[p.done..p.done + n].to_vec(),
            None => (at..at + n as u64).map(pattern).collect(),
        };
        put(w, rings.tx_off, rings.tx_bits, at, &data);
        cork(w, fd, flags & msg::MORE != 0);
        w.host.progs[0].tail[fd.id as usize] += n as u64;
        p.done += n;
        let words = app(w, fd.id);
        if flags & msg::OOB != 0 && p.done == bytes {
            words.tx_urgent.store((at + n as u64) as u32, Relaxed);
            super::options::set_bits(words, option::URGENT, true);
        }
        words.tx_tail.store(at + n as u64, Release);
        w.host.progs[0].submit(fd.id);
        w.settle();
    }
    match p.done {
        done if done == bytes => Ok(Some(done as i64)),
        _ if wait => Ok(None),
        0 => Err(EAGAIN),
        done => Ok(Some(done as i64)),
    }
}

/// MSG_FASTOPEN, or the first data after a connect that waits for it: how many bytes lie in the ring.
fn begin_fast(
    w: &mut World,
    fd: &mut Fd,
    p: &mut Pending,
    bytes: usize,
    text: Option<&[u8]>,
    to: SocketAddr,
    wait: bool,
) -> Result<usize, i64> {
    if fd.listening {
        return Err(EISCONN);
    }
    open(w, fd)?;
    match record(w, fd.id).state() {
        State::Open => {}
        State::SynSent | State::SynReceived => return Err(EALREADY),
        _ => return Err(EISCONN),
    }
    let rings = super::calls::rings(w, fd, fd.id);
    let n = bytes.min(1 << rings.tx_bits).min(u16::MAX as usize);
    let data: Vec<u8> = match text {
        Some(text) => text[..n].to_vec(),
        None => (0..n as u64).map(pattern).collect(),
    };
    put(w, rings.tx_off, rings.tx_bits, 0, &data);
    let how = if wait { FastOpen::Waits } else { FastOpen::Now };
    let request = Request::FastOpen { sock: sock(fd), addr: to, data: n as u16, how };
    w.host.ask(request).map_err(error)?;
    p.fast = true;
    p.done = record(w, fd.id).sent() as usize;
    fd.remote = Some(to);
    fd.connecting = true;
    w.host.progs[0].tail[fd.id as usize] = p.done as u64;
    app(w, fd.id).tx_tail.store(p.done as u64, Release);
    w.host.progs[0].submit(fd.id);
    w.settle();
    Ok(n)
}

/// MSG_MORE is a cork for a call.
fn cork(w: &World, fd: &Fd, more: bool) {
    let words = app(w, fd.id);
    if (words.options.load(Relaxed) & option::MORE != 0) != more {
        super::options::set_bits(words, option::MORE, more);
    }
}

pub fn put(w: &World, off: u32, bits: u8, at: u64, bytes: &[u8]) {
    let mask = (1u64 << bits) - 1;
    let first = bytes.len().min((mask + 1 - (at & mask)) as usize);
    let tx = w.host.progs[0].regions.tx.bytes();
    assert!(tx.write(off as usize + (at & mask) as usize, &bytes[..first]));
    assert!(tx.write(off as usize, &bytes[first..]));
}

pub fn take(w: &World, off: u32, bits: u8, at: u64, n: usize) -> Vec<u8> {
    let mask = (1u64 << bits) - 1;
    let first = n.min((mask + 1 - (at & mask)) as usize);
    let rx = w.host.progs[0].regions.rx.bytes();
    let mut out = vec![0; n];
    assert!(rx.read(off as usize + (at & mask) as usize, &mut out[..first]));
    assert!(rx.read(off as usize, &mut out[first..]));
    out
}

/// Receives; also says what is wrong with the bytes.
pub fn receive(
    w: &mut World,
    fd: &mut Fd,
    p: &mut Pending,
    bytes: usize,
    text: Option<Vec<u8>>,
    flags: i64,
) -> (Outcome, Option<String>) {
    let state = record(w, fd.id).state();
    if fd.listening || !fd.opened || state == State::Open {
        return (Err(ENOTCONN), None);
    }
    if flags & msg::OOB != 0 {
        return (receive_urgent(w, fd), None);
    }
    let inline = app(w, fd.id).options.load(Relaxed) & option::OOBINLINE != 0;
    let head = w.host.progs[0].head[fd.id as usize];
    let mut n = (unread(w, fd) as usize).min(bytes - p.done);
    if let Some(mark) = mark(w, fd) {
        if mark == head && !inline && unread(w, fd) > 0 {
            // The urgent byte is not part of the stream.
            advance(w, fd, 1);
            return receive(w, fd, p, bytes, text, flags);
        }
        if mark > head {
            n = n.min((mark - head) as usize);
        }
    }
    let mut wrong = None;
    if n > 0 {
        let rings = super::calls::rings(w, fd, fd.id);
        let data = take(w, rings.rx_off, rings.rx_bits, head, n);
        let wanted: Vec<u8> = match text {
            Some(text) => text[p.done..].to_vec(),
            None => (head..head + n as u64).map(pattern).collect(),
        };
        if let Some(i) = (0..n).find(|i| wanted.get(*i).is_some_and(|b| *b != data[*i])) {
            wrong = Some(format!("byte {} of the stream is {:#x}", head + i as u64, data[i]));
        }
        if flags & msg::PEEK == 0 {
            advance(w, fd, n as u64);
        }
        p.done += n;
    }
    (received(w, fd, p, bytes, flags), wrong)
}

fn advance(w: &mut World, fd: &Fd, n: u64) {
    w.host.progs[0].head[fd.id as usize] += n;
    let head = w.host.progs[0].head[fd.id as usize];
    app(w, fd.id).rx_head.store(head, Release);
    w.host.progs[0].submit(fd.id);
    w.settle();
}

fn received(w: &World, fd: &mut Fd, p: &Pending, bytes: usize, flags: i64) -> Outcome {
    let rec = record(w, fd.id);
    let all = flags & msg::WAITALL != 0 && p.done < bytes;
    if p.done > 0 && !all || bytes == 0 {
        return Ok(Some(p.done as i64));
    }
    let ended = rec.events.load(Acquire) & event::PEER_FIN != 0 || fd.shut_rd;
    if p.done > 0 && (ended || rec.state() == State::Closed) {
        return Ok(Some(p.done as i64));
    }
    if ended && !untold(w, fd) {
        return Ok(Some(0));
    }
    if let Some(e) = take_error(w, fd) {
        return Err(e);
    }
    if ended || matches!(rec.state(), State::Closed | State::Free) {
        return Ok(Some(0));
    }
    let over = fd.receive_timeout.is_some_and(|t| w.now() >= p.begun + t);
    if fd.nonblocking || flags & msg::DONTWAIT != 0 || over {
        return if p.done > 0 { Ok(Some(p.done as i64)) } else { Err(EAGAIN) };
    }
    Ok(None)
}

/// MSG_OOB: the byte at the mark.
fn receive_urgent(w: &mut World, fd: &mut Fd) -> Outcome {
    let inline = app(w, fd.id).options.load(Relaxed) & option::OOBINLINE != 0;
    let head = w.host.progs[0].head[fd.id as usize];
    let Some(mark) = mark(w, fd).filter(|m| !inline && fd.urgent_taken != Some(*m)) else {
        return Err(EINVAL);
    };
    if mark - head >= unread(w, fd) as u64 {
        return Err(EAGAIN);
    }
    fd.urgent_taken = Some(mark);
    Ok(Some(1))
}

/// What `poll` says of it.
pub fn readiness(w: &World, fd: &Fd) -> i64 {
    let (input, priority, output, error, hang_up, read_hang_up) = (0x41, 2, 0x104, 8, 0x10, 0x2000);
    if fd.kind != Kind::Tcp {
        return super::dgram::readiness(w, fd);
    }
    let rec = record(w, fd.id);
    if fd.listening {
        return if rec.pending.load(Acquire) > 0 { input } else { 0 };
    }
    let state = if fd.opened { rec.state() } else { State::Closed };
    let closed = matches!(state, State::Closed | State::Open | State::Free);
    let ended = closed || fd.shut_rd || rec.events.load(Acquire) & event::PEER_FIN != 0;
    let mut mask = if untold(w, fd) { error } else { 0 };
    if closed || fd.shut_wr && ended {
        mask |= hang_up;
    }
    if ended {
        mask |= if closed && state != State::Closed { 0 } else { input | read_hang_up };
    }
    if is_opening(state) && state != State::Open && !flows(w, fd) {
        return mask;
    }
    let least = app(w, fd.id).rcv_lowat.load(Relaxed).max(1) as i64;
    if unread(w, fd) >= least && fd.opened {
        mask |= input;
    }
    let head = w.host.progs[0].head[fd.id as usize];
    let arrived = |m: &u64| m - head < unread(w, fd) as u64 && fd.urgent_taken != Some(*m);
    if mark(w, fd).filter(arrived).is_some() {
        mask |= priority;
    }
    // Linux: a third of the buffer must be free.
    if fd.shut_wr || closed || room(w, fd) > 0 {
        mask |= output;
    }
    mask
}
