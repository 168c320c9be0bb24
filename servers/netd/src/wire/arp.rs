//! ARP for IPv4 over Ethernet (RFC 826).

use super::{Malformed, array, be16, ethernet::Mac};
use core::net::Ipv4Addr;

/// Bytes of a packet.
pub const BYTES: usize = 28;

/// What it asks or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Operation.
    pub op: Op,
    /// Sender's MAC address.
    pub sender_mac: Mac,
    /// Sender's address; unspecified in a probe (RFC 5227).
    pub sender: Ipv4Addr,
    /// Target's MAC address; zero in requests.
    pub target_mac: Mac,
    /// Target's address.
    pub target: Ipv4Addr,
}

impl Repr {
    /// Reads a packet.
    ///
    /// # Errors
    /// [`Malformed::Unsupported`] for other hardware, protocols and operations,
    /// [`Malformed::Address`] for a sender that is a group.
    pub fn parse(b: &[u8]) -> Result<Self, Malformed> {
        // Ethernet, or IEEE 802 as some stations on it call it (RFC 1042 2.4, RFC 1122 2.3.3).
        if ![1, 6].contains(&be16(b, 0)?) || be16(b, 2)? != 0x0800 || be16(b, 4)? != 0x0604 {
            return Err(Malformed::Unsupported);
        }
        let op = match be16(b, 6)? {
            1 => Op::Request,
            2 => Op::Reply,
            _ => return Err(Malformed::Unsupported),
        };
        let repr = Self {
            op,
            sender_mac: Mac(array(b, 8)?),
            sender: Ipv4Addr::from(array::<4>(b, 14)?),
            target_mac: Mac(array(b, 18)?),
            target: Ipv4Addr::from(array::<4>(b, 24)?),
        };
        if !repr.sender_mac.is_station()
            || repr.sender.is_multicast()
            || repr.sender.is_broadcast()
            || repr.sender.is_loopback()
        {
            return Err(Malformed::Address);
        }
        Ok(repr)
    }
    /// Writes a packet.
    pub fn emit(&self, out: &mut [u8; BYTES]) {
        out[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        out[6] = 0;
        out[7] = match self.op {
            Op::Request => 1,
            Op::Reply => 2,
        };
        out[8..14].copy_from_slice(&self.sender_mac.0);
        out[14..18].copy_from_slice(&self.sender.octets());
        out[18..24].copy_from_slice(&self.target_mac.0);
        out[24..28].copy_from_slice(&self.target.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; BYTES] = [
        0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0,
        10, 0, 2, 2,
    ];

    #[test]
    fn bytes_both_ways() {
        let repr = Repr {
            op: Op::Request,
            sender_mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
            sender: Ipv4Addr::new(10, 0, 2, 15),
            target_mac: Mac([0; 6]),
            target: Ipv4Addr::new(10, 0, 2, 2),
        };
        assert_eq!(Repr::parse(&REQUEST), Ok(repr));
        let mut out = [0; BYTES];
        repr.emit(&mut out);
        assert_eq!(out, REQUEST);
    }

    #[test]
    fn nonsense_is_refused() {
        for (at, value) in [(1, 7), (3, 1), (4, 8), (7, 3), (8, 0x53), (14, 224)] {
            let mut bytes = REQUEST;
            bytes[at] = value;
            assert!(Repr::parse(&bytes).is_err(), "byte {at}");
        }
        assert_eq!(Repr::parse(&REQUEST[..27]), Err(Malformed::Truncated));
    }
}
