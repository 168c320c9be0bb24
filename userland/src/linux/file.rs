//! What a descriptor names, and the calls that it is given to.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;
use libipc::sock::Error;

use super::ancillary::{self, Control};
use super::data::Data;
use super::datagram::Datagram;
use super::flavour::Flavour;
use super::numbers::{Errno, af, fcntl, ioctl, ipproto, msg, poll, sock, tcp};
use super::options::Settings;
use super::stream::Stream;
use super::{Result, addr};
use crate::runtime::Runtime;

/// Longest queue of a listener (Linux's `somaxconn` is 4096; here each place has rings).
pub(super) const MAX_BACKLOG: u16 = 256;
/// Bytes of the longest datagram.
pub(super) const MAX_DATAGRAM: usize = 65_535;
/// Smallest ring.
const MIN_RING: u32 = 4096;

/// Bytes of rings for all that may wait for a listener: sent, received.
const BACKLOG_ROOM: (u32, u32) = (4 << 20, 8 << 20);

/// Rings of each connection that waits: `usual`, unless so many would leave nothing for other sockets.
pub(super) fn of_backlog(backlog: u16, usual: (u32, u32)) -> (u32, u32) {
    let each = |room: u32, usual: u32| usual.min(1 << (room / backlog.max(1) as u32).ilog2());
    (each(BACKLOG_ROOM.0, usual.0), each(BACKLOG_ROOM.1, usual.1))
}

/// Makes something with rings of these sizes, or with smaller ones if the session has no room.
pub(super) fn with_room<T>(
    mut tx: u32,
    mut rx: u32,
    mut make: impl FnMut(u32, u32) -> core::result::Result<T, Error>,
) -> Result<T> {
    loop {
        match make(tx, rx) {
            Err(Error::NoBuffers) if tx > MIN_RING || rx > MIN_RING => {
                (tx, rx) = ((tx / 2).max(MIN_RING), (rx / 2).max(MIN_RING));
            }
            other => return Ok(other?),
        }
    }
}

/// What was received.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The call's result: bytes.
    pub count: usize,
    /// Flags as `recvmsg` tells them.
    pub flags: i32,
    /// Control messages, if there is room for any.
    pub control: Vec<u8>,
    /// Who sent it, of a datagram: bytes of a `sockaddr`.
    pub from: Vec<u8>,
    /// The bytes, if they were wanted.
    pub data: Vec<u8>,
}

pub(super) enum Kind {
    Stream(Stream),
    Datagram(Datagram),
}

/// See the [module](self).
pub struct File {
    pub(super) domain: i32,
    pub(super) flags: i32,
    /// FD_CLOEXEC.
    pub(super) closes_on_exec: bool,
    pub(super) set: Settings,
    pub(super) kind: Kind,
    /// Ring sizes unless an option asks for others.
    pub(super) rings: (u32, u32),
}

impl File {
    /// `socket(2)`. `rings`: bytes of its send and receive ring unless options say otherwise.
    ///
    /// # Errors
    /// As the call has them.
    pub fn socket(
        rt: &'static Runtime,
        domain: i32,
        ty: i32,
        protocol: i32,
        rings: (u32, u32),
    ) -> Result<Self> {
        // In Linux's order: flags, family, type, protocol.
        let plain = ty & !(sock::NONBLOCK | sock::CLOEXEC);
        if plain & !0xf != 0 {
            return Err(Errno::EINVAL);
        }
        let known = [af::INET, af::INET6].contains(&domain);
        if !known && (0..af::MAX).contains(&domain) && plain >= sock::MAX {
            return Err(Errno::EINVAL);
        }
        if !known {
            return Err(Errno::EAFNOSUPPORT);
        }
        if plain >= sock::MAX || !(0..ipproto::MAX).contains(&protocol) {
            return Err(Errno::EINVAL);
        }
        let nonblock = ty & sock::NONBLOCK;
        let kind = match (plain, protocol) {
            (sock::STREAM, 0 | ipproto::TCP) => Kind::Stream(Stream::new(rt)),
            (ty @ (sock::DGRAM | sock::RAW), _) => {
                Kind::Datagram(Datagram::new(rt, Flavour::of(domain, ty, protocol)?))
            }
            (sock::STREAM, _) => return Err(Errno::EPROTONOSUPPORT),
            _ => return Err(Errno::ESOCKTNOSUPPORT),
        };
        let set = Settings::new();
        let mut file = Self {
            domain,
            flags: fcntl::RDWR | nonblock,
            closes_on_exec: ty & sock::CLOEXEC != 0,
            set,
            kind,
            rings,
        };
        if let Kind::Datagram(d) = &mut file.kind {
            d.begin(&file.set, rings)?;
        }
        Ok(file)
    }

    /// The socket's id in the program's session, once there is one.
    pub fn id(&self) -> Option<u32> {
        match &self.kind {
            Kind::Stream(s) => s.id(),
            Kind::Datagram(d) => d.id(),
        }
    }

