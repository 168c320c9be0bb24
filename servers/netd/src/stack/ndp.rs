//! Neighbour discovery (RFC 4861): solicitations and advertisements both ways, redirects; what
//! routers say is in `routers`.

use super::Stack;
use super::icmp6::By;
use super::rx::Packet;
use super::tx::{Link, Payload};
use crate::dev::{Dev, Hop, Station};
use crate::env::{Env, Event};
use crate::neigh::{News, Other, State};
use crate::wire::ethernet::Mac;
use crate::wire::ndp::{self, Advert, Message, Options, Repr};
use crate::wire::{Malformed, ip, ipv6};
use core::net::{IpAddr, Ipv6Addr};

/// Longest message that is looked at: what a link carries in one packet.
const LONGEST: usize = 1460;
/// Bytes of a message that go with the headers; the rest are options.
const FIXED: usize = 24;

/// Of the two addresses of a packet.
pub(super) fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V6(ip) => ip,
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
    }
}

impl<E: Env> Stack<E> {
    /// A message, whose checksum is right.
    pub(super) fn neighbour_in(&mut self, p: &Packet<'_>) -> Result<(), Malformed> {
        // A router has passed it on: it is not from a neighbour (RFC 4861 6.1, 7.1).
        if p.ip.hop_limit != ndp::HOP_LIMIT {
            return Err(Malformed::Address);
        }
        let mut b = [0; LONGEST];
        let b = b.get_mut(..p.len()).ok_or(Malformed::Length)?;
        if !p.mem.read(p.at, b) {
            return Err(Malformed::Truncated);
        }
        let src = v6(p.ip.src);
        match Repr::parse(b)? {
            Repr::Solicit(target, options) => self.solicit_in(p, target, options),
            Repr::Advert(advert, options) => self.advert_in(p, &advert, options),
            Repr::RouterAdvert(router, options) => self.router_in((p.dev, src), &router, options),
            Repr::Redirect(target, dst, options) => {
                self.redirect_in((p.dev, src), target, dst, options)
            }
            // This host is no router.
            Repr::RouterSolicit(_) => Ok(()),
        }
    }

    /// RFC 4861 7.2.3, RFC 4862 5.4.3.
    fn solicit_in(
        &mut self,
        p: &Packet<'_>,
        target: Ipv6Addr,
        options: Options<'_>,
    ) -> Result<(), Malformed> {
        let probe = p.ip.src.is_unspecified();
        let group = IpAddr::V6(ipv6::solicited_node(target));
        if probe && (p.ip.dst != group || options.source().is_some()) {
            return Err(Malformed::Address);
        }
        // Of this link alone, as on Linux.
        let dev = p.dev;
        let Some(own) = self.nics[dev].ip6.addresses.get(target).copied() else {
            self.counters.rx_unclaimed += 1;
            return Ok(());
        };
        if own.is_tentative() {
            // Unless it is our own probe that some switch has sent back (RFC 7527 4.2).
            if probe && options.nonce() != Some(self.nics[dev].ip6.nonce) {
                self.duplicate(dev, target, p.from);
            }
            return Ok(());
        }
        if !own.is_ours() {
            return Ok(());
        }
        if let Some(mac) = options.source().filter(|_| !probe) {
            let (reachable, create, other) = (false, true, Other::Replaces);
            let hop = Hop { dev, ip: p.ip.src };
            self.heard(hop, News { mac: Some(mac), reachable, create, other });
        }
        // As Linux: to who asked where we are, not whether we are still there, with the address.
        let asked_all = p.ip.dst.is_multicast();
        let advert = Advert { target, router: false, solicited: !probe, replaces: asked_all };
        let message = Message::advert(&advert, asked_all.then_some(self.nics[dev].mac));
        let to = if probe { IpAddr::V6(ipv6::ALL_NODES) } else { p.ip.src };
        self.send_neighbour(dev, target.into(), to, &message);
        Ok(())
    }

