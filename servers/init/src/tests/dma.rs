//! What devices reach, and what init says and does when they try more.

use alloc::vec::Vec;
use libipc::proc::{Crash, DmaDevice, Error, Reply, Request};

use super::*;
use crate::layout::{signal, slot};

/// The NIC as the IOMMU knows it: bus 0, device 3.
const DEVICE: u16 = 3 << 3;
/// Reason and direction of a refused write.
const WROTE: u64 = DEVICE as u64 | 5 << 16 | 1 << 24;

fn confined() -> Booted {
    let mut b = try_boot(machine().with_iommu(), &system()).unwrap();
    b.s.start_all(&mut b.k);
    b
}

fn request(b: &mut Booted, request: &Request) -> Result<Reply, Error> {
    b.s.request(&mut b.k, badge::request(2), request).expect("an answer")
}

/// The device faults, and the interrupt comes.
fn fault(b: &mut Booted, records: &[[u64; 2]]) {
    b.k.iommu.as_mut().unwrap().faults.extend(records);
    b.s.signals(&mut b.k, signal::DMA);
}

fn pause(b: &mut Booted) {
    b.k.now += 250_000_000;
    b.s.signals(&mut b.k, signal::TIMER);
}

fn acknowledged(b: &Booted) -> u32 {
    b.k.iommu.as_ref().unwrap().acknowledged
}

#[test]
fn a_device_reaches_its_regions_as_the_manifest_says_and_nothing_else() {
    let mut b = confined();
    let text = b.printed();
    assert!(text.contains("IOMMU: nic0 (00:03.0) reads 16 KiB and writes 4124 KiB"), "{text}");
    // The rings, and the pool that srv has mapped as well: two large pages and three small ones.
    let pages = &b.k.reach(DEVICE).unwrap().pages;
    let rights =
        |read, write| pages.values().filter(|p| (p.read, p.write) == (read, write)).count();
    assert_eq!((pages.len(), rights(true, true), rights(false, true)), (4 + 5, 4, 5));
    // The driver is told the same addresses as without: they are physical ones.
    for name in ["rings", "pool"] {
        let region = boot::start_info(&b, 0).region(name).unwrap().clone();
        let (_, address) = region.dma.unwrap();
        let first = pages.keys().filter(|at| (address..address + region.len).contains(*at)).min();
        assert_eq!(first, Some(&address), "{name}");
    }
    // Nothing of that is made again when the driver dies.
    let before: Vec<u64> = pages.keys().copied().collect();
    b.fault(0, FaultKind::Undefined, [0x40_1004, 0, 0, 0]);
    assert_eq!(b.k.reach(DEVICE).unwrap().pages.keys().copied().collect::<Vec<_>>(), before);
    let name = crate::report::name("drv");
    let device = DmaDevice { device: DEVICE, driver: name, reach: Some((16, 4124)) };
    let Ok(Reply::Dma { devices, refused: 0, lost: false, last: None }) =
        request(&mut b, &Request::Dma)
    else {
        panic!("not what was asked for");
    };
    assert_eq!(devices, [device]);
}

#[test]
fn without_an_iommu_dma_is_trusted_and_init_says_so() {
    let mut b = booted();
    let text = b.printed();
    assert!(
        text.contains("DMA is trusted: there is no IOMMU, nic0 (00:03.0) reaches all"),
        "{text}"
    );
    let Ok(Reply::Dma { devices, .. }) = request(&mut b, &Request::Dma) else { panic!() };
    assert_eq!(devices[0].reach, None);
    let crash = |who| Request::Crash(crate::report::name(who), Crash::Dma);
    assert_eq!(request(&mut b, &crash("drv")), Err(Error::NotConfined));
    assert_eq!(request(&mut b, &crash("srv")), Err(Error::NoDevice));
    let mut b = confined();
    assert_eq!(request(&mut b, &crash("drv")), Ok(Reply::Done));
}

#[test]
fn a_refused_transfer_is_told_with_device_address_and_direction() {
    let mut b = confined();
    b.printed();
    fault(&mut b, &[[0x20_0000, WROTE]]);
    let text = b.printed();
    assert!(
        text.contains("dma fault: drv's device 00:03.0 wrote 0x200000: refused (reason 5)"),
        "{text}"
    );
    assert_eq!(acknowledged(&b), 0);
    assert!(b.k.deadline(slot::TIMER).is_some());
    pause(&mut b);
    assert_eq!(acknowledged(&b), 1);
    fault(&mut b, &[[0x30_0000, 0x1_0000 | 0x20]]);
    let text = b.printed();
    assert!(text.contains("dma fault: device 00:04.0 read 0x300000: refused (reason 1)"), "{text}");
    let Ok(Reply::Dma { refused, last, .. }) = request(&mut b, &Request::Dma) else { panic!() };
    assert_eq!((refused, last.unwrap().address), (2, 0x30_0000));
}

#[test]
fn a_storm_is_few_interrupts_and_few_lines() {
    let mut b = confined();
    b.printed();
    let began = b.k.now;
    let mut interrupts = 0;
    while b.k.now < began + 2_000_000_000 {
        // As the hardware does it: the interrupt comes once until it is acknowledged.
        let before = acknowledged(&b);
        fault(&mut b, &[[0x20_0000, WROTE | 1 << 25]; 100]);
        interrupts += 1;
        b.s.signals(&mut b.k, signal::TIMER);
        assert_eq!(acknowledged(&b), before);
        pause(&mut b);
        assert_eq!(acknowledged(&b), before + 1);
    }
    assert_eq!(interrupts, 8);
    let text = b.printed();
    let lines = text.lines().filter(|l| l.contains("dma fault")).count();
    assert_eq!(lines, 8, "{text}");
    assert!(text.contains("refused (reason 5) (and 7 more times since the last line)"), "{text}");
    let Ok(Reply::Dma { refused, lost, .. }) = request(&mut b, &Request::Dma) else { panic!() };
    assert_eq!((refused, lost), (64, true));
}
