//! IPv6 on the interface: its addresses, and what follows from them.

use super::Stack;
use crate::env::Env;
use crate::ip6::source;
use core::net::IpAddr;

impl<E: Env> Stack<E> {
    /// The address to speak to `dst` from.
    pub(super) fn source(&self, dst: IpAddr) -> Option<IpAddr> {
        match dst {
            IpAddr::V6(to) if !to.is_loopback() => {
                source::select(self.ip6.addresses.iter(), to, self.now).map(IpAddr::V6)
            }
            _ => self.iface.source(dst, self.now),
        }
    }

    /// Bytes that a packet of IPv6 may have on the link.
    pub(super) fn mtu_v6(&self) -> u16 {
        self.ip6.routers.mtu.unwrap_or(self.iface.mtu)
    }
}
