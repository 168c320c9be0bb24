//! The chain of extension headers (RFC 8200 4), up to what a stack has to do next: take the
//! transport, or put fragments together.
//!
//! Nothing is copied: a header is read where the NIC put it, a few bytes at a time, each once.
//! Limits are Linux's: eight options that mean something in a header, seven bytes of padding
//! in a row (RFC 8504 5.3). The chain itself is as long as the packet at most.

use super::{Malformed, be16};

/// Numbers of the headers.
pub mod number {
    /// Hop-by-hop options, only behind the IPv6 header.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Nothing follows.
    pub const NONE: u8 = 59;
    /// Options for the destination.
    pub const DESTINATION: u8 = 60;
}

/// Bytes of a fragment header.
pub const FRAGMENT_HEADER: usize = 8;
/// Options other than padding in one header.
const MAX_OPTIONS: u32 = 8;
/// Bytes of padding in a row.
const MAX_PADDING: u32 = 7;
/// Router alert (RFC 2711).
const ROUTER_ALERT: u8 = 5;

/// Reads some bytes of the packet, counted from its IPv6 header; `false`: there are none.
pub trait Reader {
    /// See [`Reader`].
    fn read(&self, at: usize, out: &mut [u8]) -> bool;
}

impl Reader for [u8] {
    fn read(&self, at: usize, out: &mut [u8]) -> bool {
        let Some(from) = self.get(at..).and_then(|b| b.get(..out.len())) else { return false };
        out.copy_from_slice(from);
        true
    }
}

/// Where the walk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Number of the header at `at`.
    pub next: u8,
    /// Offset from the IPv6 header.
    pub at: usize,
    /// Where the number stands: what an error about it points at.
    pub named_at: usize,
    /// Value of a router alert option, if there was one.
    pub alert: Option<u16>,
    /// A fragment header came before, even if one fragment was all.
    pub fragmented: bool,
}

/// A fragment header (RFC 8200 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// What follows in the whole packet.
    pub next: u8,
    /// Offset of this part, in bytes.
    pub offset: u16,
    /// More come.
    pub more: bool,
    /// Which packet.
    pub id: u32,
}

/// Why a packet goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is dropped.
    Drop(Malformed),
    /// So it is, and its sender is told (ICMPv6 type 4).
    Tell {
        /// Code of the message.
        code: u8,
        /// Offset of what is wrong.
        pointer: u32,
        /// Even if it was sent to a group.
        group: bool,
    },
}

impl From<Malformed> for Problem {
    fn from(why: Malformed) -> Self {
        Self::Drop(why)
    }
}

/// ICMPv6 parameter problem: a field that is wrong.
pub const BAD_FIELD: u8 = 0;
/// A next header that is not known.
pub const BAD_NEXT: u8 = 1;
/// An option that is not known.
pub const BAD_OPTION: u8 = 2;
/// The first fragment lacks headers (RFC 7112).
pub const INCOMPLETE: u8 = 3;

impl Chain {
    /// At the beginning: behind an IPv6 header that says `next`.
    pub const fn new(next: u8) -> Self {
        Self { next, at: super::ipv6::HEADER, named_at: 6, alert: None, fragmented: false }
    }

    /// Goes on to the transport, a fragment header, or whatever else is not passed over. `end`:
    /// where the packet ends.
    ///
    /// # Errors
    /// [`Problem`].
    pub fn walk(mut self, packet: &(impl Reader + ?Sized), end: usize) -> Result<Self, Problem> {
        let first = self.at;
        loop {
            match self.next {
                number::HOP_BY_HOP if self.at == first && self.named_at == 6 => {
                    self.alert = self.options(packet, end)?.or(self.alert);
                }
                number::DESTINATION => {
                    self.options(packet, end)?;
                }
                number::ROUTING => self.routing(packet, end)?,
                _ => return Ok(self),
            }
            self = self.step(packet, end)?;
        }
    }

    /// The two bytes with which every header begins that can be passed over, and its end.
    fn header(
        &self,
        packet: &(impl Reader + ?Sized),
        end: usize,
    ) -> Result<([u8; 2], usize), Malformed> {
        let mut b = [0; 2];
        if self.at + 8 > end || !packet.read(self.at, &mut b) {
            return Err(Malformed::Truncated);
        }
        let header_end = self.at + (b[1] as usize + 1) * 8;
        if header_end > end { Err(Malformed::Truncated) } else { Ok((b, header_end)) }
    }

    fn step(self, packet: &(impl Reader + ?Sized), end: usize) -> Result<Self, Malformed> {
        let ([next, _], header_end) = self.header(packet, end)?;
        Ok(Self { next, at: header_end, named_at: self.at, ..self })
    }

