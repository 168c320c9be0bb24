//! Socket calls on the system, made by its test agent (docs/agent.md), as far as cases need them.

use std::net::{SocketAddr, SocketAddrV6};
use std::time::Duration;

use super::lab::Family;
use crate::harness::agent::{Agent, Arguments, op::*};
use crate::harness::{Failure, wrong};

/// How long a call may wait for Linux.
const WAIT: Duration = Duration::from_secs(90);

/// Levels and options, Linux's numbers.
pub const SOL_SOCKET: i32 = 1;
const SO_REUSEADDR: i32 = 2;
pub const IPPROTO_IP: i32 = 0;
pub const IPPROTO_TCP: i32 = 6;
pub const MSG_OOB: i32 = 1;
pub const MSG_WAITALL: i32 = 0x100;
pub const MSG_FASTOPEN: i32 = 0x2000_0000;

/// See the [module](self).
pub struct Sockets {
    agent: Agent,
}

/// A call that has begun.
pub struct Begun(u32);

fn ints(numbers: &[i32]) -> Arguments {
    Arguments::ints(numbers)
}

fn domain(family: Family) -> i32 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn place(a: Arguments, addr: SocketAddr) -> Arguments {
    match addr {
        SocketAddr::V4(v4) => a.addr(v4),
        SocketAddr::V6(v6) => six(a, v6),
    }
}

fn six(mut a: Arguments, addr: SocketAddrV6) -> Arguments {
    a.0.extend(28u16.to_le_bytes());
    a.0.extend(10u16.to_le_bytes());
    a.0.extend(addr.port().to_be_bytes());
    a.0.extend([0; 4]);
    a.0.extend(addr.ip().octets());
    a.0.extend(addr.scope_id().to_le_bytes());
    a
}

impl Sockets {
    pub fn new(agent: Agent) -> Self {
        Self { agent }
    }

    /// Closes everything.
    pub fn reset(&mut self) -> Result<(), Failure> {
        self.agent.must(RESET, &Arguments::default()).map(drop)
    }

    /// A TCP socket.
    pub fn tcp(&mut self, family: Family) -> Result<i32, Failure> {
        Ok(self.agent.must(SOCKET, &ints(&[domain(family), 1, 0]))?.0 as i32)
    }

    /// A UDP socket.
    pub fn udp(&mut self, family: Family) -> Result<i32, Failure> {
        Ok(self.agent.must(SOCKET, &ints(&[domain(family), 2, 0]))?.0 as i32)
    }

    /// As the socket call.
    pub fn bind(&mut self, fd: i32, addr: SocketAddr) -> Result<(), Failure> {
        self.agent.must(BIND, &place(ints(&[fd]), addr)).map(drop)
    }

    /// As the socket call.
    pub fn listen(&mut self, fd: i32) -> Result<(), Failure> {
        self.agent.must(LISTEN, &ints(&[fd, 5])).map(drop)
    }

    /// A listener at a port.
    pub fn listener(&mut self, family: Family, port: u16) -> Result<i32, Failure> {
        let fd = self.tcp(family)?;
        self.set(fd, SOL_SOCKET, SO_REUSEADDR, 1)?;
        self.bind(fd, family.any(port))?;
        self.listen(fd)?;
        Ok(fd)
    }

    /// As the socket call.
    pub fn accept(&mut self, listener: i32) -> Result<i32, Failure> {
        Ok(self.agent.must(ACCEPT, &ints(&[listener]))?.0 as i32)
    }

    /// As the socket call.
    pub fn connect(&mut self, fd: i32, to: SocketAddr) -> Result<(), Failure> {
        self.agent.must(CONNECT, &place(ints(&[fd]), to)).map(drop)
    }

    /// As the socket call; the result as it is.
    pub fn try_connect(&mut self, fd: i32, to: SocketAddr) -> Result<i64, Failure> {
        let begun = self.agent.begin(CONNECT, &place(ints(&[fd]), to))?;
        self.end(&Begun(begun)).map(|(result, _)| result)
    }

