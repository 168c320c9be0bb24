//! A tuple as the table holds it.

use super::{BOUND, CONNECTED, OPEN, Space, Tuple};
use core::hash::Hasher;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use libipc::sock::{ip_from_words, ip_words};

/// A tuple in as few bytes as there are sockets to hold it for: ports, family and space, then the
/// addresses, of IPv4 both in one word.
#[derive(Clone, Copy)]
pub(super) struct Key(pub(super) [u64; 5]);

impl PartialEq for Key {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let ([p, a, b, c, d], [q, e, f, g, h]) = (self.0, other.0);
        p == q && a == e && (p & WIDE == 0 || (b, c, d) == (f, g, h))
    }
}

/// In a key's first word: not both addresses are of IPv4.
const WIDE: u64 = 1 << 16;

impl Key {
    /// Of addresses and ports of IPv4.
    pub(super) fn v4(
        space: Space,
        (local, port): (u32, u16),
        (remote, its_port): (u32, u16),
    ) -> Self {
        let ports = (port as u64) << 32 | (its_port as u64) << 48;
        Self([ports | space as u64, (local as u64) << 32 | remote as u64, 0, 0, 0])
    }
    #[inline]
    pub(super) fn feed(&self, h: &mut impl Hasher) {
        let Self([ports, a, rest @ ..]) = self;
        h.write_u64(*ports);
        h.write_u64(*a);
        if ports & WIDE != 0 {
            rest.iter().for_each(|w| h.write_u64(*w));
        }
    }
    /// Its place in [`Demux::shapes`].
    #[inline]
    pub(super) fn shape(&self) -> usize {
        let [ports, a, b, c, d] = self.0;
        let wide = ports & WIDE != 0;
        let bound = if wide { a | b != 0 } else { a >> 32 != 0 };
        let connected =
            ports >> 48 != 0 || if wide { d != 0 || c as u32 != 0 } else { a as u32 != 0 };
        let kind = if connected {
            CONNECTED
        } else if bound {
            BOUND
        } else {
            OPEN
        };
        self.space().shapes() + kind
    }
    pub(super) fn space(&self) -> Space {
        match self.0[0] as u8 {
            6 => Space::Tcp,
            17 => Space::Udp,
            _ => Space::Ping,
        }
    }
}

impl From<&Tuple> for Key {
    fn from(t: &Tuple) -> Self {
        if let (IpAddr::V4(l), IpAddr::V4(r)) = (t.local.ip(), t.remote.ip()) {
            let (local, remote) = ((l.to_bits(), t.local.port()), (r.to_bits(), t.remote.port()));
            return Self::v4(t.space, local, remote);
        }
        let ports = (t.local.port() as u64) << 32 | (t.remote.port() as u64) << 48;
        let ([l1, l0], [r1, r0]) = (ip_words(t.local.ip()), ip_words(t.remote.ip()));
        Self([ports | WIDE | t.space as u64, l0, l1, r0, r1])
    }
}

impl From<&Key> for Tuple {
    fn from(k: &Key) -> Self {
        let [ports, a, b, c, d] = k.0;
        let (local, remote) = if ports & WIDE == 0 {
            let v4 = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
            (v4((a >> 32) as u32), v4(a as u32))
        } else {
            (ip_from_words([b, a]), ip_from_words([d, c]))
        };
        Self {
            space: k.space(),
            local: SocketAddr::new(local, (ports >> 32) as u16),
            remote: SocketAddr::new(remote, (ports >> 48) as u16),
        }
    }
}
