//! Single-producer single-consumer rings in shared memory, with a peer that is not trusted.
//!
//! A ring has two sides, each written by one end only and best kept on pages of its own, mapped
//! read-only at the other end: [`ProducerSide`] (header, `tail`, then the entries) and
//! [`ConsumerSide`] (`head`, `wake_at`). Both ends keep their own index privately and publish it;
//! what the other side publishes is an allegation, read once and checked: an index that moves
//! backwards or further than the capacity is [`PeerError`], and the ring's user ends the peer's
//! session.
//!
//! Indices count entries since the ring was made and never wrap (u64). They survive the death of
//! either end: a restarted process attaches at the published indices.
//!
//! # Sleeping and waking
//! Before it sleeps, the consumer publishes `wake_at`: the index of the entry it waits for, and
//! looks again. The producer signals when what it publishes covers `wake_at`. Both put a
//! sequentially consistent fence between their store and their load, so a wake-up cannot be lost:
//!
//! ```text
//! consumer                          producer
//! wake_at = head                    tail = new
//! fence                             fence
//! re-read tail, sleep if == head    signal if old <= wake_at < new
//! ```
//!
//! While the consumer is awake `wake_at` lies behind, and nothing is signalled. A producer that
//! died between publishing and signalling owes a wake-up: a restarted process signals its peers
//! once, whatever it finds.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};

/// First word of every ring.
pub const MAGIC: u32 = u32::from_le_bytes(*b"BWRG");
/// Version of the layout.
pub const VERSION: u32 = 1;

/// The words that the producer writes; the entries follow.
#[repr(C, align(64))]
pub struct ProducerSide {
    magic: AtomicU32,
    version: AtomicU32,
    /// Entries; a power of two.
    capacity: AtomicU32,
    /// Bytes of an entry.
    entry_size: AtomicU32,
    /// Counts formattings.
    epoch: AtomicU64,
    /// Entries ever produced.
    tail: AtomicU64,
    _pad: [u64; 4],
}

/// The words that the consumer writes. All zero is a valid start.
#[repr(C, align(64))]
pub struct ConsumerSide {
    /// Entries ever consumed.
    head: AtomicU64,
    /// The entry whose arrival is to be signalled.
    wake_at: AtomicU64,
    _pad: [u64; 6],
}

const _: () = assert!(size_of::<ProducerSide>() == 64 && size_of::<ConsumerSide>() == 64);

/// The other end wrote something impossible. The ring cannot be used until it is formatted anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerError {
    /// Its index moved backwards, or further than the ring holds.
    Index {
        /// What it claims.
        claimed: u64,
        /// Where this side is.
        ours: u64,
    },
    /// The header is not one (magic, version, capacity or entry size).
    Header,
}

/// An entry: plain 64-bit words, so that any bit pattern is a value.
pub trait Entry: Copy {
    /// Words in the entry.
    const WORDS: usize;
    /// To words; `out` has [`Self::WORDS`].
    fn store(self, out: &[AtomicU64]);
    /// From words.
    fn load(from: &[AtomicU64]) -> Self;
}

impl<const N: usize> Entry for [u64; N] {
    const WORDS: usize = N;
    fn store(self, out: &[AtomicU64]) {
        for (o, w) in out.iter().zip(self) {
            o.store(w, Relaxed);
        }
    }
    fn load(from: &[AtomicU64]) -> Self {
        core::array::from_fn(|i| from[i].load(Relaxed))
    }
}

/// Bytes of the producer's side of a ring of `capacity` entries of `E`.
pub const fn producer_bytes<E: Entry>(capacity: u32) -> usize {
    size_of::<ProducerSide>() + capacity as usize * E::WORDS * 8
}

/// The memory of one ring as mapped in this process. Gives out the two ends.
#[derive(Clone, Copy)]
pub struct Memory<E> {
    producer: &'static ProducerSide,
    consumer: &'static ConsumerSide,
    words: &'static [AtomicU64],
    mask: u64,
    _entry: PhantomData<E>,
}

impl<E: Entry> Memory<E> {
    /// The ring whose sides lie at `producer` and `consumer`.
    ///
    /// # Panics
    /// If `capacity` is no power of two or an address is not 64-byte aligned.
    ///
    /// # Safety
    /// `producer..producer + producer_bytes::<E>(capacity)` and `consumer..consumer + 64` are
    /// mapped for the rest of the process's life, its own side writable, and this process
    /// accesses them only through rings.
    pub unsafe fn new(producer: usize, consumer: usize, capacity: u32) -> Self {
        let aligned = (producer | consumer).is_multiple_of(64);
        assert!(capacity.is_power_of_two() && aligned, "ring layout");
        // SAFETY: the caller promises mapped memory; everything in it is atomic.
        unsafe {
            Self {
                producer: &*(producer as *const ProducerSide),
                consumer: &*(consumer as *const ConsumerSide),
                words: core::slice::from_raw_parts(
                    (producer + size_of::<ProducerSide>()) as *const AtomicU64,
                    capacity as usize * E::WORDS,
                ),
                mask: capacity as u64 - 1,
                _entry: PhantomData,
            }
        }
    }

