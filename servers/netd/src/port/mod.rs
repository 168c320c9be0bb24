//! netd's end of the driver contract ([`libipc::nic`]): four rings, the receive pool, and header
//! memory.
//!
//! Ownership is kept privately. Receive buffers: a bit each says whether the driver has it. Sent
//! frames come back in the order in which they left, so frame number `n` has cookie `n` (16 bits)
//! and header memory is a ring of bytes; nothing has to be searched.
//!
//! Both can be found again after netd's own death from the rings alone: the buffers with the
//! driver are the last `given - returned` that were given; the frames in flight are the last ones
//! in the ring whose cookies have not come back.
//!
//! A driver that publishes nonsense loses its session: this end takes over the driver's indices as
//! they stand (the rings are empty then), counts all buffers as its own again, and gives them out
//! anew. Frames on the way are lost; the protocols above repeat them. A reset happens at most each
//! [`RESET_PAUSE_NS`], in between the port is closed.

mod limit;
mod rebuild;
mod send;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::*};

use libipc::nic::{
    Groups, MAX_PIECES, RX_BUFFER_SIZE, RX_BUFFERS, RxFree, RxUsed, Status, TxDesc, TxFree,
};
use libipc::ring::{Consumer, Memory, Producer};
use libipc::shared::Bytes;

use crate::crash;
use crate::env::DriverFault;
use crate::wire::ethernet::MIN_FRAME;
use limit::Limit;
pub use send::{Frame, Room};

/// Pause between two resets of the driver's session.
pub const RESET_PAUSE_NS: u64 = 100_000_000;
/// Most frames with the driver at a time: as many as its ring holds whatever their pieces, since
/// they are found there when netd is restarted.
pub const MAX_IN_FLIGHT: usize = libipc::nic::RING as usize / MAX_PIECES;
/// With less than that many frames and bytes it does not matter when they come back.
const FEW: usize = 16;
const FEW_BYTES: u64 = 32_768;
/// Header memory is handed out in units of a cache line.
const UNIT: usize = 64;

/// Memory shared with the driver.
pub struct PortMemory {
    /// The driver's status page.
    pub status: &'static Status,
    /// Region `nic.rx`.
    pub pool: Bytes,
    /// What the driver is told about groups, in `nic.net`.
    pub groups: &'static Groups,
    /// Header memory: the part of region `nic.tx` that begins at its offset 0.
    pub headers: Bytes,
    /// Rings.
    pub rx_free: Memory<RxFree>,
    /// Rings.
    pub rx_used: Memory<RxUsed>,
    /// Rings.
    pub tx_used: Memory<TxDesc>,
    /// Rings.
    pub tx_free: Memory<TxFree>,
}

/// What the port must remember over a restart besides the rings.
pub struct PortHard<'a> {
    /// Index of rx free at which as many buffers had been given as had come back.
    pub rx_base: &'a AtomicU64,
    /// Index of tx used at the last reset: frames before it do not count.
    pub tx_base: &'a AtomicU64,
}

/// A piece of payload in a session's send region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Offset in the region.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// A frame on its way.
#[derive(Clone, Copy)]
struct InFlight {
    /// Bytes on the wire.
    bytes: u32,
    /// Session whose memory it uses.
    session: Option<u16>,
    /// End of its header bytes, as a count since the start.
    end: u64,
}

/// A received frame; give the buffer back with [`Port::recycle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Buffer.
    pub buffer: u32,
    /// Offset of the frame in the pool.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
    /// The NIC found the transport checksum right.
    pub checked: bool,
}

/// A frame that came back from the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Session whose memory it used.
    pub session: Option<u16>,
    /// The driver found it malformed and did not send it.
    pub refused: bool,
}

/// netd's end of the rings.
pub struct Port {
    mem: PortMemory,
    rx_free: Producer<RxFree>,
    tx_used: Producer<TxDesc>,
    rx_used: Option<Consumer<RxUsed>>,
    tx_free: Option<Consumer<TxFree>>,
    /// A bit a buffer: 1 while the driver has it.
    with_driver: [u64; RX_BUFFERS as usize / 64],
    given: u32,
    /// Frames in flight, oldest at `first`.
    frames: Vec<InFlight>,
    first: usize,
    in_flight: usize,
    limit: Limit,
    /// Bytes of frames that came back and the limit does not know of yet; bytes ever sent.
    returned: u64,
    sent: u64,
    next_cookie: u16,
    /// Header memory in use: from `head` to `tail`, counts since the start.
    head: u64,
    tail: u64,
    /// Where in the memory `tail` is, at most its end.
    tail_at: u64,
    /// The driver sleeps and there is news for it.
    signal: bool,
    hard: PortHard<'static>,
}

