//! A netd that writes anything: no panic, no DMA outside the windows (the model panics on that),
//! no unbounded work, and no harm to what comes after.

mod common;

use common::Rng;
use common::nic::TX_BYTES;
use common::world::World;
use e1000d::Event;
use e1000d::hardware::Ring;
use libipc::nic::*;
use std::sync::atomic::Ordering::*;

/// Steps that one poll may take, whatever netd does.
const POLL_STEPS: u64 = 100_000;

/// Word offsets in a ring's sides: `tail` follows four u32 and the epoch, `head` is first.
const TAIL: usize = 3;
const HEAD: usize = 0;

fn started(seed: u64) -> World {
    let mut w = World::new(seed, false);
    w.run_driver();
    w.nic().now += 2_000_000_000;
    w
}

fn any_piece(rng: &mut Rng) -> TxDesc {
    let edge = [0, 1, 2, 13, 14, 60, 1514, 1515, 4096, 16_384, 16_385, u16::MAX];
    let window = [WINDOW_RX, WINDOW_TX, WINDOW_RINGS, 3, WINDOW_SESSION, 9, 127, 128, 255];
    let pick = |rng: &mut Rng, n: usize| rng.below(n as u64) as usize;
    TxDesc {
        window: window[pick(rng, window.len())],
        flags: if rng.chance(3) { rng.next() as u8 } else { TxDesc::EOP },
        len: edge[pick(rng, edge.len())],
        offset: match rng.below(4) {
            0 => 0,
            1 => TX_BYTES as u32 - rng.below(2000) as u32,
            2 => rng.next() as u32,
            _ => rng.below(TX_BYTES as u64) as u32,
        },
        cookie: rng.next() as u16,
        l3_start: if rng.chance(2) { 14 } else { rng.next() as u8 },
        l4_start: if rng.chance(2) { 34 } else { rng.next() as u8 },
        csum: [Csum::None, Csum::Tcp, Csum::Udp][pick(rng, 3)],
        hdr_len: rng.next() as u8,
        mss: if rng.chance(8) { rng.next() as u16 } else { 0 },
    }
}

#[test]
fn random_entries_and_words() {
    let (mut sent, mut refused) = (0, 0);
    for seed in 0..60 {
        let mut w = started(seed);
        let mut rng = Rng::new(seed);
        let mut rx_free = w.rings.rx_free().producer().unwrap();
        let mut tx_used = w.rings.tx_used().producer().unwrap();
        let (mut given, mut returned) = ([0u64; 512], [0u64; 512]);
        for _ in 0..200 {
            for _ in 0..rng.below(40) {
                let buffer = rng.below(600) as u32;
                if let Ok(true) = rx_free.push(RxFree { buffer })
                    && buffer < RX_BUFFERS
                {
                    given[buffer as usize] += 1;
                }
                let _ = tx_used.push(any_piece(&mut rng));
            }
            let _ = rx_free.publish();
            let _ = tx_used.publish();
            for _ in 0..rng.below(10) {
                w.arrive();
            }
            if rng.chance(10) {
                w.kill();
            }
            let before = w.nic().steps;
            w.ring_doorbell();
            w.netd.lenient = true;
            w.run_driver();
            assert!(w.nic().steps - before < POLL_STEPS);
            let mut used = w.rings.rx_used().consumer().unwrap();
            while let Some(entry) = used.pop().unwrap() {
                returned[entry.buffer as usize] += 1;
                assert!(returned[entry.buffer as usize] <= given[entry.buffer as usize]);
            }
            used.release();
            let mut free = w.rings.tx_free().consumer().unwrap();
            while let Some(entry) = free.pop().unwrap() {
                *(if entry.refused == 1 { &mut refused } else { &mut sent }) += 1;
            }
            free.release();
        }
    }
    assert!(sent > 1000 && refused > 1000, "{sent} sent, {refused} refused");
}

