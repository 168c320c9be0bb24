//! IPv6 in and out: which packets are taken, extension headers, echo, errors, fragments (RFC 8200,
//! RFC 4443).

mod common;

use common::frames::seg;
use common::six::{self, End6, Six, What, ip6, to_80};
use common::{HostSpec, MS, Prog};
use libipc::sock::{Dgram, Error, Kind, State, ip_from_words};
use netd::Addressing6;
use netd::wire::ext::Fragment;
use netd::wire::ipv6;
use netd::wire::tcp::{Flags, Options, Repr};
use std::net::SocketAddr;

fn send(p: &mut Prog, id: u16, to: Option<&str>, data: &[u8]) {
    let header = Dgram::new(to.map(|t| t.parse().unwrap()), data.len() as u16);
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(Dgram::space(data.len()) as usize, 0);
    p.put_dgram(id, &bytes);
    p.submit(id);
}

fn recv(p: &mut Prog, id: u16) -> Option<(SocketAddr, Vec<u8>)> {
    let bytes = p.peek_ring(id, Dgram::BYTES as u64)?;
    let header = Dgram::from_bytes(bytes[..].try_into().unwrap());
    let all = p.peek_ring(id, Dgram::space(header.len as usize))?;
    p.took_dgram(id, all.len() as u64);
    p.submit(id);
    let from = SocketAddr::new(ip_from_words(header.ip), header.port);
    Some((from, all[Dgram::BYTES..Dgram::BYTES + header.len as usize].to_vec()))
}

/// A UDP socket on `at`.
fn udp_on(s: &mut Six, at: &str) -> u16 {
    let id = s.host.open(Kind::Udp);
    s.host.bind(id, at).unwrap();
    s.settle();
    id
}

/// The ICMPv6 error that was sent: type, code, word, and what it quotes.
#[track_caller]
fn error(s: &mut Six) -> (u8, u8, u32, Vec<u8>) {
    let (_, b) = s.next_icmp();
    (b[0], b[1], u32::from_be_bytes(b[4..8].try_into().unwrap()), b[8..].to_vec())
}

/// RFC 4443 4.2: "The data received in the ICMPv6 Echo Request message MUST be returned entirely
/// and unmodified in the ICMPv6 Echo Reply message."
#[test]
fn echo_requests_are_answered() {
    let mut s = Six::ready();
    for len in [0, 1, 56, 1400] {
        let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
        s.send(&six::echo(s.peer, s.us, false, 77, 5, &data));
        let (ip, b) = s.next_icmp();
        assert_eq!((ip.src, ip.dst, ip.hop_limit), (s.us.ip, s.peer.ip, 64));
        assert_eq!((&b[..2], &b[4..8], &b[8..]), (&[129, 0][..], &[0, 77, 0, 5][..], &data[..]));
    }
    // A group that all are in; the answer comes from an address of our own.
    let all = End6::group("ff02::1");
    s.send(&six::echo(s.peer, all, false, 77, 6, b"all"));
    let (ip, b) = s.next_icmp();
    assert_eq!((ip.src, b[0]), (s.us.ip, 129));
    // A group that we are not in, and a wrong checksum.
    s.send(&six::echo(s.peer, End6::group("ff02::7"), false, 77, 7, b""));
    let mut wrong = six::echo(s.peer, s.us, false, 77, 8, b"");
    wrong[57] ^= 1;
    s.send(&wrong);
    s.nothing();
}

#[test]
fn ping_sockets_send_requests_and_get_their_replies() {
    let mut s = Six::ready();
    let id = s.host.open(Kind::Ping);
    s.host.connect(id, "[fe80::ff:fe00:2]:0").unwrap();
    send(&mut s.host.progs[0], id, None, &[0xff, 0xff, 0, 5, 1, 2, 3]);
    s.settle();
    let (ip, b) = s.next_icmp();
    assert_eq!((ip.hop_limit, b[0], &b[6..]), (64, 128, &[0, 5, 1, 2, 3][..]));
    let number = u16::from_be_bytes([b[4], b[5]]);
    s.send(&six::echo(s.peer, s.us, true, number ^ 1, 5, &[1, 2, 3]));
    s.send(&six::echo(s.peer, s.us, true, number, 5, &[1, 2, 3]));
    let (from, reply) = recv(&mut s.host.progs[0], id).unwrap();
    assert_eq!(from.ip(), std::net::IpAddr::V6(s.peer.ip));
    assert_eq!(reply, [b[4], b[5], 0, 5, 1, 2, 3]);
    assert!(recv(&mut s.host.progs[0], id).is_none());
}

