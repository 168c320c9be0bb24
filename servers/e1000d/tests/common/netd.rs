//! A netd that knows what it sent and what it may receive, and says so when it gets anything else.

use super::nic::{Nic, TX_BYTES};
use super::world::Rings;
use super::{Rng, pattern, sum};
use libipc::nic::*;
use libipc::ring::{Consumer, Producer};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

const CELL: usize = 2048;
const CELLS: usize = TX_BYTES / CELL;

/// What netd expects for a frame it gave.
struct Sent {
    cookie: u16,
    refused: bool,
    /// Frames on the wire that it becomes.
    wire: u64,
}

/// Number and bytes of a frame; where its checksum starts and where it goes.
type Expected = (u64, Vec<u8>, Option<(usize, usize)>);

pub struct Netd {
    rx_free: Producer<RxFree>,
    rx_used: Option<Consumer<RxUsed>>,
    tx_used: Producer<TxDesc>,
    tx_free: Option<Consumer<TxFree>>,
    rings: Rings,
    /// Receive buffers that are netd's.
    pub buffers: Vec<u32>,
    cells: VecDeque<u16>,
    in_flight: VecDeque<Sent>,
    /// Frames given that the wire must show, in this order: number, and offsets of the checksum.
    pub expected: VecDeque<Expected>,
    /// Pieces of a frame that are not published yet.
    rest: VecDeque<TxDesc>,
    next_tx: u64,
    /// Number of the next frame to receive.
    pub next_rx: u64,
    pub received: u64,
    pub received_bytes: u64,
    pub reported: u64,
    pub refused: u64,
    /// Frames that those which were not refused became on the wire.
    pub on_wire: u64,
    pub came_back_empty: u64,
    /// Malformed frames given.
    pub spoiled: u64,
    /// The driver has lost its memory: what comes may be anything.
    pub lenient: bool,
    pub rng: Rng,
}

impl Netd {
    pub fn new(rings: Rings, seed: u64) -> Self {
        Self {
            rx_free: rings.rx_free().producer().unwrap(),
            rx_used: None,
            tx_used: rings.tx_used().producer().unwrap(),
            tx_free: None,
            rings,
            buffers: (0..RX_BUFFERS).rev().collect(),
            cells: (0..CELLS as u16).collect(),
            in_flight: VecDeque::new(),
            expected: VecDeque::new(),
            rest: VecDeque::new(),
            next_tx: 0,
            next_rx: 0,
            received: 0,
            received_bytes: 0,
            reported: 0,
            refused: 0,
            on_wire: 0,
            came_back_empty: 0,
            spoiled: 0,
            lenient: false,
            rng: Rng::new(seed),
        }
    }

    pub fn idle(&self) -> bool {
        self.lenient || self.in_flight.is_empty() && self.rest.is_empty()
    }

    /// Whether half a frame is published.
    pub fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Publishes the other half.
    pub fn finish(&mut self) -> bool {
        for piece in self.rest.drain(..) {
            assert!(self.tx_used.push(piece).unwrap());
        }
        self.tx_used.publish()
    }

    /// Takes what the driver has for netd.
    pub fn take(&mut self, nic: &mut Nic) {
        self.rx_used = self.rx_used.take().or_else(|| self.rings.rx_used().consumer().ok());
        self.tx_free = self.tx_free.take().or_else(|| self.rings.tx_free().consumer().ok());
        let (Some(rx), Some(tx)) = (&mut self.rx_used, &mut self.tx_free) else { return };
        while let Some(used) = rx.pop().unwrap() {
            assert!(!self.buffers.contains(&used.buffer), "buffer {} given twice", used.buffer);
            self.buffers.push(used.buffer);
            let at = used.buffer as usize * RX_BUFFER_SIZE as usize;
            if used.flags & RxUsed::EMPTY != 0 {
                self.came_back_empty += 1;
                continue;
            }
            let frame = &mut nic.pool[at..at + used.len as usize];
            let seq = u64::from_le_bytes(frame[..8].try_into().unwrap());
            if !self.lenient {
                assert_eq!(seq, self.next_rx, "received frames in order, each once");
            }
            self.next_rx = seq + 1;
            assert!(frame == pattern(seq, frame.len()), "bytes of received frame {seq}");
            self.received += 1;
            self.received_bytes += used.len as u64;
            frame.fill(0xee);
        }
        rx.release();
        while let Some(free) = tx.pop().unwrap() {
            if self.lenient {
                continue;
            }
            let sent = self.in_flight.pop_front().expect("more frames came back than were given");
            assert_eq!(free.cookie, sent.cookie, "frames come back in order, each once");
            assert_eq!(free.refused == 1, sent.refused);
            self.reported += 1;
            self.refused += sent.refused as u64;
            self.on_wire += if sent.refused { 0 } else { sent.wire };
            let at = free.cookie as usize * CELL;
            // Reading them from now on would show.
            nic.tx[at..at + CELL].fill(0xdd);
            nic.session[at..at + CELL].fill(0xdd);
            self.cells.push_back(free.cookie);
        }
        tx.release();
    }

