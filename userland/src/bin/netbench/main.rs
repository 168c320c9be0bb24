//! Fixed measuring services, so that one client can measure this system and any other.
//!
//! | port | service |
//! |---|---|
//! | UDP 7001 | echo |
//! | TCP 7002 | echo |
//! | TCP 7003 | accept, read 1 byte, write 1, close |
//! | TCP 7004 | read to the end, write the number of bytes (8 bytes, little-endian), close |
//! | TCP 7005 | read a length (8 bytes, little-endian), send that many bytes (0: until closed) |
//! | UDP 7006 | count datagrams; one of 1 byte is a question, not counted: it is answered with two u64, datagrams and bytes; `R` resets both first |
//! | UDP 7007 | send on request: [`udp::Generator`] |
//! | TCP 7008 | echo for many connections at once |
//!
//! One thread, one event loop, nothing that blocks. What is received is counted where it lies or
//! copied once, from ring to ring; what is sent is written once and then sent again.
#![no_std]
#![no_main]

extern crate alloc;

mod tcp;
mod udp;

use userland::net::{Options, TcpStream};
use userland::runtime::Runtime;
use userland::serve::{Server, Turn};
use userland::{Error, init};

use tcp::Connection;
use udp::{Counter, Echo, Generator};

rt::entry!(main);

/// A port, what its connections are for, their rings (send, receive), how many may wait.
type Service = (u16, fn(TcpStream) -> Connection, u32, u32, u16);

const SERVICES: [Service; 5] = [
    (7002, Connection::echo, 32 << 10, 32 << 10, 4),
    (7003, Connection::byte, 4 << 10, 4 << 10, 16),
    (7004, Connection::count, 4 << 10, 256 << 10, 2),
    (7005, Connection::send, 256 << 10, 4 << 10, 2),
    (7008, Connection::echo, 4 << 10, 4 << 10, 64),
];

fn main(start: &'static rt::StartInfo) -> u64 {
    let rt = match init(start) {
        Ok(rt) => rt,
        Err(e) => {
            rt::log!("the manifest entry is incomplete: {e:?}");
            return 1;
        }
    };
    if let Err(e) = serve(rt) {
        rt::log!("{e}");
    }
    1
}

fn serve(rt: &'static Runtime) -> Result<(), Error> {
    let mut server = Server::new(rt)?;
    let (echo, mut counter, mut generator) =
        (Echo::open(rt)?, Counter::open(rt)?, Generator::open(rt)?);
    for socket in [&echo.socket, &counter.socket, &generator.socket] {
        server.watch(socket)?;
    }
    for (port, make, tx, rx, backlog) in SERVICES {
        server.listen(port, Options { tx, rx, backlog, ..Options::default() }, make)?;
    }
    rt::log!("measuring services on ports 7001 to 7008");
    loop {
        let next = generator.run(rt);
        server.turn(next, |number| match number {
            0 => echo.run(),
            1 => counter.run(),
            _ => {
                generator.look(rt);
                Turn::Wait
            }
        })?;
    }
}