/// RFC 4443 3.1: "A destination node SHOULD originate a Destination Unreachable message with
/// Code 4 in response to a packet for which the transport protocol (e.g., UDP) has no listener".
#[test]
fn a_port_where_nobody_listens_is_unreachable() {
    let mut s = Six::ready();
    let question = six::udp(s.peer, s.us, 5000, 9, b"anyone?");
    s.send(&question);
    let (ty, code, word, quote) = error(&mut s);
    assert_eq!((ty, code, word), (1, 4, 0));
    assert_eq!(quote, question[14..14 + 40 + 8 + 7], "as it arrived");
    // RFC 4443 2.4 (c): as much as fits in the minimum MTU.
    s.pass(2000);
    s.send(&six::udp(s.peer, s.us, 5000, 9, &[7; 1400]));
    let (ip, b) = s.next_icmp();
    assert_eq!((ip.payload_len + 40, b.len()), (1280, 1240));
}

/// RFC 4443 2.4 (e), (f): not about groups, errors or nobody, and not too many.
#[test]
fn errors_have_limits() {
    let mut s = Six::ready();
    s.send(&six::udp(s.peer, End6::group("ff02::1"), 5000, 9, b"anyone?"));
    let mut all = s.us;
    all.mac = netd::wire::ethernet::Mac::BROADCAST;
    s.send(&six::udp(s.peer, all, 5000, 9, b"anyone?"));
    s.send(&six::packet(
        s.peer,
        s.us,
        64,
        58,
        &six::icmp_bytes(s.peer, s.us, &[1, 9, 0, 0, 0, 0, 0, 0]),
    ));
    s.nothing();
    for port in 0..20 {
        s.send(&six::udp(s.peer, s.us, 5000 + port, 9, b"anyone?"));
    }
    assert_eq!(s.sent.len(), 6, "as many to one host");
}

/// RFC 8200 8.1: "IPv6 receivers must discard UDP packets containing a zero checksum".
#[test]
fn datagrams_without_a_checksum_are_dropped() {
    let mut s = Six::ready();
    let id = udp_on(&mut s, "[::]:7");
    let mut frame = six::udp(s.peer, s.us, 5000, 7, b"unsure");
    frame[60..62].copy_from_slice(&[0, 0]);
    s.send(&frame);
    assert!(recv(&mut s.host.progs[0], id).is_none());
    assert_eq!(s.host.stack().counters().rx_checksum, 1);
    s.send(&six::udp(s.peer, s.us, 5000, 7, b"sure"));
    assert_eq!(recv(&mut s.host.progs[0], id).unwrap().1, b"sure");
}

/// RFC 8200 4: a next header that is not known is answered with parameter problem, code 1,
/// pointing at it.
#[test]
fn extension_headers_are_followed_to_the_transport() {
    let mut s = Six::ready();
    let id = udp_on(&mut s, "[::]:7");
    let udp = six::udp_bytes(s.peer, s.us, 5000, 7, b"behind");
    let hop = [60, 0, 1, 4, 0, 0, 0, 0];
    let options = [43, 0, 0x1e, 2, 9, 9, 1, 0];
    let routing = [17, 0, 0, 0, 0, 0, 0, 0];
    let payload = [&hop[..], &options, &routing, &udp].concat();
    s.send(&six::packet(s.peer, s.us, 64, 0, &payload));
    assert_eq!(recv(&mut s.host.progs[0], id).unwrap().1, b"behind");
    // No next header (59): nothing to be said.
    s.send(&six::packet(s.peer, s.us, 64, 60, &[59, 0, 1, 4, 0, 0, 0, 0]));
    s.nothing();
    let payload = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &[143, 0, 1, 4, 0, 0, 0, 0], &[0; 8]].concat();
    s.send(&six::packet(s.peer, s.us, 64, 0, &payload));
    let (ty, code, pointer, _) = error(&mut s);
    assert_eq!((ty, code, pointer), (4, 1, 48));
    // Hop-by-hop options anywhere but in front.
    s.send(&six::packet(s.peer, s.us, 64, 60, &[&[0, 0, 1, 4, 0, 0, 0, 0][..], &hop].concat()));
    let (ty, code, pointer, _) = error(&mut s);
    assert_eq!((ty, code, pointer), (4, 1, 40));
}