    /// Gives up to `n` buffers. `true`: the driver must be signalled.
    pub fn give_buffers(&mut self, n: usize) -> bool {
        for _ in 0..n {
            let Some(buffer) = self.buffers.pop() else { break };
            assert!(self.rx_free.push(RxFree { buffer }).unwrap());
        }
        self.rx_free.publish()
    }

    /// Sends a frame, maybe malformed; maybe only half of it is published now.
    pub fn send(&mut self, nic: &mut Nic) -> bool {
        let room = self.tx_used.space().unwrap() > 8;
        if self.rest.is_empty() && room && !self.cells.is_empty() {
            self.make(nic);
        }
        let half = self.rng.chance(16);
        let n = if half { self.rest.len() / 2 } else { self.rest.len() };
        for piece in self.rest.drain(..n) {
            assert!(self.tx_used.push(piece).unwrap());
        }
        self.tx_used.publish()
    }

    fn make(&mut self, nic: &mut Nic) {
        let cookie = self.cells.pop_front().unwrap();
        let base = cookie as usize * CELL;
        // Often several in a row.
        let after = self.in_flight.back().is_some_and(|s| s.refused);
        let refused = self.rng.chance(if after { 2 } else { 12 });
        let len = 60 + self.rng.below(1455) as usize;
        let seq = self.next_tx;
        let mut frame = pattern(seq, len);
        let mut csum = match self.rng.below(3) {
            0 => Csum::None,
            1 => Csum::Tcp,
            _ => Csum::Udp,
        };
        let l4_start = 34 + 4 * self.rng.below(2) as u8;
        let (mut hdr_len, mut mss) = (0, 0);
        let tso = self.rings.status().caps.load(Relaxed) & caps::TSO != 0;
        if tso && self.rng.chance(6) {
            csum = Csum::Tcp;
            hdr_len = l4_start + 20 + 4 * self.rng.below(3) as u8;
            mss = 48 + self.rng.below(500) as u16;
            frame.resize(hdr_len as usize + 1 + self.rng.below(1900) as usize, 0x5a);
            // The NIC sums the IP header with this field.
            frame[24..26].fill(0);
        }
        let len = frame.len();
        let mut left = self.rng.below(MAX_PIECES as u64) as usize;
        let mut at = 0;
        let mut pieces = Vec::new();
        while at < len {
            let n = if at == 0 && mss != 0 {
                hdr_len as usize
            } else if left == 0 || len - at < 2 {
                len - at
            } else {
                1 + self.rng.below((len - at - 1) as u64) as usize
            };
            left = left.saturating_sub(1);
            let session = self.rng.chance(2);
            let memory = if session { &mut nic.session } else { &mut nic.tx };
            memory[base + at..base + at + n].copy_from_slice(&frame[at..at + n]);
            pieces.push(TxDesc {
                window: if session { WINDOW_SESSION } else { WINDOW_TX },
                flags: 0,
                len: n as u16,
                offset: (base + at) as u32,
                cookie,
                l3_start: 14,
                l4_start,
                csum,
                hdr_len,
                mss,
            });
            at += n;
        }
        pieces.last_mut().unwrap().flags = TxDesc::EOP;
        let mut wire = 1;
        if refused {
            self.spoil(&mut pieces);
            self.spoiled += 1;
        } else {
            self.next_tx += 1;
            let at = l4_start as usize;
            let sums = match csum {
                Csum::None => None,
                Csum::Tcp => Some((at, at + 16)),
                Csum::Udp => Some((at, at + 6)),
            };
            if mss == 0 {
                self.expected.push_back((seq, frame, sums));
            } else {
                let all = segments(&frame, l4_start as usize, hdr_len as usize, mss as usize);
                wire = all.len() as u64;
                self.expected.extend(all.into_iter().map(|f| (seq, f, sums)));
            }
        }
        self.in_flight.push_back(Sent { cookie, refused, wire });
        self.rest = pieces.into();
    }

