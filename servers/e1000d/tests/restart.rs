//! The driver dies before each of its stores in turn; a new one goes on. Nothing may be lost,
//! repeated or reordered, in either direction, and every buffer keeps exactly one owner.

mod common;

use common::world::World;
use common::{Rng, seeds};
use e1000d::models::model;
use e1000d::settings::Settings;
use e1000d::{lent, regs};
use libipc::nic::*;
use std::sync::atomic::Ordering::Relaxed;

/// Some traffic, with the driver dying whenever a fuse of so many stores has burnt down.
fn run(
    seed: u64,
    metal: bool,
    rounds: usize,
    fuse: impl FnMut(&mut World) -> Option<u64>,
) -> World {
    run_in(World::any(seed, metal), rounds, fuse)
}

fn run_in(mut w: World, rounds: usize, mut fuse: impl FnMut(&mut World) -> Option<u64>) -> World {
    w.nic().fuse = None;
    for _ in 0..rounds {
        if w.nic().fuse.is_none() {
            let next = fuse(&mut w);
            w.nic().fuse = next;
        }
        w.run_driver();
        if w.rng.chance(2) {
            w.run_netd();
        }
        w.traffic();
        // Past the second for which QEMU's model is deaf after a start.
        w.nic().now += 1_000_000_000;
    }
    w.nic().fuse = None;
    w.settle();
    w.check();
    let (sent, received) = (w.netd.on_wire, w.netd.received);
    assert_eq!(w.rings.counter(Counter::RxFrames), received);
    assert_eq!(w.rings.counter(Counter::RxBytes), w.netd.received_bytes);
    // A real NIC that was stopped does not always say what it has sent.
    let counted = w.rings.counter(Counter::TxFrames);
    assert!(counted == sent || !w.config.emulated && counted < sent, "{counted} of {sent}");
    w
}

#[test]
fn undisturbed_traffic_arrives() {
    for (seed, metal) in seeds(32).map(|seed| (seed, seed / 16 % 2 == 1)) {
        let w = run(seed, metal, 200, |_| None);
        let (received, reported) = (w.netd.received, w.netd.reported);
        assert!(received > 1000 && reported > 500, "traffic: {received}, {reported}");
        assert!(w.netd.refused > 10, "some of it malformed");
        assert_eq!(w.nic().rctl_writes, 1, "each RCTL write costs a second");
        assert_eq!(w.rings.counter(Counter::ColdStarts), 1);
    }
}

/// Runs traffic in worlds made by `world`, with a death before every store in turn.
fn death_before_every_store(world: impl Fn() -> World) {
    const ROUNDS: usize = 7;
    let steps = run_in(world(), ROUNDS, |_| None).nic().steps;
    let (mut crashes, mut cold) = (0, 0);
    for step in 0..steps {
        let mut left = Some(step);
        let w = run_in(world(), ROUNDS, |_| left.take());
        crashes += w.crashes;
        cold += (w.rings.counter(Counter::ColdStarts) > 1 || w.nic().rctl_writes > 1) as u64;
        assert_eq!(w.netd.came_back_empty, 0, "step {step}");
        assert!(w.rings.counter(Counter::ColdStarts) + w.rings.counter(Counter::Reattached) <= 2);
    }
    assert!(crashes > 1000 && crashes > steps / 2, "{crashes} deaths in {steps} stores");
    // Only a death in the middle of the first start makes the second one cold, too: the RCTL write
    // that enables reception ends it.
    assert!(cold <= 2, "{cold} warm starts went wrong");
}

#[test]
fn death_before_every_store_of_an_82540em() {
    death_before_every_store(|| World::new(7, false));
}

#[test]
fn death_before_every_store_of_an_82574l() {
    let settings = Settings::parse("rx=32 tx=32").unwrap();
    death_before_every_store(|| World::with(8, false, model(0x10d3), settings));
}

/// A full ring is never refilled, so that nothing later makes up for what the dead driver had not
/// said.
#[test]
fn death_while_the_ring_is_filled() {
    for step in 0.. {
        let mut w = World::new(1, false);
        w.run_driver();
        w.run_netd();
        w.nic().fuse = Some(step);
        w.run_driver();
        let dead = w.crashes > 0;
        w.nic().fuse = None;
        w.settle();
        w.check();
        if !dead {
            assert!(step > 255, "every buffer takes stores");
            break;
        }
    }
}

