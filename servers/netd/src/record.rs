//! Hard state of sockets: [`libipc::sock::Record`], written in the order that recovery needs.
//!
//! Everything that was promised to the other end of the wire or to the program is here and only
//! here; the rest of the stack is soft. The fixed part is sealed. A change of the fixed part goes
//! in an order that leaves the record unsealed in between, so a crash there drops it: right for
//! sockets that promised nothing yet. Where a connection lives already (accepting it, orphaning
//! it), [`amend`] writes the seal *first* and a single word after, so that the next incarnation
//! can complete the change.

use core::net::SocketAddr;
use core::sync::atomic::Ordering::*;

use libipc::net::Rings;
use libipc::sock::{Error, Kind, Record, State, event, flags, ip_from_words, ip_words};

use crate::crash;
use crate::wire::tcp::Seq;

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
}

impl Fixed {
    /// Reads it back; `None` if the kind is none.
    pub fn load(r: &Record) -> Option<Self> {
        let bits = r.ring_bits.load(Relaxed);
        let scale = r.window_scale.load(Relaxed);
        let addr = |ip: &[core::sync::atomic::AtomicU64; 2], port: u16| {
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
        })
    }

    /// Writes it: unsealed, the words, sealed.
    pub fn store(&self, r: &Record) {
        r.check.store(0, SeqCst);
        crash::point();
        self.words(r);
        crash::point();
        r.check.store(r.seal(), Release);
        crash::point();
    }

    fn words(&self, r: &Record) {
        r.kind.store(self.kind as u16, Relaxed);
        r.version.store(VERSION, Relaxed);
        r.stack.store(0, Relaxed);
        r.interface.store(0, Relaxed);
        for (to, from) in r.local_ip.iter().zip(ip_words(self.local.ip())) {
            to.store(from, Relaxed);
        }
        for (to, from) in r.remote_ip.iter().zip(ip_words(self.remote.ip())) {
            to.store(from, Relaxed);
        }
        r.local_port.store(self.local.port(), Relaxed);
        r.remote_port.store(self.remote.port(), Relaxed);
        r.listener.store(self.listener, Relaxed);
        r.flags.store(self.flags, Relaxed);
        r.tx_off.store(self.rings.tx_off, Relaxed);
        r.rx_off.store(self.rings.rx_off, Relaxed);
        r.ring_bits.store(self.rings.tx_bits as u16 | (self.rings.rx_bits as u16) << 8, Relaxed);
        r.peer_mss.store(self.peer_mss, Relaxed);
        r.window_scale.store(self.rcv_shift as u16 | (self.snd_shift as u16) << 8, Relaxed);
        r.iss.store(self.iss.0, Relaxed);
        r.irs.store(self.irs.0, Relaxed);
        r.ts_offset.store(0, Relaxed);
    }
}

/// Whether the record holds: sealed, and of this version.
pub fn holds(r: &Record) -> bool {
    r.is_sealed() && r.version.load(Relaxed) == VERSION
}

/// Begins a new use of the record: a new generation, and the changing part as before a handshake.
/// Follow with [`Fixed::store`], then [`set_state`].
pub fn renew(r: &Record) {
    r.check.store(0, SeqCst);
    r.generation.store(r.generation.load(Relaxed).wrapping_add(1), Relaxed);
    r.error.store(0, Relaxed);
    r.events.store(0, Relaxed);
    r.pending.store(0, Relaxed);
    r.fin_seq.store(0, Relaxed);
    r.ts_recent.store(0, Relaxed);
    r.rcv.store(0, Relaxed);
    r.snd.store(0, Relaxed);
}

/// Makes the record free.
pub fn free(r: &Record) {
    crash::point();
    r.state.store(State::Free as u16, Release);
    crash::point();
    r.check.store(0, Release);
}

/// Changes one word of a living connection's fixed part: the seal as it will be, then the word.
/// [`mend`] completes it after a crash in between.
fn amend(r: &Record, change: impl Fn(&Record)) {
    let next = Record::new();
    next.generation.store(r.generation.load(Relaxed), Relaxed);
    if let Some(fixed) = Fixed::load(r) {
        fixed.words(&next);
    }
    change(&next);
    r.check.store(next.seal(), SeqCst);
    crash::point();
    change(r);
    crash::point();
}

fn accept_word(r: &Record) {
    r.listener.store(NO_LISTENER, SeqCst);
}

fn orphan_word(r: &Record) {
    r.flags.store(r.flags.load(Relaxed) | flags::ORPHAN, SeqCst);
}

/// The connection has been accepted.
pub fn accept(r: &Record) {
    amend(r, accept_word);
}

/// The program has closed the connection.
pub fn orphan(r: &Record) {
    amend(r, orphan_word);
}

/// Completes an [`accept`] or [`orphan`] that a crash cut in two; `false`: the record does not
/// hold whatever one tries.
pub fn mend(r: &Record) -> bool {
    if holds(r) {
        return true;
    }
    let (listener, flag_bits) = (r.listener.load(Relaxed), r.flags.load(Relaxed));
    accept_word(r);
    if holds(r) {
        return true;
    }
    r.listener.store(listener, Relaxed);
    orphan_word(r);
    if holds(r) {
        return true;
    }
    r.flags.store(flag_bits, Relaxed);
    false
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

/// Reads the two halves of `rcv` or `snd`.
pub fn halves(word: u64) -> (Seq, Seq) {
    (Seq(word as u32), Seq((word >> 32) as u32))
}

/// The own FIN's number, before the program learns that its half is closed.
pub fn queue_fin(r: &Record, fin: Seq) {
    crash::point();
    r.fin_seq.store(fin.0, Release);
    crash::point();
    add_events(r, event::FIN_QUEUED);
}

/// The tombstone: nothing of this connection may be answered as if it lived.
pub fn end(r: &Record, error: Option<Error>) {
    crash::point();
    r.error.store(error.map_or(0, |e| e as u16), Release);
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
        }
    }

    #[test]
    fn the_fixed_part_survives_a_round_trip() {
        let r = Record::new();
        renew(&r);
        assert!(!holds(&r));
        fixed().store(&r);
        assert!(holds(&r));
        assert_eq!(Fixed::load(&r), Some(fixed()));
    }

    #[test]
    fn a_change_cut_in_two_is_completed() {
        for change in [accept_word, orphan_word] {
            let (r, next) = (Record::new(), Record::new());
            fixed().store(&r);
            fixed().store(&next);
            change(&next);
            r.check.store(next.seal(), Relaxed);
            assert!(!holds(&r), "cut after the seal");
            assert!(mend(&r));
            assert_eq!(Fixed::load(&r), Fixed::load(&next));
        }
        let r = Record::new();
        fixed().store(&r);
        accept(&r);
        assert!(holds(&r) && r.listener.load(Relaxed) == NO_LISTENER);
        orphan(&r);
        assert!(holds(&r) && r.flags.load(Relaxed) & flags::ORPHAN != 0);
    }

    #[test]
    fn a_stray_write_is_seen() {
        let r = Record::new();
        fixed().store(&r);
        r.remote_port.store(5001, Relaxed);
        assert!(!mend(&r));
        assert_eq!(r.listener.load(Relaxed), 3, "left as it was");
    }
}
