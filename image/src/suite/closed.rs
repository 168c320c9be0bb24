//! What the system says to those who ask for what it does not have.

use std::time::{Duration, Instant};

use smoltcp::wire::{EthernetAddress, IpProtocol, Ipv4Address, TcpControl, TcpSeqNumber};

use crate::harness::peer::frames::{Packet, icmp, segment};
use crate::harness::peer::{GUEST, PEER, Peer};
use crate::harness::{BOOT, Failure, Guest, PROMPT, wrong};

/// A port that nobody listens on.
const CLOSED: u16 = 81;
/// How long an answer may take, on a busy machine too.
const ANSWER: Duration = Duration::from_secs(60);
/// Datagrams in one burst: fewer than the NIC has descriptors. QEMU's e1000 may lose the rest.
const BURST: usize = 200;
/// What the system may send at once, and how many more a second (`servers/netd`, `stack/icmp.rs`).
const ERRORS: (usize, usize) = (50, 100);

/// A packet that comes from the system.
fn from_guest(frame: &[u8]) -> Option<Packet> {
    Packet::read(frame).filter(|p| p.src == GUEST && p.dst == PEER)
}

/// Waits until the system has answered everything that it was sent: it answers an echo request
/// behind all that. `tries`: the first frames after boot may be lost.
fn fence(peer: &Peer, id: u8, tries: u32) -> Result<(), Failure> {
    let request = icmp(8, 0, [id, 0, 0, 1], b"fence");
    for _ in 0..tries {
        let mark = peer.mark();
        peer.send(Packet::new(IpProtocol::Icmp, request.clone()).frame());
        let reply = peer.wait(mark, ANSWER / tries, |f| {
            let p = from_guest(f)?;
            p.as_icmp().filter(|(ty, ..)| *ty == 0 && p.payload[4] == id).map(|_| ())
        });
        if reply.is_some() {
            return Ok(());
        }
    }
    wrong("an echo request was not answered")
}

/// Boots to the prompt, and to the network.
pub fn ready(g: &mut Guest) -> Result<Peer, Failure> {
    g.wait_for(PROMPT, BOOT)?;
    let peer = g.peer()?;
    fence(&peer, 1, 60)?;
    Ok(peer)
}

pub fn closed_port(g: &mut Guest) -> Result<(), Failure> {
    let peer = ready(g)?;
    tcp(&peer)?;
    udp(&peer)?;
    silence(&peer)?;
    limit(&peer)?;
    g.power_off()
}

/// RFC 9293 3.10.7.1.
fn tcp(peer: &Peer) -> Result<(), Failure> {
    let reset = |mark| {
        peer.wait(mark, ANSWER, |f| {
            let p = from_guest(f)?;
            let tcp = p.as_tcp()?;
            let ours = (tcp.src_port, tcp.dst_port) == (CLOSED, 4000);
            ours.then_some((tcp.control, tcp.seq_number, tcp.ack_number))
        })
    };
    let seq = TcpSeqNumber;
    let syn = segment(4000, CLOSED, 100, TcpControl::Syn);
    let mark = peer.mark();
    peer.send(Packet::tcp(&syn).frame());
    let got = reset(mark);
    if got != Some((TcpControl::Rst, seq(0), Some(seq(101)))) {
        return wrong(format!("a SYN was answered by {got:?}"));
    }
    let mut ack = segment(4000, CLOSED, 100, TcpControl::None);
    ack.ack_number = Some(seq(7777));
    let mark = peer.mark();
    peer.send(Packet::tcp(&ack).frame());
    let got = reset(mark);
    if got != Some((TcpControl::Rst, seq(7777), None)) {
        return wrong(format!("an ACK was answered by {got:?}"));
    }
    let mark = peer.mark();
    peer.send(Packet::tcp(&segment(4000, CLOSED, 100, TcpControl::Rst)).frame());
    fence(peer, 2, 1)?;
    let got = peer.found(mark, |f| from_guest(f)?.as_tcp().map(|t| t.control));
    if got.is_empty() { Ok(()) } else { wrong(format!("an RST was answered by {got:?}")) }
}

/// A datagram to a port that nobody has.
fn datagram(data: &[u8]) -> Packet {
    Packet::udp(PEER, 4000, GUEST, CLOSED, data)
}

