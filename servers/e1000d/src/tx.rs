//! Sending: netd's frames become descriptors, and come back on *tx free* when they have left.
//!
//! Every frame taken from *tx used* becomes one entry of *tx free*, in order; the index of that
//! entry is the frame's number. A frame that is refused takes its turn: it is reported when
//! everything before it has left, and until then nothing after it is looked at. Well-behaved
//! traffic never waits for that.

use crate::Config;
use crate::desc::{self, Context, Offload};
use crate::frame::{Take, context, on_wire, take};
use crate::hardware::{Event, Hardware, Ring};
use crate::lent::{self, MAX_DESCS, Note, RingSize, Side};
use crate::port::Port;
use crate::regs;
use crate::tally::Tally;
use crate::window::Windows;
use heapless::Deque;
use libipc::nic::{Counter, MAX_PIECES, Status, TxDesc, TxFree};
use libipc::ring::Producer;

/// Descriptors that one frame may take: a context, and its pieces.
const MAX_SLOTS: u16 = 1 + MAX_PIECES as u16;
const _: () = assert!(MAX_SLOTS < RingSize::MIN);

/// A frame with the NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Slot of its last descriptor.
    eop: u16,
    /// Descriptors.
    slots: u16,
    cookie: u16,
    /// Frames on the wire that it becomes, and their bytes (24 bits suffice).
    wire: u16,
    bytes: u32,
}

impl Frame {
    fn info(self) -> u64 {
        let sizes = (self.slots as u64) << 16 | (self.wire as u64) << 24;
        self.cookie as u64 | sizes | (self.bytes as u64) << 40
    }
    fn from_info(eop: u16, info: u64) -> Self {
        let (slots, wire) = (info >> 16 & 0xff, info >> 24);
        let (cookie, bytes) = (info as u16, (info >> 40) as u32);
        Self { eop, slots: slots as u16, cookie, wire: wire as u16, bytes }
    }
}

type Frames = Deque<Frame, MAX_DESCS>;

/// What a predecessor left on the transmit side.
pub struct Found {
    /// Whether all of it holds, so that the ring can go on.
    pub sound: bool,
    size: RingSize,
    /// TDT.
    tail: u16,
    /// *tx used* index to go on at.
    taken: u64,
    /// Frames that are owed to netd, oldest first.
    pub frames: Frames,
}

impl Found {
    /// Reads it. `given`: entries published on *tx free*; `released`: entries of *tx used* that
    /// the predecessor had released.
    pub fn read<H: Hardware>(hw: &mut H, c: &Config, given: u64, released: u64) -> Self {
        let (size, frames) = (c.settings.tx, Frames::new());
        let mut found = Found { sound: false, size, tail: 0, taken: released, frames };
        let tail = hw.read(regs::TDT);
        if tail < size.get() as u32 && found.posted(hw, tail as u16, given) {
            // QEMU's model, the only one that is taken over while it runs, has sent everything by
            // the time a TDT write returns: descriptors yet to be read need not be judged.
            found.sound = hw.read(regs::TDH) == tail && found.frames.iter().all(|f| sent(hw, f));
        } else {
            // Released only after TDT had moved, so these notes certainly count.
            found.frames.clear();
            for slot in lent::owed(hw, Side::Tx, given, found.taken) {
                let Some(note) = lent::note(hw, Side::Tx, slot) else { continue };
                // A slot each: there is room.
                let _ = found.frames.push_back(Frame::from_info(slot, note.info));
            }
        }
        found
    }

    /// Reads the notes of the frames owed. `false`: they do not hold.
    fn posted<H: Hardware>(&mut self, hw: &H, tail: u16, given: u64) -> bool {
        self.tail = tail;
        let size = self.size;
        let Some(last) = lent::note(hw, Side::Tx, size.step(tail, -1)) else { return false };
        let Some(owed) = last.given.checked_sub(given) else {
            // More was reported than sent: then the newest frame was refused.
            let refused = lent::refusal(hw, given);
            self.taken = refused.map_or(self.taken.max(last.taken), |r| r.taken);
            return refused.is_some();
        };
        self.taken = self.taken.max(last.taken);
        let (mut at, mut slots) = (tail, 0);
        for i in 0..owed {
            let eop = size.step(at, -1);
            let note = lent::note(hw, Side::Tx, eop).filter(|n| n.given == last.given - i);
            let Some(frame) = note.map(|n| Frame::from_info(eop, n.info)) else { return false };
            if !(1..=MAX_SLOTS).contains(&frame.slots) || slots + frame.slots > size.usable() {
                return false;
            }
            slots += frame.slots;
            // A slot each at least: there is room.
            let _ = self.frames.push_front(frame);
            at = size.step(at, -(frame.slots as i32));
        }
        true
    }
}

fn sent<H: Hardware>(hw: &H, frame: &Frame) -> bool {
    desc::sent(hw.load(lent::desc_word(Side::Tx, frame.eop, 1)))
}

/// Why sending cannot go on now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// There is nothing to send.
    Netd,
    /// The NIC must finish something first.
    Nic,
    /// netd must take reports first.
    Reports,
}

