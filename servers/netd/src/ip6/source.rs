//! From which address to speak to whom (RFC 6724 5).

use super::address::Address;
use crate::wire::ipv6::scope;
use core::net::Ipv6Addr;

/// An address of this host.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub address: &'a Address,
    /// The packet leaves by its card.
    pub on_out: bool,
}

/// The address to speak to `dst` from. Rules 4 (mobile), 5.5 and 7 (temporary addresses) have no
/// meaning here.
pub(crate) fn select<'a>(
    addresses: impl Iterator<Item = Candidate<'a>>,
    dst: Ipv6Addr,
    now: u64,
) -> Option<Ipv6Addr> {
    let ours = addresses.filter(|c| c.address.is_ours());
    ours.max_by_key(|c| rank(c, dst, now)).map(|c| c.address.ip)
}

/// Of two addresses the one with the greater rank is better; of equal ones, the later.
fn rank(c: &Candidate<'_>, dst: Ipv6Addr, now: u64) -> (bool, i16, bool, bool, bool, u32) {
    let a = c.address;
    let (own, wanted) = (scope(a.ip) as i16, scope(dst) as i16);
    // Rule 2: the smallest scope that reaches it; if none does, the greatest.
    let reach = if own >= wanted { 256 - own } else { own };
    let labelled = label(a.ip) == label(dst);
    (a.ip == dst, reach, !a.is_deprecated(now), c.on_out, labelled, common_prefix(a, dst))
}

/// Rule 8: bits in common, as far as the address' own prefix.
fn common_prefix(a: &Address, dst: Ipv6Addr) -> u32 {
    (a.ip.to_bits() ^ dst.to_bits()).leading_zeros().min(a.prefix as u32)
}

/// Labels of the default policy table (RFC 6724 2.1): longest prefix first.
fn label(ip: Ipv6Addr) -> u8 {
    let bits = ip.to_bits();
    let top = |n: u32| bits >> (128 - n);
    match () {
        _ if bits == 1 => 0,
        _ if top(96) == 0xffff => 4,
        _ if top(96) == 0 => 3,
        _ if top(32) == 0x2001_0000 => 5,
        _ if top(16) == 0x2002 => 2,
        _ if top(16) == 0x3ffe => 12,
        _ if top(10) == 0xfec0 >> 6 => 11,
        _ if top(7) == 0xfc >> 1 => 13,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::super::NEVER;
    use super::super::address::{Origin, Standing};
    use super::*;

    fn ip(s: &str) -> Ipv6Addr {
        s.parse().unwrap()
    }

    fn here(address: &Address) -> Candidate<'_> {
        Candidate { address, on_out: true }
    }

    fn pick(own: &[(&str, u64)], dst: &str) -> Ipv6Addr {
        let all: heapless::Vec<Address, 8> = own
            .iter()
            .map(|(text, until)| Address::settled(ip(text), 64, Origin::Auto, [*until, NEVER]))
            .collect();
        select(all.iter().map(here), ip(dst), 100).unwrap()
    }

    #[test]
    fn the_examples_of_rfc_6724() {
        let n = NEVER;
        // 10.1, as far as they are about one interface.
        for (own, dst, expected) in [
            (&[("2001:db8:3::1", n), ("fe80::1", n)][..], "2001:db8:1::1", "2001:db8:3::1"),
            (&[("2001:db8:3::1", n), ("fe80::1", n)], "ff05::1", "2001:db8:3::1"),
            (&[("2001:db8:3::1", n), ("fe80::1", n)], "fe80::9", "fe80::1"),
            (&[("2001:db8:1::1", n), ("2001:db8:1::2", n)], "2001:db8:1::1", "2001:db8:1::1"),
            (&[("fe80::1", n), ("2001:db8:1::1", 50)], "2001:db8:1::9", "2001:db8:1::1"),
            (&[("2001:db8:1::2", n), ("2001:db8:3::2", n)], "2001:db8:1::1", "2001:db8:1::2"),
            (
                &[("2001:db8:1::2", n), ("2002:c633:6401::d", n)],
                "2002:c633:6401::9",
                "2002:c633:6401::d",
            ),
            (&[("2001:db8:1::2", 50), ("2001:db8:3::2", n)], "2001:db8:1::1", "2001:db8:3::2"),
            (&[("fd00::2", n), ("2001:db8:3::2", n)], "fd77::1", "fd00::2"),
            (&[("2001:db8:3::2", n), ("fec0::2", n)], "2a00::1", "2001:db8:3::2"),
        ] {
            assert_eq!(pick(own, dst), ip(expected), "{dst} from {own:?}");
        }
    }

    #[test]
    fn an_address_that_is_not_settled_is_no_source() {
        let ours = Address::settled(ip("2001:db8::1"), 64, Origin::Auto, [NEVER; 2]);
        let a = Address { standing: Standing::Duplicate, ..ours };
        assert_eq!(select([a].iter().map(here), ip("2001:db8::2"), 0), None);
    }

    #[test]
    fn the_card_that_it_leaves_by_comes_before_the_longest_match() {
        let of = |text| Address::settled(ip(text), 64, Origin::Auto, [NEVER; 2]);
        let (there, near) = (of("2001:db8:3::1"), of("2001:db8:1::1"));
        for (on_out, best) in [(false, near), (true, there)] {
            let all = [
                Candidate { address: &there, on_out },
                Candidate { address: &near, on_out: false },
            ];
            assert_eq!(select(all.into_iter(), ip("2001:db8:1::9"), 0), Some(best.ip));
        }
    }
}
