//! One HTTP connection as a state machine over a non-blocking stream.
//!
//! [`Connection::run`] does what can be done now, within a budget, so that many connections share
//! one thread: a long digest is computed in slices, a long download fills the send ring and waits.

use core::time::Duration;
use libipc::sock::Error;
use sha2::{Digest, Sha256};

use super::request::{self, Target};
use super::response::{self, HEAD_MAX, Status};
use crate::bytes;
use crate::net::{Shutdown, TcpStream};
use crate::runtime::Instant;

/// Longest request head.
pub const MAX_HEAD: usize = 4096;
/// Bytes that one turn of a connection generates or digests at most.
const BUDGET: usize = 256 << 10;
/// Bytes digested between looks at the clock and the other connections.
const DIGEST_SLICE: usize = 64 << 10;
/// How long a connection may sit between requests.
const IDLE: Duration = Duration::from_secs(60);
/// How long a begun request head may take.
const HEAD_TIME: Duration = Duration::from_secs(20);
/// How long the peer may take to accept more of a response.
const STALL: Duration = Duration::from_secs(120);
/// How long to wait for the peer's end after ours.
const LINGER: Duration = Duration::from_secs(5);

/// A byte stream that never blocks.
pub trait Stream {
    /// As [`TcpStream::read`].
    fn read(&self, into: &mut [u8]) -> Result<usize, Error>;
    /// As [`TcpStream::write_with`].
    fn write_with(&self, max: usize, f: &mut dyn FnMut(&mut [u8]) -> usize)
    -> Result<usize, Error>;
    /// Ends the sending direction.
    fn finish(&self) -> Result<(), Error>;
    /// Whether the peer has ended its direction or is gone.
    fn peer_has_ended(&self) -> bool;
}

impl Stream for TcpStream {
    fn read(&self, into: &mut [u8]) -> Result<usize, Error> {
        TcpStream::read(self, into)
    }
    fn write_with(
        &self,
        max: usize,
        f: &mut dyn FnMut(&mut [u8]) -> usize,
    ) -> Result<usize, Error> {
        TcpStream::write_with(self, max, f)
    }
    fn finish(&self) -> Result<(), Error> {
        self.shutdown(Shutdown::Write)
    }
    fn peer_has_ended(&self) -> bool {
        TcpStream::peer_has_ended(self)
    }
}

/// What is left to do after [`Connection::run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is work that needs no event: run it again soon.
    Again,
    /// Wait for the socket, at most until then.
    Wait(Instant),
    /// Over: drop the connection.
    Over,
}

enum Body {
    None,
    Text(&'static str),
    /// Position and end in the byte sequence.
    Bytes(u64, u64),
    /// Digest and newline.
    Hex([u8; 65]),
}

// Connections are boxed as they are; a box more would save nothing.
#[allow(clippy::large_enum_variant)]
enum State {
    /// Reads a request head into the buffer.
    Reading,
    /// Computes the digest of the bytes up to the end; position and end.
    Digesting(Sha256, u64, u64),
    /// Sends head, then body, from these offsets.
    Sending {
        head: heapless::String<HEAD_MAX>,
        sent: usize,
        body: Body,
        body_sent: usize,
    },
    /// Has ended its direction; waits for the peer's end, so that no unread byte makes the kernel
    /// of the other side throw away our last response (RFC 9112, 9.6).
    Lingering,
    Over,
}

/// A connection.
pub struct Connection<S> {
    stream: S,
    state: State,
    input: heapless::Vec<u8, MAX_HEAD>,
    /// Bytes of a request body still to be thrown away.
    skip: u64,
    keep_alive: bool,
    head_only: bool,
    deadline: Instant,
}

impl<S: Stream> Connection<S> {
    /// A connection just accepted.
    pub fn new(stream: S, now: Instant) -> Self {
        Self {
            stream,
            state: State::Reading,
            input: heapless::Vec::new(),
            skip: 0,
            keep_alive: true,
            head_only: false,
            deadline: now + IDLE,
        }
    }

