//! What is known of the way to a destination, of both families: its MTU (RFC 1191, RFC 8201), a
//! better gateway (ICMP redirect), and how many ICMP errors it was sent lately.
//!
//! A fixed table of sets of four; who was not heard of for longest gives way. All of it is soft.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

const SETS: usize = 64;
const WAYS: usize = 4;
const S: u64 = 1_000_000_000;
/// How long a path MTU is believed (RFC 1191 6.3: ten minutes), and a redirect.
pub const EXPIRES_NS: u64 = 600 * S;
/// Errors to one destination: one a second (Linux's `icmp_ratelimit`), so many saved up at most.
const ERROR_NS: u64 = S;
const ERRORS: u64 = 6;

#[derive(Clone, Copy)]
struct Path {
    dst: IpAddr,
    used: u64,
    /// 0: that of the interface.
    mtu: u16,
    /// Whether that is more than the path carries, so that routers have to cut packets.
    cut: bool,
    mtu_until: u64,
    gateway: Option<IpAddr>,
    gateway_until: u64,
    /// Errors are paid for with time: what has been saved, and since when.
    saved: u64,
    saved_at: u64,
}

const NOWHERE: Path = Path {
    dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    used: 0,
    mtu: 0,
    cut: false,
    mtu_until: 0,
    gateway: None,
    gateway_until: 0,
    saved: ERRORS * ERROR_NS,
    saved_at: 0,
};

/// The table.
pub struct Paths {
    paths: Vec<Path>,
    key: u64,
    /// Paths with an MTU or a gateway of their own, at most: nothing to look for while there is none.
    special: bool,
}

impl Paths {
    /// Empty. `key` keeps others from choosing addresses that displace one another.
    pub fn new(key: u64) -> Self {
        Self { paths: alloc::vec![NOWHERE; SETS * WAYS], key, special: false }
    }

