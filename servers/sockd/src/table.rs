//! sockd's table in lent memory: what was promised to programs, in a form that a new sockd can
//! check word by word.
//!
//! A record's fixed words are written while its state word still says *free*, then one store of
//! the state word makes it valid; every later change is one store of that word. So whatever
//! instant sockd dies at, each record holds either its old or its new meaning. Each word carries a
//! check against stray writes; a record that does not hold is dropped by the new sockd.

use core::sync::atomic::{AtomicU64, Ordering::*};
use libipc::net::Rings;
use libipc::sock::{Kind, MAX_SESSIONS, SessionTable};

const MAGIC: u64 = u64::from_le_bytes(*b"BWSOCKD1");
const HEADER: usize = 8;
const SESSION: usize = 2;
const SOCKET: usize = 4;
/// "No listener" and "no id".
pub const NONE: u16 = u16::MAX;

/// What a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SessionState {
    /// Its program has not opened it.
    Closed = 0,
    /// In use.
    Open = 1,
    /// Its program died; netd still has to let go of its sockets.
    Ending = 2,
}

/// What a socket id is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Use {
    /// Nothing.
    Free = 0,
    /// Being opened: netd may or may not know it.
    Opening = 1,
    /// The program's.
    Open = 2,
    /// The program's listener.
    Listener = 3,
    /// Reserved for the next connection of a listener.
    Spare = 4,
    /// A connection that netd has handed over and the program does not know yet.
    Accepted = 5,
    /// Closed by the program; netd still needs it.
    Closing = 6,
}

/// A socket id's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Use.
    pub usage: Use,
    /// Listener of a spare or accepted socket, else [`NONE`].
    pub listener: u16,
    /// What kind of socket.
    pub kind: Kind,
    /// Its memory.
    pub rings: Rings,
}

/// What a listener was asked for: its connections' ring sizes (log2) and how many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Send ring.
    pub tx_bits: u8,
    /// Receive ring.
    pub rx_bits: u8,
    /// Spares to keep.
    pub spares: u16,
}

/// The table, over words in lent memory. Only sockd writes them.
pub struct Table<'a> {
    words: &'a [AtomicU64],
    /// Number of the first socket record of each session, and the end.
    first: [u32; MAX_SESSIONS + 1],
    shape: u64,
}

/// A record that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

