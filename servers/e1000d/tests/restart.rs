//! The driver dies before each of its stores in turn; a new one goes on. Nothing may be lost,
//! repeated or reordered, in either direction, and every buffer keeps exactly one owner.

mod common;

use common::Rng;
use common::world::World;
use libipc::nic::Counter;

/// Some traffic, with the driver dying whenever a fuse of so many stores has burnt down.
fn run(
    seed: u64,
    metal: bool,
    rounds: usize,
    mut fuse: impl FnMut(&mut World) -> Option<u64>,
) -> World {
    let mut w = World::new(seed, metal);
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
    w
}

#[test]
fn undisturbed_traffic_arrives() {
    for (seed, metal) in (0..20).map(|seed| (seed, seed % 2 == 1)) {
        let w = run(seed, metal, 200, |_| None);
        let (received, reported) = (w.netd.received, w.netd.reported);
        assert!(received > 1000 && reported > 500, "traffic: {received}, {reported}");
        assert!(w.netd.refused > 10, "some of it malformed");
        assert_eq!(w.nic().rctl_writes, 1, "each RCTL write costs a second");
        assert_eq!(w.rings.counter(Counter::ColdStarts), 1);
        assert_eq!(w.rings.counter(Counter::TxFrames), w.netd.reported - w.netd.refused);
        assert_eq!(w.rings.counter(Counter::RxFrames), w.netd.received);
    }
}

#[test]
fn death_before_every_store() {
    const ROUNDS: usize = 7;
    let whole = run(7, false, ROUNDS, |_| None);
    let steps = whole.nic().steps;
    // The first RCTL write that enables reception ends the cold start.
    let (mut crashes, mut cold) = (0, 0);
    for step in 0..steps {
        let mut left = Some(step);
        let w = run(7, false, ROUNDS, |_| left.take());
        crashes += w.crashes;
        cold += (w.rings.counter(Counter::ColdStarts) > 1 || w.nic().rctl_writes > 1) as u64;
        assert_eq!(w.netd.came_back_empty, 0, "step {step}");
        assert!(w.rings.counter(Counter::ColdStarts) + w.rings.counter(Counter::Reattached) <= 2);
    }
    assert!(crashes > 2000 && crashes > steps / 2, "{crashes} deaths in {steps} stores");
    // Only a death in the middle of the first start makes the second one cold, too.
    assert!(cold <= 2, "{cold} warm starts went wrong");
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
    for seed in 0..60 {
        let w = run(seed, false, 150, |w| (w.crashes > 0).then(|| w.rng.below(400)).or(Some(2000)));
        crashes += w.crashes;
        assert_eq!(w.rings.counter(Counter::ColdStarts), 1, "seed {seed}");
        assert_eq!(w.nic().rctl_writes, 1, "seed {seed}");
        assert_eq!(w.netd.came_back_empty, 0, "seed {seed}");
    }
    assert!(crashes > 2000, "{crashes}");
}

/// On a real NIC every restart stops and resets it: its buffers come back, frames that were
/// received arrive, frames that were accepted leave. The cold path survives its own death.
#[test]
fn death_on_metal() {
    let (mut crashes, mut empty) = (0, 0);
    for seed in 0..40 {
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
    let (mut cold, mut lost) = (0, 0);
    for seed in 0..300 {
        let mut w = World::new(seed, false);
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
    assert!((100..300).contains(&cold), "some scribbles hit, some do not: {cold}");
    assert!(lost < 3000, "buffers whose owner nobody knows: {lost}");
}
