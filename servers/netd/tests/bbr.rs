//! BBR between stacks: loss does not slow it down as it does others, it collapses under nothing, and others live beside it.

mod common;

use common::net::{Net, Weather};
use common::{Host, HostSpec, MS, S};
use libipc::net::{Reply, Request};
use libipc::sock::{Kind, State, congestion};
use std::sync::atomic::Ordering::Relaxed;

/// A host with `connections` to another, each with the congestion control that it names.
fn connected(controls: &[u8], weather: Weather, seed: u64) -> (Net, Vec<(u16, u16)>) {
    let spec = |n| HostSpec { tx_bits: 17, rx_bits: 17, sockets: 32, ..HostSpec::fixed(n) };
    // As far from each other to begin with.
    let clear = Weather { delay: weather.delay, ..Weather::FINE };
    let mut net = Net::new(vec![Host::new(spec(1)), Host::new(spec(2))], clear, seed);
    let listener = net.hosts[1].listen(7, controls.len() as u16 + 1);
    let mut ids = Vec::new();
    for control in controls {
        let id = net.hosts[0].open(Kind::Tcp);
        net.hosts[0].progs[0].app(id).congestion.store(*control, Relaxed);
        net.hosts[0].connect(id, "10.0.0.2:7").unwrap();
        net.pass(100 * MS);
        assert_eq!(net.hosts[0].progs[0].state(id), State::Established);
        ids.push((id, net.hosts[1].accept(listener).expect("it waits").0));
    }
    net.weather = weather;
    (net, ids)
}

/// Everybody sends and reads for `ms`; yields how much arrived, each.
fn stream(net: &mut Net, ids: &[(u16, u16)], ms: u64) -> Vec<u64> {
    let mut got = vec![0; ids.len()];
    for _ in 0..ms / 2 {
        for (i, (from, to)) in ids.iter().enumerate() {
            if net.hosts[0].progs[0].write_with(*from, u64::MAX, |at| at as u8) > 0 {
                net.hosts[0].progs[0].submit(*from);
            }
            let at = net.hosts[1].progs[0].head[*to as usize];
            let read = net.hosts[1].progs[0].read(*to, u64::MAX);
            assert!(read.iter().zip(at..).all(|(byte, at)| *byte == at as u8), "byte for byte");
            got[i] += read.len() as u64;
            if !read.is_empty() {
                net.hosts[1].progs[0].submit(*to);
            }
        }
        net.hosts.iter_mut().for_each(Host::settle);
        net.pass(2 * MS);
    }
    net.hosts.iter_mut().for_each(|h| h.stack().check());
    got
}

const LOSSY: Weather =
    Weather { loss: 20, duplication: 0, corruption: 0, delay: 20 * MS, jitter: 0 };

fn alone(control: u8, weather: Weather, ms: u64) -> u64 {
    let (mut net, ids) = connected(&[control], weather, 1);
    stream(&mut net, &ids, ms)[0]
}

#[test]
fn two_percent_of_loss_cost_it_less_than_others() {
    let cubic = alone(congestion::CUBIC, LOSSY, 1600);
    let bbr = alone(congestion::BBR, LOSSY, 1600);
    assert!(bbr > 2 * cubic, "{bbr} and {cubic} bytes");
}

#[test]
fn without_loss_it_is_no_slower() {
    let fine = Weather { loss: 0, ..LOSSY };
    let (cubic, bbr) = (alone(congestion::CUBIC, fine, 400), alone(congestion::BBR, fine, 400));
    assert!(bbr > cubic / 2, "{bbr} and {cubic} bytes");
}

#[test]
fn others_live_beside_it() {
    let fine = Weather { loss: 1, ..LOSSY };
    let (mut net, ids) = connected(&[congestion::CUBIC, congestion::BBR], fine, 2);
    let got = stream(&mut net, &ids, 500);
    assert!(got[0] > got[1] / 20 && got[1] > got[0] / 20, "{got:?}");
}

/// More than a program has room for: the rest has CUBIC, and room comes back.
#[test]
fn models_are_few_and_come_back() {
    let (mut net, ids) = connected(&[congestion::BBR; 20], Weather::FINE, 1);
    assert!(stream(&mut net, &ids, 30).iter().all(|got| *got > 0));
    for (from, _) in &ids {
        net.hosts[0].abort(*from);
    }
    net.pass(S);
    net.hosts[0].stack().check();
}

#[test]
fn it_survives_a_crash_and_bad_weather() {
    for seed in 0..2 {
        let (mut net, ids) = connected(&[congestion::BBR], Weather::BAD, seed);
        let before = stream(&mut net, &ids, 400)[0];
        net.hosts[0].crash();
        let after = stream(&mut net, &ids, 1200)[0];
        assert!(before > 0 && after > 20_000, "{before} {after}");
    }
}

/// A program has room for sixteen models; TCP_INFO tells what the others really have.
#[test]
fn who_finds_no_model_says_so() {
    let (mut net, ids) = connected(&[congestion::BBR; 18], Weather::FINE, 1);
    let mut runs = |id| {
        let sock = net.hosts[0].progs[0].sock(id);
        match net.hosts[0].ask(Request::TcpInfo { sock }) {
            Ok(Reply::TcpInfo(info)) => info.congestion,
            other => panic!("{other:?}"),
        }
    };
    let all: Vec<u8> = ids.iter().map(|(id, _)| runs(*id)).collect();
    assert_eq!(all[..16], [congestion::BBR; 16]);
    assert_eq!(all[16..], [congestion::CUBIC; 2]);
}
