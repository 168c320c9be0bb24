//! ARP (RFC 826, RFC 1122 2.3.2, RFC 5227), and the neighbour table's requests and timers.

use super::Stack;
use super::turns::Own;
use super::tx::{Link, Payload};
use crate::env::{Env, Event};
use crate::neigh::{Ask, News, Other};
use crate::wire::Malformed;
use crate::wire::arp::{self, Op};
use crate::wire::ethernet::{self, EtherType, Mac};
use core::net::{IpAddr, Ipv4Addr};

/// DEFEND_INTERVAL of RFC 5227.
const DEFEND_NS: u64 = 10_000_000_000;

impl<E: Env> Stack<E> {
    /// An ARP packet. `to_us`: its frame was sent to this station alone.
    ///
    /// What is answered and learnt is Linux's choice: who asks for us is entered, whatever was known
    /// of it; of others only what is known is brought up to date, and of several answers within a
    /// second the first counts.
    pub(super) fn arp_in(&mut self, b: &[u8], to_us: bool) -> Result<(), Malformed> {
        let a = arp::Repr::parse(b)?;
        if a.target.is_multicast() || a.target.is_loopback() {
            return Err(Malformed::Address);
        }
        if a.sender_mac == self.iface.mac || self.conflicts(&a) || self.declines(&a) {
            self.counters.arp_ignored += 1;
            return Ok(());
        }
        let sender = IpAddr::V4(a.sender);
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
            self.answer_arp(&a);
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
    pub(super) fn heard(&mut self, ip: IpAddr, news: News) {
        let waiting = self.neighbours.update(ip, news, self.now);
        if !waiting.is_empty()
            && let Some(mac) = self.neighbours.known(ip)
        {
            self.release_waiting(waiting, mac);
        }
        self.arm_neighbours();
    }

    fn answer_arp(&mut self, a: &arp::Repr) {
        let reply = arp::Repr {
            op: Op::Reply,
            sender_mac: self.iface.mac,
            sender: a.target,
            target_mac: a.sender_mac,
            target: a.sender,
        };
        self.send_arp(&reply, a.sender_mac);
    }

    /// RFC 5227 2.1.1: whether it shows that another station has, or probes for, the address that DHCP
    /// has just given us.
    fn declines(&mut self, a: &arp::Repr) -> bool {
        let Some(mut client) = self.dhcp.filter(|c| c.lease().is_none()) else { return false };
        let probes = a.sender.is_unspecified() && a.op == Op::Request;
        let addr = if probes { a.target } else { a.sender };
        let random = self.random();
        let Some(action) = client.conflict(addr, random, self.now) else { return false };
        self.wheel.set(self.own_timer(Own::Dhcp), client.deadline);
        self.dhcp = Some(client);
        self.env.event(Event::AddressConflict { addr: addr.into(), mac: a.sender_mac });
        self.dhcp_act(action);
        true
    }

    /// Whether another station uses our address. RFC 5227 2.4 (c): it is defended, at most each ten
    /// seconds, and kept: who can send ARP must not be able to take it away.
    fn conflicts(&mut self, a: &arp::Repr) -> bool {
        if !self.iface.is_ours(a.sender.into()) {
            return false;
        }
        if self.defended_at.is_none_or(|at| self.now >= at + DEFEND_NS) {
            self.defended_at = Some(self.now);
            let addr = IpAddr::V4(a.sender);
            self.env.event(Event::AddressConflict { addr, mac: a.sender_mac });
            self.announce_address();
        }
        true
    }

    /// RFC 5227 2.3: neighbours that knew the address elsewhere learn where it is now.
    pub(super) fn announce_address(&mut self) {
        if !self.iface.up {
            return;
        }
        for i in 0..self.iface.addrs().len() {
            let IpAddr::V4(addr) = self.iface.addrs()[i].addr else { continue };
            self.ask_arp(addr, addr, Mac::BROADCAST);
        }
    }

    /// Asks `to` who has `target`.
    pub(super) fn ask_arp(&mut self, sender: Ipv4Addr, target: Ipv4Addr, to: Mac) {
        let packet = arp::Repr {
            op: Op::Request,
            sender_mac: self.iface.mac,
            sender,
            target_mac: Mac([0; 6]),
            target,
        };
        self.send_arp(&packet, to);
    }

    /// Sends an ARP packet, if there is room: whoever needs it asks again.
    fn send_arp(&mut self, packet: &arp::Repr, to: Mac) {
        let mut head = [0; ethernet::HEADER + arp::BYTES];
        let (eth, body) = head.split_at_mut(ethernet::HEADER);
        if let (Some(eth), Some(body)) = (eth.first_chunk_mut(), body.first_chunk_mut()) {
            ethernet::Repr { dst: to, src: self.iface.mac, ty: EtherType::Arp }.emit(eth);
            packet.emit(body);
            self.transmit(Link::Device(to), &mut head, None, Payload::None);
        }
    }

    /// Sends the requests that lookups and timers called for.
    pub(super) fn neighbour_turn(&mut self) {
        while let Some(Ask { ip, to }) = self.neighbours.next_ask() {
            match ip {
                IpAddr::V6(target) => self.ask_neighbour(target, to),
                IpAddr::V4(target) => {
                    let Some(IpAddr::V4(sender)) = self.source(ip) else { continue };
                    self.ask_arp(sender, target, to.unwrap_or(Mac::BROADCAST));
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

    /// Forgets all neighbours of a family.
    pub(super) fn forget_neighbours(&mut self, v6: bool) {
        while let Some(waiting) = self.neighbours.forget(v6) {
            self.fail_waiting(waiting);
        }
    }
}
