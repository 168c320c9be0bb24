//! The hard part of IPv6 on the interface: which addresses are settled, and until when routers are
//! believed. A restarted netd speaks from them at once, without asking whether somebody has
//! them, and asks for routers meanwhile.

use super::address::{Address, Origin, Standing};
use core::net::Ipv6Addr;
use core::sync::atomic::{AtomicU64, Ordering::*};

/// Places: for every address and a few routers.
pub const PLACES: usize = super::address::ADDRESSES + 2;

/// A place: address, what it is, two deadlines, check.
#[repr(C)]
pub struct Place {
    words: [AtomicU64; 5],
    check: AtomicU64,
}

/// All of them. All zero: nothing is known.
#[repr(C)]
pub struct Record {
    places: [Place; PLACES],
}

const _: () = assert!(size_of::<Record>() == PLACES * 48);

/// What a place says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// An address.
    Address(Address),
    /// A default router: its metric, and until when it is one.
    Router(Ipv6Addr, u32, u64),
}

const ROUTER: u64 = 255;

fn seal(words: &[u64; 5]) -> u64 {
    words.iter().fold(0x9e37_79b9_7f4a_7c15, |h: u64, w| {
        let h = (h ^ w).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h ^ h >> 32
    }) | 1
}

impl Place {
    const fn new() -> Self {
        Self { words: [const { AtomicU64::new(0) }; 5], check: AtomicU64::new(0) }
    }
    fn load(&self) -> Option<Kept> {
        let w: [u64; 5] = core::array::from_fn(|i| self.words[i].load(Relaxed));
        if self.check.load(Acquire) != seal(&w) {
            return None;
        }
        let ip = Ipv6Addr::from_bits((w[0] as u128) << 64 | w[1] as u128);
        let origin = match w[2] & 255 {
            ROUTER => return Some(Kept::Router(ip, (w[2] >> 32) as u32, w[4])),
            1 => Origin::LinkLocal,
            2 => Origin::Static,
            3 => Origin::Auto,
            _ => return None,
        };
        let settled = Address::settled(ip, (w[2] >> 8) as u8, origin, [w[3], w[4]]);
        let bit = |n: u32| w[2] >> n & 1 != 0;
        let standing = if bit(16) { Standing::Duplicate } else { Standing::Ours };
        Some(Kept::Address(Address { standing, on_link: bit(17), ..settled }))
    }
    fn store(&self, kept: &Kept) {
        let (ip, what, until) = match kept {
            Kept::Address(a) => {
                let duplicate = (a.standing == Standing::Duplicate) as u64;
                let bits = duplicate << 16 | (a.on_link as u64) << 17;
                let what = a.origin as u64 | (a.prefix as u64) << 8 | bits;
                (a.ip, what, [a.preferred_until, a.valid_until])
            }
            Kept::Router(ip, metric, until) => (*ip, ROUTER | (*metric as u64) << 32, [0, *until]),
        };
        let bits = ip.to_bits();
        let words = [(bits >> 64) as u64, bits as u64, what, until[0], until[1]];
        self.check.store(0, SeqCst);
        for (to, from) in self.words.iter().zip(words) {
            to.store(from, Relaxed);
        }
        crate::crash::point();
        self.check.store(seal(&words), Release);
        crate::crash::point();
    }
}

impl Record {
    /// Nothing is known.
    pub const fn new() -> Self {
        Self { places: [const { Place::new() }; PLACES] }
    }

    /// What is kept and has not ended.
    pub(crate) fn load(&self, now: u64) -> impl Iterator<Item = Kept> {
        self.places.iter().filter_map(Place::load).filter(move |kept| match kept {
            Kept::Address(a) => a.valid_until > now,
            Kept::Router(_, _, until) => *until > now,
        })
    }

    /// Keeps it, instead of what was kept of the same address.
    pub(crate) fn keep(&self, kept: &Kept, now: u64) {
        let same = self.places.iter().find(|p| p.load().is_some_and(|k| k.key() == kept.key()));
        let free = || self.places.iter().find(|p| p.load().is_none_or(|k| k.end() <= now));
        if let Some(place) = same.or_else(free)
            && place.load() != Some(*kept)
        {
            place.store(kept);
        }
    }

    /// Forgets an address.
    pub(crate) fn forget_address(&self, ip: Ipv6Addr) {
        self.forget((true, ip));
    }

    /// Forgets a router.
    pub(crate) fn forget_router(&self, ip: Ipv6Addr) {
        self.forget((false, ip));
    }

    fn forget(&self, key: (bool, Ipv6Addr)) {
        for p in self.places.iter().filter(|p| p.load().is_some_and(|k| k.key() == key)) {
            p.check.store(0, SeqCst);
            crate::crash::point();
        }
    }
}

impl Default for Record {
    fn default() -> Self {
        Self::new()
    }
}

impl Kept {
    fn key(&self) -> (bool, Ipv6Addr) {
        match self {
            Self::Address(a) => (true, a.ip),
            Self::Router(ip, ..) => (false, *ip),
        }
    }
    fn end(&self) -> u64 {
        match self {
            Self::Address(a) => a.valid_until,
            Self::Router(_, _, until) => *until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::NEVER;
    use super::*;

    fn address(last: u16, duplicate: bool, until: u64) -> Kept {
        let ip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        let standing = if duplicate { Standing::Duplicate } else { Standing::Ours };
        let settled = Address::settled(ip, 64, Origin::Auto, [until, until]);
        Kept::Address(Address { standing, on_link: duplicate, ..settled })
    }

    #[test]
    fn what_is_kept_comes_back_and_damage_is_seen() {
        let r = Record::new();
        let router = Kept::Router(Ipv6Addr::LOCALHOST, 1024, NEVER);
        for kept in [address(1, false, NEVER), address(2, true, 50), router] {
            r.keep(&kept, 0);
        }
        assert!(r.load(0).eq([address(1, false, NEVER), address(2, true, 50), router]));
        assert_eq!(r.load(50).count(), 2, "one has ended");
        r.keep(&address(1, false, 70), 50);
        assert!(r.load(50).eq([address(1, false, 70), router]), "changed where it was");
        r.places[0].words[1].store(9, Relaxed);
        r.forget_router(Ipv6Addr::LOCALHOST);
        assert_eq!(r.load(50).count(), 0);
    }

    #[test]
    fn a_full_record_takes_the_place_of_what_has_ended() {
        let r = Record::new();
        for i in 0..PLACES as u16 {
            r.keep(&address(i, false, 100 + i as u64), 0);
        }
        r.keep(&address(99, false, NEVER), 0);
        assert!(!r.load(0).any(|k| k == address(99, false, NEVER)), "no room");
        r.keep(&address(99, false, NEVER), 100);
        assert!(r.load(100).any(|k| k == address(99, false, NEVER)));
    }
}
