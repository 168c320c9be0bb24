//! IPv6 from outside: an address of a router's prefix, echo both ways, a download that outlives netd.

use std::time::{Duration, Instant};

use smoltcp::wire::{IpAddress, IpEndpoint, Ipv6Address};

use super::traffic::answered;
use crate::harness::peer::six::{self, Packet6};
use crate::harness::peer::{GUEST_MAC, Peer};
use crate::harness::{BOOT, COMMAND, Failure, Guest, PROMPT, wrong};

/// What the router's prefix makes of the system's MAC address.
const GUEST: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0x5054, 0x00ff, 0xfe12, 0x3456);
/// Bytes of the download.
const BYTES: usize = 3_000_000;
/// How long it may take, on a busy machine too.
const DOWNLOAD: Duration = Duration::from_secs(180);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

pub fn ipv6(g: &mut Guest) -> Result<(), Failure> {
    let peer = g.peer()?;
    peer.speak_v6();
    g.wait_for(PROMPT, BOOT)?;
    // Asked for, the router answers; unasked it says so again.
    let asked = peer.wait(0, BOOT, |f| Packet6::read(f).filter(|p| p.icmp(133)));
    if asked.is_none_or(|p| p.dst != six::ALL_ROUTERS || p.hop_limit != 255) {
        return wrong("nobody asked for routers");
    }
    peer.send(six::router_advertisement());
    g.wait_for(&format!("address {GUEST}/64"), ANSWER)?;
    g.send_line("ip")?;
    g.wait_for(&format!("address {GUEST}/64"), COMMAND)?;
    answered(g, &six::PEER.to_string(), 2)?;
    echo(&peer)?;
    unreachable(&peer)?;
    download(g, &peer)?;
    g.power_off()
}

/// To the group in which the system is asked for its address: the NIC must let it through.
fn echo(peer: &Peer) -> Result<(), Failure> {
    let group = six::solicited_node(GUEST);
    for (to, mac) in [(GUEST, GUEST_MAC), (group, six::group_mac(group))] {
        let mark = peer.mark();
        peer.send(six::icmp(to, mac, 64, &[128, 0, 0, 0, 0, 7, 0, 1, 1, 2, 3]));
        let answer = peer.wait(mark, ANSWER, |f| Packet6::read(f).filter(|p| p.icmp(129)));
        if answer.is_none_or(|p| p.src != GUEST || p.payload[4..] != [0, 7, 0, 1, 1, 2, 3]) {
            return wrong(format!("an echo request to {to} was not answered"));
        }
    }
    Ok(())
}

/// RFC 4443 3.1: nobody takes datagrams at that port.
fn unreachable(peer: &Peer) -> Result<(), Failure> {
    let mark = peer.mark();
    peer.send(six::udp(GUEST, 4000, 81, b"anyone?"));
    let answer = peer.wait(mark, ANSWER, |f| Packet6::read(f).filter(|p| p.icmp(1)));
    match answer {
        Some(p) if p.payload[1] == 4 && p.payload.len() == 8 + 40 + 8 + 7 => Ok(()),
        other => wrong(format!("a datagram to a closed port was answered by {other:?}")),
    }
}

/// A download in whose middle netd is killed.
fn download(g: &mut Guest, peer: &Peer) -> Result<(), Failure> {
    let stream = peer.connect(4001, IpEndpoint::new(IpAddress::Ipv6(GUEST), 80));
    let request = format!("GET /bytes/{BYTES} HTTP/1.0\r\n\r\n");
    let sent = stream.wait(ANSWER, |s| {
        s.can_send().then(|| s.send_slice(request.as_bytes()).is_ok_and(|n| n == request.len()))
    });
    if sent != Some(true) {
        return wrong("port 80 does not answer over IPv6");
    }
    let (mut got, mut killed, limit) = (0, false, Instant::now() + DOWNLOAD);
    while got < BYTES {
        if got > BYTES / 3 && !killed {
            g.send_line("kill netd")?;
            killed = true;
        }
        let some = stream.wait(ANSWER, |s| match s.recv(|b| (b.len(), b.len())) {
            Ok(0) => None,
            Ok(n) => Some(n),
            // Its end.
            Err(_) => Some(usize::MAX),
        });
        match some {
            Some(n) if n < usize::MAX => got += n,
            _ => return wrong(format!("the download ended after {got} bytes")),
        }
        if Instant::now() > limit {
            return wrong(format!("after three minutes {got} bytes have come"));
        }
    }
    if killed { Ok(()) } else { wrong("netd was not killed") }
}
