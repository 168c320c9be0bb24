//! Interfaces: SO_BINDTODEVICE, IP_MULTICAST_IF and their like, scope ids of addresses.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::sync::atomic::Ordering::Relaxed;
use libipc::sock::{Dgram, Error, On, needs_scope, scope_of};

use super::file::{File, Kind};
use super::numbers::{Errno, ip, ipproto, ipv6, so};
use super::{Result, word};
use crate::net::{device_number, find_device};

/// Bytes of an interface's name and the 0 behind it (IFNAMSIZ).
const NAME: usize = 16;

/// An interface's number as Linux has it.
fn number(value: u32) -> Result<u8> {
    u8::try_from(value).map_err(|_| Errno::ENODEV)
}

/// The name of interface `number`, with the 0 behind it.
fn name_of(number: u8) -> Vec<u8> {
    match number.checked_sub(Dgram::NIC) {
        Some(place) => alloc::format!("eth{place}\0").into_bytes(),
        None => b"lo\0".to_vec(),
    }
}

impl File {
    /// The interface that it is bound to; 0: to none.
    pub(super) fn device(&self) -> u8 {
        let record = match &self.kind {
            Kind::Stream(s) => s.record(),
            Kind::Datagram(d) => d.record(),
        };
        record.map_or(self.set.device.get(), |r| r.interface.load(Relaxed) as u8)
    }

    fn bind_device(&mut self, number: u8) -> Result<()> {
        find_device(self.runtime(), On::Number(number))?;
        self.set.device.set(number);
        match &self.kind {
            Kind::Stream(s) => s.push_device(number)?,
            Kind::Datagram(d) => d.push_device(number)?,
        }
        Ok(())
    }

    /// SO_BINDTODEVICE and SO_BINDTOIFINDEX.
    fn set_device(&mut self, name: i32, value: &[u8]) -> Result<()> {
        if name == so::BINDTOIFINDEX {
            return self.bind_device(number(word(value, 0).ok_or(Errno::EINVAL)?)?);
        }
        let value = &value[..value.len().min(NAME - 1)];
        let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
        let text = core::str::from_utf8(&value[..end]).map_err(|_| Errno::ENODEV)?;
        match text {
            "" => self.bind_device(0),
            text => self.bind_device(device_number(text).ok_or(Errno::ENODEV)?),
        }
    }

    /// SO_BINDTODEVICE, as `getsockopt` tells it.
    pub(super) fn device_name(&self, max: usize) -> Result<Vec<u8>> {
        match self.device() {
            0 => Ok(Vec::new()),
            _ if max < NAME => Err(Errno::EINVAL),
            number => Ok(name_of(number)),
        }
    }

    /// An address is to be bound (`own`) or connected to: who names a link's address names the link (Linux's
    /// `inet6_bind`, `tcp_v6_connect`, `ip6_datagram_connect`).
    pub(super) fn enter_scope(&mut self, addr: SocketAddr, own: bool) -> Result<()> {
        if !needs_scope(addr.ip()) {
            return Ok(());
        }
        match (scope_of(addr), self.device()) {
            (0, 0) => {
                let group = self.set.words.leaves_by().load(Relaxed) as u8;
                let datagrams = matches!(self.kind, Kind::Datagram(_));
                match group {
                    1.. if datagrams && addr.ip().is_multicast() => self.bind_device(group),
                    _ => Err(Errno::EINVAL),
                }
            }
            (0, _) => Ok(()),
            (scope, bound) if !own && bound != 0 && scope != bound => Err(Errno::EINVAL),
            (scope, bound) if scope == bound => Ok(()),
            (scope, _) => self.bind_device(scope),
        }
    }

    /// Whether the option names an interface, and how that went.
    pub(super) fn set_way(&mut self, level: i32, name: i32, value: &[u8]) -> Option<Result<()>> {
        Some(match (level, name) {
            (so::SOCKET, so::BINDTODEVICE | so::BINDTOIFINDEX) => self.set_device(name, value),
            (ipproto::IP, ip::MULTICAST_IF) => self.set_multicast_v4(value),
            (ipproto::IPV6, ipv6::MULTICAST_IF) => match self.kind {
                Kind::Stream(_) => Err(Errno::ENOPROTOOPT),
                _ => self.set_one(
                    value.first_chunk().map(|b| u32::from_le_bytes(*b)),
                    0,
                    Errno::ENODEV,
                ),
            },
            (ipproto::IP, ip::UNICAST_IF) | (ipproto::IPV6, ipv6::UNICAST_IF) => {
                let number = value.first_chunk().map(|b| u32::from_be_bytes(*b));
                self.set_one(number, 8, Errno::EADDRNOTAVAIL)
            }
            _ => return None,
        })
    }

