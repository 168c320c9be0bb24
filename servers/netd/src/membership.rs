//! Hard state: which sockets are in which multicast groups. Programs were promised that; what routers
//! were told follows from it.

use crate::dev::Dev;
use core::net::{IpAddr, Ipv6Addr};
use core::sync::atomic::{AtomicU64, Ordering::*};
use libipc::net::SockId;
use libipc::sock::{ip_from_words, ip_words};

/// Memberships of all sockets together.
pub const MEMBERS: usize = 64;

/// Sources of all memberships together.
pub const SOURCES: usize = 128;

/// In the word of a membership: the session's number, above that of the socket, the card's, and whether only the
/// sources that are named are heard.
const SESSION: u64 = 0xff;
const DEV: u32 = 56;
const INCLUDE: u64 = 1 << 62;

/// A socket in a multicast group.
#[repr(C)]
pub struct Membership {
    /// 0: none. Whether its sources are those that are heard, number of the interface, session, id and generation of the socket, under the highest bit; stored last.
    sock: AtomicU64,
    group: [AtomicU64; 2],
}

impl Default for Membership {
    fn default() -> Self {
        Self::new()
    }
}

impl Membership {
    /// None.
    pub const fn new() -> Self {
        Self { sock: AtomicU64::new(0), group: [const { AtomicU64::new(0) }; 2] }
    }
    /// Keeps it.
    pub fn store(&self, sock: SockId, generation: u32, dev: Dev, group: IpAddr, include: bool) {
        for (to, from) in self.group.iter().zip(ip_words(group)) {
            to.store(from, Relaxed);
        }
        let session = (sock.session as u64 & SESSION) << 48;
        let id = session | (sock.id as u64) << 32 | generation as u64;
        let include = if include { INCLUDE } else { 0 };
        self.sock.store(1 << 63 | include | (dev.number() as u64) << DEV | id, Release);
    }
    /// Its sources are from now on those that are heard, or those that are not.
    pub fn set_include(&self, include: bool) {
        let others = self.sock.load(Relaxed) & !INCLUDE;
        self.sock.store(others | if include { INCLUDE } else { 0 }, Release);
    }
    /// Forgets it.
    pub fn clear(&self) {
        self.sock.store(0, Release);
    }
    /// What was kept: socket, generation of its record, card, group, and whether its sources are those that are heard.
    pub fn load(&self) -> Option<(SockId, u32, Dev, IpAddr, bool)> {
        let word = Some(self.sock.load(Acquire)).filter(|w| w >> 63 == 1)?;
        let session = (word >> 48 & SESSION) as u16;
        let sock = SockId { session, id: (word >> 32) as u16 };
        let dev = Dev::of_number((word >> DEV) as u8 & 0x3f)?;
        let group = ip_from_words([0, 1].map(|i| self.group[i].load(Relaxed)));
        Some((sock, word as u32, dev, group, word & INCLUDE != 0))
    }
}

/// A source of a membership.
#[repr(C)]
pub struct Source {
    /// 0: none. Place of the membership, under the highest bit; stored last.
    member: AtomicU64,
    ip: [AtomicU64; 2],
}

impl Source {
    /// None.
    pub const fn new() -> Self {
        Self { member: AtomicU64::new(0), ip: [const { AtomicU64::new(0) }; 2] }
    }
    /// Keeps it.
    pub fn store(&self, member: u8, ip: Ipv6Addr) {
        for (to, from) in self.ip.iter().zip(ip_words(ip.into())) {
            to.store(from, Relaxed);
        }
        self.member.store(1 << 63 | member as u64, Release);
    }
    /// Forgets it.
    pub fn clear(&self) {
        self.member.store(0, Release);
    }
    /// What was kept: place of the membership, address.
    pub fn load(&self) -> Option<(u8, Ipv6Addr)> {
        let word = Some(self.member.load(Acquire)).filter(|w| w >> 63 == 1)?;
        let [high, low] = [0, 1].map(|i| self.ip[i].load(Relaxed));
        Some((word as u8, Ipv6Addr::from_bits((high as u128) << 64 | low as u128)))
    }
}

impl Default for Source {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::NICS;
    use core::net::Ipv4Addr;

    #[test]
    fn a_membership_survives_and_is_forgotten() {
        let m = Membership::new();
        assert_eq!(m.load(), None);
        let sock = SockId { session: 31, id: 4095 };
        for group in ["224.0.0.251", "ff02::fb"] {
            let group = group.parse().unwrap();
            for dev in Dev::first(NICS) {
                for include in [true, false] {
                    m.store(sock, u32::MAX, dev, group, include);
                    assert_eq!(m.load(), Some((sock, u32::MAX, dev, group, include)));
                    m.set_include(!include);
                    assert_eq!(m.load(), Some((sock, u32::MAX, dev, group, !include)));
                }
            }
        }
        m.clear();
        assert_eq!(m.load(), None);
        let s = Source::new();
        let ip = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped();
        assert_eq!(s.load(), None);
        s.store(63, ip);
        assert_eq!(s.load(), Some((63, ip)));
        s.clear();
        assert_eq!(s.load(), None);
    }
}
