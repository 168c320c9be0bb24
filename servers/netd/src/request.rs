//! Handshakes that others have begun: a small record each, in `netd.state`, until their ACK comes and a
//! socket is taken for them. Hard, since a SYN-ACK promises an ISN and options.

use crate::demux::{Space, Tuple};
use crate::list::{Ends, Links};
use crate::record::Fixed;
use crate::sealed::Sealed;
use crate::wire::tcp::Seq;
use alloc::vec::Vec;

/// A handshake, 64 bytes: addresses, ports and the peer's timestamp, numbers, the rest.
pub type RequestRecord = Sealed<7>;

const _: () = assert!(size_of::<RequestRecord>() == 64);

/// What a record says: what the peer's SYN had and our SYN-ACK promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which.
    pub tuple: Tuple,
    /// Our initial sequence number.
    pub iss: Seq,
    /// The peer's.
    pub irs: Seq,
    /// Its MSS.
    pub peer_mss: u16,
    /// Its window scale.
    pub snd_shift: u8,
    /// Ours.
    pub rcv_shift: u8,
    /// [`libipc::sock::flags`] of the handshake.
    pub flags: u16,
    /// Window in our SYN-ACK.
    pub window: u16,
    /// The peer's timestamp, if there are any.
    pub ts_recent: u32,
    /// Number of the interface that the connection is bound to; 0: to none.
    pub device: u8,
}

impl Request {
    /// For `fixed`, which [`crate::tcp::Conn::agreed`] has made from a SYN.
    pub fn new(tuple: Tuple, fixed: &Fixed, window: u16, ts_recent: u32) -> Self {
        Self {
            tuple,
            iss: fixed.iss,
            irs: fixed.irs,
            peer_mss: fixed.peer_mss,
            snd_shift: fixed.snd_shift,
            rcv_shift: fixed.rcv_shift,
            flags: fixed.flags,
            window,
            ts_recent,
            device: fixed.device,
        }
    }

    /// The fixed part of the record of a socket for it; `base` has the rest.
    pub fn fixed(&self, base: Fixed) -> Fixed {
        Fixed {
            local: self.tuple.local,
            remote: self.tuple.remote,
            flags: self.flags,
            peer_mss: self.peer_mss,
            rcv_shift: self.rcv_shift,
            snd_shift: self.snd_shift,
            iss: self.iss,
            irs: self.irs,
            device: self.device,
            ..base
        }
    }

    fn to_words(self) -> [u64; 7] {
        let [l0, l1, r0, r1, ports] = self.tuple.to_words();
        let numbers = self.iss.0 as u64 | (self.irs.0 as u64) << 32;
        let shifts = (self.snd_shift << 4 | self.rcv_shift) as u64;
        let rest = self.peer_mss as u64
            | (self.window as u64) << 16
            | (self.flags as u64) << 32
            | shifts << 48
            | (self.device as u64) << 56;
        [l0, l1, r0, r1, ports | (self.ts_recent as u64) << 32, numbers, rest]
    }

    fn from_words(w: [u64; 7]) -> Self {
        Self {
            tuple: Tuple::from_words(Space::Tcp, [w[0], w[1], w[2], w[3], w[4]]),
            iss: Seq(w[5] as u32),
            irs: Seq((w[5] >> 32) as u32),
            peer_mss: w[6] as u16,
            snd_shift: (w[6] >> 52) as u8 & 15,
            rcv_shift: (w[6] >> 48) as u8 & 15,
            flags: (w[6] >> 32) as u16,
            window: (w[6] >> 16) as u16,
            ts_recent: (w[4] >> 32) as u32,
            device: (w[6] >> 56) as u8,
        }
    }
}

/// What need not survive.
#[derive(Clone, Copy)]
pub struct Progress {
    /// Number of its listener.
    pub listener: u32,
    /// SYN-ACKs that the timer has repeated.
    pub retries: u8,
    /// When the SYN-ACK left, if it left once: its ACK tells the round-trip time.
    pub sent_at: Option<u64>,
    /// When a segment out of place may be answered again.
    pub challenge_from: u64,
    /// Its ACK has come, and data is waited for (TCP_DEFER_ACCEPT).
    pub deferred: bool,
    /// The timestamps of the first SYN-ACK and of the last; `None`: none, or not known.
    pub stamps: Option<(u32, u32)>,
}

