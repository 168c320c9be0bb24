//! Two stacks on a wire: streams arrive byte for byte, whatever the wire does.

mod common;

use common::net::{Net, Weather};
use common::talk::{Talk, converse, world, world_v6};
use common::{Host, HostSpec};

fn one(net: &mut Net, up: u64, down: u64, seed: u64) {
    let talk = Talk::begin(net, [0, 1], "10.0.0.2:80", 4, up, down);
    converse(net, &mut [talk], seed, |_| {});
}

#[test]
fn fine_weather() {
    for offload in [false, true] {
        let mut net = world(Weather::FINE, 1, offload);
        one(&mut net, 300_000, 1_000_000, 1);
        assert_eq!(net.resets, 0);
        for host in &mut net.hosts {
            assert_eq!(host.stack().counters().retransmits, 0);
            assert_eq!(host.stack().counters().dropped(), 0);
            assert_eq!(host.bursts > 0, offload, "segmentation is left to a NIC that offers it");
        }
    }
}

#[test]
fn bad_weather() {
    for seed in 0..60 {
        let mut net = world(Weather::BAD, seed, seed % 2 == 0);
        one(&mut net, 60_000, 150_000, seed);
    }
}

#[test]
fn one_way_and_empty_streams() {
    for (up, down) in [(0, 0), (1, 0), (0, 100_000), (100_000, 0)] {
        for seed in 100..110 {
            let mut net = world(Weather::BAD, seed, true);
            one(&mut net, up, down, seed);
        }
    }
}

#[test]
fn many_at_once() {
    for seed in 0..4 {
        let spec = |n| HostSpec { sockets: 64, tx_bits: 12, rx_bits: 12, ..HostSpec::fixed(n) };
        let mut net = Net::new(vec![Host::new(spec(1)), Host::new(spec(2))], Weather::BAD, seed);
        let mut talks: Vec<_> = (0..20)
            .map(|i| {
                Talk::begin(&mut net, [0, 1], &format!("10.0.0.2:{}", 80 + i), 2, 20_000, 20_000)
            })
            .collect();
        converse(&mut net, &mut talks, seed, |_| {});
    }
}

#[test]
fn with_ourselves() {
    for addr in ["127.0.0.1:80", "10.0.0.1:80"] {
        let mut net = Net::new(vec![Host::new(HostSpec::fixed(1))], Weather::FINE, 7);
        let talk = Talk::begin(&mut net, [0, 0], addr, 2, 200_000, 200_000);
        converse(&mut net, &mut [talk], 7, |_| {});
        assert_eq!(net.resets, 0);
        let counters = net.hosts[0].stack().counters();
        assert_eq!((counters.retransmits, counters.dropped()), (0, 0), "{addr}");
    }
}

#[test]
fn over_ipv6() {
    for seed in 0..20 {
        let weather = if seed < 2 { Weather::FINE } else { Weather::BAD };
        let mut net = world_v6(weather, seed, seed % 2 == 0);
        let talk = Talk::begin(&mut net, [0, 1], "[fe80::ff:fe00:2]:80", 4, 60_000, 150_000);
        converse(&mut net, &mut [talk], seed, |_| {});
        if seed < 2 {
            assert!(net.hosts.iter_mut().all(|h| h.stack().counters().retransmits == 0));
        }
    }
}