impl Port {
    /// Attaches to the rings, formatting our own where they are new. The second value: what was
    /// wrong with the rings that an earlier incarnation left (they were reset).
    pub fn new(mem: PortMemory, hard: PortHard<'static>) -> (Self, Option<DriverFault>) {
        let attached = mem.rx_free.producer().and_then(|p| Ok((p, mem.tx_used.producer()?)));
        let (rx_free, tx_used, fault) = match attached {
            Ok((rx_free, tx_used)) => (rx_free, tx_used, None),
            Err(e) => {
                let (rx_free, tx_used) = Self::adopt(&mem);
                (rx_free, tx_used, Some(DriverFault::Ring(e)))
            }
        };
        let mut port = Self {
            rx_free,
            tx_used,
            rx_used: None,
            tx_free: None,
            with_driver: [0; RX_BUFFERS as usize / 64],
            given: 0,
            frames: alloc::vec![InFlight { bytes: 0, session: None, end: 0 }; MAX_IN_FLIGHT],
            first: 0,
            in_flight: 0,
            limit: Limit::new(),
            returned: 0,
            sent: 0,
            next_cookie: 0,
            head: 0,
            tail: 0,
            tail_at: 0,
            signal: false,
            hard,
            mem,
        };
        if fault.is_some() {
            port.begin_anew();
            return (port, fault);
        }
        let fault = port.attach().and_then(|()| port.rebuild()).err();
        if fault.is_some() {
            port.reset();
        } else {
            port.give_all();
        }
        (port, fault)
    }

    /// The producers of rings whose consumer's index is taken as it is; formatted anew if even
    /// that makes no sense, which the driver then sees as our misbehaviour and resets itself.
    fn adopt(mem: &PortMemory) -> (Producer<RxFree>, Producer<TxDesc>) {
        let rx_free =
            mem.rx_free.producer_at_head().unwrap_or_else(|_| mem.rx_free.producer_anew());
        let tx_used =
            mem.tx_used.producer_at_head().unwrap_or_else(|_| mem.tx_used.producer_anew());
        (rx_free, tx_used)
    }

    /// Attaches the consumers, if the driver has formatted its rings by now.
    #[cold]
    fn attach(&mut self) -> Result<(), DriverFault> {
        if self.rx_used.is_none() && self.mem.rx_used.is_formatted() {
            self.rx_used = Some(self.mem.rx_used.consumer().map_err(DriverFault::Ring)?);
        }
        if self.tx_free.is_none() && self.mem.tx_free.is_formatted() {
            self.tx_free = Some(self.mem.tx_free.consumer().map_err(DriverFault::Ring)?);
        }
        Ok(())
    }

    /// Ends the driver's session and begins a new one (see the module's head).
    pub fn reset(&mut self) {
        (self.rx_free, self.tx_used) = Self::adopt(&self.mem);
        self.begin_anew();
    }

    fn begin_anew(&mut self) {
        self.rx_used = self.mem.rx_used.consumer_at_tail().ok();
        self.tx_free = self.mem.tx_free.consumer_at_tail().ok();
        self.with_driver = [0; RX_BUFFERS as usize / 64];
        self.given = 0;
        (self.first, self.in_flight) = (0, 0);
        (self.limit, self.returned) = (Limit::new(), 0);
        self.next_cookie = self.tx_free.as_ref().map_or(0, |c| c.index() as u16);
        (self.head, self.tail, self.tail_at) = (0, 0, 0);
        let returned = self.rx_used.as_ref().map_or(0, Consumer::index);
        self.hard.rx_base.store(self.rx_free.index().wrapping_sub(returned), Relaxed);
        self.hard.tx_base.store(self.tx_used.index(), Relaxed);
        self.give_all();
        self.signal = true;
    }

