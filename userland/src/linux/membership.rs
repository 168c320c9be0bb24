//! IP_ADD_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP and their like.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::file::{File, Kind};
use super::numbers::{Errno, af, ip, ipproto, ipv6};
use super::{Result, addr, device, word};
use libipc::sock::{Heard, On};

/// A change of membership.
struct Change {
    group: IpAddr,
    on: On,
    join: bool,
}

/// A change of the sources that are heard.
struct SourceChange {
    group: IpAddr,
    source: IpAddr,
    on: On,
    heard: Heard,
}

/// `struct ip_mreq` or `ip_mreqn`: the group, an address of the interface, its number.
fn of_v4(value: &[u8]) -> Result<(IpAddr, On)> {
    let [a, b, c, d, ..] = *value.first_chunk::<8>().ok_or(Errno::EINVAL)?;
    let group = Ipv4Addr::new(a, b, c, d);
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    Ok((group.into(), device::on_v4(value)?))
}

/// `struct ipv6_mreq`: the group, the interface's number.
fn of_v6(value: &[u8]) -> Result<(IpAddr, On)> {
    let octets = value.first_chunk::<16>().filter(|_| value.len() >= 20);
    let group = Ipv6Addr::from(*octets.ok_or(Errno::EINVAL)?);
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    Ok((group.into(), device::on_number(word(value, 16).ok_or(Errno::EINVAL)?)?))
}

/// `struct group_req`: the interface's number, and a `sockaddr` of the group.
fn of_any(value: &[u8], level: i32) -> Result<(IpAddr, On)> {
    let domain = if level == ipproto::IP { af::INET } else { af::INET6 };
    let group = value.get(8..136).ok_or(Errno::EINVAL)?;
    let group = addr::read(group, domain).map_err(|_| Errno::EADDRNOTAVAIL)?.ip();
    let on = device::on_number(word(value, 0).ok_or(Errno::EINVAL)?)?;
    if group.is_multicast() { Ok((group, on)) } else { Err(Errno::EINVAL) }
}

/// `struct ip_mreq_source`: the group, an own address of the interface, the source.
fn source_of_v4(value: &[u8]) -> Result<(IpAddr, IpAddr, On)> {
    let [a, b, c, d, ..] = *<&[u8; 12]>::try_from(value).map_err(|_| Errno::EINVAL)?;
    let (own, source) = value[4..].split_at(4);
    let on = device::on_v4(&[&[0; 4], own].concat())?;
    let source = source.first_chunk::<4>().ok_or(Errno::EINVAL)?;
    Ok((Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::from(*source).into(), on))
}

/// `struct group_source_req`: the interface's number, `sockaddr`s of the group and the source.
fn source_of_any(value: &[u8], level: i32) -> Result<(IpAddr, IpAddr, On)> {
    let domain = if level == ipproto::IP { af::INET } else { af::INET6 };
    let source = value.get(136..264).ok_or(Errno::EINVAL)?;
    let source = addr::read(source, domain).map_err(|_| Errno::EADDRNOTAVAIL)?.ip();
    let (group, on) = of_any(value, level)?;
    Ok((group, source, on))
}

fn source_change(level: i32, name: i32, value: &[u8]) -> Option<Result<SourceChange>> {
    let v4 = level == ipproto::IP;
    let heard = match name {
        ip::ADD_SOURCE_MEMBERSHIP if v4 => Heard::Join,
        ip::DROP_SOURCE_MEMBERSHIP if v4 => Heard::Leave,
        ip::BLOCK_SOURCE if v4 => Heard::Block,
        ip::UNBLOCK_SOURCE if v4 => Heard::Unblock,
        ip::MCAST_JOIN_SOURCE_GROUP => Heard::Join,
        ip::MCAST_LEAVE_SOURCE_GROUP => Heard::Leave,
        ip::MCAST_BLOCK_SOURCE => Heard::Block,
        ip::MCAST_UNBLOCK_SOURCE => Heard::Unblock,
        _ => return None,
    };
    let said = match name {
        ..=ip::DROP_SOURCE_MEMBERSHIP => source_of_v4(value),
        _ => source_of_any(value, level),
    };
    Some(said.map(|(group, source, on)| SourceChange { group, source, on, heard }))
}

fn change(level: i32, name: i32, value: &[u8]) -> Option<Result<Change>> {
    let (join, group) = match (level, name) {
        (ipproto::IP, ip::ADD_MEMBERSHIP) => (true, of_v4(value)),
        (ipproto::IP, ip::DROP_MEMBERSHIP) => (false, of_v4(value)),
        (ipproto::IPV6, ipv6::ADD_MEMBERSHIP) => (true, of_v6(value)),
        (ipproto::IPV6, ipv6::DROP_MEMBERSHIP) => (false, of_v6(value)),
        (_, ip::MCAST_JOIN_GROUP) => (true, of_any(value, level)),
        (_, ip::MCAST_LEAVE_GROUP) => (false, of_any(value, level)),
        _ => return None,
    };
    Some(group.map(|(group, on)| Change { group, on, join }))
}

impl File {
    /// Whether the option is one of membership, and how that went.
    pub(super) fn membership(&mut self, level: i32, name: i32, value: &[u8]) -> Option<Result<()>> {
        if ![ipproto::IP, ipproto::IPV6].contains(&level) {
            return None;
        }
        if let Some(change) = source_change(level, name, value) {
            let Kind::Datagram(d) = &mut self.kind else { return Some(Err(Errno::EPROTO)) };
            return Some(
                change.and_then(|c| {
                    d.hear((c.group, c.source, c.on), c.heard, &self.set, self.rings)
                }),
            );
        }
        let change = change(level, name, value)?;
        let Kind::Datagram(d) = &mut self.kind else {
            let wanted =
                level == ipproto::IP && name != ip::DROP_MEMBERSHIP || level == ipproto::IPV6;
            return Some(Err(if wanted { Errno::EPROTO } else { Errno::EADDRNOTAVAIL }));
        };
        Some(change.and_then(|c| d.membership((c.group, c.on), c.join, &self.set, self.rings)))
    }
}