    /// The stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Whether it waits for a request of which nothing has come.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Reading) && self.input.is_empty()
    }

    /// Until when it would wait.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Does what can be done now.
    pub fn run(&mut self, now: Instant) -> Next {
        let mut budget = BUDGET;
        loop {
            let progress = match &mut self.state {
                State::Reading => self.read_request(now),
                State::Digesting(..) => self.digest(now, &mut budget),
                State::Sending { .. } => self.send(now, &mut budget),
                State::Lingering if now >= self.deadline => Err(Error::TimedOut),
                State::Lingering => self.linger(&mut budget),
                State::Over => return Next::Over,
            };
            match progress {
                Ok(()) if budget == 0 => return Next::Again,
                Ok(()) => {}
                Err(Error::WouldBlock) if now < self.deadline => {
                    return Next::Wait(self.deadline);
                }
                Err(Error::WouldBlock) => self.out_of_time(now),
                Err(_) => self.state = State::Over,
            }
        }
    }

    fn out_of_time(&mut self, now: Instant) {
        match self.state {
            State::Reading if !self.input.is_empty() => self.refuse(Status::Timeout, now),
            State::Reading => self.close(now),
            _ => self.state = State::Over,
        }
    }

    fn read_request(&mut self, now: Instant) -> Result<(), Error> {
        let skipped = self.skip.min(self.input.len() as u64) as usize;
        if skipped > 0 {
            self.consume(skipped);
            self.skip -= skipped as u64;
        }
        if !self.input.is_empty() {
            match request::parse(&self.input) {
                Ok(Some(request)) => {
                    self.begin(request, now);
                    return Ok(());
                }
                Ok(None) if self.input.is_full() => {
                    self.refuse(Status::HeadersTooLarge, now);
                    return Ok(());
                }
                Ok(None) => {}
                Err(status) => {
                    self.refuse(status, now);
                    return Ok(());
                }
            }
        }
        let mut piece = [0; 1024];
        let room = piece.len().min(self.input.capacity() - self.input.len());
        match self.stream.read(&mut piece[..room])? {
            0 => self.close(now),
            n => {
                if self.input.is_empty() {
                    self.deadline = now + HEAD_TIME;
                }
                let _ = self.input.extend_from_slice(&piece[..n]);
            }
        }
        Ok(())
    }

    fn consume(&mut self, n: usize) {
        self.input.rotate_left(n);
        self.input.truncate(self.input.len() - n);
    }

    fn begin(&mut self, request: request::Request, now: Instant) {
        self.consume(request.len);
        self.skip = request.body;
        self.keep_alive = request.keep_alive;
        self.head_only = request.head_only;
        match request.target {
            Ok(Target::Home) => {
                let body = Status::Ok.body();
                let kind = "text/html; charset=utf-8";
                self.respond(Status::Ok, kind, body.len() as u64, Body::Text(body), now);
            }
            Ok(Target::Bytes(n)) => {
                self.respond(Status::Ok, "application/octet-stream", n, Body::Bytes(0, n), now);
            }
            // The digest's length is known without computing it.
            Ok(Target::Digest(_)) if self.head_only => {
                self.respond(Status::Ok, "text/plain", 65, Body::None, now);
            }
            Ok(Target::Digest(n)) => self.state = State::Digesting(Sha256::new(), 0, n),
            Err(status) => self.say(status, now),
        }
    }

    /// Answers a head that cannot be made sense of; what follows it cannot either.
    fn refuse(&mut self, status: Status, now: Instant) {
        self.keep_alive = false;
        self.head_only = false;
        self.input.clear();
        self.say(status, now);
    }

    fn say(&mut self, status: Status, now: Instant) {
        let body = status.body();
        let kind = "text/plain; charset=utf-8";
        self.respond(status, kind, body.len() as u64, Body::Text(body), now);
    }

