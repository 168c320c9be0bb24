//! Addresses with ports as every socket has two of them: in 20 bytes.

use core::net::{IpAddr, SocketAddr};

/// An address and a port. (std's takes 32 bytes.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addr {
    /// As on the wire; of IPv4 the first four, the others are 0.
    octets: [u8; 16],
    port: u16,
    v6: bool,
}

impl Addr {
    #[inline]
    fn first(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.octets;
        [a, b, c, d]
    }
    /// The address.
    #[inline]
    pub fn ip(&self) -> IpAddr {
        match self.v6 {
            false => IpAddr::V4(self.first().into()),
            true => IpAddr::V6(self.octets.into()),
        }
    }
    /// The port.
    #[inline]
    pub const fn port(&self) -> u16 {
        self.port
    }
    /// Whether the address is one of IPv4.
    #[inline]
    pub const fn is_ipv4(&self) -> bool {
        !self.v6
    }
    /// Both, if the address is one of IPv4.
    #[inline]
    pub fn v4(&self) -> Option<(u32, u16)> {
        (!self.v6).then(|| (u32::from_be_bytes(self.first()), self.port))
    }
    /// As std has it.
    #[inline]
    pub fn get(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port)
    }
}

impl From<SocketAddr> for Addr {
    #[inline]
    fn from(addr: SocketAddr) -> Self {
        let (octets, v6) = match addr.ip() {
            IpAddr::V4(ip) => {
                let mut octets = [0; 16];
                octets[..4].copy_from_slice(&ip.octets());
                (octets, false)
            }
            IpAddr::V6(ip) => (ip.octets(), true),
        };
        Self { octets, port: addr.port(), v6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_come_back() {
        for text in
            ["10.0.2.15:80", "0.0.0.0:0", "[fe80::1:2]:65535", "[::]:0", "[::ffff:1.2.3.4]:5"]
        {
            let addr: SocketAddr = text.parse().unwrap();
            let a = Addr::from(addr);
            assert_eq!((a.get(), a.is_ipv4()), (addr, addr.is_ipv4()), "{text:?}");
            assert_eq!(a.v4().is_some(), addr.is_ipv4());
        }
    }
}
