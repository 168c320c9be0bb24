//! What keeps the interface going: link, address, DHCP.

use super::Stack;
use super::rx::Packet;
use super::turns::Own;
use super::tx::{Check, Link, NET, Payload};
use crate::addressing::Addressing;
use crate::dhcp::{Action, Client, Lease};
use crate::env::{Env, Event};
use crate::iface::Net;
use crate::wire::dhcp::{Answer, BYTES, CLIENT_PORT, MAX, Query, SERVER_PORT};
use crate::wire::ethernet::Mac;
use crate::wire::{Malformed, ip, udp};
use core::net::{IpAddr, Ipv4Addr};
use core::sync::atomic::Ordering::*;
use libipc::nic::{Csum, caps};

impl<E: Env> Stack<E> {
    /// The address at the beginning: given, or of an earlier incarnation's lease.
    pub(super) fn configure(&mut self) {
        if let Addressing::Static { addr, prefix, gateway, dns } = self.addressing {
            self.set_address(addr, prefix, gateway, dns, None);
        }
        self.recover_v6();
        self.status_turn();
        self.begin_link_news();
    }

    /// Looks at what the driver says about the NIC.
    #[inline]
    pub(super) fn status_turn(&mut self) {
        let status = self.port.status();
        let version = status.version.load(Acquire);
        if version != self.status_version {
            self.status_changed(version);
        }
    }

    #[cold]
    fn status_changed(&mut self, version: u32) {
        self.status_version = version;
        let status = self.port.status();
        let mac = Mac(status.mac());
        let caps = status.caps.load(Relaxed);
        self.offload = caps & caps::TX_CSUM != 0;
        self.tso = self.offload && caps & caps::TSO != 0;
        let up = status.link.load(Relaxed) == 1 && mac.is_station();
        let speed = status.speed.load(Relaxed);
        let was = (self.iface.up, self.iface.mac, self.link.speed);
        if (up, mac, speed) == was {
            return;
        }
        (self.iface.up, self.iface.mac, self.link.speed) = (up, mac, speed);
        self.env.event(Event::Link { mac, up, speed });
        self.link_changed();
        if !up {
            // Another network, perhaps, when it is up again (Linux's neigh_carrier_down).
            self.neighbours.forget_idle();
            self.paths.forget();
            return;
        }
        if self.addressing == Addressing::Dhcp {
            let xid = self.random();
            let known = self.dhcp.map(|mut client| {
                client.link_up(xid, self.now);
                client
            });
            let client =
                known.unwrap_or_else(|| match self.hard.lease().filter(|l| self.now < l.end()) {
                    Some(lease) => {
                        self.take_lease(&lease);
                        Client::with_lease(mac, xid, lease, self.now)
                    }
                    None => Client::new(mac, xid, self.now),
                });
            self.wheel.set(self.own_timer(Own::Dhcp), client.deadline);
            self.dhcp = Some(client);
        }
        self.announce_address();
        self.tell_groups();
        self.link_up_v6();
    }

    fn set_address(
        &mut self,
        addr: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
        dns: Option<Ipv4Addr>,
        lease_s: Option<u32>,
    ) {
        let (addr, gateway, dns) = (IpAddr::V4(addr), gateway.map(IpAddr::V4), dns.map(IpAddr::V4));
        let net = Net { addr, prefix };
        let had = self.iface.gateways().find(IpAddr::is_ipv4);
        let new = !self.iface.addrs().contains(&net) || had != gateway;
        self.iface.set_v4(Some(net), gateway, dns);
        if new {
            self.address_changed();
            self.env.event(Event::Address { addr, prefix, gateway, dns, lease_s });
            self.announce_address();
        }
    }

    fn take_lease(&mut self, l: &Lease) {
        self.set_address(l.addr, l.prefix, l.router, l.dns, Some(l.lease_s));
    }

