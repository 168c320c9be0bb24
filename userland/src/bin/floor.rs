//! The least that can stand in netd's place: answers echo requests and offers three services of
//! `netbench` (UDP 7001, 7006, 7007) by turning the frame that came, with no stack, no sockets and no
//! other process between. What it costs is the floor for everything that is built on the driver;
//! `bench net` measures it beside the whole system. It trusts its peers and is no example.
#![no_std]
#![no_main]

use libipc::nic::{
    self, RX_BUFFER_SIZE, RX_BUFFERS, RxFree, RxUsed, TxDesc, TxFree, WINDOW_TX, offset,
};
use libipc::ring::{Consumer, Entry, Memory, Producer};
use libipc::shared::Bytes;
use libipc::start::Region;
use libipc::sys;
use rt::StartInfo;

rt::entry!(main);

/// Most frames with the driver; each has a place in `nic.tx`.
const IN_FLIGHT: u32 = 256;
/// Bytes of such a place.
const PLACE: usize = 2048;
/// Bytes of Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 42;
/// Bytes of a frame that are looked at.
const LOOKED: usize = 64 + 2;
const UDP_ECHO: u16 = 7001;
const COUNT: u16 = 7006;
const BLAST: u16 = 7007;

/// Datagrams that are still to be sent.
#[derive(Clone, Copy)]
struct Blast {
    left: u64,
    sent: u64,
    size: usize,
    since_ns: u64,
    /// The request's headers, turned.
    headers: [u8; HEADERS],
}

struct Floor {
    start: &'static StartInfo,
    pool: Bytes,
    out: Bytes,
    rx_free: Producer<RxFree>,
    tx_used: Producer<TxDesc>,
    sent: u32,
    returned: u32,
    datagrams: u64,
    bytes: u64,
    blast: Blast,
}

