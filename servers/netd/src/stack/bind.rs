//! Which addresses and ports sockets have: bind, connect.
//!
//! | bound to | takes |
//! |---|---|
//! | an address | packets for it |
//! | `0.0.0.0` | IPv4 |
//! | `::` and V6ONLY | IPv6 |
//! | `::` | both |
//!
//! Who may be bound beside whom is told in `ports`.

use super::Stack;
use super::dgram_out::or_loopback;
use super::ports::Wish;
use super::sock::Body;
use crate::demux::{ANY, ANY_V6, Space, Tuple};
use crate::dev::Dev;
use crate::env::Env;
use crate::ports::held;
use crate::record::Fixed;
use core::net::{IpAddr, SocketAddr};
use libipc::net::{Reply, Result, SockId};
use libipc::permission::Permission;
use libipc::sock::{Error, Kind, State, flags, option};

impl<E: Env> Stack<E> {
    pub(super) fn space(&self, i: u32) -> Option<Space> {
        match &self.socks[i as usize].body {
            Body::Open => Some(Space::Tcp),
            Body::Dgram(d) => Some(d.space()),
            _ => None,
        }
    }

    /// The address a program named, if packets of its family are sent and taken here. One of IPv4
    /// in the clothes of IPv6 is one of IPv4.
    pub(super) fn spoken(&self, addr: SocketAddr) -> Result<IpAddr> {
        match addr.ip().to_canonical() {
            // Any of both is then any of one.
            IpAddr::V6(ip) if ip.is_unspecified() && !self.speaks_v6() => Ok(ANY.ip()),
            IpAddr::V6(_) if !self.speaks_v6() => Err(Error::Unsupported),
            ip => Ok(ip),
        }
    }

    /// Whether the program wants socket `i`, once bound to any address of IPv6, to take that only.
    pub(super) fn wants_only_v6(&self, i: u32) -> bool {
        let s = &self.socks[i as usize];
        self.sessions[s.session as usize].options(s.id) & option::V6ONLY != 0
    }

    /// Whether a socket may have the address: one of ours, any, or everybody's, which TCP cannot use, but Linux lets it
    /// have those of IPv4.
    pub(super) fn bindable(&self, space: Space, ip: IpAddr) -> bool {
        let everybodys = ip.is_multicast() || self.iface.is_broadcast(ip);
        ip.is_unspecified()
            || ip.is_loopback()
            || self.iface.is_ours(ip)
            || (everybodys && (space == Space::Udp || ip.is_ipv4()))
    }

    pub(super) fn bind(&mut self, i: u32, addr: SocketAddr) -> Result<SocketAddr> {
        if self.kind(i) == Some(Kind::Raw) {
            return self.bind_raw(i, addr);
        }
        let space = self.space(i).ok_or(Error::Invalid)?;
        let ip = self.spoken(addr)?;
        if self.socks[i as usize].local.port() != 0 {
            return Err(Error::Invalid);
        }
        if space == Space::Tcp && ip.is_ipv6() && ip.is_multicast() {
            return Err(Error::Invalid);
        }
        if !self.bindable(space, ip) {
            return Err(Error::AddrNotAvailable);
        }
        let (only_v6, device) = (self.wants_only_v6(i), self.socks[i as usize].device);
        let mut local = SocketAddr::new(ip, addr.port());
        let placed = if ip.is_unspecified() { 0 } else { held::PLACED };
        let named = placed | if local.port() == 0 { 0 } else { held::NAMED };
        if local.port() == 0 {
            local.set_port(self.ephemeral(space, local, ANY, (only_v6, device))?);
        } else if self.in_conflict(i, &Wish { space, local, only_v6, device }) {
            return Err(Error::AddrInUse);
        }
        self.demux.set_only_v6(i, only_v6);
        self.enter(i, Tuple::local(space, local), only_v6)?;
        self.hold_port(i, space, named);
        Ok(local)
    }

    /// Socket `i`, bound already, becomes a listener, if it may be one beside others.
    pub(super) fn bind_listener(&mut self, i: u32) -> Result<()> {
        let s = &self.socks[i as usize];
        let (local, device, only_v6) = (s.local.get(), s.device, self.wants_only_v6(i));
        if self.in_conflict(i, &Wish { space: Space::Tcp, local, only_v6, device }) {
            return Err(Error::AddrInUse);
        }
        let spread = self.reuse(i) & held::SPREAD != 0;
        match self.demux.share(i, Tuple::local(Space::Tcp, local), spread) {
            true => Ok(()),
            false => Err(Error::NoBuffers),
        }
    }

    /// Binds a datagram socket that is not bound yet to any address: of both families, if the first
    /// datagram goes to one of IPv6.
    pub(super) fn bind_any(&mut self, i: u32) -> Result<()> {
        let portless = matches!(self.kind(i), Some(Kind::Raw | Kind::Capture));
        if portless || self.socks[i as usize].local.port() != 0 {
            return Ok(());
        }
        let any = match self.first_destination(i) {
            Some(IpAddr::V6(_)) if self.speaks_v6() => ANY_V6,
            _ => ANY.ip(),
        };
        self.bind(i, SocketAddr::new(any, 0)).map(|_| ())
    }

    /// Gives socket `i` its addresses, in the table and in its record.
    fn enter(&mut self, i: u32, tuple: Tuple, only_v6: bool) -> Result<()> {
        // A socket of TCP gets nothing before it listens.
        let spread = self.reuse(i) & held::SPREAD != 0;
        if tuple.space != Space::Tcp && !self.demux.share(i, tuple, spread) {
            return Err(Error::NoBuffers);
        }
        let s = self.sock(i);
        (s.local, s.remote) = (tuple.local.into(), tuple.remote.into());
        if let Some(fixed) = Fixed::load(s.rec) {
            let flags = fixed.flags & !flags::V6ONLY | if only_v6 { flags::V6ONLY } else { 0 };
            s.hard().store(&Fixed { local: s.local.get(), remote: s.remote.get(), flags, ..fixed });
        }
        Ok(())
    }

