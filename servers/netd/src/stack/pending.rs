//! Packets of no socket (answers, resets) and datagrams that wait for a neighbour's address: a small pool of
//! whole frames, but for the address that they wait for.

use super::Stack;
use super::tap::{Seen, Sight};
use super::tx::{Check, Payload, complete};
use crate::dev::{Dev, Station};
use crate::env::{At, Env};
use crate::list::{Ends, Links};
use crate::port::Frame;
use libipc::shared::Bytes;

/// Frames that may wait, in all.
const FRAMES: usize = 64;
/// Frames that may wait for one neighbour: one that is silent must not have all of them.
const SHARE: u32 = 16;
const FRAME: usize = 1536;
/// Memory that they take.
pub(super) const BYTES: usize = FRAMES * FRAME;

/// The pool.
pub(super) struct Pending {
    mem: Bytes,
    lens: [u16; FRAMES],
    links: Links,
    free: Ends,
}

impl Pending {
    /// On `mem`, of which [`BYTES`] are used.
    pub fn new(mem: Bytes) -> Self {
        let mut links = Links::new(FRAMES);
        let mut free = Ends::EMPTY;
        for slot in 0..(mem.len() / FRAME).min(FRAMES) {
            links.push(&mut free, slot as u32);
        }
        Self { mem, lens: [0; FRAMES], links, free }
    }
}

impl<E: Env> Stack<E> {
    /// Whether one more packet may wait for the neighbour of `entry` without another giving way.
    pub(super) fn has_pending_room(&mut self, entry: usize) -> bool {
        let waiting = self.neighbours.waiting(entry).packets.len();
        waiting < SHARE && !self.pending.free.is_empty()
    }

    /// Keeps a frame of `head` and `payload` until the neighbour of `entry` is known. If there is no
    /// room, the oldest that waits for the same neighbour gives way, as in Linux.
    pub(super) fn transmit_later(
        &mut self,
        entry: usize,
        head: &mut [u8],
        check: Option<Check>,
        payload: Payload<'_>,
    ) {
        let len = head.len() + payload.len();
        if len > FRAME {
            self.counters.tx_unresolved += 1;
            return;
        }
        let pool = &mut self.pending;
        let waiting = &mut self.neighbours.waiting(entry).packets;
        let fresh = (waiting.len() < SHARE).then(|| pool.links.pop(&mut pool.free)).flatten();
        let slot = match fresh {
            Some(slot) => Some(slot),
            None => pool.links.pop(waiting).inspect(|_| self.counters.tx_unresolved += 1),
        };
        let Some(slot) = slot else {
            self.counters.tx_unresolved += 1;
            return;
        };
        let (mem, at) = (pool.mem, slot as usize * FRAME);
        let Some(sum) = self.copy_payload(payload, At(&mem, at + head.len())) else {
            return self.pending.links.push(&mut self.pending.free, slot);
        };
        if let Some(check) = check {
            complete(head, &check, sum);
        }
        let _ = mem.write(at, head);
        self.pending.lens[slot as usize] = len as u16;
        self.pending.links.push(&mut self.neighbours.waiting(entry).packets, slot);
    }

    /// Sends what waited, now that the neighbour is known, or drops it: `None`.
    pub(super) fn release_packets(&mut self, mut waiting: Ends, to: Option<Station>) {
        while let Some(slot) = self.pending.links.pop(&mut waiting) {
            let at = slot as usize * FRAME;
            let len = self.pending.lens[slot as usize] as usize;
            let mem = self.pending.mem;
            let sent = to.is_some_and(|to| {
                mem.write(at, &to.mac.0) && self.transmit_copy(to.dev, At(&mem, at), len)
            });
            if !sent {
                self.counters.tx_unresolved += 1;
            }
            self.pending.links.push(&mut self.pending.free, slot);
        }
    }

    /// Sends a whole frame. `false`: there is no room for it.
    fn transmit_copy(&mut self, dev: Dev, frame: At<'_>, len: usize) -> bool {
        let nic = &mut self.nics[dev];
        if !nic.up || nic.closed_until > self.now {
            return false;
        }
        let Some(room) = nic.port.reserve(len) else { return false };
        let headers = nic.port.headers();
        if self.env.copy_sum(frame, At(&headers, room.offset), len).is_none() {
            return false;
        }
        if !self.taps.is_empty() {
            self.tap(Sight::At(&headers, room.offset), len, Seen::Leaving(dev));
        }
        self.nic(dev).port.send(room, &Frame::whole(len));
        self.counters.tx_frames += 1;
        true
    }
}
