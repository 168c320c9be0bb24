//! A UDP socket in Linux's words.

use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::sync::atomic::Ordering::Relaxed;
use libipc::sock::Error;

use super::data::Data;
use super::flavour::{self, Flavour};
use super::numbers::{Errno, msg, poll};
use super::options::Settings;
use super::{Result, file};
use crate::net::{Shutdown, UdpSocket};
use crate::runtime::Runtime;

/// See the [module](self).
pub struct Datagram {
    rt: &'static Runtime,
    pub(super) flavour: Flavour,
    made: Option<UdpSocket>,
    bound: bool,
    peer: Option<SocketAddr>,
    shut: u8,
}

/// A datagram that was taken.
pub struct Taken {
    /// Bytes that were copied.
    pub copied: usize,
    /// Bytes that it had.
    pub len: usize,
    /// Who sent it.
    pub from: SocketAddr,
}

impl Datagram {
    pub fn new(rt: &'static Runtime, flavour: Flavour) -> Self {
        Self { rt, flavour, made: None, bound: false, peer: None, shut: 0 }
    }

    pub fn id(&self) -> Option<u32> {
        self.made.as_ref().map(UdpSocket::id)
    }

    /// Tells netd of changed options.
    pub fn push(&self, set: &Settings) {
        if let Some(socket) = &self.made {
            socket.take_options(&set.words);
        }
    }

    /// The socket, made now if it was not.
    fn open(&mut self, set: &Settings, rings: (u32, u32)) -> Result<&UdpSocket> {
        if self.made.is_none() {
            let (tx, rx) = (set.sending(rings.0), set.receiving(rings.1));
            let socket = file::with_room(tx, rx, |tx, rx| {
                UdpSocket::open(self.rt, self.flavour.kind(), tx, rx)
            })?;
            socket.set_nonblocking(true);
            socket.take_options(&set.words);
            self.made = Some(socket);
        }
        self.made.as_ref().ok_or(Errno::EINVAL)
    }

    /// A raw socket gets packets from the beginning.
    pub fn begin(&mut self, set: &Settings, rings: (u32, u32)) -> Result<()> {
        if let Some(first) = self.flavour.first() {
            self.open(set, rings)?.bind_to(first)?;
            self.bound = true;
        }
        Ok(())
    }

    pub fn bind(&mut self, addr: SocketAddr, set: &Settings, rings: (u32, u32)) -> Result<()> {
        if self.bound && self.flavour.first().is_none() {
            return Err(Errno::EINVAL);
        }
        let addr = self.flavour.place(addr);
        self.open(set, rings)?.bind_to(addr)?;
        self.bound = true;
        Ok(())
    }

    fn bound(&mut self, set: &Settings, rings: (u32, u32)) -> Result<()> {
        let any = match self.flavour {
            Flavour::Ping(six) => flavour::any(six),
            _ => flavour::any(false),
        };
        if self.bound { Ok(()) } else { self.bind((any, 0).into(), set, rings) }
    }

    pub fn connect(
        &mut self,
        to: Option<SocketAddr>,
        set: &Settings,
        rings: (u32, u32),
    ) -> Result<()> {
        let Some(to) = to else {
            // The socket has a peer for good: another takes its place.
            let local = self.local();
            let was = core::mem::replace(self, Self::new(self.rt, self.flavour));
            drop(was.made);
            self.begin(set, rings)?;
            return if was.bound { self.bind(local, set, rings) } else { Ok(()) };
        };
        self.open(set, rings)?.connect(to)?;
        (self.peer, self.bound) = (Some(to), true);
        Ok(())
    }

    /// Sends one datagram.
    pub fn send(
        &mut self,
        to: Option<SocketAddr>,
        data: &Data,
        set: &Settings,
        rings: (u32, u32),
    ) -> Result<usize> {
        if self.shut & 2 != 0 {
            return Err(Errno::EPIPE);
        }
        let to = match to {
            Some(to) if to.port() == 0 && self.flavour == Flavour::Udp => {
                return Err(Errno::EINVAL);
            }
            Some(to) => to,
            None => self.peer.ok_or(Errno::EDESTADDRREQ)?,
        };
        self.bound(set, rings)?;
        if let Some(e) = self.take_error() {
            return Err(e);
        }
        let mut at = self.flavour.part(data)?;
        let len = data.len();
        self.open(set, rings)?.send_to_with(to, len - at, |part| {
            data.copy(at, part);
            at += part.len();
        })?;
        Ok(len)
    }

