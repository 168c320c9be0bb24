//! Frames of IPv6 made and read by hand, and the peer as a router.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv6Address, Ipv6Packet,
    Ipv6Repr, UdpPacket, UdpRepr,
};

use super::{GUEST_MAC, PEER_MAC};

/// The peer's global address, near the system's.
pub const PEER: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Its link-local one, under which it is a router.
pub const ROUTER: Ipv6Address = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// All routers of the link.
pub const ALL_ROUTERS: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_NODES: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A packet that has come.
#[derive(Clone, Debug)]
pub struct Packet6 {
    /// Source.
    pub src: Ipv6Address,
    /// Destination.
    pub dst: Ipv6Address,
    /// Hop limit.
    pub hop_limit: u8,
    next: IpProtocol,
    /// What follows the header.
    pub payload: Vec<u8>,
}

impl Packet6 {
    /// The packet in a frame, if it is one of IPv6.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        if ethernet.ethertype() != EthernetProtocol::Ipv6 {
            return None;
        }
        let ip = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
        Some(Self {
            src: ip.src_addr(),
            dst: ip.dst_addr(),
            hop_limit: ip.hop_limit(),
            next: ip.next_header(),
            payload: ip.payload().to_vec(),
        })
    }

    /// Whether it is an ICMPv6 message of this type, with the right checksum.
    pub fn icmp(&self, ty: u8) -> bool {
        let sums = sum(&self.src, &self.dst, &self.payload) == 0;
        self.next == IpProtocol::Icmpv6 && self.payload.first() == Some(&ty) && sums
    }
}

/// The group in which a station is asked for `ip` (RFC 4291 2.7.1).
pub fn solicited_node(ip: Ipv6Address) -> Ipv6Address {
    let [.., a, b, c] = ip.octets();
    let last = u16::from_be_bytes([b, c]);
    Ipv6Address::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | a as u16, last)
}

/// Where Ethernet sends packets for a group (RFC 2464 7).
pub fn group_mac(group: Ipv6Address) -> EthernetAddress {
    let [.., a, b, c, d] = group.octets();
    EthernetAddress([0x33, 0x33, a, b, c, d])
}

/// The checksum of an ICMPv6 message under its pseudo-header.
fn sum(src: &Ipv6Address, dst: &Ipv6Address, message: &[u8]) -> u16 {
    let mut all = [src.octets(), dst.octets()].concat();
    all.extend((message.len() as u32).to_be_bytes());
    all.extend([0, 0, 0, 58]);
    all.extend(message);
    let mut sum = 0u32;
    for pair in all.chunks(2) {
        sum += u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]) as u32;
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn frame(
    (src, dst): (Ipv6Address, Ipv6Address),
    mac: EthernetAddress,
    hop_limit: u8,
    next_header: IpProtocol,
    payload: &[u8],
) -> Vec<u8> {
    let repr = Ipv6Repr {
        src_addr: src,
        dst_addr: dst,
        next_header,
        payload_len: payload.len(),
        hop_limit,
    };
    let mut bytes = vec![0; EthernetFrame::<&[u8]>::buffer_len(repr.buffer_len() + payload.len())];
    let mut ethernet = EthernetFrame::new_unchecked(&mut bytes);
    ethernet.set_src_addr(PEER_MAC);
    ethernet.set_dst_addr(mac);
    ethernet.set_ethertype(EthernetProtocol::Ipv6);
    let mut packet = Ipv6Packet::new_unchecked(ethernet.payload_mut());
    repr.emit(&mut packet);
    packet.payload_mut().copy_from_slice(payload);
    bytes
}

fn icmp_from(
    src: Ipv6Address,
    dst: Ipv6Address,
    mac: EthernetAddress,
    hops: u8,
    message: &[u8],
) -> Vec<u8> {
    let mut message = message.to_vec();
    let sum = sum(&src, &dst, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    frame((src, dst), mac, hops, IpProtocol::Icmpv6, &message)
}

/// An ICMPv6 message of the peer's; its checksum is filled in.
pub fn icmp(dst: Ipv6Address, mac: EthernetAddress, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    icmp_from(PEER, dst, mac, hop_limit, message)
}

/// The peer is a router, and 2001:db8::/64 is the link's prefix (RFC 4861 4.2).
pub fn router_advertisement() -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([1, 1]);
    message.extend(PEER_MAC.0);
    message.extend([3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0]);
    message.extend([0x20, 1, 0xd, 0xb8]);
    message.extend([0; 12]);
    icmp_from(ROUTER, ALL_NODES, group_mac(ALL_NODES), 255, &message)
}

/// A datagram of the peer's.
pub fn udp(dst: Ipv6Address, from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let repr = UdpRepr { src_port: from, dst_port: to };
    let mut payload = vec![0; repr.header_len() + data.len()];
    let mut packet = UdpPacket::new_unchecked(&mut payload);
    let caps = ChecksumCapabilities::default();
    let copy = |to: &mut [u8]| to.copy_from_slice(data);
    repr.emit(&mut packet, &PEER.into(), &dst.into(), data.len(), copy, &caps);
    frame((PEER, dst), GUEST_MAC, 64, IpProtocol::Udp, &payload)
}
