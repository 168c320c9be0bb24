//! A DHCP server (RFC 2131) for one client, which does what a test wants.

use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, Ipv4Address, Ipv4Cidr,
};

use super::frames::Packet;
use super::{PEER, PREFIX};

/// What the server does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Offers and gives.
    Gives,
    /// Refuses every request for an address.
    Refuses,
    /// Hears, and says nothing.
    Silent,
}

/// A message of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its type.
    pub kind: DhcpMessageType,
    /// Sent to the server alone (RENEWING), not to everybody.
    pub unicast: bool,
    /// `ciaddr`: the address that the client has.
    pub has: Ipv4Address,
    /// The address that it asks for.
    pub wants: Option<Ipv4Address>,
    /// The server that it speaks to.
    pub server: Option<Ipv4Address>,
    /// `secs`: for how long it has been trying.
    pub secs: u16,
}

/// The server.
#[derive(Clone, Debug)]
pub struct Server {
    /// The address that it gives.
    pub address: Ipv4Address,
    /// For how many seconds.
    pub lease_s: u32,
    /// T1 and T2, seconds.
    pub times_s: (u32, u32),
    /// What it does.
    pub mood: Mood,
    /// Messages of the client so far.
    pub heard: Vec<Heard>,
}

impl Server {
    /// One that gives `address`.
    pub fn new(address: Ipv4Address, lease_s: u32, times_s: (u32, u32)) -> Self {
        Self { address, lease_s, times_s, mood: Mood::Gives, heard: Vec::new() }
    }

    /// What to send for a frame; `None` if it is none for a DHCP server.
    pub fn answer(&mut self, frame: &[u8]) -> Option<Vec<Vec<u8>>> {
        let packet = Packet::read(frame)?;
        let (68, 67, data) = packet.as_udp()? else { return None };
        let message = DhcpPacket::new_checked(data).ok()?;
        let query = DhcpRepr::parse(&message).ok()?;
        self.heard.push(Heard {
            kind: query.message_type,
            unicast: packet.dst == PEER,
            has: query.client_ip,
            wants: query.requested_ip,
            server: query.server_identifier,
            secs: query.secs,
        });
        let kind = match (query.message_type, self.mood) {
            (DhcpMessageType::Discover, Mood::Gives | Mood::Refuses) => DhcpMessageType::Offer,
            (DhcpMessageType::Request, Mood::Gives) => DhcpMessageType::Ack,
            (DhcpMessageType::Request, Mood::Refuses) => DhcpMessageType::Nak,
            _ => return Some(Vec::new()),
        };
        Some(vec![self.frame(kind, &query)])
    }

    fn frame(&self, kind: DhcpMessageType, query: &DhcpRepr<'_>) -> Vec<u8> {
        let gives = kind != DhcpMessageType::Nak;
        // T1 and T2 (RFC 2132 9.11, 9.12), which smoltcp reads and does not write.
        let (t1, t2) = (self.times_s.0.to_be_bytes(), self.times_s.1.to_be_bytes());
        let option = |kind, data| smoltcp::wire::DhcpOption { kind, data };
        let times = [option(58, &t1[..]), option(59, &t2[..])];
        let repr = DhcpRepr {
            message_type: kind,
            transaction_id: query.transaction_id,
            secs: 0,
            client_hardware_address: query.client_hardware_address,
            client_ip: Ipv4Address::UNSPECIFIED,
            your_ip: if gives { self.address } else { Ipv4Address::UNSPECIFIED },
            server_ip: Ipv4Address::UNSPECIFIED,
            router: gives.then_some(PEER),
            subnet_mask: gives.then(|| Ipv4Cidr::new(PEER, PREFIX).netmask()),
            relay_agent_ip: Ipv4Address::UNSPECIFIED,
            broadcast: false,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(PEER),
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: gives.then_some(self.lease_s),
            renew_duration: None,
            rebind_duration: None,
            additional_options: if gives { &times } else { &[] },
        };
        let mut data = vec![0; repr.buffer_len()];
        let mut message = DhcpPacket::new_unchecked(&mut data);
        repr.emit(&mut message).expect("the buffer has the length that it asks for");
        // RFC 2131 4.1: a client that has an address is answered there, a refusal goes to all.
        let (mac, dst) = if gives && !query.client_ip.is_unspecified() {
            (query.client_hardware_address, query.client_ip)
        } else {
            (EthernetAddress::BROADCAST, Ipv4Address::BROADCAST)
        };
        Packet { mac, ..Packet::udp(PEER, 67, dst, 68, &data) }.frame()
    }
}