    /// Whether the producer's header is one of this layout.
    pub fn is_formatted(&self) -> bool {
        let h = self.producer;
        h.magic.load(Acquire) == MAGIC
            && h.version.load(Relaxed) == VERSION
            && h.capacity.load(Relaxed) as u64 == self.mask + 1
            && h.entry_size.load(Relaxed) as usize == E::WORDS * 8
    }

    /// The producing end, attached at the published index; formats a ring that is new.
    ///
    /// # Errors
    /// [`PeerError::Index`] if the consumer's index is impossible.
    pub fn producer(self) -> Result<Producer<E>, PeerError> {
        let h = self.producer;
        if !self.is_formatted() {
            h.tail.store(0, Relaxed);
            h.capacity.store(self.mask as u32 + 1, Relaxed);
            h.entry_size.store(E::WORDS as u32 * 8, Relaxed);
            h.version.store(VERSION, Relaxed);
            h.epoch.store(h.epoch.load(Relaxed).wrapping_add(1), Relaxed);
            h.magic.store(MAGIC, Release);
        }
        let tail = h.tail.load(Acquire);
        let head = tail.saturating_sub(self.mask + 1);
        let mut producer = Producer { tail, published: tail, head, mem: self };
        producer.space()?;
        Ok(producer)
    }

    /// The consuming end, attached at the published index.
    ///
    /// # Errors
    /// [`PeerError::Header`] if the producer has not formatted the ring (yet): try again when it
    /// signals.
    pub fn consumer(self) -> Result<Consumer<E>, PeerError> {
        if !self.is_formatted() {
            return Err(PeerError::Header);
        }
        let head = self.consumer.head.load(Acquire);
        Ok(Consumer { head, tail: head, mem: self })
    }

    /// The producing end of a ring made empty by taking over the consumer's index, whatever it
    /// is: for a new session with a peer whose old indices may be nonsense. Both ends must agree
    /// on the moment (the other end attaches afterwards).
    ///
    /// # Errors
    /// [`PeerError::Index`] if the index is beyond 2^62.
    pub fn producer_at_head(self) -> Result<Producer<E>, PeerError> {
        let claimed = self.consumer.head.load(Acquire);
        if claimed > 1 << 62 {
            return Err(PeerError::Index { claimed, ours: 0 });
        }
        self.producer.tail.store(claimed, Release);
        self.producer().map(|mut p| {
            // A ring formatted just now begins at 0: move it, too.
            (p.tail, p.published, p.head) = (claimed, claimed, claimed);
            self.producer.tail.store(claimed, Release);
            p
        })
    }

    /// The producing end of a ring formatted anew, beginning at 0, when even the consumer's index
    /// makes no sense. The consumer must attach anew, too.
    pub fn producer_anew(self) -> Producer<E> {
        self.producer.magic.store(0, Release);
        // Formats; that the consumer's index does not fit is why we are here.
        let _ = self.producer();
        Producer { tail: 0, published: 0, head: 0, mem: self }
    }

    /// The consuming end of a ring made empty by taking over the producer's index: as
    /// [`Self::producer_at_head`]. The next entry is signalled: what was asked for before counts
    /// from another beginning.
    ///
    /// # Errors
    /// [`PeerError::Header`] if the ring is not formatted, [`PeerError::Index`].
    pub fn consumer_at_tail(self) -> Result<Consumer<E>, PeerError> {
        let claimed = self.producer.tail.load(Acquire);
        if !self.is_formatted() {
            // A ring that the other end formats anew begins at 0.
            self.consumer.wake_at.store(0, Relaxed);
            self.consumer.head.store(0, Release);
            return Err(PeerError::Header);
        }
        if claimed > 1 << 62 {
            return Err(PeerError::Index { claimed, ours: 0 });
        }
        self.consumer.wake_at.store(claimed, Relaxed);
        self.consumer.head.store(claimed, Release);
        self.consumer()
    }

    #[inline]
    fn slot(&self, index: u64) -> &'static [AtomicU64] {
        let at = (index & self.mask) as usize * E::WORDS;
        &self.words[at..at + E::WORDS]
    }
}

/// The writing end.
pub struct Producer<E> {
    mem: Memory<E>,
    /// Entries written, including unpublished ones.
    tail: u64,
    /// Entries the consumer can see.
    published: u64,
    /// Last believed index of the consumer.
    head: u64,
}

impl<E: Entry> Producer<E> {
    /// Entries that can be written now.
    ///
    /// # Errors
    /// [`PeerError::Index`] if the consumer's index is impossible.
    #[inline]
    pub fn space(&mut self) -> Result<u64, PeerError> {
        let claimed = self.mem.consumer.head.load(Acquire);
        if claimed < self.head || claimed > self.published {
            return Err(PeerError::Index { claimed, ours: self.published });
        }
        self.head = claimed;
        Ok(self.mem.mask + 1 - (self.tail - claimed).min(self.mem.mask + 1))
    }

