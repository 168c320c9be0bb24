//! ICMPv6 (RFC 4443): echo, and errors both ways.

use super::Stack;
use super::packet::Outgoing;
use super::reports::Report;
use super::rx::Packet;
use super::rx6::Packet6;
use super::tx::{Link, Payload, Route};
use crate::demux::Space;
use crate::dev::Dev;
use crate::env::{At, Env};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Mac;
use crate::wire::ext::Chain;
use crate::wire::icmp::{self, Quote};
use crate::wire::icmpv6::{Problem, ty};
use crate::wire::ip::{self, protocol};
use crate::wire::{Malformed, icmpv6, ipv6};
use core::net::{IpAddr, SocketAddr};
use libipc::sock::Error;

/// How a message gets there.
pub(super) enum By {
    /// So.
    Link(Link),
    /// By the route there is, by this card if it is said.
    Route(Option<Dev>),
}

impl<E: Env> Stack<E> {
    /// A message, behind `chain`.
    pub(super) fn icmpv6_in(&mut self, p: &Packet<'_>, chain: &Chain) -> Result<(), Malformed> {
        let repr = icmpv6::Repr::parse(p.head)?;
        let pseudo = p.ip.pseudo();
        if let icmpv6::Repr::Echo { reply: true, id, .. } = repr {
            return self.echo_reply_v6(p, id, pseudo);
        }
        self.verify(p, pseudo)?;
        match repr {
            icmpv6::Repr::Echo { id, seq, .. } => self.answer_echo_v6(p, id, seq),
            icmpv6::Repr::Error(problem, quote) => self.error_v6_in(problem, &quote, p),
            // Guards of switches would not see what it says (RFC 6980 5).
            icmpv6::Repr::Neighbour(_) if chain.fragmented => return Err(Malformed::Fragment),
            icmpv6::Repr::Neighbour(_) => return self.neighbour_in(p),
            icmpv6::Repr::Listener(ty) => return self.listener_report_in(p, ty, chain.alert),
        }
        Ok(())
    }

    /// RFC 4443 4.2; one that was sent to a group is answered from an address of ours.
    fn answer_echo_v6(&mut self, p: &Packet<'_>, id: u16, seq: u16) {
        let Some(src) = self.answers_from(p) else { return };
        let mut message = [0; icmpv6::HEADER];
        icmpv6::emit_echo(true, id, seq, &mut message);
        let len = p.len() - icmpv6::HEADER;
        let data = Payload::At(At(&p.mem, p.at + icmpv6::HEADER), len);
        let answer = ip::Repr { tos: p.ip.tos, ..self.icmpv6_header(p.dev, src, p.ip.src) };
        self.send_icmpv6(By::Route(p.only_by()), answer, &message, data);
    }

    fn echo_reply_v6(&mut self, p: &Packet<'_>, id: u16, pseudo: Sum) -> Result<(), Malformed> {
        let src = SocketAddr::new(p.ip.src, 0);
        let local = SocketAddr::new(p.ip.dst, id);
        let Some(i) = self.demux.lookup_on(p.interface(), Space::Ping, local, src) else {
            self.counters.rx_unclaimed += 1;
            return Ok(());
        };
        // The program gets identifier, sequence number and data.
        let sum = (!p.checked).then(|| pseudo.bytes(&p.head[..4]));
        self.deliver(i, p, src, 4, p.len() - 4, sum)
    }

    /// The address to answer `p` from: the one it was sent to, unless that is a group.
    fn answers_from(&self, p: &Packet<'_>) -> Option<IpAddr> {
        match p.ip.dst.is_multicast() {
            true => self.source(p.ip.src, Some(p.dev)),
            false => Some(p.ip.dst),
        }
    }

    /// A header of ours.
    pub(super) fn icmpv6_header(&self, dev: Dev, src: IpAddr, dst: IpAddr) -> ip::Repr {
        let hop_limit = self.nics[dev].ip6.routers.hop_limit;
        let header = ip::Repr::new(src, dst, protocol::ICMPV6, 0);
        ip::Repr { hop_limit, dont_fragment: false, ..header }
    }

    /// Sends a message, whose checksum field is zero.
    pub(super) fn send_icmpv6(&mut self, by: By, ip: ip::Repr, message: &[u8], rest: Payload<'_>) {
        let route = match by {
            By::Link(link) => Route::Via(link),
            By::Route(on) => self.route_from(ip.src, ip.dst, on),
        };
        let link = match route {
            Route::Via(link) => link,
            Route::Wait(entry) => Link::Later(entry),
            Route::Later | Route::Unreachable => {
                self.counters.tx_no_route += 1;
                return;
            }
        };
        let len = (message.len() + rest.len()) as u16;
        let pseudo = Sum::pseudo(ip.src, ip.dst, protocol::ICMPV6, len);
        let check = Some((2, pseudo));
        self.send_packet(link, &mut Outgoing { ip, options: &[], body: message, check, rest });
    }

