//! IP_ADD_MEMBERSHIP and its like.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::file::{File, Kind};
use super::numbers::{Errno, af, ip, ipproto, ipv6};
use super::{Result, addr};
use libipc::sock::Dgram;

/// A change of membership.
struct Change {
    group: IpAddr,
    join: bool,
}

fn interface(number: u32) -> Result<()> {
    if number <= Dgram::NIC as u32 { Ok(()) } else { Err(Errno::ENODEV) }
}

fn word(value: &[u8], at: usize) -> u32 {
    value.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// `struct ip_mreq` or `ip_mreqn`: the group, an address of the interface, its number.
fn of_v4(value: &[u8]) -> Result<IpAddr> {
    let [a, b, c, d, ..] = *value.first_chunk::<8>().ok_or(Errno::EINVAL)?;
    let group = Ipv4Addr::new(a, b, c, d);
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    if value.len() >= 12 {
        interface(word(value, 8))?;
    }
    Ok(group.into())
}

/// `struct ipv6_mreq`: the group, the interface's number.
fn of_v6(value: &[u8]) -> Result<IpAddr> {
    let octets = value.first_chunk::<16>().filter(|_| value.len() >= 20);
    let group = Ipv6Addr::from(*octets.ok_or(Errno::EINVAL)?);
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    interface(word(value, 16))?;
    Ok(group.into())
}

/// `struct group_req`: the interface's number, and a `sockaddr` of the group.
fn of_any(value: &[u8], level: i32) -> Result<IpAddr> {
    let domain = if level == ipproto::IP { af::INET } else { af::INET6 };
    let group = value.get(8..136).ok_or(Errno::EINVAL)?;
    let group = addr::read(group, domain).map_err(|_| Errno::EADDRNOTAVAIL)?.ip();
    interface(word(value, 0))?;
    if group.is_multicast() { Ok(group) } else { Err(Errno::EINVAL) }
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
    Some(group.map(|group| Change { group, join }))
}

impl File {
    /// Whether the option is one of membership, and how that went.
    pub(super) fn membership(&mut self, level: i32, name: i32, value: &[u8]) -> Option<Result<()>> {
        let change = change(level, name, value)?;
        let Kind::Datagram(d) = &mut self.kind else {
            let wanted =
                level == ipproto::IP && name != ip::DROP_MEMBERSHIP || level == ipproto::IPV6;
            return Some(Err(if wanted { Errno::EPROTO } else { Errno::EADDRNOTAVAIL }));
        };
        Some(change.and_then(|c| d.membership(c.group, c.join, &self.set, self.rings)))
    }
}
