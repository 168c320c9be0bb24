//! Hard state of the stack as a whole, in region `netd.state`: secrets, memberships, and of each
//! network card the DHCP lease, addresses of IPv6, and what its port must remember. Sockets are in their records.

use core::hash::Hasher;
use core::net::Ipv4Addr;
use core::sync::atomic::{AtomicU64, Ordering::*};
use siphasher::sip::SipHasher13;

use crate::dev::NICS;
use crate::dhcp::Lease;
use crate::ip6::record::Record as Record6;
use crate::membership::{MEMBERS, Membership, SOURCES, Source};
use crate::record::Journal;

const MAGIC: u64 = u64::from_le_bytes(*b"BWNETD01");

/// Offset in the region of the records of connections in TIME-WAIT
/// ([`crate::timewait::WaitRecord`]), which fill the rest of it.
pub const TIME_WAIT_OFFSET: usize = 8192;

/// The beginning of the region. All zero: never used.
#[repr(C)]
pub struct HardState {
    magic: AtomicU64,
    /// Keys of initial sequence numbers (RFC 6528) and of ephemeral ports (RFC 6056). They must
    /// outlive netd: a new key could give a reused pair of ports numbers that its old incarnation
    /// has in flight.
    secrets: [AtomicU64; 4],
    /// The change of a socket's record that is under way.
    pub journal: Journal,
    /// Which sockets are in which multicast groups.
    pub members: [Membership; MEMBERS],
    /// Which sources they hear there, or do not.
    pub sources: [Source; SOURCES],
    /// Of each network card.
    pub nics: [NicHard; NICS],
}

/// What must be remembered of a network card.
#[repr(C)]
pub struct NicHard {
    /// See [`crate::port::PortHard`].
    pub rx_base: AtomicU64,
    /// Likewise.
    pub tx_base: AtomicU64,
    lease: [AtomicU64; 6],
    lease_check: AtomicU64,
    /// Addresses of IPv6, and routers.
    pub(crate) ip6: Record6,
}

const _: () = assert!(size_of::<HardState>() <= TIME_WAIT_OFFSET);

/// Secrets of the stack.
#[derive(Clone, Copy, Debug)]
pub struct Secrets {
    /// Key of initial sequence numbers.
    pub isn: (u64, u64),
    /// Key of ephemeral ports.
    pub port: (u64, u64),
    /// Key of flow labels, and what fragments of IPv6 are numbered from: others see those, and nothing of the rest.
    pub shown: (u64, u64),
}

impl Default for HardState {
    fn default() -> Self {
        Self::new()
    }
}

impl HardState {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            magic: AtomicU64::new(0),
            secrets: [const { AtomicU64::new(0) }; 4],
            journal: Journal::new(),
            members: [const { Membership::new() }; MEMBERS],
            sources: [const { Source::new() }; SOURCES],
            nics: [const { NicHard::new() }; NICS],
        }
    }

    /// The secrets, made from `seed` the first time.
    pub fn secrets(&self, seed: &[u8; 32]) -> Secrets {
        if self.magic.load(Acquire) != MAGIC {
            let (words, _) = seed.as_chunks::<8>();
            for (to, from) in self.secrets.iter().zip(words) {
                to.store(u64::from_le_bytes(*from), Relaxed);
            }
            self.magic.store(MAGIC, Release);
        }
        let [a, b, c, d] = core::array::from_fn(|i| self.secrets[i].load(Relaxed));
        let shown = |of: u64| {
            let mut h = SipHasher13::new_with_keys(c, d);
            h.write_u64(of);
            h.finish()
        };
        Secrets { isn: (a, b), port: (c, d), shown: (shown(1), shown(2)) }
    }
}

impl Default for NicHard {
    fn default() -> Self {
        Self::new()
    }
}

impl NicHard {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            rx_base: AtomicU64::new(0),
            tx_base: AtomicU64::new(0),
            lease: [const { AtomicU64::new(0) }; 6],
            lease_check: AtomicU64::new(0),
            ip6: Record6::new(),
        }
    }

    /// Keeps the lease (`None`: there is none).
    pub fn set_lease(&self, lease: Option<&Lease>) {
        self.lease_check.store(0, SeqCst);
        let Some(l) = lease else { return };
        let pair =
            |a: Option<Ipv4Addr>, b: u32| a.map_or(0, |a| a.to_bits() as u64) << 32 | b as u64;
        let words = [
            pair(Some(l.addr), l.prefix as u32),
            pair(l.router, l.lease_s),
            pair(l.dns, l.renew_s),
            pair(Some(l.server), l.rebind_s),
            l.since,
            1,
        ];
        for (to, from) in self.lease.iter().zip(words) {
            to.store(from, Relaxed);
        }
        self.lease_check.store(check(words), Release);
    }

    /// The lease, if one was kept and it holds.
    pub fn lease(&self) -> Option<Lease> {
        let words = core::array::from_fn(|i| self.lease[i].load(Relaxed));
        if self.lease_check.load(Acquire) != check(words) {
            return None;
        }
        let addr = |w: u64| Ipv4Addr::from_bits((w >> 32) as u32);
        let some = |w: u64| (w >> 32 != 0).then(|| addr(w));
        let [a, r, d, s, since, _] = words;
        Some(Lease {
            addr: addr(a),
            prefix: a as u8,
            router: some(r),
            dns: some(d),
            server: addr(s),
            since,
            lease_s: r as u32,
            renew_s: d as u32,
            rebind_s: s as u32,
        })
    }
}

fn check(words: [u64; 6]) -> u64 {
    let mut h = MAGIC;
    for w in words {
        h = (h ^ w).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h ^= h >> 32;
    }
    h | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_made_once() {
        let h = HardState::new();
        let first = h.secrets(&[7; 32]);
        assert_eq!(h.secrets(&[8; 32]).isn, first.isn);
    }

    #[test]
    fn a_lease_survives_and_damage_is_seen() {
        let h = NicHard::new();
        assert_eq!(h.lease(), None);
        let lease = Lease {
            addr: Ipv4Addr::new(10, 0, 2, 15),
            prefix: 24,
            router: Some(Ipv4Addr::new(10, 0, 2, 2)),
            dns: None,
            server: Ipv4Addr::new(10, 0, 2, 2),
            since: 5,
            lease_s: 86400,
            renew_s: 43200,
            rebind_s: 75600,
        };
        h.set_lease(Some(&lease));
        assert_eq!(h.lease(), Some(lease));
        h.lease[4].store(6, Relaxed);
        assert_eq!(h.lease(), None);
        h.set_lease(Some(&lease));
        h.set_lease(None);
        assert_eq!(h.lease(), None);
    }
}
