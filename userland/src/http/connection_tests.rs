//! Connections over a stream that gives and takes as much as a test says.

extern crate std;

use super::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

#[derive(Default)]
struct Pipe {
    input: RefCell<VecDeque<u8>>,
    /// Most bytes of one read; 0: all.
    at_once: Cell<usize>,
    output: RefCell<Vec<u8>>,
    /// Bytes that the send ring has room for.
    room: Cell<usize>,
    peer_ended: Cell<bool>,
    reset: Cell<bool>,
    finished: Cell<bool>,
}

impl Stream for &Pipe {
    fn read(&self, into: &mut [u8]) -> Result<usize, Error> {
        if self.reset.get() {
            return Err(Error::ConnectionReset);
        }
        let mut input = self.input.borrow_mut();
        let most = if self.at_once.get() == 0 { into.len() } else { self.at_once.get() };
        let n = into.len().min(most).min(input.len());
        for b in &mut into[..n] {
            *b = input.pop_front().unwrap();
        }
        match n {
            0 if self.peer_ended.get() => Ok(0),
            0 => Err(Error::WouldBlock),
            n => Ok(n),
        }
    }
    fn write_with(
        &self,
        max: usize,
        f: &mut dyn FnMut(&mut [u8]) -> usize,
    ) -> Result<usize, Error> {
        assert!(!self.finished.get(), "written after the end");
        if self.reset.get() {
            return Err(Error::ConnectionReset);
        }
        let n = max.min(self.room.get());
        if n == 0 {
            return Err(Error::WouldBlock);
        }
        // In two pieces, as at a ring's end.
        let mut filled = 0;
        for len in [n / 2, n - n / 2] {
            if len > 0 {
                let mut piece = std::vec![0; len];
                assert_eq!(f(&mut piece), len);
                self.output.borrow_mut().extend(piece);
                filled += len;
            }
        }
        self.room.set(self.room.get() - n);
        Ok(filled)
    }
    fn finish(&self) -> Result<(), Error> {
        self.finished.set(true);
        Ok(())
    }
    fn peer_has_ended(&self) -> bool {
        self.peer_ended.get() || self.reset.get()
    }
}

impl Pipe {
    fn wide() -> Self {
        let pipe = Pipe::default();
        pipe.room.set(usize::MAX / 2);
        pipe
    }
    fn type_in(&self, text: &str) {
        self.input.borrow_mut().extend(text.bytes());
    }
    fn output(&self) -> String {
        String::from_utf8_lossy(&core::mem::take(&mut *self.output.borrow_mut())).to_string()
    }
}

const T0: Instant = Instant(1_000_000_000);

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: b\r\n\r\n")
}

/// Runs until it waits or is over.
fn settle(c: &mut Connection<&Pipe>, now: Instant) -> Next {
    for _ in 0..10_000 {
        match c.run(now) {
            Next::Again => {}
            other => return other,
        }
    }
    panic!("it never waits");
}

/// Status line and body of one response.
fn split(response: &str) -> (&str, &str) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{response:?}"));
    (head.lines().next().unwrap(), body)
}

#[test]
fn requests_are_answered_one_after_the_other() {
    let pipe = Pipe::wide();
    let mut c = Connection::new(&pipe, T0);
    assert_eq!(settle(&mut c, T0), Next::Wait(T0 + IDLE));
    pipe.type_in(&get("/"));
    assert_eq!(settle(&mut c, T0), Next::Wait(T0 + IDLE));
    let page = pipe.output();
    assert!(split(&page).1.contains("<title>Breakwater</title>"));
    assert!(page.contains("Connection: keep-alive"));
    for (path, status) in [
        ("/bytes/5", "HTTP/1.1 200 OK"),
        ("/bytes/five", "HTTP/1.1 400 Bad Request"),
        ("/nothing", "HTTP/1.1 404 Not Found"),
    ] {
        pipe.type_in(&get(path));
        settle(&mut c, T0);
        assert_eq!(split(&pipe.output()).0, status);
    }
    // Three at once, in small reads.
    pipe.at_once.set(3);
    pipe.type_in(&(get("/nothing") + &get("/bytes/0") + &get("/bytes/1")));
    settle(&mut c, T0);
    assert_eq!(pipe.output().matches("\r\nServer: ").count(), 3);
}

