//! Receiving: netd's empty buffers go to the NIC, the NIC's frames to netd.
//!
//! Every buffer taken from *rx free* becomes one receive descriptor, every descriptor becomes one
//! entry of *rx used*, in order. So the number of entries published on *rx used* says which
//! descriptor is next, and [`crate::lent`] has the rest.

use crate::Config;
use crate::desc::{self, RxWriteback};
use crate::hardware::{Event, Hardware, Ring, wait_until};
use crate::lent::{self, MAX_DESCS, Note, RingSize, Side};
use crate::port::Port;
use crate::regs;
use crate::tally::Tally;
use heapless::Vec;
use libipc::nic::{Counter, RX_BUFFER_SIZE, RX_BUFFERS, RxFree, RxUsed, Status};
use libipc::ring::{PeerError, Producer};

/// How long RDH may lag behind a descriptor that is done.
const HEAD_NS: u64 = 1_000_000;
/// In [`Note::info`]: no buffer (the note before the first descriptor).
const NO_BUFFER: u64 = u64::MAX;

/// What a predecessor left on the receive side.
pub struct Found {
    /// Whether all of it holds, so that the ring can go on.
    pub sound: bool,
    size: RingSize,
    /// RDT.
    tail: u16,
    /// *rx used* index after the descriptor before RDT.
    posted: u64,
    /// *rx free* index to go on at.
    taken: u64,
    /// Slot and buffer of each descriptor that is owed to netd, oldest first.
    pub held: Vec<(u16, u16), MAX_DESCS>,
}

impl Found {
    /// Reads it. `given`: entries published on *rx used*; `released`: entries of *rx free* that
    /// the predecessor had released.
    pub fn read<H: Hardware>(hw: &mut H, c: &Config, given: u64, released: u64) -> Self {
        let (size, held) = (c.settings.rx, Vec::new());
        let mut found = Found { sound: false, size, tail: 0, posted: given, taken: released, held };
        let tail = hw.read(regs::RDT);
        if tail < size.get() as u32 && found.posted(hw, tail as u16, given) {
            found.sound = found.holds(hw, c.pool_bus, given);
        }
        if !found.sound {
            // Released only after RDT had moved, so these notes certainly count. Buffers beyond
            // are still on *rx free*, and are taken again once the NIC has been reset.
            found.taken = released;
            found.held.clear();
            for slot in lent::owed(hw, Side::Rx, given, released) {
                let Some(note) = lent::note(hw, Side::Rx, slot) else { continue };
                let known = |h: &(u16, u16)| h.1 as u64 == note.info;
                if note.info < RX_BUFFERS as u64 && !found.held.iter().any(known) {
                    // A slot each: there is room.
                    let _ = found.held.push((slot, note.info as u16));
                }
            }
        }
        found
    }

    /// Reads the notes of the descriptors owed. `false`: they do not hold.
    fn posted<H: Hardware>(&mut self, hw: &H, tail: u16, given: u64) -> bool {
        let size = self.size;
        let Some(last) = lent::note(hw, Side::Rx, size.step(tail, -1)) else { return false };
        (self.tail, self.posted, self.taken) = (tail, last.given, last.taken);
        // More published than posted: a cold start that did not finish.
        let most = size.usable() as u64;
        let Some(owed) = last.given.checked_sub(given).filter(|n| *n <= most) else {
            return false;
        };
        let mut seen = [false; RX_BUFFERS as usize];
        let mut taken = 0;
        for i in 0..owed {
            let slot = size.step(tail, i as i32 - owed as i32);
            let Some(n) = lent::note(hw, Side::Rx, slot) else { return false };
            let in_order = n.given == given + i + 1 && n.taken > taken && n.taken <= last.taken;
            match seen.get_mut(n.info as usize) {
                Some(seen) if in_order && !*seen => *seen = true,
                _ => return false,
            }
            taken = n.taken;
            // Fewer turns than the ring has slots: there is room.
            let _ = self.held.push((slot, n.info as u16));
        }
        true
    }

    /// Whether the descriptors are what the notes say, and what RDH says: done before it, blank
    /// from there on (else they would look done, or pass old error bits on to a frame).
    fn holds<H: Hardware>(&self, hw: &mut H, pool_bus: u64, given: u64) -> bool {
        let addresses = self.held.iter().all(|&(slot, buffer)| {
            hw.load(lent::desc_word(Side::Rx, slot, 0)) == address(pool_bus, buffer as u64)
        });
        let owed = self.posted - given;
        // The NIC may be at one of them right now; it moves RDH last.
        addresses
            && wait_until(hw, HEAD_NS, |hw| {
                let ahead = self.size.distance(hw.read(regs::RDH) as u16, self.tail) as u64;
                let Some(done) = owed.checked_sub(ahead) else { return false };
                self.held.iter().zip(0u64..).all(|(&(slot, _), i)| {
                    let word = hw.load(lent::desc_word(Side::Rx, slot, 1));
                    if i < done { RxWriteback::from_word(word).done() } else { word == 0 }
                })
            })
    }