/// The transmit side.
pub struct Tx {
    used: Port<TxDesc>,
    free: Producer<TxFree>,
    size: RingSize,
    /// The slot written next: TDT, after [`Tx::send`].
    tail: u16,
    /// Slots that belong to [`Tx::frames`].
    posted: u16,
    /// Frames with the NIC, oldest first.
    frames: Frames,
    /// The NIC cuts long frames into segments.
    tso: bool,
    /// What the NIC's context for plain frames is; `None`: not known.
    context: Option<Context>,
    /// What netd has written begins a frame, and its end is missing.
    partial: bool,
    wait: Wait,
    /// [`regs::Cause::TXDW`] is enabled.
    interrupt: bool,
    tally: Tally,
    /// netd's index of *tx free* was impossible, and that was told.
    free_stopped: bool,
    /// netd is to be signalled.
    pub notify: bool,
}

impl Tx {
    /// Goes on with what was found, which must be sound. The NIC's context is not known: the
    /// first frame with a checksum brings its own.
    pub fn warm<H: Hardware>(hw: &H, c: &Config, free: Producer<TxFree>, found: &Found) -> Self {
        let mut tx = Self::cold(hw, c, free, found.taken);
        tx.tail = found.tail;
        tx.posted = found.frames.iter().map(|f| f.slots).sum();
        tx.frames = found.frames.clone();
        tx
    }

    fn cold<H: Hardware>(hw: &H, c: &Config, free: Producer<TxFree>, resume: u64) -> Self {
        Self {
            tally: Tally::resume(hw, c.status, Side::Tx, free.index()),
            used: Port::new(Ring::TxUsed, c.tx_used, resume),
            free,
            size: c.settings.tx,
            tail: 0,
            posted: 0,
            frames: Frames::new(),
            tso: c.model.tso && c.emulated,
            context: None,
            partial: false,
            wait: Wait::Netd,
            interrupt: false,
            free_stopped: false,
            notify: false,
        }
    }

    /// Starts anew with the NIC stopped: reports every frame found (its memory is free, whether
    /// or not it has left), and leaves the notes for an empty ring whose TDT will be 0.
    pub fn restart<H: Hardware>(
        hw: &mut H,
        c: &Config,
        free: Producer<TxFree>,
        found: &Found,
    ) -> Self {
        let status = c.status;
        let mut tx = Self::cold(hw, c, free, found.taken);
        for frame in &found.frames {
            tx.report(hw, status, TxFree { cookie: frame.cookie, refused: 0 });
        }
        tx.publish(hw, status);
        tx.used.open(hw, status);
        tx.used.release(hw);
        let note = Note { taken: tx.used.index(), given: tx.free.index(), info: 0 };
        lent::set_note(hw, Side::Tx, tx.size.step(0, -1), note);
        tx
    }

    fn report<H: Hardware>(&mut self, hw: &mut H, status: &Status, entry: TxFree) -> bool {
        match self.free.push(entry) {
            Ok(room) => {
                self.free_stopped = false;
                room
            }
            Err(error) => {
                if !core::mem::replace(&mut self.free_stopped, true) {
                    status.count(Counter::PeerErrors, 1);
                    hw.event(Event::RingStopped(Ring::TxFree, error));
                }
                false
            }
        }
    }

    fn publish<H: Hardware>(&mut self, hw: &mut H, status: &Status) {
        self.tally.keep(hw, self.free.index());
        hw.commit();
        self.notify |= self.free.publish();
        self.tally.show(status);
    }

    /// Reports frames that have left; says how many.
    pub fn reap<H: Hardware>(&mut self, hw: &mut H, status: &Status) -> usize {
        let mut n = 0;
        while let Some(&frame) = self.frames.front() {
            if !sent(hw, &frame) {
                break;
            }
            if !self.report(hw, status, TxFree { cookie: frame.cookie, refused: 0 }) {
                self.wait = Wait::Reports;
                break;
            }
            self.frames.pop_front();
            self.posted -= frame.slots;
            self.tally.add(frame.wire, frame.bytes);
            n += 1;
        }
        if n > 0 {
            // Before `send` uses these slots again: until then their notes are all there is.
            self.publish(hw, status);
        }
        n
    }

