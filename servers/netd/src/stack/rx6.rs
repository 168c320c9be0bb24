//! Packets of IPv6 in: addresses, the chain of extension headers, fragments, down to the transports
//! (RFC 8200; what is left open is done as in Linux).

use super::Stack;
use super::rx::Packet;
use crate::dev::Dev;
use crate::env::{At, Env};
use crate::reassembly::{Fragment, Key};
use crate::wire::ethernet::Mac;
use crate::wire::ext::{self, Chain, Problem, Reader, number};
use crate::wire::ip::{self, protocol};
use crate::wire::ipv4_options::Taken;
use crate::wire::{Malformed, icmpv6, ipv6};
use core::net::{IpAddr, Ipv6Addr};
use libipc::shared::Bytes;

/// Bytes of a transport's header that are copied behind extension headers.
const TRANSPORT: usize = 60 + 8;

/// A packet whose IPv6 header has been read.
pub(super) struct Packet6<'a> {
    /// Memory of what follows the header.
    pub mem: Bytes,
    /// Where in it that begins.
    pub behind: usize,
    /// Copy of the header as it arrived.
    pub header: &'a [u8],
    /// What it says.
    pub ip: ipv6::Repr,
    /// Card that it came by.
    pub dev: Dev,
    /// Station that sent its frame.
    pub from: Mac,
    /// It is from this host.
    pub looped: bool,
    /// Its frame, or it itself, was sent to more than one station.
    pub group: bool,
    /// The transport checksum needs no check.
    pub checked: bool,
}

impl Packet6<'_> {
    /// Where it ends, counted from its header.
    fn end(&self) -> usize {
        ipv6::HEADER + self.ip.payload_len as usize
    }
    /// As the transport sees it, whose header is that at which `chain` stands and begins with `head`.
    pub fn upper<'a>(&'a self, chain: &Chain, head: &'a [u8]) -> Packet<'a> {
        let payload_len = self.end().saturating_sub(chain.at) as u16;
        Packet {
            mem: self.mem,
            at: self.behind + chain.at - ipv6::HEADER,
            head: &head[..head.len().min(payload_len as usize)],
            header: self.header,
            behind: self.behind,
            dev: self.dev,
            from: self.from,
            options: Taken::default(),
            to_us: !self.ip.dst.is_multicast(),
            ip: ip::Repr { protocol: chain.next, payload_len, ..self.ip.into() },
            looped: self.looped,
            group: self.group,
            checked: self.checked,
        }
    }
}

/// Offsets count from the IPv6 header, which is not in memory.
impl Reader for Packet6<'_> {
    fn read(&self, at: usize, out: &mut [u8]) -> bool {
        at.checked_sub(ipv6::HEADER).is_some_and(|at| self.mem.read(self.behind + at, out))
    }
}

impl<E: Env> Stack<E> {
    /// A packet of IPv6; `head` is a copy of what follows its header, as far as it was copied.
    pub(super) fn ipv6_in(&mut self, mut p: Packet6<'_>, head: &[u8]) -> Result<(), Malformed> {
        let (src, dst) = (p.ip.src, p.ip.dst);
        // Addresses of this host come from the loop only, and what does not leave a node has
        // not (RFC 4291 2.5.3, 2.7.1).
        let own =
            src.is_loopback() || dst.is_loopback() || self.iface.is_ours_on(p.dev, src.into());
        let inner = dst.is_multicast() && ipv6::scope(dst) == 1;
        if !self.nics[p.dev].ip6.is_on() {
            return Err(Malformed::Unsupported);
        }
        if !p.looped && (own || inner) {
            return Err(Malformed::Address);
        }
        p.group |= dst.is_multicast();
        let to_us = dst.is_loopback() || self.iface.is_ours_on(p.dev, dst.into());
        let listens = || dst.is_multicast() && self.listens(p.dev, dst, src.into());
        if !to_us && !listens() {
            self.counters.rx_unclaimed += 1;
            return Ok(());
        }
        let chain = Chain::new(p.ip.next);
        match p.ip.next {
            protocol::TCP | protocol::UDP | protocol::ICMPV6 => {
                self.upper_in(&p.upper(&chain, head), &chain)
            }
            _ => self.chain_in(&p, chain),
        }
    }

    /// Extension headers, and what is behind them.
    #[cold]
    fn chain_in(&mut self, p: &Packet6<'_>, chain: Chain) -> Result<(), Malformed> {
        let mut chain = chain;
        loop {
            let walked = chain.walk(p, p.end());
            chain = match walked {
                Ok(chain) => chain,
                Err(problem) => return self.problem(p, problem),
            };
            if chain.next != number::FRAGMENT {
                break;
            }
            match self.fragment_v6_in(p, &chain) {
                Ok(Some(whole)) => chain = whole,
                Ok(None) => return Ok(()),
                Err(problem) => return self.problem(p, problem),
            }
        }
        let mut head = [0; TRANSPORT];
        let len = p.end().saturating_sub(chain.at).min(TRANSPORT);
        if !p.read(chain.at, &mut head[..len]) {
            return Err(Malformed::Truncated);
        }
        self.upper_in(&p.upper(&chain, &head[..len]), &chain)
    }