    pub(super) fn dhcp_due(&mut self) {
        let random = self.random();
        let now = self.now;
        // Losing a lease begins discovery: two steps at the same time.
        for _ in 0..2 {
            let Some(action) = self.dhcp.as_mut().and_then(|c| c.timer(random, now)) else { break };
            self.dhcp_act(action);
            if self.dhcp.as_ref().is_some_and(Client::is_silent) {
                self.env.event(Event::NoServer);
            }
        }
        if let Some(deadline) = self.dhcp.as_ref().map(|c| c.deadline) {
            self.wheel.set(self.own_timer(Own::Dhcp), deadline);
        }
    }

    pub(super) fn dhcp_act(&mut self, action: Action) {
        match action {
            Action::Broadcast(query) => {
                let link = Link::Device(Mac::BROADCAST);
                self.send_dhcp(&query, link, query.client, Ipv4Addr::BROADCAST);
            }
            Action::Unicast(query, server) => {
                // By the neighbour table if the server is there, else to everybody: RFC 2131 lets
                // servers take either.
                let known = self.next_hop(server.into()).and_then(|hop| self.neighbours.known(hop));
                let link = Link::Device(known.unwrap_or(Mac::BROADCAST));
                self.send_dhcp(&query, link, query.client, server);
            }
            Action::Probe(addr) => self.ask_arp(Ipv4Addr::UNSPECIFIED, addr, Mac::BROADCAST),
            Action::Bound(lease) => {
                self.hard.set_lease(Some(&lease));
                self.take_lease(&lease);
            }
            Action::Lost => {
                self.hard.set_lease(None);
                self.iface.set_v4(None, None, None);
                self.forget_neighbours(false);
                self.address_changed();
                self.env.event(Event::AddressLost);
            }
        }
    }

    fn send_dhcp(&mut self, query: &Query, link: Link, src: Ipv4Addr, dst: Ipv4Addr) {
        let mut message = [0; BYTES];
        query.emit(&mut message);
        let mut head = [0; NET + udp::HEADER];
        let (net, body) = head.split_at_mut(NET);
        let len = (udp::HEADER + BYTES) as u16;
        let ip = ip::Repr::new(src.into(), dst.into(), ip::protocol::UDP, len);
        let (Some(net), Some(body)) = (net.first_chunk_mut(), body.first_chunk_mut()) else {
            return;
        };
        let Some(start) = self.headers(link, &ip, net, true) else { return };
        udp::Repr {
            src: CLIENT_PORT,
            dst: SERVER_PORT,
            payload_len: BYTES as u16,
            has_checksum: true,
        }
        .emit(body);
        let from = NET - start;
        let check = Check {
            field: from + 6,
            from,
            pseudo: ip.pseudo(),
            csum: Csum::Udp,
            segment: 0,
            copied: true,
        };
        self.transmit(link, &mut head[start..], Some(check), Payload::Slice(&message));
    }

    /// A UDP datagram that may be a DHCP answer: `true` if it was for the client.
    pub(super) fn dhcp_in(&mut self, p: &Packet<'_>) -> Result<bool, Malformed> {
        let Some(mut client) = self.dhcp else { return Ok(false) };
        let repr = udp::Repr::parse(p.head, p.len())?;
        if (repr.src, repr.dst) != (SERVER_PORT, CLIENT_PORT) {
            return Ok(false);
        }
        if repr.has_checksum {
            self.verify(p, p.ip.pseudo())?;
        }
        let mut message = [0; MAX];
        let message = &mut message[..(repr.payload_len as usize).min(MAX)];
        if !p.mem.read(p.at + udp::HEADER, message) {
            return Err(Malformed::Truncated);
        }
        let answer = Answer::parse(message)?;
        let random = self.random();
        let action = client.answer(&answer, random, self.now);
        self.wheel.set(self.own_timer(Own::Dhcp), client.deadline);
        self.dhcp = Some(client);
        if let Some(action) = action {
            self.dhcp_act(action);
        }
        Ok(true)
    }
}
