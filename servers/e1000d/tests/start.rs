//! Start, link, interrupts and errors, register by register.

mod common;

use common::nic::*;
use common::world::World;
use e1000d::hardware::Event;
use e1000d::lent::{self, Side};
use e1000d::models::{MODELS, OTHER, model};
use e1000d::regs;
use e1000d::settings::Settings;
use e1000d::{Driver, StartError};
use libipc::nic::*;
use libipc::ring::PeerError;
use std::sync::atomic::Ordering::*;

fn started(metal: bool) -> World {
    let mut w = World::new(1, metal);
    w.run_driver();
    w.nic().now += 2_000_000_000;
    w
}

fn lines(w: &World) -> Vec<String> {
    w.nic().events.iter().map(|e| e.to_string()).collect()
}

#[test]
fn cold_start_programs_the_nic() {
    for metal in [false, true] {
        let w = started(metal);
        let reg = |r| w.reg(r);
        assert_eq!(reg(regs::RCTL), 0x0400_8002, "EN, BAM, SECRC, 2048-byte buffers");
        assert_eq!(reg(regs::TCTL), 0x0004_00fa, "EN, PSP, CT 15, COLD 64");
        assert_eq!(reg(regs::TIPG), 0x0060_100a);
        assert_eq!(reg(regs::RXCSUM), 0x300);
        assert_eq!((reg(regs::RDBAL), reg(regs::RDBAH), reg(regs::RDLEN)), (0x2340_0000, 1, 4096));
        assert_eq!((reg(regs::TDBAL), reg(regs::TDBAH), reg(regs::TDLEN)), (0x2340_2000, 1, 4096));
        assert_eq!((reg(regs::RAL0), reg(regs::RAH0)), (0x1200_5452, 0x8000_5634));
        assert_eq!(reg(regs::IMS), 0xd4, "LSC, RXDMT0, RXO, RXT0");
        assert_eq!(reg(regs::CTRL) & 0x8400_0040, 0x40, "SLU, no reset");
        assert_eq!(w.nic().rctl_writes, 1);
        assert_eq!(lines(&w), ["82540EM 52:54:00:12:34:56, link up 1000 Mbit/s"]);
        let s = w.rings.status();
        assert_eq!((s.mac(), s.link.load(Relaxed), s.speed.load(Relaxed)), (MAC, 1, 1000));
        // Segmentation is left to what QEMU emulates (`models`).
        let caps = if metal { caps::TX_CSUM } else { caps::TX_CSUM | caps::TSO };
        assert_eq!((s.max_frame.load(Relaxed), s.caps.load(Relaxed)), (1514, caps));
        assert_eq!(s.version.load(Relaxed), 1);
    }
}

#[test]
fn what_firmware_left_running_is_stopped_first() {
    let mut w = World::new(1, false);
    for (reg, value) in [(regs::RCTL, 2), (regs::TCTL, 2), (regs::IMS, 0xff), (regs::RDT, 7)] {
        w.nic().set(reg, value);
    }
    w.nic().set(regs::MTA.word(5), 0xffff);
    w.run_driver();
    assert_eq!(w.nic().rctl_writes, 2, "off, and on");
    assert_eq!((w.reg(regs::MTA.word(5)), w.reg(regs::IMS)), (0, 0xd4));
}

#[test]
fn a_warm_start_touches_nothing_that_runs() {
    let mut w = started(false);
    for _ in 0..10 {
        w.traffic();
        w.run_driver();
        w.run_netd();
    }
    w.settle();
    let writes = w.writes();
    let version = w.rings.status().version.load(Relaxed);
    w.nic().events.clear();
    w.kill();
    w.arrive();
    w.arrive();
    w.nic().receive(2);
    w.run_driver();
    assert_eq!(w.writes(), writes);
    assert_eq!(lines(&w), ["re-attached: 2 frames in flight"]);
    assert_eq!(w.rings.status().version.load(Relaxed), version + 1);
    assert_eq!(w.rings.counter(Counter::Reattached), 1);
    assert!(w.run_netd(), "a signal that the dead driver owed");
}

