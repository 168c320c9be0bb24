//! Another network card of a host, with a driver of its own. It computes nothing: every frame lies whole in header memory.

use super::Region;
use super::host::Driver;
use super::memory::ring;
use libipc::nic::{self, Groups, RxFree, RxUsed, Status, TxDesc, TxFree, WINDOW_TX, offset};
use netd::port::PortMemory;
use netd::{Addressing, Addressing6, NicSetup};
use std::sync::atomic::Ordering::*;

/// How it is set up.
#[derive(Clone, Copy)]
pub struct CardSpec {
    pub mac: [u8; 6],
    pub addressing: Addressing,
    pub ip6: Addressing6,
}

pub struct Card {
    spec: CardSpec,
    drv: Region,
    net: Region,
    pool: Region,
    headers: Region,
    driver: Option<Driver>,
    /// The driver does nothing, as a dead one.
    pub stuck: bool,
}

/// What netd and a driver share, in these regions.
pub fn port_memory(drv: Region, net: Region, pool: Region, headers: Region) -> PortMemory {
    PortMemory {
        status: &drv.view::<Status>(offset::STATUS, 1)[0],
        groups: &net.view::<Groups>(offset::GROUPS, 1)[0],
        pool: pool.bytes(),
        headers: headers.bytes(),
        rx_free: ring((net, offset::RX_FREE_PRODUCER), (drv, offset::RX_FREE_CONSUMER), nic::RING),
        rx_used: ring((drv, offset::RX_USED_PRODUCER), (net, offset::RX_USED_CONSUMER), nic::RING),
        tx_used: ring((net, offset::TX_USED_PRODUCER), (drv, offset::TX_USED_CONSUMER), nic::RING),
        tx_free: ring((drv, offset::TX_FREE_PRODUCER), (net, offset::TX_FREE_CONSUMER), nic::RING),
    }
}

impl Card {
    pub fn new(spec: CardSpec) -> Self {
        Self {
            spec,
            drv: Region::new(offset::DRV_BYTES),
            net: Region::new(offset::NET_BYTES),
            pool: Region::new((nic::RX_BUFFERS * nic::RX_BUFFER_SIZE) as usize),
            headers: Region::new(256 * 1024),
            driver: None,
            stuck: false,
        }
    }

    fn port(&self) -> PortMemory {
        port_memory(self.drv, self.net, self.pool, self.headers)
    }

    /// As netd is told of it.
    pub fn setup(&self) -> NicSetup {
        let CardSpec { addressing, ip6, .. } = self.spec;
        NicSetup { port: self.port(), addressing, ip6 }
    }

    /// Starts its driver, on what an earlier one left.
    pub fn start(&mut self) {
        let port = self.port();
        let [a, b, c, d, e, f] = self.spec.mac;
        port.status.mac.store(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]), Relaxed);
        port.status.link.store(1, Relaxed);
        port.status.speed.store(1000, Relaxed);
        port.status.version.fetch_add(1, Release);
        self.driver = Some(Driver {
            rx_free: port.rx_free.consumer().expect("netd has formatted it"),
            rx_used: port.rx_used.producer().unwrap(),
            tx_used: port.tx_used.consumer().expect("netd has formatted it"),
            tx_free: port.tx_free.producer().unwrap(),
        });
    }

    /// Its driver writes nonsense.
    pub fn lie(&mut self) {
        let driver = self.driver.as_mut().expect("running");
        driver.rx_used.push(RxUsed { buffer: 0x7777, len: 60, flags: 0 }).unwrap();
        let _ = driver.rx_used.publish();
    }

    /// Puts its cable in, or pulls it.
    pub fn plug(&self, up: bool) {
        let status = self.port().status;
        status.link.store(up as u32, Relaxed);
        status.version.fetch_add(1, Release);
    }

    /// The groups that it is to take.
    pub fn groups(&self) -> Vec<[u8; 6]> {
        self.port().groups.get().expect("not all").collect()
    }

    /// What it puts on the wire.
    pub fn transmitted(&mut self) -> Vec<Vec<u8>> {
        let Some(driver) = self.driver.as_mut().filter(|_| !self.stuck) else { return Vec::new() };
        let mut frames = Vec::new();
        while let Some(desc) = driver.tx_used.pop().expect("netd is honest") {
            assert_eq!((desc.window, desc.flags), (WINDOW_TX, TxDesc::EOP), "frames lie whole");
            let mut frame = vec![0; desc.len as usize];
            assert!(self.headers.bytes().read(desc.offset as usize, &mut frame));
            frames.push(frame);
            assert!(driver.tx_free.push(TxFree { cookie: desc.cookie, refused: 0 }).unwrap());
        }
        driver.tx_used.release();
        let _ = driver.tx_free.publish();
        let _ = driver.tx_used.sleep();
        frames
    }

    /// A frame arrives.
    pub fn receive(&mut self, frame: &[u8]) {
        let driver = self.driver.as_mut().expect("running");
        let RxFree { buffer } = driver.rx_free.pop().expect("netd is honest").expect("a buffer");
        assert!(self.pool.bytes().write((buffer * nic::RX_BUFFER_SIZE) as usize, frame));
        assert!(driver.rx_used.push(RxUsed { buffer, len: frame.len() as u16, flags: 0 }).unwrap());
        driver.rx_free.release();
        let _ = driver.rx_used.publish();
    }

    /// All its memory.
    pub(super) fn regions(&self) -> [Region; 4] {
        [self.drv, self.net, self.pool, self.headers]
    }
}
