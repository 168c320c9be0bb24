//! ICMPv6 (RFC 4443): echo, and errors. What neighbours and groups say is in `ndp` and `mld`.

use super::icmp::Quote;
use super::{Malformed, array, be16, be32, ext, ip, ipv6};
use core::net::{IpAddr, Ipv6Addr};

/// Bytes of the header of every message: type, code, checksum, and a word that depends on them.
pub const HEADER: usize = 8;
/// Bytes of an offending packet that an error quotes: as many as let it arrive anywhere
/// (RFC 4443 2.4 (c)).
pub const QUOTED: usize = ipv6::MIN_MTU as usize - ipv6::HEADER - HEADER;

/// Types.
pub mod ty {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Multicast listener query (RFC 2710, RFC 3810).
    pub const MLD_QUERY: u8 = 130;
    /// Report of the first version.
    pub const MLD_REPORT: u8 = 131;
    /// Done of the first version.
    pub const MLD_DONE: u8 = 132;
    /// Router solicitation (RFC 4861).
    pub const ROUTER_SOLICIT: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERT: u8 = 134;
    /// Neighbour solicitation.
    pub const SOLICIT: u8 = 135;
    /// Neighbour advertisement.
    pub const ADVERT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
    /// Report of the second version.
    pub const MLD2_REPORT: u8 = 143;
}

/// Code of "port unreachable".
pub const NO_PORT: u8 = 4;
/// Code of "fragment reassembly time exceeded".
pub const REASSEMBLY: u8 = 1;

/// What an error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Not delivered, for the reason that the code names (RFC 4443 3.1).
    Unreachable(u8),
    /// Too big for a link of this MTU.
    TooBig(u32),
    /// Too many hops (0), or fragments did not come in time (1).
    TimeExceeded(u8),
    /// Not understood: a field (0), a next header (1), an option (2).
    Parameter(u8),
}

/// A message, as far as this module reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repr {
    /// Echo request or reply.
    Echo {
        /// A reply.
        reply: bool,
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
    },
    /// An error about a packet of ours.
    Error(Problem, Quote),
    /// A message of neighbour discovery: its type.
    Neighbour(u8),
    /// A message about group membership: its type.
    Listener(u8),
}

impl Repr {
    /// Reads a message from its first bytes; the checksum is the caller's business, since it
    /// covers a payload that may lie elsewhere.
    ///
    /// # Errors
    /// [`Malformed::Unsupported`] for types that nobody here listens to.
    pub fn parse(b: &[u8]) -> Result<Self, Malformed> {
        let [ty, code] = array(b, 0)?;
        let (id, seq) = (be16(b, 4)?, be16(b, 6)?);
        let why = match (ty, code) {
            (ty::ECHO_REQUEST | ty::ECHO_REPLY, _) => {
                return Ok(Self::Echo { reply: ty == ty::ECHO_REPLY, id, seq });
            }
            (ty::ROUTER_SOLICIT..=ty::REDIRECT, _) => return Ok(Self::Neighbour(ty)),
            (ty::MLD_QUERY..=ty::MLD_DONE | ty::MLD2_REPORT, _) => return Ok(Self::Listener(ty)),
            (ty::UNREACHABLE, _) => Problem::Unreachable(code),
            (ty::TOO_BIG, _) => Problem::TooBig(be32(b, 4)?),
            (ty::TIME_EXCEEDED, _) => Problem::TimeExceeded(code),
            (ty::PARAMETER, _) => Problem::Parameter(code),
            _ => return Err(Malformed::Unsupported),
        };
        Ok(Self::Error(why, quote(&b[HEADER..])?))
    }
}

/// The packet that an error speaks of. What we send has at most a fragment header before the
/// transport; a later fragment says nothing about it.
fn quote(b: &[u8]) -> Result<Quote, Malformed> {
    if b.first().is_none_or(|v| v >> 4 != 6) {
        return Err(Malformed::Unsupported);
    }
    let chain = ext::Chain::new(array::<1>(b, 6)?[0]);
    let (protocol, at) = match chain.next {
        ext::number::FRAGMENT => {
            let [next, _, high, low] = array(b, ipv6::HEADER)?;
            if u16::from_be_bytes([high, low]) & !7 != 0 {
                return Err(Malformed::Fragment);
            }
            (next, ipv6::HEADER + ext::FRAGMENT_HEADER)
        }
        next => (next, ipv6::HEADER),
    };
    Ok(Quote {
        src: IpAddr::V6(Ipv6Addr::from(array::<16>(b, 8)?)),
        dst: IpAddr::V6(Ipv6Addr::from(array::<16>(b, 24)?)),
        protocol,
        len: be16(b, 4)?.saturating_add(ipv6::HEADER as u16),
        header: at as u16,
        transport: array(b, at)?,
    })
}

