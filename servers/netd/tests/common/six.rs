//! A peer that speaks IPv6, played packet by packet, with explicit time.

use super::frames::seg;
use super::{Host, HostSpec, MS};
use netd::Addressing6;
use netd::wire::checksum::Sum;
use netd::wire::ethernet::{self, EtherType, Mac};
use netd::wire::ext::{self, Fragment};
use netd::wire::ndp::{self, Advert, Message};
use netd::wire::tcp::{self, Repr};
use netd::wire::{icmpv6, ip, ipv6, udp};
use std::collections::VecDeque;
use std::net::Ipv6Addr;

/// An address, from text.
pub fn ip6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// One end of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End6 {
    pub mac: Mac,
    pub ip: Ipv6Addr,
}

impl End6 {
    /// Host number `n` of the link, by its link-local address.
    pub fn number(n: u8) -> Self {
        let ip = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, n as u16);
        Self { mac: Mac([2, 0, 0, 0, 0, n]), ip }
    }
    /// A group.
    pub fn group(text: &str) -> Self {
        Self { mac: Mac::of_group(ip6(text).into()), ip: ip6(text) }
    }
    /// As it is, under another address.
    pub fn at(self, text: &str) -> Self {
        Self { ip: ip6(text), ..self }
    }
}

/// A packet with these headers and this payload behind its IPv6 header.
pub fn packet(from: End6, to: End6, hop_limit: u8, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut eth = [0; ethernet::HEADER];
    ethernet::Repr { dst: to.mac, src: from.mac, ty: EtherType::Ipv6 }.emit(&mut eth);
    let mut header = [0; ipv6::HEADER];
    let payload_len = payload.len() as u16;
    let (src, dst, class, flow) = (from.ip, to.ip, 0, 0);
    ipv6::Repr { src, dst, next, hop_limit, class, flow, payload_len }.emit(&mut header);
    let mut frame = [&eth[..], &header, payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The transport's bytes with their checksum at `field`.
fn summed(from: End6, to: End6, protocol: u8, field: usize, mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = Sum::pseudo(from.ip.into(), to.ip.into(), protocol, bytes.len() as u16);
    let sum = sum.bytes(&bytes).finish();
    bytes[field..field + 2].copy_from_slice(&sum);
    bytes
}

/// An ICMPv6 message with its checksum.
pub fn icmp_bytes(from: End6, to: End6, message: &[u8]) -> Vec<u8> {
    summed(from, to, ip::protocol::ICMPV6, 2, message.to_vec())
}

/// A message of neighbour discovery, or any other with this hop limit.
pub fn icmp(from: End6, to: End6, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    packet(from, to, hop_limit, ip::protocol::ICMPV6, &icmp_bytes(from, to, message))
}

pub fn echo(from: End6, to: End6, reply: bool, id: u16, seq: u16, data: &[u8]) -> Vec<u8> {
    let mut head = [0; icmpv6::HEADER];
    icmpv6::emit_echo(reply, id, seq, &mut head);
    icmp(from, to, 64, &[&head[..], data].concat())
}

/// Router number 250 says that `frame` is too long for what comes next (RFC 4443 3.2).
pub fn too_big(frame: &[u8], mtu: u32) -> Vec<u8> {
    let got = dissect(frame).expect("IPv6");
    let to = End6 { mac: Mac(frame[6..12].try_into().unwrap()), ip: got.ip.src };
    let quote = &frame[ethernet::HEADER..frame.len().min(ethernet::HEADER + 1000)];
    icmp(End6::number(250), to, 64, &[&[2, 0, 0, 0], &mtu.to_be_bytes()[..], quote].concat())
}

pub fn udp_bytes(from: End6, to: End6, src: u16, dst: u16, data: &[u8]) -> Vec<u8> {
    let mut head = [0; udp::HEADER];
    udp::Repr { src, dst, payload_len: data.len() as u16, has_checksum: true }.emit(&mut head);
    summed(from, to, ip::protocol::UDP, 6, [&head[..], data].concat())
}

pub fn udp(from: End6, to: End6, src: u16, dst: u16, data: &[u8]) -> Vec<u8> {
    packet(from, to, 64, ip::protocol::UDP, &udp_bytes(from, to, src, dst, data))
}

pub fn tcp(from: End6, to: End6, repr: &Repr, data: &[u8]) -> Vec<u8> {
    let mut head = [0; 60];
    let len = repr.emit(&mut head);
    let bytes = summed(from, to, ip::protocol::TCP, 16, [&head[..len], data].concat());
    packet(from, to, 64, ip::protocol::TCP, &bytes)
}

/// A part of a packet.
pub fn fragment(from: End6, to: End6, f: Fragment, part: &[u8]) -> Vec<u8> {
    let mut header = [0; ext::FRAGMENT_HEADER];
    ext::emit_fragment(&f, &mut header);
    packet(from, to, 64, ext::number::FRAGMENT, &[&header[..], part].concat())
}

/// A packet taken apart; checksums are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub to: Mac,
    pub ip: ipv6::Repr,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Tcp(Box<Repr>, Vec<u8>),
    Udp(udp::Repr, Vec<u8>),
    Icmp(Vec<u8>),
    /// Behind a hop-by-hop header with a router alert.
    Mld(Vec<u8>),
    Fragment(Fragment, Vec<u8>),
    Other(Vec<u8>),
}

/// `None`: not of IPv6.
pub fn dissect(frame: &[u8]) -> Option<Got> {
    let eth = ethernet::Repr::parse(frame).unwrap();
    if eth.ty != EtherType::Ipv6 {
        return None;
    }
    let rest = &frame[ethernet::HEADER..];
    let ip = ipv6::Repr::parse(rest, rest.len()).unwrap();
    let packet = &rest[..ipv6::HEADER + ip.payload_len as usize];
    let payload = &packet[ipv6::HEADER..];
    let intact = |protocol, bytes: &[u8]| {
        let sum = Sum::pseudo(ip.src.into(), ip.dst.into(), protocol, bytes.len() as u16);
        assert!(sum.bytes(bytes).is_intact(), "checksum of protocol {protocol}");
    };
    let what = match ip.next {
        ip::protocol::TCP => {
            intact(ip.next, payload);
            let (repr, len) = Repr::parse(payload).unwrap();
            What::Tcp(Box::new(repr), payload[len..].to_vec())
        }
        ip::protocol::UDP => {
            intact(ip.next, payload);
            let repr = udp::Repr::parse(payload, payload.len()).unwrap();
            What::Udp(repr, payload[udp::HEADER..].to_vec())
        }
        ip::protocol::ICMPV6 => {
            intact(ip.next, payload);
            What::Icmp(payload.to_vec())
        }
        ext::number::HOP_BY_HOP => {
            let chain = ext::Chain::new(ip.next).walk(packet, packet.len()).unwrap();
            assert_eq!((chain.next, chain.alert), (58, Some(0)));
            intact(58, &packet[chain.at..]);
            What::Mld(packet[chain.at..].to_vec())
        }
        ext::number::FRAGMENT => {
            let f = ext::Chain::new(ip.next).fragment(packet, packet.len()).unwrap();
            What::Fragment(f, payload[ext::FRAGMENT_HEADER..].to_vec())
        }
        _ => What::Other(payload.to_vec()),
    };
    Some(Got { to: eth.dst, ip, what })
}

/// A host and its peer.
pub struct Six {
    pub host: Host,
    pub us: End6,
    pub peer: End6,
    /// What the host has sent and nobody has looked at, with its time in ms.
    pub sent: VecDeque<(u64, Got)>,
    /// The peer answers when it is asked for its address, under which it is known.
    pub answers: bool,
}

impl Six {
    /// At the very beginning.
    pub fn new(how: Addressing6) -> Self {
        Self::with(HostSpec { ip6: how, ..HostSpec::fixed(1) })
    }
    pub fn with(spec: HostSpec) -> Self {
        let host = Host::new(spec);
        let (us, peer, sent) = (End6::number(1), End6::number(2), VecDeque::new());
        Self { host, us, peer, sent, answers: true }
    }
    /// When its link-local address is settled; routers have not answered.
    pub fn ready() -> Self {
        let mut six = Self::new(Addressing6::Auto);
        six.pass(10_000);
        six.sent.clear();
        six
    }
    /// With a global address and the peer as router.
    pub fn global() -> Self {
        let mut six = Self::ready();
        six.peer_advertises(1800, &[prefix(3600, 1800)]);
        six.pass(5000);
        six.sent.clear();
        six.us = six.us.at("2001:db8::ff:fe00:1");
        six
    }

    pub fn settle(&mut self) {
        loop {
            self.host.settle();
            let frames = self.host.transmitted();
            if frames.is_empty() {
                return self.host.settle();
            }
            for got in frames.iter().filter_map(|f| dissect(f)) {
                if !self.answer(&got) {
                    self.sent.push_back((self.host.now / MS, got));
                }
            }
        }
    }

    /// Answers a solicitation for the peer.
    fn answer(&mut self, got: &Got) -> bool {
        let What::Icmp(bytes) = &got.what else { return false };
        let Ok(ndp::Repr::Solicit(target, options)) = ndp::Repr::parse(bytes) else {
            return false;
        };
        if !self.answers || target != self.peer.ip || options.source().is_none() {
            return false;
        }
        let advert = Advert { target, router: true, solicited: true, replaces: true };
        let to = End6 { ip: got.ip.src, ..self.us };
        self.host.receive(&icmp(
            self.peer,
            to,
            255,
            Message::advert(&advert, Some(self.peer.mac)).bytes(),
        ));
        true
    }

    /// Lets time pass up to `ms` since the beginning.
    pub fn until(&mut self, ms: u64) {
        self.settle();
        while let Some(at) = self.host.stack().poll_at().filter(|at| *at <= ms * MS) {
            self.host.now = self.host.now.max(at);
            self.settle();
        }
        self.host.now = ms * MS;
        self.settle();
    }
    pub fn pass(&mut self, ms: u64) {
        let to = self.host.now / MS + ms;
        self.until(to);
    }

    /// The peer sends.
    pub fn send(&mut self, frame: &[u8]) {
        assert!(self.host.receive(frame));
        self.settle();
    }
    /// The peer says that it is a router, for so many seconds, with these options.
    pub fn peer_advertises(&mut self, lifetime_s: u16, options: &[Vec<u8>]) {
        self.advertises(self.peer, lifetime_s, options);
    }
    pub fn advertises(&mut self, by: End6, lifetime_s: u16, options: &[Vec<u8>]) {
        self.advertises_hops(by, 64, lifetime_s, options);
    }
    /// Likewise, and how many hops packets may take.
    pub fn advertises_hops(&mut self, by: End6, hops: u8, lifetime_s: u16, options: &[Vec<u8>]) {
        let mut message = vec![134, 0, 0, 0, hops, 0];
        message.extend(lifetime_s.to_be_bytes());
        message.extend([0; 8]);
        message.extend([1, 1]);
        message.extend(by.mac.0);
        message.extend(options.concat());
        self.send(&icmp(by, End6::group("ff02::1"), 255, &message));
    }

    /// The next packet that the host has sent.
    #[track_caller]
    pub fn next(&mut self) -> (u64, Got) {
        self.sent
            .pop_front()
            .unwrap_or_else(|| panic!("nothing was sent until {} ms", self.host.now / MS))
    }
    /// It is an ICMPv6 message: its bytes.
    #[track_caller]
    pub fn next_icmp(&mut self) -> (ipv6::Repr, Vec<u8>) {
        let (ms, got) = self.next();
        match got.what {
            What::Icmp(bytes) => (got.ip, bytes),
            other => panic!("at {ms} ms {other:?}"),
        }
    }
    /// It is a segment: its header and data.
    #[track_caller]
    pub fn next_tcp(&mut self) -> (Repr, Vec<u8>) {
        let (ms, got) = self.next();
        match got.what {
            What::Tcp(repr, data) => (*repr, data),
            other => panic!("at {ms} ms {other:?}"),
        }
    }
    /// Nothing (else) was sent.
    #[track_caller]
    pub fn nothing(&mut self) {
        self.settle();
        assert!(self.sent.is_empty(), "{:?}", self.sent);
    }
    /// The peer sends a segment.
    pub fn segment(&mut self, repr: &Repr, data: &[u8]) {
        self.send(&tcp(self.peer, self.us, repr, data));
    }
    /// The host's address, once more.
    pub fn knows(&self, text: &str) -> bool {
        self.host
            .stack
            .as_ref()
            .unwrap()
            .addresses()
            .any(|(ip, _)| ip == std::net::IpAddr::V6(ip6(text)))
    }
}

/// A prefix option for 2001:db8::/64, on the link, of which addresses may be made.
pub fn prefix(valid_s: u32, preferred_s: u32) -> Vec<u8> {
    prefix_of("2001:db8::", 64, 0xc0, valid_s, preferred_s)
}

pub fn prefix_of(addr: &str, len: u8, flags: u8, valid_s: u32, preferred_s: u32) -> Vec<u8> {
    let mut option = vec![3, 4, len, flags];
    option.extend(valid_s.to_be_bytes());
    option.extend(preferred_s.to_be_bytes());
    option.extend([0; 4]);
    option.extend(ip6(addr).octets());
    option
}

/// A TCP header from the peer's port 5000 to the host's port 80.
pub fn to_80(flags: tcp::Flags, seq: u32, ack: u32) -> Repr {
    Repr { seq: tcp::Seq(seq), ack: tcp::Seq(ack), flags, ..seg(5000, 80) }
}
