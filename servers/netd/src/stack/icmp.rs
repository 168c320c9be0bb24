//! ICMP: echo, and errors both ways.

use super::rx::Packet;
use super::tx::{Check, Payload};
use super::{Body, Stack};
use crate::demux::{Space, Tuple};
use crate::env::{At, Env};
use crate::wire::checksum::Sum;
use crate::wire::icmp::{self, Quote, Repr, Unreachable};
use crate::wire::tcp::Seq;
use crate::wire::{Malformed, ethernet, ipv4};
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering::Release;
use libipc::nic::Csum;
use libipc::sock::Error;

/// Errors that may be sent at once; one more every [`REFILL_NS`] (RFC 1812 4.3.2.8).
pub(super) const TOKENS: u32 = 50;
const REFILL_NS: u64 = 10_000_000;
const NET: usize = ethernet::HEADER + ipv4::HEADER;

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
        let mut head = [0; NET + icmp::HEADER];
        let (net, body) = head.split_at_mut(NET);
        if let (Some(net), Some(body)) = (net.first_chunk_mut(), body.first_chunk_mut()) {
            self.headers(p.back, p.ip.dst, p.ip.src, ipv4::protocol::ICMP, p.len(), net);
            icmp::emit_echo(true, id, seq, body);
        }
        let data = Payload::At(At(&p.mem, p.at + icmp::HEADER), p.len() - icmp::HEADER);
        let check = Check { field: NET + 2, from: NET, pseudo: Sum::ZERO, csum: Csum::None };
        self.transmit(p.back, &mut head, Some(check), data);
    }

    fn echo_reply_in(&mut self, p: &Packet<'_>, id: u16) -> Result<(), Malformed> {
        let local = SocketAddr::new(p.dst(), id);
        let src = SocketAddr::new(p.src(), 0);
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
        let local = SocketAddr::new(IpAddr::V4(quote.src), u16::from_be_bytes([t[0], t[1]]));
        let remote = SocketAddr::new(IpAddr::V4(quote.dst), u16::from_be_bytes([t[2], t[3]]));
        let space = match quote.protocol {
            ipv4::protocol::TCP => Space::Tcp,
            ipv4::protocol::UDP => Space::Udp,
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
                s.rec.error.store(error as u16, Release);
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

    /// RFC 1122 4.1.3.1: nobody listens on the port.
    pub(super) fn send_port_unreachable(&mut self, p: &Packet<'_>) {
        if !self.may_send_error() {
            return;
        }
        // The header as it was is not kept; one without options says the same.
        let mut quote = [0; icmp::QUOTE];
        let (header, transport) = quote.split_at_mut(ipv4::HEADER);
        if let Some(header) = header.first_chunk_mut() {
            p.ip.emit(header);
        }
        transport.copy_from_slice(&p.head[..8]);
        let mut head = [0; NET + icmp::HEADER];
        let (net, body) = head.split_at_mut(NET);
        if let (Some(net), Some(body)) = (net.first_chunk_mut(), body.first_chunk_mut()) {
            let len = icmp::HEADER + icmp::QUOTE;
            self.headers(p.back, p.ip.dst, p.ip.src, ipv4::protocol::ICMP, len, net);
            icmp::emit_port_unreachable(body);
        }
        let check = Check { field: NET + 2, from: NET, pseudo: Sum::ZERO, csum: Csum::None };
        self.transmit(p.back, &mut head, Some(check), Payload::Slice(&quote));
    }
}
