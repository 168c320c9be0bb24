//! What is known of the way to a destination, of both families: its MTU (RFC 1191, RFC 8201), a
//! better gateway (ICMP redirect), and how many ICMP errors it was sent lately.
//!
//! Two fixed tables of sets of four; who was not heard of for longest gives way. All of it is soft.

use crate::dev::Hop;
use crate::sets;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

const SETS: usize = 64;
const WAYS: usize = 4;
const S: u64 = 1_000_000_000;
/// How long a path MTU is believed (RFC 1191 6.3: ten minutes), and a redirect.
pub const EXPIRES_NS: u64 = 600 * S;
/// No path of IPv4 is believed to be narrower (Linux's `min_pmtu`).
pub const LEAST_MTU: u16 = 552;
/// Errors to one destination: one a second (Linux's `icmp_ratelimit`), so many saved up at most.
const ERROR_NS: u64 = S;
const ERRORS: u64 = 6;

/// What is known of one destination.
#[derive(Clone, Copy, Default)]
struct Path {
    /// 0: that of the interface.
    mtu: u16,
    /// It is narrower than that: what is sent there must be cut on the way.
    cut: bool,
    mtu_until: u64,
    gateway: Option<Hop>,
    gateway_until: u64,
}

/// Errors are paid for with time: what has been saved, and since when.
#[derive(Clone, Copy, Default)]
struct Limit {
    saved: u64,
    saved_at: u64,
}

#[derive(Clone, Copy)]
struct Entry<T> {
    dst: IpAddr,
    /// When it was last needed; 0: its place was never used.
    used: u64,
    about: T,
}

struct Table<T> {
    all: Vec<Entry<T>>,
    key: u64,
}

impl<T: Copy + Default> Table<T> {
    fn nobody() -> Entry<T> {
        Entry { dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED), used: 0, about: T::default() }
    }

    fn new(key: u64) -> Self {
        Self { all: alloc::vec![Self::nobody(); SETS * WAYS], key }
    }

    fn forget(&mut self) {
        self.all.fill(Self::nobody());
    }

    fn set(&self, dst: IpAddr) -> core::ops::Range<usize> {
        sets::places(dst, 0, self.key, SETS, WAYS)
    }

    fn find(&self, dst: IpAddr) -> Option<&T> {
        self.all[self.set(dst)].iter().find(|e| e.dst == dst).map(|e| &e.about)
    }

    /// What is known of `dst`; `new` if that is nothing.
    fn entry(&mut self, dst: IpAddr, new: T, now: u64) -> &mut T {
        let set = self.set(dst);
        let all = &mut self.all[set];
        let known = all.iter().position(|e| e.dst == dst);
        let oldest = (0..WAYS).min_by_key(|i| all[*i].used).unwrap_or(0);
        let one = &mut all[known.unwrap_or(oldest)];
        if known.is_none() {
            *one = Entry { dst, used: 0, about: new };
        }
        one.used = now.max(1);
        &mut one.about
    }
}

/// The tables.
pub struct Paths {
    paths: Table<Path>,
    limits: Table<Limit>,
    /// Until then some path may have an MTU or a gateway of its own.
    special_until: u64,
}

impl Paths {
    /// Empty. `key` keeps others from choosing addresses that displace one another.
    pub fn new(key: u64) -> Self {
        Self { paths: Table::new(key), limits: Table::new(key), special_until: 0 }
    }

    /// Whether a path has an MTU or a gateway of its own.
    #[inline]
    pub fn is_special(&self, now: u64) -> bool {
        now < self.special_until
    }

    fn path(&self, dst: IpAddr, now: u64) -> Option<&Path> {
        if self.is_special(now) { self.paths.find(dst) } else { None }
    }

    /// The MTU of the path to `dst`, where it is smaller than the interface's.
    pub fn mtu(&self, dst: IpAddr, now: u64) -> Option<u16> {
        self.path(dst, now).filter(|p| p.mtu != 0 && now < p.mtu_until).map(|p| p.mtu)
    }

    /// Whether the path to `dst` is narrower than [`LEAST_MTU`]: what is sent there may be cut, or nothing arrives.
    pub fn must_cut(&self, dst: IpAddr, now: u64) -> bool {
        self.path(dst, now).is_some_and(|p| p.cut && now < p.mtu_until)
    }

