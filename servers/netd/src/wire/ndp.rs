//! Neighbour discovery (RFC 4861, 8106 for name servers, 4191 for routes, 7527 for nonces).
//!
//! A message is checked as a whole before anything of it is believed: one option without a length
//! makes it invalid.

use super::ethernet::Mac;
use super::icmpv6::ty;
use super::{Malformed, array, be16, be32};
use core::net::Ipv6Addr;

/// Messages are valid only with this hop limit: no router has passed them on.
pub const HOP_LIMIT: u8 = 255;
/// Room for the longest message that is sent here: a solicitation with two options.
pub const MAX: usize = 24 + 8 + 8;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repr<'a> {
    /// Are there routers?
    RouterSolicit(Options<'a>),
    /// Here is one.
    RouterAdvert(Router, Options<'a>),
    /// Who has this address?
    Solicit(Ipv6Addr, Options<'a>),
    /// I have it.
    Advert(Advert, Options<'a>),
    /// There is a better first hop: target, destination.
    Redirect(Ipv6Addr, Ipv6Addr, Options<'a>),
}

/// What a router says of itself (RFC 4861 4.2, RFC 4191 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    /// Hop limit for packets of ours; 0: it does not say.
    pub hop_limit: u8,
    /// How long it may be the default router, seconds; 0: it is none.
    pub lifetime_s: u16,
    /// Preferred (1), not preferred (-1), or neither.
    pub preference: i8,
    /// How long a neighbour counts as reachable, ms; 0: it does not say.
    pub reachable_ms: u32,
    /// Between two solicitations, ms; likewise.
    pub retrans_ms: u32,
}

/// A neighbour advertisement (RFC 4861 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Whose it is.
    pub target: Ipv6Addr,
    /// The sender is a router.
    pub router: bool,
    /// It answers a solicitation.
    pub solicited: bool,
    /// It replaces the link address that was known.
    pub replaces: bool,
}

/// An option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opt<'a> {
    /// The sender's link address.
    Source(Mac),
    /// The target's.
    Target(Mac),
    /// A prefix.
    Prefix(Prefix),
    /// The MTU of the link.
    Mtu(u32),
    /// A route: prefix and its length, preference, lifetime in seconds.
    Route(Ipv6Addr, u8, i8, u32),
    /// Name servers, and for how many seconds.
    Dns(u32, Servers<'a>),
    /// A number that tells an echo of an own solicitation from another's.
    Nonce([u8; 6]),
    /// Something else.
    Unknown,
}

/// A prefix (RFC 4861 4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Its bits; those behind it mean nothing.
    pub addr: Ipv6Addr,
    /// Its length.
    pub len: u8,
    /// Its addresses are on the link.
    pub on_link: bool,
    /// Addresses may be made of it (RFC 4862).
    pub autonomous: bool,
    /// Seconds that such an address is valid; all ones: for ever.
    pub valid_s: u32,
    /// Seconds that it is preferred, likewise.
    pub preferred_s: u32,
}

/// Addresses of name servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Servers<'a>(&'a [u8]);

impl Iterator for Servers<'_> {
    type Item = Ipv6Addr;
    fn next(&mut self) -> Option<Ipv6Addr> {
        let (ip, rest) = self.0.split_first_chunk::<16>()?;
        self.0 = rest;
        Some(Ipv6Addr::from(*ip))
    }
}

/// The options of a message, which are known to be of possible lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    fn check(b: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = b;
        while let [_, len, ..] = *rest {
            let len = len as usize * 8;
            // RFC 4861 4.6: a length of 0 makes the packet invalid.
            if len == 0 {
                return Err(Malformed::Option);
            }
            rest = rest.get(len..).ok_or(Malformed::Truncated)?;
        }
        if rest.is_empty() { Ok(Self(b)) } else { Err(Malformed::Truncated) }
    }
    /// The link address that the sender says it has.
    pub fn source(self) -> Option<Mac> {
        self.into_iter().find_map(|o| if let Opt::Source(mac) = o { Some(mac) } else { None })
    }
    /// The link address that the target is said to have.
    pub fn target(self) -> Option<Mac> {
        self.into_iter().find_map(|o| if let Opt::Target(mac) = o { Some(mac) } else { None })
    }
    /// The nonce.
    pub fn nonce(self) -> Option<[u8; 6]> {
        self.into_iter().find_map(|o| if let Opt::Nonce(n) = o { Some(n) } else { None })
    }
}

