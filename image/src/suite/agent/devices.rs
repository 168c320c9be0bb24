//! Sockets bound to an interface, options that name one, scope ids.

use super::{Arguments, BYTES, Calls, EAGAIN, Failure, ints, is, local, wrong};
use crate::harness::agent::op::*;
use std::net::SocketAddrV4;

const ENODEV: i64 = -19;
const EINVAL: i64 = -22;
const EADDRINUSE: i64 = -98;
const EADDRNOTAVAIL: i64 = -99;
const BINDTODEVICE: i32 = 25;

/// fe80::2 of interface `scope`, or of none.
fn neighbour(scope: u32) -> Vec<u8> {
    let mut b = vec![28, 0, 10, 0, 0, 9, 0, 0, 0, 0, 0xfe, 0x80];
    b.resize(12 + 13, 0);
    b.push(2);
    b.extend(scope.to_le_bytes());
    b
}

fn name(fd: i32, name: &[u8]) -> Arguments {
    ints(&[fd, 1, BINDTODEVICE, name.len() as i32]).raw(name)
}

/// All of it.
pub fn devices(c: &mut Calls) -> Result<(), Failure> {
    let mut fds = Vec::new();
    for _ in 0..4 {
        fds.push(c.agent.must(SOCKET, &ints(&[2, 2, 0]))?.0 as i32);
    }
    let [card, lo, third, from] = fds[..] else { return wrong("four sockets") };
    is("an unknown name", c.call(SETSOCKOPT, &name(card, b"eth9"))?, ENODEV)?;
    is("a name", c.call(SETSOCKOPT, &name(card, b"eth0\0"))?, 0)?;
    is("another", c.call(SETSOCKOPT, &name(lo, b"lo"))?, 0)?;
    let get = |fd| ints(&[fd, 1, BINDTODEVICE, 16]);
    let told = [card, lo, third].map(|fd| c.agent.call(GETSOCKOPT, &get(fd)));
    let names = told.into_iter().collect::<Result<Vec<_>, _>>()?;
    if names != [(0, b"eth0\0".to_vec()), (0, b"lo\0".to_vec()), (0, vec![])] {
        return wrong(format!("SO_BINDTODEVICE is {names:?}"));
    }
    let any = |fd| ints(&[fd]).addr(SocketAddrV4::new([0, 0, 0, 0].into(), 3110));
    for (what, fd, result) in
        [("of a card", card, 0), ("of the loop", lo, 0), ("of all", third, EADDRINUSE)]
    {
        is(what, c.call(BIND, &any(fd))?, result)?;
    }
    is("SEND", c.call(SEND, &ints(&[from, 0]).addr(local(3110)).data(b"x"))?, 1)?;
    is("RECV on the loop", c.recv(lo, 9)?.0, 1)?;
    is("RECV on the card", c.call(RECV, &ints(&[card, 0x40, 9]).raw(&[BYTES]))?, EAGAIN)?;
    is("none", c.call(SETSOCKOPT, &name(lo, b""))?, 0)?;
    options(c, third, lo)?;
    fds.push(c.agent.must(SOCKET, &ints(&[10, 2, 0]))?.0 as i32);
    sources(c, card, third)?;
    scopes(c, fds[4])?;
    for fd in fds {
        is("CLOSE", c.call(CLOSE, &ints(&[fd]))?, 0)?;
    }
    Ok(())
}

