//! `nc`: what is typed goes to a peer, what the peer says is shown.

use core::fmt::Write;
use core::net::SocketAddr;
use libipc::sock::{Error, scoped};
use userland::console::{Line, LineEditor};
use userland::net::{Options, Shutdown, TcpListener, TcpStream, UdpSocket, any};
use userland::poll::{Events, Interest, Poll, Source, Token};

use super::failure::{Done, Failure, clip};
use super::{Shell, out};

const USAGE: &str = "nc [-u] HOST PORT, or nc -l [-u] PORT";
const PEER: Token = Token(0);
const CONSOLE: Token = Token(1);
/// What the shell's session has room for.
const OPTIONS: Options =
    Options { tx: 16 << 10, rx: 16 << 10, backlog: 1, connect_timeout: None, user_timeout: None };

/// A line and its end.
type Typed = heapless::Vec<u8, 512>;

/// What the user did while the peer was silent.
#[allow(clippy::large_enum_variant)] // By value: there is no allocation for it.
enum Input {
    Line(Typed),
    /// Ctrl-D: nothing more comes.
    End,
    /// Ctrl-C.
    Stop,
}

/// What was typed before there was a connection.
#[derive(Default)]
struct Early {
    lines: Typed,
    /// Ctrl-D came, too.
    end: bool,
}

/// A poll over the console and one socket.
struct Wait {
    poll: Poll,
    events: Events,
    editor: LineEditor,
}

impl Shell {
    pub(super) fn nc(&mut self, args: &[&str]) -> Done {
        let (mut listen, mut datagrams) = (false, false);
        let mut rest = args;
        while let [flag @ ("-l" | "-u" | "-lu" | "-ul"), more @ ..] = rest {
            listen |= flag.contains('l');
            datagrams |= flag.contains('u');
            rest = more;
        }
        let (ip, port) = match (listen, rest) {
            (false, [ip, port]) => (*ip, *port),
            (true, [port]) => ("0.0.0.0", *port),
            _ => return Err(Failure::Usage(USAGE)),
        };
        let (ip, device) = self.zoned(ip)?;
        let port = port.parse::<u16>().ok().filter(|p| *p > 0);
        let port = port.ok_or(Failure::NoNumber("nc", clip(rest[rest.len() - 1])))?;
        let at = scoped(SocketAddr::new(ip, port), device);
        match (listen, datagrams) {
            (false, false) => self.connect(at),
            (true, false) => self.listen(at),
            (_, true) => self.datagrams(at, listen),
        }
        .map_err(Failure::Nc)
    }

    fn connect(&mut self, to: SocketAddr) -> Result<(), Error> {
        let stream = TcpStream::start_connect(self.rt, to, OPTIONS)?;
        let mut wait = self.wait_for(&stream)?;
        let mut early = Early::default();
        loop {
            match stream.try_connected() {
                Ok(()) => return self.talk(stream, wait, early),
                Err(Error::WouldBlock) => {}
                Err(e) => return Err(e),
            }
            match self.input(&mut wait) {
                // More than there is room for is lost: the peer may never answer.
                Some(Input::Line(line)) => drop(early.lines.extend_from_slice(&line)),
                Some(Input::End) => early.end = true,
                Some(Input::Stop) => return Ok(()),
                None => {}
            }
        }
    }

    fn listen(&mut self, at: SocketAddr) -> Result<(), Error> {
        match self.accept(at)? {
            Some(stream) => {
                let wait = self.wait_for(&stream)?;
                self.talk(stream, wait, Early::default())
            }
            None => Ok(()),
        }
    }

    /// The first connection that comes; `None`: the user ended the wait.
    pub(super) fn accept(&mut self, at: SocketAddr) -> Result<Option<TcpStream>, Error> {
        let listener = TcpListener::bind_with(self.rt, at, OPTIONS)?;
        listener.set_nonblocking(true);
        out!(self, "listening on port {}; Ctrl-C ends it", at.port());
        let mut wait = self.wait_for(&listener)?;
        let (stream, peer) = loop {
            match listener.accept() {
                Err(Error::WouldBlock) => {}
                other => break other?,
            }
            if let Some(Input::Stop) = self.input(&mut wait) {
                return Ok(None);
            }
        };
        drop((wait, listener));
        out!(self, "connection from {peer}");
        Ok(Some(stream))
    }