    /// Whether a call with these flags (of receiving) is to answer instead of waiting.
    pub fn is_nonblocking(&self, flags: i32) -> bool {
        // Nobody waits for an error, or for an urgent byte (Linux's `tcp_recv_urg`).
        let never = match self.kind {
            Kind::Stream(_) => msg::DONTWAIT | msg::ERRQUEUE | msg::OOB,
            Kind::Datagram(_) => msg::DONTWAIT | msg::ERRQUEUE,
        };
        self.flags & fcntl::NONBLOCK != 0 || flags & never != 0
    }

    pub(super) fn runtime(&self) -> &'static Runtime {
        match &self.kind {
            Kind::Stream(s) => s.rt,
            Kind::Datagram(d) => d.rt,
        }
    }

    /// How long a call may wait: SO_RCVTIMEO or SO_SNDTIMEO.
    pub fn patience(&self, receives: bool) -> Option<Duration> {
        let set = &self.set;
        if receives { set.receive_timeout.get() } else { set.send_timeout.get() }
    }

    /// `bind(2)`.
    ///
    /// # Errors
    /// As the call has them.
    pub fn bind(&mut self, to: &[u8]) -> Result<()> {
        let to = addr::read_own(to, self.domain)?;
        self.enter_scope(to, true)?;
        match &mut self.kind {
            Kind::Stream(s) => s.bind(to, &self.set, self.rings),
            Kind::Datagram(d) => d.bind(to, &self.set, self.rings),
        }
    }

    /// `listen(2)`.
    ///
    /// # Errors
    /// As the call has them.
    pub fn listen(&mut self, backlog: i32) -> Result<()> {
        match &mut self.kind {
            Kind::Stream(s) => s.listen(backlog, &self.set, self.rings),
            Kind::Datagram(_) => Err(Errno::EOPNOTSUPP),
        }
    }

    /// `accept(2)`: the connection, and its peer's `sockaddr`.
    ///
    /// # Errors
    /// As the call has them; [`Errno::EAGAIN`]: none yet.
    pub fn accept(&mut self) -> Result<(Self, Vec<u8>)> {
        let Kind::Stream(s) = &mut self.kind else { return Err(Errno::EOPNOTSUPP) };
        let (stream, peer) = s.accept()?;
        let (domain, rings) = (self.domain, self.rings);
        let (set, kind) = (self.set.inherited(), Kind::Stream(stream));
        let file = Self { domain, flags: fcntl::RDWR, closes_on_exec: false, set, kind, rings };
        file.push();
        Ok((file, addr::write(peer, domain)))
    }

    /// `connect(2)`.
    ///
    /// # Errors
    /// As the call has them. [`Errno::EINPROGRESS`]: [`Self::connected`] says how it goes.
    pub fn connect(&mut self, to: &[u8]) -> Result<()> {
        if addr::family(to)? == af::UNSPEC {
            return match &mut self.kind {
                Kind::Stream(s) => s.anew(&self.set, self.rings),
                Kind::Datagram(d) => d.connect(None, &self.set, self.rings),
            };
        }
        let to = addr::read(to, self.domain)?;
        self.enter_scope(to, false)?;
        match &mut self.kind {
            Kind::Stream(s) => s.connect(to, &self.set, self.rings),
            Kind::Datagram(d) => d.connect(Some(to), &self.set, self.rings),
        }
    }

    /// How a connection attempt went.
    ///
    /// # Errors
    /// What ended it; [`Errno::EAGAIN`] while it lasts.
    pub fn connected(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Stream(s) => s.connected(),
            Kind::Datagram(_) => Ok(()),
        }
    }

    /// `sendmsg(2)` of `data` from `at` on: bytes taken. A datagram goes as a whole.
    ///
    /// # Errors
    /// As the call has them; [`Errno::EAGAIN`]: no room.
    pub fn send(
        &mut self,
        flags: i32,
        to: &[u8],
        control: &[u8],
        data: &Data,
        at: usize,
    ) -> Result<usize> {
        let how = ancillary::read(control, self.domain)?;
        let wait = !self.is_nonblocking(flags & msg::DONTWAIT);
        match &mut self.kind {
            Kind::Stream(s) if s.is_fast(flags) => {
                let to = match to {
                    [] => None,
                    to if addr::family(to)? == af::UNSPEC => return Err(Errno::EOPNOTSUPP),
                    to => Some(addr::read(to, self.domain)?),
                };
                s.send_fast(to, (flags, data, at), wait, &self.set, self.rings)
            }
            Kind::Stream(s) => s.send(flags, data, at),
            Kind::Datagram(d) => {
                let to = match to {
                    [] => None,
                    to => Some(addr::read_to(to, self.domain)?),
                };
                d.send(flags, to, &how, data, &self.set, self.rings)
            }
        }
    }

    /// A sending call that [`Self::send`] has told to wait waits no more: bytes that it has sent, of one that
    /// connects.
    pub fn gave_up(&mut self) -> Option<usize> {
        match &mut self.kind {
            Kind::Stream(s) => s.gave_up(),
            Kind::Datagram(_) => None,
        }
    }

    /// `recvmsg(2)`. `want`: whether the bytes are wanted; `room`: for control messages.
    ///
    /// # Errors
    /// As the call has them; [`Errno::EAGAIN`]: nothing there.
    pub fn recv(&mut self, flags: i32, count: usize, want: bool, room: usize) -> Result<Message> {
        let mut m = Message::default();
        let mut control = Control::default();
        let wait = !self.is_nonblocking(flags);
        let (domain, set) = (self.domain, &self.set);
        if flags & msg::ERRQUEUE != 0 {
            let Kind::Datagram(d) = &mut self.kind else { return Err(Errno::EAGAIN) };
            let entry = d.take_undelivered()?;
            m.count = entry.data.len().min(count);
            m.flags = msg::ERRQUEUE | if entry.data.len() > count { msg::TRUNC } else { 0 };
            m.from = addr::write(entry.to, domain);
            control.put_error(room, domain, &entry);
            m.data = entry.data;
            m.data.truncate(if want { m.count } else { 0 });
        } else {
            let into = want.then_some(&mut m.data);
            match &mut self.kind {
                Kind::Stream(s) => {
                    m.count = s.recv(flags, count, into)?;
                    if set.noted(ipproto::TCP, tcp::INQ) != 0 {
                        let left = s.queued(ioctl::INQ)?;
                        control.put(room, ipproto::TCP, tcp::INQ, &left.to_le_bytes());
                    }
                }
                Kind::Datagram(d) => {
                    let taken = match d.recv(flags, count, into) {
                        // Nobody waits for what will not come.
                        Err(Errno::EAGAIN) if d.has_ended() && wait => return Ok(m),
                        taken => taken?,
                    };
                    m.from = addr::write(taken.from, domain);
                    m.count = if flags & msg::TRUNC != 0 { taken.len } else { taken.copied };
                    m.flags = if taken.len > count { msg::TRUNC } else { 0 };
                    taken.tell(&mut control, room, domain, set);
                }
            }
        }
        m.flags |= control.flags;
        m.control = control.bytes;
        Ok(m)
    }

    /// How many bytes a receiving call waits for: one, unless SO_RCVLOWAT or MSG_WAITALL ask for more.
    pub fn enough(&self, flags: i32, count: usize) -> usize {
        let Kind::Stream(_) = self.kind else { return 1 };
        if flags & msg::WAITALL != 0 {
            return count;
        }
        count.min(self.set.words.rcv_lowat.load(Relaxed).max(1) as usize)
    }

    /// Whether no more will come than has.
    pub fn has_ended(&self) -> bool {
        self.events() & poll::RDHUP != 0
    }

    /// `shutdown(2)`.
    ///
    /// # Errors
    /// As the call has them.
    pub fn shutdown(&mut self, how: i32) -> Result<()> {
        match &mut self.kind {
            Kind::Stream(s) => s.shutdown(how, &self.set, self.rings),
            Kind::Datagram(d) => d.shutdown(how),
        }
    }

    /// Begins `close(2)`. `Some`: the socket lingers, so drop it when [`Self::is_quiet`] or after so
    /// long; `None`: drop it now.
    pub fn close(&mut self) -> Option<Duration> {
        let Kind::Stream(s) = &mut self.kind else { return None };
        match self.set.linger.get() {
            Some(0) => {
                s.abort();
                None
            }
            Some(seconds) if s.is_connected() && !s.has_unread() => {
                let _ = s.shutdown(1, &self.set, self.rings);
                Some(Duration::from_secs(seconds as u64))
            }
            _ => None,
        }
    }

    /// Whether the peer has acknowledged all, and the end.
    pub fn is_quiet(&self) -> bool {
        match &self.kind {
            Kind::Stream(s) => s.is_quiet(),
            Kind::Datagram(_) => true,
        }
    }

    /// Has it end with a reset when it is dropped.
    pub fn abort(&self) {
        if let Kind::Stream(s) = &self.kind {
            s.abort();
        }
    }

    /// What `poll(2)` finds.
    pub fn events(&self) -> i32 {
        match &self.kind {
            Kind::Stream(s) => s.events(),
            Kind::Datagram(d) => d.events(),
        }
    }

    /// `getsockname(2)`.
    pub fn local(&self) -> Vec<u8> {
        let local: SocketAddr = match &self.kind {
            Kind::Stream(s) => s.local(),
            Kind::Datagram(d) => d.local(),
        };
        addr::write(local, self.domain)
    }

    /// `getpeername(2)`.
    ///
    /// # Errors
    /// [`Errno::ENOTCONN`].
    pub fn peer(&self) -> Result<Vec<u8>> {
        let peer = match &self.kind {
            Kind::Stream(s) => s.peer()?,
            Kind::Datagram(d) => d.peer()?,
        };
        Ok(addr::write(peer, self.domain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_queue_has_small_rings() {
        let usual = (256 << 10, 256 << 10);
        for (backlog, expected) in
            [(1, usual), (16, usual), (17, (128 << 10, 256 << 10)), (256, (16 << 10, 32 << 10))]
        {
            assert_eq!(of_backlog(backlog, usual), expected, "{backlog}");
        }
        assert_eq!(of_backlog(5, (16 << 10, 64 << 10)), (16 << 10, 64 << 10));
    }
}