    fn set(&self, dst: IpAddr) -> core::ops::Range<usize> {
        let bits = match dst {
            IpAddr::V4(ip) => ip.to_bits() as u64,
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 ^ (ip.to_bits() as u64).rotate_left(29),
        };
        let hash = (bits ^ self.key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let set = (hash >> 40) as usize % SETS;
        set * WAYS..(set + 1) * WAYS
    }

    fn find(&self, dst: IpAddr) -> Option<&Path> {
        self.paths[self.set(dst)].iter().find(|p| p.dst == dst)
    }

    fn entry(&mut self, dst: IpAddr, now: u64) -> &mut Path {
        let set = self.set(dst);
        let paths = &mut self.paths[set];
        let known = paths.iter().position(|p| p.dst == dst);
        let oldest = (0..WAYS).min_by_key(|i| paths[*i].used).unwrap_or(0);
        let path = &mut paths[known.unwrap_or(oldest)];
        if known.is_none() {
            *path = Path { dst, saved_at: now, ..NOWHERE };
        }
        // 0 is for places never used.
        path.used = now.max(1);
        path
    }

    /// Whether a path has an MTU or a gateway of its own.
    #[inline]
    pub fn is_special(&self) -> bool {
        self.special
    }

    /// The MTU of the path to `dst`, where it is smaller than the interface's.
    pub fn mtu(&self, dst: IpAddr, now: u64) -> Option<u16> {
        if !self.special {
            return None;
        }
        self.find(dst).filter(|p| p.mtu != 0 && now < p.mtu_until).map(|p| p.mtu)
    }

    /// Whether packets to `dst` have to be cut on the way: not even the smallest that are sent fit.
    #[inline]
    pub fn must_cut(&self, dst: IpAddr, now: u64) -> bool {
        self.special && self.find(dst).is_some_and(|p| p.cut && now < p.mtu_until)
    }

    /// A router says that packets to `dst` must not be longer than `mtu` bytes, less than which, `least`, is
    /// not believed: what is that long goes without DF then (Linux's `ip_rt_min_pmtu`).
    pub fn learn_mtu(&mut self, dst: IpAddr, mtu: u16, least: u16, now: u64) {
        self.special = true;
        let path = self.entry(dst, now);
        (path.mtu, path.cut, path.mtu_until) = (mtu.max(least), mtu < least, now + EXPIRES_NS);
    }

    /// The gateway to `dst` that another one recommended.
    pub fn gateway(&self, dst: IpAddr, now: u64) -> Option<IpAddr> {
        if !self.special {
            return None;
        }
        self.find(dst).filter(|p| now < p.gateway_until).and_then(|p| p.gateway)
    }

    /// A gateway recommends another one for `dst` (RFC 1122 3.3.1.2).
    pub fn learn_gateway(&mut self, dst: IpAddr, gateway: IpAddr, now: u64) {
        self.special = true;
        let path = self.entry(dst, now);
        (path.gateway, path.gateway_until) = (Some(gateway), now + EXPIRES_NS);
    }

    /// Whether another ICMP error may be sent to `dst`; if so, it is counted.
    pub fn admit_error(&mut self, dst: IpAddr, now: u64) -> bool {
        let path = self.entry(dst, now);
        let saved = path.saved + now.saturating_sub(path.saved_at);
        (path.saved, path.saved_at) = (saved.min(ERRORS * ERROR_NS), now);
        let admitted = path.saved >= ERROR_NS;
        if admitted {
            path.saved -= ERROR_NS;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
    }

    #[test]
    fn an_mtu_and_a_gateway_are_believed_for_ten_minutes() {
        let mut p = Paths::new(7);
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        p.learn_mtu(ip(1), 576, 552, S);
        p.learn_mtu(six, 1280, 1280, S);
        p.learn_gateway(ip(1), ip(9), S);
        for now in [S, S + EXPIRES_NS - 1] {
            assert_eq!((p.mtu(ip(1), now), p.mtu(six, now)), (Some(576), Some(1280)));
            assert_eq!((p.gateway(ip(1), now), p.gateway(six, now)), (Some(ip(9)), None));
        }
        let now = S + EXPIRES_NS;
        assert_eq!((p.mtu(ip(1), now), p.gateway(ip(1), now)), (None, None));
        assert_eq!(p.mtu(ip(2), S), None);
    }

    #[test]
    fn what_does_not_fit_whatever_is_done_is_cut() {
        let mut p = Paths::new(7);
        p.learn_mtu(ip(1), 551, 552, S);
        p.learn_mtu(ip(2), 552, 552, S);
        assert_eq!((p.mtu(ip(1), S), p.mtu(ip(2), S)), (Some(552), Some(552)));
        assert!(p.must_cut(ip(1), S) && !p.must_cut(ip(2), S) && !p.must_cut(ip(3), S));
        assert!(!p.must_cut(ip(1), S + EXPIRES_NS));
    }

    #[test]
    fn six_errors_at_once_then_one_a_second_each() {
        let mut p = Paths::new(7);
        let sent = |p: &mut Paths, n, now| (0..20).filter(|_| p.admit_error(ip(n), now)).count();
        assert_eq!(sent(&mut p, 1, 0), 6);
        assert_eq!(sent(&mut p, 2, 0), 6, "others have a limit of their own");
        assert_eq!(sent(&mut p, 1, S - 1), 0);
        assert_eq!(sent(&mut p, 1, S), 1);
        assert_eq!(sent(&mut p, 1, 100 * S), 6, "no more are saved up");
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_is_used() {
        let mut p = Paths::new(7);
        p.learn_mtu(ip(0), 600, 552, 1);
        for n in 1..100_000 {
            p.admit_error(ip(n), n as u64 + 1);
            if n % 50 == 0 {
                p.learn_mtu(ip(0), 600, 552, n as u64 + 1);
            }
        }
        assert_eq!(p.mtu(ip(0), 100_001), Some(600));
    }
}
