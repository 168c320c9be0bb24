//! Frames that peers send.

use netd::wire::checksum::Sum;
use netd::wire::ethernet::{self, EtherType, Mac};
use netd::wire::tcp::{MAX_HEADER, Repr};
use netd::wire::{arp, icmp, ip, ipv4, udp};
use std::net::Ipv4Addr;

/// One end of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub mac: Mac,
    pub ip: Ipv4Addr,
}

impl End {
    /// Host number `n` of 10.0.0.0/24.
    pub fn number(n: u8) -> Self {
        Self { mac: Mac([2, 0, 0, 0, 0, n]), ip: Ipv4Addr::new(10, 0, 0, n) }
    }
}

pub fn ip_frame(from: End, to: End, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut eth = [0; ethernet::HEADER];
    ethernet::Repr { dst: to.mac, src: from.mac, ty: EtherType::Ipv4 }.emit(&mut eth);
    let mut ip = [0; ipv4::HEADER];
    let repr = ipv4::Repr::new(from.ip, to.ip, protocol, payload.len() as u16);
    ipv4::Repr { id: 1, ..repr }.emit(&mut ip);
    let mut frame = [&eth[..], &ip, payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

pub fn tcp_frame(from: End, to: End, repr: &Repr, data: &[u8]) -> Vec<u8> {
    let mut head = [0; MAX_HEADER];
    let len = repr.emit(&mut head);
    let mut segment = [&head[..len], data].concat();
    let sum =
        Sum::pseudo(from.ip.into(), to.ip.into(), 6, segment.len() as u16).bytes(&segment).finish();
    segment[16..18].copy_from_slice(&sum);
    ip_frame(from, to, ip::protocol::TCP, &segment)
}

pub fn udp_frame(from: End, to: End, src: u16, dst: u16, data: &[u8]) -> Vec<u8> {
    let mut head = [0; 8];
    udp::Repr { src, dst, payload_len: data.len() as u16, has_checksum: true }.emit(&mut head);
    let mut datagram = [&head[..], data].concat();
    let sum = Sum::pseudo(from.ip.into(), to.ip.into(), 17, datagram.len() as u16)
        .bytes(&datagram)
        .finish();
    datagram[6..8].copy_from_slice(&sum);
    ip_frame(from, to, ip::protocol::UDP, &datagram)
}

pub fn echo_frame(from: End, to: End, reply: bool, id: u16, seq: u16, data: &[u8]) -> Vec<u8> {
    let mut head = [0; 8];
    icmp::emit_echo(reply, id, seq, &mut head);
    let mut message = [&head[..], data].concat();
    let sum = Sum::ZERO.bytes(&message).finish();
    message[2..4].copy_from_slice(&sum);
    ip_frame(from, to, ip::protocol::ICMP, &message)
}

pub fn arp_frame(to: Mac, packet: &arp::Repr) -> Vec<u8> {
    let mut eth = [0; ethernet::HEADER];
    ethernet::Repr { dst: to, src: packet.sender_mac, ty: EtherType::Arp }.emit(&mut eth);
    let mut body = [0; arp::BYTES];
    packet.emit(&mut body);
    let mut frame = [&eth[..], &body].concat();
    frame.resize(60, 0);
    frame
}
