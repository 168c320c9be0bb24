//! ICMP: echo and timestamps answered, errors sent. What errors of others mean is in `reports`.

use super::Stack;
use super::packet::Outgoing;
use super::rx::Packet;
use super::tx::Payload;
use crate::demux::Space;
use crate::env::{At, Env};
use crate::wire::checksum::Sum;
use crate::wire::icmp::{self, Problem, Repr};
use crate::wire::ipv4_options::{self, Here};
use crate::wire::{Malformed, ip, ipv4};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Errors that may be sent at once, and how long until one more may, in all (Linux's
/// `icmp_msgs_burst` and `icmp_msgs_per_sec`).
pub(super) const TOKENS: u32 = 50;
/// Echo replies remembered, so that what routers say of them counts.
pub(super) const ANSWERED: usize = 16;
const REFILL_NS: u64 = 1_000_000;
/// Precedence of errors (RFC 1812 4.3.2.5), and what of the packet's type of service they keep.
const ERROR_TOS: u8 = 0xc0;
const KEPT_TOS: u8 = 0x1e;

impl<E: Env> Stack<E> {
    pub(super) fn icmp_in(&mut self, p: &Packet<'_>) -> Result<(), Malformed> {
        self.counters.icmp_in += 1;
        let repr = Repr::parse(&p.head[..p.head.len().min(p.len())])?;
        if let Repr::EchoReply { id, .. } = repr {
            return self.echo_reply_in(p, id);
        }
        self.verify(p, Sum::ZERO)?;
        match repr {
            // RFC 1122 3.2.2.6, 3.2.2.8: questions to all may be passed over, and Linux does.
            _ if !p.to_us => self.counters.icmp_ignored += 1,
            Repr::EchoRequest { code, id, seq } => self.answer_echo(p, code, id, seq),
            Repr::TimestampRequest { ids, originate } => {
                let message = icmp::timestamp_reply(ids, originate, self.time_of_day());
                self.answer(p, p.ip.tos, &message, Payload::None);
            }
            Repr::Error(problem, quote) => self.reported(problem, &quote, p),
            Repr::Redirect(gateway, quote) => self.redirected(p, gateway.into(), &quote),
            Repr::EchoReply { .. } | Repr::Other => self.counters.icmp_ignored += 1,
        }
        Ok(())
    }

    fn answer_echo(&mut self, p: &Packet<'_>, code: u8, id: u16, seq: u16) {
        let mut message = [0; icmp::HEADER];
        icmp::emit_echo(true, id, seq, &mut message);
        message[1] = code;
        if let (IpAddr::V4(src), [_, _, _, _, about @ ..]) = (p.ip.src, message) {
            self.note_answered(src, about);
        }
        let data = Payload::At(At(&p.mem, p.at + icmp::HEADER), p.len() - icmp::HEADER);
        self.answer(p, p.ip.tos, &message, data);
    }

    /// Remembers that an echo request of `peer` is answered; `about`: its identifier and sequence number.
    #[inline]
    pub(super) fn note_answered(&mut self, peer: Ipv4Addr, about: [u8; 4]) {
        self.answered[about[3] as usize % ANSWERED] = (peer, about);
    }

    /// Milliseconds since midnight, as ICMP and IP options count.
    pub(super) fn time_of_day(&self) -> [u8; 4] {
        icmp::time(self.utc_at_boot.map(|at| at.saturating_add(self.now)), self.now)
    }

    /// Who records itself in the options of packets to and from `addr`.
    pub(super) fn here(&self, addr: IpAddr) -> Option<Here> {
        match addr {
            IpAddr::V4(addr) => Some(Here { addr, time: self.time_of_day() }),
            IpAddr::V6(_) => None,
        }
    }

    /// Sends an ICMP message to who sent `p`, by route. It may be cut (RFC 1122 3.2.2.6: an echo
    /// reply is as long as the request).
    fn answer(&mut self, p: &Packet<'_>, tos: u8, body: &[u8], rest: Payload<'_>) {
        let Some(link) = self.way_back(p) else { return };
        let options = match self.here(p.ip.dst).filter(|_| !p.options.is_empty()) {
            Some(here) => p.options.answer(&here),
            None => ipv4_options::Bytes::new(),
        };
        let ip = ip::Repr::new(p.ip.dst, p.ip.src, ip::protocol::ICMP, 0);
        let ip = ip::Repr { tos, dont_fragment: false, ..ip };
        let check = Some((2, Sum::ZERO));
        self.send_packet(link, &mut Outgoing { ip, options: &options, body, check, rest });
        self.counters.icmp_out += 1;
    }

    fn echo_reply_in(&mut self, p: &Packet<'_>, id: u16) -> Result<(), Malformed> {
        let local = SocketAddr::new(p.ip.dst, id);
        let src = SocketAddr::new(p.ip.src, 0);
        let Some(i) = self.demux.lookup_on(p.interface(), Space::Ping, local, src) else {
            self.counters.rx_unclaimed += 1;
            return Ok(());
        };
        // The program gets identifier, sequence number and data.
        let sum = (!p.checked).then(|| Sum::ZERO.bytes(&p.head[..4]));
        self.deliver(i, p, src, 4, p.len() - 4, sum)
    }

    /// Whether an error about a packet of `src` may be sent: so many in all, and so many to each
    /// host (RFC 1812 4.3.2.8), of which this one has no limit.
    pub(super) fn may_send_error(&mut self, src: IpAddr) -> bool {
        let refill = (self.now - self.icmp_refilled) / REFILL_NS;
        if refill > 0 {
            self.icmp_refilled += refill * REFILL_NS;
            self.icmp_tokens = (self.icmp_tokens as u64 + refill).min(TOKENS as u64) as u32;
        }
        if self.icmp_tokens == 0 {
            self.counters.icmp_limited += 1;
            return false;
        }
        let local = src.is_loopback() || self.iface.is_ours(src);
        if !local && !self.paths.admit_error(src, self.now) {
            self.counters.icmp_limited_host += 1;
            return false;
        }
        self.icmp_tokens -= 1;
        true
    }

    /// Sends an error about `p` where RFC 1122 3.2.2 allows one: not about errors, later fragments, what
    /// was sent to more than one, on either layer, and not to no single host. It quotes as much as
    /// an error may hold.
    pub(super) fn send_error(&mut self, problem: Problem, p: &Packet<'_>) {
        if p.ip.src.is_ipv6() {
            return self.send_error_v6(problem, p);
        }
        let is_icmp = p.ip.protocol == ip::protocol::ICMP;
        let answerable = !is_icmp || p.head.first().is_some_and(|ty| Repr::may_be_answered(*ty));
        let later = p.header.get(6..8).is_some_and(|f| f[0] & 0x1f != 0 || f[1] != 0);
        if p.group || !p.to_us || !answerable || later || !self.may_send_error(p.ip.src) {
            return;
        }
        let mut body = [0; icmp::HEADER + ipv4::HEADER_MAX];
        let quoted = icmp::HEADER + p.header.len();
        let Some(body) = body.get_mut(..quoted) else { return };
        body[..icmp::HEADER].copy_from_slice(&problem.header());
        body[icmp::HEADER..].copy_from_slice(p.header);
        let room = icmp::ERROR_MAX - ipv4::HEADER - quoted - p.options.len();
        let rest = Payload::At(At(&p.mem, p.at), p.len().min(room));
        self.answer(p, p.ip.tos & KEPT_TOS | ERROR_TOS, body, rest);
    }
}