#[test]
fn a_descriptor_that_contradicts_rdh_means_a_cold_start() {
    // Blank ones that look done, or have error bits that would pass on to a frame; one that is
    // done and does not look it; one with a stray address.
    for (slot, half, value) in [(9, 1, 1 << 32), (9, 1, 1 << 40), (1, 1, 0), (9, 0, POOL_BUS + 1)] {
        let mut w = started(false);
        w.run_netd();
        w.run_driver();
        w.kill();
        for _ in 0..3 {
            w.arrive();
        }
        w.nic().receive(3);
        w.nic().rings[lent::desc_word(Side::Rx, slot, half)] = value;
        w.run_driver();
        assert_eq!(w.rings.counter(Counter::ColdStarts), 2, "slot {slot}");
        assert_eq!(lines(&w)[1], "stopped the NIC: 255 buffers and 0 frames given back");
        w.run_netd();
        assert!(w.owners().iter().all(|n| *n == 1));
    }
}

#[test]
fn every_model_starts() {
    for m in MODELS.into_iter().chain([OTHER]) {
        for metal in [false, true] {
            let mut w = World::with(1, metal, m, Settings::default());
            let slow = m.express && metal;
            let start = w.nic().now;
            w.run_driver();
            assert_eq!(lines(&w), [format!("{} 52:54:00:12:34:56, link up 1000 Mbit/s", m.name)]);
            assert_eq!(w.rings.status().mac(), MAC);
            assert!(!slow || w.nic().now - start > 25_000_000, "the PHY takes its time");
            w.nic().now += 2_000_000_000;
            for _ in 0..50 {
                w.traffic();
                w.run_driver();
                w.run_netd();
            }
            w.settle();
            w.check();
        }
    }
}

#[test]
fn the_82574l_has_bits_of_its_own() {
    for metal in [false, true] {
        let mut w = World::with(1, metal, model(0x10d3), Settings::default());
        // What other software, or the EEPROM, may have set; kept over the reset by this model.
        let odd = [
            (regs::CTRL_EXT, 1 << 27 | 1 << 24 | 1 << 5),
            (regs::RFCTL, 1 << 15 | 1 << 6),
            (regs::MRQC, 0x0033_0001),
            (regs::TXDCTL, 0x3f << 16),
        ];
        if !metal {
            w.nic().sticky.extend(odd);
        }
        w.run_driver();
        let kept = |bit: u32| if metal { 0 } else { bit };
        assert_eq!(w.reg(regs::CTRL_EXT), 1 << 28 | kept(1 << 5), "DRV_LOAD, no auto-masking");
        assert_eq!(w.reg(regs::RFCTL), kept(1 << 6), "legacy descriptors");
        assert_eq!(w.reg(regs::MRQC), 0, "one queue");
        assert_eq!(w.reg(regs::TXDCTL), 0x0141_0000, "GRAN, WTHRESH 1");
        assert_eq!((w.reg(regs::GCR), w.reg(regs::GCR2)), (1 << 22, 1));
        assert_eq!(w.reg(regs::CTRL) & 1 << 2, 0, "DMA is on again");
        assert_ne!(w.reg(regs::STATUS) & 1 << 19, 0);
    }
}

#[test]
fn causes_of_an_82574l_are_written_back() {
    let mut w = World::with(1, false, model(0x10d3), Settings::default());
    w.run_driver();
    w.run_netd();
    w.run_driver();
    w.arrive();
    w.nic().receive(1);
    assert!(w.nic().line());
    while w.run_driver() {}
    assert!(!w.nic().line(), "else it would interrupt for ever");
}

#[test]
fn a_silent_eeprom() {
    // Without EERD the address is what the hardware loaded into RAL and RAH.
    let mut w = World::new(1, false);
    w.nic().eeprom = None;
    w.nic().set(regs::RAL0, 0x1200_5452);
    w.nic().set(regs::RAH0, 0x8000_5634);
    w.run_driver();
    assert_eq!(w.rings.status().mac(), MAC);

    for (low, high) in [(0, 0), (0x1200_5452, 0x5634), (0, regs::RAH_AV), (1, regs::RAH_AV)] {
        let mut w = World::new(1, false);
        w.nic().eeprom = None;
        w.nic().set(regs::RAL0, low);
        w.nic().set(regs::RAH0, high);
        let result = Driver::start(&mut w.hw, &w.config);
        assert!(matches!(result, Err(StartError::NoAddress)), "{low:x} {high:x}");
    }
}