    /// How many received frames wait to be given to netd.
    pub fn waiting<H: Hardware>(&self, hw: &H) -> u16 {
        self.held.iter().filter(|h| writeback(hw, h.0).done()).count() as u16
    }
}

fn address(pool_bus: u64, buffer: u64) -> u64 {
    pool_bus + buffer * RX_BUFFER_SIZE as u64
}

fn writeback<H: Hardware>(hw: &H, slot: u16) -> RxWriteback {
    RxWriteback::from_word(hw.load(lent::desc_word(Side::Rx, slot, 1)))
}

/// The receive side.
pub struct Rx {
    free: Port<RxFree>,
    used: Producer<RxUsed>,
    pool_bus: u64,
    size: RingSize,
    /// The slot posted next: RDT, after [`Rx::refill`].
    tail: u16,
    /// *rx used* index that the descriptor posted next will be reported by.
    posted: u64,
    /// Which buffer each posted descriptor has.
    buffers: [u16; MAX_DESCS],
    /// Which buffers the NIC has: the others are netd's.
    held: [bool; RX_BUFFERS as usize],
    /// In the middle of a frame that is too long for a buffer.
    skipping: bool,
    tally: Tally,
    /// netd's index of *rx used* was impossible, and that was told.
    used_stopped: bool,
    /// netd is to be signalled.
    pub notify: bool,
}

impl Rx {
    /// Goes on with what was found, which must be sound.
    pub fn warm<H: Hardware>(hw: &H, c: &Config, used: Producer<RxUsed>, found: &Found) -> Self {
        let mut rx = Self::cold(hw, c, used, found.taken);
        (rx.tail, rx.posted) = (found.tail, found.posted);
        for &(slot, buffer) in &found.held {
            rx.buffers[slot as usize] = buffer;
            rx.held[buffer as usize] = true;
        }
        rx
    }

    fn cold<H: Hardware>(hw: &H, c: &Config, used: Producer<RxUsed>, resume: u64) -> Self {
        Self {
            tally: Tally::resume(hw, c.status, Side::Rx, used.index()),
            free: Port::new(Ring::RxFree, c.rx_free, resume),
            pool_bus: c.pool_bus,
            size: c.settings.rx,
            tail: 0,
            posted: used.index(),
            used,
            buffers: [0; MAX_DESCS],
            held: [false; RX_BUFFERS as usize],
            skipping: false,
            used_stopped: false,
            notify: false,
        }
    }

    /// Starts anew with the NIC stopped: gives everything found back to netd, received frames as
    /// frames, the rest empty, and leaves the notes for an empty ring whose RDT will be 0.
    pub fn restart<H: Hardware>(
        hw: &mut H,
        c: &Config,
        used: Producer<RxUsed>,
        found: &Found,
    ) -> Self {
        let status = c.status;
        let mut rx = Self::cold(hw, c, used, found.taken);
        for &(slot, buffer) in &found.held {
            let done = writeback(hw, slot);
            // What looks done in a ring that does not hold may be anything.
            let received = found.sound && done.done();
            let entry = if received { rx.frame(status, buffer, done) } else { empty(buffer) };
            if !rx.push(hw, status, entry) {
                break;
            }
        }
        rx.publish(hw, status);
        rx.skipping = false;
        rx.free.open(hw, status);
        rx.free.release(hw);
        rx.posted = rx.used.index();
        let note = Note { taken: rx.free.index(), given: rx.posted, info: NO_BUFFER };
        lent::set_note(hw, Side::Rx, rx.size.step(0, -1), note);
        rx
    }

    /// What a completed descriptor means for netd.
    fn frame(&mut self, status: &Status, buffer: u16, done: RxWriteback) -> RxUsed {
        // With long packets off no frame takes two descriptors; should one, none of it is a frame.
        let eop = done.status & desc::rx_status::EOP != 0;
        let tail_of_long = core::mem::replace(&mut self.skipping, !eop);
        if tail_of_long || !done.good(RX_BUFFER_SIZE) {
            status.count(Counter::RxErrors, 1);
            return empty(buffer);
        }
        self.tally.add(1, done.len as u32);
        let flags = if done.checksum_ok() { RxUsed::CSUM_OK } else { 0 };
        RxUsed { buffer: buffer as u32, len: done.len, flags }
    }

    fn push<H: Hardware>(&mut self, hw: &mut H, status: &Status, entry: RxUsed) -> bool {
        match self.used.push(entry) {
            Ok(room) => room,
            Err(error) => {
                self.used_failed(hw, status, error);
                false
            }
        }
    }

    fn used_failed<H: Hardware>(&mut self, hw: &mut H, status: &Status, error: PeerError) {
        if !core::mem::replace(&mut self.used_stopped, true) {
            status.count(Counter::PeerErrors, 1);
            hw.event(Event::RingStopped(Ring::RxUsed, error));
        }
    }

    fn publish<H: Hardware>(&mut self, hw: &mut H, status: &Status) {
        self.tally.keep(hw, self.used.index());
        hw.commit();
        self.notify |= self.used.publish();
        self.tally.show(status);
    }

