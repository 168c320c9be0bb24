//! What Fast Open (RFC 7413) knows beyond a connection: the cookies that we give, those that we were given,
//! and whether paths swallow them.

use crate::wire::tcp::Cookie;
use alloc::vec::Vec;
use core::hash::Hasher;
use core::net::{IpAddr, Ipv4Addr};
use siphasher::sip::SipHasher24;

const SETS: usize = 32;
const WAYS: usize = 4;
/// A pause that follows another is twice as long, up to this many times.
const PAUSE_DOUBLINGS: u32 = 6;

/// The cookie for who speaks from `remote` to `local` (RFC 7413 4.1.2), as Linux makes it: hosts that share a
/// key may answer for one another.
pub fn cookie(key: (u64, u64), remote: IpAddr, local: IpAddr) -> Cookie {
    let mut h = SipHasher24::new_with_keys(key.0, key.1);
    for ip in [remote, local] {
        match ip {
            IpAddr::V4(ip) => h.write(&ip.octets()),
            IpAddr::V6(ip) => h.write(&ip.octets()),
        }
    }
    Cookie::new(&h.finish().to_le_bytes()).unwrap_or(Cookie::REQUEST)
}

/// What a server has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its cookie, or what asks for one.
    pub cookie: Cookie,
    /// The MSS of its last SYN-ACK; 0: not known.
    pub mss: u16,
    /// It gave none when asked by RFC 7413's option (1), nor by that of the experiment (2).
    tried: u8,
}

#[derive(Clone, Copy)]
struct Entry {
    server: IpAddr,
    used: u64,
    known: Known,
}

const NOBODY: Entry = Entry {
    server: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    used: 0,
    known: Known { cookie: Cookie::REQUEST, mss: 0, tried: 0 },
};

/// What servers have told (RFC 7413 4.1.3): a fixed table of sets of four; who was not used for longest gives
/// way. Soft: who is forgotten is asked again.
pub struct Cache {
    entries: Vec<Entry>,
    key: u64,
    /// No Fast Open until then, and how often there was such a pause.
    paused_until: u64,
    pauses: u32,
}

impl Cache {
    /// Empty. `key` keeps others from choosing addresses that displace one another.
    pub fn new(key: u64) -> Self {
        Self { entries: alloc::vec![NOBODY; SETS * WAYS], key, paused_until: 0, pauses: 0 }
    }

    fn set(&self, server: IpAddr) -> core::ops::Range<usize> {
        let mut h = SipHasher24::new_with_keys(self.key, 0);
        match server {
            IpAddr::V4(ip) => h.write(&ip.octets()),
            IpAddr::V6(ip) => h.write(&ip.octets()),
        }
        let set = h.finish() as usize % SETS;
        set * WAYS..(set + 1) * WAYS
    }

    /// What `server` has told; nothing: a request for a cookie.
    pub fn get(&self, server: IpAddr) -> Known {
        let found = self.entries[self.set(server)].iter().find(|e| e.server == server);
        let known = found.unwrap_or(&NOBODY).known;
        let experimental = known.cookie.is_request() && known.tried == 1;
        let cookie = known.cookie.in_experiment(experimental || known.cookie.experimental);
        Known { cookie, ..known }
    }

    /// A SYN-ACK of `server` had this MSS and perhaps a cookie. `unanswered`: we had asked for one, by the
    /// option of the experiment or not.
    pub fn learn(
        &mut self,
        server: IpAddr,
        mss: u16,
        cookie: Option<Cookie>,
        unanswered: Option<bool>,
        now: u64,
    ) {
        let set = self.set(server);
        let entries = &mut self.entries[set];
        let known = entries.iter().position(|e| e.server == server);
        let oldest = (0..WAYS).min_by_key(|i| entries[*i].used).unwrap_or(0);
        let entry = &mut entries[known.unwrap_or(oldest)];
        if known.is_none() {
            *entry = Entry { server, ..NOBODY };
        }
        // 0 is for places never used.
        entry.used = now.max(1);
        entry.known.mss = mss;
        match (cookie.filter(|c| !c.is_request()), unanswered) {
            (Some(cookie), _) => entry.known.cookie = cookie,
            (None, Some(experimental)) if entry.known.cookie.is_request() => {
                entry.known.tried = entry.known.tried.max(1 + experimental as u8);
            }
            _ => {}
        }
    }