/// Over options.
pub struct OptionsIter<'a>(&'a [u8]);

impl<'a> IntoIterator for Options<'a> {
    type Item = Opt<'a>;
    type IntoIter = OptionsIter<'a>;
    fn into_iter(self) -> OptionsIter<'a> {
        OptionsIter(self.0)
    }
}

impl<'a> Iterator for OptionsIter<'a> {
    type Item = Opt<'a>;
    fn next(&mut self) -> Option<Opt<'a>> {
        let len = *self.0.get(1)? as usize * 8;
        let (option, rest) = self.0.split_at_checked(len).filter(|_| len > 0)?;
        self.0 = rest;
        Some(read(option).unwrap_or(Opt::Unknown))
    }
}

/// Reads an option; `None`: too short for what it is, or of no meaning here.
fn read(b: &[u8]) -> Option<Opt<'_>> {
    let mac = || array(b, 2).ok().map(Mac).filter(|m| b.len() == 8 && m.is_station());
    Some(match b[0] {
        1 => Opt::Source(mac()?),
        2 => Opt::Target(mac()?),
        3 => Opt::Prefix(prefix(b)?),
        5 => Opt::Mtu(be32(b, 4).ok()?),
        14 => Opt::Nonce(array(b, 2).ok().filter(|_| b.len() == 8)?),
        24 => route(b)?,
        25 if b.len() >= 24 && b.len() % 16 == 8 => Opt::Dns(be32(b, 4).ok()?, Servers(&b[8..])),
        _ => return None,
    })
}

fn prefix(b: &[u8]) -> Option<Prefix> {
    let p = Prefix {
        addr: Ipv6Addr::from(array::<16>(b, 16).ok()?),
        len: b[2],
        on_link: b[3] & 0x80 != 0,
        autonomous: b[3] & 0x40 != 0,
        valid_s: be32(b, 4).ok()?,
        preferred_s: be32(b, 8).ok()?,
    };
    (p.len <= 128).then_some(p)
}

/// RFC 4191 2.3: as many bytes of the prefix as its length needs.
fn route(b: &[u8]) -> Option<Opt<'_>> {
    let len = b[2];
    let there = b.len().checked_sub(8)?.min(16);
    if len > 128 || (len as usize).div_ceil(8) > there {
        return None;
    }
    let mut ip = [0; 16];
    ip[..there].copy_from_slice(&b[8..8 + there]);
    Some(Opt::Route(Ipv6Addr::from(ip), len, preference(b[3])?, be32(b, 4).ok()?))
}

/// Two bits in the middle of a byte (RFC 4191 2.1); `None`: reserved.
fn preference(byte: u8) -> Option<i8> {
    [Some(0), Some(1), None, Some(-1)][(byte >> 3 & 3) as usize]
}

impl<'a> Repr<'a> {
    /// Reads a message; its checksum, hop limit and addresses are the caller's business.
    ///
    /// # Errors
    /// Everything that RFC 4861 6.1 and 7.1 say of the message itself.
    pub fn parse(b: &'a [u8]) -> Result<Self, Malformed> {
        let [kind, code] = array(b, 0)?;
        if code != 0 {
            return Err(Malformed::Unsupported);
        }
        let options = |at: usize| Options::check(b.get(at..).ok_or(Malformed::Truncated)?);
        let address = |at: usize| array::<16>(b, at).map(Ipv6Addr::from);
        let target = || address(8).and_then(unicast);
        Ok(match kind {
            ty::ROUTER_SOLICIT => Self::RouterSolicit(options(8)?),
            ty::ROUTER_ADVERT => {
                let router = Router {
                    hop_limit: array::<1>(b, 4)?[0],
                    lifetime_s: be16(b, 6)?,
                    // RFC 4191 2.2: the reserved value counts as neither.
                    preference: preference(array::<1>(b, 5)?[0]).unwrap_or(0),
                    reachable_ms: be32(b, 8)?,
                    retrans_ms: be32(b, 12)?,
                };
                Self::RouterAdvert(router, options(16)?)
            }
            ty::SOLICIT => Self::Solicit(target()?, options(24)?),
            ty::ADVERT => {
                let flags = array::<1>(b, 4)?[0];
                let has = |bit: u8| flags & bit != 0;
                let (router, solicited, replaces) = (has(0x80), has(0x40), has(0x20));
                Self::Advert(
                    Advert { target: target()?, router, solicited, replaces },
                    options(24)?,
                )
            }
            ty::REDIRECT => Self::Redirect(target()?, unicast(address(24)?)?, options(40)?),
            _ => return Err(Malformed::Unsupported),
        })
    }
}

