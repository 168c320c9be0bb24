//! Linux's `sockaddr` as bytes.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::numbers::{Errno, af};

/// Bytes of `sockaddr_in`.
const V4: usize = 16;
/// Bytes of `sockaddr_in6` without its scope, which may be left out.
const V6_MIN: usize = 24;

/// The family of an address.
///
/// # Errors
/// [`Errno::EINVAL`]: too short to have one.
pub fn family(bytes: &[u8]) -> Result<i32, Errno> {
    let (family, _) = bytes.split_first_chunk::<2>().ok_or(Errno::EINVAL)?;
    Ok(u16::from_le_bytes(*family) as i32)
}

/// Reads an address for a socket of family `domain`; mapped IPv4 addresses come out as IPv4.
///
/// # Errors
/// [`Errno::EINVAL`]: too short. [`Errno::EAFNOSUPPORT`]: of another family.
pub fn read(bytes: &[u8], domain: i32) -> Result<SocketAddr, Errno> {
    let found = family(bytes)?;
    let min = if domain == af::INET { V4 } else { V6_MIN };
    if bytes.len() < min {
        return Err(Errno::EINVAL);
    }
    if found != domain {
        return Err(Errno::EAFNOSUPPORT);
    }
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    if domain == af::INET {
        return Ok((Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]), port).into());
    }
    let ip: [u8; 16] = core::array::from_fn(|i| bytes[8 + i]);
    let scope = bytes.get(24..28).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Ok(match Ipv6Addr::from(ip).to_canonical() {
        IpAddr::V4(v4) => (v4, port).into(),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope).into(),
    })
}

/// As [`read`], of an address to bind: no family at all counts as IPv4 if it is any address (Linux's
/// `__inet_bind`).
///
/// # Errors
/// As [`read`].
pub fn read_own(bytes: &[u8], domain: i32) -> Result<SocketAddr, Errno> {
    match read_to(bytes, domain) {
        Ok(addr) if family(bytes)? == af::UNSPEC && !addr.ip().is_unspecified() => {
            Err(Errno::EAFNOSUPPORT)
        }
        other => other,
    }
}

/// As [`read`], of a destination: no family at all counts as IPv4 (Linux's `udp_sendmsg`).
///
/// # Errors
/// As [`read`].
pub fn read_to(bytes: &[u8], domain: i32) -> Result<SocketAddr, Errno> {
    if domain != af::INET || bytes.len() < V4 || family(bytes)? != af::UNSPEC {
        return read(bytes, domain);
    }
    let mut bytes = bytes.to_vec();
    bytes[0] = af::INET as u8;
    read(&bytes, domain)
}

/// An address as a socket of family `domain` sees it.
pub fn write(addr: SocketAddr, domain: i32) -> Vec<u8> {
    let mut b = Vec::with_capacity(28);
    b.extend((domain as u16).to_le_bytes());
    b.extend(addr.port().to_be_bytes());
    match (addr, domain) {
        (SocketAddr::V4(a), af::INET) => {
            b.extend(a.ip().octets());
            b.extend([0; 8]);
        }
        (SocketAddr::V4(a), _) => v6(&mut b, unspecified_or_mapped(*a.ip()), 0),
        (SocketAddr::V6(a), _) => v6(&mut b, *a.ip(), a.scope_id()),
    }
    b
}

fn unspecified_or_mapped(ip: Ipv4Addr) -> Ipv6Addr {
    if ip.is_unspecified() { Ipv6Addr::UNSPECIFIED } else { ip.to_ipv6_mapped() }
}

fn v6(b: &mut Vec<u8>, ip: Ipv6Addr, scope: u32) {
    b.extend([0; 4]);
    b.extend(ip.octets());
    b.extend(scope.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_linuxs() {
        let addr: SocketAddr = "10.9.0.2:4660".parse().unwrap();
        let bytes = [2, 0, 0x12, 0x34, 10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(write(addr, af::INET), bytes);
        assert_eq!(read(&bytes, af::INET), Ok(addr));
        assert_eq!(read(&bytes[..15], af::INET), Err(Errno::EINVAL));
        assert_eq!(read(&bytes, af::INET6), Err(Errno::EINVAL));
        assert_eq!(read(&[0; 28], af::INET6), Err(Errno::EAFNOSUPPORT));
        let mapped = write(addr, af::INET6);
        assert_eq!((mapped.len(), read(&mapped, af::INET6)), (28, Ok(addr)));
        let v6: SocketAddr = "[fe80::1%3]:7".parse().unwrap();
        assert_eq!(read(&write(v6, af::INET6), af::INET6), Ok(v6));
    }
}
