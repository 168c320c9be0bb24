//! Control messages of `sendmsg` and `recvmsg`: a header of level and type, and some bytes, each padded
//! to eight.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::numbers::{Errno, af, ip, ipproto, ipv6, msg, so};
use super::{Result, addr, word};
use crate::net::{Ancillary, Undelivered};
use libipc::sock::Notice;

/// Bytes of a header: length (8), level, type.
const HEADER: usize = 16;

/// What is told with what was received.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// As `msg_control` has it.
    pub bytes: Vec<u8>,
    /// `MSG_CTRUNC`, or nothing.
    pub flags: i32,
}

impl Control {
    /// Adds a message, as far as there is room in `max` bytes altogether.
    pub fn put(&mut self, max: usize, level: i32, ty: i32, data: &[u8]) {
        let room = max.saturating_sub(self.bytes.len());
        if room < HEADER {
            self.flags = msg::CTRUNC;
            return;
        }
        let length = (HEADER + data.len()).min(room);
        if length < HEADER + data.len() {
            self.flags = msg::CTRUNC;
        }
        self.bytes.extend((length as u64).to_le_bytes());
        self.bytes.extend(level.to_le_bytes());
        self.bytes.extend(ty.to_le_bytes());
        self.bytes.extend(&data[..length - HEADER]);
        let padded = self.bytes.len().next_multiple_of(8).min(max);
        self.bytes.resize(padded, 0);
    }

