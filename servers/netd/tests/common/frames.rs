//! Frames made and taken apart, for tests that play the peer packet by packet.

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

/// The ICMP error that `router` sends about `frame`, quoting its first 28 bytes of IP.
pub fn icmp_error(router: End, frame: &[u8], ty: u8, code: u8, rest: u32) -> Vec<u8> {
    let (ip, _) = ipv4::Repr::parse(&frame[14..], frame.len() - 14).expect("IPv4");
    let to = End { mac: Mac(frame[6..12].try_into().unwrap()), ip: ip.src };
    let mut message = [&[ty, code, 0, 0], &rest.to_be_bytes()[..], &frame[14..42]].concat();
    let sum = Sum::ZERO.bytes(&message).finish();
    message[2..4].copy_from_slice(&sum);
    ip_frame(router, to, ip::protocol::ICMP, &message)
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

/// A frame taken apart; checksums are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Arp(arp::Repr),
    Tcp(ipv4::Repr, Repr, Vec<u8>),
    Udp(ipv4::Repr, udp::Repr, Vec<u8>),
    Icmp(ipv4::Repr, Vec<u8>),
    Other(ipv4::Repr, Vec<u8>),
}

pub fn dissect(frame: &[u8]) -> Frame {
    let eth = ethernet::Repr::parse(frame).unwrap();
    let rest = &frame[ethernet::HEADER..];
    if eth.ty == EtherType::Arp {
        return Frame::Arp(arp::Repr::parse(rest).unwrap());
    }
    let (ip, len) = ipv4::Repr::parse(rest, rest.len()).unwrap();
    let payload = &rest[len..len + ip.payload_len as usize];
    let pseudo = Sum::pseudo(ip.src.into(), ip.dst.into(), ip.protocol, ip.payload_len);
    match ip.protocol {
        ip::protocol::TCP => {
            assert!(pseudo.bytes(payload).is_intact(), "TCP checksum");
            let (repr, header_len) = Repr::parse(payload).unwrap();
            Frame::Tcp(ip, repr, payload[header_len..].to_vec())
        }
        ip::protocol::UDP => {
            assert!(pseudo.bytes(payload).is_intact(), "UDP checksum");
            let repr = udp::Repr::parse(payload, payload.len()).unwrap();
            Frame::Udp(ip, repr, payload[udp::HEADER..].to_vec())
        }
        ip::protocol::ICMP => {
            assert!(Sum::ZERO.bytes(payload).is_intact(), "ICMP checksum");
            Frame::Icmp(ip, payload.to_vec())
        }
        _ => Frame::Other(ip, payload.to_vec()),
    }
}

/// A TCP header to begin with.
pub fn seg(src: u16, dst: u16) -> Repr {
    Repr { window: 65535, ..Repr::new(src, dst) }
}
