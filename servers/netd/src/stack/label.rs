//! Flow labels (RFC 6437): packets of TCP and UDP have one of their flow's, as on Linux (`auto_flowlabels` 1), so that
//! who shares load on the way need not look for ports. Messages of ICMPv6 have none.

use super::Stack;
use crate::demux::{Space, Tuple};
use crate::env::Env;
use crate::wire::ethernet;
use crate::wire::ip::{self, protocol};
use core::net::{IpAddr, SocketAddr};

impl<E: Env> Stack<E> {
    /// Labels the packet of IPv6 in `frame`, with header `ip`, whose transport's header begins with `ports`.
    pub(super) fn label(&self, ip: &ip::Repr, ports: &[u8], frame: &mut [u8]) {
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (ip.src, ip.dst) else { return };
        let (Some(&[a, b, c, d]), protocol::TCP | protocol::UDP) =
            (ports.first_chunk(), ip.protocol)
        else {
            return;
        };
        let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let (local, remote) = (SocketAddr::new(src.into(), from), SocketAddr::new(dst.into(), to));
        // Nobody can tell it beforehand (RFC 6437 3).
        let hash = self.keyed(self.secrets.shown, &Tuple { space: Space::Tcp, local, remote });
        // 0 means that there is none.
        let [_, a, b, c] = ((hash as u32 & 0xf_ffff).max(1)).to_be_bytes();
        if let Some([_, x, y, z]) =
            frame.get_mut(ethernet::HEADER..).and_then(|f| f.first_chunk_mut())
        {
            (*x, *y, *z) = (*x & 0xf0 | a, b, c);
        }
    }
}
