//! ICMP: echo, and errors both ways.

use super::rx::Packet;
use super::tx::{Check, NET, Payload};
use super::{Body, Stack};
use crate::demux::{Space, Tuple};
use crate::env::{At, Env};
use crate::wire::checksum::Sum;
use crate::wire::icmp::{self, Quote, Repr, Unreachable};
use crate::wire::tcp::Seq;
use crate::wire::{Malformed, ip, ipv4};
use core::net::SocketAddr;
use core::sync::atomic::Ordering::Release;
use libipc::nic::Csum;
use libipc::sock::Error;

/// Errors that may be sent at once; one more every [`REFILL_NS`] (RFC 1812 4.3.2.8).
pub(super) const TOKENS: u32 = 50;
const REFILL_NS: u64 = 10_000_000;

impl<E: Env> Stack<E> {
    pub(super) fn icmp_in(&mut self, p: &Packet<'_>) -> Result<(), Malformed> {
        let repr = Repr::parse(&p.head[..p.head.len().min(p.len())])?;
        if let Repr::EchoReply { id, .. } = repr {
            return self.echo_reply_in(p, id);
        }
        self.verify(p, Sum::ZERO)?;
        match repr {
            Repr::EchoRequest { id, seq } => self.answer_echo(p, id, seq),
            Repr::Unreachable(why, quote) => self.unreachable_in(why, &quote),
            // Time to live exceeded: soft everywhere but in a handshake (RFC 5461).
            Repr::TimeExceeded(quote) => self.unreachable_in(Unreachable::Host, &quote),
            Repr::EchoReply { .. } => {}
        }
        Ok(())
    }

    fn answer_echo(&mut self, p: &Packet<'_>, id: u16, seq: u16) {
        let mut message = [0; icmp::HEADER];
        icmp::emit_echo(true, id, seq, &mut message);
        let data = Payload::At(At(&p.mem, p.at + icmp::HEADER), p.len() - icmp::HEADER);
        self.answer_icmp(p, &message, data, p.len());
    }

    /// Sends an ICMP message of `len` bytes to whoever sent `p`, if there is room.
    fn answer_icmp(
        &mut self,
        p: &Packet<'_>,
        message: &[u8; icmp::HEADER],
        rest: Payload<'_>,
        len: usize,
    ) {
        let mut head = [0; NET + icmp::HEADER];
        let Some((net, body)) = head.split_first_chunk_mut() else { return };
        let ip = ip::Repr::new(p.ip.dst, p.ip.src, ip::protocol::ICMP, len as u16);
        let Some(start) = self.headers(p.back, &ip, net) else { return };
        body.copy_from_slice(message);
        let from = NET - start;
        let check =
            Check { field: from + 2, from, pseudo: Sum::ZERO, csum: Csum::None, segment: 0 };
        self.transmit(p.back, &mut head[start..], Some(check), rest);
    }

    fn echo_reply_in(&mut self, p: &Packet<'_>, id: u16) -> Result<(), Malformed> {
        let local = SocketAddr::new(p.ip.dst, id);
        let src = SocketAddr::new(p.ip.src, 0);
        let Some(i) = self.demux.lookup(Space::Ping, local, src) else {
            self.counters.rx_unclaimed += 1;
            return Ok(());
        };
        // The program gets identifier, sequence number and data.
        let sum = (!p.checked).then(|| Sum::ZERO.bytes(&p.head[..4]));
        self.deliver(i, p, src, 4, p.len() - 4, sum)
    }

    fn unreachable_in(&mut self, why: Unreachable, quote: &Quote) {
        let t = &quote.transport;
        let local = SocketAddr::new(quote.src, u16::from_be_bytes([t[0], t[1]]));
        let remote = SocketAddr::new(quote.dst, u16::from_be_bytes([t[2], t[3]]));
        let space = match quote.protocol {
            ip::protocol::TCP => Space::Tcp,
            ip::protocol::UDP => Space::Udp,
            _ => return,
        };
        let Some(i) = self.demux.find(&Tuple { space, local, remote }) else { return };
        let (error, now) = (
            if why == Unreachable::Port {
                Error::ConnectionRefused
            } else {
                Error::HostUnreachable
            },
            self.now,
        );
        let s = &mut self.socks[i as usize];
        match &mut s.body {
            Body::Tcp(conn) => {
                // Only what quotes a number in flight is believed (RFC 5927 4.1).
                if !conn.in_flight(Seq(u32::from_be_bytes([t[4], t[5], t[6], t[7]]))) {
                    return;
                }
                let outcome = match why {
                    Unreachable::TooBig(mtu) => conn.too_big(mtu),
                    _ => conn.unreachable(error, now),
                };
                let wants = conn.wants_output();
                self.after_tcp(i, outcome);
                if wants {
                    self.want_send(i);
                }
                self.arm(i);
            }
            Body::Dgram(_) if why == Unreachable::Port => {
                s.rec.error.store(error.to_raw(), Release);
                self.ready(i);
            }
            _ => {}
        }
    }

    fn may_send_error(&mut self) -> bool {
        let refill = (self.now - self.icmp_refilled) / REFILL_NS;
        if refill > 0 {
            self.icmp_refilled += refill * REFILL_NS;
            self.icmp_tokens = (self.icmp_tokens as u64 + refill).min(TOKENS as u64) as u32;
        }
        let may = self.icmp_tokens > 0;
        self.icmp_tokens -= may as u32;
        may
    }

    /// RFC 1122 3.2.2.1: `code` says what there is not, a protocol or a port. Callers see to it
    /// that `p` is no ICMP error and was sent to this host alone; `ip_in`, that one host sent it.
    pub(super) fn send_unreachable(&mut self, code: u8, p: &Packet<'_>) {
        if !self.may_send_error() {
            return;
        }
        let mut quote = [0; ipv4::HEADER_MAX + icmp::QUOTED];
        let transport = &p.head[..icmp::QUOTED.min(p.len()).min(p.head.len())];
        let len = p.header.len() + transport.len();
        let Some(quote) = quote.get_mut(..len) else { return };
        let (header, rest) = quote.split_at_mut(p.header.len());
        header.copy_from_slice(p.header);
        rest.copy_from_slice(transport);
        let mut message = [0; icmp::HEADER];
        icmp::emit_unreachable(code, &mut message);
        self.answer_icmp(p, &message, Payload::Slice(quote), icmp::HEADER + len);
    }
}
