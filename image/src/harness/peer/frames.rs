//! Frames made and read by hand.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Address, Ipv4Packet,
    Ipv4Repr, TcpControl, TcpPacket, TcpRepr, UdpPacket, UdpRepr,
};

use super::{GUEST, GUEST_MAC, PEER, PEER_MAC};

/// An IPv4 packet in a frame, from the peer to the system unless changed.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Where the frame goes.
    pub mac: EthernetAddress,
    /// Source.
    pub src: Ipv4Address,
    /// Destination.
    pub dst: Ipv4Address,
    /// Protocol of the payload.
    pub protocol: IpProtocol,
    /// Its bytes, checksum included.
    pub payload: Vec<u8>,
    /// Flags and fragment offset of the header, in host order.
    pub fragment: u16,
}

impl Packet {
    /// From the peer to the system.
    pub fn new(protocol: IpProtocol, payload: Vec<u8>) -> Self {
        Self { mac: GUEST_MAC, src: PEER, dst: GUEST, protocol, payload, fragment: 0x4000 }
    }

    /// A UDP datagram.
    pub fn udp(src: Ipv4Address, from: u16, dst: Ipv4Address, to: u16, data: &[u8]) -> Self {
        let repr = UdpRepr { src_port: from, dst_port: to };
        let mut payload = vec![0; repr.header_len() + data.len()];
        let mut packet = UdpPacket::new_unchecked(&mut payload);
        let caps = ChecksumCapabilities::default();
        let copy = |to: &mut [u8]| to.copy_from_slice(data);
        repr.emit(&mut packet, &src.into(), &dst.into(), data.len(), copy, &caps);
        Self { src, dst, ..Self::new(IpProtocol::Udp, payload) }
    }

    /// A TCP segment from the peer to the system.
    pub fn tcp(repr: &TcpRepr<'_>) -> Self {
        let mut payload = vec![0; repr.buffer_len()];
        let mut packet = TcpPacket::new_unchecked(&mut payload);
        let caps = ChecksumCapabilities::default();
        repr.emit(&mut packet, &PEER.into(), &GUEST.into(), &caps);
        Self::new(IpProtocol::Tcp, payload)
    }

    /// Its bytes behind the Ethernet header.
    pub fn ip_bytes(&self) -> Vec<u8> {
        let repr = Ipv4Repr {
            src_addr: self.src,
            dst_addr: self.dst,
            next_header: self.protocol,
            payload_len: self.payload.len(),
            hop_limit: 64,
        };
        let mut bytes = vec![0; repr.buffer_len() + self.payload.len()];
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
        repr.emit(&mut packet, &ChecksumCapabilities::ignored());
        packet.payload_mut().copy_from_slice(&self.payload);
        bytes[6..8].copy_from_slice(&self.fragment.to_be_bytes());
        Ipv4Packet::new_unchecked(&mut bytes).fill_checksum();
        bytes
    }

    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let bytes = self.ip_bytes();
        let mut frame = vec![0; EthernetFrame::<&[u8]>::buffer_len(bytes.len())];
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
        ethernet.set_src_addr(PEER_MAC);
        ethernet.set_dst_addr(self.mac);
        ethernet.set_ethertype(EthernetProtocol::Ipv4);
        ethernet.payload_mut().copy_from_slice(&bytes);
        frame
    }

    /// The packet in a frame, if it is a whole IPv4 packet with the right checksum.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        if ethernet.ethertype() != EthernetProtocol::Ipv4 {
            return None;
        }
        let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
        ip.verify_checksum().then(|| Self {
            mac: ethernet.dst_addr(),
            src: ip.src_addr(),
            dst: ip.dst_addr(),
            protocol: ip.next_header(),
            payload: ip.payload().to_vec(),
            fragment: u16::from_be_bytes([ethernet.payload()[6], ethernet.payload()[7]]),
        })
    }

    /// Ports and data, if it is a UDP datagram with the right checksum.
    pub fn as_udp(&self) -> Option<(u16, u16, &[u8])> {
        if self.protocol != IpProtocol::Udp {
            return None;
        }
        let udp = UdpPacket::new_checked(&self.payload).ok()?;
        let right = udp.verify_checksum(&self.src.into(), &self.dst.into());
        right.then(|| (udp.src_port(), udp.dst_port(), udp.payload()))
    }

    /// The segment, if it is one of TCP with the right checksum.
    pub fn as_tcp(&self) -> Option<TcpRepr<'_>> {
        if self.protocol != IpProtocol::Tcp {
            return None;
        }
        let tcp = TcpPacket::new_checked(self.payload.as_slice()).ok()?;
        let caps = ChecksumCapabilities::default();
        TcpRepr::parse(&tcp, &self.src.into(), &self.dst.into(), &caps).ok()
    }

    /// Type, code and what is behind the header's eight bytes, if it is an ICMP message with the
    /// right checksum.
    pub fn as_icmp(&self) -> Option<(u8, u8, &[u8])> {
        let [ty, code, ..] = self.payload[..] else { return None };
        let right = smoltcp::wire::Icmpv4Packet::new_checked(self.payload.as_slice())
            .is_ok_and(|p| p.verify_checksum());
        let wanted = self.protocol == IpProtocol::Icmp && right;
        wanted.then(|| (ty, code, &self.payload[8..]))
    }
}

/// Whether a frame is of ARP.
pub fn is_arp(frame: &[u8]) -> bool {
    EthernetFrame::new_checked(frame).is_ok_and(|f| f.ethertype() == EthernetProtocol::Arp)
}

/// An ICMP message with its checksum.
pub fn icmp(ty: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![ty, code, 0, 0];
    bytes.extend(rest);
    bytes.extend(data);
    smoltcp::wire::Icmpv4Packet::new_unchecked(&mut bytes).fill_checksum();
    bytes
}

/// A segment without data or options.
pub fn segment(from: u16, to: u16, seq: u32, control: TcpControl) -> TcpRepr<'static> {
    TcpRepr {
        src_port: from,
        dst_port: to,
        control,
        seq_number: smoltcp::wire::TcpSeqNumber(seq as i32),
        ack_number: None,
        window_len: 65_535,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None, None, None],
        timestamp: None,
        payload: &[],
    }
}