/// One that begins.
const BEGUN: Progress = Progress {
    listener: u32::MAX,
    retries: 0,
    sent_at: None,
    challenge_from: 0,
    deferred: false,
    stamps: None,
};

/// The table. Used entries are on their listeners' lists.
pub struct Requests {
    records: &'static [RequestRecord],
    progress: Vec<Progress>,
    links: Links,
    unused: Ends,
}

impl Requests {
    /// Over the records that `netd.state` holds; those in use wait for [`Self::adopt`].
    pub fn new(records: &'static [RequestRecord]) -> Self {
        let none = BEGUN;
        let mut table = Self {
            records,
            progress: alloc::vec![none; records.len()],
            links: Links::new(records.len()),
            unused: Ends::EMPTY,
        };
        for (i, record) in records.iter().enumerate() {
            if record.load().is_none() {
                table.links.push(&mut table.unused, i as u32);
            }
        }
        table
    }
    /// How many there are, used or not.
    pub fn len(&self) -> usize {
        self.records.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
    /// Whether all are in use.
    pub fn is_full(&self) -> bool {
        self.unused.is_empty()
    }
    /// What record `i` says, if it is in use.
    pub fn get(&self, i: usize) -> Option<Request> {
        self.records.get(i)?.load().map(Request::from_words)
    }
    /// Its soft part.
    pub fn progress(&mut self, i: usize) -> &mut Progress {
        &mut self.progress[i]
    }
    /// Takes an unused record for listener number `listener`, whose list is `list`.
    pub fn begin(
        &mut self,
        list: &mut Ends,
        listener: u32,
        request: &Request,
        now: u64,
    ) -> Option<usize> {
        let i = self.links.pop(&mut self.unused)?;
        self.records[i as usize].store(request.to_words());
        self.adopt(list, listener, i as usize, Some(now));
        Some(i as usize)
    }
    /// Gives record `i`, which is in use and on no list, to a listener.
    pub fn adopt(&mut self, list: &mut Ends, listener: u32, i: usize, sent_at: Option<u64>) {
        self.links.push(list, i as u32);
        self.progress[i] = Progress { listener, sent_at, ..BEGUN };
    }
    /// Ends record `i`, which is on `list`.
    pub fn end(&mut self, list: &mut Ends, i: usize) {
        self.links.remove(list, i as u32);
        self.forget(i);
    }
    /// Ends record `i`, which is in use and on no list.
    pub fn forget(&mut self, i: usize) {
        self.records[i].clear();
        self.links.push(&mut self.unused, i as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            tuple: Tuple {
                space: Space::Tcp,
                local: "10.0.2.15:80".parse().unwrap(),
                remote: "[fe80::1]:5000".parse().unwrap(),
            },
            iss: Seq(1),
            irs: Seq(u32::MAX),
            peer_mss: 1460,
            snd_shift: 14,
            rcv_shift: 7,
            flags: 0x800f,
            window: 64240,
            ts_recent: 0xdead_beef,
            device: 3,
        }
    }

    #[test]
    fn records_hold_what_they_were_told_and_are_given_back() {
        extern crate std;
        let records =
            std::boxed::Box::leak(std::boxed::Box::new([const { RequestRecord::new() }; 2]));
        let mut t = Requests::new(records);
        let mut list = Ends::EMPTY;
        let i = t.begin(&mut list, 7, &request(), 5).unwrap();
        assert_eq!((t.get(i), t.progress(i).listener, t.is_full()), (Some(request()), 7, false));
        t.begin(&mut list, 7, &request(), 5).unwrap();
        assert!(t.is_full() && t.begin(&mut list, 7, &request(), 5).is_none());
        // Another incarnation.
        let (mut t, mut list) = (Requests::new(records), Ends::EMPTY);
        assert!(t.is_full() && t.get(i) == Some(request()));
        t.adopt(&mut list, 9, i, None);
        t.end(&mut list, i);
        assert_eq!((t.get(i), list.len(), t.is_full()), (None, 0, false));
    }
}
