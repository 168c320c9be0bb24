//! The test agent: its protocol, and Linux's ways of socket calls, over the system's own loopback.

mod control;
mod devices;
mod states;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use crate::harness::agent::{Agent, Arguments, op::*};
use crate::harness::{BOOT, Failure, Guest, wrong};

const EBADF: i64 = -9;
const EAGAIN: i64 = -11;
const EPIPE: i64 = -32;
const ENOSYS: i64 = -38;
const ENOPROTOOPT: i64 = -92;
const ECONNRESET: i64 = -104;
const ENOTCONN: i64 = -107;
const ECONNREFUSED: i64 = -111;
const EINPROGRESS: i64 = -115;

const O_NONBLOCK: i32 = 0x800;
const BYTES: u8 = 1;
const ADDR: u8 = 2;

/// How long what must happen may take, on a busy machine too.
const LATE: Duration = Duration::from_secs(60);

/// A place on the system itself.
fn local(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

fn ints(numbers: &[i32]) -> Arguments {
    Arguments::ints(numbers)
}

/// Whether a call had this result.
fn is(what: &str, got: i64, expected: i64) -> Result<(), Failure> {
    if got == expected { Ok(()) } else { wrong(format!("{what}: {got}, not {expected}")) }
}

/// What the calls below need.
struct Calls {
    agent: Agent,
}

impl Calls {
    fn call(&mut self, op: u8, a: &Arguments) -> Result<i64, Failure> {
        Ok(self.agent.call(op, a)?.0)
    }
    fn tcp(&mut self) -> Result<i32, Failure> {
        Ok(self.agent.must(SOCKET, &ints(&[2, 1, 0]))?.0 as i32)
    }
    fn listener(&mut self, port: u16, backlog: i32) -> Result<i32, Failure> {
        let fd = self.tcp()?;
        self.agent.must(BIND, &ints(&[fd]).addr(local(port)))?;
        self.agent.must(LISTEN, &ints(&[fd, backlog]))?;
        Ok(fd)
    }
    fn connected(&mut self, port: u16) -> Result<i32, Failure> {
        let fd = self.tcp()?;
        self.agent.must(CONNECT, &ints(&[fd]).addr(local(port)))?;
        Ok(fd)
    }
    /// A connection through a listener: this end, the accepted end.
    fn pair(&mut self, listener: i32, port: u16) -> Result<(i32, i32), Failure> {
        let client = self.connected(port)?;
        let (server, _) = self.agent.must(ACCEPT, &ints(&[listener]))?;
        Ok((client, server as i32))
    }
    fn recv(&mut self, fd: i32, count: i32) -> Result<(i64, Vec<u8>), Failure> {
        self.agent.call(RECV, &ints(&[fd, 0, count]).raw(&[BYTES]))
    }
}

/// The whole test.
pub fn agent(guest: &mut Guest) -> Result<(), Failure> {
    guest.wait_for("AGENT-READY", BOOT)?;
    let mut c = Calls { agent: guest.agent()? };
    frames(&mut c)?;
    waiting(&mut c)?;
    numbers(&mut c)?;
    datagrams(&mut c)?;
    fast_open(&mut c)?;
    packets(&mut c)?;
    control::control(&mut c)?;
    devices::devices(&mut c)?;
    states::states(&mut c)?;
    services(&mut c)?;
    latency(&mut c)?;
    reset(&mut c)?;
    many(&mut c)?;
    guest.power_off()
}

/// Garbage between frames, unknown operations, large frames.
fn frames(c: &mut Calls) -> Result<(), Failure> {
    c.agent.raw(&[0, 0xA5, 0xA5, 1, 0xA5, 0x5A, 0xff, 0xff, 0xff, 0xff, 0xA5])?;
    let (version, data) = c.agent.call(HELLO, &Arguments::default())?;
    is("HELLO", version, 1)?;
    if data.get(4..) != Some(b"\x0a\x00Breakwater".as_slice()) {
        return wrong(format!("HELLO says {data:02x?}"));
    }
    is("an unknown operation", c.call(0x7f, &Arguments::default())?, ENOSYS)?;
    is("a descriptor that is none", c.call(CLOSE, &ints(&[77]))?, EBADF)?;
    let (listener, payload) = (c.listener(3000, 5)?, [0xA5, 0x5A, 5, 0, 0, 0].repeat(40_000));
    let (client, server) = c.pair(listener, 3000)?;
    let tag = c.agent.begin(SEND, &ints(&[client, 0]).nowhere().data(&payload))?;
    let mut got = Vec::new();
    while got.len() < payload.len() {
        let (n, data) = c.recv(server, 100_000)?;
        if n <= 0 {
            return wrong(format!("a large transfer: {n} after {} bytes", got.len()));
        }
        got.extend(data);
    }
    if got != payload {
        return wrong("a large transfer came out damaged");
    }
    let sent = c.agent.reply(tag, LATE)?;
    is("the large SEND", sent.map_or(0, |r| r.0), payload.len() as i64)?;
    for fd in [client, server, listener] {
        is("CLOSE", c.call(CLOSE, &ints(&[fd]))?, 0)?;
    }
    Ok(())
}

/// Calls that wait hold up no other; those that may not wait do not.
fn waiting(c: &mut Calls) -> Result<(), Failure> {
    let listener = c.listener(3001, 5)?;
    let accepting = c.agent.begin(ACCEPT, &ints(&[listener]))?;
    if let Some(reply) = c.agent.reply(accepting, Duration::from_millis(50))? {
        return wrong(format!("ACCEPT without a connection: {reply:?}"));
    }
    let client = c.connected(3001)?;
    let Some((server @ 0.., _)) = c.agent.reply(accepting, LATE)? else {
        return wrong("ACCEPT did not end");
    };
    let server = server as i32;
    let reading = c.agent.begin(READ, &ints(&[server, 100]).raw(&[BYTES]))?;
    let all = ints(&[server, 0x100, 8]).raw(&[BYTES]);
    is("WRITE", c.call(WRITE, &ints(&[client]).data(b"one"))?, 3)?;
    let Some((3, data)) = c.agent.reply(reading, LATE)? else {
        return wrong("READ did not end");
    };
    if data != b"one" {
        return wrong(format!("READ got {data:02x?}"));
    }
    // MSG_WAITALL takes two sends.
    let reading = c.agent.begin(RECV, &all)?;
    c.agent.must(WRITE, &ints(&[client]).data(b"four"))?;
    if c.agent.reply(reading, Duration::from_millis(50))?.is_some() {
        return wrong("MSG_WAITALL was content with less");
    }
    c.agent.must(WRITE, &ints(&[client]).repeated(b'x', 4))?;
    let reply = c.agent.reply(reading, LATE)?;
    if reply != Some((8, b"fourxxxx".to_vec())) {
        return wrong(format!("MSG_WAITALL: {reply:?}"));
    }
    // Non-blocking by fcntl, and by flag.
    is("MSG_DONTWAIT", c.call(RECV, &ints(&[server, 0x40, 9]).raw(&[BYTES]))?, EAGAIN)?;
    let set = ints(&[server, 4]).raw(&(O_NONBLOCK as i64).to_le_bytes());
    is("F_SETFL", c.call(FCNTL, &set)?, 0)?;
    let get = ints(&[server, 3]).raw(&[0; 8]);
    is("F_GETFL", c.call(FCNTL, &get)?, O_NONBLOCK as i64 | 2)?;
    is("a non-blocking READ", c.call(READ, &ints(&[server, 9]).raw(&[BYTES]))?, EAGAIN)?;
    poll(c, server, client)?;
    for fd in [client, server, listener] {
        is("CLOSE", c.call(CLOSE, &ints(&[fd]))?, 0)?;
    }
    Ok(())
}

fn poll(c: &mut Calls, server: i32, client: i32) -> Result<(), Failure> {
    let list = |timeout: i32| ints(&[1, timeout, server]).raw(&1u16.to_le_bytes());
    is("POLL at once", c.call(POLL, &list(0))?, 0)?;
    let started = Instant::now();
    is("POLL for 60 ms", c.call(POLL, &list(60))?, 0)?;
    if started.elapsed() < Duration::from_millis(55) {
        return wrong("POLL did not wait for its time");
    }
    let tag = c.agent.begin(POLL, &list(-1))?;
    c.agent.must(WRITE, &ints(&[client]).data(b"!"))?;
    let reply = c.agent.reply(tag, LATE)?;
    if reply != Some((1, vec![1, 0])) {
        return wrong(format!("POLL: {reply:?}"));
    }
    let (_, unread) = c.agent.must(IOCTL, &ints(&[server, 0x541B, 0, 4]).raw(&[0; 4]))?;
    if unread != [1, 0, 0, 0] {
        return wrong(format!("FIONREAD: {unread:?}"));
    }
    c.recv(server, 9).map(drop)
}

/// Errors, and options with their values.
fn numbers(c: &mut Calls) -> Result<(), Failure> {
    let fd = c.tcp()?;
    is("RECV before connecting", c.recv(fd, 1)?.0, ENOTCONN)?;
    is("SEND before", c.call(SEND, &ints(&[fd, 0]).nowhere().data(b"x"))?, EPIPE)?;
    is("GETPEERNAME before", c.call(GETPEERNAME, &ints(&[fd]))?, ENOTCONN)?;
    is("a refused CONNECT", c.call(CONNECT, &ints(&[fd]).addr(local(3002)))?, ECONNREFUSED)?;
    is("an unknown option", c.call(SETSOCKOPT, &ints(&[fd, 6, 999, 4, 1]))?, ENOPROTOOPT)?;
    for (level, name, value) in [(6, 1, 1), (1, 9, 1), (6, 4, 30), (0, 2, 9), (6, 2, 1000)] {
        is("SETSOCKOPT", c.call(SETSOCKOPT, &ints(&[fd, level, name, 4, value]))?, 0)?;
        let (_, got) = c.agent.must(GETSOCKOPT, &ints(&[fd, level, name, 4]).raw(&[0; 4]))?;
        if got != value.to_le_bytes() {
            return wrong(format!("option {level},{name}: {got:?}, not {value}"));
        }
    }
    is("CLOSE", c.call(CLOSE, &ints(&[fd]))?, 0)?;
    // A non-blocking connect, and its outcome in SO_ERROR.
    let (fd, _) = c.agent.must(SOCKET, &ints(&[2, 1 | O_NONBLOCK, 6]))?;
    let fd = fd as i32;
    let begun = c.call(CONNECT, &ints(&[fd]).addr(local(3003)))?;
    if begun != EINPROGRESS && begun != ECONNREFUSED {
        return wrong(format!("a non-blocking CONNECT: {begun}"));
    }
    if begun == EINPROGRESS {
        c.agent.must(POLL, &ints(&[1, 5000, fd]).raw(&4u16.to_le_bytes()))?;
        let (_, error) = c.agent.must(GETSOCKOPT, &ints(&[fd, 1, 4, 4]).raw(&[0; 4]))?;
        is("SO_ERROR", i32::from_le_bytes(error.try_into().unwrap_or_default()) as i64, 111)?;
    }
    is("CLOSE", c.call(CLOSE, &ints(&[fd]))?, 0)
}

/// A datagram goes out and comes back with its sender; one that is cut says so.
fn datagrams(c: &mut Calls) -> Result<(), Failure> {
    let fd = c.agent.must(SOCKET, &ints(&[2, 2, 0]))?.0 as i32;
    is("SEND nowhere", c.call(SEND, &ints(&[fd, 0]).nowhere().data(b"x"))?, -89)?;
    is("SEND", c.call(SEND, &ints(&[fd, 0]).addr(local(7)).data(b"hello"))?, 5)?;
    let (n, data) = c.agent.call(RECV, &ints(&[fd, 0, 100]).raw(&[BYTES | ADDR]))?;
    is("RECV", n, 5)?;
    let from = Arguments::default().addr(local(7)).0;
    if data != [from.clone(), b"hello".to_vec()].concat() {
        return wrong(format!("the datagram: {data:02x?}"));
    }
    c.agent.must(SEND, &ints(&[fd, 0]).addr(local(7)).data(b"hello"))?;
    let (n, data) = c.agent.call(RECVMSG, &ints(&[fd, 0, 3, 0]).raw(&[BYTES]))?;
    is("RECVMSG", n, 3)?;
    let expected = [0x20u32.to_le_bytes().to_vec(), from, vec![0; 4], b"hel".to_vec()].concat();
    if data != expected {
        return wrong(format!("a datagram that was cut: {data:02x?}"));
    }
    is("CLOSE", c.call(CLOSE, &ints(&[fd]))?, 0)
}

/// The services beside the agent.
fn services(c: &mut Calls) -> Result<(), Failure> {
    let echo = c.connected(7)?;
    c.agent.must(WRITE, &ints(&[echo]).data(b"and back"))?;
    c.agent.must(SHUTDOWN, &ints(&[echo, 1]))?;
    let (n, data) = c.agent.call(RECV, &ints(&[echo, 0x100, 9]).raw(&[BYTES]))?;
    if (n, data.as_slice()) != (8, b"and back") {
        return wrong(format!("echo: {n} {data:02x?}"));
    }
    let greeting = c.connected(13)?;
    let (n, data) = c.agent.call(RECV, &ints(&[greeting, 0x100, 9]).raw(&[BYTES]))?;
    if (n, data.as_slice()) != (6, b"hello\n") {
        return wrong(format!("greeting: {n} {data:02x?}"));
    }
    let chargen = c.connected(19)?;
    let (n, data) = c.agent.call(RECV, &ints(&[chargen, 0x100, 50]).raw(&[BYTES]))?;
    let letters: Vec<u8> = (0..50).map(|i| b'A' + i % 23).collect();
    if n != 50 || data != letters {
        return wrong(format!("chargen: {n} {data:02x?}"));
    }
    let deaf = c.connected(99)?;
    let set = ints(&[deaf, 4]).raw(&(O_NONBLOCK as i64).to_le_bytes());
    c.agent.must(FCNTL, &set)?;
    let (mut sent, mut n) = (0, 0);
    while n >= 0 {
        sent += n;
        n = c.call(WRITE, &ints(&[deaf]).repeated(b'z', 100_000))?;
        c.agent.call(POLL, &ints(&[1, 20, deaf]).raw(&4u16.to_le_bytes()))?;
    }
    is("WRITE to who does not read", n, EAGAIN)?;
    if sent < 64 << 10 {
        return wrong(format!("who does not read took {sent} bytes"));
    }
    for fd in [echo, greeting, chargen, deaf] {
        is("CLOSE", c.call(CLOSE, &ints(&[fd]))?, 0)?;
    }
    Ok(())
}

/// A call is a round trip of some milliseconds: not a timer's tick of ten, which would be the least that a call behind
/// another takes. A busy machine lets most calls wait, but hardly all.
fn latency(c: &mut Calls) -> Result<(), Failure> {
    let mut each = [Duration::ZERO; 200];
    for took in &mut each {
        let started = Instant::now();
        c.agent.must(HELLO, &Arguments::default())?;
        *took = started.elapsed();
    }
    each.sort();
    let (few, half) = (each[each.len() / 10], each[each.len() / 2]);
    print!("a call takes {} us, ", half.as_micros());
    if few > Duration::from_millis(10) {
        return wrong(format!("nine of ten calls take longer than {few:?}"));
    }
    Ok(())
}

/// RESET ends what waits, and connections by RST.
fn reset(c: &mut Calls) -> Result<(), Failure> {
    let listener = c.listener(3004, 5)?;
    let (client, _) = c.pair(listener, 3004)?;
    let mut tags = vec![c.agent.begin(ACCEPT, &ints(&[listener]))?];
    tags.push(c.agent.begin(READ, &ints(&[client, 10]).raw(&[BYTES]))?);
    tags.push(c.agent.begin(POLL, &ints(&[1, -1, client]).raw(&1u16.to_le_bytes()))?);
    is("RESET", c.call(RESET, &Arguments::default())?, 0)?;
    for tag in tags {
        if let Some(reply) = c.agent.reply(tag, Duration::from_millis(20))? {
            return wrong(format!("a reply after RESET: {reply:?}"));
        }
    }
    is("a descriptor from before", c.call(CLOSE, &ints(&[client]))?, EBADF)?;
    // Its port is free at once, and a peer that stays sees the reset.
    let listener = c.listener(3004, 5)?;
    let (client, server) = c.pair(listener, 3004)?;
    c.agent.must(SETSOCKOPT, &ints(&[client, 1, 13, 8, 1, 0]))?;
    is("CLOSE", c.call(CLOSE, &ints(&[client]))?, 0)?;
    is("RECV after the peer's reset", c.recv(server, 1)?.0, ECONNRESET)?;
    is("RECV then", c.recv(server, 1)?.0, 0)?;
    is("SEND then", c.call(WRITE, &ints(&[server]).data(b"x"))?, EPIPE)?;
    is("RESET", c.call(RESET, &Arguments::default())?, 0)
}

/// Sockets at once.
const MANY: usize = 1000;

/// A thousand sockets of the agent's, each with a connection to the echo service.
fn many(c: &mut Calls) -> Result<(), Failure> {
    let mut fds = Vec::new();
    for _ in 0..MANY {
        fds.push(c.connected(7)?);
    }
    let mut tags = Vec::new();
    for fd in &fds {
        tags.push(c.agent.begin(READ, &ints(&[*fd, 10]).raw(&[BYTES]))?);
    }
    for (i, fd) in fds.iter().enumerate() {
        let text = format!("{i:04}");
        c.agent.must(WRITE, &ints(&[*fd]).data(text.as_bytes()))?;
    }
    for (i, tag) in tags.into_iter().enumerate() {
        let reply = c.agent.reply(tag, LATE)?;
        if reply != Some((4, format!("{i:04}").into_bytes())) {
            return wrong(format!("connection {i}: {reply:?}"));
        }
    }
    is("RESET", c.call(RESET, &Arguments::default())?, 0)
}

/// Fast Open (RFC 7413): the first connection brings a cookie home, the second one's SYN takes data along.
fn fast_open(c: &mut Calls) -> Result<(), Failure> {
    const MSG_FASTOPEN: i32 = 0x2000_0000;
    const SYN_DATA: u8 = 32;
    let listener = c.tcp()?;
    c.agent.must(BIND, &ints(&[listener]).addr(local(3010)))?;
    c.agent.must(SETSOCKOPT, &ints(&[listener, 6, 23, 4, 5]))?;
    c.agent.must(LISTEN, &ints(&[listener, 5]))?;
    for along in [false, true] {
        let client = c.tcp()?;
        let send = ints(&[client, MSG_FASTOPEN]).addr(local(3010)).data(b"hello");
        is("SEND with MSG_FASTOPEN", c.call(SEND, &send)?, 5)?;
        let (server, _) = c.agent.must(ACCEPT, &ints(&[listener]))?;
        let (n, data) = c.recv(server as i32, 100)?;
        if (n, &data[..]) != (5, b"hello") {
            return wrong(format!("what went with a SYN: {n} {data:?}"));
        }
        for fd in [client, server as i32] {
            let info = c.agent.must(GETSOCKOPT, &ints(&[fd, 6, 11, 0]))?.1;
            let full = c.agent.must(GETSOCKOPT, &ints(&[fd, 6, 11, 232]).raw(&[0; 232]))?.1;
            if !info.is_empty() || full.get(5).is_none_or(|o| (o & SYN_DATA != 0) != along) {
                return wrong(format!("TCP_INFO of a fast open ({along}): {full:02x?}"));
            }
            is("CLOSE", c.call(CLOSE, &ints(&[fd]))?, 0)?;
        }
    }
    is("CLOSE", c.call(CLOSE, &ints(&[listener]))?, 0)
}

/// Echo requests and raw packets, on the system's own loop.
fn packets(c: &mut Calls) -> Result<(), Failure> {
    const EINVAL: i64 = -22;
    let raw = c.agent.must(SOCKET, &ints(&[2, 3, 1]))?.0 as i32;
    let ping = c.agent.must(SOCKET, &ints(&[2, 2, 1]))?.0 as i32;
    let request = [8, 0, 0, 0, 0, 0, 0, 5, b'h', b'i'];
    let to = |fd: i32, data: &[u8]| ints(&[fd, 0]).addr(local(0)).data(data);
    is("an echo request", c.call(SEND, &to(ping, &request))?, 10)?;
    is("what is none", c.call(SEND, &to(ping, &[0; 10]))?, EINVAL)?;
    let (n, reply) = c.recv(ping, 100)?;
    if (n, reply.first(), reply.get(6..)) != (10, Some(&0), Some(&request[6..])) {
        return wrong(format!("an echo reply: {n} {reply:02x?}"));
    }
    for ty in [8, 0] {
        let (n, copy) = c.recv(raw, 100)?;
        if (n, copy.first(), copy.get(20)) != (30, Some(&0x45), Some(&ty)) {
            return wrong(format!("a raw copy: {n} {copy:02x?}"));
        }
    }
    for fd in [raw, ping] {
        is("CLOSE", c.call(CLOSE, &ints(&[fd]))?, 0)?;
    }
    Ok(())
}
