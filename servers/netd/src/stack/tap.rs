//! Packet taps: sockets that get copies of frames, as many bytes of each as their filters want.
//!
//! A frame is seen where it comes from the driver and where it goes to it, a looped one where it
//! arrives. Without taps that costs a test.

use super::tx::Payload;
use super::{Body, Stack};
use crate::bpf::Program;
use crate::dev::Dev;
use crate::env::{Env, SessionFault};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::*;
use libipc::shared::Bytes;
use libipc::sock::filter::{Insn, MAX};
use libipc::sock::{Dgram as Header, Error};

/// Taps at a time.
pub(super) const TAPS: usize = 16;
/// Bytes copied in one step.
const CHUNK: usize = 256;

struct Tap {
    sock: u32,
    filter: Program,
    /// Where in the send ring it lies; `None`: there has been none yet.
    from: Option<u64>,
}

/// All taps.
pub(super) struct Taps(Vec<Tap>);

impl Taps {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(TAPS))
    }
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Socket `i` is a tap from now on, which wants nothing yet; `false`: there is no room for it.
    pub(super) fn add(&mut self, i: u32) -> bool {
        let room = self.0.len() < TAPS;
        if room {
            self.0.push(Tap { sock: i, filter: Program::nothing(), from: None });
        }
        room
    }
    pub(super) fn remove(&mut self, i: u32) {
        self.0.retain(|tap| tap.sock != i);
    }
    fn of(&mut self, i: u32) -> Option<&mut Tap> {
        self.0.iter_mut().find(|tap| tap.sock == i)
    }
}

/// Where a frame lies.
#[derive(Clone, Copy)]
pub(super) enum Sight<'a> {
    /// In memory, from an offset on.
    At(&'a Bytes, usize),
    /// Headers, and payload behind them. The NIC sums it: its checksum is not there yet.
    Parts(&'a [u8], Payload<'a>),
}

/// Where it goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Coming(Dev),
    Leaving(Dev),
    /// It has never left.
    Looped,
}

impl<E: Env> Stack<E> {
    /// Shows a frame of `len` bytes to all taps.
    #[cold]
    #[inline(never)]
    pub(super) fn tap(&mut self, sight: Sight<'_>, len: usize, seen: Seen) {
        for n in 0..self.taps.0.len() {
            let tap = &self.taps.0[n];
            let (i, load) = (tap.sock, |at, size| self.load(sight, len, at, size));
            let wanted = (tap.filter.run(len as u32, load) as usize).min(len);
            if wanted > 0 {
                self.capture(i, sight, len, wanted, seen);
            }
        }
    }

    /// Copies `out.len()` bytes of a frame from `at` on.
    fn look(&self, sight: Sight<'_>, at: usize, out: &mut [u8]) -> bool {
        match sight {
            Sight::At(mem, start) => mem.read(start + at, out),
            Sight::Parts(head, payload) => {
                let known = head.len().saturating_sub(at).min(out.len());
                let (front, rest) = out.split_at_mut(known);
                if known > 0 {
                    front.copy_from_slice(&head[at..at + known]);
                }
                rest.is_empty() || self.look_at_payload(payload, at + known - head.len(), rest)
            }
        }
    }

    fn look_at_payload(&self, payload: Payload<'_>, at: usize, out: &mut [u8]) -> bool {
        match payload {
            Payload::None => false,
            Payload::Slice(bytes) => match bytes.get(at..at + out.len()) {
                Some(bytes) => {
                    out.copy_from_slice(bytes);
                    true
                }
                None => false,
            },
            Payload::At(from, len) => at + out.len() <= len && from.0.read(from.1 + at, out),
            Payload::Ring(session, [a, b]) => {
                let tx = &self.sessions[session as usize].mem.tx;
                let first = (a.len as usize).saturating_sub(at).min(out.len());
                let (front, back) = out.split_at_mut(first);
                let skip = (at + first).saturating_sub(a.len as usize);
                skip + back.len() <= b.len as usize
                    && (front.is_empty() || tx.read(a.offset as usize + at, front))
                    && (back.is_empty() || tx.read(b.offset as usize + skip, back))
            }
        }
    }

    /// What a filter loads.
    fn load(&self, sight: Sight<'_>, len: usize, at: u32, size: u8) -> Option<u32> {
        let (at, size) = (at as usize, size as usize);
        let mut word = [0; 4];
        let end = at.checked_add(size).filter(|end| *end <= len)?;
        let out = word.get_mut(4 - (end - at)..)?;
        self.look(sight, at, out).then(|| u32::from_be_bytes(word))
    }