fn mix(word: u64, salt: u64) -> u64 {
    let mut h =
        (word ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 29;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ h >> 32
}

/// Puts a 16-bit check above 48 bits of content. All zero stays zero, as fresh memory is.
fn seal(content: u64, salt: u64) -> u64 {
    let content = content & ((1 << 48) - 1);
    if content == 0 { 0 } else { content | (mix(content, salt) | 1) << 48 }
}

fn unseal(word: u64, salt: u64) -> Result<u64, Damaged> {
    let content = word & ((1 << 48) - 1);
    if seal(content, salt) == word { Ok(content) } else { Err(Damaged) }
}

impl<'a> Table<'a> {
    /// Words that a table for these sessions takes.
    pub fn words(sessions: &SessionTable) -> usize {
        let sockets: usize = sessions.iter().map(|s| s.sockets as usize).sum();
        HEADER + MAX_SESSIONS * SESSION + sockets * SOCKET
    }

    /// The table for `sessions` in `words`; `None` if the memory is too small.
    pub fn new(words: &'a [AtomicU64], sessions: &SessionTable) -> Option<Self> {
        let mut first = [0; MAX_SESSIONS + 1];
        let mut shape = MAGIC;
        for i in 0..MAX_SESSIONS {
            let sockets = sessions.get(i).map_or(0, |s| s.sockets);
            first[i + 1] = first[i] + sockets;
            shape = mix(shape ^ sockets as u64, i as u64);
        }
        (Self::words(sessions) <= words.len()).then_some(Self { words, first, shape })
    }

    /// Whether the memory holds a table of this shape.
    pub fn is_formatted(&self) -> bool {
        self.words[0].load(Acquire) == MAGIC && self.words[1].load(Relaxed) == self.shape
    }

    /// Makes an empty table.
    pub fn format(&self) {
        self.words[0].store(0, Release);
        for w in &self.words[1..] {
            w.store(0, Relaxed);
        }
        self.words[1].store(self.shape, Relaxed);
        self.words[0].store(MAGIC, Release);
    }

    /// Sockets of session `s`.
    pub fn sockets(&self, s: usize) -> u16 {
        (self.first[s + 1] - self.first[s]) as u16
    }

    fn session_words(&self, s: usize) -> &'a [AtomicU64] {
        let at = HEADER + s * SESSION;
        &self.words[at..at + SESSION]
    }

    fn socket_words(&self, s: usize, id: u16) -> (&'a [AtomicU64], u64) {
        debug_assert!(id < self.sockets(s));
        let at = HEADER + MAX_SESSIONS * SESSION + (self.first[s] as usize + id as usize) * SOCKET;
        (&self.words[at..at + SOCKET], at as u64)
    }

    /// State of a session; a damaged word reads as [`SessionState::Ending`], so that everything
    /// the session may have had is given back.
    pub fn session(&self, s: usize) -> SessionState {
        match unseal(self.session_words(s)[0].load(Acquire), s as u64) {
            Ok(0) => SessionState::Closed,
            Ok(1) => SessionState::Open,
            _ => SessionState::Ending,
        }
    }

    /// Sets the state of a session.
    pub fn set_session(&self, s: usize, state: SessionState) {
        self.session_words(s)[0].store(seal(state as u64, s as u64), Release);
    }

    /// The program's last call if it made a socket: the call's number and the socket.
    pub fn last_call(&self, s: usize) -> Option<(u16, u16)> {
        let content = unseal(self.session_words(s)[1].load(Acquire), !(s as u64)).ok()?;
        (content >> 32 == 1).then_some((content as u16, (content >> 16) as u16))
    }

    /// Remembers, or forgets, the program's last call.
    pub fn set_last_call(&self, s: usize, call: Option<(u16, u16)>) {
        let content = call.map_or(0, |(number, id)| 1 << 32 | number as u64 | (id as u64) << 16);
        self.session_words(s)[1].store(seal(content, !(s as u64)), Release);
    }

    /// The use of an id, without looking at the rest of its record.
    pub fn usage(&self, s: usize, id: u16) -> Result<(Use, u16), Damaged> {
        let (w, salt) = self.socket_words(s, id);
        let content = unseal(w[2].load(Acquire), salt)?;
        let usage = match content as u8 {
            0 => Use::Free,
            1 => Use::Opening,
            2 => Use::Open,
            3 => Use::Listener,
            4 => Use::Spare,
            5 => Use::Accepted,
            6 => Use::Closing,
            _ => return Err(Damaged),
        };
        Ok((usage, (content >> 8) as u16))
    }

    /// Changes the use of an id whose fixed words stand.
    pub fn set_usage(&self, s: usize, id: u16, usage: Use, listener: u16) {
        let (w, salt) = self.socket_words(s, id);
        let content = match usage {
            Use::Free => 0,
            _ => usage as u64 | (listener as u64) << 8,
        };
        w[2].store(seal(content, salt), Release);
    }

    /// The record of an id; `None` if it is free.
    ///
    /// # Errors
    /// [`Damaged`] if its words do not hold.
    pub fn socket(&self, s: usize, id: u16) -> Result<Option<Socket>, Damaged> {
        let (usage, listener) = self.usage(s, id)?;
        if usage == Use::Free {
            return Ok(None);
        }
        let (w, salt) = self.socket_words(s, id);
        let offsets = w[1].load(Relaxed);
        let fixed = unseal(w[0].load(Relaxed), mix(offsets, salt))?;
        let rings = Rings {
            tx_off: offsets as u32,
            tx_bits: (fixed >> 8) as u8,
            rx_off: (offsets >> 32) as u32,
            rx_bits: (fixed >> 16) as u8,
        };
        let kind = Kind::from_raw(fixed as u8 as u16).ok_or(Damaged)?;
        Ok(Some(Socket { usage, listener, kind, rings }))
    }

    /// Writes a new record.
    pub fn create(&self, s: usize, id: u16, new: Socket) {
        let (w, salt) = self.socket_words(s, id);
        w[2].store(0, Release);
        let offsets = new.rings.tx_off as u64 | (new.rings.rx_off as u64) << 32;
        let fixed =
            new.kind as u64 | (new.rings.tx_bits as u64) << 8 | (new.rings.rx_bits as u64) << 16;
        w[0].store(seal(fixed, mix(offsets, salt)), Relaxed);
        w[1].store(offsets, Relaxed);
        w[3].store(0, Relaxed);
        self.set_usage(s, id, new.usage, new.listener);
    }

    /// What a listener was asked for.
    pub fn listen(&self, s: usize, id: u16) -> Result<Listen, Damaged> {
        let (w, salt) = self.socket_words(s, id);
        let content = unseal(w[3].load(Relaxed), !salt)?;
        Ok(Listen {
            tx_bits: content as u8,
            rx_bits: (content >> 8) as u8,
            spares: (content >> 16) as u16,
        })
    }

    /// Notes what a listener was asked for; before its use changes.
    pub fn set_listen(&self, s: usize, id: u16, l: Listen) {
        let (w, salt) = self.socket_words(s, id);
        let content = l.tx_bits as u64 | (l.rx_bits as u64) << 8 | (l.spares as u64) << 16;
        w[3].store(seal(content, !salt), Release);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn sessions() -> SessionTable {
        let spec = libipc::sock::SessionSpec {
            program: "a".parse().unwrap(),
            sockets: 8,
            tx_len: 1 << 20,
            rx_len: 1 << 20,
            bind: Default::default(),
            connect: true,
            broadcast: true,
            ping: false,
            raw: false,
            capture: false,
        };
        [spec.clone(), spec].into_iter().collect()
    }

    #[test]
    fn records_read_back_and_a_flipped_bit_shows() {
        let specs = sessions();
        let words: Vec<AtomicU64> = (0..Table::words(&specs)).map(|_| AtomicU64::new(0)).collect();
        let t = Table::new(&words, &specs).unwrap();
        assert!(!t.is_formatted());
        t.format();
        assert!(t.is_formatted());
        let rings = Rings { tx_off: 1 << 16, tx_bits: 16, rx_off: 4096, rx_bits: 12 };
        let s = Socket { usage: Use::Spare, listener: 3, kind: Kind::Tcp, rings };
        t.create(1, 5, s);
        t.set_listen(1, 3, Listen { tx_bits: 18, rx_bits: 16, spares: 7 });
        t.set_last_call(1, Some((65535, 5)));
        assert_eq!(t.socket(1, 5), Ok(Some(s)));
        assert_eq!(t.listen(1, 3), Ok(Listen { tx_bits: 18, rx_bits: 16, spares: 7 }));
        assert_eq!(t.last_call(1), Some((65535, 5)));
        assert_eq!(t.socket(0, 5), Ok(None));
        let at = HEADER + MAX_SESSIONS * SESSION + (8 + 5) * SOCKET;
        for word in 0..3 {
            for bit in 0..64 {
                words[at + word].fetch_xor(1 << bit, Relaxed);
                assert_ne!(t.socket(1, 5), Ok(Some(s)), "word {word} bit {bit}");
                words[at + word].fetch_xor(1 << bit, Relaxed);
            }
        }
    }

    #[test]
    fn too_little_memory_is_refused() {
        let specs = sessions();
        let words: Vec<AtomicU64> =
            (0..Table::words(&specs) - 1).map(|_| AtomicU64::new(0)).collect();
        assert!(Table::new(&words, &specs).is_none());
    }
}
