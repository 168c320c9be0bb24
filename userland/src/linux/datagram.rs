//! A UDP socket in Linux's words.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::sync::atomic::Ordering::Relaxed;
use libipc::sock::{Dgram, Error, Heard, Notice, On, Record, option};

use super::ancillary::Control;
use super::data::Data;
use super::flavour::{self, Flavour};
use super::numbers::{Errno, af, ip, ipproto, ipv6, msg, poll, so, udp};
use super::options::Settings;
use super::{Result, addr, file};
use crate::net::{Ancillary, Datagram as Datagrams, Shutdown, UdpSocket, Undelivered, find_device};
use crate::runtime::Runtime;

/// See the [module](self).
pub struct Datagram {
    pub(super) rt: &'static Runtime,
    pub(super) flavour: Flavour,
    made: Option<UdpSocket>,
    bound: bool,
    peer: Option<SocketAddr>,
    shut: u8,
    /// What MSG_MORE and UDP_CORK gather, and for whom.
    corked: Option<(SocketAddr, Vec<u8>)>,
    /// An address that was found to be one host's.
    reached: Option<Ipv4Addr>,
}

/// A datagram that was taken.
pub struct Taken {
    /// Bytes that were copied.
    pub copied: usize,
    /// Bytes that it had.
    pub len: usize,
    /// Who sent it.
    pub from: SocketAddr,
    to: IpAddr,
    port: u16,
    interface: u8,
    ttl: u8,
    tos: u8,
    dropped: u32,
}

impl Taken {
    /// Puts into `control` what the program wants to know of it, in Linux's order.
    pub fn tell(&self, control: &mut Control, max: usize, domain: i32, set: &Settings) {
        let bits = set.words.options.load(Relaxed);
        let (v4, int) = (self.from.is_ipv4(), |n: u8| (n as i32).to_le_bytes());
        if self.dropped != 0 && set.noted(so::SOCKET, so::RXQ_OVFL) != 0 {
            control.put(max, so::SOCKET, so::RXQ_OVFL, &self.dropped.to_le_bytes());
        }
        if bits & option::PKTINFO != 0 {
            control.put_packet_info(max, domain, self.to, self.interface);
        }
        if bits & option::RECVTTL != 0 {
            match v4 {
                true => control.put(max, ipproto::IP, ip::TTL, &int(self.ttl)),
                false => control.put(max, ipproto::IPV6, ipv6::HOPLIMIT, &int(self.ttl)),
            }
        }
        if bits & option::RECVTOS != 0 {
            match v4 {
                true => control.put(max, ipproto::IP, ip::TOS, &[self.tos]),
                false => control.put(max, ipproto::IPV6, ipv6::TCLASS, &int(self.tos)),
            }
        }
        if v4 && set.noted(ipproto::IP, ip::RECVORIGDSTADDR) != 0 {
            let to = addr::write((self.to, self.port).into(), af::INET);
            control.put(max, ipproto::IP, ip::RECVORIGDSTADDR, &to);
        }
    }
}

impl Datagram {
    pub fn new(rt: &'static Runtime, flavour: Flavour) -> Self {
        let (made, peer, corked, reached) = (None, None, None, None);
        Self { rt, flavour, made, bound: false, peer, shut: 0, corked, reached }
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

    /// netd's words of it, once it is made.
    pub fn record(&self) -> Option<&'static Record> {
        self.made.as_ref().map(UdpSocket::record)
    }