    /// Puts the first `wanted` bytes of a frame into the ring of tap `i`.
    fn capture(&mut self, i: u32, sight: Sight<'_>, len: usize, wanted: usize, seen: Seen) {
        // The longest frame, of the loop, is longer than a header can say.
        let (len, wanted) = (len.min(u16::MAX as usize), wanted.min(u16::MAX as usize));
        let s = &self.socks[i as usize];
        let Body::Dgram(d) = &s.body else { return };
        let (size, tail) = (1u64 << s.rings.rx_bits, d.rx_tail);
        let space = Header::space(wanted);
        if size - (tail - d.rx_head) < space {
            s.rec.pending.store(s.rec.pending.load(Relaxed).saturating_add(1), Relaxed);
            self.counters.tap_no_room += 1;
            return;
        }
        let header = Header {
            len: wanted as u16,
            port: len as u16,
            flags: if matches!(seen, Seen::Leaving(_)) { Header::OUTGOING } else { 0 },
            interface: match seen {
                Seen::Coming(dev) | Seen::Leaving(dev) => dev.number(),
                Seen::Looped => Header::LOOP,
            },
            ip: [self.now, 0],
            ..Header::default()
        };
        self.put(i, tail, &header.to_bytes());
        let mut at = 0;
        while at < wanted {
            let mut chunk = [0; CHUNK];
            let n = CHUNK.min(wanted - at);
            if !self.look(sight, at, &mut chunk[..n]) {
                return;
            }
            self.put(i, tail + (Header::BYTES + at) as u64, &chunk[..n]);
            at += n;
        }
        let s = &mut self.socks[i as usize];
        if let Body::Dgram(d) = &mut s.body {
            d.rx_tail += space;
            // After the frame: this store is what the program sees.
            s.rec.rcv.store(d.rx_tail, Release);
        }
        self.ready(i);
    }

    /// Writes into the receive ring of socket `i` at position `at`.
    fn put(&self, i: u32, at: u64, bytes: &[u8]) {
        let s = &self.socks[i as usize];
        let rx = &self.sessions[s.session as usize].mem.rx;
        let size = 1usize << s.rings.rx_bits;
        let start = at as usize & (size - 1);
        let (a, b) = bytes.split_at(bytes.len().min(size - start));
        let base = s.rings.rx_off as usize;
        // Rings lie inside their regions: checked when the socket was opened.
        let _ = rx.write(base + start, a) && (b.is_empty() || rx.write(base, b));
    }

    /// Takes the filters in the send ring of tap `i`. The last one stays there: a new netd finds it.
    pub(super) fn take_filters(&mut self, i: u32) {
        while let Body::Dgram(d) = self.socks[i as usize].body
            && let Some(tap) = self.taps.of(i)
        {
            let from = tap.from;
            let here = self.filter_end(i, d.tx_head, d.tx_tail);
            let (at, end) = match from {
                // The one in use, and perhaps one behind it.
                Some(from) if from == d.tx_head => match here {
                    Some(next) if next < d.tx_tail => (next, self.filter_end(i, next, d.tx_tail)),
                    Some(_) => return,
                    None => (d.tx_head, None),
                },
                _ if d.tx_head == d.tx_tail => return,
                _ => (d.tx_head, here),
            };
            let Some(end) = end else {
                let (session, id) = (self.socks[i as usize].session, self.socks[i as usize].id);
                return self.session_fault(session, SessionFault::Datagram(id));
            };
            let filter = self.read_filter(i, at, end);
            if filter.is_none() {
                self.dgram_error(i, Error::Invalid);
            }
            if let Some(tap) = self.taps.of(i) {
                (tap.filter, tap.from) = (filter.unwrap_or(Program::nothing()), Some(at));
            }
            let s = &mut self.socks[i as usize];
            if let Body::Dgram(d) = &mut s.body {
                d.tx_head = at;
                s.rec.snd.store(at, Release);
            }
        }
    }

    /// Where the datagram at `at` ends, if there is a whole one before `tail`.
    fn filter_end(&self, i: u32, at: u64, tail: u64) -> Option<u64> {
        let mut bytes = [0; Header::BYTES];
        let known = tail - at >= Header::BYTES as u64 && self.read_ring(i, at, &mut bytes);
        let end = at + Header::space(Header::from_bytes(&bytes).len as usize);
        (known && end <= tail).then_some(end)
    }

    fn read_filter(&self, i: u32, at: u64, end: u64) -> Option<Program> {
        let len = (end - at) as usize - Header::BYTES;
        let mut bytes = [0; MAX * Insn::BYTES];
        let bytes = bytes.get_mut(..len)?;
        let whole = self.read_ring(i, at + Header::BYTES as u64, bytes);
        let (insns, _) = bytes.as_chunks::<{ Insn::BYTES }>();
        whole.then(|| Program::new(insns.iter().map(Insn::from_bytes)).ok())?
    }
}
