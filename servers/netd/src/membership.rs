//! Hard state: which sockets are in which multicast groups. Programs were promised that; what routers
//! were told follows from it.

use crate::dev::Dev;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering::*};
use libipc::net::SockId;
use libipc::sock::{ip_from_words, ip_words};

/// Memberships of all sockets together.
pub const MEMBERS: usize = 64;

/// In the word of a membership: the session's number, above that of the socket, and the card's.
const SESSION: u64 = 0xff;
const DEV: u32 = 56;

/// A socket in a multicast group.
#[repr(C)]
pub struct Membership {
    /// 0: none. Number of the interface, session, id and generation of the socket, under the highest bit; stored last.
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
    pub fn store(&self, sock: SockId, generation: u32, dev: Dev, group: IpAddr) {
        for (to, from) in self.group.iter().zip(ip_words(group)) {
            to.store(from, Relaxed);
        }
        let session = (sock.session as u64 & SESSION) << 48;
        let id = session | (sock.id as u64) << 32 | generation as u64;
        self.sock.store(1 << 63 | (dev.number() as u64) << DEV | id, Release);
    }
    /// Forgets it.
    pub fn clear(&self) {
        self.sock.store(0, Release);
    }
    /// What was kept: socket, generation of its record, card, group.
    pub fn load(&self) -> Option<(SockId, u32, Dev, IpAddr)> {
        let word = Some(self.sock.load(Acquire)).filter(|w| w >> 63 == 1)?;
        let session = (word >> 48 & SESSION) as u16;
        let sock = SockId { session, id: (word >> 32) as u16 };
        let dev = Dev::of_number((word >> DEV) as u8 & 0x7f)?;
        let group = ip_from_words([0, 1].map(|i| self.group[i].load(Relaxed)));
        Some((sock, word as u32, dev, group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::NICS;

    #[test]
    fn a_membership_survives_and_is_forgotten() {
        let m = Membership::new();
        assert_eq!(m.load(), None);
        let sock = SockId { session: 31, id: 4095 };
        for group in ["224.0.0.251", "ff02::fb"] {
            let group = group.parse().unwrap();
            for dev in Dev::first(NICS) {
                m.store(sock, u32::MAX, dev, group);
                assert_eq!(m.load(), Some((sock, u32::MAX, dev, group)));
            }
        }
        m.clear();
        assert_eq!(m.load(), None);
    }
}
