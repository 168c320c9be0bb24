//! Below streams: fragments, large datagrams, IPv6, groups.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::lab::{
    Family, GUEST, GUEST6, LINUX, LINUX6, Lab, TAP, at, datagrams, ip, pause, program, there,
};
use super::relay::Line;
use super::sockets::{IPPROTO_IP, SOL_SOCKET};
use super::{Found, bulk, options, tools};
use crate::bench::machine::MAC;
use crate::harness::{Failure, wrong};

/// The most that fits a datagram over IPv4.
const LARGEST: usize = 65_507;
const SO_RCVBUF: i32 = 8;
const SO_SNDBUF: i32 = 7;
const IP_ADD_MEMBERSHIP: i32 = 35;
const IPPROTO_IPV6: i32 = 41;
const IPV6_ADD_MEMBERSHIP: i32 = 20;

/// A datagram of this many bytes comes back from the echo as it was; several tries, since it may be lost.
fn echo(to: SocketAddr, len: usize) -> Result<(), Failure> {
    let socket = datagrams(to)?;
    at("time-out", socket.set_read_timeout(Some(Duration::from_secs(5))))?;
    let sent: Vec<u8> = (0..len).map(|i| (i % 253) as u8).collect();
    let mut got = vec![0; 65_536];
    for _ in 0..5 {
        at("send", socket.send(&sent))?;
        match socket.recv(&mut got) {
            Ok(n) if got[..n] == sent => return Ok(()),
            Ok(n) => return wrong(format!("a datagram of {len} bytes came back as other {n}")),
            Err(_) => {}
        }
    }
    wrong(format!("a datagram of {len} bytes did not come back"))
}

/// An echo request of this many bytes is answered.
fn ping(to: &str, size: &str) -> Result<(), Failure> {
    program("ping", &["-q", "-c", "3", "-i", "0.2", "-W", "10", "-s", size, to], 60).map(drop)
}

pub fn fragments(l: &mut Lab) -> Found {
    let guest = GUEST.to_string();
    let mixed = Line { reordered: 300, late: Duration::from_millis(3), ..Line::CLEAN };
    for line in [Line::CLEAN, mixed] {
        l.relay.set(line, line);
        for size in ["1473", "8000", "20000", "65507"] {
            ping(&guest, size)?;
        }
        for len in [1473, 5000, 20_000] {
            echo(there(7), len)?;
        }
    }
    Ok("in order and out of order".into())
}

pub fn big_udp(l: &mut Lab) -> Found {
    echo(there(7), LARGEST)?;
    let fd = l.calls.udp(Family::V4)?;
    for option in [SO_SNDBUF, SO_RCVBUF] {
        l.calls.set(fd, SOL_SOCKET, option, 200_000)?;
    }
    l.calls.bind(fd, SocketAddr::from(([0, 0, 0, 0], 5003)))?;
    let socket = datagrams(there(5003))?;
    let sent: Vec<u8> = (0..LARGEST).map(|i| (i % 253) as u8).collect();
    at("send", socket.send(&sent))?;
    let (n, got) = l.calls.recv(fd, 0, 65_536)?;
    if got != sent {
        return wrong(format!("the system got a datagram of {n} bytes"));
    }
    let back = at("address", socket.local_addr())?;
    let n = l.calls.send(fd, 0, Some(back), &sent)?;
    let mut buffer = vec![0; 65_536];
    let got = at("receive", socket.recv(&mut buffer))?;
    if buffer[..got] != sent {
        return wrong(format!("the system sent {n}, Linux got {got} bytes"));
    }
    Ok("echoed, and each way".into())
}

/// A router advertisement (RFC 4861 4.2) for the prefix of [`LINUX6`], from the tap's link-local address.
fn advertise() -> Result<(), Failure> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6));
    let socket = at("a raw socket", socket)?;
    let index = nix::net::if_::if_nametoindex(TAP).map_err(|e| Failure::Host(e.to_string()))?;
    at("hops", socket.set_multicast_hops_v6(255))?;
    at("interface", socket.set_multicast_if_v6(index))?;
    // Current hop limit 64, router for half an hour.
    let mut message = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    // The prefix: on this link, for addresses, an hour.
    message.extend([3, 4, 64, 0xc0]);
    message.extend([3600_u32.to_be_bytes(), 3600_u32.to_be_bytes(), [0; 4]].concat());
    message.extend([&LINUX6.octets()[..8], &[0; 8]].concat());
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let to = SocketAddrV6::new(all, 0, 0, index);
    at("advertise", socket.send_to(&message, &to.into())).map(drop)
}

/// Waits until the system has, and answers at, [`GUEST6`].
pub fn reach6() -> Result<(), Failure> {
    // The second time it is there.
    let _ = ip(&format!("-6 addr add {LINUX6}/64 dev {TAP} nodad"));
    let guest = GUEST6.to_string();
    options::until("the system's address by a router's prefix answers", || {
        // The tap's own link-local address may still be tentative.
        let _ = advertise();
        program("ping", &["-q", "-c", "1", "-W", "1", &guest], 5).is_ok()
    })
}

