//! What ICMP of others says about packets of ours: errors to sockets, path MTUs, redirects.
//!
//! A report is believed as far as it quotes something that only who saw the packet can know
//! (RFC 5927): of TCP a sequence number in flight, of UDP a pair of addresses and ports in use.

use super::dgram::Dgram;
use super::rx::Packet;
use super::{Body, Stack};
use crate::demux::{Space, Tuple};
use crate::dev::Hop;
use crate::env::Env;
use crate::list::NONE;
use crate::wire::icmp::{self, Problem, Quote};
use crate::wire::ip;
use crate::wire::tcp::Seq;
use core::net::{IpAddr, SocketAddr};
use libipc::sock::{Error, Kind, option};

/// What a report means to a socket, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// An error, and whether it is a hard one: nothing that waiting will cure (RFC 1122 4.1.3.3,
    /// 4.2.3.9).
    Error(Error, bool),
    /// Packets must not be longer than this; 0: it does not say.
    TooBig(u16),
}

/// Errors of the codes of type 3, as Linux has them.
const CODES: [(Error, bool); icmp::UNREACHABLE_LAST as usize + 1] = [
    (Error::NetworkUnreachable, false),
    (Error::HostUnreachable, false),
    (Error::NoOption, true),
    (Error::ConnectionRefused, true),
    (Error::MessageTooLong, false),
    (Error::NotSupported, false),
    (Error::NetworkUnreachable, true),
    (Error::HostDown, true),
    (Error::NoNetwork, true),
    (Error::NetworkUnreachable, true),
    (Error::HostUnreachable, true),
    (Error::NetworkUnreachable, false),
    (Error::HostUnreachable, false),
    (Error::HostUnreachable, true),
    (Error::HostUnreachable, true),
    (Error::HostUnreachable, true),
];

/// The report of an ICMP error; `None`: no socket need hear of it.
fn report(problem: Problem) -> Option<Report> {
    match problem {
        Problem::TooBig(mtu) => Some(Report::TooBig(mtu)),
        Problem::Unreachable(code) => {
            CODES.get(code as usize).map(|(error, hard)| Report::Error(*error, *hard))
        }
        Problem::TimeExceeded(icmp::REASSEMBLY) => None,
        Problem::TimeExceeded(_) => Some(Report::Error(Error::HostUnreachable, false)),
        Problem::Parameter(_) => Some(Report::Error(Error::Protocol, true)),
    }
}

/// The socket that sent a quoted packet, if the quote proves that it did.
struct Sender {
    i: u32,
    dst: IpAddr,
}

impl<E: Env> Stack<E> {
    /// An ICMP error of IPv4.
    pub(super) fn reported(&mut self, problem: Problem, quote: &Quote, p: &Packet<'_>) {
        match report(problem) {
            Some(report) => self.report_in(report, quote, p),
            None => self.counters.icmp_ignored += 1,
        }
    }

    /// A report, message `p`, about a packet of ours, of either family.
    pub(super) fn report_in(&mut self, report: Report, quote: &Quote, p: &Packet<'_>) {
        let Some(sender) = self.sender(quote, p.interface()) else {
            match report {
                Report::TooBig(mtu) if self.has_answered(quote) => self.learn_mtu(quote, mtu),
                _ if self.request_reported(report, quote) => {}
                _ => self.counters.icmp_ignored += 1,
            }
            return;
        };
        if let Report::TooBig(mtu) = report {
            self.learn_mtu(quote, mtu);
        }
        match self.socks[sender.i as usize].body {
            Body::Tcp(_) => self.report_stream(&sender, report),
            Body::Dgram(d) => self.report_datagrams(&sender, &d, report, quote, p),
            _ => {}
        }
    }

    fn sender(&self, quote: &Quote, by: u8) -> Option<Sender> {
        let t = &quote.transport;
        let half = |at: usize| u16::from_be_bytes([t[at], t[at + 1]]);
        let dst = quote.dst;
        let local = |port| SocketAddr::new(quote.src, port);
        let remote = |port| SocketAddr::new(dst, port);
        let i = match quote.protocol {
            ip::protocol::TCP => {
                let (local, remote) = (local(half(0)), remote(half(2)));
                let i = self.demux.find(&Tuple { space: Space::Tcp, local, remote })?;
                let Body::Tcp(conn) = &self.socks.get(i as usize)?.body else { return None };
                let seq = Seq(u32::from_be_bytes([t[4], t[5], t[6], t[7]]));
                conn.in_flight(seq).then_some(i)?
            }
            ip::protocol::UDP => {
                self.demux.lookup_on(by, Space::Udp, local(half(0)), remote(half(2)))?
            }
            // Of ping's a request: identifier at 4, in both families.
            ip::protocol::ICMP if t[0] == 8 => {
                self.demux.lookup_on(by, Space::Ping, local(half(4)), remote(0))?
            }
            ip::protocol::ICMPV6 if t[0] == 128 => {
                self.demux.lookup_on(by, Space::Ping, local(half(4)), remote(0))?
            }
            _ => return None,
        };
        Some(Sender { i, dst })
    }

