//! Which sources of a group a socket hears (RFC 3376 2), with Linux's rules (`ip_mc_source`).

use super::Stack;
use super::groups::{Member, mapped};
use crate::env::Env;
use crate::sources::OF_ONE;
use core::net::IpAddr;
use libipc::net::{Reply, Result, SockId};
use libipc::sock::{Error, Heard, On};

impl<E: Env> Stack<E> {
    /// IP_ADD_SOURCE_MEMBERSHIP, IP_BLOCK_SOURCE and their like.
    pub(super) fn hear(
        &mut self,
        sock: SockId,
        (group, source): (IpAddr, IpAddr),
        on: On,
        heard: Heard,
    ) -> Result<Reply> {
        let (group, source) = (group.to_canonical(), source.to_canonical());
        let (i, dev) = self.may_join(sock, group, on)?;
        if source.is_ipv4() != group.is_ipv4() || source.is_multicast() || source.is_unspecified() {
            return Err(Error::Invalid);
        }
        let include = matches!(heard, Heard::Join | Heard::Leave);
        let source = mapped(source);
        let Some(at) = self.groups.find(i, dev, group) else {
            return match heard {
                Heard::Join => self.enter_group(Member { i, group, dev, include }, Some(source)),
                _ => Err(Error::Invalid),
            };
        };
        let (count, place) =
            self.groups.sources_of(at).fold((0, None), |(n, found), (place, s)| {
                (n + 1, if s == source { Some(place) } else { found })
            });
        let differs = self.groups.members[at].is_some_and(|m| m.include != include);
        if differs && count > 0 {
            return Err(Error::Invalid);
        }
        let adds = matches!(heard, Heard::Join | Heard::Block);
        if adds == place.is_some() {
            return Err(Error::AddrNotAvailable);
        }
        if heard == Heard::Leave && count == 1 {
            self.leave_group(at);
            return Ok(Reply::Done);
        }
        let free = self.groups.free_source().filter(|_| count < OF_ONE);
        let place = place.or(free).ok_or(Error::NoBuffers)?;
        let old = self.groups.filter(dev, group);
        if let Some(m) = self.groups.members[at].as_mut().filter(|_| differs) {
            m.include = include;
            self.hard.members[at].set_include(include);
        }
        self.set_source(place, adds.then_some((at as u8, source)));
        self.group_changed(dev, group, &old);
        Ok(Reply::Done)
    }
}
