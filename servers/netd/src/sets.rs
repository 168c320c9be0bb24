//! Tables of sets: where an address may stand. A secret key keeps others from choosing addresses that displace one
//! another.

use core::net::IpAddr;
use core::ops::Range;

/// The places of `ip` in a table of `sets` sets of `ways` each; `salt` tells tables' entries of the same address apart.
pub fn places(ip: IpAddr, salt: u64, key: u64, sets: usize, ways: usize) -> Range<usize> {
    let bits = match ip {
        IpAddr::V4(ip) => ip.to_bits() as u64,
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 ^ (ip.to_bits() as u64).rotate_left(29),
    };
    let hash = (bits ^ salt ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let set = (hash >> 40) as usize % sets;
    set * ways..(set + 1) * ways
}
