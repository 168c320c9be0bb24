//! Addresses: DHCP against a server, static, over restarts; ARP.

mod common;

use common::frames::{End, Frame, arp_frame, dissect, udp_frame};
use common::{Host, HostSpec, S};
use libipc::net::{Reply, Request};
use libipc::sock::Dgram;
use netd::Addressing;
use netd::addressing::ArgError;
use netd::dev::Dev;
use netd::env::Event;
use netd::wire::arp::{self, Op};
use netd::wire::dhcp::Kind;
use netd::wire::ethernet::Mac;
use std::net::Ipv4Addr;

const SERVER: End = End { mac: Mac([2, 0, 0, 0, 0, 0xfe]), ip: Ipv4Addr::new(10, 0, 2, 2) };
const OFFERED: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const LEASE_S: u32 = 1000;

/// A small DHCP server.
struct Server {
    /// What was asked, with the time in seconds.
    asked: Vec<(u64, Kind, bool)>,
    /// Whether it answers.
    up: bool,
    /// Whether it refuses requests.
    refuses: bool,
}

impl Server {
    fn new() -> Self {
        Self { asked: Vec::new(), up: true, refuses: false }
    }

    fn serve(&mut self, frame: &[u8], now: u64) -> Option<Vec<u8>> {
        let Frame::Udp(ip, udp, query) = dissect(frame) else { return None };
        if udp.dst != 67 {
            return None;
        }
        assert_eq!(query[236..240], [99, 130, 83, 99]);
        assert_eq!(query[28..34], [2, 0, 0, 0, 0, 1]);
        let kind = if query[242] == 1 { Kind::Discover } else { Kind::Request };
        self.asked.push((now / S, kind, ip.dst.is_broadcast()));
        if !self.up {
            return None;
        }
        let answer = match kind {
            _ if self.refuses && kind == Kind::Request => 6,
            Kind::Discover => 2,
            _ => 5,
        };
        let mut b = vec![0; 240];
        b[..3].copy_from_slice(&[2, 1, 6]);
        b[4..8].copy_from_slice(&query[4..8]);
        b[16..20].copy_from_slice(&OFFERED.octets());
        b[28..34].copy_from_slice(&query[28..34]);
        b[236..240].copy_from_slice(&[99, 130, 83, 99]);
        b.extend([53, 1, answer, 54, 4, 10, 0, 2, 2, 1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2]);
        b.extend([6, 4, 10, 0, 2, 3, 51, 4]);
        b.extend(LEASE_S.to_be_bytes());
        b.push(255);
        let to = End { mac: Mac([2, 0, 0, 0, 0, 1]), ip: OFFERED };
        Some(udp_frame(SERVER, to, 67, 68, &b))
    }
}

fn host() -> Host {
    Host::new(HostSpec { addressing: Addressing::Dhcp, ..HostSpec::fixed(1) })
}

/// Runs host and server until `until`.
fn run(host: &mut Host, server: &mut Server, until: u64) {
    loop {
        loop {
            host.settle();
            let frames = host.transmitted();
            if frames.is_empty() {
                break;
            }
            for frame in frames {
                if let Some(answer) = server.serve(&frame, host.now) {
                    assert!(host.receive(&answer));
                }
            }
        }
        match host.stack().poll_at().filter(|at| *at <= until) {
            Some(at) => host.now = host.now.max(at),
            None => break,
        }
    }
    host.now = until;
}