/// RFC 8200 4.2: the two highest bits of an option that is not known; 4.4: routes that are not
/// followed.
#[test]
fn what_is_not_understood_is_told() {
    let mut s = Six::ready();
    let with = |ty: u8| [17, 0, ty, 4, 0, 0, 0, 0];
    let group = End6::group("ff02::1");
    for (ty, to, told) in [
        (0x3f, s.us, None),
        (0x7f, s.us, None),
        (0xbf, s.us, Some(42)),
        (0xff, s.us, Some(42)),
        (0xbf, group, Some(42)),
        (0xff, group, None),
    ] {
        s.pass(1500);
        s.sent.clear();
        s.send(&six::packet(s.peer, to, 64, 60, &[&with(ty)[..], &[0; 4]].concat()));
        match told {
            Some(at) => {
                let (ty, code, pointer, _) = error(&mut s);
                assert_eq!((ty, code, pointer), (4, 2, at));
            }
            None => s.nothing(),
        }
    }
    s.pass(1500);
    s.send(&six::packet(
        s.peer,
        s.us,
        64,
        43,
        &[17, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ));
    let (ty, code, pointer, _) = error(&mut s);
    assert_eq!((ty, code, pointer), (4, 0, 42), "RFC 5095: no source routes");
}

/// RFC 4291 2.5.3, 2.7: addresses that cannot be on a wire.
#[test]
fn addresses_that_cannot_be_are_dropped() {
    let mut s = Six::ready();
    let port = |from, to| six::udp(from, to, 5000, 9, b"anyone?");
    for (from, to) in [
        (s.peer.at("::1"), s.us),
        (s.peer, s.us.at("::1")),
        (s.peer.at("ff02::1"), s.us),
        (s.peer.at("::ffff:10.0.0.2"), s.us),
        (s.peer.at("::"), s.us),
        (s.us, s.us),
        (s.peer, End6 { mac: s.us.mac, ip: ip6("ff01::1") }),
        (s.peer, s.us.at("fe80::77")),
    ] {
        s.send(&port(from, to));
        s.nothing();
    }
    let c = s.host.stack().counters();
    assert_eq!((c.rx_address, c.rx_unclaimed), (7, 1));
}

fn parts(data: &[u8], size: usize) -> Vec<(Fragment, Vec<u8>)> {
    let count = data.len().div_ceil(size);
    let part = |(i, part): (usize, &[u8])| {
        let f = Fragment { next: 17, offset: (i * size) as u16, more: i + 1 < count, id: 7 };
        (f, part.to_vec())
    };
    data.chunks(size).enumerate().map(part).collect()
}

/// RFC 8200 4.5.
#[test]
fn fragments_are_put_together_in_any_order() {
    let mut s = Six::ready();
    let id = udp_on(&mut s, "[::]:7");
    let data: Vec<u8> = (0..5000).map(|i| (i * 7) as u8).collect();
    let udp = six::udp_bytes(s.peer, s.us, 5000, 7, &data);
    let mut all = parts(&udp, 1232);
    for turn in 0..all.len() {
        all.rotate_left(1);
        for (f, part) in &all {
            let f = Fragment { id: turn as u32, ..*f };
            s.send(&six::fragment(s.peer, s.us, f, part));
        }
        assert_eq!(recv(&mut s.host.progs[0], id).unwrap().1, data, "turn {turn}");
    }
    // RFC 6946: one that is a whole packet waits for nobody.
    let f = Fragment { next: 17, offset: 0, more: false, id: 7 };
    let udp = six::udp_bytes(s.peer, s.us, 5000, 7, b"atom");
    s.send(&six::fragment(s.peer, s.us, f, &udp));
    assert_eq!(recv(&mut s.host.progs[0], id).unwrap().1, b"atom");
    s.nothing();
}

/// RFC 8200 4.5, RFC 5722: "If any of the fragments being reassembled overlap with any other
/// fragments being reassembled for the same packet, reassembly of that packet must be abandoned".
#[test]
fn fragments_that_cannot_be_are_refused() {
    let mut s = Six::ready();
    let id = udp_on(&mut s, "[::]:7");
    let udp = six::udp_bytes(s.peer, s.us, 5000, 7, &[5; 2000]);
    let all = parts(&udp, 1000);
    s.send(&six::fragment(s.peer, s.us, all[0].0, &all[0].1));
    let overlap = Fragment { offset: 992, ..all[1].0 };
    s.send(&six::fragment(s.peer, s.us, overlap, &all[1].1));
    s.send(&six::fragment(s.peer, s.us, all[1].0, &all[1].1));
    s.send(&six::fragment(s.peer, s.us, all[2].0, &all[2].1));
    assert!(recv(&mut s.host.progs[0], id).is_none());
    s.nothing();
    // A length that is no multiple of eight: points at the payload length.
    let odd = Fragment { id: 8, more: true, ..all[0].0 };
    s.send(&six::fragment(s.peer, s.us, odd, &[1; 1001]));
    let (ty, code, pointer, _) = error(&mut s);
    assert_eq!((ty, code, pointer), (4, 0, 4));
    // Beyond 65,535: at the offset.
    let far = Fragment { offset: 65_528, ..odd };
    s.send(&six::fragment(s.peer, s.us, far, &[1; 16]));
    let (ty, code, pointer, _) = error(&mut s);
    assert_eq!((ty, code, pointer), (4, 0, 42));
    // RFC 7112: a first one without the transport's header.
    let bare = Fragment { next: 60, offset: 0, ..odd };
    s.send(&six::fragment(s.peer, s.us, bare, &[17, 0, 1, 4, 0, 0, 0, 0]));
    let (ty, code, pointer, _) = error(&mut s);
    assert_eq!((ty, code, pointer), (4, 3, 0));
}

/// RFC 8200 4.5: "If insufficient fragments are received to complete reassembly of a packet within
/// 60 seconds … an ICMP Time Exceeded -- Fragment Reassembly Time Exceeded message should be sent
/// to the source of that fragment", if the first one has come.
#[test]
fn fragments_do_not_wait_for_ever() {
    let mut s = Six::ready();
    let udp = six::udp_bytes(s.peer, s.us, 5000, 7, &[5; 2000]);
    let all = parts(&udp, 1000);
    s.send(&six::fragment(s.peer, s.us, all[0].0, &all[0].1));
    let began = s.host.now / MS;
    s.send(&six::fragment(s.peer, s.us, Fragment { id: 9, ..all[1].0 }, &all[1].1));
    s.until(began + 59_000);
    s.sent.clear();
    s.until(began + 62_000);
    let (ms, got) =
        s.sent.iter().find(|(_, g)| matches!(&g.what, What::Icmp(b) if b[0] == 3)).unwrap();
    assert!((began + 60_000..began + 61_000).contains(ms), "{ms}");
    let What::Icmp(b) = &got.what else { panic!() };
    assert_eq!((b[0], b[1]), (3, 1));
    let told = s.sent.iter().filter(|(_, g)| matches!(&g.what, What::Icmp(b) if b[0] == 3));
    assert_eq!(told.count(), 1, "nothing of the one without a beginning");
}

#[test]
fn a_long_datagram_leaves_in_fragments() {
    let spec = HostSpec { ip6: Addressing6::Auto, tx_bits: 16, ..HostSpec::fixed(1) };
    let mut s = Six::with(spec);
    s.pass(10_000);
    s.sent.clear();
    let id = udp_on(&mut s, "[::]:7");
    let data: Vec<u8> = (0..4000).map(|i| (i * 3) as u8).collect();
    send(&mut s.host.progs[0], id, Some("[fe80::ff:fe00:2]:9"), &data);
    s.settle();
    let (mut whole, mut ids) = (Vec::new(), Vec::new());
    while let Some((_, got)) = s.sent.pop_front() {
        let What::Fragment(f, part) = got.what else { panic!("{got:?}") };
        assert_eq!((f.next, f.offset as usize), (17, whole.len()));
        assert_eq!(f.more, whole.len() + part.len() < 4008);
        assert!(got.ip.payload_len + 40 <= 1500);
        whole.extend(part);
        ids.push(f.id);
    }
    assert_eq!((&whole[8..], ids.len()), (&data[..], 3));
    assert_eq!(whole[..], six::udp_bytes(s.us, s.peer, 7, 9, &data)[..]);
    assert!(ids.iter().all(|i| *i == ids[0]));
    send(&mut s.host.progs[0], id, Some("[fe80::ff:fe00:2]:9"), &data);
    s.settle();
    let (_, got) = s.next();
    let What::Fragment(f, _) = got.what else { panic!("{got:?}") };
    assert_ne!(f.id, ids[0]);
}

/// An error about a packet of ours, as a router sends it.
fn router_says(s: &mut Six, ty: u8, code: u8, word: u32, packet: &[u8]) {
    let mut message = vec![ty, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend_from_slice(packet);
    s.send(&six::icmp(s.peer, s.us, 64, &message));
}

/// The packet with which the host connects to or speaks to the peer, as it left.
fn quoted(s: &Six, next: u8, payload: &[u8]) -> Vec<u8> {
    six::packet(s.us, s.peer, 64, next, payload)[14..14 + 40 + payload.len()].to_vec()
}

#[test]
fn errors_reach_the_socket_that_they_speak_of() {
    for (ty, code, expected) in
        [(1, 4, Error::ConnectionRefused), (1, 1, Error::Prohibited), (4, 1, Error::Protocol)]
    {
        let mut s = Six::ready();
        let id = s.host.open(Kind::Udp);
        s.host.connect(id, "[fe80::ff:fe00:2]:53").unwrap();
        send(&mut s.host.progs[0], id, None, b"question");
        s.settle();
        let (_, got) = s.next();
        let What::Udp(udp, _) = got.what else { panic!("{got:?}") };
        let bytes = six::udp_bytes(s.us, s.peer, udp.src, 53, b"question");
        let packet = quoted(&s, 17, &bytes);
        let mut strange = packet.clone();
        strange[41] ^= 1;
        router_says(&mut s, ty, code, 0, &strange);
        assert_eq!(s.host.progs[0].record(id).error(), None, "another port");
        router_says(&mut s, ty, code, 0, &packet);
        assert_eq!(s.host.progs[0].record(id).error(), Some(expected));
    }
}

/// RFC 8201 4: "a node must reduce the size of the packets it is sending along the path", and "must
/// not reduce its estimate of the Path MTU below the IPv6 minimum link MTU".
#[test]
fn a_smaller_mtu_on_the_path_is_heeded() {
    let mut s = Six::ready();
    let id = udp_on(&mut s, "[::]:7");
    let packets = |s: &mut Six| {
        send(&mut s.host.progs[0], id, Some("[fe80::ff:fe00:2]:9"), &[1; 1400]);
        s.settle();
        let sizes: Vec<u16> = s.sent.iter().map(|(_, g)| g.ip.payload_len + 40).collect();
        s.sent.clear();
        sizes
    };
    assert_eq!(packets(&mut s), [1448]);
    let packet = quoted(&s, 17, &six::udp_bytes(s.us, s.peer, 7, 9, &[1; 1400]));
    router_says(&mut s, 2, 0, 1000, &packet[..200]);
    assert_eq!(packets(&mut s), [1448], "no link is that small");
    router_says(&mut s, 2, 0, 1300, &packet[..200]);
    let sizes = packets(&mut s);
    assert!(sizes.len() == 2 && sizes.iter().all(|n| *n <= 1300), "{sizes:?}");
    s.pass(700_000);
    s.sent.clear();
    assert_eq!(packets(&mut s), [1448], "it is tried again after ten minutes");
}

/// A connection from the peer's port 5000 to port 80: the numbers of both sides begin at 1.
fn accepted(s: &mut Six) -> (u16, u32) {
    let listener = s.host.open(Kind::Tcp);
    s.host.bind(listener, "[::]:80").unwrap();
    s.host.listen_on(listener, 2);
    let syn =
        Repr { options: Options { mss: Some(1440), ..Options::NONE }, ..to_80(Flags::SYN, 0, 0) };
    s.segment(&syn, &[]);
    let (repr, _) = s.next_tcp();
    assert_eq!(repr.flags, Flags::SYN | Flags::ACK);
    assert_eq!(repr.options.mss, Some(1440), "1500 less 60");
    s.segment(&to_80(Flags::ACK, 1, repr.seq.0 + 1), &[]);
    let (id, peer) = s.host.accept(listener).expect("it waits");
    assert_eq!(peer, SocketAddr::new(s.peer.ip.into(), 5000));
    s.settle();
    (id, repr.seq.0)
}

#[test]
fn tcp_speaks_ipv6_both_ways() {
    let mut s = Six::ready();
    let (id, iss) = accepted(&mut s);
    s.segment(&to_80(Flags::ACK | Flags::PSH, 1, iss + 1), b"question");
    assert_eq!(s.host.progs[0].read(id, 100), b"question");
    s.host.progs[0].write(id, &[7; 3000]);
    s.pass(200);
    let mut seen = 0;
    while let Some((_, got)) = s.sent.pop_front() {
        let What::Tcp(repr, data) = got.what else { panic!("{got:?}") };
        assert_eq!(repr.ack.0, 9);
        assert!(data.len() <= 1440);
        seen += data.len();
    }
    assert_eq!(seen, 3000);
    // RFC 8201 5.4 and RFC 5927: a packet in flight was too big for a link further on.
    let segment = six::tcp(
        s.us,
        s.peer,
        &Repr { seq: netd::wire::tcp::Seq(iss + 1), ..seg(80, 5000) },
        &[7; 1440],
    );
    let packet = segment[14..214].to_vec();
    router_says(&mut s, 2, 0, 1400, &packet);
    s.pass(1);
    let (repr, data) = s.next_tcp();
    assert_eq!((repr.seq.0, data.len()), (iss + 1, 1340), "again, in what the link carries");
}

#[test]
fn a_connection_goes_out_and_is_refused() {
    let mut s = Six::ready();
    let id = s.host.open(Kind::Tcp);
    s.host.connect(id, "[fe80::ff:fe00:2]:5000").unwrap();
    s.settle();
    let (syn, _) = s.next_tcp();
    assert_eq!((syn.flags, syn.options.mss), (Flags::SYN, Some(1440)));
    let reset = Repr { ack: syn.seq + 1, flags: Flags::RST | Flags::ACK, ..seg(5000, syn.src) };
    s.segment(&reset, &[]);
    assert_eq!(s.host.progs[0].record(id).error(), Some(Error::ConnectionRefused));
    // And ours to a port where nobody listens.
    s.segment(&to_80(Flags::SYN, 9, 0), &[]);
    let (repr, _) = s.next_tcp();
    assert_eq!((repr.flags, repr.ack.0), (Flags::RST | Flags::ACK, 10));
}

/// RFC 3493 3.7, 5.3: a socket bound to any address of IPv6 takes IPv4, too, unless V6ONLY is set.
#[test]
fn a_socket_takes_both_families_unless_it_is_told_not_to() {
    let mut s = Six::ready();
    let id = udp_on(&mut s, "[::]:7");
    let four = |s: &mut Six| {
        let (us, peer) = (common::frames::End::number(1), common::frames::End::number(2));
        s.send(&common::frames::udp_frame(peer, us, 5000, 7, b"four"));
    };
    four(&mut s);
    let (from, data) = recv(&mut s.host.progs[0], id).unwrap();
    assert_eq!((from, &data[..]), ("10.0.0.2:5000".parse().unwrap(), &b"four"[..]));
    s.send(&six::udp(s.peer, s.us, 5000, 7, b"six"));
    assert_eq!(recv(&mut s.host.progs[0], id).unwrap().1, b"six");
    let other = s.host.open(Kind::Udp);
    assert_eq!(s.host.bind(other, "0.0.0.0:7"), Err(Error::AddrInUse));
    let only = s.host.open(Kind::Udp);
    let options = &s.host.progs[0].app(only).options;
    options.store(libipc::sock::option::V6ONLY, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(s.host.bind(only, "[::]:7"), Err(Error::AddrInUse));
    assert!(s.host.bind(only, "[::]:8").is_ok() && s.host.bind(other, "0.0.0.0:8").is_ok());
    s.host.crash();
    s.pass(1);
    let third = s.host.open(Kind::Udp);
    assert_eq!(s.host.bind(third, "10.0.0.1:7"), Err(Error::AddrInUse), "after a crash, too");
    assert_eq!(s.host.connect(only, "10.0.0.2:9"), Err(Error::NetworkUnreachable));
    assert_eq!(s.host.connect(other, "[fe80::ff:fe00:2]:9"), Err(Error::Unsupported));
}

#[test]
fn the_loop_carries_ipv6() {
    let mut s = Six::new(Addressing6::Auto);
    let (a, b) = (udp_on(&mut s, "[::1]:7"), udp_on(&mut s, "[::]:8"));
    send(&mut s.host.progs[0], b, Some("[::1]:7"), &[9; 3000]);
    s.settle();
    let (from, data) = recv(&mut s.host.progs[0], a).unwrap();
    assert_eq!((from, data.len()), ("[::1]:8".parse().unwrap(), 3000));
}

#[test]
fn without_ipv6_nothing_of_it_is_said_or_heard() {
    let mut s = Six::new(Addressing6::Off);
    s.pass(60_000);
    s.send(&six::echo(s.peer, s.us, false, 1, 1, b""));
    s.send(&six::echo(s.peer, End6::group("ff02::1"), false, 1, 1, b""));
    s.nothing();
    let id = s.host.open(Kind::Tcp);
    assert_eq!(s.host.connect(id, "[fe80::ff:fe00:2]:80"), Err(Error::Unsupported));
    assert_eq!(s.host.progs[0].state(id), State::Open);
    assert!(ipv6::scope(s.us.ip) == 2);
}