    /// Options of one header (RFC 8200 4.2): those with a meaning here, and what is to be done
    /// about the others. Yields a router alert.
    fn options(&self, packet: &(impl Reader + ?Sized), end: usize) -> Result<Option<u16>, Problem> {
        let (_, header_end) = self.header(packet, end)?;
        let (mut at, mut padding, mut seen, mut alert) = (self.at + 2, 0, 0, None);
        while at < header_end {
            let mut tl = [0; 2];
            // The last byte may be an option of one byte.
            let tl_len = (header_end - at).min(2);
            if !packet.read(at, &mut tl[..tl_len]) {
                return Err(Malformed::Truncated.into());
            }
            let [ty, len] = tl;
            let total = if ty == 0 { 1 } else { len as usize + 2 };
            if at + total > header_end || (ty != 0 && tl_len < 2) {
                return Err(Malformed::Option.into());
            }
            if ty <= 1 {
                padding += total as u32;
                if padding > MAX_PADDING || (ty == 1 && !is_zero(packet, at + 2, len as usize)) {
                    return Err(Malformed::Option.into());
                }
            } else {
                (padding, seen) = (0, seen + 1);
                if seen > MAX_OPTIONS {
                    return Err(Malformed::Option.into());
                }
                match ty {
                    ROUTER_ALERT if self.next == number::HOP_BY_HOP => {
                        alert = Some(router_alert(packet, at, len)?);
                    }
                    _ => unknown(ty, at)?,
                }
            }
            at += total;
        }
        Ok(alert)
    }

    /// A routing header (RFC 8200 4.4): no source routes are followed (RFC 5095), but one that is
    /// used up says nothing more.
    fn routing(&self, packet: &(impl Reader + ?Sized), end: usize) -> Result<(), Problem> {
        self.header(packet, end)?;
        let mut rest = [0; 2];
        if !packet.read(self.at + 2, &mut rest) {
            return Err(Malformed::Truncated.into());
        }
        match rest[1] {
            0 => Ok(()),
            _ => {
                let pointer = self.at as u32 + 2;
                Err(Problem::Tell { code: BAD_FIELD, pointer, group: false })
            }
        }
    }

    /// Reads the fragment header at which the walk stopped.
    ///
    /// # Errors
    /// [`Problem`], for parts that cannot be one of a packet.
    pub fn fragment(
        &self,
        packet: &(impl Reader + ?Sized),
        end: usize,
    ) -> Result<Fragment, Problem> {
        let mut b = [0; FRAGMENT_HEADER];
        if self.at + FRAGMENT_HEADER > end || !packet.read(self.at, &mut b) {
            return Err(Malformed::Truncated.into());
        }
        let word = be16(&b, 2)?;
        let (offset, more) = (word & !7, word & 1 != 0);
        let len = end - self.at - FRAGMENT_HEADER;
        let tell = |pointer| Err(Problem::Tell { code: BAD_FIELD, pointer, group: false });
        if more && !len.is_multiple_of(8) {
            // RFC 8200 4.5: points at the payload length.
            return tell(4);
        }
        if offset as usize + len > u16::MAX as usize {
            return tell(self.at as u32 + 2);
        }
        Ok(Fragment { next: b[0], offset, more, id: super::be32(&b, 4)? })
    }
}

fn is_zero(packet: &(impl Reader + ?Sized), at: usize, len: usize) -> bool {
    let mut b = [0; MAX_PADDING as usize];
    b.get_mut(..len).is_some_and(|b| packet.read(at, b) && b.iter().all(|b| *b == 0))
}

fn router_alert(packet: &(impl Reader + ?Sized), at: usize, len: u8) -> Result<u16, Malformed> {
    let mut value = [0; 2];
    if len != 2 || !packet.read(at + 2, &mut value) {
        return Err(Malformed::Option);
    }
    Ok(u16::from_be_bytes(value))
}

/// What the two highest bits of an option say to those who do not know it (RFC 8200 4.2).
fn unknown(ty: u8, at: usize) -> Result<(), Problem> {
    let tell = |group| Err(Problem::Tell { code: BAD_OPTION, pointer: at as u32, group });
    match ty >> 6 {
        0 => Ok(()),
        1 => Err(Malformed::Option.into()),
        2 => tell(true),
        _ => tell(false),
    }
}