    /// Sends bytes, to a place or where the socket is connected to; the result as it is.
    pub fn send(
        &mut self,
        fd: i32,
        flags: i32,
        to: Option<SocketAddr>,
        bytes: &[u8],
    ) -> Result<i64, Failure> {
        let head = ints(&[fd, flags]);
        let head = match to {
            Some(to) => place(head, to),
            None => head.nowhere(),
        };
        Ok(self.agent.call(SEND, &head.data(bytes))?.0)
    }

    /// Begins to send one byte, many times.
    pub fn begin_send(&mut self, fd: i32, byte: u8, count: u32) -> Result<Begun, Failure> {
        let arguments = ints(&[fd, 0]).nowhere().repeated(byte, count);
        self.agent.begin(SEND, &arguments).map(Begun)
    }

    /// Begins to receive.
    pub fn begin_recv(&mut self, fd: i32, flags: i32, count: i32) -> Result<Begun, Failure> {
        self.agent.begin(RECV, &ints(&[fd, flags, count]).raw(&[1])).map(Begun)
    }

    /// Begins to receive what nobody wants to see.
    pub fn begin_skip(&mut self, fd: i32, count: i32) -> Result<Begun, Failure> {
        self.agent.begin(RECV, &ints(&[fd, 0, count]).raw(&[0])).map(Begun)
    }

    /// The end of a call that has begun, if it comes within `limit`.
    pub fn ended(
        &mut self,
        begun: &Begun,
        limit: Duration,
    ) -> Result<Option<(i64, Vec<u8>)>, Failure> {
        self.agent.reply(begun.0, limit)
    }

    /// The end of a call that has begun.
    pub fn end(&mut self, begun: &Begun) -> Result<(i64, Vec<u8>), Failure> {
        match self.agent.reply(begun.0, WAIT)? {
            Some(reply) => Ok(reply),
            None => wrong(format!("a call of the agent did not end within {} s", WAIT.as_secs())),
        }
    }

    /// Receives; the result as it is.
    pub fn recv(&mut self, fd: i32, flags: i32, count: i32) -> Result<(i64, Vec<u8>), Failure> {
        let begun = self.begin_recv(fd, flags, count)?;
        self.end(&begun)
    }

    /// Receives a datagram; who sent it, an IPv4 address.
    pub fn recv_from(&mut self, fd: i32, count: i32) -> Result<(SocketAddr, Vec<u8>), Failure> {
        let arguments = ints(&[fd, 0, count]).raw(&[3]);
        let begun = Begun(self.agent.begin(RECV, &arguments)?);
        let (n, data) = self.end(&begun)?;
        // A length of two bytes, family, port, address, padding.
        let Some(([16, 0, 2, 0, p0, p1, a, b, c, d, ..], bytes)) = data.split_first_chunk::<18>()
        else {
            return wrong(format!("RECV of a datagram: {n}, {data:?}"));
        };
        Ok((SocketAddr::from(([*a, *b, *c, *d], u16::from_be_bytes([*p0, *p1]))), bytes.to_vec()))
    }

    /// Closes.
    pub fn close(&mut self, fd: i32) -> Result<(), Failure> {
        self.agent.must(CLOSE, &ints(&[fd])).map(drop)
    }

    /// Sets an option to a number.
    pub fn set(&mut self, fd: i32, level: i32, name: i32, value: i32) -> Result<(), Failure> {
        self.set_bytes(fd, level, name, &value.to_le_bytes())
    }

    /// Sets an option.
    pub fn set_bytes(
        &mut self,
        fd: i32,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> Result<(), Failure> {
        let arguments = ints(&[fd, level, name, value.len() as i32]).raw(value);
        match self.agent.call(SETSOCKOPT, &arguments)?.0 {
            0 => Ok(()),
            e => wrong(format!("option {level},{name} cannot be set: errno {}", -e)),
        }
    }
}