fn unicast(ip: Ipv6Addr) -> Result<Ipv6Addr, Malformed> {
    if ip.is_multicast() { Err(Malformed::Address) } else { Ok(ip) }
}

/// Bytes of a message under construction.
pub struct Message {
    bytes: [u8; MAX],
    len: usize,
}

impl Message {
    fn new(kind: u8, len: usize) -> Self {
        let mut bytes = [0; MAX];
        bytes[0] = kind;
        Self { bytes, len }
    }
    fn option(mut self, kind: u8, value: Option<[u8; 6]>) -> Self {
        if let Some(value) = value {
            let option = &mut self.bytes[self.len..self.len + 8];
            (option[0], option[1]) = (kind, 1);
            option[2..].copy_from_slice(&value);
            self.len += 8;
        }
        self
    }
    /// A router solicitation; `from`: our link address, if we have an address to send from.
    pub fn router_solicit(from: Option<Mac>) -> Self {
        Self::new(ty::ROUTER_SOLICIT, 8).option(1, from.map(|m| m.0))
    }
    /// A solicitation for `target`, with our link address or, if the sender has no address yet, a
    /// nonce.
    pub fn solicit(target: Ipv6Addr, from: Option<Mac>, nonce: Option<[u8; 6]>) -> Self {
        let mut m = Self::new(ty::SOLICIT, 24);
        m.bytes[8..24].copy_from_slice(&target.octets());
        m.option(1, from.map(|m| m.0)).option(14, nonce)
    }
    /// An advertisement, with our link address or without.
    pub fn advert(a: &Advert, at: Option<Mac>) -> Self {
        let mut m = Self::new(ty::ADVERT, 24);
        m.bytes[4] = (a.router as u8) << 7 | (a.solicited as u8) << 6 | (a.replaces as u8) << 5;
        m.bytes[8..24].copy_from_slice(&a.target.octets());
        m.option(2, at.map(|m| m.0))
    }
    /// The bytes, with a checksum field of zero.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn ip(s: &str) -> Ipv6Addr {
        s.parse().unwrap()
    }

    #[test]
    fn solicitations_and_advertisements_both_ways() {
        let target = ip("fe80::9");
        let ask = Message::solicit(target, Some(MAC), None);
        let Ok(Repr::Solicit(who, options)) = Repr::parse(ask.bytes()) else { panic!() };
        assert_eq!((who, options.source(), options.nonce()), (target, Some(MAC), None));
        let probe = Message::solicit(target, None, Some([1, 2, 3, 4, 5, 6]));
        let Ok(Repr::Solicit(_, options)) = Repr::parse(probe.bytes()) else { panic!() };
        assert_eq!((options.source(), options.nonce()), (None, Some([1, 2, 3, 4, 5, 6])));
        let advert = Advert { target, router: false, solicited: true, replaces: true };
        let b = Message::advert(&advert, Some(MAC));
        assert_eq!(b.bytes()[..5], [136, 0, 0, 0, 0x60]);
        let Ok(Repr::Advert(read, options)) = Repr::parse(b.bytes()) else { panic!() };
        assert_eq!((read, options.target()), (advert, Some(MAC)));
        assert_eq!(Message::router_solicit(None).bytes(), [133, 0, 0, 0, 0, 0, 0, 0]);
    }

    fn advert(options: &[&[u8]]) -> Vec<u8> {
        let head = [134, 0, 0, 0, 64, 0x08, 7, 8, 0, 0, 0x75, 0x30, 0, 0, 3, 0xe8];
        [&head[..], &options.concat()].concat()
    }

    #[test]
    fn a_router_says_all_it_has_to_say() {
        let mut prefix = std::vec![3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 7, 8, 0, 0, 0, 0];
        prefix.extend(ip("2001:db8::").octets());
        let route = [24, 2, 48, 0x18, 0, 0, 0, 9, 0x20, 1, 0xd, 0xb8, 0, 7, 0, 0];
        let mut dns = std::vec![25, 3, 0, 0, 0, 0, 0, 60];
        dns.extend(ip("2001:db8::53").octets());
        let source = [1, 1, 2, 0, 0, 0, 0, 9];
        let mtu = [5, 1, 0, 0, 0, 0, 5, 0];
        let b = advert(&[&source, &mtu, &prefix, &route, &dns, &[200, 1, 0, 0, 0, 0, 0, 0]]);
        let Ok(Repr::RouterAdvert(router, options)) = Repr::parse(&b) else { panic!() };
        assert_eq!((router.lifetime_s, router.preference, router.hop_limit), (1800, 1, 64));
        assert_eq!((router.reachable_ms, router.retrans_ms), (30_000, 1000));
        let all: Vec<Opt> = options.into_iter().collect();
        assert_eq!(all[..2], [Opt::Source(MAC), Opt::Mtu(1280)]);
        let Opt::Prefix(p) = all[2] else { panic!() };
        assert_eq!((p.addr, p.len, p.on_link, p.autonomous), (ip("2001:db8::"), 64, true, true));
        assert_eq!((p.valid_s, p.preferred_s), (3600, 1800));
        assert_eq!(all[3], Opt::Route(ip("2001:db8:7::"), 48, -1, 9));
        let Opt::Dns(60, mut servers) = all[4] else { panic!() };
        assert_eq!((servers.next(), servers.next()), (Some(ip("2001:db8::53")), None));
        assert_eq!(all[5], Opt::Unknown);
    }

    #[test]
    fn one_bad_option_spoils_the_message() {
        let good = [1, 1, 2, 0, 0, 0, 0, 9];
        assert_eq!(
            Repr::parse(&advert(&[&good, &[5, 0, 0, 0, 0, 0, 0, 0]])),
            Err(Malformed::Option)
        );
        assert_eq!(Repr::parse(&advert(&[&[5, 2, 0, 0, 0, 0, 0, 0]])), Err(Malformed::Truncated));
        assert_eq!(Repr::parse(&advert(&[&[5]])), Err(Malformed::Truncated));
        let group = Message::solicit(ip("ff02::1"), None, None);
        assert_eq!(Repr::parse(group.bytes()), Err(Malformed::Address));
        // Too short for what it says it is: as if it were not there.
        let short = advert(&[&[3, 1, 64, 0, 0, 0, 0, 0]]);
        let Ok(Repr::RouterAdvert(_, options)) = Repr::parse(&short) else { panic!() };
        assert_eq!(options.into_iter().next(), Some(Opt::Unknown));
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut state = 7u64;
        for _ in 0..20_000 {
            let mut b: Vec<u8> = (0..96)
                .map(|_| {
                    state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    if state >> 62 == 0 { (state >> 33) as u8 } else { (state >> 40) as u8 & 3 }
                })
                .collect();
            (b[0], b[1]) = (133 + b[0] % 5, 0);
            b.truncate(8 + (state >> 33) as usize % 89);
            match Repr::parse(&b) {
                Ok(Repr::RouterAdvert(_, o) | Repr::RouterSolicit(o)) => {
                    for opt in o {
                        if let Opt::Dns(_, servers) = opt {
                            assert!(servers.count() > 0);
                        }
                    }
                }
                Ok(Repr::Solicit(_, o) | Repr::Advert(_, o) | Repr::Redirect(_, _, o)) => {
                    let _ = (o.source(), o.target(), o.nonce());
                }
                Err(_) => {}
            }
        }
    }
}