fn region(start: &'static StartInfo, name: &str) -> &'static Region {
    start.region(name).unwrap_or_else(|| panic!("no region {name}"))
}

fn ring<E: Entry>(producer: (&Region, usize), consumer: (&Region, usize)) -> Memory<E> {
    let at = |(region, offset): (&Region, usize)| region.vaddr as usize + offset;
    // SAFETY: init maps both regions for the life of the process, as large as `libipc::nic` says;
    // these parts of them are used by this ring only.
    unsafe { Memory::new(at(producer), at(consumer), nic::RING) }
}

fn bytes(region: &Region) -> Bytes {
    // SAFETY: mapped for the life of the process; no reference into it is made anywhere.
    unsafe { Bytes::new(region.vaddr as *mut u8, region.len as usize) }
}

fn main(start: &'static StartInfo) -> u64 {
    let (Some(events), Some(driver)) = (start.cap("events"), start.cap("e1000d.events")) else {
        return 1;
    };
    let (drv, net) = (region(start, "nic.drv"), region(start, "nic.net"));
    let ring_in = ring((net, offset::RX_FREE_PRODUCER), (drv, offset::RX_FREE_CONSUMER));
    let ring_out = ring((net, offset::TX_USED_PRODUCER), (drv, offset::TX_USED_CONSUMER));
    let used = ring((drv, offset::RX_USED_PRODUCER), (net, offset::RX_USED_CONSUMER));
    let free = ring((drv, offset::TX_FREE_PRODUCER), (net, offset::TX_FREE_CONSUMER));
    let mut floor = Floor {
        start,
        pool: bytes(region(start, "nic.rx")),
        out: bytes(region(start, "nic.tx")),
        rx_free: ring_in.producer().expect("rings are new"),
        tx_used: ring_out.producer().expect("rings are new"),
        sent: 0,
        returned: 0,
        datagrams: 0,
        bytes: 0,
        blast: Blast { left: 0, sent: 0, size: 0, since_ns: 0, headers: [0; HEADERS] },
    };
    for buffer in 0..RX_BUFFERS {
        let _ = floor.rx_free.push(RxFree { buffer });
    }
    let _ = floor.rx_free.publish();
    sys::signal(driver);
    let (mut used, mut free): (Consumer<RxUsed>, Consumer<TxFree>) = loop {
        match (used.consumer(), free.consumer()) {
            (Ok(used), Ok(free)) => break (used, free),
            // The driver signals when it has formatted its rings.
            _ => _ = sys::wait(events),
        }
    };
    rt::ready(start, format_args!("no stack"));
    loop {
        while let Ok(Some(_)) = free.pop() {
            floor.returned = floor.returned.wrapping_add(1);
        }
        while floor.room()
            && let Ok(Some(frame)) = used.pop()
        {
            floor.frame(&frame);
            let _ = floor.rx_free.push(RxFree { buffer: frame.buffer });
        }
        floor.go_on();
        used.release();
        free.release();
        let wake = floor.rx_free.publish() | floor.tx_used.publish();
        let nothing = matches!((used.sleep(), free.sleep()), (Ok(true), Ok(true)));
        match (nothing, wake) {
            (true, true) => _ = sys::signal_wait(driver, events),
            (true, false) => _ = sys::wait(events),
            (false, true) => sys::signal(driver),
            (false, false) => {}
        }
    }
}

impl Floor {
    fn room(&self) -> bool {
        self.sent.wrapping_sub(self.returned) < IN_FLIGHT
    }

    /// Sends the first `head` bytes of a frame of `len`; what follows them is left over from others.
    fn send(&mut self, head: &[u8], len: usize) {
        let at = (self.sent % IN_FLIGHT) as usize * PLACE;
        let _ = self.out.write(at, head);
        let (len, at) = (len.max(60) as u16, at as u32);
        let cookie = self.sent as u16;
        let desc = TxDesc {
            window: WINDOW_TX,
            flags: TxDesc::EOP,
            len,
            offset: at,
            cookie,
            ..TxDesc::default()
        };
        let _ = self.tx_used.push(desc);
        self.sent = self.sent.wrapping_add(1);
    }

    /// Answers a frame.
    fn frame(&mut self, used: &RxUsed) {
        let (at, len) = ((used.buffer * RX_BUFFER_SIZE) as usize, used.len as usize);
        let mut h = [0; LOOKED];
        if len < HEADERS || !self.pool.read(at, &mut h) {
            return;
        }
        let port = u16::from_be_bytes([h[36], h[37]]);
        // IPv4 without options.
        if (h[12], h[13], h[14]) != (8, 0, 0x45) {
            return;
        }
        let (protocol, first) = (h[23], h[42]);
        if protocol == 17 && port == COUNT && len > 60 {
            // The quick way for a flood.
            (self.datagrams, self.bytes) =
                (self.datagrams + 1, self.bytes + (len - HEADERS) as u64);
            return;
        }
        for (a, b, n) in [(0, 6, 6), (26, 30, 4)] {
            (0..n).for_each(|i| h.swap(a + i, b + i));
        }
        match (protocol, port) {
            (1, _) if h[34] == 8 => {
                h[34] = 0;
                // 0x0800 less in a sum is 0x0800 more in its complement (RFC 1624).
                let (sum, carry) = u16::from_be_bytes([h[36], h[37]]).overflowing_add(0x0800);
                h[36..38].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
                self.whole(at, len, &h);
            }
            (17, UDP_ECHO) => {
                (0..2).for_each(|i| h.swap(34 + i, 36 + i));
                self.whole(at, len, &h);
            }
            (17, COUNT) => {
                (0..2).for_each(|i| h.swap(34 + i, 36 + i));
                let answer = [self.datagrams, self.bytes];
                if first == b'R' {
                    (self.datagrams, self.bytes) = (0, 0);
                }
                let mut headers = [0; HEADERS];
                headers.copy_from_slice(&h[..HEADERS]);
                self.datagram(headers, &answer);
            }
            (17, BLAST) => {
                (0..2).for_each(|i| h.swap(34 + i, 36 + i));
                let mut headers = [0; HEADERS];
                headers.copy_from_slice(&h[..HEADERS]);
                let word = |at: usize| u32::from_le_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
                self.blast = Blast {
                    left: word(42).into(),
                    sent: 0,
                    size: (word(50) as usize).min(PLACE - HEADERS),
                    since_ns: self.start.now_ns(),
                    headers,
                };
            }
            _ => {}
        }
    }

    /// Sends a frame whose beginning is `head` and whose rest lies in the pool.
    fn whole(&mut self, at: usize, len: usize, head: &[u8; LOOKED]) {
        let place = (self.sent % IN_FLIGHT) as usize * PLACE;
        let mut chunk = [0; LOOKED];
        for done in (LOOKED..len).step_by(LOOKED) {
            let _ = self.pool.read(at + done, &mut chunk) && self.out.write(place + done, &chunk);
        }
        self.send(head, len);
    }

    /// Sends a datagram of these words.
    fn datagram(&mut self, mut headers: [u8; HEADERS], words: &[u64]) {
        sized(&mut headers, words.len() * 8);
        let mut frame = [0; HEADERS + 24];
        frame[..HEADERS].copy_from_slice(&headers);
        for (to, word) in frame[HEADERS..].chunks_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        self.send(&frame, HEADERS + words.len() * 8);
    }

    /// Sends what there is room for; at the end five times how it went.
    fn go_on(&mut self) {
        let mut headers = self.blast.headers;
        sized(&mut headers, self.blast.size);
        while self.blast.left > 0 && self.room() {
            self.send(&headers, HEADERS + self.blast.size);
            (self.blast.left, self.blast.sent) = (self.blast.left - 1, self.blast.sent + 1);
        }
        if self.blast.left == 0 && self.blast.sent > 0 {
            let took_us = (self.start.now_ns() - self.blast.since_ns) / 1000;
            for _ in 0..5 {
                self.datagram(self.blast.headers, &[self.blast.sent, 0, took_us]);
            }
            self.blast.sent = 0;
        }
    }
}

/// Sets the lengths for so many bytes of payload, no UDP checksum, and IPv4's.
fn sized(headers: &mut [u8; HEADERS], payload: usize) {
    headers[16..18].copy_from_slice(&(28 + payload as u16).to_be_bytes());
    headers[38..40].copy_from_slice(&(8 + payload as u16).to_be_bytes());
    headers[40..42].fill(0);
    headers[24..26].fill(0);
    let words = headers[14..34].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum: u32 = words.sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    headers[24..26].copy_from_slice(&sum.to_be_bytes());
}
