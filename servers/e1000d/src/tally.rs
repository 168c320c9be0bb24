//! How many frames and bytes went one way, exactly, whatever dies when.
//!
//! A counter that is raised before a report is published counts a frame again when the driver dies
//! in between; one that is raised afterwards misses some. So the totals as they will be are written
//! into lent memory under the index that is about to be published: what stands under the published
//! index is true. Two places take turns, since the older counts until the newer is published.

use crate::hardware::Hardware;
use crate::lent::{self, Note, Side};
use core::sync::atomic::Ordering::Relaxed;
use libipc::nic::{Counter, Status};

/// The totals of one side.
pub struct Tally {
    side: Side,
    /// Where the last ones were written.
    place: usize,
    /// Index that they stand under.
    given: u64,
    frames: u64,
    bytes: u64,
}

fn counters(side: Side) -> (Counter, Counter) {
    match side {
        Side::Rx => (Counter::RxFrames, Counter::RxBytes),
        Side::Tx => (Counter::TxFrames, Counter::TxBytes),
    }
}

impl Tally {
    /// The totals when `given` reports had been published. If a predecessor left none, what it
    /// showed last counts.
    pub fn resume<H: Hardware>(hw: &H, status: &Status, side: Side, given: u64) -> Self {
        for place in 0..2 {
            let found = lent::tally(hw, side, place).filter(|n| n.given == given);
            if let Some(Note { taken: frames, info: bytes, .. }) = found {
                let tally = Self { side, place, given, frames, bytes };
                tally.show(status);
                return tally;
            }
        }
        let (frames, bytes) = counters(side);
        let shown = |counter: Counter| status.counters[counter as usize].load(Relaxed);
        Self { side, place: 0, given, frames: shown(frames), bytes: shown(bytes) }
    }

    /// Counts frames, and their bytes.
    pub fn add(&mut self, frames: u16, bytes: u32) {
        self.frames += frames as u64;
        self.bytes = self.bytes.wrapping_add(bytes as u64);
    }

    /// Before the reports below `given` are published.
    pub fn keep<H: Hardware>(&mut self, hw: &mut H, given: u64) {
        if given != self.given {
            (self.place, self.given) = (1 - self.place, given);
            let note = Note { taken: self.frames, given, info: self.bytes };
            lent::set_tally(hw, self.side, self.place, note);
        }
    }

    /// Afterwards: shows the totals to everybody.
    pub fn show(&self, status: &Status) {
        let (frames, bytes) = counters(self.side);
        status.counters[frames as usize].store(self.frames, Relaxed);
        status.counters[bytes as usize].store(self.bytes, Relaxed);
    }
}