    /// The address from which socket `i`, bound as it is, speaks to `dst`.
    ///
    /// # Errors
    /// As Linux has it: who is bound to IPv4 does not know the other family, and who is bound to
    /// IPv6 has no way to an address of IPv4 unless it is bound to any of both.
    fn speaks_from(&self, i: u32, dst: IpAddr) -> Result<IpAddr> {
        let local = self.socks[i as usize].local;
        let (bound, v4) = (local.port() != 0, dst.is_ipv4());
        match local.ip() {
            IpAddr::V4(_) if bound && !v4 => return Err(Error::Unsupported),
            IpAddr::V6(ip) if v4 && (!ip.is_unspecified() || self.wants_only_v6(i)) => {
                return Err(Error::NetworkUnreachable);
            }
            // Who listens for all speaks for one.
            ip if self.space(i) == Some(Space::Tcp) && self.is_everybodys(ip) => {}
            ip if !ip.is_unspecified() => return Ok(ip),
            _ => {}
        }
        let device = self.socks[i as usize].device;
        if !self.is_there(device, dst) {
            return Err(Error::NetworkUnreachable);
        }
        self.source(dst, Dev::of_number(device)).ok_or(Error::NetworkUnreachable)
    }

    /// A datagram socket speaks to everybody again, from the address and port that its program has
    /// named, if it has.
    fn disconnect(&mut self, i: u32) -> Result<Reply> {
        let Body::Dgram(d) = self.socks[i as usize].body else { return Err(Error::Invalid) };
        let (space, how) = (d.space(), self.ports.how(i));
        let local = self.socks[i as usize].local;
        if d.kind == Kind::Raw {
            return self.connect_raw(i, local.ip(), ANY.ip());
        }
        if how & held::NAMED == 0 {
            self.demux.remove(i);
            self.ports.release(i);
            let s = self.sock(i);
            (s.local, s.remote) = (ANY.into(), ANY.into());
            if let Some(fixed) = Fixed::load(s.rec) {
                s.hard().store(&Fixed { local: ANY, remote: ANY, ..fixed });
            }
            return Ok(Reply::Done);
        }
        let ip = match how & held::PLACED {
            0 if local.is_ipv4() => ANY.ip(),
            0 => crate::demux::ANY_V6,
            _ => local.ip(),
        };
        let local = SocketAddr::new(ip, local.port());
        self.enter(i, Tuple::local(space, local), self.wants_only_v6(i))?;
        Ok(Reply::Done)
    }

    /// A connection of TCP has one host at its other end. Who sends to all or to a group may say so once.
    fn may_connect(&mut self, i: u32, space: Space, dst: IpAddr) -> Result<()> {
        let all = self.iface.is_broadcast(dst);
        if !all && !dst.is_multicast() {
            return Ok(());
        }
        if space == Space::Tcp {
            return Err(Error::NetworkUnreachable);
        }
        let s = &self.socks[i as usize];
        let session = &self.sessions[s.session as usize];
        if !session.spec.broadcast {
            self.counters.not_permitted += 1;
            return Err(Error::NotPermitted(Permission::Broadcast));
        }
        let asked = !all || session.options(s.id) & option::BROADCAST != 0;
        if asked { Ok(()) } else { Err(Error::Prohibited) }
    }

    /// Connects; `fast`: with Fast Open, and as much of so many bytes as its SYN may take along.
    pub(super) fn connect(
        &mut self,
        sock: SockId,
        addr: SocketAddr,
        fast: Option<u16>,
    ) -> Result<Reply> {
        let i = self.existing(sock)?;
        if addr.port() == 0 && addr.ip().is_unspecified() {
            return self.disconnect(i);
        }
        let dst = or_loopback(self.spoken(addr)?);
        let space = match &self.socks[i as usize].body {
            Body::Tcp(conn) if conn.state() == State::SynSent => return Err(Error::InProgress),
            Body::Tcp(_) => return Err(Error::AlreadyConnected),
            _ => self.space(i).ok_or(Error::Invalid)?,
        };
        let raw = self.kind(i) == Some(Kind::Raw);
        // TCP asks at port 0 as at any other (Linux).
        if addr.port() == 0 && space == Space::Udp && !raw {
            return Err(Error::Invalid);
        }
        self.may_connect(i, space, dst)?;
        let mut local = self.socks[i as usize].local.get();
        local.set_ip(self.speaks_from(i, dst)?);
        if !dst.is_loopback() && !self.iface.is_ours(dst) {
            let on = Dev::of_number(self.socks[i as usize].device);
            self.next_hop(dst, on).ok_or(Error::NetworkUnreachable)?;
        }
        if raw {
            return self.connect_raw(i, local.ip(), dst);
        }
        let remote = SocketAddr::new(dst, if space == Space::Ping { 0 } else { addr.port() });
        if local.port() == 0 {
            local.set_port(self.ephemeral(
                space,
                local,
                remote,
                (false, self.socks[i as usize].device),
            )?);
        }
        let tuple = Tuple { space, local, remote };
        if space == Space::Tcp {
            return self.connect_tcp(i, tuple, fast);
        }
        self.enter(i, tuple, self.wants_only_v6(i))?;
        if !self.ports.holds(i) {
            self.hold_port(i, space, 0);
        }
        Ok(Reply::Done)
    }
}
