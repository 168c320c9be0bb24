//! IP_ADD_MEMBERSHIP and its like.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::file::{File, Kind};
use super::numbers::{Errno, af, ip, ipproto, ipv6};
use super::{Result, addr, device, word};
use libipc::sock::On;

/// A change of membership.
struct Change {
    group: IpAddr,
    on: On,
    join: bool,
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
        let change = change(level, name, value)?;
        let Kind::Datagram(d) = &mut self.kind else {
            let wanted =
                level == ipproto::IP && name != ip::DROP_MEMBERSHIP || level == ipproto::IPV6;
            return Some(Err(if wanted { Errno::EPROTO } else { Errno::EADDRNOTAVAIL }));
        };
        Some(change.and_then(|c| d.membership((c.group, c.on), c.join, &self.set, self.rings)))
    }
}