    /// `struct in_addr`, `ip_mreq` (group, own address) or `ip_mreqn` (that and a number).
    fn set_multicast_v4(&mut self, value: &[u8]) -> Result<()> {
        if matches!(self.kind, Kind::Stream(_)) {
            return Err(Errno::EINVAL);
        }
        let (at, index) = match value.len() {
            12.. => (4, word(value, 8).unwrap_or(0)),
            8.. => (4, 0),
            4.. => (0, 0),
            _ => return Err(Errno::EINVAL),
        };
        let own = value.get(at..at + 4).and_then(|b| b.first_chunk::<4>());
        let own = Ipv4Addr::from(*own.ok_or(Errno::EINVAL)?);
        let index = match (index, own) {
            (0, Ipv4Addr::UNSPECIFIED) => 0,
            (0, own) => match find_device(self.runtime(), On::Address(own.into())) {
                Err(Error::NoDevice) => return Err(Errno::EADDRNOTAVAIL),
                found => found?.into(),
            },
            (index, _) => index,
        };
        self.set_one(Some(index), 0, Errno::EADDRNOTAVAIL)?;
        self.set.note(ipproto::IP, ip::MULTICAST_IF, i32::from_le_bytes(own.octets()));
        Ok(())
    }

    /// Stores an interface's number in the byte at `shift` of the word.
    fn set_one(&mut self, index: Option<u32>, shift: u32, missing: Errno) -> Result<()> {
        let index = index.ok_or(Errno::EINVAL)?;
        let there = u8::try_from(index).map(|n| (n, find_device(self.runtime(), On::Number(n))));
        let number = match there {
            Ok((number, Ok(_))) => number,
            Ok((_, Err(Error::NoDevice))) | Err(_) => return Err(missing),
            Ok((_, Err(e))) => return Err(e.into()),
        };
        if number != 0 && !matches!(self.device(), 0) && self.device() != number {
            return Err(Errno::EINVAL);
        }
        // Of a stream that is TCP_FASTOPEN's.
        if let Kind::Stream(_) = self.kind {
            self.set.note(ipproto::IP, ip::UNICAST_IF, number.into());
            return Ok(());
        }
        let word = self.set.words.leaves_by();
        word.store(word.load(Relaxed) & !(0xff << shift) | (number as u16) << shift, Relaxed);
        self.push();
        Ok(())
    }

    /// What such an option is.
    pub(super) fn way(&self, level: i32, name: i32) -> Option<i32> {
        let stream = matches!(self.kind, Kind::Stream(_));
        let word = match stream {
            true => (self.set.noted(ipproto::IP, ip::UNICAST_IF) as u16) << 8,
            false => self.set.words.leaves_by().load(Relaxed),
        };
        Some(match (level, name) {
            (so::SOCKET, so::BINDTOIFINDEX) => self.device() as i32,
            (ipproto::IP, ip::MULTICAST_IF) => self.set.noted(level, name),
            (ipproto::IPV6, ipv6::MULTICAST_IF) => (word & 0xff) as i32,
            (ipproto::IP, ip::UNICAST_IF) | (ipproto::IPV6, ipv6::UNICAST_IF) => {
                ((word >> 8) as u32).to_be() as i32
            }
            _ => return None,
        })
    }
}

/// On which link a group is meant by `struct ip_mreq` or `ip_mreqn`: by number, else by an own address.
pub(super) fn on_v4(value: &[u8]) -> Result<On> {
    let own = value.get(4..8).and_then(|b| b.first_chunk::<4>());
    let own = IpAddr::from(*own.ok_or(Errno::EINVAL)?);
    match word(value, 8).unwrap_or(0) {
        0 if own.is_unspecified() => Ok(On::Any),
        0 => Ok(On::Address(own)),
        index => Ok(On::Number(number(index)?)),
    }
}

/// On which link a group is meant by an interface's number; 0: by route.
pub(super) fn on_number(index: u32) -> Result<On> {
    match index {
        0 => Ok(On::Any),
        index => Ok(On::Number(number(index)?)),
    }
}
