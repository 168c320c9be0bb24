//! A TCP socket in Linux's words: fresh, connecting, connected, listening.

use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::net::SocketAddr;
use core::sync::atomic::Ordering::Acquire;
use libipc::sock::{Error, Record, State as Tcp, TcpInfo};

use super::data::Data;
use super::numbers::{Errno, ioctl, msg, poll};
use super::options::Settings;
use super::{Result, file};
use crate::net::{Shutdown, TcpListener, TcpStream};
use crate::runtime::Runtime;

/// What sockd has made of it.
enum Made {
    /// Nothing yet: buffer sizes can still be chosen.
    None,
    /// A socket, connected or not.
    Stream(TcpStream),
    /// A listener.
    Listener(TcpListener),
}

/// How `connect` stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Unconnected,
    /// `connect` was called, and waits for data to take along (TCP_FASTOPEN_CONNECT).
    Deferred(SocketAddr),
    Connecting,
    Connected,
}

/// See the [module](self).
pub struct Stream {
    pub(super) rt: &'static Runtime,
    made: Made,
    pub(super) phase: Phase,
    /// Bytes that went with the SYN, until a call that waits for the connection has told them.
    pub(super) went: Option<usize>,
    /// What `bind` has named.
    bound: Option<SocketAddr>,
    /// Ended by `shutdown`: bit 0 receiving, bit 1 sending.
    shut: u8,
    /// What a connection that was given up leaves behind (Linux's `tcp_disconnect`).
    left: Option<Errno>,
    /// What [`Self::doubt`] has told.
    doubted: Cell<Option<Error>>,
}

impl Stream {
    pub fn new(rt: &'static Runtime) -> Self {
        let (made, phase) = (Made::None, Phase::Unconnected);
        Self {
            rt,
            made,
            phase,
            went: None,
            bound: None,
            shut: 0,
            left: None,
            doubted: Cell::new(None),
        }
    }

    fn accepted(rt: &'static Runtime, stream: TcpStream) -> Self {
        stream.set_nonblocking(true);
        stream.set_eager(true);
        Self { made: Made::Stream(stream), phase: Phase::Connected, ..Self::new(rt) }
    }

    pub fn id(&self) -> Option<u32> {
        match &self.made {
            Made::None => None,
            Made::Stream(s) => Some(s.id()),
            Made::Listener(l) => Some(l.id()),
        }
    }

