//! The driver's rings as a device of smoltcp: frames come and go as they do for netd. It believes the driver, and reads
//! frames where they lie.

use libipc::nic::{self, Csum, RxFree, RxUsed, TxDesc, TxFree, WINDOW_TX};
use libipc::ring::{Consumer, Producer};
use libipc::shared::Bytes;
use netd::port::PortMemory;
use smoltcp::phy::{self, Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::world::{Driver, DriverParts};

/// Room of a frame that leaves, and how many there are.
const ROOM: usize = 2048;
const FRAMES: u16 = 64;
/// With fewer frames on their way it does not matter when they come back: as netd has it.
const FEW: u16 = 16;
const LEAST: usize = 60;

/// netd's ends of the rings.
pub struct Rings {
    pool: Bytes,
    headers: Bytes,
    rx_free: Producer<RxFree>,
    rx_used: Consumer<RxUsed>,
    tx_used: Producer<TxDesc>,
    tx_free: Consumer<TxFree>,
    next: u16,
    in_flight: u16,
}

impl Rings {
    /// Attaches both ends.
    pub fn new(port: PortMemory, driver: DriverParts) -> (Self, Driver) {
        let (mut rx_free, tx_used) = (port.rx_free.producer_anew(), port.tx_used.producer_anew());
        let driver = driver.start();
        for buffer in 0..nic::RX_BUFFERS {
            assert_eq!(rx_free.push(RxFree { buffer }), Ok(true));
        }
        let mut rings = Self {
            pool: port.pool,
            headers: port.headers,
            rx_free,
            rx_used: port.rx_used.consumer().expect("formatted"),
            tx_used,
            tx_free: port.tx_free.consumer().expect("formatted"),
            next: 0,
            in_flight: 0,
        };
        rings.publish();
        (rings, driver)
    }

    /// What was taken and given is made visible to the driver.
    pub fn publish(&mut self) {
        self.rx_used.release();
        self.tx_free.release();
        let signal = self.rx_free.publish();
        std::hint::black_box(self.tx_used.publish() | signal);
    }

    /// Asks to be woken for frames.
    pub fn sleep(&mut self) {
        std::hint::black_box(self.rx_used.sleep().expect("an honest driver"));
    }

    fn take_back(&mut self) {
        while self.tx_free.pop().expect("an honest driver").is_some() {
            self.in_flight -= 1;
        }
    }
}

/// A frame that has come.
pub struct Rx(&'static [u8]);

/// Room for one that leaves.
pub struct Tx<'a>(&'a mut Rings);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let rings = self.0;
        let offset = (rings.next % FRAMES) as usize * ROOM;
        let at = rings.headers.range(offset, ROOM).expect("inside");
        // SAFETY: inside the memory, and nobody looks there while the frame is not described.
        let frame = unsafe { std::slice::from_raw_parts_mut(at, len.max(LEAST)) };
        let result = f(&mut frame[..len]);
        frame[len..].fill(0);
        let desc = TxDesc {
            window: WINDOW_TX,
            flags: TxDesc::EOP,
            len: frame.len() as u16,
            offset: offset as u32,
            cookie: rings.next,
            l3_start: 14,
            l4_start: 34,
            csum: if frame[23] == 6 { Csum::Tcp } else { Csum::Udp },
            hdr_len: 0,
            mss: 0,
        };
        assert!(rings.tx_used.push(desc).expect("an honest driver"));
        (rings.next, rings.in_flight) = (rings.next.wrapping_add(1), rings.in_flight + 1);
        result
    }
}

impl phy::Device for Rings {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, now: Instant) -> Option<(Rx, Tx<'_>)> {
        let used = self.rx_used.pop().expect("an honest driver")?;
        let offset = (used.buffer * nic::RX_BUFFER_SIZE) as usize;
        let at = self.pool.range(offset, used.len as usize).expect("inside");
        // SAFETY: inside the memory; the driver does not get the buffer back before the turn is over.
        let frame = unsafe { std::slice::from_raw_parts(at, used.len as usize) };
        assert!(self.rx_free.push(RxFree { buffer: used.buffer }).expect("an honest driver"));
        Some((Rx(frame), self.transmit(now)?))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        if self.in_flight >= FEW {
            self.take_back();
        }
        (self.in_flight < FRAMES).then_some(Tx(self))
    }

    /// The device computes the checksums of what it sends, as ours does.
    fn capabilities(&self) -> DeviceCapabilities {
        let mut checksum = ChecksumCapabilities::default();
        (checksum.tcp, checksum.udp) = (Checksum::Rx, Checksum::Rx);
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ethernet;
        caps.max_transmission_unit = 1514;
        caps.checksum = checksum;
        caps
    }
}
