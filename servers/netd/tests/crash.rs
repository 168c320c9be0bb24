//! netd dies at random points, before and after any store that others see, and conversations go on
//! as if nothing had happened.

mod common;

use common::net::{Net, Weather};
use common::talk::{Talk, converse, world, world_v6};
use common::{Host, HostSpec};

/// Runs `f` for each seed (see [`fuzz::each`]) and adds up what it returns.
fn seeds(usual: u64, mut f: impl FnMut(u64) -> u64) -> u64 {
    common::quiet_crashes();
    let mut total = 0;
    let ran = fuzz::each(usual, |r| {
        netd::crash::cancel();
        total += f(r.word() >> 1);
    });
    // One alone proves nothing by its number.
    if ran == 1 { u64::MAX } else { total }
}

/// Plans a crash within the next `points` points, now and then.
fn sometimes(net: &mut Net, per_mille: u64, points: u64) {
    netd::crash::cancel();
    if net.rng.chance(per_mille) {
        netd::crash::plan(net.rng.below(points) as i64);
    }
}

fn crashes(net: &Net) -> u64 {
    net.hosts.iter().map(|h| h.crashes).sum()
}

#[test]
fn streams() {
    let total = seeds(150, |seed| {
        let weather = if seed % 2 == 0 { Weather::FINE } else { Weather::BAD };
        let mut net = world(weather, seed, true);
        let talk = Talk::begin(&mut net, [0, 1], "10.0.0.2:80", 4, 40_000, 80_000);
        converse(&mut net, &mut [talk], seed, |net| sometimes(net, 300, 60));
        crashes(&net)
    });
    assert!(total > 500, "{total} crashes");
}

/// Short conversations: most crashes come while connections begin, are accepted, and end.
#[test]
fn beginnings_and_ends() {
    let total = seeds(100, |seed| {
        let spec = |n| HostSpec { sockets: 64, ..HostSpec::fixed(n) };
        let mut net = Net::new(vec![Host::new(spec(1)), Host::new(spec(2))], Weather::FINE, seed);
        let mut talks = Vec::new();
        for i in 0..8 {
            // Requests of sockd, too, are cut short and asked again.
            netd::crash::plan(net.rng.below(40) as i64);
            talks.push(Talk::begin(&mut net, [0, 1], &format!("10.0.0.2:{}", 80 + i), 2, 100, 100));
        }
        converse(&mut net, &mut talks, seed, |net| sometimes(net, 700, 30));
        crashes(&net)
    });
    assert!(total > 500, "{total} crashes");
}

#[test]
fn with_ourselves() {
    seeds(40, |seed| {
        let mut net = Net::new(vec![Host::new(HostSpec::fixed(1))], Weather::FINE, seed);
        let talk = Talk::begin(&mut net, [0, 0], "127.0.0.1:80", 2, 30_000, 30_000);
        converse(&mut net, &mut [talk], seed, |net| sometimes(net, 300, 60));
        crashes(&net)
    });
}

/// Over addresses that netd has made itself, and knows again.
#[test]
fn over_ipv6() {
    let total = seeds(40, |seed| {
        let weather = if seed % 2 == 0 { Weather::FINE } else { Weather::BAD };
        let mut net = world_v6(weather, seed, true);
        let talk = Talk::begin(&mut net, [0, 1], "[fe80::ff:fe00:2]:80", 4, 40_000, 80_000);
        converse(&mut net, &mut [talk], seed, |net| sometimes(net, 300, 60));
        crashes(&net)
    });
    assert!(total > 100, "{total} crashes");
}