#[test]
fn death_again_and_again() {
    let mut crashes = 0;
    for seed in seeds(32) {
        let w = run(seed, false, 150, |w| (w.crashes > 0).then(|| w.rng.below(400)).or(Some(2000)));
        crashes += w.crashes;
        assert_eq!(w.rings.counter(Counter::ColdStarts), 1, "seed {seed}");
        assert_eq!(w.nic().rctl_writes, 1, "seed {seed}");
        assert_eq!(w.netd.came_back_empty, 0, "seed {seed}");
    }
    assert!(crashes > 1000, "{crashes}");
}

/// On a real NIC every restart stops and resets it: its buffers come back, frames that were
/// received arrive, frames that were accepted leave. The cold path survives its own death.
#[test]
fn death_on_metal() {
    let (mut crashes, mut empty) = (0, 0);
    for seed in seeds(32) {
        let w = run(seed, true, 100, |w| Some(w.rng.below(3000)));
        crashes += w.crashes;
        empty += w.netd.came_back_empty;
    }
    assert!(crashes > 500, "{crashes}");
    assert!(empty > 500, "{empty}");
}

/// A predecessor that wrote all over its notes before it died: whatever the new one makes of it,
/// no buffer gets two owners, and new traffic flows as if nothing had been.
#[test]
fn scribbled_state() {
    let (mut cold, mut lost, seeds) = (0, 0, seeds(150));
    for seed in seeds.clone() {
        let mut w = World::any(seed, false);
        let mut rng = Rng::new(seed);
        w.run_driver();
        for _ in 0..6 {
            w.nic().now += 1_000_000_000;
            w.traffic();
            w.nic().fuse = rng.chance(2).then(|| 100 + rng.below(300));
            w.run_driver();
            w.nic().fuse = None;
            w.run_netd();
        }
        w.kill();
        w.netd.lenient = true;
        w.nic().incoming.clear();
        let words = w.nic().rings.len() as u64;
        for _ in 0..1 + rng.below(40) {
            let (at, value) = (rng.below(words) as usize, rng.next() << rng.below(64));
            w.nic().rings[at] = if rng.chance(4) { 0 } else { value };
        }
        w.settle();
        cold += w.rings.counter(Counter::ColdStarts) - 1;
        assert!(w.owners().iter().all(|n| *n <= 1), "seed {seed}: {:?}", w.owners());
        lost += w.owners().iter().filter(|n| **n == 0).count();

        let next = w.next_rx();
        w.netd.forget(next);
        for _ in 0..20 {
            w.nic().now += 1_000_000_000;
            w.traffic();
            w.run_driver();
            w.run_netd();
        }
        w.settle();
        assert!(w.netd.expected.is_empty() && w.netd.next_rx == w.next_rx(), "seed {seed}");
    }
    let (third, all) = (seeds.end / 3, seeds.end);
    assert!((third..all).contains(&cold), "some scribbles hit, some do not: {cold}");
    assert!(lost < 10 * all as usize, "buffers whose owner nobody knows: {lost}");
}

/// What was reported on *tx free* so far: cookies, and whether they were refused.
fn reports(w: &World) -> Vec<(u16, u16)> {
    let mut ring = w.rings.tx_free().consumer().unwrap();
    std::iter::from_fn(|| ring.pop().unwrap()).map(|e| (e.cookie, e.refused)).collect()
}

/// A refused frame has no descriptor that could say that it was dealt with, only a note: with it
/// the frame is reported once, without it nothing is believed.
#[test]
fn death_between_a_refusal_and_its_release() {
    for intact in [true, false] {
        let mut met = 0;
        for step in 0.. {
            let mut w = World::new(1, false);
            w.netd.lenient = true;
            w.run_driver();
            let mut tx_used = w.rings.tx_used().producer().unwrap();
            for (cookie, len) in [(7, 0), (8, 100)] {
                let (window, flags) = (WINDOW_TX, TxDesc::EOP);
                tx_used.push(TxDesc { window, flags, len, cookie, ..TxDesc::default() }).unwrap();
            }
            let _ = tx_used.publish();
            w.ring_doorbell();
            w.nic().fuse = Some(step);
            while w.run_driver() && w.crashes == 0 {}
            if w.crashes == 0 {
                break;
            }
            w.nic().fuse = None;
            let released = tx_used.space().unwrap() == RING as u64;
            if reports(&w) != [(7, 1)] || released || w.reg(regs::TDT) != 0 {
                continue;
            }
            // Reported, not released, and no later frame has a note that would cover it.
            met += 1;
            if !intact {
                let place = lent::refusal_place(1);
                w.nic().rings[place] ^= 1;
            }
            while w.run_driver() {}
            assert_eq!(w.rings.counter(Counter::ColdStarts) == 1, intact, "step {step}");
            if intact {
                assert_eq!(reports(&w), [(7, 1), (8, 0)], "each once");
            }
        }
        assert!(met > 0, "no such moment");
    }
}

