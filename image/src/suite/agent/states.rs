//! What calls say in the states of a socket in which a program seldom makes them, as Linux has it.

use super::{
    Arguments, BYTES, Calls, EAGAIN, ECONNREFUSED, ECONNRESET, EINPROGRESS, ENOTCONN, EPIPE,
    Failure, LATE, O_NONBLOCK, ints, is, local, wrong,
};
use crate::harness::agent::op::*;

const EACCES: i64 = -13;
const EINVAL: i64 = -22;
const EISCONN: i64 = -106;
const SOCKTNOSUPPORT: i64 = -94;
const PROTONOSUPPORT: i64 = -93;
const AFNOSUPPORT: i64 = -97;

const OUT: u16 = 0x104;
const IN: u16 = 0x41;
const ERR: u16 = 8;
const HUP: u16 = 0x10;
const RDHUP: u16 = 0x2000;

/// All of it.
pub fn states(c: &mut Calls) -> Result<(), Failure> {
    sockets(c)?;
    connecting(c)?;
    shut(c)?;
    given_up(c)?;
    peeking(c)?;
    backlog(c)?;
    ending(c)?;
    everybody(c)
}

fn ready(c: &mut Calls, what: &str, fd: i32, expected: u16) -> Result<(), Failure> {
    let list = ints(&[1, 0, fd]).raw(&0x3fffu16.to_le_bytes());
    let (_, found) = c.agent.must(POLL, &list)?;
    if found == expected.to_le_bytes() {
        return Ok(());
    }
    wrong(format!("POLL, {what}: {found:02x?}, not {expected:#x}"))
}

fn error(c: &mut Calls, fd: i32, expected: i32) -> Result<(), Failure> {
    let (_, error) = c.agent.must(GETSOCKOPT, &ints(&[fd, 1, 4, 4]).raw(&[0; 4]))?;
    is("SO_ERROR", i32::from_le_bytes(error.try_into().unwrap_or_default()).into(), expected.into())
}

fn nonblocking(c: &mut Calls) -> Result<i32, Failure> {
    Ok(c.agent.must(SOCKET, &ints(&[2, 1 | O_NONBLOCK, 0]))?.0 as i32)
}

fn nobody() -> Arguments {
    ints(&[]).raw(&[16, 0]).raw(&[0; 16])
}

fn unconnect(c: &mut Calls, fd: i32) -> Result<i64, Failure> {
    c.call(CONNECT, &ints(&[fd]).raw(&nobody().0))
}

/// `socket`: flags, family, type and protocol are looked at in this order.
fn sockets(c: &mut Calls) -> Result<(), Failure> {
    for (what, arguments, expected) in [
        ("unknown flags", [99, 1 | 0x1000, 0], EINVAL),
        ("no family", [99, 1, 0], AFNOSUPPORT),
        ("no type", [2, 11, 0], EINVAL),
        ("a type that IP has not", [2, 5, 0], SOCKTNOSUPPORT),
        ("no protocol at all", [2, 1, 263], EINVAL),
        ("a protocol of another type", [2, 1, 17], PROTONOSUPPORT),
        ("a raw socket of none", [2, 3, 0], PROTONOSUPPORT),
    ] {
        is(what, c.call(SOCKET, &ints(&arguments))?, expected)?;
    }
    Ok(())
}

/// A call that does not wait says how it went the next time, however fast that was.
fn connecting(c: &mut Calls) -> Result<(), Failure> {
    let listener = c.listener(3020, 5)?;
    let fd = nonblocking(c)?;
    ready(c, "fresh", fd, OUT | HUP)?;
    let to = |port| ints(&[fd]).addr(local(port));
    is("CONNECT", c.call(CONNECT, &to(3020))?, EINPROGRESS)?;
    c.agent.must(POLL, &ints(&[1, 5000, fd]).raw(&4u16.to_le_bytes()))?;
    is("GETPEERNAME", c.call(GETPEERNAME, &ints(&[fd]))?, 0)?;
    is("CONNECT again", c.call(CONNECT, &to(3020))?, 0)?;
    is("CONNECT once more", c.call(CONNECT, &to(3020))?, EISCONN)?;
    let refused = nonblocking(c)?;
    is("CONNECT", c.call(CONNECT, &ints(&[refused]).addr(local(3021)))?, EINPROGRESS)?;
    c.agent.must(POLL, &ints(&[1, 5000, refused]).raw(&4u16.to_le_bytes()))?;
    ready(c, "refused", refused, IN | OUT | ERR | HUP | RDHUP)?;
    error(c, refused, -ECONNREFUSED as i32)?;
    is("RECV of what was refused", c.recv(refused, 1)?.0, 0)?;
    is("SEND", c.call(SEND, &ints(&[refused, 0]).nowhere().data(b"x"))?, EPIPE)?;
    close(c, &[fd, refused, listener])
}