/// Whether an error may be sent about a packet whose transport is `protocol` and begins with
/// `first`: not about an error, nor about a redirect (RFC 4443 2.4 (e)).
pub fn may_be_answered(protocol: u8, first: Option<u8>) -> bool {
    protocol != ip::protocol::ICMPV6 || first.is_some_and(|ty| ty >= 128 && ty != ty::REDIRECT)
}

/// Writes the header of an echo message with a checksum field of zero.
pub fn emit_echo(reply: bool, id: u16, seq: u16, out: &mut [u8; HEADER]) {
    *out = [if reply { ty::ECHO_REPLY } else { ty::ECHO_REQUEST }, 0, 0, 0, 0, 0, 0, 0];
    out[4..6].copy_from_slice(&id.to_be_bytes());
    out[6..8].copy_from_slice(&seq.to_be_bytes());
}

/// Writes the header of an error with a checksum field of zero; `word` is the MTU, or a pointer,
/// or 0. The quote follows it.
pub fn emit_error(ty: u8, code: u8, word: u32, out: &mut [u8; HEADER]) {
    *out = [ty, code, 0, 0, 0, 0, 0, 0];
    out[4..].copy_from_slice(&word.to_be_bytes());
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn echo_both_ways() {
        let mut out = [0; HEADER];
        emit_echo(false, 0x1234, 5, &mut out);
        assert_eq!(out, [128, 0, 0, 0, 0x12, 0x34, 0, 5]);
        assert_eq!(Repr::parse(&out), Ok(Repr::Echo { reply: false, id: 0x1234, seq: 5 }));
        emit_echo(true, 1, 2, &mut out);
        assert_eq!(Repr::parse(&out), Ok(Repr::Echo { reply: true, id: 1, seq: 2 }));
    }

    /// An error about a packet of ours, with these headers behind its IPv6 header.
    fn error(ty: u8, code: u8, word: u32, next: u8, rest: &[u8]) -> Vec<u8> {
        let mut head = [0; HEADER];
        emit_error(ty, code, word, &mut head);
        let mut ip = [0; ipv6::HEADER];
        let (src, dst) = ("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap());
        let payload_len = 100;
        ipv6::Repr { src, dst, next, hop_limit: 9, class: 0, flow: 0, payload_len }.emit(&mut ip);
        [&head[..], &ip, rest].concat()
    }

    #[test]
    fn errors_carry_the_packet_they_speak_of() {
        let transport = [0, 53, 0, 99, 1, 2, 3, 4];
        let quote = Quote {
            src: "fe80::1".parse().unwrap(),
            dst: "fe80::2".parse().unwrap(),
            protocol: 17,
            len: 140,
            header: 40,
            transport,
        };
        for (ty, code, word, why) in [
            (1, 4, 0, Problem::Unreachable(4)),
            (1, 6, 0, Problem::Unreachable(6)),
            (2, 0, 1400, Problem::TooBig(1400)),
            (2, 0, 1 << 20, Problem::TooBig(1 << 20)),
            (3, 0, 0, Problem::TimeExceeded(0)),
            (4, 1, 6, Problem::Parameter(1)),
        ] {
            let b = error(ty, code, word, 17, &transport);
            assert_eq!(Repr::parse(&b), Ok(Repr::Error(why, quote)), "{ty} {code}");
            assert_eq!(Repr::parse(&b[..b.len() - 1]), Err(Malformed::Truncated));
        }
        let mut fragment = [0; 16];
        fragment[..4].copy_from_slice(&[17, 0, 0, 1]);
        fragment[8..].copy_from_slice(&transport);
        let first = error(2, 0, 1400, 44, &fragment);
        let quote = Quote { header: 48, ..quote };
        assert_eq!(Repr::parse(&first), Ok(Repr::Error(Problem::TooBig(1400), quote)));
        fragment[3] = 9;
        let second = error(2, 0, 1400, 44, &fragment);
        assert_eq!(Repr::parse(&second), Err(Malformed::Fragment));
    }

    #[test]
    fn errors_are_not_answered_with_errors() {
        for ty in [1, 2, 3, 4, 127, 137] {
            assert!(!may_be_answered(58, Some(ty)), "{ty}");
        }
        assert!(may_be_answered(58, Some(128)) && may_be_answered(17, Some(1)));
        assert!(!may_be_answered(58, None));
    }
}
