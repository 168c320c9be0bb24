//! Which multicast frames the NIC is to take ([`libipc::nic::Groups`]): those of the groups that all
//! hosts are in, of those in which neighbours ask for addresses of this host, and of those that
//! sockets have joined.

use super::Stack;
use super::groups::ALL_HOSTS;
use crate::env::Env;
use crate::wire::ethernet::Mac;
use crate::wire::ipv6;
use core::net::IpAddr;

impl<E: Env> Stack<E> {
    /// Groups have come or gone.
    pub(super) fn filter_changed(&mut self) {
        let all = self.ip6.is_on().then_some(ipv6::ALL_NODES);
        let own = self.ip6.addresses.iter().map(|a| ipv6::solicited_node(a.ip));
        let v6 = all.into_iter().chain(own).map(IpAddr::V6);
        let groups = core::iter::once(IpAddr::V4(ALL_HOSTS)).chain(v6);
        let groups = groups.chain(self.groups.joined());
        self.port.groups().set(groups.map(|g| Mac::of_group(g).0));
        self.port.groups_changed();
    }
}
