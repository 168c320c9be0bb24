//! Two stacks on a wire: streams arrive byte for byte, whatever the wire does, and whichever stack
//! dies in between.

mod common;

use common::net::Weather;
use common::talk::{converse, world};

#[test]
fn fine_weather() {
    for offload in [false, true] {
        let mut net = world(Weather::FINE, 1, offload);
        converse(&mut net, 300_000, 1_000_000, 1, |_, _| {});
        assert_eq!(net.resets, 0);
        for host in &mut net.hosts {
            assert_eq!(host.stack().counters().retransmits, 0);
            assert_eq!(host.stack().counters().dropped(), 0);
        }
    }
}

#[test]
fn bad_weather() {
    for seed in 0..60 {
        let mut net = world(Weather::BAD, seed, seed % 2 == 0);
        converse(&mut net, 60_000, 150_000, seed, |_, _| {});
    }
}

#[test]
fn one_way_and_empty_streams() {
    for (up, down) in [(0, 0), (1, 0), (0, 100_000), (100_000, 0)] {
        for seed in 100..110 {
            let mut net = world(Weather::BAD, seed, true);
            converse(&mut net, up, down, seed, |_, _| {});
        }
    }
}
