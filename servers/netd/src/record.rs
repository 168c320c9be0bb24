//! Hard state of sockets: [`libipc::sock::Record`], written in the order that recovery needs.
//!
//! Everything that was promised to the other end of the wire or to the program is here and only
//! here; the rest of the stack is soft. The fixed part is many words under a seal, so a change of
//! it goes through a [`Journal`] first: a new incarnation finds the record as it was, or finds the
//! journal and completes the change. The changing part is written a word at a time, in the order
//! that each function states.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering::*};

use libipc::net::Rings;
use libipc::sock::{Error, Kind, Record, State, event, flags, ip_from_words, ip_words};

use crate::crash;
use crate::wire::tcp::Seq;

/// Words of the fixed part.
const WORDS: usize = Record::WORDS;
/// The word of ports, listener and flags, and where the latter two are in it.
const PORTS: usize = 6;
const LISTENER_SHIFT: u32 = 32;
const FLAGS_SHIFT: u32 = 48;

/// The change of a fixed part that is under way: written and sealed before the record is touched.
#[repr(C)]
pub struct Journal {
    /// `session << 16 | id`.
    name: AtomicU64,
    words: [AtomicU64; WORDS],
    check: AtomicU64,
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

impl Journal {
    /// No change is under way.
    pub const fn new() -> Self {
        Self {
            name: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
            check: AtomicU64::new(0),
        }
    }

    fn seal(name: u64, words: &[u64; WORDS]) -> u64 {
        words.iter().fold(name ^ 0x9e37_79b9_7f4a_7c15, |h, w| {
            let h = (h ^ w).wrapping_mul(0xff51_afd7_ed55_8ccd);
            h ^ h >> 32
        }) | 1
    }

    fn open(&self, name: u32, words: &[u64; WORDS]) {
        self.name.store(name as u64, Relaxed);
        for (to, from) in self.words.iter().zip(words) {
            to.store(*from, Relaxed);
        }
        crash::point();
        self.check.store(Self::seal(name as u64, words), Release);
        crash::point();
    }

    fn close(&self) {
        self.check.store(0, SeqCst);
        crash::point();
    }

    /// Completes the change that an earlier incarnation had begun. `find` yields the record of
    /// session and id.
    pub fn replay(&self, find: impl FnOnce(u16, u16) -> Option<&'static Record>) {
        let name = self.name.load(Relaxed);
        let words = core::array::from_fn(|i| self.words[i].load(Relaxed));
        if self.check.load(Acquire) == Self::seal(name, &words)
            && let Some(rec) = find((name >> 16) as u16, name as u16)
        {
            apply(rec, &words);
        }
        self.close();
    }
}

/// A record, its name, and the journal that changes of its fixed part go through.
#[derive(Clone, Copy)]
pub struct Hard {
    /// The record.
    pub rec: &'static Record,
    /// The journal.
    pub journal: &'static Journal,
    /// `session << 16 | id`.
    pub name: u32,
}

impl Hard {
    /// Record `id` of `session`.
    pub fn new(rec: &'static Record, journal: &'static Journal, session: u16, id: u16) -> Self {
        Self { rec, journal, name: (session as u32) << 16 | id as u32 }
    }

    /// Begins a new use of the record, whose old use has ended: a new generation, and the changing
    /// part as before a handshake. Follow with [`set_state`].
    pub fn renew(self, fixed: &Fixed) {
        let r = self.rec;
        r.error.store(0, Relaxed);
        r.events.store(0, Relaxed);
        r.pending.store(0, Relaxed);
        r.fin_seq.store(0, Relaxed);
        r.ts_recent.store(0, Relaxed);
        r.rcv.store(0, Relaxed);
        r.snd.store(0, Relaxed);
        self.write(fixed, r.generation.load(Relaxed).wrapping_add(1));
    }

    /// Changes the fixed part.
    pub fn store(self, fixed: &Fixed) {
        self.write(fixed, self.rec.generation.load(Relaxed));
    }

    fn write(self, fixed: &Fixed, generation: u32) {
        self.write_words(fixed.words(generation));
    }

    fn write_words(self, words: [u64; WORDS]) {
        self.journal.open(self.name, &words);
        apply(self.rec, &words);
        self.journal.close();
    }

    /// The connection has been accepted.
    pub fn accept(self) {
        self.set((NO_LISTENER as u64) << LISTENER_SHIFT);
    }

    /// The program has closed the connection.
    pub fn orphan(self) {
        self.set((flags::ORPHAN as u64) << FLAGS_SHIFT);
    }

