//! Multicast groups of the interface.

use super::Stack;
use crate::env::Env;
use core::net::{IpAddr, Ipv4Addr};

/// The group that every host is in (RFC 1112 4).
pub(super) const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

impl<E: Env> Stack<E> {
    /// Whether packets for `group` are taken.
    pub(super) fn is_member(&self, group: IpAddr) -> bool {
        group == IpAddr::V4(ALL_HOSTS)
    }

    /// Whether socket `i`, bound to the port, gets what `_from` sent to `_to`, a group or all.
    pub(super) fn hears(&self, _i: u32, _to: IpAddr, _from: IpAddr) -> bool {
        true
    }
}
