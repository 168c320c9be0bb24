//! The driver's main loop with everything that reaches it chosen at random and mixed: what netd
//! writes into its rings and their words, frames, interrupts, signals, time, deaths and stops, on
//! every model. The NIC's model panics on a DMA outside the windows.

mod common;

use common::nic::TX_BYTES;
use common::world::World;
use fuzz::{Random, each};
use libipc::nic::*;
use std::sync::atomic::Ordering::*;

const STEPS: u64 = 150;
/// Steps that one poll may take, whatever netd does.
const POLL_STEPS: u64 = 100_000;

fn piece(r: &mut Random) -> TxDesc {
    let (whole, any) = (r.one_in(2), r.word());
    TxDesc {
        window: r.pick(&[WINDOW_TX, WINDOW_TX, WINDOW_SESSION, WINDOW_RX, WINDOW_RINGS, any as u8]),
        flags: if whole { TxDesc::EOP } else { r.word() as u8 },
        len: r.pick(&[0, 1, 13, 14, 60, 61, 1514, 1515, 4096, 16_385, (any >> 8) as u16]),
        offset: match r.below(3) {
            0 => r.edge() as u32,
            1 => (TX_BYTES as u32).wrapping_sub(r.below(2000) as u32),
            _ => r.below(TX_BYTES as u64) as u32,
        },
        cookie: r.word() as u16,
        l3_start: if whole { 14 } else { r.word() as u8 },
        l4_start: if whole { 34 } else { r.word() as u8 },
        csum: r.pick(&[Csum::None, Csum::Tcp, Csum::Udp]),
        hdr_len: r.pick(&[0, 54, (any >> 24) as u8]),
        mss: r.pick(&[0, 0, 0, 1, 1460, (any >> 32) as u16]),
    }
}

fn poll(w: &mut World) {
    let before = w.nic().steps;
    w.run_driver();
    assert!(w.nic().steps - before < POLL_STEPS, "one poll does not end");
}

fn step(r: &mut Random, w: &mut World) {
    match r.below(16) {
        0..=3 => {
            if let (Ok(mut rx), Ok(mut tx)) =
                (w.rings.rx_free().producer(), w.rings.tx_used().producer())
            {
                for _ in 0..r.below(60) {
                    let buffer = if r.one_in(9) { r.edge() as u32 } else { r.below(512) as u32 };
                    let _ = rx.push(RxFree { buffer });
                    let _ = tx.push(piece(r));
                }
                let _ = (rx.publish(), tx.publish());
            }
        }
        4..=5 => {
            for _ in 0..=r.below(3) {
                let word = w.rings.net_word(r.below(offset::NET_BYTES as u64 / 8) as usize);
                word.store(r.edge(), Relaxed);
            }
        }
        6 => {
            // The words that count: indices, and where a signal is wanted.
            let sides = [
                offset::RX_FREE_PRODUCER,
                offset::TX_USED_PRODUCER,
                offset::RX_USED_CONSUMER,
                offset::TX_FREE_CONSUMER,
            ];
            let word = w.rings.net_word(r.pick(&sides) / 8 + r.below(4) as usize);
            let now = word.load(Relaxed);
            let edge = r.edge();
            word.store(if r.one_in(2) { now.wrapping_add(edge % 600) } else { edge }, Relaxed);
        }
        7..=10 => (0..r.below(20)).for_each(|_| w.arrive()),
        11 => w.nic().now += r.below(3_000_000_000),
        12 => {
            let n = r.below(30) as usize;
            w.nic().receive(n);
            w.nic().transmit(n);
        }
        13 if r.one_in(6) => w.kill(),
        14 if r.one_in(10) && w.driver.is_some() => {
            w.stop();
        }
        _ => {}
    }
    if r.one_in(2) {
        w.ring_doorbell();
    }
    poll(w);
}

/// Returns how many lies of netd's the driver has counted.
fn run(r: &mut Random) -> u64 {
    let mut w = World::any(r.word(), r.one_in(2));
    w.netd.lenient = true;
    poll(&mut w);
    w.nic().now += 2_000_000_000;
    for _ in 0..STEPS {
        step(r, &mut w);
    }
    w.rings.counter(Counter::PeerErrors)
}

#[test]
fn fuzz_rings_frames_interrupts_and_deaths() {
    let mut lies = 0;
    let seeds = each(1000, |r| lies += run(r));
    assert!(seeds == 1 || lies > seeds, "{lies}: this proves little");
}