    /// A router says that packets to `dst` must not be longer than `mtu` bytes.
    pub fn learn_mtu(&mut self, dst: IpAddr, mtu: u16, now: u64) {
        let path = self.paths.entry(dst, Path::default(), now);
        path.cut = dst.is_ipv4() && mtu < LEAST_MTU;
        path.mtu = if path.cut { LEAST_MTU } else { mtu };
        path.mtu_until = now + EXPIRES_NS;
        self.special_until = now + EXPIRES_NS;
    }

    /// The gateway to `dst` that another one recommended.
    pub fn gateway(&self, dst: IpAddr, now: u64) -> Option<Hop> {
        self.path(dst, now).filter(|p| now < p.gateway_until).and_then(|p| p.gateway)
    }

    /// A gateway recommends another one for `dst` (RFC 1122 3.3.1.2).
    pub fn learn_gateway(&mut self, dst: IpAddr, gateway: Hop, now: u64) {
        let path = self.paths.entry(dst, Path::default(), now);
        (path.gateway, path.gateway_until) = (Some(gateway), now + EXPIRES_NS);
        self.special_until = now + EXPIRES_NS;
    }

    /// Forgets MTUs and gateways: this may be another network.
    pub fn forget(&mut self) {
        if core::mem::take(&mut self.special_until) > 0 {
            self.paths.forget();
        }
    }

    /// Whether another ICMP error may be sent to `dst`; if so, it is counted.
    pub fn admit_error(&mut self, dst: IpAddr, now: u64) -> bool {
        let new = Limit { saved: ERRORS * ERROR_NS, saved_at: now };
        let limit = self.limits.entry(dst, new, now);
        let saved = limit.saved + now.saturating_sub(limit.saved_at);
        (limit.saved, limit.saved_at) = (saved.min(ERRORS * ERROR_NS), now);
        let admitted = limit.saved >= ERROR_NS;
        if admitted {
            limit.saved -= ERROR_NS;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::Dev;

    fn hop(ip: IpAddr) -> Hop {
        Hop { dev: Dev::FIRST, ip }
    }

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
    }

    #[test]
    fn an_mtu_and_a_gateway_are_believed_for_ten_minutes() {
        let mut p = Paths::new(7);
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        p.learn_mtu(ip(1), 576, S);
        p.learn_mtu(six, 1280, S);
        p.learn_gateway(ip(1), hop(ip(9)), S);
        for now in [S, S + EXPIRES_NS - 1] {
            assert_eq!((p.mtu(ip(1), now), p.mtu(six, now)), (Some(576), Some(1280)));
            assert_eq!((p.gateway(ip(1), now), p.gateway(six, now)), (Some(hop(ip(9))), None));
        }
        let now = S + EXPIRES_NS;
        assert_eq!((p.mtu(ip(1), now), p.gateway(ip(1), now)), (None, None));
        assert_eq!(p.mtu(ip(2), S), None);
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
    fn the_tables_are_bounded_and_errors_displace_no_path() {
        let mut p = Paths::new(7);
        p.learn_mtu(ip(0), 600, 1);
        for n in 1..100_000 {
            p.admit_error(ip(n), n as u64 + 1);
        }
        assert_eq!(p.mtu(ip(0), 100_001), Some(600));
        for n in 1..10_000 {
            p.learn_mtu(ip(n), 600, n as u64 + 1);
        }
        assert_eq!(p.mtu(ip(0), 100_001), None);
    }

    #[test]
    fn below_the_least_packets_may_be_cut() {
        let mut p = Paths::new(7);
        p.learn_mtu(ip(1), 551, S);
        p.learn_mtu(ip(2), 552, S);
        assert_eq!(
            [1, 2].map(|n| (p.mtu(ip(n), S), p.must_cut(ip(n), S))),
            [(Some(552), true), (Some(552), false)]
        );
        assert!(
            p.is_special(S) && !p.is_special(S + EXPIRES_NS) && !p.must_cut(ip(1), S + EXPIRES_NS)
        );
        p.forget();
        assert_eq!((p.mtu(ip(1), S), p.is_special(S)), (None, false));
    }
}