/// Writes a fragment header.
pub fn emit_fragment(f: &Fragment, out: &mut [u8; FRAGMENT_HEADER]) {
    (out[0], out[1]) = (f.next, 0);
    out[2..4].copy_from_slice(&(f.offset & !7 | f.more as u16).to_be_bytes());
    out[4..8].copy_from_slice(&f.id.to_be_bytes());
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// Headers behind an IPv6 header that is not looked at.
    fn packet(headers: &[&[u8]]) -> Vec<u8> {
        let mut b = std::vec![0; 40];
        headers.iter().for_each(|h| b.extend_from_slice(h));
        b
    }

    fn walk(first: u8, headers: &[&[u8]]) -> Result<Chain, Problem> {
        let b = packet(headers);
        Chain::new(first).walk(&b[..], b.len())
    }

    #[test]
    fn a_chain_is_followed_to_the_transport() {
        let hop = [60, 0, 5, 2, 0, 0, 1, 0];
        let dest = [43, 1, 0x1e, 6, 1, 2, 3, 4, 5, 6, 1, 4, 0, 0, 0, 0];
        let routing = [6, 0, 0, 0, 0, 0, 0, 0];
        let chain = walk(0, &[&hop, &dest, &routing, &[1, 2, 3]]).unwrap();
        assert_eq!(
            chain,
            Chain { next: 6, at: 72, named_at: 64, alert: Some(0), fragmented: false }
        );
        assert_eq!(walk(17, &[]).unwrap(), Chain::new(17));
    }

    #[test]
    fn unknown_options_say_what_is_to_be_done() {
        let with = |ty: u8| walk(60, &[&[6, 0, ty, 4, 0, 0, 0, 0]]).map(|c| c.next);
        let tell = |group| Err(Problem::Tell { code: BAD_OPTION, pointer: 42, group });
        assert_eq!(with(0x22), Ok(6));
        assert_eq!(with(0x62), Err(Problem::Drop(Malformed::Option)));
        assert_eq!((with(0xa2), with(0xe2)), (tell(true), tell(false)));
    }

    #[test]
    fn padding_and_options_have_limits() {
        let bad = Err(Problem::Drop(Malformed::Option));
        let with = |b: &[u8]| walk(60, &[b]).map(|c| c.next);
        assert_eq!(with(&[6, 0, 1, 4, 0, 0, 0, 0]), Ok(6));
        assert_eq!(with(&[6, 0, 1, 4, 0, 1, 0, 0]), bad, "padding that is none");
        assert_eq!(with(&[6, 0, 0, 0, 0, 0, 0, 0]), Ok(6), "six bytes of Pad1");
        assert_eq!(with(&[6, 1, 1, 6, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0]), bad, "eight bytes");
        assert_eq!(with(&[6, 0, 1, 9, 0, 0, 0, 0]), bad, "beyond the header");
        assert_eq!(with(&[6, 0, 0x1e, 3, 0, 0, 0, 0x1e]), bad, "a type without a length");
        let many: Vec<u8> = [6u8, 2].into_iter().chain((0..11).flat_map(|_| [0x1e, 0])).collect();
        assert_eq!(with(&many), bad, "nine options");
        assert_eq!(
            walk(60, &[&[6, 1, 1, 4, 0, 0, 0, 0]]),
            Err(Problem::Drop(Malformed::Truncated))
        );
    }

    #[test]
    fn only_a_routing_header_that_is_used_up_is_passed() {
        assert_eq!(walk(43, &[&[6, 0, 0, 0, 0, 0, 0, 0]]).map(|c| c.next), Ok(6));
        let left = walk(43, &[&[6, 0, 0, 1, 0, 0, 0, 0]]);
        assert_eq!(left, Err(Problem::Tell { code: BAD_FIELD, pointer: 42, group: false }));
    }

    #[test]
    fn hop_by_hop_options_come_first_or_not_at_all() {
        let chain = walk(60, &[&[0, 0, 1, 4, 0, 0, 0, 0], &[6, 0, 1, 4, 0, 0, 0, 0]]).unwrap();
        assert_eq!((chain.next, chain.at, chain.named_at), (0, 48, 40), "nobody's header");
    }

    #[test]
    fn fragment_headers_both_ways() {
        let f = Fragment { next: 17, offset: 1448, more: true, id: 0xdead_beef };
        let mut header = [0; FRAGMENT_HEADER];
        emit_fragment(&f, &mut header);
        let b = packet(&[&header, &[0; 16]]);
        let chain = Chain::new(number::FRAGMENT);
        assert_eq!(chain.walk(&b[..], b.len()), Ok(chain));
        assert_eq!(chain.fragment(&b[..], b.len()), Ok(f));
        let tell = |pointer| Err(Problem::Tell { code: BAD_FIELD, pointer, group: false });
        assert_eq!(chain.fragment(&b[..], b.len() - 1), tell(4), "not a multiple of eight");
        emit_fragment(&Fragment { offset: 65_528, more: false, ..f }, &mut header);
        let b = packet(&[&header, &[0; 8]]);
        assert_eq!(chain.fragment(&b[..], b.len()), tell(42), "longer than a packet can be");
        assert_eq!(chain.fragment(&b[..], 47), Err(Problem::Drop(Malformed::Truncated)));
    }

    #[test]
    fn any_bytes_come_to_an_end() {
        let mut state = 1u64;
        for _ in 0..20_000 {
            let mut b = std::vec![0; 40];
            for _ in 0..64 {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                b.push(match state >> 60 {
                    0..=6 => (state >> 33) as u8,
                    7..=9 => 60,
                    10..=12 => 0,
                    _ => 43,
                });
            }
            if let Ok(chain) = Chain::new(b[40] % 61).walk(&b[..], b.len()) {
                assert!(chain.at <= b.len());
                let _ = chain.fragment(&b[..], b.len());
            }
        }
    }
}
