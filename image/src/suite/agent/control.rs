//! Control messages, the error queue, groups, ports that several sockets have.

use super::{Arguments, BYTES, Calls, Duration, EAGAIN, Failure, ints, is, local, wrong};
use crate::harness::agent::op::*;

const EPROTO: i64 = -71;
const EADDRINUSE: i64 = -98;
const EADDRNOTAVAIL: i64 = -99;
const POLLERR: u16 = 8;
const ERRQUEUE: i32 = 0x2000;

/// A control message as it lies in memory.
fn message(level: i32, ty: i32, data: &[u8]) -> Vec<u8> {
    let mut b = (16 + data.len() as u64).to_le_bytes().to_vec();
    b.extend(level.to_le_bytes());
    b.extend(ty.to_le_bytes());
    b.extend(data);
    b.resize(b.len().next_multiple_of(8), 0);
    b
}

fn datagrams(c: &mut Calls) -> Result<i32, Failure> {
    Ok(c.agent.must(SOCKET, &ints(&[2, 2, 0]))?.0 as i32)
}

fn set(c: &mut Calls, fd: i32, level: i32, name: i32, value: i32) -> Result<(), Failure> {
    is("SETSOCKOPT", c.call(SETSOCKOPT, &ints(&[fd, level, name, 4, value]))?, 0)
}

/// What RECVMSG says: result, flags, sender, control messages, bytes.
fn receive(c: &mut Calls, fd: i32, flags: i32) -> Result<(i64, Vec<u8>), Failure> {
    c.agent.call(RECVMSG, &ints(&[fd, flags, 100, 256]).raw(&[BYTES]))
}

/// What it should have said.
fn expected(flags: i32, from: u16, control: &[u8], data: &[u8]) -> Vec<u8> {
    let mut b = flags.to_le_bytes().to_vec();
    b.extend(&Arguments::default().addr(local(from)).0);
    b.extend((control.len() as u32).to_le_bytes());
    b.extend(control);
    b.extend(data);
    b
}

/// All of it.
pub fn control(c: &mut Calls) -> Result<(), Failure> {
    told(c)?;
    undelivered(c)?;
    groups(c)?;
    shared(c)
}

/// A datagram is sent with a TTL and TOS of its own, and its receiver is told.
fn told(c: &mut Calls) -> Result<(), Failure> {
    let (to, from) = (datagrams(c)?, datagrams(c)?);
    for name in [8, 12, 13] {
        set(c, to, 0, name, 1)?;
    }
    is("BIND", c.call(BIND, &ints(&[to]).addr(local(3100)))?, 0)?;
    is("BIND", c.call(BIND, &ints(&[from]).addr(local(3101)))?, 0)?;
    let with = [message(0, 2, &9i32.to_le_bytes()), message(0, 1, &[0x10])].concat();
    let request = ints(&[from, 0]).addr(local(3100)).raw(&(with.len() as u32).to_le_bytes());
    is("SENDMSG", c.call(SENDMSG, &request.raw(&with).data(b"told"))?, 4)?;
    let host = [127, 0, 0, 1];
    let info = [&1i32.to_le_bytes()[..], &host, &host].concat();
    let said = [message(0, 8, &info), message(0, 2, &9i32.to_le_bytes()), message(0, 1, &[0x10])];
    let (n, data) = receive(c, to, 0)?;
    if (n, &data) != (4, &expected(0, 3101, &said.concat(), b"told")) {
        return wrong(format!("control messages: {n} {data:02x?}"));
    }
    for fd in [to, from] {
        is("CLOSE", c.call(CLOSE, &ints(&[fd]))?, 0)?;
    }
    Ok(())
}