    /// RFC 4861 7.2.5, RFC 4862 5.4.4.
    fn advert_in(
        &mut self,
        p: &Packet<'_>,
        advert: &Advert,
        options: Options<'_>,
    ) -> Result<(), Malformed> {
        if p.ip.dst.is_multicast() && advert.solicited {
            return Err(Malformed::Address);
        }
        let (target, mac) = (advert.target, options.target());
        if self.nics[p.dev].ip6.addresses.get(target).is_some() {
            self.duplicate(p.dev, target, p.from);
            return Ok(());
        }
        let hop = Hop { dev: p.dev, ip: IpAddr::V6(target) };
        let known = self.neighbours.state(hop);
        if known == State::Empty || (mac.is_none() && !known.is_valid()) {
            self.counters.nd_ignored += 1;
            return Ok(());
        }
        let other = if advert.replaces { Other::Replaces } else { Other::Doubts };
        self.heard(hop, News { mac, reachable: advert.solicited, create: false, other });
        if !advert.router {
            self.no_router(p.dev, target);
        }
        Ok(())
    }

    /// Another station speaks of our address as its own, or means to take it.
    fn duplicate(&mut self, dev: Dev, ip: Ipv6Addr, mac: Mac) {
        self.counters.nd_conflicts += 1;
        if self.nic(dev).ip6.addresses.heard_of(ip) {
            self.address_refused(dev, ip);
            self.env.event(Event::AddressConflict { addr: IpAddr::V6(ip), mac });
        }
    }

    /// A better first hop (RFC 4861 8.3): only from the present one.
    fn redirect_in(
        &mut self,
        (dev, src): (Dev, Ipv6Addr),
        target: Ipv6Addr,
        dst: Ipv6Addr,
        options: Options<'_>,
    ) -> Result<(), Malformed> {
        let present = self.next_hop(dst.into(), Some(dev));
        let (hop, to) = (Hop { dev, ip: target.into() }, IpAddr::V6(dst));
        let better = target.is_unicast_link_local() || target == dst;
        if !src.is_unicast_link_local() || present != Some(Hop { dev, ip: src.into() }) || !better {
            return Err(Malformed::Address);
        }
        if let Some(mac) = options.target() {
            let (reachable, create, other) = (false, true, Other::Replaces);
            self.heard(hop, News { mac: Some(mac), reachable, create, other });
        }
        self.paths.learn_gateway(to, hop, self.now);
        Ok(())
    }

    /// Asks for `target`: everybody who may have it, or the station that had it.
    pub(super) fn ask_neighbour(&mut self, dev: Dev, target: Ipv6Addr, to: Option<Mac>) {
        let Some(src) = self.source(target.into(), Some(dev)) else { return };
        let message = Message::solicit(target, Some(self.nics[dev].mac), None);
        match to {
            Some(mac) => {
                let by = By::Link(Link::Device(Station { dev, mac }));
                self.send_neighbour_by(by, dev, (src, target.into()), &message);
            }
            None => self.send_neighbour(dev, src, ipv6::solicited_node(target).into(), &message),
        }
    }

    /// Asks whether somebody has `target`, which is not ours yet (RFC 4862 5.4.2).
    pub(super) fn probe_address(&mut self, dev: Dev, target: Ipv6Addr) {
        let message = Message::solicit(target, None, Some(self.nics[dev].ip6.nonce));
        let src = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        self.send_neighbour(dev, src, ipv6::solicited_node(target).into(), &message);
    }

    /// Asks for routers (RFC 4861 6.3.7).
    pub(super) fn solicit_routers(&mut self, dev: Dev) {
        let nic = &self.nics[dev];
        let Some(src) = nic.ip6.addresses.link_local() else { return };
        let message = Message::router_solicit(Some(nic.mac));
        self.send_neighbour(dev, src.into(), ipv6::ALL_ROUTERS.into(), &message);
    }

    fn send_neighbour(&mut self, dev: Dev, src: IpAddr, dst: IpAddr, message: &Message) {
        self.send_neighbour_by(By::Route(Some(dev)), dev, (src, dst), message);
    }

    fn send_neighbour_by(
        &mut self,
        by: By,
        dev: Dev,
        (src, dst): (IpAddr, IpAddr),
        message: &Message,
    ) {
        let header = self.icmpv6_header(dev, src, dst);
        let header = ip::Repr { hop_limit: ndp::HOP_LIMIT, ..header };
        let (fixed, options) = message.bytes().split_at(message.bytes().len().min(FIXED));
        self.send_icmpv6(by, header, fixed, Payload::Slice(options));
    }
}