    fn respond(&mut self, status: Status, kind: &str, length: u64, body: Body, now: Instant) {
        let head = response::head(status, kind, length, self.keep_alive);
        let body = if self.head_only { Body::None } else { body };
        self.state = State::Sending { head, sent: 0, body, body_sent: 0 };
        self.deadline = now + STALL;
    }

    fn digest(&mut self, now: Instant, budget: &mut usize) -> Result<(), Error> {
        if self.stream.peer_has_ended() {
            // Nobody waits for it: as other servers do, take a half-closed client for gone.
            self.state = State::Over;
            return Ok(());
        }
        let State::Digesting(hasher, at, end) = &mut self.state else { return Ok(()) };
        let mut piece = [0; 4096];
        let mut left = DIGEST_SLICE;
        while left > 0 && at < end {
            let n = (*end - *at).min(piece.len() as u64) as usize;
            bytes::fill(*at, &mut piece[..n]);
            hasher.update(&piece[..n]);
            *at += n as u64;
            left = left.saturating_sub(n);
        }
        if at < end {
            *budget = 0;
            return Ok(());
        }
        let digest = core::mem::take(hasher).finalize();
        let mut hex = [b'\n'; 65];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
            pair[0] = b"0123456789abcdef"[byte as usize >> 4];
            pair[1] = b"0123456789abcdef"[byte as usize & 15];
        }
        self.respond(Status::Ok, "text/plain", 65, Body::Hex(hex), now);
        Ok(())
    }

    fn send(&mut self, now: Instant, budget: &mut usize) -> Result<(), Error> {
        let State::Sending { head, sent, body, body_sent } = &mut self.state else { return Ok(()) };
        let n = if *sent < head.len() {
            let n = copy_from(&self.stream, &head.as_bytes()[*sent..])?;
            *sent += n;
            n
        } else {
            let n = match body {
                Body::None => 0,
                Body::Text(text) => copy_from(&self.stream, &text.as_bytes()[*body_sent..])?,
                Body::Hex(hex) => copy_from(&self.stream, &hex[*body_sent..])?,
                Body::Bytes(at, end) => {
                    let left = usize::try_from(*end - *at).unwrap_or(usize::MAX);
                    let max = left.min(*budget);
                    if max == 0 {
                        0
                    } else {
                        self.stream.write_with(max, &mut |to| {
                            bytes::fill(*at, to);
                            *at += to.len() as u64;
                            to.len()
                        })?
                    }
                }
            };
            *body_sent = body_sent.wrapping_add(n);
            n
        };
        if n > 0 {
            self.deadline = now + STALL;
            *budget = budget.saturating_sub(n);
            return Ok(());
        }
        match (self.keep_alive, self.stream.peer_has_ended() && self.input.is_empty()) {
            (true, false) => {
                self.state = State::Reading;
                self.deadline = now + if self.input.is_empty() { IDLE } else { HEAD_TIME };
            }
            _ => self.close(now),
        }
        Ok(())
    }

    fn close(&mut self, now: Instant) {
        self.state = match self.stream.finish() {
            Ok(()) => State::Lingering,
            Err(_) => State::Over,
        };
        self.deadline = now + LINGER;
    }

    fn linger(&mut self, budget: &mut usize) -> Result<(), Error> {
        let mut waste = [0; 1024];
        match self.stream.read(&mut waste)? {
            0 => self.state = State::Over,
            n => *budget = budget.saturating_sub(n),
        }
        Ok(())
    }
}

/// Writes the beginning of `bytes`; 0 if there is nothing to write.
fn copy_from(stream: &impl Stream, bytes: &[u8]) -> Result<usize, Error> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let mut rest = bytes;
    stream.write_with(bytes.len(), &mut |to| {
        let (now, later) = rest.split_at(to.len());
        to.copy_from_slice(now);
        rest = later;
        to.len()
    })
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