#[test]
fn random_words_in_everything_netd_can_write() {
    for seed in 0..100 {
        let mut w = started(seed);
        let mut rng = Rng::new(seed);
        w.netd.lenient = true;
        for _ in 0..20 {
            w.traffic();
            w.run_driver();
        }
        for _ in 0..100 {
            let at = rng.below(offset::NET_BYTES as u64 / 8) as usize;
            w.rings.net_word(at).store(rng.next() << rng.below(64), Relaxed);
            let index = [
                offset::RX_USED_CONSUMER / 8 + HEAD,
                offset::TX_FREE_CONSUMER / 8 + HEAD,
                offset::RX_FREE_PRODUCER / 8 + TAIL,
                offset::TX_USED_PRODUCER / 8 + TAIL,
            ][rng.below(4) as usize];
            if rng.chance(2) {
                let now = w.rings.net_word(index).load(Relaxed);
                w.rings.net_word(index).store(now.wrapping_add(rng.below(2000)), Relaxed);
            }
            let before = w.nic().steps;
            w.arrive();
            w.ring_doorbell();
            w.run_driver();
            assert!(w.nic().steps - before < POLL_STEPS);
        }
    }
}

#[test]
fn an_impossible_index_stops_one_ring_until_it_is_possible() {
    let cases = [
        (Ring::RxFree, offset::RX_FREE_PRODUCER / 8 + TAIL),
        (Ring::TxUsed, offset::TX_USED_PRODUCER / 8 + TAIL),
        (Ring::RxUsed, offset::RX_USED_CONSUMER / 8 + HEAD),
    ];
    for (ring, word) in cases {
        let mut w = started(9);
        for _ in 0..20 {
            w.traffic();
            w.run_driver();
            w.run_netd();
        }
        w.settle();
        let word = w.rings.net_word(word);
        let good = word.load(Relaxed);
        for bad in [good + 5000, good.wrapping_sub(1), u64::MAX] {
            word.store(bad, Relaxed);
            let errors = w.rings.counter(Counter::PeerErrors);
            w.nic().events.clear();
            for _ in 0..3 {
                w.ring_doorbell();
                w.run_driver();
            }
            let events = w.nic().events.clone();
            assert!(matches!(events[..], [Event::RingStopped(r, _)] if r == ring), "{events:?}");
            assert_eq!(w.rings.counter(Counter::PeerErrors), errors + 1);
            word.store(good, Relaxed);
            w.ring_doorbell();
            w.run_driver();
        }
        for _ in 0..20 {
            w.traffic();
            w.run_driver();
            w.run_netd();
        }
        w.settle();
        w.check();
    }
}

#[test]
fn a_ring_full_of_pieces_without_an_end_is_one_refused_frame() {
    let mut w = started(1);
    let mut tx_used = w.rings.tx_used().producer().unwrap();
    let piece = TxDesc { window: WINDOW_TX, len: 100, cookie: 77, ..TxDesc::default() };
    while tx_used.push(piece).unwrap() {}
    let _ = tx_used.publish();
    w.netd.lenient = true;
    w.ring_doorbell();
    w.run_driver();
    let mut free = w.rings.tx_free().consumer().unwrap();
    assert_eq!(free.pop().unwrap(), Some(TxFree { cookie: 77, refused: 1 }));
    assert_eq!(free.pop().unwrap(), None);
    assert_eq!(tx_used.space().unwrap(), RING as u64, "the ring is empty again");
    assert!(w.nic().wire.is_empty());
}

#[test]
fn a_netd_that_takes_nothing_is_waited_for_by_the_clock() {
    let mut w = started(3);
    w.netd.lenient = true;
    let mut tx_used = w.rings.tx_used().producer().unwrap();
    let piece = TxDesc { window: WINDOW_TX, len: 100, flags: TxDesc::EOP, ..TxDesc::default() };
    for _ in 0..4 {
        while tx_used.push(piece).unwrap() {}
        let _ = tx_used.publish();
        w.ring_doorbell();
        while w.run_driver() {
            // Rests in spite of work: there is no room to report it.
        }
    }
    assert!(w.timer, "looks again after a while");
    let mut free = w.rings.tx_free().consumer().unwrap();
    let mut n = 0;
    while free.pop().unwrap().is_some() {
        n += 1;
    }
    assert_eq!(n, RING);
    free.release();
    w.ring_doorbell();
    while w.run_driver() {}
    assert!(free.pop().unwrap().is_some(), "goes on when there is room");
}