    /// Whether `n` entries can be written now. The consumer's index is looked at only if they would not fit
    /// otherwise.
    ///
    /// # Errors
    /// As [`Self::space`].
    #[inline(always)]
    pub fn has_space(&mut self, n: u64) -> Result<bool, PeerError> {
        Ok(self.tail - self.head + n <= self.mem.mask + 1 || self.space()? >= n)
    }

    /// Writes an entry; `false` if the ring is full. Not visible until [`Self::publish`].
    ///
    /// # Errors
    /// As [`Self::space`].
    #[inline(always)]
    pub fn push(&mut self, entry: E) -> Result<bool, PeerError> {
        if self.tail - self.head > self.mem.mask && self.space()? == 0 {
            return Ok(false);
        }
        entry.store(self.mem.slot(self.tail));
        self.tail += 1;
        Ok(true)
    }

    /// Makes the written entries visible. `true`: the consumer sleeps and must be signalled.
    #[inline]
    #[must_use]
    pub fn publish(&mut self) -> bool {
        let (old, new) = (self.published, self.tail);
        if old == new {
            return false;
        }
        self.published = new;
        self.mem.producer.tail.store(new, Release);
        fence(SeqCst);
        (old..new).contains(&self.mem.consumer.wake_at.load(Relaxed))
    }

    /// Entries ever written.
    #[inline]
    pub fn index(&self) -> u64 {
        self.tail
    }

    /// Entries that the consumer had released when this end last looked ([`Self::space`]).
    #[inline]
    pub fn released(&self) -> u64 {
        self.head
    }

    /// The entry written as number `index`, if the ring still holds it: for re-attaching.
    pub fn peek(&self, index: u64) -> Option<E> {
        (index < self.tail && self.tail - index <= self.mem.mask + 1)
            .then(|| E::load(self.mem.slot(index)))
    }
}

/// The reading end.
pub struct Consumer<E> {
    mem: Memory<E>,
    head: u64,
    /// Last believed index of the producer.
    tail: u64,
}

impl<E: Entry> Consumer<E> {
    /// Entries that can be read now.
    ///
    /// # Errors
    /// [`PeerError::Index`] if the producer's index is impossible.
    #[inline]
    pub fn available(&mut self) -> Result<u64, PeerError> {
        let claimed = self.mem.producer.tail.load(Acquire);
        // From what was believed up to what the ring holds.
        if claimed.wrapping_sub(self.tail) > self.head + self.mem.mask + 1 - self.tail {
            return Err(PeerError::Index { claimed, ours: self.head });
        }
        self.tail = claimed;
        Ok(claimed - self.head)
    }

    /// Takes the next entry. The producer may reuse its place after [`Self::release`].
    ///
    /// # Errors
    /// As [`Self::available`].
    #[inline]
    pub fn pop(&mut self) -> Result<Option<E>, PeerError> {
        if self.head == self.tail && self.available()? == 0 {
            return Ok(None);
        }
        let entry = E::load(self.mem.slot(self.head));
        self.head += 1;
        Ok(Some(entry))
    }

    /// As [`Self::pop`], of what [`Self::available`] saw last: nothing is looked at again.
    #[inline]
    pub fn pop_seen(&mut self) -> Option<E> {
        if self.head == self.tail {
            return None;
        }
        let entry = E::load(self.mem.slot(self.head));
        self.head += 1;
        Some(entry)
    }

    /// The next entry without taking it.
    ///
    /// # Errors
    /// As [`Self::available`].
    pub fn peek(&mut self) -> Result<Option<E>, PeerError> {
        if self.head == self.tail && self.available()? == 0 {
            return Ok(None);
        }
        Ok(Some(E::load(self.mem.slot(self.head))))
    }

    /// Publishes what was taken.
    #[inline]
    pub fn release(&mut self) {
        self.mem.consumer.head.store(self.head, Release);
    }

    /// Moves to `index`, on re-attaching: a driver knows better than the published index what it
    /// had taken. Does nothing if the ring no longer holds that place.
    pub fn seek(&mut self, index: u64) {
        let published = self.mem.consumer.head.load(Acquire);
        if index >= published && index - published <= self.mem.mask + 1 {
            self.head = index;
            self.tail = self.tail.max(index);
        }
    }

    /// Asks to be signalled and looks again. `true`: there is still nothing, sleep.
    ///
    /// # Errors
    /// As [`Self::available`].
    #[inline]
    pub fn sleep(&mut self) -> Result<bool, PeerError> {
        self.mem.consumer.wake_at.store(self.head, Relaxed);
        fence(SeqCst);
        Ok(self.available()? == 0)
    }

    /// Entries ever taken.
    #[inline]
    pub fn index(&self) -> u64 {
        self.head
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
