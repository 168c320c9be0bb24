//! Datagrams and addresses as they lie in shared memory.

/// Splits an address into the two words of a record.
pub fn ip_words(ip: core::net::IpAddr) -> [u64; 2] {
    let bits = match ip {
        core::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        core::net::IpAddr::V6(v6) => v6.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

/// The address in two words of a record; mapped IPv4 addresses come back as IPv4.
pub fn ip_from_words(words: [u64; 2]) -> core::net::IpAddr {
    core::net::Ipv6Addr::from_bits((words[0] as u128) << 64 | words[1] as u128).to_canonical()
}

/// Header of a datagram in a ring: 32 bytes, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dgram {
    /// Bytes of payload that follow.
    pub len: u16,
    /// Peer's port, 0 on a connected socket's send.
    pub port: u16,
    /// Peer's address as in [`ip_words`]; zero: the connected peer.
    pub ip: [u64; 2],
}

impl Dgram {
    /// Bytes of the header.
    pub const BYTES: usize = 32;
    /// Each datagram begins at a multiple of this.
    pub const ALIGN: u64 = 8;
    /// Longest payload: what fits into an IPv4 packet at an MTU of 1500 without fragmentation.
    pub const MAX: usize = 1500 - 20 - 8;

    /// Bytes of ring that a datagram of `len` bytes takes.
    pub const fn space(len: usize) -> u64 {
        (Self::BYTES as u64 + len as u64).next_multiple_of(Self::ALIGN)
    }
    /// As bytes: len, port, 12 zero bytes, address.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut b = [0; Self::BYTES];
        b[0..2].copy_from_slice(&self.len.to_le_bytes());
        b[2..4].copy_from_slice(&self.port.to_le_bytes());
        b[16..24].copy_from_slice(&self.ip[0].to_le_bytes());
        b[24..32].copy_from_slice(&self.ip[1].to_le_bytes());
        b
    }
    /// From bytes.
    pub fn from_bytes(b: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| b[at + i]));
        Self {
            len: u16::from_le_bytes([b[0], b[1]]),
            port: u16::from_le_bytes([b[2], b[3]]),
            ip: [word(16), word(24)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagram_headers_and_addresses_survive_a_round_trip() {
        let ip: core::net::IpAddr = "10.0.2.15".parse().unwrap();
        let d = Dgram { len: 1472, port: 53, ip: ip_words(ip) };
        assert_eq!(Dgram::from_bytes(&d.to_bytes()), d);
        assert_eq!(ip_from_words(d.ip), ip);
        let v6: core::net::IpAddr = "fe80::1".parse().unwrap();
        assert_eq!(ip_from_words(ip_words(v6)), v6);
    }
}