    fn talk(&mut self, stream: TcpStream, mut wait: Wait, early: Early) -> Result<(), Error> {
        stream.set_nonblocking(true);
        let Early { lines: mut unsent, mut end } = early;
        let mut buffer = [0; 512];
        loop {
            match stream.write(&unsent) {
                Ok(n) => {
                    unsent.rotate_left(n);
                    unsent.truncate(unsent.len() - n);
                }
                Err(Error::WouldBlock) => {}
                Err(e) => return Err(e),
            }
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    self.show(&buffer[..n]);
                    continue;
                }
                Err(Error::WouldBlock) => {}
                Err(e) => return Err(e),
            }
            if unsent.is_empty() && core::mem::take(&mut end) {
                stream.shutdown(Shutdown::Write)?;
            }
            match self.input(&mut wait) {
                Some(Input::Line(line)) if unsent.extend_from_slice(&line).is_err() => {
                    out!(self, "the peer takes nothing now: type the last line again later");
                }
                Some(Input::Line(_)) | None => {}
                Some(Input::End) => end = true,
                Some(Input::Stop) => {
                    stream.set_abort_on_drop(true);
                    return Ok(());
                }
            }
        }
    }

    /// Sends to `at`, or, listening there, to whoever spoke last.
    fn datagrams(&mut self, at: SocketAddr, listen: bool) -> Result<(), Error> {
        let from = if listen { at } else { any(0) };
        let socket = UdpSocket::bind_with(self.rt, from, OPTIONS)?;
        socket.set_nonblocking(true);
        // Who names a broadcast address here means it.
        socket.opts().set_flag(libipc::sock::option::BROADCAST, true);
        if listen {
            out!(self, "listening on UDP port {}; Ctrl-C ends it", at.port());
        } else {
            socket.connect(at)?;
        }
        let mut peer = (!listen).then_some(at);
        let mut wait = self.wait_for(&socket)?;
        let mut buffer = [0; 1472];
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((n, from)) => {
                    if peer != Some(from) {
                        out!(self, "datagrams from {from}");
                        peer = Some(from);
                    }
                    self.show(&buffer[..n]);
                    continue;
                }
                Err(Error::WouldBlock) => {}
                Err(e) => return Err(e),
            }
            match (self.input(&mut wait), peer) {
                (Some(Input::Line(line)), Some(to)) => drop(socket.send_to(&line, to)?),
                (Some(Input::Line(_)), None) => out!(self, "nobody has sent anything yet"),
                (Some(Input::End | Input::Stop), _) => return Ok(()),
                (None, _) => {}
            }
        }
    }

    fn wait_for(&self, socket: &impl Source) -> Result<Wait, Error> {
        let poll = Poll::new(self.rt)?;
        poll.register_console(CONSOLE);
        poll.register(socket, PEER, Interest::READABLE | Interest::WRITABLE);
        Ok(Wait { poll, events: Events::with_capacity(4), editor: LineEditor::new() })
    }

    /// What was typed, after waiting for that or for the peer.
    fn input(&mut self, wait: &mut Wait) -> Option<Input> {
        let mut line = self.out.try_line("", &mut wait.editor);
        if line.is_none() {
            wait.poll.poll(&mut wait.events, None);
            self.rt.take_console();
            line = self.out.try_line("", &mut wait.editor);
        }
        Some(match line? {
            Line::Text(text) => {
                let mut typed = Typed::new();
                let _ = typed.extend_from_slice(text.as_bytes());
                let _ = typed.push(b'\n');
                Input::Line(typed)
            }
            Line::Interrupted => Input::Stop,
            Line::End => Input::End,
        })
    }

    /// Shows what a peer said: text as it is, and a dot for what might steer the terminal.
    fn show(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(128) {
            let mut text = heapless::Vec::<u8, 128>::new();
            for b in piece {
                let plain = matches!(b, b' '..=b'~' | b'\n' | b'\t');
                let _ = match b {
                    b'\r' => Ok(()),
                    _ => text.push(if plain { *b } else { b'.' }),
                };
            }
            self.out.write(&text);
        }
    }
}