/// IP_MULTICAST_IF, IP_UNICAST_IF and groups with an interface.
fn options(c: &mut Calls, fd: i32, other: i32) -> Result<(), Failure> {
    let (group, nobody) = ([224, 5, 6, 8], i32::from_le_bytes([192, 0, 2, 1]));
    let group = i32::from_le_bytes(group);
    for (what, fd, name, value, result) in [
        ("IP_MULTICAST_IF by number", fd, 32, &[0, 0, 2][..], 0),
        ("by a number of none", fd, 32, &[0, 0, 9], EADDRNOTAVAIL),
        ("by an address of none", fd, 32, &[nobody], EADDRNOTAVAIL),
        ("IP_UNICAST_IF", fd, 50, &[2 << 24], 0),
        ("of none", fd, 50, &[9 << 24], EADDRNOTAVAIL),
        ("a group on the loop's number", other, 35, &[group, 0, 7], ENODEV),
        ("a group on the card", other, 35, &[group, 0, 2], 0),
        ("once more", other, 35, &[group, 0, 2], EADDRINUSE),
    ] {
        let request = ints(&[fd, 0, name, value.len() as i32 * 4]);
        is(what, c.call(SETSOCKOPT, &request.raw(&ints(value).0))?, result)?;
    }
    let said = c.agent.call(GETSOCKOPT, &ints(&[fd, 0, 50, 4]))?;
    if said != (0, vec![0, 0, 0, 2]) {
        return wrong(format!("IP_UNICAST_IF is {said:?}"));
    }
    Ok(())
}

/// Sources of groups: IP_ADD_SOURCE_MEMBERSHIP 39, IP_DROP_SOURCE_MEMBERSHIP 40, IP_BLOCK_SOURCE 38,
/// MCAST_JOIN_SOURCE_GROUP 46.
fn sources(c: &mut Calls, fd: i32, from: i32) -> Result<(), Failure> {
    let group = [224, 5, 6, 9];
    let word = i32::from_le_bytes;
    let request = |name, source| ints(&[fd, 0, name, 12, word(group), 0, word(source)]);
    let (us, other) = ([10, 0, 2, 15], [10, 0, 2, 9]);
    is("IP_MULTICAST_IF", c.call(SETSOCKOPT, &ints(&[from, 0, 32, 12, 0, 0, 2]))?, 0)?;
    is("BIND", c.call(BIND, &ints(&[from]).addr(SocketAddrV4::new(us.into(), 3111)))?, 0)?;
    let send = ints(&[from, 0]).addr(SocketAddrV4::new(group.into(), 3110)).data(b"to a group");
    for (what, request, result, heard) in [
        ("blocking in no group", request(38, us), EINVAL, EAGAIN),
        ("a source", request(39, other), 0, EAGAIN),
        ("another", request(39, us), 0, 10),
        ("the same", request(39, us), EADDRNOTAVAIL, 10),
        ("one less", request(40, us), 0, EAGAIN),
        ("none left", request(40, other), 0, EAGAIN),
        ("leaving it", request(40, other), EINVAL, EAGAIN),
    ] {
        is(what, c.call(SETSOCKOPT, &request)?, result)?;
        is("SEND", c.call(SEND, &send)?, 10)?;
        let got = c.call(RECV, &ints(&[fd, 0x40, 99]).raw(&[BYTES]))?;
        is(&format!("RECV after {what}"), got, heard)?;
    }
    let of = |ip| {
        let mut b = ints(&[2, word(ip)]).0;
        b.resize(128, 0);
        b
    };
    let any = [of(group), of(us)].concat();
    let join = ints(&[fd, 0, 46, 264, 2, 0]).raw(&any);
    is("MCAST_JOIN_SOURCE_GROUP", c.call(SETSOCKOPT, &join)?, 0)
}

/// Who names a link-local address names the link.
fn scopes(c: &mut Calls, fd: i32) -> Result<(), Failure> {
    let to = |scope| ints(&[fd]).raw(&neighbour(scope));
    is("CONNECT to some link", c.call(CONNECT, &to(0))?, EINVAL)?;
    is("CONNECT on no link", c.call(CONNECT, &to(9))?, ENODEV)?;
    is("CONNECT on a link", c.call(CONNECT, &to(2))?, 0)?;
    let peer = c.agent.call(GETPEERNAME, &ints(&[fd]))?;
    let (len, addr) = peer.1.split_at(2);
    let expected = neighbour(2);
    if (peer.0, len, addr) != (0, &[28, 0][..], &expected[2..]) {
        return wrong(format!("GETPEERNAME: {peer:02x?}"));
    }
    Ok(())
}