/// Port unreachable, with the datagram that it is about.
fn undelivered(c: &mut Calls) -> Result<(), Failure> {
    let fd = datagrams(c)?;
    set(c, fd, 0, 11, 1)?;
    is("CONNECT", c.call(CONNECT, &ints(&[fd]).addr(local(3102)))?, 0)?;
    is("an empty queue", receive(c, fd, ERRQUEUE)?.0, EAGAIN)?;
    is("SEND", c.call(SEND, &ints(&[fd, 0]).nowhere().data(b"lost"))?, 4)?;
    let poll = c.agent.begin(POLL, &ints(&[1, 5000, fd]).raw(&[0, 0]))?;
    let reply = c.agent.reply(poll, Duration::from_secs(6))?;
    if reply != Some((1, POLLERR.to_le_bytes().to_vec())) {
        return wrong(format!("POLL for an error: {reply:?}"));
    }
    let error =
        [&111u32.to_le_bytes()[..], &[2, 3, 3, 0], &[0; 8], &[2, 0, 0, 0, 127, 0, 0, 1], &[0; 8]];
    let said = message(0, 11, &error.concat());
    let (n, data) = receive(c, fd, ERRQUEUE)?;
    if (n, &data) != (4, &expected(ERRQUEUE, 3102, &said, b"lost")) {
        return wrong(format!("the error queue: {n} {data:02x?}"));
    }
    is("the error went with it", c.call(RECV, &ints(&[fd, 0x40, 9]).raw(&[BYTES]))?, EAGAIN)?;
    is("CLOSE", c.call(CLOSE, &ints(&[fd]))?, 0)
}

fn groups(c: &mut Calls) -> Result<(), Failure> {
    let (fd, stream) = (datagrams(c)?, c.tcp()?);
    let group = i32::from_le_bytes([224, 5, 6, 7]);
    let join = |fd| ints(&[fd, 0, 35, 8, group, 0]);
    let leave = |fd| ints(&[fd, 0, 36, 8, group, 0]);
    for (what, request, result) in [
        ("joining", join(fd), 0),
        ("joining again", join(fd), EADDRINUSE),
        ("leaving", leave(fd), 0),
        ("leaving again", leave(fd), EADDRNOTAVAIL),
        ("joining with a stream", join(stream), EPROTO),
    ] {
        is(what, c.call(SETSOCKOPT, &request)?, result)?;
    }
    for fd in [fd, stream] {
        is("CLOSE", c.call(CLOSE, &ints(&[fd]))?, 0)?;
    }
    Ok(())
}

/// SO_REUSEADDR: the last one gets what comes. SO_REUSEPORT: two listeners.
fn shared(c: &mut Calls) -> Result<(), Failure> {
    let (a, b, from) = (datagrams(c)?, datagrams(c)?, datagrams(c)?);
    is("BIND", c.call(BIND, &ints(&[a]).addr(local(3103)))?, 0)?;
    is("BIND beside it", c.call(BIND, &ints(&[b]).addr(local(3103)))?, EADDRINUSE)?;
    set(c, a, 1, 2, 1)?;
    set(c, b, 1, 2, 1)?;
    is("BIND with SO_REUSEADDR", c.call(BIND, &ints(&[b]).addr(local(3103)))?, 0)?;
    is("SEND", c.call(SEND, &ints(&[from, 0]).addr(local(3103)).data(b"x"))?, 1)?;
    is("RECV of the last one", c.recv(b, 9)?.0, 1)?;
    is("RECV of the first", c.call(RECV, &ints(&[a, 0x40, 9]).raw(&[BYTES]))?, EAGAIN)?;
    let (first, second) = (c.tcp()?, c.tcp()?);
    for fd in [first, second] {
        set(c, fd, 1, 15, 1)?;
        is("BIND with SO_REUSEPORT", c.call(BIND, &ints(&[fd]).addr(local(3104)))?, 0)?;
        is("LISTEN", c.call(super::LISTEN, &ints(&[fd, 5]))?, 0)?;
    }
    for fd in [a, b, from, first, second] {
        is("CLOSE", c.call(CLOSE, &ints(&[fd]))?, 0)?;
    }
    Ok(())
}