    /// Notes that the driver has `buffer`; `false` if it has it already or it does not exist.
    #[inline]
    fn mark(&mut self, buffer: u32) -> bool {
        let Some(word) = self.with_driver.get_mut(buffer as usize / 64) else { return false };
        let bit = 1 << (buffer % 64);
        let free = *word & bit == 0;
        *word |= bit;
        self.given += free as u32;
        free
    }

    /// Gives every buffer of ours to the driver.
    fn give_all(&mut self) {
        for buffer in 0..RX_BUFFERS {
            if self.with_driver[buffer as usize / 64] & 1 << (buffer % 64) == 0 {
                self.recycle(buffer);
            }
        }
        self.publish();
    }

    /// The driver's status page.
    pub fn status(&self) -> &'static Status {
        self.mem.status
    }
    /// The receive pool.
    pub fn pool(&self) -> Bytes {
        self.mem.pool
    }
    /// Header memory.
    pub fn headers(&self) -> Bytes {
        self.mem.headers
    }
    /// Receive buffers that are not with the driver.
    pub fn buffers(&self) -> u32 {
        RX_BUFFERS - self.given
    }
    /// Frames with the driver.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Frames with the driver that use memory of `session`, counted one by one: for the beginning.
    pub fn in_flight_of(&self, session: u16) -> u32 {
        let frames = (0..self.in_flight).map(|i| &self.frames[(self.first + i) % MAX_IN_FLIGHT]);
        frames.filter(|f| f.session == Some(session)).count() as u32
    }

    /// How many frames have come: once a turn.
    ///
    /// # Errors
    /// The driver's fault; call [`Self::reset`].
    #[inline(always)]
    pub fn arrived(&mut self) -> Result<u64, DriverFault> {
        if self.rx_used.is_none() {
            self.attach()?;
        }
        self.rx_used.as_mut().map_or(Ok(0), Consumer::available).map_err(DriverFault::Ring)
    }

    /// Whether so much lies with the driver that what has come back is worth a look; less may wait until it is more, or
    /// until somebody needs the room.
    #[inline(always)]
    pub fn is_busy(&self) -> bool {
        self.in_flight >= FEW || self.limit.queued() >= FEW_BYTES
    }

    /// How many frames have left.
    ///
    /// # Errors
    /// The driver's fault; call [`Self::reset`].
    #[inline]
    pub fn returned(&mut self) -> Result<u64, DriverFault> {
        if self.tx_free.is_none() {
            self.attach()?;
        }
        self.tx_free.as_mut().map_or(Ok(0), Consumer::available).map_err(DriverFault::Ring)
    }

    /// The next received frame, of those that [`Self::arrived`] saw.
    ///
    /// # Errors
    /// The driver's fault; call [`Self::reset`].
    #[inline]
    pub fn receive(&mut self) -> Result<Option<Received>, DriverFault> {
        let Some(used) = self.rx_used.as_mut().and_then(Consumer::pop_seen) else {
            return Ok(None);
        };
        let bit = 1 << (used.buffer % 64);
        match self.with_driver.get_mut(used.buffer as usize / 64) {
            Some(word) if *word & bit != 0 => *word &= !bit,
            _ => return Err(DriverFault::Buffer(used.buffer)),
        }
        self.given -= 1;
        if used.len as u32 > RX_BUFFER_SIZE {
            return Err(DriverFault::Length(used.len));
        }
        let empty = used.flags & RxUsed::EMPTY != 0;
        Ok(Some(Received {
            buffer: used.buffer,
            offset: used.buffer as usize * RX_BUFFER_SIZE as usize,
            len: if empty { 0 } else { used.len as usize },
            checked: used.flags & RxUsed::CSUM_OK != 0,
        }))
    }

    /// Gives a buffer (back) to the driver, with the next [`Self::publish`].
    #[inline]
    pub fn recycle(&mut self, buffer: u32) {
        // The ring has more places than there are buffers: it can be full only when the driver
        // lies about its index, and then the buffer stays ours until the session is reset.
        if self.rx_free.push(RxFree { buffer }).unwrap_or(false) {
            self.mark(buffer);
        }
    }

    /// Takes back a frame that has left, of those that [`Self::returned`] saw.
    ///
    /// # Errors
    /// The driver's fault; call [`Self::reset`].
    #[inline]
    pub fn completed(&mut self) -> Result<Option<Sent>, DriverFault> {
        let Some(free) = self.tx_free.as_mut().and_then(Consumer::pop_seen) else {
            return Ok(None);
        };
        let expected = self.next_cookie.wrapping_sub(self.in_flight as u16);
        if self.in_flight == 0 || free.cookie != expected {
            return Err(DriverFault::Cookie(free.cookie));
        }
        let frame = self.frames[self.first];
        self.first = if self.first + 1 < MAX_IN_FLIGHT { self.first + 1 } else { 0 };
        self.in_flight -= 1;
        self.head = frame.end;
        self.returned += frame.bytes as u64;
        Ok(Some(Sent { session: frame.session, refused: free.refused != 0 }))
    }

    /// Whether a frame with `head` bytes in header memory can be sent now.
    ///
    /// # Errors
    /// The driver's fault; call [`Self::reset`].
    #[inline(always)]
    pub fn has_room(&mut self, head: usize) -> Result<bool, DriverFault> {
        Ok(self.place(head).is_some() && self.takes_one()?)
    }

    /// Whether another frame can be described to the driver.
    #[inline(always)]
    fn takes_one(&mut self) -> Result<bool, DriverFault> {
        let room = self.tx_used.has_space(MAX_PIECES as u64).map_err(DriverFault::Ring)?;
        Ok(self.in_flight < MAX_IN_FLIGHT && room)
    }

    /// Whether a socket may send a frame with `head` bytes in header memory: there is room, and the
    /// driver has no more than keeps it busy.
    ///
    /// # Errors
    /// As [`Self::has_room`].
    #[inline(always)]
    pub fn is_ready(&mut self, head: usize) -> Result<bool, DriverFault> {
        Ok(self.limit.is_open() && self.has_room(head)?)
    }

    /// Bytes ever given to the driver.
    pub fn sent_bytes(&self) -> u64 {
        self.sent
    }

    /// Frames have come back: the byte limit learns from it.
    #[inline]
    pub fn note_returns(&mut self, now: u64) {
        if self.returned > 0 {
            self.limit.complete(core::mem::take(&mut self.returned), now);
        }
    }

    /// Whether so many frames of `len` bytes, all in header memory, can be sent now.
    pub fn has_room_for(&mut self, frames: usize, len: usize) -> bool {
        // At the end of the memory the rest of a frame's length may be passed over.
        let bytes = (frames + 1) * len.max(MIN_FRAME).next_multiple_of(UNIT);
        let used = (self.tail - self.head) as usize;
        self.in_flight + frames <= MAX_IN_FLIGHT
            && used + bytes <= self.mem.headers.len()
            && self.tx_used.space().is_ok_and(|space| space >= frames as u64)
    }

    /// Makes what was given and sent visible to the driver. Returns of the driver are released
    /// first: a crash in between forgets buffers that the next incarnation finds to be its own.
    #[inline]
    pub fn publish(&mut self) {
        if let Some(ring) = &mut self.rx_used {
            ring.release();
        }
        if let Some(ring) = &mut self.tx_free {
            ring.release();
        }
        crash::point();
        self.signal |= self.rx_free.publish();
        crash::point();
        self.signal |= self.tx_used.publish();
        crash::point();
    }

    /// Where the driver is told which groups the NIC is to take; [`Self::groups_changed`] follows.
    pub fn groups(&self) -> &'static Groups {
        self.mem.groups
    }

    /// The driver is to look at [`Self::groups`].
    pub fn groups_changed(&mut self) {
        self.signal = true;
    }

    /// Whether the driver must be signalled; asking clears it.
    pub fn take_signal(&mut self) -> bool {
        core::mem::take(&mut self.signal)
    }

    /// Asks to be signalled for frames that arrive and, if `returns`, for frames that come back;
    /// `true`: there are none now.
    ///
    /// # Errors
    /// The driver's fault; call [`Self::reset`].
    #[inline]
    pub fn sleep(&mut self, returns: bool) -> Result<bool, DriverFault> {
        if self.rx_used.is_none() || self.tx_free.is_none() {
            self.attach()?;
        }
        let mut idle = true;
        if let Some(ring) = &mut self.rx_used {
            idle &= ring.sleep().map_err(DriverFault::Ring)?;
        }
        if let Some(ring) = self.tx_free.as_mut().filter(|_| returns) {
            idle &= ring.sleep().map_err(DriverFault::Ring)?;
        }
        Ok(idle)
    }
}
