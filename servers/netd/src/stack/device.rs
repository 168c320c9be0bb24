//! Sockets that are bound to an interface: SO_BINDTODEVICE, and connections of peers whose addresses only a link
//! knows (RFC 4007 6). The record says so first; what they send leaves by it (`bind`, `tcp_out`, `dgram_out`), what they
//! get comes by it (`demux`, [`Packet::is_elsewhere`]).
//!
//! Two connections between the same addresses and ports on different links are not told apart: the second is refused.

use super::ports::Wish;
use super::rx::Packet;
use super::{Body, Stack};
use crate::env::Env;
use crate::record::Fixed;
use core::net::IpAddr;
use libipc::net::{Reply, Result, SockId};
use libipc::sock::{Dgram, Error, Kind, On};

impl<E: Env> Stack<E> {
    /// Binds a socket to interface `number`, or, 0, to none any more.
    pub(super) fn bind_device(&mut self, sock: SockId, number: u8) -> Result<Reply> {
        let i = self.existing(sock)?;
        if self.kind(i) == Some(Kind::Capture) {
            return Err(Error::Invalid);
        }
        if !self.is_device(number) {
            return Err(Error::NoDevice);
        }
        if self.meets_others(i, number) {
            return Err(Error::AddrInUse);
        }
        let s = self.sock(i);
        if let Some(fixed) = Fixed::load(s.rec) {
            s.hard().store(&Fixed { device: number, ..fixed });
        }
        s.device = number;
        match &mut s.body {
            // Its next segments take the long way both ways, which looks at interfaces.
            Body::Tcp(conn) => (conn.known.from, conn.known.way) = (0, 0),
            _ => self.demux.set_device(i, number),
        }
        Ok(Reply::Done)
    }

    /// Whether socket `i`, bound to an address already, would meet others by interface `number` that have it, too.
    fn meets_others(&self, i: u32, number: u8) -> bool {
        let s = &self.socks[i as usize];
        let (local, only_v6) = (s.local.get(), self.wants_only_v6(i));
        let apart = local.port() == 0 || s.device == number || matches!(s.body, Body::Tcp(_));
        match self.space(i) {
            Some(space) if !apart && self.kind(i) != Some(Kind::Raw) => {
                self.in_conflict_there(i, &Wish { space, local, only_v6, device: number })
            }
            _ => false,
        }
    }

    /// Whether there is interface `number`; 0 is any.
    pub(super) fn is_device(&self, number: u8) -> bool {
        number <= Dgram::LOOP || self.dev_of_number(number).is_some()
    }

    /// Whether `dst` may be spoken to by interface `number`: by the loop only this host.
    pub(super) fn is_there(&self, number: u8, dst: IpAddr) -> bool {
        number != Dgram::LOOP || dst.is_loopback() || self.iface.is_ours(dst)
    }

    /// The number of the interface that is named.
    pub(super) fn find_device(&self, on: On) -> Result<Reply> {
        let number = match on {
            On::Any => Some(0),
            On::Number(number) => Some(number).filter(|n| self.is_device(*n)),
            On::Address(ip) if ip.is_loopback() => Some(Dgram::LOOP),
            On::Address(ip) => self.iface.dev_of(ip).map(|dev| dev.number()),
        };
        number.map(Reply::Device).ok_or(Error::NoDevice)
    }

    /// The interface that a connection which packet `p` begins at listener `l` is bound to: the listener's, or the
    /// link that alone knows its peer (Linux's `tcp_v6_init_req`).
    pub(super) fn child_device(&self, l: u32, p: &Packet<'_>) -> u8 {
        match (self.socks[l as usize].device, p.only_by()) {
            (0, Some(_)) => p.interface(),
            (device, _) => device,
        }
    }
}
