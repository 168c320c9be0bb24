//! IPv4 on the wire: fragments both ways, time limits, what errors quote, path MTUs, redirects,
//! neighbours, groups.

mod common;

use common::frames::{End, Frame, arp_frame, dissect, echo_frame, ip_frame, udp_frame};
use common::script::Script;
use common::{HostSpec, MS, Prog, S};
use libipc::net::Request;
use libipc::sock::{Dgram, Error, Kind, On, ip_from_words, option};
use netd::Addressing;
use netd::wire::arp::{self, Op};
use netd::wire::checksum::Sum;
use netd::wire::ethernet::{self, EtherType, Mac};
use netd::wire::{ipv4, udp};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering::*;

/// A frame of `repr` as it is, with `options` and `payload`.
fn raw(from: End, to: Mac, repr: ipv4::Repr, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut eth = [0; ethernet::HEADER];
    ethernet::Repr { dst: to, src: from.mac, ty: EtherType::Ipv4 }.emit(&mut eth);
    let mut head = [0; ipv4::HEADER_MAX];
    let repr = ipv4::Repr { payload_len: payload.len() as u16, ..repr };
    let start = repr.emit_with(options, &mut head).unwrap();
    let mut frame = [&eth[..], &head[start..], payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The payload of a whole IP packet in frames of `size` bytes of payload.
fn fragments(s: &Script, id: u16, protocol: u8, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let repr =
        ipv4::Repr { id, dont_fragment: false, ..ipv4::Repr::new(s.peer.ip, s.us.ip, protocol, 0) };
    (0..payload.len())
        .step_by(size)
        .map(|at| {
            let end = (at + size).min(payload.len());
            let piece = ipv4::Repr { offset: at as u16, more: end < payload.len(), ..repr };
            raw(s.peer, s.us.mac, piece, &[], &payload[at..end])
        })
        .collect()
}

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// An ICMP or UDP payload cut out of a frame of the test's own making.
fn transport(frame: &[u8]) -> Vec<u8> {
    let end = 14 + u16::from_be_bytes([frame[16], frame[17]]) as usize;
    frame[34..end].to_vec()
}

/// A UDP datagram, longer than a frame.
fn long_udp(s: &Script, src: u16, dst: u16, data: &[u8]) -> Vec<u8> {
    let mut head = [0; 8];
    udp::Repr { src, dst, payload_len: data.len() as u16, has_checksum: true }.emit(&mut head);
    let mut all = [&head[..], data].concat();
    let sum = Sum::pseudo(s.peer.ip.into(), s.us.ip.into(), 17, all.len() as u16).bytes(&all);
    all[6..8].copy_from_slice(&sum.finish());
    all
}

/// Puts fragments that were sent together: header of the first, payload.
fn together(frames: &[Vec<u8>]) -> (ipv4::Repr, Vec<u8>) {
    let mut whole = Vec::new();
    let mut first = None;
    for frame in frames {
        let (repr, len) = ipv4::Repr::parse(&frame[14..], frame.len() - 14).unwrap();
        assert!(frame.len() <= 1514 && repr.offset as usize == whole.len());
        whole.extend(&frame[14 + len..14 + len + repr.payload_len as usize]);
        let first = first.get_or_insert(repr);
        assert_eq!((first.id, first.src, repr.dont_fragment), (repr.id, repr.src, false));
    }
    let first = first.unwrap();
    let (last, _) = ipv4::Repr::parse(&frames.last().unwrap()[14..], 1500).unwrap();
    assert!(!last.more, "the last says so");
    (first, whole)
}

fn put(p: &mut Prog, id: u16, header: Dgram, data: &[u8]) {
    let mut bytes = Dgram { len: data.len() as u16, ..header }.to_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(Dgram::space(data.len()) as usize, 0);
    p.put_dgram(id, &bytes);
    p.submit(id);
}

fn recv(p: &mut Prog, id: u16) -> Option<(Dgram, Vec<u8>)> {
    let bytes = p.peek_ring(id, Dgram::BYTES as u64)?;
    let header = Dgram::from_bytes(bytes[..].try_into().unwrap());
    let all = p.peek_ring(id, Dgram::space(header.len as usize))?;
    p.took_dgram(id, all.len() as u64);
    p.submit(id);
    Some((header, all[Dgram::BYTES..][..header.len as usize].to_vec()))
}

fn to(addr: &str) -> Dgram {
    Dgram::new(Some(addr.parse::<SocketAddr>().unwrap()), 0)
}

fn big() -> HostSpec {
    HostSpec { rx_bits: 17, tx_bits: 17, ..HostSpec::fixed(1) }
}

/// A UDP socket on port 7, in a host with room for the longest datagrams; the peer is known.
fn udp_socket() -> Script {
    let mut s = Script::with(big());
    s.id = s.host.open(Kind::Udp);
    s.host.bind(s.id, "0.0.0.0:7").unwrap();
    s.send_frame(&udp_frame(s.peer, s.us, 9, 7, b"hello"));
    assert_eq!(recv(&mut s.host.progs[0], s.id).unwrap().1, b"hello");
    meet(&mut s);
    s
}

/// The peer makes itself known.
fn meet(s: &mut Script) {
    let ask = arp::Repr {
        op: Op::Request,
        sender_mac: s.peer.mac,
        sender: s.peer.ip,
        target_mac: Mac([0; 6]),
        target: s.us.ip,
    };
    assert!(s.host.receive(&arp_frame(Mac::BROADCAST, &ask)));
    frames(s);
}

/// What the stack sends, as it is.
fn frames(s: &mut Script) -> Vec<Vec<u8>> {
    s.host.settle();
    s.host.transmitted()
}

/// RFC 791 3.2, RFC 768: the longest datagram there is, both ways.
#[test]
fn the_longest_datagram_comes_and_goes_in_fragments() {
    let mut s = udp_socket();
    for len in [1473, 1480, 3000, 65_507] {
        let question = long_udp(&s, 9, 7, &data(len));
        let mut pieces = fragments(&s, len as u16, 17, &question, 1480);
        pieces.rotate_left(1);
        for piece in pieces {
            assert!(s.host.receive(&piece));
            s.host.settle();
        }
        let (header, got) = recv(&mut s.host.progs[0], s.id).expect("put together");
        assert!(got == data(len) && header.port == 9);
        put(&mut s.host.progs[0], s.id, header, &got);
        let (repr, back) = together(&frames(&mut s));
        assert_eq!((repr.dst, back.len()), (s.peer.ip, len + 8));
        assert!(back[8..] == data(len)[..]);
        let pseudo = Sum::pseudo(repr.src.into(), repr.dst.into(), 17, back.len() as u16);
        assert!(pseudo.bytes(&back).is_intact(), "summed as a whole");
    }
    let c = s.host.stack().counters();
    assert_eq!((c.reassembled, c.reassembly_fails), (4, 0));
}

/// RFC 1122 3.2.2.6: an echo reply is as long as the request.
#[test]
fn a_long_ping_is_answered_in_fragments() {
    let mut s = Script::with(big());
    meet(&mut s);
    let mut message = [&[8, 0, 0, 0, 0, 1, 0, 2][..], &data(60_000)].concat();
    let sum = Sum::ZERO.bytes(&message).finish();
    message[2..4].copy_from_slice(&sum);
    for piece in fragments(&s, 77, 1, &message, 1480) {
        assert!(s.host.receive(&piece));
    }
    let (_, back) = together(&frames(&mut s));
    assert!(back[0] == 0 && back[4..] == message[4..] && Sum::ZERO.bytes(&back).is_intact());
}

/// RFC 5722, as Linux has it for IPv4: an overlap ends the packet, an exact repetition does not.
#[test]
fn overlaps_end_a_packet_and_repetitions_do_not() {
    let mut s = udp_socket();
    let question = long_udp(&s, 9, 7, &data(2000));
    let pieces = fragments(&s, 1, 17, &question, 800);
    for piece in [&pieces[0], &pieces[0], &pieces[1], &pieces[2]] {
        s.host.receive(piece);
    }
    s.host.settle();
    assert_eq!(recv(&mut s.host.progs[0], s.id).unwrap().1, data(2000));
    let other = fragments(&s, 1, 17, &question, 808);
    for piece in [&pieces[0], &other[1], &pieces[1], &pieces[2]] {
        s.host.receive(piece);
    }
    s.host.settle();
    assert!(recv(&mut s.host.progs[0], s.id).is_none());
    let c = s.host.stack().counters();
    assert_eq!((c.reassembly_duplicates, c.reassembly_overlaps), (1, 1));
}

/// RFC 1122 3.3.2: after 30 s (Linux) the sender of the first fragment is told.
#[test]
fn missing_fragments_are_told_after_thirty_seconds_if_the_first_has_come() {
    let mut s = udp_socket();
    let pieces = fragments(&s, 3, 17, &long_udp(&s, 9, 7, &data(3000)), 1000);
    let second = fragments(&s, 4, 17, &long_udp(&s, 9, 7, &data(3000)), 1000);
    s.host.receive(&pieces[0]);
    s.host.receive(&second[1]);
    s.pass(29_990);
    s.nothing();
    s.pass(50);
    let Some((_, Frame::Icmp(ip, message))) = s.sent.pop_front() else { panic!("time exceeded") };
    assert_eq!(
        (message[..8].to_vec(), ip.tos),
        (vec![11, 1, message[2], message[3], 0, 0, 0, 0], 0xc0)
    );
    assert_eq!(message[8..], pieces[0][14..14 + 548], "as it arrived");
    s.nothing();
    for piece in &pieces[1..] {
        s.host.receive(piece);
    }
    s.pass(31_000);
    s.nothing();
    assert!(recv(&mut s.host.progs[0], s.id).is_none());
}

/// RFC 3168 5.3.
#[test]
fn marks_of_fragments_are_kept_and_mixtures_are_dropped() {
    for (tos, arrives) in [([2, 3], Some(3)), ([2, 2], Some(2)), ([0, 3], None)] {
        let mut s = udp_socket();
        let question = long_udp(&s, 9, 7, &data(1000));
        let repr =
            ipv4::Repr { dont_fragment: false, ..ipv4::Repr::new(s.peer.ip, s.us.ip, 17, 0) };
        let first = ipv4::Repr { more: true, tos: tos[0], ..repr };
        let second = ipv4::Repr { offset: 504, tos: tos[1], ..repr };
        s.host.receive(&raw(s.peer, s.us.mac, first, &[], &question[..504]));
        s.host.receive(&raw(s.peer, s.us.mac, second, &[], &question[504..]));
        s.host.settle();
        assert_eq!(recv(&mut s.host.progs[0], s.id).map(|(h, _)| h.tos & 3), arrives, "{tos:?}");
    }
}

/// RFC 1812 4.3.2.3: an error quotes as much as fits into 576 bytes; its TOS (RFC 1812 4.3.2.5).
#[test]
fn errors_quote_five_hundred_forty_eight_bytes() {
    let mut s = Script::new();
    let question = udp_frame(s.peer, s.us, 9, 9, &data(1400));
    s.send_frame(&question);
    let Some((_, Frame::Icmp(ip, message))) = s.sent.pop_front() else { panic!() };
    assert_eq!((ip.tos, ip.ttl, ip.dont_fragment, message.len()), (0xc0, 64, false, 556));
    assert_eq!(message[8..], question[14..14 + 548]);
    // With options of its own it quotes less, and brings the route back.
    let repr = ipv4::Repr::new(s.peer.ip, s.us.ip, 17, 0);
    let options = [7, 7, 4, 0, 0, 0, 0, 0];
    let packet = raw(s.peer, s.us.mac, repr, &options, &transport(&question));
    s.host.receive(&packet);
    let sent = frames(&mut s);
    assert_eq!((sent[0].len(), sent[0][14]), (14 + 576, 0x47));
    assert_eq!(sent[0][34..42], [7, 7, 8, 10, 0, 0, 1, 0]);
}

/// RFC 1122 3.2.2.8.
#[test]
fn timestamps_are_answered() {
    let mut s = Script::new();
    let mut ask = vec![13, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0];
    let sum = Sum::ZERO.bytes(&ask).finish();
    ask[2..4].copy_from_slice(&sum);
    s.send_frame(&ip_frame(s.peer, s.us, 1, &ask));
    let Some((_, Frame::Icmp(_, m))) = s.sent.pop_front() else { panic!() };
    assert_eq!((m[0], &m[4..12], m.len()), (14, &ask[4..12], 20));
    assert_eq!((m[12] >> 7, &m[12..16]), (1, &m[16..20]), "no clock: under the bit that says so");
}

/// Answers go by route and neighbour, wherever the frame came from (RFC 1122 3.3.1), and wait for the
/// neighbour's address.
#[test]
fn an_answer_goes_to_the_neighbour_not_to_the_frames_source() {
    let mut s = Script::with(HostSpec::fixed(1));
    let stranger = End { mac: Mac([2, 0, 0, 0, 0, 77]), ip: Ipv4Addr::new(10, 0, 0, 50) };
    s.host.receive(&echo_frame(stranger, s.us, false, 1, 1, b"where am I?"));
    let sent = frames(&mut s);
    assert!(sent.len() == 1 && sent[0][12..14] == [8, 6], "asks first: {sent:?}");
    let real = Mac([2, 0, 0, 0, 0, 50]);
    let answer = arp::Repr {
        op: Op::Reply,
        sender_mac: real,
        sender: stranger.ip,
        target_mac: s.us.mac,
        target: s.us.ip,
    };
    s.host.receive(&arp_frame(s.us.mac, &answer));
    let sent = frames(&mut s);
    assert!(matches!(dissect(&sent[0]), Frame::Icmp(..)) && sent[0][..6] == real.0);
    // Beyond every route there is no answer.
    let far = End { ip: Ipv4Addr::new(192, 0, 2, 1), ..stranger };
    s.host.receive(&echo_frame(far, s.us, false, 1, 1, b"hello"));
    assert!(frames(&mut s).is_empty());
    assert_eq!(s.host.stack().counters().tx_no_route, 1);
}

/// Packets of no socket wait in a bounded pool (Linux: `unres_qlen`), the oldest gives way.
#[test]
fn what_waits_for_a_neighbour_is_bounded() {
    let mut s = Script::new();
    let silent = End { ip: Ipv4Addr::new(10, 0, 0, 50), ..s.peer };
    for seq in 0..100 {
        s.host.receive(&echo_frame(silent, s.us, false, 1, seq, b"x"));
        s.host.settle();
    }
    let answer = arp::Repr {
        op: Op::Reply,
        sender_mac: s.peer.mac,
        sender: silent.ip,
        target_mac: s.us.mac,
        target: s.us.ip,
    };
    s.host.receive(&arp_frame(s.us.mac, &answer));
    let sent = frames(&mut s);
    let seqs: Vec<u16> = sent
        .iter()
        .filter_map(|f| match dissect(f) {
            Frame::Icmp(_, m) => Some(u16::from_be_bytes([m[6], m[7]])),
            _ => None,
        })
        .collect();
    assert_eq!(seqs, (84..100).collect::<Vec<_>>());
    assert_eq!(s.host.stack().counters().tx_unresolved, 84);
}

/// RFC 4861 7.3.2, as Linux does for ARP: STALE, DELAY after use, PROBE by unicast.
#[test]
fn a_neighbour_in_use_is_probed_where_it_was() {
    let mut s = udp_socket();
    put(&mut s.host.progs[0], s.id, to("10.0.0.2:9"), b"used");
    assert_eq!(frames(&mut s).len(), 1, "known from its question: nothing is asked");
    let mut asked = Vec::new();
    for step in 1..=90 {
        s.host.now += 100 * MS;
        s.host.settle();
        asked.extend(s.host.transmitted().into_iter().map(|f| (step, f)));
    }
    let at: Vec<_> = asked.iter().map(|(step, _)| *step / 10).collect();
    assert_eq!(at, [5, 6, 7], "after five seconds, three times: {at:?}");
    assert!(asked.iter().all(|(_, f)| f[..6] == s.peer.mac.0 && f[20..22] == [0, 1]), "unicast");
    // It did not answer: the next datagram asks everybody.
    put(&mut s.host.progs[0], s.id, to("10.0.0.2:9"), b"where?");
    let sent = frames(&mut s);
    assert!(sent.len() == 1 && sent[0][..6] == [0xff; 6] && sent[0][12..14] == [8, 6]);
}

/// RFC 1191 3, RFC 5927 7: a smaller path MTU is believed from who quotes our datagram.
#[test]
fn a_path_with_a_smaller_mtu_gets_fragments() {
    let mut s = udp_socket();
    s.host.connect(s.id, "10.0.0.2:9").unwrap();
    put(&mut s.host.progs[0], s.id, Dgram::default(), &data(1400));
    let sent = frames(&mut s);
    let (repr, _) = ipv4::Repr::parse(&sent[0][14..], 1500).unwrap();
    assert!(repr.dont_fragment, "so that a smaller one is learnt");
    let too_big = |quoted: &[u8], mtu: u16| {
        let [high, low] = mtu.to_be_bytes();
        let mut m = [&[3, 4, 0, 0, 0, 0, high, low][..], quoted].concat();
        let sum = Sum::ZERO.bytes(&m).finish();
        m[2..4].copy_from_slice(&sum);
        m
    };
    let mut forged = sent[0][14..42].to_vec();
    forged[20] ^= 1;
    s.host.receive(&ip_frame(s.peer, s.us, 1, &too_big(&forged, 1000)));
    put(&mut s.host.progs[0], s.id, Dgram::default(), &data(1400));
    assert_eq!(frames(&mut s).len(), 1, "from a port that we have not");
    s.host.receive(&ip_frame(s.peer, s.us, 1, &too_big(&sent[0][14..42], 1000)));
    s.host.settle();
    assert_eq!(s.error(), Some(Error::MessageTooLong), "Linux tells a connected socket");
    put(&mut s.host.progs[0], s.id, Dgram::default(), &data(1400));
    let sent = frames(&mut s);
    assert_eq!(sent.iter().map(|f| f.len() - 34).collect::<Vec<_>>(), [976, 432]);
    // IP_PMTUDISC_DO: refused. After ten minutes it is tried anew.
    s.host.progs[0].app(s.id).options.store(option::PMTU_DO, Relaxed);
    put(&mut s.host.progs[0], s.id, Dgram::default(), &data(1400));
    assert!(frames(&mut s).is_empty());
    s.host.now += 601 * S;
    meet(&mut s);
    put(&mut s.host.progs[0], s.id, Dgram::default(), &data(1400));
    assert_eq!(frames(&mut s).len(), 1);
}

/// RFC 1122 3.2.2.2: a redirect of the gateway in use counts, of anybody else not.
#[test]
fn a_redirect_of_the_gateway_is_followed() {
    let Addressing::Static { addr, prefix, dns, .. } = HostSpec::fixed(1).addressing else {
        panic!()
    };
    let gateway = Some(Ipv4Addr::new(10, 0, 0, 2));
    let mut s = Script::with(HostSpec {
        addressing: Addressing::Static { addr, prefix, gateway, dns },
        ..HostSpec::fixed(1)
    });
    s.id = s.host.open(Kind::Udp);
    s.host.connect(s.id, "192.0.2.1:9").unwrap();
    put(&mut s.host.progs[0], s.id, Dgram::default(), b"by the gateway");
    s.settle();
    let Some((_, Frame::Udp(ip, udp, _))) = s.sent.pop_front() else { panic!() };
    let mut header = [0; 20];
    ip.emit(&mut header);
    let redirect = |gateway: [u8; 4]| {
        let mut m =
            [&[5, 1, 0, 0][..], &gateway, &header, &udp.src.to_be_bytes(), &[0, 9, 0, 22, 0, 0]]
                .concat();
        let sum = Sum::ZERO.bytes(&m).finish();
        m[2..4].copy_from_slice(&sum);
        m
    };
    let other = End { mac: Mac([2, 0, 0, 0, 0, 3]), ip: Ipv4Addr::new(10, 0, 0, 3) };
    for (from, gateway, asked) in [
        (other, [10, 0, 0, 3], None),
        (s.peer, [192, 0, 2, 254], None),
        (s.peer, [10, 0, 0, 3], Some([10, 0, 0, 3])),
    ] {
        s.host.receive(&ip_frame(from, s.us, 1, &redirect(gateway)));
        put(&mut s.host.progs[0], s.id, Dgram::default(), b"x");
        let sent = frames(&mut s);
        match asked {
            None => assert_eq!(sent[0][12..14], [8, 0], "still by the gateway"),
            Some(ip) => assert_eq!((&sent[0][12..14], &sent[0][38..42]), (&[8, 6][..], &ip[..])),
        }
    }
}

/// RFC 3376: joining is told twice, answered on demand, and its end is told.
#[test]
fn groups_are_joined_heard_told_and_left() {
    let mut s = Script::with(big());
    let (a, b) = (s.host.open(Kind::Udp), s.host.open(Kind::Udp));
    s.host.bind(a, "0.0.0.0:5353").unwrap();
    let group: Ipv4Addr = "224.0.0.251".parse().unwrap();
    let sock = s.host.progs[0].sock(a);
    let ask = |s: &mut Script, join| {
        s.host.ask(Request::Membership { sock, group: group.into(), on: On::Any, join }).map(|_| ())
    };
    let to_group = End { mac: Mac::of_group(group.into()), ip: group };
    s.host.receive(&udp_frame(s.peer, to_group, 9, 5353, b"too early"));
    s.host.settle();
    assert_eq!(ask(&mut s, false), Err(Error::AddrNotAvailable));
    assert_eq!(ask(&mut s, true), Ok(()));
    assert_eq!(ask(&mut s, true), Err(Error::AddrInUse));
    assert!(s.host.groups().contains(&to_group.mac.0), "the NIC takes its frames");
    let reports = |s: &mut Script, ms: u64| -> Vec<Vec<u8>> {
        let end = s.host.now + ms * MS;
        let mut all = Vec::new();
        while s.host.now < end {
            s.host.now += 10 * MS;
            all.extend(frames(s).into_iter().filter(|f| f[23] == 2));
        }
        all
    };
    let told = reports(&mut s, 1500);
    assert_eq!(told.len(), 2);
    for f in &told {
        assert_eq!((&f[..6], &f[30..34]), (&[1, 0, 0x5e, 0, 0, 22][..], &[224, 0, 0, 22][..]));
        assert_eq!((f[14], f[15], f[22]), (0x46, 0xc0, 1), "router alert, precedence, TTL 1");
        assert_eq!(f[34..38], [148, 4, 0, 0]);
        assert_eq!((f[38], f[46], &f[50..54]), (0x22, 4, &group.octets()[..]), "CHANGE_TO_EXCLUDE");
    }
    s.host.receive(&udp_frame(s.peer, to_group, 9, 5353, b"to all members"));
    s.host.settle();
    let (header, got) = recv(&mut s.host.progs[0], a).unwrap();
    assert_eq!(
        (got.as_slice(), ip_from_words(header.local)),
        (&b"to all members"[..], group.into())
    );
    // What this host sends comes back to its own members; TTL 1.
    put(&mut s.host.progs[0], b, to("224.0.0.251:5353"), b"from here");
    let sent = frames(&mut s);
    assert!(sent.iter().any(|f| f[..6] == to_group.mac.0 && f[22] == 1 && f[23] == 17));
    assert_eq!(recv(&mut s.host.progs[0], a).unwrap().1, b"from here");
    // A query is answered; memberships outlive netd.
    s.host.crash();
    reports(&mut s, 3000);
    let mut query = [0x11, 10, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0];
    let sum = Sum::ZERO.bytes(&query).finish();
    query[2..4].copy_from_slice(&sum);
    let all =
        End { mac: Mac::of_group("224.0.0.1".parse().unwrap()), ip: Ipv4Addr::new(224, 0, 0, 1) };
    s.host.receive(&ip_frame(s.peer, all, 2, &query));
    let told = reports(&mut s, 1100);
    assert!(told.len() == 1 && told[0][46] == 2, "MODE_IS_EXCLUDE: {told:?}");
    s.host.close(a);
    let told = reports(&mut s, 1500);
    assert!(told.len() == 2 && told[0][46] == 3, "CHANGE_TO_INCLUDE");
    assert!(!s.host.groups().contains(&to_group.mac.0));
}

/// Options of one datagram: TTL, TOS, source.
#[test]
fn a_datagram_says_how_it_is_sent() {
    let mut s = udp_socket();
    let own = Dgram { ttl: 3, tos: 0xb8, flags: Dgram::TOS, ..to("10.0.0.2:9") };
    let stolen = Dgram {
        flags: Dgram::SOURCE,
        local: libipc::sock::ip_words("10.0.0.9".parse().unwrap()),
        ..to("10.0.0.2:9")
    };
    s.host.progs[0].app(s.id).ttl.store(9, Relaxed);
    s.host.progs[0].app(s.id).tos.store(4, Relaxed);
    for (header, sent_as) in
        [(own, Some((3, 0xb8))), (to("10.0.0.2:9"), Some((9, 4))), (stolen, None)]
    {
        put(&mut s.host.progs[0], s.id, header, b"x");
        let sent = frames(&mut s);
        assert_eq!(sent.first().map(|f| (f[22], f[15])), sent_as);
    }
    assert_eq!(s.error(), Some(Error::Invalid), "not from an address of somebody else");
}

/// RFC 4861 7.3.1: an ACK of new data is a sign of life of the neighbour, which need not be asked.
#[test]
fn a_connection_that_goes_on_needs_no_probes() {
    let mut s = Script::accepted();
    let before = s.host.stack().counters().tx_frames;
    for round in 0..300u32 {
        s.write(10);
        s.sent.clear();
        s.send("A", 1, 1 + 10 * (round + 1), &[]);
        s.pass(400);
    }
    let sent = s.host.stack().counters().tx_frames - before;
    assert_eq!(sent, 300, "the segments of two minutes and nothing else");
}
