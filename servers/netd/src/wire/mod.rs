//! Wire formats: `Repr::parse` checks everything that the header alone can tell and never panics;
//! `Repr::emit` writes exactly what `parse` reads.
//!
//! Parsers see a private copy of the first [`HEAD`] bytes of a frame. Payload stays where the NIC
//! put it until the transport knows where it belongs.

pub mod arp;
pub mod checksum;
pub mod dhcp;
pub mod ethernet;
pub mod ext;
pub mod icmp;
pub mod icmpv6;
pub mod igmp;
pub mod ip;
pub mod ipv4;
pub mod ipv4_options;
pub mod ipv6;
pub mod mld;
pub mod ndp;
pub mod plain;
pub mod short;
pub mod tcp;
mod tcp_options;
pub mod udp;

use libipc::counters::Counters;

/// Bytes of a frame that are copied for parsing: Ethernet 14, IPv4 at most 60, TCP at most 60.
pub const HEAD: usize = 14 + 60 + 60;

/// Why a packet was dropped while parsing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than its header says or needs.
    Truncated,
    /// A length field contradicts another.
    Length,
    /// A version, hardware type or operation that is not spoken here.
    Unsupported,
    /// A checksum is wrong.
    Checksum,
    /// A fragment: reassembly is not done yet.
    Fragment,
    /// An address that cannot be where it stands.
    Address,
    /// An option, or an extension header, that cannot be or is not wanted.
    Option,
    /// A TCP segment with a signature (RFC 2385, RFC 5925); there are no keys here.
    Signature,
}

impl Malformed {
    /// Where it is counted.
    pub(crate) fn counter(self, counters: &mut Counters) -> &mut u64 {
        match self {
            Self::Truncated => &mut counters.rx_truncated,
            Self::Length => &mut counters.rx_length,
            Self::Unsupported => &mut counters.rx_unsupported,
            Self::Checksum => &mut counters.rx_checksum,
            Self::Fragment => &mut counters.rx_fragments,
            Self::Address => &mut counters.rx_address,
            Self::Option => &mut counters.rx_options,
            Self::Signature => &mut counters.tcp_signed,
        }
    }
}

/// `N` bytes at `at`.
pub(crate) fn array<const N: usize>(b: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    b.get(at..).and_then(|b| b.first_chunk::<N>()).copied().ok_or(Malformed::Truncated)
}

/// A big-endian u16 at `at`.
pub(crate) fn be16(b: &[u8], at: usize) -> Result<u16, Malformed> {
    array(b, at).map(u16::from_be_bytes)
}

/// A big-endian u32 at `at`.
pub(crate) fn be32(b: &[u8], at: usize) -> Result<u32, Malformed> {
    array(b, at).map(u32::from_be_bytes)
}