#[test]
fn rings_of_every_size() {
    for (args, bytes) in [("rx=32 tx=512", (512, 8192)), ("rx=512 tx=32 budget=1", (8192, 512))] {
        let mut w = World::with(1, false, model(0x100e), Settings::parse(args).unwrap());
        w.run_driver();
        assert_eq!((w.reg(regs::RDLEN), w.reg(regs::TDLEN)), bytes);
        w.nic().now += 2_000_000_000;
        w.run_netd();
        w.run_driver();
        assert_eq!(w.reg(regs::RDT), bytes.0 / 16 - 1, "one place stays empty");
        for _ in 0..100 {
            w.traffic();
            w.run_driver();
            w.run_netd();
        }
        w.settle();
        w.check();
    }
}

#[test]
fn an_impossible_netd_is_waited_for() {
    let mut w = started(false);
    w.kill();
    let head = w.rings.net_word(offset::RX_USED_CONSUMER / 8);
    head.store(3, Relaxed);
    let result = Driver::start(&mut w.hw, &w.config);
    assert!(matches!(result, Err(StartError::Peer(PeerError::Index { claimed: 3, ours: 0 }))));
    head.store(0, Relaxed);
    assert!(Driver::start(&mut w.hw, &w.config).is_ok());
    assert_eq!(w.rings.counter(Counter::ColdStarts), 1, "the NIC ran on all the time");
}

#[test]
fn link_changes_are_published() {
    let mut w = started(false);
    w.run_netd();
    w.nic().events.clear();
    let up = w.reg(regs::STATUS);
    let s = w.rings.status();
    let version = s.version.load(Relaxed);
    w.nic().set(regs::STATUS, up & !2);
    w.nic().cause(1 << 2);
    assert!(w.run_driver(), "LSC interrupts");
    assert_eq!((s.version.load(Relaxed), s.link.load(Relaxed)), (version + 1, 0));
    assert!(w.run_netd(), "and is passed on");
    w.nic().set(regs::STATUS, up & !(3 << 6) | 1 << 6);
    w.nic().cause(1 << 2);
    w.run_driver();
    assert_eq!((s.link.load(Relaxed), s.speed.load(Relaxed)), (1, 100));
    w.nic().cause(1 << 2);
    w.run_driver();
    assert_eq!(s.version.load(Relaxed), version + 2, "no change, no news");
    assert_eq!(lines(&w), ["link down", "link up 100 Mbit/s"]);
    assert_eq!(w.rings.counter(Counter::LinkChanges), 2);
    // A change that nobody saw, because the driver was dead.
    w.nic().set(regs::STATUS, up & !2);
    w.kill();
    w.run_driver();
    assert_eq!(s.link.load(Relaxed), 0);
}

#[test]
fn damaged_frames_come_back_empty() {
    for (status, flags, errors) in [
        (0x0007, 0, 0),
        (0x0023, RxUsed::CSUM_OK, 0),
        (0x2023, 0, 0),             // TCPE: netd judges
        (0x0103, RxUsed::EMPTY, 1), // CRC
        (0x8003, RxUsed::EMPTY, 1), // RXE
        (0x0001, RxUsed::EMPTY, 1), // no EOP
    ] {
        let mut w = started(false);
        w.netd.give_buffers(4);
        w.ring_doorbell();
        w.run_driver();
        w.nic().rx_status = status;
        w.arrive();
        w.nic().receive(1);
        w.run_driver();
        let mut used = w.rings.rx_used().consumer().unwrap();
        let entry = used.pop().unwrap().unwrap();
        assert_eq!(entry.flags, flags, "status {status:x}");
        assert_eq!(entry.len == 0, flags == RxUsed::EMPTY);
        assert_eq!(w.rings.counter(Counter::RxErrors), errors);
        // The descriptor after a frame without an end holds the rest of it, if anything.
        w.nic().rx_status = 7;
        w.arrive();
        w.nic().receive(1);
        w.run_driver();
        let entry = used.pop().unwrap().unwrap();
        assert_eq!(entry.flags == RxUsed::EMPTY, status == 1);
    }
}