    /// Tells netd of another interface.
    pub fn push_device(&self, number: u8) -> Result<()> {
        self.made.as_ref().map_or(Ok(()), |s| Ok(s.bind_device(number)?))
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
            socket.bind_device(set.device.get())?;
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
            if let (Some(socket), Some(_)) = (&self.made, self.peer.take()) {
                socket.disconnect()?;
                self.bound = self.local().port() != 0;
            }
            return Ok(());
        };
        self.open(set, rings)?.connect(to)?;
        (self.peer, self.bound) = (Some(to), true);
        Ok(())
    }

    /// Sends one datagram, or, with MSG_MORE or UDP_CORK, a part of one.
    pub fn send(
        &mut self,
        flags: i32,
        to: Option<SocketAddr>,
        how: &Ancillary,
        data: &Data,
        set: &Settings,
        rings: (u32, u32),
    ) -> Result<usize> {
        if flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.shut & 2 != 0 {
            return Err(Errno::EPIPE);
        }
        let gathered = self.corked.as_ref().map(|c| c.0);
        let to = match to.or(gathered) {
            Some(to) if to.port() == 0 && self.flavour == Flavour::Udp => {
                return Err(Errno::EINVAL);
            }
            Some(to) => to,
            None => self.peer.ok_or(Errno::EDESTADDRREQ)?,
        };
        if let Some(number) = how.device {
            find_device(self.rt, On::Number(number))?;
        }
        self.bound(set, rings)?;
        if let Some(e) = self.take_error() {
            return Err(e);
        }
        if flags & msg::PROBE != 0 {
            return Ok(data.len());
        }
        self.may_reach(to, set)?;
        let more = flags & msg::MORE != 0 || set.noted(ipproto::UDP, udp::CORK) != 0;
        let more = more && self.flavour == Flavour::Udp;
        if !more && self.corked.is_none() {
            self.emit(to, how, data, set, rings)?;
            return Ok(data.len());
        }
        self.gather(to, data)?;
        if !more {
            self.uncork(how, set, rings)?;
        }
        Ok(data.len())
    }

    /// Refuses what goes to all of a network without SO_BROADCAST. Which addresses those are netd knows, so
    /// one that can be such is tried once with a socket of its own.
    fn may_reach(&mut self, to: SocketAddr, set: &Settings) -> Result<()> {
        let IpAddr::V4(ip) = to.ip() else { return Ok(()) };
        let free = set.words.options.load(Relaxed) & option::BROADCAST != 0;
        let odd = ip.octets()[3] & 3 != 3 || ip.is_broadcast() || ip.is_loopback();
        if free || odd || self.flavour != Flavour::Udp || self.reached == Some(ip) {
            return Ok(());
        }
        let probe = UdpSocket::open(self.rt, self.flavour.kind(), 4096, 4096)?;
        if let Err(e @ Error::Prohibited) = probe.connect((ip, 9).into()) {
            return Err(e.into());
        }
        self.reached = Some(ip);
        Ok(())
    }

    fn gather(&mut self, to: SocketAddr, data: &Data) -> Result<()> {
        let (_, bytes) = self.corked.get_or_insert((to, Vec::new()));
        let (at, len) = (bytes.len(), bytes.len() + data.len());
        if len > Dgram::MAX_V4 {
            return Err(Errno::EMSGSIZE);
        }
        bytes.resize(len, 0);
        data.copy(0, &mut bytes[at..]);
        Ok(())
    }

    /// Sends what was gathered.
    pub fn uncork(&mut self, how: &Ancillary, set: &Settings, rings: (u32, u32)) -> Result<()> {
        let Some((to, bytes)) = self.corked.take() else { return Ok(()) };
        self.emit(to, how, &Data::Bytes(bytes), set, rings)
    }

    fn emit(
        &mut self,
        to: SocketAddr,
        how: &Ancillary,
        data: &Data,
        set: &Settings,
        rings: (u32, u32),
    ) -> Result<()> {
        let mut at = self.flavour.part(data)?;
        let len = data.len() - at;
        let socket = self.open(set, rings)?;
        let sent = socket.send_msg_with(Some(to), how, len, |part| {
            data.copy(at, part);
            at += part.len();
        });
        let wants = set.words.options.load(Relaxed) & option::RECVERR != 0;
        if sent == Err(Error::MessageTooLong) && wants && len <= Dgram::MAX_V4 {
            let errno = Errno::EMSGSIZE.0 as u32;
            let notice = Notice { errno, origin: Notice::LOCAL, info: 1500, ..Notice::default() };
            let by = to.ip();
            socket.add_undelivered(Undelivered { notice, to, by, data: Vec::new() });
        }
        Ok(sent?)
    }

    /// Joins a group, or leaves it.
    pub fn membership(
        &mut self,
        (group, on): (IpAddr, On),
        join: bool,
        set: &Settings,
        rings: (u32, u32),
    ) -> Result<()> {
        let socket = self.open(set, rings)?;
        Ok(if join { socket.join_on(group, on) } else { socket.leave_on(group, on) }?)
    }

    /// Changes which sources of a group are heard.
    pub fn hear(
        &mut self,
        (group, source, on): (IpAddr, IpAddr, On),
        heard: Heard,
        set: &Settings,
        rings: (u32, u32),
    ) -> Result<()> {
        Ok(self.open(set, rings)?.hear(group, source, on, heard)?)
    }

    /// Takes the next datagram, or looks at it.
    pub fn recv(&mut self, flags: i32, count: usize, into: Option<&mut Vec<u8>>) -> Result<Taken> {
        // As Linux: an error is told before what has arrived.
        if let Some(e) = self.take_error() {
            return Err(e);
        }
        let socket = self.made.as_ref().ok_or(Errno::EAGAIN)?;
        let mut copy = vec![0; if into.is_some() { count.min(file::MAX_DATAGRAM) } else { 0 }];
        let (dropped, port) = (socket.dropped(), self.local().port());
        let flavour = self.flavour;
        let mut part = |d: &Datagrams<'_>| match flavour {
            Flavour::Udp => (d.read(0, &mut copy), d.len()),
            _ => {
                let whole = flavour.whole(d);
                let n = whole.len().min(copy.len());
                copy[..n].copy_from_slice(&whole[..n]);
                (n, whole.len())
            }
        };
        let tell = |d: &Datagrams<'_>, (copied, len)| Taken {
            copied,
            len,
            from: d.sender(),
            to: d.sent_to(),
            port,
            interface: d.interface(),
            ttl: d.ttl(),
            tos: d.tos(),
            dropped,
        };
        let take = |d: &Datagrams<'_>| tell(d, part(d));
        let peek = flags & msg::PEEK != 0;
        let taken = if peek { socket.look(take) } else { socket.recv_with(take) };
        let mut taken = taken?;
        match into {
            Some(into) => into.extend(&copy[..taken.copied]),
            None => taken.copied = taken.len.min(count),
        }
        Ok(taken)
    }

    /// Whether receiving was ended.
    pub fn has_ended(&self) -> bool {
        self.shut & 1 != 0
    }

    /// The next entry of the error queue.
    pub fn take_undelivered(&mut self) -> Result<Undelivered> {
        Ok(self.made.as_ref().ok_or(Errno::EAGAIN)?.take_undelivered()?)
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
        // It counts all the same without a peer.
        self.shut |= [1, 2, 3][how as usize];
        if self.peer.is_some() { Ok(()) } else { Err(Errno::ENOTCONN) }
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
            if socket.look(|_| ()).is_ok() {
                found |= readable;
            }
            if socket.has_error() || socket.has_undelivered() {
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

    pub fn path_mtu(&self) -> Option<u32> {
        self.made.as_ref()?.path_mtu().ok()
    }

    pub fn peer(&self) -> Result<SocketAddr> {
        self.peer.ok_or(Errno::ENOTCONN)
    }
}
