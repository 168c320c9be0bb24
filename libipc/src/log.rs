//! Log pages: how a process speaks when all else may have failed.
//!
//! One page a process, lent by init and read by init: a byte ring, and room for the last words of
//! a panic. Writing never blocks and needs no server; what does not fit is counted. The same page
//! in the other direction carries console input.
//!
//! The page also says when an incarnation is ready: when it has attached to everything that its
//! predecessor left, and works. That ends the downtime in init's report of a restart.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::*, fence};

/// Bytes of the ring.
pub const RING: usize = 2048;
/// Bytes of last words.
pub const PANIC: usize = 512;
/// Bytes of what a process says when it is ready.
pub const READY: usize = 96;

/// Lets four lines a second through, so that whoever can make a server log cannot fill its log: the
/// others are counted, and told of with the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    next_ns: u64,
    held: u32,
}

impl Pace {
    /// Between two lines.
    const GAP_NS: u64 = 250_000_000;

    /// Whether a line may go out at `now_ns`; `Some`: how many did not since the last.
    pub fn admit(&mut self, now_ns: u64) -> Option<u32> {
        if now_ns < self.next_ns {
            self.held = self.held.saturating_add(1);
            return None;
        }
        self.next_ns = now_ns.saturating_add(Self::GAP_NS);
        Some(core::mem::take(&mut self.held))
    }
}

/// How the lines that [`Pace`] held back are told of: nothing if there were none.
#[derive(Clone, Copy, Debug)]
pub struct Held(pub u32);

impl core::fmt::Display for Held {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " (and {n} more times since the last line)"),
        }
    }
}

/// The page. The writer owns all words but `head`.
#[repr(C, align(4096))]
pub struct LogPage {
    /// Bytes ever written.
    tail: AtomicU32,
    /// Bytes ever read (by the reader).
    head: AtomicU32,
    /// Bytes dropped because the ring was full.
    pub dropped: AtomicU32,
    /// Bytes of last words.
    panic_len: AtomicU32,
    /// Set by a writer that waits for room; the reader signals it.
    pub want_room: AtomicU32,
    /// The incarnation that is ready, counted from 1; 0: none ever was.
    ready: AtomicU32,
    /// Bytes of what it said.
    ready_len: AtomicU32,
    ring: [AtomicU8; RING],
    panic: [AtomicU8; PANIC],
    ready_text: [AtomicU8; READY],
    _pad: [u8; 4096 - 28 - RING - PANIC - READY],
}

const _: () = assert!(size_of::<LogPage>() == 4096);

impl LogPage {
    /// Appends as much as fits; returns how many bytes.
    pub fn write(&self, bytes: &[u8]) -> usize {
        let tail = self.tail.load(Relaxed);
        let used = tail.wrapping_sub(self.head.load(Acquire)) as usize;
        let n = bytes.len().min(RING.saturating_sub(used));
        for (i, b) in bytes[..n].iter().enumerate() {
            self.ring[(tail as usize).wrapping_add(i) % RING].store(*b, Relaxed);
        }
        self.tail.store(tail.wrapping_add(n as u32), Release);
        fence(SeqCst);
        n
    }
    /// Takes up to `into.len()` bytes; returns how many. An impossible index empties the ring.
    pub fn read(&self, into: &mut [u8]) -> usize {
        let (tail, head) = (self.tail.load(Acquire), self.head.load(Relaxed));
        let used = tail.wrapping_sub(head) as usize;
        if used > RING {
            self.head.store(tail, Release);
            return 0;
        }
        let n = used.min(into.len());
        for (i, b) in into[..n].iter_mut().enumerate() {
            *b = self.ring[(head as usize).wrapping_add(i) % RING].load(Relaxed);
        }
        self.head.store(head.wrapping_add(n as u32), Release);
        n
    }
    /// Appends to the last words.
    pub fn write_panic(&self, bytes: &[u8]) {
        let mut at = self.panic_len.load(Relaxed) as usize;
        for b in bytes {
            if at >= PANIC {
                break;
            }
            self.panic[at].store(*b, Relaxed);
            at += 1;
        }
        self.panic_len.store(at as u32, Release);
    }
    /// Takes the last words (clearing them); returns how many bytes.
    pub fn take_panic(&self, into: &mut [u8; PANIC]) -> usize {
        let n = (self.panic_len.load(Acquire) as usize).min(PANIC);
        for (b, from) in into.iter_mut().zip(&self.panic).take(n) {
            *b = from.load(Relaxed);
        }
        self.panic_len.store(0, Release);
        n
    }
    /// Says that incarnation number `incarnation` is ready, and in `text` what it took over and
    /// what was lost.
    pub fn set_ready(&self, incarnation: u32, text: &[u8]) {
        for (to, b) in self.ready_text.iter().zip(text) {
            to.store(*b, Relaxed);
        }
        self.ready_len.store(text.len().min(READY) as u32, Relaxed);
        self.ready.store(incarnation.wrapping_add(1), Release);
    }
    /// What incarnation number `incarnation` said when it was ready; `None`: it is not yet.
    pub fn ready(&self, incarnation: u32, into: &mut [u8; READY]) -> Option<usize> {
        if self.ready.load(Acquire) != incarnation.wrapping_add(1) {
            return None;
        }
        for (b, from) in into.iter_mut().zip(&self.ready_text) {
            *b = from.load(Relaxed);
        }
        Some((self.ready_len.load(Relaxed) as usize).min(READY))
    }
}