#[test]
fn an_address_is_taken_renewed_and_kept_over_restarts() {
    let (mut host, mut server) = (host(), Server::new());
    assert!(
        matches!(host.ask(Request::Interface { number: Dgram::NIC }), Ok(Reply::Interface(i)) if i.addr.is_none())
    );
    run(&mut host, &mut server, S);
    assert_eq!(server.asked, [(0, Kind::Discover, true), (0, Kind::Request, true)]);
    let Ok(Reply::Interface(i)) = host.ask(Request::Interface { number: Dgram::NIC }) else {
        panic!()
    };
    assert_eq!(i.addr, Some((OFFERED.into(), 24)));
    assert_eq!(
        (i.gateway, i.dns),
        (Some(SERVER.ip.into()), Some(Ipv4Addr::new(10, 0, 2, 3).into()))
    );
    assert_eq!(i.lease_s, Some(LEASE_S - 1));
    let address = host
        .events()
        .iter()
        .any(|e| e.to_string().starts_with("address 10.0.2.15/24 gateway 10.0.2.2"));
    assert!(address, "{:?}", host.events());
    // A new netd has it at once, and asks nobody.
    server.asked.clear();
    host.crash();
    assert_eq!(host.stack().address(), Some((OFFERED.into(), 24)));
    run(&mut host, &mut server, 499 * S);
    assert_eq!(server.asked, []);
    run(&mut host, &mut server, 502 * S);
    assert_eq!(server.asked, [(500, Kind::Request, false)], "renewed from the server");
    run(&mut host, &mut server, 990 * S);
    assert_eq!(host.stack().address(), Some((OFFERED.into(), 24)));
}

#[test]
fn a_server_that_comes_late_is_found() {
    let (mut host, mut server) = (host(), Server::new());
    server.up = false;
    run(&mut host, &mut server, 30 * S);
    assert!(
        server.asked.len() >= 4 && server.asked.iter().all(|a| a.1 == Kind::Discover),
        "{:?}",
        server.asked
    );
    server.up = true;
    run(&mut host, &mut server, 120 * S);
    assert_eq!(host.stack().address(), Some((OFFERED.into(), 24)));
}

#[test]
fn a_lease_that_nobody_renews_ends() {
    let (mut host, mut server) = (host(), Server::new());
    run(&mut host, &mut server, S);
    server.up = false;
    server.asked.clear();
    run(&mut host, &mut server, 999 * S);
    assert_eq!(host.stack().address(), Some((OFFERED.into(), 24)));
    assert!(server.asked.iter().any(|a| a.2), "in the end everybody is asked");
    run(&mut host, &mut server, 1001 * S);
    assert_eq!(host.stack().address(), None);
    assert!(host.events().contains(&Event::AddressLost { dev: Dev::FIRST }));
    // A restart does not bring it back.
    host.crash();
    assert_eq!(host.stack().address(), None);
    server.up = true;
    run(&mut host, &mut server, 1200 * S);
    assert_eq!(host.stack().address(), Some((OFFERED.into(), 24)));
}

#[test]
fn a_refusal_begins_anew() {
    let (mut host, mut server) = (host(), Server::new());
    run(&mut host, &mut server, S);
    server.refuses = true;
    server.asked.clear();
    run(&mut host, &mut server, 510 * S);
    assert_eq!(host.stack().address(), None);
    assert!(server.asked.iter().any(|a| a.1 == Kind::Discover));
    server.refuses = false;
    run(&mut host, &mut server, 800 * S);
    assert_eq!(host.stack().address(), Some((OFFERED.into(), 24)));
}

fn request(target: u8, sender: Ipv4Addr) -> arp::Repr {
    arp::Repr {
        op: Op::Request,
        sender_mac: Mac([2, 0, 0, 0, 0, 9]),
        sender,
        target_mac: Mac([0; 6]),
        target: Ipv4Addr::new(10, 0, 0, target),
    }
}

fn arps(host: &mut Host) -> Vec<arp::Repr> {
    host.settle();
    let frames = host.transmitted();
    frames
        .iter()
        .filter_map(|f| if let Frame::Arp(a) = dissect(f) { Some(a) } else { None })
        .collect()
}

#[test]
fn arp_announces_answers_and_defends() {
    let mut host = Host::new(HostSpec::fixed(1));
    let said = arps(&mut host);
    assert!(
        matches!(said[..], [a] if a.sender == a.target && a.op == Op::Request),
        "announced once: {said:?}"
    );
    host.receive(&arp_frame(Mac::BROADCAST, &request(1, Ipv4Addr::new(10, 0, 0, 9))));
    let said = arps(&mut host);
    assert!(matches!(said[..], [a] if a.op == Op::Reply && a.sender == Ipv4Addr::new(10, 0, 0, 1)));
    // A probe (RFC 5227) is answered, and teaches nothing.
    host.receive(&arp_frame(Mac::BROADCAST, &request(1, Ipv4Addr::UNSPECIFIED)));
    assert_eq!(arps(&mut host).len(), 1);
    host.receive(&arp_frame(Mac::BROADCAST, &request(7, Ipv4Addr::new(10, 0, 0, 9))));
    assert_eq!(arps(&mut host), [], "for somebody else");
    host.receive(&arp_frame(Mac::BROADCAST, &request(7, Ipv4Addr::new(10, 0, 0, 1))));
    assert_eq!(arps(&mut host).len(), 1, "our address: defended");
    assert!(matches!(host.events().last(), Some(Event::AddressConflict { .. })));
}

