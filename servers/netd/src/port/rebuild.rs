//! What the driver has, from the rings alone, after netd died.

use super::{InFlight, MAX_IN_FLIGHT, Port, UNIT};
use crate::env::DriverFault;
use core::sync::atomic::Ordering::*;
use libipc::nic::{RX_BUFFERS, WINDOW_SESSION};
use libipc::ring::{Consumer, PeerError};

impl Port {
    /// Finds out what the driver has, from the rings.
    pub(super) fn rebuild(&mut self) -> Result<(), DriverFault> {
        let wrong = |claimed, ours| DriverFault::Ring(PeerError::Index { claimed, ours });
        let given = self.rx_free.index();
        let returned = self.rx_used.as_ref().map_or(0, Consumer::index);
        let base = self.hard.rx_base.load(Relaxed);
        let outstanding = given.wrapping_sub(base).wrapping_sub(returned);
        if outstanding > RX_BUFFERS as u64 {
            return Err(wrong(returned, given));
        }
        for index in given - outstanding..given {
            let buffer = self.rx_free.peek(index).map_or(u32::MAX, |e| e.buffer);
            if !self.mark(buffer) {
                return Err(DriverFault::Buffer(buffer));
            }
        }
        self.rebuild_frames()
    }

    fn rebuild_frames(&mut self) -> Result<(), DriverFault> {
        let (end, base) = (self.tx_used.index(), self.hard.tx_base.load(Relaxed));
        let returned = self.tx_free.as_ref().map_or(0, |c| c.index() as u16);
        self.next_cookie = returned;
        let Some(last) =
            end.checked_sub(1).filter(|i| *i >= base).and_then(|i| self.tx_used.peek(i))
        else {
            return Ok(());
        };
        let in_flight = last.cookie.wrapping_add(1).wrapping_sub(returned) as usize;
        if in_flight > MAX_IN_FLIGHT {
            return Err(DriverFault::Cookie(returned));
        }
        // Backwards over their pieces; every piece carries its frame's cookie.
        let mut at = end;
        let mut oldest = None;
        for back in 0..in_flight {
            let cookie = last.cookie.wrapping_sub(back as u16);
            let mut frame = InFlight { bytes: 0, session: None, end: 0 };
            let mut found = false;
            while let Some(desc) = at.checked_sub(1).and_then(|i| self.tx_used.peek(i)) {
                if desc.cookie != cookie {
                    break;
                }
                (at, found) = (at - 1, true);
                if desc.window >= WINDOW_SESSION {
                    frame.session = Some((desc.window - WINDOW_SESSION) as u16);
                } else {
                    frame.end = desc.offset as u64 + desc.len.next_multiple_of(UNIT as u16) as u64;
                    oldest = Some(desc.offset as u64);
                }
            }
            if !found {
                return Err(DriverFault::Cookie(cookie));
            }
            self.frames[in_flight - 1 - back] = frame;
        }
        // Ends become counts: each lies after the one before it.
        let size = self.mem.headers.len() as u64;
        let mut count = oldest.unwrap_or(0);
        self.head = count;
        for frame in &mut self.frames[..in_flight] {
            let ahead = frame.end.wrapping_sub(count % size).wrapping_add(size) % size;
            count += if ahead == 0 { size } else { ahead };
            frame.end = count;
        }
        if count - self.head > size {
            return Err(DriverFault::Cookie(returned));
        }
        (self.tail, self.tail_at) = (count, count % size);
        self.in_flight = in_flight;
        self.next_cookie = last.cookie.wrapping_add(1);
        Ok(())
    }
}