pub fn ipv6(l: &mut Lab) -> Found {
    reach6()?;
    let guest = GUEST6.to_string();
    for size in ["0", "1452", "1453", "8000"] {
        ping(&guest, size)?;
    }
    let near = format!("fe80::5054:ff:fe12:3456%{TAP}");
    ping(&near, "56")?;
    let echoes = Family::V6.there(7);
    bulk::echo(echoes, 4 << 20)?;
    for len in [0, 1000, 1453, 20_000] {
        echo(echoes, len)?;
    }
    let file = l.file("ipv6");
    at("record", l.relay.record(&file))?;
    let fd = l.calls.udp(Family::V6)?;
    l.calls.bind(fd, Family::V6.any(5004))?;
    let socket = datagrams(Family::V6.there(5004))?;
    at("send", socket.send(b"from Linux"))?;
    let (n, got) = l.calls.recv(fd, 0, 100)?;
    if got != b"from Linux" {
        return wrong(format!("the system got {n}"));
    }
    // Linux may have made itself an address of that prefix, too.
    let back = at("address", socket.local_addr())?;
    let sent = l.calls.send(fd, 0, Some(back), &got)?;
    if sent != 10 {
        return wrong(format!("the system's SEND: {sent}"));
    }
    let mut buffer = [0; 100];
    let n = at("receive", socket.recv(&mut buffer))?;
    if &buffer[..n] != b"from Linux" {
        return wrong(format!("Linux got {:?}", &buffer[..n]));
    }
    tools::trace(&guest, &["-6"])?;
    let _ = std::fs::remove_file(&file);
    Ok(guest)
}

/// Linux sends to a group of IPv6 that the system has joined.
fn multicast6(l: &mut Lab) -> Result<(), Failure> {
    let group = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0x1234, 1);
    let index = nix::net::if_::if_nametoindex(TAP).map_err(|e| Failure::Host(e.to_string()))?;
    let fd = l.calls.udp(Family::V6)?;
    l.calls.bind(fd, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 5007)))?;
    let request = [&group.octets()[..], &[0; 4]].concat();
    l.calls.set_bytes(fd, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &request)?;
    let socket = at("socket", Socket::new(Domain::IPV6, Type::DGRAM, None))?;
    at("interface", socket.set_multicast_if_v6(index))?;
    at("hops", socket.set_multicast_hops_v6(2))?;
    let to = SocketAddrV6::new(group, 5007, 0, index);
    at("send", socket.send_to(b"to the group", &to.into()))?;
    let (n, got) = l.calls.recv(fd, 0, 100)?;
    if got != b"to the group" {
        return wrong(format!("the system, a member by IPv6, got {n}"));
    }
    l.calls.close(fd)
}

pub fn multicast(l: &mut Lab) -> Found {
    let (inward, outward) = (Ipv4Addr::new(239, 1, 2, 3), Ipv4Addr::new(239, 1, 2, 4));
    let file = l.file("multicast");
    at("record", l.relay.record(&file))?;
    let fd = l.calls.udp(Family::V4)?;
    l.calls.bind(fd, SocketAddr::from(([0, 0, 0, 0], 5005)))?;
    let group = [inward.octets(), [0; 4], [0; 4]].concat();
    l.calls.set_bytes(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group)?;
    let socket = at("socket", Socket::new(Domain::IPV4, Type::DGRAM, None))?;
    at("interface", socket.set_multicast_if_v4(&LINUX))?;
    at("bind", socket.bind(&SocketAddr::from(([0, 0, 0, 0], 5006)).into()))?;
    at("send", socket.send_to(b"to the group", &SocketAddr::from((inward, 5005)).into()))?;
    let (n, got) = l.calls.recv(fd, 0, 100)?;
    if got != b"to the group" {
        return wrong(format!("the system, a member, got {n}"));
    }
    at("join", socket.join_multicast_v4(&outward, &LINUX))?;
    let socket = std::net::UdpSocket::from(socket);
    at("time-out", socket.set_read_timeout(Some(super::lab::STILL)))?;
    l.calls.send(fd, 0, Some(SocketAddr::from((outward, 5006))), b"from the system")?;
    let mut buffer = [0; 100];
    let (n, from) = at("receive", socket.recv_from(&mut buffer))?;
    if &buffer[..n] != b"from the system" || from.ip() != IpAddr::V4(GUEST) {
        return wrong(format!("Linux, a member, got {n} bytes from {from}"));
    }
    l.calls.close(fd)?;
    multicast6(l)?;
    // The report that it leaves.
    let left = "igmp.type == 0x22 && igmp.record_type == 3";
    let joined = "igmp.type == 0x22 && igmp.record_type == 4";
    // Of version 2, multicast listener reports: CHANGE_TO_EXCLUDE_MODE, CHANGE_TO_INCLUDE_MODE.
    let joined6 = "icmpv6.type == 143 && icmpv6.mldr.mar.record_type == 4";
    let left6 = "icmpv6.type == 143 && icmpv6.mldr.mar.record_type == 3";
    // The last of them may be on its way for a second.
    pause(Duration::from_secs(3));
    l.relay.stop_recording();
    for report in [joined, left, joined6, left6] {
        let report = format!("eth.src == {MAC} && {report}");
        if tools::frames(&file, &report)?.is_empty() {
            return wrong(format!("no frame is {report}\n--- {}", file.display()));
        }
    }
    let _ = std::fs::remove_file(&file);
    Ok("both ways and by IPv6, with reports of IGMPv3 and MLDv2".into())
}
