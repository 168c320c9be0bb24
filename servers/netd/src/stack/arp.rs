//! ARP (RFC 826, RFC 1122 2.3.2, RFC 5227), and the neighbour table's requests and timers.

use super::Stack;
use super::tx::{Link, Payload};
use crate::dev::{Dev, Hop, Station};
use crate::env::{Env, Event};
use crate::neigh::{Ask, News, Other};
use crate::wire::Malformed;
use crate::wire::arp::{self, Op};
use crate::wire::ethernet::{self, EtherType, Mac};
use core::net::{IpAddr, Ipv4Addr};

/// DEFEND_INTERVAL of RFC 5227.
const DEFEND_NS: u64 = 10_000_000_000;

impl<E: Env> Stack<E> {
    /// An ARP packet that came by card `dev`. `to_us`: its frame was sent to this station alone.
    ///
    /// What is answered and learnt is Linux's choice: who asks for us is entered, whatever was known
    /// of it; of others only what is known is brought up to date, and of several answers within a
    /// second the first counts.
    pub(super) fn arp_in(&mut self, dev: Dev, b: &[u8], to_us: bool) -> Result<(), Malformed> {
        let a = arp::Repr::parse(b)?;
        if a.target.is_multicast() || a.target.is_loopback() {
            return Err(Malformed::Address);
        }
        let own = a.sender_mac == self.nics[dev].mac;
        if own || self.conflicts(dev, &a) || self.declines(dev, &a) {
            self.counters.arp_ignored += 1;
            return Ok(());
        }
        let sender = Hop { dev, ip: a.sender.into() };
        // Whichever card has the address, and if it is ours at all: as with Linux's `arp_ignore` 0.
        let asks_us = a.op == Op::Request && self.iface.is_ours(a.target.into());
        if asks_us {
            if !a.sender.is_unspecified() {
                let news = News {
                    mac: Some(a.sender_mac),
                    reachable: false,
                    create: true,
                    other: Other::Replaces,
                };
                self.heard(sender, news);
            }
            self.answer_arp(dev, &a);
            return Ok(());
        }
        if a.sender.is_unspecified() {
            return Ok(());
        }
        let gratuitous =
            a.sender == a.target && (a.op == Op::Request || a.target_mac == a.sender_mac);
        let locked = !gratuitous && self.neighbours.is_locked(sender, self.now);
        let news = News {
            mac: Some(a.sender_mac),
            reachable: a.op == Op::Reply && to_us,
            create: false,
            other: if locked { Other::Ignored } else { Other::Replaces },
        };
        self.heard(sender, news);
        Ok(())
    }

    /// News of a neighbour, of either family: who waited for it goes on.
    pub(super) fn heard(&mut self, hop: Hop, news: News) {
        let waiting = self.neighbours.update(hop, news, self.now);
        if !waiting.is_empty()
            && let Some(mac) = self.neighbours.known(hop)
        {
            self.release_waiting(waiting, Station { dev: hop.dev, mac });
        }
        self.arm_neighbours();
    }

    fn answer_arp(&mut self, dev: Dev, a: &arp::Repr) {
        let reply = arp::Repr {
            op: Op::Reply,
            sender_mac: self.nics[dev].mac,
            sender: a.target,
            target_mac: a.sender_mac,
            target: a.sender,
        };
        self.send_arp(&reply, Station { dev, mac: a.sender_mac });
    }

    /// RFC 5227 2.1.1: whether it shows that another station has, or probes for, the address that DHCP
    /// has just given us.
    fn declines(&mut self, dev: Dev, a: &arp::Repr) -> bool {
        let client = self.nics[dev].dhcp;
        let Some(mut client) = client.filter(|c| c.lease().is_none()) else { return false };
        let probes = a.sender.is_unspecified() && a.op == Op::Request;
        let addr = if probes { a.target } else { a.sender };
        let random = self.random();
        let Some(action) = client.conflict(addr, random, self.now) else { return false };
        self.keep_client(dev, client);
        self.env.event(Event::AddressConflict { addr: addr.into(), mac: a.sender_mac });
        self.dhcp_act(dev, action);
        true
    }