    /// Gives at most `budget` frames to the NIC; says how many were dealt with.
    pub fn send<H: Hardware>(
        &mut self,
        hw: &mut H,
        status: &Status,
        windows: &Windows,
        budget: usize,
    ) -> usize {
        let before = self.tail;
        let mut n = 0;
        let mut failed = None;
        let mut pieces = [TxDesc::default(); MAX_PIECES];
        (self.wait, self.partial) = (Wait::Netd, false);
        while n < budget {
            if self.size.usable() - self.posted < MAX_SLOTS {
                self.wait = Wait::Nic;
                break;
            }
            let Some(used) = self.used.open(hw, status) else { break };
            let from = used.index();
            match take(used, windows, &mut pieces, self.tso) {
                Ok(Take::Nothing) => break,
                Ok(Take::Partial) => {
                    used.seek(from);
                    self.partial = true;
                    break;
                }
                Ok(Take::Frame(count)) => {
                    let taken = used.index();
                    // As many frames as it becomes count: the NIC is kept busy that long.
                    n += self.write(hw, &pieces[..count], windows, taken) as usize - 1;
                }
                Ok(Take::Refused(_)) if !self.frames.is_empty() => {
                    used.seek(from);
                    self.wait = Wait::Nic;
                    break;
                }
                Ok(Take::Refused(cookie)) => {
                    let taken = used.index();
                    let given = self.free.index() + 1;
                    lent::set_refusal(hw, Note { taken, given, info: cookie as u64 });
                    if !self.report(hw, status, TxFree { cookie, refused: 1 }) {
                        if let Some(used) = self.used.open(hw, status) {
                            used.seek(from);
                        }
                        self.wait = Wait::Reports;
                        break;
                    }
                    self.publish(hw, status);
                    status.count(Counter::PeerErrors, 1);
                }
                Err(error) => {
                    used.seek(from);
                    failed = Some(error);
                    break;
                }
            }
            n += 1;
        }
        if self.tail != before {
            // Never into the middle of a frame: `write` writes whole ones.
            hw.write(regs::TDT, self.tail as u32);
        }
        if n > 0 {
            // After TDT: what is released is certainly with the NIC (or was refused).
            self.used.release(hw);
        }
        if let Some(error) = failed {
            self.used.stop(hw, status, error);
        }
        n
    }

    /// Writes the descriptors of a checked frame. Yields how many it becomes on the wire.
    fn write<H: Hardware>(
        &mut self,
        hw: &mut H,
        pieces: &[TxDesc],
        windows: &Windows,
        taken: u64,
    ) -> u16 {
        let (wire, bytes) = on_wire(pieces);
        let mut frame = Frame { eop: 0, slots: 0, cookie: pieces[0].cookie, wire, bytes };
        let mut offload = Offload::None;
        if let Some(c) = context(&pieces[0]) {
            let TxDesc { hdr_len, mss, .. } = pieces[0];
            if mss != 0 {
                offload = Offload::Segment;
                let payload: u32 = pieces[1..].iter().map(|p| p.len as u32).sum();
                frame.eop = self.put(hw, c.encode_tso(hdr_len, mss, payload));
                frame.slots += 1;
            } else {
                offload = Offload::Checksum;
                if self.context != Some(c) {
                    frame.eop = self.put(hw, c.encode());
                    frame.slots += 1;
                    self.context = Some(c);
                }
            }
        }
        for (i, p) in pieces.iter().enumerate() {
            // Checked by `take`.
            let bus = windows.resolve(p.window, p.offset, p.len).unwrap_or(0);
            let eop = i + 1 == pieces.len();
            frame.eop = self.put(hw, desc::data(bus, p.len, offload, eop));
            frame.slots += 1;
        }
        let given = self.free.index() + self.frames.len() as u64 + 1;
        let note = Note { taken, given, info: frame.info() };
        lent::set_note(hw, Side::Tx, frame.eop, note);
        self.posted += frame.slots;
        // A slot each at least: there is room.
        let _ = self.frames.push_back(frame);
        wire
    }

    fn put<H: Hardware>(&mut self, hw: &mut H, words: [u64; 2]) -> u16 {
        let slot = self.tail;
        hw.store(lent::desc_word(Side::Tx, slot, 0), words[0]);
        hw.store(lent::desc_word(Side::Tx, slot, 1), words[1]);
        self.tail = self.size.step(slot, 1);
        slot
    }

    /// Before sleeping. `true`: nothing to do, sleep.
    pub fn sleep<H: Hardware>(&mut self, hw: &mut H, status: &Status) -> bool {
        if !self.frames.is_empty() && !self.interrupt {
            // Emulated NICs have sent everything by the time TDT is written, so that they never
            // come here and never interrupt for sending. A frame that left before this write has
            // its cause in ICR, and interrupts at once.
            self.interrupt = true;
            hw.write(regs::IMS, regs::Cause::TXDW.bits());
        }
        self.wait != Wait::Netd || self.used.sleep(hw, status, self.partial)
    }

    /// Frames with the NIC that have not left.
    pub fn unsent<H: Hardware>(&self, hw: &H) -> u16 {
        self.frames.iter().filter(|f| !sent(hw, f)).count() as u16
    }

    /// The NIC has stopped for good: reports every frame that it had, sent or not.
    pub fn close<H: Hardware>(&mut self, hw: &mut H, status: &Status) {
        self.reap(hw, status);
        while let Some(&frame) = self.frames.front() {
            // A netd that leaves no room finds the rest when the driver is started again.
            if !self.report(hw, status, TxFree { cookie: frame.cookie, refused: 0 }) {
                break;
            }
            self.frames.pop_front();
        }
        self.publish(hw, status);
    }

    /// Whether long frames may be given.
    pub fn segments(&self) -> bool {
        self.tso
    }

    /// Whether frames wait until the NIC has finished others.
    pub fn waits_for_nic(&self) -> bool {
        self.wait == Wait::Nic
    }

    /// Whether netd must take reports before anything can go on.
    pub fn blocked(&self) -> bool {
        self.wait == Wait::Reports
    }
}
