//! Packet taps: what filters want, and what a tap gets.

mod common;

use common::frames::{End, echo_frame, seg, tcp_frame, udp_frame};
use common::net::{Net, Weather};
use common::talk::{Talk, act, world};
use common::{Host, HostSpec, S};
use libipc::sock::filter::Insn;
use libipc::sock::{Dgram, Error, Kind};
use netd::bpf::Program;
use userland::filter::{Error as FilterError, compile};

fn wants(filter: &str, frame: &[u8]) -> bool {
    let code = compile(filter).unwrap_or_else(|e| panic!("{filter}: {e}"));
    let program = Program::new(code.into_iter()).unwrap_or_else(|e| panic!("{filter}: {e:?}"));
    program.run(frame.len() as u32, |at, size| {
        let bytes = frame.get(at as usize..)?.get(..size as usize)?;
        Some(bytes.iter().fold(0, |v, b| v << 8 | *b as u32))
    }) > 0
}

/// Frame number, with the filters that want it.
#[test]
fn words_mean_what_they_mean_to_tcpdump() {
    let (a, b) = (End::number(1), End::number(2));
    let tcp = tcp_frame(a, b, &seg(5000, 80), b"data");
    let udp = udp_frame(b, a, 53, 6000, b"answer");
    let icmp = echo_frame(a, b, false, 1, 1, b"ping");
    let mut fragment = tcp.clone();
    fragment[20..22].copy_from_slice(&[0, 100]);
    let mut arp = vec![0xff; 60];
    arp[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp[28..32].copy_from_slice(&[10, 0, 0, 1]);
    let mut v6 = vec![0; 74];
    v6[12..14].copy_from_slice(&[0x86, 0xdd]);
    v6[20] = 6;
    v6[22..24].copy_from_slice(&[0xfe, 0x80]);
    v6[37] = 1;
    v6[54..58].copy_from_slice(&[0x13, 0x88, 0, 80]);
    let frames = [&tcp, &udp, &icmp, &fragment, &arp, &v6];
    let cases = [
        ("", "tuifa6"),
        ("tcp", "tf6"),
        ("udp", "u"),
        ("icmp", "i"),
        ("arp", "a"),
        ("ip", "tuif"),
        ("ip6", "6"),
        ("port 80", "t6"),
        ("src port 80", ""),
        ("dst port 80", "t6"),
        ("udp port 53", "u"),
        ("tcp src port 5000", "t6"),
        ("tcp and not port 80", "f"),
        ("host 10.0.0.1", "tuifa"),
        ("src host 10.0.0.1", "tifa"),
        ("dst host 10.0.0.1", "u"),
        ("net 10.0.0.0/8", "tuifa"),
        ("src net 10.0.0.2/31", "u"),
        ("host fe80::1", "6"),
        ("net fe80::/10", "6"),
        ("net ::/0", "6"),
        ("net fe80::/127", "6"),
        ("net fe80::2/127", ""),
        ("tcp or udp", "tuf6"),
        ("not (tcp or udp)", "ia"),
        ("! tcp && ! udp", "ia"),
        ("tcp and port 80 or icmp", "ti6"),
        ("(icmp or arp) and host 10.0.0.1 and not src port 1", "ia"),
        ("not tcp port 2002 and (tcp port 80 or (icmp and host 10.0.0.1))", "ti6"),
        ("greater 70", "6"),
        ("less 60", "tuifa"),
    ];
    for (filter, expected) in cases {
        let wanted: String = "tuifa6"
            .chars()
            .zip(frames)
            .filter(|(_, f)| wants(filter, f))
            .map(|(c, _)| c)
            .collect();
        assert_eq!(wanted, expected, "{filter:?}");
    }
}

#[test]
fn the_first_wrong_word_is_named() {
    for (words, at) in [
        ("tcp port", 2),
        ("tcp prot 80", 1),
        ("port 65536", 1),
        ("host 10.0.0", 1),
        ("net 10.0.0.0/33", 1),
        ("( tcp", 2),
        ("tcp udp", 1),
        ("and", 0),
        ("not", 1),
        ("less", 1),
    ] {
        assert_eq!(compile(words), Err(FilterError::Word(at)), "{words:?}");
    }
    assert_eq!(compile(&"not ".repeat(40)), Err(FilterError::TooLong));
    assert_eq!(compile(&["tcp port 80"; 30].join(" or ")), Err(FilterError::TooLong));
}

/// The frames in the ring of tap `id` of host `h`: header and bytes.
fn tapped(host: &mut Host, id: u16) -> Vec<(Dgram, Vec<u8>)> {
    let prog = &mut host.progs[0];
    let mut frames = Vec::new();
    while let Some(head) = prog.peek_ring(id, Dgram::BYTES as u64) {
        let header = Dgram::from_bytes(head.as_slice().try_into().unwrap());
        let space = Dgram::space(header.len as usize);
        let all = prog.peek_ring(id, space).expect("whole");
        frames.push((header, all[Dgram::BYTES..][..header.len as usize].to_vec()));
        prog.took_dgram(id, space);
    }
    prog.submit(id);
    frames
}

fn set_filter(host: &mut Host, id: u16, filter: &[Insn]) {
    let bytes: Vec<u8> = filter.iter().flat_map(|i| i.to_bytes()).collect();
    let mut datagram = Dgram { len: bytes.len() as u16, ..Dgram::default() }.to_bytes().to_vec();
    datagram.extend(bytes);
    datagram.resize(datagram.len().next_multiple_of(8), 0);
    host.progs[0].put_dgram(id, &datagram);
    host.progs[0].submit(id);
    host.settle();
}

#[test]
fn a_tap_gets_both_directions_byte_for_byte() {
    let mut net = world(Weather::FINE, 3, false);
    let tap = net.hosts[0].open(Kind::Capture);
    set_filter(&mut net.hosts[0], tap, &compile("").unwrap());
    let mut talks = [Talk::begin(&mut net, [0, 1], "10.0.0.2:80", 2, 3000, 3000)];
    while !net.run(net.now + S, &mut |net| act(net, &mut talks)) {}
    let frames = tapped(&mut net.hosts[0], tap);
    assert!(frames.iter().any(|f| f.0.flags & Dgram::OUTGOING != 0));
    assert!(frames.iter().any(|f| f.0.flags & Dgram::OUTGOING == 0));
    let mut last = 0;
    for (header, bytes) in frames {
        assert!(header.ip[0] >= last && header.len as usize == bytes.len());
        assert_eq!((header.port as usize, header.interface), (bytes.len(), Dgram::NIC));
        last = header.ip[0];
        // Without offload every frame is complete, its checksums too.
        common::frames::dissect(&bytes);
    }
}

#[test]
fn filters_replace_each_other_and_wrong_ones_are_refused() {
    let mut host = Host::new(HostSpec::fixed(1));
    let (us, peer) = (End::number(1), End::number(2));
    let tap = host.open(Kind::Capture);
    set_filter(&mut host, tap, &compile("udp port 9").unwrap());
    // What came and went before it.
    tapped(&mut host, tap);
    let (nine, ten) = (udp_frame(peer, us, 1, 9, b"nine"), udp_frame(peer, us, 1, 10, b"ten"));
    for frame in [&nine, &ten] {
        assert!(host.receive(frame));
    }
    host.settle();
    let seen = tapped(&mut host, tap);
    assert_eq!(seen[0].1, nine);
    // Only the first 20 bytes.
    set_filter(&mut host, tap, &[Insn { code: 6, jt: 0, jf: 0, k: 20 }]);
    assert!(host.receive(&ten));
    host.settle();
    let seen = tapped(&mut host, tap);
    assert_eq!(
        (seen[0].0.len, seen[0].0.port as usize, &seen[0].1[..]),
        (20, ten.len(), &ten[..20])
    );
    // A new netd finds the filter where it was.
    host.crash();
    assert!(host.receive(&ten));
    host.settle();
    assert_eq!(tapped(&mut host, tap)[0].0.len, 20);
    // After one that never returns there is nothing.
    set_filter(&mut host, tap, &[Insn { code: 0, jt: 0, jf: 0, k: 0 }]);
    assert_eq!(host.progs[0].record(tap).error(), Some(Error::Invalid));
    for crash in [false, true] {
        if crash {
            host.crash();
        }
        assert!(host.receive(&ten));
        host.settle();
        assert!(tapped(&mut host, tap).is_empty());
    }
    set_filter(&mut host, tap, &compile("udp").unwrap());
    assert!(host.receive(&ten));
    host.settle();
    assert_eq!(tapped(&mut host, tap).len(), 1);
}

#[test]
fn a_slow_tap_loses_frames_and_nobody_else_does() {
    let spec = HostSpec { rx_bits: 12, ..HostSpec::fixed(1) };
    let mut net = Net::new(vec![Host::new(spec), Host::new(HostSpec::fixed(2))], Weather::FINE, 5);
    let tap = net.hosts[0].open(Kind::Capture);
    set_filter(&mut net.hosts[0], tap, &compile("").unwrap());
    let mut talks = [Talk::begin(&mut net, [0, 1], "10.0.0.2:80", 2, 100_000, 100_000)];
    while !net.run(net.now + S, &mut |net| act(net, &mut talks)) {}
    let record = net.hosts[0].progs[0].record(tap);
    assert!(record.pending.load(std::sync::atomic::Ordering::Relaxed) > 10);
    assert!(!tapped(&mut net.hosts[0], tap).is_empty());
    assert!(net.hosts[0].close(tap));
}

#[test]
fn there_are_so_many_taps_and_closing_one_makes_room() {
    let mut host = Host::new(HostSpec { sockets: 32, ..HostSpec::fixed(1) });
    let taps: Vec<_> = (0..16).map(|_| host.open(Kind::Capture)).collect();
    let id = host.progs[0].id();
    let open = libipc::net::Request::Open {
        sock: host.progs[0].sock(id),
        kind: Kind::Capture,
        rings: host.progs[0].rings(id),
    };
    assert_eq!(host.ask(open.clone()), Err(Error::NoBuffers));
    assert!(host.close(taps[3]));
    assert!(host.ask(open).is_ok());
}