    /// Tells the sender of `p` what is wrong with it (RFC 4443 2.4): never about an error, nor to
    /// somebody who is not one host; callers see to what was sent to groups.
    pub(super) fn tell_v6(&mut self, ty: u8, code: u8, word: u32, p: &Packet<'_>) {
        let mut first = [0];
        let first = p.mem.read(p.at, &mut first).then_some(first[0]).filter(|_| p.len() > 0);
        if p.ip.src.is_unspecified() || !icmpv6::may_be_answered(p.ip.protocol, first) {
            return;
        }
        let Some(src) = self.answers_from(p) else { return };
        if !self.may_send_error(p.ip.src) {
            return;
        }
        let mut quote = [0; icmpv6::QUOTED];
        let (header, rest) = quote.split_at_mut(ipv6::HEADER);
        header.copy_from_slice(p.header);
        let len = (p.at - p.behind + p.len()).min(rest.len());
        if !p.mem.read(p.behind, &mut rest[..len]) {
            return;
        }
        let mut message = [0; icmpv6::HEADER];
        icmpv6::emit_error(ty, code, word, &mut message);
        let quote = Payload::Slice(&quote[..ipv6::HEADER + len]);
        let header = self.icmpv6_header(p.dev, src, p.ip.src);
        self.send_icmpv6(By::Route(p.only_by()), header, &message, quote);
    }

    /// An error that both families have, about a packet of IPv6.
    pub(super) fn send_error_v6(&mut self, problem: icmp::Problem, p: &Packet<'_>) {
        let (ty, code) = match problem {
            icmp::Problem::Unreachable(icmp::NO_PORT) => (ty::UNREACHABLE, icmpv6::NO_PORT),
            icmp::Problem::Unreachable(_) => (ty::UNREACHABLE, 0),
            icmp::Problem::TimeExceeded(code) => (ty::TIME_EXCEEDED, code),
            // Those with a word are sent from where it is known.
            icmp::Problem::TooBig(_) | icmp::Problem::Parameter(_) => return,
        };
        if !p.group {
            self.tell_v6(ty, code, 0, p);
        }
    }

    /// RFC 8200 4.5: who sent the first fragment, with so many bytes of payload, is told that the
    /// others did not come.
    pub(super) fn reassembly_exceeded_v6(&mut self, len: usize) {
        let mut header = [0; ipv6::HEADER];
        let Some(kept) = self.reassembly.header().first_chunk::<{ ipv6::HEADER }>() else { return };
        header.copy_from_slice(kept);
        header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        let Ok(ip) = ipv6::Repr::parse(&header, ipv6::HEADER + len) else { return };
        let mem = self.reassembly.mem();
        let (looped, group, checked) = (false, ip.dst.is_multicast(), true);
        let from = Mac([0; 6]);
        // Where it came from is not known any more.
        let dev = self.iface.dev_of(ip.dst.into()).unwrap_or_default();
        let p = Packet6 { mem, behind: 0, header: &header, ip, dev, from, looped, group, checked };
        let p = p.upper(&Chain::new(ip.next), &[]);
        self.send_error_v6(icmp::Problem::TimeExceeded(icmpv6::REASSEMBLY), &p);
    }

    fn error_v6_in(&mut self, problem: Problem, quote: &Quote, p: &Packet<'_>) {
        match report(problem) {
            Some(report) => self.report_in(report, quote, p),
            None => self.counters.icmp_ignored += 1,
        }
    }
}

/// What an error means to a socket, as Linux has it; `None`: nothing.
fn report(problem: Problem) -> Option<Report> {
    Some(match problem {
        // RFC 8201 4: no path is believed to carry less than every link must.
        Problem::TooBig(mtu) if mtu < ipv6::MIN_MTU as u32 => return None,
        Problem::TooBig(mtu) => Report::TooBig(mtu.min(u16::MAX as u32) as u16),
        Problem::Unreachable(code) => match code {
            0 => Report::Error(Error::NetworkUnreachable, false),
            1 | 5 | 6 => Report::Error(Error::Prohibited, true),
            icmpv6::NO_PORT => Report::Error(Error::ConnectionRefused, true),
            _ => Report::Error(Error::HostUnreachable, false),
        },
        Problem::TimeExceeded(icmpv6::REASSEMBLY) => return None,
        Problem::TimeExceeded(_) => Report::Error(Error::HostUnreachable, false),
        Problem::Parameter(_) => Report::Error(Error::Protocol, true),
    })
}