    /// Makes the frame one that no driver may send.
    fn spoil(&mut self, pieces: &mut Vec<TxDesc>) {
        let i = self.rng.below(pieces.len() as u64) as usize;
        match self.rng.below(8) {
            0 => pieces[i].window = WINDOW_RINGS,
            1 => pieces[i].offset = TX_BYTES as u32 - pieces[i].len as u32 + 1,
            2 => pieces[i].len = 0,
            3 => pieces[i].len = 16_385,
            4 => (pieces[0].mss, pieces[0].hdr_len) = (1460, 0),
            5 => (pieces[0].csum, pieces[0].l4_start) = (Csum::Tcp, 250),
            6 => {
                let first = TxDesc { len: 1, flags: 0, ..pieces[0] };
                pieces.splice(0..0, [first; MAX_PIECES]);
            }
            _ => pieces[i].window = 200,
        }
    }

    /// Checks what has left against what was given, in order, each once.
    pub fn check_wire(&mut self, nic: &mut Nic) {
        for frame in nic.wire.drain(..) {
            if self.lenient {
                continue;
            }
            let (seq, mut want, sums) = self.expected.pop_front().expect("a frame nobody sent");
            let got = u64::from_le_bytes(frame[..8].try_into().unwrap());
            assert_eq!(got, seq, "sent frames in order, each once");
            if let Some((start, field)) = sums {
                let seed = u16::from_be_bytes([want[field], want[field + 1]]) as u32;
                let total = sum(&frame[start..]) + seed;
                assert_eq!(sum(&(total as u16).to_be_bytes()) + (total >> 16), 0xffff, "checksum");
                want[field..field + 2].copy_from_slice(&frame[field..field + 2]);
            }
            assert!(frame == want, "bytes of sent frame {seq}");
        }
    }

    /// Takes everything back and begins to expect again, with frame `next_rx`.
    pub fn forget(&mut self, next_rx: u64) {
        self.lenient = false;
        self.in_flight.clear();
        self.expected.clear();
        self.rest.clear();
        self.cells = (0..CELLS as u16).collect();
        self.next_rx = next_rx;
    }

    /// Before sleeping. `true`: nothing to do.
    pub fn sleep(&mut self) -> bool {
        let rx = self.rx_used.as_mut().is_none_or(|r| r.sleep().unwrap());
        let tx = self.tx_free.as_mut().is_none_or(|r| r.sleep().unwrap());
        rx && tx
    }
}

/// What a frame becomes when the NIC cuts its payload into segments of `mss` bytes (manual 3.5):
/// each with its own lengths, numbers and sum of the IP header. Of the TCP checksum the caller
/// knows where it goes, and that the field holds the pseudo-header's sum without the length.
pub fn segments(frame: &[u8], l4: usize, headers: usize, mss: usize) -> Vec<Vec<u8>> {
    let (head, payload) = frame.split_at(headers);
    let count = payload.len().div_ceil(mss);
    let seq = u32::from_be_bytes(head[l4 + 4..l4 + 8].try_into().unwrap());
    let id = u16::from_be_bytes([head[18], head[19]]);
    let mut out = Vec::new();
    for (i, part) in payload.chunks(mss).enumerate() {
        let mut f = [head, part].concat();
        let ip_len = (f.len() - 14) as u16;
        f[16..18].copy_from_slice(&ip_len.to_be_bytes());
        f[18..20].copy_from_slice(&id.wrapping_add(i as u16).to_be_bytes());
        f[24..26].fill(0);
        let ip_sum = !(sum(&f[14..l4]) as u16);
        f[24..26].copy_from_slice(&ip_sum.to_be_bytes());
        f[l4 + 4..l4 + 8].copy_from_slice(&seq.wrapping_add((i * mss) as u32).to_be_bytes());
        if i + 1 < count {
            f[l4 + 13] &= !9;
        }
        let pseudo = sum(&[&f[l4 + 16..l4 + 18], &((f.len() - l4) as u16).to_be_bytes()].concat());
        f[l4 + 16..l4 + 18].copy_from_slice(&(pseudo as u16).to_be_bytes());
        out.push(f);
    }
    out
}
