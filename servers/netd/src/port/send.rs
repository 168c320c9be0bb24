//! Frames to the driver: room in header memory, descriptors, accounts.

use super::{InFlight, MAX_IN_FLIGHT, Piece, Port, UNIT};
use crate::wire::ethernet::MIN_FRAME;
use libipc::nic::{Csum, MAX_PIECE, TxDesc, WINDOW_SESSION, WINDOW_TX};

/// Room in header memory for the next frame, of no meaning once another is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Where it is.
    pub offset: usize,
    /// Its end there, and as a count since the start.
    at_end: u64,
    end: u64,
}

/// A frame whose first bytes are in header memory.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Bytes there.
    pub head: usize,
    /// Session of the pieces.
    pub session: u16,
    /// What follows, in that session's send region.
    pub pieces: &'a [Piece],
    /// Which checksum the NIC fills in, and where that transport's header begins.
    pub csum: (Csum, u8),
    /// The NIC cuts what follows into segments of this many bytes; 0: not.
    pub segment: u16,
}

impl Frame<'_> {
    /// `len` bytes in header memory, complete.
    pub const fn whole(len: usize) -> Self {
        Self { head: len, session: 0, pieces: &[], csum: (Csum::None, 0), segment: 0 }
    }
}

impl Port {
    /// Room for `len` bytes of the next frame.
    #[inline(always)]
    pub(super) fn place(&self, len: usize) -> Option<Room> {
        let size = self.mem.headers.len() as u64;
        let len = len.max(MIN_FRAME).next_multiple_of(UNIT) as u64;
        let (mut start, mut at) = (self.tail, self.tail_at);
        if at + len > size {
            // What is left at the end of the memory is passed over.
            (start, at) = (start + (size - at), 0);
        }
        let room = Room { offset: at as usize, at_end: at + len, end: start + len };
        (room.end - self.head <= size).then_some(room)
    }

    /// Reserves `len` bytes of header memory for the next frame. They are the frame's only once
    /// [`Self::send`] is called. `None`: see [`Self::has_room`].
    #[inline(always)]
    pub fn reserve(&mut self, len: usize) -> Option<Room> {
        let room = self.place(len)?;
        if self.takes_one().ok()? { Some(room) } else { None }
    }

    /// Sends the frame whose first bytes lie in `room`. Frames that are too short are padded with
    /// zeros. Visible to the driver with the next [`Self::publish`].
    #[inline]
    pub fn send(&mut self, room: Room, frame: &Frame<'_>) {
        let short = frame.pieces.is_empty() && frame.head < MIN_FRAME;
        if short {
            let pad = [0; MIN_FRAME];
            let _ = self.mem.headers.write(room.offset + frame.head, &pad[frame.head..]);
        }
        self.send_padded(room, frame);
    }

    /// As [`Self::send`]; behind a frame that is too short are zeros already. (Pieces so short that this would be
    /// one with them are never passed by reference.)
    #[inline(always)]
    pub fn send_padded(&mut self, room: Room, frame: &Frame<'_>) {
        let Frame { head, session, pieces, csum: (csum, l4_start), segment } = *frame;
        let cookie = self.next_cookie;
        let desc = TxDesc {
            window: WINDOW_TX,
            flags: if pieces.is_empty() { TxDesc::EOP } else { 0 },
            len: if pieces.is_empty() { head.max(MIN_FRAME) } else { head } as u16,
            offset: room.offset as u32,
            cookie,
            l3_start: 14,
            // What is not summed has none that matters.
            l4_start: if csum == Csum::None { 34 } else { l4_start },
            csum,
            hdr_len: if segment == 0 { 0 } else { head as u8 },
            mss: segment,
        };
        let mut pushed = self.tx_used.push(desc).unwrap_or(false);
        let mut bytes = head as u32;
        if !pieces.is_empty() {
            let desc = TxDesc { window: WINDOW_SESSION + session as u8, ..desc };
            pushed &= self.push_pieces(desc, pieces);
            bytes += pieces.iter().map(|p| p.len).sum::<u32>();
        }
        debug_assert!(pushed, "reserve() saw to the room");
        let slot = self.first + self.in_flight;
        let slot = if slot < MAX_IN_FLIGHT { slot } else { slot - MAX_IN_FLIGHT };
        self.limit.queue(bytes);
        self.sent += bytes as u64;
        let session = (!pieces.is_empty()).then_some(session);
        self.frames[slot] = InFlight { bytes, session, end: room.end };
        self.in_flight += 1;
        self.next_cookie = cookie.wrapping_add(1);
        (self.tail, self.tail_at) = (room.end, room.at_end);
    }

    /// Descriptors of `pieces`, like `desc`; whether there was room.
    #[inline(always)]
    fn push_pieces(&mut self, desc: TxDesc, pieces: &[Piece]) -> bool {
        let mut pushed = true;
        for (i, piece) in pieces.iter().enumerate() {
            let flags = if i + 1 == pieces.len() { TxDesc::EOP } else { 0 };
            let desc = TxDesc { offset: piece.offset, flags, ..desc };
            pushed &= match piece.len {
                len @ ..=MAX_PIECE => {
                    self.tx_used.push(TxDesc { len: len as u16, ..desc }).unwrap_or(false)
                }
                len => self.push_long(desc, len),
            };
        }
        pushed
    }

    /// Descriptors of a piece of `len` bytes, more than one describes. `desc`: as if one did.
    fn push_long(&mut self, mut desc: TxDesc, len: u32) -> bool {
        let (mut pushed, end, flags) = (true, desc.offset + len, desc.flags);
        while desc.offset < end {
            let len = (end - desc.offset).min(MAX_PIECE);
            desc.flags = if desc.offset + len == end { flags } else { 0 };
            desc.len = len as u16;
            pushed &= self.tx_used.push(desc).unwrap_or(false);
            desc.offset += len;
        }
        pushed
    }
}
