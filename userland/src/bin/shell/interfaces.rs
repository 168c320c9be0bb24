//! Network cards: links, addresses, gateways.

use core::fmt::Write;
use libipc::net;
use libipc::sock::{Dgram, Error};
use userland::net::LinkWatch;

use super::failure::{Done, Failure};
use super::{Shell, out};

impl Shell {
    /// All network cards.
    pub(super) fn interfaces(&mut self) -> Done {
        let several = self.card(Dgram::NIC + 1)?.is_some();
        for number in Dgram::NIC.. {
            let Some(card) = self.card(number)? else { break };
            if several {
                out!(self, "eth{}:", number - Dgram::NIC);
            }
            self.show_card(&card);
            self.show_v6(number)?;
        }
        Ok(())
    }

    /// Gives the DHCP lease of a card, the first one if none is named, back or asks for it anew.
    pub(super) fn lease(&mut self, keep: bool, card: Option<&str>) -> Done {
        let place = card.unwrap_or("eth0").strip_prefix("eth").and_then(|n| n.parse::<u8>().ok());
        let number = place.and_then(|n| n.checked_add(Dgram::NIC));
        let number = number.ok_or(Failure::Usage("ip dhcp release|renew [eth0]"))?;
        match self.netd(&net::Request::Lease { number, keep }) {
            Err(Failure::Netd(Error::NotSupported)) => {
                out!(self, "its address does not come from a DHCP server");
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Network card `number`, if there is one.
    fn card(&self, number: u8) -> Result<Option<net::Interface>, Failure> {
        match self.netd(&net::Request::Interface { number }) {
            Ok(net::Reply::Interface(card)) => Ok(Some(card)),
            Ok(_) => Err(Failure::Nonsense("netd")),
            Err(Failure::Netd(Error::NoDevice)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn show_card(&mut self, i: &net::Interface) {
        let m = i.mac;
        out!(
            self,
            "link {}, mtu {}, mac {:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
            if i.up { "up" } else { "down" },
            i.mtu,
            m[0],
            m[1],
            m[2],
            m[3],
            m[4],
            m[5]
        );
        match (i.addr, i.lease_s) {
            (Some((addr, prefix)), Some(left)) => {
                out!(self, "address {addr}/{prefix} by DHCP, {left} s left of the lease");
            }
            (Some((addr, prefix)), None) => out!(self, "address {addr}/{prefix}, static"),
            (None, _) => out!(self, "no address yet"),
        }
        if let Some(gateway) = i.gateway {
            out!(self, "gateway {gateway}");
        }
        if let Some(dns) = i.dns {
            out!(self, "name server {dns}");
        }
    }

    fn show_v6(&mut self, number: u8) -> Done {
        let asked = self.netd(&net::Request::Interface6 { number })?;
        let net::Reply::Interface6(six) = asked else {
            return Err(Failure::Nonsense("netd"));
        };
        for a in &six.addrs {
            let state = match a.state {
                net::State6::Tentative => ", tentative",
                net::State6::Preferred => "",
                net::State6::Deprecated => ", deprecated",
                net::State6::Duplicate => ", duplicate: another station has it",
            };
            match a.left_s {
                Some(left) => out!(self, "address {}/{}{state}, {left} s left", a.addr, a.prefix),
                None => out!(self, "address {}/{}{state}", a.addr, a.prefix),
            }
        }
        if let Some(router) = six.router {
            out!(self, "router {router}, mtu {}", six.mtu);
        }
        Ok(())
    }

    /// As programs see it, not as netd says when it is asked.
    pub(super) fn show_link(&mut self) -> Done {
        let link = userland::net::link(self.rt).map_err(Failure::Link)?;
        out!(self, "link {link}, change {}", link.version);
        Ok(())
    }

    /// A line for each change, until Ctrl-C.
    pub(super) fn watch_link(&mut self) -> Done {
        let mut watch = LinkWatch::new(self.rt).map_err(Failure::Link)?;
        loop {
            if let Some(link) = watch.wait_or_console() {
                out!(self, "link {link}, change {}", link.version);
            }
            if self.out.interrupted() {
                out!(self, "^C");
                return Ok(());
            }
        }
    }
}