    /// Bytes that a packet from `src` may have on its first link.
    fn mtu_towards(&self, src: IpAddr) -> u16 {
        self.nics[self.iface.dev_of(src).unwrap_or_default()].mtu
    }

    /// RFC 1191 3, RFC 5927 7.2: an MTU is believed if it is smaller than the packet it is about.
    fn learn_mtu(&mut self, quote: &Quote, mtu: u16) {
        let known =
            self.paths.mtu(quote.dst, self.now).unwrap_or_else(|| self.mtu_towards(quote.src));
        let believed = if quote.dst.is_ipv4() { mtu } else { mtu.max(1280) };
        if believed < known && mtu < quote.len {
            self.paths.learn_mtu(quote.dst, believed, self.now);
        }
    }

    /// Whether an echo reply is quoted that was sent lately. Of no socket, but Linux believes so, too.
    fn has_answered(&self, quote: &Quote) -> bool {
        let [0, _, _, _, a, b, c, d] = quote.transport else { return false };
        let IpAddr::V4(dst) = quote.dst else { return false };
        let ours = quote.protocol == ip::protocol::ICMP && self.iface.is_ours(quote.src);
        ours && self.answered.contains(&(dst, [a, b, c, d]))
    }

    fn report_stream(&mut self, sender: &Sender, report: Report) {
        let (i, now) = (sender.i, self.now);
        let waits = self.socks[i as usize].listener != NONE;
        let Body::Tcp(conn) = &mut self.socks[i as usize].body else { return };
        let outcome = match report {
            Report::TooBig(mtu) => conn.too_big(mtu),
            Report::Error(error, _) => match waits.then(|| conn.child_unreachable(error)).flatten()
            {
                Some(outcome) => outcome,
                None => conn.unreachable(error, now),
            },
        };
        let wants = conn.wants_output();
        self.after_tcp(i, outcome);
        if wants && matches!(self.socks[i as usize].body, Body::Tcp(_)) {
            self.want_send(i);
        }
        self.arm(i);
    }

    /// Linux's rule: hard errors reach who is connected, all of them who asked for errors (ping
    /// always does).
    fn report_datagrams(
        &mut self,
        sender: &Sender,
        d: &Dgram,
        report: Report,
        quote: &Quote,
        p: &Packet<'_>,
    ) {
        let s = &self.socks[sender.i as usize];
        let options = self.sessions[s.session as usize].options(s.id);
        let asked = options & option::RECVERR != 0 || d.kind == Kind::Ping;
        let connected = s.remote.ip() == sender.dst;
        let (error, hard) = match report {
            Report::Error(error, hard) => (error, hard),
            Report::TooBig(_) => {
                let hard = options & option::PMTU != option::PMTU_DONT;
                (Error::MessageTooLong, hard)
            }
        };
        if asked || (hard && connected) {
            self.icmp_notice(sender.i, d, error, p, quote);
            self.dgram_error(sender.i, error);
        }
    }

    /// RFC 1122 3.2.2.2: a gateway that is in use names a better one, which must be near.
    pub(super) fn redirected(&mut self, p: &Packet<'_>, to: IpAddr, quote: &Quote) {
        let (dev, by) = (p.dev, p.ip.src);
        let near =
            self.iface.is_near(to) && !self.iface.is_ours(to) && !self.iface.is_broadcast(to);
        let used = self.next_hop(quote.dst, Some(dev));
        let in_use = used == Some(Hop { dev, ip: by }) && !self.iface.is_near(quote.dst);
        let sent = self.sender(quote, p.interface()).is_some() || self.has_answered(quote);
        if near && in_use && to != by && sent {
            self.paths.learn_gateway(quote.dst, Hop { dev, ip: to }, self.now);
        } else {
            self.counters.icmp_ignored += 1;
        }
    }
}