    /// Whether another station uses our address. RFC 5227 2.4 (c): it is defended, at most each ten
    /// seconds, and kept: who can send ARP must not be able to take it away.
    fn conflicts(&mut self, dev: Dev, a: &arp::Repr) -> bool {
        if !self.iface.is_ours(a.sender.into()) {
            return false;
        }
        // Another card of ours on the same link, whose answers come back to us.
        if self.nics.iter().any(|n| n.mac == a.sender_mac) {
            return true;
        }
        let now = self.now;
        let nic = self.nic(dev);
        if nic.defended_at.is_none_or(|at| now >= at + DEFEND_NS) {
            nic.defended_at = Some(now);
            let addr = IpAddr::V4(a.sender);
            self.env.event(Event::AddressConflict { addr, mac: a.sender_mac });
            self.announce_address(dev);
        }
        true
    }

    /// RFC 5227 2.3: neighbours that knew the address elsewhere learn where it is now.
    pub(super) fn announce_address(&mut self, dev: Dev) {
        if self.nics[dev].up
            && let IpAddr::V4(addr) = self.v4_address(dev)
            && !addr.is_unspecified()
        {
            self.ask_arp(addr, addr, Station::everybody(dev));
        }
    }

    /// Asks `to` who has `target`.
    pub(super) fn ask_arp(&mut self, sender: Ipv4Addr, target: Ipv4Addr, to: Station) {
        let packet = arp::Repr {
            op: Op::Request,
            sender_mac: self.nics[to.dev].mac,
            sender,
            target_mac: Mac([0; 6]),
            target,
        };
        self.send_arp(&packet, to);
    }

    /// Sends an ARP packet, if there is room: whoever needs it asks again.
    fn send_arp(&mut self, packet: &arp::Repr, to: Station) {
        let mut head = [0; ethernet::HEADER + arp::BYTES];
        let (eth, body) = head.split_at_mut(ethernet::HEADER);
        if let (Some(eth), Some(body)) = (eth.first_chunk_mut(), body.first_chunk_mut()) {
            let src = self.nics[to.dev].mac;
            ethernet::Repr { dst: to.mac, src, ty: EtherType::Arp }.emit(eth);
            packet.emit(body);
            self.transmit(Link::Device(to), &mut head, None, Payload::None);
        }
    }

    /// Sends the requests that lookups and timers called for.
    pub(super) fn neighbour_turn(&mut self) {
        while let Some(Ask { hop, to }) = self.neighbours.next_ask() {
            let dev = hop.dev;
            match hop.ip {
                IpAddr::V6(target) => self.ask_neighbour(dev, target, to),
                IpAddr::V4(target) => {
                    let Some(IpAddr::V4(sender)) = self.source(hop.ip, Some(dev)) else { continue };
                    let mac = to.unwrap_or(Mac::BROADCAST);
                    self.ask_arp(sender, target, Station { dev, mac });
                }
            }
        }
    }

    /// Sets the timers of entries that have changed.
    pub(super) fn arm_neighbours(&mut self) {
        while let Some((entry, due)) = self.neighbours.next_timer() {
            let timer = self.neighbour_timer(entry);
            match due {
                u64::MAX => self.wheel.cancel(timer),
                due => self.wheel.set(timer, due),
            }
        }
    }

    /// The timer of an entry has fired.
    pub(super) fn neighbour_due(&mut self, entry: usize) {
        let waiting = self.neighbours.timer(entry, self.now);
        if !waiting.is_empty() {
            self.fail_waiting(waiting);
        }
        self.arm_neighbours();
    }

    /// Forgets all neighbours of a family by card `dev`.
    pub(super) fn forget_neighbours(&mut self, dev: Dev, v6: bool) {
        while let Some(waiting) = self.neighbours.forget(dev, v6) {
            self.fail_waiting(waiting);
        }
    }
}
