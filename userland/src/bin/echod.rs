//! Echo on TCP and UDP port 7 (RFC 862), many connections, one thread.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use userland::net::{Options, TcpListener, TcpStream, UdpSocket};
use userland::runtime::Runtime;
use userland::{Error, init};

rt::entry!(main);

const PORT: u16 = 7;
const RING: u32 = 16 << 10;
const BACKLOG: u16 = 16;
/// Bytes moved for one connection before the others get their turn.
const BUDGET: usize = 64 << 10;
/// Datagrams answered before the others get their turn.
const TURN: usize = 64;
/// Largest datagram.
const DATAGRAM: usize = 2048;

/// What to do with a connection after a turn.
#[derive(PartialEq, Eq)]
enum Turn {
    /// Wait for news.
    Wait,
    /// There is more to do.
    Again,
    /// Drop it.
    Over,
}

struct Client {
    stream: TcpStream,
    /// It has news, or its last turn ended before its work did.
    again: bool,
}

fn main(start: &'static rt::StartInfo) -> u64 {
    let rt = match init(start) {
        Ok(rt) => rt,
        Err(e) => {
            rt::log!("the manifest entry is incomplete: {e:?}");
            return 1;
        }
    };
    match serve(rt) {
        Ok(()) => 0,
        Err(e) => {
            rt::log!("{e}");
            1
        }
    }
}

fn serve(rt: &'static Runtime) -> Result<(), Error> {
    let any = ([0, 0, 0, 0], PORT).into();
    let options = Options { tx: RING, rx: RING, backlog: BACKLOG, ..Options::default() };
    let listener = TcpListener::bind_with(rt, any, options)?;
    let udp = UdpSocket::bind(rt, any)?;
    listener.set_nonblocking(true);
    udp.set_nonblocking(true);
    rt::log!("serving on port {PORT}, TCP and UDP");
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut more_datagrams = false;
    loop {
        if !more_datagrams && !clients.iter().flatten().any(|c| c.again) {
            rt.wait(None);
        }
        rt.take_console();
        while let Some(id) = rt.next_ready() {
            if id == listener.id() {
                accept(&listener, &mut clients)?;
            } else if id == udp.id() {
                more_datagrams = true;
            } else if let Some(client) = clients.get_mut(id as usize).and_then(Option::as_mut) {
                client.again = true;
            }
        }
        if more_datagrams {
            more_datagrams = datagrams(&udp)?;
        }
        for place in &mut clients {
            let Some(client) = place.as_mut().filter(|c| c.again) else { continue };
            match echo(&client.stream) {
                Turn::Wait => client.again = false,
                Turn::Again => {}
                Turn::Over => *place = None,
            }
        }
    }
}

fn accept(listener: &TcpListener, clients: &mut Vec<Option<Client>>) -> Result<(), Error> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(Error::WouldBlock) => return Ok(()),
            Err(_) if listener.is_listening() => continue,
            Err(e) => return Err(e),
        };
        stream.set_nonblocking(true);
        let id = stream.id() as usize;
        if clients.len() <= id {
            clients.resize_with(id + 1, || None);
        }
        clients[id] = Some(Client { stream, again: true });
    }
}

/// Moves what can be moved: received bytes go straight into the send ring.
fn echo(stream: &TcpStream) -> Turn {
    let mut left = BUDGET;
    while left > 0 {
        let waiting = stream.unread() as usize;
        if waiting == 0 {
            match stream.peek(&mut [0]) {
                // A byte came in this instant.
                Ok(1..) => continue,
                Err(Error::WouldBlock) => return Turn::Wait,
                // The peer ended: so do we. What is still in the send ring goes out first.
                Ok(0) | Err(_) => return Turn::Over,
            }
        }
        let mut failed = None;
        let moved = stream.write_with(waiting.min(left), |to| match stream.read(to) {
            Ok(n) => n,
            Err(e) => {
                failed = Some(e);
                0
            }
        });
        match (moved, failed) {
            (Ok(n), None) => left = left.saturating_sub(n.max(1)),
            (Err(Error::WouldBlock), _) => return Turn::Wait,
            _ => return Turn::Over,
        }
    }
    Turn::Again
}

/// Answers some datagrams; `true` if there may be more.
fn datagrams(udp: &UdpSocket) -> Result<bool, Error> {
    let mut bytes = [0; DATAGRAM];
    for _ in 0..TURN {
        match udp.recv_from(&mut bytes) {
            // No room to send: UDP may lose it.
            Ok((n, from)) => drop(udp.send_to(&bytes[..n], from)),
            Err(Error::WouldBlock) => return Ok(false),
            Err(e @ (Error::ConnectionAborted | Error::NoSession)) => return Err(e),
            Err(_) => {}
        }
    }
    Ok(true)
}