    /// A path seems to swallow what Fast Open sends: none for `pause_s` seconds, longer each time.
    pub fn pause(&mut self, pause_s: u32, now: u64) {
        let pause = (pause_s as u64) << self.pauses.min(PAUSE_DOUBLINGS);
        self.paused_until = now + pause * 1_000_000_000;
        self.pauses += (pause_s != 0) as u32;
    }

    /// Data came through: the next pause is a short one again.
    pub fn works(&mut self) {
        self.pauses = 0;
    }

    /// Forgets all cookies.
    pub fn forget(&mut self) {
        self.entries.fill(NOBODY);
    }

    /// Whether it is not tried at present.
    pub fn is_paused(&self, now: u64) -> bool {
        now < self.paused_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
    }

    #[test]
    fn cookies_are_those_that_linux_makes_with_the_same_key() {
        let key = (0xb2b2_b2b2_a1a1_a1a1, 0xd4d4_d4d4_c3c3_c3c3);
        let of = |a: &str, b: &str| cookie(key, a.parse().unwrap(), b.parse().unwrap());
        let v4 = of("192.0.2.1", "192.168.0.1");
        assert_eq!(v4.get(), 0x3021_b9d8_8901_7eebu64.to_be_bytes());
        assert_ne!(of("192.0.2.2", "192.168.0.1"), v4);
        assert_ne!(of("192.168.0.1", "192.0.2.1"), v4);
        let v6 = of("fd3d:fa7b:17d6::1", "fd3d:0a0b:17d6::1");
        assert_eq!(v6.get().len(), 8);
    }

    #[test]
    fn a_cookie_is_kept_and_a_silent_server_is_asked_in_the_other_way() {
        let mut c = Cache::new(7);
        let (good, none) = (Cookie::new(&[1; 8]), Some(Cookie::REQUEST));
        assert_eq!(c.get(ip(1)), NOBODY.known);
        c.learn(ip(1), 1200, good, None, 1);
        c.learn(ip(1), 1300, none, None, 1);
        assert_eq!((Some(c.get(ip(1)).cookie), c.get(ip(1)).mss), (good, 1300));
        c.learn(ip(2), 1460, None, Some(false), 1);
        assert!(c.get(ip(2)).cookie.is_request() && c.get(ip(2)).cookie.experimental);
        c.learn(ip(2), 1460, None, Some(true), 1);
        assert!(!c.get(ip(2)).cookie.experimental);
        c.learn(ip(2), 1460, None, Some(false), 1);
        assert!(!c.get(ip(2)).cookie.experimental, "both ways have been tried");
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_is_used() {
        let mut c = Cache::new(7);
        for n in 1..100_000 {
            c.learn(ip(n), 1460, Cookie::new(&[2; 8]), None, n as u64);
            c.learn(ip(0), 1460, Cookie::new(&[3; 8]), None, n as u64);
        }
        assert_eq!(Some(c.get(ip(0)).cookie), Cookie::new(&[3; 8]));
        assert!(c.get(ip(1)).cookie.is_request());
    }

    #[test]
    fn pauses_grow_until_it_works() {
        const S: u64 = 1_000_000_000;
        let mut c = Cache::new(7);
        c.pause(0, 5);
        assert!(!c.is_paused(5), "0 is never");
        c.pause(60, 0);
        assert!(c.is_paused(60 * S - 1) && !c.is_paused(60 * S));
        c.pause(60, 0);
        assert!(c.is_paused(120 * S - 1) && !c.is_paused(120 * S));
        c.works();
        c.pause(60, 0);
        assert!(!c.is_paused(60 * S));
    }
}