fn close(c: &mut Calls, fds: &[i32]) -> Result<(), Failure> {
    for fd in fds {
        is("CLOSE", c.call(CLOSE, &ints(&[*fd]))?, 0)?;
    }
    Ok(())
}

/// `shutdown` counts without a connection, too, though it says that there is none.
fn shut(c: &mut Calls) -> Result<(), Failure> {
    let fd = c.tcp()?;
    is("SHUTDOWN", c.call(SHUTDOWN, &ints(&[fd, 0]))?, ENOTCONN)?;
    ready(c, "shut down", fd, IN | OUT | HUP | RDHUP)?;
    is("RECV", c.recv(fd, 1)?.0, 0)?;
    let udp = c.agent.must(SOCKET, &ints(&[2, 2, 0]))?.0 as i32;
    is("SHUTDOWN", c.call(SHUTDOWN, &ints(&[udp, 0]))?, ENOTCONN)?;
    is("RECV waits for nothing", c.recv(udp, 1)?.0, 0)?;
    let at_once = ints(&[udp, 0x40, 1]).raw(&[BYTES]);
    is("RECV that would not wait", c.call(RECV, &at_once)?, EAGAIN)?;
    close(c, &[fd, udp])
}

/// A connection that is given up by AF_UNSPEC leaves an error, and its socket can connect again.
fn given_up(c: &mut Calls) -> Result<(), Failure> {
    let listener = c.listener(3022, 5)?;
    let (client, server) = c.pair(listener, 3022)?;
    is("CONNECT to nobody", unconnect(c, client)?, 0)?;
    ready(c, "given up", client, OUT | ERR | HUP)?;
    error(c, client, -ECONNRESET as i32)?;
    error(c, client, 0)?;
    is("RECV of its peer", c.recv(server, 1)?.0, ECONNRESET)?;
    let again = c.call(CONNECT, &ints(&[client]).addr(local(3022)))?;
    is("CONNECT again", again, 0)?;
    close(c, &[client, server, listener])
}

/// MSG_WAITALL waits while looking, too; what is urgent is passed by a read that finds nothing else.
fn peeking(c: &mut Calls) -> Result<(), Failure> {
    let listener = c.listener(3023, 5)?;
    let (client, server) = c.pair(listener, 3023)?;
    c.agent.must(WRITE, &ints(&[client]).data(b"abc"))?;
    let peeking = c.agent.begin(RECV, &ints(&[server, 0x102, 5]).raw(&[BYTES]))?;
    c.agent.must(WRITE, &ints(&[client]).data(b"defg"))?;
    let reply = c.agent.reply(peeking, LATE)?;
    if reply != Some((5, b"abcde".to_vec())) {
        return wrong(format!("MSG_PEEK with MSG_WAITALL: {reply:?}"));
    }
    is("RECV", c.recv(server, 9)?.0, 7)?;
    c.agent.must(SEND, &ints(&[client, 1]).nowhere().data(b"u"))?;
    let at_mark = |c: &mut Calls| c.agent.must(IOCTL, &ints(&[server, 0x8905, 0, 4]).raw(&[0; 4]));
    c.agent.must(POLL, &ints(&[1, 5000, server]).raw(&2u16.to_le_bytes()))?;
    is("SIOCATMARK", at_mark(c)?.1[0].into(), 1)?;
    let at_once = ints(&[server, 0x40, 9]).raw(&[BYTES]);
    is("RECV of nothing but an urgent byte", c.call(RECV, &at_once)?, EAGAIN)?;
    is("SIOCATMARK", at_mark(c)?.1[0].into(), 0)?;
    is("MSG_OOB", c.call(RECV, &ints(&[server, 1, 1]).raw(&[BYTES]))?, EINVAL)?;
    close(c, &[client, server, listener])
}