    /// Sets bits among ports, listener (no listener is all ones) and flags.
    fn set(self, bits: u64) {
        let mut words = self.rec.words();
        words[PORTS] |= bits;
        self.write_words(words);
    }
}

/// Writes the fixed part, and the seal last.
fn apply(r: &Record, words: &[u64; WORDS]) {
    let [generation, kind, l0, l1, r0, r1, ports, offsets, sizes, seqs, ts] = *words;
    r.generation.store(generation as u32, Relaxed);
    r.kind.store(kind as u16, Relaxed);
    r.version.store((kind >> 16) as u16, Relaxed);
    r.stack.store((kind >> 32) as u16, Relaxed);
    r.interface.store((kind >> 48) as u16, Relaxed);
    r.local_ip[0].store(l0, Relaxed);
    r.local_ip[1].store(l1, Relaxed);
    r.remote_ip[0].store(r0, Relaxed);
    r.remote_ip[1].store(r1, Relaxed);
    crash::point();
    r.local_port.store(ports as u16, Relaxed);
    r.remote_port.store((ports >> 16) as u16, Relaxed);
    r.listener.store((ports >> 32) as u16, Relaxed);
    r.flags.store((ports >> 48) as u16, Relaxed);
    r.tx_off.store(offsets as u32, Relaxed);
    r.rx_off.store((offsets >> 32) as u32, Relaxed);
    r.ring_bits.store(sizes as u16, Relaxed);
    r.peer_mss.store((sizes >> 16) as u16, Relaxed);
    r.window_scale.store((sizes >> 32) as u16, Relaxed);
    r.iss.store(seqs as u32, Relaxed);
    r.irs.store((seqs >> 32) as u32, Relaxed);
    r.ts_offset.store(ts as u32, Relaxed);
    crash::point();
    r.check.store(Record::seal_of(words), Release);
    crash::point();
}

/// No listener.
pub const NO_LISTENER: u16 = u16::MAX;
/// Layout version of records.
const VERSION: u16 = 1;

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Kind.
    pub kind: Kind,
    /// Local address.
    pub local: SocketAddr,
    /// Remote address.
    pub remote: SocketAddr,
    /// Listener's id until accepted.
    pub listener: u16,
    /// [`flags`] bits.
    pub flags: u16,
    /// Memory.
    pub rings: Rings,
    /// Peer's MSS.
    pub peer_mss: u16,
    /// Our window scale.
    pub rcv_shift: u8,
    /// The peer's.
    pub snd_shift: u8,
    /// Initial send sequence number.
    pub iss: Seq,
    /// Initial receive sequence number.
    pub irs: Seq,
    /// Added to our timestamps (RFC 7323 7.1).
    pub ts_offset: u32,
    /// Number of the interface that it is bound to; 0: to none.
    pub device: u8,
}

impl Fixed {
    /// Reads it back; `None` if the kind is none.
    pub fn load(r: &Record) -> Option<Self> {
        let bits = r.ring_bits.load(Relaxed);
        let scale = r.window_scale.load(Relaxed);
        let addr = |ip: &[AtomicU64; 2], port: u16| {
            SocketAddr::new(ip_from_words([ip[0].load(Relaxed), ip[1].load(Relaxed)]), port)
        };
        Some(Self {
            kind: Kind::from_raw(r.kind.load(Relaxed))?,
            local: addr(&r.local_ip, r.local_port.load(Relaxed)),
            remote: addr(&r.remote_ip, r.remote_port.load(Relaxed)),
            listener: r.listener.load(Relaxed),
            flags: r.flags.load(Relaxed),
            rings: Rings {
                tx_off: r.tx_off.load(Relaxed),
                tx_bits: bits as u8,
                rx_off: r.rx_off.load(Relaxed),
                rx_bits: (bits >> 8) as u8,
            },
            peer_mss: r.peer_mss.load(Relaxed),
            rcv_shift: scale as u8,
            snd_shift: (scale >> 8) as u8,
            iss: Seq(r.iss.load(Relaxed)),
            irs: Seq(r.irs.load(Relaxed)),
            ts_offset: r.ts_offset.load(Relaxed),
            device: r.interface.load(Relaxed) as u8,
        })
    }

    fn words(&self, generation: u32) -> [u64; WORDS] {
        let ([l0, l1], [r0, r1]) = (ip_words(self.local.ip()), ip_words(self.remote.ip()));
        let Rings { tx_off, tx_bits, rx_off, rx_bits } = self.rings;
        let quad = |a: u16, b: u16, c: u16, d: u16| {
            a as u64 | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48
        };
        [
            generation as u64,
            quad(self.kind as u16, VERSION, 0, self.device as u16),
            l0,
            l1,
            r0,
            r1,
            quad(self.local.port(), self.remote.port(), self.listener, self.flags),
            tx_off as u64 | (rx_off as u64) << 32,
            quad(
                tx_bits as u16 | (rx_bits as u16) << 8,
                self.peer_mss,
                self.rcv_shift as u16 | (self.snd_shift as u16) << 8,
                0,
            ),
            self.iss.0 as u64 | (self.irs.0 as u64) << 32,
            self.ts_offset as u64,
        ]
    }
}

/// Whether the record holds: sealed, and of this version.
pub fn holds(r: &Record) -> bool {
    r.is_sealed() && r.version.load(Relaxed) == VERSION
}