#[test]
fn bytes_and_their_digest_agree_with_the_stream() {
    use sha2::{Digest, Sha256};
    let pipe = Pipe::wide();
    let mut c = Connection::new(&pipe, T0);
    for len in [0usize, 1, 63, 64, 65, 100_001, 300_000] {
        pipe.type_in(&get(&format!("/bytes/{len}")));
        settle(&mut c, T0);
        let raw = core::mem::take(&mut *pipe.output.borrow_mut());
        let start = raw.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let mut want = std::vec![0; len];
        bytes::fill(0, &mut want);
        assert!(raw[start..] == want[..], "{len} bytes");

        pipe.type_in(&get(&format!("/bytes/{len}/sha256")));
        settle(&mut c, T0);
        let hex: String = Sha256::digest(&want).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(split(&pipe.output()).1, hex + "\n");
    }
}

#[test]
fn a_narrow_stream_gets_the_same_bytes() {
    let pipe = Pipe::default();
    let mut c = Connection::new(&pipe, T0);
    pipe.type_in(&get("/bytes/20000"));
    let mut turns = 0;
    while pipe.output.borrow().len() < 20_000 || turns < 3000 {
        assert!(matches!(settle(&mut c, T0), Next::Wait(_)));
        pipe.room.set(1 + turns % 13);
        turns += 1;
    }
    let raw = pipe.output.borrow();
    let start = raw.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let mut want = std::vec![0; 20_000];
    bytes::fill(0, &mut want);
    assert!(raw[start..] == want[..]);
}

#[test]
fn a_long_answer_is_given_in_turns() {
    let pipe = Pipe::wide();
    let mut c = Connection::new(&pipe, T0);
    pipe.type_in(&get("/bytes/18446744073709551615"));
    for turn in 1..5 {
        assert_eq!(c.run(T0), Next::Again);
        assert!(pipe.output.borrow().len() <= turn * BUDGET + HEAD_MAX);
    }
    assert!(pipe.output().contains("Content-Length: 18446744073709551615\r\n"));
    let pipe = Pipe::wide();
    let mut c = Connection::new(&pipe, T0);
    pipe.type_in(&get("/bytes/1000000000/sha256"));
    for _ in 0..3 {
        assert_eq!(c.run(T0), Next::Again);
    }
    assert_eq!(pipe.output(), "");
    // The client leaves: nobody computes on.
    pipe.peer_ended.set(true);
    assert_eq!(c.run(T0), Next::Over);
}

#[test]
fn head_has_the_same_head_and_no_body() {
    let pipe = Pipe::wide();
    let mut c = Connection::new(&pipe, T0);
    for path in ["/", "/bytes/1000", "/bytes/1000/sha256", "/nothing"] {
        pipe.type_in(&get(path));
        settle(&mut c, T0);
        let full = pipe.output();
        pipe.type_in(&get(path).replace("GET", "HEAD"));
        settle(&mut c, T0);
        let head = pipe.output();
        assert!(full.starts_with(&head) && head.ends_with("\r\n\r\n"), "{path}: {head}");
        assert!(full.len() > head.len());
    }
}

#[test]
fn other_methods_are_refused_and_their_bodies_skipped() {
    let pipe = Pipe::wide();
    let mut c = Connection::new(&pipe, T0);
    let body = get("/").repeat(50);
    let length = body.len();
    pipe.type_in(&format!("PUT / HTTP/1.1\r\nHost: b\r\nContent-Length: {length}\r\n\r\n{body}"));
    pipe.type_in(&get("/nothing"));
    settle(&mut c, T0);
    let out = pipe.output();
    assert!(out.starts_with("HTTP/1.1 405 ") && out.contains("Allow: GET, HEAD"));
    assert_eq!(out.matches("\r\nServer: ").count(), 2, "what is in a body is no request: {out}");
    assert!(out.contains("HTTP/1.1 404 "));
}

