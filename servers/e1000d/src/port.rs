//! A ring that netd produces. Its indices are allegations: when one is impossible, the ring rests
//! and is looked at again at every wake-up, until netd (usually a new one) has put it right.

use crate::hardware::{Event, Hardware, Ring};
use libipc::nic::{self, Counter, Status};
use libipc::ring::{Consumer, Entry, Memory, PeerError};

/// The consuming end, whatever state netd's side is in.
pub struct Port<E> {
    name: Ring,
    memory: Memory<E>,
    consumer: Option<Consumer<E>>,
    /// Where to go on when the ring is attached.
    resume: u64,
    /// Told of already.
    stopped: bool,
}

impl<E: Entry> Port<E> {
    /// A port on `memory` that goes on at `resume` (or at the published index, if that is ahead).
    pub fn new(name: Ring, memory: Memory<E>, resume: u64) -> Self {
        Self { name, memory, consumer: None, resume, stopped: false }
    }

    /// The ring, if it can be used now.
    pub fn open<H: Hardware>(&mut self, hw: &mut H, status: &Status) -> Option<&mut Consumer<E>> {
        if self.consumer.is_none() {
            match self.memory.consumer() {
                Ok(mut consumer) => {
                    consumer.seek(self.resume);
                    match consumer.available() {
                        Ok(_) => {
                            // A predecessor may have died before it said how far it was.
                            hw.commit();
                            consumer.release();
                            self.stopped = false;
                            self.consumer = Some(consumer);
                        }
                        Err(error) => self.report(hw, status, error),
                    }
                }
                // netd has not started yet.
                Err(_) => return None,
            }
        }
        self.consumer.as_mut()
    }

    /// Stops using the ring. What was taken from it stays taken.
    pub fn stop<H: Hardware>(&mut self, hw: &mut H, status: &Status, error: PeerError) {
        self.release(hw);
        if let Some(consumer) = self.consumer.take() {
            self.resume = consumer.index();
        }
        self.report(hw, status, error);
    }

    fn report<H: Hardware>(&mut self, hw: &mut H, status: &Status, error: PeerError) {
        if !self.stopped {
            self.stopped = true;
            status.count(Counter::PeerErrors, 1);
            hw.event(Event::RingStopped(self.name, error));
        }
    }

    /// Publishes what was taken.
    pub fn release<H: Hardware>(&mut self, hw: &mut H) {
        if let Some(consumer) = &mut self.consumer {
            hw.commit();
            consumer.release();
        }
    }

    /// Asks for a signal at the next entry and looks again. `true`: nothing there, sleep. With
    /// `after_all` the next entry is the one after all that are there, which stay.
    pub fn sleep<H: Hardware>(&mut self, hw: &mut H, status: &Status, after_all: bool) -> bool {
        let Some(consumer) = &mut self.consumer else { return true };
        let from = consumer.index();
        // A ring holds so many: netd cannot keep this loop going.
        let most = if after_all { nic::RING } else { 0 };
        for _ in 0..most {
            if !matches!(consumer.pop(), Ok(Some(_))) {
                break;
            }
        }
        let result = consumer.sleep();
        consumer.seek(from);
        match result {
            Ok(nothing) => nothing,
            Err(error) => {
                self.stop(hw, status, error);
                true
            }
        }
    }

    /// Index of the next entry to take.
    pub fn index(&self) -> u64 {
        self.consumer.as_ref().map_or(self.resume, Consumer::index)
    }
}
