//! What keeps network cards going: link, address, DHCP.

use super::Stack;
use super::rx::Packet;
use super::turns::Own;
use super::tx::{Check, Link, NET, Payload};
use crate::addressing::Addressing;
use crate::dev::{Dev, Station};
use crate::dhcp::{Action, Client, Lease};
use crate::env::{Env, Event};
use crate::iface::Net;
use crate::wire::dhcp::{Answer, BYTES, CLIENT_PORT, MAX, Query, SERVER_PORT};
use crate::wire::ethernet::Mac;
use crate::wire::{Malformed, ip, udp};
use core::net::{IpAddr, Ipv4Addr};
use core::sync::atomic::Ordering::*;
use libipc::net::Reply;
use libipc::nic::{Csum, caps};
use libipc::sock::Error;

impl<E: Env> Stack<E> {
    /// The address at the beginning: given, or of an earlier incarnation's lease.
    pub(super) fn configure(&mut self) {
        for dev in self.devs() {
            if let Addressing::Static { addr, prefix, gateway, dns } = self.nic(dev).addressing {
                self.set_address(dev, addr, prefix, gateway, dns, None);
            }
            self.recover_v6(dev);
            let version = self.nic(dev).port.status().version.load(Acquire);
            if version != 0 {
                self.status_changed(dev, version);
            }
        }
        self.begin_link_news();
    }

    /// What the driver says about card `dev` is not as it was.
    #[cold]
    pub(super) fn status_changed(&mut self, dev: Dev, version: u32) {
        let nic = self.nic(dev);
        nic.status_version = version;
        let status = nic.port.status();
        let mac = Mac(status.mac());
        let caps = status.caps.load(Relaxed);
        nic.offload = caps & caps::TX_CSUM != 0;
        nic.tso = nic.offload && caps & caps::TSO != 0;
        let up = status.link.load(Relaxed) == 1 && mac.is_station();
        let speed = status.speed.load(Relaxed);
        if (up, mac, speed) == (nic.up, nic.mac, nic.speed) {
            return;
        }
        (nic.up, nic.mac, nic.speed) = (up, mac, speed);
        self.iface.set_up(dev, up);
        self.env.event(Event::Link { dev, mac, up, speed });
        self.link_changed();
        if !up {
            // Another network, perhaps, when it is up again (Linux's neigh_carrier_down).
            self.neighbours.forget_idle(dev);
            self.paths.forget();
            return;
        }
        if self.nics[dev].addressing == Addressing::Dhcp {
            self.begin_client(dev);
        }
        self.announce_address(dev);
        self.tell_groups(dev);
        self.link_up_v6(dev);
    }

    /// The link of a card that asks for its address is up.
    fn begin_client(&mut self, dev: Dev) {
        let (xid, now) = (self.random(), self.now);
        let nic = self.nic(dev);
        let (mac, lease) = (nic.mac, nic.hard.lease().filter(|l| now < l.end()));
        let client = match (nic.dhcp, lease) {
            (Some(mut client), _) => {
                client.link_up(xid, now);
                client
            }
            (None, Some(lease)) => {
                self.take_lease(dev, &lease);
                Client::with_lease(mac, xid, lease, now)
            }
            (None, None) => Client::new(mac, xid, now),
        };
        self.keep_client(dev, client);
    }

    /// The client of DHCP of card `dev` has made a step.
    pub(super) fn keep_client(&mut self, dev: Dev, client: Client) {
        self.wheel.set(self.own_timer(Own::dhcp(dev)), client.deadline);
        self.nic(dev).dhcp = Some(client);
    }

    fn set_address(
        &mut self,
        dev: Dev,
        addr: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
        dns: Option<Ipv4Addr>,
        lease_s: Option<u32>,
    ) {
        let (addr, gateway, dns) = (IpAddr::V4(addr), gateway.map(IpAddr::V4), dns.map(IpAddr::V4));
        let net = Net { addr, prefix, dev };
        let had = self.iface.gateways(dev).find(IpAddr::is_ipv4);
        let new = !self.iface.addrs().contains(&net) || had != gateway;
        self.iface.set_v4(dev, Some((addr, prefix)), gateway, dns);
        if new {
            self.address_changed();
            self.env.event(Event::Address { dev, addr, prefix, gateway, dns, lease_s });
            self.announce_address(dev);
        }
    }

    fn take_lease(&mut self, dev: Dev, l: &Lease) {
        self.set_address(dev, l.addr, l.prefix, l.router, l.dns, Some(l.lease_s));
    }

    pub(super) fn dhcp_due(&mut self, dev: Dev) {
        let random = self.random();
        let now = self.now;
        // Losing a lease begins discovery: two steps at the same time.
        for _ in 0..2 {
            let Some(client) = self.nics.get_mut(dev).and_then(|n| n.dhcp.as_mut()) else {
                return;
            };
            let Some(action) = client.timer(random, now) else { break };
            let silent = client.is_silent();
            self.dhcp_act(dev, action);
            if silent {
                self.env.event(Event::NoServer { dev });
            }
        }
        if let Some(client) = self.nic(dev).dhcp {
            self.keep_client(dev, client);
        }
    }

    /// Gives the lease of card `dev` back, or asks for it anew.
    pub(super) fn lease(&mut self, dev: Dev, keep: bool) -> Result<Reply, Error> {
        let (random, now) = (self.random(), self.now);
        let Some(mut client) = self.nic(dev).dhcp else { return Err(Error::NotSupported) };
        if keep {
            client.renew_now(random, now);
        } else if let Some(action) = client.release(random, now) {
            self.dhcp_act(dev, action);
            self.dhcp_act(dev, Action::Lost);
        }
        self.keep_client(dev, client);
        Ok(Reply::Done)
    }

    pub(super) fn dhcp_act(&mut self, dev: Dev, action: Action) {
        match action {
            Action::Broadcast(query) => {
                let link = Link::Device(Station::everybody(dev));
                self.send_dhcp(&query, link, query.client, Ipv4Addr::BROADCAST);
            }
            Action::Unicast(query, server) => {
                // By the neighbour table if the server is there, else to everybody: RFC 2131 lets
                // servers take either.
                let hop = self.next_hop(server.into(), Some(dev));
                let known = hop.and_then(|hop| self.neighbours.known(hop));
                let link = Link::Device(Station { dev, mac: known.unwrap_or(Mac::BROADCAST) });
                self.send_dhcp(&query, link, query.client, server);
            }
            Action::Probe(addr) => {
                self.ask_arp(Ipv4Addr::UNSPECIFIED, addr, Station::everybody(dev));
            }
            Action::Bound(lease) => {
                self.nic(dev).hard.set_lease(Some(&lease));
                self.take_lease(dev, &lease);
            }
            Action::Lost => {
                self.nic(dev).hard.set_lease(None);
                self.iface.set_v4(dev, None, None, None);
                self.forget_neighbours(dev, false);
                self.address_changed();
                self.env.event(Event::AddressLost { dev });
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
        let Some(mut client) = self.nics[p.dev].dhcp else { return Ok(false) };
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
        self.keep_client(p.dev, client);
        if let Some(action) = action {
            self.dhcp_act(p.dev, action);
        }
        Ok(true)
    }
}