#[test]
fn what_is_no_request_ends_the_connection() {
    for (input, status) in [
        ("GET / FTP/1.1\r\n\r\n".to_string(), "400"),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(MAX_HEAD)), "431"),
        ("GET / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: x\r\n\r\n".to_string(), "501"),
    ] {
        let pipe = Pipe::wide();
        let mut c = Connection::new(&pipe, T0);
        pipe.type_in(&input);
        pipe.type_in(&get("/"));
        assert_eq!(settle(&mut c, T0), Next::Wait(T0 + LINGER));
        let out = pipe.output();
        assert!(out.contains(&format!("HTTP/1.1 {status} ")), "{out}");
        assert!(out.contains("Connection: close"));
        assert_eq!(out.matches("\r\nServer: ").count(), 1);
        assert!(pipe.finished.get());
        pipe.peer_ended.set(true);
        assert_eq!(settle(&mut c, T0), Next::Over);
    }
}

#[test]
fn connections_end_when_asked_or_when_the_peer_is_gone() {
    let pipe = Pipe::wide();
    let mut c = Connection::new(&pipe, T0);
    pipe.type_in("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(settle(&mut c, T0), Next::Wait(T0 + LINGER));
    assert!(pipe.finished.get() && pipe.output().contains("Connection: close"));
    // The peer says nothing more: we do not wait for ever, whatever else it sends.
    pipe.type_in("junk");
    assert_eq!(settle(&mut c, T0), Next::Wait(T0 + LINGER));
    assert_eq!(settle(&mut c, T0 + LINGER), Next::Over);

    let pipe = Pipe::wide();
    let mut c = Connection::new(&pipe, T0);
    pipe.type_in(&get("/"));
    pipe.peer_ended.set(true);
    assert_eq!(settle(&mut c, T0), Next::Over);
    assert!(pipe.output().contains("200 OK"), "a half-closed client gets its answer");

    let pipe = Pipe::wide();
    let mut c = Connection::new(&pipe, T0);
    settle(&mut c, T0);
    pipe.reset.set(true);
    assert_eq!(settle(&mut c, T0), Next::Over);
}

#[test]
fn slow_peers_are_given_up() {
    let pipe = Pipe::wide();
    let mut c = Connection::new(&pipe, T0);
    pipe.type_in("GET / HT");
    assert_eq!(settle(&mut c, T0), Next::Wait(T0 + HEAD_TIME));
    // A byte now and then does not buy more time.
    pipe.type_in("T");
    assert_eq!(settle(&mut c, T0 + HEAD_TIME / 2), Next::Wait(T0 + HEAD_TIME));
    settle(&mut c, T0 + HEAD_TIME);
    assert!(pipe.output().starts_with("HTTP/1.1 408 "));

    let pipe = Pipe::wide();
    let mut c = Connection::new(&pipe, T0);
    settle(&mut c, T0 + IDLE);
    assert!(pipe.finished.get() && pipe.output().is_empty());

    let pipe = Pipe::default();
    let mut c = Connection::new(&pipe, T0);
    pipe.type_in(&get("/"));
    assert_eq!(settle(&mut c, T0), Next::Wait(T0 + STALL));
    assert_eq!(settle(&mut c, T0 + STALL), Next::Over);
}

#[test]
fn random_input_never_stops_it() {
    let mut state = 7u64;
    let mut random = |n: u64| {
        state = state.wrapping_add(1);
        bytes::word(state) % n
    };
    let words = [
        "GET ",
        "HEAD ",
        "/",
        "/bytes/",
        "9",
        "/sha256",
        " HTTP/1.1",
        " HTTP/1.0",
        "\r\n",
        "\n",
        "Host: b\r\n",
        "Content-Length: 3\r\n",
        "Connection: close\r\n",
        "\r\n\r\n",
        "\u{0}",
        "x",
        "POST ",
        "Transfer-Encoding: chunked\r\n",
        ":",
        " ",
    ];
    for _ in 0..3000 {
        let pipe = Pipe::wide();
        pipe.at_once.set(random(7) as usize);
        let mut c = Connection::new(&pipe, T0);
        let mut now = T0;
        for _ in 0..random(60) {
            pipe.type_in(words[random(words.len() as u64) as usize]);
            if random(4) == 0 && settle(&mut c, now) == Next::Over {
                break;
            }
        }
        if random(2) == 0 {
            pipe.type_in("\r\n\r\n");
        }
        // Whatever came, time ends it.
        for _ in 0..10 {
            match settle(&mut c, now) {
                Next::Wait(until) => now = until,
                _ => break,
            }
        }
        assert_eq!(settle(&mut c, now), Next::Over);
    }
}