    /// Takes the next datagram, or looks at it.
    pub fn recv(&mut self, flags: i32, count: usize, into: Option<&mut Vec<u8>>) -> Result<Taken> {
        let ended = self.shut & 1 != 0;
        let Some(socket) = &self.made else {
            return Err(if ended { Errno::ENOTCONN } else { Errno::EAGAIN });
        };
        if self.flavour != Flavour::Udp {
            return self.recv_other(flags, count, into);
        }
        let mut copy = vec![0; if into.is_some() { count.min(file::MAX_DATAGRAM) } else { 0 }];
        let taken = if flags & msg::PEEK != 0 {
            socket.look(|d| Taken { copied: d.read(0, &mut copy), len: d.len(), from: d.sender() })
        } else {
            socket.recv_with(|d| Taken {
                copied: d.read(0, &mut copy),
                len: d.len(),
                from: d.sender(),
            })
        };
        let mut taken = taken.map_err(|e| match e {
            Error::WouldBlock => Errno::EAGAIN,
            e => e.into(),
        })?;
        match into {
            Some(into) => into.extend(&copy[..taken.copied]),
            None => taken.copied = taken.len.min(count),
        }
        Ok(taken)
    }

    /// As [`Self::recv`], of an echo reply or a packet.
    fn recv_other(
        &mut self,
        flags: i32,
        count: usize,
        into: Option<&mut Vec<u8>>,
    ) -> Result<Taken> {
        let (flavour, Some(socket)) = (self.flavour, &self.made) else { return Err(Errno::EAGAIN) };
        let whole = |d: &crate::net::Datagram<'_>| (flavour.whole(d), d.sender());
        let found = match flags & msg::PEEK != 0 {
            true => socket.look(whole),
            false => socket.recv_with(whole),
        };
        let (bytes, from) = found?;
        let copied = bytes.len().min(count);
        if let Some(into) = into {
            into.extend(&bytes[..copied]);
        }
        Ok(Taken { copied, len: bytes.len(), from })
    }

    pub fn take_error(&mut self) -> Option<Errno> {
        self.made.as_ref()?.take_error().map(Errno::from)
    }

    pub fn shutdown(&mut self, how: i32) -> Result<()> {
        let how = match how {
            0 => Shutdown::Read,
            1 => Shutdown::Write,
            2 => Shutdown::Both,
            _ => return Err(Errno::EINVAL),
        };
        if self.peer.is_none() {
            return Err(Errno::ENOTCONN);
        }
        self.shut |= [1, 2, 3][how as usize];
        Ok(())
    }

    /// Bytes of the next datagram, or that wait to be sent.
    pub fn queued(&self, received: bool) -> i32 {
        let Some(socket) = &self.made else { return 0 };
        if received {
            let before = self.flavour.before();
            return socket.look(|d| (before + d.len()) as i32).unwrap_or(0);
        }
        let sent = socket.record().dgram_tx_head();
        socket.words().tx_tail.load(Relaxed).wrapping_sub(sent) as i32
    }

    pub fn events(&self) -> i32 {
        let (readable, writable) = (poll::IN | poll::RDNORM, poll::OUT | poll::WRNORM);
        let mut found = writable | poll::WRBAND;
        if let Some(socket) = &self.made {
            let head = socket.words().rx_head.load(Relaxed);
            if socket.record().dgram_rx_tail() != head {
                found |= readable;
            }
            if socket.has_error() {
                found |= poll::ERR;
            }
        }
        if self.shut & 1 != 0 {
            found |= readable | poll::RDHUP;
        }
        if self.shut == 3 {
            found |= poll::HUP;
        }
        found
    }

    pub fn local(&self) -> SocketAddr {
        let made = self.made.as_ref().and_then(|s| s.local_addr().ok());
        made.unwrap_or(([0, 0, 0, 0], 0).into())
    }

    pub fn peer(&self) -> Result<SocketAddr> {
        self.peer.ok_or(Errno::ENOTCONN)
    }
}