/// Everything that netd gave comes back, with the NIC silent and out of its memory; a later start
/// goes on as if nothing had been, though the NIC may have lost its power.
#[test]
fn stop_suspend_resume() {
    for seed in seeds(32) {
        let metal = seed / 16 % 2 == 1;
        let mut w = World::any(seed, metal);
        for round in 0..6 {
            for _ in 0..20 {
                w.run_driver();
                w.run_netd();
                w.traffic();
                w.nic().now += 1_000_000_000;
            }
            w.nic().events.clear();
            let version = w.rings.status().version.load(Relaxed);
            assert!(w.stop());
            let what = format!("seed {seed} round {round}");
            assert_eq!(format!("{}", w.nic().events.last().unwrap()), "stopped", "{what}");
            assert_eq!((w.reg(regs::RCTL), w.reg(regs::TCTL), w.reg(regs::IMS)), (0, 0, 0));
            let transfers = w.reg(regs::STATUS) & 1 << 19 != 0;
            assert_eq!(transfers, !w.config.model.express, "{what}: this bit only there");
            let status = w.rings.status();
            assert_eq!(status.link.load(Relaxed), 0);
            assert_ne!(status.version.load(Relaxed), version);
            w.netd.take(&mut w.hw.0.borrow_mut());
            let waiting = w.rings.rx_free().consumer().unwrap().available().unwrap();
            assert_eq!(w.netd.buffers.len() as u64 + waiting, RX_BUFFERS as u64, "{what}");
            // What is on the wire waits; registers are as after power-on.
            w.nic().power_on();
            w.netd.give_buffers(100);
            w.netd.send(&mut w.hw.0.borrow_mut());
        }
        w.settle();
        w.check();
        assert_eq!(w.rings.counter(Counter::Reattached), 0);
    }
}

/// A NIC that rests does nothing; then all goes on without a reset, nothing lost and nothing twice.
#[test]
fn rest_and_wake() {
    for seed in seeds(32) {
        let metal = seed / 16 % 2 == 1;
        let mut w = World::any(seed, metal);
        // Dead in the middle of it is as good, but for what the status page says.
        let mut deaths = 0;
        for round in 0..6 {
            for _ in 0..20 {
                w.run_driver();
                w.run_netd();
                w.traffic();
                w.nic().now += 1_000_000_000;
            }
            let rctl = w.writes().0;
            w.nic().fuse = (round % 2 == 1).then_some(seed % 40);
            let died = !w.suspend();
            w.nic().fuse = None;
            deaths += died as u64;
            let what = format!("seed {seed} round {round}");
            if !died {
                assert_eq!(w.rings.status().link.load(Relaxed), 0, "{what}");
                assert!(!w.nic().line(), "{what}: silent");
            }
            let (posted, sent) = (w.reg(regs::RDH), w.nic().wire.len());
            for _ in 0..5 {
                w.traffic();
                w.run_netd();
            }
            assert_eq!((w.reg(regs::RDH), w.nic().wire.len()), (posted, sent), "{what}: at rest");
            w.nic().resting = false;
            w.run_driver();
            assert_eq!(w.rings.status().link.load(Relaxed), 1, "{what}");
            if !metal {
                assert_eq!(w.writes().0, rctl, "{what}: not deaf for a second");
            }
        }
        w.settle();
        w.check();
        if !metal {
            assert_eq!(w.rings.counter(Counter::Reattached), 6);
        }
        assert!(deaths <= 3);
    }
}

#[test]
fn death_while_stopping() {
    for metal in [false, true] {
        for step in 0.. {
            let mut w = World::any(if metal { 15 } else { 3 }, metal);
            for _ in 0..6 {
                w.run_driver();
                w.run_netd();
                w.traffic();
                w.nic().now += 1_000_000_000;
            }
            w.nic().fuse = Some(step);
            let died = !w.stop();
            w.nic().fuse = None;
            w.settle();
            w.check();
            if !died {
                assert!(step > 20, "{step}");
                break;
            }
        }
    }
}