/// RFC 1122 4.1.3.1 and 3.2.2.1: the quote is the packet as it was sent (RFC 1812 4.3.2.3: as much of it as fits).
fn udp(peer: &Peer) -> Result<(), Failure> {
    let other = Packet::new(IpProtocol::Unknown(253), vec![9; 40]);
    for (packet, code) in [(datagram(b"anybody?"), 3), (datagram(&[]), 3), (other, 2)] {
        let mark = peer.mark();
        peer.send(packet.frame());
        let got = peer.wait(mark, ANSWER, |f| {
            let p = from_guest(f)?;
            p.as_icmp().map(|(ty, code, quote)| (ty, code, quote.to_vec()))
        });
        let sent = packet.ip_bytes();
        if got != Some((3, code, sent)) {
            return wrong(format!("{packet:?} was answered by {got:?}"));
        }
    }
    Ok(())
}

/// What RFC 1122 3.2.2 says must not be answered.
fn silence(peer: &Peer) -> Result<(), Failure> {
    let all = EthernetAddress::BROADCAST;
    let to = |dst| Packet { mac: all, ..Packet::udp(PEER, 4000, dst, CLOSED, b"x") };
    let error = |ty, code| {
        let quote = Packet::udp(GUEST, 5, PEER, 6, b"quoted").ip_bytes();
        Packet::new(IpProtocol::Icmp, icmp(ty, code, [0; 4], &quote[..28]))
    };
    let from = |src| Packet::udp(src, 4000, GUEST, CLOSED, b"x");
    let fragment = Packet { fragment: 3, ..datagram(b"the rest of something") };
    let first = Packet { fragment: 0x2000, ..datagram(b"the first part of something") };
    let mut damaged = datagram(b"damaged");
    *damaged.payload.last_mut().expect("not empty") ^= 1;
    let mut request = icmp(8, 0, [9, 9, 0, 1], b"damaged");
    request[10] ^= 1;
    for packet in [
        to(Ipv4Address::BROADCAST),
        to(Ipv4Address::new(10, 9, 0, 255)),
        to(Ipv4Address::new(224, 0, 0, 1)),
        // To one host by its address, to all by the frame.
        to(GUEST),
        Packet { protocol: IpProtocol::Unknown(253), ..to(GUEST) },
        from(Ipv4Address::new(10, 9, 0, 255)),
        from(Ipv4Address::BROADCAST),
        from(Ipv4Address::new(224, 0, 0, 1)),
        from(Ipv4Address::UNSPECIFIED),
        from(Ipv4Address::new(127, 0, 0, 1)),
        from(GUEST),
        fragment,
        first,
        damaged,
        Packet::new(IpProtocol::Icmp, request),
        error(3, 3),
        error(11, 0),
        error(12, 0),
        error(4, 0),
        // Types that nobody knows.
        error(99, 0),
        // Not for this host.
        Packet::udp(PEER, 4000, Ipv4Address::new(10, 9, 0, 3), CLOSED, b"x"),
    ] {
        let mark = peer.mark();
        peer.send(packet.frame());
        fence(peer, 3, 1)?;
        let got = peer.found(mark, |f| Packet::read(f).filter(|p| p.src == GUEST));
        // The fence's own.
        if got.len() != 1 {
            return wrong(format!("{packet:?} was answered by {got:?}"));
        }
    }
    Ok(())
}

/// Errors are limited (RFC 1812 4.3.2.8), and nothing else with them.
fn limit(peer: &Peer) -> Result<(), Failure> {
    let (mark, began) = (peer.mark(), Instant::now());
    for _ in 0..BURST {
        peer.send(datagram(b"again").frame());
    }
    fence(peer, 4, 1)?;
    let most = ERRORS.0 + 1 + began.elapsed().as_millis() as usize * ERRORS.1 / 1000;
    let errors = peer.found(mark, |f| {
        let p = from_guest(f)?;
        p.as_icmp().filter(|(ty, ..)| *ty == 3).map(|_| ())
    });
    if errors.is_empty() || errors.len() > most {
        return wrong(format!("{} errors were sent, not 1 to {most}", errors.len()));
    }
    tcp(peer)
}