    pub fn record(&self) -> Option<&'static Record> {
        match &self.made {
            Made::None => None,
            Made::Stream(s) => Some(s.record()),
            Made::Listener(l) => Some(l.record()),
        }
    }

    /// Tells netd of another interface.
    pub fn push_device(&self, number: u8) -> Result<()> {
        match &self.made {
            Made::None => {}
            Made::Stream(s) => s.bind_device(number)?,
            Made::Listener(l) => l.bind_device(number)?,
        }
        Ok(())
    }

    pub fn is_listener(&self) -> bool {
        matches!(self.made, Made::Listener(_))
    }

    /// Whether the handshake is over, whoever has asked, and the connection is not.
    pub fn is_connected(&self) -> bool {
        let Made::Stream(stream) = &self.made else { return false };
        match self.phase {
            Phase::Connected => true,
            Phase::Connecting => stream.try_stands().is_ok(),
            _ => false,
        }
    }

    /// Whether there are bytes that nobody has read: closing resets the connection then.
    pub fn has_unread(&self) -> bool {
        matches!(&self.made, Made::Stream(s) if s.unread() > 0)
    }

    /// Tells netd of changed options.
    pub fn push(&self, set: &Settings) {
        match &self.made {
            Made::None => {}
            Made::Stream(s) => apply(s, set),
            Made::Listener(l) => l.take_options(&set.words),
        }
    }

    /// The socket, made now if it was not.
    pub(super) fn open(&mut self, set: &Settings, rings: (u32, u32)) -> Result<&TcpStream> {
        if let Made::None = self.made {
            let (tx, rx) = set.stream_rings(rings);
            let stream = file::with_room(tx, rx, |tx, rx| TcpStream::open(self.rt, tx, rx))?;
            stream.set_nonblocking(true);
            stream.set_eager(true);
            apply(&stream, set);
            stream.bind_device(set.device.get())?;
            self.made = Made::Stream(stream);
        }
        match &self.made {
            Made::Stream(stream) => Ok(stream),
            _ => Err(Errno::EINVAL),
        }
    }

    pub fn bind(&mut self, addr: SocketAddr, set: &Settings, rings: (u32, u32)) -> Result<()> {
        if self.bound.is_some() || self.phase != Phase::Unconnected || self.is_listener() {
            return Err(Errno::EINVAL);
        }
        let stream = self.open(set, rings)?;
        stream.bind(addr)?;
        let addr = stream.local_addr().unwrap_or(addr);
        self.bound = Some(addr);
        Ok(())
    }

    pub fn listen(&mut self, backlog: i32, set: &Settings, rings: (u32, u32)) -> Result<()> {
        // Linux compares without a sign.
        let backlog = (backlog as u32).min(file::MAX_BACKLOG as u32) as u16;
        if let Made::Listener(listener) = &self.made {
            return Ok(listener.set_backlog(backlog)?);
        }
        if self.phase != Phase::Unconnected {
            return Err(Errno::EINVAL);
        }
        if self.bound.is_none() {
            self.bind(([0, 0, 0, 0], 0).into(), set, rings)?;
            // Nobody has named it: a listener that is shut down gives it back.
            self.bound = None;
        }
        let (tx, rx) = set.stream_rings(file::of_backlog(backlog, rings));
        let stream = self.open(set, rings)?;
        file::with_room(tx, rx, |tx, rx| stream.listen(backlog, tx, rx))?;
        if let Made::Stream(stream) = core::mem::replace(&mut self.made, Made::None) {
            let listener = stream.into_listener();
            listener.set_nonblocking(true);
            self.made = Made::Listener(listener);
        }
        Ok(())
    }

    pub fn accept(&mut self) -> Result<(Self, SocketAddr)> {
        let Made::Listener(listener) = &self.made else { return Err(Errno::EINVAL) };
        let (stream, peer) = listener.accept()?;
        Ok((Self::accepted(self.rt, stream), peer))
    }

    /// Begins to connect.
    pub fn connect(&mut self, to: SocketAddr, set: &Settings, rings: (u32, u32)) -> Result<()> {
        if self.is_listener() || matches!(self.phase, Phase::Connected | Phase::Deferred(_)) {
            return Err(Errno::EISCONN);
        }
        if self.phase == Phase::Connecting {
            return match self.connected() {
                Err(Errno::EAGAIN) => Err(Errno::EALREADY),
                other => other,
            };
        }
        // An attempt that failed has used up its socket.
        if self.record().is_some_and(|r| r.state() != Tcp::Open) {
            self.anew(set, rings)?;
        }
        if self.defers(to, set, rings)? {
            return Ok(());
        }
        (self.phase, self.shut, self.left) = (Phase::Connecting, 0, None);
        // On the loop it may stand already. Linux answers before it looks, and so the next call is the one
        // that says how it went.
        Err(Errno::EINPROGRESS)
    }

    /// How the attempt went; [`Errno::EAGAIN`] while it lasts.
    pub fn connected(&mut self) -> Result<()> {
        let Made::Stream(stream) = &self.made else { return Err(Errno::ENOTCONN) };
        match stream.try_connected() {
            Ok(()) => {
                self.phase = Phase::Connected;
                Ok(())
            }
            Err(Error::WouldBlock) => Err(Errno::EAGAIN),
            Err(e) => {
                self.phase = Phase::Unconnected;
                Err(e.into())
            }
        }
    }

    /// Gives the socket up, and makes one anew where it was bound.
    pub fn anew(&mut self, set: &Settings, rings: (u32, u32)) -> Result<()> {
        const LEAVES_RESET: [Tcp; 6] = [
            Tcp::SynSent,
            Tcp::SynReceived,
            Tcp::Established,
            Tcp::CloseWait,
            Tcp::FinWait1,
            Tcp::FinWait2,
        ];
        let state = self.stream().map(TcpStream::state);
        if state.is_some_and(|s| LEAVES_RESET.contains(&s)) {
            self.left = Some(Errno::ECONNRESET);
        }
        self.abort();
        self.went = None;
        (self.made, self.phase, self.shut) = (Made::None, Phase::Unconnected, 0);
        self.doubted.set(None);
        match self.bound.take() {
            Some(addr) => self.bind(addr, set, rings),
            None => Ok(()),
        }
    }

    /// Has it end with a reset when it is dropped.
    pub fn abort(&self) {
        if let Made::Stream(stream) = &self.made {
            stream.opts().set_linger(Some(0));
        }
    }

    /// The error that ended it, the first time.
    pub fn take_error(&mut self) -> Option<Errno> {
        if let Some(left) = self.left.take() {
            return Some(left);
        }
        let Made::Stream(stream) = &self.made else { return None };
        stream.take_error().map(Errno::from)
    }

    /// What ICMP has said of a connection that stands, once.
    pub fn doubt(&self) -> Option<Errno> {
        let said = self.info()?.soft_error;
        if self.doubted.replace(said) == said { None } else { said.map(Errno::from) }
    }

    fn stream(&self) -> Option<&TcpStream> {
        match &self.made {
            Made::Stream(stream) if stream.state() != Tcp::Open => Some(stream),
            _ => None,
        }
    }

    /// Receives up to `count` bytes, of which `into` gets a copy if there is one.
    pub fn recv(&mut self, flags: i32, count: usize, into: Option<&mut Vec<u8>>) -> Result<usize> {
        if let Some(left) = self.left.take() {
            return Err(left);
        }
        let Some(stream) = self.stream() else {
            return if self.shut & 1 != 0 { Ok(0) } else { Err(Errno::ENOTCONN) };
        };
        let take = flags & msg::PEEK == 0;
        if flags & msg::OOB != 0 {
            let byte = stream.read_urgent(take)?;
            if let Some(into) = into {
                into.push(byte);
            }
            return Ok(1);
        }
        let readable = stream.try_readable();
        if take && !matches!(readable, Ok(1..)) {
            stream.pass_urgent();
        }
        let n = match readable? {
            // An attempt that failed, and was told of.
            0 if self.phase == Phase::Unconnected => return Err(Errno::ENOTCONN),
            n => n.min(count),
        };
        match into {
            _ if n == 0 => Ok(0),
            Some(into) if flags & msg::TRUNC == 0 => {
                let at = into.len();
                into.resize(at + n, 0);
                let got = stream.try_read(&mut into[at..], 1, take);
                into.truncate(at + got.unwrap_or(0));
                Ok(got?)
            }
            _ if take => Ok(stream.skip(n)?),
            _ => Ok(n),
        }
    }

    /// Sends bytes of `data` from `at` on: how many.
    pub fn send(&mut self, flags: i32, data: &Data, at: usize) -> Result<usize> {
        let Some(stream) = self.stream() else { return Err(self.broken()) };
        if self.shut & 2 != 0 {
            return Err(self.broken());
        }
        let n = stream.try_writable()?.min(data.len() - at);
        if flags & (msg::MORE | msg::OOB) == 0 {
            let mut from = at;
            return Ok(stream.write_with(n, |part| {
                data.copy(from, part);
                from += part.len();
                part.len()
            })?);
        }
        let mut bytes = vec![0; n];
        data.copy(at, &mut bytes);
        let urgent = flags & msg::OOB != 0;
        Ok(match (urgent, at + n == data.len()) {
            (true, true) => stream.write_urgent(&bytes)?,
            (true, false) => stream.write(&bytes)?,
            _ => stream.write_more(&bytes)?,
        })
    }

    /// Why nothing can be sent.
    fn broken(&mut self) -> Errno {
        self.take_error().unwrap_or(Errno::EPIPE)
    }

    pub fn shutdown(&mut self, how: i32, set: &Settings, rings: (u32, u32)) -> Result<()> {
        let how = match how {
            0 => Shutdown::Read,
            1 => Shutdown::Write,
            2 => Shutdown::Both,
            _ => return Err(Errno::EINVAL),
        };
        if self.is_listener() {
            // Receiving is all that a listener does.
            return if how == Shutdown::Write { Ok(()) } else { self.anew(set, rings) };
        }
        let done = match self.stream() {
            Some(stream) => match stream.state() {
                Tcp::Closed | Tcp::Free => return Err(Errno::ENOTCONN),
                Tcp::SynSent => return self.anew(set, rings),
                _ => Ok(stream.shutdown(how)?),
            },
            // It counts all the same.
            None => Err(Errno::ENOTCONN),
        };
        self.shut |= [1, 2, 3][how as usize];
        done
    }

    /// Whether all that was sent, and the end, is acknowledged: what SO_LINGER waits for.
    pub fn is_quiet(&self) -> bool {
        let Some(stream) = self.stream() else { return true };
        let ending = [Tcp::Established, Tcp::CloseWait, Tcp::FinWait1, Tcp::Closing, Tcp::LastAck];
        !ending.contains(&stream.state())
    }

    /// What the ioctls about queues say; [`Errno::EINVAL`] of a listener.
    pub fn queued(&self, request: i32) -> Result<i32> {
        let Made::Stream(s) = &self.made else {
            let counts = self.is_listener() && request != ioctl::ATMARK;
            return if counts { Err(Errno::EINVAL) } else { Ok(0) };
        };
        Ok(match request {
            ioctl::INQ => s.readable_bytes() as i32,
            ioctl::OUTQ => s.unsent() as i32 + s.owes_end(false) as i32,
            ioctl::OUTQNSD => s.not_sent() as i32 + s.owes_end(true) as i32,
            _ => s.at_mark() as i32,
        })
    }

    /// What may be written and not acknowledged, which the stack has thought right since the connection stands.
    pub fn send_buffer(&self) -> Option<i32> {
        let stream = self.stream().filter(|s| s.record().send_limit() != 0)?;
        Some(stream.opts().send_buffer() as i32)
    }

    pub fn info(&self) -> Option<TcpInfo> {
        self.stream().and_then(|s| s.tcp_info().ok())
    }

    pub fn events(&self) -> i32 {
        let (readable, writable) = (poll::IN | poll::RDNORM, poll::OUT | poll::WRNORM);
        if let Phase::Deferred(_) = self.phase {
            return writable;
        }
        let found = match &self.made {
            _ if self.is_fresh() => {
                let error = if self.left.is_some() { poll::ERR } else { 0 };
                let ended = if self.shut & 1 != 0 { readable | poll::RDHUP } else { 0 };
                return writable | poll::HUP | error | ended;
            }
            Made::None => return writable | poll::HUP,
            Made::Listener(l) if l.record().pending.load(Acquire) > 0 => return readable,
            Made::Listener(_) => return 0,
            Made::Stream(s) => s.poll_bits() as i32,
        };
        let also = |bit, more| if found & bit != 0 { more } else { 0 };
        found | also(poll::IN, poll::RDNORM) | also(poll::OUT, poll::WRNORM)
    }

    /// Whether it is as after `socket`: not connected yet, or not any more.
    fn is_fresh(&self) -> bool {
        match &self.made {
            Made::None => true,
            Made::Stream(stream) => {
                self.phase == Phase::Unconnected
                    && matches!(stream.state(), Tcp::Open | Tcp::Closed | Tcp::Free)
            }
            Made::Listener(_) => false,
        }
    }

    pub fn local(&self) -> SocketAddr {
        let made = match &self.made {
            Made::Stream(s) if self.is_fresh() && s.state() != Tcp::Open => None,
            Made::None => None,
            Made::Stream(s) => s.local_addr().ok(),
            Made::Listener(l) => l.local_addr().ok(),
        };
        made.or(self.bound).unwrap_or(([0, 0, 0, 0], 0).into())
    }

    pub fn peer(&self) -> Result<SocketAddr> {
        let stream = self.stream().filter(|_| self.is_connected());
        let stream = stream.filter(|s| !matches!(s.state(), Tcp::Closed | Tcp::Free));
        Ok(stream.ok_or(Errno::ENOTCONN)?.peer_addr()?)
    }
}

/// Has a stream do as it was told.
fn apply(stream: &TcpStream, set: &Settings) {
    stream.take_options(&set.words);
    match set.send_buffer.get() {
        0 => {}
        bytes => stream.opts().set_send_buffer(bytes as i64 / 2),
    }
}
