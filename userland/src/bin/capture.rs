//! Packet captures for the outside: a TCP service that sends pcap.
//!
//! A client connects to port 2002, sends one line, the filter ([`userland::filter`]; empty: everything), and gets a capture
//! file that does not end before the connection does; or a line that says what is wrong with the filter. The service's own
//! traffic is left out. Who reads too slowly loses frames, not the system.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use libipc::sock::Error;
use userland::filter;
use userland::net::{Capture, Options, PCAP_HEADER, TcpListener, TcpStream};
use userland::poll::{Events, Interest, Poll, Token};
use userland::runtime::Runtime;

rt::entry!(main);

const PORT: u16 = 2002;
/// Sessions at a time.
const SESSIONS: usize = 4;
/// Longest filter, bytes.
const LINE: usize = 1024;
/// Frames of one session before others have their turn.
const TURN: usize = 64;
/// Longest frame: what the NIC cuts into segments is captured whole.
const FRAME: usize = 65_536;
/// Ring of a tap, bytes.
const RING: u32 = 256 << 10;

/// Tokens: the listener, then stream and tap of each session.
const LISTENER: Token = Token(usize::MAX);

struct Session {
    stream: TcpStream,
    line: Vec<u8>,
    tap: Option<Capture>,
    /// What the stream had no room for.
    rest: Vec<u8>,
}

fn main(start: &'static rt::StartInfo) -> u64 {
    match userland::init(start).map_err(|e| format!("{e:?}")).and_then(serve) {
        Ok(()) => 0,
        Err(why) => {
            rt::log!("capture: {why}");
            1
        }
    }
}

fn serve(rt: &'static Runtime) -> Result<(), String> {
    let say = |e: Error| format!("{e}");
    let poll = Poll::new(rt).map_err(say)?;
    let options = Options { tx: 64 << 10, rx: 4 << 10, backlog: 2, ..Options::default() };
    let listener = TcpListener::bind_with(rt, ([0; 4], PORT).into(), options).map_err(say)?;
    listener.set_nonblocking(true);
    poll.register(&listener, LISTENER, Interest::READABLE);
    let mut sessions: [Option<Session>; SESSIONS] = [const { None }; SESSIONS];
    let mut events = Events::with_capacity(2 * SESSIONS + 1);
    let mut frame = alloc::vec![0; FRAME];
    loop {
        poll.poll(&mut events, None);
        for event in events.iter() {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut sessions).map_err(say)?;
                continue;
            }
            let number = event.token().0 / 2;
            let Some(place) = sessions.get_mut(number) else { continue };
            let Some(session) = place else { continue };
            if session.step(rt, &poll, number, &mut frame).is_err() {
                *place = None;
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poll: &Poll,
    sessions: &mut [Option<Session>; SESSIONS],
) -> Result<(), Error> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(Error::WouldBlock) => return Ok(()),
            Err(_) if listener.is_listening() => continue,
            Err(e) => return Err(e),
        };
        stream.set_nonblocking(true);
        let Some(number) = sessions.iter().position(Option::is_none) else {
            let _ = stream.write(b"there are 4 captures already: end one of them\n");
            continue;
        };
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.register(&stream, Token(2 * number), both);
        let (line, rest) = (Vec::new(), Vec::new());
        sessions[number] = Some(Session { stream, line, tap: None, rest });
    }
}

impl Session {
    /// Goes on as far as it can. An error ends the session.
    fn step(
        &mut self,
        rt: &Runtime,
        poll: &Poll,
        number: usize,
        frame: &mut [u8],
    ) -> Result<(), Error> {
        if self.tap.is_none() {
            match self.request(poll, number) {
                Err(Error::WouldBlock) => return Ok(()),
                other => other?,
            }
        } else {
            self.heed_the_end()?;
        }
        match self.copy(rt, poll, frame) {
            Err(Error::WouldBlock) => Ok(()),
            other => other,
        }
    }

    /// Reads the filter and opens the tap.
    fn request(&mut self, poll: &Poll, number: usize) -> Result<(), Error> {
        let mut byte = [0];
        loop {
            if self.stream.read(&mut byte)? == 0 {
                return Err(Error::NotConnected);
            }
            if byte == *b"\n" {
                break;
            }
            if self.line.len() == LINE {
                return self.refuse("the filter is longer than 1024 bytes");
            }
            self.line.push(byte[0]);
        }
        let words = core::str::from_utf8(&self.line).unwrap_or("?").trim();
        let own = format!("not tcp port {PORT}");
        let text = if words.is_empty() { own } else { format!("{own} and ({words})") };
        // Words are counted as the client wrote them.
        let program = match filter::compile(words).and_then(|_| filter::compile(&text)) {
            Ok(program) => program,
            Err(e) => return self.refuse(&format!("{e}")),
        };
        let rt = self.stream.runtime();
        let tap = match Capture::open(rt, RING) {
            Ok(tap) => tap,
            Err(e) => return self.refuse(&format!("{e}")),
        };
        tap.set_filter(&program)?;
        poll.register(&tap, Token(2 * number + 1), Interest::READABLE);
        self.tap = Some(tap);
        self.rest.extend(PCAP_HEADER);
        Ok(())
    }

    fn refuse(&self, why: &str) -> Result<(), Error> {
        self.stream.write(format!("{why}\n").as_bytes())?;
        Err(Error::Invalid)
    }

    /// Whatever the client still says is passed over; when it goes, so does the session.
    fn heed_the_end(&mut self) -> Result<(), Error> {
        let mut bytes = [0; 64];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(Error::NotConnected),
                Ok(_) => {}
                Err(Error::WouldBlock) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    fn copy(&mut self, rt: &Runtime, poll: &Poll, frame: &mut [u8]) -> Result<(), Error> {
        let Some(tap) = &self.tap else { return Ok(()) };
        let booted =
            rt.info().and_then(|i| i.utc_at_boot).map_or(Duration::ZERO, Duration::from_nanos);
        for _ in 0..TURN {
            while !self.rest.is_empty() {
                let sent = self.stream.write(&self.rest)?;
                self.rest.drain(..sent);
            }
            let seen = tap.try_next(frame)?;
            self.rest.extend(seen.pcap(booted));
            self.rest.extend(&frame[..seen.captured]);
        }
        poll.again(tap);
        Ok(())
    }
}