    /// Descriptors that the NIC has, completed ones that were not harvested included.
    fn outstanding(&self) -> u64 {
        self.posted - self.used.index()
    }

    /// Slot of the descriptor that is reported next.
    fn oldest(&self) -> u16 {
        self.size.step(self.tail, -(self.outstanding() as i32))
    }

    /// With fewer than this, buffers are posted as they come, and netd is asked to signal them.
    fn low(&self) -> u64 {
        self.size.get() as u64 / 2
    }

    /// Otherwise they are posted this many at a time: an RDT write is the dearest access there is.
    fn batch(&self) -> u64 {
        self.size.get() as u64 / 8
    }

    /// Gives at most `budget` received frames to netd; says how many.
    pub fn harvest<H: Hardware>(&mut self, hw: &mut H, status: &Status, budget: usize) -> usize {
        // Room first: a frame is counted once, when it is really handed over.
        let room = match self.used.space() {
            Ok(room) => {
                self.used_stopped = false;
                room
            }
            Err(error) => {
                self.used_failed(hw, status, error);
                0
            }
        };
        let budget = room.min(budget as u64) as usize;
        let mut n = 0;
        while n < budget && self.outstanding() > 0 {
            let slot = self.oldest();
            let done = writeback(hw, slot);
            if !done.done() {
                break;
            }
            let buffer = self.buffers[slot as usize];
            let entry = self.frame(status, buffer, done);
            if !self.push(hw, status, entry) {
                break;
            }
            self.held[buffer as usize] = false;
            n += 1;
        }
        if n > 0 {
            // Before `refill` uses these slots again: until then their notes are all there is.
            self.publish(hw, status);
        }
        n
    }

    /// Whether frames wait that netd has left no room for.
    pub fn blocked<H: Hardware>(&self, hw: &H) -> bool {
        self.outstanding() > 0 && { writeback(hw, self.oldest()).done() }
    }

    /// Gives netd's empty buffers to the NIC, if it is time; says whether there were any.
    pub fn refill<H: Hardware>(&mut self, hw: &mut H, status: &Status) -> bool {
        let (outstanding, before) = (self.outstanding(), self.posted);
        let enough = outstanding >= self.low();
        let batch = self.batch();
        let Some(free) = self.free.open(hw, status) else { return false };
        let available = match free.available() {
            Ok(n) => n,
            Err(error) => {
                self.free.stop(hw, status, error);
                return false;
            }
        };
        let room = self.size.usable() as u64 - outstanding;
        if available == 0 || room == 0 || (enough && available.min(room) < batch) {
            return false;
        }
        let mut failed = None;
        // What was available is all that is looked at: netd cannot keep this loop going.
        for _ in 0..available {
            if self.posted - before == room {
                break;
            }
            let Some(free) = self.free.open(hw, status) else { break };
            let RxFree { buffer } = match free.pop() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            };
            let taken = free.index();
            match self.held.get_mut(buffer as usize) {
                Some(held) if !*held => *held = true,
                // Out of range, or the NIC has it already.
                _ => {
                    status.count(Counter::PeerErrors, 1);
                    continue;
                }
            }
            let slot = self.tail;
            let note = Note { taken, given: self.posted + 1, info: buffer as u64 };
            lent::set_note(hw, Side::Rx, slot, note);
            let bus = address(self.pool_bus, buffer as u64);
            hw.store(lent::desc_word(Side::Rx, slot, 0), bus);
            // The device does not clear old status bits.
            hw.store(lent::desc_word(Side::Rx, slot, 1), 0);
            self.buffers[slot as usize] = buffer as u16;
            self.tail = self.size.step(slot, 1);
            self.posted += 1;
        }
        if self.posted != before {
            hw.write(regs::RDT, self.tail as u32);
        }
        // After RDT: what is released is certainly with the NIC (or was refused).
        self.free.release(hw);
        if let Some(error) = failed {
            self.free.stop(hw, status, error);
        }
        true
    }

    /// Before sleeping. While the NIC has buffers enough nobody needs to tell of new ones: they
    /// are found when frames have used some up. `true`: nothing to do, sleep.
    pub fn sleep<H: Hardware>(&mut self, hw: &mut H, status: &Status) -> bool {
        self.outstanding() >= self.low() || self.free.sleep(hw, status, false)
    }

    /// The NIC has stopped for good: what it received goes to netd, then every other buffer, empty.
    pub fn close<H: Hardware>(&mut self, hw: &mut H, status: &Status) {
        self.harvest(hw, status, MAX_DESCS);
        while self.outstanding() > 0 {
            let buffer = self.buffers[self.oldest() as usize];
            // A netd that leaves no room finds the rest when the driver is started again.
            if !self.push(hw, status, empty(buffer)) {
                break;
            }
        }
        self.publish(hw, status);
    }

    /// Whether the NIC has `buffer`.
    pub fn holds(&self, buffer: u32) -> bool {
        self.held.get(buffer as usize).is_some_and(|h| *h)
    }
}

fn empty(buffer: u16) -> RxUsed {
    RxUsed { buffer: buffer as u32, len: 0, flags: RxUsed::EMPTY }
}