    /// A packet is refused; its sender may be told.
    fn problem(&mut self, p: &Packet6<'_>, problem: Problem) -> Result<(), Malformed> {
        let (code, pointer, group) = match problem {
            Problem::Drop(why) => return Err(why),
            Problem::Tell { code, pointer, group } => (code, pointer, group),
        };
        self.counters.rx_options += 1;
        let p = p.upper(&Chain::new(p.ip.next), &[]);
        if group || !p.group {
            self.tell_v6(icmpv6::ty::PARAMETER, code, pointer, &p);
        }
        Ok(())
    }

    /// A fragment. Yields where to go on if it is all of a packet (RFC 6946); whole packets that it
    /// completes are taken from here.
    fn fragment_v6_in(&mut self, p: &Packet6<'_>, chain: &Chain) -> Result<Option<Chain>, Problem> {
        let f = chain.fragment(p, p.end())?;
        let at = chain.at + ext::FRAGMENT_HEADER;
        let (next, named_at) = (f.next, chain.at);
        let inner = Chain { next, at, named_at, alert: chain.alert, fragmented: true };
        if f.offset == 0 && !f.more {
            return Ok(Some(inner));
        }
        if f.offset == 0 && !has_transport(p, &inner) {
            return Err(Problem::Tell { code: ext::INCOMPLETE, pointer: 0, group: false });
        }
        let mut header = [0; ipv6::HEADER];
        header.copy_from_slice(p.header);
        // What the whole packet would have said.
        header[6] = f.next;
        let key = Key { src: p.ip.src.into(), dst: p.ip.dst.into(), id: f.id, protocol: 0 };
        let fragment = Fragment {
            from: At(&p.mem, p.behind + at - ipv6::HEADER),
            len: p.end() - at,
            offset: f.offset as usize,
            more: f.more,
            header: &header,
            tos: p.ip.class,
        };
        let outcome = self.reassembly.insert(&mut self.env, &key, &fragment, self.now);
        if let Some((len, ecn)) = self.reassembly_outcome(outcome)? {
            self.whole_in(p, len, ecn)?;
        }
        Ok(None)
    }

    /// All fragments of a packet have come: so many bytes behind its header.
    fn whole_in(&mut self, last: &Packet6<'_>, len: usize, ecn: u8) -> Result<(), Malformed> {
        let mut header = [0; ipv6::HEADER];
        let kept: &[u8; ipv6::HEADER] =
            self.reassembly.header().first_chunk().ok_or(Malformed::Truncated)?;
        header.copy_from_slice(kept);
        // Of the first fragment, but for ECN's bits, which are of all (RFC 8200 4.5, RFC 3168 5.3).
        let first = ipv6::Repr::parse(&header, usize::MAX)?;
        let (next, payload_len) = (header[6], len as u16);
        let ip = ipv6::Repr { next, payload_len, class: first.class & !3 | ecn, ..first };
        let whole = Packet6 {
            mem: self.reassembly.mem(),
            behind: 0,
            header: &header,
            ip,
            checked: false,
            ..*last
        };
        // Not the header of IPv6 names what follows: hop-by-hop options cannot.
        let chain = Chain { named_at: ipv6::HEADER, fragmented: true, ..Chain::new(next) };
        match next {
            number::FRAGMENT => Err(Malformed::Fragment),
            _ => self.chain_in(&whole, chain),
        }
    }

    /// The transport.
    fn upper_in(&mut self, p: &Packet<'_>, chain: &Chain) -> Result<(), Malformed> {
        // Nobody can be answered there; who has no address yet looks for neighbours.
        if p.ip.src.is_unspecified() && p.ip.protocol != protocol::ICMPV6 {
            return Err(Malformed::Address);
        }
        let taken = !self.raws.is_empty() && self.raw_in(p);
        match p.ip.protocol {
            protocol::TCP if !p.group => self.tcp_in(p),
            protocol::UDP => self.udp_in(p),
            protocol::ICMPV6 => self.icmpv6_in(p, chain),
            number::NONE => Ok(()),
            _ if taken => Ok(()),
            other => {
                self.counters.rx_unclaimed += 1;
                if !p.group && other != protocol::TCP {
                    let pointer = chain.named_at as u32;
                    self.tell_v6(icmpv6::ty::PARAMETER, ext::BAD_NEXT, pointer, p);
                }
                Ok(())
            }
        }
    }

    /// Whether packets for this group that come by card `dev` are taken.
    fn listens(&self, dev: Dev, group: Ipv6Addr, source: IpAddr) -> bool {
        group == ipv6::ALL_NODES
            || (ipv6::scope(group) == 1 && group.octets()[15] == 1)
            || self.nics[dev].ip6.addresses.iter().any(|a| ipv6::solicited_node(a.ip) == group)
            || self.is_member(dev, IpAddr::V6(group), source)
    }
}

/// Whether a first fragment has all headers up to the transport's (RFC 7112), which Linux wants
/// whole.
fn has_transport(p: &Packet6<'_>, inner: &Chain) -> bool {
    let Ok(chain) = inner.walk(p, p.end()) else { return true };
    let need = match chain.next {
        protocol::TCP => 20,
        protocol::UDP | protocol::ICMPV6 => 8,
        _ => 1,
    };
    chain.at + need <= p.end()
}