#[test]
fn batches() {
    let mut w = started(false);
    let (_, rdt, tdt) = w.writes();
    w.run_netd();
    w.run_driver();
    assert_eq!(w.writes(), (1, rdt + 1, tdt), "255 buffers with one RDT write");
    // Buffers given back one by one do not wake the driver while the NIC has enough.
    for _ in 0..20 {
        w.arrive();
    }
    w.nic().receive(20);
    w.run_driver();
    w.netd.take(&mut w.hw.0.borrow_mut());
    assert!(!w.netd.give_buffers(20), "no signal");
    assert_eq!(w.writes().1, rdt + 1);
    // Thirty frames, one TDT write, and no interrupt for them.
    let interrupts = w.rings.counter(Counter::Interrupts);
    while w.netd.expected.len() < 30 {
        w.netd.send(&mut w.hw.0.borrow_mut());
    }
    w.netd.finish();
    w.ring_doorbell();
    w.run_driver();
    assert!(w.writes().2 - tdt <= 1 + w.netd.spoiled as u32 * 2);
    assert!(!w.nic().line());
    assert_eq!(w.rings.counter(Counter::Interrupts), interrupts);
    w.settle();
}

#[test]
fn a_nic_short_of_buffers_asks_for_them() {
    let mut w = started(false);
    w.run_netd();
    w.run_driver();
    // netd has given all its buffers, and takes none back.
    for _ in 0..RX_BUFFERS {
        w.arrive();
    }
    while !w.nic().incoming.is_empty() {
        w.nic().receive(100);
        while w.run_driver() {}
    }
    assert_eq!(w.reg(regs::RDH), w.reg(regs::RDT), "the NIC has none");
    w.netd.take(&mut w.hw.0.borrow_mut());
    assert!(w.netd.give_buffers(1), "one buffer is worth a signal");
    w.ring_doorbell();
    w.run_driver();
    assert!(w.netd.give_buffers(1), "and so is the next");
}

#[test]
fn a_slow_nic_interrupts_when_it_has_sent() {
    let mut w = started(true);
    w.run_netd();
    w.run_driver();
    assert_eq!(w.reg(regs::IMS) & 1, 0);
    for _ in 0..300 {
        w.netd.send(&mut w.hw.0.borrow_mut());
        w.ring_doorbell();
        w.run_driver();
    }
    assert_eq!(w.reg(regs::IMS) & 1, 1, "TXDW");
    w.settle();
    w.check();
    assert!(w.nic().events.iter().all(|e| !matches!(e, Event::RingStopped(..))));
}

/// Manual 13.5.1: bits 47:36 of the address choose one of 4,096.
#[test]
fn groups_that_netd_names_are_taken() {
    let mut w = started(false);
    let table = |w: &World| -> Vec<(u32, u32)> {
        (0..128).map(|i| (i, w.reg(regs::MTA.word(i)))).filter(|(_, v)| *v != 0).collect()
    };
    assert_eq!(table(&w), []);
    let (all, own) = ([0x33, 0x33, 0, 0, 0, 1], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    w.rings.groups().set([all, own, [2, 0, 0, 0, 0, 1]].into_iter());
    w.rung();
    assert_eq!(table(&w), [(0, 1 << 16), (0x2b, 1 << 3)], "0x010 and 0x563; a station is no group");
    let writes = w.writes();
    w.kill();
    w.run_driver();
    assert_eq!(w.writes(), writes, "a warm start finds the table as it is");
    w.rings.groups().set((0..=255).map(|i| [0x33, 0x33, 0, 0, 0, i]));
    w.rung();
    assert_eq!(table(&w).len(), 128, "too many to name: all");
    let groups = w.rings.groups();
    groups.version.fetch_add(1, Relaxed);
    groups.count.store(0, Relaxed);
    w.rung();
    assert_eq!(table(&w).len(), 128, "in the middle of a change");
    groups.set(std::iter::empty());
    w.rung();
    assert_eq!(table(&w), []);
}