    /// IP_PKTINFO, or IPV6_PKTINFO of a socket of that family.
    pub fn put_packet_info(&mut self, max: usize, domain: i32, to: IpAddr, interface: u8) {
        let number = (interface as i32).to_le_bytes();
        let mut data = Vec::new();
        match (domain, to) {
            (af::INET, IpAddr::V4(to)) => {
                let own =
                    if to.is_multicast() || to.is_broadcast() { Ipv4Addr::UNSPECIFIED } else { to };
                data.extend(number);
                data.extend(own.octets());
                data.extend(to.octets());
                self.put(max, ipproto::IP, ip::PKTINFO, &data);
            }
            _ => {
                let to = match to {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                data.extend(to.octets());
                data.extend(number);
                self.put(max, ipproto::IPV6, ipv6::PKTINFO, &data);
            }
        }
    }

    /// IP_RECVERR, or IPV6_RECVERR: what happened, and who says so.
    pub fn put_error(&mut self, max: usize, domain: i32, entry: &Undelivered) {
        let mut data = entry.notice.to_bytes().to_vec();
        let (level, name) = match domain {
            af::INET => (ipproto::IP, ip::RECVERR),
            _ => (ipproto::IPV6, ipv6::RECVERR),
        };
        let said = entry.notice.origin != Notice::LOCAL;
        let mut by = addr::write((entry.by, 0).into(), domain);
        if !said {
            by.fill(0);
        }
        data.extend(by);
        self.put(max, level, name, &data);
    }
}

fn int(data: &[u8]) -> Result<i32> {
    Ok(i32::from_le_bytes(data.try_into().map_err(|_| Errno::EINVAL)?))
}

fn byte(value: i32, least: i32) -> Result<u8> {
    if (least..=255).contains(&value) { Ok(value as u8) } else { Err(Errno::EINVAL) }
}

/// What `control` asks for, of a socket of family `domain`.
///
/// # Errors
/// [`Errno::EINVAL`]: not well formed, unknown, or no such value.
pub fn read(mut control: &[u8], domain: i32) -> Result<Ancillary> {
    let mut how = Ancillary::default();
    while control.len() >= HEADER {
        let length = u64::from_le_bytes(core::array::from_fn(|i| control[i])) as usize;
        let data = control.get(HEADER..length).ok_or(Errno::EINVAL)?;
        let (level, ty) = (int(&control[8..12])?, int(&control[12..16])?);
        match (level, ty) {
            (ipproto::IP, _) if domain == af::INET => one_of_v4(&mut how, ty, data)?,
            (ipproto::IPV6, _) if domain == af::INET6 => one_of_v6(&mut how, ty, data)?,
            // Descriptors and credentials mean nothing here.
            (so::SOCKET, 1 | 2) => {}
            (so::SOCKET, so::MARK) => drop(int(data)?),
            (so::SOCKET, _) => return Err(Errno::EINVAL),
            _ => {}
        }
        control = control.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(how)
}

/// The interface that is named; one that there cannot be, of which netd says so, is the last number.
fn interface(index: u32) -> Option<u8> {
    (index != 0).then_some(index.min(u8::MAX as u32) as u8)
}

fn one_of_v4(how: &mut Ancillary, ty: i32, data: &[u8]) -> Result<()> {
    match ty {
        ip::PKTINFO => {
            let [i, j, k, l, a, b, c, d, ..] =
                *<&[u8; 12]>::try_from(data).map_err(|_| Errno::EINVAL)?;
            how.source =
                Some(Ipv4Addr::new(a, b, c, d).into()).filter(|ip: &IpAddr| !ip.is_unspecified());
            how.device = interface(u32::from_le_bytes([i, j, k, l]));
        }
        ip::TTL => how.ttl = Some(byte(int(data)?, 1)?),
        ip::TOS => {
            let value = if let [tos] = data { *tos as i32 } else { int(data)? };
            how.tos = Some(byte(value, 0)?);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

fn one_of_v6(how: &mut Ancillary, ty: i32, data: &[u8]) -> Result<()> {
    let or_default = |value: i32| match value {
        -1 => Ok(None),
        value => byte(value, 0).map(Some),
    };
    match ty {
        ipv6::PKTINFO => {
            let octets = data.first_chunk::<16>().filter(|_| data.len() >= 20);
            let source = Ipv6Addr::from(*octets.ok_or(Errno::EINVAL)?);
            how.source = Some(source.to_canonical()).filter(|ip| !ip.is_unspecified());
            how.device = word(data, 16).and_then(interface);
        }
        ipv6::HOPLIMIT => how.ttl = or_default(int(data)?)?,
        ipv6::TCLASS => how.tos = or_default(int(data)?)?,
        ipv6::DONTFRAG => drop(int(data)?),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_are_linuxs() {
        let mut c = Control::default();
        c.put(100, 0, 2, &64i32.to_le_bytes());
        let bytes = [20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!((&c.bytes[..], c.flags), (&bytes[..], 0));
        let how = read(&c.bytes, af::INET).unwrap();
        assert_eq!(how, Ancillary { ttl: Some(64), ..Ancillary::default() });
        c.put(24 + 17, 0, 1, &[9, 9]);
        assert_eq!((c.bytes.len(), c.flags), (41, msg::CTRUNC), "half of it");
        assert_eq!(read(&c.bytes, af::INET), Ok(Ancillary { tos: Some(9), ..how }));
        let mut none = Control::default();
        none.put(15, 0, 1, &[9]);
        assert_eq!((none.bytes.len(), none.flags), (0, msg::CTRUNC));
    }

    #[test]
    fn nonsense_is_refused() {
        let one = |level: i32, ty: i32, data: &[u8]| {
            let mut c = Control::default();
            c.put(100, level, ty, data);
            c.bytes
        };
        for (level, ty, data) in [
            (0, 2, &[0; 4][..]),
            (0, 2, &[1; 3]),
            (0, 8, &[0; 11]),
            (0, 99, &[0; 4]),
            (1, 99, &[0; 4]),
        ] {
            assert_eq!(read(&one(level, ty, data), af::INET), Err(Errno::EINVAL), "{level} {ty}");
        }
        assert_eq!(read(&one(7, 1, &[0; 4]), af::INET), Ok(Ancillary::default()), "others' levels");
        let mut long = one(0, 2, &64i32.to_le_bytes());
        long[0] = 25;
        assert_eq!(read(&long, af::INET), Err(Errno::EINVAL), "longer than all");
        let info = [&[0; 4][..], &[10, 9, 0, 2], &[0; 4]].concat();
        let how = read(&one(0, 8, &info), af::INET).unwrap();
        assert_eq!(how.source, Some(Ipv4Addr::new(10, 9, 0, 2).into()));
    }
}