/// A listener with backlog 0 has room for one, and its backlog can change: -1 is the largest.
fn backlog(c: &mut Calls) -> Result<(), Failure> {
    let listener = c.listener(3025, 0)?;
    let waiting = c.connected(3025)?;
    let late = nonblocking(c)?;
    is("CONNECT", c.call(CONNECT, &ints(&[late]).addr(local(3025)))?, EINPROGRESS)?;
    let list = ints(&[1, 300, late]).raw(&4u16.to_le_bytes());
    is("POLL of one too many", c.call(POLL, &list)?, 0)?;
    is("LISTEN again", c.call(LISTEN, &ints(&[listener, -1]))?, 0)?;
    let list = ints(&[1, 9000, late]).raw(&4u16.to_le_bytes());
    is("POLL with a backlog", c.call(POLL, &list)?, 1)?;
    close(c, &[waiting, late, listener])
}

/// What a connection says of itself before anybody asked how it went, and while it ends.
fn ending(c: &mut Calls) -> Result<(), Failure> {
    let listener = c.listener(3026, 5)?;
    let client = nonblocking(c)?;
    is("CONNECT", c.call(CONNECT, &ints(&[client]).addr(local(3026)))?, EINPROGRESS)?;
    let server = c.agent.must(ACCEPT, &ints(&[listener]))?.0 as i32;
    let number = |c: &mut Calls, level, name| -> Result<i32, Failure> {
        let (_, value) = c.agent.must(GETSOCKOPT, &ints(&[client, level, name, 4]).raw(&[0; 4]))?;
        Ok(i32::from_le_bytes(value.try_into().unwrap_or_default()))
    };
    let (segment, mtu) = (number(c, 6, 2)?, number(c, 0, 14)?);
    if segment < 1400 || mtu < segment + 40 {
        return wrong(format!("TCP_MAXSEG {segment}, IP_MTU {mtu}"));
    }
    // SHUTDOWN of its own ends a POLL that waits.
    let polling = c.agent.begin(POLL, &ints(&[1, -1, client]).raw(&1u16.to_le_bytes()))?;
    is("SHUTDOWN", c.call(SHUTDOWN, &ints(&[client, 0]))?, 0)?;
    let reply = c.agent.reply(polling, LATE)?;
    if reply.is_none_or(|(n, _)| n != 1) {
        return wrong("POLL slept through a SHUTDOWN");
    }
    // Nobody lingers for what was not read: the peer is told at once.
    c.agent.must(WRITE, &ints(&[client]).data(b"x"))?;
    c.agent.must(POLL, &ints(&[1, 5000, server]).raw(&1u16.to_le_bytes()))?;
    c.agent.must(SETSOCKOPT, &ints(&[server, 1, 13, 8, 1, 60]))?;
    is("CLOSE", c.call(CLOSE, &ints(&[server]))?, 0)?;
    c.agent.must(POLL, &ints(&[1, 5000, client]).raw(&0u16.to_le_bytes()))?;
    error(c, client, -ECONNRESET as i32)?;
    close(c, &[client, listener])
}

/// All of a network is reached with SO_BROADCAST only, whatever its address.
fn everybody(c: &mut Calls) -> Result<(), Failure> {
    let fd = c.agent.must(SOCKET, &ints(&[2, 2, 0]))?.0 as i32;
    let (limited, network) = ([255, 255, 255, 255], [10, 0, 2, 255]);
    let send = |to: [u8; 4]| {
        let to = std::net::SocketAddrV4::new(to.into(), 3024);
        ints(&[fd, 0]).addr(to).data(b"x")
    };
    is("SEND to all", c.call(SEND, &send(limited))?, EACCES)?;
    is("SEND to all of a network", c.call(SEND, &send(network))?, EACCES)?;
    is("SO_BROADCAST", c.call(SETSOCKOPT, &ints(&[fd, 1, 6, 4, 1]))?, 0)?;
    is("SEND to all", c.call(SEND, &send(limited))?, 1)?;
    is("SEND to all of a network", c.call(SEND, &send(network))?, 1)?;
    let group = std::net::SocketAddrV4::new([224, 0, 0, 1].into(), 3024);
    is("CONNECT to a group", c.call(CONNECT, &ints(&[fd]).addr(group))?, 0)?;
    close(c, &[fd])
}