/// Makes the record free.
pub fn free(r: &Record) {
    crash::point();
    r.state.store(State::Free as u16, Release);
    crash::point();
    r.check.store(0, Release);
}

/// The state as the program sees it.
pub fn set_state(r: &Record, state: State) {
    crash::point();
    r.state.store(state as u16, Release);
    crash::point();
}

/// Sets bits of [`event`].
pub fn add_events(r: &Record, bits: u32) {
    crash::point();
    r.events.store(r.events.load(Relaxed) | bits, Release);
    crash::point();
}

/// Writes `rcv_nxt` and `rcv_adv` in one store.
pub fn set_rcv(r: &Record, nxt: Seq, adv: Seq) {
    crash::point();
    r.rcv.store(nxt.0 as u64 | (adv.0 as u64) << 32, Release);
    crash::point();
}

/// Writes `snd_una` and `snd_max` in one store.
pub fn set_snd(r: &Record, una: Seq, max: Seq) {
    crash::point();
    r.snd.store(una.0 as u64 | (max.0 as u64) << 32, Release);
    crash::point();
}

/// The latest timestamp of the peer (`TS.Recent`, RFC 7323 4.3), before it is echoed.
pub fn set_ts_recent(r: &Record, value: u32) {
    crash::point();
    r.ts_recent.store(value, Release);
    crash::point();
}

/// Reads the two halves of `rcv` or `snd`.
pub fn halves(word: u64) -> (Seq, Seq) {
    (Seq(word as u32), Seq((word >> 32) as u32))
}

/// How much the program may have written and not acknowledged; no FIN is queued. Soft: a hint for the program.
pub fn set_send_limit(r: &Record, bytes: u32) {
    r.fin_seq.store(bytes, Relaxed);
}

/// The own FIN's number, before the program learns that its half is closed.
pub fn queue_fin(r: &Record, fin: Seq) {
    crash::point();
    r.fin_seq.store(fin.0, Release);
    crash::point();
    add_events(r, event::FIN_QUEUED);
}

/// Where the peer's urgent data ends, before the program looks for it.
pub fn set_urgent(r: &Record, count: u32) {
    crash::point();
    r.pending.store(count, Release);
    crash::point();
    add_events(r, event::URGENT);
}

/// The tombstone: nothing of this connection may be answered as if it lived.
pub fn end(r: &Record, error: Option<Error>) {
    crash::point();
    r.error.store(error.map_or(0, Error::to_raw), Release);
    crash::point();
    set_state(r, State::Closed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed() -> Fixed {
        Fixed {
            kind: Kind::Tcp,
            local: "10.0.2.15:80".parse().unwrap(),
            remote: "10.0.2.2:5000".parse().unwrap(),
            listener: 3,
            flags: flags::PASSIVE,
            rings: Rings { tx_off: 4096, tx_bits: 16, rx_off: 8192, rx_bits: 15 },
            peer_mss: 1460,
            rcv_shift: 2,
            snd_shift: 7,
            iss: Seq(1),
            irs: Seq(2),
            ts_offset: 3,
            device: 2,
        }
    }

    fn hard() -> (Hard, &'static Journal) {
        extern crate std;
        let journal = std::boxed::Box::leak(std::boxed::Box::new(Journal::new()));
        let rec = std::boxed::Box::leak(std::boxed::Box::new(Record::new()));
        (Hard::new(rec, journal, 2, 7), journal)
    }

    #[test]
    fn the_fixed_part_survives_a_round_trip() {
        let (hard, _) = hard();
        assert!(!holds(hard.rec));
        hard.renew(&fixed());
        assert!(holds(hard.rec));
        assert_eq!(hard.rec.generation.load(Relaxed), 1);
        assert_eq!(Fixed::load(hard.rec), Some(fixed()));
        hard.accept();
        hard.orphan();
        let after =
            Fixed { listener: NO_LISTENER, flags: flags::PASSIVE | flags::ORPHAN, ..fixed() };
        assert_eq!(Fixed::load(hard.rec), Some(after));
        assert!(holds(hard.rec));
    }

    #[test]
    fn a_change_cut_in_two_is_completed() {
        let (hard, journal) = hard();
        hard.store(&fixed());
        let next = Fixed { remote: "10.0.2.9:9".parse().unwrap(), irs: Seq(9), ..fixed() };
        journal.open(hard.name, &next.words(0));
        hard.rec.remote_port.store(9, Relaxed);
        assert!(!holds(hard.rec));
        journal.replay(|session, id| {
            assert_eq!((session, id), (2, 7));
            Some(hard.rec)
        });
        assert!(holds(hard.rec));
        assert_eq!(Fixed::load(hard.rec), Some(next));
        journal.replay(|_, _| panic!("it is done"));
    }

    #[test]
    fn a_stray_write_is_seen() {
        let (hard, _) = hard();
        hard.store(&fixed());
        hard.rec.remote_port.store(5001, Relaxed);
        assert!(!holds(hard.rec));
    }
}
