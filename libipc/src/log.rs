//! Log pages: how a process speaks when all else may have failed.
//!
//! One page a process, lent by init and read by init: a byte ring, and room for the last words of
//! a panic. Writing never blocks and needs no server; what does not fit is counted. The same page
//! in the other direction carries console input.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::*, fence};

/// Bytes of the ring.
pub const RING: usize = 2048;
/// Bytes of last words.
pub const PANIC: usize = 512;

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
    ring: [AtomicU8; RING],
    panic: [AtomicU8; PANIC],
    _pad: [u8; 4096 - 20 - RING - PANIC],
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
}