#[test]
fn arguments_say_how_the_interface_gets_its_address() {
    assert_eq!(Addressing::parse("dhcp"), Ok(Addressing::Dhcp));
    assert_eq!(Addressing::parse(""), Ok(Addressing::Dhcp));
    let fixed = |prefix, gateway, dns| {
        Ok(Addressing::Static { addr: Ipv4Addr::new(10, 9, 0, 2), prefix, gateway, dns })
    };
    let one = Some(Ipv4Addr::new(10, 9, 0, 1));
    assert_eq!(Addressing::parse("ip=10.9.0.2/24"), fixed(24, None, None));
    assert_eq!(Addressing::parse("ip=10.9.0.2/24 gw=10.9.0.1"), fixed(24, one, None));
    assert_eq!(Addressing::parse(" dns=10.9.0.1  ip=10.9.0.2/31"), fixed(31, None, one));
    assert_eq!(Addressing::parse("ip=10.9.0.2/32 gw=10.9.0.1"), fixed(32, one, None));
    for text in ["dhcp", "ip=10.9.0.2/24", "ip=10.9.0.2/31 gw=10.9.0.3 dns=9.9.9.9"] {
        assert_eq!(Addressing::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn no_argument_is_passed_over() {
    for (args, error) in [
        ("ip=foo", ArgError::Address("ip=foo")),
        ("ip=10.9.0.2", ArgError::Address("ip=10.9.0.2")),
        ("ip=10.9.0.2/33", ArgError::Address("ip=10.9.0.2/33")),
        ("ip=10.9.0.2/0", ArgError::Address("ip=10.9.0.2/0")),
        ("ip=10.9.0.0/24", ArgError::Address("ip=10.9.0.0/24")),
        ("ip=10.9.0.255/24", ArgError::Address("ip=10.9.0.255/24")),
        ("ip=127.0.0.2/8", ArgError::Address("ip=127.0.0.2/8")),
        ("ip=224.0.0.2/8", ArgError::Address("ip=224.0.0.2/8")),
        ("ip=10.9.0.2/24 gw=nowhere", ArgError::Host("gw=nowhere")),
        ("ip=10.9.0.2/24 gw=0.0.0.0", ArgError::Host("gw=0.0.0.0")),
        ("ip=10.9.0.2/24 gw=10.9.1.1", ArgError::Gateway("gw=10.9.1.1")),
        ("ip=10.9.0.2/24 gw=10.9.0.2", ArgError::Gateway("gw=10.9.0.2")),
        ("ip=10.9.0.2/24 gw=10.9.0.255", ArgError::Gateway("gw=10.9.0.255")),
        ("ip=10.9.0.2/32 gw=10.9.0.2", ArgError::Gateway("gw=10.9.0.2")),
        ("ip=10.9.0.2/24 dns=fe80::1", ArgError::Host("dns=fe80::1")),
        ("ip=10.9.0.2/24 ip=10.9.0.3/24", ArgError::Twice("ip=10.9.0.3/24")),
        ("dhcp dhcp", ArgError::Twice("dhcp")),
        ("dhcp ip=10.9.0.2/24", ArgError::Both),
        ("gw=10.9.0.1", ArgError::NoAddress("gw=10.9.0.1")),
        ("dhcp dns=10.9.0.1", ArgError::NoAddress("dns=10.9.0.1")),
        ("DHCP", ArgError::Unknown("DHCP")),
        ("dhcp=yes", ArgError::Unknown("dhcp=yes")),
        ("ip", ArgError::Unknown("ip")),
    ] {
        assert_eq!(Addressing::parse(args), Err(error), "{args}");
        assert!(!error.to_string().is_empty());
    }
}
