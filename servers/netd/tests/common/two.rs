//! A host with two network cards: 10.0.0.1/24 on the first, 10.1.0.1/24 with the default route on the second.

use super::card::CardSpec;
use super::frames::{End, Frame, arp_frame, dissect, seg, tcp_frame};
use super::{Host, HostSpec};
use libipc::sock::Dgram;
use netd::wire::arp::{self, Op};
use netd::wire::ethernet::Mac;
use netd::wire::tcp::{Flags, Repr, Seq};
use netd::{Addressing, Addressing6};
use std::net::Ipv4Addr;

pub const MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 1, 1])];
pub const US: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 1, 0, 1)];
/// A neighbour on each link; that on the second is the gateway.
pub const PEERS: [End; 2] = [
    End { mac: Mac([2, 0, 0, 0, 0, 9]), ip: Ipv4Addr::new(10, 0, 0, 9) },
    End { mac: Mac([2, 0, 0, 0, 1, 9]), ip: Ipv4Addr::new(10, 1, 0, 9) },
];

pub fn fixed(addr: Ipv4Addr, gateway: Option<Ipv4Addr>) -> Addressing {
    Addressing::Static { addr, prefix: 24, gateway, dns: None }
}

pub fn spec() -> HostSpec {
    let second = CardSpec {
        mac: MACS[1].0,
        addressing: fixed(US[1], Some(PEERS[1].ip)),
        ip6: Addressing6::Off,
    };
    let first = HostSpec { mac: MACS[0].0, addressing: fixed(US[0], None), ..HostSpec::fixed(1) };
    HostSpec { cards: vec![second], ..first }
}

/// This host at card `n`, under that card's address or the other's.
pub fn us(n: usize, ip: usize) -> End {
    End { mac: MACS[n], ip: US[ip] }
}

pub fn receive(host: &mut Host, n: usize, frame: &[u8]) {
    if n == 0 { assert!(host.receive(frame)) } else { host.cards[0].receive(frame) }
}

/// What leaves by each card until nothing more happens at this time.
pub fn sent(host: &mut Host) -> [Vec<Vec<u8>>; 2] {
    let mut all = [Vec::new(), Vec::new()];
    loop {
        host.settle();
        let more = [host.transmitted(), host.cards[0].transmitted()];
        if more.iter().all(Vec::is_empty) {
            return all;
        }
        for (all, more) in all.iter_mut().zip(more) {
            all.extend(more);
        }
    }
}

/// A host that knows both neighbours, and nothing is left to be said.
pub fn started() -> Host {
    started_as(spec())
}

pub fn started_as(spec: HostSpec) -> Host {
    let mut host = Host::new(spec);
    for (n, peer) in PEERS.iter().enumerate() {
        let asks = arp::Repr {
            op: Op::Request,
            sender_mac: peer.mac,
            sender: peer.ip,
            target_mac: Mac([0; 6]),
            target: US[n],
        };
        receive(&mut host, n, &arp_frame(Mac::BROADCAST, &asks));
    }
    sent(&mut host);
    host
}

pub fn put(host: &mut Host, id: u16, to: (Ipv4Addr, u16), header: Dgram, data: &[u8]) {
    let header = Dgram { len: data.len() as u16, ..Dgram::new(Some(to.into()), 0) }.with(header);
    let mut bytes = [&header.to_bytes()[..], data].concat();
    bytes.resize(Dgram::space(data.len()) as usize, 0);
    host.progs[0].put_dgram(id, &bytes);
    host.progs[0].submit(id);
}

pub trait With {
    fn with(self, other: Dgram) -> Dgram;
}

impl With for Dgram {
    /// With the other's flags and interface.
    fn with(self, other: Dgram) -> Dgram {
        Dgram { flags: other.flags, interface: other.interface, ..self }
    }
}

pub fn by(number: u8) -> Dgram {
    Dgram { flags: Dgram::DEVICE, interface: number, ..Dgram::default() }
}

/// Of a peer's, from its port 5000 to our port 80.
pub fn segment(flags: Flags, seq: Seq, ack: Seq) -> Repr {
    Repr { seq, ack, flags, window: 60_000, ..seg(5000, 80) }
}

/// Opens a connection from `PEERS[n]` to port 80 of card `n`; yields our number and socket.
pub fn connection(host: &mut Host, listener: u16, n: usize) -> (Seq, u16) {
    let syn = segment(Flags::SYN, Seq(1000), Seq(0));
    receive(host, n, &tcp_frame(PEERS[n], us(n, n), &syn, &[]));
    let answers = sent(host);
    let Frame::Tcp(_, syn_ack, _) = dissect(&answers[n][0]) else { panic!() };
    let iss = syn_ack.seq;
    let ack = segment(Flags::ACK, Seq(1001), iss + 1);
    receive(host, n, &tcp_frame(PEERS[n], us(n, n), &ack, &[]));
    sent(host);
    (iss + 1, host.accept(listener).expect("a connection").0)
}
