//! The short ways (header prediction, headers written in one go, ways that are remembered) are ways, not
//! other behaviour: with all of them off the same frames leave at the same times.

mod common;

use common::net::{Net, Weather};
use common::talk::{Talk, converse};
use common::{Host, HostSpec, MS, Rng, S};
use libipc::counters::Counters;
use libipc::sock::{Dgram, Kind};
use netd::Settings;

/// What was on the wire, then what datagrams the programs took, and what each host counted.
type Story = (Vec<(u64, usize, Vec<u8>)>, Vec<Counters>);

fn two(seed: u64, long_way: bool) -> Net {
    let mut rng = Rng(seed);
    let weather = match seed % 3 {
        0 => Weather::FINE,
        1 => Weather::BAD,
        _ => Weather { corruption: 200, jitter: rng.below(3 * MS), ..Weather::FINE },
    };
    let settings = Settings { long_way, ..Settings::default() };
    let (offload, bits) = (rng.chance(700), 12 + rng.below(4) as u8);
    let spec =
        |n| HostSpec { offload, tx_bits: bits, rx_bits: bits, settings, ..HostSpec::fixed(n) };
    let mut net = Net::new(vec![Host::new(spec(1)), Host::new(spec(2))], weather, seed);
    net.all = Some(Vec::new());
    net
}

fn story(net: &mut Net) -> Story {
    let all = net.all.take().expect("asked for");
    (all, net.hosts.iter_mut().map(|h| h.stack().counters()).collect())
}

/// Streams both ways.
fn streams(seed: u64, long_way: bool) -> Story {
    let mut net = two(seed, long_way);
    let talk = Talk::begin(&mut net, [0, 1], "10.0.0.2:80", 4, 20_000, 60_000);
    converse(&mut net, &mut [talk], seed, |_| {});
    story(&mut net)
}

/// A stream that has come to a large window and pauses, and goes on with a few bytes or with many.
fn pauses(seed: u64, long_way: bool) -> Story {
    let settings = Settings { long_way, ..Settings::default() };
    let spec = |n| HostSpec { tx_bits: 17, rx_bits: 17, settings, ..HostSpec::fixed(n) };
    let mut net = Net::new(vec![Host::new(spec(1)), Host::new(spec(2))], Weather::FINE, seed);
    let listener = net.hosts[1].listen(80, 1);
    let id = net.hosts[0].open(Kind::Tcp);
    net.hosts[0].connect(id, "10.0.0.2:80").unwrap();
    net.run(S, &mut |_| false);
    let (peer, _) = net.hosts[1].accept(listener).unwrap();
    let read = |net: &mut Net| {
        let prog = &mut net.hosts[1].progs[0];
        if !prog.read(peer, 1 << 17).is_empty() {
            prog.submit(peer);
        }
        false
    };
    net.all = Some(Vec::new());
    for (n, len) in [100_000; 6].into_iter().chain([3, 100_000, 90_000, 1, 120_000]).enumerate() {
        net.hosts[0].progs[0].write(id, &vec![n as u8; len]);
        net.hosts[0].progs[0].submit(id);
        let pause = if n < 5 { 0 } else { 500 * MS + seed * 100 * MS };
        let until = net.now + 100 * MS + pause;
        net.run(until, &mut |net| read(net));
    }
    story(&mut net)
}

/// Datagrams or echo requests both ways, of every length around the least frame and some longer. `head`: what their
/// data begins with.
fn datagrams_of(kind: Kind, head: &[u8], seed: u64, long_way: bool) -> Story {
    let mut net = two(seed, long_way);
    let ends = [0, 1].map(|i| {
        let id = net.hosts[i].open(kind);
        net.hosts[i].bind(id, "0.0.0.0:7").unwrap();
        id
    });
    let mut taken = Vec::new();
    for round in 0..60 {
        for (i, id) in ends.into_iter().enumerate() {
            let to = format!("10.0.0.{}:7", 2 - i).parse().unwrap();
            let mut data = head.to_vec();
            data.resize(head.len() + round * (1 + round / 30 * 30), round as u8);
            let prog = &mut net.hosts[i].progs[0];
            // With the entry's header as netd wrote it.
            while let Some(header) = prog.peek_ring(id, Dgram::BYTES as u64) {
                taken.push((net.now, i, [header, prog.recv_from(id).expect("peeked").1].concat()));
            }
            if prog.dgram_room(id) > data.len() as u64 + 100 {
                prog.put_to(id, Some(to), &data);
            }
            prog.submit(id);
        }
        let next = net.now + if round % 20 == 0 { 40 * S } else { 3 * MS };
        net.run(next, &mut |_| false);
    }
    assert!(taken.len() > 20, "datagrams arrive");
    let (mut wire, counters) = story(&mut net);
    wire.extend(taken);
    (wire, counters)
}

fn datagrams(seed: u64, long_way: bool) -> Story {
    datagrams_of(Kind::Udp, &[], seed, long_way)
}

fn echoes(seed: u64, long_way: bool) -> Story {
    datagrams_of(Kind::Ping, &[0, 0, 1, 2], seed, long_way)
}

fn same(what: fn(u64, bool) -> Story, seeds: u64) {
    for seed in 0..seeds {
        let ((short, counted), (long, also)) = (what(seed, false), what(seed, true));
        for (i, (a, b)) in short.iter().zip(&long).enumerate() {
            assert_eq!(a, b, "frame {i} of seed {seed}");
        }
        assert_eq!(short.len(), long.len(), "frames of seed {seed}");
        assert_eq!(counted, also, "seed {seed}");
        assert!(short.len() > 20, "seed {seed}: something was sent");
    }
}

#[test]
fn streams_are_the_same_either_way() {
    same(streams, 60);
}

#[test]
fn pauses_are_the_same_either_way() {
    same(pauses, 8);
}

#[test]
fn datagrams_are_the_same_either_way() {
    same(datagrams, 30);
}

#[test]
fn echoes_are_the_same_either_way() {
    same(echoes, 30);
}
