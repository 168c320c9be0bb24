//! Which multicast frames the NIC is to take ([`libipc::nic::Groups`]): those of the groups that all
//! hosts are in, of those in which neighbours ask for addresses of this host, and of those that
//! sockets have joined.

use super::Stack;
use super::groups::ALL_HOSTS;
use crate::dev::Dev;
use crate::env::Env;
use crate::wire::ethernet::Mac;
use crate::wire::ipv6;
use core::net::IpAddr;

impl<E: Env> Stack<E> {
    /// Groups have come or gone on the link of card `dev`.
    pub(super) fn filter_changed(&mut self, dev: Dev) {
        let nic = &mut self.nics[dev];
        let all = nic.ip6.is_on().then_some(ipv6::ALL_NODES);
        let own = nic.ip6.addresses.iter().map(|a| ipv6::solicited_node(a.ip));
        let v6 = all.into_iter().chain(own).map(IpAddr::V6);
        let groups = core::iter::once(IpAddr::V4(ALL_HOSTS)).chain(v6);
        let groups = groups.chain(self.groups.joined(dev));
        nic.port.groups().set(groups.map(|g| Mac::of_group(g).0));
        nic.port.groups_changed();
    }
}
